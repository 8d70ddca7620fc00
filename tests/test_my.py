"""The reader's own work: copies in my/, which nothing overwrites and no check looks at, and which run from there."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbformat.v4 import new_code_cell
from notebooks import code, notebook, save, text

from shared import files
from tools import (
    MY,
    ROOT,
    chapters,
    derive_exercises,
    glossary,
    lint,
    my,
    normalize,
    promote,
    prose,
    read,
)

EXERCISES = "ch02_text_data/exercises.ipynb"
LESSON = "ch02_text_data/ch02.ipynb"


@pytest.fixture
def course(tmp_path):
    """A course in little, as it is shipped."""
    lesson = notebook(text("# Chapter 2: Text", "title"), code("1 + 1", "sum", ["2"], 1))
    save(lesson, tmp_path / LESSON)
    answer = code("#| solution\ndef f(x):\n    return 2 * x", "answer", count=1)
    check = code("check.f(f)", "check", ["right"], 2)
    save(notebook(text("# Solutions", "title"), answer, check), tmp_path / "ch02_text_data/solutions.ipynb")  # fmt: skip
    assert derive_exercises.main([], tmp_path) == 0
    return tmp_path


def copied(root):
    return {
        path.relative_to(root / MY).as_posix(): path.read_bytes()
        for path in (root / MY).rglob("*")
        if path.is_file() and path.name != my.RECORD
    }


def solve(path):
    """What a reader and JupyterLab leave in a notebook."""
    nb = nbformat.read(path, as_version=4)
    nb.cells.append(new_code_cell("x=1;def nonsense( :", id="0f9c2f3a-1c1b-4b7e-9f7c-3d5e8f1a2b3c"))
    nb.cells[1].source = "def f(x):  return x+x"
    nb.metadata.language_info = {"name": "python", "version": "3.11.7"}
    nbformat.write(nb, path)
    return path.read_bytes()


# --- the copies ---


def test_copies_are_made_once_and_never_overwritten(course, capsys):
    assert my.main([], course) == 0
    assert capsys.readouterr().out.startswith("my/: 3 copies made")
    made = copied(course)
    assert made.pop("README.md")
    assert made == {name: (course / name).read_bytes() for name in made} and len(made) == 3
    solved = solve(course / MY / EXERCISES)
    (course / MY / "README.md").write_text("my notes")
    (course / LESSON).write_bytes((course / LESSON).read_bytes().replace(b"Text", b"Texts"))
    before = copied(course)
    for _ in range(2):
        assert my.main([], course) == 0
        said = capsys.readouterr().out
        assert f"newer versions of {LESSON};" in said and "make fresh" in said
    assert copied(course) == before and before[EXERCISES] == solved


def test_what_was_deleted_or_is_new_is_copied(course, capsys):
    my.main([], course)
    (course / MY / LESSON).unlink()
    save(notebook(text("# Chapter 3", "title")), course / "ch03_attention/ch03.ipynb")
    capsys.readouterr()
    my.main([], course)
    assert capsys.readouterr().out.startswith("my/: 2 copies made")
    assert {LESSON, "ch03_attention/ch03.ipynb"} <= set(copied(course))


@pytest.mark.parametrize("given", [EXERCISES, f"my/{EXERCISES}", f"./{EXERCISES}"])
def test_a_fresh_copy_lies_beside_the_old_one(course, given, capsys):
    my.main([], course)
    solved = solve(course / MY / EXERCISES)
    for number in (2, 3):
        assert my.main(["--fresh", given], course) == 0
        fresh = f"ch02_text_data/exercises-{number}.ipynb"
        assert f"my/{fresh}: a new copy" in capsys.readouterr().out
        assert (course / MY / fresh).read_bytes() == (course / EXERCISES).read_bytes()
    assert (course / MY / EXERCISES).read_bytes() == solved


def test_fresh_copies_of_all_that_is_out_of_date(course, capsys):
    """The one that nobody has changed is replaced; beside the solved one lies the new one; the third is as it was."""
    my.main([], course)
    solved = solve(course / MY / EXERCISES)
    for name in (LESSON, EXERCISES):
        (course / name).write_bytes((course / name).read_bytes().replace(b"title", b"head"))
    third = (course / MY / "ch02_text_data/solutions.ipynb").stat()
    assert my.main(["--fresh"], course) == 0
    now = copied(course)
    assert now[EXERCISES] == solved and now[LESSON] == (course / LESSON).read_bytes()
    assert now["ch02_text_data/exercises-2.ipynb"] == (course / EXERCISES).read_bytes()
    assert (course / MY / "ch02_text_data/solutions.ipynb").stat() == third and len(now) == 5
    capsys.readouterr()
    assert my.main([], course) == 0 and capsys.readouterr().out == ""


@pytest.mark.parametrize("record", [None, "{", "[1]", "{}"])
def test_nothing_is_lost_with_the_record(course, record):
    my.main([], course)
    solved = solve(course / MY / EXERCISES)
    (course / EXERCISES).write_bytes((course / EXERCISES).read_bytes().replace(b"title", b"head"))
    path = course / MY / my.RECORD
    path.unlink() if record is None else path.write_text(record)
    for given in ([], ["--fresh"]):
        assert my.main(given, course) == 0
        assert (course / MY / EXERCISES).read_bytes() == solved


@pytest.mark.parametrize("name", ["ch09_x/ch09.ipynb", "README.md", f"../{EXERCISES}"])
def test_an_unknown_notebook_is_named(course, name, capsys):
    assert my.main(["--fresh", name], course) == 1
    assert f"{name} is no notebook of the course: name one such as ch02" in capsys.readouterr().err


def test_a_place_that_cannot_be_written(course, capsys):
    (course / MY).write_text("a file")
    assert my.main([], course) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("my: ") and MY in line


# --- nothing of the course looks into my/ ---


@pytest.fixture
def used(course, monkeypatch):
    """A reader's folder after a day: solved, dirty, with files of the names that the course itself uses."""
    my.main([], course)
    solve(course / MY / EXERCISES)
    for name in ("exercises.ipynb", "solutions.ipynb", "Untitled.ipynb"):
        shutil.copy(course / MY / EXERCISES, course / MY / name)
    (course / MY / "previous_chapters.py").write_text("x=1;y = (")
    (course / MY / "test_mine.py").write_text("def test_it():\n    assert 0\n")
    (course / MY / "notes.md").write_text("[gone](gone.md)")
    (course / "shared").mkdir()
    (course / "tools").mkdir()
    (course / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    monkeypatch.chdir(course)
    return course


def test_the_checks_do_not_see_the_readers_work(used, capsys):
    before = copied(used)
    assert promote.main([], used) == 0 and glossary.main([], used) == 0  # of the little course
    for tool in (promote, derive_exercises, glossary):
        assert tool.main(["--check"], used) == 0, capsys.readouterr()
    for path in normalize.notebooks(used):
        nb = read(path)
        for number, cell in enumerate([c for c in nb.cells if c.cell_type == "code"], start=1):
            cell.execution_count = number
            for output in cell.outputs:
                output.execution_count = number
        nbformat.write(nb, path)
    assert normalize.main([]) == 0 and normalize.main(["--check"]) == 0, capsys.readouterr()
    assert [fault for fault in lint.problems(used) if MY in fault] == []
    assert copied(used) == before


@pytest.mark.parametrize("git", [False, True])
@pytest.mark.parametrize("command", [["check"], ["format", "--check"], ["check", "--fix"], ["format"]])  # fmt: skip
def test_ruff_does_not_see_the_readers_work(used, command, git):
    """Also where there is no git, which would tell what is ignored."""
    if git:
        subprocess.run(["git", "init", "-q"], check=True)
        shutil.copy(ROOT / ".gitignore", used)
    shutil.rmtree(used / "ch02_text_data")  # what is left is the reader's
    before = copied(used)
    command = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert copied(used) == before


def test_pytest_does_not_see_the_readers_work(request):
    def ignored(name):
        ask = request.config.hook.pytest_ignore_collect
        return bool(ask(collection_path=ROOT / name, config=request.config))

    assert ignored(MY) and not ignored("ch02_text_data")


def test_git_does_not_see_the_readers_work(used):
    shutil.copy(ROOT / ".gitignore", used)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], check=True, capture_output=True)
    listed = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout
    assert LESSON in listed and f"{MY}/" not in listed


# --- the copies run where they are ---


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The whole course's copies."""
    root = tmp_path_factory.mktemp("course")
    pages = [ROOT / name for name in (*my.LINKED, "README.md")]
    for path in [*normalize.notebooks(ROOT), *pages]:
        target = root / path.relative_to(ROOT)
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(path)
    my.main([], root)
    return root / MY


def test_the_links_of_the_copies_lead_somewhere(whole):
    """The places within a page are looked at in `test_links.py`."""
    texts = {path: path.read_text(encoding="utf-8") for path in whole.rglob("*.md")}
    for path in whole.rglob("*.ipynb"):
        texts[path] = "\n\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")
    links = {(path, link.partition("#")[0]) for path in texts for link in prose.links(texts[path])}
    local = [(path, unquote(link)) for path, link in links if link and not re.match(r"\w+:", link)]
    assert len(texts) >= 26 and len(local) > 30
    assert [link for path, link in local if not (path.parent / link).exists()] == []


def code_of(path):
    """The Python of a notebook's cells; cells that show a syntax error are left out."""
    for cell in read(path).cells:
        if cell.cell_type == "code":
            try:
                yield cell.id, ast.parse(TransformerManager().transform_cell(cell.source))
            except SyntaxError:
                pass


def place_faults(path):
    """What in a notebook works in its own folder only: names of files, and scripts that lie there."""
    scripts = {p.stem for p in path.parent.iterdir() if p.suffix == ".py" or list(p.glob("*.py"))}
    for id, tree in code_of(path):
        below = [
            n.right
            for n in ast.walk(tree)
            if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)
        ]
        for node in ast.walk(tree):
            if node in below:  # FOLDER / "name"
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                name = node.value
                if (
                    "." in name.strip("./")
                    and len(name) < 200
                    and "\n" not in name
                    and (path.parent / name).exists()
                ):
                    yield f"{path.name}, {id}: the file {name!r}"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
                )
                for name in {name.partition(".")[0] for name in names} & scripts - {
                    "previous_chapters"
                }:
                    yield f"{path.name}, {id}: the script {name}"


@pytest.mark.parametrize(
    "path", normalize.notebooks(ROOT), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_a_notebook_runs_in_any_folder(path):
    assert list(place_faults(path)) == []


def test_what_works_in_one_folder_only_is_named(tmp_path):
    for name in ("train.py", "table.csv", "sheets/a.py", "model/log.csv"):
        (tmp_path / "ch02_text_data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ch02_text_data" / name).touch()
    cells = [
        "import numpy, train",
        "from sheets.a import b",
        'read("table.csv")',
        'read("model/log.csv")',
        'read("../ch02_text_data/table.csv")',
        'read(ROOT / "ch02_text_data/table.csv", ".", "gone.csv")\nfrom previous_chapters import f',
    ]
    path = save(notebook(*map(code, cells)), tmp_path / LESSON)
    assert [fault.partition(", ")[2][:6] for fault in place_faults(path)] == [f"cell-{i}" for i in range(1, 6)]  # fmt: skip


def test_previous_chapters_is_found_from_the_root_and_from_my():
    """It knows every name that some chapter's own previous_chapters.py has, and imports no more than it must."""
    spec = importlib.util.spec_from_file_location("previous_for_all", ROOT / "previous_chapters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    promoted = [one.topic for one in chapters(ROOT) if (ROOT / f"shared/{one.topic}.py").exists()]
    assert module.TOPICS == promoted
    for chapter in chapters(ROOT):
        own = ast.parse((chapter.folder / "previous_chapters.py").read_text(encoding="utf-8"))
        for node in own.body:
            if isinstance(node, ast.ImportFrom):
                owner = importlib.import_module(node.module)
                for alias in node.names:
                    assert getattr(module, alias.name) is getattr(owner, alias.name)
    with pytest.raises(AttributeError, match="no chapter promotes 'Attention'"):
        module.Attention
    assert not hasattr(module, "__path__")


def test_a_script_of_a_chapter_is_a_module_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = files.script("ch05_pretraining/names.py")
    assert module.__file__ == str(ROOT / "ch05_pretraining/names.py")
    assert files.script("ch05_pretraining/names.py") is module is sys.modules["names"]
    assert files.script("ch05_pretraining/induction.py").names_in is module.names_in


# --- exercises that somebody has solved ---


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    return x + x",
        "def f(x):\n    y = x\n    raise NotImplementedError",  # begun
        "def f(x):\n    # twice?\n    raise NotImplementedError",
        "def f(x:",
        "f = lambda x: 2 * x",
        "%%time\ndef f(x):\n    return 2 * x",
        "def g(x):\n    return x\n\n\ndef f(x):\n    return g(x) + x",
        "class f:\n    def __init__(self, x):\n        self.x = x",
        "",
    ],
)
@pytest.mark.parametrize("where", ["in its cell", "in a cell of their own"])
def test_an_answer_is_not_overwritten(course, capsys, source, where):
    path = course / EXERCISES
    nb = nbformat.read(path, as_version=4)
    if where == "in its cell":
        nb.cells[1].source = source
    else:
        nb.cells.append(new_code_cell(source, id="d0c5b7a1"))
    nbformat.write(nb, path)
    before, lost = path.read_bytes(), bool(source)
    solutions = course / "ch02_text_data/solutions.ipynb"
    solutions.write_bytes(solutions.read_bytes().replace(b"(x)", b"(x, y=1)"))  # an author goes on
    assert derive_exercises.main([], course) == int(lost)
    assert (path.read_bytes() == before) == lost
    if lost:
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"{EXERCISES} holds what somebody has written") and f"{MY}/" in line


def test_a_guess_is_not_overwritten():
    def cells(source):
        return notebook(code(source, "guess"), code("check.f(guess_1)", "check"))

    blank = "guess_1 = ...  # of 3"
    for source in ("guess_1 = ...", "guess_1 = ...  # of 4"):
        assert derive_exercises.written_by_hand(cells(source), cells(blank)) == []
    for source in ("guess_1 = 5  # of 3", "guess_1 = [...]", "guess_1 = ", "x = 5\nguess_1 = ..."):
        assert derive_exercises.written_by_hand(cells(source), cells(blank)) == ["guess"]


def test_a_stub_of_before_is_written_anew(course):
    solutions = course / "ch02_text_data/solutions.ipynb"
    solutions.write_bytes(solutions.read_bytes().replace(b"def f(x)", b"def f(x, y=1)"))
    assert derive_exercises.main([], course) == 0
    assert "def f(x, y=1)" in (course / EXERCISES).read_text()


def test_a_pasted_picture_is_not_dropped(course, capsys):
    path = course / LESSON
    nb = nbformat.read(path, as_version=4)
    nb.cells[0].attachments = {"cat.png": {"image/png": "QUJD"}}
    nbformat.write(nb, path)
    before = path.read_bytes()
    assert normalize.main([str(path)]) == 1
    assert "cell 'title' has a picture pasted into it" in capsys.readouterr().out
    assert path.read_bytes() == before
