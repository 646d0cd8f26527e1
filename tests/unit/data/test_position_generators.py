"""Made-up signals and volumes: shapes, classes, and that they are the same for all time."""

from __future__ import annotations

import pytest
import torch

from lamina.data.config import DataConfig
from lamina.data.loading import load_data
from lamina.data.position_generators import SignalsConfig, VolumesConfig, signals, volumes


def test_signals() -> None:
    data = load_data("signals")
    columns = data.splits["all"]
    assert columns["signal"].shape == (1200, 1, 128)
    assert data.spec.classes == ("sine", "square", "saw", "chirp")
    assert torch.bincount(columns["label"]).tolist() == [300] * 4
    clean = signals(DataConfig(), SignalsConfig(num_rows=40, noise=0)).splits["all"]
    values, labels = clean["signal"][:, 0], clean["label"]
    loud = values.abs().amax(1)
    assert bool(((loud > 0.5) & (loud <= 1.0)).all())
    square = values[labels == 1]
    torch.testing.assert_close(square.abs(), square.abs().amax(1, keepdim=True).expand_as(square))
    # A saw rises by the same amount at each step but where it falls back.
    steps = values[labels == 2].diff(dim=1)
    assert bool((steps.median(dim=1).values > 0).all())
    crossings = (values[labels == 3].sign().diff(dim=1) != 0).float()
    assert float(crossings[:, 64:].sum()) > 1.5 * float(crossings[:, :64].sum())


def test_volumes() -> None:
    data = load_data("volumes")
    columns = data.splits["all"]
    assert columns["volume"].shape == (600, 1, 16, 16, 16)
    assert columns["volume"].dtype == torch.uint8
    assert data.spec.classes == ("ball", "cube", "cross")
    clean = volumes(DataConfig(), VolumesConfig(num_rows=60, noise=0, size=24)).splits["all"]
    solid = clean["volume"][:, 0].float()
    ground = solid.amin((1, 2, 3), keepdim=True)
    inside = (solid > (ground + solid.amax((1, 2, 3), keepdim=True)) / 2).float()
    for label, low, high in ((0, 0.45, 0.58), (1, 0.9, 1.0), (2, 0.15, 0.35)):
        for cells in inside[clean["label"] == label]:
            extent = [int(cells.amax(dims).sum()) for dims in ((1, 2), (0, 2), (0, 1))]
            assert max(extent) - min(extent) <= 1, "it reaches equally far along each axis"
            share = float(cells.sum()) / (extent[0] * extent[1] * extent[2])
            assert low < share <= high, label


@pytest.mark.parametrize(("make", "options"), [(signals, SignalsConfig), (volumes, VolumesConfig)])
def test_a_longer_set_begins_with_the_shorter_one(make, options) -> None:
    column = "signal" if make is signals else "volume"
    short = make(DataConfig(), options(num_rows=12)).splits["all"]
    longer = make(DataConfig(), options(num_rows=20)).splits["all"]
    assert torch.equal(short[column], longer[column][:12])
    other = make(DataConfig(), options(num_rows=12, seed=1)).splits["all"]
    assert not torch.equal(short[column], other[column])
