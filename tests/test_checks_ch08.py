"""Every check of chapter 8's exercises: accepts right answers, refuses the usual wrong ones."""

import functools
import itertools
import math
import random

import notebooks
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from shared.checks import ch08 as check
from shared.guards import evaluation_mode
from shared.preference import (
    RewardModel,
    compute_dpo_loss,
    compute_group_normalized_rewards,
    compute_grpo_clip_loss,
    compute_logprobs,
    hidden_states,
    kl_estimates,
    padded,
    pair_logprobs,
    token_logprobs,
)
from shared.scoring import bootstrap_interval

answers = functools.partial(notebooks.answers, "ch08_preference")


# 8.1: Bradley and Terry


def uphill(wins, steps=2000, rate=1.0, result=lambda scores: scores):
    """The solution, with room for mistakes."""
    counts, scores = wins + wins.T, torch.zeros(len(wins))
    for _ in range(steps):
        off = wins.sum(1) - (counts * torch.sigmoid(scores[:, None] - scores)).sum(1)
        scores = scores + rate * off / counts.sum(1)
    return result(scores)


def zermelo(wins):
    """The strengths in turn, in plain Python (Zermelo, 1929), shifted by 100."""
    wins = wins.tolist()
    n = len(wins)
    strengths = [1.0] * n
    for _ in range(500):
        for i in range(n):
            games = sum((wins[i][j] + wins[j][i]) / (strengths[i] + strengths[j]) for j in range(n) if j != i)  # fmt: skip
            strengths[i] = sum(wins[i]) / games
    return [100 + math.log(s) for s in strengths]


def by_lbfgs(wins):
    scores = torch.zeros(len(wins), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([scores], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = -(wins * F.logsigmoid(scores[:, None] - scores)).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return scores.detach().numpy()


def as_a_regression(wins):
    """A row for each verdict, the first answer's score held at 0."""
    rows = [(i, j) for i, j in wins.nonzero().tolist() for _ in range(int(wins[i, j]))]
    x = torch.zeros(len(rows), len(wins))
    for row, (i, j) in zip(x, rows):
        row[i], row[j] = 1, -1
    w = torch.zeros(len(wins) - 1)
    for _ in range(30):
        p = torch.sigmoid(x[:, 1:] @ w)
        w = w + torch.linalg.solve(x[:, 1:].T * (p * (1 - p)) @ x[:, 1:], x[:, 1:].T @ (1 - p))
    return tuple([0.0, *w.tolist()])


def mean_of_logits(wins):
    """The mean logit against each opponent, as if all pairs met equally often."""
    return ((wins + 0.5) / (wins.T + 0.5)).log().mean(1)


def elo(wins):
    scores = torch.zeros(len(wins))
    for i, j in wins.nonzero().tolist():
        for _ in range(int(wins[i, j])):
            gain = 0.1 * torch.sigmoid(scores[j] - scores[i])
            scores[i] += gain
            scores[j] -= gain
    return scores


# 8.2: where a reward is read


def rewards(where, what=lambda states, score: score(states).squeeze(-1)):
    """An answer that reads at `where(prompt lengths, text lengths, ids)`."""

    def answer(gpt, score, prompts, responses, pad_id):
        texts = [torch.tensor(p + r) for p, r in zip(prompts, responses)]
        ids = pad_sequence(texts, batch_first=True, padding_value=pad_id)
        starts, stops = torch.tensor([len(p) for p in prompts]), torch.tensor([len(t) for t in texts])  # fmt: skip
        places = where(starts, stops, ids)
        return what(hidden_states(gpt, ids)[torch.arange(len(ids)), places], score)

    return answer


def one_by_one(gpt, score, prompts, responses, pad_id):
    found = []
    for prompt, response in zip(prompts, responses):
        found.append(score(hidden_states(gpt, torch.tensor([prompt + response]))[0, -1])[0])
    return torch.stack(found)


def by_the_lesson(gpt, score, prompts, responses, pad_id):
    model = RewardModel(gpt)
    model.score = score
    return model(*padded(prompts, responses, pad_id))


def padded_on_the_left(gpt, score, prompts, responses, pad_id):
    texts = [p + r for p, r in zip(prompts, responses)]
    width = max(map(len, texts))
    ids = torch.tensor([[pad_id] * (width - len(text)) + text for text in texts])
    return score(hidden_states(gpt, ids)[:, -1]).squeeze(-1)


def scored_first(gpt, score, prompts, responses, pad_id):
    ids, mask = padded(prompts, responses, pad_id)
    last = (mask * torch.arange(1, ids.shape[1] + 1)).argmax(1, keepdim=True)
    return score(hidden_states(gpt, ids))[..., 0].gather(1, last)[:, 0]


def of_all_tokens(gpt, score, prompts, responses, pad_id):
    ids, mask = padded(prompts, responses, pad_id)
    found = score(hidden_states(gpt, ids)).squeeze(-1)
    return (found * mask).sum(1) / mask.sum(1)


def cut_from_the_gpt(gpt, score, prompts, responses, pad_id):
    with torch.no_grad():
        ids, mask = padded(prompts, responses, pad_id)
        states = hidden_states(gpt, ids)
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return score(states[torch.arange(len(ids)), last]).squeeze(-1)


def by_item(*given):
    return torch.tensor(one_by_one(*given).tolist())


# 8.3: groups


def in_python(rewards, groups, by_std=False):
    rewards, groups = rewards.double().tolist(), groups.tolist()
    found = []
    for reward, group in zip(rewards, groups):
        own = [r for r, g in zip(rewards, groups) if g == group]
        mean = sum(own) / len(own)
        spread = (sum((r - mean) ** 2 for r in own) / max(1, len(own) - 1)) ** 0.5
        equal = max(own) == min(own)
        found.append(0 if equal else (reward - mean) / (spread + 1e-6 if by_std else 1))
    return found


def with_numpy(rewards, groups, by_std=False):
    found = np.zeros(len(rewards))
    for g in np.unique(groups.numpy()):
        own = groups.numpy() == g
        these = rewards.numpy()[own].astype(float)
        if np.ptp(these):
            found[own] = these - these.mean()
            if by_std:
                found[own] /= these.std(ddof=1) + 1e-6
    return found


def by_index(rewards, groups, by_std=False):
    """All groups at once."""
    _, place, counts = groups.unique(return_inverse=True, return_counts=True)
    zeros = torch.zeros(len(counts))
    off = rewards - (zeros.index_add(0, place, rewards) / counts)[place]
    if by_std:
        spread = (zeros.index_add(0, place, off**2) / (counts - 1).clamp(min=1)).sqrt()
        off = off / (spread[place] + 1e-6)
    most = zeros.scatter_reduce(0, place, rewards, "amax", include_self=False)
    least = zeros.scatter_reduce(0, place, rewards, "amin", include_self=False)
    return torch.where((most == least)[place], 0.0, off)


def by_the_lessons_groups(rewards, groups, by_std=False):
    found = torch.zeros_like(rewards)
    for g in groups.unique():
        if (groups == g).sum() > 1:
            found[groups == g] = compute_group_normalized_rewards(rewards[None, groups == g], by_std)[0]  # fmt: skip
    return found


def grouped(equal=True, mean=lambda own, all: own.mean(), spread=lambda own, all: own.std() + 1e-6, always=None):  # fmt: skip
    """An answer with room for mistakes."""

    def answer(rewards, groups, by_std=False):
        found = torch.zeros_like(rewards)
        for g in groups.unique():
            own = rewards[groups == g]
            if equal and (own == own[0]).all():
                continue
            off = own - mean(own, rewards)
            found[groups == g] = off / spread(own, rewards) if (by_std if always is None else always) and len(own) > 1 else off  # fmt: skip
        return found

    return answer


def sorted_by_group(rewards, groups, by_std=False):
    return grouped()(rewards, groups, by_std)[groups.argsort(stable=True)]


def leave_one_out(rewards, groups, by_std=False):
    found = grouped()(rewards, groups, by_std)
    n = (groups == groups[:, None]).sum(1)
    return found * n / (n - 1).clamp(min=1)


# 8.4: the clip


def by_autograd(advantage, ratio, cliprange=0.2):
    new = torch.tensor([[math.log(ratio)]], requires_grad=True)
    loss = compute_grpo_clip_loss(torch.tensor([[advantage]]), new, torch.zeros(1, 1), cliprange)
    return -torch.autograd.grad(loss.sum(), new)[0].sum()


def by_a_small_step(advantage, ratio, cliprange=0.2, h=1e-6):
    def objective(logratio):
        r = math.exp(logratio)
        return min(r * advantage, max(1 - cliprange, min(1 + cliprange, r)) * advantage)

    return (objective(math.log(ratio) + h) - objective(math.log(ratio) - h)) / (2 * h)


def by_one_condition(a, r, c):
    active = r * a <= np.clip(r, 1 - c, 1 + c) * a
    return np.float64(a * r) if active else np.float64(0)


def in_one_line(advantage, ratio, cliprange):
    return ratio * advantage * (ratio <= 1 + cliprange if advantage >= 0 else ratio >= 1 - cliprange)  # fmt: skip


def clip_with(flat, size=lambda a, r: a * r):
    return lambda a, r, c=0.2: 0.0 if flat(a, r, 1 - c, 1 + c) else size(a, r)


def right_flat(a, r, low, high):
    return r > high if a > 0 else r < low


# 8.5: the KL


def k1_in_the_reward(logprobs, reference_logprobs):
    return ((logprobs - reference_logprobs).detach() * logprobs).mean()


def k2(logprobs, reference_logprobs):
    return kl_estimates(logprobs, reference_logprobs)["k2"].mean()


def with_a_baseline(logp, ref):
    k = (logp - ref).detach()
    return torch.dot(k - k.mean(), logp) / len(logp)


def by_the_ratio(logp, ref):
    return ((logp - logp.detach()).exp() * (logp - ref)).mean()


def k3_by_the_ratio(logp, ref):
    ratio = (logp - logp.detach()).exp()
    return (ratio * kl_estimates(logp, ref)["k3"]).mean()


def in_a_loop(logp, ref):
    return sum((a - b).item() * a for a, b in zip(logp, ref)) / len(logp)


def k_of(name, wrap=lambda x: x):
    return lambda logp, ref: wrap(kl_estimates(logp, ref)[name]).mean()


# 8.6: the search


def any_place(reward, text, words):
    """The best of all replacements, one at a time."""
    best = list(text)
    while True:
        trials = [best[:i] + [w] + best[i + 1 :] for i in range(len(best)) for w in words]
        top = max(trials, key=reward)
        if reward(top) <= reward(best):
            return best
        best = top


def backward_in_place(reward, text, words):
    found, score, moved = [*text], reward(text), True
    while moved:
        moved = False
        for i in reversed(range(len(found))):
            for word in sorted(words):
                was, found[i] = found[i], word
                new = reward(found)
                if new > score:
                    score, moved = new, True
                else:
                    found[i] = was
    return tuple(found)


def again_and_again(reward, text, words):
    """One round, from the start again as long as it gains something."""
    after = one_round(reward, text, words)
    return after if reward(after) <= reward(text) else again_and_again(reward, after, words)


def one_round(reward, text, words):
    best = list(text)
    for place, word in itertools.product(range(len(best)), words):
        best = max(best, best[:place] + [word] + best[place + 1 :], key=reward)
    return best


def first_gain(reward, text, words):
    for place, word in itertools.product(range(len(text)), words):
        trial = text[:place] + [word] + text[place + 1 :]
        if reward(trial) > reward(text):
            return trial
    return list(text)


def as_high_will_do(reward, text, words):
    best, changed = list(text), True
    while changed:
        changed = False
        for place, word in itertools.product(range(len(best)), words):
            trial = best[:place] + [word] + best[place + 1 :]
            if reward(trial) >= reward(best) and trial != best:
                best, changed = trial, True
    return best


def lowest(reward, text, words):
    return any_place(lambda text: -reward(text), text, words)


def by_chance(reward, text, words):
    draw, best = random.Random(0), list(text)
    for _ in range(20):
        trial = list(best)
        trial[draw.randrange(len(trial))] = draw.choice(words)
        best = max(best, trial, key=reward)
    return best


def longer(reward, text, words):
    return any_place(reward, text + [words[0]], words)


def best_word_everywhere(reward, text, words):
    return [max(words, key=lambda word: reward([word] * len(text)))] * len(text)


# 8.7: DPO


def by_the_lesson_too(policy, reference, pairs, pad_id, beta):
    with evaluation_mode(policy), evaluation_mode(reference):
        ours = pair_logprobs(policy, pairs, pad_id)
        with torch.no_grad():
            theirs = pair_logprobs(reference, pairs, pad_id)
    return compute_dpo_loss(*ours, *theirs, beta)


def text_by_text(policy, reference, pairs, pad_id, beta):
    """Without a batch, and so without padding and mask."""

    def logprob(model, prompt, response):
        with evaluation_mode(model):
            logits = model(torch.tensor([prompt + response]))[0].log_softmax(-1)
        return sum(logits[len(prompt) - 1 + i, token] for i, token in enumerate(response))

    found = []
    for side in "chosen", "rejected":
        ours = [logprob(policy, pair["prompt"], pair[side]) for pair in pairs]
        theirs = [logprob(reference, pair["prompt"], pair[side]).item() for pair in pairs]
        found.append(beta * (torch.stack(ours) - torch.tensor(theirs)))
    return F.softplus(found[1] - found[0]).mean(), found[0].detach(), found[1].detach()


def by_cross_entropy(policy, reference, pairs, pad_id, beta):
    """Targets that are ignored where they are no response's."""
    sides = [(p["prompt"], p[side]) for side in ("chosen", "rejected") for p in pairs]
    ids = pad_sequence([torch.tensor(a + b) for a, b in sides], True, pad_id)
    targets = pad_sequence([torch.tensor([-100] * len(a) + b) for a, b in sides], True, -100)[:, 1:]

    def logprobs(model):
        modes = [(part, part.training) for part in model.modules()]
        model.eval()
        losses = F.cross_entropy(model(ids[:, :-1]).transpose(1, 2), targets, reduction="none")
        for part, mode in modes:
            part.training = mode
        return -losses.sum(1)

    with torch.no_grad():
        theirs = logprobs(reference)
    r = beta * (logprobs(policy) - theirs)
    n = len(pairs)
    return [-F.logsigmoid(r[:n] - r[n:]).mean(), r[:n], r[n:]]


def dpo(counted="response", averaged=False, quiet=("policy", "reference"), no_grad=True, keep=True, beta_for=lambda loss, rewards, beta: (loss(beta), [beta * r for r in rewards]), ratio=lambda ours, theirs: ours - theirs):  # fmt: skip
    """An answer with room for mistakes."""

    def sums(model, name, ids, mask):
        training = model.training
        if name in quiet:
            model.eval()
        found = token_logprobs(model(ids), ids)
        if keep:
            model.train(training)
        found = (found * mask[:, 1:]).sum(1)
        return found / mask[:, 1:].sum(1) if averaged else found

    def answer(policy, reference, pairs, pad_id, beta):
        ids, masks = check._masks(pairs)
        mask = masks[counted]
        ours, theirs = sums(policy, "policy", ids, mask), sums(reference, "reference", ids, mask)
        r = ratio(ours, theirs.detach() if no_grad else theirs).chunk(2)
        loss, (chosen, rejected) = beta_for(lambda b: -F.logsigmoid(b * (r[0] - r[1])).mean(), r, beta)  # fmt: skip
        return loss, chosen, rejected

    return answer


# 8.8: the gradient


def gradient_by_autograd(features, w, reference_w, chosen, rejected, beta):
    w = w.clone().requires_grad_()
    now, before = (features @ w).log_softmax(0), (features @ reference_w).log_softmax(0)
    margin = (now - before)[chosen] - (now - before)[rejected]
    (-F.logsigmoid(beta * margin)).backward()
    return w.grad


def gradient_in_loops(features, w, reference_w, chosen, rejected, beta):
    apart = [a - b for a, b in zip(features[chosen].tolist(), features[rejected].tolist())]
    margin = beta * sum((a - b) * x for a, b, x in zip(w.tolist(), reference_w.tolist(), apart))
    return [-beta * x / (1 + math.exp(margin)) for x in apart]


def gradient_through_the_logits(features, w, reference_w, chosen, rejected, beta):
    logits = torch.zeros(len(features), dtype=features.dtype)
    change = features @ (w - reference_w)
    push = 1 - torch.sigmoid(beta * (change[chosen] - change[rejected]))
    logits[chosen], logits[rejected] = -beta * push, beta * push
    return (features.T @ logits).numpy()


def with_mistake(name):
    return lambda *given: check._dpo_gradient(*given, name)


def chosen_only(features, w, reference_w, chosen, rejected, beta):
    p = (features @ w).softmax(0)
    return -beta * 0.5 * (features[chosen] - p @ features)


def half_apart(*given):
    return check._dpo_gradient(*given) / 2


# 8.9: the win rate


def by_normal(verdicts, z=1.96, points=(1.0, 0.5, 0.0)):
    worth = dict(zip(("win", "tie", "loss"), points))
    prompts = {prompt for prompt, _ in verdicts}
    means = [np.mean([worth[v] for p, v in verdicts if p == prompt]) for prompt in prompts]
    spread = np.std(means, ddof=1) / len(means) ** 0.5 if len(means) > 1 else 0.0
    return np.mean(means), np.mean(means) - z * spread, np.mean(means) + z * spread


def by_drawing_prompts(verdicts):
    """Prompts are drawn, each with all of its verdicts."""
    worth, draw, by = {"win": 2, "tie": 1, "loss": 0}, random.Random(1), {}
    for prompt, verdict in verdicts:
        by[prompt] = by.get(prompt, ()) + (worth[verdict] / 2,)
    groups, found = list(by.values()), []
    for _ in range(1000):
        some = draw.choices(groups, k=len(groups))
        found.append(sum(sum(one) / len(one) for one in some) / len(some))
    found.sort()
    return [sum(sum(one) / len(one) for one in groups) / len(groups), found[24], found[974]]


def with_pandas(verdicts):
    import pandas as pd

    table = pd.DataFrame(verdicts, columns=["prompt", "verdict"])
    points = table.verdict.map({"win": 1, "loss": 0, "tie": 0.5})
    means = points.groupby(table.prompt).mean()
    return torch.tensor([means.mean(), *bootstrap_interval(means.to_numpy(), 4000, 7)])


def pooled(verdicts, worth=check.WORTH):
    values = [worth[v] for _, v in verdicts]
    return sum(values) / len(values), *bootstrap_interval(values)


def right_rate_pooled_interval(verdicts):
    return by_normal(verdicts)[0], *pooled(verdicts)[1:]


def ties_left_out(verdicts):
    return by_normal([one for one in verdicts if one[1] != "tie"] or [("a", "tie")])


def by_majority(verdicts):
    means = check._by_prompt(verdicts)
    values = [float(one > 0.5) + 0.5 * (one == 0.5) for one in means]
    return sum(values) / len(values), *bootstrap_interval(values)


def spread_of_prompts(verdicts):
    means = np.array(check._by_prompt(verdicts))
    return means.mean(), means.mean() - means.std(), means.mean() + means.std()


def two_ends_only(verdicts):
    return by_normal(verdicts)[1:]


RIGHT = {
    "fitted_scores": [uphill, zermelo, by_lbfgs, as_a_regression],
    "answer_rewards": [one_by_one, by_the_lesson, scored_first, rewards(lambda a, b, ids: b - 1)],
    "group_advantages": [in_python, with_numpy, by_index, by_the_lessons_groups, grouped()],
    "clip_gradient": [by_autograd, by_a_small_step, by_one_condition, in_one_line, clip_with(right_flat)],
    "kl_loss": [k1_in_the_reward, k2, with_a_baseline, by_the_ratio, k3_by_the_ratio, in_a_loop],
    "most_rewarded": [any_place, backward_in_place, again_and_again],
    "dpo_of_pairs": [by_the_lesson_too, text_by_text, by_cross_entropy, dpo()],
    "dpo_gradient": [gradient_by_autograd, gradient_in_loops, gradient_through_the_logits],
    "win_rate_of": [by_normal, by_drawing_prompts, with_pandas],
}  # fmt: skip
WRONG = {
    "fitted_scores": [
        (lambda w: w.sum(1) / (w + w.T).sum(1), "shares of comparisons"),
        (lambda w: w.sum(1), "numbers of comparisons"),
        (lambda w: (w.sum(1) / w.sum(0)).log(), "all opponents were equally good"),
        (lambda w: uphill(w.T), "lowest score"),
        (lambda w: uphill(w, result=torch.exp), "that is each strength"),
        (lambda w: uphill(w, result=lambda s: 400 / math.log(10) * s), "Elo"),
        (lambda w: uphill(w, steps=5), "should win .* and it won"),
        (mean_of_logits, "should win"),
        (elo, "should win"),
        (lambda w: uphill(w, result=lambda s: s / 2), "should win"),
        (lambda w: uphill(w, result=lambda s: s / s.std()), "should win"),
        (lambda w: uphill(w)[:-1], "3 scores are asked for"),
        (lambda w: w.fill_diagonal_(1).sum(1), "changed what it was given"),
    ],
    "answer_rewards": [
        (rewards(lambda a, b, ids: -1), "last place of the row, and that is padding"),
        (rewards(lambda a, b, ids: b.clamp(max=ids.shape[1] - 1)), "first padding"),
        (rewards(lambda a, b, ids: b - 2), "the end token is lost"),
        (rewards(lambda a, b, ids: (ids != 12).sum(1)), "comparing with the padding"),
        (rewards(lambda a, b, ids: (ids != 12).sum(1) - 1), "the end of the response is lost"),
        (rewards(lambda a, b, ids: (ids == 12).int().argmax(1)), "first end token"),
        (rewards(lambda a, b, ids: a - 1), "prompt's last token"),
        (of_all_tokens, "mean over the response's places"),
        (rewards(lambda a, b, ids: b - 1, lambda x, s: s(x)), r"are \(4, 1\), not \(4,\)"),
        (rewards(lambda a, b, ids: b - 1, lambda x, s: s(x).squeeze()), r"are \(\), not \(1,\)"),
        (rewards(lambda a, b, ids: b - 1, lambda x, s: s(x).squeeze(-1).sigmoid()), "a reward has no bounds"),
        (rewards(lambda a, b, ids: b - 1, lambda x, s: s(x)[:, 0] - s(x).mean()), "mean is taken away"),
        (padded_on_the_left, "alone"),
        (cut_from_the_gpt, "no gradient reaches the GPT"),
        (by_item, "no gradient flows back"),
    ],
    "group_advantages": [
        (grouped(mean=lambda own, all: all.mean()), "mean of the whole batch"),
        (grouped(equal=False, mean=lambda own, all: all.mean()), "mean of the whole batch"),
        (grouped(mean=lambda own, all: 0), "nothing was taken away"),
        (grouped(equal=False), "exactly 0.*rounded"),
        (grouped(equal=False, spread=lambda own, all: own.std()), "exactly 0"),
        (grouped(spread=lambda own, all: own.std(unbiased=False) + 1e-6), "divided by n"),
        (grouped(spread=lambda own, all: all.std() + 1e-6), "of the whole batch, and not"),
        (grouped(spread=lambda own, all: 1), "`by_std` is True, and nothing is divided"),
        (grouped(always=True), "`by_std` is False"),
        (leave_one_out, "mean of the others"),
        (sorted_by_group, "group by group"),
        (lambda r, g, by_std=False: r.sub_(r.mean()), "changed what it was given"),
        (lambda r, g, by_std=False: grouped()(r, g, by_std)[:3], "advantages are asked for"),
        (grouped(mean=lambda own, all: own.median()), "the advantage of answer"),
        (grouped(spread=lambda own, all: own.var() + 1e-6), "the advantage of answer"),
    ],
    "clip_gradient": [
        (clip_with(lambda a, r, low, high: r > high), "maximum instead of the minimum: a bad token"),
        (clip_with(lambda a, r, low, high: r < low if a > 0 else r > high), "opposite corners"),
        (clip_with(lambda a, r, low, high: not low <= r <= high), "pull back"),
        (clip_with(lambda a, r, low, high: False), "nothing is ever clipped"),
        (clip_with(lambda a, r, low, high: r < low), "from below"),
        (clip_with(right_flat, lambda a, r: a), "with respect to the ratio"),
        (clip_with(right_flat, lambda a, r: -a * r), "gradient of the loss"),
        (clip_with(right_flat, lambda a, r: -a), "of the loss with respect to the ratio"),
        (lambda a, r, c=0.2: min(r * a, max(1 - c, min(r, 1 + c)) * a), "objective's value"),
        (lambda a, r, c=0.2: clip_with(right_flat)(a, r, 0.2), "another number than"),
        (clip_with(right_flat, lambda a, r: a * math.log(r)), "another number than"),
        (lambda a, r, c=0.2: clip_with(right_flat)(a, r, c) if a else r, "advantage 0"),
    ],
    "kl_loss": [
        (k_of("k1"), "k1.* no gradient"),
        (k_of("k3"), "k3 as a loss.* the other way around"),
        (k_of("k2", lambda k: 2 * k), "twice as long"),
        (k_of("k2", lambda k: k / 2), "half as long"),
        (lambda a, b: -k1_in_the_reward(a, b), "away from the reference"),
        (lambda a, b: k1_in_the_reward(a, b) * len(a), "the sum over the draws"),
        (lambda a, b: -k1_in_the_reward(a, b) * len(a), "sign is wrong, and it is a sum"),
        (lambda a, b: k1_in_the_reward(a.detach(), b), "no gradient flows back"),
        (lambda a, b: (a - b).detach() * a, "should be one number"),
        (lambda a, b: ((a - b) * a).mean(), "off by|should be pushed"),
        (lambda a, b: (a.exp() * (a - b)).mean(), "off by"),
        (k_of("k1", torch.abs), "off by"),
        (lambda a, b: ((b - a).exp().detach() * a).mean(), "off by"),
        (lambda a, b: a.mean().item(), "a tensor is asked for"),
    ],
    "most_rewarded": [
        (lambda reward, text, words: text, "could still be replaced"),
        (one_round, "could still be replaced"),
        (first_gain, "could still be replaced"),
        (as_high_will_do, "gain nothing"),
        (lowest, "reward has fallen"),
        (by_chance, "could still be replaced"),
        (longer, "yours has"),
        (best_word_everywhere, "could still be replaced|fallen"),
        (lambda reward, text, words: reward(any_place(reward, text, words)), "a list of words"),
        (lambda reward, text, words: " ".join(any_place(reward, text, words)), "a list of words"),
        (lambda reward, text, words: any_place(lambda t: reward(" ".join(t)), text, words), "you ask for"),
        (lambda reward, text, words: ["best"] * len(text), "not among the words"),
        (lambda reward, text, words: text.sort() or text, "changed what it was given"),
    ],
    "dpo_of_pairs": [
        (dpo(averaged=True), "averaged over the tokens"),
        (dpo(counted="prompt too"), "prompt's tokens are counted"),
        (dpo(counted="end lost"), "end tokens are lost"),
        (dpo(counted="by comparing"), "counts the prompt, and loses"),
        (dpo(counted="response by comparing"), "end tokens are lost"),
        (dpo(counted="padding too"), "padding after a response is counted"),
        (dpo(counted="all"), "everything is counted"),
        (dpo(counted="one late"), "one place late"),
        (dpo(counted="one early"), "one place early"),
        (dpo(beta_for=lambda loss, r, beta: (loss(beta), r)), "rewards lack beta"),
        (dpo(beta_for=lambda loss, r, beta: (loss(1), [beta * x for x in r])), "loss lacks beta"),
        (dpo(beta_for=lambda loss, r, beta: (loss(1), r)), "beta is used nowhere"),
        (dpo(beta_for=lambda loss, r, beta: (loss(-beta), [beta * x for x in r])), "the sign"),
        (dpo(ratio=lambda ours, theirs: ours), "not taken away"),
        (dpo(quiet=("policy",)), "the reference came in training mode"),
        (dpo(quiet=("reference",)), "the policy came in training mode"),
        (dpo(keep=False), "put it back"),
        (dpo(no_grad=False), "gradients reach the reference"),
        (dpo(ratio=lambda ours, theirs: (ours - theirs).detach()), "no gradient flows back"),
        (dpo(averaged=True, counted="by comparing"), r"averaged.*\(and one more bug\)"),
        (lambda *given: dpo()(*given)[0], "three tensors"),
        (dpo(beta_for=lambda loss, r, beta: (loss(beta), [beta * x.mean() for x in r])), "their shapes"),
        (dpo(beta_for=lambda loss, r, beta: (loss(beta), [beta * r[1], beta * r[0]])), "reward is"),
    ],
    "dpo_gradient": [
        *[(with_mistake(name), why[:40]) for name, why in check.WRONG_GRADIENTS.items()],
        (chosen_only, "another direction"),
        (half_apart, "right direction"),
        (lambda f, *rest: check._dpo_gradient(f, *rest).sum(), "a gradient of 3 numbers"),
        (lambda f, *rest: torch.zeros(len(f)), "a gradient of 3 numbers"),
    ],
    "win_rate_of": [
        (functools.partial(by_normal, points=(1.0, 1.0, 0.0)), "counted as wins"),
        (functools.partial(by_normal, points=(1.0, 0.0, 0.0)), "counted as losses"),
        (ties_left_out, "ties are left out"),
        (pooled, "each prompt should count the same"),
        (functools.partial(pooled, worth={"win": 1.0, "tie": 1.0, "loss": 0.0}), "wins"),
        (functools.partial(by_normal, points=(0.0, 0.5, 1.0)), "loss rate"),
        (functools.partial(by_normal, points=(1.0, 0.0, -1.0)), "from -1 to 1"),
        (by_majority, "rounded to a win"),
        (right_rate_pooled_interval, "the verdicts were drawn, and not the prompts|is not in it"),
        (functools.partial(by_normal, z=1.0), "one standard error"),
        (functools.partial(by_normal, z=1.645), "90 %"),
        (functools.partial(by_normal, z=2.576), "99 %"),
        (spread_of_prompts, "how the prompts are spread"),
        (two_ends_only, "three numbers"),
        (lambda v: (lambda r, low, high: (r, high, low))(*by_normal(v)), "is not in it"),
    ],
}  # fmt: skip
PAIRS = [(name, answer) for name, found in RIGHT.items() for answer in found]
REFUSED = [pytest.param(name, *one, id=f"{name}-{i}") for name, found in WRONG.items() for i, one in enumerate(found)]  # fmt: skip


def test_every_check_has_enough_answers():
    checks = {name for name, value in vars(check).items() if hasattr(value, "is_exercise")}
    assert checks == RIGHT.keys() == WRONG.keys()
    assert all(len(RIGHT[name]) >= 3 and len(WRONG[name]) >= 6 for name in checks)


@pytest.mark.parametrize("name, answer", PAIRS)
def test_another_right_answer_is_accepted(name, answer):
    notebooks.accepted(check, name, answer)


@pytest.mark.parametrize("name, answer, says", REFUSED)
def test_a_wrong_answer_is_refused_with_its_reason(name, answer, says):
    notebooks.refused(check, name, answer, says)


@pytest.mark.parametrize("name, says", [("answer_rewards", "the end of the response is lost"), ("dpo_of_pairs", "averaged.*more bugs")])  # fmt: skip
def test_what_is_to_be_repaired_is_refused(name, says):
    notebooks.refused(check, name, answers("exercises.ipynb")[f"broken_{name}"], says)


def test_k1_as_the_card_has_it_is_refused():
    notebooks.refused(check, "kl_loss", answers("exercises.ipynb")["k1_as_a_loss"], "k1")


@pytest.mark.parametrize("name, guess", [("clip_gradient", [1] * 8), ("dpo_gradient", ["falls"] * 3)])  # fmt: skip
def test_what_is_to_be_predicted_is_not_given_away(name, guess):
    """No wrong answer's verdict has the numbers of the card; the right one's has."""
    run = getattr(check, name)
    for answer, _ in WRONG[name]:
        text = run(answer, guess).text
        assert "and it is" not in text and not any(f" {one}" in text for one in ("1.8", "-2.2", "rises, falls"))  # fmt: skip
    assert "and it is" in run(RIGHT[name][0], guess).text


def test_the_most_likely_scores_are_a_maximum():
    """By an oracle of its own: no small change of the scores makes the table likelier."""
    generator = torch.Generator().manual_seed(0)
    for table in check.TABLES.values():
        wins = torch.tensor(table).double()
        scores = check._most_likely(wins)

        def likelihood(scores):
            return (wins * F.logsigmoid(scores[:, None] - scores)).sum().item()

        for _ in range(50):
            step = 0.01 * torch.randn(len(wins), generator=generator)
            assert likelihood(scores + step - step.mean()) < likelihood(scores)


def test_the_searches_need_more_than_one_round():
    """Otherwise a search that stops after one would be accepted."""
    short = [about for about, given in check.SEARCHES.items() if given[0](one_round(*given)) < given[0](any_place(*given)) - 1e-9]  # fmt: skip
    assert short, "in none of the searches a second round gains anything"


def test_what_is_asked_in_dpo_is_what_the_lesson_computes():
    policy, reference = check._gpt(0), check._gpt(1)
    right = check._dpo(policy, reference, check.PAIRS, 0.3)
    for one, other in zip(right, by_the_lesson_too(policy, reference, check.PAIRS, check.END, 0.3)):
        assert torch.allclose(one, other, atol=1e-5)
    ids, masks = check._masks(check.PAIRS)
    assert compute_logprobs(policy(ids), ids, masks["response"]).shape == (2 * len(check.PAIRS),)


# --- further answers, written before it was known what the checks say of them ---


def held_at_the_first(wins):
    """By the logs of strengths, a gradient ascent that holds the first score, in NumPy."""
    w = wins.numpy().astype(float)
    s = np.zeros(len(w))
    for _ in range(3000):
        p = 1 / (1 + np.exp(s[None] - s[:, None]))
        s[1:] += (0.5 * (w - (w + w.T) * p).sum(1) / (w + w.T).sum(1))[1:]
    return s


def a_little_prior(wins):
    """A draw added for each pair."""
    return uphill(wins + 0.5 * (1 - torch.eye(len(wins))))


def each_pair_the_same(wins):
    """Shares in place of counts."""
    return uphill(wins / (wins + wins.T).clamp(min=1))


def best_is_zero(wins):
    scores = uphill(wins)
    return (scores - scores.max()).tolist()


def masked_by_lengths(gpt, score, prompts, responses, pad_id):
    lengths = [len(p) + len(r) for p, r in zip(prompts, responses)]
    ids = torch.full((len(lengths), max(lengths)), pad_id)
    for row, p, r in zip(ids, prompts, responses):
        row[: len(p) + len(r)] = torch.tensor(p + r)
    hot = F.one_hot(torch.tensor(lengths) - 1, max(lengths)).float()
    return torch.einsum("bt,btc,c->b", hot, hidden_states(gpt, ids), score.weight[0]) + score.bias


def without_the_prompt(gpt, score, prompts, responses, pad_id):
    return one_by_one(gpt, score, [[] for _ in prompts], responses, pad_id)


def without_the_bias(gpt, score, prompts, responses, pad_id):
    return one_by_one(gpt, score, prompts, responses, pad_id) - score.bias


def first_end_of_the_response(gpt, score, prompts, responses, pad_id):
    places = [len(p) + (r.index(pad_id) if pad_id in r else -1) for p, r in zip(prompts, responses)]
    return rewards(lambda a, b, ids: torch.tensor(places))(gpt, score, prompts, responses, pad_id)


def spread_of_all_if_equal(rewards, groups, by_std=False):
    """An answer alone keeps its distance from the batch's mean."""
    found = grouped()(rewards, groups, by_std)
    alone = (groups == groups[:, None]).sum(1) == 1
    return torch.where(alone, rewards - rewards.mean(), found)


def nan_to_zero(rewards, groups, by_std=False):
    """What comes out as no number is 0, but rounding errors stay."""
    found = torch.zeros_like(rewards)
    for g in groups.unique():
        own = rewards[groups == g]
        off = own - own.mean()
        spread = (off.square().sum() / max(1, len(own) - 1)).sqrt()
        found[groups == g] = (off / spread if by_std else off).nan_to_num(0.0)
    return found


def with_a_mask_matrix(rewards, groups, by_std=False):
    same = (groups[:, None] == groups[None]).double()
    n = same.sum(1)
    off = rewards.double() - same @ rewards.double() / n
    off = off.masked_fill(off.abs() < 1e-6, 0.0)
    if by_std:
        off = off / ((same @ off.square() / (n - 1).clamp(min=1)).sqrt() + 1e-6)
    return off.float()


def by_clamp_and_autograd(advantage, ratio, cliprange):
    old = torch.zeros((), dtype=torch.float64)
    new = torch.tensor(math.log(ratio), dtype=torch.float64, requires_grad=True)
    r = (new - old).exp()
    torch.min(r * advantage, r.clamp(1 - cliprange, 1 + cliprange) * advantage).backward()
    return new.grad


def clipped_log_ratio(a, r, c=0.2):
    return 0.0 if (math.log(r) > c if a > 0 else math.log(r) < -c) else a * r


def clipped_below_one_over(a, r, c=0.2):
    return 0.0 if (r > 1 + c if a > 0 else r < 1 / (1 + c)) else a * r


def sign_of_advantage(a, r, c=0.2):
    return clip_with(right_flat, lambda a, r: math.copysign(r, a))(a, r, c)


def k2_of_half_differences(logp, ref):
    return 2 * ((logp - ref) / 2).pow(2).mean()


def leave_one_out_kl(logp, ref):
    k = (logp - ref).detach()
    return ((k - (k.sum() - k) / (len(k) - 1)) * logp).mean()


def k1_of_the_mean(logp, ref):
    return (logp - ref).mean().detach() * logp.mean()


def k3_other_way(logp, ref):
    return kl_estimates(ref, logp)["k3"].mean()


def jensen(logp, ref):
    middle = torch.logaddexp(logp, ref) - math.log(2)
    return ((logp - middle).detach() * logp).mean()


def recursive(reward, text, words):
    for i in range(len(text)):
        for word in words:
            trial = [*text[:i], word, *text[i + 1 :]]
            if reward(trial) > reward(text):
                return recursive(reward, trial, words)
    return text


def restarts(reward, text, words):
    """From the text and from five texts by chance."""
    draw = random.Random(0)
    starts = [list(text), *([draw.choice(words) for _ in text] for _ in range(5))]
    return max((any_place(reward, start, words) for start in starts), key=reward)


def two_rounds(reward, text, words):
    return one_round(reward, one_round(reward, text, words), words)


def only_swaps(reward, text, words):
    return list(max(itertools.permutations(text), key=lambda one: reward(list(one))))


def from_left_to_right(reward, text, words):
    found = []
    for i in range(len(text)):
        found.append(max(words, key=lambda word: reward([*found, word, *text[i + 1 :]])))
    return found


def by_sequence_lengths(policy, reference, pairs, pad_id, beta):
    """Two batches, one for each side, the mask from places."""
    sums = {}
    for side in "chosen", "rejected":
        ids, mask = padded([p["prompt"] for p in pairs], [p[side] for p in pairs], pad_id)
        for name, model in {"policy": policy, "reference": reference}.items():
            with evaluation_mode(model), torch.set_grad_enabled(name == "policy"):
                sums[side, name] = compute_logprobs(model(ids), ids, mask)
    log_ratio = {side: sums[side, "policy"] - sums[side, "reference"] for side in ("chosen", "rejected")}  # fmt: skip
    r = {side: beta * one for side, one in log_ratio.items()}
    loss = torch.log1p(torch.exp(r["rejected"] - r["chosen"])).sum() / len(pairs)
    return loss, r["chosen"].detach(), r["rejected"].detach()


def averaged_over_pairs_too(*given):
    loss, chosen, rejected = dpo()(*given)
    return loss / len(chosen), chosen, rejected


def a_hinge(*given):
    loss, chosen, rejected = dpo()(*given)
    return F.relu(1 - (chosen - rejected)).mean(), chosen, rejected


def of_the_mean_margin(*given):
    _, chosen, rejected = dpo()(*given)
    return -F.logsigmoid((chosen - rejected).mean()), chosen, rejected


def frozen_reference(policy, reference, *given):
    for p in reference.parameters():
        p.requires_grad_(False)
    return dpo()(policy, reference, *given)


def reference_as_a_copy(policy, reference, *given):
    return dpo(quiet=("policy", "reference"))(policy, policy, *given)


def by_jacobian(features, w, reference_w, chosen, rejected, beta):
    def loss(w):
        z = features @ w - features @ reference_w
        return F.softplus(-beta * (z[chosen] - z[rejected]))

    return torch.func.grad(loss)(w)


def through_probabilities(features, w, reference_w, chosen, rejected, beta):
    """Without noticing that the softmax's mean cancels."""
    mean = (features @ w).softmax(0) @ features
    margin = beta * ((features @ (w - reference_w))[chosen] - (features @ (w - reference_w))[rejected])  # fmt: skip
    push = beta * (1 - 1 / (1 + torch.exp(-margin)))
    return -push * ((features[chosen] - mean) - (features[rejected] - mean))


def of_the_policy_only(features, w, reference_w, chosen, rejected, beta):
    return check._dpo_gradient(features, w, torch.zeros_like(w), chosen, rejected, beta)


def rejected_only(features, w, reference_w, chosen, rejected, beta):
    mean = (features @ w).softmax(0) @ features
    return beta * 0.5 * (features[rejected] - mean)


def in_order(verdicts):
    """Verdicts of one prompt are expected to be together."""
    found = []
    for _, own in itertools.groupby(verdicts, key=lambda one: one[0]):
        found.append(np.mean([check.WORTH[v] for _, v in own]))
    return np.mean(found), *bootstrap_interval(found)


def last_verdict(verdicts):
    values = [check.WORTH[v] for v in dict(verdicts).values()]
    return np.mean(values), *bootstrap_interval(values)


def by_torch(verdicts):
    names = sorted({p for p, _ in verdicts})
    table = torch.full((len(names), len(verdicts)), torch.nan)
    for i, (prompt, verdict) in enumerate(verdicts):
        table[names.index(prompt), i] = {"win": 1.0, "tie": 0.5}.get(verdict, 0.0)
    means = table.nanmean(1)
    draws = means[torch.randint(len(means), (4000, len(means)))].mean(1)
    return means.mean(), draws.quantile(0.025), draws.quantile(0.975)


def without_the_root(verdicts):
    means = np.array(check._by_prompt(verdicts))
    half = 1.96 * means.std() / len(means)
    return means.mean(), means.mean() - half, means.mean() + half


def of_a_coin(verdicts):
    """As if every prompt were a win or a loss."""
    means = check._by_prompt(verdicts)
    rate = sum(means) / len(means)
    half = 1.96 * (rate * (1 - rate) / len(means)) ** 0.5
    return rate, rate - half, rate + half


FURTHER_RIGHT = [
    ("fitted_scores", held_at_the_first),
    ("fitted_scores", best_is_zero),
    ("answer_rewards", masked_by_lengths),
    ("group_advantages", with_a_mask_matrix),
    ("clip_gradient", by_clamp_and_autograd),
    ("kl_loss", k2_of_half_differences),
    ("kl_loss", leave_one_out_kl),
    ("most_rewarded", recursive),
    ("most_rewarded", restarts),
    ("dpo_of_pairs", by_sequence_lengths),
    ("dpo_gradient", by_jacobian),
    ("dpo_gradient", through_probabilities),
    ("win_rate_of", by_torch),
]
FURTHER_WRONG = [
    ("fitted_scores", a_little_prior),
    ("fitted_scores", each_pair_the_same),
    ("answer_rewards", without_the_prompt),
    ("answer_rewards", without_the_bias),
    ("answer_rewards", first_end_of_the_response),
    ("group_advantages", spread_of_all_if_equal),
    ("group_advantages", nan_to_zero),
    ("clip_gradient", clipped_log_ratio),
    ("clip_gradient", clipped_below_one_over),
    ("clip_gradient", sign_of_advantage),
    ("kl_loss", k1_of_the_mean),
    ("kl_loss", k3_other_way),
    ("kl_loss", jensen),
    ("most_rewarded", two_rounds),
    ("most_rewarded", only_swaps),
    ("most_rewarded", from_left_to_right),
    ("dpo_of_pairs", averaged_over_pairs_too),
    ("dpo_of_pairs", a_hinge),
    ("dpo_of_pairs", of_the_mean_margin),
    ("dpo_of_pairs", frozen_reference),
    ("dpo_of_pairs", reference_as_a_copy),
    ("dpo_gradient", of_the_policy_only),
    ("dpo_gradient", rejected_only),
    ("win_rate_of", in_order),
    ("win_rate_of", last_verdict),
    ("win_rate_of", without_the_root),
    ("win_rate_of", of_a_coin),
]


@pytest.mark.parametrize("name, answer", FURTHER_RIGHT)
def test_a_further_right_answer_is_accepted(name, answer):
    test_another_right_answer_is_accepted(name, answer)


@pytest.mark.parametrize("name, answer", FURTHER_WRONG)
def test_a_further_wrong_answer_is_refused(name, answer):
    test_a_wrong_answer_is_refused_with_its_reason(name, answer, "")
