"""How pictures of any size are brought to the one size that a network reads; the same in training and in prediction.

Three ways, chosen by `data.resize` and kept in the bundle's spec:

    crop       scaled, keeping its proportions, until it just covers the wanted size; the middle is cut out
    stretch    scaled to the wanted size, whatever its proportions
    letterbox  scaled, keeping its proportions, until it just fits inside; the rest is filled with a colour

Scaling is Pillow's: bilinear (by default) or bicubic, with a filter as wide as the step, so that nothing aliases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from PIL import Image

from lamina.core.errors import ConfigError
from lamina.data.columns import ColumnSpec
from lamina.data.config import DataConfig

How = Literal["crop", "stretch", "letterbox"]
_FILTERS: Final = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Beyond threefold, Pillow may first average whole blocks: as good to the eye, and much faster.
_REDUCING_GAP: Final = 3.0


@dataclass(frozen=True)
class Fitting:
    """One way to bring pictures to a size.

    Attributes:
        height, width: The wanted size.
        how: `crop`, `stretch` or `letterbox`.
        crop_fraction: With `crop`, the share of the covering cut that is kept: 0.875 is the short side at 256 and 224 cut out.
        fill: With `letterbox`, the colour around the picture: one grey value, or red, green and blue, 0 to 255.
        interpolation: `bilinear` or `bicubic`.
    """

    height: int
    width: int
    how: How = "crop"
    crop_fraction: float = 1.0
    fill: tuple[int, ...] = (0,)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @classmethod
    def of_config(cls, config: DataConfig, *, height: int, width: int) -> Fitting:
        """As the `data` section says.

        Raises:
            ConfigError: `data.fill` is no colour.
        """
        if len(config.fill) == 2:
            raise ConfigError(
                f"data.fill={list(config.fill)} is no colour.",
                where="data.fill",
                accepts="[grey], [red,green,blue] or [red,green,blue,alpha], each from 0 to 255",
                mend="write for example data.fill=[128] or data.fill=[124,116,104]",
            )
        return cls(
            height,
            width,
            how=config.resize,
            crop_fraction=config.crop_fraction if config.resize == "crop" else 1.0,
            fill=config.fill if config.resize == "letterbox" else (0,),
            interpolation=config.interpolation,
        )

    @classmethod
    def of_spec(cls, spec: ColumnSpec) -> Fitting | None:
        """As the pictures of training were fitted; None where they were not."""
        if spec.resize is None:
            return None
        return cls(
            spec.shape[-2],
            spec.shape[-1],
            how=spec.resize,
            crop_fraction=spec.crop_fraction,
            fill=spec.fill,
            interpolation=spec.interpolation,
        )

    def spec_values(self) -> dict[str, Any]:
        """The fields of a ColumnSpec that say it."""
        return {
            "resize": self.how,
            "crop_fraction": self.crop_fraction,
            "fill": self.fill,
            "interpolation": self.interpolation,
        }

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part (left, top, right, bottom) of a picture that is seen.

        >>> Fitting(50, 50).box(200, 100)
        (50.0, 0.0, 150.0, 100.0)
        >>> Fitting(50, 50, how="letterbox").box(200, 100)
        (0.0, 0.0, 200.0, 100.0)
        """
        if self.how != "crop":
            return 0.0, 0.0, float(width), float(height)
        scale = min(width / self.width, height / self.height) * self.crop_fraction
        cut_width, cut_height = self.width * scale, self.height * scale
        # Rounding may make the cut a hair wider than the picture, which Pillow refuses.
        left, top = max((width - cut_width) / 2, 0.0), max((height - cut_height) / 2, 0.0)
        return left, top, min(left + cut_width, float(width)), min(top + cut_height, float(height))

    def inner(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) to which what is seen is scaled; smaller than the wanted size with `letterbox` only.

        >>> Fitting(50, 50, how="letterbox").inner(200, 100)
        (50, 25)
        """
        if self.how != "letterbox":
            return self.width, self.height
        scale = min(self.width / width, self.height / height)
        return min(self.width, max(1, round(width * scale))), min(self.height, max(1, round(height * scale)))

    def scale(self, width: int, height: int) -> float:
        """Pixels of the result per pixel of the picture, along the axis that keeps most of them."""
        left, top, right, bottom = self.box(width, height)
        new_width, new_height = self.inner(width, height)
        return max(new_width / (right - left), new_height / (bottom - top))

    def turned(self) -> Fitting:
        """The same for pictures that lie on their side."""
        return Fitting(self.width, self.height, self.how, self.crop_fraction, self.fill, self.interpolation)

    def scaled(self, image: Image.Image, *, reduced: int = 1, size: tuple[int, int] | None = None) -> Image.Image:
        """What is seen of a picture, at its new size; one that fits already is not touched.

        Args:
            reduced: The picture was decoded at this fraction (1/2, 1/4, 1/8), its last row and column rounded up.
            size: Then its own (width, height).
        """
        size = size or image.size
        if reduced == 1 and size == (self.width, self.height) and self.crop_fraction == 1.0:
            return image
        left, top, right, bottom = (edge / reduced for edge in self.box(*size))
        return image.resize(
            self.inner(*size),
            _FILTERS[self.interpolation],
            box=(left, top, min(right, image.width), min(bottom, image.height)),
            reducing_gap=_REDUCING_GAP,
        )

    def padded(self, scaled: Image.Image) -> Image.Image:
        """A scaled picture with what is missing to the wanted size around it; its mode is `L`, `RGB` or `RGBA`."""
        if scaled.size == (self.width, self.height):
            return scaled
        whole = Image.new(scaled.mode, (self.width, self.height), _colour(self.fill, scaled.mode))
        whole.paste(scaled, ((self.width - scaled.width) // 2, (self.height - scaled.height) // 2))
        return whole

    def describe(self) -> str:
        """What happens to pictures of another size, in words."""
        size = f"{self.height}x{self.width}"
        if self.how == "stretch":
            words = f"stretched to {size}"
        elif self.how == "letterbox":
            colour = ", ".join(map(str, self.fill))
            words = f"fitted to {size}: scaled to fit inside, the rest filled with the colour {colour}"
        elif self.crop_fraction < 1.0:
            words = f"fitted to {size}: scaled to cover it, the middle {self.crop_fraction:g} of that cut out"
        else:
            words = f"fitted to {size}: scaled to cover it, the middle cut out"
        return f"{words} ({self.interpolation})"


def _colour(fill: tuple[int, ...], mode: str) -> int | tuple[int, ...]:
    red, green, blue = fill[:3] if len(fill) >= 3 else fill[:1] * 3
    if mode == "L":
        return (red * 299 + green * 587 + blue * 114 + 500) // 1000
    return (red, green, blue, fill[3] if len(fill) == 4 else 255) if mode == "RGBA" else (red, green, blue)
