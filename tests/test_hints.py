"""What a hint names of Python, PyTorch or the lessons is imported by the notebook in which the hint stands."""

import ast
import importlib
import re

import nbformat
import notebooks
import pytest

from tools import chapters

FOLDERS = [path.parent.name for path in sorted(notebooks.ROOT.glob("*/exercises.ipynb"))]
KNOWN = {
    "collections",
    "copy",
    "itertools",
    "math",
    "random",
    "re",
    "torch",
    "nn",
    "F",
    "np",
    "pd",
    "plt",
}
for one in chapters(notebooks.ROOT):
    KNOWN.update(importlib.import_module(f"shared.{one.topic}").__all__)


def names(code):
    """The names in a piece of code, none if it is no Python."""
    try:
        return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}
    except SyntaxError:
        return set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_a_hint_names_is_imported(folder):
    has = notebooks.answers(folder, "exercises.ipynb").keys()
    cells = nbformat.read(notebooks.ROOT / folder / "exercises.ipynb", as_version=4).cells
    found_at = re.compile(r"`\w+` from `shared\.\w+`")  # such a hint says where it is found
    hints = [
        found_at.sub("", hint)
        for c in cells
        for hint in re.findall(r"<details>.*</details>", c.source, re.S)
    ]
    found = {
        name for hint in hints for code in re.findall(r"`([^`]+)`", hint) for name in names(code)
    }
    assert found & has, "no hint names anything: is the test still looking at hints?"
    missing = (found & KNOWN) - has
    assert not missing, (
        f"{folder}: hints name {sorted(missing)}, which the notebook does not import"
    )
