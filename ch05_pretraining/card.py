"""Fill in a model's card, its README.md: the numbers come from the files that lie beside it.

    python ch05_pretraining/card.py ch05_pretraining/course_gpt_card.txt ch05_pretraining/course_gpt

The template holds `{{name}}` wherever a number belongs, or a table; ship.py calls this with what it has measured.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

from shared.files import CONFIG, WEIGHTS, landing, sha256

MEASURES, SAMPLES = "measures.csv", "samples.txt"
WORKS, TODAY = "all works together", "all texts of today together"  # rows of measures.csv
CURVE = 16  # rows of the log that the card shows


def percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, all columns but the first to the right."""
    lines = [head, ["--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def curve(log: pd.DataFrame) -> str:
    """Rows of the log, spread evenly, its last one among them; a column for what it has measured."""
    log = log.assign(today=log.filter(regex="^bits_(?!per_byte)").mean(axis=1))
    log = log.iloc[
        np.unique(np.linspace(0, len(log) - 1, min(CURVE, len(log))).round().astype(int))
    ]
    columns = {
        "million tokens": [f"{tokens / 1e6:.1f}" for tokens in log.tokens],
        "old works": [f"{bits:.3f}" for bits in log.bits_per_byte],
        "texts of today": [f"{bits:.3f}" for bits in log.today],
    }
    shares = {"random tokens copied": "repeated_tokens", "names copied": "returning_names"}
    shares |= {"known": "known", "left out": "left_out"}
    columns |= {head: map(percent, log[name]) for head, name in shares.items() if name in log}
    return table(list(columns), list(zip(*columns.values())))


def comparison(measures: pd.DataFrame) -> str:
    """What was measured, a column for each model, the one whose card it is last."""
    wide = measures.pivot(index="measure", columns="model", values="value")
    wide = wide.loc[measures.measure.unique(), measures.model.unique()[::-1]]
    rows = []
    for measure, *values in wide.itertuples():
        name = measure.removeprefix("bits per byte: ")
        bold = "**" if name in (WORKS, TODAY) else ""
        rows.append(
            [f"{bold}{name}{bold}", *(f"{bold}{v}{bold}".replace("%", " %") for v in values)]
        )
    return table(["", *wide.columns], rows)


def schedule(log: pd.DataFrame) -> str:
    """How the learning rate went, as the log has it."""
    peak, low = log.lr.max(), log[log.index > log.lr.idxmax()]
    falling = low[low.lr < 0.99 * peak]
    if falling.empty:
        return f"The learning rate stayed at {peak:g}, with no decay at the end."
    before = log.tokens[log.index < falling.index[0]].max() / 1e6
    return f"The learning rate stayed at {peak:g} for about {before:.0f} million tokens, then fell to {log.lr.iloc[-1]:.1g}."


def values(folder: Path) -> dict[str, str]:
    """All that a template may name. ValueError where the measures are of other weights."""
    cfg = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    log = pd.read_csv(folder / "log.csv")
    measures = pd.read_csv(folder / MEASURES, dtype=str)
    ours = measures[measures.model == measures.model.iloc[0]]
    if set(ours.weights) != {sha256(folder / WEIGHTS)[:12]}:
        raise ValueError(f"{folder / MEASURES} is of other weights: run ship.py")
    with safe_open(folder / WEIGHTS, "pt") as file:
        count = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    last = log.iloc[-1]
    return {
        "parameters": f"{count:,}",
        "vocabulary": f"{cfg['vocab_size']:,}",
        "context": str(cfg["context_length"]),
        "shape": f"{cfg['n_layers']} blocks, width {cfg['emb_dim']}, {cfg['n_heads']} heads",
        "size": f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB",
        "million tokens": f"{last.tokens / 1e6:.1f}",
        "hours": f"{last.seconds / 3600:.1f}",
        "schedule": schedule(log),
        "comparison": comparison(measures),
        "curve": curve(log),
        "samples": (folder / SAMPLES).read_text(encoding="utf-8").strip(),
    }


def filled(template: Path, folder: Path) -> str:
    """The card; ValueError for a name in the template that is not among the values."""
    found = values(folder)

    def value(match: re.Match) -> str:
        if match[1] not in found:
            raise ValueError(f"{template}: {match[0]} is none of {', '.join(found)}")
        return found[match[1]]

    return re.sub(r"\{\{([^{}]*)\}\}", value, template.read_text(encoding="utf-8"))


def write(template: Path, folder: Path) -> None:
    """The card of a folder, whole or as it was."""
    text = filled(template, folder)
    with landing(folder / "README.md") as file:
        file.write(text.encode())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("template", type=Path, metavar="TEMPLATE")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the model")
    options = parser.parse_args(arguments)
    try:
        write(options.template, options.folder)
    except (ValueError, OSError) as error:
        sys.exit(f"card: {error}")


if __name__ == "__main__":
    main()
