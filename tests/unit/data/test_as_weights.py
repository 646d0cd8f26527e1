"""The step that the weights fill."""

from __future__ import annotations

import torch

from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.preprocess.as_weights import filled
from lamina.data.preprocessing import Preprocessing

WANTED = ({"name": "scale"}, {"name": "normalise", "mean": [0.5], "std": [0.25]})


def test_the_sources_steps_stand_in_its_place() -> None:
    steps = ({"name": "resize", "size": [4, 4]}, {"name": "as-weights", "low": -1.0}, {"name": "flatten"})
    assert filled(steps, WANTED) == (steps[0], *WANTED, steps[2])


def test_nothing_changes_without_the_step_or_where_the_source_is_silent() -> None:
    assert filled(({"name": "scale"},), WANTED) is None
    assert filled(({"name": "as-weights"},), None) is None


def test_alone_it_scales() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    spec = DataSpec(columns={"image": ColumnSpec(role="image", dtype="uint8", shape=(1, 16, 16))}, num_rows={})
    columns = Columns({"image": images})
    ours = Preprocessing.fit([{"name": "as-weights", "low": -1.0, "high": 1.0}], columns, spec)
    scaled = Preprocessing.fit([{"name": "scale", "low": -1.0, "high": 1.0}], columns, spec)
    assert torch.equal(ours({"image": images})["image"], scaled({"image": images})["image"])
