"""The names of earlier chapters that ch04.ipynb imports; written by `make promote`."""

from shared.attention import MultiHeadAttention

__all__ = ["MultiHeadAttention"]
