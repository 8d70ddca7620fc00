"""The optimizers of the scripts of chapters 5 and 7 and appendix D: AdamW, and Muon for the matrices of the blocks."""

import functools

import torch

from shared.measure import fast_in_bf16
from shared.training import Muon, block_matrices, parameter_groups


def make_optimizers(model, run):
    """AdamW, with GPT-3's betas; or Muon for the blocks' matrices and AdamW for all else.

    Loshchilov and Hutter, 2019; Jordan et al., 2024, scaled as by Liu et al., 2025, so that one --lr suits both.
    """
    matrices, vectors = parameter_groups(model, run.weight_decay)
    adamw = functools.partial(torch.optim.AdamW, lr=run.lr, betas=(0.9, 0.95), fused=True)
    if run.optimizer == "adamw":
        return [adamw([matrices, vectors])]
    inner = block_matrices(model)
    inside = set(map(id, inner))
    outer = matrices | {"params": [p for p in matrices["params"] if id(p) not in inside]}
    # without units for bfloat16 a CPU is many times slower in it
    dtype = torch.bfloat16 if fast_in_bf16(inner[0].device) else torch.float32
    return [Muon(inner, run.lr, run.weight_decay, dtype=dtype), adamw([outer, vectors])]


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
