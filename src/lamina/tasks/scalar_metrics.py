"""Means of named per-row values: the metrics of a task that needs no more."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lamina.tasks.metrics import Metrics


class ScalarMetrics(Metrics):
    """Record per-row values under names; each is averaged at the end, in float64.

    Example:
        >>> import torch
        >>> metrics = ScalarMetrics()
        >>> metrics.record({"bits": torch.tensor([1.0, 3.0])})
        >>> metrics.finish()
        {'bits': 2.0}
    """

    def record(self, values: dict[str, Tensor]) -> None:
        """Take in a batch: name -> float tensor (B,), every name with the same number of rows."""
        self._rows.append({name: value.detach() for name, value in values.items()})

    def finish(self) -> dict[str, float]:
        """The mean of each name over all rows."""
        return {name: float(values.double().mean()) for name, values in self._read().items()}

    def details(self) -> dict[str, Any]:
        """Nothing more."""
        return {}
