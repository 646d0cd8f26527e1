"""View `layers`: what runs in which order, its shapes, counts, arithmetic and memory, and how each size came about.

Nothing is computed: parameters and inputs are replaced by meta tensors, which have shapes and no values. A model that
reads values in its forward pass is run on zeros instead.

Counts: `num_parameters` are learned weights and biases, `num_trainable` those not frozen, `num_buffers` running statistics
(floating point, in the state dict), `num_total` both together, what Keras prints. A parameter that several layers share counts once, where it runs
first. FLOPs count the multiplications and additions of products and convolutions, two per multiply-add; biases, norms, activations and pooling are not
counted, and a product that a forward pass makes outside any layer is in the total only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import LaminaError, ShapeError
from lamina.core.registry import register
from lamina.explain.recording import Recorder, Shape, own_buffers, shapes_of
from lamina.explain.views import Inputs, Subject, ViewResult, example_inputs
from lamina.nn.meta import without_values

__all__ = ["LayersConfig", "layers_view", "render_layers", "summarise"]


class LayersConfig(Config):
    """Options of the view `layers`."""

    input_shape: tuple[int, ...] | None = Field(
        None, description="Shape of one input without the batch; by default what the model was built for."
    )


@register("view", "layers", config=LayersConfig, example="lamina inspect lenet5 layers")
def layers_view(subject: Subject, config: LayersConfig) -> ViewResult:
    """Layers in the order in which they run: shapes, parameters, FLOPs, memory, receptive field, and how each size came about."""
    example = config.input_shape if config.input_shape is not None else example_inputs(subject)
    document = {"model": subject.title, **summarise(subject.model, example)}
    return ViewResult(document, render_layers(document))


def summarise(model: nn.Module, example: Inputs | Sequence[int]) -> dict[str, Any]:
    """Describe a model's layers.

    Args:
        model: Any module; left as it was.
        example: What it is called with: a tensor (B, …), positional tensors, tensors by name, or the shape of one input
            without the batch, as whole numbers. Values are not looked at; per-layer figures are for this batch.

    Returns:
        The document of `lamina inspect MODEL layers`: totals, and `layers`, leaf modules in the order in which they run. A module
        that runs again is listed again with `is_repeat` and counts of 0. Modules that hold parameters and contain others are listed with
        their own. Shapes have the batch first; `receptive_field` is a number, one per axis where they differ, or nothing where the input has no
        positions; the `activation_bytes` are those of the output.

    Raises:
        ShapeError: The model cannot take the example.
    """
    args, kwargs = _arguments(model, example)
    with _evaluating(model):
        recorder = _record(model, args, kwargs)
    rows = recorder.rows
    num_buffers = sum(buffer.numel() for module in model.modules() for buffer in own_buffers(module))
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    named = dict(model.named_parameters())
    num_biases = sum(parameter.numel() for name, parameter in named.items() if "bias" in name.rsplit(".", 1)[-1])
    return {
        "num_parameters": num_parameters,
        "num_trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "num_weights": num_parameters - num_biases,
        "num_biases": num_biases,
        "num_buffers": num_buffers,
        "num_total": num_parameters + num_buffers,
        "num_weighted_layers": sum(row.depth for row in rows if not row.is_repeat),
        "flops": recorder.flops,
        "flops_counted": "2 per multiply-add of products and convolutions, for the batch shown",
        "activation_bytes": sum(row.activation_bytes for row in rows),
        "input_shape": shapes_of([*args, *kwargs.values()]),
        "layers": [row.describe() for row in rows],
    }


def render_layers(document: Mapping[str, Any]) -> RenderableType:
    """The document of `summarise` as a table for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", row_styles=("", "dim"))
    for title, numeric in (
        ("layer", False),
        ("type", False),
        ("output", False),
        ("parameters", True),
        ("trainable", True),
        ("buffers", True),
        ("FLOPs", True),
        ("memory", True),
        ("sees", True),
        ("how", False),
    ):
        table.add_column(title, justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in document["layers"]:
        table.add_row(
            row["name"] + (" (again)" if row["is_repeat"] else ""),
            row["type"],
            _shape_text(row["output_shape"]),
            _number(row["num_parameters"]),
            _number(row["num_trainable"]),
            _number(row["num_buffers"]),
            _number(row["flops"]),
            _bytes(row["activation_bytes"]),
            _field_text(row["receptive_field"]),
            Text(row["how"], style="dim"),
        )
    frozen = document["num_parameters"] - document["num_trainable"]
    lines = [
        f"{document['num_parameters']:,} parameters"
        + (f", {frozen:,} of them frozen" if frozen else "")
        + (
            f"; {document['num_buffers']:,} running statistics; {document['num_total']:,} in all"
            if document["num_buffers"]
            else ""
        ),
        f"{document['num_weighted_layers']} layers with weights; {document['flops']:,} FLOPs ({document['flops_counted']}); "
        f"{_bytes(document['activation_bytes'])} of activations",
    ]
    return Group(table, Text(""), *(Text(line) for line in lines))


# --- small things --------------------------------------------------------------------------------------------------


def _record(model: nn.Module, args: list[Tensor], kwargs: dict[str, Tensor]) -> Recorder:
    """A pass on meta tensors, or on zeros where the model reads values."""
    recorder = Recorder(model)
    meta = [value.to("meta") for value in args]
    named = {key: value.to("meta") for key, value in kwargs.items()}
    try:
        with without_values(model):
            recorder.run(lambda: model(*meta, **named), [*meta, *named.values()])
    except LaminaError:
        raise
    except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
        recorder = Recorder(model)
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        zeros = [torch.zeros(value.shape, dtype=value.dtype, device=device) for value in args]
        named = {key: torch.zeros(value.shape, dtype=value.dtype, device=device) for key, value in kwargs.items()}
        try:
            recorder.run(lambda: model(*zeros, **named), [*zeros, *named.values()])
        except LaminaError:
            raise
        except Exception as error:  # whatever a user's module raises becomes one readable error
            first = str(error).strip().split("\n", 1)[0]
            raise ShapeError(
                f"{type(model).__name__} cannot take inputs shaped {shapes_of([*args, *kwargs.values()])}: {first}",
                where="view layers",
                accepts="an input like those that the model was built for",
                mend="give the shape of one input without the batch: input_shape=[channels, height, width]",
            ) from error
    return recorder


def _arguments(model: nn.Module, example: Inputs | Sequence[int]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Positional and named tensors, floating ones in the model's own precision."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)

    def fit(value: Tensor) -> Tensor:
        return value.to(dtype) if value.is_floating_point() else value

    if isinstance(example, Tensor):
        return [fit(example)], {}
    if isinstance(example, Mapping):
        return [], {key: fit(value) for key, value in example.items()}
    if all(isinstance(size, int) for size in example):
        sizes = [int(size) for size in example if isinstance(size, int)]
        return [torch.empty(1, *sizes, dtype=dtype, device="meta")], {}
    return [fit(value) for value in example if isinstance(value, Tensor)], {}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _bytes(value: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"


def _shape_text(shape: Shape | list[Shape] | None) -> str:
    if shape is None:
        return ""
    flat: list[Any] = list(shape)
    if flat and isinstance(flat[0], list):
        return ", ".join(_shape_text(part) for part in flat)
    return "x".join(map(str, flat[1:])) or "1"


def _field_text(field: int | list[int] | None) -> str:
    if field is None:
        return ""
    return str(field) if isinstance(field, int) else "x".join(map(str, field))
