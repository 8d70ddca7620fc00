"""Chapter 6's pictures: lengths of messages, classifiers compared, what few labels are worth, and calibration."""

import matplotlib.pyplot as plt

from shared.plotting import PALE, PALETTE

MARKS = "os^Dv"


def lengths(groups, xlabel, ylabel):
    """Histograms as outlines, since filled bars would hide each other: `{name: values}`."""
    fig, ax = plt.subplots(figsize=(6.6, 2.8))
    for name, values in groups.items():
        ax.hist(values, range(0, 120, 5), histtype="step", linewidth=2, label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False)
    return fig


def comparison(table):
    """Average precision of each row on ordinary and hard messages: bars for means, lines for intervals, dots for runs.

    Where no message is marked as hard, on all messages.
    """
    kinds = [kind for kind in ("ordinary", "hard") if (table.cases == kind).any()] or ["all"]
    names = table.row.unique().tolist()
    fig, ax = plt.subplots(figsize=(8.4, 0.42 * len(names) + 0.8))
    for i, kind in enumerate(kinds):
        part = table[table.cases == kind]
        mean, runs = part[part.run == "mean"], part[part.run != "mean"]
        y, each = ([names.index(row) + 0.4 * i - 0.2 for row in one.row] for one in (mean, runs))
        ax.barh(y, mean.average_precision, 0.36, color=PALE[i], label=f"{kind} messages")
        look = {"color": PALETTE[i]}
        ax.hlines(y, mean.average_precision_low, mean.average_precision_high, linewidth=1, **look)
        ax.plot(runs.average_precision, each, "o", markersize=3, **look)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="average precision", xlim=(0, 1))
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return fig


def learning(curve):
    """Average precision against the number of labels, on a logarithmic scale: a line for each row, dots for runs."""
    fig, ax = plt.subplots(figsize=(7.6, 3.8))
    for i, (name, part) in enumerate(curve.groupby("row", sort=False)):
        look = {"color": PALETTE[i], "marker": MARKS[i % 5]}
        mean = part.groupby("labels").average_precision.mean()
        ax.plot(mean.index, mean, label=name, markersize=6, linewidth=1.8, **look)
        ax.plot(part["labels"], part.average_precision, linestyle="", markersize=3, **look)
    ax.set_xscale("log")
    counts = sorted(curve["labels"].unique())
    ax.set_xticks(counts, [f"{count:,}" for count in counts])
    ax.minorticks_off()
    ax.set(xlabel="labeled messages", ylabel="average precision", ylim=(0, 1))
    ax.legend(frameon=False, loc="lower right", fontsize=9)
    return fig


def reliability(bins):
    """The share of spam against the mean probability that was given, a point a bin; larger points: more messages."""
    fig, ax = plt.subplots(figsize=(5.2, 4.4))
    ax.plot([0, 1], [0, 1], color="#777777", linewidth=1, linestyle="--")
    for i, (name, part) in enumerate(bins.groupby("row", sort=False)):
        ax.plot(part.probability, part.spam, color=PALETTE[i], linewidth=1.2, label=name)
        sizes = 8 + 120 * (part.messages / part.messages.sum()) ** 0.5
        ax.scatter(part.probability, part.spam, sizes, color=PALETTE[i], marker=MARKS[i % 5])
    ax.set(xlabel="probability of spam, as said", ylabel="share that is spam", xlim=(-0.03, 1.03))
    ax.legend(frameon=False, fontsize=9)
    return fig
