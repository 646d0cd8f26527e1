"""Output sizes and receptive fields: worked examples, and torch as the judge over many windows."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from lamina.nn.arithmetic import (
    ReceptiveField,
    conv_output_size,
    pool_output_size,
    smallest_input,
    transposed_output_size,
)


@pytest.mark.parametrize(
    ("n", "window", "size"),
    [
        (6, {"kernel": 3}, 4),
        (4, {"kernel": 3}, 2),
        (4, {"kernel": 3, "padding": "same"}, 4),
        (227, {"kernel": 11, "stride": 4}, 55),
        (224, {"kernel": 11, "stride": 4}, 54),
        (28, {"kernel": 5, "padding": 2}, 28),
        (7, {"kernel": 3, "stride": 2, "padding": "same"}, 4),
        (7, {"kernel": 3, "padding": "valid"}, 5),
        (2, {"kernel": 3}, 0),
    ],
)
def test_worked_examples(n: int, window: dict[str, object], size: int) -> None:
    assert conv_output_size(n, **window).size == size  # type: ignore[arg-type]


def test_pooling_by_two_halves_and_same_keeps_the_odd_row() -> None:
    assert pool_output_size(224, kernel=2).size == 112
    assert [pool_output_size(n, kernel=2, padding="same").size for n in (28, 14, 7)] == [14, 7, 4]
    assert pool_output_size(7, kernel=2, padding="same").padding == (0, 1)


def test_what_a_stride_drops_is_said() -> None:
    found = conv_output_size(224, kernel=11, stride=4)
    assert found.dropped == 1
    assert found.how == (
        "floor((224 + 0 - 11) / 4) + 1 = floor(53.25) + 1 = 54; stride 4 does not divide: the last 1 of 224 is not used"
    )
    assert conv_output_size(227, kernel=11, stride=4).dropped == 0
    assert "does not fit once" in conv_output_size(2, kernel=3).how


@pytest.mark.parametrize("padding", [0, 1, 2, (0, 1), (2, 0), "same"])
def test_convolution_agrees_with_torch(padding: int | tuple[int, int] | str) -> None:
    for n, kernel, stride, dilation in itertools.product(range(1, 14), (1, 2, 3, 5), (1, 2, 3), (1, 2)):
        found = conv_output_size(n, kernel=kernel, stride=stride, padding=padding, dilation=dilation)  # type: ignore[arg-type]
        padded = nn.functional.pad(torch.zeros(1, 1, n), found.padding)
        if padded.shape[-1] < dilation * (kernel - 1) + 1:
            assert found.size == 0
            continue
        out = nn.functional.conv1d(padded, torch.zeros(1, 1, kernel), stride=stride, dilation=dilation)
        assert found.size == out.shape[-1]
        covered = (found.size - 1) * stride + dilation * (kernel - 1) + 1
        assert covered + found.dropped == padded.shape[-1]
        if padding == "same":
            assert found.size == -(-n // stride)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling_agrees_with_torch(ceil_mode: bool) -> None:
    for n, kernel, stride, padding in itertools.product(range(1, 14), (1, 2, 3, 4), (1, 2, 3, 5), (0, 1)):
        if padding > kernel // 2 or n + 2 * padding < kernel:
            continue
        found = pool_output_size(n, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
        pool = nn.MaxPool1d(kernel, stride=stride, padding=padding, ceil_mode=ceil_mode)
        assert found.size == pool(torch.zeros(1, 1, n)).shape[-1], (n, kernel, stride, padding)


def test_transposed_agrees_with_torch() -> None:
    for n, kernel, stride, padding, extra in itertools.product((1, 4, 7), (2, 3, 4), (1, 2, 3), (0, 1), (0, 1)):
        if extra >= stride:
            continue
        layer = nn.ConvTranspose1d(1, 1, kernel, stride=stride, padding=padding, output_padding=extra)
        expected = (n - 1) * stride - 2 * padding + kernel + extra
        if expected < 1:
            continue
        found = transposed_output_size(n, kernel=kernel, stride=stride, padding=padding, output_padding=extra)
        assert found.size == layer(torch.zeros(1, 1, n)).shape[-1]


@pytest.mark.parametrize(("layers", "kernel", "stride", "size"), [(2, 3, 1, 5), (3, 3, 1, 7), (2, 3, 2, 7)])
def test_receptive_fields(layers: int, kernel: int, stride: int, size: int) -> None:
    field = ReceptiveField()
    for _ in range(layers):
        field = field.after(kernel=kernel, stride=stride)
    assert field.size == size


def test_the_receptive_field_is_what_gradients_reach() -> None:
    windows = [(3, 1), (2, 2), (5, 2), (3, 1)]
    field = ReceptiveField()
    layers = []
    for kernel, stride in windows:
        field = field.after(kernel=kernel, stride=stride)
        layer = nn.Conv1d(1, 1, kernel, stride=stride)
        nn.init.ones_(layer.weight)
        layers.append(layer)
    image = torch.zeros(1, 1, 64, requires_grad=True)
    nn.Sequential(*layers)(image)[0, 0, 3].backward()
    assert int((image.grad != 0).sum()) == field.size


def test_a_transposed_convolution_halves_the_jump() -> None:
    field = ReceptiveField().after(kernel=4, stride=2).after_transposed(kernel=4, stride=2)
    assert (field.size, field.jump) == (6, 1)


def test_the_smallest_input_of_lenet() -> None:
    chain = ((5, 1, 2), (2, 2, 0), (5, 1, 0), (2, 2, 0))
    assert smallest_input(chain) == 12
    assert smallest_input(((3, 1, "same"),)) == 1
