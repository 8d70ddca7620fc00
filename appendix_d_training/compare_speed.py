"""How fast each change of the training loop is: tokens a second beside the plain loop's, on a machine that is idle.

    python appendix_d_training/compare_speed.py

Some minutes. The rows are those of compare_training.py. Each is measured in turns with the plain loop, a round of one
and a round of the other, so that what else the machine does hits both; the table has the median of the ratios.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import time
from pathlib import Path

import compare_training as training
import drills
import pandas as pd
import torch

from shared.files import seal, write_table
from shared.measure import fast_in_bf16

ROUNDS, TOKENS = 5, 8_192  # tokens in a round


def stepping(recipe: training.Recipe):
    """A function that trains on one batch again and again."""
    _, model, optimizer = training.make_training(recipe, 1e-4, 123)
    batch = drills.windows(123, recipe.batch)[:]
    return lambda: training.step_of(recipe, model, optimizer, batch, 1e-4)


def seconds_of(step, times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        step()
    return time.perf_counter() - begun


def measured(recipe: training.Recipe, rounds: int = ROUNDS, tokens: int = TOKENS) -> dict:
    """A row: tokens a second, their ratio to the plain loop's with its range, and the first step's seconds."""
    plain, step = stepping(training.PLAIN), stepping(recipe)
    a_step, a_plain = (one.batch * drills.T for one in (recipe, training.PLAIN))
    emulated = recipe.bf16 and not fast_in_bf16("cpu")
    times = 2 if emulated else max(1, tokens // a_step)
    first = seconds_of(step, 1)
    seconds_of(step, 1), seconds_of(plain, 2)
    speeds, ratios = [], []
    for _ in range(rounds):
        speeds.append(times * a_step / seconds_of(step, times))
        ratios.append(speeds[-1] * seconds_of(plain, 4) / (4 * a_plain))
    torch.compiler.reset()
    row = {"tokens_per_second": round(sorted(speeds)[rounds // 2])}
    row |= {"ratio": sorted(ratios)[rounds // 2], "lowest": min(ratios), "highest": max(ratios)}
    return row | {"first_step": first}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=training.SPEED, help="the table to write")
    options = parser.parse_args(arguments)
    machine = {"threads": torch.get_num_threads(), "bf16_units": fast_in_bf16("cpu")}
    rows = []
    for name, recipe in training.ROWS.items():
        rows.append({"row": name} | measured(recipe) | machine | {"torch": torch.__version__})
        print(rows[-1], flush=True)
    write_table(options.out, pd.DataFrame(rows))
    seal(options.out)


if __name__ == "__main__":
    main()
