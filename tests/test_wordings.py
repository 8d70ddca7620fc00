"""The second edition's wordings of chapter 7's tasks: as the first edition's forms, many of each, and one kept for tests."""

import difflib
import json
import re
from collections import Counter

import pytest

from shared import editions

FOLDER = editions.INSTRUCTIONS.parent
FIRST, SECOND = (
    json.loads((FOLDER / name).read_text(encoding="utf-8"))
    for name in ("wordings.json", "wordings_2.json")
)
FORMS = [(family, form) for family, forms in SECOND["wordings"].items() for form in forms]
CLOSE = 0.8  # of difflib's ratio: one or two words differ


def plain(wording):
    return re.sub(r"\W+", " ", re.sub(r"\{\d\}", " ", wording.lower())).strip()


def places(wording):
    return {int(number) for number in re.findall(r"\{(\d)\}", wording)}


def test_every_form_of_the_first_edition_is_there_and_has_a_reserved_wording():
    assert set(FIRST["wordings"]) == set(SECOND["wordings"]) == set(SECOND["reserved"])
    british = {"colour": "color"}
    for family, forms in FIRST["wordings"].items():
        assert {british.get(form, form) for form in forms} <= set(SECOND["wordings"][family])
        assert set(SECOND["wordings"][family]) == set(SECOND["reserved"][family])
    assert sum(len(SECOND["wordings"][family][form]) for family, form in FORMS) == 1019


@pytest.mark.parametrize("family, form", FORMS)
def test_a_form(family, form):
    """At least twelve wordings, none twice, none without its item; the reserved one is like none of them."""
    wordings, reserved = SECOND["wordings"][family][form], SECOND["reserved"][family][form]
    assert len(wordings) >= 12 and all(map(places, [*wordings, reserved]))
    assert not any(places(w) - {0, 1} for w in [*wordings, reserved])
    said = [re.sub(r"[^\w{}|]+", " ", wording.lower()).strip() for wording in wordings]
    assert [w for w, count in Counter(said).items() if count > 1] == []
    near = max(difflib.SequenceMatcher(None, plain(w), plain(reserved)).ratio() for w in wordings)
    assert near < CLOSE
