"""What was drilled, and what comes of it in forms that were not: examples, copies, orders, sums.

    python ch05_pretraining/drilled.py                     # into drilled.csv

A seventh of what the course model reads are worksheets (worksheets.py). What it does in their layouts may be no more
than what it practiced, so each task is set in layouts that the worksheets use and in others. Which is which is counted:
`sheets` is how many of 3,000 new worksheets contain the layout. An answer is `right` only as a whole, with its line's
end, each token the likeliest one; `tokens` is the share of its tokens that are, given the right ones before. The other
layouts may still occur in the books and the texts of today that the model reads: "turns into" does, and so do sums.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import itertools
import random
from pathlib import Path

import experiment
import pandas as pd
import torch
from layouts import FIGURE, SEED, WORD, copied_with, in_sheets
from names import ordinary_tokens

from shared.guards import evaluation_mode
from shared.lexicon import NUMBERS, SECOND_RESERVED, number_pairs, read_json, second_words

PAIRS = ["{0} -> {1}", "{0} = {1}", "{0}: {1}", "{0} | {1}"]  # these the worksheets use
PAIRS += ["{0} ~ {1}", "{0} => {1}", "{0} @ {1}", "{0} turns into {1}"]  # these they do not
SUMS = ["{0} + {2} = {1}", "{0} and {2} make {1}"]
SUMS += ["{0} plus {2} is {1}", "add {0} to {2} to get {1}"]
ORDERS = {
    "the same": list,
    "reversed": lambda words: words[::-1],
    "sorted": sorted,
    "the first one last": lambda words: [*words[1:], words[0]],
}
LISTS = ["{0} <-> {1}", "{0} -> {1}", "{0} ~ {1}", "{0} => {1}"]
GLUES = [
    " ",
    ". ",
    "\n",
    " ~ ",
    " => ",
    "\nHere it comes once more, just as you have read it above:\n",
]
SHOTS = (1, 2, 4, 8)


@torch.inference_mode()
def answered(subject: experiment.Subject, tasks: list[tuple[str, str]], batch: int = 32) -> dict:
    """`right`, `tokens` and `tries` of tasks (prompt, answer), the answers read to the end of their lines."""
    encode, rows, right, tokens = subject.encoding.encode_ordinary, [], 0, []
    for prompt, answer in tasks:
        rows.append(([subject.encoding.eot_token, *encode(prompt)], encode(f" {answer}\n")))
    with evaluation_mode(subject.model):
        for i in range(0, len(rows), batch):
            texts = [start + end for start, end in rows[i : i + batch]]
            longest = max(map(len, texts))
            ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
            said = subject.model(ids).argmax(dim=-1).tolist()
            for best, (start, end) in zip(said, rows[i : i + batch]):
                same = [a == b for a, b in zip(best[len(start) - 1 :], end)]
                right += all(same)
                tokens += same
    return {"tries": len(tasks), "right": right / len(tasks), "tokens": sum(tokens) / len(tokens)}


def prompt_of(layout: str, examples: list[tuple], query: tuple) -> tuple[str, str]:
    """Examples in a layout, each on its line, and the query in the same, without its answer: `(prompt, answer)`."""
    lines = [layout.format(*example) for example in examples]
    asked = layout.format(query[0], "{answer}", *query[2:])
    return "\n".join([*lines, asked.partition(" {answer}")[0]]), query[1]


def examples_rows(subject: experiment.Subject, tries: int) -> list[dict]:
    """Plurals and pairs without sense, for a word that is among the examples and for others."""
    words, families = second_words(None), read_json(SECOND_RESERVED)["families"]
    reserved = [tuple(noun) for them in families["plural"].values() for noun in them]
    nouns = [tuple(noun) for noun in words.nouns]
    rows = []
    for layout, shots in itertools.product(PAIRS, SHOTS):
        rng, tasks = random.Random(f"examples {shots}"), {}
        for _ in range(tries):
            *shown, new = rng.sample(nouns, shots + 1)
            pairs = list(zip(*[iter(rng.sample(words.common, 2 * shots))] * 2))
            for name, examples, query in (
                ("plural, word among the examples", shown, rng.choice(shown)),
                ("plural, other word", shown, new),
                ("plural, word of no worksheet", shown, rng.choice(reserved)),
                ("pair among the examples", pairs, rng.choice(pairs)),
            ):
                tasks.setdefault(name, []).append(prompt_of(layout, examples, query))
        about = {"layout": layout, "shots": shots, "sheets": in_sheets(layout)}
        rows += [{"task": name} | about | answered(subject, them) for name, them in tasks.items()]
    return rows


def order_rows(subject: experiment.Subject, tries: int) -> list[dict]:
    """Three to five words, written again in some order, after three examples."""
    words, rows = second_words(None).common, []
    for (name, order), layout in itertools.product(ORDERS.items(), LISTS):
        rng, tasks = random.Random("orders"), []
        for _ in range(tries):
            lists = [rng.sample(words, rng.randint(3, 5)) for _ in range(4)]
            *shown, query = [(" ".join(some), " ".join(order(some))) for some in lists]
            tasks.append(prompt_of(layout, shown, query))
        about = {"task": f"list, {name}", "layout": layout, "shots": 3}
        used = in_sheets(layout, rf"{WORD}(?: {WORD})+")
        rows.append(about | {"sheets": used} | answered(subject, tasks))
    return rows


def sum_rows(subject: experiment.Subject, tries: int) -> list[dict]:
    """Sums of two numbers in figures and in words, those that the worksheets contain and reserved ones."""
    taught = [pair for pair in second_words(None).sums["+"] if sum(pair) < len(NUMBERS)]
    every = [pair for pair in number_pairs("+") if sum(pair) < len(NUMBERS)]
    reserved, rows = [pair for pair in every if pair not in taught], []
    for layout, figures in itertools.product(SUMS, (True, False)):
        used = in_sheets(layout, FIGURE if figures else f"(?:{'|'.join(NUMBERS)})")
        for name, pairs in (("taught", taught), ("reserved", reserved)):
            rng, tasks = random.Random(f"sums {name}"), []
            for _ in range(tries):
                query = rng.choice(pairs)
                some = [query, *rng.sample([pair for pair in taught if pair != query], 3)]
                some = [(a, a + b, b) for a, b in some]
                query, *shown = [tuple(str(n) if figures else NUMBERS[n] for n in one) for one in some]  # fmt: skip
                tasks.append(prompt_of(layout, shown, query))
            task = f"sum in {'figures' if figures else 'words'}, {name}"
            about = {"task": task, "layout": layout, "shots": 3, "sheets": used}
            rows.append(about | answered(subject, tasks))
    return rows


def copy_rows(subject: experiment.Subject, tries: int, length: int = 40) -> list[dict]:
    """Random tokens that come again: the share predicted from the second one on, by kind of token and what stands between."""
    ordinary = set(ordinary_tokens(subject.encoding))
    others = set(range(256, subject.encoding.eot_token)) - ordinary
    kinds, rows = {"words and parts": sorted(ordinary), "letters and signs": sorted(others)}, []
    for (kind, pool), glue in itertools.product(kinds.items(), GLUES):
        generator = torch.Generator().manual_seed(SEED)
        order = torch.rand(tries, len(pool), generator=generator).argsort(dim=1)[:, :length]
        half = torch.tensor(pool)[order]  # (N, 40)
        between = torch.tensor([subject.encoding.encode_ordinary(glue)]).repeat(tries, 1)
        start = torch.full((tries, 1), subject.encoding.eot_token)
        ids = torch.cat((start, half, between, half), dim=1)
        with evaluation_mode(subject.model), torch.inference_mode():
            said = subject.model(ids[:, :-1]).argmax(dim=-1)[:, 1 - length :]
        same = said == ids[:, 1 - length :]
        about = {"task": f"copy, {kind}", "layout": f"{{0}}{glue}{{0}}", "shots": 0}
        about |= {"sheets": copied_with(glue), "tries": tries}
        shares = same.all(dim=1).double().mean(), same.double().mean()
        rows.append(about | dict(zip(("right", "tokens"), map(float, shares))))
    return rows


def measure(subject: experiment.Subject, options) -> pd.DataFrame:
    """A row for each task, layout and number of examples."""
    rows = []
    for make in (examples_rows, order_rows, sum_rows, copy_rows):
        rows += make(subject, options.tries)
    return pd.DataFrame(rows)


def by_layout(table: pd.DataFrame) -> pd.DataFrame:
    """Each task in each layout, the mean over numbers of examples."""
    groups = table.assign(layout=table.layout.map(repr)).groupby(["task", "layout"], sort=False)
    return groups[["sheets", "right", "tokens"]].mean()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=40, help="of each row (default: 40)")
    stored = Path(__file__).with_suffix(".csv")
    experiment.run(parser, arguments, measure, stored, first=False, show=by_layout)


if __name__ == "__main__":
    main()
