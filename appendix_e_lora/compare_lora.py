"""What each choice of LoRA is worth, beside training all weights, a block, or a head: scores over three seeds.

    python appendix_e_lora/compare_lora.py

The rows and tasks are those of lora_tasks.py. A row's learning rate is the best of a sweep, by the loss on validation
items with one seed; the test items are used only afterward, with that rate and three other seeds. Whatever is measured
is written at once; the same command goes on with what is missing. About an hour and a half on two idle cores. Time,
memory and file size are measured by compare_cost.py.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import multiprocessing
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path

import pandas as pd
import torch
from lora_tasks import ROWS, TASKS, instructed, prose_bits, spam_found, train

from shared import editions, files, models, program
from shared.assets import AssetError
from shared.files import seal, write_table
from shared.lora import adapter_off, lora_layers

SCORES = Path(__file__).resolve().parent / "compare_lora.csv"
SWEEP, SEEDS = 122, (123, 124, 125)
GRID = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
KEY = ["task", "row", "rate", "seed"]  # of a run


def run(task: str, row: str, rate: float, seed: int) -> dict:
    """A training of the sweep, with its validation loss; or one of the three, with its test score."""
    recipe = ROWS[row]
    try:
        model = train(task, recipe, rate, seed)
    except ValueError as error:
        if "is not finite" not in str(error):
            raise
        return {"loss": float("inf")}  # the rate was too high
    measure = {"spam": spam_found, "instructions": instructed}[task]
    found = measure(model, "validation") if seed == SWEEP else measure(model, "test")
    found["trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if task == "instructions":
        found["prose"] = prose_bits(model)
        if lora_layers(model):
            with adapter_off(model):
                found["prose_off"] = prose_bits(model)
    return found


def timed(*key) -> tuple[dict, float]:
    torch.set_num_threads(1)
    begun = time.process_time()
    found = run(*key)
    return found, round(time.process_time() - begun, 1)


# --- the table of scores --------------------------------------------------------------------------


def swept(table: pd.DataFrame, task: str, row: str) -> pd.Series:
    """The validation losses of a row's sweep, by rate."""
    if not len(table):
        return pd.Series(dtype=float)
    chosen = table[(table.task == task) & (table.row == row) & (table.seed == SWEEP)]
    return chosen.set_index("rate").loss.sort_index()


def rates_to_try(losses: pd.Series, middle: float) -> list[float]:
    """The next rates of a sweep: three around the middle, then on as long as the best lies at an end."""
    if not len(losses):
        at = GRID.index(middle)
        return list(GRID[at - 1 : at + 2])
    tried = [GRID.index(rate) for rate in losses.index]
    best = GRID.index(losses.idxmin())
    if best == max(tried) < len(GRID) - 1:
        return [GRID[best + 1]]
    if best == min(tried) > 0:
        return [GRID[best - 1]]
    return []


def best_rate(table: pd.DataFrame, task: str, row: str) -> float:
    return float(swept(table, task, row).idxmin())


def jobs_of(table: pd.DataFrame) -> list[tuple]:
    """What can be measured now, by (task, row, rate, seed): the rest of a sweep, or the seeds at its best rate."""
    done = {*table[KEY].itertuples(index=False, name=None)} if len(table) else set()
    jobs = []
    for task, rows in TASKS.items():
        for row in rows:
            losses = swept(table, task, row)
            first = set(rates_to_try(losses.iloc[:0], ROWS[row].middle)) - set(losses.index)
            rates = sorted(first) or rates_to_try(losses, ROWS[row].middle)
            jobs += [(task, row, rate, SWEEP) for rate in rates]
            if not rates:
                jobs += [(task, row, best_rate(table, task, row), seed) for seed in SEEDS]
    return [job for job in jobs if job not in done]


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    names = {name: place for place, name in enumerate([*TASKS, *ROWS])}
    keys = {"key": lambda column: column.map(names) if column.name in ("task", "row") else column}
    return table.sort_values(["task", "row", "seed", "rate"], **keys).reset_index(drop=True)


def compare(path: Path, processes: int) -> pd.DataFrame:
    """The table, completed, some runs at a time, and written after each. ValueError if it is of another model."""
    model = editions.choice("COURSE_MODEL")
    sha = files.sha256(models.FIRST_GPT / files.WEIGHTS)[:12]
    made_of = {"checkpoint": sha if model == "course-gpt" else model, "torch": torch.__version__}
    table = pd.read_csv(path, dtype={"checkpoint": str}) if path.exists() else pd.DataFrame()
    if len(table) and set(table.get("checkpoint", [""])) != {made_of["checkpoint"]}:
        raise ValueError(f"{path} is of another checkpoint: delete it, or give another --out")
    context, running = multiprocessing.get_context("spawn"), {}
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        while True:
            # as many as can run: what comes next depends on what they find
            waiting = [job for job in jobs_of(table) if job not in running.values()]
            for job in waiting[: processes - len(running)]:
                running[pool.submit(timed, *job)] = job
            if not running:
                return table
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, (found, seconds) = running.pop(future), future.result()
                line = dict(zip(KEY, job)) | found | {"seconds": seconds} | made_of
                table = in_order(pd.concat([table, pd.DataFrame([line])], ignore_index=True))
                write_table(path, table)
                print(*job, {k: round(v, 4) for k, v in found.items()}, seconds, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=SCORES, help="the table to complete")
    add("--processes", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    options = parser.parse_args(arguments)
    with program.in_one_line("compare_lora", "with what is missing", AssetError):
        compare(options.out, options.processes)
        seal(options.out)


if __name__ == "__main__":
    main()
