"""What a chapter's notebook promotes and imports, read from its cells' syntax trees."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

from tools import Chapter, Refused, marked, read
from tools.refusals import refusals

RULE = "a promoted cell holds imports, definitions and constants only"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Lesson:
    """A chapter's notebooks as far as promotion goes. A place is "ch02.ipynb, cell 'train-bpe', line 3"."""

    chapter: Chapter
    faults: list[str] = field(default_factory=list)
    body: list[tuple[str, str]] = field(
        default_factory=list
    )  # the module's lines, with their places
    defined: dict[str, str] = field(default_factory=dict)  # name: place, as the lesson goes
    imports: dict[str, str] = field(default_factory=dict)  # name: the statement that binds it
    borrowed: list[tuple[str, str, str]] = field(default_factory=list)  # name, alias or name, place
    shared: list[tuple[str, str, str]] = field(default_factory=list)  # topic, name or "", place
    globals: list[tuple[str, str]] = field(default_factory=list)  # name, place

    @property
    def exports(self) -> list[str]:
        return [name for name in self.defined if not name.startswith("_")]

    @property
    def module(self) -> Path:
        return self.chapter.folder.parent / "shared" / f"{self.chapter.topic}.py"

    def define(self, name: str, place: str):
        if name in self.defined:
            self.faults.append(
                f"{place}: `{name}` is promoted twice; the first time: {self.defined[name]}"
            )
        elif name == "__all__":
            self.faults.append(
                f"{place}: `__all__` is written by this tool, from the names promoted"
            )
        self.defined.setdefault(name, place)

    def bind(self, name: str, statement: str, place: str):
        """Note an import; the same one may stand in several cells."""
        if self.imports.setdefault(name, statement) != statement:
            self.faults.append(f"{place}: `{name}` is also bound by `{self.imports[name]}`")


def read_lesson(chapter: Chapter) -> Lesson:
    """Read the chapter's notebooks; what is wrong with their cells is in the lesson's `faults`."""
    lesson = Lesson(chapter)
    for path, cell in [(path, cell) for path in chapter.lessons for cell in read(path).cells]:
        if cell.cell_type != "code":
            continue
        place = f"{path.name}, cell '{cell.get('id', '?')}'"
        try:
            promoted = marked(cell, "promote", place)
        except Refused as refused:
            lesson.faults += refused.faults
            continue
        try:
            tree = ast.parse(
                cell.source if promoted else TransformerManager().transform_cell(cell.source)
            )
        except SyntaxError as error:
            if promoted:  # elsewhere it may be the lesson
                text = (error.text or "").strip()
                lesson.faults.append(
                    f"{place}, line {error.lineno}: {RULE}; `{text}` is not plain Python"
                )
            continue
        note_course_imports(lesson, tree, promoted, place)
        if promoted:
            promote(lesson, cell, tree, place)
    return lesson


def note_course_imports(lesson: Lesson, tree: ast.Module, promoted: bool, place: str):
    """Note what a cell takes from previous_chapters and from shared, inside functions too."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        module, here = getattr(node, "module", None), f"{place}, line {node.lineno}"
        for alias in node.names:
            package, _, rest = (f"{module}.{alias.name}" if module else alias.name).partition(".")
            topic, _, name = rest.partition(".")
            if package == "shared" and topic:
                if promoted or topic != lesson.chapter.topic:  # a lesson may try its own module
                    lesson.shared.append((topic, name, here))
            elif package == "previous_chapters":
                if module is None or alias.name == "*":
                    lesson.faults.append(
                        f"{here}: write `from previous_chapters import A, B`, by name"
                    )
                elif promoted and node not in tree.body:
                    lesson.faults.append(
                        f"{here}: import `{alias.name}` outside the function, like the rest"
                    )
                else:
                    lesson.borrowed.append((alias.name, alias.asname or alias.name, here))


def promote(lesson: Lesson, cell, tree: ast.Module, place: str):
    """Add a promoted cell to the lesson: its names, its imports and, without these, its lines."""
    lines, last = dict(enumerate(cell.source.split("\n"), start=1)), 1
    del lines[1]
    for node in tree.body:
        here = f"{place}, line {node.lineno}"
        if node.lineno == last:
            lesson.faults.append(f"{here}: write one statement a line")
        last = node.end_lineno
        lesson.faults += [f"{place}, line {line}: {RULE}; {why}" for line, why in refusals(node)]
        for name in names_defined(node):
            lesson.define(name, here)
        if isinstance(node, ast.Import | ast.ImportFrom):
            for number in range(node.lineno, last + 1):
                lines.pop(number, None)
            for alias in node.names:
                one = ast.Import([alias])
                if isinstance(node, ast.ImportFrom):
                    one = ast.ImportFrom(node.module, [alias], node.level)
                if getattr(node, "module", None) != "previous_chapters":
                    lesson.bind(alias.asname or alias.name, ast.unparse(one), here)
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            lesson.globals += [(name, f"{place}, line {node.lineno}") for name in node.names]
    numbers = [number for number, line in lines.items() if line.strip()]
    if numbers:
        lesson.body += [
            ("", ""),
            ("", ""),
            (f"# {place.partition(',')[0]}: {cell.get('id', '?')}", ""),
        ]
        kept = (number for number in lines if number >= numbers[0])
        lesson.body += [(lines[number], f"{place}, line {number}") for number in kept]


def names_defined(node: ast.stmt) -> list[str]:
    """The names that a top-level definition or constant binds."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return [node.name]
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
