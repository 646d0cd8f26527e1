"""VGG: counts, tables and receptive fields as published, names, stages, the small head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, ShapeError
from lamina.explain.layers import summarise
from lamina.models.factory import create_model
from lamina.models.vgg import vgg11, vgg16_bn

SMALL: dict[str, Any] = {
    "image_size": (32, 32),
    "channels": (2, 3, 4, 5, 6),
    "hidden_sizes": (7, 8),
    "num_classes": 3,
}
PUBLISHED = {
    "vgg11": (11, 132_863_336),
    "vgg13": (13, 133_047_848),
    "vgg16": (16, 138_357_544),
    "vgg19": (19, 143_667_240),
    "vgg11-bn": (11, 132_868_840),
    "vgg13-bn": (13, 133_053_736),
    "vgg16-bn": (16, 138_365_992),
    "vgg19-bn": (19, 143_678_248),
}


def table(name: str, **options: Any) -> dict[str, Any]:
    with torch.device("meta"):
        model = create_model(name, **options)
    return summarise(model, (model.in_channels, *model.image_size))  # type: ignore[arg-type,misc]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    layers, parameters = PUBLISHED[name]
    document = table(name)
    assert document["num_parameters"] == parameters
    assert document["num_weighted_layers"] == layers
    convolutions = [row for row in document["layers"] if row["type"] == "Conv2d"]
    channels = sum(row["output_shape"][1] for row in convolutions)
    assert document["num_buffers"] == (2 * channels if name.endswith("-bn") else 0)


def test_table_1_of_the_paper() -> None:
    document = table("vgg16")
    rows = [row for row in document["layers"] if row["type"] in ("Conv2d", "MaxPool2d", "Linear")]
    shapes = [tuple(row["output_shape"][1:]) for row in rows]
    assert shapes == [
        *[(64, 224, 224)] * 2,
        (64, 112, 112),
        *[(128, 112, 112)] * 2,
        (128, 56, 56),
        *[(256, 56, 56)] * 3,
        (256, 28, 28),
        *[(512, 28, 28)] * 3,
        (512, 14, 14),
        *[(512, 14, 14)] * 3,
        (512, 7, 7),
        (4096,),
        (4096,),
        (1000,),
    ]
    counts = [row["num_parameters"] for row in rows if row["num_parameters"]]
    assert counts[:4] == [1_792, 36_928, 73_856, 147_584]
    assert counts[-3:] == [102_764_544, 16_781_312, 4_097_000]
    assert document["flops"] == 2 * 15_470_264_320
    assert rows[2]["receptive_field"] == 6, "two 3x3 see 5, pooling sees 6"
    assert rows[17]["receptive_field"] == 212


def test_adaptive_pooling_does_nothing_at_224_and_any_size_from_32_works() -> None:
    document = table("vgg16")
    pooled = next(row for row in document["layers"] if row["name"] == "avgpool")
    assert (pooled["how"], pooled["receptive_field"]) == ("7 windows of 1", 212)
    for size in ((32, 32), (33, 100), (256, 320)):
        assert table("vgg11", image_size=size)["num_parameters"] == PUBLISHED["vgg11"][1]
    with pytest.raises(ShapeError, match=r"nothing is left of its height after features\.20") as caught:
        vgg11(**{**SMALL, "image_size": (31, 40)})
    assert caught.value.accepts == "height and width >= 32"


def test_names_are_torchvisions_but_for_the_head() -> None:
    keys = [key for key in vgg11(**SMALL).state_dict() if key.endswith("weight")]
    places = [f"features.{place}" for place in (0, 3, 6, 8, 11, 13, 16, 18)] + ["classifier.0", "classifier.3", "head"]
    assert keys == [f"{place}.weight" for place in places]
    normed = list(vgg16_bn(**SMALL).state_dict())
    assert normed[:7] == [
        "features.0.weight",
        "features.0.bias",
        *[f"features.1.{kind}" for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")],
    ]


def test_stages() -> None:
    stages = vgg16_bn(**SMALL).stages
    assert list(stages) == ["block1", "block2", "block3", "block4", "block5", "dense1", "dense2", "head"]
    assert stages["block1"] == ("features.0.", "features.1.", "features.3.", "features.4.")
    assert stages["dense2"] == ("classifier.3.",)
    assert list(vgg11(**{**SMALL, "hidden_sizes": (), "pool_size": 1}).stages)[-2:] == ["block5", "head"]


def test_the_small_head_for_small_images() -> None:
    document = table("vgg11-bn", image_size=(32, 32), num_classes=10, pool_size=1, hidden_sizes=())
    assert document["num_parameters"] == 9_231_114
    assert document["num_weighted_layers"] == 9
    model = vgg11(**{**SMALL, "hidden_sizes": (), "pool_size": 1})
    assert model.head.in_features == 6
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_the_head_can_be_replaced() -> None:
    model = vgg11(**SMALL)
    model.head = nn.Linear(8, 5)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_sizes_that_make_no_sense() -> None:
    for options in ({"channels": (1, 2, 3, 4, 0)}, {"hidden_sizes": (0,)}, {"channels": (1, 2)}):
        with pytest.raises(ConfigError):
            create_model("vgg11", **options)
