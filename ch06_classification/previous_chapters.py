"""The names of earlier chapters that ch06.ipynb imports; written by `make promote`."""

from shared.gpt_model import GPTModel
from shared.pretraining import (
    bits_per_byte,
    calc_loss_batch,
    load_checkpoint,
    plot_losses,
    save_checkpoint,
)
from shared.training import learning_rate, parameter_groups

__all__ = [
    "GPTModel",
    "bits_per_byte",
    "calc_loss_batch",
    "learning_rate",
    "load_checkpoint",
    "parameter_groups",
    "plot_losses",
    "save_checkpoint",
]
