"""One hand-in and the course's checks on it, in a process of its own, which `tools.grade` starts.

It is a script, because importing `tools` takes seconds. It reads a job and reports what happens, one JSON
list a line. IPython runs the cells, so they mean what they mean in Jupyter.
"""

import ast
import asyncio
import builtins
import contextlib
import importlib
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import tampering
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.page import as_hook, display_page
from traitlets.config import Config

LONGEST = 500  # characters of a remark
LARGEST = 2**30  # bytes of a file that a notebook writes


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
    sys.path[0] = os.getcwd()  # as in Jupyter: modules beside the notebook, not beside this script
    checks = importlib.import_module(f"shared.checks.{job['checks']}")
    for name in imports(checks) | imports(sys.modules["shared.checks"]):
        with contextlib.suppress(ImportError):  # the check that needs it will say so
            importlib.import_module(name)  # before somebody changes it
    course = SimpleNamespace(
        **{name: tampering.asked(getattr(checks, name)) for name in job["calls"]}
    )
    builtins.input = nobody_answers
    shell = Shell.instance(config=Config(HistoryManager={"enabled": False}), xmode="Minimal")
    shell.set_hook("show_in_pager", as_hook(display_page), 99)
    calls = " ".join(job["calls"].values())
    unguessed = dict.fromkeys(re.findall(r"\bguess_\w+", calls), ...)  # a guess may be left out
    loaded = [name for name in sys.modules if name.split(".")[0] == "shared"]
    result_class, right, again = sys.modules["shared.checks"].Result, set(), []

    def judge(name: str) -> None:
        tell("begins", name)
        try:
            result = eval(job["calls"][name], {**unguessed, **shell.user_ns, "check": course})
            ok, text = type(result) is result_class and result.ok is True, str(result.text)
        except BaseException as error:  # a function that is missing, or an exit in an answer
            ok, text = False, said(error)
        if changed := tampering.changes(before, tampering.marks(loaded)):
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

    with shell.builtin_trap:  # what it adds to Python is there for answers, too
        before = tampering.marks(loaded)
        limit(job["gigabytes"])
        sys.addaudithook(tampering.guard)
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
