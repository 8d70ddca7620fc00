"""The second assistant's small talk: counted, no text twice, and its tests as they were before anything was trained."""

import json
import re
from collections import Counter

import pytest
from test_messages import similar

from shared import editions, files

DATA = json.loads((editions.INSTRUCTIONS.parent / "smalltalk.json").read_text(encoding="utf-8"))
QUESTIONS = ("unknowable_train", "unknowable_test", "answerable_lookalikes")
TESTED = {
    "test_openings": "a6b48951f693033d",
    "unknowable_test": "d3d978068988f311",
}


def spoken(role):
    return [t["text"] for item in DATA["train"] for t in item["turns"] if t["role"] == role]


def users():
    """What a user says, by list."""
    found = {"train": spoken("user"), "test_openings": [o["text"] for o in DATA["test_openings"]]}
    return found | {name: [q["instruction"] for q in DATA[name]] for name in QUESTIONS}


def test_counts():
    counts = {name: len(DATA[name]) for name in ("train", "test_openings", *QUESTIONS)}
    assert counts == {"train": 400, "test_openings": 20, "unknowable_train": 150,
                      "unknowable_test": 40, "answerable_lookalikes": 60}  # fmt: skip
    turns = Counter(tuple(t["role"] for t in item["turns"]) for item in DATA["train"])
    assert turns == {("user", "assistant"): 300, ("user", "assistant") * 2: 100}
    assert set(Counter(item["kind"] for item in DATA["train"]).values()) == {50}


@pytest.mark.parametrize("name", TESTED)
def test_what_is_tested_is_what_was_sealed(name):
    assert files.sha256(json.dumps(DATA[name]).encode())[:16] == TESTED[name]


def test_nothing_is_said_twice():
    said = [
        re.sub(r"\W+", " ", text.lower()).strip() for texts in users().values() for text in texts
    ]
    assert [text for text, count in Counter(said).items() if count > 1] == []


@pytest.mark.parametrize("name", TESTED)
def test_no_test_is_like_what_is_trained(name):
    by_list = users()
    tested = by_list[name]
    trained = [text for other in by_list if other not in TESTED for text in by_list[other]]
    assert [p for p in similar([*trained, *tested], 0.6) if min(p) < len(trained) <= max(p)] == []


def test_answers_are_short_and_honest():
    answers = [*spoken("assistant"), *(q["output"] for n in QUESTIONS[::2] for q in DATA[n])]
    assert max(len(text.split()) for text in answers) <= 30
    assert all(text.isascii() and text == text.strip() for text in answers)
    assert all(q["output"].startswith("I don't know") for q in DATA["unknowable_train"])
    assert not any(q["output"].startswith("I don't know") for q in DATA["answerable_lookalikes"])
