"""Activation functions, under one set of names.

`create_activation("relu")` gives torch's own module where there is one. Each function below states formula and range.
Slopes are not zero-centred for sigmoid, softplus and ReLU; sigmoid and tanh are flat for large |x|, which is why
gradients vanish towards the input of deep networks built from them.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, ShapeError
from lamina.core.registry import lookup, register

__all__ = ["Maxout", "create_activation"]


class NoOptions(Config):
    """An activation without options."""


class InplaceConfig(Config):
    """Options of an activation that can overwrite its input."""

    inplace: bool = Field(
        False,
        description="Overwrite the input, which saves memory traffic. Safe after a linear, convolution or norm layer "
        "whose output nothing else reads; not on a branch of a residual sum.",
    )


class LeakyReLUConfig(InplaceConfig):
    """Options of leaky ReLU."""

    negative_slope: float = Field(0.01, description="Slope for negative inputs.", ge=0)


class PReLUConfig(Config):
    """Options of PReLU."""

    num_parameters: int = Field(
        1, description="One learned slope, or one per channel (then the number of channels).", ge=1
    )
    init: float = Field(0.25, description="Slope at the beginning.")


class ELUConfig(InplaceConfig):
    """Options of ELU."""

    alpha: float = Field(1.0, description="Minus the limit for very negative inputs.", gt=0)


class GELUConfig(Config):
    """Options of GELU."""

    approximate: Literal["none", "tanh"] = Field(
        "none", description="tanh: the approximation of BERT's and GPT-2's first code."
    )


class SoftplusConfig(Config):
    """Options of softplus."""

    beta: float = Field(1.0, description="Sharpness; the function tends to ReLU as it grows.", gt=0)


class SoftmaxConfig(Config):
    """Options of softmax and log-softmax."""

    dim: int = Field(-1, description="Dimension that sums to one.")


class MaxoutConfig(Config):
    """Options of a maxout layer."""

    in_features: int = Field(description="Features of the input.", ge=1)
    out_features: int = Field(description="Features of the output.", ge=1)
    num_pieces: int = Field(2, description="Linear functions of which each output is the largest.", ge=1)


def create_activation(name: str, **options: Any) -> nn.Module:
    """The activation module called `name`.

    Example:
        >>> create_activation("leaky-relu", negative_slope=0.2)(torch.tensor([-1.0, 2.0]))
        tensor([-0.2000,  2.0000])

    Raises:
        UnknownNameError: No activation has this name.
        ConfigError: It has no such option, or the value is out of bounds.
    """
    entry = lookup("activation", name, where="name of an activation")
    assert entry.config is not None
    config = entry.config.from_values(options, where=f"activation {name}")
    module: nn.Module = entry.target(**dict(config))
    return module


@register("activation", "identity", config=NoOptions, source="for completeness: the perceptron without its threshold")
def identity() -> nn.Module:
    """The input itself, x. Range: all numbers. A network of linear layers with it is one linear layer."""
    return nn.Identity()


@register("activation", "sigmoid", config=NoOptions, source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0")
def sigmoid() -> nn.Module:
    """Logistic function: 1 / (1 + exp(-x)). Range: the open interval (0, 1). Slope at most 1/4, at 0."""
    return nn.Sigmoid()


@register("activation", "tanh", config=NoOptions, source="LeCun, Bottou, Orr, Müller (1998), Efficient BackProp")
def tanh() -> nn.Module:
    """Hyperbolic tangent: (exp(x) - exp(-x)) / (exp(x) + exp(-x)). Range: (-1, 1), zero-centred. Slope at most 1, at 0."""
    return nn.Tanh()


@register("activation", "relu", config=InplaceConfig, source="Nair, Hinton (2010), Rectified Linear Units Improve RBMs")
def relu(*, inplace: bool = False) -> nn.Module:
    """Rectified linear unit: max(0, x). Range: [0, inf). Slope 0 or 1; a unit that is negative for all samples learns no more."""
    return nn.ReLU(inplace=inplace)


@register(
    "activation", "leaky-relu", config=LeakyReLUConfig, source="Maas, Hannun, Ng (2013), Rectifier Nonlinearities"
)
def leaky_relu(*, negative_slope: float = 0.01, inplace: bool = False) -> nn.Module:
    """Leaky rectifier: x for x >= 0, negative_slope * x below. Range: all numbers (for a positive slope)."""
    return nn.LeakyReLU(negative_slope, inplace=inplace)


@register("activation", "prelu", config=PReLUConfig, source="He, Zhang, Ren, Sun (2015), arXiv:1502.01852")
def prelu(*, num_parameters: int = 1, init: float = 0.25) -> nn.Module:
    """Parametric rectifier: x for x >= 0, a * x below, with a learned slope a. Range: all numbers (for a positive a)."""
    return nn.PReLU(num_parameters, init=init)


@register("activation", "elu", config=ELUConfig, source="Clevert, Unterthiner, Hochreiter (2016), arXiv:1511.07289")
def elu(*, alpha: float = 1.0, inplace: bool = False) -> nn.Module:
    """Exponential linear unit: x for x > 0, alpha * (exp(x) - 1) below. Range: (-alpha, inf)."""
    return nn.ELU(alpha, inplace=inplace)


@register(
    "activation",
    "selu",
    config=InplaceConfig,
    source="Klambauer, Unterthiner, Mayr, Hochreiter (2017), arXiv:1706.02515",
)
def selu(*, inplace: bool = False) -> nn.Module:
    """Scaled ELU: 1.0507 * ELU(x) with alpha 1.6733. Range: (-1.7581, inf). Keeps mean 0 and variance 1 with LeCun's initial weights."""
    return nn.SELU(inplace=inplace)


@register("activation", "gelu", config=GELUConfig, source="Hendrycks, Gimpel (2016), arXiv:1606.08415")
def gelu(*, approximate: Literal["none", "tanh"] = "none") -> nn.Module:
    """Gaussian error linear unit: x * Phi(x), Phi the standard normal distribution function. Range: [-0.17, inf)."""
    return nn.GELU(approximate=approximate)


@register("activation", "silu", config=InplaceConfig, source="Elfwing, Uchibe, Doya (2018), arXiv:1702.03118")
def silu(*, inplace: bool = False) -> nn.Module:
    """Sigmoid linear unit, also called swish: x * sigmoid(x). Range: [-0.2785, inf)."""
    return nn.SiLU(inplace=inplace)


@register("activation", "softplus", config=SoftplusConfig, source="Dugas, Bengio, Bélisle, Nadeau, Garcia (2001)")
def softplus(*, beta: float = 1.0) -> nn.Module:
    """Smooth rectifier: log(1 + exp(beta * x)) / beta. Range: (0, inf). Its slope is the sigmoid."""
    return nn.Softplus(beta=beta)


@register("activation", "softmax", config=SoftmaxConfig, source="Bridle (1990), doi:10.1007/978-3-642-76153-9_28")
def softmax(*, dim: int = -1) -> nn.Module:
    """Normalised exponentials: exp(x_i) / sum_j exp(x_j). Range: (0, 1), summing to 1. Losses take logits: put none before a cross-entropy."""
    return nn.Softmax(dim=dim)


@register("activation", "log-softmax", config=SoftmaxConfig, source="Bridle (1990), doi:10.1007/978-3-642-76153-9_28")
def log_softmax(*, dim: int = -1) -> nn.Module:
    """Logarithm of the softmax: x_i - log(sum_j exp(x_j)). Range: (-inf, 0]. Exact where the logarithm of a softmax would underflow."""
    return nn.LogSoftmax(dim=dim)


@register(
    "activation",
    "maxout",
    config=MaxoutConfig,
    source="Goodfellow, Warde-Farley, Mirza, Courville, Bengio (2013), arXiv:1302.4389",
    example="create_activation('maxout', in_features=784, out_features=240, num_pieces=5)",
)
class Maxout(nn.Module):
    """A layer whose outputs are each the largest of several linear functions: max_k (W_k x + b_k). Range: all numbers.

    Args:
        in_features: Features of the input.
        out_features: Features of the output.
        num_pieces: Linear functions per output; 2 already make |x| and ReLU.

    Shapes: (B, …, in_features) -> (B, …, out_features).

    Source: Goodfellow, Warde-Farley, Mirza, Courville, Bengio (2013), arXiv:1302.4389.
    """

    def __init__(self, in_features: int, out_features: int, *, num_pieces: int = 2) -> None:
        super().__init__()
        if min(in_features, out_features, num_pieces) < 1:
            raise ConfigError(
                f"Maxout got in_features={in_features}, out_features={out_features}, num_pieces={num_pieces}.",
                where="Maxout",
                accepts="numbers from 1",
                mend="give the width of the layer before as in_features",
            )
        self.in_features = in_features
        self.out_features = out_features
        self.num_pieces = num_pieces
        self.linear = nn.Linear(in_features, out_features * num_pieces)

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"in_features={self.in_features}, out_features={self.out_features}, num_pieces={self.num_pieces}"

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …, in_features) -> (B, …, out_features)."""
        if inputs.shape[-1] != self.in_features:
            raise ShapeError(
                f"Maxout got inputs shaped {tuple(inputs.shape)}.",
                where="Maxout.forward, argument `inputs`",
                accepts=f"(batch, …, {self.in_features})",
                mend=f"build it with in_features={inputs.shape[-1]}",
            )
        pieces = self.linear(inputs).unflatten(-1, (self.out_features, self.num_pieces))
        return torch.amax(pieces, dim=-1)
