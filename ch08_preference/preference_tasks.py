"""What chapter 8's lesson and its comparisons share: the assistant and its prompts, rewards, and how a policy is tested."""

import functools
from collections.abc import Callable

import torch

from shared import encodings, models, sentences
from shared.guards import evaluation_mode
from shared.instruction import short_prompt
from shared.lora import ATTENTION, replace_linear_with_lora
from shared.preference import RewardModel, compute_logprobs, padded, sample_answers

END = 4095  # the end token of the course's tokenizers
LENGTH = 24  # tokens of an answer, at most


def tokenizer():
    """The assistant's."""
    return encodings.course_encoding(first=True)


def assistant():
    """Chapter 7's assistant, new: who trains it spoils no other."""
    return models.instruction_model()[0]


def policy(rank: int = 8):
    """The assistant with LoRA in its attention, and its optimizer."""
    model = assistant().requires_grad_(False)
    replace_linear_with_lora(model, rank, rank, layers=ATTENTION)
    learn = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(learn, weight_decay=0.0)


@functools.cache
def judge() -> sentences.Judge:
    return sentences.judge_for(models.pretrained(first=True)[0], tokenizer())


def prompts_for(words) -> list[list[int]]:
    """The task with each word, as the assistant reads it."""
    return [tokenizer().encode_ordinary(short_prompt(sentences.task(word))) for word in words]


def text_of(ids: list[int]) -> str:
    """An answer as text, without its end token."""
    return tokenizer().decode(ids[:-1] if ids and ids[-1] == END else ids).strip()


def by_rule(words) -> Callable[[int, list[int]], float]:
    """The rule as a reward: `(number of the prompt, token IDs) -> 0 or 1`. An answer without an end gets nothing."""
    return lambda i, ids: float(ids[-1] == END and sentences.follows_rule(words[i], text_of(ids)))


@torch.no_grad()
def scores(rewarder: RewardModel, prompts, answers, batch: int = 64) -> torch.Tensor:
    """The reward model's scores of answers to prompts, lists of IDs: `(N,)`."""
    with evaluation_mode(rewarder):
        parts = range(0, len(prompts), batch)
        return torch.cat(
            [rewarder(*padded(prompts[s : s + batch], answers[s : s + batch], END)) for s in parts]
        )


@torch.no_grad()
def divergence(model, reference, prompts, answers, batch: int = 64) -> torch.Tensor:
    """log p(answer) of a model minus that of the reference, for its own answers: `(N,)` nats, whose mean is the KL."""
    found = []
    for s in range(0, len(prompts), batch):
        ids, mask = padded(prompts[s : s + batch], answers[s : s + batch], END)
        with evaluation_mode(model), evaluation_mode(reference):
            found.append(
                compute_logprobs(model(ids), ids, mask)
                - compute_logprobs(reference(ids), ids, mask)
            )
    return torch.cat(found)


def tested(model, words, samples: int = 4, seed: int = 1) -> dict:
    """What a policy answers to the task with these words: texts, verdicts of rule and judge `(words, samples)`, KL, words.

    `answers` and `prompts` are there for further scores.
    """
    torch.manual_seed(seed)
    rows = [word for word in words for _ in range(samples)]
    prompts = prompts_for(rows)
    answers = sample_answers(model, prompts, LENGTH, END)
    texts, reward = [text_of(ids) for ids in answers], by_rule(rows)
    shape = len(words), samples
    return {
        "texts": texts,
        "rule": torch.tensor([reward(i, ids) for i, ids in enumerate(answers)]).view(shape),
        "judge": judge()(rows, texts).double().view(shape),
        "kl": divergence(model, assistant(), prompts, answers).mean().item(),
        "words": sum(len(text.split()) for text in texts) / len(texts),
        "answers": answers,
        "prompts": prompts,
    }


def fits(entry: dict, most: int = 200) -> bool:
    """Whether prompt and longer response are short enough for our model; the book's entries are not always."""
    longer = max(entry["chosen"], entry["rejected"], key=len)
    return len(tokenizer().encode_ordinary(f"{short_prompt(entry)} {longer}")) <= most
