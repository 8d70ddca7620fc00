"""The names of earlier chapters that appendix_d.ipynb imports; written by `make promote`."""

from shared.gpt_model import GPTModel
from shared.pretraining import (
    calc_loss_batch,
    evaluate_model,
    generate_and_print_sample,
    initialize,
)

__all__ = [
    "GPTModel",
    "calc_loss_batch",
    "evaluate_model",
    "generate_and_print_sample",
    "initialize",
]
