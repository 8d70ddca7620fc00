"""The names of earlier chapters that ch05.ipynb imports; written by `make promote`."""

from shared.attention import MultiHeadAttentionExplicit
from shared.gpt_model import (
    GPT_CONFIG_124M,
    GPTModel,
    KVCache,
    generate_text_cached,
    next_token_logits,
)
from shared.intro import BigramModel
from shared.text_data import create_dataloader_v1

__all__ = [
    "BigramModel",
    "GPTModel",
    "GPT_CONFIG_124M",
    "KVCache",
    "MultiHeadAttentionExplicit",
    "create_dataloader_v1",
    "generate_text_cached",
    "next_token_logits",
]
