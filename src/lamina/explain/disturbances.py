"""Changes to pictures, by amount: what the views `invariance` and `robustness` do to the rows that they judge.

All work on raw pixels (B, C, H, W) as float32 in [0, maximum], before preprocessing. What a change draws is keyed by seed, kind,
draw and row: a row gets the same draw in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from lamina.core import draws

__all__ = ["DISTURBANCES", "MOVES", "Disturbance", "Draw", "Move", "moved"]


@dataclass(frozen=True)
class Draw:
    """One keyed draw for a batch.

    Attributes:
        key: From `draws.stream_key`.
        rows: int64 (B,): by which a picture's draw is keyed.
        maximum: The brightest value of a pixel.
    """

    key: int
    rows: Tensor
    maximum: float

    def uniform(self, width: int, *, part: int = 0) -> Tensor:
        """(B, width) in [0, 1)."""
        return draws.uniform(self.key + part, draws.counters(self.rows, width))

    def normal(self, width: int) -> Tensor:
        """(B, width), standard normal."""
        return draws.normal(self.key, draws.counters(self.rows, width))


# --- moves ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Move:
    """A change of place.

    Attributes:
        unit: Of the amount.
        neutral: The amount that changes nothing.
        matrix: (amount, height, width) -> the affine map (2, 3) from output to input positions, in [-1, 1].
    """

    unit: str
    neutral: float
    matrix: Callable[[float, int, int], Tensor]


def _shift_right(amount: float, height: int, width: int) -> Tensor:
    return torch.tensor([[1.0, 0.0, -2.0 * amount / width], [0.0, 1.0, 0.0]])


def _shift_down(amount: float, height: int, width: int) -> Tensor:
    return torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, -2.0 * amount / height]])


def _scale(amount: float, height: int, width: int) -> Tensor:
    return torch.tensor([[1.0 / amount, 0.0, 0.0], [0.0, 1.0 / amount, 0.0]])


def _rotate(amount: float, height: int, width: int) -> Tensor:
    angle = math.radians(amount)
    cos, sin, ratio = math.cos(angle), math.sin(angle), height / width
    # Counter-clockwise as seen; lengths are measured in pixels, so that a wide picture is turned and not sheared.
    return torch.tensor([[cos, -sin * ratio, 0.0], [sin / ratio, cos, 0.0]])


MOVES: Final[dict[str, Move]] = {
    "shift-right": Move("pixels", 0.0, _shift_right),
    "shift-down": Move("pixels", 0.0, _shift_down),
    "scale": Move("times", 1.0, _scale),
    "rotation": Move("degrees", 0.0, _rotate),
}


def moved(images: Tensor, kind: str, amount: float) -> Tensor:
    """Pictures moved by an amount; bilinear, what comes in from outside repeats the border.

    Args:
        images: Float (B, C, H, W).
        kind: One of MOVES. Positive rotation is counter-clockwise.
    """
    move = MOVES[kind]
    if amount == move.neutral:
        return images
    height, width = images.shape[2:]
    matrix = move.matrix(amount, height, width).to(images.device, images.dtype)
    grid = nn.functional.affine_grid(
        matrix.expand(len(images), 2, 3), [len(images), images.shape[1], height, width], align_corners=False
    )
    return nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


# --- disturbances --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disturbance:
    """Something that comes over a picture.

    Attributes:
        what: What the level means.
        levels: Levels by default; the first changes nothing.
        apply: (images, level, draw) -> images.
        is_random: Whether it draws; if not, one draw is enough.
    """

    what: str
    levels: tuple[float, ...]
    apply: Callable[[Tensor, float, Draw], Tensor]
    is_random: bool = True


def _occlude(images: Tensor, level: float, draw: Draw) -> Tensor:
    """A grey square of so large a share of the picture's area, anywhere inside."""
    height, width = images.shape[2:]
    side = math.sqrt(level)
    tall, wide = max(1, round(side * height)), max(1, round(side * width))
    drawn = draw.uniform(2)
    top = (drawn[:, 0] * (height - tall + 1)).long().view(-1, 1, 1)
    left = (drawn[:, 1] * (width - wide + 1)).long().view(-1, 1, 1)
    y, x = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)  # (B, H, W)
    return torch.where(inside.unsqueeze(1), draw.maximum / 2, images)


def _clutter(images: Tensor, level: float, draw: Draw) -> Tensor:
    """So many bright or dark patches anywhere: marks that belong to nothing."""
    height, width = images.shape[2:]
    tall, wide = max(1, round(height / 5)), max(1, round(width / 5))
    y, x = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
    result = images
    for patch in range(int(level)):
        drawn = draw.uniform(3, part=patch + 1)
        top = (drawn[:, 0] * (height - tall + 1)).long().view(-1, 1, 1)
        left = (drawn[:, 1] * (width - wide + 1)).long().view(-1, 1, 1)
        value = (drawn[:, 2] > 0.5).to(images.dtype).view(-1, 1, 1, 1) * draw.maximum
        inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
        result = torch.where(inside.unsqueeze(1), value, result)
    return result


def _light(images: Tensor, level: float, draw: Draw) -> Tensor:
    return (images * level).clamp(0, draw.maximum)


def _noise(images: Tensor, level: float, draw: Draw) -> Tensor:
    drawn = draw.normal(images[0].numel()).view(images.shape).to(images.dtype)
    return (images + drawn * (level * draw.maximum)).clamp(0, draw.maximum)


DISTURBANCES: Final[dict[str, Disturbance]] = {
    "occlusion": Disturbance("share of the area under a grey square", (0.0, 0.05, 0.1, 0.2, 0.3, 0.4), _occlude),
    "clutter": Disturbance("bright or dark patches, a fifth of the side each", (0, 1, 2, 4, 6, 8), _clutter),
    "light": Disturbance("brightness, times the original", (1.0, 0.75, 0.5, 0.3, 0.2, 0.1), _light, is_random=False),
    "noise": Disturbance("standard deviation, as a share of the range", (0.0, 0.05, 0.1, 0.2, 0.3, 0.4), _noise),
}
