"""What a model reads of a batch, and what comes out of it: checked before step one.

The dry pass costs no arithmetic: parameters, buffers and input are meta tensors, which have shapes and no values. A model
that cannot run on them (it reads values) is tried on two real rows of zeros.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lamina.core import registry
from lamina.core.errors import DataError, LaminaError, ShapeError
from lamina.data.columns import MODEL_INPUTS, Columns, DataSpec
from lamina.nn.meta import without_values
from lamina.tasks.base import Batch
from lamina.tasks.pipeline import judging, model_device

ROWS = 2
ANY_SIZE = 224  # stands for an axis of the images on which rows differ


def model_input(batch: Batch) -> Tensor:
    """What the model reads of a preprocessed batch: `image` (B, C, H, W), `signal` (B, C, T), `volume` (B, C, D, H, W) or `features` (B, F)."""
    return batch[next((name for name in MODEL_INPUTS if name in batch), "features")]


def output_width(model: nn.Module, spec: DataSpec, *, where: str) -> int:
    """How many numbers per row the model gives for this (preprocessed) data.

    Raises:
        LaminaError: The model refuses the data in its own words.
        ShapeError: The pass fails inside, or gives anything but (rows, numbers).
        DataError: The data has nothing that a model could read.
    """
    column = spec.model_input
    if column is None:
        raise DataError(
            f"The preprocessed data has neither images nor features; it has {', '.join(spec.columns) or 'nothing'}.",
            where=where,
            accepts="a column `image`, `signal`, `volume` or `features`",
            mend="look at what the file holds with `lamina data`",
        )
    shape = tuple(ANY_SIZE if size < 0 else size for size in column.shape)
    output = _output_shape(model, shape, where=where)
    if len(output) != 2:
        raise ShapeError(
            f"{type(model).__name__} gives outputs shaped {output} for {ROWS} rows.",
            where=where,
            accepts=f"({ROWS}, outputs)",
            mend="squeeze or flatten the outputs in the model's forward, so that each row gives a row of numbers",
        )
    return output[1]


def capability(model: nn.Module, name: str) -> Any:
    """What a registered model's class says of itself (`single_pass`, `has_gradients`, …); None where it says nothing."""
    own = (type(model).__module__, type(model).__qualname__)
    for entry in registry.entries("model"):
        if (entry.module, entry.qualname) == own:
            return entry.capabilities.get(name)
    return None


def row_name(columns: Columns, row: int) -> str:
    """Where a row came from, for messages."""
    return columns.origin[row] if columns.origin is not None else f"row {row} of the split"


def refuse_infinite(columns: Columns) -> None:
    """Refuse infinite numbers among the features; missing ones (NaN) are the preprocessing's business."""
    number = columns.get("number")
    if number is None:
        return
    infinite = number.isinf()
    if bool(infinite.any()):
        row, field = infinite.nonzero()[0].tolist()
        raise DataError(
            f"The value in field {field} is {float(number[row, field])}; {int(infinite.any(dim=1).sum())} rows have such.",
            where=row_name(columns, row),
            accepts="finite numbers, or nothing where a value is missing",
            mend="leave the cell empty, or remove the row",
        )


def _output_shape(model: nn.Module, shape: tuple[int, ...], *, where: str) -> tuple[int, ...]:
    """The shape of the model's output for a float32 input (2, *shape)."""
    size = (ROWS, *shape)
    with judging(model):
        try:
            output = _on_meta(model, torch.empty(size, device="meta"))
        except LaminaError as error:
            error.where = f"{where}: {error.where}"
            raise
        except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
            output = _on_zeros(model, size, where)
    if not isinstance(output, Tensor) or output.ndim == 0 or output.shape[0] != ROWS:
        got = f"a tensor shaped {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ShapeError(
            f"{type(model).__name__} gives {got} for {ROWS} rows.",
            where=where,
            accepts=f"a tensor ({ROWS}, outputs), one row per input row",
            mend="let the model's forward return logits (batch, classes), or numbers (batch, targets)",
        )
    return tuple(output.shape)


def _on_meta(model: nn.Module, inputs: Tensor) -> object:
    with without_values(model):
        return model(inputs)


def _on_zeros(model: nn.Module, size: tuple[int, ...], where: str) -> object:
    try:
        return model(torch.zeros(size, device=model_device(model)))
    except LaminaError:
        raise
    except Exception as error:  # whatever a user's module raises becomes one readable error
        first = str(error).strip().split("\n", 1)[0]
        raise ShapeError(
            f"{type(model).__name__} cannot take inputs shaped {size}: {type(error).__name__}: {first}",
            where=where,
            accepts="a model that is built for the data",
            mend=f"build the model for inputs of shape {size[1:]} (batch left out); create_model(name, data.spec) does",
        ) from error
