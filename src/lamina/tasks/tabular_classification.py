"""Rows of a table, of one class each.

Source: the task `tabular-classification` of the model hubs; Fisher (1936), doi:10.1111/j.1469-1809.1936.tb02137.x.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import DataSpec
from lamina.tasks.classification import Classification, ClassificationConfig


@register(
    "task",
    "tabular-classification",
    config=ClassificationConfig,
    source="Fisher (1936), doi:10.1111/j.1469-1809.1936.tb02137.x",
    example="lamina train iris-mlp",
    input="features",
)
class TabularClassification(Classification):
    """One of several classes per row of a table.

    Reads `features`, which preprocessing makes of the table's numbers and categories.
    """

    name: ClassVar[str] = "tabular-classification"

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse images, and a model that does not fit the features or classes."""
        if "image" in spec.columns:
            raise DataError(
                f"The data is images shaped {spec.columns['image'].shape}.",
                where="task tabular-classification",
                accepts="a table",
                mend="use task.name=image-classification, or flatten the images in preprocess",
            )
        super().check(spec, model)
