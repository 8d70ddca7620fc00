"""The experiments with finished models: what each measures, on tiny models and on answers that are known."""

import argparse
import itertools
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from shared import editions, encodings, files, models
from shared.gpt_model import GPTModel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ch05_pretraining"))

import circles  # noqa: E402
import drilled  # noqa: E402
import experiment  # noqa: E402
import facts_asked  # noqa: E402
import knowledge  # noqa: E402
import layouts  # noqa: E402
import loss_by_kind  # noqa: E402
import probe  # noqa: E402
import tracing  # noqa: E402
import where_facts_live  # noqa: E402

ENCODING = encodings.load_encoding(encodings.COURSE_TOKENIZER)
CFG = {"vocab_size": 4097, "context_length": 256, "emb_dim": 16, "n_heads": 2, "n_layers": 3}
CFG |= {"drop_rate": 0.1, "qkv_bias": True, "tie_weights": True}
TABLES = {"circles": circles, "drilled": drilled, "loss_by_kind": loss_by_kind}
TABLES |= {"probe": probe, "where_facts_live": where_facts_live}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return GPTModel(CFG)


@pytest.fixture(scope="module")
def subject(model):
    return experiment.Subject("tiny", model, ENCODING, 256, "0" * 12)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("experiments") / "tiny"
    models.save_model(place, model, CFG, "step\n", encodings.COURSE_TOKENIZER)
    return place


class Options:
    """Options of a script that is not run from a command line."""

    def __init__(self, **given):
        self.__dict__.update(given)


class Copies(nn.Module):
    """Says what followed when the last token came before, or the two last ones, else token 0."""

    def __init__(self):
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))

    def forward(self, ids):
        logits = torch.zeros(*ids.shape, ENCODING.n_vocab) + self.zero
        for b, row in enumerate(ids.tolist()):
            for t in range(len(row)):
                near = [s for s in range(t) if row[s] == row[t]]
                best = [s for s in near if s and row[s - 1] == row[t - 1]] or near
                logits[b, t, row[best[-1] + 1] if best else 0] = 9
        return logits


# --- what is stored ---


@pytest.mark.parametrize("name", TABLES)
def test_a_stored_table_names_the_weights_that_ship(name):
    path = ROOT / "ch05_pretraining" / f"{name}.csv"
    table = pd.read_csv(path, dtype={"weights": str})
    for folder in (models.COURSE_GPT, models.FIRST_GPT):
        found = set(table[table.model == folder.name].weights)
        if folder.is_symlink() and found:
            pytest.skip("course_gpt is a preview here: its weights change")
        assert found <= {files.sha256(folder / files.WEIGHTS)[:12]}, f"run {name}.py again"
    assert "course_gpt" in set(table.model)


def test_a_table_is_stored_with_its_models_and_sealed(folder, tmp_path, capsys):
    out, given = tmp_path / "table.csv", ["--model", str(folder)]

    def measure(subject, options):
        return pd.DataFrame({"value": [subject.context]})

    def run(*more):
        return experiment.run(argparse.ArgumentParser(), [*given, *more], measure, tmp_path / "stored.csv")  # fmt: skip

    run()
    assert not list(tmp_path.iterdir())  # a model of one's own is only shown
    table = run("--out", str(out))
    weights = files.sha256(folder / files.WEIGHTS)[:12]
    assert table.values.tolist() == [["tiny", 256, weights]]
    assert out.read_text() == f"model,value,weights\ntiny,256,{weights}\n"
    assert f"{files.sha256(out)}  table.csv" in (tmp_path / files.SUMS).read_text()
    assert weights in capsys.readouterr().out
    with pytest.raises(SystemExit, match="stored: .*No such file"):
        given[:] = ["--model", str(tmp_path / "nothing")]
        run()


# --- tracing ---


def test_the_last_row_of_the_lens_is_what_the_model_says(model):
    ids = [5, 900, 17, 33, 1200]
    found = tracing.lens(model, ids, [3, 4, 2000])
    assert found.shape == (4, 5, 3)
    with torch.no_grad():
        said = model.eval()(torch.tensor([ids]))[0].log_softmax(dim=-1)
    torch.testing.assert_close(found[-1], said[:, [3, 4, 2000]])


def test_what_is_given_back(model):
    ids, other, words = [5, 900, 901, 33, 1200], [5, 77, 78, 33, 1200], [3, 4, 2000]
    found = tracing.given_back(model, ids, other, words, [[1, 2], [3], [4], [0], range(5)])

    def margin(text):
        said = tracing.lens(model, text, words)[-1, -1]
        return said[0] - said[1:].mean()

    whole = margin(ids) - margin(other)
    torch.testing.assert_close(found[:, 4], whole.expand(4))  # all places
    torch.testing.assert_close(found[0, 0], whole)  # before the first block all is in the subject
    torch.testing.assert_close(found[-1, 2], whole)  # and at the end in the last place
    assert found[0, 1].abs() < 1e-5 and found[-1, 0].abs() < 1e-5
    assert found[:, 3].abs().max() < 1e-5  # before the subject both texts are the same
    alone = tracing.given_back(model, ids, other, words)
    assert alone.shape == (4, 5)
    torch.testing.assert_close(alone[:, 4], found[:, 2])
    with pytest.raises(ValueError, match="5 and 4 tokens"):
        tracing.given_back(model, ids, other[1:], words)


def test_two_sentences_by_place(model):
    one, two = "The young of the cow is called the", "The young of the cat is called the"
    labels, nats = tracing.by_place(model, ENCODING, one, two, [" calf", " kitten"])
    assert "".join(labels[1:]) == one and nats.shape == (4, len(labels))
    place = next(i for i, label in enumerate(labels) if label == " cow")
    torch.testing.assert_close(nats[0, place], nats[-1, -1])
    with pytest.raises(ValueError, match="same token"):
        tracing.by_place(model, ENCODING, one, two, [" calf", " calf"])


def test_parts_are_replaced_where_it_is_said_and_only_then(model):
    ids = torch.randint(0, 4096, (2, 7), generator=torch.Generator().manual_seed(1))
    before, mean = tracing.streams(model, ids), tracing.means(model, ids)
    assert set(mean) == {(layer, part) for layer in range(3) for part in ("att", "ff")}
    block = model.trf_blocks[0]
    with torch.no_grad():
        out = block.att(block.norm1(before[0]))
    torch.testing.assert_close(mean[0, "att"], out.flatten(0, 1).mean(dim=0))
    nowhere = torch.zeros(2, 7, dtype=torch.bool)
    with tracing.replaced(model, 1, "ff", mean[1, "ff"], nowhere):
        torch.testing.assert_close(tracing.streams(model, ids), before)
    here = nowhere.clone()
    here[0, 4] = True
    with tracing.replaced(model, 1, "ff", mean[1, "ff"], here):
        after = tracing.streams(model, ids)
    changed = (after != before).any(dim=-1)
    assert not changed[:2].any() and changed[2].nonzero().tolist() == [[0, 4]]
    with tracing.replaced(model, 1, "att", mean[1, "att"]), torch.no_grad():
        x = before[1] + mean[1, "att"]
        block = model.trf_blocks[1]
        torch.testing.assert_close(tracing.streams(model, ids)[2], x + block.ff(block.norm2(x)))
    torch.testing.assert_close(tracing.streams(model, ids), before)  # the hooks are gone


# --- where facts live ---


def test_a_fact_as_a_prompt():
    for fact in random.Random(1).sample(knowledge.load_facts(), 60):
        wrong = probe.wrong_answers(fact, knowledge.load_facts(), ENCODING, random.Random(1))
        for n in range(len(knowledge.probes(fact))):
            if (found := facts_asked.asked(fact, n, [fact.answer, *wrong], ENCODING)) is None:
                continue
            text = ENCODING.decode([found.ids[i] for i in found.places])
            assert fact.subject in text and len(text) <= len(fact.subject) + 8
            assert ENCODING.decode(found.ids[1:]) == knowledge.probes(fact)[n][0]
            assert f" {fact.answer}".startswith(ENCODING.decode(found.words[:1]))
            assert 0 < found.places[0] and found.places[-1] < len(found.ids) - 1
            assert len(found.between) == len(found.ids) - 2 - found.places[-1]


def test_known_facts_are_right_and_hang_on_the_subject(model):
    facts = [fact for fact in knowledge.load_facts() if fact.family == "categories"]
    pairs, wins = facts_asked.known(model, ENCODING, facts, 5)
    assert 0 < len(pairs) <= wins.count(0) <= len(wins)  # a few are right by chance
    assert set(wins) <= {0, 1, 2, 3, None}
    for prompt, other in pairs:
        assert len(prompt.ids) == len(other.ids) and prompt.places == other.places
        assert prompt.fact.answer != other.fact.answer and prompt.words == other.words
        first, second = facts_asked.winners(model, [prompt, other])
        assert first == 0 != second
        right, margin = facts_asked.at_the_end(model, [prompt, other])
        assert right.tolist() == [True, False] and margin[0] > 0
        alone = tracing.lens(model, prompt.ids, prompt.words)[-1, -1]
        assert margin[0].item() == pytest.approx(float(alone[0] - alone[1:].mean()), rel=1e-3)


def test_the_table_of_where_facts_live(subject):
    table = where_facts_live.measure(subject, Options(facts=4))
    assert not table.duplicated(["measure", "layer", "part", "place"]).any()
    known = table[table.measure == "known"].iloc[0]
    assert 0 < known.value < 0.2 and 0 < known.control < 0.2  # by luck, both
    lens = table[(table.measure == "lens") & (table.layer == 3) & (table.place == "last")]
    assert lens.value.tolist() == [1] and lens.control.tolist() == [0]  # so they were chosen
    exchange = table[table.measure == "exchange"].set_index(["layer", "place"])
    assert exchange.value[0, "subject"] == pytest.approx(exchange.control.iloc[0], abs=1e-4)
    assert exchange.value[3, "last"] == pytest.approx(exchange.control.iloc[0], abs=1e-4)
    ablation = table[table.measure == "ablation"].set_index(["layer", "part", "place"])
    assert len(ablation) == 3 * 2 * 4
    assert ablation.value[3, "ff", "subject"] == pytest.approx(0, abs=1e-5)  # nobody looks there
    assert ablation.control[:, :, "everywhere"].notna().all()


# --- circles ---


def test_what_repeats():
    assert circles.repeated([1, 2, 3, 4, 5, 6]) == (0, 1)
    assert circles.repeated([1, 2, 3, 4, 1, 2, 3, 4]) == (pytest.approx(1 / 5), 2)
    assert circles.repeated([7] * 10) == (pytest.approx(6 / 7), 7)
    assert circles.repeated([7] * 3) == (0, 0)


def test_longest_runs_are_those_of_a_search_everywhere(monkeypatch):
    rng = np.random.default_rng(1)
    arrays = [rng.integers(0, 3, size, dtype=np.uint16) for size in (700, 3, 200)]
    texts = [rng.integers(0, 3, size).tolist() for size in (60, 40, 4, 60)]
    texts += [[4] * 30, arrays[0][100:160].tolist(), [1, *arrays[2][150:].tolist()]]

    read = ["".join(map(str, array)) for array in arrays]

    def longest(text):
        runs = itertools.combinations(range(len(text) + 1), 2)
        row = "".join(map(str, text))
        return max((j - i for i, j in runs if any(row[i:j] in one for one in read)), default=0)

    expected = [n if n >= circles.SHORTEST else 0 for n in map(longest, texts[2:])]
    for piece in (1_000_000, 50):
        monkeypatch.setattr(circles, "PIECE", piece)
        found = circles.longest_runs(texts, arrays)
        assert found[2:] == expected
    assert found[4:6] == [0, 60] and found[6] >= 50


def test_the_table_of_circles(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(circles, "OPENINGS", circles.OPENINGS[:2])
    monkeypatch.setattr(circles, "LENGTH", 12)
    table = circles.measure(subject, Options(read=None))
    assert len(table) == 2 * (1 + 3 * circles.SEEDS) and table.longest_run.isna().all()
    greedy = table[table.method == "greedy"]
    assert greedy.text.str.len().gt(0).all()
    pd.testing.assert_frame_equal(circles.measure(subject, Options(read=None)), table)
    read = np.array(ENCODING.encode_ordinary(greedy.text.iloc[0] * 2), dtype=np.uint16)
    np.save(tmp_path / "train-corpus-0.npy", read)
    with pytest.raises(ValueError, match="valid-"):
        circles.measure(subject, Options(read=tmp_path))
    np.save(tmp_path / "valid-0.npy", np.arange(500, dtype=np.uint16))
    table = circles.measure(subject, Options(read=tmp_path))
    people = table[table.method == "people"]
    assert len(people) == 100 and (people.longest_run == 0).all() and (people.most == 1).all()


# --- loss by kind ---


def test_kinds_of_words():
    text = b'Then old Tom met Ann, and 12 dogs. "The dogs," said Tom'
    found, start = {}, 0
    for end, kind in loss_by_kind.kinds(text):
        found.setdefault(kind, []).append(text[start:end].decode().strip())
        start = end
    assert start == len(text)
    assert found == {
        "function words": ["Then", "and", "The"],
        "other words, first time": ["old", "met", "dogs", "said"],
        "names, first time": ["Tom", "Ann"],
        "signs and line ends": [",", ".", '"', ',"'],
        "digits": ["12"],
        "other words, again": ["dogs"],
        "names, again": ["Tom"],
    }


def test_passages_are_whole_words_of_the_text():
    text = editions.STORY.read_text(encoding="utf-8")
    found = list(loss_by_kind.passages(text, 10))
    assert len(found) == 10 and len(set(found)) == 10
    for piece in found:
        assert 500 < len(piece) <= 600 and piece in text.encode()
        assert not piece.startswith(b" ") and not piece.endswith(b" ")
    assert list(loss_by_kind.passages("too short", 3)) == []


def test_parts_add_up_to_the_whole(subject):
    story = editions.STORY.read_text(encoding="utf-8")
    texts = list(loss_by_kind.passages(story, 4))
    table = pd.DataFrame(loss_by_kind.counted(subject, "story", texts)).set_index("part")
    places = table.index.str.startswith("from byte")
    nats = table.bits_per_byte * table.bytes
    for some in (places, ~places & (table.index != "all")):
        assert table.bytes[some].sum() == table.bytes["all"] == sum(map(len, texts))
        assert nats[some].sum() == pytest.approx(nats["all"])
    total = 0.0  # nats, passage by passage
    for text in texts:
        ids = torch.tensor([[ENCODING.eot_token, *ENCODING.encode_ordinary(text.decode())]])
        with torch.no_grad():
            said = subject.model.eval()(ids[:, :-1]).flatten(0, 1)
        total += nn.functional.cross_entropy(said, ids[0, 1:], reduction="sum").item()
    assert nats["all"] == pytest.approx(total / np.log(2), rel=1e-5)


def test_sources_are_the_same_for_all_models(tmp_path):
    story = editions.STORY.read_text(encoding="utf-8")
    (tmp_path / "story.txt").write_text(story, encoding="utf-8")
    given = Options(corpus=None, valid=[tmp_path], count=6, held_out=None)
    found = loss_by_kind.sources(given)
    assert set(found) == {"story", "worksheets", "stated facts"}
    assert all(3 <= len(texts) <= 6 for texts in found.values())
    assert found == loss_by_kind.sources(given)


# --- what was drilled ---


def test_worksheets_use_the_layouts_that_they_are_said_to_use():
    assert [layouts.in_sheets(layout) > 50 for layout in drilled.PAIRS] == [True] * 4 + [False] * 4
    assert all(layouts.in_sheets(layout) == 0 for layout in drilled.PAIRS[4:])
    used = [layouts.in_sheets(layout, layouts.FIGURE) for layout in drilled.SUMS]
    assert min(used[:2]) > 0 and max(used[2:]) == 0
    words = "(?:one|two|three|four|five|six|seven)"
    assert [layouts.in_sheets(layout, words) for layout in drilled.SUMS] == [0] * 4
    lists = [layouts.in_sheets(layout, r"[A-Za-z]+(?: [A-Za-z]+)+") for layout in drilled.LISTS]
    assert min(lists[:2]) > 0 and max(lists[2:]) == 0
    copied = [layouts.copied_with(glue) for glue in drilled.GLUES]
    assert min(copied[:3]) > 0 and max(copied[3:]) == 0


def test_counting_layouts(monkeypatch):
    sheets = ["cat -> cats; dog -> dogs", "a -> 1", "cat-> cats", "one two one two", "x ~ y"]
    monkeypatch.setattr(layouts, "sheets", lambda: sheets)
    layouts.in_sheets.cache_clear()
    assert layouts.in_sheets("{0} -> {1}") == 1 and layouts.in_sheets("{0} ~ {1}") == 1
    assert layouts.in_sheets("{0} -> {1}", r"\w+") == 2
    assert layouts.copied_with(" ") == 1 and layouts.copied_with("\n") == 0
    layouts.in_sheets.cache_clear()


def test_prompts():
    asked = drilled.prompt_of("{0} -> {1}", [("cat", "cats"), ("ox", "oxen")], ("dog", "dogs"))
    assert asked == ("cat -> cats\nox -> oxen\ndog ->", "dogs")
    asked = drilled.prompt_of("add {0} to {2} to get {1}", [("1", "3", "2")], ("4", "9", "5"))
    assert asked == ("add 1 to 2 to get 3\nadd 4 to 5 to get", "9")


def test_answers_count_as_a_whole_and_by_tokens():
    copies = experiment.Subject("copies", Copies(), ENCODING, 256, "")
    shown = [("cat", "house"), ("river", "tree")]
    tasks = [drilled.prompt_of("{0}: {1}", shown, shown[0])] * 3
    assert drilled.answered(copies, tasks) == {"tries": 3, "right": 1, "tokens": 1}
    wrong = [(prompt, "house of cards") for prompt, _ in tasks[:1]]
    found = drilled.answered(copies, [*tasks, *wrong])
    assert found["right"] == 0.75 and 0.5 < found["tokens"] < 1


def test_a_model_that_copies_copies_in_every_layout():
    copies = experiment.Subject("copies", Copies(), ENCODING, 256, "")
    table = pd.DataFrame(drilled.copy_rows(copies, 3))
    assert (table.tokens == 1).all() and (table.right == 1).all() and len(table) == 12
    assert not table.duplicated(["task", "layout"]).any()


def test_a_model_that_knows_nothing_gets_nothing_right(subject):
    table = drilled.measure(subject, Options(tries=2))
    assert (table.right == 0).all() and (table.tokens < 0.5).all()
    assert not table.duplicated(["task", "layout", "shots"]).any()
    assert set(table.sheets[table.layout.str.contains("~")]) == {0}
