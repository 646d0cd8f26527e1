"""What a step of augmentation is: its options, how many draws it needs, and what it does to images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from lamina.core.config import Config, Field
from lamina.data.augment.maps import Fill, Map

__all__ = ["AugmentationStep", "FillConfig", "GeometricStep", "NoOptions", "PhotometricStep", "cut", "symmetric"]


class NoOptions(Config):
    """No options."""


class FillConfig(Config):
    """What all steps share that move pixels in from outside."""

    fill: Fill = Field(
        "edge", description="What comes in from outside: the edge's pixels, the image mirrored, or zero."
    )


class AugmentationStep(ABC):
    """One random change. Registered as kind `augmentation`; built from the fields of its Config.

    Attributes:
        Config: Its options.
        num_draws: Uniform draws that it needs per image.
    """

    Config: ClassVar[type[Config]]
    num_draws: int

    def __init__(self, **fields: Any) -> None:
        self.config: Any = self.Config(**fields)


class GeometricStep(AugmentationStep):
    """A step that moves pixels.

    Attributes:
        exact: Every pixel of the new image is one of the old or lies outside: nothing needs interpolating.
        shows_outside: Places outside the old image may come into view, so that `fill` matters.
    """

    exact: ClassVar[bool] = False
    shows_outside: ClassVar[bool] = True

    @abstractmethod
    def source(self, uniform: Tensor, *, height: int, width: int) -> Map:
        """Where the new image's pixels come from.

        Args:
            uniform: Float (B, num_draws) in [0, 1).
        """


class PhotometricStep(AugmentationStep):
    """A step that changes values.

    Attributes:
        needs_colour: It means nothing to images that have not three channels.
        needs_range: It means nothing to pixels whose largest value is unknown.
    """

    needs_colour: ClassVar[bool] = False
    needs_range: ClassVar[bool] = False

    @abstractmethod
    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """The changed images, float (B, C, H, W).

        Args:
            uniform: Float (B, num_draws) in [0, 1).
            keys: int32 (B,), one per image, for steps that draw for every pixel.
            maximum: Largest value of a pixel; None where the range is unknown, then nothing is cut off.
        """


def symmetric(uniform: Tensor, most: float) -> Tensor:
    """Draws from [0, 1) stretched to [-most, most)."""
    return (uniform * 2 - 1) * most


def cut(images: Tensor, maximum: float | None) -> Tensor:
    """Images within the range of their pixels."""
    return images if maximum is None else images.clamp(0.0, maximum)
