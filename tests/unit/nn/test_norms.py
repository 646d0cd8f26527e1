"""Normalisations: what is averaged over what, and the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import lamina.nn.dropout  # noqa: F401 (registers a layer that is no norm)
from lamina.core.errors import ConfigError, UnknownNameError
from lamina.nn.norms import ChannelNorm, create_norm

SHAPES = {0: (6, 8), 1: (6, 8, 5), 2: (6, 8, 5, 4), 3: (6, 8, 3, 4, 2)}


def _standardised(x: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    mean = x.mean(dim=dims, keepdim=True)
    return (x - mean) / (x.var(dim=dims, unbiased=False, keepdim=True) + 1e-5).sqrt()


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["batch-norm", "layer-norm", "group-norm", "instance-norm", "channel-norm"])
def test_what_is_averaged(name: str, dims: int) -> None:
    if name == "instance-norm" and dims == 0:
        pytest.skip("vectors have no positions")
    torch.manual_seed(0)
    x = torch.randn(SHAPES[dims], dtype=torch.float64) * 3 + 1
    options = {"num_groups": 4} if name == "group-norm" else {}
    layer = create_norm(name, 8, dims=dims, **options).double()
    positions = tuple(range(2, 2 + dims))
    if name == "group-norm":
        wanted = _standardised(x.view(6, 4, 2, *x.shape[2:]), tuple(range(2, 3 + dims))).view_as(x)
    else:
        over = {
            "batch-norm": (0, *positions),
            "layer-norm": (1, *positions),
            "instance-norm": positions,
            "channel-norm": (1,),
        }[name]
        wanted = _standardised(x, over)
    torch.testing.assert_close(layer(x).detach(), wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["layer-norm", "group-norm", "instance-norm", "channel-norm", "batch-norm"])
def test_scale_and_shift_per_channel(name: str) -> None:
    layer = create_norm(name, 8, affine=True)
    assert [tuple(p.shape) for p in layer.parameters()] == [(8,), (8,)]
    assert list(create_norm(name, 8, affine=False).parameters()) == []


def test_batch_norm_counts_the_newest_batch() -> None:
    layer = create_norm("batch-norm", 2, dims=0, momentum=0.25)
    layer(torch.tensor([[0.0, 4.0], [2.0, 8.0]]))
    torch.testing.assert_close(layer.running_mean, torch.tensor([0.25, 1.5]))


def test_local_response_norm_has_the_papers_formula() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 3, 3, dtype=torch.float64) * 20
    wanted = torch.empty_like(x)
    for channel in range(7):
        near = x[:, max(0, channel - 2) : channel + 3]
        wanted[:, channel] = x[:, channel] / (2.0 + 1e-4 * near.square().sum(dim=1)) ** 0.75
    torch.testing.assert_close(create_norm("local-response-norm", 7)(x), wanted, rtol=1e-12, atol=0)


def test_channel_norm_keeps_channels_last_memory() -> None:
    x = torch.randn(2, 8, 5, 5).contiguous(memory_format=torch.channels_last)
    assert ChannelNorm(8)(x).is_contiguous(memory_format=torch.channels_last)


def test_group_norm_chooses_groups_that_divide() -> None:
    assert create_norm("group-norm", 64).num_groups == 32
    assert create_norm("group-norm", 50).num_groups == 25
    assert create_norm("group-norm", 7).num_groups == 7
    with pytest.raises(ConfigError) as caught:
        create_norm("group-norm", 50, num_groups=8)
    assert "num_groups=10" in caught.value.mend


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="batch-norn"):
        create_norm("batch-norn", 8)
    with pytest.raises(ConfigError, match="no normalisation"):
        create_norm("dropout", 8)
    with pytest.raises(ConfigError, match="dims=4"):
        create_norm("batch-norm", 8, dims=4)
    with pytest.raises(ConfigError, match="positions"):
        create_norm("instance-norm", 8, dims=0)
    with pytest.raises(ConfigError, match="momentun"):
        create_norm("batch-norm", 8, momentun=0.1)


def test_they_are_torchs_own() -> None:
    assert isinstance(create_norm("batch-norm", 4, dims=0), nn.BatchNorm1d)
    assert isinstance(create_norm("batch-norm", 4, dims=1), nn.BatchNorm1d)
    assert isinstance(create_norm("batch-norm", 4, dims=3), nn.BatchNorm3d)
    assert isinstance(create_norm("layer-norm", 4, dims=0), nn.LayerNorm)
