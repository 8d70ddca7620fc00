"""Chapter 7's pictures: who says what in a prompt, what a batch asks for, padding, and a score worked out in a table."""

import matplotlib.pyplot as plt

from shared.plotting import PALE, PALETTE, visible

# what a token is, and how it looks
KINDS = {
    "name of a speaker": PALE[2],
    "what the user says": PALE[0],
    "answer": PALE[1],
    "end token": PALETTE[5],
    "padding": "#EEEEEE",
    "hidden": "white",
}


def _legend(ax, kinds):
    marks = [plt.Rectangle((0, 0), 1, 1, facecolor=KINDS[kind], edgecolor="gray") for kind in kinds]
    ax.legend(marks, kinds, ncols=3, frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0), fontsize=10)  # fmt: skip


def cells(views):
    """Tables of tokens, a cell each, in the color of its kind: `{title: [row, row, ...]}`, a row of (text, kind) pairs."""
    width = max(len(row) for rows in views.values() for row in rows)
    heights = [len(rows) for rows in views.values()]
    size = (min(9.6, 0.75 * width + 0.4), 0.42 * sum(heights) + 0.45 * len(views) + 0.5)
    fig, axes = plt.subplots(len(views), 1, figsize=size, height_ratios=heights, squeeze=False)
    seen = {}
    for ax, (title, rows) in zip(axes[:, 0], views.items()):
        for y, row in enumerate(rows):
            for x, (text, kind) in enumerate(row):
                seen[kind] = True
                look = {"facecolor": KINDS[kind], "edgecolor": "gray", "linewidth": 0.6}
                ax.add_patch(plt.Rectangle((x, y + 0.06), 0.96, 0.88, **look))
                small = 9 if len(visible(text)) < 8 else 7
                ax.text(x + 0.48, y + 0.5, visible(text), ha="center", va="center", fontsize=small)
        ax.set(xlim=(0, width), ylim=(len(rows), 0))
        ax.set_title(title, fontsize=11, loc="left")
        ax.axis("off")
    _legend(axes[-1, 0], [kind for kind in KINDS if kind in seen])
    return fig


def batches(lengths):
    """How long the texts of some batches are, and how much padding each needs: `{title: [[length, ...], ...]}`."""
    fig, axes = plt.subplots(1, len(lengths), figsize=(4.6 * len(lengths), 3.4), sharex=True, sharey=True)  # fmt: skip
    for ax, (title, groups) in zip(axes, lengths.items()):
        y = 0
        for group in groups:
            for length in group:
                ax.barh(y, length, height=1, color=PALETTE[0])
                ax.barh(y, max(group) - length, left=length, height=1, color=PALE[3])
                y += 1
            y += 1
        real, read = sum(map(sum, groups)), sum(len(group) * max(group) for group in groups)
        ax.set_title(f"{title}: {1 - real / read:.0%} padding", fontsize=11)
        ax.set(xlabel="tokens", yticks=[])
    axes[0].invert_yaxis()
    axes[0].set_ylabel("texts, batch by batch")
    marks = [plt.Rectangle((0, 0), 1, 1, color=color) for color in (PALETTE[0], PALE[3])]
    axes[-1].legend(marks, ["a text", "padding"], frameon=False, loc="lower right")
    return fig


def left_pads(rows):
    """What each place of left-padded texts may read: `{title: (tokens, positions, allowed)}`, allowed `(T, T)`."""
    fig, axes = plt.subplots(1, len(rows), figsize=(4.4 * len(rows), 4))
    for ax, (title, (tokens, positions, allowed)) in zip(axes, rows.items()):
        ax.imshow(allowed, cmap="Blues", vmin=0, vmax=1.6)
        named = [f"{visible(token)}  {place}" for token, place in zip(tokens, positions)]
        ax.set_yticks(range(len(tokens)), named, fontsize=9)
        ax.set_xticks(range(len(tokens)), map(visible, tokens), rotation=90, fontsize=9)
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("is read")
    axes[0].set_ylabel("reads (with its position)")
    return fig


def common_words(a, b, table):
    """The table of longest common subsequences of two lists of words, and the words on the way through it."""
    fig, ax = plt.subplots(figsize=(0.8 * len(b) + 1.6, 0.42 * len(a) + 1))
    i, j, way = len(a), len(b), set()
    while i and j:
        if a[i - 1] == b[j - 1]:
            way.add((i, j))
            i, j = i - 1, j - 1
        elif table[i - 1][j] >= table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            color = PALETTE[1] if (i, j) in way else "white"
            ax.add_patch(plt.Rectangle((j, i), 0.96, 0.92, facecolor=color, edgecolor="lightgray"))
            ax.text(j + 0.48, i + 0.46, table[i][j], ha="center", va="center", fontsize=10)
    for j, word in enumerate(b, 1):
        ax.text(j + 0.48, 0.6, word, ha="center", fontsize=10)
    for i, word in enumerate(a, 1):
        ax.text(0.9, i + 0.46, word, ha="right", va="center", fontsize=10)
    ax.set(xlim=(-0.3, len(b) + 1), ylim=(len(a) + 1, 0))
    ax.axis("off")
    return fig
