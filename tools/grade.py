"""Grade a folder of handed-in exercises: which checks of a chapter does each notebook pass?

    python -m tools.grade ch03_attention handed_in grades.csv [--seconds 120]

Every notebook below `handed_in` gets a line: 1 or 0 for each check, their sum, and what the failed
checks said. The checks are those of the course, whatever stands in the notebook. Each notebook runs
in a process of its own with a time limit; that is no sandbox: it runs what students wrote, with your
rights and your network. Use an account, or a container, that holds nothing of value.
"""

import argparse
import ast
import contextlib
import csv
import importlib
import io
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from tools import ROOT, Chapter, Refused, chapters, read


def check_calls(path: Path) -> dict[str, str]:
    """The checks that a notebook calls, in its order: name and source, `check.name(answer)`."""
    calls = {}
    for cell in read(path).cells:
        if cell.cell_type == "code" and cell.source.startswith("check."):
            call = ast.parse(cell.source).body[0].value
            calls[call.func.attr] = ast.unparse(call)
    return calls


def answer(path: Path, chapter: Chapter, calls: dict[str, str], send) -> None:
    """In a process of its own: run the notebook's cells, then the checks; send each step as a pair."""
    os.environ["MPLBACKEND"] = "Agg"
    if hasattr(os, "setsid"):
        os.setsid()  # what it starts ends with it
    sys.path.insert(0, os.getcwd())  # as in Jupyter: modules beside the notebook
    checks = SimpleNamespace(**vars(importlib.import_module(f"shared.checks.{chapter.name}")))
    names, cells = {"__name__": "__main__"}, [c for c in read(path).cells if c.cell_type == "code"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for number, cell in enumerate(cells, start=1):
            if cell.source.startswith("check."):
                continue
            try:
                exec(compile(cell.source, f"code cell {number}", "exec"), names)
            except BaseException as error:  # what a cell raises must not end the others
                send.send(("remark", f"code cell {number}: {type(error).__name__}: {error}"))
        for name, call in calls.items():
            send.send(("begins", name))
            try:
                result = eval(call, {**names, "check": checks})
                send.send((name, (result.ok, result.text)))
            except BaseException as error:  # a function that is missing, or an exit in an answer
                send.send((name, (False, f"{type(error).__name__}: {error}")))
    send.send(("end", ""))


def steps(path: Path, chapter: Chapter, calls: dict[str, str], seconds: float) -> Iterator[tuple]:
    """What `answer` sends, until it ends, dies, or its time is up."""
    spawn = multiprocessing.get_context("spawn")
    receive, send = spawn.Pipe(duplex=False)
    process = spawn.Process(target=answer, args=(path, chapter, calls, send))
    process.start()
    send.close()
    end = time.monotonic() + seconds
    try:
        while receive.poll(max(0, end - time.monotonic())):
            step = receive.recv()
            if step[0] == "end":
                return
            yield step
        yield "stopped", f"not done after {seconds:g} seconds"
    except EOFError:
        yield "stopped", "its process died"
    finally:
        with contextlib.suppress(OSError, AttributeError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()


def grade(path: Path, chapter: Chapter, calls: dict[str, str], seconds: float) -> dict[str, str]:
    """One line of the table. A check that does not come to its end costs its own point only."""
    ok, remarks, left = dict.fromkeys(calls, 0), [], dict(calls)
    try:
        read(path)
    except Refused as refused:
        return ok | {"right": 0, "remarks": str(refused)}
    while left:
        current, again = None, False
        for kind, said in steps(path, chapter, left, seconds):
            if kind == "begins":
                current = said
            elif kind == "stopped":
                remarks.append(f"{current or 'the cells before the checks'}: {said}")
                again = current is not None
            elif kind == "remark":
                remarks += [said] if said not in remarks else []
            else:
                ok[kind] = int(said[0])
                remarks += [] if said[0] else [f"{kind}: {said[1]}"]
                left.pop(kind)
        if not again:
            break
        left.pop(current)
    return ok | {"right": sum(ok.values()), "remarks": " | ".join(remarks)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.grade", description=__doc__.split("\n")[0]
    )
    parser.add_argument("chapter", help="the chapter's folder, such as ch03_attention")
    parser.add_argument("handed_in", type=Path, help="a folder of notebooks, at any depth")
    parser.add_argument("table", type=Path, help="the CSV file to write; it must not exist")
    parser.add_argument("--seconds", type=float, default=120, help="for one notebook")
    chosen = parser.parse_args(arguments)
    found = {one.folder.name: one for one in chapters(ROOT)}
    paths = sorted(chosen.handed_in.rglob("*.ipynb"))
    paths = [path for path in paths if ".ipynb_checkpoints" not in path.parts]
    if chosen.chapter.rstrip("/") not in found:
        parser.error(f"no chapter {chosen.chapter!r}; there are {', '.join(found)}")
    if not paths:
        parser.error(f"no notebook in {chosen.handed_in}")
    if chosen.table.exists():
        parser.error(f"{chosen.table} exists; name another file, or move it away")
    chapter, table = found[chosen.chapter.rstrip("/")], chosen.table.absolute()
    paths = [(path.relative_to(chosen.handed_in).as_posix(), path.absolute()) for path in paths]
    calls = check_calls(chapter.folder / "exercises.ipynb")
    with (
        tempfile.TemporaryDirectory() as folder,
        open(table, "x", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, ["notebook", *calls, "right", "remarks"])
        writer.writeheader()
        for name, path in paths:
            work = Path(folder, "work")
            shutil.copytree(chapter.folder, work, ignore=shutil.ignore_patterns("*.ipynb"))
            with contextlib.chdir(work):  # what a notebook writes is thrown away
                line = grade(path, chapter, calls, chosen.seconds)
            shutil.rmtree(work)
            writer.writerow({"notebook": name} | line)
            file.flush()
            print(f"{name}: {line['right']} of {len(calls)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
