"""What many kinds of sheets need: layouts, words of a sort, pairs, stacks of items, sentences."""

import itertools
import random
from collections.abc import Callable

from shared.invented import a, invent, invent_name, pieces
from shared.lexicon import Words, upper

# --- layouts ---


def forms(text: str) -> list[str]:
    """The layouts or sentences of a block, one a line; ¶ stands for a line's end within one."""
    return [line.replace("¶", "\n") for line in text.strip().splitlines()]


def say(rng: random.Random, choices: list[str], *values, **slots) -> str:
    """One of the forms, filled in."""
    return rng.choice(choices).format(*values, **slots)


def between(rng: random.Random, low: int, high: int) -> int:
    """A whole number from low to high; each doubling is as likely as the next."""
    return min(high, int(low * ((high + 1) / low) ** rng.random()))


def tokens_in(text: str) -> float:
    """About how many tokens a text has; the tokenizer itself would be too slow."""
    letters, spaces = sum(map(str.isalpha, text)), text.count(" ")
    return letters / 3.2 + (len(text) - letters - spaces) + spaces / 4


# --- words and lists ---


def bag(rng: random.Random, w: Words, count: int) -> list[str]:
    """So many words of one sort: ordinary ones mostly, else names, invented words, numbers or parts."""
    sort = rng.random()
    if sort < 0.5:
        return rng.choices(w.common, k=count)
    if sort < 0.56:
        return rng.choices(rng.choice((w.names, w.cities, w.things, w.adjectives)), k=count)
    if sort < 0.66:
        return [invent(rng, w) for _ in range(count)]
    if sort < 0.76:
        return [pieces(rng, w) for _ in range(count)]
    if sort < 0.82:
        digits = rng.randint(1, 4)
        return [str(rng.randrange(10**digits)) for _ in range(count)]
    if sort < 0.88:
        return [word.capitalize() for word in rng.choices(w.common, k=count)]
    some = rng.choices(w.common, k=count)
    return [rng.choice((word, word, invent_name(rng, w), rng.choice(w.names))) for word in some]


def different(rng: random.Random, w: Words, count: int) -> list[str]:
    """As `bag`, each word once; there may be fewer."""
    return list(dict.fromkeys(bag(rng, w, count)))


BETWEEN_WORDS = [", ", ", ", "; ", "\n", " - ", " / ", " | ", "\n- ", " and ", ". ", " * ", "... "]


def separator(rng: random.Random, spaces: bool = True) -> str:
    """What stands between the words of a list."""
    return rng.choice(BETWEEN_WORDS + [" "] * 8 * spaces)


HEADINGS = forms("""
{word}¶
{word}:¶
{word} {number}¶
Page {number}¶
Sheet {number}: {word}¶¶
""")


def heading(rng: random.Random, w: Words) -> str:
    """A title, or, more often, none."""
    if rng.random() < 0.6:
        return ""
    word = upper(rng.choice((invent(rng, w), rng.choice(w.things), rng.choice(w.adjectives))))
    return say(rng, HEADINGS, word=word, number=rng.randint(1, 40))


def stack(rng: random.Random, make: Callable[[], str]) -> str:
    """Items one below the other, until there are about 60 to 280 tokens."""
    room, parts = rng.uniform(50, 220), []
    gap = rng.choice(("\n", "\n", "\n\n"))
    while room > 0:
        parts.append(make())
        room -= tokens_in(parts[-1]) + 1
    return gap.join(parts)


PAIRS = forms("""
{0} -> {1}
{0} = {1}
{0}: {1}
{0} | {1}
{0} / {1}
{0} - {1}
{0}, {1}
{0} ... {1}
{0}? {1}.
{0} ({1})
'{0}' '{1}'
{0} {1}
from {0} to {1}
Q: {0}¶A: {1}
{0}¶  {1}
a. {0} b. {1}
""")


def pair_sheet(
    rng: random.Random, w: Words, pairs: list, frames: list[str] = (), title=None
) -> str:
    """Pairs in one layout; then, often, some again in another order, to be looked up above.

    Half of the sheets use one of the frames, sentences with the places {0} and {1}.
    """
    frame = rng.choice(frames if frames and rng.random() < 0.5 else PAIRS)
    end = "\n" if "\n" in frame or rng.random() < 0.7 else rng.choice(("; ", ". ", " * "))
    full, room = [frame.format(*pair) for pair in pairs], rng.uniform(60, 160)
    sizes = itertools.accumulate(tokens_in(line) + 1 for line in full)
    lines = full[: max(2, sum(size < room for size in sizes))]
    if rng.random() < 0.5:
        turn = rng.choice(("", "again:", "once more", "---", upper(rng.choice(w.common))))
        lines += [turn] * bool(turn) + rng.choices(lines, k=rng.randint(2, len(lines)))
    return (heading(rng, w) if title is None else f"{title}\n") + end.join(lines)


# --- sentences ---

DEEDS = forms("""
{did} the {thing}
{did} the {size} {thing}
{did} {a_size} {thing} for {other}
went to the {place} with {other}
looked at {other}
sat down in the {place}
was {size}
was as {size} as {other}
gave {other} the {gift}
asked {other} about the {thing}
came back to the {place}
had seen {other} in the {place}
said to {other} that the {thing} was {size}
thought of {other}
took {other} by the hand
""")


def speaker(rng: random.Random, w: Words) -> str:
    """Somebody: a name that exists or one that does not."""
    return rng.choice(w.names) if rng.random() < 0.5 else invent_name(rng, w)


def deed(rng: random.Random, w: Words, other: str) -> str:
    """What somebody did, as the end of a sentence."""
    _, did, _, objects = rng.choice(w.transitive)
    size, gift, place = rng.choice(w.adjectives), rng.choice(w.things), rng.choice(w.places)
    thing, a_size = rng.choice(objects), a(size)
    return say(
        rng, DEEDS, did=did, thing=thing, size=size, a_size=a_size, place=place, gift=gift, other=other
    )  # fmt: skip


def clause(rng: random.Random, w: Words) -> str:
    """A sentence about people, animals or things, with a capital but without its end."""
    animal = rng.choice(w.nouns)[0]
    subject = (
        speaker(rng, w),
        f"the {rng.choice(w.jobs)}",
        f"the {rng.choice(w.adjectives)} {animal}",
    )
    other = (rng.choice(w.names), f"the {rng.choice(w.nouns)[0]}")
    return upper(f"{rng.choice(subject)} {deed(rng, w, rng.choice(other))}")
