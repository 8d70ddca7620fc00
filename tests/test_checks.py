"""The checks that lessons and tests of attention share: they accept what is true and refuse what is nearly true."""

import pytest
import torch
from torch import nn

from shared.attention import CausalAttention, MultiHeadAttention, SelfAttention_v2, influence
from shared.checks import (
    check_every_token_sees_its_past,
    check_no_token_sees_the_future,
    check_order_does_not_matter,
    check_rows_sum_to_one,
    check_same_values_and_gradients,
)

T, C = 6, 4


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(123)


@pytest.fixture
def x():
    return torch.randn(3, T, C)


# --- influence


def test_influence_tells_who_sees_whom(x):
    # a token's numbers move by 1 or by 2
    for factor in [2, -2]:
        assert torch.allclose(influence(lambda x, f=factor: f * x, x), 4 * torch.eye(T), atol=1e-5)
    copied = influence(lambda x: x.roll(1, dims=-2), x)
    assert torch.equal(copied > 0, torch.eye(T).roll(1, dims=0).bool())


def test_influence_needs_no_gradient(x):
    assert not influence(SelfAttention_v2(C, C), x).requires_grad


@pytest.mark.parametrize("text", range(3))
def test_influence_sees_a_leak_in_one_text(text, x):
    def leaking(x):
        out = x.cumsum(dim=-2)
        out[text] = out[text] + x[text, -1]
        return out

    with pytest.raises(AssertionError, match=f"token 0's output changed when token {T - 1}"):
        check_no_token_sees_the_future(leaking, x)


@pytest.mark.parametrize("source", range(C))
@pytest.mark.parametrize("target", range(C))
def test_influence_sees_a_leak_of_one_number_into_one(source, target, x):
    def leaking(x):
        out = x.cumsum(dim=-2)
        out[..., target] += x[..., -1:, source]
        return out

    with pytest.raises(AssertionError, match=f"token 0's output changed when token {T - 1}"):
        check_no_token_sees_the_future(leaking, x)


def test_a_leak_behind_a_layer_norm_is_a_leak(x):
    """LayerNorm undoes what is added to all numbers of a token alike."""
    leaking = nn.Sequential(nn.LayerNorm(C), SelfAttention_v2(C, C))
    with pytest.raises(AssertionError, match="token 0's output changed when token 1 changed"):
        check_no_token_sees_the_future(leaking, x)
    causal = nn.Sequential(nn.LayerNorm(C), CausalAttention(C, C, T, 0.0))
    check_no_token_sees_the_future(causal, x)
    check_every_token_sees_its_past(causal, x)


# --- who sees whom


def test_a_leak_of_nan_is_a_leak(x):
    with pytest.raises(AssertionError, match="future"):
        check_no_token_sees_the_future(lambda x: x + (x.flip(-2) * torch.nan), x)


def test_blind_tokens_are_refused(x):
    with pytest.raises(AssertionError, match="token 5's output did not change when token 4"):
        check_every_token_sees_its_past(lambda x: 2 * x, x)
    # all before it, but not itself; whole numbers, so that no rounding looks like sight
    with pytest.raises(AssertionError, match="token 5's output did not change when token 5"):
        check_every_token_sees_its_past(lambda x: x.cumsum(-2) - x, x.round())


def test_nan_is_not_sight(x):
    with pytest.raises(AssertionError, match="not a number"):
        check_every_token_sees_its_past(lambda x: x.cumsum(-2) * torch.nan, x)


@pytest.mark.parametrize("named", [check_no_token_sees_the_future, check_every_token_sees_its_past])
def test_dropout_is_named_as_the_cause(named, x):
    module = MultiHeadAttention(C, C, T, 0.5, num_heads=2)
    with pytest.raises(AssertionError, match=r"is dropout on\? Call .eval\(\) first"):
        named(module, x)
    named(module.eval(), x)


# --- rows and order


def test_rows_must_sum_to_one():
    check_rows_sum_to_one(torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
    for weights, says in [
        ([[1.0, 1.0]], "sum to 2"),
        ([[0.5, 0.5], [0.5, 0.51]], "sum to 1.01"),
        ([[0.5, 0.49], [0.5, 0.5]], "sum to 0.99"),
        ([[torch.nan, 0.5]], "nan"),
        ([[1.5, -0.5]], "negative"),
    ]:
        with pytest.raises(AssertionError, match=says):
            check_rows_sum_to_one(torch.tensor(weights))


# what depends on the order, and the change of order that shows it
PLACES = {
    "a mask": (CausalAttention(C, C, T, 0.0), "reversing"),
    "a little of the place": (
        lambda x: x + torch.linspace(0, 1e-3, T)[:, None],
        "reversing",
    ),
    "symmetric places": (
        lambda x: x * torch.tensor([1, 1, 2, 2, 1, 1])[:, None],
        "moving all tokens one place on",
    ),
    "the neighbors on a ring": (lambda x: x.roll(1, -2) + x.roll(-1, -2), "exchanging"),
    "not a number": (lambda x: x * torch.nan, "reversing"),
}


@pytest.mark.parametrize("name", PLACES)
def test_order_that_matters_is_refused(name, x):
    attention, says = PLACES[name]
    with pytest.raises(AssertionError, match=says):
        check_order_does_not_matter(attention, x)


@pytest.mark.parametrize("length", [1, 2, 6])
def test_order_that_does_not_matter_is_accepted(length, x):
    check_order_does_not_matter(SelfAttention_v2(C, C), x[:, :length])
    check_order_does_not_matter(SelfAttention_v2(C, C), x[0, :length])


# --- values and gradients


class Weighted(nn.Module):
    """softmax(x * w), or what `form` makes of x and w."""

    def __init__(self, form=lambda x, w: torch.softmax(x * w, dim=-1)):
        super().__init__()
        self.w, self.form = nn.Parameter(torch.linspace(0.5, 2, C)), form

    def forward(self, x):
        return self.form(x, self.w)


UNEQUAL = {
    "the output": lambda x, w: torch.softmax(x * w, dim=-1) + 1e-4,
    # equal in value: only the gradient tells
    "the gradient of x": lambda x, w: torch.softmax(x.detach() * w, dim=-1),
    "w": lambda x, w: torch.softmax(x * w.detach(), dim=-1) + 0 * w.sum(),
}


@pytest.mark.parametrize("name", UNEQUAL)
def test_each_difference_is_named(name, x):
    with pytest.raises(AssertionError, match=f"^{name} differs"):
        check_same_values_and_gradients(Weighted(), Weighted(UNEQUAL[name]), x, tolerance=1e-6)


def test_half_a_gradient_is_a_difference(x):
    def half(x, w):
        return torch.softmax((x + x.detach()) / 2 * w, dim=-1)

    with pytest.raises(AssertionError, match="the gradient of x differs"):
        check_same_values_and_gradients(Weighted(), Weighted(half), x, tolerance=1e-6)


def test_a_missing_gradient_counts_as_zero(x):
    """A parameter or an input that is not used has no gradient at all."""
    unused = Weighted(lambda x, w: x)
    check_same_values_and_gradients(unused, Weighted(lambda x, w: x + 0 * w), x, tolerance=0)
    used = Weighted(lambda x, w: x + (w - w.detach()))
    with pytest.raises(AssertionError, match="^w differs"):
        check_same_values_and_gradients(unused, used, x, tolerance=0)


def test_old_gradients_do_not_count(x):
    used, fresh = Weighted(), Weighted()
    (used(x) ** 2).sum().backward()
    check_same_values_and_gradients(used, fresh, x, tolerance=0)
    check_same_values_and_gradients(fresh, used, x.requires_grad_(), tolerance=0)
    assert x.grad is None


def test_other_parameters_are_another_module(x):
    one = SelfAttention_v2(C, C)
    with pytest.raises(AssertionError, match="the output differs"):
        check_same_values_and_gradients(one, SelfAttention_v2(C, C), x, tolerance=1e-6)
    with pytest.raises(AssertionError, match="different names"):
        check_same_values_and_gradients(one, SelfAttention_v2(C, C, True), x, tolerance=1e-6)
