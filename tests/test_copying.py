"""The measures of copying: a perfect copier gets everything, a model that cannot look back nothing."""

import itertools
import random
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from shared import encodings, invented, lexicon
from shared.gpt_model import GPTModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ch05_pretraining"))

import induction  # noqa: E402
import names  # noqa: E402
import worksheets  # noqa: E402

TINY = {
    "vocab_size": 4096, "context_length": 256, "emb_dim": 16, "n_heads": 2, "n_layers": 1,
    "drop_rate": 0.5, "qkv_bias": False,
}  # fmt: skip
PASSAGES = [
    "One day Robert went to the mill. The miller saw Robert and gave him bread. Nobody knew Robert there, "
    'but "Robert," said the miller, "is a good name." So Robert stayed, and the mill was glad of Robert.',
    "The sea was quiet when Helen came. A gull cried, and Helen looked up. In the boat sat the old man who "
    "had taught Helen to sail; he nodded to Helen and rowed away.\n\nHelen waved.",
    "It rained on the hills and nobody came.",
]


class Copier:
    """Predicts what followed the last occurrence of the last tokens, the longest run first."""

    def __init__(self, vocab_size=4096, runs=(3, 2, 1), shift=0):
        self.vocab_size, self.runs, self.shift = vocab_size, runs, shift

    def __call__(self, ids):
        logits = torch.zeros(*ids.shape, self.vocab_size)
        for b, row in enumerate(ids.tolist()):
            seen = {}
            for t in range(len(row)):
                found = None
                for run in self.runs:
                    key = tuple(row[max(0, t - run + 1) : t + 1])
                    if found is None and len(key) == run and key in seen:
                        found = seen[key] + self.shift
                for run in self.runs:
                    seen[tuple(row[max(0, t - run + 1) : t + 1])] = t + 1
                if found is not None and found <= t:
                    logits[b, t, row[found]] = 1
        return logits


class Chance(nn.Module):
    """Logits drawn at random; remembers what it was given."""

    def __init__(self, vocab_size=4096):
        super().__init__()
        self.vocab_size, self.lengths, self.modes = vocab_size, [], []
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids):
        self.lengths.append(ids.shape[1])
        self.modes.append(self.training)
        return torch.rand(*ids.shape, self.vocab_size)


@pytest.fixture(scope="module")
def encoding():
    return encodings.tokenizer()


@pytest.fixture(scope="module")
def ordinary(encoding):
    return names.ordinary_tokens(encoding)


def test_ordinary_tokens_are_words_and_parts_of_words(encoding, ordinary):
    texts = [encoding.decode([i]) for i in ordinary]
    assert len(ordinary) > 3_000 and min(ordinary) >= 256  # no single bytes
    assert all(re.fullmatch(" ?[A-Za-z]{2,}", text) for text in texts)
    assert " the" in texts and "ing" in texts and encoding.eot_token not in ordinary


def test_repeated_tokens_of_a_copier_and_by_chance(ordinary):
    assert induction.repeated_tokens(Copier(), ordinary, sequences=6) == 1.0
    assert induction.repeated_tokens(Copier(runs=(1,)), ordinary, sequences=6) == 1.0
    assert (
        induction.repeated_tokens(Copier(shift=-1), ordinary, sequences=6) == 0.0
    )  # one too early
    assert induction.repeated_tokens(Chance(), ordinary, sequences=20) < 0.01


def test_only_the_second_half_counts():
    """A model that is right in the first half alone scores nothing; half of the second half, one half."""
    order = {}

    def first_half_only(ids):
        logits = torch.zeros(*ids.shape, 50)
        for b, row in enumerate(ids.tolist()):
            for t in range(10):
                logits[b, t, row[min(t + 1, 9)]] = 1
            logits[b, 10:, 49] = 1  # no token that occurs
        order["length"] = ids.shape[1]
        return logits

    assert induction.repeated_tokens(first_half_only, range(49), sequences=3, length=10) == 0.0
    assert order["length"] == 19

    def until(place):
        def model(ids):
            logits = Copier(50)(ids)
            logits[:, place:] = 0
            logits[:, place:, 49] = 1
            return logits

        return model

    # tokens 12 to 20 count, foretold at places 11 to 19, the first of which has index 10
    assert induction.repeated_tokens(until(13), range(49), sequences=3, length=10) == pytest.approx(
        3 / 9
    )


def test_the_sequences_are_those_of_the_seed(ordinary):
    given = []

    def record(ids):
        given.append(ids.clone())
        return torch.zeros(*ids.shape, 4096)

    for seed in (1, 1, 2):
        induction.repeated_tokens(record, ordinary, sequences=2, length=30, seed=seed)
    assert torch.equal(given[0], given[1]) and not torch.equal(given[0], given[2])
    row = given[0][0].tolist()
    assert len(set(row[:30])) == 30 and row[30:] == row[:29]


def test_batches_do_not_change_the_result(ordinary):
    model = Copier(runs=(2,))
    scores = {
        induction.repeated_tokens(model, ordinary, 5, 20, batch_size=size) for size in (1, 2, 5)
    }
    assert len(scores) == 1 and 0.9 < scores.pop() < 1


@pytest.mark.parametrize("length", [1, 60])
def test_a_length_that_cannot_be_drawn(length):
    with pytest.raises(ValueError, match="different tokens out of 50"):
        induction.repeated_tokens(Copier(50), range(50), length=length)


def test_a_gpt_model_is_measured_in_evaluation_mode(encoding, ordinary):
    torch.manual_seed(123)
    model = GPTModel(TINY).train()
    once = induction.repeated_tokens(model, ordinary, sequences=4)
    assert once == induction.repeated_tokens(model, ordinary, sequences=4) < 0.02  # no dropout
    assert induction.returning_names(model, encoding, PASSAGES) < 0.2
    assert model.training and all(p.grad is None for p in model.parameters())
    chance = Chance()
    induction.repeated_tokens(chance, ordinary, sequences=2)
    assert chance.modes == [False] and chance.training and chance.lengths == [199]


def test_held_out_names_are_new(encoding):
    """The worksheets cannot make them: two vowels stand side by side in each of their syllables."""
    two_vowels = re.compile("[aeiou]{2}")
    rng = random.Random(5)
    held_out = [induction.held_out_name(rng, encoding) for _ in range(500)]
    assert len(set(held_out)) > 450
    assert all(two_vowels.search(name) for name in held_out)
    assert all(len(encoding.encode(text)) >= 3 for name in held_out for text in (name, f" {name}"))
    words = lexicon.load_words()
    assert not any(two_vowels.search(invented.invent(rng, words)) for _ in range(5_000))
    stream = " ".join(itertools.islice(worksheets.documents(5), 2_000)).lower()
    assert not [name for name in held_out if name.lower() in stream]


def test_returning_names_of_a_copier_and_by_chance(encoding):
    assert induction.returning_names(Copier(), encoding, PASSAGES) == 1.0
    assert induction.returning_names(Copier(shift=-1), encoding, PASSAGES) == 0.0
    assert induction.returning_names(Chance(), encoding, PASSAGES * 10) < 0.05


def test_what_counts_in_a_name(encoding, monkeypatch):
    """By hand: three tokens, of which the second and third count, from the second occurrence on."""
    monkeypatch.setattr(induction, "held_out_name", lambda rng, tokenizer: "Zoumaip")
    counted = {}

    def record(model, ids, mask, batch_size):
        counted["ids"], counted["mask"] = ids, mask
        return 0.0

    monkeypatch.setattr(induction, "_accuracy", record)
    text = "So Karl came. Then Karl sat; the cat saw Karl.\n\nKarl slept."
    induction.returning_names(None, encoding, [text])
    tokens = [encoding.decode([i]) for i in counted["ids"][0].tolist()]
    marked = [t for t, m in zip(tokens, counted["mask"][0].tolist()) if m]
    name = [encoding.decode([i]) for i in encoding.encode(" Zoumaip")]
    # the last one begins a line, in other tokens than before: it does not come back
    assert marked == name[1:] * 2
    assert "Karl" not in "".join(tokens)


def test_passages_without_a_name_are_refused(encoding):
    with pytest.raises(ValueError, match="no passage has a name that comes back"):
        induction.returning_names(Copier(), encoding, PASSAGES[2:])


def test_passages_are_cut_to_the_context(encoding):
    chance = Chance()
    induction.returning_names(chance, encoding, [PASSAGES[0] * 20], context=64)
    assert chance.lengths == [63]


def test_passages_with_names(encoding):
    work = "\n\n".join(PASSAGES * 8)
    passages = induction.passages_with_names([work, "Nothing here."], encoding, count=5, length=60)
    assert len(passages) == 5
    assert passages == induction.passages_with_names([work, "Nothing here."], encoding, 5, 60)
    assert all(names.names_in(passage) for passage in passages)
    assert all(len(encoding.encode(passage)) <= 60 and passage in work for passage in passages)
    assert induction.passages_with_names(["Too short."], encoding) == []
