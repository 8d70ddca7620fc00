"""Reading a corpus, and training a tokenizer on it, on tiny folders."""

import gzip
import runpy
import sys
from pathlib import Path

import pytest
from scripts import scripts

from shared import editions, encodings
from shared.corpus import Document, fingerprint, plain, read_documents, sample, split_held_out

SCRIPT = Path(editions.CHAPTER_2) / "train_tokenizer.py"
(train_tokenizer,) = scripts(editions.CHAPTER_2, "train_tokenizer")


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


def test_one_file_is_a_corpus_too(folder):
    assert [d.title for d in read_documents(folder / "a.txt.gz")] == ["Three", "Four"]
    (folder / "works.tsv").write_text("group\ttitle\nb\tThe First\nb\tThe Second\n")
    assert [d.title for d in read_documents(folder / "b.txt")] == ["The First", "The Second"]


def test_a_sample_is_whole_works_and_the_same_again():
    documents = [Document(str(i), "é" * 500_000) for i in range(10)]
    drawn = sample(documents, 3.5)
    assert len(drawn) == 3 and set(drawn) < set(documents)
    assert sample(documents, 3.5) == drawn != sample(documents, 3.5, seed=1)
    assert set(sample(documents, float("inf"))) == set(documents)
    with pytest.raises(ValueError, match="no work fits"):
        sample(documents, 0)


def test_works_are_held_out_by_title_or_fingerprint(folder, tmp_path):
    documents, path = read_documents(folder), tmp_path / "held_out.tsv"
    path.write_text(f"title\tsha256\nFour\t\n\t{fingerprint(documents[0])}\nUnknown\t0\n")
    assert split_held_out(documents, path) == (documents[2:], documents[:2])
    path.write_text("title\nFour\n")
    for wrong in (path, tmp_path / "none.tsv"):
        with pytest.raises(ValueError, match=f"list of what is held out, .*{wrong.name}"):
            split_held_out(documents, wrong)


@pytest.fixture
def given(folder, tmp_path):
    """What every run of the script is given."""
    (tmp_path / "held_out.tsv").write_text("title\tsha256\nFour\t\n")
    return ["--corpus", folder, "--vocab-size", 260, "--held-out", tmp_path / "held_out.tsv"]


def test_the_script_writes_a_tokenizer_that_loads(given, tmp_path, capsys):
    out = tmp_path / "tokens.txt"
    train(*given, "--out", out)
    assert len(encodings.load_ranks(out)) == 259
    printed = capsys.readouterr().out
    assert "259 tokens from 3 works" in printed and "old works held out" in printed
    assert out.read_text().startswith("# Byte pair encoding of 260 tokens")
    names = ["corpus", "held_out.tsv", "tokens.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    first = out.read_bytes()
    train(*given, "--out", out)
    assert out.read_bytes() == first


def test_several_corpora_the_courses_text_and_a_report(given, tmp_path, capsys):
    numbers, out = tmp_path / "numbers.txt", tmp_path / "tokens.txt"
    numbers.write_text("".join(f"{i} + {i} = {2 * i}\n" for i in range(1000, 1999)))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "talk.txt").write_text("Hello there!")
    given = [*given, "--corpus", numbers, "--corpus", f"{numbers}=0.03", "--course-text"]
    train(*given, "--split-digits", "--vocab-size", 600, "--report", shelf, "--out", out)
    printed = capsys.readouterr().out.splitlines()
    texts = len(train_tokenizer.course_text())
    assert f"599 tokens from {texts + 5:,} works" in printed[0]
    table = {row[:32].strip(): row[32:].split() for row in printed[2:]}
    rows = ["ham, validation split", "spam, validation split", "the story"]
    assert list(table)[:6] == ["bytes per token", "old works held out", "talk", *rows]
    assert table["' 17'"][0] == "_|1|7" and table["'1996'"][0] == "1|9|9|6"
    assert all(float(cell) > 1 for name in rows for cell in table[name])
    ranks = encodings.load_ranks(out)
    assert not [t for t in list(ranks)[256:] if any(byte in b"0123456789" for byte in t)]
    assert encodings.load_encoding(out)._pat_str == train_tokenizer.DIGITS_APART
    train(*given, "--vocab-size", 600, "--out", tmp_path / "joined.txt")
    joined = encodings.load_ranks(tmp_path / "joined.txt")
    assert [t for t in list(joined)[256:] if t.strip().isdigit()]


def test_the_courses_text_is_of_the_training_splits():
    texts = train_tokenizer.course_text()
    messages = editions.messages()
    kept = messages[messages.split != "train"]
    seen = set(messages.text[messages.split == "train"])
    assert seen <= set(texts) and not (set(kept.text) - seen) & set(texts)
    entries = editions.instructions()
    assert len(texts) > len(seen) + sum(entry["split"] == "train" for entry in entries)
    assert "Give the past tense of the verb." in texts and not any("{0}" in t for t in texts)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--corpus", "nowhere"], "there is no folder or file nowhere"),
        (["--corpus", "nowhere=3"], "there is no folder or file nowhere"),
        (["--held-out", "no.tsv"], "no.tsv"),
        (["--report", "nowhere"], "there is no folder or file nowhere"),
        (["--vocab-size", "256"], "vocab"),
        (["--out", "no/such/folder/tokens.txt"], "no/such/folder"),
    ],
)
def test_the_script_refuses_in_one_line(given, arguments, message):
    with pytest.raises(SystemExit) as caught:
        train(*given, *arguments)
    assert str(caught.value).startswith("train_tokenizer: ") and message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_limit_that_no_work_keeps(given, folder, tmp_path):
    with pytest.raises(SystemExit, match="no work fits into 0.0 MB"):
        train(*given, "--corpus", f"{folder}=0", "--out", tmp_path / "tokens.txt")
    assert not (tmp_path / "tokens.txt").exists()
