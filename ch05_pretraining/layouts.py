"""Which layouts the worksheets use: counted in new ones, from the program that wrote those of the training."""

import functools
import itertools
import re

import worksheets

from shared import encodings
from shared.lexicon import second_words

SEED = 7  # not one of a run's, which are above a thousand
WORD, FIGURE = r"[A-Za-z]+", r"\d+"


@functools.cache
def sheets(count: int = 3_000) -> list[str]:
    """New worksheets, of the second edition."""
    words = second_words(encodings.load_encoding(encodings.COURSE_TOKENIZER))
    return list(itertools.islice(worksheets.documents(SEED, words), count))


@functools.cache
def in_sheets(layout: str, slot: str = WORD) -> int:
    """How many worksheets contain something in this layout, with `slot`, a regular expression, in its places."""
    parts = [re.escape(part) for part in re.split(r"\{\d\}", layout)]
    pattern = re.compile(rf"(?<!\w){slot.join(parts)}(?!\w)")
    return sum(pattern.search(sheet) is not None for sheet in sheets())


def copied_with(glue: str) -> int:
    """How many worksheets are a text, the glue and the same text again."""
    sizes = ((sheet, (len(sheet) - len(glue)) // 2) for sheet in sheets())
    return sum(sheet == sheet[:n] + glue + sheet[:n] for sheet, n in sizes if n)
