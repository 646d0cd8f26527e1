"""The report's sections that look into the network: its layers, its first kernels or templates, its worst mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import nn

from lamina.core.strict_json import parse_json
from lamina.explain.charts import format_number
from lamina.explain.pictures import photo, signed_picture

__all__ = ["first_layer", "wrong_section"]

_MOST_PICTURES: Final = 36
_MOST_KERNELS: Final = 64
_MOST_WEIGHTS: Final = 40
_MOST_BYTES: Final = 64 << 20

Row = dict[str, Any]


def wrong_section(run: Path, *, split: str) -> dict[str, Any] | None:
    """The judged rows that the network got most wrong, as the run kept them.

    Reads `examples.json` (a list of `true`, `predicted`, `probability`, `row`, `origin`) and `examples.safetensors` with
    their `image` (N, C, H, W), uint8.
    """
    document, tensors = run / "examples.json", run / "examples.safetensors"
    if not document.is_file() or document.stat().st_size > _MOST_BYTES:
        return None
    parsed = parse_json(document.read_bytes(), where=str(document), mend="train again", max_bytes=_MOST_BYTES)
    items = parsed.get("examples", [])
    images = _images(tensors)
    caption = f"Rows of the {split} split on which the network was wrong and most sure of it."
    if not items:
        return None
    if images is not None and len(images) >= len(items):
        pictures = [
            {
                "picture": photo(image),
                "true": item.get("true"),
                "predicted": item.get("predicted"),
                "probability": f"{100 * float(item.get('probability', 0.0)):.1f} %",
                "row": item.get("row"),
                "origin": item.get("origin") or f"row {item.get('row')}",
            }
            for item, image in zip(items[:_MOST_PICTURES], images, strict=False)
        ]
        return {"caption": caption, "pictures": pictures}
    head = ["Row", "True", "Predicted", "Sureness"]
    rows = [
        {
            "cells": [
                item.get("origin") or item.get("row"),
                item.get("true"),
                item.get("predicted"),
                f"{100 * float(item['probability']):.1f} %" if "probability" in item else "",
            ],
            "css": "",
            "wide": None,
        }
        for item in items[:_MOST_PICTURES]
    ]
    return {"caption": caption, "head": head, "rows": rows, "numeric": (3,)}


def _images(path: Path) -> NDArray[np.uint8] | None:
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        return None
    try:
        image = load_file(path).get("image")
    except SafetensorError:
        return None
    return image if image is not None and image.dtype == np.uint8 and image.ndim == 4 else None


def first_layer(
    model: nn.Module, *, image_shape: tuple[int, int, int] | None, classes: tuple[str, ...], features: tuple[str, ...]
) -> dict[str, Any]:
    """The weights of the first layer that has any, in the form in which they can be read.

    Args:
        model: Any module; the first `nn.Conv2d` or `nn.Linear` in it is shown.
        image_shape: (C, H, W) of what the model reads, where it reads images whose pixels are still in their places.
        classes: Class names; a layer with one output per class is labelled with them.
        features: Names of the features of a table.

    Returns:
        `kernels` (pictures) or `weights` (a table), or nothing where neither says anything.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    if not layers:
        return {}
    first = layers[0]
    weight = first.weight.detach().to(torch.float32).cpu()
    if isinstance(first, nn.Conv2d):
        return {"kernels": _conv_kernels(weight)}
    named = len(layers) == 1 and len(classes) == len(weight)
    names = classes if named else tuple(f"unit {i}" for i in range(len(weight)))
    if image_shape is not None and weight.shape[1] == image_shape[0] * image_shape[1] * image_shape[2]:
        maps = weight.view(len(weight), *image_shape)
        if named:
            title, caption = (
                "A template for each class",
                "The score of a class is the sum of the pixels times these weights.",
            )
        else:
            title = "What the first layer looks at"
            caption = "One picture per unit of the first layer: the weight of each pixel."
        return {"kernels": _kernel_pictures(maps, names, title=title, caption=caption, large=True)}
    if len(layers) == 1 and len(features) == weight.shape[1] <= _MOST_WEIGHTS:
        outputs = names if named else ("weight",) if len(weight) == 1 else names
        return {"weights": _weight_table(weight, features, outputs)}
    return {}


def _conv_kernels(weight: torch.Tensor) -> dict[str, Any]:
    number, channels, height, width = weight.shape
    caption = f"{number} kernels of {height}×{width} over {channels} channel{'s' if channels > 1 else ''}"
    if channels not in (1, 3):
        caption += ", the mean over the channels shown"
    names = tuple(f"kernel {i}" for i in range(number))
    return _kernel_pictures(weight, names, title="First-layer kernels", caption=caption + ".", large=False)


def _kernel_pictures(
    weight: torch.Tensor, names: tuple[str, ...], *, title: str, caption: str, large: bool
) -> dict[str, Any]:
    """Pictures of (N, C, H, W) on one common scale; three channels are shown one beside the other."""
    shown = weight[:_MOST_KERNELS].numpy()
    largest = float(np.quantile(np.abs(shown), 0.995)) or 1.0
    pictures = []
    for name, kernel in zip(names, shown, strict=False):
        channels = [kernel.mean(axis=0)] if len(kernel) not in (1, 3) else list(kernel)
        joined = np.concatenate(channels, axis=1)
        pictures.append(
            {"picture": signed_picture(joined, largest=largest), "label": name, "alt": f"Weights of {name}"}
        )
    if len(weight) > _MOST_KERNELS:
        caption += f" The first {_MOST_KERNELS} of {len(weight)} are shown."
    if shown.shape[1] == 3:
        caption += " Red, green and blue stand side by side."
    scale = f"full colour at ±{format_number(largest)}, one scale for all"
    return {"title": title, "caption": caption, "pictures": pictures, "scale": scale, "large": large}


def _weight_table(weight: torch.Tensor, features: tuple[str, ...], outputs: tuple[str, ...]) -> dict[str, Any]:
    rows = [
        {"cells": [name, *(format_number(value) for value in column)], "css": "", "wide": None}
        for name, column in zip(features, weight.t().tolist(), strict=True)
    ]
    return {
        "caption": "Weight of each preprocessed feature for each output: comparable, because features share one scale",
        "head": ["Feature", *outputs],
        "rows": rows,
        "numeric": tuple(range(1, len(outputs) + 1)),
    }


def network_sections(folder):
    return {}
