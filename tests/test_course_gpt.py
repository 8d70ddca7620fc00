"""The course model as it ships: whole, a language model of English, able to copy; and how it is put there."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from shared import editions
from shared.corpus import plain
from shared.gpt_model import generate_text_cached

FOLDER = Path(__file__).resolve().parents[1] / "ch05_pretraining"
sys.path.insert(0, str(FOLDER))

import copying  # noqa: E402
import ship  # noqa: E402


@pytest.fixture(scope="module")
def pretrained():
    return editions.pretrained()


def test_what_pretrained_returns(pretrained):
    model, cfg = pretrained
    assert (cfg["n_layers"], cfg["emb_dim"], cfg["n_heads"]) == (6, 256, 8)
    assert (cfg["context_length"], cfg["vocab_size"]) == (256, editions.tokenizer().n_vocab)
    assert not model.training and model.out_head.weight is model.tok_emb.weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert editions.pretrained()[0] is not model  # a copy for each: who trains his, spoils no other


def test_what_ships():
    files = {path.name: path for path in editions.COURSE_GPT.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "log.csv", "SHA256SUMS", "README.md"}
    assert sum(path.stat().st_size for path in files.values()) <= 25e6
    for line in files["SHA256SUMS"].read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name
    stored = safetensors.torch.load_file(files["model.safetensors"])
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


@torch.inference_mode()
def test_it_has_learnt_english(pretrained):
    model, tokenizer = pretrained[0], editions.tokenizer()
    text = plain(editions.text())
    ids = torch.tensor(tokenizer.encode(text))
    windows = ids[: len(ids) // 257 * 257].view(-1, 257)
    logits = model(windows[:, :-1]).flatten(0, 1)
    nats = F.cross_entropy(logits, windows[:, 1:].flatten(), reduction="sum").item()
    size = len(tokenizer.decode(windows[:, 1:].flatten().tolist()).encode())
    assert nats / size / 0.6931 < 1.75  # bits per byte on a text of ours, in another manner


def test_its_greedy_text_is_english(pretrained):
    model, tokenizer = pretrained[0], editions.tokenizer()
    known = set(re.findall(r"[a-z]+", editions.text().lower()))
    known |= set(json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))["common"])
    known = set(" ".join(known).split())
    found = []
    for prompt in ship.PROMPTS:
        start = torch.tensor([tokenizer.encode(prompt)])
        ids = generate_text_cached(model, start, 60, 256)[0, start.shape[1] :]
        found += re.findall(r"[a-z]+", tokenizer.decode(ids.tolist()).lower())
    assert len(found) > 60 and len(set(found)) > 30
    assert sum(word in known for word in found) > 0.7 * len(found)  # of about 5,000 words


def test_it_copies_from_its_context(pretrained):
    model, tokenizer = pretrained[0], editions.tokenizer()
    assert copying.repeated_tokens(model, copying.ordinary_tokens(tokenizer), 32) >= 0.8


# --- ways to spoil it ---


def as_run(folder, step=3):
    """The shipped model as if pretrain.py had just made it."""
    shutil.copytree(editions.COURSE_GPT, folder)
    state = {"step": step, "seconds": 7.4, "identity": {"batch": 100}}
    torch.save(state, folder / "state.pt")
    return folder


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The shipped folder, to be damaged."""
    ship.ship([as_run(tmp_path / "run")], tmp_path / "course_gpt")
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setattr(editions, "COURSE_GPT", tmp_path / "course_gpt")
    return tmp_path / "course_gpt"


def test_shipping_copies_all_and_leaves_nothing_else(copy, pretrained):
    names = {"config.json", "model.safetensors", "log.csv", "SHA256SUMS"}
    assert {path.name for path in copy.iterdir()} == names
    assert [path.name for path in copy.parent.iterdir()] == ["course_gpt"]
    ours, theirs = editions.pretrained()[0].state_dict(), pretrained[0].state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_logs_of_runs_become_one(copy, tmp_path):
    runs = [as_run(tmp_path / name) for name in ("first", "second")]
    for run in runs:
        (run / "log.csv").write_text("tokens,seconds,valid_loss\n100,2,4.5\n250,5,4.25\n")
    ship.ship(runs, copy)
    rows = (copy / "log.csv").read_text().split()
    assert rows[1:] == ["100,2,4.5", "250,5,4.25", "400,9,4.5", "550,12,4.25"]


def test_a_run_that_cannot_be_shipped_changes_nothing(copy, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    run = as_run(tmp_path / "run")
    given = ["--runs", str(run), "--corpus", str(run), "--out", str(copy)]
    (run / "log.csv").rename(run / "aside")
    with pytest.raises(SystemExit, match="ship: .*No such file"):
        ship.main(given)
    (run / "aside").rename(run / "log.csv")
    (run / "config.json").write_text(json.dumps(editions.pretrained()[1] | {"emb_dim": 64}))
    with pytest.raises(SystemExit, match="ship: .*do not fit"):
        ship.main(given)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} cannot be read: .*git checkout"):
        editions.pretrained()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .*git checkout"):
        editions.pretrained()
