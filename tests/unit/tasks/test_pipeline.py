"""Judging and predicting: by name, in any batches, and without leaving a trace."""

import pytest
import torch
from torch import nn

from lamina.core.errors import DataError, NonFiniteError
from lamina.data.columns import Columns
from lamina.tasks.pipeline import Pipeline, evaluate
from unit.tasks.task_case import images, make_pipeline, make_task, table, train_a_little


@pytest.fixture(scope="module")
def data():
    return images()


@pytest.fixture(scope="module")
def trained(data):
    return train_a_little(make_pipeline(data, "image-classification"), data)


def test_batches_do_not_matter(data, trained):
    columns = data.splits["train"]
    whole = trained.evaluate(columns, batch_size=24)
    for batch_size in (1, 5, 7):
        found = trained.evaluate(columns, batch_size=batch_size)
        assert found.metrics == pytest.approx(whole.metrics, abs=1e-6)
        assert found.details["confusion_matrix"] == whole.details["confusion_matrix"]
        assert found.num_samples == 24


def test_judging_leaves_no_trace(data):
    pipeline = make_pipeline(data, "image-classification", model="cnn")
    model = pipeline.model.train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    modes = {name: module.training for name, module in model.named_modules()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    columns = data.splits["train"]
    pipeline.evaluate(columns, batch_size=7)
    pipeline.outputs(columns)
    pipeline.predict(columns)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert not frozen.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_the_mode_is_restored_after_an_error(data):
    pipeline = make_pipeline(data, "image-classification")
    pipeline.model.train()
    with pytest.raises(RuntimeError, match="out of bounds"):
        evaluate(
            pipeline.model,
            pipeline.task,
            pipeline.preprocessing,
            Columns({**data.splits["train"], "label": torch.full((24,), 9)}),
        )
    assert pipeline.model.training
    assert not torch.is_inference_mode_enabled()


def test_a_walk_that_is_left_early_restores_everything(data, trained):
    walk = trained.chunks(data.splits["train"], batch_size=5)
    next(walk)
    assert not torch.is_inference_mode_enabled()
    walk.close()
    assert torch.is_grad_enabled()


def test_outputs_can_be_used_where_gradients_are_wanted(data, trained):
    logits = trained.outputs(data.splits["train"])["logits"]
    weight = torch.ones(3, requires_grad=True)
    (logits * weight).sum().backward()
    assert weight.grad is not None


def test_labels_match_by_name(data, trained):
    columns = data.splits["train"]
    whole = trained.evaluate(columns)
    order = ("owl", "cat", "dog")
    index = torch.tensor([order.index(name) for name in data.spec.classes])
    other = images(classes=order).spec
    moved = Columns({**columns, "label": index[columns["label"]]})
    found = trained.evaluate(moved, spec=other)
    assert found.metrics == whole.metrics
    assert found.details == whole.details
    some = (columns["label"] != 1).nonzero().flatten()
    subset = columns.take(some)
    renamed = Columns({**subset, "label": subset["label"] // 2})
    found = trained.evaluate(renamed, spec=images(classes=("cat", "owl")).spec)
    assert found.metrics["accuracy"] == trained.evaluate(subset).metrics["accuracy"]


def test_classes_that_the_model_does_not_know_are_listed(data, trained):
    with pytest.raises(DataError, match="'yak' "):
        trained.evaluate(data.splits["train"], spec=images(classes=("cat", "dog", "yak")).spec)


def test_labels_and_inputs_are_needed_to_judge(data, trained):
    columns = data.splits["train"]
    for missing in ("label", "image"):
        rest = Columns({name: columns[name] for name in columns if name != missing})
        with pytest.raises(DataError, match=f"no column '{missing}'"):
            trained.evaluate(rest, spec=data.spec)


def test_labels_out_of_range_are_found_before_judging(data, trained):
    with pytest.raises(DataError, match="The label 9"):
        trained.evaluate(Columns({**data.splits["train"], "label": torch.full((24,), 9)}))


def test_groups_are_judged_by_the_names_of_the_judged_data(data, trained):
    columns = data.splits["train"]
    groups = trained.evaluate(columns).details["groups"]["camera"]
    assert set(groups) == {"old", "new"}
    assert groups["old"]["num_samples"] == 12
    camera = data.spec.columns["camera"].model_copy(update={"classes": ("A", "B")})
    spec = data.spec.model_copy(update={"columns": {**data.spec.columns, "camera": camera}})
    assert set(trained.evaluate(columns, spec=spec).details["groups"]["camera"]) == {"A", "B"}


def test_predictions_name_their_inputs(data, trained):
    columns = data.splits["train"]
    predictions = trained.predict(columns["image"][:3], batch_size=2)
    assert [set(p) for p in predictions] == [{"input", "label", "probability", "probabilities"}] * 3
    assert len({p["input"] for p in predictions}) == 3
    assert trained.predict(columns)[4]["input"] == "4.png"
    assert trained.predict(columns["image"][:3].numpy()) == predictions


def test_a_prediction_of_nan_is_an_error(data):
    pipeline = make_pipeline(data, "image-classification")
    with torch.no_grad():
        next(pipeline.model.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="NaN") as caught:
        pipeline.predict(data.splits["train"])
    assert caught.value.where == "0.png"
    with pytest.raises(NonFiniteError, match="24 of 24 rows"):
        pipeline.evaluate(data.splits["train"])


def test_bf16_and_channels_last_change_little(data):
    pipeline = train_a_little(make_pipeline(data, "image-classification", model="cnn"), data, steps=20, lr=0.01)
    columns = data.splits["train"]
    plain = pipeline.evaluate(columns).metrics
    half = evaluate(pipeline.model, pipeline.task, pipeline.preprocessing, columns, autocast=True, channels_last=True)
    assert half.metrics["cross_entropy"] == pytest.approx(plain["cross_entropy"], abs=0.05)


def test_features_match_by_name():
    data = table()
    pipeline = train_a_little(make_pipeline(data, "tabular-regression"), data)
    columns, spec = data.splits["train"], data.spec
    number = spec.columns["number"]
    swapped = number.model_copy(update={"fields": number.fields[::-1]})
    other = spec.model_copy(update={"columns": {**spec.columns, "number": swapped}})
    moved = Columns({**columns, "number": columns["number"].flip(1)})
    assert pipeline.evaluate(moved, spec=other).metrics == pipeline.evaluate(columns).metrics


def test_images_turned_into_features_are_judged_and_predicted(data):
    from lamina.data.preprocessing import Preprocessing
    from lamina.models.factory import create_model

    preprocessing = Preprocessing.fit(["scale", "flatten"], data.splits["train"], data.spec)
    model = create_model("linear", preprocessing.spec, seed=0)
    pipeline = Pipeline(model, make_task("image-classification", preprocessing.spec), preprocessing)
    pipeline.task.check(preprocessing.spec, model)
    assert pipeline.evaluate(data.splits["train"]).num_samples == 24
    assert len(pipeline.predict(data.splits["train"]["image"])) == 24
