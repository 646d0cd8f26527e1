"""Recipes for time series: one linear layer over time, a recurrent network, a convolutional one; on transformer readings and airline passengers."""

from __future__ import annotations

from typing import Any, Final

from lamina.recipes.recipe import declare

_ZENG: Final = "Zeng, Chen, Zhang, Xu (2022), arXiv:2205.13504, table 2"
_NEEDS_ETT: Final = (
    "ETTh1.csv of the data set ETT (17,420 hourly rows, a column `date` and seven of numbers), plain or compressed"
)
# 12, 4 and 4 months of 30 days of 24 hours; the rows behind them are left out, as the literature does.
_MONTHS: Final = [8640, 11520, 14400]

declare(
    __name__,
    "series-dlinear",
    "DLinear on a time series of your own: a year of months, a day of hours ahead.",
    source=_ZENG,
    needs="a CSV with a column of dates or times at equal steps, and columns of numbers",
    task={"name": "time-series-forecasting"},
    data={"reader": "series", "test_fraction": 0.1, "valid_fraction": 0.2},
    model={"kind": "dlinear", "level": "window"},
    optimizer={"name": "adam", "lr": 5e-3},
    schedule={"name": "cosine"},
    training={"epochs": 100, "batch_size": 32, "patience": 20},
)


def _ett(name: str, summary: str, *, source: str, data: dict[str, Any], **values: Any) -> None:
    declare(
        __name__,
        name,
        summary,
        source=source,
        needs=_NEEDS_ETT,
        task={"name": "time-series-forecasting", "scale": "standardised"},
        data={"reader": "series", "boundaries": _MONTHS, "horizon": 96, **data},
        **values,
    )


_ett(
    "etth1-dlinear",
    "DLinear on ETTh1: 336 hours of seven readings, the next 96 of all seven.",
    source=_ZENG,
    data={"past_length": 336},
    model={"kind": "dlinear"},
    optimizer={"name": "adam", "lr": 5e-3},
    schedule={"name": "exponential", "gamma": 0.5, "unit": "epoch"},
    training={"epochs": 10, "batch_size": 32, "patience": 3},
)

_ett(
    "etth1-lstm",
    "An LSTM on ETTh1: 96 hours of seven readings, the next 96 of all seven.",
    source="Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; protocol of " + _ZENG,
    data={"past_length": 96},
    model={"kind": "lstm_forecaster", "hidden_size": 64, "dropout": 0.2, "level": "window"},
    optimizer={"name": "adam", "lr": 5e-4},
    schedule={"name": "cosine"},
    training={"epochs": 8, "batch_size": 64, "patience": 3, "clip_norm": 1.0},
)

_ett(
    "etth1-cnn",
    "Dilated causal convolutions on ETTh1: 96 hours of seven readings, the next 96 of all seven.",
    source="Bai, Kolter, Koltun (2018), arXiv:1803.01271; protocol of " + _ZENG,
    data={"past_length": 96},
    model={"kind": "cnn_forecaster", "channels": 32, "dropout": 0.2, "level": "window"},
    optimizer={"name": "adam", "lr": 5e-4},
    schedule={"name": "cosine"},
    training={"epochs": 6, "batch_size": 64, "patience": 3, "clip_norm": 1.0},
)

declare(
    __name__,
    "airline-lstm",
    "An LSTM on the monthly airline passengers of 1949 to 1960: three years of past, one ahead.",
    source="Box, Jenkins (1976), Time Series Analysis, series G; Hochreiter, Schmidhuber (1997)",
    needs="airline-passengers.csv (144 rows, `Month` and `Passengers`), or another monthly series",
    task={"name": "time-series-forecasting"},
    data={"reader": "series", "past_length": 36, "horizon": 12, "test_fraction": 0.17, "valid_fraction": 0.2},
    preprocess=({"name": "standardise"}, {"name": "calendar", "fields": ["month"]}),
    model={"kind": "lstm_forecaster", "hidden_size": 32, "level": "window"},
    optimizer={"name": "adam", "lr": 3e-3},
    schedule={"name": "cosine"},
    training={"epochs": 150, "batch_size": 16, "clip_norm": 1.0},
)
