"""The reader's copies of the notebooks, in the folder my/: what `make lab` and `make fresh` do.

    python -m tools.my                                    copy what is not there yet
    python -m tools.my --fresh ch03_attention/ch03.ipynb  put a new copy beside the old one
    python -m tools.my --fresh                            the same for all that are older than the course's

Nothing in my/ is overwritten, but by --fresh alone a copy that nobody has changed.
"""

import argparse
import json
import sys
from pathlib import Path

from shared.files import landing, save_json, sha256
from tools import MY, ROOT, Refused
from tools.glossary import PAGE
from tools.normalize import notebooks

LINKED = (PAGE, "ch02_text_data/the-prompt-corner.txt")  # what lessons link to, to be read
RECORD = ".copied.json"  # of each copy, the SHA-256 of what was copied
ABOUT = """# Your copies

Work here: run, change, solve, and add notes of your own. Nothing of the course depends on this folder, and no command
overwrites what you have written in it. If you delete a copy, `make lab` makes it again; to get a fresh one beside yours, type
`make fresh NOTEBOOK=ch03_attention/exercises.ipynb`. For everything else see the [README](../README.md) of the course.
"""


def courses(root: Path) -> dict[str, str]:
    """The SHA-256 of each file that readers get a copy of, by name: the notebooks, and the pages they link to."""
    paths = [*notebooks(root), *filter(Path.exists, [root / name for name in LINKED])]
    return {path.relative_to(root).as_posix(): sha256(path) for path in paths}


def recorded(root: Path) -> dict[str, str]:
    """What the copies were made from; nothing where that is not known."""
    try:
        return dict(json.loads((root / MY / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def copy(root: Path, name: str, target: Path, record: dict[str, str]) -> None:
    content = (root / name).read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    with landing(target) as file:
        file.write(content)
    record[name] = sha256(content)
    save_json(root / MY / RECORD, record)


def fill(root: Path) -> tuple[list[str], list[str]]:
    """Copy what is not there yet. The names of these, and of the copies that are older than the course's."""
    there, record = courses(root), recorded(root)
    new = [name for name in there if not (root / MY / name).exists()]
    for name in new:
        copy(root, name, root / MY / name, record)
    if not (about := root / MY / "README.md").exists():
        about.write_text(ABOUT, encoding="utf-8")
    return new, [name for name in there if record.get(name, there[name]) != there[name]]


def freshen(root: Path, wanted: list[str]) -> list[Path]:
    """Put new copies beside the old ones; where none is named, of all that are older than the course's.

    Those that nobody has changed are then replaced. The paths of the new ones. Raises Refused for an unknown name.
    """
    there, record = courses(root), recorded(root)
    names = [Path(text).as_posix().removeprefix(f"{MY}/") for text in wanted]
    for name in names:
        if name not in there:
            raise Refused(
                f"{name} is no notebook of the course: name one such as {next(iter(there))}"
            )
    made = []
    for name in names or fill(root)[1]:
        old = root / MY / name
        untouched = not wanted and sha256(old) == record.get(name)
        made.append(old if untouched else free_name(old))
        copy(root, name, made[-1], record)
    return made


def free_name(path: Path) -> Path:
    """The first of path, path-2, path-3, ... that is free."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fresh", nargs="*", metavar="NOTEBOOK", help="make new copies, too")
    wanted = parser.parse_args(arguments).fresh
    try:
        new, old = fill(root)
        for path in [] if wanted is None else freshen(root, wanted):
            print(f"{path.relative_to(root).as_posix()}: a new copy")
    except (OSError, Refused) as error:
        print(f"my: {error}", file=sys.stderr)
        return 1
    if new:
        print(
            f"{MY}/: {len(new)} copies made; work there, and nothing that you write is overwritten"
        )
    if old and wanted is None:
        print(
            f"{MY}/: the course has newer versions of {', '.join(old)}; your copies stay as they are."
        )
        print(
            "`make fresh` (python -m tools.my --fresh) puts the new ones beside those that you changed,"
        )
        print("and in place of the others.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
