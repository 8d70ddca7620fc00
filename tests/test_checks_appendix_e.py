"""Every check of appendix E's exercises: accepts right answers, refuses the usual wrong ones."""

import copy
import functools
import math
import re

import notebooks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.checks import appendix_e as check
from shared.gpt_model import GPT_CONFIG_124M, GPTModel
from shared.guards import evaluation_mode
from shared.lora import (
    ATTENTION,
    FEED_FORWARD,
    LinearWithLoRA,
    LoRALayer,
    dequantize,
    lora_layers,
    merge_lora,
    quantize,
    replace_linear_with_lora,
)

answers = functools.partial(notebooks.answers, "appendix_e_lora")


# E.1: LoRA for Conv1D


class Conv(nn.Module):
    """The solution, with room for mistakes."""

    freeze = True

    def __init__(self, conv, rank, alpha):
        super().__init__()
        self.conv, self.rank, self.alpha = conv, rank, alpha
        if self.freeze:
            for p in conv.parameters():
                p.requires_grad = False
        n, m = conv.weight.shape
        self.A, self.B = nn.Parameter(self.first_a(n, rank)), nn.Parameter(self.first_b(rank, m))

    def first_a(self, n, rank):
        return (2 * torch.rand(n, rank) - 1) / math.sqrt(n)

    def first_b(self, rank, m):
        return torch.zeros(rank, m)

    def scale(self):
        return self.alpha / self.rank

    def forward(self, x):
        return self.conv(x) + self.scale() * (x @ self.A @ self.B)


class ByKaiming(Conv):
    def first_a(self, n, rank):
        return nn.init.kaiming_uniform_(torch.empty(rank, n), a=math.sqrt(5)).T.contiguous()


class InTheMatrix(Conv):
    """The change is added to the weight, at every call."""

    def forward(self, x):
        return x @ (self.conv.weight + self.scale() * self.A @ self.B) + self.conv.bias


class Pair(nn.Module):
    def __init__(self, n, m, rank):
        super().__init__()
        self.A = nn.Parameter(torch.empty(n, rank).uniform_(-1 / n**0.5, 1 / n**0.5))
        self.B = nn.Parameter(torch.zeros(rank, m))

    def forward(self, x):
        return x @ self.A @ self.B


class InAPart(nn.Module):
    """A and B in a module of their own."""

    def __init__(self, conv, rank, alpha):
        super().__init__()
        self.conv, self.lora = conv, Pair(*conv.weight.shape, rank)
        self.conv.requires_grad_(False)
        self.by = alpha / rank

    def forward(self, x):
        return self.conv(x) + self.by * self.lora(x)


def conv(**changes):
    return type("Wrong", (Conv,), changes)


def by(scale):
    return conv(scale=lambda self: scale(self.alpha, self.rank))


class Borrowed(nn.Module):
    def __init__(self, conv, rank, alpha):
        super().__init__()
        self.conv = conv.requires_grad_(False)
        self.lora = LoRALayer(*conv.weight.shape, rank, alpha)

    def forward(self, x):
        return self.conv(x) + self.lora(x)


class CutOff(Conv):
    def forward(self, x):
        with torch.no_grad():
            out = self.conv(x)
        return out + self.scale() * (x @ self.A @ self.B)


class WithoutBias(Conv):
    def forward(self, x):
        return x @ self.conv.weight + self.scale() * (x @ self.A @ self.B)


class ACopy(Conv):
    def __init__(self, conv, rank, alpha):
        super().__init__(copy.deepcopy(conv), rank, alpha)


class Merging(Conv):
    """The change ends up in the base at the first call."""

    def forward(self, x):
        self.conv.weight.data += 0.1 * (self.A @ self.B).detach()
        return x @ self.conv.weight + self.conv.bias + self.scale() * (x @ self.A @ self.B)


class Transposed(Conv):
    def __init__(self, conv, rank, alpha):
        super().__init__(conv, rank, alpha)
        m, n = conv.weight.shape
        self.A, self.B = nn.Parameter(self.first_a(n, rank)), nn.Parameter(torch.zeros(rank, m))


class OnlyB(Conv):
    def forward(self, x):
        return self.conv(x) + self.scale() * (x @ self.A.detach() @ self.B)


def seeded(self, n, rank):
    torch.manual_seed(0)
    return Conv.first_a(self, n, rank)


def a_first_layer(conv, rank, alpha):
    return functools.partial(F.linear, weight=conv.weight.T)


# E.2: what learns


def learning(model):
    return [p for p in model.parameters() if p.requires_grad]


def in_groups(model, rank, alpha, lr, new=()):
    for p in model.parameters():
        p.requires_grad = False
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    groups = [{"params": [p for layer in lora_layers(model).values() for p in layer.lora.parameters()]}]  # fmt: skip
    for name in new:
        part = model.get_submodule(name).requires_grad_()
        groups.append({"params": list(part.parameters()), "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=lr)


def by_hand(model, rank, alpha, lr, new=()):
    """Without replace_linear_with_lora, block by block."""
    model.requires_grad_(False)
    for block in model.trf_blocks:
        for name in ("W_query", "W_key", "W_value", "out_proj"):
            setattr(block.att, name, LinearWithLoRA(getattr(block.att, name), rank, alpha))
    for name, p in model.named_parameters():
        if any(name.startswith(f"{one}.") for one in new):
            p.requires_grad = True
    return torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr)


def too_early(model, rank, alpha, lr, new=()):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    in_groups(model, rank, alpha, lr, new)
    return optimizer


def only_blocks_frozen(model, rank, alpha, lr, new=()):
    model.trf_blocks.requires_grad_(False)
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    return torch.optim.AdamW(learning(model), lr=lr)


def nothing_frozen(model, rank, alpha, lr, new=()):
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    params = [p for layer in lora_layers(model).values() for p in layer.lora.parameters()]
    params += [p for name in new for p in model.get_submodule(name).parameters()]
    return torch.optim.AdamW(params, lr=lr)


def frozen_last(model, rank, alpha, lr, new=()):
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    model.requires_grad_(False)
    for name in new:
        model.get_submodule(name).requires_grad_(True)
    return torch.optim.AdamW(learning(model) or model.parameters(), lr=lr)


def all_handed_over(model, rank, alpha, lr, new=()):
    in_groups(model, rank, alpha, lr, new)
    return torch.optim.AdamW(model.parameters(), lr=lr)


def head_forgotten(model, rank, alpha, lr, new=()):
    return in_groups(model, rank, alpha, lr)


def head_frozen_again(model, rank, alpha, lr, new=()):
    for name in new:
        model.get_submodule(name).requires_grad_(True)
    model.requires_grad_(False)
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    return torch.optim.AdamW(learning(model), lr=lr)


def everywhere(model, rank, alpha, lr, new=()):
    model.requires_grad_(False)
    replace_linear_with_lora(model, rank, alpha)
    return torch.optim.AdamW(learning(model), lr=lr)


def head_too(model, rank, alpha, lr, new=()):
    model.requires_grad_(False)
    tied = model.out_head.weight is model.tok_emb.weight
    layers = ATTENTION if tied else (*ATTENTION, "out_head")
    replace_linear_with_lora(model, rank, alpha, layers=layers)
    return torch.optim.AdamW(learning(model), lr=lr)


def untied(model, rank, alpha, lr, new=()):
    """The head gets a matrix of its own."""
    optimizer = in_groups(model, rank, alpha, lr, new)
    if not new:
        model.out_head.weight = nn.Parameter(model.out_head.weight.detach().clone(), False)
    return optimizer


def always_a_thousandth(model, rank, alpha, lr, new=()):
    return in_groups(model, rank, alpha, 1e-3, new)


def alpha_is_rank(model, rank, alpha, lr, new=()):
    return in_groups(model, rank, rank, lr, new)


def head_always_learns(model, rank, alpha, lr, new=()):
    model.requires_grad_(False)
    model.out_head.requires_grad_(True)
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    return torch.optim.AdamW(learning(model), lr=lr)


def the_model(model, rank, alpha, lr, new=()):
    in_groups(model, rank, alpha, lr, new)
    return model


# E.3: how many numbers learn


def counted(cfg, rank, layers):
    """By building the model, without numbers in it."""
    with torch.device("meta"):
        model = GPTModel(cfg).requires_grad_(False)
        replace_linear_with_lora(model, rank, 1, layers=layers)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def by_a_table(cfg, rank, layers):
    C, n = cfg["emb_dim"], cfg["n_layers"]
    per_rank = {name: 2 * C * n for name in ATTENTION}
    per_rank |= {name: 5 * C * n for name in FEED_FORWARD}
    per_rank["out_head"] = C + cfg["vocab_size"]
    return torch.tensor([rank * per_rank[name] for name in layers]).sum()


def counting(each, heads=False, blocks=True, wide=4):
    def answer(cfg, rank, layers):
        C, total = cfg["emb_dim"], 0
        for name in layers:
            i = wide * C if name == "ff.layers.2" else C
            o = {"ff.layers.0": wide * C, "out_head": cfg["vocab_size"]}.get(name, C)
            times = cfg["n_layers"] if blocks and (heads or name != "out_head") else 1
            total += times * each(i, o, rank)
        return total

    return answer


def in_millions(cfg, rank, layers):
    return counted(cfg, rank, layers) / 1e6


def in_words(cfg, rank, layers):
    return f"{counted(cfg, rank, layers):,}"


# E.4: one layer again


def by_the_identity(layer):
    """Without a look inside."""
    n = layer.linear.in_features
    with evaluation_mode(layer), torch.no_grad():
        one = torch.eye(n).to(layer.lora.A)
        bias = layer(torch.zeros_like(one[:1]))[0]
        weight = (layer(one) - bias).T.contiguous()
    plain = nn.Linear(n, len(weight), bias=layer.linear.bias is not None).to(weight)
    plain.load_state_dict({"weight": weight} | ({"bias": bias} if plain.bias is not None else {}))
    return plain


def by_parameters(layer):
    base, lora = layer.linear, layer.lora
    plain = nn.Linear(1, 1, bias=False)
    plain.in_features, plain.out_features = base.in_features, base.out_features
    plain.weight = nn.Parameter((base.weight + lora.scale * (lora.A @ lora.B).T).detach())
    plain.bias = None if base.bias is None else nn.Parameter(base.bias.detach().clone())
    return plain


def merging(change=lambda lora: lora.change(), base=1, keep_bias=True):
    """The solution, with another change."""

    def answer(layer):
        plain = by_parameters(layer)
        plain.weight.data = (base * layer.linear.weight + change(layer.lora)).detach()
        if not keep_bias and plain.bias is not None:
            plain.bias = None
        return plain

    return answer


def square_transposed(lora):
    change = lora.change()
    return change.T if change.shape[0] == change.shape[1] else change


def by_the_identity_in_training(layer):
    with torch.no_grad():
        one = torch.eye(layer.linear.in_features).to(layer.lora.A)
        plain = by_parameters(layer)
        zero = layer(torch.zeros_like(one[:1]))
        plain.weight.copy_((layer(one) - zero).T)
    return plain


def left_in_evaluation(layer):
    layer.eval()
    return by_the_identity(layer)


def in_place(layer):
    with torch.no_grad():
        layer.linear.weight += layer.lora.change()
    return layer.linear


def by_a_copy(layer):
    """By the lesson's merge_lora."""
    model = nn.Sequential(copy.deepcopy(layer))
    merge_lora(model)
    return model[0]


def sharing_the_bias(layer):
    plain = by_parameters(layer)
    plain.bias = layer.linear.bias
    return plain


def bias_of_zeros(layer):
    plain = by_parameters(layer)
    if plain.bias is not None:
        plain.bias.data.zero_()
    return plain


def bias_always(layer):
    plain = by_parameters(layer)
    if plain.bias is None:
        plain.bias = nn.Parameter(torch.zeros(plain.out_features))
    return plain


def in_float32(layer):
    return by_parameters(layer).float()


def two_layers(layer):
    return nn.Sequential(by_parameters(layer))


# E.5: is the change of low rank?


def control_of(change):
    return change.flatten()[torch.randperm(change.numel())].reshape(change.shape)


def by_approximations(before, after, share):
    """Rank by rank, with the approximation itself."""

    def rank(change):
        U, S, Vh = torch.linalg.svd(change, full_matrices=False)
        total = change.square().sum()
        for k in range(len(S) + 1):
            if ((U[:, :k] * S[:k]) @ Vh[:k]).square().sum() >= share * total:
                return k

    return [rank(after - before), rank(control_of(after - before))]


def by_eigenvalues(before, after, share):
    def rank(change):
        held = torch.linalg.eigvalsh(change.double() @ change.double().T).flip(0).clamp(min=0)
        sums = held.cumsum(0)
        return torch.searchsorted(sums, share * sums[-1]).add(1).item() if change.any() else 0

    change = after - before
    return torch.tensor([rank(change), rank(control_of(change))])


def ranking(power=2, add=1, of=lambda before, after: after - before, control=control_of):
    def answer(before, after, share):
        def rank(change):
            held = (torch.linalg.svdvals(change) ** power).cumsum(0)
            return int((held < share * held[-1]).sum()) + add if change.any() else 0

        change = of(before, after)
        return rank(change), rank(control(change))

    return answer


def nothing_needs_one(before, after, share):
    held = torch.linalg.svdvals(after - before).square().cumsum(0)
    other = torch.linalg.svdvals(control_of(after - before)).square().cumsum(0)
    return tuple(int((sums < share * sums[-1]).sum()) + 1 for sums in (held, other))


def divided_by_nothing(before, after, share):
    def rank(change):
        held = torch.linalg.svdvals(change).square()
        return next(k for k in range(1, len(held) + 1) if held[:k].sum() / held.sum() >= share)

    return rank(after - before), rank(control_of(after - before))


def rounding(before, after, share):
    def rank(change):
        held, total, k = torch.linalg.svdvals(change).square(), 0.0, 0
        whole = held.sum().item()
        while whole and round(total / whole, 2) < share:
            total, k = total + held[k].item(), k + 1
        return k

    return rank(after - before), rank(control_of(after - before))


def with_a_threshold(before, after, share):
    def rank(change):
        S = torch.linalg.svdvals(change)
        return int((S > (1 - share) * S[0]).sum()) if change.any() else 0

    return rank(after - before), rank(control_of(after - before))


def the_rank_alone(before, after, share):
    return ranking()(before, after, share)[0]


def noise(change):
    return torch.randn_like(change) * change.std()


def other_rows(change):
    return change[torch.randperm(len(change))]


def shuffled_in_place(before, after, share):
    ranks = ranking()(before, after, share)
    after.copy_(before + control_of(after - before))
    return ranks


# E.6: four bits


def by_the_lessons_quantize(weight, block=None):
    table = torch.arange(-7, 8).to(weight) / 7
    codes = quantize(weight, table, block or weight.numel())
    return dequantize(*codes, table, weight.shape)


def block_by_block(weight, block=None):
    flat = weight.flatten()
    parts = []
    for part in flat.split(block or len(flat)):
        largest = max(abs(x) for x in part.tolist())
        parts += [round(7 * x / largest) * largest / 7 if largest else 0.0 for x in part.tolist()]
    return torch.tensor(parts, dtype=weight.dtype).reshape(weight.shape)


def int4(size=lambda b: b.abs().amax(1, keepdim=True), top=7, to=torch.round, of=None, least=1e-30):
    def answer(weight, block=None):
        blocks = weight.reshape(-1, (of or (lambda w, b: b))(weight, block) or weight.numel())
        step = (size(blocks) / top).clamp(min=least)
        return (to(blocks / step).clamp(-8, 7) * step).reshape(weight.shape)

    return answer


def by_columns(weight, block=None):
    return int4()(weight.T.contiguous(), block).T


def from_least_to_most(weight, block=None):
    blocks = weight.reshape(-1, block or weight.numel())
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    step = ((high - low) / 15).clamp(min=1e-30)
    return (((blocks - low) / step).round() * step + low).reshape(weight.shape)


def levels_only(weight, block=None):
    blocks = weight.reshape(-1, block or weight.numel())
    step = (blocks.abs().amax(1, keepdim=True) / 7).clamp(min=1e-30)
    return (blocks / step).round().reshape(weight.shape)


def levels_as_int8(weight, block=None):
    return levels_only(weight, block).to(torch.int8)


def nan_for_zeros(weight, block=None):
    blocks = weight.reshape(-1, block or weight.numel())
    step = blocks.abs().amax(1, keepdim=True) / 7
    return ((blocks / step).round() * step).reshape(weight.shape)


def still_in_blocks(weight, block=None):
    return int4()(weight, block).reshape(-1, block or weight.numel())


def into_the_weight(weight, block=None):
    return weight.copy_(int4()(weight, block))


def in_single(weight, block=None):
    return int4()(weight, block).float()


RIGHT = {
    "Conv1DWithLoRA": [Conv, ByKaiming, InTheMatrix, InAPart],
    "lora_optimizer": [in_groups, by_hand],
    "learning_numbers": [counted, by_a_table, counting(lambda i, o, r: r * i + r * o)],
    "merged": [by_the_identity, by_parameters, by_a_copy, merging()],
    "ranks_needed": [by_approximations, by_eigenvalues, ranking()],
    "int4": [by_the_lessons_quantize, block_by_block, int4()],
}
WRONG = {
    "Conv1DWithLoRA": [
        (by(lambda alpha, rank: alpha), "multiplied by alpha; it should be alpha / rank"),
        (by(lambda alpha, rank: alpha / rank**0.5), r"multiplied by alpha / sqrt\(rank\)"),
        (by(lambda alpha, rank: alpha * rank), r"multiplied by alpha \* rank"),
        (by(lambda alpha, rank: rank / alpha), "multiplied by rank / alpha"),
        (by(lambda alpha, rank: 1), "multiplied by 1;"),
        (conv(first_a=lambda self, n, rank: torch.zeros(n, rank)), "both zero"),
        (conv(first_b=lambda self, rank, m: torch.randn(rank, m)), "both drawn"),
        (
            conv(
                first_a=lambda self, n, rank: torch.zeros(n, rank),
                first_b=lambda self, rank, m: torch.randn(rank, m),
            ),
            "the other way around",
        ),
        (
            conv(first_a=lambda self, n, rank: Conv.first_a(self, n, rank) * (n / rank) ** 0.5),
            r"that is 1 / sqrt\(rank\)",
        ),
        (conv(first_a=lambda self, n, rank: torch.randn(n, rank) / n**0.5), "it should reach"),
        (conv(first_a=lambda self, n, rank: torch.rand(n, rank) / n**0.5), "not spread evenly"),
        (conv(first_a=lambda self, n, rank: torch.full((n, rank), n**-0.5)), "a rank of 1"),
        (conv(first_a=seeded), "must not set a seed"),
        (conv(freeze=False), "freeze the layer given"),
        (CutOff, "the gradient of x"),
        (WithoutBias, "the bias is lost"),
        (ACopy, "no part of yours"),
        (Merging, "own weight has changed"),
        (Transposed, "A is"),
        (OnlyB, "no gradient reaches A"),
        (Borrowed, "the lesson's LoRALayer"),
        (a_first_layer, "a module is asked for"),
    ],
    "lora_optimizer": [
        (too_early, r"does not have .*\.lora\.A"),
        (only_blocks_frozen, "tok_emb.weight is not frozen"),
        (nothing_frozen, "is not frozen"),
        (frozen_last, r"lora\.A is frozen, and should learn"),
        (all_handed_over, "which does not learn"),
        (head_forgotten, "new head: out_head.weight is frozen, and should learn"),
        (head_frozen_again, "new head: out_head.weight is frozen, and should learn"),
        (everywhere, "only attention should"),
        (head_too, "out_head has LoRA beside it, and only attention"),
        (untied, "a tied head: .* is not tied any more"),
        (always_a_thousandth, "a learning rate is 0.001"),
        (alpha_is_rank, r"\(3, 3, 'alpha/rank'\), not \(3, 6, 'alpha/rank'\)"),
        (head_always_learns, "out_head.weight is not frozen"),
        (the_model, "an optimizer is asked for"),
    ],
    "learning_numbers": [
        (counting(lambda i, o, r: r * i), "A alone, without B"),
        (counting(lambda i, o, r: r * o), "B alone"),
        (counting(lambda i, o, r: i * o), "the layers' own numbers"),
        (counting(lambda i, o, r: i + o), "for rank 1"),
        (counting(lambda i, o, r: r * (i + o) + r * r), "rank . rank too many"),
        (counting(lambda i, o, r: r * (i + o) + o), "biases are counted"),
        (counting(lambda i, o, r: r * (i + o), blocks=False), "that is one block"),
        (counting(lambda i, o, r: r * (i + o), wide=1), "four times as wide"),
        (counting(lambda i, o, r: r * (i + o), heads=True), "a head in each block"),
        (in_millions, "another number than 0.00"),
        (in_words, "a number is asked for"),
    ],
    "merged": [
        (merging(lambda lora: (lora.A @ lora.B).T), "the scale is missing"),
        (merging(lambda lora: lora.alpha * (lora.A @ lora.B).T), "by alpha, not by alpha / rank"),
        (merging(lambda lora: lora.alpha / lora.rank * (lora.A @ lora.B).T), "scaled by alpha: it"),
        (merging(lambda lora: lora.scale * lora.change()), "scaled twice"),
        (merging(lambda lora: -lora.change()), "taken away"),
        (merging(lambda lora: 0 * lora.change()), "the change is not in it"),
        (merging(base=0), "the change alone"),
        (merging(square_transposed), "the change is transposed"),
        (merging(lambda lora: lora.change().T), "raised RuntimeError"),
        (merging(keep_bias=False), "the bias is lost"),
        (by_the_identity_in_training, "dropout is in them"),
        (left_in_evaluation, "changed what it was given, the mode"),
        (in_place, "changed what it was given"),
        (sharing_the_bias, "the given layer's own"),
        (bias_of_zeros, "the bias is not the layer's"),
        (bias_always, "the bias is new"),
        (in_float32, "float32 comes back"),
        (two_layers, "not Sequential"),
    ],
    "ranks_needed": [
        (ranking(power=1), "not their squares"),
        (ranking(power=4), "squares of their squares"),
        (ranking(add=0), "one too few"),
        (ranking(add=2), "one too many"),
        (ranking(of=lambda before, after: after), "the new weight, not its change"),
        (ranking(of=lambda before, after: before), "the old weight, not its change"),
        (ranking(control=lambda change: change), "the change's own rank"),
        (ranking(control=other_rows), "rows or columns"),
        (ranking(control=noise), "mostly positive.*each in a random place"),
        (nothing_needs_one, "nothing has changed"),
        (divided_by_nothing, "raised StopIteration|nothing has changed"),
        (rounding, "the change needs"),
        (with_a_threshold, "the change needs"),
        (the_rank_alone, "two ranks are asked for"),
        (shuffled_in_place, "changed what it was given"),
    ],
    "int4": [
        (int4(of=lambda w, b: None), "one scale for the whole tensor"),
        (int4(of=lambda w, b: w.shape[1]), "one scale for each row"),
        (by_columns, "run down the columns"),
        (int4(size=lambda b: b.amax(1, keepdim=True)), "the largest number"),
        (int4(top=8), "divided by 8"),
        (int4(to=torch.trunc), "cut off, not rounded"),
        (int4(to=torch.floor), "rounded down"),
        (from_least_to_most, "from the smallest to the largest"),
        (levels_only, "multiply by the scale"),
        (levels_as_int8, "the levels' numbers, and not yet the weights"),
        (nan_for_zeros, "a block of zeros: nan"),
        (still_in_blocks, "the result is"),
        (into_the_weight, "changed what it was given"),
        (in_single, "float32 comes back"),
        (int4(least=1e-4), "very different sizes"),
    ],
}
PAIRS = [(name, answer) for name, right in RIGHT.items() for answer in right]
REFUSED = [(name, *wrong) for name, wrongs in WRONG.items() for wrong in wrongs]


@pytest.mark.parametrize("name, answer", PAIRS)
def test_another_right_answer_is_accepted(name, answer):
    notebooks.accepted(check, name, answer)


@pytest.mark.parametrize("name, answer, says", REFUSED)
def test_a_wrong_answer_is_refused_with_its_reason(name, answer, says):
    notebooks.refused(check, name, answer, says)


def test_the_broken_function_is_refused_for_all_of_its_bugs_in_turn():
    broken = answers("exercises.ipynb")["broken_lora_optimizer"]
    assert "only attention should" in check.lora_optimizer(broken).text


def test_how_many_learn_is_not_given_away():
    wrong = [answer for answer, _ in WRONG["learning_numbers"]]
    number = counted(GPT_CONFIG_124M, 8, ATTENTION)
    for answer in wrong:
        text = check.learning_numbers(answer, 1).text
        assert f"{number:,}" not in text and str(number) not in text
    assert f"it is {number:,}" in check.learning_numbers(counted, 1).text


def test_the_controls_of_the_courses_models_say_what_the_solution_says():
    text = check.ranks_needed(ranking()).text
    found = [int(n) for n in re.findall(r"needs (\d+)", text)]
    controls = [int(n) for n in re.findall(r"control (\d+)", text)]
    assert found[0] < 0.5 * controls[0] and found[1] > 0.9 * controls[1], text


# --- further answers, written before it was known what the checks say of them ---


class ByEinsum(nn.Module):
    def __init__(self, conv, rank, alpha):
        super().__init__()
        self.conv = conv
        for p in self.conv.parameters():
            p.requires_grad_(False)
        n, m = conv.weight.shape
        self.register_buffer("scale", torch.tensor(alpha / rank))
        self.A = nn.Parameter(torch.empty(n, rank))
        nn.init.kaiming_uniform_(self.A.T, a=5**0.5)
        self.B = nn.Parameter(torch.zeros(rank, m))

    def forward(self, x):
        return self.conv(x) + torch.einsum("...i,ir,ro->...o", x, self.A, self.B) * self.scale


class ScaledInput(Conv):
    def forward(self, x):
        flat = x.reshape(-1, x.shape[-1])
        out = torch.addmm(self.conv(flat), flat * self.alpha, (self.A @ self.B) / self.rank)
        return out.view(*x.shape[:-1], -1)


class NormalA(Conv):
    """As wide a spread as asked for, from another distribution."""

    def first_a(self, n, rank):
        return torch.randn(n, rank) / (3 * n) ** 0.5


class WholeScale(Conv):
    def scale(self):
        return self.alpha // self.rank


class BiasLearns(Conv):
    freeze = False

    def __init__(self, conv, rank, alpha):
        super().__init__(conv, rank, alpha)
        conv.weight.requires_grad = False


class Dropping(Conv):
    def forward(self, x):
        return self.conv(x) + self.scale() * (F.dropout(x, 0.1, self.training) @ self.A @ self.B)


def frozen_by_name(model, rank, alpha, lr, new=()):
    replace_linear_with_lora(model, rank, alpha, layers=list(ATTENTION))
    for name, p in model.named_parameters():
        whole = any(name.startswith(f"{one}.") for one in new)
        p.requires_grad_(whole or ".lora." in name)
    learn = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return torch.optim.AdamW([p for _, p in learn], lr=lr, weight_decay=0.0)


def added_later(model, rank, alpha, lr, new=()):
    """The optimizer first, with the new modules, then LoRA as groups of its own."""
    model.requires_grad_(False)
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    layers = list(lora_layers(model).values())
    optimizer = torch.optim.AdamW(layers[0].lora.parameters(), lr=lr)
    for layer in layers[1:]:
        optimizer.add_param_group({"params": list(layer.lora.parameters())})
    for name in new:
        part = model.get_submodule(name).requires_grad_(True)
        optimizer.add_param_group({"params": list(part.parameters())})
    return optimizer


def biases_left(model, rank, alpha, lr, new=()):
    for name, p in model.named_parameters():
        p.requires_grad_(name.endswith("bias") or any(name.startswith(one) for one in new))
    replace_linear_with_lora(model, rank, alpha, layers=ATTENTION)
    return torch.optim.AdamW(learning(model), lr=lr)


def bases_handed_over(model, rank, alpha, lr, new=()):
    in_groups(model, rank, alpha, lr, new)
    params = [p for layer in lora_layers(model).values() for p in layer.parameters()]
    params += [p for name in new for p in model.get_submodule(name).parameters()]
    return torch.optim.AdamW(params, lr=lr)


def query_and_value(model, rank, alpha, lr, new=()):
    model.requires_grad_(False)
    for name in new:
        model.get_submodule(name).requires_grad_(True)
    replace_linear_with_lora(model, rank, alpha, layers=("W_query", "W_value"))
    return torch.optim.AdamW(learning(model), lr=lr)


def by_numpy_sum(cfg, rank, layers):
    C, V, n = cfg["emb_dim"], cfg["vocab_size"], cfg["n_layers"]
    rows = [(1, C + V) if x == "out_head" else (n, 5 * C if x.startswith("ff") else 2 * C) for x in layers]  # fmt: skip
    return np.array(rows).prod(axis=1).sum() * rank


def built_and_trained(cfg, rank, layers):
    model = GPTModel({**cfg, "context_length": 4})
    before = {id(p) for p in model.parameters()}
    replace_linear_with_lora(model, rank, 7, layers=layers)
    return sum(p.numel() for p in model.parameters() if id(p) not in before)


def with_biases_of_queries(cfg, rank, layers):
    more = 3 * cfg["emb_dim"] * cfg["n_layers"] * cfg["qkv_bias"] * ("W_query" in layers)
    return counted(cfg, rank, layers) + more


def heads_vocabulary_only(cfg, rank, layers):
    return counted(cfg, rank, layers) - rank * cfg["emb_dim"] * ("out_head" in layers)


def column_by_column(layer):
    was = layer.training
    layer.eval()
    try:
        with torch.no_grad():
            like = layer.lora.A
            zero = layer(like.new_zeros(layer.linear.in_features))
            rows = [layer(one) - zero for one in torch.eye(layer.linear.in_features).to(like)]
    finally:
        layer.train(was)
    weight = torch.stack(rows, dim=1)
    has = layer.linear.bias is not None
    plain = nn.Linear(*weight.T.shape, bias=has, dtype=weight.dtype)
    plain.weight.data = weight
    if has:
        plain.bias.data = zero.clone()
    return plain


def by_merge_lora(layer):
    layer = copy.deepcopy(layer)
    full = nn.Linear(layer.linear.in_features, layer.linear.out_features, layer.linear.bias is not None).to(layer.lora.A)  # fmt: skip
    full.weight.data.copy_(layer.linear.weight)
    if full.bias is not None:
        full.bias.data.copy_(layer.linear.bias)
    layer.linear = full
    box = nn.ModuleDict({"one": layer})
    merge_lora(box)
    return box["one"]


def ends_in_training(layer):
    layer.eval()
    plain = by_the_identity(layer)
    layer.train()
    return plain


def in_half(layer):
    plain = by_parameters(layer)
    plain.weight.data = plain.weight.data.half().to(plain.weight.dtype)
    return plain


def from_the_tail(before, after, share):
    def rank(change):
        S = torch.linalg.svdvals(change.double()) ** 2
        lost = torch.cat([S.flip(0).cumsum(0).flip(0), torch.zeros(1)])  # if k are kept
        return int((lost > (1 - share) * lost[0]).sum())

    change = after - before
    return rank(change), rank(control_of(change))


def by_numpy(before, after, share):
    change = (after - before).numpy().astype(float)
    draws = np.random.default_rng(5)
    found = []
    for one in (change, draws.permutation(change.ravel()).reshape(change.shape)):
        held = np.linalg.svd(one, compute_uv=False) ** 2
        found.append(int(np.argmax(held.cumsum() >= share * held.sum())) + 1 if one.any() else 0)
    return np.array(found)


def of_the_length(before, after, share):
    """The share of the length, not of its square."""

    def rank(change):
        held = torch.linalg.svdvals(change).square().cumsum(0).sqrt()
        return int((held < share * held[-1]).sum()) + 1 if change.any() else 0

    return rank(after - before), rank(control_of(after - before))


def sorted_numbers(before, after, share):
    return ranking(control=lambda c: c.flatten().sort().values.view(c.shape))(before, after, share)


def the_other_order(before, after, share):
    return ranking()(before, after, share)[::-1]


def halves_up(weight, block=None):
    return int4(to=lambda x: (x + 0.5).floor())(weight, block)


def nearest_of_fifteen(weight, block=None):
    blocks = weight.reshape(-1, block or weight.numel())
    levels = torch.arange(-7, 8).to(weight) * blocks.abs().amax(1, keepdim=True) / 7
    place = (blocks[..., None] - levels[:, None]).abs().argmin(-1)
    return levels.gather(1, place).reshape(weight.shape)


def sixteen_levels(weight, block=None):
    """-7.5 to 7.5, so that 0 is none of them."""
    blocks = weight.reshape(-1, block or weight.numel())
    step = (blocks.abs().amax(1, keepdim=True) / 7.5).clamp(min=1e-30)
    return (((blocks / step - 0.5).round() + 0.5) * step).reshape(weight.shape)


def by_the_spread(weight, block=None):
    return int4(size=lambda b: 3 * b.std(1, keepdim=True))(weight, block)


def scales_in_half(weight, block=None):
    return int4(size=lambda b: b.abs().amax(1, keepdim=True).half().to(b))(weight, block)


FURTHER_RIGHT = [
    ("Conv1DWithLoRA", ByEinsum),
    ("Conv1DWithLoRA", ScaledInput),
    ("lora_optimizer", frozen_by_name),
    ("lora_optimizer", added_later),
    ("learning_numbers", by_numpy_sum),
    ("learning_numbers", built_and_trained),
    ("merged", column_by_column),
    ("merged", by_merge_lora),
    ("ranks_needed", from_the_tail),
    ("ranks_needed", by_numpy),
    ("int4", halves_up),
    ("int4", nearest_of_fifteen),
]
FURTHER_WRONG = [
    ("Conv1DWithLoRA", NormalA),
    ("Conv1DWithLoRA", WholeScale),
    ("Conv1DWithLoRA", BiasLearns),
    ("Conv1DWithLoRA", Dropping),
    ("lora_optimizer", biases_left),
    ("lora_optimizer", bases_handed_over),
    ("lora_optimizer", query_and_value),
    ("learning_numbers", with_biases_of_queries),
    ("learning_numbers", heads_vocabulary_only),
    ("merged", ends_in_training),
    ("merged", in_half),
    ("ranks_needed", of_the_length),
    ("ranks_needed", sorted_numbers),
    ("ranks_needed", the_other_order),
    ("int4", sixteen_levels),
    ("int4", by_the_spread),
    ("int4", scales_in_half),
]


@pytest.mark.parametrize("name, answer", FURTHER_RIGHT)
def test_a_further_right_answer_is_accepted(name, answer):
    test_another_right_answer_is_accepted(name, answer)


@pytest.mark.parametrize("name, answer", FURTHER_WRONG)
def test_a_further_wrong_answer_is_refused(name, answer):
    test_a_wrong_answer_is_refused_with_its_reason(name, answer, "")
