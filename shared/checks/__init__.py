"""What every check is made of, and the checks that lessons, exercises and tests share.

A check states a truth ("no target equals its input") and raises AssertionError, with a sentence that
says what is wrong, where the truth does not hold. The exercise checks of a chapter are in
`shared/checks/chNN.py`.
"""

import dis
import functools
import html
import inspect
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isclass

from shared.checks.cells import watch, why_older
from shared.checks.inputs import difference, picture, switch_back, switches

watch()


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
        kind = AssertionError if isinstance(error, Verdict) else type(error)
        print(f"{kind.__name__}: {(message.splitlines() or [''])[0]}")
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

    def _repr_html_(self):
        verdict, _, sentence = self.text.partition(": ")
        word, color = BADGES[verdict]
        return (
            f'<div style="white-space: pre-wrap; overflow-wrap: anywhere; font-size: 1.15em">'
            f'<b style="background: {color}; color: #fff; padding: 0.15em 0.6em; font-size: 1.3em">'
            f"{word}</b> {html.escape(sentence)}</div>"
        )


# A word and a color for each verdict; white on it is read on a light page and on a dark one.
BADGES = {
    "right": ("Right", "#1a7f37"),
    "wrong": ("Not yet", "#b35900"),
    "not solved yet": ("Not solved yet", "#57606a"),
    "not judged": ("Not judged", "#57606a"),
}


class Verdict(AssertionError):
    """What a check says of an answer; an AssertionError of the answer's own is none."""


def require(condition, message):
    """Raise a Verdict, an AssertionError, with this message unless `condition` holds."""
    if not condition:
        raise Verdict(message)


def require_error(error, case, call, *args, why=True):
    """`call(*args)` must raise `error`, and say `why`; Verdict for anything else, which begins with `case`."""
    due = f"{case}: a {error.__name__} is due"
    try:
        got = call(*args)
    except NotImplementedError:
        raise
    except error as raised:
        said = str(raised).strip() or not why
        require(said, f"{case}: the {error.__name__} must say why; it says nothing")
    except Verdict as verdict:
        raise Verdict(f"{due}, and {verdict}") from None
    except Exception as raised:
        raise Verdict(f"{due}, and {_told(raised)} was raised") from None
    else:
        raise Verdict(f"{due}, and {brief(got)} was returned")


def brief(value, width=60):
    """The value in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[: width - 4]} ..."


def exercise(check=None, *, changes=(), guess=None):
    """Turn `check(answer) -> sentence` into a check that returns a Result and never raises.

    A stub (NotImplementedError) is "not solved yet", whatever the answer does wrong is "wrong"; the
    sentence that `check` returns says what is right. Only Ctrl-C gets through.

    - What the answer is given is compared before and after each call, and must not change, except for
      the arguments at the places in `changes`.
    - `guess`, `answer -> value`, makes it a check of a prediction, `check(answer, guess)`: with the
      right answer, the guess is repeated beside this value. Without one (`...`), no wrong try is
      answered, since that could give it away.
    """
    if check is None:
        return functools.partial(exercise, changes=changes, guess=guess)

    @functools.wraps(check)
    def run(answer, *guessed):
        if len(guessed) > (guess is not None):
            raise TypeError(f"`check.{check.__name__}` takes the function and nothing else")
        if not callable(answer) or hasattr(answer, "named_parameters") and not isclass(answer):
            ask = f"`check.{check.__name__}({check.__name__})`"
            return Result(False, f"wrong: hand over the function itself, without `()`: {ask}")
        result = _judge(check, answer, changes, guessed and (guess, guessed[0]))
        unread = result or result.text.startswith("not judged")
        if guessed and guessed[0] is ... and not unread:
            asked = "first replace the dots by your guess, in the cell before the answer"
            return Result(False, f"not solved yet: {asked}; the check repeats it beside the result")
        return result

    run.is_exercise = True
    return run


def _judge(check, answer, changes, guessed):
    asked = inspect.unwrap(answer)
    name = getattr(asked, "__name__", "the answer").replace("<lambda>", "the answer")
    if why := why_older(answer):
        older = f"what would be judged is the older `{name}`"
        return Result(
            False,
            f"not judged: the cell that defines `{name}` has {why}, and {older}; correct that cell and run it",
        )
    home, returned, raised = _home(asked), [], []

    @functools.wraps(answer)
    def returning(*args, **kwargs):
        given = dict(zip(_parameters(asked, len(args)), args)) | kwargs
        watched = {key: part for i, (key, part) in enumerate(given.items()) if i not in changes}
        before, set_before = {key: picture(part, key) for key, part in watched.items()}, switches()
        try:
            got = answer(*args, **kwargs)
            if inspect.isgenerator(got):  # what goes wrong in it goes wrong here
                got = (part for part in list(got))
        except BaseException as error:
            raised.append(error)
            raise
        finally:
            switched = switch_back(set_before)
        require(got is not None, f"`{name}` returned None: is a `return` missing?")
        for key, part in watched.items():
            place = difference(before[key], picture(part, key))
            require(not place, f"`{name}` changed what it was given, {place}")
        once = f"`{name}` leaves `torch.{switched}` changed for all that comes after: use a `with` block"
        require(not switched, once)
        returned.append(got)
        return got

    try:
        text = check(answer if isclass(asked) else returning)
        if guessed and guessed[1] is not ...:
            run, guess = guessed
            text += f". You guessed {_said(guess)}, and it is {_said(run(answer))}"
        return Result(True, f"right: {text}")
    except KeyboardInterrupt:
        raise
    except Verdict as verdict:
        return Result(False, f"wrong: {verdict}")
    except BaseException as error:  # also exit(), or what an extension in Rust raises
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        frames = [frame for frame in frames if frame.f_code is not check.__code__]
        own = any(frame.f_globals is home for frame in frames) or any(error is e for e in raised)
        if isinstance(error, NotImplementedError) and frames[-1].f_globals is home:
            return Result(False, f"not solved yet: {_left_to_write(frames[-1], name)}")
        if isinstance(error, AssertionError) and not own:
            return Result(False, f"wrong: {error}")
        if own:
            return Result(False, f"wrong: calling `{name}` raised {_told(error)}")
        if not returned:
            return Result(False, f"not judged: the check itself stopped, {_told(error)}")
        due = (check.__doc__ or "").split("\n")[0].rstrip(".").replace("`answer", f"`{name}", 1)
        got = f"`{name}` returned {brief(returned[-1])}, which the check cannot use"
        if callable(returned[-1]):
            got += f" ({_told(error)})"
        return Result(False, f"wrong: {got}; asked for is {due}")


def _told(error):
    """An error's kind, and the first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".removesuffix(": ")


def _said(guess):
    """A guess or a result as a sentence has it: four digits, no quotation marks around words."""
    if isinstance(guess, list | tuple):
        marks = "[]" if isinstance(guess, list) else "()"
        return f"{marks[0]}{', '.join(map(_said, guess))}{marks[1]}"
    if isinstance(guess, int | float) and not isinstance(guess, bool):
        return f"{guess:,}" if isinstance(guess, int) else f"{guess:.4g}"
    return guess if isinstance(guess, str) else brief(guess)


def _home(asked):
    """The globals of the notebook, or of the module, in which the answer was written."""
    parts = vars(asked).values() if isclass(asked) else [asked]
    found = (getattr(part, "__globals__", None) for part in parts)
    return next((home for home in found if home is not None), None)


def _parameters(asked, count):
    """Names for so many arguments in their order."""
    try:
        names = list(inspect.signature(asked).parameters)
    except (TypeError, ValueError):
        names = []
    return names[:count] + [f"argument {i + 1}" for i in range(len(names), count)]


def _left_to_write(frame, name):
    """What is missing where NotImplementedError was raised: a whole function, or a part of one."""
    code = frame.f_code
    work = ("RETURN", "POP_JUMP", "FOR_ITER", "STORE", "YIELD")
    if any(op.opname.startswith(work) for op in dis.get_instructions(code)):
        return (
            f"a part of `{code.co_name}` still raises NotImplementedError (line {frame.f_lineno})"
        )
    where = code.co_qualname.rpartition("<locals>.")[2].removesuffix(".__init__")
    return f"write `{where if where.isidentifier() or '.' in where else name}`, then run this cell again"


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
        raise Verdict(f"token {t}'s output changed when token {j} changed: it sees the future")


def check_every_token_sees_its_past(attention, x):
    """Every output moves when its own token or an earlier one is replaced: `x` is `(B, T, d_in)`."""
    from shared.attention import influence

    _require_repeatable(attention, x)
    moved = influence(attention, x)
    require(not moved.isnan().any(), "some outputs are not a number: nobody can tell who sees whom")
    blind = (moved == 0).tril().nonzero().tolist()
    if blind:
        t, j = blind[-1]
        raise Verdict(f"token {t}'s output did not change when token {j} changed: it is blind")


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
