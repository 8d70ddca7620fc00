"""The authors' tools, and what they share: chapters in course order, marked cells, --check."""

import argparse
import re
import sys
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

# jsonschema would build a grammar of web addresses for two seconds, which no notebook needs
sys.modules.setdefault("rfc3987_syntax", None)
import nbformat  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
MY = "my"  # the reader's folder: no tool and no test looks into it
ORDER = tuple("appendix_a ch01 ch02 ch03 ch04 ch05 appendix_d ch06 ch07 appendix_e ch08".split())


class Refused(Exception):
    """What the authors must mend first: one line for each fault."""

    def __init__(self, *faults):
        super().__init__("\n".join(faults))
        self.faults = list(faults)


@dataclass(frozen=True)
class Chapter:
    """A chapter's folder, `ch02_text_data`: its name is `ch02`, its topic `text_data`."""

    folder: Path
    name: str
    topic: str

    @property
    def notebook(self) -> Path:
        return self.folder / f"{self.name}.ipynb"

    @property
    def lessons(self) -> list[Path]:
        """The chapter's notebook and those that continue it, `<name>_<part>.ipynb`, in order of names."""
        return [self.notebook, *sorted(self.folder.glob(f"{self.name}_*.ipynb"))]

    @property
    def title(self) -> str:
        if self.name.startswith("ch"):
            return f"chapter {int(self.name[2:])}"
        return f"appendix {self.name[-1].upper()}"


def chapters(root: Path) -> list[Chapter]:
    """The chapters whose notebook exists, in course order.

    Raises Refused for a chapter that has no place in the order, or when two share a name or a topic.
    """
    found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        parts = re.fullmatch(r"(ch\d\d|appendix_[a-z])_(\w+)", folder.name)
        if not parts or not Chapter(folder, *parts.groups()).notebook.exists():
            continue
        chapter = Chapter(folder, *parts.groups())
        if chapter.name not in ORDER:
            raise Refused(
                f"{folder.name}: {chapter.name} has no place in the ORDER of tools/__init__.py"
            )
        for other in found.values():
            if chapter.name == other.name or chapter.topic == other.topic:
                raise Refused(
                    f"{folder.name} and {other.folder.name} share a name or a topic; rename one"
                )
        found[chapter.name] = chapter
    return [found[name] for name in ORDER if name in found]


def read(path: Path) -> nbformat.NotebookNode:
    """The notebook in this file; Refused if there is none in it."""
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own errors, jsonschema's, and plain ones
        raise Refused(f"{path.name}: this is not a notebook that can be read ({error})") from None


def marked(cell: nbformat.NotebookNode, word: str, place: str) -> bool:
    """Whether the code cell's first line is `#| word`; Refused for any other mark of this kind."""
    lines = cell.source.split("\n")
    here = lines[0].rstrip() == f"#| {word}"
    for number, line in enumerate(lines[here:], start=1 + here):
        if re.fullmatch(r"\s*#\s?\|\s*\w+\s*", line):
            raise Refused(
                f"{place}, line {number}: `{line.strip()}` is no mark here; "
                f"write `#| {word}` as the cell's first line"
            )
    return here


@dataclass(frozen=True)
class Draft:
    """A file as it ought to be: `content`, written when the texts that are compared differ."""

    path: Path
    content: str
    was: str
    now: str


def command(description: str, drafts, root: Path, arguments: list[str] | None) -> int:
    """A tool's command line: write the drafts of `root`, or with --check only show what is stale."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; fail if a file is stale"
    )
    check = parser.parse_args(arguments).check
    try:
        stale = [draft for draft in drafts(root) if draft.was != draft.now]
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    for draft in stale:
        name = draft.path.relative_to(root).as_posix()
        if check:
            lines = draft.was.splitlines(), draft.now.splitlines()
            print(*unified_diff(*lines, name, f"{name} (as it ought to be)", lineterm=""), sep="\n")
        else:
            draft.path.parent.mkdir(parents=True, exist_ok=True)
            draft.path.write_text(draft.content, encoding="utf-8", newline="\n")
            print(f"wrote {name}")
    return int(check and bool(stale))
