"""Chapter 7's prompts, collate function, batched answers and fine-tuning: against the plainest forms and bad input."""

import functools
import random

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from shared.classification import BatchesByLength
from shared.gpt_model import GPTModel
from shared.guards import check_room
from shared.instruction import (
    InstructionDataset,
    custom_collate_fn,
    drift,
    fast_dtype,
    finetune,
    format_input,
    format_prompt,
    generate_batch,
    generate_responses,
    left_padded,
    own_texts,
    rehearsal,
    short_prompt,
    stream_response,
    train_epoch,
)
from shared.pretraining import calc_loss_batch
from shared.text_data import make_encoding
from shared.training import parameter_groups

BYTES = make_encoding("bytes", {bytes([byte]): byte for byte in range(256)})
END = BYTES.eot_token
CPU = torch.device("cpu")
FOX = {"instruction": "Plural, please.", "input": "fox", "output": "foxes"}
RED = {"instruction": "Name a color.", "input": "", "output": "red"}


def new_model(seed=0, **changes):
    torch.manual_seed(seed)
    cfg = {"vocab_size": 257, "context_length": 160, "emb_dim": 32, "n_heads": 2, "n_layers": 2}
    return GPTModel(cfg | {"drop_rate": 0.0, "qkv_bias": False} | changes).eval()


# --- prompts --------------------------------------------------------------------------------------


def test_the_prompt_is_the_books():
    assert format_input(FOX) == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
        "\n\n### Instruction:\nPlural, please.\n\n### Input:\nfox"
    )
    assert format_input(RED).endswith("### Instruction:\nName a color.")
    assert format_prompt(RED) == format_input(RED) + "\n\n### Response:\n"


def test_the_short_prompt():
    assert short_prompt(FOX) == "User: Plural, please. | fox\nAssistant:"
    assert short_prompt(RED) == "User: Name a color.\nAssistant:"
    assert short_prompt({"instruction": "Name a color."}) == short_prompt(RED)
    before = [{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello!"}]
    said = "User: Hi!\nAssistant: Hello!\n"
    assert short_prompt(RED | {"before": before}) == said + short_prompt(RED)


@pytest.mark.parametrize("prompt", [format_input, format_prompt, short_prompt])
@pytest.mark.parametrize(
    "entry",
    [{"instruction": ""}, {"instruction": " \n"}, {"input": "fox"}, {"instruction": None}, {}],
)
def test_no_instruction_is_refused(prompt, entry):
    with pytest.raises(ValueError, match="no instruction"):
        prompt(entry)


def test_a_data_set_joins_prompt_and_answer_by_a_space_unless_a_new_line_parts_them():
    for prompt, gap in [(short_prompt, " "), (format_prompt, "")]:
        plain = InstructionDataset([FOX, RED], BYTES, prompt=prompt)
        masked = InstructionDataset([FOX, RED], BYTES, mask_instruction=True, prompt=prompt)
        for entry, ids, (same, length) in zip([FOX, RED], plain, masked, strict=True):
            assert BYTES.decode(ids) == prompt(entry) + gap + entry["output"]
            assert same == ids and BYTES.decode(ids[:length]) == prompt(entry)
    assert len(InstructionDataset([], BYTES)) == 0


def test_the_end_of_text_in_an_entry_is_ordinary_text():
    entry = {"instruction": "Say <|endoftext|>.", "input": "", "output": "<|endoftext|>"}
    assert END not in InstructionDataset([entry], BYTES)[0]


# --- collate --------------------------------------------------------------------------------------


def test_collate_gives_the_books_tensors():
    inputs, targets = custom_collate_fn([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    P = 50256
    assert inputs.tolist() == [[0, 1, 2, 3, 4], [5, 6, P, P, P], [7, 8, 9, P, P]]
    assert targets.tolist() == [[1, 2, 3, 4, P], [6, P, -100, -100, -100], [8, 9, P, -100, -100]]
    assert inputs.dtype == targets.dtype == torch.int64


def test_collate_arguments():
    inputs, targets = custom_collate_fn([[1, 2, 3], [4]], 9, -1, allowed_max_length=2, device=CPU)
    assert inputs.tolist() == [[1, 2], [4, 9]] and targets.tolist() == [[2, 3], [9, -1]]
    with pytest.raises(RuntimeError):
        custom_collate_fn([[1]], device="nowhere")


def test_an_end_token_within_a_text_is_a_target_like_others():
    _, targets = custom_collate_fn([[1, 9, 2, 9], [3]], 9)
    assert targets.tolist() == [[9, 2, 9, 9], [9, -100, -100, -100]]


@pytest.mark.parametrize("masked", [False, True])
def test_the_loss_of_a_batch_is_that_of_its_texts(masked):
    model, draw = new_model(), random.Random(1)
    texts = [[draw.randrange(256) for _ in range(draw.randint(2, 30))] for _ in range(9)]
    items = [(ids, draw.randint(1, len(ids))) if masked else ids for ids in texts]
    total, count = 0.0, 0
    for item in items:
        ids, p = item if masked else (item, 1)
        row = torch.tensor([[*ids, END]])
        logits = model(row[:, :-1])[0, p - 1 :]
        total += F.cross_entropy(logits, row[0, p:], reduction="sum").item()
        count += len(ids) - p + 1
    batch = custom_collate_fn(items, END)
    assert (batch[1] != -100).sum() == count
    assert calc_loss_batch(*batch, model, CPU).item() == pytest.approx(total / count, abs=1e-5)


def test_a_prompt_that_fills_the_allowed_length_is_refused():
    item = ([1, 2, 3, 4, 5], 4)
    assert custom_collate_fn([item], END, allowed_max_length=4)[1].tolist() == [[-100] * 3 + [5]]
    with pytest.raises(ValueError, match="text 1 of the batch has a prompt of 4 tokens, but 3"):
        custom_collate_fn([([1, 2], 1), item], END, allowed_max_length=3)


# --- loaders --------------------------------------------------------------------------------------


# --- batched answers ------------------------------------------------------------------------------


def prompts_of(seed, count=12, longest=40):
    draw = random.Random(seed)
    return [[draw.randrange(256) for _ in range(draw.randint(1, longest))] for _ in range(count)]


def alone(model, ids, n, end):
    ids, start = list(ids), len(ids)
    for _ in range(n):
        with torch.no_grad():
            ids.append(model(torch.tensor([ids]))[0, -1].argmax().item())
        if ids[-1] == end:
            return ids[start:-1]
    return ids[start:]


@pytest.mark.parametrize("seed", range(4))
def test_a_batch_answers_as_each_prompt_alone(seed):
    model, prompts = new_model(seed, emb_dim=64), prompts_of(seed)
    with torch.no_grad():
        for block in model.trf_blocks:
            block.att.W_value.weight.mul_(6)  # so that neighbors would show
    free = [alone(model, ids, 20, END) for ids in prompts]
    end = free[0][4]  # a token that does come
    want = [alone(model, ids, 20, end) for ids in prompts]
    assert len({len(ids) for ids in want}) > 1
    assert generate_batch(model, prompts, 20, end) == want
    before = [value.clone() for value in model.state_dict().values()]
    assert generate_batch(model, prompts, 20, END) == free
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_left_padding_leaves_the_logits_as_they_are_and_the_model_too():
    model, prompts = new_model(), prompts_of(5)
    T = max(map(len, prompts))
    padding = torch.tensor([T - len(ids) for ids in prompts])
    rows = torch.tensor([[END] * (T - len(ids)) + ids for ids in prompts])
    with torch.no_grad():
        with left_padded(model, padding):
            together = model(rows)
        plain = model(rows)
        for row, ids in enumerate(prompts):
            single = model(torch.tensor([ids]))[0]
            assert torch.allclose(together[row, T - len(ids) :], single, atol=1e-5)
    assert not together.isnan().any()
    assert not torch.allclose(plain[:, -1], together[:, -1], atol=1e-2)
    with pytest.raises(ZeroDivisionError), left_padded(model, padding):
        1 / 0
    with torch.no_grad():
        assert model(rows).equal(plain)


def test_the_context_is_never_left():
    model = new_model(context_length=16)
    assert [len(ids) for ids in generate_batch(model, [[1] * 15, [2] * 3], 50, END)] == [1, 1]
    for bad in ([1] * 16, [1] * 40):
        with pytest.raises(ValueError, match="no room for an answer"):
            generate_batch(model, [[1], bad], 5, END)
    with pytest.raises(ValueError, match="16 tokens leaves"):
        check_room([[1] * 16], 16)


def test_responses_come_in_order_and_equal_the_stream():
    model = new_model(3)
    data = [FOX, RED, FOX | {"input": "a much longer input than that"}, {"instruction": "Hm"}] * 3
    found = generate_responses(model, data, BYTES, 9, batch_size=5)
    assert found == ["".join(stream_response(model, e, BYTES, 9)).strip() for e in data]
    assert generate_responses(model, [], BYTES) == []


def test_the_stream_never_cuts_a_letter():
    """A model that writes " é€" byte by byte, then ends."""
    said = [*" é€!".encode(), END]
    model = new_model(n_layers=1)
    start = len(BYTES.encode_ordinary(short_prompt(RED)))

    def forced(module, args, output):
        place = torch.zeros_like(output)
        place[..., said[min(forced.count, len(said) - 1)]] = 1e9
        forced.count += 1
        return place

    forced.count = 0
    model.out_head.register_forward_hook(forced)
    pieces = list(stream_response(model, RED, BYTES, 20))
    assert start and pieces[:3] == ["é", "€", "!"] and "".join(pieces) == "é€!"
    forced.count = 0
    assert "".join(stream_response(model, RED, BYTES, 2)) == "\N{REPLACEMENT CHARACTER}"


def test_the_stream_refuses_what_it_cannot_answer_and_leaves_the_mode():
    model = new_model().train()
    with pytest.raises(ValueError, match="no room"):
        list(stream_response(model, {"instruction": "x" * 200}, BYTES))
    with pytest.raises(ValueError, match="no instruction"):
        list(stream_response(model, {"instruction": ""}, BYTES))
    list(stream_response(model, RED, BYTES, 2))
    assert model.training and not torch.is_inference_mode_enabled()
    stream = stream_response(model, RED, BYTES, 4)
    next(stream)
    assert not torch.is_inference_mode_enabled()


# --- fine-tuning ----------------------------------------------------------------------------------


def loaders(count=24):
    words = ["fox", "dog", "cat", "hen", "cow", "rat"]
    data = [FOX | {"input": w * (i % 3 + 1), "output": w + "s"} for i, w in enumerate(words * 4)]
    items = list(InstructionDataset(data[:count], BYTES, mask_instruction=True))
    collate = functools.partial(custom_collate_fn, pad_token_id=END, allowed_max_length=160)
    sampler = BatchesByLength([len(ids) for ids, _ in items], 8)
    train = DataLoader(items, batch_sampler=sampler, collate_fn=collate)
    return train, DataLoader(items[:6], batch_size=4, collate_fn=collate)


def run(path=None, train=None, epochs=3, peak=1e-2, seed=0):
    train_loader, val_loader = loaders()
    model = new_model(seed, drop_rate=0.1)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1))
    torch.manual_seed(7)
    history = finetune(model, train or train_loader, val_loader, optimizer, CPU, epochs, peak,
                       eval_freq=2, checkpoint=path)  # fmt: skip
    return model.state_dict(), history


class Cut:
    """A loader that fails in the middle of an epoch."""

    def __init__(self, loader, epoch):
        self.loader, self.epoch, self.seen = loader, epoch, 0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.seen += 1
        for i, batch in enumerate(self.loader):
            if (self.seen, i) == (self.epoch, 1):
                raise KeyboardInterrupt
            yield batch


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_run_loses_at_most_its_epoch(tmp_path, capsys, epoch):
    whole, history = run()
    assert history[-1]["training"] < history[0]["training"]
    assert [row["step"] for row in history] == [2, 3, 4, 6, 8, 9]
    path = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        run(path, Cut(loaders()[0], epoch))
    assert path.exists() == (epoch > 1)
    capsys.readouterr()
    again, same = run(path)
    assert len(capsys.readouterr().out.splitlines()) == 2 * (
        4 - epoch
    )  # whole epochs are not redone
    assert same == history
    assert all(whole[name].equal(again[name]) for name in whole)
    finished, same = run(path)
    assert same == history and not capsys.readouterr().out
    assert all(whole[name].equal(finished[name]) for name in whole)


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    run(path, epochs=1)
    with pytest.raises(ValueError, match="another run"):
        run(path, epochs=2)
    with pytest.raises(ValueError, match="another run"):
        run(path, epochs=1, peak=1e-3)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="damaged"):
        run(path, epochs=1)


def test_a_text_of_its_own_begins_after_an_end_token_and_is_drawn():
    model = new_model()
    torch.manual_seed(3)
    texts = own_texts(model, 5, 7, END, batch_size=2)
    torch.manual_seed(3)
    assert texts.shape == (5, 7) and own_texts(model, 5, 7, END, batch_size=2).equal(texts)
    assert len({tuple(row) for row in texts.tolist()}) == 5


def test_the_drift_is_the_divergence():
    base, model, texts = new_model(), new_model(1), torch.randint(256, (3, 9))
    assert drift(base, base, texts).item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        p, q = base(texts).double().log_softmax(-1), model(texts).double().log_softmax(-1)
    by_hand = (p.exp() * (p - q)).sum() / texts.numel()
    assert drift(model, base, texts).item() == pytest.approx(by_hand.item(), rel=1e-4)
    drift(model, base, texts).backward()
    assert model.pos_emb.weight.grad is not None and base.pos_emb.weight.grad is None


def test_rehearsal_takes_the_texts_in_turn_and_holds_the_model_back():
    base, texts = new_model(), torch.arange(5).repeat(4, 1).T  # row n is all n
    seen, model = [], new_model()
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 0].tolist()))
    loss = rehearsal(base, texts, weight=2.0, rows=2)
    for step in range(3):
        loss(model, step)
    assert seen == [[0, 1], [2, 3], [4, 0]]
    moved = []
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        model, own = new_model(), torch.randint(256, (40, 12))
        optimizer = torch.optim.AdamW(parameter_groups(model, 0.0))
        given = (optimizer, lambda s: 3e-3, CPU, 0, torch.float32, rehearsal(base, own, weight))
        list(train_epoch(model, loaders()[0], *given))
        moved.append(drift(model, base, own).item())
    assert moved[1] < 0.7 * moved[0]


def test_a_look_adds_its_numbers(capsys):
    model, (train, val) = new_model(), loaders()
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0))
    history = finetune(model, train, val, optimizer, CPU, 1, 1e-3, eval_freq=2, watch=lambda m: {"one": 1.0})  # fmt: skip
    assert [row["one"] for row in history] == [1.0, 1.0] and history[0]["training"] > 0


def test_an_epoch_sets_rate_and_clips():
    model, (train, _) = new_model(), loaders()
    optimizer = torch.optim.SGD(model.parameters(), lr=123.0)
    rates, losses = [], []
    for step, loss in train_epoch(model, train, optimizer, lambda s: 0.5 / (1 + s), CPU, step=4):
        rates.append(optimizer.param_groups[0]["lr"])
        losses.append(loss)
        norm = sum(p.grad.square().sum() for p in model.parameters()).sqrt()
        assert norm <= 1.001
        model.eval()
    assert rates == [0.5 / 5, 0.5 / 6, 0.5 / 7] and step == 6
    assert all(loss > 0 for loss in losses)


def test_sixteen_bits_train_nearly_the_same():
    assert fast_dtype(CPU) in (torch.bfloat16, torch.float32)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        model = new_model()
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(parameter_groups(model, 0.0))
        steps = train_epoch(model, loaders()[0], optimizer, lambda s: 1e-3, CPU, dtype=dtype)
        found.append([loss for _, loss in steps])
    assert found[0] != found[1] and found[0] == pytest.approx(found[1], abs=0.05)
    assert model.tok_emb.weight.dtype == torch.float32
