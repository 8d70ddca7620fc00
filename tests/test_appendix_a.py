"""What appendix A promotes: the book's numbers from the book's seeds, and each function against another way."""

import math
import random

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from shared.pictures import appendix_a as pictures
from shared.pytorch import (
    NeuralNetwork,
    ToyDataset,
    Value,
    compute_accuracy,
    finite_differences,
    make_rings,
    train_network,
)

X = torch.tensor([[-1.2, 3.1], [-0.9, 2.9], [-0.5, 2.6], [2.3, -1.1], [2.7, -1.5]])
Y = torch.tensor([0, 0, 0, 1, 1])


# the book's numbers


def test_the_books_weights_and_logits_come_out():
    torch.manual_seed(123)
    model = NeuralNetwork(50, 3)
    first = torch.tensor([-0.0577, 0.0047, -0.0702])
    last = torch.tensor([0.0344, -0.0971, -0.0509])
    assert torch.allclose(model.layers[0].weight[0, :3], first, atol=5e-5)
    assert torch.allclose(model.layers[0].weight[-1, -3:], last, atol=5e-5)
    torch.manual_seed(123)
    logits = model(torch.rand((1, 50)))
    assert torch.allclose(logits, torch.tensor([[-0.1262, 0.1080, -0.1792]]), atol=5e-5)


@pytest.mark.parametrize("inputs, outputs, count", [(50, 3, 2213), (2, 2, 752)])
def test_parameters_and_their_names(inputs, outputs, count):
    model = NeuralNetwork(inputs, outputs)
    assert sum(p.numel() for p in model.parameters()) == count
    names = [f"layers.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")]
    assert list(model.state_dict()) == names
    assert model(torch.rand(7, inputs)).shape == (7, outputs)


def test_the_books_training_comes_out():
    torch.manual_seed(123)
    loader = DataLoader(ToyDataset(X, Y), batch_size=2, shuffle=True, drop_last=True)
    list(loader)  # the book prints the batches first
    torch.manual_seed(123)
    model = NeuralNetwork(2, 2)
    losses = train_network(model, loader, num_epochs=3, lr=0.5)
    assert losses == pytest.approx([(0.75 + 0.65) / 2, (0.44 + 0.13) / 2, 0.015], abs=0.011)
    with torch.no_grad():
        logits = model(X)
    expected = [[2.8569, -4.1618], [2.5382, -3.7548], [2.0944, -3.1820]]
    expected += [[-1.4814, 1.4816], [-1.7176, 1.7342]]
    assert torch.allclose(logits, torch.tensor(expected), atol=2e-4)


# data


def test_a_dataset_answers_two_questions():
    dataset = ToyDataset(X, Y)
    assert len(dataset) == 5
    features, label = dataset[3]
    assert features.equal(X[3]) and label == 1
    images = ToyDataset(torch.zeros(3, 8, 8), torch.zeros(3))
    assert images[0][0].shape == (8, 8)


@pytest.mark.parametrize("labels", [4, 6, 0])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(ValueError, match=f"5 examples, but {labels} labels"):
        ToyDataset(X, torch.zeros(labels))


@pytest.mark.parametrize("n", [2, 7, 320])
def test_rings_are_two_classes_with_a_gap_between(n):
    points, labels = make_rings(n, seed=1)
    assert points.shape == (n, 2) and labels.shape == (n,) and labels.dtype == torch.int64
    assert labels.sum() == n // 2
    distance = points.norm(dim=1)
    assert distance[labels == 0].max() <= 1 + 1e-6
    assert 1.5 - 1e-6 <= distance[labels == 1].min() and distance.max() <= 2.3 + 1e-6


def test_rings_come_from_their_seed_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    points, _ = make_rings(50, seed=1)
    assert torch.rand(3).equal(expected)
    assert points.equal(make_rings(50, seed=1)[0])
    assert not points.equal(make_rings(50, seed=2)[0])


def test_rings_lie_all_around():
    points, labels = make_rings(2000, seed=3)
    for label in (0, 1):
        of_class = points[labels == label]
        for quarter in [(1, 1), (1, -1), (-1, 1), (-1, -1)]:
            share = (of_class * torch.tensor(quarter) > 0).all(dim=1).float().mean()
            assert abs(share - 0.25) < 0.06  # four standard deviations of 1,000 draws
    inner_half_of_the_area = points[labels == 0].norm(dim=1) < 0.5**0.5
    assert abs(inner_half_of_the_area.float().mean() - 0.5) < 0.07


# accuracy


class Always(nn.Module):
    """Says class 1 whatever comes; notes in which mode it was asked, and whether gradients were on."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, x):
        self.asked.append((self.training, torch.is_grad_enabled()))
        return torch.tensor([0.0, 1.0]).expand(len(x), 2)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 9])
def test_accuracy_counts_examples_not_batches(batch_size):
    model = Always().train()
    assert compute_accuracy(model, DataLoader(ToyDataset(X, Y), batch_size)) == 2 / 5
    assert set(model.asked) == {(False, False)} and not model.training


# gradients


@pytest.mark.parametrize("shape", [(), (1,), (4,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x**3).sum(),
        lambda x: torch.sin(x).prod(),
        lambda x: x.reshape(-1).softmax(0)[0],
        lambda x: torch.logsumexp(3 * x.reshape(-1), 0),
    ],
    ids=["cubes", "product", "softmax", "logsumexp"],
)
def test_finite_differences_agree_with_autograd(f, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(leaf), leaf)
    kept = x.clone()
    found = finite_differences(f, x)
    assert found.shape == x.shape and x.equal(kept)
    assert torch.allclose(found, expected, atol=1e-6)


def test_finite_differences_read_any_order_in_memory_and_leave_no_graph():
    x = torch.arange(6.0, dtype=torch.float64).view(2, 3).T.requires_grad_()
    found = finite_differences(lambda at: (at**2).sum(), x)
    assert torch.allclose(found, 2 * x.detach(), atol=1e-6)
    assert not found.requires_grad and x.grad is None


def expression(draw, leaves, steps):
    """A random expression of the leaves, in which results are used again; the last one has used several."""
    results = list(leaves)
    for _ in range(steps):
        one, other = draw.choice(results), draw.choice(results)
        results.append(draw.choice([lambda: one + other, lambda: one * other, one.tanh])())
    return results[-1] * results[-2] + results[-3]


@pytest.mark.parametrize("seed", range(40))
def test_values_have_the_gradients_of_autograd(seed):
    numbers = [random.Random(seed).uniform(-1, 1) for _ in range(4)]
    ours = [Value(number) for number in numbers]
    theirs = [torch.tensor(n, dtype=torch.float64, requires_grad=True) for n in numbers]
    found = expression(random.Random(seed), ours, steps=15)
    expected = expression(random.Random(seed), theirs, steps=15)
    found.backward()
    expected.backward()
    assert found.number == pytest.approx(expected.item())
    for value, tensor in zip(ours, theirs):
        slope = 0.0 if tensor.grad is None else tensor.grad.item()
        assert value.grad == pytest.approx(slope, rel=1e-9, abs=1e-12)


def test_a_value_used_twice_gets_both_slopes_and_a_second_backward_adds():
    x = Value(0.5)
    doubled = x + x
    result = doubled * doubled  # 4 x²
    result.backward()
    assert (x.grad, doubled.grad, result.grad) == (4.0, 2.0, 1.0)
    result.backward()
    assert (x.grad, doubled.grad, result.grad) == (8.0, 4.0, 2.0)


def test_a_value_passes_its_slope_on_only_when_it_has_all_of_it():
    """`late` is used by `short` and by `long`, whose path back is longer: an order by depth would be wrong."""
    x = Value(0.3)
    late = x.tanh()
    long = late.tanh().tanh()
    short = late * long
    short.backward()
    leaf = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    t = leaf.tanh()
    (t * t.tanh().tanh()).backward()
    assert x.grad == pytest.approx(leaf.grad.item(), rel=1e-12)
    order = list(short.sources_first())
    assert order[0] is x and order[-1] is short and order.index(late) < order.index(long)


def test_a_step_of_values_goes_downhill():
    weight, bias = Value(2.0), Value(-1.0)

    def loss():
        error = (weight * Value(1.5) + bias).tanh() + Value(-0.2)
        return error * error

    before = loss()
    before.backward()
    for one in (weight, bias):
        one.number -= 0.1 * one.grad
    assert loss().number < before.number
    assert math.isfinite(weight.grad) and weight.grad == pytest.approx(1.5 * bias.grad)


# training


def test_training_is_the_plain_loop():
    def fresh():
        torch.manual_seed(9)
        return NeuralNetwork(2, 2).double()

    features, labels = make_rings(20, seed=4)
    features = features.double()
    loader = DataLoader(ToyDataset(features, labels), batch_size=8)  # 8, 8 and 4
    model, plain, expected = fresh(), fresh(), []
    for _ in range(3):
        total = 0.0
        for rows in torch.arange(20).split(8):
            loss = F.cross_entropy(plain(features[rows]), labels[rows], reduction="sum")
            gradients = torch.autograd.grad(loss / len(rows), list(plain.parameters()))
            for p, g in zip(plain.parameters(), gradients):
                p.data -= 0.2 * g
            total += loss.item()
        expected.append(total / 20)
    losses = train_network(model.eval(), loader, 3, lr=0.2)
    assert losses == pytest.approx(expected, abs=1e-12) and model.training
    for mine, theirs in zip(model.parameters(), plain.parameters()):
        assert torch.allclose(mine, theirs, atol=1e-12)


def test_training_takes_another_loss_and_a_list_of_batches():
    t = torch.linspace(0, 1, 12, dtype=torch.float64).view(-1, 1)
    neuron = nn.Linear(1, 1).double()
    losses = train_network(neuron, [(t, 3 * t - 1)], 2000, lr=0.5, loss_function=F.mse_loss)
    assert losses[-1] < 1e-9 < losses[0]
    assert neuron.weight.item() == pytest.approx(3, abs=1e-4)
    assert neuron.bias.item() == pytest.approx(-1, abs=1e-4)


def test_a_network_separates_what_a_line_cannot():
    torch.manual_seed(123)
    line, model = nn.Linear(2, 2), NeuralNetwork(2, 2)
    loader = DataLoader(ToyDataset(*make_rings(320, seed=123)), batch_size=32, shuffle=True)
    test = DataLoader(ToyDataset(*make_rings(200, seed=7)), batch_size=64)
    for one in (line, model):
        train_network(one, loader, 20, lr=0.3)
    assert compute_accuracy(model, test) > 0.98
    assert compute_accuracy(line, test) < 0.75  # no line gets more than two thirds of all points


# pictures


def words(fig):
    found = [text.get_text() for text in fig.axes[0].texts]
    plt.close(fig)
    return found


def test_a_sum_shows_its_numbers_and_which_are_stretched():
    fig = pictures.broadcast(torch.tensor([[1, 2], [3, 4]]), torch.tensor([10, 20]))
    faint = [patch for patch in fig.axes[0].patches if patch.get_linestyle() != "-"]
    assert len(fig.axes[0].patches) == 12 and len(faint) == 2
    assert {"11", "22", "13", "24", "(2, 2)", "(2,)"} <= set(words(fig))


def test_a_product_shows_the_sum_behind_an_entry():
    a, b = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5], [6]])
    assert "3·5 + 4·6 = 39" in words(pictures.product(a, b, 1, 0))


def test_a_transpose_reads_the_places_of_its_strides():
    found = words(pictures.memory(torch.tensor([[1, 2, 3], [4, 5, 6]])))
    assert "tensor2d.T, strides (1, 3)" in found and "one right: +3, one down: +1" in found


def test_an_epoch_shows_whom_it_leaves_out():
    fig = pictures.epochs([[[0, 2], [3, 1]]], 5)
    faint = [patch for patch in fig.axes[0].patches if patch.get_linestyle() != "-"]
    assert len(faint) == 1 and "4" in words(fig)


def test_the_bits_of_a_number_are_counted():
    fig = pictures.bits([torch.float32, torch.bfloat16, torch.float16])
    assert len(fig.axes[0].patches) == 32 + 16 + 16
    assert {"exponent: 8", "fraction: 23", "8 and 7", "5 and 10"} <= set(words(fig))


def test_a_network_shows_the_gradients_that_reach_its_neurons():
    x, t = torch.tensor([1.0, 2.0]), torch.tensor(0.0)
    W1, w2 = torch.full((1, 2), 0.5, requires_grad=True), torch.ones(1, requires_grad=True)
    h = W1 @ x  # 1.5, and so are o and half the gradient
    o = w2 @ h
    found = words(pictures.two_layers(x, t, W1, h, w2, o, (o - t) ** 2))
    assert found.count("grad 3.00") == 2 and "2.25" in found
