"""The names of earlier chapters that ch07.ipynb imports; written by `make promote`."""

from shared.attention import future_mask
from shared.gpt_model import KVCache, evaluation_mode, next_token_logits
from shared.pretraining import (
    calc_loss_batch,
    evaluate_model,
    generate,
    learning_rate,
    load_checkpoint,
    save_checkpoint,
)

__all__ = [
    "KVCache",
    "calc_loss_batch",
    "evaluate_model",
    "evaluation_mode",
    "future_mask",
    "generate",
    "learning_rate",
    "load_checkpoint",
    "next_token_logits",
    "save_checkpoint",
]
