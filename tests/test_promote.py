"""promote.py on small repositories: what it writes, and each fault that it refuses."""

import importlib
import sys
from textwrap import dedent

import pytest
from notebooks import code, notebook, save, text

from tools import promote

FOLDERS = {
    "appendix_a": "appendix_a_pytorch",
    "ch02": "ch02_text_data",
    "ch03": "ch03_attention",
    "ch04": "ch04_gpt_model",
}


@pytest.fixture
def course(tmp_path):
    """Write a tiny course: `course(ch02=[cells])` returns its root. A string is a promoted cell `x`."""
    (tmp_path / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    (tmp_path / "shared").mkdir()

    def write(**lessons):
        for name, cells in lessons.items():
            if isinstance(cells, str):
                cells = [promoted(cells)]
            save(notebook(*cells), tmp_path / FOLDERS[name] / f"{name}.ipynb")
        return tmp_path

    return write


def promoted(source, id="x"):
    return code("#| promote\n" + dedent(source).strip("\n"), id=id)


def refused(root, capsys):
    """What the tool prints when it refuses; it must write nothing."""
    before = files(root)
    assert promote.main([], root) == 1
    assert files(root) == before
    return capsys.readouterr().err


def files(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def module(root, name):
    return (root / "shared" / f"{name}.py").read_text()


TEXT_DATA = '''\
"""Chapter 2: text data. Promoted from ch02_text_data/ch02.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import re
from collections import Counter

__all__ = ["PATTERN", "words", "Vocabulary"]


# ch02.ipynb: pattern
PATTERN = r"\\w+|[^\\w\\s]"


# ch02.ipynb: words
# Punctuation counts as a word.
def words(text):
    """Split a text; see `_clean`."""
    return re.findall(PATTERN, _clean(text))


def _clean(text):
    return text.strip()  # a reason


# ch02.ipynb: vocabulary
class Vocabulary:
    """Words by number."""

    unknown = "<|unk|>"

    def __init__(self, text):
        self.counts = Counter(words(text))
'''

PREVIOUS = '''\
"""The names of earlier chapters that ch04.ipynb imports; written by `make promote`."""

from shared.attention import Attention
from shared.text_data import Vocabulary, words

__all__ = ["Attention", "Vocabulary", "words"]
'''


@pytest.fixture
def whole_course(course):
    return course(
        ch02=[
            text("# Text\n\n#| promote is only prose here"),
            promoted('PATTERN = r"\\w+|[^\\w\\s]"', "pattern"),
            code("%matplotlib inline\nimport math\nmath.pi"),
            promoted(
                '''
                import os, re


                # Punctuation counts as a word.
                def words( text ):
                    """Split a text; see `_clean`."""
                    return re.findall(PATTERN, _clean(text))


                def _clean(text):
                    return text.strip()  # a reason
                ''',
                "words",
            ),
            code("words('to be')"),
            promoted("from collections import Counter", "imports"),
            promoted(
                '''
                class Vocabulary:
                    """Words by number."""
                    unknown = '<|unk|>'

                    def __init__(self, text):
                        self.counts = Counter(words(text))
                ''',
                "vocabulary",
            ),
        ],
        ch03="class Attention:\n    heads: int = 2",
        ch04=[
            code("%matplotlib inline\nfrom previous_chapters import words, Attention"),
            code("def show():\n    from previous_chapters import Vocabulary"),
            promoted("def model(text) -> Attention:\n    return words(text)"),
        ],
    )


def test_the_module_reads_as_if_written_by_hand(whole_course, capsys):
    assert promote.main([], whole_course) == 0
    assert module(whole_course, "text_data") == TEXT_DATA
    assert "wrote shared/text_data.py" in capsys.readouterr().out


def test_previous_chapters_re_exports_what_the_notebook_imports(whole_course):
    promote.main([], whole_course)
    assert (whole_course / "ch04_gpt_model/previous_chapters.py").read_text() == PREVIOUS
    nothing = (whole_course / "ch02_text_data/previous_chapters.py").read_text()
    assert nothing == '"""Chapter 2 builds on no earlier chapter\'s code."""\n'


def test_a_borrowed_name_is_imported_from_its_owner_if_it_is_used(whole_course):
    promote.main([], whole_course)
    model = module(whole_course, "gpt_model")
    assert "from shared.attention import Attention\nfrom shared.text_data import words\n" in model
    assert "Vocabulary" not in model and "math" not in model


def test_the_modules_can_be_imported(whole_course, monkeypatch):
    promote.main([], whole_course)
    (whole_course / "shared/__init__.py").touch()
    monkeypatch.setattr(
        sys, "path", [str(whole_course / "ch04_gpt_model"), str(whole_course), *sys.path]
    )
    names = [name for name in sys.modules if name.split(".")[0] in ("shared", "previous_chapters")]
    for name in [*names, "shared", "shared.text_data", "shared.attention", "previous_chapters"]:
        monkeypatch.setitem(
            sys.modules, name, None
        )  # what the test imports is forgotten afterwards
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    previous = importlib.import_module("previous_chapters")
    assert previous.words("to be") == ["to", "be"]
    assert previous.Vocabulary("a b a").counts == {"a": 2, "b": 1}


def test_a_second_run_changes_nothing(whole_course, capsys):
    promote.main([], whole_course)
    before = files(whole_course)
    capsys.readouterr()
    assert promote.main([], whole_course) == 0
    assert files(whole_course) == before
    assert capsys.readouterr().out == ""
    assert promote.main(["--check"], whole_course) == 0


def test_check_shows_what_is_stale_and_writes_nothing(whole_course, capsys):
    before = files(whole_course)
    assert promote.main(["--check"], whole_course) == 1
    assert files(whole_course) == before
    assert "+def words(text):" in capsys.readouterr().out


def test_check_finds_a_module_edited_by_hand(whole_course, capsys):
    promote.main([], whole_course)
    path = whole_course / "shared/text_data.py"
    path.write_text(path.read_text().replace("text.strip()", "text.lower()"))
    assert promote.main(["--check"], whole_course) == 1
    out = capsys.readouterr().out
    assert "-    return text.lower()  # a reason\n+    return text.strip()  # a reason" in out
    promote.main([], whole_course)
    assert module(whole_course, "text_data") == TEXT_DATA


def test_course_order_is_not_alphabetical(course):
    root = course(appendix_a="def step(): ...", ch02=[code("from previous_chapters import step")])
    assert promote.main([], root) == 0
    assert (
        "from shared.pytorch import step"
        in (root / "ch02_text_data/previous_chapters.py").read_text()
    )


def test_a_second_notebook_of_a_chapter_promotes_into_the_same_module(course, capsys):
    root = course(ch02="def words(): ...")
    path = root / "ch02_text_data/ch02_more.ipynb"
    more = [code("from shared.text_data import words"), promoted("def letters(): ...")]
    save(notebook(*more), path)
    assert promote.main([], root) == 0
    assert '__all__ = ["words", "letters"]' in module(root, "text_data")
    assert "\n# ch02_more.ipynb: x\ndef letters(): ..." in module(root, "text_data")
    save(notebook(promoted("def words(): ...")), path)
    assert "ch02_more.ipynb, cell 'x', line 2: `words` is promoted twice" in refused(root, capsys)


def test_an_alias_is_kept_in_the_module_and_not_re_exported(course):
    root = course(
        ch02="def words(): ...",
        ch03=[
            promoted("from previous_chapters import words as split\n\ndef f():\n    return split()")
        ],
    )
    assert promote.main([], root) == 0
    assert "from shared.text_data import words as split" in module(root, "attention")
    assert '__all__ = ["words"]' in (root / "ch03_attention/previous_chapters.py").read_text()


def test_hand_written_modules_of_shared_may_be_imported_anywhere(course):
    root = course(
        ch03="""
        from shared.checks import fails
        def f():
            from shared import editions
            return editions.text(), fails
        """,
        ch02=[
            promoted("A = 1"),
            code("from shared.text_data import A  # to try the promoted module"),
        ],
    )
    assert promote.main([], root) == 0
    assert "from shared.checks import fails" in module(root, "attention")
    assert "    from shared import editions" in module(root, "attention")


ALLOWED = {
    "docstring": '"""About."""\nA = 1',
    "implicit concatenation": 'A = (\n    "a"\n    "b"\n)',
    "negative, tuple, dict": 'A = -1\nB = (1, "x")\nC: dict = {"a": [1, None, True]}',
    "Final": "from typing import Final\nA: Final = 3",
    "decorator with arguments": "import functools\n@functools.lru_cache(maxsize=None)\ndef f(): ...",
    "base class that is called": "from collections import namedtuple\nclass A(namedtuple('A', 'x')): ...",
    "dataclass fields": (
        "from dataclasses import dataclass, field\n"
        "@dataclass\nclass A:\n    x: list = field(default_factory=list)"
    ),
    "lambda as default": "def f(g=lambda: print()):\n    return g()",
    "async and generators": "async def f():\n    yield await g()\nasync def g(): ...",
    "comprehension": "def f(xs):\n    return [x for x in xs if x], {k: v for k, v in xs}",
    "nested functions": "def f(x):\n    def g(y):\n        return x + y\n    return g",
    "lambda arguments": "def f():\n    return lambda a, *b, **c: (a, b, c)",
    "nonlocal": "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g",
    "global": "N = 0\ndef f():\n    global N\n    N += 1",
    "walrus": "def f(xs):\n    if (n := len(xs)) > 1:\n        return n\n    return [y for x in xs if (y := x)]",
    "except as": "def f():\n    try:\n        f()\n    except ValueError as error:\n        return error",
    "with and for": "def f(p):\n    with open(p) as h:\n        for line in h:\n            return line",
    "match": "def f(x):\n    match x:\n        case [a, *b]:\n            return a, b",
    "class attribute by self": "class A:\n    n = 1\n    m = n\n    def f(self):\n        return self.n",
    "super and class cell": "class A:\n    def f(self):\n        return super().f(), __class__, __name__",
    "defined further down": "def f():\n    return g()\ndef g(): ...",
    "annotation as text": 'def f(x: "A") -> "list[A]": ...\nclass A: ...',
    "import in a function": "def f():\n    import os.path as p\n    return p",
    "submodule": "import os.path\ndef f():\n    return os.path.sep",
    "future": "from __future__ import annotations\ndef f(x: A): ...\nclass A: ...",
    "type checking only": "from fractions import Fraction\ndef f(x: 'Fraction'): ...",
    "mark with trailing blanks": "A = 1   ",
}


@pytest.mark.parametrize("source", ALLOWED.values(), ids=ALLOWED)
def test_allowed_in_a_promoted_cell(course, source):
    root = course(ch02=source)
    assert promote.main([], root) == 0
    exec(module(root, "text_data"), {"__name__": "text_data"})  # it runs, and does nothing


HOLDS = "a promoted cell holds imports, definitions and constants only; "
FAULTS = {
    "print": ("A = 1\nprint(A)", "line 3: " + HOLDS + "move `print(...)` to its own cell"),
    "method call": (
        "import torch\ntorch.manual_seed(1)",
        "line 3: " + HOLDS + "move `torch.manual_seed(...)`",
    ),
    "expression": ("1 + 1", "move `1 + 1` to its own cell"),
    "name shown": ("A = 1\nA", "move `A` to its own cell"),
    "loop": ("for i in range(3):\n    pass", "move `for i in range(3):` to its own cell"),
    "if": ("if True:\n    A = 1", "move `if True:`"),
    "with": ("with open('x') as f:\n    pass", "move `with open('x') as f:`"),
    "try": ("try:\n    import x\nexcept ImportError:\n    x = None", "move `try:`"),
    "assert": ("assert 1", "move `assert 1`"),
    "await": ("await f()", "move `await f()`"),
    "computed": (
        "A = len('abc')",
        "line 2: " + HOLDS + "`A = len('abc')` is not a literal constant",
    ),
    "computed from a constant": ("A = 1\nB = A + 1", "line 3: " + HOLDS + "`B = A + 1` is not"),
    "f-string": ("A = f'{1}'", "is not a literal constant"),
    "lambda": ("f = lambda x: x", "`f = lambda x: x` is not a literal constant"),
    "unhashable": ("A = {[]: 1}", "is not a literal constant"),
    "annotation only": ("A: int", "`A: int` is not a literal constant"),
    "item": ("A = {}\nA['x'] = 1", "`A['x'] = 1` is not a literal constant"),
    "augmented": ("A = 1\nA += 1", "move `A += 1`"),
    "call in class body": (
        "class A:\n    x = print()",
        "line 3: " + HOLDS + "the body of class `A` calls `print(...)`",
    ),
    "print in class body": ("class A:\n    print()", "the body of class `A` runs `print(...)`"),
    "loop in class body": (
        "class A:\n    for i in '':\n        pass",
        "the body of class `A` runs `for i in '':`",
    ),
    "call in inner class": (
        "class A:\n    class B:\n        print()",
        "line 4: " + HOLDS + "the body of class `B`",
    ),
    "call in default": ("def f(x=open('a')): ...", "the signature of `f` calls `open(...)`"),
    "call in method default": (
        "class A:\n    def f(self, *, x=[print()]): ...",
        "line 3: " + HOLDS + "the signature",
    ),
    "line magic": (
        "%matplotlib inline",
        "line 2: " + HOLDS + "`%matplotlib inline` is not plain Python",
    ),
    "shell": ("A = 1\n!ls", "line 3: " + HOLDS + "`!ls` is not plain Python"),
    "two statements": ("import os; A = 1", "line 2: write one statement a line"),
    "star": ("from os import *", "`from os import *` hides which names it brings"),
    "mark below": (
        "A = 1\n#| promote",
        "line 3: `#| promote` is no mark here; write `#| promote` as the cell's",
    ),
    "twice": (
        "def f(): ...\nclass f: ...",
        "line 3: `f` is promoted twice; the first time: ch02.ipynb, cell 'x', line 2",
    ),
    "imported and defined": (
        "from re import sub\ndef sub(): ...",
        "`sub` is also bound by `from re import sub`",
    ),
    "imported as two things": (
        "import re as r\nimport os as r",
        "`r` is also bound by `import re as r`",
    ),
    "own __all__": ("__all__ = ['f']", "`__all__` is written by this tool"),
    "undefined": (
        "def f():\n    return a",
        "line 3: `a` is used, but no promoted cell imports or defines it",
    ),
    "undefined decorator": ("@a\ndef f(): ...", "line 2: `a` is used"),
    "undefined base": ("class A(B): ...", "line 2: `B` is used"),
    "undefined annotation": ("def f(x: Tensor): ...", "`Tensor` is used"),
    "undefined annotation as text": ("def f(x) -> 'list[Tensor]': ...", "`Tensor` is used"),
    "undefined default": ("def f(x=a): ...", "`a` is used"),
    "notebook's own functions": ("def f(x):\n    display(x)", "`display` is used"),
    "class attribute without self": (
        "class A:\n    n = 1\n    def f(self):\n        return n",
        "line 5: `n` is used",
    ),
    "comprehension variable outside": ("def f(xs):\n    return [x for x in xs], x", "`x` is used"),
    "error after except": (
        "def f():\n    try:\n        f()\n    except ValueError as e:\n        pass\n    return e",
        "line 7: `e` is used",
    ),
    "decorator before its definition": ("@g\ndef f(): ...\ndef g(x): ...", "`g` is used"),
    "hidden by noqa": ("def f():\n    return a  # noqa: F821", "`a` is used"),
    "unknown global": (
        "def f():\n    global n\n    n = 1",
        "line 3: `global n`, but no promoted cell",
    ),
    "unknown name": ("from previous_chapters import f", "line 2: no chapter promotes `f`"),
    "previous star": ("from previous_chapters import *", "by name"),
    "previous whole": (
        "import previous_chapters",
        "write `from previous_chapters import A, B`, by name",
    ),
    "previous in a function": (
        "def f():\n    from previous_chapters import g",
        "import `g` outside the function",
    ),
    "own module": (
        "from shared.text_data import f\ndef f(): ...",
        "`f` is promoted by ch02.ipynb, this very chapter",
    ),
}


@pytest.mark.parametrize("source, message", FAULTS.values(), ids=FAULTS)
def test_refused_in_a_promoted_cell(course, capsys, source, message):
    said = refused(course(ch02=source), capsys)
    assert message in said
    assert said.startswith("ch02.ipynb, cell 'x', line ")


def test_a_module_has_at_most_300_lines(course, capsys):
    long = "\n".join(f"    {number}" for number in range(300))
    said = refused(course(ch02=f"def f():\n{long}"), capsys)
    assert said == "ch02.ipynb: shared/text_data.py would have 310 lines; 300 are allowed\n"


COURSE_FAULTS = {
    "two owners": (
        dict(ch02="def f(): ...", ch03=[promoted("def f(): ...", "y")]),
        "ch03.ipynb, cell 'y', line 2: `f` is promoted twice; the first time: ch02.ipynb, cell 'x', line 2",
    ),
    "two cells": (
        dict(ch02=[promoted("A = 1", "x"), promoted("A = 1", "y")]),
        "ch02.ipynb, cell 'y', line 2: `A` is promoted twice",
    ),
    "later chapter": (
        dict(ch02=[code("1\nfrom previous_chapters import f", id="x")], ch03="def f(): ..."),
        "ch02.ipynb, cell 'x', line 2: `f` is promoted by ch03.ipynb, a later chapter",
    ),
    "own name": (
        dict(ch02=[promoted("def f(): ..."), code("from previous_chapters import f", id="y")]),
        "ch02.ipynb, cell 'y', line 1: `f` is promoted by ch02.ipynb, this very chapter",
    ),
    "private name": (
        dict(ch02="def _f(): ...", ch03=[code("from previous_chapters import _f")]),
        "no chapter promotes `_f`",
    ),
    "forward by shared": (
        dict(ch02="from shared.attention import f\ndef g():\n    return f()", ch03="def f(): ..."),
        "`f` is promoted by ch03.ipynb, a later chapter",
    ),
    "forward in a function": (
        dict(ch02="def g():\n    from shared.attention import f", ch03="def f(): ..."),
        "ch02.ipynb, cell 'x', line 3: `f` is promoted by ch03.ipynb, a later chapter",
    ),
    "forward by module": (
        dict(ch02="def g():\n    from shared import attention", ch03="def f(): ..."),
        "`shared.attention` is promoted by ch03.ipynb",
    ),
    "forward by import": (
        dict(ch02=[code("import shared.attention as a", id="x")], ch03="def f(): ..."),
        "ch02.ipynb, cell 'x', line 1: `shared.attention` is promoted by ch03.ipynb",
    ),
    "unknown in a shared module": (
        dict(ch02="def f(): ...", ch03=[code("from shared.text_data import g", id="x")]),
        "ch03.ipynb, cell 'x', line 1: shared.text_data has no `g`",
    ),
    "unpromoted name": (
        dict(ch02=[code("limit = 3"), promoted("def f():\n    return limit")]),
        "`limit` is used, but no promoted cell",
    ),
    "import in an ordinary cell": (
        dict(ch02=[code("import re"), promoted("def f():\n    return re")]),
        "`re` is used, but no promoted cell",
    ),
    "a mark with a slip": (dict(ch02=[code("#|promote\nA = 1")]), "`#|promote` is no mark here"),
}


@pytest.mark.parametrize("lessons, message", COURSE_FAULTS.values(), ids=COURSE_FAULTS)
def test_refused_between_cells_and_chapters(course, capsys, lessons, message):
    assert message in refused(course(**lessons), capsys)


def test_all_faults_are_told_at_once_and_each_once(course, capsys):
    root = course(
        ch02="print()\nA = len('')\ndef f():\n    return A, b",
        ch03="from previous_chapters import c\nc()\ndef g():\n    return c()",
    )
    lines = refused(root, capsys).splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "ch02.ipynb, cell 'x', line 2",
        "ch02.ipynb, cell 'x', line 3",
        "ch02.ipynb, cell 'x', line 5",
        "ch03.ipynb, cell 'x', line 3",
        "ch03.ipynb, cell 'x', line 2",
    ]


def test_a_module_without_its_notebook_is_refused(course, capsys):
    root = course(ch02="A = 1", ch03="B = 1")
    promote.main([], root)
    (root / "ch03_attention/ch03.ipynb").unlink()
    said = refused(root, capsys)
    assert (
        "shared/attention.py says it is promoted from ch03_attention/ch03.ipynb, which does not exist"
        in said
    )
    assert "ch03_attention/previous_chapters.py stands in a folder without its notebook" in said
    course(ch03=[code("1")])
    assert "which promotes nothing" in refused(root, capsys)


def test_a_module_written_by_hand_is_not_overwritten(course, capsys):
    root = course(ch02="A = 1")
    (root / "shared/text_data.py").write_text("A = 2\n")
    assert "shared/text_data.py is written by hand" in refused(root, capsys)


def test_a_chapter_needs_a_place_in_the_order_and_a_topic_of_its_own(course, capsys):
    root = course(ch02="A = 1")
    save(notebook(), root / "ch09_more/ch09.ipynb")
    assert "ch09 has no place in the ORDER" in refused(root, capsys)
    (root / "ch09_more/ch09.ipynb").rename(root / "ch09_more/old.ipynb")
    save(notebook(), root / "ch03_text_data/ch03.ipynb")
    assert "ch03_text_data and ch02_text_data share a name or a topic" in refused(root, capsys)


def test_a_broken_notebook_is_named(course, capsys):
    root = course(ch02="A = 1")
    (root / "ch02_text_data/ch02.ipynb").write_text("{")
    assert "ch02.ipynb: this is not a notebook" in refused(root, capsys)


def test_a_missing_ruff_is_one_clear_message(course, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ruff", None)
    assert refused(course(ch02="A = 1"), capsys).startswith("ruff is not installed: python -m pip")


def test_a_course_without_chapters_is_no_fault(tmp_path):
    assert promote.main(["--check"], tmp_path) == 0
