"""compare_lora.py: sweeps that go on where they must, runs that can be continued, what each row trains, no test item in a sweep."""

from concurrent.futures import Future
from pathlib import Path

import pandas as pd
import pytest
import torch
from scripts import scripts

from shared import editions, models
from shared.files import SUMS
from shared.gpt_model import GPTModel
from shared.lora import NF4Linear

FOLDER = Path(__file__).parent.parent / "appendix_e_lora"
tasks, compare, cost = scripts(FOLDER, "lora_tasks", "compare_lora", "compare_cost")
INF = float("inf")
TINY = {"vocab_size": 4096, "context_length": 256, "emb_dim": 64, "n_heads": 2, "n_layers": 2}
TINY |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


def tiny(first=True):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return GPTModel(TINY).eval(), TINY


class InOneProcess:
    """A pool that computes at once, here: the settings of a test are not those of another process."""

    def __init__(self, *args, **given):
        self.threads = torch.get_num_threads()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        torch.set_num_threads(self.threads)

    def submit(self, call, *args):
        done = Future()
        done.set_result(call(*args))
        return done


@pytest.fixture
def small(monkeypatch, short_story):
    """The course with a tiny model, few instructions, the first letters of messages, and a short story."""
    kept, found = editions.read_instructions(editions.INSTRUCTIONS), []
    for part, count in (("train", 60), ("validation", 3), ("test", 4)):
        found += [e for e in kept if e["split"] == part and e["family"] in tasks.FAMILIES][:count]
    table = editions.messages()
    table = pd.concat(rows[:1020] for _, rows in table.groupby("split"))
    monkeypatch.setattr(models, "pretrained", tiny)
    monkeypatch.setattr(editions, "read_instructions", lambda *_: found)
    monkeypatch.setattr(editions, "messages", lambda: table.assign(text=table.text.str[:12]))
    monkeypatch.setattr(compare, "ProcessPoolExecutor", InOneProcess)
    monkeypatch.setattr(tasks, "BATCH", 30)
    caches = tasks.messages, tasks.entries
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


# --- sweeps ---------------------------------------------------------------------------------------


def losses(**by_rate):
    """`losses(e4=2.0)`: 2.0 at a rate of 1e-4, and so on: t4 is 3e-4."""
    rates = {float(f"{'1' if name[0] == 'e' else '3'}e-{name[1]}"): v for name, v in by_rate.items()}  # fmt: skip
    return pd.Series(rates, dtype=float).sort_index()


@pytest.mark.parametrize(
    "found, middle, want",
    [
        ({}, 1e-3, [3e-4, 1e-3, 3e-3]),
        ({}, 3e-5, [1e-5, 3e-5, 1e-4]),
        ({"t4": 2, "e3": 1, "t3": 2}, 1e-3, []),
        ({"t4": 3, "e3": 2, "t3": 1}, 1e-3, [1e-2]),  # the best is the last: on
        ({"t4": 1, "e3": 2, "t3": 3}, 1e-3, [1e-4]),
        ({"t4": 3, "e3": 2, "t3": 1, "e2": 0.5, "t2": 0.4}, 1e-3, [1e-1]),
        ({"t4": 3, "e3": 2, "t3": 1, "e2": 1.5}, 1e-3, []),
        ({"t4": 1, "e3": INF, "t3": INF}, 1e-3, [1e-4]),  # too high a rate
        ({"t4": INF, "e3": INF, "t3": INF}, 1e-3, [1e-4]),
        ({"t4": 1, "e3": 0.5, "t3": INF}, 1e-3, []),
        ({"e5": 1, "t5": 2, "e4": 3}, 3e-5, []),  # the grid ends here
        ({"t2": 3, "e1": 2, "t1": 1}, 1e-1, []),
        ({"e3": 1, "t3": 1, "e2": 1}, 3e-3, [3e-4]),
    ],
    ids=str,
)
def test_which_rates_come_next(found, middle, want):
    assert compare.rates_to_try(losses(**found), middle) == want


def test_every_sweep_begins_inside_the_grid():
    assert all(compare.GRID[0] < row.middle < compare.GRID[-1] for row in tasks.ROWS.values())
    assert {row for rows in compare.TASKS.values() for row in rows} == set(tasks.ROWS)


def fake_run(task, row, rate, seed):
    """The best rate is the sweep's first middle times 10; above three times that nothing is finite."""
    best = compare.GRID.index(tasks.ROWS[row].middle) + 2
    place = compare.GRID.index(rate)
    if seed != compare.SWEEP:
        return {"score": 0.5 + seed / 1000, "trained": 7}
    return {"loss": INF if place > best + 1 else 1.0 + abs(place - best), "trained": 7}


@pytest.fixture
def faked(monkeypatch):
    """Two rows of the first task and one of the second; what was run is noted."""
    asked = []
    monkeypatch.setattr(compare, "ProcessPoolExecutor", InOneProcess)
    monkeypatch.setattr(compare, "run", lambda *key: asked.append(key) or fake_run(*key))
    few = {"spam": ["rank 8", "the book's first A"], "instructions": ["last block"]}
    monkeypatch.setattr(compare, "TASKS", few)
    return asked


def test_from_nothing_to_the_last_seed(faked, tmp_path, capsys):
    assert len(compare.jobs_of(pd.DataFrame())) == 9  # three rates of three rows
    table = compare.compare(tmp_path / "table.csv", 2)
    assert compare.jobs_of(table) == [] and len(faked) == len(set(faked)) == len(table)
    for task, rows in compare.TASKS.items():
        for row in rows:
            middle = compare.GRID.index(tasks.ROWS[row].middle)
            found = table[(table.task == task) & (table.row == row)]
            swept = found[found.seed == compare.SWEEP]
            # three, and on to the first one that is worse
            assert swept.rate.tolist() == list(compare.GRID[middle - 1 : middle + 4])
            assert compare.best_rate(table, task, row) == compare.GRID[middle + 2]
            assert set(found[found.seed != compare.SWEEP].seed) == set(compare.SEEDS)
            assert set(found[found.seed != compare.SWEEP].rate) == {compare.GRID[middle + 2]}
    read = pd.read_csv(tmp_path / "table.csv", dtype={"checkpoint": str})
    pd.testing.assert_frame_equal(read, table, check_dtype=False)
    assert compare.jobs_of(read) == []
    assert len(capsys.readouterr().out.splitlines()) == len(table)


@pytest.mark.parametrize("kept", [0, 5, -1])
def test_a_table_that_was_interrupted_is_completed(kept, faked, tmp_path):
    """By the order in which lines were written, and whatever is missing."""
    path = tmp_path / "table.csv"
    whole = compare.compare(path, 1)
    first = list(faked)
    keys = whole[compare.KEY].apply(tuple, axis=1)
    part = whole[keys.isin(first[:kept])]
    compare.write_table(path, part) if kept else path.unlink()
    faked.clear()
    again = compare.compare(path, 1)
    assert sorted(faked) == sorted(set(first) - set(first[:kept]))
    pd.testing.assert_frame_equal(again.drop(columns="seconds"), whole.drop(columns="seconds"))


def test_nothing_is_lost_when_a_run_fails(faked, tmp_path, monkeypatch):
    def run(*key):
        if len(faked) == 6:
            raise MemoryError
        faked.append(key)
        return fake_run(*key)

    monkeypatch.setattr(compare, "run", run)
    with pytest.raises(MemoryError):
        compare.compare(tmp_path / "table.csv", 1)
    assert len(pd.read_csv(tmp_path / "table.csv")) == 6


def test_a_table_of_another_checkpoint_is_refused(faked, tmp_path):
    path = tmp_path / compare.SCORES.name
    compare.write_table(path, compare.compare(path, 1).assign(checkpoint="0123456789ab"))
    before = path.read_bytes()
    faked.clear()
    with pytest.raises(SystemExit, match=r"compare_lora: .*compare_lora.csv is of another checkpoint: delete it, or give another --out"):  # fmt: skip
        compare.main(["--out", str(path)])
    assert path.read_bytes() == before and not faked


def test_a_table_of_another_model_or_of_something_else_is_refused(faked, tmp_path, monkeypatch):
    path = tmp_path / compare.SCORES.name
    compare.compare(path, 1)
    monkeypatch.setenv("COURSE_MODEL", "gpt2")
    with pytest.raises(ValueError, match="is of another checkpoint: delete it"):
        compare.compare(path, 1)
    path.unlink()
    assert set(compare.compare(path, 1).checkpoint) == {"gpt2"}
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="is of another checkpoint: delete it"):
        compare.compare(path, 1)


def test_the_table_has_the_order_of_the_rows():
    rows = [("instructions", "last block", 1e-3, 123), ("spam", "head", 1e-2, 124)]
    rows += [("spam", "head", 1e-2, 123), ("spam", "head", 1e-3, 122), ("spam", "rank 1", 1e-3, 122)]  # fmt: skip
    rows += [("instructions", "rank 8", 3e-3, 122), ("spam", "rank 64", 1e-4, 122)]
    rows += [("spam", "head", 3e-4, 122), ("spam", "rank 8", 1e-4, 122)]
    table = compare.in_order(pd.DataFrame(rows, columns=compare.KEY))
    assert list(table.itertuples(index=False, name=None)) == [
        ("instructions", "rank 8", 3e-3, 122),
        ("instructions", "last block", 1e-3, 123),
        ("spam", "rank 8", 1e-4, 122),
        ("spam", "head", 3e-4, 122),
        ("spam", "head", 1e-3, 122),
        ("spam", "head", 1e-2, 123),
        ("spam", "head", 1e-2, 124),
        ("spam", "rank 1", 1e-3, 122),
        ("spam", "rank 64", 1e-4, 122),
    ]


# --- what a row trains ----------------------------------------------------------------------------

LAYERS = {"query and value": ("W_query", "W_value")}
LAYERS["attention and feed-forward"] = tasks.ATTENTION + tasks.FEED_FORWARD


def expected(row, task, names):
    """The names of the parameters that learn, from what the docstring and the row's name say."""
    head = {n for n in names if n.startswith("out_head")} if task == "spam" else set()
    if row == "head":
        return head
    if row == "all weights":  # the language model's embedding is its head, and stays
        return set(names) - (set() if task == "spam" else {"tok_emb.weight", "out_head.weight"})
    if row == "last block":
        return head | {n for n in names if n.startswith(("trf_blocks.1.", "final_norm."))}
    layers = LAYERS.get(row, tasks.ATTENTION)
    return head | {
        f"{name.removesuffix('.weight')}.lora.{letter}"
        for name in names
        for letter in "AB"
        if name.removesuffix(".weight").endswith(layers)
    }


@pytest.mark.parametrize("task, row", [(t, row) for t, rows in compare.TASKS.items() for row in rows])  # fmt: skip
def test_every_row_trains_what_it_says(task, row):
    model, cfg = tiny()
    model = tasks.classifier_from(model, cfg) if task == "spam" else model
    names = list(dict(model.named_parameters()))
    recipe = tasks.ROWS[row]
    learn = tasks.prepare(model, recipe, task)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(named) == expected(row, task, names)
    assert [id(p) for p in learn] == [id(p) for p in named.values()]
    loras = [layer.lora for layer in compare.lora_layers(model).values()]
    assert bool(loras) == (recipe.train == "lora")
    rank = int(row.split()[1]) if row.startswith("rank ") else 8
    four = [name for name, part in model.named_modules() if isinstance(part, NF4Linear)]
    assert len(four) == (12 if row == "rank 8 on 4 bits" else 0)
    scaling = row.removeprefix("scale ") if row.startswith("scale ") else "alpha/rank"
    assert {(one.rank, one.alpha, one.scaling) for one in loras} <= {(rank, 8, scaling)}
    bound = 1 / 8**0.5 if row == "the book's first A" else 1 / TINY["emb_dim"] ** 0.5
    for name, layer in compare.lora_layers(model).items():
        if ".ff." not in name:
            assert 0.8 * bound < layer.lora.A.abs().max() <= bound


def test_only_what_learns_is_moved(small):
    torch.manual_seed(0)
    for task in compare.TASKS:
        model = tasks.train(task, tasks.DEFAULT, 1e-2, 123)
        assert not model.training
        moved = {name.replace(".linear.", "."): p for name, p in model.named_parameters()}
        for name, parameter in tiny()[0].named_parameters():
            if task == "instructions" or not name.startswith("out_head"):
                assert moved[name].equal(parameter), name
        assert all(layer.lora.B.any() for layer in compare.lora_layers(model).values())


# --- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", compare.TASKS)
@pytest.mark.parametrize("seed", [compare.SWEEP, compare.SEEDS[0]])
def test_a_sweep_sees_no_test_item_and_the_seeds_no_validation_item(task, seed, small, monkeypatch):
    seen = set()
    for name in ("messages", "entries"):
        read = getattr(tasks, name)
        monkeypatch.setattr(tasks, name, lambda part, *more, read=read: seen.add(part) or read(part, *more))  # fmt: skip
    found = compare.run(task, "last block", 1e-3, seed)
    assert seen == {"train", "validation" if seed == compare.SWEEP else "test"}
    if seed == compare.SWEEP:
        assert found["loss"] > 0
    else:
        assert 0 <= found["score"] <= 1


def test_too_high_a_rate_has_an_infinite_loss(small, monkeypatch):
    assert compare.run("spam", "all weights", 1e30, compare.SWEEP) == {"loss": INF}

    def train(*_):
        raise ValueError("messages.csv is damaged")

    monkeypatch.setattr(compare, "train", train)
    with pytest.raises(ValueError, match="damaged"):  # which is no matter of the rate
        compare.run("spam", "rank 8", 1e-3, compare.SWEEP)


def test_a_seed_repeats_and_another_differs(small):
    one, two, other = (compare.run("spam", "head", 1e-2, seed) for seed in (123, 123, 124))
    assert one == two != other


def test_off_the_prose_is_the_bases_to_the_last_bit(small):
    found = compare.run("instructions", "rank 8", 1e-2, 123)
    assert found["prose_off"] == tasks.prose_bits(tiny()[0]) != found["prose"]
    assert "prose_off" not in compare.run("instructions", "last block", 1e-2, 123)
    found = compare.run("instructions", "rank 8 on 4 bits", 1e-2, 123)
    assert found["prose_off"] not in (found["prose"], tasks.prose_bits(tiny()[0]))


def test_from_the_command_to_both_tables(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "TASKS", {"spam": ["rank 8"], "instructions": ["rank 8"]})
    monkeypatch.setattr(compare, "GRID", (1e-3, 3e-3, 1e-2))
    monkeypatch.setattr(compare, "SEEDS", (123,))
    path, other = tmp_path / compare.SCORES.name, tmp_path / cost.COST.name
    compare.main(["--out", str(path), "--processes", "1"])
    scores = pd.read_csv(path)
    assert len(scores) == 2 * (3 + len(compare.SEEDS)) == len(capsys.readouterr().out.splitlines())
    ends = scores[scores.seed != compare.SWEEP]
    assert ends.score.between(0, 1).all() and ends.prose.notna().sum() == len(compare.SEEDS)
    assert (scores.prose.notna() == (scores.task == "instructions")).all()
    assert scores.trained.groupby(scores.task).nunique().eq(1).all()
    before = path.read_bytes()
    compare.main(["--out", str(path)])  # there is nothing left to do
    assert path.read_bytes() == before
    cost.main(["--out", str(other)])
    costs = pd.read_csv(other, index_col="row")
    assert (costs[["seconds", "use_seconds", "merged_seconds", "peak_mb", "file_mb"]] > 0).all(axis=None)  # fmt: skip
    assert costs.loc["all weights", "ratio"] == 1 and (costs.lowest <= costs.highest).all()
    assert costs.trained["rank 64"] - costs.trained["head"] == 8 * (costs.trained["rank 8"] - costs.trained["head"])  # fmt: skip
    assert (costs.file_mb.sort_values().index == costs.trained.sort_values().index).all()
    sums = (tmp_path / SUMS).read_text().splitlines()
    assert [line.split("  ")[1] for line in sums] == [path.name, other.name]


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.skipif(not (compare.SCORES).exists(), reason="the long run has not ended")
def test_the_stored_tables_have_every_row_with_every_seed():
    table = pd.read_csv(compare.SCORES, dtype={"checkpoint": str})
    assert compare.jobs_of(table) == [] and compare.in_order(table).equals(table)
    assert not table.duplicated(compare.KEY).any()
    for task, rows in compare.TASKS.items():
        for row in rows:
            found = table[(table.task == task) & (table.row == row) & (table.seed != compare.SWEEP)]
            assert set(found.seed) == set(compare.SEEDS) and found.score.between(0, 1).all()
            assert set(found.rate) == {compare.best_rate(table, task, row)}
    off = table[table.prose_off.notna()].groupby("row").prose_off.nunique()
    assert off.to_dict() == {"rank 8": 1, "rank 8 on 4 bits": 1}  # each time the base's
    assert len(pd.read_csv(cost.COST)) == 7
