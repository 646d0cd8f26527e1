"""The step `normalise`: stated means and deviations, the same after saving, refused where they do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lamina.core.errors import ConfigError
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.preprocessing import Preprocessing

SPEC = DataSpec(columns={"image": ColumnSpec(role="image", dtype="uint8", shape=(3, 2, 2))}, num_rows={"train": 1})
ROWS = Columns(
    {"image": torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))}
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def fitted(**options: Any) -> Preprocessing:
    return Preprocessing.fit([{"name": "scale"}, {"name": "normalise", **options}], ROWS, SPEC)


def test_stated_numbers_are_used_per_channel() -> None:
    preprocessing = fitted(mean=MEAN, std=STD)
    images = ROWS["image"].double() / 255
    wanted = (images - torch.tensor(MEAN).double().view(3, 1, 1)) / torch.tensor(STD).double().view(3, 1, 1)
    found = preprocessing({"image": ROWS["image"]})["image"]
    torch.testing.assert_close(found, wanted.float(), atol=1e-6, rtol=1e-6)
    again = Preprocessing.restore(preprocessing.describe(), preprocessing.tensors(), SPEC)
    assert torch.equal(again({"image": ROWS["image"]})["image"], found)


def test_one_number_serves_all_channels() -> None:
    one, three = fitted(mean=[0.5], std=[0.25]), fitted(mean=[0.5] * 3, std=[0.25] * 3)
    assert torch.equal(one({"image": ROWS["image"]})["image"], three({"image": ROWS["image"]})["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": [0.5, 0.5], "std": [1.0]}, "mean has 2 numbers; the images have 3 channels"),
        ({"mean": [0.5], "std": [1.0] * 4}, "std has 4 numbers"),
        ({"mean": [0.5], "std": [0.0]}, r"std is \[0\.0\]"),
        ({"mean": [0.5]}, "std is missing"),
        ({"mean": [], "std": [1.0]}, "mean"),
    ],
)
def test_numbers_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(**options)


def test_tables_have_no_channels() -> None:
    number = ColumnSpec(role="number", dtype="float32", shape=(2,))
    spec = DataSpec(columns={"number": number}, num_rows={"train": 2})
    with pytest.raises(ConfigError, match="Rows of features have no channels"):
        Preprocessing.fit(
            [{"name": "normalise", "mean": [0.0], "std": [1.0]}], Columns({"number": torch.zeros(2, 2)}), spec
        )
