"""What flows between preprocessing steps, how it is counted, and the operations that steps become.

A step is fitted in float64 on chunks of the training split, so that memory does not grow with the data. What it learns
is kept in float64 too and saved; the float32 constants that run in training are derived from it, always in the same
way, so that a restored step gives the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lamina.core import config as core_config
from lamina.core.errors import BundleError, ConfigError, DataError
from lamina.data.columns import FieldSpec

# Elements of a chunk: 32 MiB in float64.
CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Flow:
    """The state of one row between two steps.

    Attributes:
        kind: `image` (C, H, W), `signal` (C, T), `volume` (C, D, H, W), `features` (F,), or `past` (L, C) of a time series.
        shape: Of one row.
        bounds: Smallest and largest possible value where it is known without looking (pixels), else None.
        fields: Name of each feature; empty for flattened images.
        numeric: Per feature whether it is a measurement, to be scaled, rather than a 0/1 mark; empty: all are.
        categories: Categorical fields not yet turned into features.
    """

    kind: Literal["image", "signal", "volume", "features", "past"]
    shape: tuple[int, ...]
    bounds: tuple[float, float] | None = None
    fields: tuple[FieldSpec, ...] = ()
    numeric: tuple[bool, ...] = ()
    categories: tuple[FieldSpec, ...] = ()

    @property
    def width(self) -> int:
        """Elements of one row."""
        width = 1
        for size in self.shape:
            width *= size
        return width

    def name(self, element: int) -> str:
        """What messages call an element of a row."""
        if self.kind == "features":
            return f"feature {self.fields[element].name!r}" if self.fields else f"feature {element}"
        places = []
        for size in reversed(self.shape[1:]):
            places.append(element % size)
            element //= size
        axes = {1: ("step",), 2: ("row", "column"), 3: ("layer", "row", "column")}[len(places)]
        return ", ".join([f"channel {element}", *(f"{a} {n}" for a, n in zip(axes, reversed(places), strict=True))])

    @property
    def has_channels(self) -> bool:
        """Whether a row is channels of positions, rather than features."""
        return self.kind != "features"


Chunk = tuple[Tensor, Tensor]  # values (B, *shape) and categories (B, K) int64
Chunks = Callable[[], Iterator[Chunk]]
Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


class Operation(nn.Module, ABC):
    """Pure tensor code: (values float, categories int64) -> the same; constants are buffers that follow `.to(device)`."""

    @abstractmethod
    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """Apply to a batch."""

    def constant(self, name: str, value: Tensor) -> None:
        """Keep a constant as a buffer that no state dict has; `.float()` turns the float64 ones into what runs."""
        self.register_buffer(name, value, persistent=False)


class Affine(Operation):
    """values * scale + shift; neighbours are folded into one.

    Args:
        scale: float64, broadcastable to a row.
        shift: Likewise.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.constant("scale", scale)
        self.constant("shift", shift)
        self._shifts = bool((shift != 0).any())

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """Values in the constants' precision."""
        values = values.to(self.scale.dtype) * self.scale
        return (values + self.shift if self._shifts else values), categories

    def after(self, first: Affine) -> Affine:
        """Join this operation to `first`, which comes before it, into one."""
        return Affine(first.scale * self.scale, first.shift * self.scale + self.shift)


class Product(Operation):
    """A matrix product with the flattened row, brought into the wanted shape."""

    weight: Tensor

    def __init__(self, weight: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.constant("weight", weight)
        self.shape = shape

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """(B, *in) -> (B, *shape)."""
        # Whitening amplifies rounding: the product stays in full precision under autocast.
        with torch.autocast(values.device.type, enabled=False):
            product = values.to(self.weight.dtype).flatten(1) @ self.weight
        return product.reshape(len(values), *self.shape), categories


class Flatten(Operation):
    """(B, C, H, W) -> (B, C * H * W)."""

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """Channels first, then rows."""
        return values.flatten(1), categories


class Step(ABC):
    """One registered step: fitted or restored, then turned into operations.

    Attributes:
        config: Its options.
        state: What it learned, on the CPU: float64 (matrices float32, for their size), int64 for indices.
    """

    Config: ClassVar[type[core_config.Config]] = core_config.Config
    name: ClassVar[str] = ""

    def __init__(self, config: core_config.Config) -> None:
        self.config = config
        self.state: dict[str, Tensor] = {}

    def check(self, flow: Flow) -> None:
        """Refuse a flow that the step cannot work on."""

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """Learn `state` from the training split."""

    def layout(self, flow: Flow) -> Layout:
        """Type and shape of each tensor of `state`; -1 where the data decides."""
        return {}

    def is_consistent(self, flow: Flow) -> bool:
        """Whether a restored `state` of the right layout makes sense: indices in range, no division by zero."""
        return True

    @abstractmethod
    def operations(self, flow: Flow) -> Sequence[Operation]:
        """What the step does, from `state`; constants in float64."""

    @abstractmethod
    def output(self, flow: Flow) -> Flow:
        """The flow after the step."""

    def restore(self, flow: Flow, state: Mapping[str, Tensor], *, where: str) -> None:
        """Take over a saved `state`.

        Raises:
            BundleError: A tensor is missing, left over, of the wrong shape or type, or not finite.
        """
        wanted = self.layout(flow)
        if set(wanted) != set(state):
            raise BundleError(
                f"The step {self.name!r} has the tensors {sorted(state)}.",
                where=where,
                accepts=f"exactly {sorted(wanted)}",
                mend="save the bundle again; this one was changed or cut",
            )
        for name, (dtype, shape) in wanted.items():
            tensor = state[name]
            fits = tensor.ndim == len(shape) and all(w in (-1, s) for w, s in zip(shape, tensor.shape, strict=True))
            if not fits or tensor.dtype != dtype or not bool(torch.isfinite(tensor).all()):
                raise BundleError(
                    f"The tensor {name!r} of the step {self.name!r} is {tensor.dtype}, shaped {tuple(tensor.shape)}, or not finite.",
                    where=where,
                    accepts=f"finite values of {dtype}, shaped {shape} (-1: any)",
                    mend="save the bundle again; this one was changed or cut",
                )
        self.state = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        if not self.is_consistent(flow):
            raise BundleError(
                f"The values of the step {self.name!r} contradict each other or the data's description.",
                where=where,
                accepts="what fitting the step gives",
                mend="save the bundle again; this one was changed or cut",
            )

    def options(self) -> Any:
        """The config with its own type, for subclasses."""
        return self.config


def refuse(step: Step, what: str, *, accepts: str, mend: str) -> ConfigError:
    """The error for a step that does not fit the data it would work on."""
    return ConfigError(what, where=f"preprocess, step {step.name!r}", accepts=accepts, mend=mend)


# --- statistics over chunks --------------------------------------------------------------------------------------


@dataclass
class Moments:
    """Count, mean, sum of squared deviations, smallest and largest value, in float64; NaN is passed over.

    Source: Chan, Golub, LeVeque (1983), "Algorithms for Computing the Sample Variance", for joining chunks.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor
    least: Tensor
    most: Tensor

    def variance(self, *, ddof: int = 0) -> Tensor:
        """Squares / (count - ddof); 0 where that is not positive."""
        return self.squares / (self.count - ddof).clamp(min=1)

    @property
    def is_constant(self) -> Tensor:
        """Where all values are the same (or there are none)."""
        return ~(self.most > self.least)


def moments(chunks: Chunks, dims: tuple[int, ...]) -> Moments:
    """Moments over the given dimensions of (B, …) values, all chunks together; kept dimensions keep their place.

    Raises:
        DataError: There are no rows.
    """
    total: Moments | None = None
    for values, _ in chunks():
        total = _merge(total, _moments_of(values, dims))
    if total is None:
        raise no_rows()
    return total


def no_rows() -> DataError:
    """The error for fitting on nothing."""
    return DataError(
        "There are no training rows to fit the preprocessing on.",
        where="preprocess",
        accepts="a training split with rows",
        mend="look at the splits with `lamina data`",
    )


def _moments_of(values: Tensor, dims: tuple[int, ...]) -> Moments:
    missing = values.isnan()
    if bool(missing.any()):
        count = (~missing).sum(dims).to(torch.float64)
        mean = values.nan_to_num(nan=0.0).sum(dims) / count.clamp(min=1)
        deviation = (values - _expand(mean, dims)).nan_to_num(nan=0.0)
        least = values.masked_fill(missing, torch.inf).amin(dims)
        most = values.masked_fill(missing, -torch.inf).amax(dims)
        return Moments(count, mean, deviation.square_().sum(dims), least, most)
    mean = values.mean(dims)
    count = torch.full_like(mean, values.numel() / max(mean.numel(), 1))
    squares = (values - _expand(mean, dims)).square_().sum(dims)
    return Moments(count, mean, squares, values.amin(dims), values.amax(dims))


def _expand(reduced: Tensor, dims: tuple[int, ...]) -> Tensor:
    for dim in sorted(dims):
        reduced = reduced.unsqueeze(dim)
    return reduced


def _merge(first: Moments | None, second: Moments) -> Moments:
    if first is None:
        return second
    count = first.count + second.count
    safe = count.clamp(min=1)
    delta = second.mean - first.mean
    return Moments(
        count,
        first.mean + delta * (second.count / safe),
        first.squares + second.squares + delta.square() * (first.count * second.count / safe),
        torch.minimum(first.least, second.least),
        torch.maximum(first.most, second.most),
    )
