"""Checks for the exercises of appendix D: `from shared.checks import appendix_d as check`."""

import functools
import math

import torch
import torch.nn.functional as F
from torch import nn

from shared.checks import Verdict, brief, exercise, require
from shared.checks.returned import number

# --- D.1: a schedule from its plot ---

PLOTTED = (30, 5, 16, 0.02)  # steps, of which these warm up, of which these decay; the peak


def _rate(step, total_steps, warmup_steps, decay_steps, peak_lr):
    """Warm-up, a level part, and the root-shaped decay of Hägele and others, 2024."""
    if step < warmup_steps:
        return peak_lr * (step + 1) / warmup_steps
    gone = max(0, step - (total_steps - decay_steps))
    return peak_lr * (1 - math.sqrt(gone / max(1, decay_steps)))


def plotted_rates():
    """The rates of the plot of exercise D.1, one for each of its steps."""
    return [_rate(step, *PLOTTED) for step in range(PLOTTED[0])]


def _why_another_rate(got, step, total, warmup, decay, peak):
    """What a wrong rate looks like: the end of a sentence, or nothing."""
    begin, last = total - decay, total - 1
    if step < warmup:
        wrong = {
            step / warmup: "it begins at 0, and the plot's first step has a rate",
            1.0: "the warm-up is missing",
            (step + 1) / (warmup + 1): "the last step of the warm-up has the peak",
        }
    elif step < begin:
        wrong = {
            1 - math.sqrt((step - warmup) / max(1, total - warmup)): "the decay begins too early"
        }
    else:
        p, to_the_end = (step - begin) / decay, (step - begin) / max(1, last - begin)
        wrong = {
            1.0: "the decay is missing",
            1 - p: "the plot's decay is no straight line",
            1 - to_the_end: "the plot's decay is no straight line",
            (1 + math.cos(math.pi * p))
            / 2: "that is a cosine, and the plot's decay is steepest at first",
            (1 + math.cos(math.pi * to_the_end))
            / 2: "that is a cosine, and the plot's decay is steepest at first",
            math.sqrt(1 - p): "that falls ever faster, and the plot's decay is steepest at first",
            (1 - p) ** 2: "nearly: look at the step at which half of the peak is left",
            1 - math.sqrt(to_the_end): "the plot's last rate is not 0",
            1 - math.sqrt((step + 1 - begin) / decay): "the first step of the decay has the peak",
        }
    if got and step >= warmup and abs(got * peak - _rate(step, total, warmup, decay, peak)) < 1e-12:
        return ": that is the share of the peak; multiply by it"
    found = [why for share, why in wrong.items() if math.isclose(got, peak * share, abs_tol=1e-12)]
    return f": {found[0]}" if found else ""


@exercise
def plotted_rate(answer):
    """`answer(step, total_steps, warmup_steps, decay_steps, peak_lr) -> float`, the rate of the plot."""
    runs = [PLOTTED, (100, 10, 40, 0.5), (12, 0, 4, 1.0), (40, 7, 0, 0.1), (9, 9, 0, 0.3)]
    runs += [(25, 0, 25, 0.04), (16, 6, 10, 2.0), (20, 1, 1, 0.6), (1, 0, 0, 0.1), (1, 1, 0, 0.1)]
    runs += [(1, 0, 1, 0.1), (2, 1, 1, 0.1), (1000, 20, 900, 3e-4)]
    for total, warmup, decay, peak in runs:
        about = f"{total} steps, of which {warmup} warm up and {decay} decay, peak {peak:g}"
        # first where the shapes of a decay differ most
        quarter = total - decay + decay // 4
        for step in [quarter] * (0 < decay) + list(range(total)):
            want = _rate(step, total, warmup, decay, peak)
            try:
                got = number(answer(step, total, warmup, decay, peak))
            except ZeroDivisionError:
                raise Verdict(f"{about}: step {step} divides by zero") from None
            why = _why_another_rate(got, step, total, warmup, decay, peak)
            said = f"{about}: step {step} has a rate of {want:.4g}, and you say {got:.4g}{why}"
            require(math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-12), said)
    return "the plot's rates, and those of longer, shorter, and one-step runs"


# --- D.2: AdamW with one line wrong ---

# What a repaired AdamW may still do, as the end of "yours ..."
ADAMW_MISTAKES = {
    "coupled": "still adds the decay to the gradient, so that it goes through both means",
    "no decay": "does not decay any more",
    "whole decay": "takes weight_decay off without the learning rate",
    "growth": "lets the weights grow where they should decay",
    "twice": "decays twice: the weights, and through both means",
}


class _AdamW(torch.optim.Optimizer):
    """AdamW in a few lines, with one of ADAMW_MISTAKES."""

    mistake = ""

    def __init__(self, params, **settings):
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, decay, (one, two) = group["lr"], group["weight_decay"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state, coupled = self.state[p], self.mistake in ("coupled", "twice")
                grad = p.grad + decay * p if coupled else p.grad
                t = state["t"] = state.get("t", 0) + 1
                m = state["m"] = one * state.get("m", 0) + (1 - one) * grad
                v = state["v"] = two * state.get("v", 0) + (1 - two) * grad**2
                shrink = {"no decay": 0, "coupled": 0, "whole decay": decay, "growth": -lr * decay}
                p.mul_(1 - shrink.get(self.mistake, lr * decay))
                p.sub_(lr * m / (1 - one**t) / ((v / (1 - two**t)).sqrt() + group["eps"]))


def _mistaken(mistake):
    return type("Mistaken", (_AdamW,), {"mistake": mistake})


def _after_steps(kind, settings, second=None, steps=100, schedule=False):
    """`(parameters, those without a gradient, whether a gradient was changed)` after some steps in float64."""
    draw = torch.Generator().manual_seed(3)

    def new(*shape):
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    moving = [nn.Parameter(3 + new(*shape)) for shape in [(4, 3), (5,), (2, 2)]]
    idle = nn.Parameter(3 + new(3))
    groups = [{"params": [*moving[:2], idle]}, {"params": moving[2:], **(second or {})}]
    optimizer, changed = kind(groups, **settings), False
    for step in range(steps):
        if schedule:
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] / (1 + step)
        given = [new(*p.shape) * (0.1 if step % 3 else 20.0) for p in moving]
        for p, grad in zip(moving, given):
            p.grad = grad.clone()
        optimizer.step()
        changed = changed or not all(p.grad.equal(grad) for p, grad in zip(moving, given))
    return torch.cat([p.detach().flatten() for p in moving]), idle.detach(), changed


BASE = {"lr": 0.05, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
ADAMW_RUNS = {
    "with weight_decay=0": (BASE, {}),
    "with weight_decay=0.1": (BASE | {"weight_decay": 0.1}, {}),
    "with betas=(0.6, 0.8)": (BASE | {"betas": (0.6, 0.8), "weight_decay": 0.1}, {}),
    "with eps=0.01": (BASE | {"eps": 0.01, "weight_decay": 0.1}, {}),
    "with lr=0.3": (BASE | {"lr": 0.3, "weight_decay": 0.4}, {}),
    "with two groups, each with settings of its own": (
        BASE | {"weight_decay": 0.1},
        {"second": {"weight_decay": 0.0, "lr": 0.2}},
    ),
    "with a learning rate that changes from step to step": (
        BASE | {"weight_decay": 0.1},
        {"schedule": True},
    ),
}


@functools.cache
def _pytorchs(about):
    settings, more = ADAMW_RUNS[about]
    return _after_steps(torch.optim.AdamW, settings, **more)


@exercise
def RepairedAdamW(answer):
    """`answer(params, lr, betas, eps, weight_decay)`, an optimizer whose `step()` is that of torch.optim.AdamW."""
    optimizer = isinstance(answer, type) and issubclass(answer, torch.optim.Optimizer)
    require(
        optimizer,
        "a class is asked for, an optimizer: `class RepairedAdamW(torch.optim.Optimizer)`",
    )
    borrowed = issubclass(answer, torch.optim.Adam)
    require(not borrowed, "that is PyTorch's own, by which yours is judged: repair the one above")
    for about, (settings, more) in ADAMW_RUNS.items():
        got, idle, changed = _after_steps(answer, settings, **more)
        want, still, _ = _pytorchs(about)
        require(not changed, f"{about}: a gradient is changed by `step`; work on a copy")
        require(
            idle.equal(still), f"{about}: a parameter without a gradient moved; PyTorch leaves it"
        )
        if torch.allclose(got, want, rtol=0, atol=1e-8):
            continue
        for mistake, named in ADAMW_MISTAKES.items():
            other = _after_steps(_mistaken(mistake), settings, **more)[0]
            require(not torch.allclose(got, other, rtol=0, atol=1e-8), f"{about}: yours {named}")
        gap = (got - want).abs().max().item()
        first = _after_steps(answer, settings, steps=1, **more)[0]
        begin = _after_steps(torch.optim.AdamW, settings, steps=1, **more)[0]
        since = (
            "later" if torch.allclose(first, begin, rtol=0, atol=1e-9) else "already the first step"
        )
        what = "only later steps do" if since == "later" else f"{since} does"
        raise Verdict(
            f"{about}: after 100 steps a weight differs from PyTorch's by {gap:.2g}; {what}"
        )
    return "100 steps are PyTorch's, whatever the settings; a parameter without a gradient stays"


# --- D.3: accumulation in one pass ---


def _small_gpt(seed):
    from shared.gpt_model import GPTModel

    cfg = {"vocab_size": 19, "context_length": 8, "emb_dim": 12, "n_heads": 2, "n_layers": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPTModel(cfg | {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}).double()


def _pieces(counts, seed=0):
    """Two rows of 8 for each of the counts of targets, all others of which are -100."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        inputs, targets = torch.randint(19, (2, 2, 8), generator=draw)
        targets.view(-1)[torch.randperm(16, generator=draw)[count:]] = -100
        found.append((inputs, targets))
    return found


def _one_batch(model, pieces, weights=None):
    """`(loss, gradients)` of all pieces at once, or of their means with these weights."""
    model.zero_grad()
    if weights is None:
        inputs, targets = (torch.cat(parts) for parts in zip(*pieces))
        pieces, weights = [(inputs, targets)], [1.0]
    total = 0.0
    for (inputs, targets), weight in zip(pieces, weights):
        if (targets != -100).any() and weight:
            loss = weight * F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
            loss.backward()
            total += loss.item()
    found = _gradient(model)
    model.zero_grad()
    return total, found


def _gradient(model):
    return torch.cat([p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()).double() for p in model.parameters()])  # fmt: skip


def _one_by_one(model, pieces):
    """The pieces, each once; the next only if the one before has left a gradient."""
    for i, (inputs, targets) in enumerate(pieces):
        before = _gradient(model)
        yield inputs.clone(), targets.clone()
        used = not before.equal(_gradient(model)) or not (targets != -100).any()
        next_one = f"piece {i + 2} was asked for before piece {i + 1} had gone backward"
        require(used or i + 1 == len(pieces), f"{next_one}: one piece at a time fits into memory")


@exercise(changes=(0, 1))
def accumulated_in_one_pass(answer):
    """`answer(model, pieces) -> float`: the mean loss of all targets, whose gradients are left in `.grad`."""
    for counts in [(16, 16), (16, 3, 7), (1, 16), (5, 0, 9), (0, 2), (8, 0), (6,), (2, 15, 1, 4)]:
        model, pieces = _small_gpt(len(counts)), _pieces(counts, len(counts))
        want_loss, want = _one_batch(model, pieces)
        about = f"pieces with {', '.join(map(str, counts))} targets"
        loss = number(answer(model, _one_by_one(model, pieces)), "the loss is asked for, a number")
        got = _gradient(model)
        unfit = got.isnan().any() or math.isnan(loss)
        require(not unfit, f"{about}: you get nan, not a number: a mean over no targets is 0 / 0")
        if not torch.allclose(got, want, rtol=0, atol=1e-6):
            n, all_counts = len(counts), sum(counts)
            wrong = {
                "the mean of the pieces' means": [1 / n] * n,
                "the mean of the means of the pieces that have targets": [1 / (n - counts.count(0))] * n,
                "the sum of the pieces' means": [1.0] * n,
                "the sum over all targets, not yet the mean": list(counts),
                "the mean over all places, those without a target too": [c / (16 * n) for c in counts],
                "the sum over the targets, divided by the number of pieces": [c / n for c in counts],
                "the last piece's, as if the others had been cleared": [0] * (n - 1) + [1.0],
                "the last piece's, by its share, as if the others had been cleared": [0] * (n - 1) + [counts[-1] / all_counts],
                "the first piece's": [1.0] + [0] * (n - 1),
            }  # fmt: skip
            for named, weights in wrong.items():
                other = _one_batch(model, pieces, weights)[1]
                require(
                    not torch.allclose(got, other, rtol=0, atol=1e-6), f"{about}: that is {named}"
                )
            gap = (got - want).abs().max().item()
            raise Verdict(f"{about}: a gradient differs from that of one batch by {gap:.2g}")
        told = f"{about}: the gradients are right, and the loss is {want_loss:.4g}, not {loss:.4g}"
        require(math.isclose(loss, want_loss, abs_tol=1e-6), told)
    return "loss and gradients are those of one large batch, whatever the pieces hold"


# --- D.4: the largest stable rate ---

MOST_TRIES = 60


def _quadratic(eigenvalues, steps=20000):
    """`loss_after(lr)` of gradient descent on half of the sum of eigenvalue * x^2, from x = 1 everywhere."""

    def loss_after(lr):
        # each coordinate is multiplied by (1 - lr * eigenvalue) in each step
        total = 0.0
        for one in eigenvalues:
            try:
                total += 0.5 * one * (1 - lr * one) ** (2 * steps)
            except OverflowError:
                return math.nan  # as in tensors: infinity minus infinity
        return total

    return loss_after


def _small_net(steps=40):
    """`loss_after(lr)` of gradient descent on a small network, always from the same weights."""
    from shared.pytorch import make_rings

    X, y = make_rings(40, seed=1)

    def loss_after(lr):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
        optimizer = torch.optim.SGD(net.parameters(), lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(net(X), y).backward()
            optimizer.step()
        return F.cross_entropy(net(X), y).item()

    return loss_after


STABLE_RUNS = {
    "eigenvalues 1 and 4": (_quadratic([1.0, 4.0]), 0.5, 0.01),
    "one eigenvalue, 0.003": (_quadratic([0.003]), 2 / 0.003, 0.01),
    "eigenvalues 5000, 1 and 0.01": (_quadratic([5000.0, 1.0, 0.01]), 0.0004, 0.01),
    "eigenvalues 2, 2 and 2, to a thousandth": (_quadratic([2.0, 2.0, 2.0]), 1.0, 0.001),
    "one eigenvalue, 0.7, to a tenth": (_quadratic([0.7]), 2 / 0.7, 0.1),
}


def _tried(answer, about, loss_after, precision):
    """The rate that is answered, and `{rate: whether it was stable}` of all that were tried."""
    start, tried = loss_after(0.0), {}

    def watched(lr):
        lr = float(lr)
        require(math.isfinite(lr) and lr >= 0, f"{about}: you try a rate of {lr:g}")
        require(
            len(tried) < MOST_TRIES,
            f"{about}: more than {MOST_TRIES} rates tried; halve the gap each time",
        )
        loss = loss_after(lr)
        tried[lr] = loss <= start  # not a number is not, either
        return loss

    return float(number(answer(watched, precision))), tried


@exercise
def largest_stable_rate(answer):
    """`answer(loss_after, precision) -> float`, the largest stable rate, too small by that share at most."""
    runs = STABLE_RUNS | {"a small network": (_small_net(), None, 0.05)}
    for about, (loss_after, truth, precision) in runs.items():
        got, tried = _tried(answer, about, loss_after, precision)
        require(math.isfinite(got) and got > 0, f"{about}: you say {got:g}")
        if truth is not None:
            says = f"{about}: the largest stable rate is {truth:.5g}, and you say {got:.5g}"
            small = f"; at most {precision:g} of it may be missing"
            require(got <= truth * (1 + 1e-3 * precision), f"{says}, which is not stable")
            require(got >= truth * (1 - 1.001 * precision), f"{says}{small}")
        require(
            loss_after(got) <= loss_after(0.0),
            f"{about}: {got:.5g} is not stable: the loss ends above that of rate 0",
        )
        above = [lr for lr, stable in tried.items() if not stable and got < lr <= got * (1 + 1.02 * precision) / (1 - precision)]  # fmt: skip
        told = f"{about}: you say {got:.5g}, and tried nothing unstable that near above it, which would prove it"
        require(above, told)
    return f"2 / (largest eigenvalue) on {len(STABLE_RUNS)} quadratics, and a small network's, each by experiment"


# --- D.5: why did clipping do nothing here? ---


def _long_gradients(steps, shape, seed, least=2.0):
    """Gradients of different lengths, each longer than `least`."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for step in range(steps):
        grad = torch.randn(shape, generator=draw, dtype=torch.float64)
        found.append(grad / grad.norm() * least * (1.5 + step % 4))
    return found


def _sgd(params):
    return torch.optim.SGD(params, lr=0.1)


def _adam(params):
    return torch.optim.Adam(params, lr=0.1, eps=0.0)


OPTIMIZERS = {
    "SGD": _sgd,
    "Adam": _adam,
    "SGD with momentum": lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.02, eps=0.0),
    "Adam with eps=0.1": lambda params: torch.optim.Adam(params, lr=0.1, eps=0.1),
}


def _ratio(make_optimizer, gradients, loose, tight):
    lengths = []
    for max_norm in (loose, tight):
        w = nn.Parameter(torch.zeros_like(gradients[0]))
        optimizer = make_optimizer([w])
        for grad in gradients:
            w.grad = grad * min(1.0, max_norm / grad.norm().item())
            optimizer.step()
        lengths.append(w.detach().norm().item())
    return lengths[1] / lengths[0]


def _both_ratios(answer):
    gradients = _long_gradients(20, (6,), 0)
    return [round(float(answer(one, gradients, 1.0, 0.1)), 4) for one in (_sgd, _adam)]


@exercise(guess=_both_ratios)
def clipping_ratio(answer):
    """`answer(make_optimizer, gradients, loose, tight) -> float`, the ratio of the two weight changes.

    The ratios of the card are never said: they are to be predicted.
    """
    long, some_short = _long_gradients(20, (6,), 0), _long_gradients(12, (3, 4), 1, least=0.2)
    runs = [(name, long, 1.0, 0.1) for name in OPTIMIZERS]
    runs += [(name, some_short, 0.5, 0.25) for name in OPTIMIZERS]
    runs += [("SGD", long[:1], 1.0, 0.5), ("Adam", long[:3], 0.01, 1.0), ("SGD", some_short, 5, 5)]
    for name, gradients, loose, tight in runs:
        make = OPTIMIZERS[name]
        got = number(answer(make, [grad.clone() for grad in gradients], loose, tight))
        want = _ratio(make, gradients, loose, tight)
        about = f"{name}, {len(gradients)} step{'s' * (len(gradients) > 1)}, clipped to {loose:g} and to {tight:g}"
        wrong = {
            "that is the ratio the other way round": 1 / want,
            "that is the ratio of the squares": want**2,
            "that is the first step's alone": _ratio(make, gradients[:1], loose, tight),
            "that is the ratio of the two lengths allowed, whatever the optimizer does": tight
            / loose,
        }
        near = [why for why, other in wrong.items() if math.isclose(got, other, rel_tol=1e-6)]
        said = f"{about}: you say {got:.4g}, and the ratio is another"
        require(math.isclose(got, want, rel_tol=1e-6), f"{said}{': ' + near[0] if near else ''}")
    return "Adam divides by the gradients' own size, so what shortens all of them alike is lost; SGD takes them as they are"


# --- D.6: what decays ---


def _norms_of_pytorch():
    """A model whose norms are PyTorch's, with vectors called weight."""
    return nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 5))


def _gpt(tie_weights, frozen=(), **changes):
    from shared.gpt_model import GPTModel

    cfg = {"vocab_size": 19, "context_length": 8, "emb_dim": 12, "n_heads": 2, "n_layers": 2}
    cfg |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": tie_weights} | changes
    with torch.device("meta"):
        model = GPTModel(cfg)
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(tuple(frozen)))
    return model


DECAY_RUNS = {
    "a head of its own": lambda: _gpt(False, n_layers=1),
    "a tied head": lambda: _gpt(True),
    "no biases for queries, keys and values": lambda: _gpt(True, qkv_bias=False),
    "the embeddings frozen": lambda: _gpt(False, frozen=["tok_emb", "pos_emb"]),
    "PyTorch's own LayerNorm": _norms_of_pytorch,
}


@exercise(guess=lambda answer: len(answer(_gpt(True, n_layers=12))))
def decaying(answer):
    """`answer(model) -> list of names` of the parameters that decay.

    How many there are in the card's model is never said: it is to be predicted.
    """
    for about, build in DECAY_RUNS.items():
        model = build()
        got = answer(model)
        names = isinstance(got, list | tuple | set) and all(isinstance(name, str) for name in got)
        require(names, f"a list of names is asked for, not {brief(got)}")
        parameters = dict(model.named_parameters())
        for name in got:
            every = dict(model.named_parameters(remove_duplicate=False))
            require(name in every, f"{about}: {name!r} is no parameter of the model")
            require(
                name in parameters,
                f"{about}: {name} is a tied matrix, which you have already: it would decay twice",
            )
            require(parameters[name].requires_grad, f"{about}: {name} is frozen: nothing moves it")
            require(
                parameters[name].dim() >= 2, f"{about}: {name} is a vector, of a norm or a bias"
            )
        missing = [
            n for n, p in parameters.items() if p.dim() >= 2 and p.requires_grad and n not in got
        ]
        require(not missing, f"{about}: {missing and missing[0]} is a matrix, and missing")
        require(len(set(got)) == len(got), f"{about}: a name stands there twice")
    return "all matrices that are trained, each once; no norm, no bias"
