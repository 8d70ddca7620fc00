"""Does generated text go in circles, or repeat what was read? Twenty openings, likeliest tokens and drawn ones.

    python ch05_pretraining/circles.py --read RUN          # into circles.csv

RUN is the folder of pretrain.py with the token files that the model has read (`train-*.npy`, worksheets, knowledge).
Of each continuation of 60 tokens: the share of its sequences of four tokens that were there before, how often the most
frequent one comes, and the longest run of tokens that stands in the reading. People's text is the control: passages as
long from the works held out (`valid-*.npy`), which the model has never seen.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import experiment
import numpy as np
import pandas as pd
import torch

from shared.pretraining import generate

OPENINGS = [
    "Once upon a time", "The old man", "My name is", "Last summer we", "The phone rang",
    "To make bread, you", "A dog is", "She opened the door and", "In the morning", "We were late because",
    "The king said to his", "My favorite food is", "When it began to rain,", "The doctor told me that", "There are many",
    "I would like to", "The teacher asked the children", "On the table there was", "After the war,", '"Where is my hat?"',
]  # fmt: skip
METHODS = {
    "greedy": {},
    "temperature 0.7": {"temperature": 0.7},
    "top-k 40": {"temperature": 1.0, "top_k": 40},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
}
SEEDS = 3
LENGTH = 60
SHORTEST = 5  # tokens of a run: BASE**SHORTEST must be below 2**63
BASE = 4097  # above any token of the course's tokenizers
PIECE = 1_000_000  # tokens compared at a time


def repeated(ids: list[int], n: int = 4) -> tuple[float, int]:
    """`(share of the sequences of n tokens that were there before, how often the most frequent one comes)`."""
    found = Counter(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))
    return (1 - len(found) / found.total(), max(found.values())) if found else (0.0, 0)


def longest_runs(texts: list[list[int]], arrays: Iterable[np.ndarray]) -> list[int]:
    """Of each text the length of its longest run of tokens that stands in one of the arrays; below SHORTEST it is 0."""
    where: dict[int, list[tuple[int, int]]] = {}  # of a short run: texts, and places in them
    for t, text in enumerate(texts):
        for i, code in enumerate(codes(np.array(text)).tolist()):
            where.setdefault(code, []).append((t, i))
    wanted, longest = np.array(sorted(where)), [0] * len(texts)
    for array in arrays:
        for start in range(0, len(array), PIECE):
            found = codes(array[start : start + PIECE + SHORTEST - 1])
            nearest = wanted[np.searchsorted(wanted, found).clip(max=len(wanted) - 1)]
            for place in np.flatnonzero(found == nearest):
                for t, i in where[int(found[place])]:
                    size = length_of_run(texts[t], i, array, start + place)
                    longest[t] = max(longest[t], size)
    return longest


def length_of_run(text: list[int], i: int, array: np.ndarray, place: int) -> int:
    """How many tokens are the same from text[i] and array[place] on."""
    size = 0
    while i + size < len(text) and place + size < len(array) and text[i + size] == array[place + size]:  # fmt: skip
        size += 1
    return size


def codes(tokens: np.ndarray) -> np.ndarray:
    """Each run of SHORTEST tokens as one number, in the order of their places."""
    count = max(0, len(tokens) - SHORTEST + 1)
    return sum(tokens[i : i + count].astype(np.int64) * BASE**i for i in range(SHORTEST))


def written(subject: experiment.Subject) -> pd.DataFrame:
    """Continuations of the openings: how each was made, its tokens, its text."""
    rows = []
    for opening in OPENINGS:
        prompt = [subject.encoding.eot_token, *subject.encoding.encode_ordinary(opening)]
        for method, settings in METHODS.items():
            copies = torch.tensor([prompt] * (SEEDS if settings else 1))
            torch.manual_seed(123)
            ids = generate(subject.model, copies, LENGTH, subject.context, **settings)
            for seed, row in enumerate(ids[:, len(prompt) :].tolist()):
                text = subject.encoding.decode(row) if not seed else ""  # the first is shown
                rows.append({"method": method, "opening": opening, "draw": seed, "ids": row, "text": text})  # fmt: skip
    return pd.DataFrame(rows)


def people(tokens: np.ndarray, count: int = 100) -> pd.DataFrame:
    """Passages of the works held out, spread over them."""
    starts = np.linspace(0, len(tokens) - LENGTH, count).astype(int)
    rows = [{"method": "people", "draw": i, "ids": tokens[s : s + LENGTH].tolist()} for i, s in enumerate(starts)]  # fmt: skip
    return pd.DataFrame(rows).assign(opening="", text="")


def measure(subject: experiment.Subject, options) -> pd.DataFrame:
    """A row for each text; the longest run only where the reading is given."""
    table = written(subject)
    paths = sorted(options.read.glob("*-*.npy")) if options.read else []
    valid = [path for path in paths if path.name.startswith("valid-")]
    if options.read and len(valid) != 1:
        raise ValueError(f"{options.read} is no folder of a run: one file valid-*.npy is needed")
    if valid:
        table = pd.concat([table, people(np.load(valid[0]))])
    arrays = (np.load(path) for path in paths if path not in valid)
    runs = longest_runs(table.ids.tolist(), arrays) if paths else None
    share, most = zip(*map(repeated, table.ids))
    table = table.assign(repeated=share, most=most, longest_run=runs)
    return table[["method", "opening", "draw", "repeated", "most", "longest_run", "text"]]


def by_method(table: pd.DataFrame) -> pd.DataFrame:
    """Means and largest values of each method."""
    groups = table.groupby("method", sort=False)[["repeated", "most", "longest_run"]]
    return groups.agg(["mean", "max"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--read", type=Path, metavar="RUN", help="with the files that it has read")
    stored = Path(__file__).with_suffix(".csv")
    table = experiment.run(parser, arguments, measure, stored, first=False, show=by_method)
    greedy = table[(table.method == "greedy") & table.opening.isin(OPENINGS[:10])]
    print(f"greedy, first ten openings: in {(greedy.most <= 2).sum()} no sequence of four comes more than twice")  # fmt: skip


if __name__ == "__main__":
    main()
