"""Policies: which steps an image gets, drawn per image: `sometimes`, `one_of`, `sequence`, `randaugment`.

A policy is unfolded once into its steps, each behind gates: intervals in which certain draws of the image must lie. All
steps of a kind are then done for the whole batch, and kept for the images whose gates are open.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from torch import Tensor

from lamina.core import registry
from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.data.augment.maps import Fill
from lamina.data.augment.step import AugmentationStep

__all__ = ["Choice", "Gate", "Leaf", "OneOf", "Plan", "PolicyStep", "RandAugment", "Sequence_", "Sometimes", "unfold"]

Values = Mapping[str, Any] | str


@dataclass(frozen=True)
class Gate:
    """Open for images whose draw number `slot` lies in [low, high)."""

    slot: int
    low: float
    high: float

    def open(self, uniform: Tensor) -> Tensor:
        """Bool (B,) from the gates' draws (B, slots)."""
        draw = uniform[:, self.slot]
        return (draw >= self.low) & (draw < self.high)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A step behind gates, all of which must be open.

    Attributes:
        step: What is done.
        gates: Where in the policy it stands.
        signs_only: The step's draws are 0 or 1, so that it changes by its largest amount to one side or the other.
        where: Its place in the recipe.
    """

    step: AugmentationStep
    gates: tuple[Gate, ...] = ()
    signs_only: bool = False
    where: str = "augment"

    def open(self, uniform: Tensor) -> Tensor | None:
        """Which images get it, bool (B,); None: all."""
        found: Tensor | None = None
        for gate in self.gates:
            found = gate.open(uniform) if found is None else found & gate.open(uniform)
        return found


@dataclass(frozen=True)
class Plan:
    """Steps in their order, and the number of draws that their gates need."""

    leaves: tuple[Leaf, ...]
    num_slots: int


@dataclass(frozen=True)
class Choice:
    """Steps that are done when a draw lies in [low, high)."""

    low: float
    high: float
    steps: Sequence[Values]
    signs_only: bool = False


class PolicyStep(AugmentationStep):
    """A step that is made of steps."""

    num_draws = 0

    @abstractmethod
    def draws(self, *, num_channels: int, where: str) -> list[list[Choice]]:
        """One list of choices per draw, in the order in which they are done."""


class SometimesConfig(Config):
    """Options of `sometimes`."""

    prob: float = Field(0.5, description="Probability that an image gets the steps.", ge=0, le=1)
    steps: tuple[dict[str, Any] | str, ...] = Field(
        description="Steps that are done together, each with `name`.", min_length=1
    )


@register(
    "augmentation",
    "sometimes",
    config=SometimesConfig,
    example="augment=[{name: sometimes, prob: 0.3, steps: [{name: blur}]}]",
)
class Sometimes(PolicyStep):
    """Do some steps with a probability, all of them or none."""

    Config = SometimesConfig

    def draws(self, *, num_channels: int, where: str) -> list[list[Choice]]:
        """One draw, one choice."""
        return [[Choice(0.0, self.config.prob, self.config.steps)]]


class SequenceConfig(Config):
    """Options of `sequence`."""

    steps: tuple[dict[str, Any] | str, ...] = Field(
        (), description="Steps in their order, each with `name`; none at all is a way to do nothing."
    )


@register(
    "augmentation",
    "sequence",
    config=SequenceConfig,
    example="augment=[{name: one_of, steps: [{name: sequence, steps: [rotate, blur]}, sequence]}]",
)
class Sequence_(PolicyStep):  # noqa: N801 (`Sequence` is Python's)
    """Some steps as one, for use inside `one_of`."""

    Config = SequenceConfig

    def draws(self, *, num_channels: int, where: str) -> list[list[Choice]]:
        """Nothing to draw."""
        return [[Choice(0.0, 1.0, self.config.steps)]]


class OneOfConfig(Config):
    """Options of `one_of`."""

    steps: tuple[dict[str, Any] | str, ...] = Field(
        description="Steps of which each image gets one, each with `name`.", min_length=1
    )
    weights: tuple[float, ...] | None = Field(
        None, description="How often each is taken, in their order; equally often by default.", min_length=1
    )


@register(
    "augmentation",
    "one_of",
    config=OneOfConfig,
    example="augment=[{name: one_of, steps: [{name: blur}, {name: noise}], weights: [1, 3]}]",
)
class OneOf(PolicyStep):
    """Do one of several steps."""

    Config = OneOfConfig

    def draws(self, *, num_channels: int, where: str) -> list[list[Choice]]:
        """One draw among all."""
        steps, weights = self.config.steps, self.config.weights
        weights = (1.0,) * len(steps) if weights is None else weights
        if len(weights) != len(steps) or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                f"There are {len(steps)} steps and the weights {list(weights)}.",
                where=f"{where}.weights",
                accepts=f"{len(steps)} numbers of at least 0, not all 0",
                mend="give one weight per step, or leave weights out",
            )
        borders = [total / sum(weights) for total in accumulate(weights, initial=0.0)]
        borders[-1] = 1.0
        return [
            [
                Choice(low, high, (step,))
                for step, (low, high) in zip(steps, pairwise(borders), strict=True)
                if high > low
            ]
        ]


class RandAugmentConfig(Config):
    """Options of `randaugment`."""

    num_ops: int = Field(2, description="Operations per image.", ge=1, le=8)
    magnitude: float = Field(
        9.0, description="Strength of all of them; at 30 they are as strong as they come.", ge=0, le=30
    )
    fill: Fill = Field(
        "edge", description="What comes in from outside: the edge's pixels, the image mirrored, or zero."
    )


@register(
    "augmentation",
    "randaugment",
    config=RandAugmentConfig,
    source="Cubuk, Zoph, Shlens, Le (2020), RandAugment, arXiv:1909.13719",
    fidelity="geometric operations are done first and in one warp, the others in their order after it; rotation and "
    "shear about the image's centre; grey images do without colour",
    example="augment=[{name: randaugment, num_ops: 2, magnitude: 9}]",
)
class RandAugment(PolicyStep):
    """Do a few of fourteen operations, drawn per image, all with the same strength."""

    Config = RandAugmentConfig

    def draws(self, *, num_channels: int, where: str) -> list[list[Choice]]:
        """As many draws as operations, each among all of them."""
        table = self.operations(num_channels)
        borders = [number / len(table) for number in range(len(table) + 1)]
        choices = [
            Choice(low, high, steps, signs_only=True)
            for steps, (low, high) in zip(table, pairwise(borders), strict=True)
            if steps
        ]
        return [choices] * self.config.num_ops

    def operations(self, num_channels: int) -> list[list[dict[str, Any]]]:
        """The operations at this magnitude; one of them does nothing."""
        share, fill = self.config.magnitude / 30, self.config.fill
        lean = math.degrees(math.atan(0.3 * share))
        geometric: list[dict[str, Any]] = [
            {"name": "shear", "degrees": lean, "axis": "horizontal"},
            {"name": "shear", "degrees": lean, "axis": "vertical"},
            {"name": "shift", "fraction": share * 150 / 331, "axis": "horizontal"},
            {"name": "shift", "fraction": share * 150 / 331, "axis": "vertical"},
            {"name": "rotate", "degrees": 30 * share},
        ]
        tones: list[dict[str, Any]] = [
            {"name": "brightness", "amount": 0.9 * share},
            {"name": "contrast", "amount": 0.9 * share},
            {"name": "sharpness", "amount": 0.9 * share},
            {"name": "posterize", "bits": 8 - round(4 * share)},
            {"name": "solarize", "threshold": 1 - share},
            {"name": "autocontrast"},
            {"name": "equalize"},
        ]
        colour = [{"name": "saturation", "amount": 0.9 * share}] if num_channels == 3 else []
        return [[], *([{**step, "fill": fill}] for step in geometric), *([step] for step in [*tones, *colour])]


def unfold(steps: Sequence[Values], *, num_channels: int, where: str = "augment") -> Plan:
    """Build steps and unfold the policies among them.

    Raises:
        ConfigError: A step without a name, an unknown or impossible option.
        UnknownNameError: No augmentation has that name.
    """
    unfolding = _Unfolding(num_channels)
    for number, values in enumerate(steps):
        unfolding.add(values, (), signs_only=False, where=f"{where}[{number}]")
    return Plan(tuple(unfolding.leaves), unfolding.num_slots)


class _Unfolding:
    def __init__(self, num_channels: int) -> None:
        self.num_channels = num_channels
        self.num_slots = 0
        self.leaves: list[Leaf] = []

    def add(self, values: Values, gates: tuple[Gate, ...], *, signs_only: bool, where: str, depth: int = 0) -> None:
        step = _build({"name": values} if isinstance(values, str) else values, where=where)
        if not isinstance(step, PolicyStep):
            self.leaves.append(Leaf(step, gates, signs_only, where))
            return
        if depth >= 16:
            raise ConfigError(
                "Policies are nested more than sixteen deep.",
                where=where,
                accepts="at most sixteen levels",
                mend="write it flatter: one_of inside one_of is one_of with weights",
            )
        for choices in step.draws(num_channels=self.num_channels, where=where):
            slot = self.num_slots
            always = all((choice.low, choice.high) == (0.0, 1.0) for choice in choices)
            self.num_slots += 0 if always else 1
            number = 0
            for choice in choices:
                behind = gates if always else (*gates, Gate(slot, choice.low, choice.high))
                for inner in choice.steps:
                    place = f"{where}.steps[{number}]"
                    self.add(inner, behind, signs_only=signs_only or choice.signs_only, where=place, depth=depth + 1)
                    number += 1


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
    step: AugmentationStep = entry.target(**dict(entry.config.from_values(fields, where=where)))
    return step
