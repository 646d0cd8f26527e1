"""AlexNet: counts and sizes as published, towers, names, stages, and layers that are replaced."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError, ShapeError
from lamina.explain.layers import summarise
from lamina.models.alexnet import AlexNet, alexnet_2012
from lamina.models.factory import create_model
from lamina.nn.arithmetic import conv_output_size
from lamina.nn.convolution import CONVOLUTIONS
from lamina.nn.norms import create_norm
from lamina.nn.trunk import Trunk, TrunkModel

SMALL: dict[str, Any] = {"image_size": (67, 67), "channels": (4, 8, 12, 8, 8), "hidden_size": 6, "num_classes": 3}


def table(name: str, **options: Any) -> dict[str, Any]:
    with torch.device("meta"):
        model = create_model(name, **options)
    return summarise(model, (model.in_channels, *model.image_size))  # type: ignore[arg-type,misc]


def weighted(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in document["layers"] if row["num_parameters"]]


def image(*size: int, rows: int = 2) -> Tensor:
    return torch.rand(rows, 3, *size, generator=torch.Generator().manual_seed(0))


def test_the_single_tower_has_the_published_count() -> None:
    document = table("alexnet")
    assert document["num_parameters"] == document["num_total"] == 61_100_840
    assert document["num_weighted_layers"] == 8
    assert document["flops"] == 2 * 714_188_480
    assert [row["num_parameters"] for row in weighted(document)] == [
        23_296,
        307_392,
        663_936,
        884_992,
        590_080,
        37_752_832,
        16_781_312,
        4_097_000,
    ]
    assert [row["output_shape"][1:] for row in weighted(document)[:5]] == [
        [64, 55, 55],
        [192, 27, 27],
        [384, 13, 13],
        [256, 13, 13],
        [256, 13, 13],
    ]


def test_the_network_of_2012_counted_layer_by_layer() -> None:
    document = table("alexnet-2012")
    assert document["num_parameters"] == document["num_total"] == 60_965_224
    assert document["num_weighted_layers"] == 8
    assert [row["num_parameters"] for row in weighted(document)] == [
        96 * (3 * 11 * 11 + 1),
        256 * (48 * 5 * 5 + 1),
        384 * (256 * 3 * 3 + 1),
        384 * (192 * 3 * 3 + 1),
        256 * (192 * 3 * 3 + 1),
        4096 * (9216 + 1),
        4096 * (4096 + 1),
        1000 * (4096 + 1),
    ]
    # The caption of figure 2 counts the neurons of the layers; its first number, 253,440, is not 96 maps of 55x55.
    neurons = [row["output_shape"] for row in weighted(document)]
    counts = [torch.Size(shape).numel() for shape in neurons]
    assert counts == [290_400, 186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]
    pooled = [row["output_shape"][2:] for row in document["layers"] if row["type"] == "MaxPool2d"]
    assert pooled == [[27, 27], [13, 13], [6, 6]]
    assert [row["type"] for row in document["layers"][:5]] == [
        "Conv2d",
        "ReLU",
        "LocalResponseNorm",
        "MaxPool2d",
        "Conv2d",
    ]


def test_kernels_are_11_5_and_3() -> None:
    with torch.device("meta"):
        model = AlexNet()
    kernels = [layer.kernel_size[0] for layer in model.modules() if isinstance(layer, CONVOLUTIONS)]
    assert kernels == [11, 5, 3, 3, 3]


def test_the_first_layer_needs_227() -> None:
    assert conv_output_size(227, kernel=11, stride=4).dropped == 0
    assert "floor(53.25) + 1 = 54" in conv_output_size(224, kernel=11, stride=4).how
    assert table("alexnet-2012", image_size=(224, 224))["num_parameters"] == 60_965_224, "the maps are averaged to 6x6"


def test_names_are_torchvisions_but_for_the_head() -> None:
    keys = list(AlexNet(**SMALL).state_dict())
    places = [f"features.{place}" for place in (0, 3, 6, 8, 10)] + ["classifier.1", "classifier.4", "head"]
    assert keys == [f"{place}.{kind}" for place in places for kind in ("weight", "bias")]


def test_stages() -> None:
    assert AlexNet(**SMALL).stages == {
        "conv1": ("features.0.",),
        "conv2": ("features.3.",),
        "conv3": ("features.6.",),
        "conv4": ("features.8.",),
        "conv5": ("features.10.",),
        "dense1": ("classifier.1.",),
        "dense2": ("classifier.4.",),
        "head": ("head.",),
    }
    normed = AlexNet(**SMALL, norm="batch-norm").stages
    assert normed["conv1"] == ("features.0.", "features.2."), "a norm that learns belongs to its convolution"
    assert alexnet_2012(**SMALL).stages["conv2"] == ("features.4.",)


@pytest.mark.parametrize(("name", "least"), [("alexnet", 63), ("alexnet-2012", 67)])
def test_the_smallest_image(name: str, least: int) -> None:
    options = {**SMALL, "image_size": (least, least + 3)}
    assert create_model(name, **options)(image(least, least + 3)).shape == (2, 3)
    with pytest.raises(ShapeError, match="nothing is left of its width after features") as caught:
        create_model(name, **{**options, "image_size": (least, least - 1)})
    assert caught.value.accepts == f"height and width >= {least}"


def test_towers_meet_only_in_the_third_convolution() -> None:
    model = alexnet_2012(**{**SMALL, "norm": "none"}).eval().double()
    places = model._convolutions
    for number, meets in ((1, False), (2, True), (3, False), (4, False)):
        layer = model.features[places[number]]
        x = torch.rand(1, layer.in_channels, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        moved = x.clone()
        moved[:, : layer.in_channels // 2] += 1
        second = slice(layer.out_channels // 2, None)
        assert torch.equal(layer(moved)[:, second], layer(x)[:, second]) is not meets


def test_channels_that_the_towers_cannot_share() -> None:
    with pytest.raises(ConfigError, match="9 output channels into 2 groups"):
        alexnet_2012(**{**SMALL, "channels": (4, 9, 12, 8, 8)})


@pytest.mark.parametrize("seed", [None, 3])
def test_the_biases_of_the_paper(seed: int | None) -> None:
    model = create_model("alexnet-2012", seed=seed, **SMALL)
    biases = {key: float(p.detach().mean()) for key, p in model.named_parameters() if key.endswith("bias")}
    assert [key for key, value in biases.items() if value == 1] == [
        "features.4.bias",
        "features.10.bias",
        "features.12.bias",
        "classifier.1.bias",
        "classifier.4.bias",
    ]
    assert {value for value in biases.values() if value != 1} == {0.0}
    assert 0.009 < float(model.get_parameter("features.8.weight").detach().std()) < 0.011
    plain = create_model("alexnet", seed=seed, **SMALL)
    assert not any(bool(p.any()) for key, p in plain.named_parameters() if key.endswith("bias"))


def test_the_paper_divides_nothing_in_its_norm() -> None:
    """Section 3.3: a / (2 + 1e-4 * sum over 5 neighbouring channels of their squares) ** 0.75, the ends cut off."""
    a = torch.rand(1, 7, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 300
    squares = [sum(float(a[0, j]) ** 2 for j in range(max(i - 2, 0), min(i + 2, 6) + 1)) for i in range(7)]
    expected = [float(a[0, i]) / (2 + 1e-4 * squares[i]) ** 0.75 for i in range(7)]
    found = create_norm("local-response-norm", 7)(a).flatten().tolist()
    assert found == pytest.approx(expected, rel=1e-12)


# --- features and classifier, by their well-known names ------------------------------------------------------------


def test_features_is_both_the_layers_and_what_stands_before_the_head() -> None:
    model = AlexNet(**SMALL).eval()
    x = image(67, 67)
    assert isinstance(model.get_submodule("features.0"), nn.Conv2d)
    assert model.features.maps(x).shape == (2, 8, 1, 1)
    assert model.features(x).shape == (2, 6)
    torch.testing.assert_close(model.head(model.features(x)), model(x))
    first = model.features[:3]
    assert first(x).shape == (2, 4, 7, 7), "a part of them is a plain sequence"


def test_features_checks_its_images() -> None:
    model = AlexNet(**SMALL)
    with pytest.raises(ShapeError, match="images shaped") as caught:
        model.features(image(64, 67))
    assert caught.value.mend == "build with image_size=(64, 67)"
    with pytest.raises(ShapeError, match="AlexNet got images shaped"):
        model(image(64, 67))


def test_copies_and_other_parameters_are_the_ones_that_run() -> None:
    torch.manual_seed(0)  # so small a network is dead, all zeros, in one draw of several
    model = AlexNet(**SMALL).eval()
    x = image(67, 67)
    before = model(x)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert twin.features.behind[-1] is twin.classifier
    assert not torch.allclose(twin(x), before)
    torch.testing.assert_close(model(x), before)
    halves = {key: p.detach() * 0.5 for key, p in model.named_parameters()}
    torch.testing.assert_close(torch.func.functional_call(model, halves, (x,)), twin(x))


def test_replaced_layers_run() -> None:
    model = AlexNet(**SMALL).eval()
    x = image(67, 67)
    model.head = nn.Linear(6, 5)
    assert model(x).shape == (2, 5)
    model.classifier = nn.Linear(8 * 36, 4)
    assert model.features(x).shape == (2, 4)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Identity()
    assert model.features(x).shape == (2, 8)
    model.features = Trunk(nn.Conv2d(3, 9, 11, stride=8))
    assert model.features(x).shape == (2, 9)


def test_it_can_be_exported_and_counted_without_values() -> None:
    model = AlexNet(**SMALL).eval()
    exported = torch.export.export(model, (image(67, 67),))
    torch.testing.assert_close(exported.module()(image(67, 67)), model(image(67, 67)))
    assert isinstance(model, TrunkModel)
    assert summarise(model, (3, 67, 67))["num_parameters"] == sum(p.numel() for p in model.parameters())
