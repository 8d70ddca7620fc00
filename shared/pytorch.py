"""Appendix A: pytorch. Promoted from appendix_a_pytorch/appendix_a.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from shared.finite import checked_loss, finite

__all__ = ["finite_differences", "NeuralNetwork", "ToyDataset", "compute_accuracy",
    "make_rings", "train_network"]  # fmt: skip


# appendix_a.ipynb: finite-differences
def finite_differences(f, x, eps=1e-4):
    """The gradient of a scalar function at x, by trying: `f(x) -> ()`, result in the shape of x.

    Each number is moved by eps both ways, the rest held; x should be float64, and comes back unchanged.
    ValueError where eps is lost beside x, as in whole numbers, or f is not finite.
    """
    if not x.is_floating_point() or (x + eps == x).any():
        raise ValueError(f"eps {eps} is lost beside x in {x.dtype}: pass x.double()")
    # not zeros_like, which would copy x's strides, and then `view` might refuse
    gradient = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
    for i in range(x.numel()):
        nudge = torch.zeros_like(gradient)
        nudge.view(-1)[i] = eps
        # twice eps: that is how far the two points are apart
        gradient.view(-1)[i] = (f(x + nudge) - f(x - nudge)).item() / (2 * eps)
    return finite(gradient, "a slope")


# appendix_a.ipynb: neural-network
class NeuralNetwork(nn.Module):
    """Two hidden layers with ReLU: `(B, num_inputs) -> (B, num_outputs)` logits."""

    def __init__(self, num_inputs, num_outputs):
        # before anything else: it prepares the module to take in layers
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_inputs, 30),
            nn.ReLU(),
            nn.Linear(30, 20),
            nn.ReLU(),
            # no ReLU after the last layer: a score may well be negative
            nn.Linear(20, num_outputs),
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
    # dropout and the like would make the count a matter of luck
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
        # per example, as the last batch may be smaller
        losses.append(total / count)
    return losses
