"""Write the modules of shared/ and every previous_chapters.py from the chapters' notebooks.

Usage: python -m tools.promote [--check]
"""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from tools import MY, ROOT, Draft, Refused, chapters, command
from tools.lesson import Lesson, read_lesson

MAX_LINES = 300  # chapter 5 has fifteen names; all others stay below 250
FIRST_PARTY = 'lint.isort.known-first-party = ["shared"]'  # also before shared/ exists


def drafts(root: Path) -> list[Draft]:
    """Every file that promotion writes, or Refused with all the faults of all notebooks."""
    lessons = [read_lesson(chapter) for chapter in chapters(root)]
    owners, faults = {}, []
    for lesson in lessons:
        for name in lesson.exports:
            if name in owners:
                first = owners[name].defined[name]
                faults.append(
                    f"{lesson.defined[name]}: `{name}` is promoted twice; the first time: {first}"
                )
            owners.setdefault(name, lesson)
    for lesson in lessons:
        resolve(lesson, lessons, owners)
    texts = {}
    for lesson in lessons:
        if lesson.defined:
            texts[lesson.module] = module_text(root, lesson)
        texts[lesson.chapter.folder / "previous_chapters.py"] = previous_text(root, lesson, owners)
        faults += lesson.faults
    faults += misplaced_files(root, lessons, texts)
    if faults:
        raise Refused(*faults)
    existing = {path: path.read_text(encoding="utf-8") if path.exists() else "" for path in texts}
    return [Draft(path, text, existing[path], text) for path, text in texts.items()]


def resolve(lesson: Lesson, lessons: list[Lesson], owners: dict[str, Lesson]):
    """Make what a lesson borrows imports of the modules that own it; none may point forward."""
    by_topic = {other.chapter.topic: other for other in lessons}

    def points_back(other: Lesson, name: str, place: str) -> bool:
        distance = lessons.index(other) - lessons.index(lesson)
        if distance >= 0:
            which = "a later chapter" if distance else "this very chapter"
            lesson.faults.append(
                f"{place}: `{name}` is promoted by {other.chapter.notebook.name}, {which}"
            )
        return distance < 0

    for name, alias, place in lesson.borrowed:
        if name not in owners:
            lesson.faults.append(f"{place}: no chapter promotes `{name}`")
        elif points_back(owners[name], name, place):
            renamed = "" if alias == name else f" as {alias}"
            topic = owners[name].chapter.topic
            lesson.bind(alias, f"from shared.{topic} import {name}{renamed}", place)
    for topic, name, place in lesson.shared:
        if topic in by_topic and points_back(by_topic[topic], name or f"shared.{topic}", place):
            if name and name not in by_topic[topic].defined:
                lesson.faults.append(f"{place}: shared.{topic} has no `{name}`")
    for name, place in lesson.defined.items():
        if name in lesson.imports:
            lesson.faults.append(f"{place}: `{name}` is also bound by `{lesson.imports[name]}`")
    for name, place in lesson.globals:
        if name not in lesson.defined:
            lesson.faults.append(f"{place}: `global {name}`, but no promoted cell defines `{name}`")


def module_text(root: Path, lesson: Lesson) -> str:
    """The promoted module; a name that it uses and never defines is added to the lesson's faults."""
    chapter = lesson.chapter
    title = chapter.title[0].upper() + chapter.title[1:]
    source = f"{chapter.folder.name}/{chapter.notebook.name}"
    head = [
        f'"""{title}: {chapter.topic.replace("_", " ")}. Promoted from {source} by `make promote`.',
        "",
        "Edit the notebook, not this file; the comments below name the notebook's cells.",
        '"""',
        "",
        *sorted(lesson.imports.values()),
        "",
        *textwrap.wrap(f"__all__ = {json.dumps(lesson.exports)}", 88, subsequent_indent="    "),
    ]
    if head[-1].startswith(" "):  # a few lines, where ruff would give each name its own
        head[-1] += "  # fmt: skip"
    text = "\n".join([*head, *(line for line, _ in lesson.body)]) + "\n"
    missing = {alias for _, alias, _ in lesson.borrowed} - set(lesson.imports)  # a fault already
    for row, name in undefined_names(root, lesson.module, text):
        if name not in missing:
            place = lesson.body[row - 1 - len(head)][1]
            lesson.faults.append(
                f"{place}: `{name}` is used, but no promoted cell imports or defines it"
            )
    text = tidy(root, lesson.module, text)
    length = len(text.splitlines())
    if length > MAX_LINES:
        lesson.faults.append(
            f"{chapter.notebook.name}: shared/{lesson.module.name} would have {length} lines; {MAX_LINES} are allowed"
        )
    return text


def previous_text(root: Path, lesson: Lesson, owners: dict[str, Lesson]) -> str:
    """The chapter's previous_chapters.py: the names that its notebook imports, and nothing else."""
    chapter = lesson.chapter
    names = sorted({name for name, _, _ in lesson.borrowed if name in owners})
    imports = [f"from shared.{owners[name].chapter.topic} import {name}" for name in names]
    if not names:
        text = f'"""{chapter.title.capitalize()} builds on no earlier chapter\'s code."""\n'
    else:
        text = (
            f'"""The names of earlier chapters that {chapter.notebook.name} imports; written by `make promote`."""\n\n'
            + "\n".join(imports)
            + f"\n\n__all__ = {names}\n"
        )
    return tidy(root, chapter.folder / "previous_chapters.py", text)


def misplaced_files(root: Path, lessons: list[Lesson], texts: dict[Path, str]) -> list[str]:
    """Faults for promoted files without their notebook, and for hand-written ones in the way."""
    faults = []
    for path in sorted((root / "shared").glob("*.py")):
        says = re.match(r'"""[^"]*Promoted from (\S+\.ipynb)', path.read_text(encoding="utf-8"))
        if path in texts and not says:
            faults.append(
                f"shared/{path.name} is written by hand and a chapter's module has this name: move it"
            )
        elif says and path not in texts:
            why = "promotes nothing" if (root / says[1]).exists() else "does not exist"
            faults.append(
                f"shared/{path.name} says it is promoted from {says[1]}, which {why}: delete the module"
            )
    for path in sorted(root.glob("*/previous_chapters.py")):
        if path not in texts and path.parent.name != MY:
            faults.append(
                f"{path.parent.name}/previous_chapters.py stands in a folder without its notebook"
            )
    return faults


def undefined_names(root: Path, path: Path, text: str) -> list[tuple[int, str]]:
    """(row, name) of each name that nothing binds, by ruff's analysis of scopes."""
    options = (
        "check",
        "--select",
        "F821",
        "--ignore-noqa",
        "--exit-zero",
        "--output-format",
        "json",
    )
    found = json.loads(ruff(root, path, text, *options))
    return [(fault["location"]["row"], fault["message"].split("`")[1]) for fault in found]


def tidy(root: Path, path: Path, text: str) -> str:
    """The text with its imports sorted, those without use dropped, formatted as pyproject.toml says."""
    options = (
        "check",
        "--select",
        "I,F401",
        "--ignore-noqa",
        "--fix-only",
        "--config",
        FIRST_PARTY,
    )
    return ruff(root, path, ruff(root, path, text, *options), "format")


def ruff(root: Path, path: Path, text: str, *arguments: str) -> str:
    try:
        from ruff import find_ruff_bin
    except ImportError:
        raise Refused("ruff is not installed: python -m pip install -e '.[test]'") from None
    name = path.relative_to(root).as_posix()
    line = [find_ruff_bin(), *arguments, "--quiet", "--no-cache", "--stdin-filename", name, "-"]
    done = subprocess.run(line, cwd=root, input=text, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise Refused(f"{name}: ruff failed: {done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    return command("Promote the notebooks' code to shared/.", drafts, root, arguments)


if __name__ == "__main__":
    sys.exit(main())
