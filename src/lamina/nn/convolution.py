"""Convolutions over series, images and volumes, by options.

`create_convolution` gives torch's own layer wherever torch has it. It lacks one: "same" padding whose two sides differ,
which every stride of 2 on an even size needs (`SameConv2d` and its sisters). Sizes come from `lamina.nn.arithmetic`.

Source: Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning", arXiv:1603.07285.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import lookup, register
from lamina.nn.arithmetic import same_padding

__all__ = [
    "CONVOLUTIONS",
    "TRANSPOSED",
    "SameConv1d",
    "SameConv2d",
    "SameConv3d",
    "SameConvTranspose1d",
    "SameConvTranspose2d",
    "SameConvTranspose3d",
    "create_convolution",
    "pad_sides",
    "per_axis",
    "positional_axes",
    "same_sides",
]

CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
Sizes = int | tuple[int, ...]


class ConvolutionConfig(Config):
    """Options of a convolution; sizes are one number for all axes, or one for each."""

    kernel_size: Sizes = Field(3, description="Size of the kernel.")
    stride: Sizes = Field(1, description="Step of the kernel.")
    padding: Sizes | Literal["same", "valid"] = Field(
        "same",
        description="Zeros on either side; valid: none; same: ceil(size / stride) outputs, the odd zero at the end, as TensorFlow pads.",
    )
    dilation: Sizes = Field(1, description="Distance between the elements of the kernel.")
    groups: int = Field(
        1, description="Parts into which input and output channels are divided; each sees its own.", ge=1
    )
    depthwise: bool = Field(False, description="One kernel per input channel: as many groups as channels.")
    bias: bool = Field(True, description="Add a learned number per output channel.")


class TransposedConvolutionConfig(ConvolutionConfig):
    """Options of a transposed convolution."""

    padding: Sizes | Literal["same", "valid"] = Field(
        "same",
        description="Elements cut off on either side; valid: none; same: size * stride outputs, the odd one cut at the end.",
    )
    output_padding: Sizes = Field(0, description="Elements added at the end; not with same.")


def create_convolution(
    in_channels: int, out_channels: int, *, dims: int = 2, transposed: bool = False, **options: Any
) -> nn.Module:
    """A convolution over inputs (B, in_channels, …) with `dims` positional dimensions.

    Args:
        dims: 1 for series, 2 for images, 3 for volumes.
        transposed: The transposed convolution, which enlarges where the other shrinks.
        options: `kernel_size`, `stride`, `padding` (a number, `valid` or `same`), `dilation`, `groups`, `depthwise`, `bias`; of a
            transposed one also `output_padding`.

    Returns:
        torch's own module, or one of the `Same…` modules, which are subclasses of torch's with the same parameters.

    Example:
        >>> create_convolution(3, 64, kernel_size=3, padding=1)
        Conv2d(3, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
        >>> create_convolution(32, 32, stride=2, depthwise=True, bias=False)
        SameConv2d(32, 32, kernel_size=(3, 3), stride=(2, 2), padding=same, groups=32, bias=False)

    Raises:
        ConfigError: No such option, or the options contradict each other or the channels.
    """
    entry = lookup("layer", "transposed-convolution" if transposed else "convolution")
    assert entry.config is not None
    config = entry.config.from_values(options, where=entry.name)
    module: nn.Module = entry.target(in_channels, out_channels, dims=dims, **dict(config))
    return module


@register(
    "layer",
    "convolution",
    config=ConvolutionConfig,
    source="Fukushima (1980), doi:10.1007/BF00344251; LeCun et al. (1989), doi:10.1162/neco.1989.1.4.541",
    example="create_convolution(3, 64, kernel_size=3, stride=2, padding='same')",
)
def convolution(
    in_channels: int,
    out_channels: int,
    *,
    dims: int = 2,
    kernel_size: Sizes = 3,
    stride: Sizes = 1,
    padding: Sizes | Literal["same", "valid"] = "same",
    dilation: Sizes = 1,
    groups: int = 1,
    depthwise: bool = False,
    bias: bool = True,
) -> nn.Module:
    """A small window of weights slides over a series, an image or a volume; dilated, in groups or one per channel if asked."""
    where = "convolution"
    axes = positional_axes(dims, where=where)
    kernel, step, spread = (
        per_axis(value, axes, key=key, where=where)
        for key, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
    )
    groups = _groups(in_channels, out_channels, groups=groups, depthwise=depthwise, where=where)
    common: dict[str, Any] = {"stride": step, "dilation": spread, "groups": groups, "bias": bias}
    pads: tuple[int, ...] | None
    if padding == "same":
        extents = [d * (k - 1) + 1 for k, d in zip(kernel, spread, strict=True)]
        whole = all(extent == 1 or (s == 1 and extent % 2) for extent, s in zip(extents, step, strict=True))
        if not whole:
            same = (SameConv1d, SameConv2d, SameConv3d)[axes - 1]
            return same(in_channels, out_channels, kernel, **common)
        pads = tuple(extent // 2 for extent in extents)
    elif padding == "valid":
        pads = (0,) * axes
    else:
        pads = per_axis(padding, axes, key="padding", where=where, least=0)
    return CONVOLUTIONS[axes - 1](in_channels, out_channels, **common, kernel_size=kernel, padding=pads)  # type: ignore[arg-type]


@register(
    "layer",
    "transposed-convolution",
    config=TransposedConvolutionConfig,
    source="Zeiler, Krishnan, Taylor, Fergus (2010), doi:10.1109/CVPR.2010.5539957; Dumoulin, Visin (2016), arXiv:1603.07285",
    example="create_convolution(64, 3, transposed=True, kernel_size=4, stride=2, padding=1)",
)
def transposed_convolution(
    in_channels: int,
    out_channels: int,
    *,
    dims: int = 2,
    kernel_size: Sizes = 3,
    stride: Sizes = 1,
    padding: Sizes | Literal["same", "valid"] = "same",
    dilation: Sizes = 1,
    groups: int = 1,
    depthwise: bool = False,
    bias: bool = True,
    output_padding: Sizes = 0,
) -> nn.Module:
    """Each input element adds its multiple of a window of weights to the output: the gradient of a convolution, as a layer."""
    where = "transposed-convolution"
    axes = positional_axes(dims, where=where)
    kernel, step, spread = (
        per_axis(value, axes, key=key, where=where)
        for key, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
    )
    extra = per_axis(output_padding, axes, key="output_padding", where=where, least=0)
    groups = _groups(in_channels, out_channels, groups=groups, depthwise=depthwise, where=where)
    common: dict[str, Any] = {"stride": step, "dilation": spread, "groups": groups, "bias": bias}
    if padding == "same":
        if any(extra):
            raise ConfigError(
                f"transposed-convolution got padding='same' and output_padding={output_padding!r}.",
                where="transposed-convolution, key `output_padding`",
                accepts="0 with same, which already makes size * stride outputs",
                mend="leave output_padding out, or give padding as a number",
            )
        same = (SameConvTranspose1d, SameConvTranspose2d, SameConvTranspose3d)[axes - 1]
        return same(in_channels, out_channels, kernel, **common)
    for more, s, d in zip(extra, step, spread, strict=True):
        if more >= max(s, d):
            raise ConfigError(
                f"transposed-convolution got output_padding={output_padding!r} with stride={stride!r} and dilation={dilation!r}.",
                where="transposed-convolution, key `output_padding`",
                accepts="less than the stride or the dilation: more would be columns that no input reaches",
                mend=f"output_padding={max(s, d) - 1}",
            )
    pads = (0,) * axes if padding == "valid" else per_axis(padding, axes, key="padding", where=where, least=0)
    common |= {"kernel_size": kernel, "padding": pads, "output_padding": extra}
    return TRANSPOSED[axes - 1](in_channels, out_channels, **common)


# --- "same" padding with two different sides -----------------------------------------------------------------------


def same_sides(
    sizes: Sequence[int], *, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
    """Elements that "same" adds before and after each axis."""
    return [
        same_padding(n, kernel=k, stride=s, dilation=d)
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]


def pad_sides(inputs: Tensor, sides: Sequence[tuple[int, int]], *, value: float = 0.0) -> Tensor:
    """The input with so many elements before and after each positional axis."""
    return F.pad(inputs, [count for side in reversed(sides) for count in side], value=value)


class _SameConvolution(nn.modules.conv._ConvNd):
    """What the "same" convolutions share: arguments as of torch's, except that padding is not asked for."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], **options: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)  # type: ignore[arg-type]
        self.padding = "same"


class _SameTransposed(_SameConvolution):
    """The same for transposed ones, which add what lies beyond the last window where the kernel is smaller than the stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], **options: Any) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **options)
        windows = zip(self.kernel_size, self.stride, self.dilation, strict=True)
        self.output_padding = tuple(max(s - (d * (k - 1) + 1), 0) for k, s, d in windows)


def _padded(layer: nn.modules.conv._ConvNd, inputs: Tensor) -> tuple[Tensor, list[int]]:
    """The input, padded where the sides differ, and the padding that is left to the convolution."""
    sides = same_sides(inputs.shape[2:], kernel=layer.kernel_size, stride=layer.stride, dilation=layer.dilation)
    if all(before == after for before, after in sides):
        return inputs, [before for before, _ in sides]
    return pad_sides(inputs, sides), [0] * len(sides)


class SameConv1d(_SameConvolution, nn.Conv1d):
    """Convolution over series with "same" padding at any stride: ceil(T / stride) outputs, the odd zero at the end.

    Shapes: (B, in_channels, T) -> (B, out_channels, ceil(T / stride)).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_channels, T) -> (B, out_channels, ceil(T / stride))."""
        x, padding = _padded(self, inputs)
        return F.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class SameConv2d(_SameConvolution, nn.Conv2d):
    """Convolution over images with "same" padding at any stride: at stride 2 on an even size one zero row at the bottom,
    one zero column at the right, and none before.

    torch's own `padding="same"` refuses strides, and `padding=1` puts the zeros of an even size before it instead of
    behind: weights trained one way give other outputs the other way.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        x, padding = _padded(self, inputs)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class SameConv3d(_SameConvolution, nn.Conv3d):
    """Convolution over volumes with "same" padding at any stride: ceil(size / stride) outputs, the odd zeros at the end.

    Shapes: (B, in_channels, D, H, W) -> (B, out_channels, ceil(D / stride), …).
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_channels, D, H, W) -> (B, out_channels, ceil(D / stride), …)."""
        x, padding = _padded(self, inputs)
        return F.conv3d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def _cropped(layer: nn.modules.conv._ConvTransposeNd, outputs: Tensor, sizes: Sequence[int]) -> Tensor:
    """An uncut transposed convolution, cut (or filled up with what no input reaches) to size * stride."""
    for axis, (n, s, k, d) in enumerate(zip(sizes, layer.stride, layer.kernel_size, layer.dilation, strict=True)):
        cut = max(d * (k - 1) + 1 - s, 0)
        outputs = outputs.narrow(2 + axis, cut // 2, n * s)
    return outputs


class SameConvTranspose1d(_SameTransposed, nn.ConvTranspose1d):
    """Transposed convolution over series to T * stride outputs, what is too much being cut off, the odd element at the end.

    It is the gradient of `SameConv1d` with respect to its input, for inputs of T * stride.

    Shapes: (B, in_channels, T) -> (B, out_channels, T * stride).
    """

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, in_channels, T) -> (B, out_channels, T * stride)."""
        del output_size
        x = F.conv_transpose1d(
            inputs, self.weight, self.bias, self.stride, 0, self.output_padding, self.groups, self.dilation
        )
        return _cropped(self, x, inputs.shape[2:])


class SameConvTranspose2d(_SameTransposed, nn.ConvTranspose2d):
    """Transposed convolution over images to H * stride by W * stride, what is too much being cut off, the odd row at the end.

    It is the gradient of `SameConv2d` with respect to its input, for inputs of H * stride by W * stride.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, H * stride, W * stride).
    """

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H * stride, W * stride)."""
        del output_size
        x = F.conv_transpose2d(
            inputs, self.weight, self.bias, self.stride, 0, self.output_padding, self.groups, self.dilation
        )
        return _cropped(self, x, inputs.shape[2:])


class SameConvTranspose3d(_SameTransposed, nn.ConvTranspose3d):
    """Transposed convolution over volumes to size * stride, what is too much being cut off, the odd element at the end.

    It is the gradient of `SameConv3d` with respect to its input, for inputs of size * stride.

    Shapes: (B, in_channels, D, H, W) -> (B, out_channels, D * stride, H * stride, W * stride).
    """

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(B, in_channels, D, H, W) -> (B, out_channels, D * stride, H * stride, W * stride)."""
        del output_size
        x = F.conv_transpose3d(
            inputs, self.weight, self.bias, self.stride, 0, self.output_padding, self.groups, self.dilation
        )
        return _cropped(self, x, inputs.shape[2:])


# --- small things --------------------------------------------------------------------------------------------------


def positional_axes(dims: int, *, where: str) -> int:
    """`dims`, where it is 1, 2 or 3.

    Raises:
        ConfigError: It is not.
    """
    if dims not in (1, 2, 3):
        raise ConfigError(
            f"{where} got dims={dims!r}.",
            where=f"{where}, argument `dims`",
            accepts="1 (series), 2 (images) or 3 (volumes)",
            mend="count the dimensions after batch and channels",
        )
    return dims


def per_axis(value: int | Sequence[int], axes: int, *, key: str, where: str, least: int = 1) -> tuple[int, ...]:
    """One number per axis.

    Raises:
        ConfigError: Another count of numbers, or one below `least`.
    """
    found = (value,) * axes if isinstance(value, int) else tuple(value)
    if len(found) != axes or min(found, default=least) < least:
        raise ConfigError(
            f"{where} got {key}={value!r}.",
            where=f"{where}, key `{key}`",
            accepts=f"a whole number >= {least}, or {axes} of them",
            mend="give one number for all axes" if len(found) != axes else f"numbers from {least}",
        )
    return found


def _groups(in_channels: int, out_channels: int, *, groups: int, depthwise: bool, where: str) -> int:
    if depthwise and groups not in (1, in_channels):
        raise ConfigError(
            f"{where} got depthwise=True and groups={groups} with {in_channels} input channels.",
            where=f"{where}, key `groups`",
            accepts="one of the two: depthwise means as many groups as input channels",
            mend="leave groups out",
        )
    groups = in_channels if depthwise else groups
    if in_channels % groups or out_channels % groups:
        raise ConfigError(
            f"{where} cannot divide {in_channels} input and {out_channels} output channels into {groups} groups.",
            where=f"{where}, key `{'depthwise' if depthwise else 'groups'}`",
            accepts="a number of groups that divides both",
            mend=f"out_channels={-(-out_channels // groups) * groups} has that many"
            if in_channels % groups == 0
            else "groups=1",
        )
    return groups
