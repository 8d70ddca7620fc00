"""The classifiers that compare_classifiers.py compares: how each is fitted, and what it says of texts.

A row's `fit(data, known, seed)` returns a function from texts to margins, `(N,)`: the logit of spam minus that of ham.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import make_spam_gpt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from torch import nn

from shared import editions, encodings, models
from shared.classification import (
    classifier_from,
    message_logits,
    train_only,
)
from shared.finite import checked_loss
from shared.gpt_model import GPTModel
from shared.guards import evaluation_mode
from shared.pretraining import initialize

EIGHTHS = 8  # of training and validation messages; run k leaves out the k-th
SEEDS = (123, 124, 125, 126, 127)
KEYWORDS = (
    r"free|win|won|winner|prize|claim|urgent|cash|offer|click|deal|loan|reply|stop|txt|guaranteed"
)
CPU = "cpu"


class Data:
    """The messages, those of training and validation with the eighth in which each stands, and the model."""

    def __init__(self):
        self.table, self.tokenizer = editions.messages(), encodings.tokenizer()
        self.pretrained, self.cfg = models.pretrained()
        self.pad = self.tokenizer.eot_token
        self.known = eighths(self.table[self.table.split != "test"])
        self.development = self.table[self.table.split == "test"]

    def without(self, run: int) -> pd.DataFrame:
        """What run number `run` learns from, in the order of the file; run 0 from the part `train`."""
        return self.known[self.known.eighth != run]

    def left_out(self, run: int) -> pd.DataFrame:
        return self.known[self.known.eighth == run]


def eighths(known: pd.DataFrame) -> pd.DataFrame:
    """The messages with a column `eighth`: 0 for the part `validation`, 1 to 7 drawn, each with its share of every kind."""
    draw, eighth = np.random.default_rng(123), pd.Series(0, known.index)
    for _, group in known[known.split == "train"].groupby(["label", "hard"]):
        eighth[group.index] = 1 + draw.permutation(len(group)) % (EIGHTHS - 1)
    return known.assign(eighth=eighth)


def is_spam(messages: pd.DataFrame) -> torch.Tensor:
    return torch.tensor((messages.label == "spam").to_numpy()).long()


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


# --- baselines ------------------------------------------------------------------------------------


def majority(data: Data, known: pd.DataFrame, seed: int) -> Callable:
    """The share of spam, whatever the message."""
    share = is_spam(known).float().mean().item()
    return lambda texts: np.full(len(texts), logit(share))


def keyword_rule(data: Data, known: pd.DataFrame, seed: int) -> Callable:
    """Spam where one of some words occurs, a link, or a sum of money."""
    rule = re.compile(rf"\b({KEYWORDS})\b|https?:|www\.|\.(com|net|org|test|example)\b|[£$€]", re.I)
    return lambda texts: np.array([1.0 if rule.search(text) else -1.0 for text in texts])


def counted(pipeline: Callable) -> Callable:
    """Logistic regression on what `pipeline()` counts."""

    def fit(data: Data, known: pd.DataFrame, seed: int) -> Callable:
        return pipeline().fit(known.text, is_spam(known).numpy()).decision_function

    return fit


def bag_of_words():
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=3_000))


def words_and_characters():
    """As in the lesson, which explains it."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b|[£$!?]")
    runs = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    return make_pipeline(make_union(words, runs), LogisticRegression(C=10, max_iter=3_000))


# --- course-gpt -----------------------------------------------------------------------------------


def body_of(data: Data, start: str, seed: int):
    """The model that a row starts from: the pretrained one, or one with random weights."""
    torch.manual_seed(seed)
    if start == "pretrained":
        return data.pretrained
    initialize(model := GPTModel(data.cfg))
    return model


def in_batches(texts, data: Data, width: int, read: Callable) -> torch.Tensor:
    """What `read` makes of texts, cut or padded to `width` tokens, in batches of like length: `(N, ...)`."""
    rows = [data.tokenizer.encode_ordinary(text)[:width] for text in texts]
    order, found = sorted(range(len(rows)), key=lambda i: len(rows[i])), []
    for part in (order[i : i + 64] for i in range(0, len(order), 64)):
        batch = torch.tensor([rows[i] + [data.pad] * (width - len(rows[i])) for i in part])
        with torch.no_grad(), make_spam_gpt.autocast():
            found.append(read(batch))
    found = torch.cat(found)
    return torch.empty_like(found).index_copy(0, torch.tensor(order), found)


def head_alone(start: str = "pretrained") -> Callable:
    """Logistic regression on the vectors of a frozen body."""

    def fit(data: Data, known: pd.DataFrame, seed: int) -> Callable:
        body = classifier_from(body_of(data, start, seed), data.cfg).eval()
        body.out_head = nn.Identity()

        def vectors(texts):
            def read(ids):
                return message_logits(ids, body, CPU, data.pad)

            return in_batches(texts, data, data.cfg["context_length"], read).numpy()

        head = LogisticRegression(C=0.1, max_iter=3_000)
        head.fit(vectors(known.text), is_spam(known).numpy())
        return lambda texts: head.decision_function(vectors(texts))

    return fit


def at_first_token(batch, model, device, pad):
    """The first token's place."""
    return model(batch[:, :1])[:, 0].float()  # it sees no other


def at_last_position(batch, model, device, pad):
    """The last of as many positions as the longest message has: padding, in nearly all."""
    return model(batch)[:, -1].float()


class FineTuned:
    """A fine-tuned classifier as a function from texts to margins; `width`: what its batches are padded to."""

    def __init__(self, data: Data, model, read: Callable, width: int):
        self.data, self.model, self.read, self.width = data, model, read, width

    def __call__(self, texts) -> np.ndarray:
        def read(ids):
            return self.read(ids, self.model, CPU, self.data.pad)

        with evaluation_mode(self.model):
            logits = in_batches(texts, self.data, self.width, read)
        return (logits[:, 1] - logits[:, 0]).double().numpy()


def fine_tuned(part: str, epochs: int = make_spam_gpt.LABELS["epochs"], peak: float = make_spam_gpt.LABELS["peak"],
               start: str = "pretrained", read: Callable = message_logits) -> Callable:  # fmt: skip
    """`start` is pretrained, random, or read: the pretrained model first reads the messages, without labels."""

    def fit(data: Data, known: pd.DataFrame, seed: int, body=None, epochs: int = epochs):
        model = body or body_of(data, "random" if start == "random" else "pretrained", seed)
        if start == "read" and body is None:
            model, _ = make_spam_gpt.read_on(model, data.cfg, known.text, data.tokenizer)
        torch.manual_seed(seed)
        classifier = classifier_from(model, data.cfg | {"drop_rate": make_spam_gpt.DROPOUT})
        train_only(classifier, part)

        def loss_of(batch):
            logits = read(batch[0], classifier, CPU, data.pad)
            return checked_loss(F.cross_entropy(logits, batch[1]))

        most = data.cfg["context_length"]
        loader = make_spam_gpt.loader_of(known, data.tokenizer, most, shuffled=True)
        make_spam_gpt.train(classifier, loader, loss_of, epochs, peak)
        width = loader.dataset.max_length if read is at_last_position else most
        return FineTuned(data, classifier, read, width)

    return fit


@dataclass
class Row:
    """How a row is fitted, how many runs it has, and its number of epochs and highest learning rate, if it has any."""

    fit: Callable
    runs: int
    epochs: float = float("nan")
    peak: float = float("nan")


def trained(part: str, runs: int, epochs: int, peak: float, **options) -> Row:
    return Row(fine_tuned(part, epochs, peak, **options), runs, epochs, peak)


SHIPPED = {name: make_spam_gpt.LABELS[name] for name in ("epochs", "peak")}
RIVAL = "words and characters"
ROWS = {
    "majority": Row(majority, 1),
    "keyword rule": Row(keyword_rule, 1),
    "bag of words": Row(counted(bag_of_words), 5),
    RIVAL: Row(counted(words_and_characters), 5),
    "head alone": Row(head_alone(), 5),
    "head alone, random weights": Row(head_alone("random"), 5),
    "last block": trained("last block", 3, 4, 2e-3),
    "all layers": trained("all", 5, 2, 6e-4),  # the lesson's own run
    "all layers, random weights": trained("all", 3, 3, 6e-4, start="random"),
    "read on, all layers": trained("all", 5, **SHIPPED, start="read"),
    "last block, first token": trained("last block", 3, 4, 2e-3, read=at_first_token),
    "last block, last position": trained("last block", 3, 4, 2e-3, read=at_last_position),
}
# margins of two rows, run by run, added; or of all their runs
ADDED = {
    f"all layers + {RIVAL}": ("all layers", RIVAL, False),
    f"read on + {RIVAL}": ("read on, all layers", RIVAL, False),
    f"five read on + {RIVAL}": ("read on, all layers", RIVAL, True),
}
