"""What a run reads: nothing that is held out, each source in its share, and the same again after a restart."""

import csv
import gzip
import itertools
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from shared import encodings
from shared.corpus import (
    HELD_OUT,
    Document,
    fingerprint,
    read_documents,
    split_held_out,
)
from shared.text_data import make_encoding

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "ch05_pretraining"))

import apart  # noqa: E402
import mixture  # noqa: E402

TOKENIZER = encodings.load_encoding(encodings.FIRST_TOKENIZER)
END = TOKENIZER.eot_token
WORDS = "the old miller and his three sons went to a far river but no boat was there".split()
with HELD_OUT.open(encoding="utf-8", newline="") as table:
    LISTED = list(csv.DictReader(table, delimiter="\t"))


def work(i, count=300):
    """A text of its own."""
    return f"Work {i}\n\n{' '.join(random.Random(i).choices(WORDS, k=count))}."


def write(folder, *texts, name="works.txt"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"\n{encodings.END_OF_TEXT}\n".join(texts), encoding="utf-8")
    return folder


@pytest.fixture
def toy(tmp_path):
    """`(a folder of four works, a list that holds out the second)`."""
    folder = write(tmp_path / "toy", *map(work, range(4)))
    (tmp_path / "held_out.tsv").write_text("title\tsha256\nWork 1\t\n")
    return folder, tmp_path / "held_out.tsv"


def prepare(places, out, tokenizer=TOKENIZER, held_out=HELD_OUT):
    return mixture.prepare_corpora(places, out, tokenizer, held_out)


def text_of(path, tokenizer=TOKENIZER):
    return tokenizer.decode(np.load(path).tolist())


# --- files of tokens ---


def test_a_folder_and_a_file_become_two_files_of_tokens(toy, tmp_path, monkeypatch):
    folder, listed = toy
    with gzip.open(tmp_path / "more.en.txt.gz", "wt", encoding="utf-8") as file:
        file.write(f"{work(8)}\n{encodings.END_OF_TEXT}\n{work(9)}")
    places = [folder, tmp_path / "more.en.txt.gz"]
    paths, valid = prepare(places, tmp_path / "out", held_out=listed)
    assert list(paths) == ["toy", "more"]
    kept = [[0, 2, 3], [8, 9], [1]]
    for path, numbers in zip([*paths.values(), valid], kept):
        texts = [work(i) for i in numbers]
        assert text_of(path) == encodings.END_OF_TEXT + "".join(
            text + encodings.END_OF_TEXT for text in texts
        )
        assert np.load(path).dtype == np.uint16

    def never(*_):
        raise AssertionError("tokenized again")

    monkeypatch.setattr(mixture, "save_tokens", never)
    assert prepare(places, tmp_path / "out", held_out=listed) == (paths, valid)
    valid.unlink()
    with pytest.raises(AssertionError, match="tokenized again"):
        prepare(places, tmp_path / "out", held_out=listed)


def test_files_are_named_after_all_that_decides_their_content(toy, tmp_path, monkeypatch):
    folder, listed = toy
    out = tmp_path / "out"
    names = {prepare([folder], out, held_out=listed)[1].name}
    assert {prepare([folder], out, held_out=listed)[1].name} == names

    def another(**given):
        """Whether the name is a new one."""
        before = len(names)
        names.add(prepare([folder], out, **{"held_out": listed} | given)[1].name)
        return len(names) > before

    ranks = encodings.load_ranks(encodings.FIRST_TOKENIZER)
    pattern = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
    assert another(
        tokenizer=make_encoding("split", ranks, (encodings.END_OF_TEXT,), pattern=pattern)
    )
    assert another(tokenizer=encodings.load_encoding(encodings.COURSE_TOKENIZER))
    listed.write_text("title\tsha256\nWork 2\t\n")
    assert another()
    write(folder, *map(work, range(5)))
    assert another()
    write(folder, work(7), name="more.txt")
    assert another()
    reserved = tmp_path / "reserved.json"
    reserved.write_bytes(apart.SECOND_RESERVED.read_bytes() + b"\n")
    monkeypatch.setattr(apart, "SECOND_RESERVED", reserved)
    assert another()
    rules = tmp_path / "apart.py"
    rules.write_bytes(Path(apart.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(apart, "__file__", str(rules))
    assert another()


def test_corpora_of_one_name_are_refused(toy, tmp_path):
    (tmp_path / "toy.txt").write_text("Other texts.")
    with pytest.raises(ValueError, match="two corpora have the same name, of toy, toy: rename one"):
        prepare([toy[0], tmp_path / "toy.txt"], tmp_path / "out", held_out=toy[1])


def test_what_a_kill_left_is_removed(toy, tmp_path):
    left_over = [tmp_path / "out" / f"{name}.unfinished-1" for name in ("a.npy", "weights/b")]
    for path in left_over:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    prepare([toy[0]], tmp_path / "out", held_out=toy[1])
    assert not any(path.exists() for path in left_over)


def test_paragraphs_kept_apart_are_in_no_token_file(toy, tmp_path):
    text = f"{work(5)}\n\nWhat is the opposite of tall?\n\nShort.\n\nThe opposite of tall? Short!\n\nThe end."
    write(toy[0], text, work(1) + "\n\nThe opposite of tall? Short!", name="more.txt")
    paths, valid = prepare([toy[0]], tmp_path / "out", held_out=toy[1])
    stored = text_of(paths["toy"])
    assert "The end." in stored and "What is the opposite of tall?" in stored  # no answer beside it
    assert "The opposite of tall?" not in stored
    assert "The opposite of tall? Short!" in text_of(valid)  # nothing is learned from these


# --- held out ---


def test_the_committed_list():
    old = [row for row in LISTED if row["group"] == "works"]
    assert (len(old), len(LISTED) - len(old)) == (8, 257)
    prints = [row["sha256"] for row in LISTED]
    assert len(set(prints)) == len(prints) and all(len(each) == 16 for each in prints)
    assert all(int(each, 16) >= 0 for each in prints) and all(row["title"] for row in LISTED)


def listed_document(tmp_path):
    """A document, and the committed list with its fingerprint added."""
    document = Document("Unknown", work(50))
    path = tmp_path / "held_out.tsv"
    path.write_bytes(HELD_OUT.read_bytes() + f"works\tUnknown\t{fingerprint(document)}\n".encode())
    return document, path


@pytest.mark.parametrize("row", [LISTED[0], LISTED[7], LISTED[8], LISTED[-1]])
def test_a_listed_title_is_in_no_token_file(row, tmp_path):
    texts = [work(0), f"{row['title']}\n\n{work(1)}", work(2)]
    paths, valid = prepare([write(tmp_path / "toy", *texts)], tmp_path / "out")
    assert row["title"] in text_of(valid) and row["title"] not in text_of(paths["toy"])
    assert "Work 1" not in text_of(paths["toy"]) and "Work 2" in text_of(paths["toy"])


def test_a_listed_title_in_a_list_of_works_is_in_no_token_file(tmp_path):
    folder = write(tmp_path / "toy", work(0), work(1))
    (folder / "works.tsv").write_text(f"group\ttitle\nworks\tFree\nworks\t{LISTED[0]['title']}\n")
    for number, place in enumerate((folder, folder / "works.txt")):
        paths, valid = prepare([place], tmp_path / f"out {number}")
        (path,) = paths.values()
        assert ("Work 0" in text_of(path), "Work 1" in text_of(path)) == (True, False)
        assert "Work 1" in text_of(valid)


def test_a_listed_text_under_another_title_is_in_no_token_file(tmp_path):
    document, listed = listed_document(tmp_path)
    folder = write(tmp_path / "toy", work(0), document.text)
    (folder / "works.tsv").write_text("group\ttitle\nworks\tOne\nworks\tOne More\n")
    paths, valid = prepare([folder], tmp_path / "out", held_out=listed)
    assert "Work 50" not in text_of(paths["toy"]) and "Work 50" in text_of(valid)


@pytest.mark.parametrize("before", ["An Anthology\n\n" + work(60), "An Anthology"])
def test_a_listed_text_within_another_work_is_refused(before, tmp_path):
    document, listed = listed_document(tmp_path)
    alone = write(tmp_path / "alone", work(0), document.text)
    whole = write(tmp_path / "whole", work(3), f"{before}\n\n{document.text}\n\n{work(61)}")
    with pytest.raises(ValueError) as caught:
        prepare([alone, whole], tmp_path / "out", held_out=listed)
    for part in ("'Work 50' is held out, but 100% of it", "in the corpus whole", "add that work"):
        assert part in str(caught.value)
    assert not list((tmp_path / "out").glob("valid-*"))  # so it is refused again
    with pytest.raises(ValueError, match="held out"):
        prepare([alone, whole], tmp_path / "out", held_out=listed)


def test_common_phrases_of_a_listed_text_are_not_refused(tmp_path):
    document, listed = listed_document(tmp_path)
    some = document.text[: len(document.text) // 3]  # quoted
    folder = write(tmp_path / "toy", work(0), document.text, f"A Review\n\n{some}\n\n{work(61)}")
    prepare([folder], tmp_path / "out", held_out=listed)


def test_the_share_of_a_text_that_is_found_again():
    ids = TOKENIZER.encode_to_numpy(work(1)).astype(np.uint16).tobytes()
    assert mixture.found_again(work(1), ids, TOKENIZER) == 1
    assert mixture.found_again(work(2), ids, TOKENIZER) == 0
    assert 0.3 < mixture.found_again(work(1), ids[: len(ids) // 2], TOKENIZER) < 0.6
    assert mixture.found_again("miller", ids, TOKENIZER) in (0, 1)  # shorter than a passage


# --- the real corpora, where they lie beside the repository ---


@pytest.fixture(scope="module")
def corpora():
    if not (folder := os.environ.get("COURSE_CORPORA")):
        pytest.skip("COURSE_CORPORA names no folder with corpus and corpus_present")
    return Path(folder)


@pytest.fixture(scope="module")
def held_out_documents(corpora):
    documents = read_documents(corpora / "corpus")
    _, old = split_held_out(documents)
    listed = {row["title"]: row["sha256"] for row in LISTED if row["group"] == "works"}
    assert {document.title: fingerprint(document) for document in old} == listed
    return old + read_documents(corpora / "corpus_present" / "held_out")


def test_what_is_held_out_of_the_real_corpora(corpora, held_out_documents):
    assert len(held_out_documents) == 8 + 257
    assert split_held_out(held_out_documents) == ([], held_out_documents)
    assert {fingerprint(d) for d in held_out_documents} == {row["sha256"] for row in LISTED}
    assert split_held_out(read_documents(corpora / "corpus_present"))[1] == []


def test_no_run_has_read_what_is_held_out(held_out_documents):
    files = {path.stat().st_ino: path for path in sorted((ROOT / ".run").rglob("train-*.npy"))}
    tokenizers = {path: tokenizer_of(path.parent) for path in files.values()}
    if not any(tokenizers.values()):
        pytest.skip("there is no run in .run, or none with a tokenizer of the course")
    for tokenizer in filter(None, set(tokenizers.values())):
        titles, passages = [], []
        for document in held_out_documents:
            ids = tokenizer.encode_to_numpy(document.text, disallowed_special=()).astype(np.uint16)
            length = min(24, len(ids))
            starts = np.linspace(0, len(ids) - length, 20).astype(int)
            passages += [ids[start : start + length] for start in starts]
            titles += [document.title] * len(starts)
        for path in (path for path, made_with in tokenizers.items() if made_with is tokenizer):
            found = Counter(titles[i] for i in occurring(passages, np.load(path, mmap_mode="r")))
            assert not {title for title, count in found.items() if count > 10}, path


def tokenizer_of(run):
    """The tokenizer that a run's config.json names, None if it is not one of the course's."""
    if (run / "config.json").exists():
        name = json.loads((run / "config.json").read_text(encoding="utf-8")).get("tokenizer")
        for path in (encodings.FIRST_TOKENIZER, encodings.COURSE_TOKENIZER):
            if encodings.tokenizer_sha256(path) == name:
                return encodings.load_encoding(path)
    return None


def occurring(passages, tokens, size=5_000_000):
    """The numbers of the passages that stand somewhere in an array of tokens: by their first four, in one go."""

    def heads(ids):
        ids = ids.astype(np.uint64)
        return sum(ids[i : len(ids) - 3 + i] << np.uint64(16 * i) for i in range(4))

    by_head = {}
    for number, passage in enumerate(passages):
        if len(passage) >= 4:
            by_head.setdefault(int(heads(passage[:4])[0]), []).append(number)
    wanted, found = np.array(sorted(by_head), dtype=np.uint64), set()
    for first in range(0, len(tokens), size):
        part = np.asarray(tokens[first : first + size + 64])
        keys = heads(part)
        places = np.searchsorted(wanted, keys).clip(max=len(wanted) - 1)
        for i in np.flatnonzero(wanted[places] == keys):
            for number in by_head[int(keys[i])]:
                passage = passages[number]
                if number not in found and np.array_equal(part[i : i + len(passage)], passage):
                    found.add(number)
    return found


def test_the_search_for_passages_finds_them():
    tokens = np.random.default_rng(1).integers(0, 50, 30_000).astype(np.uint16)
    passages = [tokens[i : i + 24] for i in (0, 9_990, 10_050, 29_976)]
    passages += [np.append(tokens[5:28], 50).astype(np.uint16), tokens[3:9]]
    assert occurring(passages, tokens, 10_000) == {0, 1, 2, 3, 5}


# --- windows ---


def test_every_window_once_an_epoch_and_always_the_same(tmp_path):
    np.save(tmp_path / "tokens.npy", np.arange(100, dtype=np.uint16))
    windows = mixture.Windows(tmp_path / "tokens.npy", 8, seed=5)
    n = windows.per_epoch
    assert n == 11 and isinstance(windows.tokens, np.memmap)
    first, second = ([windows[i].tolist() for i in range(e * n, e * n + n)] for e in (0, 1))
    for epoch in (first, second):
        starts = sorted(window[0] for window in epoch)
        assert all(w == list(range(w[0], w[0] + 9)) for w in epoch)
        assert [b - a for a, b in zip(starts, starts[1:])] == [8] * (n - 1)
    assert first != second and windows[3].dtype == torch.int64
    again = mixture.Windows(tmp_path / "tokens.npy", 8, seed=5)
    assert again[n + 2].tolist() == second[2] and again[0].tolist() == first[0]
    assert mixture.Windows(tmp_path / "tokens.npy", 8, seed=6)[0].tolist() != first[0]
    with pytest.raises(ValueError, match="has only 100 tokens: windows of 50 need at least 101"):
        mixture.Windows(tmp_path / "tokens.npy", 50, seed=5)


def numbered(seed):
    """Documents that say from where they are."""
    return (f"{seed} number {i}" for i in itertools.count())


def written(folder, size=400, seed=5, key="key", write=numbered):
    return mixture.Written(write, folder / "facts", key, TOKENIZER, 16, seed, size)


def test_a_written_text_is_another_one_in_each_epoch(tmp_path):
    windows = written(tmp_path)
    n = windows.per_epoch
    assert n == 399 // 16 - 1
    epochs = [[windows[i].tolist() for i in range(e * n, e * n + n)] for e in range(3)]
    assert len(list(tmp_path.glob("facts-*.npy"))) == 3
    for number, epoch in enumerate(epochs):
        assert all(len(window) == 17 for window in epoch)
        assert len({tuple(window) for window in epoch}) == n
        text = TOKENIZER.decode([token for window in epoch for token in window])
        assert f"{5000 + number} number" in text and f"{5001 + number} number" not in text
    for path in tmp_path.glob("facts-*.npy"):
        tokens = np.load(path)
        assert tokens[0] == tokens[-1] == END and 400 <= len(tokens) < 420


def test_a_written_text_is_the_same_after_a_restart(tmp_path):
    windows = written(tmp_path)
    n = windows.per_epoch
    places = [0, 3, n - 1, n, 2 * n + 1]
    found = [windows[i].tolist() for i in places]
    assert [written(tmp_path, write=None)[i].tolist() for i in places] == found  # from the files
    for path in tmp_path.glob("facts-*.npy"):
        path.unlink()
    again = written(tmp_path)
    assert [again[i].tolist() for i in reversed(places)] == found[::-1]  # in whichever order
    (tmp_path / "elsewhere").mkdir()
    assert [written(tmp_path / "elsewhere")[i].tolist() for i in places] == found


@pytest.mark.parametrize("change", [{"seed": 6}, {"size": 300}, {"size": 800}, {"key": "other"}])
def test_files_of_another_text_are_not_taken_for_this_one(tmp_path, change):
    written(tmp_path)[0]
    (tmp_path / "alone").mkdir()
    windows, alone = written(tmp_path, **change), written(tmp_path / "alone", **change)
    last = windows.per_epoch - 1
    assert all(windows[i].tolist() == alone[i].tolist() for i in (0, last))
    assert len(list(tmp_path.glob("facts-*.npy"))) == 2


def test_files_too_short_for_a_window_are_refused(tmp_path):
    with pytest.raises(ValueError, match="files of 32 tokens are too short for windows of 16"):
        written(tmp_path, size=32)
    assert written(tmp_path, size=33)[0].shape == (17,)


# --- shares ---


def mixed(*shares):
    names = [chr(ord("a") + i) for i in range(len(shares))]
    return mixture.Mixture(dict.fromkeys(names), dict(zip(names, shares)))


SHARES = [(1,), (0.5, 0.5), (0.75, 0.25), (2 / 3, 1 / 3), (0.9, 0.1), (0.01, 0.99), (0.34, 0.08, 0.02, 0.36, 0.14, 0.06)]  # fmt: skip


@pytest.mark.parametrize("shares", SHARES)
def test_shares_are_kept_in_every_stretch(shares):
    """Within 2 windows of any 1,000 in a row. Drawn at random, a half would be 16 off."""
    order = np.array(mixed(*shares).order(0, 50_000))
    for i, share in enumerate(shares):
        counts = np.concatenate([[0], np.cumsum(order == chr(ord("a") + i))])
        for length in (10, 100, 1000):
            read = counts[length:] - counts[:-length]
            assert np.abs(read - share * length).max() <= 2.01, (share, length)


def test_the_order_depends_on_the_number_alone():
    one, other = mixed(0.6, 0.3, 0.1), mixed(0.6, 0.3, 0.1)
    order = one.order(0, 500)
    assert [name for n in range(500) for name in other.order(n, 1)] == order
    assert other.order(123, 77) == order[123:200]
    assert mixed(0.6, 0, 0.4).order(0, 500).count("b") == 0
    assert other.order(10**9, 10) == one.order(10**9, 10)


def test_each_source_is_read_from_its_first_window_on_without_a_gap():
    mix, read, taken = mixed(0.6, 0.3, 0.1), {}, []
    for first, count in ((0, 7), (7, 1), (8, 92)):
        before = dict(read)
        new, after = mix.take(first, count, read)
        assert read == before and len(new) == count  # what was read is left as it was
        taken, read = taken + new, after
    assert taken == mix.take(0, 100, {})[0] and sum(read.values()) == 100
    for name in "abc":
        numbers = [n for source, n in taken if source == name]
        assert numbers == list(range(read[name]))
    assert mix.take(100, 1, {"a": 5, "b": 5, "c": 5})[0][0][1] == 5


class Sized:
    def __init__(self, per_epoch):
        self.per_epoch = per_epoch


SOURCES = {"a": Sized(300), "b": Sized(100), "facts": Sized(10)}


def test_corpora_share_what_others_leave():
    shares = mixture.shares_of(SOURCES, {"a": None, "b": None}, {"facts": 0.2})
    assert shares == pytest.approx({"a": 0.6, "b": 0.2, "facts": 0.2})  # by size
    shares = mixture.shares_of(SOURCES, {"a": 1.0, "b": 3.0}, {"facts": 0.2})
    assert shares == pytest.approx({"a": 0.2, "b": 0.6, "facts": 0.2})
    assert mixture.shares_of(SOURCES, {"a": None}, {}) == {"a": 1}


@pytest.mark.parametrize(
    "weights, fixed, says",
    [
        ((1.0, None), {}, "some corpora have a share and some have none"),
        ((0.0, 1.0), {}, "a corpus has the share 0: give a number above 0"),
        ((2.0, -1.0), {}, "a corpus has the share -1"),
        ((None, None), {"facts": 1.0}, "--facts 1.0 is no share"),
        ((None, None), {"facts": -0.5}, "--facts -0.5 is no share"),
        ((1.0, 1.0), {"facts": 0.6, "sheets": 0.4}, "facts and sheets leave nothing"),
        ((1.0, 1.0), {"facts": 0.6, "sheets": 0.6}, "leave nothing for the corpora: 1.2 of all"),
    ],
)
def test_shares_that_cannot_be(weights, fixed, says):
    with pytest.raises(ValueError, match=says):
        mixture.shares_of(SOURCES, dict(zip("ab", weights)), fixed)
