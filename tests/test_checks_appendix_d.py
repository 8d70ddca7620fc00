"""Every check of appendix D's exercises: accepts right answers, refuses the usual wrong ones."""

import functools
import math

import notebooks
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import training
from shared.checks import appendix_d as check
from shared.training import AdamW, accumulate_gradients, adam_direction, parameter_groups

answers = functools.partial(notebooks.answers, "appendix_d_training")


# D.1: a schedule from its plot


def by_minimum(step, total, warmup, decay, peak):
    up = (step + 1) / max(1, warmup) if warmup else 1.0
    gone = (step - total + decay) / decay if decay else 0.0
    return peak * min(up, 1.0, 1 - max(0.0, gone) ** 0.5)


def in_tensors(step, total, warmup, decay, peak):
    up = peak * torch.arange(1, warmup + 1, dtype=torch.float64) / max(1, warmup)
    level = torch.full((total - warmup - decay,), peak, dtype=torch.float64)
    down = peak * (1 - (torch.arange(decay, dtype=torch.float64) / max(1, decay)).sqrt())
    return torch.cat([up, level, down])[step]


def by_the_lessons(step, total, warmup, decay, peak):
    """The lesson's function, whose warm-up begins at a given rate and has one step less."""
    begin = total - decay
    if warmup:
        up = training.learning_rate(step, total, warmup - 1, peak, peak / warmup, shape=lambda p: 1)
    else:
        up = peak
    return up if step <= begin else peak - peak * math.sqrt((step - begin) / decay)


def rate_by_shape(shape):
    """A schedule with another shape of the decay."""

    def rate(step, total, warmup, decay, peak):
        if step < warmup:
            return peak * (step + 1) / warmup
        return peak * shape(max(0, step - total + decay) / max(1, decay))

    return rate


straight = rate_by_shape(lambda p: 1 - p)
half_a_cosine = rate_by_shape(training.cosine)
late_root = rate_by_shape(lambda p: math.sqrt(1 - p))
squared = rate_by_shape(lambda p: (1 - p) ** 2)
never_down = rate_by_shape(lambda p: 1.0)


def from_zero(step, total, warmup, decay, peak):
    return peak * step / warmup if step < warmup else by_minimum(step, total, warmup, decay, peak)


def no_warm_up(step, total, warmup, decay, peak):
    return by_minimum(step, total, 0, decay, peak)


def down_to_zero(step, total, warmup, decay, peak):
    begin = total - decay
    if step < begin:
        return by_minimum(step, total, warmup, decay, peak)
    return peak * (1 - math.sqrt((step - begin) / max(1, decay - 1)))


def decay_a_step_early(step, total, warmup, decay, peak):
    if step < total - decay:
        return by_minimum(step, total, warmup, decay, peak)
    return peak * (1 - math.sqrt((step + 1 - total + decay) / decay))


def the_plots_only(step, total, warmup, decay, peak):
    return check.plotted_rates()[step % 30]


def a_share(step, total, warmup, decay, peak):
    return by_minimum(step, total, warmup, decay, 1.0)


def dividing_by_no_warm_up(step, total, warmup, decay, peak):
    return min(peak * (step + 1) / warmup, by_minimum(step, total, warmup, decay, peak))


def dividing_by_no_decay(step, total, warmup, decay, peak):
    gone = max(0, step - total + decay) / decay
    return peak * min(1 - math.sqrt(gone), by_minimum(step, total, warmup, 0, 1.0))


def the_peak_late(step, total, warmup, decay, peak):
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return by_minimum(step, total, warmup, decay, peak)


def a_list_of_rates(step, total, warmup, decay, peak):
    return [by_minimum(one, total, warmup, decay, peak) for one in range(total)]


# D.2: AdamW


class Optimizer(torch.optim.Optimizer):
    """AdamW by the lesson's direction, with room for mistakes."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, group)

    def move(self, p, group):
        self.shrink(p, group)
        p -= group["lr"] * self.direction(p, group)

    def shrink(self, p, group):
        p -= group["lr"] * group["weight_decay"] * p

    def direction(self, p, group):
        return adam_direction(p.grad, self.state[p], group["betas"], group["eps"])


class InOneLine(Optimizer):
    def move(self, p, group):
        p -= group["lr"] * (self.direction(p, group) + group["weight_decay"] * p)


class InPlace(Optimizer):
    def direction(self, p, group):
        state, (one, two) = self.state[p], group["betas"]
        if not state:
            state.update(t=0, m=torch.zeros_like(p), v=torch.zeros_like(p))
        state["t"] += 1
        state["m"].lerp_(p.grad, 1 - one)
        state["v"].mul_(two).addcmul_(p.grad, p.grad, value=1 - two)
        root = (state["v"] / (1 - two ** state["t"])).sqrt_()
        return state["m"] / (1 - one ** state["t"]) / root.add_(group["eps"])


class ByPyTorchsFunction(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(params, lr, betas, eps, weight_decay)
        self.counts = {}

    def direction(self, p, group):
        t = self.counts[p] = self.counts.get(p, 0) + 1
        means = self.state[p].setdefault("means", [torch.zeros_like(p), torch.zeros_like(p)])
        for i, power in enumerate((1, 2)):
            means[i] = torch.lerp(means[i], p.grad**power, 1 - group["betas"][i])
        m, v = (mean / (1 - beta**t) for mean, beta in zip(means, group["betas"]))
        return m / (v**0.5 + group["eps"])


class Coupled(Optimizer):
    def move(self, p, group):
        grad = p.grad + group["weight_decay"] * p
        p -= group["lr"] * adam_direction(grad, self.state[p], group["betas"], group["eps"])


class CoupledInPlace(Optimizer):
    def move(self, p, group):
        p.grad += group["weight_decay"] * p
        p -= group["lr"] * self.direction(p, group)


class WithoutDecay(Optimizer):
    def shrink(self, p, group):
        pass


class WholeDecay(Optimizer):
    def shrink(self, p, group):
        p.mul_(1 - group["weight_decay"])


class Growing(Optimizer):
    def shrink(self, p, group):
        p.mul_(1 + group["lr"] * group["weight_decay"])


class Both(Optimizer):
    def direction(self, p, group):
        grad = p.grad + group["weight_decay"] * p
        return adam_direction(grad, self.state[p], group["betas"], group["eps"])

    def move(self, p, group):
        direction = self.direction(p, group)
        self.shrink(p, group)
        p -= group["lr"] * direction


class EpsInTheRoot(InPlace):
    def direction(self, p, group):
        super().direction(p, group)
        state, (one, two) = self.state[p], group["betas"]
        v = state["v"] / (1 - two ** state["t"]) + group["eps"]
        return state["m"] / (1 - one ** state["t"]) / v.sqrt()


class Uncorrected(InPlace):
    def direction(self, p, group):
        super().direction(p, group)
        return self.state[p]["m"] / (self.state[p]["v"].sqrt() + group["eps"])


class FixedBetas(Optimizer):
    def direction(self, p, group):
        return adam_direction(p.grad, self.state[p], eps=group["eps"])


class FixedEps(Optimizer):
    def direction(self, p, group):
        return adam_direction(p.grad, self.state[p], group["betas"])


class FirstGroupsSettings(Optimizer):
    def move(self, p, group):
        super().move(p, self.param_groups[0])


class FirstRate(Optimizer):
    def move(self, p, group):
        super().move(p, group | {"lr": group.setdefault("first", group["lr"])})


class OneCount(InPlace):
    """One count of steps for all parameters, raised by each of them."""

    def direction(self, p, group):
        super().direction(p, group)
        self.count = getattr(self, "count", 0) + 1
        state, (one, two) = self.state[p], group["betas"]
        root = (state["v"] / (1 - two**self.count)).sqrt()
        return state["m"] / (1 - one**self.count) / (root + group["eps"])


class DecayOfAll(Optimizer):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                self.shrink(p, group)
                if p.grad is not None:
                    p -= group["lr"] * self.direction(p, group)


class Borrowed(torch.optim.AdamW):
    pass


def a_function(params, **settings):
    return AdamW(params, **settings)


# D.3: accumulation in one pass


def summed(model, pieces):
    total, count = 0.0, 0
    for inputs, targets in pieces:
        logits = model(inputs).flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten(), reduction="sum")
        loss.backward()
        total += loss.item()
        count += (targets != -100).sum().item()
    for p in model.parameters():
        if p.grad is not None:
            p.grad.div_(count)
    return total / count


def running_mean(model, pieces):
    """The mean so far, corrected with each piece."""
    mean, count = 0.0, 0
    for inputs, targets in pieces:
        n = (targets != -100).sum().item()
        if n:
            for p in model.parameters():
                if p.grad is not None:
                    p.grad *= count / (count + n)
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
            (loss * n / (count + n)).backward()
            mean = (mean * count + loss.item() * n) / (count + n)
            count += n
    return mean


def by_autograd(model, pieces):
    parameters, total, count = list(model.parameters()), 0.0, 0
    sums = [torch.zeros_like(p) for p in parameters]
    for inputs, targets in pieces:
        kept = targets.flatten() != -100
        losses = F.cross_entropy(
            model(inputs).flatten(0, 1)[kept], targets.flatten()[kept], reduction="none"
        )
        for p, s, grad in zip(parameters, sums, torch.autograd.grad(losses.sum(), parameters)):
            s += grad
            p.grad = s
        total, count = total + losses.sum().detach(), count + kept.sum()
    for p, s in zip(parameters, sums):
        p.grad = s / count
    return total / count


def weighing(weigh, finish, skip=True):
    """Means of pieces, each with a weight of its own; at the end all is divided."""

    def answer(model, pieces):
        total = count = places = number = 0
        for inputs, targets in pieces:
            n = (targets != -100).sum().item()
            number, places = number + 1, places + targets.numel()
            if n or not skip:
                loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
                loss = loss * weigh(n)
                loss.backward()
                total, count = total + loss.item(), count + n
        by = finish(count, places, number)
        for p in model.parameters():
            p.grad /= by
        return total / by

    return answer


mean_of_means = weighing(lambda n: 1, lambda count, places, number: number)
sum_of_means = weighing(lambda n: 1, lambda count, places, number: 1)
sum_of_losses = weighing(lambda n: n, lambda count, places, number: 1)
over_all_places = weighing(lambda n: n, lambda count, places, number: places)
sum_over_pieces = weighing(lambda n: n, lambda count, places, number: number)
empty_pieces_too = weighing(lambda n: n, lambda count, places, number: count, skip=False)


def all_at_once(model, pieces):
    return accumulate_gradients(model, list(pieces), "cpu")


def one_batch(model, pieces):
    inputs, targets = (torch.cat(parts) for parts in zip(*pieces))
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    return loss.item()


def cleared_in_between(model, pieces):
    total, count = 0.0, 0
    for inputs, targets in pieces:
        if n := (targets != -100).sum().item():
            model.zero_grad()
            loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
            loss.backward()
            total, count = total + n * loss.item(), count + n
    return total / count


def loss_undivided(model, pieces):
    summed_up = summed(model, pieces)
    return 2 * summed_up


def no_loss(model, pieces):
    summed(model, pieces)


# D.4: the largest stable rate


def upwards_then_halved(loss_after, precision):
    start, low = loss_after(0.0), 1e-6
    while loss_after(2 * low) <= start:
        low *= 2
    high = 2 * low
    while high - low > precision * high:
        middle = (low + high) / 2
        if loss_after(middle) <= start:
            low = middle
        else:
            high = middle
    return low


def in_exponents(loss_after, precision):
    start = torch.tensor(loss_after(0.0))
    low, high = -10.0, 10.0
    while 10**low < 10**high * (1 - precision):
        middle = 0.5 * (low + high)
        good = torch.tensor(loss_after(10**middle)) <= start
        low, high = (middle, high) if good else (low, middle)
    return torch.tensor(10**low, dtype=torch.float64)


def by_recursion(loss_after, precision):
    start = loss_after(0)

    def between(low, high):
        if low >= high * (1 - precision):
            return low
        middle = (low * high) ** 0.5
        loss = loss_after(middle)
        bad = math.isnan(loss) or loss > start
        return between(low, middle) if bad else between(middle, high)

    return between(1e-5, 1e5)


def fooled_by_nan(loss_after, precision):
    start, low = loss_after(0.0), 1e-6
    while not loss_after(2 * low) > start and low < 1e6:
        low *= 2
    return low


def bisected_with_nan(loss_after, precision):
    start, low, high = loss_after(0.0), 1e-6, 1e6
    while low < high * (1 - precision):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if loss_after(middle) > start else (middle, high)
    return low


def the_unstable_one(loss_after, precision):
    return upwards_then_halved(loss_after, precision) * (1 + 1.5 * precision)


def of_a_power_of_two(loss_after, precision):
    start, low = loss_after(0.0), 1e-6
    while loss_after(2 * low) <= start:
        low *= 2
    return low


def up_to_one_only(loss_after, precision):
    start, low, high = loss_after(0.0), 0.0, 1.0
    while low < high * (1 - precision) and high > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if loss_after(middle) <= start else (low, middle)
    return low


def step_by_step(loss_after, precision):
    start, lr = loss_after(0.0), 1e-6
    while loss_after(lr * (1 + precision)) <= start:
        lr *= 1 + precision
    return lr


def a_fixed_number_of_halvings(loss_after, precision):
    start, low, high = loss_after(0.0), 1e-5, 1e4
    for _ in range(8):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if loss_after(middle) <= start else (low, middle)
    return low


def a_percent_always(loss_after, precision):
    return upwards_then_halved(loss_after, 0.01)


def known_by_heart(loss_after, precision):
    return 0.499 if loss_after(0.0) == 2.5 else 1.0


def the_lowest_loss(loss_after, precision):
    rates = [10 ** (i / 8 - 4) for i in range(59)]
    losses = [loss_after(lr) for lr in rates]
    return rates[losses.index(min(loss for loss in losses if not math.isnan(loss)))]


def an_absolute_gap(loss_after, precision):
    start, low = loss_after(0.0), 1e-6
    while loss_after(2 * low) <= start:
        low *= 2
    high = 2 * low
    while high - low > precision:
        middle = (low + high) / 2
        low, high = (middle, high) if loss_after(middle) <= start else (low, middle)
    return low


# D.5: clipping


def by_pytorchs_clipping(make_optimizer, gradients, loose, tight):
    def change(max_norm):
        layer = nn.Module()
        layer.w = nn.Parameter(gradients[0] * 0)
        optimizer = make_optimizer(layer.parameters())
        for grad in gradients:
            layer.w.grad = grad.clone()
            nn.utils.clip_grad_norm_(layer.parameters(), max_norm)
            optimizer.step()
        return layer.w.detach().pow(2).sum().sqrt()

    return change(tight) / change(loose)


def by_the_lessons_clipping(make_optimizer, gradients, loose, tight):
    found = []
    for max_norm in (tight, loose):
        layer = nn.Linear(1, 1, bias=False)
        layer.weight = nn.Parameter(torch.zeros_like(gradients[0]))
        optimizer = make_optimizer(list(layer.parameters()))
        for grad in gradients:
            optimizer.zero_grad()
            layer.weight.grad = grad.clone()
            training.clip_gradients(layer, max_norm)
            optimizer.step()
        found.append(layer.weight.norm().item())
    return found[0] / found[1]


def with_a_loss(make_optimizer, gradients, loose, tight):
    """Gradients by autograd, of a loss that has this gradient everywhere."""
    ends = []
    for max_norm in (loose, tight):
        w = torch.zeros_like(gradients[0], requires_grad=True)
        optimizer = make_optimizer([w])
        for grad in gradients:
            optimizer.zero_grad()
            shorter = grad if grad.norm() <= max_norm else grad / grad.norm() * max_norm
            (w * shorter).sum().backward()
            optimizer.step()
        ends.append(w.detach())
    return torch.linalg.norm(ends[1]) / torch.linalg.norm(ends[0])


def upside_down(*given):
    return 1 / with_a_loss(*given)


def of_squares(*given):
    return with_a_loss(*given) ** 2


def of_the_first_step(make_optimizer, gradients, loose, tight):
    return with_a_loss(make_optimizer, gradients[:1], loose, tight)


def of_the_lengths_allowed(make_optimizer, gradients, loose, tight):
    return tight / loose


def as_guessed_for_adam(make_optimizer, gradients, loose, tight):
    return 1.0


def always_scaled(make_optimizer, gradients, loose, tight):
    """Shorter gradients are made longer."""
    ends = []
    for max_norm in (loose, tight):
        w = torch.zeros_like(gradients[0], requires_grad=True)
        optimizer = make_optimizer([w])
        for grad in gradients:
            w.grad = grad / grad.norm() * max_norm
            optimizer.step()
        ends.append(w.detach().norm())
    return ends[1] / ends[0]


def one_optimizer_for_both(make_optimizer, gradients, loose, tight):
    w = torch.zeros_like(gradients[0], requires_grad=True)
    optimizer, ends = make_optimizer([w]), []
    for max_norm in (loose, tight):
        w.data.zero_()
        for grad in gradients:
            w.grad = grad * min(1.0, max_norm / grad.norm().item())
            optimizer.step()
        ends.append(w.detach().norm().item())
    return ends[1] / ends[0]


def going_on(make_optimizer, gradients, loose, tight):
    w, ends = torch.zeros_like(gradients[0], requires_grad=True), []
    for max_norm in (loose, tight):
        optimizer = make_optimizer([w])
        for grad in gradients:
            w.grad = grad * min(1.0, max_norm / grad.norm().item())
            optimizer.step()
        ends.append(w.detach().norm().item())
    return ends[1] / ends[0]


def clipped_for_good(make_optimizer, gradients, loose, tight):
    for grad in gradients:
        grad *= min(1.0, loose / grad.norm().item())
    return with_a_loss(make_optimizer, gradients, loose, tight)


def number_by_number(make_optimizer, gradients, loose, tight):
    """Each number clipped by itself."""
    ends = []
    for max_norm in (loose, tight):
        w = torch.zeros_like(gradients[0], requires_grad=True)
        optimizer = make_optimizer([w])
        for grad in gradients:
            w.grad = grad.clamp(-max_norm, max_norm)
            optimizer.step()
        ends.append(w.detach().norm())
    return ends[1] / ends[0]


# D.6: what decays


def by_the_lessons_groups(model):
    inside = {id(p) for p in parameter_groups(model, 0.1)[0]["params"]}
    return [name for name, p in model.named_parameters() if id(p) in inside]


def by_modules(model):
    found, seen = [], set()
    for place, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            if p.ndim > 1 and p.requires_grad and id(p) not in seen:
                seen.add(id(p))
                found.append(f"{place}.{name}")
    return found


def as_a_set(model):
    return {n for n, p in model.named_parameters() if len(p.shape) == 2 and p.requires_grad}


def by_the_name(model):
    return [n for n, p in model.named_parameters() if n.endswith("weight") and p.requires_grad]


def the_head_twice(model):
    every = model.named_parameters(remove_duplicate=False)
    return [name for name, p in every if p.dim() >= 2 and p.requires_grad]


def of_the_state(model):
    return [name for name, tensor in model.state_dict().items() if tensor.dim() >= 2]


def the_frozen_too(model):
    return [name for name, p in model.named_parameters() if p.dim() >= 2]


def blocks_only(model):
    return [n for n in as_a_set(model) if n.startswith("trf_blocks")]


def everything(model):
    return [name for name, _ in model.named_parameters()]


def the_biases_too(model):
    return [n for n, _ in model.named_parameters() if "norm" not in n]


def the_number(model):
    return len(as_a_set(model))


def the_tensors(model):
    return parameter_groups(model, 0.1)[0]["params"]


def linear_layers_only(model):
    return [f"{n}.weight" for n, m in model.named_modules() if isinstance(m, nn.Linear)]


RIGHT = {
    "plotted_rate": [by_minimum, in_tensors, by_the_lessons],
    "RepairedAdamW": [AdamW, InOneLine, InPlace, ByPyTorchsFunction],
    "accumulated_in_one_pass": [summed, running_mean, by_autograd],
    "largest_stable_rate": [upwards_then_halved, in_exponents, by_recursion],
    "clipping_ratio": [by_pytorchs_clipping, by_the_lessons_clipping, with_a_loss],
    "decaying": [by_the_lessons_groups, by_modules, as_a_set],
}
WRONG = {
    "plotted_rate": [
        (straight, "no straight line"),
        (half_a_cosine, "that is a cosine"),
        (late_root, "falls ever faster"),
        (squared, "half of the peak is left"),
        (never_down, "the decay is missing"),
        (from_zero, "it begins at 0"),
        (no_warm_up, "the warm-up is missing"),
        (down_to_zero, "the plot's last rate is not 0"),
        (decay_a_step_early, "the first step of the decay has the peak"),
        (the_plots_only, "100 steps"),
        (a_share, "the share of the peak"),
        (dividing_by_no_warm_up, "of which 0 warm up .* divides by zero"),
        (dividing_by_no_decay, "and 0 decay.* divides by zero"),
        (the_peak_late, "the last step of the warm-up has the peak"),
        (a_list_of_rates, "a number is asked for"),
    ],
    "RepairedAdamW": [
        (Coupled, "still adds the decay to the gradient"),
        (CoupledInPlace, "a gradient is changed"),
        (WithoutDecay, "does not decay any more"),
        (WholeDecay, "without the learning rate"),
        (Growing, "lets the weights grow"),
        (Both, "decays twice"),
        (EpsInTheRoot, "with eps=0.01|weight_decay=0:"),
        (Uncorrected, "weight_decay=0: .* already the first step"),
        (FixedBetas, r"betas=\(0.6, 0.8\)"),
        (FixedEps, "with eps=0.01"),
        (FirstGroupsSettings, "two groups"),
        (FirstRate, "changes from step to step"),
        (OneCount, "weight_decay=0: "),
        (DecayOfAll, "without a gradient moved"),
        (Borrowed, "PyTorch's own"),
        (a_function, "a class is asked for"),
    ],
    "accumulated_in_one_pass": [
        (mean_of_means, "16, 3, 7 targets: that is the mean of the pieces' means"),
        (sum_of_means, "the sum of the pieces' means"),
        (sum_of_losses, "not yet the mean"),
        (over_all_places, "those without a target too"),
        (sum_over_pieces, "divided by the number of pieces"),
        (empty_pieces_too, "you get nan"),
        (all_at_once, "piece 2 was asked for before"),
        (one_batch, "piece 2 was asked for before"),
        (cleared_in_between, "as if the others had been cleared"),
        (loss_undivided, "the gradients are right, and the loss is"),
        (no_loss, "a `return` missing"),
    ],
    "largest_stable_rate": [
        (fooled_by_nan, "not stable|you say"),
        (bisected_with_nan, "not stable"),
        (the_unstable_one, "not stable"),
        (of_a_power_of_two, "may be missing"),
        (up_to_one_only, "0.003: .* may be missing"),
        (step_by_step, "more than 60 rates"),
        (a_fixed_number_of_halvings, "may be missing"),
        (a_percent_always, "to a thousandth"),
        (known_by_heart, "which would prove it"),
        (the_lowest_loss, "may be missing"),
        (an_absolute_gap, "may be missing"),
    ],
    "clipping_ratio": [
        (upside_down, "the other way round"),
        (of_squares, "the ratio of the squares"),
        (of_the_first_step, "the first step's alone"),
        (of_the_lengths_allowed, "whatever the optimizer does"),
        (as_guessed_for_adam, "SGD, 20 steps"),
        (always_scaled, "SGD, 12 steps"),
        (one_optimizer_for_both, "Adam, 20 steps|momentum, 20 steps"),
        (going_on, "you say"),
        (clipped_for_good, "changed what it was given"),
        (number_by_number, "you say"),
    ],
    "decaying": [
        (by_the_name, "PyTorch's own LayerNorm: 1.weight is a vector"),
        (the_head_twice, "would decay twice"),
        (of_the_state, "would decay twice"),
        (the_frozen_too, "is frozen"),
        (blocks_only, "tok_emb.weight is a matrix, and missing"),
        (everything, "is a vector"),
        (the_biases_too, "is a vector"),
        (the_number, "a list of names is asked for"),
        (the_tensors, "a list of names is asked for"),
        (linear_layers_only, "is a matrix, and missing|decay twice"),
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


def test_the_broken_optimizer_is_refused_for_its_bug():
    broken = answers("exercises.ipynb")["BrokenAdamW"]
    assert check.ADAMW_MISTAKES["coupled"] in check.RepairedAdamW(broken).text


def test_the_plot_is_that_of_the_shape_of_haegele_and_others():
    rates = check.plotted_rates()
    assert rates[:5] == pytest.approx([0.004, 0.008, 0.012, 0.016, 0.02])
    assert set(rates[4:15]) == {0.02} and rates[18] == 0.01 and rates[23] == 0.005
    assert rates == [by_minimum(step, *check.PLOTTED) for step in range(30)]


def test_how_many_decay_is_not_given_away():
    for answer, _ in WRONG["decaying"]:
        assert "74" not in check.decaying(answer, 75).text
