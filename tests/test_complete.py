"""What chapter 1 asks of the finished models, by way of `shared.demo`."""

import pytest
import torch

from shared import demo, encodings, models
from shared.gpt_model import generate_text_simple
from shared.pretraining import text_to_token_ids, token_ids_to_text

PROMPT = "The old man opened the door, and"


def test_the_prompt_is_kept_and_a_seed_repeats():
    first = demo.complete(PROMPT, 12)
    assert first.startswith(PROMPT) and len(first) > len(PROMPT)
    assert first == demo.complete(PROMPT, 12) == demo.complete(PROMPT, 12, seed=123)
    assert len({demo.complete(PROMPT, 12, seed=seed) for seed in range(4)}) > 1


def test_temperature_0_is_the_greedy_text():
    model, cfg = models.pretrained()
    ids = text_to_token_ids(PROMPT, encodings.tokenizer())
    ids = generate_text_simple(model, ids, 15, cfg["context_length"])
    expected = token_ids_to_text(ids, encodings.tokenizer())
    assert demo.complete(PROMPT, 15, temperature=0) == expected
    assert demo.complete(PROMPT, 15, temperature=0, seed=5) == expected


def test_whoever_draws_besides_is_not_disturbed():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    demo.complete(PROMPT, 3)
    assert torch.rand(3).equal(expected)


def test_nothing_new_may_be_asked_for_and_a_long_prompt_is_kept_whole():
    assert demo.complete(PROMPT, 0) == PROMPT
    long = PROMPT + " the door opened" * 100  # beyond the context
    with pytest.warns(UserWarning, match="only the last 256 are read"):
        assert demo.complete(long, 2).startswith(long)


def test_a_prompt_without_a_token_is_refused():
    with pytest.raises(ValueError, match="T > 0"):
        demo.complete("")
    with pytest.raises(ValueError, match="temperature is -1"):
        demo.complete(PROMPT, 3, temperature=-1)


def test_the_model_is_loaded_once():
    demo.complete(PROMPT, 1)
    kept = demo._kept(models.pretrained, "course-gpt")
    assert kept is demo._kept(models.pretrained, "course-gpt")
    assert models.pretrained()[0] is not kept[0]  # who trains his, spoils none of these


def test_the_assistant_answers_the_same_each_time_and_to_the_end():
    task = "Write the plural of the word.", "lamp"
    assert demo.answer(*task) == demo.answer(*task) != ""
    assert encodings.END_OF_TEXT not in demo.answer(*task)
    with pytest.raises(ValueError):
        demo.answer("")


def test_spam_is_likelier_to_be_spam():
    ham = demo.spam_probability("See you at six, I'll bring the bread.")
    spam = demo.spam_probability(
        "CONGRATS! You have been chosen to win a 500 voucher. Claim within 24 hrs at http://win.example"
    )
    assert 0 <= ham < 0.5 < spam <= 1
    with pytest.raises(ValueError, match="empty"):
        demo.spam_probability(" ")


@pytest.mark.parametrize("model", ["gpt2", "course-gpt"])
def test_assistant_and_classifier_are_ours_in_any_edition(monkeypatch, model):
    monkeypatch.setenv("COURSE_MODEL", model)
    assert demo.spam_probability("See you at six, I'll bring the bread.") < 0.5
    assert demo.answer("Write the plural of the word.", "lamp")
