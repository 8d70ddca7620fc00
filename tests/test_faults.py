"""Faults as whole kinds: whose a checkpoint is, what a file really is, texts that no tokenizer can read, numbers
that are not finite or no counts."""

import argparse
import datetime
import functools
import gzip
import io
import json
import os
import pickle
import time
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils.data import DataLoader

from shared import checkpoints, corpus, editions, encodings, files, models, program, scoring, texts
from shared.attention import MultiHeadAttention, MultiHeadAttentionExplicit
from shared.classification import (
    BatchesByLength,
    SpamDataset,
    balanced_class_weights,
    calc_class_loss_batch,
    choose_threshold,
    classifier_from,
    confusion_matrix,
    random_split,
    scores,
    spam_probability,
    train_classifier_simple,
    train_only,
    train_step,
)
from shared.finite import checked_loss
from shared.gpt_model import GPTModel, generate_text_cached, generate_text_simple
from shared.instruction import (
    InstructionDataset,
    custom_collate_fn,
    finetune,
    format_prompt,
    generate_batch,
    reduced,
    short_prompt,
    stream_response,
    train_epoch,
)
from shared.pretraining import (
    calc_loss_batch,
    generate,
    load_checkpoint,
    load_weights_into_gpt,
    next_token_probabilities,
    save_checkpoint,
    text_to_token_ids,
    train_model_simple,
)
from shared.pytorch import compute_accuracy, finite_differences, train_network
from shared.text_data import (
    GPTDatasetV1,
    bpe_encode,
    make_encoding,
    train_bpe,
    train_bpe_simple,
)

BYTES = make_encoding("bytes", {bytes([byte]): byte for byte in range(256)})
END = BYTES.eot_token
CFG = {"vocab_size": 257, "context_length": 24, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
CFG |= {"drop_rate": 0.0, "qkv_bias": False}
NAN, INF = float("nan"), float("inf")
IDS = torch.tensor([[1, 2, 3]])


def new_model(seed=0, **changes):
    torch.manual_seed(seed)
    return GPTModel(CFG | changes)


def same(one, other):
    return all(a.equal(b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


# --- whose a checkpoint is ------------------------------------------------------------------------

MESSAGES = pd.DataFrame({"label": ["ham", "spam"] * 4, "text": [f"text {i}" for i in range(8)]})


def classified(path, epochs=1, seed=3, start=0, data=MESSAGES, lr=0.01, kind=torch.optim.AdamW,
               part="all", batch=4, rate_at=None, class_weights=None):  # fmt: skip
    """A loop of chapter 6's steps that saves after each epoch and goes on, as a reader might write it."""
    model = classifier_from(new_model(start), CFG)
    train_only(model, part)
    dataset = SpamDataset(data, BYTES, pad_token_id=END)
    loader = DataLoader(dataset, batch_sampler=BatchesByLength(dataset.lengths, batch))
    optimizer = kind(model.parameters(), lr=lr)
    torch.manual_seed(seed)
    run = path and checkpoints.identity(model, loader, loader, optimizer, path, epochs=epochs,
                                        class_weights=class_weights, rate=rate_at)  # fmt: skip
    log = {"epochs": 0, "steps": 0}
    if path and path.exists():
        log = load_checkpoint(path, model, optimizer, run)
    for _ in range(log["epochs"], epochs):
        for one in loader:
            rate = rate_at(log["steps"]) if rate_at else None
            train_step(one, model, optimizer, "cpu", END, class_weights, rate)
            log["steps"] += 1
        log["epochs"] += 1
        if path:
            save_checkpoint(path, model, optimizer, **log | {"run": run})
    return model, (log["epochs"], log["steps"])


def tasks(word, count=8):
    return [([1, 2, 3, 40 + i, word], 3) for i in range(count)]


def asked(path, epochs=1, seed=3, start=0, word=9, kind=torch.optim.AdamW, decay=0.1,
          collate=custom_collate_fn, validation=8, eval_freq=9, dtype=torch.float32):  # fmt: skip
    model = new_model(start)
    collate = functools.partial(collate, pad_token_id=END)
    loader = DataLoader(tasks(word), batch_size=4, shuffle=True, collate_fn=collate)
    other = DataLoader(tasks(7)[:validation], batch_size=4, collate_fn=collate)
    optimizer = kind(model.parameters(), weight_decay=decay)
    torch.manual_seed(seed)
    arguments = (model, loader, other, optimizer, "cpu", epochs, 1e-2)
    history = finetune(*arguments, eval_freq=eval_freq, checkpoint=path, dtype=dtype)
    return model, history


def without_end(batch, pad_token_id):
    inputs, targets = custom_collate_fn(batch, pad_token_id)
    return inputs, targets.masked_fill(targets == pad_token_id, -100)


ANOTHER = {
    "other texts": (classified, {"data": MESSAGES.assign(text=MESSAGES.text[::-1].tolist())}),
    "other labels": (classified, {"data": MESSAGES.assign(label=["spam", "ham"] * 4)}),
    "another rate": (classified, {"lr": 0.05}),
    "a schedule": (classified, {"rate_at": lambda step: 0.02}),
    "weights of classes": (classified, {"class_weights": torch.tensor([1.0, 2.0])}),
    "another seed": (classified, {"seed": 4}),
    "another start": (classified, {"start": 1}),
    "another part": (classified, {"part": "head"}),
    "another batch": (classified, {"batch": 8}),
    "another optimizer": (classified, {"kind": torch.optim.SGD}),
    "Adam": (classified, {"kind": torch.optim.Adam}),
    "other tasks": (asked, {"word": 10}),
    "other validation": (asked, {"validation": 4}),
    "another start of an assistant": (asked, {"start": 1}),
    "an assistant's seed": (asked, {"seed": 4}),
    "an assistant's decay": (asked, {"decay": 0.2}),
    "an assistant's optimizer": (asked, {"kind": torch.optim.SGD}),
    "other targets": (asked, {"collate": without_end}),
    "other looks": (asked, {"eval_freq": 1}),
    "sixteen bits": (asked, {"dtype": torch.bfloat16}),
}


@pytest.mark.parametrize("change", ANOTHER)
def test_a_finished_checkpoint_is_no_other_runs_result(change, tmp_path):
    train, options = ANOTHER[change]
    path = tmp_path / "run.pth"
    model, found = train(path)
    before = path.read_bytes()
    again, same_found = train(path)
    assert same_found == found and same(model, again)
    with pytest.raises(ValueError, match="run.pth is of another run"):
        train(path, **options)
    assert path.read_bytes() == before


def test_two_schedules_are_told_apart(tmp_path):
    classified(tmp_path / "a.pth", rate_at=lambda step: 0.01 / (1 + step))
    with pytest.raises(ValueError, match="rate"):
        classified(tmp_path / "a.pth", rate_at=lambda step: 0.02 / (1 + step))

    def schedule(peak):
        return lambda step: peak / (1 + step)

    classified(tmp_path / "b.pth", rate_at=schedule(0.01))
    classified(tmp_path / "b.pth", rate_at=schedule(0.01))
    with pytest.raises(ValueError, match="rate"):
        classified(tmp_path / "b.pth", rate_at=schedule(0.02))


def test_a_run_may_be_made_longer_and_not_shorter(tmp_path, capsys):
    whole = classified(None, epochs=2)
    classified(tmp_path / "a.pth", epochs=1)
    longer = classified(tmp_path / "a.pth", epochs=2)
    assert longer[1] == whole[1] and same(longer[0], whole[0])
    with pytest.raises(ValueError, match="has 2 epochs behind it, and 1 were asked for"):
        classified(tmp_path / "a.pth", epochs=1)


def test_a_refused_checkpoint_changes_nothing(tmp_path, capsys):
    asked(tmp_path / "a.pth")
    model = new_model(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.3)
    torch.manual_seed(8)
    random = torch.get_rng_state()
    with pytest.raises(ValueError, match="of another run"):
        load_checkpoint(tmp_path / "a.pth", model, optimizer, {"data": "other"})
    assert same(model, new_model(1)) and optimizer.param_groups[0]["lr"] == 0.3
    torch.manual_seed(8)
    assert torch.get_rng_state().equal(random) and not optimizer.state


def test_a_cell_that_was_interrupted_can_be_run_again(tmp_path):
    """The model that it trains on has other weights by then."""
    model, path, loader = new_model(), tmp_path / "a.pth", [(IDS, IDS)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    run = checkpoints.identity(model, loader, [], optimizer, path)
    save_checkpoint(path, model, optimizer, run=run)
    with torch.no_grad():
        model.tok_emb.weight.add_(1)
    assert checkpoints.identity(model, loader, [], optimizer, path) == run
    path.unlink()
    assert checkpoints.identity(model, loader, [], optimizer, path) != run  # a new beginning


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop])
@pytest.mark.parametrize("by", ["name", "settings"])
def test_another_kind_of_optimizer_is_refused(kind, by, tmp_path):
    model, path = new_model(), tmp_path / "a.pth"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    calc_loss_batch(IDS, IDS, model, "cpu").backward()
    optimizer.step()
    save_checkpoint(path, model, optimizer)
    if by == "settings":  # as the book saves it
        state = torch.load(path, weights_only=True)
        del state["optimizer"]
        torch.save(state, path)
    other = new_model(1)
    fresh = kind(other.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="another optimizer's state"):
        load_checkpoint(path, other, fresh)
    assert same(other, new_model(1)) and fresh.param_groups[0]["lr"] == 0.1 and not fresh.state
    load_checkpoint(path, other, torch.optim.AdamW(other.parameters()))
    assert same(other, model)


# --- what is saved is read ------------------------------------------------------------------------

PLAIN = [
    (np.float64(1.5), 1.5),
    (np.float32(1.5), 1.5),
    (np.int64(3), 3),
    (np.bool_(True), True),
    (np.str_("a"), "a"),
    (np.array([1.0, 2.0]), torch.tensor([1.0, 2.0], dtype=torch.float64)),
    (Path("a/b"), str(Path("a/b"))),
    (defaultdict(list, a=[np.float64(1)]), {"a": [1.0]}),
    (OrderedDict(a=1), {"a": 1}),
    ({np.int64(1): (np.float64(2),)}, {1: (2.0,)}),
    ({"a", "b"}, {"a", "b"}),
    (None, None),
]


@pytest.mark.parametrize(("given", "read"), PLAIN, ids=lambda value: type(value).__name__)
def test_what_is_saved_is_read(given, read, tmp_path):
    model, path = new_model(), tmp_path / "a.pth"
    optimizer = torch.optim.AdamW(model.parameters(), lr=np.float64(1e-3))
    save_checkpoint(path, model, optimizer, best=given)
    found = load_checkpoint(path, new_model(1), torch.optim.AdamW(new_model(1).parameters()))
    assert type(found["best"]) is type(read)
    assert torch.equal(found["best"], read) if torch.is_tensor(read) else found["best"] == read


@pytest.mark.parametrize(
    "value",
    [datetime.datetime(2026, 1, 1), pd.Timestamp(0), pd.Series([1]), object(), len, nn.Linear(1, 1),
     np.array(["a"]), np.datetime64("2026-01-01"), range(3)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_read_is_not_saved(value, tmp_path):
    model, path = new_model(), tmp_path / "a.pth"
    optimizer = torch.optim.AdamW(model.parameters())
    save_checkpoint(path, model, optimizer, best=1)
    with pytest.raises(ValueError, match=r"progress\['log'\]\[0\] is a .*cannot hold"):
        save_checkpoint(path, model, optimizer, log=[value])
    assert load_checkpoint(path, model) == {"best": 1}


class Wrapped(nn.Module):
    """As torch.compile and DistributedDataParallel wrap a model."""

    def __init__(self, model, name):
        super().__init__()
        setattr(self, name, model)


@pytest.mark.parametrize("names", [["_orig_mod"], ["module"], ["_orig_mod", "module"], ["module", "_orig_mod"]])  # fmt: skip
def test_a_prefix_is_no_missing_tensor(names, tmp_path):
    model, path = new_model(), tmp_path / "a.pth"
    wrapped = functools.reduce(Wrapped, names, model)
    optimizer = torch.optim.AdamW(wrapped.parameters())
    save_checkpoint(path, wrapped, optimizer)
    assert list(torch.load(path, weights_only=True)["model_state_dict"]) == list(model.state_dict())
    torch.save({"model_state_dict": wrapped.state_dict()}, tmp_path / "others.pth")
    for file in (path, tmp_path / "others.pth"):
        plain, into = new_model(1), functools.reduce(Wrapped, names, new_model(2))
        load_checkpoint(file, plain)
        load_checkpoint(file, into)
        assert same(plain, model) and same(into, model)


# --- what a file is -------------------------------------------------------------------------------

ELSE = {
    "a page": (b"<!DOCTYPE html><html>404: Not Found</html>", "is a web page"),
    "a page with a mark": (b"\xef\xbb\xbf\n<html>log in</html>", "is a web page"),
    "xml": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is a web page"),
    "a plain 404": (b"404: Not Found", r"damaged or cut off.*'404: Not Found'"),
    "json": (b'{"error": "Repository not found"}', "damaged or cut off.*Repository not found"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
    "gzip": (gzip.compress(b"weights"), "packed with gzip"),
    "noise": (bytes(range(256)) * 9, "damaged or cut off"),
    "nothing": (b"", "damaged or cut off"),
    "numbers of numpy": ({"lr": np.float64(1)}, "besides tensors it holds numpy"),
    "a date": ({"date": datetime.datetime(2026, 1, 1)}, "besides tensors it holds datetime"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", ELSE)
def test_a_file_of_another_kind_is_named(kind, suffix, tmp_path):
    content, says = ELSE[kind]
    path = tmp_path / f"a{suffix}"
    torch.save(content, path) if isinstance(content, dict) else path.write_bytes(content)
    for read in (files.read_weights, lambda path: load_checkpoint(path, new_model())):
        with pytest.raises(ValueError, match=f"a{suffix} .*{says}") as caught:
            read(path)
        assert "run code" not in str(caught.value)


def test_weights_are_read_whatever_the_file_is_called(tmp_path):
    weights = {"a": torch.ones(3)}
    safetensors.torch.save_file(weights, tmp_path / "a.pth")
    torch.save(weights, tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        assert files.read_weights(tmp_path / name)["a"].equal(weights["a"])
    with pytest.raises(ValueError, match="is a safetensors file.*read_weights"):
        load_checkpoint(tmp_path / "a.pth", new_model())
    (tmp_path / "c.pth").write_bytes(pickle.dumps(len, protocol=4))
    with pytest.raises(ValueError, match="would run code"):  # this one is told so still
        files.read_weights(tmp_path / "c.pth")


def test_a_folder_that_is_no_model_is_named(tmp_path):
    (tmp_path / "file").write_text("a")
    for name, says in ("nowhere", "is not there: is its path right"), ("file", "is a file"):
        with pytest.raises(ValueError, match=f"{name} cannot be read, since it {says}"):
            models.load_model(tmp_path / name)
    with pytest.raises(ValueError, match="holds a classifier"):
        models.load_model(models.SPAM_GPT)


def test_a_file_that_is_locked_for_a_moment_is_written(tmp_path, monkeypatch):
    replace, tries, slept = os.replace, [], []

    def locked(old, new):
        tries.append(new)
        if len(tries) % 3:
            raise PermissionError(13, "Access is denied")
        replace(old, new)

    monkeypatch.setattr(os, "replace", locked)
    monkeypatch.setattr(time, "sleep", slept.append)
    files.save_json(tmp_path / "a.json", [1])
    with files.landing_folder(tmp_path / "folder") as scratch:
        (scratch / "b").write_text("b")
    assert len(tries) == 6 and (tmp_path / "folder" / "b").exists() and 0 < sum(slept) < 3
    monkeypatch.setattr(
        os, "replace", lambda old, new: (_ for _ in ()).throw(PermissionError(13, "no"))
    )
    with pytest.raises(OSError, match="a.json could not be written: no"):
        files.save_json(tmp_path / "a.json", [2])
    assert (tmp_path / "a.json").read_text() == "[\n 1\n]" and slept


# --- texts that no tokenizer can read -------------------------------------------------------------

RANKS = {bytes([byte]): byte for byte in range(256)}
ENCODERS = {
    "train_bpe": lambda text, _: train_bpe(text, 260),
    "train_bpe_simple": lambda text, _: train_bpe_simple(text, 260),
    "bpe_encode": lambda text, _: bpe_encode(text, RANKS),
    "encode": lambda text, tokenizer: tokenizer.encode(text),
    "encode with a special token": lambda text, tokenizer: tokenizer.encode(text, allowed_special="all"),
    "encode_ordinary": lambda text, tokenizer: tokenizer.encode_ordinary(text),
    "encode_to_numpy": lambda text, tokenizer: tokenizer.encode_to_numpy(text),
    "encode_batch": lambda text, tokenizer: tokenizer.encode_ordinary_batch(["a", text]),
    "encode_to_tensor": encodings.encode_to_tensor,
    "GPTDatasetV1": lambda text, tokenizer: GPTDatasetV1(text, tokenizer, 2, 2),
    "text_to_token_ids": text_to_token_ids,
    "SpamDataset": lambda text, tokenizer: SpamDataset(MESSAGES.assign(text=f"win {text} now"), tokenizer),
    "spam_probability": lambda text, tokenizer: spam_probability(text, new_model(), tokenizer, "cpu"),
    "InstructionDataset": lambda text, tokenizer: InstructionDataset([{"instruction": "a", "output": text}], tokenizer),
    "stream_response": lambda text, tokenizer: list(stream_response(new_model(), {"instruction": text}, tokenizer)),
}  # fmt: skip


@pytest.mark.parametrize("kind", ENCODERS)
def test_half_a_character_is_named(kind):
    for tokenizer in BYTES, encodings.course_encoding():
        for text, half in ("ab\ud83dc", "'\\\\ud83d'"), ("\udcff", "'\\\\udcff'"):
            says = (
                f"^character [0-9]+ of the t[a-z0-9, ]+, {half}, is half of one .*cannot be encoded"
            )
            with pytest.raises(ValueError, match=says):
                ENCODERS[kind](text, tokenizer)


@pytest.mark.parametrize("blank", [" ", "\n", "\t", "\r\n", "\u3000", " \u00a0"])
def test_a_million_blanks_are_named(blank, capfd):
    """tiktoken would end the program, with forty lines of its own: no Exception, so nothing could catch it."""
    many = blank * (10**6 // len(blank) + 1)
    for text in (many, f"one{many}", f"{many}two", f"one\n{many}two"):
        for kind in ENCODERS.keys() - {"spam_probability", "stream_response"}:
            with pytest.raises(ValueError, match="from character [0-9,]+ on .* blanks in a row"):
                ENCODERS[kind](text, BYTES)
    assert "panicked" not in capfd.readouterr().err


def test_what_can_be_encoded_is():
    blanks = " " * (texts.BLANKS - 1)
    for text in ("👩‍🔬 é\ufffd", "", blanks, f"a{blanks}b", "a" * 10**6):
        ids = BYTES.encode(text)
        assert BYTES.decode(ids) == text and BYTES.encode_ordinary(text) == ids
        assert BYTES.encode_to_numpy(text).tolist() == ids
    assert texts.encodable(blanks) is blanks
    same = pickle.loads(pickle.dumps(BYTES))  # a loader's workers get one
    with pytest.raises(ValueError, match="half of one"):
        same.encode("\ud800")


def test_where_half_a_character_stands_in_a_file(tmp_path):
    with pytest.raises(
        ValueError, match="^character 4 of the table, message 3, '.*', is half of one"
    ):
        SpamDataset(MESSAGES.assign(text=[*"ab", "win \ud800", *"defgh"]), BYTES)
    path, entry = tmp_path / "mine.json", {"instruction": "a", "input": "", "output": "b"}
    for output, says in ("b\ud83d", "character 1 of .*mine.json: entry 1, 'output'"), ("🫖", None):
        path.write_text(json.dumps([entry, entry | {"output": output}]))
        if says is None:  # JSON writes such a character as two halves, and reads it as one
            assert editions.read_instructions(path)[1]["output"] == output
        else:
            with pytest.raises(ValueError, match=says):
                editions.read_instructions(path)


def test_a_corpus_names_the_file_with_blanks(tmp_path):
    (tmp_path / "a.txt").write_text("fine\n<|endoftext|>\n" + "x" + "\n" * 10**6 + "y")
    with pytest.raises(ValueError, match="on a work in .*a.txt has .* blanks in a row"):
        corpus.read_documents(tmp_path)


# --- numbers that are not finite, and no counts ------------------------------------------------------------------


def damaged(number=NAN, name="final_norm.scale"):
    model = new_model()
    with torch.no_grad():
        model.get_parameter(name)[0] = number
    return model


@pytest.mark.parametrize("number", [NAN, INF, -INF])
def test_weights_that_are_not_finite_are_neither_read_nor_saved(number, tmp_path):
    bad = damaged(number)
    torch.save(bad.state_dict(), tmp_path / "a.pth")
    safetensors.torch.save_file(bad.state_dict(), tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        with pytest.raises(ValueError, match=f"{name}.*final_norm.scale.* not finite"):
            files.read_weights(tmp_path / name)
    fresh = new_model(1)
    with pytest.raises(ValueError, match="a.pth: a number in final_norm.scale is not finite"):
        load_checkpoint(tmp_path / "a.pth", fresh)
    assert same(fresh, new_model(1))
    with pytest.raises(ValueError, match="final_norm.scale is not finite"):
        save_checkpoint(tmp_path / "b.pth", bad, torch.optim.SGD(bad.parameters(), lr=1))
    with pytest.raises(ValueError, match="final_norm.scale is not finite"):
        models.save_model(tmp_path / "model", bad, CFG, "")
    with pytest.raises(ValueError, match="final_norm.scale is not finite"):
        models.filled(new_model(), bad.state_dict(), tmp_path)
    with pytest.raises(ValueError, match="a number in wte.weight is not finite"):
        load_weights_into_gpt(new_model(qkv_bias=True), {"wte.weight": torch.tensor([number])})
    assert not (tmp_path / "b.pth").exists() and not (tmp_path / "model").exists()


def test_weights_too_large_for_half_precision_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="in half precision.*not finite"):
        models.save_model(tmp_path / "model", damaged(1e5), CFG, "")


@pytest.mark.parametrize(
    "write",
    [
        lambda model: generate_text_simple(model, IDS, 2, 24),
        lambda model: generate_text_cached(model, IDS, 2, 24),
        lambda model: generate(model, IDS, 2, 24),
        lambda model: generate(model, IDS, 2, 24, temperature=1.0, top_k=3),
        lambda model: generate_batch(model, [[1], [2, 3]], 2, END),
        lambda model: list(stream_response(model, {"instruction": "a"}, BYTES, prompt=lambda e: "a")),
        lambda model: calc_loss_batch(IDS, IDS, model, "cpu"),
        lambda model: train_model_simple(model, [(IDS, IDS)], [], torch.optim.SGD(model.parameters(), lr=1), "cpu", 1, 9, 1, "a", BYTES),
        lambda model: list(train_epoch(model, [(IDS, IDS)], torch.optim.SGD(model.parameters(), lr=1), lambda s: 1, torch.device("cpu"))),
        lambda model: train_step((IDS, torch.tensor([1])), classifier(model), torch.optim.SGD(model.parameters(), lr=1), "cpu", END),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_damaged_model_neither_writes_nor_learns(write):
    for number in (NAN, INF):
        model = damaged(number)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(ValueError, match="is not finite"):
            write(model)
        assert all(
            before[n].equal(t)
            for n, t in model.state_dict().items()
            if n[:5] not in ("final", "out_h")
        )


def classifier(model):
    model.out_head = nn.Linear(8, 2)
    return model


def test_probabilities_of_nothing_are_refused():
    for row in ([NAN, 1.0], [-INF, -INF], [INF, 1.0]):
        for temperature in (0.0, 1.0):
            with pytest.raises(ValueError, match="not finite"):
                next_token_probabilities(torch.tensor([row, [0.0, 0.0]]).view(2, 2), temperature)
    ruled_out = next_token_probabilities(torch.tensor([[-INF, 0.0, 0.0]]))
    assert ruled_out.tolist() == [[0, 0.5, 0.5]]


@pytest.mark.parametrize("count", [0, -1, 0.5, 2.0, None, "5"])
def test_what_is_no_count_is_refused(count):
    model, item = new_model(), (IDS, torch.tensor([1]))
    before, optimizer = model.tok_emb.weight.clone(), torch.optim.SGD(model.parameters(), lr=1)
    with pytest.raises(ValueError, match=r"eval_freq is .*a whole number above 0 is needed"):
        train_model_simple(model, [(IDS, IDS)], [], optimizer, "cpu", 1, count, 1, "a", BYTES)
    with pytest.raises(ValueError, match="eval_freq is"):
        finetune(model, [(IDS, IDS)], [], optimizer, "cpu", 1, 1e-2, eval_freq=count)
    assert model.tok_emb.weight.equal(before)
    with pytest.raises(ValueError, match="eval_freq is"):
        train_classifier_simple(
            model, [item], [item], optimizer, "cpu", 1, count, 1, pad_token_id=END
        )
    for attention in MultiHeadAttentionExplicit, MultiHeadAttention:
        with pytest.raises(ValueError, match="num_heads is .*a whole number above 0 is needed"):
            attention(4, 4, 8, 0.0, count)


def test_a_count_of_any_library():
    for number in (2, np.int64(2), torch.tensor(2)):
        MultiHeadAttention(4, 4, 8, 0.0, number)(torch.ones(1, 2, 4))
    losses = train_model_simple(new_model(), [(IDS, IDS)] * 3, [(IDS, IDS)], torch.optim.SGD(new_model().parameters(), lr=1), "cpu", 1, np.int64(2), 1, "a", BYTES)  # fmt: skip
    assert len(losses[0]) == 2


def test_loaders_and_lists_without_anything():
    with pytest.raises(ValueError, match="the loader gave no batch"):
        train_network(nn.Linear(2, 2), [], 1, lr=0.1)
    assert generate_batch(new_model(), [], 2, END) == []
    with pytest.raises(ValueError, match=r"too few texts.*of \[1, 0, 1\]"):
        random_split(MESSAGES[:2], 0.5, 0.2)
    for prompt in short_prompt, format_prompt:
        assert "5" in prompt({"instruction": 5})
        with pytest.raises(ValueError, match="no instruction"):
            prompt({"instruction": None})


def test_losses_weights_and_scores_that_are_not_finite():
    with pytest.raises(ValueError, match="the loss is not finite .nan.: lower the learning rate"):
        calc_loss_batch(IDS, torch.full_like(IDS, -100), new_model(), "cpu")
    x = torch.ones(4, 2)
    with pytest.raises(ValueError, match="the loss is not finite"):
        train_network(nn.Linear(2, 2), [(x * NAN, torch.ones(4).long())], 1, lr=0.1)
    model = classifier(new_model())
    with pytest.raises(ValueError, match="the loss is not finite"):
        calc_class_loss_batch(IDS, torch.tensor([1]), model, "cpu", END, class_weights=torch.tensor([1, INF]))  # fmt: skip
    with pytest.raises(ValueError, match="the weight of a class is not finite"):
        balanced_class_weights(torch.tensor([0, 0, 0]))
    with pytest.raises(ValueError, match="a probability is not finite"):
        choose_threshold(torch.tensor([0, 1]), torch.tensor([0.2, NAN]))
    for labels, said in ([0, 1, 1], [1]), ([], []), ([[0, 1]], [[0, 1]]):
        for measure in (scores, confusion_matrix, choose_threshold):
            with pytest.raises(ValueError, match="one number for each"):
                measure(torch.tensor(labels), torch.tensor(said))
    for values in ([], [1.0, NAN]):
        with pytest.raises(ValueError, match="finite values"):
            scoring.bootstrap_interval(values)
    with pytest.raises(ValueError, match="no batch"):
        compute_accuracy(nn.Linear(2, 2), [])
    with pytest.raises(ValueError):
        files.as_json({"threshold": NAN})


@pytest.mark.parametrize(
    "x",
    [torch.tensor([1, 2]), torch.tensor([True]), torch.ones(2).half(), torch.full((2,), 1e5)],
    ids=["whole", "bool", "half", "large"],
)
def test_a_step_that_is_lost_is_no_slope_of_zero(x):
    with pytest.raises(ValueError, match="is lost beside x.*double"):
        finite_differences(lambda at: (at.double() ** 2).sum(), x)
    found = finite_differences(lambda at: (at**2).sum(), x.double())
    assert torch.allclose(found, 2 * x.double(), rtol=1e-3)
    with pytest.raises(ValueError, match="a slope is not finite"):
        finite_differences(lambda at: at.log().sum(), torch.zeros(1).double())


# --- devices (no GPU is needed: shapes without numbers stand in for one) --------------------------


def test_weights_of_classes_go_where_the_targets_are(monkeypatch):
    seen = []
    weights = torch.tensor([1.0, 3.0])
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, to=torch.Tensor.to: (seen.append((self is weights, a)), to(self, *a))[1])  # fmt: skip
    model = classifier(new_model())
    calc_class_loss_batch(IDS, torch.tensor([1]), model, "cpu", END, class_weights=weights)
    assert (True, (torch.device("cpu"),)) in seen


def test_a_device_may_be_a_string():
    for device in ("cpu", torch.device("cpu")):
        with reduced(device, torch.bfloat16):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert finite_differences(lambda at: torch.ones(()), torch.ones(1, device="cpu")).device.type == "cpu"  # fmt: skip


def test_an_apple_gpu_is_warned_of():
    class Loss:
        device = torch.device("mps")

    with pytest.warns(UserWarning, match="not tried on MPS"), pytest.raises(TypeError):
        checked_loss(Loss())
    buffer = io.BytesIO()
    torch.save({}, buffer)  # and the CPU is silent: warnings are errors here
    checked_loss(torch.ones(()))


# --- batches --------------------------------------------------------------------------------------


def test_batches_that_make_no_sense():
    inputs, targets = custom_collate_fn([([1, 2, 3], 0)], pad_token_id=9)
    assert targets.tolist() == [[2, 3, 9]]  # without a prompt everything is asked for
    for batch, options, says in [
        ([[1, 2]], {"allowed_max_length": -1}, "allowed_max_length is -1"),
        ([], {}, "is empty"),
        ([[]], {}, "is empty"),
    ]:
        with pytest.raises(ValueError, match=says):
            custom_collate_fn(batch, **options)
    with pytest.raises(ValueError, match="prompt 0 is empty"):
        generate_batch(new_model(), [[], [5]], 2, END)
    with pytest.raises(ValueError, match=r"leaves no room.*\(prompt 1\)"):
        generate_batch(new_model(), [[5], [5] * 24], 2, END)


# --- how a script ends ----------------------------------------------------------------------------


class Missing(RuntimeError):
    """Stands in for AssetError, a file that is not to be had."""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("no items"), "work: no items"),
        (OSError(28, "No space left"), r"work: \[Errno 28\] No space left"),
        (Missing("not to be had"), "work: not to be had"),
        (KeyboardInterrupt(), "work: stopped; the same command goes on after the epoch"),
    ],
)
def test_a_script_ends_in_one_line(error, says):
    with pytest.raises(SystemExit, match=f"^{says}$"):
        with program.in_one_line("work", "after the epoch", Missing):
            raise error
    with (
        pytest.raises(KeyError),
        program.in_one_line("work", ""),
    ):  # a fault of the script: with its traceback
        raise KeyError


def test_a_number_above_0_at_a_command_line(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--peak", type=program.positive)
    assert parser.parse_args(["--peak", "2e-3"]).peak == 2e-3
    for given, says in ("0", "0 is not above 0"), ("nan", "nan is not above 0"), ("x", "invalid positive value: 'x'"):  # fmt: skip
        with pytest.raises(SystemExit):
            parser.parse_args(["--peak", given])
        assert f"argument --peak: {says}" in capsys.readouterr().err
