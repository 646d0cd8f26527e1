"""Data frames and columns in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lamina.core.errors import DataError, DtypeError
from lamina.data.loading import load_data
from lamina.data.tables import table_from_columns

FRAME = pd.DataFrame(
    {
        "age": [20, 30, None, 50],
        "town": pd.Categorical(["Rome", "Oslo", None, "Rome"]),
        "member": [True, False, True, True],
        "joined": pd.Series([1, 2, pd.NA, 4], dtype="Int64"),
        "label": ["yes", "no", "no", "yes"],
    }
)


def test_a_frame_is_a_table() -> None:
    data = load_data(FRAME)
    columns = data.splits["all"]
    assert columns["number"][:, 0].tolist()[:2] == [20, 30]
    assert columns["number"].isnan().tolist() == [[False, False], [False, False], [True, True], [False, False]]
    assert columns["category"].tolist() == [[1, 1], [0, 0], [-1, 1], [1, 1]]
    assert columns["label"].tolist() == [1, 0, 0, 1]
    assert data.spec.classes == ("no", "yes")
    assert [field.name for field in data.spec.columns["category"].fields] == ["town", "member"]
    assert data.reader == "frame"
    assert data.fingerprint


def test_frame_and_target_apart() -> None:
    target = pd.Series([1.5, 2.5, 3.5, 4.5], name="age")
    data = load_data((FRAME[["age", "joined"]], target))
    assert data.splits["all"]["target"].flatten().tolist() == [1.5, 2.5, 3.5, 4.5]
    assert data.spec.columns["target"].fields[0].name == "age (target)"
    assert "label" in load_data((FRAME[["age", "joined"]], np.array(["a", "b", "a", "b"]))).spec.columns
    assert set(load_data((FRAME[["age"]], None)).spec.columns) == {"number"}


def test_splits_of_frames() -> None:
    data = load_data({"train": FRAME, "dev": FRAME.iloc[1:3]})
    assert data.spec.num_rows == {"train": 4, "valid": 2}
    with pytest.raises(DataError, match="understood as 'valid'"):
        load_data({"val": FRAME, "dev": FRAME})
    with pytest.raises(DtypeError, match="Some splits"):
        load_data({"train": FRAME, "test": (FRAME, FRAME["label"])})


def test_a_frame_of_pixels_makes_images() -> None:
    pixels = np.arange(3 * 64).reshape(3, 64) % 256
    frame = pd.DataFrame(pixels, columns=[f"pixel{i + 1}" for i in range(64)])
    frame.insert(0, "label", [3, 5, 3])
    data = load_data(frame)
    assert data.splits["all"]["image"].shape == (3, 1, 8, 8)
    assert data.splits["all"]["image"].dtype == torch.uint8
    assert data.splits["all"]["image"].flatten().tolist() == pixels.flatten().tolist()
    assert data.spec.classes == ("3", "5")
    frame.columns = ["label", *map(str, range(64))]
    assert load_data(frame, shape=(16, 4)).splits["all"]["image"].shape == (3, 1, 16, 4)
    with pytest.raises(DataError, match="categories"):
        load_data(FRAME, shape=(2, 1))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("a", [1]), ("a", [2])], "Two columns are called 'a'"),
        ([("a", [1, 2]), ("b", [1])], "different lengths"),
        ([("a", np.zeros((2, 2)))], "shaped"),
        ([("a", [1.0, np.inf])], "infinite"),
        ([("a", [{"x": 1}, "b"])], "is a dict"),
    ],
)
def test_columns_that_cannot_be_used(columns: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        table_from_columns(columns)


def test_dates_are_text_and_mixed_objects_too() -> None:
    table = table_from_columns({"when": np.array(["2020-01-01", "NaT"], dtype="datetime64[D]"), "mixed": ["a", 1]})
    assert table["when"].values == ("2020-01-01",)
    assert table["when"].missing.tolist() == [False, True]
    assert table["mixed"].values == ("a", "1")


def test_a_target_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="4 rows, the target 3"):
        load_data((FRAME[["age"]], [1, 2, 3]))
