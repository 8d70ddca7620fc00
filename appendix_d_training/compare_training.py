"""What each change of the training loop is worth: loss and copying at equal tokens, over three seeds.

    python appendix_d_training/compare_training.py

First the learning rates of AdamW and Muon are swept, one seed each; the best of each is that optimizer's from then on.
Then one thing at a time is changed of the plain loop. Whatever is measured is written at once, and the same command
goes on with what is missing. Text for the sweep, for the training of each seed and for the table never overlap. An hour on two
idle cores; speeds are measured by compare_speed.py.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import functools
import math
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import drills
import pandas as pd
import torch
from torch.utils.data import DataLoader

from shared import editions, encodings
from shared.files import seal, write_table
from shared.gpt_model import GPTModel
from shared.measure import fast_in_bf16
from shared.optimizers import Together, make_optimizers
from shared.pretraining import evaluate_model, initialize
from shared.text_data import create_dataloader_v1
from shared.training import cosine, learning_rate, linear, stable_then_decay, training_step

HERE = Path(__file__).parent
LOSSES, SPEED = HERE / "compare_training.csv", HERE / "compare_speed.csv"  # its own script's
SEEDS = (123, 124, 125)
SWEPT = {
    "AdamW": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2),
    "Muon": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
}
CONFIG = {"vocab_size": drills.V, "context_length": drills.T, "emb_dim": 192, "n_heads": 6}
CONFIG |= {"n_layers": 3, "qkv_bias": False, "tie_weights": True}
KEY = ["part", "row", "rate", "seed"]  # of a run
WINDOWS = 4_800  # of 64 tokens each
LOOKS = 8  # at the model during a run


def level(progress):
    """No decay."""
    return 1.0


@dataclass(frozen=True)
class Recipe:
    """The plain loop of chapter 5, and what can be changed of it."""

    optimizer: str = "AdamW"
    warmup: float = 0.0  # share of the steps
    shape: object = level
    max_norm: float = math.inf
    groups: bool = False  # only matrices decay
    drop_rate: float = 0.0
    batch: int = 16  # windows in a step
    pieces: int = 1  # in which they are computed
    fused: bool = False
    bf16: bool = False
    compile: bool = False
    peak: float = 1.0  # times the rate that was best for the plain loop


PLAIN = Recipe()
GOOD = Recipe(warmup=0.1, shape=linear, max_norm=1.0, groups=True, fused=True)
ROWS = {
    "the plain loop": PLAIN,
    "warm-up": replace(PLAIN, warmup=0.1),
    "cosine": replace(PLAIN, shape=cosine),
    "linear": replace(PLAIN, shape=linear),
    "stable, then decay": replace(PLAIN, shape=stable_then_decay),
    "warm-up and cosine": replace(PLAIN, warmup=0.1, shape=cosine),
    "clipping": replace(PLAIN, max_norm=1.0),
    "decay groups": replace(PLAIN, groups=True),
    "dropout 0.1": replace(PLAIN, drop_rate=0.1),
    "batch of 4": replace(PLAIN, batch=4),
    "batch of 64": replace(PLAIN, batch=64),
    "16 in pieces of 4": replace(PLAIN, pieces=4),
    "fused": replace(PLAIN, fused=True),
    "compile": replace(PLAIN, compile=True),
    "Muon": replace(PLAIN, optimizer="Muon"),
    "all, with AdamW": GOOD,
    "all, with Muon": replace(GOOD, optimizer="Muon"),
    "all, AdamW, twice the rate": replace(GOOD, peak=2.0),
    "all, Muon, twice the rate": replace(GOOD, optimizer="Muon", peak=2.0),
    "bf16": replace(PLAIN, bf16=True),
}
DROPOUTS = (0.0, 0.1, 0.3)  # on the story of chapter 5, again and again
STORY = {"context_length": 64, "emb_dim": 128, "n_heads": 4, "n_layers": 2, "qkv_bias": False}


def make_training(recipe: Recipe, rate: float, seed: int):
    """A model with first weights of this seed, the same compiled if asked to, and its optimizer."""
    torch.manual_seed(seed)
    model = GPTModel(CONFIG | {"drop_rate": recipe.drop_rate})
    initialize(model)
    if recipe.optimizer == "Muon" or recipe.groups:
        run = SimpleNamespace(optimizer=recipe.optimizer.lower(), lr=rate, weight_decay=0.1)
        optimizer = Together(make_optimizers(model, run))
    else:
        settings = {"betas": (0.9, 0.95), "weight_decay": 0.1, "fused": recipe.fused}
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, **settings)
    return model, torch.compile(model) if recipe.compile else model, optimizer


def step_of(recipe: Recipe, model, optimizer, batch, rate: float) -> float:
    """One step by the recipe, its batch in equal pieces; the loss. ValueError if it is not finite."""
    size = recipe.batch // recipe.pieces
    pieces = list(zip(*(part.split(size) for part in batch)))
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
        return training_step(model, pieces, optimizer, "cpu", rate, recipe.max_norm)[0]


def train(recipe: Recipe, rate: float, seed: int, valid: int) -> list[dict]:
    """A run over the first windows of a stream: a row of losses and copying for each look at it."""
    model, compiled, optimizer = make_training(recipe, rate, seed)
    loader = DataLoader(drills.windows(seed, WINDOWS), recipe.batch)
    unseen = DataLoader(drills.windows(valid, 256), 64)
    rows, losses, steps = [], [], len(loader)
    looks = {round(i * steps / LOOKS) for i in range(1, LOOKS + 1)}
    warmup = round(recipe.warmup * steps)
    for step, batch in enumerate(loader):
        now = learning_rate(step, steps, warmup, rate, rate / steps, 0.0, recipe.shape)
        try:
            losses.append(step_of(recipe, compiled, optimizer, batch, now))
        except ValueError:  # not finite: that was the end of this run
            tokens = len(loader) * recipe.batch * drills.T
            return [*rows, {"tokens": tokens, "valid_loss": math.inf, "copying": 0.0}]
        if step + 1 in looks:
            _, valid_loss = evaluate_model(model, [], unseen, "cpu", None)
            row = {"tokens": (step + 1) * recipe.batch * drills.T}
            row |= {"train_loss": sum(losses) / len(losses), "valid_loss": valid_loss}
            rows.append(row | {"copying": drills.copying(model)})
            losses.clear()
    return rows


def train_on_story(drop_rate: float, seed: int, epochs: int = 15) -> list[dict]:
    """Chapter 5's small model on its story: a row for each epoch."""
    tokenizer, story = encodings.tokenizer(first=True), editions.text()
    split, length = int(0.9 * len(story)), STORY["context_length"]
    torch.manual_seed(seed)
    model = GPTModel(STORY | {"vocab_size": tokenizer.n_vocab, "drop_rate": drop_rate})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002, weight_decay=0.1)
    loader, unseen = (
        create_dataloader_v1(text, 4, length, length, shuffle=train, drop_last=train, tokenizer=tokenizer)
        for text, train in ((story[:split], True), (story[split:], False))
    )  # fmt: skip
    rows = []
    for epoch in range(1, epochs + 1):
        model.train()
        for batch in loader:
            training_step(model, [batch], optimizer, "cpu", 0.002, math.inf)
        losses = evaluate_model(model, loader, unseen, "cpu", None)
        row = {"tokens": epoch * len(loader) * 4 * length}
        rows.append(row | dict(zip(("train_loss", "valid_loss"), losses)))
    return rows


# --- the table of losses ------------------------------------------------------------------------


def jobs_of(table: pd.DataFrame) -> dict[tuple, functools.partial]:
    """What can be measured now, by (part, row, rate, seed): the sweeps first, since the rest needs their best."""
    jobs = {}
    for optimizer, rates in SWEPT.items():
        for rate in rates:
            run = functools.partial(train, Recipe(optimizer), rate, SEEDS[0], valid=1)
            jobs["sweep", optimizer, rate, SEEDS[0]] = run
    for rate in DROPOUTS:
        for seed in SEEDS:
            jobs["story", f"dropout {rate}", 0.002, seed] = functools.partial(
                train_on_story, rate, seed
            )
    if len(table) and all(len(ends_of(table, "sweep", name)) == len(SWEPT[name]) for name in SWEPT):
        for name, recipe in ROWS.items():
            rate = recipe.peak * best_rate(table, recipe.optimizer)
            for seed in seeds_of(recipe, fast_in_bf16("cpu")):
                jobs["change", name, rate, seed] = functools.partial(
                    train, recipe, rate, seed, valid=2
                )
    return jobs


def seeds_of(recipe: Recipe, fast: bool) -> tuple[int, ...]:
    """Three seeds; one of bf16 where a processor has no units for it, and takes ten times as long."""
    return SEEDS if fast or not recipe.bf16 else SEEDS[:1]


def ends_of(table: pd.DataFrame, part: str, row: str | None = None) -> pd.DataFrame:
    """The last look of each run of a part, or of one row of it."""
    chosen = table[(table.part == part) & (table.row == row if row else True)]
    return chosen.groupby(["row", "rate", "seed"], sort=False).tail(1)


def best_rate(table: pd.DataFrame, optimizer: str) -> float:
    """The rate of the sweep with the lowest loss."""
    ends = ends_of(table, "sweep", optimizer)
    return float(ends.loc[ends.valid_loss.idxmin(), "rate"])


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def measured(job) -> tuple[list[dict], float]:
    torch.set_num_threads(1)
    begun = time.process_time()
    return job(), time.process_time() - begun


def compare(path: Path, processes: int, rows: list[str]) -> pd.DataFrame:
    """The table of losses, completed, `processes` runs at a time, and written after each run."""
    table = read_table(path)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        while True:
            done = {*table[KEY].itertuples(index=False, name=None)} if len(table) else set()
            left = {key: job for key, job in jobs_of(table).items() if key not in done}
            left = {k: job for k, job in left.items() if k[0] != "change" or k[1] in rows}
            if not left:
                return table
            running = {pool.submit(measured, job): key for key, job in left.items()}
            for future in as_completed(running):
                key, (looks, seconds) = running[future], future.result()
                more = {"seconds": round(seconds, 1), "torch": torch.__version__}
                new = [dict(zip(KEY, key)) | look | more for look in looks]
                table = in_order(pd.concat([table, pd.DataFrame(new)], ignore_index=True))
                write_table(path, table)
                print(*key, {k: round(v, 3) for k, v in looks[-1].items()}, flush=True)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Parts and rows in the order of this script; the looks of a run stay together."""
    names = {name: place for place, name in enumerate([*SWEPT, *ROWS])}
    places = table.part.map({"sweep": 0, "story": 1, "change": 2}.get) * 100
    places += table.row.map(lambda name: names.get(name, 0))
    return table.iloc[places.argsort(kind="stable")].reset_index(drop=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=LOSSES, help="the table to complete")
    add("--processes", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    options = parser.parse_args(arguments)
    try:
        compare(options.out, options.processes, options.rows)
        seal(options.out)
    except (ValueError, OSError) as error:
        sys.exit(f"compare_training: {error}")
    except KeyboardInterrupt:
        sys.exit("compare_training: interrupted; the same command goes on with what is missing")


if __name__ == "__main__":
    main()
