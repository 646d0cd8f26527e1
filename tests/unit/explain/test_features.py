"""The features view: which layers are shown, and what is said of them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from lamina.core.errors import UsageError
from lamina.explain.subjects import subject_of
from lamina.explain.views import show_view
from unit.explain.view_case import bar_subject, pixels


def test_maps_of_each_layer_for_the_chosen_row() -> None:
    subject = bar_subject()
    shown = show_view("features", subject, row=1)
    assert [layer["name"] for layer in shown.document["layers"]] == ["conv", "act", "head"]  # flatten shows nothing new
    assert shown.arrays["conv"].shape == (2, 8, 8)
    assert shown.arrays["conv"].min() < 0
    assert shown.arrays["act"].min() == 0
    assert shown.document["layers"][-1]["units"] == ["vertical", "horizontal"]
    model = subject.model
    np.testing.assert_allclose(shown.arrays["conv"], model.conv(subject.inputs[1:2])[0].detach().numpy(), rtol=1e-5)
    assert pixels(shown.figure).std() > 5


def test_silent_maps_are_counted() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 16, 2))
    nn.init.constant_(model[0].weight, -1.0)
    nn.init.constant_(model[0].bias, -1.0)
    document = show_view("features", subject_of(model, inputs=torch.rand(1, 1, 6, 6))).document
    assert [layer["silent"] for layer in document["layers"]] == [0, 3, 0]
    assert document["layers"][1]["zeros"] == 1.0


def test_layers_by_name_or_evenly_chosen() -> None:
    named = show_view("features", bar_subject(), layers=("act",))
    assert list(named.arrays) == ["act"]
    assert "conv" in named.document["not_shown"]
    few = show_view("features", bar_subject(), most_layers=2)
    assert list(few.arrays) == ["conv", "head"]
    with pytest.raises(UsageError, match="No layer called 'con'") as caught:
        show_view("features", bar_subject(), layers=("con",))
    assert "'conv'" in caught.value.mend
    with pytest.raises(UsageError, match="no input 99; there are 60"):
        show_view("features", bar_subject(), row=99)


def test_it_is_said_which_of_several_inputs_is_shown() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    several = show_view("features", subject_of(model, inputs=torch.zeros(3, 1, 8, 8)), row=1)
    assert (several.document["row"], several.document["num_inputs"]) == (1, 3)
    printed = io.StringIO()
    Console(file=printed, width=120).print(several.renderable)
    assert "input 1 (one of 3; view.row=0 to 2 chooses)" in printed.getvalue()
