"""Images of one class each.

Source: the task `image-classification` of the model hubs; LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791.
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
    "image-classification",
    config=ClassificationConfig,
    source="LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791",
    example="lamina train digits",
    input="image",
)
class ImageClassification(Classification):
    """One of several classes per image.

    Reads `image`, or `features` where preprocessing made some of the images (flattened, PCA).
    """

    name: ClassVar[str] = "image-classification"

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse tables, and a model that does not fit the images or classes."""
        features = spec.columns.get("features")
        if "image" not in spec.columns and features is not None and features.fields:
            raise DataError(
                f"The data is a table with the columns {', '.join(f.name for f in features.fields[:8])}.",
                where="task image-classification",
                accepts="images",
                mend="use task.name=tabular-classification; for a table of pixels give data.shape=[height, width]",
            )
        super().check(spec, model)
