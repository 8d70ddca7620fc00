"""Diagrams hold what they are told: every box whole and apart from the others, arrows only between boxes."""

from itertools import combinations

import matplotlib.pyplot as plt
import pytest

from shared import diagrams

BLOCK = {"x": (0, 0), "norm": (1, 0, "norm 1"), "add": (2, 0, "+"), "y": (3, 0.5, "two\nlines")}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def boxes(fig):
    """The frames of the boxes, by their text."""
    return {
        t.get_text(): t.get_bbox_patch().get_window_extent()
        for t in fig.axes[0].texts
        if t.get_bbox_patch() and t.get_bbox_patch().get_edgecolor()[0] < 0.5
    }


@pytest.mark.parametrize("which", ["the map", "a block"])
def test_boxes_are_whole_and_apart(which):
    fig = diagrams.course_map("3") if which == "the map" else diagrams.diagram(BLOCK, ["x -> norm"])
    found = boxes(fig)
    assert len(found) >= 4
    assert all(fig.bbox.x0 <= b.x0 and b.x1 <= fig.bbox.x1 for b in found.values())
    assert all(fig.bbox.y0 <= b.y0 and b.y1 <= fig.bbox.y1 for b in found.values())
    assert not any(a.overlaps(b) for a, b in combinations(found.values(), 2))


def test_a_chain_has_an_arrow_for_each_step_and_a_label_for_the_last():
    fig = diagrams.diagram(BLOCK, ["x -> norm -> add: sum", "x ~> add"])
    arrows = [t for t in fig.axes[0].texts if getattr(t, "arrow_patch", None)]
    assert len(arrows) == 3
    assert [t.get_text() for t in fig.axes[0].texts].count("sum") == 1


def test_an_arrow_to_no_box_is_refused():
    with pytest.raises(ValueError, match="names 'z', and the boxes are x, norm, add, y"):
        diagrams.diagram(BLOCK, ["x -> z"])


def test_the_map_marks_where_the_reader_is():
    drawn = diagrams.course_map("5").axes[0].texts
    colors = {
        t.get_text()[0]: t.get_bbox_patch().get_facecolor()
        for t in drawn
        if t.get_bbox_patch() and t.get_text()
    }
    assert [name for name, color in colors.items() if color[0] > 0.85] == ["5"]


def test_the_map_refuses_a_place_that_is_none():
    with pytest.raises(ValueError, match="no box '9'"):
        diagrams.course_map("9")
