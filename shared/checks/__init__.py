"""What every check is made of, and the checks that lessons, exercises and tests share.

A check states a truth ("no target equals its input") and raises AssertionError, with a sentence that
says what is wrong, where the truth does not hold. The exercise checks of a chapter are in
`shared/checks/chNN.py`.
"""

import functools
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isfunction


@contextmanager
def fails(*errors, match=""):
    """Run a block that must fail, and print its error in one line.

    Raises AssertionError if the block raises nothing, or if `match` is not in the message. Other kinds
    of error pass through. Example: `with fails(ZeroDivisionError): 1 / 0`.
    """
    try:
        yield
    except errors as error:
        message = str(error.args[0]) if error.args else ""  # str(KeyError) would add quotes
        require(match in message, f"the message is {message!r}, without {match!r}")
        print(f"{type(error).__name__}: {(message.splitlines() or [''])[0]}")
    else:
        raise AssertionError(
            f"nothing was raised; {' or '.join(e.__name__ for e in errors)} was due"
        )


@dataclass(frozen=True)
class Result:
    """What an exercise check returns: `.ok`, and `.text`, the sentence that a notebook shows."""

    ok: bool
    text: str

    def __bool__(self):
        return self.ok

    def __repr__(self):
        return self.text


def exercise(check):
    """Turn `check(answer) -> sentence` into a check that returns a Result and never raises.

    A stub (NotImplementedError) is "not solved yet"; an AssertionError, or any other error of the
    answer, is "wrong"; the sentence that `check` returns says what is right.
    """

    @functools.wraps(check)
    def run(answer):
        name = getattr(answer, "__name__", "the answer")

        @functools.wraps(answer)
        def returning(*args, **kwargs):
            got = answer(*args, **kwargs)
            require(got is not None, f"`{name}` returned None: is a `return` missing?")
            return got

        try:
            return Result(True, f"right: {check(returning if isfunction(answer) else answer)}")
        except NotImplementedError:
            return Result(False, f"not solved yet: write `{name}`, then run this cell again")
        except AssertionError as error:
            return Result(False, f"wrong: {str(error) or f'an assertion in `{name}` failed'}")
        except Exception as error:
            return Result(
                False,
                f"wrong: calling `{name}`, or reading what it returned, raised {type(error).__name__}: {error}",
            )

    return run


def require(condition, message):
    """Raise AssertionError(message) unless `condition` holds (`assert`, but also under `python -O`)."""
    if not condition:
        raise AssertionError(message)


def check_round_trip(tokenizer, texts):
    """Every text comes back unchanged from `encode` and `decode`."""
    for text in texts:
        back = tokenizer.decode(tokenizer.encode(text))
        require(back == text, f"{text!r} came back as {back!r}")


def check_same_ids(encode, encode_too, texts):
    """Two encoders (text -> list of IDs) agree on every text."""
    for text in texts:
        one, other = encode(text), encode_too(text)
        require(one == other, f"{text!r}: {one} against {other}")


def check_targets_are_shifted(inputs, targets):
    """Targets are the inputs one position later: `(B, T), (B, T)`, target t is input t + 1.

    A batch of one and the same token throughout is refused too, since nothing can be seen from it.
    """
    require(inputs.shape == targets.shape, f"shapes differ: {inputs.shape} and {targets.shape}")
    require((inputs[:, 1:] == targets[:, :-1]).all(), "target t is not input t + 1")
    require((inputs != targets).any(), "the targets are the inputs themselves: nothing is shifted")


def check_rows_sum_to_one(weights):
    """Attention weights `(..., T, S)` are not negative, and each query's add up to 1."""
    sums = weights.sum(dim=-1)
    require((weights >= 0).all(), f"a weight is {weights.min().item():.4g}; none may be negative")
    worst = sums.flatten()[(sums - 1).abs().argmax()].item()
    require(abs(worst - 1) < 1e-4, f"the weights of a query sum to {worst:.4g}, not to 1")


def _require_repeatable(attention, x):
    """Refuse a module that draws anew at every call: its outputs move, whoever sees whom."""
    one, other = attention(x), attention(x)
    same = (one == other) | (
        one.isnan() & other.isnan()
    )  # not a number is not even equal to itself
    require(same.all(), "two calls with one input differ: is dropout on? Call .eval() first")


def check_no_token_sees_the_future(attention, x):
    """No output moves, by a single bit, when a later token is replaced: `x` is `(B, T, d_in)`."""
    from shared.attention import influence

    _require_repeatable(attention, x)
    leaks = (influence(attention, x).triu(diagonal=1) != 0).nonzero().tolist()
    if leaks:
        t, j = leaks[0]
        raise AssertionError(
            f"token {t}'s output changed when token {j} changed: it sees the future"
        )


def check_every_token_sees_its_past(attention, x):
    """Every output moves when its own token or an earlier one is replaced: `x` is `(B, T, d_in)`."""
    from shared.attention import influence

    _require_repeatable(attention, x)
    moved = influence(attention, x)
    require(not moved.isnan().any(), "some outputs are not a number: nobody can tell who sees whom")
    blind = (moved == 0).tril().nonzero().tolist()
    if blind:
        t, j = blind[-1]
        raise AssertionError(
            f"token {t}'s output did not change when token {j} changed: it is blind"
        )


def check_order_does_not_matter(attention, x):
    """Tokens in another order give the same outputs in that order: `x` is `(..., T, d_in)`.

    Tried with three orders: back to front, all tokens one place on, the first two exchanged.
    """
    import torch

    places, before = torch.arange(x.shape[-2]), attention(x)
    orders = {
        "reversing the order of the tokens": places.flip(0),
        "moving all tokens one place on": places.roll(1),
        "exchanging the first two tokens": torch.cat([places[:2].flip(0), places[2:]]),
    }
    for change, order in orders.items():
        gap = (attention(x[..., order, :]) - before[..., order, :]).abs().max().item()
        require(gap < 1e-5, f"{change} moved an output by {gap:.2g}")


def check_same_values_and_gradients(one, other, x, tolerance):
    """Two modules of equal parameters agree on x: in values, and in every gradient of a random loss."""
    import torch

    found = []
    for module in (one, other):
        leaf = x.detach().clone().requires_grad_()
        # gradients of before do not count, and where none flows back it is 0
        for part in (leaf, *module.parameters()):
            part.grad = torch.zeros_like(part)
        out = module(leaf)
        chosen = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)
        (out * chosen).sum().backward()
        grads = {name: p.grad for name, p in module.named_parameters()}
        found.append({"the output": out.detach(), "the gradient of x": leaf.grad, **grads})
    require(found[0].keys() == found[1].keys(), "the parameters have different names")
    for name, value in found[0].items():
        gap = (value - found[1][name]).abs().max().item()
        require(gap <= tolerance, f"{name} differs by {gap:.2g}")
