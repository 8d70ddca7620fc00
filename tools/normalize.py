"""The normal form of notebooks, so that a diff shows what an author changed and nothing else.

    python -m tools.normalize [--check] [NOTEBOOK ...]

Readable cell ids, no metadata but kernel and tags, outputs without what nbval does not compare
(pictures excepted). Execution counts are never changed: a notebook whose counts are not 1..n has
to be run again.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import MY, Refused, read

LONGEST_ID = 40
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
NOT_COMPARED = ("application/vnd.jupyter.widget-view+json", "image/jpeg")


class NotARun(Refused):
    """The counts are not those of one clean run, top to bottom."""


def notebooks(root: Path) -> list[Path]:
    """Every notebook of the course, by folder and name."""
    found = root.glob("*/*.ipynb")
    return sorted(p for p in found if p.parent.name != MY and not p.parent.name.startswith("."))


def check_counts(nb: NotebookNode) -> None:
    """Raise NotARun unless the code cells count 1..n and their results say the same."""
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    for expected, cell in enumerate(code, start=1):
        stored = [out.execution_count for out in cell.outputs if "execution_count" in out]
        for count in [cell.execution_count, *stored]:
            if count != expected:
                start = next(iter(cell.source.splitlines()), "(empty)")
                raise NotARun(
                    f"code cell {expected} ({start!r}) has the execution count {count}: "
                    "run top to bottom, in a fresh kernel"
                )


def is_readable(id: str) -> bool:
    """True for words joined by hyphens; False for what a program drew at random."""
    if not re.fullmatch(r"[a-z][a-z0-9-]*", id) or len(id) > LONGEST_ID:
        return False
    return not re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", id)


def slug(text: str, words: int = 6) -> str:
    """The first words of a text as an id: "BPE, merge by merge" -> "bpe-merge-by-merge"."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", text)
    found = re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("’", ""))[:words]
    while len("-".join(found)) > LONGEST_ID - 3 and len(found) > 1:  # room for "-99"
        found.pop()
    return re.sub(r"^(?=\d)", "part-", "-".join(found))[: LONGEST_ID - 3].strip("-") or "cell"


def id_from_code(source: str) -> str:
    """From the first definition, the promoted constant, or the first words."""
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic line
        body = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            return slug(node.name)
    if body and all(isinstance(node, ast.Import | ast.ImportFrom) for node in body):
        return "imports"
    if source.startswith("#| promote"):
        for node in body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                return slug(node.targets[0].id)
    lines = [line for line in source.splitlines() if not line.startswith("#|")]
    return slug(" ".join(lines))


def id_from_text(source: str) -> str:
    """From the first heading, without its number, else from the first words."""
    heading = re.search(r"^#+ +(?:(?:[A-E]\.)?\d[\d.]* +)?(.+)$", source, re.MULTILINE)
    return slug(heading[1] if heading else re.sub(r"<[^>]*>", " ", source))


def name_cells(nb: NotebookNode) -> None:
    """Give each cell a readable id of its own; one that has it keeps it."""
    taken: set[str] = set()
    unnamed = []
    for cell in nb.cells:
        id = cell.get("id", "")
        if is_readable(id) and id not in taken:
            taken.add(id)
        else:
            unnamed.append(cell)
    for cell in unnamed:
        made = id_from_code(cell.source) if cell.cell_type == "code" else id_from_text(cell.source)
        id, number = made, 1
        while id in taken:
            number += 1
            id = f"{made}-{number}"
        taken.add(id)
        cell.id = id


def clean_outputs(outputs: list[NotebookNode]) -> Iterator[NotebookNode]:
    """Neighboring prints as one; no data that nothing compares; of the metadata, alt text and size."""
    printed = None
    for output in outputs:
        if output.output_type == "stream":
            if printed is not None and printed.name == output.name:
                printed.text += output.text
                continue
            printed = output
        else:
            printed = None
        if "data" in output:
            for kind in NOT_COMPARED:
                output.data.pop(kind, None)
            picture = output.metadata.get("image/png", {})
            kept = {key: picture[key] for key in ("alt", "width", "height") if key in picture}
            output.metadata = NotebookNode({"image/png": kept} if kept else {})
        yield output


def normal_form(nb: NotebookNode) -> NotebookNode:
    """Return the notebook's normal form; raise NotARun if its outputs are not of one clean run.

    Raises Refused where a cell has a picture pasted into it, which would be lost.
    """
    check_counts(nb)
    nb = nbformat.from_dict(nb)
    nb.nbformat, nb.nbformat_minor = 4, 5
    nb.metadata = NotebookNode(kernelspec=dict(KERNEL), language_info={"name": "python"})
    name_cells(nb)
    for cell in nb.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = NotebookNode(tags=tags) if tags else NotebookNode()
        if cell.get("attachments"):
            raise Refused(
                f"cell {cell.id!r} has a picture pasted into it: store it as a file, or draw it"
            )
        if cell.cell_type == "code":
            cell.source = cell.source.rstrip()  # within a line, ruff's format sees to it
            cell.outputs = list(clean_outputs(cell.outputs))
        else:
            cell.source = re.sub(r"[ \t]+$", "", cell.source, flags=re.MULTILINE).rstrip("\n")
    nbformat.validate(nb)
    return nb


def normalize(path: Path, check: bool = False) -> bool:
    """Bring one notebook into normal form, or only look; return whether it was not."""
    before = path.read_text(encoding="utf-8")
    after = nbformat.writes(normal_form(read(path))) + "\n"
    if before != after and not check:
        path.write_text(after, encoding="utf-8", newline="\n")
    return before != after


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.normalize")
    parser.add_argument("--check", action="store_true", help="change nothing, say what would be")
    parser.add_argument("notebook", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    wrong = 0
    for path in options.notebook or notebooks(Path()):
        try:
            changed = normalize(path, options.check)
        except Refused as error:
            print(f"{path}: {error}")
            wrong += 1
            continue
        if changed and options.check:
            print(f"{path}: not in normal form; run: python -m tools.normalize {path}")
            wrong += 1
        elif changed:
            print(f"{path}: normalized")
    if wrong and options.check:
        print(
            "what was changed by running it can be restored (git checkout FILE); to try things, work in my/ (make lab)"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
