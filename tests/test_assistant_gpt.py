"""The assistant as it ships: whole, ours in every edition, as good as its card says; and the stored comparison."""

import hashlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
from scripts import scripts

from shared import editions, encodings, models
from shared.instruction import generate_responses
from shared.scoring import OPEN, admits, is_right

FOLDER = Path(__file__).resolve().parents[1] / "ch07_instruction"

_, compare_assistants, write_card = scripts(
    FOLDER, "make_assistant", "compare_assistants", "write_card"
)

ENTRIES = editions.read_instructions(editions.INSTRUCTIONS)
TEST = [entry for entry in ENTRIES if entry["split"] == "test"]
CARD = (models.ASSISTANT_GPT / "README.md").read_text(encoding="utf-8")
ANSWERS = pd.read_csv(FOLDER / "answers.csv", keep_default_na=False)
TABLE = pd.read_csv(FOLDER / "compare.csv", dtype={"weights": str, "recipe_and_items": str})


@pytest.fixture(scope="module")
def assistant():
    return models.instruction_model()


def rows(setting, family, wording="both"):
    """Of a short run those at its end."""
    found = TABLE[(TABLE.setting == setting) & (TABLE.family == family) & (TABLE.wording == wording)]  # fmt: skip
    return found[found.step == found.step.max()]


def exact(setting, family, wording="both"):
    return rows(setting, family, wording).exact.mean()


@pytest.mark.parametrize("edition", ["course-gpt", "gpt2"])
def test_what_instruction_model_returns(monkeypatch, edition):
    """Ours, whatever COURSE_MODEL says, and its tokenizer, too."""
    monkeypatch.setenv("COURSE_MODEL", edition)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, cfg = models.instruction_model()
    monkeypatch.delenv("COURSE_MODEL")
    assert cfg == models.pretrained()[1]
    assert cfg["vocab_size"] == encodings.course_encoding().n_vocab == 4096
    assert not model.training and {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.out_head.weight is model.tok_emb.weight
    assert models.instruction_model()[0] is not model  # a copy for each


def test_what_ships():
    files = {path.name: path for path in models.ASSISTANT_GPT.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "log.csv", "SHA256SUMS", "README.md"}
    assert sum(path.stat().st_size for path in files.values()) <= 15e6
    for line in files["SHA256SUMS"].read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest, name
    stored = safetensors.torch.load_file(files["model.safetensors"])
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    log = pd.read_csv(files["log.csv"])
    assert log.step.is_monotonic_increasing and log.validation.iloc[-1] < log.validation[0]


def test_it_answers_as_is_stored(assistant):
    """Some test items anew; the stored answers were computed in 16 bits."""
    some = ANSWERS[ANSWERS.family != "talk"][::25]
    found = generate_responses(
        assistant[0], some.to_dict("records"), encodings.course_encoding(), 48
    )
    assert sum(a == b for a, b in zip(found, some.answer.str.strip())) >= 0.8 * len(some)


def test_it_ends_its_answers(assistant):
    for response in ANSWERS.answer:
        assert "\n" not in response and "User:" not in response, response
    assert (ANSWERS.answer.str.len() < 160).all()


def test_the_table_is_of_the_stored_answers():
    said = ANSWERS[ANSWERS.family != "talk"]
    assert len(said) == len(TEST) and len(ANSWERS) == len(TEST) + 20
    found = [is_right(entry, answer) for entry, answer in zip(TEST, said.answer)]
    for family in {entry["family"] for entry in TEST} - OPEN:
        right = [mark for mark, entry in zip(found, TEST) if entry["family"] == family]
        assert sum(right) / len(right) == pytest.approx(exact("assistant_gpt", family), abs=1e-4)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The shipped folder, to be damaged."""
    folder = shutil.copytree(models.ASSISTANT_GPT, tmp_path / "assistant_gpt")
    monkeypatch.setattr(models, "ASSISTANT_GPT", folder)
    return folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(ValueError, match=rf"{name} cannot be read: .*git checkout"):
        models.instruction_model()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_damaged_file(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .*git checkout"):
        models.instruction_model()


# --- compare.csv ---


def test_the_table_is_of_what_ships():
    count = 0
    for name, setting in compare_assistants.SETTINGS.items():
        for seed in setting.seeds:
            part = TABLE[(TABLE.setting == name) & (TABLE.seed == seed)]
            families = {entry["family"] for entry in TEST} | {"rules", "knowledge", "all"}
            assert set(part.family) == families and set(part.wording) == {"both", "known", "reserved"}  # fmt: skip
            made_of = compare_assistants.made_of(name, ENTRIES)
            assert (part.weights == made_of["weights"]).all(), name
            assert (part.recipe_and_items == made_of["recipe_and_items"]).all(), name
            count += len(part)
    assert len(TABLE) == count  # and of nothing else
    steps = compare_assistants.SHORT["items"] // compare_assistants.SHORT["batch"]
    assert set(TABLE[TABLE.setting == "short"].step) == {*compare_assistants.LOOKS, steps}


def test_intervals_hold_their_means():
    known = TABLE.dropna(subset="exact")
    assert set(TABLE.family[TABLE.exact.isna()]) == OPEN & set(TABLE.family)
    assert (known.exact_low <= known.exact).all() and (known.exact <= known.exact_high).all()
    assert (TABLE.rouge_l_low <= TABLE.rouge_l).all() and (TABLE.rouge_l <= TABLE.rouge_l_high).all()  # fmt: skip


def test_what_fine_tuning_brings():
    """Rules by what is worked out, knowledge by what was read; in wordings that were never seen, too."""
    assert exact("assistant_gpt", "rules") >= 0.8 and exact("assistant_gpt", "knowledge") >= 0.5
    for group in ("rules", "knowledge"):
        known, reserved = (exact("assistant_gpt", group, w) for w in ("known", "reserved"))
        assert reserved >= known - 0.05, group
    assert exact("before", "all") < 0.05
    assert exact("short", "all") >= 0.22


def test_what_it_has_not_forgotten():
    bits = {name: rows(name, "all").bits.mean() for name in ("before", "short", "short, no rehearsal", "assistant_gpt", "first assistant")}  # fmt: skip
    assert bits["assistant_gpt"] <= bits["before"] + 0.1
    assert bits["short"] < bits["short, no rehearsal"] and bits["first assistant"] > 3


def test_it_says_what_it_does_not_know():
    said = ANSWERS[ANSWERS.family != "talk"]
    admitted = said.answer.map(admits)
    assert admitted[said.family == "unknowable"].mean() >= 0.8
    assert admitted[~said.family.isin(["unknowable", "unread"])].mean() <= 0.05


def test_the_card_is_written_from_the_tables():
    (made,) = [line for line in CARD.splitlines() if line.startswith("python ch07_instruction/make")]  # fmt: skip
    assert write_card.card(made) == CARD
