"""Train a tokenizer of the course: chapter 2's `train_bpe`, on whole works, some held out.

    python ch02_text_data/train_tokenizer.py --corpus FOLDER --corpus FILE=40 --course-text --split-digits

A corpus is a folder of plain text or one such file, as `shared/corpus.py` says; with `=40`, as many of its works as
fit into 40 MB, drawn by the seed, and drawn again where there are fewer. Writes the course's tokenizer,
`course_tokenizer_2.txt`, unless `--out` names another file; its card, `course_tokenizer_2.md`, has the whole command.
The course's first tokenizer, `course_tokenizer.txt`, was made without the last two options. Prints how well the new
one packs texts that it never saw, beside the first.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import math
import re
import sys
import time
from pathlib import Path

from shared import assets, editions
from shared.corpus import HELD_OUT, read_documents, sample, split_held_out
from shared.encodings import (
    CHECKSUM,
    COURSE_TOKENIZER,
    END_OF_TEXT,
    FIRST_TOKENIZER,
    SPLIT_PATTERN,
    gpt2_encoding,
    load_encoding,
)
from shared.files import landing, sha256
from shared.text_data import GPT2_SPLIT_PATTERN, make_encoding, train_bpe

# GPT-2's pattern, but each digit is a chunk of its own and is never joined with the space before it: a model that
# calculates should meet the same digits in the same form in every number
DIGITS_APART = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
WORDINGS = editions.INSTRUCTIONS.with_name("wordings.json")
NUMBERS = [" 17", " 29", " 300", "1996"]


def save_ranks(
    path: Path, ranks: dict[bytes, int], notes: list[str], pattern: str = GPT2_SPLIT_PATTERN
) -> None:
    """Write the merged tokens in order, a Python literal a line, below a header; lands by rename.

    Another split pattern than GPT-2's is named in the header, and the checksum is of it, too.
    """
    lines = [repr(token) for token in sorted(ranks, key=ranks.get)[256:]]
    if pattern != GPT2_SPLIT_PATTERN:
        lines.insert(0, f"{SPLIT_PATTERN}{pattern!r}")
    checksum = sha256("\n".join(lines).encode())
    header = [*(f"# {note}" for note in notes), f"{CHECKSUM}{checksum}"]
    with landing(path) as file:
        file.write("\n".join([*header, *lines, ""]).encode())


def source(text: str) -> tuple[Path, float]:
    """What --corpus takes: PATH, or PATH=MEGABYTES."""
    path, limited, megabytes = text.rpartition("=")
    return (Path(path), float(megabytes)) if limited else (Path(text), math.inf)


def strings(content) -> list[str]:
    """All strings in what a JSON file holds, but for the keys."""
    if isinstance(content, str):
        return [content]
    parts = content.values() if isinstance(content, dict) else content
    return [text for part in parts for text in strings(part)]


def course_text() -> list[str]:
    """What the course's models are trained on later: messages, tasks and answers, of the training splits only."""
    messages = editions.messages()
    wordings = strings(json.loads(WORDINGS.read_text(encoding="utf-8"))["wordings"])
    keys = ("instruction", "input", "output")
    entries = editions.read_instructions(editions.INSTRUCTIONS, (*keys, "split"))
    return [
        *messages.text[messages.split == "train"],
        *(re.sub(r"( \|)? ?\{\d\}", "", wording) for wording in wordings),  # without their gaps
        *("\n".join(e[key] for key in keys if e[key]) for e in entries if e["split"] == "train"),
    ]


def report(encodings: list, held_out: dict[str, list[str]]) -> None:
    """A table: bytes per token on texts that the new tokenizer never saw, and how each tokenizer cuts numbers."""
    messages = editions.messages().query("split == 'validation'")
    texts = held_out | {
        f"{label}, validation split": messages.text[messages.label == label].tolist()
        for label in ("ham", "spam")
    }
    texts["the story"] = [editions.STORY.read_text(encoding="utf-8")]

    def row(name, cells):
        print(f"{name:32}" + "".join(f"{cell:>16}" for cell in cells))

    row("bytes per token", [f"{each.name} ({each.n_vocab:,})" for each in encodings])
    for name, parts in texts.items():
        size = sum(len(text.encode()) for text in parts)
        tokens = [sum(len(each.encode_ordinary(text)) for text in parts) for each in encodings]
        row(name, [f"{size / count:.3f}" for count in tokens])
    for number in NUMBERS:
        cuts = ["|".join(map(each.decode, zip(each.encode(number)))) for each in encodings]
        row(repr(number), [cut.replace(" ", "_") for cut in cuts])


def peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "not measured"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:,.0f} MiB"


def make(options) -> None:
    """Read, train, write and report."""
    texts, unseen = course_text() if options.course_text else [], []
    for path, megabytes in options.corpus:
        seen, apart = split_held_out(read_documents(path), options.held_out)
        unseen += apart
        texts += [document.text for document in sample(seen, megabytes, options.seed)]
    held_out = {"old works held out": [document.text for document in unseen]} if unseen else {}
    if options.report:
        read_documents(options.report)  # says what is wrong with the folder, if anything is
        for path in sorted([*options.report.glob("*.txt"), *options.report.glob("*.txt.gz")]):
            held_out[path.name.split(".")[0]] = [document.text for document in read_documents(path)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    pattern = DIGITS_APART if options.split_digits else GPT2_SPLIT_PATTERN
    start = time.perf_counter()
    special = {"special_tokens": (END_OF_TEXT,), "pattern": pattern}
    ranks = train_bpe(END_OF_TEXT.join(texts), options.vocab_size, **special)
    seconds = time.perf_counter() - start
    notes = [
        f"Byte pair encoding of {options.vocab_size:,} tokens: the 256 bytes (not listed), the tokens",
        f"below in the order of their merges, and {END_OF_TEXT}. Made by train_tokenizer.py",
        f"from {len(texts):,} works, {size:.1f} MB, --seed {options.seed}. Public domain (CC0 1.0).",
    ]
    save_ranks(options.out, ranks, notes, pattern)
    print(f"{options.out}: {len(ranks):,} tokens from {len(texts):,} works, {size:.1f} MB,")
    print(f"  {seconds:.1f} s of training, peak memory {peak_memory()}")
    encodings = [
        make_encoding("new", ranks, **special),
        load_encoding(FIRST_TOKENIZER, "first"),
    ]
    if all((assets.cache_folder() / name).exists() for name in ("encoder.json", "vocab.bpe")):
        encodings.append(gpt2_encoding())
    report(encodings, held_out)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--corpus", type=source, action="append", required=True, metavar="PATH[=MB]")
    add("--course-text", action="store_true", help="and on the course's messages and instructions")
    add("--split-digits", action="store_true", help="each digit is a token, apart from all else")
    add("--vocab-size", type=int, default=4096)
    add("--seed", type=int, default=123, help="of the works drawn")
    add(
        "--held-out",
        type=Path,
        default=HELD_OUT,
        metavar="FILE",
        help="list of works not to train on",
    )
    add("--report", type=Path, metavar="FOLDER", help="further texts to measure, a row a file")
    add(
        "--out",
        type=Path,
        default=COURSE_TOKENIZER,
        help=f"the file to write (default: the course's own, {COURSE_TOKENIZER.name})",
    )
    try:
        make(parser.parse_args(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f"train_tokenizer: {error}")


if __name__ == "__main__":
    main()
