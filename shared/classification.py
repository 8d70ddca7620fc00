"""Chapter 6: classification. Promoted from ch06_classification/ch06.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from shared.gpt_model import GPTModel, check_ids, evaluation_mode
from shared.pretraining import load_checkpoint, save_checkpoint

__all__ = ["CLASSES", "read_messages", "create_balanced_dataset", "random_split",
    "SpamDataset", "classifier_from", "train_only", "last_real_token", "message_logits",
    "calc_class_loss_batch", "loader_logits", "calc_loss_and_accuracy",
    "calc_accuracy_loader", "train_classifier_simple", "plot_values",
    "confusion_matrix", "scores", "choose_threshold", "balanced_class_weights",
    "spam_probability", "classify_review"]  # fmt: skip


# ch06.ipynb: read-messages
CLASSES = {"ham": 0, "spam": 1, "0": 0, "1": 1}


def read_messages(source):
    """The messages of a CSV file or a DataFrame, checked: label (0 ham, 1 spam), text, and other columns.

    The book's Label and Text do as well. ValueError: a column is missing, a label unknown, a message
    empty, or one class alone.
    """
    table, name = source, "the table"
    if not isinstance(source, pd.DataFrame):
        as_text = dict.fromkeys(["label", "text", "Label", "Text"], str)
        table, name = pd.read_csv(source, dtype=as_text, keep_default_na=False), source
    table = table.rename(columns={"Label": "label", "Text": "text"})
    for column in ("label", "text"):
        if column not in table:
            has = ", ".join(map(str, table.columns))
            raise ValueError(f"{name} has no column {column!r}; its columns are {has}")
    labels = table["label"].astype(str).map(CLASSES)
    for i, (label, text) in enumerate(zip(table["label"], table["text"]), start=1):
        if str(label) not in CLASSES:
            raise ValueError(f"{name}, message {i}: unknown label {label!r}; ham or spam (0 or 1)")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name}, message {i}: the text is empty; delete the line, or mend it")
    if labels.nunique() < 2:
        raise ValueError(f"{name} needs messages of both classes, ham and spam, to tell them apart")
    return table.assign(label=labels.astype(int))


# ch06.ipynb: create-balanced-dataset
def create_balanced_dataset(df):
    """As many messages of each class as the smaller class has; the others are drawn at random."""
    df = read_messages(df)
    count = df["label"].value_counts().min()
    classes = [part for _, part in df.groupby("label")]
    return pd.concat([c if len(c) == count else c.sample(count, random_state=123) for c in classes])


# ch06.ipynb: random-split
def random_split(df, train_frac, validation_frac):
    """Three tables drawn at random: training, validation, test. Equal texts stay together in one of them.

    ValueError unless the fractions leave something for the test.
    """
    if not (train_frac > 0 and validation_frac >= 0 and train_frac + validation_frac < 1):
        raise ValueError(f"nothing is left for the test: {train_frac} and {validation_frac}")
    df = read_messages(df).sample(frac=1, random_state=123).reset_index(drop=True)
    first = df.index.to_series().groupby(df["text"]).transform("min")  # a text's first place
    train_end = int(len(df) * train_frac)
    validation_end = train_end + int(len(df) * validation_frac)
    in_train, in_test = first < train_end, first >= validation_end
    return df[in_train], df[~in_train & ~in_test], df[in_test]


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
        self.encoded_texts = [one + [pad_token_id] * (self.max_length - len(one)) for one in short]
        self.labels = self.data["label"].tolist()

    def __getitem__(self, index):
        return torch.tensor(self.encoded_texts[index]), torch.tensor(self.labels[index])

    def __len__(self):
        return len(self.data)


# ch06.ipynb: classifier-from
def classifier_from(model, cfg, num_classes=2):
    """A copy of a GPT with a new head, `(B, T) -> (B, T, num_classes)`; its embedding is shared no more."""
    classifier = GPTModel(cfg | {"tie_weights": False})
    classifier.load_state_dict(model.state_dict())
    classifier.out_head = nn.Linear(cfg["emb_dim"], num_classes)
    return classifier


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


# ch06.ipynb: last-real-token
def last_real_token(input_batch, pad_token_id):
    """The place of each message's last token that is not padding: `(B, T) -> (B,)`; ValueError if none."""
    places = torch.arange(input_batch.shape[1], device=input_batch.device)
    last = places.where(input_batch != pad_token_id, -1).amax(dim=1)
    if (last < 0).any():
        raise ValueError(f"message {(last < 0).int().argmax()} of the batch is nothing but padding")
    return last


def message_logits(input_batch, model, device, pad_token_id=50256):
    """Logits of each message, read at its last real token: `(B, T) -> (B, classes)`, float32.

    ValueError for messages beyond the context, and for a padding token that the model does not have.
    """
    input_batch = input_batch.to(device)
    check_ids(input_batch, 0, model.pos_emb.num_embeddings)
    if not 0 <= pad_token_id < (V := model.tok_emb.num_embeddings):
        raise ValueError(f"pad_token_id is {pad_token_id}; here IDs end at {V - 1}")
    last = last_real_token(input_batch, pad_token_id)
    logits = model(input_batch[:, : last.max() + 1])  # what follows is padding in every message
    return logits[torch.arange(len(last)), last].float()


# ch06.ipynb: calc-class-loss-batch
def calc_class_loss_batch(input_batch, target_batch, model, device, pad_token_id=50256,
                          *, class_weights=None):  # fmt: skip
    """Cross-entropy of an average message, each times the weight of its class: `(B, T), (B,) -> ()`."""
    targets = target_batch.to(device)
    logits = message_logits(input_batch, model, device, pad_token_id)  # (B, classes)
    losses = F.cross_entropy(logits, targets, reduction="none")  # (B,)
    return losses.mean() if class_weights is None else (losses * class_weights[targets]).mean()


# ch06.ipynb: loader-logits
@torch.no_grad()
def loader_logits(data_loader, model, device, num_batches=None, *, pad_token_id=50256):
    """All messages of a loader, or of its first batches: labels `(N,)`, logits `(N, classes)`; no dropout."""
    found = []
    with evaluation_mode(model):
        for inputs, labels in itertools.islice(data_loader, num_batches):
            found.append((labels, message_logits(inputs, model, device, pad_token_id).cpu()))
    return tuple(map(torch.cat, zip(*found)))


# ch06.ipynb: calc-loss-and-accuracy
def calc_loss_and_accuracy(data_loader, model, device, num_batches=None, *, pad_token_id=50256):
    """Cross-entropy in nats of an average message of a loader, and the share that the model gets right."""
    options = {"num_batches": num_batches, "pad_token_id": pad_token_id}
    labels, logits = loader_logits(data_loader, model, device, **options)
    right = (logits.argmax(dim=-1) == labels).float()
    return F.cross_entropy(logits, labels).item(), right.mean().item()


def calc_accuracy_loader(data_loader, model, device, num_batches=None, *, pad_token_id=50256):
    """The share of a loader's messages, or of those in its first batches, that the model gets right."""
    options = {"num_batches": num_batches, "pad_token_id": pad_token_id}
    return calc_loss_and_accuracy(data_loader, model, device, **options)[1]


# ch06.ipynb: train-classifier-simple
def train_classifier_simple(model, train_loader, val_loader, optimizer, device, num_epochs,
                            eval_freq, eval_iter, *, pad_token_id=50256, class_weights=None,
                            checkpoint=None):  # fmt: skip
    """Train. Lists: training and validation losses every eval_freq steps, accuracies each epoch; messages seen.

    Each epoch ends with a save to the file `checkpoint`, if given; a run that finds it goes on from there.
    """
    log = {"losses": [], "accuracies": [], "seen": 0, "steps": 0, "epochs": 0}
    if checkpoint and Path(checkpoint).exists():
        log = load_checkpoint(checkpoint, model, optimizer)

    def evaluate():
        rest = {"num_batches": eval_iter, "pad_token_id": pad_token_id}
        both = (train_loader, val_loader)
        return zip(*[calc_loss_and_accuracy(loader, model, device, **rest) for loader in both])

    for epoch in range(log["epochs"], num_epochs):
        model.train()
        for batch in train_loader:
            optimizer.zero_grad()
            weighted = {"pad_token_id": pad_token_id, "class_weights": class_weights}
            calc_class_loss_batch(*batch, model, device, **weighted).backward()
            optimizer.step()
            log["seen"] += len(batch[0])
            if log["steps"] % eval_freq == 0:
                losses, _ = evaluate()
                log["losses"].append(losses)
                step = f"Ep {epoch + 1} (Step {log['steps']:06d})"
                print(f"{step}: Train loss {losses[0]:.3f}, Val loss {losses[1]:.3f}")
            log["steps"] += 1
        _, accuracies = evaluate()
        log["accuracies"].append(accuracies)
        print(f"Training accuracy: {accuracies[0]:.2%} | Validation accuracy: {accuracies[1]:.2%}")
        log["epochs"] += 1
        if checkpoint:
            save_checkpoint(checkpoint, model, optimizer, **log)
    return *map(list, zip(*log["losses"])), *map(list, zip(*log["accuracies"])), log["seen"]


# ch06.ipynb: plot-values
def plot_values(epochs_seen, examples_seen, train_values, val_values, label="loss"):
    """A figure of training and validation values against epochs (below) and messages seen (above)."""
    fig, ax = plt.subplots(figsize=(6.6, 3.6))
    ax.plot(epochs_seen, train_values, "-", label="training")
    ax.plot(epochs_seen, val_values, "--", label="validation")
    ax.set(xlabel="epochs", ylabel=label)
    ax.legend(frameon=False)
    n = examples_seen[-1] / epochs_seen[-1]
    scale = (lambda x: x * n, lambda x: x / n)
    ax.secondary_xaxis("top", functions=scale, xlabel="messages seen")
    return fig


# ch06.ipynb: confusion-matrix
def confusion_matrix(labels, predicted):
    """How often class i was taken for class j: `(N,), (N,) -> (2, 2)`; a row for each true class."""
    return (2 * labels + predicted).bincount(minlength=4).view(2, 2)


def scores(labels, predicted):
    """Accuracy, and for spam (class 1) precision, recall and F1; precision is nan if nothing was called spam."""
    (_, wrong_alarms), (missed, found) = confusion_matrix(labels, predicted).tolist()
    return {
        "accuracy": (labels == predicted).float().mean().item(),
        "precision": found / (found + wrong_alarms) if found + wrong_alarms else float("nan"),
        "recall": found / (found + missed) if found + missed else float("nan"),
        "F1": 2 * found / max(1, 2 * found + wrong_alarms + missed),
    }


# ch06.ipynb: choose-threshold
def choose_threshold(labels, spam_probabilities):
    """The threshold with the highest F1 on these messages, which must not be the test's; `(N,), (N,) -> float`.

    Candidates lie midway between neighbouring probabilities; of equals the one nearest 0.5 is taken.
    """
    values = spam_probabilities.unique().double()  # sorted
    candidates = torch.cat([(values[1:] + values[:-1]) / 2, values.new_tensor([0.5])]).tolist()

    def merit(threshold):
        found = scores(labels, (spam_probabilities >= threshold).long())["F1"]
        return found, -abs(threshold - 0.5)

    return max(candidates, key=merit)


# ch06.ipynb: balanced-class-weights
def balanced_class_weights(labels):
    """A weight for each class, the larger the rarer it is; over all messages they average 1: `(N,) -> (2,)`."""
    return len(labels) / (2 * torch.as_tensor(labels).bincount(minlength=2))


# ch06.ipynb: spam-probability
def spam_probability(text, model, tokenizer, device, max_length=None, pad_token_id=50256):
    """The probability, 0 to 1, that a message is spam; it is cut to max_length and to the model's context.

    ValueError for an empty message.
    """
    if not text.strip():
        raise ValueError("the message is empty: there is nothing to classify")
    context = model.pos_emb.num_embeddings
    ids = torch.tensor([tokenizer.encode_ordinary(text)])[:, : min(max_length or context, context)]
    with evaluation_mode(model), torch.no_grad():
        return message_logits(ids, model, device, pad_token_id).softmax(dim=-1)[0, 1].item()


def classify_review(text, model, tokenizer, device, max_length=None, pad_token_id=50256,
                    *, threshold=0.5):  # fmt: skip
    """Says "spam" where the model's probability of spam reaches the threshold, else "not spam"."""
    p = spam_probability(text, model, tokenizer, device, max_length, pad_token_id)
    return "spam" if p >= threshold else "not spam"
