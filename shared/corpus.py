"""Reading a corpus: a folder of plain text files, for the scripts that train on more than the story."""

import csv
import gzip
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

END_OF_TEXT = "<|endoftext|>"
BETWEEN = re.compile(rf"^{re.escape(END_OF_TEXT)}$", re.MULTILINE)

# Typographic signs that Project Gutenberg's files use now and then, and the plain ones that the course is
# written in. A model that meets both must learn every quoted sentence twice.
PLAIN = str.maketrans(
    {
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "—": "--",
        "–": "-",
        "…": "...",
        "\N{NO-BREAK SPACE}": " ",
    }
)


@dataclass(frozen=True)
class Document:
    """One work of a corpus."""

    title: str
    text: str


def plain(text: str) -> str:
    """The text with straight quotes, `--` for a dash and `...` for an ellipsis."""
    return text.translate(PLAIN)


def read_documents(folder: Path) -> list[Document]:
    """All works in the folder's `*.txt` and `*.txt.gz` files, made `plain`.

    Works are separated by a line `<|endoftext|>`. Titles come from `works.tsv` (columns `group`, the file's
    name, and `title`, in the order of the works) where there is one, else from a work's first line.
    Raises ValueError: no such folder, no text in it, a file that is damaged or not UTF-8.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    titles = _titles(folder / "works.tsv")
    documents = []
    for path in sorted([*folder.glob("*.txt"), *folder.glob("*.txt.gz")]):
        works = [work.strip() for work in BETWEEN.split(plain(_read(path))) if work.strip()]
        names = titles.get(path.name.split(".")[0], [])
        if len(names) != len(works):
            names = [work.partition("\n")[0] for work in works]
        documents += map(Document, names, works)
    if not documents:
        raise ValueError(f"{folder} holds no text: put files *.txt or *.txt.gz into it")
    return documents


def sample(documents: list[Document], megabytes: float, held_out: int, seed: int = 123):
    """Whole works drawn by the seed: `(to train on, never seen)`, the first of at most so many MB of UTF-8.

    Raises ValueError if there are no more works than are held out.
    """
    if not 0 < held_out < len(documents):
        raise ValueError(f"{held_out} works cannot be held out of {len(documents)}")
    documents = random.Random(seed).sample(documents, len(documents))
    unseen, rest = documents[:held_out], documents[held_out:]
    seen, room = [], megabytes * 1e6
    for document in rest:
        size = len(document.text.encode())
        if size <= room:
            seen.append(document)
            room -= size
    if not seen:
        raise ValueError(f"no work fits into {megabytes} MB")
    return seen, unseen


def _titles(path: Path) -> dict[str, list[str]]:
    titles: dict[str, list[str]] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                titles.setdefault(row["group"], []).append(row["title"])
    return titles


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start:,}): save it as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ValueError(f"{path} is damaged: it cannot be unpacked") from None
