"""The names of earlier chapters that ch07.ipynb imports; written by `make promote`."""

from shared.attention import future_mask
from shared.classification import BatchesByLength
from shared.gpt_model import KVCache, generate_text_cached, next_token_logits
from shared.pretraining import (
    calc_loss_batch,
    evaluate_model,
    generate,
    load_checkpoint,
    save_checkpoint,
    text_to_token_ids,
    token_ids_to_text,
)
from shared.training import learning_rate, parameter_groups

__all__ = [
    "BatchesByLength",
    "KVCache",
    "calc_loss_batch",
    "evaluate_model",
    "future_mask",
    "generate",
    "generate_text_cached",
    "learning_rate",
    "load_checkpoint",
    "next_token_logits",
    "parameter_groups",
    "save_checkpoint",
    "text_to_token_ids",
    "token_ids_to_text",
]
