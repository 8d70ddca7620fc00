"""Appendix D's schedules, steps and optimizers: against PyTorch's, against one batch, at the corners."""

import copy
import inspect
import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.gpt_model import GPTModel
from shared.pretraining import train_model_simple
from shared.text_data import create_dataloader_v1, make_encoding
from shared.training import (
    AdamW,
    Muon,
    accumulate_gradients,
    adam_direction,
    block_matrices,
    clip_gradients,
    cosine,
    learning_rate,
    linear,
    orthogonalize,
    parameter_groups,
    stable_then_decay,
    train_model,
    training_step,
)

BYTES = make_encoding("bytes", {bytes([byte]): byte for byte in range(256)})
TEXT = "the cat sat on the mat, and the rat sat on the cat; " * 5


def gpt(seed=0, **changes):
    torch.manual_seed(seed)
    cfg = {"vocab_size": 257, "context_length": 16, "emb_dim": 24, "n_heads": 2, "n_layers": 2}
    return GPTModel(cfg | {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True} | changes)


def level(progress):
    return 1.0


# --- schedules ------------------------------------------------------------------------------------

LENGTHS = [(10, 3), (100, 20), (57, 1), (8, 0), (12, 11)]


def pytorchs(schedulers, peak_lr, warmup_steps, total_steps):
    """The rates of PyTorch's schedulers, one for the steps before `warmup_steps`, one from there on."""
    rates = []
    for i, scheduler in enumerate(schedulers):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak_lr)
        steps = scheduler(optimizer) if scheduler else None
        for _ in range(total_steps - warmup_steps if i else warmup_steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            steps.step()
    return rates


def warm_up(initial_lr, peak_lr, warmup_steps):
    def made(optimizer):
        return torch.optim.lr_scheduler.LinearLR(optimizer, initial_lr / peak_lr, 1.0, warmup_steps)

    return made if warmup_steps else None


@pytest.mark.parametrize("total, warmup", LENGTHS)
@pytest.mark.parametrize("min_lr", [0.0, 1e-5])
def test_warm_up_and_cosine_are_pytorchs(total, warmup, min_lr):
    def decay(optimizer):
        length = max(1, total - 1 - warmup)
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, length, eta_min=min_lr)

    want = pytorchs([warm_up(3e-5, 0.02, warmup), decay], 0.02, warmup, total)
    got = [learning_rate(step, total, warmup, 0.02, 3e-5, min_lr) for step in range(total)]
    assert got == pytest.approx(want, rel=1e-12, abs=1e-15)
    assert got[0] > 0 and max(got) == got[warmup] == 0.02
    assert got[-1] == pytest.approx(min_lr if total - 1 > warmup else 0.02, abs=1e-18)


@pytest.mark.parametrize("total, warmup", LENGTHS)
def test_warm_up_and_a_line_to_zero_are_pytorchs(total, warmup):
    def decay(optimizer):
        length = max(1, total - 1 - warmup)
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, length)

    want = pytorchs([warm_up(1e-4, 0.5, warmup), decay], 0.5, warmup, total)
    got = [learning_rate(step, total, warmup, 0.5, 1e-4, shape=linear) for step in range(total)]
    assert got == pytest.approx(want, rel=1e-12, abs=1e-14)
    assert got[-1] == (0.0 if total - 1 > warmup else 0.5)


def test_a_schedule_at_its_corners():
    assert learning_rate(0, 1, 0, 0.1) == 0.1  # one step, and no warm-up
    assert [learning_rate(step, 2, 0, 0.1) for step in (0, 1)] == [0.1, 0.0]
    assert [learning_rate(step, 4, 4, 1.0) for step in range(4)] == [0.0, 0.25, 0.5, 0.75]
    assert learning_rate(0, 1, 1, 0.1, initial_lr=0.01) == 0.01  # warm-up all along
    assert [learning_rate(step, 9, 0, 1.0, min_lr=0.1) for step in (8, 9, 50)] == [0.1] * 3  # later
    half = learning_rate(6, 11, 2, 2.0, min_lr=1.0)
    assert half == pytest.approx(1.5) and learning_rate(5, 5, 5, 2.0) == 2.0


def test_shapes_fall_from_one_to_zero():
    places = [i / 20 for i in range(21)]
    for shape in (cosine, linear, stable_then_decay):
        values = [shape(place) for place in places]
        assert values[0] == 1.0 and values[-1] == pytest.approx(0.0, abs=1e-15)
        assert values == sorted(values, reverse=True)
    assert [stable_then_decay(p) for p in (0.0, 0.5, 0.8)] == pytest.approx([1.0, 1.0, 1.0])
    assert stable_then_decay(0.9) == pytest.approx(0.5)
    assert stable_then_decay(0.75, decay=0.5) == pytest.approx(0.5)


# --- accumulating, clipping, a step ---------------------------------------------------------------


def pieces_of(counts, T=8, seed=0):
    """Two rows for each count of targets; all others are -100."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        inputs, targets = torch.randint(257, (2, 2, T), generator=generator)
        targets.view(-1)[torch.randperm(2 * T, generator=generator)[count:]] = -100
        found.append((inputs, targets))
    return found


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def of_one_batch(model, pieces):
    inputs, targets = (torch.cat(parts) for parts in zip(*pieces))
    model.zero_grad()
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    return loss.item(), gradients(model)


@pytest.mark.parametrize("counts", [(16, 3, 7), (1, 16), (5, 0, 9), (0, 0, 2), (6,)])
def test_accumulated_gradients_are_those_of_one_batch(counts):
    model, pieces = gpt(), pieces_of(counts)
    want_loss, want = of_one_batch(model, pieces)
    model.zero_grad()
    loss = accumulate_gradients(model, pieces, "cpu")
    assert loss == pytest.approx(want_loss, abs=1e-6)
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, want[name], atol=1e-6, rtol=0)


def test_the_mean_of_means_is_another_gradient():
    model, pieces = gpt(), pieces_of((16, 3, 7))
    _, want = of_one_batch(model, pieces)
    model.zero_grad()
    for inputs, targets in pieces:
        (F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten()) / len(pieces)).backward()
    assert max((grad - want[name]).abs().max() for name, grad in gradients(model).items()) > 1e-3


def test_accumulating_adds_to_what_was_there_and_nothing_is_no_loss():
    model, pieces = gpt(), pieces_of((4, 9))
    accumulate_gradients(model, pieces, "cpu")
    once = gradients(model)
    accumulate_gradients(model, pieces, "cpu")
    for name, grad in gradients(model).items():
        torch.testing.assert_close(grad, 2 * once[name])
    before = gradients(model)
    assert accumulate_gradients(model, pieces_of((0, 0)), "cpu") == 0.0
    assert all(torch.equal(grad, before[name]) for name, grad in gradients(model).items())


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 50.0, 1e6])
def test_clipping_is_pytorchs_and_keeps_the_direction(max_norm):
    """PyTorch divides by the length plus 1e-6: at this length, above 60, that is 2e-8 of it."""
    ours, theirs = gpt(), gpt()
    for model in (ours, theirs):
        of_one_batch(model, pieces_of((16, 16)))
        for p in model.parameters():
            p.grad.mul_(40)
    before = torch.cat([p.grad.flatten() for p in ours.parameters()])
    length = clip_gradients(ours, max_norm)
    assert isinstance(length, float) and length > 60
    assert length == pytest.approx(before.norm().item(), rel=1e-6)
    want = nn.utils.clip_grad_norm_(theirs.parameters(), max_norm).item()
    assert length == pytest.approx(want, rel=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(one.grad, other.grad, atol=0, rtol=1e-6)
    after = torch.cat([p.grad.flatten() for p in ours.parameters()])
    assert after.norm().item() <= max_norm * (1 + 1e-6)
    assert F.cosine_similarity(before, after, dim=0).item() == pytest.approx(1.0, abs=1e-6)
    if max_norm > length:
        assert torch.equal(before, after)


def test_a_short_gradient_stays_bit_for_bit_and_what_has_none_is_left_out():
    model = gpt()
    model.tok_emb.weight.grad = torch.full_like(model.tok_emb.weight, 1e-6)
    before = model.tok_emb.weight.grad.clone()
    assert clip_gradients(model, 1.0) == pytest.approx(before.norm().item())
    assert torch.equal(model.tok_emb.weight.grad, before) and model.pos_emb.weight.grad is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_named_and_nothing_changes(value):
    model = gpt()
    of_one_batch(model, pieces_of((16, 16)))
    name, parameter = list(model.named_parameters())[7]
    parameter.grad.view(-1)[3] = value
    before = gradients(model)
    with pytest.raises(ValueError, match=f"the gradient of {re.escape(name)} is not finite"):
        clip_gradients(model, 1e-3)
    for other, grad in gradients(model).items():
        assert torch.equal(grad.nan_to_num(7.0), before[other].nan_to_num(7.0))


def test_numbers_that_are_finite_and_their_length_is_not():
    model = gpt()
    for p in model.parameters():
        p.grad = torch.full_like(p, 1e30)
    with pytest.raises(ValueError, match="not finite"):
        clip_gradients(model, 1.0)


def test_a_step_sets_the_rates_of_all_groups_and_clips():
    ours, theirs, pieces = gpt(), gpt(), pieces_of((16, 5))
    optimizer = torch.optim.SGD(parameter_groups(ours, 0.1), lr=9.0)
    loss, length = training_step(ours, pieces, optimizer, "cpu", lr=0.25, max_norm=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
    want, grads = of_one_batch(theirs, pieces)
    whole = torch.cat([grad.flatten() for grad in grads.values()]).norm().item()
    assert loss == pytest.approx(want, abs=1e-6)
    assert whole > 0.5 and length == pytest.approx(whole, rel=1e-5)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        decay = 0.1 if q.dim() > 1 else 0.0
        moved = q - 0.25 * (grads[name] * (0.5 / whole) + decay * q)
        torch.testing.assert_close(p, moved, atol=1e-6, rtol=1e-6)
    again, _ = training_step(ours, pieces, optimizer, "cpu", lr=0.25, max_norm=0.5)
    assert again < loss  # and the gradients of before are gone
    want, _ = of_one_batch(ours, pieces)
    assert want < again


# --- the loop -------------------------------------------------------------------------------------


def batches(rows=4):
    return create_dataloader_v1(TEXT, rows, 16, 16, False, False, tokenizer=BYTES)


def tokens_of(loader):
    return sum(inputs.numel() for inputs, _ in loader)


def run(model, optimizer, train=train_model, n_epochs=2, rows=4, **settings):
    """Train on some batches, evaluated after each step."""
    settings = {"warmup_steps": 2} | settings if train is train_model else settings
    given = [model, batches(rows), batches(rows), optimizer, "cpu", n_epochs, 1, 1, "the", BYTES]
    return train(*given, **settings)


def adamw(model, lr=0.01):
    return torch.optim.AdamW(parameter_groups(model, 0.1), lr=lr)


def test_the_signature_is_the_books():
    parameters = inspect.signature(train_model).parameters.values()
    book = ("model train_loader val_loader optimizer device n_epochs eval_freq eval_iter start_context "
            "tokenizer warmup_steps initial_lr min_lr")  # fmt: skip
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == book.split()
    defaults = {p.name: p.default for p in positional if p.default is not p.empty}
    assert defaults == {"initial_lr": 3e-5, "min_lr": 1e-6}
    assert all(p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY)


def test_a_plain_run_is_chapter_5s_bit_for_bit(capsys):
    ours, theirs = gpt(drop_rate=0.1), gpt(drop_rate=0.1)
    torch.manual_seed(1)
    found = run(ours, adamw(ours), warmup_steps=0, min_lr=0.0, shape=level, max_norm=math.inf)
    said = capsys.readouterr().out
    torch.manual_seed(1)
    want = run(theirs, adamw(theirs), train_model_simple)
    assert found[:3] == want and said == capsys.readouterr().out
    assert all(torch.equal(p, q) for p, q in zip(ours.parameters(), theirs.parameters()))


@pytest.mark.parametrize("warmup", [0, 1, 3, 99])
def test_every_step_has_its_rate(warmup):
    model, total = gpt(), 2 * len(batches())
    warmup = min(warmup, total)  # 99: as many warm-up steps as steps
    optimizer = adamw(model)
    losses, val_losses, tokens, rates = run(model, optimizer, warmup_steps=warmup)
    assert len(rates) == len(losses) == len(val_losses) == len(tokens) == total
    assert rates == [learning_rate(step, total, warmup, 0.01, 3e-5, 1e-6) for step in range(total)]
    assert all(0 < rate <= 0.01 for rate in rates)
    assert rates[-1] == pytest.approx(1e-6) if warmup < total else rates[-1] > 0.008
    assert all(map(math.isfinite, losses + val_losses)) and losses[-1] < losses[0]
    assert tokens[-1] == 2 * tokens_of(batches())


def test_the_rates_reach_the_optimizer_and_end_at_the_peak():
    model, used = gpt(), []
    optimizer = adamw(model)
    optimizer.register_step_pre_hook(
        lambda one, *given: used.append([group["lr"] for group in one.param_groups])
    )
    *_, first = run(model, optimizer)
    assert used == [[rate, rate] for rate in first]
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]
    *_, second = run(model, optimizer)  # a second call begins where the first did
    assert second == first and max(first) == 0.01


def test_one_step_and_one_epoch():
    model = gpt()
    *_, rates = run(model, adamw(model), n_epochs=1, rows=99, warmup_steps=0)
    assert rates == [0.01]


def test_the_gradient_is_clipped_from_the_first_step_on():
    for warmup in (0, 3):
        model, lengths = gpt(), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        optimizer.register_step_pre_hook(
            lambda *given, model=model, lengths=lengths: lengths.append(
                torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
            )
        )
        *_, rates = run(model, optimizer, warmup_steps=warmup, max_norm=0.01)
        assert lengths == pytest.approx([0.01] * len(rates), rel=1e-5)


def test_batches_that_make_a_step_together():
    count = len(batches(6))
    assert count % 2 == 1
    model = gpt()
    *_, tokens, rates = run(model, adamw(model), rows=6, accumulate=2)
    assert len(rates) == len(tokens) == 2 * (count // 2 + 1)
    assert tokens[-1] == 2 * tokens_of(batches(6))
    assert rates[-1] == pytest.approx(1e-6)


def test_two_batches_accumulated_are_one_of_twice_the_size():
    ours, theirs = gpt(), gpt()
    few = run(ours, torch.optim.SGD(ours.parameters(), lr=0.1), rows=2, accumulate=2)
    many = run(theirs, torch.optim.SGD(theirs.parameters(), lr=0.1), rows=4)
    assert few[2:] == many[2:]
    for p, q in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(p, q, atol=1e-5, rtol=1e-5)


# --- AdamW ----------------------------------------------------------------------------------------

SHAPES = [(7, 5), (11,), (1,), (3, 2, 2)]


def trained(kind, dtype, steps=100, **settings):
    """Parameters after so many steps in two groups, of which one decays; the last never has a gradient."""
    generator = torch.Generator().manual_seed(1)

    def draw(shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    parameters = [nn.Parameter(draw(shape)) for shape in (*SHAPES, (2, 2))]
    groups = [{"params": parameters[::2], "weight_decay": 0.3}, {"params": parameters[1::2]}]
    optimizer = kind(groups, **({"weight_decay": 0.0} | settings))
    for step in range(steps):
        for p in parameters[:-1]:
            p.grad = draw(p.shape) * (0.0 if step % 7 == 3 else 2.0 ** (step % 5 - 2))
        optimizer.step()
    return [p.detach() for p in parameters]


ADAMS = [
    {"lr": 0.01},
    {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8},
    {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.2},
    {"lr": 0.02, "betas": (0.0, 0.99), "eps": 1e-12},
]


@pytest.mark.parametrize("settings", ADAMS)
def test_adamw_is_pytorchs_in_float64(settings):
    pairs = zip(*(trained(kind, torch.float64, **settings) for kind in (AdamW, torch.optim.AdamW)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=0)
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)  # by rounding alone


@pytest.mark.parametrize("settings", ADAMS)
def test_adamw_is_pytorchs_in_float32_but_for_rounding(settings):
    """Within 1e-5: a float32 between 1 and 4 is rounded by up to 1.2e-7, and is so in 100 steps."""
    pairs = zip(*(trained(kind, torch.float32, **settings) for kind in (AdamW, torch.optim.AdamW)))
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_without_a_gradient_no_decay():
    for kind in (AdamW, torch.optim.AdamW):
        before = trained(kind, torch.float64, steps=0)[-1]
        assert torch.equal(before, trained(kind, torch.float64)[-1])  # its group decays by 0.3


def test_the_defaults_are_pytorchs():
    ours, theirs = (kind([nn.Parameter(torch.ones(2))]) for kind in (AdamW, torch.optim.AdamW))
    assert ours.defaults.items() <= theirs.defaults.items()


@pytest.mark.parametrize(
    "betas, eps", [((0.9, 0.999), 1e-8), ((0.0, 0.0), 0.0), ((0.7, 0.95), 1e-2)]
)
def test_the_direction_is_adams(betas, eps):
    p = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    adam, state = torch.optim.Adam([p], lr=1.0, betas=betas, eps=eps), {}
    for step in range(20):
        p.grad = torch.randn(6, generator=torch.Generator().manual_seed(step)).double()
        before = p.detach().clone()
        adam.step()
        direction = adam_direction(p.grad, state, betas, eps)
        torch.testing.assert_close(before - p.detach(), direction, atol=1e-12, rtol=1e-12)
    assert state["step"] == 20


def test_the_first_direction_is_a_sign():
    grad = torch.tensor([3.0, -1e-4, 0.0, 100.0])
    torch.testing.assert_close(adam_direction(grad, {}, eps=1e-12), grad.sign())


def test_a_run_of_adamw_that_was_stored_goes_on():
    model, pieces = gpt(), pieces_of((16, 4))
    optimizer = AdamW(parameter_groups(model, 0.1), lr=0.01)
    training_step(model, pieces, optimizer, "cpu", 0.01)
    other = copy.deepcopy(model)
    second = AdamW(parameter_groups(other, 0.1), lr=0.5)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for one, its in ((model, optimizer), (other, second)):
        training_step(one, pieces, its, "cpu", 0.01)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))


# --- groups, orthogonalize ------------------------------------------------------------------------


def test_parameter_groups_hold_each_parameter_once():
    model = gpt()
    model.pos_emb.weight.requires_grad_(False)
    decays, others = parameter_groups(model, 0.3)
    assert (decays["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    found = [id(p) for group in (decays, others) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert {p.dim() for p in decays["params"]} == {2} and {p.dim() for p in others["params"]} == {1}
    assert sum(p is model.tok_emb.weight for p in decays["params"]) == 1  # the head, too


@pytest.mark.parametrize("tie_weights", [True, False])
def test_block_matrices_are_those_of_the_blocks_that_are_trained(tie_weights):
    model = gpt(tie_weights=tie_weights)
    frozen = model.trf_blocks[0].ff.layers[0].weight.requires_grad_(False)
    named = {id(p): name for name, p in model.named_parameters()}
    names = [named[id(p)] for p in block_matrices(model)]
    parts = [
        "att.W_query",
        "att.W_key",
        "att.W_value",
        "att.out_proj",
        "ff.layers.0",
        "ff.layers.2",
    ]
    want = {f"trf_blocks.{i}.{part}.weight" for i in range(2) for part in parts}
    assert len(names) == len(set(names)) and set(names) == want - {named[id(frozen)]}


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (64, 65), (40, 40), (3, 200), (1, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalized_all_directions_are_of_about_the_same_size(shape, dtype):
    """A square random matrix has a direction near 0, which five steps may leave shorter than 0.6."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    got = orthogonalize(matrix, dtype=dtype)
    assert got.shape == shape and got.dtype == dtype
    sizes = torch.linalg.svdvals(got.float())
    assert sizes.max() < 1.3 and sizes.median() > 0.6
    if max(shape) > 1.5 * min(shape):
        assert sizes.min() > 0.6


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (40, 40)])
def test_orthogonalized_it_has_the_same_directions(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3)).double()
    U, before, Vh = torch.linalg.svd(matrix, full_matrices=False)
    got = orthogonalize(matrix, dtype=torch.float64)
    sizes = (
        U.T @ got @ Vh.T
    )  # (min(n, m), min(n, m)): diagonal if no direction is mixed with another
    torch.testing.assert_close(sizes, sizes.diagonal().diag(), atol=1e-10, rtol=0)
    assert (sizes.diagonal() > 0).all()
    cosines = F.cosine_similarity((U @ Vh).flatten(), got.flatten(), dim=0)
    assert cosines > 0.97 > F.cosine_similarity((U @ Vh).flatten(), matrix.flatten(), dim=0)
    torch.testing.assert_close(orthogonalize(1000 * matrix, dtype=torch.float64), got)


def test_orthogonalized_in_bfloat16_it_is_nearly_that_of_float32():
    """Five steps of rounding to 8 bits: on the average of all numbers some percent, not 1e-5."""
    matrix = torch.randn(64, 96, generator=torch.Generator().manual_seed(4))
    fine, rough = orthogonalize(matrix, dtype=torch.float32), orthogonalize(matrix).float()
    assert 1e-3 < (fine - rough).norm() / fine.norm() < 0.05


def test_nothing_to_orthogonalize_stays_nothing():
    assert not orthogonalize(torch.zeros(4, 6)).any()


def test_muon_and_adamw_together_train_a_model():
    model, pieces = gpt(), pieces_of((16, 9))
    inner = block_matrices(model)
    inside = set(map(id, inner))
    outer = [p for p in model.parameters() if id(p) not in inside]
    optimizers = [Muon(inner, lr=0.02), torch.optim.AdamW(outer, lr=0.02)]
    losses = []
    for _ in range(10):
        for one in optimizers:
            one.zero_grad()
        losses.append(accumulate_gradients(model, pieces, "cpu"))
        for one in optimizers:
            one.step()
    assert losses[-1] < 0.5 * losses[0]


def test_a_step_without_any_target_changes_nothing():
    model = gpt()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters())
    assert training_step(model, pieces_of((0, 0)), optimizer, "cpu", 0.1) == (0.0, 0.0)
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items())
