"""Each rule of tools.lint on a notebook with that one fault, and the figures of its report."""

import base64

import pytest
from nbformat.v4 import new_output
from notebooks import code, notebook, save, text

from tools import lint, prose, style_report

FOLDER = "ch02_text_data"
LONG = "\n".join(f"a{i} = {i}" for i in range(26))


def picture(sentence="The curve ends at 3.", alt=None, size=100):
    png = base64.b64encode(bytes(size)).decode()
    return new_output(
        "display_data",
        data={"image/png": png, "text/plain": sentence},
        metadata={"image/png": {"alt": sentence if alt is None else alt}},
    )


def printed(words, name="stdout"):
    return new_output("stream", name=name, text=words)


def found(tmp_path, *cells, name="ch02.ipynb"):
    nb = notebook(*cells)
    save(nb, tmp_path / FOLDER / name)
    return "\n".join(lint.problems(tmp_path))


FAULTS = {
    "empty cell": (code("", "empty"), "cell 'empty': the code cell is empty"),
    "long cell": (code(LONG, "long"), "26 lines of code"),
    "raises-exception": (code("1 / 0", tags=["raises-exception"]), "fails(...)"),
    "nbval-skip": (code("1", tags=["nbval-skip"]), "the tag 'nbval-skip'"),
    "a tag without its reason": (code("1", tags=["once: "]), "needs its reason"),
    "comment marker": (code("# NBVAL_IGNORE_OUTPUT\n1"), "hides from nbval"),
    "not compared, and no clock": (
        code("f(3)", tags=["nbval-ignore-output"]),
        "nothing here or next",
    ),
    "not compared": (code("1", tags=["nbval-ignore-output"]), "nothing here or next asserts"),
    "stored error": (
        code("f()", outputs=[new_output("error", ename="E", evalue="m", traceback=[])]),
        "a stored error, E: m",
    ),
    "stderr": (code("f()", outputs=[printed("careful", "stderr")]), "a stored warning on stderr"),
    "path in output": (code("f()", outputs=[printed("in /home/ann/x")]), "path in the output"),
    "path in source": (code("f('/home/ann')"), "path in the source"),
    "long output": (code("f()", outputs=[printed("x\n" * 26)]), "an output of 26 lines"),
    "big picture": (code("f()", outputs=[picture(size=60_001)]), "a picture of 60 KB"),
    "bare figure": (
        code("f()", outputs=[picture("<Figure size 640x480 with 1 Axes>")]),
        "use plotting.show",
    ),
    "picture without text": (code("f()", outputs=[picture("")]), "use plotting.show"),
    "stale alt text": (code("f()", outputs=[picture(alt="It ends at 2.")]), "alt text is not"),
    "decimal in prose": (text("The loss is 3.97 now."), "the number 3.97 stands in no"),
    "count in prose": (text("It has 4,097 tokens."), "the number 4,097"),
    "a count that looks like a year": (text("We take the first 2020 tokens."), "the number 2020"),
    "percent in prose": (text("Half of it, 51 %, is prose."), "the number 51 %"),
    "filler": (text("We simply add."), "filler: 'simply'"),
    "let's dive": (text("Let's dive in!"), "filler"),
    "emoji": (text("Well done \N{PARTY POPPER}"), "an emoji"),
    "remote image": (text("![a cat](https://example.org/cat.png)"), "is remote"),
    "remote html image": (text('<img alt="a cat" src="//example.org/cat.png">'), "is remote"),
    "no alt": (text("![](cat.png)"), "has no alt text"),
    "no alt in html": (text('<img src="cat.png">'), "has no alt text"),
    "missing image": (text("![a cat](cat.png)"), "'cat.png' leads nowhere"),
    "dead link": (text("See [there](../ch01_intro/ch01.ipynb#start)."), "leads nowhere"),
    "dead html link": (text('<a href="no.md">there</a>'), "'no.md' leads nowhere"),
    "attachment": (text("![a cat](attachment:cat.png)"), "an attached image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named(tmp_path, fault):
    cell, message = FAULTS[fault]
    problems = found(tmp_path, text("# Title"), cell)
    assert message in problems
    assert problems.startswith(f"{FOLDER}/ch02.ipynb: cell '")
    assert problems.count("\n") <= 1  # the one fault, not a cascade


GOOD = [
    text("""
        # 2.5 Byte pairs

        Read [section 2.4](#special) or the [script](make.py); GPT-2 of 2019 (§ 2.13, Python 3.11) keeps
        UTF-8. The 1st of 4,096 tokens, 50 % of `9.99`, $x = 3.14$ and $$y = 99$$ and the 13th.
        20 merges, printed above; chapters 5, 13 and 14; version 1.2.3; 2026-11-21; arXiv:1706.03762.

        | a table | 77 |
        |---|---|

        ```
        99 bottles
        ```
        <img alt="the script" src="make.py">
    """),
    code("size, share = 4_096, 0.5\nsize", "size", ["4096"]),
    text("Now a picture."),
    code("show(fig, sentence)", "picture", [picture()]),
    code("milliseconds(f)", "clock", ["7.25"], tags=["nbval-ignore-output"]),
    text("And a cell that is run once."),
    code("n = 20", "n", [printed("20 merges\n")], tags=["once: n goes on from there"]),
    text("A class may be long; a timing is shown and bounded."),
    code("class A:\n" + "\n".join(f"    a{i} = {i}" for i in range(30)), "class-a"),
    code("time()", "timed", ["12.5"], tags=["nbval-ignore-output"]),
    text("And what matters:"),
    code("assert elapsed < 60", "bound"),
]


def test_good_notebook_has_no_problems(tmp_path):
    save(notebook(), tmp_path / "ch01_intro" / "ch01.ipynb")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "make.py").touch()
    assert found(tmp_path, *GOOD) == ""


def test_three_code_cells_in_a_row(tmp_path):
    cells = [code("1", f"code-{i}") for i in "abcd"]
    assert found(tmp_path, *cells[:2]) == ""
    assert "cell 'code-c': the third code cell in a row" in found(tmp_path, *cells)


def test_a_number_in_an_ignored_output_explains_nothing(tmp_path):
    cells = [code("t()\nassert t", outputs=["12.5"], tags=["nbval-ignore-output"]), text("12.5 s")]
    assert "the number 12.5" in found(tmp_path, *cells)


def test_exercises_may_name_the_numbers_of_their_lesson(tmp_path):
    save(notebook(code("4096")), tmp_path / FOLDER / "ch02.ipynb")
    cell = text("The lesson had 4,096 tokens, not 4,097.")
    problems = found(tmp_path, cell, name="exercises.ipynb")
    assert "4,097" in problems and "4,096" not in problems


def test_a_solution_needs_its_check(tmp_path):
    solution = code("#| solution\ndef answer():\n    return 1", "answer")
    problems = found(tmp_path, solution, code("answer()"), name="solutions.ipynb")
    assert "does not check this solution" in problems
    assert found(tmp_path, solution, code("check.answer(answer)"), name="solutions.ipynb") == ""


def test_modules_and_tools_stay_small(tmp_path):
    save(notebook(), tmp_path / FOLDER / "ch02.ipynb")
    for path, lines in [("shared/text_data.py", 301), ("tools/a.py", 200), ("tools/b.py", 199)]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("\n" * lines)
    assert list(lint.problems(tmp_path)) == [
        "shared/text_data.py: 301 lines; at most 300",
        "tools/a.py: 200 lines; at most 199",
    ]


@pytest.mark.parametrize(
    "source, left",
    [
        ("a loss of 0.1890", ["0.1890"]),
        ("2,048 or 2048 wide", ["2,048", "2048"]),
        ("the 124M model", ["124M"]),
        ("between 20 and 30–40", ["20", "30", "40"]),
        ("the figures 2.61 and 3.2", ["2.61", "3.2"]),
        ("in 1890, in the 1990s, from 2019", []),
        ("int64, SHA-256, cp1252", []),
        ("12 of 12, or 12.0", ["12.0"]),
        ("1e-5 or 13 percent", ["13 percent"]),
        ("[a 16-bit word](17.html) and https://example.org/18", ["16"]),
        ("``99`` and <b>14</b> <!-- 15 -->", ["14"]),
    ],
)
def test_numbers_in_prose(source, left):
    assert prose.unexplained(source, prose.numbers("tensor(1e-05)")) == left


def test_definitions_used_within_two_cells():
    nb = notebook(
        code("def f(x):\n    return f(x - 1)\n\ndef g(): pass\n\nclass C: pass"),
        code("f(3)"),
        code("assert g() is None\nwith fails(ValueError):\n    C()"),
        code("def h(): pass"),
        code("%time 1"),
        code("1"),
        code("check.right(h)"),
    )
    assert style_report.definitions(nb) == [
        ("f", True),
        ("g", True),
        ("C", True),
        ("h", False),
    ]


def test_report(tmp_path, monkeypatch, capsys):
    save(
        notebook(
            text("## Not counted\n\nSix words, `code` and $x$ not counted."),
            code("# why\ndef f():\n    return 1\n\nassert f() == 1", outputs=[picture(size=2000)]),
            code("f()\nf()", outputs=[printed("one\ntwo\n")]),
        ),
        tmp_path / FOLDER / "ch02.ipynb",
    )
    monkeypatch.chdir(tmp_path)
    assert lint.main(["--report"]) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    figures = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    assert figures == {
        "notebook": f"{FOLDER}/ch02.ipynb",
        "cells": "3 (2 code)",
        "lines median/p90/max": "2.5/3/3",
        "words per line": "1.0",
        "run": "2",
        "used": "100% of 1",
        "unexplained": "0",
        "longest output": "2 lines",
        "largest picture": "2 KB",
    }


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert lint.main([]) == 0 and capsys.readouterr().out == ""
    assert lint.main(["--report"]) == 0
    save(notebook(text("obviously")), tmp_path / FOLDER / "ch02.ipynb")
    assert lint.main([]) == 1 and "obviously" in capsys.readouterr().out
    (tmp_path / FOLDER / "solutions.ipynb").write_text("{")
    assert lint.main([]) == 1
    assert "solutions.ipynb: this is not a notebook" in (out := capsys.readouterr().out)
    assert "obviously" in out


def in_parts(words):
    """Two sections, the second in two parts; each prints a number of its own. The prose of the last says `words`."""
    return [
        text("# Numbers\n\nOf 101, 202 and 303."),
        text("## 1.1 One", "one"),
        code("101", "print-one", ["101"], 1),
        text("## 1.2 Two\n\nThen 202, then 303.", "two"),
        text("### Two, first", "first"),
        code("202", "print-two", ["202"], 2),
        text("### Two, then", "then"),
        code("303", "print-three", ["303"], 3),
        text(words, "last"),
        text("## Summary\n\nOf 101, 202 and 303.", "summary"),
    ]


@pytest.mark.parametrize("words, far", [("It is 101.", "101"), ("It is 202.", "202")])
def test_a_number_of_another_part_is_not_known(tmp_path, words, far):
    report = found(tmp_path, *in_parts(words))
    assert f"cell 'last': the number {far} stands in no compared output" in report
    assert report.count("stands in no") == 1  # opening, summary and a section's first words may


def test_a_number_of_its_own_part_is_known(tmp_path):
    assert "stands in no" not in found(tmp_path, *in_parts("It is 303."))
