"""Names in prose, found and replaced; and the tokens of an encoding that are words."""

import re
from collections import Counter

import tiktoken

from shared.lexicon import DAYS, MONTHS

NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}\b")
NO_NAMES = {
    *MONTHS, *DAYS, *"Mrs Miss Sir Lord Lady Captain King Queen Prince Princess Aunt Uncle God Lord".split(),
    *"English French German Indian American Christmas Easter Bible Heaven".split(),
}  # fmt: skip


def names_in(text: str) -> list[str]:
    """Words of the text that look like names and come back, the most frequent first.

    Written with a capital within sentences, and never without one.
    """
    found = Counter(NAME.findall(text))
    small = set(re.findall(r"\b[a-z]+\b", text))
    often = Counter(re.findall(r"\b[A-Z][a-z]{2,}\b", text))
    return [
        name
        for name, _ in sorted(found.items(), key=lambda item: (-often[item[0]], item[0]))
        if often[name] > 1 and name.lower() not in small and name not in NO_NAMES
    ]


def with_names(text: str, names: dict[str, str]) -> str:
    """The text with names replaced, whole words only."""
    if not names:
        return text
    either = "|".join(map(re.escape, names))
    return re.sub(rf"\b({either})\b", lambda match: names[match[1]], text)


def ordinary_tokens(tokenizer: tiktoken.Encoding) -> list[int]:
    """IDs of the tokens that are words or parts of words: two letters or more, a space before them or not."""
    word = re.compile(rb" ?[A-Za-z]{2,}")
    tokens = ((i, tokenizer.decode_single_token_bytes(i)) for i in range(tokenizer.n_vocab))
    return [i for i, token in tokens if word.fullmatch(token)]
