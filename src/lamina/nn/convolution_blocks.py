"""Blocks of convolution, norm, activation, pooling and dropout over one, two or three positional dimensions.

What `models/cnn1d.py` and `models/cnn3d.py` are made of. Sizes come from `lamina.nn.windows`.

Source: LeCun et al. (1989), doi:10.1162/neco.1989.1.4.541; batch norm: Ioffe, Szegedy (2015), arXiv:1502.03167.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.registry import lookup
from lamina.nn.activations import create_activation
from lamina.nn.convolution import create_convolution
from lamina.nn.dropout import Dropout
from lamina.nn.norms import create_norm
from lamina.nn.pooling import create_pooling
from lamina.nn.windows import size_after

__all__ = ["ConvolutionStack", "DenseLayerConfig", "PositionBlockConfig"]

Sizes = int | tuple[int, ...]
ConfigType = TypeVar("ConfigType", bound=Config)

_AXES: Final = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_MEND: Final = "give larger inputs, fewer blocks, padding: same, or a pool_size of 1 along that axis"
_WINDOWS: Final = {"conv": "convolution", "pool": "pooling"}


class PositionBlockConfig(Config):
    """One block: convolution, norm, activation, pooling, dropout. Sizes are one number for all axes, or one for each."""

    channels: int = Field(32, description="Channels that the convolution makes.", ge=1)
    kernel_size: Sizes = Field(3, description="Size of the kernel.")
    stride: Sizes = Field(1, description="Step of the kernel.")
    padding: Sizes | Literal["same", "valid"] = Field(
        "same", description="Zeros on either side; same: as many outputs as inputs (over the stride)."
    )
    dilation: Sizes = Field(1, description="Distance between the elements of the kernel.")
    groups: int = Field(1, description="Parts into which the channels are divided; each sees its own.", ge=1)
    norm: str = Field("batch-norm", description="Name of the norm layer, or none.")
    activation: str = Field("relu", description="Name of the activation.")
    pool: Literal["max", "average", "none"] = Field("max", description="How neighbours are joined.")
    pool_size: Sizes = Field(2, description="Size and step of the pooling; what does not fill a window is dropped.")
    dropout: float = Field(0.0, description="Probability of dropping a value in training.", ge=0, lt=1)


class DenseLayerConfig(Config):
    """One dense layer after the blocks."""

    size: int = Field(128, description="Units.", ge=1)
    activation: str = Field("relu", description="Name of the activation.")
    dropout: float = Field(0.0, description="Probability of dropping a unit in training.", ge=0, lt=1)


class ConvolutionStack(nn.Module):
    """Blocks, the positions joined, dense layers: everything before a head.

    Args:
        in_channels: Channels of the input.
        size: Size of each positional axis of the input; one for series, two for images, three for volumes.
        blocks: PositionBlockConfigs, or mappings with their fields.
        join: `average` over all positions, or `flatten` them: then where something is matters to the head.
        dense: DenseLayerConfigs, or mappings with their fields.
        where: The model, for messages.
        argument: What the model calls `size`.

    Attributes:
        width: Features that come out.
        stages: Names of the modules that hold weights, in their order.

    Raises:
        ShapeError: The input is too small; says where it vanishes and which size is enough.
        ConfigError: A size is not one number or one for each axis, or groups do not divide the channels.

    Shapes: (B, in_channels, *size) -> (B, width).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        size: tuple[int, ...],
        blocks: Sequence[PositionBlockConfig | Mapping[str, Any]],
        join: Literal["average", "flatten"],
        dense: Sequence[DenseLayerConfig | Mapping[str, Any]],
        where: str,
        argument: str,
    ) -> None:
        super().__init__()
        dims = len(size)
        stated = [_as_config(PositionBlockConfig, given, f"blocks.{place}") for place, given in enumerate(blocks)]
        channels = in_channels
        windows: list[tuple[str, nn.Module]] = []
        for number, block in enumerate(stated, start=1):
            layers = _block(block, channels, dims)
            self.add_module(f"block{number}", layers)
            windows += [
                (f"the {what} of block {number}", layers.get_submodule(name))
                for name, what in _WINDOWS.items()
                if name in layers._modules
            ]
            channels = block.channels
        left = size_after(windows, size, model=where, axes=_AXES[dims], argument=argument, mend=_MEND)
        if join == "average":
            self.add_module("average", create_pooling("adaptive-average-pool", dims=dims, output_size=1))
            left = (1,) * dims
        self.add_module("flatten", nn.Flatten())
        width = channels
        for n in left:
            width *= n
        for number, layer in enumerate(dense, start=1):
            given = _as_config(DenseLayerConfig, layer, f"dense.{number - 1}")
            self.add_module(f"dense{number}", _dense(given, width))
            width = given.size
        self.width = width
        self.stages = tuple(name for name, module in self.named_children() if any(True for _ in module.parameters()))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_channels, *size) -> (B, width)."""
        x = inputs
        for module in self.children():
            x = module(x)
        return x


def _as_config(cls: type[ConfigType], given: ConfigType | Mapping[str, Any], where: str) -> ConfigType:
    return cls.from_values(given, where=where) if isinstance(given, Mapping) else given


def _block(block: PositionBlockConfig, in_channels: int, dims: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = create_convolution(
        in_channels,
        block.channels,
        dims=dims,
        kernel_size=block.kernel_size,
        stride=block.stride,
        padding=block.padding,
        dilation=block.dilation,
        groups=block.groups,
        bias=block.norm != "batch-norm",  # which takes any constant away again
    )
    if block.norm != "none":
        layers["norm"] = create_norm(block.norm, block.channels, dims=dims)
    layers["activation"] = _activation(block.activation)
    if block.pool != "none":
        layers["pool"] = create_pooling(f"{block.pool}-pool", dims=dims, kernel_size=block.pool_size)
    if block.dropout > 0:
        layers["dropout"] = Dropout(block.dropout)
    return nn.Sequential(layers)


def _dense(layer: DenseLayerConfig, width: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["linear"] = nn.Linear(width, layer.size)
    layers["activation"] = _activation(layer.activation)
    if layer.dropout > 0:
        layers["dropout"] = Dropout(layer.dropout)
    return nn.Sequential(layers)


def _activation(name: str) -> nn.Module:
    """An activation that overwrites its input where it can; nothing before it reads its own output again."""
    config = lookup("activation", name, where="name of an activation").config
    if config is not None and "inplace" in config.model_fields:
        return create_activation(name, inplace=True)
    return create_activation(name)
