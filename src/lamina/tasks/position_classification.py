"""Signals and volumes of one class each: image classification with one positional dimension, or three.

Source: the tasks `time-series-classification` and `volume-classification`, named as the model hubs name theirs; Dau et al. (2019), "The UCR Time Series
Archive", arXiv:1810.07758; Tran et al. (2015), arXiv:1412.0767.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import DataSpec
from lamina.tasks.classification import Classification, ClassificationConfig


class PositionClassification(Classification):
    """One of several classes per signal or volume; `reads` names the column."""

    reads: ClassVar[str] = ""

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse data of another kind, and a model that does not fit it."""
        # Flattened signals and volumes are features without names; those of a table have them.
        features = spec.columns.get("features")
        if self.reads not in spec.columns and (features is None or features.fields):
            other = next((name for name in ("image", "signal", "volume") if name in spec.columns), None)
            raise DataError(
                f"The data holds {f'{other}s' if other is not None else ', '.join(spec.columns) or 'nothing'}, no {self.reads}s.",
                where=f"task {self.name}",
                accepts=f"{self.reads}s",
                mend=f"say data.reader={'signal' if self.reads == 'signal' else 'volume'} to have arrays read as {self.reads}s",
            )
        super().check(spec, model)


@register(
    "task",
    "time-series-classification",
    config=ClassificationConfig,
    source="Dau et al. (2019), The UCR Time Series Archive, arXiv:1810.07758",
    example="lamina train signal-cnn1d",
    input="signal",
)
class TimeSeriesClassification(PositionClassification):
    """One of several classes per series; all series have one length."""

    name: ClassVar[str] = "time-series-classification"
    reads: ClassVar[str] = "signal"


@register(
    "task",
    "volume-classification",
    config=ClassificationConfig,
    source="Ji, Xu, Yang, Yu (2013), doi:10.1109/TPAMI.2012.59; Tran et al. (2015), arXiv:1412.0767",
    example="lamina train volume-cnn3d",
    input="volume",
)
class VolumeClassification(PositionClassification):
    """One of several classes per volume or clip; all have one size."""

    name: ClassVar[str] = "volume-classification"
    reads: ClassVar[str] = "volume"
