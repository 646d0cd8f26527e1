"""Twenty steps in float64: our optimizers against torch's built by hand or the paper's formula in numpy, and the pure rules against both.

Tolerance 1e-12: the same arithmetic in another order, over twenty steps of numbers near one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lamina.optim.create import create_optimizer
from lamina.optim.rules import create_rule, create_rules

STEPS = 20
FACTORS = [min(1.0, (step + 1) / 5) * 0.97**step for step in range(STEPS)]
SHAPES = {"conv.weight": (4, 3, 2, 2), "conv.bias": (4,), "scale": (), "head.weight": (5, 7), "head.bias": (5,)}
TIGHT = {"rtol": 1e-12, "atol": 1e-12}

CASES: dict[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "lr": 0.1},
    "sgd-decay": {"name": "sgd", "lr": 0.1, "weight_decay": 0.05},
    "momentum": {"name": "momentum", "lr": 0.1, "weight_decay": 0.01},
    "momentum-dampened": {"name": "momentum", "lr": 0.1, "momentum": 0.7, "dampening": 0.3, "weight_decay": 0.01},
    "momentum-zero": {"name": "momentum", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.01},
    "nesterov": {"name": "nesterov", "lr": 0.1, "momentum": 0.8, "weight_decay": 0.01},
    "adagrad": {"name": "adagrad", "lr": 0.1, "weight_decay": 0.01},
    "adagrad-options": {"name": "adagrad", "lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-6},
    "rmsprop": {"name": "rmsprop", "lr": 0.01, "weight_decay": 0.01},
    "rmsprop-options": {"name": "rmsprop", "lr": 0.01, "alpha": 0.9, "centered": True, "momentum": 0.6, "eps": 1e-4},
    "adam": {"name": "adam", "lr": 0.01, "weight_decay": 0.05},
    "adam-amsgrad": {"name": "adam", "lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-5, "amsgrad": True},
    "adamw": {"name": "adamw", "lr": 0.01, "weight_decay": 0.05},
    "adamw-amsgrad": {"name": "adamw", "lr": 0.01, "amsgrad": True, "decay_bias": True},
    "lars": {"name": "lars", "lr": 2.0, "weight_decay": 0.01, "trust_coefficient": 0.02},
    "lars-plain-bias": {"name": "lars", "lr": 0.5, "adapt_bias": False, "momentum": 0.5},
    "ftrl": {"name": "ftrl", "lr": 0.3},
    "ftrl-penalties": {"name": "ftrl", "lr": 0.3, "beta": 0.5, "l1": 0.4, "l2": 0.2},
    "ftrl-no-beta": {"name": "ftrl", "lr": 0.3, "beta": 0.0, "l1": 0.1},
    "by-name": {"name": "adamw", "lr": 0.01, "lr_by_name": {"head.*": 0.05, "conv.bias": 0.0}, "weight_decay": 0.1},
}


def _start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()}


def _gradients() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    return [
        {name: torch.randn(shape, generator=generator, dtype=torch.float64) * 2 for name, shape in SHAPES.items()}
        for _ in range(STEPS)
    ]


def _set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def _run(
    values: Mapping[str, Any], first: int = 0, last: int = STEPS
) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    parameters = {name: nn.Parameter(value) for name, value in _start().items()}
    optimizer = create_optimizer(values, parameters.items())
    _continue(parameters, optimizer, first, last)
    return parameters, optimizer


def _continue(parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        for name, parameter in parameters.items():
            parameter.grad = _gradients()[step][name].clone()
        _set_rates(optimizer, FACTORS[step])
        optimizer.step()


# --- against torch and numpy ----------------------------------------------------------------------------------------


def _torch_by_hand(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """torch.optim, parameter by parameter, unfused, with the options written out."""
    classes: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": torch.optim.SGD,
        "momentum": torch.optim.SGD,
        "nesterov": torch.optim.SGD,
        "adagrad": torch.optim.Adagrad,
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    options = {k: v for k, v in values.items() if k not in ("name", "lr_by_name", "decay_bias")}
    if values["name"] == "nesterov":
        options["nesterov"] = True
    if values["name"] == "momentum":
        options.setdefault("momentum", 0.9)
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    ends = {}
    for name, value in _start().items():
        parameter = value.clone().requires_grad_()
        own = dict(options)
        if len(SHAPES[name]) <= 1 and not values.get("decay_bias"):
            own["weight_decay"] = 0.0
        if "lr_by_name" in values:
            own["lr"] = {"head": 0.05, "conv.bias": 0.0}.get(name.split(".")[0] if "head" in name else name, own["lr"])
        base = own["lr"]
        optimizer = classes[values["name"]]([parameter], foreach=False, **own)
        for step, grads in enumerate(_gradients()):
            parameter.grad = grads[name].clone()
            optimizer.param_groups[0]["lr"] = base * FACTORS[step]
            optimizer.step()
        ends[name] = parameter.detach()
    return ends


def _lars_in_numpy(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """You et al. (2017), algorithm 1, literally."""
    eta, momentum = values.get("trust_coefficient", 0.001), values.get("momentum", 0.9)
    ends = {}
    for name, value in _start().items():
        w, v = value.numpy().copy(), np.zeros(SHAPES[name])
        beta = values.get("weight_decay", 0.0005) if w.ndim > 1 else 0.0
        for step, grads in enumerate(_gradients()):
            g, gamma = grads[name].numpy(), values["lr"] * FACTORS[step]
            local = eta * np.sqrt((w**2).sum()) / (np.sqrt((g**2).sum()) + beta * np.sqrt((w**2).sum()))
            if not values.get("adapt_bias", True) and w.ndim <= 1:
                local = 1.0
            v = momentum * v + gamma * local * (g + beta * w)
            w = w - v
        ends[name] = torch.from_numpy(np.asarray(w))
    return ends


def _ftrl_in_numpy(values: Mapping[str, Any]) -> dict[str, Tensor]:
    """McMahan et al. (2013), algorithm 1, coordinate by coordinate, with sigma as the change of 1/eta (section 2)."""
    beta, base = values.get("beta", 1.0), values["lr"]
    ends = {}
    for name, value in _start().items():
        decays = len(SHAPES[name]) > 1
        l1, l2 = (values.get("l1", 0.0), values.get("l2", 0.0)) if decays else (0.0, 0.0)
        flat = []
        for index, start in enumerate(value.flatten().tolist()):
            w, n, inverse = start, 0.0, beta / base
            z = -w * inverse
            for step, grads in enumerate(_gradients()):
                g, alpha = grads[name].flatten()[index].item(), base * FACTORS[step]
                n += g * g
                after = (beta + n**0.5) / alpha
                z += g - (after - inverse) * w
                inverse = after
                w = 0.0 if abs(z) <= l1 else -(z - np.sign(z) * l1) / (inverse + l2)
            flat.append(w)
        ends[name] = torch.tensor(flat, dtype=torch.float64).reshape(SHAPES[name])
    return ends


@pytest.mark.parametrize("case", sorted(CASES))
def test_optimizers_equal_torch_or_the_papers_formula(case: str) -> None:
    values = CASES[case]
    parameters, _ = _run(values)
    independent = {"lars": _lars_in_numpy, "ftrl": _ftrl_in_numpy}.get(values["name"], _torch_by_hand)(values)
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.detach(), independent[name], **TIGHT, msg=lambda m, n=name: f"{n}: {m}")


def test_ftrl_from_zero_is_the_papers_algorithm_with_its_own_sigma() -> None:
    """sigma = (sqrt(n + g^2) - sqrt(n)) / alpha, w = 0 and z = 0 at the beginning, as the paper prints it."""
    alpha, beta, l1, l2 = 0.3, 1.0, 0.4, 0.2
    grads = [g["head.weight"] for g in _gradients()]
    parameter = nn.Parameter(torch.zeros(5, 7, dtype=torch.float64))
    optimizer = create_optimizer({"name": "ftrl", "lr": alpha, "l1": l1, "l2": l2}, [("w", parameter)])
    z, n, w = (np.zeros((5, 7)) for _ in range(3))
    seen_zero = 0
    for grad in grads:
        g = grad.numpy()
        sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / alpha
        z = z + g - sigma * w
        n = n + g * g
        w = np.where(np.abs(z) <= l1, 0.0, -(z - np.sign(z) * l1) / ((beta + np.sqrt(n)) / alpha + l2))
        parameter.grad = grad.clone()
        optimizer.step()
        torch.testing.assert_close(parameter.detach(), torch.from_numpy(w), **TIGHT)
        assert bool((parameter[torch.from_numpy(w) == 0] == 0).all())
        seen_zero += int((w == 0).sum())
    assert seen_zero > 0


def test_ftrl_without_penalties_is_gradient_descent_with_its_rates() -> None:
    parameter = nn.Parameter(_start()["head.weight"].clone())
    optimizer = create_optimizer({"name": "ftrl", "lr": 0.3}, [("w", parameter)])
    w, n = parameter.detach().clone(), torch.zeros(5, 7, dtype=torch.float64)
    for step, grads in enumerate(_gradients()):
        g = grads["head.weight"]
        n += g * g
        w = w - 0.3 * FACTORS[step] / (1.0 + n.sqrt()) * g
        parameter.grad = g.clone()
        _set_rates(optimizer, FACTORS[step])
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), w, **TIGHT)


# --- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("case", sorted(CASES))
def test_rules_equal_the_optimizers(case: str, as_tensor: bool) -> None:
    values = CASES[case]
    parameters, optimizer = _run(values)
    rules = create_rules(values, _start().items())
    weights = _start()
    states = {name: rules[name].init(weight) for name, weight in weights.items()}
    for step, grads in enumerate(_gradients()):
        for name, rule in rules.items():
            lr: float | Tensor = rule.lr * FACTORS[step]
            if as_tensor:
                lr = torch.tensor(lr, dtype=torch.float64)
            weights[name], states[name] = rule.update(weights[name], grads[name], states[name], lr=lr)
    for name, parameter in parameters.items():
        torch.testing.assert_close(weights[name], parameter.detach(), **TIGHT)
        assert weights[name].dtype == torch.float64
        held = {k: v for k, v in optimizer.state[parameter].items() if v is not None}
        names = set(states[name]) - {"started"}
        assert names == set(held)
        for key in names:
            torch.testing.assert_close(states[name][key].double(), held[key].double(), **TIGHT)
            assert states[name][key].shape == held[key].shape


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("begin", [0, 1, 7])
def test_a_rule_takes_over_from_the_optimizer_and_gives_back(case: str, begin: int) -> None:
    """`begin` steps with the optimizer, five with the rule, the rest with the optimizer: as if nothing had happened."""
    values = CASES[case]
    wanted, _ = _run(values)
    parameters, optimizer = _run(values, 0, begin)
    rules = create_rules(values, parameters.items())
    for name, parameter in parameters.items():
        rule = rules[name]
        weight = parameter.detach().clone()
        state = rule.read_state(optimizer, parameter)
        for step in range(begin, begin + 5):
            weight, state = rule.update(weight, _gradients()[step][name], state, lr=rule.lr * FACTORS[step])
        with torch.no_grad():
            parameter.copy_(weight)
        rule.write_state(optimizer, parameter, state)
    _continue(parameters, optimizer, begin + 5, STEPS)
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter, wanted[name], **TIGHT)


@pytest.mark.parametrize("case", sorted(CASES))
def test_rules_are_pure(case: str) -> None:
    values = CASES[case]
    weights, grads = _start(), _gradients()[0]
    rules = create_rules(values, weights.items())
    for name, rule in rules.items():
        state = rule.init(weights[name])
        _, state = rule.update(weights[name], grads[name], state, lr=rule.lr)
        before = {key: value.clone() for key, value in state.items()}
        first = rule.update(weights[name], grads[name], state, lr=rule.lr)
        second = rule.update(weights[name], grads[name], state, lr=rule.lr)
        assert torch.equal(first[0], second[0])
        assert all(torch.equal(state[key], before[key]) for key in before)
        assert set(first[1]) == set(state)
        for key, value in first[1].items():
            assert (value.dtype, value.shape) == (state[key].dtype, state[key].shape)


def test_one_rule_for_a_parameter_like_any_other() -> None:
    rule = create_rule({"name": "adamw", "lr": 0.01, "weight_decay": 0.05})
    parameter = nn.Parameter(_start()["head.bias"].clone())
    theirs = torch.optim.AdamW([parameter], lr=0.01, weight_decay=0.05)
    weight = parameter.detach().clone()
    state = rule.init(weight)
    for grads in _gradients():
        parameter.grad = grads["head.bias"].clone()
        theirs.step()
        weight, state = rule.update(weight, grads["head.bias"], state, lr=rule.lr)
    torch.testing.assert_close(weight, parameter.detach(), **TIGHT)


@pytest.mark.parametrize("case", sorted(CASES))
def test_rules_in_float32_stay_near(case: str) -> None:
    """Types are kept and twenty steps in float32 end within rounding of float64."""
    values = CASES[case]
    wanted, _ = _run(values)
    for name, start in _start().items():
        rule = create_rules(values, [(name, start)])[name] if "lr_by_name" not in values else None
        if rule is None:
            continue
        weight = start.float()
        state = rule.init(weight)
        for step, grads in enumerate(_gradients()):
            lr = torch.tensor(rule.lr * FACTORS[step], dtype=torch.float64)
            weight, state = rule.update(weight, grads[name].float(), state, lr=lr)
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight.double(), wanted[name].detach(), rtol=2e-4, atol=2e-4)


def test_written_state_lies_in_memory_like_the_parameter() -> None:
    parameter = nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    optimizer = create_optimizer({"name": "adam"}, [("w", parameter)])
    rule = create_rule({"name": "adam"})
    state = {key: value.contiguous() for key, value in rule.init(parameter).items()}
    rule.write_state(optimizer, parameter, state)
    assert optimizer.state[parameter]["exp_avg"].stride() == parameter.stride()
    before = optimizer.state[parameter]["exp_avg"]
    rule.write_state(optimizer, parameter, {key: value + 1 for key, value in state.items()})
    assert optimizer.state[parameter]["exp_avg"] is before
    assert float(before.min()) == 1.0
    assert not any(value.requires_grad for value in optimizer.state[parameter].values())
