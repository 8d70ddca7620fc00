"""The chat of chapter 7: as someone at a terminal sees it, from the command line, and in a pipe."""

import contextlib
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from shared import encodings, models
from shared.gpt_model import GPTModel

FOLDER = Path(__file__).resolve().parents[1] / "ch07_instruction"
sys.path.insert(0, str(FOLDER))

import chat  # noqa: E402

CFG = {"vocab_size": 4096, "context_length": 128, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
CFG |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a model that knows nothing, but answers."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(1)
    models.save_model(folder, GPTModel(CFG), CFG, "step\n")
    return folder


# --- at a terminal ---

# makes its standard input the terminal that Ctrl-C comes from
ATTACH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
SLOW = f"""
import sys, time
sys.path.insert(0, {str(FOLDER)!r})
import chat
from shared import instruction
def slowly(*_):
    for number in range(100_000):
        yield f"piece{{number}} "
        time.sleep(0.02)
instruction.stream_response = slowly
chat.main(["--model", sys.argv[1]])
"""


class Terminal:
    """A program at a pseudo-terminal: what it shows, and keys to press."""

    def __init__(self, *arguments):
        import pty

        self.keys, screen = pty.openpty()
        python = [sys.executable, "-c", ATTACH, sys.executable]
        self.process = subprocess.Popen(
            [*python, *map(str, arguments)],
            stdin=screen, stdout=screen, stderr=screen, start_new_session=True,
            env=os.environ | {"TERM": "dumb"},
        )  # fmt: skip
        os.close(screen)
        self.shown = ""

    def until(self, text, seconds=600):
        """What is shown from now on, up to `text`."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < end, f"no {text!r} in {self.shown!r}"
            if select.select([self.keys], [], [], 0.1)[0]:
                self.shown += os.read(self.keys, 4096).decode(errors="replace")
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def press(self, keys):
        os.write(self.keys, keys.encode())

    def ended(self, nudge=""):
        """The exit status, once it has ended by itself.

        What is pressed while the line editor starts is seen late or never: `nudge` is pressed again and again.
        """
        try:
            for _ in range(120):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return self.process.wait(timeout=5)
                self.press(nudge)
            raise TimeoutError("it has not ended by itself in ten minutes")
        finally:
            self.process.kill()
            os.close(self.keys)


needs_terminal = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")


@needs_terminal
def test_ctrl_c_stops_an_answer_and_never_ends_the_chat(tiny):
    terminal = Terminal("-c", SLOW, tiny)
    assert "Ctrl-C stops an answer" in terminal.until("> ")
    terminal.press("Describe a dog.\n")
    terminal.until("piece3 ")
    assert "piece99999 " not in terminal.shown  # pieces are shown as they come
    terminal.press("\x03")
    assert "Traceback" not in terminal.until(" [stopped]")
    terminal.until("> ")
    terminal.press("Again.\n")  # it still answers
    terminal.until("piece0 ")
    terminal.press("\x03")
    terminal.until("[stopped]")
    terminal.until("> ")
    terminal.press("\x03")
    assert "ends the chat" in terminal.until("> ")
    terminal.press("\n")
    assert terminal.ended(nudge="\n") == 0


@needs_terminal
def test_a_chat_at_a_terminal(tiny):
    terminal = Terminal(FOLDER / "chat.py", "--model", tiny)
    terminal.until("> ")
    terminal.press("Write the plural. | mouse\n")
    terminal.until("mouse\r\n")
    assert len(terminal.until("> ").strip()) > 10
    terminal.press("| mouse\n")
    assert "chat: there is no instruction" in terminal.until("> ")
    terminal.press(f"Sort. | {'old ' * 140}\n")
    assert "leaves no room for an answer" in terminal.until("> ")
    terminal.press("\n")
    assert terminal.ended() == 0


# --- in a pipe, and from the command line ---


def run(monkeypatch, text, *arguments):
    """What chat.main does with standard input that is no terminal."""
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    chat.main(list(map(str, arguments)))


def test_a_pipe_gets_an_answer_a_line(tiny, monkeypatch, capsys):
    run(monkeypatch, "Describe a dog.\n| mouse\nDescribe a dog.\n", "--model", tiny)
    first, error, again = capsys.readouterr().out.split("\n", maxsplit=2)[:3]
    assert error.startswith("chat: there is no instruction") and again.strip() and first.strip()


def test_one_task_from_the_command_line(tiny, capsys):
    chat.main(["--model", str(tiny), "Write the plural. | mouse"])
    once = capsys.readouterr().out
    chat.main(["--model", str(tiny), "Write", "the", "plural.", "|", "mouse"])
    assert capsys.readouterr().out == once and once.strip() and once.count("\n") == 1


@pytest.mark.parametrize(
    "task, says",
    [
        (["|", "mouse"], "there is no instruction"),
        (["Sort. |", "old " * 140], "leaves no room for an answer"),
        (["--model", "nowhere", "Sort."], "cannot be read"),
    ],
)
def test_what_cannot_be_answered(tiny, task, says):
    with pytest.raises(SystemExit) as caught:
        chat.main(["--model", str(tiny), *task])
    assert str(caught.value).startswith("chat: ") and says in str(caught.value)


def test_a_model_with_gpt2s_vocabulary_gets_gpt2s_tokenizer(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        encodings, "gpt2_encoding", lambda: asked.append(1) or encodings.course_encoding(first=True)
    )
    cfg = CFG | {"vocab_size": encodings.GPT2_TOKENS}
    models.save_model(tmp_path / "model", GPTModel(cfg), cfg, "step\n")
    with pytest.raises(SystemExit):
        chat.main(["--model", str(tmp_path / "model"), "| nothing"])
    assert asked
