"""What README and the models' cards say in numbers is what the stored files say."""

import hashlib
import json
import math
import re
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from safetensors import safe_open
from scripts import scripts

from shared import encodings, files, models
from tools import chapters, read

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CARDS = {
    folder: (folder / "README.md").read_text(encoding="utf-8")
    for folder in (models.COURSE_GPT, models.SPAM_GPT, models.ASSISTANT_GPT)
}
COURSE, SPAM, ASSISTANT = CARDS.values()
LOG = pd.read_csv(models.COURSE_GPT / "log.csv")


def parameters(folder):
    with safe_open(folder / files.WEIGHTS, "pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def says(text, where, *parts):
    for part in parts:
        assert part in text, f"{where} does not say {part!r}"


def cells(text, head):
    """The rows of the Markdown table with this head, as lists of their cells."""
    assert head in text, f"no table {head!r}"
    rows = text.partition(head)[2].lstrip().split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if "--" not in row]


# --- README.md ---


def test_readme_says_how_large_the_model_is():
    cfg = json.loads((models.COURSE_GPT / files.CONFIG).read_text(encoding="utf-8"))
    millions = f"{parameters(models.COURSE_GPT) / 1e6:.2f} million parameters"
    tokens = f"a vocabulary of {cfg['vocab_size']:,} tokens"
    says(README, "README.md", millions, tokens, f"OpenAI's, {encodings.GPT2_TOKENS:,} tokens")


def test_readme_names_versions_and_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low, high = re.fullmatch(r">=(3\.\d+),<3\.(\d+)", project["requires-python"]).groups()
    versions = f"Python {low} to 3.{int(high) - 1}"
    says(README, "README.md", f"You need {versions}")
    says((ROOT / "lecturers.md").read_text(encoding="utf-8"), "lecturers.md", versions)
    (pin,) = re.findall(
        r"^torch==\S+", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M
    )
    says(README, "README.md", f"`{pin}+cpu`")


HOURS = {
    20: "Twenty minutes",
    40: "Forty minutes",
    60: "hour",
    75: "hour and a quarter",
    90: "hour and a half",
    120: "two hours",
    180: "three with the deep dives",
}


def lessons():
    for one in chapters(ROOT):
        path = one.notebook.relative_to(ROOT).as_posix()
        found = re.search(rf"^\| \[[^\]]*\]\({re.escape(path)}\).*\| (\d+) \|$", README, re.M)
        yield pytest.param(path, found and int(found[1]), id=one.name)


@pytest.mark.parametrize("path, minutes", list(lessons()))
def test_readme_says_how_long_a_lesson_takes(path, minutes):
    assert minutes, f"README.md has no row with {path} and its minutes"
    opening = read(ROOT / path).cells[0].source.lower()
    assert minutes in HOURS, (
        f"README.md says {minutes} minutes for {path}: how is that said in words?"
    )
    assert HOURS[minutes].lower() in opening, (
        f"README.md says {minutes} minutes for {path}; its opening does not say {HOURS[minutes]!r}"
    )


def test_readme_names_every_pinned_library():
    rows = " ".join(" ".join(row) for row in cells(README, "| library | for |"))
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        name = line.partition("==")[0]
        assert name in rows or "==" not in line, f"README.md does not say what {name} is for"


# --- the tokenizers and the messages ---


@pytest.mark.parametrize("card", sorted((ROOT / "ch02_text_data").glob("course_tokenizer*.md")))
def test_a_tokenizers_card_says_what_its_file_holds(card):
    text, file = card.read_text(encoding="utf-8"), card.with_suffix(".txt")
    lines = file.read_text(encoding="utf-8").splitlines()
    merges = sum(not line.startswith("#") for line in lines)
    (checksum,) = re.findall(r"[0-9a-f]{64}", text)
    says(text, card.name, f"256 bytes, {merges:,} merges", f"of {256 + merges + 1:,} tokens")
    whole = hashlib.sha256(file.read_bytes()).hexdigest()
    assert checksum == whole or any(checksum in line for line in lines), f"{card.name}: SHA-256"


def test_the_messages_card_counts_them():
    messages = pd.read_csv(ROOT / "ch06_classification" / "messages.csv")
    card = (ROOT / "ch06_classification" / "README.md").read_text(encoding="utf-8")
    says(card, "ch06_classification/README.md", f"{len(messages):,} messages written for this")
    for name, *said in cells(card, "| | train | validation | test |"):
        rows = messages[
            (messages.label == name[:4].strip(",")) & (messages.hard == ("hard" in name))
        ]
        found = [f"{(rows.split == part).sum():,}" for part in ("train", "validation", "test")]
        assert said == found, f"ch06_classification/README.md, {name}: there are {found}"


# --- all cards ---


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_a_card_says_how_large_its_file_is(folder):
    size = (folder / files.WEIGHTS).stat().st_size / 1e6
    says(
        CARDS[folder],
        folder.name,
        f"`model.safetensors` in half precision ({size:.1f} MB)",
    )


@pytest.mark.parametrize("folder", CARDS, ids=lambda folder: folder.name)
def test_a_card_says_the_architecture(folder):
    cfg = json.loads((folder / files.CONFIG).read_text(encoding="utf-8"))
    count = f"{parameters(folder):,}"
    if folder != models.SPAM_GPT:  # its head is another one
        says(CARDS[folder], folder.name, count, f"{cfg['vocab_size']:,} tokens")
        assert set(re.findall(r"\d,\d{3},\d{3}", CARDS[folder])) == {count}, folder.name
    size = f"{cfg['n_layers']} blocks, width {cfg['emb_dim']}"
    if folder != models.ASSISTANT_GPT:
        says(CARDS[folder], folder.name, size)
    says(CARDS[folder], folder.name, f"context {cfg['context_length']}")


# --- course_gpt ---


def test_the_curve_is_the_log():
    head = "| million tokens | bits per byte | random tokens copied | names copied |"
    for row in cells(COURSE, head):
        million = float(row[0])
        found = LOG.iloc[(LOG.tokens / 1e6 - million).abs().argmin()]
        logged = [
            f"{found.tokens / 1e6:.1f}",
            f"{found.bits_per_byte:.3f}",
            f"{found.repeated_tokens:.0%}".replace("%", " %"),
            f"{found.returning_names:.0%}".replace("%", " %"),
        ]
        assert row == logged, "course_gpt/README.md, the curve: log.csv says " + ", ".join(logged)


def test_the_card_says_what_the_log_says():
    last = LOG.iloc[-1]
    says(COURSE, "course_gpt", f"**{last.bits_per_byte:.3f}**", f"{last.seconds / 3600:.1f} hours")
    runs = [row for row in cells(COURSE, "| run | tokens | worksheets | peak learning rate | seed |")]  # fmt: skip
    millions = [float(row[1].split("M")[0]) for row in runs]
    assert sum(millions) == pytest.approx(last.tokens / 1e6, abs=0.1), "tokens of the runs"
    starts = [sum(millions[:i]) * 1e6 for i in range(3)] + [math.inf]
    for row, start, end in zip(
        runs[:2], starts, starts[1:]
    ):  # the third was logged at its end only
        most = LOG[LOG.tokens.between(start + 1e5, end + 1e5)].lr.max()
        assert most == pytest.approx(float(row[3]), rel=0.3), f"peak learning rate of run {row[0]}"
    for million in ("9M", "25M"):
        found = LOG.iloc[(LOG.tokens / 1e6 - float(million[:-1])).abs().argmin()]
        part = COURSE.partition("this one ")[2].partition("\n")[0]
        says(part, f"course_gpt, after {million}", f"{found.bits_per_byte:.2f}")


def test_the_card_says_what_was_measured():
    table = pd.read_csv(models.COURSE_GPT / "measures.csv", dtype=str)
    weights = hashlib.sha256((models.COURSE_GPT / files.WEIGHTS).read_bytes()).hexdigest()
    assert set(table.weights) == {weights[:12]}, "measures.csv is of other weights: run ship.py"
    measured = dict(zip(table.measure, table.value))
    works = dict(cells(COURSE, "| held out | bits per byte |"))
    stored = {k.partition(": ")[2]: v for k, v in measured.items() if k.startswith("bits per byte")}
    assert works == stored, "course_gpt/README.md, bits per byte of the works held out"
    good = dict(cells(COURSE, "## How good it is\n\n| | |"))
    for start, name in (("next token of 100", "repeated"), ("invented names", "returning")):
        (said,) = [value for text, value in good.items() if text.startswith(start)]
        (found,) = [value for text, value in measured.items() if text.startswith(name)]
        assert said.replace(" ", "") == found, f"course_gpt/README.md: {start} ... {said}"


# --- spam_gpt, and how it was made ---

spam_card, classifying = scripts(ROOT / "ch06_classification", "spam_card", "make_spam_gpt")


def number(value):
    """0.001 as the cards write it: 1e-3."""
    return f"{value:.0e}".replace("e-0", "e-")


def test_the_spam_cards_recipe_is_the_scripts():
    parts = pd.read_csv(ROOT / "ch06_classification" / "messages.csv")  # fmt: skip
    sizes = parts.split.value_counts()
    reading, labels = classifying.READING, classifying.LABELS
    says(
        SPAM,
        "spam_gpt/README.md",
        f"The {sizes['train']:,} training messages as a language model",
        f"{reading['epochs']} epochs, batches of {reading['batch_size']}, AdamW with a peak of {reading['peak']:g}",
        f"{labels['epochs']} epochs, batches of {labels['batch_size']}, a peak of {labels['peak']:g}",
        f"weight decay {classifying.DECAY} on matrices, dropout {classifying.DROPOUT}, gradients clipped at {classifying.CLIP:.0f}",
        f"On the {sizes['test']} development messages (the part `test` of `messages.csv`), of which "
        f"{(parts.hard.astype(bool) & (parts.split == 'test')).sum()} were marked as hard",
    )
    log = pd.read_csv(models.SPAM_GPT / "log.csv")
    epochs = {"reading": reading["epochs"], "labels": labels["epochs"]}
    assert log.stage.value_counts().to_dict() == epochs, "epochs in spam_gpt/log.csv"


def test_the_spam_card_quotes_the_comparison():
    """The sealed messages' score and the threshold, where the stored comparison is of this model."""
    table = classifying.compared(pd.read_csv(classifying.TABLE.with_name("messages.csv"), keep_default_na=False))  # fmt: skip
    if table is None:
        pytest.skip("compare.csv is of another model than the one that is stored")
    says(SPAM, "spam_gpt/README.md", spam_card.sealed_text(table, classifying.ROW))
    cfg = json.loads((models.SPAM_GPT / files.CONFIG).read_text(encoding="utf-8"))
    assert cfg["threshold"] == round(table.threshold[table.row == classifying.ROW].iloc[0], 4)


# --- assistant_gpt, and how it was made ---


def test_the_assistants_steps_follow_from_its_items():
    log = pd.read_csv(models.ASSISTANT_GPT / "log.csv")
    head = "| run | items drawn for a family | items | steps, all told | validation loss | validation items right | test, mean of sixteen families |"
    commands = re.findall(r"^python \S+ --out \S+.*$", ASSISTANT, re.MULTILINE)
    steps = 0
    for row, command in zip(cells(ASSISTANT, head), commands, strict=True):
        given = dict(re.findall(r"--(\w+) (\S+)", command))
        assert row[1] == f"{int(given['extra']):,}", f"run {row[0]}: {command}"
        epochs = int(given.get("epochs", 2))
        assert ("twice" in row[2]) == (epochs == 2), f"run {row[0]}: {command}"
        items = int(row[2].split(", ")[0].replace(",", ""))
        # spelling, sorting and capitals four times as many, of ten families with a rule
        assert items == 10_070 + int(given["extra"]) * 22, f"run {row[0]}: {row[2]} items"
        steps += epochs * math.ceil(items / 32)
        assert int(row[3].replace(",", "")) == pytest.approx(steps, abs=3), f"run {row[0]}: steps"
        logged = log.set_index("step").validation[int(row[3].replace(",", ""))]
        assert row[4] == f"{logged:.2f}", f"run {row[0]}: log.csv says {logged}"


def test_the_assistants_card_tells_its_table():
    table = pd.read_csv(ROOT / "ch07_instruction" / "compare.csv")
    ours = table[table.setting == "assistant_gpt"].set_index("family")
    head = "| family | items | before | short run | assistant | 95 % | ROUGE-L |"
    for family, items, *_, interval, rouge in cells(ASSISTANT, head):
        row = ours.loc[family]
        low, high = 100 * row.exact_low, 100 * row.exact_high
        found = [f"{row['items']:.0f}", "" if math.isnan(low) else f"{low:.0f} to {high:.0f}", f"{100 * row.rouge_l:.0f}"]  # fmt: skip
        assert [items, interval, rouge] == found, f"assistant_gpt/README.md, {family}"
    everything = table[table.family == "all"]
    for setting, seeds, exact, rouge in cells(ASSISTANT, "| setting | seeds | exact, all | ROUGE-L, all |"):  # fmt: skip
        rows = everything[everything.setting == setting]
        found = [f"{len(rows)}", f"{100 * rows.exact.mean():.1f}", f"{100 * rows.rouge_l.mean():.1f}"]  # fmt: skip
        assert [seeds, exact, rouge] == found, f"assistant_gpt/README.md, setting {setting}"
