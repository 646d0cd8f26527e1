"""Activations: formulas, ranges, options, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lamina.core import registry
from lamina.core.errors import ConfigError, ShapeError, UnknownNameError
from lamina.nn.activations import Maxout, create_activation

X = torch.linspace(-6, 6, 49, dtype=torch.float64)

FORMULAS = {
    "identity": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": lambda x: math.tanh(x),
    "relu": lambda x: max(0.0, x),
    "leaky-relu": lambda x: x if x >= 0 else 0.01 * x,
    "elu": lambda x: x if x > 0 else math.exp(x) - 1,
    "selu": lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * (math.exp(x) - 1)),
    "gelu": lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "prelu": lambda x: x if x >= 0 else 0.25 * x,
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_formula(name: str) -> None:
    module = create_activation(name).double()
    wanted = torch.tensor([FORMULAS[name](x) for x in X.tolist()], dtype=torch.float64)
    torch.testing.assert_close(module(X).detach(), wanted, rtol=0, atol=1e-12)


def test_softmax_and_its_logarithm() -> None:
    x = torch.tensor([[3.2, 5.1, -1.7]], dtype=torch.float64)
    probs = create_activation("softmax")(x)
    torch.testing.assert_close(
        probs, torch.tensor([[0.129983, 0.869050, 0.000968]], dtype=torch.float64), rtol=0, atol=5e-7
    )
    torch.testing.assert_close(create_activation("log-softmax")(x), probs.log(), rtol=0, atol=1e-12)
    column = create_activation("softmax", dim=0)(torch.randn(4, 3))
    torch.testing.assert_close(column.sum(dim=0), torch.ones(3))


def test_sigmoid_golden_values() -> None:
    x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    y = create_activation("sigmoid")(x)
    y.backward()
    assert round(y.item(), 3) == 0.731
    assert x.grad is not None
    assert round(x.grad.item(), 3) == 0.197


@pytest.mark.parametrize("name", [n for n in registry.names("activation") if n != "maxout"])
def test_every_activation_keeps_shape_and_has_a_gradient(name: str) -> None:
    module = create_activation(name)
    x = torch.randn(5, 7, requires_grad=True)
    y = module(x * 1.0)
    assert y.shape == x.shape
    (y * torch.randn(5, 7)).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert bool((x.grad != 0).any())


def test_every_activation_states_range_and_source() -> None:
    registry.lookup("activation", "relu")
    entries = registry.entries("activation")
    assert len(entries) >= 14
    for entry in entries:
        found = registry.lookup("activation", entry.name)
        assert "Range:" in (found.target.__doc__ or ""), entry.name
        assert found.source, entry.name


def test_options_reach_the_module() -> None:
    assert create_activation("relu", inplace=True).inplace is True
    assert create_activation("leaky-relu", negative_slope=0.2).negative_slope == 0.2
    assert create_activation("prelu", num_parameters=8).weight.shape == (8,)
    assert create_activation("gelu", approximate="tanh").approximate == "tanh"


def test_inplace_relu_after_linear_and_norm_is_safe() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.ReLU()).double()
    fast = nn.Sequential(
        nn.Linear(6, 5),
        create_activation("relu", inplace=True),
        nn.BatchNorm1d(5),
        create_activation("relu", inplace=True),
    ).double()
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(9, 6, dtype=torch.float64)
    for net in (plain, fast):
        net(x).square().sum().backward()
    for a, b in zip(plain.parameters(), fast.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean") as caught:
        create_activation("leaky-rely")
    assert "'leaky-relu'" in caught.value.mend
    with pytest.raises(ConfigError, match="slope"):
        create_activation("leaky-relu", slope=0.1)
    with pytest.raises(ConfigError, match=r"0\.0"):
        create_activation("elu", alpha=0.0)


def test_maxout_is_the_largest_of_its_pieces() -> None:
    torch.manual_seed(0)
    layer = create_activation("maxout", in_features=3, out_features=2, num_pieces=4)
    assert isinstance(layer, Maxout)
    x = torch.randn(5, 3)
    weight, bias = layer.linear.weight.view(2, 4, 3), layer.linear.bias.view(2, 4)
    wanted = torch.stack([(x @ weight[o].T + bias[o]).max(dim=1).values for o in range(2)], dim=1)
    torch.testing.assert_close(layer(x), wanted)
    assert layer(torch.randn(5, 6, 3)).shape == (5, 6, 2)


def test_maxout_makes_the_absolute_value() -> None:
    layer = Maxout(1, 1, num_pieces=2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layer.linear.bias.zero_()
    x = torch.linspace(-2, 2, 9).unsqueeze(1)
    torch.testing.assert_close(layer(x), x.abs())


def test_maxout_refuses_a_wrong_width() -> None:
    with pytest.raises(ShapeError, match="in_features=4"):
        Maxout(3, 2)(torch.zeros(5, 4))
    with pytest.raises(ConfigError):
        Maxout(3, 0)
