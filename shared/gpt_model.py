"""Chapter 4: gpt model. Promoted from ch04_gpt_model/ch04.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import difflib
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from shared.attention import MultiHeadAttention
from shared.finite import finite_logits

__all__ = ["GPT_CONFIG_124M", "check_config", "LayerNorm", "GELU", "FeedForward",
    "TransformerBlock", "check_ids", "GPTModel", "evaluation_mode",
    "generate_text_simple", "tie", "share_head", "KVCache", "next_token_logits",
    "stored_by_columns", "generate_text_cached"]  # fmt: skip


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


# ch04.ipynb: check-config
def check_config(cfg):
    """Raise ValueError for a configuration with an unknown or missing key, or an impossible value."""
    for key in cfg:
        if key not in GPT_CONFIG_124M and key != "tie_weights":
            near = difflib.get_close_matches(key, GPT_CONFIG_124M, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"the configuration has an unknown key {key!r}{hint}")
    if missing := [key for key in GPT_CONFIG_124M if key not in cfg]:
        raise ValueError(f"the configuration lacks {', '.join(map(repr, missing))}")
    for key in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
        if type(cfg[key]) is not int or cfg[key] < 1:
            raise ValueError(f"{key} is {cfg[key]!r}; a whole number above 0 is needed")
    if cfg["emb_dim"] % cfg["n_heads"]:
        raise ValueError(f"emb_dim {cfg['emb_dim']} is not divisible by n_heads {cfg['n_heads']}")
    if not (isinstance(cfg["drop_rate"], (int, float)) and 0 <= cfg["drop_rate"] < 1):
        raise ValueError(f"drop_rate is {cfg['drop_rate']!r}; it must be at least 0 and below 1")
    if not all(isinstance(flag, bool) for flag in (cfg["qkv_bias"], cfg.get("tie_weights", False))):
        raise ValueError("qkv_bias and tie_weights must be True or False, without quotes")


# ch04.ipynb: layer-norm
class LayerNorm(nn.Module):
    """Layer normalisation with learnable scale and shift, `(..., C) -> (..., C)` (Ba et al., 2016)."""

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
        self.layers = nn.Sequential(nn.Linear(C, 4 * C), GELU(), nn.Linear(4 * C, C))

    def forward(self, x):
        return self.layers(x)


# ch04.ipynb: transformer-block
class TransformerBlock(nn.Module):
    """Attention, then feed-forward, each normalised first and added: `(B, T, C) -> (B, T, C)`."""

    def __init__(self, cfg):
        super().__init__()
        C, longest, rate = cfg["emb_dim"], cfg["context_length"], cfg["drop_rate"]
        self.att = MultiHeadAttention(C, C, longest, rate, cfg["n_heads"], cfg["qkv_bias"])
        self.ff = FeedForward(cfg)
        self.norm1, self.norm2 = LayerNorm(C), LayerNorm(C)
        self.drop_shortcut = nn.Dropout(rate)

    def forward(self, x, cache=None):
        x = x + self.drop_shortcut(self.att(self.norm1(x), cache))
        return x + self.drop_shortcut(self.ff(self.norm2(x)))


# ch04.ipynb: check-ids
def check_ids(in_idx, past, context_length):
    """Raise unless in_idx holds whole numbers, `(B, T)`, and `past` tokens and these fit the context."""
    if in_idx.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"token IDs are whole numbers (int64); got {in_idx.dtype}")
    if in_idx.dim() != 2 or in_idx.shape[1] == 0:
        hint = "one text? ids.unsqueeze(0)" if in_idx.numel() else "there is no new token to read"
        raise ValueError(f"token IDs must be (B, T), T > 0; got {tuple(in_idx.shape)}: {hint}")
    if context_length < 1:
        raise ValueError(f"the context is {context_length} tokens long; it must be at least 1")
    if (total := past + in_idx.shape[1]) > context_length:
        have = f"the model has only {context_length} positions (context_length)"
        raise ValueError(f"{total} tokens, but {have}: shorten the text, or keep its last tokens")


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
            tie(self)

    def forward(self, in_idx, cache=None, last_only=False):
        past = cache[0].length if cache else 0
        check_ids(in_idx, past, self.pos_emb.num_embeddings)
        positions = torch.arange(past, past + in_idx.shape[1], device=in_idx.device)
        try:
            x = self.drop_emb(self.tok_emb(in_idx) + self.pos_emb(positions))  # (B, T, C)
        except IndexError:
            found, last = f"{in_idx.min()} to {in_idx.max()}", self.tok_emb.num_embeddings - 1
            raise ValueError(f"token IDs must be 0 to {last}; these are {found}") from None
        for i, block in enumerate(self.trf_blocks):
            x = block(x, cache[i] if cache else None)
        x = x[:, -1:] if last_only else x  # generation needs no other logits
        return self.out_head(self.final_norm(x))


# ch04.ipynb: evaluation-mode
@contextmanager
def evaluation_mode(model):
    """Within the block the model is in evaluation mode; afterwards each part is as it was."""
    modes = [(part, part.training) for part in model.modules()]
    try:
        yield model.eval()
    finally:
        for part, training in modes:
            part.training = training


# ch04.ipynb: generate-text-simple
def generate_text_simple(model, idx, max_new_tokens, context_size):
    """Append the likeliest token, again and again: `(B, T) -> (B, T + max_new_tokens)`."""
    check_ids(idx, 1 - idx.shape[-1:].numel(), context_size)  # its last token must fit
    with evaluation_mode(model), torch.inference_mode():
        for _ in range(max_new_tokens):
            logits = finite_logits(model(idx[:, -context_size:], last_only=True)[:, -1])  # (B, V)
            idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)
    return idx.clone()  # an ordinary tensor, which training may use


# ch04.ipynb: tie
def tie(model, loaded=None):
    """Let embedding and head share one matrix, with positions as small; once more after each loading."""
    model.tok_emb.weight = model.out_head.weight
    if loaded is None:
        nn.init.normal_(model.pos_emb.weight, std=0.02)
        model.register_load_state_dict_pre_hook(share_head)
        model.register_load_state_dict_post_hook(tie)  # with what was `loaded`


def share_head(model, state_dict, prefix, *_):
    """Before a tied model loads: one of the two names suffices, two different matrices do not fit."""
    names = [f"{prefix}tok_emb.weight", f"{prefix}out_head.weight"]
    found = [state_dict[name] for name in names if name in state_dict]
    if len(found) == 2 and not torch.equal(*found):
        raise ValueError("tie_weights is set, but tok_emb.weight and out_head.weight differ")
    state_dict.update((name, found[0]) for name in names if found)


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


# ch04.ipynb: stored-by-columns
@contextmanager
def stored_by_columns(model, tokens=32):
    """Within the block, a CPU's wide linear layers lie by columns (a second copy), from 32 tokens on."""
    layers = [part for part in model.modules() if tokens >= 32 and isinstance(part, nn.Linear)]
    wide = [layer.weight for layer in layers if layer.out_features >= 2 * layer.in_features]
    kept = {weight: weight.data for weight in wide if weight.is_cpu}
    for weight, data in kept.items():
        weight.data = data.t().contiguous().t()
    try:
        yield model
    finally:
        for weight, data in kept.items():
            weight.data = data


# ch04.ipynb: generate-text-cached
def generate_text_cached(model, idx, max_new_tokens, context_size):
    """generate_text_simple, but faster up to context_size tokens: `(B, T) -> (B, T + max_new_tokens)`."""
    check_ids(idx, 1 - idx.shape[-1:].numel(), context_size)
    cache = [KVCache(context_size) for _ in model.trf_blocks]
    with evaluation_mode(model), stored_by_columns(model, max_new_tokens), torch.inference_mode():
        for _ in range(max_new_tokens):
            logits = next_token_logits(model, idx, context_size, cache)
            idx = torch.cat((idx, logits.argmax(dim=-1, keepdim=True)), dim=1)
    return idx.clone()
