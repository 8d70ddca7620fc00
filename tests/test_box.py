"""The boxes of chapters 6 and 7: what a reader types, what is shown, and what is stored where there is no kernel."""

import ast
import asyncio
import contextlib
import os
import signal
import sys
import time
from html import unescape

import pytest
from jupyter_client.manager import start_new_kernel
from nbformat.v4 import new_output

from shared import box as module
from shared.box import Box
from tools import ROOT, read, style_report
from tools.normalize import NOT_COMPARED, clean_outputs, notebooks

sys.path[:0] = [str(ROOT / "ch06_classification"), str(ROOT / "ch07_instruction")]

import chat  # noqa: E402
import classify  # noqa: E402

LONG = ("word " * 400).strip()


def press_enter(box, *texts):
    """Type a text into each field, then Enter, as the browser reports it."""
    for field, text in zip(box.fields, texts):
        field.value = text
    box.fields[0]._handle_custom_msg({"event": "submit"}, [])


def louder(text):
    if text == "bad":
        raise ValueError("this is bad:\nsay something good")
    if text == "broken":
        raise RuntimeError("a matrix is broken")
    return text.upper()


def test_enter_asks_and_what_was_asked_before_stays_above():
    box = Box(louder, "word", examples=["one", "two"])
    press_enter(box, " three ")
    press_enter(box, "four")
    assert repr(box).splitlines() == "> one|ONE|> two|TWO|> three|THREE|> four|FOUR".split("|")
    assert box.fields[0].value == "" and box.fields[0].placeholder == "one"
    shown = [box.said.value.index(word) for word in ("ONE", "three", "THREE", "four", "FOUR")]
    assert shown == sorted(shown)
    box.fields[0]._handle_custom_msg({"event": "another"}, [])
    assert len(box.turns) == 4


def test_the_answer_grows_below_its_question():
    box, shown = Box(lambda a, b: iter([a, "-", b]), "a", "b", examples=[("1", "2")]), []
    box.said.observe(lambda change: shown.append(change["new"].split("<b>")[-1]), "value")
    press_enter(box, "x", "y")
    ends = ["x | y</b><br>", "x | y</b><br>x", "x | y</b><br>x-", "x | y</b><br>x-y"]
    assert [one.removesuffix("</div>") for one in shown] == ends
    press_enter(box, "alone")  # the second field may stay empty
    assert repr(box).endswith("> alone\nalone-")


def test_the_next_question_begins_in_the_first_field(monkeypatch):
    box, focused = Box(str.__add__, "a", "b", examples=[("1", "2")]), []
    for name, field in zip("ab", box.fields):
        monkeypatch.setattr(field, "focus", lambda name=name: focused.append(name))
    press_enter(box, "x", "y")
    assert focused == ["a"] and [field.value for field in box.fields] == ["", ""]


def test_an_empty_box_says_in_words_what_to_do():
    box = Box(louder, "word", examples=["one"])
    press_enter(box, "  ")
    assert box.note.value == "Type a word and press Enter, for example: one"
    press_enter(box, "two")
    assert box.note.value == "" and len(box.turns) == 2


@pytest.mark.parametrize(
    "text, said",
    [
        ("bad", "this is bad: say something good"),
        ("broken", "RuntimeError: a matrix is broken"),
    ],
)
def test_an_error_is_one_sentence_and_the_box_goes_on(text, said):
    box = Box(louder, "word", examples=["one"])
    press_enter(box, text)
    assert box.note.value == said
    assert box.fields[0].value == text  # to be mended
    assert repr(box) == "> one\nONE" and text not in box.said.value
    press_enter(box, "two")
    assert repr(box).endswith("> two\nTWO") and box.note.value == "" == box.fields[0].value


def test_an_example_that_fails_is_the_authors_error():
    with pytest.raises(ValueError, match="this is bad"):
        Box(louder, "word", examples=["bad"])


def test_letters_that_come_after_their_enter_are_asked_too(monkeypatch):
    """JupyterLab sends Enter at once, but letters only when the kernel has taken those before."""
    monkeypatch.setattr(module, "LAST_LETTERS", 0.02)

    async def in_a_kernel():
        box = Box(louder, "word", examples=["one"])
        press_enter(box, "mous")
        box.fields[0].value = "mouse"
        await asyncio.sleep(0.2)
        return repr(box)

    assert asyncio.run(in_a_kernel()).endswith("> mouse\nMOUSE")


def test_an_interrupt_stops_the_answer_and_nothing_else():
    def slow(text):
        yield "a"
        if text == "stop":
            os.kill(os.getpid(), signal.SIGINT)
        yield "b"

    before = signal.getsignal(signal.SIGINT)
    box = Box(slow, "word", examples=["one"])
    press_enter(box, "stop")
    assert repr(box).endswith("> stop\na") and box.note.value.startswith("Stopped")
    press_enter(box, "on")
    assert repr(box).endswith("> on\nab") and box.note.value == ""
    assert signal.getsignal(signal.SIGINT) is before


ENDLESS = """
import itertools, time
from shared.box import Box

def endless(text):
    for _ in itertools.count() if text else [1]:
        time.sleep(0.02)
        yield "x"

box = Box(endless, "word", examples=[""])
"""


@pytest.mark.parametrize("subshell", [False, True], ids=["main", "subshell"])
def test_an_interrupt_of_a_kernel_stops_the_answer(subshell):
    """JupyterLab may send what happens in a widget to a subshell, a thread beside that of the cells."""
    manager, client = start_new_kernel(kernel_name="python3")

    def run(code):
        reply = client.execute_interactive(
            "", user_expressions={"said": code}, timeout=60, store_history=False
        )
        return ast.literal_eval(reply["content"]["user_expressions"]["said"]["data"]["text/plain"])

    try:
        assert client.execute_interactive(ENDLESS, timeout=60)["content"]["status"] == "ok"
        enter = {"method": "custom", "content": {"event": "submit"}}
        content = {"comm_id": run("box.fields[0].comm.comm_id"), "data": enter}
        assert run("setattr(box.fields[0], 'value', 'go') or 1") == 1
        message = client.session.msg("comm_msg", content)
        if subshell:
            client.control_channel.send(client.session.msg("create_subshell_request"))
            reply = client.get_control_msg(timeout=60)
            message["header"]["subshell_id"] = reply["content"]["subshell_id"]
        client.shell_channel.send(message)
        time.sleep(module.LAST_LETTERS + 1)
        manager.interrupt_kernel()
        question, answer = run("box.turns[-1]")
        assert question == "go" and 1 < len(answer) < 200
        assert run("box.note.value").startswith("Stopped")
        assert run("1 + 1") == 2  # the kernel goes on
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_what_is_typed_is_text_and_no_markup():
    box = Box(louder, "word", examples=["one"])
    press_enter(box, "<img src=x onerror=alert()>")
    assert "<img" not in box.said.value and "&lt;img" in box.said.value


# --- without a kernel ---


def test_what_is_stored_of_a_box_is_its_examples():
    box = Box(louder, "word", examples=["one"])
    data = box._repr_mimebundle_(include=None, exclude=None)
    assert data["text/plain"] == "> one\nONE" and NOT_COMPARED[0] in data
    (stored,) = clean_outputs([new_output("execute_result", data)])
    assert stored.data == {"text/plain": "> one\nONE"}


@pytest.mark.parametrize("path", notebooks(ROOT), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_no_notebook_stores_a_widget(path):
    texts = [text for cell in style_report.code_cells(read(path)) for text in style_report.output_texts(cell)]  # fmt: skip
    assert not [text for text in texts if "children=(" in text or "layout=Layout" in text]


# --- the cells of the chapters ---


def cell_of(chapter):
    """The cell that shows a chapter's box."""
    (path,) = ROOT.glob(f"{chapter}_*/{chapter}.ipynb")
    (cell,) = [one for one in style_report.code_cells(read(path)) if "import Box" in one.source]
    return cell


@pytest.fixture(scope="module", params=["ch06", "ch07"])
def alone(request):
    """A chapter, the cell of its box, run alone as on the next day, and the box."""
    cell, names = cell_of(request.param), {}
    *body, last = ast.parse(cell.source).body
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    return request.param, cell, eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_the_cell_works_alone_and_its_output_is_what_is_stored(alone):
    _, cell, box = alone
    (output,) = cell.outputs
    assert output.data == {"text/plain": repr(box)}
    assert len(box.turns) >= 3 and all(said for _, said in box.turns)
    assert "nbval-ignore-output" not in style_report.tags(cell)


def test_a_question_is_answered_as_in_the_terminal(alone, capsys):
    chapter, _, box = alone
    program, *texts = (
        (chat, "Write the plural of the word.", "lamp")
        if chapter == "ch07"
        else (classify, "Win a free holiday, text WIN to 80123")
    )
    press_enter(box, *texts)
    with contextlib.suppress(SystemExit):
        program.main([" | ".join(texts)])
    assert box.turns[-1][1].split()[0] == capsys.readouterr().out.split()[0]


def test_an_overlong_message_is_refused_as_in_the_terminal(alone, capsys):
    chapter, _, box = alone
    before = len(box.turns)
    press_enter(box, LONG)
    with pytest.raises(SystemExit) as ended:
        (chat if chapter == "ch07" else classify).main([LONG])
    said = f"{ended.value}{capsys.readouterr().err}"
    assert unescape(box.note.value) in said and "horten" in box.note.value
    assert len(box.turns) == before and box.fields[0].value == LONG
