"""View `kernels`: the weights of the first layer as pictures.

For a convolution in one, two or three dimensions, its kernels; for a dense layer on images, what each unit looks at; for a
linear model, the signed template of each class: red pixels raise the class's score, blue ones lower it. All pictures share
one scale, so that they can be compared. A kernel over a line is drawn with a row per channel, one over a volume as its slices
side by side.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.explain.derivations import CONVOLUTIONS
from lamina.explain.drawing import bare, draw, largest, shorten, show_map
from lamina.explain.views import Subject, ViewResult, refusal, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KernelsConfig", "kernels_view"]

_MOST_VALUES: Final = 100_000  # written out in the document
_INCH_PER_PICTURE: Final = 0.9
_MOST_CHANNELS: Final = 4  # side by side; of more, the mean is drawn

Images = NDArray[np.float32]


class KernelsConfig(Config):
    """Options of the view `kernels`."""

    most: int = Field(64, description="Pictures drawn at most, the first ones.", ge=1, le=1024)
    image_shape: tuple[int, ...] | None = Field(
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
    weight = layer.weight.detach().float().cpu().clone()
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
        "shown": "weights, per unit of what the layer reads",
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
    figure = partial(_draw, weight[: config.most].numpy(), labels[: config.most], subject=subject, document=document)
    return ViewResult(document, _table(document), figure, {"kernels": weight.numpy()})


def _first_layer(model: nn.Module) -> tuple[str, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear]:
    for name, module in model.named_modules():
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            return name or "weight", module
    raise refusal(
        "kernels",
        f"{type(model).__name__} has no convolution and no dense layer, so it has no kernels.",
        mend="`lamina inspect MODEL layers` shows what it has",
    )


def _has_weights(module: nn.Module) -> bool:
    return not any(True for _ in module.children()) and any(p.ndim >= 2 for p in module.parameters())


def _image_shape(subject: Subject, config: KernelsConfig, width: int) -> tuple[int, ...]:
    """What the inputs of a dense layer are pixels of."""
    image = subject.spec.columns.get("image") if subject.spec is not None else None
    side = math.isqrt(width)
    known = [
        config.image_shape,
        tuple(image.shape) if image is not None and len(image.shape) >= 2 else None,
        (1, side, side) if image is None else None,
    ]
    for shape in known:
        if shape is not None and math.prod(shape) == width:
            return shape
    raise UsageError(
        f"The {width} inputs of the first layer are not known to be the pixels of an image.",
        where="view kernels",
        accepts="a convolution, or a dense layer on images; the view layers shows any model",
        mend="give view.image_shape=[channels, height, width] if they are pixels",
    )


def _labels(subject: Subject, weight: Tensor, *, is_template: bool) -> list[str]:
    classes = subject.spec.classes if subject.spec is not None else ()
    if is_template and len(classes) == len(weight):
        return list(classes)
    if is_template and len(weight) == 1 and len(classes) == 2:
        return [f"{classes[1]}, not {classes[0]}"]
    return [str(number) for number in range(len(weight))]


def _draw(weight: Images, labels: list[str], *, subject: Subject, document: dict[str, Any]) -> bytes:
    """A PNG: one picture per kernel, colour for three input channels of an image, else signed red and blue."""
    scale = largest(weight)
    coloured = weight.ndim == 4 and weight.shape[1] == 3
    panels = [kernel if coloured else _panel(kernel) for kernel in weight]
    height, width = panels[0].shape[-2:]
    columns = min(len(panels), max(4, math.ceil(math.sqrt(len(panels) * height / width))), 16)
    rows = math.ceil(len(panels) / columns)
    wide = _INCH_PER_PICTURE * min(max(width / height, 1.0), 4.0)
    high = _INCH_PER_PICTURE * min(max(height / width, 0.5), 2.0) if width > height else _INCH_PER_PICTURE

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False)
        image = None
        for place, axes in enumerate(grid.flat):
            bare(axes)
            if place >= len(panels):
                continue
            if coloured:
                axes.imshow(panels[place].transpose(1, 2, 0) / (2 * scale) + 0.5, interpolation="nearest")
            else:
                image = show_map(axes, panels[place], scale=scale, signed=True)
            axes.set_title(shorten(labels[place]), fontsize=7, pad=2)
        if image is not None:
            bar = figure.colorbar(image, ax=list(grid.flat), shrink=0.8, aspect=30)
            bar.set_label("weight")

    words = {"template": "the template of each class", "unit": "what each unit weighs", "convolution": "its kernels"}
    more = f", {len(labels)} of {document['shape'][0]}" if len(labels) < document["shape"][0] else ""
    return draw(
        paint,
        width=columns * wide + 0.7,
        height=rows * (high + 0.2),
        title=f"{subject.title}, {document['layer']}: {words[document['kind']]}{more}",
        note=_arrangement(weight, coloured=coloured, scale=scale) + " One scale for all.",
    )


def _panel(kernel: Images) -> Images:
    """A kernel (C, *positions) as one picture (H, W)."""
    if kernel.ndim == 2:
        return kernel  # channels from top to bottom
    if len(kernel) > _MOST_CHANNELS:
        kernel = kernel.mean(axis=0, keepdims=True)
    if kernel.ndim == 4:  # slices of a volume side by side, channels below one another
        return _apart([_apart(list(channel), axis=1) for channel in kernel], axis=0)
    return _apart(list(kernel), axis=1)


def _apart(pictures: list[Images], *, axis: int) -> Images:
    """Pictures one after the other with a gap of one element, so that it is seen where each ends."""
    gap = list(pictures[0].shape)
    gap[axis] = 1
    parts = [part for picture in pictures for part in (np.full(gap, np.nan), picture)]
    return np.concatenate(parts[1:], axis=axis)


def _arrangement(weight: Images, *, coloured: bool, scale: float) -> str:
    """In words: how channels and axes are laid out."""
    channels = weight.shape[1]
    if coloured:
        return f"The channels are red, green and blue; middle grey is 0, the ends are ±{scale:.3g}."
    if weight.ndim == 3:
        return "A kernel over a line: one row per channel." if channels > 1 else "Kernels over a line."
    mean = f" The mean of {channels} channels is drawn." if channels > _MOST_CHANNELS else ""
    if weight.ndim == 5:
        return "A kernel over a volume: its slices side by side, first slice first." + mean
    return mean or ("The channels stand side by side." if channels > 1 else "Red raises, blue lowers.")


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in (document["kind"], "min", "max", "norm"):
        table.add_column(title, justify="left" if title == document["kind"] else "right")
    for kernel in document["kernels"]:
        table.add_row(kernel["label"], *(f"{kernel[key]:.4g}" for key in ("min", "max", "norm")))
    return titled(
        f"{document['layer']}: {len(document['kernels'])} of {'x'.join(map(str, document['shape'][1:]))}", table
    )
