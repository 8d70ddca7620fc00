"""Appendix E: lora. Promoted from appendix_e_lora/appendix_e.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import copy
import json
import math
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from shared import adapters
from shared.checkpoints import fingerprint

__all__ = ["lora_scale", "LoRALayer", "LinearWithLoRA", "ATTENTION", "FEED_FORWARD",
    "replace_linear_with_lora", "lora_layers", "merge_lora", "unmerge_lora", "base_of",
    "save_adapter", "load_adapter", "adapter_off", "normal_float", "quantize",
    "dequantize", "NF4Linear", "quantize_linear"]  # fmt: skip


# appendix_e.ipynb: lora-scale
def lora_scale(scaling, alpha, rank):
    """The number that a change is multiplied by (alpha/rank: Hu and others, 2021; alpha/sqrt(rank): Kalajdzievski, 2023)."""
    scales = {"alpha": alpha, "alpha/rank": alpha / rank, "alpha/sqrt(rank)": alpha / rank**0.5}
    return scales[scaling]


class LoRALayer(nn.Module):
    """A change of low rank, `(..., in_dim) -> (..., out_dim)`, which is nothing at first (Hu and others, 2021).

    `init` is "peft" or "book", `scaling` as in lora_scale. ValueError for others, and for a rank that does not fit.
    """

    def __init__(self, in_dim, out_dim, rank, alpha, *, scaling="alpha/rank", init="peft", dropout=0.0):  # fmt: skip
        super().__init__()
        adapters.check_recipe(rank, alpha, scaling, init)
        self.rank, self.alpha, self.scaling = rank, alpha, scaling
        self.scale = lora_scale(scaling, alpha, rank)
        self.dropout = nn.Dropout(dropout)
        self.A = nn.Parameter(torch.empty(in_dim, rank))
        self.B = nn.Parameter(torch.zeros(rank, out_dim))
        # kaiming_uniform_ takes the second size for the number of inputs: the book's A has `rank` there
        nn.init.kaiming_uniform_(self.A if init == "book" else self.A.T, a=math.sqrt(5))

    def forward(self, x):
        return self.scale * (self.dropout(x) @ self.A @ self.B)  # in_dim -> rank -> out_dim

    def change(self):
        """What a weight matrix would have to be changed by, `(out_dim, in_dim)`."""
        return self.scale * (self.A @ self.B).T


# appendix_e.ipynb: linear-with-lo-ra
class LinearWithLoRA(nn.Module):
    """A linear layer, and a LoRALayer beside it: `(..., in) -> (..., out)`. Freezing the first is up to you."""

    def __init__(self, linear, rank, alpha, **options):
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha, **options)
        self.lora.to(linear.weight)  # its device and precision

    def forward(self, x):
        return self.linear(x) + self.lora(x)


# appendix_e.ipynb: replace-linear-with-lora
ATTENTION = ("W_query", "W_key", "W_value", "out_proj")
FEED_FORWARD = ("ff.layers.0", "ff.layers.2")


def replace_linear_with_lora(model, rank, alpha, *, layers=None, **options):
    """Put a LoRALayer beside each linear layer whose name ends in one of `layers`; None: beside all, as in the book.

    ValueError if there is none, for one that is tied to an embedding, and where LoRA is in already.
    """
    for name, linear in adapters.linear_layers(model, layers).items():
        model.set_submodule(name, LinearWithLoRA(linear, rank, alpha, **options))


def lora_layers(model):
    """The model's layers with LoRA, by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LinearWithLoRA)}


# appendix_e.ipynb: merge-lora
@torch.no_grad()
def merge_lora(model):
    """Put in place of each layer with LoRA a linear one that has the change in its weights; the layers taken out, by name."""
    layers = lora_layers(model)
    for name, layer in layers.items():
        merged = nn.Linear(*layer.linear.weight.T.shape, device="meta").train(layer.training)
        merged.weight = nn.Parameter(layer.linear.weight + layer.lora.change(), requires_grad=False)
        merged.bias = copy.deepcopy(layer.linear.bias)
        model.set_submodule(name, merged)
    return layers


def unmerge_lora(model, layers):
    """Put the layers that merge_lora took out back in their places."""
    for name, layer in layers.items():
        layer.train(model.get_submodule(name).training)  # which may have changed meanwhile
        model.set_submodule(name, layer)


# appendix_e.ipynb: base-of
def base_of(model, learned):
    """A fingerprint of all weights but the learned ones, whether LoRA is in the model or not."""
    state = {n.replace(".linear.", "."): t for n, t in model.state_dict(keep_vars=True).items()}
    trained = {id(state[name]) for name in learned if name in state}  # a tied matrix has two names
    kept = {n: t for n, t in state.items() if id(t) not in trained and ".lora." not in n}
    return fingerprint(dict(sorted(kept.items())))


def save_adapter(path, model):
    """Write all that is trained (LoRA, a new head) and whose base it changes; nothing of the base (safetensors)."""
    learned = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    layers = {name: {"rank": layer.lora.rank, "alpha": layer.lora.alpha, "scaling": layer.lora.scaling,
                     "dropout": layer.lora.dropout.p} for name, layer in lora_layers(model).items()}  # fmt: skip
    about = {"base": base_of(model, learned), "layers": json.dumps(layers)}
    adapters.write(path, learned, about)


# appendix_e.ipynb: load-adapter
def load_adapter(path, model):
    """Put an adapter into its base, in place of any other; ValueError, and no change, if the base is another model."""
    learned, about = adapters.read(path)
    adapters.check_base(path, learned, model, about["base"], base_of(model, learned))
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.linear)
    for name, recipe in json.loads(about["layers"]).items():
        model.set_submodule(name, LinearWithLoRA(model.get_submodule(name), **recipe))
    model.load_state_dict(learned, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learned)  # as it was trained, so it can be trained on


# appendix_e.ipynb: adapter-off
@contextmanager
def adapter_off(model):
    """Within the block the layers are the base's own, so the outputs are, to the last bit."""
    layers = lora_layers(model)
    for name, layer in layers.items():
        model.set_submodule(name, layer.linear)
    try:
        yield model
    finally:
        unmerge_lora(model, layers)


# appendix_e.ipynb: normal-float
def normal_float(bits=4):
    """The 2^bits numbers from -1 to 1 between which a normal distribution is cut into shares of like size, 0 among them.

    For 4 bits the NF4 of Dettmers and others, 2023: `() -> (16,)`.
    """
    half, n = 2 ** (bits - 1), 2**bits
    outermost = 1 - (1 / (2 * n) + 1 / (2 * (n - 1))) / 2  # not 1, whose quantile is infinite
    above, below = (
        torch.special.ndtri(torch.linspace(outermost, 0.5, count + 1, dtype=torch.float64)[:-1])
        for count in (half, half - 1)
    )
    values = torch.cat([-below, torch.zeros(1, dtype=torch.float64), above.flip(0)])
    return (values / values.max()).float()


# appendix_e.ipynb: quantize
def quantize(weight, table, block=64):
    """Each number as the place of the nearest one in a sorted table, after its block is scaled to -1 ... 1.

    `(out, in) -> codes (N, block), scales (N, 1)`; ValueError if the blocks do not come out even.
    """
    adapters.check_blocks(weight, block)
    blocks = weight.detach().reshape(-1, block)
    scales = blocks.abs().amax(dim=1, keepdim=True)
    middles = (table[1:] + table[:-1]) / 2
    codes = torch.bucketize(blocks / scales.clamp(min=1e-12), middles)
    return codes.to(torch.uint8), scales


def dequantize(codes, scales, table, shape):
    """The numbers that the codes stand for, in the shape of the weight."""
    return (table[codes.long()] * scales).view(shape)


# appendix_e.ipynb: nf4-linear
class NF4Linear(nn.Module):
    """A linear layer that keeps its weights in 4 bits each, two to a byte: `(..., in) -> (..., out)`."""

    def __init__(self, linear, block=64):
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        codes, scales = quantize(linear.weight, table := normal_float(), block)
        self.register_buffer("packed", codes[:, ::2] * 16 + codes[:, 1::2])
        self.register_buffer("scales", scales)
        self.register_buffer("table", table)
        self.bias = linear.bias

    @property
    def weight(self):
        codes = torch.stack([self.packed // 16, self.packed % 16], dim=-1).flatten(1)
        return dequantize(codes, self.scales, self.table, (self.out_features, self.in_features))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias)


def quantize_linear(model, layers=ATTENTION + FEED_FORWARD, block=64):
    """Put an NF4Linear in place of each linear layer whose name ends in one of `layers`."""
    found = adapters.linear_layers(model, layers).items()
    made = {name: NF4Linear(linear, block) for name, linear in found}
    for name, layer in made.items():
        model.set_submodule(name, layer)
