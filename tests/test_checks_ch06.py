"""Every check of chapter 6's exercises: accepts right answers, refuses the usual wrong ones."""

import functools

import notebooks
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from shared.checks import ch06 as check
from shared.classification import (
    SpamDataset,
    calc_accuracy_loader,
    choose_threshold,
    last_real_token,
    message_logits,
    random_split,
    train_only,
)
from shared.gpt_model import evaluation_mode

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


def ends_kept(texts, model, tokenizer, pad):
    return full_context()([text[-24:] for text in texts], model, tokenizer, pad)


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


def last_batch_dropped(model, loader, pad):
    return accuracy()(model, list(loader)[:-1], pad)


# 6.5: three parts, three uses


def head(
    train=("train",), choose="validation", threshold=None, seeded=True, by_hand=False, steps=150
):
    def answer(parts):
        if not seeded:
            torch.manual_seed(torch.seed() % 1000)
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


WRONG = [
    ("logits_at_full_context", full_context("first"), "you read the first token"),
    ("logits_at_full_context", full_context("position"), "you read the last position"),
    ("logits_at_full_context", full_context("after"), "you read the first padding token"),
    ("logits_at_full_context", columns_cut, "its whole context, 24, was asked for"),
    ("logits_at_full_context", forged_padding_read, "'<|endoftext|> you won' are not those"),
    ("logits_at_full_context", full_context("mean"), "are not those of its last real token"),
    ("logits_at_full_context", full_context(width=12), "are not those of its last real token"),
    ("logits_at_full_context", full_context(keep=slice(1, None)), "the shape is"),
    ("logits_at_full_context", without_padding, "was asked for"),
    ("logits_at_full_context", ends_kept, "are not those of its last real token"),
    ("logits_at_full_context", lambda *args: full_context()(*args).tolist(), "a tensor"),
    ("optimizer_for", frozen_by_zero_gradients, "still in the optimizer's weight decay"),
    ("optimizer_for", nothing_frozen, "head: tok_emb.weight moved; it shrank: frozen, and still"),
    ("optimizer_for", everything_thawed, "head: tok_emb.weight moved; it is frozen"),
    ("optimizer_for", adamw("head"), "last block: trf_blocks.1.att.W_query.weight did not move"),
    ("optimizer_for", adamw("last block"), "head: trf_blocks.1.att.W_query.weight moved"),
    ("optimizer_for", adamw(decay=0.0), "weight_decay is 0; 0.1 was asked for"),
    ("optimizer_for", adamw(lr=0.0), "lr is 0; 0.001 was asked for"),
    ("optimizer_for", adamw(lr=0.1), "lr is 0.1; 0.001 was asked for"),
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
    ("place_that_is_read", by_padding_only, "first token was taken for one of the last real"),
    ("place_that_is_read", lambda *args: "last position", "were logits compared exactly"),
    ("place_that_is_read", by_first_row, "was taken for one"),
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
