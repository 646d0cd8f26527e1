"""The mistakes view finds planted faults and says how far it can be trusted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lamina.core.errors import UsageError
from lamina.data.columns import Columns
from lamina.explain.confident_learning import doubt_labels
from lamina.explain.subjects import subject_of
from lamina.explain.views import Subject, show_view
from lamina.models.factory import create_model
from unit.explain.view_case import BarNet, bar_subject, bars, pixels

PLANTED = [3, 17, 40]


def with_planted() -> Subject:
    images, labels = bars()
    labels[PLANTED] = 1 - labels[PLANTED]
    return subject_of(BarNet(), inputs=images, labels=labels, classes=("vertical", "horizontal"), split="test")


def test_planted_wrong_labels_are_found() -> None:
    shown = show_view("mistakes", with_planted())
    document = shown.document
    assert sorted(item["row"] for item in document["label_doubts"]) == PLANTED
    assert sorted(item["row"] for item in document["wrong"]) == PLANTED
    assert document["num_wrong"] == document["num_label_doubts"] == 3
    sureness = [item["probability"] for item in document["wrong"]]
    assert sureness == sorted(sureness, reverse=True)
    assert len(set(sureness)) == 3
    assert document["accuracy"] == pytest.approx(57 / 60)
    for item in document["label_doubts"]:
        assert item["suggested"] == item["predicted"] != item["true"]
        assert item["margin"] < 0
    assert pixels(shown.figure).std() > 5


def test_unsure_rows_come_first_by_their_margin() -> None:
    images, labels = bars(20)
    images[6] = 0.0  # nothing to decide by: both logits are 0
    subject = subject_of(BarNet(), inputs=images, labels=labels)
    first = show_view("mistakes", subject, most=1).document["unsure"][0]
    assert (first["row"], first["probability"]) == (6, pytest.approx(0.5))


def test_rows_that_were_trained_on_are_said_to_mean_little() -> None:
    assert show_view("mistakes", bar_subject()).document["out_of_sample"]
    document = show_view("mistakes", replace(bar_subject(), split="train")).document
    assert not document["out_of_sample"]
    assert "trained on these rows" in document["means"]


def test_tables_are_listed_without_a_picture() -> None:
    rows, labels = torch.rand(20, 4), torch.arange(20) % 3
    shown = show_view(
        "mistakes", subject_of(create_model("mlp", in_features=4, num_classes=3), inputs=rows, labels=labels)
    )
    assert shown.figure is None
    assert len(shown.document["unsure"]) == 16


def test_origins_are_named_and_labels_are_needed() -> None:
    subject = with_planted()
    assert subject.columns is not None
    tensors = {name: subject.columns[name] for name in subject.columns}
    named = Columns(tensors, origin=[f"bars/{row}.png" for row in range(60)])
    document = show_view("mistakes", replace(subject, columns=named)).document
    assert {item["origin"] for item in document["wrong"]} == {f"bars/{row}.png" for row in PLANTED}
    with pytest.raises(UsageError, match="no labels"):
        show_view("mistakes", replace(subject, columns=Columns({"image": tensors["image"]})))


def test_a_class_without_rows_is_never_suggested() -> None:
    probs = torch.tensor([[0.2, 0.1, 0.7], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    found = doubt_labels(probs, torch.tensor([0, 0, 1]))
    assert found.thresholds.isnan().tolist() == [False, False, True]
    assert not found.rows.tolist()
