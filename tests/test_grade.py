"""tools.grade on notebooks as students hand them in: right, unsolved, odd, broken, and dishonest ones.

Most are graded by a course of three exercises that needs no PyTorch, since every process would import it.
"""

import builtins
import csv
import os
import shutil
import sys
from unittest import mock

import nbformat
import psutil
import pytest
import torch
from notebooks import code, notebook, save, text

import shared.attention
import shared.checks.ch03 as ch03
from shared import checks
from tools import ROOT, chapters, grade, processes, tampering

NAMES = ["double", "half", "whole"]
CHECKS = """
from shared.checks import exercise, require

@exercise
def double(answer):
    from shared.small import twice
    require(answer(4) == twice(4), "4 becomes 8")
    return "twice as much"

@exercise
def half(answer):
    require(abs(answer(4) - 2) < 1e-6, "4 becomes 2")
    return "half as much"

@exercise(guess=lambda answer: answer(2.5))
def whole(answer):
    require(answer(2.5) == 2, "2.5 becomes 2")
    return "a whole number"
"""
RIGHT = """
def double(x):
    return 2 * x
def half(x):
    return x / 2
def whole(x):
    return int(x)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A course of one chapter."""
    root = tmp_path_factory.mktemp("small")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tools", root / "tools", ignore=ignore)
    chapters_too = shutil.ignore_patterns("__pycache__", "ch0*", "appendix*")
    shutil.copytree(ROOT / "shared" / "checks", root / "shared" / "checks", ignore=chapters_too)
    (root / "shared" / "__init__.py").write_text("")
    (root / "shared" / "small.py").write_text("def twice(x):\n    return 2 * x\n")
    (root / "shared" / "attention.py").write_text("influence = None\n")
    (root / "shared" / "checks" / "ch01.py").write_text(CHECKS)
    save(notebook(code("1")), root / "ch01_small" / "ch01.ipynb")
    calls = [code(f"check.{name}({name})") for name in NAMES[:2]]
    calls.append(code("check.whole(whole, guess_1_3)"))  # a guess, which a hand-in may leave out
    stubs = [code(f"def {name}(x):\n    raise NotImplementedError") for name in NAMES]
    cards = [cell for pair in zip(stubs, calls) for cell in pair]
    save(notebook(text("# Exercises"), *cards), root / "ch01_small" / "exercises.ipynb")
    return root


def graded(root, *sources, **limits):
    """The verdicts of a notebook with these code cells, and the remarks."""
    chapter = chapters(root)[0]
    calls = grade.check_calls(chapter.folder / "exercises.ipynb")
    cells = list(enumerate(map(str.strip, sources), start=1))
    return grade.grade(cells, processes.course(root), chapter, calls, **limits)


def points(verdicts):
    return [name for name, (ok, _) in verdicts.items() if ok]


def rows(table):
    with open(table, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


ODD = [
    "%matplotlib inline\n!echo one\nfrom shared.checks import ch01 as check",
    "display(1)\nhalf_of = lambda x: x / 2\nhalf_of?\n%timeit -n1 -r1 half_of(1)",
    "%%time\n@shown\ndef half(x):\n    return half_of(x)",
    "check.half(half)",
    "def shown(f):\n    def run(x):\n        display(x)\n        return f(x)\n    return run",
    "import asyncio\nawait asyncio.sleep(0)\nasyncio.get_running_loop()\nfactor = 2\ndef double(x):\n    return factor * x",
    "check.double(double)",
    "factor = 3",
    "%%bash\necho two",
    "%%html\n<b>three</b>",
    "%%capture kept\nprint(4)",
    "exit",
    "import builtins\ndef whole(x):\n    builtins.get_ipython().run_line_magic('pwd', '')\n    return int(x)\n%pwd\nwhole(5.5)",
    "Out[13], _, In[1]",
    "name = input('Who are you?')",
    "import warnings, collections\nwarnings.warn('old')\ncollections.namedtuple('P', 'x')(1)",
    "guess_1_3 = 2 # why not?\nguessed = 1",
    "raise SystemExit",
]


def test_a_folder_becomes_a_table_and_letters(root, tmp_path, capsys):
    odd = notebook(*map(code, ODD))
    odd.metadata["kernelspec"] = {"name": "julia-1.9", "display_name": "Julia"}
    students = tmp_path / "in"
    save(odd, students / "Jürgen" / "exercises.IPYNB")
    path = students / "Jürgen" / "exercises.IPYNB"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    stub = (root / "ch01_small" / "exercises.ipynb").read_text(encoding="utf-8")
    (students / "bob.ipynb").write_text(stub, encoding="utf-16")
    (students / "cleo.ipynb").write_text('{"nbformat": 4}')
    (students / "__MACOSX").mkdir()
    (students / "__MACOSX" / "._bob.ipynb").write_bytes(b"\0\5\x16\7")
    save(odd, students / ".ipynb_checkpoints" / "bob-checkpoint.ipynb")
    hostile = f"""
import os, pathlib, shared.checks
for path in (shared.checks.__file__, {str(root / "shared" / "small.py")!r}):
    pathlib.Path(path).write_text("everything = 'is right'")
def half(x):
    raise ValueError("=" * 10**7 + "\\ud800")
"""
    save(notebook(code(hostile)), students / "=cmd|calc.ipynb")
    table = tmp_path / "grades.csv"
    kept = (root / "shared" / "small.py").read_text()
    assert grade.main(["ch01_small", str(students), str(table)], root) == 1
    (root / "shared" / "small.py").write_text(kept)
    mallory, jürgen, bob, cleo = rows(table)
    assert table.read_bytes().startswith(b"\xef\xbb\xbf")
    assert list(mallory) == ["notebook", *NAMES, "right", "guesses", "remarks"]

    assert mallory["notebook"] == "'=cmd|calc.ipynb" and mallory["right"] == "0"
    assert "shared/small.py in your own copy of the course has changed" in mallory["remarks"]
    assert "not counted: the notebook changed shared/checks/__init__.py" in mallory["remarks"]
    assert len(mallory["remarks"]) < 3000

    assert jürgen["notebook"] == "Jürgen/exercises.IPYNB"
    assert [jürgen[name] for name in NAMES] == ["1"] * 3, jürgen["remarks"]
    assert jürgen["remarks"].count("code cell") == 2, jürgen["remarks"]
    assert jürgen["guesses"] == "guess_1_3 = 2 # why not?" and bob["guesses"] == ""
    assert "code cell 15: EOFError: nobody answers input()" in jürgen["remarks"]
    assert "code cell 18: SystemExit" in jürgen["remarks"]

    assert bob["right"] == "0" and bob["remarks"].count("not solved yet") == 3
    assert cleo["right"] == "0" and "not a notebook" in cleo["remarks"]
    assert "Jürgen/exercises.IPYNB: 3 of 3" in capsys.readouterr().out

    letters = tmp_path / "grades-feedback"
    assert len([path for path in letters.rglob("*") if path.is_file()]) == 4
    letter = (letters / "Jürgen" / "exercises.IPYNB.txt").read_text(encoding="utf-8")
    assert letter.startswith(
        "Jürgen/exercises.IPYNB: 3 of 3\n\n1  double\n   right: twice as much\n"
    )
    assert "EOFError" in letter


def test_the_course_itself_is_graded(tmp_path):
    """With PyTorch, and all that the checks of a chapter stand on."""
    chapter = {one.folder.name: one for one in chapters(ROOT)}["ch03_attention"]
    solved = nbformat.read(chapter.folder / "solutions.ipynb", as_version=4)
    save(solved, tmp_path / "in" / "ann.ipynb")
    assert grade.main(["ch03_attention", str(tmp_path / "in"), str(tmp_path / "g.csv")]) == 0
    (ann,) = rows(tmp_path / "g.csv")
    assert ann["right"] == "7" and len(ann) == 11, ann["remarks"]
    assert ann["guesses"].startswith("guess_3_3 = ")


FORGED = """
import inspect, os, sys
def {name}(x):
    frame = {frame}
    while frame:
        for tell in list(frame.f_locals.values()):
            if callable(tell) and getattr(tell, "__name__", "") == "tell":
                for name in ("double", "half", "whole"):
                    tell("begins", name)
                    tell("verdict", name, True, "right")
                tell("end")
                os._exit(0)
        frame = frame.f_back
"""


def test_a_look_at_the_graders_frames_is_refused_and_named(root):
    by_error = (
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    trace = error.__traceback__"
    )
    verdicts, _ = graded(
        root,
        "guess_1_3 = 2",
        FORGED.format(name="double", frame="sys._getframe()"),
        FORGED.format(name="half", frame="inspect.currentframe()"),
        by_error,
        FORGED.format(name="whole", frame="trace.tb_frame"),
    )
    assert points(verdicts) == []
    for _, said in verdicts.values():
        assert "PermissionError: a notebook may not look at the frames of its callers" in said


def test_an_end_within_an_answer_is_noticed_and_costs_its_own_point_only(root):
    leaves = "import os\ndef half(x):\n    os._exit(0)"
    verdicts, remarks = graded(root, RIGHT, leaves, "1 / 0", "this is no Python")
    assert points(verdicts) == ["double", "whole"]
    assert verdicts["half"] == (False, processes.EARLY)
    assert remarks == [
        "code cell 3: ZeroDivisionError: division by zero",
        "code cell 4: SyntaxError: invalid syntax (line 1)",
    ]


def alive(word):
    found = []
    for one in psutil.process_iter(["cmdline"]):
        if word in (one.info["cmdline"] or []):
            found.append(one.pid)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="limits and orphans: on Linux only")
def test_limits_and_what_was_started_ends(root):
    word = f"31536000.{os.getpid()}"
    verdicts, remarks = graded(
        root,
        RIGHT,
        f"import subprocess\nsubprocess.Popen(['sleep', '{word}'], start_new_session=True, env={{}})\n"
        f"import os\nos.system('(setsid sleep {word} &) &')",
        "much = bytearray(3 * 2**30)",
        "with open('file', 'wb') as file:\n    file.seek(2**30 + 1)\n    file.write(b'1')",
        "import time\nmany = [subprocess.Popen(['sleep', '99']) for _ in range(60)]\ntime.sleep(99)",
        "for _ in range(1000):\n    print('much' * 10**5)",
        gigabytes=2,
    )
    assert points(verdicts) == NAMES
    assert [remark.replace("code cell ", "") for remark in remarks] == [
        "3: MemoryError",
        "4: OSError: [Errno 27] File too large",
        "5: stopped: it had more than 50 processes",
    ]
    assert alive(word) == []
    assert processes.too_much([psutil.Process()], 0.001).startswith(
        "stopped: it used more than 0.001"
    )


def test_what_never_ends_is_stopped(root):
    verdicts, remarks = graded(root, "while True:\n    pass", seconds=0.5)
    assert points(verdicts) == [] and remarks[0].endswith("not done after 0.5 seconds")


def other(*args):
    return True


@pytest.mark.parametrize(
    "owner, key, value, named",
    [
        (checks, "Result", other, "shared.checks.Result"),
        (checks.Result, "__getattribute__", other, "shared.checks.Result.__getattribute__"),
        (checks.Result, "__init__", other, "shared.checks.Result.__init__"),
        (checks, "require", other, "shared.checks.require"),
        (checks.require, "__code__", other.__code__, "shared.checks.require"),
        (checks.require, "__defaults__", (1, 2), "shared.checks.require"),
        (ch03, "require", other, "shared.checks.ch03.require"),
        (ch03, "isinstance", other, "shared.checks.ch03.isinstance"),
        (ch03, "same_attention", other, "shared.checks.ch03.same_attention"),
        (
            ch03.same_attention.__wrapped__,
            "__code__",
            other.__code__,
            "shared.checks.ch03.same_attention",
        ),
        (
            ch03.same_attention.__closure__[0],
            "cell_contents",
            other,
            "shared.checks.ch03.same_attention",
        ),
        (shared.attention, "influence", other, "shared.attention.influence"),
        (
            shared.attention.MultiHeadAttention,
            "forward",
            other,
            "shared.attention.MultiHeadAttention.forward",
        ),
        (torch, "equal", other, "torch.equal"),
        (torch.Tensor, "__eq__", other, "torch.Tensor.__eq__"),
        (torch.Tensor, "__getattribute__", other, "torch.Tensor.__getattribute__"),
        (builtins, "abs", other, "builtins.abs"),
    ],
)
def test_changed_checks_are_named(owner, key, value, named, monkeypatch):
    loaded = [name for name in sys.modules if name.split(".")[0] == "shared"]
    before = tampering.marks(loaded)
    assert tampering.changes(before, tampering.marks(loaded)) == []
    monkeypatch.setattr(owner, key, value, raising=False)
    now = tampering.marks(loaded)
    monkeypatch.undo()
    assert named in tampering.changes(before, now)


def test_changed_lists_and_modules_are_named(monkeypatch):
    loaded = ["shared.attention", "shared.checks.ch03"]
    before = tampering.marks(loaded)
    monkeypatch.setattr(ch03, "_MISTAKES", ch03._MISTAKES[1:])
    monkeypatch.setitem(sys.modules, "shared.attention", mock.Mock())
    found = tampering.changes(before, tampering.marks(loaded))
    assert {"shared.checks.ch03._MISTAKES", "shared.attention"} <= {*found}


YES = type("Yes", (float,), {"__module__": "__main__", "__lt__": other, "__sub__": other})


@pytest.mark.parametrize("value", [mock.ANY, YES(1), [1, mock.ANY], {"a": YES(2)}], ids=str)
def test_an_object_that_says_yes_is_refused_with_a_sentence(value):
    check = tampering.asked(checks.exercise(lambda answer: "yes" if answer() == 3 else "no"))
    result = check(lambda: value)
    assert (
        not result.ok
        and "which decides for itself what it equals; use a plain value" in result.text
    )
    assert check(lambda: 3).ok and check(lambda: [torch.ones(2), {"a": None}]).ok
    with pytest.raises(TypeError, match="the answer is a .*, which decides for itself"):
        check(mock.ANY)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", "＝1"])
def test_no_cell_of_the_table_is_a_formula(text):
    assert grade.no_formula(text)[0] == "'"
    assert (
        grade.no_formula(f"a;{text}") == f"a,{grade.one_line(';' + text)[1:]}"
    )  # `;` separates, too


def test_what_is_shown_is_one_short_line():
    assert grade.one_line("a\n\0\ud800 b") == "a ?? b"
    assert (
        grade.one_line("a" * 3000).endswith("aaa ... (cut)")
        and len(grade.one_line("a" * 3000)) < 2100
    )


@pytest.mark.parametrize(
    "chapter, folder, table, message",
    [
        ("ch99_none", "in", "new.csv", "no chapter 'ch99_none'; there are ch01_small"),
        ("ch01_small", "empty", "new.csv", "no notebook in"),
        ("ch01_small", "in", "old.csv", "old.csv exists"),
        ("ch01_small", "in", "older.csv", "older-feedback exists"),
    ],
)
def test_what_cannot_be_graded_is_said(root, tmp_path, capsys, chapter, folder, table, message):
    save(notebook(code("1")), tmp_path / "in" / "a.ipynb")
    (tmp_path / "empty").mkdir()
    (tmp_path / "older-feedback").mkdir()
    (tmp_path / "old.csv").write_text("kept")
    with pytest.raises(SystemExit):
        grade.main([chapter, str(tmp_path / folder), str(tmp_path / table)], root)
    assert message in capsys.readouterr().err
    assert (tmp_path / "old.csv").read_text() == "kept" and not (tmp_path / "new.csv").exists()
