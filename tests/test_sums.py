"""Stored tables: as their scripts wrote them, and true to the arithmetic among their columns."""

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from shared.files import seal
from tools import chapters

ROOT = Path(__file__).resolve().parents[1]
# a table that is written by hand; compare.csv names the messages that it was made of
BY_HAND = {"ch06_classification/messages.csv"}
# not what a reader's own runs have written, into my/ or elsewhere
FOLDERS = [*(one.folder for one in chapters(ROOT)), ROOT / "benchmarks"]
LISTS = [p for folder in FOLDERS for p in sorted(folder.rglob("SHA256SUMS"))]
LINES = [
    pytest.param(path.parent, *line.split("  ", 1), id=f"{path.parent.name}/{line.split('  ')[1]}")
    for path in LISTS
    for line in path.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("folder, digest, name", LINES)
def test_a_stored_file_is_what_its_script_wrote(folder, digest, name):
    path = folder / name
    assert path.exists(), f"{path.relative_to(ROOT)} is listed in SHA256SUMS, and is not there"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert found == digest, (
        f"{path.relative_to(ROOT)} was changed after its script had written it: restore it "
        "(git checkout), or run the script to its end"
    )


def test_every_table_of_results_has_its_checksum():
    found = (path for folder in FOLDERS for path in folder.rglob("*.csv"))
    tables = {path.relative_to(ROOT).as_posix() for path in found}
    if (ROOT / ".git").exists():  # not a reader's own tables
        listed = subprocess.run(
            ["git", "ls-files", "*.csv"], cwd=ROOT, capture_output=True, text=True
        )
        tables = set(listed.stdout.split())
    sealed = {(p.values[0] / p.values[2]).relative_to(ROOT).as_posix() for p in LINES}
    assert tables - BY_HAND <= sealed, "without a line in SHA256SUMS: call shared.files.seal"


def test_seal_adds_and_replaces(tmp_path):
    for name, text in (("a.csv", "1"), ("b.csv", "2"), ("a.csv", "3")):
        (tmp_path / name).write_text(text)
        seal(tmp_path / name)
    sums = {one: hashlib.sha256(text).hexdigest() for one, text in (("b.csv", b"2"), ("a.csv", b"3"))}  # fmt: skip
    lines = (tmp_path / "SHA256SUMS").read_text()
    assert lines == "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    assert len(list(tmp_path.iterdir())) == 3


def wrong(table, holds):
    """The rows in which something does not hold, in words."""
    return [", ".join(map(str, row[:3])) for row in table[~np.asarray(holds)].values]


def test_classifiers_scores_belong_together():
    path = ROOT / "ch06_classification" / "compare.csv"
    table = pd.read_csv(path)
    precision, recall = table.precision.fillna(0), table.recall
    f1 = 2 * precision * recall / (precision + recall).where(precision + recall > 0, 1)
    alone = table.run != "mean"  # a mean of such fractions is none
    assert wrong(table[alone], ((f1 - table.F1).abs() < 2e-4)[alone]) == [], f"{path}: F1 is not 2PR / (P + R)"  # fmt: skip
    assert (table.average_precision_low <= table.average_precision_high).all()
    single = table[table.run != "mean"]
    for kind, part in table.groupby(["part", "cases"]):
        assert part["count"].nunique() == part.spam.nunique() == 1, (
            f"{path}: {kind} has several sizes"
        )
    for column, size in (("accuracy", single["count"]), ("recall", single.spam), ("accuracy_at_half", single["count"])):  # fmt: skip
        whole = single[column] * size
        near = (whole - whole.round()).abs() < 1e-4 * size
        assert wrong(single, near) == [], f"{path}: {column} is no share of the messages"
    found = (single.recall * single.spam).round()
    false = (found / single.precision - found).round().fillna(0)
    accuracy = (single["count"] - single.spam + found - false) / single["count"]
    assert wrong(single, (accuracy - single.accuracy).abs() < 2e-4) == [], f"{path}: accuracy does not follow from precision and recall"  # fmt: skip
    sizes = table[table.run == "mean"].set_index(["part", "row", "cases"])["count"].unstack()
    assert (sizes["ordinary"] + sizes["hard"] == sizes["all"]).all()
    for column in ("average_precision", "recall"):
        mean = single.groupby(["part", "row", "cases"])[column].mean()
        stored = table[table.run == "mean"].set_index(["part", "row", "cases"])[column]
        assert np.allclose(mean, stored.loc[mean.index], atol=1e-4), f"{path}: {column} of the mean"


def test_assistants_scores_belong_together():
    path = ROOT / "ch07_instruction" / "compare.csv"
    table = pd.read_csv(path)
    for name in ("exact", "rouge_l"):
        known = table.dropna(subset=name)
        inside = known[name].between(known[f"{name}_low"], known[f"{name}_high"])
        assert wrong(known, inside) == [], f"{path}: {name} outside its interval"
    known = table.dropna(subset="exact")
    for (setting, seed), rows in known.groupby(["setting", "seed"]):
        every, families = rows[rows.family == "all"].iloc[0], rows[rows.family != "all"]
        right = (families.exact * families["items"]).round()
        assert (families.exact * families["items"] - right).abs().max() < 0.01, (setting, seed)
        assert right.sum() / families["items"].sum() == pytest.approx(every.exact, abs=1e-4), (
            f"{path}: {setting}, seed {seed}: `exact` of all is not that of its families"
        )
    for (setting, seed), rows in table.groupby(["setting", "seed"]):
        every, families = rows[rows.family == "all"].iloc[0], rows[rows.family != "all"]
        mean = (families.rouge_l * families["items"]).sum() / families["items"].sum()
        assert mean == pytest.approx(every.rouge_l, abs=2e-4), (
            f"{path}: {setting}, seed {seed}: `rouge_l` of all is not that of its families"
        )


def test_ratios_are_ratios():
    path = ROOT / "benchmarks" / "model_speed.csv"
    table = pd.read_csv(path)
    ours, theirs = table["ours, tokens/s"], table["transformers, tokens/s"]
    assert wrong(table, ((ours / theirs) / table.ratio - 1).abs() < 5e-3) == [], f"{path}: ratio"
    shares = table["ours, share of limit"] / table["transformers, share of limit"]
    assert wrong(table, (shares / table.ratio - 1).abs() < 2e-2) == [], f"{path}: shares of limit"
    path = ROOT / "ch05_pretraining" / "pretrain_speed.csv"
    speed = pd.read_csv(path)
    runs = speed[:-1]
    share = runs.tokens_per_second / speed.tokens_per_second.iloc[-1]
    assert wrong(runs, (share - runs.of_the_limit).abs() < 6e-3) == [], f"{path}: of_the_limit"
