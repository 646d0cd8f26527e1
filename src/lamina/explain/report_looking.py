"""The report's section that shows, for a few examples, which pixels the decision hangs on.

Kept small: the bundle's golden examples (at most four rows), pictures of at most 96 pixels a side, and no more arithmetic
than some seconds. The view `saliency` shows more, and larger.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import LaminaError
from lamina.explain.activations import has_gradients
from lamina.explain.charts import format_number
from lamina.explain.drawing import as_picture, largest
from lamina.explain.pictures import heat_picture, photo, signed_picture
from lamina.explain.report_sections import percent
from lamina.explain.saliency import METHOD_TITLES, pictures_of
from lamina.explain.subjects import subject_of
from lamina.explain.views import show_view
from lamina.tasks.bundle import Bundle
from lamina.tasks.classification import Classification

__all__ = ["saliency_section"]

_MOST_SIDE: Final = 96
_STEPS: Final = 32
_MOST_FLOPS: Final = 2e11  # some seconds on a slow machine
_COLOURS: Final = {
    "integrated-gradients": "Red raises it, blue lowers it; in Grad-CAM darker is more.",
    "gradient": "Darker is more.",
}

Floats = NDArray[np.floating[Any]]


def saliency_section(bundle: Bundle, *, flops: int) -> dict[str, Any] | None:
    """Pictures of the golden examples and of what the decision hangs on; None where the run is no image classifier.

    Args:
        flops: Of the model's forward pass for one row; decides whether integrated gradients can be afforded.
    """
    if not isinstance(bundle.task, Classification) or "image" not in bundle.spec.columns:
        return None
    subject = subject_of(bundle)
    inputs = subject.inputs
    if not isinstance(inputs, Tensor) or inputs.ndim != 4 or not has_gradients(bundle.model):
        return None
    if 3 * flops * _STEPS * len(inputs) > _MOST_FLOPS:
        methods = ["gradient", "grad-cam"]
    else:
        methods = ["integrated-gradients", "grad-cam"]
    results = {}
    for method in methods:
        try:
            results[method] = show_view("saliency", subject, method=method, steps=_STEPS)
        except LaminaError:  # a network without convolutions has no Grad-CAM
            continue
    if not results:
        return None
    rows = next(iter(results.values())).document["inputs"]
    items = []
    for place, (row, picture) in enumerate(zip(rows, pictures_of(subject, inputs), strict=False)):
        pixels = (_small(as_picture(picture)) * 255).round().astype(np.uint8)
        shown = pixels if len(pixels) in (1, 3, 4) else pixels.mean(axis=0, keepdims=True).astype(np.uint8)
        maps = [
            {"title": METHOD_TITLES[method], "picture": _map(method, result.arrays[method][place])}
            for method, result in results.items()
        ]
        items.append(
            {
                "picture": photo(shown),
                "label": row["predicted"],
                "logit": format_number(row["logit"]),
                "probability": percent(row["probability"], 1),
                "maps": maps,
            }
        )
    return {
        "caption": "Which pixels the logit of the predicted class hangs on, for a few validation rows. From top to bottom: "
        f"the picture, {', '.join(METHOD_TITLES[method] for method in results)}. {_COLOURS[methods[0]]} "
        "This is what this network is sensitive to, not a cause in the world.",
        "examples": items,
    }


def _map(method: str, values: Floats) -> str:
    flat = _small(as_picture(values)).sum(axis=0)
    if method == "integrated-gradients":
        return signed_picture(flat, largest=largest(flat))
    if method == "gradient":
        return heat_picture(np.abs(_small(as_picture(values))).max(axis=0))
    return heat_picture(flat)


def _small(values: Floats) -> Floats:
    """At most 96 pixels a side, by averaging."""
    side = max(values.shape[1:])
    if side <= _MOST_SIDE:
        return values
    factor = -(-side // _MOST_SIDE)
    pooled = torch.nn.functional.avg_pool2d(torch.from_numpy(values.astype(np.float64))[None], factor, ceil_mode=True)
    result: Floats = pooled[0].numpy()
    return result
