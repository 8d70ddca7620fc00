"""compare_training.py: every row with its seeds in the stored tables; a run can be continued; the text of a run is its own."""

from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import pytest
import torch
from scripts import scripts

from shared.measure import fast_in_bf16

FOLDER = Path(__file__).parent.parent / "appendix_d_training"
drills, compare, speed = scripts(FOLDER, "drills", "compare_training", "compare_speed")


@pytest.fixture
def small(monkeypatch):
    """Two rows, two rates, one seed, few windows, and no story."""
    monkeypatch.setattr(compare, "WINDOWS", 64)
    monkeypatch.setattr(compare, "LOOKS", 2)
    monkeypatch.setattr(compare, "SEEDS", (1,))
    monkeypatch.setattr(compare, "DROPOUTS", ())
    monkeypatch.setattr(compare, "SWEPT", {"AdamW": (1e-3, 1e9), "Muon": (1e-3,)})
    monkeypatch.setattr(compare, "CONFIG", compare.CONFIG | {"emb_dim": 16, "n_heads": 2})


def test_the_stored_table_has_every_row_with_every_seed():
    table = pd.read_csv(compare.LOSSES)
    for name, recipe in compare.ROWS.items():
        ends = compare.ends_of(table, "change", name)
        assert set(ends.seed) >= set(compare.seeds_of(recipe, fast=False)), name
        assert set(ends.rate) == {recipe.peak * compare.best_rate(table, recipe.optimizer)}, name
        assert set(ends.tokens) == {compare.WINDOWS * drills.T}, name
    for name, rates in compare.SWEPT.items():
        assert sorted(compare.ends_of(table, "sweep", name).rate) == sorted(rates)
    assert len(compare.ends_of(table, "story")) == len(compare.DROPOUTS) * len(compare.SEEDS)
    assert list(pd.read_csv(compare.SPEED).row) == list(compare.ROWS)


@pytest.mark.parametrize("name", compare.ROWS)
def test_every_row_changes_what_it_says(name, small):
    """A step of each recipe moves the weights; what only computes otherwise moves them to the same place."""
    recipe = compare.ROWS[name]
    if recipe.compile or recipe.bf16 and not fast_in_bf16("cpu"):
        pytest.skip("compiles for half a minute, or is emulated")

    def weights(recipe):
        model, compiled, optimizer = compare.make_training(recipe, 1e-2, 1)
        batch = drills.windows(1, recipe.batch)[:]
        for _ in range(2):
            compare.step_of(recipe, compiled, optimizer, batch, 1e-2)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    same = ("the plain loop", "16 in pieces of 4", "fused", "warm-up", "cosine", "linear")
    same += ("stable, then decay", "warm-up and cosine")  # the rates are given here
    same += ("clipping",)  # two gradients of about the same length: Adam divides by it
    assert torch.allclose(weights(recipe), weights(compare.PLAIN), atol=1e-3) == (name in same)


def test_a_table_that_was_interrupted_is_completed(small, tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    rows = ["the plain loop", "16 in pieces of 4"]
    monkeypatch.setattr(compare, "ProcessPoolExecutor", InOneProcess)
    whole = compare.compare(path, 1, rows)
    assert compare.best_rate(whole, "AdamW") == 1e-3
    assert set(compare.ends_of(whole, "change").row) == set(rows)
    compare.write_table(path, whole.iloc[:-2])  # without the last run
    again = compare.compare(path, 1, rows)
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), whole.drop(columns="seconds"), rtol=1e-5)  # fmt: skip
    ends = compare.ends_of(again, "change").valid_loss
    assert abs(ends.iloc[0] - ends.iloc[1]) < 1e-4


class InOneProcess:
    """A pool that computes at once, here: the settings of this test are not those of another process."""

    def __init__(self, *args, **given):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, call, *args):
        done = Future()
        done.set_result(call(*args))
        return done


def test_drills_never_overlap_between_seeds():
    seeds = (1, 2, *compare.SEEDS)
    found = [tuple(w) for seed in seeds for w in drills.windows(seed, 100)[:][0].tolist()]
    assert len(set(found)) == len(found)


def test_copying_is_1_for_a_model_that_copies():
    class Copier(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, ids):
            said = torch.zeros(*ids.shape, drills.V)
            for row, line in enumerate(ids.tolist()):
                last = {}
                for place, word in enumerate(line):
                    said[row, place, last.get(word, 0)] = 1
                    if place:
                        last[line[place - 1]] = word
            return said

    assert drills.copying(Copier()) == 1
    torch.manual_seed(1)
    assert drills.copying(compare.make_training(compare.PLAIN, 1e-3, 1)[0]) < 0.1


def test_speed_is_measured_beside_the_plain_loop(small):
    row = speed.measured(compare.ROWS["fused"], rounds=3, tokens=2048)
    assert row["lowest"] <= row["ratio"] <= row["highest"] and row["first_step"] > 0
