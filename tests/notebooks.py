"""Small notebooks for the tests of the tools, and what the notebooks of a chapter's exercises define."""

import contextlib
import functools
import io
import re
from pathlib import Path
from textwrap import dedent

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

UNNAMED = "unnamed"
ROOT = Path(__file__).parent.parent


@functools.cache
def answers(chapter: str, name: str) -> dict:
    """What the cells of a chapter's notebook define, run without its text, output and checks."""
    found = {}
    for cell in nbformat.read(ROOT / chapter / name, as_version=4).cells:
        if cell.cell_type == "code" and not cell.source.startswith("check."):
            with contextlib.redirect_stdout(io.StringIO()):
                exec(cell.source, found)
    return found


def accepted(check, name, answer):
    """Assert that a module of checks accepts an answer."""
    result = getattr(check, name)(answer)
    assert result.ok, result.text


def refused(check, name, answer, says):
    """Assert that a module of checks refuses an answer as wrong, for a reason that `says`, a pattern, finds."""
    result = getattr(check, name)(answer)
    assert not result.ok and result.text.startswith("wrong: "), result.text
    assert re.search(says, result.text), result.text


def code(source: str, id=UNNAMED, outputs=(), count=None, tags=()) -> NotebookNode:
    """A code cell; an output given as a string becomes the text of an execute_result."""
    results = [_result(output, count) if isinstance(output, str) else output for output in outputs]
    cell = new_code_cell(_source(source), id=id, outputs=results, execution_count=count)
    return _tagged(cell, tags)


def text(source: str, id=UNNAMED, tags=()) -> NotebookNode:
    """A Markdown cell."""
    return _tagged(new_markdown_cell(_source(source), id=id), tags)


def notebook(*cells: NotebookNode) -> NotebookNode:
    """A notebook of these cells; those without an id become cell-1, cell-2, ... by their place."""
    for number, cell in enumerate(cells, start=1):
        if cell.id == UNNAMED:
            cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return new_notebook(cells=list(cells), metadata={"kernelspec": kernel})


def save(nb: NotebookNode, path: Path | str) -> Path:
    """Write the notebook, folders included, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path


def _source(source: str) -> str:
    return dedent(source).strip("\n")


def _tagged(cell: NotebookNode, tags) -> NotebookNode:
    if tags:
        cell.metadata["tags"] = list(tags)
    return cell


def _result(data: str, count: int | None) -> NotebookNode:
    return new_output("execute_result", data={"text/plain": data}, execution_count=count)
