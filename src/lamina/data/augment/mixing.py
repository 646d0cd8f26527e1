"""Steps between two samples: mixup and CutMix. Each image gets a partner, and its label a share of the partner's.

The batch gains `label_other`, int64 (B,), the partners' labels, and `mix`, float32 (B,), the share of the own label. The
loss is then mix * loss(label) + (1 - mix) * loss(label_other), row by row.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, Literal

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.augment.pixels import rectangle
from lamina.data.augment.step import AugmentationStep

__all__ = ["CutMix", "Mixup", "PairStep"]

_QUANTILES: Final = 4096


class MixConfig(Config):
    """What mixing steps share."""

    prob: float = Field(1.0, description="Probability that an image is mixed.", ge=0, le=1)
    partner: Literal["data", "batch"] = Field(
        "data",
        description="Where the other image comes from: any row of the training split, augmented by draws of its own "
        "(the same whatever the batch, at twice the work), or the same batch.",
    )


class PairStep(AugmentationStep):
    """A step that mixes an image with another."""

    num_draws: int

    @abstractmethod
    def mix(self, images: Tensor, others: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed images, float (B, C, H, W), and each one's own share, float (B,).

        Args:
            others: Shaped as `images`.
            uniform: Float (B, num_draws) in [0, 1).
        """


class MixupConfig(MixConfig):
    """Options of `mixup`."""

    alpha: float = Field(0.2, description="Both parameters of the Beta distribution of the share.", gt=0, le=64)


@register(
    "augmentation",
    "mixup",
    config=MixupConfig,
    source="Zhang, Cisse, Dauphin, Lopez-Paz (2018), mixup: Beyond Empirical Risk Minimization, arXiv:1710.09412; a share per image",
    example="augment=[{name: mixup, alpha: 0.2}]",
)
class Mixup(PairStep):
    """Average an image and its label with another's, with a share from a Beta distribution."""

    Config = MixupConfig
    num_draws = 2

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.quantiles = beta_quantiles(self.config.alpha)

    def mix(self, images: Tensor, others: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of both images by their shares."""
        share = torch.where(uniform[:, 0] < self.config.prob, draw_from(self.quantiles, uniform[:, 1]), 1.0)
        by_image = share.view(-1, 1, 1, 1)
        return images * by_image + others * (1 - by_image), share


class CutMixConfig(MixConfig):
    """Options of `cutmix`."""

    alpha: float = Field(
        1.0, description="Both parameters of the Beta distribution of the share; 1: uniform.", gt=0, le=64
    )


@register(
    "augmentation",
    "cutmix",
    config=CutMixConfig,
    source="Yun et al. (2019), CutMix: Regularization Strategy to Train Strong Classifiers, arXiv:1905.04899",
    example="augment=[{name: cutmix}]",
)
class CutMix(PairStep):
    """Paste a rectangle of another image; the label's share is the area that is left."""

    Config = CutMixConfig
    num_draws = 4

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.quantiles = beta_quantiles(self.config.alpha)

    def mix(self, images: Tensor, others: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """A rectangle of the image's proportions, its centre uniform, cut off at the border."""
        height, width = images.shape[-2:]
        side = torch.sqrt(1 - draw_from(self.quantiles, uniform[:, 1]))
        side = torch.where(uniform[:, 0] < self.config.prob, side, 0.0)
        x, y = uniform[:, 2] * width, uniform[:, 3] * height
        # Whole pixels, so that the share is exactly the area.
        left = torch.round(x - side * width / 2).clamp(0, width)
        right = torch.round(x + side * width / 2).clamp(0, width)
        top = torch.round(y - side * height / 2).clamp(0, height)
        bottom = torch.round(y + side * height / 2).clamp(0, height)
        pasted = rectangle(images, top=top, left=left, bottom=bottom, right=right)
        share = 1 - (right - left) * (bottom - top) / (height * width)
        return torch.where(pasted, others, images), share


def beta_quantiles(alpha: float) -> Tensor:
    """The values below which 0, 1/4096, … 1 of a symmetric Beta distribution lie; float32 (4097,)."""
    from scipy.special import betaincinv  # noqa: PLC0415 (heavy, and needed only here)

    below = torch.linspace(0, 1, _QUANTILES + 1, dtype=torch.float64)
    return torch.from_numpy(betaincinv(alpha, alpha, below.numpy())).to(torch.float32)


def draw_from(quantiles: Tensor, uniform: Tensor) -> Tensor:
    """Draws from a distribution by the inverse of its distribution function, linear between quantiles."""
    quantiles = quantiles.to(uniform.device)
    place = uniform * (len(quantiles) - 1)
    low = place.floor().to(torch.int64).clamp(0, len(quantiles) - 2)
    at, following = quantiles[low], quantiles[low + 1]
    return at + (following - at) * (place - low)
