"""The exercises of all chapters: each solution is right, each stub not solved yet, each check asked for."""

import ast
import importlib
from pathlib import Path

import nbformat
import notebooks
import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [path.parent.name for path in sorted(ROOT.glob("*/solutions.ipynb"))]


def calls(folder):
    """The cells of a folder's solutions that ask a check: "check.name(answer)"."""
    cells = nbformat.read(ROOT / folder / "solutions.ipynb", as_version=4).cells
    return [c.source for c in cells if c.cell_type == "code" and c.source.startswith("check.")]


CALLS = [(folder, call) for folder in FOLDERS for call in calls(folder)]


@pytest.mark.parametrize(("folder", "call"), CALLS)
def test_the_solution_is_right(folder, call):
    result = eval(call, notebooks.answers(folder, "solutions.ipynb"))
    assert result.ok and result.text.startswith("right: "), result.text


@pytest.mark.parametrize(("folder", "call"), CALLS)
def test_the_stub_is_not_solved_yet(folder, call):
    result = eval(call, notebooks.answers(folder, "exercises.ipynb"))
    assert not result.ok and result.text.startswith("not solved yet"), result.text


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_check_is_asked_for_once(folder):
    name = "appendix_a" if folder.startswith("appendix_a") else folder[:4]
    module = importlib.import_module(f"shared.checks.{name}")
    checks = [name for name, value in vars(module).items() if hasattr(value, "is_exercise")]
    assert sorted(ast.parse(call).body[0].value.func.attr for call in calls(folder)) == sorted(
        checks
    )
