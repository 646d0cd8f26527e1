"""The worst mistakes are found, in order, and can be shown without the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from lamina.data.columns import Columns, DataSpec, FieldSpec, column_spec
from lamina.data.preprocessing import Preprocessing
from lamina.explain.report_network import wrong_section
from lamina.tasks.image_classification import ImageClassification
from lamina.tasks.mistakes import find_mistakes, write_mistakes
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.tabular_regression import TabularRegression


class Fixed(nn.Module):
    """Gives the outputs that it was built with, row by row."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, inputs: Tensor) -> Tensor:
        return self.outputs[: len(inputs)]


LOGITS = torch.tensor([[3.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.0, 2.0], [0.0, 9.0]])


def images(labels: list[int], *, maximum: float | None = None, size: int = 2) -> tuple[Columns, DataSpec]:
    count = len(labels)
    pixels = (torch.arange(count * size * size) % 17).to(torch.uint8).view(count, 1, size, size)
    tensors = {"image": pixels, "label": torch.tensor(labels)}
    specs = {
        "image": column_spec("image", pixels, maximum=maximum),
        "label": column_spec("label", tensors["label"], classes=("cat", "dog")),
    }
    spec = DataSpec(columns=specs, num_rows={"test": count})
    return Columns(tensors, origin=[f"photo {i}.png" for i in range(count)]), spec


def pipeline(columns: Columns, spec: DataSpec, outputs: Tensor, task: type[Any]) -> Pipeline:
    preprocessing = Preprocessing.fit(None, columns, spec)
    return Pipeline(Fixed(outputs), task(task.Config(), spec), preprocessing)


def test_the_surest_mistakes_come_first() -> None:
    columns, spec = images([1, 0, 0, 1, 0])  # rows 0, 1 and 4 are wrong
    found = find_mistakes(pipeline(columns, spec, LOGITS, ImageClassification), columns)
    assert [item["row"] for item in found.items] == [4, 0, 1]
    assert found.items[0]["true"] == "cat"
    assert found.items[0]["predicted"] == "dog"
    assert found.items[0]["origin"] == "photo 4.png"
    assert found.items[0]["probability"] == pytest.approx(1 / (1 + np.exp(-9)))
    assert found.images is not None
    assert torch.equal(found.images, columns["image"][[4, 0, 1]])


def test_only_so_many_are_kept_and_none_is_possible() -> None:
    columns, spec = images([1, 0, 0, 1, 0])
    assert len(find_mistakes(pipeline(columns, spec, LOGITS, ImageClassification), columns, most=1).items) == 1
    right, spec = images([0, 1, 0, 1, 1])
    none = find_mistakes(pipeline(right, spec, LOGITS, ImageClassification), right)
    assert none.items == []
    assert none.images is None


def test_pictures_use_the_whole_range_and_stay_small() -> None:
    columns, spec = images([1, 0, 0, 1, 0], maximum=16.0)
    found = find_mistakes(pipeline(columns, spec, LOGITS, ImageClassification), columns)
    assert found.images is not None
    assert int(found.images.max()) == 255 * int(columns["image"][[4, 0, 1]].max()) // 16
    large, spec = images([1, 0, 0, 1, 0], size=200)
    small = find_mistakes(pipeline(large, spec, LOGITS, ImageClassification), large).images
    assert small is not None
    assert max(small.shape[2:]) == 128


def test_the_largest_errors_of_numbers_come_first() -> None:
    number, target = torch.zeros(3, 1), torch.tensor([[1.0, 100.0], [2.0, 200.0], [3.0, 300.0]])
    specs = {
        "number": column_spec("number", number, fields=(FieldSpec(name="rooms"),)),
        "target": column_spec("target", target, fields=(FieldSpec(name="a"), FieldSpec(name="b"))),
    }
    columns, spec = Columns({"number": number, "target": target}), DataSpec(columns=specs, num_rows={"test": 3})
    outputs = target + torch.tensor([[0.0, 1.0], [0.5, 0.0], [0.0, 0.0]])
    found = find_mistakes(pipeline(columns, spec, outputs, TabularRegression), columns, most=2)
    assert [item["row"] for item in found.items] == [1, 0], "half a unit of a is more than one of b"
    assert found.items[0]["error"] == pytest.approx(0.5 / np.std([1, 2, 3]))
    assert found.items[0]["true"] == [2.0, 200.0]
    assert found.images is None


def test_what_is_written_is_what_the_report_reads(tmp_path: Path) -> None:
    columns, spec = images([1, 0, 0, 1, 0])
    found = find_mistakes(pipeline(columns, spec, LOGITS, ImageClassification), columns)
    write_mistakes(tmp_path, found, split="test")
    assert np.array_equal(load_file(tmp_path / "examples.safetensors")["image"], found.images)
    section = wrong_section(tmp_path)
    assert section is not None
    assert [picture["origin"] for picture in section["pictures"]] == ["photo 4.png", "photo 0.png", "photo 1.png"]
    assert section["caption"].startswith("Rows of the test split")
