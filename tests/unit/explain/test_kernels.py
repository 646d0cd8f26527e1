"""The kernels view: what is drawn for which model."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lamina.core.errors import UsageError
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.explain import kernels
from lamina.explain.drawing import draw
from lamina.explain.kernels import KernelsConfig, _panel, kernels_view
from lamina.explain.views import Subject
from lamina.models.lenet import LeNet
from lamina.models.linear import Linear
from lamina.models.mlp import MLP
from lamina.models.perceptron import Perceptron


def spec(*shape: int, classes: tuple[str, ...] = ()) -> DataSpec:
    columns = {"image": ColumnSpec(role="image", dtype="float32", shape=shape)}
    if classes:
        columns["label"] = ColumnSpec(role="label", dtype="int64", classes=classes)
    return DataSpec(columns=columns, num_rows={})


def picture(png: bytes | None) -> np.ndarray:
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_convolution_kernels() -> None:
    model = LeNet(in_channels=3)
    result = kernels_view(Subject(model, "lenet"), KernelsConfig())
    document = result.document
    assert (document["layer"], document["kind"], document["shape"]) == ("conv1", "convolution", [6, 3, 5, 5])
    torch.testing.assert_close(
        torch.tensor([kernel["values"] for kernel in document["kernels"]]), model.conv1.weight.detach()
    )
    assert document["scale"] == pytest.approx(float(model.conv1.weight.detach().abs().max()))
    assert picture(result.figure).std() > 1


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (nn.Conv1d(1, 4, 5), "over a line"),
        (nn.Conv1d(3, 4, 5), "one row per channel"),
        (nn.Conv2d(2, 4, (3, 5)), "side by side"),
        (nn.Conv2d(9, 4, 3), "mean of 9 channels"),
        (nn.Conv3d(1, 4, (2, 3, 4)), "slices side by side"),
        (nn.Conv3d(6, 4, 3), "mean of 6 channels"),
    ],
)
def test_kernels_in_one_to_three_dimensions(layer: nn.Module, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = []

    def watched(paint: Any, *, note: str, **more: Any) -> bytes:
        notes.append(note)
        return draw(paint, note=note, **more)

    monkeypatch.setattr(kernels, "draw", watched)
    result = kernels_view(Subject(nn.Sequential(nn.Identity(), layer)), KernelsConfig())
    assert result.document["shape"] == list(layer.weight.shape)
    np.testing.assert_array_equal(result.arrays["kernels"], layer.weight.detach().numpy())
    assert picture(result.figure).std() > 1
    assert said in notes[0]


def test_signed_templates_of_a_linear_model() -> None:
    model = Linear(in_features=12, num_classes=3)
    nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.weight[0], model.head.weight[1] = 1.0, -1.0
    result = kernels_view(Subject(model, spec=spec(1, 3, 4, classes=("up", "down", "flat"))), KernelsConfig())
    assert result.document["kind"] == "template"
    assert [kernel["label"] for kernel in result.document["kernels"]] == ["up", "down", "flat"]
    assert [kernel["norm"] for kernel in result.document["kernels"]] == pytest.approx([12**0.5, 12**0.5, 0])
    pixels = picture(result.figure).reshape(-1, 3).astype(int)
    red = ((pixels[:, 0] - pixels[:, 2]) > 60).sum()
    blue = ((pixels[:, 2] - pixels[:, 0]) > 60).sum()
    assert red > 1000
    assert blue > 1000


def test_a_perceptron_of_two_classes_has_one_template() -> None:
    model = Perceptron(in_features=4, num_classes=2)
    document = kernels_view(Subject(model, spec=spec(1, 2, 2, classes=("no", "yes"))), KernelsConfig()).document
    assert [kernel["label"] for kernel in document["kernels"]] == ["yes, not no"]


def test_the_first_layer_of_an_mlp_is_units_not_templates() -> None:
    document = kernels_view(Subject(MLP(hidden_sizes=(10,))), KernelsConfig(most=3)).document
    assert (document["kind"], document["shape"]) == ("unit", [10, 1, 28, 28])


def test_many_values_are_not_written_out() -> None:
    document = kernels_view(Subject(MLP(hidden_sizes=(200,))), KernelsConfig(most=4)).document
    assert "values" not in document["kernels"][0]
    assert len(document["kernels"]) == 200


def test_what_has_no_kernels() -> None:
    with pytest.raises(UsageError, match="no convolution and no dense layer"):
        kernels_view(Subject(nn.ReLU()), KernelsConfig())
    with pytest.raises(UsageError, match="13 inputs") as caught:
        kernels_view(Subject(Linear(in_features=13)), KernelsConfig())
    assert "image_shape" in caught.value.mend
    kernels_view(Subject(Linear(in_features=12)), KernelsConfig(image_shape=(3, 2, 2)))


def test_slices_and_channels_stand_apart() -> None:
    volume = np.arange(8.0).reshape(1, 2, 2, 2)
    assert np.array_equal(_panel(volume), [[0, 1, np.nan, 4, 5], [2, 3, np.nan, 6, 7]], equal_nan=True)
    assert _panel(np.zeros((2, 3, 2, 2))).shape == (5, 8)
    assert _panel(np.zeros((2, 5, 5))).shape == (5, 11)
    assert _panel(np.zeros((1, 5, 5))).shape == (5, 5)
