"""Small arrays as PNG data URIs, so that a page needs no files beside it."""

from __future__ import annotations

import base64
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lamina.core.errors import ShapeError

__all__ = ["heat_picture", "photo", "signed_picture"]

# Ends of the diverging scale: blue for negative, white for zero, red-orange for positive; told apart by all common
# forms of colour blindness, and in grey by their darkness together with the legend.
_NEGATIVE: Final = np.array([33, 102, 172], dtype=np.float64)
_ZERO: Final = np.array([247, 247, 247], dtype=np.float64)
_POSITIVE: Final = np.array([178, 24, 43], dtype=np.float64)
_HEAT: Final = np.array([8, 64, 129], dtype=np.float64)


def photo(pixels: NDArray[np.uint8]) -> str:
    """An image (C, H, W), uint8, with 1, 3 or 4 channels, as it is.

    Raises:
        ShapeError: Another number of axes or channels.
    """
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4):
        raise ShapeError(
            f"A picture got an array shaped {pixels.shape}.",
            where="photo, argument `pixels`",
            accepts="uint8 array (channels, height, width) with 1, 3 or 4 channels",
            mend="put channels first",
        )
    array = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return _png(array[:, :, 0] if array.shape[2] == 1 else array)


def signed_picture(values: NDArray[np.floating], *, largest: float | None = None) -> str:
    """A real-valued array (H, W) on a scale from blue (negative) over white (zero) to red (positive).

    Args:
        largest: The magnitude that gets the full colour; default: the array's own. Values that are not finite are black.
    """
    finite = np.isfinite(values)
    scale = largest if largest is not None else float(np.abs(values[finite]).max(initial=0.0))
    share = np.clip(np.where(finite, values, 0.0) / (scale or 1.0), -1.0, 1.0)[:, :, None]
    ends = np.where(share < 0, _NEGATIVE, _POSITIVE)
    colours = _ZERO + (ends - _ZERO) * np.abs(share)
    colours[~finite] = 0.0
    return _png(colours.round().astype(np.uint8))


def heat_picture(values: NDArray[np.floating]) -> str:
    """A non-negative array (H, W) from white (zero) to dark blue (its largest)."""
    share = np.clip(values / (float(values.max(initial=0.0)) or 1.0), 0.0, 1.0)[:, :, None]
    return _png((255.0 + (_HEAT - 255.0) * share).round().astype(np.uint8))


def _png(array: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
