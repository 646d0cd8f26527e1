"""Initialisers: fans, variances, and draws keyed per parameter."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lamina.core import registry
from lamina.core.errors import ConfigError, UnknownNameError
from lamina.nn.initialisers import fans, initialise


@pytest.mark.parametrize(
    ("layer", "wanted"),
    [
        (nn.Linear(7, 5), (7, 5)),
        (nn.Conv1d(4, 6, 3), (12, 18)),
        (nn.Conv2d(4, 8, 3), (36, 72)),
        (nn.Conv2d(4, 8, (3, 5)), (60, 120)),
        (nn.Conv2d(4, 8, 3, groups=4), (9, 18)),
        (nn.Conv3d(2, 3, 3), (54, 81)),
        (nn.ConvTranspose2d(4, 8, 3), (36, 72)),
        (nn.ConvTranspose2d(4, 8, 3, groups=2), (18, 36)),
    ],
)
def test_fans(layer: nn.Module, wanted: tuple[int, int]) -> None:
    assert fans(layer) == wanted
    # A row of the weight that makes one output has fan_in numbers (of a transposed convolution: a column).
    weight = layer.weight
    per_output = weight.numel() / (
        weight.shape[1] * layer.groups if "Transpose" in type(layer).__name__ else weight.shape[0]
    )
    assert per_output == wanted[0]


# name -> (standard deviation for fans 400 and 300, largest absolute value or None)
SPREAD = {
    "xavier-normal": (math.sqrt(2 / 700), None),
    "glorot-normal": (math.sqrt(2 / 700), None),
    "xavier-uniform": (math.sqrt(2 / 700), math.sqrt(6 / 700)),
    "glorot-uniform": (math.sqrt(2 / 700), math.sqrt(6 / 700)),
    "he-normal": (math.sqrt(2 / 400), None),
    "kaiming-normal": (math.sqrt(2 / 400), None),
    "he-uniform": (math.sqrt(2 / 400), math.sqrt(6 / 400)),
    "kaiming-uniform": (math.sqrt(2 / 400), math.sqrt(6 / 400)),
    "lecun-normal": (math.sqrt(1 / 400), None),
    "lecun-uniform": (math.sqrt(1 / 400), math.sqrt(3 / 400)),
    "torch": (1 / math.sqrt(3 * 400), 1 / 20),
    "normal": (0.01, None),
    "uniform": (0.05 / math.sqrt(3), 0.05),
    "truncated-normal": (0.02 * 0.8796, 0.04),
}


@pytest.mark.parametrize("name", sorted(SPREAD))
def test_mean_and_variance(name: str) -> None:
    layer = nn.Linear(400, 300)
    initialise(layer, name, seed=3)
    std, bound = SPREAD[name]
    weight = layer.weight.detach()
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(weight.numel())
    assert weight.std().item() == pytest.approx(std, rel=0.01)
    if bound is not None:
        assert bound * 0.99 < weight.abs().max().item() <= bound


def test_every_initialiser_is_tried_here() -> None:
    registry.lookup("initialiser", "zeros")
    assert set(registry.names("initialiser")) == {*SPREAD, "zeros", "orthogonal"}


def test_zeros_and_orthogonal() -> None:
    layer = nn.Linear(6, 4)
    initialise(layer, "zeros", seed=0)
    assert not layer.weight.any()
    initialise(layer, "orthogonal", seed=0, gain=2.0)
    torch.testing.assert_close(layer.weight @ layer.weight.T, 4 * torch.eye(4))
    kernel = nn.Conv2d(2, 4, 3)
    initialise(kernel, "orthogonal", seed=0)
    rows = kernel.weight.flatten(start_dim=1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(4))


def test_options() -> None:
    layer = nn.Linear(400, 300)
    initialise(layer, "he-normal", seed=0, mode="fan_out", negative_slope=1.0)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(1 / 300), rel=0.01)
    initialise(layer, "xavier-uniform", seed=0, gain=5 / 3)
    assert layer.weight.std().item() == pytest.approx(5 / 3 * math.sqrt(2 / 700), rel=0.01)
    initialise(layer, "normal", seed=0, std=1.0, mean=0.5, bias="normal", bias_options={"std": 2.0})
    assert layer.weight.mean().item() == pytest.approx(0.5, abs=0.02)
    assert layer.bias.std().item() == pytest.approx(2.0, rel=0.15)


def test_biases() -> None:
    layer = nn.Linear(400, 300)
    before = layer.bias.detach().clone()
    initialise(layer, "he-normal", seed=0, bias="keep")
    assert torch.equal(layer.bias, before)
    initialise(layer, "he-normal", seed=0)
    assert not layer.bias.any()
    initialise(layer, "torch", seed=0)
    assert layer.bias.std().item() == pytest.approx(1 / math.sqrt(1200), rel=0.1)
    initialise(layer, "torch", seed=0, bias="zeros")
    assert not layer.bias.any()
    initialise(nn.Linear(4, 3, bias=False), "torch", seed=0)


def test_torch_matches_torchs_own_bounds() -> None:
    """Largest value over many draws, against the layers' own reset_parameters."""
    for layer in (nn.Conv2d(4, 64, 3, groups=2), nn.ConvTranspose2d(64, 16, 3), nn.Linear(50, 90)):
        torch.manual_seed(0)
        layer.reset_parameters()
        own = layer.weight.detach().abs().max().item()
        initialise(layer, "torch", seed=0)
        assert layer.weight.detach().abs().max().item() == pytest.approx(own, rel=0.02)


def _net(*, extra: bool) -> nn.Module:
    net = nn.Module()
    net.conv = nn.Conv2d(1, 4, 3)
    if extra:
        net.between = nn.Linear(10, 10)
    net.head = nn.Linear(8, 3)
    return net


def test_adding_a_layer_leaves_the_others_alone() -> None:
    small, large = _net(extra=False), _net(extra=True)
    for net in (small, large):
        initialise(net, "he-normal", seed=7, bias="uniform")
    for name, parameter in small.named_parameters():
        assert torch.equal(parameter, large.get_parameter(name)), name


def test_seeds_and_layers_differ_and_repeat() -> None:
    nets = [nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5)) for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        initialise(net, "normal", seed=seed)
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)
    assert not torch.equal(nets[0][0].weight, nets[2][0].weight)
    assert not torch.equal(nets[0][0].weight, nets[0][1].weight)


def test_layout_and_dtype_change_nothing() -> None:
    plain, last, half = (nn.Conv2d(3, 4, 3) for _ in range(3))
    last = last.to(memory_format=torch.channels_last)
    half = half.to(torch.bfloat16)
    for layer in (plain, last, half):
        initialise(layer, "he-normal", seed=0)
    assert torch.equal(plain.weight, last.weight)
    assert torch.equal(plain.weight.to(torch.bfloat16), half.weight)


def test_a_generator_is_used_in_order_and_the_global_one_is_not_touched() -> None:
    one, two = nn.Linear(5, 5), nn.Linear(5, 5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    initialise(one, "normal", generator=torch.Generator().manual_seed(4))
    initialise(two, "normal", generator=torch.Generator().manual_seed(4))
    initialise(two, "normal", seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(one.weight, two.weight)
    wanted = torch.empty(5, 5).normal_(0, 0.01, generator=torch.Generator().manual_seed(4))
    assert torch.equal(one.weight, wanted)


def test_shared_and_computed_weights() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    initialise(net, "normal", seed=0)
    alone = nn.Sequential(nn.Linear(4, 4))
    initialise(alone, "normal", seed=0)
    assert torch.equal(net[1].weight, alone[0].weight)
    computed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    before = computed.weight.detach().clone()
    initialise(computed, "zeros", seed=0)
    assert torch.equal(computed.weight, before)


def test_what_is_refused() -> None:
    layer = nn.Linear(3, 3)
    with pytest.raises(UnknownNameError, match="xavier"):
        initialise(layer, "xavier", seed=0)
    with pytest.raises(ConfigError, match="seed or a generator"):
        initialise(layer, "normal")
    with pytest.raises(ConfigError, match="seed or a generator"):
        initialise(layer, "normal", seed=0, generator=torch.Generator())
    with pytest.raises(ConfigError, match="stdd"):
        initialise(layer, "normal", seed=0, stdd=1.0)
    with pytest.raises(ConfigError, match="bias"):
        initialise(layer, "orthogonal", seed=0, bias="orthogonal")
