"""Windows of a time series before a model sees them: scaled per channel, with the calendar beside the values.

What is learned is learned from the rows of the training split, each counted once however many windows hold it. Past and future
are scaled alike; the calendar is added to the past only, as further channels behind those of the series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, cast

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import register
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.preprocess.flow import Affine, Chunk, Chunks, Flow, Operation, Step, refuse
from lamina.data.series import CalendarField, WindowColumns, calendar_features

__all__ = ["Calendar", "CalendarConfig", "check_series_steps", "prepare_windows", "series_chunks", "series_spec"]

_SUITED: Final = ("scale", "centre", "standardise", "none", "calendar")


class CalendarConfig(Config):
    """What of the calendar a model is told."""

    fields: tuple[CalendarField, ...] = Field(
        ("hour", "weekday", "month"), description="What clock and calendar show at each row of the past.", min_length=1
    )
    cyclic: bool = Field(
        True,
        description="Sine and cosine of the place within the period; false: the place from -0.5 to 0.5.",
    )


class CalendarFeatures(Operation):
    """(B, L, C) and time stamps (B, L) -> (B, L, C + K)."""

    def __init__(self, fields: Sequence[CalendarField], *, cyclic: bool) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.cyclic = cyclic

    def forward(self, values: Tensor, categories: Tensor) -> tuple[Tensor, Tensor]:
        """The series' channels first."""
        features = calendar_features(categories, self.fields, cyclic=self.cyclic)
        return torch.cat([values, features.to(values.dtype)], dim=-1), categories


@register(
    "preprocessing",
    "calendar",
    config=CalendarConfig,
    source="Zhou et al. (2021), arXiv:2012.07436, appendix B",
    example="lamina train etth1-lstm --data ETTh1.csv.gz 'preprocess=[{name: standardise}, {name: calendar, fields: [hour]}]'",
)
class Calendar(Step):
    """Hour, weekday, month and the like of each row of the past, as further channels behind those of the series."""

    Config = CalendarConfig
    name = "calendar"

    @property
    def width(self) -> int:
        """Channels that are added."""
        options = self.options()
        return len(options.fields) * (2 if options.cyclic else 1)

    def check(self, flow: Flow) -> None:
        """Refuse what is no time series."""
        if flow.kind != "past":
            raise refuse(
                self, "Only rows of a time series have a calendar.", accepts="a time series", mend="leave the step out"
            )

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """Nothing is learned."""
        return [CalendarFeatures(self.options().fields, cyclic=self.options().cyclic)]

    def output(self, flow: Flow) -> Flow:
        """More channels."""
        return replace(flow, shape=(flow.shape[0], flow.shape[1] + self.width), bounds=None)


def check_series_steps(steps: Sequence[Step]) -> None:
    """Refuse steps that would take a window apart, and such as come behind the calendar.

    Raises:
        ConfigError: Names the step.
    """
    for place, step in enumerate(steps):
        if step.name not in _SUITED or (step.name == "calendar" and place < len(steps) - 1):
            what = "comes before others" if step.name == "calendar" else "is not for windows of a time series"
            raise ConfigError(
                f"The step {step.name!r} {what}.",
                where=f"preprocess, step {place}",
                accepts=f"{', '.join(_SUITED[:-1])}, and calendar as the last",
                mend="leave it out, or put it last" if step.name == "calendar" else "leave it out",
            )


def series_chunks(columns: Columns, operations: Iterable[Operation], flow: Flow, *, size: int) -> Chunks:
    """The rows of the training split, each once, as windows of one row (n, 1, C) in float64, after the operations so far."""
    assert isinstance(columns, WindowColumns)
    stretch = columns.stretch
    chain = list(operations)

    def chunks() -> Iterable[Chunk]:
        for values, times in zip(stretch["series"].split(size), stretch["time"].split(size), strict=True):
            flowing, stamps = values.to(torch.float64).unsqueeze(1), times.unsqueeze(1)
            for operation in chain:
                flowing, stamps = operation(flowing, stamps)
            yield flowing, stamps

    return cast("Chunks", chunks)


def prepare_windows(operations: Iterable[nn.Module], batch: Mapping[str, Tensor], flow: Flow) -> dict[str, Tensor]:
    """A batch with `past` float32 (B, L, C + K) and, where it is there, `future` float32 (B, H, C), scaled.

    Raises:
        ShapeError: There is no past, it has another shape than in training, or the calendar is wanted of rows without time.
    """
    past = batch.get("past")
    if past is None or past.ndim != 3 or tuple(past.shape[1:]) != flow.shape:
        raise ShapeError(
            f"The past is shaped {tuple(past.shape)}."
            if past is not None
            else f"The batch has no column 'past'; it has {', '.join(batch) or 'none'}.",
            where="preprocessing, column 'past'",
            accepts=f"(batch, {flow.shape[0]}, {flow.shape[1]}): rows of the past and series, as in training",
            mend="give the latest rows of all series, or train with another data.past_length",
        )
    result = dict(batch)
    future = batch["future"].to(torch.float32) if "future" in batch else None
    values = past.to(torch.float32)
    times = batch.get("past_time")
    for operation in operations:
        if isinstance(operation, CalendarFeatures) and times is None:
            raise ShapeError(
                "The model is told the calendar, and the rows have no time stamps.",
                where="preprocessing, step 'calendar'",
                accepts="a file with a column of dates, as in training",
                mend="give a CSV with time stamps instead of an array",
            )
        stamps = times if times is not None else values.new_empty((len(values), 0), dtype=torch.int64)
        values, _ = operation(values, stamps)
        if future is not None and isinstance(operation, Affine):
            future, _ = operation(future, stamps)
    result["past"] = values
    if future is not None:
        result["future"] = future
    return result


def series_spec(spec: DataSpec, flow: Flow, operations: Sequence[Operation]) -> DataSpec:
    """The spec of prepared windows: `past` with the calendar's channels; mean and std are what scaling subtracted and divided by.

    Args:
        operations: In float64, before they are made to run.
    """
    width = spec.columns["past"].shape[1]
    scale, shift = torch.ones(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for operation in operations:
        if isinstance(operation, Affine):
            shift = shift * operation.scale + operation.shift
            scale = scale * operation.scale
    std = (1 / scale).tolist()
    mean = (-shift / scale).tolist()
    changed: dict[str, ColumnSpec] = {}
    for name, column in spec.columns.items():
        shape = flow.shape if name == "past" else column.shape
        values = {"mean": tuple(mean), "std": tuple(std)} if name in ("past", "future") else {}
        changed[name] = column.model_copy(update={"shape": shape, **values})
    return spec.model_copy(update={"columns": changed})
