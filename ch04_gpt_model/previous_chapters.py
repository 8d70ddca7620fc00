"""The names of earlier chapters that ch04.ipynb imports; written by `make promote`."""

from shared.attention import MultiHeadAttention, influence

__all__ = ["MultiHeadAttention", "influence"]
