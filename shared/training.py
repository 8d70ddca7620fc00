"""Appendix D: training. Promoted from appendix_d_training/appendix_d.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import itertools
import math

import torch

from shared.finite import whole_number
from shared.pretraining import (
    calc_loss_batch,
    evaluate_model,
    generate_and_print_sample,
)

__all__ = ["cosine", "linear", "stable_then_decay", "learning_rate", "clip_gradients",
    "accumulate_gradients", "training_step", "train_model", "adam_direction", "AdamW",
    "parameter_groups", "orthogonalize", "Muon", "block_matrices"]  # fmt: skip


# appendix_d.ipynb: cosine
def cosine(progress):
    """Half a cosine from 1 down to 0, for `progress` from 0 to 1 (Loshchilov and Hutter, 2017)."""
    return (1 + math.cos(math.pi * progress)) / 2


def linear(progress):
    """A straight line from 1 down to 0."""
    return 1 - progress


def stable_then_decay(progress, decay=0.2):
    """1 at first; over the last part, `decay`, a straight line down to 0 (Hu and others, 2024)."""
    return min(1.0, (1 - progress) / decay)


# appendix_d.ipynb: learning-rate
def learning_rate(
    step, total_steps, warmup_steps, peak_lr, initial_lr=0.0, min_lr=0.0, shape=cosine
):
    """The rate of step 0 to total_steps - 1: a straight line up to the peak, then `shape` down to min_lr.

    Step `warmup_steps` gets the peak, and the last one min_lr if a step is left for it. Example: `learning_rate(0, 10, 0, 0.1)` is 0.1.
    """
    if step < warmup_steps:
        return initial_lr + (peak_lr - initial_lr) * step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
    return min_lr + (peak_lr - min_lr) * shape(min(1.0, progress))


# appendix_d.ipynb: clip-gradients
def clip_gradients(model, max_norm):
    """Shorten the whole gradient by one factor, to a length of at most max_norm; returns its old length.

    ValueError, with a parameter's name, if the gradient is not finite (Pascanu and others, 2013).
    """
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    length = torch.stack([grad.norm() for grad in grads.values()] or [torch.zeros(())]).norm()
    if not length.isfinite():
        bad = next((name for name, grad in grads.items() if not grad.isfinite().all()), "the model")
        raise ValueError(f"the gradient of {bad} is not finite: lower the learning rate")
    if length > max_norm:
        for grad in grads.values():
            grad.mul_(max_norm / length)
    return length.item()


# appendix_d.ipynb: accumulate-gradients
def accumulate_gradients(model, pieces, device):
    """Add up the gradients of the mean loss over all targets of several (inputs, targets).

    Returns that loss, in nats. A target of -100 does not count, nor does a piece without targets.
    """
    counts = [(targets != -100).sum().item() for _, targets in pieces]
    total = 0.0
    for (inputs, targets), count in zip(pieces, counts):
        if count:
            loss = calc_loss_batch(inputs, targets, model, device) * (count / sum(counts))
            loss.backward()
            total += loss.item()
    return total


# appendix_d.ipynb: training-step
def training_step(model, pieces, optimizer, device, lr, max_norm=1.0):
    """One step from one batch or several, at one rate for all groups.

    Returns the loss, and the gradient's length before it was clipped.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad()
    loss = accumulate_gradients(model, pieces, device)
    length = clip_gradients(model, max_norm)
    optimizer.step()
    return loss, length


# appendix_d.ipynb: train-model
def train_model(model, train_loader, val_loader, optimizer, device, n_epochs, eval_freq, eval_iter,
                start_context, tokenizer, warmup_steps, initial_lr=3e-05, min_lr=1e-6,
                *, shape=cosine, max_norm=1.0, accumulate=1):  # fmt: skip
    """Train; the optimizer's rate is the peak, before and after. `accumulate` batches make a step.

    Returns lists: training losses, validation losses, tokens seen, rates."""
    tracks, track_lrs = ([], [], []), []
    peak_lr, tokens_seen = optimizer.param_groups[0]["lr"], 0
    total_steps = n_epochs * math.ceil(len(train_loader) / accumulate)
    for epoch in range(1, n_epochs + 1):
        batches = iter(train_loader)
        while pieces := list(itertools.islice(batches, accumulate)):
            step = len(track_lrs)
            lr = learning_rate(step, total_steps, warmup_steps, peak_lr, initial_lr, min_lr, shape)
            training_step(model.train(), pieces, optimizer, device, lr, max_norm)
            tokens_seen += sum(inputs.numel() for inputs, _ in pieces)
            track_lrs.append(lr)
            if step % whole_number(eval_freq, "eval_freq") == 0:
                train, val = evaluate_model(model, train_loader, val_loader, device, eval_iter)
                print(f"Ep {epoch} (Step {step:06d}): Train loss {train:.3f}, Val loss {val:.3f}")
                for track, value in zip(tracks, (train, val, tokens_seen)):
                    track.append(value)
        generate_and_print_sample(model, tokenizer, device, start_context)
    for group in optimizer.param_groups:
        group["lr"] = peak_lr
    return *tracks, track_lrs


# appendix_d.ipynb: adam-direction
def adam_direction(grad, state, betas=(0.9, 0.999), eps=1e-8):
    """Where Adam goes: the mean of recent gradients over the root of their mean square (Kingma and Ba, 2015).

    Any shape; `state` is this parameter's memory, a dictionary, empty before the first step.
    """
    t = state["step"] = state.get("step", 0) + 1
    m = state["exp_avg"] = betas[0] * state.get("exp_avg", 0) + (1 - betas[0]) * grad
    v = state["exp_avg_sq"] = betas[1] * state.get("exp_avg_sq", 0) + (1 - betas[1]) * grad**2
    # both began at 0, and are still too small
    m, v = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
    return m / (v.sqrt() + eps)


# appendix_d.ipynb: adam-w
class AdamW(torch.optim.Optimizer):
    """Adam, and all weights shrink a little in each step (Loshchilov and Hutter, 2019); as PyTorch's."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    direction = adam_direction(p.grad, self.state[p], group["betas"], group["eps"])
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(direction, alpha=group["lr"])


# appendix_d.ipynb: parameter-groups
def parameter_groups(model, weight_decay):
    """Groups for AdamW: matrices decay, vectors (biases, LayerNorm) do not. A tied matrix counts once."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, vectors = [p for p in trained if p.dim() >= 2], [p for p in trained if p.dim() < 2]
    return [{"params": p, "weight_decay": d} for p, d in ((matrices, weight_decay), (vectors, 0.0))]


# appendix_d.ipynb: orthogonalize
def orthogonalize(matrix, steps=5, dtype=torch.bfloat16):
    """A matrix with the same directions, all of about the same size: `(n, m) -> (n, m)`.

    The Newton-Schulz iteration of Jordan and others, 2024, whose products are in `dtype`.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    X = (matrix.T if tall else matrix).to(dtype)
    X = X / X.norm().clamp(min=1e-7)  # no singular value is above 1
    for _ in range(steps):
        A = X @ X.T
        X = a * X + (b * A + c * (A @ A)) @ X
    return X.T if tall else X


class Muon(torch.optim.Optimizer):
    """For matrices: momentum, then `orthogonalize` (Jordan and others, 2024; scaled as by Liu and others, 2025)."""

    def __init__(self, params, lr=1e-3, weight_decay=0.1, momentum=0.95, dtype=torch.bfloat16):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.dtype = dtype

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    mean = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                    mean.lerp_(p.grad, 1 - group["momentum"])
                    update = orthogonalize(p.grad.lerp(mean, group["momentum"]), dtype=self.dtype)
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.sub_(update, alpha=group["lr"] * 0.2 * math.sqrt(max(p.shape)))


def block_matrices(model):
    """What Muon moves: the matrices of the transformer blocks, if they are trained. AdamW moves the rest."""
    return [p for p in model.trf_blocks.parameters() if p.dim() == 2 and p.requires_grad]
