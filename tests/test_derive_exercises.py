"""derive_exercises.py on small notebooks: the notebook it derives, and what it refuses."""

import ast
import inspect
from textwrap import dedent

import nbformat
import pytest
from notebooks import code, notebook, save, text

from tools import derive_exercises
from tools.stubs import without_answers

SOLUTION = '''
#| solution
import re
from collections import (
    Counter,  # of words
)

# The answer counts once.
@staticmethod
def split(
    text,  # any text
    pattern=r"\\w+",
):
    """Split a text.

    # A comment within the docstring stays.
    """
    # The trick: findall.
    return re.findall(pattern, text)  # one pass


class Tokenizer(dict):  # by number
    """Words by number."""

    limit = 10

    def __init__(self, text):
        self.update(Counter(split(text)))

    # A helper.
    @property
    def size(self) -> int:
        """How many."""
        def count(): return len(self)
        return count()

    async def encode(self, text): return [self[word] for word in split(text)]
'''

STUBS = '''
import re
from collections import (
    Counter,
)


@staticmethod
def split(
    text,
    pattern=r"\\w+",
):
    """Split a text.

    # A comment within the docstring stays.
    """
    raise NotImplementedError("not solved yet")


class Tokenizer(dict):
    """Words by number."""

    def __init__(self, text):
        raise NotImplementedError("not solved yet")

    @property
    def size(self) -> int:
        """How many."""
        raise NotImplementedError("not solved yet")

    async def encode(self, text):
        raise NotImplementedError("not solved yet")
'''

TITLE = "# Chapter 2: Solutions\n\nThe solutions are folded."


def answer(source="def f(x):\n    return 2 * x", id="answer"):
    return code("#| solution\n" + dedent(source).strip("\n"), id=id)


CHECK = code("check.doubles(f)", id="check")


@pytest.fixture
def course(tmp_path):
    def write(*cells, title=TITLE):
        save(notebook(text(title, id="title"), *cells), tmp_path / "ch02_text_data/solutions.ipynb")
        return tmp_path

    return write


def exercises(root):
    return nbformat.read(root / "ch02_text_data/exercises.ipynb", as_version=4)


def refused(root, capsys):
    assert derive_exercises.main([], root) == 1
    assert not (root / "ch02_text_data/exercises.ipynb").exists()
    return capsys.readouterr().err


@pytest.fixture
def solved(course):
    return course(
        code("from shared.checks import ch02 as check", id="imports", count=1),
        text("## Task 1\n\nTwo times x: the solutions differ.", id="task"),
        code("#| guess\nguess_1 = [3, 'é']  # of 3 and 'é'", id="guess", count=2),
        text("Why this answer is right.", id="why", tags=["solution"]),
        code("#| solution\ndef f(x):\n    return 2 * x", id="answer", count=3, tags=["keep"]),
        code(
            "check.doubles(f, guess_1)",
            id="check",
            count=4,
            outputs=["right: it doubles"],
            tags=["quiet"],
        ),
        code("%time 1", id="more", count=5, outputs=["1"]),
    )


def test_the_exercises_are_the_solutions_without_the_answers(solved, capsys):
    assert derive_exercises.main([], solved) == 0
    assert capsys.readouterr().out == "wrote ch02_text_data/exercises.ipynb\n"
    nb = exercises(solved)
    assert [(cell.id, cell.source) for cell in nb.cells] == [
        ("title", "# Chapter 2: Exercises\n\nThe solutions are folded."),
        ("imports", "from shared.checks import ch02 as check"),
        ("task", "## Task 1\n\nTwo times x: the solutions differ."),
        ("guess", "guess_1 = ...  # of 3 and 'é'"),
        ("answer", 'def f(x):\n    raise NotImplementedError("not solved yet")'),
        ("check", "check.doubles(f, guess_1)"),
        ("more", "%time 1"),
    ]
    assert nb.cells[4].metadata.tags == ["keep"] and nb.cells[5].metadata.tags == ["quiet"]
    assert nb.metadata.kernelspec.name == "python3"


def test_they_are_written_without_outputs_and_counts(solved):
    derive_exercises.main([], solved)
    cells = [cell for cell in exercises(solved).cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_a_stub_keeps_signature_decorators_and_docstring():
    source, names = without_answers(SOLUTION.strip("\n"), "here")
    assert source == STUBS.strip("\n")
    assert names == ["split", "Tokenizer"]


@pytest.mark.parametrize(
    "source",
    [
        "def f(): return 1",
        "def é(ü='ü'): return 1",
        "def f():\n\n    # why\n\n    return 1",
        "def f():\n    yield 1",
        "def f():\n    '''A docstring.'''; return 1",
        "def f():\n    @print\n    def g(): ...\n    return g",
        "def f(x: dict = {'a': ':'}) -> dict:  # maps\n    return x",
        "def f(*, x: int = 1, **y): return x",
    ],
)
def test_every_stub_raises_and_shows_nothing_of_the_answer(source):
    stubbed, (name,) = without_answers("#| solution\n" + source, "here")
    space = {}
    exec(stubbed, space)
    with pytest.raises(NotImplementedError, match="^not solved yet$"):
        space[name]()
    assert "return" not in stubbed and "why" not in stubbed and "#" not in stubbed
    assert ast.unparse(ast.parse(source).body[0].args) == ast.unparse(
        ast.parse(stubbed).body[0].args
    )


def test_a_stubbed_class_can_be_looked_at():
    space = {}
    exec(without_answers(SOLUTION, "here")[0], space)
    assert list(inspect.signature(space["split"].__func__).parameters) == ["text", "pattern"]
    with pytest.raises(NotImplementedError):
        space["Tokenizer"]("a")


def test_a_run_in_between_is_kept_and_no_reason_to_write_again(solved, capsys):
    derive_exercises.main([], solved)
    nb = exercises(solved)
    nb.cells[5].outputs = code("", outputs=["not solved yet: write `f`"]).outputs
    nb.cells[5].execution_count = 3
    save(nb, solved / "ch02_text_data/exercises.ipynb")
    capsys.readouterr()
    assert derive_exercises.main(["--check"], solved) == 0
    assert derive_exercises.main([], solved) == 0
    assert capsys.readouterr().out == ""
    assert exercises(solved).cells[5].execution_count == 3


CHANGES = {
    "source": lambda cells: cells[5].update(source="check.doubles(print)"),
    "a stub made empty": lambda cells: cells[4].update(source="def f(x):\n    pass"),
    "id": lambda cells: cells[5].update(id="other"),
    "tags": lambda cells: cells[5].metadata.update(tags=[]),
    "type": lambda cells: cells.__setitem__(5, text("check.doubles(f)", id="check")),
    "cell gone": lambda cells: cells.pop(),
    "order": lambda cells: cells.reverse(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_check_shows_what_differs_and_writes_nothing(solved, capsys, change):
    derive_exercises.main([], solved)
    nb = exercises(solved)
    change(nb.cells)
    path = save(nb, solved / "ch02_text_data/exercises.ipynb")
    before = path.read_bytes()
    capsys.readouterr()
    assert derive_exercises.main(["--check"], solved) == 1
    assert path.read_bytes() == before
    assert "+++ ch02_text_data/exercises.ipynb (as it ought to be)" in capsys.readouterr().out
    assert derive_exercises.main([], solved) == 0
    assert derive_exercises.main(["--check"], solved) == 0


def test_check_without_exercises_writes_none(solved, capsys):
    assert derive_exercises.main(["--check"], solved) == 1
    assert not (solved / "ch02_text_data/exercises.ipynb").exists()
    assert '+    raise NotImplementedError("not solved yet")' in capsys.readouterr().out


HERE = "ch02_text_data/solutions.ipynb, cell 'answer'"
FAULTS = {
    "runs": (
        [answer("def f(): return 1\nf()"), CHECK],
        "line 3: a solution cell holds imports, functions and",
    ),
    "constant": (
        [answer("N = 1\ndef f(): return N"), CHECK],
        "line 2: a solution cell holds imports",
    ),
    "nothing": ([answer("")], "the solution defines no function and no class"),
    "imports only": ([answer("import re")], "the solution defines no function and no class"),
    "magic": ([answer("%time\ndef f(): return 1"), CHECK], "the solution is not plain Python"),
    "open bracket": ([answer("def f(:")], "the solution is not plain Python"),
    "no method": (
        [answer("class f:\n    x = 1"), CHECK],
        "class `f` has no method that could be left",
    ),
    "empty": ([answer("def f(): ..."), CHECK], "line 2: `f` holds no answer"),
    "empty but for a docstring": (
        [answer("def f():\n    '''.'''\n    pass"), CHECK],
        "`f` holds no answer",
    ),
    "still a stub": (
        [answer("def f():\n    raise NotImplementedError('')"), CHECK],
        "`f` holds no answer",
    ),
    "empty method": (
        [answer("class f:\n    def g(self): pass"), CHECK],
        "line 3: `g` holds no answer",
    ),
    "unchecked": ([answer()], "the answer `f` is checked by no cell"),
    "check of another": ([answer(), code("check.f(g)")], "the answer `f` is checked by no cell"),
    "check not shown": (
        [answer(), code("x = check.doubles(f)")],
        "the answer `f` is checked by no cell",
    ),
    "check not last": (
        [answer(), code("check.doubles(f)\nprint()")],
        "the answer `f` is checked by no cell",
    ),
    "check of a text": (
        [answer(), code("check.doubles('f')")],
        "the answer `f` is checked by no cell",
    ),
    "check before": ([CHECK, answer()], "the answer `f` comes after the cell that checks it"),
    "one of two": (
        [answer("def f(): return 1\ndef g(): return 1"), CHECK],
        "the answer `g` is checked by no cell",
    ),
    "tagged code": (
        [code("f(1)", id="answer", tags=["solution"])],
        "a code cell is marked by `#| solution`, not by a tag",
    ),
    "guess of two": (
        [code("#| guess\ng = 1\nh = 2", id="answer")],
        "a guess cell holds one line",
    ),
    "guess without a name": ([code("#| guess\n46", id="answer")], "a guess cell holds one line"),
    "guess that is not handed in": (
        [code("#| guess\ng = 1", id="answer"), answer(id="f"), CHECK],
        "the answer `g` is checked by no cell",
    ),
    "mark below": (
        [code("import re\n#| solution", id="answer")],
        "line 2: `#| solution` is no mark here",
    ),
    "mark with a slip": (
        [code("#| solutions", id="answer")],
        "line 1: `#| solutions` is no mark here",
    ),
}


@pytest.mark.parametrize("cells, message", FAULTS.values(), ids=FAULTS)
def test_refused(course, capsys, cells, message):
    said = refused(course(*cells), capsys)
    assert said.startswith(HERE) and message in said
    assert len(said.splitlines()) == 1


def test_a_helper_with_an_underscore_needs_no_check(course):
    root = course(answer("def _g(): return 1\ndef f(): return _g()"), CHECK)
    assert derive_exercises.main([], root) == 0


def test_a_check_may_take_more_than_the_answer(course):
    root = course(answer(), code("x = 3\ncheck.doubles(x, answer=f)"))
    assert derive_exercises.main([], root) == 0


def test_the_title_must_change(course, capsys):
    assert 'the title says no "Solutions"' in refused(course(title="# Answers"), capsys)


def test_a_small_letter_stays_small(course):
    root = course(title="# Chapter 2, solutions")
    assert derive_exercises.main([], root) == 0
    assert exercises(root).cells[0].source == "# Chapter 2, exercises"


def test_all_faults_are_told_at_once(course, capsys):
    root = course(answer("print()\ndef f(): ..."), answer(id="second"))
    assert len(refused(root, capsys).splitlines()) == 3


def test_exercises_without_solutions_are_refused(solved, capsys):
    derive_exercises.main([], solved)
    (solved / "ch02_text_data/solutions.ipynb").unlink()
    assert derive_exercises.main(["--check"], solved) == 1
    assert "ch02_text_data/exercises.ipynb has no solutions.ipynb" in capsys.readouterr().err


def test_a_course_without_solutions_is_no_fault(tmp_path):
    assert derive_exercises.main(["--check"], tmp_path) == 0
