"""The tokenizers: the course's own, from its file, and GPT-2's, from OpenAI's two; and which model has which."""

import ast
import functools
import json
from pathlib import Path

import tiktoken

from shared import assets, editions
from shared.files import CONFIG, sha256
from shared.texts import encodable

COURSE_TOKENIZER = editions.CHAPTER_2 / "course_tokenizer_2.txt"
FIRST_TOKENIZER = editions.CHAPTER_2 / "course_tokenizer.txt"  # of the models of chapters 6 and 7

END_OF_TEXT = "<|endoftext|>"
GPT2_TOKENS = 50_257
# chapter 2 explains it, as GPT2_SPLIT_PATTERN (Radford et al., 2019)
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# how two lines of a tokenizer's file begin; the pattern's stands below the checksum's, which is of it, too
SPLIT_PATTERN = "# Split pattern: "
CHECKSUM = "# SHA-256 of the lines below: "


class Encoding(tiktoken.Encoding):
    """tiktoken's, but ValueError for a text that it would crash on, or change without a word: see `encodable`."""

    def encode_ordinary(self, text):
        return super().encode_ordinary(encodable(text))

    def encode(self, text, **special):
        return super().encode(encodable(text), **special)

    def encode_to_numpy(self, text, **special):
        return super().encode_to_numpy(encodable(text), **special)


def tokenizer(first: bool = False) -> tiktoken.Encoding:
    """The model's tokenizer: the course's own, or GPT-2's for COURSE_MODEL=gpt2 and its larger siblings.

    `first`: of the course's own the one that the models of chapters 6 and 7 were made with. Raises ValueError where the stored tokenizer is damaged, AssetError where GPT-2's files are not to be had.
    """
    return (
        course_encoding(first)
        if editions.choice("COURSE_MODEL") == "course-gpt"
        else gpt2_encoding()
    )


def course_encoding(first: bool = False) -> tiktoken.Encoding:
    """The course's encoding of 4,096 tokens, or its first one, whatever the edition; built once.

    Raises ValueError where the stored tokenizer is damaged.
    """
    return load_encoding(FIRST_TOKENIZER if first else COURSE_TOKENIZER)


def gpt2_encoding() -> tiktoken.Encoding:
    """GPT-2's encoding of 50,257 tokens, whatever the edition; built once.

    Raises AssetError where its two files are not to be had (Radford et al., 2019).
    """
    return _gpt2_encoding(assets.fetch("vocab.bpe"), assets.fetch("encoder.json"))


def load_ranks(path: Path) -> dict[bytes, int]:
    """The ranks stored by `ch02_text_data/train_tokenizer.py`: 256 bytes, then the merged tokens in order.

    ValueError if the file is damaged: its header holds the SHA-256 of the lines below it.
    """
    merged = [ast.literal_eval(line) for line in _tokenizer(path)[1] if not line.startswith("#")]
    return {token: rank for rank, token in enumerate([bytes([b]) for b in range(256)] + merged)}


def tokenizer_sha256(path: Path) -> str:
    """The checksum in a tokenizer file's header, by which models name it: of its merges, and its split pattern if given.

    ValueError if the file is damaged.
    """
    return _tokenizer(path)[0]


@functools.cache
def load_encoding(path: Path, name: str = "course-gpt") -> tiktoken.Encoding:
    """The encoding of a tokenizer file, with the split pattern that it names, else GPT-2's; built once.

    ValueError if the file is damaged.
    """
    named = [line for line in _tokenizer(path)[1] if line.startswith(SPLIT_PATTERN)]
    patterns = [ast.literal_eval(line.removeprefix(SPLIT_PATTERN)) for line in named]
    pattern = patterns[0] if patterns else GPT2_PATTERN
    return _encoding(name, load_ranks(path), pattern)


@functools.cache
def _gpt2_encoding(merges: Path, vocabulary: Path) -> tiktoken.Encoding:
    """From the original files, in which every byte is written as one visible character.

    tiktoken has a reader for them, but it leaves copies in the folder for temporary files.
    """
    byte = {character: number for number, character in visible_bytes().items()}
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
    return _encoding("gpt2", ranks)


def check_ranks(ranks: dict[bytes, int], special_tokens: tuple[str, ...]) -> None:
    """Raise ValueError unless the ranks are 0 .. n-1 and hold all 256 bytes, and the special tokens are a tuple."""
    if isinstance(special_tokens, str) or len(set(special_tokens)) < len(special_tokens):
        raise ValueError("special_tokens must be a tuple of different strings")
    single_bytes = {bytes([byte]) for byte in range(256)}  # without one, tiktoken would crash on it
    if sorted(ranks.values()) != list(range(len(ranks))) or not single_bytes <= set(ranks):
        raise ValueError("the ranks must be 0, 1, 2, ..., and all 256 single bytes must be there")


def encode_to_tensor(txt: str, tokenizer):
    """Token IDs as an int32 tensor `(N,)`, `<|endoftext|>` allowed.

    tiktoken writes them into an array, without a Python list in between; another tokenizer needs only `encode`.
    """
    import torch  # here, since most scripts that load a tokenizer do without

    if isinstance(tokenizer, tiktoken.Encoding):
        array = tokenizer.encode_to_numpy(txt, allowed_special={END_OF_TEXT})
        return torch.from_numpy(array.astype("int32"))
    return torch.tensor(tokenizer.encode(txt), dtype=torch.int32)


def visible_bytes() -> dict[int, str]:
    """GPT-2's visible character for each byte: itself where it can be seen, else one from 256 on.

    In the order of the ranks of single bytes.
    """
    seen = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    hidden = [b for b in range(256) if b not in seen]
    return {b: chr(b) for b in seen} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def _encoding(name: str, ranks: dict[bytes, int], pattern: str = GPT2_PATTERN) -> tiktoken.Encoding:
    """As chapter 2's `make_encoding`, which checks the ranks; these come from files whose checksums were compared."""
    special = {END_OF_TEXT: len(ranks)}
    return Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def _tokenizer(path: Path) -> tuple[str, list[str]]:
    """The checksum of a tokenizer file, and the lines that it is of."""
    try:
        checksum, *lines = path.read_text(encoding="utf-8").partition(CHECKSUM)[2].splitlines()
        # of the lines, not of the file: a checkout on Windows may end them otherwise
        if sha256("\n".join(lines).encode()) != checksum:
            raise ValueError
    except (OSError, ValueError):
        raise ValueError(
            f"{path} is missing or damaged: its lines do not have the SHA-256 that its header names. "
            "Restore it (git checkout), or train it again with train_tokenizer.py."
        ) from None
    return checksum, lines


# --- which tokenizer a model was made with --------------------------------------------------------


def tokenizer_name(cfg: dict, tokenizer: Path) -> str:
    """What a model's config.json calls its tokenizer: the checksum of its file, or gpt2 where it has GPT-2's size."""
    return "gpt2" if cfg.get("vocab_size") == GPT2_TOKENS else tokenizer_sha256(tokenizer)


def check_tokenizer(cfg: dict, folder: Path, tokenizer: Path) -> dict:
    """The configuration in a model's folder without its entry `tokenizer`; ValueError unless that names this one."""
    made_with, wanted = cfg.get("tokenizer"), tokenizer_name(cfg, tokenizer)
    if made_with is None:
        first = tokenizer_name(cfg, FIRST_TOKENIZER)
        raise ValueError(
            f"{folder / CONFIG} names no tokenizer: the model was made with an older version of the course, where "
            f"all of this size had {_called(first)}. To go on using it with that one, add "
            f'"tokenizer": "{first}" to the file; else train the model again.'
        )
    if made_with != wanted:
        raise ValueError(
            f"{folder} holds a model made with another tokenizer: {_called(made_with)}, not {_called(wanted)}. "
            "Use it with its own (load_model's `tokenizer`), or train the model again with this one."
        )
    return {key: value for key, value in cfg.items() if key != "tokenizer"}


def _called(name: str) -> str:
    """A tokenizer for messages: the first digits of its checksum, and its file where it is one that ships."""
    if name == "gpt2":
        return "GPT-2's tokenizer"
    for path in (FIRST_TOKENIZER, COURSE_TOKENIZER):
        if path.exists() and tokenizer_sha256(path) == name:
            return f"{path.name} ({name[:12]})"
    return f"one that the course does not know ({str(name)[:12]})"
