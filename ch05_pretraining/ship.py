"""Put a finished run of pretrain.py into the course, and print what the model card says of it.

    python ch05_pretraining/ship.py --runs RUN --corpus FOLDER

Of several runs each began with the model of the one before. FOLDER is their corpus: its held-out works are
measured one by one.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import copying
import numpy as np
import pandas as pd
import pretrain
import torch

from shared import editions
from shared.corpus import END_OF_TEXT, read_documents, sample
from shared.gpt_model import GPTModel, generate_text_cached
from shared.text_data import make_encoding

PROMPTS = [
    "Once upon a time there was a little",
    '"Where are you going?" said the fox.',
    "The ship had hardly left the harbour when",
]


def joined_log(runs: list[Path]) -> pd.DataFrame:
    """The logs of runs, each of which began with the model of the one before, as one."""
    logs, tokens, seconds = [], 0, 0
    for run in runs:
        log = pd.read_csv(run / "log.csv")
        logs.append(log.assign(tokens=log.tokens + tokens, seconds=log.seconds + round(seconds)))
        state = torch.load(run / "state.pt", weights_only=True)
        tokens += state["step"] * state["identity"]["batch"]
        seconds += state["seconds"]
    return pd.concat(logs)


def ship(runs: list[Path], folder: Path) -> None:
    """Write the last run's model and the log of all, with checksums; ValueError, and no change, if it is not whole."""
    cfg = json.loads((runs[-1] / "config.json").read_text(encoding="utf-8"))
    weights = editions.read_weights(runs[-1] / editions.WEIGHTS)
    model = editions.filled(GPTModel(cfg), weights, runs[-1])
    log = joined_log(runs).to_csv(index=False, lineterminator="\n")
    editions.save_model(folder, model, cfg, log)


def report(folder: Path, corpus: Path, held_out: int = 8) -> None:
    """Bits per byte of each work held out, the copying measures, and greedy continuations."""
    model, cfg = editions.load_model(folder)
    ranks = editions.load_ranks(editions.COURSE_TOKENIZER)  # whatever the edition
    tokenizer = make_encoding("course-gpt", ranks, (END_OF_TEXT,))
    context = cfg["context_length"]
    counts = torch.tensor([len(token) for token in pretrain.vocabulary(tokenizer)])
    end = [tokenizer.eot_token]
    _, unseen = sample(read_documents(corpus), math.inf, held_out, pretrain.SPLIT_SEED)
    for work in unseen:
        ids = np.array(end + tokenizer.encode_ordinary(work.text) + end, dtype=np.uint16)
        bits = pretrain.evaluate(model, ids, counts, min(context, len(ids) - 1))[1]
        print(f"{bits:.3f} bits per byte: {work.title}")
    ids = copying.ordinary_tokens(tokenizer)
    passages = copying.passages_with_names([work.text for work in unseen], tokenizer)
    print(f"repeated random tokens: {copying.repeated_tokens(model, ids):.1%}")
    names = copying.returning_names(model, tokenizer, passages, context)
    print(f"returning invented names, {len(passages)} passages: {names:.1%}")
    for prompt in PROMPTS:
        start = torch.tensor([tokenizer.encode(prompt)])
        print("---", tokenizer.decode(generate_text_cached(model, start, 60, context)[0].tolist()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="--out of pretrain.py")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=editions.COURSE_GPT)
    options = parser.parse_args(arguments)
    try:
        ship(options.runs, options.out)
        size = sum(path.stat().st_size for path in options.out.iterdir()) / 1e6
        print(f"{options.out}: {size:.1f} MB")
        report(options.out, options.corpus)
    except (ValueError, OSError) as error:
        sys.exit(f"ship: {error}")


if __name__ == "__main__":
    main()
