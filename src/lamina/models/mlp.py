"""Multilayer perceptron.

Paper: Rumelhart, Hinton, Williams (1986), "Learning Representations by Back-Propagating Errors", doi:10.1038/323533a0.
Reported: 3.05 % test error on MNIST with 784-300-100-10 units (LeCun et al. 1998, section III); 784-16-16-10 is the size that
introductory films draw, with 13,002 weights and biases.
Differs from the paper: any activation, norms and dropout by choice; ReLU instead of sigmoid units by default; logits instead of unit outputs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.nn.activations import Maxout, create_activation
from lamina.nn.dropout import Dropout
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import flatten_features
from lamina.nn.norms import create_norm


class MLPConfig(Config):
    """Widths of the layers and what stands between them."""

    in_features: int = Field(784, description="Values per row; images are flattened.", ge=1)
    hidden_sizes: tuple[int, ...] = Field(
        (16, 16), description="Units of each hidden layer, from the input on; none makes it linear."
    )
    num_classes: int = Field(10, description="Classes, or numbers per row in regression.", ge=1)
    activation: str | tuple[str, ...] = Field(
        "relu", description="Activation of the hidden layers: one name, or one per layer."
    )
    norm: str = Field(
        "none", description="Norm between a hidden layer and its activation: none, batch-norm, layer-norm."
    )
    dropout: float | tuple[float, ...] = Field(
        0.0, description="Probability of dropping a hidden unit in training: one number, or one per layer."
    )
    bias: bool = Field(True, description="Learn a constant per unit.")
    initialiser: str = Field("kaiming-uniform", description="Name of the initialiser of the weights; biases are zero.")


@register(
    "model",
    "mlp",
    config=MLPConfig,
    source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0",
    example="lamina train mnist-mlp model.hidden_sizes=[128,64]",
    input="features",
    regression=True,
)
class MLP(nn.Module):
    """Layers of units, each connected to all units of the layer before.

    Each hidden layer is linear, norm, activation, dropout. The activation `maxout` replaces the linear layer too.

    Source: Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0.
    """

    def __init__(
        self,
        *,
        in_features: int = 784,
        hidden_sizes: Sequence[int] = (16, 16),
        num_classes: int = 10,
        activation: str | Sequence[str] = "relu",
        norm: str = "none",
        dropout: float | Sequence[float] = 0.0,
        bias: bool = True,
        initialiser: str = "kaiming-uniform",
    ) -> None:
        super().__init__()
        self.in_features = in_features
        count = len(hidden_sizes)
        activations = (activation,) * count if isinstance(activation, str) else tuple(activation)
        dropouts = (dropout,) * count if isinstance(dropout, int | float) else tuple(dropout)
        _check(hidden_sizes, activations, dropouts)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = in_features
        for number, (size, name, p) in enumerate(zip(hidden_sizes, activations, dropouts, strict=True), start=1):
            if name == "maxout":
                layers[f"maxout{number}"] = Maxout(width, size)
            else:
                layers[f"linear{number}"] = nn.Linear(width, size, bias=bias)
            if norm != "none":
                layers[f"norm{number}"] = create_norm(norm, size, dims=0)
            if name != "maxout":
                layers[f"activation{number}"] = create_activation(name)
            if p > 0:
                layers[f"dropout{number}"] = Dropout(p)
            width = size
        self.body = nn.Sequential(layers)
        self.head = nn.Linear(width, num_classes, bias=bias)
        initialise(self, initialiser, generator=torch.default_generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, in_features) or (B, C, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(inputs))  # type: ignore[no-any-return]

    def features(self, inputs: Tensor) -> Tensor:
        """Activations of the last hidden layer (B, hidden_sizes[-1])."""
        return self.body(flatten_features(self, inputs, in_features=self.in_features))  # type: ignore[no-any-return]


def _check(sizes: Sequence[int], activations: Sequence[str], dropouts: Sequence[float]) -> None:
    for key, given in (("activation", activations), ("dropout", dropouts)):
        if len(given) != len(sizes):
            raise ConfigError(
                f"MLP got {len(given)} values of {key} for {len(sizes)} hidden layers.",
                where=f"MLP, key `{key}`",
                accepts=f"one value for all layers, or {len(sizes)}",
                mend=f"give {key} once, or once per entry of hidden_sizes",
            )
    outside = [p for p in dropouts if not 0 <= p < 1]
    if outside:
        raise ConfigError(
            f"MLP got dropout={outside[0]}.",
            where="MLP, key `dropout`",
            accepts="probabilities of dropping, from 0 to below 1",
            mend="leave dropout out, or use 0.2, say",
        )
    if any(size < 1 for size in sizes):
        raise ConfigError(
            f"MLP got hidden_sizes={tuple(sizes)}.",
            where="MLP, key `hidden_sizes`",
            accepts="numbers from 1",
            mend="leave the empty layer out",
        )
