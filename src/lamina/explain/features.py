"""View `features`: what each layer gives for an input, map by map.

Maps of one layer share a scale; layers do not. A layer without positions is drawn as bars, one per unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError, nearest
from lamina.core.registry import register
from lamina.explain.activations import Activation, record
from lamina.explain.drawing import as_picture, draw, largest, shorten, show_image, show_map
from lamina.explain.explained import image_inputs, output_names
from lamina.explain.saliency import pictures_of
from lamina.explain.views import Subject, ViewResult, refusal, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FeaturesConfig", "features_view"]

Floats = NDArray[np.floating[Any]]


class FeaturesConfig(Config):
    """Options of the view `features`."""

    row: int = Field(0, description="Which of the inputs is shown, from 0.", ge=0)
    layers: tuple[str, ...] | None = Field(
        None, description="Names of the layers shown; by default up to `most_layers` of them, evenly chosen."
    )
    most_layers: int = Field(8, description="Layers shown at most where none are named.", ge=1, le=100)
    most: int = Field(12, description="Maps drawn per layer at most, the first ones.", ge=1, le=64)


@register(
    "view",
    "features",
    config=FeaturesConfig,
    source="Zeiler 2014, arXiv:1311.2901",
    example="lamina inspect runs/digits-1 features --input photo.png --output features.png",
    reads="input",
)
def features_view(subject: Subject, config: FeaturesConfig) -> ViewResult:
    """The maps that each layer gives for an input, and the units of layers without positions.

    `arrays` holds one array per layer, (C, *positions) or (F,).

    Raises:
        UsageError: No input or one without positions, no such row or layer, or a model without layers (kNN).
    """
    inputs = image_inputs(subject, "features")
    if config.row >= len(inputs):
        raise UsageError(
            f"There is no input {config.row}; there are {len(inputs)}.",
            where="view features, view.row",
            accepts=f"0 to {len(inputs) - 1}",
            mend="view.row=0",
        )
    one = inputs[config.row : config.row + 1]
    with torch.no_grad():
        activations, _ = record(subject.model, one)
    if not activations:
        raise refusal(
            "features",
            f"{type(subject.model).__name__} has no layers that give something by themselves.",
            mend="the view mistakes shows what it gets wrong",
            usable=["layers", "mistakes", "invariance", "robustness"],
        )
    shown = _chosen(activations, config)
    arrays = {activation.name: activation.value[0].detach().cpu().numpy() for activation in shown}
    layers = [_describe(activation, arrays[activation.name]) for activation in shown]
    if activations[-1] is shown[-1] and shown[-1].value.ndim == 2:
        layers[-1]["units"] = list(output_names(subject, shown[-1].value.shape[1]))
    name = subject.input_names[config.row] if config.row < len(subject.input_names) else f"input {config.row}"
    document = {
        "model": subject.title,
        "shown": "outputs of the layers as they come, without units",
        "input": name,
        "row": config.row,
        "num_inputs": len(inputs),
        "layers": layers,
        "not_shown": [activation.name for activation in activations if activation not in shown],
    }
    picture = pictures_of(_only(subject, config.row), one)[0]
    figure = partial(_draw, subject, picture, layers, list(arrays.values()), config, _which(document))
    return ViewResult(document, _table(document), figure, arrays)


def _only(subject: Subject, row: int) -> Subject:
    raw = subject.raw[row : row + 1] if subject.raw is not None and row < len(subject.raw) else None
    return Subject(subject.model, name=subject.name, preprocessing=subject.preprocessing, raw=raw)


def _chosen(activations: list[Activation], config: FeaturesConfig) -> list[Activation]:
    by_name = {activation.name: activation for activation in activations}
    if config.layers is not None:
        for name in config.layers:
            if name not in by_name:
                near = nearest(name, by_name)
                raise UsageError(
                    f"No layer called {name!r} ran.",
                    where="view features, view.layers",
                    accepts=", ".join(by_name),
                    mend=f"did you mean {near[0]!r}?" if near else "`lamina inspect MODEL layers` names them",
                )
        return [by_name[name] for name in config.layers]
    # A layer that only hands on or reshapes (flatten, dropout in evaluation mode) shows nothing new.
    news = [
        activation
        for place, activation in enumerate(activations)
        if place == 0 or not _same(activations[place - 1].value, activation.value)
    ]
    if len(news) <= config.most_layers:
        return news
    places = np.linspace(0, len(news) - 1, config.most_layers).round().astype(int)
    return [news[place] for place in places]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and torch.equal(one.flatten(), other.flatten())


def _describe(activation: Activation, values: Floats) -> dict[str, Any]:
    flat = values.reshape(len(values), -1)
    return {
        "name": activation.name,
        "type": type(activation.module).__name__,
        "shape": list(values.shape),
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "zeros": float((values == 0).mean()),
        "silent": int((flat == 0).all(axis=1).sum()),
    }


def _draw(
    subject: Subject,
    picture: Floats,
    layers: Sequence[dict[str, Any]],
    values: Sequence[Floats],
    config: FeaturesConfig,
    name: str,
) -> bytes:
    widest = max((min(len(v), config.most) for v in values if v.ndim > 1), default=6)
    columns = max(widest, 6)

    def paint(figure: Figure) -> None:
        # A part per layer: titles that are wider than a map must not widen the maps' columns.
        parts = list(np.asarray(figure.subfigures(len(layers) + 1, 1)).flat)
        parts[0].suptitle(f"input: {name}", x=0.01, ha="left", fontsize=8)
        show_image(parts[0].add_subplot(1, 1 if picture.ndim == 2 else 4, 1), picture)
        for part, layer, value in zip(parts[1:], layers, values, strict=True):
            shape = "×".join(map(str, layer["shape"]))
            span = f"{layer['min']:.2g} to {layer['max']:.2g}"
            title = f"{layer['name']} ({layer['type']}): {shape}"
            if value.ndim == 1:
                part.suptitle(f"{title} units, {span}", x=0.01, ha="left", fontsize=8)
                axes = part.subplots()
                axes.bar(np.arange(len(value)), value, width=1.0 if len(value) > 40 else 0.8, color="#0072B2")
                axes.margins(x=0.01)
                named = list(layer.get("units", ()))
                if named and len(named) <= 20:
                    axes.set_xticks(np.arange(len(named)), [shorten(unit, 10) for unit in named])
                else:
                    axes.locator_params(axis="x", integer=True, nbins=12)
                continue
            scale, signed = largest(value), bool(value.min() < 0)
            more = f", the first {config.most} shown" if len(value) > config.most else ""
            sign = "blue − white 0 red +" if signed else "dark 0, bright high"
            part.suptitle(f"{title}, {span}{more}; {sign}", x=0.01, ha="left", fontsize=8)
            show_map(part.subplots(), _side_by_side(value[: config.most], columns), scale=scale, signed=signed)

    middle = " Of volumes the middle slice is drawn." if picture.ndim == 4 else ""
    return draw(
        paint,
        width=max(0.72 * columns, 6.0),
        height=1.02 * (len(layers) + 1),
        title=f"{subject.title}: what its layers give",
        note="One scale per layer. A bright map says that its pattern was found there, not what follows from it."
        + middle,
    )


def _side_by_side(maps: Floats, columns: int) -> Floats:
    """Maps (K, *positions) in one row of so many places, as (H, W) with gaps of NaN: one picture is laid out faster than many."""
    pictures = [as_picture(one[None])[0] for one in maps]
    height, width = pictures[0].shape
    step = width + max(1, round(0.12 * width))
    sheet = np.full((height, columns * step - (step - width)), np.nan)
    for place, picture in enumerate(pictures):
        sheet[:, place * step : place * step + width] = picture
    return sheet


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "type", "output", "min", "max", "mean", "zeros", "silent"):
        table.add_column(name, justify="left" if name in ("layer", "type", "output") else "right")
    for layer in document["layers"]:
        table.add_row(
            layer["name"],
            layer["type"],
            "x".join(map(str, layer["shape"])),
            *(f"{layer[key]:.4g}" for key in ("min", "max", "mean")),
            f"{layer['zeros']:.1%}",
            str(layer["silent"]),
        )
    return titled(_which(document), table)


def _which(document: dict[str, Any]) -> str:
    """The input's name, and that there are others, which a folder given as `--input` or a bundle's examples bring."""
    name, count = document["input"], document["num_inputs"]
    return f"{name} (one of {count}; view.row=0 to {count - 1} chooses)" if count > 1 else str(name)
