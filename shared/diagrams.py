"""Diagrams: boxes and arrows, and the map of the course, as pictures that every viewer shows.

Shown by `plotting.show(fig, text)`, like all pictures.
"""

import re

import matplotlib.pyplot as plt
from matplotlib.transforms import Bbox

from .plotting import PALE, PALETTE

# The course as boxes: column, row, text.
COURSE = {
    "A": (0, 1, "A\nPyTorch"),
    "1": (0, 0, "1\nwhat an LLM is"),
    "2": (1, 0, "2\ntext data"),
    "3": (2, 0, "3\nattention"),
    "4": (3, 0, "4\nGPT model"),
    "5": (4, 0, "5\npretraining"),
    "D": (4, 1, "D\nbetter training"),
    "6": (5, 1, "6\nclassification"),
    "7": (5, 0, "7\ninstructions"),
    "E": (6, 1, "E\nLoRA"),
    "8": (6, 0, "8\npreferences"),
}
ROUTE = ["A -> 1 -> 2 -> 3 -> 4 -> 5 -> 7 -> 8", "5 -> D", "5 -> 6 -> E -> 8", "7 -> E"]


def diagram(boxes, arrows, colors=None, frames=None):
    """Boxes joined by arrows, on a new figure.

    `boxes`: name -> (column, row) or (column, row, text); rows count downward, halves are allowed,
    and a text of one character is drawn as a circle. `arrows`: strings such as
    "x -> norm -> attention", "x -> y: a label" (on the last arrow), or with "~>" for one that
    arches over what lies between. `colors`: name -> a color. `frames`: title -> names to draw a
    dashed frame around. ValueError for an arrow or a color of a box that is not there.
    """
    text = {name: (place[2] if len(place) > 2 else name) for name, place in boxes.items()}
    steps = []
    for line in arrows:
        route, _, label = line.partition(": ")
        ends = re.split(r" ([-~])> ", route)
        chain = list(zip(ends[::2], ends[1::2], ends[2::2]))
        steps += [(*step, label if step is chain[-1] else "") for step in chain]
    for name in {end for a, _, b, _ in steps for end in (a, b)} - set(boxes):
        raise ValueError(f"an arrow names {name!r}, and the boxes are {', '.join(boxes)}")
    for name in set(colors or {}) - set(boxes):
        raise ValueError(f"there is no box {name!r} to color; the boxes are {', '.join(boxes)}")

    # sizes in inches: a column is as wide as its widest text, a gap as its longest label
    def wide(words, each):
        return each * max(len(line) for line in words.split("\n"))

    width = {name: 0.3 + wide(text[name], 0.088) for name in boxes}
    columns = sorted({place[0] for place in boxes.values()})
    right, middle = 0, {}
    for before, column in zip([None, *columns], columns):
        ends = {before, column}
        labels = [t for a, k, b, t in steps if k == "-" and {boxes[a][0], boxes[b][0]} == ends]
        broad = max(width[name] for name in boxes if boxes[name][0] == column)
        gap = 0 if before is None else 0.4 + max((wide(t, 0.078) for t in labels), default=0)
        middle[column], right = right + gap + broad / 2, right + gap + broad
    tall = 0.78 + 0.2 * max(t.count("\n") for t in text.values())
    spot = {name: (middle[place[0]], -place[1] * tall) for name, place in boxes.items()}
    arch = 0.5 if any(kind == "~" for _, kind, _, _ in steps) else 0
    low = min(y for _, y in spot.values()) - 0.55 * tall
    high = max(y for _, y in spot.values()) + 0.55 * tall + 0.7 * arch + 0.1 * bool(frames)

    fig, ax = plt.subplots(figsize=(right + 0.2, high - low), layout="none")
    ax.set_position([0, 0, 1, 1])
    ax.set(xlim=(-0.1, right + 0.1), ylim=(low, high))
    ax.axis("off")
    drawn = {}
    for name, (x, y) in spot.items():
        style = "circle,pad=0.25" if len(text[name]) == 1 else "round,pad=0.4"
        color = (colors or {}).get(name, PALE[0])
        look = {"boxstyle": style, "facecolor": color, "edgecolor": "#555555"}
        box = ax.text(x, y, text[name], ha="center", va="center", bbox=look, zorder=3)
        drawn[name] = box.get_bbox_patch()
    fig.canvas.draw()  # gives the boxes their sizes: arrows end at their edges
    for a, kind, b, label in steps:
        (x0, y0), (x1, y1) = spot[a], spot[b]
        curve = f"arc3,rad={-2 * arch / (x1 - x0)}" if kind == "~" else "arc3"
        look = {"arrowstyle": "-|>", "color": "#333333", "linewidth": 1.4, "connectionstyle": curve}
        look |= {"patchA": drawn[a], "patchB": drawn[b], "shrinkA": 1, "shrinkB": 1}
        ax.annotate(
            "", spot[b], spot[a], arrowprops=look
        )  # after the boxes, which give it its ends
        ahead = (x1 > x0) - (x1 < x0)  # 1 to the right, -1 to the left: the middle between edges
        x = (x0 + x1) / 2 + ahead * (width[a] - width[b]) / 4
        y = (y0 + y1) / 2 + (arch if kind == "~" else 0.12 * (y0 == y1))
        look = {"ha": "center", "va": "center", "bbox": {"color": "white", "pad": 1}}
        ax.text(x, y, label, fontsize=9, zorder=4, **look)
    for title, names in (frames or {}).items():
        inside = Bbox.union([drawn[name].get_window_extent() for name in names])
        around = inside.transformed(ax.transData.inverted()).padded(0.13)
        size = around.width, around.height
        ax.add_patch(plt.Rectangle(around.p0, *size, fill=False, linestyle="--"))
        ax.text(around.x0 + 0.05, around.y0 - 0.04, title, fontsize=9, style="italic", va="top")
    return fig


def course_map(here):
    """The whole course, with the box of `here` ("3" for chapter 3, "A" for appendix A) in orange."""
    return diagram(COURSE, ROUTE, colors={here: PALETTE[1]})
