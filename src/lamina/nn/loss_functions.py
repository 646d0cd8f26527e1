"""The registered losses: of numbers, and of classes. `nn/loss_base.py` says what they have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.nn.loss_base import Loss, spread, weigh
from lamina.nn.loss_checks import check_binary, check_numbers, shape_error


class NoOptions(Config):
    """A loss without options."""


class HalfSquaredErrorConfig(Config):
    """Options of `half-squared-error`."""

    activation: Literal["sigmoid", "tanh", "softmax"] | None = Field(
        None,
        description="Applied to the outputs first; sigmoid makes the textbooks' first network of a model with logits.",
    )


class HuberConfig(Config):
    """Options of `huber`."""

    delta: float = Field(1.0, description="Errors up to this count quadratically, larger ones linearly.", gt=0)


class CrossEntropyConfig(Config):
    """Options of `cross-entropy`."""

    label_smoothing: float = Field(0.0, description="Share of the target that is spread over all classes.", ge=0, lt=1)


class BinaryCrossEntropyConfig(Config):
    """Options of `binary-cross-entropy`."""

    pos_weight: float = Field(
        1.0, description="Weight of positive targets in the loss, relative to negative ones.", gt=0
    )


class HingeConfig(Config):
    """Options of `hinge` and `binary-hinge`."""

    margin: float = Field(
        1.0, description="By how much the right score must lead; not the size of an acceptable loss.", gt=0
    )
    squared: bool = Field(False, description="Square what is missing of the margin.")


class FocalConfig(Config):
    """Options of `focal`."""

    gamma: float = Field(
        2.0, description="How strongly well-classified rows are played down; 0 is the cross-entropy.", ge=0
    )
    alpha: float | tuple[float, ...] | None = Field(
        None, description="Factor per class, or for two classes the second's factor, the first getting 1 - alpha."
    )


# --- numbers --------------------------------------------------------------------------------------------------------


class _Elementwise(Loss):
    """A sum over elements of outputs and targets of one shape, weighed by their number: the mean is torch's."""

    def _sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]:
        targets = targets.to(outputs.dtype)
        if weights is None:
            return self._elements(outputs, targets, reduction="sum"), float(targets.numel())
        return weigh(
            self._elements(outputs, targets, reduction="none"), spread(weights.to(outputs.dtype), targets.shape)
        )

    @abstractmethod
    def _elements(self, outputs: Tensor, targets: Tensor, *, reduction: str) -> Tensor: ...


@register("loss", "mse", config=NoOptions, source="Legendre (1805); torch.nn.MSELoss", targets="number")
class MeanSquaredError(_Elementwise):
    """Squared error: sum of (y - t)^2, weighed by the number of elements. Outliers dominate it."""

    name = "mse"

    def _elements(self, outputs: Tensor, targets: Tensor, *, reduction: str) -> Tensor:
        return functional.mse_loss(outputs, targets, reduction=reduction)


@register("loss", "mae", config=NoOptions, source="Boscovich (1757); torch.nn.L1Loss", targets="number")
class MeanAbsoluteError(_Elementwise):
    """Absolute error: sum of |y - t|, weighed by the number of elements. Its best constant is the median."""

    name = "mae"

    def _elements(self, outputs: Tensor, targets: Tensor, *, reduction: str) -> Tensor:
        return functional.l1_loss(outputs, targets, reduction=reduction)


@register("loss", "huber", config=HuberConfig, source="Huber (1964), doi:10.1214/aoms/1177703732", targets="number")
class Huber(_Elementwise):
    """Squared error for small, absolute error for large deviations: e^2 / 2 up to delta, delta * (|e| - delta / 2) beyond."""

    name = "huber"

    def __init__(self, *, delta: float = 1.0, **more: Any) -> None:
        super().__init__(**more)
        self.delta = delta

    def _elements(self, outputs: Tensor, targets: Tensor, *, reduction: str) -> Tensor:
        return functional.huber_loss(outputs, targets, reduction=reduction, delta=self.delta)


@register(
    "loss",
    "half-squared-error",
    config=HalfSquaredErrorConfig,
    source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0",
    targets="label or number",
)
class HalfSquaredError(Loss):
    """Half the squared distance, 1/2 * sum of (y - t)^2 over the outputs of a row, weighed by the number of rows.

    Labels (int64) are compared as one-hot vectors. With `activation: sigmoid` this is the textbooks' first network: where
    a unit is saturated and wrong its gradient vanishes, which the cross-entropy was brought in to mend.
    """

    name = "half_squared_error"
    targets = "label"

    def __init__(self, *, activation: Literal["sigmoid", "tanh", "softmax"] | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.activation = activation

    def _sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]:
        active = self._activate(outputs)
        wanted = targets if targets.is_floating_point() else functional.one_hot(targets, outputs.shape[1])
        wanted = wanted.to(active.dtype)
        if weights is None and self.class_weights is None:
            return 0.5 * functional.mse_loss(active, wanted, reduction="sum"), float(len(targets))
        rows = 0.5 * (active - wanted).square().flatten(start_dim=1).sum(dim=1)
        if targets.is_floating_point():
            return weigh(rows, None if weights is None else weights.to(rows.dtype))
        return weigh(rows, self._row_weights(targets, weights, rows))

    def _fit(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        fits = outputs.dim() >= 2 and (
            outputs.shape == targets.shape
            if targets.is_floating_point()
            else outputs.dim() == 2 and targets.dtype == torch.int64 and outputs.shape[:1] == targets.shape
        )
        if not fits:
            raise shape_error(
                self.name, outputs, targets, accepts="outputs (N, K), and targets (N, K) or int64 labels (N,)"
            )
        if weights is not None and weights.shape != outputs.shape[:1]:
            raise shape_error(self.name, outputs, weights, accepts="one weight per row, shape (N,)", argument="weights")

    def check(self, targets: Tensor, *, num_outputs: int | None = None, where: str = "targets") -> None:
        """Labels or numbers, whichever they are."""
        if targets.is_floating_point():
            check_numbers(targets, where=where)
        else:
            super().check(targets, num_outputs=num_outputs, where=where)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Each class's share of the activations' sum (sigmoid), else the softmax of the outputs."""
        if self.activation == "sigmoid" and outputs.dim() > 1 and outputs.shape[1] > 1:
            return functional.log_softmax(functional.logsigmoid(outputs), dim=1)
        return super().log_probs(outputs)

    def _activate(self, outputs: Tensor) -> Tensor:
        if self.activation is None:
            return outputs
        if self.activation == "softmax":
            return outputs.softmax(dim=1)
        return outputs.sigmoid() if self.activation == "sigmoid" else outputs.tanh()


# --- classes --------------------------------------------------------------------------------------------------------


@register(
    "loss",
    "cross-entropy",
    config=CrossEntropyConfig,
    source="Bridle (1990), doi:10.1007/978-3-642-76153-9_28; label smoothing: Szegedy et al. (2016), arXiv:1512.00567",
    targets="label",
)
class CrossEntropy(Loss):
    """Cross-entropy of the softmax, -log p(label), in natural logarithms, weighed by the number of labels.

    With class weights w the sum is w[label] * -log p(label) and the weight the sum of w[label], as torch averages.
    Labels are (N,) for outputs (N, C), or (N, …) for outputs (N, C, …).
    """

    name = "cross_entropy"
    targets = "label"
    is_likelihood = True

    def __init__(self, *, label_smoothing: float = 0.0, **more: Any) -> None:
        super().__init__(**more)
        self.label_smoothing = label_smoothing

    def _sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]:
        by_class = None
        if self.class_weights is not None:
            by_class = self.class_weights.to(device=outputs.device, dtype=outputs.dtype)
        total = self._weight(targets, weights, outputs)
        if weights is None:
            loss = functional.cross_entropy(
                outputs, targets, weight=by_class, reduction="sum", label_smoothing=self.label_smoothing
            )
            return loss, total
        rows = functional.cross_entropy(
            outputs, targets, weight=by_class, reduction="none", label_smoothing=self.label_smoothing
        )
        return (rows * spread(weights.to(rows.dtype), rows.shape)).sum(), total

    def _weight(self, targets: Tensor, weights: Tensor | None, like: Tensor) -> Tensor | float:
        row_weights = self._row_weights(targets, weights, like)
        return float(targets.numel()) if row_weights is None else row_weights.sum()


class _RowLoss(Loss):
    """A loss with one value per row, weighed by class and row weights."""

    def _sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]:
        rows = self._rows(outputs, targets)
        return weigh(rows, self._row_weights(targets, weights, rows))

    @abstractmethod
    def _rows(self, outputs: Tensor, targets: Tensor) -> Tensor: ...


@register(
    "loss",
    "binary-cross-entropy",
    config=BinaryCrossEntropyConfig,
    source="Cox (1958), doi:10.1111/j.2517-6161.1958.tb00292.x; torch.nn.BCEWithLogitsLoss",
    targets="binary",
)
class BinaryCrossEntropy(_RowLoss):
    """Cross-entropy of the sigmoid, for logits and targets of one shape; targets are 0 or 1 (or between), of any type.

    One output may be several yes-or-no questions: (N, K). The weight is the number of elements.
    """

    name = "binary_cross_entropy"
    targets = "binary"
    is_likelihood = True

    def __init__(self, *, pos_weight: float = 1.0, **more: Any) -> None:
        super().__init__(**more)
        self.pos_weight = pos_weight

    def _rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = targets.to(outputs.dtype)
        weight = None if self.pos_weight == 1.0 else torch.full_like(outputs[:1], self.pos_weight)
        return functional.binary_cross_entropy_with_logits(outputs, wanted, pos_weight=weight, reduction="none")

    def _row_weights(self, targets: Tensor, weights: Tensor | None, like: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return super()._row_weights(targets, weights, like)
        negative, positive = self.class_weights.to(device=like.device, dtype=like.dtype).unbind()
        share = targets.to(like.dtype)  # a target between 0 and 1 is that much of each class
        by_class = negative + (positive - negative) * share
        return by_class if weights is None else by_class * spread(weights.to(like.dtype), targets.shape)


@register(
    "loss",
    "hinge",
    config=HingeConfig,
    source="Weston, Watkins (1999), Support Vector Machines for Multi-Class Pattern Recognition, ESANN",
    targets="label",
)
class Hinge(_RowLoss):
    """Multiclass hinge: sum over the wrong classes j of max(0, s_j - s_label + margin), weighed by the number of rows.

    Scores (3.2, 5.1, -1.7) with the first class right give 2.9. (torch's MultiMarginLoss divides by the number of classes.)
    """

    name = "hinge"
    targets = "label"

    def __init__(self, *, margin: float = 1.0, squared: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.margin = margin
        self.squared = squared

    def _rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        own = outputs.gather(1, targets.unsqueeze(1))
        missing = (outputs - own + self.margin).clamp_min(0.0)
        # The right class is among the summed and misses exactly the margin.
        if self.squared:
            return missing.square().sum(dim=1) - self.margin**2
        return missing.sum(dim=1) - self.margin


@register(
    "loss", "binary-hinge", config=HingeConfig, source="Cortes, Vapnik (1995), doi:10.1007/BF00994018", targets="binary"
)
class BinaryHinge(_RowLoss):
    """Hinge for two classes: max(0, margin - t * s) with t = -1 or 1; targets 0 and 1, or -1 and 1, shaped like the scores."""

    name = "binary_hinge"
    targets = "binary"

    def __init__(self, *, margin: float = 1.0, squared: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.margin = margin
        self.squared = squared

    def _rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        sign = (targets > 0).to(outputs.dtype) * 2.0 - 1.0
        missing = (self.margin - sign * outputs).clamp_min(0.0)
        return missing.square() if self.squared else missing

    def _row_weights(self, targets: Tensor, weights: Tensor | None, like: Tensor) -> Tensor | None:
        return super()._row_weights((targets > 0).long(), weights, like)

    def check(self, targets: Tensor, *, num_outputs: int | None = None, where: str = "targets") -> None:
        """0 and 1, or -1 and 1."""
        del num_outputs
        check_binary(torch.where(targets == -1, torch.zeros_like(targets), targets), where=where)


@register(
    "loss",
    "focal",
    config=FocalConfig,
    source="Lin, Goyal, Girshick, He, Dollár (2017), arXiv:1708.02002",
    fidelity="softmax over classes instead of one sigmoid per class",
    targets="label",
)
class Focal(_RowLoss):
    """Focal loss: -alpha * (1 - p)^gamma * log p of the right class, weighed by the number of rows (alpha is not divided by)."""

    name = "focal"
    targets = "label"

    def __init__(self, *, gamma: float = 2.0, alpha: float | Sequence[float] | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.gamma = gamma
        self.alpha: Tensor | None = None
        if alpha is not None:
            factors = [1.0 - alpha, alpha] if isinstance(alpha, int | float) else list(alpha)
            if min(factors) < 0 or (self.num_classes is not None and len(factors) != self.num_classes):
                raise ConfigError(
                    f"loss.alpha got {alpha!r}" + (f" for {self.num_classes} classes." if self.num_classes else "."),
                    where="key `loss.alpha`",
                    accepts="a number from 0 to 1 for two classes, or one number per class, none negative",
                    mend="leave it out, or give as many numbers as there are classes",
                )
            self.alpha = torch.tensor(factors, dtype=torch.float64)

    def _rows(self, outputs: Tensor, targets: Tensor) -> Tensor:
        log_p = functional.log_softmax(outputs, dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)
        # 1 - p by expm1 keeps its digits for p near 1; the clamp keeps the power's slope finite for gamma below 1.
        missing = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        rows = -(missing**self.gamma) * log_p
        if self.alpha is not None:
            rows = rows * self.alpha.to(device=rows.device, dtype=rows.dtype)[targets]
        return rows
