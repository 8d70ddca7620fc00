"""Each lesson runs top to bottom in the book edition: on stand-ins always, on the real files where they are."""

import hashlib
import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from shared import assets, editions

ROOT = Path(__file__).parent.parent
CHAPTERS = {"ch02": "ch02_text_data", "ch03": "ch03_attention", "ch04": "ch04_gpt_model"}
# with the course's model: GPT-2 would need its weights
WITH_COURSE_GPT = {
    "ch01": "ch01_intro",
    "ch05": "ch05_pretraining",
    "ch06": "ch06_classification",
    "ch07": "ch07_instruction",
    "appendix_e": "appendix_e_lora",
}
BANNER = "data: book (the book's); model: gpt2 (50,257 tokens)"
REAL = assets.cache_folder()
# what stands before the lesson's first cell: checksums of the stand-ins, if there are any
PREPARE = """
import dataclasses
from shared import assets
for name, digest in {digests}.items():
    assets.FILES[name] = dataclasses.replace(assets.FILES[name], sha256=digest, url="http://127.0.0.1:1/")
"""


def outputs_of_the_book_edition(chapter, folder, monkeypatch, digests, model="gpt2", less=None):
    """What the lesson prints; `less` replaces pieces of its code, to train on less."""
    monkeypatch.setenv("COURSE_CACHE", str(folder))
    monkeypatch.setenv("COURSE_DATA", "book")
    monkeypatch.setenv("COURSE_MODEL", model)
    path = ROOT / (CHAPTERS | WITH_COURSE_GPT)[chapter]
    notebook = nbformat.read(path / f"{chapter}.ipynb", as_version=4)
    for long, short in (less or {}).items():
        (cell,) = [cell for cell in notebook.cells if long in cell.source]
        cell.source = cell.source.replace(long, short)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PREPARE.format(digests=digests)))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path)}}).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return "\n".join(out.get("text") or out.data["text/plain"] for out in outputs)


# chapter 4 passes here, too, but takes two minutes on one core, so it waits for the real files
@pytest.mark.parametrize("chapter", ["ch02"])
def test_on_stand_ins(chapter, tmp_path, monkeypatch, gpt2_like):
    _, merges, vocabulary = gpt2_like
    story = editions.STORY.read_text(encoding="utf-8").replace("Miss", "Mrs.").encode()
    files = {"the-verdict.txt": story, "vocab.bpe": merges, "encoder.json": vocabulary}
    digests = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    printed = outputs_of_the_book_edition(chapter, tmp_path, monkeypatch, digests)
    assert BANNER in printed
    assert f"{len(story):,} characters" in printed


def test_chapter_1_on_stand_ins(tmp_path, monkeypatch):
    """Another story, messages of which none is marked as hard, and instructions without families."""
    _, digests = stand_in_messages(tmp_path)
    story = editions.STORY.read_text(encoding="utf-8").replace("Miss", "Mrs.").encode()
    entries = editions.read_instructions(editions.INSTRUCTIONS)[:400]
    entries = [{key: e[key] for key in ("instruction", "input", "output")} for e in entries]
    files = {"the-verdict.txt": story, "instruction-data.json": json.dumps(entries).encode()}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    printed = outputs_of_the_book_edition("ch01", tmp_path, monkeypatch, digests, "course-gpt")
    assert "data: book (the book's); model: course-gpt (4,096 tokens)" in printed


def test_chapter_7_on_stand_ins_of_the_books_instructions(tmp_path, monkeypatch):
    """400 entries without families, some of them too long; with our model, as GPT-2's weights are far away."""
    entries = editions.read_instructions(editions.INSTRUCTIONS)[:400]
    entries = [{key: e[key] for key in ("instruction", "input", "output")} for e in entries]
    for entry in entries[5::150]:
        entry["input"] = "a long story " * 200
    content = json.dumps(entries).encode()
    (tmp_path / "instruction-data.json").write_bytes(content)
    digests = {"instruction-data.json": hashlib.sha256(content).hexdigest()}
    less = {
        "count=320": "count=48",
        "// 30][:30]": "// 12][:12]",  # tasks that are answered again and again
        "// 200][:200]": "// 40][:40]",  # of the course's own data, as in the course edition
    }
    printed = outputs_of_the_book_edition(
        "ch07", tmp_path, monkeypatch, digests, "course-gpt", less
    )
    assert "data: book (the book's); model: course-gpt (4,096 tokens)" in printed
    assert "{'train': 340, 'validation': 20, 'test': 40}" in printed
    assert "3 entries are too long" in printed
    assert "Below is an instruction that describes a task." in printed


# what the real files must print, a chapter
REAL_OUTPUTS = {
    "ch02": [
        BANNER,
        "20,479 characters",
        "4,690 tokens, the first of them ['I', 'HAD', 'always'",
        "1,130 entries",
        "the text: 5,145 tokens",
        "[15496, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812,",
    ],
    "ch03": [],
    "ch04": [BANNER, "163,009,536", "124,412,160"],
}


@pytest.mark.skipif(
    not all((REAL / name).exists() for name in ("the-verdict.txt", "encoder.json", "vocab.bpe")),
    reason="the book's files are not here",
)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_on_the_real_files(chapter, monkeypatch):
    printed = outputs_of_the_book_edition(chapter, REAL, monkeypatch, {})
    for line in REAL_OUTPUTS[chapter]:
        assert line in printed


@pytest.mark.skipif(not (REAL / "the-verdict.txt").exists(), reason="the book's text is not here")
def test_chapter_5_on_the_real_text(monkeypatch):
    printed = outputs_of_the_book_edition("ch05", REAL, monkeypatch, {}, "course-gpt")
    assert "data: book (the book's); model: course-gpt (4,096 tokens)" in printed


COLLECTION = "SMSSpamCollection"


def stand_in_messages(folder, count=600):
    """A few of the course's messages as the collection has them: tabs, quotation marks, repeats, one very long."""
    table = editions.messages().sample(count, random_state=5)
    lines = [f"{label}\t{text}" for label, text in zip(table.label, table.text)]
    lines += lines[:40] + [f"ham\t{'so long as this ' * 60}"]
    content = ("\n".join(lines) + "\n").encode()
    (folder / COLLECTION).write_bytes(content)
    return len(lines), {COLLECTION: hashlib.sha256(content).hexdigest()}


def test_chapter_6_on_stand_in_messages(tmp_path, monkeypatch):
    count, digests = stand_in_messages(tmp_path)
    printed = outputs_of_the_book_edition("ch06", tmp_path, monkeypatch, digests, "course-gpt")
    assert "data: book (the book's); model: course-gpt (4,096 tokens)" in printed
    assert f"of {count:,} messages are left" in printed
    # the comparison with logistic regression, on these messages
    for part in ("gain over the rival", "words and characters", "fine-tuned GPT", "both, added"):
        assert part in printed


@pytest.mark.skipif(not (REAL / COLLECTION).exists(), reason="the book's messages are not here")
def test_chapter_6_on_the_real_messages(monkeypatch):
    printed = outputs_of_the_book_edition("ch06", REAL, monkeypatch, {}, "course-gpt")
    assert "of 5,574 messages are left" in printed


def test_appendix_e_on_stand_in_messages(tmp_path, monkeypatch):
    _, digests = stand_in_messages(tmp_path, 300)
    # its second training is on the course's own items, as in the course edition
    less = {'asked("train"': 'asked("validation"', "< 0.5 * first_loss": "< first_loss"}
    less |= {'== bits["base"] < bits["adapter on"]': '== bits["base"]'}  # two steps forget nothing
    less |= {"num_epochs=2": "num_epochs=1", '== "validation"].sort': '== "validation"][::3].sort'}
    printed = outputs_of_the_book_edition(
        "appendix_e", tmp_path, monkeypatch, digests, "course-gpt", less
    )
    assert "data: book (the book's); model: course-gpt (4,096 tokens)" in printed
    assert "MB instead of 23.4 MB" in printed
