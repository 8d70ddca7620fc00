"""Greedy text as it comes, from ten openings; whether it goes round in circles, or repeats what was read."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from shared.gpt_model import generate_text_cached

OPENINGS = [
    "Once upon a time", "The old man", "My name is", "Last summer we", "The phone rang",
    "To make bread, you", "A dog is", "She opened the door and", "In the morning", "We were late because",
]  # fmt: skip
LENGTH = 60  # tokens of a text
RUN = 30  # as many tokens in a row that were read count as repeated


def greedy(model, tokenizer, context: int) -> dict[str, list[int]]:
    """The likeliest tokens after each opening, which the model reads alone, as in the lessons."""
    found = {}
    for opening in OPENINGS:
        start = torch.tensor([tokenizer.encode_ordinary(opening)])
        ids = generate_text_cached(model, start, LENGTH, context)[0]
        found[opening] = ids[start.shape[1] :].tolist()
    return found


def in_circles(ids: list[int], n: int = 4) -> bool:
    """Whether a sequence of n tokens comes more than twice."""
    return max(Counter(zip(*(ids[i:] for i in range(n)))).values(), default=0) > 2


def recites(ids: list[int], read: bytes, length: int = RUN) -> bool:
    """Whether a run of so many tokens stands in a token file's content."""
    tokens, half = np.array(ids, dtype=np.uint16), length // 2
    wholes = range(0, len(ids) - half + 1, half)  # any run of `length` holds one of these
    if not any(_stands_in(tokens[i : i + half], read) for i in wholes):
        return False
    return any(_stands_in(tokens[i : i + length], read) for i in range(len(ids) - length + 1))


def _stands_in(tokens: np.ndarray, read: bytes) -> bool:
    """Whether they do, from an even byte on: a token has two."""
    wanted, place = tokens.tobytes(), -1
    while (place := read.find(wanted, place + 1)) % 2 == 1 and place >= 0:
        pass
    return place >= 0


def report(texts: dict[str, list[int]], tokenizer, paths: Iterable[Path]) -> str:
    """Markdown: the texts as they came, and how many are neither; `paths`, the token files that were read."""
    circling, recited = {o for o, ids in texts.items() if in_circles(ids)}, set()
    for path in paths:
        read = np.load(path).tobytes()
        recited |= {o for o, ids in texts.items() if o not in recited and recites(ids, read)}
    good = len(texts) - len(circling | recited)
    said = (
        f"Of {len(texts)} texts, {len(texts) - len(circling)} have no sequence of four tokens more than twice, and "
        f"{len(texts) - len(recited)} no run of {RUN} tokens of the training text; both hold for {good}.\n"
    )
    return said + "".join(f"\n{quoted(o, tokenizer.decode(ids))}\n" for o, ids in texts.items())


def quoted(opening: str, text: str) -> str:
    """Text as a Markdown quotation, in its own lines; no sign in it is read as Markdown."""
    plain = re.sub(r"([\\`*_{}\[\]<>#|~+]|^-)", r"\\\1", text, flags=re.MULTILINE)
    whole = re.sub(
        r"(?<=\S)\n(?=\S)", r"\\\n", f"**{opening}**{plain}".rstrip()
    )  # a line ends there, no paragraph
    return "\n".join(f"> {line}".rstrip() for line in whole.split("\n"))
