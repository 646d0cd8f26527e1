"""Activation maximisation: the score rises, pictures stay in bounds, and draws are keyed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lamina as lm
from lamina.core.errors import UsageError
from lamina.data.preprocessing import Preprocessing
from lamina.explain.maximisation import pixel_bounds
from lamina.explain.subjects import subject_of
from lamina.explain.views import Subject, show_view
from unit.explain.view_case import bar_subject, pixels


def test_every_logit_rises() -> None:
    shown = show_view("activation-maximisation", bar_subject(), steps=40)
    assert [unit["name"] for unit in shown.document["units"]] == ["vertical", "horizontal"]
    assert all(unit["end"] > unit["start"] + 0.5 for unit in shown.document["units"])
    assert shown.arrays["pictures"].shape == (2, 1, 8, 8)
    assert pixels(shown.figure).std() > 5


def test_of_a_linear_model_without_penalties_the_picture_is_its_template() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    subject = subject_of(model, inputs=torch.rand(1, 1, 6, 6))
    options = {"steps": 60, "decay": 0.0, "smoothness": 0.0, "jitter": 0, "octaves": 1}
    pictures = show_view("activation-maximisation", subject, **options).arrays["pictures"]
    for unit in range(2):
        likeness = np.corrcoef(pictures[unit].ravel(), model[1].weight[unit].detach().numpy())[0, 1]
        assert likeness > 0.95


def test_pictures_are_keyed_by_the_seed() -> None:
    def pictures(**options: int) -> np.ndarray:
        return show_view("activation-maximisation", bar_subject(), steps=6, **options).arrays["pictures"]

    assert np.array_equal(pictures(), pictures())
    assert not np.array_equal(pictures(), pictures(seed=1))
    assert not np.array_equal(pictures(octaves=1), pictures(octaves=3))
    assert not np.array_equal(pictures(jitter=0), pictures(jitter=2))


def test_smoothness_makes_smoother_pictures() -> None:
    def roughness(weight: float) -> float:
        options = {"steps": 40, "smoothness": weight, "octaves": 1}
        pictures = show_view("activation-maximisation", bar_subject(), **options).arrays["pictures"]
        return float(np.abs(np.diff(pictures, axis=-1)).mean() + np.abs(np.diff(pictures, axis=-2)).mean())

    assert roughness(2.0) < roughness(0.0)


def test_pixels_stay_in_the_range_of_the_data() -> None:
    data = lm.load_data("digits")
    rows = data.splits["all"].take(torch.arange(50))
    preprocessing = Preprocessing.fit(["scale", {"name": "standardise", "per": "channel"}], rows, data.spec)
    model = lm.create_model("cnn", preprocessing.spec, blocks=[{"channels": 2}])
    subject = Subject(model, spec=preprocessing.spec, preprocessing=preprocessing)
    bounds = pixel_bounds(subject, (1, 8, 8))
    assert bounds.known
    black, white = (preprocessing({"image": torch.full((1, 1, 8, 8), value)})["image"] for value in (0.0, 16.0))
    torch.testing.assert_close(bounds.low, black[0])
    torch.testing.assert_close(bounds.high, white[0])
    shown = show_view("activation-maximisation", subject, steps=30, most=2, step_size=0.3)
    assert shown.document["bounded"]
    assert shown.arrays["pictures"].min() >= float(bounds.low.min()) - 1e-6
    assert shown.arrays["pictures"].max() <= float(bounds.high.max()) + 1e-6


def test_maps_and_units_of_a_layer() -> None:
    shown = show_view("activation-maximisation", bar_subject(), layer="conv", units=(1,), steps=20)
    assert shown.document["quantity"] == "mean of the map"
    assert shown.document["units"][0]["name"] == "conv 1"
    assert shown.document["units"][0]["end"] > shown.document["units"][0]["start"]
    with pytest.raises(UsageError, match="no unit 7"):
        show_view("activation-maximisation", bar_subject(), layer="conv", units=(7,))
    with pytest.raises(UsageError, match="No layer called 'cnov'") as caught:
        show_view("activation-maximisation", bar_subject(), layer="cnov")
    assert "conv" in caught.value.mend
