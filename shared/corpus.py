"""Reading a corpus: a folder of plain text files, for the scripts that train on more than the story."""

import gzip
import math
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from shared.editions import ROOT
from shared.encodings import END_OF_TEXT
from shared.files import sha256
from shared.texts import as_text, encodable, read_rows

BETWEEN = re.compile(rf"^[ \t]*{re.escape(END_OF_TEXT)}[ \t]*$", re.MULTILINE)

# What no tokenizer and no model of the course has read: title and fingerprint of each document.
HELD_OUT = ROOT / "ch05_pretraining" / "held_out.tsv"

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


def read_documents(place: Path) -> list[Document]:
    """All works in a folder's `*.txt` and `*.txt.gz` files, or in one such file, made `plain`.

    Works are separated by a line `<|endoftext|>`. Titles come from `works.tsv` beside the file (columns `group`,
    the file's name, and `title`, in the order of the works) where there is one, else from a work's first line.
    Raises ValueError: no such place, no text in it, a file that is damaged or not UTF-8.
    """
    place = Path(place)
    if not place.exists():
        raise ValueError(f"there is no folder or file {place}")
    paths = [place]
    if place.is_dir():
        paths = sorted(p for p in place.iterdir() if p.name.lower().endswith((".txt", ".txt.gz")))
    documents = []
    for path in paths:
        works = [work.strip() for work in BETWEEN.split(plain(_read(path))) if work.strip()]
        works = [encodable(work, f"a work in {path}") for work in works]
        if any(END_OF_TEXT in work for work in works):  # it would be learned as ordinary text
            raise ValueError(f"{path} has {END_OF_TEXT} within a line: give it a line of its own")
        names = _titles(path.with_name("works.tsv")).get(path.name.split(".")[0], [])
        if len(names) != len(works):
            names = [work.partition("\n")[0] for work in works]
        documents += map(Document, names, works)
    if not documents:
        raise ValueError(f"{place} holds no text: put files *.txt or *.txt.gz into it")
    return documents


def fingerprint(document: Document) -> str:
    """The first 16 digits of the SHA-256 of a document's text."""
    return sha256(document.text.encode())[:16]


def split_held_out(documents: list[Document], held_out: Path = HELD_OUT):
    """`(to train on, never to train on)`: the latter are those that the list names.

    The list is a table with tabs, columns `title` and `sha256`; either is enough. Raises ValueError where it
    cannot be read.
    """
    try:
        rows = read_rows(held_out, ("title", "sha256"))
    except ValueError as error:
        raise ValueError(f"the list of what is held out, {error}") from None
    titles, prints = ({row[name] for row in rows} - {""} for name in ("title", "sha256"))
    seen, unseen = [], []
    for document in documents:
        known = document.title in titles or fingerprint(document) in prints
        (unseen if known else seen).append(document)
    return seen, unseen


def sample(documents: list[Document], megabytes: float, seed: int = 123) -> list[Document]:
    """Whole works drawn by the seed, as many as fit into so many MB of UTF-8; infinity: each once.

    Where there is room for more than all of them, they are drawn again. Raises ValueError if no work fits.
    """
    rng, drawn, room = random.Random(seed), [], megabytes * 1e6
    while True:
        before = len(drawn)
        for document in rng.sample(documents, len(documents)):
            size = len(document.text.encode())
            if size <= room:
                drawn.append(document)
                room -= size
        if not drawn:
            raise ValueError(f"no work fits into {megabytes} MB")
        if room == math.inf or len(drawn) - before < len(documents):
            return drawn


def _titles(path: Path) -> dict[str, list[str]]:
    titles: dict[str, list[str]] = {}
    for row in read_rows(path, ("group", "title")) if path.exists() else ():
        titles.setdefault(row["group"], []).append(row["title"])
    return titles


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise ValueError(f"{path} is damaged: it cannot be unpacked") from None
    return as_text(content, path).replace("\r\n", "\n")
