"""How far forecasts are off, on the scale of training and in the series' own units, and against the seasonal naive forecast.

`mse`, `mae` and `rmse` are on the scale that the task is set to, as means over windows, steps and series; the other scale's
stand beside them under a longer name. `mase` and `smape` are taken in the series' own units (of `mase` they cancel out),
`coverage` is the share of true values inside their interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.tasks.metrics import Metrics

__all__ = ["ForecastMetrics", "ForecastRecords", "Scale", "compute_forecast"]

Scale = Literal["original", "standardised"]


@dataclass(frozen=True)
class ForecastRecords:
    """What was recorded of judged windows, on the CPU in float64; each number is a mean over the steps of a window.

    Attributes:
        squared, absolute: (N, T), of errors in the series' own units.
        relative: (N, T), of 2 |error| / (|true| + |forecast|).
        inside: (N, T), share of true values inside their interval; None without intervals.
        std: (T,), what training divided each series by.
        naive_error: (T,), of the seasonal naive forecast within the training rows.
    """

    squared: Tensor
    absolute: Tensor
    relative: Tensor
    inside: Tensor | None
    std: Tensor
    naive_error: Tensor

    def target(self, number: int) -> ForecastRecords:
        """The records of one of several series."""
        one = slice(number, number + 1)
        inside = self.inside[:, one] if self.inside is not None else None
        return ForecastRecords(
            self.squared[:, one],
            self.absolute[:, one],
            self.relative[:, one],
            inside,
            self.std[one],
            self.naive_error[one],
        )


Formula = Callable[[ForecastRecords], float | None]
_formulas: dict[str, Formula] = {}


def _metric(name: str, *, better: str, source: str) -> Callable[[Formula], Formula]:
    def decorate(function: Formula) -> Formula:
        _formulas[name] = function
        return register("metric", name, better=better, family="forecast", source=source)(function)

    return decorate


@_metric(
    "mase",
    better="min",
    source="Hyndman, Koehler (2006), doi:10.1016/j.ijforecast.2006.03.001, section 3; seasonal: m = data.season",
)
def mase(records: ForecastRecords) -> float | None:
    """Mean absolute error over that of the seasonal naive forecast within the training rows; below 1 is better than that.

    Each series is divided by its own; series that never change in training are left out, and undefined where all are.
    """
    varies = records.naive_error > 0
    if not bool(varies.any()):
        return None
    return float((records.absolute[:, varies] / records.naive_error[varies]).mean())


@_metric(
    "smape",
    better="min",
    source="Makridakis (1993), doi:10.1016/0169-2070(93)90079-3; as in Makridakis et al. (2020), M4",
)
def smape(records: ForecastRecords) -> float:
    """Symmetric absolute percentage error: the mean of 200 |error| / (|true| + |forecast|), from 0 to 200; 0 where both are 0."""
    return 100.0 * float(records.relative.mean())


@_metric(
    "coverage", better="max", source="Hyndman, Athanasopoulos (2021), Forecasting: Principles and Practice, section 5.5"
)
def coverage(records: ForecastRecords) -> float | None:
    """Share of true values between the lower and upper ends of their intervals; good where it is near `task.coverage`."""
    return float(records.inside.mean()) if records.inside is not None else None


def compute_forecast(records: ForecastRecords, *, scale: Scale) -> dict[str, float]:
    """All metrics of some records by name: mse, mae and rmse on `scale`, the other scale's, mase, smape and coverage."""
    found: dict[str, float] = {}
    other: Final = "standardised" if scale == "original" else "original"
    for name in (scale, other):
        unit = torch.ones_like(records.std) if name == "original" else records.std
        suffix = "" if name == scale else f"_{name}"
        squared = float((records.squared / unit.square()).mean())
        found[f"mse{suffix}"] = squared
        found[f"mae{suffix}"] = float((records.absolute / unit).mean())
        found[f"rmse{suffix}"] = math.sqrt(squared)
    found |= {name: value for name, formula in _formulas.items() if (value := formula(records)) is not None}
    return found


class ForecastMetrics(Metrics):
    """Metrics of forecasts of T series over H steps.

    Memory: about 8 (4 T + 2 H) bytes a window.

    Args:
        targets: Names of the series.
        std: (T,), what training divided each by.
        naive_error: (T,), see `lamina.data.series.naive_error`; zeros where it is not known.
        scale: Of mse, mae and rmse.
    """

    def __init__(
        self, targets: Sequence[str], *, std: Sequence[float], naive_error: Sequence[float], scale: Scale
    ) -> None:
        super().__init__()
        self.targets = tuple(targets)
        self.scale: Scale = scale
        self._std = torch.tensor(std, dtype=torch.float64)
        self._naive_error = torch.tensor(naive_error, dtype=torch.float64)

    def update(
        self, forecast: Tensor, truth: Tensor, *, lower: Tensor | None = None, upper: Tensor | None = None
    ) -> None:
        """Record a batch; nothing is read back from the device.

        Args:
            forecast, truth: float (B, H, T), in the series' own units.
            lower, upper: Ends of the intervals, likewise; both or none.

        Raises:
            ShapeError: Shapes differ; nothing is broadcast.
        """
        wanted = tuple(truth.shape)
        for name, tensor in (("forecast", forecast), ("truth", truth), ("lower", lower), ("upper", upper)):
            if tensor is not None and (
                tuple(tensor.shape) != wanted or tensor.ndim != 3 or wanted[2] != len(self.targets)
            ):
                raise ShapeError(
                    f"{name} is shaped {tuple(tensor.shape)}.",
                    where=f"ForecastMetrics.update, argument `{name}`",
                    accepts=f"(batch, steps, {len(self.targets)}), all of one shape",
                    mend="give one forecast per window, step and series",
                )
        forecast, truth = forecast.detach().double(), truth.double()
        error = (forecast - truth).abs()
        size = forecast.abs() + truth.abs()
        unit = self._std.to(error.device) if self.scale == "standardised" else 1.0
        rows = {
            "squared": error.square().mean(dim=1),
            "absolute": error.mean(dim=1),
            "relative": torch.where(size > 0, 2 * error / size.clamp(min=torch.finfo(size.dtype).tiny), 0.0).mean(
                dim=1
            ),
            "step_squared": (error / unit).square().mean(dim=2),
            "step_absolute": (error / unit).mean(dim=2),
        }
        if lower is not None and upper is not None:
            rows["inside"] = ((lower.double() <= truth) & (truth <= upper.double())).double().mean(dim=1)
        self._rows.append(rows)

    def _records(self) -> tuple[dict[str, Tensor], ForecastRecords]:
        rows = self._read()
        self._refuse_non_finite(~rows["squared"].isfinite().all(dim=1))
        records = ForecastRecords(
            rows["squared"], rows["absolute"], rows["relative"], rows.get("inside"), self._std, self._naive_error
        )
        return rows, records

    def finish(self) -> dict[str, float]:
        """mse, mae and rmse on both scales, mase, smape, and coverage where there are intervals."""
        return compute_forecast(self._records()[1], scale=self.scale)

    def details(self) -> dict[str, Any]:
        """`targets`, `scale`, `per_target` metrics, and `per_step`: mse and mae of each step of the horizon, on the scale."""
        rows, records = self._records()
        squared, absolute = rows["step_squared"].mean(dim=0).tolist(), rows["step_absolute"].mean(dim=0).tolist()
        return {
            "targets": list(self.targets),
            "scale": self.scale,
            "per_target": [
                {"target": name, **compute_forecast(records.target(number), scale=self.scale)}
                for number, name in enumerate(self.targets)
            ],
            "per_step": [
                {"step": step, "mse": mse, "mae": mae}
                for step, (mse, mae) in enumerate(zip(squared, absolute, strict=True), start=1)
            ],
        }
