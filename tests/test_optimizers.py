"""Muon, as the lesson has it and as the scripts use it, against PyTorch's."""

import copy

import pytest
import torch

from shared.training import Muon

SHAPES = [(8, 8), (16, 8), (8, 16), (8, 8), (16, 8)]
SETTINGS = {"lr": 0.02, "weight_decay": 0.1}


def ours(parameters):
    return Muon(parameters, **SETTINGS, dtype=torch.float32)


def theirs(parameters):
    return torch.optim.Muon(parameters, **SETTINGS, adjust_lr_fn="match_rms_adamw")


def in_bfloat16(parameters):
    return Muon(parameters, **SETTINGS)


def goes_on(kind, before, parameters):
    """An optimizer of another kind, which takes over the state; settings that the old one lacks are its own."""
    optimizer, state = kind(parameters), copy.deepcopy(before.state_dict())
    state["param_groups"] = [optimizer.defaults | group for group in state["param_groups"]]
    optimizer.load_state_dict(state)
    return optimizer


def trained(kind, steps, after=None):
    """Matrices after so many steps of an optimizer, or one step and the rest of another; the last has no gradient."""
    generator = torch.Generator().manual_seed(1)
    parameters = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in SHAPES]
    optimizer = kind(parameters)
    for step in range(steps):
        for p in parameters[:-1]:
            p.grad = torch.randn(p.shape, generator=generator)
        if after and step == 1:
            optimizer = goes_on(after, optimizer, parameters)
        optimizer.step()
    return [p.detach() for p in parameters]


@pytest.fixture
def exact(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)  # PyTorch's would round


def test_muon_is_pytorchs_in_float32(exact):
    for one, other in zip(trained(ours, 10), trained(theirs, 10), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_run_changes_between_the_two(exact):
    """The momentum of one is that of the other: a run begun with ours goes on with PyTorch's, and the other way round."""
    expected = trained(theirs, 3)
    for kinds in ((ours, theirs), (theirs, ours)):
        for one, other in zip(trained(kinds[0], 3, kinds[1]), expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_in_bfloat16_the_two_are_as_near_as_rounding_lets_them():
    """Ours and PyTorch's round in another order, and float32 rounds almost nothing.

    Ten steps of about 0.004 a number: all three are within 0.005 of each other, not within float32's 1e-5.
    """
    three = trained(in_bfloat16, 10), trained(theirs, 10), trained(ours, 10)
    for rounded, pytorchs, exact in list(zip(*three, strict=True))[:-1]:
        for one, other in ((rounded, pytorchs), (rounded, exact), (pytorchs, exact)):
            assert 1e-5 < (one - other).abs().max() < 5e-3


def test_a_run_goes_on_in_the_other_precision():
    """As when a run of the scripts moves to a machine that is fast in bfloat16, or back."""
    expected = trained(ours, 3)
    for kinds in ((ours, in_bfloat16), (in_bfloat16, ours)):
        for one, other in zip(trained(kinds[0], 3, kinds[1]), expected, strict=True):
            torch.testing.assert_close(one, other, atol=2e-3, rtol=0)


def test_without_a_gradient_nothing_moves():
    before, after = trained(ours, 0)[-1], trained(ours, 3)[-1]
    assert torch.equal(before, after)


def test_a_step_is_as_long_as_adamws():
    """0.2 * lr in the mean of squares, whatever the shape: so that one rate suits both (Liu and others, 2025)."""
    for shape in [(64, 64), (32, 128), (128, 32)]:
        p = torch.nn.Parameter(torch.zeros(shape))
        p.grad = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        Muon([p], lr=1.0, weight_decay=0.0, dtype=torch.float32).step()
        assert 0.15 < p.detach().square().mean().sqrt() < 0.25
