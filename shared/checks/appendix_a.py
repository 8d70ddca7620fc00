"""Checks for the exercises of appendix A: `from shared.checks import appendix_a as check`."""

from itertools import combinations

import torch
import torch.nn.functional as F

from shared.checks import Verdict, brief, exercise, require, require_error
from shared.checks.means import entered, libraries, modules_built
from shared.checks.returned import number, yes_or_no

# What a wrong training loop may have done, as the end of "yours is a loop that ..."
TRAINING_MISTAKES = {
    "no zero_grad": "never clears the gradients",
    "softmax": "applies softmax before cross_entropy",
    "mean of means": "averages over batches, though the last one is smaller",
    "sum": "adds up the batches' losses and divides by nothing",
    "last": "returns the last batch's loss, not the mean of the epoch",
}


@exercise(guess=lambda answer: answer([2, 30, 20, 2]))
def parameters_of(answer):
    """`answer(sizes) -> int`: parameters of linear layers with biases, from one size to the next.

    How many there are is never said: it is to be predicted.
    """
    for sizes in [[2, 30, 20, 2], [50, 30, 20, 3], [3, 5], [4, 4, 4, 4, 4]]:
        layers = list(zip(sizes, sizes[1:]))
        want = sum(n * m + m for n, m in layers)
        with modules_built() as built:
            got = number(answer(list(sizes)))
        require(not built, f"you build a {built and built[0]}; write a formula, without a model")
        biases = sum(sizes[1:])
        reasons = {
            want - biases: ": the biases are missing",
            want + sizes[0]: ": inputs have no biases",
            layers[0][0] * layers[0][1] + layers[0][1]: ": that is the first layer alone",
            want - layers[-1][0] * layers[-1][1] - layers[-1][1]: ": the output layer is missing",
            want - biases + len(layers): ": a layer has a bias for each of its outputs, not one",
        }
        more = f", and there are {'more' if want > got else 'fewer'}"
        require(got == want, f"sizes {sizes}: you say {got}{reasons.get(got, more)}")
    return "NeuralNetwork(2, 2) has 752; weights and biases of every layer counted"


BROADCASTS = [
    ((3, 1), (4,)),
    ((2, 3), (2,)),
    ((5, 1, 7), (6, 1)),
    ((), (2, 2)),
    ((2, 3), (2, 3)),
    ((4,), (4, 1)),
    ((2, 3), (4, 3)),
    ((3,), (2, 1, 1)),
    ((0,), (1,)),
    ((1, 2), (0, 1)),
    ((0,), (2,)),
    ((), ()),
    ((1, 3), (3,)),  # a 1 that meets nothing, or another 1, stays
    ((2, 1), (1, 1)),
    ((1,), ()),
    ((6,), (3,)),  # a multiple does not fit
    ((3, 0), (3, 2)),
    ((8, 1, 6, 1), (7, 1, 5)),
    ((2, 1), (8, 4, 3)),
]


def _shapes_of_the_table(answer):
    """The answers to the card's four pairs, in words where two do not fit."""
    found = []
    for pair in BROADCASTS[:4]:
        try:
            found.append(answer(*pair))
        except ValueError:
            found.append("no")
    return found


@exercise(guess=_shapes_of_the_table)
def broadcast_shape(answer):
    """`answer(first, second) -> shape` of the sum of two tensors, a tuple, or ValueError.

    The shape that is due is never said: it is to be predicted.
    """
    for pair in BROADCASTS:
        for first, second in (pair, pair[::-1]):
            try:
                want = tuple(torch.broadcast_shapes(first, second))
            except RuntimeError:
                want = None
            about = f"{first} and {second}"
            if want is None:
                require_error(ValueError, f"{about} do not fit", answer, first, second, why=False)
                continue
            try:
                got = answer(first, second)
            except ValueError:
                raise Verdict(f"{about}: they fit, and you raise ValueError") from None
            require(isinstance(got, tuple), f"{about}: a tuple is asked for, not {brief(got)}")
            require(got == want, f"{about}: you say {tuple(got)}, and the sum has another shape")
            with entered() as found:
                answer.__wrapped__(first, second)
            asked = libraries(found, "torch", "numpy")
            require(
                not asked,
                f"your shapes are right, but you ask {asked and asked[0]}; write the rule",
            )
    return "PyTorch agrees, for scalars, for missing dimensions and for empty tensors, too"


def _training(model, loader, num_epochs, lr, mistakes=()):
    """train_network, with any of TRAINING_MISTAKES."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(num_epochs):
        found, counts = [], []
        for features, labels in loader:
            model.train()
            logits = model(features)
            scores = torch.softmax(logits, dim=1) if "softmax" in mistakes else logits
            loss = F.cross_entropy(scores, labels)
            if "no zero_grad" not in mistakes:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
            counts.append(len(labels))
        mean = sum(f * n for f, n in zip(found, counts)) / sum(counts)
        if "mean of means" in mistakes:
            mean = sum(found) / len(found)
        if "sum" in mistakes:
            mean = sum(found)
        if "last" in mistakes:
            mean = found[-1]
        losses.append(mean)
    return losses


def _small_run(seed, classes=2):
    """A model, and batches of which the last is smaller; in float64, so that rounding hides nothing."""
    from torch.utils.data import DataLoader

    from shared.pytorch import NeuralNetwork, ToyDataset, make_rings

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NeuralNetwork(2, classes).double()
    X, y = make_rings(38, seed=seed)
    return model, DataLoader(ToyDataset(X.double(), y), batch_size=16)


def _outcome(train, seed, num_epochs, mistakes=None, modes=None):
    """`(final weights, losses)` of a training function, or of _training with these mistakes.

    The model comes in evaluation mode; each time it is to learn, its mode is added to `modes`.
    """
    model, loader = _small_run(seed)
    model.eval()
    if modes is not None:
        model.register_forward_hook(
            lambda module, *call: modes.append(module.training) if torch.is_grad_enabled() else None
        )
    if mistakes is None:
        losses = train(model, loader, num_epochs, 0.2)
    else:
        losses = _training(model, loader, num_epochs, 0.2, mistakes)
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach(), losses


def _same(one, other):
    close = torch.tensor(one[1]).shape == torch.tensor(other[1]).shape
    close = close and torch.allclose(torch.tensor(one[1]), torch.tensor(other[1]), atol=1e-6)
    return close and torch.allclose(one[0], other[0], atol=1e-9)


@exercise(changes=(0,))
def repaired_training(answer):
    """`answer(model, loader, num_epochs, lr)` trains as train_network does, and returns its losses."""
    for seed, num_epochs in [(1, 3), (2, 1)]:
        modes = []
        weights, losses = _outcome(answer, seed, num_epochs, modes=modes)
        asked = "a list of losses is asked for, one for each epoch"
        require(isinstance(losses, list | tuple), f"{asked}, not {brief(losses)}")
        require(
            len(losses) == num_epochs, f"{num_epochs} epochs, and you return {len(losses)} losses"
        )
        for loss in losses:
            graph = isinstance(loss, torch.Tensor) and loss.requires_grad
            require(not graph, "the losses hold on to their graphs, which pile up: use .item()")
            tensor = isinstance(loss, torch.Tensor)
            require(not tensor, "the losses are to be numbers, and yours are tensors: use .item()")
        got = weights, [number(loss, asked) for loss in losses]
        if _same(got, _outcome(None, seed, num_epochs, ())):
            told = "the model came in evaluation mode, and you train it in this mode: call model.train()"
            require(all(modes), told)
            continue
        require(not weights.equal(_outcome(None, seed, 0, ())[0]), "the weights are what they were")
        for count in range(1, 4):
            for mistakes in combinations(TRAINING_MISTAKES, count):
                if _same(got, _outcome(None, seed, num_epochs, mistakes)):
                    named = " and ".join(TRAINING_MISTAKES[mistake] for mistake in mistakes)
                    raise Verdict(f"yours is a loop that {named}")
        trained_alike = torch.allclose(got[0], _outcome(None, seed, num_epochs, ())[0], atol=1e-9)
        what = "the losses that you return are not" if trained_alike else "the weights become not"
        raise Verdict(f"{what} those of section A.7's loop, and no known mistake explains it")
    return "the weights and the losses of section A.7's loop, whatever the size of the last batch"


def _function(forward, backward):
    """A function with a gradient of its own: `backward(x, slope_of_loss)`."""

    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return forward(x)

        @staticmethod
        def backward(ctx, slope):
            return backward(*ctx.saved_tensors, slope)

    return Custom.apply


def _only_at(i, change):
    """A right gradient of the sine but for one number, to which `change` is applied."""

    def backward(x, slope):
        gradient = slope * torch.cos(x)
        gradient.view(-1)[i] = change(gradient.view(-1)[i])
        return gradient

    return backward


HONEST = {
    "x ** 3": lambda x: x**3,
    "a sine with a right gradient of its own": _function(torch.sin, lambda x, s: s * torch.cos(x)),
    "softmax": lambda x: torch.softmax(x, dim=-1),
    "1000 * x": lambda x: 1000 * x,
    "the running sum": lambda x: x.cumsum(dim=-1),
    "relu": torch.relu,
}
LYING = {
    "a gradient of twice the size": _function(torch.sin, lambda x, s: 2 * s * torch.cos(x)),
    "a gradient of the wrong sign": _function(torch.cos, lambda x, s: s * torch.sin(x)),
    "a gradient that forgets what follows": _function(torch.sin, lambda x, s: torch.cos(x)),
    "a gradient wrong for the first number only": _function(torch.sin, _only_at(0, lambda g: -g)),
    "a gradient wrong for the last number only": _function(
        torch.sin, _only_at(-1, lambda g: 0 * g)
    ),
    "a gradient one percent too large": _function(torch.sin, lambda x, s: 1.01 * s * torch.cos(x)),
    "a gradient in the wrong order": _function(torch.sin, lambda x, s: (s * torch.cos(x)).flip(-1)),
    # right wherever the result is not 0: a square of the result cannot tell
    "a relu whose gradient forgets where it is 0": _function(torch.relu, lambda x, s: s),
    "a relu of twice the slope where it is 0": _function(
        torch.relu, lambda x, s: s * torch.where(x > 0, 1.0, -2.0)
    ),
    # right whenever all that follows has one slope, as under a plain sum
    "a gradient that mixes up what follows": _function(
        torch.sin, lambda x, s: s.flip(-1) * torch.cos(x)
    ),
}
# right near 0 and wrong beyond 10: nobody may try it at a place of their own choice
FAR_LIAR = _function(torch.sin, lambda x, s: s * torch.cos(x) * torch.where(x > 10, 2.0, 1.0))


@exercise
def gradient_is_right(answer):
    """`answer(f, x) -> bool`: whether autograd's gradient of f is right at x."""
    for shape in [(5,), (2, 3)]:
        draw = torch.Generator().manual_seed(len(shape))
        x = torch.randn(shape, generator=draw, dtype=torch.float64)
        for name, f in HONEST.items():
            require(
                yes_or_no(answer(f, x.clone())), f"{name} was accused, and its gradient is right"
            )
        for name, f in LYING.items():
            require(not yes_or_no(answer(f, x.clone())), f"you believed {name}")
        require(yes_or_no(answer(FAR_LIAR, x.clone())), "you accused a gradient that is right at x")
        far = x + 20
        require(
            not yes_or_no(answer(FAR_LIAR, far)),
            "you believed a gradient that is wrong at x, if not near 0",
        )
    return f"{len(HONEST)} honest functions believed, {len(LYING) + 1} liars caught"


@exercise
def combined_gradients(answer):
    """`answer(gradients, counts) -> {name: gradient}` of the mean loss over all shares together."""
    for counts in [(16, 16, 4), (5, 5), (7,), (1, 20, 3, 2)]:
        model, loader = _small_run(seed=len(counts))
        X, y = loader.dataset.features[: sum(counts)].float(), loader.dataset.labels[: sum(counts)]
        model.float()  # as in the lesson, so that weights made by torch.tensor fit

        def gradients_of(rows):
            model.zero_grad()
            F.cross_entropy(model(X[rows]), y[rows]).backward()
            return {name: p.grad.clone() for name, p in model.named_parameters()}

        ends = torch.tensor(counts).cumsum(0).tolist()
        shares = [gradients_of(slice(end - n, end)) for end, n in zip(ends, counts)]
        got, want = answer(shares, list(counts)), gradients_of(slice(0, sum(counts)))
        pairs = isinstance(got, list) and all(
            isinstance(pair, list | tuple) and len(pair) == 2 for pair in got
        )
        asked = f"a dictionary, {{name: gradient}}, is asked for, not {brief(got)}"
        require(isinstance(got, dict) or pairs, asked)
        got = dict(got)
        require(got.keys() == want.keys(), f"the names are {sorted(got)}, not {sorted(want)}")
        plain = {name: sum(share[name] for share in shares) for name in want}
        wrong = {
            "that is the plain mean, as if all shares were equally large": len(counts),
            "that is the sum of the shares' gradients": 1,
        }
        for name in want:
            kind = type(got[name]).__name__
            require(
                isinstance(got[name], torch.Tensor), f"{name}: a tensor is asked for, not {kind}"
            )
            right = got[name].shape == want[name].shape
            right = right and torch.allclose(
                got[name].to(want[name]), want[name], rtol=1e-4, atol=1e-6
            )
            reason = f"{name} is not the gradient of all {sum(counts)} examples"
            for why, divisor in wrong.items():
                if got[name].shape == want[name].shape and torch.allclose(
                    got[name].to(plain[name]), plain[name] / divisor, rtol=1e-4, atol=1e-6
                ):
                    reason = f"shares of {', '.join(map(str, counts))}: {why}"
            require(right, reason)
    return "equal to the gradient of the whole batch, for equal and for unequal shares"


class _Device:
    """A device that takes orders at once and works on them later, on a clock of its own."""

    def __init__(self, busy, giving, work):
        self.now, self.done_at, self.ran = 40.0, 40.0 + busy, 0
        self.giving, self.work = giving, work

    def order(self):
        self.ran += 1
        self.now += self.giving
        self.done_at = max(self.done_at, self.now) + self.work

    def synchronize(self):
        self.now = max(self.now, self.done_at)

    def clock(self):
        return self.now


@exercise
def seconds_taken(answer):
    """`answer(run, synchronize, clock) -> seconds` that run() takes on an asynchronous device."""
    for busy, giving, work in [(0.0, 1.0, 5.0), (100.0, 1.0, 5.0), (0.0, 2.0, 7.0)]:
        device = _Device(busy, giving, work)
        got = number(answer(device.order, device.synchronize, device.clock))
        require(device.ran > 0, "`run` was never called")
        require(device.ran == 1, f"`run` was called {device.ran} times; once is asked for")
        before = f"{'an idle device' if busy == 0 else 'a device that is still busy'}: "
        about = (
            before + f"giving the order takes {giving:g} s, the work {work:g}, you measured {got:g}"
        )
        reason = ""
        if got == giving:
            reason = ": only the order; wait before you look at the clock again"
        elif abs(got - 1000 * (giving + work)) < 1e-6:
            reason = ": these are milliseconds; seconds are asked for"
        elif busy and got > busy / 2:
            reason = ": work that was ordered earlier is in it; wait before you start"
        elif abs(got) < 0.5:
            reason = ": look at the clock that you were given, and at no other"
        require(abs(got - giving - work) < 1e-9, about + reason)
    return "the order and the work, and nothing that the device was doing before"
