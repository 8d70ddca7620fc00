"""Write every exercises.ipynb from the solutions.ipynb beside it.

Usage: python -m tools.derive_exercises [--check]

The functions of a `#| solution` cell keep signature and docstring and lose their answer; the guess of a
`#| guess` cell becomes `...`; Markdown cells tagged `solution` are dropped; the title's "Solutions"
becomes "Exercises"; all else stays. An exercises.ipynb that somebody has written into is not overwritten.
"""

import ast
import re
import sys
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import MY, ROOT, Draft, Refused, command, marked, read
from tools.normalize import is_readable, notebooks
from tools.stubs import asks, is_unsolved, without_answers, without_guess


def drafts(root: Path) -> list[Draft]:
    """Every exercises.ipynb as it ought to be, or Refused with all faults of all solutions."""
    found, faults = [], []
    for path in [path for path in notebooks(root) if path.name == "solutions.ipynb"]:
        target = path.with_name("exercises.ipynb")
        try:
            exercises = derive(read(path), f"{path.parent.name}/{path.name}")
            there = read(target) if target.exists() else None
        except Refused as refused:
            faults += refused.faults
            continue
        was, now = outline(there) if there else "", outline(exercises)
        if there and was != now and (cells := written_by_hand(there, exercises)):
            faults.append(
                f"{target.parent.name}/{target.name} holds what somebody has written (cells: {', '.join(cells)}), "
                f"which is not overwritten: move the file to the folder {MY}/, or delete it"
            )
        found.append(Draft(target, nbformat.writes(exercises) + "\n", was, now))
    for target in notebooks(root):
        if target.name == "exercises.ipynb" and not target.with_name("solutions.ipynb").exists():
            faults.append(
                f"{target.parent.name}/exercises.ipynb has no solutions.ipynb to be derived from"
            )
    if faults:
        raise Refused(*faults)
    return found


def written_by_hand(there: NotebookNode, exercises: NotebookNode) -> list[str]:
    """The cells that somebody has written into exercises: answers in place of stubs, and cells of their own."""
    stubs = {cell.id for cell in exercises.cells if cell.cell_type == "code" and asks(cell.source)}
    names = {name for cell in exercises.cells if cell.id in stubs for name in defined(cell.source)}
    found = []
    for cell in there.cells:
        id = cell.get("id", "?")
        own = not is_readable(id) and cell.source.strip()  # an id drawn by JupyterLab
        asked = id in stubs or cell.cell_type == "code" and names & defined(cell.source)
        if own or (asked and not is_unsolved(cell.source)):
            found.append(id)
    return found


def defined(source: str) -> set[str]:
    """The names that a cell defines, by `def`, `class` or `=`, at its top; none if it is no plain Python."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set()
    found = {node.name for node in body if hasattr(node, "name")}
    targets = [target for node in body for target in getattr(node, "targets", [])]
    return found | {
        node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)
    }


def outline(notebook: NotebookNode) -> str:
    """The notebook without its outputs and counts, as text: what the check compares."""
    cells = []
    for cell in notebook.cells:
        tags = " ".join(cell.metadata.get("tags", []))
        cells.append(
            f"--- {cell.cell_type} {cell.get('id', '?')} {tags}".rstrip() + f"\n{cell.source}\n"
        )
    return "\n".join(cells)


def derive(solutions: NotebookNode, name: str) -> NotebookNode:
    """The notebook to be solved, without outputs; Refused with all that is wrong in the solutions."""
    exercises, faults, titled = deepcopy(solutions), [], False
    exercises.cells = []
    answers, checks = [], []  # (name, number of the cell, place); (number, names it checks)
    for number, original in enumerate(solutions.cells):
        cell, place = deepcopy(original), f"{name}, cell '{original.get('id', '?')}'"
        tagged = "solution" in cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            if not titled and (heading := re.search(r"^#+ .*", cell.source, re.MULTILINE)):
                titled = True
                new = re.sub(r"\b([Ss])olutions\b", exercises_word, heading[0])
                if new == heading[0]:
                    faults.append(
                        f'{place}: the title says no "Solutions" that could become "Exercises"'
                    )
                cell.source = cell.source.replace(heading[0], new, 1)
            if not tagged:
                exercises.cells.append(cell)
            continue
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if tagged:
                faults.append(f"{place}: a code cell is marked by `#| solution`, not by a tag")
            try:
                if cell.source.startswith("#| guess\n"):
                    cell.source, guess = without_guess(cell.source, place)
                    answers.append((guess, number, place))
                elif marked(cell, "solution", place):
                    cell.source, names = without_answers(cell.source, place)
                    answers += [(answer, number, place) for answer in names]
                else:
                    checks.append((number, checked_names(cell.source)))
            except Refused as refused:
                faults += refused.faults
        exercises.cells.append(cell)
    for answer, number, place in answers:
        where = [check for check, names in checks if answer in names]
        if not where:
            faults.append(f"{place}: the answer `{answer}` is checked by no cell")
        elif min(where) < number:
            faults.append(f"{place}: the answer `{answer}` comes after the cell that checks it")
    if faults:
        raise Refused(*faults)
    return exercises


def exercises_word(match: re.Match) -> str:
    return "Exercises" if match[1] == "S" else "exercises"


def checked_names(source: str) -> set[str]:
    """The names handed to `check.<name>(...)`, if that is the last expression of a cell."""
    try:
        last = ast.parse(source).body[-1]
    except (SyntaxError, IndexError):  # a magic, or nothing
        return set()
    match last:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="check"))) as call):
            parts = [*call.args, *(keyword.value for keyword in call.keywords)]
            return {
                node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)
            }
    return set()


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    return command("Derive each exercises.ipynb from its solutions.ipynb.", drafts, root, arguments)


if __name__ == "__main__":
    sys.exit(main())
