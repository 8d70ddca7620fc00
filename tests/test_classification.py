"""Chapter 6's module: against scikit-learn, on bad input, and where a mistake would raise no error."""

import copy

import pandas as pd
import pytest
import sklearn.metrics as sk
import torch
from torch.utils.data import DataLoader

from shared import editions
from shared.classification import (
    BatchesByLength,
    SpamDataset,
    average_precision,
    balanced_class_weights,
    calc_accuracy_loader,
    calc_class_loss_batch,
    calc_class_loss_loader,
    choose_threshold,
    classifier_from,
    classify_review,
    confusion_matrix,
    create_balanced_dataset,
    last_real_token,
    loader_logits,
    message_logits,
    plot_values,
    random_split,
    read_messages,
    scores,
    spam_probability,
    train_classifier_simple,
    train_only,
    train_step,
)
from shared.gpt_model import GPTModel
from shared.pretraining import load_checkpoint, save_checkpoint
from shared.text_data import make_encoding
from shared.training import parameter_groups

BYTES = make_encoding("bytes", {bytes([b]): b for b in range(256)}, ("<|endoftext|>",))
PAD = BYTES.eot_token
CFG = {"vocab_size": BYTES.n_vocab, "context_length": 32, "emb_dim": 16, "n_heads": 2}
CFG |= {"n_layers": 2, "drop_rate": 0.1, "qkv_bias": True}
TABLE = pd.DataFrame(
    {"label": ["ham", "spam"] * 8, "text": [f"{'win' if i % 2 else 'see'} {i}" for i in range(16)]}
)


def tiny(tied=False, seed=0):
    torch.manual_seed(seed)
    cfg = CFG | {"tie_weights": tied}
    return GPTModel(cfg), cfg


def classifier(seed=0):
    return classifier_from(*tiny(seed=seed))


def loader(batch_size=5):
    return DataLoader(SpamDataset(TABLE, BYTES, pad_token_id=PAD), batch_size)


# messages: what is read, and what is refused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("text\nhi\n", "has no column 'label'; it has ['text']"),
        ("label,message\nham,hi\n", "has no column 'text'; it has ['label', 'message']"),
        ("label,text\nham,hi\nspma,win\n", "message 2: unknown label 'spma'; use ham or spam"),
        ("label,text\nham,hi\n,win\n", "message 2: unknown label ''"),
        ('label,text\nham,hi\nspam," "\n', "message 2 is empty"),
        ("label,text\nspam,\nham,hi\n", "message 1 is empty"),
        ("label,text\nham,hi\nham,you\n", "must have ham and spam"),
        ("label,text\n", "must have ham and spam"),
        ("message,note\nham,hi\n", "has no column 'label'"),
        (
            "label,text\nham,see you, pet\nspam,win\n",
            "too many fields; quote a text that has commas",
        ),
    ],
)
def test_a_faulty_csv_is_refused_with_its_name_and_the_reason(tmp_path, text, says):
    path = tmp_path / "mine.csv"
    path.write_text(text)
    for read in (read_messages, lambda source: SpamDataset(source, BYTES)):
        with pytest.raises(ValueError, match="mine.csv") as caught:
            read(path)
        assert says in str(caught.value)


def test_a_csv_and_a_table_in_the_books_form_or_ours_give_the_same(tmp_path):
    texts = ['he said "no", twice', "null", "NaN", "007", "=1+1", "äöü 😀"]
    ours = pd.DataFrame({"label": ["ham", "spam"] * 3, "text": texts, "hard": [True, False] * 3})
    books = pd.DataFrame({"Label": [0, 1] * 3, "Text": texts})
    for i, table in enumerate((ours, books)):
        path = tmp_path / f"{i}.csv"
        table.to_csv(path, index=False)
        for source in (table, path, str(path)):
            read = read_messages(source)
            assert read.text.tolist() == texts and read.label.tolist() == [0, 1] * 3
    assert read_messages(tmp_path / "0.csv").hard.tolist() == [True, False] * 3
    assert ours.label.tolist() == ["ham", "spam"] * 3  # what was given is left alone


def test_balance_is_the_books_draw():
    messages = editions.messages()
    spam = messages[messages.label == "spam"]
    ham = messages[messages.label == "ham"].sample(len(spam), random_state=123)
    got = create_balanced_dataset(messages)
    assert got.text.tolist() == pd.concat([ham, spam]).text.tolist()


def test_a_split_is_the_books_where_nothing_repeats():
    messages = editions.messages()
    rows = messages.sample(frac=1, random_state=123).text.tolist()
    train_end = int(len(rows) * 0.7)
    validation_end = train_end + int(len(rows) * 0.1)
    books = rows[:train_end], rows[train_end:validation_end], rows[validation_end:]
    assert [part.text.tolist() for part in random_split(messages, 0.7, 0.1)] == list(books)


def test_repeats_stay_together_and_are_as_likely_to_be_tested_as_others():
    messages = editions.messages()
    spam = messages[messages.label == "spam"]
    parts = random_split(pd.concat([messages, spam, spam]), 0.7, 0.1)
    sets = [set(part.text) for part in parts]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert sum(map(len, parts)) == len(messages) + 2 * len(spam)
    share = (parts[2].label == 1).sum() / (3 * len(spam))
    assert 0.12 < share < 0.28  # a fifth, within four standard errors


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.0, 0.1), (1.2, 0.0), (0.5, -0.1)])
def test_a_split_that_leaves_no_test_is_refused(fractions):
    with pytest.raises(ValueError, match="nothing is left for the test"):
        random_split(TABLE, *fractions)


def test_a_dataset_pads_cuts_and_never_reads_a_forged_padding_token():
    texts = ["ab", "abcdef", "<|endoftext|>"]
    table = pd.DataFrame({"label": ["ham", "spam", "ham"], "text": texts})
    dataset = SpamDataset(table, BYTES, pad_token_id=PAD)
    assert dataset.max_length == 13 and dataset.lengths == [2, 6, 13] and len(dataset) == 3
    ids, label = dataset[0]
    assert ids.tolist() == [97, 98] + [PAD] * 11 and ids.dtype == torch.int64
    assert label.dim() == 0 and label.dtype == torch.int64
    assert PAD not in dataset.encoded_texts[2]
    short = SpamDataset(table, BYTES, max_length=3, pad_token_id=PAD)
    assert short.encoded_texts == [[97, 98, PAD], [97, 98, 99], list(b"<|e")]
    with pytest.raises(ValueError, match="max_length is 0"):
        SpamDataset(table, BYTES, max_length=0)


def test_batches_by_length_hold_each_message_once_and_like_lengths():
    lengths = torch.randint(1, 100, (203,), generator=torch.Generator().manual_seed(0)).tolist()
    sampler = BatchesByLength(lengths, 16)
    torch.manual_seed(0)
    first, second = list(sampler), list(sampler)
    assert len(first) == len(sampler) == 13 and first != second
    assert sorted(i for batch in first for i in batch) == list(range(203))
    spans = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in first]
    assert max(spans) < 25


# the head, and where it reads


@pytest.mark.parametrize("tied", [True, False])
def test_a_classifier_keeps_the_body_and_no_tie(tied):
    gpt, cfg = tiny(tied)
    before = copy.deepcopy(gpt.state_dict())
    model = classifier_from(gpt, cfg, num_classes=3)
    assert model(torch.ones(2, 5).long()).shape == (2, 5, 3)
    for name, tensor in gpt.state_dict().items():
        assert tensor.equal(before[name])
        assert name.startswith("out_head") or model.state_dict()[name].equal(tensor)
    with torch.no_grad():
        model.tok_emb.weight.zero_()
    assert gpt.tok_emb.weight.equal(before["tok_emb.weight"]) and model.out_head.weight.any()
    other = classifier_from(*tiny(tied, seed=1), num_classes=3)
    other.load_state_dict(model.state_dict())
    assert other.out_head.weight.equal(model.out_head.weight)


def test_only_the_named_part_is_trained():
    model = classifier()
    for part, names in [
        ("head", {"out_head"}),
        ("last block", {"out_head", "final_norm", "trf_blocks.1"}),
    ]:
        train_only(model, "all")
        train_only(model, part)
        got = {name for name, p in model.named_parameters() if p.requires_grad}
        assert got == {n for n, _ in model.named_parameters() if n.startswith(tuple(names))}
    train_only(model, "all")
    assert all(p.requires_grad for p in model.parameters())
    with pytest.raises(ValueError, match="there are head, last block, all"):
        train_only(model, "everything")


def test_logits_are_those_of_each_message_alone_however_wide_the_batch():
    model = classifier().eval()
    texts = ["a", "win a prize", "see you at eight", "x" * 32]
    alone = torch.cat(
        [message_logits(torch.tensor([list(text.encode())]), model, "cpu", PAD) for text in texts]
    )
    table = pd.DataFrame({"label": [0, 1, 0, 1], "text": texts})
    for rows in ([0, 1, 2], [0, 1, 2, 3]):
        for width in (16, 20, 32):
            ids = torch.tensor(SpamDataset(table, BYTES, width, PAD).encoded_texts)[rows]
            got = message_logits(ids[:3], model, "cpu", PAD)
            assert torch.allclose(got, alone[:3], atol=1e-5)
    assert last_real_token(torch.tensor([[1, PAD, 2, PAD]]), PAD).tolist() == [2]


def test_ids_that_do_not_fit_are_refused_before_anything_is_trained():
    model = classifier()
    for ids, pad, says in [
        (torch.ones(2, 33).long(), PAD, "33 tokens, but the model has only 32 positions"),
        (torch.ones(2, 4).long(), 50256, "pad_token_id is 50256; this model's IDs end at 256"),
        (torch.tensor([[1, 2], [PAD, PAD]]), PAD, "message 1 of the batch is nothing but padding"),
    ]:
        with pytest.raises(ValueError, match=says):
            message_logits(ids, model, "cpu", pad)
    long = pd.concat([TABLE, pd.DataFrame({"label": ["ham"], "text": ["x" * 40]})])
    batches = DataLoader(SpamDataset(long, BYTES, pad_token_id=PAD), 4)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="shorten the text"):  # in the first batch, not in the last
        train_classifier_simple(
            model, batches, batches, optimizer, "cpu", 1, 10, 1, pad_token_id=PAD
        )
    assert all(before[name].equal(tensor) for name, tensor in model.state_dict().items())


# loss, accuracy, scores


def test_measures_do_not_depend_on_the_batches_nor_on_the_mode():
    model = classifier().train()
    found = [
        (
            calc_accuracy_loader(loader(n), model, "cpu", pad_token_id=PAD),
            round(calc_class_loss_loader(loader(n), model, "cpu", pad_token_id=PAD), 5),
        )
        for n in (1, 5, 16)
    ]
    assert found[0] == found[1] == found[2] and model.training
    for empty, count in ([], None), (loader(5), 0):
        with pytest.raises(ValueError, match="the loader gave no batch"):
            calc_accuracy_loader(empty, model, "cpu", count, PAD)
    labels, logits = loader_logits(loader(5), model, "cpu", num_batches=2, pad_token_id=PAD)
    assert labels.tolist() == [0, 1] * 5 and logits.shape == (10, 2) and not logits.requires_grad


def test_class_weights_are_scikit_learns_and_weigh_each_message():
    labels = torch.tensor([0] * 30 + [1] * 10)
    weights = balanced_class_weights(labels)
    by_library = sklearn_weights(labels)
    assert torch.allclose(weights.double(), by_library) and weights[labels].mean() == 1
    ids, targets = next(iter(loader(16)))
    model = classifier().eval()
    plain = calc_class_loss_batch(ids, targets, model, "cpu", PAD)
    equal = calc_class_loss_batch(ids, targets, model, "cpu", PAD, class_weights=torch.ones(2))
    assert torch.allclose(plain, equal)
    parts = [
        calc_class_loss_batch(ids[targets == c], targets[targets == c], model, "cpu", PAD)
        for c in (0, 1)
    ]
    weighted = calc_class_loss_batch(
        ids, targets, model, "cpu", PAD, class_weights=torch.tensor([1.0, 3.0])
    )
    assert torch.allclose(weighted, (parts[0] + 3 * parts[1]) / 2, atol=1e-5)


def sklearn_weights(labels):
    from sklearn.utils.class_weight import compute_class_weight

    return torch.tensor(
        compute_class_weight("balanced", classes=labels.unique().numpy(), y=labels.numpy())
    )


def test_scores_are_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    for p in (0.5, 0.1):
        labels = (torch.rand(90, generator=generator) < p).long()
        said = (torch.rand(90, generator=generator) < 0.3).long()
        got, pair = scores(labels, said), (labels.numpy(), said.numpy())
        assert confusion_matrix(labels, said).tolist() == sk.confusion_matrix(*pair).tolist()
        assert got["accuracy"] == pytest.approx(sk.accuracy_score(*pair))
        assert got["precision"] == pytest.approx(sk.precision_score(*pair))
        assert got["recall"] == pytest.approx(sk.recall_score(*pair))
        assert got["F1"] == pytest.approx(sk.f1_score(*pair))
    nothing = scores(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert nothing["F1"] == nothing["recall"] == 0 and nothing["precision"] != nothing["precision"]


def test_average_precision_is_scikit_learns_ties_and_draws_included():
    generator = torch.Generator().manual_seed(0)
    for decimals in (1, 6):  # with many equal scores, and with hardly any
        labels = (torch.rand(80, generator=generator) < 0.2).long()
        found = (labels + 2 * torch.rand(80, generator=generator)).round(decimals=decimals)
        want = sk.average_precision_score(labels, found)
        assert average_precision(labels, found).item() == pytest.approx(want, abs=1e-5)
        drawn = torch.randint(80, (3, 80), generator=generator)
        counts = torch.stack([row.bincount(minlength=80) for row in drawn]).float()
        want = [sk.average_precision_score(labels[row], found[row]) for row in drawn]
        assert average_precision(labels, found, counts).tolist() == pytest.approx(want, abs=1e-5)
    with pytest.raises(ValueError, match="a score is not finite"):
        average_precision(torch.tensor([0, 1]), torch.tensor([0.1, float("nan")]))


def test_no_other_threshold_has_a_higher_f1():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        labels = (torch.rand(60, generator=generator) < 0.3).long()
        p = (0.3 * labels + 0.7 * torch.rand(60, generator=generator)).round(decimals=2)
        best = choose_threshold(labels, p)
        got = scores(labels, (p >= best).long())["F1"]
        assert got == max(scores(labels, (p >= t).long())["F1"] for t in [*p.tolist(), 2.0])
    assert choose_threshold(torch.tensor([0, 1]), torch.tensor([0.1, 0.9])) == 0.5
    assert choose_threshold(torch.tensor([0, 1]), torch.tensor([0.4, 0.4])) == 0.5


# training


def run(epochs, eval_freq=2, **options):
    """Train a tiny classifier on shuffled batches, with dropout."""
    model = classifier(seed=3)
    dataset = SpamDataset(TABLE, BYTES, pad_token_id=PAD)
    batches = DataLoader(dataset, batch_sampler=BatchesByLength(dataset.lengths, 4))
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=0.01)
    options |= {"pad_token_id": PAD}
    arguments = (model, batches, batches, optimizer, "cpu", epochs, eval_freq, 1)
    return model.state_dict(), train_classifier_simple(*arguments, **options)


def test_the_schedule_is_asked_once_a_step():
    steps = []
    _, log = run(3, rate_at=lambda step: steps.append(step) or 0.01 / (1 + step))
    assert steps == list(range(12)) and log[-1] == 48 and len(log[0]) == 6 and len(log[2]) == 3


def test_how_often_one_looks_does_not_change_the_training():
    often, seldom = run(2, eval_freq=1)[0], run(2, eval_freq=100)[0]
    assert all(often[name].equal(tensor) for name, tensor in seldom.items())


def test_a_run_learns_and_prints_the_books_lines(capsys):
    _, (train_losses, *_) = run(8, class_weights=torch.tensor([1.0, 1.0]))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Ep 1 (Step 000000): Train loss ")
    assert printed[2].startswith("Training accuracy: ") and " | Validation accuracy: " in printed[2]
    assert train_losses[-1] < train_losses[0]


def test_one_context_of_autocast_around_many_steps_reads_no_stale_weights():
    def losses(around):
        model, batch = classifier(seed=2), next(iter(loader(16)))
        for part in model.modules():
            part.p = 0.0  # no dropout
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        found = []

        def step():
            found.append(calc_class_loss_batch(*batch, model, "cpu", PAD).item())
            train_step(batch, model, optimizer, "cpu", PAD)

        if around:
            with torch.autocast("cpu", torch.bfloat16):
                for _ in range(10):
                    step()
        else:
            for _ in range(10):
                with torch.autocast("cpu", torch.bfloat16):
                    step()
        return found

    assert losses(around=True) == pytest.approx(losses(around=False), abs=1e-3)


def test_a_step_clips_sets_the_rate_and_leaves_frozen_parameters():
    model, batch = classifier(), next(iter(loader(16)))
    train_only(model, "head")
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(parameter_groups(model, 0.0), lr=1.0)
    train_step(batch, model, optimizer, "cpu", PAD, rate=100.0)
    moved = [n for n, t in model.state_dict().items() if not t.equal(before[n])]
    assert moved == ["out_head.weight", "out_head.bias"]
    length = torch.cat([(model.state_dict()[n] - before[n]).flatten() for n in moved]).norm()
    assert length <= 100.01 and optimizer.param_groups[0]["lr"] == 100.0


def test_a_fine_tuned_classifier_comes_back_from_its_file(tmp_path):
    model = classifier()
    save_checkpoint(tmp_path / "c.pth", model, torch.optim.AdamW(model.parameters()), threshold=0.3)
    other = classifier_from(*tiny(tied=True, seed=9))
    assert load_checkpoint(tmp_path / "c.pth", other)["threshold"] == 0.3
    ids = torch.tensor([[1, 2, 3]])
    assert other.eval()(ids).equal(model.eval()(ids))


# use


def test_a_message_is_classified_as_in_a_batch():
    model = classifier()
    p = [spam_probability(text, model, BYTES, "cpu", pad_token_id=PAD) for text in TABLE.text]
    _, logits = loader_logits(loader(), model, "cpu", pad_token_id=PAD)
    assert p == pytest.approx(logits.softmax(dim=-1)[:, 1].tolist(), abs=1e-5) and model.training
    for threshold, label in [(0.0, "spam"), (1.01, "not spam")]:
        said = classify_review("hi", model, BYTES, "cpu", None, PAD, threshold=threshold)
        assert said == label
    for text, most in ("x" * 99, None), ("x" * 99, 33):  # never cut unless max_length says so
        with pytest.raises(ValueError, match=f"has {most or 99} tokens, and at most 32"):
            spam_probability(text, model, BYTES, "cpu", most, PAD)
    short = spam_probability("abcdef", model, BYTES, "cpu", 3, PAD)
    assert short == spam_probability("abc", model, BYTES, "cpu", pad_token_id=PAD)
    for text in ("", " \n"):
        with pytest.raises(ValueError, match="the message is empty"):
            classify_review(text, model, BYTES, "cpu", pad_token_id=PAD)


def test_a_figure_of_values_names_its_axes():
    fig = plot_values([0.0, 1.0], [0, 30], [0.5, 0.9], [0.5, 0.8], label="accuracy")
    ax = fig.axes[0]
    assert ax.get_ylabel() == "accuracy" and ax.child_axes[0].get_xlabel() == "messages seen"
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.5, 0.9], [0.5, 0.8]]
