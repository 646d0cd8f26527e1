"""Numbers predicted of signals: what is accepted, what refused, and that predictions are in the target's own units."""

from __future__ import annotations

import pytest
import torch

from lamina.core.errors import DataError, ShapeError
from lamina.data.columns import Columns, DataSpec, FieldSpec, column_spec
from lamina.models.factory import create_model
from lamina.tasks.base import Context
from lamina.tasks.tabular_regression import RegressionConfig
from lamina.tasks.time_series_regression import TimeSeriesRegression


def spec(name: str = "signal") -> DataSpec:
    tensor = torch.zeros(4, 2, 9) if name == "signal" else torch.zeros(4, 3)
    fields = () if name == "signal" else tuple(FieldSpec(name=f"x{i}") for i in range(3))
    target = column_spec("target", torch.zeros(4, 1), fields=(FieldSpec(name="level"),), mean=(50.0,), std=(10.0,))
    role = "series" if name == "signal" else "number"
    return DataSpec(columns={name: column_spec(role, tensor, fields=fields), "target": target}, num_rows={"train": 4})


def test_predictions_are_in_the_targets_units() -> None:
    task = TimeSeriesRegression(RegressionConfig(), spec())
    model = create_model("gru", spec=spec(), seed=0)
    assert (model.in_channels, model.num_classes) == (2, 1)
    task.check(spec(), model)
    task.check_columns(Columns({"signal": torch.zeros(4, 2, 9), "target": torch.ones(4, 1)}))
    batch = {"signal": torch.rand(4, 2, 9), "target": torch.tensor([[40.0], [50.0], [60.0], [70.0]])}
    outputs = task.forward(model, batch, Context())
    torch.testing.assert_close(outputs["prediction"], model(batch["signal"]) * 10 + 50)
    (update,) = task.updates(model)
    losses, _ = update.loss(batch, Context(), {})
    wanted = (model(batch["signal"]) - torch.tensor([[-1.0], [0.0], [1.0], [2.0]])).square().mean()
    torch.testing.assert_close(losses.total(), wanted)
    assert set(task.decode(outputs)[0]) == {"value"}


def test_refusals() -> None:
    task = TimeSeriesRegression(RegressionConfig(), spec())
    with pytest.raises(ShapeError, match="3 outputs; the data has 1 target"):
        task.check(spec(), create_model("gru", in_channels=2, num_classes=3))
    with pytest.raises(DataError, match="features, target, no signals") as caught:
        task.check(spec("features"), create_model("mlp", in_features=3, num_classes=1))
    assert "tabular-regression" in caught.value.mend
