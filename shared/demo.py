"""Chapter 1's first talk with the finished models; each is loaded once and kept."""

import functools

import torch

from shared import classification, editions, encodings, models
from shared.instruction import stream_response
from shared.pretraining import generate, text_to_token_ids, token_ids_to_text


def complete(
    prompt: str, max_new_tokens: int = 40, temperature: float = 0.8, seed: int = 123
) -> str:
    """The prompt and what the pretrained model writes after it, up to an end of text. The same seed, the same text.

    Drawn from the 40 likeliest tokens each time; temperature 0: the likeliest. ValueError for an empty prompt.
    """
    model, cfg = _kept(models.pretrained, editions.choice("COURSE_MODEL"))
    encoding = encodings.tokenizer()
    ids = text_to_token_ids(prompt, encoding)
    with torch.random.fork_rng(devices=[]):  # other draws are not disturbed
        torch.manual_seed(seed)
        settings = {"temperature": temperature, "top_k": 40, "eos_id": encoding.eot_token}
        ids = generate(model, ids, max_new_tokens, cfg["context_length"], **settings)
    return token_ids_to_text(ids, encoding)


def continues(prompts: list[str], answers: list[str]) -> list[bool]:
    """For each prompt: does the pretrained model, at its likeliest, write its answer and end the line there?"""
    model, _ = _kept(models.pretrained, editions.choice("COURSE_MODEL"))
    encoding = encodings.tokenizer()
    starts = [encoding.encode(prompt) for prompt in prompts]
    ends = [encoding.encode(f" {answer}\n") for answer in answers]
    rows = [torch.tensor(start + end) for start, end in zip(starts, ends)]
    with torch.no_grad():  # all at once: rows that are filled up look only to their left
        scores = model(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))  # (B, T, V)
    likeliest = [row[len(start) - 1 :] for start, row in zip(starts, scores.argmax(-1).tolist())]
    return [row[: len(end)] == end for row, end in zip(likeliest, ends)]


def answer(instruction: str, input: str = "") -> str:
    """What chapter 7's assistant answers to an instruction, with its input if it has one: ours, in any edition.

    ValueError for an empty instruction, or where the model is damaged.
    """
    model, _ = _kept(models.instruction_model, "course-gpt")
    entry = {"instruction": instruction, "input": input}
    return "".join(stream_response(model, entry, encodings.course_encoding(first=True)))


def spam_probability(message: str) -> float:
    """How likely a message is spam, 0 to 1, by chapter 6's classifier: ours, in any edition.

    ValueError for a message that is empty or too long, or where the model is damaged.
    """
    model, _ = _kept(models.classifier, "course-gpt")
    encoding, device = encodings.course_encoding(), torch.device("cpu")
    pad = encoding.eot_token
    return classification.spam_probability(message, model, encoding, device, pad_token_id=pad)


@functools.cache
def _kept(load, model: str):
    """What load() returned for this COURSE_MODEL the first time: for those that ask again and change nothing."""
    return load()
