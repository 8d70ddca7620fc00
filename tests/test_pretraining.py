"""Chapter 5's loss, loop, sampling and checkpoints: against independent forms, the book's habits and bad files."""

import io
import math
import os
import pickle
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F

from shared.checks.ch05 import check_frequencies
from shared.gpt_model import GPTModel, generate_text_simple
from shared.pretraining import (
    bits_per_byte,
    calc_loss_batch,
    calc_loss_loader,
    evaluate_model,
    generate,
    generate_and_print_sample,
    load_checkpoint,
    next_token_probabilities,
    plot_losses,
    save_checkpoint,
    text_to_token_ids,
    token_ids_to_text,
    train_model_simple,
)
from shared.text_data import create_dataloader_v1, make_encoding

BYTES = make_encoding("bytes", {bytes([byte]): byte for byte in range(256)})
TEXT = "the cat sat on the mat, and the rat sat on the cat; " * 12


def new_model(seed=0, **changes):
    torch.manual_seed(seed)
    cfg = {"vocab_size": 257, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 2}
    return GPTModel(cfg | {"drop_rate": 0.2, "qkv_bias": False} | changes)


def loader(text=TEXT, batch_size=4, shuffle=False, drop_last=False):
    return create_dataloader_v1(text, batch_size, 16, 16, shuffle, drop_last, tokenizer=BYTES)


def adamw(model):
    return torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def test_text_and_ids():
    ids = text_to_token_ids("a<|endoftext|>é", BYTES)
    assert ids.tolist() == [[97, 256, 0xC3, 0xA9]] and ids.dtype == torch.int64
    assert token_ids_to_text(ids, BYTES) == "a<|endoftext|>é"
    assert text_to_token_ids("", BYTES).shape == (1, 0)
    assert text_to_token_ids("", BYTES).dtype == torch.int64
    assert token_ids_to_text(text_to_token_ids("a", BYTES), BYTES) == "a"


def test_a_loss_is_the_mean_negative_log_probability():
    model, (x, y) = new_model().eval(), next(iter(loader()))
    shares = model(x).softmax(dim=-1)
    by_hand = [-shares[b, t, y[b, t]].log() for b in range(4) for t in range(16)]
    assert torch.allclose(calc_loss_batch(x, y, model, "cpu"), torch.stack(by_hand).mean())


def test_targets_of_minus_100_do_not_count():
    model, (x, y) = new_model().eval(), next(iter(loader()))
    y = y.clone()
    y[0], y[1, 3:] = -100, -100
    kept = F.cross_entropy(model(x)[y != -100], y[y != -100]).item()
    assert calc_loss_loader([(x, y)], model, "cpu") == pytest.approx(kept, abs=1e-6)
    more = next(iter(loader(TEXT[::-1])))
    counts = [int((y != -100).sum()), more[1].numel()]
    losses = [calc_loss_batch(*batch, model, "cpu").item() for batch in [(x, y), more]]
    want = sum(a * b for a, b in zip(counts, losses)) / sum(counts)
    assert calc_loss_loader([(x, y), more], model, "cpu") == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 38])
def test_the_loss_of_a_loader_does_not_depend_on_its_batches(batch_size):
    model = new_model().eval()
    found = calc_loss_loader(loader(batch_size=batch_size), model, "cpu")
    assert found == pytest.approx(calc_loss_loader(loader(), model, "cpu"), abs=1e-5)


def test_some_batches_or_none():
    model, batches = new_model().eval(), loader()
    first = [calc_loss_batch(*batch, model, "cpu").item() for batch in list(batches)[:2]]
    assert calc_loss_loader(batches, model, "cpu", 2) == pytest.approx(sum(first) / 2)
    whole = calc_loss_loader(batches, model, "cpu")
    assert calc_loss_loader(batches, model, "cpu", 99) == whole
    assert math.isnan(calc_loss_loader([], model, "cpu"))
    assert math.isnan(calc_loss_loader(batches, model, "cpu", 0))
    x, y = next(iter(batches))
    silent = (x, torch.full_like(y, -100))  # a batch without a target has no say
    assert calc_loss_loader([silent, *batches], model, "cpu") == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_is_repeatable_and_leaves_no_trace(training):
    model = new_model().train(training)
    model.drop_emb.train(not training)  # a part in a mode of its own stays in it
    once, again = (evaluate_model(model, loader(), loader(TEXT[:99]), "cpu", 5) for _ in range(2))
    assert once == again and len(once) == 2
    assert model.training == training and model.drop_emb.training != training
    assert all(p.grad is None for p in model.parameters())


def test_bits_per_byte():
    assert bits_per_byte(8 * math.log(2), 4) == pytest.approx(2)


def test_the_loop_trains_counts_and_prints_like_the_books(capsys):
    model = new_model()
    train, val = loader(shuffle=True, drop_last=True), loader(TEXT[:99])
    settings = "cpu", 3, 4, 1, "the cat", BYTES
    losses, val_losses, seen = train_model_simple(model, train, val, adamw(model), *settings)
    lines = capsys.readouterr().out.splitlines()
    steps = range(0, 3 * len(train), 4)
    assert len(losses) == len(val_losses) == len(steps)
    assert seen == [64 * (step + 1) for step in steps]
    assert (
        lines[0] == f"Ep 1 (Step 000000): Train loss {losses[0]:.3f}, Val loss {val_losses[0]:.3f}"
    )
    assert len(lines) == len(steps) + 3 and lines[-1].startswith("the cat")
    assert losses[-1] < losses[0] - 1


def reference_loop(model, train, optimizer, epochs):
    """The book's loop without its evaluation; the weights it ends with."""
    for _ in range(epochs):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
            optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("eval_freq", [1, 3, 1000])
def test_however_often_it_is_measured_a_training_ends_with_the_same_weights(eval_freq, capsys):
    ours, theirs = new_model(), new_model()
    train, val = loader(shuffle=True, drop_last=True), loader(TEXT[:99])
    torch.manual_seed(5)
    train_model_simple(ours, train, val, adamw(ours), "cpu", 2, eval_freq, 1, "the", BYTES)
    torch.manual_seed(5)
    want = reference_loop(theirs, train, adamw(theirs), 2)
    assert all(tensor.equal(want[name]) for name, tensor in ours.state_dict().items())


def test_evaluation_draws_from_a_copy_of_the_random_state():
    model, train = new_model(), loader(shuffle=True, drop_last=True)
    state = torch.get_rng_state()
    once = evaluate_model(model, train, loader(), "cpu", 1)
    assert torch.get_rng_state().equal(state)
    assert evaluate_model(model, train, loader(), "cpu", 1) == once
    torch.manual_seed(9)  # other windows come first
    assert evaluate_model(model, train, loader(), "cpu", 1)[0] != once[0]


def test_a_sample_is_one_line_and_greedy(capsys):
    model = new_model(drop_rate=0.5)
    generate_and_print_sample(model, BYTES, "cpu", "the\ncat")
    out = capsys.readouterr().out
    ids = generate_text_simple(model, text_to_token_ids("the\ncat", BYTES), 50, 16)
    assert out == BYTES.decode(ids[0].tolist()).replace("\n", " ") + "\n"
    assert model.training


def test_the_curve():
    fig = plot_losses([1, 2, 3], [10, 20, 30], [3.0, 2.0, 1.0], [3.0, 2.5, 2.6])
    lines = fig.axes[0].get_lines()
    assert [list(line.get_ydata()) for line in lines] == [[3.0, 2.0, 1.0], [3.0, 2.5, 2.6]]
    assert [t.get_text() for t in fig.axes[0].get_legend().get_texts()] == [
        "training",
        "validation",
    ]


# --- choosing

ROW = torch.tensor([[0.1, 3.2, 1.5, -2.0, 1.5, 0.6, 2.1, -0.8]])


def test_probabilities_by_hand():
    exact = (ROW.double() / 0.7).softmax(dim=-1)
    assert next_token_probabilities(ROW, 0.7).double().allclose(exact, atol=1e-6)
    assert next_token_probabilities(ROW, 0.0).tolist() == F.one_hot(ROW.argmax(-1), 8).tolist()
    top = next_token_probabilities(ROW, top_k=2)[0]
    both = torch.tensor([3.2, 2.1]).softmax(dim=-1)
    assert top.nonzero().flatten().tolist() == [1, 6] and top[[1, 6]].allclose(both)


@pytest.mark.parametrize(("k", "kept"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 5), (8, 8), (99, 8)])
def test_top_k_keeps_ties_and_may_exceed_the_vocabulary(k, kept):
    assert (next_token_probabilities(ROW, top_k=k) > 0).sum() == kept


@pytest.mark.parametrize(
    ("p", "kept"), [(1e-9, 1), (0.54, 1), (0.55, 2), (0.8, 4), (0.93, 5), (1.0, 8)]
)
def test_top_p_keeps_as_few_as_suffice(p, kept):
    shares = next_token_probabilities(ROW, top_p=p)[0]
    assert (shares > 0).sum() == kept and shares.sum().item() == pytest.approx(1)
    natural = ROW[0].softmax(dim=-1)[shares > 0]
    assert shares[shares > 0].allclose(natural / natural.sum(), atol=1e-6)


@pytest.mark.parametrize("p", [1e-30, 1e-50, 5e-324])
def test_top_p_never_drops_the_likeliest(p):
    shares = next_token_probabilities(torch.cat([ROW, 0.0 * ROW]), top_p=p)
    assert shares[0].tolist() == F.one_hot(ROW.argmax(dim=-1), 8)[0].tolist()
    assert shares[1].allclose(torch.full((8,), 1 / 8))  # as likely as the first, so they stay


def test_rows_are_cut_each_for_itself():
    rows = torch.cat([4 * ROW, 0.2 * ROW, ROW.flip(-1)])
    together = next_token_probabilities(rows, 0.9, top_k=5, top_p=0.8)
    apart = [next_token_probabilities(row[None], 0.9, top_k=5, top_p=0.8) for row in rows]
    assert together.allclose(torch.cat(apart))
    assert len(set((together > 0).sum(dim=-1).tolist())) > 1


def test_top_p_agrees_with_transformers():
    logits_process = pytest.importorskip("transformers.generation.logits_process")
    torch.manual_seed(0)
    logits = 3 * torch.randn(20, 300)
    for temperature, k, p in [(1.0, 300, 0.9), (1.7, 40, 0.5), (0.6, 7, 0.99)]:
        scores = logits_process.TemperatureLogitsWarper(temperature)(None, logits)
        scores = logits_process.TopKLogitsWarper(k)(None, scores)
        scores = logits_process.TopPLogitsWarper(p)(None, scores)
        ours = next_token_probabilities(logits, temperature, k, p)
        assert ours.allclose(scores.softmax(dim=-1), atol=1e-6)


@pytest.mark.parametrize("temperature", [1e-9, 1e-30])
def test_a_temperature_near_zero_is_greedy(temperature):
    model, idx = new_model(), torch.randint(257, (3, 5))
    want = generate_text_simple(model, idx, 20, 16)
    assert generate(model, idx, 20, 16).equal(want)
    assert generate(model, idx, 20, 16, temperature).equal(want)
    assert generate(model, idx, 20, 16, 1.0, top_k=1).equal(want)
    assert generate(model, idx, 20, 16, 1.0, top_p=1e-9).equal(want)


def test_large_logits_and_a_tiny_temperature_do_not_overflow():
    shares = next_token_probabilities(10 * ROW, 2e-38)
    assert shares.tolist() == F.one_hot(ROW.argmax(dim=-1), 8).tolist()


def test_greedy_draws_no_random_number_and_drawing_follows_the_seed():
    model, idx = new_model(), torch.randint(257, (1, 5))
    state = torch.get_rng_state()
    generate(model, idx, 8, 16)
    assert torch.get_rng_state().equal(state)
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        runs.append(generate(model, idx, 8, 16, 1.5, 20))
    assert runs[0].equal(runs[1])
    torch.manual_seed(1)  # the book's order: top-k, temperature, softmax, multinomial
    for _ in range(8):
        logits = model.eval()(idx[:, -16:])[:, -1]
        least = logits.topk(20).values[:, -1:]
        logits = torch.where(logits < least, torch.tensor(-torch.inf), logits) / 1.5
        idx = torch.cat((idx, torch.multinomial(logits.softmax(dim=-1), 1)), dim=1)
    assert runs[0].equal(idx)


def test_draws_of_generate_follow_the_exact_probabilities():
    model, idx = new_model().eval(), torch.randint(257, (1, 5))
    with torch.no_grad():
        exact = next_token_probabilities(model(idx)[:, -1], 1.4, 30, 0.8)[0]
    torch.manual_seed(2)
    drawn = generate(model.train(), idx.expand(8000, -1), 1, 16, 1.4, 30, top_p=0.8)[:, -1]
    check_frequencies(drawn, exact)
    assert model.training


def test_texts_end_each_for_itself():
    model, idx = new_model(), torch.randint(257, (6, 4))
    free = generate(model, idx, 30, 16)
    end = free[0, 12].item()
    stopped = generate(model, idx, 30, 16, eos_id=end)
    lengths = []
    for row, whole in zip(stopped, free):
        new = whole[4:].tolist()
        n = new.index(end) if end in new else 30
        lengths.append(n)
        assert row[4 : 4 + n].tolist() == new[:n] and set(row[4 + n :].tolist()) <= {end}
    assert min(lengths) < max(lengths) == stopped.shape[1] - 4
    alone = generate(model, idx[:1], 30, 16, eos_id=end)  # as the book's: the end is not part of it
    assert alone[0].tolist() == stopped[0, : 4 + lengths[0]].tolist()


def test_an_overlong_prompt_is_read_from_its_end():
    model, idx = new_model(), torch.randint(257, (1, 40))
    with pytest.warns(UserWarning, match="40 tokens: only the last 16 are read"):
        out = generate(model, idx, 5, 16)
    assert out[:, :40].equal(idx)
    assert out[:, 40:].equal(generate_text_simple(model, idx[:, -16:], 5, 16)[:, 16:])


def test_a_context_beyond_the_models_is_refused_at_once():
    model = new_model()
    limit = model.pos_emb.num_embeddings
    with pytest.raises(ValueError, match=f"context_size is {limit + 1}; this model has {limit}"):
        generate(model, torch.ones(1, 3, dtype=torch.long), 1, limit + 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"top_k": -3}, "top_k is -3"),
        ({"top_p": 0}, "top_p is 0; it must be above 0"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": 0.0, "top_k": 0}, "top_k is 0"),
    ],
    ids=range(9),
)
def test_impossible_settings(settings, says):
    with pytest.raises(ValueError, match=says):
        generate(
            new_model(),
            torch.zeros(1, 3, dtype=torch.long),
            4,
            16,
            **({"temperature": 1.0} | settings),
        )


def test_an_empty_prompt():
    with pytest.raises(ValueError, match="no new token"):
        generate(new_model(), text_to_token_ids("", BYTES), 4, 16)


# --- files


def train_a_little(model, optimizer, steps=3):
    for (x, y), _ in zip(loader(shuffle=True), range(steps)):
        optimizer.zero_grad()
        calc_loss_batch(x, y, model, "cpu").backward()
        optimizer.step()


def equal_weights(one, other):
    return all(a.equal(b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


def test_a_training_goes_on_as_if_never_stopped(tmp_path):
    torch.manual_seed(0)
    whole, path = new_model(), tmp_path / "state.pth"
    optimizer = adamw(whole)
    train_a_little(whole, optimizer)
    save_checkpoint(path, whole, optimizer, step=3, note="hello")
    train_a_little(whole, optimizer)
    resumed = new_model(seed=9)
    other = adamw(resumed)
    assert load_checkpoint(path, resumed, other) == {"step": 3, "note": "hello"}
    train_a_little(resumed, other)
    assert equal_weights(whole, resumed)
    assert [f.name for f in tmp_path.iterdir()] == ["state.pth"]


def test_files_of_the_book(tmp_path):
    model, path = new_model(), tmp_path / "model.pth"
    optimizer = adamw(model)
    train_a_little(model, optimizer)
    masks = {f"trf_blocks.{i}.att.mask": torch.ones(16, 16).triu(1) for i in range(2)}
    torch.save(model.state_dict() | masks, path)
    again = new_model(seed=9)
    assert load_checkpoint(path, again) == {} and equal_weights(model, again)
    book = {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}
    torch.save(book, path)
    again = new_model(seed=9)
    load_checkpoint(path, again, other := adamw(again))
    assert equal_weights(model, again) and other.state_dict()["state"][0]["step"] == 3


class Program:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


def written(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def with_a_bit_turned(content):
    """As a disk or a network may do it, in the middle of a weight: torch.load does not notice."""
    content = bytearray(content)
    content[content.index(STATE["tok_emb.weight"].numpy().tobytes()) + 402] ^= 0x10
    assert torch.load(io.BytesIO(content), weights_only=True).keys() == STATE.keys()
    return bytes(content)


STATE = {name: tensor for name, tensor in new_model().state_dict().items()}
BAD_FILES = {
    "cut short": (lambda: written(STATE)[:-2000], "damaged or cut off"),
    "half": (lambda: written(STATE)[: len(written(STATE)) // 2], "damaged or cut off"),
    "a bit turned": (lambda: with_a_bit_turned(written(STATE)), "damaged or cut off"),
    "empty": (lambda: b"", "damaged or cut off"),
    "text": (lambda: b"hello world", "damaged or cut off"),
    "tensor": (lambda: written(torch.ones(3)), "not tensors by name"),
    "list": (lambda: written([torch.ones(3)]), "not tensors by name"),
    "numbers": (lambda: written({1: 2}), "not tensors by name"),
    "program": (lambda: written({"tok_emb.weight": Program()}), "would run code"),
    "plain pickle": (lambda: pickle.dumps(Program(), protocol=2), "would run code"),
    "other width": (
        lambda: written(new_model(emb_dim=12).state_dict()),
        "is (257, 12); this model's",
    ),
    "fewer blocks": (lambda: written(new_model(n_layers=1).state_dict()), "is missing"),
    "more blocks": (lambda: written(new_model(n_layers=3).state_dict()), "this model's is missing"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_has_one_clear_message_and_changes_nothing(kind, tmp_path):
    make, says = BAD_FILES[kind]
    path, model = tmp_path / "file.pth", new_model(seed=3)
    path.write_bytes(make())
    with pytest.raises(ValueError) as error:
        load_checkpoint(path, model, adamw(model))
    assert says in str(error.value) and str(path) in str(error.value)
    assert equal_weights(model, new_model(seed=3))


@pytest.mark.parametrize("kept", ["tok_emb.weight", "both"])
def test_a_tied_matrix_may_be_stored_once(kept, tmp_path):
    path, model = tmp_path / "model.pth", new_model(tie_weights=True)
    state = model.state_dict()
    if kept != "both":
        del state["out_head.weight"]
    torch.save(state, path)
    other = new_model(seed=3, tie_weights=True)
    load_checkpoint(path, other)
    assert equal_weights(other, model) and other.out_head.weight is other.tok_emb.weight
    with (
        pytest.raises(ValueError, match="out_head.weight is missing")
        if kept != "both"
        else nullcontext()
    ):
        load_checkpoint(path, new_model(seed=3))


def test_weights_alone_cannot_resume(tmp_path):
    path, model = tmp_path / "model.pth", new_model()
    torch.save(model.state_dict(), path)
    with pytest.raises(ValueError, match="weights alone"):
        load_checkpoint(path, model, adamw(model))


def test_another_optimizers_state_changes_nothing(tmp_path):
    path, model = tmp_path / "state.pth", new_model()
    save_checkpoint(path, model, adamw(model))
    other = new_model(seed=3)
    untouched = new_model(seed=3)
    halves = [
        {"params": part} for part in (other.tok_emb.parameters(), other.out_head.parameters())
    ]
    for groups in (halves, halves[:1]):
        torch.manual_seed(8)
        random = torch.get_rng_state()
        with pytest.raises(ValueError, match="another optimizer's state") as error:
            load_checkpoint(path, other, torch.optim.AdamW(groups))
        assert str(path) in str(error.value) and torch.get_rng_state().equal(random)
        assert equal_weights(other, untouched)


def test_the_file_itself_is_never_written_only_replaced(tmp_path, monkeypatch):
    path, model, names = tmp_path / "state.pth", new_model(), []
    replace = os.replace
    monkeypatch.setattr("os.replace", lambda old, new: (names.append(old.name), replace(old, new)))
    save_checkpoint(path, model, adamw(model))
    assert path.exists() and names and path.name not in names


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path, model = tmp_path / "state.pth", new_model()
    save_checkpoint(path, model, adamw(model))
    before = path.read_bytes()

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, new_model(seed=1), adamw(model))
    assert path.read_bytes() == before and [f.name for f in tmp_path.iterdir()] == ["state.pth"]
