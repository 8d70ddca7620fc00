"""Stand-ins for files that are not part of the course."""

import itertools
import json

import pytest

from shared import editions
from shared.text_data import train_bpe


@pytest.fixture
def short_story(monkeypatch, tmp_path):
    """The first letters of the story in place of the story: enough where its losses do not matter."""
    path = tmp_path / "story.txt"
    path.write_text(editions.STORY.read_text(encoding="utf-8")[:12000], encoding="utf-8")
    monkeypatch.setattr(editions, "STORY", path)


@pytest.fixture(scope="session")
def gpt2_like():
    """`(ranks, vocab.bpe, encoder.json)`: 50,000 merges in GPT-2's format; a few trained, the rest made up."""
    visible = [b for b in range(256) if chr(b).isprintable() and b != 32]
    order = visible + [b for b in range(256) if b not in visible]
    letter = {
        b: chr(b) if b in visible else chr(256 + order.index(b) - len(visible)) for b in order
    }

    trained = train_bpe("the cat sat on the mat, the hat and the bat " * 9, 285, ())
    merges, known = [], set()
    for token in list(trained)[256:]:
        parts = [(token[:i], token[i:]) for i in range(1, len(token))]
        merges.append(next(p for p in parts if all(len(x) == 1 or x in known for x in p)))
        known.add(token)
    pairs = ((bytes([a]), bytes([b])) for a, b in itertools.product(order, order))
    merges += itertools.islice((p for p in pairs if p[0] + p[1] not in known), 50_000 - len(merges))

    tokens = [bytes([b]) for b in order] + [a + b for a, b in merges]
    spelled = ["".join(letter[b] for b in token) for token in tokens]
    lines = [" ".join("".join(letter[b] for b in part) for part in merge) for merge in merges]
    vocabulary = {token: rank for rank, token in enumerate([*spelled, "<|endoftext|>"])}
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return ranks, "\n".join(["#version: 0.2", *lines, ""]).encode(), json.dumps(vocabulary).encode()
