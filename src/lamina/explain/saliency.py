"""View `saliency`: which parts of an input an output hangs on, by five methods side by side.

The arrays are what the methods give (see `attributions.py`), per channel and with signs. The picture shows of gradient and
SmoothGrad the largest magnitude over the channels, of integrated gradients the sum over the channels, of occlusion and
Grad-CAM their one map; a column has one scale, so that its rows can be compared. Texts: see `token_saliency.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.explain.activations import has_gradients, last_maps, record
from lamina.explain.attributions import (
    grad_cam,
    gradient,
    integrated_gradients,
    occlusion,
    scores_of,
    smoothgrad,
)
from lamina.explain.drawing import as_picture, draw, largest, shorten, show_image, show_map, to_shares
from lamina.explain.explained import Explained, Quantity, describe_explained, explain_output, image_inputs
from lamina.explain.token_saliency import is_text, text_saliency
from lamina.explain.views import Subject, ViewResult, refusal, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["METHODS", "METHOD_TITLES", "SaliencyConfig", "pictures_of", "saliency_view"]

Method = Literal["gradient", "integrated-gradients", "smoothgrad", "occlusion", "grad-cam"]
METHODS: Final[tuple[Method, ...]] = ("gradient", "integrated-gradients", "smoothgrad", "occlusion", "grad-cam")

Floats = NDArray[np.floating[Any]]


class SaliencyConfig(Config):
    """Options of the view `saliency`."""

    method: Literal["all", "gradient", "integrated-gradients", "smoothgrad", "occlusion", "grad-cam"] = Field(
        "all", description="How relevance is measured; all: each method that the model allows."
    )
    target: str | None = Field(
        None, description="Name or number of the output that is explained; by default what is predicted, row by row."
    )
    output: Quantity = Field("logit", description="Explain the logit of the class, or its probability.")
    most: int = Field(4, description="Inputs shown at most, the first ones.", ge=1, le=64)
    baseline: float = Field(
        0.0, description="Start of integrated gradients and what covers in occlusion, as the model reads it."
    )
    steps: int = Field(64, description="Integrated gradients: points on the path.", ge=8, le=4096)
    samples: int = Field(32, description="SmoothGrad: noisy copies.", ge=1, le=1024)
    noise: float = Field(
        0.15, description="SmoothGrad: standard deviation of the noise as a share of the input's range.", gt=0, le=2
    )
    window: int | None = Field(
        None, description="Occlusion: side of the window; a sixth of the longest side by default.", ge=1
    )
    stride: int | None = Field(
        None, description="Occlusion: distance between windows; half the window by default, in volumes the whole.", ge=1
    )
    layer: str | None = Field(
        None, description="Grad-CAM: the layer whose maps are weighted; by default the last convolution."
    )
    seed: int = Field(0, description="Keys the noise of SmoothGrad.")


# A map without a unit: how much it is here beside there, within one input and not between inputs.
_RELATIVE: Final = "relative"


@dataclass(frozen=True)
class _Shown:
    """How a method is called, what its map is, and whether it has signs."""

    title: str
    source: str
    map: str
    unit: str
    signed: bool
    reduce: Callable[[Floats], Floats]


def _magnitude(values: Floats) -> Floats:
    result: Floats = np.abs(values).max(axis=0)
    return result


def _sum(values: Floats) -> Floats:
    result: Floats = values.sum(axis=0)
    return result


_SHOWN: Final[dict[str, _Shown]] = {
    "gradient": _Shown(
        "gradient", "arXiv:1312.6034", "largest magnitude over the channels", "{} per input unit", False, _magnitude
    ),
    "integrated-gradients": _Shown(
        "integrated gradients", "arXiv:1703.01365", "sum over the channels", "{}", True, _sum
    ),
    "smoothgrad": _Shown(
        "SmoothGrad", "arXiv:1706.03825", "largest magnitude over the channels", "{} per input unit", False, _magnitude
    ),
    "occlusion": _Shown("occlusion", "arXiv:1311.2901", "fall when covered, mean over windows", "{}", True, _sum),
    "grad-cam": _Shown("Grad-CAM", "arXiv:1610.02391", "weighted maps, ReLU", _RELATIVE, False, _sum),
}

METHOD_TITLES: Final = {method: shown.title for method, shown in _SHOWN.items()}


@register(
    "view",
    "saliency",
    config=SaliencyConfig,
    source="Simonyan 2013 arXiv:1312.6034; Zeiler 2014 arXiv:1311.2901; Selvaraju 2017 arXiv:1610.02391; "
    "Sundararajan 2017 arXiv:1703.01365; Smilkov 2017 arXiv:1706.03825",
    example="lamina inspect runs/digits-1 saliency --input photo.png --output saliency.png view.method=grad-cam",
    reads="input",
)
def saliency_view(subject: Subject, config: SaliencyConfig) -> ViewResult:
    """Which parts of an input a class hangs on: gradient, integrated gradients, SmoothGrad, occlusion, Grad-CAM.

    `arrays` holds one array per method, shaped like the inputs (occlusion and Grad-CAM with one channel), and `input`. Of texts it
    is one number per word and method, and the text is coloured (see `token_saliency.py`).

    Raises:
        UsageError: No input or one without positions, no such output or layer, or a model without gradients.
    """
    if is_text(subject):
        return text_saliency(
            subject,
            method=config.method,
            target=config.target,
            quantity=config.output,
            most=config.most,
            baseline=config.baseline,
            steps=config.steps,
        )
    inputs = image_inputs(subject, "saliency")[: config.most]
    explained = explain_output(subject, inputs, target=config.target, quantity=config.output, view="saliency")
    methods, left_out = _methods(subject, inputs, config)
    maps = {method: _attribute(method, subject, inputs, explained, config) for method in methods}
    rows = [describe_explained(subject, row, explained) for row in range(len(inputs))]
    for method, values in maps.items():
        for row, value in zip(rows, values, strict=True):
            row["methods"][method] = {"min": float(value.min()), "max": float(value.max()), "sum": float(value.sum())}
    if "integrated-gradients" in maps:
        start = torch.full_like(inputs, config.baseline)
        fall = explained.values - scores_of(subject.model, start, explained.target, read=explained.read)
        gaps = maps["integrated-gradients"].flatten(start_dim=1).sum(dim=1) - fall
        for row, total, gap in zip(rows, fall.tolist(), gaps.tolist(), strict=True):
            row["methods"]["integrated-gradients"].update(to_explain=total, completeness_gap=gap)
    document = {
        "model": subject.title,
        "shown": explained.in_words(),
        "quantity": explained.quantity,
        "methods": {
            method: {
                "source": _SHOWN[method].source,
                "picture": _SHOWN[method].map,
                "unit": _SHOWN[method].unit.format(explained.quantity),
                **({"layer": _layer_name(subject, inputs, config)} if method == "grad-cam" else {}),
            }
            for method in methods
        },
        "left_out": left_out,
        "baseline": config.baseline,
        "inputs": rows,
        "means": "where this network's output is sensitive; not why, and not what is relevant in the world",
    }
    figure = partial(_draw, subject, inputs, maps, rows, document)
    arrays = {"input": inputs.detach().cpu().numpy(), **{name: value.cpu().numpy() for name, value in maps.items()}}
    return ViewResult(document, _table(document), figure, arrays)


def _methods(subject: Subject, inputs: Tensor, config: SaliencyConfig) -> tuple[list[str], dict[str, str]]:
    """What is drawn, and what cannot be, with the reason."""
    left_out: dict[str, str] = {}
    if not has_gradients(subject.model):
        reason = f"{type(subject.model).__name__} has no gradients: it compares with stored rows"
        left_out = {method: reason for method in METHODS if method != "occlusion"}
    elif config.layer is None:
        with torch.no_grad():
            if last_maps(record(subject.model, inputs[:1])[0]) is None:
                left_out["grad-cam"] = "the model has no convolution"
    if config.method == "all":
        return [method for method in METHODS if method not in left_out], left_out
    if config.method in left_out:
        raise refusal(
            "saliency",
            f"The method {config.method} cannot be used: {left_out[config.method]}.",
            mend="view.method=occlusion needs neither; view.method=all shows what can be shown",
        )
    return [config.method], {}


def _attribute(method: str, subject: Subject, inputs: Tensor, explained: Explained, config: SaliencyConfig) -> Tensor:
    model, target, read = subject.model, explained.target, explained.read
    if method == "gradient":
        return gradient(model, inputs, target, read=read)
    if method == "integrated-gradients":
        return integrated_gradients(model, inputs, target, baseline=config.baseline, steps=config.steps, read=read)
    if method == "smoothgrad":
        return smoothgrad(
            model, inputs, target, noise=config.noise, samples=config.samples, seed=config.seed, read=read
        )
    if method == "occlusion":
        return occlusion(
            model, inputs, target, window=config.window, stride=config.stride, value=config.baseline, read=read
        )
    return grad_cam(model, inputs, target, layer=config.layer, read=read)


def _layer_name(subject: Subject, inputs: Tensor, config: SaliencyConfig) -> str:
    if config.layer is not None:
        return config.layer
    with torch.no_grad():
        found = last_maps(record(subject.model, inputs[:1])[0])
    return found.name if found is not None else ""


def _draw(
    subject: Subject, inputs: Tensor, maps: dict[str, Tensor], rows: Sequence[dict[str, Any]], document: dict[str, Any]
) -> bytes:
    pictures = pictures_of(subject, inputs)
    reduced = {
        method: [_SHOWN[method].reduce(value) for value in values.detach().cpu().numpy()]
        for method, values in maps.items()
    }
    quantity = document["quantity"]

    def paint(figure: Figure) -> None:
        axes = figure.subplots(len(rows), 1 + len(maps), squeeze=False)
        for place, row in enumerate(rows):
            show_image(axes[place][0], pictures[place])
            axes[place][0].set_ylabel(_row_label(row, quantity))
        axes[0][0].set_title("input")
        for column, (method, values) in enumerate(reduced.items(), start=1):
            shown = _SHOWN[method]
            if shown.unit == _RELATIVE:
                values = [value / largest(value) for value in values]
            scale = max(map(largest, values))
            axes[0][column].set_title(shown.title)
            image: Any = None
            for place, value in enumerate(values):
                image = show_map(axes[place][column], value, scale=scale, signed=shown.signed)
            bar = figure.colorbar(image, ax=list(axes[:, column]), location="bottom", shrink=0.9, aspect=16)
            bar.set_label("share of the row's largest" if shown.unit == _RELATIVE else shown.unit.format(quantity))
            bar.ax.locator_params(nbins=3)

    side = 1.5
    ratio = as_picture(pictures[0]).shape[1] / as_picture(pictures[0]).shape[2]
    high = min(max(ratio, 0.8), 2.5) * side
    note = (
        "Gradient and SmoothGrad: largest magnitude over the channels. Red raises, blue lowers the output; each column "
        "with a unit has one scale. It shows what this network's output is sensitive to, not causes in the world."
        + (" Of volumes the middle slice is drawn." if pictures[0].ndim == 4 else "")
    )
    return draw(
        paint,
        width=side * (1 + len(maps)) + 0.5,
        height=high * len(rows) + 0.7,
        title=f"{subject.title}: {document['shown']}",
        note=note,
    )


def _row_label(row: dict[str, Any], quantity: str) -> str:
    """Short, because the rows of signals are low: `predicted cat` over `logit 9.6`."""
    value, target = f"{row[quantity]:.3g}", shorten(row["target"], 12)
    if "predicted" not in row:
        return f"{target}\n{quantity} {value}"
    own = row["predicted"] == row["target"]
    return f"predicted {shorten(row['predicted'], 12)}\n{quantity}{'' if own else f' of {target}'} {value}"


def pictures_of(subject: Subject, inputs: Tensor) -> list[Floats]:
    """The inputs as shares from 0 to 1, for drawing: as they were before preprocessing where that is known."""
    given = subject.raw[: len(inputs)] if subject.raw is not None else inputs
    shown = given.detach().cpu().double().numpy()
    if subject.raw is None or subject.raw.dtype != torch.uint8:
        return [to_shares(image) for image in shown]
    maximum = None
    if subject.preprocessing is not None:
        column = subject.preprocessing.input_spec.column("image")
        maximum = column.maximum if column is not None else None
    return [to_shares(image, low=0.0, high=maximum or 255.0) for image in shown]


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    quantity = document["quantity"]
    table.add_column("input", overflow="fold")
    for name in ("target", quantity, "method", "min", "max", "sum"):
        table.add_column(name, justify="left" if name in ("target", "method") else "right")
    for row in document["inputs"]:
        for place, (method, values) in enumerate(row["methods"].items()):
            first = [row["input"], row["target"], f"{row[quantity]:.4g}"] if place == 0 else ["", "", ""]
            table.add_row(*first, method, *(f"{values[key]:.4g}" for key in ("min", "max", "sum")))
    for method, reason in document["left_out"].items():
        table.add_row("", "", "", method, reason)
    return titled(document["shown"], table)
