"""Put a finished run of pretrain.py into the course, and print what the model card says of it.

    python ch05_pretraining/ship.py --runs RUN --corpus FOLDER --valid FOLDER --average 4
    python ch05_pretraining/ship.py --corpus FOLDER --valid FOLDER --out FOLDER --tokenizer FILE

Of several runs each began with the model of the one before. The first FOLDER is their corpus: its held-out works
are measured one by one and together; of the second, each file is. What ships are the last weights, or the mean of
those at the last rows of the log (Izmailov and others, 2018, "Averaging weights leads to wider optima"). Without runs
the model in --out is measured again, on the same bytes.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import sys
from pathlib import Path

import induction
import measuring
import numpy as np
import pandas as pd
import torch
from mixture import vocabulary
from names import ordinary_tokens

from shared import encodings, files, models
from shared.corpus import HELD_OUT, Document, read_documents, split_held_out
from shared.files import seal
from shared.gpt_model import GPTModel, generate_text_cached
from shared.pretraining import bits_per_byte

PROMPTS = [
    "Once upon a time", "The old man", "My name is", "Last summer we", "The phone rang",
    "To make bread, you", "A dog is", "She opened the door and", "In the morning", "We were late because",
]  # fmt: skip

MEASURES = "measures.csv"


def joined_log(runs: list[Path]) -> pd.DataFrame:
    """The logs of runs, each of which began with the model of the one before, as one."""
    logs, tokens, seconds = [], 0, 0
    for run in runs:
        log = pd.read_csv(run / "log.csv")
        logs.append(log.assign(tokens=log.tokens + tokens, seconds=log.seconds + round(seconds)))
        state = torch.load(run / "state.pt", weights_only=True)
        tokens += state["tokens"]
        seconds += state["seconds"]
    return pd.concat(logs)


def averaged(run: Path, last: int) -> dict[str, torch.Tensor]:
    """The mean of a run's weights at the last rows of its log, taken in float32; ValueError if it kept fewer."""
    paths = sorted((run / "weights").glob("*.safetensors"))
    if not 0 < last <= len(paths):
        raise ValueError(
            f"{run / 'weights'} holds {len(paths)} weights: their mean is not of {last}"
        )
    kept = [files.read_weights(path) for path in paths[-last:]]
    return {name: sum(each[name].float() for each in kept) / last for name in kept[0]}


def ship(
    runs: list[Path],
    folder: Path,
    average: int | None = None,
    tokenizer: Path = encodings.COURSE_TOKENIZER,
) -> None:
    """Write the last run's model, or an average of it, and the log of all, with checksums.

    ValueError, and no change, if it is not whole or was made with another tokenizer, or if the folder is somebody's.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / files.SUMS).exists():
        raise ValueError(f"{folder} is not empty, and holds no model of ours: name another (--out)")
    run = runs[-1]
    cfg = json.loads((run / files.CONFIG).read_text(encoding="utf-8"))
    cfg = encodings.check_tokenizer(cfg, run, tokenizer)
    if average is None:
        weights = files.read_weights(run / files.WEIGHTS)
    else:
        weights = averaged(run, average)
    model = models.filled(GPTModel(cfg), weights, run)
    log = joined_log(runs).to_csv(index=False, lineterminator="\n")
    models.save_model(folder, model, cfg, log, tokenizer=tokenizer)


def texts_of(place: Path) -> dict[str, list[Document]]:
    """The documents of a file, or of each file in a folder, by its name."""
    paths = sorted(place.glob("*.txt*")) if place.is_dir() else [place]
    return {path.name.partition(".")[0]: read_documents(path) for path in paths}


def report(
    folder: Path,
    corpus: Path,
    valid: list[Path],
    held_out: Path = HELD_OUT,
    tokenizer_file: Path = encodings.COURSE_TOKENIZER,
) -> None:
    """Bits per byte of each work held out and each further file, the copying measures, greedy continuations.

    What is measured goes into measures.csv, too, beside the weights that it was measured with.
    """
    rows = []

    def say(value: str, measure: str) -> None:
        print(f"{value} {measure}", flush=True)
        rows.append((measure, value))

    model, cfg = models.load_model(folder, tokenizer_file)
    tokenizer = encodings.load_encoding(tokenizer_file)  # whatever the edition
    context = cfg["context_length"]
    counts = torch.tensor([len(token) for token in vocabulary(tokenizer)])
    end = [tokenizer.eot_token]
    _, unseen = split_held_out(read_documents(corpus), held_out)
    groups = {"the works held out": {work.title: [work] for work in unseen}}
    groups |= {"the further texts": texts for place in valid if (texts := texts_of(place))}
    for group, measured in groups.items():
        total = np.zeros(2)
        for name, documents in measured.items():
            ids = end + [
                i for work in documents for i in (*tokenizer.encode_ordinary(work.text), *end)
            ]
            ids = np.array(ids, dtype=np.uint16)
            nats, _, size = measuring.evaluate(model, ids, counts, min(context, len(ids) - 1))
            total += nats, size
            say(f"{bits_per_byte(nats, size):.3f}", f"bits per byte: {name}")
        say(f"{bits_per_byte(*total):.3f}", f"bits per byte together: {group}")
    ids = ordinary_tokens(tokenizer)
    passages = induction.passages_with_names([work.text for work in unseen], tokenizer)
    say(f"{induction.repeated_tokens(model, ids):.1%}", "repeated random tokens")
    names = induction.returning_names(model, tokenizer, passages, context)
    say(f"{names:.1%}", f"returning invented names, {len(passages)} passages")
    weights = files.sha256(folder / files.WEIGHTS)[:12]
    table = pd.DataFrame(rows, columns=["measure", "value"]).assign(weights=weights)
    table.to_csv(folder / MEASURES, index=False, lineterminator="\n")
    seal(folder / MEASURES)
    for prompt in PROMPTS:
        start = torch.tensor([tokenizer.encode(prompt)])
        print("---", tokenizer.decode(generate_text_cached(model, start, 60, context)[0].tolist()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--runs", type=Path, nargs="+", default=[], help="--out of pretrain.py")
    add("--corpus", type=Path, required=True)
    add("--held-out", type=Path, default=HELD_OUT, help="list of works kept for validation")
    add("--valid", type=Path, nargs="+", default=[], help="further texts: folders or files")
    add("--average", type=int, metavar="K", help="ship the mean of the last K weights of RUN")
    add("--tokenizer", type=Path, default=encodings.COURSE_TOKENIZER, help="that of the runs")
    add("--out", type=Path, default=models.COURSE_GPT)
    options = parser.parse_args(arguments)
    try:
        if options.runs:
            ship(options.runs, options.out, options.average, options.tokenizer)
        size = sum(path.stat().st_size for path in options.out.iterdir()) / 1e6
        print(f"{options.out}: {size:.1f} MB")
        given = options.corpus, options.valid, options.held_out, options.tokenizer
        report(options.out, *given)
    except (ValueError, OSError) as error:
        sys.exit(f"ship: {error}")


if __name__ == "__main__":
    main()
