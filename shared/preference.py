"""Chapter 8: preference. Promoted from ch08_preference/ch08.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import math
from collections import Counter

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from shared import judgments
from shared.guards import evaluation_mode
from shared.instruction import generate_batch, short_prompt
from shared.lora import adapter_off
from shared.scoring import bootstrap_interval
from shared.training import learning_rate

__all__ = ["sample_answers", "PreferenceDataset", "padded", "collate_pairs",
    "token_logprobs", "compute_logprobs", "hidden_states", "RewardModel",
    "compute_reward_loss", "best_of_n", "compute_group_normalized_rewards",
    "masked_mean", "compute_grpo_clip_loss", "compute_ppo_loss", "compute_gae",
    "kl_estimates", "logprobs_and_drift", "policy_gradient_step", "compute_dpo_loss",
    "pair_logprobs", "store_reference", "dpo_batch", "evaluate_dpo_loss_loader",
    "train_model_dpo_simple", "win_rate"]  # fmt: skip


# ch08.ipynb: c9
def sample_answers(model, prompts, max_new_tokens, eos_id, temperature=1.0):
    """Draw an answer to each list of IDs: lists of IDs, with the end token where the answer ends within the limit."""
    room = min(max_new_tokens, model.pos_emb.num_embeddings - max(map(len, prompts)))
    found = generate_batch(model, prompts, room, eos_id, temperature=temperature)
    return [ids + [eos_id] * (len(ids) < room) for ids in found]


# ch08.ipynb: c22
class PreferenceDataset(Dataset):
    """Pairs as token IDs, `{"prompt", "chosen", "rejected"}`; ValueError for equal ones, and more than max_length."""

    def __init__(self, data, tokenizer, *, prompt=short_prompt, max_length=256):
        self.data, self.pairs = data, []
        for i, entry in enumerate(data):
            judgments.check_pair(i, entry)
            before = prompt(entry)
            space = "" if before.endswith("\n") else " "
            pair = {"prompt": tokenizer.encode_ordinary(before)}
            for side in "chosen", "rejected":
                ids = tokenizer.encode_ordinary(space + entry[side])
                pair[side] = [*ids, tokenizer.eot_token]  # where to stop is part of the answer
            judgments.check_fits(i, pair, max_length)
            self.pairs.append(pair)

    def __getitem__(self, index):
        return self.pairs[index]

    def __len__(self):
        return len(self.pairs)


# ch08.ipynb: c25
def padded(prompts, responses, pad_token_id, device="cpu"):
    """Prompts and responses, lists of IDs, as `(ids, mask)`, `(B, T)` each; the mask marks the responses' tokens."""
    T = max(len(p) + len(r) for p, r in zip(prompts, responses, strict=True))
    ids = torch.full((len(prompts), T), pad_token_id)
    mask = torch.zeros(len(prompts), T, dtype=torch.bool)
    for row, (prompt, response) in enumerate(zip(prompts, responses)):
        end = len(prompt) + len(response)
        ids[row, :end] = torch.tensor([*prompt, *response])
        mask[row, len(prompt) : end] = True
    return ids.to(device), mask.to(device)


def collate_pairs(batch, pad_token_id, device="cpu"):
    """Pairs of a PreferenceDataset as `(ids, mask)`, `(2B, T)`: the chosen responses, then the rejected ones."""
    prompts = 2 * [pair["prompt"] for pair in batch]
    responses = [pair[side] for side in ("chosen", "rejected") for pair in batch]
    return padded(prompts, responses, pad_token_id, device)


# ch08.ipynb: c28
def token_logprobs(logits, labels):
    """Log-probability of each token after the first, `(B, T, V), (B, T) -> (B, T - 1)`."""
    return F.log_softmax(logits[:, :-1], dim=-1).gather(-1, labels[:, 1:, None]).squeeze(-1)


def compute_logprobs(logits, labels, selection_mask=None):
    """Log-probability of each text's tokens, of the marked ones if there is a mask: their sum, `(B,)`."""
    logprobs = token_logprobs(logits, labels)
    if selection_mask is not None:
        logprobs = logprobs.masked_fill(~selection_mask[:, 1:].bool(), 0.0)
    return logprobs.sum(dim=-1)


# ch08.ipynb: c33
def hidden_states(gpt, ids):
    """What a GPT's head reads, `(B, T) -> (B, T, C)`."""
    places = torch.arange(ids.shape[1], device=ids.device)
    x = gpt.drop_emb(gpt.tok_emb(ids) + gpt.pos_emb(places))
    return gpt.final_norm(gpt.trf_blocks(x))


class RewardModel(nn.Module):
    """A GPT that gives a response one number, `(B, T), (B, T) -> (B,)`, read at its last marked token."""

    def __init__(self, gpt):
        super().__init__()
        self.gpt, self.score = gpt, nn.Linear(gpt.tok_emb.embedding_dim, 1)

    def forward(self, ids, mask):
        last = mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)  # (B,)
        states = hidden_states(self.gpt, ids)[torch.arange(len(ids)), last]  # (B, C)
        return self.score(states).squeeze(-1)


def compute_reward_loss(chosen_rewards, rejected_rewards):
    """-log of the probability that the chosen response wins (Bradley and Terry, 1952): `(B,), (B,) -> ()`."""
    return -F.logsigmoid(chosen_rewards - rejected_rewards).mean()


# ch08.ipynb: c49
def best_of_n(scores, values, n):
    """The mean value of the draw with the highest score, over all choices of n of the N draws. Of equals, the later."""
    judgments.check_draws(len(scores), len(values), n)
    ranked = [value for _, value in sorted(zip(scores, values), key=lambda pair: pair[0])]
    choices = math.comb(len(ranked), n)
    return sum(math.comb(k, n - 1) / choices * float(ranked[k]) for k in range(len(ranked)))


# ch08.ipynb: c68
def compute_group_normalized_rewards(rewards, normalize_by_std=False, eps=1e-6):
    """How much better each answer is than its group, perhaps by its spread (Shao and others, 2024): `(B, n) -> (B, n)`."""
    advantages = rewards - rewards.mean(dim=-1, keepdim=True)
    if normalize_by_std:
        advantages = advantages / (rewards.std(dim=-1, keepdim=True) + eps)
    equal = (rewards == rewards[..., :1]).all(dim=-1, keepdim=True)  # a mean may be rounded
    return advantages.masked_fill(equal, 0.0)


# ch08.ipynb: c73
def masked_mean(values, mask):
    """The mean of the marked values, whatever stands elsewhere: `(B, T), (B, T) -> ()`."""
    return values.masked_fill(~mask, 0.0).sum() / mask.sum()


def compute_grpo_clip_loss(advantages, policy_log_probs, old_log_probs, cliprange=0.2):
    """PPO's clipped objective, negated, token by token (Schulman and others, 2017): `(B, 1), (B, T), (B, T) -> (B, T)`."""
    ratio = (policy_log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1 - cliprange, 1 + cliprange)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def compute_ppo_loss(advantages, policy_log_probs, old_log_probs, values, returns, mask,
                     cliprange=0.2, vf_coef=0.1):  # fmt: skip
    """The clipped loss and vf_coef times half the values' squared errors, both means over the marked tokens: `-> ()`."""
    policy = compute_grpo_clip_loss(advantages, policy_log_probs, old_log_probs, cliprange)
    return masked_mean(policy, mask) + vf_coef * masked_mean((values - returns) ** 2, mask) / 2


# ch08.ipynb: c80
def compute_gae(rewards, values, gamma=1.0, lam=0.95, mask=None):
    """Generalized advantage estimation (Schulman and others, 2015), 0 where nothing is marked: `(B, T) -> (B, T)`."""
    mask = torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask
    rewards, values = rewards.masked_fill(~mask, 0.0), values.masked_fill(~mask, 0.0)
    advantages, later, next_value = torch.zeros_like(rewards), 0.0, 0.0
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        later = (surprise + gamma * lam * later) * mask[:, t]
        advantages[:, t], next_value = later, values[:, t]
    return advantages


# ch08.ipynb: c85
def kl_estimates(logprobs, reference_logprobs):
    """Three estimates of KL(policy || reference) from a sample of the policy (Schulman, 2020): `{name: (...)}`."""
    log_ratio = reference_logprobs - logprobs
    return {"k1": -log_ratio, "k2": log_ratio**2 / 2, "k3": torch.expm1(log_ratio) - log_ratio}


# ch08.ipynb: c92
def logprobs_and_drift(model, ids, mask):
    """Log-probabilities of answers under a policy with LoRA, and how far they are above those without it: `(B,)`, `(B,)`."""
    with evaluation_mode(
        model
    ):  # dropout would give it other probabilities than those it drew from
        logprobs = compute_logprobs(model(ids), ids, mask)
        with torch.no_grad(), adapter_off(model):
            return logprobs, logprobs.detach() - compute_logprobs(model(ids), ids, mask)


# ch08.ipynb: c94
def policy_gradient_step(model, prompts, reward, optimizer, eos_id, *, samples=8, beta=0.05,
                         max_new_tokens=24):  # fmt: skip
    """Draw, score and push: a step of a policy with LoRA, whose reference is itself without. Returns what is watched.

    `reward(i, ids)`: a number for an answer to prompt i.
    """
    rows = [i for i in range(len(prompts)) for _ in range(samples)]
    asked = [prompts[i] for i in rows]
    answers = sample_answers(model, asked, max_new_tokens, eos_id)
    ids, mask = padded(asked, answers, eos_id)
    logprobs, kl = logprobs_and_drift(model, ids, mask)  # k1: a part of the reward, not of the loss
    rewards = torch.tensor([float(reward(i, answer)) for i, answer in zip(rows, answers)])
    penalized = (rewards - beta * kl).view(-1, samples)
    advantages = compute_group_normalized_rewards(penalized).flatten()
    optimizer.zero_grad()
    (-(advantages * logprobs).mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    equal = (rewards.view(-1, samples) == rewards[::samples, None]).all(dim=1).float()
    watched = {
        "reward": rewards,
        "objective/kl": kl,
        "length": mask.sum(1),
        "frac_reward_zero_std": equal,
    }
    return {name: values.float().mean().item() for name, values in watched.items()}


# ch08.ipynb: c103
def compute_dpo_loss(model_chosen_logprobs, model_rejected_logprobs,
                     reference_chosen_logprobs, reference_rejected_logprobs, beta=0.1):  # fmt: skip
    """DPO (Rafailov and others, 2023), `(B,)` four times: the loss, and the implicit rewards of both sides, `(B,)`."""
    chosen_rewards = beta * (model_chosen_logprobs - reference_chosen_logprobs)
    rejected_rewards = beta * (model_rejected_logprobs - reference_rejected_logprobs)
    return compute_reward_loss(chosen_rewards, rejected_rewards), chosen_rewards, rejected_rewards


# ch08.ipynb: c107
def pair_logprobs(model, pairs, pad_token_id):
    """Log-probabilities of the chosen and of the rejected responses, `(2, B)`."""
    ids, mask = collate_pairs(pairs, pad_token_id)
    return compute_logprobs(model(ids), ids, mask).view(2, -1)


@torch.no_grad()
def store_reference(dataset, model, pad_token_id, batch_size=32):
    """Give each pair the log-probabilities of its responses under the reference: once, as it never changes."""
    for start in range(0, len(dataset), batch_size):
        pairs = dataset.pairs[start : start + batch_size]
        with evaluation_mode(model):
            for pair, logprobs in zip(pairs, pair_logprobs(model, pairs, pad_token_id).T):
                pair["reference"] = logprobs


def dpo_batch(pairs, model, pad_token_id, beta):
    """The loss of some pairs with their reference, and what is watched of them, by the usual names."""
    logprobs = pair_logprobs(model, pairs, pad_token_id)
    reference = torch.stack([pair["reference"] for pair in pairs], dim=1)  # (2, B)
    loss, chosen, rejected = compute_dpo_loss(*logprobs, *reference, beta)
    margins = chosen - rejected
    watched = {"rewards/chosen": chosen, "rewards/rejected": rejected, "rewards/margins": margins}
    watched |= {"rewards/accuracies": (margins > 0).float(), "logps/chosen": logprobs[0]}
    return loss, {name: values.mean().item() for name, values in watched.items()}


# ch08.ipynb: c109
def evaluate_dpo_loss_loader(dataset, model, pad_token_id, beta, batch_size=32):
    """Means over all pairs of a dataset with reference: `{"loss", "rewards/...", "logps/chosen"}`."""
    sums = Counter()
    with torch.no_grad(), evaluation_mode(model):
        for start in range(0, len(dataset), batch_size):
            pairs = dataset.pairs[start : start + batch_size]
            loss, watched = dpo_batch(pairs, model, pad_token_id, beta)
            sums.update({n: len(pairs) * v for n, v in (watched | {"loss": loss.item()}).items()})
    return {name: total / len(dataset) for name, total in sums.items()}


# ch08.ipynb: c110
def train_model_dpo_simple(model, train_set, val_set, optimizer, num_epochs, beta, pad_token_id, *,
                           batch_size=16, eval_freq=4, peak_lr=1e-4):  # fmt: skip
    """Train on pairs with reference; a list of rows: step, and what `evaluate_dpo_loss_loader` says of val_set."""
    steps = num_epochs * math.ceil(len(train_set) / batch_size)
    rows, step = [{"step": 0} | evaluate_dpo_loss_loader(val_set, model, pad_token_id, beta)], 0
    for _ in range(num_epochs):
        for part in torch.randperm(len(train_set)).split(batch_size):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step + 1, steps + 1, steps // 10, peak_lr)
            with evaluation_mode(model):  # no dropout: the reference has none
                loss, _ = dpo_batch([train_set[i] for i in part], model, pad_token_id, beta)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            if step % eval_freq == 0 or step == steps:
                found = evaluate_dpo_loss_loader(val_set, model, pad_token_id, beta)
                rows.append({"step": step} | found)
    return rows


# ch08.ipynb: c119
def win_rate(ours, theirs):
    """How often our answer is better, ties half, and the 95 % interval over prompts: `(prompts, samples)` twice."""
    judgments.check_paired(ours, theirs)
    gap = ours[:, :, None].double() - theirs[:, None, :].double()
    by_prompt = ((gap.sign() + 1) / 2).mean(dim=(1, 2)).tolist()
    return sum(by_prompt) / len(by_prompt), *bootstrap_interval(by_prompt)
