"""The course's models as they ship: whole, language models of English, able to copy; and how they are put there."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from scripts import scripts

from shared import editions, encodings, files, models
from shared.corpus import plain
from shared.gpt_model import GPTModel

FOLDER = Path(__file__).resolve().parents[1] / "ch05_pretraining"
sys.path.insert(0, str(FOLDER))

import card  # noqa: E402
import induction  # noqa: E402
import names  # noqa: E402
import run_state  # noqa: E402
import samples  # noqa: E402
import ship  # noqa: E402

(train_tokenizer,) = scripts(editions.CHAPTER_2, "train_tokenizer")


FOLDERS = {"second": models.COURSE_GPT, "first": models.FIRST_GPT}


@pytest.fixture(scope="module")
def pretrained():
    return models.pretrained()


@pytest.fixture(scope="module", params=FOLDERS)
def either(request):
    """Each model with its configuration and its tokenizer."""
    first = request.param == "first"
    return *models.pretrained(first), encodings.tokenizer(first)


def test_what_pretrained_returns(either):
    model, cfg, tokenizer = either
    assert (cfg["n_layers"], cfg["emb_dim"], cfg["n_heads"]) == (6, 256, 8)
    assert (cfg["context_length"], cfg["vocab_size"]) == (256, tokenizer.n_vocab)
    assert not model.training and model.out_head.weight is model.tok_emb.weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_who_trains_his_model_spoils_no_other(pretrained):
    for first in (False, True):
        one, other = (models.pretrained(first)[0].tok_emb.weight for _ in range(2))
        assert one is not other and one.equal(other)
    assert not one.equal(pretrained[0].tok_emb.weight)


@pytest.mark.parametrize("which", FOLDERS)
def test_what_ships(which):
    files = {path.name: path for path in FOLDERS[which].iterdir()}
    names = {"config.json", "model.safetensors", "log.csv", "measures.csv", "SHA256SUMS"}
    assert set(files) == names | {"README.md"} | ({"samples.txt"} if which == "second" else set())
    assert sum(path.stat().st_size for path in files.values()) <= 25e6
    for line in files["SHA256SUMS"].read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name
    stored = safetensors.torch.load_file(files["model.safetensors"])
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


@torch.inference_mode()
def test_it_has_learned_english(either):
    model, _, tokenizer = either
    text = plain(editions.text())
    ids = torch.tensor(tokenizer.encode(text))
    windows = ids[: len(ids) // 257 * 257].view(-1, 257)
    logits = model(windows[:, :-1]).flatten(0, 1)
    nats = F.cross_entropy(logits, windows[:, 1:].flatten(), reduction="sum").item()
    size = len(tokenizer.decode(windows[:, 1:].flatten().tolist()).encode())
    assert nats / size / 0.6931 < 1.75  # bits per byte on a text of ours, in another manner


def test_its_greedy_text_is_english(either):
    model, cfg, tokenizer = either
    known = set(re.findall(r"[a-z]+", editions.text().lower()))
    known |= set(json.loads((FOLDER / "words.json").read_text(encoding="utf-8"))["common"])
    known = set(" ".join(known).split())
    texts = samples.greedy(model, tokenizer, cfg["context_length"])
    assert list(texts) == samples.OPENINGS and {len(ids) for ids in texts.values()} == {60}
    found = [w for ids in texts.values() for w in re.findall("[a-z]+", tokenizer.decode(ids).lower())]  # fmt: skip
    assert len(found) > 200 and len(set(found)) > 40
    assert sum(word in known for word in found) > 0.7 * len(found)  # of about 5,000 words


def test_it_copies_from_its_context(either):
    model, _, tokenizer = either
    assert induction.repeated_tokens(model, names.ordinary_tokens(tokenizer), 32) >= 0.8


# --- ways to spoil it ---


def as_run(folder, tokens=300):
    """The shipped model as if pretrain.py had just made it."""
    shutil.copytree(models.COURSE_GPT, folder)
    torch.save({"tokens": tokens, "seconds": 7.4}, folder / "state.pt")
    return folder


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The shipped folder, to be damaged."""
    ship.ship([as_run(tmp_path / "run")], tmp_path / "course_gpt")
    shutil.rmtree(tmp_path / "run")
    monkeypatch.setattr(models, "COURSE_GPT", tmp_path / "course_gpt")
    return tmp_path / "course_gpt"


def test_shipping_copies_all_and_leaves_nothing_else(copy, pretrained):
    names = {"config.json", "model.safetensors", "log.csv", "SHA256SUMS"}
    assert {path.name for path in copy.iterdir()} == names
    assert [path.name for path in copy.parent.iterdir()] == ["course_gpt"]
    ours, theirs = models.pretrained()[0].state_dict(), pretrained[0].state_dict()
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
    cfg = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(cfg | {"emb_dim": 64}))
    with pytest.raises(SystemExit, match="ship: .*do not fit"):
        ship.main(given)
    (run / "config.json").write_text(json.dumps(cfg))
    for wrong, says in (
        (["--average", "1"], "weights holds 0 weights"),
        (["--tokenizer", str(encodings.FIRST_TOKENIZER)], "made with another tokenizer"),
    ):
        with pytest.raises(SystemExit, match=f"ship: .*{says}"):
            ship.main([*given, *wrong])
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


SMALL = {"vocab_size": 4096, "context_length": 256, "emb_dim": 8, "n_heads": 1, "n_layers": 1}
SMALL |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


@pytest.fixture
def small(tmp_path):
    """A run of a small model with three weights at the last rows of its log, and these as tensors."""
    run = tmp_path / "run"
    (run / "weights").mkdir(parents=True)
    kept = []
    for tokens in (100, 250, 300):
        torch.manual_seed(tokens)
        path = run / "weights" / f"{tokens:012}.safetensors"
        run_state.save_weights(path, GPTModel(SMALL))
        kept.append(safetensors.torch.load_file(path))
    shutil.copy(path, run / "model.safetensors")
    name = encodings.tokenizer_sha256(encodings.COURSE_TOKENIZER)
    (run / "config.json").write_bytes(files.as_json(SMALL | {"tokenizer": name}))
    (run / "log.csv").write_text("tokens,seconds,valid_loss\n300,2,4.5\n")
    torch.save({"tokens": 300, "seconds": 7.4}, run / "state.pt")
    return run, kept


def shipped(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def test_the_mean_of_the_last_weights_can_be_shipped(small, tmp_path):
    run, kept = small
    for last, parts in ((None, kept[2:]), (1, kept[2:]), (2, kept[1:]), (3, kept)):
        ship.ship([run], tmp_path / "out", last)
        for name, tensor in shipped(tmp_path / "out").items():
            mean = sum(part[name].float() for part in parts) / len(parts)
            assert torch.equal(tensor, mean.half()), (last, name)
        model, cfg = models.load_model(tmp_path / "out")
        assert cfg == SMALL and model.out_head.weight is model.tok_emb.weight
    for wrong in (0, -1, 4):
        with pytest.raises(ValueError, match=rf"weights holds 3 weights: .* not of {wrong}"):
            ship.ship([run], tmp_path / "out", wrong)


def test_a_folder_of_somebody_is_left_alone(small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.safetensors").write_text("mine")
    with pytest.raises(ValueError, match="out is not empty, and holds no model of ours"):
        ship.ship([small[0]], tmp_path / "out")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_the_mean_is_taken_in_float32(small):
    run, kept = small
    paths = sorted((run / "weights").iterdir())
    for path in paths[:2]:
        shutil.copy(paths[2], path)
    mean = ship.averaged(run, 3)  # of equal weights
    assert all(torch.equal(mean[name], tensor.float()) for name, tensor in kept[2].items())
    big = {name: torch.full_like(tensor, 60_000.0) for name, tensor in kept[0].items()}
    for path in paths:
        safetensors.torch.save_file(big, path)
    assert all((tensor == 60_000).all() for tensor in ship.averaged(run, 3).values())


@pytest.fixture
def texts(tmp_path):
    """Options of ship.py: two works, one of them held out, and two further texts, of two documents and one."""
    works = [
        "The sea rose, and Anne and Anne went home. " * 20,
        "Held Out\n\nJim saw Jim there. " * 90,
    ]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "works.txt").write_text("\n<|endoftext|>\n".join(works))
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "talk.txt").write_text(
        "Hello!\n<|endoftext|>\nWhat is it? " + "Oh. " * 30
    )
    (tmp_path / "shelf" / "news.en.txt").write_text("The river rose again last night. " * 9)
    (tmp_path / "held_out.tsv").write_text("title\tsha256\nHeld Out\t\n")
    folders = {"--corpus": "corpus", "--valid": "shelf", "--out": "out", "--held-out": "held_out.tsv"}  # fmt: skip
    return [str(part) for key, place in folders.items() for part in (key, tmp_path / place)]


def test_all_that_a_card_says_is_measured_for_both_models_on_the_same_texts(small, texts, tmp_path, capsys):  # fmt: skip
    run, _ = small
    log = "tokens,seconds,bits_per_byte,bits_talk,bits_news,lr,repeated_tokens,returning_names,known,left_out\n"
    rows = [f"{m}000000,{m}0,{9 - m},2,3,0.004,0.1,0.2,0.3,0.25\n" for m in range(1, 8)]
    (run / "log.csv").write_text(log + "".join(rows))
    np.save(run / "train-works-1.npy", np.zeros(9, dtype=np.uint16))
    other = tmp_path / "other"
    models.save_model(other, GPTModel(SMALL), SMALL, "step\n", encodings.FIRST_TOKENIZER)
    template = tmp_path / "card.md"
    template.write_text(
        "{{shape}}, {{parameters}}: {{context}}\n\n{{comparison}}\n\n{{curve}}\n\n{{samples}}\n"
    )
    ship.main(["--runs", str(run), *texts, "--average", "2", "--compare", str(other), "--card", str(template)])  # fmt: skip
    table = pd.read_csv(tmp_path / "out" / "measures.csv", dtype=str)
    bits = table[table.measure.str.startswith("bits per byte: ")]
    wanted = ["Held Out", card.WORKS, "news", "talk", card.TODAY]
    for model in ("out", "other"):
        ours = bits[bits.model == model]
        assert [measure.partition(": ")[2] for measure in ours.measure] == wanted
        value = dict(zip(wanted, ours.value.astype(float)))
        assert all(0 < bits < 16 for bits in value.values())
        assert value["Held Out"] == value[card.WORKS]  # the only one
        assert min(value["news"], value["talk"]) < value[card.TODAY] < max(value["news"], value["talk"])  # fmt: skip
    others = table.measure[~table.index.isin(bits.index)].tolist()
    assert others[:2] == others[2:] and others[0] == "repeated random tokens"
    for name in ("measures.csv", "samples.txt"):
        digest = hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()
        assert f"{digest}  {name}\n" in (tmp_path / "out" / "SHA256SUMS").read_text()
    readme = (tmp_path / "out" / "README.md").read_text()
    assert readme == card.filled(template, tmp_path / "out")
    value = bits[bits.model == "out"].value.tolist()
    assert readme.startswith("1 blocks, width 8, 1 heads, 35,704: 256\n\n| | other | out |")
    other_value = bits[bits.model == "other"].value.tolist()
    assert f"| talk | {other_value[3]} | {value[3]} |" in readme
    assert "| 7.0 | 2.000 | 2.500 | 10 % | 20 % | 30 % | 25 % |\n" in readme
    assert "no run of 30 tokens of the training text" in readme
    assert readme.count("\n> **") == len(samples.OPENINGS)
    assert "Of 10 texts" in capsys.readouterr().out


def test_a_card_of_other_weights_is_refused(small, texts, tmp_path):
    template = tmp_path / "card.md"
    template.write_text("{{size}}")
    (small[0] / "log.csv").write_text("tokens,seconds,bits_per_byte,lr\n300,2,4.5,0.1\n")
    given = ["--runs", str(small[0]), *texts]
    ship.main([*given, "--card", str(template)])
    before = (tmp_path / "out" / "README.md").read_text()
    assert before == "0.1 MB"
    template.write_text("{{weight}}")
    for folder, says in (
        (tmp_path / "out", r"\{\{weight\}\} is none of"),
        (tmp_path / "no", "No such file"),
    ):
        with pytest.raises(SystemExit, match=f"card: .*{says}"):
            card.main([str(template), str(folder)])
    ship.ship([small[0]], tmp_path / "out", 3)
    with pytest.raises(SystemExit, match="measures.csv is of other weights: run ship.py"):
        card.main([str(template), str(tmp_path / "out")])
    assert (tmp_path / "out" / "README.md").read_text() == before


def test_a_model_with_a_tokenizer_of_its_own_is_not_compared(small, tmp_path):
    cfg = json.loads((small[0] / "config.json").read_text())
    assert ship.tokenizer_of(small[0]) == encodings.COURSE_TOKENIZER
    assert ship.tokenizer_of(models.FIRST_GPT) == encodings.FIRST_TOKENIZER
    (small[0] / "config.json").write_text(json.dumps(cfg | {"tokenizer": "x"}))
    with pytest.raises(ValueError, match="names no tokenizer of the course: x"):
        ship.tokenizer_of(small[0])


# --- circles, and what is recited ---


def test_circles():
    assert not samples.in_circles([1, 2, 3, 4] * 2 + [5]) and not samples.in_circles([])
    assert samples.in_circles([1, 2, 3, 4, 9] * 3) and samples.in_circles([7] * 6)
    assert not samples.in_circles([7] * 5)  # the same four twice


@pytest.mark.parametrize("start", [0, 1, 7, 29])
def test_what_is_recited(start):
    rng = np.random.default_rng(start)
    read = rng.integers(0, 4096, 1000, dtype=np.uint16)
    ids = rng.integers(0, 4096, 60)
    for length, found in ((30, True), (29, False)):
        text = ids.copy()
        text[start : start + length] = read[500 : 500 + length]
        text[start + length :] = 0
        assert samples.recites(text.tolist(), read.tobytes()) == found
    assert samples.recites(read[1:6].tolist(), read.tobytes(), 5)
    shifted = np.frombuffer(b"\x00" + read.tobytes() + b"\x00", dtype=np.uint16)
    assert not samples.recites(read[500:560].tolist(), shifted.tobytes())  # at odd bytes only


def test_a_sample_is_quoted_as_it_came():
    text = " is *\n\n_I_ | <b>\n- B: a-b\n"
    lines = ["**A dog** is \\*", "", "\\_I\\_ \\| \\<b\\>\\", "\\- B: a-b"]
    assert samples.quoted("A dog", text).split("\n") == [f"> {line}".rstrip() for line in lines]


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} cannot be read: .*git checkout"):
        models.pretrained()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .*git checkout"):
        models.pretrained()


# --- and the tokenizer that a model was made with ---

FIRST = "75f7998f13f447358336e41ae7de255e567efb2a0ec35451564411b5618cffba"
SECOND = "b9ef019dbd69447ac119a371c9df71598576a8fe64e5434842387ce49bbbaedd"


def renamed(folder, **changed):
    """A model's folder with another config.json, as if it had been written so."""
    cfg = json.loads((folder / "config.json").read_text()) | changed
    content = files.as_json({key: value for key, value in cfg.items() if value is not None})
    sums = (folder / "SHA256SUMS").read_text().splitlines()[1:]
    digest = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_bytes(content)
    (folder / "SHA256SUMS").write_text("\n".join([f"{digest}  config.json", *sums, ""]))


def other_tokenizer(folder):
    """A tokenizer of the same size, whose first two merges have changed places."""
    ranks = encodings.load_ranks(encodings.FIRST_TOKENIZER)
    tokens = list(ranks)
    tokens[256], tokens[257] = tokens[257], tokens[256]
    path = folder / "other.txt"
    train_tokenizer.save_ranks(path, {token: i for i, token in enumerate(tokens)}, ["Ours."])
    assert len(encodings.load_ranks(path)) == len(ranks)
    return path


NAMED = {
    "COURSE_GPT": (models.pretrained, "COURSE_TOKENIZER", SECOND),
    "FIRST_GPT": (lambda: models.pretrained(first=True), "FIRST_TOKENIZER", FIRST),
    "SPAM_GPT": (models.classifier, "FIRST_TOKENIZER", FIRST),
    "ASSISTANT_GPT": (models.instruction_model, "FIRST_TOKENIZER", FIRST),
}


@pytest.mark.parametrize("folder", NAMED)
def test_what_ships_names_its_tokenizer(folder, tmp_path, monkeypatch):
    load, constant, name = NAMED[folder]
    stored = json.loads((getattr(models, folder) / "config.json").read_text())
    assert stored.pop("tokenizer") == name == encodings.tokenizer_sha256(getattr(encodings, constant))  # fmt: skip
    assert load()[1] == stored  # without the entry
    monkeypatch.setattr(encodings, constant, other_tokenizer(tmp_path))
    with pytest.raises(ValueError, match=f"{folder.lower()} holds a model made with another"):
        load()


def test_a_model_with_another_tokenizer_is_refused(copy, tmp_path):
    other = other_tokenizer(tmp_path)
    name = encodings.tokenizer_sha256(other)
    with pytest.raises(ValueError) as caught:
        models.load_model(copy, other)
    ours = f"course_tokenizer_2.txt ({SECOND[:12]})"
    for part in (str(copy), ours, name[:12], "train the model"):
        assert part in str(caught.value)
    model, cfg = models.load_model(copy)
    models.save_model(copy, model, cfg, "step\n", other)
    assert json.loads((copy / "config.json").read_text())["tokenizer"] == name
    assert models.load_model(copy, other)[1] == cfg
    with pytest.raises(ValueError, match=f"{name[:12]}.*, not course_tokenizer_2.txt"):
        models.load_model(copy)


def test_a_model_that_names_no_tokenizer_is_refused_until_it_does(tmp_path, monkeypatch):
    """Such a model is older than the second tokenizer: it was made with the first one."""
    old = shutil.copytree(models.FIRST_GPT, tmp_path / "old")
    monkeypatch.setattr(models, "FIRST_GPT", old)
    renamed(old, tokenizer=None)
    with pytest.raises(ValueError) as caught:
        models.pretrained(first=True)
    line = f'"tokenizer": "{FIRST}"'
    for part in (str(old / "config.json"), "older version", "course_tokenizer.txt", line):
        assert part in str(caught.value)
    text = (old / "config.json").read_text()
    (old / "config.json").write_text(text.replace("{", "{" + line + ",", 1))
    assert models.pretrained(first=True)[1]["n_layers"] == 6  # SHA256SUMS need not be touched
    for other in (other_tokenizer(tmp_path), encodings.COURSE_TOKENIZER):
        with pytest.raises(ValueError, match="made with another tokenizer"):
            models.load_model(old, other)


def test_a_name_that_is_no_checksum(copy):
    renamed(copy, tokenizer=["x"])
    with pytest.raises(ValueError, match="the course does not know"):
        models.pretrained()


def test_a_model_of_gpt2s_size_has_gpt2s_tokenizer(tmp_path):
    cfg = {"vocab_size": encodings.GPT2_TOKENS, "context_length": 8, "emb_dim": 2, "n_heads": 1}
    cfg |= {"n_layers": 1, "drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}
    models.save_model(tmp_path / "model", GPTModel(cfg), cfg, "step\n")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["tokenizer"] == "gpt2"
    assert models.load_model(tmp_path / "model")[1] == cfg
    renamed(tmp_path / "model", tokenizer=None)
    with pytest.raises(ValueError, match='add "tokenizer": "gpt2"'):
        models.load_model(tmp_path / "model")
