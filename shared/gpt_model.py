"""Chapter 4: gpt model. Promoted from ch04_gpt_model/ch04.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import torch
import torch.nn.functional as F
from torch import nn

from shared.attention import MultiHeadAttention
from shared.finite import finite_logits
from shared.guards import (
    check_config,
    check_prompt,
    checked_ids,
    evaluation_mode,
    keep_tied,
    stored_by_columns,
)

__all__ = ["GPT_CONFIG_124M", "LayerNorm", "GELU", "FeedForward", "TransformerBlock",
    "GPTModel", "generate_text_simple", "KVCache", "next_token_logits",
    "generate_text_cached"]  # fmt: skip


# ch04.ipynb: gpt-config-124-m
GPT_CONFIG_124M = {
    "vocab_size": 50257,  # V, how many tokens it knows
    "context_length": 1024,  # the longest text it can read, in tokens
    "emb_dim": 768,  # C, how many numbers stand for a token
    "n_heads": 12,  # H, attention heads in a block
    "n_layers": 12,  # how many blocks
    "drop_rate": 0.1,  # the share of numbers that dropout sets to zero in training
    "qkv_bias": False,  # whether queries, keys and values have a bias
}


# ch04.ipynb: layer-norm
class LayerNorm(nn.Module):
    """Layer normalization with learnable scale and shift, `(..., C) -> (..., C)` (Ba et al., 2016)."""

    def __init__(self, emb_dim):
        super().__init__()
        self.eps = 1e-5
        self.scale = nn.Parameter(torch.ones(emb_dim))
        self.shift = nn.Parameter(torch.zeros(emb_dim))

    def forward(self, x):
        return F.layer_norm(x, self.scale.shape, self.scale, self.shift, self.eps)


# ch04.ipynb: gelu
class GELU(nn.Module):
    """GPT-2's activation, the tanh form of GELU (Hendrycks and Gimpel, 2016): any shape."""

    def forward(self, x):
        return F.gelu(x, approximate="tanh")


# ch04.ipynb: feed-forward
class FeedForward(nn.Module):
    """Two linear layers with GELU between, 4 C wide, on each token alone: `(B, T, C) -> (B, T, C)`."""

    def __init__(self, cfg):
        super().__init__()
        C = cfg["emb_dim"]
        self.layers = nn.Sequential(
            nn.Linear(C, 4 * C),  # (B, T, C) -> (B, T, 4 C)
            GELU(),
            nn.Linear(4 * C, C),  # (B, T, 4 C) -> (B, T, C)
        )

    def forward(self, x):
        return self.layers(x)


# ch04.ipynb: transformer-block
class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each normalized first and added: `(B, T, C) -> (B, T, C)`."""

    def __init__(self, cfg):
        super().__init__()
        C, longest, rate = cfg["emb_dim"], cfg["context_length"], cfg["drop_rate"]
        self.att = MultiHeadAttention(C, C, longest, rate, cfg["n_heads"], cfg["qkv_bias"])
        self.ff = FeedForward(cfg)
        self.norm1, self.norm2 = LayerNorm(C), LayerNorm(C)
        self.drop_shortcut = nn.Dropout(rate)

    def forward(self, x, cache=None):
        x = x + self.drop_shortcut(self.att(self.norm1(x), cache))  # tokens look at each other
        return x + self.drop_shortcut(self.ff(self.norm2(x)))  # each token works alone


# ch04.ipynb: gpt-model
class GPTModel(nn.Module):
    """GPT-2 (Radford et al., 2019): token IDs `(B, T)` -> logits `(B, T, V)`; (B, 1, V) if last_only.

    ValueError for a wrong configuration, and for IDs of a wrong shape, too many or outside the vocabulary
    (on a GPU CUDA's own error); TypeError if not whole numbers. `cache`: a KVCache for each block.
    """

    def __init__(self, cfg):
        super().__init__()
        check_config(cfg)
        self.tok_emb = nn.Embedding(cfg["vocab_size"], cfg["emb_dim"])
        self.pos_emb = nn.Embedding(cfg["context_length"], cfg["emb_dim"])
        self.drop_emb = nn.Dropout(cfg["drop_rate"])
        self.trf_blocks = nn.Sequential(*[TransformerBlock(cfg) for _ in range(cfg["n_layers"])])
        self.final_norm = LayerNorm(cfg["emb_dim"])
        self.out_head = nn.Linear(cfg["emb_dim"], cfg["vocab_size"], bias=False)
        if cfg.get("tie_weights", False):
            self.tok_emb.weight = self.out_head.weight  # one matrix, two jobs
            nn.init.normal_(self.pos_emb.weight, std=0.02)
            keep_tied(self)

    @checked_ids
    def forward(self, in_idx, cache=None, last_only=False):
        past = cache[0].length if cache else 0  # tokens that were read before
        positions = torch.arange(past, past + in_idx.shape[1], device=in_idx.device)  # (T,)
        x = self.tok_emb(in_idx) + self.pos_emb(positions)  # (B, T, C) + (T, C)
        x = self.drop_emb(x)  # (B, T, C)
        for i, block in enumerate(self.trf_blocks):
            x = block(x, cache[i] if cache else None)  # (B, T, C)
        x = x[:, -1:] if last_only else x  # (B, 1, C) if only the last token counts
        return self.out_head(self.final_norm(x))  # (B, T, V)


# ch04.ipynb: generate-text-simple
def generate_text_simple(model, idx, max_new_tokens, context_size):
    """Append the likeliest token, again and again: `(B, T) -> (B, T + max_new_tokens)`."""
    check_prompt(idx, context_size)
    with evaluation_mode(model), torch.no_grad():
        for _ in range(max_new_tokens):
            logits = model(idx[:, -context_size:], last_only=True)[:, -1]  # (B, V)
            best = finite_logits(logits).argmax(dim=-1, keepdim=True)  # (B, 1)
            idx = torch.cat((idx, best), dim=1)  # (B, T + 1)
    return idx


# ch04.ipynb: kv-cache
class KVCache:
    """Keys and values of one block: `append` takes those of new tokens, returns all: `(B, H, S, D)`."""

    def __init__(self, capacity):
        self.capacity, self.length = capacity, 0

    def append(self, keys, values):
        start, end = self.length, self.length + keys.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens and is full")
        if start == 0:
            shape = (*keys.shape[:2], self.capacity, keys.shape[3])
            self.keys, self.values = keys.new_empty(shape), values.new_empty(shape)
        if len(keys) != len(self.keys):
            raise ValueError(f"the cache holds {len(self.keys)} texts, got {len(keys)}")
        self.keys[:, :, start:end], self.values[:, :, start:end] = keys, values
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


# ch04.ipynb: next-token-logits
def next_token_logits(model, idx, context_size, cache=None):
    """Logits for the token after idx, `(B, T) -> (B, V)`; a cache must hold the start of this very idx."""
    if cache is None or idx.shape[1] > context_size:  # the window slides: all is computed anew
        return finite_logits(model(idx[:, -context_size:], last_only=True)[:, -1])
    return finite_logits(model(idx[:, cache[0].length :], cache, last_only=True)[:, -1])


# ch04.ipynb: generate-text-cached
def generate_text_cached(model, idx, max_new_tokens, context_size):
    """generate_text_simple, but faster up to context_size tokens: `(B, T) -> (B, T + max_new_tokens)`."""
    check_prompt(idx, context_size)
    cache = [KVCache(context_size) for _ in model.trf_blocks]
    with evaluation_mode(model), stored_by_columns(model, max_new_tokens), torch.inference_mode():
        for _ in range(max_new_tokens):
            logits = next_token_logits(model, idx, context_size, cache)  # (B, V)
            idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)  # (B, T + 1)
    return idx.clone()
