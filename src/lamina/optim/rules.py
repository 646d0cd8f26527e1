"""The optimizers as pure functions of (parameter, gradient, state), for steps inside a compiled graph.

A rule computes what the optimizer of the same name computes (tests/parity/optim compares them over 20 steps), returns
new tensors instead of changing old ones, and keeps its state under the names that the optimizer's `state_dict` has. A
compiled segment begins with `read_state` and ends with `write_state`, so that checkpoints hold the optimizer's state alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from lamina.optim.create import (
    AdagradConfig,
    AdamConfig,
    AdamWConfig,
    MomentumConfig,
    NesterovConfig,
    RMSpropConfig,
    parse_optimizer,
)
from lamina.optim.ftrl import FTRLConfig, initial_state
from lamina.optim.lars import LARSConfig, local_rates
from lamina.optim.options import OptimizerConfig, parameter_options

__all__ = ["Rule", "State", "create_rule", "create_rules"]

State = dict[str, Tensor]


class Rule(ABC):
    """One optimizer's step for one parameter.

    Args:
        config: The optimizer's options.
        lr: The parameter's base rate; default: the config's.
        decays: Whether weight decay (L1 and L2 of FTRL) applies to the parameter.

    Attributes:
        lr: Base rate; a step's rate is this times the schedule's factor.
    """

    def __init__(self, config: OptimizerConfig, *, lr: float | None = None, decays: bool = True) -> None:
        self.config = config
        self.lr = config.lr if lr is None else lr
        self.weight_decay: float = getattr(config, "weight_decay", 0.0) if decays else 0.0
        self.decays = decays

    @abstractmethod
    def init(self, param: Tensor) -> State:
        """The state before the first step; tensors only, `step` as 0-d float32 as torch has it."""

    @abstractmethod
    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]: ...

    def update(self, param: Tensor, grad: Tensor, state: State, *, lr: Tensor | float) -> tuple[Tensor, State]:
        """New parameter and new state; pure and traceable.

        Args:
            param: Any floating tensor.
            grad: Shaped like `param`.
            state: From `init`, `read_state` or the last update.
            lr: This step's rate for this parameter; a number or a 0-d tensor of any floating type.
        """
        new, after = self._update(param, grad, state, lr)
        # A 0-d parameter would be promoted by a 0-d rate of a wider type.
        return new.to(param.dtype), {name: value.to(state[name].dtype) for name, value in after.items()}

    def read_state(self, optimizer: torch.optim.Optimizer, param: Tensor) -> State:
        """The optimizer's state for a parameter, as `update` takes it; `init` where it has none yet. Tensors are shared."""
        held = optimizer.state.get(param, {})
        return {name: held[name] if held.get(name) is not None else value for name, value in self.init(param).items()}

    def write_state(self, optimizer: torch.optim.Optimizer, param: Tensor, state: State) -> None:
        """Give the optimizer the state back, copied into its own tensors in the parameter's memory layout."""
        held = optimizer.state[param]
        for name, value in state.items():
            if isinstance(held.get(name), Tensor) and held[name].shape == value.shape:
                held[name].copy_(value)
            elif value.shape == param.shape:
                held[name] = torch.empty_like(param, dtype=value.dtype, requires_grad=False).copy_(value)
            else:
                held[name] = value.detach().clone()

    def _decayed(self, param: Tensor, grad: Tensor) -> Tensor:
        return grad + self.weight_decay * param if self.weight_decay else grad


class SGDRule(Rule):
    """Plain gradient descent: no state."""

    def init(self, param: Tensor) -> State:
        """Nothing."""
        del param
        return {}

    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        return param - lr * self._decayed(param, grad), state


class MomentumRule(Rule):
    """Velocity, with torch's dampening and Nesterov's look ahead.

    torch's first velocity is the first gradient, undamped. A velocity of zero gives the same where nothing is damped;
    where something is, `started` (0-d, not written back) tells the first step.
    """

    def __init__(self, config: OptimizerConfig, *, lr: float | None = None, decays: bool = True) -> None:
        super().__init__(config, lr=lr, decays=decays)
        assert isinstance(config, MomentumConfig | NesterovConfig)
        self.momentum = config.momentum
        self.dampening = config.dampening if isinstance(config, MomentumConfig) else 0.0
        self.nesterov = isinstance(config, NesterovConfig)

    def init(self, param: Tensor) -> State:
        """A velocity of zero."""
        if not self.momentum:
            return {}
        state = {"momentum_buffer": torch.zeros_like(param, requires_grad=False)}
        if self.dampening:
            state["started"] = torch.zeros((), dtype=param.dtype, device=param.device)
        return state

    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        grad = self._decayed(param, grad)
        if not self.momentum:
            return param - lr * grad, state
        scale: Tensor | float = 1.0
        if self.dampening:
            scale = 1.0 - self.dampening * state["started"]
        velocity = self.momentum * state["momentum_buffer"] + scale * grad
        after = {"momentum_buffer": velocity}
        if self.dampening:
            after["started"] = torch.ones_like(state["started"])
        return param - lr * (grad + self.momentum * velocity if self.nesterov else velocity), after

    def read_state(self, optimizer: torch.optim.Optimizer, param: Tensor) -> State:
        """As for every rule; `started` follows from whether there is a velocity."""
        state = super().read_state(optimizer, param)
        if "started" in state and optimizer.state.get(param, {}).get("momentum_buffer") is not None:
            state["started"] = torch.ones_like(state["started"])
        return state

    def write_state(self, optimizer: torch.optim.Optimizer, param: Tensor, state: State) -> None:
        """As for every rule, without `started`."""
        super().write_state(optimizer, param, {name: value for name, value in state.items() if name != "started"})


class AdagradRule(Rule):
    """Sums of squared gradients."""

    config: AdagradConfig

    def init(self, param: Tensor) -> State:
        """Sums at their initial value."""
        total = torch.full_like(param, self.config.initial_accumulator_value, requires_grad=False)
        return {"step": _zero_step(param), "sum": total}

    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        grad = self._decayed(param, grad)
        rate: Tensor | float = lr
        if self.config.lr_decay:
            rate = lr / (1.0 + state["step"].double() * self.config.lr_decay)
        total = state["sum"] + grad * grad
        return param - rate * (grad / (total.sqrt() + self.config.eps)), {"step": state["step"] + 1.0, "sum": total}


class RMSpropRule(Rule):
    """Running mean of squared gradients, centred or not, with or without velocity."""

    config: RMSpropConfig

    def init(self, param: Tensor) -> State:
        """All zero."""
        state = {"step": _zero_step(param), "square_avg": torch.zeros_like(param, requires_grad=False)}
        if self.config.momentum:
            state["momentum_buffer"] = torch.zeros_like(param, requires_grad=False)
        if self.config.centered:
            state["grad_avg"] = torch.zeros_like(param, requires_grad=False)
        return state

    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        alpha = self.config.alpha
        grad = self._decayed(param, grad)
        square = alpha * state["square_avg"] + (1.0 - alpha) * (grad * grad)
        after = {"step": state["step"] + 1.0, "square_avg": square}
        variance = square
        if self.config.centered:
            after["grad_avg"] = state["grad_avg"] + (1.0 - alpha) * (grad - state["grad_avg"])
            variance = square - after["grad_avg"] * after["grad_avg"]
        step = grad / (variance.sqrt() + self.config.eps)
        if self.config.momentum:
            step = self.config.momentum * state["momentum_buffer"] + step
            after["momentum_buffer"] = step
        return param - lr * step, after


class AdamRule(Rule):
    """Adam, with weight decay in the gradient, or apart from it (AdamW)."""

    config: AdamConfig

    def init(self, param: Tensor) -> State:
        """All zero."""
        state = {
            "step": _zero_step(param),
            "exp_avg": torch.zeros_like(param, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(param, requires_grad=False),
        }
        if self.config.amsgrad:
            state["max_exp_avg_sq"] = torch.zeros_like(param, requires_grad=False)
        return state

    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        beta1, beta2 = self.config.betas
        step = state["step"] + 1.0
        if isinstance(self.config, AdamWConfig):
            param = param * (1.0 - lr * self.weight_decay) if self.weight_decay else param
        else:
            grad = self._decayed(param, grad)
        mean = state["exp_avg"] + (1.0 - beta1) * (grad - state["exp_avg"])
        square = beta2 * state["exp_avg_sq"] + (1.0 - beta2) * (grad * grad)
        after = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        largest = square
        if self.config.amsgrad:
            largest = torch.maximum(state["max_exp_avg_sq"], square)
            after["max_exp_avg_sq"] = largest
        # m / (sqrt(v) / c + eps) = c * m / (sqrt(v) + c * eps): one division per element less. In double, because the
        # corrections differ from 1 by little after many steps. Stacked, because a compiler writes a stack to memory but
        # computes a lone scalar, powers and all, anew in the loop over the elements, which doubles the time of a step.
        count = step.double()
        correction = (1.0 - beta2**count).sqrt()
        rate, eps = (
            torch.stack([lr * correction / (1.0 - beta1**count), correction * self.config.eps]).to(param.dtype).unbind()
        )
        return param - rate * (mean / (largest.sqrt() + eps)), after


class LARSRule(Rule):
    """Momentum with a rate per tensor."""

    config: LARSConfig

    def init(self, param: Tensor) -> State:
        """A velocity of zero."""
        return {"momentum_buffer": torch.zeros_like(param, requires_grad=False)}

    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        rate: Tensor | float = lr
        if self.config.adapt_bias or param.dim() > 1:
            local = local_rates(
                torch.linalg.vector_norm(param),
                torch.linalg.vector_norm(grad),
                weight_decay=self.weight_decay,
                trust_coefficient=self.config.trust_coefficient,
            )
            rate = lr * local
        velocity = self.config.momentum * state["momentum_buffer"] + rate * self._decayed(param, grad)
        return param - velocity, {"momentum_buffer": velocity}


class FTRLRule(Rule):
    """FTRL-Proximal."""

    config: FTRLConfig

    def init(self, param: Tensor) -> State:
        """A pull towards the present weights."""
        return initial_state(param, alpha=self.lr, beta=self.config.beta)

    def _update(self, param: Tensor, grad: Tensor, state: State, lr: Tensor | float) -> tuple[Tensor, State]:
        l1, l2 = (self.config.l1, self.config.l2) if self.decays else (0.0, 0.0)
        alpha = torch.as_tensor(lr, dtype=param.dtype, device=param.device)
        moves = alpha > 0
        used = torch.where(moves, alpha, torch.ones_like(alpha))
        total = state["n"] + grad * grad
        before = (state["n"].sqrt() + self.config.beta) / state["alpha"]
        now = (total.sqrt() + self.config.beta) / used
        z = state["z"] - (now - before) * param + grad
        inverse_rate = now + l2
        defined = moves & (inverse_rate > 0)
        shrunk = torch.nn.functional.softshrink(z, l1)
        new = torch.where(defined, -shrunk / torch.where(defined, inverse_rate, torch.ones_like(now)), param)
        return new, {
            "z": torch.where(moves, z, state["z"]),
            "n": torch.where(moves, total, state["n"]),
            "alpha": torch.where(moves, alpha, state["alpha"]),
        }


_RULES: Final[dict[str, type[Rule]]] = {
    "sgd": SGDRule,
    "momentum": MomentumRule,
    "nesterov": MomentumRule,
    "adagrad": AdagradRule,
    "rmsprop": RMSpropRule,
    "adam": AdamRule,
    "adamw": AdamRule,
    "lars": LARSRule,
    "ftrl": FTRLRule,
}


def create_rule(values: Mapping[str, Any]) -> Rule:
    """The rule of an optimizer's values, for a parameter with the base rate and with weight decay.

    Raises:
        UnknownNameError: No optimizer has this name.
        ConfigError: An option is unknown or out of bounds.
    """
    name, config = parse_optimizer(values)
    return _RULES[name](config)


def create_rules(values: Mapping[str, Any], named_parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Rule]:
    """A rule per parameter, with its own rate and weight decay, as `create_optimizer` groups them.

    Example:
        >>> layer = torch.nn.Linear(4, 2)
        >>> rules = create_rules({"name": "adamw", "lr": 0.01, "lr_by_name": {"bias": 0.1}}, layer.named_parameters())
        >>> [(name, rule.lr, rule.weight_decay) for name, rule in rules.items()]
        [('weight', 0.01, 0.01), ('bias', 0.1, 0.0)]

    Raises:
        UnknownNameError: No optimizer has this name.
        ConfigError: An option is unknown or out of bounds.
    """
    optimizer, config = parse_optimizer(values)
    rules: dict[str, Rule] = {}
    for name, parameter in named_parameters:
        lr, decays = parameter_options(config, name, parameter)
        rules[name] = _RULES[optimizer](config, lr=lr, decays=decays)
    return rules


def _zero_step(param: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.float32, device=param.device)
