"""The names of earlier chapters that appendix_d.ipynb imports; written by `make promote`."""

from shared.pretraining import calc_loss_batch, evaluate_model, generate_and_print_sample

__all__ = ["calc_loss_batch", "evaluate_model", "generate_and_print_sample"]
