"""Words that do not exist, for chapters 5 and 7, and the forms that a word takes in a sentence."""

import random

from shared.lexicon import Words

# Invented names are made of these, one vowel at a time. `induction.py` tests with names that have two vowels
# side by side: no chain of these syllables can produce one.
ONSETS = (
    "b br c ch cl d dr f fl g gl gr h j k kl l m n p pl pr r s sh sk sl st t th tr v w z".split()
)
VOWELS = "aeiou"
CODAS = ["", "", "", *"b ck d f g k l ll m n nd ng nt p r rk rn s sk ss st t th x z".split()]


def a(word: str) -> str:
    """The word with its article."""
    return f"an {word}" if word[0] in VOWELS else f"a {word}"


def ordinal(n: int) -> str:
    """Example: 22 -> `22nd`."""
    return f"{n}{'th' if 10 < n < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


def invent(rng: random.Random, w: Words) -> str:
    """A word that does not exist, in small letters. Example: `glanditho`."""
    count, choice = rng.choice((2, 2, 3, 3, 3, 4)), rng.choice
    parts = [choice(ONSETS) + choice(VOWELS) for _ in range(count)]
    middle = choice(CODAS) if count == 2 else ""
    word = parts[0] + middle + "".join(parts[1:]) + choice(CODAS)
    return invent(rng, w) if word in w.kept else word


def invent_name(rng: random.Random, w: Words) -> str:
    return invent(rng, w).capitalize()


def pieces(rng: random.Random, w: Words) -> str:
    """Parts of words run together, so that rare tokens occur too."""
    parts = []
    for _ in range(rng.choice((1, 2, 2, 3, 4))):
        word = rng.choice(w.common)
        start = rng.randrange(len(word) - 1)
        parts.append(word[start : start + rng.randint(2, 5)])
    text = "".join(parts)
    return pieces(rng, w) if text in w.kept else text
