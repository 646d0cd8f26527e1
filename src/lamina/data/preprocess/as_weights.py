"""As the weights' source prepared them: a place in a recipe's steps that the weights fill.

Data knows no model; where the two meet (`recipes/build.py`), `filled` puts the source's own steps in this one's place, and those
are what a bundle keeps. Where the source says nothing, or there are no weights, it is a `scale`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamina.core.registry import register
from lamina.data.preprocess.affine import Scale

__all__ = ["AsWeights", "filled"]

_NAME = "as-weights"


@register(
    "preprocessing",
    _NAME,
    config=Scale.Config,
    source="the numbers come with the weights; see `lamina show` of their table",
    example="lamina train photos-transfer --data PATH --weights FILE 'preprocess=[{name: as-weights}]'",
)
class AsWeights(Scale):
    """Pixels as the weights' source prepared them; scaled from low to high where it does not say."""

    name = _NAME


def filled(
    steps: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]] | None
) -> tuple[dict[str, Any], ...] | None:
    """The steps with `wanted` in the place of `as-weights`.

    Args:
        steps: Of a recipe, each with its `name`.
        wanted: The source's own steps; None: it does not say.

    Returns:
        The new steps; None where nothing changes.
    """
    if wanted is None or not any(step["name"] == _NAME for step in steps):
        return None
    found: list[dict[str, Any]] = []
    for step in steps:
        found += [dict(one) for one in wanted] if step["name"] == _NAME else [dict(step)]
    return tuple(found)
