"""Grade a folder of handed-in exercises: which checks of a chapter does each notebook pass?

    python -m tools.grade ch03_attention handed_in grades.csv [--seconds 120] [--gigabytes 4]

Every notebook below `handed_in` gets a line in the table: 1 or 0 for each check, their sum, the guesses as
they stand in the notebook, and what the failed checks said. The folder `grades-feedback` gets a text for each to give back. IPython runs the cells
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
import csv
import re
import sys
import warnings
from pathlib import Path

import nbformat

from tools import ROOT, Chapter, Refused, chapters, read
from tools.processes import LARGEST, adopting, changed, copied, course, steps

LONGEST = 2000  # characters of a cell of the table; Excel allows 32,767
FORMULA = tuple("=+-@＝＋－＠")  # how a formula begins
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


def guesses(cells: list[tuple[int, str]]) -> str:
    """The guesses in a notebook's code cells, as they are written: `guess_3_3 = 2_000_000`."""
    code = "\n".join(source for _, source in cells)
    return " | ".join(re.findall(r"^guess_\w+ *=.*", code, re.MULTILINE))


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
        writer.writerow(["notebook", *calls, "right", "guesses", "remarks"])
        for name, data in papers.items():
            verdicts, remarks, cells = dict.fromkeys(calls, (False, UNCHECKED)), [], []
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
            words = no_formula(guesses(cells)), no_formula(" | ".join(wrong + remarks))
            writer.writerow([no_formula(name), *points, sum(points), *words])
            file.flush()
            print(f"{one_line(name)}: {sum(points)} of {len(calls)}")
    return int(bool(told))


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot show
    sys.exit(main())
