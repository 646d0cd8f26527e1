"""Normalisation layers, under one set of names.

What is averaged: batch norm over the batch (and positions), per channel; layer norm over the features of one sample;
instance norm over the positions of one sample, per channel; group norm over groups of channels of one sample.
`create_norm` gives torch's own modules for inputs with any number of positional dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import lookup, register

__all__ = ["ChannelNorm", "create_norm"]


class BatchNormConfig(Config):
    """Options of batch normalisation."""

    eps: float = Field(1e-5, description="Added to the variance.", gt=0)
    momentum: float = Field(
        0.1,
        description="Share of the newest batch in the running statistics (Keras counts the other share).",
        gt=0,
        le=1,
    )
    affine: bool = Field(True, description="Learn a scale and a shift per channel.")


class LayerNormConfig(Config):
    """Options of layer normalisation."""

    eps: float = Field(1e-5, description="Added to the variance.", gt=0)
    affine: bool = Field(True, description="Learn a scale and a shift per channel.")


class GroupNormConfig(LayerNormConfig):
    """Options of group normalisation."""

    num_groups: int | None = Field(
        None, description="Groups of channels; by default the largest number up to 32 that divides them.", ge=1
    )


class InstanceNormConfig(Config):
    """Options of instance normalisation."""

    eps: float = Field(1e-5, description="Added to the variance.", gt=0)
    affine: bool = Field(False, description="Learn a scale and a shift per channel.")


class LocalResponseNormConfig(Config):
    """Options of local response normalisation; the defaults are AlexNet's."""

    size: int = Field(5, description="Neighbouring channels summed over, n in the paper.", ge=1)
    alpha: float = Field(1e-4, description="Weight of the sum of squares, as in the paper (not divided by size).", gt=0)
    beta: float = Field(0.75, description="Exponent.", gt=0)
    k: float = Field(2.0, description="Constant in the denominator.", gt=0)


def create_norm(name: str, num_channels: int, *, dims: int = 2, **options: Any) -> nn.Module:
    """The normalisation called `name` for inputs (B, num_channels, …).

    Args:
        name: `batch-norm`, `layer-norm`, `group-norm`, `instance-norm`, `channel-norm`, `local-response-norm`.
        num_channels: Size of dimension 1 of the input.
        dims: Dimensions after the channels: 0 for vectors, 1 for series, 2 for images, 3 for volumes.

    Example:
        >>> create_norm("batch-norm", 64)
        BatchNorm2d(64, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)

    Raises:
        UnknownNameError: No layer has this name.
        ConfigError: Not a norm, no such option, or it cannot work with these dimensions.
    """
    entry = lookup("layer", name, where="name of a norm")
    if not entry.capabilities.get("is_norm") or entry.config is None:
        raise ConfigError(
            f"{name!r} is a layer, but no normalisation.",
            where="name of a norm",
            accepts="batch-norm, layer-norm, group-norm, instance-norm, channel-norm, local-response-norm",
            mend="choose one of them",
        )
    if dims not in (0, 1, 2, 3):
        raise ConfigError(
            f"{name} got dims={dims!r}.",
            where="create_norm, argument `dims`",
            accepts="0 (vectors), 1 (series), 2 (images) or 3 (volumes)",
            mend="count the dimensions after batch and channels",
        )
    config = entry.config.from_values(options, where=name)
    module: nn.Module = entry.target(num_channels, dims=dims, **dict(config))
    return module


@register(
    "layer",
    "batch-norm",
    config=BatchNormConfig,
    source="Ioffe, Szegedy (2015), arXiv:1502.03167",
    example="create_norm('batch-norm', 64, dims=2)",
    is_norm=True,
    mixes_rows=True,
)
def batch_norm(
    num_channels: int, *, dims: int = 2, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
) -> nn.Module:
    """Each channel less its mean over the batch, divided by its standard deviation; running statistics in evaluation.

    In training a row's output depends on the other rows of its batch; in evaluation it does not.
    """
    cls = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims]
    return cls(num_channels, eps=eps, momentum=momentum, affine=affine)


@register(
    "layer",
    "layer-norm",
    config=LayerNormConfig,
    source="Ba, Kiros, Hinton (2016), arXiv:1607.06450",
    example="create_norm('layer-norm', 512, dims=0)",
    is_norm=True,
)
def layer_norm(num_channels: int, *, dims: int = 2, eps: float = 1e-5, affine: bool = True) -> nn.Module:
    """All features of a sample less their mean, divided by their standard deviation.

    With positions (dims > 0) it averages over channels and positions together, with a scale and shift per channel.
    """
    if dims == 0:
        return nn.LayerNorm(num_channels, eps=eps, elementwise_affine=affine)
    return nn.GroupNorm(1, num_channels, eps=eps, affine=affine)


@register(
    "layer",
    "group-norm",
    config=GroupNormConfig,
    source="Wu, He (2018), arXiv:1803.08494",
    example="create_norm('group-norm', 64, num_groups=8)",
    is_norm=True,
)
def group_norm(
    num_channels: int, *, dims: int = 2, num_groups: int | None = None, eps: float = 1e-5, affine: bool = True
) -> nn.Module:
    """Each group of channels of a sample less its mean, divided by its standard deviation."""
    del dims
    divisors = [number for number in range(1, num_channels + 1) if num_channels % number == 0]
    groups = num_groups if num_groups is not None else max(number for number in divisors if number <= 32)
    if groups not in divisors:
        near = min(divisors, key=lambda number: abs(number - groups))
        raise ConfigError(
            f"{num_channels} channels cannot be divided into {groups} groups.",
            where="group-norm, key `num_groups`",
            accepts=", ".join(map(str, divisors)),
            mend=f"num_groups={near} is the nearest that divides them",
        )
    return nn.GroupNorm(groups, num_channels, eps=eps, affine=affine)


@register(
    "layer",
    "instance-norm",
    config=InstanceNormConfig,
    source="Ulyanov, Vedaldi, Lempitsky (2016), arXiv:1607.08022",
    example="create_norm('instance-norm', 64, affine=True)",
    is_norm=True,
)
def instance_norm(num_channels: int, *, dims: int = 2, eps: float = 1e-5, affine: bool = False) -> nn.Module:
    """Each channel of a sample less its mean over the positions, divided by its standard deviation."""
    if dims == 0:
        raise ConfigError(
            "instance-norm has no positions to average over in vectors.",
            where="create_norm, argument `dims`",
            accepts="1 (series), 2 (images) or 3 (volumes)",
            mend="use layer-norm or batch-norm for vectors",
        )
    cls = (nn.InstanceNorm1d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)[dims]
    return cls(num_channels, eps=eps, affine=affine)


@register(
    "layer",
    "local-response-norm",
    config=LocalResponseNormConfig,
    source="Krizhevsky, Sutskever, Hinton (2012), ImageNet Classification, section 3.3",
    example="create_norm('local-response-norm', 96)",
    is_norm=True,
)
def local_response_norm(
    num_channels: int, *, dims: int = 2, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> nn.Module:
    """Each value divided by (k + alpha * sum of squares over `size` neighbouring channels) ** beta, with AlexNet's constants.

    torch divides alpha by `size`, as did the authors' own program; the paper's formula does not. Here alpha is the
    paper's, so torch's module gets `size` times as much. Nothing is learned, and no channel count is needed.
    """
    del num_channels, dims
    return nn.LocalResponseNorm(size, alpha=alpha * size, beta=beta, k=k)


@register(
    "layer",
    "channel-norm",
    config=LayerNormConfig,
    source="Liu, Mao, Wu, Feichtenhofer, Darrell, Xie (2022), arXiv:2201.03545",
    example="create_norm('channel-norm', 96)",
    is_norm=True,
)
class ChannelNorm(nn.Module):
    """The channels at each position less their mean, divided by their standard deviation: layer norm over dimension 1.

    Args:
        num_channels: Size of dimension 1.
        dims: Dimensions after the channels; the layer works with any number of them.
        eps: Added to the variance.
        affine: Learn a scale and a shift per channel.

    Shapes: (B, C, …) -> the same. Fastest in channels-last memory, where the channels of a position lie together.

    Source: Liu, Mao, Wu, Feichtenhofer, Darrell, Xie (2022), arXiv:2201.03545.
    """

    def __init__(self, num_channels: int, *, dims: int = 2, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        del dims
        self.num_channels = num_channels
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_channels)) if affine else None

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"{self.num_channels}, eps={self.eps}, affine={self.weight is not None}"

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, …) -> the same shape."""
        last = inputs.movedim(1, -1)
        out = nn.functional.layer_norm(last, (self.num_channels,), self.weight, self.bias, self.eps)
        return out.movedim(-1, 1)
