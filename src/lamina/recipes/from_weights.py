"""What a training that begins from other people's weights says before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import torch
from torch import nn

from lamina.core.config import write_yaml
from lamina.data.preprocessing import Preprocessing
from lamina.models.factory import weights_origin
from lamina.models.weights.table import Preparation

__all__ = ["other_preparation", "tell_weights"]

# Black or white may be this far from where the weights' source had it, in units of what the network reads.
TOLERANCE: Final = 0.5


class Listener(Protocol):
    """Who is told."""

    def note(self, text: str) -> None:
        """Something of interest."""

    def warn(self, text: str) -> None:
        """Something that should be known."""


def tell_weights(model: nn.Module, preprocessing: Preprocessing, listener: Listener) -> None:
    """Say what was done with the weights, and warn where images are prepared otherwise than those they were trained on."""
    origin = weights_origin(model)
    if origin is None:
        return
    for note in origin.notes:
        listener.note(note)
    if origin.preparation is not None:
        warning = other_preparation(origin.preparation, preprocessing)
        if warning is not None:
            listener.warn(warning)
    classes = preprocessing.spec.classes
    if origin.labels and classes and classes != origin.labels:
        listener.warn(
            f"The head was trained for {_some(origin.labels)}; the data has {_some(classes)}. new_head=true begins a new one."
        )


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:4]) + (f", … ({len(classes)} classes)" if len(classes) > 4 else "")


def other_preparation(wanted: Preparation, preprocessing: Preprocessing) -> str | None:
    """A sentence where black or white come out elsewhere than the weights expect; None where they do not, or nobody can say."""
    image = preprocessing.input_spec.columns.get("image")
    if image is None or image.dtype != "uint8" or image.maximum is not None or min(image.shape) < 1:
        return None
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, *image.shape)
    batch: dict[str, Any] = preprocessing({"image": ends.contiguous()})
    if "image" not in batch:
        return None
    found = batch["image"].mean(dim=(2, 3))  # (2, C)
    channels = found.shape[1]
    steps = wanted.steps(in_channels=channels)
    mean, std = (
        torch.tensor(steps[-1].get(key, [default] * channels)) for key, default in (("mean", 0.0), ("std", 1.0))
    )
    expected = torch.stack([(torch.full((channels,), end) - mean) / std for end in (wanted.low, wanted.high)])
    if float((found - expected).abs().max()) <= TOLERANCE:
        return None

    def shown(values: torch.Tensor) -> str:
        return f"{float(values.min()):.2f} to {float(values.max()):.2f}"

    yaml = write_yaml({"preprocess": [dict(step) for step in steps]}).strip().replace("\n", " ")
    return (
        f"The weights were trained on pixels from {shown(expected)}; this recipe makes them {shown(found)}. "
        f"In a recipe, {yaml} prepares them as the source did."
    )
