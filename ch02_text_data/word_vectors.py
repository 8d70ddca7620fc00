"""Word vectors for the picture in section 2.1: counted, not trained by a network.

    python ch02_text_data/word_vectors.py --corpus FOLDER

Words that stand among the same words get similar vectors. Counts of neighbors (4 to each side)
become positive pointwise mutual information, with contexts smoothed by the power 0.75, and its
singular vectors, weighted by the roots of the singular values, become the coordinates (Levy,
Goldberg and Dagan, Improving Distributional Similarity, 2015). Writes word_vectors.csv, and prints
how many words have a nearest neighbor of their own group.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import csv
import re
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np

from shared.corpus import Document, read_documents
from shared.files import seal

GROUPS = {
    "royalty": "king queen prince princess emperor duke",
    "family": "father mother brother sister uncle aunt son daughter",
    "animals": "dog cat horse cow pig sheep wolf lion fox mouse",
    "colors": "red blue green yellow white black purple",
    "food": "bread butter cheese milk meat soup cake",
    "body": "hand arm foot head neck shoulder finger",
    "time": "minute hour day week month year",
    "motion": "walked ran jumped climbed crept hurried",
    "speech": "said asked answered replied cried whispered",
    "numbers": "two three four five six seven ten",
}
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
WINDOW, KNOWN, CONTEXTS = 4, 8_000, 2_000  # neighbors each side; most frequent words


def to_ids(documents: list[Document], known: dict[str, int]) -> np.ndarray:
    """All words as IDs, -1 for an unknown one; works are kept apart by a window of -1."""
    gap = [-1] * WINDOW
    ids = ([known.get(word, -1) for word in words(d)] + gap for d in documents)
    return np.fromiter(chain.from_iterable(ids), dtype=np.int32)


def words(document: Document) -> list[str]:
    return WORD.findall(document.text.lower())


def count_neighbors(ids: np.ndarray, words: int, contexts: int) -> np.ndarray:
    """How often each context stands near each word: `(words, contexts)`."""
    counts = np.zeros(words * contexts)
    for distance in range(1, WINDOW + 1):
        left, right = ids[:-distance].astype(np.int64), ids[distance:].astype(np.int64)
        for word, context in ((left, right), (right, left)):
            both = (word >= 0) & (context >= 0) & (context < contexts)
            pairs = word[both] * contexts + context[both]
            counts += np.bincount(pairs, minlength=len(counts))
    return counts.reshape(words, contexts)


def ppmi(counts: np.ndarray) -> np.ndarray:
    """How much more often than by chance a word and a context meet: the log, where positive."""
    word = counts.sum(1, keepdims=True) / counts.sum()
    context = counts.sum(0, keepdims=True) ** 0.75
    expected = word * context / context.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(np.maximum(np.log(counts / counts.sum() / expected), 0)).astype("f4")


def squeeze(table: np.ndarray, dimensions: int) -> np.ndarray:
    """The best rows of so few numbers: singular vectors of a tall table, by way of its square."""
    values, vectors = np.linalg.eigh((table.T @ table).astype("f8"))
    top = slice(-1, -dimensions - 1, -1)
    rows = table @ vectors[:, top] / values[top] ** 0.25  # U times the root of S
    return rows * np.sign(rows[0])  # the sign is free: the most frequent word is positive


def neighbors(vectors: np.ndarray) -> np.ndarray:
    """For each row, all rows by falling cosine; the first is the row itself."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.argsort(-(unit @ unit.T), axis=1)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.txt and *.txt.gz")
    parser.add_argument("--dimensions", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("word_vectors.csv"))
    options = parser.parse_args(arguments)
    try:
        documents = read_documents(options.corpus)
        frequency = Counter()
        for document in documents:
            frequency.update(words(document))
        known = {word: i for i, (word, _) in enumerate(frequency.most_common(KNOWN))}
        chosen = {word: group for group, names in GROUPS.items() for word in names.split()}
        if rare := [word for word in chosen if word not in known]:
            raise ValueError(f"not among the {KNOWN:,} most frequent words: {', '.join(rare)}")
        counts = count_neighbors(to_ids(documents, known), len(known), CONTEXTS)
        vectors = squeeze(ppmi(counts), options.dimensions)[[known[word] for word in chosen]]
        vectors /= np.sqrt((vectors**2).mean())  # the scale is free: numbers of size 1 print well
        with options.out.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["word", "group", *(f"d{i + 1}" for i in range(options.dimensions))])
            for (word, group), vector in zip(chosen.items(), vectors, strict=True):
                table.writerow([word, group, *(f"{number:.3f}" for number in vector)])
        seal(options.out)
    except (ValueError, OSError) as error:
        sys.exit(f"word_vectors: {error}")

    names = list(chosen)
    nearest = neighbors(vectors)[:, 1]
    pairs = [(word, names[near]) for word, near in zip(names, nearest, strict=True)]
    strangers = [(word, near) for word, near in pairs if chosen[word] != chosen[near]]
    print(f"{options.out}: {len(names)} words, {options.dimensions} numbers each,")
    print(f"  from a corpus of {frequency.total():,} words")
    print(f"nearest neighbor in the same group: {len(names) - len(strangers)} of {len(names)}")
    print("not:", ", ".join(f"{word} ({near})" for word, near in strangers) or "none")


if __name__ == "__main__":
    main()
