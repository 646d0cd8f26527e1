"""Convolutional network for volumes and clips: three positional dimensions, depth (or time), height and width.

Paper: Ji, Xu, Yang, Yu (2013), "3D Convolutional Neural Networks for Human Action Recognition", doi:10.1109/TPAMI.2012.59; Tran, Bourdev, Fergus, Torresani, Paluri (2015), "Learning Spatiotemporal Features with 3D Convolutional Networks", arXiv:1412.0767.
Reported: nothing that is measured here; the second paper found kernels of 3x3x3 in all layers best.
Differs from the paper: three blocks of few channels with batch norm and an average over all positions, instead of eight layers of up to 512 channels and two dense ones of 4,096.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.nn.convolution_blocks import ConvolutionStack, DenseLayerConfig, PositionBlockConfig
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_positions

_BLOCKS = (
    PositionBlockConfig(channels=8),
    PositionBlockConfig(channels=16),
    PositionBlockConfig(channels=32),
)


class CNN3dConfig(Config):
    """Blocks, dense layers, and what they are built for."""

    in_channels: int = Field(1, description="Channels of the volumes: 1 for a scan, 3 for a clip in colour.", ge=1)
    volume_size: tuple[int, int, int] = Field(
        (16, 16, 16), description="Depth, height and width; for clips frames, height and width."
    )
    num_classes: int = Field(10, description="Classes.", ge=1)
    blocks: tuple[PositionBlockConfig, ...] = Field(
        _BLOCKS,
        description="Convolutional blocks, from the volume on; pool_size: [1, 2, 2] keeps every frame of a short clip.",
        min_length=1,
    )
    join: Literal["average", "flatten"] = Field(
        "average",
        description="average over all positions, so that it does not matter where something is; flatten: it does.",
    )
    dense: tuple[DenseLayerConfig, ...] = Field((), description="Dense layers between the blocks and the head.")
    initialiser: str = Field("kaiming-uniform", description="Name of the initialiser of the weights; biases are zero.")


@register(
    "model",
    "cnn3d",
    config=CNN3dConfig,
    source="Ji, Xu, Yang, Yu (2013), doi:10.1109/TPAMI.2012.59; Tran et al. (2015), arXiv:1412.0767",
    example="lamina train volume-cnn3d 'model.blocks=[{channels: 8, pool_size: [1, 2, 2]}, {channels: 16}]'",
    input="volume",
)
class CNN3d(nn.Module):
    """Convolutions over depth, height and width, the average over all positions, then the head.

    Source: Ji, Xu, Yang, Yu (2013), doi:10.1109/TPAMI.2012.59; Tran et al. (2015), arXiv:1412.0767.

    Args:
        blocks: PositionBlockConfigs, or mappings with their fields.
        dense: DenseLayerConfigs, or mappings with their fields.

    Raises:
        ShapeError: The volume is too small for the blocks; says where it vanishes and which size is enough.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        volume_size: tuple[int, int, int] = (16, 16, 16),
        num_classes: int = 10,
        blocks: Sequence[PositionBlockConfig | Mapping[str, Any]] = _BLOCKS,
        join: Literal["average", "flatten"] = "average",
        dense: Sequence[DenseLayerConfig | Mapping[str, Any]] = (),
        initialiser: str = "kaiming-uniform",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.volume_size = tuple(volume_size)
        self.body = ConvolutionStack(
            in_channels=in_channels,
            size=self.volume_size,
            blocks=blocks,
            join=join,
            dense=dense,
            where="CNN3d",
            argument="volume_size",
        )
        self.head = nn.Linear(self.body.width, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the volumes to `head`; together they hold every parameter once."""
        return {**{name: (f"body.{name}.",) for name in self.body.stages}, "head": ("head.",)}

    def example_inputs(self) -> Tensor:
        """One volume without values (1, in_channels, depth, height, width)."""
        return torch.empty(1, self.in_channels, *self.volume_size, device="meta")

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, in_channels, depth, height, width) -> (B, num_classes), logits."""
        return self.head(self.features(volumes))  # type: ignore[no-any-return]

    def features(self, volumes: Tensor) -> Tensor:
        """Activations before the head (B, channels of the last block, or width of the last dense layer)."""
        check_positions(self, volumes, argument="volumes", in_channels=self.in_channels, size=self.volume_size)
        return self.body(volumes)  # type: ignore[no-any-return]
