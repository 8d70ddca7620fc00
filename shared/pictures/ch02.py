"""Chapter 2's pictures of how things work: from text to vectors, the card over a line, lookup, positions added.

Each draws the lesson's own tokens and tensors on a new figure and returns it.
"""

import matplotlib.pyplot as plt
from matplotlib.patches import ConnectionPatch

from shared.diagrams import diagram
from shared.plotting import PALE, PALETTE, heat, visible


def pipeline(tokens, ids, vectors):
    """A text, its tokens, their IDs, and the vector `(T, C)` of each, one below the other."""
    widths = [max(1.25, 0.62 + 0.17 * len(token)) for token in tokens]
    left = [sum(widths[:i]) for i in range(len(tokens) + 1)]
    right, size = left[-1], vectors.shape[1]
    fig, ax = plt.subplots(figsize=(1.3 + 0.92 * right, 2.4 + 0.26 * size))
    for label, y in [("text", 0), ("tokens", -1.3), ("IDs", -2.6), ("vectors", -4.3)]:
        ax.text(-0.25, y, label, ha="right", va="center", fontsize=11, weight="bold")
    box(ax, 0, 0, right, 0.62, "".join(tokens), "#EEEEEE", family="monospace")
    shades = plt.Normalize(float(vectors.min()), float(vectors.max()))
    for i, (token, token_id) in enumerate(zip(tokens, ids)):
        color, center = PALE[i % len(PALE)], left[i] + widths[i] / 2
        box(ax, left[i], -1.3, widths[i], 0.62, visible(token), color, family="monospace")
        box(ax, left[i], -2.6, widths[i], 0.62, f"{token_id:,}", color)
        for k, value in enumerate(vectors[i].tolist()):
            ink = "black" if shades(value) > 0.5 else "white"
            paint = plt.cm.cividis(shades(value))
            box(ax, center - 0.56, -3.8 - 0.5 * k, 1.12, 0.5, f"{value:.2f}", paint, color=ink)
        for y in (-0.35, -1.65, -2.95):
            arrow = {"arrowstyle": "-|>", "color": "#555555"}
            ax.annotate("", (center, y - 0.6), (center, y), arrowprops=arrow)
    ax.set(xlim=(-1.45, right + 0.05), ylim=(-3.6 - 0.5 * size, 0.4))
    ax.axis("off")
    return fig


def box(ax, x, y, width, height, text, paint, **look):
    """A filled box from `x` on, around the height `y`, with a text in its middle."""
    place = (x + 0.06, y - height / 2)
    ax.add_patch(plt.Rectangle(place, width - 0.12, height, facecolor=paint))
    ax.text(x + width / 2, y, text, ha="center", va="center", fontsize=11, **look)


def card(tokens):
    """One line, guessed token by token: what is read, the token that comes next, and a card over the rest."""
    widths = [0.5 + 0.19 * len(token) for token in tokens]
    left = [sum(widths[:i]) for i in range(len(tokens) + 1)]
    fig, ax = plt.subplots(figsize=(1.4 + 0.75 * left[-1], 0.42 * len(tokens) + 0.5))
    look = {"ha": "center", "va": "center", "fontsize": 11, "family": "monospace"}
    for row in range(1, len(tokens)):
        for i, token in enumerate(tokens[: row + 1]):
            color = PALETTE[1] if i == row else PALE[0]
            ax.add_patch(plt.Rectangle((left[i], -row - 0.4), widths[i] - 0.08, 0.8, color=color))
            ax.text(left[i] + widths[i] / 2 - 0.04, -row, visible(token), **look)
        if row + 1 < len(tokens):
            place, wide = (left[row + 1], -row - 0.4), left[-1] - left[row + 1] - 0.08
            cover = {"facecolor": "#DDDDDD", "edgecolor": "#999999", "hatch": "..."}
            ax.add_patch(plt.Rectangle(place, wide, 0.8, linewidth=0.8, **cover))
    for color, label in [(PALE[0], "read"), (PALETTE[1], "target"), ("#DDDDDD", "under the card")]:
        ax.add_patch(plt.Rectangle((0, 0), 0, 0, color=color, label=label))
    ax.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), fontsize=10)
    ax.set(xlim=(0, left[-1]), ylim=(-len(tokens) + 0.45, -0.5))
    ax.axis("off")
    return fig


def lookup(ids, table):
    """The rows of a table `(V, C)` that `ids` pick, in the order of the IDs."""
    table, picked = table.numpy(), table[ids].numpy()
    columns = range(table.shape[1])
    limits = (float(table.min()), float(table.max()))
    fig, (before, after) = plt.subplots(
        1,
        2,
        figsize=(7.6, 0.5 * len(table) + 0.7),
        width_ratios=(1, 1),
        gridspec_kw={"wspace": 0.5},
    )
    heat(table, [f"row {i}" for i in range(len(table))], columns, ax=before, limits=limits)
    heat(picked, [f"ID {i}" for i in ids.tolist()], columns, ax=after, limits=limits)
    after.set_ylim(len(table) / 2 + len(ids) / 2 - 0.5, len(ids) / 2 - len(table) / 2 - 0.5)
    before.set_title("the table: one row per token", fontsize=11)
    after.set_title("what the layer returns", fontsize=11)
    for ax in (before, after):
        ax.set_xticks([])
    edge = len(columns) - 0.5
    for row, token_id in enumerate(ids.tolist()):
        frame = plt.Rectangle((-0.5, token_id - 0.5), len(columns), 1, fill=False, zorder=5)
        frame.set(edgecolor=PALETTE[1], linewidth=3, clip_on=False)
        before.add_patch(frame)
        ends = {"xyA": (edge, token_id), "xyB": (-1.35, row), "coordsA": "data", "coordsB": "data"}
        line = {"arrowstyle": "-|>", "color": PALETTE[3], "linewidth": 1.6, "mutation_scale": 14}
        arrow = ConnectionPatch(**ends, axesA=before, axesB=after, **line)
        arrow.set_annotation_clip(False)  # its head lies left of the second plot
        fig.add_artist(arrow)
    return fig


def added(labels, tokens, positions):
    """Token vectors `(T, C)` plus position vectors `(T, C)`: the input vectors, number by number."""
    parts = {"token": tokens, "position": positions, "token + position": tokens + positions}
    limits = (min(float(v.min()) for v in parts.values()), max(float(v.max()) for v in parts.values()))  # fmt: skip
    size = (10.4, 0.46 * len(labels) + 0.7)
    fig, axes = plt.subplots(1, 3, figsize=size, gridspec_kw={"wspace": 0.3})
    rows = [[visible(label) for label in labels], range(len(labels)), ["" for _ in labels]]
    for ax, (title, values), names, sign in zip(axes, parts.items(), rows, ("", "+", "=")):
        heat(values.numpy(), names, [""] * tokens.shape[1], ax=ax, limits=limits)
        ax.set_title(title, fontsize=11)
        look = {"transform": ax.transAxes, "fontsize": 20, "ha": "center", "va": "center"}
        ax.text(-0.17, 0.5, sign, **look)
        ax.set_xticks([])
    return fig


def strides(tokens, starts_by_stride, max_length):
    """Which tokens each window reads, and its targets, one token later: `{stride: starts of windows}`."""
    count = sum(len(starts) for starts in starts_by_stride.values())
    fig, ax = plt.subplots(figsize=(9, 0.36 * (count + len(starts_by_stride)) + 1.2))
    for i, token in enumerate(tokens):
        box(ax, i, 0.1, 1, 0.8, visible(token), PALE[i % len(PALE)], family="monospace")
    y = -1.1
    for stride, starts in starts_by_stride.items():
        ax.text(-0.15, y - 0.5 * (len(starts) - 1), f"stride {stride}", ha="right", va="center")
        for start in starts:
            place = {"align": "edge", "edgecolor": "white", "linewidth": 2}
            ax.barh(y + 0.02, max_length, 0.36, start, color=PALETTE[0], **place)
            ax.barh(y - 0.38, max_length, 0.36, start + 1, color=PALETTE[1], hatch="///", **place)
            y -= 1
        y -= 0.5
    ax.vlines(range(len(tokens) + 1), y + 0.6, -0.4, color="#BBBBBB", linewidth=0.7, zorder=0)
    for color, label, hatch in [(PALETTE[0], "inputs", ""), (PALETTE[1], "targets", "///")]:
        look = {"facecolor": color, "hatch": hatch, "edgecolor": "white", "label": label}
        ax.add_patch(plt.Rectangle((0, 0), 0, 0, **look))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 0.85), fontsize=10)
    ax.set(xlim=(-0.05, len(tokens) + 0.05), ylim=(y + 0.6, 0.6))
    ax.axis("off")
    return fig


def summary():
    """The way of a text through chapter 2, as boxes and arrows."""
    boxes = {"text": (0, 0), "token IDs": (1, 0)}
    boxes |= {"windows": (2, 0, "inputs and\ntargets (B, T)")}
    boxes |= {"tokens": (3, 0, "token vectors\n(B, T, C)"), "+": (4, 0)}
    boxes |= {"places": (3, 1, "position vectors\n(T, C)"), "x": (5, 0, "input vectors\n(B, T, C)")}
    arrows = ["text -> token IDs: tokenizer", "token IDs -> windows: slide", "places -> +"]
    return diagram(boxes, [*arrows, "windows -> tokens: look up", "tokens -> + -> x"])
