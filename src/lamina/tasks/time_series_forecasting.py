"""The rows that follow: every step of the horizon, for one series or several, forecast at once.

A model reads scaled windows `past` (B, L, C) and gives scaled forecasts (B, H, C); the loss is taken on that scale, so that every
series counts alike whatever its unit. Forecasts come out in the series' own units.

Intervals are either learned (`interval=quantile`: three numbers per step, trained by the pinball loss) or taken from the absolute
errors on the validation split (`interval=conformal`), for each step and series. The latter hold as often as promised for rows
that can be exchanged; windows of a series cannot quite, so their coverage is approximate and is reported.

Source: the task `time-series-forecasting`, named as the model hubs name it; Koenker, Bassett (1978), doi:10.2307/1913643 (quantiles);
Vovk, Gammerman, Shafer (2005) and Lei et al. (2018), doi:10.1080/01621459.2017.1307116 (split conformal intervals).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, DataError, ShapeError, unknown_name
from lamina.core.registry import register
from lamina.data.columns import Columns, DataSpec
from lamina.data.series import WindowColumns, time_text
from lamina.nn.meta import without_values
from lamina.tasks.base import (
    AnyConfig,
    Batch,
    Context,
    DirectLearner,
    GradientUpdate,
    Losses,
    Outputs,
    Prediction,
    Stage,
    State,
    Task,
    Update,
    direct_update,
)
from lamina.tasks.forecast_metrics import ForecastMetrics, Scale
from lamina.tasks.inputs import capability
from lamina.tasks.metrics import Metrics
from lamina.tasks.objective import LossLike, Objective
from lamina.tasks.pipeline import judging

__all__ = ["ForecastingConfig", "TimeSeriesForecasting", "pinball"]

_QUANTILES: Final = 3  # lower, median, upper
_ROUNDING: Final = 1e-5  # of a series' standard deviation


class ForecastingConfig(Config):
    """What is forecast, on which scale it is judged, and how intervals are made."""

    targets: tuple[str, ...] = Field((), description="Series to forecast, by name; all by default. All are read.")
    scale: Scale = Field(
        "original",
        description="Scale of the metrics mse, mae and rmse: the series' own units, or divided by their standard deviation in "
        "training, as the literature reports them.",
    )
    interval: Literal["conformal", "quantile", "none"] = Field(
        "conformal",
        description="conformal: from the errors on the validation split; quantile: learned (model.num_quantiles=3); none.",
    )
    coverage: float = Field(0.9, description="Share of true values that intervals shall hold.", gt=0, lt=1)
    loss: dict[str, Any] | None = Field(
        None,
        description="`name` of a loss of numbers: mse, mae, huber (the recipe's section `loss`); mse by default. Quantiles bring "
        "their own.",
    )
    penalties: tuple[dict[str, Any], ...] = Field(
        (), description="Penalties on parameters (the recipe's section `penalties`)."
    )


class _Widths:
    """Half widths of intervals by `series/step`, as a bundle keeps them among its thresholds."""

    def __init__(self) -> None:
        self.values: Tensor | None = None  # (H, T)
        self.named: dict[str, float] = {}

    def given(self) -> dict[str, float]:
        """By name; empty before they are chosen."""
        return dict(self.named)


@register(
    "task",
    "time-series-forecasting",
    config=ForecastingConfig,
    source="Hyndman, Athanasopoulos (2021), Forecasting: Principles and Practice; Zhou et al. (2021), arXiv:2012.07436",
    example="lamina train etth1-dlinear --data ETTh1.csv.gz",
    input="past",
)
class TimeSeriesForecasting(Task):
    """The next rows of a time series.

    Args:
        config: A ForecastingConfig.
        spec: The data's spec, raw or preprocessed, with the windows' columns.
        loss: A function of your own, (outputs, targets, weights) -> (sum, weight), of scaled numbers (B, H * T).

    Raises:
        DataError: The data is no time series.
        UnknownNameError: A target is no series of the data.
    """

    Config = ForecastingConfig
    config: ForecastingConfig
    name: ClassVar[str] = "time-series-forecasting"

    def __init__(self, config: AnyConfig, spec: DataSpec, *, loss: LossLike | None = None) -> None:
        super().__init__(config, spec)
        future, past = spec.columns.get("future"), spec.columns.get("past")
        if future is None or past is None:
            raise DataError(
                f"The data has no windows of a time series; it has {', '.join(spec.columns) or 'nothing'}.",
                where=f"task {self.name}",
                accepts="a CSV with a column of dates or times and columns of numbers, in time order",
                mend="data.reader=series reads a file as a time series; for rows without time use task.name=tabular-regression",
            )
        self.horizon, width = future.shape
        names = [field.name for field in future.fields] or [f"series {number}" for number in range(width)]
        for name in self.config.targets:
            if name not in names:
                raise unknown_name("series", name, names, where="task.targets")
        self.targets = self.config.targets or tuple(names)
        self._places = [names.index(name) for name in self.targets]
        mean, std = future.mean or (0.0,) * width, future.std or (1.0,) * width
        timing = future.timing
        naive = (timing.naive_error if timing is not None else ()) or (0.0,) * width
        self.mean = tuple(mean[place] for place in self._places)
        self.std = tuple(std[place] for place in self._places)
        self.naive_error = tuple(naive[place] for place in self._places)
        self.thresholds = _Widths()
        self._is_quantile = self.config.interval == "quantile"
        if self._is_quantile and self.config.loss is not None:
            raise ConfigError(
                "Intervals by quantiles bring their own loss, and another is given.",
                where="loss",
                accepts="no loss with task.interval=quantile",
                mend="leave loss out, or use task.interval=conformal",
            )
        self.objective = Objective(
            loss or self.config.loss or {"name": "mse"}, self.config.penalties, kind="number", prefix="standardised_"
        )
        tail = (1.0 - self.config.coverage) / 2
        self.levels = (tail, 0.5, 1.0 - tail)

    # --- checks ---

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse a model whose input or forecasts do not fit the data; one pass without values."""
        past, future = spec.columns["past"], spec.columns["future"]
        with judging(model), without_values(model):
            shape = tuple(model(torch.empty(2, *past.shape, device="meta")).shape)
        wanted = (2, *future.shape, _QUANTILES) if self._is_quantile else (2, *future.shape)
        if shape != wanted:
            quantiles = len(shape) != len(wanted)
            raise ShapeError(
                f"{type(model).__name__} gives forecasts shaped {shape} for 2 windows.",
                where=f"{self.name}, model",
                accepts=f"{wanted}: windows, steps, series" + (", quantiles" if self._is_quantile else ""),
                mend=f"set model.num_quantiles={_QUANTILES if self._is_quantile else 1}, or task.interval="
                f"{'conformal' if self._is_quantile else 'quantile'}"
                if quantiles
                else "leave model.horizon and model.out_channels out to have them filled in from the data",
            )
        if not self._is_quantile:
            self.objective.check(model, self.horizon * len(self.targets))

    def check_columns(self, columns: Columns) -> None:
        """Refuse numbers that are not finite; one scan of the series, not of its windows."""
        values = columns.stretch.whole if isinstance(columns, WindowColumns) else columns["past"]
        bad = ~values.isfinite()
        if bool(bad.any()):
            row = int(bad.flatten(1).any(dim=1).nonzero()[0, 0])
            raise DataError(
                f"The series holds {int(bad.sum())} numbers that are missing or not finite.",
                where=f"row {row} of the series",
                accepts="finite numbers",
                mend="data.gaps=interpolate or previous fills empty cells",
            )

    # --- what a batch means ---

    def input_columns(self) -> Iterable[str]:
        """The past, and the time stamps, which say the calendar and name the forecasts."""
        return ("past", "past_time", "future_time")

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """`forecast` (B, H, T) in the series' own units, `standardised` as the model gave it; `lower`, `upper`, `time` (B, H)."""
        given = model(batch["past"])
        if given.dtype != torch.float64:
            given = given.float()
        chosen = given[:, :, self._places]  # (B, H, T) or (B, H, T, 3)
        mean, std = chosen.new_tensor(self.mean), chosen.new_tensor(self.std)
        middle = chosen[..., 1] if self._is_quantile else chosen
        outputs: Outputs = {"forecast": middle * std + mean, "standardised": chosen}
        if self._is_quantile:
            # Quantiles that cross are put into order; the median stays the forecast.
            ends = chosen[..., (0, 2)]
            outputs["lower"] = torch.minimum(ends.amin(dim=-1), middle) * std + mean
            outputs["upper"] = torch.maximum(ends.amax(dim=-1), middle) * std + mean
        elif self.thresholds.values is not None:
            width = self.thresholds.values.to(chosen)
            outputs["lower"], outputs["upper"] = outputs["forecast"] - width, outputs["forecast"] + width
        if "future_time" in batch:
            outputs["time"] = batch["future_time"]
        return outputs

    def _truth(self, batch: Batch) -> Tensor:
        """The scaled future of the targets (B, H, T)."""
        future = batch["future"]
        return future if len(self._places) == future.shape[2] else future[:, :, self._places]

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """One update: descend the loss of scaled forecasts, or nothing to learn at all."""
        if isinstance(model, DirectLearner):
            return (direct_update(model, lambda batch: (batch["past"], batch["future"])),)

        def loss(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            given = self.forward(model, batch, ctx)["standardised"]
            truth = self._truth(batch)
            if self._is_quantile:
                losses = Losses()
                losses.add("standardised_pinball", pinball(given, truth, self.levels), float(given.numel()))
                for penalty in self.objective.penalties:
                    losses.add(penalty.name, penalty(model.named_parameters()), 1.0, factor=penalty.strength)
                return losses, state
            return self.objective(model, given.flatten(1), truth.flatten(1)), state

        return (GradientUpdate("train", model, loss),)

    def stages(self, model: nn.Module) -> Sequence[Stage]:
        """One; of a single pass where there is nothing to learn."""
        return (Stage(epochs=1 if capability(model, "single_pass") else None),)

    # --- judging and predicting ---

    def metrics(self) -> Metrics:
        """Errors on both scales, mase, smape and coverage."""
        return ForecastMetrics(self.targets, std=self.std, naive_error=self.naive_error, scale=self.config.scale)

    def judge(self, outputs: Outputs, batch: Batch, metrics: Metrics) -> None:
        """Record forecasts and what came."""
        assert isinstance(metrics, ForecastMetrics)
        truth = self._truth(batch).double()
        mean, std = truth.new_tensor(self.mean), truth.new_tensor(self.std)
        metrics.update(outputs["forecast"], truth * std + mean, lower=outputs.get("lower"), upper=outputs.get("upper"))

    @property
    def monitor(self) -> tuple[str, str]:
        """The mean squared error on the task's scale."""
        return ("mse", "min")

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """Per window `forecast`, `lower` and `upper` by series, a number per step, and `times`, where the stamps are known."""
        names = [name for name in ("forecast", "lower", "upper") if name in outputs]
        predictions: list[Prediction] = []
        for row in range(len(outputs["forecast"])):
            found: Prediction = {}
            if "time" in outputs:
                found["times"] = [time_text(stamp) for stamp in outputs["time"][row].tolist()]
            for name in names:
                found[name] = dict(zip(self.targets, outputs[name][row].T.tolist(), strict=True))
            predictions.append(found)
        return predictions

    # --- intervals ---

    @property
    def chooses_thresholds(self) -> bool:
        """Whether intervals come from the errors on the validation split."""
        return self.config.interval == "conformal"

    def choose_thresholds(self, outputs: Outputs, columns: Columns) -> dict[str, float]:
        """Half widths of the intervals: for each step and series the error that `coverage` of the windows do not exceed.

        The quantile is the ceil((n + 1) * coverage)-th smallest of n absolute errors, the largest where that is more than n.
        """
        truth = torch.cat([batch["future"][:, :, self._places] for batch in columns.chunks(1024)])
        errors = (outputs["forecast"].double() - truth.double()).abs()  # (N, H, T)
        rank = min(math.ceil((len(errors) + 1) * self.config.coverage), len(errors))
        # A little wider, so that rounding does not put the very value that sets the width outside.
        widths = errors.kthvalue(rank, dim=0).values + _ROUNDING * errors.new_tensor(self.std)  # (H, T)
        named = {
            f"{name}/{step + 1}": float(widths[step, number])
            for number, name in enumerate(self.targets)
            for step in range(self.horizon)
        }
        self.thresholds_from(named)
        return named

    def thresholds_from(self, values: Mapping[str, float]) -> None:
        """Use these half widths (as a bundle keeps them), one per series and step.

        Raises:
            ConfigError: One is missing, left over or negative.
        """
        if not values:
            return
        wanted = [f"{name}/{step + 1}" for name in self.targets for step in range(self.horizon)]
        strange = sorted(set(values) ^ set(wanted))
        negative = [key for key, value in values.items() if not value >= 0 or math.isinf(value)]
        if strange or negative:
            raise ConfigError(
                f"The intervals do not fit: {', '.join((strange or negative)[:6])}.",
                where="thresholds",
                accepts=f"a width of at least 0 for each of {len(self.targets)} series and {self.horizon} steps",
                mend="train again, or take the bundle as it was saved",
            )
        self.thresholds.named = {key: float(values[key]) for key in wanted}
        flat = torch.tensor([self.thresholds.named[key] for key in wanted], dtype=torch.float64)
        self.thresholds.values = flat.view(len(self.targets), self.horizon).T.contiguous()


def pinball(forecast: Tensor, truth: Tensor, levels: Sequence[float]) -> Tensor:
    """Sum of the quantile loss: level * (y - q) where the truth lies above, (1 - level) * (q - y) where it lies below.

    Args:
        forecast: float (…, Q), one quantile per level.
        truth: float (…).

    Source: Koenker, Bassett (1978), "Regression Quantiles", doi:10.2307/1913643.

    >>> float(pinball(torch.tensor([[1.0, 2.0]]), torch.tensor([3.0]), (0.1, 0.9)))  # 0.1 * 2 + 0.9 * 1
    1.100000023841858
    """
    above = truth.unsqueeze(-1) - forecast
    share = forecast.new_tensor(levels)
    return torch.maximum(share * above, (share - 1) * above).sum()
