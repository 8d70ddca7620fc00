"""Chapter 8's task: "Write a sentence with the word X". Its words, its rule, and a judge that nothing is trained on."""

import functools
import random
import re

import torch
import torch.nn.functional as F

from shared import editions
from shared.encodings import END_OF_TEXT
from shared.lexicon import SECOND_RESERVED, WORDS, read_json
from shared.scoring import is_right

KINDS = ("nouns_regular", "things", "places", "jobs", "adjectives", "verbs_regular")
PARTS = {"train": 600, "validation": 60, "test": 120}
FAMILY = "write_sentence"
LEAST_WORDS = 5
SMALL = frozenset(  # words that a good sentence may hold twice
    "a an the and or but of in on at to for from with by as is are was were be been he she it they we you i his her its "
    "their my your our this that these those who which not no so had has have do did will would could can up down out".split()
)


@functools.cache
def words() -> dict[str, tuple[str, ...]]:
    """The words of the task by part: "train", "validation", "test"; none is reserved by chapter 7's tests."""
    lexicon, reserved = read_json(WORDS), set(read_json(SECOND_RESERVED)["words"])
    found = {line.split()[0] for kind in KINDS for line in lexicon[kind]}
    found |= {word for kind in ("things", "places", "jobs", "adjectives") for line in lexicon[kind] for word in line.split()}  # fmt: skip
    found = sorted(
        word for word in found if word.isalpha() and word.islower() and word not in reserved
    )
    random.Random("sentences").shuffle(found)
    ends = [sum(list(PARTS.values())[: i + 1]) for i in range(len(PARTS))]
    return {part: tuple(found[end - PARTS[part] : end]) for part, end in zip(PARTS, ends)}


def task(word: str) -> dict:
    """The entry that asks for a sentence, as chapter 7's are."""
    return {
        "instruction": f'Write a sentence with the word "{word}".',
        "input": "",
        "family": FAMILY,
    }


def follows_rule(word: str, text: str) -> bool:
    """Chapter 7's rule: one sentence, with a capital letter and an end, that holds the word."""
    return bool(is_right(task(word), text))


@functools.cache
def written() -> tuple[str, ...]:
    """The sentences that people wrote for chapter 7's training items of this family."""
    entries = editions.read_instructions(editions.INSTRUCTIONS)
    return tuple(e["output"] for e in entries if e["family"] == FAMILY and e["split"] == "train")


@torch.inference_mode()
def surprise(texts: list[str], model, tokenizer) -> list[float]:
    """How unlikely a language model finds each text, as one of its own: nats a token, end token included."""
    start, found = tokenizer.encode(END_OF_TEXT, allowed_special="all"), []
    for text in texts:
        ids = torch.tensor([start + tokenizer.encode_ordinary(text.strip()) + start])
        found.append(F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:]).item())
    return found


def well_formed(text: str) -> bool:
    """At least five words, and none of them but small ones twice."""
    said = re.findall(r"\w+", text.lower())
    content = [word for word in said if word not in SMALL]
    return len(said) >= LEAST_WORDS and len(content) == len(set(content))


class Judge:
    """The true judge: the rule, `well_formed`, and English to a language model. `judge(words, texts) -> (N,)` bools.

    `limit`: nats a token; a judge is made for a model by `judge_for`.
    """

    def __init__(self, model, tokenizer, limit: float):
        self.model, self.tokenizer, self.limit = model, tokenizer, limit

    def grades(self, asked: list[str], texts: list[str]) -> torch.Tensor:
        """How many of the three demands each text meets, `(N,)` int64."""
        english = torch.tensor(surprise(texts, self.model, self.tokenizer)) <= self.limit
        rule = torch.tensor([follows_rule(*pair) for pair in zip(asked, texts, strict=True)])
        return english.long() + rule.long() + torch.tensor([*map(well_formed, texts)]).long()

    def __call__(self, asked: list[str], texts: list[str]) -> torch.Tensor:
        return self.grades(asked, texts) == 3


def judge_for(model, tokenizer, share: float = 0.95) -> Judge:
    """A judge that finds this share of the sentences written by hand English enough."""
    nats = torch.tensor(surprise(written(), model, tokenizer))
    return Judge(model, tokenizer, nats.quantile(share).item())
