"""Reading what an answer returned, in the forms in which Python, NumPy and PyTorch have it."""

from shared.checks import require


def yes_or_no(got):
    """True or False, also as a number of NumPy or PyTorch, or as 1 or 0; refused if it is anything else."""
    value = got.item() if hasattr(got, "item") and getattr(got, "ndim", 1) == 0 else got
    require(isinstance(value, int) and value in (0, 1), f"True or False is asked for, not {got!r}")
    return bool(value)
