"""The saliency view: which output is explained, what is left out, what the document and the picture say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import UsageError
from lamina.data.columns import ColumnSpec, DataSpec
from lamina.explain import saliency
from lamina.explain.drawing import show_map
from lamina.explain.explained import explain_output
from lamina.explain.saliency import METHODS, _row_label
from lamina.explain.subjects import subject_of
from lamina.explain.views import Subject, show_view
from unit.explain.view_case import BarNet, bar_subject, bars, pixels

QUICK = {"steps": 16, "samples": 2}


def test_all_methods_side_by_side() -> None:
    shown = show_view("saliency", bar_subject(), most=3, **QUICK)
    assert tuple(shown.document["methods"]) == METHODS
    assert shown.document["shown"] == "logit of the predicted class"
    assert [row["target"] for row in shown.document["inputs"]] == ["vertical", "horizontal", "vertical"]
    for method in METHODS:
        assert shown.arrays[method].shape == (3, 1, 8, 8)
        assert shown.document["methods"][method]["unit"]
    assert shown.document["methods"]["grad-cam"]["layer"] == "act"
    assert pixels(shown.figure).shape[1] > 600


def test_relevance_lies_on_the_bar() -> None:
    shown = show_view("saliency", bar_subject(), most=2, **QUICK)
    for method in ("integrated-gradients", "grad-cam"):
        vertical = np.abs(shown.arrays[method][0, 0])
        assert vertical[:, 4].mean() > 3 * vertical[:, [0, 1, 6, 7]].mean(), method


def test_the_gap_of_integrated_gradients_is_told_and_small() -> None:
    for row in show_view("saliency", bar_subject(), method="integrated-gradients", steps=64).document["inputs"]:
        found = row["methods"]["integrated-gradients"]
        assert found["sum"] == pytest.approx(found["to_explain"] + found["completeness_gap"], abs=1e-4)
        assert abs(found["completeness_gap"]) < 0.05 * abs(found["to_explain"])


def test_a_named_class_and_probabilities() -> None:
    subject = bar_subject()
    named = show_view("saliency", subject, method="gradient", target="horizontal")
    assert {row["target"] for row in named.document["inputs"]} == {"horizontal"}
    assert named.document["shown"] == "logit of class horizontal"
    numbered = show_view("saliency", subject, method="gradient", target="1")
    np.testing.assert_array_equal(named.arrays["gradient"], numbered.arrays["gradient"])
    both = [
        show_view("saliency", subject, method="gradient", target=name, output="probability").arrays["gradient"]
        for name in ("vertical", "horizontal")
    ]
    np.testing.assert_allclose(both[0], -both[1], atol=1e-6)
    with pytest.raises(UsageError, match="no output called 'horizonal'") as caught:
        show_view("saliency", subject, target="horizonal")
    assert "horizontal" in caught.value.mend


def test_one_output_for_two_classes_has_two_opposite_logits() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    columns = {"label": ColumnSpec(role="label", dtype="int64", classes=("no", "yes"))}
    inputs = torch.rand(2, 1, 2, 2)
    subject = Subject(model, inputs=inputs, spec=DataSpec(columns=columns, num_rows={}))
    weight = model[1].weight.detach().view(1, 2, 2).numpy()
    for target, sign in (("yes", 1), ("no", -1)):
        found = show_view("saliency", subject, method="gradient", target=target).arrays["gradient"]
        np.testing.assert_allclose(found, np.broadcast_to(sign * weight, found.shape), rtol=1e-6)
    explained = explain_output(subject, inputs, target="yes", quantity="probability", view="saliency")
    torch.testing.assert_close(explained.values, model(inputs).sigmoid().squeeze(1).detach())


def test_without_a_convolution_grad_cam_is_left_out_with_the_reason() -> None:
    subject = subject_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), inputs=bars(4)[0])
    shown = show_view("saliency", subject, **QUICK)
    assert shown.document["left_out"] == {"grad-cam": "the model has no convolution"}
    with pytest.raises(UsageError, match="no convolution") as caught:
        show_view("saliency", subject, method="grad-cam")
    assert "layers" in caught.value.accepts


def test_lines_and_volumes() -> None:
    for conv, shape in ((nn.Conv1d, (12,)), (nn.Conv3d, (5, 6, 4))):
        model = nn.Sequential(conv(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
        inputs = torch.rand(2, 2, *shape)
        model(inputs)
        shown = show_view("saliency", subject_of(model, inputs=inputs), **QUICK)
        assert shown.arrays["gradient"].shape == (2, 2, *shape)
        assert shown.arrays["occlusion"].shape == (2, 1, *shape)
        assert pixels(shown.figure).std() > 5


def test_class_names_of_any_kind_are_drawn() -> None:
    images, labels = bars(4)
    names = ("$x_1", "一个非常非常长的类别名称，放不进图片的标题里")
    subject = subject_of(BarNet(), inputs=images, labels=labels, classes=names)
    shown = show_view("saliency", subject, method="gradient")
    assert shown.document["inputs"][0]["target"] == "$x_1"
    assert pixels(shown.figure).std() > 5


def test_inputs_that_have_no_positions_are_refused() -> None:
    class Two(nn.Module):
        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return one + other

    subject = Subject(Two(), inputs=(torch.rand(2, 3), torch.rand(2, 3)))
    with pytest.raises(UsageError, match="no positions"):
        show_view("saliency", subject)
    with pytest.raises(UsageError, match="no row of numbers"):
        show_view("saliency", replace(bar_subject(), model=nn.Identity(), spec=None, task=None))


def test_labels_of_rows_are_short_and_name_the_target_where_it_is_another() -> None:
    row = {"target": "square", "predicted": "square", "logit": 6.8312}
    assert _row_label(row, "logit") == "predicted square\nlogit 6.83"
    assert _row_label({**row, "predicted": "saw"}, "logit") == "predicted saw\nlogit of square 6.83"
    assert _row_label({"target": "price", "prediction": 2.0}, "prediction") == "price\nprediction 2"


def test_maps_without_a_unit_are_drawn_by_their_own_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[float]] = {}

    def show(axes: Any, values: Any, *, scale: float, signed: bool, alpha: Any = None) -> Any:
        drawn.setdefault(f"{scale:.6g}", []).append(float(values.max()))
        return show_map(axes, values, scale=scale, signed=signed, alpha=alpha)

    monkeypatch.setattr(saliency, "show_map", show)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    inputs = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 1.0, 10.0]).view(
        3, 1, 1, 1
    )
    assert show_view("saliency", subject_of(model, inputs=inputs), method="grad-cam").figure
    assert all(value in (0.0, 1.0) for value in drawn["1"])
    assert sum(value == 1.0 for value in drawn["1"]) >= 1
