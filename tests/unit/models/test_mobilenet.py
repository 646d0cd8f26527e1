"""MobileNet v1: the tables of the paper, Keras's totals, padding at stride 2, the cut after block 12."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from helpers import shared_data
from lamina.core.errors import ShapeError
from lamina.explain.layers import summarise
from lamina.models.factory import create_model
from lamina.models.mobilenet import MobileNet, SeparableBlock
from lamina.nn.arithmetic import conv_output_size

SMALL: dict[str, Any] = {"image_size": (32, 32), "num_classes": 3, "width_multiplier": 0.25}


def table(**options: Any) -> dict[str, Any]:
    with torch.device("meta"):
        model = create_model("mobilenet-v1", **options)
    return summarise(model, (model.in_channels, *model.image_size))  # type: ignore[arg-type,misc]


def test_counts_are_keras_and_the_papers() -> None:
    document = table()
    assert document["num_parameters"] == 4_231_976
    assert document["num_buffers"] == 21_888
    assert document["num_total"] == 4_253_864, "what Keras prints"
    assert document["num_weighted_layers"] == 28, "section 3.2: 28 layers, depthwise and pointwise counted apart"
    assert document["flops"] == 2 * 568_740_352


@pytest.mark.parametrize(
    ("width", "size", "millions", "parameters"),
    [
        (1.0, 224, 569, 4.2),
        (0.75, 224, 325, 2.6),
        (0.5, 224, 149, 1.3),
        (0.25, 224, 41, 0.5),
        (1.0, 192, 418, 4.2),
        (1.0, 160, 290, 4.2),
        (1.0, 128, 186, 4.2),
        (0.5, 160, 76, 1.3),
    ],
)
def test_tables_6_7_and_9_of_the_paper(width: float, size: int, millions: int, parameters: float) -> None:
    document = table(width_multiplier=width, image_size=(size, size))
    assert abs(document["flops"] / 2e6 - millions) < 1, "569 is rounded up there, 290 down"
    assert round(document["num_parameters"] / 1e6, 1) == parameters


def test_table_1_of_the_paper() -> None:
    document = table()
    rows = [row for row in document["layers"] if row["flops"]]
    shapes = [(row["output_shape"][1], row["output_shape"][-1]) for row in rows[:-1]]
    assert shapes == [
        (32, 112),
        *[(32, 112), (64, 112)],
        *[(64, 56), (128, 56)],
        *[(128, 56), (128, 56)],
        *[(128, 28), (256, 28)],
        *[(256, 28), (256, 28)],
        *[(256, 14), (512, 14)],
        *[(512, 14), (512, 14)] * 5,
        *[(512, 7), (1024, 7)],
        *[(1024, 7), (1024, 7)],
    ]
    assert rows[0]["how"].startswith('"same": ceil(224 / 2) = 112, with 0 before and 1 after')
    assert rows[-1]["name"] == "head"
    assert rows[-2]["receptive_field"] == 315


def test_a_separable_block_is_filtering_then_mixing() -> None:
    block = SeparableBlock(4, 6, stride=2).eval().double()
    for norm in (block.bn1, block.bn2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9
    padded = F.pad(x, (0, 1, 0, 1))
    filtered = torch.cat(
        [F.conv2d(padded[:, c : c + 1], block.depthwise.weight[c : c + 1], stride=2) for c in range(4)], 1
    )
    scaled = (filtered - block.bn1.running_mean[:, None, None]) / (block.bn1.running_var[:, None, None] + 1e-3).sqrt()
    seen = (scaled * block.bn1.weight[:, None, None]).clamp(0, 6)
    mixed = torch.einsum("bchw,dc->bdhw", seen, block.pointwise.weight[:, :, 0, 0])
    scaled = (mixed - block.bn2.running_mean[:, None, None]) / (block.bn2.running_var[:, None, None] + 1e-3).sqrt()
    torch.testing.assert_close(block(x), (scaled * block.bn2.weight[:, None, None]).clamp(0, 6))
    assert bool((seen == 6).any()), "the rectifier is cut off at 6"


def test_padding_at_stride_2() -> None:
    assert conv_output_size(224, kernel=3, stride=2, padding="same").padding == (0, 1)
    assert conv_output_size(7, kernel=3, stride=2, padding="same").padding == (1, 1)
    for size in ((1, 1), (33, 50), (224, 160)):
        model = MobileNet(**{**SMALL, "image_size": size}).eval()
        maps = model.blocks(model.conv1(torch.zeros(1, 3, *size)))
        assert list(maps.shape[2:]) == [-(-n // 32) for n in size]
    with pytest.raises(ShapeError, match="have no pixels"):
        MobileNet(image_size=(0, 32))


def test_names_and_stages() -> None:
    model = MobileNet(**SMALL)
    keys = [key for key in model.state_dict() if key.endswith("weight")]
    assert keys[:2] == ["conv1.weight", "bn1.weight"]
    assert keys[2:6] == [f"blocks.0.{part}.weight" for part in ("depthwise", "bn1", "pointwise", "bn2")]
    assert keys[-1] == "head.weight"
    assert list(model.stages) == ["stem", *[f"block{n}" for n in range(1, 14)], "head"]
    assert model.stages["block13"] == ("blocks.12.",)


def test_the_other_spelling_is_the_same_network() -> None:
    one, other = (create_model(name, seed=0, **SMALL) for name in ("mobilenet-v1", "mobilenet_v1"))
    for (key, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), key


def test_dropout_only_where_asked() -> None:
    assert isinstance(MobileNet(**SMALL).dropout, nn.Identity), "nothing random stands before the head"
    model = MobileNet(**SMALL, dropout=0.9).train()
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert bool((model.features(x) == 0).float().mean() > 0.5)


def test_the_cut_network_has_the_shapes_of_the_released_weights() -> None:
    """The file ends with the pointwise convolution of block 12; the README of the data names what it holds."""
    path = next(shared_data("pretrained_mobilenet").glob("*.npz"))
    with torch.device("meta"):
        model = MobileNet(last_block=12)
    own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    with np.load(path) as arrays:
        theirs = {key: arrays[key].shape for key in arrays.files}
    norms = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    expected = {"conv1.kernel": own.pop("conv1.weight")}
    expected |= {f"conv1_bn.{theirs_}": own.pop(f"bn1.{ours}") for ours, theirs_ in norms.items()}
    for number in range(1, 13):
        place = f"blocks.{number - 1}"
        depthwise = own.pop(f"{place}.depthwise.weight")
        expected[f"conv_dw_{number}.depthwise_kernel"] = (depthwise[1], *depthwise[:1], *depthwise[2:])
        expected[f"conv_pw_{number}.kernel"] = own.pop(f"{place}.pointwise.weight")
        for ours, theirs_ in norms.items():
            expected[f"conv_dw_{number}_bn.{theirs_}"] = own.pop(f"{place}.bn1.{ours}")
            expected[f"conv_pw_{number}_bn.{theirs_}"] = own.pop(f"{place}.bn2.{ours}")
    assert {key for key in own if "num_batches" not in key} == {"head.weight", "head.bias"}
    # (out, in, height, width) -> (height, width, in, out)
    turned = {key: (*s[2:], s[1], s[0]) if len(s) == 4 else s for key, s in expected.items()}
    assert turned == theirs
    assert sum(int(np.prod(shape)) for shape in theirs.values()) == 2_162_880
    assert model.head.in_features == 1024
