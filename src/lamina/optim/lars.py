"""LARS: layer-wise adaptive rate scaling, for large batches.

Paper: You, Gitman, Ginsburg (2017), "Large Batch Training of Convolutional Networks", arXiv:1708.03888, algorithm 1.
Differs from the paper: a tensor whose norm is zero (a bias at the beginning) takes the step without scaling, where the formula would never move it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from lamina.core.config import Field
from lamina.core.registry import register
from lamina.optim.options import Groups, OptimizerConfig

__all__ = ["LARS", "LARSConfig", "local_rates"]


class LARSConfig(OptimizerConfig):
    """Options of `lars`."""

    lr: float = Field(
        1.0,
        description="Global learning rate; the schedule multiplies it (the paper: warm-up, then polynomial of power 2).",
        gt=0,
    )
    momentum: float = Field(0.9, description="Share of the velocity that is kept.", ge=0, lt=1)
    weight_decay: float = Field(
        0.0005,
        description="Adds this times the weight to its gradient, and its norm to the local rate's denominator.",
        ge=0,
    )
    trust_coefficient: float = Field(
        0.001, description="How far the norm of a layer may move per step, relative to itself, times lr.", gt=0
    )
    adapt_bias: bool = Field(
        True,
        description="Scale biases and norms too, as the paper; false: they step with lr itself, as later practice has it.",
    )


class LARS(torch.optim.Optimizer):
    """Momentum whose rate is scaled per tensor by the ratio of the norms of weight and gradient.

    local = trust_coefficient * |w| / (|g| + weight_decay * |w|)
    v <- momentum * v + lr * local * (g + weight_decay * w);  w <- w - v

    Unlike torch's momentum the velocity contains the rate, so that a change of the rate acts on new gradients only.

    Args:
        params: Parameters or groups; the parameters of a group lie on one device.
        lr, momentum, weight_decay, trust_coefficient, adapt_bias: As in `LARSConfig`.

    State: `momentum_buffer` per parameter.

    Source: You, Gitman, Ginsburg (2017), arXiv:1708.03888.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
        trust_coefficient: float = 0.001,
        adapt_bias: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "adapt_bias": adapt_bias,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; `closure` recomputes the loss, as in torch.optim."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        velocities = []
        for p in params:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            velocities.append(self.state[p]["momentum_buffer"])
        decay = group["weight_decay"]
        rates = local_rates(
            torch.stack(torch._foreach_norm(params)),
            torch.stack(torch._foreach_norm(grads)),
            weight_decay=decay,
            trust_coefficient=group["trust_coefficient"],
        )
        if not group["adapt_bias"]:
            is_bias = torch.tensor([p.dim() <= 1 for p in params], device=rates.device)
            rates = torch.where(is_bias, torch.ones_like(rates), rates)
        steps = torch._foreach_add(grads, params, alpha=decay)
        torch._foreach_mul_(steps, (rates * group["lr"]).unbind())
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, steps)
        torch._foreach_sub_(params, velocities)


def local_rates(weight_norms: Tensor, grad_norms: Tensor, *, weight_decay: float, trust_coefficient: float) -> Tensor:
    """The paper's equation 6 with weight decay, elementwise; 1 where a norm of zero leaves it undefined or stuck."""
    divisor = grad_norms + weight_decay * weight_norms
    defined = (weight_norms > 0) & (divisor > 0)
    ones = torch.ones_like(divisor)
    return torch.where(defined, trust_coefficient * weight_norms / torch.where(defined, divisor, ones), ones)


@register(
    "optimizer",
    "lars",
    config=LARSConfig,
    source="You, Gitman, Ginsburg (2017), arXiv:1708.03888",
)
def lars(groups: Groups, config: LARSConfig) -> torch.optim.Optimizer:
    """Momentum with a rate per layer: lr * trust_coefficient * |w| / (|g| + weight_decay * |w|)."""
    return LARS(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        trust_coefficient=config.trust_coefficient,
        adapt_bias=config.adapt_bias,
    )
