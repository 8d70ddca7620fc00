"""What the experiments with finished models share: which models, what a table says of them, where it is stored."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tiktoken
from torch import nn

from shared import encodings, files, models
from shared.gpt_model import GPTModel


@dataclass(frozen=True)
class Subject:
    """A model to measure, with its tokenizer; `weights` are the first digits of its file's SHA-256."""

    name: str
    model: nn.Module
    encoding: tiktoken.Encoding
    context: int
    weights: str


def load(folder: Path, tokenizer: Path) -> Subject:
    """The model of a folder with config.json and model.safetensors, a run's too. ValueError or OSError if there is none."""
    cfg = json.loads((folder / files.CONFIG).read_text(encoding="utf-8"))
    cfg = encodings.check_tokenizer(cfg, folder, tokenizer)
    path = folder / files.WEIGHTS
    model = models.filled(GPTModel(cfg), files.read_weights(path), folder)
    encoding = encodings.load_encoding(tokenizer)
    return Subject(folder.name, model, encoding, cfg["context_length"], files.sha256(path)[:12])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which model: one that is named, or those that ship."""
    add = parser.add_argument
    add("--model", type=Path, help="folder with config.json (default: what ships)")
    add("--tokenizer", type=Path, default=encodings.COURSE_TOKENIZER, help="that of --model")
    add("--out", type=Path, help="table to write (default: the stored one, if no --model is given)")


def subjects(options, first: bool = True) -> list[Subject]:
    """The named model, or the shipped one, together with the course's first model if `first`."""
    if options.model:
        return [load(options.model, options.tokenizer)]
    places = [(models.COURSE_GPT, encodings.COURSE_TOKENIZER)]
    places += [(models.FIRST_GPT, encodings.FIRST_TOKENIZER)] if first else []
    return [load(*place) for place in places]


def run(parser, arguments, measure: Callable, stored: Path, first: bool = True,
        show: Callable = lambda table: table) -> pd.DataFrame:  # fmt: skip
    """Measure the models, `measure(subject, options) -> DataFrame`; print what `show` makes of the table; store it, sealed.

    Errors in the input end the script in one line.
    """
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        tables = []
        for subject in subjects(options, first):
            table = measure(subject, options)
            table.insert(0, "model", subject.name)
            tables.append(table.assign(weights=subject.weights))
        table = pd.concat(tables, ignore_index=True)
        if out := options.out or (None if options.model else stored):
            files.write_table(out, table)
            files.seal(out)
    except (ValueError, OSError) as error:
        sys.exit(f"{stored.stem}: {error}")
    print(show(table).to_string(float_format="%.3f"))
    return table
