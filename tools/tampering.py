"""What a hand-in must not do to get its points: change what the checks rely on, or answer with yes-men.

Whatever the checks rely on is compared with what it was before the first cell: the loaded modules of
`shared`, and what RELIED_ON names. That catches the usual tricks and no more, since a student's code runs
in this very process and can do everything that this module can.
"""

import functools
import os
import sys
from collections.abc import Callable
from pydoc import locate
from types import FunctionType, ModuleType

RELIED_ON = (
    "builtins functools inspect json math os torch torch.Tensor torch.nn.Module torch.nn.functional"
)
NOTEBOOK = ("<ipython", "<string>", os.getcwd())  # where code of a notebook comes from
FRAMES = ("tb_frame", "gi_frame", "cr_frame", "ag_frame")
SHOWN = ("__repr__", "__str__", "__format__")  # a notebook may show tensors as it likes
DECIDES = "eq ne lt le gt ge bool class getattribute torch_function array_ufunc".split()


def parts(thing, depth: int = 3) -> list:
    """A value, and what a list, a dict or a function is made of, to be compared by identity."""
    if type(thing) in (list, tuple, set, dict):
        return [thing, *thing, *(thing.values() if type(thing) is dict else ())]
    if type(thing) is not FunctionType or not depth:
        return [thing]
    found = [thing, thing.__code__, thing.__defaults__, thing.__kwdefaults__]
    for cell in thing.__closure__ or ():
        found += parts(cell.cell_contents, depth - 1)
    return found


def marks(loaded: list[str]) -> dict[str, list]:
    """The parts of everything the checks rely on, by name: these modules of the course, and RELIED_ON."""
    found = {}
    for name in loaded:
        found[name] = [sys.modules.get(name)]
        for key, thing in list(vars(found[name][0] or os).items()):
            if callable(thing) or name.startswith("shared.checks") and not key.startswith("__"):
                if not isinstance(thing, ModuleType):
                    found[f"{name}.{key}"] = parts(thing)
            if isinstance(thing, type) and thing.__module__ == name:
                for inner, part in list(vars(thing).items()):
                    found[f"{name}.{key}.{inner}"] = parts(part)
    for name in RELIED_ON.split():
        owner = locate(name) if name.split(".")[0] in sys.modules else None
        for base in reversed(getattr(owner, "__mro__", (owner,) if owner else ())):
            for key, thing in list(vars(base).items()):
                if callable(thing) and key not in SHOWN:
                    code = getattr(thing, "__code__", None)
                    # PyTorch replaces functions of its own, too
                    library = code and not code.co_filename.startswith(NOTEBOOK)
                    found[f"{name}.{key}"] = ["a library's"] if library else [thing]
    return found


def changes(before: dict[str, list], now: dict[str, list]) -> list[str]:
    """The names whose parts have changed, and what was added to the course; an outer name stands for inner ones."""
    names = [*before, *(name for name in now if name.startswith("shared") and name not in before)]
    found = [n for n in names if [*map(id, before.get(n, ()))] != [*map(id, now.get(n, ()))]]
    return [n for n in found if not n.startswith(tuple(f"{other}." for other in found))]


def guard(event: str, args: tuple) -> None:
    """An audit hook: a notebook gets PermissionError if it reaches for a frame, and so for ours."""
    looks = event == "sys._getframe" or event == "object.__getattr__" and args[1] in FRAMES
    if not looks or guard.busy:
        return
    guard.busy = True  # this looks at frames, too
    try:
        frame = sys._getframe(1)
        while frame and frame.f_code.co_filename == guard.inspect:
            frame = frame.f_back
        if frame and frame.f_code.co_filename.startswith(NOTEBOOK):
            raise PermissionError("a notebook may not look at the frames of its callers")
    finally:
        guard.busy = False


guard.busy, guard.inspect = False, locate("inspect").__file__


def refuse_yes_men(name: str, value) -> None:
    """TypeError for an object that decides for itself what it equals; also for one in a list or a dict."""
    inner = value.values() if type(value) is dict else value
    for one in [value, *(inner if type(value) in (list, tuple, dict) else ())]:
        kind = type(one)
        own = [vars(base) for base in kind.__mro__ if base.__module__ == "__main__"]
        yes = any(f"__{word}__" in names for names in own for word in DECIDES)
        try:
            yes = yes or bool(one == object())
        except Exception:  # a tensor or a table, which can be compared with its own kind only
            pass
        if yes:
            raise TypeError(
                f"{name} is a {kind.__name__}, which decides for itself what it equals; use a plain value"
            )


def asked(check: Callable) -> Callable:
    """The check, but with answers that raise TypeError if they return such an object, or are one."""

    def plain(answer):
        refuse_yes_men("the answer", answer)
        if type(answer) is not FunctionType:
            return answer

        @functools.wraps(answer)
        def returning(*args, **kwargs):
            got = answer(*args, **kwargs)
            refuse_yes_men("what it returned", got)
            return got

        return returning

    return lambda *args, **kwargs: check(*map(plain, args), **kwargs)
