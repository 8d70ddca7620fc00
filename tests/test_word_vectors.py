"""The word vectors of section 2.1: the stored table, and the counting behind it on tiny texts."""

import csv
import runpy
import sys
from collections import Counter

import numpy as np
import pytest

from shared import editions
from shared.corpus import Document

SCRIPT = editions.CHAPTER_2 / "word_vectors.py"
SOURCE = runpy.run_path(str(SCRIPT))


def test_the_stored_table():
    """Ten groups, small, and nearest neighbors by cosine that share their word's group."""
    path = editions.CHAPTER_2 / "word_vectors.csv"
    assert path.stat().st_size < 40_000
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    groups = {group: words.split() for group, words in SOURCE["GROUPS"].items()}
    assert [(row["word"], row["group"]) for row in rows] == [
        (word, group) for group, words in groups.items() for word in words
    ]
    vectors = np.array([[float(row[f"d{i}"]) for i in range(1, 33)] for row in rows])
    assert np.isfinite(vectors).all() and len(rows[0]) == 34
    nearest = SOURCE["neighbors"](vectors)
    assert (nearest[:, 0] == np.arange(len(rows))).all()
    strangers = [
        (rows[i]["word"], rows[j]["word"])
        for i, j in enumerate(nearest[:, 1])
        if rows[i]["group"] != rows[j]["group"]
    ]
    assert strangers == [("uncle", "said")]


def test_neighbors_are_counted_as_one_would_by_hand():
    documents = [Document("", "The cat saw the dog; the cat ran!"), Document("", "A dog's cat")]
    known = {"the": 0, "cat": 1, "dog": 2, "saw": 3}
    counts = SOURCE["count_neighbors"](SOURCE["to_ids"](documents, known), 4, 3)
    expected = Counter()
    for document in documents:
        words = SOURCE["words"](document)
        for i, word in enumerate(words):
            near = words[max(0, i - SOURCE["WINDOW"]) : i] + words[i + 1 : i + 1 + SOURCE["WINDOW"]]
            expected.update((known.get(word, -1), known.get(other, -1)) for other in near)
    assert counts.shape == (4, 3)
    for word in range(4):
        assert [counts[word, context] for context in range(3)] == [
            expected[word, context] for context in range(3)
        ]


def test_squeezing_keeps_the_best_directions():
    table = np.random.default_rng(123).normal(size=(40, 12))
    left, sizes, _ = np.linalg.svd(table, full_matrices=False)
    expected = left[:, :3] * np.sqrt(sizes[:3])
    assert np.allclose(SOURCE["squeeze"](table, 3), expected * np.sign(expected[0]))


@pytest.mark.parametrize(
    "text, message",
    [("A tale.", "not among the 8,000 most frequent words: king"), (" ", "no text")],
)
def test_a_corpus_that_is_too_small(tmp_path, monkeypatch, text, message):
    (tmp_path / "tale.txt").write_text(text)
    monkeypatch.setattr(
        sys, "argv", [str(SCRIPT), "--corpus", str(tmp_path), "--out", str(tmp_path / "out.csv")]
    )
    with pytest.raises(SystemExit, match=message):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert not (tmp_path / "out.csv").exists()
