"""ResNet for CIFAR-10: counts, depth, sizes, names, stages, shortcuts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, ShapeError
from lamina.explain.layers import summarise
from lamina.models.cifar_resnet import CIFARResNet, resnet20
from lamina.models.factory import create_model

# Table 6 of the paper: 0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 million.
COUNTS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_depth_as_published(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]
    if name != "resnet1202":  # a listing of it takes seconds
        document = summarise(model, (3, 32, 32))
        assert document["num_weighted_layers"] == int(name.removeprefix("resnet"))


def test_sizes_of_section_4_2() -> None:
    document = summarise(resnet20(), (3, 32, 32))
    sizes = {row["name"]: row["output_shape"][1:] for row in document["layers"]}
    assert [sizes[f"layer{n}.2.conv2"] for n in (1, 2, 3)] == [[16, 32, 32], [32, 16, 16], [64, 8, 8]]
    assert sizes["flatten"] == [64]


def test_names_and_stages() -> None:
    model = resnet20(image_size=(8, 8), width=4)
    keys = list(model.state_dict())
    assert keys[0] == "conv1.weight"
    assert {"bn1.running_mean", "layer2.0.conv1.weight", "layer3.2.bn2.bias", "head.weight"} <= set(keys)
    assert not [key for key in keys if "downsample" in key]
    assert list(model.stages) == ["stem", "layer1", "layer2", "layer3", "head"]
    prefixes = [prefix for group in model.stages.values() for prefix in group]
    for key in dict(model.named_parameters()):
        assert sum(key.startswith(prefix) for prefix in prefixes) == 1, key


def test_shortcut_options_of_table_6() -> None:
    counts = {
        option: sum(parameter.numel() for parameter in resnet20(shortcut=option).parameters()) for option in "ABC"
    }
    assert counts["B"] - counts["A"] == 16 * 32 + 64 + 32 * 64 + 128
    assert counts["C"] > counts["B"]


def test_features_head_and_other_images() -> None:
    model = CIFARResNet(blocks_per_stage=1, in_channels=2, image_size=(9, 7), num_classes=3, width=5).eval()
    images = torch.rand(4, 2, 9, 7)
    assert model.features(images).shape == (4, 20)
    torch.testing.assert_close(model.head(model.features(images)), model(images))
    model.head = nn.Linear(20, 2)
    assert model(images).shape == (4, 2)


def test_initial_weights_are_he_normal() -> None:
    model = create_model("resnet20", seed=0)
    weight = model.get_parameter("layer3.1.conv1.weight")
    assert float(weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_what_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        resnet20(image_size=(32, 0))
    assert "32x0" in caught.value.what
    with pytest.raises(ConfigError, match="blocks_per_stage"):
        create_model("resnet20", blocks_per_stage=0)
