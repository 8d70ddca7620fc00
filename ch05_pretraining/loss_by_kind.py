"""How hard a text is to predict, by where it comes from, by how much was read before, and by kind of word.

    python ch05_pretraining/loss_by_kind.py --corpus FOLDER --valid FOLDER    # into loss_by_kind.csv

All in bits per byte, so that models with different tokenizers can be compared on the same bytes: passages of 600 bytes,
which fit into the context of both. Sources: the held-out works of --corpus, each file of --valid, and new worksheets and
stated facts from the programs that wrote those of the training. A token's loss counts for the word that it is a part
of, the space before it included. Passages are short, so the numbers lie above those of measures.csv.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import experiment
import knowledge
import numpy as np
import pandas as pd
import torch
import worksheets
from ship import texts_of

from shared import encodings
from shared.corpus import HELD_OUT, read_documents, split_held_out
from shared.guards import evaluation_mode
from shared.lexicon import second_words
from shared.pretraining import bits_per_byte

SIZE, STEP = 600, 100  # bytes of a passage, and of the places that are counted together
SEED = 7  # of new worksheets and facts; those of a run have seeds above a thousand
WORD = re.compile(rb"\s*(?:[A-Za-z]+|[0-9]+|[^A-Za-z0-9\s]+)|\s+")
FUNCTION = set(
    "a an the and or but if so as than that this these those of to in on at by for from with into out up down over "
    "is are was were be been am do does did has have had will would can could shall should may might must not no "
    "i you he she it we they me him her us them my your his its our their who what which when where how there then".split()
)  # fmt: skip


def passages(text: str, count: int) -> Iterator[bytes]:
    """Passages of about SIZE bytes from one text, spread over it, from word to word."""
    data = text.encode()
    for start in np.linspace(0, max(0, len(data) - SIZE - STEP), count).astype(int):
        start = start and data.find(b" ", start) + 1  # the first one starts with the text
        piece = data[start : start + SIZE].rpartition(b" ")[0]
        if len(piece) > SIZE - STEP:
            yield piece


def kinds(passage: bytes) -> list[tuple[int, str]]:
    """`[(where a word ends, its kind)]`, the space before it a part of it; in the order of the text."""
    found, seen, capital = [], set(), False
    for match in WORD.finditer(passage):
        word = match[0].strip().decode(errors="replace")
        if word.isdigit():
            kind = "digits"
        elif not word[:1].isalpha():
            kind = "signs and line ends"
        elif word.lower() in FUNCTION:
            kind = "function words"
        elif word[0].isupper() and capital:  # a capital within a sentence
            kind = "names, again" if word in seen else "names, first time"
        else:
            kind = "other words, again" if word.lower() in seen else "other words, first time"
        seen |= {word, word.lower()}
        capital = word[:1].isalnum() or word in (",", ";", "'", "-")
        found.append((match.end(), kind))
    return found


@torch.inference_mode()
def losses(subject: experiment.Subject, passage: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """`(where each token ends, its nats)`; None if the passage is too long for the context."""
    text = passage.decode(errors="ignore")
    ids = [subject.encoding.eot_token, *subject.encoding.encode_ordinary(text)]
    if len(ids) > subject.context:
        return None
    ids = torch.tensor([ids])
    found = subject.model(ids[:, :-1]).log_softmax(dim=-1).gather(-1, ids[:, 1:, None])
    sizes = [len(subject.encoding.decode_single_token_bytes(i)) for i in ids[0, 1:].tolist()]
    return np.cumsum(sizes), -found[0, :, 0].double().numpy()


def counted(subject: experiment.Subject, source: str, texts: list[bytes]) -> list[dict]:
    """Rows of a source: all of it, each place in a passage, each kind of word."""
    nats, size = defaultdict(float), defaultdict(int)
    with evaluation_mode(subject.model):
        for passage in texts:
            if (found := losses(subject, passage)) is None:
                continue
            ends, words, w, before = found[0], kinds(passage), 0, 0
            for end, loss in zip(*map(np.ndarray.tolist, found)):
                while words[w][0] < end:  # a token belongs to the word in which it ends
                    w += 1
                place = min(before, SIZE - 1) // STEP * STEP
                for key in ("all", f"from byte {place}", words[w][1]):
                    nats[key] += loss
                    size[key] += end - before
                before = end
            assert ends[-1] == len(passage)
    return [{"source": source, "part": key, "bits_per_byte": bits_per_byte(nats[key], size[key]), "bytes": size[key]}
            for key in sorted(nats)]  # fmt: skip


def sources(options) -> dict[str, list[bytes]]:
    """Passages of each source, the same for every model."""
    texts: dict[str, list[str]] = {}
    if options.corpus:
        held_out = split_held_out(read_documents(options.corpus), options.held_out)[1]
        texts |= {document.title: [document.text] for document in held_out}
    for place in options.valid:
        texts |= {name: [d.text for d in them] for name, them in texts_of(place).items()}
    words = second_words(encodings.load_encoding(encodings.COURSE_TOKENIZER))
    for name, stream in (("worksheets", worksheets.documents(SEED, words)), ("stated facts", knowledge.documents(SEED))):  # fmt: skip
        texts[name] = ["\n\n".join(itertools.islice(stream, 200))]
    found = {name: list(passages("\n\n".join(them), options.count)) for name, them in texts.items()}
    # what some context is too short for is left out for all of them
    both = [encodings.course_encoding(first) for first in (True, False)]
    return {name: [p for p in them if all(len(e.encode_ordinary(p.decode(errors="ignore"))) < 256 for e in both)]
            for name, them in found.items()}  # fmt: skip


def measure(subject: experiment.Subject, options) -> pd.DataFrame:
    """A row for each source and part."""
    rows = []
    for name, texts in sources(options).items():
        rows += counted(subject, name, texts)
    return pd.DataFrame(rows)


def by_source(table: pd.DataFrame) -> pd.DataFrame:
    """Bits per byte: sources below each other, models side by side."""
    whole = table[table.part == "all"]
    return whole.pivot_table(index="source", columns="model", values="bits_per_byte")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--corpus", type=Path, help="folder with the works of which some are held out")
    add("--held-out", type=Path, default=HELD_OUT, help="list of those")
    add("--valid", type=Path, nargs="+", default=[], help="further texts: folders or files")
    add("--count", type=int, default=40, help="passages of a source (default: 40)")
    stored = Path(__file__).with_suffix(".csv")
    experiment.run(parser, arguments, measure, stored, show=by_source)


if __name__ == "__main__":
    main()
