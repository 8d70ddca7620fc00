"""Sheets that say the same again: lists, letters, tokens, sentences."""

import functools
import itertools
import random
import re

import tiktoken
from names import ordinary_tokens

from shared import encodings
from shared.invented import invent, pieces
from shared.lexicon import Words, upper

from .helpers import bag, between, clause, forms, heading, say, separator, speaker, stack, tokens_in


@functools.cache
def word_tokens(tokenizer: tiktoken.Encoding | None) -> list[str]:
    """The tokenizer's ordinary tokens, most with a space before them; None: the first course tokenizer's."""
    tokenizer = tokenizer or encodings.course_encoding(first=True)
    return [tokenizer.decode([i]) for i in ordinary_tokens(tokenizer)]


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
    text = "".join(rng.choices(word_tokens(w.tokenizer), k=rng.randint(20, 110))).strip()
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
