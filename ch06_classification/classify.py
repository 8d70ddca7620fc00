"""Say whether a text message is spam, with the classifier that ships with the course.

    python ch06_classification/classify.py "Win a free holiday, text WIN to 80123"
    python ch06_classification/classify.py < messages.txt

For each message, one a line without an argument: the label, the probability of spam, the message. A message that
cannot be classified is named on standard error, and the exit status is then 1.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import os
import sys

from shared import encodings, models, program, texts
from shared.classification import spam_probability


def read(text: str, model, cfg: dict) -> tuple[str, float]:
    """The label of a message and its probability of spam. ValueError if it is empty or too long."""
    tokenizer = encodings.course_encoding()
    p = spam_probability(text, model, tokenizer, "cpu", pad_token_id=tokenizer.eot_token)
    return cfg["classes"][p >= cfg["threshold"]], p


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "message", nargs="*", help="without one, standard input is read line by line"
    )
    given = parser.parse_args(arguments).message
    program.printable()
    try:
        model, cfg = models.classifier()
        if not given and sys.stdin.isatty():
            print("one message a line; Ctrl-D ends", file=sys.stderr)
        failed = False
        for number, line in enumerate([" ".join(given)] if given else texts.typed_lines(), start=1):
            place = "" if given else f"line {number}: "
            try:
                text = texts.unbroken(line, "the message") if given else texts.as_text(line, "it")
                text = text.strip()
                label, p = read(text, model, cfg)
            except ValueError as error:
                failed = True
                print(f"classify: {place}{error}", file=sys.stderr)
            else:
                print(f"{label:4} {p:.3f}  {text}", flush=True)
    except ValueError as error:
        sys.exit(f"classify: {error}")
    sys.exit(int(failed))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
