"""View `receptive-field`: how much of the input a layer's middle element can see, and how much it does see.

What it can see follows from kernels, strides and dilations (`nn/arithmetic.py`). What it does see is measured: the root
mean square of the gradient of the middle element with respect to each input element, over inputs and over random signs of
the channels, so that channels do not cancel one another. Luo et al. count what exceeds 4.55 % of the middle's gradient; here
of the largest one, since pooling and strides can leave the very middle without a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import UsageError, nearest
from lamina.core.registry import register
from lamina.explain.activations import Activation, has_gradients, record
from lamina.explain.attributions import not_differentiable
from lamina.explain.derivations import CONVOLUTIONS
from lamina.explain.drawing import as_picture, bare, draw, show_image, to_shares
from lamina.explain.layers import summarise
from lamina.explain.saliency import pictures_of
from lamina.explain.views import Subject, ViewResult, example_inputs, refusal, titled
from lamina.tasks.pipeline import model_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ReceptiveFieldConfig", "effective_field", "receptive_field_view"]

_THRESHOLD: Final = 1 - 0.9545  # Luo et al. (2016), section 4

Floats = NDArray[np.floating[Any]]


class ReceptiveFieldConfig(Config):
    """Options of the view `receptive-field`."""

    layers: tuple[str, ...] | None = Field(
        None,
        description="Names of the layers whose middle element is followed; by default up to `most`, evenly chosen.",
    )
    most: int = Field(4, description="Layers followed at most where none are named.", ge=1, le=24)
    draws: int = Field(
        32, description="Random signs of the channels per input; noise inputs where none is given.", ge=1
    )
    seed: int = Field(0, description="Keys signs and noise.")


@register(
    "view",
    "receptive-field",
    config=ReceptiveFieldConfig,
    source="Luo et al. (2016), arXiv:1701.04128; Araujo, Norris, Sim (2019), doi:10.23915/distill.00021",
    example="lamina inspect runs/digits-1 receptive-field --input photo.png --output field.png",
    reads="model",
)
def receptive_field_view(subject: Subject, config: ReceptiveFieldConfig) -> ViewResult:
    """What the middle of each layer's maps can see of the input, by arithmetic, and what it does see, by gradients.

    `arrays` holds one array per layer, (*positions of the input): the measured root mean square gradient.

    Raises:
        UsageError: No such layer, a model without maps (dense, tables), or one without gradients.
    """
    model = subject.model
    example = subject.inputs if _given(subject) else example_inputs(subject)
    if not isinstance(example, Tensor) or example.ndim < 3 or not example.is_floating_point():
        raise refusal(
            "receptive-field",
            "The model does not read images, signals or volumes, so nothing in it has a field of view.",
            mend="the view layers shows what it has",
        )
    inputs = _inputs(example, subject, config)
    activations = [one for one in record(model, inputs[:1].detach())[0] if one.has_positions]
    if not has_gradients(model) or not activations:
        raise refusal(
            "receptive-field",
            f"{type(model).__name__} has no maps: each of its units sees the whole input, or it compares with stored rows.",
            mend="use a model with convolutions, for example cnn or lenet5",
            usable=["layers", "kernels", "mistakes", "invariance", "robustness"],
        )
    names = _chosen(activations, config)
    can_see = {row["name"]: row["receptive_field"] for row in reversed(summarise(model, example)["layers"])}
    shape = tuple(inputs.shape[2:])
    arrays: dict[str, Floats] = {}
    layers = []
    for name in names:
        field = effective_field(model, inputs, name, num_draws=config.draws, seed=config.seed).cpu().numpy()
        arrays[name] = field
        layers.append(_describe(name, field, can_see.get(name.split(" (")[0]), shape, activations))
    document = {
        "model": subject.title,
        "shown": "gradient of the middle element with respect to the input, root mean square",
        "unit": "per input unit, as a share of the largest",
        "input_shape": list(inputs.shape[1:]),
        "inputs": "as given" if _given(subject) else "noise",
        "threshold": round(_THRESHOLD, 4),
        "layers": layers,
    }
    picture = pictures_of(subject, inputs)[0] if _given(subject) else None
    figure = partial(_draw, subject, picture, layers, list(arrays.values()))
    return ViewResult(document, _table(document), figure, arrays)


def effective_field(model: nn.Module, inputs: Tensor, layer: str, *, num_draws: int = 32, seed: int = 0) -> Tensor:
    """How strongly the middle element of a layer's maps hangs on each input position.

    Args:
        inputs: Float tensor (B, C, *positions).
        layer: Name of the activation, as `activations.record` names it.
        num_draws: Random signs of the channels per input.

    Returns:
        (*positions), >= 0: root mean square over inputs and signs of the gradient, summed in squares over the channels.

    Source: Luo et al. (2016), arXiv:1701.04128, section 3 (with signs, which make squares of channels add up).
    """
    total = torch.zeros(inputs.shape[2:], dtype=inputs.dtype, device=inputs.device)
    with torch.enable_grad():
        leaf = inputs.detach().clone().requires_grad_(True)
        found = next(one for one in record(model, leaf)[0] if one.name == layer)
        place: tuple[Any, ...] = (..., *(size // 2 for size in found.value.shape[2:]))
        middle = found.value[place]  # (B, K)
        if not middle.requires_grad:
            raise not_differentiable("view receptive-field")
        counters = torch.arange(middle.shape[1], dtype=torch.int32, device=inputs.device)
        for draw_number in range(num_draws):
            drawn = draws.uniform(draws.stream_key(seed, "sample", "signs", draw_number), counters)
            signs = torch.where(drawn < 0.5, -1.0, 1.0).to(inputs.dtype)
            keep = draw_number < num_draws - 1
            (slope,) = torch.autograd.grad((middle * signs).sum(), leaf, retain_graph=keep, allow_unused=True)
            if slope is not None:
                total += slope.square().sum(dim=1).mean(dim=0)
    return (total / num_draws).sqrt()


def _given(subject: Subject) -> bool:
    return isinstance(subject.inputs, Tensor) and not subject.inputs.is_meta


def _inputs(example: Tensor, subject: Subject, config: ReceptiveFieldConfig) -> Tensor:
    """The subject's inputs, at most 8, or as many of keyed noise."""
    if _given(subject):
        return example[:8]
    dtype = next((p.dtype for p in subject.model.parameters() if p.is_floating_point()), torch.float32)
    counters = torch.arange(8 * example[0].numel(), dtype=torch.int32).view(8, *example.shape[1:])
    return draws.normal(draws.stream_key(config.seed, "sample", "noise"), counters).to(
        model_device(subject.model), dtype
    )


def _chosen(activations: list[Activation], config: ReceptiveFieldConfig) -> list[str]:
    names = [activation.name for activation in activations]
    if config.layers is not None:
        for name in config.layers:
            if name not in names:
                near = nearest(name, names)
                raise UsageError(
                    f"No layer called {name!r} gives maps.",
                    where="view receptive-field, view.layers",
                    accepts=", ".join(names),
                    mend=f"did you mean {near[0]!r}?" if near else "`lamina inspect MODEL layers` names them",
                )
        return list(config.layers)
    sliding = [
        one.name for one in activations if isinstance(one.module, CONVOLUTIONS) or "Pool" in type(one.module).__name__
    ] or names
    if len(sliding) <= config.most:
        return sliding
    places = np.linspace(0, len(sliding) - 1, config.most).round().astype(int)
    return [sliding[place] for place in places]


def _describe(
    name: str, field: Floats, can_see: Any, shape: tuple[int, ...], activations: list[Activation]
) -> dict[str, Any]:
    strongest = float(field.max())
    above = field > _THRESHOLD * strongest if strongest > 0 else np.zeros(field.shape, dtype=bool)
    maps = next(one for one in activations if one.name == name).value.shape[2:]
    theoretical = [can_see] * len(shape) if isinstance(can_see, int) else list(can_see or shape)
    support = np.nonzero(field > 0)
    seen = [(int(axis.min()), int(axis.max()) + 1) if len(axis) else (0, 0) for axis in support]
    box = []
    for (low, high), size, length, count in zip(seen, theoretical, shape, maps, strict=True):
        # What was seen lies in the middle of what can be, unless a border cuts it off; then the middle follows
        # from the element's place.
        cut = low == 0 or high == length
        middle = (count // 2 + 0.5) * length / count if cut else (low + high) / 2
        start = round(middle - size / 2)
        box.append([start, start + size])
    return {
        "name": name,
        "maps": list(maps),
        "theoretical": theoretical,
        "effective": round(float(above.sum()) ** (1 / len(shape)), 2),
        "share": round(
            float(above.sum()) / max(1, int(np.prod([min(s, n) for s, n in zip(theoretical, shape, strict=True)]))), 4
        ),
        "box": box,
    }


def _draw(
    subject: Subject, picture: Floats | None, layers: Sequence[dict[str, Any]], fields: Sequence[Floats]
) -> bytes:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 (heavy, and needed only here)

    columns = min(len(layers), 4)
    rows = -(-len(layers) // columns)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False)
        image = None
        for place, axes in enumerate(grid.flat):
            bare(axes)
            if place >= len(layers):
                continue
            layer = layers[place]
            strength = to_shares(as_picture(fields[place][None])[0], low=0.0)
            if picture is not None and picture.ndim > 2:
                grey = as_picture(picture).mean(0)[None]
                show_image(axes, grey)
            flat = strength.shape[0] == 1
            image = axes.imshow(
                strength,
                cmap="inferno",
                vmin=0,
                vmax=1,
                interpolation="nearest",
                alpha=None if picture is None or flat else np.clip(strength * 1.5, 0.0, 0.85),
                aspect="auto" if flat else "equal",
            )
            if picture is not None and picture.ndim == 2:
                axes.plot(np.arange(strength.shape[1]), 0.45 - 0.9 * picture.mean(0), color="white", linewidth=0.7)
            (top, bottom), (left, right) = ([0, 1], layer["box"][0]) if flat else layer["box"][-2:]
            height, width = strength.shape
            top, left = max(top, 0), max(left, 0)
            bottom, right = min(bottom, height), min(right, width)
            box = (left - 0.5, top - 0.5)
            axes.add_patch(
                Rectangle(
                    box, right - left, bottom - top, fill=False, edgecolor="#00C8FF", linewidth=1.6, clip_on=False
                )
            )
            size = "×".join(map(str, layer["theoretical"]))
            axes.set_title(f"{layer['name']}\ncan see {size}\nsees about {layer['effective']:.3g} across")
        if image is not None:
            figure.colorbar(image, ax=list(grid.flat), shrink=0.8, aspect=24).set_label(
                "gradient, share of the largest"
            )

    return draw(
        paint,
        width=2.1 * columns + 0.6,
        height=2.6 * rows,
        title=f"{subject.title}: what the middle element of a layer sees of the input",
        note="Blue frame: what it can see by arithmetic, cut at the border of the image. Colour: gradient of the middle "
        "element with respect to each input element, root mean square over channels and inputs.",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("layer", "maps", "can see", "sees", "share"):
        table.add_column(name, justify="left" if name in ("layer", "maps") else "right")
    for layer in document["layers"]:
        maps, field = ("x".join(map(str, layer[key])) for key in ("maps", "theoretical"))
        table.add_row(layer["name"], maps, field, f"{layer['effective']:.3g}", f"{layer['share']:.0%}")
    return titled(document["shown"], table)
