"""The receptive-field view: arithmetic and measurement agree where they must."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lamina.core.errors import UsageError
from lamina.explain.subjects import subject_of
from lamina.explain.views import Subject, show_view
from lamina.models.factory import create_model
from unit.explain.view_case import pixels


def test_what_is_measured_lies_inside_what_can_be_seen() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten()
    )
    subject = subject_of(model, inputs=torch.randn(4, 3, 31, 33))
    shown = show_view("receptive-field", subject)
    assert [layer["name"] for layer in shown.document["layers"]] == ["0", "2", "4"]
    assert [layer["theoretical"] for layer in shown.document["layers"]] == [[3, 3], [7, 7], [9, 9]]
    for layer in shown.document["layers"]:
        rows, columns = np.nonzero(shown.arrays[layer["name"]])
        (top, bottom), (left, right) = layer["box"]
        assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (top, bottom, left, right)
        assert 0 < layer["effective"] <= layer["theoretical"][0]
    assert shown.document["inputs"] == "as given"
    assert pixels(shown.figure).std() > 5


def test_deep_stacks_see_less_than_they_can() -> None:
    """The effective field grows with the root of the depth, the other with the depth (Luo et al. 2016)."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Conv2d(4 if i else 1, 4, 3, padding=1) for i in range(12)))
    subject = subject_of(model, inputs=torch.randn(2, 1, 41, 41))
    layer = show_view("receptive-field", subject, layers=("11",)).document["layers"][0]
    assert layer["theoretical"] == [25, 25]
    assert layer["effective"] < 20
    assert layer["share"] < 0.7


def test_without_an_input_noise_is_used_and_said() -> None:
    shown = show_view("receptive-field", Subject(create_model("lenet5", seed=0)), draws=4)
    assert shown.document["inputs"] == "noise"
    assert shown.arrays["conv2"].shape == (28, 28)
    again = show_view("receptive-field", Subject(create_model("lenet5", seed=0)), draws=4)
    assert np.array_equal(shown.arrays["conv2"], again.arrays["conv2"])


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="has no maps") as caught:
        show_view("receptive-field", subject_of(create_model("mlp"), inputs=torch.rand(1, 1, 28, 28)))
    assert "layers" in caught.value.accepts
    with pytest.raises(UsageError, match="No layer called 'conv9'") as caught:
        show_view("receptive-field", Subject(create_model("lenet5")), layers=("conv9",))
    assert "conv" in caught.value.mend
