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

from lamina.core.errors import RunError
from lamina.core.run import RunFolder
from lamina.core.strict_json import parse_json
from lamina.explain.charts import format_number
from lamina.explain.layers import summarise
from lamina.explain.pictures import photo, signed_picture
from lamina.explain.report_looking import saliency_section
from lamina.explain.report_sections import percent
from lamina.explain.views import Subject, example_inputs
from lamina.tasks.bundle import Bundle, load_bundle

__all__ = ["first_layer", "layers_section", "network_sections", "wrong_section"]

_MOST_PICTURES: Final = 36
_MOST_KERNELS: Final = 64
_MOST_WEIGHTS: Final = 40
_MOST_BYTES: Final = 64 << 20

Row = dict[str, Any]


def wrong_section(run: Path) -> dict[str, Any] | None:
    """The judged rows that the network got most wrong, as the run kept them (see `lamina.tasks.mistakes`).

    Raises:
        RunError: `examples.json` is not what Lamina writes.
    """
    document = run / "examples.json"
    if not document.is_file():
        return None
    parsed = parse_json(
        document.read_bytes()[: _MOST_BYTES + 1],
        where=str(document),
        mend="remove the file",
        max_bytes=_MOST_BYTES,
        error=RunError,
    )
    items = [item for item in parsed.get("examples", ()) if isinstance(item, dict)][:_MOST_PICTURES]
    if not items:
        return None
    numbers = any("error" in item for item in items)
    split = parsed.get("split", "judged")
    what = "with the largest errors" if numbers else "on which the network was wrong and most sure of it"
    caption = f"Rows of the {split} split {what}."
    images = _images(run / "examples.safetensors")
    if images is not None and len(images) >= len(items) and not numbers:
        pictures = [
            {
                "picture": photo(image),
                "true": item.get("true"),
                "predicted": item.get("predicted"),
                "probability": _sureness(item),
                "row": item.get("row"),
                "origin": _place(item),
            }
            for item, image in zip(items, images, strict=False)
        ]
        return {"caption": caption, "pictures": pictures}
    rows = [
        {
            "cells": [
                _place(item),
                _value(item.get("true")),
                _value(item.get("predicted")),
                _value(item.get("error")) if numbers else _sureness(item),
            ],
            "css": "",
            "wide": None,
        }
        for item in items
    ]
    last = "Error in standard deviations" if numbers else "Sureness"
    return {"caption": caption, "head": ["Row", "True", "Predicted", last], "rows": rows, "numeric": (3,)}


def _place(item: dict[str, Any]) -> str:
    """Where the row came from: file and folder without the way to them, which is nobody else's business."""
    origin = item.get("origin")
    return "/".join(str(origin).split("/")[-2:]) if origin else f"row {item.get('row')}"


def _sureness(item: dict[str, Any]) -> str:
    probability = item.get("probability")
    return percent(probability, 1) if isinstance(probability, int | float) else ""


def _value(value: Any) -> str:
    if isinstance(value, int | float):
        return format_number(float(value))
    if isinstance(value, list):
        return ", ".join(_value(part) for part in value)
    return "" if value is None else str(value)


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


# --- from the bundle -----------------------------------------------------------------------------------------------


def network_sections(folder: RunFolder) -> dict[str, Any]:
    """`layers`, `saliency`, and `kernels` or `weights`, of the run's bundle; nothing where the run has none yet.

    Raises:
        BundleError: The bundle is damaged.
    """
    if not folder.bundle_folder.is_dir():
        return {}
    bundle = load_bundle(folder.bundle_folder)
    preprocessing = bundle.pipeline.preprocessing
    subject = Subject(bundle.model, spec=preprocessing.spec, preprocessing=preprocessing)
    sections = first_layer(
        bundle.model,
        image_shape=_image_shape(bundle),
        classes=bundle.spec.classes,
        features=_feature_names(bundle),
    )
    document = summarise(bundle.model, example_inputs(subject))
    sections["saliency"] = saliency_section(bundle, flops=document["flops"])
    return {**sections, "layers": layers_section(document)}


def _image_shape(bundle: Bundle) -> tuple[int, int, int] | None:
    """Shape of the images, unless a step has mixed their pixels."""
    column = bundle.spec.columns.get("image")
    mixed = any(step.name == "pca" for step in bundle.pipeline.preprocessing.steps)
    if column is None or mixed or len(column.shape) != 3 or min(column.shape) < 1:
        return None
    channels, height, width = column.shape
    return channels, height, width


def _feature_names(bundle: Bundle) -> tuple[str, ...]:
    column = bundle.pipeline.preprocessing.spec.columns.get("features")
    return tuple(field.name for field in column.fields) if column is not None else ()


def layers_section(document: dict[str, Any]) -> dict[str, Any]:
    """The document of the view `layers` as a table of the page."""
    rows = [
        {
            "cells": [
                layer["name"] + (" (again)" if layer["is_repeat"] else ""),
                layer["type"],
                _shape(_one_row(layer["output_shape"])),
                f"{layer['num_parameters']:,}",
                f"{layer['num_buffers']:,}",
                f"{layer['flops']:,}",
                _shape(layer["receptive_field"]),
                layer["how"],
            ],
            "css": "",
            "wide": 7,
        }
        for layer in document["layers"]
    ]
    statistics = f" and {document['num_buffers']:,} running statistics" if document["num_buffers"] else ""
    return {
        "summary": f"{document['num_parameters']:,} learned parameters{statistics} in "
        f"{document['num_weighted_layers']} layers with weights; {document['flops']:,} floating-point operations "
        "for one row, two per multiply-add of products and convolutions.",
        "caption": "Layers in the order in which they run; what one element of the output can see of the input's side",
        "head": ["Layer", "Type", "Output", "Parameters", "Statistics", "FLOPs", "Sees", "How the size came about"],
        "rows": rows,
        "numeric": (3, 4, 5, 6),
    }


def _one_row(shape: Any) -> Any:
    """A shape without its batch axis; several shapes likewise."""
    if not isinstance(shape, list):
        return shape
    return [_one_row(part) for part in shape] if any(isinstance(part, list) for part in shape) else shape[1:]


def _shape(value: Any) -> str:
    """`[6, 24, 24]` as 6×24×24; several shapes one after another."""
    if value is None:
        return ""
    if not isinstance(value, list):
        return str(value)
    if any(isinstance(part, list) for part in value):
        return ", ".join(_shape(part) for part in value)
    return "×".join(str(part) for part in value)
