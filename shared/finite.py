"""Numbers that are not finite, no counts, or no token IDs: refused where they first appear, before anything is built on them."""

import math
import operator
import warnings

import torch


def finite(tensor: torch.Tensor, what: str, hint: str = "") -> torch.Tensor:
    """The tensor itself; ValueError, with what it is called, where a number in it is nan or infinite."""
    if not (good := torch.isfinite(tensor)).all():
        found = tensor[~good].flatten()[0].item()
        raise ValueError(f"{what} is not finite ({found}){hint and ': '}{hint}")
    return tensor


def whole_number(number, what: str):
    """The number itself; ValueError, with what it is called, unless it is a whole number above 0, of any library."""
    if not hasattr(number, "__index__") or number < 1:
        raise ValueError(f"{what} is {number!r}; a whole number above 0 is needed")
    return number


def step_that_counts(x: torch.Tensor, eps: float) -> float:
    """The step itself; ValueError where it is lost beside a number of x, as it is in whole numbers."""
    if not x.is_floating_point() or (x + eps == x).any():
        raise ValueError(f"eps {eps} is lost beside x in {x.dtype}: pass x.double()")
    return eps


def not_negative(number, what: str, hint: str = ""):
    """The number itself; ValueError, with what it is called, unless it is finite and 0 or above."""
    if not 0 <= number < math.inf:
        raise ValueError(f"{what} is {number}; it must be 0 or above{hint and ': '}{hint}")
    return number


def whole_ids(token_ids, vocab_size: int, at_least: int) -> list[int]:
    """Token IDs of a list or a tensor `(T,)`, as a list of ints; ValueError unless all are in 0 ... V - 1."""
    try:
        # index takes whole numbers of every library, and refuses 2.0
        ids = [operator.index(token_id) for token_id in token_ids]
    except (TypeError, ValueError):  # text, fractions, a tensor of two dimensions
        raise ValueError(
            "token IDs must be one row of whole numbers: encode a text first"
        ) from None
    if len(ids) < at_least:
        raise ValueError(f"{len(ids)} token IDs, but at least {at_least} are needed")
    if outside := [token_id for token_id in ids if not 0 <= token_id < vocab_size]:
        raise ValueError(f"token ID {outside[0]} is outside 0 ... {vocab_size - 1}")
    return ids


def checked_loss(loss: torch.Tensor) -> torch.Tensor:
    """A loss; ValueError where it is nan or infinite, since no step can come of that. A warning on an Apple GPU."""
    if loss.device.type == "mps":
        warnings.warn(
            "the course was not tried on MPS, where some versions of PyTorch compute wrong losses: "
            'compare the first ones with those of the device "cpu"',
            stacklevel=3,
        )
    return finite(
        loss, "the loss", "lower the learning rate, or look for faults in the data or its targets"
    )


def finite_logits(logits: torch.Tensor) -> torch.Tensor:
    """Logits `(..., V)`; ValueError where the largest is nan or infinite. Tokens may be ruled out by -inf."""
    finite(
        logits.amax(dim=-1),
        "a largest logit",
        "the weights are damaged, or a learning rate was too high",
    )
    return logits


def finite_weights(weights: dict[str, torch.Tensor], source) -> dict[str, torch.Tensor]:
    """Tensors by name; ValueError, with the source and the name, where one holds a nan or an infinite number."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.is_meta:
            finite(tensor, f"{source}: a number in {name}", "these weights are damaged")
    return weights


def same_length(*tensors: torch.Tensor) -> None:
    """Raise ValueError unless all are `(N,)`, with one N above 0."""
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
        raise ValueError(f"one number for each of some items is needed; got {sorted(shapes)}")


def check_input(x: torch.Tensor, d_in: int, context_length: int) -> None:
    """Raise ValueError unless x is `(B, T, d_in)`, as an attention layer needs it, and T no longer than the context."""
    if x.dim() != 3:
        raise ValueError(f"the input has shape {tuple(x.shape)}; it must be (B, T, {d_in})")
    if x.shape[2] != d_in:
        raise ValueError(f"the input has {x.shape[2]} numbers a token, but d_in is {d_in}")
    if x.shape[1] > context_length:
        raise ValueError(
            f"the input has {x.shape[1]} tokens, but context_length is {context_length}"
        )


def drop_mask(module, state_dict, prefix, *_) -> None:
    """A hook of load_state_dict that ignores a stored `mask`: the book's classes save it, and it is no weight."""
    state_dict.pop(prefix + "mask", None)
