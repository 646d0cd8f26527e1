"""The task of forecasting: targets, scales, intervals, what it refuses, and what a prediction holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError, DataError, ShapeError, UnknownNameError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec
from lamina.data.config import DataConfig
from lamina.data.loading import load_data
from lamina.data.preprocessing import Preprocessing
from lamina.data.splits import split_data
from lamina.models.factory import create_model
from lamina.tasks.base import Context, DirectUpdate, GradientUpdate
from lamina.tasks.bundle import Bundle, load_bundle
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.time_series_forecasting import ForecastingConfig, TimeSeriesForecasting
from series_case import write_hours


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    path = write_hours(tmp_path_factory.mktemp("series"), rows=200, width=3)
    config = DataConfig(past_length=24, horizon=6, test_fraction=0.2)
    return split_data(load_data(path, config=config), config, seed=0)


def pieces(data: Data, model: str = "dlinear", *, options: dict[str, Any] | None = None, **config: Any) -> Pipeline:
    preprocessing = Preprocessing.fit((), data.splits["train"], data.spec)
    task = TimeSeriesForecasting(ForecastingConfig(**config), preprocessing.spec)
    return Pipeline(create_model(model, preprocessing.spec, seed=0, **(options or {})), task, preprocessing)


def batch_of(pipeline: Pipeline, data: Data, rows: int = 5) -> dict[str, Tensor]:
    return pipeline.preprocessing(data.splits["valid"].batch(torch.arange(rows)))


def test_forecasts_are_in_the_series_own_units(data: Data) -> None:
    pipeline = pieces(data)
    batch = batch_of(pipeline, data)
    outputs = pipeline.task.forward(pipeline.model, batch, Context())
    column = data.spec.columns["past"]
    expected = pipeline.model(batch["past"]) * torch.tensor(column.std) + torch.tensor(column.mean)
    torch.testing.assert_close(outputs["forecast"], expected)
    assert outputs["forecast"].shape == (5, 6, 3)
    assert torch.equal(outputs["time"], data.splits["valid"].batch(torch.arange(5))["future_time"])


def test_one_target_is_chosen_and_all_series_are_read(data: Data) -> None:
    pipeline = pieces(data, "lstm_forecaster", targets=("b",), options={"hidden_size": 4})
    outputs = pipeline.outputs(data.splits["valid"])
    assert outputs["forecast"].shape == (data.splits["valid"].num_rows, 6, 1)
    details = pipeline.evaluate(data.splits["valid"]).details
    assert details["targets"] == ["b"]
    assert [row["step"] for row in details["per_step"]] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(UnknownNameError, match="'bb'") as caught:
        pieces(data, targets=("bb",))
    assert "task.targets" in caught.value.where


@pytest.mark.parametrize("scale", ["original", "standardised"])
def test_metrics_follow_the_scale(data: Data, scale: Any) -> None:
    found = pieces(data, scale=scale).evaluate(data.splits["test"]).metrics
    other = "standardised" if scale == "original" else "original"
    plain = pieces(data, scale=other).evaluate(data.splits["test"]).metrics
    assert found["mse"] == pytest.approx(plain[f"mse_{scale}"])
    assert found[f"rmse_{other}"] == pytest.approx(plain["rmse"])
    assert found["mase"] == pytest.approx(plain["mase"])
    assert "coverage" not in found, "there are no intervals yet"


def test_the_loss_is_that_of_scaled_forecasts(data: Data) -> None:
    for name, function in (
        ("mse", nn.functional.mse_loss),
        ("mae", nn.functional.l1_loss),
        ("huber", nn.functional.huber_loss),
    ):
        pipeline = pieces(data, loss={"name": name})
        update = pipeline.task.updates(pipeline.model)[0]
        assert isinstance(update, GradientUpdate)
        batch = batch_of(pipeline, data)
        losses, _ = update.loss(batch, Context(), {})
        torch.testing.assert_close(losses.total(), function(pipeline.model(batch["past"]), batch["future"]))


# --- intervals ---------------------------------------------------------------------------------------------------------


def test_conformal_intervals_hold_what_they_promise_where_they_were_chosen(data: Data) -> None:
    pipeline = pieces(data, coverage=0.8)
    assert pipeline.task.chooses_thresholds
    valid = data.splits["valid"]
    widths = pipeline.choose_thresholds(valid)
    assert len(widths) == 3 * 6
    outputs = pipeline.outputs(valid)
    errors = (outputs["forecast"] - valid["future"]).abs().double()
    count = valid.num_rows
    rank = -int(-(count + 1) * 0.8 // 1)  # rounded up
    for number, name in enumerate("abc"):
        for step in range(6):
            assert widths[f"{name}/{step + 1}"] == pytest.approx(
                float(errors[:, step, number].sort().values[rank - 1]), rel=1e-3
            )
    inside = ((outputs["lower"] <= valid["future"]) & (valid["future"] <= outputs["upper"])).double().mean(0)
    assert float(inside.min()) >= 0.8 - 1e-9
    assert pipeline.evaluate(valid).metrics["coverage"] == pytest.approx(float(inside.mean()), abs=1e-3)


def test_intervals_travel_in_the_bundle(data: Data, tmp_path: Path) -> None:
    pipeline = pieces(data)
    pipeline.choose_thresholds(data.splits["valid"])
    bundle = Bundle.from_pipeline(pipeline, examples=data.splits["valid"].take(torch.arange(4)))
    bundle.save(tmp_path / "series.bundle")
    again = load_bundle(tmp_path / "series.bundle")
    assert again.golden_holds()
    outputs, expected = (p.outputs(data.splits["test"]) for p in (again.pipeline, pipeline))
    for name in ("forecast", "lower", "upper", "time"):
        assert torch.equal(outputs[name], expected[name]), name
    assert again.labels == ("a", "b", "c")


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.pop("a/1"),
        lambda w: w.update({"d/1": 1.0}),
        lambda w: w.update({"a/1": -1.0}),
        lambda w: w.update({"a/1": float("inf")}),
    ],
)
def test_intervals_that_do_not_fit_are_refused(data: Data, change: Any) -> None:
    pipeline = pieces(data)
    widths = pipeline.choose_thresholds(data.splits["valid"])
    change(widths)
    with pytest.raises(ConfigError, match="intervals do not fit"):
        pieces(data).task.thresholds_from(widths)


def test_quantiles_are_learned_and_put_in_order(data: Data) -> None:
    pipeline = pieces(data, interval="quantile", options={"num_quantiles": 3})
    assert not pipeline.task.chooses_thresholds
    pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)
    batch = batch_of(pipeline, data)
    outputs = pipeline.task.forward(pipeline.model, batch, Context())
    assert bool((outputs["lower"] <= outputs["forecast"]).all())
    assert bool((outputs["forecast"] <= outputs["upper"]).all())
    update = pipeline.task.updates(pipeline.model)[0]
    assert isinstance(update, GradientUpdate)
    optimizer = torch.optim.Adam(pipeline.model.parameters(), lr=0.02)
    everything = pipeline.preprocessing(data.splits["train"].batch(torch.arange(data.splits["train"].num_rows)))
    for _ in range(150):
        optimizer.zero_grad()
        losses, _ = update.loss(everything, Context(), {})
        losses.total().backward()
        optimizer.step()
    assert "standardised_pinball" in losses.terms
    found = pipeline.evaluate(data.splits["train"]).metrics["coverage"]
    assert 0.6 < found <= 1.0, "trained for 90 %"


# --- refusals ------------------------------------------------------------------------------------------------------------


def test_models_that_do_not_fit_are_refused(data: Data) -> None:
    for options, config in (({"num_quantiles": 3}, {}), ({}, {"interval": "quantile"}), ({"horizon": 5}, {})):
        pipeline = pieces(data, options=options, **config)
        with pytest.raises(ShapeError) as caught:
            pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)
        assert "model." in caught.value.mend


def test_other_data_is_refused() -> None:
    spec = DataSpec(columns={"number": ColumnSpec(role="number", dtype="float32", shape=(3,))}, num_rows={})
    with pytest.raises(DataError, match="no windows of a time series") as caught:
        TimeSeriesForecasting(ForecastingConfig(), spec)
    assert "data.reader=series" in caught.value.mend
    for name in ("dlinear", "lstm_forecaster", "cnn_forecaster", "seasonal_naive"):
        with pytest.raises(ConfigError, match="forecasts time series; this data has number"):
            create_model(name, spec)


def test_quantiles_bring_their_own_loss(data: Data) -> None:
    with pytest.raises(ConfigError, match="bring their own loss"):
        pieces(data, interval="quantile", loss={"name": "mae"})


def test_numbers_that_are_not_finite_are_found(data: Data) -> None:
    pipeline = pieces(data)
    past = torch.zeros(2, 24, 3)
    past[1, 3, 0] = float("nan")
    with pytest.raises(DataError, match="missing or not finite"):
        pipeline.task.check_columns(Columns({"past": past}))


def test_linear_models_read_no_calendar(data: Data) -> None:
    steps = [{"name": "standardise"}, {"name": "calendar"}]
    preprocessing = Preprocessing.fit(steps, data.splits["train"], data.spec)
    with pytest.raises(ConfigError, match="no calendar") as caught:
        create_model("dlinear", preprocessing.spec)
    assert "leave the step `calendar` out" in caught.value.mend
    model = create_model("lstm_forecaster", preprocessing.spec, hidden_size=4)
    assert (model.in_channels, model.out_channels) == (3 + 6, 3)
    with pytest.raises(ConfigError, match="cannot be repeated"):
        create_model("seasonal_naive", preprocessing.spec, season=25)


# --- predictions -------------------------------------------------------------------------------------------------------


def test_a_prediction_names_times_and_series(data: Data, tmp_path: Path) -> None:
    pipeline = pieces(data)
    pipeline.choose_thresholds(data.splits["valid"])
    path = write_hours(tmp_path, rows=48, width=3)
    (found,) = pipeline.predict(path)
    assert found["times"] == [f"2020-01-03{f' {hour:02d}:00:00' if hour else ''}" for hour in range(6)]
    assert list(found["forecast"]) == list(found["lower"]) == ["a", "b", "c"]
    assert all(
        low <= value <= high
        for low, value, high in zip(found["lower"]["b"], found["forecast"]["b"], found["upper"]["b"], strict=True)
    )
    (bare,) = pipeline.predict(torch.ones(24, 3))
    assert "times" not in bare


def test_the_seasonal_naive_forecast_learns_in_one_pass(data: Data) -> None:
    pipeline = pieces(data, "seasonal_naive")
    assert pipeline.task.stages(pipeline.model)[0].epochs == 1
    update = pipeline.task.updates(pipeline.model)[0]
    assert isinstance(update, DirectUpdate)
    losses, _ = update.apply(batch_of(pipeline, data), Context(), {})
    assert float(losses.means()["windows"]) == 5
    columns = data.splits["valid"]
    forecast = pipeline.outputs(columns)["forecast"]
    torch.testing.assert_close(forecast, columns["past"][:, :6], rtol=1e-4, atol=1e-4)  # 24 hours before, of 24 hours
