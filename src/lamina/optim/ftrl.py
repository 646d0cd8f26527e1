"""FTRL-Proximal: follow the (proximally) regularised leader, per coordinate, with L1 and L2.

Paper: McMahan et al. (2013), "Ad Click Prediction: a View from the Trenches", doi:10.1145/2487575.2488200, algorithm 1.
Differs from the paper: learning begins at the given weights instead of zero (equal where they are zero), and alpha may follow a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from lamina.core.config import Field
from lamina.core.registry import register
from lamina.optim.options import Groups, OptimizerConfig

__all__ = ["FTRL", "FTRLConfig", "initial_state"]


class FTRLConfig(OptimizerConfig):
    """Options of `ftrl`."""

    penalties: ClassVar[tuple[str, ...]] = ("l1", "l2")

    lr: float = Field(
        0.1, description="Alpha, the scale of the per-coordinate rates; the schedule multiplies it.", gt=0
    )
    beta: float = Field(1.0, description="Smooths the rates of coordinates that have seen little gradient.", ge=0)
    l1: float = Field(0.0, description="L1 strength (lambda 1); weights that do not earn it are exactly zero.", ge=0)
    l2: float = Field(0.0, description="L2 strength (lambda 2).", ge=0)


class FTRL(torch.optim.Optimizer):
    """Each weight is the minimiser of all past linearised losses plus L1, L2 and a pull towards past weights.

    With the rate eta_t = alpha / (beta + sqrt(n_t)), n_t the sum of squared gradients:

    z <- z + g - (1/eta_t - 1/eta_{t-1}) * w
    w <- 0 where |z| <= l1, else -(z - sign(z) * l1) / (1/eta_t + l2)

    Without penalties this is gradient descent with the rates eta_t. The paper's algorithm starts from w = 0. A network
    cannot, so z starts at -w * beta / alpha: the pull towards the weights at the beginning. An alpha that follows a
    schedule enters through eta; a step with alpha 0 changes nothing.

    Args:
        params: Parameters or groups; the parameters of a group lie on one device.
        lr, beta, l1, l2: As in `FTRLConfig`.

    State: `z` and `n` per coordinate, `alpha` of the last step per parameter (0-d).

    Source: McMahan et al. (2013), doi:10.1145/2487575.2488200.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float = 0.1, beta: float = 1.0, l1: float = 0.0, l2: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "l1": l1, "l2": l2})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; `closure` recomputes the loss, as in torch.optim."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params and float(group["lr"]) > 0.0:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        grads = [p.grad for p in params if p.grad is not None]
        alpha = float(group["lr"])
        for p in params:
            if "z" not in self.state[p]:
                self.state[p].update(initial_state(p, alpha=group.get("initial_lr", alpha), beta=group["beta"]))
        z = [self.state[p]["z"] for p in params]
        n = [self.state[p]["n"] for p in params]
        alphas = [self.state[p]["alpha"] for p in params]
        before = torch._foreach_add(torch._foreach_sqrt(n), group["beta"])
        torch._foreach_div_(before, alphas)
        torch._foreach_addcmul_(n, grads, grads)
        now = torch._foreach_add(torch._foreach_sqrt(n), group["beta"])
        torch._foreach_div_(now, alpha)
        sigma = torch._foreach_sub(now, before)
        torch._foreach_addcmul_(z, sigma, params, value=-1.0)
        torch._foreach_add_(z, grads)
        torch._foreach_add_(now, group["l2"])
        # A coordinate without any gradient and with beta = 0 has rate 0/0: it keeps its weight.
        for p, z_p, inverse_rate in zip(params, z, now, strict=True):
            shrunk = torch.nn.functional.softshrink(z_p, group["l1"])
            p.copy_(torch.where(inverse_rate > 0, -shrunk / inverse_rate, p))
        for last in alphas:
            last.fill_(alpha)


def initial_state(parameter: Tensor, *, alpha: float, beta: float) -> dict[str, Tensor]:
    """z, n and alpha before the first step: a pull towards the present weights with the strength beta / alpha."""
    detached = parameter.detach()
    return {
        "z": detached * (-beta / alpha) if alpha > 0 else torch.zeros_like(detached),
        "n": torch.zeros_like(detached),
        "alpha": torch.full((), alpha, dtype=parameter.dtype, device=parameter.device),
    }


@register(
    "optimizer",
    "ftrl",
    config=FTRLConfig,
    source="McMahan et al. (2013), doi:10.1145/2487575.2488200",
)
def ftrl(groups: Groups, config: FTRLConfig) -> torch.optim.Optimizer:
    """Follow the proximally regularised leader: per-coordinate rates, and L1 that gives exact zeros."""
    return FTRL(groups, lr=config.lr, beta=config.beta, l1=config.l1, l2=config.l2)
