"""Every check of chapter 6's exercises: accepts right answers, refuses the usual wrong ones."""

import functools
import hashlib
import random
import re
import unicodedata

import notebooks
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from shared.checks import ch06 as check
from shared.classification import (
    SpamDataset,
    average_precision,
    calc_accuracy_loader,
    choose_threshold,
    last_real_token,
    message_logits,
    random_split,
    train_only,
)
from shared.guards import evaluation_mode

answers = functools.partial(notebooks.answers, "ch06_classification")


# 6.1: padding to the full context


def full_context(place="last", width=None, keep=slice(None)):
    def answer(texts, model, tokenizer, pad):
        T = width or model.pos_emb.num_embeddings
        cut = [tokenizer.encode_ordinary(text)[:T] for text in texts]
        ids = torch.tensor([one + [pad] * (T - len(one)) for one in cut])
        rows = torch.arange(len(ids))
        with torch.no_grad():
            logits = model(ids)
        last = last_real_token(ids, pad)
        after = (last + 1).clamp(max=T - 1)
        at = {"first": 0, "position": -1, "last": last, "after": after}
        if place == "mean":
            return logits.mean(dim=1)
        return logits[rows, at[place]][keep]

    return answer


def without_padding(texts, model, tokenizer, pad):
    T = model.pos_emb.num_embeddings
    ids = [torch.tensor([tokenizer.encode_ordinary(text)[:T]]) for text in texts]
    with torch.no_grad():
        return torch.cat([model(one)[:, -1] for one in ids])


def columns_cut(texts, model, tokenizer, pad):
    table = pd.DataFrame({"text": texts, "label": [i % 2 for i in range(len(texts))]})
    dataset = SpamDataset(table, tokenizer, model.pos_emb.num_embeddings, pad)
    with torch.no_grad():
        return message_logits(torch.tensor(dataset.encoded_texts), model, "cpu", pad)


def forged_padding_read(texts, model, tokenizer, pad):
    T = model.pos_emb.num_embeddings
    cut = [tokenizer.encode(text, allowed_special="all")[:T] for text in texts]
    ids = torch.tensor([one + [pad] * (T - len(one)) for one in cut])
    with torch.no_grad():
        logits = model(ids)
    return logits[torch.arange(len(ids)), torch.tensor([len(one) - 1 for one in cut])]


def padded_with(other):
    """Padded with a token of the answer's own choice, and read at the last one that is another."""

    def answer(texts, model, tokenizer, pad):
        T = model.pos_emb.num_embeddings
        cut = [tokenizer.encode_ordinary(text)[:T] for text in texts]
        ids = torch.tensor([one + [other] * (T - len(one)) for one in cut])
        last = torch.where(ids != other, torch.arange(T), 0).amax(dim=1)
        with torch.no_grad():
            return model(ids)[torch.arange(len(ids)), last]

    return answer


def probabilities(*given):
    return full_context()(*given).softmax(dim=-1)


def letters_cut(texts, model, tokenizer, pad):
    return full_context()([text[:24] for text in texts], model, tokenizer, pad)


def left_in_training(texts, model, tokenizer, pad):
    model.train()
    return full_context()(texts, model, tokenizer, pad)


def ends_kept(texts, model, tokenizer, pad):
    return full_context()([text[-24:] for text in texts], model, tokenizer, pad)


def last_tokens_kept(texts, model, tokenizer, pad):
    ends = [tokenizer.encode_ordinary(text)[-24:] for text in texts]
    return full_context()([tokenizer.decode(ids) for ids in ends], model, tokenizer, pad)


# 6.2: an optimizer for a part


def frozen_by_zero_gradients(model, part):
    train_only(model, part)
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.requires_grad_(True).register_hook(torch.zeros_like)
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


def adamw(part=None, decay=0.1, lr=1e-3):
    def answer(model, asked):
        train_only(model, part or asked)
        trained = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=lr, weight_decay=decay)

    return answer


def head_made_anew(model, part):
    torch.nn.init.normal_(model.out_head.weight)
    return adamw()(model, part)


def slow_norms(model, part):
    train_only(model, part)
    groups = [{"params": [p], "lr": 1e-4 if p.dim() < 2 else 1e-3} for p in model.parameters()]
    trained = [group for group in groups if group["params"][0].requires_grad]
    return torch.optim.AdamW(trained, weight_decay=0.1)


def everything_thawed(model, part):
    model.requires_grad_(True)
    return nothing_frozen(model, part)


def nothing_frozen(model, part):
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


def frozen_in_the_decay(model, part):
    train_only(model, part)
    return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)


def another(kind):
    def answer(model, part):
        train_only(model, part)
        return kind([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.1)

    return answer


def never_thawed(model, part):
    if part == "all":
        return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    return adamw()(model, part)


def without_the_norm(model, part):
    optimizer = adamw()(model, part)
    model.final_norm.requires_grad_(part == "all")
    return optimizer


# 6.3: the best rule by first tokens


def larger_class(first, labels):
    return max(labels.float().mean().item(), 1 - labels.float().mean().item())


def mean_over_tokens(first, labels):
    groups = [labels[first == token].float().mean().item() for token in first.unique()]
    return sum(max(share, 1 - share) for share in groups) / len(groups)


def count(first, labels):
    return answers("solutions.ipynb")["best_with_first_token"](first, labels) * len(labels)


def by_table(first, labels):
    table = pd.crosstab(first.numpy(), labels.numpy())
    return table.max(axis=1).sum() / len(labels)


# 6.4: accuracy


def accuracy(place="last", evaluation=True, restore=True, batches=False, grad=False):
    def measure(model, loader, pad):
        found = []
        for ids, labels in loader:
            last = last_real_token(ids, pad)
            at = {"first": 0, "position": -1, "last": last, "after": last + 1}[place]
            said = model(ids)[torch.arange(len(ids)), at].argmax(dim=-1)
            found.append((said == labels).float())
        if batches:
            return sum(part.mean().item() for part in found) / len(found)
        return torch.cat(found).mean().item()

    def answer(model, loader, pad):
        with torch.set_grad_enabled(grad):
            if evaluation and restore:
                with evaluation_mode(model):
                    return measure(model, loader, pad)
            return measure(model.eval() if evaluation else model, loader, pad)

    return answer


def frozen_for_good(model, loader, pad):
    model.requires_grad_(False)
    return accuracy(grad=True)(model, loader, pad)


def parts_left_in_evaluation(model, loader, pad):
    training = model.training
    found = accuracy(restore=False)(model, loader, pad)
    model.training = training
    return found


def last_batch_dropped(model, loader, pad):
    return accuracy()(model, list(loader)[:-1], pad)


# 6.5: three parts, three uses


def head(
    train=("train",), choose="validation", threshold=None, seeded=True, by_hand=False, steps=150
):
    def answer(parts):
        if seeded:
            torch.manual_seed(1)
        x, y = (torch.cat([parts[name][i] for name in train]) for i in (0, 1))
        layer = torch.nn.Linear(x.shape[1], 2)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            F.cross_entropy(layer(x), y).backward()
            optimizer.step()

        def predict(features):
            return layer(features).softmax(dim=-1)[:, 1].detach()

        if by_hand:
            layer.weight.data.zero_()
        features, labels = parts[choose]
        return predict, threshold or choose_threshold(labels, predict(features))

    return answer


def scaled_by_all(parts):
    x = torch.cat([features for features, _ in parts.values()])
    mean, std = x.mean(dim=0), x.std(dim=0)
    scaled = {name: ((features - mean) / std, y) for name, (features, y) in parts.items()}
    predict, threshold = head()(scaled)
    return lambda features: predict((features - mean) / std), threshold


def logits_returned(parts):
    predict, threshold = head()(parts)
    return lambda features: predict(features).logit(), threshold


def stopped_by(part):
    """The head is kept that did best on another part: it is used in training by that."""

    def answer(parts):
        found = [head(steps=steps)(parts) for steps in (2, 5, 20, 150)]
        x, y = parts[part]
        return min(found, key=lambda pair: F.binary_cross_entropy(pair[0](x), y.float()).item())

    return answer


def numbers_of_numpy(parts):
    rows = np.random.permutation(len(parts["train"][0]))[:400]
    return head()(parts | {"train": tuple(part[rows] for part in parts["train"])})


def centered_in_place(parts):
    for features, _ in parts.values():
        features.sub_(parts["train"][0].mean(dim=0))
    return head()(parts)


def predicts_in_place(parts):
    predict, threshold = head()(parts)
    return lambda features: predict(features.mul_(1)) * features.add_(1).isfinite()[:, 0], threshold


def by_neighbors(parts):
    predict, threshold = head()(parts)
    return lambda features: predict(features - features.mean(dim=0)), threshold


def the_other_class(parts):
    predict, threshold = head()(parts)
    return lambda features: 1 - predict(features), 1 - threshold


def chosen_on_both(parts):
    both = {"both": tuple(map(torch.cat, zip(parts["train"], parts["validation"])))}
    return head(choose="both")(parts | both)


def one_of_its_probabilities(parts):
    """Not between two probabilities, as in the lesson, but at one; a list, of double precision."""
    from sklearn.metrics import precision_recall_curve

    predict, _ = by_the_library(parts)
    features, labels = parts["validation"]
    precision, recall, at = precision_recall_curve(labels.numpy(), predict(features).numpy())
    F1 = 2 * precision * recall / (precision + recall).clip(1e-9)
    return [lambda features: predict(features).numpy(), at[F1[:-1].argmax()]]


def by_the_library(parts):
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression().fit(*map(torch.Tensor.numpy, parts["train"]))

    def predict(features):
        return torch.tensor(model.predict_proba(features.numpy())[:, 1])

    features, labels = parts["validation"]
    return predict, choose_threshold(labels, predict(features))


# 6.6: a split that holds


def split(key=lambda text: " ".join(text.lower().split()), seeded=True, drop=False, fractions=True):
    def answer(df, train_frac, validation_frac, seed):
        keys = df.text.map(key)
        if drop:
            df, keys = df[~keys.duplicated()], keys[~keys.duplicated()]
        distinct = keys.drop_duplicates().sample(frac=1, random_state=seed if seeded else 1)
        first = int(len(distinct) * (train_frac if fractions else 0.5))
        second = first + int(len(distinct) * validation_frac)
        chosen = distinct[:first], distinct[first:second], distinct[second:]
        return tuple(df[keys.isin(part)] for part in chosen)

    return answer


def by_rows(df, train_frac, validation_frac, seed):
    rows = df.sample(frac=1, random_state=seed)
    first, second = int(len(df) * train_frac), int(len(df) * (train_frac + validation_frac))
    return rows[:first], rows[first:second], rows[second:]


def keys_instead_of_texts(df, *rest):
    return split()(df.assign(text=df.text.str.lower().str.split().str.join(" ")), *rest)


def spaces(text):
    return " ".join(text.lower().split())


def shuffled(order, place=random.Random):
    """Keys in this order, then shuffled by the seed."""

    def answer(df, train_frac, validation_frac, seed):
        keys = df.text.map(spaces)
        distinct = order(keys, seed)
        if place:
            place(seed).shuffle(distinct)
        first = int(len(distinct) * train_frac)
        second = first + int(len(distinct) * validation_frac)
        chosen = distinct[:first], distinct[first:second], distinct[second:]
        return [df[keys.isin(part)] for part in chosen]

    return answer


def by_digest(keys, seed):
    """Right: the order comes from each text itself, in every process."""
    return sorted(set(keys), key=lambda k: hashlib.md5(f"{seed} {k}".encode()).hexdigest())


def by_hash(keys, seed):
    return sorted(set(keys), key=lambda k: hash(f"{seed} {k}"))


def without_accents(text):
    return unicodedata.normalize("NFKD", spaces(text)).encode("ascii", "ignore").decode()


def column_added(df, *rest):
    df["key"] = df.text.map(spaces)
    return [part.drop(columns="key") for part in split()(df, *rest)]


def column_returned(df, *rest):
    return split()(df.assign(key=df.text.map(spaces)), *rest)


def columns_lost(df, *rest):
    return split()(df[["text", "label"]], *rest)


def rows_by_name(df, *rest):
    return [df.loc[part.index] for part in split()(df, *rest)]


def key_of_label(df, *rest):
    keyed = df.assign(text=df.text + df.label.astype(str), old=df.text)
    return [part.assign(text=part.old).drop(columns="old") for part in split()(keyed, *rest)]


def share_of_rows(df, train_frac, validation_frac, seed):
    keys = df.text.map(spaces)
    counts = keys.value_counts().sample(frac=1, random_state=seed).cumsum() / len(df)
    ends = train_frac, train_frac + validation_frac
    place = keys.map(counts)
    return df[place <= ends[0]], df[(place > ends[0]) & (place <= ends[1])], df[place > ends[1]]


def in_groups(df, train_frac, validation_frac, seed):
    """Right: scikit-learn keeps groups together."""
    from sklearn.model_selection import GroupShuffleSplit

    keys = df.text.map(spaces).to_numpy()
    first = GroupShuffleSplit(1, train_size=train_frac, random_state=seed)
    train, rest = next(first.split(df, groups=keys))
    second = GroupShuffleSplit(1, train_size=validation_frac / (1 - train_frac), random_state=seed)
    one, other = next(second.split(rest, groups=keys[rest]))
    return df.iloc[train], df.iloc[rest[one]], df.iloc[rest[other]]


def never_the_same(df, train_frac, validation_frac, seed):
    return split()(df, train_frac, validation_frac, int(torch.randint(10**6, ())))


# 6.7: which token is read


def by_padding_only(classify, ids, pad):
    longer = torch.cat([ids, torch.full_like(ids[:, :1], pad)], dim=1)
    same = torch.allclose(classify(longer), classify(ids), atol=1e-5)
    return "last real token" if same else "last position"


def by_first_row(classify, ids, pad):
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 256
    same = torch.allclose(classify(changed), classify(ids), atol=1e-5)
    return "last real token" if same else "last position"


def by_writing(write):
    """The experiment of the solution, with another way to change a message's last token."""

    def answer(classify, ids, pad):
        longer = torch.cat([ids, torch.full_like(ids[:, :1], pad)], dim=1)
        if not torch.allclose(classify(longer), classify(ids), atol=1e-5):
            return "last position"
        rows, last, changed = torch.arange(len(ids)), last_real_token(ids, pad), ids.clone()
        changed[rows, last] = write(changed[rows, last], pad)
        same = torch.allclose(classify(changed), classify(ids), atol=1e-5)
        return "first token" if same else "last real token"

    return answer


def ids_written_over(classify, ids, pad):
    found = by_writing(lambda tokens, pad: (tokens + 1) % pad)(classify, ids, pad)
    ids[:, 1:] = pad
    return found


# 6.8: the interval of a gain


def by_draws(paired=True, ends=(0.025, 0.975), sign=1, replaced=True, seeded=True):
    def answer(labels, one, other, draws, seed):
        generator = torch.Generator().manual_seed(seed) if seeded else torch.default_generator
        N = len(labels)

        def counts():
            if not replaced:
                return torch.ones(draws, N)
            rows = torch.randint(N, (draws, N), generator=generator)
            return torch.stack([row.bincount(minlength=N) for row in rows]).float()

        first = counts()
        gain = average_precision(labels, one, first)
        gain = gain - average_precision(labels, other, first if paired else counts())
        return tuple((sign * gain).quantile(torch.tensor(ends)).tolist())

    return answer


def of_each_alone(labels, one, other, draws, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(labels), (draws, len(labels)), generator=generator)
    counts = torch.stack([row.bincount(minlength=len(labels)) for row in rows]).float()
    ends = [average_precision(labels, x, counts).quantile(torch.tensor([0.025, 0.975])) for x in (one, other)]  # fmt: skip
    return ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]


def of_accuracy(labels, one, other, draws, seed):
    rows = torch.randint(len(labels), (draws, len(labels)), generator=torch.Generator().manual_seed(seed))  # fmt: skip
    right = [((x > 1).long() == labels).float()[rows].mean(dim=1) for x in (one, other)]
    return tuple((right[0] - right[1]).quantile(torch.tensor([0.025, 0.975])).tolist())


WRONG = [
    ("gain_interval", by_draws(paired=False), "score both methods on the same draws"),
    ("gain_interval", by_draws(ends=(0.05, 0.95)), "the middle 95 % of the gains go from"),
    ("gain_interval", by_draws(ends=(0.975, 0.025)), "is above the upper"),
    ("gain_interval", by_draws(sign=-1), "of the other method over this one"),
    ("gain_interval", by_draws(replaced=False), "draw with replacement"),
    ("gain_interval", by_draws(seeded=False), "draw with that seed"),
    ("gain_interval", of_each_alone, "the middle 95 % of the gains go from"),
    ("gain_interval", of_accuracy, "the middle 95 %"),
    ("gain_interval", lambda *args: 0.1, "two numbers are asked for"),
    ("logits_at_full_context", full_context("first"), "you read the first token"),
    ("logits_at_full_context", full_context("position"), "you read the last position"),
    ("logits_at_full_context", full_context("after"), "you read the first padding token"),
    ("logits_at_full_context", columns_cut, "its whole context, 24, was asked for"),
    ("logits_at_full_context", forged_padding_read, "'<|endoftext|> you won' are not those"),
    ("logits_at_full_context", full_context("mean"), "are not those of its last real token"),
    ("logits_at_full_context", full_context(width=12), "you read it after 12 of"),
    ("logits_at_full_context", full_context(keep=slice(1, None)), "the shape is"),
    ("logits_at_full_context", without_padding, "was asked for"),
    ("logits_at_full_context", ends_kept, "are not those of its last real token"),
    ("logits_at_full_context", last_tokens_kept, "loses its end, not its beginning"),
    ("logits_at_full_context", letters_cut, "you read it after 12 of its 20 tokens; 24 fit"),
    ("logits_at_full_context", probabilities, "these are probabilities"),
    ("logits_at_full_context", left_in_training, "left in the other"),
    *[
        ("logits_at_full_context", padded_with(ord(letter)), "not those of its last real token")
        for letter in "\0 \n\t.0x_"
    ],
    ("logits_at_full_context", lambda *args: full_context()(*args).tolist(), "a tensor"),
    ("optimizer_for", frozen_by_zero_gradients, "still in the optimizer's weight decay"),
    ("optimizer_for", nothing_frozen, "head: tok_emb.weight moved; it shrank: frozen, and still"),
    ("optimizer_for", everything_thawed, "head: tok_emb.weight moved; it is frozen"),
    ("optimizer_for", adamw("head"), "last block: trf_blocks.1.att.W_query.weight did not move"),
    ("optimizer_for", adamw("last block"), "head: trf_blocks.1.att.W_query.weight moved"),
    ("optimizer_for", adamw(decay=0.0), "weight_decay is 0; 0.1 was asked for"),
    ("optimizer_for", adamw(lr=0.0), "lr is 0; 0.001 was asked for"),
    ("optimizer_for", adamw(lr=0.1), "lr is 0.1; 0.001 was asked for"),
    ("optimizer_for", head_made_anew, "out_head.weight is not what it was before any step"),
    ("optimizer_for", slow_norms, "lr is 0.0001; 0.001 was asked for"),
    ("optimizer_for", frozen_in_the_decay, "still in the optimizer's weight decay"),
    ("optimizer_for", another(torch.optim.Adam), "AdamW is asked for, not Adam"),
    ("optimizer_for", another(torch.optim.SGD), "AdamW is asked for, not SGD"),
    ("optimizer_for", never_thawed, "did not move, but belongs to it"),
    ("optimizer_for", without_the_norm, "final_norm.shift did not move"),
    ("optimizer_for", lambda model, part: [model], "AdamW is asked for, not list"),
    ("best_with_first_token", larger_class, "the share of the larger class"),
    ("best_with_first_token", mean_over_tokens, "a rare one counts as much"),
    ("best_with_first_token", count, "a share is asked for"),
    ("best_with_first_token", lambda first, labels: 0.5, "you say 0.500"),
    ("repaired_accuracy", accuracy("first"), "you read the first token"),
    ("repaired_accuracy", accuracy("position"), "you read the last position"),
    ("repaired_accuracy", accuracy("position", batches=True), "you read the last position"),
    ("repaired_accuracy", accuracy("after"), "you read the first padding token"),
    ("repaired_accuracy", accuracy(grad=True), "gradients are recorded"),
    ("repaired_accuracy", accuracy(batches=True), "batches are averaged"),
    ("repaired_accuracy", accuracy(evaluation=False), "dropout is active"),
    ("repaired_accuracy", accuracy(restore=False), "left in the other"),
    ("repaired_accuracy", frozen_for_good, "requires_grad (it was True): put it back"),
    ("repaired_accuracy", parts_left_in_evaluation, "of a part of it"),
    ("repaired_accuracy", last_batch_dropped, "are right, you say"),
    (
        "spam_filter",
        head(train=("train", "validation")),
        "validation labels: these were used in tr",
    ),
    ("spam_filter", head(train=("train", "test")), "the test labels: these were used in training"),
    ("spam_filter", head(train=("train", "validation", "test")), "were used in training"),
    ("spam_filter", head(train=("validation",)), "these were used in training"),
    ("spam_filter", scaled_by_all, "these were used in training"),
    ("spam_filter", head(choose="test"), "the test was used to choose it"),
    ("spam_filter", head(choose="train"), "can be had"),
    ("spam_filter", head(threshold=0.5), "can be had"),
    ("spam_filter", head(by_hand=True), "hardly separates"),
    ("spam_filter", head(seeded=False), "draw random numbers with a seed"),
    ("spam_filter", centered_in_place, "changed what it was given, `parts['train'][0]`"),
    ("spam_filter", predicts_in_place, "predict changed the features"),
    ("spam_filter", by_neighbors, "depends on the messages that it is asked about with it"),
    ("spam_filter", the_other_class, "the probability of class 0; that of class 1"),
    ("spam_filter", numbers_of_numpy, "draw random numbers with a seed"),
    ("spam_filter", stopped_by("validation"), "validation labels: these were used in training"),
    ("spam_filter", stopped_by("test"), "test labels: these were used in training"),
    ("spam_filter", chosen_on_both, "can be had"),
    ("spam_filter", logits_returned, "probabilities"),
    ("spam_filter", lambda parts: head()(parts)[0], "a function and a threshold"),
    ("split_texts", by_rows, "texts, exactly equal, stand in"),
    ("split_texts", split(key=str), "equal but for case and spaces"),
    ("split_texts", split(key=str.lower), "equal but for case and spaces"),
    ("split_texts", split(drop=True), "each must come once"),
    ("split_texts", keys_instead_of_texts, "a row came back with another text"),
    ("split_texts", split(fractions=False), "not about 70%"),
    ("split_texts", split(seeded=False), "the seed is not used"),
    ("split_texts", never_the_same, "nobody could repeat it"),
    ("split_texts", lambda *args: split()(*args)[:2], "three tables"),
    ("split_texts", lambda *args: [list(part.text) for part in split()(*args)], "three tables"),
    ("split_texts", shuffled(lambda keys, seed: list(set(keys))), "the order of a set"),
    ("split_texts", shuffled(lambda keys, seed: list({*keys})), "the order of a set"),
    ("split_texts", shuffled(by_hash, None), "`hash` of a text is another number in each"),
    ("split_texts", split(key=lambda text: text.lower().replace("  ", " ").strip()), "case and sp"),
    ("split_texts", split(key=lambda text: re.sub(" +", " ", text.lower()).strip()), "case and sp"),
    ("split_texts", split(key=lambda text: " ".join(text.lower().split(" "))), "case and sp"),
    (
        "split_texts",
        split(key=lambda text: "".join(text.lower().split())),
        "'to day message 3' and",
    ),
    (
        "split_texts",
        split(key=lambda text: spaces(re.sub(r"[^\w\s]", "", text))),
        "always stay tog",
    ),
    ("split_texts", split(key=lambda text: " ".join(sorted(spaces(text).split()))), "always stay"),
    (
        "split_texts",
        split(key=lambda text: tuple(dict.fromkeys(spaces(text).split()))),
        "very very",
    ),
    ("split_texts", split(key=without_accents), "'naïve message 3' and"),
    ("split_texts", key_of_label, "exactly equal, stand in"),
    ("split_texts", column_added, "changed what it was given"),
    ("split_texts", column_returned, "has the columns"),
    ("split_texts", columns_lost, "has the columns"),
    ("split_texts", rows_by_name, "each must come once"),
    ("split_texts", share_of_rows, "of the distinct texts, not about"),
    ("place_that_is_read", by_padding_only, "first token was taken for one of the last real"),
    ("place_that_is_read", lambda *args: "last position", "were logits compared exactly"),
    ("place_that_is_read", by_first_row, "was taken for one"),
    *[
        ("place_that_is_read", by_writing(lambda tokens, pad, c=c: c), "was taken for one of the f")
        for c in (0, 1, 42)
    ],
    ("place_that_is_read", by_writing(lambda tokens, pad: tokens + 1), "these are"),
    ("place_that_is_read", by_writing(lambda tokens, pad: tokens - 1), "these are"),
    ("place_that_is_read", ids_written_over, "changed what it was given"),
    ("place_that_is_read", lambda *args: "last real token", "was taken for one"),
    ("place_that_is_read", lambda *args: "last", "one of first token"),
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, says):
    torch.manual_seed(0)
    result = getattr(check, name)(answer)
    assert not result.ok and result.text.startswith("wrong: "), result.text
    assert says in result.text, result.text


def test_the_broken_function_of_the_exercise_is_refused():
    result = check.repaired_accuracy(answers("solutions.ipynb")["broken_accuracy"])
    assert not result.ok and "you read the last position" in result.text, result.text


def test_other_right_answers_are_accepted():
    def by_the_lesson(texts, model, tokenizer, pad):
        table = pd.DataFrame({"text": texts, "label": [i % 2 for i in range(len(texts))]})
        dataset = SpamDataset(table, tokenizer, model.pos_emb.num_embeddings, pad)
        ids = torch.stack([one for one, _ in dataset])
        with torch.no_grad():
            logits = model(ids)
        return logits[torch.arange(len(texts)), torch.tensor(dataset.lengths) - 1]

    def frozen_in_the_optimizer(model, part):  # without gradients they stay where they are
        train_only(model, part)
        model.zero_grad()
        return torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

    def loader_accuracy(model, loader, pad):
        return calc_accuracy_loader(loader, model, "cpu", pad_token_id=pad)

    def over_the_dataset(model, loader, pad):
        with evaluation_mode(model), torch.inference_mode():
            right = [
                message_logits(ids, model, "cpu", pad).argmax(-1) == labels
                for ids, labels in loader
            ]
        return torch.cat(right).sum() / len(loader.dataset)

    def twice_as_wide(classify, ids, pad):
        longer = torch.cat([ids, torch.full_like(ids, pad)], dim=1)
        if not torch.allclose(classify(longer), classify(ids), atol=1e-5):
            return "last position"
        other = torch.where(ids == pad, pad, (ids + 1) % pad)
        other[:, 0] = ids[:, 0]
        same = torch.allclose(classify(other), classify(ids), atol=1e-5)
        return "first token" if same else "last real token"

    def copies_in_training(df, train_frac, validation_frac, seed):
        parts = split()(df, train_frac, validation_frac, seed)
        return [part.sample(frac=1, random_state=1) for part in parts]

    def one_message(classify, ids, pad):
        one = ids[:1, : last_real_token(ids, pad)[0] + 1]
        longer = torch.cat([one, torch.full_like(one, pad)], dim=1)
        other = torch.cat([one[:, :-1], (one[:, -1:] + 7) % 256], dim=1)
        if not torch.allclose(classify(longer), classify(one), atol=1e-5):
            return "last position"
        same = torch.allclose(classify(other), classify(one), atol=1e-6)
        return "first token" if same else "last real token"

    assert check.logits_at_full_context(by_the_lesson).ok
    assert check.optimizer_for(adamw()).ok and check.optimizer_for(frozen_in_the_optimizer).ok
    assert check.best_with_first_token(by_table).ok
    assert check.repaired_accuracy(loader_accuracy).ok and check.repaired_accuracy(accuracy()).ok
    assert check.repaired_accuracy(over_the_dataset).ok
    assert check.spam_filter(one_of_its_probabilities).ok
    assert check.spam_filter(by_the_library).ok and check.spam_filter(head()).ok
    assert check.split_texts(copies_in_training).ok and check.split_texts(split()).ok
    assert check.split_texts(in_groups).ok
    assert check.split_texts(shuffled(by_digest, None)).ok
    assert check.split_texts(shuffled(lambda keys, seed: sorted(set(keys)))).ok
    assert check.split_texts(shuffled(lambda keys, seed: list(dict.fromkeys(keys)))).ok
    assert check.gain_interval(by_draws()).ok
    assert check.gain_interval(lambda *args: np.array(by_draws()(*args))).ok
    assert check.place_that_is_read(one_message).ok and check.place_that_is_read(twice_as_wide).ok


def test_the_lessons_own_functions_read_and_split_as_the_checks_ask():
    pad = check._bytes().eot_token
    model = check._classifier().eval()
    ids = check._padded([3, 9, 14], 14, pad, torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = message_logits(ids, model, "cpu", pad)
    assert torch.allclose(got, check._read_at(model, ids, pad)["last real token"], atol=1e-5)
    # of copies that differ in case the lesson's split knows nothing
    lesson = check.split_texts(lambda df, a, b, seed: random_split(df, a, b))
    assert "equal but for case and spaces" in lesson.text, lesson.text
