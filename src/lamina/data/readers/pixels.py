"""Numbers -> images: which shape a row of pixels has, where the channels stand, and the compactest exact element type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.config import DataConfig

# A whole file whose largest pixel is this small was not scaled to 255 (scikit-learn's digits end at 16, masks at 1).
LARGEST_UNUSUAL = 63
# Numbers written with six digits are this near to k/255 when they came from bytes.
EXACT = 1e-3 / 255


class ImageShape(NamedTuple):
    """Height, width, channels, and whether the channels of a pixel row stand plane by plane (CHW) or interleaved (HWC)."""

    height: int
    width: int
    channels: int
    planar: bool

    @property
    def num_values(self) -> int:
        """Values per image."""
        return self.height * self.width * self.channels


def image_shape(num_values: int, config: DataConfig, *, where: str) -> tuple[ImageShape, str]:
    """The shape of images that come as rows of `num_values`, and a sentence that says how it was found.

    Raises:
        DataError: `data.shape` does not fit, or is needed because the number is no square.
    """
    if config.shape is not None:
        shape = stated_shape(config, where=where)
        if shape.num_values != num_values:
            raise DataError(
                f"data.shape={list(config.shape)} has {shape.num_values} values, but a row has {num_values}.",
                where=where,
                accepts=f"a shape (height, width) or (height, width, channels) with {num_values} values",
                mend=f"use data.shape={_suggest(num_values)}",
            )
        said = f"{num_values} values per row are images of {shape.height}x{shape.width} with {shape.channels} channels"
        if shape.channels > 1:
            layout = "plane by plane (data.channels_first=true)" if shape.planar else "interleaved, pixel by pixel"
            said += f", {layout}"
        return shape, f"{said} (data.shape)."
    side = math.isqrt(num_values)
    if side * side == num_values:
        said = f"{num_values} values per row are read as {side}x{side} grey pixels"
        half = math.isqrt(num_values // 4)
        if num_values % 4 == 0 and half > 15:
            said += f"; for {half}x{half} with 4 channels say data.shape=[{half},{half},4]"
        return ImageShape(side, side, 1, False), f"{said}."
    raise DataError(
        f"{num_values} values per row make no square of grey pixels, and with several channels their order would be a guess.",
        where=where,
        accepts="a square number of pixels, or data.shape",
        mend=f"say data.shape={_suggest(num_values)} (channels interleaved; with data.channels_first=true plane by plane)",
    )


def stated_shape(config: DataConfig, *, where: str) -> ImageShape:
    """`data.shape` as an ImageShape.

    Raises:
        DataError: It is not two or three positive numbers, or the channels are not 1, 3 or 4.
    """
    shape = config.shape or ()
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise DataError(
            f"data.shape={list(shape)} is no image shape.",
            where=where,
            accepts="[height, width] or [height, width, channels] with 1, 3 or 4 channels",
            mend="write for example data.shape=[28,28] or data.shape=[32,32,3]",
        )
    channels = shape[2] if len(shape) == 3 else 1
    return ImageShape(shape[0], shape[1], channels, bool(config.channels_first) and channels > 1)


def _suggest(num_values: int) -> str:
    for channels in (1, 3, 4):
        side = math.isqrt(num_values // channels)
        if side * side * channels == num_values:
            return f"[{side},{side}]" if channels == 1 else f"[{side},{side},{channels}]"
    height = next(h for h in range(math.isqrt(num_values), 0, -1) if num_values % h == 0)
    return f"[{height},{num_values // height}]"


def rows_to_images(values: Tensor, shape: ImageShape) -> Tensor:
    """(N, height * width * channels) -> (N, C, H, W), contiguous."""
    if shape.planar or shape.channels == 1:
        return values.reshape(len(values), shape.channels, shape.height, shape.width)
    return values.reshape(len(values), shape.height, shape.width, shape.channels).permute(0, 3, 1, 2).contiguous()


def channels_are_first(shape: tuple[int, ...], config: DataConfig, *, where: str) -> tuple[bool, str]:
    """Whether a 4-d array (N, ?, ?, ?) is NCHW, and a sentence; decided by the axis that has 1, 3 or 4 elements.

    Raises:
        DataError: Both or neither axis could hold the channels and `data.channels_first` does not say, or it says what
            cannot be.
    """
    first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
    if config.channels_first is not None:
        stands = shape[1] if config.channels_first else shape[3]
        if stands not in (1, 3, 4):
            raise DataError(
                f"data.channels_first={str(config.channels_first).lower()} would give {stands} channels in an array shaped {shape}.",
                where=where,
                accepts="1, 3 or 4 channels",
                mend=f"use data.channels_first={str(not config.channels_first).lower()}, or check the array",
            )
        return (
            config.channels_first,
            f"Arrays shaped {shape} are read as {'NCHW' if config.channels_first else 'NHWC'}, as said.",
        )
    if first == last:
        raise DataError(
            f"An array shaped {shape} can be read as NCHW and as NHWC."
            if first
            else f"An array shaped {shape} has its channels (1, 3 or 4) neither second nor last.",
            where=where,
            accepts="(N, channels, height, width) or (N, height, width, channels) with 1, 3 or 4 channels",
            mend="say data.channels_first=true (NCHW) or data.channels_first=false (NHWC)"
            if first
            else "reshape the array, or convert it to 1, 3 or 4 channels",
        )
    return first, f"Arrays shaped {shape} are read as {'NCHW' if first else 'NHWC'}: only there are 1, 3 or 4 channels."


class Compact(NamedTuple):
    """Arrays in one compact element type.

    Attributes:
        tensors: uint8, or float32 where bytes would not be exact.
        maximum: Largest value that an element can have where it is not that of the type; None otherwise.
        notes: Sentences on what was done.
    """

    tensors: dict[str, Tensor]
    maximum: float | None
    notes: list[str]


def compact(arrays: Mapping[str, NDArray[np.generic]], *, where: str) -> Compact:
    """The splits' pixels in one element type: uint8 where that is exact, float32 otherwise.

    Whole numbers from 0 to 255 become uint8. Numbers from 0 to 1 become uint8 where all are k/255 (as when bytes were
    divided), else stay float32. Anything else stays float32 with its own range.

    Raises:
        DataError: Not numbers, or not finite; names row and value.
    """
    for name, array in arrays.items():
        if array.dtype.kind not in "buif":
            raise DataError(
                f"The array of {name!r} holds {array.dtype}, not numbers.",
                where=where,
                accepts="bool, whole or floating numbers",
                mend="convert it, for example with .astype('uint8')",
            )
    full = {name: array for name, array in arrays.items() if array.size}
    low = min((float(array.min()) for array in full.values()), default=0.0)
    high = max((float(array.max()) for array in full.values()), default=0.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _not_finite(full, where)
    if all(array.dtype.kind in "bui" or _whole(array) for array in arrays.values()) and low >= 0 and high <= 255:
        tensors = {name: _tensor(array, np.uint8) for name, array in arrays.items()}
        if 0 < high <= LARGEST_UNUSUAL:
            return Compact(tensors, high, [f"The largest pixel is {high:g}; scaling divides by that, not by 255."])
        return Compact(tensors, None, [])
    if low >= 0 and high <= 1:
        if all(_bytes_divided(array) for array in arrays.values()):
            tensors = {name: _bytes(array) for name, array in arrays.items()}
            return Compact(tensors, None, ["Pixels from 0 to 1 are multiples of 1/255 and are kept as bytes."])
        tensors = {name: _tensor(array, np.float32) for name, array in arrays.items()}
        return Compact(tensors, 1.0, ["Pixels from 0 to 1 are no multiples of 1/255 and are kept as float32."])
    tensors = {name: _tensor(array, np.float32) for name, array in arrays.items()}
    maximum = 65535.0 if all(array.dtype == np.uint16 for array in arrays.values()) else None
    return Compact(tensors, maximum, [f"Pixels from {low:g} to {high:g} are kept as float32."])


def _tensor(array: NDArray[np.generic], dtype: type[np.uint8] | type[np.float32]) -> Tensor:
    # Bytes stay where they are (a memory-mapped file); torch wants what it shares to be writable.
    shared = array.dtype == dtype and array.flags.writeable and array.flags.c_contiguous
    return torch.from_numpy(array if shared else array.astype(dtype))


def _bytes(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.rint(array.astype(np.float64, copy=False) * 255.0).astype(np.uint8))


def _whole(array: NDArray[np.generic]) -> bool:
    floats = array.astype(np.float64, copy=False)
    return bool((floats == np.floor(floats)).all())


def _bytes_divided(array: NDArray[np.generic]) -> bool:
    floats = array.astype(np.float64, copy=False)
    return bool((np.abs(floats - np.rint(floats * 255.0) / 255.0) <= EXACT).all())


def _not_finite(arrays: Mapping[str, NDArray[np.generic]], where: str) -> DataError:
    for name, array in arrays.items():
        bad = ~np.isfinite(array.astype(np.float64, copy=False)).reshape(len(array), -1)
        rows = np.flatnonzero(bad.any(axis=1))
        if len(rows):
            row = int(rows[0])
            value = array.reshape(len(array), -1)[row][int(np.flatnonzero(bad[row])[0])]
            return DataError(
                f"{len(rows)} images hold numbers that are not finite; the first has {value}.",
                where=f"{where}, {name!r}, row {row}",
                accepts="finite pixels",
                mend="remove these rows or replace the values, for example with numpy.nan_to_num",
            )
    raise AssertionError("all values are finite")
