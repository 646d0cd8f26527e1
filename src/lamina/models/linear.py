"""Linear scores.

Paper: McFadden (1974), "Conditional Logit Analysis of Qualitative Choice Behavior", with the softmax; Crammer, Singer (2001), "On the
Algorithmic Implementation of Multiclass Kernel-based Vector Machines", with the multiclass hinge. The model is the same; the loss differs.
Reported: 12.0 % test error on MNIST for a linear classifier trained by least squares (LeCun et al. 1998, section III).
Differs from the paper: none in the model; it is trained by gradient descent on the loss of the recipe.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import flatten_features


class LinearConfig(Config):
    """Sizes of the scores."""

    in_features: int = Field(784, description="Values per row; images are flattened.", ge=1)
    num_classes: int = Field(10, description="Classes, or numbers per row in regression.", ge=1)
    bias: bool = Field(True, description="Add a learned constant to each score.")
    initialiser: str = Field("xavier-uniform", description="Name of the initialiser of the weights; biases are zero.")


@register(
    "model",
    "linear",
    config=LinearConfig,
    source="McFadden (1974); Crammer, Singer (2001), jmlr.org/papers/v2/crammer01a",
    example="lamina train mnist-linear",
    input="features",
    regression=True,
)
class Linear(nn.Module):
    """Scores W x + b of the flattened input, one per class.

    Source: McFadden (1974); Crammer, Singer (2001), jmlr.org/papers/v2/crammer01a.
    """

    def __init__(
        self, *, in_features: int = 784, num_classes: int = 10, bias: bool = True, initialiser: str = "xavier-uniform"
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.head = nn.Linear(in_features, num_classes, bias=bias)
        initialise(self, initialiser, generator=torch.default_generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_features) or (B, C, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(inputs))  # type: ignore[no-any-return]

    def features(self, inputs: Tensor) -> Tensor:
        """The flattened input (B, in_features)."""
        return flatten_features(self, inputs, in_features=self.in_features)

    def templates(self, image_shape: tuple[int, int, int]) -> Tensor:
        """The weights of each class as an image (num_classes, C, H, W): what raises its score, and, where negative, lowers it.

        Raises:
            ShapeError: The shape holds another number of values than the input.
        """
        if math.prod(image_shape) != self.in_features:
            raise ShapeError(
                f"{self.in_features} weights per class do not make images of shape {tuple(image_shape)}.",
                where="Linear.templates, argument `image_shape`",
                accepts=f"(channels, height, width) with a product of {self.in_features}",
                mend="give the shape of the images that the model was trained on",
            )
        return self.head.weight.detach().view(-1, *image_shape)
