"""View `activation-maximisation`: pictures that drive an output, or a map of a layer, as high as regularised ascent gets it.

The picture is found by gradient ascent from keyed noise. Regularisation keeps it from being mere noise: a penalty on the
squared distance from the starting grey and one on differences between neighbours, random shifts between the steps
(jitter), and octaves: the picture is first found coarse, then refined at twice the resolution. Coarse pictures are
interpolated to the size that the model reads, so that models of one fixed size work too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

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
from lamina.explain.activations import Activation, evaluating, has_gradients, record
from lamina.explain.attributions import not_differentiable
from lamina.explain.drawing import bare, draw, shorten, show_image, to_shares
from lamina.explain.explained import output_names
from lamina.explain.views import Subject, ViewResult, example_inputs, refusal, titled
from lamina.tasks.pipeline import model_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Bounds", "MaximisationConfig", "maximisation_view", "maximise", "pixel_bounds"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class MaximisationConfig(Config):
    """Options of the view `activation-maximisation`."""

    layer: str | None = Field(
        None,
        description="Name of the layer whose maps or units are driven; by default the model's outputs, the logits.",
    )
    units: tuple[int, ...] | None = Field(
        None, description="Numbers of the outputs, maps or units, from 0; by default the first `most`."
    )
    most: int = Field(10, description="Pictures made at most where no units are named.", ge=1, le=64)
    steps: int = Field(128, description="Steps of ascent, over all octaves together.", ge=1, le=10_000)
    step_size: float = Field(
        0.03, description="Length of a step as a share of the range of pixels, per pixel on average.", gt=0, le=1
    )
    octaves: int = Field(2, description="Resolutions from coarse to fine, each twice the last.", ge=1, le=6)
    jitter: int = Field(1, description="Largest random shift between steps, in pixels.", ge=0, le=64)
    decay: float = Field(0.1, description="Weight of the mean squared distance from the middle grey.", ge=0)
    smoothness: float = Field(
        0.1, description="Weight of the mean squared difference between neighbouring pixels.", ge=0
    )
    seed: int = Field(0, description="Keys the noise of the start and the jitter.")


@dataclass(frozen=True)
class Bounds:
    """What pixels can be, as the model reads them.

    Attributes:
        low, high: Broadcastable to (C, *positions).
        known: Whether they come from the preprocessing; else the ascent is not bounded and they only set its scale.
    """

    low: Tensor
    high: Tensor
    known: bool


@register(
    "view",
    "activation-maximisation",
    config=MaximisationConfig,
    source="Simonyan 2013, arXiv:1312.6034, section 2; octaves and jitter after Mordvintsev et al. (2015), DeepDream",
    example="lamina inspect runs/digits-1 activation-maximisation --output wanted.png view.octaves=3",
    reads="model",
)
def maximisation_view(subject: Subject, config: MaximisationConfig) -> ViewResult:
    """A picture for each class, made to raise its logit; or for each map of a layer.

    `arrays` holds `pictures` (units, C, *positions), as the model reads them.

    Raises:
        UsageError: No such layer or unit, a model of tables, or one without gradients.
    """
    model = subject.model
    if not has_gradients(model):
        raise refusal(
            "activation-maximisation",
            f"{type(model).__name__} has no gradients: it compares with stored rows.",
            mend="the view mistakes shows what it gets wrong",
            usable=["layers", "mistakes", "invariance", "robustness", "saliency (view.method=occlusion)"],
        )
    example = example_inputs(subject)
    if not isinstance(example, Tensor) or example.ndim < 3 or not example.is_floating_point():
        raise refusal(
            "activation-maximisation",
            "The model does not read images, signals or volumes, so there is no picture to make.",
            mend="for tables, `lamina report RUN` shows the weights of the first layer",
        )
    shape = tuple(example.shape[1:])
    bounds = pixel_bounds(subject, shape)
    names, count = _units(subject, shape, config.layer)
    units = list(config.units) if config.units is not None else list(range(min(count, config.most)))
    for unit in units:
        if not 0 <= unit < count:
            raise UsageError(
                f"There is no unit {unit}.",
                where="view activation-maximisation, view.units",
                accepts=f"0 to {count - 1}",
                mend="view.units=[0]",
            )
    target = torch.tensor(units, device=model_device(model))
    pictures, values = maximise(
        _scorer(model, target, config.layer),
        shape=(len(units), *shape),
        bounds=bounds,
        config=config,
        device=model_device(model),
    )
    what = "logit" if config.layer is None else "mean of the map" if _has_positions(subject, shape, config) else "unit"
    document = {
        "model": subject.title,
        "layer": config.layer or "output",
        "shown": f"pictures that raise the {what}",
        "quantity": what,
        "bounded": bounds.known,
        "units": [
            {"unit": unit, "name": names[unit], "start": first, "end": last}
            for unit, (first, last) in zip(units, values, strict=True)
        ],
        "means": "one of many inputs that the unit answers to; not what a typical example looks like",
    }
    figure = partial(_draw, subject, pictures, bounds, document)
    return ViewResult(document, _table(document), figure, {"pictures": pictures.cpu().numpy()})


def maximise(
    score: Callable[[Tensor], Tensor],
    *,
    shape: tuple[int, ...],
    bounds: Bounds,
    config: MaximisationConfig,
    device: torch.device | None = None,
) -> tuple[Tensor, list[tuple[float, float]]]:
    """Raise `score` by regularised ascent, one picture per row.

    Args:
        score: Batch (U, C, *positions) -> (U,), row u belonging to picture u.
        shape: (U, C, *positions).
        bounds: What pixels can be.

    Returns:
        The pictures, and for each the score of the start and of the end, without jitter.
    """
    device = device or torch.device("cpu")
    low, high = bounds.low.to(device), bounds.high.to(device)
    middle, half = (low + high) / 2, (high - low) / 2
    counters = torch.arange(math.prod(shape[1:]), dtype=torch.int32, device=device).view(shape[1:])
    noise = draws.normal(draws.stream_key(config.seed, "sample", "maximisation"), counters)
    # In units of half the range around the middle: -1 is the darkest, 1 the brightest.
    free = (0.1 * noise).expand(shape).clone()
    start = score((middle + half * free).detach()).detach()
    positions = tuple(shape[2:])
    done = 0
    for octave in range(config.octaves):
        size = tuple(max(1, -(-side // 2 ** (config.octaves - 1 - octave))) for side in positions)
        free = _resized(free, size)
        steps = config.steps // config.octaves + (octave < config.steps % config.octaves)
        for _ in range(steps):
            free = _step(free, score, positions, middle, half, config, number=done, bounded=bounds.known)
            done += 1
    free = _resized(free, positions)
    pictures = (middle + half * free).detach()
    ends = score(pictures).detach()
    return pictures, list(zip(start.tolist(), ends.tolist(), strict=True))


def _step(
    free: Tensor,
    score: Callable[[Tensor], Tensor],
    positions: tuple[int, ...],
    middle: Tensor,
    half: Tensor,
    config: MaximisationConfig,
    *,
    number: int,
    bounded: bool,
) -> Tensor:
    """One step of ascent; each picture's gradient is scaled to one length, so that no unit is faster than another."""
    axes = tuple(range(1, free.ndim))
    shifts = _shifts(config, number, len(positions))
    with torch.enable_grad():
        leaf = free.detach().requires_grad_(True)
        full = torch.roll(_resized(leaf, positions), shifts, dims=tuple(range(2, free.ndim)))
        gain = score(middle + half * full)
        if not gain.requires_grad:
            raise not_differentiable("view activation-maximisation")
        (slope,) = torch.autograd.grad(gain.sum(), leaf)
        penalty = config.decay * (leaf**2).mean(dim=axes) + config.smoothness * _roughness(leaf)
        (pull,) = torch.autograd.grad(penalty.sum(), leaf)
    slope = slope / (slope.square().mean(dim=axes, keepdim=True).sqrt() + 1e-12)
    # The penalties are means over the pixels; their gradient is brought to the same scale per pixel.
    direction = slope - pull * free[0].numel()
    moved = free + 2 * config.step_size * direction
    return (moved.clamp(-1, 1) if bounded else moved).detach()


def _shifts(config: MaximisationConfig, number: int, axes: int) -> tuple[int, ...]:
    if config.jitter == 0:
        return (0,) * axes
    key = draws.stream_key(config.seed, "sample", "jitter", number)
    drawn = draws.uniform(key, torch.arange(axes, dtype=torch.int32)) * (2 * config.jitter + 1)
    return tuple(int(shift) - config.jitter for shift in drawn.tolist())


def _roughness(values: Tensor) -> Tensor:
    """Mean squared difference between neighbours along all axes, (U,)."""
    total = values.new_zeros(len(values))
    for axis in range(2, values.ndim):
        if values.shape[axis] > 1:
            total = total + values.diff(dim=axis).square().mean(dim=tuple(range(1, values.ndim)))
    return total


def _resized(values: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(values.shape[2:]) == size:
        return values
    return nn.functional.interpolate(values, size=size, mode=_MODES[len(size)], align_corners=False)


def pixel_bounds(subject: Subject, shape: tuple[int, ...]) -> Bounds:
    """What the darkest and the brightest picture become in the preprocessing.

    Known where each step keeps pixels in their places; otherwise -1 and 1 set the scale and nothing is bounded.
    """
    unknown = Bounds(torch.tensor(-1.0), torch.tensor(1.0), known=False)
    preprocessing = subject.preprocessing
    column = preprocessing.input_spec.column("image") if preprocessing is not None else None
    if preprocessing is None or column is None or tuple(column.shape) != shape:
        return unknown
    if any(step.name in ("pca", "zca") for step in preprocessing.steps):
        return unknown
    maximum = column.maximum or {"uint8": 255.0, "uint16": 65535.0, "bool": 1.0}.get(column.dtype)
    if maximum is None:
        return unknown
    device = model_device(subject.model)
    ends = torch.stack([torch.zeros(shape), torch.full(shape, maximum)]).to(device)
    with torch.no_grad():
        seen = preprocessing.to(device)({"image": ends, "row": torch.arange(2)}).get("image")
    if seen is None or tuple(seen.shape[1:]) != shape:
        return unknown
    return Bounds(torch.minimum(seen[0], seen[1]).float(), torch.maximum(seen[0], seen[1]).float(), known=True)


# --- units ---------------------------------------------------------------------------------------------------------


def _try(subject: Subject, shape: tuple[int, ...]) -> tuple[list[Activation], Tensor]:
    with torch.no_grad():
        return record(subject.model, torch.zeros(1, *shape, device=model_device(subject.model)))


def _units(subject: Subject, shape: tuple[int, ...], layer: str | None) -> tuple[Sequence[str], int]:
    """Names of the units and how many there are."""
    activations, outputs = _try(subject, shape)
    if layer is None:
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            raise refusal(
                "activation-maximisation",
                f"{type(subject.model).__name__} gives no row of numbers per input.",
                mend="name a layer: view.layer=conv1",
            )
        names = output_names(subject, outputs.shape[1])
        return names[-outputs.shape[1] :], outputs.shape[1]
    found = _layer(activations, layer)
    count = found.value.shape[1]
    return [f"{layer} {number}" for number in range(count)], count


def _has_positions(subject: Subject, shape: tuple[int, ...], config: MaximisationConfig) -> bool:
    assert config.layer is not None
    return _layer(_try(subject, shape)[0], config.layer).value.ndim > 2


def _layer(activations: list[Activation], layer: str) -> Activation:
    found = next((activation for activation in activations if activation.name == layer), None)
    if found is None:
        names = [activation.name for activation in activations]
        near = nearest(layer, names)
        raise UsageError(
            f"No layer called {layer!r} ran.",
            where="view activation-maximisation, view.layer",
            accepts=", ".join(names),
            mend=f"did you mean {near[0]!r}?" if near else "`lamina inspect MODEL layers` names them",
        )
    return found


def _scorer(model: nn.Module, units: Tensor, layer: str | None) -> Callable[[Tensor], Tensor]:
    """Row u -> what is raised for it: an output, or the mean of a map."""

    def score(pictures: Tensor) -> Tensor:
        if layer is None:
            with evaluating(model):
                outputs = model(pictures)
        else:
            outputs = _layer(record(model, pictures)[0], layer).value.flatten(start_dim=2)
            outputs = outputs.mean(dim=2) if outputs.ndim == 3 else outputs
        chosen: Tensor = outputs.gather(1, units.unsqueeze(1)).squeeze(1)
        return chosen

    return score


# --- pictures ------------------------------------------------------------------------------------------------------


def _draw(subject: Subject, pictures: Tensor, bounds: Bounds, document: dict[str, Any]) -> bytes:
    values: NDArray[np.floating[Any]] = pictures.detach().cpu().double().numpy()
    low, high = bounds.low.cpu().double().numpy(), bounds.high.cpu().double().numpy()
    shares = [to_shares(value, low=low, high=high) if bounds.known else to_shares(value) for value in values]
    columns = min(len(shares), 5)
    rows = math.ceil(len(shares) / columns)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, squeeze=False)
        for place, axes in enumerate(grid.flat):
            bare(axes)
            if place >= len(shares):
                continue
            unit = document["units"][place]
            show_image(axes, shares[place])
            axes.set_title(f"{shorten(unit['name'])}\n{unit['start']:.3g} → {unit['end']:.3g}")

    scale = "Drawn in the range of pixels" if bounds.known else "Each drawn from its lowest to its highest value"
    return draw(
        paint,
        width=1.35 * columns,
        height=1.7 * rows,
        title=f"{subject.title}: {document['shown']}",
        note=f"Above each picture its name and the {document['quantity']} at the start and at the end. {scale}. "
        "One of many inputs that the unit answers to, not a typical example.",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("unit", "name", "start", "end"):
        table.add_column(name, justify="left" if name == "name" else "right")
    for unit in document["units"]:
        table.add_row(str(unit["unit"]), unit["name"], f"{unit['start']:.4g}", f"{unit['end']:.4g}")
    return titled(document["shown"], table)
