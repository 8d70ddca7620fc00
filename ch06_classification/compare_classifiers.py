"""Which classifier is how good: baselines and fine-tunings on the test messages, over three or five seeds.

    python ch06_classification/compare_classifiers.py [--out compare.csv]

A line of the table for each row, seed and kind of cases (all, or the hard ones alone). Thresholds are chosen on
the validation part. Intervals: 95 % of 2,000 draws of as many test messages, with replacement. The same command
goes on with what is missing. About half an hour on one core with bf16.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import functools
import re
import time
from collections.abc import Callable
from pathlib import Path

import make_spam_gpt
import numpy as np
import pandas as pd
import sklearn
import torch
import torch.nn.functional as F
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union
from torch.utils.data import DataLoader

from shared import editions, encodings, files, models, program
from shared.assets import AssetError
from shared.classification import (
    SpamDataset,
    choose_threshold,
    classifier_from,
    message_logits,
    scores,
    train_only,
)
from shared.files import landing, seal, sha256
from shared.finite import checked_loss
from shared.gpt_model import GPTModel
from shared.guards import evaluation_mode
from shared.pretraining import initialize

OUT = Path(__file__).parent / "compare.csv"
SEEDS = (123, 124, 125, 126, 127)
KEYWORDS = (
    r"free|win|won|winner|prize|claim|urgent|cash|offer|click|deal|loan|reply|stop|txt|guaranteed"
)
DRAWS = 2_000


class Data:
    """The messages by part, and what every row needs with them."""

    def __init__(self):
        self.table, self.tokenizer = editions.messages(), encodings.tokenizer(first=True)
        self.pretrained, self.cfg = models.pretrained(first=True)
        by_length = self.table.sort_values("text", key=lambda texts: texts.str.len(), kind="stable")
        self.parts = dict(list(by_length.groupby("split")))  # batches with little padding
        self.pad = self.tokenizer.eot_token
        self.labels = {
            name: torch.tensor((part.label == "spam").to_numpy()).long()
            for name, part in self.parts.items()
        }


# --- baselines: probabilities of spam for validation and test -------------------------------------


def majority(data: Data, seed: int) -> list[torch.Tensor]:
    share = data.labels["train"].float().mean()
    return [share.expand(len(data.parts[part])) for part in ("validation", "test")]


def keyword_rule(data: Data, seed: int) -> list[torch.Tensor]:
    """Spam where one of some words occurs, a link, or a sum of money."""
    rule = re.compile(rf"\b({KEYWORDS})\b|https?:|www\.|\.(com|net|org|test|example)\b|[£$€]", re.I)
    return [
        torch.tensor([float(bool(rule.search(text))) for text in data.parts[part].text])
        for part in ("validation", "test")
    ]


def logistic_regression(features) -> Callable:
    """Its one setting, the penalty, is chosen by cross-validation within the training part."""

    @functools.cache  # the other rows are compared with it
    def run(data: Data, seed: int) -> list[torch.Tensor]:
        model = GridSearchCV(
            make_pipeline(features(), LogisticRegression(max_iter=3_000)),
            {"logisticregression__C": [1, 10, 100]},
            scoring="average_precision",
            cv=3,
        )
        model.fit(data.parts["train"].text, data.labels["train"].numpy())
        return [
            torch.tensor(model.predict_proba(data.parts[part].text)[:, 1])
            for part in ("validation", "test")
        ]

    return run


def words_and_characters():
    return make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b|[£$!?]"),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
    )


# --- course-gpt, fine-tuned -----------------------------------------------------------------------


def at_first_token(batch, model, device, pad):
    """The first token's place."""
    return model(batch[:, :1])[:, 0].float()  # it sees no other


def at_last_position(batch, model, device, pad):
    """The last of as many positions as the longest message has: padding, in nearly all."""
    return model(batch)[:, -1].float()


def fine_tuned(part: str, epochs: int = make_spam_gpt.LABELS["epochs"], peak: float = make_spam_gpt.LABELS["peak"],
               start: str = "pretrained", read: Callable = message_logits) -> Callable:  # fmt: skip
    def run(data: Data, seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        model = data.pretrained
        if start == "random":
            initialize(model := GPTModel(data.cfg))
        elif start == "read":
            model, _ = make_spam_gpt.read_on(
                model, data.cfg, data.parts["train"].text, data.tokenizer
            )
            torch.manual_seed(seed)
        classifier = classifier_from(model, data.cfg | {"drop_rate": make_spam_gpt.DROPOUT})
        train_only(classifier, part)

        def loss_of(batch):
            logits = read(batch[0], classifier, "cpu", data.pad)
            return checked_loss(F.cross_entropy(logits, batch[1]))

        most = data.cfg["context_length"]
        loader = make_spam_gpt.loader_of(data.parts["train"], data.tokenizer, most, shuffled=True)
        make_spam_gpt.train(classifier, loader, loss_of, epochs, peak)
        found = []
        for name in ("validation", "test"):
            longest = loader.dataset.max_length
            dataset = SpamDataset(data.parts[name], data.tokenizer, longest, data.pad)
            with evaluation_mode(classifier), torch.no_grad():
                logits = [
                    read(batch, classifier, "cpu", data.pad)
                    for batch, _ in DataLoader(dataset, batch_size=64)
                ]
            found.append(torch.cat(logits).softmax(dim=-1)[:, 1])
        return found

    return run


# name: (how to get probabilities, how many seeds)
ROWS = {
    "majority": (majority, 1),
    "keyword rule": (keyword_rule, 1),
    "bag of words": (logistic_regression(TfidfVectorizer), 1),
    "words and characters": (logistic_regression(words_and_characters), 1),
    "head only": (fine_tuned("head", epochs=6, peak=1e-2), 5),
    "last block": (fine_tuned("last block", epochs=4, peak=2e-3), 5),
    "all layers": (fine_tuned("all"), 5),
    "all layers, random weights": (fine_tuned("all", start="random"), 5),
    "read on, all layers": (fine_tuned("all", start="read"), 3),
    "last block, first token": (
        fine_tuned("last block", epochs=4, peak=2e-3, read=at_first_token),
        3,
    ),
    "last block, last position": (
        fine_tuned("last block", epochs=4, peak=2e-3, read=at_last_position),
        3,
    ),
}


# --- scores ---------------------------------------------------------------------------------------


def f1(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Of each row of draws, `(draws, N)` twice."""
    found = (labels & predicted).sum(axis=-1)
    return 2 * found / np.maximum(1, labels.sum(axis=-1) + predicted.sum(axis=-1))


def scored(labels, spam, threshold: float, rivals: dict[str, np.ndarray]) -> dict:
    """Scores of one set of messages, with intervals, and how often each rival's F1 is below this one's."""
    predicted = (spam >= threshold).long()
    found = scores(labels, predicted)
    draws = np.random.default_rng(123).integers(len(labels), size=(DRAWS, len(labels)))
    true, said = (array.numpy().astype(bool)[draws] for array in (labels, predicted))
    drawn = {"accuracy": (true == said).mean(axis=-1), "F1": f1(true, said)}
    for name, values in drawn.items():
        low, high = np.quantile(values, (0.025, 0.975))
        found |= {f"{name}_low": low, f"{name}_high": high}
    for name, other in rivals.items():
        found[f"F1 above {name}"] = (drawn["F1"] > f1(true, other[draws])).mean()
    found["average_precision"] = average_precision_score(labels, spam)
    found["accuracy_at_half"] = scores(labels, (spam >= 0.5).long())["accuracy"]
    return {name: round(float(value), 4) for name, value in found.items()}


def compare(out: Path, rows: dict, data: Data) -> pd.DataFrame:
    """The table, completed and written after each row. ValueError if it is of another model or other messages."""
    model = editions.choice("COURSE_MODEL")
    stored = (models.FIRST_GPT / files.WEIGHTS).read_bytes() if model == "course-gpt" else b""
    messages = repr(data.table.values.tolist()).encode()
    sha = {
        "checkpoint": sha256(stored)[:12] if stored else model,
        "messages": sha256(messages)[:12],
    }
    table = pd.read_csv(out, dtype=dict.fromkeys(sha, str)) if out.exists() else pd.DataFrame()
    for name, digest in sha.items():
        if len(table) and set(table[name]) != {digest}:
            raise ValueError(f"{out} is of other {name}: delete it, or give another --out")
    hard = torch.tensor(data.parts["test"].hard.to_numpy())
    cases = {"all": torch.ones_like(hard), "hard": hard} if hard.any() else {"all": ~hard}
    order = {name: place for place, name in enumerate(ROWS)}
    rivals = {}
    for name in ("bag of words", "words and characters"):
        validation, test = ROWS[name][0](data, SEEDS[0])
        threshold = choose_threshold(data.labels["validation"], validation)
        rivals[name] = (test >= threshold).numpy()
    for name, (run, seeds) in rows.items():
        for seed in SEEDS[:seeds]:
            if len(table) and ((table.row == name) & (table.seed == seed)).any():
                continue
            print(f"--- {name}, seed {seed}", flush=True)
            begun = time.monotonic()
            validation, test = run(data, seed)
            spent = time.monotonic() - begun
            threshold = choose_threshold(data.labels["validation"], validation)
            lines = [
                {"row": name, "seed": seed, "cases": kind}
                | scored(
                    data.labels["test"][chosen],
                    test[chosen],
                    threshold,
                    {k: v[chosen.numpy()] for k, v in rivals.items() if k != name},
                )
                | {"threshold": round(threshold, 4), "seconds": round(spent)}
                | sha
                | {"torch": torch.__version__, "scikit_learn": sklearn.__version__}
                for kind, chosen in cases.items()
            ]
            print(pd.DataFrame(lines).iloc[:, 2:11].to_string(index=False), flush=True)
            table = pd.concat([table, pd.DataFrame(lines)], ignore_index=True)
            table = table.sort_values("row", key=lambda names: names.map(order), kind="stable")
            with landing(out) as file:
                file.write(table.to_csv(index=False, lineterminator="\n").encode())
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the table to write or complete")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    options = parser.parse_args(arguments)
    with program.in_one_line("compare_classifiers", "with what is missing", AssetError):
        table = compare(options.out, {name: ROWS[name] for name in options.rows}, Data())
        seal(options.out)
    shown = ["accuracy", "precision", "recall", "F1", "average_precision"]
    print(table.groupby(["cases", "row"], sort=False)[shown].agg(["mean", "std"]).round(3))


if __name__ == "__main__":
    main()
