"""Write ch01_intro/glossary.md: every term of the course, with the sentence of the lesson that explains it.

Usage: python -m tools.glossary [--check]

A term is what a lesson sets in bold: up to four words without a comma or a closing mark. Bold text that is
longer, begins with "Trap:" or ends in a mark, and what stands in a lesson's first cell or from its summary on, is none;
mere emphasis is written in italics. The entry is the sentence with the bold words. If it begins by pointing back
("This is ..."), it takes along the one before; if it then cannot be understood, mend the lesson.
"""

import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tools import ROOT, Chapter, Draft, chapters, command, read

PAGE = "ch01_intro/glossary.md"
HEAD = """# Glossary

Every term of the course, in the words of the lesson that explains it, with the place where it stands. Written by
`make promote` from what the lessons set in bold; a term that several lessons explain has an entry for each.
"""
BOLD = re.compile(r"\*\*([^*`]+?)\*\*")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SKIPPED = re.compile(r"^(?:\||<|#|\$\$)")  # tables, HTML, headings, formulas
ITEM = re.compile(r"^(?:[-*]|\d+\.)\s+")
SENTENCE_END = re.compile(r"(?<=[.!?])[\")]?\s+(?=\*\*|[\"(*_`$]*[A-Z0-9])")
POINTS_BACK = re.compile(
    r"(?:This|That|These|Those|Such|It|Its|They|Their|There|Both|Together|Then|Hence|The result)\b"
)
# a word that says nothing without the sentence before
JOINS = re.compile(r"(?:And|But|So|First|Second|Third|Fourth)\b,? ")


@dataclass(frozen=True)
class Entry:
    """A term, the sentences that explain it, and where they stand."""

    term: str
    text: str
    place: str  # a Markdown link


def drafts(root: Path) -> list[Draft]:
    """The glossary as it ought to be."""
    lessons = sorted(chapters(root), key=lambda one: (not one.name.startswith("ch"), one.name))
    page = root / PAGE
    text = written([entry for one in lessons for entry in entries(one)])
    was = page.read_text(encoding="utf-8") if page.exists() else ""
    return [Draft(page, text, was, text)]


def entries(chapter: Chapter) -> list[Entry]:
    """The terms of a chapter's lessons, in their order; each section explains a term once."""
    return [entry for path in chapter.lessons for entry in entries_of(chapter, path)]


def entries_of(chapter: Chapter, path: Path) -> list[Entry]:
    """The terms of one of the chapter's notebooks."""
    found, heading, section, before = {}, "", "", []
    for number, cell in enumerate(read(path).cells):
        if cell.cell_type != "markdown":
            continue
        for paragraph in paragraphs(cell.source):
            if paragraph.startswith("#"):
                heading = paragraph.lstrip("#").strip()
                section = heading if paragraph.startswith("## ") else section
                before = []
                if heading == "Summary":
                    return list(found.values())
                continue
            sentences = SENTENCE_END.split(paragraph)
            for i, sentence in enumerate(sentences if number else []):
                for term in filter(is_term, BOLD.findall(sentence)):
                    text = standing([*before, *sentences[: i + 1]])
                    place = link(chapter, path, section, heading)
                    found.setdefault((key(term), section), Entry(named(term), text, place))
            before = sentences
    return list(found.values())


def paragraphs(source: str) -> list[str]:
    """The headings, paragraphs and list items of a Markdown cell, each as one line."""
    found, open_ = [], False
    for line in FENCE.sub("", source).split("\n"):
        line = line.strip()
        if line.startswith("#"):
            found.append(line)
            open_ = False
        elif not line or SKIPPED.match(line):
            open_ = False
        elif open_ and not ITEM.match(line):
            found[-1] += f" {line}"
        else:
            found.append(ITEM.sub("", line))
            open_ = True
    return found


def is_term(bold: str) -> bool:
    return len(bold.split()) <= 4 and not re.search(r"^Trap:|,|[.?!:]$", bold)


def key(term: str) -> str:
    """What makes two spellings one term: capitals and the plural's s do not count."""
    return term.casefold().removesuffix("s")


def named(term: str) -> str:
    """The term without the capital that only the beginning of a sentence gave it."""
    return term[0].lower() + term[1:] if re.fullmatch(r"[A-Z][a-z][^A-Z]*", term) else term


def standing(sentences: list[str]) -> str:
    """The last sentence; with the one before, or two, where it points back to them."""
    plain = [JOINS.sub("", BOLD.sub(r"\1", sentence)) for sentence in sentences]
    start = len(plain) - 1
    while start and len(plain) - start < 3 and POINTS_BACK.match(plain[start]):
        start -= 1
    whole = []
    for sentence in plain[start:]:
        first = sentence.split()[0]
        capital = first.isalpha() and sentence[0].upper()  # not for a name such as course-gpt
        sentence = (capital or sentence[0]) + sentence[1:]
        # a colon led to a cell or a picture that is not here
        whole.append(re.sub(r"[:;,]$", ".", sentence))
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(whole))


def link(chapter: Chapter, path: Path, section: str, heading: str) -> str:
    """A link to the heading, by the anchor that JupyterLab gives it; it shows the section."""
    shown = section if re.match(r"[A-E\d]\.\d", section) else f"{chapter.title}, {section}"
    anchor = quote(heading.replace("`", "").replace(" ", "-"))
    return f"[{shown}](../{chapter.folder.name}/{path.name}#{anchor})"


def written(found: list[Entry]) -> str:
    """The page: one line a term, under the letter with which it begins."""
    terms = defaultdict(list)
    for entry in found:
        terms[key(entry.term)].append(entry)
    letters = defaultdict(list)
    for name in sorted(terms):
        parts = " ".join(f"{entry.text} ({entry.place})" for entry in terms[name])
        letters[name[0].upper()].append(f"- **{terms[name][0].term}**: {parts}")
    blocks = [f"## {letter}\n\n" + "\n".join(lines) for letter, lines in letters.items()]
    return "\n\n".join([HEAD.strip(), *blocks]) + "\n"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    return command("Write the glossary of the course from its lessons.", drafts, root, arguments)


if __name__ == "__main__":
    sys.exit(main())
