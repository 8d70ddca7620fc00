"""The lexicon of chapters 5 and 7: words by kind, pairs and facts, without what is reserved for tests.

`load_words()` is the first edition, from which the first course model's worksheets and chapter 7's instructions
are made. The second, `second_words`, is in American spelling, knows more facts and keeps questions about them apart.
Files: `words.json` and `knowledge.json` of chapter 5, `reserved.json` and `reserved_2.json` of chapter 7.
"""

import dataclasses
import functools
import itertools
import json
import re
from dataclasses import dataclass
from pathlib import Path

import tiktoken

COURSE = Path(__file__).resolve().parents[1]
WORDS = COURSE / "ch05_pretraining" / "words.json"
KNOWLEDGE = COURSE / "ch05_pretraining" / "knowledge.json"
RESERVED = COURSE / "ch07_instruction" / "reserved.json"
SECOND_RESERVED = COURSE / "ch07_instruction" / "reserved_2.json"

MONTHS = (
    "January February March April May June July August September October November December".split()
)
MONTH_DAYS = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBERS = (
    "none one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()
)


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
    tokenizer: tiktoken.Encoding | None = None  # of `scrambled`; None: the first one

    @functools.cached_property
    def names(self) -> list[str]:
        return self.he + self.she


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


def upper(text: str) -> str:
    """The text with a capital letter at its start."""
    return text[:1].upper() + text[1:]
