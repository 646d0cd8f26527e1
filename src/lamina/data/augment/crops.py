"""Random crops: a window of the padded image, or of any size blown up. Images keep their size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.augment.maps import Affine, Fill
from lamina.data.augment.step import GeometricStep, symmetric

__all__ = ["Crop", "RandomResizedCrop"]


class CropConfig(Config):
    """Options of `crop`."""

    padding: int = Field(4, description="Pixels put around the image before a window of its size is cut out.", ge=1)
    fill: Fill = Field(
        "zero", description="What the padding is: the edge's pixels, the image mirrored, or zero (black)."
    )


@register(
    "augmentation",
    "crop",
    config=CropConfig,
    source="He, Zhang, Ren, Sun (2016), arXiv:1512.03385, section 4.2, after Lee et al. (2015), arXiv:1409.5185: 4 pixels for CIFAR",
    example="augment=[{name: crop, padding: 4}, {name: flip_horizontal}]",
)
class Crop(GeometricStep):
    """Pad the image and cut a window of its size at a random place: a shift by whole pixels."""

    Config = CropConfig
    num_draws = 2
    exact = True

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A translation by whole pixels, all equally likely."""
        padding = self.config.padding
        # A draw of exactly 1 never comes, but signs-only draws of policies have it.
        offset = torch.floor(uniform * (2 * padding + 1)).clamp(max=2 * padding) - padding
        return Affine(x0=offset[:, 0], y0=offset[:, 1])


class RandomResizedCropConfig(Config):
    """Options of `random_resized_crop`."""

    smallest: float = Field(0.08, description="Smallest share of the image's area.", gt=0, le=1)
    largest: float = Field(1.0, description="Largest share of the image's area.", gt=0, le=1)
    ratio: float = Field(4 / 3, description="Most elongated window, long side by short side.", ge=1)


@register(
    "augmentation",
    "random_resized_crop",
    config=RandomResizedCropConfig,
    source="Szegedy et al. (2015), Going Deeper with Convolutions, arXiv:1409.4842, section 6; windows that do not fit are cut, not drawn again",
    example="augment=[{name: random_resized_crop, smallest: 0.25}]",
)
class RandomResizedCrop(GeometricStep):
    """Cut out a window of random area, proportions and place, and blow it up to the image's size."""

    Config = RandomResizedCropConfig
    num_draws = 4
    shows_outside = False

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A scaling and a translation that stay inside the image."""
        config = self.config
        area = (config.smallest + uniform[:, 0] * (config.largest - config.smallest)) * (height * width)
        ratio = torch.exp(symmetric(uniform[:, 1], math.log(config.ratio)))
        wide = torch.sqrt(area * ratio).clamp(max=float(width))
        tall = torch.sqrt(area / ratio).clamp(max=float(height))
        return Affine(
            xx=wide / width,
            yy=tall / height,
            x0=(uniform[:, 2] - 0.5) * (width - wide),
            y0=(uniform[:, 3] - 0.5) * (height - tall),
        )
