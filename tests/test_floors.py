"""The floors of shared/, as the design has them: who may import what, read from all imports, those in functions too.

A module imports only from floors below its own; on floors 1 and 2 also what stands before it there. A script and a
notebook import any floor, and from their own folder only.
"""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from tools import ORDER, read

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    0: (
        "box",
        "files",
        "finite",
        "guards",
        "judgments",
        "network",
        "plotting",
        "measure",
        "program",
        "texts",
    ),
    1: (
        "assets",
        "editions",
        "encodings",
        "corpus",
        "lexicon",
        "invented",
        "checkpoints",
        "adapters",
        "scoring",
        "diagrams",
        "pictures",
    ),
    2: (),  # the promoted chapters, in course order: found by what their first lines say
    3: ("optimizers", "models", "sentences", "judge"),
    4: ("demo", "checks"),
}
IN_ORDER = (1, 2)  # on these floors a module may also import those before it
MOST_LINES = 300
CHAPTER = re.compile(r"(ch\d\d|appendix_[a-z])_\w+")

# What stands against the rules today, each with its reason. An entry that is no longer needed is a fault, too.
EXCEPTIONS: dict[str, str] = {}


@dataclass(frozen=True)
class Import:
    """A line that imports: the whole dotted name, `shared.checks.ch03`."""

    name: str
    line: int

    @property
    def top(self):
        return self.name.partition(".")[0]


def imports(tree: ast.AST, package: str = "") -> list[Import]:
    """All imports of a source, in functions too; `from a import b` is `a.b`. Relative ones are of `package`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = parts if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            found += [Import(f"{module}.{alias.name}", node.lineno) for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called in ("import_module", "__import__"):
                found.append(Import(str(node.args[0].value), node.lineno))
    return found


def touches_sys_path(tree: ast.AST) -> int | None:
    """The line where a source reads or changes the list of folders that imports are looked up in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path":
            return node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            if "path" in [alias.name for alias in node.names]:
                return node.lineno
        if isinstance(node, ast.Attribute) and node.attr == "addsitedir":
            return node.lineno
    return None


def source(path: Path) -> str:
    """The code of a script or notebook; cells that are no Python, since a lesson shows the error, are left out."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = [c.source for c in read(path).cells if c.cell_type == "code"]
    kept = []
    for cell in map(TransformerManager().transform_cell, cells):
        try:
            ast.parse(cell)
            kept.append(cell)
        except SyntaxError:
            pass
    return "\n".join(kept)


class House:
    """The sources of a folder like this one, and what is wrong with their imports."""

    def __init__(self, root: Path):
        self.root, self.faults = root, []
        self.modules = {self.module_name(path): path for path in self.python("shared")}
        self.chapters = {p.name: p for p in sorted(root.iterdir()) if CHAPTER.fullmatch(p.name)}
        # what a script may call its neighbors, and what it may not call those of other chapters
        self.scripts = {
            name: {p.stem for p in folder.iterdir() if p.suffix == ".py" or list(p.glob("*.py"))}
            for name, folder in self.chapters.items()
        }
        self.places = self.floor_of_each()
        self.graph = {}
        self.read_shared()
        self.read_chapters()
        self.find_circles()

    def python(self, folder: str) -> list[Path]:
        return sorted((self.root / folder).rglob("*.py"))

    def module_name(self, path: Path) -> str:
        parts = path.relative_to(self.root / "shared").with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__")

    def floor_of_each(self) -> dict[str, tuple[int, int]]:
        """Floor and place on it of each module in the table, or promoted."""
        places = {m: (floor, i) for floor, ms in FLOORS.items() for i, m in enumerate(ms)}
        for name, path in self.modules.items():
            says = re.match(
                r'"""[^"]*Promoted from \S+/(\w+)\.ipynb', path.read_text(encoding="utf-8")
            )
            if says:
                places[name] = (2, ORDER.index(says[1]))
        return places

    def fault(self, path: Path, what: str, line: int | None = None, kind: str = ""):
        """Note a fault; `kind` is its name in EXCEPTIONS."""
        place = path.relative_to(self.root).as_posix()
        where = f", line {line}" if line else ""
        self.faults.append((f"{place}: {kind or what}", f"{place}{where}: {what}"))

    def read_shared(self):
        for name, path in self.modules.items():
            floor = self.places.get(name.partition(".")[0])
            if name and not floor:
                self.fault(path, f"an unknown module: the table of floors has no `{name}`")
            if floor != self.places["checks"]:
                self.check_length(path)
            tree = ast.parse(source(path))
            package = (
                f"shared.{name}"
                if path.name == "__init__.py"
                else f"shared.{name}".rpartition(".")[0]
            )
            self.graph[name] = set()
            for found in imports(tree, package):
                if found.top != "shared":
                    self.check_no_chapter(path, found)
                elif (other := self.target(path, found)) and floor and other != name:
                    self.graph[name].add(other)
                    self.check_floor(path, name, other, found.line)
            self.check_path(path, tree)

    def target(self, path: Path, found: Import) -> str | None:
        """The module of shared/ that an import names: the longest part that is one."""
        parts = found.name.split(".")[1:]
        for end in range(len(parts), 0, -1):
            if (name := ".".join(parts[:end])) in self.modules:
                return name
        if parts:
            self.fault(path, f"imports `{found.name}`, an unknown module of shared/", found.line)
        return None

    def check_floor(self, path: Path, name: str, other: str, line: int):
        mine, theirs = (self.places.get(each.partition(".")[0]) for each in (name, other))
        if mine == theirs or theirs is None:  # within checks/, or a fault already
            return
        if theirs[0] > mine[0]:
            what = (
                f"an upward import: `{other}` is on floor {theirs[0]}, `{name}` on floor {mine[0]}"
            )
            self.fault(path, what, line)
        elif theirs[0] == mine[0] and mine[0] not in IN_ORDER:
            what = f"a sideways import: `{other}` is on floor {mine[0]}, as `{name}` is"
            self.fault(path, what, line)
        elif theirs[0] == mine[0] and theirs > mine:
            what = f"an upward import: on floor {mine[0]} `{other}` comes after `{name}`"
            self.fault(path, what, line)

    def check_no_chapter(self, path: Path, found: Import):
        own = {
            "tools",
            "tests",
            "previous_chapters",
            *self.chapters,
            *set().union(*self.scripts.values()),
        }
        if found.top in own:
            self.fault(path, f"imports `{found.name}`, which is on no floor of shared/", found.line)

    def check_length(self, path: Path):
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES:
            self.fault(path, f"{lines} lines; {MOST_LINES} are allowed", kind="too long")

    def check_path(self, path: Path, tree: ast.AST):
        if line := touches_sys_path(tree):
            self.fault(path, "touches sys.path", line)

    def read_chapters(self):
        for chapter, folder in self.chapters.items():
            others = set().union(*(s for c, s in self.scripts.items() if c != chapter))
            forbidden = others - self.scripts[chapter] | set(self.chapters)
            for path in sorted([*folder.rglob("*.py"), *folder.glob("*.ipynb")]):
                tree = ast.parse(source(path))
                for found in imports(tree, path.parent.name):
                    if found.top == "shared":
                        self.target(path, found)
                    elif found.top in forbidden:
                        what = f"imports `{found.name}` from another chapter's folder"
                        self.fault(path, what, found.line, kind="imports from another chapter")
                self.check_path(path, tree)
                if path.suffix == ".py":
                    self.check_length(path)

    def find_circles(self):
        """Modules that import each other by way of others; each circle once."""
        done = set()

        def walk(name, way):
            if name in way:
                circle = [*way[way.index(name) :], name]
                self.fault(self.modules[name], f"a circle: {' -> '.join(circle)}")
            elif name not in done:
                for other in sorted(self.graph.get(name, ())):
                    walk(other, [*way, name])
                done.add(name)

        for name in self.graph:
            walk(name, [])


def unexpected(house: House, exceptions=EXCEPTIONS) -> list[str]:
    """The faults that are no exception, and the exceptions that are no fault any more."""
    kinds = {kind for kind, _ in house.faults}
    gone = [
        f"{kind}: mended; take it out of EXCEPTIONS" for kind in exceptions if kind not in kinds
    ]
    return [text for kind, text in house.faults if kind not in exceptions] + gone


@pytest.fixture(scope="module")
def house():
    return House(ROOT)


def test_nobody_imports_from_above_and_no_module_is_long(house):
    found = unexpected(house)
    assert not found, "\n".join(found)


def test_the_table_names_modules_that_exist(house):
    assert [m for ms in FLOORS.values() for m in ms if m not in house.modules] == []
    assert {m for m, (floor, _) in house.places.items() if floor == 2} >= {"text_data", "attention"}


# --- does it catch anything? ----------------------------------------------------------------------

PROMOTED = '"""Chapter {}: it. Promoted from {}/{}.ipynb by `make promote`."""\n'
SOUND = {
    "shared/__init__.py": "",
    "shared/files.py": "import os\n",
    "shared/assets.py": "from shared.files import landing\n",
    "shared/editions.py": "from shared import assets\n",
    "shared/text_data.py": PROMOTED.format(2, "ch02_text_data", "ch02") + "from shared import editions\n",
    "shared/attention.py": PROMOTED.format(3, "ch03_attention", "ch03"),
    "shared/models.py": "from shared.text_data import f\n",
    "shared/checks/__init__.py": "def fails(): ...\n",
    "shared/checks/ch03.py": "from shared.checks import fails\ndef f():\n    from shared import models\n",
    "ch02_text_data/train.py": "import helper\nfrom shared import models, checks\n",
    "ch02_text_data/helper.py": "",
    "ch03_attention/other.py": "",
    "ch03_attention/rooms/__init__.py": "",
    "ch03_attention/rooms/one.py": "from rooms import two\nfrom . import two\nimport other\n",
    "ch03_attention/rooms/two.py": "",
}  # fmt: skip
WRONG = {
    "a circle": (
        {"shared/files.py": "def f():\n    from shared import assets\n"},
        ["shared/assets.py: a circle: assets -> files -> assets", "shared/files.py, line 2: an upward import"],
    ),
    "a circle below one floor": (
        {"shared/checks/__init__.py": "def f():\n    from shared.checks import ch03\n"},
        ["shared/checks/__init__.py: a circle: checks -> checks.ch03 -> checks"],
    ),
    "upward": (
        {"shared/attention.py": SOUND["shared/attention.py"] + "import shared.models\n"},
        ["shared/attention.py, line 2: an upward import: `models` is on floor 3, `attention` on floor 2"],
    ),
    "upward, in a function": (
        {"shared/editions.py": "def f():\n    if True:\n        from shared.attention import g\n"},
        ["shared/editions.py, line 3: an upward import: `attention`"],
    ),
    "upward, relative": (
        {"shared/network.py": "from .editions import text\n"},
        ["shared/network.py, line 1: an upward import: `editions`"],
    ),
    "upward, by name": (
        {"shared/network.py": "import importlib\nimportlib.import_module('shared.models')\n"},
        ["shared/network.py, line 2: an upward import: `models`"],
    ),
    "a later chapter": (
        {"shared/text_data.py": SOUND["shared/text_data.py"] + "from shared.attention import f\n"},
        ["shared/text_data.py, line 3: an upward import: on floor 2 `attention` comes after"],
    ),
    "sideways": (
        {"shared/network.py": "from shared import files\n"},
        ["shared/network.py, line 1: a sideways import: `files`"],
    ),
    "shared imports a script": (
        {"shared/editions.py": "def f():\n    import helper\n"},
        ["shared/editions.py, line 2: imports `helper`, which is on no floor"],
    ),
    "from another chapter": (
        {"ch02_text_data/train.py": "def f():\n    from other import g\n"},
        ["ch02_text_data/train.py, line 2: imports `other.g` from another chapter's folder"],
    ),
    "from another chapter's package": (
        {"ch02_text_data/train.py": "import rooms.one\n"},
        ["ch02_text_data/train.py, line 1: imports `rooms.one` from another chapter's folder"],
    ),
    "by the folder's name": (
        {"ch02_text_data/train.py": "from ch03_attention.other import g\n"},
        ["ch02_text_data/train.py, line 1: imports `ch03_attention.other.g`"],
    ),
    "a notebook": (
        {"ch02_text_data/ch02.ipynb": "%matplotlib inline\nimport other"},
        ["ch02_text_data/ch02.ipynb, line 2: imports `other` from another chapter's folder"],
    ),
    "sys.path": (
        {"ch02_text_data/train.py": "import sys\nsys.path[:0] = ['..']\n"},
        ["ch02_text_data/train.py, line 2: touches sys.path"],
    ),
    "sys.path, by another name": (
        {"ch02_text_data/train.py": "from sys import path\n"},
        ["ch02_text_data/train.py, line 1: touches sys.path"],
    ),
    "too long": (
        {"shared/models.py": "\n" * 301},
        ["shared/models.py: 301 lines; 300 are allowed"],
    ),
    "a script that is too long": (
        {"ch03_attention/rooms/two.py": "\n" * 301},
        ["ch03_attention/rooms/two.py: 301 lines"],
    ),
    "an unknown module": (
        {"shared/utilities.py": ""},
        ["shared/utilities.py: an unknown module"],
    ),
    "an import of what is not there": (
        {"ch02_text_data/train.py": "from shared import helpers\n"},
        ["ch02_text_data/train.py, line 1: imports `shared.helpers`, an unknown module"],
    ),
}  # fmt: skip


def built(root: Path, files: dict[str, str]) -> House:
    """A house with these sources; a notebook's is its one cell."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".ipynb"):
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text)])
            nbformat.write(notebook, root / name)
        else:
            (root / name).write_text(text, encoding="utf-8")
    return House(root)


def test_a_sound_house_has_no_faults(tmp_path):
    assert unexpected(built(tmp_path, SOUND), {}) == []


@pytest.mark.parametrize("what", WRONG)
def test_each_fault_is_caught_and_its_file_named(what, tmp_path):
    changes, expected = WRONG[what]
    found = unexpected(built(tmp_path, SOUND | changes), {})
    assert len(found) == len(expected), found
    for text, start in zip(sorted(found), sorted(expected), strict=True):
        assert text.startswith(start)


def test_long_checks_are_allowed(tmp_path):
    assert unexpected(built(tmp_path, SOUND | {"shared/checks/ch03.py": "\n" * 999}), {}) == []


def test_an_exception_that_is_no_longer_one(tmp_path):
    old = {"ch02_text_data/train.py: touches sys.path": "a reason"}
    wrong = {"ch02_text_data/train.py": "import sys\nsys.path.append('..')\n"}
    assert unexpected(built(tmp_path / "a", SOUND | wrong), old) == []
    (text,) = unexpected(built(tmp_path / "b", SOUND), old)
    assert text.startswith("ch02_text_data/train.py: touches sys.path: mended")
