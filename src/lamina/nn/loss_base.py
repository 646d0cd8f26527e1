"""Losses as sums with weights: what was summed over the batch, and how much of it there was.

A loss never averages. It returns the sum over the rows of a batch and the weight of that sum (the number of rows or
elements, or the sum of their weights); whoever trains divides sums by weights, over micro-batches and processes together,
so that a divided batch has the gradient of the whole. `total / weight` is what torch's loss of the same name gives.

Outputs are logits; probabilities are never needed for a gradient. Half precision is widened to float32 first. Shapes
are compared strictly: (N,) against (N, 1) would broadcast to (N, N) and train on nonsense without a word.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core.errors import ConfigError, DtypeError, ShapeError
from lamina.nn.loss_checks import check_binary, check_labels, check_numbers, shape_error

__all__ = ["Loss", "LossPart", "spread", "weigh"]


class LossPart(NamedTuple):
    """One part of a loss: it contributes factor * total / weight to what is minimised; total / weight is logged."""

    total: Tensor
    weight: Tensor | float
    factor: float = 1.0


class Loss(ABC):
    """A loss over outputs (N, …) and targets.

    Args:
        num_classes: Of the labels, where that is known; otherwise the outputs' width is taken.
        class_weights: float (num_classes,): rows count in proportion to their class's weight.

    Attributes:
        name: Under which it is logged.
        targets: What it compares with: `label` (class indices), `binary` (0 and 1) or `number`.
        is_likelihood: Its minimum gives calibrated probabilities, as `log_probs` returns them.
    """

    name: str = "loss"
    targets: ClassVar[Literal["label", "binary", "number"]] = "number"
    is_likelihood: bool = False

    def __init__(
        self, *, num_classes: int | None = None, class_weights: Tensor | Sequence[float] | None = None
    ) -> None:
        self.num_classes = num_classes
        self.class_weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float64)
        if self.class_weights is not None:
            self._check_class_weights(self.class_weights)

    def __call__(
        self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor | float]:
        """Sum and weight.

        Args:
            outputs: Floating tensor (N, …).
            targets: As the loss says; class indices are int64.
            weights: float (N,) or shaped like the targets: how much each row or element counts; 0 masks it.

        Returns:
            The sum over the batch, 0-d, and the weight of what was summed: a number, or a 0-d tensor where it depends
            on the targets or weights.

        Raises:
            ShapeError: Outputs, targets and weights do not fit; nothing is broadcast.
            DtypeError: Targets of a type that cannot be meant.
        """
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        self._fit(outputs, targets, weights)
        return self._sum(outputs, targets, weights)

    def parts(self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> dict[str, LossPart]:
        """The parts by name, as they are logged: one, unless the loss is a weighted sum."""
        return {self.name: LossPart(*self(outputs, targets, weights=weights))}

    def check(self, targets: Tensor, *, num_outputs: int | None = None, where: str = "targets") -> None:
        """Scan a whole column of targets once, before training; the call itself checks shapes and types alone.

        Args:
            targets: All targets of a split.
            num_outputs: Width of the model's output: the number of classes the labels must stay below.
            where: What to call the column in messages.

        Raises:
            DataError: A value that the loss cannot use, with its row.
            DtypeError: Not whole numbers where labels are wanted, or not floating where numbers are.
        """
        if self.targets == "label":
            check_labels(targets, num_classes=num_outputs or self.num_classes, where=where)
        elif self.targets == "binary":
            check_binary(targets, where=where)
        else:
            check_numbers(targets, where=where)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Logarithms of class probabilities (N, C) from outputs (N, C), or from (N,) or (N, 1) for two classes.

        Losses that do not model probabilities give numbers that sum to one and order classes as the outputs do.
        """
        if outputs.dim() == 1 or outputs.shape[1] == 1:
            score = outputs.reshape(len(outputs))
            return torch.stack([functional.logsigmoid(-score), functional.logsigmoid(score)], dim=1)
        return functional.log_softmax(outputs, dim=1)

    @abstractmethod
    def _sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]: ...

    def _fit(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Refuse shapes and types that do not fit."""
        if self.targets == "label":
            self._fit_labels(outputs, targets)
        elif outputs.shape != targets.shape:
            raise shape_error(self.name, outputs, targets, accepts="outputs and targets of one shape")
        elif self.targets == "number" and not targets.is_floating_point():
            raise DtypeError(
                f"{self.name} got targets of type {targets.dtype}.",
                where=f"loss {self.name}, argument `targets`",
                accepts="floating targets",
                mend="targets.float() if they are numbers; for classes use cross-entropy",
            )
        if weights is not None and weights.shape != targets.shape and weights.shape != outputs.shape[:1]:
            raise ShapeError(
                f"{self.name} got weights shaped {tuple(weights.shape)} for targets shaped {tuple(targets.shape)}.",
                where=f"loss {self.name}, argument `weights`",
                accepts=f"shape {tuple(outputs.shape[:1])} or {tuple(targets.shape)}",
                mend="give one weight per row",
            )

    def _fit_labels(self, outputs: Tensor, targets: Tensor) -> None:
        if targets.dtype != torch.int64:
            raise DtypeError(
                f"{self.name} got labels of type {targets.dtype}.",
                where=f"loss {self.name}, argument `targets`",
                accepts="class indices, int64",
                mend="targets.long() if they are class indices; for numbers use mse",
            )
        if outputs.dim() < 2 or outputs.shape[:1] + outputs.shape[2:] != targets.shape:
            wanted = f"outputs (N, classes) and labels ({outputs.shape[0] if outputs.dim() else 'N'},)"
            raise shape_error(self.name, outputs, targets, accepts=wanted)

    def _check_class_weights(self, weights: Tensor) -> None:
        wanted = 2 if self.targets == "binary" else self.num_classes
        if self.targets == "number":
            raise ConfigError(
                f"{self.name} compares numbers and has no classes to weigh.",
                where=f"loss {self.name}, class weights",
                accepts="class weights with a loss over classes",
                mend="leave the class weights out; for balanced classes use cross-entropy",
            )
        if weights.dim() != 1 or (wanted is not None and len(weights) != wanted):
            raise ShapeError(
                f"{self.name} got class weights shaped {tuple(weights.shape)}.",
                where=f"loss {self.name}, class weights",
                accepts=f"shape ({wanted or 'number of classes'},)",
                mend="give one weight per class, in the order of the labels",
            )
        if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()) or not bool(weights.any()):
            raise ConfigError(
                f"{self.name} got class weights {weights.tolist()}.",
                where=f"loss {self.name}, class weights",
                accepts="finite weights of at least 0, not all 0",
                mend="data.balance=weight computes them from the class counts",
            )

    def _row_weights(self, targets: Tensor, weights: Tensor | None, like: Tensor) -> Tensor | None:
        """Class weights times given weights, shaped like the targets; None where neither is there."""
        given = None if weights is None else spread(weights.to(like.dtype), targets.shape)
        if self.class_weights is None:
            return given
        by_class = self.class_weights.to(device=like.device, dtype=like.dtype)[targets.long()]
        return by_class if given is None else by_class * given


def spread(weights: Tensor, shape: torch.Size) -> Tensor:
    """Row weights (N,) over the elements of targets (N, …)."""
    return weights if weights.shape == shape else weights.reshape(-1, *[1] * (len(shape) - 1)).expand(shape)


def weigh(rows: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]:
    """Sum and weight of row losses with weights shaped like them, or with none."""
    return (rows.sum(), float(rows.numel())) if weights is None else ((rows * weights).sum(), weights.sum())
