"""The names of earlier chapters that appendix_e.ipynb imports; written by `make promote`."""

from shared.classification import (
    BatchesByLength,
    SpamDataset,
    classifier_from,
    loader_logits,
    train_classifier_simple,
)
from shared.instruction import generate_responses, train_epoch
from shared.pretraining import calc_loss_batch
from shared.training import learning_rate

__all__ = [
    "BatchesByLength",
    "SpamDataset",
    "calc_loss_batch",
    "classifier_from",
    "generate_responses",
    "learning_rate",
    "loader_logits",
    "train_classifier_simple",
    "train_epoch",
]
