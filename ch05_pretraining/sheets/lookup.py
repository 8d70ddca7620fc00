"""Sheets that look up: what is missing, where something stands, what belongs to what."""

import random

from shared.invented import a, invent
from shared.lexicon import Words, upper

from .helpers import bag, between, different, forms, heading, say, separator, stack

GONE = forms(
    "{0}¶{1}¶missing: {2}\n{0}¶{1}¶gone: {2}\nfirst {0}¶then {1}¶lost: {2}\n{1}¶{0}¶new: {2}"
)
TURNED = forms("{0}¶{1}\n{0} <-> {1}\nthere: {0}¶back: {1}\n{0}¶from the end: {1}\n> {0}¶< {1}")
TIDY = forms("{0}¶{1}\n{0} -> {1}\nmixed: {0}¶tidy: {1}\n{0}¶in a row: {1}\nbefore {0}¶after {1}")


def missing(rng: random.Random, w: Words) -> str:
    """A list, the list without one or with one more, and which one it is."""
    sep, frame = separator(rng), rng.choice(GONE)

    def make():
        items = different(rng, w, between(rng, 3, 12))
        place = rng.randrange(len(items))
        rest = items[:place] + items[place + 1 :]
        return frame.format(sep.join(items), sep.join(rest), items[place])

    return stack(rng, make)


def turned(rng: random.Random, w: Words) -> str:
    """Lists the other way round."""
    sep, frame = separator(rng), rng.choice(TURNED)

    def make():
        items = bag(rng, w, between(rng, 2, 10))
        return frame.format(sep.join(items), sep.join(reversed(items)))

    return stack(rng, make)


def in_order(rng: random.Random, w: Words) -> str:
    """Words by the alphabet, numbers by size."""
    sep, frame, numbers = separator(rng), rng.choice(TIDY), rng.random() < 0.35
    pool = w.numbers if numbers else rng.choice((w.common, w.common, w.names, w.things, w.cities))
    falling = numbers and rng.random() < 0.3

    def make():
        items = rng.sample(pool, between(rng, 2, 8))
        tidy = sorted(items, reverse=falling)
        return frame.format(sep.join(map(str, items)), sep.join(map(str, tidy)))

    return stack(rng, make)


PLACES = forms(
    "number {i}: {it}\nfirst: {first}\nlast: {last}\nafter {before}: {it}\nbefore {it}: {before}"
)


def places_in_list(rng: random.Random, w: Words) -> str:
    """The first, the last, the next one of a list."""
    sep = separator(rng)

    def make():
        items = [*different(rng, w, between(rng, 3, 9)), rng.choice(w.colours)]
        lines = [sep.join(items)]
        for _ in range(rng.randint(2, 4)):
            i = rng.randrange(1, len(items))
            slots = {"first": items[0], "last": items[-1], "before": items[i - 1], "it": items[i]}
            lines.append(say(rng, PLACES, i=i + 1, **slots))
        return "\n".join(lines)

    return stack(rng, make)


KEYS = forms("""
{0}: {1}
{0} = {1}
{0} -> {1}
{0} has {1}
{0} [{1}]
the {0} of {1}
<{0}> {1}
""")


def lookup(rng: random.Random, w: Words) -> str:
    """Keys and values; then keys again, and what belongs to each."""
    keys = different(rng, w, between(rng, 4, 14))
    frame, end = rng.choice(KEYS), rng.choice(("\n", "\n", "; ", ", "))
    lines = [frame.format(*pair) for pair in zip(keys, bag(rng, w, len(keys)))]
    again = rng.sample(lines, len(lines)) + rng.choices(lines, k=rng.randint(0, 6))
    turn = rng.choice(("", "\n", "now\n", "---\n", "asked\n"))
    return heading(rng, w) + end.join(lines) + "\n" + turn + end.join(again)


FIELDS = forms(
    "{row}, {head}: {field}\n{head} of {row}: {field}\nrow {row}: {all}\ncolumn {head}: {down}"
)


def table(rng: random.Random, w: Words) -> str:
    """A table, then read by row, by column and by field."""
    heads = different(rng, w, rng.randint(2, 4))
    rows = rng.sample(rng.choice((w.names, w.things, w.common)), rng.randint(2, 5))
    fields = {row: bag(rng, w, len(heads)) for row in rows}
    bar = rng.choice((" | ", ", ", " ; ", "  "))
    lines = [bar.join([rng.choice(("", "name", "-")), *heads])]
    lines += [bar.join([row, *fields[row]]) for row in rows]
    for _ in range(rng.randint(4, 10)):
        row, i = rng.choice(rows), rng.randrange(len(heads))
        down = ", ".join(fields[each][i] for each in rows)
        slots = {"row": row, "head": heads[i], "field": fields[row][i], "down": down}
        lines.append(say(rng, FIELDS, all=", ".join(fields[row]), **slots))
    return heading(rng, w) + "\n".join(lines)


def code(rng: random.Random, w: Words) -> str:
    """A list of words and their secret names, then sentences written in them."""
    plain = rng.sample(w.common, between(rng, 4, 10))
    key = {
        word: rng.choice((invent(rng, w), invent(rng, w), rng.choice(w.common))) for word in plain
    }
    lines = [f"{word} = {other}" for word, other in key.items()]
    arrow = rng.choice((" -> ", "\n", " : ", " / "))
    for _ in range(rng.randint(2, 6)):
        words = rng.choices(plain, k=rng.randint(2, 6))
        sides = [" ".join(words), " ".join(key[word] for word in words)]
        lines.append(arrow.join(sides if rng.random() < 0.7 else sides[::-1]))
    return heading(rng, w) + "\n".join(lines)


MEANINGS = forms("""
{A_word} is {meaning}.
{word}: {meaning}
{Meaning} is called {a_word}.
By {word} we mean {meaning}.
""")
USES = forms("""
The {job} keeps {a_word} in the {place}: {meaning}.
There is {a_word} in the {place}, so there is {meaning} in the {place}.
Who has {a_word}? The {job} has {a_word}; it is {meaning}.
{A_word} is {tint}. Yes, the {word} is {tint}, and the {word} is {size}.
I saw {a_word}. So it was {meaning}.
""")


def dictionary(rng: random.Random, w: Words) -> str:
    """Made-up words are explained and used again."""
    lines, used = [], []
    for _ in range(rng.randint(2, 5)):
        word, tint, size = invent(rng, w), rng.choice(w.colours), rng.choice(w.adjectives)
        meaning = f"{a(size)} {tint} {rng.choice(w.things)}"
        slots = {"word": word, "a_word": a(word), "A_word": upper(a(word)), "meaning": meaning}
        lines.append(say(rng, MEANINGS, Meaning=upper(meaning), **slots))
        for _ in range(rng.randint(1, 2)):
            slots |= {"job": rng.choice(w.jobs), "place": rng.choice(w.places)}
            used.append(say(rng, USES, tint=tint, size=size, **slots))
    rng.shuffle(used)
    gap = rng.choice(("\n", "\n\n"))
    return heading(rng, w) + "\n".join(lines) + gap + rng.choice((" ", "\n")).join(used)
