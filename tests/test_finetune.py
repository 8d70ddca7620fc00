"""Fine-tuning and the comparison of recipes, on a model that is made in a moment: nothing lost, nothing reserved."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import safetensors.torch
import torch

from shared import editions, encodings, instruction, models, scoring
from shared.gpt_model import GPTModel

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "ch07_instruction"
sys.path[:0] = [str(FOLDER), str(ROOT / "tests")]

import test_instructions as data  # noqa: E402
from scripts import scripts  # noqa: E402

make_assistant, compare_assistants = scripts(FOLDER, "make_assistant", "compare_assistants")

import drawn as more  # noqa: E402

CFG = {"vocab_size": 4096, "context_length": 128, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
CFG |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}
ENTRIES = editions.read_instructions(editions.INSTRUCTIONS)
FEW = ENTRIES[:40] + [e for e in ENTRIES if e["split"] == "validation"][:6]
FEW += [e for e in ENTRIES if e["split"] == "test" and e["family"] == "plural"][:6]
GIVEN = ["--epochs", "3", "--batch", "8", "--texts", "4", "--rows", "1"]
RUN = {"epochs": 1, "batch": 8, "peak": 1e-3, "prompt": instruction.short_prompt}
RUN |= {"rehearse": 0.0, "rows": 1, "texts": 2}


def tiny():
    torch.manual_seed(1)
    return GPTModel(CFG).eval(), CFG


@pytest.fixture
def small(monkeypatch):
    """The course with a tiny model and few items."""
    monkeypatch.setattr(models, "pretrained", tiny)
    monkeypatch.setattr(editions, "instructions", lambda: FEW)
    monkeypatch.setattr(make_assistant, "TEXT", 16)


def run(out, *more):
    """A run's folder: what its files say."""
    make_assistant.main(["--out", str(out), *GIVEN, *map(str, more)])
    return files(out)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- make_assistant.py ---


def test_a_run_makes_a_folder_that_can_be_loaded(small, tmp_path, capsys):
    made = run(tmp_path / "model")
    assert set(made) == {"config.json", "model.safetensors", "log.csv", "SHA256SUMS"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # no state is left
    model, cfg = models.load_model(tmp_path / "model")
    assert cfg == CFG
    moved = model.trf_blocks[0].ff.layers[0].weight - tiny()[0].trf_blocks[0].ff.layers[0].weight
    assert moved.abs().max() > 1e-3
    log = pd.read_csv(tmp_path / "model" / "log.csv")
    assert log.step.tolist() == [5, 10, 15] and log.training.iloc[-1] < log.training[0]
    assert (log.bits > 1).all()
    printed = capsys.readouterr().out
    assert "40 training items" in printed and "of the validation items answered right" in printed


def test_a_run_that_has_finished_says_so(small, tmp_path, capsys):
    first = run(tmp_path / "model")
    capsys.readouterr()
    assert run(tmp_path / "model") == first
    assert capsys.readouterr().out == f"{tmp_path / 'model'}: finished\n"
    with pytest.raises(SystemExit, match="model is not empty, and not what make_assistant.py"):
        run(tmp_path / "model", "--seed", 5)
    assert files(tmp_path / "model") == first


def test_a_kill_while_it_scores_costs_no_training(small, tmp_path, monkeypatch, capsys):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(make_assistant, "share_right", killed)
        run(tmp_path / "model")
    made = files(tmp_path / "model")
    capsys.readouterr()
    assert run(tmp_path / "model") == made
    (line,) = capsys.readouterr().out.splitlines()
    assert "of the validation items answered right" in line
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_ships_is_left_alone(small):
    before = files(models.ASSISTANT_GPT)
    assert "name a new folder" in refused(models.ASSISTANT_GPT)
    assert files(models.ASSISTANT_GPT) == before


def test_the_same_seed_makes_the_same_model(small, tmp_path):
    one = run(tmp_path / "one")
    assert run(tmp_path / "two") == one
    assert run(tmp_path / "three", "--seed", 5)["model.safetensors"] != one["model.safetensors"]


KILLED = f"""
import os, signal, sys
sys.path[:0] = [{str(FOLDER)!r}, {str(ROOT / "tests")!r}]
import test_finetune as here
from shared import editions, encodings, instruction, models
models.pretrained, editions.instructions = here.tiny, lambda: here.FEW
here.make_assistant.TEXT = 16
train_epoch = instruction.train_epoch
def until_killed(*given, **named):
    for step, loss in train_epoch(*given, **named):
        if step == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        yield step, loss
instruction.train_epoch = until_killed
here.run(here.Path(sys.argv[1]))
"""


def test_a_run_that_was_killed_goes_on_to_the_same_model(small, tmp_path, capsys):
    env = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    given = [sys.executable, "-c", KILLED, str(tmp_path / "model")]
    killed = subprocess.run(given, env=env, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    state, texts = sorted(tmp_path.iterdir())
    assert re.fullmatch(r"model\.state-[0-9a-f]{12}\.pt", state.name)
    assert texts.suffix == ".texts"  # what is rehearsed is not written again
    again = run(tmp_path / "model")
    assert "step     5" not in capsys.readouterr().out  # the first epoch was kept
    assert again == run(tmp_path / "whole") and not state.exists() and not texts.exists()


def test_a_state_of_other_options_is_left_alone(small, tmp_path, monkeypatch):
    stopped(tmp_path / "model", monkeypatch)
    (state,) = tmp_path.glob("*.pt")
    run(tmp_path / "model", "--peak", 1e-3)
    assert state.exists()


def stopped(out, monkeypatch, *more):
    """Ctrl-C in the second epoch."""
    train_epoch = instruction.train_epoch

    def until_stopped(*given, **named):
        for step, loss in train_epoch(*given, **named):
            if step == 7:
                raise KeyboardInterrupt
            yield step, loss

    with (
        monkeypatch.context() as patch,
        pytest.raises(SystemExit, match="the same command goes on"),
    ):
        patch.setattr(instruction, "train_epoch", until_stopped)
        run(out, *more)


def test_ctrl_c_costs_the_current_epoch_at_most(small, tmp_path, monkeypatch, capsys):
    whole = run(tmp_path / "whole")
    stopped(tmp_path / "model", monkeypatch)
    assert not (tmp_path / "model").exists()
    capsys.readouterr()
    assert run(tmp_path / "model") == whole
    assert "step     5" not in capsys.readouterr().out


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_loss_on_the_answer_or_on_everything(optimizer):
    weights = {}
    for answers_only in (True, False):
        model = tiny()[0]
        given = SimpleNamespace(**RUN, answers_only=answers_only)
        given.optimizer, given.keep_tokens = optimizer, False
        torch.manual_seed(2)
        (row,) = make_assistant.train(model, FEW, encodings.course_encoding(), given)
        assert 0 < row["training"] < 10 and 0 < row["validation"] < 10 and row["bits"] > 1
        weights[answers_only] = model.tok_emb.weight
    assert not torch.equal(*weights.values())


@pytest.mark.parametrize("keep", [True, False])
def test_the_embedding_is_kept_or_trained(keep):
    model, before = tiny()[0], tiny()[0]
    given = SimpleNamespace(**RUN, answers_only=True, optimizer="muon", keep_tokens=keep)
    make_assistant.train(model, FEW, encodings.course_encoding(), given)
    same = {n: torch.equal(p, before.get_parameter(n)) for n, p in model.named_parameters()}
    assert same["tok_emb.weight"] == keep and not same["pos_emb.weight"]
    assert (
        all(p.requires_grad for p in model.parameters())
        and model.out_head.weight is model.tok_emb.weight
    )


# --- the items it draws ---


@pytest.fixture(scope="module")
def drawn():
    return more.drawn_items(100, 123, ENTRIES)


def test_drawn_items_hold_nothing_that_is_tested(drawn):
    for entry in drawn:
        found = data.DETECTORS.get(entry["family"], data.reserved_questions)(entry)
        assert entry["split"] == "train" and not found, entry
        assert not data.PEOPLE & set(re.findall(r"\w+", data.whole(entry))), entry


def test_drawn_items_are_new(drawn):
    counts, known = Counter(), {(e["instruction"], e["input"]) for e in ENTRIES}
    for entry in drawn:
        text = entry["instruction"], entry["input"]
        assert text not in known or entry["family"] == "stranger"
        known.add(text)
        counts[entry["family"]] += 1
    expected = dict.fromkeys([*data.SCORED, "stranger"], 100)
    assert counts == expected | dict.fromkeys(more.SLOW, 400)


def test_a_stranger_is_known_only_from_what_is_said(drawn):
    strangers = [entry for entry in drawn if entry["family"] == "stranger"]
    told = [entry for entry in strangers if not scoring.admits(entry["output"])]
    assert 30 <= len(told) <= 50
    for entry in told:
        assert entry["output"].removesuffix(".").lower() in entry["instruction"].lower(), entry
    assert all(len(entry["instruction"].split()) < 9 for entry in strangers if entry not in told)


def test_what_is_rare_comes_again_and_another_exchange_may_come_first():
    count = Counter(entry["family"] for entry in FEW if entry["split"] == "train")
    entries = more.balanced(FEW)
    for family, number in Counter(e["family"] for e in entries if e["split"] == "train").items():
        assert number == count[family] * more.AGAIN.get(family, 1)
    after = more.in_talk(ENTRIES, 1)
    assert [one | {"before": []} for one in after] == [one | {"before": []} for one in ENTRIES]
    changed = [one for one, old in zip(after, ENTRIES) if one != old]
    learned = sum(entry["split"] == "train" for entry in ENTRIES)
    assert 0.1 * learned < len(changed) < 0.2 * learned
    for one in changed:
        assert [turn["role"] for turn in one["before"]] == ["user", "assistant"]
        assert one["split"] == "train"


def test_drawn_items_are_right(drawn):
    """By other rules than the generator's; words that do not exist have regular forms."""
    checked = Counter()
    for entry in drawn:
        family, output = entry["family"], entry["output"]
        if family == "stranger" or entry["instruction"][0].islower():
            continue
        if (made := data.parsed(entry)) is None:
            continue
        form, values = made
        if family in ("past_tense", "plural"):
            known = data.PASTS if family == "past_tense" else data.PLURALS
            ending = "e?d" if family == "past_tense" else "e?s"
            stem = re.escape(re.sub("y$", "", values[0]))
            regular = re.fullmatch(rf"{stem}(y|i)?{ending}", output)
            assert known.get(values[0]) == output or regular, entry
        elif family == "active_to_passive":
            one, thing = re.fullmatch(r"(.+) was \w+ by (.+)\.", output).groups()
            said = values[0].lower()
            assert said.startswith(f"{thing} ".lower()) and said.endswith(f" {one}.".lower()), entry
        elif family == "statement_to_question":
            first, *rest = output[:-1].split()
            said = values[0].lower().removesuffix(".").split()
            asked = [word.lower() for word in rest]
            if first == "Did":  # the verb alone differs, and not always
                said, asked = said[:-1], asked[:-1]
            else:
                said.remove(first.lower())
            assert said == asked, entry
        elif family == "antonym":
            both = {values[0], output}
            negated = any({f"{prefix}{word}", word} == both for prefix in ("un", "dis") for word in both)  # fmt: skip
            assert negated or output in data.OPPOSITES[values[0]], entry
        elif family == "extraction":
            assert re.search(rf"(?i)\b{output}\b", values[0]), entry
        elif family == "capitalisation" and form == "sentence":
            assert output.lower() == values[0] and output != values[0], entry
        else:
            assert output == data.right(entry, form, values), entry
        checked[family] += 1
    assert min(checked.values()) > 70


def test_regular_forms():
    assert [more.inflected(word, "ed") for word in ("brogast", "brogaste", "brogasty", "brogoy")] == [
        "brogasted", "brogasted", "brogastied", "brogoyed"]  # fmt: skip
    assert [more.inflected(word, "s") for word in ("shedrob", "satrez", "kathoch", "brogasty")] == [
        "shedrobs", "satrezes", "kathoches", "brogasties"]  # fmt: skip


def test_extra_items_are_trained_on(small, tmp_path, capsys):
    run(tmp_path / "model", "--extra", 2, "--epochs", 1)
    rare = sum(more.AGAIN.get(e["family"], 1) - 1 for e in FEW if e["split"] == "train")
    items = 40 + rare + 2 * 13 + 8 * 3 + 2
    assert f"{items} training items" in capsys.readouterr().out


def test_a_second_run_goes_on_from_the_first(small, tmp_path, monkeypatch):
    first = run(tmp_path / "first")
    second = run(tmp_path / "second", "--start", tmp_path / "first", "--epochs", 1, "--peak", 1e-9)
    log = pd.read_csv(tmp_path / "second" / "log.csv")
    assert log.step.tolist() == [5, 10, 15, 20] and second["log.csv"].startswith(first["log.csv"])
    # so small a rate changes nothing that half precision shows: the weights are the first run's
    one, two = (safetensors.torch.load(made["model.safetensors"]) for made in (first, second))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=0)
    assert not torch.equal(one["pos_emb.weight"], tiny()[0].pos_emb.weight.half())


def test_a_state_of_another_start_is_left_alone(small, tmp_path, monkeypatch):
    for seed in (1, 2):
        shutil.rmtree(tmp_path / "first", ignore_errors=True)
        run(tmp_path / "first", "--seed", seed, "--epochs", 1)
        stopped(tmp_path / "model", monkeypatch, "--start", tmp_path / "first")
    assert len(list(tmp_path.glob("model.state-*.pt"))) == 2


# --- what it refuses ---


@pytest.mark.parametrize(
    "given",
    [["--epochs", 0], ["--batch", 0], ["--peak", 0], ["--peak", "x"], ["--extra", -1], ["--epochs", 1.5]],
)  # fmt: skip
def test_options_that_cannot_be(tmp_path, given, capsys):
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "model", *given)
    assert caught.value.code == 2 and given[0] in capsys.readouterr().err


def refused(out, *given):
    with pytest.raises(SystemExit) as caught:
        run(out, *given)
    message = str(caught.value)
    assert message.startswith("make_assistant: ") and len(message.splitlines()) == 1
    return message


def test_items_of_the_course_are_not_mixed_with_the_books(small, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "book")
    assert "leave it out" in refused(tmp_path / "model", "--extra", 5)


def test_a_place_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    assert "file" in refused(tmp_path / "file" / "model")


def test_a_start_that_is_no_model(small, tmp_path):
    assert "none cannot be read, since it is not there" in refused(
        tmp_path / "model", "--start", tmp_path / "none"
    )
    assert not list(tmp_path.iterdir())


def test_a_damaged_state(small, tmp_path, monkeypatch):
    stopped(tmp_path / "model", monkeypatch)
    (state,) = tmp_path.glob("*.pt")
    state.write_bytes(state.read_bytes()[:1000])
    assert "damaged or cut off" in refused(tmp_path / "model")


# --- compare_assistants.py ---

RECIPE = {"items": 16, "epochs": 1, "batch": 8, "peak": 1e-3, "optimizer": "adamw"}
RECIPE |= {"rehearse": 1.0, "rows": 1, "texts": 2, "looks": (1,)}


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """A comparison in little: the models' folders, the settings, and `run() -> rows`."""
    for name in ("COURSE_GPT", "ASSISTANT_GPT"):
        models.save_model(tmp_path / name, *tiny(), "step\n")
    monkeypatch.setattr(make_assistant, "TEXT", 16)
    monkeypatch.setattr(compare_assistants.make_assistant, "TEXT", 16)
    path = tmp_path / "few.json"
    path.write_text(json.dumps(FEW), encoding="utf-8")
    monkeypatch.setattr(editions, "INSTRUCTIONS", path)
    setting, base = compare_assistants.Setting, tmp_path / "COURSE_GPT"
    settings = {
        "input copied": setting(base),
        "before": setting(base),
        "short": setting(base, RECIPE, (1, 2)),
        "assistant_gpt": setting(tmp_path / "ASSISTANT_GPT"),
        "random": setting(base, RECIPE | {"random": True, "answers_only": False, "rehearse": 0.0}),
    }
    monkeypatch.setattr(compare_assistants, "SETTINGS", settings)

    def run():
        given = ["--out", str(tmp_path / "compare.csv"), "--answers", str(tmp_path / "answers.csv")]
        compare_assistants.main(given)
        return pd.read_csv(tmp_path / "compare.csv")

    return run


def pairs(table):
    return list(dict.fromkeys(zip(table.setting, table.seed)))


ALL = [("input copied", 0), ("before", 0), ("short", 1), ("short", 2), ("assistant_gpt", 0), ("random", 0)]  # fmt: skip


def test_a_comparison_has_every_setting_and_family(compared, tmp_path):
    table = compared()
    assert pairs(table) == ALL
    both = table[table.wording == "both"]
    families = {entry["family"] for entry in FEW if entry["split"] == "test"}
    for _, part in both.groupby(["setting", "seed", "step"]):
        assert families < set(part.family) <= families | {"all", "rules", "knowledge"}
    assert set(table[(table.setting == "short")].step) == {1, 2}  # a look, and the end
    assert table.columns[:5].tolist() == ["setting", "seed", "step", "family", "wording"]
    assert table[table.setting != "input copied"].bits.between(1, 30).all()
    answers = pd.read_csv(tmp_path / "answers.csv", keep_default_na=False)
    count = sum(entry["split"] == "test" for entry in FEW)
    assert len(answers) == count + 20 and (answers.family[count:] == "talk").all()


def test_baselines_need_no_model():
    test = [e for e in ENTRIES if e["split"] == "test"]
    common = compare_assistants.baseline("most frequent answer", ENTRIES, test)
    copied = compare_assistants.baseline("input copied", ENTRIES, test)
    assert copied == [entry["input"] for entry in test]
    counted = Counter(e["output"] for e in ENTRIES if e["split"] == "train" and e["family"] == "counting")  # fmt: skip
    (said,) = {answer for answer, e in zip(common, test) if e["family"] == "counting"}
    assert counted[said] == max(counted.values())


def test_the_first_assistants_prompt_is_the_one_it_was_trained_with():
    entry = {"instruction": "Plural, please.", "input": "fox"}
    assert compare_assistants.first_prompt(entry) == (
        "### Instruction: Plural, please.\n### Input: fox\n### Response:"
    )


def test_a_comparison_goes_on_where_it_stopped(compared, monkeypatch, tmp_path):
    whole, trained, calls = compared(), compare_assistants.trained, []
    (tmp_path / "compare.csv").unlink()

    def stop_at_the_third(name, seed, *rest):
        calls.append((name, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return trained(name, seed, *rest)

    monkeypatch.setattr(compare_assistants, "trained", stop_at_the_third)
    with pytest.raises(SystemExit, match="the same command goes on"):
        compared()
    assert pairs(pd.read_csv(tmp_path / "compare.csv")) == ALL[:3]
    pd.testing.assert_frame_equal(compared(), whole)
    assert calls[2:] == [ALL[3], *ALL[3:]]


def test_rows_of_other_weights_are_made_anew(compared, monkeypatch, tmp_path):
    compared()
    models.save_model(tmp_path / "ASSISTANT_GPT", GPTModel(CFG), CFG, "step\n")
    trained, calls = compare_assistants.trained, []
    monkeypatch.setattr(
        compare_assistants, "trained", lambda *given: calls.append(given[0]) or trained(*given)
    )
    table = compared()
    assert calls == ["assistant_gpt"] and pairs(table)[-1] == ("assistant_gpt", 0)
    assert len(pairs(table)) == len(ALL) and table.weights.nunique() == 2


def test_a_comparison_without_its_items(monkeypatch, tmp_path):
    monkeypatch.setattr(editions, "INSTRUCTIONS", tmp_path / "none.json")
    with pytest.raises(SystemExit, match="compare_assistants: "):
        compare_assistants.main(["--out", str(tmp_path / "compare.csv")])
