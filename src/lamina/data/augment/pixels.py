"""Photometric steps that look at places: noise, blur, sharpness, and holes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.augment.colour import AmountConfig
from lamina.data.augment.step import PhotometricStep, cut, symmetric

__all__ = ["Blur", "Cutout", "Erase", "Noise", "Sharpness"]


class NoiseConfig(Config):
    """Options of `noise`."""

    std: float = Field(0.05, description="Standard deviation as a share of the largest pixel value.", ge=0, le=1)


@register("augmentation", "noise", config=NoiseConfig, example="augment=[{name: noise, std: 0.05}]")
class Noise(PhotometricStep):
    """Add normal noise to every pixel."""

    Config = NoiseConfig
    num_draws = 0

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """A draw per pixel and channel, then cut to the range."""
        places = torch.arange(math.prod(images.shape[1:]), dtype=torch.int32, device=images.device)
        noise = draws.normal(keys.unsqueeze(1), places.unsqueeze(0)).reshape(images.shape)
        return cut(images + noise * (self.config.std * (1.0 if maximum is None else maximum)), maximum)


class BlurConfig(Config):
    """Options of `blur`."""

    sigma: float = Field(1.0, description="Largest standard deviation of the blur, in pixels.", gt=0, le=16)


@register("augmentation", "blur", config=BlurConfig, example="augment=[{name: blur, sigma: 1}]")
class Blur(PhotometricStep):
    """Blur with a Gaussian whose width is drawn between nothing and so many pixels."""

    Config = BlurConfig
    num_draws = 1

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """Along the rows, then along the columns; the edge's pixels are continued outside."""
        reach = math.ceil(3 * self.config.sigma)
        sigma = (uniform[:, :1] * self.config.sigma).clamp(min=0.05)  # (B, 1)
        offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=uniform.dtype)
        weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
        weights = weights / weights.sum(dim=1, keepdim=True)
        height, width = images.shape[-2:]
        wide = functional.pad(images, (reach, reach, 0, 0), mode="replicate")
        images = _summed([wide[..., k : k + width] for k in range(2 * reach + 1)], weights)
        tall = functional.pad(images, (0, 0, reach, reach), mode="replicate")
        return _summed([tall[..., k : k + height, :] for k in range(2 * reach + 1)], weights)


def _summed(parts: Sequence[Tensor], weights: Tensor) -> Tensor:
    """Sum of parts (B, C, H, W) by weights (B, number of parts)."""
    total = parts[0] * weights[:, 0].view(-1, 1, 1, 1)
    for number in range(1, len(parts)):
        total = torch.addcmul(total, parts[number], weights[:, number].view(-1, 1, 1, 1))
    return total


@register(
    "augmentation",
    "sharpness",
    config=AmountConfig,
    source="Pillow's ImageEnhance.Sharpness: away from, or towards, the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13",
    example="augment=[{name: sharpness, amount: 0.5}]",
)
class Sharpness(PhotometricStep):
    """Sharpen or soften by up to an amount."""

    Config = AmountConfig
    num_draws = 1

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One factor per image about its smoothed self; the outermost pixels stay."""
        height, width = images.shape[-2:]
        if height < 3 or width < 3:
            return images
        factor = 1 + symmetric(uniform[:, 0], self.config.amount).view(-1, 1, 1, 1)
        inner = images[..., 1:-1, 1:-1]
        around = [images[..., y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3)]
        smooth = (sum(around) + 4 * inner) / 13
        smooth = images.slice_scatter(images[..., 1:-1, :].slice_scatter(smooth, 3, 1, -1), 2, 1, -1)
        return cut(smooth + (images - smooth) * factor, maximum)


class EraseConfig(Config):
    """Options of `erase`."""

    prob: float = Field(0.5, description="Probability that an image loses a rectangle.", ge=0, le=1)
    smallest: float = Field(0.02, description="Smallest share of the area.", gt=0, le=1)
    largest: float = Field(0.2, description="Largest share of the area.", gt=0, le=1)
    ratio: float = Field(3.3, description="Most elongated rectangle, long side by short side.", ge=1)


@register(
    "augmentation",
    "erase",
    config=EraseConfig,
    source="Zhong, Zheng, Kang, Li, Yang (2020), Random Erasing Data Augmentation, arXiv:1708.04896; filled with the mean",
    example="augment=[{name: erase, largest: 0.2}]",
)
class Erase(PhotometricStep):
    """Replace a random rectangle by the image's mean colour."""

    Config = EraseConfig
    num_draws = 5

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """A rectangle of uniform area, log-uniform proportions and uniform place."""
        config, (height, width) = self.config, images.shape[-2:]
        area = (config.smallest + uniform[:, 1] * (config.largest - config.smallest)) * (height * width)
        ratio = torch.exp((uniform[:, 2] * 2 - 1) * math.log(config.ratio))
        tall = torch.sqrt(area * ratio).clamp(max=float(height))
        wide = torch.sqrt(area / ratio).clamp(max=float(width))
        top, left = uniform[:, 3] * (height - tall), uniform[:, 4] * (width - wide)
        hole = rectangle(images, top=top, left=left, bottom=top + tall, right=left + wide)
        hole = hole & (uniform[:, 0] < config.prob).view(-1, 1, 1, 1)
        return torch.where(hole, images.mean(dim=(2, 3), keepdim=True), images)


class CutoutConfig(Config):
    """Options of `cutout`."""

    size: float = Field(0.5, description="Side of the square as a share of the image's shorter side.", gt=0, le=1)
    value: Literal["mean", "zero"] = Field("mean", description="What fills it: the image's mean colour, or black.")


@register(
    "augmentation",
    "cutout",
    config=CutoutConfig,
    source="DeVries, Taylor (2017), Improved Regularization of Convolutional Neural Networks with Cutout, arXiv:1708.04552: 16 of 32 pixels for CIFAR-10",
    example="augment=[{name: cutout, size: 0.5}]",
)
class Cutout(PhotometricStep):
    """Cover a square whose centre lies anywhere in the image, so that it may hang over the edge."""

    Config = CutoutConfig
    num_draws = 2

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One square of fixed size per image, its centre uniform over the pixels."""
        height, width = images.shape[-2:]
        side = max(1, round(self.config.size * min(height, width)))
        top = torch.floor(uniform[:, 0] * height) - side // 2
        left = torch.floor(uniform[:, 1] * width) - side // 2
        hole = rectangle(images, top=top, left=left, bottom=top + side, right=left + side)
        mean: Any = images.mean(dim=(2, 3), keepdim=True) if self.config.value == "mean" else 0.0
        return torch.where(hole, mean, images)


def rectangle(images: Tensor, *, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """Which pixels' centres lie between borders (B,) in pixels from the top left corner; bool (B, 1, H, W)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) + 0.5
    columns = torch.arange(width, device=images.device) + 0.5
    in_rows = (rows >= top.unsqueeze(1)) & (rows < bottom.unsqueeze(1))  # (B, H)
    in_columns = (columns >= left.unsqueeze(1)) & (columns < right.unsqueeze(1))  # (B, W)
    return (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)
