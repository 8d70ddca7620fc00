"""lecturers.md says what the notebooks say: its sections exist, its exercises take the minutes on their cards."""

import re

import pytest

from tools import ROOT, chapters, read
from tools.questions import FOLDED
from tools.site_check import headings, texts
from tools.site_source import FOR_LECTURERS

PLAN = (ROOT / "lecturers.md").read_text(encoding="utf-8")
CHAPTERS = {one.name[-1].upper(): one for one in chapters(ROOT)}
WORDS = "five ten fifteen twenty twenty-five thirty thirty-five forty forty-five".split()
MINUTES = {word: 5 * (i + 1) for i, word in enumerate(WORDS)}
CARD = re.compile(r"^## (\w\.\d) .+\n+\*([\w-]+) minutes", re.MULTILINE)


def cards(text):
    """The minutes on the cards of an exercises notebook, by number: {"3.1": 10}."""
    return {number: MINUTES[word.lower()] for number, word in CARD.findall(text)}


def exercises(plan):
    """The exercises that a plan names with their minutes: [("3.4", 15)]."""
    return [
        (number, int(minutes)) for number, minutes in re.findall(r"\bE(\w\.\d) \((\d+)\)", plan)
    ]


def sections(plan):
    """The sections that a plan names, ranges filled: "2.1–2.3" are three."""
    found = set()
    for chapter, first, last in re.findall(
        r"(?<![\w.])([1-9A])\.(\d)(?:–\1\.(\d))?(?![\d.])",
        re.sub(r"`[^`]*`|Python \S+|1\.5 GB", "", plan),
    ):
        found |= {f"{chapter}.{i}" for i in range(int(first), int(last or first) + 1)}
    return found


def tables(plan):
    """The minutes of each table of a plan, added up, with the heading above it."""
    found = []
    for block in re.split(r"^(?=#+ )", plan, flags=re.MULTILINE):
        for table in re.findall(r"^\| minutes .*\n\|.*\n((?:\|.*\n)+)", block, re.MULTILINE):
            total = sum(int(row) for row in re.findall(r"^\| (\d+) \|", table, re.MULTILINE))
            found.append((block.split("\n")[0], total))
    return found


@pytest.mark.parametrize("number", sorted(sections(PLAN)))
def test_its_sections_are_in_the_lessons(number):
    chapter = CHAPTERS.get(number[0])
    if chapter is None:
        pytest.skip(f"chapter {number[0]} is not there yet")
    titles = [title for path in chapter.lessons for title in headings(path)]
    assert any(title.startswith(f"{number} ") for title in titles)


@pytest.mark.parametrize("number, minutes", sorted(set(exercises(PLAN))))
def test_its_exercises_take_the_minutes_of_their_cards(number, minutes):
    chapter = CHAPTERS.get(number[0])
    if chapter is None:
        pytest.skip(f"chapter {number[0]} is not there yet")
    assert cards(texts(chapter.folder / "exercises.ipynb"))[number] == minutes


SESSIONS = re.split(r"^### Session ", PLAN.split("\n## Two days")[0], flags=re.MULTILINE)[1:]


def test_an_exercise_has_its_minutes_where_it_is_first_named_in_a_session():
    for session in SESSIONS:
        named = re.findall(r"\bE(\w\.\d)\b", session)
        assert set(named) == {number for number, _ in exercises(session)}, session[:40]


def test_sessions_last_ninety_minutes_and_blocks_seventy_five():
    sums = tables(PLAN)
    assert [total for title, total in sums if title.startswith("### Session")] == [90] * 14
    assert [total for title, total in sums if title.startswith("### Day")] == [75] * 8


@pytest.mark.parametrize("session", SESSIONS, ids=lambda one: one.split(":")[0])
def test_a_session_has_ten_minutes_of_slack_and_never_an_hour_without_a_break(session):
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", session, re.MULTILINE)
    plan = [(int(minutes), what) for minutes, what in rows]
    (pause,) = [place for place, (_, what) in enumerate(plan) if what == "Break"]
    assert plan[0][0] == plan[pause][0] == 5 and plan[0][1].startswith("Arrival")
    read_here = [minutes for minutes, what in plan if re.match(r"[\dA]\.\d", what)]
    assert max(read_here) <= 35
    assert sum(minutes for minutes, _ in plan[:pause]) < 60


@pytest.mark.parametrize("session", SESSIONS, ids=lambda one: one.split(":")[0])
def test_what_is_discussed_has_an_answer(session):
    asked = session.partition("*Discuss* (the answers are folded):")[2]
    found = FOLDED.findall(asked)
    assert found and len(found) == asked.count("<details>") == asked.count("</details>")
    for question, answer in found:
        assert "?" in question and 100 < len(answer.strip()) < 800, question


def test_the_points_of_the_final_task_add_up():
    table = PLAN.partition("| points | for |")[2].partition("\n\n")[0]
    *points, total = map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))
    assert len(points) == 5 and sum(points) == total


def test_fifteen_exercises_ask_for_a_guess():
    papers = [read(one.folder / "exercises.ipynb") for one in chapters(ROOT)]
    cells = [cell for paper in papers for cell in paper.cells if cell.source.startswith("guess_")]
    assert len(cells) == 15 and "Fifteen exercises say" in PLAN


def test_a_copy_for_students_lacks_what_their_pages_lack():
    (command,) = re.findall(r"^git archive .*$", PLAN, re.MULTILINE)
    assert all(f'{name}"' in command for name in FOR_LECTURERS)


def test_what_the_plan_says_is_read_from_it():
    plan = "| minutes | what |\n|--:|---|\n| 20 | 2.1–2.3, A.4 |\n| 15 | E3.4 (15), E3.5 |\n"
    assert sections(plan) == {"2.1", "2.2", "2.3", "A.4"}
    assert exercises(plan) == [("3.4", 15)]
    assert tables(f"## One\n{plan}\n## Two\n{plan}") == [("## One", 35), ("## Two", 35)]
    assert cards("## 3.4 A title\n\n*Fifteen minutes, easy.* Do it.") == {"3.4": 15}
