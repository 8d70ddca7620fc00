"""The assistant as it ships: whole, ours in every edition, as good as its card says; and the stored comparison."""

import hashlib
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch
from scripts import scripts

from shared import editions, encodings, models
from shared.instruction import generate_responses
from shared.scoring import OPEN, is_right

FOLDER = Path(__file__).resolve().parents[1] / "ch07_instruction"

sys.path.insert(0, str(Path(__file__).parent))

import test_instructions as data  # noqa: E402

_, compare_assistants = scripts(FOLDER, "make_assistant", "compare_assistants")

ENTRIES = editions.read_instructions(editions.INSTRUCTIONS)
TEST = [entry for entry in ENTRIES if entry["split"] == "test"]
CARD = (models.ASSISTANT_GPT / "README.md").read_text(encoding="utf-8")
TABLE = pd.read_csv(FOLDER / "compare.csv", dtype={"weights": str, "recipe_and_items": str})
GENERATED = [f for f in dict.fromkeys(e["family"] for e in TEST) if f not in {*OPEN, "write_sentence"}]  # fmt: skip


@pytest.fixture(scope="module")
def assistant():
    return models.instruction_model()


def rows(setting, family):
    return TABLE[(TABLE.setting == setting) & (TABLE.family == family)]


def exact(setting, family):
    return rows(setting, family).exact.mean()


@pytest.mark.parametrize("edition", ["course-gpt", "gpt2"])
def test_what_instruction_model_returns(monkeypatch, edition):
    """Ours, whatever COURSE_MODEL says, and its tokenizer, too."""
    monkeypatch.setenv("COURSE_MODEL", edition)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, cfg = models.instruction_model()
    assert cfg == models.load_model(models.FIRST_GPT, encodings.FIRST_TOKENIZER)[1]
    assert cfg["vocab_size"] == encodings.course_encoding(first=True).n_vocab == 4096
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


def test_it_answers_as_the_table_says(assistant):
    """A part of the test items, anew."""
    some = [entry for entry in TEST if entry["family"] not in OPEN][::6]
    found = [is_right(*pair) for pair in zip(some, generate_responses(assistant[0], some, encodings.course_encoding(first=True)))]  # fmt: skip
    # its own error for so many items: two standard errors, and some
    assert sum(found) / len(found) == pytest.approx(exact("assistant_gpt", "all"), abs=0.1)


def test_it_ends_its_answers(assistant):
    some = [entry for entry in TEST if entry["family"] not in OPEN][::40]
    for response in generate_responses(assistant[0], some, encodings.course_encoding(first=True)):
        assert 0 < len(response) < 100 and "\n" not in response and "###" not in response, response


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
    rows = 0
    for setting, (_, seeds) in compare_assistants.SETTINGS.items():
        for seed in seeds:
            part = TABLE[(TABLE.setting == setting) & (TABLE.seed == seed)]
            other = setting.endswith("other items")
            families = GENERATED if other else {entry["family"] for entry in TEST}
            assert set(part.family) == {*families, "all"} and part.family.is_unique, setting
            made_of = compare_assistants.made_of(setting, ENTRIES)
            assert (part.weights == made_of["weights"]).all(), setting
            assert (part.recipe_and_items == made_of["recipe_and_items"]).all(), setting
            rows += len(part)
    assert len(TABLE) == rows  # and of nothing else


def test_intervals_hold_their_means():
    known = TABLE.dropna(subset="exact")
    assert set(TABLE.family[TABLE.exact.isna()]) == OPEN
    assert (known.exact_low <= known.exact).all() and (known.exact <= known.exact_high).all()
    assert (TABLE.rouge_l_low <= TABLE.rouge_l).all() and (TABLE.rouge_l <= TABLE.rouge_l_high).all()  # fmt: skip


def test_what_fine_tuning_brings():
    """60 % over the families; seven of them above 80 % and one at 80, where eight above it were the aim."""
    shares = [exact("assistant_gpt", family) for family in GENERATED]
    assert len(shares) == 16 and sum(shares) / 16 >= 0.6
    assert sum(share > 0.8 for share in shares) >= 7 and sum(share >= 0.8 for share in shares) >= 8
    assert exact("before", "all") < 0.05
    assert exact("before", "all") < exact("short", "all") < exact("assistant_gpt", "all")


def test_other_items_say_the_same():
    """The first test was looked at while the assistant was made; these were not."""
    items = compare_assistants.other_items(ENTRIES)
    assert not {(e["instruction"], e["input"]) for e in ENTRIES} & {(e["instruction"], e["input"]) for e in items}  # fmt: skip
    assert {e["split"] for e in items} == {"test"} and {e["family"] for e in items} == set(
        GENERATED
    )
    for entry in items:
        if entry["family"] in data.WORD_FAMILIES[:5]:
            assert data.reserved_words(entry), entry
    shares = [exact("assistant_gpt, other items", family) for family in GENERATED]
    assert sum(shares) / 16 >= 0.6 and sum(share > 0.8 for share in shares) >= 8


def test_the_card_tells_the_table():
    for family in [*dict.fromkeys(entry["family"] for entry in TEST), "all"]:
        cells = [
            f"{100 * exact(name, family):.0f}" for name in ("before", "short", "assistant_gpt")
        ]
        cells = ["" if cell == "nan" else cell for cell in cells]
        found = re.search(rf"^\| {family} \| (.*) \|$", CARD, re.MULTILINE)
        assert found and [cell.strip() for cell in found[1].split("|")][1:4] == cells, family


def test_the_cards_answers_are_its_answers(assistant):
    """Ten of them, as they come."""
    quoted = re.findall(r"^> \*\*(.+?)\*\*\s*\n> (.+)$", CARD, re.MULTILINE)
    assert len(quoted) == 10
    entries = [dict(zip(("instruction", "input"), f"{task} | ".split(" | "))) for task, _ in quoted]
    found = generate_responses(assistant[0], entries, encodings.course_encoding(first=True))
    assert found == [answer.strip() for _, answer in quoted]
