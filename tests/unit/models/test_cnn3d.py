"""The network for volumes and clips: sizes, counts, options per axis, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from lamina.core.errors import ConfigError, ShapeError
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.explain.layers import summarise
from lamina.models.cnn3d import CNN3d
from lamina.models.factory import create_model


def test_sizes_and_counts() -> None:
    document = summarise(CNN3d(num_classes=3), (1, 16, 16, 16))
    rows = {row["name"]: row for row in document["layers"]}
    assert [rows[f"body.block{n}.pool"]["output_shape"] for n in (1, 2, 3)] == [
        [1, 8, 8, 8, 8],
        [1, 16, 4, 4, 4],
        [1, 32, 2, 2, 2],
    ]
    assert rows["body.block2.conv"]["num_parameters"] == 16 * 8 * 27
    assert document["num_parameters"] == 27 * (8 + 8 * 16 + 16 * 32) + 2 * (8 + 16 + 32) + 33 * 3


def test_a_clip_keeps_its_frames_where_the_pooling_says_so() -> None:
    blocks = [
        {"channels": 4, "kernel_size": [1, 3, 3], "pool_size": [1, 2, 2]},
        {"channels": 6, "kernel_size": 3, "padding": [0, 1, 1], "pool_size": [1, 4, 2]},
    ]
    model = CNN3d(in_channels=3, volume_size=(5, 8, 12), num_classes=2, blocks=blocks, join="flatten")
    assert model.features(torch.rand(2, 3, 5, 8, 12)).shape == (2, 6 * 3 * 1 * 3)
    assert list(model.stages) == ["block1", "block2", "head"]


def test_what_the_data_decides() -> None:
    columns = {
        "volume": ColumnSpec(role="volume", dtype="float32", shape=(2, 8, 9, 10)),
        "label": ColumnSpec(role="label", dtype="int64", classes=("a", "b")),
    }
    model = create_model("cnn3d", DataSpec(columns=columns, num_rows={}), seed=0)
    assert (model.in_channels, model.volume_size) == (2, (8, 9, 10))
    assert model(torch.rand(2, 2, 8, 9, 10)).shape == (2, 2)


def test_too_small_a_volume_names_the_axis() -> None:
    with pytest.raises(ShapeError) as caught:
        CNN3d(volume_size=(4, 16, 16))
    assert "An input of 4x16x16" in caught.value.what
    assert "nothing is left of its depth after the pooling of block 3" in caught.value.what
    assert caught.value.accepts == "depth and height and width >= 8"
    assert "pool_size of 1" in caught.value.mend


@pytest.mark.parametrize(
    ("shape", "mend"),
    [
        ((8, 8, 8), "bring the volumes"),
        ((5, 8, 8, 8), "volumes.unsqueeze(1)"),
        ((1, 8, 8, 8), "volumes.unsqueeze(0)"),
        ((5, 1, 8, 8, 9), "build with volume_size=(8, 8, 9)"),
        ((5, 8, 8, 8, 1), "movedim(-1, 1)"),
    ],
)
def test_other_shapes_are_refused_with_the_mend(shape: tuple[int, ...], mend: str) -> None:
    with pytest.raises(ShapeError) as caught:
        CNN3d(volume_size=(8, 8, 8))(torch.rand(shape))
    assert mend in caught.value.mend


def test_sizes_that_are_not_one_per_axis_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"kernel_size=\(3, 3\)"):
        CNN3d(blocks=[{"kernel_size": [3, 3]}])
    with pytest.raises(ConfigError, match="into 3 groups"):
        CNN3d(blocks=[{"groups": 3}])
