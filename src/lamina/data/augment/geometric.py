"""Geometric steps: rotations, zooms, shifts, shears and flips (affine), perspective and elastic distortion.

Angles are degrees, counter-clockwise; shifts and zooms are shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.augment.maps import Affine, Displacement, Projective
from lamina.data.augment.step import FillConfig, GeometricStep, symmetric

__all__ = ["Elastic", "FlipHorizontal", "FlipStep", "FlipVertical", "Perspective", "Rotate", "Shear", "Shift", "Zoom"]


class RotateConfig(FillConfig):
    """Options of `rotate`."""

    degrees: float = Field(10.0, description="Largest angle to either side.", ge=0, le=180)


@register("augmentation", "rotate", config=RotateConfig, example="augment=[{name: rotate, degrees: 10}]")
class Rotate(GeometricStep):
    """Rotate about the centre by up to so many degrees to either side."""

    Config = RotateConfig
    num_draws = 1

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A rotation by a uniform angle."""
        angle = symmetric(uniform[:, 0], math.radians(self.config.degrees))
        cos, sin = _few_by_few(torch.cos, angle), _few_by_few(torch.sin, angle)
        return Affine(xx=cos, xy=-sin, yx=sin, yy=cos)


def _few_by_few(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """An elementwise function, 64 values at a time on a CPU.

    From about a hundred on, torch's vector mathematics hands even so few to other threads and waits for them: nothing on
    a quiet machine, tens of milliseconds on a busy one.
    """
    if values.device.type != "cpu" or len(values) <= 64:
        return function(values)
    return torch.cat([function(part) for part in values.split(64)])


class ZoomConfig(FillConfig):
    """Options of `zoom`."""

    fraction: float = Field(0.1, description="Largest share by which an image grows or shrinks.", ge=0, lt=1)
    per_axis: bool = Field(
        True, description="Draw for height and width apart (as Keras's ImageDataGenerator does), not together."
    )


@register("augmentation", "zoom", config=ZoomConfig, example="augment=[{name: zoom, fraction: 0.1}]")
class Zoom(GeometricStep):
    """Zoom in or out by up to a share."""

    Config = ZoomConfig
    num_draws = 2

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A scaling by 1 plus or minus a uniform share."""
        scale = 1 + symmetric(uniform, self.config.fraction)
        return Affine(xx=scale[:, 0], yy=scale[:, 1 if self.config.per_axis else 0])


class ShiftConfig(FillConfig):
    """Options of `shift`."""

    fraction: float = Field(
        0.1, description="Largest share of width and height by which an image is moved.", ge=0, le=1
    )
    axis: Literal["both", "horizontal", "vertical"] = Field("both", description="In which directions it is moved.")


@register("augmentation", "shift", config=ShiftConfig, example="augment=[{name: shift, fraction: 0.1}]")
class Shift(GeometricStep):
    """Shift sideways and up or down by up to a share of the size."""

    Config = ShiftConfig
    num_draws = 2

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A translation, uniform in both directions."""
        share, axis = symmetric(uniform, self.config.fraction), self.config.axis
        return Affine(
            x0=0.0 if axis == "vertical" else share[:, 0] * width,
            y0=0.0 if axis == "horizontal" else share[:, 1] * height,
        )


class ShearConfig(FillConfig):
    """Options of `shear`."""

    degrees: float = Field(10.0, description="Largest angle by which lines lean to either side.", ge=0, lt=90)
    axis: Literal["horizontal", "vertical"] = Field(
        "horizontal", description="Along which axis pixels move: horizontal makes upright lines lean."
    )


@register("augmentation", "shear", config=ShearConfig, example="augment=[{name: shear, degrees: 10}]")
class Shear(GeometricStep):
    """Shear sideways, so that upright lines lean by up to so many degrees."""

    Config = ShearConfig
    num_draws = 1

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A shear by a uniform angle."""
        lean = symmetric(uniform[:, 0], math.radians(self.config.degrees)).tan()
        return Affine(xy=lean) if self.config.axis == "horizontal" else Affine(yx=lean)


class FlipConfig(Config):
    """Options of `flip_horizontal` and `flip_vertical`."""

    prob: float = Field(0.5, description="Probability that an image is flipped.", ge=0, le=1)


class FlipStep(GeometricStep):
    """A mirror image; exact when no other step needs interpolation."""

    Config = FlipConfig
    num_draws = 1
    exact = True
    shows_outside = False
    axis: int

    def chosen(self, uniform: Tensor) -> Tensor:
        """Which images are flipped, bool (B,)."""
        flipped: Tensor = uniform[:, 0] < self.config.prob
        return flipped

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A sign for one axis."""
        sign = 1.0 - 2.0 * self.chosen(uniform).to(uniform.dtype)
        return Affine(xx=sign) if self.axis == -1 else Affine(yy=sign)


@register("augmentation", "flip_horizontal", config=FlipConfig, example="augment=[{name: flip_horizontal}]")
class FlipHorizontal(FlipStep):
    """Mirror left and right with a probability. `lamina inspect RECIPE augment` says whether the classes survive it."""

    axis = -1


@register("augmentation", "flip_vertical", config=FlipConfig, example="augment=[{name: flip_vertical}]")
class FlipVertical(FlipStep):
    """Mirror top and bottom with a probability. `lamina inspect RECIPE augment` says whether the classes survive it."""

    axis = -2


class PerspectiveConfig(FillConfig):
    """Options of `perspective`."""

    distortion: float = Field(
        0.2, description="Largest share of half the width and height by which a corner is moved.", ge=0, le=0.9
    )


@register(
    "augmentation",
    "perspective",
    config=PerspectiveConfig,
    source="Heckbert (1989), Fundamentals of Texture Mapping and Image Warping, section 2.2.3: the square mapped to a quadrilateral",
    example="augment=[{name: perspective, distortion: 0.2}]",
)
class Perspective(GeometricStep):
    """See the image from aside: each corner is moved by up to a share, straight lines stay straight."""

    Config = PerspectiveConfig
    num_draws = 8

    def source(self, uniform: Tensor, *, height: int, width: int) -> Projective:
        """The corners of the new image come from four places around the corners of the old one."""
        share = symmetric(uniform, self.config.distortion)
        # Corners in the order (-1, -1), (1, -1), (1, 1), (-1, 1), in units of half the size.
        x = [sign + share[:, 2 * corner] for corner, sign in enumerate((-1.0, 1.0, 1.0, -1.0))]
        y = [sign + share[:, 2 * corner + 1] for corner, sign in enumerate((-1.0, -1.0, 1.0, 1.0))]
        over_x, over_y = x[0] - x[1] + x[2] - x[3], y[0] - y[1] + y[2] - y[3]
        x1, x2, y1, y2 = x[1] - x[2], x[3] - x[2], y[1] - y[2], y[3] - y[2]
        below = x1 * y2 - x2 * y1
        g, h = (over_x * y2 - x2 * over_y) / below, (x1 * over_y - over_x * y1) / below
        # The unit square (u, v) to the corners: (a u + b v + c) / (g u + h v + 1), and likewise for y.
        a, b, c = x[1] - x[0] + g * x[1], x[3] - x[0] + h * x[3], x[0]
        d, e, f = y[1] - y[0] + g * y[1], y[3] - y[0] + h * y[3], y[0]
        # From pixels about the centre: u = x / width + 1/2, v = y / height + 1/2; back: half the size.
        one = 1 + (g + h) / 2
        across, down = width / 2, height / 2
        entries = (
            a * (across / width), b * (across / height), (c + (a + b) / 2) * across,
            d * (down / width), e * (down / height), (f + (d + e) / 2) * down,
            g / width, h / height,
        )  # fmt: skip
        return Projective([entry / one for entry in entries])


class ElasticConfig(FillConfig):
    """Options of `elastic`."""

    amount: float = Field(
        0.04, description="Largest displacement of a control point as a share of width and height.", ge=0, le=0.5
    )
    points: int = Field(5, description="Control points along each side; more make finer wrinkles.", ge=2, le=16)


@register(
    "augmentation",
    "elastic",
    config=ElasticConfig,
    source="Simard, Steinkraus, Platt (2003), doi:10.1109/ICDAR.2003.1227801; displacements on a coarse grid with bicubic "
    "interpolation: Ronneberger, Fischer, Brox (2015), arXiv:1505.04597, section 3.1",
    example="augment=[{name: elastic, amount: 0.04}]",
)
class Elastic(GeometricStep):
    """Pull the image about as if it were rubber: smooth displacements between randomly moved control points."""

    Config = ElasticConfig

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.num_draws = 2 * self.config.points**2

    def source(self, uniform: Tensor, *, height: int, width: int) -> Displacement:
        """Uniform displacements of the control points."""
        points = self.config.points
        share = symmetric(uniform, self.config.amount).reshape(-1, 2, points, points)
        size = torch.tensor([width, height], dtype=share.dtype, device=share.device).view(1, 2, 1, 1)
        return Displacement(share * size, height=height, width=width)
