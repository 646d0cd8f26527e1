"""Initial weights, each layer drawn from a stream of its own.

`initialise` goes through the linear and convolution layers of a model. A layer's draw is keyed by the seed and the name
of its parameter, so that adding a layer leaves the others' weights as they were. Other layers that have a method
`draw_own(generator)` draw their weights themselves, by their own rule.

fan_in is the number of inputs that one output is summed from, fan_out the number of outputs that one input reaches,
both without regard to strides and borders; a grouped convolution counts one group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import lookup, register

__all__ = ["fans", "initialise"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Fan = Literal["fan_in", "fan_out"]


class NoOptions(Config):
    """An initialiser without options."""


class NormalConfig(Config):
    """Options of `normal`."""

    std: float = Field(0.01, description="Standard deviation.", ge=0)
    mean: float = Field(0.0, description="Mean.")


class UniformConfig(Config):
    """Options of `uniform`."""

    bound: float = Field(0.05, description="Values lie between minus and plus this.", gt=0)


class TruncatedNormalConfig(Config):
    """Options of `truncated-normal`."""

    std: float = Field(0.02, description="Standard deviation before truncation.", gt=0)
    cut: float = Field(2.0, description="Values beyond this many standard deviations are drawn again.", gt=0)


class GainConfig(Config):
    """Options of an initialiser with a gain."""

    gain: float = Field(
        1.0, description="Factor of all weights: 1 for linear and sigmoid units, 5/3 for tanh, sqrt(2) for ReLU.", gt=0
    )


class HeConfig(Config):
    """Options of He's initialisers."""

    mode: Fan = Field("fan_in", description="fan_in keeps the variance of activations, fan_out that of gradients.")
    negative_slope: float = Field(0.0, description="Slope of the rectifier for negative inputs.", ge=0)


def initialise(
    module: nn.Module,
    name: str,
    *,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    bias: str | None = None,
    bias_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Draw the weights of every linear and convolution layer anew, in place.

    Args:
        module: A model, or a layer.
        name: Initialiser of the weights.
        seed: Each parameter is drawn from its own stream (seed, "init", name of the parameter); the usual way.
        generator: One CPU generator for all, in the order of the layers; instead of `seed`.
        bias: Initialiser of the biases, or `keep`; default: `zeros`, and torch's own with `torch`.
        bias_options: Options of the biases' initialiser.
        **options: Options of the weights' initialiser.

    Example:
        >>> layer = nn.Linear(784, 16)
        >>> initialise(layer, "he-normal", seed=0)
        >>> round(layer.weight.std().item(), 3), layer.bias.abs().sum().item()  # sqrt(2 / 784) = 0.0505
        (0.05, 0.0)

    Raises:
        UnknownNameError: No initialiser has this name.
        ConfigError: An option is unknown or out of bounds; neither or both of `seed` and `generator`; `orthogonal` for biases.
    """
    if (seed is None) == (generator is None):
        raise ConfigError(
            "initialise needs a seed or a generator, one of the two.",
            where="initialise, arguments `seed` and `generator`",
            accepts="seed=NUMBER, or generator=torch.Generator()",
            mend="give the run's seed",
        )
    bias_name = bias or ("torch" if name == "torch" else "zeros")
    fill_weight = _filler(name, options)
    fill_bias = None if bias_name == "keep" else _filler(bias_name, dict(bias_options or {}))
    for prefix, layer in _layers(module):
        for key, fill in (("weight", fill_weight), ("bias", fill_bias)):
            tensor = layer._parameters.get(key)
            if tensor is None or fill is None or tensor.is_meta:  # counted without values, nothing to draw
                continue
            own = generator if seed is None else draws.generator(seed, "init", f"{prefix}{key}")
            # Drawn on the CPU, in contiguous order, in float32 or wider, so that device, layout and dtype change nothing.
            drawn = torch.empty(tensor.shape, dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)
            fill(drawn, layer, own)
            with torch.no_grad():
                tensor.copy_(drawn)
    # What contains others comes after them, so that it may draw anew what it has of its own.
    for path, layer in reversed(list(module.named_modules())):
        draw_own = getattr(layer, "draw_own", None)
        if draw_own is not None:  # layers whose weights no initialiser is meant for: embeddings, recurrent cells
            draw_own(generator if seed is None else draws.generator(seed, "init", path))


def fans(layer: nn.Module) -> tuple[int, int]:
    """fan_in and fan_out of a linear or convolution layer.

    >>> fans(nn.Conv2d(4, 8, 3, groups=2))
    (18, 36)
    """
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    assert isinstance(layer, _CONVOLUTIONS + _TRANSPOSED)
    area = math.prod(layer.kernel_size)
    return layer.in_channels // layer.groups * area, layer.out_channels // layer.groups * area


def _layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Prefix of the parameter names, and layer; without computed weights (weight norm), shared ones, and those not known yet."""
    seen: set[int] = set()
    for name, layer in module.named_modules():
        if not isinstance(layer, (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)):
            continue
        weight = layer._parameters.get("weight")
        if weight is None or id(weight) in seen or isinstance(weight, nn.UninitializedParameter):
            continue
        seen.add(id(weight))
        yield (f"{name}." if name else ""), layer


def _filler(name: str, options: Mapping[str, Any]) -> Callable[[Tensor, nn.Module, torch.Generator | None], None]:
    entry = lookup("initialiser", name, where="name of an initialiser")
    assert entry.config is not None
    config = entry.config.from_values(options, where=f"initialiser {name}")

    def fill(tensor: Tensor, layer: nn.Module, generator: torch.Generator | None) -> None:
        fan_in, fan_out = fans(layer)
        if entry.target is torch_default and isinstance(layer, _TRANSPOSED):
            fan_in = fan_out  # torch takes the weight's second dimension, here the outputs
        entry.target(tensor, fan_in=fan_in, fan_out=fan_out, generator=generator, **dict(config))

    return fill


def _normal(tensor: Tensor, std: float, generator: torch.Generator) -> None:
    tensor.normal_(0.0, std, generator=generator)


def _uniform(tensor: Tensor, bound: float, generator: torch.Generator) -> None:
    tensor.uniform_(-bound, bound, generator=generator)


@register("initialiser", "zeros", config=NoOptions, source="what not to do: all units of a layer learn the same")
def zeros(tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    """All zero. Right for biases; as weights every unit of a layer stays equal to the others."""
    del fan_in, fan_out, generator
    tensor.zero_()


@register(
    "initialiser", "normal", config=NormalConfig, source="Krizhevsky, Sutskever, Hinton (2012), ImageNet Classification"
)
def normal(
    tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator, std: float = 0.01, mean: float = 0.0
) -> None:
    """Normal with a fixed standard deviation, whatever the width of the layer."""
    del fan_in, fan_out
    tensor.normal_(mean, std, generator=generator)


@register(
    "initialiser", "uniform", config=UniformConfig, source="Rumelhart, Hinton, Williams (1986), doi:10.1038/323533a0"
)
def uniform(tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator, bound: float = 0.05) -> None:
    """Uniform between minus and plus a fixed bound, whatever the width of the layer."""
    del fan_in, fan_out
    _uniform(tensor, bound, generator)


@register(
    "initialiser",
    "truncated-normal",
    config=TruncatedNormalConfig,
    source="Devlin, Chang, Lee, Toutanova (2019), arXiv:1810.04805",
)
def truncated_normal(
    tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator, std: float = 0.02, cut: float = 2.0
) -> None:
    """Normal without the values beyond `cut` standard deviations; with 2 its own standard deviation is 0.88 of `std`."""
    del fan_in, fan_out
    nn.init.trunc_normal_(tensor, 0.0, std, -cut * std, cut * std, generator=generator)


def _xavier_normal(tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator, gain: float = 1.0) -> None:
    """Normal with variance 2 / (fan_in + fan_out): keeps variances forwards and backwards for units linear at zero."""
    _normal(tensor, gain * math.sqrt(2.0 / (fan_in + fan_out)), generator)


def _xavier_uniform(
    tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator, gain: float = 1.0
) -> None:
    """Uniform with variance 2 / (fan_in + fan_out): keeps variances forwards and backwards for units linear at zero."""
    _uniform(tensor, gain * math.sqrt(6.0 / (fan_in + fan_out)), generator)


def _he_std(fan_in: int, fan_out: int, mode: Fan, negative_slope: float) -> float:
    fan = fan_in if mode == "fan_in" else fan_out
    return math.sqrt(2.0 / ((1.0 + negative_slope**2) * fan))


def _he_normal(
    tensor: Tensor,
    *,
    fan_in: int,
    fan_out: int,
    generator: torch.Generator,
    mode: Fan = "fan_in",
    negative_slope: float = 0.0,
) -> None:
    """Normal with variance 2 / fan_in: keeps the variance through rectifiers, which halve it."""
    _normal(tensor, _he_std(fan_in, fan_out, mode, negative_slope), generator)


def _he_uniform(
    tensor: Tensor,
    *,
    fan_in: int,
    fan_out: int,
    generator: torch.Generator,
    mode: Fan = "fan_in",
    negative_slope: float = 0.0,
) -> None:
    """Uniform with variance 2 / fan_in: keeps the variance through rectifiers, which halve it."""
    _uniform(tensor, math.sqrt(3.0) * _he_std(fan_in, fan_out, mode, negative_slope), generator)


# The two names of each are both in use: by first name and by last name of the first author.
_GLOROT = "Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural networks"
_HE = "He, Zhang, Ren, Sun (2015), arXiv:1502.01852"
for _name in ("xavier", "glorot"):
    register("initialiser", f"{_name}-normal", config=GainConfig, source=_GLOROT)(_xavier_normal)
    register("initialiser", f"{_name}-uniform", config=GainConfig, source=_GLOROT)(_xavier_uniform)
for _name in ("he", "kaiming"):
    register("initialiser", f"{_name}-normal", config=HeConfig, source=_HE)(_he_normal)
    register("initialiser", f"{_name}-uniform", config=HeConfig, source=_HE)(_he_uniform)


@register(
    "initialiser",
    "lecun-normal",
    config=NoOptions,
    source="LeCun, Bottou, Orr, Müller (1998), Efficient BackProp, section 4.6",
)
def lecun_normal(tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    """Normal with variance 1 / fan_in; what SELU networks need."""
    del fan_out
    _normal(tensor, math.sqrt(1.0 / fan_in), generator)


@register(
    "initialiser",
    "lecun-uniform",
    config=NoOptions,
    source="LeCun, Bottou, Orr, Müller (1998), Efficient BackProp, section 4.6",
)
def lecun_uniform(tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    """Uniform with variance 1 / fan_in."""
    del fan_out
    _uniform(tensor, math.sqrt(3.0 / fan_in), generator)


@register("initialiser", "orthogonal", config=GainConfig, source="Saxe, McClelland, Ganguli (2014), arXiv:1312.6120")
def orthogonal(tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator, gain: float = 1.0) -> None:
    """A random matrix with orthonormal rows (or columns, if fewer), times a gain; kernels are flattened to a row each."""
    del fan_in, fan_out
    if tensor.dim() < 2:
        raise ConfigError(
            "orthogonal cannot fill a bias.",
            where="initialise, argument `bias`",
            accepts="zeros, normal, uniform, torch, keep, …",
            mend="leave bias out for zeros",
        )
    nn.init.orthogonal_(tensor, gain=gain, generator=generator)


@register("initialiser", "torch", config=NoOptions, source="torch.nn.Linear and torch.nn.Conv2d, reset_parameters")
def torch_default(tensor: Tensor, *, fan_in: int, fan_out: int, generator: torch.Generator) -> None:
    """Uniform between minus and plus 1 / sqrt(fan_in), biases too: what torch's layers begin with."""
    del fan_out
    _uniform(tensor, 1.0 / math.sqrt(fan_in), generator)
