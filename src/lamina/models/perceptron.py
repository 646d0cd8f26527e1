"""The perceptron.

Paper: Rosenblatt (1958), "The Perceptron: A Probabilistic Model for Information Storage and Organization in the Brain",
doi:10.1037/h0042519; several classes: Duda, Hart (1973), "Pattern Classification and Scene Analysis", section 5.12 (Kesler's construction).
Reported: converges on separable data after at most (R / margin)**2 mistakes (Novikoff 1962); can not learn XOR (Minsky, Papert 1969).
Differs from the paper: no fixed random layer of association units; inputs go to the response units directly.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import DataError, ShapeError
from lamina.core.registry import register
from lamina.nn.inputs import flatten_features


class PerceptronConfig(Config):
    """Sizes of the perceptron and the length of its steps."""

    in_features: int = Field(784, description="Values per row; images are flattened.", ge=1)
    num_classes: int = Field(10, description="Classes; two need one unit only.", ge=2)
    bias: bool = Field(True, description="Learn a threshold per unit; without it, boundaries go through the origin.")
    step_size: float = Field(
        1.0,
        description="What a mistake adds. From zero weights it scales all scores alike and changes no decision.",
        gt=0,
    )


@register(
    "model",
    "perceptron",
    config=PerceptronConfig,
    source="Rosenblatt (1958), doi:10.1037/h0042519",
    example="lamina train xor-perceptron",
    input="features",
    has_gradients=False,
)
class Perceptron(nn.Module):
    """Threshold units that learn from their mistakes only, one sample after the other (Rosenblatt's rule).

    Two classes have one unit: class 1 where w.x + b > 0. A mistake adds +x (the row was of class 1) or -x to w.
    More classes have a unit each, and the largest score wins, the first of equals: a mistake adds x to the weights
    of the right class and takes it from those of the class that won.

    Weights start at zero. The rule needs no gradients; the parameters have them nevertheless, so that the perceptron can be
    compared with the same units under a loss.

    Source: Rosenblatt (1958), doi:10.1037/h0042519.
    """

    def __init__(
        self, *, in_features: int = 784, num_classes: int = 10, bias: bool = True, step_size: float = 1.0
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.num_classes = num_classes
        self.step_size = step_size
        self.head = nn.Linear(in_features, 1 if num_classes == 2 else num_classes, bias=bias)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_features) or (B, C, H, W) -> (B, num_classes), logits; for two classes (0, score)."""
        scores = self.head(self.features(inputs))
        if self.num_classes == 2:
            return torch.cat([torch.zeros_like(scores), scores], dim=1)
        return scores  # type: ignore[no-any-return]

    def features(self, inputs: Tensor) -> Tensor:
        """The flattened input (B, in_features)."""
        return flatten_features(self, inputs, in_features=self.in_features)

    @torch.no_grad()
    def update(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Apply Rosenblatt's rule to the rows one after the other, in order.

        Args:
            inputs: Float (B, in_features), or images with that many values.
            targets: int64 labels (B,).

        Returns:
            Which rows were mistaken when they came, bool (B,).

        Raises:
            ShapeError: Shapes do not fit the model or each other.
            DataError: A label outside the classes.
        """
        features = self.features(inputs).to(self.head.weight.dtype)
        if targets.shape != (len(features),):
            raise ShapeError(
                f"Perceptron got targets shaped {tuple(targets.shape)} with {len(features)} rows.",
                where="Perceptron.update, argument `targets`",
                accepts=f"int64 tensor ({len(features)},)",
                mend="give one label per row",
            )
        outside = (targets < 0) | (targets >= self.num_classes)
        if bool(outside.any()):
            row = int(outside.nonzero()[0, 0])
            raise DataError(
                f"Row {row} of the batch has the label {int(targets[row])}.",
                where="Perceptron.update, argument `targets`",
                accepts=f"labels from 0 to {self.num_classes - 1}",
                mend="check the labels with `lamina data PATH`, or build with more num_classes",
            )
        learn = self._learn_binary if self.num_classes == 2 else self._learn_multiclass
        with torch.autocast(features.device.type, enabled=False):
            mistakes = [learn(row, int(target)) for row, target in zip(features, targets.tolist(), strict=True)]
        return torch.tensor(mistakes, dtype=torch.bool, device=features.device)

    def learn(self, inputs: Tensor, targets: Tensor) -> Mapping[str, tuple[Tensor, Tensor | float]]:
        """`update`, as the engine asks of models without gradients; logs the share of mistakes."""
        mistakes = self.update(inputs, targets)
        return {"mistakes": (mistakes.sum().to(torch.float32), float(len(mistakes)))}

    def templates(self, image_shape: tuple[int, int, int]) -> Tensor:
        """The weights of each unit as an image (units, C, H, W)."""
        return self.head.weight.detach().view(-1, *image_shape)

    def _learn_binary(self, row: Tensor, target: int) -> bool:
        if int(self.head(row) > 0) == target:
            return False
        self._add(0, row, self.step_size if target else -self.step_size)
        return True

    def _learn_multiclass(self, row: Tensor, target: int) -> bool:
        won = int(self.head(row).argmax())
        if won == target:
            return False
        self._add(target, row, self.step_size)
        self._add(won, row, -self.step_size)
        return True

    def _add(self, unit: int, row: Tensor, step: float) -> None:
        self.head.weight[unit].add_(row, alpha=step)
        if self.head.bias is not None:
            self.head.bias[unit].add_(step)
