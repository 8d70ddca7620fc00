"""By what means an answer gets its result, where a card rules some out."""

import contextlib
import dis
import inspect
import sys
from types import CodeType, FunctionType


@contextlib.contextmanager
def _profiled(note):
    """Let `note(frame, event, argument)` see every call in the block, as sys.setprofile has it."""
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


@contextlib.contextmanager
def entered():
    """Collect, while the block runs, the names of the modules whose functions are called: a set."""
    found = set()

    def note(frame, event, function):
        if event == "call":
            found.add(frame.f_globals.get("__name__", ""))
        elif event == "c_call":
            owner = getattr(function, "__self__", None)
            kind = owner if inspect.ismodule(owner) or inspect.isclass(owner) else type(owner)
            found.add(
                getattr(function, "__module__", None) or getattr(kind, "__module__", "") or ""
            )

    with _profiled(note):
        yield found


@contextlib.contextmanager
def modules_built():
    """Collect, while the block runs, the types of the torch modules that are made: a list."""
    import torch

    found, init = [], torch.nn.Module.__init__

    def noted(self, *args, **kwargs):
        found.append(type(self).__name__)
        init(self, *args, **kwargs)

    torch.nn.Module.__init__ = noted
    try:
        yield found
    finally:
        torch.nn.Module.__init__ = init


def libraries(found, *names):
    """Those of the libraries that are among the modules found, such as "torch" for "torch.nn"."""
    return [name for name in names if any(f"{one}.".startswith(f"{name}.") for one in found)]


def loop_in(function):
    """What loops in the function, or in one that it names: "a loop", "range", or "" for neither."""
    function = inspect.unwrap(function)
    found, codes, seen = "", [function.__code__], set()
    while codes:
        code = codes.pop()
        if code in seen:
            continue
        seen.add(code)
        if any(
            op.opname == "FOR_ITER" or "BACKWARD" in op.opname for op in dis.get_instructions(code)
        ):
            found = "a loop"
        elif any("range" in name for name in code.co_names):
            found = found or "range"
        codes += [part for part in code.co_consts if isinstance(part, CodeType)]
        named = (function.__globals__.get(name) for name in code.co_names)
        codes += [
            part.__code__
            for part in named
            if isinstance(part, FunctionType) and part.__globals__ is function.__globals__
        ]
    return found


@contextlib.contextmanager
def called(*functions):
    """Collect, while the block runs, the names of those of these functions that are called: a set."""
    found, codes = set(), {inspect.unwrap(one).__code__: one.__name__ for one in functions}

    def note(frame, event, _):
        if event == "call" and frame.f_code in codes:
            found.add(codes[frame.f_code])

    with _profiled(note):
        yield found
