"""What is minimised: a loss, and penalties on parameters beside it, each part named and logged.

Penalties do not depend on the batch; their weight is 1, once per step however the batch is divided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError, LaminaError
from lamina.nn.losses import CallableLoss, Loss, LossPart, WeightedSum, create_loss
from lamina.nn.penalties import create_penalties
from lamina.tasks.base import Losses
from lamina.tasks.pipeline import model_device

LossLike = Callable[..., Any] | Mapping[str, Any] | str


class Objective:
    """A loss with penalties.

    Args:
        loss: Values of a registered loss, its name, or a function of your own.
        penalties: Values of penalties.
        kind: `label` for int64 class indices (B,), `number` for floats shaped like the outputs.
        num_classes: Of the labels.
        class_weights: One per class.
        prefix: Put before the names under which the loss's parts are logged.

    Raises:
        ConfigError: The loss is not one for such targets.
    """

    def __init__(
        self,
        loss: LossLike,
        penalties: Sequence[Mapping[str, Any]] = (),
        *,
        kind: Literal["label", "number"],
        num_classes: int | None = None,
        class_weights: Sequence[float] | None = None,
        prefix: str = "",
    ) -> None:
        self.loss: Loss = create_loss(loss, num_classes=num_classes, class_weights=class_weights)
        self.kind = kind
        self.num_classes = num_classes
        self.prefix = prefix
        self.penalties = create_penalties(penalties)
        # A function of your own, or a sum of several, is known only by trying it (`check`).
        plain = not isinstance(self.loss, CallableLoss | WeightedSum)
        if kind == "label" and plain and self.loss.targets == "number":
            raise ConfigError(
                f"{self.loss.name} compares numbers; the data has classes.",
                where="loss.name",
                accepts="a loss over classes: cross-entropy, focal, hinge, half-squared-error, …",
                mend="leave loss out for cross-entropy",
            )

        if kind == "label" and self.loss.targets == "binary" and num_classes != 2:
            raise ConfigError(
                f"{self.loss.name} is for two classes; the data has {num_classes}.",
                where="loss.name",
                accepts="a loss over any number of classes: cross-entropy, focal, hinge, half-squared-error, …",
                mend="leave loss out for cross-entropy",
            )

    @property
    def is_likelihood(self) -> bool:
        """Minimising it gives calibrated probabilities."""
        return self.loss.is_likelihood

    def __call__(
        self,
        model: nn.Module,
        outputs: Tensor,
        targets: Tensor,
        weights: Tensor | None = None,
        *,
        others: Tensor | None = None,
        mix: Tensor | None = None,
    ) -> Losses:
        """The parts of a batch.

        Args:
            model: Its parameters are what the penalties look at.
            outputs: float (B, K).
            targets: int64 (B,) or float (B, K).
            weights: float (B,), how much each row counts.
            others: Second targets, shaped as `targets`, of rows that are mixed of two (mixup, CutMix).
            mix: float (B,), the share of the first: mix * loss(targets) + (1 - mix) * loss(others), row by row.
        """
        losses = Losses()
        if self.kind == "label" and self.loss.targets == "binary":
            outputs, targets = self._score(outputs), targets.to(torch.float32)
            others = None if others is None else others.to(torch.float32)
        if others is None or mix is None:
            parts = self.loss.parts(outputs, targets, weights=weights)
        else:
            own, rest = (mix, 1 - mix) if weights is None else (mix * weights, (1 - mix) * weights)
            parts = self.loss.parts(outputs, targets, weights=own)
            second = self.loss.parts(outputs, others, weights=rest)
            parts = {
                name: LossPart(part.total + second[name].total, part.weight + second[name].weight, part.factor)
                for name, part in parts.items()
            }
        for name, part in parts.items():
            losses.add(f"{self.prefix}{name}", part.total, part.weight, factor=part.factor)
        for penalty in self.penalties:
            losses.add(penalty.name, penalty(model.named_parameters()), 1.0, factor=penalty.strength)
        return losses

    def _score(self, outputs: Tensor) -> Tensor:
        """The score of the second class (B,): the only output, or what the second has more than the first."""
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]

    def log_probs(self, logits: Tensor) -> Tensor:
        """Log-probabilities (B, C), as the loss understands the outputs."""
        return self.loss.log_probs(logits)

    def check(self, model: nn.Module, width: int) -> None:
        """Try the loss on two rows of zeros with `width` outputs, and the penalties on the model.

        Raises:
            ConfigError: It cannot be taken of such outputs and targets.
        """
        device = model_device(model)
        outputs = torch.zeros(2, width, device=device)
        targets = outputs.new_zeros(2, dtype=torch.int64) if self.kind == "label" else torch.zeros_like(outputs)
        try:
            if self.kind == "label" and width == 1 and self.loss.targets != "binary":
                raise ConfigError(
                    f"{self.loss.name} needs an output per class; the model has one for two classes.",
                    where="loss.name",
                    accepts="2 outputs, or a loss for one: binary-cross-entropy, binary-hinge",
                    mend="set model.num_classes=2, or loss.name=binary-cross-entropy",
                )
            with torch.no_grad():
                both = self(model, outputs, targets)
                one = self(model, outputs[:1], targets[:1])
        except LaminaError as error:
            raise ConfigError(
                f"What is minimised cannot be computed with the model's {width} outputs: {error.what}",
                where=error.where,
                accepts=error.accepts,
                mend=error.mend,
            ) from error
        shape = tuple(both.total().shape)
        if shape:
            raise ConfigError(
                f"The loss of two rows has shape {shape}.",
                where="loss",
                accepts="a scalar: the sum over the rows",
                mend="return (sum, weight), or one loss per row, from your loss function",
            )
        if isinstance(self.loss, CallableLoss):
            name = self.loss.name
            counts = [float(losses.terms[f"{self.prefix}{name}"][1]) for losses in (one, both)]
            if counts[1] != 2 * counts[0]:
                raise ConfigError(
                    f"The loss function {name} gives {counts[0]:g} numbers for one row and {counts[1]:g} for two.",
                    where=f"loss {name}",
                    accepts="as many numbers for each row; (N,) against (N, 1) broadcasts to (N, N)",
                    mend="compare the shapes of outputs and targets inside the function, and squeeze or unsqueeze one of them",
                )
