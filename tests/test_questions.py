"""The questions of the lessons as a table: all of them, whole, and from the notebooks only."""

import csv

import pytest
from notebooks import notebook, save, text

from tools import ROOT, chapters, questions
from tools.site_check import texts

TWO = """## Summary

<details><summary>Not a question of these?</summary>

No.
</details>

### Questions

<details><summary>Why no &lt;|unk|&gt;, "ever"?</summary>

Bytes, and `a < b`;
even here.
</details>

<details><summary>And then?</summary>

Nothing.
</details>

### Exercises

<details><summary>A hint</summary>

Look.
</details>
"""


def course(root, cell=TWO):
    save(notebook(text("# Chapter 2: Text"), text(cell)), root / "ch02_text_data" / "ch02.ipynb")
    return root


def rows(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))


def test_a_table_of_the_questions_and_nothing_else(tmp_path, capsys):
    assert questions.main([str(tmp_path / "q.csv")], course(tmp_path)) == 0
    assert rows(tmp_path / "q.csv") == [
        ["chapter", "question", "answer"],
        ["chapter 2", 'Why no <|unk|>, "ever"?', "Bytes, and `a < b`;\neven here."],
        ["chapter 2", "And then?", "Nothing."],
    ]
    assert capsys.readouterr().out.endswith("q.csv: 2 questions\n")


def test_the_table_of_the_course_holds_every_chapter(tmp_path):
    assert questions.main([str(tmp_path / "q.csv")]) == 0
    _, *found = rows(tmp_path / "q.csv")
    for chapter in chapters(ROOT):
        ends = [texts(path).rpartition("\n### Questions\n")[2] for path in chapter.lessons]
        folded = sum(end.partition("\n### ")[0].count("<details>") for end in ends)
        assert 5 <= folded == sum(title == chapter.title for title, _, _ in found)
    assert all(question.endswith("?") or "." in question for _, question, _ in found)
    assert not any("<details>" in answer or "&lt;" in answer for _, _, answer in found)


def test_a_second_notebook_of_a_chapter_has_its_own_questions(tmp_path, capsys):
    root = course(tmp_path)
    more = root / "ch02_text_data" / "ch02_more.ipynb"
    save(notebook(text("# Chapter 2, more"), text(TWO.replace("And then?", "And more?"))), more)
    assert questions.main([str(tmp_path / "q.csv")], root) == 0
    assert [row[1] for row in rows(tmp_path / "q.csv")][2::2] == ["And then?", "And more?"]
    save(notebook(text("# Chapter 2, more")), more)
    assert questions.main([str(tmp_path / "r.csv")], root) == 1
    assert "ch02_more.ipynb: no folded question" in capsys.readouterr().err


def test_one_chapter(tmp_path):
    assert questions.main([str(tmp_path / "q.csv"), "--chapter", "ch03_attention/"]) == 0
    assert {title for title, _, _ in rows(tmp_path / "q.csv")} == {"chapter", "chapter 3"}


@pytest.mark.parametrize(
    "cell, message",
    [
        ("### Summary", 'ch02.ipynb: no folded question below a heading "### Questions"'),
        (
            "### Questions\n<details><summary>Why?</summary>\n\n</details>",
            "ch02.ipynb: the question 'Why?' has no answer",
        ),
    ],
)
def test_a_lesson_without_questions_or_answers_is_named(tmp_path, capsys, cell, message):
    assert questions.main([str(tmp_path / "q.csv")], course(tmp_path, cell)) == 1
    assert capsys.readouterr().err == f"{message}\n"
    assert not (tmp_path / "q.csv").exists()


@pytest.mark.parametrize(
    "more, message",
    [([], "q.csv exists"), (["--chapter", "ch9"], "no chapter 'ch9'; there are ch")],
)
def test_other_files_and_other_chapters_are_refused(tmp_path, capsys, more, message):
    (tmp_path / "q.csv").write_text("mine")
    with pytest.raises(SystemExit):
        questions.main([str(tmp_path / "q.csv"), *more], course(tmp_path))
    assert message in capsys.readouterr().err
    assert (tmp_path / "q.csv").read_text() == "mine"
