"""Worksheets: an endless stream of structured text from which a small GPT learns to copy from its context.

    python ch05_pretraining/worksheets.py --show 3      # some of every kind
    python ch05_pretraining/worksheets.py               # what the stream measures

Prose alone teaches a small model little about looking back. A worksheet repeats, reverses, sorts, spells
and inflects words, asks who has what, defines made-up words and uses them again; most of what comes late
in it can be read off what came early. Words that chapter 7 tests with (`ch07_instruction/reserved.json`)
occur in none of it, nor do the wordings of its instructions.

There are two editions of the words, each with its own reserved ones. The first course model read the first;
the second, `second_words`, is in American spelling, knows more facts and keeps questions about them apart.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tiktoken

HERE = Path(__file__).resolve().parent
WORDS = HERE / "words.json"
RESERVED = HERE.parent / "ch07_instruction" / "reserved.json"
SOURCES = (
    Path(__file__).resolve(),
    WORDS,
    RESERVED,
)  # the stream is a function of these and the seed

KNOWLEDGE = HERE / "knowledge.json"
SECOND_RESERVED = HERE.parent / "ch07_instruction" / "reserved_2.json"
SECOND_SOURCES = (
    Path(__file__).resolve(),
    HERE / "copying.py",
    WORDS,
    KNOWLEDGE,
    SECOND_RESERVED,
)  # the second edition's stream is a function of these, its tokenizer and the seed

# Invented names are made of these, one vowel at a time. `copying.py` tests with names that have two vowels
# side by side: no chain of these syllables can produce one.
ONSETS = (
    "b br c ch cl d dr f fl g gl gr h j k kl l m n p pl pr r s sh sk sl st t th tr v w z".split()
)
VOWELS = "aeiou"
CODAS = ["", "", "", *"b ck d f g k l ll m n nd ng nt p r rk rn s sk ss st t th x z".split()]

MONTHS = (
    "January February March April May June July August September October November December".split()
)
MONTH_DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBERS = (
    "none one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
)


# --- the words that may be used ---


@dataclass(frozen=True)
class Words:
    """A lexicon without what is reserved for chapter 7."""

    verbs: list[list[str]]  # walk, walked, walked
    transitive: list[tuple[str, str, str, list[str]]]  # paint, painted, painted, what is painted
    intransitive: list[str]
    nouns: list[list[str]]  # cat, cats
    opposites: list[list[str]]
    adjectives: list[str]
    adverbs: list[str]
    he: list[str]
    she: list[str]
    cities: list[str]
    jobs: list[str]
    places: list[str]
    things: list[str]
    colours: list[str]
    categories: dict[str, list[str]]
    rhymes: list[list[str]]
    facts: dict[str, list[list[str]]]
    units: list[
        tuple[list[str], list[int]]
    ]  # metre, metres, centimetre, centimetres, 100; how many
    common: list[str]
    sums: dict[str, list[tuple[int, int]]]  # by sign: + - x
    numbers: list[int]  # that are put in order
    dates: dict[tuple[int, int], None]  # day, month; a dict, because it keeps its order
    kept: frozenset[str]  # what no invented word may be
    tokenizer: tiktoken.Encoding | None = None  # None: the first course tokenizer

    @functools.cached_property
    def names(self) -> list[str]:
        return self.he + self.she

    @functools.cached_property
    def tokens(self) -> list[str]:
        """The tokenizer's ordinary tokens, most with a space before them."""
        from copying import ordinary_tokens  # which imports this module

        from shared import editions

        tokenizer = self.tokenizer or editions.tokenizer()
        return [tokenizer.decode([i]) for i in ordinary_tokens(tokenizer)]


def number_pairs(sign: str) -> list[tuple[int, int]]:
    """The small sums that are taught and tested: `+` up to 20 + 20, `-` below 25, `x` up to 12 x 12."""
    if sign == "x":
        return [(a, b) for a in range(2, 13) for b in range(2, 13)]
    if sign == "+":
        return [(a, b) for a in range(1, 21) for b in range(1, 21)]
    return [(a, b) for a in range(2, 25) for b in range(1, a)]


def all_dates() -> list[tuple[int, int]]:
    """Every (day, month) of a leap year."""
    return [(d, m) for m, days in enumerate(MONTH_DAYS, 1) for d in range(1, days + 1)]


def all_facts(words: dict) -> dict[str, list[list[str]]]:
    """The facts of a lexicon, and those that follow from the order of letters, days and months."""
    facts = {name: [fact_row(row) for row in rows] for name, rows in words["facts"].items()}
    for name, order in (("letter", LETTERS), ("day", DAYS), ("month", MONTHS)):
        pairs = list(itertools.pairwise(order))
        facts[f"{name} after"] = [[a, b] for a, b in pairs]
        facts[f"{name} before"] = [[b, a] for a, b in pairs]
    return facts


def fact_row(row: str) -> list[str]:
    """Subject and answer; a bar divides them where one of them has several words."""
    return row.split(" | ") if "|" in row else row.split()


def joined(lines: list[str]) -> list[str]:
    """A long list is stored as several lines of words."""
    return " ".join(lines).split()


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@functools.cache
def load_words(path: Path = WORDS, reserved: Path = RESERVED) -> Words:
    """Read both files; whatever contains a reserved word is left out. OSError where one is missing."""
    return usable_words(read_json(path), read_json(reserved))


def american(value, spelling: dict[str, str]):
    """The text, or all texts of a list or dict, keys too, in American spelling; whole words only."""
    if isinstance(value, dict):
        return {american(key, spelling): american(item, spelling) for key, item in value.items()}
    if isinstance(value, list):
        return [american(item, spelling) for item in value]

    def change(match: re.Match) -> str:
        word = match[0]
        other = spelling.get(word.lower(), word)
        return upper(other) if word[0].isupper() else other

    return re.sub("[A-Za-z]+", change, value)


@functools.cache
def second_lexicon() -> dict:
    """`words.json` in American spelling, with the facts of `knowledge.json`, and without those it drops."""
    words, more = read_json(WORDS), read_json(KNOWLEDGE)
    names = {name: american(value, more["american"]) for name, value in words.items()}

    def once(line: str) -> str:
        return " ".join(dict.fromkeys(line.split()))

    # two spellings of a word have become one
    names["common"] = list(dict.fromkeys(joined(names["common"])))
    names["rhymes"] = [once(group) for group in names["rhymes"]]
    names["categories"] = {kind: once(them) for kind, them in names["categories"].items()}
    for relation, rows in more["facts"].items():
        known = [
            r
            for r in names["facts"].get(relation, [])
            if r not in more["dropped"].get(relation, [])
        ]
        names["facts"][relation] = known + [row for row in rows if row not in known]
    return names


@functools.cache
def second_words(tokenizer: tiktoken.Encoding | None) -> Words:
    """The words of the second edition; `scrambled` is made of this tokenizer's tokens.

    Of rules (spelling, past tense, …) the words are reserved: no worksheet contains them. Of knowledge
    (opposites, kinds, rhymes, facts) the questions are: their words may occur, the pairs in no sheet.
    """
    british = read_json(KNOWLEDGE)["american"]
    words = usable_words(second_lexicon(), read_json(SECOND_RESERVED))
    # what is put together from tokens or parts of words is not spelled in the British way either
    return dataclasses.replace(words, tokenizer=tokenizer, kept=words.kept | set(british))


def usable_words(data: dict, rules: dict) -> Words:
    """The lexicon without what the rules, the contents of a `reserved.json`, keep for chapter 7."""
    families = rules["families"]
    kept = {word.lower() for word in rules["words"]} | {w for w in rules["wordings"] if w.isalpha()}

    def free(rows):
        """Rows without a reserved word in any of their places, whatever its case."""
        rows = [row.split() if isinstance(row, str) else row for row in rows]
        return [row for row in rows if not kept & set(re.findall("[a-z]+", " ".join(row).lower()))]

    def words(name):
        return [word for [word] in free(joined(data[name]))]

    def pairs(sign, name):
        taken = {tuple(pair) for pair in families["arithmetic"][name]}
        both = taken | {(b, a) for a, b in taken} if sign != "-" else taken
        return [pair for pair in number_pairs(sign) if pair not in both]

    verbs = free(data["verbs_regular"] + data["verbs_irregular"])
    forms = {verb[0]: verb for verb in verbs}
    things = {verb: [o for [o] in free(them.split())] for verb, them in data["transitive"].items()}
    facts = {tuple(pair) for _, *pair in families["facts"]["rows"] + rules.get("left_out", [])}
    apart = {frozenset(row) for row in families["antonym"].get("rows", [])}
    asked = {word for them in families["categories"].values() for word in them}
    amounts = {tuple(row) for row in families["unit_conversion"]["rows"]}
    units = [row.split() for row in data["units"]]
    dates = {tuple(date) for date in families["dates"]["day_month"]}
    return Words(
        verbs=verbs,
        transitive=[(*forms[v], things[v]) for v in things if v in forms and things[v]],
        intransitive=words("intransitive"),
        nouns=free(data["nouns_regular"] + data["nouns_irregular"]),
        opposites=[
            row
            for row in free(data["opposites"] + data["opposites_by_rule"])
            if frozenset(row) not in apart
        ],
        adjectives=words("adjectives"),
        adverbs=words("adverbs"),
        he=words("names_he"),
        she=words("names_she"),
        cities=words("cities"),
        jobs=words("jobs"),
        places=words("places"),
        things=words("things"),
        colours=words("colours"),
        categories={
            kind: [w for [w] in free(members.split()) if w not in asked]
            for kind, members in data["categories"].items()
        },
        rhymes=[
            [w for [w] in free(group.split()) if w not in families["rhyme"]["word: rhymes"]]
            for group in data["rhymes"]
        ],
        facts={
            relation: free(row for row in rows if tuple(row) not in facts)
            for relation, rows in all_facts(data).items()
        },
        units=[
            (row, [n for n in range(1, 21) if (row[0], row[2], n) not in amounts]) for row in units
        ],
        common=words("common"),
        sums={
            sign: pairs(sign, name)
            for sign, name in (("+", "sums"), ("-", "differences"), ("x", "products"))
        },
        numbers=[n for n in range(1, 100) if n not in set(families["sorting"]["numbers"])],
        dates=dict.fromkeys(date for date in all_dates() if date not in dates),
        kept=frozenset(kept),
    )


# --- small things that many kinds of sheet need ---


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


def upper(text: str) -> str:
    """The text with a capital letter at its start."""
    return text[:1].upper() + text[1:]


def a(word: str) -> str:
    """The word with its article."""
    return f"an {word}" if word[0] in VOWELS else f"a {word}"


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


def sentence(rng: random.Random, w: Words) -> str:
    return clause(rng, w) + rng.choice("...!")


# --- repeating ---


def repeated(rng: random.Random, w: Words) -> str:
    """A list again and again: what stands 120 tokens back is as likely as what stands near."""
    sep = separator(rng)
    items = bag(rng, w, between(rng, 4, 105 if sep == " " else 55))
    sizes = itertools.accumulate(tokens_in(item + sep) for item in items)
    items = items[: max(2, sum(size < 115 for size in sizes))]
    text = sep.join(items)
    times = min(9, max(2, int(rng.uniform(100, 260) / (tokens_in(text) + 1))))
    form = rng.random()
    if form < 0.4:
        return sep.join([text] * times)
    if form < 0.7:
        return "\n".join([text] * times)
    if form < 0.8:
        name = upper(rng.choice((invent(rng, w), rng.choice(w.common))))
        return "\n\n".join([f"{name}: {text}"] * times)
    if form < 0.9:
        one, two = rng.sample(w.names, 2)
        return f'{one} reads: "{text}"\n{two} reads it too: "{text}"'
    again = items[rng.randrange(len(items)) :]
    return f"{text}\n...\n{sep.join(again)}\n...\n{text}"


TWICE = forms("{0} {0}\n{0}¶{0}\n{0} = {0}\n({0}) ({0})\n{0}, {0}, {0}")


def run_together(rng: random.Random, w: Words) -> str:
    """Letters without sense, many without spaces, and the same again."""

    def make():
        words = [pieces(rng, w) for _ in range(between(rng, 1, 24))]
        gaps = rng.choice(("", " ", "-", "_", ".", ("", " "), ("", " ")))
        return say(rng, TWICE, "".join(rng.choice(gaps or [""]) + word for word in words).strip())

    return stack(rng, make)


def scrambled(rng: random.Random, w: Words) -> str:
    """Tokens without any order, the rarest as often as others, and the same again."""
    text = "".join(rng.choices(w.tokens, k=rng.randint(20, 110))).strip()
    if w.kept & set(re.findall("[a-z]+", text.lower())):
        return scrambled(rng, w)
    return text + rng.choice((" ", "\n", ". ")) + text


def cycle(rng: random.Random, w: Words) -> str:
    """A few words that go round and round."""

    def make():
        items, sep = bag(rng, w, between(rng, 2, 14)), separator(rng)
        length = rng.randint(2 * len(items), 3 * len(items) + 8)
        return sep.join(itertools.islice(itertools.cycle(items), length))

    return stack(rng, make)


def neighbours(rng: random.Random, w: Words) -> str:
    """Words that always have the same follower, in an order that changes."""
    sep = separator(rng)
    pairs = [" ".join(bag(rng, w, 2)) for _ in range(between(rng, 5, 18))]
    times = max(2, min(6, int(160 / tokens_in(sep.join(pairs)))))
    order = [pair for _ in range(times) for pair in rng.sample(pairs, len(pairs))]
    return heading(rng, w) + sep.join(order)


QUOTES = forms("""
"{words}," said {one}.¶"{words}," said {two}.
{one} said, "{words}," and {two} said after: "{words}."
{words}.¶{words}.
{two} wrote "{words}!" on the wall. So on the wall it said "{words}!"
"What did {two} say?"¶"{two} said: {words}."¶"So: {words}."
{words}. "{words}?" asked {one}. "Yes," said {two}, "{words}."
""")


def quoted(rng: random.Random, w: Words) -> str:
    """What somebody says is said again, word for word."""
    return stack(
        rng, lambda: say(rng, QUOTES, one=speaker(rng, w), two=speaker(rng, w), words=clause(rng, w))
    )  # fmt: skip


CHANGES = forms("""
{first}¶{second}
{first} ({old} -> {new}) {second}
{first}¶{old} becomes {new}¶{second}
{first}¶{second}¶new: {new}, old: {old}
{first}¶no, not {old}, but {new}:¶{second}
""")


def changed(rng: random.Random, w: Words) -> str:
    """A sentence, and the same with one word changed."""

    def make():
        words, end = clause(rng, w).split(), rng.choice(".!")
        place = rng.randrange(1, len(words))
        new = rng.choice((rng.choice(w.common), invent(rng, w), rng.choice(w.things)))
        first = " ".join(words) + end
        second = " ".join([*words[:place], new, *words[place + 1 :]]) + end
        return say(rng, CHANGES, first=first, second=second, old=words[place], new=new)

    return stack(rng, make)


# --- looking up ---

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


# --- stories with questions ---

HAVING = forms("""
{one} has {a_tint} {thing} and is in the {place}.
{one} went to the {place} with {a_tint} {thing}.
In the {place} stood {one} with {a_tint} {thing}.
{one} took the {tint} {thing} to the {place}.
""")
SWAPPED = "Then {0} and {1} changed: {0} got the {2}, {1} got the {3}."
ASKED = forms("""
Who has the {thing}? {one}.
Where is {one}? In the {place}.
Whose is the {thing}? It is {one}'s.
{one}: {thing}
And {one}? {one} has the {thing}.
Who is in the {place}? {one}.
""")


def who_has(rng: random.Random, w: Words) -> str:
    """People get, lose and give away things; then who has what, and who is where."""
    people = list(dict.fromkeys(speaker(rng, w) for _ in range(rng.randint(2, 5))))
    at = dict(zip(people, rng.sample(w.places, len(people))))
    has, story = {}, []
    for one, thing in zip(people, rng.sample(w.things, len(people))):
        tint = rng.choice(w.colours)
        has[one] = f"{tint} {thing}"
        story.append(
            say(rng, HAVING, one=one, a_tint=a(tint), tint=tint, thing=thing, place=at[one])
        )
    for _ in range(rng.randint(0, 2) if len(people) > 1 else 0):
        one, two = rng.sample(people, 2)
        has[one], has[two] = has[two], has[one]
        story.append(SWAPPED.format(one, two, has[one], has[two]))
    chosen = rng.choices(people, k=rng.randint(3, 8))
    asked = [say(rng, ASKED, one=one, thing=has[one], place=at[one]) for one in chosen]
    return " ".join(story) + "\n" + rng.choice(("\n", " ")).join(asked)


SAID = forms('{0} said, "{1}."\n"{1}," said {0}.\n{0}: {1}.')
WHO_SAID = forms('Who said "{1}"? {0}.\nWhich words were {0}\'s? "{1}."\n{0} said: "{1}."')


def who_said(rng: random.Random, w: Words) -> str:
    """People say things; then who said what."""
    said = {speaker(rng, w): clause(rng, w) for _ in range(rng.randint(2, 5))}
    story = [say(rng, SAID, one, words) for one, words in said.items()]
    chosen = rng.choices(list(said), k=rng.randint(2, 6))
    return "\n".join(story + [say(rng, WHO_SAID, one, said[one]) for one in chosen])


LIVES = forms("""
{0} is {4} of {3} and lives in {2}.
In {2} lives {4}, {0}, who is {3} years old.
{0}, who is {3}, went to {2} to be {4}.
The {1} of {2} is {0}, {3} years old.
""")
CARD_KEYS = [("name", "work", "town", "age"), ("who", "trade", "where", "years"), tuple("NWTA")]


def cards(rng: random.Random, w: Words) -> str:
    """Sentences about people, and the same facts on a card; or the other way round."""
    keys, shown = rng.choice(CARD_KEYS), rng.sample(range(4), rng.randint(2, 4))
    end, card_first = rng.choice(("\n", ", ", "; ")), rng.random() < 0.2

    def make():
        city = rng.choice(w.cities) if rng.random() < 0.7 else invent_name(rng, w)
        fields = (speaker(rng, w), rng.choice(w.jobs), city, rng.randint(5, 99))
        card = end.join(f"{keys[i]}: {fields[i]}" for i in shown)
        both = [say(rng, LIVES, *fields, a(fields[1])), card]
        return "\n".join(both[::-1] if card_first else both)

    return stack(rng, make)


OPENINGS = forms("""
There was once {a_job} whose name was {one}.
In the town of {town} there lived {a_job} called {one}.
{one} was {a_job}, and {two} was a friend of {one}.
{one} was the child of {two}, {a_job} in {town}.
"My name is {one}," said the {job}.
""")
EVENTS = forms("""
{one} {act}.
{one} {act}, and {two} {then}.
When {one} {act}, {two} {then}.
"{talk}," said {one}.
"Where is {two}?" asked {one}. "{two} is in {town}," they said.
So {one} and {two} left {town} and came to {land}.
"O {two}," cried {one}, "come to {land} with me!"
Then {one} {manner} went back to {land}.
Then {one} {manner} left {town}.
But {one}'s {thing} was still at {two}'s.
""")


def tale(rng: random.Random, w: Words) -> str:
    """Prose, or nearly, in which invented names come back."""
    names = [invent_name(rng, w) for _ in range(rng.randint(2, 4))]
    slots = {"town": invent_name(rng, w), "land": invent_name(rng, w), "job": rng.choice(w.jobs)}
    lines = [say(rng, OPENINGS, a_job=a(slots["job"]), one=names[0], two=names[1], **slots)]
    for _ in range(rng.randint(4, 12)):
        one, two = rng.sample(names, 2)
        slots |= {"act": deed(rng, w, two), "then": deed(rng, w, rng.choice((one, "them")))}
        slots |= {
            "talk": clause(rng, w),
            "thing": rng.choice(w.things),
            "manner": rng.choice(w.adverbs),
        }
        lines.append(say(rng, EVENTS, one=one, two=two, **slots))
    return rng.choice((" ", " ", "\n\n")).join(lines)


# --- rules of language ---

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


# --- numbers ---

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


def ordinal(n: int) -> str:
    """Example: 22 -> `22nd`."""
    return f"{n}{'th' if 10 < n < 20 else {1: 'st', 2: 'nd', 3: 'rd'}.get(n % 10, 'th')}"


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


# --- the stream ---

# Kinds of sheet and their shares of the documents: about half of them copy, a quarter looks up, a quarter
# changes words or numbers by rule.
KINDS: dict[Callable[[random.Random, Words], str], int] = {
    repeated: 22, run_together: 14, scrambled: 20, cycle: 4, neighbours: 8, quoted: 5, changed: 4,
    missing: 3, turned: 3, in_order: 4, places_in_list: 3, lookup: 7, table: 4, code: 4, dictionary: 4,
    who_has: 5, who_said: 3, cards: 4, tale: 9,
    inflections: 4, plurals: 3, opposites: 3, doers: 4, asking: 3, capitals: 3, spelled: 7, rhyming: 2,
    sorts: 3, known: 1, sums: 4, measures: 2, tallies: 3, calendar: 2, counting_up: 1,
}  # fmt: skip


def labelled_documents(seed: int, words: Words | None = None) -> Iterator[tuple[str, str]]:
    """The stream with the name of each document's kind. Endless."""
    rng = random.Random(f"worksheets {seed}")
    words = words or load_words()
    kinds = list(KINDS)
    totals = list(itertools.accumulate(KINDS.values()))
    while True:
        kind = rng.choices(kinds, cum_weights=totals)[0]
        yield kind.__name__, kind(rng, words)


def documents(seed: int, words: Words | None = None) -> Iterator[str]:
    """Worksheets without end, the same for the same seed. Example: `next(documents(123))`."""
    return (text for _, text in labelled_documents(seed, words))


# --- invented names in prose that exists ---

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


def renamed(text: str, rng: random.Random, words: Words | None = None) -> str:
    """Prose whose recurring names are replaced by invented ones: to be learnt from, like a `tale`."""
    words = words or load_words()
    return with_names(text, {name: invent_name(rng, words) for name in names_in(text)})


# --- what the stream measures ---


def copied_share(ids: list[int], context: int = 2) -> float:
    """The share of tokens that copying foretells: those that last followed the same `context` tokens."""
    last, right = {}, 0
    for i in range(context, len(ids)):
        before = tuple(ids[i - context : i])
        right += last.get(before) == ids[i]
        last[before] = ids[i]
    return right / max(1, len(ids))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument(
        "--count", type=int, default=5_000, help="documents to measure (default: 5,000)"
    )
    parser.add_argument("--show", type=int, default=0, help="print so many of each kind instead")
    options = parser.parse_args(arguments)

    if options.show:
        words = load_words()
        for kind in KINDS:
            rng = random.Random(f"{kind.__name__} {options.seed}")
            for _ in range(options.show):
                print(f"===== {kind.__name__}\n{kind(rng, words)}\n")
        return
    from shared import editions  # the tokenizer is needed for measuring only

    load_words()
    start = time.perf_counter()
    stream = list(itertools.islice(labelled_documents(options.seed), options.count))
    seconds = time.perf_counter() - start
    size = sum(len(text.encode()) for _, text in stream)
    encoded = editions.tokenizer().encode_ordinary_batch(
        [text for _, text in stream], num_threads=1
    )
    lengths = sorted(map(len, encoded))
    total = sum(lengths)
    quantiles = ", ".join(
        f"{lengths[int(q * (len(lengths) - 1))]}" for q in (0, 0.05, 0.5, 0.95, 1)
    )
    print(f"{len(stream):,} documents, {size / 1e6:.2f} MB, {size / 1e6 / seconds:.2f} MB/s")
    print(f"distinct: {len({text for _, text in stream}) / len(stream):.2%}")
    print(f"tokens a document: {total / len(stream):.0f} (0, 5, 50, 95, 100 %: {quantiles})")
    print(f"bytes a token: {size / total:.2f}")
    for context in (1, 2, 3):
        share = sum(copied_share(ids, context) * len(ids) for ids in encoded) / total
        print(f"foretold by the last {context}: {share:.1%}")
    print(f"{'kind':15} share  tokens  copied")
    for kind in KINDS:
        own = [ids for (name, _), ids in zip(stream, encoded) if name == kind.__name__]
        n = sum(map(len, own))
        copied = sum(copied_share(ids) * len(ids) for ids in own) / max(1, n)
        print(f"{kind.__name__:15} {n / total:5.1%}  {n / max(1, len(own)):6.0f}  {copied:6.1%}")


if __name__ == "__main__":
    main()
