"""ResNet for ImageNet: published counts and layers, shapes, stages, names, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, ShapeError
from lamina.explain.layers import summarise
from lamina.models.factory import create_model
from lamina.models.resnet import ResNet, resnet18, resnet50

# torchvision's counts; the paper counts layers in the names.
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
}
SMALL: dict[str, Any] = {"image_size": (33, 40), "width": 4, "num_classes": 7}


def on_meta(name: str, **options: Any) -> nn.Module:
    """A model without values, which takes no time to make."""
    with torch.device("meta"):
        return create_model(name, **options)


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_and_depth_as_published(name: str) -> None:
    document = summarise(on_meta(name), (3, 224, 224))
    assert document["num_parameters"] == document["num_trainable"] == PUBLISHED[name]
    assert document["num_weighted_layers"] == int(name.removeprefix("resnet"))


def test_152_layers_as_the_paper_counts_them() -> None:
    assert 152 == 1 + 3 * (3 + 8 + 36 + 3) + 1
    document = summarise(on_meta("resnet152", shortcut="C"), (3, 224, 224))
    assert document["num_weighted_layers"] == 152


def test_multiply_adds_of_table_1() -> None:
    # Table 1 gives multiply-adds of the v1 networks in 1e9: 1.8, 3.6, 3.8, 7.6, 11.3.
    for name, billions in (("resnet18", 1.8), ("resnet34", 3.6), ("resnet50", 3.8), ("resnet152", 11.3)):
        document = summarise(on_meta(name, version="v1"), (3, 224, 224))
        assert document["flops"] / 2e9 == pytest.approx(billions, abs=0.12)


def test_sizes_of_table_1() -> None:
    document = summarise(on_meta("resnet50"), (3, 224, 224))
    sizes = {row["name"]: row["output_shape"] for row in document["layers"]}
    assert sizes["conv1"] == [1, 64, 112, 112]
    assert sizes["maxpool"] == [1, 64, 56, 56]
    assert [sizes[f"layer{n}.0.conv3"] for n in (1, 2, 3, 4)] == [
        [1, 256, 56, 56],
        [1, 512, 28, 28],
        [1, 1024, 14, 14],
        [1, 2048, 7, 7],
    ]
    assert sizes["flatten"] == [1, 2048]


def test_options_a_b_c_differ_by_their_projections() -> None:
    counts = [sum(p.numel() for p in on_meta("resnet34", shortcut=option).parameters()) for option in ("A", "B", "C")]
    assert counts[1] == PUBLISHED["resnet34"]
    assert counts[1] - counts[0] == sum(a * 2 * a + 2 * 2 * a for a in (64, 128, 256))
    width = {64: 3, 128: 3, 256: 5, 512: 2}  # blocks that keep their shape
    assert counts[2] - counts[1] == sum(n * (a * a + 2 * a) for a, n in width.items())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_shapes_stages_and_names(name: str, stem: str) -> None:
    model = create_model(name, seed=0, stem=stem, **SMALL)
    images = torch.rand(2, 3, 33, 40)
    features = model.features(images)  # type: ignore[operator]
    assert features.shape == (2, 4 * 8 * (4 if name == "resnet50" else 1))
    assert model(images).shape == (2, 7)
    stages: dict[str, tuple[str, ...]] = model.stages  # type: ignore[assignment]
    assert list(stages) == ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    prefixes = [prefix for group in stages.values() for prefix in group]
    for key, _ in model.named_parameters():
        assert sum(key.startswith(prefix) for prefix in prefixes) == 1, key
    keys = set(model.state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer2.0.downsample.1.bias", "head.bias"} <= keys
    assert ("layer1.0.downsample.0.weight" in keys) == (name == "resnet50")


def test_the_small_stem_keeps_the_size() -> None:
    model = resnet18(image_size=(32, 32), num_classes=10, stem="cifar")
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    assert model.layer4(model.layer3(model.layer2(model.layer1(torch.rand(1, 64, 32, 32))))).shape == (1, 512, 4, 4)


def test_the_head_can_be_replaced() -> None:
    model = create_model("resnet18", seed=0, **SMALL)
    model.head = nn.Linear(32, 3)
    assert model(torch.rand(2, 3, 33, 40)).shape == (2, 3)


def test_zero_init_last_and_the_seed() -> None:
    model = create_model("resnet50", seed=0, zero_init_last=True, **SMALL)
    weights = model.state_dict()
    assert float(weights["layer2.0.bn3.weight"].abs().sum()) == 0
    assert float(weights["layer2.0.bn2.weight"].sum()) == 8
    other = create_model("resnet50", seed=0, **SMALL).state_dict()
    assert torch.equal(weights["layer3.1.conv2.weight"], other["layer3.1.conv2.weight"])


def test_grey_images_and_other_depths() -> None:
    model = ResNet(block="basic", depths=(1, 1), in_channels=1, image_size=(9, 9), num_classes=2, width=2)
    assert model(torch.rand(1, 1, 9, 9)).shape == (1, 2)
    assert list(model.stages) == ["stem", "layer1", "layer2", "head"]


def test_version_v1_is_another_function_of_the_same_weights() -> None:
    older, newer = (create_model("resnet50", seed=0, version=version, **SMALL).eval() for version in ("v1", "v1.5"))
    newer.load_state_dict(older.state_dict())
    images = torch.rand(1, 3, 33, 40)
    assert not torch.allclose(older(images), newer(images))
    assert torch.equal(
        *(create_model("resnet18", seed=0, version=version, **SMALL).eval()(images) for version in ("v1", "v1.5"))
    )


def test_what_is_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        resnet50(image_size=(0, 224))
    assert "0x224" in caught.value.what
    with pytest.raises(ConfigError) as refused:
        create_model("resnet18", depths=(2, 0, 2, 2))
    assert "at least one block" in refused.value.what
    with pytest.raises(ConfigError, match="shortcut"):
        create_model("resnet18", shortcut="D")
