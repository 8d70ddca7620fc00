"""Chapter 1: the bigram model, against a count and a loss computed the slow way, and on bad input."""

import itertools
import math
import random
import re
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from shared import demo, editions, encodings, lexicon
from shared.intro import BigramModel, count_pairs

ROOT = editions.ROOT
sys.path.insert(0, str(ROOT / "ch05_pretraining"))

import worksheets  # noqa: E402

TEXT = [0, 1, 2, 1, 2, 0, 1, 1, 2, 3]


def slow_probability(text, vocab_size, k, a, b):
    """P(b | a) by looking at every place of the text, as a fraction."""
    after = [text[i + 1] for i in range(len(text) - 1) if text[i] == a]
    return (Fraction(after.count(b)) + Fraction(k)) / (len(after) + Fraction(k) * vocab_size)


def random_text(seed, vocab_size=7, length=60):
    draw = random.Random(seed)
    return [draw.randrange(vocab_size) for _ in range(length)]


def test_every_pair_of_neighbors_is_counted_words_or_ids():
    assert count_pairs(["a", "b", "a", "b", "b"]) == {"a": {"b": 2}, "b": {"a": 1, "b": 1}}
    assert count_pairs(TEXT)[1] == {2: 3, 1: 1} and 3 not in count_pairs(TEXT)
    assert count_pairs([]) == count_pairs("a") == {}


@pytest.mark.parametrize("k", [0, 0.25, 1, 3])
def test_probabilities_are_the_counted_shares(k):
    text = [*random_text(1), *range(7)]  # every ID is followed by one
    model = BigramModel(text, 7, k)
    for a in range(7 if k else 6):
        expected = [float(slow_probability(text, 7, k, a, b)) for b in range(7)]
        assert model.next_token_probs(a) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0.01, 1.0, 10])
def test_the_probabilities_of_every_row_sum_to_one(k):
    model = BigramModel(TEXT, 9, k)
    for a in range(9):  # 3 is followed by nothing, 4 to 8 do not occur
        assert math.fsum(model.next_token_probs(a)) == pytest.approx(1)


def test_a_token_never_seen_before_another_leaves_all_tokens_equally_likely():
    for token_id in (3, 8):
        assert BigramModel(TEXT, 9).next_token_probs(token_id) == pytest.approx([1 / 9] * 9)


@pytest.mark.parametrize("k", [0.1, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_loss_is_the_mean_of_minus_log_probabilities(k, seed):
    text, new = random_text(seed), random_text(seed + 100)
    logs = [math.log(slow_probability(text, 7, k, a, b)) for a, b in zip(new, new[1:])]
    assert BigramModel(text, 7, k).loss(new) == pytest.approx(-sum(logs) / (len(new) - 1))


def test_the_loss_is_that_of_pytorch_on_the_same_probabilities():
    ids = torch.tensor(random_text(5))
    model = BigramModel(ids, 7)
    logits = torch.tensor([model.next_token_probs(a) for a in ids[:-1]]).log()
    expected = torch.nn.functional.cross_entropy(logits, ids[1:]).item()
    assert model.loss(ids) == pytest.approx(expected, rel=1e-5)


def test_without_smoothing_what_never_happened_costs_infinity():
    model = BigramModel(TEXT, 9, k=0)
    assert model.loss(TEXT) < math.inf
    assert model.loss([0, 1, 0]) == math.inf  # 1 is never followed by 0
    assert model.loss([8, 0]) == math.inf  # 8 does not occur


def test_no_other_probabilities_explain_the_text_better_than_its_own_shares():
    text = random_text(2)
    losses = [BigramModel(text, 7, k).loss(text) for k in (0, 0.1, 1, 10)]
    assert losses == sorted(losses) and losses[-1] < math.log(7)


def test_draws_follow_the_probabilities():
    model = BigramModel(TEXT, 4)
    drawn = model.generate([0], 40_000, seed=1)
    followed = [b for a, b in zip(drawn, drawn[1:]) if a == 1]
    for b, share in enumerate(model.next_token_probs(1)):
        error = math.sqrt(share * (1 - share) / len(followed))
        assert abs(followed.count(b) / len(followed) - share) < 5 * error


def test_a_prompt_is_kept_and_a_seed_repeats():
    model = BigramModel(TEXT, 4)
    first = model.generate([2, 0], 20, seed=7)
    assert first[:2] == [2, 0] and len(first) == 22
    assert first == model.generate([2, 0], 20, seed=7) != model.generate([2, 0], 20, seed=8)
    assert first == model.generate(torch.tensor([2, 0]), 20, seed=7)
    assert model.generate([3], 0) == [3]


def test_only_pairs_of_the_text_are_drawn_without_smoothing():
    model, pairs = BigramModel(TEXT[:-1], 4, k=0), set(zip(TEXT, TEXT[1:]))
    drawn = model.generate([0], 200, seed=3)
    assert set(zip(drawn, drawn[1:])) <= pairs


def test_lists_tensors_and_arrays_are_the_same_text():
    losses = [
        BigramModel(kind(TEXT), 9).loss(kind(TEXT)) for kind in (list, torch.tensor, np.array)
    ]
    assert losses[0] == losses[1] == losses[2]
    assert BigramModel(torch.tensor(TEXT), 9).next_token_probs(torch.tensor(1)) == (
        BigramModel(TEXT, 9).next_token_probs(1)
    )


def test_rows_are_kept_only_for_tokens_that_are_followed_by_one():
    model = BigramModel([50_000, 7, 50_256, 7, 3], 50_257)
    assert set(model.rows) == {50_000, 7, 50_256}
    model.next_token_probs(12)
    model.loss([12, 13])
    assert set(model.rows) == {50_000, 7, 50_256} and set(model.rows[7]) == {50_256, 3}


def test_gpt2s_vocabulary_fits():
    ids = [50_256 * i // 4999 for i in range(5000)] * 2
    model = BigramModel(ids, 50_257)
    assert model.loss(ids) < math.log(50_257)
    assert sum(len(row) for row in model.rows.values()) <= len(ids)
    assert len(model.generate([0], 20, seed=0)) == 21


def test_the_storys_loss_is_the_slow_one():
    tokenizer = encodings.tokenizer()
    ids = tokenizer.encode(editions.text())
    known, new = ids[:4000], ids[4000:4200]
    model = BigramModel(known, tokenizer.n_vocab, k=0.1)
    slow = [math.log(model.next_token_probs(a)[b]) for a, b in zip(new, new[1:])]
    assert model.loss(new) == pytest.approx(-sum(slow) / len(slow))


@pytest.mark.parametrize(
    ("token_ids", "says"),
    [
        ("the text", "encode a text first"),
        ([0.5, 1.0], "whole numbers"),
        (torch.tensor([0.0, 1.0]), "whole numbers"),
        (torch.zeros(2, 3, dtype=torch.long), "one row"),
        (3, "one row"),
        ([], "0 token IDs, but at least 2"),
        ([1], "1 token IDs, but at least 2"),
        ([0, 4, 1], "token ID 4 is outside 0 ... 3"),
        ([0, -1], "token ID -1 is outside 0 ... 3"),
    ],
)
def test_what_is_no_text_is_refused(token_ids, says):
    with pytest.raises(ValueError, match=says):
        BigramModel(token_ids, 4)
    with pytest.raises(ValueError, match=says):
        BigramModel(TEXT, 4).loss(token_ids)


@pytest.mark.parametrize("k", [-1, math.nan, math.inf])
def test_an_impossible_k_is_refused(k):
    with pytest.raises(ValueError, match="k is"):
        BigramModel(TEXT, 4, k)


def test_an_empty_prompt_and_unknown_tokens_are_refused():
    model = BigramModel(TEXT, 4)
    for prompt, says in [([], "at least 1"), ([9], "outside"), ("The", "encode a text")]:
        with pytest.raises(ValueError, match=says):
            model.generate(prompt, 5)
    with pytest.raises(ValueError, match="outside"):
        model.next_token_probs(4)


def test_without_smoothing_a_dead_end_is_an_error_that_says_so():
    model = BigramModel(TEXT, 4, k=0)
    with pytest.raises(ValueError, match="nothing ever followed token 3"):
        model.next_token_probs(3)
    with pytest.raises(ValueError, match="without k above 0"):
        model.generate([3], 1)


# --- what the lesson borrows ---


def test_an_answer_is_continued_where_the_model_would_write_it():
    """`continues` reads all prompts at once; `complete` writes one token after another."""
    nouns = ["tree", "king", "dog", "bell", "house"]
    examples = "".join(f"{noun} -> {noun}s\n" for noun in nouns)
    prompts = [f"{examples}{noun} ->" for noun in nouns] + ["The old man said"]
    answers = [f"{noun}s" for noun in nouns] + ["that he was"]
    greedy = [
        demo.complete(prompt, 8, temperature=0)[len(prompt) :].startswith(f" {answer}\n")
        for prompt, answer in zip(prompts, answers)
    ]
    assert demo.continues(prompts, answers) == greedy
    assert any(greedy) and not greedy[-1]


def test_the_worksheets_have_the_practiced_layout_and_none_of_the_controls():
    """Section 1.6 compares a layout of the worksheets' lists of plurals with five that they do not have."""
    sheets = "".join(p.read_text() for p in (ROOT / "ch05_pretraining" / "sheets").glob("*.py"))
    words = "".join(p.read_text() for p in (lexicon.WORDS, lexicon.KNOWLEDGE))
    assert "{0} -> {1}" in sheets and "~" not in sheets + words
    second = lexicon.second_words(encodings.tokenizer())  # what the second model has read
    stream = "\n".join(itertools.islice(worksheets.documents(7, second), 1_000))
    lines = {
        between: re.findall(rf"^\w+ {re.escape(between)} \w+$", stream, re.MULTILINE)
        for between in ("->", "~", "%%", "@", "gives", "yields")
    }
    assert len(lines.pop("->")) > 100 and not any(lines.values())


def test_the_capital_that_no_text_states_is_one_of_those_left_out_and_the_other_is_stated():
    """Section 1.1 asks for three capitals: one stated, one left out, one of a country that does not exist."""
    left_out = lexicon.read_json(lexicon.SECOND_RESERVED)["left_out"]
    stated = dict(lexicon.all_facts(lexicon.second_lexicon())["capital"])
    assert ["capital", "Iceland", "Reykjavik"] in left_out
    assert stated["France"] == "Paris" and "Velmoria" not in stated
