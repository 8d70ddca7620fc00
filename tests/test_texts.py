"""Texts as Windows makes them, in every reader and script; certificates, mirrors, downloads without end; help at once."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from scripts import scripts

from shared import assets, corpus, editions, models, network, texts
from shared.classification import random_split, read_messages

ROOT = Path(__file__).resolve().parents[1]
(classify,) = scripts(ROOT / "ch06_classification", "classify")
(chat,) = scripts(ROOT / "ch07_instruction", "chat")

CSV = "label,text\nham,see you – 5 £\nspam,WIN\n"
JSON = json.dumps([{"instruction": "Say £.", "input": "", "output": "£ – 5"}], ensure_ascii=False)
WORKS = "group\ttitle\na\tDie Kröte – 1\n"
HELD = "title\tsha256\nDie Kröte – 1\t\n"


def titles(path):
    (path.parent / "a.txt").write_text("Once upon a time.", encoding="utf-8")
    path.rename(path.with_name("works.tsv"))
    return [document.title for document in corpus.read_documents(path.parent / "a.txt")]


def held_out(path):
    known = corpus.Document("Die Kröte – 1", "a")
    return [document.title for document in corpus.split_held_out([known], path)[1]]


READERS = {  # what is read, how, and what should come of it
    "messages": (CSV, lambda path: read_messages(path).text.tolist(), ["see you – 5 £", "WIN"]),
    "instructions": (JSON, lambda path: editions.read_instructions(path)[0]["output"], "£ – 5"),
    "a corpus": ("Once – £5.\n", lambda path: corpus.read_documents(path)[0].text, "Once - £5."),
    "titles": (WORKS, titles, ["Die Kröte – 1"]),
    "what is held out": (HELD, held_out, ["Die Kröte – 1"]),
}
RIGHT = {
    "utf-8": lambda text: text.encode(),
    "a mark": lambda text: text.encode("utf-8-sig"),
    "two marks": lambda text: b"\xef\xbb\xbf" + text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16, big end first": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "line ends": lambda text: text.replace("\n", "\r\n").encode(),
    "utf-16 and line ends": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
}
WRONG = {
    "cp1252": lambda text: text.encode("cp1252"),
    "utf-16 without its mark": lambda text: text.encode("utf-16-le"),
    "cut utf-16": lambda text: text.encode("utf-16")[:-1],
    "zeros": lambda text: text.encode() + b"\0\0",
}


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.parametrize("reader", READERS)
def test_text_of_any_system_is_read(reader, kind, tmp_path):
    text, read, found = READERS[reader]
    (tmp_path / "mine.txt").write_bytes(RIGHT[kind](text))
    assert read(tmp_path / "mine.txt") == found


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_utf8_is_refused_by_name(reader, kind, tmp_path):
    text, read, _ = READERS[reader]
    (tmp_path / "mine.txt").write_bytes(WRONG[kind](text))
    name = "works.tsv" if reader == "titles" else "mine.txt"
    with pytest.raises(ValueError, match=f"{name} .*(not UTF|zeros).*save it as UTF-8"):
        read(tmp_path / "mine.txt")


@pytest.mark.parametrize("reader", ["messages", "instructions"])
def test_a_file_that_is_not_there(reader, tmp_path):
    with pytest.raises(ValueError, match="none.csv cannot be read: No such file"):
        READERS[reader][1](tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('label,text\nham,"hey\nspam,win a prize\nham,bye"\nspam,x\n', "message 1 holds further ones"),
        ('label,text\nham,"hey\n"spam","win"\nham,bye\n', "quotation mark"),
        ('text,label\n"hey,ham\nwin a prize,spam\nbye",ham\nx,spam\n', "message 1 holds further ones"),
        ('label,text\n0,"hey\n1,win a prize\n0,bye"\n1,x\n', "message 1 holds further ones"),
        ('label,text\nham,"hey\nspam,win a prize\n', "quotation mark is not closed"),
        ('label,text\nham,"so" he said\nspam,win\n', "quotation mark"),
        ("label,text,text\nham,a,b\nspam,c,d\n", "two columns 'text'"),
        ("label,Label,text\nham,ham,b\nspam,spam,d\n", "a column twice"),
        ("", "is empty: its first line"),
        ("\n\n", "is empty: its first line"),
    ],
)  # fmt: skip
def test_no_message_is_swallowed(text, says, tmp_path):
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=f"mine.csv.*{says}"):
        read_messages(tmp_path / "mine.csv")


def test_quotation_marks_that_are_right_stay(tmp_path):
    rows = ['he said "so", twice', "two\nlines", 'a\n1,000 pounds "', "x" * 200_000]
    table = pd.DataFrame({"label": ["ham", "spam"] * 2, "text": rows})
    table.to_csv(tmp_path / "a.csv", index=False)
    assert read_messages(tmp_path / "a.csv").text.tolist() == rows
    (tmp_path / "b.csv").write_text('label,text\nham,he said "so"\nspam,5" tape\n')
    assert read_messages(tmp_path / "b.csv").text.tolist() == ['he said "so"', '5" tape']
    with pytest.raises(ValueError, match="message 1 is no text, but 5"):
        read_messages(table.assign(text=[5, "a", "b", "c"]))
    with pytest.raises(ValueError, match="too few texts"):
        random_split(table[:2], 0.4, 0.3)


def test_a_corpus_of_other_habits(tmp_path):
    (tmp_path / "A.TXT").write_text("One.\n  <|endoftext|>  \nTwo.\n")
    assert [d.text for d in corpus.read_documents(tmp_path)] == ["One.", "Two."]
    (tmp_path / "b.txt").write_text("One. <|endoftext|> Two.\n")
    with pytest.raises(ValueError, match="b.txt has <|endoftext|> within a line"):
        corpus.read_documents(tmp_path)
    (tmp_path / "b.txt").write_text("One.")
    (tmp_path / "works.tsv").write_text("file,title\nb,One\n")
    with pytest.raises(ValueError, match="works.tsv has no column 'group'"):
        corpus.read_documents(tmp_path)


# --- scripts --------------------------------------------------------------------------------------


class Out(io.TextIOWrapper):
    """A stream of a Windows program whose output goes into a file."""

    def __init__(self, content=b"", encoding="cp1252"):
        super().__init__(io.BytesIO(content), encoding=encoding)

    def text(self):
        self.flush()
        return self.buffer.getvalue().decode("cp1252")


@pytest.fixture(scope="module")
def loaded():
    return models.classifier()


def classified(monkeypatch, loaded, content, *arguments):
    out, err = Out(), Out()
    for name, stream in (("stdin", Out(content, "utf-8")), ("stdout", out), ("stderr", err)):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(models, "classifier", lambda: loaded)
    with pytest.raises(SystemExit) as ended:
        classify.main(list(arguments))
    monkeypatch.undo()
    return ended.value.code, out.text(), err.text()


def test_classify_prints_what_its_output_cannot_spell(monkeypatch, loaded):
    code, out, err = classified(monkeypatch, loaded, "you won 🎉\nsee you at 5 – £\n".encode())
    assert (code, err) == (0, "") and out.splitlines()[0].endswith("you won ?")
    assert out.splitlines()[1].endswith("see you at 5 – £")


def test_classify_reads_what_windows_writes(monkeypatch, loaded):
    text = "ok see you at 5\r\nWIN a prize 🎉\r\n"
    _, plain, _ = classified(monkeypatch, loaded, text.encode())
    assert plain.startswith("ham  0.000") and len(plain.splitlines()) == 2
    for encoding in ("utf-8-sig", "utf-16"):
        code, out, _ = classified(monkeypatch, loaded, text.encode(encoding))
        assert (code, out) == (0, plain)
    for encoding, line in ("cp1252", "caf\xe9\nok see you at 5"), ("utf-16-le", "ab\nok"):
        code, out, err = classified(monkeypatch, loaded, line.encode(encoding))
        assert (
            code == 1 and err.startswith("classify: line 1: it is no") and "save it as UTF-8" in err
        )
    assert classified(monkeypatch, loaded, b"caf\xe9\nok see you at 5")[1].startswith("ham")
    code, out, err = classified(monkeypatch, loaded, b"", "caf\udce9 now")
    assert (code, out) == (1, "") and "the message is not UTF-8" in err
    assert classified(monkeypatch, loaded, b"", "\ufeffok see you at 5")[1].startswith("ham  0.000")
    assert "the message is empty" in classified(monkeypatch, loaded, b"", "")[2]


def chatted(monkeypatch, content):
    said = []
    monkeypatch.setattr(chat, "load", lambda folder: (None, None))
    monkeypatch.setattr(
        "shared.demo.Talk",
        lambda *_: type(
            "Stub", (), {"say": lambda self, line: iter([said.append(line) or "🎉 yes"])}
        )(),
    )
    out = Out()
    monkeypatch.setattr(sys, "stdin", Out(content, "utf-8"))
    monkeypatch.setattr(sys, "stdout", out)
    chat.main([])
    monkeypatch.undo()
    return said, out.text().splitlines()


def test_chat_loses_no_line_for_a_bad_one(monkeypatch):
    said, lines = chatted(monkeypatch, b"One.\ncaf\xe9\nThree.\n")
    assert said == ["One.", "Three."] and lines[0] == lines[2] == "? yes"
    assert lines[1].startswith("chat: the task is not UTF-8")
    for encoding in ("utf-8-sig", "utf-16"):
        assert chatted(monkeypatch, "One é.\r\nTwo.\r\n".encode(encoding))[0] == ["One é.", "Two."]


def test_chat_says_that_a_model_is_no_assistant(capsys):
    chat.load(models.COURSE_GPT)
    assert "course_gpt was not made by make_assistant.py" in capsys.readouterr().err
    chat.load(models.ASSISTANT_GPT)
    assert not capsys.readouterr().err


def test_ctrl_c_stops_an_answer_and_never_ends_the_chat(monkeypatch, capsys):
    """At the prompt it gives up the line, in an answer it stops that; an empty line ends the chat."""
    keys = iter(["One.", KeyboardInterrupt, KeyboardInterrupt, "Two.", "Three.", ""])

    def press(prompt):
        if (key := next(keys)) is KeyboardInterrupt:
            raise key
        return key

    class Talk:
        said = []

        def say(self, line):
            self.said.append(line)
            yield "word "
            if line == "Two.":
                raise KeyboardInterrupt
            yield "word"

    monkeypatch.setattr("builtins.input", press)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    chat.chat(Talk())
    out = capsys.readouterr().out
    assert Talk.said == ["One.", "Two.", "Three."] and out.count("ends the chat") == 3
    assert out.count("word word\n") == 2 and "word  [stopped]\n" in out


HELP = """
import contextlib, io, runpy, sys
from pathlib import Path
own = set(sys.modules)
for path in map(Path, sys.argv[1:]):
    for name in set(sys.modules) - own:  # scripts of other folders have the same names
        if not name.startswith("shared") and "site-packages" not in str(getattr(sys.modules[name], "__file__", "")):
            if str(path.parents[1]) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]
    sys.path.insert(0, str(path.parent))
    sys.argv, shown = [str(path), "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(shown):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, path
    assert shown.getvalue().startswith("usage: " + path.name) and "Mock" not in shown.getvalue(), (path, shown.getvalue())
    assert not {"torch._C", "numpy.core", "pandas._libs"} & set(sys.modules), path
    sys.path.pop(0)
"""


def test_help_imports_nothing_slow():
    folders = [*ROOT.glob("ch0*"), *ROOT.glob("appendix_*"), ROOT / "benchmarks"]
    programs = [
        path
        for folder in folders
        for path in folder.glob("*.py")
        if "ArgumentParser(" in path.read_text(encoding="utf-8")
    ]
    assert len(programs) >= 20
    command = [sys.executable, "-c", HELP, *map(str, programs)]
    subprocess.run(command, check=True, cwd=ROOT)


def test_the_chats_help_keeps_its_lines(capsys):
    with pytest.raises(SystemExit):
        chat.main(["--help"])
    assert f"\n{chat.HELP}\n" in capsys.readouterr().out


# --- networks -------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("COURSE_MODEL", "gpt2")
    return constants


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_not_there(name, hub, monkeypatch, tmp_path):
    for each in network.CERTIFICATES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "/nowhere/own.pem")
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "ENDPOINT", "https://127.0.0.1:9")
    says = f"certificate file /nowhere/own.pem, which {name} names, does not exist"
    for call in (lambda: assets.fetch("the-verdict.txt"), models.pretrained):
        with pytest.raises(assets.AssetError, match=says):
            call()


def test_other_certificates_are_named_where_none_fits(monkeypatch, tmp_path):
    import requests

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    assert f"REQUESTS_CA_BUNDLE names {tmp_path}" in network.why(requests.exceptions.SSLError())
    assert (
        network.why(OSError(28, "No space left on device")) == "[Errno 28] No space left on device"
    )


@pytest.mark.parametrize("endpoint", ["hf-mirror.com", "", "ftp://a"])
def test_a_mirror_that_is_no_address(endpoint, hub, monkeypatch):
    monkeypatch.setattr(hub, "ENDPOINT", endpoint)
    with pytest.raises(assets.AssetError, match="HF_ENDPOINT is .*must begin with https://"):
        models.pretrained()


def test_gpt2s_weights_are_those_of_one_revision(hub, monkeypatch, tmp_path):
    revision, digest = assets.GPT2["gpt2"]
    folder = tmp_path / "models--openai-community--gpt2" / "snapshots"
    for name in ("main", revision):
        (folder / name).mkdir(parents=True)
    (folder / revision / "model.safetensors").write_bytes(b"another file")
    with pytest.raises(
        ValueError, match=f"is not gpt2: its SHA-256 is .*should be {digest}.*Delete it"
    ):
        models.pretrained()
    for revision, digest in assets.GPT2.values():
        assert len(revision) == 40 and len(digest) in (0, 64)


def test_a_cache_of_nobody(monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", "~nosuchuser/x")
    with pytest.raises(assets.AssetError, match="no such user"):
        assets.cache_folder()


def test_a_switch_with_a_blank(monkeypatch):
    monkeypatch.setenv("COURSE_DATA", "book ")
    assert editions.choice("COURSE_DATA") == "book"


def test_lines_that_are_typed_come_one_by_one():
    def keys():
        yield b"one\n"
        pytest.fail("asked for more")

    class Slow(io.RawIOBase):
        source = keys()

        def readable(self):
            return True

        def readinto(self, buffer):
            piece = next(self.source)
            buffer[: len(piece)] = piece
            return len(piece)

    stream = io.TextIOWrapper(io.BufferedReader(Slow()))
    assert next(texts.typed_lines(stream)) == b"one\n"
