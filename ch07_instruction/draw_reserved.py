"""Draw what chapter 7 will test with: `reserved.json`, from the lexicon of chapter 5.

    python ch07_instruction/draw_reserved.py                # reserved.json, of the first course model
    python ch07_instruction/draw_reserved.py --edition 2    # reserved_2.json, of the second

Drawn once, before anything was trained. The words listed there occur in no worksheet of chapter 5, and in no
training item of their family in chapter 7. The same seed and the same lexicon give the same file.

In the second edition this holds for rules only (spelling, past tense, …). A rule can be applied to a word that
was never seen, but a fact cannot be known that was never read. So the facts of the second are read in
pretraining, as statements, and only the questions about them are reserved.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import textwrap
from pathlib import Path

from reserved_families import (
    SHARE,
    Draw,
    draw_left_out,
    fact_words,
    inflected,
    knowledge_words,
    questions,
    rules,
)

from shared import encodings
from shared.lexicon import WORDS, all_facts, read_json, second_lexicon

HERE = Path(__file__).resolve().parent
CHAPTER_2 = HERE.parent / "ch02_text_data"
SEED, SECOND_SEED = 123, 2026
TOKENIZERS = {1: "course_tokenizer.txt", 2: "course_tokenizer_2.txt"}

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

    path = options.tokenizer or CHAPTER_2 / TOKENIZERS[options.edition]
    encoding = encodings.load_encoding(path)
    if options.edition == 1:
        words = read_json(WORDS)
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
