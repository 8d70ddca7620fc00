"""Checks for the exercises of appendix E: `from shared.checks import appendix_e as check`."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn

from shared.checks import brief, exercise, require
from shared.checks.adapted import require_lora
from shared.checks.returned import number, numbers
from shared.gpt_model import GPT_CONFIG_124M, GPTModel
from shared.lora import (
    ATTENTION,
    FEED_FORWARD,
    LinearWithLoRA,
    LoRALayer,
    NF4Linear,
)

# --- E.1: LoRA for GPT-2's own layer ---


class Conv1D(nn.Module):
    """GPT-2's linear layer as OpenAI and transformers keep it: its weight is (in, out)."""

    def __init__(self, in_dim, out_dim):
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.randn(in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x):
        return x @ self.weight + self.bias


SCALES = {
    "alpha": lambda alpha, rank: alpha,
    "alpha / sqrt(rank)": lambda alpha, rank: alpha / math.sqrt(rank),
    "alpha * rank": lambda alpha, rank: alpha * rank,
    "rank / alpha": lambda alpha, rank: rank / alpha,
    "1 / rank": lambda alpha, rank: 1 / rank,
    "1": lambda alpha, rank: 1,
}


@exercise(changes=(0,))
def Conv1DWithLoRA(answer):
    """`answer(conv, rank, alpha)`, a module that computes `conv(x) + alpha / rank * (x @ A @ B)`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for sizes, rank, alpha in [((12, 20), 4, 10), ((9, 9), 3, 1), ((6, 30), 1, 2)]:
            _require_conv_lora(answer, Conv1D(*sizes), rank, alpha)
        first, second = (_parts(answer(Conv1D(256, 48), 16, 16), 256, 48, 16)[0] for _ in range(2))
        _require_peft_start(first.detach(), 256, 16)
        seed = "two layers begin with the same A: the class must not set a seed"
        require(not first.equal(second), seed)
    return "the layer's own output at first, then alpha / rank of x A B beside it; A and B learn, and nothing else"


def _parts(layer, in_dim, out_dim, rank):
    """The layer's A and B, refused if they are not there or have other shapes."""
    require(isinstance(layer, nn.Module), f"a module is asked for, not {brief(layer)}")
    found = []
    for name, shape in (("A", (in_dim, rank)), ("B", (rank, out_dim))):
        named = [p for n, p in layer.named_parameters() if n.rpartition(".")[2] == name]
        require(len(named) == 1, f"there is no parameter {name}")
        got, about = tuple(named[0].shape), f"for a weight of {(in_dim, out_dim)} and rank {rank}"
        require(got == shape, f"{name} is {got} {about}; it should be {shape}")
        found += named
    return found


def _require_conv_lora(answer, conv, rank, alpha):
    in_dim, out_dim = conv.weight.shape
    with torch.no_grad():
        conv.bias.normal_()
    kept, x = copy.deepcopy(conv), torch.randn(2, 3, in_dim)
    layer = answer(conv, rank, alpha)
    A, B = _parts(layer, in_dim, out_dim, rank)
    borrowed = any(isinstance(part, LoRALayer) for part in layer.modules())
    require(not borrowed, "that is the lesson's LoRALayer: write A and B yourself")
    own = any(part is conv for part in layer.modules())
    require(own, "the layer that was given is no part of yours: keep it as `conv`, not as a copy")
    _require_start(A, B)
    seen = x.clone()
    out = layer(x)
    require(x.equal(seen), "forward changed the x that it was given: work on a copy")
    require(
        out.shape == (2, 3, out_dim),
        f"the output is {tuple(out.shape)}, not {(2, 3, out_dim)}",
    )
    gap = (out - kept(x)).abs().max().item()
    bias = torch.allclose(out, x @ kept.weight, atol=1e-6)
    lost = "the bias is lost" if bias else "is it conv(x) that A and B correct?"
    require(gap < 1e-6, f"before training the output differs by {gap:.2g}: {lost}")
    free = [name for name, p in layer.named_parameters() if p.requires_grad]
    others = [name for name in free if name.rpartition(".")[2] not in ("A", "B")]
    require(not others, f"{others} can learn; only A and B should: freeze the layer given")
    require(len(free) == 2, f"of A and B only {free} can learn")
    with torch.no_grad():
        A.copy_(torch.randn(in_dim, rank))
        B.copy_(torch.randn(rank, out_dim))
    first, second = layer(x), layer(x)
    for name, value in kept.named_parameters():
        require(conv.get_parameter(name).equal(value), f"the layer's own {name} has changed")
    require(first.equal(second), "two calls with one x differ: is there dropout? None is asked for")
    _require_scale(second - kept(x), x @ A @ B, alpha, rank)
    x.requires_grad_()
    right = kept(x) + alpha / rank * (x @ A @ B)
    due = torch.autograd.grad(right.square().sum(), [A, B, x])
    layer(x).square().sum().backward()
    for name, value, wanted in zip("ABx", (A, B, x), due):
        require(value.grad is not None and value.grad.any(), f"no gradient reaches {name}")
        lost = "a part of it is lost: a layer that is frozen passes gradients on to those below"
        close = torch.allclose(value.grad, wanted, rtol=1e-3, atol=1e-3)
        require(close, f"the gradient of {name}: {lost}")


def _require_start(A, B):
    """Refuse a first A and B that cannot learn, or that change something at once."""
    require(A.any() or B.any(), "A and B are both zero: neither will ever get a gradient")
    both = "A and B are both drawn: A @ B must begin with zeros, or the layer is another from the start"
    require(not (A.any() and B.any()), both)
    require(A.any(), "A begins with zeros and B is drawn; in peft it is the other way around")


def _require_peft_start(A, in_dim, rank):
    """Refuse an A that is not drawn uniformly within 1 / sqrt(in_dim)."""
    bound, largest, spread = in_dim**-0.5, A.abs().max().item(), A.std().item()
    got = torch.linalg.matrix_rank(A, rtol=1e-3).item()
    alike = f"A begins with a rank of {got}, not {rank}: what is alike gets like gradients, and stays alike"
    require(got == rank, alike)
    told = f"for {in_dim} inputs and rank {rank}, A reaches {largest:.3g}, and it should reach {bound:.3g}"
    books = 0.95 * rank**-0.5 < largest <= rank**-0.5
    fan = ": that is 1 / sqrt(rank), as if `rank` were the number of inputs" if books else ""
    require(largest <= bound * 1.001 and largest > 0.95 * bound, f"{told}{fan}")
    even = abs(spread * math.sqrt(3) / bound - 1) < 0.1 and abs(A.mean()) < 0.1 * bound
    require(even, "A's numbers are not spread evenly from -1 / sqrt(in) to 1 / sqrt(in)")


def _require_scale(got, unscaled, alpha, rank):
    """Refuse another correction than alpha / rank times the unscaled one."""
    for name, scale in SCALES.items():
        wrong = scale(alpha, rank)
        if math.isclose(wrong, alpha / rank):
            continue
        same = torch.allclose(got, wrong * unscaled, atol=1e-4, rtol=1e-4)
        require(not same, f"x A B is multiplied by {name}; it should be alpha / rank")
    right = torch.allclose(got, alpha / rank * unscaled, atol=1e-4, rtol=1e-4)
    require(right, "the output is not conv(x) + alpha / rank * x A B")


# --- E.2: find the bugs ---

SMALL = {"vocab_size": 19, "context_length": 8, "emb_dim": 12, "n_heads": 2, "n_layers": 2}
SMALL |= {"drop_rate": 0.0, "qkv_bias": True}


def _gpt(tied=False, classes=None, frozen=False):
    """A small GPT, as a classifier where `classes` is a number."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = GPTModel(SMALL | {"tie_weights": tied}).eval()
        if classes:
            model.out_head = nn.Linear(SMALL["emb_dim"], classes)
    return model.requires_grad_(not frozen)


HEAD = ("out_head",)
OPTIMIZER_RUNS = {
    "a GPT with a head of its own": (lambda: _gpt(), (), 3, 6, 0.01),
    "a GPT with a tied head": (lambda: _gpt(tied=True), (), 2, 5, 0.02),
    "a classifier with a new head": (lambda: _gpt(classes=3), HEAD, 4, 4, 0.01),
    "a classifier that came frozen": (lambda: _gpt(classes=2, frozen=True), HEAD, 1, 3, 0.03),
    "a new head and a new norm": (lambda: _gpt(classes=2), (*HEAD, "final_norm"), 2, 2, 0.01),
}


@exercise(changes=(0,))
def lora_optimizer(answer):
    """`answer(model, rank, alpha, lr, new=())` -> an optimizer of all that learns: LoRA, and the modules in `new`."""
    for about, (build, new, rank, alpha, lr) in OPTIMIZER_RUNS.items():
        model, ids = build(), torch.arange(10).view(2, 5)
        tied = model.out_head.weight is model.tok_emb.weight
        kept, before = copy.deepcopy(model.state_dict()), model(ids).detach()
        optimizer = answer(model, rank, alpha, lr, new=new)
        kind = isinstance(optimizer, torch.optim.Optimizer)
        require(kind, f"{about}: an optimizer is asked for, not {brief(optimizer)}")
        learn = require_lora(model, about, rank, alpha, new)
        still = model.out_head.weight is model.tok_emb.weight or not tied
        require(still, f"{about}: the head has a matrix of its own now, and is not tied any more")
        _require_frozen(model, about, learn)
        _require_handed_over(model, optimizer, about, learn)
        for rate in (group["lr"] for group in optimizer.param_groups):
            require(rate == lr, f"{about}: a learning rate is {rate:g}, not {lr:g}")
        same = model(ids).equal(before)
        require(same, f"{about}: before the first step the model already computes something else")
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(ids)[:, -1], torch.tensor([0, 1])).backward()
            optimizer.step()
        state = {name.replace(".linear.", "."): t for name, t in model.state_dict().items()}
        for name, tensor in kept.items():
            still = name in learn or state[name].equal(tensor)
            require(still, f"{about}: {name} changed in training; it belongs to the base")
    return (
        "A, B and a new head learn, and are all that the optimizer has; the base stays, tied or not"
    )


def _require_frozen(model, about, learn):
    for name, p in model.named_parameters():
        require(
            p.requires_grad or name not in learn, f"{about}: {name} is frozen, and should learn"
        )
        thawed = f"{about}: {name} is not frozen: of the base nothing should learn"
        require(not p.requires_grad or name in learn, thawed)


def _require_handed_over(model, optimizer, about, learn):
    names = {id(p): name for name, p in model.named_parameters()}
    has = [id(p) for group in optimizer.param_groups for p in group["params"]]
    missing = [name for one, name in names.items() if name in learn and one not in has]
    late = "it will never move. When was the optimizer made?"
    require(not missing, f"{about}: the optimizer does not have {missing and missing[0]}: {late}")
    stray = [names.get(one, "a tensor that is not the model's") for one in has if names.get(one) not in learn]  # fmt: skip
    need = f"{about}: the optimizer has {stray and stray[0]}, too, which does not learn"
    require(not stray, need)


# --- E.3: how many numbers learn ---


def _learning(cfg, rank, layers, block=True, **changes):
    """How many numbers learn; `changes` are mistakes."""
    C, V = cfg["emb_dim"], cfg["vocab_size"]
    wide = C if changes.get("square") else 4 * C
    sizes = {"ff.layers.0": (C, wide), "ff.layers.2": (wide, C), "out_head": (C, V)}
    total = 0
    for name in layers:
        one, other = sizes.get(name, (C, C))
        times = cfg["n_layers"] if block and (name != "out_head" or changes.get("heads")) else 1
        share = changes.get("each", lambda i, o, r: r * (i + o))(one, other, rank)
        total += times * share
    return total


WRONG_COUNTS = {
    "that is A alone, without B": {"each": lambda i, o, r: r * i},
    "that is B alone, without A": {"each": lambda i, o, r: r * o},
    "those are the layers' own numbers, which are frozen": {"each": lambda i, o, r: i * o},
    "that is for rank 1": {"each": lambda i, o, r: i + o},
    "that is rank * rank too many for each layer": {"each": lambda i, o, r: r * (i + o) + r * r},
    "the layers' biases are counted, which are frozen": {"each": lambda i, o, r: r * (i + o) + o},
    "that is one block": {"block": False},
    "feed-forward layers are four times as wide as they are long, or the other way around": {"square": True},
    "there is a head in each block then": {"heads": True},
}  # fmt: skip
QUERY_VALUE = ("W_query", "W_value")


@exercise(guess=lambda answer: int(answer(dict(GPT_CONFIG_124M), 8, ATTENTION)))
def learning_numbers(answer):
    """`answer(cfg, rank, layers) -> int`, how many numbers learn with LoRA in these layers.

    The number of the card is never said: it is to be predicted.
    """
    larger = SMALL | {"vocab_size": 31, "emb_dim": 20, "n_heads": 4, "n_layers": 3}
    runs = [(SMALL, 5, ATTENTION), (larger, 2, ATTENTION), (larger | {"qkv_bias": False}, 3, QUERY_VALUE)]  # fmt: skip
    runs += [(SMALL, 2, FEED_FORWARD), (larger, 4, ATTENTION + FEED_FORWARD), (SMALL, 4, HEAD)]
    runs += [(larger, 2, ATTENTION + HEAD), (SMALL | {"n_layers": 1}, 1, ("ff.layers.2",))]
    runs += [(SMALL | {"tie_weights": True}, 2, ("out_proj",))]
    found = [number(answer(dict(cfg), rank, layers)) for cfg, rank, layers in runs]
    near = [name for name, mistake in WRONG_COUNTS.items() if found == [_learning(*run, **mistake) for run in runs]]  # fmt: skip
    hint = f": {near[0]}" if near else ""
    for (cfg, rank, layers), got in zip(runs, found):
        about = f"{cfg['n_layers']} blocks, width {cfg['emb_dim']}, {cfg['vocab_size']} tokens, rank {rank} in {', '.join(layers)}"  # fmt: skip
        right = got == _learning(cfg, rank, layers)
        require(right, f"{about}: it is another number than {got:,}{hint}")
    return "rank * (in + out) for each layer, whether in attention, feed-forward or the head"


# --- E.4: merged ---


def _adapted(in_dim, out_dim, seed, rank=3, alpha=6, bias=True, nf4=False, training=True, **options):  # fmt: skip
    """A layer whose LoRA has learned something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        linear = nn.Linear(in_dim, out_dim, bias=bias).to(options.pop("dtype", torch.float32))
        linear = NF4Linear(linear, block=16) if nf4 else linear
        layer = LinearWithLoRA(linear.requires_grad_(False), rank, alpha, **options)
        nn.init.normal_(layer.lora.B, std=0.3)
    return layer.train(training)


MERGE_RUNS = {
    "in training, dropout 0.5": lambda: _adapted(12, 20, 0, dropout=0.5),
    "that is square, in training, dropout 0.2": lambda: _adapted(9, 9, 1, dropout=0.2),
    "without a bias": lambda: _adapted(7, 5, 2, bias=False, dropout=0.5),
    "in evaluation mode": lambda: _adapted(6, 8, 3, dropout=0.5, training=False),
    "scaled by alpha": lambda: _adapted(8, 6, 4, scaling="alpha", alpha=0.5),
    "scaled by alpha / sqrt(rank)": lambda: _adapted(8, 6, 5, scaling="alpha/sqrt(rank)"),
    "in float64": lambda: _adapted(8, 6, 6, dtype=torch.float64, dropout=0.5),
    "beside a layer in 4 bits": lambda: _adapted(16, 12, 7, nf4=True, dropout=0.5),
    "beside a layer in 4 bits, without a bias": lambda: _adapted(16, 8, 8, nf4=True, bias=False),
}


@exercise
def merged(answer):
    """`answer(layer)` -> an nn.Linear that computes what the layer computes in use."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for about, build in MERGE_RUNS.items():
            _require_merged(answer, build(), f"a layer {about}")
    return "plain linear layers, whatever the mode, the scale and the base; the layer given stays as it was"


def _require_merged(answer, layer, about):
    used, base = copy.deepcopy(layer).eval(), layer.linear
    x = torch.randn(30, base.in_features).to(layer.lora.A)
    got = answer(layer)
    require(type(got) is nn.Linear, f"{about}: an nn.Linear is asked for, not {type(got).__name__}")
    sizes = tuple(got.weight.shape), (base.out_features, base.in_features)
    require(sizes[0] == sizes[1], f"{about}: the weight is {sizes[0]}, not {sizes[1]}")
    precision = got.weight.dtype, layer.lora.A.dtype
    require(precision[0] == precision[1], f"{about}: {precision[0]} comes back, not {precision[1]}")
    has = got.bias is not None, base.bias is not None
    require(has[0] == has[1], f"{about}: the bias is {'lost' if has[1] else 'new'}")
    theirs = {t.data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    shared = [name for name, p in got.named_parameters() if p.data_ptr() in theirs]
    require(not shared, f"{about}: the {shared and shared[0]} is the given layer's own: training one would change the other")  # fmt: skip
    with torch.no_grad():
        tight = {"atol": 1e-5, "rtol": 1e-5}
        if torch.allclose(got(x), used(x), **tight):
            return
        change, scale = layer.lora.A @ layer.lora.B, layer.lora.scale
        mine = torch.allclose(got.weight, base.weight + scale * change.T, **tight)
        require(not mine, f"{about}: the weight is right, and the bias is not the layer's")
        wrong = {
            "the change is not in it": 0 * change,
            "the scale is missing": change,
            "the change is taken away, not added": -scale * change,
            "it is scaled by alpha / rank, and this layer is not": layer.lora.alpha / layer.lora.rank * change,
            "it is scaled twice": scale**2 * change,
            "it is scaled by alpha, not by alpha / rank": layer.lora.alpha * change,
        }  # fmt: skip
        if change.shape[0] == change.shape[1]:
            wrong["the change is transposed: a weight is (out, in), and A @ B is (in, out)"] = scale * change.T  # fmt: skip
        for why, one in wrong.items():
            same = torch.allclose(got.weight, base.weight + one.T, **tight)
            require(not same, f"{about}: {why}")
        away = torch.allclose(got.weight, scale * change.T, **tight)
        require(not away, f"{about}: the change alone is in it, without the layer's own weight")
        again = answer(layer).weight
        chance = torch.allclose(again, got.weight, **tight)
        require(chance, f"{about}: two calls give different weights: dropout is in them")
        gap = (got(x) - used(x)).abs().max().item()
    require(False, f"{about}: an output differs by {gap:.2g} from the layer's in use")


# --- E.5: is the change of low rank? ---


def _ranks(matrix, share, power=2):
    """How many of the singular values hold a share of the sum of their squares."""
    held = torch.linalg.svdvals(matrix.double()) ** power
    if not held.any():
        return 0
    return int((held.cumsum(0) < share * held.sum()).sum()) + 1


def _shuffled(matrix):
    return matrix.flatten()[torch.randperm(matrix.numel())].view(matrix.shape)


def _change(out_dim, in_dim, values, offset=0.0, size=1.0):
    """A matrix with these singular values, and noise far below them."""
    values, rank = torch.tensor(values).double(), len(values)
    U = torch.linalg.qr(torch.randn(out_dim, rank, dtype=torch.float64)).Q
    V = torch.linalg.qr(torch.randn(in_dim, rank, dtype=torch.float64)).Q
    noise = 1e-4 * torch.randn(out_dim, in_dim, dtype=torch.float64)
    return size * (U * values @ V.T + noise + offset)


RANK_RUNS = {
    "a change of rank 3": lambda: (_change(30, 24, [4.0, 3.0, 2.0]), 0.9),
    "six ranks, each smaller than the last": lambda: (_change(20, 36, [6.0, 5, 4, 3, 2, 1]), 0.95),
    "half of it": lambda: (_change(36, 20, [6.0, 5, 4, 3, 2, 1]), 0.5),
    "a very small change": lambda: (_change(28, 28, [3.0, 2, 2, 1], size=1e-4), 0.8),
    "one large direction": lambda: (_change(24, 32, [9.0, 1, 1, 1, 1, 1]), 0.9),
    "nearly all of it": lambda: (_change(24, 24, [4.0, 2, 1, 0.5, 0.25, 0.125]), 0.999),
    "numbers that are mostly positive": lambda: (_change(32, 32, [2.0, 1.5], offset=0.1), 0.9),
    "a share just held by two ranks": lambda: (_change(26, 30, [2.0, 1, 1]), 0.833),
    "a share just not held by two ranks": lambda: (_change(26, 30, [2.0, 1, 1]), 0.834),
}


@exercise
def ranks_needed(answer):
    """`answer(before, after, share)` -> two ranks: of the change, and of its numbers in random places."""
    two = "two ranks are asked for, the change's and the control's"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        runs, found = [build() for build in RANK_RUNS.values()], []
        for change, share in runs:
            before = 0.5 * torch.randn(change.shape, dtype=torch.float64)
            after = before + change
            found.append((before, after, share, *numbers(answer(before, after, share), 2, two)))
        hint = _why_other_ranks(found)
        for about, (before, after, share, got, control) in zip(RANK_RUNS, found):
            want, case = _ranks(after - before, share), f"{about}, share {share:g}"
            said = f"{case}: the change needs {want} rank{'s' * (want != 1)}, and you say {got:g}{hint}"
            require(got == want, said)
        for about, (before, after, share, got, control) in zip(RANK_RUNS, found):
            _require_control(got, control, after - before, share, f"{about}, share {share:g}")
        still = torch.randn(8, 6)
        got = numbers(answer(still, still.clone(), 0.9), 2, two)
        require(list(got) == [0, 0], f"nothing has changed: no rank is needed, twice 0; you say {got}")  # fmt: skip
        return _told_of_models(answer)


def _why_other_ranks(found):
    """The mistake that explains all ranks that were found, or nothing."""
    wrong = {
        "those are the singular values, not their squares": lambda b, a, s: _ranks(a - b, s, power=1),
        "those are the squares of their squares": lambda b, a, s: _ranks(a - b, s, power=4),
        "that is a share of the length, not of its square": lambda b, a, s: _ranks(a - b, s**2),
        "that is the new weight, not its change": lambda b, a, s: _ranks(a, s),
        "that is the old weight, not its change": lambda b, a, s: _ranks(b, s),
        "one too few: a sum of the first k is at place k - 1": lambda b, a, s: _ranks(a - b, s) - 1,
        "one too many": lambda b, a, s: _ranks(a - b, s) + 1,
        "those are the ranks that are not needed": lambda b, a, s: min(a.shape) - _ranks(a - b, s),
    }  # fmt: skip
    for why, rank in wrong.items():
        if all(got == rank(*given) for *given, got, _ in found):
            return f": {why}"
    swapped = all(control == _ranks(a - b, s) for b, a, s, _, control in found)
    return ": the change's comes first, then the control's" if swapped else ""


def _require_control(got, control, change, share, about):
    spread = [_ranks(_shuffled(change), share) for _ in range(30)]
    least, most = min(spread) - 1, max(spread) + 1
    why = f"{about}: the control needs {least} to {most} ranks, and you say {control:g}"
    own = "it has the change's own rank, which rows or columns in another order keep"
    places = "are its numbers the change's, each in a random place?"
    fits = least <= control <= most
    require(fits, f"{why}; {own if control == got else places}")


def _told_of_models(answer):
    """What the answer says of the course's own fine-tuned models."""
    from shared.files import WEIGHTS, read_weights
    from shared.models import ASSISTANT_GPT, FIRST_GPT, SPAM_GPT

    name, found = "trf_blocks.0.att.W_key.weight", []
    before = read_weights(FIRST_GPT / WEIGHTS)[name].float()
    for folder in (SPAM_GPT, ASSISTANT_GPT):
        after = read_weights(folder / WEIGHTS)[name].float()
        found += [int(one) for one in answer(before, after, 0.9)]
    spam, control, assistant, other = found
    size = f"of {min(before.shape)}"
    return (
        f"the squares of the singular values, and a control. In the course's own models (W_key of the first block, 90 %): "
        f"chapter 6's change needs {spam} ranks {size}, its control {control}; chapter 7's needs {assistant}, its control {other}"
    )


# --- E.6: four bits, and one outlier ---


def _largest(blocks):
    return blocks.abs().amax(1, keepdim=True)


def _int4(weight, block, size=_largest, top=7, to=torch.round, limit=None):
    """Blocks along the rows, each with a scale of its own, in whole steps from -top to top."""
    blocks = weight.reshape(-1, block or weight.numel())
    step = (size(blocks) / top).clamp(min=1e-30)
    return (to(blocks / step).clamp(*(limit or (-7, 7))) * step).view(weight.shape)


def _min_max(weight, block, **_):
    blocks = weight.reshape(-1, block or weight.numel())
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    step = ((high - low) / 15).clamp(min=1e-30)
    return (((blocks - low) / step).round() * step + low).view(weight.shape)


LIMITS = (-7, 7), (-8, 7), (-math.inf, math.inf)  # where the levels of a wrong answer may end
WRONG_INT4 = {
    "there is one scale for the whole tensor": lambda w, b, **to: _int4(w, None, **to),
    "there is one scale for each row": lambda w, b, **to: _int4(w, w.shape[1], **to),
    "the blocks run down the columns": lambda w, b, **to: _int4(w.T.contiguous(), b, **to).T,
    "the scale is that of the largest number, and -9 is larger in size than 3": lambda w, b, **to: _int4(
        w, b, lambda x: x.amax(1, keepdim=True), **to
    ),
    "the largest is divided by 8, and there is no level 8": lambda w, b, **to: _int4(w, b, top=8, **to),
    "they are cut off, not rounded": lambda w, b, **to: _int4(w, b, to=torch.trunc, **to),
    "they are rounded down": lambda w, b, **to: _int4(w, b, to=torch.floor, **to),
    "the levels run from the smallest to the largest, and 0 is not among them": _min_max,
}  # fmt: skip
INT4_RUNS = {
    "8 by 16, blocks of 16": lambda: (torch.randn(8, 16), 16),
    "6 by 8, blocks of 16": lambda: (torch.randn(6, 8), 16),
    "4 by 32, blocks of 8": lambda: (torch.randn(4, 32).double(), 8),
    "4 by 6, one block for all": lambda: (torch.randn(4, 6), None),
    "a block whose largest is negative": lambda: (torch.randn(2, 8) - 3, 8),
    "a block of zeros": lambda: (torch.cat([torch.zeros(1, 8), torch.randn(1, 8)]), 8),
    "blocks of very different sizes": lambda: (torch.randn(4, 8) * torch.tensor([[1e-6], [1.0], [100], [0.01]]), 8),
}  # fmt: skip


@exercise
def int4(answer):
    """`answer(weight, block)` -> the weight, of the same shape, with 15 levels in each block."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for about, build in INT4_RUNS.items():
            _require_int4(answer, about, *build())
        weight = 0.02 * torch.randn(256, 256)
        weight[100, 100] = 1.0
        alone, in_blocks = ((answer(weight, block) == 0).sum().item() for block in (None, 64))
    return (
        "the nearest of 15 levels in every block. One weight of 1, and 65,535 with a spread of 0.02: "
        f"with one scale {alone:,} of them become 0, in blocks of 64 {in_blocks:,}"
    )


def _require_int4(answer, about, weight, block):
    got = answer(weight, block)
    require(isinstance(got, torch.Tensor), f"{about}: a tensor is asked for, not {brief(got)}")
    shapes = tuple(got.shape), tuple(weight.shape)
    require(shapes[0] == shapes[1], f"{about}: the result is {shapes[0]}, not {shapes[1]}")
    kinds = got.dtype, weight.dtype
    codes = "; are those the levels' numbers, and not yet the weights?" if not kinds[0].is_floating_point else ""  # fmt: skip
    require(kinds[0] == kinds[1], f"{about}: {kinds[0]} comes back, not {kinds[1]}{codes}")
    require(not got.isnan().any(), f"{about}: nan comes back: 0 / 0 is no number")
    want = _int4(weight, block)
    step = _steps(weight, block)
    level = got / step
    whole = (level - level.round()).abs() < 1e-3
    nearest = (got - weight).abs() <= 0.501 * step
    if (whole & nearest).all():
        return
    for why, wrong in WRONG_INT4.items():
        others = (wrong(weight, block, limit=limit) for limit in LIMITS)
        same = any(torch.allclose(got, other, rtol=1e-4, atol=1e-9) for other in others)
        require(not same, f"{about}: {why}")
    codes = torch.allclose(got, (want / step).round(), atol=1e-3)
    require(not codes, f"{about}: those are the levels' numbers, -7 to 7; multiply by the scale")
    worst = ((got - weight).abs() / step).argmax()
    one, other, near = (t.flatten()[worst].item() for t in (weight, got, want))
    require(False, f"{about}: {one:.4g} becomes {other:.4g}; the nearest level is {near:.4g}")


def _steps(weight, block):
    """The distance of two levels at each weight's place."""
    blocks = weight.reshape(-1, block or weight.numel())
    step = blocks.abs().amax(1, keepdim=True).expand_as(blocks).reshape(weight.shape) / 7
    return step.clamp(min=1e-30)
