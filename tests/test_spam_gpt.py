"""The spam classifier that ships, and the scripts that make it, ask it and compare it with others."""

import hashlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from scripts import scripts

from shared import editions, encodings, models
from shared.classification import SpamDataset, loader_logits
from shared.gpt_model import GPTModel
from shared.guards import evaluation_mode

FOLDER = Path(__file__).resolve().parents[1] / "ch06_classification"

classify, make_spam_gpt, compare_classifiers = scripts(
    FOLDER, "classify", "make_spam_gpt", "compare_classifiers"
)

TINY = {"vocab_size": 4096, "context_length": 256, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
TINY |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    for switch in editions.SWITCHES:
        monkeypatch.delenv(switch, raising=False)


@pytest.fixture(scope="module")
def classifier():
    return models.classifier()


# --- what ships ---


def test_what_classifier_returns(classifier, monkeypatch):
    model, cfg = classifier
    assert cfg["classes"] == ["ham", "spam"] and 0 < cfg["threshold"] < 1
    assert not model.training and {p.dtype for p in model.parameters()} == {torch.float32}
    assert model(torch.tensor([[1, 2, 3]])).shape == (1, 3, 2)
    assert model.tok_emb.weight.shape == (4096, 256)
    monkeypatch.setenv("COURSE_MODEL", "gpt2")  # without a network
    again = models.classifier()[0]
    assert again is not model and torch.equal(again.out_head.weight, model.out_head.weight)
    assert encodings.course_encoding(first=True).n_vocab == 4096


def test_what_ships():
    files = {path.name: path for path in models.SPAM_GPT.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "log.csv", "SHA256SUMS", "README.md"}
    for line in files["SHA256SUMS"].read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name
    stored = safetensors.torch.load_file(files["model.safetensors"])
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert files["model.safetensors"].stat().st_size < 12e6
    log = pd.read_csv(files["log.csv"])
    assert log.stage.tolist() == ["reading"] * 4 + ["labels"] * 3


def shipped_scores(model, cfg):
    """Of the test messages, all and hard: what the card says."""
    table = editions.messages().query("split == 'test'")
    hard = torch.tensor(table.hard.to_numpy())
    encoding = encodings.course_encoding(first=True)
    dataset = SpamDataset(table, encoding, pad_token_id=encoding.eot_token)
    order = np.argsort(table.text.str.len()).tolist()
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(dataset, order), batch_size=64)
    labels, logits = loader_logits(loader, model, "cpu", pad_token_id=encoding.eot_token)
    said = (logits.softmax(dim=-1)[:, 1] >= cfg["threshold"]).long()
    chosen = {"all": torch.ones_like(hard), "hard": hard[order]}
    return {kind: compare_classifiers.scores(labels[c], said[c]) for kind, c in chosen.items()}


def test_the_card_says_how_good_it_is(classifier):
    card = (models.SPAM_GPT / "README.md").read_text(encoding="utf-8")
    for kind, found in shipped_scores(*classifier).items():
        assert f"| {kind} | " + " | ".join(f"{v:.3f}" for v in found.values()) + " |" in card


def copied(tmp_path, monkeypatch):
    folder = tmp_path / "spam_gpt"
    folder.mkdir()
    for path in models.SPAM_GPT.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(models, "SPAM_GPT", folder)
    return folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_damaged_folder(name, tmp_path, monkeypatch):
    path = copied(tmp_path, monkeypatch) / name
    if name != "SHA256SUMS":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(ValueError, match=rf"{name} is damaged: .*git checkout"):
            models.classifier()
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name} cannot be read: .*git checkout"):
        models.classifier()


# --- classify.py ---


def classified(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        classify.main(list(arguments))
    return ended.value.code, *capsys.readouterr()


class Lines(io.TextIOWrapper):
    def __init__(self, content):
        super().__init__(io.BytesIO(content), encoding="latin-1")


def test_a_message_as_argument(capsys):
    prize = "WINNER! Claim your free £500 prize now, txt WIN to 80123"
    code, out, err = classified(capsys, prize)
    assert code == 0 and not err and out.startswith("spam ") and out.endswith(f"{prize}\n")
    assert classified(capsys, *prize.split())[1] == out  # without quotation marks
    assert classified(capsys, "ok see you at 5 then")[1].startswith("ham ")


def test_messages_as_lines(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Lines("see you at 5 £\n\nhome now\r\n".encode()))
    code, out, err = classified(capsys)
    assert code == 1 and [line[12:] for line in out.splitlines()] == ["see you at 5 £", "home now"]  # fmt: skip
    assert err == "classify: line 2: the message is empty: there is nothing to classify\n"


def test_messages_that_cannot_be_classified(capsys, tmp_path, monkeypatch):
    assert "the message is empty" in classified(capsys, "  ")[2]
    code, out, err = classified(capsys, "word " * 257)
    assert (code, out) == (1, "") and "258 tokens, and at most 256" in err
    assert "<|endoftext|>" in classified(capsys, "<|endoftext|>")[1]  # text like any other
    (copied(tmp_path, monkeypatch) / "config.json").unlink()
    assert "config.json cannot be read" in classified(capsys, "hello")[0]


def test_it_is_a_program():
    command = [sys.executable, FOLDER / "classify.py", "home by six, love you"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ham ") and not done.stderr


# --- make_spam_gpt.py, on a tiny model and few messages ---


def few(table, count=12):
    return table.groupby(["label", "split"]).head(count).reset_index(drop=True)


@pytest.fixture
def tiny(monkeypatch):
    torch.manual_seed(1)
    model, table = GPTModel(TINY).eval(), few(editions.messages())
    monkeypatch.setattr(models, "pretrained", lambda first=False: (model, TINY))
    monkeypatch.setattr(editions, "messages", lambda: table)
    return table


def made(folder, *options):
    make_spam_gpt.main(["--out", str(folder), "--reading-epochs", "2", "--epochs", "2", *options])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_it_makes(tiny, tmp_path, monkeypatch):
    assert set(made(tmp_path / "a")) == {
        "config.json",
        "model.safetensors",
        "log.csv",
        "SHA256SUMS",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    monkeypatch.setattr(models, "SPAM_GPT", tmp_path / "a")
    model, cfg = models.classifier()
    assert model.out_head.weight.shape == (2, 16) and cfg["emb_dim"] == 16


def test_messages_longer_than_the_context_are_cut(tiny, tmp_path, monkeypatch):
    cfg = TINY | {"context_length": 16}
    monkeypatch.setattr(models, "pretrained", lambda first=False: (GPTModel(cfg), cfg))
    assert "config.json" in made(tmp_path / "a")
    loader = make_spam_gpt.loader_of(tiny, encodings.tokenizer(first=True), 16)
    assert max(batch.shape[1] for batch, _ in loader) == 16


def test_the_test_part_is_not_used(tiny, tmp_path, monkeypatch):
    first = made(tmp_path / "a")
    other = tiny.assign(text=tiny.text.where(tiny.split != "test", "nonsense"))
    monkeypatch.setattr(editions, "messages", lambda: other)
    assert made(tmp_path / "b") == first


def test_the_validation_part_chooses_the_threshold_only(tiny, tmp_path, monkeypatch):
    first = made(tmp_path / "a")
    part = tiny.split == "validation"
    other = tiny.assign(text=tiny.text.where(~part, tiny.text[::-1].tolist()))
    monkeypatch.setattr(editions, "messages", lambda: other)
    second = made(tmp_path / "b")
    assert second["model.safetensors"] == first["model.safetensors"]
    assert second["config.json"] != first["config.json"]


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import make_spam_gpt, torch
from shared import editions, encodings, models
from shared.gpt_model import GPTModel
torch.manual_seed(1)
model, table = GPTModel({tiny}).eval(), editions.messages().groupby(["label", "split"]).head(12)
models.pretrained = lambda: (model, {tiny})
editions.messages = lambda: table.reset_index(drop=True)
calls, loss = [], make_spam_gpt.{loss}
def die(*args):
    calls.append(args)
    if len(calls) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(*args)
make_spam_gpt.{loss} = die
make_spam_gpt.main(["--out", {out!r}, "--reading-epochs", "2", "--epochs", "2"])
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("loss, after, left", [("calc_loss_batch", 2, ["reading"]), ("calc_class_loss_batch", 4, ["labels", "reading"])])  # fmt: skip
def test_killed_in_the_second_epoch_it_goes_on(loss, after, left, tiny, tmp_path, capsys):
    whole = made(tmp_path / "whole")
    capsys.readouterr()
    out = tmp_path / "killed"
    program = KILLED.format(folder=str(FOLDER), tiny=TINY, loss=loss, after=after, out=str(out))
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    saved = sorted(path.name for path in tmp_path.glob("killed*"))
    assert saved == [f"killed.{stage}.pt" for stage in left]
    assert made(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
    epochs = [line.split(",")[0] for line in capsys.readouterr().out.splitlines()]
    done = ["epoch 2", "epoch 1", "epoch 2"] if len(left) == 1 else ["epoch 2"]
    assert epochs[:-1] == done


def test_what_was_saved_by_another_run(tiny, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="same command goes on"):
        patch.setattr(make_spam_gpt, "calc_class_loss_batch", interrupted)
        made(tmp_path / "not yet" / "a")
    with pytest.raises(SystemExit, match="a.reading.pt is of another run .*seed 123.*seed 7"):
        made(tmp_path / "not yet" / "a", "--seed", "7")


def test_a_run_that_has_finished_says_so(tiny, tmp_path, capsys):
    first = made(tmp_path / "a")
    (tmp_path / "a.labels.pt").write_text("left over by a kill")
    capsys.readouterr()
    assert made(tmp_path / "a") == first
    assert capsys.readouterr().out == f"{tmp_path / 'a'}: finished\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("whose", ["another run's", "changed", "somebody's"])
def test_a_folder_of_somebody_is_left_alone(whose, tiny, tmp_path):
    (tmp_path / "a").mkdir()
    if whose == "somebody's":
        (tmp_path / "a" / "config.json").write_text("mine")
    else:
        made(tmp_path / "a", *(["--seed", "7"] if whose == "another run's" else []))
    if whose == "changed":
        (tmp_path / "a" / "model.safetensors").write_text("trained further")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(SystemExit, match="make_spam_gpt: .*a is not empty, .*name a new folder"):
        made(tmp_path / "a")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before


def test_what_ships_is_left_alone(tiny):
    before = {path.name: path.read_bytes() for path in models.SPAM_GPT.iterdir()}
    with pytest.raises(SystemExit, match="name a new folder"):
        make_spam_gpt.main(["--out", str(models.SPAM_GPT)])
    assert {path.name: path.read_bytes() for path in models.SPAM_GPT.iterdir()} == before


@pytest.mark.parametrize("option", ["--epochs", "--reading-epochs"])
def test_at_least_one_epoch(option, tiny, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        make_spam_gpt.main(["--out", str(tmp_path / "a"), option, "-1"])
    assert option in capsys.readouterr().err


def test_windows_ask_for_the_next_token():
    inputs, targets = make_spam_gpt.windows([[9, 1, 2, 9], [9, 3, 9]])
    assert inputs.tolist() == [[9, 1, 2], [9, 3, 0]]
    assert targets.tolist() == [[1, 2, 9], [3, 9, -100]]


# --- compare_classifiers.py ---


def test_the_stored_table():
    table = pd.read_csv(compare_classifiers.OUT)
    for name, (_, seeds) in compare_classifiers.ROWS.items():
        for kind in ("all", "hard"):
            found = table.seed[(table.row == name) & (table.cases == kind)].tolist()
            assert found == list(compare_classifiers.SEEDS[:seeds]), (name, kind)
    stored = hashlib.sha256((models.COURSE_GPT / "model.safetensors").read_bytes()).hexdigest()
    assert set(table.checkpoint) == {stored[:12]}
    messages = repr(editions.messages().values.tolist()).encode()
    assert set(table.messages) == {hashlib.sha256(messages).hexdigest()[:12]}
    for name in ("accuracy", "F1"):
        assert table[name].between(table[f"{name}_low"], table[f"{name}_high"]).all()


def test_it_goes_on_with_what_is_missing(tiny, tmp_path, capsys):
    out, data = tmp_path / "table.csv", compare_classifiers.Data()
    rows = {name: compare_classifiers.ROWS[name] for name in ("majority", "keyword rule")}
    compare_classifiers.compare(out, {"majority": rows["majority"]}, data)
    first = out.read_text()
    compare_classifiers.compare(out, rows, data)
    assert out.read_text().startswith(first)
    assert capsys.readouterr().out.count("--- majority") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    table = pd.read_csv(out)
    assert table.row.tolist() == ["majority"] * 2 + ["keyword rule"] * 2
    out.write_text(first.replace(table.messages[0], "0" * 12))
    with pytest.raises(ValueError, match="other messages: delete it"):
        compare_classifiers.compare(out, rows, data)


def test_a_row_is_the_same_twice(tiny):
    run, data = (
        compare_classifiers.fine_tuned("last block", epochs=1, start="read"),
        compare_classifiers.Data(),
    )
    first, second = run(data, 5), run(data, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert not torch.equal(first[1], run(data, 6)[1])
    assert [len(part) for part in first] == [len(data.labels[p]) for p in ("validation", "test")]


def test_reading_at_other_places():
    torch.manual_seed(1)
    model, ids = GPTModel(TINY).eval(), torch.randint(0, 4000, (3, 7))
    with evaluation_mode(model), torch.no_grad():
        logits = model(ids)
        assert torch.allclose(
            compare_classifiers.at_first_token(ids, model, "cpu", 0), logits[:, 0], atol=1e-5
        )
        assert torch.equal(compare_classifiers.at_last_position(ids, model, "cpu", 0), logits[:, 6])


def test_scores_and_their_intervals():
    labels = torch.tensor([1] * 50 + [0] * 50)
    spam = torch.tensor([0.9] * 40 + [0.3] * 10 + [0.1] * 50)
    rival = np.array([True] * 20 + [False] * 80)
    found = compare_classifiers.scored(labels, spam, 0.5, {"rival": rival})
    assert (found["accuracy"], found["recall"], found["precision"]) == (0.9, 0.8, 1.0)
    assert 0.82 <= found["accuracy_low"] <= 0.86 and 0.94 <= found["accuracy_high"] <= 0.96
    assert found["F1 above rival"] > 0.99 and found["average_precision"] == 1.0
    assert compare_classifiers.scored(labels, spam, 0.2, {})["recall"] == 1.0
