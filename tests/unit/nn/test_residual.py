"""Residual blocks: shapes, the three shortcuts, where the stride is, and what a block without weights does."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError
from lamina.nn.residual import BasicBlock, Bottleneck, Projection, Shortcut, ZeroPadShortcut, create_shortcut


def test_option_a_takes_every_second_pixel_and_puts_zeros_on_both_sides() -> None:
    images = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).view(2, 3, 5, 4) + 1
    out = ZeroPadShortcut(3, 8, stride=2)(images)
    assert out.shape == (2, 8, 3, 2)
    assert torch.equal(out[:, 2:5], images[:, :, ::2, ::2])  # 5 new channels: 2 before, 3 behind
    assert out[:, :2].abs().sum() == out[:, 5:].abs().sum() == 0


def test_option_a_drops_no_channels() -> None:
    with pytest.raises(ConfigError) as caught:
        ZeroPadShortcut(8, 4)
    assert "4 channels of 8" in caught.value.what
    assert "shortcut='B'" in caught.value.mend


@pytest.mark.parametrize(
    ("option", "same", "changed"),
    [("A", None, ZeroPadShortcut), ("B", None, nn.Sequential), ("C", nn.Sequential, nn.Sequential)],
)
def test_what_stands_on_the_shortcut(option: Shortcut, same: type | None, changed: type) -> None:
    found = create_shortcut(8, 8, stride=1, option=option)
    assert type(found) is (same or type(None))
    for made in (create_shortcut(8, 16, stride=1, option=option), create_shortcut(8, 8, stride=2, option=option)):
        assert type(made) is changed


@pytest.mark.parametrize(("kind", "option", "stride"), list(itertools.product([BasicBlock, Bottleneck], "ABC", [1, 2])))
def test_shapes_also_of_odd_sizes(kind: type[BasicBlock | Bottleneck], option: Shortcut, stride: int) -> None:
    block = (
        kind(6, 4, stride=stride, shortcut=option) if kind is Bottleneck else kind(4, 6, stride=stride, shortcut=option)
    )
    out = block(torch.rand(2, 6 if kind is Bottleneck else 4, 7, 6))
    assert out.shape == (2, 16 if kind is Bottleneck else 6, -(-7 // stride), -(-6 // stride))
    assert bool((out >= 0).all())


def test_where_a_bottleneck_has_its_stride() -> None:
    first, later = Bottleneck(8, 4, stride=2, version="v1"), Bottleneck(8, 4, stride=2)
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
    assert (later.conv1.stride, later.conv2.stride) == ((1, 1), (2, 2))
    assert [name for name, _ in first.named_parameters()] == [name for name, _ in later.named_parameters()]


@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_with_a_zero_last_norm_a_block_is_its_shortcut(kind: type[BasicBlock | Bottleneck]) -> None:
    block = kind(16, 16 // kind.expansion)
    nn.init.zeros_(block.last_norm.weight)
    images = torch.rand(3, 16, 4, 4)  # not negative, so that the last rectifier changes nothing
    assert torch.equal(block(images), images)
    assert not torch.equal(kind(16, 16 // kind.expansion)(images), images)


def test_the_input_is_left_as_it_was() -> None:
    images = torch.randn(2, 8, 4, 4)
    before = images.clone()
    for block in (BasicBlock(8, 8), Bottleneck(8, 2), BasicBlock(8, 16, stride=2, shortcut="A")):
        block(images)
        assert torch.equal(images, before)


def test_a_projection_is_no_layer_of_the_depth() -> None:
    assert not Projection(4, 8).counts_in_depth
    assert Projection(4, 8).weight.shape == (8, 4, 1, 1)
