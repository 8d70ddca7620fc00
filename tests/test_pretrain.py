"""Pretraining on toy works: what a run computes, that nothing of it is lost, and what it refuses."""

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from shared import editions, encodings, lexicon, models, optimizers
from shared.corpus import read_documents, split_held_out
from shared.gpt_model import GPTModel
from shared.pretraining import bits_per_byte, initialize
from shared.training import parameter_groups

FOLDER = Path(__file__).resolve().parents[1] / "ch05_pretraining"
sys.path.insert(0, str(FOLDER))

import measuring  # noqa: E402
import mixture  # noqa: E402
import pretrain  # noqa: E402
import run_state  # noqa: E402
import settling  # noqa: E402
import steps  # noqa: E402

END = 4095
WORDS = "the old miller and his three sons went to a far river but no boat was there".split()
TINY = "--layers 1 --width 16 --heads 2 --context 16 --batch 64 --piece 2 --warmup 200"
TINY += " --log-tokens 128 --precision fp32 --device cpu --file-tokens 2000 --tokens 1024"
CFG = {"vocab_size": 4096, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
CFG |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six works of some hundred tokens, each about another number."""
    folder = tmp_path_factory.mktemp("toy") / "corpus"
    folder.mkdir()
    lines = [[WORDS[(7 * i * i + i * work) % 17] for i in range(300)] for work in range(6)]
    texts = [f"Work {i}\n\n{' '.join(line)} {i}{i}{i}." for i, line in enumerate(lines)]
    (folder / "works.txt").write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    return folder


def held_out(corpus, *titles):
    """A list of works that are held out, beside the corpus."""
    path = corpus.parent / f"held_out{''.join(titles)[-1:]}.tsv"
    if not path.exists():
        rows = [f"{title}\t\n" for title in titles or ("Work 1", "Work 4")]
        path.write_text("title\tsha256\n" + "".join(rows))
    return path


def arguments(corpus, out, *more):
    """Later ones override earlier ones."""
    given = ["--corpus", corpus, "--out", out, "--held-out", held_out(corpus)]
    return [*map(str, given), *TINY.split(), *map(str, more)]


def run(corpus, out, *more):
    """A run in this process; its log without what the clock says."""
    pretrain.main(arguments(corpus, out, *more))
    return log(out)


def log(out):
    with (out / "log.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: float(v) for k, v in row.items() if "second" not in k} for row in rows]


def refused(*given):
    """The one line with which the script refuses."""
    with pytest.raises(SystemExit) as caught:
        run(*given)
    message = str(caught.value)
    assert message.startswith("pretrain: ") and len(message.splitlines()) == 1
    return message


def weights(out):
    return torch.load(out / "state.pt", weights_only=True)["model"]


def same_rows(one, other):
    """Whether two logs are equal but for sums in another order: losses and, before the clipping, gradients."""
    digits = {"grad_norm": 2e-4}  # rounded to four
    close = [abs(a[k] - b[k]) <= digits.get(k, 2e-5) for a, b in zip(one, other) for k in a]
    return [*map(list, one)] == [*map(list, other)] and all(close)


def files(out):
    """The files of a run by name."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def same_weights(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stopped(corpus, out, monkeypatch, *more, at=5, by=signal.SIGTERM):
    """A run that is asked to stop in step `at`."""
    step = pretrain.train_step

    def step_and_signal(loss, optimizers, state, *rest):
        if state["step"] == at - 1:
            signal.raise_signal(by)
        return step(loss, optimizers, state, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "train_step", step_and_signal)
        assert "the same command continues" in refused(corpus, out, *more)


@pytest.fixture(scope="module")
def unkilled(corpus, tmp_path_factory):
    """A run from start to end, and its log."""
    out = tmp_path_factory.mktemp("runs") / "unkilled"
    return out, run(corpus, out)


# --- schedule, groups, first weights ---


def rates(total, warmup, decay, batch=1, lr=2.0):
    run = SimpleNamespace(total=total, warmup=warmup, decay=decay, lr=lr)
    return [steps.learning_rate(before, batch, run) for before in range(0, total, batch)]


def test_the_learning_rate_rises_stays_and_falls():
    rate = rates(1000, 100, 200)
    assert rate[0] == pytest.approx(0.02) and rate[49] == 1 and rate[98] < 2
    assert set(rate[99:801]) == {2.0} and rate[801] < 2
    assert rate[900] == 1 and rate[999] == pytest.approx(0.01)
    assert rate[:100] == sorted(rate[:100]) and rate[800:] == sorted(rate[800:], reverse=True)


def test_the_learning_rate_at_the_corners():
    assert set(rates(50, 0, 0)) == {2.0}  # neither warm-up nor decay
    assert rates(4, 0, 4) == [2.0, 1.5, 1.0, 0.5]  # nothing but decay
    assert rates(4, 4, 0) == [0.5, 1.0, 1.5, 2.0]  # nothing but warm-up
    assert rates(4, 2, 2) == [1.0, 2.0, 2.0, 1.0]
    for warmup, decay in ((0, 0), (0, 64), (64, 0)):  # one step
        assert rates(64, warmup, decay, 64) == [2.0]
    assert rates(128, 32, 32, 64) == [2.0, 2.0]  # steps that are longer than either


@pytest.mark.parametrize(
    "given, tokens, warmup, decay",
    [
        ((None, None), 1024, 102, 204),
        ((None, None), 10e6, 400_000, 2_000_000),
        ((None, 0.0), 1e6, 100_000, 0),
        ((0.0, 1e5), 1e6, 0, 100_000),
    ],
)
def test_the_plan_of_a_run(given, tokens, warmup, decay):
    options = {"asked_warmup": given[0], "asked_decay": given[1], "minutes": None}
    run = SimpleNamespace(tokens=tokens, batches=[(0, 64)], out=Path("run"), **options)
    state = {"tokens": 0, "step": 0, "total": 0, "decay": 0, "decaying": False}
    pretrain.plan(run, None, state)
    assert (run.total, run.warmup, run.decay) == (tokens, warmup, decay)
    assert (state["total"], state["decay"]) == (tokens, decay)


def test_the_last_batch_that_has_begun_counts():
    batches = [(0.0, 64), (256.0, 128), (600.0, 192)]
    sizes = [steps.batch_at(tokens, batches) for tokens in (0, 255, 256, 599, 600, math.inf)]
    assert sizes == [64, 64, 128, 128, 192, 192]
    run = SimpleNamespace(total=1000, batches=batches)
    assert not steps.finished(run, {"tokens": 808}) and steps.finished(run, {"tokens": 809})


def test_only_matrices_decay_and_a_tied_one_counts_once():
    model = GPTModel(CFG)
    matrices, vectors = parameter_groups(model, 0.3)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() == 2 for p in matrices["params"])
    assert all(p.dim() == 1 for p in vectors["params"])
    together = matrices["params"] + vectors["params"]
    assert len({id(p) for p in together}) == len(together) == len(list(model.parameters()))
    assert sum(p is model.tok_emb.weight for p in together) == 1
    model.pos_emb.weight.requires_grad_(False)
    assert len(parameter_groups(model, 0.3)[0]["params"]) == len(matrices["params"]) - 1


@torch.no_grad()
def test_first_weights_start_at_the_loss_of_a_guess():
    torch.manual_seed(1)
    model = GPTModel(CFG | {"emb_dim": 64})
    initialize(model)
    block = model.trf_blocks[1]
    assert block.ff.layers[0].weight.std() == pytest.approx(0.02, rel=0.1)
    assert block.ff.layers[2].weight.std() == pytest.approx(0.01, rel=0.1)  # 0.02 / sqrt(2 * 2)
    assert block.att.out_proj.weight.std() == pytest.approx(0.01, rel=0.1)
    assert not block.att.W_query.bias.any() and (block.norm1.scale == 1).all()
    assert model.tok_emb.weight is model.out_head.weight
    mean = measuring.Loss(model)(torch.randint(4096, (4, 17))) / 64
    assert mean == pytest.approx(math.log(4096), rel=0.01)


# --- tokens ---


def test_the_stored_tokens_are_the_tokenizers(corpus, tmp_path):
    tokenizer = encodings.tokenizer()
    run(corpus, tmp_path)
    parts = split_held_out(read_documents(corpus), held_out(corpus))
    paths = [next(tmp_path.glob(pattern)) for pattern in ("train-corpus-*.npy", "valid-*.npy")]
    for path, documents in zip(paths, parts):
        expected = [END]
        for document in documents:
            expected += [*tokenizer.encode(document.text), END]
        stored = np.load(path)
        assert stored.dtype == np.uint16 and stored.tolist() == expected
    train, valid = (tokenizer.decode(np.load(path).tolist()) for path in paths)
    titles = [re.findall(r"Work \d", text) for text in (train, valid)]
    assert titles == [["Work 0", "Work 2", "Work 3", "Work 5"], ["Work 1", "Work 4"]]


def test_the_same_list_is_held_out_of_tokenizer_and_model():
    for script in (editions.CHAPTER_2 / "train_tokenizer.py", FOLDER / "pretrain.py"):
        source = script.read_text(encoding="utf-8")
        assert re.search(r'"--held-out",\s*type=Path,\s*default=HELD_OUT', source), script


# --- losses ---


class Uniform(nn.Module):
    """Every token is equally likely."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, ids):
        return torch.zeros(*ids.shape, 4096) + self.zero


def test_bits_per_byte_by_hand():
    tokenizer = encodings.tokenizer()
    texts = ["Once upon a time there was a king.", "The end of it, naïve as it was!"]
    tokens = [END]
    for text in texts:
        tokens += [*tokenizer.encode(text), END]
    counts = torch.tensor([len(token) for token in mixture.vocabulary(tokenizer)])
    context = len(tokens) - 1
    given = np.array(tokens, dtype=np.uint16), counts, context
    nats, count, size = measuring.evaluate(Uniform(), *given)
    assert (count, size) == (context, sum(len(text.encode()) for text in texts))
    assert nats == pytest.approx(context * math.log(4096))
    # 12 bits a token; the ends of text cost, too
    assert bits_per_byte(nats, size) == pytest.approx(12 * context / size)


def test_evaluation_agrees_with_one_window_at_a_time():
    torch.manual_seed(1)
    model = GPTModel(CFG | {"drop_rate": 0.5}).train()
    tokens = np.random.default_rng(1).integers(0, 4096, 16 * 21 + 5).astype(np.uint16)
    counts = torch.arange(4096)
    for most, numbers in ((None, range(21)), (7, range(0, 22, 4))):
        found = measuring.evaluate(model, tokens, counts, 16, most, batch=4)
        assert model.training
        total = size = 0.0
        for i in numbers:
            window = torch.from_numpy(tokens[16 * i : 16 * i + 17].astype(np.int64))
            with torch.no_grad():
                logits = model.eval()(window[None, :-1])[0]
            total += F.cross_entropy(logits, window[1:], reduction="sum").item()
            size += window[1:].sum().item()
        if not most:  # the last window is shorter
            window = torch.from_numpy(tokens[16 * 21 :].astype(np.int64))
            with torch.no_grad():
                logits = model(window[None, :-1])[0]
            total += F.cross_entropy(logits, window[1:], reduction="sum").item()
            size += window[1:].sum().item()
        model.train()
        assert found == (pytest.approx(total, rel=1e-5), 16 * len(numbers) + 4 * (not most), size)


def test_attention_by_products_is_attention():
    torch.manual_seed(1)
    model, ids = GPTModel(CFG).double(), torch.randint(4096, (2, 16))
    exact = model(ids)
    exact.square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for block in model.trf_blocks:
        block.att.attend = settling.attend_by_products
    model(ids).square().sum().backward()
    for ours, parameter in zip(expected, model.parameters()):
        assert torch.allclose(parameter.grad, ours, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        assert torch.allclose(model(ids), exact, rtol=1e-9, atol=1e-9)
        assert torch.allclose(model(ids[:, :5]), exact[:, :5], rtol=1e-9, atol=1e-9)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.float()(ids).float()
    # bf16 keeps 8 bits: a relative error of 2^-8 in each of some layers
    assert 0 < (rounded - exact).abs().max() < 0.1


# --- a run ---


def test_what_a_run_leaves(unkilled, capsys):
    out, rows = unkilled
    assert [row["tokens"] for row in rows] == list(range(128, 1025, 128))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"] < math.log(4096) + 0.1
    columns = ["tokens", "train_loss", "valid_loss", "bits_per_byte", "lr", "grad_norm"]
    assert list(rows[0]) == columns
    model = GPTModel(configuration(out))
    stored = safetensors.torch.load_file(out / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16} and "out_head.weight" not in stored
    model.load_state_dict(stored)
    assert model.tok_emb.weight is model.out_head.weight
    for name, tensor in weights(out).items():
        assert torch.equal(model.state_dict()[name], tensor.half().float())
    assert {path.name.partition("-")[0] for path in out.iterdir()} == set(
        "train valid config.json model.safetensors log.csv weights stable.pt state.pt state.previous.pt".split()
    )


def configuration(out):
    """config.json without the tokenizer, which it names."""
    cfg = json.loads((out / "config.json").read_text())
    assert cfg.pop("tokenizer") == encodings.tokenizer_sha256(encodings.COURSE_TOKENIZER)
    return cfg


def test_the_weights_at_the_last_rows_are_kept(corpus, tmp_path, unkilled):
    out, rows = unkilled
    kept = sorted((out / "weights").iterdir())
    assert [int(path.stem) for path in kept] == [row["tokens"] for row in rows[-8:]]
    assert kept[-1].read_bytes() == (out / "model.safetensors").read_bytes()
    rows = run(corpus, tmp_path, "--log-tokens", 64)
    kept = sorted((tmp_path / "weights").iterdir())
    assert len(rows) == 16 and [int(path.stem) for path in kept] == list(range(576, 1025, 64))


def test_the_last_row_is_all_of_the_validation_text(unkilled):
    out, rows = unkilled
    model = GPTModel(configuration(out))
    model.load_state_dict(weights(out))
    tokens = np.load(next(out.glob("valid-*.npy")))
    counts = torch.tensor([len(token) for token in mixture.vocabulary(encodings.tokenizer())])
    nats, count, size = measuring.evaluate(model, tokens, counts, 16)
    assert count == len(tokens) - 1
    expected = nats / count, bits_per_byte(nats, size)
    assert (rows[-1]["valid_loss"], rows[-1]["bits_per_byte"]) == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("tokens, steps", [(64, 1), (127, 1), (130, 2), (1e3, 15)])
def test_the_budget_is_never_exceeded(corpus, tmp_path, tokens, steps):
    assert run(corpus, tmp_path, "--tokens", tokens, "--warmup", 20)[-1]["tokens"] == 64 * steps


def test_batches_may_grow_on_the_way(corpus, tmp_path, monkeypatch):
    given = ["--batch", "64", "128@256", "192@600"]
    sizes, step = [], pretrain.train_step

    def noted(loss, optimizers, state, *rest):
        before = state["tokens"], state["windows"], sum(state["read"].values())
        stop = step(loss, optimizers, state, *rest)
        after = state["tokens"], state["windows"], sum(state["read"].values())
        sizes.append(after[0] - before[0])
        assert {16 * (b - a) for a, b in zip(before[1:], after[1:])} == {sizes[-1]}
        return stop

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "train_step", noted)
        expected = run(corpus, tmp_path / "a", *given)
    assert sizes == [64] * 4 + [128] * 3 + [192] * 2
    assert [row["tokens"] for row in expected] == [128, 256, 384, 512, 640, 832, 1024]
    stopped(corpus, tmp_path / "b", monkeypatch, *given, at=3)
    stopped(corpus, tmp_path / "b", monkeypatch, *given, at=6)
    assert run(corpus, tmp_path / "b", *given) == expected
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert "192@600" not in (message := refused(corpus, tmp_path / "b", "--batch", "64"))
    assert "is of another run (batch" in message


def test_minutes_become_tokens_once(corpus, tmp_path, monkeypatch):
    given = [
        a for a in arguments(corpus, tmp_path, "--minutes", 0.01) if a not in ("--tokens", "1024")
    ]
    speeds = iter([1500.0])
    monkeypatch.setattr(settling, "measure_speed", lambda *_, **__: next(speeds))
    pretrain.main(given)
    assert log(tmp_path)[-1]["tokens"] == 896  # of 900
    pretrain.main(given)  # finished: nothing is measured again
    assert log(tmp_path)[-1]["tokens"] == 896


def test_measuring_the_speed_moves_no_weight(corpus, tmp_path, monkeypatch, unkilled):
    plan = pretrain.plan

    def measure_first(run, loss, state):
        assert steps.measure_speed(loss, run, state, seconds=0.05) > 0
        plan(run, loss, state)

    monkeypatch.setattr(pretrain, "plan", measure_first)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


def test_pieces_change_nothing_but_rounding(corpus, tmp_path, unkilled):
    rows = run(corpus, tmp_path, "--piece", 4)
    assert same_rows(rows, unkilled[1])


@pytest.mark.parametrize("name", ["worksheets", "knowledge"])
def test_what_programs_write_is_part_of_the_stream(corpus, tmp_path, monkeypatch, unkilled, name):
    given = [f"--{name}", 0.5]
    rows = run(corpus, tmp_path / "a", *given)
    (path,) = (tmp_path / "a").glob(f"{name}-*.npy")
    tokenizer = encodings.tokenizer()
    import knowledge
    import worksheets

    words = lexicon.second_words(tokenizer)
    texts = {
        "worksheets": worksheets.documents(123_000, words),
        "knowledge": knowledge.documents(123_000),
    }
    first = tokenizer.encode(next(texts[name]))
    assert np.load(path)[: len(first) + 2].tolist() == [END, *first, END]
    assert rows[-1]["train_loss"] != unkilled[1][-1]["train_loss"]
    read = torch.load(tmp_path / "a" / "state.pt", weights_only=True)["read"]
    assert sum(read.values()) == 64 and read[name] == pytest.approx(32, abs=1)
    stopped(corpus, tmp_path / "b", monkeypatch, *given)
    assert run(corpus, tmp_path / "b", *given) == rows
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_shares_may_change_on_the_way_and_nothing_is_skipped(corpus, tmp_path, monkeypatch):
    stopped(corpus, tmp_path, monkeypatch, at=8)
    run(corpus, tmp_path, "--worksheets", 0.25, "--knowledge", 0.25)
    read = torch.load(tmp_path / "state.pt", weights_only=True)["read"]
    assert sum(read.values()) == 64
    assert read["corpus"] == pytest.approx(48, abs=2) and read["knowledge"] == pytest.approx(
        8, abs=2
    )


def test_further_texts_are_measured_by_name(corpus, tmp_path, unkilled):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "talk.txt").write_text("Hello there!\n<|endoftext|>\nGood morning, " + "dear " * 40)
    (shelf / "news.en.txt").write_text("The river rose again last night. " * 20)
    rows = run(corpus, tmp_path / "out", "--valid", shelf, corpus / "works.txt")
    names = ["bits_per_byte", "bits_news", "bits_talk", "bits_works"]
    assert [name for name in rows[0] if name.startswith("bits")] == names
    for row, other in zip(rows, unkilled[1], strict=True):
        assert {key: row[key] for key in other} == other
        assert all(0 < row[name] < 12 for name in names)
    tokenizer = encodings.tokenizer()
    text = read_documents(shelf / "news.en.txt")[0].text
    ids = np.array([END, *tokenizer.encode(text)], dtype=np.uint16)
    counts = torch.tensor([len(token) for token in mixture.vocabulary(tokenizer)])
    model = GPTModel(configuration(tmp_path / "out"))
    model.load_state_dict(weights(tmp_path / "out"))
    nats, _, size = measuring.evaluate(model, ids, counts, 16)
    assert rows[-1]["bits_news"] == pytest.approx(bits_per_byte(nats, size), rel=1e-5)


def test_another_tokenizer_can_be_given(corpus, tmp_path, unkilled):
    given = ["--tokenizer", encodings.FIRST_TOKENIZER, "--tokens", 128, "--warmup", 0]
    run(corpus, tmp_path / "other", *given)
    cfg = json.loads((tmp_path / "other" / "config.json").read_text())
    assert cfg["tokenizer"] == encodings.tokenizer_sha256(encodings.FIRST_TOKENIZER)
    model = tmp_path / "other" / "model.safetensors"
    message = refused(corpus, tmp_path / "usual", "--weights", model)
    assert "made with another tokenizer" in message


def test_copying_is_measured_where_the_context_is_long_enough(corpus, tmp_path):
    long = ["--context", 200, "--batch", 200, "--tokens", 200, "--width", 8, "--warmup", 0]
    row = run(corpus, tmp_path / "a", *long)[-1]
    assert 0 <= row["repeated_tokens"] < 0.2 and "known" not in row
    row = run(corpus, tmp_path / "b", *long, "--knowledge", 0.1)[-1]  # and what it knows, too
    assert 0 <= row["known"] < 0.6 and 0 <= row["left_out"] < 0.6


def test_a_run_can_begin_with_another_runs_model(corpus, tmp_path, unkilled):
    model = unkilled[0] / "model.safetensors"
    given = ["--seed", 124, "--tokens", 64, "--lr", 0, "--warmup", 0]
    rows = run(corpus, tmp_path / "a", "--weights", model, *given)
    assert rows[-1]["train_loss"] < unkilled[1][0]["train_loss"] - 0.2
    message = refused(corpus, tmp_path / "b", "--weights", model, "--width", 32)
    assert "model.safetensors does not fit" in message and "size mismatch" in message
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(model.read_bytes()[:100])
    assert "damaged or cut off" in refused(corpus, tmp_path / "b", "--weights", damaged)
    assert "No such file" in refused(corpus, tmp_path / "b", "--weights", "nowhere")


# --- stopped, killed, continued ---


def script(given, *before, **environment):
    """The script as its own process."""
    command = [sys.executable, *before, str(FOLDER / "pretrain.py"), *given]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=alone | environment, **pipes)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no kill -9")
def test_killed_and_continued_equals_unkilled(corpus, tmp_path):
    long = ["--tokens", 3000, "--save-minutes", 0]
    expected = run(corpus, tmp_path / "a", *long)
    process = script(arguments(corpus, tmp_path / "b", *long))
    saved = tmp_path / "b" / "log.csv"
    end = time.monotonic() + 600
    while not saved.exists() or saved.read_text().count("\n") < 4:
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    # killed between two renames there is only the state before, from which the run goes on, too
    states = [tmp_path / "b" / name for name in ("state.pt", "state.previous.pt")]
    state = next(path for path in states if path.exists())
    assert 0 < torch.load(state, weights_only=True)["step"] < 3000 // 64
    for name in ("state.pt", "weights/000000000128.safetensors"):
        (tmp_path / "b" / f"{name}.unfinished-1").write_bytes(b"as a kill would leave it")
    assert run(corpus, tmp_path / "b", *long) == expected
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not list((tmp_path / "b").rglob("*unfinished*"))


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_continues_later(corpus, tmp_path, monkeypatch, unkilled, by):
    handler = signal.getsignal(by)
    stopped(corpus, tmp_path, monkeypatch, at=7, by=by)
    assert signal.getsignal(by) == handler
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["step"], state["since"], len(log(tmp_path))) == (7, 64, 3)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


def test_the_state_is_what_run_state_says(unkilled):
    state = torch.load(unkilled[0] / "state.pt", weights_only=True)
    identity = state.pop("identity")
    says = run_state.__doc__
    lines = [line.partition("  ")[0] for line in says.splitlines()[3:]]
    assert {name for line in lines for name in re.findall(r"\w+", line)} == (
        state.keys() - {"model", "optimizers"} | {"identity"}
    )
    listed = set(re.findall(r"\w+", says.partition("identity")[2]))
    assert identity.keys() - CFG.keys() <= listed and identity.keys() >= CFG.keys()
    paths = {"corpus": next(unkilled[0].glob("train-corpus-*.npy"))}
    assert identity["corpora"] == mixture.identity_of(paths, next(unkilled[0].glob("valid-*.npy")))


def as_by_the_first_program(out):
    """Make of a run what pretrain.py left before rooms were made: files named after the code of that time."""
    names = []
    for path in [*out.glob("train-*.npy"), *out.glob("valid-*.npy")]:
        names.append(f"{path.stem.rpartition('-')[0]}-0123456789ab.npy")
        path.rename(out / names[-1])
    content = (out / "state.pt").read_bytes()
    state = torch.load(io.BytesIO(content), weights_only=True)
    trained = sorted(name for name in names if name.startswith("train"))
    state["identity"]["corpora"] = mixture.checksum(*trained)
    run_state.save_state(out, state)


def test_a_run_begun_by_the_first_program_is_continued(corpus, tmp_path, monkeypatch, unkilled):
    stopped(corpus, tmp_path, monkeypatch)
    as_by_the_first_program(tmp_path)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])
    one, other = (
        torch.load(out / "state.pt", weights_only=True) for out in (tmp_path, unkilled[0])
    )
    assert one["identity"] == other["identity"]  # from now on its texts have the new name
    for path in tmp_path.glob("*-0123456789ab.npy"):
        path.unlink()  # and the old files are needed no more
    assert run(corpus, tmp_path) == unkilled[1]


@pytest.mark.parametrize("kind", ["train-corpus", "valid"])
def test_but_not_with_other_texts(corpus, tmp_path, monkeypatch, kind):
    stopped(corpus, tmp_path, monkeypatch)
    as_by_the_first_program(tmp_path)
    path = tmp_path / f"{kind}-0123456789ab.npy"
    tokens = np.load(path)
    tokens[7] += 1
    np.save(path, tokens)
    assert "is of another run (corpora" in refused(corpus, tmp_path)


def test_other_code_for_the_same_texts_is_no_other_run(corpus, tmp_path, monkeypatch, unkilled):
    stopped(corpus, tmp_path, monkeypatch)
    code = tmp_path / "apart.py"
    code.write_bytes(Path(mixture.apart.__file__).read_bytes() + b"# other code\n")
    monkeypatch.setattr(mixture.apart, "__file__", str(code))
    assert run(corpus, tmp_path) == unkilled[1]
    assert len(list(tmp_path.glob("train-corpus-*.npy"))) == 2  # made anew, and found equal


def test_muon_moves_the_matrices_of_blocks_and_continues_like_adamw(corpus, tmp_path, monkeypatch):
    class Options:
        lr, weight_decay, optimizer = 0.1, 0.2, "muon"

    model = GPTModel(CFG)
    muon, adamw = optimizers.make_optimizers(model, Options)
    inner = [p for group in muon.param_groups for p in group["params"]]
    outer = [p for group in adamw.param_groups for p in group["params"]]
    assert len(inner) == 2 * 6 and len(inner) + len(outer) == len(list(model.parameters()))
    assert not {id(p) for p in inner} & {id(p) for p in outer}
    assert muon.param_groups[0]["weight_decay"] == adamw.param_groups[0]["weight_decay"] == 0.2
    assert muon.param_groups[0]["lr"] == 0.1 and adamw.param_groups[1]["weight_decay"] == 0

    given = ["--optimizer", "muon"]
    expected = run(corpus, tmp_path / "a", *given)
    stopped(corpus, tmp_path / "b", monkeypatch, *given)
    assert run(corpus, tmp_path / "b", *given) == expected
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_two_processes_make_losses_and_gradients_of_one(corpus, tmp_path):
    given = ["--worksheets", 0.25, "--tokens", 640]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = script(arguments(corpus, tmp_path / "two", *given, "--piece", 1), *torchrun)
    expected = run(corpus, tmp_path / "one", *given)
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "2 process(es)" in printed
    assert same_rows(log(tmp_path / "two"), expected)
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert ours.keys() == theirs.keys()  # none begins with "module."
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-4) for k in ours)
    run(corpus, tmp_path / "two", *given)  # and one process takes up what two have left


def test_a_factor_in_the_gradient_would_be_noticed(corpus, tmp_path, monkeypatch, unkilled):
    backward = steps.backward

    def doubled(loss, *rest):
        nats = backward(loss, *rest)
        for parameter in loss.parameters():
            parameter.grad.mul_(2)
        return nats

    monkeypatch.setattr(steps, "backward", doubled)
    rows, expected = run(corpus, tmp_path), unkilled[1]
    assert not same_rows(rows, expected)
    # but hardly by the losses: AdamW divides by the gradient's size, and a clipped one has none
    for row, other in zip(rows, expected):
        assert row["train_loss"] == pytest.approx(other["train_loss"], abs=0.02)
        assert row["grad_norm"] > 1.5 * other["grad_norm"]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_mean_over_processes_is_the_gradient_of_all(world):
    """What DistributedDataParallel does, by hand: each process has its part, and the gradients are averaged."""

    class Loss(measuring.Loss):
        no_sync = nullcontext

    torch.manual_seed(1)
    loss, windows = Loss(GPTModel(CFG)), torch.randint(4096, (8, 17))
    (loss(windows) / 128).backward()
    expected = [p.grad.clone() for p in loss.parameters()]
    loss.zero_grad()
    run = SimpleNamespace(world=world, piece=2, device="cpu", autocast=nullcontext)
    nats = sum(steps.backward(loss, own, run, 128) for own in windows.chunk(world))
    assert nats == pytest.approx(loss(windows).item(), rel=1e-6)
    for parameter, gradient in zip(loss.parameters(), expected):
        assert torch.allclose(parameter.grad / world, gradient, rtol=1e-4, atol=1e-7)


def test_two_processes_refuse_in_one_line(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = script(arguments(tmp_path / "nowhere", tmp_path / "out"), *torchrun)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 1
    assert errors.count("pretrain: there is no folder") == 1 and 'pretrain.py", line' not in errors


# --- a run of a length that is not known yet ---


def test_a_run_can_be_held_made_longer_and_decayed(corpus, tmp_path):
    held, out = ["--decay", 0], tmp_path / "out"

    def equal(*given):
        """Whether `out`, continued so, is a run that was given that length from the start."""
        rows, other = run(corpus, out, *given), tmp_path / "other"
        same = rows == run(corpus, other, *given) and same_weights(out, other)
        same = same and files(out / "weights") == files(other / "weights")
        same = (
            same
            and (out / "model.safetensors").read_bytes()
            == (other / "model.safetensors").read_bytes()
        )
        other.rename(tmp_path / f"other {time.monotonic()}")
        return same and rows

    rows = run(corpus, out, "--tokens", 512, *held)
    assert rows[-1]["lr"] == 2e-3 and not (out / "stable.pt").exists()
    assert equal(*held)[-1]["tokens"] == 1024

    message = refused(corpus, out, "--decay", 256)  # it would have begun before
    assert "1,024 tokens behind it" in message and "needs --tokens 1280 or more" in message
    rows = equal("--tokens", 1280, "--decay", 256)
    assert rows[-1]["lr"] == pytest.approx(2e-3 / 4)

    before = files(out)
    for given in (
        ["--tokens", 1536, "--decay", 256],
        ["--tokens", 1280, "--decay", 128],
        ["--tokens", 1280, *held],
    ):
        message = refused(corpus, out, *given)
        assert "has begun to fall: continue with --tokens 1280 --decay 256" in message
        assert f"rename {out}/stable.pt to state.pt" in message
    assert files(out) == before

    (out / "stable.pt").rename(out / "state.pt")  # as the message says
    rows = equal("--tokens", 1600, "--decay", 256)
    assert [row["lr"] for row in rows[7:11]] == [2e-3] * 4 and rows[-1]["lr"] < 6e-4


class Killed(BaseException):
    """What nothing in the script catches."""


def test_killed_as_the_rate_begins_to_fall(corpus, tmp_path, monkeypatch, unkilled):
    # of 1,024 tokens 204 are decay: it begins after 832, the first step that is past the other 820
    step = pretrain.train_step

    def killed(loss, optimizers, state, *rest):
        if state["decaying"]:
            raise Killed
        return step(loss, optimizers, state, *rest)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(pretrain, "train_step", killed)
        run(corpus, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["tokens"], state["decaying"]) == (832, False)
    assert (tmp_path / "stable.pt").read_bytes() == (tmp_path / "state.pt").read_bytes()
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


@pytest.mark.parametrize("at", [12, 13, 14])
def test_stopped_around_the_beginning_of_the_decay(corpus, tmp_path, monkeypatch, unkilled, at):
    stopped(corpus, tmp_path, monkeypatch, at=at)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


# --- what goes wrong ---


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's list of open files")
@pytest.mark.parametrize("how", [Killed, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
@pytest.mark.parametrize("name", ["weights/000000001024", "/state.pt", "/model.safetensors", "/config.json", "/log.csv"])  # fmt: skip
def test_the_last_save_is_cut_off(corpus, tmp_path, monkeypatch, unkilled, name, how):
    fsync, ended = os.fsync, []
    add_row = pretrain.add_row

    def noted(run, model, state):
        add_row(run, model, state)
        ended.extend([True] * (state["tokens"] == 1024))

    def cut_off(number):
        if ended and name in os.readlink(f"/proc/self/fd/{number}"):
            raise how
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "add_row", noted)
        patch.setattr(os, "fsync", cut_off)
        with pytest.raises((Killed, SystemExit)) as caught:
            run(corpus, tmp_path)
        assert caught.type is Killed or "No space left on device" in str(caught.value)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])
    ours, theirs = files(tmp_path), files(unkilled[0])
    assert ours.keys() == theirs.keys()
    timed = {"log.csv", "stable.pt", "state.pt", "state.previous.pt"}  # these tell the seconds, too
    assert all(ours[path] == theirs[path] for path in ours.keys() - timed)
    one, other = (
        torch.load(out / "state.pt", weights_only=True) for out in (tmp_path, unkilled[0])
    )
    for key in ("identity", "tokens", "windows", "step", "read", "total", "decay", "decaying"):
        assert one[key] == other[key]


def test_a_damaged_state_gives_way_to_the_one_before(
    corpus, tmp_path, monkeypatch, unkilled, capsys
):
    stopped(corpus, tmp_path, monkeypatch, "--save-minutes", 0)
    content = bytearray((tmp_path / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1  # torch.load alone would not notice
    (tmp_path / "state.pt").write_bytes(content)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])
    assert "state.pt is damaged, trying the one before" in capsys.readouterr().err


def test_nothing_but_damaged_states(corpus, tmp_path, monkeypatch):
    stopped(corpus, tmp_path, monkeypatch)
    for name in ("state.pt", "state.previous.pt"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2] if "prev" in name else b"")
    assert "every state in" in (message := refused(corpus, tmp_path)) and "delete" in message


@pytest.mark.parametrize(
    "change, says",
    [
        (["--width", 32], "emb_dim 16, not 32"),
        (["--lr", 0.5], "lr 0.002, not 0.5"),
        (["--warmup", 100], "warmup 200.0, not 100.0"),
        (["--batch", "64", "128@512"], "batch [(0.0, 64)], not [(0.0, 64), (512.0, 128)]"),
        (["--tokenizer", encodings.FIRST_TOKENIZER], "tokenizer b9ef019d"),
    ],
)
def test_a_state_of_another_run_is_left_alone(corpus, unkilled, change, says):
    before = (unkilled[0] / "state.pt").read_bytes()
    message = refused(corpus, unkilled[0], *change)
    assert "is of another run" in message and says in message
    assert (unkilled[0] / "state.pt").read_bytes() == before


def test_a_state_of_other_texts_is_left_alone(corpus, unkilled):
    message = refused(corpus, unkilled[0], "--held-out", held_out(corpus, "Work 2"))
    assert "is of another run (corpora" in message


@pytest.mark.parametrize(
    "files, says",
    [
        (None, "there is no folder or file"),
        ({}, "holds no text"),
        ({"a.txt": b" \n"}, "holds no text"),
        ({"a.txt": "naïve".encode("latin-1")}, "a.txt is not UTF-8"),
        ({"a.txt": b"Work 1\n\nHeld out."}, "has only 1 tokens: windows of 16 need at least 33"),
        ({f"{i}.txt": b"Short." for i in range(3)}, "tokens: windows of 16 need at least 33"),
        ({"a.txt": b"Another work. " * 50}, "nothing to validate with"),
    ],
)
def test_corpora_that_are_none(tmp_path, files, says):
    folder = tmp_path / "corpus"
    if files is not None:
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    assert says in refused(folder, tmp_path / "out")
    assert not list(tmp_path.glob("out/state*"))


@pytest.mark.parametrize(
    "given, says",
    [
        (["--held-out", "none.tsv"], "none.tsv"),
        (["--batch", "64@10"], "no --batch is for the start"),
        (["--batch", "64", "60@512"], "--batch 60 is not a multiple of 16 tokens"),
        (["--warmup", 2000], "are longer than the run (1,024)"),
        (["--warmup", 900], "are longer than the run (1,024)"),  # with the decay
        (["--decay", 1000], "are longer than the run (1,024)"),
        (["--decay", -5], "0 or more"),
        (["--warmup", -5], "0 or more"),
        (["--worksheets", 0.5, "--knowledge", 0.5], "leave nothing for the corpora"),
        (["--valid", "nowhere"], "there is no folder or file nowhere"),
        (["--file-tokens", 20, "--worksheets", 0.1], "too short for windows of 16"),
        (["--batch", 60], "not a multiple of 16 tokens"),
        (["--context", 0], "not a multiple of 0 tokens"),
        (["--batch", 0], "not a multiple of 16 tokens"),
        (["--worksheets", 1], "is no share"),
        (["--worksheets", -0.1], "is no share"),
        (["--tokens", 63, "--warmup", 0], "below one step of 64"),
        (["--heads", 3], "is not divisible by"),
        (["--layers", 0], "n_layers is 0"),
    ],
)
def test_options_that_cannot_be(corpus, tmp_path, given, says):
    assert says in refused(corpus, tmp_path, *given)


def test_a_place_that_cannot_be_written(corpus, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert str(tmp_path / "file") in refused(corpus, tmp_path / "file" / "out")


def test_a_corpus_that_is_called_like_what_is_added(corpus, tmp_path):
    (tmp_path / "knowledge.txt").write_text((corpus / "works.txt").read_text())
    message = refused(
        corpus, tmp_path / "out", "--corpus", tmp_path / "knowledge.txt", "--knowledge", 0.1
    )
    assert "a corpus is called knowledge" in message


def full_disk(monkeypatch, times, names=".pt"):
    """The disk is full the next so many times that a state is written."""
    landing, left = os.fsync, [times]

    def fsync(number):
        if left[0] > 0 and re.search(names, os.readlink(f"/proc/self/fd/{number}")):
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        landing(number)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's list of open files")
def test_a_full_disk_at_the_end_leaves_the_old_state(corpus, tmp_path, monkeypatch, unkilled):
    stopped(corpus, tmp_path, monkeypatch)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        full_disk(patch, times=99)
        message = refused(corpus, tmp_path)
    assert "state.pt could not be written: No space left on device" in message
    after = files(tmp_path)
    assert {n: c for n, c in after.items() if "weights/" not in n} == {n: c for n, c in before.items() if "weights/" not in n}  # fmt: skip
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's list of open files")
def test_a_full_disk_on_the_way_does_not_stop_the_run(
    corpus, tmp_path, monkeypatch, unkilled, capsys
):
    stopped(corpus, tmp_path, monkeypatch)
    full_disk(monkeypatch, times=3)
    assert run(corpus, tmp_path, "--save-minutes", 0) == unkilled[1]
    assert capsys.readouterr().err.count("No space left on device; going on") == 3


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's list of open files")
@pytest.mark.parametrize("names", ["weights/0000000[0-7]", "stable.pt"])
def test_a_full_disk_does_not_stop_the_run_in_other_files_either(
    corpus, tmp_path, monkeypatch, unkilled, capsys, names
):
    full_disk(monkeypatch, 1, names)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])
    assert capsys.readouterr().err.count("No space left on device; going on") == 1


def test_a_loss_that_is_no_number(corpus, tmp_path, monkeypatch):
    backward = steps.backward
    stopped(corpus, tmp_path, monkeypatch)
    monkeypatch.setattr(steps, "backward", lambda *given: backward(*given) * math.nan)
    assert "no longer finite after 384 tokens: lower --lr" in refused(corpus, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5


def test_a_gradient_that_is_no_number(corpus, tmp_path, monkeypatch):
    stopped(corpus, tmp_path, monkeypatch)
    backward = steps.backward

    def overflowing(loss, *rest):
        nats = backward(loss, *rest)
        next(loss.parameters()).grad[0] = math.inf
        return nats

    monkeypatch.setattr(steps, "backward", overflowing)
    message = refused(corpus, tmp_path)
    assert "the gradient is no longer finite after 384 tokens: lower --lr" in message
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5


def test_a_compiler_that_fails(monkeypatch, capsys):
    def broken(function):
        def call(*_):
            raise RuntimeError("no C++ compiler found\nand forty lines more")

        return call

    options = {"device": "cpu", "precision": "fp32", "piece": None, "context": 16}
    options |= {"batch": [(64, 0)], "minutes": None, "compile": None}
    monkeypatch.setattr(torch, "compile", broken)
    for tokens, lines in ((5e6, 1), (1e6, 0)):  # a short run does not even try
        run = SimpleNamespace(tokens=tokens, **options)
        settling.settle(run)
        assert run.compile is False
        printed = capsys.readouterr().err.splitlines()
        assert len(printed) == lines
        assert all("not compiled" in line and line.endswith("compiler found") for line in printed)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    run = SimpleNamespace(tokens=5e6, **options)
    settling.settle(run)
    assert run.compile is True and not capsys.readouterr().err


# --- where it writes ---

FOREIGN = [
    ["README.md"],
    ["config.json", "model.safetensors"],
    ["config.json", "model.safetensors", "log.csv", "SHA256SUMS"],
    ["valid-1.npy", "thesis.txt"],
    ["numbers.npy"],
]


@pytest.mark.parametrize("names", FOREIGN, ids=" ".join)
def test_a_folder_of_somebody_is_left_alone(corpus, tmp_path, names):
    for name in [*names, "x.unfinished-7"]:
        (tmp_path / name).write_text("mine")
    before = files(tmp_path)
    assert "is not empty, and not the folder of a run: give a new" in refused(corpus, tmp_path)
    assert files(tmp_path) == before


def test_what_ships_is_left_alone(corpus):
    before = files(models.COURSE_GPT)
    assert "not the folder of a run" in refused(corpus, models.COURSE_GPT)
    assert files(models.COURSE_GPT) == before


def test_the_folder_of_a_run_is_known(unkilled, tmp_path):
    """Before its first state, finished, with other files beside its state, and after its states were deleted."""
    run_state.check_folder(tmp_path / "new")
    for names in (
        [".hidden"],
        ["train-corpus-1a.npy.unfinished-12"],
        ["train-corpus-1a.npy", "valid-1a.npy", "worksheets-2b-0.npy.unfinished-3"],
        ["state.previous.pt", "state.pt.unfinished-4", "nohup.out"],
    ):
        folder = tmp_path / names[-1]
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        run_state.check_folder(folder)
    whole = tmp_path / "whole"
    shutil.copytree(unkilled[0], whole)
    run_state.check_folder(whole)
    for path in whole.glob("state*.pt"):
        path.unlink()
    run_state.check_folder(whole)
