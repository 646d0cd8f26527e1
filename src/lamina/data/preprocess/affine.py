"""Scale, centre, standardise: one multiply-add per element, neighbours folded into one; also flatten and none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.data.preprocess.flow import Affine, Chunks, Flatten, Flow, Layout, Operation, Step, moments, refuse


class PerConfig(Config):
    """Over what statistics are taken."""

    per: Literal["feature", "channel"] | None = Field(
        None,
        description="feature: every pixel or table column by itself; channel: all pixels of a colour together. By default per channel for images, signals and volumes, per feature for tables.",
    )


class ScaleConfig(Config):
    """The range that values are brought into."""

    low: float = Field(0.0, description="What the smallest value becomes.")
    high: float = Field(1.0, description="What the largest value becomes.")


class StandardiseConfig(PerConfig):
    """Options of standardise."""

    epsilon: float = Field(
        0.0, description="Added to the variance, so that nearly constant pixels are not blown up.", ge=0
    )


def _dims(step: Step, flow: Flow) -> tuple[int, ...]:
    """Dimensions of (B, …) values that statistics are taken over."""
    per = step.options().per
    if flow.kind == "features":
        if per == "channel":
            raise refuse(
                step,
                "A table has no channels.",
                accepts="per: feature",
                mend="leave `per` out, or put the step before `flatten`",
            )
        return (0,)
    if flow.kind == "past":
        if per == "feature":
            raise refuse(
                step,
                "A window moves along its series, so a place in it has no statistics of its own.",
                accepts="per: channel",
                mend="leave `per` out",
            )
        return (0, 1)
    return (0,) if per == "feature" else (0, *range(2, len(flow.shape) + 1))


def _state_shape(step: Step, flow: Flow) -> tuple[int, ...]:
    if flow.kind == "past":
        return flow.shape[-1:]
    if flow.has_channels and len(_dims(step, flow)) > 1:
        return (flow.shape[0],)
    return flow.shape


def _over_row(constant: Tensor, flow: Flow) -> Tensor:
    """(C,) -> (C, 1, …) for what has channels; others as they are."""
    is_channels = flow.has_channels and constant.ndim == 1 and flow.kind != "past"
    return constant.view(-1, *(1,) * (len(flow.shape) - 1)) if is_channels else constant


def _marks(flow: Flow) -> Tensor | None:
    """Where features are 0/1 marks, which keep their values."""
    return ~torch.tensor(flow.numeric) if flow.kind == "features" and flow.numeric else None


@register(
    "preprocessing",
    "scale",
    config=ScaleConfig,
    source="scikit-learn `MinMaxScaler` for tables; for pixels the range of their type",
    example="lamina train digits 'preprocess=[{name: scale}]'",
)
class Scale(Step):
    """Bring values into [0, 1]: pixels by the range of their type, table columns by their range in training."""

    Config = ScaleConfig
    name = "scale"

    def check(self, flow: Flow) -> None:
        """Refuse an empty range."""
        if self.options().low >= self.options().high:
            raise refuse(
                self,
                f"The range from {self.options().low} to {self.options().high} is empty.",
                accepts="low below high",
                mend="exchange low and high",
            )

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """Smallest and largest value: known for pixels, else one range for all of an image, one per column for tables and series."""
        if flow.bounds is not None:
            least, most = (torch.tensor(bound, dtype=torch.float64) for bound in flow.bounds)
        else:
            whole = tuple(range(len(flow.shape) + 1))
            found = moments(chunks, (0, 1) if flow.kind == "past" else whole if flow.has_channels else (0,))
            least, most = found.least, found.most
            # A column without any value, or with one only, must not divide by zero: it becomes `low`.
            empty = ~torch.isfinite(least)
            least = least.masked_fill(empty, 0.0)
            most = torch.where(found.is_constant, least + 1.0, most)
        self.state = {"least": least.clone(), "most": most.clone()}

    def layout(self, flow: Flow) -> Layout:
        """One number, or one per table column or series."""
        shape = flow.shape if flow.kind == "features" and flow.bounds is None else ()
        shape = flow.shape[-1:] if flow.kind == "past" else shape
        return {"least": (torch.float64, shape), "most": (torch.float64, shape)}

    def is_consistent(self, flow: Flow) -> bool:
        """No empty range."""
        return bool((self.state["most"] > self.state["least"]).all())

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """A multiply-add."""
        options = self.options()
        scale = (options.high - options.low) / (self.state["most"] - self.state["least"])
        shift = options.low - self.state["least"] * scale
        marks = _marks(flow)
        if marks is not None:
            scale, shift = scale.masked_fill(marks, 1.0), shift.masked_fill(marks, 0.0)
        return [Affine(scale, shift)]

    def output(self, flow: Flow) -> Flow:
        """Images have a known range afterwards."""
        return replace(flow, bounds=(self.options().low, self.options().high) if flow.has_channels else None)


@register(
    "preprocessing",
    "centre",
    config=PerConfig,
    source="LeCun, Bottou, Orr, Müller (1998), Efficient BackProp, section 4.3",
    example="lamina train digits 'preprocess=[{name: scale}, {name: centre, per: feature}]'",
)
class Centre(Step):
    """Subtract the training mean, per feature or per channel."""

    Config = PerConfig
    name = "centre"

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """The mean; 0 for a column without values."""
        self.state = {"mean": moments(chunks, _dims(self, flow)).mean}

    def check(self, flow: Flow) -> None:
        """Refuse channels of tables."""
        _dims(self, flow)

    def layout(self, flow: Flow) -> Layout:
        """One mean per channel or element."""
        return {"mean": (torch.float64, _state_shape(self, flow))}

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """A subtraction."""
        shift = -_over_row(self.state["mean"], flow)
        marks = _marks(flow)
        shift = shift.masked_fill(marks, 0.0) if marks is not None else shift
        return [Affine(torch.ones_like(shift), shift)]

    def output(self, flow: Flow) -> Flow:
        """The range is no longer known."""
        return replace(flow, bounds=None)


@register(
    "preprocessing",
    "standardise",
    config=StandardiseConfig,
    source="LeCun, Bottou, Orr, Müller (1998), Efficient BackProp, section 4.3; scikit-learn `StandardScaler`",
    example="lamina train housing-mlp 'preprocess=[{name: impute}, {name: one-hot}, {name: standardise}]'",
)
class Standardise(Step):
    """Subtract the training mean and divide by the standard deviation, per feature or per channel.

    The deviation is that of the population (divided by N). Constant features are only centred. 0/1 marks made by
    one-hot or impute keep their values.
    """

    Config = StandardiseConfig
    name = "standardise"

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """Mean and standard deviation, 1 where the feature is constant."""
        found = moments(chunks, _dims(self, flow))
        std = (found.variance() + self.options().epsilon).sqrt()
        self.state = {"mean": found.mean, "std": std.masked_fill(found.is_constant | (std == 0), 1.0)}

    def check(self, flow: Flow) -> None:
        """Refuse channels of tables."""
        _dims(self, flow)

    def layout(self, flow: Flow) -> Layout:
        """One mean and deviation per channel or element."""
        return {name: (torch.float64, _state_shape(self, flow)) for name in ("mean", "std")}

    def is_consistent(self, flow: Flow) -> bool:
        """No division by zero."""
        return bool((self.state["std"] > 0).all())

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """A multiply-add."""
        scale = 1.0 / _over_row(self.state["std"], flow)
        shift = -_over_row(self.state["mean"], flow) * scale
        marks = _marks(flow)
        if marks is not None:
            scale, shift = scale.masked_fill(marks, 1.0), shift.masked_fill(marks, 0.0)
        return [Affine(scale, shift)]

    def output(self, flow: Flow) -> Flow:
        """The range is no longer known."""
        return replace(flow, bounds=None)


@register(
    "preprocessing",
    "flatten",
    source="Made for Lamina",
    example="lamina train digits 'preprocess=[{name: scale}, {name: flatten}]'",
)
class FlattenStep(Step):
    """Turn images, signals or volumes into rows of features: channels first, then rows, then columns."""

    name = "flatten"

    def check(self, flow: Flow) -> None:
        """Refuse tables."""
        if not flow.has_channels:
            raise refuse(
                self, "The rows are flat already.", accepts="images, signals or volumes", mend="leave the step out"
            )

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """A change of shape."""
        return [Flatten()]

    def output(self, flow: Flow) -> Flow:
        """Features without names."""
        return Flow("features", (flow.width,), bounds=flow.bounds)


@register(
    "preprocessing",
    "none",
    source="Made for Lamina",
    example="lamina train digits 'preprocess=[{name: none}]'",
)
class Nothing(Step):
    """Keep the values as they are; only their type becomes float32."""

    name = "none"

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """Nothing."""
        return []

    def output(self, flow: Flow) -> Flow:
        """The same."""
        return flow
