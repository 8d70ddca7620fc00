"""The exercises of all chapters: each solution is right, each stub not solved yet, each check asked for."""

import ast
import importlib
import re
from pathlib import Path

import nbformat
import notebooks
import pytest

from tools import chapters

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = {
    one.folder.name: one.name for one in chapters(ROOT) if (one.folder / "solutions.ipynb").exists()
}
FOLDERS = list(CHAPTERS)


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
    module = importlib.import_module(f"shared.checks.{CHAPTERS[folder]}")
    checks = [name for name, value in vars(module).items() if hasattr(value, "is_exercise")]
    assert sorted(ast.parse(call).body[0].value.func.attr for call in calls(folder)) == sorted(
        checks
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_to_be_predicted_has_a_cell_for_the_guess(folder):
    """Left open where it is to be filled in, filled in where it is solved, and handed to the check."""
    cells = {
        name: nbformat.read(ROOT / folder / f"{name}.ipynb", as_version=4).cells
        for name in ("solutions", "exercises")
    }
    for name, numbers in cells.items():
        titles = [c.source for c in numbers if c.cell_type == "markdown"]
        found = re.findall(r"^## (\w+)\.(\d+) Predict, then run", "\n".join(titles), re.M)
        guesses = [f"guess_{chapter.lower()}_{number}" for chapter, number in found]
        values = notebooks.answers(folder, f"{name}.ipynb")
        assert [value for value in values if value.startswith("guess")] == guesses
        assert all((values[guess] is ...) == (name == "exercises") for guess in guesses)
        for guess in guesses:
            assert any(f", {guess})" in call for call in calls(folder)), guess
