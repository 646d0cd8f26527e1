"""Losses by name, from values of a recipe or from any function; and sums of several.

`nn/loss_base.py` says what a loss is (a sum with a weight, never an average), `nn/loss_functions.py` has the losses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, DtypeError
from lamina.core.registry import lookup, register
from lamina.nn import loss_functions  # noqa: F401 (registers the losses)
from lamina.nn.loss_base import Loss, LossPart, spread, weigh

__all__ = ["CallableLoss", "Loss", "LossPart", "WeightedSum", "create_loss"]


class WeightedSumConfig(Config):
    """Options of `weighted-sum`."""

    parts: tuple[dict[str, Any], ...] = Field(
        description="Losses, each with `name`, its options and `factor` (1 by default).", min_length=1
    )


def create_loss(
    values: Mapping[str, Any] | str | Callable[..., Any],
    *,
    num_classes: int | None = None,
    class_weights: Tensor | Sequence[float] | None = None,
) -> Loss:
    """A loss from the values of a recipe, from its name, or from a function.

    Args:
        values: `name` and the loss's options; a name alone; or any function of (outputs, targets), see `CallableLoss`.
        num_classes: Of the labels.
        class_weights: float (num_classes,).

    Example:
        >>> loss = create_loss({"name": "hinge", "margin": 1.0})
        >>> total, weight = loss(torch.tensor([[3.2, 5.1, -1.7]]), torch.tensor([0]))
        >>> round(total.item(), 4), weight
        (2.9, 1.0)

    Raises:
        UnknownNameError: No loss has this name.
        ConfigError: An option is unknown or out of bounds, or class weights where there are no classes.
    """
    if isinstance(values, Loss):
        return values
    if callable(values):
        if class_weights is not None:
            raise ConfigError(
                "Class weights were given for a loss function of your own.",
                where="create_loss, argument `class_weights`",
                accepts="class weights with a registered loss",
                mend="weigh the classes inside the function",
            )
        return CallableLoss(values, num_classes=num_classes)
    options = {"name": values} if isinstance(values, str) else dict(values)
    name = str(options.pop("name", "cross-entropy"))
    entry = lookup("loss", name, where="loss.name")
    assert entry.config is not None
    config = entry.config.from_values(options, where="loss")
    loss: Loss = entry.target(**dict(config), num_classes=num_classes, class_weights=class_weights)
    return loss


class CallableLoss(Loss):
    """Any function of (outputs, targets) as a loss.

    What it returns may be (sum, weight); or a tensor of row or element losses, which are summed and counted; or a scalar,
    taken as the mean over the rows, as torch's losses return it. A function with an argument `weights` is given the
    weights; for others row losses are multiplied by them, and a scalar cannot be weighed.

    Args:
        function: `function(outputs, targets)`; called with outputs as they are, at least float32.
        name: Under which it is logged; default: the function's name.
    """

    def __init__(
        self, function: Callable[..., Any], *, name: str | None = None, num_classes: int | None = None
    ) -> None:
        super().__init__(num_classes=num_classes)
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__).strip("<>")
        try:
            self._takes_weights = "weights" in inspect.signature(function).parameters
        except (TypeError, ValueError):  # built-in functions have no signature
            self._takes_weights = False

    def _sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]:
        if self._takes_weights:
            result = self.function(outputs, targets, weights=weights)
        else:
            result = self.function(outputs, targets)
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor) and result[0].dim() == 0:
            if weights is not None and not self._takes_weights:
                raise self._cannot_weigh("a sum")
            return result
        if not isinstance(result, Tensor):
            raise DtypeError(
                f"The loss function {self.name} returned {type(result).__name__}.",
                where=f"loss {self.name}",
                accepts="(sum, weight), a tensor of row losses, or a scalar tensor: the mean over rows",
                mend="return a tensor that depends on the outputs",
            )
        if result.dim() == 0:
            if weights is not None and not self._takes_weights:
                raise self._cannot_weigh("a mean")
            return result * len(outputs), float(len(outputs))
        if weights is None or self._takes_weights:
            return weigh(result, None)
        return weigh(result, spread(weights.to(result.dtype), result.shape))

    def _cannot_weigh(self, what: str) -> ConfigError:
        return ConfigError(
            f"The loss function {self.name} returns {what} over rows, which cannot be weighed afterwards.",
            where=f"loss {self.name}",
            accepts="row losses, or a function with an argument `weights`",
            mend="return one loss per row (reduction='none'), or take `weights`",
        )

    def _fit(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """The function's own business."""

    def check(self, targets: Tensor, *, num_outputs: int | None = None, where: str = "targets") -> None:
        """The function's own business."""


@register("loss", "weighted-sum", config=WeightedSumConfig, source="for composing the others", targets="as its parts")
class WeightedSum(Loss):
    """Several losses of the same outputs, each with a factor; each part is logged under its own name.

    Its `parts` are what training uses. Calling it gives one sum, by the weight of the first part.

    Args:
        parts: Values of losses with `factor`, or (factor, loss or function) pairs.
    """

    name = "weighted_sum"

    def __init__(
        self,
        *,
        parts: Sequence[Mapping[str, Any] | tuple[float, Any]],
        num_classes: int | None = None,
        class_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes)
        self.losses: dict[str, tuple[float, Loss]] = {}
        for part in parts:
            if isinstance(part, tuple):
                factor, values = part
            else:
                options = dict(part)
                factor, values = float(options.pop("factor", 1.0)), options
            loss = create_loss(values, num_classes=num_classes, class_weights=class_weights)
            same = sum(known == loss.name or known.startswith(f"{loss.name}_") for known in self.losses)
            self.losses[f"{loss.name}_{same + 1}" if same else loss.name] = (float(factor), loss)
        self.is_likelihood = all(loss.is_likelihood for _, loss in self.losses.values())

    def parts(self, outputs: Tensor, targets: Tensor, *, weights: Tensor | None = None) -> dict[str, LossPart]:
        """Each part's sum, weight and factor by name."""
        found: dict[str, LossPart] = {}
        for name, (factor, loss) in self.losses.items():
            total, weight = loss(outputs, targets, weights=weights)
            found[name] = LossPart(total, weight, factor)
        return found

    def _sum(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor | float]:
        parts = list(self.parts(outputs, targets, weights=weights).values())
        first = parts[0].weight
        return torch.stack([part.total * (part.factor * first / part.weight) for part in parts]).sum(), first

    def _fit(self, outputs: Tensor, targets: Tensor, weights: Tensor | None) -> None:
        """Each part looks for itself."""

    def check(self, targets: Tensor, *, num_outputs: int | None = None, where: str = "targets") -> None:
        """Each part scans for itself."""
        for _, loss in self.losses.values():
            loss.check(targets, num_outputs=num_outputs, where=where)

    def log_probs(self, outputs: Tensor) -> Tensor:
        """As its first part has it."""
        return next(iter(self.losses.values()))[1].log_probs(outputs)
