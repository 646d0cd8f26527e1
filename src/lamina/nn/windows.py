"""What a layer does to the size of a series, image or volume: the arithmetic of `lamina.nn.arithmetic`, read off the layer.

Models check with it that something is left of an image, `lamina inspect` says with it how a size came about.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

from torch import nn

from lamina.core.errors import ShapeError
from lamina.nn.arithmetic import (
    OutputSize,
    adaptive_output_size,
    conv_output_size,
    pool_output_size,
    transposed_output_size,
)
from lamina.nn.convolution import CONVOLUTIONS, TRANSPOSED
from lamina.nn.pooling import ADAPTIVE_POOLS, AVERAGE_POOLS, MAX_POOLS

__all__ = ["numbers", "size_after", "window_steps"]

_AXES: Final = ("height", "width")


def window_steps(layer: nn.Module, sizes: Sequence[int]) -> list[OutputSize] | None:
    """The size of each axis after a convolution or pooling, and how it came about; None for any other layer.

    >>> [step.size for step in window_steps(nn.Conv2d(3, 96, 11, stride=4), (227, 224))]
    [55, 54]
    """
    axes = len(sizes)
    if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED, *MAX_POOLS, *AVERAGE_POOLS)):
        kernel, stride, dilation = (
            numbers(getattr(layer, key, 1), axes) for key in ("kernel_size", "stride", "dilation")
        )
        given: Any = layer.padding
        padding: list[Any] = [given] * axes if isinstance(given, str) else numbers(given, axes)
        places = zip(sizes, kernel, stride, dilation, padding, strict=True)
        if isinstance(layer, CONVOLUTIONS):
            return [conv_output_size(n, kernel=k, stride=s, dilation=d, padding=p) for n, k, s, d, p in places]
        if isinstance(layer, TRANSPOSED):
            extra = numbers(layer.output_padding, axes)
            return [
                transposed_output_size(n, kernel=k, stride=s, dilation=d, padding=p, output_padding=e)
                for (n, k, s, d, p), e in zip(places, extra, strict=True)
            ]
        ceil_mode = bool(layer.ceil_mode)
        return [
            pool_output_size(n, kernel=k, stride=s, dilation=d, padding=p, ceil_mode=ceil_mode)
            for n, k, s, d, p in places
        ]
    if isinstance(layer, ADAPTIVE_POOLS):
        wanted: Any = layer.output_size
        asked = [wanted] * axes if isinstance(wanted, int) or wanted is None else list(wanted)
        return [adaptive_output_size(n, size=n if size is None else size) for n, size in zip(sizes, asked, strict=True)]
    return None


def size_after(
    layers: Iterable[tuple[str, nn.Module]],
    sizes: Sequence[int],
    *,
    model: str,
    axes: Sequence[str] = _AXES,
    argument: str = "image_size",
    mend: str = "use larger ones, or resize them (preprocess)",
) -> tuple[int, ...]:
    """The size of each axis after layers that run one after the other; layers without windows change nothing.

    Args:
        layers: Name and layer, in the order in which they run.
        sizes: Of the input: (height, width) of images.
        model: Name of the model, for the error.
        axes: Names of the axes, for the error.
        argument: Of the model that gives the sizes, for the error.
        mend: What to do about inputs that are too small.

    Raises:
        ShapeError: Nothing is left of an axis; says after which layer, and which size is enough.
    """
    chain = list(layers)
    found = [_one_axis(chain, n, axis=axis, num_axes=len(sizes)) for axis, n in enumerate(sizes)]
    for name, (size, how) in zip(axes, found, strict=True):
        if size < 1:
            given = "x".join(map(str, sizes))
            raise ShapeError(
                f"An input of {given} is too small for {model}: nothing is left of its {name} after {how}.",
                where=f"{model}, argument `{argument}`",
                accepts=f"{' and '.join(axes)} >= {_least(chain, num_axes=len(sizes))}",
                mend=mend,
            )
    return tuple(size for size, _ in found)


def _least(layers: Sequence[tuple[str, nn.Module]], *, num_axes: int) -> int:
    """The smallest input, the same along all axes, of which something is left along each."""
    return next(
        n
        for n in count(1)
        if all(_one_axis(layers, n, axis=axis, num_axes=num_axes)[0] > 0 for axis in range(num_axes))
    )


def _one_axis(layers: Sequence[tuple[str, nn.Module]], n: int, *, axis: int, num_axes: int) -> tuple[int, str]:
    """The size of an axis after the layers; 0, and where and how it vanished, when it is too small."""
    if n < 1:
        return 0, "nothing at all"
    for name, layer in layers:
        steps = window_steps(layer, [n] * num_axes)
        if steps is not None:
            n = steps[axis].size
            if n < 1:
                return 0, f"{name}: {steps[axis].how}"
    return n, ""


def numbers(value: int | Sequence[int], axes: int) -> list[int]:
    """One number per axis; of more than there are axes (1-d layers run as 2-d operations) the last."""
    if isinstance(value, int):
        return [value] * axes
    return [*value][-axes:] if len(value) > 1 else [*value] * axes
