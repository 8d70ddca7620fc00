"""Scores of compare_classifiers.py, from margins: tables with intervals that take messages and runs by chance.

A margin is the logit of spam minus that of ham. `margins[row][run]` has those of one row's run, by part.
"""

import numpy as np
import pandas as pd
import torch
from classifier_rows import ADDED, RIVAL, ROWS
from sklearn.linear_model import LogisticRegression

from shared.classification import average_precision, choose_threshold, scores

DRAWS = 2_000
BINS = np.linspace(0, 1, 11)


def probability(margins) -> torch.Tensor:
    return torch.as_tensor(np.asarray(margins), dtype=torch.float64).sigmoid()


def with_added(margins: dict, left_out: dict) -> dict:
    """The rows, and those that are sums of two: run by run, or of all runs, whose mean is then one run.

    The weights of a sum are those of a logistic regression on the messages that the runs had left out.
    """
    found = dict(margins)
    for name, (one, other, whole) in ADDED.items():
        runs = [run for run in margins.get(one, ()) if run in margins.get(other, ())]
        if not runs:
            continue
        pairs = {
            run: {p: np.stack([margins[one][run][p], margins[other][run][p]], axis=1) for p in margins[one][run]}
            for run in runs
        }  # fmt: skip
        fit = LogisticRegression().fit(
            np.concatenate([pairs[run]["left out"] for run in runs]),
            np.concatenate([left_out[run].numpy() for run in runs]),
        )
        sums = {r: {p: fit.decision_function(x) for p, x in pairs[r].items()} for r in runs}
        if whole:  # what one run has left out, others have learned: "left out" is of no use
            rest = [part for part in sums[runs[0]] if part != "left out"]
            sums = {runs[0]: {p: np.mean([sums[run][p] for run in runs], axis=0) for p in rest}}
        found[name] = sums
    return found


def threshold_of(runs: dict, left_out: dict[int, torch.Tensor]) -> float:
    """The threshold with the highest F1 on the messages that a row's runs had left out, all together."""
    labels = torch.cat([left_out[run] for run in runs])
    return choose_threshold(labels, probability(np.concatenate([runs[r]["left out"] for r in runs])))  # fmt: skip


def draws_of(count: int) -> torch.Tensor:
    """How often each of so many messages comes in each draw with replacement: `(DRAWS, count)`."""
    drawn = np.random.default_rng(123).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    return torch.tensor(drawn, dtype=torch.float32)


def interval(drawn: torch.Tensor) -> tuple[float, float]:
    """The middle 95 % of what was drawn."""
    low, high = drawn.nanquantile(torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    return low, high


def precisions(labels: torch.Tensor, runs: dict, chosen, part: str, counts) -> torch.Tensor:
    """Average precision of a row's runs in each draw of messages, `(draws, runs)`; the first draw is the messages themselves."""
    given = torch.cat([torch.ones_like(counts[:1]), counts])
    found = [
        average_precision(labels[chosen], torch.tensor(one[part])[chosen], given)
        for one in runs.values()
    ]
    return torch.stack(found, dim=1)


def lines_of(name: str, runs: dict, rival: dict, labels, cases: dict, part: str, threshold: float) -> list[dict]:  # fmt: skip
    """The table's lines of one row on one part: for each kind of cases its runs, and their mean.

    `gain` is the average precision above that of `rival` on the same messages, which learned from the same ones.
    """
    lines = []
    pairs = {run: rival.get(run, next(iter(rival.values()))) for run in runs}
    for kind, chosen in cases.items():
        true, counts = labels[chosen], draws_of(int(chosen.sum()))
        about = {
            "part": part,
            "row": name,
            "cases": kind,
            "count": len(true),
            "spam": int(true.sum()),
        }
        own = precisions(labels, runs, chosen, part, counts)
        gain = own - precisions(labels, pairs, chosen, part, counts)
        few = []
        for i, (run, one) in enumerate(runs.items()):
            p = probability(one[part])[chosen]
            found = scores(true, (p >= threshold).long())
            found["accuracy_at_half"] = scores(true, (p >= 0.5).long())["accuracy"]
            few.append(found)
            lines.append(
                about | {"run": str(run)} | with_intervals(own[:, [i]], gain[:, [i]]) | found
            )
        mean = pd.DataFrame(few).mean().to_dict()
        lines.append(about | {"run": "mean"} | with_intervals(own, gain) | mean)
    return lines


def with_intervals(own: torch.Tensor, gain: torch.Tensor) -> dict:
    """The mean over runs, with the interval over draws of messages, each with runs drawn anew: of own, and of the gain."""
    drawn = torch.randint(own.shape[1], (len(own) - 1, own.shape[1]), generator=torch.Generator().manual_seed(123))  # fmt: skip
    found = {}
    for name, values in {"average_precision": own, "gain": gain}.items():
        low, high = interval(values[1:].gather(1, drawn).mean(dim=1))
        found |= {name: values[0].mean().item(), f"{name}_low": low, f"{name}_high": high}
    return found


def table_of(margins: dict, labels: dict, hard: dict, left_out: dict) -> pd.DataFrame:
    """All lines: of each part of `labels`, on all, ordinary and hard messages."""
    lines, rows = [], with_added(margins, left_out)
    for part, true in labels.items():
        cases = {"all": torch.ones_like(hard[part])}
        if hard[part].any():
            cases |= {"ordinary": ~hard[part], "hard": hard[part]}
        for name, runs in rows.items():
            whole = ADDED.get(name, (0, 0, False))[2]
            # the sum of all runs has left out nothing: the threshold of the sums, run by run, is its own
            by_run = next((n for n, one in ADDED.items() if one[:2] == ADDED[name][:2] and not one[2])) if whole else name  # fmt: skip
            threshold = threshold_of(rows[by_run], left_out)
            row = ROWS.get(name) or ROWS[ADDED[name][0]]
            about = {"threshold": threshold, "epochs": row.epochs, "peak": row.peak}
            lines += [line | about for line in lines_of(name, runs, rows[RIVAL], true, cases, part, threshold)]  # fmt: skip
    return pd.DataFrame(lines)


def calibration_of(margins: dict, labels: dict, left_out: dict) -> pd.DataFrame:
    """Of each row with probabilities: messages by what was said of them, in ten bins, and the share of spam there."""
    lines = []
    for name, runs in with_added(margins, left_out).items():
        if name in ("majority", "keyword rule"):
            continue
        for part, true in labels.items():
            said = torch.cat([probability(run[part]) for run in runs.values()]).numpy()
            spam = true.repeat(len(runs)).numpy()
            bins = np.digitize(said, BINS[1:-1])
            for i in np.unique(bins):
                here = bins == i
                lines.append({"row": name, "part": part, "low": BINS[i], "high": BINS[i + 1], "messages": here.sum(),
                              "probability": said[here].mean(), "spam": spam[here].mean()})  # fmt: skip
    return pd.DataFrame(lines)
