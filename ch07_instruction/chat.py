"""Talk to the assistant of chapter 7 in a terminal; its answers appear as they are generated.

    python ch07_instruction/chat.py
    python ch07_instruction/chat.py "Write the plural. | mouse"

What an instruction is about can follow it after a bar, as its input. Ctrl-C stops an answer. Ctrl-C once more,
Ctrl-D or an empty line ends the chat. Every task stands alone: the assistant remembers nothing.
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

HELP = """A task, or a task and its input after a bar: Write the plural. | mouse
Ctrl-C stops an answer. An empty line ends the chat."""


def as_entry(line: str) -> dict[str, str]:
    """What someone typed, as chapter 7's entries have it."""
    instruction, _, given = texts.unbroken(line, "the task").partition("|")
    return {"instruction": instruction.strip(), "input": given.strip()}


def answer(model, tokenizer, line: str) -> bool:
    """Print the answer piece by piece; whether it came to its end. ValueError, before anything is printed, if there can
    be none."""
    try:
        from shared.instruction import stream_response

        for piece in stream_response(model, as_entry(line), tokenizer):
            print(piece, end="", flush=True)
        print()
        return True
    except KeyboardInterrupt:
        print(" [stopped]")
        return False


def typed() -> Iterator[bytes | str]:
    """Tasks typed at a terminal, until an empty line, Ctrl-D or Ctrl-C.

    After a whole answer, which `send(True)` tells, the first Ctrl-C does not end the chat: it may have come too late.
    """
    print(HELP)
    late = False
    while True:
        try:
            if not (line := input("\n> ")).strip():
                return
            late = yield line
        except KeyboardInterrupt:
            if not late:
                raise
            print("\nThe answer had ended. Ctrl-C once more ends the chat.", end="")
            late = False


def chat(model, tokenizer) -> None:
    """Questions and answers until an empty line or the end of the input."""
    asks = sys.stdin.isatty()
    lines, whole = typed() if asks else texts.typed_lines(), None
    while True:
        try:
            line = lines.send(whole) if asks else next(lines)
            if not line.strip():
                return
            whole = answer(model, tokenizer, line if asks else texts.as_text(line, "the task"))
        except StopIteration:
            return
        except EOFError:
            return print()
        except ValueError as error:
            whole = False
            print(f"chat: {error}")


def load(folder: Path | None):
    """The model of a folder, or the one that ships, and its tokenizer; a word where it is no assistant."""
    from shared import encodings, models  # PyTorch takes seconds to import: Ctrl-C may come

    if folder is None:
        return models.instruction_model()[0], encodings.course_encoding(first=True)
    model, cfg = models.load_model(folder, encodings.FIRST_TOKENIZER)
    log = folder / "log.csv"
    if log.exists() and "step" not in texts.read_text(log).partition("\n")[0].split(","):
        print(f"chat: {folder} was not made by make_assistant.py: it continues texts, and has not learned to answer", file=sys.stderr)  # fmt: skip
    ours = cfg["vocab_size"] < encodings.GPT2_TOKENS
    return model, encodings.course_encoding(first=True) if ours else encodings.gpt2_encoding()


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
        if options.task:
            answer(model, tokenizer, " ".join(options.task))
        else:
            chat(model, tokenizer)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"chat: {error}")
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
