"""The document of `lamina data`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from helpers import shared_data
from lamina.core import registry
from lamina.data import generators
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, Fault, column_spec
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import LoadedColumns, RowLoader
from lamina.data.embedded import digits, iris
from lamina.data.inspection import inspect_data
from lamina.data.loading import load_data

assert generators  # registers its datasets


def labelled(labels: list[int], number: torch.Tensor | None = None, classes: tuple[str, ...] = ("a", "b", "c")) -> Data:
    tensors = {
        "number": torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0)) if number is None else number,
        "label": torch.tensor(labels),
    }
    specs = {
        "number": column_spec("number", tensors["number"]),
        "label": column_spec("label", tensors["label"], classes=classes),
    }
    spec = DataSpec(columns=specs, num_rows={"all": len(labels)})
    return Data(splits={"all": Columns(tensors)}, spec=spec)


def test_digits() -> None:
    document = inspect_data(digits(DataConfig()))
    assert document["splits"]["all"]["rows"] == 1797
    assert document["splits"]["all"]["classes"]["3"] == 183
    assert document["balance"]["largest"] == {"class": "3", "rows": 183}
    image = document["statistics"]["image"]
    assert (image["min"], image["max"], image["height"], image["declared_maximum"]) == (0, 16, 8, 16)
    assert image["mean"][0] == pytest.approx(4.884165, rel=1e-6)
    assert document["leaks"] == []
    assert document["warnings"] == []


def test_iris() -> None:
    document = inspect_data(iris(DataConfig()))
    fields = document["statistics"]["number"]["fields"]
    assert fields[0] == {
        "name": "sepal length (cm)",
        "min": 4.3,
        "max": 7.9,
        "mean": 5.843333,
        "std": 0.8253013,
        "missing": 0,
    }
    assert document["duplicates"]["exact"]["rows"] == 1
    assert document["duplicates"]["exact"]["examples"][0]["rows"] == [101, 142]


@pytest.mark.parametrize("name", [entry.name for entry in registry.entries("dataset")])
def test_every_dataset_gives_plain_json(name: str) -> None:
    document = inspect_data(registry.lookup("dataset", name).target(DataConfig()), near=False)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_unbalanced_and_rare_classes_are_warned_of() -> None:
    document = inspect_data(labelled([0] * 40 + [1] * 4))
    assert document["balance"]["ratio"] == 10.0
    assert document["balance"]["without_rows"] == ["c"]
    text = "\n".join(document["warnings"])
    assert "'a' has 10.0 times the rows of 'b'; always answering it gives an accuracy of 0.909" in text
    assert "fewer than 5 rows can hardly be learned: b." in text


def test_one_class_and_constant_features_are_warned_of() -> None:
    number = torch.stack([torch.arange(9.0), torch.ones(9)], dim=1)
    document = inspect_data(labelled([0] * 9, number, classes=("only",)))
    text = "\n".join(document["warnings"])
    assert "one class only, 'only'" in text
    assert "never change tell nothing: 1." in text


def test_conflicting_labels_are_reported() -> None:
    number = torch.tensor([[1.0], [2.0], [1.0], [2.0], [1.0], [3.0]])
    document = inspect_data(labelled([0, 1, 2, 1, 0, 0], number))
    conflicts = document["duplicates"]["conflicts"]
    assert conflicts["rows"] == 3
    assert conflicts["examples"][0]["rows"] == [0, 2, 4]
    assert conflicts["examples"][0]["labels"] == ["a", "c", "a"]
    assert document["duplicates"]["exact"]["rows"] == 3
    assert any("another label: 3" in warning for warning in document["warnings"])


def test_leaks_across_splits_are_counted_and_warned_of() -> None:
    whole = labelled([0, 1, 0, 1, 0, 1] * 4)
    rows = torch.cat([torch.arange(20), torch.tensor([3])]), torch.tensor([20, 21, 3, 4, 4])
    data = whole.with_splits(
        {name: whole.splits["all"].take(r) for name, r in zip(("train", "test"), rows, strict=True)}
    )
    document = inspect_data(data)
    assert document["leak_counts"] == [{"splits": ["train", "test"], "exact": 2, "near": 0}]
    assert [(leak["rows"], leak["kind"]) for leak in document["leaks"]] == [([3, 2], "exact"), ([4, 3], "exact")]
    assert document["duplicates"]["exact"]["per_split"] == {"train": 1, "test": 1}
    assert any("Rows of test that also stand in train: 2 of 5" in warning for warning in document["warnings"])


def test_missing_values_categories_and_faults(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,c,kind\n1.5,red,x\n,blue,y\n3.5,,x\n2.5,red,y\noops,red,x\n" + "2.5,red,y\n" * 30)
    document = inspect_data(load_data(path, on_fault="skip"))
    assert document["statistics"]["number"]["fields"][0]["missing"] == 1
    category = document["statistics"]["category"]["fields"][0]
    assert category == {"name": "c", "num_values": 2, "missing": 1, "counts": {"red": 32, "blue": 1}}
    assert document["faults"] == [
        {
            "file": str(path),
            "row": 6,
            "column": "a",
            "value": "oops",
            "message": "the value is not a number, as the rest of the column is",
        }
    ]
    assert document["notes"]


def test_faults_are_described() -> None:
    data = labelled([0, 1, 0, 1])
    data.faults.append(Fault("f.csv", "broken", row=3))
    assert inspect_data(data)["faults"][0]["message"] == "broken"


def test_real_images_have_a_planted_leak() -> None:
    data = load_data(shared_data("sign_digits"))
    columns = next(iter(data.splits.values()))
    train, test = columns.take(torch.arange(1400)), columns.take(torch.arange(1395, 1650))
    document = inspect_data(data.with_splits({"train": train, "test": test}))
    assert [leak["rows"] for leak in document["leaks"] if leak["kind"] == "exact"] == [[1395 + i, i] for i in range(5)]
    assert all(leak["labels_agree"] for leak in document["leaks"])


class _Counted(RowLoader):
    """Images that stay in their files; counts how many are read."""

    def __init__(self, num_rows: int) -> None:
        self.shape, self.dtype, self.num_read = (num_rows, 1, 4, 4), torch.uint8, 0

    def load(self, rows: Sequence[int]) -> torch.Tensor:
        self.num_read += len(rows)
        return torch.tensor(rows).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).to(torch.uint8)


def test_training_does_not_read_every_image_for_this() -> None:
    loader = _Counted(3000)
    columns = LoadedColumns({"label": torch.arange(3000) % 2}, loaders={"image": loader})
    specs = {
        "image": ColumnSpec(role="image", dtype="uint8", shape=(1, 4, 4)),
        "label": ColumnSpec(role="label", dtype="int64", classes=("a", "b")),
    }
    data = Data(splits={"train": columns}, spec=DataSpec(columns=specs, num_rows={"train": 3000}))
    document = inspect_data(data, near=False)
    assert loader.num_read == 1024
    assert document["splits"]["train"]["classes"] == {"a": 1500, "b": 1500}
    assert any("stay in their files" in note for note in document["notes"])
    inspect_data(data)
    assert loader.num_read > 4000
