"""Convolutional network for signals: series of equal length with one or several channels.

Paper: Waibel, Hanazawa, Hinton, Shikano, Lang (1989), "Phoneme Recognition Using Time-Delay Neural Networks", doi:10.1109/29.21701; Wang, Yan, Oates (2017), "Time Series Classification from Scratch with Deep Neural Networks", arXiv:1611.06455.
Reported: nothing that is measured here; the fully convolutional network of the second paper has 128, 256 and 128 channels and kernels of 8, 5 and 3.
Differs from the paper: fewer channels, odd kernels, and max pooling between the blocks; the average over time before the head is the second paper's.
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
    PositionBlockConfig(channels=16, kernel_size=7),
    PositionBlockConfig(channels=32, kernel_size=5),
    PositionBlockConfig(channels=64, kernel_size=3),
)


class CNN1dConfig(Config):
    """Blocks, dense layers, and what they are built for."""

    in_channels: int = Field(1, description="Channels of the signals: what is measured at each step.", ge=1)
    length: int = Field(128, description="Steps of each signal.", ge=1)
    num_classes: int = Field(10, description="Classes.", ge=1)
    blocks: tuple[PositionBlockConfig, ...] = Field(
        _BLOCKS, description="Convolutional blocks, from the signal on.", min_length=1
    )
    join: Literal["average", "flatten"] = Field(
        "average", description="average over time, so that it does not matter when something happens; flatten: it does."
    )
    dense: tuple[DenseLayerConfig, ...] = Field((), description="Dense layers between the blocks and the head.")
    initialiser: str = Field("kaiming-uniform", description="Name of the initialiser of the weights; biases are zero.")


@register(
    "model",
    "cnn1d",
    config=CNN1dConfig,
    source="Waibel et al. (1989), doi:10.1109/29.21701; Wang, Yan, Oates (2017), arXiv:1611.06455",
    example="lamina train signal-cnn1d 'model.blocks=[{channels: 8, kernel_size: 9}, {channels: 16}]'",
    input="signal",
)
class CNN1d(nn.Module):
    """Convolutions along time, the average over time, then the head.

    Source: Waibel et al. (1989), doi:10.1109/29.21701; Wang, Yan, Oates (2017), arXiv:1611.06455.

    Args:
        blocks: PositionBlockConfigs, or mappings with their fields.
        dense: DenseLayerConfigs, or mappings with their fields.

    Raises:
        ShapeError: The signal is too short for the blocks; says where it vanishes and which length is enough.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        length: int = 128,
        num_classes: int = 10,
        blocks: Sequence[PositionBlockConfig | Mapping[str, Any]] = _BLOCKS,
        join: Literal["average", "flatten"] = "average",
        dense: Sequence[DenseLayerConfig | Mapping[str, Any]] = (),
        initialiser: str = "kaiming-uniform",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.length = length
        self.body = ConvolutionStack(
            in_channels=in_channels,
            size=(length,),
            blocks=blocks,
            join=join,
            dense=dense,
            where="CNN1d",
            argument="length",
        )
        self.head = nn.Linear(self.body.width, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the signals to `head`; together they hold every parameter once."""
        return {**{name: (f"body.{name}.",) for name in self.body.stages}, "head": ("head.",)}

    def example_inputs(self) -> Tensor:
        """One signal without values (1, in_channels, length)."""
        return torch.empty(1, self.in_channels, self.length, device="meta")

    def forward(self, signals: Tensor) -> Tensor:
        """(B, in_channels, length) -> (B, num_classes), logits."""
        return self.head(self.features(signals))  # type: ignore[no-any-return]

    def features(self, signals: Tensor) -> Tensor:
        """Activations before the head (B, channels of the last block, or width of the last dense layer)."""
        check_positions(self, signals, argument="signals", in_channels=self.in_channels, size=(self.length,))
        return self.body(signals)  # type: ignore[no-any-return]
