"""The families of tasks that a program makes for chapter 7: one item of each, from a pool of words.

Training items and test items come from the same functions; only the pool differs. An item says what is asked, not
how: `make_instructions.py` puts it into one of its wordings.
"""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Pool
from typing import NamedTuple

from shared.invented import a, ordinal
from shared.lexicon import MONTHS, NUMBERS, read_json, upper

PHRASES = read_json(Path(__file__).resolve().with_name("wordings_2.json"))


class Item(NamedTuple):
    """What is asked: `key` names the reserved thing in it, `values` fill the places of a wording."""

    key: str
    form: str
    values: list
    output: str
    accept: list[str] = []


def past_tense(rng: random.Random, p: Pool) -> Item:
    base, past, _ = rng.choice(p.verbs)
    return Item(base, "verb", [base], past)


def plural(rng: random.Random, p: Pool) -> Item:
    one, many = rng.choice(p.nouns)
    return Item(one, "noun", [one], many)


def antonym(rng: random.Random, p: Pool) -> Item:
    word, other = rng.sample(rng.choice(p.opposites), 2)
    return Item(word, "word", [word], other)


def spelling(rng: random.Random, p: Pool) -> Item:
    word = rng.choice(p.spelled)
    letters, form = "-".join(word), rng.choice(("letters", "letters", "letters", "joined"))
    asked, answer = (letters, word) if form == "joined" else (word, letters)
    return Item(word, form, [asked], answer)


def someone(rng: random.Random, p: Pool) -> str:
    """A person, as the subject of a sentence."""
    return rng.choice((rng.choice(p.names), f"the {rng.choice(p.jobs)}"))


def active_to_passive(rng: random.Random, p: Pool) -> Item:
    (_, did, done), objects = rng.choice(p.done)
    one, thing = someone(rng, p), f"the {rng.choice(objects)}"
    both = upper(f"{one} {did} {thing}."), upper(f"{thing} was {done} by {one}.")
    return Item(f"{did} {thing}", "sentence", both[:1], both[1])


def statement_to_question(rng: random.Random, p: Pool) -> Item:
    one, (base, past, _), size = someone(rng, p), rng.choice(p.asked), rng.choice(p.adjectives)
    helper, be = rng.choice(("can", "will", "must")), rng.choice(("is", "was"))
    said, asked = rng.choice([
        (f"{one} {be} {size}.", f"{be} {one} {size}?"),
        (f"{one} {helper} {base}.", f"{helper} {one} {base}?"),
        (f"{one} {past}.", f"did {one} {base}?"),
    ])  # fmt: skip
    return Item(said, "sentence", [upper(said)], upper(asked))


def sorting(rng: random.Random, p: Pool) -> Item:
    form = rng.choice(("words", "words", "words", "up", "up", "down"))
    items = rng.sample(p.sorted if form == "words" else p.numbers, rng.choice((3, 3, 4)))
    tidy = sorted(items, reverse=form == "down")
    if items == tidy:  # what is in order already would only be copied
        return sorting(rng, p)
    mixed = ", ".join(map(str, items))
    return Item(mixed, form, [mixed], ", ".join(map(str, tidy)))


def counting(rng: random.Random, p: Pool) -> Item:
    form = rng.choice(("length", "length", "times"))
    if form == "length":
        items = rng.sample(p.counted, rng.randint(2, 7))
        number, values = len(items), [", ".join(items)]
    else:
        (word, other), number = rng.sample(p.counted, 2), rng.randint(1, 4)
        items = [word] * number + [other] * rng.randint(1, 3)
        rng.shuffle(items)
        values = [", ".join(items), word]
    return Item(" ".join(values), form, values, str(number), [NUMBERS[number]])


def arithmetic(rng: random.Random, p: Pool) -> Item:
    sign = rng.choice("+-x")
    one, two = rng.choice(p.sums[sign])
    result = {"+": one + two, "-": one - two, "x": one * two}[sign]
    return Item(f"{one} {sign} {two}", sign, [one, two], str(result))


def unit_conversion(rng: random.Random, p: Pool) -> Item:
    (one, many, small, smalls, factor), n = rng.choice(p.amounts)
    many = "dozen" if one == "dozen" else many  # five dozen, not five dozens
    both = (n, one if n == 1 else many, many), (n * int(factor), smalls, smalls)
    (given, as_written, _), (number, answer, unit) = rng.sample(both, 2)
    values, more = [f"{given} {as_written}", unit], [str(number), f"{number:,} {answer}"]
    return Item(f"{one} {small} {n}", "amount", values, f"{number} {answer}", more)


def about_someone(rng: random.Random, p: Pool) -> tuple[str, dict]:
    """A sentence about a person, and what it says."""
    name, city, job = rng.choice(p.names), rng.choice(p.cities), rng.choice(p.jobs)
    said = {"name": name, "city": city, "job": job, "age": str(rng.randint(20, 80))}
    text = rng.choice(PHRASES["sentences"]).format(**said, a_job=a(job), a_Job=upper(a(job)))
    return text, {field: value for field, value in said.items() if value in text}


def extraction(rng: random.Random, p: Pool) -> Item:
    text, said = about_someone(rng, p)
    form = rng.choice(list(said))
    more = {"job": [a(said.get("job", "x"))], "age": [f"{said.get('age')} years old"]}
    return Item(f"{form} {said['name']}", form, [text], said[form], more.get(form, []))


def categories(rng: random.Random, p: Pool) -> Item:
    word = rng.choice(list(p.categories))
    kind = p.categories[word]
    more = PHRASES["accept"]["categories"].get(kind, [])
    return Item(word, "word", [word], "body part" if kind == "body" else kind, more)


def dates(rng: random.Random, p: Pool) -> Item:
    (d, m), y = rng.choice(p.dates), rng.randint(1600, 2030)
    month, form = MONTHS[m - 1], rng.choice(("words", "words", "figures", "month", "next", "last"))
    figures, words = f"{d}/{m}/{y}", f"{d} {month} {y}"
    beside = d - 1 if form == "last" else d + 1
    if form in ("next", "last") and (beside, m) not in p.days:
        return dates(rng, p)
    long = [f"{month} {d}, {y}", f"{ordinal(d)} {month} {y}", f"the {ordinal(d)} of {month} {y}"]
    value, output, more = {
        "words": (figures, words, long),
        "figures": (words, figures, [f"{d:02}/{m:02}/{y}"]),
        "month": (figures, month, []),
    }.get(form, (f"{d} {month}", f"{beside} {month}", []))
    return Item(f"{d}/{m}", form, [value], output, more)


def capitalisation(rng: random.Random, p: Pool) -> Item:
    form = rng.choice(("all", "first", "sentence"))
    if form == "sentence":
        text = upper(about_someone(rng, p)[0])
        return Item(text, form, [text.lower()], text)
    words = rng.sample(p.capitalised, 1 if form == "all" else 2)
    change = str.upper if form == "all" else str.capitalize
    return Item(" ".join(words), form, [" ".join(words)], " ".join(map(change, words)))


def rhyme(rng: random.Random, p: Pool) -> Item:
    word = rng.choice(list(p.rhymes))
    return Item(word, "word", [word], rng.choice(p.rhymes[word]), p.rhymes[word])


def facts(rng: random.Random, p: Pool) -> Item:
    relation, subject, answer = rng.choice(p.facts)
    more = [str(NUMBERS.index(answer))] if answer in NUMBERS else []
    return Item(f"{relation} {subject}", relation, [subject, a(subject)], answer, more)


FAMILIES: list[Callable[[random.Random, Pool], Item]] = [
    past_tense, plural, antonym, spelling, active_to_passive, statement_to_question, sorting, counting,
    arithmetic, unit_conversion, extraction, categories, dates, capitalisation, rhyme, facts,
]  # fmt: skip
