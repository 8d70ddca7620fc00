"""Worksheets: an endless stream of structured text from which a small GPT learns to copy from its context.

    python ch05_pretraining/worksheets.py --show 3      # some of every kind
    python ch05_pretraining/worksheets.py               # what the stream measures

Prose alone teaches a small model little about looking back. A worksheet repeats, reverses, sorts, spells
and inflects words, asks who has what, defines made-up words and uses them again; most of what comes late
in it can be read off what came early. Words that chapter 7 tests with (`ch07_instruction/reserved.json`)
occur in none of it, nor do the wordings of its instructions. The words come from `shared/lexicon.py`, in one of
its two editions; the kinds of sheets are in `sheets/`.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sheets.language import (
    asking,
    capitals,
    doers,
    inflections,
    known,
    opposites,
    plurals,
    rhyming,
    sorts,
    spelled,
)
from sheets.lookup import (
    code,
    dictionary,
    in_order,
    lookup,
    missing,
    places_in_list,
    table,
    turned,
)
from sheets.numbers import calendar, counting_up, measures, sums, tallies
from sheets.repeating import (
    changed,
    cycle,
    neighbours,
    quoted,
    repeated,
    run_together,
    scrambled,
)
from sheets.stories import cards, tale, who_has, who_said

from shared import encodings, invented, lexicon
from shared.lexicon import Words, load_words

HERE = Path(__file__).resolve().parent
CODE = [*sorted(HERE.glob("sheets/*.py")), HERE / "names.py", lexicon.__file__, invented.__file__]
LISTS = [lexicon.WORDS, lexicon.KNOWLEDGE, lexicon.SECOND_RESERVED]
# the second edition's stream is a function of these, its tokenizer and the seed
SOURCES = [Path(__file__).resolve(), *map(Path, CODE), *LISTS]

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
    load_words()
    start = time.perf_counter()
    stream = list(itertools.islice(labelled_documents(options.seed), options.count))
    seconds = time.perf_counter() - start
    size = sum(len(text.encode()) for _, text in stream)
    encoded = encodings.tokenizer().encode_ordinary_batch(
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
