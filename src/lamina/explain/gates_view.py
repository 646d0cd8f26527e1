"""View `gates`: what an LSTM's or GRU's gates do, step by step, along one input, and what the cells hold meanwhile.

A heat map per gate: a row per unit, a column per step. Units are sorted by how much they keep on average, so that those which
remember longest are at the top, and stand in the same order in all maps of a layer.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.explain.drawing import draw, largest, shorten
from lamina.explain.recurrent_traces import check_row, read_sequence, sequence_inputs, step_names
from lamina.explain.views import Subject, ViewResult, refusal, titled
from lamina.nn.recurrent import LayerTrace
from lamina.tasks.inputs import TOKENS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GatesConfig", "gates_view"]

Floats = NDArray[np.floating[Any]]

# Which gate keeps the past, of each kind of network.
_KEEPS: Final = {"lstm": "forget", "gru": "update"}
_MEANS: Final = {
    "forget": "forget gate: 1 keeps the cell, 0 empties it",
    "input": "input gate: 1 writes to the cell, 0 leaves it",
    "output": "output gate: 1 shows the cell, 0 hides it",
    "reset": "reset gate: 1 lets the candidate see the past, 0 hides it",
    "update": "update gate: 1 keeps the past, 0 takes the candidate",
    "candidate": "candidate: what would be written",
    "cell": "cell state: what is remembered",
    "hidden": "hidden state: what is given on",
}
_MOST_NAMES: Final = 48  # steps that are named below the maps


class GatesConfig(Config):
    """Options of the view `gates`."""

    row: int = Field(0, description="Which of the inputs is shown, from 0.", ge=0)
    layer: int | None = Field(None, description="Which layer is drawn, from 1 at the input; all by default.", ge=1)
    most: int = Field(
        64, description="Units drawn per layer at most: those that keep most, and those that keep least.", ge=2, le=512
    )
    most_layers: int = Field(2, description="Layers drawn at most where none is named; arrays hold all.", ge=1, le=16)


@register(
    "view",
    "gates",
    config=GatesConfig,
    source="Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735; Karpathy, Johnson, Fei-Fei (2015), arXiv:1506.02078",
    example="lamina inspect runs/adding-lstm-1 gates --output gates.png",
    reads="input",
)
def gates_view(subject: Subject, config: GatesConfig) -> ViewResult:
    """An LSTM's or GRU's gates and cell state along a sentence or signal: a heat map per gate and layer.

    `arrays` holds `layer1.forget` and so on, one (T, H) per gate, and `layer1.cell` and `layer1.hidden`; what reads from the end
    is called `layer1.backward.…`, its columns being where in the sequence it happened.

    Raises:
        UsageError: No input, no such row or layer, or a model without gates.
    """
    inputs = sequence_inputs(subject, "gates")
    check_row(config.row, inputs, view="gates")
    one = {name: value[config.row : config.row + 1] for name, value in inputs.items()}
    with torch.no_grad():
        read = read_sequence(subject.model, one, view="gates")
    if read.kind not in _KEEPS:
        raise refusal(
            "gates",
            "A simple recurrent network has no gates: what it remembers is its last activation.",
            mend="the view gradients shows how far back its errors reach; model.kind=lstm and gru have gates",
        )
    traces = _chosen(read.traces, config)
    mask = one.get("attention_mask")
    real = slice(None) if mask is None else mask[0].cpu().numpy()
    arrays: dict[str, Floats] = {}
    layers = []
    for trace in read.traces:
        own = {name: value[0].cpu().numpy()[real] for name, value in {**trace.gates, **trace.states}.items()}
        layers.append(_describe(trace, own, _KEEPS[read.kind]))
        arrays |= {f"{_name(trace)}.{name}": values for name, values in own.items()}
    names = step_names(subject, one, 0)
    document = {
        "model": subject.title,
        "shown": f"the gates of {'an LSTM' if read.kind == 'lstm' else 'a GRU'} and what its units hold, step by step",
        "input": subject.input_names[config.row] if config.row < len(subject.input_names) else f"input {config.row}",
        "num_steps": len(next(iter(arrays.values()))),
        "steps": names,
        "layers": layers,
        "keeps": _KEEPS[read.kind],
    }
    signal = one[TOKENS][0].detach().cpu().numpy() if one[TOKENS].is_floating_point() else None
    figure = partial(_draw, document, arrays, [_name(trace) for trace in traces], signal, config)
    return ViewResult(document, _table(document), figure, arrays)


def _chosen(traces: list[LayerTrace], config: GatesConfig) -> list[LayerTrace]:
    depth = traces[-1].layer + 1
    if config.layer is None:
        return [trace for trace in traces if trace.layer < config.most_layers]
    if config.layer > depth:
        raise UsageError(
            f"There is no layer {config.layer}; there {'are' if depth > 1 else 'is'} {depth}.",
            where="view gates, view.layer",
            accepts=f"1 to {depth}" if depth > 1 else "1",
            mend="leave view.layer out to see all",
        )
    return [trace for trace in traces if trace.layer == config.layer - 1]


def _name(trace: LayerTrace) -> str:
    return f"layer{trace.layer + 1}{'.backward' if trace.reverse else ''}"


def _describe(trace: LayerTrace, own: dict[str, Floats], keeps: str) -> dict[str, Any]:
    kept = own[keeps].mean(axis=0, dtype=np.float64)  # per unit
    gates = {
        name: {
            "mean": float(own[name].mean()),
            "nearly_closed": float((own[name] < 0.1).mean()),
            "nearly_open": float((own[name] > 0.9).mean()),
        }
        for name in own
        if name not in ("cell", "hidden", "candidate")
    }
    held = own.get("cell", own["hidden"])
    return {
        "name": _name(trace),
        "num_units": int(held.shape[1]),
        "gates": gates,
        "largest_held": float(np.abs(held).max()),
        # After so many steps half of what a unit held is left, if its gate stays at its mean.
        "half_life": {"median": _half_life(float(np.median(kept))), "longest": _half_life(float(kept.max()))},
    }


def _half_life(kept: float) -> float:
    return math.log(0.5) / math.log(min(max(kept, 1e-6), 1 - 1e-6))


def _draw(
    document: dict[str, Any],
    arrays: dict[str, Floats],
    shown: list[str],
    signal: Floats | None,
    config: GatesConfig,
) -> bytes:
    names: list[str] = document["steps"]
    num_steps = document["num_steps"]
    named = bool(names) and num_steps <= _MOST_NAMES
    parts = [
        name
        for name in _MEANS
        if f"{shown[0]}.{name}" in arrays and not (name == "hidden" and document["keeps"] == "forget")
    ]
    cut = any(layer["num_units"] > config.most for layer in document["layers"])

    def paint(figure: Figure) -> None:
        above = 1 if signal is not None else 0
        axes = figure.subplots(
            above + len(parts), len(shown), squeeze=False, sharex=True, height_ratios=[0.6] * above + [1.0] * len(parts)
        )
        for column, layer in enumerate(shown):
            axes[0][column].set_title(layer.replace("layer", "layer ").replace(".", ", "), fontsize=9)
            if signal is not None:
                for channel in signal[:6]:
                    axes[0][column].plot(np.arange(num_steps), channel, linewidth=0.8)
                axes[0][column].set_ylabel("input")
            order = np.argsort(-arrays[f"{layer}.{document['keeps']}"].mean(axis=0), kind="stable")
            if len(order) > config.most:
                order = np.concatenate([order[: config.most - config.most // 2], order[-(config.most // 2) :]])
            for place, name in enumerate(parts, start=above):
                values = arrays[f"{layer}.{name}"][:, order].T
                signed = name in ("candidate", "cell", "hidden")
                scale = largest(values) if signed else 1.0
                image = axes[place][column].imshow(
                    values,
                    aspect="auto",
                    interpolation="nearest",
                    cmap="RdBu_r" if signed else "viridis",
                    vmin=-scale if signed else 0.0,
                    vmax=scale,
                )
                axes[place][column].set_yticks([])
                axes[place][column].set_ylabel(name)
                figure.colorbar(image, ax=axes[place][column], pad=0.01, aspect=12)
            last = axes[-1][column]
            if named:
                last.set_xticks(np.arange(num_steps), [shorten(name, 12) for name in names], rotation=90)
            else:
                last.set_xlabel("step")

    notes = "; ".join(_MEANS[name] for name in parts)
    more = f" Of more units the {config.most} that keep most and least are drawn." if cut else ""
    return draw(
        paint,
        width=min(max(0.16 * num_steps, 6.0), 11.0) * (1.0 if len(shown) == 1 else 0.75 * len(shown)),
        height=1.05 * len(parts) + (0.7 if signal is not None else 0.0) + (0.8 if named else 0.3),
        title=f"{document['model']}: gates along {document['input']}",
        note=f"{notes[0].upper()}{notes[1:]}. A row is a unit; those that keep most on average are at the top.{more}",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "layer",
        "units",
        "gate",
        "mean",
        "nearly closed",
        "nearly open",
        "half-life of a unit, median / longest",
    ):
        table.add_column(name, justify="left" if name in ("layer", "gate") else "right")
    for layer in document["layers"]:
        for place, (gate, values) in enumerate(layer["gates"].items()):
            half = layer["half_life"]
            life = f"{half['median']:,.1f} / {half['longest']:,.1f} steps" if gate == document["keeps"] else ""
            first = [layer["name"], str(layer["num_units"])] if place == 0 else ["", ""]
            closed, opened = values["nearly_closed"], values["nearly_open"]
            table.add_row(*first, gate, f"{values['mean']:.3f}", f"{closed:.1%}", f"{opened:.1%}", life)
    return titled(f"{document['input']}: {document['num_steps']} steps", table)
