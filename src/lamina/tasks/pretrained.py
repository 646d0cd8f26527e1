"""A model with weights from elsewhere as a bundle: the weight table gives preprocessing and class names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from lamina.core import registry
from lamina.core.errors import WeightsError
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.models.factory import create_model, model_values, weights_origin
from lamina.models.weights.matching import Origin
from lamina.models.weights.opening import Given
from lamina.tasks.base import Task
from lamina.tasks.bundle import Bundle
from lamina.tasks.pipeline import Pipeline

__all__ = ["bundle_from_weights", "source_preprocessing", "source_spec"]

_TASK: Final = "image-classification"


def bundle_from_weights(name: str, weights: str | Path | Given, **config: Any) -> Bundle:
    """A registered model with other people's weights, ready to judge and predict.

    Args:
        name: Of a model.
        weights: As `create_model` takes them.
        config: Fields of the model's Config.

    Returns:
        A Bundle, which `save` writes like any other. Its labels are the source's, or the numbers of the classes as texts
        where the source only numbers them.

    Raises:
        WeightsError: The weights do not fit, have no head, or no weight table says how their images were prepared.
    """
    model = create_model(name, seed=0, weights=weights, **config)
    origin = weights_origin(model)
    if origin is None or origin.preparation is None:
        where = origin.where if origin is not None else str(getattr(weights, "where", weights))
        raise WeightsError(
            f"These weights of {name} do not say what images they were trained on, nor what the classes are.",
            where=where,
            accepts="weights that a weight table knows (`lamina list weights`)",
            mend="give the bundle or run that they belong to, instead of the model's name",
        )
    fresh = [note for note in origin.notes if "head." in note and "anew" in note]
    if fresh:
        raise WeightsError(
            f"These weights of {name} have no head: what it said would be random.",
            where=origin.where,
            accepts="weights with a head, such as those of a whole classifier",
            mend=f"train a head first: lamina train photos-transfer --data PATH --weights {origin.where}",
        )
    described = model_values(model)
    assert described is not None
    values = described[1]
    preprocessing = source_preprocessing(origin, values)
    entry = registry.lookup("task", _TASK)
    assert entry.config is not None
    task = entry.target(entry.config(), preprocessing.spec)
    assert isinstance(task, Task)
    bundle = Bundle.from_pipeline(Pipeline(model.eval(), task, preprocessing))
    bundle.model.lamina_weights = origin  # type: ignore[assignment]
    return bundle


def source_spec(origin: Origin, values: dict[str, Any]) -> DataSpec:
    """What the source's images and labels are, as the spec of our data."""
    assert origin.preparation is not None
    height, width = values["image_size"]
    labels = origin.labels or tuple(str(number) for number in range(values["num_classes"]))
    image = ColumnSpec(
        role="image",
        dtype="uint8",
        shape=(values["in_channels"], height, width),
        resize="crop",
        crop_fraction=origin.preparation.crop_fraction,
        interpolation=origin.preparation.interpolation,
    )
    label = ColumnSpec(role="label", dtype="int64", classes=labels)
    return DataSpec(columns={"image": image, "label": label}, num_rows={})


def source_preprocessing(origin: Origin, values: dict[str, Any]) -> Preprocessing:
    """The source's preprocessing for a model of these Config values; nothing in it is learned from data."""
    spec = source_spec(origin, values)
    assert origin.preparation is not None
    image = torch.zeros(1, *spec.columns["image"].shape, dtype=torch.uint8)
    one = Columns({"image": image, "label": torch.zeros(1, dtype=torch.int64)})
    steps = origin.preparation.steps(in_channels=values["in_channels"])
    return Preprocessing.fit(steps, one, spec)
