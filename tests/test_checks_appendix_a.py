"""Every check of appendix A's exercises: accepts right answers, refuses the usual wrong ones."""

import functools
import re

import notebooks
import pytest
import torch
import torch.nn.functional as F

from shared.checks import appendix_a as check
from shared.pytorch import finite_differences, train_network

answers = functools.partial(notebooks.answers, "appendix_a_pytorch")


# A.1: parameters


def with_a_loop(sizes):
    total = 0
    for i in range(len(sizes) - 1):
        total += (sizes[i] + 1) * sizes[i + 1]
    return total


def without_biases(sizes):
    return sum(n * m for n, m in zip(sizes, sizes[1:]))


def biases_of_inputs(sizes):
    return with_a_loop(sizes) + sizes[0]


def one_bias_a_layer(sizes):
    return without_biases(sizes) + len(sizes) - 1


def without_the_output(sizes):
    return with_a_loop(sizes[:-1])


def the_books_only(sizes):
    return 752


def from_built_layers(sizes):
    layers = [torch.nn.Linear(n, m) for n, m in zip(sizes, sizes[1:])]
    return torch.tensor([p.numel() for layer in layers for p in layer.parameters()]).sum()


def as_text(sizes):
    return str(with_a_loop(sizes))


# A.2: broadcasting


def by_zip_longest(first, second):
    from itertools import zip_longest

    pairs = list(zip_longest(reversed(first), reversed(second), fillvalue=1))
    if any(n != m and 1 not in (n, m) for n, m in pairs):
        raise ValueError
    return torch.Size(m if n == 1 else n for n, m in reversed(pairs))


def aligned_at_the_left(first, second):
    longest = max(len(first), len(second))
    pairs = zip(*(shape + (1,) * (longest - len(shape)) for shape in (first, second)))
    return tuple(max(pair) for pair in pairs)


def never_refusing(first, second):
    longest = max(len(first), len(second))
    pairs = zip(*((1,) * (longest - len(shape)) + shape for shape in (first, second)))
    return tuple(max(pair) for pair in pairs)


def larger_wins(first, second):
    by_zip_longest(first, second)  # refuses rightly
    return never_refusing(first, second)


def equal_or_nothing(first, second):
    if first != second:
        raise ValueError
    return first


def same_rank_only(first, second):
    if len(first) != len(second):
        raise ValueError
    return by_zip_longest(first, second)


def stretched_to_multiples(first, second):
    longest = max(len(first), len(second))
    one, other = ((1,) * (longest - len(shape)) + shape for shape in (first, second))
    if any(max(n, m) % max(1, min(n, m)) for n, m in zip(one, other)):
        raise ValueError
    return tuple(max(n, m) for n, m in zip(one, other))


def by_a_generator(first, second):
    for pair in zip(reversed(by_zip_longest(first, second)), range(9)):
        yield pair[0]


def backwards_and_reversed(first, second):
    return list(by_a_generator(first, second))[::-1]


def without_leading_ones(first, second):
    shape = by_zip_longest(first, second)
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def without_any_ones(first, second):
    return tuple(n for n in by_zip_longest(first, second) if n != 1)


def as_one_number(first, second):
    return sum(by_zip_longest(first, second))


# A.3: the training loop


def training(*mistakes):
    """A training function with mistakes, which the check's own oracle knows by name."""

    def train(model, loader, num_epochs, lr):
        return check._training(model, loader, num_epochs, lr, mistakes)

    return train


def gradients_set_to_none(model, loader, num_epochs, lr):
    losses = []
    model.train()
    for _ in range(num_epochs):
        total = 0.0
        for features, labels in loader:
            loss = F.cross_entropy(model(features), labels, reduction="sum")
            model.zero_grad()
            (loss / len(labels)).backward()
            with torch.no_grad():
                for p in model.parameters():
                    p -= lr * p.grad
            total += loss.item()
        losses.append(total / len(loader.dataset))
    return losses


def cleared_before_the_step(model, loader, num_epochs, lr):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(num_epochs):
        total = 0
        for features, labels in loader:
            loss = F.cross_entropy(model(features), labels)
            loss.backward()
            optimizer.zero_grad()
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / len(loader.dataset))
    return losses


def holding_graphs(model, loader, num_epochs, lr):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(num_epochs):
        total = 0
        for features, labels in loader:
            loss = F.cross_entropy(model(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total = total + loss * len(labels)
        losses.append(total / len(loader.dataset))
    return losses


def one_epoch_only(model, loader, num_epochs, lr):
    return train_network(model, loader, 1, lr)


def too_fast(model, loader, num_epochs, lr):
    return train_network(model, loader, num_epochs, 2 * lr)


def with_log_softmax_and_tensors(model, loader, num_epochs, lr):
    losses = []
    for _ in range(num_epochs):
        total = 0
        for features, labels in loader:
            loss = F.nll_loss(torch.log_softmax(model(features), dim=1), labels)
            loss.backward()
            torch.optim.SGD(model.parameters(), lr=lr).step()
            for p in model.parameters():
                p.grad.zero_()
            total += loss.detach() * len(labels)
        losses.append(total / len(loader.dataset))
    return torch.stack(losses)


def cleared_once_an_epoch(model, loader, num_epochs, lr):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr), []
    for _ in range(num_epochs):
        optimizer.zero_grad()
        total = 0
        for features, labels in loader:
            loss = F.cross_entropy(model(features), labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / len(loader.dataset))
    return losses


def with_momentum(model, loader, num_epochs, lr):
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9), []
    for _ in range(num_epochs):
        total = 0
        for features, labels in loader:
            loss = F.cross_entropy(model(features), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        losses.append(total / len(loader.dataset))
    return losses


def losses_looked_at_afterwards(model, loader, num_epochs, lr):
    losses, dataset = [], loader.dataset
    for _ in range(num_epochs):
        train_network(model, loader, 1, lr)
        losses.append(F.cross_entropy(model(dataset.features), dataset.labels).item())
    return losses


def forgotten_return(model, loader, num_epochs, lr):
    train_network(model, loader, num_epochs, lr)


def losses_made_up(model, loader, num_epochs, lr):
    train_network(model, loader, num_epochs, lr)
    return [0.5] * num_epochs


# A.4: gradients that lie


def by_gradcheck(f, x):
    leaf = x.clone().double().requires_grad_()
    return torch.autograd.gradcheck(f, leaf, raise_exception=False)


def by_every_output(f, x):
    for i in range(x.numel()):
        leaf = x.clone().requires_grad_()
        f(leaf).flatten()[i].backward()
        if not torch.allclose(leaf.grad, finite_differences(lambda at: f(at).flatten()[i], x)):
            return False
    return True


def by_one_random_direction(f, x):
    draw = torch.Generator().manual_seed(3)
    follows, way = (torch.randn(x.shape, generator=draw).double() for _ in range(2))
    leaf = x.clone().requires_grad_()
    (follows * f(leaf)).sum().backward()
    rise = ((f(x + 1e-5 * way) - f(x - 1e-5 * way)) * follows).sum() / 2e-5
    return abs((leaf.grad * way).sum() - rise) < 1e-4


def at_a_place_of_its_own(f, x):
    return by_gradcheck(f, torch.linspace(-1, 1, x.numel()).view(x.shape))


def by_the_length(f, x):
    weights = torch.arange(1.0, 1 + x.numel()).view(x.shape)
    leaf = x.clone().requires_grad_()
    (f(leaf) * weights).sum().backward()
    trying = finite_differences(lambda at: (f(at) * weights).sum(), x)
    return abs(leaf.grad.norm() - trying.norm()) < 1e-5


def by_the_sum(f, x):
    leaf = x.clone().requires_grad_()
    f(leaf).sum().backward()
    return torch.allclose(leaf.grad, finite_differences(lambda at: f(at).sum(), x))


def first_number_only(f, x):
    leaf = x.clone().requires_grad_()
    (f(leaf) * torch.arange(1.0, 1 + x.numel()).view(x.shape)).sum().backward()
    weights = torch.arange(1.0, 1 + x.numel()).view(x.shape)
    trying = finite_differences(lambda at: (f(at) * weights).sum(), x)
    return torch.allclose(leaf.grad.flatten()[0], trying.flatten()[0])


def last_number_only(f, x):
    leaf = x.clone().requires_grad_()
    weights = torch.arange(1.0, 1 + x.numel()).view(x.shape)
    (f(leaf) * weights).sum().backward()
    trying = finite_differences(lambda at: (f(at) * weights).sum(), x)
    return torch.allclose(leaf.grad.flatten()[-1], trying.flatten()[-1])


def with_a_wide_tolerance(f, x):
    leaf = x.clone().requires_grad_()
    weights = torch.arange(1.0, 1 + x.numel()).view(x.shape)
    (f(leaf) * weights).sum().backward()
    trying = finite_differences(lambda at: (f(at) * weights).sum(), x)
    return torch.allclose(leaf.grad, trying, rtol=0.05, atol=0.05)


def trusting(f, x):
    return True


def suspicious(f, x):
    return False


def exactly_equal(f, x):
    leaf = x.clone().requires_grad_()
    f(leaf).sum().backward()
    return leaf.grad.equal(finite_differences(lambda at: f(at).sum(), x))


def moving_x(f, x):
    right = by_gradcheck(f, x)
    x += 1
    return right


# A.5: unequal shares


def by_hand(gradients, counts):
    result = {}
    for share, count in zip(gradients, counts):
        for name, gradient in share.items():
            result[name] = result.get(name, 0) + gradient * count
    return {name: gradient / sum(counts) for name, gradient in result.items()}


def by_tensors(gradients, counts):
    weights = torch.tensor(counts) / sum(counts)
    return [
        (name, torch.tensordot(weights, torch.stack([s[name] for s in gradients]), dims=1))
        for name in gradients[0]
    ]


def largest_share_only(gradients, counts):
    return gradients[counts.index(max(counts))]


def plain_mean(gradients, counts):
    return {name: sum(s[name] for s in gradients) / len(counts) for name in gradients[0]}


def plain_sum(gradients, counts):
    return {name: sum(s[name] for s in gradients) for name in gradients[0]}


def weighted_sum(gradients, counts):
    return {n: sum(s[n] * c for s, c in zip(gradients, counts)) for n in gradients[0]}


def divided_by_processes(gradients, counts):
    return {
        name: gradient / len(counts) for name, gradient in weighted_sum(gradients, counts).items()
    }


def first_share(gradients, counts):
    return gradients[0]


def in_place(gradients, counts):
    for share, count in zip(gradients, counts):
        for gradient in share.values():
            gradient *= count / sum(counts)
    return plain_sum(gradients, counts)


def one_vector(gradients, counts):
    combined = by_hand(gradients, counts)
    return {"all": torch.cat([gradient.flatten() for gradient in combined.values()])}


# A.6: the clock


def in_three_lines(run, synchronize, clock):
    synchronize()
    start, _, _ = clock(), run(), synchronize()
    return clock() - start


def waiting_twice(run, synchronize, clock):
    synchronize()
    synchronize()
    times = [clock()]
    run()
    synchronize()
    synchronize()
    times.append(clock())
    return round(times[1] - times[0], 6)


def made_up(run, synchronize, clock):
    run()
    return 6.0


def by_another_clock(run, synchronize, clock):
    import time

    return in_three_lines(run, synchronize, time.perf_counter)


def not_waiting(run, synchronize, clock):
    start = clock()
    run()
    return clock() - start


def waiting_at_the_end_only(run, synchronize, clock):
    start = clock()
    run()
    synchronize()
    return clock() - start


def waiting_at_the_start_only(run, synchronize, clock):
    synchronize()
    start = clock()
    run()
    return clock() - start


def waiting_after_the_clock(run, synchronize, clock):
    synchronize()
    start = clock()
    run()
    end = clock()
    synchronize()
    return end - start


def warming_up(run, synchronize, clock):
    run()
    return in_three_lines(run, synchronize, clock)


def never_running(run, synchronize, clock):
    return 6.0


def backwards(run, synchronize, clock):
    return -in_three_lines(run, synchronize, clock)


RIGHT = {
    "parameters_of": [with_a_loop],
    "broadcast_shape": [by_zip_longest],
    "repaired_training": [
        train_network,
        gradients_set_to_none,
    ],
    "gradient_is_right": [by_gradcheck, by_every_output, by_one_random_direction],
    "combined_gradients": [by_hand, by_tensors],
    "seconds_taken": [in_three_lines, waiting_twice],
}
WRONG = {
    "parameters_of": {
        without_biases: "the biases are missing",
        biases_of_inputs: "inputs have no biases",
        one_bias_a_layer: "a bias for each of its outputs",
        without_the_output: "the output layer is missing",
        the_books_only: "you say 752",
        as_text: "a number is asked for, not '752'",
        from_built_layers: "you build a Linear",
    },
    "broadcast_shape": {
        aligned_at_the_left: "",
        never_refusing: "do not fit: a ValueError is due",
        larger_wins: r"\(0,\) and \(1,\)",
        equal_or_nothing: "they fit, and you raise ValueError",
        same_rank_only: "they fit, and you raise ValueError",
        stretched_to_multiples: "do not fit: a ValueError is due",
        as_one_number: "a tuple is asked for, not 7",
        by_a_generator: "a tuple is asked for",
        backwards_and_reversed: r"a tuple is asked for, not \[3, 4\]",
        without_leading_ones: r"\(1, 3\) and \(3,\)",
        without_any_ones: "you say",
    },
    "repaired_training": {
        cleared_before_the_step: "the weights are what they were",
        holding_graphs: "use .item",
        one_epoch_only: "3 epochs, and you return 1 losses",
        too_fast: "the weights become not those",
        cleared_once_an_epoch: "the weights become not those",
        with_momentum: "the weights become not those",
        losses_looked_at_afterwards: "the losses that you return are not",
        forgotten_return: "a `return` missing",
        losses_made_up: "the losses that you return are not",
        with_log_softmax_and_tensors: "a list of losses is asked for",
    },
    "gradient_is_right": {
        by_the_sum: "mixes up what follows|forgets what follows",
        first_number_only: "forgets what follows|the last number only",
        last_number_only: "forgets what follows|the first number only",
        with_a_wide_tolerance: "one percent",
        trusting: "you believed",
        suspicious: "was accused",
        exactly_equal: "was accused",
        moving_x: "changed what it was given",
        at_a_place_of_its_own: "relu was accused",
        by_the_length: "the wrong sign",
    },
    "combined_gradients": {
        plain_mean: "the plain mean",
        plain_sum: "the sum of the shares",
        weighted_sum: "is not the gradient of all 36",
        divided_by_processes: "is not the gradient of all 36",
        largest_share_only: "is not the gradient of all 36",
        first_share: "is not the gradient of all 36",
        in_place: "changed what it was given",
        one_vector: "the names are",
    },
    "seconds_taken": {
        not_waiting: "only the order",
        waiting_at_the_end_only: "still busy",
        waiting_at_the_start_only: "only the order",
        waiting_after_the_clock: "only the order",
        warming_up: "called 2 times",
        never_running: "never called",
        made_up: "you measured 6",
        by_another_clock: "look at the clock that you were given",
        backwards: "you measured -6",
    },
}
PAIRS = [(name, answer) for name, right in RIGHT.items() for answer in right]
REFUSED = [(name, answer, says) for name, wrong in WRONG.items() for answer, says in wrong.items()]


@pytest.mark.parametrize("name, answer", PAIRS, ids=[answer.__name__ for _, answer in PAIRS])
def test_another_right_answer_is_accepted(name, answer):
    result = getattr(check, name)(answer)
    assert result.ok, result.text


@pytest.mark.parametrize(
    "name, answer, says", REFUSED, ids=[answer.__name__ for _, answer, _ in REFUSED]
)
def test_a_wrong_answer_is_refused_with_its_reason(name, answer, says):
    result = getattr(check, name)(answer)
    assert not result.ok and re.search(says, result.text), result.text


@pytest.mark.parametrize("mistakes", [*[(m,) for m in check.TRAINING_MISTAKES], ("softmax", "sum")])
def test_mistakes_in_training_are_named(mistakes):
    text = check.repaired_training(training(*mistakes)).text
    for mistake in mistakes:
        assert check.TRAINING_MISTAKES[mistake] in text


def test_the_broken_loop_is_refused_in_each_of_its_faults():
    broken = answers("exercises.ipynb")["broken_training"]
    assert "use .item" in check.repaired_training(broken).text

    def as_numbers(*given):
        return [loss.item() for loss in broken(*given)]

    text = check.repaired_training(as_numbers).text
    for mistake in ("no zero_grad", "softmax", "mean of means"):
        assert check.TRAINING_MISTAKES[mistake] in text
