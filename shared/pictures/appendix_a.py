"""Appendix A's pictures: tensors as boxes of numbers, a slope, a network's values and gradients, decisions."""

import matplotlib.pyplot as plt
import torch
from matplotlib.colors import ListedColormap

from .. import diagrams
from ..plotting import PALE, PALETTE

GRAY = "#555555"


def canvas(width, height, inch=0.42):
    """A figure without axes, `width` by `height` boxes of `inch` inches; y counts downward."""
    fig, ax = plt.subplots(figsize=(width * inch, height * inch), layout="none")
    ax.set_position([0, 0, 1, 1])
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return fig, ax


def box(ax, x, y, number, color="white", faint=False, note="", front=0):
    """One box with its number; a faint one is a copy that is not there."""
    look = {"edgecolor": "#AAAAAA" if faint else GRAY, "linestyle": ":" if faint else "-"}
    color = "white" if faint else color
    ax.add_patch(plt.Rectangle((x, y), 1, 1, facecolor=color, zorder=2 + front, **look))
    text = f"{number:g}" if isinstance(number, float) else str(number)
    middle = {"ha": "center", "va": "center", "color": "#888888" if faint else "black"}
    ax.text(x + 0.5, y + 0.5, text, fontsize=11, zorder=2 + front, **middle)
    ax.text(x + 0.93, y + 0.95, note, fontsize=6.5, ha="right", va="bottom", color=GRAY)


def grid(ax, x, y, matrix, color="white", colors=None, faint=None, notes=None, front=0):
    """A matrix `(n, m)` as boxes with their upper left corner at (x, y); `colors[(i, j)]` for single ones."""
    for i, row in enumerate(matrix.tolist()):
        for j, number in enumerate(row):
            shade = (colors or {}).get((i, j), color)
            note = "" if notes is None else notes[i][j]
            copy = faint is not None and faint(i, j)
            box(ax, x + j, y + i, number, shade, copy, note, front)


def label(ax, x, y, text, **look):
    ax.text(x, y, text, **{"ha": "center", "va": "center", "fontsize": 10} | look)


def ranks(tensors):
    """Tensors of rank 0 to 3 as boxes: `{name: tensor}`; the matrices of a rank 3 lie one behind the other."""
    shown = [tensor.reshape((-1, *tensor.shape[-2:])) if tensor.ndim == 3 else
             tensor.reshape(1, 1, -1) if tensor.ndim < 2 else tensor[None]
             for tensor in tensors.values()]  # fmt: skip
    widths = [max(3.2, stack.shape[2] + 0.8 * (len(stack) - 1)) for stack in shown]
    fig, ax = canvas(sum(widths) + 1.6 * len(shown), 5.6)
    left = 0.8
    for (name, tensor), stack, width in zip(tensors.items(), shown, widths):
        inner = stack.shape[2] + 0.8 * (len(stack) - 1)
        for depth in reversed(range(len(stack))):
            corner = left + (width - inner) / 2 + 0.8 * depth, 2 - 0.8 * depth
            grid(ax, *corner, stack[depth], color=PALE[depth], front=len(stack) - depth)
        label(ax, left + width / 2, 0.45, name, weight="bold")
        about = f"rank {tensor.ndim}\nshape {tuple(tensor.shape)}"
        label(ax, left + width / 2, 4.9, about, fontsize=9)
        left += width + 1.6
    return fig


def memory(tensor):
    """A matrix and its transpose, read from one line of memory: each box has its place there in small print."""
    flat = tensor.reshape(-1)
    fig, ax = canvas(15, 7.4)
    label(ax, 7.5, 0.4, "memory: one line of numbers")
    for place, number in enumerate(flat.tolist()):
        box(ax, 7.5 - len(flat) / 2 + place, 0.9, number, PALE[1], note=place)
    for x, name, seen in [(2.5, "tensor2d", tensor), (10, "tensor2d.T", tensor.T)]:
        (n, m), (down, right) = seen.shape, seen.stride()
        places = [[i * down + j * right for j in range(m)] for i in range(n)]
        grid(ax, x, 3.9, seen, PALE[0], notes=places)
        label(ax, x + m / 2, 2.6, f"{name}, strides {seen.stride()}", weight="bold")
        label(ax, x + m / 2, 3.3, f"one right: +{right}, one down: +{down}", fontsize=9)
    return fig


def broadcast(a, b):
    """`a + b` as boxes: what is stretched to the common shape is drawn faint."""
    total = a + b
    n, m = total.shape
    fig, ax = canvas(3 * m + 5, n + 2.4)
    left = 0.8
    for tensor, sign in [(a, "+"), (b, "="), (total, "")]:
        own = (1,) * (2 - tensor.ndim) + tuple(tensor.shape)
        color = PALE[2] if tensor is total else PALE[0]
        grid(ax, left, 1.3, tensor.expand(n, m), color, faint=lambda i, j, own=own: i >= own[0] or j >= own[1])  # fmt: skip
        label(ax, left + m / 2, 0.7, str(tuple(tensor.shape)), weight="bold")
        label(ax, left + m + 0.85, 1.3 + n / 2, sign, fontsize=14)
        left += m + 1.7
    return fig


def product(a, b, i, j):
    """`a @ b` as boxes; row i, column j and the entry that they make are colored, and the sum is written below."""
    total = a @ b
    (n, k), m = a.shape, b.shape[1]
    fig, ax = canvas(k + 2 * m + 5, max(n, k) + 3.2)
    left = 0.8
    row, column = {(i, c): PALE[1] for c in range(k)}, {(r, j): PALE[1] for r in range(k)}
    for matrix, colors, sign in [(a, row, "@"), (b, column, "="), (total, {(i, j): PALE[2]}, "")]:
        height, width = matrix.shape
        grid(ax, left, 1.3 + (max(n, k) - height) / 2, matrix, colors=colors)
        label(ax, left + width / 2, 0.6, str(tuple(matrix.shape)), weight="bold")
        label(ax, left + width + 0.85, 1.3 + max(n, k) / 2, sign, fontsize=14)
        left += width + 1.7
    terms = " + ".join(f"{x}·{y}" for x, y in zip(a[i].tolist(), b[:, j].tolist()))
    label(ax, (left - 1.7 + 0.8) / 2, max(n, k) + 2.3, f"{terms} = {total[i, j].item()}")
    return fig


def descent(f, guesses, xlabel, ylabel):
    """A function of one number, and the guesses that went down on it."""
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    low, high = min(guesses) - 0.15, max(guesses) + 0.25
    x = torch.linspace(low, high, 200)
    ax.plot(x, f(x), color=PALETTE[0])
    ax.plot(guesses, [float(f(torch.tensor(g))) for g in guesses], "o-", color=PALETTE[3], lw=1)
    for k in (0, 1, 2, len(guesses) - 1):
        place = guesses[k], float(f(torch.tensor(guesses[k])))
        ax.annotate(f"step {k}", place, (4, 8), textcoords="offset points", fontsize=9)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return fig


def slope(f, at, gradient, reach, xlabel, ylabel):
    """A function of one number, its tangent at a place, and an arrow against the gradient."""
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    x = torch.linspace(at - reach, at + reach, 100)
    here = float(f(torch.tensor(at)))
    ax.plot(x, [float(f(one)) for one in x], label=ylabel)
    near = torch.tensor([at - 0.7 * reach, at + 0.7 * reach])
    tangent = f"tangent: {gradient:.4f} for each unit"
    ax.plot(near, here + gradient * (near - at), "--", color=PALETTE[3], label=tangent)
    ax.plot(at, here, "o", color="black", zorder=3)
    downhill = at - 0.5 * reach * (gradient > 0) + 0.5 * reach * (gradient < 0)
    look = {"arrowstyle": "-|>", "color": PALETTE[2], "linewidth": 3}
    low = ax.get_ylim()[0]
    ax.annotate("", (downhill, low), (at, low), arrowprops=look)
    look = {"ha": "center", "va": "bottom", "color": PALETTE[2], "textcoords": "offset points"}
    ax.annotate("downhill", ((at + downhill) / 2, low), (0, 7), **look)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False)
    return fig


def neuron(x1, w1, b, y, z, a, loss, backward=False):
    """The computation graph of one neuron: its values from left to right, or backward its gradients."""
    values = {
        "x1": (0, 0, x1),
        "w1": (0, 1, w1),
        "b": (1, 2, b),
        "y": (3, 2, y),
        "loss": (5, 1, loss),
    }
    boxes = {name: (c, r, f"{name} = {v.item():.3g}") for name, (c, r, v) in values.items()}
    boxes |= {"times": (1, 0.5, "×"), "plus": (2, 1, "+"), "sigmoid": (3, 1)}
    boxes["entropy"] = (4, 1, "cross-\nentropy")
    colors = {name: PALE[1] for name in ("w1", "b")}
    if not backward:
        arrows = ["x1 -> times", "w1 -> times -> plus", "b -> plus", "y -> entropy -> loss"]
        arrows += [
            f"plus -> sigmoid: z = {z.item():.2f}",
            f"sigmoid -> entropy: a = {a.item():.4f}",
        ]
        return diagrams.diagram(boxes, arrows, colors)
    of = [w1, b, z, a]
    slopes = torch.autograd.grad(loss, of, retain_graph=True)
    for_w1, for_b, for_z, for_a = (f"{slope.item():.4f}" for slope in slopes)
    boxes["w1"], boxes["b"] = (0, 1, f"for w1: {for_w1}"), (1, 2, f"for b: {for_b}")
    arrows = ["loss -> entropy", f"entropy -> sigmoid: for a: {for_a}"]
    arrows += [f"sigmoid -> plus: for z: {for_z}", "plus -> times -> w1", "plus -> b"]
    return diagrams.diagram(
        {name: boxes[name] for name in boxes if name not in ("x1", "y")}, arrows, colors
    )


def two_layers(x, t, W1, h, w2, o, loss):
    """A network of one hidden layer: values in the circles, and below each the loss's gradient for it.

    Lines are the weights, orange where positive and blue where negative.
    """
    to_h, to_o = torch.autograd.grad(loss, [h, o], retain_graph=True)
    fig, ax = plt.subplots(figsize=(7.6, 3.7), layout="none")
    ax.set_position([0, 0, 1, 1])
    ax.set(xlim=(-0.7, 4.2), ylim=(-0.45, 2.75))
    ax.axis("off")
    n, m = len(x), len(h)
    inputs = [(0, 2 - 2 * (i + 0.5) / n) for i in range(n)]
    hidden = [(1.4, 2 - 2 * (i + 0.5) / m) for i in range(m)]
    out, end = (2.7, 1.0), (3.7, 1.0)
    links = [(inputs[i], hidden[j], W1[j, i]) for i in range(n) for j in range(m)]
    links += [(hidden[j], out, w2[j]) for j in range(m)] + [(out, end, torch.tensor(0.0))]
    for start, stop, weight in links:
        color = PALETTE[1] if weight > 0 else PALETTE[0] if weight < 0 else "black"
        ax.plot(*zip(start, stop), color=color, linewidth=0.8 + 2 * abs(weight.item()), zorder=1)
    spots = [(p, v, None) for p, v in zip(inputs, x)]
    spots += [(p, v, g) for p, v, g in zip(hidden, h, to_h)]
    spots += [(out, o, to_o), (end, loss, torch.tensor(1.0))]
    for (left, low), value, gradient in spots:
        ax.plot(left, low, "o", markersize=40, color=PALE[1], markeredgecolor=GRAY, zorder=2)
        label(ax, left, low, f"{value.item():.2f}", zorder=3)
        if gradient is not None:
            look = {"color": PALETTE[3], "fontsize": 9, "zorder": 3}
            look |= {"bbox": {"color": "white", "pad": 1}}
            label(ax, left, low - 0.33, f"grad {gradient.item():.2f}", **look)
    for place, name in [(0, "x"), (1.4, "h"), (2.7, "o"), (3.7, "L")]:
        label(ax, place, 2.25, name, weight="bold")
    label(ax, 3.7, 0.35, f"t = {t.item():g}", fontsize=9)
    for height, ends, words, color in [
        (2.52, (0.3, 3.4), "forward: values", "black"),
        (-0.28, (3.4, 0.3), "backward: gradients", PALETTE[3]),
    ]:
        arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 1.5}
        ax.annotate("", (ends[1], height), (ends[0], height), arrowprops=arrow)
        white = {"color": "white", "pad": 2}
        label(ax, 1.85, height, words, color=color, fontsize=9, bbox=white)
    return fig


def epochs(passes, points):
    """Which points are in which batch: `passes` is a list of epochs, each a list of batches of point numbers."""
    most = max(len(batches) for batches in passes)
    longest = max(len(batch) for batches in passes for batch in batches)
    width = 3 + most * (longest + 0.8)
    fig, ax = canvas(width + 3.4, 1.5 * len(passes) + 1)
    label(ax, width + 1.5, 0.5, "left out")
    for k in range(most):
        label(ax, 3 + k * (longest + 0.8) + longest / 2, 0.5, f"batch {k + 1}")
    for row, batches in enumerate(passes):
        y = 1 + 1.5 * row
        label(ax, 1.4, y + 0.5, f"epoch {row + 1}")
        for k, batch in enumerate(batches):
            for place, point in enumerate(batch):
                box(ax, 3 + k * (longest + 0.8) + place, y, point, PALE[k])
        seen = {point for batch in batches for point in batch}
        for place, point in enumerate(sorted(set(range(points)) - seen)):
            box(ax, width + 1 + place, y, point, faint=True)
    return fig


def decisions(models, X, y):
    """One plot a model: its answer at every place of the plane, and the points that it should tell apart."""
    line = torch.linspace(-2.6, 2.6, 160)
    places = torch.cartesian_prod(line, line)  # every pair of coordinates, as one large batch
    fig, axes = plt.subplots(1, len(models), figsize=(2.9 * len(models), 3.6))
    for ax, (title, model) in zip(axes, models.items()):
        with torch.no_grad():
            answers = model(places).argmax(dim=1).view(160, 160).T
        look = {"cmap": ListedColormap(PALE[:2]), "vmin": 0, "vmax": 1}
        # .T: imshow draws the first dimension downwards, cartesian_prod had it across
        ax.imshow(answers, extent=(-2.6, 2.6, -2.6, 2.6), origin="lower", **look)
        for label_, marker in enumerate("os"):
            of_class = X[y == label_]
            look = {"marker": marker, "color": PALETTE[label_], "label": f"class {label_}"}
            ax.scatter(of_class[:, 0], of_class[:, 1], s=12, linewidths=0, **look)
        ax.set(title=title, xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def bits(kinds):
    """How the bits of some kinds of number are spent: sign, exponent (its reach), fraction (its steps)."""
    fig, ax = canvas(39, 2 * len(kinds) + 1.6, inch=0.22)
    for row, kind in enumerate(kinds):
        y = 1.6 + 2 * row
        fraction = round(-torch.log2(torch.tensor(torch.finfo(kind).eps)).item())
        exponent = torch.finfo(kind).bits - 1 - fraction
        label(ax, 3.2, y + 0.5, str(kind).removeprefix("torch."), weight="bold")
        left = 6.6
        for count, color in [(1, "white"), (exponent, PALE[1]), (fraction, PALE[0])]:
            for _ in range(count):
                patch = plt.Rectangle((left, y), 1, 1, facecolor=color, edgecolor=GRAY)
                ax.add_patch(patch)
                left += 1
        if not row:
            label(ax, 7.1, 0.8, "sign", fontsize=9)
            label(ax, 7.6 + exponent / 2 + 0.4, 0.8, f"exponent: {exponent}", fontsize=9)
            label(ax, 7.6 + exponent + fraction / 2, 0.8, f"fraction: {fraction}", fontsize=9)
        else:
            label(ax, left + 3.6, y + 0.5, f"{exponent} and {fraction}", fontsize=9)
    return fig
