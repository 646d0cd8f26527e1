"""Photometric steps that change each value by itself: light, colour, tone curves."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.augment.step import NoOptions, PhotometricStep, cut, symmetric

__all__ = [
    "AutoContrast",
    "Brightness",
    "Contrast",
    "Equalize",
    "Gamma",
    "Hue",
    "Posterize",
    "Saturation",
    "Solarize",
]

_LUMA: Final = (0.299, 0.587, 0.114)
# Luma and two axes of colour (YIQ, the coefficients of Python's colorsys).
_TO_YIQ: Final = ((0.30, 0.59, 0.11), (0.5990, -0.2773, -0.3217), (0.2130, -0.5251, 0.3121))


class AmountConfig(Config):
    """Options of `brightness`, `contrast` and `saturation`."""

    amount: float = Field(0.2, description="Largest share by which it changes.", ge=0, le=1)


@register("augmentation", "brightness", config=AmountConfig, example="augment=[{name: brightness, amount: 0.2}]")
class Brightness(PhotometricStep):
    """Multiply all pixels of an image by 1 plus or minus up to an amount."""

    Config = AmountConfig
    num_draws = 1

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One factor per image, then cut to the range."""
        factor = 1 + symmetric(uniform[:, 0], self.config.amount)
        return cut(images * factor.view(-1, 1, 1, 1), maximum)


@register("augmentation", "contrast", config=AmountConfig, example="augment=[{name: contrast, amount: 0.2}]")
class Contrast(PhotometricStep):
    """Stretch or squeeze the distances from an image's mean by up to an amount."""

    Config = AmountConfig
    num_draws = 1

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One factor per image about its mean, then cut to the range."""
        factor = 1 + symmetric(uniform[:, 0], self.config.amount)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return cut(mean + (images - mean) * factor.view(-1, 1, 1, 1), maximum)


@register("augmentation", "saturation", config=AmountConfig, example="augment=[{name: saturation, amount: 0.3}]")
class Saturation(PhotometricStep):
    """Stretch or squeeze the distances of colours from their grey by up to an amount."""

    Config = AmountConfig
    num_draws = 1
    needs_colour = True

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One factor per image about each pixel's luma, then cut to the range."""
        factor = 1 + symmetric(uniform[:, 0], self.config.amount).view(-1, 1, 1, 1)
        grey = (images * images.new_tensor(_LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)
        return cut(grey + (images - grey) * factor, maximum)


class HueConfig(Config):
    """Options of `hue`."""

    degrees: float = Field(18.0, description="Largest turn of the colour circle to either side.", ge=0, le=180)


@register(
    "augmentation",
    "hue",
    config=HueConfig,
    source="a rotation in the YIQ plane of colours (NTSC, 1953), which keeps the luma; not the hue of HSV",
    example="augment=[{name: hue, degrees: 18}]",
)
class Hue(PhotometricStep):
    """Turn the colours about the grey axis by up to so many degrees."""

    Config = HueConfig
    num_draws = 1
    needs_colour = True

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One 3x3 matrix per image, then cut to the range."""
        angle = symmetric(uniform[:, 0], math.radians(self.config.degrees))
        forth = torch.tensor(_TO_YIQ, dtype=torch.float64)
        back = torch.linalg.inv(forth).to(device=images.device, dtype=images.dtype)
        forth = forth.to(device=images.device, dtype=images.dtype)
        cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
        turn = torch.stack([none + 1, none, none, none, cos, -sin, none, sin, cos], dim=1).reshape(-1, 3, 3)
        matrix = (back @ turn @ forth).to(images.dtype)  # (B, 3, 3)
        return cut(torch.bmm(matrix, images.flatten(2)).view(images.shape), maximum)


class GammaConfig(Config):
    """Options of `gamma`."""

    amount: float = Field(
        0.2, description="The exponent lies between 1 / (1 + amount) and 1 + amount, both ways alike.", ge=0, le=4
    )


@register("augmentation", "gamma", config=GammaConfig, example="augment=[{name: gamma, amount: 0.2}]")
class Gamma(PhotometricStep):
    """Lighten or darken the middle tones: values to a power, black and white staying where they are."""

    Config = GammaConfig
    num_draws = 1
    needs_range = True

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One exponent per image, log-uniform."""
        assert maximum is not None
        exponent = torch.exp(symmetric(uniform[:, 0], math.log1p(self.config.amount))).view(-1, 1, 1, 1)
        shares: Tensor = images.clamp(0, maximum) / maximum
        return shares.pow(exponent) * maximum


# --- the fixed ones, for policies: what varies is whether they are done -----------------------------------------------


class PosterizeConfig(Config):
    """Options of `posterize`."""

    bits: int = Field(4, description="Bits of 8 that are kept of each value.", ge=1, le=8)


@register(
    "augmentation",
    "posterize",
    config=PosterizeConfig,
    source="Cubuk et al. (2019), AutoAugment, arXiv:1805.09501, table 6",
    example="augment=[{name: sometimes, prob: 0.2, steps: [{name: posterize, bits: 4}]}]",
)
class Posterize(PhotometricStep):
    """Keep only the first few bits of each value."""

    Config = PosterizeConfig
    num_draws = 0
    needs_range = True

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """Rounded down to multiples of a step."""
        assert maximum is not None
        step = float(2 ** (8 - self.config.bits)) * (maximum / 255)
        return torch.floor(images / step + 1e-4) * step


class SolarizeConfig(Config):
    """Options of `solarize`."""

    threshold: float = Field(
        0.5, description="Share of the largest value from which on values are inverted.", ge=0, le=1
    )


@register(
    "augmentation",
    "solarize",
    config=SolarizeConfig,
    source="Cubuk et al. (2019), AutoAugment, arXiv:1805.09501, table 6",
    example="augment=[{name: sometimes, prob: 0.2, steps: [{name: solarize, threshold: 0.5}]}]",
)
class Solarize(PhotometricStep):
    """Invert all values from a threshold on."""

    Config = SolarizeConfig
    num_draws = 0
    needs_range = True

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """The threshold is the same for all images."""
        assert maximum is not None
        return torch.where(images >= self.config.threshold * maximum, maximum - images, images)


@register(
    "augmentation",
    "autocontrast",
    config=NoOptions,
    source="Cubuk et al. (2019), AutoAugment, arXiv:1805.09501, table 6",
    example="augment=[{name: sometimes, prob: 0.2, steps: [{name: autocontrast}]}]",
)
class AutoContrast(PhotometricStep):
    """Stretch each channel so that its darkest value becomes black and its brightest white."""

    Config = NoOptions
    num_draws = 0
    needs_range = True

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """Per image and channel; a channel of one value stays."""
        assert maximum is not None
        low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
        span = high - low
        flat = span <= 0
        return torch.where(flat, images, (images - low) * (maximum / torch.where(flat, 1.0, span)))


@register(
    "augmentation",
    "equalize",
    config=NoOptions,
    source="Cubuk et al. (2019), AutoAugment, arXiv:1805.09501, table 6; the arithmetic of Pillow's ImageOps.equalize",
    example="augment=[{name: sometimes, prob: 0.2, steps: [{name: equalize}]}]",
)
class Equalize(PhotometricStep):
    """Spread the values of each channel so that all 256 levels are about equally frequent."""

    Config = NoOptions
    num_draws = 0
    needs_range = True

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """Per image and channel, through a table made of the histogram."""
        assert maximum is not None
        levels = (images * (255 / maximum)).round().clamp(0, 255).to(torch.int64).flatten(2)  # (B, C, H * W)
        counts = torch.zeros(*levels.shape[:2], 256, dtype=torch.int64, device=images.device)
        counts = counts.scatter_add(2, levels, torch.ones_like(levels))
        brightest = levels.amax(dim=2, keepdim=True)
        step = torch.div(levels.shape[2] - counts.gather(2, brightest), 255, rounding_mode="floor")  # (B, C, 1)
        before = counts.cumsum(dim=2) - counts
        half = torch.div(step, 2, rounding_mode="floor")
        table = torch.div(before + half, step.clamp(min=1), rounding_mode="floor").clamp(max=255)
        spread = table.gather(2, levels).to(images.dtype).view(images.shape) * (maximum / 255)
        return torch.where(step.unsqueeze(3) > 0, spread, images)
