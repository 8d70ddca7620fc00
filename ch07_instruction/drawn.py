"""More training items for make_assistant.py than instructions.json holds, drawn with the same functions.

The pool is wider: words that do not exist, larger numbers, questions about strangers. Nothing that is reserved for
the test is in it.
"""

import random
from types import SimpleNamespace

import families
import make_instructions

from shared.invented import VOWELS, invent, pieces
from shared.lexicon import second_words, upper

# these go into the letters of a word: four times as many are drawn
SLOW = {"spelling", "sorting", "capitalisation"}
MADE_UP = 3_000  # words that do not exist, for each purpose
# of what is written by hand there is little: an epoch has it so many times
AGAIN = {"talk": 5, "unknowable": 8, "look_alike": 8, "write_sentence": 3, "describe": 3, "explain": 3}  # fmt: skip
STRANGERS = 1_000  # questions about people who do not exist, half of them with the answer in front


def inflected(word: str, ending: str) -> str:
    """A regular past (ending "ed") or plural ("s") of a word of several syllables."""
    if word[-1] == "y" and word[-2] not in VOWELS:
        return f"{word[:-1]}ie{ending[-1]}"
    if ending == "s":
        return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")
    return word + ("d" if word.endswith("e") else "ed")


def wide_pool(seed: int) -> SimpleNamespace:
    """The words to learn from, and far more, made up or put to another use.

    With a few hundred names and verbs a model learns those by heart, and forgets to read its prompt.
    """
    w, pool = second_words(None), make_instructions.learned_pool()
    pool.sums = dict(pool.sums)  # the other lists are replaced, not changed
    rng = random.Random(f"wide {seed}")

    def made_up(count=MADE_UP):
        return [rng.choice((invent, pieces))(rng, w) for _ in range(count)]

    def words():
        return made_up() + rng.choices(pool.spelled, k=MADE_UP)

    for use in ("spelled", "sorted", "counted", "capitalised"):
        setattr(pool, use, getattr(pool, use) + made_up())
    pool.names = 5 * pool.names + [word.capitalize() for word in words()]
    pool.cities = 10 * pool.cities + [word.capitalize() for word in words()]
    pool.jobs, pool.adjectives = 20 * pool.jobs + words(), 10 * pool.adjectives + words()
    ended = [invent(rng, w) + rng.choice(("", "", "e", "y")) for _ in range(MADE_UP)]
    regular = [[word, *2 * [inflected(word, "ed")]] for word in ended]
    things = words()
    verbs = 2 * pool.verbs + regular[: MADE_UP // 3]
    pool.done = 5 * pool.done + [(verb, rng.choices(things, k=5)) for verb in verbs]
    pool.asked = 10 * pool.asked + verbs
    pool.verbs = 3 * pool.verbs + regular[: MADE_UP // 3]
    pool.nouns = 3 * pool.nouns + [[word, inflected(word, "s")] for word in ended[: MADE_UP // 3]]
    negated = [[rng.choice(("un", "un", "dis")) + word, word] for word in rng.sample(things, 1_000)]
    pool.opposites = 4 * pool.opposites + negated
    more = [(one, two) for one in range(1, 60) for two in range(1, 60) if one + two > 40]
    pool.sums["+"] = 4 * pool.sums["+"] + more
    pool.sums["-"] = 4 * pool.sums["-"] + [(one, two) for one, two in more if one > max(two, 24)]
    rows = {row[0] + row[2]: row for row, _ in pool.amounts}.values()
    pool.amounts = 3 * pool.amounts + [(row, n) for row in rows for n in range(21, 60)]
    return pool


def strangers(count: int, pool: SimpleNamespace, seed: int) -> list[dict]:
    """Where somebody lives, or works as what, or how old they are: half of the questions after a sentence that says so."""
    rng, made = random.Random(f"strangers {seed}"), []
    for i in range(count):
        text, said = families.about_someone(rng, pool)
        form = rng.choice([form for form in said if form != "name"] or ["name"])
        asked = {
            "name": "What is the name of my neighbor?",
            "city": "In which city does {} live?",
            "job": "What is {}'s job?",
            "age": "How old is {}?",
        }[form].format(said.get("name", ""))
        if i % 2 and form in said:
            one = {"instruction": f"{upper(text)} {asked}", "output": f"{upper(said[form])}."}
        else:
            why = rng.choice(("I have never heard of that person.", "That name is new to me."))
            one = {"instruction": asked, "output": f"I don't know. {why}"}
        made.append(one | {"input": "", "family": "stranger", "split": "train"})
    return made


def drawn_items(count: int, seed: int, known: list[dict]) -> list[dict]:
    """`count` more training items of each family, or as many as there are, and of a slow one four times as many.

    None is known, and nothing that is reserved for the test is in them.
    """
    asked = {(entry["instruction"], entry["input"]) for entry in known}
    pool, drawn = wide_pool(seed), []
    for make in make_instructions.FAMILIES:
        n = 4 * count if make.__name__ in SLOW else count
        drawn += make_instructions.draw(make, pool, f"more {seed}", "train", n, asked)
    rng = random.Random(f"small letters {seed}")
    for entry in drawn:  # people type like this, too
        if entry["input"] and rng.random() < 0.15:
            entry["instruction"] = entry["instruction"].lower().rstrip(".?!")
    return drawn + strangers(min(count, STRANGERS), pool, seed)


def balanced(entries: list[dict]) -> list[dict]:
    """The entries, those of which there are few several times."""
    again = [
        one
        for one in entries
        if one["split"] == "train"
        for _ in range(AGAIN.get(one["family"], 1) - 1)
    ]
    return entries + again


def in_talk(entries: list[dict], seed: int, share: float = 0.15) -> list[dict]:
    """The entries, but before some training items stands another item with its answer: as in a chat, where the last
    exchange is read again, whatever it was about."""
    rng = random.Random(f"in talk {seed}")
    short = [one for one in entries if one["split"] == "train" and len(one["output"]) < 40]

    def turns(one):
        asked = one["instruction"] + (f" | {one['input']}" if one["input"] else "")
        return [{"role": "user", "content": asked}, {"role": "assistant", "content": one["output"]}]

    return [
        one | {"before": turns(rng.choice(short))}
        if one["split"] == "train" and not one.get("before") and rng.random() < share
        else one
        for one in entries
    ]
