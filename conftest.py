"""What nbval 0.11 lets through, closed, stale pictures among it, and what it makes too much of: one failure for one cause.

A cell that raises an error, runs out of time or kills its kernel is one failure; the cells after it
are skipped, "not run". A cell whose output differs is a failure of its own, and the others go on.
A quick cell is run a second time at once, and its output and those of the cells after it must still
be the stored ones. A cell tagged "once: <reason>" is run once. `--quick=0` runs every cell once.
"""

import os
import time
from pathlib import PurePosixPath
from queue import Empty

import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, NbCellError

from tools import pictures

ALIVE_EVERY = 1.0  # seconds between two looks at whether the kernel still lives
QUICK = 0.5  # a cell that took fewer seconds is run twice
PATIENCE = (
    60  # seconds until what a finished cell has printed arrives; 5 are too few on a busy machine
)
# What nbval says of a cell that has done its work; whatever else it says, the cell has not.
GOES_ON = ("Cell outputs differ", "Unrun reference cell has outputs")
collect_ignore = ["my"]  # the reader's copies of the notebooks
STOPPED = pytest.StashKey[str]()  # why the rest of a notebook is not run
LONG = ("appendix_d", "appendix_e", "ch05", "ch06", "ch07", "ch08")
# Files of half a minute and more, the longest first: begun last, they would keep one core waiting.
FIRST = ("ch06.ipynb", "ch07.ipynb", "test_book_edition.py", "ch05.ipynb", "test_nbval_holes.py")
FIRST += (
    "appendix_e.ipynb",
    "appendix_d.ipynb",
    "ch03.ipynb",
    "ch04.ipynb",
    "test_pretrain.py",
    "test_site.py",
    "test_checks_ch05.py",
)

# A notebook's kernel inherits these; its stored outputs were made without them.
for name in ("MPLBACKEND", "COURSE_DATA", "COURSE_MODEL"):
    os.environ.pop(name, None)
os.environ["COLUMNS"] = "80"


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.name, len(FIRST)))


class KernelDied(RuntimeError):
    """The notebook's Python is gone: killed for its memory, or by the cell itself."""


class SecondRunFailed(NbCellError):
    """The cell did its work once, but not twice."""


def patient_but_awake(get_message):
    """`RunningKernel.get_message` that waits in short turns and stops when the kernel is dead."""

    def wait(kernel, stream, timeout=None):
        end = float("inf") if timeout is None else time.monotonic() + timeout
        dead = False
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return get_message(kernel, stream, timeout=min(ALIVE_EVERY, left))
            except Empty:
                if dead:  # and its last message was waited for
                    raise KernelDied("the kernel died while it ran this cell") from None
                if left <= ALIVE_EVERY:
                    raise
                dead = not kernel.is_alive()

    return wait


RunningKernel.get_message = patient_but_awake(RunningKernel.get_message)
IPyNbCell.compare_outputs = pictures.compared_too(IPyNbCell.compare_outputs)


def pytest_addoption(parser):
    parser.addoption(
        "--quick",
        type=float,
        default=QUICK,
        metavar="SECONDS",
        help="run a notebook's cell twice if it takes fewer seconds (0: every cell once)",
    )


@pytest.hookimpl(wrapper=True, trylast=True)  # inside pytest's own wrappers, which undo their part
def pytest_runtest_setup(item):
    if not isinstance(item, IPyNbCell):
        return (yield)
    if why := item.parent.stash.get(STOPPED, None):
        pytest.skip(f"not run: {why}")
    try:
        return (yield)
    except Exception:
        item.parent.stash[STOPPED] = "the kernel did not start"
        raise


def run_again(item):
    """Run the cell a second time; the seconds go into the report, and not into the budget."""
    began = time.monotonic()
    try:
        item.runtest()
    except NbCellError as error:
        message = f"run a second time, right after the first: {error}"
        raise SecondRunFailed(
            item.cell_num, message, item.cell.source, error.inner_traceback
        ) from None
    finally:
        item.user_properties.append(("again", time.monotonic() - began))


def why_stopped(item, error):
    """Why the cells after this one cannot be run; "" if they can."""
    if isinstance(error, KernelDied):
        return f"the kernel died in code cell {item.cell_num + 1}"
    if item.parent.timed_out:
        return f"code cell {item.cell_num + 1} ran out of time"
    if isinstance(error, SecondRunFailed) or str(error) in GOES_ON:
        return ""
    return f"code cell {item.cell_num + 1} raised an error"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if not isinstance(item, IPyNbCell):
        return (yield)
    cell, place, began = item.cell, item.cell_num + 1, time.monotonic()
    item.output_timeout = PATIENCE
    once = any(tag.startswith("once: ") for tag in cell.metadata.get("tags", []))
    try:
        result = yield
        if not once and time.monotonic() - began < item.config.option.quick:
            run_again(item)
        if item.parent.timed_out:  # it caught the interrupt and went on
            item.raise_cell_error("Timeout exceeded, and the cell did not end when interrupted")
        return result
    except Exception as error:
        if why := why_stopped(item, error):
            item.parent.stash[STOPPED] = why
        if isinstance(error, KernelDied):
            raise NbCellError(item.cell_num, str(error), cell.source) from None
        raise
    finally:
        if cell.execution_count != place:
            item.raise_cell_error(
                f"code cell {place} has the execution count {cell.execution_count}: the stored "
                "outputs are not those of one clean run (restart the kernel and run all cells)"
            )


def budget(notebook):
    """The seconds that a notebook may take, on one thread of an idle machine."""
    path = PurePosixPath(notebook)
    if path.name == "exercises.ipynb":
        return 15
    return 120 if path.name != "solutions.ipynb" and path.parent.name.startswith(LONG) else 60


def pytest_terminal_summary(terminalreporter):
    seconds = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            path, found, _ = getattr(report, "nodeid", "").partition(".ipynb::")
            if found and hasattr(report, "duration"):
                again = dict(report.user_properties).get("again", 0) if report.when == "call" else 0
                name = f"{path}.ipynb"
                seconds[name] = seconds.get(name, 0) + report.duration - again
    if not seconds:
        return
    terminalreporter.section("notebooks: seconds, and the budget on one thread of an idle machine")
    width = max(map(len, seconds))
    for name, spent in sorted(seconds.items()):
        over = "  over" if spent > budget(name) else ""
        terminalreporter.line(f"{name:{width}} {spent:6.1f} of {budget(name):3d}{over}")
