"""Regression: learned in standard units, judged and decoded in the target's own."""

import math

import pytest
import torch
from torch import nn

from lamina.core.errors import ConfigError, DataError, DtypeError, ShapeError
from lamina.data.columns import Columns, DataSpec, column_spec
from lamina.tasks.base import Context
from lamina.tasks.tabular_regression import TabularRegression
from unit.tasks.task_case import make_pipeline, make_task, one_batch, table, train_a_little


@pytest.mark.parametrize("num_targets", [1, 3])
def test_the_loss_is_taken_of_standardised_numbers(num_targets):
    data = table(num_targets=num_targets)
    pipeline = make_pipeline(data, "tabular-regression")
    batch = one_batch(pipeline, data)
    losses, _ = pipeline.task.updates(pipeline.model)[0].loss(batch, Context(), {})
    target = batch["target"]
    wanted = (target - target.mean(0)) / target.std(0, correction=0)
    mse = (pipeline.model(batch["features"]) - wanted).square().mean()
    assert list(losses.terms) == ["standardised_mse"]
    assert losses.total().item() == pytest.approx(mse.item(), rel=1e-5)


@pytest.mark.parametrize("num_targets", [1, 3])
def test_metrics_and_predictions_are_in_the_targets_units(num_targets):
    data = table(num_targets=num_targets)
    pipeline = train_a_little(make_pipeline(data, "tabular-regression"), data, steps=150)
    columns = data.splits["train"]
    predicted = pipeline.outputs(columns)["prediction"]
    found = pipeline.evaluate(columns)
    assert found.metrics["mse"] == pytest.approx((predicted - columns["target"]).double().square().mean().item())
    assert found.metrics["r2"] > 0.9
    assert found.num_samples == 30
    decoded = pipeline.task.decode(pipeline.outputs(columns))
    if num_targets == 1:
        assert decoded[0] == {"value": pytest.approx(predicted[0].item())}
    else:
        assert decoded[0] == {"values": dict(zip(pipeline.task.targets, predicted[0].tolist(), strict=True))}


def test_standardising_can_be_left_out():
    data = table()
    pipeline = make_pipeline(data, "tabular-regression", task_options={"standardise": False})
    batch = one_batch(pipeline, data)
    losses, _ = pipeline.task.updates(pipeline.model)[0].loss(batch, Context(), {})
    wanted = (pipeline.model(batch["features"]) - batch["target"]).square().mean()
    assert list(losses.terms) == ["mse"]
    assert losses.total().item() == pytest.approx(wanted.item())


def test_a_constant_target_is_learned_as_it_is():
    spec = column_spec("target", torch.zeros(3, 1), mean=(5.0,), std=(0.0,))
    task = make_task("tabular-regression", DataSpec(columns={"target": spec}, num_rows={}))
    assert (task.mean, task.std) == ((5.0,), (1.0,))


def test_nearest_neighbours_predict_numbers():
    data = table()
    pipeline = make_pipeline(data, "tabular-regression", model="knn", k=1)
    (update,) = pipeline.task.updates(pipeline.model)
    update.apply(one_batch(pipeline, data), Context(), {})
    assert pipeline.evaluate(data.splits["train"]).metrics["mae"] < 1e-3
    assert pipeline.task.stages(pipeline.model)[0].epochs == 1


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "half-squared-error"])
def test_every_loss_over_numbers_is_taken(loss):
    data = table(num_targets=2)
    pipeline = make_pipeline(data, "tabular-regression", task_options={"loss": {"name": loss}})
    pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)


def test_a_step_that_was_traced_leaves_nothing_behind():
    """Constants made under a tracer are not numbers; judging after tracing must not meet them."""
    from torch.fx.experimental.proxy_tensor import make_fx

    data = table(num_targets=2)
    pipeline = make_pipeline(data, "tabular-regression")
    update = pipeline.task.updates(pipeline.model)[0]
    batch = one_batch(pipeline, data)
    traced = make_fx(
        lambda batch: update.loss(batch, Context(), {})[0].total(), tracing_mode="fake", _allow_non_fake_inputs=True
    )
    traced(batch)
    assert pipeline.evaluate(data.splits["train"]).metrics["mse"] > 0


def test_bf16_outputs_are_scaled_in_32_bits():
    class Half(nn.Module):
        def forward(self, x):
            return x[:, :1].bfloat16()

    task = make_task("tabular-regression", make_pipeline(table(), "tabular-regression").preprocessing.spec)
    outputs = task.forward(Half(), {"features": torch.randn(4, 3)}, Context())
    assert outputs["prediction"].dtype == torch.float32


# --- what is refused -----------------------------------------------------------------------------------------------


def test_a_model_of_another_width_is_refused():
    data = table()
    spec = make_pipeline(data, "tabular-regression").preprocessing.spec
    pipeline = make_pipeline(data, "tabular-regression", num_classes=2)
    with pytest.raises(ShapeError, match=r"has 2 outputs; the data has 1 target \(price0\)"):
        pipeline.task.check(spec, pipeline.model)


def test_losses_over_classes_are_refused_before_step_one():
    data = table()
    pipeline = make_pipeline(data, "tabular-regression", task_options={"loss": {"name": "cross-entropy"}})
    with pytest.raises(ConfigError):
        pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)


def test_a_loss_of_your_own_that_broadcasts_is_refused():
    def broadcast(outputs, targets):
        return (outputs.squeeze(1) - targets).square()

    pipeline = make_pipeline(table(), "tabular-regression")
    task = TabularRegression(TabularRegression.Config(), pipeline.preprocessing.spec, loss=broadcast)
    with pytest.raises(ConfigError, match="gives 1 numbers for one row and 4 for two"):
        task.check(pipeline.preprocessing.spec, pipeline.model)


def targets(tensor, **more):
    return Columns({"target": tensor}, **more)


def test_targets_are_scanned_once():
    task = make_task("tabular-regression", table().spec)
    task.check_columns(targets(torch.ones(3, 1)))
    with pytest.raises(ShapeError, match=r"targets.unsqueeze\(1\)"):
        task.check_columns(targets(torch.ones(3)))
    with pytest.raises(ShapeError, match=r"\(3, 2\)"):
        task.check_columns(targets(torch.ones(3, 2)))
    with pytest.raises(DtypeError, match="int64"):
        task.check_columns(targets(torch.ones(3, 1, dtype=torch.int64)))
    with pytest.raises(DataError) as caught:
        task.check_columns(targets(torch.tensor([[1.0], [math.nan]]), origin=["a:1", "a:2"]))
    assert "'price0' is nan; 1 rows" in str(caught.value)
    assert caught.value.where == "a:2"


def test_data_without_a_target_is_refused():
    for columns, expected in (({}, "no target"), ({"target": column_spec("target", torch.zeros(3))}, r"shape \(\)")):
        with pytest.raises(DataError, match=expected):
            make_task("tabular-regression", DataSpec(columns=columns, num_rows={}))


def test_thresholds_are_not_for_numbers():
    with pytest.raises(ConfigError, match="takes no thresholds"):
        make_task("tabular-regression", table().spec).thresholds_from({"positive": 0.5})
