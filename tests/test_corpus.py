"""Reading a corpus, and training a tokenizer on it, on tiny folders."""

import gzip
import runpy
import sys
from pathlib import Path

import pytest

from shared import editions
from shared.corpus import Document, plain, read_documents, sample

SCRIPT = Path(editions.CHAPTER_2) / "train_tokenizer.py"


@pytest.fixture
def folder(tmp_path):
    tmp_path = tmp_path / "corpus"
    tmp_path.mkdir()
    (tmp_path / "b.txt").write_text(
        "“One,” she said.\n<|endoftext|>\nTwo — and no more…\n", encoding="utf-8"
    )
    with gzip.open(tmp_path / "a.txt.gz", "wt", encoding="utf-8") as file:
        file.write("Three\r\nlines\r\n<|endoftext|>\r\n\r\n<|endoftext|>\r\nFour\n")
    return tmp_path


def train(*arguments):
    """Run the script as a reader does; what it prints is in `capsys`."""
    before, sys.argv = sys.argv, [str(SCRIPT), *map(str, arguments)]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = before


def test_documents_are_read_in_order_and_made_plain(folder):
    assert read_documents(folder) == [
        Document("Three", "Three\nlines"),
        Document("Four", "Four"),
        Document('"One," she said.', '"One," she said.'),
        Document("Two -- and no more...", "Two -- and no more..."),
    ]


def test_titles_come_from_the_list_of_works(folder):
    (folder / "works.tsv").write_text(
        "group\ttitle\nval\tX\nb\tThe First\nb\tThe Second\na\tToo few\n", encoding="utf-8"
    )
    assert [d.title for d in read_documents(folder)] == ["Three", "Four", "The First", "The Second"]


def test_plain_leaves_plain_text_alone():
    assert plain('"It\'s" -- naïve... £5') == '"It\'s" -- naïve... £5'
    assert plain("‘It’s’") == "'It's'"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("bad.txt", "naïve".encode("latin-1"), "bad.txt is not UTF-8"),
        ("bad.txt.gz", b"no archive", "bad.txt.gz is damaged"),
        ("bad.txt.gz", gzip.compress(b"cut" * 9)[:-9], "bad.txt.gz is damaged"),
    ],
    ids=["latin", "no archive", "cut"],  # gzip writes the time: both workers need the same names
)
def test_files_that_cannot_be_read(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_documents(folder)


def test_folders_without_text(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        read_documents(tmp_path / "none")
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(ValueError, match="holds no text"):
        read_documents(tmp_path)


def test_a_sample_is_whole_works_and_the_same_again():
    documents = [Document(str(i), "é" * 500_000) for i in range(10)]
    seen, unseen = sample(documents, 3.5, 2)
    assert (len(seen), len(unseen)) == (3, 2)
    assert not set(seen) & set(unseen)
    assert sample(documents, 3.5, 2) == (seen, unseen)
    assert sample(documents, 3.5, 2, seed=1) != (seen, unseen)
    assert len(sample(documents, float("inf"), 2)[0]) == 8


@pytest.mark.parametrize("held_out", [0, 4, -1])
def test_samples_that_cannot_be_drawn(folder, held_out):
    with pytest.raises(ValueError, match="cannot be held out of 4"):
        sample(read_documents(folder), 1, held_out)
    with pytest.raises(ValueError, match="no work fits"):
        sample(read_documents(folder), 0, 1)


def test_the_script_writes_a_tokenizer_that_loads(folder, tmp_path, capsys):
    out = tmp_path / "tokens.txt"
    train("--corpus", folder, "--vocab-size", 260, "--held-out", 1, "--out", out)
    assert len(editions.load_ranks(out)) == 259
    printed = capsys.readouterr().out
    assert "259 tokens from 3 of 4 works" in printed and "characters, " in printed
    assert out.read_text().startswith("# Byte pair encoding of 260 tokens")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "tokens.txt"]
    first = out.read_bytes()
    train("--corpus", folder, "--vocab-size", 260, "--held-out", 1, "--out", out)
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--corpus", "nowhere"], "there is no folder nowhere"),
        (["--held-out", "9"], "9 works cannot be held out of 4"),
        (["--vocab-size", "256"], "vocab"),
        (["--out", "no/such/folder/tokens.txt"], "no/such/folder"),
    ],
)
def test_the_script_refuses_in_one_line(folder, arguments, message):
    with pytest.raises(SystemExit) as caught:
        train("--corpus", folder, "--vocab-size", 260, "--held-out", 1, *arguments)
    assert str(caught.value).startswith("train_tokenizer: ") and message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
