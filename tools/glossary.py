"""Keep ch01_intro/glossary.md up to date: every term of the course, its definition, and where it is explained.

Usage: python -m tools.glossary [--check]

A term is what a lesson sets in bold: up to four words without a comma or a closing mark. Bold text that is
longer, begins with "Trap:" or ends in a mark, and what stands in a lesson's first cell or from its summary on, is none;
mere emphasis is written in italics. Definitions are written by hand, into the page itself: this tool keeps them, sorts
the lines, and writes the places. A new term gets "TO WRITE" for a definition, which --check and the tests refuse. A line
that no lesson explains goes, unless it says "see" another term (`- **GPT-2 tokenizer**: see **byte pair encoding**`).
"""

import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tools import ROOT, Chapter, Draft, Refused, chapters, command, read

PAGE = "ch01_intro/glossary.md"
HEAD = """# Glossary

Every term of the course in a sentence or two, and where the lessons explain it.
"""
MISSING = "TO WRITE"
LINE = re.compile(r"^- \*\*(.+?)\*\*: (.+?)(?: → .*)?$", re.MULTILINE)
BOLD = re.compile(r"\*\*([^*`]+?)\*\*")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SKIPPED = re.compile(r"^(?:\||<|#|\$\$)")  # tables, HTML, headings, formulas
ITEM = re.compile(r"^(?:[-*]|\d+\.)\s+")


@dataclass(frozen=True)
class Entry:
    """A term, and where it is explained."""

    term: str
    place: str  # a Markdown link


def drafts(root: Path) -> list[Draft]:
    """The glossary as it ought to be. Raises Refused for two definitions of one term."""
    lessons = sorted(chapters(root), key=lambda one: (not one.name.startswith("ch"), one.name))
    page = root / PAGE
    was = page.read_text(encoding="utf-8") if page.exists() else ""
    text = written([entry for one in lessons for entry in entries(one)], definitions(was))
    return [Draft(page, text, was, text)]


def definitions(page: str) -> dict[str, tuple[str, str]]:
    """What a page says of each term: its key -> the term as it is written there, its definition."""
    found = {}
    for term, says in LINE.findall(page):
        if key(term) in found:
            raise Refused(f"{PAGE}: **{term}** is defined twice; keep one line")
        found[key(term)] = (term, says)
    return found


def entries(chapter: Chapter) -> list[Entry]:
    """The terms of a chapter's lessons, in their order; a section is named once for each of its terms."""
    return [entry for path in chapter.lessons for entry in entries_of(chapter, path)]


def entries_of(chapter: Chapter, path: Path) -> list[Entry]:
    """The terms of one of the chapter's notebooks."""
    found, heading, section = {}, "", ""
    for number, cell in enumerate(read(path).cells):
        for paragraph in paragraphs(cell.source) if cell.cell_type == "markdown" else []:
            if paragraph.startswith("#"):
                heading = paragraph.lstrip("#").strip()
                section = heading if paragraph.startswith("## ") else section
                if heading == "Summary":
                    return list(found.values())
                continue
            for term in filter(is_term, BOLD.findall(paragraph) if number else []):
                place = link(chapter, path, section, heading)
                found.setdefault((key(term), section), Entry(named(term), place))
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
    """What makes two spellings one term: capitals, the plural's s and "(LLM)" at the end do not count."""
    return re.sub(r" \([A-Z]+\)$", "", term).casefold().removesuffix("s")


def named(term: str) -> str:
    """The term without the capital that only the beginning of a sentence gave it."""
    return term[0].lower() + term[1:] if re.fullmatch(r"[A-Z][a-z][^A-Z]*", term) else term


def link(chapter: Chapter, path: Path, section: str, heading: str) -> str:
    """A link to the heading, by the anchor that JupyterLab gives it; it shows the section."""
    shown = section if re.match(r"[A-E\d]\.\d", section) else f"{chapter.title}, {section}"
    anchor = quote(heading.replace("`", "").replace(" ", "-"))
    return f"[{shown}](../{chapter.folder.name}/{path.name}#{anchor})"


def written(found: list[Entry], defined: dict[str, tuple[str, str]]) -> str:
    """The page: one line a term, under the letter with which it begins."""
    places = defaultdict(list)
    for entry in found:
        places[key(entry.term)].append(entry)
    lines = {k: f"- **{t}**: {says}" for k, (t, says) in defined.items() if says.startswith("see ")}
    for k, terms in places.items():
        term, says = defined.get(k, (terms[0].term, MISSING))
        lines[k] = f"- **{term}**: {says} → {', '.join(entry.place for entry in terms)}"
    letters = defaultdict(list)
    for k in sorted(lines):
        letters[k[0].upper()].append(lines[k])
    blocks = [f"## {letter}\n\n" + "\n".join(those) for letter, those in letters.items()]
    return "\n\n".join([HEAD.strip(), *blocks]) + "\n"


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    return command("Keep the glossary of the course up to date.", drafts, root, arguments)


if __name__ == "__main__":
    sys.exit(main())
