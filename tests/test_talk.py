"""A talk with the assistant: what is remembered, what is forgotten, and what an answer that is stopped leaves."""

from types import SimpleNamespace

import pytest

from shared import demo
from shared.instruction import short_prompt
from shared.text_data import make_encoding

BYTES = make_encoding("bytes", {bytes([byte]): byte for byte in range(256)})


@pytest.fixture
def talk(monkeypatch):
    """A talk whose answers are "yes, yes", and the prompts that were read."""
    read = []

    def stream(model, entry, tokenizer, max_new_tokens):
        read.append(short_prompt(entry))
        yield from ("yes", ", yes")

    monkeypatch.setattr(demo, "stream_response", stream)
    model = SimpleNamespace(pos_emb=SimpleNamespace(num_embeddings=200))
    return demo.Talk(model, BYTES), read


def test_the_last_exchange_is_read_again_and_no_other(talk):
    talk, read = talk
    for message in ("One.", "Two. | and more", "Three."):
        assert "".join(talk.say(message)) == "yes, yes"
    assert read == [
        "User: One.\nAssistant:",
        "User: One.\nAssistant: yes, yes\nUser: Two. | and more\nAssistant:",
        "User: Two. | and more\nAssistant: yes, yes\nUser: Three.\nAssistant:",
    ]
    assert len(talk.turns) == 6


def test_where_the_exchange_does_not_fit_it_is_forgotten(talk):
    talk, read = talk
    list(talk.say("x" * 80))
    list(talk.say("y" * 80))
    assert read[1] == f"User: {'y' * 80}\nAssistant:"


def test_an_answer_that_is_stopped_stays_as_far_as_it_went(talk):
    talk, _ = talk
    pieces = talk.say("One.")
    next(pieces)
    pieces.close()
    assert talk.turns[-1] == {"role": "assistant", "content": "yes"}


def test_what_cannot_be_answered_leaves_nothing(talk):
    talk, _ = talk
    with pytest.raises(ValueError, match="no instruction"):
        list(talk.say(" | mouse"))
    assert talk.turns == []
