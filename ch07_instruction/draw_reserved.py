"""Draw what chapter 7 will test with: `reserved.json`, from the lexicon of chapter 5.

    python ch07_instruction/draw_reserved.py                # reserved.json, of the first course model
    python ch07_instruction/draw_reserved.py --edition 2    # reserved_2.json, of the second

Drawn once, before anything was trained. The words listed there occur in no worksheet of chapter 5, and in no
training item of their family in chapter 7. The same seed and the same lexicon give the same file.

In the second edition this holds for rules only (spelling, past tense, …). A rule can be applied to a word that
was never seen, but a fact cannot be known that was never read. So the facts of the second are read in
pretraining, as statements, and only the questions about them are reserved.
"""

import argparse
import json
import random
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHAPTER_2 = HERE.parent / "ch02_text_data"
CHAPTER_5 = HERE.parent / "ch05_pretraining"
sys.path.insert(0, str(CHAPTER_5))

from worksheets import (  # noqa: E402
    all_dates,
    all_facts,
    fact_row,
    joined,
    number_pairs,
    read_json,
    second_lexicon,
)

SEED, SECOND_SEED = 123, 2026
TOKENIZERS = {1: "course_tokenizer.txt", 2: "course_tokenizer_2.txt"}
SHARE = 0.15  # of each list
LEAST = 24  # words in a family
QUESTIONS = 60  # in a family of knowledge
LEFT_OUT = 20  # facts

ABOUT = {
    "what": "Words, names, numbers and dates that chapter 7 tests with, by family of tasks.",
    "rule": "A word under `words` (all of them, in all their forms) occurs in no worksheet of chapter 5; an item of a "
    "family occurs in no training item of that family in chapter 7. Pretraining prose may contain the words.",
    "wordings": "Kept for chapter 7's instructions; no worksheet contains one: single words in any case, phrases as they stand, both as whole words.",
    "drawn by": "ch07_instruction/draw_reserved.py from ch05_pretraining/words.json; 15 % of each list, at least 24 where "
    "a list allows it; never a word that the worksheets' own sentences are written in (`frames`).",
    "spelling, sorting, capitalisation": "Words of several tokens, each of which begins, continues or ends words that "
    "are not reserved: what a token is spelled like can be learnt, so these are tests of a rule.",
    "active_to_passive, statement_to_question": "The verbs are reserved; `transitive` in words.json says what each is done to.",
    "arithmetic, dates": "Pairs: sums and products in both orders, a difference as it stands; day and month in every year.",
    "facts, unit_conversion": "[relation, subject, answer]; [unit, smaller unit, how many of the larger], both ways. Only the item is "
    "reserved, not its words.",
    "names, cities, jobs": "Under extraction; also meant for sentences of the other families.",
    "licence": "CC0 1.0",
}
ABOUT_SECOND = ABOUT | {
    "rule": "Rules (spelling, past tense, ...): a word under `words` (all of them, in all their forms) occurs in no "
    "worksheet of chapter 5, an item in no training item of its family in chapter 7. Knowledge (antonym, categories, "
    "rhyme, facts): the question is reserved, not the fact. The fact is read in pretraining, as a statement; no question "
    "about it, and no worksheet that pairs its words, is in any training text.",
    "drawn by": "ch07_instruction/draw_reserved.py --edition 2 from ch05_pretraining/words.json in American spelling and "
    "knowledge.json; rules: 15 % of each list, at least 24 where a list allows it; never a word that the worksheets' own "
    "sentences are written in (`frames`) or that a fact needs.",
    "facts, unit_conversion": "[relation, subject, answer]; [unit, smaller unit, how many of the larger], both ways. Only the item is "
    "reserved, not its words.",
    "antonym, categories, rhyme": "Pairs of opposites, in both directions; words by kind; words, each with its group. Their words are not "
    "under `words`.",
    "left_out": "Facts that no training text states: a model can only guess them, so they tell knowledge from guessing.",
}
# Single words in any case, phrases as they stand here; whole words, both.
WORDINGS = [
    "Below is an instruction", "###", "instruction", "response", "input", "completes the request",
    "past tense", "plural", "opposite", "opposites", "antonym", "Spell the", "passive", "into a question",
    "as a question", "alphabetical", "alphabetically", "ascending", "Sort the", "Count the", "How many",
    "calculate", "What is the", "convert", "extract", "classify", "category", "capital letters", "capitalise",
    "rhyme", "rhymes", "rewrite", "Write a", "Write the", "Name the", "Name a", "Give the", "Give a",
    "Describe the", "Explain the",
]  # fmt: skip
SECOND_WORDINGS = [wording.replace("capitalise", "capitalize") for wording in WORDINGS]


class Draw:
    """Draws items, and never the same word for two families."""

    def __init__(self, words: dict, seed: int):
        self.seed = seed
        self.taken: set[str] = set()
        self.frames = set(joined(words["frames"]))

    def rng(self, name: str) -> random.Random:
        # each list by its own, so that a longer list does not change the others
        return random.Random(f"reserved {self.seed} {name}")

    def numbers(self, name: str, pool: list, count: int) -> list:
        """Items that are no words: pairs, dates."""
        return sorted(self.rng(name).sample(pool, count))

    def words(self, name: str, pool: list[list[str]], count: int | None = None) -> list[list[str]]:
        """Rows of words, none of them drawn before or needed by a sentence of the worksheets."""
        count = count or max(LEAST, round(SHARE * len(pool)))
        drawn = []
        for row in self.rng(name).sample(pool, len(pool)):
            forms = {word.lower() for word in row}
            if not forms & (self.taken | self.frames):
                self.taken |= forms
                drawn.append(row)
            if len(drawn) == count:
                break
        return sorted(drawn)


def rows(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def singles(drawn: list[list[str]]) -> list[str]:
    return [word for [word] in drawn]


def covered(words: list[str], encoding, often: int = 4) -> list[str]:
    """Words of several tokens that are all met in other words too, after a space and at a line's start."""
    pieces = {
        word: encoding.encode_ordinary(f" {word}") + encoding.encode_ordinary(word)
        for word in words
    }
    seen = Counter(token for tokens in pieces.values() for token in set(tokens))
    return [
        word
        for word in words
        if 4 <= len(word) <= 9
        and len(encoding.encode_ordinary(f" {word}")) > 1
        and all(seen[token] > often for token in pieces[word])
    ]


def draw(words: dict, encoding, seed: int = SEED) -> dict:
    """The contents of reserved.json."""
    d = Draw(words, seed)
    families = inflected(d, words) | knowledge_words(d, words) | rules(d, words, encoding)
    families["facts"] = {
        "rows": [
            [relation, *row]
            for relation, them in all_facts(words).items()
            for row in d.numbers(f"fact {relation}", them, max(2, round(SHARE * len(them))))
        ]
    }
    return {
        "about": ABOUT | {"seed": seed},
        "wordings": WORDINGS,
        "families": dict(sorted(families.items())),
        "words": sorted(d.taken),
    }


def draw_second(words: dict, encoding, seed: int = SECOND_SEED) -> dict:
    """The contents of reserved_2.json, from the second lexicon."""
    d = Draw(words, seed)
    d.frames |= fact_words(words)
    families = inflected(d, words) | rules(d, words, encoding)
    left_out = draw_left_out(d, words)
    families |= questions(d, words, left_out)
    return {
        "about": ABOUT_SECOND | {"seed": seed},
        "wordings": SECOND_WORDINGS,
        "families": dict(sorted(families.items())),
        "left_out": left_out,
        "words": sorted(d.taken),
    }


def inflected(d: Draw, words: dict) -> dict[str, dict]:
    """Words whose forms are tested: verbs, adjectives, nouns."""
    forms = {row[0]: row for row in rows(words["verbs_regular"] + words["verbs_irregular"])}
    families: dict[str, dict] = {}
    transitive = [forms[verb] for verb in words["transitive"]]
    families["active_to_passive"] = {"verbs": d.words("passive", transitive, 16)}
    asked = [forms[verb] for verb in joined(words["intransitive"])]
    families["statement_to_question"] = {
        "verbs": d.words("question verbs", asked, 8),
        "adjectives": singles(
            d.words("question adjectives", rows(joined(words["adjectives"])), 20)
        ),
    }
    families["past_tense"] = {
        kind: d.words(f"past {kind}", rows(words[f"verbs_{kind}"]))
        for kind in ("regular", "irregular")
    }
    families["plural"] = {
        "regular": d.words("plural regular", rows(words["nouns_regular"])),
        "irregular": d.words("plural irregular", rows(words["nouns_irregular"]), 9),
    }
    return families


def knowledge_words(d: Draw, words: dict) -> dict[str, dict]:
    """Opposites, kinds and rhymes whose words are reserved: the first edition."""
    families: dict[str, dict] = {}
    families["antonym"] = {
        "plain": d.words("antonym plain", rows(words["opposites"])),
        "by_rule": d.words("antonym rule", rows(words["opposites_by_rule"]), 20),
    }
    families["categories"] = {
        kind: singles(
            d.words(
                f"category {kind}",
                rows(members.split()),
                max(2, round(SHARE * len(members.split()))),
            )
        )
        for kind, members in words["categories"].items()
    }
    families["rhyme"] = {
        "word: rhymes": {
            word: [other for other in group if other != word]
            for group in rows(words["rhymes"])
            if len(group) > 3
            for [word] in d.words(f"rhyme {group[0]}", [[word] for word in group], 1)
        }
    }
    return families


def rules(d: Draw, words: dict, encoding) -> dict[str, dict]:
    """Names, words and numbers for tasks that need no knowledge."""
    families: dict[str, dict] = {}
    families["extraction"] = {
        "names_he": singles(d.words("he", rows(joined(words["names_he"])))),
        "names_she": singles(d.words("she", rows(joined(words["names_she"])))),
        "cities": singles(d.words("cities", rows(joined(words["cities"])))),
        "jobs": singles(d.words("jobs", rows(joined(words["jobs"])), 10)),
    }
    ordinary = lexicon(words)
    plain = [word for word in joined(words["common"]) if word not in ordinary]
    pool = rows(covered(plain, encoding))
    families["spelling"] = {"words": singles(d.words("spelling", pool, 60))}
    families["sorting"] = {
        "words": singles(d.words("sorting", pool, 60)),
        "numbers": d.numbers("sorted numbers", list(range(10, 100)), 18),
    }
    families["capitalisation"] = {"words": singles(d.words("capitalisation", pool, 40))}
    families["counting"] = {
        "words": singles(d.words("counting", [[word] for word in plain if len(word) > 4], 40))
    }
    small = {sign: sorted({tuple(sorted(pair)) for pair in number_pairs(sign)}) for sign in "+x"}
    families["arithmetic"] = {
        "sums": d.numbers("sums", small["+"], 40),
        "differences": d.numbers("differences", number_pairs("-"), 40),
        "products": d.numbers("products", small["x"], 12),
    }
    amounts = [(row[0], row[2], n) for row in rows(words["units"]) for n in range(2, 21)]
    families["unit_conversion"] = {"rows": d.numbers("units", amounts, round(SHARE * len(amounts)))}
    families["dates"] = {"day_month": d.numbers("dates", all_dates(), 60)}
    return families


def fact_words(words: dict) -> set[str]:
    """Every word of the facts, with the names of their relations."""
    texts = [text for name, them in all_facts(words).items() for text in [name, *sum(them, [])]]
    return set(re.findall("[a-z]+", " ".join(texts).lower()))


def draw_left_out(d: Draw, words: dict) -> list[list[str]]:
    """Capitals that no text states: of those that only the second lexicon has, each one word."""
    known = {
        tuple(fact_row(row)) for row in read_json(CHAPTER_5 / "words.json")["facts"]["capital"]
    }
    capitals = all_facts(words)["capital"]
    times = Counter(answer for _, answer in capitals)
    pool = [
        [country, city]
        for country, city in capitals
        if (country, city) not in known
        and times[city] == 1
        and re.fullmatch("[A-Z][a-z]+", city)
        and len(country.split()) < 3
        and city not in country
    ]
    return [["capital", *row] for row in d.numbers("left out", pool, LEFT_OUT)]


def questions(d: Draw, words: dict, left_out: list[list[str]]) -> dict[str, dict]:
    """Opposites, kinds, rhymes and facts that are read as statements and asked for only in the test.

    None has a word that is reserved for a rule.
    """

    def free(row) -> bool:
        return not d.taken & set(re.findall("[a-z]+", " ".join(row).lower()))

    families: dict[str, dict] = {}
    opposites = rows(words["opposites"] + words["opposites_by_rule"])
    families["antonym"] = {"rows": d.numbers("opposites", [*filter(free, opposites)], QUESTIONS)}
    families["categories"] = {}
    for kind, members in words["categories"].items():
        pool = [word for word in members.split() if free([word])]
        count = max(3, round(SHARE * len(pool)))
        families["categories"][kind] = d.numbers(f"kind {kind}", pool, count)
    asked = {}
    for group in rows(words["rhymes"]):
        if pool := [word for word in group if len(group) > 3 and free([word])]:
            [word] = d.numbers(f"rhyme of {group[0]}", pool, 1)
            asked[word] = [other for other in group if other != word]
    families["rhyme"] = {"word: rhymes": asked}

    pools = {
        relation: [row for row in them if free(row) and [relation, *row] not in left_out]
        for relation, them in all_facts(words).items()
    }
    counts = dict.fromkeys(pools, 2)
    while (
        sum(counts.values()) < QUESTIONS
    ):  # the next one from the relation with the fewest of its size
        counts[max(pools, key=lambda relation: len(pools[relation]) / counts[relation])] += 1
    families["facts"] = {
        "rows": [
            [relation, *row]
            for relation, pool in pools.items()
            for row in d.numbers(f"asked {relation}", pool, counts[relation])
        ]
    }
    return families


def lexicon(words: dict) -> set[str]:
    """Every word of words.json but those that are only `common`."""

    def strings(value):
        if isinstance(value, str):
            yield from value.lower().split()
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from key.split()
                yield from strings(item)
        elif isinstance(value, list):
            for item in value:
                yield from strings(item)

    return set(
        strings({name: value for name, value in words.items() if name not in ("about", "common")})
    )


def to_json(value, indent: str = "") -> str:
    """JSON in which a row of a list stands on one line, and so do as many single words as fit."""
    if isinstance(value, dict):
        parts = (f"{indent} {json.dumps(k)}: {to_json(v, indent + ' ')}" for k, v in value.items())
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}"
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and len(text) > 80:
        if isinstance(value[0], str):
            words = ", ".join(json.dumps(item).replace(" ", "\0") for item in value)
            lines = [line.replace("\0", " ") for line in textwrap.wrap(words, 98 - len(indent))]
        else:
            lines = [json.dumps(row) + "," * (row is not value[-1]) for row in value]
        return "[\n" + "\n".join(f"{indent} {line}" for line in lines) + f"\n{indent}]"
    return text


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--edition", type=int, choices=(1, 2), default=1)
    parser.add_argument(
        "--seed", type=int, help=f"default: {SEED}, or {SECOND_SEED} for the second"
    )
    parser.add_argument("--tokenizer", type=Path, help="default: the edition's own, of chapter 2")
    parser.add_argument("--out", type=Path, help="default: reserved.json or reserved_2.json")
    options = parser.parse_args(arguments)

    from shared import editions

    path = options.tokenizer or CHAPTER_2 / TOKENIZERS[options.edition]
    encoding = editions.load_encoding(path)
    if options.edition == 1:
        words = read_json(CHAPTER_5 / "words.json")
        reserved = draw(words, encoding, options.seed or SEED)
    else:
        reserved = draw_second(second_lexicon(), encoding, options.seed or SECOND_SEED)
        reserved["about"]["tokenizer"] = path.name
    out = options.out or HERE / ("reserved.json" if options.edition == 1 else "reserved_2.json")
    out.write_text(to_json(reserved) + "\n", encoding="utf-8", newline="\n")
    for family, lists in reserved["families"].items():
        print(f"{family}: " + ", ".join(f"{len(items)} {name}" for name, items in lists.items()))
    print(f"{len(reserved['words']):,} words in all their forms")


if __name__ == "__main__":
    main()
