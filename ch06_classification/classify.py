"""Say whether a text message is spam, with the classifier that ships with the course.

    python ch06_classification/classify.py "Win a free holiday, text WIN to 80123"
    python ch06_classification/classify.py < messages.txt

For each message, one a line without an argument: the label, the probability of spam, the message. A message that
cannot be classified is named on standard error, and the exit status is then 1.
"""

import argparse
import os
import sys

from shared import encodings, models
from shared.classification import spam_probability


def read(text: str, model, cfg: dict) -> tuple[str, float]:
    """The label of a message and its probability of spam. ValueError if it is empty or too long."""
    tokenizer = encodings.course_encoding()
    count, most = len(tokenizer.encode_ordinary(text)), cfg["context_length"]
    if count > most:
        raise ValueError(
            f"the message has {count} tokens, and at most {most} can be read: shorten it"
        )
    p = spam_probability(text, model, tokenizer, "cpu", pad_token_id=tokenizer.eot_token)
    return cfg["classes"][p >= cfg["threshold"]], p


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "message", nargs="*", help="without one, standard input is read line by line"
    )
    given = parser.parse_args(arguments).message
    try:
        model, cfg = models.classifier()
    except ValueError as error:
        sys.exit(f"classify: {error}")
    if not given:
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
        if sys.stdin.isatty():
            print("one message a line; Ctrl-D ends", file=sys.stderr)
    failed = False
    for number, line in enumerate([" ".join(given)] if given else sys.stdin, start=1):
        text = line.strip()
        try:
            label, p = read(text, model, cfg)
        except ValueError as error:
            failed = True
            place = "" if given else f"line {number}: "
            print(f"classify: {place}{error}", file=sys.stderr)
        else:
            print(f"{label:4} {p:.3f}  {text}", flush=True)
    sys.exit(int(failed))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
