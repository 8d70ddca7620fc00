"""Chapter 8's task and data: the words, the rule's hole, the true judge, and the pairs it was made to prefer."""

import collections
import json

import pytest
import torch
from scripts import scripts

from shared import editions, encodings, models, sentences
from shared.preference import PreferenceDataset, store_reference, train_model_dpo_simple

make, tasks = scripts(editions.ROOT / "ch08_preference", "make_preferences", "preference_tasks")
PAIRS = json.loads(editions.PREFERENCES.read_text(encoding="utf-8"))
WORDS = sentences.words()


def test_the_end_token_is_the_tokenizers():
    assert tasks.END == tasks.tokenizer().eot_token


def test_no_word_is_in_two_parts_or_reserved():
    every = [word for part in WORDS.values() for word in part]
    assert len(every) == len(set(every)) == sum(sentences.PARTS.values())
    reserved = json.loads(sentences.SECOND_RESERVED.read_text(encoding="utf-8"))["words"]
    assert not set(every) & set(reserved)


@pytest.mark.parametrize(
    "text, rule, formed",
    [
        ("The old man lit the lamp.", True, True),
        ("Lamp.", True, False),
        ("The lamp was lamp lamp.", True, False),
        ("The lamp and the lamp of the lamp.", True, False),
        ("the old man lit the lamp.", False, True),
        ("The old man lit the candle.", False, True),
        ("The old man lit the lamps.", False, True),
        ("The old man lit the lamp", False, True),
        ("", False, False),
    ],
)
def test_the_rule_and_its_hole(text, rule, formed):
    assert (sentences.follows_rule("lamp", text), sentences.well_formed(text)) == (rule, formed)


@pytest.fixture(scope="module")
def judge():
    return tasks.judge()


def test_the_judge_wants_all_three(judge):
    texts = [
        "The old man lit the lamp.",
        "Lamp.",
        "Lamp lit old the man the.",
        "The old man lit the fire.",
    ]
    assert judge(["lamp"] * 4, texts).tolist() == [True, False, False, False]
    grades = judge.grades(["lamp"] * 4, texts).tolist()
    assert grades[0] == 3 and all(grade < 3 for grade in grades[1:])


def test_the_judge_accepts_nineteen_in_twenty_written_sentences_as_english(judge):
    nats = torch.tensor(sentences.surprise(sentences.written(), judge.model, judge.tokenizer))
    assert (nats <= judge.limit).double().mean() == pytest.approx(0.95, abs=0.01)


def test_a_leading_space_costs_nothing(judge):
    plain, spaced = sentences.surprise(
        ["The dog ran.", "  The dog ran. "], judge.model, judge.tokenizer
    )
    assert plain == spaced


def test_surprise_is_the_models_mean_loss(judge):
    text, tokenizer = "The dog ran.", judge.tokenizer
    ids, nats = [tokenizer.eot_token, *tokenizer.encode(text), tokenizer.eot_token], 0.0
    with torch.no_grad():
        for i in range(1, len(ids)):
            nats -= judge.model(torch.tensor([ids[:i]]))[0, -1].log_softmax(-1)[ids[i]].item()
    assert sentences.surprise([text], judge.model, tokenizer)[0] == pytest.approx(
        nats / (len(ids) - 1), abs=1e-4
    )


# --- the pairs ------------------------------------------------------------------------------------


def test_each_part_has_its_own_words():
    for pair in PAIRS:
        assert pair["word"] in WORDS[pair["split"]]
        assert (
            pair["instruction"] == sentences.task(pair["word"])["instruction"]
            and pair["input"] == ""
        )
    assert {pair["split"] for pair in PAIRS} == set(WORDS)
    texts = [(pair["word"], pair[side]) for pair in PAIRS for side in ("chosen", "rejected")]
    assert len(texts) == len(set(texts))  # each answer stands in one pair


def test_one_in_ten_training_pairs_is_turned_round_and_no_other():
    by_split = collections.defaultdict(list)
    for pair in PAIRS:
        by_split[pair["split"]].append(pair["flipped"])
    train = by_split.pop("train")
    assert 0.05 < sum(train) / len(train) < 0.15 and not any(map(any, by_split.values()))


def test_length_tells_nothing():
    encode = encodings.course_encoding(first=True).encode
    gaps = [
        len(encode(" " + pair["chosen"])) - len(encode(" " + pair["rejected"])) for pair in PAIRS
    ]
    assert max(map(abs, gaps)) <= 5  # two as they were drawn; spelled anew, a text may be shorter
    assert abs(sum(gaps) / len(gaps)) < 0.2


def test_the_judge_prefers_what_was_chosen(judge):
    some = PAIRS[::9]
    words = [pair["word"] for pair in some]
    chosen, rejected = (
        judge.grades(words, [pair[side] for pair in some]) for side in ("chosen", "rejected")
    )
    better = torch.tensor([not pair["flipped"] for pair in some])
    assert torch.equal(chosen > rejected, better) and torch.equal(chosen < rejected, ~better)


def test_the_script_makes_pairs_of_its_own(judge):
    words = {"train": WORDS["train"][:6], "test": WORDS["test"][:6]}
    made = [
        make.make(16, models.instruction_model()[0], judge.tokenizer, judge, words)
        for _ in range(2)
    ]
    assert made[0] == made[1] and made[0]
    for pair in made[0]:
        assert pair["word"] in words[pair["split"]] and pair["chosen"] != pair["rejected"]


# --- the book's preference file -------------------------------------------------------------------


def test_dpo_on_a_stand_in_of_the_books_preference_file(monkeypatch, tmp_path):
    """1,100 entries in the book's file: instruction, input, output, chosen, rejected; some too long for our model."""
    entries = editions.read_instructions(editions.INSTRUCTIONS)[:60]
    keys = "instruction", "input", "output"
    stand_in = [{k: e[k] for k in keys} | {"chosen": e["output"] + " Gladly!", "rejected": e["output"]} for e in entries]  # fmt: skip
    stand_in[3]["chosen"] = "a long story " * 200
    path = tmp_path / "instruction-data-with-preference.json"
    path.write_text(json.dumps(stand_in), encoding="utf-8")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", "book")
    found = editions.preferences()
    parts = collections.Counter(entry["split"] for entry in found)
    assert parts == {"train": 51, "test": 6, "validation": 3}
    some = [entry for entry in found if tasks.fits(entry)]
    assert len(some) == 59
    pairs = PreferenceDataset([e for e in some if e["split"] == "train"][:16], tasks.tokenizer())
    store_reference(pairs, tasks.assistant(), tasks.END)
    torch.manual_seed(1)
    model, optimizer = tasks.policy()
    rows = train_model_dpo_simple(model, pairs, pairs, optimizer, 2, 0.1, tasks.END, peak_lr=1e-2)
    assert rows[-1]["loss"] < rows[0]["loss"] == pytest.approx(0.6931, abs=1e-3)


def test_a_preference_file_without_a_side_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "instruction-data-with-preference.json"
    path.write_text('[{"instruction": "a", "input": "", "output": "b", "chosen": "b"}]')
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("COURSE_DATA", "book")
    with pytest.raises(ValueError, match="entry 0 has no text under 'rejected'"):
        editions.preferences()
