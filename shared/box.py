"""A box to type into below a cell: Enter sends, the answer grows, ■ stops it, earlier questions stay above it.

Without a kernel (on GitHub, on the pages) the cell's output is text: the examples and their answers.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape

import ipywidgets

WIDE = {"width": "52em", "max_width": "100%"}
LAST_LETTERS = 0.3  # seconds that the browser may hold back what was typed before Enter


@contextmanager
def interrupts(noted: Callable[[], None]) -> Iterator[None]:
    """Meanwhile ■ (Interrupt the kernel) calls `noted`. Without this a kernel that runs no cell ignores it."""
    if threading.current_thread() is not threading.main_thread():  # only that one gets signals
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: noted())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Box:
    """Fields to type into, called `names`, and what `answer` says of their texts.

    `answer(*texts)` returns the answer, or yields it in pieces; what it raises is shown as a sentence. ■ stops an
    answer after the next piece. `examples`, a text for each field or a tuple of them, are answered at once, and what
    one of those raises is raised here.
    """

    def __init__(self, answer: Callable[..., str | Iterable[str]], *names: str, examples: list):
        self.answer, self.turns, self.stopped = answer, [], False
        try:  # answers are given where cells run, though JupyterLab may report Enter to another thread
            self.loop = asyncio.get_running_loop()
        except RuntimeError:  # no kernel: a test
            self.loop = None
        examples = [(one,) if isinstance(one, str) else one for one in examples]
        self.said, self.note = ipywidgets.HTML(layout=WIDE), ipywidgets.HTML(layout=WIDE)
        self.fields = [
            ipywidgets.Text(description=name, placeholder=hint, layout=WIDE)
            for name, hint in zip(names, examples[0], strict=True)
        ]
        for field in self.fields:
            field.on_msg(self.heard)
        self.widget = ipywidgets.VBox([self.said, *self.fields, self.note])
        for texts in examples:
            self.ask(*texts)

    def ask(self, *texts: str) -> None:
        """Show the question, and below it the answer as it grows. Whatever `answer` raises, without the question."""
        self.turns.append([" | ".join(filter(None, texts)), ""])
        self.show()
        try:
            answer = self.answer(*texts)
            for piece in [answer] if isinstance(answer, str) else answer:
                if self.stopped:
                    return self.tell("Stopped: this answer is not complete.")
                self.turns[-1][1] += piece
                self.show()
        except BaseException:
            self.turns.pop()
            self.show()
            raise

    def heard(self, _, content: dict, buffers) -> None:
        """Enter, as the browser reports it; the texts are read a moment later."""
        if content.get("event") != "submit":
            return
        if self.loop:
            self.loop.call_soon_threadsafe(self.loop.call_later, LAST_LETTERS, self.send)
        else:
            self.send()

    def send(self) -> None:
        """Ask what is typed. The fields are empty for the next question, unless there was an error."""
        texts = [field.value.strip() for field in self.fields]
        if not texts[0]:
            name, example = self.fields[0].description, self.fields[0].placeholder
            return self.tell(f"Type a {name} and press Enter, for example: {example}")
        self.tell("")
        self.fill([""] * len(texts))
        self.fields[0].focus()
        self.stopped = False
        try:
            with interrupts(self.stop):
                self.ask(*texts)
        except Exception as error:  # a traceback would go where no reader looks
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            self.tell(" ".join(f"{kind}{error}".split()))
            if not any(field.value for field in self.fields):  # nothing typed meanwhile
                self.fill(texts)

    def stop(self) -> None:
        self.stopped = True

    def fill(self, texts: list[str]) -> None:
        for field, text in zip(self.fields, texts):
            field.value = text

    def tell(self, note: str) -> None:
        self.note.value = escape(note)

    def show(self) -> None:
        """Bring what is said into the browser."""
        style = "line-height: 1.5; margin-bottom: 0.7em"
        turns = (
            f'<div style="{style}"><b>{escape(asked)}</b><br>{escape(said)}</div>'
            for asked, said in self.turns
        )
        self.said.value = "".join(turns)

    def __repr__(self) -> str:
        return "\n".join(f"> {asked}\n{said}" for asked, said in self.turns)

    def _repr_mimebundle_(self, **_) -> dict:
        """The box where there is a kernel, and text for all who show the stored notebook."""
        return self.widget._repr_mimebundle_() | {"text/plain": repr(self)}
