"""Talk to the assistant of chapter 7 in a terminal; its answers appear as they are generated.

    python ch07_instruction/chat.py
    python ch07_instruction/chat.py "Write the plural. | mouse"

What an instruction is about can follow it after a bar, as its input. Ctrl-C stops an answer. Ctrl-C once more,
Ctrl-D or an empty line ends the chat. Every task stands alone: the assistant remembers nothing.
"""

import argparse
import sys
from contextlib import suppress
from pathlib import Path

with suppress(ImportError):  # not on Windows; where it is, input() can be edited and recalled
    import readline  # noqa: F401

HELP = """A task, or a task and its input after a bar: Write the plural. | mouse
Ctrl-C stops an answer. An empty line ends the chat."""


def as_entry(line: str) -> dict[str, str]:
    """What someone typed, as chapter 7's entries have it."""
    instruction, _, given = line.partition("|")
    return {"instruction": instruction.strip(), "input": given.strip()}


def answer(model, tokenizer, line: str) -> None:
    """Print the answer piece by piece. ValueError, before anything is printed, where there can be none."""
    from shared.instruction import stream_response

    try:
        for piece in stream_response(model, as_entry(line), tokenizer):
            print(piece, end="", flush=True)
        print()
    except KeyboardInterrupt:
        print(" [stopped]")


def chat(model, tokenizer) -> None:
    """Questions and answers until an empty line or the end of the input."""
    asks = sys.stdin.isatty()
    if asks:
        print(HELP)
    while True:
        try:
            line = input("\n> " if asks else "")
            if not line.strip():
                return
            answer(model, tokenizer, line)
        except EOFError:
            return print() if asks else None
        except ValueError as error:
            print(f"chat: {error}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], epilog=HELP)
    add = parser.add_argument
    add("task", nargs="*", help="answered at once; without one, a chat begins")
    add("--model", type=Path, help="a folder that make_assistant.py made (default: what ships)")
    options = parser.parse_args(arguments)
    try:
        from shared import encodings, models  # PyTorch takes seconds to import: Ctrl-C may come

        found = models.load_model(options.model) if options.model else models.instruction_model()
        ours = found[1]["vocab_size"] < encodings.GPT2_TOKENS
        tokenizer = encodings.course_encoding() if ours else encodings.gpt2_encoding()
        if options.task:
            answer(found[0], tokenizer, " ".join(options.task))
        else:
            chat(found[0], tokenizer)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"chat: {error}")
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
