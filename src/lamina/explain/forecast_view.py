"""View `forecast`: the past of some windows, what was forecast and what came, with the interval; and the error at each step ahead."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError, unknown_name
from lamina.core.registry import register
from lamina.data.series import WindowColumns, describe_step, time_text
from lamina.explain.drawing import CLASS_COLOURS, draw
from lamina.explain.views import Subject, ViewResult, refusal
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.time_series_forecasting import TimeSeriesForecasting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ForecastConfig", "forecast_view"]

_TRUTH, _FORECAST, _NAIVE = "#222222", CLASS_COLOURS[0], CLASS_COLOURS[1]
# Rows of the past that are drawn, in horizons.
_PASTS: Final = 2
_TICKS: Final = 3


class ForecastConfig(Config):
    """Options of the view `forecast`."""

    windows: int = Field(4, description="Windows that are drawn, spread evenly over the split.", ge=1, le=24)
    target: str | None = Field(None, description="Name of the series; the first by default.")
    most: int = Field(2000, description="Windows that the errors by step are taken over at most, spread evenly.", ge=1)


@register(
    "view",
    "forecast",
    config=ForecastConfig,
    source="Hyndman, Athanasopoulos (2021), Forecasting: Principles and Practice, chapter 5",
    example="lamina inspect runs/etth1-dlinear-1 forecast --output forecast.png view.target=OT",
    reads="rows",
)
def forecast_view(subject: Subject, config: ForecastConfig) -> ViewResult:
    """Past, truth, forecast and interval of some windows, and the mean absolute error at each step beside the seasonal naive one.

    `arrays` holds `past` (W, L), `truth`, `forecast` and, with intervals, `lower` and `upper` (W, H) of the windows `row` (W,),
    and `step_mae`, `step_naive_mae` (H,), of one series in its own units.

    Raises:
        UsageError: No rows of a time series, or a model that forecasts none.
        UnknownNameError: No series is called `target`.
    """
    columns = subject.columns
    if columns is None or subject.task is None or subject.preprocessing is None:
        raise UsageError(
            "This view needs labelled rows to judge.",
            where="view forecast",
            accepts="a bundle with --data PATH, or a run, whose own test or validation split is used",
            mend="lamina inspect BUNDLE forecast --data PATH; in Python subject_of(bundle, columns=data.splits['valid'])",
        )
    task = subject.task
    if not isinstance(task, TimeSeriesForecasting) or not isinstance(columns, WindowColumns):
        raise refusal(
            "forecast",
            f"The model is a {task.name}; this view is for forecasts of time series.",
            mend="`lamina inspect BUNDLE mistakes` shows where a classifier errs",
        )
    name = config.target or task.targets[0]
    if name not in task.targets:
        raise unknown_name("series", name, task.targets, where="view forecast, view.target")
    number = task.targets.index(name)
    fields = [field.name for field in subject.preprocessing.input_spec.columns["past"].fields]
    place = fields.index(name) if name in fields else number
    pipeline = Pipeline(subject.model, task, subject.preprocessing)
    errors, naive = _errors_by_step(pipeline, columns.take(_spread(columns.num_rows, config.most)), number, place)
    rows = _spread(columns.num_rows, config.windows)
    chosen = columns.take(rows)
    raw, outputs = chosen.batch(torch.arange(len(rows))), pipeline.outputs(chosen)
    arrays: dict[str, NDArray[Any]] = {
        "row": rows.numpy(),
        "past": raw["past"][:, :, place].numpy(),
        "truth": raw["future"][:, :, place].numpy(),
        **{
            key: outputs[key][:, :, number].numpy().astype(np.float32)
            for key in ("forecast", "lower", "upper")
            if key in outputs
        },
        "step_mae": errors.numpy(),
        "step_naive_mae": naive.numpy(),
    }
    timing = subject.preprocessing.input_spec.columns["past"].timing
    document = {
        "model": subject.title,
        "shown": f"forecasts of {name}, in its own units",
        "split": subject.split,
        "series": name,
        "step": describe_step(timing) if timing is not None else "",
        "horizon": task.horizon,
        "num_windows": columns.num_rows,
        "interval": task.config.coverage if "lower" in arrays else None,
        "windows": [_describe(arrays, raw, place_) for place_ in range(len(rows))],
        "mae_by_step": errors.tolist(),
        "naive_mae_by_step": naive.tolist(),
        "mae": float(errors.mean()),
        "naive_mae": float(naive.mean()),
        "means": "a model whose error lies above that of the seasonal naive forecast has learned less than to repeat the last season",
    }
    figure = partial(_draw, document, arrays, raw["past_time"], raw["future_time"])
    return ViewResult(document, _render(document), figure, arrays)


def _spread(count: int, most: int) -> Tensor:
    """At most so many rows, evenly spread, the first and the last among them."""
    if count <= most:
        return torch.arange(count)
    return torch.linspace(0, count - 1, most).round().long()


def _errors_by_step(pipeline: Pipeline, columns: WindowColumns, number: int, place: int) -> tuple[Tensor, Tensor]:
    """Mean absolute error of model and seasonal naive forecast at each step, float64 (H,)."""
    timing = pipeline.spec.columns["past"].timing
    season = min(timing.season if timing is not None else 1, columns.past_length)
    model_sum = torch.zeros(columns.horizon, dtype=torch.float64)
    naive_sum = torch.zeros(columns.horizon, dtype=torch.float64)
    repeated = columns.past_length - season + torch.arange(columns.horizon) % season
    done = 0
    for outputs in pipeline.chunks(columns):
        size = len(outputs["forecast"])
        raw = columns.batch(torch.arange(done, done + size))
        truth, past = raw["future"][:, :, place].double(), raw["past"][:, :, place].double()
        model_sum += (outputs["forecast"][:, :, number].double() - truth).abs().sum(0)
        naive_sum += (past[:, repeated] - truth).abs().sum(0)
        done += size
    return model_sum / done, naive_sum / done


def _describe(arrays: dict[str, NDArray[Any]], raw: dict[str, Tensor], place: int) -> dict[str, Any]:
    error = np.abs(arrays["forecast"][place].astype(np.float64) - arrays["truth"][place])
    found: dict[str, Any] = {
        "row": int(arrays["row"][place]),
        "begins": time_text(int(raw["future_time"][place, 0])),
        "mae": float(error.mean()),
    }
    if "lower" in arrays:
        inside = (arrays["lower"][place] <= arrays["truth"][place]) & (arrays["truth"][place] <= arrays["upper"][place])
        found["inside"] = float(inside.mean())
    return found


def _draw(document: dict[str, Any], arrays: dict[str, NDArray[Any]], before: Tensor, after: Tensor) -> bytes:
    count = len(arrays["row"])
    across = 1 if count == 1 else 2
    lines = -(-count // across)

    def paint(figure: Figure) -> None:
        top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=[lines * 1.9, 1.7])).flat
        grid = np.atleast_1d(np.asarray(top.subplots(lines, across, squeeze=False))).flat
        for place, axes in enumerate(grid):
            if place >= count:
                axes.set_visible(False)
                continue
            _paint_window(axes, document, arrays, before, after, place)
        axes = bottom.subplots()
        steps = np.arange(1, len(arrays["step_mae"]) + 1)
        axes.plot(steps, arrays["step_mae"], color=_FORECAST, label="model")
        axes.plot(steps, arrays["step_naive_mae"], color=_NAIVE, linestyle="--", label="seasonal naive")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"steps ahead ({document['step'] or 'rows'})")
        axes.set_ylabel("mean absolute error")
        axes.legend(loc="best", frameon=False)

    split = f" of the split {document['split']}" if document["split"] else ""
    return draw(
        paint,
        width=4.6 * across,
        height=1.9 * lines + 1.9,
        title=f"{document['model']}: {document['series']}, {count} of {document['num_windows']:,} windows{split}",
        note=_note(document),
    )


def _paint_window(
    axes: Axes, document: dict[str, Any], arrays: dict[str, NDArray[Any]], before: Tensor, after: Tensor, place: int
) -> None:
    horizon = arrays["truth"].shape[1]
    shown = min(_PASTS * horizon, arrays["past"].shape[1])
    past, truth, forecast = arrays["past"][place][-shown:], arrays["truth"][place], arrays["forecast"][place]
    ahead = np.arange(horizon)
    # The line of what came begins at the last row that was known.
    axes.plot(np.arange(-shown, 0), past, color=_TRUTH, linewidth=0.9)
    axes.plot(
        np.arange(-1, horizon),
        np.concatenate([past[-1:], truth]),
        color=_TRUTH,
        linewidth=0.9,
        linestyle=":",
        label="came",
    )
    if "lower" in arrays:
        label = f"{document['interval']:.0%} interval"
        axes.fill_between(
            ahead, arrays["lower"][place], arrays["upper"][place], color=_FORECAST, alpha=0.18, linewidth=0, label=label
        )
    axes.plot(ahead, forecast, color=_FORECAST, linewidth=1.2, label="forecast")
    axes.axvline(-0.5, color="#999999", linewidth=0.6)
    stamps = torch.cat([before[place][-shown:], after[place]])
    ticks = np.linspace(0, len(stamps) - 1, _TICKS).round().astype(int)
    names = [time_text(int(stamps[tick])) for tick in ticks]
    # Of months the day says nothing, of hours the seconds.
    names = [name[:7] if document["step"] == "monthly" else name.removesuffix(":00") for name in names]
    axes.set_xticks(ticks - shown, names)
    window = document["windows"][place]
    inside = f", {window['inside']:.0%} inside" if "inside" in window else ""
    axes.set_title(f"from {window['begins']}: error {window['mae']:.3g}{inside}", fontsize=8)
    if place == 0:
        axes.legend(loc="best", frameon=False)


def _note(document: dict[str, Any]) -> str:
    interval = (
        f"The shaded interval is meant to hold {document['interval']:.0%} of what comes. "
        if document["interval"]
        else ""
    )
    return (
        f"Left of the line the past, right of it what came (dotted) and the forecast. {interval}Error: mean absolute error in the units of "
        f"{document['series']}, {document['mae']:.4g} over all steps; repeating the last season: {document['naive_mae']:.4g}."
    )


def _render(document: dict[str, Any]) -> RenderableType:
    table = Table(
        box=None, pad_edge=False, header_style="bold", title=f"Forecasts of {document['series']}", title_justify="left"
    )
    for name in ("window", "begins", "error", "inside"):
        table.add_column(name, justify="left" if name == "begins" else "right")
    for window in document["windows"]:
        inside = f"{window['inside']:.0%}" if "inside" in window else ""
        table.add_row(str(window["row"]), window["begins"], f"{window['mae']:.4g}", inside)
    steps = document["mae_by_step"]
    middle = len(steps) // 2
    by_step = ", ".join(f"{steps[step]:.4g} at step {step + 1}" for step in sorted({0, middle, len(steps) - 1}))
    lines = [
        Text(f"error {document['mae']:.4g} over {document['num_windows']:,} windows: {by_step}"),
        Text(f"repeating the last season: {document['naive_mae']:.4g}"),
        Text(document["means"], style="dim"),
    ]
    return Group(table, Text(""), *lines)
