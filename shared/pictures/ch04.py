"""Chapter 4's mechanisms: the architecture, a norm, the wide layer, a block, the main road, a token, the cache."""

import matplotlib.pyplot as plt
import torch
from matplotlib.ticker import MaxNLocator

from ..diagrams import diagram
from ..plotting import PALE, PALETTE


def architecture(cfg):
    """A GPT from token IDs to logits, with the sizes of its configuration."""
    V, C = cfg["vocab_size"], cfg["emb_dim"]
    boxes = {
        "ids": (0, 0, "token IDs\n(B, T)"),
        "tok_emb": (1, 0, f"tok_emb\n{V:,} × {C}"),
        "positions": (0, 1, "positions\n0 to T − 1"),
        "pos_emb": (1, 1, f"pos_emb\n{cfg['context_length']:,} × {C}"),
        "+": (2, 0),
        "dropout": (3, 0),
        "block": (4, 0, f"transformer\nblock\n× {cfg['n_layers']}"),
        "final_norm": (5, 0),
        "out_head": (6, 0, f"out_head\n{C} × {V:,}"),
        "logits": (7, 0, "logits\n(B, T, V)"),
    }
    arrows = ["ids -> tok_emb -> + -> dropout -> block -> final_norm -> out_head -> logits"]
    arrows += ["positions -> pos_emb -> +"]
    return diagram(boxes, arrows, colors={"block": PALE[1]})


def normalizing(row, mean, normal):
    """One token's numbers as bars: as they come, less their mean, and divided by their spread."""
    stages = {
        "as it comes": row,
        f"minus the mean, {mean:g}": [value - mean for value in row],
        "divided by the spread": normal,
    }
    fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), sharey=True)
    for ax, (title, values) in zip(axes, stages.items()):
        ax.bar(range(len(values)), values, color=PALETTE[0], width=0.6)
        ax.axhline(0, color="black", linewidth=0.8)
        for i, value in enumerate(values):
            look = {"va": "bottom" if value >= 0 else "top", "ha": "center", "fontsize": 10}
            ax.text(i, value + (0.2 if value >= 0 else -0.2), f"{value:.3g}", **look)
        ax.set_title(title, fontsize=11)
        ax.set(xticks=[], ylim=(min(*row, *normal, -3) - 1.5, max(row) + 1.5))
    axes[0].set_ylabel("value")
    return fig


def feed_forward(ff, x):
    """A vector `(C,)` on its way through a FeedForward: four strips, one square a number."""
    first, gelu, second = ff.layers
    with torch.no_grad():
        wide = first(x)
        bent = gelu(wide)
        stages = {"in": x, "first layer": wide, "GELU": bent, "second layer": second(bent)}
    reach = float(wide.abs().max())
    fig, axes = plt.subplots(4, 1, figsize=(8.2, 2.9))
    for ax, (name, values) in zip(axes, stages.items()):
        n = len(values)
        left = (len(wide) - n) / 2
        box = (left, left + n, 0, 1)
        ax.imshow(values[None], cmap="PuOr_r", vmin=-reach, vmax=reach, extent=box)
        ax.set(xlim=(0, len(wide)), ylim=(0, 1), aspect="auto", yticks=[], xticks=[])
        for edge in range(n + 1):
            ax.axvline(left + edge, color="white", linewidth=0.8)
        ax.set_ylabel(f"{name}\n{n} numbers", rotation=0, ha="right", va="center", fontsize=10)
        ax.spines[:].set_visible(False)
    axes[-1].set_xlabel("orange: above 0, purple: below 0; the darker, the farther", fontsize=10)
    return fig


def block(block, x):
    """A transformer block as a stack of steps, each with the shape that it gave for this input."""
    shapes, hooks = {"in": x.shape}, []
    parts = {"norm1": block.norm1, "attention": block.att, "norm2": block.norm2}
    parts |= {"feed-forward": block.ff, "wide": block.ff.layers[0]}
    for name, part in parts.items():
        hooks.append(part.register_forward_hook(lambda _, i, out, name=name: shapes.update({name: out.shape})))  # fmt: skip
    with torch.no_grad():
        shapes["out"] = block(x).shape
    for hook in hooks:
        hook.remove()
    text = {name: f"{name}\n{' × '.join(map(str, shape))}" for name, shape in shapes.items()}
    wide = f"{shapes['norm2'][-1]} to {shapes['wide'][-1]} to {shapes['feed-forward'][-1]}"
    boxes = {
        "in": (0, 0, text["in"]),
        "norm1": (1, 0, text["norm1"]),
        "attention": (2, 0, text["attention"]),
        "p1": (3, 0, "+"),
        "norm2": (4, 0, text["norm2"]),
        "feed-forward": (5, 0, f"feed-forward\n{wide}"),
        "p2": (6, 0, "+"),
        "out": (7, 0, text["out"]),
    }
    road = "in -> norm1 -> attention -> p1 -> norm2 -> feed-forward -> p2 -> out"
    colors = {"attention": PALE[1], "feed-forward": PALE[2]}
    return diagram(boxes, [road, "in ~> p1", "p1 ~> p2"], colors)


def main_road(stops, token=-1, shown=24):
    """One token's vector at each stop: its first numbers, its length, and the length of what each part reads.

    `stops`: name -> (the vectors on the road `(T, C)`, the same after the norm of the part that reads them next).
    """
    values = torch.stack([road[token, :shown] for road, _ in stops.values()])
    lengths = {"on the main road": 0, "after the next norm": 1}
    lengths = {k: [pair[i][token].norm().item() for pair in stops.values()] for k, i in lengths.items()}  # fmt: skip
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 0.3 * len(stops) + 0.9), sharey=True, width_ratios=[3, 2])  # fmt: skip
    reach = values.abs().quantile(0.98).item()
    left.imshow(values, cmap="PuOr_r", vmin=-reach, vmax=reach, aspect="auto")
    left.set_yticks(range(len(stops)), list(stops))
    left.set(xlabel=f"the first {shown} numbers of the token", xticks=[])
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    for (name, values), look in zip(lengths.items(), ["o-", "s--"]):
        right.plot(values, range(len(stops)), look, markersize=5, label=name)
    right.set(xlabel="length of the vector", xlim=(0, None))
    right.legend(frameon=False, fontsize=10, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig


def next_token(logits, decode, count=8):
    """From logits `(V,)` to a token: the highest scores, softmax's probabilities, and what is appended."""
    top = logits.topk(count)
    shares = torch.softmax(logits, dim=-1)[top.indices].tolist()
    words = [named(decode([i]), i) for i in top.indices.tolist()]
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 0.3 * count + 1.0), sharey=True)
    steps = {"logit": top.values.tolist(), "probability": shares}
    for ax, (title, values) in zip(axes, steps.items()):
        colors = [PALETTE[1], *[PALETTE[0]] * (count - 1)]
        ax.barh(range(count), values, color=colors)
        for i, value in enumerate(values):
            place = (max(value, 0), i)
            ax.annotate(f"{value:.3g}", place, (4, 0), textcoords="offset points", va="center", fontsize=9)  # fmt: skip
        ax.set_yticks(range(count), words, family="monospace")
        ax.set_xlabel(title)
        ax.margins(x=0.14)
        ax.tick_params(left=False)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    axes[0].invert_yaxis()
    axes[1].annotate(
        "appended", (shares[0], 0), (46, 0), textcoords="offset points", va="center", fontsize=10, color=PALETTE[3], annotation_clip=False
    )  # fmt: skip
    return fig


def named(text, number):
    """A token as it is read, in quotation marks; its ID, where it has characters that cannot be drawn."""
    shown = text.replace("\n", "\u21b5")
    return f"'{shown}'" if shown.isprintable() and "\ufffd" not in shown else f"token {number}"


def cache_steps(fed):
    """What goes through the model at each step: `{title: [rows at step 0, rows at step 1, ...]}`, side by side.

    Row t of a plot is a step; its orange squares are tokens computed now, its pale ones lie in the cache.
    """
    longest = max(sum(rows) if rows[-1] == 1 else rows[-1] for rows in fed.values())
    fig, axes = plt.subplots(1, len(fed), figsize=(4.6 * len(fed), 2.6), sharey=True)
    for ax, (title, rows) in zip(axes, fed.items()):
        length = 0
        for step, now in enumerate(rows):
            length = now if step == 0 else length + 1
            for t in range(length):
                color = PALETTE[1] if t >= length - now else PALE[0]
                ax.add_patch(plt.Rectangle((t, step), 0.9, 0.85, facecolor=color))
        ax.set(xlim=(0, longest), ylim=(len(rows), 0), xticks=[], yticks=[])
        ax.set_title(f"{title}: {sum(rows)} rows", fontsize=11)
        ax.set_xlabel("tokens of the text")
        ax.spines[:].set_visible(False)
    axes[0].set_ylabel("steps, downward")
    return fig
