"""Probes of what a model knows: how they are scored, and what they are made of."""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import encodings, models
from shared.gpt_model import GPTModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ch05_pretraining"))

import knowledge  # noqa: E402
import probe  # noqa: E402
from knowledge import Fact  # noqa: E402

ENCODING = encodings.load_encoding(encodings.COURSE_TOKENIZER)
FACTS = knowledge.load_facts()
CFG = {"vocab_size": 4096, "context_length": 64, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
CFG |= {"drop_rate": 0.1, "qkv_bias": True, "tie_weights": True}


def tiny():
    torch.manual_seed(1)
    return GPTModel(CFG)


class Certain(nn.Module):
    """Gives nearly all probability to the next token of sentences that it has by heart."""

    def __init__(self, facts):
        super().__init__()
        self.known, self.zero = {}, nn.Parameter(torch.zeros(()))
        for fact in facts:
            for prompt, completion in knowledge.probes(fact):
                start = [ENCODING.eot_token, *ENCODING.encode_ordinary(prompt)]
                row = start + ENCODING.encode_ordinary(completion)
                for i in range(len(start), len(row)):
                    self.known[tuple(row[:i])] = row[i]

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, ENCODING.n_vocab) + self.zero
        for b, row in enumerate(ids.tolist()):
            for t in range(len(row)):
                if (token := self.known.get(tuple(row[: t + 1]))) is not None:
                    logits[b, t, token] = 20
        return logits


# --- what is asked ---


def test_the_facts_whose_questions_are_reserved():
    reserved, control = probe.reserved_questions(), probe.left_out()
    counts = Counter(fact.family for fact in reserved)
    assert set(counts) == {"facts", "antonym", "categories", "rhyme"} and min(counts.values()) >= 40
    assert len(set(reserved)) == len(reserved) and set(reserved) <= set(FACTS)
    assert len(control) == 20 and {fact.family for fact in control} == {"left out"}
    stated = {(fact.relation, fact.subject) for fact in FACTS}
    assert not stated & {(fact.relation, fact.subject) for fact in control}
    assert not {fact.answer for fact in FACTS} & {fact.answer for fact in control}


@pytest.mark.parametrize("family", ["facts", "antonym", "categories", "rhyme", "left out"])
def test_wrong_answers_are_wrong_and_about_as_long(family):
    among = FACTS if family != "left out" else probe.left_out()
    asked = probe.reserved_questions() + probe.left_out()
    right = {}
    for fact in among:
        right.setdefault((fact.relation, fact.subject), set()).update((fact.answer, *fact.others))

    def length(word):
        return len(ENCODING.encode_ordinary(f" {word}"))

    for fact in (fact for fact in asked if fact.family == family):
        wrong = probe.wrong_answers(fact, among, ENCODING, random.Random(1))
        assert len(set(wrong)) == len(wrong) >= 2
        assert not right[fact.relation, fact.subject] & set(wrong) and fact.subject not in wrong
        others = {f.answer for f in among if f.relation == fact.relation} - set(wrong)
        others -= {fact.subject, fact.answer, *fact.others, *probe.TRUE_TOO.get(fact.answer, ())}
        assert not probe.TRUE_TOO.get(fact.answer, set()) & set(wrong)
        size = length(fact.answer)
        farthest = max(abs(length(word) - size) for word in wrong)
        assert all(abs(length(word) - size) >= farthest for word in others)
        assert len(wrong) == 3 or not others  # fewer only where there are no more


def test_wrong_answers_depend_on_the_seed_alone():
    fact = probe.reserved_questions()[0]
    drawn = {tuple(probe.wrong_answers(fact, FACTS, ENCODING, random.Random(i))) for i in range(9)}
    assert len(drawn) > 1
    for seed in range(3):
        one, other = (probe.wrong_answers(fact, facts, ENCODING, random.Random(seed)) for facts in (FACTS, FACTS[::-1]))  # fmt: skip
        assert one == other


def test_wrong_answers_are_about_as_frequent():
    told = [Fact("legs", "facts", f"beast {i}", word) for word, count in
            {"two": 20, "four": 18, "six": 19, "ten": 1, "one": 1, "five": 22, "three": 1}.items()
            for i in range(count)]  # fmt: skip
    often = probe.wrong_answers(told[0], told, ENCODING, random.Random(1))
    assert set(often) == {"four", "six", "five"}
    seldom = next(fact for fact in told if fact.answer == "ten")
    assert {"one", "three"} < set(probe.wrong_answers(seldom, told, ENCODING, random.Random(1)))


def test_kinds_that_are_true_too_are_no_wrong_answers():
    assert "bird" in {fact.answer for fact in FACTS} and "animal" in probe.TRUE_TOO["bird"]
    robin = next(fact for fact in FACTS if (fact.relation, fact.answer) == ("kind", "bird"))
    drawn = {w for i in range(40) for w in probe.wrong_answers(robin, FACTS, ENCODING, random.Random(i))}  # fmt: skip
    assert "animal" not in drawn and len(drawn) >= 3


def test_wordings_that_were_read_end_with_the_answer():
    found = 0
    for fact in probe.reserved_questions():
        for start, phrase in probe.read_wordings(fact):
            told = {knowledge.fill(w, fact, fact.subject, fact.answer).rstrip(".") for w in fact.wordings if "p0" not in w.lower()}  # fmt: skip
            assert f"{start} {phrase(fact.answer)}" in told
            assert not {start} & {prompt for prompt, _ in knowledge.probes(fact)}
            found += 1
    assert found > 500


def test_another_subject_has_another_answer():
    for fact in probe.reserved_questions():
        rng = random.Random(1)
        words = [fact.answer, *probe.wrong_answers(fact, FACTS, ENCODING, rng)]
        other = probe.other_subject(fact, FACTS, words, rng)
        answers = {f.answer for f in FACTS if (f.relation, f.subject) == (fact.relation, other)}
        assert answers and fact.answer not in answers and other not in (fact.subject, *words)


# --- how it is scored ---


@torch.no_grad()
def test_log_probabilities_are_those_of_single_sequences():
    model = tiny().eval()
    prompts, ends = [[5, 6, 7], [5], [9, 8, 7, 6, 5, 4], [1, 2]], [[1], [2, 3, 4], [5, 6], [7, 8]]
    found = probe.log_probabilities(model, prompts, ends)
    for i, (prompt, end) in enumerate(zip(prompts, ends)):
        total, row = 0.0, list(prompt)
        for token in end:
            total += F.log_softmax(model(torch.tensor([row]))[0, -1], dim=-1)[token].item()
            row.append(token)
        assert found[i].item() == pytest.approx(total, rel=1e-5)


def test_a_model_that_is_certain_knows_everything():
    facts = probe.reserved_questions()[::6]
    table = probe.asked(Certain(FACTS), ENCODING, facts, among=FACTS, exchange=True)
    assert (table.by_sum == 1).all() and (table.by_mean == 1).all()
    assert table.exchanged.mean() < 0.45  # it hangs on the subject; equals are decided by chance
    assert len(table) == sum(len(knowledge.probes(fact)) for fact in facts)
    assert table.choices.between(3, 4).all() and (table.choices == 4).mean() > 0.9


def test_a_model_that_knows_nothing_is_at_chance():
    facts = probe.reserved_questions() + probe.left_out()
    table = probe.asked(Certain([]), ENCODING, facts, among=[*FACTS, *probe.left_out()])
    assert 0.15 < table.by_mean.mean() < 0.35  # all are equal: the first of them is drawn


def test_a_model_that_knows_half_of_it():
    facts = [fact for fact in probe.reserved_questions() if fact.family == "facts"]
    table = probe.asked(Certain(facts[::2]), ENCODING, facts, among=FACTS)
    known = table.subject.isin({fact.subject for fact in facts[::2]})
    assert table[known].by_mean.mean() > 0.9 and 0.1 < table[~known].by_mean.mean() < 0.5


def test_the_same_again_and_the_mode_is_kept():
    model, facts = tiny().train(), probe.left_out()[:5]
    table = probe.asked(model, ENCODING, facts)
    assert model.training
    pd.testing.assert_frame_equal(probe.asked(model, ENCODING, facts), table)
    assert not probe.asked(model, ENCODING, facts * 1, seed=5).empty


def test_the_summary_counts_facts():
    rows = [
        {"family": family, "relation": "r", "subject": subject, "by_sum": s, "by_mean": m}
        for family, subject, s, m in [
            ("facts", "a", 1, 1),
            ("facts", "a", 0, 1),
            ("facts", "b", 0, 0),
            ("facts", "b", 1, 0),
            ("left out", "c", 0, 1),
            ("left out", "d", 0, 1),
        ]
    ]
    found = probe.summary(pd.DataFrame(rows))
    assert list(found) == ["facts", "by_sum", "by_mean", "low", "high"]
    # (1 + 0) / 2, and 1.96 times the deviation of these two, sqrt(0.5), over sqrt(2)
    assert found.loc["facts"].tolist() == [2, 0.5, 0.5, -0.48, 1.48]
    assert found.loc["left out"].tolist() == [2, 0, 1, 1, 1]
    more = probe.summary(pd.DataFrame(rows).assign(exchanged=[0, 1, 0, 0, 1, 1]))
    assert more.exchanged.tolist() == [0.25, 1] and "read" not in more


# --- the script ---


def test_the_script_prints_a_summary(tmp_path, capsys, monkeypatch):
    models.save_model(tmp_path / "run", tiny(), CFG, "step\n", encodings.COURSE_TOKENIZER)
    few = probe.reserved_questions()[::20]
    monkeypatch.setattr(probe, "reserved_questions", lambda: few)
    probe.main(["--model", str(tmp_path / "run"), "--out", str(tmp_path / "probes.csv")])
    printed = capsys.readouterr().out
    assert "left out" in printed and "by_mean" in printed
    table = pd.read_csv(tmp_path / "probes.csv")
    families = {"facts", "antonym", "categories", "rhyme"}
    assert set(table.family) == families | {"all reserved", "left out"}
    alone = table[table.family.isin(families)]
    assert alone.facts.sum() == len(few) == table.facts[table.family == "all reserved"].item()
    assert table.exchanged.between(0, 1).all() and (table.wordings == 3).all()


def test_the_script_refuses_in_one_line(tmp_path):
    given = ["--model", str(tmp_path)]
    with pytest.raises(SystemExit, match="probe: .*No such file"):
        probe.main(given)
    models.save_model(tmp_path, tiny(), CFG, "step\n", encodings.FIRST_TOKENIZER)
    with pytest.raises(SystemExit, match="probe: .*made with another tokenizer"):
        probe.main(given)
    cfg = json.loads((tmp_path / "config.json").read_text()) | {"emb_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps(cfg))
    with pytest.raises(SystemExit, match="probe: .*do not fit"):
        probe.main([*given, "--tokenizer", str(encodings.FIRST_TOKENIZER)])
