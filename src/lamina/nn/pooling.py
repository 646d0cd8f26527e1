"""Pooling over series, images and volumes, by name: neighbours become one number, their maximum or their average.

`create_pooling` gives torch's own layer wherever torch has it; "same" padding, which torch lacks, is added by subclasses of
them. What lies outside the input is never the maximum and, unless asked, never counts in the average.

Source: LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791 (average); Riesenhuber, Poggio (1999), doi:10.1038/14819
(maximum).
"""

from __future__ import annotations

from typing import Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import lookup, register
from lamina.nn.convolution import Sizes, pad_sides, per_axis, positional_axes, same_sides

__all__ = [
    "ADAPTIVE_POOLS",
    "AVERAGE_POOLS",
    "MAX_POOLS",
    "GlobalPool",
    "SameAvgPool1d",
    "SameAvgPool2d",
    "SameAvgPool3d",
    "SameMaxPool1d",
    "SameMaxPool2d",
    "SameMaxPool3d",
    "create_pooling",
]

MAX_POOLS: Final = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE_POOLS: Final = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_ADAPTIVE_MAX: Final = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_ADAPTIVE_AVERAGE: Final = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
ADAPTIVE_POOLS: Final = (*_ADAPTIVE_MAX, *_ADAPTIVE_AVERAGE)


class PoolConfig(Config):
    """Options of pooling; sizes are one number for all axes, or one for each."""

    kernel_size: Sizes = Field(2, description="Size of the window.")
    stride: Sizes | None = Field(None, description="Step of the window; by default its size. Smaller: windows overlap.")
    padding: Sizes | Literal["same", "valid"] = Field(
        "valid",
        description="Elements on either side, at most half a window; valid: none, what fills no window is dropped; same: ceil(size / stride) outputs.",
    )
    ceil_mode: bool = Field(
        False, description="Let the last window reach past the end, instead of dropping what fills none."
    )


class MaxPoolConfig(PoolConfig):
    """Options of max pooling."""

    dilation: Sizes = Field(1, description="Distance between the elements of the window.")


class AveragePoolConfig(PoolConfig):
    """Options of average pooling."""

    count_include_pad: bool = Field(
        False, description="Count zeros of the padding in the average (torch's own default; not with same)."
    )


class AdaptivePoolConfig(Config):
    """Options of adaptive pooling."""

    output_size: Sizes = Field(1, description="Size of the output, whatever that of the input.")


class GlobalPoolConfig(Config):
    """Options of global pooling."""

    keepdims: bool = Field(False, description="Keep the positional dimensions, of size 1.")


def create_pooling(name: str, *, dims: int = 2, **options: Any) -> nn.Module:
    """The pooling called `name` for inputs (B, C, …) with `dims` positional dimensions.

    Args:
        name: `max-pool`, `average-pool`, `adaptive-max-pool`, `adaptive-average-pool`, `global-max-pool`, `global-average-pool`.
        dims: 1 for series, 2 for images, 3 for volumes.
        options: `kernel_size`, `stride`, `padding` (a number, `valid` or `same`), `ceil_mode`, `dilation` (max) or `count_include_pad`
            (average); `output_size` of adaptive, `keepdims` of global pooling.

    Example:
        >>> create_pooling("max-pool", kernel_size=3, stride=2)
        MaxPool2d(kernel_size=3, stride=2, padding=0, dilation=1, ceil_mode=False)
        >>> create_pooling("global-average-pool")(torch.ones(2, 5, 4, 4)).shape
        torch.Size([2, 5])

    Raises:
        UnknownNameError: No layer has this name.
        ConfigError: Not a pooling, no such option, or options that contradict each other.
    """
    entry = lookup("layer", name, where="name of a pooling")
    if not entry.capabilities.get("is_pooling") or entry.config is None:
        raise ConfigError(
            f"{name!r} is a layer, but no pooling.",
            where="name of a pooling",
            accepts="max-pool, average-pool, adaptive-max-pool, adaptive-average-pool, global-max-pool, global-average-pool",
            mend="choose one of them",
        )
    config = entry.config.from_values(options, where=name)
    module: nn.Module = entry.target(dims=dims, **dict(config))
    return module


@register(
    "layer",
    "max-pool",
    config=MaxPoolConfig,
    source="Riesenhuber, Poggio (1999), doi:10.1038/14819",
    example="create_pooling('max-pool', kernel_size=3, stride=2)",
    is_pooling=True,
)
def max_pool(
    *,
    dims: int = 2,
    kernel_size: Sizes = 2,
    stride: Sizes | None = None,
    padding: Sizes | Literal["same", "valid"] = "valid",
    ceil_mode: bool = False,
    dilation: Sizes = 1,
) -> nn.Module:
    """The largest value of each window; the gradient goes to that value alone."""
    axes = positional_axes(dims, where="max-pool")
    spread = per_axis(dilation, axes, key="dilation", where="max-pool")
    if padding == "same":
        kernel, step = _window(axes, kernel_size, stride, where="max-pool", ceil_mode=ceil_mode)
        same = (SameMaxPool1d, SameMaxPool2d, SameMaxPool3d)[axes - 1]
        return _marked(same(_plain(kernel), stride=_plain(step), dilation=_plain(spread)))
    kernel, step = _window(axes, kernel_size, stride, where="max-pool")
    pads = _padding(padding, axes, [d * (k - 1) + 1 for k, d in zip(kernel, spread, strict=True)], where="max-pool")
    return MAX_POOLS[axes - 1](
        _plain(kernel), stride=_plain(step), padding=_plain(pads), dilation=_plain(spread), ceil_mode=ceil_mode
    )


@register(
    "layer",
    "average-pool",
    config=AveragePoolConfig,
    source="LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791",
    example="create_pooling('average-pool', kernel_size=2)",
    is_pooling=True,
)
def average_pool(
    *,
    dims: int = 2,
    kernel_size: Sizes = 2,
    stride: Sizes | None = None,
    padding: Sizes | Literal["same", "valid"] = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
) -> nn.Module:
    """The average of each window; the gradient is shared out evenly."""
    axes = positional_axes(dims, where="average-pool")
    if padding == "same":
        kernel, step = _window(axes, kernel_size, stride, where="average-pool", ceil_mode=ceil_mode)
        if count_include_pad:
            raise ConfigError(
                "average-pool got padding='same' and count_include_pad=True.",
                where="average-pool, key `count_include_pad`",
                accepts="False with same, whose windows at the border average what is there",
                mend="leave it out, or give padding as a number",
            )
        same = (SameAvgPool1d, SameAvgPool2d, SameAvgPool3d)[axes - 1]
        return _marked(same(_plain(kernel), stride=_plain(step), count_include_pad=False))
    kernel, step = _window(axes, kernel_size, stride, where="average-pool")
    pads = _padding(padding, axes, kernel, where="average-pool")
    return AVERAGE_POOLS[axes - 1](
        _plain(kernel),
        stride=_plain(step),
        padding=_plain(pads),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )


@register(
    "layer",
    "adaptive-max-pool",
    config=AdaptivePoolConfig,
    source="He, Zhang, Ren, Sun (2014), arXiv:1406.4729 (spatial pyramid pooling)",
    example="create_pooling('adaptive-max-pool', output_size=7)",
    is_pooling=True,
)
def adaptive_max_pool(*, dims: int = 2, output_size: Sizes = 1) -> nn.Module:
    """The largest values of as many windows as outputs are asked for, whatever the size of the input."""
    axes = positional_axes(dims, where="adaptive-max-pool")
    return _ADAPTIVE_MAX[axes - 1](_plain(per_axis(output_size, axes, key="output_size", where="adaptive-max-pool")))


@register(
    "layer",
    "adaptive-average-pool",
    config=AdaptivePoolConfig,
    source="He, Zhang, Ren, Sun (2014), arXiv:1406.4729 (spatial pyramid pooling)",
    example="create_pooling('adaptive-average-pool', output_size=7)",
    is_pooling=True,
)
def adaptive_average_pool(*, dims: int = 2, output_size: Sizes = 1) -> nn.Module:
    """The averages of as many windows as outputs are asked for, whatever the size of the input."""
    axes = positional_axes(dims, where="adaptive-average-pool")
    return _ADAPTIVE_AVERAGE[axes - 1](
        _plain(per_axis(output_size, axes, key="output_size", where="adaptive-average-pool"))
    )


@register(
    "layer",
    "global-max-pool",
    config=GlobalPoolConfig,
    source="Oquab, Bottou, Laptev, Sivic (2015), doi:10.1109/CVPR.2015.7298668",
    example="create_pooling('global-max-pool')",
    is_pooling=True,
)
def global_max_pool(*, dims: int = 2, keepdims: bool = False) -> nn.Module:
    """The largest value of each channel over all positions."""
    positional_axes(dims, where="global-max-pool")
    return GlobalPool("max", keepdims=keepdims)


@register(
    "layer",
    "global-average-pool",
    config=GlobalPoolConfig,
    source="Lin, Chen, Yan (2014), arXiv:1312.4400, section 3.2",
    example="create_pooling('global-average-pool')",
    is_pooling=True,
)
def global_average_pool(*, dims: int = 2, keepdims: bool = False) -> nn.Module:
    """The average of each channel over all positions."""
    positional_axes(dims, where="global-average-pool")
    return GlobalPool("average", keepdims=keepdims)


class GlobalPool(nn.Module):
    """The maximum or the average of each channel over all positions.

    Args:
        kind: `max` or `average`.
        keepdims: Keep the positional dimensions, of size 1.

    Shapes: (B, C, …) -> (B, C), or (B, C, 1, …).
    """

    def __init__(self, kind: Literal["max", "average"] = "average", *, keepdims: bool = False) -> None:
        super().__init__()
        self.kind = kind
        self.keepdims = keepdims

    def extra_repr(self) -> str:
        """Options, for printing."""
        return f"{self.kind}, keepdims={self.keepdims}"

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, …) -> (B, C), or (B, C, 1, …)."""
        over = tuple(range(2, inputs.ndim))
        if self.kind == "max":
            return torch.amax(inputs, over, keepdim=self.keepdims)
        return torch.mean(inputs, over, keepdim=self.keepdims)


# --- "same" padding ------------------------------------------------------------------------------------------------


class _SameMax(nn.modules.pooling._MaxPoolNd):
    """What the "same" max poolings share. `padding` is the word; torch's layers take numbers only."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, …) -> (B, C, ceil(size / stride), …)."""
        axes = inputs.ndim - 2
        kernel, stride, dilation = (_numbers(v, axes) for v in (self.kernel_size, self.stride, self.dilation))
        sides = same_sides(inputs.shape[2:], kernel=kernel, stride=stride, dilation=dilation)
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]
        padding, ceil_mode = _without_copy(sides, stride)
        if padding is None:
            inputs, padding = pad_sides(inputs, sides, value=float("-inf")), [0] * axes
        return pool(inputs, kernel, stride, padding, dilation, ceil_mode)


class _SameAverage(nn.modules.pooling._AvgPoolNd):
    """What the "same" average poolings share."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, …) -> (B, C, ceil(size / stride), …)."""
        axes = inputs.ndim - 2
        kernel, stride = (_numbers(getattr(self, key), axes) for key in ("kernel_size", "stride"))
        sides = same_sides(inputs.shape[2:], kernel=kernel, stride=stride, dilation=[1] * axes)
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
        padding, ceil_mode = _without_copy(sides, stride)
        # In three dimensions torch wants the input itself to hold a window, whatever is padded.
        holds = axes < 3 or all(n >= k for n, k in zip(inputs.shape[2:], kernel, strict=True))
        if padding is not None and holds:
            return pool(inputs, kernel, stride, padding, ceil_mode, False)
        # The share of each window that lies inside: torch leaves out only padding that is equal on both sides.
        inside = pool(pad_sides(inputs.new_ones(1, 1, *inputs.shape[2:]), sides), kernel, stride)
        return pool(pad_sides(inputs, sides), kernel, stride) / inside


class SameMaxPool1d(_SameMax, nn.MaxPool1d):
    """Max pooling of series with "same" padding: ceil(T / stride) outputs; what lies outside is never the maximum."""


class SameMaxPool2d(_SameMax, nn.MaxPool2d):
    """Max pooling of images with "same" padding: 7 by 2 gives 4; what lies outside is never the maximum."""


class SameMaxPool3d(_SameMax, nn.MaxPool3d):
    """Max pooling of volumes with "same" padding: ceil(size / stride) outputs; what lies outside is never the maximum."""


class SameAvgPool1d(_SameAverage, nn.AvgPool1d):
    """Average pooling of series with "same" padding: ceil(T / stride) outputs; what lies outside does not count."""


class SameAvgPool2d(_SameAverage, nn.AvgPool2d):
    """Average pooling of images with "same" padding: 7 by 2 gives 4; what lies outside does not count."""


class SameAvgPool3d(_SameAverage, nn.AvgPool3d):
    """Average pooling of volumes with "same" padding: ceil(size / stride) outputs; what lies outside does not count."""


# --- small things --------------------------------------------------------------------------------------------------


def _marked(layer: nn.Module) -> nn.Module:
    """The layer with `padding` as the word, which the layers view reads."""
    layer.padding = "same"  # type: ignore[assignment]
    return layer


def _numbers(value: int | tuple[int, ...], axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else list(value)


def _without_copy(sides: list[tuple[int, int]], stride: list[int]) -> tuple[list[int] | None, bool]:
    """Padding and ceil_mode with which torch lays the same windows without a padded copy; None where it cannot.

    A single element missing at the end (no more can be missing with none before) is what a last window that reaches past
    the end makes up for; with stride 1 torch would not lay that window.
    """
    if all(before == after for before, after in sides):
        return [before for before, _ in sides], False
    if all(before == 0 and (after == 0 or step > 1) for (before, after), step in zip(sides, stride, strict=True)):
        return [0] * len(sides), True
    return None, False


def _window(
    axes: int, kernel_size: Sizes, stride: Sizes | None, *, where: str, ceil_mode: bool = False
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and step of the window; `ceil_mode` is given where it cannot be."""
    if ceil_mode:
        raise ConfigError(
            f"{where} got padding='same' and ceil_mode=True.",
            where=f"{where}, key `ceil_mode`",
            accepts="one of the two: with same nothing is dropped",
            mend="leave ceil_mode out",
        )
    kernel = per_axis(kernel_size, axes, key="kernel_size", where=where)
    return kernel, kernel if stride is None else per_axis(stride, axes, key="stride", where=where)


def _padding(
    padding: Sizes | Literal["same", "valid"], axes: int, extents: tuple[int, ...] | list[int], *, where: str
) -> tuple[int, ...]:
    if isinstance(padding, str):
        return (0,) * axes
    pads = per_axis(padding, axes, key="padding", where=where, least=0)
    for pad, extent in zip(pads, extents, strict=True):
        if pad > extent // 2:
            raise ConfigError(
                f"{where} got padding={padding!r} for a window of {extent}.",
                where=f"{where}, key `padding`",
                accepts=f"at most half of the window, {extent // 2}: a window must not lie outside altogether",
                mend=f"padding={extent // 2}",
            )
    return pads


def _plain(values: tuple[int, ...]) -> Any:
    """As people write them: one number where all are alike."""
    return values[0] if len(set(values)) == 1 else values
