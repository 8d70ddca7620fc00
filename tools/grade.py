"""Grade a folder of handed-in exercises: which checks of a chapter does each notebook pass?

    python -m tools.grade ch03_attention handed_in grades.csv [--seconds 120] [--gigabytes 4]

Every notebook below `handed_in` gets a line in the table: 1 or 0 for each check, their sum, and what the
failed checks said. The folder `grades-feedback` gets a text for each to give back. IPython runs the cells
from top to bottom, as Jupyter would; a check judges where the notebook calls it, and if it does not pass
there, once more after the last cell.

Each notebook runs in a process of its own, on a fresh copy of the course. The process and everything it
started are ended when it is done, when its time is up, or when together they use too much memory or are
more than 50 (checked four times a second; on Linux no single process gets more memory than that, and no
file more than 1 GB). Printed output is thrown away. What a notebook started and then left behind without a
parent is found on Linux only.

This is no sandbox. It runs what students wrote, with your rights and your network: a notebook can read and
change whatever you can, fill the disk, or stop this command. And points prove nothing, because a check runs
in the same process as the answer. Changed checks, early exits and looks at the grader's frames are noticed
where people usually try them, and you are told if your own copy of the course has changed; but anyone who
reads `tools/hand_in.py` can forge points unseen. Use an account or a container that holds nothing of value.
"""

import argparse
import ast
import contextlib
import csv
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
import warnings
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil

from tools import ROOT, Chapter, Refused, chapters, read

PROCESSES = 50
EVERY = 0.25  # seconds between two looks at a notebook's processes
STEPS = 10_000  # lines read from one process, and bytes of a line
LONGEST = 2000  # characters of a cell of the table; Excel allows 32,767
LARGEST = 64 * 2**20  # bytes of a file that is read
FORMULA = tuple("=+-@＝＋－＠")  # how a formula begins
EARLY = "its process ended early: it crashed, was killed, or called os._exit"
UNCHECKED = "not checked: the notebook's cells never finished"


def check_calls(path: Path) -> dict[str, str]:
    """The checks that a notebook calls, in its order: name and source, `check.name(answer)`."""
    calls = {}
    for cell in read(path).cells:
        if cell.cell_type == "code" and cell.source.startswith("check."):
            call = ast.parse(cell.source).body[0].value
            calls[call.func.attr] = ast.unparse(call)
    return calls


def code_cells(data: bytes) -> list[tuple[int, str]]:
    """The code cells of a notebook with their numbers. Refused if it cannot be read."""
    try:
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        with warnings.catch_warnings():  # of cells without an ID
            warnings.simplefilter("ignore")
            nb = nbformat.reads(data.decode("utf-16" if wide else "utf-8-sig"), as_version=4)
        sources = [cell.source for cell in nb.cells if cell.cell_type == "code"]
        return list(enumerate(sources, start=1))
    except Exception as error:  # nbformat raises its own errors, jsonschema's, and plain ones
        raise Refused(f"this is not a notebook that can be read ({str(error)[:200]})") from None


# --- a copy of the course -------------------------------------------------------------------------


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


# --- a process, and its end -----------------------------------------------------------------------


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
        [sys.executable, "-P", folder.parent / "tools" / "hand_in.py"],
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


# --- one hand-in, and all of them -----------------------------------------------------------------


def grade(cells, files, chapter: Chapter, calls, seconds=120.0, gigabytes=4.0) -> tuple[dict, list]:
    """For each check `(right, what it said)`, and the other remarks; from `code_cells`, `course` and `check_calls`.

    Only a process that came to its end is believed. A cell or a check that kept it from its end is
    left out, and everything else runs again.
    """
    verdicts = dict.fromkeys(calls, (False, UNCHECKED))
    calls, remarks = dict(calls), {}
    shared = {name: content for name, content in files.items() if name.startswith("shared/")}
    for _ in range(len(calls) + 3):
        found, current, why = {}, None, ""
        job = {"checks": chapter.name, "calls": calls, "cells": cells, "gigabytes": gigabytes}
        with copied(files) as folder, adopting():
            (work := folder / chapter.folder.name).mkdir(exist_ok=True)
            for step in steps(work, job, seconds, gigabytes):
                match step:
                    case ["begins", str() | int() as current]:
                        pass
                    case ["verdict", str() as name, bool() as ok, str() as text]:
                        found[name] = ok, text
                    case ["remark", str() as text]:
                        remarks[text] = None
                    case ["stopped", why]:
                        pass
            if theirs := changed(shared, folder):
                text = f"not counted: the notebook changed {', '.join(theirs[:3])}"
                found = dict.fromkeys(found, (False, text))
        if not why:
            verdicts |= {name: found[name] for name in calls if name in found}
            break
        if current in calls:
            verdicts[current] = False, why
            del calls[current]
        else:
            remarks[f"code cell {current}: {why}" if current else why] = None
            if not current:
                break
            cells = [cell for cell in cells if cell[0] != current]
    return verdicts, list(remarks)[:20]


def one_line(text: str) -> str:
    """The text without line breaks and what cannot be printed, and cut."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ... (cut)"


def no_formula(text: str) -> str:
    """The text in one line, in which Excel finds nothing to compute, whatever it takes for a separator."""
    text = one_line(text).replace(";", ",")
    return f"'{text}" if text.startswith(FORMULA) else text


def feedback(name: str, verdicts: dict, remarks: list[str]) -> str:
    """What a student gets back: each exercise, and what its check said."""
    right = sum(ok for ok, _ in verdicts.values())
    lines = [f"{one_line(name)}: {right} of {len(verdicts)}", ""]
    for check, (ok, text) in verdicts.items():
        lines += [f"{int(ok)}  {check}", f"   {one_line(text)}"]
    lines += ["", "Also:", *(f"   {one_line(text)}" for text in remarks)] if remarks else []
    return "\n".join(lines) + "\n"


def hand_ins(folder: Path) -> dict[str, bytes]:
    """The notebooks below a folder, by name, without what Jupyter and the Mac put beside them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith((".", "__MACOSX")) for part in name.parts)
        if path.suffix.lower() == ".ipynb" and path.is_file() and not hidden:
            found[name.as_posix()] = path.read_bytes() if path.stat().st_size <= LARGEST else b""
    return found


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.grade", description=__doc__.split("\n")[0]
    )
    parser.add_argument("chapter", help="the chapter's folder, such as ch03_attention")
    parser.add_argument("handed_in", type=Path, help="a folder of notebooks, at any depth")
    parser.add_argument("table", type=Path, help="the CSV file to write; it must not exist")
    parser.add_argument("--seconds", type=float, default=120, help="for one notebook")
    parser.add_argument("--gigabytes", type=float, default=4, help="of memory, for one notebook")
    chosen = parser.parse_args(arguments)
    found = {one.folder.name: one for one in chapters(root)}
    chapter, papers = found.get(chosen.chapter.rstrip("/")), hand_ins(chosen.handed_in)
    letters = chosen.table.with_name(f"{chosen.table.stem}-feedback")
    if not chapter:
        parser.error(f"no chapter {chosen.chapter!r}; there are {', '.join(found)}")
    if not papers:
        parser.error(f"no notebook in {chosen.handed_in}")
    for path in (chosen.table, letters):
        if path.exists():
            parser.error(f"{path} exists; name another file, or move it away")
    calls, files = check_calls(chapter.folder / "exercises.ipynb"), course(root)
    told = set()
    with open(chosen.table, "x", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["notebook", *calls, "right", "remarks"])
        for name, data in papers.items():
            verdicts, remarks = dict.fromkeys(calls, (False, UNCHECKED)), []
            try:
                cells = code_cells(data)
                verdicts, remarks = grade(
                    cells, files, chapter, calls, chosen.seconds, chosen.gigabytes
                )
            except Refused as refused:
                remarks = [str(refused)]
            if new := [one for one in changed(files, root) if one not in told]:
                told.update(new)
                remarks.append(f"{new[0]} in your own copy of the course has changed: restore it")
            letter = letters / f"{name}.txt"
            letter.parent.mkdir(parents=True, exist_ok=True)
            letter.write_text(feedback(name, verdicts, remarks), encoding="utf-8")
            points = [int(ok) for ok, _ in verdicts.values()]
            wrong = [
                f"{check}: {said}"
                for check, (ok, said) in verdicts.items()
                if not ok and said != UNCHECKED
            ]
            writer.writerow(
                [no_formula(name), *points, sum(points), no_formula(" | ".join(wrong + remarks))]
            )
            file.flush()
            print(f"{one_line(name)}: {sum(points)} of {len(calls)}")
    return int(bool(told))


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot show
    sys.exit(main())
