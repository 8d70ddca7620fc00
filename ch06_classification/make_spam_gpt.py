"""Make a spam classifier, as the course's spam_gpt/ was made, from the pretrained model and the messages.

    python ch06_classification/make_spam_gpt.py --out FOLDER
    COURSE_DATA=book COURSE_MODEL=gpt2 python ch06_classification/make_spam_gpt.py --out FOLDER

First the model reads the training messages as a language model, without labels (Gururangan and others, "Don't stop
pretraining", 2020); then all its layers learn to tell spam from ham. The decision threshold is that of its row in
compare.csv, which compare_classifiers.py has chosen by cross-fitting; where that table is of another model or of other
messages, it is chosen on the validation part. The part `test` only gives the scores on the card (README.md). Every epoch
ends with a save beside FOLDER: the same command goes on from there after an interruption, with the numbers that it would
have had. A FOLDER that holds something else is left alone.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import spam_card
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from shared import editions, encodings, files, models, program
from shared.assets import AssetError
from shared.classification import (
    BatchesByLength,
    SpamDataset,
    calc_class_loss_batch,
    choose_threshold,
    classifier_from,
    loader_logits,
    scores,
)
from shared.files import landing, sha256, written_by
from shared.gpt_model import GPTModel
from shared.measure import fast_in_bf16
from shared.pretraining import (
    calc_loss_batch,
    load_checkpoint,
    save_checkpoint,
)
from shared.training import learning_rate, parameter_groups

READING = {"epochs": 4, "batch_size": 32, "peak": 1e-3}  # the messages as a language model
LABELS = {"epochs": 3, "batch_size": 16, "peak": 6e-4}  # and with their labels
DROPOUT, DECAY, CLIP = 0.1, 0.1, 1.0
CPU = "cpu"
AS_TEXT = dict.fromkeys(("run", "checkpoint", "messages", "sealed"), str)  # columns of TABLE
TABLE, ROW = Path(__file__).parent / "compare.csv", "read on, all layers"


def autocast() -> torch.autocast:
    """bf16 where the processor has it, which is then more than twice as fast; else no change."""
    return torch.autocast(CPU, torch.bfloat16, enabled=fast_in_bf16(CPU))


def train(model, loader, loss_of: Callable, epochs: int, peak: float, checkpoint: Path | None = None,
          identity: str = "", measure: Callable = dict) -> list[dict]:  # fmt: skip
    """Train with AdamW, warm-up over a tenth of the steps and a cosine down to 0. A row of the log for each epoch.

    `loss_of(batch)` gives the loss, `measure()` more of a row. After each epoch all is saved to the file
    `checkpoint`; a run that finds one goes on from there. ValueError if it belongs to another run.
    """
    optimizer = torch.optim.AdamW(parameter_groups(model, DECAY), lr=peak)
    rows, total = [], epochs * len(loader)
    if checkpoint and checkpoint.exists():
        state = load_checkpoint(checkpoint, model, optimizer)
        if state.get("identity") != identity:
            raise ValueError(
                f"{checkpoint} is of another run ({state.get('identity')}; this one is {identity}): "
                "delete it to begin anew"
            )
        rows = state["rows"]
    for epoch in range(len(rows), epochs):
        model.train()
        losses = []
        for step, batch in enumerate(loader, start=epoch * len(loader) + 1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, total + 1, total // 10, peak)
            optimizer.zero_grad()
            with autocast():
                loss = loss_of(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(loss.item())
        rows.append({"epoch": epoch + 1, "loss": round(sum(losses) / len(losses), 4)} | measure())
        print(", ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
        if checkpoint:
            save_checkpoint(checkpoint, model, optimizer, rows=rows, identity=identity)
    return rows


def windows(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and next tokens of texts of different length, `(B, T)` each; targets are -100 where there is none."""
    parts = [torch.tensor(row) for row in rows]
    inputs, targets = [part[:-1] for part in parts], [part[1:] for part in parts]
    pad = functools.partial(nn.utils.rnn.pad_sequence, batch_first=True)
    return pad(inputs), pad(targets, padding_value=-100)


def read_on(model, cfg: dict, texts, tokenizer, checkpoint: Path | None = None, identity: str = "",
            epochs: int = READING["epochs"]):  # fmt: skip
    """A copy of a language model that has read these texts, too, and the log of it.

    Each text stands between two `<|endoftext|>`.
    """
    reader = GPTModel(cfg | {"drop_rate": DROPOUT})
    reader.load_state_dict(model.state_dict())
    end = [tokenizer.eot_token]
    rows = [
        (end + tokenizer.encode_ordinary(text) + end)[: cfg["context_length"]] for text in texts
    ]
    batches = BatchesByLength([len(row) for row in rows], READING["batch_size"])
    loader = DataLoader(rows, batch_sampler=batches, collate_fn=windows)
    log = train(
        reader,
        loader,
        lambda batch: calc_loss_batch(*batch, reader, CPU),
        epochs,
        READING["peak"],
        checkpoint,
        identity,
    )
    return reader, log


def loader_of(messages: pd.DataFrame, tokenizer, most: int, shuffled: bool = False) -> DataLoader:
    """Messages, cut to `most` tokens: in batches of 16 of about the same length, or as they come, 64 at a time."""
    pad = tokenizer.eot_token
    dataset = SpamDataset(messages, tokenizer, pad_token_id=pad)
    if dataset.max_length > most:
        dataset = SpamDataset(messages, tokenizer, most, pad)
    if not shuffled:
        return DataLoader(dataset, batch_size=64)
    return DataLoader(dataset, batch_sampler=BatchesByLength(dataset.lengths, LABELS["batch_size"]))


def spam_probabilities(model, loader: DataLoader, pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and probabilities of spam of a loader's messages, `(N,)` each."""
    labels, logits = loader_logits(loader, model, CPU, pad_token_id=pad)
    return labels, F.softmax(logits, dim=-1)[:, 1]


def learn_labels(model, cfg: dict, messages: pd.DataFrame, tokenizer, checkpoint: Path | None = None,
                 identity: str = "", epochs: int = LABELS["epochs"]):  # fmt: skip
    """A classifier: a copy of the model with a new head, trained in all layers on the part `train`; and its log."""
    parts = dict(list(messages.groupby("split")))
    pad = tokenizer.eot_token
    classifier = classifier_from(model, cfg | {"drop_rate": DROPOUT})
    most = cfg["context_length"]
    validation = loader_of(parts["validation"], tokenizer, most)

    def measure():
        labels, spam = spam_probabilities(classifier, validation, pad)
        found = scores(labels, (spam >= 0.5).long())
        return {f"validation {name}": round(found[name], 4) for name in ("accuracy", "F1")}

    log = train(
        classifier,
        loader_of(parts["train"], tokenizer, most, shuffled=True),
        lambda batch: calc_class_loss_batch(*batch, classifier, CPU, pad),
        epochs,
        LABELS["peak"],
        checkpoint,
        identity,
        measure,
    )
    return classifier, log


def identity_of(messages: pd.DataFrame) -> dict[str, str]:
    """Of which model and which messages something was made, as compare.csv says it."""
    name = editions.choice("COURSE_MODEL")
    stored = models.COURSE_GPT / files.WEIGHTS
    return {
        "checkpoint": sha256(stored)[:12] if name == "course-gpt" else name,
        "messages": sha256(repr(messages.values.tolist()).encode())[:12],
    }


def compared(messages: pd.DataFrame) -> pd.DataFrame | None:
    """compare.csv, if it is of this model and these messages."""
    if not TABLE.exists():
        return None
    table, about = pd.read_csv(TABLE, dtype=AS_TEXT), identity_of(messages)
    same = (table[list(about)] == pd.Series(about)).all(axis=None) and (table.row == ROW).any()
    return table if same else None


def make(
    out: Path, seed: int = 123, reading: int = READING["epochs"], epochs: int = LABELS["epochs"]
):
    """Write the folder `out`, as `models.classifier` reads it. What it saves meanwhile lies beside it.

    ValueError where `out` holds anything but what this run has made.
    """
    messages, tokenizer = editions.messages(), encodings.tokenizer()
    model, cfg = models.pretrained()
    used = messages[messages.split != "test"].values.tolist()
    content = hashlib.sha256(repr((used, cfg)).encode()).hexdigest()[:8]
    identity = f"data and model {content}, seed {seed}, epochs {reading} and {epochs}"
    run = f"make_spam_gpt.py ({identity})"
    saved = [out.with_name(f"{out.name}.{stage}.pt") for stage in ("reading", "labels")]
    if written_by(run, out):
        for path in saved:  # a kill may have left them
            path.unlink(missing_ok=True)
        print(f"{out}: finished")
        return
    out.absolute().parent.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(seed)
    texts = messages.text[messages.split == "train"]
    reader, first = read_on(model, cfg, texts, tokenizer, saved[0], identity, reading)
    torch.manual_seed(seed)
    classifier, second = learn_labels(reader, cfg, messages, tokenizer, saved[1], identity, epochs)
    classifier.half().float()  # as it will be stored

    def judged(split: str):
        part = messages[messages.split == split]
        loader = loader_of(part, tokenizer, cfg["context_length"])
        return *spam_probabilities(classifier, loader, tokenizer.eot_token), part

    labels, spam, _ = judged("validation")
    table = compared(messages)
    if table is None:
        threshold, origin = choose_threshold(labels, spam), "the one with the highest F1 on the validation messages"  # fmt: skip
    else:
        threshold, origin = table.threshold[table.row == ROW].iloc[0], "chosen by cross-fitting: the one with the highest F1 on messages that several runs of this recipe had left out (`compare.csv`)"  # fmt: skip
    threshold = round(float(threshold), 4)
    log = pd.DataFrame(
        [{"stage": "reading"} | row for row in first]
        + [{"stage": "labels"} | row for row in second]
    )
    cfg = cfg | {"tie_weights": False, "classes": ["ham", "spam"], "threshold": threshold}
    log = log.to_csv(index=False, lineterminator="\n")
    models.save_model(out, classifier, cfg, log, encodings.COURSE_TOKENIZER, run)
    for path in saved:
        path.unlink()
    true, p, part = judged("test")
    hard = torch.tensor(part.hard.to_numpy(bool))
    card = spam_card.TEXT.format(
        layers=cfg["n_layers"], width=cfg["emb_dim"], context=cfg["context_length"], vocabulary=cfg["vocab_size"],
        origin=origin, megabytes=(out / files.WEIGHTS).stat().st_size / 1e6, train=len(texts), seed=seed,
        reading=READING | {"epochs": reading}, labels=LABELS | {"epochs": epochs}, decay=DECAY, dropout=DROPOUT, clip=CLIP,
        development=len(part), hard=int(hard.sum()), rows=spam_card.score_lines(true, hard, p, threshold),
        sealed=spam_card.sealed_text(table, ROW),
    )  # fmt: skip
    with landing(out / "README.md") as file:
        file.write(card.encode())
    found = scores(labels, (spam >= threshold).long())
    print(f"{out}: threshold {threshold}; validation", {k: round(v, 3) for k, v in found.items()})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder")
    parser.add_argument("--seed", type=int, default=123)
    for name, most in (("--reading-epochs", READING["epochs"]), ("--epochs", LABELS["epochs"])):
        parser.add_argument(name, type=int, default=most, help=f"default: {most}")
    options = parser.parse_args(arguments)
    if min(options.reading_epochs, options.epochs) < 1:
        parser.error("--reading-epochs and --epochs must be at least 1")
    with program.in_one_line("make_spam_gpt", "after the last whole epoch", AssetError):
        make(options.out, options.seed, options.reading_epochs, options.epochs)


if __name__ == "__main__":
    main()
