"""Convolution and pooling by name: TensorFlow's "same", groups, transposition, sizes, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.core.errors import ConfigError, ShapeError, UnknownNameError
from lamina.explain.layers import summarise
from lamina.nn.arithmetic import adaptive_windows, conv_output_size, same_padding, transposed_output_size
from lamina.nn.convolution import SameConv1d, SameConv2d, SameConv3d, SameConvTranspose2d, create_convolution
from lamina.nn.pooling import SameAvgPool2d, SameMaxPool2d, create_pooling
from lamina.nn.windows import size_after, window_steps

CHANNELS = 2


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_torchs_own_layers_where_torch_has_them() -> None:
    assert type(create_convolution(1, 2)) is nn.Conv2d
    assert create_convolution(1, 2, kernel_size=5, dilation=2).padding == (4, 4)  # type: ignore[comparison-overlap]
    assert type(create_convolution(1, 2, dims=1, padding="valid", stride=2)) is nn.Conv1d
    assert type(create_convolution(1, 2, dims=3, kernel_size=1, stride=2)) is nn.Conv3d
    assert type(create_convolution(1, 2, stride=2, padding=1)) is nn.Conv2d
    assert type(create_convolution(1, 2, dims=1, stride=2)) is SameConv1d
    assert type(create_convolution(1, 2, stride=2)) is SameConv2d
    assert type(create_convolution(1, 2, dims=3, kernel_size=2)) is SameConv3d
    assert type(create_pooling("max-pool")) is nn.MaxPool2d
    assert type(create_pooling("max-pool", padding="same")) is SameMaxPool2d
    assert type(create_pooling("average-pool", padding="same")) is SameAvgPool2d


def test_depthwise_and_groups() -> None:
    layer = create_convolution(6, 12, kernel_size=(3, 5), depthwise=True, bias=False)
    assert layer.weight.shape == (12, 1, 3, 5)
    assert create_convolution(6, 9, groups=3).weight.shape == (9, 2, 3, 3)
    x = noise(1, 6, 8, 8)
    layer = create_convolution(6, 6, depthwise=True, bias=False).double()
    moved = x.clone()
    moved[:, 0] += 1
    changed = (layer(moved) - layer(x)).abs().amax((0, 2, 3)) > 0
    assert changed.tolist() == [True, False, False, False, False, False]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_same_convolution_is_a_padded_one(dims: int) -> None:
    """Against padding by hand, over sizes, kernels, strides and dilations; and the arithmetic says the size."""
    plain = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    for n, kernel, stride, dilation in itertools.product(range(3, 8), (1, 2, 3), (1, 2, 3), (1, 2)):
        layer = create_convolution(
            CHANNELS, 3, dims=dims, kernel_size=kernel, stride=stride, dilation=dilation
        ).double()
        x = noise(1, CHANNELS, *[n + axis for axis in range(dims)])
        total = [max((-(-m // stride) - 1) * stride + dilation * (kernel - 1) + 1 - m, 0) for m in x.shape[2:]]
        padded = F.pad(x, [side for t in reversed(total) for side in (t // 2, t - t // 2)])
        found = layer(x)
        torch.testing.assert_close(found, plain(padded, layer.weight, layer.bias, stride=stride, dilation=dilation))
        assert list(found.shape[2:]) == [-(-m // stride) for m in x.shape[2:]]
        steps = window_steps(layer, x.shape[2:])
        assert steps is not None
        assert [step.size for step in steps] == list(found.shape[2:])


def test_stride_two_on_even_sizes_pads_behind_only() -> None:
    assert same_padding(224, kernel=3, stride=2) == (0, 1)
    layer = create_convolution(1, 1, stride=2, bias=False).double()
    x = noise(1, 1, 6, 6)
    by_hand = F.conv2d(F.pad(x, (0, 1, 0, 1)), layer.weight, stride=2)
    assert torch.equal(layer(x), by_hand)
    assert not torch.allclose(layer(x), F.conv2d(x, layer.weight, stride=2, padding=1))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_transposed_same_convolution_is_the_gradient_of_the_other(dims: int) -> None:
    for n, kernel, stride, dilation in itertools.product((2, 3), (1, 2, 3, 4), (1, 2, 3), (1, 2)):
        options: dict[str, Any] = {
            "dims": dims, "kernel_size": kernel, "stride": stride, "dilation": dilation, "bias": False,
        }  # fmt: skip
        forwards = create_convolution(CHANNELS, 3, **options).double()
        backwards = create_convolution(3, CHANNELS, transposed=True, **options).double()
        backwards.load_state_dict(forwards.state_dict())
        x = noise(1, CHANNELS, *[n * stride] * dims).requires_grad_()
        y = noise(1, 3, *[n] * dims, seed=1)
        (gradient,) = torch.autograd.grad((forwards(x) * y).sum(), x)
        torch.testing.assert_close(backwards(y), gradient)
        steps = window_steps(backwards, [n] * dims)
        assert steps is not None
        assert [step.size for step in steps] == [n * stride] * dims


def test_a_transposed_convolution_with_numbers() -> None:
    layer = create_convolution(3, 2, transposed=True, kernel_size=4, stride=2, padding=1)
    assert type(layer) is nn.ConvTranspose2d
    assert layer(torch.zeros(1, 3, 7, 7)).shape == (1, 2, 14, 14)
    assert create_convolution(3, 2, transposed=True, padding="valid")(torch.zeros(1, 3, 7, 7)).shape[2:] == (9, 9)
    assert type(create_convolution(3, 2, transposed=True, stride=2)) is SameConvTranspose2d
    assert transposed_output_size(7, kernel=3, padding="valid").size == 9
    assert transposed_output_size(7, kernel=3, stride=2, padding=(0, 1)).size == 14


def windows(n: int, kernel: int, stride: int, dilation: int = 1) -> list[list[int]]:
    """Elements that each window of TensorFlow's "same" pooling covers, those outside left out."""
    before, _ = same_padding(n, kernel=kernel, stride=stride, dilation=dilation)
    starts = [place * stride - before for place in range(-(-n // stride))]
    return [[m for k in range(kernel) if 0 <= (m := start + k * dilation) < n] for start in starts]


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_same_pooling_window_by_window(kind: str, dims: int) -> None:
    for n, kernel, stride in itertools.product(range(2, 9), (1, 2, 3, 4), (1, 2, 3)):
        x = noise(1, 1, *[n] * dims) - 3  # negative: a zero of the padding would win
        layer = create_pooling(f"{kind}-pool", dims=dims, kernel_size=kernel, stride=stride, padding="same")
        expected = x
        for axis in range(2, 2 + dims):  # maximum and average of a box are those of its sides, one after the other
            parts = [expected.index_select(axis, torch.tensor(w)) for w in windows(n, kernel, stride)]
            joined = [part.amax(axis) if kind == "max" else part.mean(axis) for part in parts]
            expected = torch.stack(joined, axis)
        torch.testing.assert_close(layer(x), expected)
        steps = window_steps(layer, [n] * dims)
        assert steps is not None
        assert [step.size for step in steps] == list(expected.shape[2:])


def test_same_pooling_of_oblong_and_dilated_windows() -> None:
    x = noise(1, 1, 7, 8) - 3
    layer = create_pooling("max-pool", kernel_size=(2, 3), stride=(3, 2), dilation=(2, 1), padding="same")
    rows, columns = windows(7, 2, 3, 2), windows(8, 3, 2)
    for i, r in enumerate(rows):
        for j, c in enumerate(columns):
            assert layer(x)[0, 0, i, j] == x[0, 0][r][:, c].max()


def test_global_and_adaptive() -> None:
    x = noise(2, 3, 5, 7)
    assert torch.equal(create_pooling("global-average-pool")(x), x.mean((2, 3)))
    assert torch.equal(create_pooling("global-max-pool", keepdims=True)(x), x.amax((2, 3), keepdim=True))
    assert create_pooling("global-max-pool", dims=1)(x[..., 0]).shape == (2, 3)
    for kind in ("max", "average"):
        layer = create_pooling(f"adaptive-{kind}-pool", output_size=(3, 4))
        assert layer(x).shape == (2, 3, 3, 4)
        steps = window_steps(layer, (5, 7))
        assert steps is not None
        assert [step.size for step in steps] == [3, 4]
    for n, size in itertools.product(range(1, 12), range(1, 9)):
        ones = F.adaptive_avg_pool1d(torch.eye(n, dtype=torch.float64)[None], size)[0]
        counts = (ones > 0).sum(0)
        assert adaptive_windows(n, size=size) == (int(counts.min()), int(counts.max()))


def test_numbers_and_ceil_mode_are_torchs() -> None:
    x = noise(1, 2, 9, 9)
    layer = create_pooling("max-pool", kernel_size=3, stride=2, padding=1, ceil_mode=True)
    assert torch.equal(layer(x), F.max_pool2d(x, 3, 2, 1, ceil_mode=True))
    layer = create_pooling("average-pool", kernel_size=3, stride=2, padding=1)
    assert torch.equal(layer(x), F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
    layer = create_pooling("average-pool", kernel_size=3, padding=1, count_include_pad=True)
    assert torch.equal(layer(x), F.avg_pool2d(x, 3, 3, 1))


def test_the_layers_view_says_how_a_size_came_about() -> None:
    model = nn.Sequential(
        create_convolution(3, 8, stride=2),
        create_pooling("max-pool", padding="same"),
        create_convolution(8, 4, transposed=True, stride=2),
        create_pooling("adaptive-average-pool", output_size=7),
    )
    rows = summarise(model, (3, 30, 30))["layers"]
    assert [row["output_shape"][2:] for row in rows] == [[15, 15], [8, 8], [16, 16], [7, 7]]
    assert rows[0]["how"].startswith('"same": ceil(30 / 2) = 15, with 0 before and 1 after; ')
    assert rows[1]["how"] == '"same": ceil(15 / 2) = 8, with 0 before and 1 after'
    assert rows[2]["how"].startswith('"same": 8*2 = 16; ')
    assert rows[3]["how"] == "7 windows of 3 to 4, overlapping"
    # The largest of the 7 windows has 4 of the 16 positions, which lie 2 pixels of the input apart: 9 + 3 * 2.
    assert [row["receptive_field"] for row in rows] == [3, 5, 9, 15]
    assert "(again)" not in str(rows)


def test_what_is_left_of_an_image() -> None:
    chain = [("conv", nn.Conv2d(1, 1, 5)), ("act", nn.ReLU()), ("pool", create_pooling("max-pool"))]
    assert size_after(chain, (28, 9), model="Net") == (12, 2)
    with pytest.raises(
        ShapeError, match=r"28x5 is too small for Net: nothing is left of its width after pool"
    ) as caught:
        size_after(chain, (28, 5), model="Net")
    assert caught.value.accepts == "height and width >= 6"
    assert caught.value.where == "Net, argument `image_size`"
    with pytest.raises(ShapeError, match="nothing is left of its length after nothing at all"):
        size_after([], (0,), model="Net", axes=("length",), argument="length")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dims": 4}, "dims=4"),
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"kernel_size": (3, 3, 3)}, "kernel_size=(3, 3, 3)"),
        ({"stride": (1, 0)}, "stride=(1, 0)"),
        ({"padding": -1}, "padding=-1"),
        ({"groups": 4}, "6 input and 8 output channels into 4 groups"),
        ({"depthwise": True}, "6 input and 8 output channels into 6 groups"),
        ({"depthwise": True, "groups": 2}, "depthwise=True and groups=2"),
        ({"paddding": 1}, "paddding"),
        ({"transposed": True, "output_padding": 1}, "padding='same' and output_padding=1"),
        ({"transposed": True, "padding": 0, "stride": 2, "output_padding": 2}, "output_padding=2 with stride=2"),
    ],
)
def test_convolutions_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_convolution(6, 8, **options)
    assert text in caught.value.what
    assert caught.value.mend


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("max-pool", {"padding": 2}, "padding=2 for a window of 2"),
        ("max-pool", {"padding": "same", "ceil_mode": True}, "ceil_mode=True"),
        ("average-pool", {"padding": "same", "count_include_pad": True}, "count_include_pad=True"),
        ("average-pool", {"dilation": 2}, "dilation"),
        ("adaptive-max-pool", {"output_size": (1, 2, 3)}, "output_size=(1, 2, 3)"),
        ("global-max-pool", {"dims": 0}, "dims=0"),
        ("batch-norm", {}, "no pooling"),
    ],
)
def test_poolings_that_cannot_be(name: str, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_pooling(name, **options)
    assert text in caught.value.what
    assert caught.value.mend


def test_unknown_poolings_are_named() -> None:
    with pytest.raises(UnknownNameError, match="maxpool") as caught:
        create_pooling("maxpool")
    assert "max-pool" in caught.value.mend


@pytest.mark.parametrize(("n", "padding", "size"), [(6, 0, 4), (4, 0, 2), (4, "same", 4)])
def test_the_worked_examples_as_layers(n: int, padding: Any, size: int) -> None:
    """6x6 by 3 gives 4x4; 4x4x1 by 3 gives 2x2x1, with "same" 4x4 (worked examples)."""
    layer = create_convolution(1, 1, padding=padding)
    assert layer(torch.zeros(1, 1, n, n)).shape == (1, 1, size, size)
    assert conv_output_size(n, kernel=3, padding=padding).size == size


def test_layout_is_kept_and_layers_can_be_traced() -> None:
    model = nn.Sequential(create_convolution(4, 8, stride=2), create_pooling("average-pool", padding="same"))
    x = torch.randn(2, 4, 10, 10).contiguous(memory_format=torch.channels_last)
    assert model.to(memory_format=torch.channels_last)(x).is_contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]
    exported = torch.export.export(model, (torch.zeros(2, 4, 10, 10),))
    torch.testing.assert_close(exported.module()(x), model(x))
