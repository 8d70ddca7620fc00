"""Reading what an answer returned, in the forms in which Python, NumPy and PyTorch have it."""

from numbers import Real

from shared.checks import brief, require


def _scalar(got):
    """Python's number for one of NumPy or PyTorch; anything else as it is."""
    return got.item() if hasattr(got, "item") and getattr(got, "ndim", 1) == 0 else got


def yes_or_no(got):
    """True or False, also as a number of NumPy or PyTorch, or as 1 or 0; refused if it is anything else."""
    value = _scalar(got)
    require(isinstance(value, int) and value in (0, 1), f"True or False is asked for, not {got!r}")
    return bool(value)


def number(got, what="a number is asked for"):
    """A number as Python, NumPy or PyTorch have it, not as text, nor True or False; else refused."""
    value = _scalar(got)
    fits = isinstance(value, Real) and not isinstance(value, bool)
    require(fits, f"{what}, not {brief(got)}")
    return value


def numbers(got, count, what):
    """So many numbers, in a list, a tuple, a tensor or an array; anything else is refused."""
    parts = got.tolist() if hasattr(got, "tolist") else got
    require(isinstance(parts, list | tuple), f"{what}, not {brief(got)}")
    require(len(parts) == count, f"{what}; you return {len(parts)}")
    return [number(part, what) for part in parts]
