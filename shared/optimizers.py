"""The optimizers of the scripts of chapters 5 and 7: AdamW, and Muon for the matrices of the blocks."""

import functools
import math

import torch

from shared.measure import fast_in_bf16
from shared.pretraining import parameter_groups


class FullMuon(torch.optim.Muon):
    """PyTorch's Muon with its products in float32, for CPUs without bfloat16; matrices of a shape go together."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            a, b, c = group["ns_coefficients"]
            for shape in dict.fromkeys(p.shape for p in group["params"]):
                these = [p for p in group["params"] if p.shape == shape and p.grad is not None]
                if not these:
                    continue
                for p in these:
                    momentum = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                    momentum.lerp_(p.grad, 1 - group["momentum"])
                steps = [
                    p.grad.lerp(self.state[p]["momentum_buffer"], group["momentum"]) for p in these
                ]
                X = torch.stack(steps)  # (N, rows, columns), of which the fewer come first
                X = X.mT if shape[0] > shape[1] else X
                X = X / X.norm(dim=(1, 2), keepdim=True).clamp(min=group["eps"])
                for _ in range(group["ns_steps"]):
                    A = X @ X.mT
                    X = a * X + (b * A + c * A @ A) @ X
                X = X.mT if shape[0] > shape[1] else X
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))  # match_rms_adamw
                for p, update in zip(these, X):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)


def make_optimizers(model, run):
    """AdamW, with GPT-3's betas; or Muon for the blocks' matrices and AdamW for all else.

    Loshchilov and Hutter, 2019; Jordan et al., 2024, scaled as by Liu et al., 2025, so that one --lr suits both.
    """
    matrices, vectors = parameter_groups(model, run.weight_decay)
    adamw = functools.partial(torch.optim.AdamW, lr=run.lr, betas=(0.9, 0.95), fused=True)
    if run.optimizer == "adamw":
        return [adamw([matrices, vectors])]
    outside = {id(model.tok_emb.weight), id(model.pos_emb.weight)}  # the head is tied
    inner = [p for p in matrices["params"] if id(p) not in outside]
    outer = matrices | {"params": [p for p in matrices["params"] if id(p) in outside]}
    kind = torch.optim.Muon if fast_in_bf16(model.pos_emb.weight.device) else FullMuon
    muon = functools.partial(kind, adjust_lr_fn="match_rms_adamw")
    return [muon(inner, run.lr, run.weight_decay), adamw([outer, vectors])]


class Together:
    """Optimizers that work as one."""

    def __init__(self, optimizers: list[torch.optim.Optimizer]):
        self.optimizers = optimizers
        self.param_groups = [group for one in optimizers for group in one.param_groups]

    def zero_grad(self):
        for one in self.optimizers:
            one.zero_grad()

    def step(self):
        for one in self.optimizers:
            one.step()

    def state_dict(self):
        return {"optimizers": [one.state_dict() for one in self.optimizers]}

    def load_state_dict(self, state):
        for one, part in zip(self.optimizers, state["optimizers"], strict=True):
            one.load_state_dict(part)
        self.__init__(self.optimizers)  # loading makes new groups
