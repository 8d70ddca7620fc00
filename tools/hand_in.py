"""One hand-in and the course's checks on it, in a process of its own, which `tools.grade` starts.

It is a script, because importing `tools` takes seconds. It reads a job and reports what happens, one JSON
list a line. IPython runs the cells, so they mean what they mean in Jupyter. Whatever the checks rely on is
compared with what it was before the first cell: the loaded modules of `shared`, and what RELIED_ON names.
That catches the usual tricks and no more, since a student's code runs in this very process and can do
everything that this module can.
"""

import ast
import asyncio
import builtins
import contextlib
import functools
import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from pydoc import locate
from types import FunctionType, ModuleType, SimpleNamespace

import psutil
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.page import as_hook, display_page
from traitlets.config import Config

LONGEST = 500  # characters of a remark
LARGEST = 2**30  # bytes of a file that a notebook writes
RELIED_ON = (
    "builtins functools inspect json math os torch torch.Tensor torch.nn.Module torch.nn.functional"
)
NOTEBOOK = ("<ipython", "<string>", os.getcwd())  # where code of a notebook comes from
FRAMES = ("tb_frame", "gi_frame", "cr_frame", "ag_frame")
SHOWN = ("__repr__", "__str__", "__format__")  # a notebook may show tensors as it likes
DECIDES = "eq ne lt le gt ge bool class getattribute torch_function array_ufunc".split()


class Shell(InteractiveShell):
    """IPython without windows, in which `exit` ends nothing."""

    def enable_gui(self, gui=None):
        pass

    def ask_exit(self):
        pass


def nobody_answers(prompt=""):
    raise EOFError("nobody answers input() while notebooks are graded: assign a value instead")


def said(error: BaseException) -> str:
    """An error as a remark, whatever its class makes of it."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = f"{type(error).__name__} (its message cannot be shown)"
    return re.sub(r"<ipython-input[^>]*>, ", "", text[:LONGEST]).removesuffix(": ")


# --- what must not change -------------------------------------------------------------------------


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
        for key, thing in list(vars(found[name][0] or ast).items()):
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
                if (
                    callable(thing) and key not in SHOWN
                ):  # PyTorch replaces functions of its own, too
                    code = getattr(thing, "__code__", None)
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


# --- answers --------------------------------------------------------------------------------------


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


# --- the run --------------------------------------------------------------------------------------


def limit(gigabytes: float) -> None:
    """On Linux, limit the memory taken from now on, and the size of a file."""
    process = psutil.Process()
    if hasattr(process, "rlimit"):
        most = process.memory_info().vms + int(gigabytes * 2**30)
        process.rlimit(psutil.RLIMIT_AS, (most, most))
        process.rlimit(psutil.RLIMIT_FSIZE, (LARGEST, LARGEST))


def same_code(source: str, call: str) -> bool:
    """Whether a cell is this call, and nothing else."""
    try:
        return ast.unparse(ast.parse(source)) == call
    except (SyntaxError, ValueError):
        return False


def imports(module: ModuleType) -> set[str]:
    """The modules of `shared` that a module imports, also those that its functions import."""
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {node.module for node in found if (node.module or "").startswith("shared.")}
    return names | {
        f"shared.{a.name}" for node in found if node.module == "shared" for a in node.names
    }


async def run(job: dict, tell: Callable) -> None:
    """Run the cells from top to bottom, each check in its place, and at the end those that did not pass."""
    sys.path.insert(0, os.getcwd())  # as in Jupyter: modules beside the notebook
    checks = importlib.import_module(f"shared.checks.{job['checks']}")
    for name in imports(checks) | imports(sys.modules["shared.checks"]):
        with contextlib.suppress(ImportError):  # the check that needs it will say so
            importlib.import_module(name)  # before somebody changes it
    course = SimpleNamespace(**{name: asked(getattr(checks, name)) for name in job["calls"]})
    builtins.input = nobody_answers
    shell = Shell.instance(config=Config(HistoryManager={"enabled": False}), xmode="Minimal")
    shell.set_hook("show_in_pager", as_hook(display_page), 99)
    loaded = [name for name in sys.modules if name.split(".")[0] == "shared"]
    result_class, right, again = sys.modules["shared.checks"].Result, set(), []

    def judge(name: str) -> None:
        tell("begins", name)
        try:
            result = eval(job["calls"][name], {**shell.user_ns, "check": course})
            ok, text = type(result) is result_class and result.ok is True, str(result.text)
        except BaseException as error:  # a function that is missing, or an exit in an answer
            ok, text = False, said(error)
        if changed := changes(before, marks(loaded)):
            ok, text = False, f"not counted: the notebook changed {', '.join(changed[:3])}"
        right.update([name] if ok else [])
        tell("verdict", name, ok, text[:LONGEST])

    async def failure(number: int, source: str) -> BaseException | None:
        tell("begins", number)
        code, failed = source, None
        try:
            code = shell.transform_cell(source)
        except Exception:
            failed = sys.exc_info()
        done = await shell.run_cell_async(
            source, store_history=True, transformed_cell=code, preprocessing_exc_tuple=failed
        )
        return done.error_before_exec or done.error_in_exec

    with shell.builtin_trap:  # `display` is there for an answer, too
        before = marks(loaded)
        limit(job["gigabytes"])
        sys.addaudithook(guard)
        for number, source in job["cells"]:
            names = [name for name, call in job["calls"].items() if same_code(source, call)]
            if names:
                judge(names[0])
                shell.execution_count += 1
            elif isinstance(error := await failure(number, source), NameError):
                again.append((number, source))
            elif error:
                tell("remark", f"code cell {number}: {said(error)}")
        for number, source in again:  # what it needs may be in a later cell
            if error := await failure(number, source):
                tell("remark", f"code cell {number}: {said(error)}")
        for name in job["calls"]:
            if name not in right:
                judge(name)
    tell("end")


def main() -> None:
    job, channel = json.load(sys.stdin), os.dup(1)
    encode, write = json.JSONEncoder().encode, os.write
    for standard in range(3):  # what is printed is thrown away
        os.dup2(os.open(os.devnull, os.O_RDWR), standard)

    def tell(*step):
        write(channel, f"{encode(step)}\n".encode())

    try:
        asyncio.run(run(job, tell))
    except BaseException as error:
        tell("remark", f"the grader itself failed: {said(error)}")
    finally:
        os._exit(0)  # whatever threads still run


if __name__ == "__main__":
    main()
