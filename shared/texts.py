"""Texts as they come from any system: read right, or refused by name; and tables and lines of them."""

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

SAVE_AS = "save it as UTF-8 (Excel: CSV UTF-8; Notepad: Save as, Encoding)"
BLANKS = 500_000  # in a row; the split pattern's search ends the program from a million on
MARKS = {  # the longer first: UTF-32's mark begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def as_text(content: bytes, name) -> str:
    """Bytes as text: UTF-8, or what a byte order mark at the start says. ValueError, with the name, for all else."""
    encoding = next((MARKS[mark] for mark in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        kind = encoding.upper().removesuffix("-SIG")
        raise ValueError(f"{name} is not {kind} (byte {error.start:,}): {SAVE_AS}") from None
    if "\0" in text:
        raise ValueError(f"{name} is no text or not UTF-8, since it holds zeros: {SAVE_AS}")
    return re.sub("^\ufeff+", "", text, flags=re.MULTILINE)  # files with marks were joined


def read_text(path) -> str:
    """The text of a file, as `as_text` has it, with one kind of line end. ValueError, too, where it cannot be read."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    return as_text(content, path).replace("\r\n", "\n").replace("\r", "\n")


def unbroken(text: str, name) -> str:
    """A text typed at a command line; ValueError where part of it is no Unicode, which Python carries as surrogates."""
    if re.search("[\ud800-\udfff]", text):
        raise ValueError(f"{name} is not UTF-8: type it anew, or set the terminal to UTF-8")
    return text.lstrip("\ufeff")


def encodable(text: str, name="the text") -> str:
    """The text itself; ValueError, with its name and the place, where no tokenizer could read it.

    That is where half of a character stands, which UTF-8 cannot hold, or so much white space in a row (from half a
    million on, and always from a million) that the search for chunks would run out of memory and end the program.
    """
    if not text.isascii() and (half := re.search("[\ud800-\udfff]", text)):
        raise ValueError(
            f"character {half.start():,} of {name}, {half[0]!r}, is half of one (a lone surrogate) and cannot be "
            "encoded: delete it, or look for where the text was cut or read with a wrong encoding"
        )
    for start in range(0, len(text) - BLANKS + 1, BLANKS):
        if text[start : start + BLANKS].isspace():
            raise ValueError(
                f"from character {start:,} on {name} has {BLANKS:,} blanks in a row, or more, which no tokenizer "
                "here can read: shorten them"
            )
    return text


def read_rows(path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a table with tabs, as dictionaries. ValueError where it cannot be read or lacks one of the columns."""
    table = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t")
    if missing := [name for name in columns if name not in (table.fieldnames or ())]:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {table.fieldnames or []}")
    rows = list(table)
    if short := [i for i, row in enumerate(rows, 2) if any(row[name] is None for name in columns)]:
        raise ValueError(
            f"{path}, line {short[0]}: a column is missing; separate columns with tabs"
        )
    return rows


def read_csv(path, as_text: tuple[str, ...]):
    """A DataFrame of a CSV file; the columns `as_text` hold strings, and an empty field is an empty string.

    ValueError, with the file's name: it cannot be read, is empty, has a line with too many fields or a column twice,
    or a quotation mark that is not closed or has more behind its end.
    """
    import pandas as pd

    text = read_text(path)
    csv.field_size_limit(2**31 - 1)  # a text may be long
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise ValueError(
            f"{path}: a quotation mark is not closed, or text follows its end ({error}); "
            'within a quoted text write "" for each'
        ) from None
    header = rows[0] if rows else []
    if not header:
        raise ValueError(f"{path} is empty: its first line must name the columns")
    if twice := [name for name in header if header.count(name) > 1]:
        raise ValueError(f"{path} has two columns {twice[0]!r}: rename or delete one")
    if any(len(row) > len(header) for row in rows):
        raise ValueError(f"{path}: a line has too many fields; quote a text that has commas")
    return pd.read_csv(io.StringIO(text), dtype=dict.fromkeys(as_text, str), keep_default_na=False)


def as_table(source, as_text: tuple[str, ...]):
    """`(DataFrame, what to call it)` of a DataFrame, or of a CSV file as `read_csv` reads it."""
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return source, "the table"
    return read_csv(source, as_text), source


def check_parts(*sizes: int | None) -> None:
    """Raise ValueError where a part that was asked for, and is not None, would be empty."""
    if 0 in sizes:
        found = [int(size) for size in sizes if size is not None]
        raise ValueError(f"there are too few texts: one of the parts is empty, of {found}")


def check_size(message: str, count: int, most: int) -> None:
    """Raise ValueError for a message that is empty, or has more tokens than can be read: in a box and in a terminal."""
    if not message.strip():
        raise ValueError("the message is empty: there is nothing to classify")
    if count > most:
        raise ValueError(
            f"the message has {count} tokens, and at most {most} can be read: shorten it"
        )


def holds_rows(text: str, labels) -> bool:
    """Whether a text holds what looks like further rows of its table: a label with a comma at a line's start or end."""
    label = f'"?(?:{"|".join(map(re.escape, map(str, labels)))})"?'
    return re.search(rf"\n{label},(?!\d)|,{label}\n", text) is not None


def check_messages(table, name, classes: dict[str, int]) -> None:
    """Raise ValueError unless a DataFrame has known labels and a text beside each, and both classes occur."""
    if missing := {"label", "text"}.difference(table):
        raise ValueError(f"{name} has no column {min(missing)!r}; it has {list(table)}")
    if not table.columns.is_unique:
        raise ValueError(f"{name} has a column twice, {list(table)}: rename or delete one")
    for i, (label, text) in enumerate(zip(table["label"], table["text"]), start=1):
        where = f"{name}, message {i}"
        if str(label) not in classes:
            raise ValueError(f"{where}: unknown label {label!r}; use ham or spam")
        if not isinstance(text, str) and text is not None and text == text:  # nan is not itself
            raise ValueError(f"{where} is no text, but {text!r}: make it a string")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where} is empty: delete it, or give it a text")
        encodable(text, where)
        if holds_rows(text, classes):
            raise ValueError(f"{where} holds further ones: a quotation mark in it is not closed")
    if len({classes[str(label)] for label in table["label"]}) < 2:
        raise ValueError(f"{name} must have ham and spam: with one class there is nothing to learn")


def typed_lines(stream=None) -> Iterator[bytes]:
    """The lines of standard input, as they come, each to be read by `as_text`; UTF-16 with its mark becomes UTF-8."""
    stream = sys.stdin if stream is None else stream
    if not hasattr(stream, "buffer"):  # a stand-in that holds text already
        yield from (line.encode() for line in stream)
        return
    first = stream.buffer.readline()
    if first.startswith(tuple(MARKS)) and not first.startswith(codecs.BOM_UTF8):
        text = as_text(first + stream.buffer.read(), "the input")
        yield from (line.encode() for line in text.splitlines())
    elif first:
        yield first
        yield from stream.buffer


# --- what chapter 2's tokenizers and windows refuse ------------------------------------------------


class Vocabulary(dict):
    """A dict, word -> token ID, whose KeyError says which word is missing, and of how many."""

    def __missing__(self, word):
        raise KeyError(f"{word!r} is not in the vocabulary of {len(self):,} words")


def check_unknown(vocab) -> None:
    """Raise ValueError unless a vocabulary has the entry that unknown words become."""
    if "<|unk|>" not in vocab:
        raise ValueError("the vocabulary needs an entry '<|unk|>' for unknown words")


def check_bpe_input(text: str, vocab_size: int, special_tokens: tuple[str, ...]) -> None:
    """Raise ValueError for an empty text, or a vocabulary without room for bytes and special tokens."""
    if isinstance(special_tokens, str):  # else each of its letters would become one
        raise TypeError(f"special_tokens must be a tuple of strings: ({special_tokens!r},)")
    if not text:
        raise ValueError("the text is empty: there are no pairs to count")
    if not vocab_size >= (least := 256 + len(special_tokens)):  # nan is not, either
        raise ValueError(f"vocab_size is {vocab_size}, bytes and special tokens need {least}")


def check_windows(tokens: int, max_length: int, stride: int) -> None:
    """Raise ValueError unless a text of so many tokens has at least one window and its targets."""
    if max_length < 1 or stride < 1:
        raise ValueError(f"max_length ({max_length}) and stride ({stride}) must be at least 1")
    if tokens <= max_length:  # else a loader would yield nothing, and say nothing
        raise ValueError(
            f"the text has {tokens} tokens, a window and its targets need at least "
            f"{max_length + 1}: take a longer text or a smaller max_length"
        )


def check_batches(windows: int, batch_size: int, drop_last: bool) -> None:
    """Raise ValueError if a loader would have no batch at all."""
    if drop_last and windows < batch_size:
        raise ValueError(f"{windows} windows fill no batch of {batch_size}: lower batch_size")
