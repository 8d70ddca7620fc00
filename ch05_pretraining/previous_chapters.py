"""The names of earlier chapters that ch05.ipynb imports; written by `make promote`."""

from shared.attention import MultiHeadAttentionExplicit
from shared.gpt_model import (
    GPT_CONFIG_124M,
    GPTModel,
    KVCache,
    check_ids,
    evaluation_mode,
    generate_text_cached,
    next_token_logits,
    stored_by_columns,
)
from shared.intro import BigramModel
from shared.text_data import create_dataloader_v1, make_encoding

__all__ = [
    "BigramModel",
    "GPTModel",
    "GPT_CONFIG_124M",
    "KVCache",
    "MultiHeadAttentionExplicit",
    "check_ids",
    "create_dataloader_v1",
    "evaluation_mode",
    "generate_text_cached",
    "make_encoding",
    "next_token_logits",
    "stored_by_columns",
]
