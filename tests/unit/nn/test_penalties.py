"""Penalties: values, gradients, which parameters, and the relation to weight decay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError
from lamina.nn.penalties import Penalty, PenaltyConfig, create_penalties


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).double()


def test_worked_weights() -> None:
    """x = (1, 1, 1, 1): w = (1, 0, 0, 0) and (1/4, 1/4, 1/4, 1/4) score the same; the penalties differ."""
    peaked, even = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.full((1, 4), 0.25)
    x = torch.ones(4)
    assert torch.equal(peaked @ x, even @ x)
    l1, l2 = (Penalty(PenaltyConfig(kind=kind, strength=1.0)) for kind in ("l1", "l2"))
    assert (l2([("w", peaked)]).item(), l2([("w", even)]).item()) == (1.0, 0.25)
    assert (l1([("w", peaked)]).item(), l1([("w", even)]).item()) == (1.0, 1.0)


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_sum_over_weights_without_biases_and_norms(kind: str) -> None:
    net = _net()
    weights = [net[0].weight, net[2].weight]
    wanted = sum((w.abs() if kind == "l1" else w.square()).sum() for w in weights)
    got = Penalty(PenaltyConfig(kind=kind, strength=0.3))(net.named_parameters())
    assert got.item() == pytest.approx(wanted.item())
    everything = Penalty(PenaltyConfig(kind=kind, strength=0.3, include_bias=True))(net.named_parameters())
    assert everything.item() == pytest.approx(
        sum((p.abs() if kind == "l1" else p.square()).sum() for p in net.parameters()).item()
    )


def test_patterns_choose_and_a_parameter_counts_once() -> None:
    net = _net()
    penalty = Penalty(PenaltyConfig(strength=1.0, parameters=("0.*", "*.weight", "0.weight")))
    assert penalty(net.named_parameters()).item() == pytest.approx(
        (net[0].weight.square().sum() + net[2].weight.square().sum()).item()
    )
    last = Penalty(PenaltyConfig(strength=1.0, parameters=("2.*",), include_bias=True))
    assert [last.applies_to(name, p) for name, p in net.named_parameters()] == [False] * 4 + [True] * 2


def test_l2_equals_twice_its_strength_as_weight_decay_for_plain_descent() -> None:
    one, two = _net(), _net()
    x = torch.randn(5, 4, dtype=torch.float64)
    penalty = Penalty(PenaltyConfig(strength=0.05, include_bias=True))
    first = torch.optim.SGD(one.parameters(), lr=0.1)
    second = torch.optim.SGD(two.parameters(), lr=0.1, weight_decay=0.1)
    (one(x).square().sum() + penalty.strength * penalty(one.named_parameters())).backward()
    two(x).square().sum().backward()
    first.step()
    second.step()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)


def test_penalty_of_tensors_put_in_the_models_place() -> None:
    """As a compiled step does it: the gradient reaches the tensors given by `functional_call`."""
    net = _net()
    penalty = Penalty(PenaltyConfig(strength=1.0))

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self) -> torch.Tensor:
            return penalty(self.net.named_parameters())

    values = {f"net.{name}": p.detach().clone() for name, p in net.named_parameters()}
    grads = torch.func.grad(lambda v: torch.func.functional_call(Wrapper(), v, ()))(values)
    torch.testing.assert_close(grads["net.0.weight"], 2 * net[0].weight.detach())
    assert not grads["net.0.bias"].any()


def test_names_of_several() -> None:
    penalties = create_penalties([{"strength": 0.1}, {"kind": "l1", "strength": 0.2}, {"kind": "l2", "strength": 0.3}])
    assert [(p.name, p.strength) for p in penalties] == [("l2", 0.1), ("l1", 0.2), ("l2_2", 0.3)]
    assert create_penalties([]) == []


def test_what_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter") as caught:
        Penalty(PenaltyConfig(strength=1.0, parameters=("3.weight",)))(_net().named_parameters())
    assert "weight" in caught.value.mend
    with pytest.raises(ConfigError, match=r"penalties\.1\.strength"):
        create_penalties([{"strength": 0.1}, {"kind": "l1"}])
    with pytest.raises(ConfigError, match=r"penalties\.0\.kind"):
        create_penalties([{"kind": "l3", "strength": 0.1}])
