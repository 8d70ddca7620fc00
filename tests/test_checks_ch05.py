"""Every check of chapter 5's exercises: accepts right answers, refuses the usual wrong ones."""

import functools
import math

import notebooks
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.checks import ch05 as check
from shared.guards import evaluation_mode
from shared.pretraining import (
    calc_loss_loader,
    load_checkpoint,
    next_token_probabilities,
    save_checkpoint,
    train_model_simple,
)

answers = functools.partial(notebooks.answers, "ch05_pretraining")


# 5.1: expected draws


def expected(prepare=lambda logits, T: (logits / T).softmax(dim=-1), times=lambda n: n):
    return lambda logits, T, n: times(n) * prepare(logits, T)


def drawn(logits, T, n):
    draws = torch.multinomial((logits / T).softmax(dim=-1), n, replacement=True)
    return draws.bincount(minlength=len(logits)).float()


def likeliest(logits, T):
    return F.one_hot((logits / T).argmax(), len(logits)).float()


def by_exponentials(logits, T, n):
    return torch.exp(logits / T) / torch.exp(logits / T).sum() * n


def divided_then_normalised(logits, T):
    shares = logits.softmax(dim=-1) / T
    return shares / shares.sum()


def in_place(logits, T, n):
    logits /= T
    return n * logits.softmax(dim=-1)


# 5.2: settings for a job

JOBS = {
    "librarian": {"temperature": 0.0},
    "statistician": {"temperature": 1.0},
    "novelist": {"temperature": 1.0, "top_k": 40},
    "poet": {"temperature": 1.3, "top_p": 0.9},
}


def jobs(**changes):
    return lambda job: dict((JOBS | changes)[job])


# 5.3: nothing left to chance

T0, K1 = {"temperature": 0.0}, {"temperature": 1.0, "top_k": 1}
TINY_P = {"temperature": 1.0, "top_p": 1e-6}


# 5.4: one more epoch


def continued(
    load=load_checkpoint,
    epochs=1,
    freq=None,
    result=slice(None),
    eval_iter=1,
    before=None,
    prompt="The",
):
    def answer(path, model, optimizer, train_loader, val_loader, tokenizer):
        load(path, model, optimizer)
        if before:
            before(train_loader, val_loader)
        every = freq or len(train_loader)
        settings = "cpu", epochs, every, eval_iter, prompt, tokenizer
        return train_model_simple(model, train_loader, val_loader, optimizer, *settings)[result]

    return answer


def saved_again(path, model, optimizer, *rest):
    found = continued()(path, model, optimizer, *rest)
    save_checkpoint(path, model, optimizer)
    return found


def exchanged_losses(*given):
    losses, val_losses, tokens = continued()(*given)
    return val_losses, losses, tokens


def nothing_to_show(*given):
    continued()(*given)
    return [], [], []


def any_lists(*given):
    losses, *_ = continued()(*given)
    return losses, [1.0], [64]


def another_optimizer(path, model, optimizer, train_loader, val_loader, tokenizer):
    new = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    load_checkpoint(path, model, optimizer)
    return continued(lambda *parts: None)(path, model, new, train_loader, val_loader, tokenizer)


def half_an_epoch(path, model, optimizer, train_loader, val_loader, tokenizer):
    load_checkpoint(path, model, optimizer)
    some = [batch for batch, _ in zip(train_loader, range(len(train_loader) // 2))]
    return continued(lambda *parts: None)(path, model, optimizer, some, val_loader, tokenizer)


def weights_only(path, model, optimizer):
    load_checkpoint(path, model)


def random_numbers_left(path, model, optimizer):
    state = torch.get_rng_state()
    load_checkpoint(path, model, optimizer)
    torch.set_rng_state(state)


def nothing_trained(path, model, optimizer, train_loader, val_loader, tokenizer):
    load_checkpoint(path, model, optimizer)
    return [], [], []


# 5.8: the loss, and the sampler


def loss(evaluation=True, gradients=False, restore=True, reduce="targets"):
    def measure(model, loader):
        losses = [
            (F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item(), y) for x, y in loader
        ]
        if reduce == "batches":
            return sum(value for value, _ in losses) / len(losses)
        total = sum(value * y.numel() for value, y in losses)
        count = {"windows": sum(len(y) for _, y in losses), "sum": 1, "counted": len(losses)}
        return total / count.get(reduce, sum(y.numel() for _, y in losses))

    def answer(model, loader):
        with torch.set_grad_enabled(gradients):
            if evaluation and restore:
                with evaluation_mode(model):
                    return measure(model, loader)
            return measure(model.eval() if evaluation else model, loader)

    return answer


def gradients_off_for_good(model, loader):
    with evaluation_mode(model):
        torch.set_grad_enabled(False)
        return calc_loss_loader(loader, model, "cpu")


def frozen_for_good(model, loader):
    model.requires_grad_(False)
    return loss(gradients=True)(model, loader)


def perplexity(model, loader):
    return torch.tensor(loss()(model, loader)).exp().item()


def last_batch_dropped(model, loader):
    return loss()(model, loader[:-1] or loader)


def sampler(*mistakes):
    """Draws from the probabilities of a sampler that makes these mistakes, for equal and unequal rows."""

    def answer(logits, temperature, top_k, top_p):
        rows, which = logits.unique(dim=0, return_inverse=True)
        out = torch.empty(len(logits), dtype=torch.long)
        for i, row in enumerate(rows):
            shares = check._sampled(row, temperature, top_k, top_p, mistakes)
            draws = torch.multinomial(
                shares.clamp_min(0), int((which == i).sum()), replacement=True
            )
            out[which == i] = draws
        return out

    return answer


def row_zero_for_all(logits, temperature, top_k, top_p):
    shares = next_token_probabilities(logits[:1], temperature, top_k, top_p)
    return torch.multinomial(shares, len(logits), replacement=True).squeeze(0)


def beyond_the_end(logits, temperature, top_k, top_p):
    shares = next_token_probabilities(logits, temperature, top_k, None)
    shares = shares * (next_token_probabilities(logits, temperature, top_k, top_p) > 0)
    return torch.searchsorted(shares.cumsum(dim=-1), torch.rand(len(logits), 1)).squeeze(1)


def as_a_column(logits, temperature, top_k, top_p):
    shares = next_token_probabilities(logits, temperature, top_k, top_p)
    return torch.multinomial(shares, 1)


def seeded(*given):
    torch.manual_seed(123)
    return sampler()(*given)


def own_generator(logits, temperature, top_k, top_p):
    shares = next_token_probabilities(logits, temperature, top_k, top_p)
    return torch.multinomial(shares, 1, generator=torch.Generator().manual_seed(1)).squeeze(1)


def divided_in_place(logits, temperature, top_k, top_p):
    logits /= temperature
    return sampler()(logits, 1.0, top_k, top_p)


def as_floats(*given):
    return sampler()(*given).float()


def one_token(logits, temperature, top_k, top_p):
    return sampler()(logits, temperature, top_k, top_p)[:1]


# 5.9: does it draw what it says?


def compare(n=100_000, tolerance=5.0, fixed=None):
    def answer(sample, probabilities):
        shares = sample(n).bincount(minlength=len(probabilities)) / n
        if len(shares) > len(probabilities) or (shares[probabilities == 0] > 0).any():
            return False
        error = (probabilities * (1 - probabilities) / n).sqrt()
        allowed = tolerance * error + 1e-6 if fixed is None else fixed
        return bool(((shares - probabilities).abs() <= allowed).all())

    return answer


def no_look_beyond(sample, probabilities):
    shares = sample(100_000).bincount(minlength=len(probabilities)) / 100_000
    error = (probabilities * (1 - probabilities) / 100_000).sqrt()
    return bool(((shares - probabilities).abs() <= 5 * error + 1e-6).all())


def only_the_top(sample, probabilities):
    return bool((sample(1000) == probabilities.argmax()).float().mean() < 0.99)


WRONG = [
    ("expected_draws", drawn, "you draw"),
    ("expected_draws", by_exponentials, "nan: exp of a large logit overflows"),
    ("expected_draws", in_place, "changed what it was given"),
    ("expected_draws", expected(likeliest), "argmax"),
    ("expected_draws", expected(lambda x, T: (x * T).softmax(dim=-1)), "multiply"),
    ("expected_draws", expected(lambda x, T: x.softmax(dim=-1)), "temperature is not used"),
    ("expected_draws", expected(lambda x, T: x.softmax(dim=-1) / T), "divide probabilities"),
    ("expected_draws", expected(divided_then_normalised), "or cancels"),
    ("expected_draws", expected(times=lambda n: 1), "n draws are asked for"),
    ("expected_draws", expected(lambda x, T: (x / T).sigmoid()), "is expected"),
    ("expected_draws", expected(lambda x, T: (x / T).softmax(dim=-1)[:5]), "the shape is"),
    ("settings_for", jobs(librarian={"temperature": 0.1}), "librarian"),
    ("settings_for", jobs(librarian={"temperature": 0.5, "top_k": 3}), "librarian"),
    ("settings_for", jobs(librarian={"temperature": 1.0}), "the same question can get two"),
    ("settings_for", jobs(statistician={}), "0 unless you give one"),
    ("settings_for", jobs(poet={"top_p": 0.9}), "poet: only the likeliest can come"),
    ("settings_for", jobs(statistician={"temperature": 0.9}), "statistician"),
    ("settings_for", jobs(statistician={"temperature": 1.0, "top_k": 50}), "statistician"),
    ("settings_for", jobs(novelist={"temperature": 1.0}), "not 40"),
    ("settings_for", jobs(novelist={"top_k": 40}), "0 unless you give one"),
    ("settings_for", jobs(novelist={"temperature": 0.7, "top_k": 40}), "own probabilities"),
    ("settings_for", jobs(poet={"temperature": 1.3}), "however absurd"),
    ("settings_for", jobs(poet={"temperature": 1.0, "top_p": 0.9}), "no bolder"),
    ("settings_for", jobs(poet={"temperature": 1.0001, "top_p": 0.9}), "1.0001 is hardly bolder"),
    ("settings_for", jobs(poet={"temperature": 1.04, "top_p": 0.9}), "1.04 is hardly bolder"),
    ("settings_for", jobs(poet={"temperature": 1.3, "top_k": 50}), "must depend"),
    ("settings_for", jobs(poet={"temperature": 100.0, "top_p": 0.9}), "must depend"),
    ("settings_for", jobs(poet={"temperature": 5.0, "top_p": 0.99}), "must depend"),
    ("settings_for", jobs(poet={"temperature": 10.0, "top_p": 0.5}), "must depend"),
    ("settings_for", jobs(poet={"temperature": 1.3, "top_p": 0.001}), "nothing but the likeliest"),
    ("settings_for", jobs(poet={"temperature": -1.0, "top_p": 0.9}), "is refused by generate"),
    ("settings_for", jobs(poet={"temperature": 1.3, "top_p": 0.0}), "is refused by generate"),
    ("settings_for", jobs(novelist={"temperature": 1.0, "top_k": 0}), "is refused by generate"),
    ("settings_for", jobs(poet={"temp": 1.3}), "not 'temp'"),
    ("settings_for", lambda job: 0.0, "a dictionary is asked for"),
    ("settings_for", jobs(novelist={"temperature": 1.0, "top_k": 40.0}), "top_k is 40.0; a whole"),
    ("settings_for", jobs(librarian={"temperature": None}), "temperature is None; a number"),
    ("settings_for", jobs(poet={"temperature": 1.3, "top_p": "0.9"}), "top_p is '0.9'; a number"),
    ("deterministic_settings", lambda: T0, "a list of settings is asked for, not {"),
    ("deterministic_settings", lambda: [T0, K1], "three settings"),
    ("deterministic_settings", lambda: [T0, K1, {"temperature": 0.01}], "setting 3: with 40"),
    ("deterministic_settings", lambda: [T0, K1, {"temperature": 1.0, "top_p": 0.01}], "50,257"),
    (
        "deterministic_settings",
        lambda: [T0, K1, TINY_P | {"top_p": 2e-5}],
        "setting 3: with 50,257",
    ),
    ("deterministic_settings", lambda: [{"temperature": 1e-7}, K1, TINY_P], "setting 1: with"),
    ("deterministic_settings", lambda: [T0, T0, TINY_P], "none of the three does it by top_k"),
    ("deterministic_settings", lambda: [T0, K1, K1 | TINY_P], "alone"),
    ("deterministic_settings", lambda: [T0 | {"top_k": 1}, K1, TINY_P], "is to be 1"),
    ("deterministic_settings", lambda: [T0, K1 | {"temperature": 2.0}, TINY_P], "is to be 1"),
    ("deterministic_settings", lambda: [T0, {"top_k": 1}, TINY_P], "setting 2: without a temp"),
    ("deterministic_settings", lambda: [T0, K1, {"top_p": 1e-6}], "setting 3: without a temp"),
    (
        "deterministic_settings",
        lambda: [T0, K1, {"temperature": 1.0, "top_k": 2}],
        "of them can come",
    ),
    ("one_more_epoch", continued(weights_only), "the optimizer is new"),
    ("one_more_epoch", another_optimizer, "the optimizer is new"),
    ("one_more_epoch", continued(random_numbers_left), "of the checkpoint are not in force"),
    ("one_more_epoch", continued(lambda *parts: None), "began anew"),
    ("one_more_epoch", continued(epochs=2), "you trained"),
    ("one_more_epoch", half_an_epoch, "you trained"),
    ("one_more_epoch", continued(freq=2), "you evaluated"),
    ("one_more_epoch", continued(before=lambda a, b: torch.manual_seed(123)), "set by a seed"),
    ("one_more_epoch", continued(before=lambda a, b: torch.manual_seed(7)), "the last thing"),
    ("one_more_epoch", continued(before=lambda a, b: next(iter(a))), "the training loader"),
    ("one_more_epoch", continued(before=lambda a, b: next(iter(b))), "the validation loader"),
    ("one_more_epoch", continued(before=lambda a, b: [*a, *b] and None), "(both)"),
    ("one_more_epoch", continued(result=slice(0, 1)), "three lists"),
    ("one_more_epoch", continued(eval_iter=None), "eval_iter=1"),
    ("one_more_epoch", exchanged_losses, "are exchanged"),
    ("one_more_epoch", nothing_to_show, "a list is empty"),
    ("one_more_epoch", any_lists, "but the validation loss"),
    ("one_more_epoch", nothing_trained, "was not trained on"),
    (
        "one_more_epoch",
        continued(prompt="Every effort moves you"),
        "no sample of the trained model",
    ),
    ("one_more_epoch", saved_again, "the checkpoint is no longer what it was"),
    ("one_more_epoch", lambda *given: dict(enumerate(continued()(*given))), "three lists"),
    ("repaired_loss", loss(evaluation=False), "dropout is active"),
    ("repaired_loss", loss(restore=False), "left in the other"),
    ("repaired_loss", loss(gradients=True), "gradients are recorded"),
    ("repaired_loss", frozen_for_good, "requires_grad (it was True): put it back"),
    ("repaired_loss", gradients_off_for_good, "leaves `torch.set_grad_enabled` changed"),
    ("repaired_loss", loss(reduce="batches"), "batches are averaged"),
    ("repaired_loss", loss(reduce="windows"), "number of windows"),
    ("repaired_loss", loss(reduce="sum"), "the sum over all targets"),
    ("repaired_loss", perplexity, "the perplexity"),
    ("repaired_loss", loss(reduce="counted"), "number of batches"),
    ("repaired_loss", lambda *given: loss()(*given) / math.log(2), "these are bits"),
    ("repaired_loss", last_batch_dropped, "the last batch is left out"),
    ("repaired_loss", lambda model, loader: 1.0, "you say"),
    ("repaired_loss", lambda model, loader: math.nan, "the loss is nan"),
    ("repaired_sampler", sampler("ranks"), "ranks"),
    ("repaired_sampler", sampler("argmax"), "takes the likeliest"),
    ("repaired_sampler", sampler("undivided"), "does not divide"),
    ("repaired_sampler", sampler("crossing"), "drops the token"),
    ("repaired_sampler", sampler("cold"), "does not use the temperature"),
    ("repaired_sampler", sampler("inverse"), "multiplies by the temperature"),
    ("repaired_sampler", sampler("all"), "does not use top_k"),
    ("repaired_sampler", sampler("whole"), "does not use top_p"),
    ("repaired_sampler", sampler("early"), "before the temperature"),
    (
        "repaired_sampler",
        sampler("ranks", "undivided"),
        "ranks among the top k in place of token IDs and",
    ),
    ("repaired_sampler", sampler("order"), "before top-k has cut"),
    ("repaired_sampler", as_a_column, "one a row, (40000,)"),
    ("repaired_sampler", beyond_the_end, "does not exist"),
    ("repaired_sampler", row_zero_for_all, "mixed up"),
    ("repaired_sampler", one_token, "one a row"),
    ("repaired_sampler", seeded, "each call draws the very same tokens"),
    ("repaired_sampler", own_generator, "each call draws the very same tokens"),
    ("repaired_sampler", divided_in_place, "changed what it was given, `logits`"),
    ("repaired_sampler", as_floats, "token IDs are whole numbers"),
    ("draws_as_claimed", compare(n=300), "got through"),
    ("draws_as_claimed", compare(fixed=1e-3, n=1000), "were accused"),
    ("draws_as_claimed", compare(fixed=0.05), "got through"),
    ("draws_as_claimed", compare(fixed=0.005), "of 1,000 tokens, got through"),
    ("draws_as_claimed", compare(tolerance=1.0), "were accused"),
    *[("draws_as_claimed", compare(n, 3.0), "were accused") for n in (100_000, 200_000, 400_000)],
    ("draws_as_claimed", no_look_beyond, "the answer is False"),
    ("draws_as_claimed", only_the_top, "got through"),
    ("draws_as_claimed", lambda sample, probabilities: True, "got through"),
    ("draws_as_claimed", lambda sample, probabilities: False, "were accused"),
    ("draws_as_claimed", lambda sample, probabilities: 0.7, "True or False"),
    ("draws_as_claimed", lambda sample, probabilities: probabilities > 0, "True or False"),
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, says):
    torch.manual_seed(0)
    result = getattr(check, name)(answer)
    assert not result.ok and result.text.startswith("wrong: "), result.text
    assert says in result.text, result.text
    assert torch.is_grad_enabled()


def test_the_broken_functions_of_the_exercise_are_refused():
    found = answers("solutions.ipynb")
    assert not check.repaired_loss(found["broken_loss"]).ok
    text = check.repaired_sampler(found["broken_sampler"]).text
    for mistake in ("ranks", "divide", "drops the token"):
        assert mistake in text, text


def test_other_right_answers_are_accepted():
    def by_the_library(logits, temperature, n):
        return (n * next_token_probabilities(logits[None], temperature)[0]).tolist()

    def loaders_loss(model, loader):
        with evaluation_mode(model), torch.inference_mode():
            return calc_loss_loader(loader, model, "cpu")

    def by_running_sums(logits, temperature, top_k, top_p):
        sums = next_token_probabilities(logits, temperature, top_k, top_p).cumsum(dim=-1)
        draws = torch.rand(len(sums), 1) * sums[:, -1:]
        return torch.searchsorted(sums, draws).squeeze(1)

    reordered = [TINY_P, {"temperature": 1e-9}, K1]
    assert check.expected_draws(by_the_library).ok
    assert check.settings_for(jobs(librarian=K1, poet={"temperature": 1.5, "top_p": 0.8})).ok
    assert check.settings_for(jobs(poet={"temperature": 1.05, "top_p": 0.9})).ok
    assert check.deterministic_settings(lambda: reordered).ok
    assert check.one_more_epoch(continued(freq=10**9)).ok
    assert check.repaired_loss(loaders_loss).ok and check.repaired_loss(loss()).ok
    assert check.repaired_sampler(by_running_sums).ok
    assert check.repaired_sampler(lambda *given: by_running_sums(*given).tolist()).ok
    assert check.repaired_sampler(lambda *given: by_running_sums(*given).numpy()).ok
    assert check.repaired_sampler(sampler()).ok
    assert check.draws_as_claimed(compare()).ok and check.draws_as_claimed(compare(300_000, 6)).ok
    assert check.draws_as_claimed(lambda *given: np.bool_(compare(tolerance=4)(*given))).ok


@pytest.mark.parametrize("kind", [bool, int, np.bool_, torch.tensor, np.array], ids=range(5))
def test_yes_and_no_in_every_form(kind):
    assert check.yes_or_no(kind(True)) is True and check.yes_or_no(kind(False)) is False
    for other in (
        kind([True, False]) if kind in (torch.tensor, np.array) else "True",
        2,
        0.5,
        None,
    ):
        with pytest.raises(AssertionError, match="True or False is asked for"):
            check.yes_or_no(other)


def test_a_right_answer_is_told_what_there_was_to_predict():
    """The three guesses about *pale*, the two about course-gpt: to compare, only once the function is right."""
    text = check.expected_draws(answers("solutions.ipynb")["expected_draws"]).text
    toy = torch.tensor([3.2, 2.1, 1.5, 1.5, 0.6, 0.1, -0.8, -2.0])
    for T, digits in ((0.3, 5), (1.0, 1), (3.0, 1)):
        assert f"{1000 * (toy / T).softmax(dim=-1)[-1]:.{digits}f}" in text
    assert "43.7" not in check.expected_draws(drawn).text


def test_an_answer_does_not_print_through_the_check(capsys):
    assert check.one_more_epoch(answers("solutions.ipynb")["one_more_epoch"]).ok
    assert capsys.readouterr().out == ""


def test_frequencies_that_chance_explains_pass_and_others_do_not():
    shares = torch.tensor([0.5, 0.3, 0.2, 0.0])
    check.check_frequencies(torch.tensor([0] * 505 + [1] * 295 + [2] * 200), shares)
    for counts in ([600, 200, 200, 0], [499, 300, 200, 1], [500, 300, 200, 0, 1]):
        ids = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        with pytest.raises(AssertionError):
            check.check_frequencies(ids, shares)
