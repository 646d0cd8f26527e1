"""The network for signals: sizes, counts, stages, options, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, DtypeError, ShapeError
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.explain.layers import summarise
from lamina.explain.views import Subject, example_inputs
from lamina.models.cnn1d import CNN1d
from lamina.models.factory import create_model


def test_sizes_and_counts() -> None:
    document = summarise(CNN1d(num_classes=4), (1, 128))
    rows = {row["name"]: row for row in document["layers"]}
    assert [rows[f"body.block{n}.pool"]["output_shape"] for n in (1, 2, 3)] == [[1, 16, 64], [1, 32, 32], [1, 64, 16]]
    # A convolution before batch norm needs no bias.
    assert rows["body.block2.conv"]["num_parameters"] == 32 * 16 * 5
    assert document["num_parameters"] == 16 * 7 + 32 * 16 * 5 + 64 * 32 * 3 + 2 * (16 + 32 + 64) + 65 * 4
    assert document["num_weighted_layers"] == 4
    # 1 + 6 + 1 (pool) + 4 * 2 + 2 (pool) + 2 * 4, of which the last pooling sees 4 more
    assert rows["body.block3.conv"]["receptive_field"] == 1 + 6 + 1 + 8 + 2 + 8


def test_the_average_does_not_care_where_something_happens() -> None:
    model = CNN1d(in_channels=1, length=64, num_classes=3, blocks=[{"channels": 8, "pool": "none"}]).eval()
    signal = torch.zeros(1, 1, 64)
    signal[0, 0, 20:24] = 1.0
    torch.testing.assert_close(model(signal), model(signal.roll(15, dims=2)))
    other = CNN1d(in_channels=1, length=64, num_classes=3, join="flatten", blocks=[{"channels": 8}]).eval()
    assert other.features(signal).shape == (1, 8 * 32)
    assert not torch.allclose(other(signal), other(signal.roll(15, dims=2)))


def test_options_and_stages() -> None:
    model = CNN1d(
        in_channels=6,
        length=50,
        num_classes=2,
        blocks=[
            {"channels": 6, "kernel_size": 9, "stride": 2, "groups": 3, "norm": "none", "activation": "tanh"},
            {"channels": 12, "dilation": 4, "pool": "average", "pool_size": 3, "dropout": 0.1},
        ],
        dense=[{"size": 20, "dropout": 0.5}],
    )
    assert list(model.stages) == ["block1", "block2", "dense1", "head"]
    prefixes = [prefix for group in model.stages.values() for prefix in group]
    for key, _ in model.named_parameters():
        assert sum(key.startswith(prefix) for prefix in prefixes) == 1, key
    assert model.body.block1.conv.bias is not None  # no norm takes it away
    assert model.features(torch.rand(3, 6, 50)).shape == (3, 20)
    model.head = nn.Linear(20, 7)
    assert model(torch.rand(3, 6, 50)).shape == (3, 7)


def test_what_the_data_decides() -> None:
    columns = {
        "signal": ColumnSpec(role="series", dtype="float32", shape=(3, 40)),
        "label": ColumnSpec(role="label", dtype="int64", classes=("a", "b", "c")),
    }
    spec = DataSpec(columns=columns, num_rows={"train": 5})
    model = create_model("cnn1d", spec, seed=0)
    assert (model.in_channels, model.length) == (3, 40)
    assert model(torch.rand(2, 3, 40)).shape == (2, 3)
    example = example_inputs(Subject(model, spec=spec))
    assert isinstance(example, torch.Tensor)
    assert example.shape == (1, 3, 40)
    assert create_model("mlp", spec)(torch.rand(2, 3, 40)).shape == (2, 3)
    with pytest.raises(ConfigError) as caught:
        create_model("cnn3d", spec)
    assert "reads volumes; this data has signal, label" in caught.value.what
    with pytest.raises(ConfigError, match="reads signals"):
        create_model("cnn1d", DataSpec(columns={"features": columns["signal"]}, num_rows={}))


def test_too_short_a_signal_is_refused_with_the_length_that_is_enough() -> None:
    with pytest.raises(ShapeError) as caught:
        CNN1d(length=7)
    assert "nothing is left of its length after the pooling of block 3" in caught.value.what
    assert caught.value.accepts == "length >= 8"
    CNN1d(length=8)
    with pytest.raises(ShapeError, match="convolution of block 1"):
        CNN1d(length=6, blocks=[{"padding": "valid", "kernel_size": 7}])


@pytest.mark.parametrize(
    ("shape", "mend"),
    [
        ((3, 64), "signals.unsqueeze(0)"),
        ((5, 64, 3), "movedim(-1, 1)"),
        ((5, 2, 64), "build with in_channels=2"),
        ((5, 3, 50), "build with length=50"),
        ((5, 64), "bring the signals into this shape"),
    ],
)
def test_other_shapes_are_refused_with_the_mend(shape: tuple[int, ...], mend: str) -> None:
    model = CNN1d(in_channels=3, length=64)
    with pytest.raises(ShapeError) as caught:
        model(torch.rand(shape))
    assert mend in caught.value.mend
    assert caught.value.where == "CNN1d.forward, argument `signals`"


def test_one_channel_is_added_and_bytes_are_refused() -> None:
    model = CNN1d(length=64)
    with pytest.raises(ShapeError) as caught:
        model(torch.rand(5, 64))
    assert "signals.unsqueeze(1)" in caught.value.mend
    with pytest.raises(DtypeError, match="int64"):
        model(torch.ones(5, 1, 64, dtype=torch.int64))
