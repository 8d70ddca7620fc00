"""Pretraining on toy works: what a run computes, that nothing of it is lost, and what it refuses."""

import csv
import errno
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from shared import editions
from shared.corpus import read_documents, sample
from shared.gpt_model import GPTModel
from shared.text_data import make_encoding

FOLDER = Path(__file__).resolve().parents[1] / "ch05_pretraining"
sys.path.insert(0, str(FOLDER))

import pretrain  # noqa: E402

END = 4095
WORDS = "the old miller and his three sons went to a far river but no boat was there".split()
TINY = "--layers 1 --width 16 --heads 2 --context 16 --batch 64 --piece 2 --warmup 200"
TINY += " --log-tokens 128 --held-out 2 --precision fp32 --device cpu --tokens 1024"
CFG = {"vocab_size": 4096, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
CFG |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six works of some hundred tokens, each about another number."""
    folder = tmp_path_factory.mktemp("corpus")
    lines = [[WORDS[(7 * i * i + i * work) % 17] for i in range(300)] for work in range(6)]
    texts = [f"Work {i}\n\n{' '.join(line)} {i}{i}{i}." for i, line in enumerate(lines)]
    (folder / "works.txt").write_text("\n<|endoftext|>\n".join(texts), encoding="utf-8")
    return folder


def arguments(corpus, out, *more):
    """Later ones override earlier ones."""
    return ["--corpus", str(corpus), "--out", str(out), *TINY.split(), *map(str, more)]


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


def test_the_learning_rate_rises_and_falls():
    rate = [pretrain.learning_rate(t, total=1000, warmup=100, peak=2.0) for t in range(1001)]
    assert rate[0] == 0 and rate[50] == 1 and rate[100] == 2
    assert rate[550] == pytest.approx(1) and rate[1000] == pytest.approx(0)
    assert rate[:101] == sorted(rate[:101]) and rate[100:] == sorted(rate[100:], reverse=True)
    assert pretrain.learning_rate(0, 10, 0, 1.0) == 1.0  # no warm-up
    assert pretrain.learning_rate(10, 10, 10, 1.0) == 1.0  # nothing else
    assert pretrain.learning_rate(99, 10, 1, 1.0, last=0.1) == pytest.approx(0.1)  # beyond the end


def test_only_matrices_decay_and_a_tied_one_counts_once():
    model = GPTModel(CFG)
    matrices, vectors = pretrain.parameter_groups(model, 0.3)
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert all(p.dim() == 2 for p in matrices["params"])
    assert all(p.dim() == 1 for p in vectors["params"])
    together = matrices["params"] + vectors["params"]
    assert len({id(p) for p in together}) == len(together) == len(list(model.parameters()))
    assert sum(p is model.tok_emb.weight for p in together) == 1
    model.pos_emb.weight.requires_grad_(False)
    assert len(pretrain.parameter_groups(model, 0.3)[0]["params"]) == len(matrices["params"]) - 1


@torch.no_grad()
def test_first_weights_start_at_the_loss_of_a_guess():
    torch.manual_seed(1)
    model = GPTModel(CFG | {"emb_dim": 64})
    pretrain.initialise(model)
    block = model.trf_blocks[1]
    assert block.ff.layers[0].weight.std() == pytest.approx(0.02, rel=0.1)
    assert block.ff.layers[2].weight.std() == pytest.approx(0.01, rel=0.1)  # 0.02 / sqrt(2 * 2)
    assert block.att.out_proj.weight.std() == pytest.approx(0.01, rel=0.1)
    assert not block.att.W_query.bias.any() and (block.norm1.scale == 1).all()
    assert model.tok_emb.weight is model.out_head.weight
    mean = pretrain.Loss(model)(torch.randint(4096, (4, 17))) / 64
    assert mean == pytest.approx(math.log(4096), rel=0.01)


# --- tokens ---


def test_the_stored_tokens_are_the_tokenizers(corpus, tmp_path, monkeypatch):
    tokenizer = editions.tokenizer()
    paths = pretrain.prepare_corpus(corpus, tmp_path, tokenizer, 2)
    parts = sample(read_documents(corpus), math.inf, 2, 123)
    for path, documents in zip(paths, parts):
        expected = [END]
        for document in documents:
            expected += [*tokenizer.encode(document.text), END]
        stored = pretrain.Windows(path, 16, 0).tokens
        assert isinstance(stored, np.memmap) and stored.dtype == np.uint16
        assert stored.tolist() == expected

    def never(*_):
        raise AssertionError("tokenised again")

    monkeypatch.setattr(pretrain, "save_tokens", never)
    assert pretrain.prepare_corpus(corpus, tmp_path, tokenizer, 2) == paths
    with pytest.raises(AssertionError, match="tokenised again"):  # other works held out
        pretrain.prepare_corpus(corpus, tmp_path, tokenizer, 3)


def test_a_changed_corpus_is_another_one(corpus, tmp_path):
    copy = tmp_path / "corpus"
    copy.mkdir()
    text = (corpus / "works.txt").read_text()
    (copy / "works.txt").write_text(text)
    tokenizer = editions.tokenizer()
    before = pretrain.prepare_corpus(copy, tmp_path, tokenizer, 2)
    (copy / "works.txt").write_text(text.replace("river", "lake"))
    assert pretrain.prepare_corpus(copy, tmp_path, tokenizer, 2)[0] != before[0]


def test_no_work_is_on_both_sides(corpus, tmp_path):
    tokenizer = editions.tokenizer()
    paths = pretrain.prepare_corpus(corpus, tmp_path, tokenizer, 2)
    train, valid = (tokenizer.decode(np.load(path).tolist()) for path in paths)
    titles = [set(re.findall(r"Work \d", text)) for text in (train, valid)]
    assert [len(each) for each in titles] == [4, 2] and not titles[0] & titles[1]


def test_the_defaults_hold_out_what_the_tokenizer_never_saw():
    source = (editions.CHAPTER_2 / "train_tokenizer.py").read_text(encoding="utf-8")
    ours = (FOLDER / "pretrain.py").read_text(encoding="utf-8")
    held_out = r'"--held-out",\s*type=int, default=(\d+)'
    assert re.search(held_out, source)[1] == re.search(held_out, ours)[1]
    assert re.search(r'"--seed", type=int, default=(\d+)', source)[1] == str(pretrain.SPLIT_SEED)


def test_every_window_once_an_epoch_and_always_the_same(tmp_path):
    np.save(tmp_path / "tokens.npy", np.arange(100, dtype=np.uint16))
    windows = pretrain.Windows(tmp_path / "tokens.npy", 8, seed=5)
    n = windows.per_epoch
    assert n == 11
    first, second = ([windows[i].tolist() for i in range(e * n, e * n + n)] for e in (0, 1))
    for epoch in (first, second):
        starts = sorted(window[0] for window in epoch)
        assert all(w == list(range(w[0], w[0] + 9)) for w in epoch)
        assert [b - a for a, b in zip(starts, starts[1:])] == [8] * (n - 1)
    assert first != second and windows[3].dtype == torch.int64
    again = pretrain.Windows(tmp_path / "tokens.npy", 8, seed=5)
    assert again[n + 2].tolist() == second[2] and again[0].tolist() == first[0]
    assert pretrain.Windows(tmp_path / "tokens.npy", 8, seed=6)[0].tolist() != first[0]
    with pytest.raises(ValueError, match="has only 100 tokens: windows of 50 need at least 101"):
        pretrain.Windows(tmp_path / "tokens.npy", 50, seed=5)


@pytest.mark.parametrize("share", [0, 0.25, 1 / 3, 0.9])
def test_the_share_of_worksheets_is_kept_and_nothing_skipped(share):
    prose, sheets = [("p", i) for i in range(1000)], [("s", i) for i in range(1000)]
    drawn = [pretrain.mixed(prose, sheets, share, n) for n in range(1000)]
    for kind, among in (("p", 1 - share), ("s", share)):
        numbers = [number for k, number in drawn if k == kind]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) == pytest.approx(1000 * among, abs=1)


# --- losses ---


class Uniform(nn.Module):
    """Every token is equally likely."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, ids):
        return torch.zeros(*ids.shape, 4096) + self.zero


def test_bits_per_byte_by_hand():
    tokenizer = editions.tokenizer()
    texts = ["Once upon a time there was a king.", "The end of it, naïve as it was!"]
    tokens = [END]
    for text in texts:
        tokens += [*tokenizer.encode(text), END]
    counts = torch.tensor([len(token) for token in pretrain.vocabulary(tokenizer)])
    context = len(tokens) - 1
    nats, bits = pretrain.evaluate(Uniform(), np.array(tokens, dtype=np.uint16), counts, context)
    size = sum(len(text.encode()) for text in texts)
    assert nats == pytest.approx(math.log(4096))
    assert bits == pytest.approx(12 * context / size)  # 12 bits a token; the ends of text cost, too


def test_evaluation_agrees_with_one_window_at_a_time():
    torch.manual_seed(1)
    model = GPTModel(CFG | {"drop_rate": 0.5}).train()
    tokens = np.random.default_rng(1).integers(0, 4096, 16 * 21 + 5).astype(np.uint16)
    counts = torch.arange(4096)
    for most, numbers in ((None, range(21)), (7, range(0, 21, 3))):
        nats, bits = pretrain.evaluate(model, tokens, counts, 16, most, batch=4)
        assert model.training
        total = size = 0.0
        for i in numbers:
            window = torch.from_numpy(tokens[16 * i : 16 * i + 17].astype(np.int64))
            with torch.no_grad():
                logits = model.eval()(window[None, :-1])[0]
            total += F.cross_entropy(logits, window[1:], reduction="sum").item()
            size += window[1:].sum().item()
        model.train()
        assert nats == pytest.approx(total / 16 / len(numbers), rel=1e-5)
        assert bits == pytest.approx(total / math.log(2) / size, rel=1e-5)


def test_attention_by_products_is_attention():
    torch.manual_seed(1)
    model, ids = GPTModel(CFG).double(), torch.randint(4096, (2, 16))
    exact = model(ids)
    exact.square().sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for block in model.trf_blocks:
        block.att.attend = pretrain.attend_by_products
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
    assert list(rows[0]) == ["tokens", "train_loss", "valid_loss", "bits_per_byte", "lr"]
    cfg = json.loads((out / "config.json").read_text())
    model = GPTModel(cfg)
    stored = safetensors.torch.load_file(out / "model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.float16} and "out_head.weight" not in stored
    model.load_state_dict(stored)
    assert model.tok_emb.weight is model.out_head.weight
    for name, tensor in weights(out).items():
        assert torch.equal(model.state_dict()[name], tensor.half().float())
    assert not list(out.glob("*unfinished*"))


def test_the_last_row_is_all_of_the_validation_text(unkilled):
    out, rows = unkilled
    model = GPTModel(json.loads((out / "config.json").read_text()))
    model.load_state_dict(weights(out))
    tokens = np.load(next(out.glob("valid-*.npy")))
    counts = torch.tensor([len(token) for token in pretrain.vocabulary(editions.tokenizer())])
    nats, bits = pretrain.evaluate(model, tokens, counts, 16)
    assert (rows[-1]["valid_loss"], rows[-1]["bits_per_byte"]) == pytest.approx((nats, bits), 1e-5)


@pytest.mark.parametrize("tokens, steps", [(64, 1), (127, 1), (130, 2), (1e3, 15)])
def test_the_budget_is_never_exceeded(corpus, tmp_path, tokens, steps):
    assert run(corpus, tmp_path, "--tokens", tokens)[-1]["tokens"] == 64 * steps


def test_minutes_become_tokens_once(corpus, tmp_path, monkeypatch):
    given = [
        a for a in arguments(corpus, tmp_path, "--minutes", 0.01) if a not in ("--tokens", "1024")
    ]
    speeds = iter([1500.0])
    monkeypatch.setattr(pretrain, "measure_speed", lambda *_, **__: next(speeds))
    pretrain.main(given)
    assert log(tmp_path)[-1]["tokens"] == 896  # of 900
    pretrain.main(given)  # finished: nothing is measured again
    assert log(tmp_path)[-1]["tokens"] == 896


def test_measuring_the_speed_moves_no_weight(corpus, tmp_path, monkeypatch, unkilled):
    zero_state = pretrain.new_state

    def measure_first(run, loss):
        assert pretrain.measure_speed(loss, run, seconds=0.05) > 0
        return zero_state(run, loss)

    monkeypatch.setattr(pretrain, "new_state", measure_first)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


def test_pieces_change_nothing_but_rounding(corpus, tmp_path, unkilled):
    rows = run(corpus, tmp_path, "--piece", 4)
    for row, other in zip(rows, unkilled[1], strict=True):
        assert row == pytest.approx(other, abs=1e-5)


def test_worksheets_are_part_of_the_stream(corpus, tmp_path, monkeypatch, unkilled):
    rows = run(corpus, tmp_path / "a", "--worksheets", 0.5)
    (path,) = (tmp_path / "a").glob("worksheets-*.npy")
    sheets = np.load(path)
    import worksheets

    first = editions.tokenizer().encode(next(worksheets.documents(123)))
    assert sheets[: len(first) + 2].tolist() == [END, *first, END]
    assert rows[-1]["train_loss"] != unkilled[1][-1]["train_loss"]
    stopped(corpus, tmp_path / "b", monkeypatch, "--worksheets", 0.5)
    monkeypatch.setattr(worksheets, "documents", None)  # what was begun with one text ends with it
    assert run(corpus, tmp_path / "b", "--worksheets", 0.5) == rows
    assert same_weights(tmp_path / "a", tmp_path / "b")


def test_copying_is_measured_where_the_context_is_long_enough(corpus, tmp_path):
    long = ["--context", 200, "--batch", 200, "--tokens", 200, "--width", 8]
    row = run(corpus, tmp_path, *long)[-1]
    assert 0 <= row["repeated_tokens"] < 0.2


def test_a_run_can_begin_with_another_runs_model(corpus, tmp_path, unkilled):
    model = unkilled[0] / "model.safetensors"
    rows = run(corpus, tmp_path / "a", "--weights", model, "--seed", 124, "--tokens", 64, "--lr", 0)
    assert rows[-1]["train_loss"] < unkilled[1][0]["train_loss"] - 0.2
    message = refused(corpus, tmp_path / "b", "--weights", model, "--width", 32)
    assert "model.safetensors does not fit" in message and "size mismatch" in message
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(model.read_bytes()[:100])
    assert "does not fit" in refused(corpus, tmp_path / "b", "--weights", damaged)
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
    end = time.monotonic() + 60
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
    (tmp_path / "b" / "state.pt.unfinished-1").write_bytes(b"as a kill would leave it")
    assert run(corpus, tmp_path / "b", *long) == expected
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not list((tmp_path / "b").glob("*unfinished*"))


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_and_continues_later(corpus, tmp_path, monkeypatch, unkilled, by):
    handler = signal.getsignal(by)
    stopped(corpus, tmp_path, monkeypatch, at=7, by=by)
    assert signal.getsignal(by) == handler
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["step"], state["since"], len(log(tmp_path))) == (7, 1, 3)
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


def test_muon_moves_the_matrices_of_blocks_and_continues_like_adamw(corpus, tmp_path, monkeypatch):
    class Options:
        lr, weight_decay, optimizer = 0.1, 0.2, "muon"

    model = GPTModel(CFG)
    muon, adamw = pretrain.make_optimizers(model, Options)
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


def test_two_processes_make_the_losses_of_one(corpus, tmp_path):
    given = ["--worksheets", 0.25, "--tokens", 640]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = script(arguments(corpus, tmp_path / "two", *given, "--piece", 1), *torchrun)
    expected = run(corpus, tmp_path / "one", *given)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "2 process(es)" in printed
    for row, other in zip(log(tmp_path / "two"), expected, strict=True):
        assert row == pytest.approx(other, abs=2e-5)  # sums in another order
    ours, theirs = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert ours.keys() == theirs.keys()  # none begins with "module."
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-4) for k in ours)
    run(corpus, tmp_path / "two", *given)  # and one process takes up what two have left


def test_two_processes_refuse_in_one_line(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = script(arguments(tmp_path / "nowhere", tmp_path / "out"), *torchrun)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.count("pretrain: there is no folder") == 1 and 'pretrain.py", line' not in errors


# --- what goes wrong ---


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
        (["--tokens", 2048], "tokens 1024.0, not 2048.0"),
        (["--worksheets", 0.5], "worksheets 0.0, not 0.5"),
        (["--held-out", 3], "corpus-tokenizer"),
    ],
)
def test_a_state_of_another_run_is_left_alone(corpus, unkilled, change, says):
    before = (unkilled[0] / "state.pt").read_bytes()
    message = refused(corpus, unkilled[0], *change)
    assert "is of another run" in message and says in message
    assert (unkilled[0] / "state.pt").read_bytes() == before


def test_a_state_of_another_tokenizer(corpus, unkilled, monkeypatch):
    other = make_encoding("bytes", {bytes([b]): b for b in range(256)})
    monkeypatch.setattr(editions, "tokenizer", lambda: other)
    assert "vocab_size 4096, not 257" in refused(corpus, unkilled[0])


@pytest.mark.parametrize(
    "files, says",
    [
        (None, "there is no folder"),
        ({}, "holds no text"),
        ({"a.txt": b" \n"}, "holds no text"),
        ({"a.txt": "naïve".encode("latin-1")}, "a.txt is not UTF-8"),
        ({"a.txt": b"One work.", "b.txt": b"Another."}, "2 works cannot be held out of 2"),
        ({f"{i}.txt": b"Short." for i in range(3)}, "tokens: windows of 16 need at least 33"),
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
        (["--held-out", 0], "0 works cannot be held out of 6"),
        (["--batch", 60], "not a multiple of 16 tokens"),
        (["--context", 0], "not a multiple of 0 tokens"),
        (["--batch", 0], "not a multiple of 16 tokens"),
        (["--worksheets", 1], "is no share"),
        (["--worksheets", -0.1], "is no share"),
        (["--tokens", 63], "below one step of 64"),
        (["--heads", 3], "is not divisible by"),
        (["--layers", 0], "n_layers is 0"),
    ],
)
def test_options_that_cannot_be(corpus, tmp_path, given, says):
    assert says in refused(corpus, tmp_path, *given)


def test_a_place_that_cannot_be_written(corpus, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert str(tmp_path / "file") in refused(corpus, tmp_path / "file" / "out")


def full_disk(monkeypatch, times):
    """The disk is full the next so many times that a state is written."""
    landing, left = pretrain.os.fsync, [times]

    def fsync(number):
        if left[0] > 0 and ".pt" in os.readlink(f"/proc/self/fd/{number}"):
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        landing(number)

    monkeypatch.setattr(pretrain.os, "fsync", fsync)


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's list of open files")
def test_a_full_disk_at_the_end_leaves_the_old_state(corpus, tmp_path, monkeypatch, unkilled):
    stopped(corpus, tmp_path, monkeypatch)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        full_disk(patch, times=99)
        message = refused(corpus, tmp_path)
    assert "state.pt could not be written: No space left on device" in message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert run(corpus, tmp_path) == unkilled[1] and same_weights(tmp_path, unkilled[0])


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux's list of open files")
def test_a_full_disk_on_the_way_does_not_stop_the_run(
    corpus, tmp_path, monkeypatch, unkilled, capsys
):
    stopped(corpus, tmp_path, monkeypatch)
    full_disk(monkeypatch, times=3)
    assert run(corpus, tmp_path, "--save-minutes", 0) == unkilled[1]
    assert capsys.readouterr().err.count("No space left on device; going on") == 3


def test_a_loss_that_is_no_number(corpus, tmp_path, monkeypatch):
    backward = pretrain.backward
    stopped(corpus, tmp_path, monkeypatch)
    monkeypatch.setattr(pretrain, "backward", lambda *given: backward(*given) * math.nan)
    assert "no longer finite after 384 tokens: lower --lr" in refused(corpus, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5
