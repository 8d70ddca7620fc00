"""What nbval 0.11 lets through, closed: stale counts, dead kernels, the environment's habits."""

import os
import time
from queue import Empty

import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, NbCellError

ALIVE_EVERY = 1.0  # seconds between two looks at whether the kernel still lives

# A notebook's kernel inherits these; its stored outputs were made without them.
for name in ("MPLBACKEND", "COURSE_DATA", "COURSE_MODEL"):
    os.environ.pop(name, None)
os.environ["COLUMNS"] = "80"


class KernelDied(RuntimeError):
    """The notebook's Python is gone: killed for its memory, or by the cell itself."""


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if not isinstance(item, IPyNbCell):
        return (yield)
    cell, place, file = item.cell, item.cell_num + 1, item.parent
    if getattr(file, "dead_since", None):
        item.raise_cell_error(f"not run: the kernel died in code cell {file.dead_since}")
    try:
        return (yield)
    except KernelDied as error:
        file.dead_since = place
        raise NbCellError(item.cell_num, str(error), cell.source) from None
    finally:
        if cell.execution_count != place:
            item.raise_cell_error(
                f"code cell {place} has the execution count {cell.execution_count}: the stored "
                "outputs are not those of one clean run (restart the kernel and run all cells)"
            )
