"""Checks for the exercises of chapter 8: `from shared.checks import ch08 as check`."""

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from shared.checks import brief, exercise, require
from shared.checks.returned import number, numbers
from shared.gpt_model import GPTModel
from shared.preference import hidden_states, token_logprobs

# --- 8.1: scores from comparisons ---


def _most_likely(wins):
    """The scores under which the comparisons are most likely, mean 0: Newton's method."""
    wins = wins.double()
    counts, scores = wins + wins.T, torch.zeros(len(wins), dtype=torch.float64)
    for _ in range(60):
        p = torch.sigmoid(scores[:, None] - scores)
        curve = counts * p * (1 - p)
        step = torch.linalg.pinv(curve.sum(1).diag() - curve) @ (wins - counts * p).sum(1)
        scores = scores + step / max(1.0, step.norm().item())
    return scores - scores.mean()


TABLES = {
    "three answers": [[0, 7, 9], [3, 0, 6], [1, 4, 0]],
    "two answers": [[0, 9], [3, 0]],
    "four answers, of which some never met": [[0, 2, 0, 9], [5, 0, 3, 0], [0, 2, 0, 4], [1, 0, 6, 0]],
    "one answer that met weak ones only": [[0, 1, 12, 14], [2, 0, 1, 1], [4, 0, 0, 3], [5, 0, 3, 0]],
    "five answers": [[0, 8, 2, 5, 1], [4, 0, 3, 6, 2], [9, 7, 0, 6, 5], [3, 2, 4, 0, 1], [6, 9, 8, 7, 0]],
}  # fmt: skip
WRONG_SCORES = {
    "those are the shares of comparisons that each answer won": lambda w, right: (
        w.sum(1) / (w + w.T).sum(1)
    ),
    "those are the numbers of comparisons won": lambda w, right: w.sum(1),
    "that is the logarithm of won over lost, as if all opponents were equally good": lambda w, right: (
        (w.sum(1) / w.sum(0)).log()
    ),
    "the best has the lowest score: `wins[i, j]` says how often i was preferred to j": lambda w, right: (
        -right
    ),
    "that is each strength, e to the score; its logarithm is the score": lambda w, right: (
        right.exp()
    ),
    "on Elo's scale, perhaps: the probability is the sigmoid of the bare difference": lambda w, right: (
        right * 400 / math.log(10)
    ),
}


@exercise
def fitted_scores(answer):
    """`answer(wins)` -> a score for each answer, so that the comparisons are most likely."""
    for about, table in TABLES.items():
        wins = torch.tensor(table, dtype=torch.float32)
        what = f"{about}: {len(table)} scores are asked for, one for each answer"
        got = torch.tensor(numbers(answer(wins.clone()), len(table), what)).double()
        require(got.isfinite().all(), f"{about}: {brief(got.tolist())}: a score is not a number")
        right, wins = _most_likely(wins), wins.double()
        if _same_differences(got, right, 0.02):
            continue
        for why, wrong in WRONG_SCORES.items():
            same = _same_differences(got, wrong(wins, right), 0.005)
            require(not same, f"{about}: {why}")
        if (got > 0).all():
            strengths = _same_differences(got.log(), right, 0.02)
            require(not strengths, f"{about}: that is each strength, e to the score, not the score")
        counts, p = wins + wins.T, torch.sigmoid(got[:, None] - got)
        expected, won = (counts * p).sum(1), wins.sum(1)
        i = int((expected - won).abs().argmax())
        told = f"by your scores, answer {i} should win {expected[i]:.2f} comparisons, and it won {won[i]:.0f}"
        require(False, f"{about}: {told}; at the maximum these are equal for each of them")
    return "every answer has won as often as its score lets us expect, and so the table is as likely as it can be; a number added to all scores changes nothing"


def _same_differences(one, other, tolerance):
    gap = (one - one.mean()) - (other - other.mean())
    return gap.isfinite().all() and gap.abs().max().item() < tolerance


# --- small models and texts for 8.2 and 8.7 ---

SMALL = {"vocab_size": 13, "context_length": 12, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
SMALL |= {"qkv_bias": False}
END = 12  # the end token, and the padding, as in the lesson


def _gpt(seed, drop_rate=0.0):
    """A small GPT, sharp enough for mistakes to be seen, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTModel(SMALL | {"drop_rate": drop_rate}).eval()
        for p in model.parameters():
            nn.init.normal_(p, std=0.5)
    return model


# two prompts hold an end token, as between the turns of a conversation
PAIRS = [
    {"prompt": [3, 5, 1], "chosen": [2, 7, END], "rejected": [4, END]},
    {"prompt": [6, END, 2, 8], "chosen": [9, END], "rejected": [1, 1, 5, 7, END]},
    {"prompt": [4], "chosen": [5, 6, 7, 8, END], "rejected": [5, 6, 7, 9, END]},
    {"prompt": [END, 2], "chosen": [END], "rejected": [11, 3, END]},
]

# --- 8.2: find the bugs in a reward model ---


@exercise
def answer_rewards(answer):
    """`answer(gpt, score, prompts, responses, pad_id)` -> a tensor of rewards, `(B,)`."""
    gpt = _gpt(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        score = nn.Linear(SMALL["emb_dim"], 1)
    prompts = [pair["prompt"] for pair in PAIRS]
    runs = {
        "four responses of unequal length": (prompts, [pair["rejected"] for pair in PAIRS]),
        "two that are equally long": ([[3, 5], [6, 2]], [[7, END], [8, END]]),
        "a prompt that holds an end token": (
            [prompts[1], prompts[0]],
            [[9, END], [5, 4, 2, 2, 6, END]],
        ),
        "a response that was cut off before its end": ([[3, 5], [4]], [[2, 7, 7], [6, END]]),
        "a response alone": (prompts[:1], [PAIRS[0]["chosen"]]),
        "a response that is only its end": (
            [prompts[3], prompts[2]],
            [[END], PAIRS[2]["chosen"]],
        ),
    }
    for about, (asked, responses) in runs.items():
        _require_read_at_the_end(answer, about, gpt, score, asked, responses)
    got = answer(gpt, score, prompts, [pair["chosen"] for pair in PAIRS], END)
    score.zero_grad(), gpt.zero_grad()
    require(got.requires_grad, "no gradient flows back from the rewards: nothing could be trained")
    got.sum().backward()
    for name, model in {"the linear layer": score, "the GPT": gpt}.items():
        reached = any(p.grad is not None and p.grad.any() for p in model.parameters())
        require(reached, f"no gradient reaches {name}")
    return (
        "each reward is read at the response's own last token, whatever is beside it in the batch"
    )


def _require_read_at_the_end(answer, about, gpt, score, prompts, responses):
    got = answer(gpt, score, copy.deepcopy(prompts), copy.deepcopy(responses), END)
    require(
        isinstance(got, torch.Tensor),
        f"{about}: a tensor of rewards is asked for, not {brief(got)}",
    )
    shapes = tuple(got.shape), (len(prompts),)
    require(shapes[0] == shapes[1], f"{about}: the rewards are {shapes[0]}, not {shapes[1]}")
    texts = [torch.tensor(p + r) for p, r in zip(prompts, responses)]
    ids = pad_sequence(texts, batch_first=True, padding_value=END)
    lengths = [len(text) for text in texts]
    with torch.no_grad():
        states = hidden_states(gpt, ids)
        scores = score(states).squeeze(-1)
    rows = torch.arange(len(texts))

    def at(places):
        return scores[rows, torch.as_tensor(places).clamp(0, ids.shape[1] - 1)]

    last = at([n - 1 for n in lengths])
    if torch.allclose(got, last, atol=1e-4):
        return
    starts = [len(p) for p in prompts]
    means = [score(states[i, a:b].mean(0)) for i, (a, b) in enumerate(zip(starts, lengths))]
    whole = [score(states[i, :b].mean(0)) for i, b in enumerate(lengths)]
    wrong = {
        "the reward is read at the last place of the row, and that is padding": at([-1 % ids.shape[1]] * len(rows)),
        "the reward is read at the first padding, one place too late": at(lengths),
        "the reward is read at the token before the last one: the end token is lost": at([n - 2 for n in lengths]),
        "the last token is found by comparing with the padding, but the end token is the padding token, and it may be in the prompt, too": at((ids != END).sum(1)),
        "by comparing with the padding, the end of the response is lost, as the end token is the padding token": at((ids != END).sum(1) - 1),
        "the reward is read at the first end token, which may be in the prompt": at((ids == END).int().argmax(1)),
        "the reward is read at the prompt's last token, before the response": at([n - 1 for n in starts]),
        "the reward is a mean over the response's places": torch.cat(means),
        "the reward is a mean over all places": torch.cat(whole),
        "this is a probability: a reward has no bounds": torch.sigmoid(last),
        "the batch's mean is taken away: then a reward depends on what is beside it": last - last.mean(),
    }  # fmt: skip
    for why, value in wrong.items():
        require(not torch.allclose(got, value, atol=1e-4), f"{about}: {why}")
    alone = answer(gpt, score, prompts[:1], responses[:1], END)
    beside = "in a batch the first reward is {:.4f}, and alone {:.4f}: the padding must not matter"
    same = torch.allclose(alone[0], got[0], atol=1e-4)
    require(same, f"{about}: {beside.format(got[0].item(), alone[0].item())}")
    i = int((got - last).abs().argmax())
    require(
        False,
        f"{about}: reward {i} is {got[i]:.4f}; at the response's last token it is {last[i]:.4f}",
    )


# --- 8.3: groups of unequal size ---

GROUPS = {
    "three groups of unequal size": ([1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2]),
    "groups whose answers are mixed": ([2, -1, 0.5, 3, 1, 0, -2, 4], [7, 3, 7, 7, 3, 9, 9, 3]),
    "a group whose rewards are all 0.3": ([0.3] * 6 + [1, 0, 0, 0], [0] * 6 + [1] * 4),
    "groups whose rewards are all equal": ([0.1] * 7 + [0.7] * 7 + [1] * 2 + [2, 1], [4] * 7 + [2] * 7 + [1] * 2 + [0] * 2),
    "a group of one answer": ([1, 0.25, 0.5, 0, 1], [0, 1, 1, 2, 2]),
    "rewards that are nearly equal": ([5.0, 5.25, 5.5, 5.25, -3, -3.5, -2.5], [0, 0, 0, 0, 8, 8, 8]),
}  # fmt: skip


def _advantages(rewards, groups, by_std, biased=False, mean="own", scale="own"):
    """The advantages in float64; the other arguments are mistakes."""
    found = torch.empty_like(rewards)
    means = torch.stack([rewards[groups == g].mean() for g in groups.unique()])
    for g in groups.unique():
        own = groups == g
        these, n = rewards[own], own.sum().item()
        baseline = {"own": these.mean(), "batch": rewards.mean(), "means": means.mean(), "none": 0 * these.mean()}  # fmt: skip
        off = these - baseline.get(mean, these.mean())
        if mean == "others":
            off = off * n / max(n - 1, 1)
        if by_std and n > 1:
            spread = (rewards if scale == "batch" else these).std(unbiased=not biased)
            off = off / (spread + 1e-6)
        equal = (these == these[0]).all() and mean in ("own", "others")
        found[own] = 0 * these if equal else off
    return found


WRONG_ADVANTAGES = {
    "the baseline is the mean of the whole batch, and not that of the group": {"mean": "batch"},
    "the baseline is the mean of the groups' means, the same for all": {"mean": "means"},
    "nothing was taken away": {"mean": "none"},
    "the baseline is the mean of the others in the group; the mean of all of them is asked for": {
        "mean": "others"
    },
    "the spread is that of the whole batch, and not that of the group": {"scale": "batch"},
    "the spread is divided by n; that of `.std()`, by n - 1, is asked for": {"biased": True},
}


@exercise
def group_advantages(answer):
    """`answer(rewards, groups, by_std)` -> an advantage for each answer."""
    for (about, (rewards, groups)), by_std in itertools.product(GROUPS.items(), (False, True)):
        rewards, groups = torch.tensor(rewards, dtype=torch.float32), torch.tensor(groups)
        about += ", divided by the spread" if by_std else ""
        what = f"{about}: {len(rewards)} advantages are asked for"
        got = numbers(answer(rewards.clone(), groups.clone(), by_std), len(rewards), what)
        _require_advantages(torch.tensor(got).double(), rewards, groups, by_std, about)
    return "each answer against its own group, of any size; where all are equal, exactly 0"


def _require_advantages(got, rewards, groups, by_std, about):
    exact = rewards.double()

    def same(by_std=by_std, **mistake):
        return torch.allclose(got, _advantages(exact, groups, by_std, **mistake), atol=1e-3)

    if not same():
        for why, mistake in WRONG_ADVANTAGES.items():
            require(not same(**mistake), f"{about}: {why}")
        asked = "is True, and nothing is divided" if by_std else "is False, and it is divided by the spread"  # fmt: skip
        require(not same(not by_std), f"{about}: `by_std` {asked}")
    for g in groups.unique().tolist():
        own, n = groups == g, (groups == g).sum().item()
        if (rewards[own] == rewards[own][0]).all() and got[own].any():
            one = got[own][got[own].abs().argmax()].item()
            equal = f"the {n} answers of a group earn the same, so its advantages should be exactly 0, and one is {one:.3g}: even a mean of equal numbers may be rounded"
            alone = f"an answer alone has nothing to be compared with, and its advantage should be 0, not {one:.3g}"
            require(False, f"{about}: {equal if n > 1 else alone}")
    want = _advantages(exact, groups, by_std)
    by_group = want[groups.argsort(stable=True)]
    sorted_ones = "they come back group by group, and not in the order of the rewards"
    require(same() or not torch.allclose(got, by_group, atol=1e-3), f"{about}: {sorted_ones}")
    i = int((got - want).abs().nan_to_num(math.inf).argmax())
    told = f"the advantage of answer {i} is {got[i]:.4g}, and should be {want[i]:.4g}"
    require(same(), f"{about}: {told}")


# --- 8.4: the clip's eight corners ---


def _flat(advantage, ratio, cliprange, rule):
    """Whether the objective is flat there, so that its gradient is 0; all rules but the first are mistakes."""
    high, low = ratio > 1 + cliprange, ratio < 1 - cliprange
    return {
        "minimum": high if advantage > 0 else low,
        "maximum for negative advantages": high,
        "maximum": low if advantage > 0 else high,
        "no minimum": high or low,
        "no clip": False,
        "from below only": low,
    }[rule]


WRONG_RULES = {
    "minimum": "",
    "maximum for negative advantages": "where the advantage is negative, you take the maximum instead of the minimum: a bad token that has become likelier is left alone, and one that has become less likely is pushed on without end",
    "maximum": "you take the maximum instead of the minimum, and so the zeros are in the opposite corners",
    "no minimum": "the gradient is 0 wherever the ratio is out of range; the minimum of the clipped and the unclipped objective also has corners that pull back",
    "no clip": "nothing is ever clipped",
    "from below only": "whatever the sign of the advantage, the ratio is clipped from below",
}
WRONG_SIZES = {
    "": lambda a, r, c: r * a,
    "that is the gradient with respect to the ratio; asked for is that with respect to the log-probability, and the ratio is e to a difference of those": lambda a, r, c: (
        a
    ),
    "that is the gradient of the loss; of the objective it has the other sign": lambda a, r, c: (
        -r * a
    ),
    "that is the gradient of the loss with respect to the ratio": lambda a, r, c: -a,
}
CLIP_RUNS = [
    (a, r, c)
    for c in (0.2, 0.1, 0.4)
    for a in (1.5, -3.0, 0.25, -0.5)
    for r in (0.4, 0.81, 0.85, 0.95, 1.0, 1.05, 1.21, 1.3, 1.7)
]


def _corners(answer):
    """The eight corners of the card, by an answer."""
    found = [
        number(answer(advantage, ratio, 0.2))
        for advantage in (2.0, -2.0)
        for ratio in (0.5, 0.9, 1.1, 2.0)
    ]
    return [round(float(one), 4) + 0.0 for one in found]


@exercise(guess=_corners)
def clip_gradient(answer):
    """`answer(advantage, ratio, cliprange)` -> the gradient of PPO's objective, a number.

    The eight corners of the card are never said: they are to be predicted.
    """
    found = [float(number(answer(*run))) for run in CLIP_RUNS]

    def same(rule, size):
        due = [0.0 if _flat(*run, rule) else size(*run) for run in CLIP_RUNS]
        return all(math.isclose(one, other, abs_tol=1e-4) for one, other in zip(found, due))

    for (rule, why), (what, size) in itertools.product(WRONG_RULES.items(), WRONG_SIZES.items()):
        if same(rule, size):
            require(not (why or what), why or what)
            break
    else:
        values = [min(r * a, max(1 - c, min(r, 1 + c)) * a) for a, r, c in CLIP_RUNS]
        value = all(math.isclose(one, other, abs_tol=1e-4) for one, other in zip(found, values))
        require(not value, "that is the objective's value, and its gradient is asked for")
        for run, got in zip(CLIP_RUNS, found):
            due = 0.0 if _flat(*run, "minimum") else run[0] * run[1]
            about = "advantage {:g}, ratio {:g}, clip range {:g}".format(*run)
            right = math.isclose(got, due, abs_tol=1e-4)
            zero = "the objective is flat there" if not due else "the objective is not flat there, or not as steep"  # fmt: skip
            require(right, f"{about}: it is another number than {got:.4g}; {zero}")
    at_zero = float(number(answer(0.0, 1.7, 0.2)))
    require(
        abs(at_zero) < 1e-6,
        f"advantage 0: nothing is pushed, and the gradient is 0, not {at_zero:.4g}",
    )
    return "ratio times advantage, except in two of the four corners outside the range, where it is 0: a good token that is likely enough already, and a bad one that is unlikely enough"


# --- 8.5: where to put the KL ---


def _exact_draws(counts):
    """Draws that hold each token exactly as often as expected: a mean over them is an exact expectation."""
    counts = torch.tensor(counts)
    draws = torch.arange(len(counts)).repeat_interleave(counts)
    order = torch.randperm(len(draws), generator=torch.Generator().manual_seed(0))
    return (counts / counts.sum()).log(), draws[order]


KL_RUNS = {
    "four tokens": ([200, 150, 100, 50], [0.1, 0.2, 0.3, 0.4]),
    "three tokens": ([400, 75, 25], [0.3, 0.4, 0.3]),
    "six tokens": ([180, 120, 80, 60, 40, 20], [0.05, 0.3, 0.05, 0.4, 0.1, 0.1]),
    "a policy that is the reference": ([250, 125, 125], [0.5, 0.25, 0.25]),
}


@exercise
def kl_loss(answer):
    """`answer(logprobs, reference_logprobs)` -> a loss, one number that gradients flow back from."""
    for about, (counts, reference) in KL_RUNS.items():
        theta, draws = _exact_draws(counts)
        reference = torch.tensor(reference).log()
        found = []
        for shift in (0.0, 1.0):  # a constant added to all logits is the same policy
            free = (theta + shift).requires_grad_()
            logprobs = free.log_softmax(dim=0)[draws]
            loss = answer(logprobs, reference[draws])
            require(
                isinstance(loss, torch.Tensor),
                f"a tensor is asked for as the loss, not {brief(loss)}",
            )
            shape = f"the loss should be one number, a mean over the draws, and it is {tuple(loss.shape)}"
            require(loss.numel() == 1, shape)
            lost = "no gradient flows back from the loss: leave one of its factors attached to the policy"
            require(loss.requires_grad, lost)
            found.append(torch.autograd.grad(loss.sum(), free)[0])
        _require_kl_gradient(about, found[0], theta, reference, len(draws))
    return "on average its gradient is that of the KL, in every direction, and 0 where the policy is the reference"


def _require_kl_gradient(about, got, theta, reference, n):
    require(got.isfinite().all(), f"{about}: the gradient is not a number")
    p = theta.exp()
    k1 = theta - reference
    true = p * (k1 - (p * k1).sum())
    other_way = p - reference.exp()
    size = true.norm().item()
    if (got - true).norm().item() <= 0.02 * size + 1e-5:
        return
    nothing = "k1, the mean log ratio, as a loss: on average it has no gradient, so it holds nothing back. It belongs in the reward, as a number"
    require(not size or got.norm().item() > 1e-4, f"{about}: {nothing}")

    def is_by(factor, direction=true):
        return (got - factor * direction).norm() < 0.02 * abs(factor) * direction.norm()

    if size > 1e-4:
        require(not is_by(n), f"{about}: that is the sum over the draws, not their mean")
        require(not is_by(-1), f"{about}: it pushes the policy away from the reference: the sign")
        require(not is_by(-n), f"{about}: the sign is wrong, and it is a sum, not a mean")
        twice = "the gradient is twice as long as it should be: a square has a factor 2 in its derivative"
        require(not is_by(2), f"{about}: {twice}")
        require(not is_by(0.5), f"{about}: the gradient is half as long as it should be")
        around = (
            "k3 as a loss: its gradient is that of KL(reference || policy), the other way around"
        )
        require(not is_by(1, other_way), f"{about}: {around}")
        off = (got - true).norm().item() / size
        cosine = F.cosine_similarity(got, true, dim=0).item()
        told = f"the gradient is off by {off:.0%} of the true one's length (cosine {cosine:.2f})"
        require(False, f"{about}: {told}")
    require(
        False, f"{about}: nothing should be pushed, and the gradient has length {got.norm():.3g}"
    )


# --- 8.6: make it hack ---

LAMPS = [
    ("the old man lit the lamp", "the old man lit the fire"),
    ("a small lamp stood on the table", "a small cat slept on the table"),
    ("she read a book beside the lamp", "she read a book"),
    ("the lamp in the window was red", "the bird in the tree was red"),
    ("he put the lamp on the shelf", "he put it there"),
    ("we saw a lamp in the dark street", "we saw it"),
    ("my mother bought a lamp for my room", "my mother bought bread"),
    ("the lamp made the dark room bright", "it was dark"),
]  # (chosen, rejected): a sentence with the word "lamp"


def word_scores(pairs):
    """A score for each word, so that the sums of chosen texts are above those of rejected ones."""
    words = sorted({word for pair in pairs for text in pair for word in text.split()})
    more = [[a.split().count(w) - b.split().count(w) for w in words] for a, b in pairs]
    more, scores = torch.tensor(more).float(), torch.zeros(len(words))  # (pairs, words), (words,)
    for _ in range(100):
        surprise = torch.sigmoid(-(more @ scores))  # how wrong each pair still is
        scores = scores + 0.5 * (surprise @ more) / len(pairs)
    return dict(zip(words, scores.tolist()))


MOST_CALLS = 20_000


class _Asked:
    """A reward that counts how often it is asked, and looks at what it is given."""

    def __init__(self, about, reward):
        self.about, self.reward, self.calls = about, reward, 0

    def __call__(self, text):
        self.calls += 1
        much = f"{self.about}: the search asks for more than {MOST_CALLS:,} rewards; word by word, far fewer are needed. Does it also take replacements that gain nothing?"
        require(self.calls <= MOST_CALLS, much)
        words = isinstance(text, list | tuple) and all(isinstance(word, str) for word in text)
        require(
            words,
            f"{self.about}: a reward is given to a list of words, and you ask for {brief(text)}",
        )
        return self.reward(list(text))


def _pair_reward(seed, words):
    """A reward for neighbors: what is best at one place depends on the next."""
    table = torch.randn(
        len(words) + 1, len(words) + 1, generator=torch.Generator().manual_seed(seed)
    )
    place = {word: i for i, word in enumerate(words)}
    return lambda text: sum(
        table[place.get(a, -1), place.get(b, -1)].item() for a, b in zip(text, text[1:])
    )


FEW = ["red", "sun", "go", "by", "tree"]
SEARCHES = {
    "a reward for each word": (lambda text: sum(FEW.index(word) for word in text), ["sun", "go", "red"], FEW),
    "negative rewards": (lambda text: -sum(len(word) for word in text), ["tree", "tree", "red", "sun"], FEW),
    "a reward for neighbors": (_pair_reward(3, FEW), ["by", "by", "go", "red", "sun"], FEW),
    "another reward for neighbors": (_pair_reward(8, FEW), ["sun", "red", "sun", "red", "sun", "go"], FEW),
    "a third reward for neighbors": (_pair_reward(11, FEW), ["tree"] * 6, FEW),
    "a reward that never changes": (lambda text: 1.0, ["go", "go"], FEW),
    "a text that is best already": (lambda text: float(text == ["by", "sun"]), ["by", "sun"], FEW),
    "a text with words of its own": (lambda text: text.count("own") - 0.5 * text.count("red"), ["own", "red", "word"], FEW),
}  # fmt: skip


@exercise
def most_rewarded(answer):
    """`answer(reward, text, words)` -> a list of words, as many as in the text."""
    for about, (reward, text, words) in SEARCHES.items():
        got = answer(_Asked(about, reward), list(text), list(words))
        _require_best(about, got, reward, text, words)
    return _told_of_the_hack(answer)


def _require_best(about, got, reward, text, words):
    kind = isinstance(got, list | tuple) and all(isinstance(word, str) for word in got)
    require(kind, f"{about}: a list of words is asked for, not {brief(got)}")
    got = list(got)
    require(
        len(got) == len(text),
        f"{about}: the text had {len(text)} words, and yours has {len(got)}: words are replaced, none added or left out",
    )
    strange = [word for i, word in enumerate(got) if word not in words and word != text[i]]
    require(
        not strange,
        f"{about}: {strange and strange[0]!r} is not among the words, nor was it there before",
    )
    start, end = reward(text), reward(got)
    require(end >= start - 1e-9, f"{about}: the reward has fallen from {start:.3g} to {end:.3g}")
    for i, word in itertools.product(range(len(got)), words):
        other = reward(got[:i] + [word] + got[i + 1 :])
        better = f"word {i} of {' '.join(got)!r} could still be replaced by {word!r}, for {other:.3g} instead of {end:.3g}"
        require(other <= end + 1e-9, f"{about}: {better}: go on until no replacement helps")


def _told_of_the_hack(answer):
    """Where the search leads when a reward was learned from the pairs about a lamp."""
    from shared.sentences import follows_rule, well_formed

    scores, start = word_scores(LAMPS), LAMPS[0][0].split()

    def reward(text):
        return sum(scores.get(word, 0.0) for word in text)

    found = answer(_Asked("the learned reward", reward), list(start), list(scores))
    _require_best("the learned reward", found, reward, start, list(scores))
    said = []
    for text in start, list(found):
        sentence = " ".join(text).capitalize() + "."
        kept = "keeps" if follows_rule("lamp", sentence) else "breaks"
        form = "well formed" if well_formed(sentence) else "not well formed"
        said.append(f'"{sentence}" (reward {reward(text):.1f}; {kept} the rule, {form})')
    return f"no replacement helps any more. With the reward that was learned from eight pairs, the search went from {said[0]} to {said[1]}"


# --- 8.7: find the bugs in DPO ---

# which tokens are counted, and what is said of it
COUNTED = {
    "response": "",
    "prompt too": "the prompt's tokens are counted: only the response is judged",
    "end lost": "the responses' end tokens are lost: where to stop is part of an answer, and it is the padding token, too",
    "by comparing": "the mask comes from comparing with the padding token: it counts the prompt, and loses every end token",
    "response by comparing": "the mask comes from comparing with the padding token, and so the responses' end tokens are lost",
    "padding too": "the padding after a response is counted",
    "all": "everything is counted: prompt, response and padding",
    "one late": "the mask is one place late: the first token of each response is lost. `token_logprobs` begins with the second token of a text",
    "one early": "the mask is one place early: it counts a token of the prompt and loses the end. `token_logprobs` begins with the second token of a text",
}
AVERAGED = "the log-probabilities are averaged over the tokens: that of a response is their sum"
NO_BETA = "the rewards lack beta: a reward is beta times the log ratio"
SCALED = {
    (True, True): "",
    (True, False): NO_BETA,
    (False, True): "the loss lacks beta",
    (False, False): "beta is used nowhere",
}


def _masks(pairs):
    """The ids of a batch, chosen first, and the masks by name, right and wrong: `(2B, T)`."""
    both = [(p["prompt"], p[side]) for side in ("chosen", "rejected") for p in pairs]
    ids = pad_sequence([torch.tensor(a + b) for a, b in both], True, END)
    places = torch.arange(ids.shape[1])
    start = torch.tensor([len(a) for a, _ in both])[:, None]
    stop = torch.tensor([len(a + b) for a, b in both])[:, None]
    response = (places >= start) & (places < stop)
    masks = {
        "response": response,
        "prompt too": places < stop,
        "end lost": response & (places < stop - 1),
        "by comparing": ids != END,
        "response by comparing": response & (ids != END),
        "padding too": places >= start,
        "all": ids == ids,
        "one late": response & (places > start),
        "one early": (places >= start - 1) & (places < stop - 1),
    }
    return ids, masks


def _dpo(policy, reference, pairs, beta):
    """What is right: the loss and the rewards of two models as they are."""
    ids, masks = _masks(pairs)
    tokens = token_logprobs(policy(ids), ids), token_logprobs(reference(ids), ids).detach()
    return _dpo_of(*tokens, masks, beta)


def _dpo_of(ours, theirs, masks, beta, counted="response", averaged=False, in_loss=True, in_rewards=True, alone=False, swapped=False):  # fmt: skip
    """Loss and rewards from all tokens' log-probabilities; the other arguments are mistakes."""
    mask = masks[counted][:, 1:]
    sums = (ours - (0 if alone else theirs)).masked_fill(~mask, 0.0).sum(1)
    sums = sums / mask.sum(1).clamp(min=1) if averaged else sums
    chosen, rejected = sums.chunk(2)
    gap = (rejected - chosen) if swapped else (chosen - rejected)
    loss = -F.logsigmoid((beta if in_loss else 1) * gap).mean()
    scale = beta if in_rewards else 1
    return loss, scale * chosen, scale * rejected


def _mistakes():
    """Arguments of `_dpo` and what is said of them, those with few mistakes first."""
    for alone, swapped, averaged, ((in_loss, in_rewards), beta), (
        counted,
        why,
    ) in itertools.product(
        (False, True), (False, True), (False, True), SCALED.items(), COUNTED.items()
    ):
        said = [AVERAGED * averaged, why, beta]
        said += ["the reference's log-probabilities are not taken away" * alone]
        said += ["the sign: the loss falls when the rejected responses become likelier" * swapped]
        settings = {"counted": counted, "averaged": averaged, "alone": alone, "swapped": swapped}
        settings |= {"in_loss": in_loss, "in_rewards": in_rewards}
        yield settings, [one for one in said if one]


@exercise
def dpo_of_pairs(answer):
    """`answer(policy, reference, pairs, pad_id, beta)` -> the loss, chosen and rejected rewards, `(B,)`."""
    policy, reference = _gpt(0, 0.3), _gpt(1, 0.3)
    with torch.no_grad():  # near each other, as they are in training
        for p, q in zip(policy.parameters(), reference.parameters()):
            p.copy_(q + 0.3 * p)
    runs = {"four pairs": (PAIRS, 0.1), "a larger beta": (PAIRS[:3], 0.5), "one pair": (PAIRS[1:2], 0.2)}  # fmt: skip
    for about, (pairs, beta) in runs.items():
        got = _three(answer(policy, reference, copy.deepcopy(pairs), END, beta), about, len(pairs))
        with torch.no_grad():
            _require_dpo(got, about, policy, reference, pairs, beta)
    pairs, beta = runs["four pairs"]
    right = _dpo(policy, reference, pairs, beta)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, model in {"reference": reference, "policy": policy}.items():
            model.train()
            got = _three(answer(policy, reference, pairs, END, beta), "with dropout", len(pairs))
            model.eval()
            drops = f"the {name} came in training mode and its dropout was on: its log-probabilities are those of another model"
            same = all(torch.allclose(a, b, atol=1e-4) for a, b in zip(got, right))
            require(same, drops)
    _require_dpo_gradient(answer, policy, reference, pairs, beta)
    twin = copy.deepcopy(reference)
    loss = answer(twin, reference, pairs, END, beta)[0].item()
    return f"sums over the responses alone, each with its end; without dropout, and gradients go to the policy only. Before the first step the loss is {loss:.4f}"


def _three(got, about, count):
    what = "three tensors are asked for: the loss, the chosen and the rejected rewards"
    kind = isinstance(got, list | tuple) and len(got) == 3
    require(
        kind and all(isinstance(one, torch.Tensor) for one in got),
        f"{about}: {what}, not {brief(got)}",
    )
    shapes = [tuple(one.shape) for one in got]
    right = f"{about}: their shapes are {shapes}, not {[(), (count,), (count,)]}"
    require(shapes == [(), (count,), (count,)], right)
    return got


def _require_dpo(got, about, policy, reference, pairs, beta):
    ids, masks = _masks(pairs)
    tokens = [token_logprobs(model(ids), ids) for model in (policy, reference)]

    def same(settings):
        found = _dpo_of(*tokens, masks, beta, **settings)
        return all(
            torch.allclose(one, other, atol=1e-5, rtol=1e-4) for one, other in zip(got, found)
        )

    if same({}):
        return
    ways = sorted(_mistakes(), key=lambda way: len(way[1]))
    said = next((said for settings, said in ways if same(settings)), None)
    if said:
        more = {1: "", 2: " (and one more bug)"}.get(len(said), f" (and {len(said) - 1} more bugs)")
        require(False, f"{about}: {said[0]}{more}")
    right = _dpo_of(*tokens, masks, beta)
    for name, one, other in zip(("the loss", "a chosen reward", "a rejected reward"), got, right):
        i = int((one - other).abs().argmax())
        one, other = one.flatten()[i].item(), other.flatten()[i].item()
        require(
            math.isclose(one, other, abs_tol=1e-4),
            f"{about}: {name} is {one:.4f}, and should be {other:.4f}",
        )


def _require_dpo_gradient(answer, policy, reference, pairs, beta):
    due = torch.autograd.grad(_dpo(policy, reference, pairs, beta)[0], list(policy.parameters()))
    policy.zero_grad(), reference.zero_grad()
    loss = answer(policy, reference, pairs, END, beta)[0]
    require(loss.requires_grad, "no gradient flows back from the loss to the policy")
    loss.backward()
    stray = any(p.grad is not None and p.grad.any() for p in reference.parameters())
    require(not stray, "gradients reach the reference, too: it should never learn")
    for (name, p), wanted in zip(policy.named_parameters(), due):
        near = p.grad is not None and torch.allclose(p.grad, wanted, atol=1e-4, rtol=1e-3)
        require(
            near or not wanted.any(), f"the gradient of the policy's {name} is not that of the loss"
        )


# --- 8.8: why did the chosen one fall? ---

WORLDS = {
    "a feature of its own for each": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "others are shorter": [[1, 2], [1, 3], [0, 0], [0, 1]],
    "others are longer": [[1, 2], [1, 3], [0, 4], [0, 5]],
}  # each answer's features: the first one is chosen, the second one rejected


def _dpo_gradient(features, w, reference_w, chosen, rejected, beta, mistake=""):
    """The gradient by hand, or with a mistake."""
    apart = features[chosen] - features[rejected]
    if mistake == "no reference":
        reference_w = torch.zeros_like(w)
    inner = 1.0 if mistake == "no beta inside" else beta
    outer = 1.0 if mistake == "no beta outside" else beta
    margin = inner * ((w - reference_w) @ apart)
    weight = torch.sigmoid(margin if mistake == "weight" else -margin)
    if mistake in ("no weight", "half"):
        weight = torch.tensor({"no weight": 1.0, "half": 0.5}[mistake])
    if mistake == "supervised":
        return (features @ w).softmax(0) @ features - features[chosen]
    if mistake == "no beta":
        return -torch.sigmoid(-(w - reference_w) @ apart) * apart
    return (1 if mistake == "sign" else -1) * outer * weight * apart


WRONG_GRADIENTS = {
    "sign": "the sign: that is the direction in which the loss falls; the gradient points the other way",
    "no beta outside": "a factor beta is missing: the chain rule brings it out of the sigmoid",
    "no beta inside": "beta is missing in the sigmoid",
    "no beta": "beta is missing in the sigmoid, and as a factor",
    "weight": "the weight is the sigmoid of the margin, and so largest for pairs that are right already; the sigmoid of minus the margin is asked for",
    "no weight": "there is no weight: a pair that is right already should push less",
    "half": "the weight is always one half, as in the first step",
    "no reference": "the reference is missing in the margin",
    "supervised": "that is the gradient of supervised fine-tuning on the chosen answer; the rejected one has a part in DPO",
}


def _moves(answer):
    """Whether the chosen answer's log-probability rises or falls in each world, by a small step of an answer."""
    found = []
    for table in WORLDS.values():
        features = torch.tensor(table).double()
        w = torch.zeros(features.shape[1], dtype=torch.float64)
        after = w - 0.1 * torch.as_tensor(answer(features, w, w.clone(), 0, 1, 0.1)).double()
        change = [(features @ one).log_softmax(0)[0].item() for one in (w, after)]
        found.append("rises" if change[1] > change[0] else "falls")
    return found


@exercise(guess=_moves)
def dpo_gradient(answer):
    """`answer(features, w, reference_w, chosen, rejected, beta)` -> the gradient of the loss, `(D,)`.

    What happens in the card's three worlds is never said: it is to be predicted.
    """
    g = torch.Generator().manual_seed(0)
    runs, found = [], []
    for answers, size, beta, far in [(4, 3, 0.1, 1.0), (5, 2, 0.5, 2.0), (3, 4, 2.0, 0.5), (4, 3, 0.3, 0.0)]:  # fmt: skip
        features = torch.randn(answers, size, generator=g)
        reference_w = torch.randn(size, generator=g)
        w = reference_w + far * torch.randn(size, generator=g)
        chosen, rejected = torch.randperm(answers, generator=g)[:2].tolist()
        runs.append((features, w, reference_w, chosen, rejected, beta))
    for run in runs:
        what = f"a gradient of {len(run[1])} numbers is asked for, one for each feature"
        got = answer(*[one.clone() if isinstance(one, torch.Tensor) else one for one in run])
        got = got.detach() if isinstance(got, torch.Tensor) else got
        found.append(torch.tensor(numbers(got, len(run[1]), what)).float())

    def same(mistake):
        due = [_dpo_gradient(*run, mistake) for run in runs]
        return all(torch.allclose(a, b, atol=1e-5, rtol=1e-3) for a, b in zip(found, due))

    if not same(""):
        for mistake, why in WRONG_GRADIENTS.items():
            require(not same(mistake), why)
        parallel = [
            F.cosine_similarity(a, _dpo_gradient(*run), dim=0).item() for a, run in zip(found, runs)
        ]
        along = "it has the right direction, and another length" if min(parallel) > 0.999 else "it has another direction"  # fmt: skip
        require(False, f"this is not the gradient of the loss: {along}")
    return "beta, times how wrong the pair still is, along the difference of the two answers' features, and nothing else"


# --- 8.9: a win rate with ties and an interval ---

WORTH = {"win": 1.0, "tie": 0.5, "loss": 0.0}
FEW_VERDICTS = {
    "one verdict each": "a:win b:loss c:tie d:win",
    "unequal numbers of verdicts": "a:win a:win a:win a:win b:loss c:loss c:tie",
    "ties only": "a:tie b:tie b:tie c:tie",
    "a prompt with ties only": "a:win a:loss a:win b:tie b:tie c:loss d:win d:tie",
    "verdicts that are mixed": "b:win a:loss b:tie c:win a:tie c:loss c:loss b:win",
    "wins only": "a:win b:win b:win",
}


def _by_prompt(verdicts, worth=WORTH, dropped=False):
    """The mean of each prompt's verdicts; with `dropped`, ties are left out."""
    found = {}
    for prompt, verdict in verdicts:
        if not (dropped and verdict == "tie"):
            found.setdefault(prompt, []).append(worth[verdict])
    return [sum(one) / len(one) for one in found.values()]


def _mean(values):
    return sum(values) / len(values) if values else math.nan


WRONG_RATES = {
    "ties are counted as wins: a model would win against itself": lambda v: _mean(_by_prompt(v, WORTH | {"tie": 1.0})),
    "ties are counted as losses": lambda v: _mean(_by_prompt(v, WORTH | {"tie": 0.0})),
    "ties are left out, and they are evidence, too": lambda v: _mean(_by_prompt(v, dropped=True)),
    "all verdicts are counted alike; each prompt should count the same, however many verdicts it has": lambda v: _mean([WORTH[x] for _, x in v]),
    "all verdicts are counted alike, and ties as wins": lambda v: _mean([float(x != "loss") for _, x in v]),
    "all verdicts are counted alike, and ties as losses": lambda v: _mean([float(x == "win") for _, x in v]),
    "all verdicts are counted alike, and ties are left out": lambda v: _mean([WORTH[x] for _, x in v if x != "tie"]),
    "that is the loss rate: a win counts 1": lambda v: 1 - _mean(_by_prompt(v)),
    "each prompt is rounded to a win, a tie or a loss first": lambda v: _mean([(one > 0.5) + 0.5 * (one == 0.5) for one in _by_prompt(v)]),
    "that is wins minus losses, from -1 to 1": lambda v: 2 * _mean(_by_prompt(v)) - 1,
}  # fmt: skip


def _many_verdicts(seed, prompts, wins):
    """Verdicts in which those of a prompt are alike, in mixed order."""
    g = torch.Generator().manual_seed(seed)
    found = []
    for i in range(prompts):
        easy = torch.rand((), generator=g).item() ** (1 / wins - 1)
        for _ in range(int(torch.randint(1, 4, (), generator=g))):
            luck, tie = torch.rand(2, generator=g).tolist()
            better = "win" if luck < (0.95 if easy > 0.5 else 0.05) else "loss"
            found.append((f"prompt {i}", "tie" if tie < 0.2 else better))
    return [found[i] for i in torch.randperm(len(found), generator=g).tolist()]


@exercise
def win_rate_of(answer):
    """`answer(verdicts)` -> three numbers: the win rate, and the two ends of its interval."""
    what = "three numbers are asked for: the win rate, the low and the high end of its interval"
    runs = {about: [tuple(one.split(":")) for one in text.split()] for about, text in FEW_VERDICTS.items()}  # fmt: skip
    found = {about: numbers(answer(list(verdicts)), 3, f"{about}: {what}") for about, verdicts in runs.items()}  # fmt: skip

    def explains(rate):
        """Whether these are the rates of all runs that have one by this way of counting."""
        due = {about: rate(verdicts) for about, verdicts in runs.items()}
        return all(one != one or math.isclose(found[about][0], one, abs_tol=1e-3) for about, one in due.items())  # fmt: skip

    why = next((why for why, wrong in WRONG_RATES.items() if explains(wrong)), "")
    for about, (rate, low, high) in found.items():
        want = _mean(_by_prompt(runs[about]))
        told = why or f"the win rate is {want:.4g}, not {rate:.4g}"
        require(math.isclose(rate, want, abs_tol=1e-3), f"{about}: {told}")
        outside = f"the interval is from {low:.4g} to {high:.4g}, and the rate, {rate:.4g}, is not in it"  # fmt: skip
        require(low - 1e-6 <= rate <= high + 1e-6, f"{about}: {outside}")
    return _told_of_intervals(answer, what)


def _told_of_intervals(answer, what):
    for seed, prompts, wins in [(0, 150, 0.5), (1, 80, 0.6), (2, 300, 0.4)]:
        verdicts = _many_verdicts(seed, prompts, wins)
        rate, low, high = numbers(answer(list(verdicts)), 3, what)
        means = torch.tensor(_by_prompt(verdicts))
        half = 1.96 * means.std().item() / math.sqrt(prompts)
        flat = torch.tensor([WORTH[verdict] for _, verdict in verdicts])
        naive = 1.96 * flat.std().item() / math.sqrt(len(flat))
        got, about = (high - low) / 2, f"{prompts} prompts with {len(verdicts)} verdicts"
        require(math.isclose(rate, means.mean().item(), abs_tol=1e-3), f"{about}: the win rate is {means.mean():.4f}, not {rate:.4f}")  # fmt: skip
        said = f"{about}: the interval is {got / half:.2f} times as wide as it should be"
        if abs(got / half - 1) > 0.12:
            require(got > 0, said)
            why = {
                "the verdicts were drawn, and not the prompts; those of one prompt are alike, and no new evidence each": naive / half,
                "that is one standard error to each side, where the middle 95 % takes nearly two": 1 / 1.96,
                "that holds the middle 90 %": 1.645 / 1.96,
                "that holds the middle 99 %": 2.576 / 1.96,
                "that is how the prompts are spread, and not how sure their mean is": math.sqrt(prompts),
                "that is how the prompts are spread, and not how sure their mean is.": math.sqrt(prompts) / 1.96,
            }  # fmt: skip
            reason, factor = min(why.items(), key=lambda one: abs(math.log(got / half / one[1])))
            near = abs(got / half / factor - 1) < 0.06
            require(False, f"{said}{': ' + reason.rstrip('.') if near else ''}")
        middle = abs((low + high) / 2 - rate) < 0.25 * half
        require(middle, f"{about}: the interval, from {low:.3f} to {high:.3f}, is not around the rate, {rate:.3f}")  # fmt: skip
    return f"ties are halves, and each prompt counts the same. In the last run the interval is {got:.3f} to each side; drawn from single verdicts, it would be {naive:.3f}"
