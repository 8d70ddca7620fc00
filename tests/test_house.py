"""The house stands as the design says: one owner for each name, and imports that point backwards.

What the modules of shared/ and the scripts may import is in `test_floors.py`.

The course order is that of the outline; the modules are read from the files, not by the tool.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from tools import ORDER, derive_exercises, promote, read
from tools import style_report as style

ROOT = Path(__file__).resolve().parents[1]
PROMOTED = {}  # topic: path of the notebook that its module names
for path in sorted((ROOT / "shared").glob("*.py")):
    if says := re.match(r'"""[^"]*Promoted from (\S+\.ipynb)', path.read_text(encoding="utf-8")):
        PROMOTED[path.stem] = ROOT / says[1]
NOTEBOOKS = [path for name in ORDER for path in ROOT.glob(f"{name}_*/{name}.ipynb")]
PREVIOUS = [path.with_name("previous_chapters.py") for path in NOTEBOOKS]


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def module_tree(topic):
    return tree(ROOT / "shared" / f"{topic}.py")


def exported(module):
    """The names in a module's `__all__`."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def shared_topics(nodes):
    """The topics of shared/ that these nodes import."""
    topics = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        topics |= {name.split(".")[1] for name in names if name.startswith("shared.")}
    return topics


def place_in_course(topic):
    return ORDER.index(PROMOTED[topic].stem)


def test_what_is_promoted_is_up_to_date(capsys):
    status = promote.main(["--check"], ROOT)
    said = capsys.readouterr()
    assert status == 0, said.err + said.out


def test_the_exercises_are_those_of_the_solutions(capsys):
    status = derive_exercises.main(["--check"], ROOT)
    said = capsys.readouterr()
    assert status == 0, said.err + said.out


@pytest.mark.parametrize("topic", PROMOTED)
def test_every_promoted_module_has_its_notebook(topic):
    notebook = PROMOTED[topic]
    assert notebook.exists()
    assert notebook.parent.name == f"{notebook.stem}_{topic}"


@pytest.mark.parametrize("topic", PROMOTED)
def test_imports_among_promoted_modules_point_backwards(topic):
    for other in shared_topics(ast.walk(module_tree(topic))) & set(PROMOTED):
        assert place_in_course(other) < place_in_course(topic), f"{topic} imports {other}"


@pytest.mark.parametrize("topic", PROMOTED)
def test_a_promoted_module_exports_what_it_defines(topic):
    defined = set()
    for node in module_tree(topic).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined |= {target.id for target in targets}
    public = {name for name in defined if not name.startswith("_")}
    assert public == set(exported(module_tree(topic)))


def test_every_name_has_one_owner():
    owned = Counter(name for topic in PROMOTED for name in exported(module_tree(topic)))
    assert [name for name, owners in owned.items() if owners > 1] == []


@pytest.mark.parametrize("path", PREVIOUS, ids=[path.parent.name for path in PREVIOUS])
def test_previous_chapters_only_re_exports_from_earlier_ones(path):
    first, *rest = tree(path).body
    assert isinstance(first, ast.Expr)  # the docstring
    imports = [node for node in rest if isinstance(node, ast.ImportFrom)]
    assert len(imports) == max(len(rest) - 1, 0)  # imports and `__all__`, or neither
    chapter = path.parent.name
    for topic in shared_topics(imports):
        assert place_in_course(topic) < next(
            place for place, name in enumerate(ORDER) if chapter.startswith(f"{name}_")
        )
    assert sorted(exported(tree(path))) == sorted(
        alias.name for node in imports for alias in node.names
    )


@pytest.mark.parametrize(
    "path", list(ROOT.glob("[ac]*_*/*.ipynb")), ids=lambda p: f"{p.parent.name}-{p.stem}"
)
def test_no_notebook_asserts_how_long_something_took(path):
    asserts = [
        node for cell in style.code_cells(read(path)) for node in style.checks(style.tree(cell))
    ]
    read_there = {getattr(part, "attr", "") for node in asserts for part in ast.walk(node)}
    assert not read_there & {"perf_counter", "monotonic"}, f"{path.name}: machines can be slow"
