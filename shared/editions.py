"""Which data and which model the notebooks get: read here, and nowhere else.

Two environment variables choose, each on its own; both are read at every call:

COURSE_DATA   course (default): what ships with the course; book: what the book uses, downloaded once
COURSE_MODEL  course-gpt (default): our tokenizer and model; gpt2, gpt2-medium, gpt2-large, gpt2-xl: OpenAI's

Texts and tables are here; the tokenizer is in `encodings`, the models are in `models`.
"""

import json
import os
import random
from pathlib import Path

from shared import assets
from shared.texts import encodable, read_text

ROOT = Path(__file__).parent.parent
CHAPTER_2 = ROOT / "ch02_text_data"
STORY = CHAPTER_2 / "the-prompt-corner.txt"
MESSAGES = ROOT / "ch06_classification" / "messages.csv"
INSTRUCTIONS = ROOT / "ch07_instruction" / "instructions.json"

# the first value of each is the default
SWITCHES = {
    "COURSE_DATA": ("course", "book"),
    "COURSE_MODEL": ("course-gpt", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"),
}


def choice(switch: str) -> str:
    """The value in force of COURSE_DATA or COURSE_MODEL; ValueError if it is not a known one."""
    known = SWITCHES[switch]
    value = os.environ.get(switch, "").strip() or known[0]  # Windows' `set A=b && ...` adds a blank
    if value not in known:
        raise ValueError(f"{switch} is {value!r}, which is not known; it can be {', '.join(known)}")
    return value


def banner() -> str:
    """One line that says which edition is in force, for a notebook's first output."""
    data, model = choice("COURSE_DATA"), choice("COURSE_MODEL")
    kind = "ships with the course" if data == "course" else "the book's"
    tokens = "4,096" if model == "course-gpt" else "50,257"
    return f"data: {data} ({kind}); model: {model} ({tokens} tokens)"


def text() -> str:
    """The text to learn from: the course's story, or The Verdict (COURSE_DATA=book).

    Raises AssetError where The Verdict is not to be had.
    """
    path = STORY if choice("COURSE_DATA") == "course" else assets.fetch("the-verdict.txt")
    return path.read_text(encoding="utf-8")


def messages():
    """Text messages, a DataFrame: label (ham, spam), text, hard (bool), split (train, validation, test).

    The course's own, or the SMS Spam Collection (COURSE_DATA=book; none of it is marked as hard), split at
    random, 70/10/20, with every text that occurs twice in the training part.
    Raises AssetError where the collection is not to be had (Almeida, Hidalgo and Yamakami, 2011).
    """
    import pandas as pd

    if choice("COURSE_DATA") == "course":
        return pd.read_csv(MESSAGES, keep_default_na=False)  # "null" is a message
    # read as lines, not as CSV: quotation marks stand for themselves
    lines = assets.fetch("SMSSpamCollection").read_text(encoding="utf-8").rstrip("\n").split("\n")
    table = pd.DataFrame([line.split("\t", 1) for line in lines], columns=["label", "text"])
    once = table.index[~table.text.duplicated(keep=False)].tolist()
    random.Random(123).shuffle(once)
    test, validation = round(0.2 * len(table)), round(0.1 * len(table))
    table = table.assign(hard=False, split="train")
    table.loc[once[:test], "split"] = "test"
    table.loc[once[test : test + validation], "split"] = "validation"
    return table


def instructions() -> list[dict]:
    """Tasks with their answers, dicts: instruction, input, output, family, split, accept, before, wording.

    `split` is train, validation or test; `accept` lists other right answers, `before` what was said before, a dict with
    role and content for each turn; `wording` is known, or reserved for the test. The course's own, or the book's
    (COURSE_DATA=book; family "book", split 85/5/10 by place in the file: its test part stands in the middle).
    Raises AssetError where the book's are not to be had, ValueError where a file is not such a list.
    """
    if choice("COURSE_DATA") == "course":
        return read_instructions(
            INSTRUCTIONS, ("instruction", "input", "output", "family", "split")
        )
    entries = read_instructions(assets.fetch("instruction-data.json"))
    train, test = int(0.85 * len(entries)), int(0.1 * len(entries))
    splits = ["train"] * train + ["test"] * test + ["validation"] * (len(entries) - train - test)
    return [entry | {"family": "book", "split": split} for entry, split in zip(entries, splits)]


def read_instructions(
    path: Path, keys: tuple[str, ...] = ("instruction", "input", "output")
) -> list[dict]:
    """The entries of a JSON file; each with `accept`, `before` and `wording`, where the file has none: [], [], "known".

    Raises ValueError if it cannot be read, or is not a list of objects with these keys, all strings, and an instruction.
    """
    text = read_text(path)
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds no list of entries, but {type(entries).__name__}")
    for i, entry in enumerate(entries):
        found = entry if isinstance(entry, dict) else {}
        for key in keys:
            if not isinstance(found.get(key), str):
                raise ValueError(f"{path}: entry {i} has no text under {key!r}")
            encodable(found[key], f"{path}: entry {i}, {key!r}")
        if not found["instruction"].strip():
            raise ValueError(f"{path}: entry {i} has an empty instruction")
    return [{"accept": [], "before": [], "wording": "known"} | entry for entry in entries]
