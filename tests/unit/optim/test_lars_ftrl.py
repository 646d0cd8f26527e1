"""LARS and FTRL at their edges: zero norms, zero rates, sparsity, biases. The formulas are in tests/parity/optim."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.optim.create import create_optimizer
from lamina.optim.ftrl import FTRL
from lamina.optim.lars import LARS, local_rates
from lamina.optim.rules import create_rule


def test_local_rate() -> None:
    rates = local_rates(
        torch.tensor([3.0, 0.0, 2.0, 0.0]), torch.tensor([6.0, 5.0, 0.0, 0.0]), weight_decay=0.0, trust_coefficient=0.1
    )
    torch.testing.assert_close(rates, torch.tensor([0.05, 1.0, 1.0, 1.0]))
    with_decay = local_rates(torch.tensor([2.0]), torch.tensor([3.0]), weight_decay=0.5, trust_coefficient=0.1)
    torch.testing.assert_close(with_decay, torch.tensor([0.05]))


def test_a_lars_step_is_relative_to_the_weight() -> None:
    """Whatever the gradient's size, the first step has the length lr * trust * |w|."""
    for scale in (1e-6, 1.0, 1e6):
        parameter = nn.Parameter(torch.full((3, 4), 2.0, dtype=torch.float64))
        before = parameter.detach().clone()
        optimizer = LARS([parameter], lr=0.5, trust_coefficient=0.01, weight_decay=0.0)
        parameter.grad = torch.randn(3, 4, dtype=torch.float64) * scale
        optimizer.step()
        assert float((parameter - before).norm().detach()) == pytest.approx(0.5 * 0.01 * float(before.norm()))


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_zero_weights_and_zero_gradients(weight_decay: float) -> None:
    zero, still = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.ones(4))
    optimizer = LARS([zero, still], lr=0.5, weight_decay=weight_decay)
    zero.grad, still.grad = torch.ones(4), torch.zeros(4)
    optimizer.step()
    torch.testing.assert_close(zero.detach(), torch.full((4,), -0.5))
    assert bool(torch.isfinite(still).all())
    rule = create_rule({"name": "lars", "lr": 0.5, "weight_decay": weight_decay, "decay_bias": True})
    moved, _ = rule.update(torch.zeros(4), torch.ones(4), rule.init(torch.zeros(4)), lr=0.5)
    torch.testing.assert_close(moved, zero.detach())


def test_biases_may_step_without_scaling() -> None:
    parameters = {"weight": nn.Parameter(torch.ones(2, 2)), "bias": nn.Parameter(torch.ones(2))}
    optimizer = create_optimizer({"name": "lars", "lr": 0.1, "adapt_bias": False}, parameters.items())
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    torch.testing.assert_close(parameters["bias"].detach(), torch.full((2,), 0.9))
    assert float((parameters["weight"] - 1).abs().max().detach()) < 1e-3


def test_ftrl_begins_at_the_given_weights() -> None:
    start = torch.randn(3, 4, dtype=torch.float64)
    parameter = nn.Parameter(start.clone())
    optimizer = FTRL([parameter], lr=0.1)
    parameter.grad = torch.zeros(3, 4, dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), start, rtol=1e-12, atol=1e-12)


def test_ftrl_keeps_weights_that_nothing_is_known_of() -> None:
    """beta = 0 and no gradient: the rate is 0/0."""
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = FTRL([parameter], lr=0.1, beta=0.0)
    parameter.grad = torch.tensor([0.0, 1.0])
    optimizer.step()
    assert parameter[0].item() == 1.0
    assert parameter[1].item() == pytest.approx(1.9)
    rule = create_rule({"name": "ftrl", "lr": 0.1, "beta": 0.0})
    start = torch.tensor([1.0, 2.0])
    moved, _ = rule.update(start, torch.tensor([0.0, 1.0]), rule.init(start), lr=0.1)
    torch.testing.assert_close(moved, parameter.detach())


def test_a_rate_of_zero_changes_nothing() -> None:
    parameter = nn.Parameter(torch.randn(3))
    optimizer = FTRL([parameter], lr=0.1)
    parameter.grad = torch.randn(3)
    optimizer.step()
    before = parameter.detach().clone()
    state = {key: value.clone() for key, value in optimizer.state[parameter].items()}
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    assert torch.equal(parameter.detach(), before)
    rule = create_rule({"name": "ftrl", "lr": 0.1})
    moved, after = rule.update(before, torch.ones(3), state, lr=0.0)
    assert torch.equal(moved, before)
    assert all(torch.equal(after[key], state[key]) for key in state)


def test_l1_finds_the_coordinates_that_matter() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 20)
    truth = torch.zeros(20)
    truth[:3] = torch.tensor([2.0, -3.0, 1.5])
    y = x @ truth
    parameter = nn.Parameter(torch.zeros(1, 20))
    optimizer = create_optimizer({"name": "ftrl", "lr": 0.5, "l1": 40.0}, [("w", parameter)])
    for _ in range(200):
        optimizer.zero_grad()
        (x @ parameter[0] - y).square().mean().backward()
        optimizer.step()
    found = parameter.detach()[0] != 0
    assert found[:3].all()
    assert int(found.sum()) == 3
