"""Chapter 3: attention. Promoted from ch03_attention/ch03.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import torch
import torch.nn.functional as F
from torch import nn

from shared.finite import check_input, drop_mask, whole_number

__all__ = ["SelfAttention_v1", "SelfAttention_v2", "future_mask", "influence",
    "CausalAttention", "MultiHeadAttentionWrapper", "split_heads", "merge_heads",
    "causal_weights", "MultiHeadAttentionExplicit", "MultiHeadAttention"]  # fmt: skip


# ch03.ipynb: self-attention-v1
class SelfAttention_v1(nn.Module):
    """One head of self-attention with bare weight matrices: `(T, d_in) -> (T, d_out)`."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x):
        queries, keys, values = x @ self.W_query, x @ self.W_key, x @ self.W_value
        attn_scores = queries @ keys.mT  # (T, T)
        attn_weights = torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=-1)
        return attn_weights @ values  # (T, d_out)


# ch03.ipynb: self-attention-v2
class SelfAttention_v2(nn.Module):
    """One head of self-attention with linear layers: `(T, d_in) -> (T, d_out)`."""

    def __init__(self, d_in, d_out, qkv_bias=False):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x):
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        attn_scores = queries @ keys.mT  # (T, T)
        attn_weights = torch.softmax(attn_scores / keys.shape[-1] ** 0.5, dim=-1)
        return attn_weights @ values  # (T, d_out)


# ch03.ipynb: future-mask
def future_mask(T, S, device=None):
    """True where a query must not look, `(T, S)` bool: T queries, the last of S tokens."""
    # S > T only in chapter 4, which keeps the keys of earlier tokens
    return torch.ones(T, S, dtype=torch.bool, device=device).triu(1 + S - T)


# ch03.ipynb: influence
@torch.no_grad()
def influence(attention, x):
    """How far output t moves when token j is replaced: `(B, T, d_in) -> (T, T)`, row t, column j."""
    before, columns = attention(x), []
    for j in range(x.shape[-2]):
        changed = x.clone()
        changed[..., j, :] += 1.0
        changed[..., j, ::2] += 1.0  # not the same to all: chapter 4's LayerNorm would undo that
        moved = (attention(changed) - before).abs().amax(dim=-1)  # (B, T)
        columns.append(moved.reshape(-1, x.shape[-2]).amax(dim=0))
    return torch.stack(columns, dim=-1)


# ch03.ipynb: causal-attention
class CausalAttention(nn.Module):
    """One head that sees no future: `(B, T, d_in) -> (B, T, d_out)`.

    Raises ValueError for another rank or width of the input, or more than `context_length` tokens.
    """

    def __init__(self, d_in, d_out, context_length, dropout, qkv_bias=False):
        super().__init__()
        self.d_in, self.context_length = d_in, context_length
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        mask = future_mask(context_length, context_length)
        self.register_buffer("mask", mask, persistent=False)
        self.register_load_state_dict_pre_hook(drop_mask)

    def forward(self, x):
        check_input(x, self.d_in, self.context_length)
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)
        attn_scores = queries @ keys.mT / keys.shape[-1] ** 0.5  # (B, T, T)
        T = x.shape[1]  # the text may be shorter than the context
        attn_scores = attn_scores.masked_fill(self.mask[:T, :T], -torch.inf)
        attn_weights = self.dropout(torch.softmax(attn_scores, dim=-1))
        return attn_weights @ values  # (B, T, d_out)


# ch03.ipynb: multi-head-attention-wrapper
class MultiHeadAttentionWrapper(nn.Module):
    """`num_heads` causal heads side by side: `(B, T, d_in) -> (B, T, num_heads * d_out)`."""

    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        self.heads = nn.ModuleList(  # in a plain list their weights would never be trained
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias)
            for _ in range(num_heads)
        )

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads], dim=-1)


# ch03.ipynb: split-heads
def split_heads(x, num_heads):
    """Each head's part of every token, `(B, T, H * D) -> (B, H, T, D)`."""
    x = x.unflatten(-1, (num_heads, -1))  # (B, T, H, D): a token's numbers, cut into heads
    return x.transpose(1, 2)  # (B, H, T, D): heads to the front, like a second batch axis


def merge_heads(x):
    """The inverse of split_heads, `(B, H, T, D) -> (B, T, H * D)`."""
    return x.transpose(1, 2).flatten(2)


# ch03.ipynb: causal-weights
def causal_weights(queries, keys):
    """Attention weights without a view of the future, `(..., T, D), (..., S, D) -> (..., T, S)`."""
    scores = queries @ keys.mT / keys.shape[-1] ** 0.5  # D is the size of one head
    hidden = future_mask(*scores.shape[-2:], scores.device)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1)


# ch03.ipynb: multi-head-attention-explicit
class MultiHeadAttentionExplicit(nn.Module):
    """Causal attention in H heads, every step written out: `(B, T, d_in) -> (B, T, d_out)`.

    Vaswani et al., 2017. `weights` keeps the last ones, `(B, H, T, S)`. Raises ValueError if num_heads
    does not divide d_out, and as `check_input` does.
    """

    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False):
        super().__init__()
        if d_out % whole_number(num_heads, "num_heads") != 0:
            raise ValueError(f"d_out ({d_out}) is not divisible by num_heads ({num_heads})")
        self.d_in, self.d_out, self.context_length = d_in, d_out, context_length
        self.num_heads, self.head_dim = num_heads, d_out // num_heads
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)  # all heads in one matrix
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_load_state_dict_pre_hook(drop_mask)

    def forward(self, x, cache=None):
        check_input(x, self.d_in, self.context_length)
        layers = self.W_query, self.W_key, self.W_value
        queries, keys, values = (split_heads(layer(x), self.num_heads) for layer in layers)
        if cache is not None:  # section 4.9: add the keys and values of earlier tokens
            keys, values = cache.append(keys, values)
        return self.out_proj(merge_heads(self.attend(queries, keys, values)))

    def attend(self, queries, keys, values):
        """The average of the values: `(B, H, T, D), (B, H, S, D) twice -> (B, H, T, D)`."""
        weights = causal_weights(queries, keys)  # (B, H, T, S)
        self.weights = weights.detach()  # for pictures
        return self.dropout(weights) @ values


# ch03.ipynb: multi-head-attention
class MultiHeadAttention(MultiHeadAttentionExplicit):
    """Causal attention in H heads, by a fused kernel: `(B, T, d_in) -> (B, T, d_out)`.

    Parameters, results and errors are those of MultiHeadAttentionExplicit; no weights are kept
    (Dao et al., 2022). Example: `MultiHeadAttention(768, 768, 1024, 0.1, num_heads=12)`.
    """

    def attend(self, queries, keys, values):
        """As in the explicit form: `(B, H, T, D), (B, H, S, D) twice -> (B, H, T, D)`."""
        T, S = queries.shape[-2], keys.shape[-2]
        # the kernel's own mask is for T == S; a single query may see all the keys it is given
        mask = None if T in (1, S) else ~future_mask(T, S, queries.device)
        dropout = self.dropout.p if self.training else 0.0  # a function does not know eval()
        return F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout, is_causal=T == S
        )
