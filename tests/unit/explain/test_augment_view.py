"""View `augment`: originals and draws, as a picture, numbers and a document."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from lamina.core import draws
from lamina.core.errors import UsageError
from lamina.data.augmentation import Augmentation
from lamina.data.loading import load_data
from lamina.data.preprocessing import Preprocessing
from lamina.explain.views import Subject, ViewResult, show_view

DATA = load_data("digits")


def shown(steps: list[dict[str, Any]], **options: Any) -> ViewResult:
    columns = DATA.splits["all"]
    subject = Subject(
        nn.Identity(),
        name="digits",
        preprocessing=Preprocessing.fit([{"name": "scale"}], columns, DATA.spec),
        columns=columns,
        augmentation=Augmentation(steps, DATA.spec, columns=columns),
    )
    return show_view("augment", subject, **options)


def test_it_shows_originals_of_different_classes_and_the_trainings_draws() -> None:
    result = shown([{"name": "rotate"}, {"name": "noise"}], images=4, draws=3, seed=5)
    assert [image["label"] for image in result.document["images"]] == ["0", "1", "2", "3"]
    assert result.document["epochs"] == [0, 1, 2]
    rows = torch.tensor([image["row"] for image in result.document["images"]])
    columns = DATA.splits["all"]
    wanted = Augmentation([{"name": "rotate"}, {"name": "noise"}], DATA.spec)(
        columns.batch(rows), draws.stream_key(5, "augment", 2)
    )
    assert torch.equal(torch.from_numpy(result.arrays["draws"])[:, 2], wanted["image"])
    assert torch.equal(torch.from_numpy(result.arrays["originals"]), columns["image"][rows])
    assert result.figure is not None
    width, height = Image.open(io.BytesIO(result.figure)).size
    assert width > 400
    assert height > 400


def test_mixed_images_say_of_what() -> None:
    result = shown([{"name": "mixup", "alpha": 4}], images=3, draws=2)
    first = result.document["draws"][0]
    assert len(first["label_other"]) == 3
    assert all(0 < mix < 1 for mix in first["mix"])


def test_flips_that_change_classes_are_said() -> None:
    result = shown([{"name": "flip_vertical"}], images=2, draws=1)
    assert result.document["flips"][0]["verdict"] == "changes"
    assert "flip_vertical" in result.document["warnings"][0]


def test_more_images_than_rows_or_classes() -> None:
    result = shown([{"name": "crop", "padding": 1}], images=12, draws=1)
    labels = [image["label"] for image in result.document["images"]]
    assert labels[:10] == [str(digit) for digit in range(10)]
    assert len(labels) == 12


def test_a_model_without_data_or_augmentation_is_refused() -> None:
    with pytest.raises(UsageError, match="no training images"):
        show_view("augment", Subject(nn.Identity(), name="net"))
    with pytest.raises(UsageError, match="augments nothing"):
        shown([])
