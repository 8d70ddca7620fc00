"""What every exercise check does, whatever it checks: verdicts, errors, inputs, guesses, stale cells."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from shared.checks import BADGES, Result, Verdict, cells, exercise, require, require_error


@exercise
def double(answer):
    """`answer(x) -> 2 x`, for numbers."""
    require(answer(3) + 0 == 6, "3 doubled is 6")
    return "twice as much"


@exercise
def first(answer):
    """`answer(values) -> the first of them`."""
    for values in (VALUE["value"],):
        answer(values)
    return "looked at"


@exercise
def refused(answer):
    """`answer(x)` raises ValueError for a negative x."""
    require_error(ValueError, "x = -1", answer, -1)
    return "refused"


@exercise(guess=lambda answer: answer(20))
def predicted(answer):
    """`answer(x) -> 2 x`, after a guess for 20."""
    require(answer(3) == 6, "3 doubled is 6")
    return "twice as much"


VALUE = {}


# --- verdicts and errors


def asserts(x):
    assert x < 3, "x is too large"


def asserts_without_a_word(x):
    assert x < 3


class Stop(BaseException):
    pass


def stops(x):
    raise Stop("enough")


def leaves(x):
    raise SystemExit(3)


def generates(x):
    assert x < 3, "too large"
    yield 2 * x


def stub(x):
    """Twice x."""
    raise NotImplementedError("not solved yet")


def half_a_stub(x):
    if x < 3:
        return 2 * x
    raise NotImplementedError("not solved yet")


def with_a_helper(x):
    return 1 * stub(x)


def abstract(x):
    return torch.nn.Module()(x)


VERDICTS = [
    (lambda x: 2 * x, "right: twice as much"),
    (lambda x: 3 * x, "wrong: 3 doubled is 6"),
    (asserts, "wrong: calling `asserts` raised AssertionError: x is too large"),
    (asserts_without_a_word, "wrong: calling `asserts_without_a_word` raised AssertionError"),
    (generates, "wrong: calling `generates` raised AssertionError: too large"),
    (stops, "wrong: calling `stops` raised Stop: enough"),
    (leaves, "wrong: calling `leaves` raised SystemExit: 3"),
    (lambda x: 1 / 0, "wrong: calling `the answer` raised ZeroDivisionError: division by zero"),
    (lambda x: None, "wrong: `the answer` returned None: is a `return` missing?"),
    (
        lambda x: [x],
        "wrong: `the answer` returned [3], which the check cannot use; asked for is",
    ),
    (stub, "not solved yet: write `stub`, then run this cell again"),
    (with_a_helper, "not solved yet: write `stub`, then run this cell again"),
    (half_a_stub, "not solved yet: a part of `half_a_stub` still raises NotImplementedError"),
    (abstract, "wrong: calling `abstract` raised NotImplementedError: Module [Module]"),
    (6, "wrong: hand over the function itself, without `()`: `check.double(double)`"),
    (None, "wrong: hand over the function itself"),
    (torch.nn.Linear(1, 1), "wrong: hand over the function itself"),
    (torch.no_grad()(lambda x: 2 * x), "right: twice as much"),
    (functools.cache(asserts), "wrong: calling `asserts` raised AssertionError: x is"),
    (functools.partial(lambda x, y: x + y, y=3), "right: twice as much"),
]


@pytest.mark.parametrize("answer, text", VERDICTS, ids=range(len(VERDICTS)))
def test_the_verdict_says_whose_error_it_is(answer, text):
    result = double(answer)
    assert result.text.startswith(text) and result.ok == text.startswith("right")


def test_the_checks_own_error_is_not_the_answers():
    @exercise
    def faulty(answer):
        return open("/no/such/file").name

    assert faulty(abs).text.startswith("not judged: the check itself stopped, FileNotFoundError")


def test_a_callback_of_the_check_may_judge():
    @exercise
    def called(answer):
        def never(x):
            raise Verdict("it was called")

        answer(never)

    assert called(lambda f: f(1)).text == "wrong: it was called"


def test_control_c_gets_through():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        double(interrupted)


def says_why(x):
    raise ValueError("x is negative")


def says_nothing(x):
    raise ValueError


REFUSALS = [
    (says_why, "right: refused"),
    (says_nothing, "wrong: x = -1: the ValueError must say why; it says nothing"),
    (lambda x: [][0], "wrong: x = -1: a ValueError is due, and IndexError: list index out of"),
    (lambda x: 7, "wrong: x = -1: a ValueError is due, and 7 was returned"),
    (lambda x: None, "wrong: x = -1: a ValueError is due, and `the answer` returned None"),
    (stub, "not solved yet: write `stub`"),
]


@pytest.mark.parametrize("answer, text", REFUSALS, ids=range(len(REFUSALS)))
def test_an_error_that_is_due(answer, text):
    assert refused(answer).text.startswith(text)


def test_an_assertion_where_a_value_error_is_due():
    def asserted(x):
        assert x > 0, "no"

    due = "wrong: x = -1: a ValueError is due, and AssertionError: no was raised"
    assert refused(asserted).text == due


# --- inputs


class Items(torch.utils.data.Dataset):
    def __init__(self):
        self.rows, self._seen = [[1, 2], [3]], 0

    def __getitem__(self, i):
        self._seen += 1
        return self.rows[i]

    def __len__(self):
        return 2


def table(cells):
    return pd.DataFrame({"text": cells, "label": [0, 1]}, index=[4, 7])


def values():
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.1))
    return {
        "list": [3, 1, 2],
        "nested": [{"a": [1]}, {"b": (2, {3})}],
        "dict": {"a": 1, "b": 2},
        "bytes": bytearray(b"ab"),
        "tensor": torch.tensor([1.0, torch.nan]),
        "leaf": torch.ones(2, requires_grad=True),
        "array": np.array([1.0, np.nan]),
        "objects": np.array([[1], "a"], dtype=object),
        "table": table(["a", "b"]),
        "table of lists": table([[1], [2]]),
        "module": layer,
        "tied": torch.nn.ModuleList([layer[0], layer[0]]),
        "dataset": Items(),
        "loader": torch.utils.data.DataLoader(Items(), batch_size=None),
    }


def frozen(module):
    module.requires_grad_(False)


def to(attribute, value):
    return lambda x: setattr(x, attribute, value)


CHANGES = [
    ("list", list.sort),
    ("list", list.pop),
    ("list", lambda x: x.append(4)),
    ("nested", lambda x: x[0]["a"].append(2)),
    ("nested", lambda x: x[1]["b"][1].add(4)),
    ("nested", list.reverse),
    ("dict", lambda x: x.pop("a")),
    ("dict", lambda x: x.update(c=3)),
    ("dict", lambda x: x.update(b=3)),
    ("bytes", bytearray.clear),
    ("tensor", lambda x: x.zero_()),
    ("tensor", lambda x: x.data.add_(1)),
    ("tensor", lambda x: x.requires_grad_()),
    ("tensor", lambda x: x.resize_(1)),
    ("leaf", lambda x: x.sum().backward()),
    ("leaf", lambda x: x.requires_grad_(False)),
    ("leaf", lambda x: x.detach().mul_(2)),
    ("array", lambda x: x[::-1].sort()),
    ("array", lambda x: x.fill(1)),
    ("objects", lambda x: x[0].append(1)),
    ("table", lambda x: x.insert(0, "key", 1)),
    ("table", lambda x: to("index", [0, 1])(x)),
    ("table", lambda x: to("columns", ["Text", "label"])(x)),
    ("table", lambda x: x.pop("label")),
    ("table", lambda x: x.loc.__setitem__((4, "text"), "c")),
    ("table of lists", lambda x: x["text"][4].append(2)),
    ("module", torch.nn.Module.eval),
    ("module", lambda x: x[1].eval()),
    ("module", frozen),
    ("module", lambda x: frozen(x[0].bias)),
    ("module", lambda x: x[0].weight.data.zero_()),
    ("module", lambda x: to("p", 0.0)(x[1])),
    ("module", lambda x: x.pop(1)),
    ("module", lambda x: x.register_forward_hook(print)),
    ("module", torch.nn.Module.double),
    ("tied", lambda x: x.__setitem__(0, torch.nn.Linear(2, 2))),
    ("dataset", lambda x: x[0].append(1)),
    ("dataset", lambda x: x.rows.pop()),
    ("loader", lambda x: x.dataset.rows[1].append(0)),
]


@pytest.mark.parametrize("name, change", CHANGES, ids=range(len(CHANGES)))
def test_an_answer_that_changes_what_it_was_given_is_refused(name, change):
    VALUE["value"] = values()[name]
    result = first(lambda x: (change(x), 1))
    assert result.text.startswith("wrong: `the answer` changed what it was given, "), result.text


@pytest.mark.parametrize("name", values())
def test_an_answer_that_only_looks_is_accepted(name):
    VALUE["value"] = values()[name]
    assert first(lambda x: list(x)[0]).ok if name != "module" else first(lambda x: x[0]).ok
    assert first(lambda x: (len(x), repr(x))).ok
    assert first(lambda values=None: values).ok


def test_a_model_that_runs_and_learns_keeps_its_weights_until_a_step():
    VALUE["value"] = model = torch.nn.Linear(2, 1)

    def grad(model):
        model(torch.ones(1, 2)).sum().backward()
        return model.weight.grad

    assert first(grad).ok
    assert not first(lambda model: model.weight.data.sub_(model.weight.grad)).ok
    assert model.weight.grad is not None


def test_what_may_be_changed_may_be_changed():
    @exercise(changes=(0,))
    def trained(answer):
        answer([1], [2])
        return "trained"

    assert trained(lambda model, rows: (model.append(1), 1)).ok
    assert "`rows`: work on a copy" in trained(lambda model, rows: (rows.append(1), 1)).text


@pytest.mark.parametrize(
    "switch, back",
    [
        (torch.set_grad_enabled, torch.is_grad_enabled),
        (torch.set_default_dtype, torch.get_default_dtype),
    ],
    ids=["grad", "dtype"],
)
def test_what_is_switched_for_everybody_is_refused_and_switched_back(switch, back):
    before = back()

    def switching(x):
        switch(False if before is True else torch.float64)
        return 2 * x

    assert f"leaves `torch.{switch.__name__}` changed" in double(switching).text
    assert back() == before


# --- guesses


@pytest.mark.parametrize(
    "guess, text",
    [
        (41, "right: twice as much. You guessed 41, and it is 40"),
        ("many", "right: twice as much. You guessed many, and it is 40"),
        (1 / 3, "right: twice as much. You guessed 0.3333, and it is 40"),
        ([1, (0.5, "x")], "right: twice as much. You guessed [1, (0.5, x)], and it is 40"),
        (..., "right: twice as much"),
    ],
)
def test_a_guess_is_repeated_beside_the_result(guess, text):
    assert predicted(lambda x: 2 * x, guess).text == text
    assert predicted(lambda x: 2 * x).text == "right: twice as much"


def test_a_wrong_try_tells_nothing_before_there_is_a_guess():
    for wrong in (stub, lambda x: 3 * x, lambda x: 1 / 0):
        text = predicted(wrong, ...).text
        assert text.startswith("not solved yet: first replace the dots by your guess")
        assert "6" not in text
    assert predicted(lambda x: 3 * x, 40).text == "wrong: 3 doubled is 6"


def test_only_a_prediction_takes_a_guess():
    with pytest.raises(TypeError, match="takes the function and nothing else"):
        double(lambda x: 2 * x, 40)


# --- stale cells


@pytest.fixture
def shell():
    one = InteractiveShell.instance()
    cells.watch(one)
    cells.watch(one)  # as another chapter's check would
    one.user_ns["double"], one.user_ns["check"] = double, double
    yield one
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    "broken, why",
    [
        ("def f(x):\n    return 2 * (x", "a syntax error"),
        ("def f(x)\n    return 2 * x", "a syntax error"),
        ("x = 1\ndef f(x):\nreturn 2 * x", "a syntax error"),
        ("f = lambda x 2 * x", "a syntax error"),
        ("@nothing\ndef f(x):\n    return 2 * x", "an error (NameError)"),
    ],
)
def test_an_older_definition_is_not_judged(shell, broken, why, capsys):
    shell.run_cell("def f(x):\n    return 2 * x")
    shell.run_cell(broken)
    result = shell.run_cell("check(f)").result
    older = (
        f"not judged: the cell that defines `f` has {why}, and what would be judged is the older"
    )
    assert not result.ok and result.text.startswith(older)
    shell.run_cell("def f(x):\n    return 2 * x")
    assert shell.run_cell("check(f)").result.ok


def test_other_cells_may_fail(shell, capsys):
    shell.run_cell("def f(x):\n    return 2 * x")
    shell.run_cell("def g(x:\n    f(x)")
    shell.run_cell("def f(x):\n    return 2 * x\n\nf(1) + ''")
    assert shell.run_cell("check(f)").result.ok


# --- what is seen


@pytest.mark.parametrize("verdict", BADGES)
def test_a_result_is_a_word_and_a_color(verdict):
    result = Result(verdict == "right", f"{verdict}: 1 < 2: `a`\nb")
    word, color = BADGES[verdict]
    shown = result._repr_html_()
    assert f">{word}</b> 1 &lt; 2: `a`\nb</div>" in shown and color in shown
    assert repr(result) == result.text


@pytest.mark.parametrize("verdict", BADGES)
def test_white_is_read_on_the_color(verdict):
    parts = [int(BADGES[verdict][1][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    light = sum(c * w for c, w in zip(linear, (0.2126, 0.7152, 0.0722)))
    assert 1.05 / (light + 0.05) > 4.5
