"""Optimizers by name: torch's own, fused where that is possible, and two that torch lacks.

`create_optimizer` divides the parameters into groups (biases and norms without weight decay, rates by name), keeps each
group's base rate as `initial_lr`, and guards the fused kernels against gradients in another memory layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

import torch
from torch import Tensor

from lamina.core.config import Field
from lamina.core.errors import ConfigError, nearest
from lamina.core.registry import lookup, register
from lamina.optim import ftrl, lars  # noqa: F401 (registers them)
from lamina.optim.options import Groups, OptimizerConfig, parameter_options

__all__ = ["create_optimizer", "parse_optimizer"]

Share = Annotated[float, Field(ge=0, lt=1)]


class SGDConfig(OptimizerConfig):
    """Options of `sgd`."""

    weight_decay: float = Field(0.0, description="Adds this times the weight to its gradient.", ge=0)


class MomentumConfig(SGDConfig):
    """Options of `momentum`."""

    momentum: float = Field(0.9, description="Share of the velocity that is kept.", ge=0, lt=1)
    dampening: float = Field(0.0, description="Share of the gradient that does not enter the velocity.", ge=0, lt=1)


class NesterovConfig(SGDConfig):
    """Options of `nesterov`."""

    momentum: float = Field(0.9, description="Share of the velocity that is kept.", gt=0, lt=1)


class AdagradConfig(SGDConfig):
    """Options of `adagrad`."""

    lr_decay: float = Field(0.0, description="The rate is divided by 1 + lr_decay * steps.", ge=0)
    initial_accumulator_value: float = Field(0.0, description="What the sums of squares begin with.", ge=0)
    eps: float = Field(1e-10, description="Added to the denominator.", ge=0)


class RMSpropConfig(SGDConfig):
    """Options of `rmsprop`."""

    lr: float = Field(0.001, description="Learning rate; the schedule multiplies it.", gt=0)
    alpha: float = Field(0.99, description="Share of the mean of squares that is kept.", ge=0, lt=1)
    momentum: float = Field(0.0, description="Share of the velocity that is kept.", ge=0, lt=1)
    centered: bool = Field(False, description="Divide by the standard deviation instead of the root mean square.")
    eps: float = Field(1e-8, description="Added to the denominator.", ge=0)


class AdamConfig(SGDConfig):
    """Options of `adam`."""

    lr: float = Field(0.001, description="Learning rate; the schedule multiplies it.", gt=0)
    betas: tuple[Share, Share] = Field(
        (0.9, 0.999), description="Shares kept of the mean of gradients and of the mean of squares."
    )
    eps: float = Field(1e-8, description="Added to the denominator.", ge=0)
    amsgrad: bool = Field(False, description="Divide by the largest mean of squares so far (Reddi, Kale, Kumar 2018).")


class AdamWConfig(AdamConfig):
    """Options of `adamw`."""

    weight_decay: float = Field(
        0.01, description="Each step shrinks the weight by lr times this, apart from the gradient.", ge=0
    )


def create_optimizer(
    values: Mapping[str, Any], named_parameters: Iterable[tuple[str, torch.nn.Parameter]]
) -> torch.optim.Optimizer:
    """An optimizer from the values of a recipe.

    Args:
        values: `name` and the optimizer's options.
        named_parameters: What it trains.

    Returns:
        The optimizer; each group has its base rate as `initial_lr`, so that a schedule sets `lr = initial_lr * factor`.

    Example:
        >>> layer = torch.nn.Linear(4, 2)
        >>> optimizer = create_optimizer({"name": "adamw", "lr": 0.01}, layer.named_parameters())
        >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
        [(1, 0.01), (1, 0.0)]

    Raises:
        UnknownNameError: No optimizer has this name.
        ConfigError: An option is unknown or out of bounds, there is nothing to train, or a pattern of `lr_by_name`
            fits no parameter.
    """
    name, config = parse_optimizer(values)
    named = list(named_parameters)
    if not named:
        raise ConfigError(
            "There are no parameters to train.",
            where=f"optimizer {name}",
            accepts="at least one parameter that requires a gradient",
            mend="check which parameters are frozen, and the patterns of stages and updates",
        )
    for pattern in config.lr_by_name:
        if not any(fnmatchcase(key, pattern) for key, _ in named):
            near = nearest(pattern, [key for key, _ in named])
            raise ConfigError(
                f"optimizer.lr_by_name has the pattern {pattern!r}, which fits no parameter.",
                where="key `optimizer.lr_by_name`",
                accepts=", ".join(key for key, _ in named[:24]) + (" …" if len(named) > 24 else ""),
                mend=f"did you mean {near[0]!r}?" if near else "`lamina inspect MODEL` names the layers",
            )
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for key, parameter in named:
        lr, decays = parameter_options(config, key, parameter)
        if (lr, decays) not in groups:
            penalties = {} if decays else dict.fromkeys(config.penalties, 0.0)
            groups[lr, decays] = {"params": [], "lr": lr, "initial_lr": lr, **penalties}
        groups[lr, decays]["params"].append(parameter)
    optimizer: torch.optim.Optimizer = lookup("optimizer", name).target(list(groups.values()), config)
    if optimizer.defaults.get("fused"):
        optimizer.register_step_pre_hook(_align_gradients)
    return optimizer


def parse_optimizer(values: Mapping[str, Any]) -> tuple[str, OptimizerConfig]:
    """Name and checked options from the values of a recipe."""
    options = dict(values)
    name = str(options.pop("name", "adam"))
    entry = lookup("optimizer", name, where="optimizer.name")
    assert entry.config is not None
    config = entry.config.from_values(options, where="optimizer")
    assert isinstance(config, OptimizerConfig)
    return name, config


# --- torch's own ----------------------------------------------------------------------------------------------------


def _kernels(groups: Groups, *, has_fused: bool = True) -> dict[str, bool]:
    """Fused kernels where they exist and are right, else foreach.

    On a CPU a fused Adam or Adagrad step takes half the time of a foreach one or less, momentum two thirds, plain SGD
    the same (benchmarks/layers.py).
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    fits = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") and _is_dense(p) for p in parameters)
    return {"fused": True} if has_fused and fits else {"foreach": True}


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill one stretch of memory, in any order of dimensions."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _same_layout(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order; strides of dimensions of size 1 mean nothing."""
    if one.stride() == other.stride():
        return True
    return all(a == b for a, b, size in zip(one.stride(), other.stride(), one.shape, strict=True) if size > 1)


def _align_gradients(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Lay gradients out in memory as their parameters are.

    torch's fused CPU kernels walk through raw memory: with a channels-last gradient of a contiguous parameter they step
    each weight by another weight's gradient, and say nothing (tests/unit/optim/test_create.py shows it). Autograd keeps
    the layouts equal by itself; gradients assigned by hand, or a model converted afterwards, do not.
    """
    del args, kwargs
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            grad = parameter.grad
            if grad is not None and not _same_layout(grad, parameter):
                parameter.grad = torch.empty_like(parameter).copy_(grad)
            for key, value in optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.dim() and not _same_layout(value, parameter):
                    optimizer.state[parameter][key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


@register("optimizer", "sgd", config=SGDConfig, source="Robbins, Monro (1951), doi:10.1214/aoms/1177729586")
def sgd(groups: Groups, config: SGDConfig) -> torch.optim.Optimizer:
    """Stochastic gradient descent: w <- w - lr * g."""
    return torch.optim.SGD(groups, lr=config.lr, weight_decay=config.weight_decay, **_kernels(groups))


@register("optimizer", "momentum", config=MomentumConfig, source="Polyak (1964), doi:10.1016/0041-5553(64)90137-5")
def momentum(groups: Groups, config: MomentumConfig) -> torch.optim.Optimizer:
    """Gradient descent with a velocity: v <- momentum * v + g; w <- w - lr * v."""
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        dampening=config.dampening,
        weight_decay=config.weight_decay,
        **_kernels(groups),
    )


@register("optimizer", "nesterov", config=NesterovConfig, source="Sutskever, Martens, Dahl, Hinton (2013), ICML 28")
def nesterov(groups: Groups, config: NesterovConfig) -> torch.optim.Optimizer:
    """Momentum that looks ahead: v <- momentum * v + g; w <- w - lr * (g + momentum * v)."""
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=True,
        weight_decay=config.weight_decay,
        **_kernels(groups),
    )


@register("optimizer", "adagrad", config=AdagradConfig, source="Duchi, Hazan, Singer (2011), JMLR 12")
def adagrad(groups: Groups, config: AdagradConfig) -> torch.optim.Optimizer:
    """Divide each coordinate's step by the root of its summed squared gradients: n <- n + g^2; w <- w - lr * g / (sqrt(n) + eps)."""
    return torch.optim.Adagrad(
        groups,
        lr=config.lr,
        lr_decay=config.lr_decay,
        weight_decay=config.weight_decay,
        initial_accumulator_value=config.initial_accumulator_value,
        eps=config.eps,
        **_kernels(groups),
    )


@register("optimizer", "rmsprop", config=RMSpropConfig, source="Tieleman, Hinton (2012), Coursera lecture 6e")
def rmsprop(groups: Groups, config: RMSpropConfig) -> torch.optim.Optimizer:
    """Divide each coordinate's step by the root of a running mean of its squared gradients."""
    return torch.optim.RMSprop(
        groups,
        lr=config.lr,
        alpha=config.alpha,
        eps=config.eps,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        centered=config.centered,
        **_kernels(groups, has_fused=False),
    )


@register("optimizer", "adam", config=AdamConfig, source="Kingma, Ba (2015), arXiv:1412.6980")
def adam(groups: Groups, config: AdamConfig) -> torch.optim.Optimizer:
    """Running means of gradients and of their squares, corrected for their start at zero: w <- w - lr * m / (sqrt(v) + eps)."""
    return torch.optim.Adam(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        **_kernels(groups),
    )


@register("optimizer", "adamw", config=AdamWConfig, source="Loshchilov, Hutter (2019), arXiv:1711.05101")
def adamw(groups: Groups, config: AdamWConfig) -> torch.optim.Optimizer:
    """Adam with weight decay apart from the gradient: w <- w - lr * weight_decay * w before Adam's step."""
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        amsgrad=config.amsgrad,
        **_kernels(groups),
    )
