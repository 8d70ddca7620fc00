"""What `draw_reserved.py` draws for each family of tasks, and how."""

import random
import re
from collections import Counter

from shared.lexicon import WORDS, all_dates, all_facts, fact_row, joined, number_pairs, read_json

SHARE = 0.15  # of each list
LEAST = 24  # words in a family
QUESTIONS = 60  # in a family of knowledge
LEFT_OUT = 20  # facts


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
    known = {tuple(fact_row(row)) for row in read_json(WORDS)["facts"]["capital"]}
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
