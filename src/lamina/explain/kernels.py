"""View `kernels`: the weights of the first layer as pictures.

For a convolution, its kernels; for a dense layer on images, what each unit looks at; for a linear model, the signed template of
each class: red pixels raise the class's score, blue ones lower it. All pictures share one scale, so that they can be compared.
"""

from __future__ import annotations

import io
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.explain.views import Subject, ViewResult

__all__ = ["KernelsConfig", "kernels_view"]

_MOST_VALUES: Final = 100_000  # written out in the document
_INCH_PER_PICTURE: Final = 0.9

Images = NDArray[np.float32]


class KernelsConfig(Config):
    """Options of the view `kernels`."""

    most: int = Field(64, description="Pictures drawn at most, the first ones.", ge=1, le=1024)
    image_shape: tuple[int, int, int] | None = Field(
        None,
        description="(channels, height, width) of what a dense first layer reads; by default from the data or a square.",
    )


@register("view", "kernels", config=KernelsConfig, example="lamina inspect mnist.bundle kernels --output kernels.png")
def kernels_view(subject: Subject, config: KernelsConfig) -> ViewResult:
    """The first layer's weights: kernels of a convolution, or the signed template of each class of a linear model.

    Raises:
        UsageError: The model has no convolution, and no dense layer whose inputs are pixels.
    """
    name, layer = _first_layer(subject.model)
    weight = layer.weight.detach().float().cpu()
    is_linear = isinstance(layer, nn.Linear)
    if is_linear:
        weight = weight.view(len(weight), *_image_shape(subject, config, weight.shape[1]))  # (units, C, H, W)
    is_template = is_linear and len([module for module in subject.model.modules() if _has_weights(module)]) == 1
    labels = _labels(subject, weight, is_template=is_template)
    document = {
        "model": subject.title,
        "layer": name,
        "kind": "template" if is_template else "unit" if is_linear else "convolution",
        "shape": list(weight.shape),
        "scale": float(weight.abs().max()),
        "kernels": [
            {
                "label": label,
                "min": float(kernel.min()),
                "max": float(kernel.max()),
                "norm": float(kernel.norm()),
                **({"values": kernel.tolist()} if weight.numel() <= _MOST_VALUES else {}),
            }
            for label, kernel in zip(labels, weight, strict=True)
        ],
    }
    figure = _draw(weight[: config.most].numpy(), labels[: config.most], title=f"{subject.title}: {name}")
    return ViewResult(document, _table(document), figure)


def _first_layer(model: nn.Module) -> tuple[str, nn.Conv2d | nn.Linear]:
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            return name or "weight", module
    raise UsageError(
        f"{type(model).__name__} has no convolution and no dense layer, so it has no kernels.",
        where="view kernels",
        accepts="a network with a convolution or a dense layer",
        mend="`lamina inspect MODEL layers` shows what it has",
    )


def _has_weights(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) and any(p.ndim >= 2 for p in module.parameters())


def _image_shape(subject: Subject, config: KernelsConfig, width: int) -> tuple[int, int, int]:
    """What the inputs of a dense layer are pixels of."""
    image = subject.spec.columns.get("image") if subject.spec is not None else None
    side = math.isqrt(width)
    known = [
        config.image_shape,
        (image.shape[0], image.shape[1], image.shape[2]) if image is not None and len(image.shape) == 3 else None,
        (1, side, side) if image is None else None,
    ]
    for shape in known:
        if shape is not None and math.prod(shape) == width:
            return shape
    raise UsageError(
        f"The {width} inputs of the first layer are not known to be the pixels of an image.",
        where="view kernels",
        accepts="a convolution, or a dense layer on images",
        mend="give image_shape=[channels, height, width] if they are pixels",
    )


def _labels(subject: Subject, weight: Tensor, *, is_template: bool) -> list[str]:
    classes = subject.spec.classes if subject.spec is not None else ()
    if is_template and len(classes) == len(weight):
        return list(classes)
    if is_template and len(weight) == 1 and len(classes) == 2:
        return [f"{classes[1]}, not {classes[0]}"]
    return [str(number) for number in range(len(weight))]


def _draw(weight: Images, labels: list[str], *, title: str) -> bytes:
    """A PNG: one picture per kernel, colour for three input channels, else signed red and blue; channels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (heavy, and needed only here)
    from matplotlib.figure import Figure  # noqa: PLC0415

    columns = min(len(weight), max(4, math.ceil(math.sqrt(len(weight)))))
    rows = math.ceil(len(weight) / columns)
    figure = Figure(figsize=(columns * _INCH_PER_PICTURE + 0.4, rows * (_INCH_PER_PICTURE + 0.2) + 0.6), dpi=120)
    canvas = FigureCanvasAgg(figure)
    scale = float(np.abs(weight).max()) or 1.0
    for place, (kernel, label) in enumerate(zip(weight, labels, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, place)
        if kernel.shape[0] == 3:
            axes.imshow(kernel.transpose(1, 2, 0) / (2 * scale) + 0.5, interpolation="nearest")
        else:
            axes.imshow(np.concatenate(kernel, axis=1), cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
        axes.set_title(label, fontsize=7, pad=2)
        axes.set_axis_off()
    figure.suptitle(title, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _table(document: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = f"{document['layer']}: {len(document['kernels'])} of {'x'.join(map(str, document['shape'][1:]))}"
    for title in (document["kind"], "min", "max", "norm"):
        table.add_column(title, justify="left" if title == document["kind"] else "right")
    for kernel in document["kernels"]:
        table.add_row(kernel["label"], *(f"{kernel[key]:.4g}" for key in ("min", "max", "norm")))
    return table
