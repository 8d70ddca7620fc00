"""Appendix A: pytorch. Promoted from appendix_a_pytorch/appendix_a.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from shared.finite import checked_loss, finite, step_that_counts

__all__ = ["finite_differences", "Value", "NeuralNetwork", "ToyDataset",
    "compute_accuracy", "make_rings", "train_network"]  # fmt: skip


# appendix_a.ipynb: finite-differences
def finite_differences(f, x, eps=1e-4):
    """The gradient of a scalar function at x, by trying: `f(x) -> ()`, result in the shape of x.

    Each number is moved by eps both ways, the rest held; x should be float64, and comes back unchanged.
    ValueError where eps is lost beside x, as in whole numbers, or f is not finite.
    """
    eps = step_that_counts(x, eps)
    # not zeros_like, which would copy x's strides, and then `view` might refuse
    gradient = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    for i in range(x.numel()):
        nudge = torch.zeros_like(gradient)
        nudge.view(-1)[i] = eps
        # divided by twice eps, the distance between the two points
        gradient.view(-1)[i] = (f(x + nudge) - f(x - nudge)).item() / (2 * eps)
    return finite(gradient, "a slope")


# appendix_a.ipynb: value
class Value:
    """A number that remembers which Values it was computed from, and its slope for each of them."""

    def __init__(self, number, inputs=()):
        self.number = number
        self.inputs = inputs  # pairs: an earlier Value, and the derivative with respect to it
        self.grad = 0.0

    def __add__(self, other):
        return Value(self.number + other.number, [(self, 1.0), (other, 1.0)])

    def __mul__(self, other):
        return Value(self.number * other.number, [(self, other.number), (other, self.number)])

    def tanh(self):
        h = math.tanh(self.number)
        return Value(h, [(self, 1 - h * h)])

    def sources_first(self, found=None):
        """This Value and all behind it, as keys, each after the Values it was computed from."""
        found = {} if found is None else found
        if self not in found:
            for earlier, _ in self.inputs:
                earlier.sources_first(found)
            found[self] = 0.0
        return found

    def backward(self):
        """Add the gradient of this number to the `grad` of every Value behind it."""
        slopes = self.sources_first()
        slopes[self] = 1.0
        for value in reversed(slopes):  # a Value comes up when all that use it are done
            for earlier, slope in value.inputs:
                slopes[earlier] += slope * slopes[value]  # the chain rule
        for value, slope in slopes.items():
            value.grad += slope


# appendix_a.ipynb: neural-network
class NeuralNetwork(nn.Module):
    """Two hidden layers with ReLU: `(B, num_inputs) -> (B, num_outputs)` logits."""

    def __init__(self, num_inputs, num_outputs):
        super().__init__()  # first of all: it prepares the module to take in layers
        self.layers = nn.Sequential(
            nn.Linear(num_inputs, 30),
            nn.ReLU(),
            nn.Linear(30, 20),
            nn.ReLU(),
            nn.Linear(20, num_outputs),  # no ReLU after it: a score may be negative
        )

    def forward(self, x):
        return self.layers(x)


# appendix_a.ipynb: toy-dataset
class ToyDataset(Dataset):
    """Examples in memory: features `(N, ...)` and labels `(N,)`."""

    def __init__(self, X, y):
        if len(X) != len(y):
            raise ValueError(f"{len(X)} examples, but {len(y)} labels")
        self.features = X
        self.labels = y

    def __getitem__(self, index):
        return self.features[index], self.labels[index]

    def __len__(self):
        return self.labels.shape[0]


# appendix_a.ipynb: compute-accuracy
def compute_accuracy(model, dataloader):
    """The share of right predictions, from 0 to 1; the model is left in evaluation mode."""
    model.eval()
    correct = total_examples = 0
    with torch.no_grad():
        for features, labels in dataloader:
            predictions = model(features).argmax(dim=1)
            correct += (predictions == labels).sum().item()
            total_examples += len(labels)
    if not total_examples:
        raise ValueError("the loader gave no batch: there is nothing to count")
    return correct / total_examples


# appendix_a.ipynb: make-rings
def make_rings(n, seed):
    """n points of two classes, a disc (0) and a ring around it (1): `(n, 2)` and `(n,)`."""
    # its own generator, so that drawing data leaves the global one alone
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    angle = 2 * torch.pi * torch.rand(n, generator=generator)
    part = torch.rand(n, generator=generator)
    radius = torch.where(labels == 0, part.sqrt(), 1.5 + 0.8 * part)  # the root: evenly filled
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1), labels


# appendix_a.ipynb: train-network
def train_network(model, loader, num_epochs, lr, loss_function=F.cross_entropy):
    """Train in place by SGD; returns the mean loss per example of each epoch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for _ in range(num_epochs):
        model.train()
        total = count = 0
        for features, labels in loader:
            loss = checked_loss(loss_function(model(features), labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)  # .item(): a number, without the graph behind it
            count += len(labels)
        if not count:
            raise ValueError("the loader gave no batch: there is nothing to learn from")
        losses.append(total / count)  # per example, as the last batch may be smaller
    return losses
