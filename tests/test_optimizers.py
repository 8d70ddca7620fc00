"""The optimizers of the scripts, against PyTorch's."""

import torch

from shared.optimizers import FullMuon

SHAPES = [(8, 8), (16, 8), (8, 16), (8, 8), (16, 8)]
SETTINGS = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}


def trained(kind, steps, start=None):
    """Matrices after so many steps of an optimizer, and its state; the last one never has a gradient."""
    generator = torch.Generator().manual_seed(1)
    parameters = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in SHAPES]
    optimizer = kind(parameters, **SETTINGS)
    for step in range(steps):
        for p in parameters[:-1]:
            p.grad = torch.randn(p.shape, generator=generator)
        if start and step == 1:  # an optimizer of the other kind goes on
            optimizer, before = start(parameters, **SETTINGS), optimizer
            optimizer.load_state_dict(before.state_dict())
        optimizer.step()
    return [p.detach() for p in parameters]


def test_full_muon_is_pytorchs_in_float32(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)  # PyTorch's would round
    for ours, theirs in zip(trained(FullMuon, 3), trained(torch.optim.Muon, 3), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_run_changes_between_the_two(monkeypatch):
    """A run begun on a CPU without bfloat16 goes on where there is one, and the other way round."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.float)
    expected = trained(torch.optim.Muon, 3)
    for kinds in ((FullMuon, torch.optim.Muon), (torch.optim.Muon, FullMuon)):
        for ours, theirs in zip(trained(kinds[0], 3, kinds[1]), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_without_a_gradient_nothing_moves():
    before, after = trained(FullMuon, 0)[-1], trained(FullMuon, 3)[-1]
    assert torch.equal(before, after)
