"""Augmentation: images changed at random while training, each sample by draws of its own.

Geometric steps are composed, in their order, into one affine map per image and done by one bilinear warp; photometric
steps follow in their order. Every draw is keyed by (key, row of the split), so that a sample gets the same change
whatever batch it stands in. All is batched tensor code without branches on values, and can be traced.

Angles are degrees, counter-clockwise; shifts and zooms are shares. Coordinates are pixels from the image's centre, x to
the right and y downwards; a map takes a place in the new image to the place in the old one where its value comes from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core import draws, registry
from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.data.columns import DataSpec

Fill = Literal["edge", "reflect", "zero"]
_PADDING = {"edge": "border", "reflect": "reflection", "zero": "zeros"}


class Affine(NamedTuple):
    """The map (x, y) -> (xx * x + xy * y + x0, yx * x + yy * y + y0), one per image.

    Entries are tensors (B,), or plain numbers where all images share them; numbers 0 and 1 cost nothing when composed.
    """

    xx: Tensor | float = 1.0
    xy: Tensor | float = 0.0
    x0: Tensor | float = 0.0
    yx: Tensor | float = 0.0
    yy: Tensor | float = 1.0
    y0: Tensor | float = 0.0

    def of(self, inner: Affine) -> Affine:
        """The map that does `inner` first and this one then: the product of their 3x3 matrices."""
        return Affine(
            xx=_plus(_times(self.xx, inner.xx), _times(self.xy, inner.yx)),
            xy=_plus(_times(self.xx, inner.xy), _times(self.xy, inner.yy)),
            x0=_plus(_plus(_times(self.xx, inner.x0), _times(self.xy, inner.y0)), self.x0),
            yx=_plus(_times(self.yx, inner.xx), _times(self.yy, inner.yx)),
            yy=_plus(_times(self.yx, inner.xy), _times(self.yy, inner.yy)),
            y0=_plus(_plus(_times(self.yx, inner.x0), _times(self.yy, inner.y0)), self.y0),
        )

    def matrix(self, like: Tensor) -> Tensor:
        """Rows (xx, xy, x0), (yx, yy, y0) as (B, 2, 3), with B, dtype and device of `like` (B,)."""
        entries = [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for entry in self]
        return torch.stack(entries, dim=1).reshape(-1, 2, 3)


def _times(first: Tensor | float, second: Tensor | float) -> Tensor | float:
    for one, other in ((first, second), (second, first)):
        if isinstance(one, float) and one in (0.0, 1.0):
            return other if one == 1.0 else 0.0
    return first * second


def _plus(first: Tensor | float, second: Tensor | float) -> Tensor | float:
    for one, other in ((first, second), (second, first)):
        if isinstance(one, float) and one == 0.0:
            return other
    return first + second


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
    """A step that moves pixels."""

    @abstractmethod
    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """Where the new image's pixels come from.

        Args:
            uniform: Float (B, num_draws) in [0, 1).
        """


class PhotometricStep(AugmentationStep):
    """A step that changes values."""

    @abstractmethod
    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """The changed images, float (B, C, H, W).

        Args:
            uniform: Float (B, num_draws) in [0, 1).
            keys: int32 (B,), one per image, for steps that draw for every pixel.
            maximum: Largest value of a pixel; None where the range is unknown, then nothing is cut off.
        """


class _GeometricConfig(Config):
    fill: Fill = Field(
        "edge", description="What comes in from outside: the edge's pixels, the image mirrored, or zero."
    )


class RotateConfig(_GeometricConfig):
    """Options of `rotate`."""

    degrees: float = Field(10.0, description="Largest angle to either side.", ge=0, le=180)


@register("augmentation", "rotate", config=RotateConfig, example="augment=[{name: rotate, degrees: 10}]")
class Rotate(GeometricStep):
    """Rotate about the centre by up to so many degrees to either side."""

    Config = RotateConfig
    num_draws = 1

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A rotation by a uniform angle."""
        angle = (uniform[:, 0] * 2 - 1) * math.radians(self.config.degrees)
        cos, sin = angle.cos(), angle.sin()
        return Affine(xx=cos, xy=-sin, yx=sin, yy=cos)


class ZoomConfig(_GeometricConfig):
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
        scale = 1 + (uniform * 2 - 1) * self.config.fraction
        return Affine(xx=scale[:, 0], yy=scale[:, 1 if self.config.per_axis else 0])


class ShiftConfig(_GeometricConfig):
    """Options of `shift`."""

    fraction: float = Field(
        0.1, description="Largest share of width and height by which an image is moved.", ge=0, le=1
    )


@register("augmentation", "shift", config=ShiftConfig, example="augment=[{name: shift, fraction: 0.1}]")
class Shift(GeometricStep):
    """Shift sideways and up or down by up to a share of the size."""

    Config = ShiftConfig
    num_draws = 2

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A translation, uniform in both directions."""
        share = (uniform * 2 - 1) * self.config.fraction
        return Affine(x0=share[:, 0] * width, y0=share[:, 1] * height)


class ShearConfig(_GeometricConfig):
    """Options of `shear`."""

    degrees: float = Field(10.0, description="Largest angle by which upright lines lean to either side.", ge=0, lt=90)


@register("augmentation", "shear", config=ShearConfig, example="augment=[{name: shear, degrees: 10}]")
class Shear(GeometricStep):
    """Shear sideways, so that upright lines lean by up to so many degrees."""

    Config = ShearConfig
    num_draws = 1

    def source(self, uniform: Tensor, *, height: int, width: int) -> Affine:
        """A horizontal shear by a uniform angle."""
        angle = (uniform[:, 0] * 2 - 1) * math.radians(self.config.degrees)
        return Affine(xy=angle.tan())


class FlipConfig(_GeometricConfig):
    """Options of `flip_horizontal` and `flip_vertical`."""

    prob: float = Field(0.5, description="Probability that an image is flipped.", ge=0, le=1)


class FlipStep(GeometricStep):
    """A mirror image; exact when no other geometric step moves pixels."""

    Config = FlipConfig
    num_draws = 1
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
    """Mirror left and right with a probability."""

    axis = -1


@register("augmentation", "flip_vertical", config=FlipConfig, example="augment=[{name: flip_vertical}]")
class FlipVertical(FlipStep):
    """Mirror top and bottom with a probability."""

    axis = -2


class AmountConfig(Config):
    """Options of `brightness` and `contrast`."""

    amount: float = Field(0.2, description="Largest share by which it changes.", ge=0, le=1)


@register("augmentation", "brightness", config=AmountConfig, example="augment=[{name: brightness, amount: 0.2}]")
class Brightness(PhotometricStep):
    """Multiply all pixels of an image by 1 plus or minus up to an amount."""

    Config = AmountConfig
    num_draws = 1

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One factor per image, then cut to the range."""
        factor = 1 + (uniform[:, 0] * 2 - 1) * self.config.amount
        return _cut(images * factor.view(-1, 1, 1, 1), maximum)


@register("augmentation", "contrast", config=AmountConfig, example="augment=[{name: contrast, amount: 0.2}]")
class Contrast(PhotometricStep):
    """Stretch or squeeze the distances from an image's mean by up to an amount."""

    Config = AmountConfig
    num_draws = 1

    def apply(self, images: Tensor, uniform: Tensor, *, keys: Tensor, maximum: float | None) -> Tensor:
        """One factor per image about its mean, then cut to the range."""
        factor = 1 + (uniform[:, 0] * 2 - 1) * self.config.amount
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        return _cut(mean + (images - mean) * factor.view(-1, 1, 1, 1), maximum)


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
        places = torch.arange(images[0].numel(), dtype=torch.int32, device=images.device)
        noise = draws.normal(keys.unsqueeze(1), places.unsqueeze(0)).reshape(images.shape)
        return _cut(images + noise * (self.config.std * (1.0 if maximum is None else maximum)), maximum)


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
        rows = torch.arange(height, device=images.device) + 0.5
        columns = torch.arange(width, device=images.device) + 0.5
        in_rows = (rows >= top.unsqueeze(1)) & (rows < (top + tall).unsqueeze(1))  # (B, H)
        in_columns = (columns >= left.unsqueeze(1)) & (columns < (left + wide).unsqueeze(1))  # (B, W)
        hole = in_rows.unsqueeze(2) & in_columns.unsqueeze(1) & (uniform[:, 0] < config.prob).view(-1, 1, 1)
        return torch.where(hole.unsqueeze(1), images.mean(dim=(2, 3), keepdim=True), images)


def _cut(images: Tensor, maximum: float | None) -> Tensor:
    return images if maximum is None else images.clamp(0.0, maximum)


def warp(images: Tensor, source: Tensor, *, fill: Fill = "edge") -> Tensor:
    """Sample images bilinearly at the places that an affine map names.

    Args:
        images: Float (B, C, H, W).
        source: Float (B, 2, 3), as `Affine.matrix` gives it: pixels from the centre.
        fill: What lies outside.

    Returns:
        Float (B, C, H, W).
    """
    height, width = images.shape[-2:]
    across = torch.arange(width, device=images.device, dtype=images.dtype) - (width - 1) / 2
    down = torch.arange(height, device=images.device, dtype=images.dtype) - (height - 1) / 2
    # grid_sample counts from -1 to 1 over the outer edges of the border pixels.
    scaled = source * torch.tensor([2 / width, 2 / height], device=images.device, dtype=images.dtype).view(2, 1)
    along_row = scaled[:, :, 0, None] * across + scaled[:, :, 2, None]  # (B, 2, W)
    along_column = scaled[:, :, 1, None] * down  # (B, 2, H)
    # As two planes: one addition per plane, six times as fast as torch's affine_grid, and grid_sample reads it as well.
    places = along_row[:, :, None, :] + along_column[:, :, :, None]  # (B, 2, H, W)
    return functional.grid_sample(
        images, places.permute(0, 2, 3, 1), mode="bilinear", padding_mode=_PADDING[fill], align_corners=False
    )


class Augmentation:
    """The augmentation section of a recipe, ready to be applied to batches.

    Args:
        steps: Mappings with the `name` of a registered augmentation and its options.
        spec: Of the data; it must have an image column.

    Raises:
        ConfigError: An option is unknown or out of bounds, the data has no images, or geometric steps disagree on `fill`.
        UnknownNameError: No augmentation has that name.

    Example:
        >>> from lamina.data.loading import load_data
        >>> data = load_data("digits")
        >>> augment = Augmentation([{"name": "rotate", "degrees": 15}], data.spec)
        >>> key = draws.stream_key(0, "augment", 3)  # seed 0, epoch 3
        >>> augment(data.splits["all"].batch(torch.arange(4)), key)["image"].shape
        torch.Size([4, 1, 8, 8])
    """

    def __init__(self, steps: Sequence[Mapping[str, Any]], spec: DataSpec) -> None:
        self.geometric: list[GeometricStep] = []
        self.photometric: list[PhotometricStep] = []
        for number, values in enumerate(steps):
            step = _build(values, where=f"augment[{number}]")
            (self.geometric if isinstance(step, GeometricStep) else self.photometric).append(step)  # type: ignore[arg-type]
        image = spec.columns.get("image")
        if steps and image is None:
            raise ConfigError(
                f"The data has no images to augment, only {', '.join(spec.columns) or 'nothing'}.",
                where="augment",
                accepts="data with an image column",
                mend="leave `augment` out",
            )
        fills = {step.config.fill for step in self.geometric}
        if len(fills) > 1:
            raise ConfigError(
                f"The geometric steps are done in one warp but ask for different fills: {', '.join(sorted(fills))}.",
                where="augment, key `fill`",
                accepts="the same fill in all of rotate, zoom, shift, shear and the flips",
                mend=f"give all of them fill: {sorted(fills)[0]}",
            )
        self.fill: Fill = fills.pop() if fills else "edge"
        self.maximum = None if image is None else image.maximum or {"uint8": 255.0, "uint16": 65535.0}.get(image.dtype)

    def __len__(self) -> int:
        return len(self.geometric) + len(self.photometric)

    def __call__(self, batch: Mapping[str, Tensor], key: int | Tensor) -> dict[str, Tensor]:
        """The batch with changed images.

        Args:
            batch: `image` (B, C, H, W) uint8 or float, and `row` int64 (B,), by which the draws are keyed.
            key: `stream_key(seed, "augment", epoch)`, as an int or a 0-d int32 tensor.

        Returns:
            A new mapping; `image` is float32 in the range of the raw pixels (0 to 255 for bytes), all else as it was.
            Without steps the batch is given back unchanged, bytes as bytes.
        """
        if len(self) == 0:
            return dict(batch)
        images = batch["image"].to(torch.float32)
        steps = [*self.geometric, *self.photometric]
        width = sum(step.num_draws for step in steps)
        uniform = draws.uniform(key, draws.counters(batch["row"], width)) if width else images.new_empty(len(images), 0)
        parts = dict(zip(steps, uniform.split([step.num_draws for step in steps], dim=1), strict=True))
        images = self._move(images, parts)
        for number, step in enumerate(self.photometric):
            stream = draws.combine(key, torch.full_like(batch["row"], number, dtype=torch.int32))
            keys = draws.combine(stream, batch["row"])
            images = step.apply(images, parts[step], keys=keys, maximum=self.maximum)
        return {**batch, "image": images}

    def _move(self, images: Tensor, parts: Mapping[AugmentationStep, Tensor]) -> Tensor:
        if not self.geometric:
            return images
        if all(isinstance(step, FlipStep) for step in self.geometric):
            for step in self.geometric:
                assert isinstance(step, FlipStep)
                images = torch.where(step.chosen(parts[step]).view(-1, 1, 1, 1), images.flip(step.axis), images)
            return images
        height, width = images.shape[-2:]
        source = Affine()
        for step in self.geometric:
            # Steps act on the image in their order, so their inverse maps are composed from the outside in.
            source = source.of(step.source(parts[step], height=height, width=width))
        return warp(images, source.matrix(parts[self.geometric[0]][:, 0]), fill=self.fill)


def _build(values: Mapping[str, Any], *, where: str) -> AugmentationStep:
    if "name" not in values:
        raise ConfigError(
            f"{where} has no name: {dict(values)}.",
            where=where,
            accepts="a mapping such as {name: rotate, degrees: 10}",
            mend="add name: …; `lamina list augmentations` names them all",
        )
    entry = registry.lookup("augmentation", str(values["name"]), where=where)
    fields = {name: value for name, value in values.items() if name != "name"}
    assert entry.config is not None
    step: AugmentationStep = entry.target(**entry.config.from_values(fields, where=where).values())
    return step
