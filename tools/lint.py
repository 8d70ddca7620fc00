"""The rules of style that a program can judge, on every notebook.

python -m tools.lint             prints each problem with its notebook and cell; exit 1 if any
python -m tools.lint --report    prints the table of style figures
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode

from tools import Refused, chapters, prose, read
from tools import style_report as style
from tools.neighbourhood import near_numbers
from tools.normalize import notebooks

MAX_CODE_LINES = MAX_OUTPUT_LINES = 25
MAX_PICTURE_BYTES = 60_000
MAX_MODULE_LINES, MAX_TOOL_LINES = 300, 200  # a tool has fewer
ALLOWED_TAG = re.compile(r"nbval-ignore-output|solution|once: \S.*")  # once: and why not twice
CLOCKS = {"milliseconds", "quickest", "perf_counter"}  # a time is shown and never asserted

FILLER = re.compile(
    r"\b(simply|obviously|basically|needless to say|as (?:we|you) can see|let['’]?s dive|let us dive"
    r"|dive in)\b",
    re.IGNORECASE,
)
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u26ff\u2705\u2728\u274c\u274e\u2b50\ufe0f]")
MACHINE_PATH = re.compile(
    r"(?<![\w.])/(?:home|root|tmp|work|Users)/|\b[A-Z]:\\+Users|site-packages|ipykernel_\d"
)
MARKER = re.compile(r"^\s*#+\s*(?:NBVAL|PYTEST_VALIDATE)_\w+", re.MULTILINE)


def code_problems(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with one code cell's source and tags."""
    lines = len(style.code_lines(cell.source))
    if not cell.source.strip():
        yield "the code cell is empty"
    defines_class = any(isinstance(node, ast.ClassDef) for node in style.tree(cell).body)
    if lines > MAX_CODE_LINES and not defines_class:
        yield f"{lines} lines of code; at most {MAX_CODE_LINES}, a class excepted"
    for tag in [tag for tag in style.tags(cell) if not ALLOWED_TAG.fullmatch(tag)]:
        hint = "; write `with fails(...)`" if "raises-exception" in tag else ""
        hint = "; it needs its reason, `once: ...`" if tag.startswith("once") else hint
        yield f"the tag {tag!r} is not for this course{hint}"
    if marker := MARKER.search(cell.source):
        yield f"{marker[0].strip()!r} hides from nbval; tag the cell nbval-ignore-output"


def output_problems(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with one code cell's stored outputs."""
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"a stored error, {output.ename}: {output.evalue}"
        elif output.output_type == "stream" and output.name == "stderr":
            yield f"a stored warning on stderr: {output.text.strip()[:60]!r}"
        data = output.get("data", {})
        if "image/png" in data:
            text = data.get("text/plain", "")
            alt = output.metadata.get("image/png", {}).get("alt", "")
            if not text or text.startswith("<"):
                yield f"a picture whose text is {text!r}; use plotting.show(fig, sentence)"
            elif alt != text:
                yield "a picture whose alt text is not the text that nbval compares"
        shown = data.get("text/plain", output.get("text", ""))
        if len(shown.splitlines()) > MAX_OUTPUT_LINES:
            yield f"an output of {len(shown.splitlines())} lines; at most {MAX_OUTPUT_LINES}"
    for text in style.output_texts(cell):
        if found := MACHINE_PATH.search(text):
            yield f"a machine's path in the output: {text[found.start() :][:40]!r}"
    for size in style.picture_sizes(cell):
        if size > MAX_PICTURE_BYTES:
            yield f"a picture of {size / 1000:.0f} KB; at most {MAX_PICTURE_BYTES // 1000}"


def text_problems(source: str, folder: Path, known: set[Decimal]) -> Iterator[str]:
    """What is wrong with one Markdown cell."""
    words = prose.running_text(source)
    for number in prose.unexplained(source, known):
        yield f"the number {number} stands in no compared output and in no literal of the code nearby"
    if filler := FILLER.search(words):
        yield f"filler: {filler[0]!r}"
    if EMOJI.search(words):
        yield "an emoji"
    pictures = prose.images(source)
    for alt, target in pictures:
        if not alt.strip():
            yield f"the image {target!r} has no alt text"
        if re.match(r"(https?:)?//", target):
            yield f"the image {target!r} is remote"
    for target in prose.links(source) + [target for _, target in pictures]:
        path = unquote(target.partition("#")[0])
        if path and not re.match(r"\w+:|//", path) and not (folder / path).exists():
            yield f"the link {target!r} leads nowhere"
        if target.startswith("attachment:"):
            yield "an attached image; draw it in a cell, or store it as a file"


def sequence_problems(nb: NotebookNode) -> Iterator[tuple[str, str]]:
    """What is wrong with the order of cells, as (cell id, message)."""
    code = style.code_cells(nb)
    for cell, following in zip_longest(code, code[1:]):
        near = [style.tree(one) for one in (cell, following) if one is not None]
        asserts = [node for one in near for node in style.checks(one)]
        excused = asserts or CLOCKS & style.names([style.tree(cell)])
        if "nbval-ignore-output" in style.tags(cell) and not excused:
            yield cell.id, "its output is not compared, and nothing here or next asserts the claim"
        if cell.source.splitlines()[:1] == ["#| solution"]:
            calls = [] if following is None else list(ast.walk(near[-1]))
            if not any(style.called(node).startswith("check_") for node in calls):
                yield cell.id, "the next code cell does not check this solution with check.<name>"
    run = 0
    for cell in nb.cells:
        run = run + 1 if cell.cell_type == "code" else 0
        if run == 3:
            yield cell.id, "the third code cell in a row; say something between"


def notebook_problems(nb: NotebookNode, path: Path, known: set[Decimal]) -> Iterator[str]:
    """Every problem of one notebook, as "cell 'id': message"."""
    whole = path.stem in ("solutions", "exercises")  # these speak of the whole lesson
    near = {} if whole else near_numbers(nb, known)
    for cell in nb.cells:
        if cell.cell_type == "code":
            found = [*code_problems(cell), *output_problems(cell)]
        else:
            found = list(text_problems(cell.source, path.parent, near.get(cell.id, known)))
        if MACHINE_PATH.search(cell.source):
            found.append("a machine's path in the source")
        yield from (f"cell {cell.get('id', '?')!r}: {message}" for message in found)
    yield from (f"cell {id!r}: {message}" for id, message in sequence_problems(nb))


def known_numbers(nb: NotebookNode, path: Path) -> set[Decimal]:
    """Numbers that the prose may name; solutions and exercises may name their lesson's too."""
    known = style.known_numbers(nb)
    if path.stem in ("solutions", "exercises"):
        for lesson in [*path.parent.glob("ch*.ipynb"), *path.parent.glob("appendix*.ipynb")]:
            known |= style.known_numbers(read(lesson))
    return known


def length_problems(root: Path) -> Iterator[str]:
    """Promoted modules and tools that grew too long."""
    limits = [(root / "shared" / f"{one.topic}.py", MAX_MODULE_LINES) for one in chapters(root)]
    limits += [(path, MAX_TOOL_LINES - 1) for path in sorted(root.glob("tools/*.py"))]
    for path, limit in limits:
        lines = len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
        if lines > limit:
            yield f"{path.relative_to(root)}: {lines} lines; at most {limit}"


def problems(root: Path) -> Iterator[str]:
    """Every problem of every notebook, and of the modules' lengths."""
    for path in notebooks(root):
        nb = read(path)
        for message in notebook_problems(nb, path, known_numbers(nb, path)):
            yield f"{path.relative_to(root).as_posix()}: {message}"
    yield from length_problems(root)


def report(root: Path) -> str:
    """The style figures as a Markdown table, one row a notebook."""
    rows = []
    for path in notebooks(root):
        nb = read(path)
        name = path.relative_to(root).as_posix()
        rows.append({"notebook": name} | style.measure(nb, known_numbers(nb, path)))
    table = [list(rows[0]), ["---"] * len(rows[0])] if rows else []
    table += [list(row.values()) for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in table)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lint")
    parser.add_argument("--report", action="store_true", help="print the style figures instead")
    if parser.parse_args(arguments).report:
        print(report(Path()))
        return 0
    found = []
    try:
        found.extend(problems(Path()))
    except Refused as refused:
        found += refused.faults
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
