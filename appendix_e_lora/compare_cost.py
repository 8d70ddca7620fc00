"""What LoRA saves: time and memory of a training step, time of using the model, size of the file.

    python appendix_e_lora/compare_cost.py

One batch of chapter 6's messages, one row after the other in each round, so that whatever else the machine does hits
all of them. Two minutes.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import functools
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from lora_tasks import CPU, ROWS, messages, spam_model, spam_step

from shared import encodings, program
from shared.assets import AssetError
from shared.classification import message_logits
from shared.files import seal, write_table
from shared.lora import merge_lora, save_adapter
from shared.measure import peak_megabytes

COST = Path(__file__).resolve().parent / "compare_cost.csv"
SHOWN = ("all weights", "last block", "head", "rank 1", "rank 8", "rank 64")
SHOWN += ("attention and feed-forward",)


def costs(rounds: int = 12) -> pd.DataFrame:
    """A row each: numbers trained, MB of file and peak memory, median seconds; ratios to all weights, round by round."""
    tokenizer, found = encodings.tokenizer(first=True), {}
    # sixteen messages of middle length
    ids, labels = zip(*(messages("train")[i] for i in range(1000, 1016)))
    batch = torch.stack(ids), torch.tensor(labels)

    @torch.no_grad()
    def use(model):
        message_logits(batch[0], model.eval(), CPU, tokenizer.eot_token)
        model.train()

    trainings, users = {}, {}
    for row in SHOWN:
        model, learn, _ = spam_model(ROWS[row], seed=123)
        optimizer = torch.optim.AdamW(learn, lr=1e-5, weight_decay=0.0)
        trainings[row] = functools.partial(spam_step, batch, model, optimizer, 1e-5)
        users[row] = functools.partial(use, model)
        # the first step makes the optimizer's memory, which stays
        megabytes = peak_megabytes(trainings[row])
        megabytes += sum(p.nbytes for p in model.parameters()) / 1e6
        with tempfile.TemporaryDirectory() as folder:
            save_adapter(path := Path(folder, "adapter"), model)
            size = path.stat().st_size / 1e6
        trained = sum(p.numel() for p in learn)
        found[row] = {"trained": trained, "file_mb": size, "peak_mb": megabytes}
    seconds, use_seconds = in_turns(trainings, rounds), in_turns(users, rounds)
    for call in users.values():
        merge_lora(call.args[0])
    table = pd.DataFrame.from_dict(found, orient="index")
    table["seconds"], table["use_seconds"] = seconds.median(), use_seconds.median()
    table["merged_seconds"] = in_turns(users, rounds).median()
    ratios = seconds.div(seconds["all weights"], axis=0)
    table["ratio"], table["lowest"] = ratios.median(), ratios.quantile(0.25)
    table["highest"] = ratios.quantile(0.75)
    return table.assign(threads=torch.get_num_threads(), torch=torch.__version__)


def in_turns(calls: dict, rounds: int) -> pd.DataFrame:
    """Seconds of each call, a column each, in so many rounds."""
    rows = []
    for _ in range(rounds):
        rows.append({})
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            rows[-1][name] = time.perf_counter() - begun
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=COST, help="the table to write")
    out = parser.parse_args(arguments).out
    with program.in_one_line("compare_cost", "from the beginning", AssetError):
        write_table(out, costs().reset_index(names="row"))
        seal(out)


if __name__ == "__main__":
    main()
