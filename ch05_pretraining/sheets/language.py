"""Sheets that follow a rule of language, or say what is known of words."""

import random

from shared.invented import invent, pieces
from shared.lexicon import Words, upper

from .helpers import forms, pair_sheet, say, speaker, stack

PAST = forms("""
Today {who} {{0}}. Yesterday {who} {{1}}.
{who} {{0}} now, {who} {{1}} before
to {{0}}: {{1}}
now {{0}}, then {{1}}
{Who} {{1}} because {who} always {{0}}.
{{1}} comes from {{0}}
""")
MANY = forms("""
one {{0}}, {number} {{1}}
1 {{0}}, {figure} {{1}}
I have one {{0}}. You have {number} {{1}}.
this {{0}}, these {{1}}
{{1}}: more than one {{0}}
""")
AGAINST = forms("{0} or {1}\nnot {0} but {1}\n{0} <> {1}\n{0} here, {1} there\n{0} against {1}")
DOERS = forms("{0}¶{1}\n{0} = {1}\n{0} So {1}\n{0} | {1}\na) {0} b) {1}\n{0} -> {1}")
ASKING = forms("{0}¶{1}\n{0} {1}\n{0} -> {1}\nsaid: {0}¶asked: {1}\n{1} Yes: {0}\n{0} Really? {1}")
STATEMENTS = forms("""
{one} is {size}. | is {one} {size}?
{one} was in the {place}. | was {one} in the {place}?
{one} {helper} {do}. | {helper} {one} {do}?
{one} {helper} {base} the {thing}. | {helper} {one} {base} the {thing}?
{one} {did} the {thing}. | did {one} {base} the {thing}?
{one} has {done} the {thing}. | has {one} {done} the {thing}?
they {base} the {thing}. | do they {base} the {thing}?
""")


def inflections(rng: random.Random, w: Words) -> str:
    """walk, walked"""
    rows = [row for row in rng.sample(w.verbs, rng.randint(7, 18)) if row[0] != "be"]
    if rng.random() < 0.15:
        return pair_sheet(rng, w, [(base, f"{past}, {part}") for base, past, part in rows])
    who = rng.choice(("I", "we", "they", "you"))
    return pair_sheet(rng, w, rows, [frame.format(who=who, Who=upper(who)) for frame in PAST])


def plurals(rng: random.Random, w: Words) -> str:
    """one cat, two cats"""
    slots = {
        "number": rng.choice(("two", "three", "ten", "many", "some")),
        "figure": rng.randint(2, 9),
    }
    rows = rng.sample(w.nouns, rng.randint(6, 18))
    return pair_sheet(rng, w, rows, [frame.format(**slots) for frame in MANY])


def opposites(rng: random.Random, w: Words) -> str:
    """hot, cold"""
    rows = rng.sample(w.opposites, rng.randint(6, 16))
    return pair_sheet(rng, w, [row[:: rng.choice((1, -1))] for row in rows], AGAINST)


def doers(rng: random.Random, w: Words) -> str:
    """The cook boiled the soup. The soup was boiled by the cook."""
    frame, order = rng.choice(DOERS), rng.choice((1, 1, -1))

    def make():
        base, did, done, objects = rng.choice(w.transitive)
        job, size = rng.choice(w.jobs), rng.choice(w.adjectives)
        one = rng.choice((speaker(rng, w), f"the {job}", f"the {size} {job}"))
        thing = f"the {rng.choice(('', '', rng.choice(w.adjectives) + ' '))}{rng.choice(objects)}"
        pair = [f"{one} {did} {thing}.", f"{thing} was {done} by {one}."]
        if rng.random() < 0.2:
            pair = [f"{one} will {base} {thing}.", f"{thing} will be {done} by {one}."]
        return frame.format(*map(upper, pair[::order]))

    return stack(rng, make)


def asking(rng: random.Random, w: Words) -> str:
    """The king is proud. Is the king proud?"""
    frame = rng.choice(ASKING)

    def make():
        base, did, done, objects = rng.choice(w.transitive)
        slots = {
            "one": rng.choice((speaker(rng, w), f"the {rng.choice(w.nouns)[0]}")),
            "size": rng.choice(w.adjectives),
            "place": rng.choice(w.places),
            "helper": rng.choice(("can", "will", "must", "should", "may")),
            "do": rng.choice(w.intransitive),
        }
        both = say(
            rng, STATEMENTS, base=base, did=did, done=done, thing=rng.choice(objects), **slots
        )
        return frame.format(*map(upper, both.split(" | ")))

    return stack(rng, make)


def capitals(rng: random.Random, w: Words) -> str:
    """anna -> Anna, lamp -> LAMP"""
    if rng.random() < 0.4:
        some = [(speaker(rng, w), rng.choice(w.jobs), rng.choice(w.cities)) for _ in range(5)]
        texts = [f"{name} the {job} lives in {city}" for name, job, city in some]
        return pair_sheet(rng, w, [(text.lower(), text) for text in texts])
    change = rng.choice((str.capitalize, str.upper, str.lower))
    start = str.upper if change == str.lower else str.lower
    words = rng.choices(rng.choice((w.common, w.names, w.cities, w.things)), k=rng.randint(6, 14))
    words += [invent(rng, w) for _ in range(rng.randint(0, 5))]
    return pair_sheet(
        rng, w, [(start(word), change(word)) for word in rng.sample(words, len(words))]
    )


def spelled(rng: random.Random, w: Words) -> str:
    """l-a-m-p, from the word to its letters and back"""
    sep = rng.choice(("-", "-", " ", ", ", ".", " - ", "|", "\n"))
    change = rng.choice((str.lower, str.lower, str.upper))
    made_up, form = rng.random() < 0.3, rng.random()
    words = rng.choices(w.common, k=rng.randint(6, 14))
    if made_up:
        words = [rng.choice((invent(rng, w), pieces(rng, w))) for _ in words]
    if form < 0.1:
        pairs = [(word, f"{sep.join(change(word))} = {len(word)}") for word in words]
    elif form < 0.2:
        pairs = [(word, f"{word[0]} ... {word[-1]}") for word in words]
    elif form < 0.28:
        pairs = [(word, word[::-1]) for word in words if word[::-1] not in w.kept] * 2
    else:
        pairs = [(word, sep.join(change(word))) for word in words]
    return pair_sheet(rng, w, [pair[::-1] for pair in pairs] if form > 0.75 else pairs)


RHYMING = forms("{0} and {1}\n{0} goes with {1}\na {0}, a {1}\n{0} sounds like {1}")
SORTS = forms("{0} is a kind of {1}\n{0} belongs with {1}\n{1} > {0}\nthe {0}, a sort of {1}")


def rhyming(rng: random.Random, w: Words) -> str:
    """light, night"""
    groups = rng.sample([group for group in w.rhymes if len(group) > 1], 14)
    return pair_sheet(rng, w, [rng.sample(group, 2) for group in groups], RHYMING)


def sorts(rng: random.Random, w: Words) -> str:
    """oak: tree; and lists of one sort with their name"""
    kinds = list(w.categories)
    if rng.random() < 0.3:
        pairs = [
            (kind, ", ".join(rng.sample(w.categories[kind], 4))) for kind in rng.sample(kinds, 6)
        ]
        return pair_sheet(rng, w, pairs)
    chosen = rng.choices(kinds, k=rng.randint(6, 14))
    return pair_sheet(rng, w, [(rng.choice(w.categories[kind]), kind) for kind in chosen], SORTS)


def known(rng: random.Random, w: Words) -> str:
    """dog, puppy"""
    relation = rng.choice(list(w.facts))
    rows = rng.sample(w.facts[relation], min(len(w.facts[relation]), rng.randint(5, 14)))
    return pair_sheet(rng, w, rows, title=upper(relation))
