"""What a model reads of a batch, and what comes out of it: checked before step one.

The dry pass costs no arithmetic: parameters, buffers and input are meta tensors, which have shapes and no values. A model
that cannot run on them (it reads values) is tried on two real rows of zeros.
"""

from __future__ import annotations

import inspect
from typing import Any, Final, cast

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
ANY_LENGTH = 16  # and for the number of tokens of a text

TOKENS: Final = "input_ids"
# What a batch of tokens holds besides them; a model is given those that its forward pass takes.
_BESIDE_TOKENS: Final = ("attention_mask", "token_type_ids", "char_ids")


def model_input(batch: Batch) -> Tensor:
    """What the model reads of a preprocessed batch: `image` (B, C, H, W), `signal` (B, C, T), `volume` (B, C, D, H, W), `features` (B, F) or `input_ids` (B, T)."""
    return batch[next((name for name in MODEL_INPUTS if name in batch), "features")]


def model_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What a model of tokens is given of a preprocessed batch, by the names of its arguments; empty where there are no tokens."""
    if TOKENS not in batch:
        return {}
    taken = _token_arguments(type(model))
    return {TOKENS: batch[TOKENS], **{name: batch[name] for name in taken if name in batch}}


def run_model(model: nn.Module, batch: Batch) -> Tensor:
    """What the model gives for a preprocessed batch; tokens come with their mask and what else the model takes of them."""
    inputs = model_inputs(model, batch)
    output = model(inputs.pop(TOKENS), **inputs) if inputs else model(model_input(batch))
    return cast(Tensor, output)


def _token_arguments(kind: type[nn.Module]) -> tuple[str, ...]:
    parameters = inspect.signature(kind.forward).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return _BESIDE_TOKENS
    known = {parameter.name for parameter in parameters}
    return tuple(name for name in _BESIDE_TOKENS if name in known)


def check_vocabulary(model: nn.Module, spec: DataSpec, *, where: str) -> None:
    """Refuse a model with fewer tokens than the tokenizer makes.

    Raises:
        ShapeError: The numbers of the last tokens would lie outside the model's table.
    """
    column, known = spec.columns.get(TOKENS), getattr(model, "vocab_size", None)
    made = column.vocab_size if column is not None else None
    if made is not None and isinstance(known, int) and known < made:
        raise ShapeError(
            f"{type(model).__name__} knows {known:,} tokens; the tokenizer makes {made:,}.",
            where=where,
            accepts=f"a model of at least {made:,} tokens",
            mend=f"set model.vocab_size={made}, or leave it out to have it filled in from the data",
        )


def output_shape(model: nn.Module, spec: DataSpec, *, where: str) -> tuple[int, ...]:
    """The shape of what the model gives for two rows of this (preprocessed) data; texts count 16 tokens.

    Raises:
        LaminaError: The model refuses the data in its own words.
        ShapeError: The pass fails inside, or does not give one row per row.
        DataError: The data has nothing that a model could read.
    """
    column = spec.model_input
    if column is None:
        raise DataError(
            f"The preprocessed data has neither images nor features; it has {', '.join(spec.columns) or 'nothing'}.",
            where=where,
            accepts="a column `image`, `signal`, `volume`, `features` or `input_ids`",
            mend="look at what the file holds with `lamina data`",
        )
    any_size = ANY_LENGTH if column.role == "tokens" else ANY_SIZE
    shape = tuple(any_size if size < 0 else size for size in column.shape)
    return _output_shape(model, _zeros(model, spec, (ROWS, *shape)), where=where)


def output_width(model: nn.Module, spec: DataSpec, *, where: str) -> int:
    """How many numbers per row the model gives for this (preprocessed) data.

    Raises:
        LaminaError: The model refuses the data in its own words.
        ShapeError: The pass fails inside, or gives anything but (rows, numbers).
        DataError: The data has nothing that a model could read.
    """
    output = output_shape(model, spec, where=where)
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


def _zeros(model: nn.Module, spec: DataSpec, size: tuple[int, ...]) -> dict[str, Tensor]:
    """Rows of zeros on meta, by the model's arguments for tokens, else as its one input `""`."""
    column = spec.model_input
    assert column is not None
    if column.role != "tokens":
        return {"": torch.empty(size, device="meta")}
    rows = torch.empty(size, dtype=torch.int64, device="meta")
    batch = {TOKENS: rows, "attention_mask": rows.bool()}
    letters = spec.columns.get("char_ids")
    if letters is not None:
        batch["char_ids"] = torch.empty((*size, letters.shape[-1]), dtype=torch.int64, device="meta")
    return model_inputs(model, batch)


def _output_shape(model: nn.Module, inputs: dict[str, Tensor], *, where: str) -> tuple[int, ...]:
    """The shape of the model's output for rows without values."""
    with judging(model):
        try:
            output = _on_meta(model, inputs)
        except LaminaError as error:
            error.where = f"{where}: {error.where}"
            raise
        except (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError):
            output = _on_zeros(model, inputs, where)
    if not isinstance(output, Tensor) or output.ndim == 0 or output.shape[0] != ROWS:
        got = f"a tensor shaped {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ShapeError(
            f"{type(model).__name__} gives {got} for {ROWS} rows.",
            where=where,
            accepts=f"a tensor ({ROWS}, outputs), one row per input row",
            mend="let the model's forward return logits (batch, classes), or numbers (batch, targets)",
        )
    return tuple(output.shape)


def _call(model: nn.Module, inputs: dict[str, Tensor]) -> object:
    first, *others = inputs
    return model(inputs[first], **{name: inputs[name] for name in others})


def _on_meta(model: nn.Module, inputs: dict[str, Tensor]) -> object:
    with without_values(model):
        return _call(model, inputs)


def _on_zeros(model: nn.Module, inputs: dict[str, Tensor], where: str) -> object:
    device = model_device(model)
    # A mask of zeros would leave no token; everything else begins with the number 0.
    filled = {
        name: torch.full(value.shape, value.dtype is torch.bool, dtype=value.dtype, device=device)
        for name, value in inputs.items()
    }
    size = tuple(next(iter(inputs.values())).shape)
    try:
        return _call(model, filled)
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
