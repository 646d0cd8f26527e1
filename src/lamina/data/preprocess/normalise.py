"""Normalise: means and deviations that are stated instead of taken from the training data.

Weights from elsewhere were trained on images prepared in one way; the same numbers must be used again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.preprocess.flow import Affine, Flow, Operation, Step, refuse


class NormaliseConfig(Config):
    """What is subtracted and divided by."""

    mean: tuple[float, ...] = Field(description="Subtracted: one number per channel, or one for all.", min_length=1)
    std: tuple[float, ...] = Field(
        description="Divided by after that: one number per channel, or one for all.", min_length=1
    )


@register(
    "preprocessing",
    "normalise",
    config=NormaliseConfig,
    source="Krizhevsky, Sutskever, Hinton (2012), NIPS 25, section 2; the numbers come with the weights that need them",
    example="lamina train digits 'preprocess=[{name: scale}, {name: normalise, mean: [0.5], std: [0.25]}]'",
)
class Normalise(Step):
    """Subtract stated means and divide by stated deviations, per channel of images."""

    Config = NormaliseConfig
    name = "normalise"

    def check(self, flow: Flow) -> None:
        """Refuse tables, other numbers of channels, and deviations that are not positive."""
        if flow.kind != "image":
            raise refuse(
                self, "Rows of features have no channels.", accepts="images", mend="use standardise, which learns"
            )
        options, channels = self.options(), flow.shape[0]
        for key in ("mean", "std"):
            given = getattr(options, key)
            if len(given) not in (1, channels):
                raise refuse(
                    self,
                    f"{key} has {len(given)} numbers; the images have {channels} channel{'s' if channels > 1 else ''}.",
                    accepts=f"{channels} numbers, or one for all channels" if channels > 1 else "one number",
                    mend=f"give {key}: [{', '.join(['0.5'] * channels)}], say",
                )
        if min(options.std) <= 0:
            raise refuse(self, f"std is {list(options.std)}.", accepts="numbers above 0", mend="correct std")

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """A multiply-add."""
        channels = flow.shape[0]
        mean, std = (
            torch.tensor(given, dtype=torch.float64).expand(channels).reshape(-1, 1, 1)
            for given in (self.options().mean, self.options().std)
        )
        return [Affine(1.0 / std, -mean / std)]

    def output(self, flow: Flow) -> Flow:
        """The range is no longer known."""
        return replace(flow, bounds=None)
