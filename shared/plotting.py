"""Pictures for the notebooks: one look, live values, and a sentence that says what is to be seen.

Helpers draw on a new figure and return it; `show(fig, text)` puts it into the notebook.
"""

import base64
import io
import re

import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.ticker import LogLocator
from matplotlib.transforms import Bbox
from PIL import Image

# Okabe and Ito (2008): colors that color-blind readers can tell apart.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000"]
# The same, pale: backgrounds for black text.
PALE = ["#BFDDF0", "#FBE3B3", "#B8E6D6", "#F6CFB5", "#F0D9E6", "#D9EEFA"]

plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=PALETTE),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.constrained_layout.use": True,
        "figure.facecolor": "white",  # opaque, so that labels stay readable on a dark theme
        "font.size": 11,
        "lines.linewidth": 2,
    }
)


def show(fig, text):
    """Display `fig` with `text`, a sentence that holds the picture's numbers, and close it.

    The sentence is the output's text form, which nbval compares (it never compares pixels), and the
    image's alt text, which is read aloud: so a dict or a list in it loses its marks, and
    "{'a': [1, 2], 'b': 3}" becomes "a: 1, 2; b: 3". The picture is drawn at twice the size it is
    shown at, for sharp lines.
    """

    def aloud(held):
        return re.sub("['\"{}[\\]]", "", re.sub(r", (?=['\"]|\d+:)", "; ", held[0]))

    text = re.sub(r"\{[^{}]*\}|\[[^][]*\]", aloud, text)
    buffer, small = io.BytesIO(), io.BytesIO()
    fig.savefig(buffer, format="png", dpi=160)
    plt.close(fig)
    Image.open(buffer).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    png = base64.b64encode(small.getvalue()).decode()
    display(
        {"image/png": png, "text/plain": text},
        metadata={"image/png": {"alt": text, "width": round(fig.get_figwidth() * 80)}},
        raw=True,
    )


def curves(x, views, xlabel, log=(), log_x=False, share_y=False):
    """Lines over a common axis, one plot a view: `{ylabel: {label: values}}`, equal labels in equal colors.

    `log` lists the views with a logarithmic y axis (True: all of them); `share_y`: one scale for all.
    """
    size = (4.8 * max(len(views), 1.4), 3.4)
    fig, axes = plt.subplots(1, len(views), figsize=size, squeeze=False, sharey=share_y)
    for ax, (ylabel, series) in zip(axes[0], views.items()):
        for i, (label, y) in enumerate(series.items()):
            look = {"marker": "os^Dv"[i % 5], "markersize": 5} if len(x) <= 12 else {}
            ax.plot(x, y, ["-", "--", ":"][i % 3], linewidth=2 + 0.3 * (i % 3), label=label, **look)
        if log is True or ylabel in log:
            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter("")
            low, high = ax.get_ylim()
            if high < 1000 * low:  # else there would be one labeled tick or two
                ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter("{x:g}")
        elif ax.dataLim.ymin >= 0:
            ax.set_ylim(bottom=0)
        if log_x:
            ax.set_xscale("log", base=2)
            ax.set_xticks(x, [f"{value:,}" for value in x])
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.legend(frameon=False)
    return fig


def points(x, y, labels, groups):
    """A scatter of words, colored by group. A label without room beside its point gets a line to it."""
    fig, ax = plt.subplots(figsize=(8.4, 5.2), subplot_kw={"xmargin": 0.14, "ymargin": 0.14})
    for i, name in enumerate(dict.fromkeys(groups)):
        inside = [j for j, group in enumerate(groups) if group == name]
        ax.scatter(x[inside], y[inside], marker="osD^vPX*"[i], color=PALETTE[i], label=name)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    ax.set(xticks=[], yticks=[], xlabel="first direction", ylabel="second direction")
    fig.canvas.draw()  # fixes the scale, which says how much room a label takes
    spots = ax.transData.transform(list(zip(x, y)))
    taken = [Bbox.from_bounds(left - 7, low - 7, 14, 14) for left, low in spots]
    directions = [(4, 3), (4, -3), (-4, 3), (-4, -3), (1, 5), (1, -5), (-1, 5), (-1, -5), (5, 0)]
    around = [(8, 0), (-8, 0)]  # beside the point; then further and further from it
    around += [(right * far, up * far) for far in (4, 6, 8, 11) for right, up in directions]
    line = {"arrowstyle": "-", "color": "#777777", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 4}
    for label, point in zip(labels, zip(x, y)):
        for place in around:
            look = {"ha": "left" if place[0] > 0 else "right", "va": "center", "fontsize": 10}
            look |= {"textcoords": "offset points", "arrowprops": line if place[1] else None}
            text = ax.annotate(label, point, place, **look)
            text.update_positions(fig.canvas.get_renderer())
            box = plt.Text.get_window_extent(text)  # of the word alone, without the line
            if place is around[-1] or not any(box.padded(3).overlaps(other) for other in taken):
                break
            text.remove()
        taken.append(box)
    return fig


def visible(token):
    """A token as text in which a space and a line break can be seen."""
    return token.replace(" ", "\u2423").replace("\n", "\u21b5")


def token_strips(rows):
    """Texts cut into tokens: `rows` maps a label to its list of token strings, one colored box each."""
    widest = max(sum(len(token) + 0.6 for token in tokens) for tokens in rows.values())
    size = min(11, 560 / widest)
    look = {"ha": "center", "va": "center", "family": "monospace", "fontsize": size}
    fig, ax = plt.subplots(figsize=(9, 0.62 * len(rows) + 0.1))
    for row, (label, tokens) in enumerate(rows.items()):
        ax.text(-0.8, -row, label, ha="right", va="center", fontsize=10)
        left = 0
        for i, token in enumerate(tokens):
            width = len(token) + 0.6
            box = plt.Rectangle((left, -row - 0.36), width - 0.12, 0.72, color=PALE[i % len(PALE)])
            ax.add_patch(box)
            ax.text(left + width / 2 - 0.06, -row, visible(token), **look)
            left += width
    ax.set(xlim=(-0.3, widest), ylim=(0.5 - len(rows), 0.5))
    ax.axis("off")
    return fig


def heat(values, rows, columns, xlabel="", ylabel="", digits=2, ax=None, limits=(None, None)):
    """A matrix as colors with its numbers written in; `rows` and `columns` are the tick labels.

    With `ax` it is drawn there, else on a figure of its own; with `digits=None` without numbers.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(1.6 + 0.62 * len(columns), 1.1 + 0.42 * len(rows)))
    image = ax.imshow(values, cmap="cividis", aspect="auto", vmin=limits[0], vmax=limits[1])
    middle = (image.norm.vmin + image.norm.vmax) / 2
    look = {"ha": "center", "va": "center", "fontsize": 10}
    for i in range(len(rows) if digits is not None else 0):
        for j in range(len(columns)):
            value = float(values[i][j])
            color = "white" if value < middle else "black"
            ax.text(j, i, f"{value:.{digits}f}", color=color, **look)
    ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    ax.set_yticks(range(len(rows)), rows)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    for line, ticks in [(ax.axvline, columns), (ax.axhline, rows)]:
        for k in range(len(ticks) if digits is None else 0):  # squares, as no numbers show them
            line(k - 0.5, color="white", linewidth=0.6)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax.figure


def heats(matrices, labels, key, limits=None):
    """Square matrices side by side, without numbers: `{title: values}`; `key` names the scale of colors.

    They share the scale, from the lowest to the highest value unless `limits` says otherwise.
    """
    matrices = {t: [[*map(float, row)] for row in values] for t, values in matrices.items()}
    every = [value for values in matrices.values() for row in values for value in row]
    limits = limits or (min(every), max(every))
    each = 1.3 + 0.28 * len(labels)
    size = each * len(matrices), 0.9 * each
    fig, axes = plt.subplots(1, len(matrices), figsize=size, squeeze=False)
    for ax, (title, values) in zip(axes[0], matrices.items()):
        heat(values, labels, labels, digits=None, ax=ax, limits=limits)
        ax.set_title(title, fontsize=11)
        turned = 90 if max(map(len, labels)) > 2 or len(labels) > 12 else 0
        ax.set_xticks(range(len(labels)), labels, rotation=turned, ha="center")
    fig.colorbar(axes[0][-1].images[0], ax=axes[0], label=key, shrink=0.8)
    return fig


def weighted_strips(rows):
    """Lines of words, each shaded by its weight: `{label: (words, weights)}`; large weights are written."""
    widest = max(sum(len(word) + 1 for word in words) for words, _ in rows.values())
    fig, ax = plt.subplots(figsize=(10, 0.85 * len(rows) + 0.1))
    for row, (label, (words, weights)) in enumerate(rows.items()):
        left = 0
        for word, weight in zip(words, weights):
            width = len(word) + 1
            look = {"facecolor": plt.cm.cividis(weight), "edgecolor": "white", "linewidth": 1.5}
            ax.add_patch(plt.Rectangle((left, -row - 0.3), width, 0.5, **look))
            middle = left + width / 2
            color = "black" if weight > 0.5 else "white"
            look = {"ha": "center", "va": "center", "fontsize": 9}
            ax.text(middle, -row - 0.05, word, color=color, family="monospace", **look)
            if weight >= 0.01:
                ax.text(middle, -row - 0.44, f"{weight:.2f}", **look)
            left += width
    ax.set(xlim=(-0.3, widest), ylim=(0.4 - len(rows), 0.3))
    ax.axis("off")
    return fig


def bars(labels, values, ylabel, line=None):
    """A column for each label; `line` is (label, height) of a dashed line across."""
    fig, ax = plt.subplots(figsize=(7.2, 3.2))
    ax.bar(range(len(labels)), values, color=PALETTE[0])
    look = {"rotation": 35, "ha": "right", "family": "monospace", "fontsize": 10}
    ax.set_xticks(range(len(labels)), labels, **look)
    ax.set_ylabel(ylabel)
    if line is not None:
        ax.axhline(line[1], color=PALETTE[3], linestyle="--")
        ax.annotate(line[0], (len(labels) - 0.5, line[1]), (2, 4), textcoords="offset points")
        ax.set_xlim(-0.6, len(labels) + 0.8)
    return fig


def stacked(rows, xlabel):
    """One bar a row, made of its parts: `{label: {part: value}}`; each bar ends with its sum."""
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    fig, ax = plt.subplots(figsize=(8.4, 0.55 * len(rows) + 1.2))
    for row, (label, parts) in enumerate(rows.items()):
        left = 0
        for part, value in parts.items():
            named = part if row == 0 else None
            ax.barh(row, value, left=left, color=PALETTE[names.index(part)], label=named)
            left += value
        ax.text(left, row, f" {left:,.0f}", va="center")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.invert_yaxis()
    ax.margins(x=0.1)
    ax.set_xlabel(xlabel)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def intervals(series, xlabel):
    """A dot with its interval for each row of DataFrames: `{label: frame}`, columns value, low, high.

    The rows are in the order of the last frame's values.
    """
    names = list(list(series.values())[-1].iloc[:, 0].sort_values().index)
    fig, ax = plt.subplots(figsize=(7.6, 0.3 * len(names) + 1.1))
    for i, (label, frame) in enumerate(series.items()):
        value, low, high = (frame.loc[names].iloc[:, k] for k in range(3))
        places = [row + 0.12 * (1 - 2 * i) for row in range(len(names))]
        look = {"markersize": 6, "linewidth": 1.5, "label": label, "color": PALETTE[3 * (i == 0)]}
        ax.errorbar(value, places, xerr=[value - low, high - value], fmt="os"[i % 2], **look)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel=xlabel, xlim=(-0.03, 1.03))
    ax.legend(frameon=False, loc="lower right")
    return fig
