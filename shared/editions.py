"""Which data and which model the notebooks get: read here, and nowhere else.

Two environment variables choose, each on its own; both are read at every call:

COURSE_DATA   course (default): what ships with the course; book: what the book uses, downloaded once
COURSE_MODEL  course-gpt (default): our tokenizer and model; gpt2, gpt2-medium, gpt2-large, gpt2-xl: OpenAI's
"""

import ast
import functools
import hashlib
import json
import os
from pathlib import Path

import tiktoken

from shared import assets

CHAPTER_2 = Path(__file__).parent.parent / "ch02_text_data"
STORY = CHAPTER_2 / "the-prompt-corner.txt"
COURSE_TOKENIZER = CHAPTER_2 / "course_tokenizer.txt"

# the first value of each is the default
SWITCHES = {
    "COURSE_DATA": ("course", "book"),
    "COURSE_MODEL": ("course-gpt", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
}
END_OF_TEXT = "<|endoftext|>"
GPT2_TOKENS = 50_257


def choice(switch: str) -> str:
    """The value in force of COURSE_DATA or COURSE_MODEL; ValueError if it is not a known one."""
    known = SWITCHES[switch]
    value = os.environ.get(switch) or known[0]
    if value not in known:
        raise ValueError(f"{switch} is {value!r}, which is not known; it can be {', '.join(known)}")
    return value


def banner() -> str:
    """One line that says which edition is in force, for a notebook's first output."""
    data, model = choice("COURSE_DATA"), choice("COURSE_MODEL")
    kind = "ships with the course" if data == "course" else "the book's"
    encoding = "4,096 tokens" if model == "course-gpt" else f"{GPT2_TOKENS:,} tokens"
    return f"data: {data} ({kind}); model: {model} ({encoding})"


def text() -> str:
    """The text to learn from: the course's story, or The Verdict (COURSE_DATA=book).

    Raises AssetError where The Verdict is not to be had.
    """
    path = STORY if choice("COURSE_DATA") == "course" else assets.fetch("the-verdict.txt")
    return path.read_text(encoding="utf-8")


def tokenizer() -> tiktoken.Encoding:
    """The model's tokenizer: the course's own, or GPT-2's for COURSE_MODEL=gpt2 and its larger siblings.

    Raises ValueError where the stored tokenizer is damaged, AssetError where GPT-2's files are not to be had.
    """
    if choice("COURSE_MODEL") == "course-gpt":
        return _course_encoding(COURSE_TOKENIZER)
    return gpt2_encoding()


def gpt2_encoding() -> tiktoken.Encoding:
    """GPT-2's encoding of 50,257 tokens, whatever the edition; built once.

    Raises AssetError where its two files are not to be had (Radford et al., 2019).
    """
    return _gpt2_encoding(assets.fetch("vocab.bpe"), assets.fetch("encoder.json"))


def load_ranks(path: Path) -> dict[bytes, int]:
    """The ranks stored by `ch02_text_data/train_tokenizer.py`: 256 bytes, then the merged tokens in order.

    ValueError if the file is damaged: its header holds the SHA-256 of the lines below it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        header = [line for line in lines if line.startswith("#")]
        tokens = lines[len(header) :]
        # of the lines, not of the file: a checkout on Windows may end them otherwise
        if _sha256(tokens) not in header[-1]:
            raise ValueError
    except (OSError, ValueError, IndexError):
        raise ValueError(
            f"{path} is missing or damaged: its lines do not have the SHA-256 that its header names. "
            "Restore it (git checkout), or train it again with train_tokenizer.py."
        ) from None
    merged = [ast.literal_eval(line) for line in tokens]
    return {token: rank for rank, token in enumerate([bytes([b]) for b in range(256)] + merged)}


def _sha256(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@functools.cache
def _course_encoding(path: Path) -> tiktoken.Encoding:
    from shared.text_data import make_encoding  # which imports this module

    return make_encoding("course-gpt", load_ranks(path), (END_OF_TEXT,))


@functools.cache
def _gpt2_encoding(merges: Path, vocabulary: Path) -> tiktoken.Encoding:
    """From the original files, in which every byte is written as one visible character.

    tiktoken has a reader for them, but it leaves copies in the folder for temporary files.
    """
    from shared.text_data import make_encoding

    visible = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    hidden = [b for b in range(256) if b not in visible]
    byte = {chr(b): b for b in visible} | {chr(256 + i): b for i, b in enumerate(hidden)}

    lines = merges.read_text(encoding="utf-8").splitlines()[1:]  # the first names a version
    tokens = list(byte) + [line.replace(" ", "") for line in lines]
    known = json.loads(vocabulary.read_text(encoding="utf-8"))
    if {token: rank for rank, token in enumerate([*tokens, END_OF_TEXT])} != known or len(
        known
    ) != GPT2_TOKENS:
        raise ValueError(
            f"{merges} and {vocabulary} do not describe the same {GPT2_TOKENS:,} tokens"
        )
    ranks = {bytes(byte[char] for char in token): rank for rank, token in enumerate(tokens)}
    return make_encoding("gpt2", ranks, (END_OF_TEXT,))
