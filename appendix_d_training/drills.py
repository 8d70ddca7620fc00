"""Drills: an endless text of 126 words that cannot be learned by heart, only by rule; and how well a model copies.

    python appendix_d_training/drills.py        # some of each kind

Three kinds: a few words that go round and round, words that keep their partner in an order that changes, and words
that are put in order. What comes next can be told from what came before, so a small model shows within a minute
of training whether it has learned to look back. (The worksheets of chapter 5 need hours.) CC0, as the course's words.
"""

import itertools
import random
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import TensorDataset

from shared.guards import evaluation_mode
from shared.lexicon import load_words
from shared.text_data import SimpleTokenizerV1

END, COLON = 0, 1
# in the order of the alphabet, so that a word's ID says where it stands
WORDS = sorted({noun for noun, _ in load_words().nouns if len(noun) <= 6})[::2][:126]
VOCABULARY = {"<|endoftext|>": END, ":": COLON} | {word: i for i, word in enumerate(WORDS, start=2)}
V, T = len(VOCABULARY), 64


class WordTokenizer(SimpleTokenizerV1):
    """Chapter 2's tokenizer of whole words, with an `encode` that the training loop can call."""

    def __init__(self):
        super().__init__(VOCABULARY)

    def encode(self, text, allowed_special=()):
        return super().encode(text)


def some(rng: random.Random, count: int) -> list[int]:
    """IDs of so many different words."""
    return rng.sample(range(2, V), count)


def rounds(rng: random.Random) -> list[int]:
    """A few words that go round and round."""
    words = rng.choices(range(2, V), k=rng.choice((1, 2, 3, 4, 5, 6, 8, 10, 12)))
    length = max(2 * len(words), rng.randint(8, 28))
    return list(itertools.islice(itertools.cycle(words), length))


def partners(rng: random.Random) -> list[int]:
    """Pairs of words, several times, in an order that changes."""
    words = some(rng, 2 * rng.randint(1, 5))
    pairs = list(zip(words[::2], words[1::2]))
    times = rng.randint(2, 4)
    return [word for _ in range(times) for pair in rng.sample(pairs, len(pairs)) for word in pair]


def in_order(rng: random.Random) -> list[int]:
    """Words, and the same in the order of the alphabet."""
    words = some(rng, rng.randint(3, 8))
    return [*words, COLON, *sorted(words)]


KINDS = {rounds: 60, partners: 25, in_order: 15}  # shares in percent


def stream(seed: int) -> Iterator[int]:
    """Token IDs without end, the same for the same seed; each drill begins with `<|endoftext|>`."""
    rng = random.Random(f"drills {seed}")
    while True:
        kind = rng.choices(list(KINDS), KINDS.values())[0]
        yield from (END, *kind(rng))


def windows(seed: int, count: int, length: int = T) -> TensorDataset:
    """The first `count` windows of a stream as a dataset of inputs and targets, `(T,)` each."""
    ids = torch.tensor(list(itertools.islice(stream(seed), count * length + 1)))
    return TensorDataset(ids[:-1].view(count, length), ids[1:].view(count, length))


def copying(model: nn.Module, count: int = 64, words: int = 10, seed: int = 123) -> float:
    """The share that is right when random words, `words` of them, come a second time; without copying nearly 0.

    The first word of the second round cannot be told and does not count.
    """
    rng = random.Random(f"copying {seed}")
    rows = torch.tensor(
        [[END, *2 * some(rng, words)] for _ in range(count)]
    )  # (count, 1 + 2 words)
    device = next(model.parameters()).device
    with evaluation_mode(model), torch.inference_mode():
        said = model(rows[:, :-1].to(device)).argmax(dim=-1).cpu()
    again = slice(words + 1, None)
    return (said[:, again] == rows[:, 1:][:, again]).float().mean().item()


def main() -> None:
    tokenizer = WordTokenizer()
    for kind in KINDS:
        rng = random.Random("shown")
        for _ in range(3):
            print(f"{kind.__name__:10}", tokenizer.decode([END, *kind(rng)]))


if __name__ == "__main__":
    main()
