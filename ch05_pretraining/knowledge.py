"""Knowledge: an endless stream of short texts that state facts, each of them in many wordings.

    python ch05_pretraining/knowledge.py --show 5      # some documents
    python ch05_pretraining/knowledge.py               # what the stream measures

A model can answer a question about a fact that it read only as a statement, if it read it often and in many
wordings (Allen-Zhu and Li, 2023). So nothing here asks. What chapter 7 asks in its test (`reserved_2.json`)
is stated here like all the rest; only the facts that are listed there as `left_out` are not.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import functools
import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apart
from sheets import helpers
from sheets.helpers import tokens_in

from shared import encodings, lexicon
from shared.lexicon import read_json, upper

LISTS = [lexicon.WORDS, lexicon.KNOWLEDGE, lexicon.SECOND_RESERVED]
SOURCES = [
    Path(__file__).resolve(),
    Path(helpers.__file__),
    Path(lexicon.__file__),
    *LISTS,
]  # a function of these and the seed
# written with a vowel and spoken without: a uniform; and the other way round: an hour
SPOKEN_A = re.compile("(uni(?!m|n)|use|usu|ute|eu|ewe\\b|one\\b|uk)", re.IGNORECASE)
SPOKEN_AN = re.compile("[aeiou]|hour|honest|honor|heir", re.IGNORECASE)


@dataclass(frozen=True)
class Fact:
    """Something to know. Where there are several answers, as of a rhyme, `others` has them all."""

    relation: str
    family: str  # facts, antonym, categories or rhyme
    subject: str
    answer: str
    others: tuple[str, ...] = ()

    @property
    def wordings(self) -> list[str]:
        return knowledge()["relations"][self.relation]["wordings"]


knowledge = functools.cache(lambda: read_json(lexicon.KNOWLEDGE))
reserved_items = functools.cache(lambda: read_json(lexicon.SECOND_RESERVED))

# How many facts of a family are told. More could be; each would be read less often.
TOLD = {"facts": 600, "antonym": 240, "categories": 240, "rhyme": 140}


def all_known() -> Iterator[Fact]:
    """All facts of the second lexicon but those left out."""
    words, left_out = lexicon.second_lexicon(), reserved_items()["left_out"]
    for name, rows in lexicon.all_facts(words).items():
        yield from (Fact(name, "facts", *row) for row in rows if [name, *row] not in left_out)
    for row in words["opposites"] + words["opposites_by_rule"]:
        yield Fact("opposite", "antonym", *row.split())
    for kind, members in words["categories"].items():
        yield from (Fact("kind", "categories", word, kind) for word in members.split())
    for group in map(str.split, words["rhymes"]):
        for i, word in enumerate(group):
            others = tuple(group[:i] + group[i + 1 :])
            yield Fact("rhyme", "rhyme", word, others[0], others)


def reserved(fact: Fact) -> bool:
    """Whether chapter 7 asks for the fact in its test: it is told, and no training text asks for it."""
    return fact.answer.lower() in apart.reserved().get(fact.subject.lower(), ())


@functools.cache
def load_facts() -> tuple[Fact, ...]:
    """The facts that are told: the reserved ones and, drawn from the others, as many as TOLD says."""
    told: list[Fact] = []
    for family, count in TOLD.items():
        facts = [fact for fact in all_known() if fact.family == family]
        others = [fact for fact in facts if not reserved(fact)]
        drawn = random.Random(f"told {family}").sample(others, count - (len(facts) - len(others)))
        told += [fact for fact in facts if reserved(fact) or fact in drawn]
    return tuple(told)


def with_article(phrase: str) -> str:
    """The phrase with a or an, with "the", or as it is where it cannot be counted."""
    if phrase in knowledge()["pairs"]:
        return f"a pair of {phrase}"
    if phrase in knowledge()["mass"]:
        return phrase
    if phrase in knowledge()["the"]:
        return f"the {phrase}"
    an = SPOKEN_AN.match(phrase) and not SPOKEN_A.match(phrase)
    return f"an {phrase}" if an else f"a {phrase}"


@functools.cache
def plurals() -> dict[str, str]:
    words, more = lexicon.second_lexicon(), knowledge()
    nouns = dict(row.split() for row in words["nouns_regular"] + words["nouns_irregular"])
    return nouns | {word: word for word in more["mass"]} | more["plurals"]


def fill(wording: str, fact: Fact, subject: str, answer: str) -> str:
    """The wording with its places filled. KeyError for a plural that no list has."""
    one, many = knowledge()["kinds"][answer] if fact.relation == "kind" else ("", "")
    phrases = {"0": subject, "1": answer, "k": one, "ks": many}

    def phrase(match: re.Match) -> str:
        place = match[1].lower()
        text = plurals()[subject] if place == "p0" else phrases[place.lstrip("ac")]
        text = with_article(text) if place[0] == "a" else text
        return upper(text) if match[1] != place else text

    return re.sub(r"\{(\w+)\}", phrase, wording)


def statement(rng: random.Random, fact: Fact, wording: str | None = None) -> str:
    """The fact in one of its wordings; opposites in either direction."""
    wording = wording or rng.choice(fact.wordings)
    subject, answer = fact.subject, rng.choice(fact.others) if fact.others else fact.answer
    if fact.family == "antonym" and rng.random() < 0.5:
        subject, answer = answer, subject
    return fill(wording, fact, subject, answer)


class Deck:
    """Deals facts like cards: all of them once, shuffled, and then anew."""

    def __init__(self, rng: random.Random, facts: tuple[Fact, ...]):
        self.rng, self.facts, self.cards = rng, facts, []

    def deal(self, count: int, same: str | None = None) -> list[Fact]:
        """So many facts; with the same relation or subject, as long as there are any."""
        dealt: list[Fact] = []
        while len(dealt) < count:
            self.cards = self.cards or self.rng.sample(self.facts, len(self.facts))
            alike = (f for f in self.cards if getattr(f, same) == getattr(dealt[0], same))
            card = next(alike, self.cards[0]) if same and dealt else self.cards[0]
            self.cards.remove(card)
            dealt.append(card)
        return dealt


def labelled_documents(seed: int, facts=None, framed=0.5) -> Iterator[tuple[str, list[Fact]]]:
    """The stream, each document with its facts; `framed` is the share of scenes, letters and talks."""
    rng, facts = random.Random(f"knowledge {seed}"), facts or load_facts()
    words = lexicon.second_words(None)
    deck, again = Deck(rng, facts), Deck(rng, facts)

    def passage() -> tuple[str, list[Fact]]:
        """A frame, with facts in it."""
        frame = rng.choice(knowledge()["frames"])
        places = list(dict.fromkeys(re.findall(r"\{((?:fact|said)\d?)\}", frame)))
        read = deck.deal(len(places), rng.choice((None, "relation")))
        filled = {place: statement(rng, fact) for place, fact in zip(places, read)}
        filled |= {place: filled[place].removesuffix(".") for place in places if place[0] == "s"}
        filled["one"], filled["two"] = rng.sample(words.names, 2)
        filled["place"], filled["thing"] = rng.choice(words.places), rng.choice(words.things)
        return frame.format_map(filled), read

    def paragraph() -> tuple[str, list[Fact]]:
        """Any facts, or some of one relation or about one subject, or two again and again."""
        count = rng.randint(4, 9)
        form = rng.choice(("again", "relation", "subject", None))
        if form == "again":
            told = [(f, how) for f in again.deal(2) for how in rng.sample(f.wordings, count // 2)]
            rng.shuffle(told)
        else:
            told = [(fact, None) for fact in deck.deal(count, form)]
        return " ".join(statement(rng, *each) for each in told), [fact for fact, _ in told]

    while True:
        make, room = passage if rng.random() < framed else paragraph, rng.uniform(45, 140)
        made = []
        while room > sum(tokens_in(text) for text, _ in made):
            made.append(make())
        yield "\n\n".join(text for text, _ in made), [fact for _, read in made for fact in read]


def documents(seed: int, facts=None, framed=0.5) -> Iterator[str]:
    """Texts that state facts, without end, the same for the same seed. Example: `next(documents(123))`."""
    return (text for text, _ in labelled_documents(seed, facts, framed))


def probes(fact: Fact) -> list[tuple[str, str]]:
    """(prompt, completion): starts of sentences that no document contains, and how they go on."""
    starts = knowledge()["relations"][fact.relation]["probes"]
    return [(fill(start, fact, fact.subject, fact.answer), f" {fact.answer}") for start in starts]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--show", type=int, default=0, help="print so many documents instead")
    parser.add_argument("--framed", type=float, default=0.5, help="share of scenes and letters")
    parser.add_argument("--tokenizer", type=Path, help="to measure with; default: the first")
    options = parser.parse_args(arguments)
    stream = labelled_documents(123, framed=options.framed)
    if options.show:
        print("\n=====\n".join(text for text, _ in itertools.islice(stream, options.show)))
        return
    encoding = encodings.load_encoding(options.tokenizer or encodings.COURSE_TOKENIZER)
    stream, facts = list(itertools.islice(stream, 2_000)), load_facts()
    lengths = sorted(len(encoding.encode_ordinary(text)) for text, _ in stream)
    total, read = sum(lengths), sum(len(stated) for _, stated in stream)
    print(f"{len(stream):,} documents, {len({text for text, _ in stream}):,} of them distinct,")
    print(f"of {total / len(stream):.0f} tokens ({lengths[0]} to {lengths[-1]})")
    print(f"a fact is read {1e6 * read / len(facts) / total:.0f} times in a million tokens")
    print(f"{len(facts):,} facts:", dict(Counter(fact.relation for fact in facts)))


if __name__ == "__main__":
    main()
