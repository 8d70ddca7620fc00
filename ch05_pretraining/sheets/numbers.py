"""Sheets of numbers: sums, measures, tallies, dates, what comes next."""

import random
from collections import Counter

from shared.invented import ordinal
from shared.lexicon import DAYS, LETTERS, MONTHS, NUMBERS, Words

from .helpers import between, forms, pair_sheet, separator, speaker, stack

SUMS = forms("""
{0} {1} {2} = {3}
{0}{1}{2}={3}
{0} {4} {2} {5} {3}
{0} {4} {2} {5} {3}.
{3} = {0} {1} {2}
{0} {1} {2}? {3}
""")
SIGNS = {"+": ("and", "make"), "-": ("less", "leaves"), "x": ("times", "makes")}
STORIES = {
    "+": "{name} had {0} {things}. {other} gave {name} {2} more. Now {name} has {3}.",
    "-": "{name} had {0} {things} and gave {other} {2}. {name} keeps {3}.",
    "x": "{name} has {0} bags, {2} {things} in each: {3} {things}.",
}
MEASURES = forms("{0} = {1}\n{0} are {1}\n{0}: {1}\n{0} -> {1}\n{0} or {1}\n{1} = {0}")
TALLIES = forms("{0}¶= {1}\n{0} ({1})\n{0}: {1}\n{0}¶in all {1}\n{1}: {0}")
NEXT_DAY = forms("after {0} comes {1}\n{0}, next day {1}\n{1} follows {0}")


def sums(rng: random.Random, w: Words) -> str:
    """7 + 5 = 12, and small stories that say the same; each on its own line"""
    frame, signs = rng.choice(SUMS), rng.choice(("+", "+", "-", "+-", "x", "+-x"))
    stories = rng.random() < 0.3

    def make():
        sign = rng.choice(signs)
        one, two = rng.choice(w.sums[sign])
        result = {"+": one + two, "-": one - two, "x": one * two}[sign]
        numbers = (one, sign, two, result, *SIGNS[sign])
        if not stories:
            return frame.format(*numbers)
        things = rng.choice(w.nouns)[1]
        return STORIES[sign].format(
            *numbers, name=speaker(rng, w), other=speaker(rng, w), things=things
        )  # fmt: skip

    return stack(rng, make)


def measures(rng: random.Random, w: Words) -> str:
    """3 metres = 300 centimetres; each on its own line"""
    frame, kept = rng.choice(MEASURES), rng.sample(w.units, rng.choice((1, 2, 4)))

    def make():
        (one, many, _, smalls, factor), amounts = rng.choice(kept)
        n = rng.choice(amounts)
        return frame.format(f"{n} {one if n == 1 else many}", f"{n * int(factor)} {smalls}")

    return stack(rng, make)


def tallies(rng: random.Random, w: Words) -> str:
    """Lists and how long they are; or how often each word stands in them."""
    sep, frame = separator(rng, spaces=False), rng.choice(TALLIES)
    often, figures = rng.random() < 0.4, rng.random() < 0.6

    def number(n):
        return n if figures or n >= len(NUMBERS) else NUMBERS[n]

    def make():
        items = rng.choices(w.common, k=between(rng, 1, 9))
        if not often:
            return frame.format(sep.join(items), number(len(items)))
        items = rng.choices(items[:3], k=len(items) + 2)
        counts = "; ".join(f"{word} {number(n)}" for word, n in Counter(items).items())
        return f"{sep.join(items)}\n{counts}"

    return stack(rng, make)


def calendar(rng: random.Random, w: Words) -> str:
    """14/3/1872 = 14 March 1872; the day after; whose birthday it is"""
    form, style = rng.randrange(4), rng.randrange(3)
    dates = rng.sample(list(w.dates), rng.randint(8, 14))
    if form == 0:
        return pair_sheet(rng, w, [(speaker(rng, w), f"{d} {MONTHS[m - 1]}") for d, m in dates])
    if form == 1:
        dates = [(d, m) for d, m in w.dates if (d + 1, m) in w.dates and rng.random() < 0.05]
        pairs = [(f"{d} {MONTHS[m - 1]}", f"{d + 1} {MONTHS[m - 1]}") for d, m in dates]
        rng.shuffle(pairs)
        return pair_sheet(rng, w, pairs, NEXT_DAY)
    pairs = []
    for d, m in dates:
        y, month = rng.randint(1600, 2030), MONTHS[m - 1]
        long = (f"{d} {month} {y}", f"the {ordinal(d)} of {month} {y}", f"{month} {d}, {y}")[style]
        pairs.append((f"{d}/{m}/{y}", long))
    return pair_sheet(rng, w, pairs if form == 2 else [pair[::-1] for pair in pairs])


def counting_up(rng: random.Random, w: Words) -> str:
    """Numbers, letters, days and months in their order."""

    def make():
        length, sep = rng.randint(4, 12), rng.choice((" ", ", ", " - "))
        start, step = rng.randint(1, 60), rng.choice((1, 1, 2, 5, 10, -1))
        numbers = [str(n) for n in range(start, start + step * length, step) if n >= 0]
        order = rng.choice((LETTERS, DAYS, MONTHS, NUMBERS[1:]))
        first = rng.randrange(len(order))
        ordered = [order[(first + i) % len(order)] for i in range(length)]
        return sep.join(rng.choice((numbers, ordered)))

    return stack(rng, make)
