"""tools.grade on notebooks as students hand them in: right, unsolved, broken, and dishonest ones."""

import csv

import nbformat
import pytest
from notebooks import code, notebook, save

from tools import ROOT, chapters, grade

FOLDER = "ch03_attention"
CHAPTER = {one.folder.name: one for one in chapters(ROOT)}[FOLDER]
CALLS = grade.check_calls(CHAPTER.folder / "exercises.ipynb")


def graded(path, seconds=120):
    return grade.grade(path, CHAPTER, CALLS, seconds)


def solved(*last, without=()):
    """The solutions as a student's notebook, with these cells at the end."""
    nb = nbformat.read(CHAPTER.folder / "solutions.ipynb", as_version=4)
    cells = [cell for cell in nb.cells if cell.id not in without]
    return notebook(*cells, *last)


def test_a_folder_becomes_a_table(tmp_path, capsys):
    save(solved(), tmp_path / "in" / "ann" / "exercises.ipynb")
    text = (CHAPTER.folder / "exercises.ipynb").read_text(encoding="utf-8")
    (tmp_path / "in" / "bob.ipynb").write_text(text, encoding="utf-8")
    (tmp_path / "in" / "cleo.ipynb").write_text("{", encoding="utf-8")
    table = tmp_path / "grades.csv"
    assert grade.main([FOLDER, str(tmp_path / "in"), str(table)]) == 0
    with open(table, newline="", encoding="utf-8") as file:
        ann, bob, cleo = csv.DictReader(file)
    assert list(ann) == ["notebook", *CALLS, "right", "remarks"] and len(CALLS) == 7
    assert ann == {
        "notebook": "ann/exercises.ipynb",
        **dict.fromkeys(CALLS, "1"),
        "right": "7",
        "remarks": "",
    }
    assert bob["right"] == "0" and bob["remarks"].count("not solved yet") == 7
    assert cleo["right"] == "0" and "not a notebook" in cleo["remarks"]
    assert "ann/exercises.ipynb: 7 of 7" in capsys.readouterr().out


def test_what_goes_wrong_costs_its_own_point_only(tmp_path):
    path = save(
        solved(
            code("1 / 0"),
            code("this is no Python"),
            code("def predicted_parameters(*args):\n    import os; os._exit(0)"),
            code("def gpt2_attention():\n    raise SystemExit"),
            without=["two-numbers"],
        ),
        tmp_path / "dan.ipynb",
    )
    line = graded(path)
    wrong = {"two_numbers", "predicted_parameters", "gpt2_attention"}
    assert {name for name in CALLS if not line[name]} == wrong and line["right"] == 4
    for remark in (
        "ZeroDivisionError: division by zero",
        "SyntaxError",
        "two_numbers: NameError: name 'two_numbers' is not defined",
        "predicted_parameters: its process died",
        "calling `gpt2_attention` raised SystemExit",
    ):
        assert line["remarks"].count(remark) == 1, line["remarks"]


def test_a_notebook_that_brings_checks_of_its_own_is_graded_by_the_course(tmp_path):
    fake = """
    from types import SimpleNamespace
    import shared.checks.ch03
    yes = lambda answer: SimpleNamespace(ok=True, text="right")
    for name in dir(shared.checks.ch03):
        if not name.startswith("_"):
            setattr(shared.checks.ch03, name, yes)
    check = SimpleNamespace(same_attention=yes, two_numbers=yes)
    """
    assert graded(save(notebook(code(fake)), tmp_path / "eve.ipynb"))["right"] == 0


def test_what_never_ends_is_stopped(tmp_path):
    path = save(notebook(code("while True: pass")), tmp_path / "fred.ipynb")
    line = graded(path, seconds=1)
    assert line["right"] == 0
    assert line["remarks"] == "the cells before the checks: not done after 1 seconds"


@pytest.mark.parametrize(
    "chapter, folder, table, message",
    [
        ("ch99_none", "in", "new.csv", "no chapter 'ch99_none'; there are appendix_a_pytorch"),
        (FOLDER, "empty", "new.csv", "no notebook in"),
        (FOLDER, "in", "old.csv", "old.csv exists"),
    ],
)
def test_what_cannot_be_graded_is_said(tmp_path, capsys, chapter, folder, table, message):
    save(notebook(code("1")), tmp_path / "in" / "a.ipynb")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.csv").write_text("kept")
    with pytest.raises(SystemExit):
        grade.main([chapter, str(tmp_path / folder), str(tmp_path / table)])
    assert message in capsys.readouterr().err
    assert (tmp_path / "old.csv").read_text() == "kept" and not (tmp_path / "new.csv").exists()
