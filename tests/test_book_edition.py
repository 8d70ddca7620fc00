"""The lesson runs top to bottom in the book edition: on stand-ins always, on the real files where they are."""

import hashlib
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from shared import assets, editions

CHAPTER = Path(__file__).parent.parent / "ch02_text_data"
REAL = assets.cache_folder()
# what stands before the lesson's first cell: checksums of the stand-ins, if there are any
PREPARE = """
import dataclasses
from shared import assets
for name, digest in {digests}.items():
    assets.FILES[name] = dataclasses.replace(assets.FILES[name], sha256=digest, url="http://127.0.0.1:1/")
"""


def outputs_of_the_book_edition(folder, monkeypatch, digests):
    monkeypatch.setenv("COURSE_CACHE", str(folder))
    monkeypatch.setenv("COURSE_DATA", "book")
    monkeypatch.setenv("COURSE_MODEL", "gpt2")
    notebook = nbformat.read(CHAPTER / "ch02.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PREPARE.format(digests=digests)))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(CHAPTER)}}).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return "\n".join(out.get("text") or out.data["text/plain"] for out in outputs)


def test_on_stand_ins(tmp_path, monkeypatch, gpt2_like):
    _, merges, vocabulary = gpt2_like
    story = editions.STORY.read_text(encoding="utf-8").replace("Miss", "Mrs.").encode()
    files = {"the-verdict.txt": story, "vocab.bpe": merges, "encoder.json": vocabulary}
    digests = {}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    printed = outputs_of_the_book_edition(tmp_path, monkeypatch, digests)
    assert "data: book (the book's); model: gpt2 (50,257 tokens)" in printed
    assert f"{len(story):,} characters" in printed


@pytest.mark.skipif(
    not all((REAL / name).exists() for name in assets.FILES), reason="the book's files are not here"
)
def test_on_the_real_files(monkeypatch):
    printed = outputs_of_the_book_edition(REAL, monkeypatch, {})
    assert "20,479 characters" in printed
    assert "4,690 tokens, the first of them ['I', 'HAD', 'always'" in printed
    assert "1,130 entries" in printed
    assert "the text: 5,145 tokens" in printed
    assert (
        "[15496, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812," in printed
    )
