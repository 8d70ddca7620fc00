"""Chapter 6: classification. Promoted from ch06_classification/ch06.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import itertools

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, Sampler

from shared import texts
from shared.finite import checked_loss, finite, finite_logits, same_length, whole_number
from shared.gpt_model import GPTModel
from shared.guards import check_ids, evaluation_mode
from shared.pretraining import (
    plot_losses,
)

__all__ = ["CLASSES", "read_messages", "average_precision", "create_balanced_dataset",
    "random_split", "SpamDataset", "BatchesByLength", "classifier_from",
    "last_real_token", "message_logits", "train_only", "calc_class_loss_batch",
    "loader_logits", "calc_accuracy_loader", "calc_class_loss_loader",
    "balanced_class_weights", "train_step", "train_classifier_simple", "plot_values",
    "confusion_matrix", "scores", "choose_threshold", "spam_probability",
    "classify_review"]  # fmt: skip


# ch06.ipynb: read-messages
CLASSES = {"ham": 0, "spam": 1, "0": 0, "1": 1}


def read_messages(source):
    """The messages of a CSV file or table, as columns label (0 ham, 1 spam) and text, and any others.

    ValueError: a column is missing, a label unknown, a text empty, a class absent, a file unreadable.
    """
    table, name = texts.as_table(source, ("label", "text", "Label", "Text"))
    table = table.rename(columns={"Label": "label", "Text": "text"})  # the book's names
    texts.check_messages(table, name, CLASSES)
    return table.assign(label=table["label"].astype(str).map(CLASSES).astype(int))


# ch06.ipynb: average-precision
def average_precision(labels, scores, counts=None):
    """The mean, over spam messages, of the share of spam among all that score as high: `(N,), (N,) -> ()`."""
    as_high = (finite(scores, "a score") >= scores[:, None]).float()  # (N, N)
    counts = torch.ones(len(scores)) if counts is None else counts  # of D draws: (D, N) -> (D,)
    spam = counts * labels
    precision = spam @ as_high.T / (counts @ as_high.T).clamp(min=1)
    return (precision * spam).sum(dim=-1) / spam.sum(dim=-1)


# ch06.ipynb: create-balanced-dataset
def create_balanced_dataset(df):
    """As many messages of each class as the smaller class has; the others are drawn at random."""
    df = read_messages(df)
    count = df["label"].value_counts().min()
    classes = [part for _, part in df.groupby("label")]
    return pd.concat([c if len(c) == count else c.sample(count, random_state=123) for c in classes])


# ch06.ipynb: random-split
def random_split(df, train_frac, validation_frac):
    """Training, validation and test messages, drawn at random; equal texts stay together in one part."""
    if not (train_frac > 0 and validation_frac >= 0 and train_frac + validation_frac < 1):
        raise ValueError(f"nothing is left for the test: {train_frac} and {validation_frac}")
    df = read_messages(df).reset_index(drop=True)
    once = df["text"].drop_duplicates().sample(frac=1, random_state=123).tolist()
    place = df["text"].map({text: i for i, text in enumerate(once)}).sort_values(kind="stable")
    df = df.loc[place.index].reset_index(drop=True)
    train_end = int(len(once) * train_frac)
    validation_end = train_end + int(len(once) * validation_frac)
    first, second = place.searchsorted([train_end, validation_end])
    texts.check_parts(first, second - first if validation_frac else None, len(df) - second)
    return df[:first], df[first:second], df[second:]


# ch06.ipynb: spam-dataset
class SpamDataset(Dataset):
    """Messages as IDs of one length, `(T,)`, with their labels, `()`: cut or padded at the end.

    From a CSV file or a DataFrame, see `read_messages`. Without `max_length` T is that of the longest message.
    """

    def __init__(self, csv_file, tokenizer, max_length=None, pad_token_id=50256):
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length is {max_length}; it must be at least 1")
        self.data = read_messages(csv_file)
        # as ordinary text: no message can contain the padding token, whatever it says
        ids = [tokenizer.encode_ordinary(text) for text in self.data["text"]]
        self.max_length = max_length or max(map(len, ids))
        short = [one[: self.max_length] for one in ids]
        self.lengths = [len(one) for one in short]
        self.encoded_texts = [one + [pad_token_id] * (self.max_length - len(one)) for one in short]
        self.labels = self.data["label"].tolist()

    def __getitem__(self, index):
        return torch.tensor(self.encoded_texts[index]), torch.tensor(self.labels[index])

    def __len__(self):
        return len(self.data)


# ch06.ipynb: batches-by-length
class BatchesByLength(Sampler):
    """For a DataLoader's batch_sampler: messages of like length together, the batches in random order."""

    def __init__(self, lengths, batch_size):
        self.lengths, self.batch_size = torch.as_tensor(lengths), batch_size

    def __iter__(self):
        mixed = self.lengths + 4 * torch.rand(len(self.lengths))  # other neighbors in each epoch
        batches = mixed.argsort().split(self.batch_size)
        return (batches[i].tolist() for i in torch.randperm(len(batches)))

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)


# ch06.ipynb: classifier-from
def classifier_from(model, cfg, num_classes=2):
    """A copy of a GPT with a new head, `(B, T) -> (B, T, num_classes)`; its embedding is shared no more."""
    classifier = GPTModel(cfg | {"tie_weights": False})
    classifier.load_state_dict(model.state_dict())
    classifier.out_head = nn.Linear(cfg["emb_dim"], num_classes)
    return classifier


# ch06.ipynb: last-real-token
def last_real_token(input_batch, pad_token_id):
    """The place of each message's last token that is not padding: `(B, T) -> (B,)`; ValueError if none."""
    places = torch.arange(input_batch.shape[1], device=input_batch.device)
    last = places.where(input_batch != pad_token_id, -1).amax(dim=1)
    if (last < 0).any():
        raise ValueError(f"message {(last < 0).int().argmax()} of the batch is nothing but padding")
    return last


# ch06.ipynb: message-logits
def message_logits(input_batch, model, device, pad_token_id=50256):
    """Logits at each message's last real token, `(B, T) -> (B, classes)`; ValueError for unfit IDs."""
    input_batch = input_batch.to(device)
    check_ids(input_batch, 0, model.pos_emb.num_embeddings)
    if not 0 <= pad_token_id < (V := model.tok_emb.num_embeddings):
        raise ValueError(f"pad_token_id is {pad_token_id}; this model's IDs end at {V - 1}")
    last = last_real_token(input_batch, pad_token_id)
    torch.clear_autocast_cache()  # it may hold copies of weights as they were some steps ago
    logits = model(input_batch[:, : last.max() + 1])  # what follows is padding in every message
    return finite_logits(logits[torch.arange(len(last)), last]).float()


# ch06.ipynb: train-only
def train_only(model, part):
    """Freeze all but the "head", or the "last block" (with final norm and head); "all" freezes nothing."""
    tail = [model.trf_blocks[-1], model.final_norm, model.out_head]
    parts = {"head": [model.out_head], "last block": tail, "all": [model]}
    if part not in parts:
        raise ValueError(f"cannot train only {part!r}; there are {', '.join(parts)}")
    model.requires_grad_(False)
    for trained in parts[part]:
        trained.requires_grad_(True)


# ch06.ipynb: calc-class-loss-batch
def calc_class_loss_batch(input_batch, target_batch, model, device, pad_token_id=50256,
                          *, class_weights=None):  # fmt: skip
    """Cross-entropy of an average message, each times the weight of its class: `(B, T), (B,) -> ()`."""
    targets = target_batch.to(device)
    logits = message_logits(input_batch, model, device, pad_token_id)  # (B, classes)
    losses = F.cross_entropy(logits, targets, reduction="none")  # (B,)
    weights = 1 if class_weights is None else class_weights.to(targets.device)[targets]
    return checked_loss((losses * weights).mean())


# ch06.ipynb: loader-logits
@torch.no_grad()
def loader_logits(data_loader, model, device, num_batches=None, pad_token_id=50256):
    """Labels `(N,)` and logits `(N, classes)` of a loader's messages, or of its first batches."""
    with evaluation_mode(model), torch.random.fork_rng(devices=[]):  # a loader draws, too
        batches = itertools.islice(data_loader, num_batches)
        found = [(y, message_logits(x, model, device, pad_token_id).cpu()) for x, y in batches]
    if not found:
        raise ValueError("the loader gave no batch: there is nothing to measure")
    return tuple(map(torch.cat, zip(*found)))


# ch06.ipynb: calc-accuracy-loader
def calc_accuracy_loader(data_loader, model, device, num_batches=None, pad_token_id=50256):
    """The share of a loader's messages, or of those in its first batches, that the model gets right."""
    labels, logits = loader_logits(data_loader, model, device, num_batches, pad_token_id)
    return (logits.argmax(dim=-1) == labels).float().mean().item()


def calc_class_loss_loader(data_loader, model, device, num_batches=None, pad_token_id=50256):
    """Cross-entropy in nats of an average message of a loader, or of its first batches."""
    labels, logits = loader_logits(data_loader, model, device, num_batches, pad_token_id)
    return F.cross_entropy(logits, labels).item()


# ch06.ipynb: balanced-class-weights
def balanced_class_weights(labels):
    """A weight for each class, the larger the rarer it is; over all messages they average 1: `(N,) -> (2,)`."""
    counts = torch.as_tensor(labels).bincount(minlength=2)
    return finite(len(labels) / (2 * counts), "the weight of a class", "it has no message")


# ch06.ipynb: train-step
def train_step(batch, model, optimizer, device, pad_token_id=50256, class_weights=None, rate=None):
    """Move the weights once, by a batch's gradients, together at most 1 long; `rate`: the learning rate."""
    model.train()
    for group in optimizer.param_groups if rate is not None else ():
        group["lr"] = rate
    optimizer.zero_grad()
    options = {"pad_token_id": pad_token_id, "class_weights": class_weights}
    calc_class_loss_batch(*batch, model, device, **options).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


# ch06.ipynb: train-classifier-simple
def train_classifier_simple(model, train_loader, val_loader, optimizer, device, num_epochs, eval_freq,
        eval_iter, *, pad_token_id=50256, class_weights=None, rate_at=None):  # fmt: skip
    """Train. Lists: training and validation losses, then accuracies; last the number of messages seen."""
    losses, accuracies, examples_seen, step = [], [], 0, 0
    both, few = (train_loader, val_loader), (model, device, eval_iter, pad_token_id)
    whole_number(eval_freq, "eval_freq")
    for epoch in range(num_epochs):
        for batch in train_loader:
            rate = rate_at(step) if rate_at else None
            train_step(batch, model, optimizer, device, pad_token_id, class_weights, rate)
            examples_seen += len(batch[0])
            if step % eval_freq == 0:
                losses.append([calc_class_loss_loader(one, *few) for one in both])
                line = "Ep {} (Step {:06d}): Train loss {:.3f}, Val loss {:.3f}"
                print(line.format(epoch + 1, step, *losses[-1]))
            step += 1
        accuracies.append([calc_accuracy_loader(one, *few) for one in both])
        line = "Training accuracy: {:.2%} | Validation accuracy: {:.2%}"
        print(line.format(*accuracies[-1]))
    return *map(list, zip(*losses)), *map(list, zip(*accuracies)), examples_seen


# ch06.ipynb: plot-values
def plot_values(epochs_seen, examples_seen, train_values, val_values, label="loss"):
    """A figure of training and validation values against epochs (below) and messages seen (above)."""
    fig = plot_losses(epochs_seen, examples_seen, train_values, val_values)
    fig.axes[0].set_ylabel(label)
    fig.axes[0].child_axes[0].set_xlabel("messages seen")
    return fig


# ch06.ipynb: confusion-matrix
def confusion_matrix(labels, predicted):
    """How often class i was taken for class j, `(N,), (N,) -> (2, 2)`: a row for each true class."""
    same_length(labels, predicted)
    return (2 * labels + predicted).bincount(minlength=4).view(2, 2)


def scores(labels, predicted):
    """Accuracy; for spam precision, recall, F1. No precision (nan) where nothing was called spam."""
    (_, false_alarms), (missed, found) = confusion_matrix(labels, predicted).tolist()
    return {
        "accuracy": (labels == predicted).float().mean().item(),
        "precision": found / (found + false_alarms) if found + false_alarms else float("nan"),
        "recall": found / (found + missed) if found + missed else float("nan"),
        "F1": 2 * found / max(1, 2 * found + false_alarms + missed),
    }


# ch06.ipynb: choose-threshold
def choose_threshold(labels, probabilities):
    """The threshold with the highest F1 on these messages (not the test's!): `(N,), (N,) -> float`."""
    values = finite(probabilities, "a probability").double().unique()  # sorted
    candidates = [0.5, *((values[1:] + values[:-1]) / 2).tolist()]  # between two of them
    F1 = {t: scores(labels, (probabilities >= t).long())["F1"] for t in candidates}
    return max(candidates, key=lambda t: (F1[t], -abs(t - 0.5)))  # of equals the one nearest 0.5


# ch06.ipynb: spam-probability
def spam_probability(text, model, tokenizer, device, max_length=None, pad_token_id=50256):
    """How likely a message is spam, 0 to 1; cut where max_length says so. ValueError if empty or too long."""
    ids = tokenizer.encode_ordinary(text)[:max_length]
    texts.check_size(text, len(ids), model.pos_emb.num_embeddings)
    with evaluation_mode(model), torch.no_grad():
        logits = message_logits(torch.tensor([ids]), model, device, pad_token_id)
    return logits.softmax(dim=-1)[0, 1].item()


def classify_review(text, model, tokenizer, device, max_length=None, pad_token_id=50256,
                    *, threshold=0.5):  # fmt: skip
    """Says "spam" where the model's probability of spam reaches the threshold, else "not spam"."""
    p = spam_probability(text, model, tokenizer, device, max_length, pad_token_id)
    return "spam" if p >= threshold else "not spam"
