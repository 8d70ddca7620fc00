"""Lessons show what they warn of: a trap is followed by a check that can fail, before the next heading."""

import re

import pytest

from tools import ROOT, chapters, read
from tools import style_report as style

TRAP = re.compile(r"^#+ .*Trap\b.*|\*\*Trap\b[^*]*\*\*", re.MULTILINE)
HEADING = re.compile(r"^#{2,3} ", re.MULTILINE)


def traps(path):
    """Each trap of a lesson, and whether a code cell asserts something before the next part or trap."""
    nb = read(path)
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown" or not (trap := TRAP.search(cell.source)):
            continue
        after = []
        for other in nb.cells[i + 1 :]:
            if other.cell_type == "markdown" and (HEADING.search(other.source)):
                break
            after.append(other)
        code = [one for one in after if one.cell_type == "code"]
        yield cell.id, trap[0], any(style.checks(style.tree(one)) for one in code)


TRAPS = [
    pytest.param(one.name, *found, id=f"{one.name}-{found[0]}")
    for one in chapters(ROOT)
    for path in one.lessons
    for found in traps(path)
]


@pytest.mark.parametrize("lesson, cell, trap, checked", TRAPS)
def test_a_trap_is_seen_to_snap(lesson, cell, trap, checked):
    assert checked, f"{lesson}, cell {cell!r}: nothing after {trap!r} asserts what it warns of"


def test_there_are_traps():
    assert len(TRAPS) > 20
