"""Talk to the assistant of chapter 7 in a terminal; its answers appear as they are generated.

    python ch07_instruction/chat.py
    python ch07_instruction/chat.py "Write the plural. | mouse"

What an instruction is about can follow it after a bar, as its input. The assistant reads the last exchange again
before it answers. Ctrl-C stops an answer, and never ends the chat; an empty line or Ctrl-D does.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from shared import program, texts

with suppress(ImportError):  # not on Windows; where it is, input() can be edited and recalled
    import readline  # noqa: F401

HELP = """Say something, or give a task, its input after a bar: Write the plural. | mouse
Ctrl-C stops an answer. An empty line or Ctrl-D ends the chat."""


def answer(talk, line: str) -> None:
    """Print the answer piece by piece, up to its end or to Ctrl-C. ValueError, before anything is printed, if there can
    be none."""
    try:
        for piece in talk.say(texts.unbroken(line, "the task").strip()):
            print(piece, end="", flush=True)
        print()
    except KeyboardInterrupt:
        print(" [stopped]")


def typed() -> Iterator[str]:
    """What is typed at a terminal, until an empty line or Ctrl-D. Ctrl-C gives up a line, and nothing else."""
    print(HELP)
    while True:
        try:
            if not (line := input("\n> ")).strip():
                return
            yield line
        except KeyboardInterrupt:
            print("\nAn empty line or Ctrl-D ends the chat.", end="")
        except EOFError:
            return print()


def chat(talk) -> None:
    """Questions and answers until an empty line or the end of the input."""
    asks = sys.stdin.isatty()
    for line in typed() if asks else texts.typed_lines():
        if not line.strip():
            return
        try:
            answer(talk, line if asks else texts.as_text(line, "the task"))
        except ValueError as error:
            print(f"chat: {error}")


def load(folder: Path | None):
    """The model of a folder, or the one that ships, and its tokenizer; a word where it is no assistant."""
    from shared import encodings, models  # PyTorch takes seconds to import: Ctrl-C may come

    if folder is None:
        return models.instruction_model()[0], encodings.course_encoding()
    model, cfg = models.load_model(folder)
    log = folder / "log.csv"
    if log.exists() and "step" not in texts.read_text(log).partition("\n")[0].split(","):
        print(f"chat: {folder} was not made by make_assistant.py: it continues texts, and has not learned to answer", file=sys.stderr)  # fmt: skip
    ours = cfg["vocab_size"] < encodings.GPT2_TOKENS
    return model, encodings.course_encoding() if ours else encodings.gpt2_encoding()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("task", nargs="*", help="answered at once; without one, a chat begins")
    add("--model", type=Path, help="a folder that make_assistant.py made (default: what ships)")
    options = parser.parse_args(arguments)
    program.printable()
    try:
        if sys.stderr.isatty():
            print("loading the model ...", file=sys.stderr)
        model, tokenizer = load(options.model)
        from shared.demo import Talk

        talk = Talk(model, tokenizer)
        if options.task:
            answer(talk, " ".join(options.task))
        else:
            chat(talk)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"chat: {error}")
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
