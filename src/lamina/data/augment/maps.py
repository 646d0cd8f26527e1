"""Where a new image's pixels come from: maps of places, composed before anything is interpolated.

A map takes a place in the new image to the place in the old one where its value is taken. Places are pixels from the
image's centre, x to the right and y downwards. Affine maps compose into one; perspective and elastic maps are applied to
a grid of places, one after the other. Either way every image is interpolated once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

Fill = Literal["edge", "reflect", "zero"]


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

    def only(self, active: Tensor) -> Affine:
        """The same map for the images that `active`, bool (B,), says; the others stay as they are."""
        same = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
        return Affine(*(_chosen(active, entry, other) for entry, other in zip(self, same, strict=True)))

    def matrix(self, like: Tensor) -> Tensor:
        """Rows (xx, xy, x0), (yx, yy, y0) as (B, 2, 3), with B, dtype and device of `like` (B,)."""
        entries = [entry if isinstance(entry, Tensor) else torch.full_like(like, entry) for entry in self]
        return torch.stack(entries, dim=1).reshape(-1, 2, 3)


class Bend(ABC):
    """A map that is not affine."""

    @abstractmethod
    def move(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Places (B, H, W) to places (B, H, W)."""

    @abstractmethod
    def only(self, active: Tensor) -> Bend:
        """The same map for the images that `active`, bool (B,), says; the others stay as they are."""


class Projective(Bend):
    """A map of planes seen in perspective.

    Args:
        entries: a, b, c, d, e, f, g, h, each (B,): x' = (a x + b y + c) / (g x + h y + 1), y' = (d x + e y + f) / same.
    """

    def __init__(self, entries: Sequence[Tensor]) -> None:
        self.entries = tuple(entries)

    def move(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Places through the fraction."""
        a, b, c, d, e, f, g, h = (entry.view(-1, 1, 1) for entry in self.entries)
        below = g * x + h * y + 1
        return (a * x + b * y + c) / below, (d * x + e * y + f) / below

    def only(self, active: Tensor) -> Projective:
        """The identity elsewhere."""
        same = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        return Projective([torch.where(active, entry, one) for entry, one in zip(self.entries, same, strict=True)])


class Displacement(Bend):
    """A smooth field of displacements, spanned by control points over the image.

    Args:
        control: Displacements (B, 2, points, points) in pixels, x and y; the outer ones lie on the outermost pixels.
        height, width: Of the image.
    """

    def __init__(self, control: Tensor, *, height: int, width: int) -> None:
        self.control = control
        self.height, self.width = height, width

    def move(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Places plus their displacement, bicubic between control points."""
        places = torch.stack([x * (2 / max(self.width - 1, 1)), y * (2 / max(self.height - 1, 1))], dim=3)
        moved = functional.grid_sample(
            self.control, places, mode="bicubic", padding_mode="border", align_corners=True
        )  # (B, 2, H, W)
        return x + moved[:, 0], y + moved[:, 1]

    def only(self, active: Tensor) -> Displacement:
        """No displacement elsewhere."""
        control = torch.where(active.view(-1, 1, 1, 1), self.control, 0.0)
        return Displacement(control, height=self.height, width=self.width)


Map = Affine | Bend


def join(maps: Sequence[Map]) -> list[Map]:
    """Maps in the order in which their steps act, neighbouring affine ones composed: what is left is applied last to first."""
    joined: list[Map] = []
    for one in maps:
        if joined and isinstance(one, Affine) and isinstance(joined[-1], Affine):
            # Steps act on the image in their order, so their inverse maps are composed from the outside in.
            joined[-1] = joined[-1].of(one)
        else:
            joined.append(one)
    return joined


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


def _chosen(active: Tensor, entry: Tensor | float, other: float) -> Tensor | float:
    if isinstance(entry, float) and entry == other:
        return other
    return torch.where(active, entry, other)
