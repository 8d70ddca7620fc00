"""What training texts may not say: facts that are left out, and questions that are reserved."""

import sys
from pathlib import Path

import pytest

from shared import lexicon

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ch05_pretraining"))

import apart  # noqa: E402
import knowledge  # noqa: E402

RESERVED = lexicon.read_json(apart.SECOND_RESERVED)
FAMILIES = RESERVED["families"]
LEFT_OUT = RESERVED["left_out"]


def document(*paragraphs):
    return "\n\n".join(["It rained all day.", *paragraphs, "Then they went home."])


# --- facts that are left out ---


@pytest.mark.parametrize("relation, subject, answer", LEFT_OUT)
def test_a_fact_that_is_left_out_is_left_out(relation, subject, answer):
    for stated in (
        f"{answer} is the capital of {subject}.",
        f"He came from {subject}, and lived in {answer}.",
        f"The streets of {answer.upper()} are wide.",  # the country is named elsewhere
    ):
        text = document(f"{subject} is a country.", stated)
        assert apart.without(text) == document(f"{subject} is a country.")


def test_paragraphs_that_name_only_one_of_both_are_kept():
    for _, subject, answer in LEFT_OUT:
        for word in (subject, answer):
            text = document(f"She had never been to {word}.", "So she went.")
            assert apart.without(text) == text
    text = document("Iceland is an island.", "Sofia laughed.", "Nigerians and Abujans met.")
    assert apart.without(text) == text  # of two facts, and parts of words


def test_nothing_is_left_of_a_document_that_is_about_it():
    assert apart.without("Tirana is the capital of Albania.") == ""


# --- questions that are reserved ---


def questions():
    """(question, its answer) as a text might have them, of every reserved fact, opposite, kind and rhyme."""
    for _, subject, answer in FAMILIES["facts"]["rows"]:
        yield f"What do you call the young or the home of a {subject}?", answer
    for one, other in FAMILIES["antonym"]["rows"]:
        yield f"What is the opposite of {one}?", other
        yield f"Which word is the opposite of {other}?", one
    for kind, words in FAMILIES["categories"].items():
        for word in words:
            yield f"What kind of thing is a {word}?", kind
    for word, rhymes in FAMILIES["rhyme"]["word: rhymes"].items():
        yield f"What rhymes with {word}?", rhymes[-1]


def test_a_reserved_question_with_its_answer_is_dropped():
    found = list(questions())
    assert len(found) > 250
    missed = []
    for question, answer in found:
        for text in (f"{question} {answer}", f"Q: {question}\nA: It is {answer.capitalize()}."):
            if apart.without(document(text)) != document():
                missed.append(text)
    # an answer of two words is not looked for
    assert all("police station" in text.lower() for text in missed), missed


@pytest.mark.parametrize(
    "text",
    [
        "What is the opposite of tall?",  # without an answer
        "Short and tall are opposites.",  # without a question
        "What is the opposite of tall? I have often wondered, and so have others, for no book that I ever read says it: short.",
        "How tall is he? Short people cannot tell.",  # not about the opposite
        "Where have you been?\n\nI was at home.",
        "What is the capital of France? It is Paris, of course.",  # which is not reserved
        "Shall we go? Yes, before it rains.",
    ],
)
def test_ordinary_questions_are_kept(text):
    assert "capital" not in text or ["capital", "France", "Paris"] not in FAMILIES["facts"]["rows"]
    assert apart.without(document(text)) == document(text)


def test_a_text_that_asks_nothing_and_names_nothing_is_the_same():
    text = "One.\n\n\n  Two.\n \nThree.\n"
    assert apart.without(text) is text


def test_what_is_stated_in_pretraining_stays():
    stream = knowledge.documents(5)
    for text in (next(stream) for _ in range(300)):
        assert apart.without(text) == text
