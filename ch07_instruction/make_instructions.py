"""Make chapter 7's instructions: instructions.json, from lists of words and from hand-written entries.

    python ch07_instruction/make_instructions.py

Of rules (past tense, spelling, ...) the test asks for words that no training item of the family contains. Of knowledge
(opposites, kinds, rhymes, facts) it asks questions that no training text contains; pretraining read the answers as
statements. Each test item is asked twice: in a wording that training has, too, and in one kept for the test.
The same seed gives the same file.
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

from families import FAMILIES, PHRASES, Item, Pool
from held_apart import tested

from shared.lexicon import (
    SECOND_RESERVED,
    all_dates,
    all_facts,
    read_json,
    second_lexicon,
    second_words,
)

HERE = Path(__file__).resolve().parent
SEED = 2026
TRAIN, VALIDATION, TEST = 570, 30, 50  # items of a family
HELD_BACK = 20  # of the hand-written entries, and of the talks, one in so many is for validation
LOOK_ALIKES = (
    3  # of the answerable questions that look unanswerable, one in so many is for the test
)
TOLD = 600  # facts that pretraining states; see chapter 5's knowledge.py


# --- which words ---


def told() -> list[tuple[str, str, str]]:
    """The (relation, subject, answer) that course-gpt has read, as chapter 5's `knowledge.load_facts` draws them.

    About other facts no item asks: an answer that the model cannot know would only teach it to make up one.
    """
    kept = read_json(SECOND_RESERVED)
    rows = [(name, *row) for name, them in all_facts(second_lexicon()).items() for row in them]
    rows = [row for row in rows if list(row) not in kept["left_out"]]
    asked = {tuple(row) for row in kept["families"]["facts"]["rows"]}
    others = [row for row in rows if row not in asked]
    count = TOLD - (len(rows) - len(others))
    drawn = random.Random("told facts").sample(others, count)
    return [row for row in rows if row in asked or row in drawn]


def learned_pool() -> Pool:
    """The words to learn from: all but the reserved. Named as in `kept_pool`."""
    w = second_words(None)
    plain = [word for word in w.common if 3 <= len(word) <= 9]
    forms = {verb[0]: verb for verb in w.verbs}
    known = {(name, *row) for name, rows in w.facts.items() for row in rows}
    return Pool(
        **{name: getattr(w, name) for name in "nouns opposites adjectives names cities jobs sums numbers".split()},
        **dict.fromkeys(("spelled", "sorted", "counted", "capitalised"), plain),
        verbs=[verb for verb in w.verbs if verb[0] != "be"],
        done=[(list(verb), objects) for *verb, objects in w.transitive],
        asked=[forms[verb] for verb in w.intransitive],
        categories={word: kind for kind, words in w.categories.items() for word in words},
        rhymes={one: [o for o in them if o != one] for them in w.rhymes for one in them if them[1:]},
        facts=[row for row in told() if row in known],
        amounts=[(row, n) for row, many in w.units for n in many],
        dates=[date for date in w.dates if date != (29, 2)],  # not in every year
        days=[date for date in w.dates if date != (29, 2)],
    )  # fmt: skip


def kept_pool() -> Pool:
    """The words to test with: the reserved ones of each family."""
    words, f = second_lexicon(), read_json(SECOND_RESERVED)["families"]
    people, asked, sums = f["extraction"], f["statement_to_question"], f["arithmetic"]
    units = {(row.split()[0], row.split()[2]): row.split() for row in words["units"]}
    return Pool(
        verbs=f["past_tense"]["regular"] + f["past_tense"]["irregular"],
        nouns=f["plural"]["regular"] + f["plural"]["irregular"],
        opposites=f["antonym"]["rows"],
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


def unread(rng: random.Random, p: Pool) -> Item:
    """A capital that no training text names: who gets it right has guessed."""
    return facts(rng, Pool(facts=read_json(SECOND_RESERVED)["left_out"]))


facts = FAMILIES[-1]


# --- how they are put ---


def entry(rng: random.Random, family: str, item: Item, split: str, reserved: bool = False) -> dict:
    """The item in one of its wordings; other right answers only where answers are scored."""
    family_of = "facts" if family == "unread" else family
    forms = PHRASES["reserved" if reserved else "wordings"][family_of][item.form]
    wording = (forms if reserved else rng.choice(forms)).format(*item.values)
    instruction, _, given = wording.partition(" | ")
    made = {"instruction": instruction, "input": given, "output": item.output}
    made |= {"family": family, "split": split}
    made |= {"wording": "reserved" if reserved else "known"} if split == "test" else {}
    accept = item.accept + PHRASES["accept"].get(family_of, {}).get(item.key, [])
    accept = [other for other in dict.fromkeys(accept) if other != item.output]
    return made | {"accept": accept} if accept and split != "train" else made


def draw(make: Callable, pool: Pool, seed: str, split: str, count: int, known: set) -> list[dict]:
    """Up to `count` items, each text once; for the test each reserved thing once, in a known and a reserved wording."""
    rng, made = random.Random(f"instructions {seed} {make.__name__} {split}"), []
    kinds = (False, True) if split == "test" else (False,)
    for _ in range(100 * count):
        item = make(rng, pool)
        both = [entry(rng, make.__name__, item, split, kind) for kind in kinds]
        keys = {(one["instruction"], one["input"]) for one in both}
        keys |= {(make.__name__, item.key)} if split == "test" else set()
        if not known & keys:
            known |= keys
            made += both
        if len(made) == len(kinds) * count:
            break
    return made


# --- what was written by hand ---


def conversations() -> list[dict]:
    """Small talk: an entry for each answer; of a second one `before` holds what was said before it."""
    made = []
    for i, talk in enumerate(read_json(HERE / "smalltalk.json")["train"]):
        said = [{"role": turn["role"], "content": turn["text"]} for turn in talk["turns"]]
        split = "train" if i % HELD_BACK else "validation"
        for at in range(0, len(said), 2):
            asked, answered = said[at]["content"], said[at + 1]["content"]
            one = {"instruction": asked, "input": "", "output": answered, "family": "talk"}
            made.append(one | {"split": split} | ({"before": said[:at]} if at else {}))
    return made


def doubtful() -> list[dict]:
    """Questions that cannot be answered from what the assistant has, and some that look like them and can be."""
    data = read_json(HERE / "smalltalk.json")
    made = []
    for i, one in enumerate(data["unknowable_train"]):
        made.append(one | {"family": "unknowable", "split": "train" if i % HELD_BACK else "validation"})  # fmt: skip
    for i, one in enumerate(data["answerable_lookalikes"]):
        made.append(one | {"family": "look_alike", "split": "train" if i % LOOK_ALIKES else "test"})
    answer = {"output": "I don't know.", "family": "unknowable", "split": "test"}
    return made + [one | answer for one in data["unknowable_test"]]


def instructions(seed: int = SEED) -> list[dict]:
    """Every entry: training, then validation, both shuffled; then the test, the hand-written first."""
    core, learned, kept = read_json(HERE / "core.json"), learned_pool(), kept_pool()
    spoken = conversations() + doubtful()
    core, spoken = (
        [one for one in them if one["split"] == "test" or not tested(one)]
        for them in (core, spoken)
    )
    written = [one for one in core if one["split"] == "train"]
    validation = [one | {"split": "validation"} for one in written[::HELD_BACK]]
    train = [one for i, one in enumerate(written) if i % HELD_BACK]
    train += [one for one in spoken if one["split"] == "train"]
    validation += [one for one in spoken if one["split"] == "validation"]
    test = [one for one in core + spoken if one["split"] == "test"]
    known = {(one["instruction"], one["input"]) for one in core + spoken}
    for make in FAMILIES:
        test += draw(make, kept, seed, "test", TEST, known)
    test += draw(unread, kept, seed, "test", TEST, known)
    for make in FAMILIES:
        validation += draw(make, learned, seed, "validation", VALIDATION, known)
        train += draw(make, learned, seed, "train", TRAIN, known)
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
