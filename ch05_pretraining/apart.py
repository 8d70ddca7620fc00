"""What no training text of the second course model may say, so that chapter 7 can test with it.

Pretraining states facts (`knowledge.py`); about the reserved ones it never asks, and the facts left out as a control
it never mentions. The corpora are read by people who did not know that: `without` drops the paragraphs that do.
"""

import functools
import re

from shared.lexicon import SECOND_RESERVED, read_json

BREAK = re.compile(r"\n\s*\n")
# what a question about a fact would contain, and how far after it the answer may stand
CUES = re.compile(
    r"\b(capital|opposite|antonym|contrary|rhym\w+|young|baby|kind|sort|type|colou?r|sound|legs|days|home|lives?"
    r"|works?|made of|used for|part of|part|before|after|sells?|makes?)\b"
)
QUESTION = re.compile(r"[^.?!\n]*\?")
NEAR = 80


@functools.cache
def left_out() -> tuple[tuple[str, str], ...]:
    """(subject, answer) of the facts that stand in no training text, in small letters."""
    rows = read_json(SECOND_RESERVED)["left_out"]
    return tuple((subject.lower(), answer.lower()) for _, subject, answer in rows)


@functools.cache
def reserved() -> dict[str, set[str]]:
    """The answers to each reserved question about a fact, opposite, kind or rhyme, by subject."""
    families = read_json(SECOND_RESERVED)["families"]
    pairs = [(subject, answer) for _, subject, answer in families["facts"]["rows"]]
    pairs += [pair for a, b in families["antonym"]["rows"] for pair in ((a, b), (b, a))]
    pairs += [(word, kind) for kind, words in families["categories"].items() for word in words]
    rhymes = families["rhyme"]["word: rhymes"]
    pairs += [(word, other) for word, others in rhymes.items() for other in others]
    found: dict[str, set[str]] = {}
    for subject, answer in pairs:
        found.setdefault(subject.lower(), set()).add(answer.lower())
    return found


def mentions(text: str, phrase: str) -> bool:
    """Whether a text in small letters contains a phrase as whole words."""
    return phrase in text and re.search(rf"\b{re.escape(phrase)}\b", text) is not None


def asks(paragraph: str) -> bool:
    """Whether a question about a reserved fact stands in it, with its answer close behind."""
    text = paragraph.lower()
    for question in QUESTION.finditer(text) if "?" in text else ():
        if not CUES.search(question[0]):
            continue
        after = set(re.findall(r"[a-z-]+", text[question.end() : question.end() + NEAR]))
        for subject in set(re.findall(r"[a-z]+", question[0])) & reserved().keys():
            if after & reserved()[subject]:
                return True
    return False


def without(text: str) -> str:
    """A document without the paragraphs that ask what is reserved, or name the answer of a fact left out.

    The latter only where the document names the fact's subject, too, in whichever paragraph.
    """
    small = text.lower()
    names = [a for s, a in left_out() if mentions(small, a) and mentions(small, s)]
    if not names and "?" not in text:
        return text
    kept = [
        part
        for part in BREAK.split(text)
        if not asks(part) and not any(mentions(part.lower(), name) for name in names)
    ]
    return "\n\n".join(kept)
