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
from scripts import scripts

from shared import editions, encodings, files, models
from shared.corpus import plain
from shared.gpt_model import GPTModel, generate_text_cached

FOLDER = Path(__file__).resolve().parents[1] / "ch05_pretraining"
sys.path.insert(0, str(FOLDER))

import induction  # noqa: E402
import names  # noqa: E402
import run_state  # noqa: E402
import ship  # noqa: E402

(train_tokenizer,) = scripts(editions.CHAPTER_2, "train_tokenizer")


@pytest.fixture(scope="module")
def pretrained():
    return models.pretrained()


def test_what_pretrained_returns(pretrained):
    model, cfg = pretrained
    assert (cfg["n_layers"], cfg["emb_dim"], cfg["n_heads"]) == (6, 256, 8)
    assert (cfg["context_length"], cfg["vocab_size"]) == (256, encodings.tokenizer().n_vocab)
    assert not model.training and model.out_head.weight is model.tok_emb.weight
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert models.pretrained()[0] is not model  # a copy for each: who trains his, spoils no other


@pytest.mark.parametrize("folder, more", [("COURSE_GPT", {"reading.tsv"}), ("FIRST_GPT", set())])
def test_what_ships(folder, more):
    files = {path.name: path for path in getattr(models, folder).iterdir()}
    names = {"config.json", "model.safetensors", "log.csv", "measures.csv", "SHA256SUMS"}
    assert set(files) == names | {"README.md"} | more
    assert sum(path.stat().st_size for path in files.values()) <= 25e6
    for line in files["SHA256SUMS"].read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name
    stored = safetensors.torch.load_file(files["model.safetensors"])
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}


@torch.inference_mode()
def test_it_has_learnt_english(pretrained):
    model, tokenizer = pretrained[0], encodings.tokenizer()
    text = plain(editions.text())
    ids = torch.tensor(tokenizer.encode(text))
    windows = ids[: len(ids) // 257 * 257].view(-1, 257)
    logits = model(windows[:, :-1]).flatten(0, 1)
    nats = F.cross_entropy(logits, windows[:, 1:].flatten(), reduction="sum").item()
    size = len(tokenizer.decode(windows[:, 1:].flatten().tolist()).encode())
    assert nats / size / 0.6931 < 1.75  # bits per byte on a text of ours, in another manner


def test_its_greedy_text_is_english(pretrained):
    model, tokenizer = pretrained[0], encodings.tokenizer()
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
    model, tokenizer = pretrained[0], encodings.tokenizer()
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


def test_works_and_further_texts_are_measured_one_by_one(small, tmp_path, capsys):
    texts = [
        "The sea rose, and Anne and Anne went home. " * 20,
        "Held Out\n\nJim saw Jim there. " * 90,
    ]
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "works.txt").write_text("\n<|endoftext|>\n".join(texts))
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "talk.txt").write_text(
        "Hello!\n<|endoftext|>\nWhat is it? " + "Oh. " * 30
    )
    (tmp_path / "shelf" / "news.en.txt").write_text("The river rose again last night. " * 9)
    (tmp_path / "held_out.tsv").write_text("title\tsha256\nHeld Out\t\n")
    folders = {"--runs": small[0], "--corpus": "corpus", "--valid": "shelf", "--out": "out"}
    folders["--held-out"] = "held_out.tsv"
    given = [str(part) for key, place in folders.items() for part in (key, tmp_path / place)]
    ship.main([*given, "--average", "2"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "bits per byte" in line]
    works, further = "the works held out", "the further texts"
    assert [line.split(": ")[1] for line in lines] == ["Held Out", works, "news", "talk", further]
    bits = [float(line.split()[0]) for line in lines]
    assert all(0 < each < 16 for each in bits) and bits[0] == bits[1]
    assert min(bits[2:4]) <= bits[4] <= max(bits[2:4])  # together: by their bytes


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
    ranks = encodings.load_ranks(encodings.COURSE_TOKENIZER)
    tokens = list(ranks)
    tokens[256], tokens[257] = tokens[257], tokens[256]
    path = folder / "other.txt"
    train_tokenizer.save_ranks(path, {token: i for i, token in enumerate(tokens)}, ["Ours."])
    assert len(encodings.load_ranks(path)) == len(ranks)
    return path


SHIPPED = {
    "COURSE_GPT": (SECOND, "COURSE_TOKENIZER", models.pretrained),
    "FIRST_GPT": (FIRST, "FIRST_TOKENIZER", lambda: models.pretrained(first=True)),
    "SPAM_GPT": (FIRST, "FIRST_TOKENIZER", models.classifier),
    "ASSISTANT_GPT": (FIRST, "FIRST_TOKENIZER", models.instruction_model),
}


@pytest.mark.parametrize("folder", SHIPPED)
def test_what_ships_names_its_tokenizer(folder, tmp_path, monkeypatch):
    name, tokenizer, load = SHIPPED[folder]
    stored = json.loads((getattr(models, folder) / "config.json").read_text())
    path = getattr(encodings, tokenizer)
    assert stored.pop("tokenizer") == name == encodings.tokenizer_sha256(path)
    assert load()[1] == stored  # without the entry
    monkeypatch.setattr(encodings, tokenizer, other_tokenizer(tmp_path))
    with pytest.raises(ValueError, match=f"{folder.lower()} holds a model made with another"):
        load()


def test_a_model_with_another_tokenizer_is_refused(copy, tmp_path):
    other = other_tokenizer(tmp_path)
    name = encodings.tokenizer_sha256(other)
    with pytest.raises(ValueError) as caught:
        models.load_model(copy, other)
    mine = f"course_tokenizer_2.txt ({SECOND[:12]})"
    for part in (str(copy), mine, name[:12], "train the model"):
        assert part in str(caught.value)
    model, cfg = models.load_model(copy)
    models.save_model(copy, model, cfg, "step\n", other)
    assert json.loads((copy / "config.json").read_text())["tokenizer"] == name
    assert models.load_model(copy, other)[1] == cfg
    with pytest.raises(ValueError, match=f"{name[:12]}.*, not course_tokenizer_2.txt"):
        models.load_model(copy)


def test_a_model_that_names_no_tokenizer_is_refused_until_it_does(copy, tmp_path):
    renamed(copy, tokenizer=None)
    with pytest.raises(ValueError) as caught:
        models.pretrained()
    line = f'"tokenizer": "{FIRST}"'  # older versions of the course had no other one of this size
    for part in (str(copy / "config.json"), "older version", "course_tokenizer.txt", line):
        assert part in str(caught.value)
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text.replace("{", "{" + line + ",", 1))
    model, cfg = models.load_model(copy, encodings.FIRST_TOKENIZER)
    assert cfg["n_layers"] == 6  # SHA256SUMS need not be touched
    with pytest.raises(ValueError, match="made with another tokenizer"):
        models.load_model(copy, other_tokenizer(tmp_path))


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
