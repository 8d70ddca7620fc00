"""A stored picture is the one that its cell, or its script, draws from the data."""

import base64
import itertools
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from nbval.plugin import IPyNbCell

from shared import plotting
from shared.pictures import ch02
from tools import pictures

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def drawn(values, label="loss", move=0.0, color=None):
    fig = plotting.bars([*"abcd"], values, label)
    if move:
        fig.axes[0].patches[0].set_x(fig.axes[0].patches[0].get_x() + move)
    if color:
        fig.axes[0].patches[0].set_color(color)
    png = pictures.picture_of(fig, 160)
    plt.close(fig)
    return png


ONE = [3.0, 1.0, 2.0, 2.5]


def test_the_same_data_make_the_same_picture():
    assert pictures.difference(drawn(ONE), drawn(ONE)) == ""
    assert pictures.difference(drawn(ONE), drawn([3.0, 1.0, 2.0, 2.5001])) == ""


@pytest.mark.parametrize(
    "other",
    [
        {"values": [3.0, 1.0, 2.0, 2.4]},  # one number, by 4 %
        {"values": [3.0, 2.0, 1.0, 2.5]},  # two exchanged
        {"values": ONE, "label": "gain"},
        {"values": ONE, "color": plotting.PALETTE[1]},
    ],
)
def test_other_data_make_another_picture(other):
    assert "of its area differs" in pictures.difference(drawn(ONE), drawn(**other))


def test_another_size_is_another_picture():
    fig = plt.figure(figsize=(2, 2))
    assert "its size is" in pictures.difference(drawn(ONE), pictures.picture_of(fig, 160))
    plt.close(fig)


@pytest.mark.parametrize(
    ("values", "shown_from"), [([0.0, 4.0], 0), ([3.0, 4.0], 0), ([-0.17, 4.0], -0.17)]
)
def test_an_axis_begins_at_zero_unless_a_value_is_below(values, shown_from):
    fig = plotting.curves([1, 2], {"y": {"a": [1.0, 2.0], "b": values}}, "x")
    bottom = fig.axes[0].get_ylim()[0]
    plt.close(fig)
    assert bottom == 0 if shown_from == 0 else bottom < shown_from


@pytest.mark.parametrize(
    "held, aloud",
    [
        ({"one, two": [1.0, 0.5], "three": "4%"}, "one, two: 1.0, 0.5; three: 4%"),
        ({1: "6,041", 20: "3,021"}, "1: 6,041; 20: 3,021"),
        ({"few": 1, "it's": 2}, "few: 1; its: 2"),
        ([1, 2, 4], "1, 2, 4"),
        ("'on': 0.97 (of 2)", "'on': 0.97 (of 2)"),
    ],
)
def test_the_sentence_of_a_picture_can_be_read_aloud(monkeypatch, held, aloud):
    shown = []
    monkeypatch.setattr(plotting, "display", lambda data, **about: shown.append((data, about)))
    plotting.show(plt.figure(figsize=(1, 1)), f"Shares: {held}; and more.")
    [(data, about)] = shown
    assert data["text/plain"] == f"Shares: {aloud}; and more."
    assert about["metadata"]["image/png"] == {"alt": data["text/plain"], "width": 80}


def compared(stored, fresh, texts_agree=True):
    """What nbval is told about a cell with these pictures."""
    cell = SimpleNamespace(comparison_traceback=[])
    outputs = [
        [{"data": {"image/png": base64.b64encode(png).decode()}} for png in pngs]
        for pngs in (fresh, stored)
    ]
    same = pictures.compared_too(lambda *given: texts_agree)(cell, *outputs)
    return same, cell.comparison_traceback


def test_nbval_compares_pictures():
    assert IPyNbCell.compare_outputs.__module__ == "tools.pictures"  # conftest.py says so
    one, other = drawn(ONE), drawn(ONE[::-1])
    assert compared([one], [one]) == (True, [])
    assert compared([one], [one], texts_agree=False)[0] is False
    for stored, fresh in (([one], [other]), ([one, one], [one, other]), ([one], [one, one])):
        same, (message,) = compared(stored, fresh)
        assert not same and "the stored picture is not the one that this cell draws" in message
    same, (message,) = compared([b"no picture"], [one])
    assert not same and "cannot be read" in message


def test_the_chart_of_speed_is_drawn_from_its_table(monkeypatch, tmp_path):
    script = runpy.run_path(str(BENCHMARKS / "model_speed.py"))
    script["draw"](pd.read_csv(BENCHMARKS / "model_speed.csv"), tmp_path / "now.png")
    stored, now = (path.read_bytes() for path in (BENCHMARKS / "model_speed.png", tmp_path / "now.png"))  # fmt: skip
    assert pictures.difference(stored, now) == "", "benchmarks/model_speed.png"


def test_labels_of_words_stand_apart():
    """Even where points lie close together; a label that stands off has a line to its point."""
    rng = random.Random(123)
    x, y = (np.array([rng.gauss(0, 0.1) + i % 5 for i in range(25)]) for _ in range(2))
    fig = plotting.points(
        x, y, [f"word{i}" for i in range(25)], [f"group{i % 5}" for i in range(25)]
    )
    fig.canvas.draw()
    texts = [one for one in fig.axes[0].texts if one.get_text().startswith("word")]
    boxes = [plt.Text.get_window_extent(one) for one in texts]
    assert len(boxes) == 25
    assert not [1 for one, other in itertools.combinations(boxes, 2) if one.overlaps(other)]
    assert all(one.arrow_patch for one in texts if one.xyann[1])
    plt.close(fig)


def test_chapter_2_draws_a_text_of_any_tokens():
    table, tokens = torch.arange(12.0).view(4, 3), ["a", " long_token", "\n", "b"]
    drawn = [
        ch02.pipeline(tokens, [3, 1, 0, 2], table),
        ch02.card(tokens),
        ch02.lookup(torch.tensor([3, 1]), table),
        ch02.added(tokens, table, -table),
        ch02.strides(tokens * 3, {1: [0, 1], 4: [0, 4]}, 4),
        ch02.summary(),
    ]
    for fig in drawn:
        assert pictures.picture_of(fig, 160)
        plt.close(fig)
