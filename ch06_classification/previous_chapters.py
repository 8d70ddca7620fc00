"""The names of earlier chapters that ch06.ipynb imports; written by `make promote`."""

from shared.gpt_model import GPTModel, check_ids, evaluation_mode
from shared.pretraining import load_checkpoint, save_checkpoint

__all__ = ["GPTModel", "check_ids", "evaluation_mode", "load_checkpoint", "save_checkpoint"]
