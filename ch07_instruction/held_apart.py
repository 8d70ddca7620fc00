"""What a hand-written entry may not say, because the test will ask for it.

What a program makes keeps clear of the reserved words by itself. A person who writes does not think of them all, so
such entries are left out. Rather too many than too few: a chance match costs one entry of a thousand.
"""

import functools
import re

from shared.lexicon import MONTHS, SECOND_RESERVED, read_json

KNOWLEDGE = {"antonym", "categories", "rhyme", "facts"}
NUMBERS = {"arithmetic", "unit_conversion", "dates"}


def words_in(text: str) -> set[str]:
    """In small letters, each also without the s of a plural; a word written letter by letter counts, too."""
    joined = re.sub(r"(?<=\b\w)(?:-|, )(?=\w\b)", "", text)
    words = {word.lower() for word in re.findall(r"[A-Za-z]+(?:-[A-Za-z]+)*", f"{text} {joined}")}
    return words | {word.removesuffix("s") for word in words}


@functools.cache
def kept() -> dict:
    return read_json(SECOND_RESERVED)


@functools.cache
def answers() -> list[tuple[str, str]]:
    """(subject, answer) of every reserved question, and of the facts that no text states."""
    f = kept()["families"]
    found = [(subject, answer) for _, subject, answer in f["facts"]["rows"] + kept()["left_out"]]
    found += [pair for a, b in f["antonym"]["rows"] for pair in ((a, b), (b, a))]
    for kind, words in f["categories"].items():
        found += [(word, "part" if kind == "body" else kind) for word in words]
    for word, group in f["rhyme"]["word: rhymes"].items():
        found += [(word, other) for other in group]
    return found


def strings(value) -> set[str]:
    """All words in lists of lists."""
    if isinstance(value, str):
        return {value.lower()}
    return set().union(*map(strings, value)) if isinstance(value, list) else set()


@functools.cache
def own_words(family: str) -> set[str]:
    """The words that a family of rules is tested with; none for other families."""
    lists = kept()["families"].get(family, {})
    return strings(list(lists.values())) if family not in KNOWLEDGE | NUMBERS else set()


@functools.cache
def people() -> set[str]:
    lists = kept()["families"]["extraction"]
    return strings([lists[name] for name in ("names_he", "names_she", "cities")])


def tested_numbers(text: str) -> bool:
    """Whether it holds the numbers of a reserved sum and what they make, or a reserved amount or date."""
    f, numbers = kept()["families"], {int(n) for n in re.findall(r"\d+", text)}
    sums = f["arithmetic"]
    made = [{one, two, one + two} for one, two in sums["sums"]]
    made += [{one, two, one - two} for one, two in sums["differences"]]
    made += [{one, two, one * two} for one, two in sums["products"]]
    if any(three <= numbers for three in made):
        return True
    words = words_in(text)
    if any(n in numbers and {one, small} <= words for one, small, n in f["unit_conversion"]["rows"]):  # fmt: skip
        return True
    months = {i for i, month in enumerate(MONTHS, 1) if month.lower() in words} | numbers
    return any(day in numbers and month in months for day, month in f["dates"]["day_month"])


def tested(entry: dict) -> bool:
    """Whether an entry says something that the test asks for."""
    before = " ".join(turn["content"] for turn in entry.get("before", []))
    prompt, output = f"{before} {entry['instruction']} {entry['input']}", entry["output"]
    asked, said = words_in(prompt), words_in(output)
    if (asked | said) & (own_words(entry["family"]) | people()):
        return True
    if entry["family"] in NUMBERS and tested_numbers(f"{prompt} {output}"):
        return True
    sorted_numbers = set(kept()["families"]["sorting"]["numbers"])
    if entry["family"] == "sorting" and sorted_numbers & {int(n) for n in re.findall(r"\d+", prompt)}:  # fmt: skip
        return True
    return any(words_in(s) <= asked and words_in(a) <= said and s != a for s, a in answers())
