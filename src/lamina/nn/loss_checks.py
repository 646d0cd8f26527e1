"""What losses refuse: shapes that would broadcast, labels outside the classes, values that are no numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.core.errors import DataError, DtypeError, ShapeError

__all__ = ["check_binary", "check_labels", "check_numbers", "shape_error"]


def shape_error(name: str, outputs: Tensor, other: Tensor, *, accepts: str, argument: str = "targets") -> ShapeError:
    """The error for shapes that do not fit, with the mend for the usual causes."""
    mend = f"reshape one of them; outputs are {tuple(outputs.shape)}, {argument} {tuple(other.shape)}"
    if outputs.dim() == other.dim() + 1 and outputs.shape[-1] == 1:
        mend = "outputs.squeeze(-1) drops the axis of size 1"
    elif other.dim() == outputs.dim() + 1 and other.shape[-1] == 1:
        mend = f"{argument}.squeeze(-1) drops the axis of size 1"
    elif other.dim() == outputs.dim() == 2 and argument == "targets":
        mend = "labels of one-hot targets: targets.argmax(1)"
    return ShapeError(
        f"{name} got outputs shaped {tuple(outputs.shape)} and {argument} shaped {tuple(other.shape)}.",
        where=f"loss {name}, argument `{argument}`",
        accepts=accepts,
        mend=mend,
    )


def _first_row(bad: Tensor) -> int:
    """Row of the first true element."""
    return int(bad.reshape(len(bad), -1).any(dim=1).nonzero()[0])


def check_labels(targets: Tensor, *, num_classes: int | None, where: str) -> None:
    """Refuse labels that are not int64 class indices below `num_classes`."""
    if targets.dtype != torch.int64:
        raise DtypeError(
            f"The labels are of type {targets.dtype}.",
            where=where,
            accepts="class indices, int64",
            mend="targets.long() if they are class indices",
        )
    bad = targets < 0 if num_classes is None else (targets < 0) | (targets >= num_classes)
    if bool(bad.any()):
        row = _first_row(bad)
        raise DataError(
            f"There is a label {targets[row].flatten()[0].item() if targets.dim() > 1 else targets[row].item()}.",
            where=f"{where}, row {row}",
            accepts=f"0 to {num_classes - 1}" if num_classes is not None else "0 or more",
            mend="number the classes from 0, or build the model with more of them",
        )


def check_binary(targets: Tensor, *, where: str) -> None:
    """Refuse targets outside [0, 1]."""
    bad = ~((targets >= 0) & (targets <= 1)) if targets.is_floating_point() else (targets < 0) | (targets > 1)
    if targets.dtype != torch.bool and bool(bad.any()):
        row = _first_row(bad)
        raise DataError(
            f"There is a target {targets[bad][0].item()}.",
            where=f"{where}, row {row}",
            accepts="0 (no) and 1 (yes)",
            mend="with more than two classes use cross-entropy",
        )


def check_numbers(targets: Tensor, *, where: str) -> None:
    """Refuse targets that are not floating or not finite."""
    if not targets.is_floating_point():
        raise DtypeError(
            f"The targets are of type {targets.dtype}.",
            where=where,
            accepts="floating numbers",
            mend="targets.float() if they are numbers; for classes use cross-entropy",
        )
    bad = ~torch.isfinite(targets)
    if bool(bad.any()):
        row = _first_row(bad)
        raise DataError(
            f"There is a target {targets[bad][0].item()}.",
            where=f"{where}, row {row}",
            accepts="finite numbers",
            mend="leave the row out, or fill the value in",
        )
