"""Resize: images of another size than the network reads, brought to it inside the pipeline, in training and prediction alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.preprocess.flow import Flow, Operation, Step, refuse


class ResizeConfig(Config):
    """The new size."""

    size: tuple[int, int] = Field(description="Height and width.", min_length=2, max_length=2)


class Interpolate(Operation):
    """(B, C, H, W) -> (B, C, height, width), bilinear; smaller images are smoothed first, so that no detail aliases."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """Values stay between the smallest and largest of their neighbours."""
        if tuple(values.shape[-2:]) == self.size:
            return values, categories
        plain = values if values.dtype == torch.float64 else values.to(torch.float32)
        return functional.interpolate(plain, self.size, mode="bilinear", antialias=True), categories


@register(
    "preprocessing",
    "resize",
    config=ResizeConfig,
    source="bilinear with a triangle filter as wide as the step, as Pillow's `BILINEAR`; torch.nn.functional.interpolate, antialias=True",
    example="lamina train digits model.kind=lenet5 'preprocess=[{name: scale}, {name: resize, size: [28, 28]}]'",
)
class Resize(Step):
    """Bring images to one height and width, without keeping proportions."""

    Config = ResizeConfig
    name = "resize"

    def check(self, flow: Flow) -> None:
        """Refuse rows of features and sizes below one pixel."""
        height, width = self.options().size
        if flow.kind != "image":
            raise refuse(
                self,
                "Rows of features have no size.",
                accepts="images",
                mend="put it before `flatten`, or leave it out",
            )
        if height < 1 or width < 1:
            raise refuse(
                self, f"Images cannot be {height}x{width}.", accepts="at least 1x1", mend="give size: [28, 28]"
            )

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """One interpolation."""
        return (Interpolate(tuple(self.options().size)),)

    def output(self, flow: Flow) -> Flow:
        """The new size; the range of values stays."""
        return replace(flow, shape=(flow.shape[0], *self.options().size))
