"""Numbers predicted from whole signals: regression with one positional dimension.

Source: Tan, Bergmeir, Petitjean, Webb (2021), "Time Series Extrinsic Regression", doi:10.1007/s10618-021-00745-9.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import DataSpec
from lamina.tasks.tabular_regression import RegressionConfig, TabularRegression

__all__ = ["TimeSeriesRegression"]


@register(
    "task",
    "time-series-regression",
    config=RegressionConfig,
    source="Tan, Bergmeir, Petitjean, Webb (2021), doi:10.1007/s10618-021-00745-9",
    example="lamina train adding-lstm",
    input="signal",
)
class TimeSeriesRegression(TabularRegression):
    """One or several numbers per signal; all signals have one length. The next values of a series are `time-series-forecasting`."""

    name: ClassVar[str] = "time-series-regression"

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse data without signals, and a model whose input or outputs do not fit it; one pass on meta tensors."""
        features = spec.columns.get("features")  # of flattened signals, which have no names
        if "signal" not in spec.columns and (features is None or features.fields):
            other = next((name for name in ("image", "volume") if name in spec.columns), None)
            raise DataError(
                f"The data holds {f'{other}s' if other is not None else ', '.join(spec.columns) or 'nothing'}, no signals.",
                where=f"task {self.name}",
                accepts="signals, and a number to predict of each",
                mend="for tables use task.name=tabular-regression; data.reader=signal has arrays read as signals",
            )
        super().check(spec, model)
