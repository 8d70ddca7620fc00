"""Chapter 8: preference. Promoted from ch08_preference/ch08.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from shared import judgments
from shared.instruction import generate_batch, short_prompt

__all__ = ["sample_answers", "chosen_and_rejected", "response_ids", "PreferenceDataset",
    "padded", "collate_pairs", "token_logprobs", "compute_logprobs", "hidden_states",
    "RewardModel", "compute_reward_loss", "compute_group_normalized_rewards",
    "masked_mean", "compute_grpo_clip_loss", "compute_ppo_loss", "compute_gae",
    "kl_estimates"]  # fmt: skip


# ch08.ipynb: c9
def sample_answers(model, prompts, max_new_tokens, eos_id, temperature=1.0):
    """Draw an answer to each list of IDs: lists of IDs, with the end token where the answer ends within the limit."""
    room = min(max_new_tokens, model.pos_emb.num_embeddings - max(map(len, prompts)))
    found = generate_batch(model, prompts, room, eos_id, temperature=temperature)
    return [ids + [eos_id] * (len(ids) < room) for ids in found]


# ch08.ipynb: c18
def chosen_and_rejected(record):
    """A judgment `{"prompt", "response_1", "response_2", "preferred": 1 or 2}` as `{"prompt", "chosen", "rejected"}`.

    ValueError where nothing is preferred: another number, or two equal responses.
    """
    judgments.check_judgment(record)
    responses = record["response_1"], record["response_2"]
    chosen, rejected = responses if record["preferred"] == 1 else responses[::-1]
    return {"prompt": record["prompt"], "chosen": chosen, "rejected": rejected}


# ch08.ipynb: c23
def response_ids(text, prompt, tokenizer):
    """A response as token IDs, with the end token: what the model should write after the prompt."""
    space = "" if prompt.endswith("\n") else " "
    return [*tokenizer.encode_ordinary(space + text), tokenizer.eot_token]


class PreferenceDataset(Dataset):
    """Entries with a chosen and a rejected response: `{"prompt", "chosen", "rejected"}`, lists of token IDs.

    ValueError for a pair without a difference, and for one that is longer than `max_length` tokens.
    """

    def __init__(self, data, tokenizer, *, prompt=short_prompt, max_length=256):
        self.data, self.pairs = data, []
        for i, entry in enumerate(data):
            judgments.check_pair(i, entry)
            before = prompt(entry)
            pair = {"prompt": tokenizer.encode_ordinary(before)}
            for side in "chosen", "rejected":
                pair[side] = response_ids(entry[side], before, tokenizer)
                judgments.check_fits(i, side, len(pair["prompt"]) + len(pair[side]), max_length)
            self.pairs.append(pair)

    def __getitem__(self, index):
        return self.pairs[index]

    def __len__(self):
        return len(self.pairs)


# ch08.ipynb: c26
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


# ch08.ipynb: c29
def token_logprobs(logits, labels):
    """Log-probability of each token after the first, `(B, T, V), (B, T) -> (B, T - 1)`."""
    return F.log_softmax(logits[:, :-1], dim=-1).gather(-1, labels[:, 1:, None]).squeeze(-1)


def compute_logprobs(logits, labels, selection_mask=None):
    """Log-probability of each text's tokens, of the marked ones if there is a mask: their sum, `(B,)`."""
    logprobs = token_logprobs(logits, labels)
    if selection_mask is not None:
        logprobs = logprobs.masked_fill(~selection_mask[:, 1:].bool(), 0.0)
    return logprobs.sum(dim=-1)


# ch08.ipynb: c34
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


# ch08.ipynb: c46
def compute_group_normalized_rewards(rewards, normalize_by_std=False, eps=1e-6):
    """How much better each answer is than its group: `(prompts, samples) -> (prompts, samples)`.

    0 throughout a group of equal rewards. With normalize_by_std divided by the group's spread (Shao and others, 2024).
    """
    advantages = rewards - rewards.mean(dim=-1, keepdim=True)
    if normalize_by_std:
        advantages = advantages / (rewards.std(dim=-1, keepdim=True) + eps)
    equal = (rewards == rewards[..., :1]).all(dim=-1, keepdim=True)  # a mean may be rounded
    return advantages.masked_fill(equal, 0.0)


# ch08.ipynb: c51
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
    error = (values - returns) ** 2
    return masked_mean(policy, mask) + vf_coef * masked_mean(error, mask) / 2


# ch08.ipynb: c58
def compute_gae(rewards, values, gamma=1.0, lam=0.95, mask=None):
    """Advantages of each token by generalized advantage estimation (Schulman and others, 2015): `(B, T) -> (B, T)`.

    `mask` marks the tokens of the answers; elsewhere the advantage is 0, and nothing that stands there counts.
    """
    mask = torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask
    rewards, values = rewards.masked_fill(~mask, 0.0), values.masked_fill(~mask, 0.0)
    advantages, later, next_value = torch.zeros_like(rewards), 0.0, 0.0
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + gamma * next_value - values[:, t]
        later = (surprise + gamma * lam * later) * mask[:, t]
        advantages[:, t], next_value = later, values[:, t]
    return advantages


# ch08.ipynb: c63
def kl_estimates(logprobs, reference_logprobs):
    """Three estimates of KL(policy || reference) from a sample of the policy (Schulman, 2020): `{name: (...)}`."""
    log_ratio = reference_logprobs - logprobs
    return {"k1": -log_ratio, "k2": log_ratio**2 / 2, "k3": torch.expm1(log_ratio) - log_ratio}
