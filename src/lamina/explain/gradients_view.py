"""View `gradients`: how far back in a sequence an output reaches, by the gradient at each hidden state.

The derivative of an output by the hidden state after each step, everything in between included, is what learning has to go by when it
should connect the output with that step. In a simple network it is multiplied by the recurrent weights and the slope of the
activation once per step, and shrinks or grows by a factor each time; in an LSTM the cell carries it on.

Source: Bengio, Simard, Frasconi (1994), "Learning Long-Term Dependencies with Gradient Descent is Difficult",
doi:10.1109/72.279181; Pascanu, Mikolov, Bengio (2013), arXiv:1211.5063.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.explain.drawing import CLASS_COLOURS, draw
from lamina.explain.recurrent_traces import read_sequence, sequence_inputs
from lamina.explain.views import Subject, ViewResult, titled
from lamina.tasks.bundle import load_bundle
from lamina.tasks.inputs import TOKENS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GradientsConfig", "compare_gradients", "gradients_through_time", "gradients_view"]

Floats = NDArray[np.floating[Any]]

_VANISHED: Final = 0.01  # of the gradient at the last step
_DASHES: Final = ("-", "--", ":", "-.")


class GradientsConfig(Config):
    """Options of the view `gradients`."""

    beside: str | None = Field(
        None, description="A second bundle or run, of a model that reads the same inputs, drawn beside the first."
    )
    most: int = Field(32, description="Inputs that are looked at, the first ones.", ge=1, le=1024)


@register(
    "view",
    "gradients",
    config=GradientsConfig,
    source="Bengio, Simard, Frasconi (1994), doi:10.1109/72.279181; Pascanu, Mikolov, Bengio (2013), arXiv:1211.5063",
    example="lamina inspect runs/adding-lstm-1 gradients view.beside=runs/adding-rnn-1 --output gradients.png",
    reads="input",
)
def gradients_view(subject: Subject, config: GradientsConfig) -> ViewResult:
    """Where gradients vanish: how strongly an output hangs on what was remembered at each step back, of one model or of two.

    `arrays` holds for each model and layer the median over the inputs of the gradient's norm, (T,), from the last step back, called
    `MODEL.layer1`, and its quartiles `MODEL.layer1.quartiles` (2, T).

    Raises:
        UsageError: No input, or a model without recurrent layers.
    """
    inputs = {name: value[: config.most] for name, value in sequence_inputs(subject, "gradients").items()}
    models = {subject.title: subject.model}
    if config.beside is not None:
        name = Path(config.beside).name
        models[name if name not in models else f"{name} (beside)"] = load_bundle(Path(config.beside)).model
    return compare_gradients(models, inputs)


def compare_gradients(models: Mapping[str, nn.Module], inputs: Mapping[str, Tensor] | Tensor) -> ViewResult:
    """The view `gradients` of any number of models that read the same inputs, by name.

    Args:
        models: Name -> model with recurrent layers.
        inputs: As of `gradients_through_time`.

    Raises:
        UsageError: A model has no recurrent layers, or reads something else.
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else {TOKENS: inputs}
    arrays: dict[str, Floats] = {}
    lines = []
    for name, model in models.items():
        _check_fits(model, given, name=name)
        for layer, norms in gradients_through_time(model, given).items():
            line, own = _summarise(name, layer, norms)
            lines.append(line)
            arrays |= own
    document = {
        "model": next(iter(models)),
        "shown": "norm of the derivative of the predicted output by the hidden state (and the cell state), at each step back from the last",
        "num_inputs": len(given[TOKENS]),
        "vanished_below": _VANISHED,
        "lines": lines,
        "means": "what learning can go by; not whether the network uses what it could reach",
    }
    return ViewResult(document, _table(document), partial(_draw, document, arrays), arrays)


def gradients_through_time(model: nn.Module, inputs: Mapping[str, Tensor] | Tensor) -> dict[str, Floats]:
    """The norm of the derivative of an output by the hidden state after each step, with all that lies in between.

    Args:
        model: Contains recurrent layers of `lamina.nn.recurrent`; left as it was.
        inputs: Signals float (B, C, T), tokens int64 (B, T), or by name `input_ids` and what else the model takes.

    Returns:
        `layer1`, … and `layer1.backward`, of an LSTM also `layer1.cell` -> (B, T), from the last step back: place 0 is the last
        real step of each row in the layer's own direction; NaN before the first. The output is the largest one of each row, of a model that answers at each step
        the largest one at the last step.

    Raises:
        UsageError: The model has no recurrent layers.
    """
    given = dict(inputs) if isinstance(inputs, Mapping) else {TOKENS: inputs}
    mask = given.get("attention_mask")
    with torch.enable_grad():
        read = read_sequence(model, given, view="gradients")
        output = read.output
        if output.ndim == 3:
            output = _at_last(output, mask)
        score = output.amax(dim=1).sum()
        result: dict[str, Floats] = {}
        for trace in read.traces:
            lengths = torch.full((output.shape[0],), len(trace.steps)) if mask is None else mask.sum(dim=1).cpu()
            place = lengths.unsqueeze(1) - 1 - torch.arange(len(trace.steps))  # from the last real step back
            for name in trace.steps[0]:
                norms = _norms(
                    score, [state[name] for state in trace.steps]
                )  # (B, T), the real steps of each row first
                back = norms.gather(1, place.clamp(min=0)).masked_fill(place < 0, float("nan"))
                layer = f"layer{trace.layer + 1}{'.backward' if trace.reverse else ''}"
                result[layer if name == "hidden" else f"{layer}.{name}"] = back.numpy()
    return result


def _norms(score: Tensor, steps: list[Tensor]) -> Tensor:
    """Norm of the derivative by each of the tensors (B, H): (B, T); zero where nothing depends on it."""
    found = torch.autograd.grad(score, steps, retain_graph=True, allow_unused=True)
    columns = [
        torch.zeros(len(step), dtype=torch.float64)
        if gradient is None
        else gradient.detach().double().norm(dim=1).cpu()
        for gradient, step in zip(found, steps, strict=True)
    ]
    return torch.stack(columns, dim=1)


def _at_last(output: Tensor, mask: Tensor | None) -> Tensor:
    """Of (B, T, K) what is said at the last real step (B, K)."""
    if mask is None:
        return output[:, -1]
    place = torch.arange(mask.shape[1], device=mask.device)
    last = torch.where(mask, place, 0).amax(dim=1)
    return output[torch.arange(len(output), device=output.device), last]


def _check_fits(model: nn.Module, inputs: Mapping[str, Tensor], *, name: str) -> None:
    tokens = inputs[TOKENS]
    channels = getattr(model, "in_channels", None)
    reads_tokens = hasattr(model, "vocab_size")
    if tokens.is_floating_point() == reads_tokens or (not reads_tokens and channels not in (None, tokens.shape[1])):
        got = f"signals of {tokens.shape[1]} channels" if tokens.is_floating_point() else "tokens"
        wanted = "tokens" if reads_tokens else f"signals of {channels} channels"
        raise UsageError(
            f"{name} reads {wanted}; the inputs are {got}.",
            where="view gradients, view.beside",
            accepts="models that read the same inputs",
            mend="give a second model that was trained on the same data",
        )


def _summarise(model: str, layer: str, norms: Floats) -> tuple[dict[str, Any], dict[str, Floats]]:
    """What the document says of one line, and its arrays."""
    lower, median, upper = np.nanpercentile(norms.astype(np.float64), [25, 50, 75], axis=0)
    last = float(median[0])
    relative = median / last if last > 0 else np.zeros_like(median)
    below = np.flatnonzero(relative < _VANISHED)
    steps = int(np.flatnonzero(relative > 0)[-1]) if last > 0 else 0  # beyond, it is too small for float32
    per_step = float(relative[steps] ** (1 / steps)) if steps else 0.0
    line = {
        "model": model,
        "layer": layer,
        "num_steps": len(median),
        "at_last_step": last,
        "at_first_step": float(median[-1]),
        "factor_per_step": per_step,
        "vanishes_after": int(below[0]) if len(below) else None,
    }
    return line, {f"{model}.{layer}": median, f"{model}.{layer}.quartiles": np.stack([lower, upper])}


def _draw(document: dict[str, Any], arrays: Mapping[str, Floats]) -> bytes:
    models = list(dict.fromkeys(line["model"] for line in document["lines"]))

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        number: dict[str, int] = {}
        for line in document["lines"]:
            model, layer = line["model"], line["layer"]
            place = number[model] = number.get(model, -1) + 1
            values, spread = arrays[f"{model}.{layer}"], arrays[f"{model}.{layer}.quartiles"]
            scale = line["at_last_step"] or 1.0
            back = np.arange(len(values))
            colour = CLASS_COLOURS[models.index(model) % len(CLASS_COLOURS)]
            label = f"{model}, {layer.replace('layer', 'layer ').replace('.', ', ')}"
            axes.plot(
                back, _drawable(values / scale), _DASHES[place % len(_DASHES)], color=colour, linewidth=1.4, label=label
            )
            axes.fill_between(
                back, _drawable(spread[0] / scale), _drawable(spread[1] / scale), color=colour, alpha=0.15, linewidth=0
            )
        axes.axhline(_VANISHED, color="#888888", linewidth=0.7, linestyle=":")
        axes.set_yscale("log")
        axes.set_xlabel("steps back from the last")
        axes.set_ylabel("norm of the gradient, 1 at the last step")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlim(max(line["num_steps"] for line in document["lines"]) - 1, 0)
        axes.legend(frameon=False)

    return draw(
        paint,
        width=7.0,
        height=3.6,
        title="How far back the gradient reaches",
        note=f"Derivative of the predicted output by the hidden state (and by an LSTM's cell) after each step, with everything in between; median and quartiles "
        f"over {document['num_inputs']} inputs. The dotted line is a hundredth of the last step's. Time runs to the right.",
    )


def _drawable(values: Floats) -> Floats:
    """Nothing where it is zero, which a logarithm does not show."""
    result: Floats = np.where(values > 0, values, np.nan)
    return result


def _table(document: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = ("model", "layer", "steps", "at the last", "at the first", "per step back", "below 1 % after")
    for name in names:
        table.add_column(name, justify="left" if name in ("model", "layer") else "right")
    lines: Sequence[Mapping[str, Any]] = document["lines"]
    for line in lines:
        after = line["vanishes_after"]
        table.add_row(
            line["model"],
            line["layer"],
            str(line["num_steps"]),
            f"{line['at_last_step']:.3g}",
            f"{line['at_first_step']:.3g}",
            f"x {line['factor_per_step']:.4f}",
            "never" if after is None else f"{after} steps",
        )
    return titled("gradient at what is remembered, from the last step back", table)
