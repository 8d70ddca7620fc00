"""A hand-in's own copy of the course, and its own process, which ends with everything that it started."""

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tools import chapters

PROCESSES = 50
EVERY = 0.25  # seconds between two looks at a notebook's processes
STEPS = 10_000  # lines read from one process, and bytes of a line
LARGEST = 64 * 2**20  # bytes of a file that is read
EARLY = "its process ended early: it crashed, was killed, or called os._exit"


def course(root: Path) -> dict[str, bytes]:
    """What a notebook needs of the course, by path: `shared`, the chapters without notebooks, and the tools."""
    folders = [root / "shared", root / "tools", *(one.folder for one in chapters(root))]
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix not in (".ipynb", ".pyc") and path.is_file()
        if path.stat().st_size <= LARGEST
    }


@contextlib.contextmanager
def copied(files: dict[str, bytes]) -> Iterator[Path]:
    """A folder that holds these files, thrown away afterwards with everything in it."""
    with tempfile.TemporaryDirectory(prefix="hand-in-", ignore_cleanup_errors=True) as folder:
        for name, content in files.items():
            path = Path(folder, "course", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        yield Path(folder, "course")


def changed(files: dict[str, bytes], root: Path) -> list[str]:
    """The files that are gone or have changed."""

    def same(path: Path, was: bytes) -> bool:
        return path.is_file() and path.stat().st_size == len(was) and path.read_bytes() == was

    return [name for name, was in files.items() if not same(root / name, was)]


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """On Linux, a process whose parent has ended becomes a child of this one, and so is found."""
    adopt = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *args: None
    adopt(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    try:
        yield
    finally:
        adopt(36, 0, 0, 0, 0)


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def too_much(processes: list[psutil.Process], gigabytes: float) -> str:
    """The limit that these processes exceed together; what they share is not counted."""
    taken = 0
    for one in processes:
        with contextlib.suppress(psutil.Error):
            memory = one.memory_info()
            taken += memory.rss - getattr(memory, "shared", 0)
    if taken > gigabytes * 2**30:
        return f"stopped: it used more than {gigabytes:g} GB of memory"
    return f"stopped: it had more than {PROCESSES} processes" * (len(processes) > PROCESSES)


def end_all(process: subprocess.Popen, before: list[psutil.Process]) -> None:
    """End a notebook's process and what it has started."""
    for _ in range(100):  # what was on its way when it was looked for
        found = [one for one in children() if one not in before]
        for act in (psutil.Process.suspend, psutil.Process.kill):  # suspended, it starts no other
            for one in found:
                with contextlib.suppress(psutil.Error):
                    act(one)
        with contextlib.suppress(OSError, AttributeError):
            os.killpg(process.pid, signal.SIGKILL)
        psutil.wait_procs(found, timeout=1)
        if not found:
            break
    process.wait()


def steps(folder: Path, job: dict, seconds: float, gigabytes: float) -> Iterator[list]:
    """What `tools/hand_in.py` says about a job, step by step; if it does not finish, at last "stopped" and why."""
    before, end = children(), time.monotonic() + seconds
    scratch = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "IPYTHONDIR"), str(folder.parents[1]))
    own = {"PYTHONPATH": str(folder.parent), "MPLBACKEND": "Agg"}
    own |= {"PIP_NO_INDEX": "1"}  # `!pip install` brings nothing new into your environment
    process = subprocess.Popen(
        [sys.executable, folder.parent / "tools" / "hand_in.py"],
        cwd=folder,
        env=os.environ | scratch | own,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    lines = queue.SimpleQueue()

    def listen():
        for _ in range(STEPS):
            lines.put(process.stdout.readline(STEPS))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        with contextlib.suppress(OSError):  # it may be dead already
            process.stdin.write(json.dumps(job).encode())
            process.stdin.close()
        why = ""
        while not why:
            try:
                step = json.loads(lines.get(timeout=EVERY))
                if step == ["end"]:
                    return
                yield step
            except queue.Empty:
                why = "" if process.poll() is None else EARLY
            except (ValueError, RecursionError):  # its last word, or nonsense
                why = EARLY
            if time.monotonic() > end:
                why = f"not done after {seconds:g} seconds"
            why = why or too_much([one for one in children() if one not in before], gigabytes)
        yield ["stopped", why]
    finally:
        end_all(process, before)
        listener.join(timeout=1)
        process.stdout.close()
