"""Chapter 3's pictures: queries, keys and values with their numbers, masks, heads, and the maps of a trained model."""

import matplotlib.pyplot as plt
import torch
from matplotlib.patches import Patch

from shared.plotting import PALE, PALETTE, heat

WIDE, TALL = 0.66, 0.46  # a box that holds one number


def _boxes(ax, left, top, table, color, digits=2):
    """A table of numbers as boxes, its upper left corner at (left, top)."""
    for i, row in enumerate(table):
        for j, number in enumerate(row):
            spot = left + j * WIDE, top - (i + 1) * TALL
            ax.add_patch(plt.Rectangle(spot, WIDE, TALL, facecolor=color, edgecolor="#555555"))
            text = f"{float(number):.{digits}f}"
            middle = spot[0] + WIDE / 2, spot[1] + TALL / 2
            ax.text(*middle, text, ha="center", va="center", fontsize=10)


def _sheet(right, bottom, top, scale=0.8):
    """An empty figure whose units are boxes' units."""
    fig, ax = plt.subplots(figsize=(scale * right, scale * (top - bottom)), layout="none")
    ax.set_position([0, 0, 1, 1])
    ax.set(xlim=(-0.1, right), ylim=(bottom, top))
    ax.axis("off")
    return fig, ax


def projections(x, matrices):
    """One input vector times each matrix: `x` is `(d_in,)`, `matrices` maps a name to `(d_in, d_out)`."""
    d_in, d_out = next(iter(matrices.values())).shape
    each = (d_in + 2 * d_out) * WIDE + 1.6
    fig, ax = _sheet(
        each * len(matrices) - 0.2, -d_in * TALL / 2 - 0.25, d_in * TALL / 2 + 0.65, 0.72
    )
    look = {"ha": "center", "va": "center", "fontsize": 13}
    for i, (name, matrix) in enumerate(matrices.items()):
        left = i * each
        _boxes(ax, left, TALL / 2, [x], "white")
        left += d_in * WIDE + 0.3
        ax.text(left, 0, "×", **look)
        _boxes(ax, left + 0.3, d_in * TALL / 2, matrix, PALE[5])
        ax.text(
            left + 0.3 + d_out * WIDE / 2,
            d_in * TALL / 2 + 0.25,
            f"matrix of the {name}",
            **look | {"fontsize": 10},
        )
        left += 0.6 + d_out * WIDE
        ax.text(left, 0, "=", **look)
        _boxes(ax, left + 0.3, TALL / 2, [x @ matrix], PALE[i])
        ax.text(
            left + 0.3 + d_out * WIDE / 2,
            TALL / 2 + 0.25,
            name,
            **look | {"fontsize": 11, "weight": "bold"},
        )
    return fig


def one_query(word, words, query, keys, scores, weights, values, context):
    """How one word gets its context vector: a row a word, with its key, score, weight and value."""
    d_k, d_v, N = keys.shape[1], values.shape[1], len(words)
    key, bar = 1.0, 3.0  # where the keys begin, and how long a weight of 1 would be
    score = key + d_k * WIDE + 0.4
    weight = score + WIDE + 0.5
    value = weight + bar * max(map(float, weights)) + 1.15
    fig, ax = _sheet(value + d_v * WIDE + 0.2, -(N + 2.2) * TALL, 3.0 * TALL)
    look = {"ha": "center", "va": "center"}
    _boxes(ax, key, 2.4 * TALL, [query], PALE[0])
    ax.text(
        key - 0.15, 1.9 * TALL, f"query of {word}", va="center", ha="right", fontsize=10, wrap=True
    )
    titles = {
        "key": key + d_k * WIDE / 2,
        "score": score + WIDE / 2,
        "value": value + d_v * WIDE / 2,
    }
    titles["weight"] = weight + bar * max(map(float, weights)) / 2
    for title, x in titles.items():
        ax.text(x, 0.6 * TALL, title, weight="bold", **look)
    for j, name in enumerate(words):
        y = -(j + 0.5) * TALL
        ax.text(key - 0.15, y, name, va="center", ha="right", fontsize=11)
        length = bar * float(weights[j])
        ax.add_patch(plt.Rectangle((weight, y - 0.16), length, 0.32, color=PALETTE[0]))
        ax.text(weight + length + 0.08, y, f"{float(weights[j]):.2f}", va="center", fontsize=10)
        ax.text(value - 0.25, y, "×", **look)
    _boxes(ax, key, 0, keys, PALE[1])
    _boxes(ax, score, 0, [[s] for s in scores], "white")
    _boxes(ax, value, 0, values, PALE[2])
    low = -(N + 0.9) * TALL
    _boxes(ax, value, low, [context], PALE[4])
    ax.text(
        value - 0.25,
        low - TALL / 2,
        f"sum: context vector of {word}",
        va="center",
        ha="right",
        fontsize=11,
    )
    return fig


def masking(scores, hidden, weights, words):
    """The causal mask row by row: all scores `(T, T)`, the scores with -inf where hidden, and the weights."""
    T = len(words)
    fig, axes = plt.subplots(1, 3, figsize=(11.4, 3.7))
    steps = {
        "1. scores": (scores, False),
        "2. future set to −∞": (scores, True),
        "3. weights": (weights, True),
    }
    for ax, (title, (values, masked)) in zip(axes, steps.items()):
        heat(values.tolist(), words, words, ax=ax)
        ax.set_title(title, fontsize=11)
        for t, j in hidden.nonzero().tolist() if masked else ():
            ax.add_patch(plt.Rectangle((j - 0.5, t - 0.5), 1, 1, color="#DDDDDD", zorder=4))
            shown = "−∞" if title.startswith("2") else "0"
            ax.text(j, t, shown, ha="center", va="center", fontsize=10, zorder=5)
        ax.set(xlim=(-0.5, T - 0.5), ylim=(T - 0.5, -0.5))
        if ax is not axes[0]:
            ax.set_yticks([])
    return fig


def who_sees_whom(maps, labels):
    """Which outputs (rows) move when a token (column) is replaced: `{title: influence (T, T)}`."""
    kinds = {
        "sees": PALETTE[0],
        "does not see": "#EEEEEE",
        "sees the future": PALETTE[3],
        "blind to the past": "black",
    }
    T = len(labels)
    fig, axes = plt.subplots(1, len(maps), figsize=(1.4 + 2.6 * len(maps), 4.1), squeeze=False)
    found = set()
    for ax, (title, moved) in zip(axes[0], maps.items()):
        for t in range(T):
            for j in range(T):
                later, seen = j > t, bool(moved[t][j] != 0)
                kind = ["blind to the past", "sees", "does not see", "sees the future"][
                    2 * later + seen
                ]
                found.add(kind)
                ax.add_patch(plt.Rectangle((j, t), 1, 1, facecolor=kinds[kind], edgecolor="white"))
        places = [t + 0.5 for t in range(T)]
        ax.set_xticks(places, labels, rotation=40, ha="right")
        ax.set_yticks(places, labels if ax is axes[0][0] else [""] * T)
        ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal")
        ax.set_title(title, fontsize=11)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    key = [Patch(facecolor=color, label=kind) for kind, color in kinds.items() if kind in found]
    fig.legend(handles=key, loc="outside lower center", ncols=len(key), frameon=False, fontsize=10)
    return fig


def head_split(x, num_heads):
    """A table `(T, H * D)` of one text, and what each head gets of it, `(T, D)`."""
    T, C = x.shape
    D = C // num_heads
    left, rows = C * WIDE + 1.2, -T * TALL
    right = left + num_heads * (D * WIDE + 0.5) - 0.3
    fig, ax = _sheet(right, rows - 0.15, 0.7)
    look = {"ha": "center", "va": "center", "fontsize": 11}
    ax.text(C * WIDE / 2, 0.3, f"{T} tokens, {C} numbers each", **look)
    ax.text(left - 0.6, rows / 2, "→", **look | {"fontsize": 18})
    for h in range(num_heads):
        part = x[:, h * D : (h + 1) * D]
        _boxes(ax, h * D * WIDE, 0, part, PALE[h], digits=0)
        start = left + h * (D * WIDE + 0.5)
        _boxes(ax, start, 0, part, PALE[h], digits=0)
        ax.text(start + D * WIDE / 2, 0.3, f"head {h}", **look)
    return fig


def query_and_keys(query, keys, labels, named):
    """A query `(2,)` as an arrow and keys `(N, 2)` as points; those in `named` are dropped onto the arrow's line.

    Dotted lines join points of equal score: where a key's dashed line meets the arrow's says how large its score is.
    """
    along = query / query.norm()
    across = along.flip(0) * along.new_tensor([1, -1])
    chosen = sorted((label for label in named), key=lambda name: keys[labels.index(name)] @ along)
    ends = {name: keys[labels.index(name)] for name in chosen}
    feet = {name: along * (key @ along) for name, key in ends.items()}
    spots = torch.stack([*keys, query, query * 0, *feet.values()])
    low, high = spots.amin(dim=0), spots.amax(dim=0)
    low, high = low - 0.12 * (high - low), high + 0.12 * (high - low)
    far = 3 * float((high - low).max())
    wide, tall = (high - low).tolist()
    fig, ax = plt.subplots(figsize=(7.4, 0.9 + 6.6 * tall / wide))
    for step in range(-20, 21):
        middle = along * step * far / 24
        line = [(middle + sign * across * far).tolist() for sign in (-1, 1)]
        ax.plot(*zip(*line), ":", color="#999999", linewidth=1, zorder=0)
    line = [(along * sign * far).tolist() for sign in (-1, 1)]
    ax.plot(*zip(*line), "-", color=PALE[0], linewidth=2, zorder=0)
    arrow = {"arrowstyle": "-|>", "color": PALETTE[0], "linewidth": 3, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", query.tolist(), (0, 0), arrowprops=arrow)
    look = {"textcoords": "offset points", "weight": "bold", "va": "center"}
    look["bbox"] = {"color": "white", "pad": 0.5}
    half = (query / 2).tolist()
    ax.annotate("query", half, (-8, -12), ha="right", **look | {"color": PALETTE[0]})
    others = torch.stack([key for key, label in zip(keys, labels) if label not in named])
    ax.plot(*others.T.tolist(), "o", color="black", label=f"the {len(others)} other words")
    for i, (name, key) in enumerate(ends.items()):
        line = key.tolist(), feet[name].tolist()
        ax.plot(*zip(*line), "--", color=PALETTE[3], linewidth=1.5)
        ax.plot(*key.tolist(), "D", color=PALETTE[3], markersize=8)
        place = {"ha": "right", "xytext": (-10, 2)} if i == 0 else {"ha": "left", "xytext": (10, 2)}
        ax.annotate(name, key.tolist(), **place, **look | {"color": PALETTE[3]})
    ax.legend(frameon=True, loc="best", fontsize=10)
    (left, bottom), (right, top) = low.tolist(), high.tolist()
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.set(xlabel="first number", ylabel="second number")
    return fig


@torch.no_grad()
def attention_maps(model, ids):
    """The weights of every head of a GPT that reads these token IDs: `(L, H, T, T)`, L the number of blocks.

    From what enters each attention layer, since the fused form keeps no weights.
    """
    kept = []

    def keep(layer, given):
        x = given[0][0]  # (T, C), the only text
        q, k = (
            W(x).unflatten(-1, (layer.num_heads, -1)).transpose(0, 1)
            for W in (layer.W_query, layer.W_key)
        )
        hidden = torch.ones(len(x), len(x), dtype=torch.bool).triu(1)
        kept.append((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf).softmax(dim=-1))

    hooks = [block.att.register_forward_pre_hook(keep) for block in model.trf_blocks]
    try:
        model(torch.tensor([ids]))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(kept)
