"""Forecasts as rows of a table: one per input and step ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["forecast_rows", "is_forecast"]


def is_forecast(predictions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are forecasts of a time series."""
    return bool(predictions) and isinstance(predictions[0].get("forecast"), Mapping)


def forecast_rows(predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`input`, `step` from 1, `time` where it is known, and per series its forecast, with `NAME.lower` and `NAME.upper`.

    >>> forecast_rows([{"input": "a.csv", "times": ["1961-01-01"], "forecast": {"x": [2.0]}, "lower": {"x": [1.0]}}])
    [{'input': 'a.csv', 'step': 1, 'time': '1961-01-01', 'x': 2.0, 'x.lower': 1.0}]
    """
    rows: list[dict[str, Any]] = []
    for prediction in predictions:
        steps = len(next(iter(prediction["forecast"].values())))
        for step in range(steps):
            row: dict[str, Any] = {"input": prediction["input"], "step": step + 1}
            if "times" in prediction:
                row["time"] = prediction["times"][step]
            for name, values in prediction["forecast"].items():
                row[name] = values[step]
                row |= {f"{name}.{end}": prediction[end][name][step] for end in ("lower", "upper") if end in prediction}
            rows.append(row)
    return rows
