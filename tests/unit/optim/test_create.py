"""Optimizers by name: groups, options, errors, kernels, and the guard of the fused ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lamina.core import registry
from lamina.core.errors import ConfigError, UnknownNameError
from lamina.optim.create import create_optimizer, parse_optimizer
from lamina.optim.lars import LARS

NAMES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lars", "ftrl")


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> float:
    x = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    loss = net(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    net = _net()
    optimizer = create_optimizer({"name": name}, net.named_parameters())
    losses = [_step(net, optimizer) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_every_registered_optimizer_is_tried_here() -> None:
    assert set(registry.names("optimizer")) == set(NAMES)
    for entry in registry.entries("optimizer"):
        assert entry.summary
        assert entry.source


def test_they_are_torchs_own() -> None:
    for name, cls in (
        ("sgd", torch.optim.SGD),
        ("adagrad", torch.optim.Adagrad),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.AdamW),
    ):
        optimizer = create_optimizer({"name": name}, _net().named_parameters())
        assert type(optimizer) is cls
        assert optimizer.defaults["fused"] is True
    rmsprop = create_optimizer({"name": "rmsprop"}, _net().named_parameters())
    assert type(rmsprop) is torch.optim.RMSprop
    assert rmsprop.defaults["foreach"] is True
    assert create_optimizer({"name": "nesterov"}, _net().named_parameters()).defaults["nesterov"] is True
    assert isinstance(create_optimizer({"name": "lars"}, _net().named_parameters()), LARS)


def test_biases_and_norms_are_not_decayed() -> None:
    net = _net()
    groups = create_optimizer({"name": "adam", "weight_decay": 0.1}, net.named_parameters()).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 0.1), (4, 0.0)]
    assert {id(p) for p in groups[0]["params"]} == {id(net[0].weight), id(net[3].weight)}
    groups = create_optimizer(
        {"name": "adam", "weight_decay": 0.1, "decay_bias": True}, net.named_parameters()
    ).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(6, 0.1)]
    assert len(create_optimizer({"name": "adam"}, net.named_parameters()).param_groups) == 1
    groups = create_optimizer({"name": "ftrl", "l1": 0.1, "l2": 0.2}, net.named_parameters()).param_groups
    assert [(len(g["params"]), g["l1"], g["l2"]) for g in groups] == [(2, 0.1, 0.2), (4, 0.0, 0.0)]


def test_rates_by_name() -> None:
    net = _net()
    values = {"name": "sgd", "lr": 0.5, "lr_by_name": {"3.bias": 0.0, "3.*": 0.1}}
    optimizer = create_optimizer(values, net.named_parameters())
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rate[id(net[3].bias)] == 0.0
    assert rate[id(net[3].weight)] == 0.1
    assert rate[id(net[0].weight)] == 0.5
    assert all(g["initial_lr"] == g["lr"] for g in optimizer.param_groups)
    with pytest.raises(ConfigError, match="fits no parameter") as caught:
        create_optimizer({"name": "sgd", "lr_by_name": {"3.wieght": 0.1}}, net.named_parameters())
    assert "'3.weight'" in caught.value.mend


def test_what_is_refused() -> None:
    parameters = list(_net().named_parameters())
    with pytest.raises(UnknownNameError) as caught:
        create_optimizer({"name": "adamm"}, parameters)
    assert "'adam'" in caught.value.mend
    with pytest.raises(ConfigError, match="There is no key 'learning_rate'"):
        create_optimizer({"name": "adam", "learning_rate": 0.1}, parameters)
    with pytest.raises(ConfigError, match=r"optimizer\.lr got -1"):
        create_optimizer({"name": "adam", "lr": -1}, parameters)
    with pytest.raises(ConfigError, match=r"optimizer\.betas\.1"):
        create_optimizer({"name": "adam", "betas": [0.9, 1.0]}, parameters)
    with pytest.raises(ConfigError, match="no parameters to train"):
        create_optimizer({"name": "adam"}, [])
    with pytest.raises(ConfigError, match="momentum"):
        create_optimizer({"name": "sgd", "momentum": 0.9}, parameters)


def test_options_reach_torch() -> None:
    optimizer = create_optimizer(
        {"name": "adam", "betas": [0.8, 0.99], "eps": 1e-6, "amsgrad": True}, _net().named_parameters()
    )
    assert optimizer.defaults["betas"] == (0.8, 0.99)
    assert (optimizer.defaults["eps"], optimizer.defaults["amsgrad"]) == (1e-6, True)
    rmsprop = create_optimizer(
        {"name": "rmsprop", "alpha": 0.9, "centered": True, "momentum": 0.5}, _net().named_parameters()
    )
    assert (rmsprop.defaults["alpha"], rmsprop.defaults["centered"], rmsprop.defaults["momentum"]) == (0.9, True, 0.5)
    momentum = create_optimizer({"name": "momentum", "dampening": 0.2}, _net().named_parameters())
    assert (momentum.defaults["momentum"], momentum.defaults["dampening"]) == (0.9, 0.2)
    adagrad = create_optimizer(
        {"name": "adagrad", "lr_decay": 0.1, "initial_accumulator_value": 0.5}, _net().named_parameters()
    )
    assert (adagrad.defaults["lr_decay"], adagrad.defaults["initial_accumulator_value"]) == (0.1, 0.5)


def test_values_survive_config_and_json() -> None:
    name, config = parse_optimizer({"name": "adamw", "betas": [0.8, 0.9], "lr_by_name": {"head.*": 0.5}})
    assert name == "adamw"
    assert type(config).from_values(config.values()) == config


# --- the guard ------------------------------------------------------------------------------------------------------


def test_why_the_guard_is_needed() -> None:
    """torch's fused CPU step mixes up the weights when layouts differ. Once it no longer does, the guard can go."""
    torch.manual_seed(0)
    start, grad = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    parameter = start.clone().requires_grad_()
    parameter.grad = grad.contiguous(memory_format=torch.channels_last)
    torch.optim.SGD([parameter], lr=0.1, fused=True).step()
    assert not torch.allclose(parameter, start - 0.1 * grad)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of_parameter", [False, True])
def test_gradients_in_another_layout(name: str, of_parameter: bool) -> None:
    torch.manual_seed(0)
    start, grads = torch.randn(4, 3, 3, 3), [torch.randn(4, 3, 3, 3) for _ in range(3)]
    ends = []
    for last in (False, True):
        parameter = nn.Parameter(start.clone())
        optimizer = create_optimizer({"name": name}, [("w", parameter)])
        for number, grad in enumerate(grads):
            if last and of_parameter and number == 1:  # as model.to(memory_format=…) does after the optimizer was made
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
            own = grad.contiguous(memory_format=torch.channels_last) if last and not of_parameter else grad.clone()
            parameter.grad = own
            optimizer.step()
        ends.append(parameter.detach().contiguous())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-6, atol=1e-7)


def test_strides_of_dimensions_of_size_one_cost_no_copy() -> None:
    parameter = nn.Parameter(torch.randn(4, 1, 3, 3).as_strided((4, 1, 3, 3), (9, 9, 3, 1)))
    optimizer = create_optimizer({"name": "sgd"}, [("w", parameter)])
    parameter.grad = grad = torch.randn(4, 1, 3, 3).as_strided((4, 1, 3, 3), (9, 1, 3, 1))
    optimizer.step()
    assert parameter.grad is grad


def test_parameters_with_gaps_are_not_given_to_fused_kernels() -> None:
    whole = torch.randn(4, 6)
    parameter = nn.Parameter(whole[:, ::2])
    optimizer = create_optimizer({"name": "sgd", "lr": 1.0}, [("w", parameter)])
    assert not optimizer.defaults.get("fused")
    parameter.grad = torch.ones(4, 3)
    before = whole.clone()
    optimizer.step()
    torch.testing.assert_close(whole[:, ::2], before[:, ::2] - 1)
    torch.testing.assert_close(whole[:, 1::2], before[:, 1::2])


# --- saving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_resuming_from_the_state_dict_is_bit_identical(name: str) -> None:
    net = _net()
    optimizer = create_optimizer({"name": name, "lr": 0.05}, net.named_parameters())
    for seed in range(5):
        _step(net, optimizer, seed)
    other = _net()
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    resumed = create_optimizer({"name": name, "lr": 0.05}, other.named_parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for factor, seed in ((0.5, 6), (0.25, 7), (1.0, 8)):
        for o in (optimizer, resumed):
            for group in o.param_groups:
                group["lr"] = group["initial_lr"] * factor
        _step(net, optimizer, seed)
        _step(other, resumed, seed)
    for one, two in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", NAMES)
def test_closures_and_missing_gradients(name: str) -> None:
    net = _net()
    optimizer = create_optimizer({"name": name}, net.named_parameters())
    before = net[3].bias.detach().clone()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net[0](torch.ones(1, 1, 4, 4)).square().sum()
        loss.backward()
        return loss

    assert float(optimizer.step(closure).detach()) > 0
    assert torch.equal(net[3].bias, before)
    optimizer.zero_grad()
    optimizer.step()
