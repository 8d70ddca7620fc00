"""Files that land whole, folders with checksums, questions with a time limit, and what needs no PyTorch."""

import subprocess
import sys
import threading
import time

import pytest
import torch

from shared import files, measure
from shared.network import answers_in_time


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_lands_when_its_block_ends(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.landing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyError("k")])
def test_what_goes_wrong_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error), match="a.txt could not be written: No space|k"):
        with files.landing(path) as file:
            file.write(b"ne")
            raise error
    assert path.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_the_old_file_is_kept_where_asked(tmp_path):
    for content in (b"1", b"2", b"3"):
        with files.landing(tmp_path / "now", keep=tmp_path / "before") as file:
            file.write(content)
    assert [(tmp_path / name).read_bytes() for name in ("before", "now")] == [b"2", b"3"]


def test_a_folder_lands_when_its_block_ends(tmp_path):
    folder = tmp_path / "made" / "on the way"
    with files.landing_folder(folder) as scratch:
        (scratch / "a").write_text("a")
        assert not folder.exists()
    (folder / "card").write_text("stays")
    with pytest.raises(KeyError), files.landing_folder(folder) as scratch:
        (scratch / "a").write_text("b")
        raise KeyError
    assert names(folder) == ["a", "card"] and (folder / "a").read_text() == "a"
    assert names(folder.parent) == ["on the way"]


def test_what_a_folder_lists_is_compared(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    files.write_sums(tmp_path, ("a", "b"))
    first = (tmp_path / files.SUMS).read_text().splitlines()[0]
    assert first == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a"
    assert files.read_checked(tmp_path, ("b", "a")) == {"b": b"b", "a": b"a"}
    (tmp_path / "b").write_text("a")  # what another file should be
    with pytest.raises(ValueError, match="b is damaged.*git checkout"):
        files.read_checked(tmp_path, ("a", "b"))
    assert files.read_checked(tmp_path, "b", lambda name, content: name.encode()) == {"b": b"a"}
    (tmp_path / "a").unlink()
    with pytest.raises(ValueError, match="a cannot be read: No such file"):
        files.read_checked(tmp_path, ("a", "b"))


def test_a_folder_lands_at_once_and_a_kill_leaves_no_part_of_it(tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "replace", killed)  # the way of single files
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with files.landing_folder(tmp_path / name) as scratch:
            (scratch / "a").write_text("a")
            (scratch / "b").write_text("b")
        assert names(tmp_path / name) == ["a", "b"]


def test_who_wrote_a_folder(tmp_path):
    folder = tmp_path / "made"
    assert not files.written_by("a run", folder)
    folder.mkdir()
    (folder / ".hidden").write_text("")
    assert not files.written_by("a run", folder)
    (folder / "a").write_text("a")
    files.write_sums(folder, ["a"], "a run")
    assert files.written_by("a run", folder) and files.read_checked(folder, "a")
    (folder / "notes").write_text("another's")
    assert files.written_by("a run", folder)
    for other in ("another run", "a", ""):
        with pytest.raises(ValueError, match="made is not empty, and not what .*name a new folder"):
            files.written_by(other, folder)
    for change in (
        lambda: (folder / "a").write_text("b"),
        (folder / "a").unlink,
        (folder / files.SUMS).unlink,
    ):
        change()
        with pytest.raises(ValueError, match="name a new folder"):
            files.written_by("a run", folder)
    (folder / files.SUMS).write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="name a new folder"):
        files.written_by("a run", folder)


def test_whoever_answers_in_time():
    def refuse():
        raise KeyError("no")

    assert answers_in_time(lambda: 5, 9) == 5 and answers_in_time(lambda: None, 9) is None
    with pytest.raises(KeyError, match="no"):
        answers_in_time(refuse, 9)


def test_whoever_does_not_answer():
    forever, start = threading.Event(), time.monotonic()
    with pytest.raises(TimeoutError, match="within 0.2 seconds"):
        answers_in_time(forever.wait, 0.2)
    assert time.monotonic() - start < 60
    forever.set()


@pytest.mark.parametrize(
    ("able", "device", "fast"),
    [
        ({"avx512_bf16": True}, "cpu", True),
        ({"amx_bf16": True}, torch.device("cpu"), True),
        ({"avx512_bf16": False}, "cpu", False),
        ({}, "cpu", False),
        ({"avx512_bf16": True}, "mps", False),  # what the processor can do does not matter there
    ],
)
def test_where_bf16_is_fast(monkeypatch, able, device, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert measure.fast_in_bf16(device) is fast


@pytest.mark.parametrize(
    "use",
    [
        "files.save_json",
        "network.answers_in_time",
        "editions.text(), editions.messages(), editions.instructions()",
        "encodings.tokenizer().encode('a')",
        "corpus.read_documents",
    ],
)
def test_texts_and_tokenizers_do_without_pytorch(use):
    """PyTorch takes seconds to import; whoever asks for a text only does not wait for it."""
    code = f"import sys; from shared import {use.partition('.')[0]}; {use}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
