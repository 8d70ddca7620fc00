"""The questions that end the lessons, with their folded answers, as a table for a quiz.

    python -m tools.questions questions.csv [--chapter ch03_attention]

The columns are chapter, question and answer, in UTF-8 as spreadsheets and Anki read it. Questions and
answers are Markdown, as they stand in the notebooks, which remain the only place where they are written.
"""

import argparse
import csv
import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tools import ROOT, Chapter, Refused, chapters
from tools.site_check import texts

FOLDED = re.compile(r"<details><summary>(.*?)</summary>(.*?)</details>", re.DOTALL)


def questions(chapter: Chapter) -> Iterator[tuple[str, str]]:
    """The questions below the heading "Questions" of each of the chapter's notebooks, with their answers.

    Raises Refused if there is none, or one without an answer.
    """
    for path in chapter.lessons:
        part = re.search(r"^### Questions$(.*?)(?=^#|\Z)", texts(path), re.M | re.S)
        found = FOLDED.findall(part[1]) if part else []
        if not found:
            raise Refused(f'{path.name}: no folded question below a heading "### Questions"')
        for question, answer in found:
            if not answer.strip():
                raise Refused(f"{path.name}: the question {question.strip()!r} has no answer")
            yield html.unescape(question.strip()), html.unescape(answer.strip())


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.questions", description=__doc__.split("\n")[0]
    )
    parser.add_argument("table", type=Path, help="the CSV file to write; it must not exist")
    parser.add_argument("--chapter", help="of this chapter only; its folder, ch03_attention")
    chosen = parser.parse_args(arguments)
    found = {one.folder.name: one for one in chapters(root)}
    names = [chosen.chapter.rstrip("/")] if chosen.chapter else list(found)
    if not set(names) <= set(found):
        parser.error(f"no chapter {chosen.chapter!r}; there are {', '.join(found)}")
    if chosen.table.exists():
        parser.error(f"{chosen.table} exists; name another file, or move it away")
    try:
        rows = [(found[name].title, *one) for name in names for one in questions(found[name])]
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    with open(chosen.table, "x", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("chapter", "question", "answer"), *rows])
    print(f"{chosen.table}: {len(rows)} questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
