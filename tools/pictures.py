"""Whether a stored picture is the one that is drawn now: what nbval, which compares text only, leaves out.

Two pictures are equal if no small square of one is much darker or lighter than in the other: a bar that is
as high as another number says is seen, an edge that another machine smooths otherwise is not.
"""

import base64
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

BLOCK = 8  # pixels; a curve is half as wide, and a letter about two of these high
TOLERANCE = 40  # gray levels of 255, in the mean of a block


def gray_blocks(png: bytes) -> np.ndarray:
    """The mean of each block of BLOCK x BLOCK pixels, red, green and blue apart."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float32)
    high, wide = (size // BLOCK for size in pixels.shape[:2])
    whole = pixels[: high * BLOCK, : wide * BLOCK]
    return whole.reshape(high, BLOCK, wide, BLOCK, 3).mean(axis=(1, 3))


def difference(stored: bytes, drawn: bytes) -> str:
    """What tells two PNGs apart, in words; empty if nothing does."""
    if stored == drawn:
        return ""
    try:
        sizes = [Image.open(io.BytesIO(png)).size for png in (stored, drawn)]
    except UnidentifiedImageError:
        return "it cannot be read"
    if sizes[0] != sizes[1]:
        return "its size is {}x{}, drawn are {}x{} pixels".format(*sizes[0], *sizes[1])
    gap = np.abs(gray_blocks(stored) - gray_blocks(drawn)).max(axis=2)
    if gap.max() <= TOLERANCE:
        return ""
    row, column = (int(BLOCK * place) for place in np.unravel_index(gap.argmax(), gap.shape))
    share = f"{(gap > TOLERANCE).mean():.1%}"
    return f"{share} of its area differs, most at {column} pixels from the left, {row} from the top"


def pictures(outputs: list) -> list[str]:
    """The PNGs among a cell's outputs."""
    return [out["data"]["image/png"] for out in outputs if "image/png" in out.get("data", {})]


def compared_too(compare_outputs: Callable) -> Callable:
    """nbval's comparison of a cell's outputs, its pictures included."""

    def compare(item, drawn, stored, *given):
        if not compare_outputs(item, drawn, stored, *given):
            return False
        fresh, kept = pictures(drawn), pictures(stored)
        if len(fresh) != len(kept):
            faults = [f"{len(kept)} pictures are stored, {len(fresh)} are drawn"]
        else:
            pairs = [[base64.b64decode(png) for png in pair] for pair in zip(kept, fresh)]
            faults = list(filter(None, (difference(*pair) for pair in pairs)))
        item.comparison_traceback += [
            f"the stored picture is not the one that this cell draws: {fault}" for fault in faults
        ]
        return not faults

    return compare


def picture_of(fig, dpi: int) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
