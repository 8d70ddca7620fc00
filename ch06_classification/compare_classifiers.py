"""Which classifier is how good: baselines and fine-tunings, over one to five runs, and what few labels are worth.

    python ch06_classification/compare_classifiers.py [--out compare.csv]

Run k learns from the training and validation messages without their k-th eighth (run 0 from the part `train`). A row's
threshold is chosen on what its runs had left out, all together. Scores are taken on the development messages (the part
`test`) and, once and last of all, on the sealed messages. Intervals: 95 % of 2,000 draws of as many messages, and of
runs, with replacement. Beside the table: learning_curve.csv and calibration.csv. What each run found is kept in
compare.state/ beside the table: the same command goes on with what is missing. About an hour on one core with bf16.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import math
import time
from pathlib import Path

import classifier_rows as rows
import make_spam_gpt
import numpy as np
import pandas as pd
import sklearn
import torch
from classifier_rows import RIVAL, ROWS, SEEDS, Data, FineTuned, is_spam
from classifier_scores import calibration_of, table_of
from sklearn.metrics import average_precision_score

from shared import program
from shared.assets import AssetError
from shared.classification import classifier_from
from shared.files import landing, read_saved, seal, sha256, write_table
from shared.gpt_model import GPTModel

FOLDER = Path(__file__).parent
OUT, SEALED = FOLDER / "compare.csv", FOLDER / "sealed.csv"
FEW = {50: 24, 200: 12, 800: 6}  # labels, and how many epochs of them
METHODS = {  # of the learning curve, by the row that has all labels
    RIVAL: {},
    "head alone": {},
    "all layers, random weights": {"start": "random"},
    "all layers": {"start": "pretrained"},
    "read on, all layers": {"start": "read"},
}


def saved(path: Path, content: dict) -> dict:
    with landing(path) as file:
        torch.save(content, file)
    return content


def found_by(data: Data, name: str, run: int, state: Path) -> dict:
    """What a row's run says of the messages that it left out and of the development ones; computed, or read from `state`."""
    path = state / f"{name}, run {run}.pt"
    if path.exists():
        return read_saved(path)
    print(f"--- {name}, run {run}", flush=True)
    begun, more = time.monotonic(), {}
    if "read on" in name:
        more["body"] = reader(data, run, state)
    score = ROWS[name].fit(data, data.without(run), SEEDS[run], **more)
    content = {
        "left out": torch.as_tensor(score(data.left_out(run).text)),
        "development": torch.as_tensor(score(data.development.text)),
        "seconds": time.monotonic() - begun,
    }
    if isinstance(score, FineTuned):  # the others are fitted again, in a second
        content["weights"] = {k: t.bfloat16() for k, t in score.model.state_dict().items()}
        content["width"] = score.width
    return saved(path, content)


def reader(data: Data, run: int, state: Path):
    """The pretrained model after it has read a run's messages, without labels."""
    path, model = state / f"reader {run}.pt", GPTModel(data.cfg)
    if not path.exists():
        torch.manual_seed(SEEDS[run])
        known = data.without(run).text
        read, _ = make_spam_gpt.read_on(data.pretrained, data.cfg, known, data.tokenizer)
        saved(path, read.state_dict())
    model.load_state_dict(read_saved(path))
    return model.eval()


def again(data: Data, name: str, run: int, found: dict):
    """The function from texts to margins that `found_by` had."""
    if "weights" not in found:
        return ROWS[name].fit(data, data.without(run), SEEDS[run])
    model = classifier_from(GPTModel(data.cfg), data.cfg)
    model.load_state_dict(found["weights"])
    read = rows.at_first_token if "first token" in name else rows.at_last_position if "last position" in name else rows.message_logits  # fmt: skip
    return FineTuned(data, model, read, found["width"])


def sealed_margins(data: Data, found: dict, sealed: Path, state: Path) -> dict:
    """What each row's runs say of the sealed messages, which are read here and nowhere else: once, since it is kept."""
    path = state / "sealed.pt"
    if path.exists():
        return read_saved(path)
    content = sealed.read_bytes()
    messages = pd.read_csv(sealed, keep_default_na=False)
    print(f"--- the sealed messages, {len(messages)}", flush=True)
    margins = {
        name: {run: torch.as_tensor(again(data, name, run, one)(messages.text)) for run, one in runs.items()}
        for name, runs in found.items()
    }  # fmt: skip
    about = {
        "labels": is_spam(messages),
        "hard": torch.tensor(messages.hard.astype(str).to_numpy() == "True"),
        "sha256": sha256(content)[:12],
    }
    return saved(path, {"margins": margins} | about)


# --- few labels -----------------------------------------------------------------------------------


def few_of(known: pd.DataFrame, labels: int, seed: int) -> pd.DataFrame:
    """So many of the messages, with their share of spam; fewer are part of more."""
    order = np.random.default_rng(seed).permutation(len(known))
    mixed = known.iloc[order]
    spam = max(2, round(labels * (mixed.label == "spam").mean()))
    return pd.concat([mixed[mixed.label == "spam"][:spam], mixed[mixed.label == "ham"][: labels - spam]])  # fmt: skip


def steps_of(labels: int, epochs: float) -> int:
    """How many steps of training so many epochs are; 0 where there are none."""
    batches = math.ceil(labels / make_spam_gpt.LABELS["batch_size"])
    return 0 if math.isnan(epochs) else batches * int(epochs)


def point(data: Data, name: str, labels: int, run: int, state: Path) -> dict:
    """A point of the learning curve: average precision on the development messages."""
    known = few_of(data.without(run), labels, SEEDS[run])
    fit, options = ROWS[name].fit, {}
    if "start" in METHODS[name]:
        fit, options = rows.fine_tuned("all", **METHODS[name]), {"epochs": FEW[labels]}
        if METHODS[name]["start"] == "read":  # which needs no labels
            options["body"] = reader(data, run, state)
    print(f"--- {labels} labels, {name}, run {run}", flush=True)
    margins = fit(data, known, SEEDS[run], **options)(data.development.text)
    score = average_precision_score(is_spam(data.development), margins)
    return {
        "row": name,
        "labels": labels,
        "run": run,
        "steps": steps_of(labels, options.get("epochs", 0)),
        "average_precision": score,
    }


def learning_curve(data: Data, found: dict, runs: int, state: Path) -> pd.DataFrame:
    """All points; those with all labels are the rows' own."""
    path = state / "learning_curve.csv"
    table = pd.read_csv(path) if path.exists() else pd.DataFrame()
    for labels in FEW:
        for name in METHODS:
            for run in range(min(runs, len(SEEDS))):
                if len(table) and ((table.labels == labels) & (table.row == name) & (table.run == run)).any():  # fmt: skip
                    continue
                table = pd.concat([table, pd.DataFrame([point(data, name, labels, run, state)])])
                write_table(path, table)
    true, all_labels = (
        is_spam(data.development),
        len(data.without(0)),
    )  # the eighths differ by a few
    whole = [
        {"row": name, "labels": all_labels, "run": run, "steps": steps_of(all_labels, ROWS[name].epochs),
         "average_precision": average_precision_score(true, one["development"])}
        for name in METHODS if name in found for run, one in found[name].items()
    ]  # fmt: skip
    return pd.concat([table, pd.DataFrame(whole)], ignore_index=True)


# --- the tables -----------------------------------------------------------------------------------


def compare(out: Path, names: list[str], data: Data, most: int = 5, curve: int = 3, sealed: Path | None = None) -> pd.DataFrame:  # fmt: skip
    """Write the tables beside `out`. ValueError where what was kept is of another model or of other messages."""
    state = out.with_suffix(".state")
    state.mkdir(parents=True, exist_ok=True)
    about = make_spam_gpt.identity_of(data.table)
    if (noted := state / "identity.txt").exists() and noted.read_text() != repr(about):
        raise ValueError(f"{state} is of another model, or of other messages: delete it, or give another --out")  # fmt: skip
    noted.write_text(repr(about))
    found = {
        name: {run: found_by(data, name, run, state) for run in range(min(most, ROWS[name].runs))}
        for name in names
    }
    points = learning_curve(data, found, curve, state) if curve else pd.DataFrame()
    left_out = {run: is_spam(data.left_out(run)) for run in range(len(SEEDS))}
    labels = {"development": is_spam(data.development)}
    hard = {"development": torch.tensor(data.development.hard.to_numpy())}
    margins = {
        name: {run: {p: one[p].numpy() for p in ("left out", "development")} for run, one in runs.items()}
        for name, runs in found.items()
    }  # fmt: skip
    if sealed is not None:  # last of all
        last = sealed_margins(data, found, sealed, state)
        labels["sealed"], hard["sealed"] = last["labels"], last["hard"]
        about["sealed"] = last["sha256"]
        for name, runs in last["margins"].items():
            for run, given in runs.items():
                margins[name][run]["sealed"] = given.numpy()
    table = table_of(margins, labels, hard, left_out)
    seconds = {(n, str(r)): one["seconds"] for n, runs in found.items() for r, one in runs.items()}
    table["seconds"] = [round(seconds.get(key, math.nan), 0) for key in zip(table.row, table.run)]
    table = table.assign(**about, torch=torch.__version__, scikit_learn=sklearn.__version__)
    written = {out: table, out.with_name("calibration.csv"): calibration_of(margins, labels, left_out)}  # fmt: skip
    for path, one in (written | ({out.with_name("learning_curve.csv"): points} if curve else {})).items():  # fmt: skip
        write_table(path, one)
        seal(path)
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the table to write or complete")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--runs", type=int, default=5, help="at most so many of each row")
    parser.add_argument("--curve", type=int, default=3, help="runs of the learning curve; 0: none")
    parser.add_argument("--sealed", type=Path, default=None, metavar="CSV",
                        help="score on these messages, too, last of all: ch06_classification/sealed.csv, once")  # fmt: skip
    options = parser.parse_args(arguments)
    names = [name for name in ROWS if name in {*options.rows, RIVAL}]
    if not 1 <= options.runs <= len(SEEDS):
        parser.error(f"--runs must be 1 to {len(SEEDS)}")
    with program.in_one_line("compare_classifiers", "with what is missing", AssetError):
        table = compare(options.out, names, Data(), options.runs, options.curve, options.sealed)
    shown = ["part", "cases", "row", "average_precision", "average_precision_low", "average_precision_high", "gain_low", "gain_high", "F1"]  # fmt: skip
    print(table[(table.run == "mean") & (table.cases == "all")][shown].round(3).to_string(index=False))  # fmt: skip


if __name__ == "__main__":
    main()
