"""Chapter 8's functions against oracles that share no code with them: brute force, autograd, exact expectations."""

import itertools
import math

import numpy as np
import pytest
import torch

from shared import preference as pref
from shared.gpt_model import GPTModel
from shared.judgments import chosen_and_rejected
from shared.lora import replace_linear_with_lora

CFG = {"vocab_size": 12, "context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
CFG |= {"drop_rate": 0.0, "qkv_bias": True}
END = 11


def gpt(seed=1, **changes):
    torch.manual_seed(seed)
    return GPTModel(CFG | changes).eval()


def some_pairs(n, seed=0):
    """Pairs of unequal length, as a PreferenceDataset holds them."""
    rng = np.random.default_rng(seed)

    def ids(low, high):
        return rng.integers(0, END, rng.integers(low, high)).tolist()

    return [{"prompt": ids(1, 6), "chosen": [*ids(1, 9), END], "rejected": [*ids(1, 9), END]} for _ in range(n)]  # fmt: skip


def logprob_by_hand(model, prompt, response):
    """Token by token, each with a forward pass of its own, in float64."""
    model, total = model.double(), 0.0
    for i, token in enumerate(response):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *response[:i]]]))[0, -1].numpy()
        total += logits[token] - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    model.float()
    return total


# --- data -----------------------------------------------------------------------------------------

RECORD = {"prompt": "p", "response_1": "one", "response_2": "two", "preferred": 1}


@pytest.mark.parametrize("preferred, chosen", [(1, "one"), (2, "two")])
def test_a_judgment_becomes_a_pair(preferred, chosen):
    found = chosen_and_rejected(RECORD | {"preferred": preferred})
    other = {"one": "two", "two": "one"}[chosen]
    assert found == {"prompt": "p", "chosen": chosen, "rejected": other}


@pytest.mark.parametrize("preferred", [0, 3, -1, None, True, "1", 1.5])
def test_a_preference_that_is_neither_is_refused(preferred):
    with pytest.raises(ValueError, match="must be 1 or 2. Leave ties out"):
        chosen_and_rejected(RECORD | {"preferred": preferred})


def test_equal_responses_and_missing_keys_are_refused():
    with pytest.raises(ValueError, match="neither can be preferred"):
        chosen_and_rejected(RECORD | {"response_2": " one\n"})
    with pytest.raises(ValueError, match="lacks response_2"):
        chosen_and_rejected({k: v for k, v in RECORD.items() if k != "response_2"})


class Letters:
    """A tokenizer of ten letters."""

    eot_token = END

    def encode_ordinary(self, text):
        return ["abcdefghi \n".index(letter) for letter in text]


def entry(chosen="ab", rejected="abc"):
    return {"instruction": "a", "chosen": chosen, "rejected": rejected}


def test_a_dataset_ends_each_response_with_the_end_token():
    (pair,) = pref.PreferenceDataset([entry()], Letters(), prompt=lambda e: e["instruction"])
    assert pair == {"prompt": [0], "chosen": [9, 0, 1, END], "rejected": [9, 0, 1, 2, END]}
    (pair,) = pref.PreferenceDataset([entry()], Letters(), prompt=lambda e: "a\n")
    assert pair["chosen"] == [0, 1, END]  # no space after a new line


@pytest.mark.parametrize(
    "bad, says",
    [
        (entry(rejected="ab "), "equal"),
        (entry(chosen=""), "no text under 'chosen'"),
        ({"instruction": "a", "chosen": "b"}, "no text under 'rejected'"),
        (
            entry(rejected="a" * 20),
            "rejected: prompt, response and end token are 23 tokens, and 16",
        ),
    ],
)
def test_pairs_that_teach_nothing_are_refused_by_number(bad, says):
    with pytest.raises(ValueError, match=f"entry 1.*{says}"):
        pref.PreferenceDataset([entry(), bad], Letters(), prompt=lambda e: "a", max_length=16)


def test_the_mask_marks_responses_with_their_end_and_nothing_else():
    ids, mask = pref.collate_pairs(
        [{"prompt": [1, END], "chosen": [2, END], "rejected": [3, 4, END]}], END
    )
    assert ids.tolist() == [[1, END, 2, END, END], [1, END, 3, 4, END]]
    assert mask.tolist() == [[False, False, True, True, False], [False, False, True, True, True]]


# --- log-probabilities ----------------------------------------------------------------------------


def test_logprobs_are_the_sum_over_the_response():
    model, pairs = gpt(), some_pairs(20)
    ids, mask = pref.collate_pairs(pairs, END)
    with torch.no_grad():
        found = pref.compute_logprobs(model(ids), ids, mask)
    expected = [
        logprob_by_hand(model, p["prompt"], p[side])
        for side in ("chosen", "rejected")
        for p in pairs
    ]
    assert np.allclose(found, expected, atol=1e-4)


def test_without_a_mask_all_tokens_but_the_first_count():
    model, ids = gpt(), torch.tensor([[3, 1, 4]])
    with torch.no_grad():
        found = pref.compute_logprobs(model(ids), ids).item()
    assert found == pytest.approx(logprob_by_hand(model, [3], [1, 4]), abs=1e-5)


def test_what_is_not_marked_may_be_impossible():
    logits = torch.zeros(1, 3, 4)
    logits[0, 1, 2] = -torch.inf  # the last token is impossible, and padding
    ids, mask = torch.tensor([[0, 1, 2]]), torch.tensor([[False, True, False]])
    assert pref.compute_logprobs(logits, ids, mask).item() == pytest.approx(-math.log(4))


# --- reward model ---------------------------------------------------------------------------------


def test_the_reward_loss_is_bradley_and_terrys():
    rng = np.random.default_rng(0)
    chosen, rejected = rng.normal(size=(2, 50))
    expected = -np.log(np.exp(chosen) / (np.exp(chosen) + np.exp(rejected))).mean()
    found = pref.compute_reward_loss(torch.tensor(chosen), torch.tensor(rejected))
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert pref.compute_reward_loss(torch.tensor([1e4]), torch.tensor([-1e4])).item() == 0
    shifted = pref.compute_reward_loss(torch.tensor(chosen + 7), torch.tensor(rejected + 7))
    assert shifted.item() == pytest.approx(expected, rel=1e-9)


@torch.no_grad()
def test_a_reward_is_read_at_the_responses_last_token_whatever_follows():
    model, pairs = pref.RewardModel(gpt()), some_pairs(8)
    ids, mask = pref.collate_pairs(pairs, END)
    together = model(ids, mask)
    rows = [(p["prompt"], p[side]) for side in ("chosen", "rejected") for p in pairs]
    for score, (prompt, response) in zip(together, rows):
        assert model(*pref.padded([prompt], [response], END)).item() == pytest.approx(
            score.item(), abs=1e-5
        )
    without_end = model(*pref.padded([rows[0][0]], [rows[0][1][:-1]], END))
    assert abs(without_end - together[0]) > 1e-4  # the end is read


@torch.no_grad()
def test_hidden_states_are_what_the_head_reads():
    model, ids = gpt(), torch.tensor([[1, 2, 3, 4]])
    assert torch.allclose(model.out_head(pref.hidden_states(model, ids)), model(ids), atol=1e-6)


# --- best of n ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", range(1, 8))
def test_best_of_n_is_the_mean_over_all_choices(n):
    rng = np.random.default_rng(3)
    scores, values = rng.permutation(7).astype(float), rng.normal(size=7)
    by_hand = [
        values[max(some, key=lambda i: scores[i])] for some in itertools.combinations(range(7), n)
    ]
    assert pref.best_of_n(scores, values, n) == pytest.approx(np.mean(by_hand), abs=1e-12)


def test_best_of_n_with_equal_scores_takes_the_later_one():
    assert pref.best_of_n([1, 1, 0], [0.0, 1.0, 0.0], 3) == 1.0
    assert pref.best_of_n([1, 1, 0], [1.0, 0.0, 0.0], 3) == 0.0


@pytest.mark.parametrize("n", [0, 4, -1])
def test_best_of_n_refuses_more_draws_than_there_are(n):
    with pytest.raises(ValueError, match="it must be 1 to 3"):
        pref.best_of_n([1, 2, 3], [0, 0, 1], n)
    with pytest.raises(ValueError, match="3 scores, but 2 values"):
        pref.best_of_n([1, 2, 3], [0, 0], 1)


# --- advantages -----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 1e-8, 3.7e5, -0.7])
@pytest.mark.parametrize("count", [2, 3, 6, 7, 8])
@pytest.mark.parametrize("by_std", [False, True])
def test_a_group_of_equal_rewards_has_no_advantages(value, count, by_std):
    found = pref.compute_group_normalized_rewards(torch.full((2, count), value), by_std)
    assert not found.any()


def test_advantages_of_a_group():
    rewards = torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64)
    assert torch.allclose(
        pref.compute_group_normalized_rewards(rewards), torch.tensor([[-2.0, -1.0, 3.0]]).double()
    )
    expected = np.array([-2, -1, 3]) / (np.std([1, 2, 6], ddof=1) + 1e-6)
    assert np.allclose(pref.compute_group_normalized_rewards(rewards, True), expected)


def gae_by_brute_force(rewards, values, gamma, lam):
    """The sum of (gamma lam)^l delta, with two loops."""
    T = len(rewards)
    deltas = [
        rewards[t] + gamma * (values[t + 1] if t + 1 < T else 0) - values[t] for t in range(T)
    ]
    return [sum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, T)) for t in range(T)]


@pytest.mark.parametrize("gamma, lam", [(1, 0.95), (0.9, 0.8), (1, 1), (1, 0), (0.5, 1)])
def test_gae_is_the_brute_force_sum(gamma, lam):
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=(2, 5, 9))
    found = pref.compute_gae(torch.tensor(rewards), torch.tensor(values), gamma, lam)
    expected = [gae_by_brute_force(r, v, gamma, lam) for r, v in zip(rewards, values)]
    assert np.allclose(found, expected, atol=1e-12)


def test_gae_with_lambda_1_is_return_minus_value_and_with_0_one_step():
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 4, 6, dtype=torch.float64)
    to_come = rewards.flip(1).cumsum(1).flip(1)
    assert torch.allclose(pref.compute_gae(rewards, values, 1.0, 1.0), to_come - values)
    later = torch.cat((values[:, 1:], torch.zeros(4, 1)), dim=1)
    assert torch.allclose(
        pref.compute_gae(rewards, values, 0.9, 0.0), rewards + 0.9 * later - values
    )


def test_padding_changes_no_advantage_by_a_bit():
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 1, 5)
    alone = pref.compute_gae(rewards, values)
    wide = torch.full((2, 1, 9), torch.nan)
    wide[:, :, 2:7] = torch.stack((rewards, values))
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[:, 2:7] = True
    found = pref.compute_gae(*wide, mask=mask)
    assert torch.equal(found[:, 2:7], alone) and not found[~mask].any()


# --- PPO and GRPO ---------------------------------------------------------------------------------


@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.1, 2.0])
def test_the_clip_is_the_minimum_for_both_signs(advantage, ratio):
    new = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss = pref.compute_grpo_clip_loss(torch.tensor([[advantage]]), new, torch.zeros(1, 1), 0.2)
    loss.sum().backward()
    inside = min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
    assert loss.item() == pytest.approx(-inside)
    stopped = (advantage > 0 and ratio > 1.2) or (advantage < 0 and ratio < 0.8)
    assert new.grad.item() == pytest.approx(0.0 if stopped else -ratio * advantage)


def test_at_ratio_1_the_gradient_is_reinforces():
    logprobs, advantages = torch.randn(3, 4, requires_grad=True), torch.randn(3, 1)
    pref.compute_grpo_clip_loss(advantages, logprobs, logprobs.detach()).sum().backward()
    assert torch.allclose(logprobs.grad, -advantages.expand(3, 4))


def test_the_loss_of_a_group_is_zero_and_its_gradient_is_not():
    logprobs = torch.randn(4, 1, requires_grad=True)
    advantages = pref.compute_group_normalized_rewards(torch.tensor([[1.0, 0.0, 0.0, 1.0]])).T
    loss = pref.compute_grpo_clip_loss(advantages, logprobs, logprobs.detach()).mean()
    loss.backward()
    assert abs(loss.item()) < 1e-7 and logprobs.grad.norm() > 0.1


def test_ppos_loss_counts_marked_tokens_only():
    torch.manual_seed(0)
    advantages, new, old, values, returns = torch.randn(5, 2, 3).double()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    found = pref.compute_ppo_loss(advantages, new, old, values, returns, mask, 0.2, 0.1).item()
    total, count = 0.0, 0
    for b, t in mask.nonzero().tolist():
        ratio, A = math.exp(new[b, t] - old[b, t]), advantages[b, t].item()
        policy = -min(ratio * A, min(max(ratio, 0.8), 1.2) * A)
        total += policy + 0.1 * 0.5 * (values[b, t] - returns[b, t]).item() ** 2
        count += 1
    assert found == pytest.approx(total / count, rel=1e-9)
    for tensor in (advantages, new, old, values, returns):
        tensor[~mask] = torch.nan
    assert pref.compute_ppo_loss(
        advantages, new, old, values, returns, mask
    ).item() == pytest.approx(found)


# --- KL -------------------------------------------------------------------------------------------


def test_the_estimates_on_a_small_vocabulary():
    torch.manual_seed(0)
    policy, reference = torch.randn(2, 7, dtype=torch.float64).log_softmax(-1)
    exact = (policy.exp() * (policy - reference)).sum()
    estimates = pref.kl_estimates(policy, reference)
    for name in "k1", "k3":  # right on average
        assert (policy.exp() * estimates[name]).sum().item() == pytest.approx(
            exact.item(), rel=1e-12
        )
    assert (estimates["k2"] >= 0).all() and (estimates["k3"] >= 0).all()


def test_k3_keeps_its_sign_near_zero():
    log_ratio = torch.tensor([1e-6, -1e-6, 1e-4])
    assert (pref.kl_estimates(-log_ratio, torch.zeros(3))["k3"] >= 0).all()


# --- a step of a policy ---------------------------------------------------------------------------


def policy(seed=1, rank=2):
    model = gpt(seed).requires_grad_(False)
    replace_linear_with_lora(model, rank, rank)
    return model


def test_at_first_the_policy_is_its_reference():
    model = policy()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    watched = [pref.policy_gradient_step(model, [[1], [2, 3]], lambda i, ids: ids[0] == 4, optimizer, END, max_new_tokens=4) for _ in range(3)]  # fmt: skip
    assert watched[0]["objective/kl"] == pytest.approx(0, abs=1e-6)
    assert watched[2]["objective/kl"] != 0


def test_a_step_moves_along_the_gradient_of_the_samples(monkeypatch):
    """The same answers, scored and differentiated with a loop of our own."""
    drawn = [[4, END], [5, 6, END], [7, 8, 9], [4, 4, END]]
    monkeypatch.setattr(pref, "sample_answers", lambda *given: drawn)
    model = policy()
    for layer in model.modules():  # away from the reference
        if hasattr(layer, "B"):
            torch.nn.init.normal_(layer.B, std=0.1)
    weights = [p for p in model.parameters() if p.requires_grad]
    before = [w.detach().clone() for w in weights]
    prompts, beta = [[1, 2], [3]], 0.1
    rewards = [1.0, 0.0, 0.5, 0.25]
    base = gpt()
    kl = [logprob_by_hand(model, prompts[i // 2], ids) - logprob_by_hand(base, prompts[i // 2], ids) for i, ids in enumerate(drawn)]  # fmt: skip
    penalized = [r - beta * k for r, k in zip(rewards, kl)]
    advantages = [
        p - (penalized[i // 2 * 2] + penalized[i // 2 * 2 + 1]) / 2 for i, p in enumerate(penalized)
    ]
    loss = 0.0
    for i, (ids, advantage) in enumerate(zip(drawn, advantages)):
        whole = torch.tensor([[*prompts[i // 2], *ids]])
        logp = model(whole).log_softmax(-1)
        start = len(prompts[i // 2])
        loss = (
            loss - advantage * sum(logp[0, start + t - 1, token] for t, token in enumerate(ids)) / 4
        )
    expected = torch.autograd.grad(loss, weights)
    norm = torch.sqrt(sum((g**2).sum() for g in expected))
    scale = min(1.0, 1.0 / norm.item())  # gradients are clipped at length 1
    given = iter(rewards)
    watched = pref.policy_gradient_step(model, prompts, lambda i, ids: next(given), torch.optim.SGD(weights, lr=1.0), END, samples=2, beta=beta)  # fmt: skip
    for w, b, g in zip(weights, before, expected):
        assert torch.allclose(b - w.detach(), scale * g, atol=1e-5)
    assert watched["reward"] == pytest.approx(np.mean(rewards))
    assert watched["objective/kl"] == pytest.approx(np.mean(kl), abs=1e-4)
    assert watched["length"] == pytest.approx(np.mean([len(ids) for ids in drawn]))
    assert watched["frac_reward_zero_std"] == 0


def test_on_one_token_the_expected_step_is_the_gradient_of_the_expected_reward():
    """All answers, each with its probability, instead of samples: exact."""
    model = gpt().double()
    rewards = torch.randn(12, dtype=torch.float64)
    ids = torch.tensor([[1, 2, token] for token in range(12)])
    mask = torch.tensor([[False, False, True]]).expand(12, 3)
    logprobs = pref.compute_logprobs(model(ids), ids, mask)
    weights = list(model.parameters())
    ours = torch.autograd.grad((logprobs.detach().exp() * rewards * logprobs).sum(), weights, retain_graph=True, allow_unused=True)  # fmt: skip
    probabilities = model(torch.tensor([[1, 2]]))[0, -1].softmax(-1)
    exact = torch.autograd.grad(probabilities @ rewards, weights, allow_unused=True)
    for one, other in zip(ours, exact):
        assert one is None or torch.allclose(one, other, atol=1e-12)


def test_dropout_does_not_disturb_the_reference_or_the_ratio():
    torch.manual_seed(1)
    model = GPTModel(CFG | {"drop_rate": 0.5}).train().requires_grad_(False)
    replace_linear_with_lora(model, 2, 2)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    watched = pref.policy_gradient_step(
        model, [[1]], lambda i, ids: 1.0, optimizer, END, max_new_tokens=4
    )
    assert watched["objective/kl"] == pytest.approx(0, abs=1e-6) and model.training
    assert watched["frac_reward_zero_std"] == 1


def test_drawn_answers_keep_their_end():
    torch.manual_seed(0)
    found = pref.sample_answers(gpt(), [[1], [2, 3]] * 50, 6, END)
    assert all(len(ids) <= 6 and END not in ids[:-1] for ids in found)
    ended = [ids for ids in found if ids[-1] == END]
    assert ended and all(len(ids) == 6 for ids in found if ids[-1] != END)


def test_answers_are_drawn_from_the_models_probabilities():
    model = gpt()
    with torch.no_grad():
        expected = model(torch.tensor([[1]]))[0, -1].softmax(-1)
    torch.manual_seed(0)
    first = torch.tensor([ids[0] for ids in pref.sample_answers(model, [[1]] * 4000, 1, END)])
    counts = first.bincount(minlength=12) / 4000
    # the end token is cut off by generate and put back: none is lost
    assert (counts - expected).abs().max() < 5 * math.sqrt(0.25 / 4000)


# --- DPO ------------------------------------------------------------------------------------------


class Pairs(list):
    """What the DPO functions need of a dataset."""

    @property
    def pairs(self):
        return self


def test_dpo_equals_an_independent_implementation_on_100_pairs():
    model, reference, pairs = gpt(1), gpt(2), Pairs(some_pairs(100))
    pref.store_reference(pairs, reference, END)
    with torch.no_grad():
        loss, watched = pref.dpo_batch(pairs, model, END, 0.3)
    by_hand, chosen_rewards = [], []
    for p in pairs:
        ratios = [logprob_by_hand(model, p["prompt"], p[s]) - logprob_by_hand(reference, p["prompt"], p[s]) for s in ("chosen", "rejected")]  # fmt: skip
        by_hand.append(np.log1p(np.exp(-0.3 * (ratios[0] - ratios[1]))))
        chosen_rewards.append(0.3 * ratios[0])
    assert loss.item() == pytest.approx(np.mean(by_hand), abs=1e-6 * 10)
    assert watched["rewards/chosen"] == pytest.approx(np.mean(chosen_rewards), abs=1e-5)
    assert watched["rewards/margins"] == pytest.approx(
        watched["rewards/chosen"] - watched["rewards/rejected"], abs=1e-5
    )


def test_dpos_formula_pair_by_pair_to_1e_6():
    rng = np.random.default_rng(0)
    four = -np.abs(rng.normal(size=(4, 100))) * 20
    for beta in 0.05, 0.1, 0.5:
        margin = beta * ((four[0] - four[2]) - (four[1] - four[3]))
        loss, chosen, rejected = pref.compute_dpo_loss(*map(torch.tensor, four), beta)
        assert loss.item() == pytest.approx(np.mean(np.log1p(np.exp(-margin))), abs=1e-9)
        assert np.allclose(chosen - rejected, margin, atol=1e-9)


@pytest.mark.parametrize("drop_rate", [0.0, 0.5])
def test_before_the_first_step_the_loss_is_ln_2(drop_rate):
    torch.manual_seed(1)
    model, pairs = GPTModel(CFG | {"drop_rate": drop_rate}).train(), Pairs(some_pairs(40))
    pref.store_reference(pairs, model, END)
    found = pref.evaluate_dpo_loss_loader(pairs, model, END, 0.1, batch_size=16)
    assert found["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert found["rewards/accuracies"] == pytest.approx(0, abs=1) and model.training


def test_the_loaders_means_do_not_depend_on_the_batches():
    model, pairs = gpt(1), Pairs(some_pairs(37))
    pref.store_reference(pairs, gpt(2), END, batch_size=5)
    whole, pieces = (
        pref.evaluate_dpo_loss_loader(pairs, model, END, 0.2, batch_size=n) for n in (37, 8)
    )
    assert whole == pytest.approx(pieces, abs=1e-5)


def test_dpo_training_learns_and_leaves_the_reference():
    model, pairs = gpt(1), Pairs(some_pairs(32))
    pref.store_reference(pairs, model, END)
    reference = [pair["reference"] for pair in pairs]
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters())
    rows = pref.train_model_dpo_simple(model, pairs, pairs, optimizer, 6, 0.2, END, batch_size=8, eval_freq=8, peak_lr=1e-2)  # fmt: skip
    assert [row["step"] for row in rows] == [0, 8, 16, 24]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-6) and rows[-1]["loss"] < 0.3
    assert rows[-1]["rewards/accuracies"] > 0.9
    assert reference == [pair["reference"] for pair in pairs]


# --- win rate -------------------------------------------------------------------------------------


def test_ties_are_halves_and_the_two_sides_add_up():
    torch.manual_seed(0)
    ours, theirs = torch.randint(0, 2, (2, 30, 4))
    rate, low, high = pref.win_rate(ours, theirs)
    by_hand = np.mean(
        [
            [(a > b) + 0.5 * (a == b) for a in x for b in y]
            for x, y in zip(ours.tolist(), theirs.tolist())
        ]
    )
    assert rate == pytest.approx(by_hand) and low <= rate <= high
    assert pref.win_rate(theirs, ours)[0] == pytest.approx(1 - rate)
    assert pref.win_rate(ours, ours[:, :1] * 0 + ours[:, :1])[0] <= 1
    assert pref.win_rate(torch.ones(5, 2), torch.ones(5, 2))[0] == 0.5
    assert pref.win_rate(torch.ones(5, 1), torch.zeros(5, 3)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3, 2), (4, 2)), ((0, 2), (0, 2))])
def test_verdicts_on_other_prompts_are_refused(shapes):
    with pytest.raises(ValueError, match="of the same prompts"):
        pref.win_rate(*(torch.zeros(shape) for shape in shapes))
