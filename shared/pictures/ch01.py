"""Chapter 1's pictures: one prediction, the turning of weights, who looks at whom, and what is a part of what."""

import matplotlib.pyplot as plt

from shared.diagrams import diagram
from shared.plotting import PALE, PALETTE, heat, visible

ARROW = {"arrowstyle": "-|>", "color": "#333333", "linewidth": 1.4}


def next_token(tokenizer, ids, scores, probabilities, drawn, count=6):
    """One prediction, left to right: tokens, IDs, the model, scores, probabilities, the token drawn, appended.

    Shows the `count` likeliest tokens; `drawn`, an ID, takes the last place if it is none of them.
    """
    best = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:count]
    best = best if drawn in best else [*best[:-1], drawn]
    tokens, options = ([tokenizer.decode([i]) for i in row] for row in (ids, best))
    scores, probabilities = ([row[i] for i in best] for row in (scores, probabilities))
    drawn = tokenizer.decode([drawn])
    fig, ax = plt.subplots(figsize=(10.6, 3.9))
    ax.set(xlim=(0, 106), ylim=(-2, 37))
    ax.axis("off")
    middle, look = 17, {"ha": "center", "va": "center", "fontsize": 10.5}
    rows = [middle + 3.6 * (len(tokens) / 2 - 0.5 - i) for i in range(len(tokens))]
    for y, token, number in zip(rows, tokens, ids):
        ax.text(8, y, visible(token), bbox={"boxstyle": "round", "fc": PALE[0]}, **look)
        ax.text(20, y, number, **look)
    for x, title in [(8, "tokens"), (20, "IDs"), (35, "model"), (57, "scores"), (79, "softmax")]:
        ax.text(x, 34, title, weight="bold", **look)
    ax.text(35, middle, "millions of\nparameters", bbox={"boxstyle": "square,pad=1.3", "fc": PALE[1]}, **look)  # fmt: skip
    ax.annotate("", (28, middle), (23.5, middle), arrowprops=ARROW)
    ax.annotate("", (48, middle), (42.5, middle), arrowprops=ARROW)
    ax.annotate("", (72, middle), (67.5, middle), arrowprops=ARROW)
    top, tall = 30, 26 / len(options)
    for i, (option, score, share) in enumerate(zip(options, scores, probabilities)):
        y, chosen = top - tall * i, option == drawn
        color = PALETTE[1] if chosen else PALETTE[0]
        ax.text(57, y, visible(option), **look | {"ha": "right", "family": "monospace"})
        ax.text(58, y, f"{score:5.2f}", **look | {"ha": "left"})
        ax.barh(y, 14 * share / max(probabilities), 0.62 * tall, left=73, color=color)
        ax.text(73.6 + 14 * share / max(probabilities), y, f"{share:.3f}", **look | {"ha": "left"})
    ax.text(57, 1.2, "and so on for every token it knows", **look | {"fontsize": 9})
    at = top - tall * options.index(drawn)
    ax.text(101, at, visible(drawn), bbox={"boxstyle": "round", "fc": PALETTE[1]}, **look)
    ax.text(101, at + 4, "draw", weight="bold", **look)
    back = ARROW | {"connectionstyle": "angle,angleA=-90,angleB=0,rad=6"}
    ax.annotate("", (8, -0.6), (101, at - 2), arrowprops=back | {"arrowstyle": "-"})
    ax.annotate("", (8, rows[-1] - 1.8), (8, -0.8), arrowprops=ARROW)
    ax.text(35, 0.6, "append", weight="bold", **look)
    return fig


def turned(options, before, after, came):
    """Probabilities before and after one step of learning, with an arrow up for the option that came, down for the others."""
    fig, ax = plt.subplots(figsize=(6.4, 3.2))
    for i, (low, high) in enumerate(zip(before, after)):
        color = PALETTE[1] if i == came else PALETTE[0]
        ax.bar([i - 0.2, i + 0.2], [low, high], 0.36, color=["#bbbbbb", color])
        ax.text(i + 0.2, high, f"{high:.3f}", ha="center", va="bottom", fontsize=10)
        ax.text(i - 0.2, low, f"{low:.3f}", ha="center", va="bottom", fontsize=10)
    names = [f"{name}\n{'came: up' if i == came else 'down'}" for i, name in enumerate(options)]
    ax.set_xticks(range(len(options)), names)
    ax.set(ylabel="probability", ylim=(0, 1.15 * max([*before, *after])))
    return fig


def nested(fields):
    """Fields, each inside the one before: `{name: example from the chapter}`, the widest first."""
    fig, ax = plt.subplots(figsize=(8.4, 0.85 * len(fields) + 0.3))
    count = len(fields)
    for i, (name, example) in enumerate(fields.items()):
        left, low = 0.35 * i, 0.22 * i
        size = 10 - 0.7 * i, count - 0.22 * i - 0.78 * i
        ax.add_patch(plt.Rectangle((left, low), *size, fc=PALE[i], ec="#555555"))
        y = low + size[1] - 0.42
        ax.text(left + 0.25, y, name, weight="bold", va="center", fontsize=11)
        ax.text(left + size[0] - 0.25, y, example, ha="right", va="center", fontsize=10)
    ax.set(xlim=(-0.1, 10.1), ylim=(-0.1, count + 0.1))
    ax.axis("off")
    return fig


def who_looks_at_whom(masks):
    """Ones and zeros as squares: `{title: (mask, tokens of its rows, tokens of its columns)}`; rows look at columns."""
    widths = [len(columns) for _, _, columns in masks.values()]
    fig, axes = plt.subplots(1, len(masks), figsize=(10, 3.4), width_ratios=widths)
    for ax, (title, (mask, rows, columns)) in zip(axes, masks.items()):
        heat(mask, rows, columns, digits=0, ax=ax, limits=(0, 1))
        ax.set_title(title, fontsize=11)
    return fig


def retrieval():
    """Retrieval-augmented generation as boxes and arrows."""
    boxes = {"question": (0, 0), "search": (1, 0), "prompt": (2, 0, "passage +\nquestion")}
    boxes |= {"model": (3, 0), "answer": (4, 0), "your texts": (1, 1)}
    arrows = ["question -> search -> prompt -> model -> answer", "your texts -> search"]
    return diagram(boxes, [*arrows, "question ~> prompt"])


def stages():
    """Pretraining, and two kinds of fine-tuning."""
    boxes = {"raw text": (0, 0.5), "base": (1, 0.5, "foundation\nmodel")}
    boxes |= {"classifier": (2, 0), "assistant": (2, 1)}
    arrows = ["raw text -> base: pretraining", "base -> classifier: classification fine-tuning"]
    return diagram(boxes, [*arrows, "base -> assistant: instruction fine-tuning"])


def translation(source, written, following):
    """The first transformer: the encoder reads `source`, the decoder has `written` and writes `following`."""
    boxes = {source: (0, 0), "encoder": (1, 0, "encoder:\nreads it all")}
    boxes |= {"vectors": (2, 0, "a vector for\neach token"), written: (2, 1)}
    boxes |= {"decoder": (3, 0, "decoder:\nwrites a token"), following: (4, 0)}
    arrows = [f"{source} -> encoder -> vectors", "vectors -> decoder: cross-attention"]
    return diagram(boxes, [*arrows, f"{written} -> decoder -> {following}"])


def plan():
    """The four stages of the course, each in its color."""
    boxes = {"2": (0, 0, "2 text data"), "3": (1, 0, "3 attention"), "4": (2, 0, "4 GPT model")}
    boxes |= {"5": (3, 0, "5 pretraining"), "6": (4, 1, "6 classifier"), "7": (4, 0, "7 assistant")}
    boxes |= {"8": (5, 0, "8 preferences")}
    colors = dict(zip(boxes, [PALE[i] for i in (0, 0, 0, 1, 2, 2, 3)]))
    return diagram(boxes, ["2 -> 3 -> 4 -> 5 -> 7 -> 8", "5 -> 6"], colors)
