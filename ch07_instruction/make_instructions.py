"""Make chapter 7's instructions: instructions.json, from lists of words and from hand-written entries.

    python ch07_instruction/make_instructions.py

The same functions make training and test items. Only the words differ: training draws from the words that
chapter 5's worksheets may use, the test from those of `reserved.json`, which no training item of their family
contains. The same seed gives the same file.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace as Pool
from typing import NamedTuple

from shared.invented import a, ordinal
from shared.lexicon import MONTHS, NUMBERS, RESERVED, WORDS, all_dates, load_words, read_json, upper

HERE = Path(__file__).resolve().parent
SEED = 123
TRAIN, VALIDATION, TEST = 570, 30, 50  # items of a family
CORE_VALIDATION = 20  # one in so many of the hand-written entries is for validation


PHRASES = read_json(HERE / "wordings.json")


class Item(NamedTuple):
    """What is asked: `key` names the reserved thing in it, `values` fill the places of a wording."""

    key: str
    form: str
    values: list
    output: str
    accept: list[str] = []


def learnt_pool() -> Pool:
    """The words to learn from: all but the reserved. Named as in `kept_pool`."""
    w = load_words()
    plain = [word for word in w.common if 3 <= len(word) <= 9]
    forms = {verb[0]: verb for verb in w.verbs}
    return Pool(
        **{name: getattr(w, name) for name in "nouns opposites adjectives names cities jobs sums numbers".split()},
        **dict.fromkeys(("spelled", "sorted", "counted", "capitalised"), plain),
        verbs=[verb for verb in w.verbs if verb[0] != "be"],
        done=[(list(verb), objects) for *verb, objects in w.transitive],
        asked=[forms[verb] for verb in w.intransitive],
        categories={word: kind for kind, words in w.categories.items() for word in words},
        rhymes={one: [o for o in them if o != one] for them in w.rhymes for one in them if them[1:]},
        facts=[(relation, *row) for relation, rows in w.facts.items() for row in rows],
        amounts=[(row, n) for row, many in w.units for n in many],
        dates=[date for date in w.dates if date != (29, 2)],  # not in every year
        days=[date for date in w.dates if date != (29, 2)],
    )  # fmt: skip


def kept_pool() -> Pool:
    """The words to test with: the reserved ones of each family."""
    words, f = read_json(WORDS), read_json(RESERVED)["families"]
    people, asked, sums = f["extraction"], f["statement_to_question"], f["arithmetic"]
    units = {(row.split()[0], row.split()[2]): row.split() for row in words["units"]}
    return Pool(
        verbs=f["past_tense"]["regular"] + f["past_tense"]["irregular"],
        nouns=f["plural"]["regular"] + f["plural"]["irregular"],
        opposites=f["antonym"]["plain"] + f["antonym"]["by_rule"],
        spelled=f["spelling"]["words"], counted=f["counting"]["words"], capitalised=f["capitalisation"]["words"],
        sorted=f["sorting"]["words"], numbers=f["sorting"]["numbers"],
        done=[(v, words["transitive"][v[0]].split()) for v in f["active_to_passive"]["verbs"]],
        asked=asked["verbs"], adjectives=asked["adjectives"],
        names=people["names_he"] + people["names_she"], cities=people["cities"], jobs=people["jobs"],
        categories={one: kind for kind, them in f["categories"].items() for one in them},
        rhymes=f["rhyme"]["word: rhymes"],
        facts=[tuple(row) for row in f["facts"]["rows"]],
        amounts=[(units[one, small], n) for one, small, n in f["unit_conversion"]["rows"]],
        sums={"+": sums["sums"], "-": sums["differences"], "x": sums["products"]},
        dates=[tuple(date) for date in f["dates"]["day_month"]],
        days=[date for date in all_dates() if date != (29, 2)],  # what comes after a reserved date may be free
    )  # fmt: skip


# --- one item of each family ---


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
    return Item(f"{relation} {subject}", relation, [subject, a(subject)], answer)


FAMILIES: list[Callable[[random.Random, Pool], Item]] = [
    past_tense, plural, antonym, spelling, active_to_passive, statement_to_question, sorting, counting,
    arithmetic, unit_conversion, extraction, categories, dates, capitalisation, rhyme, facts,
]  # fmt: skip


def entry(rng: random.Random, family: str, item: Item, split: str) -> dict:
    """The item in one of its wordings; other right answers only where answers are scored."""
    wording = rng.choice(PHRASES["wordings"][family][item.form]).format(*item.values)
    instruction, _, given = wording.partition(" | ")
    made = {"instruction": instruction, "input": given, "output": item.output}
    made |= {"family": family, "split": split}
    accept = item.accept + PHRASES["accept"].get(family, {}).get(item.key, [])
    accept = [other for other in dict.fromkeys(accept) if other != item.output]
    return made | {"accept": accept} if accept and split != "train" else made


def draw(make: Callable, pool: Pool, seed: str, split: str, count: int, known: set) -> list[dict]:
    """Up to `count` entries: each text once, and for the test each reserved thing once."""
    rng, made = random.Random(f"instructions {seed} {make.__name__} {split}"), []
    for _ in range(100 * count):
        item = make(rng, pool)
        one = entry(rng, make.__name__, item, split)
        text = (one["instruction"], one["input"])
        keys = {text, (make.__name__, item.key)} if split == "test" else {text}
        if not known & keys:
            known |= keys
            made.append(one)
        if len(made) == count:
            break
    return made


def instructions(seed: int = SEED) -> list[dict]:
    """Every entry: training, then validation, both shuffled; then the test, the hand-written first."""
    core, learnt, kept = read_json(HERE / "core.json"), learnt_pool(), kept_pool()
    written, test = ([one for one in core if one["split"] == split] for split in ("train", "test"))
    known = {(one["instruction"], one["input"]) for one in core}
    train = [one for i, one in enumerate(written) if i % CORE_VALIDATION]
    validation = [one | {"split": "validation"} for one in written[::CORE_VALIDATION]]
    for make in FAMILIES:
        validation += draw(make, learnt, seed, "validation", VALIDATION, known)
        train += draw(make, learnt, seed, "train", TRAIN, known)
        test += draw(make, kept, seed, "test", TEST, known)
    rng = random.Random(f"instructions {seed}")
    rng.shuffle(train)
    rng.shuffle(validation)
    return train + validation + test


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=HERE / "instructions.json")
    options = parser.parse_args(arguments)
    made = instructions(options.seed)
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in made)
    options.out.write_text(f"[\n{lines}\n]\n", encoding="utf-8", newline="\n")
    for split, count in Counter(one["split"] for one in made).items():
        print(f"{split}: {count:,}")


if __name__ == "__main__":
    main()
