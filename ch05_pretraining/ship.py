"""Put a finished run of pretrain.py into the course, and write down what the model card says of it.

    python ch05_pretraining/ship.py --runs RUN --corpus FOLDER --valid FOLDER --average 3 \\
        --compare ch05_pretraining/first_gpt --card ch05_pretraining/course_gpt_card.txt

Of several runs each began with the model of the one before. The first FOLDER is their corpus: its held-out works
are measured one by one; of the second, each file is. Another model of ours can be measured on the same bytes.
What ships are the last weights, or the mean of those at the last rows of the log (Izmailov and others, 2018,
"Averaging weights leads to wider optima"). The card is a template that card.py fills in.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import card
import induction
import measuring
import numpy as np
import pandas as pd
import samples
import torch
from mixture import vocabulary
from names import ordinary_tokens

from shared import encodings, files, models
from shared.corpus import HELD_OUT, Document, read_documents, split_held_out
from shared.files import seal
from shared.gpt_model import GPTModel
from shared.pretraining import bits_per_byte


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


def tokenizer_of(folder: Path) -> Path:
    """The file of the tokenizer that a model's config.json names; ValueError for one that the course does not have."""
    name = json.loads((folder / files.CONFIG).read_text(encoding="utf-8")).get("tokenizer")
    for path in (encodings.COURSE_TOKENIZER, encodings.FIRST_TOKENIZER):
        if encodings.tokenizer_sha256(path) == name:
            return path
    raise ValueError(f"{folder} names no tokenizer of the course: {name}")


def measured(model, tokenizer, context: int, groups: dict[str, dict[str, list[Document]]],
             passages: list[str]) -> Iterator[tuple[str, str]]:  # fmt: skip
    """`(measure, value)`: bits per byte of each text, and of each group together; then the two measures of copying."""
    counts = torch.tensor([len(token) for token in vocabulary(tokenizer)])
    end = [tokenizer.eot_token]
    for group, texts in groups.items():
        found = []
        for name, documents in texts.items():
            parts = [(*tokenizer.encode_ordinary(document.text), *end) for document in documents]
            ids = np.array(end + [i for part in parts for i in part], dtype=np.uint16)
            nats, _, size = measuring.evaluate(model, ids, counts, min(context, len(ids) - 1))
            found.append((nats, size))
            yield f"bits per byte: {name}", f"{bits_per_byte(nats, size):.3f}"
        if found:
            nats, size = map(sum, zip(*found))
            yield f"bits per byte: {group}", f"{bits_per_byte(nats, size):.3f}"
    ids = ordinary_tokens(tokenizer)
    yield "repeated random tokens", f"{induction.repeated_tokens(model, ids):.1%}"
    names = induction.returning_names(model, tokenizer, passages, context)
    yield f"returning invented names, {len(passages)} passages", f"{names:.1%}"


def report(
    folder: Path,
    corpus: Path,
    valid: list[Path],
    held_out: Path = HELD_OUT,
    compare: list[Path] = (),
    read: list[Path] = (),
) -> None:
    """Measure the model of a folder, and others on the same texts, into measures.csv; its greedy text into samples.txt.

    `read`: the token files that it was trained on.
    """
    _, unseen = split_held_out(read_documents(corpus), held_out)
    further = {name: documents for place in valid for name, documents in texts_of(place).items()}
    groups = {card.WORKS: {work.title: [work] for work in unseen}, card.TODAY: further}
    rows, passages = [], None
    for place in (folder, *compare):
        model, cfg = models.load_model(place, tokenizer_of(place))
        tokenizer = encodings.load_encoding(tokenizer_of(place))  # whatever the edition
        if passages is None:  # the same ones for all
            texts = samples.report(samples.greedy(model, tokenizer, cfg["context_length"]), tokenizer, read)  # fmt: skip
            passages = induction.passages_with_names([work.text for work in unseen], tokenizer)
        weights = files.sha256(place / files.WEIGHTS)[:12]
        for measure, value in measured(model, tokenizer, cfg["context_length"], groups, passages):
            print(f"{place.name}: {value} {measure}", flush=True)
            rows.append((place.name, measure, value, weights))
    table = pd.DataFrame(rows, columns=["model", "measure", "value", "weights"])
    files.write_table(folder / card.MEASURES, table)
    with files.landing(folder / card.SAMPLES) as file:
        file.write(texts.encode())
    for name in (card.MEASURES, card.SAMPLES):
        seal(folder / name)
    print(texts)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--runs", type=Path, nargs="+", required=True, help="--out of pretrain.py")
    add("--corpus", type=Path, required=True)
    add("--held-out", type=Path, default=HELD_OUT, help="list of works kept for validation")
    add("--valid", type=Path, nargs="+", default=[], help="further texts: folders or files")
    add("--average", type=int, metavar="K", help="ship the mean of the last K weights of RUN")
    add("--tokenizer", type=Path, default=encodings.COURSE_TOKENIZER, help="that of the runs")
    add("--compare", type=Path, nargs="+", default=[], metavar="FOLDER", help="further models")
    add("--card", type=Path, metavar="TEMPLATE", help="fill it in, as the folder's README.md")
    add("--out", type=Path, default=models.COURSE_GPT)
    options = parser.parse_args(arguments)
    out = options.out
    try:
        ship(options.runs, out, options.average, options.tokenizer)
        size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
        print(f"{out}: {size:.1f} MB")
        read = sorted(path for run in options.runs for path in run.glob("train-*.npy"))
        report(out, options.corpus, options.valid, options.held_out, options.compare, read)
        if options.card:
            card.write(options.card, out)
    except (ValueError, OSError) as error:
        sys.exit(f"ship: {error}")


if __name__ == "__main__":
    main()
