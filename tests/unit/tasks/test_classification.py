"""Classification: what a batch means, what is refused before step one, and how decisions are taken."""

import math

import pytest
import torch
from torch import nn

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, DtypeError, ShapeError, UnknownNameError
from lamina.data.columns import Columns, DataSpec, column_spec
from lamina.tasks.base import Context, DirectUpdate, GradientUpdate
from lamina.tasks.image_classification import ImageClassification
from unit.tasks.task_case import images, make_pipeline, make_task, one_batch, table, train_a_little


@pytest.fixture(scope="module")
def data():
    return images()


@pytest.fixture(scope="module")
def spec(data):
    return make_pipeline(data, "image-classification").preprocessing.spec


def loss_of(pipeline, data, **more):
    batch = {**one_batch(pipeline, data), **more}
    return pipeline.task.updates(pipeline.model)[0].loss(batch, Context(), {})[0]


def test_tasks_are_registered_with_their_configs():
    for name in ("image-classification", "tabular-classification"):
        entry = registry.lookup("task", name)
        assert entry.target.name == name
        assert entry.target.Config is entry.config
        assert entry.source


def test_the_loss_is_a_sum_with_the_number_of_rows(data):
    pipeline = make_pipeline(data, "image-classification")
    losses = loss_of(pipeline, data)
    batch = one_batch(pipeline, data)
    wanted = nn.functional.cross_entropy(pipeline.model(batch["image"]), batch["label"])
    assert list(losses.terms) == ["cross_entropy"]
    assert losses.terms["cross_entropy"][1] == 24
    assert losses.total().item() == pytest.approx(wanted.item())


def test_class_weights_and_row_weights_enter_the_loss(data):
    pipeline = make_pipeline(data, "image-classification", task_options={"class_weights": (1.0, 2.0, 3.0)})
    batch = one_batch(pipeline, data)
    logits = pipeline.model(batch["image"])
    wanted = nn.functional.cross_entropy(logits, batch["label"], weight=torch.tensor([1.0, 2.0, 3.0]))
    assert loss_of(pipeline, data).total().item() == pytest.approx(wanted.item())
    weight = torch.zeros(24)
    weight[:3] = 1.0
    wanted = nn.functional.cross_entropy(logits[:3], batch["label"][:3], weight=torch.tensor([1.0, 2.0, 3.0]))
    assert loss_of(pipeline, data, weight=weight).total().item() == pytest.approx(wanted.item())


def test_penalties_are_logged_and_counted_once(data):
    pipeline = make_pipeline(
        data, "image-classification", task_options={"penalties": ({"kind": "l2", "strength": 0.1},)}
    )
    losses = loss_of(pipeline, data)
    squares = sum(p.square().sum() for p in pipeline.model.parameters() if p.ndim > 1)
    assert losses.means()["l2"].item() == pytest.approx(squares.item())
    assert losses.total().item() == pytest.approx((losses.means()["cross_entropy"] + 0.1 * squares).item())


@pytest.mark.parametrize(
    ("loss", "monitor"),
    [
        ({"name": "cross-entropy", "label_smoothing": 0.1}, "cross_entropy"),
        ({"name": "hinge"}, "accuracy"),
        ({"name": "half-squared-error", "activation": "sigmoid"}, "accuracy"),
        ({"name": "focal"}, "accuracy"),
        ({"name": "weighted-sum", "parts": [{"name": "cross-entropy"}, {"name": "hinge", "factor": 0.5}]}, "accuracy"),
    ],
)
def test_every_loss_over_classes_learns_and_decodes(data, loss, monitor):
    pipeline = make_pipeline(data, "image-classification", task_options={"loss": loss})
    pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)
    train_a_little(pipeline, data)
    assert pipeline.evaluate(data.splits["train"]).metrics["accuracy"] > 0.9
    assert pipeline.task.monitor[0] == monitor
    prediction = pipeline.task.decode(pipeline.outputs(data.splits["train"]))[0]
    assert sum(prediction["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    assert prediction["probability"] == max(prediction["probabilities"].values())


def test_half_squared_error_gives_the_shares_of_the_sigmoids(spec):
    task = make_task("image-classification", spec, loss={"name": "half-squared-error", "activation": "sigmoid"})
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    shares = torch.sigmoid(logits) / torch.sigmoid(logits).sum()
    assert list(task.decode({"logits": logits})[0]["probabilities"].values()) == pytest.approx(shares[0].tolist())


def test_a_function_of_your_own_is_a_loss(data):
    def squared(logits, targets):
        return (logits.softmax(1) - nn.functional.one_hot(targets, 3)).square().sum(1)

    pipeline = make_pipeline(data, "image-classification")
    task = ImageClassification(ImageClassification.Config(), pipeline.preprocessing.spec, loss=squared)
    task.check(pipeline.preprocessing.spec, pipeline.model)
    batch = one_batch(pipeline, data)
    losses, _ = task.updates(pipeline.model)[0].loss(batch, Context(), {})
    wanted = squared(pipeline.model(batch["image"]), batch["label"]).mean()
    assert losses.total().item() == pytest.approx(wanted.item())


def test_models_without_gradients_learn_through_one_direct_update(data):
    for model in ("knn", "perceptron"):
        pipeline = make_pipeline(data, "image-classification", model=model)
        pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)
        (update,) = pipeline.task.updates(pipeline.model)
        assert isinstance(update, DirectUpdate)
        for _ in range(1 if model == "knn" else 40):
            losses, _ = update.apply(one_batch(pipeline, data), Context(), {})
        assert losses.means()
        assert pipeline.evaluate(data.splits["train"]).metrics["accuracy"] == 1.0


def test_a_model_that_stores_rows_gets_one_pass(data):
    pipeline = make_pipeline(data, "image-classification", model="knn")
    assert [stage.epochs for stage in pipeline.task.stages(pipeline.model)] == [1]
    pipeline = make_pipeline(data, "image-classification", model="perceptron")
    assert [stage.epochs for stage in pipeline.task.stages(pipeline.model)] == [None]


# --- two classes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two():
    return images(classes=("no", "yes"))


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("loss", ["binary-cross-entropy", "binary-hinge"])
def test_binary_losses_take_one_output_or_the_difference_of_two(two, outputs, loss):
    pipeline = make_pipeline(two, "image-classification", num_classes=outputs, task_options={"loss": {"name": loss}})
    pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)
    train_a_little(pipeline, two)
    assert pipeline.evaluate(two.splits["train"]).metrics["accuracy"] == 1.0


def test_binary_cross_entropy_of_two_outputs_is_the_cross_entropy(two):
    losses = [
        loss_of(make_pipeline(two, "image-classification", task_options={"loss": {"name": name}}), two).total().item()
        for name in ("binary-cross-entropy", "cross-entropy")
    ]
    assert losses[0] == pytest.approx(losses[1])


def test_one_output_needs_a_loss_for_one(two):
    pipeline = make_pipeline(two, "image-classification", num_classes=1)
    with pytest.raises(ConfigError, match=r"loss\.name=binary-cross-entropy"):
        pipeline.task.check(pipeline.preprocessing.spec, pipeline.model)


def test_thresholds_are_chosen_used_and_kept(two):
    pipeline = make_pipeline(
        two, "image-classification", task_options={"threshold": "cost", "false_negative_cost": 50.0}
    )
    columns = two.splits["train"]
    chosen = pipeline.choose_thresholds(columns)
    assert set(chosen) == {"positive"}
    probs = pipeline.task.log_probs(pipeline.outputs(columns)).exp()[:, 1]
    decided = ["yes" if p >= chosen["positive"] else "no" for p in probs.tolist()]
    assert [p["label"] for p in pipeline.task.decode(pipeline.outputs(columns))] == decided
    truth = ["no" if label == 0 else "yes" for label in columns["label"].tolist()]
    accuracy = sum(a == b for a, b in zip(decided, truth, strict=True)) / len(truth)
    assert pipeline.evaluate(columns).metrics["accuracy"] == pytest.approx(accuracy)
    assert not any(t == "yes" and d == "no" for t, d in zip(truth, decided, strict=True))


def test_judging_decides_by_the_threshold(two):
    pipeline = make_pipeline(two, "image-classification")
    for threshold, column in ((0.0, 1), (1.0, 0)):
        pipeline.task.thresholds_from({"positive": threshold})
        matrix = pipeline.evaluate(two.splits["train"]).details["confusion_matrix"]
        assert [row[column] for row in matrix] == [12, 12]


def test_rejected_rows_have_no_label(spec):
    task = make_task("image-classification", spec)
    task.thresholds_from({"reject": 0.8})
    sure, unsure = task.decode({"logits": torch.tensor([[9.0, 0.0, 0.0], [1.0, 0.9, 0.0]])})
    assert sure["label"] == "cat"
    assert unsure["label"] is None
    assert unsure["probability"] == max(unsure["probabilities"].values())


def test_reject_is_chosen_for_an_accuracy(data):
    pipeline = make_pipeline(data, "image-classification", task_options={"reject_accuracy": 0.99})
    train_a_little(pipeline, data, steps=8, lr=0.01)
    chosen = pipeline.choose_thresholds(data.splits["train"])
    answered = [
        (prediction["label"], label)
        for prediction, label in zip(
            pipeline.task.decode(pipeline.outputs(data.splits["train"])),
            data.splits["train"]["label"].tolist(),
            strict=True,
        )
        if prediction["label"] is not None
    ]
    assert "reject" in chosen
    assert all(name == pipeline.task.classes[label] for name, label in answered)


def test_a_threshold_needs_two_classes(spec):
    with pytest.raises(ConfigError, match="needs two classes; the data has 3"):
        make_task("image-classification", spec, threshold="f1")


def test_unknown_thresholds_are_refused(spec):
    with pytest.raises(ConfigError, match="negative"):
        make_task("image-classification", spec).thresholds_from({"negative": 0.5})


# --- what is refused before step one -------------------------------------------------------------------------------


class Wrong(nn.Module):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, x):
        return self.result(x)


REFUSED = {
    "too few outputs": (lambda x: x.flatten(1)[:, :2], ShapeError, "has 2 outputs; the data has 3 classes"),
    "too many outputs": (lambda x: x.flatten(1), ShapeError, "model.num_classes=3"),
    "maps instead of rows": (lambda x: x, ShapeError, "(2, 1, 6, 6)"),
    "one number per row": (lambda x: x.sum((1, 2, 3)), ShapeError, "(2,)"),
    "rows mixed up": (lambda x: x.flatten(1).sum(0, keepdim=True), ShapeError, "for 2 rows"),
    "not a tensor": (lambda x: (x, x), ShapeError, "a tuple"),
    "a layer that does not fit": (
        lambda x: nn.functional.linear(x, torch.zeros(3, 5)),
        ShapeError,
        "cannot take inputs shaped (2, 1, 6, 6)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_do_not_fit_are_refused(data, spec, name):
    result, kind, expected = REFUSED[name]
    with pytest.raises(kind) as caught:
        make_task("image-classification", spec).check(spec, Wrong(result))
    assert expected in str(caught.value)
    assert caught.value.mend


def test_a_model_built_for_other_images_speaks_for_itself(data, spec):
    from lamina.models.factory import create_model

    model = create_model("cnn", in_channels=3, image_size=(6, 6), num_classes=3)
    with pytest.raises(ShapeError, match=r"\(2, 1, 6, 6\)"):
        make_task("image-classification", spec).check(spec, model)


def test_the_check_changes_nothing(data, spec):
    pipeline = make_pipeline(data, "image-classification", model="cnn")
    model = pipeline.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.random.get_rng_state()
    pipeline.task.check(spec, model)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random)


def test_a_model_that_reads_values_is_tried_on_zeros(spec):
    class Peeking(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x):
            return self.norm(x + 1).flatten(1)[:, :3] if x.sum().item() == 0 else x

    model = Peeking()
    make_task("image-classification", spec).check(spec, model)
    assert model.training
    assert model.norm.running_mean.item() == 0.0


def labels(tensor, **more):
    return Columns({"image": torch.zeros(len(tensor), 1, 6, 6, dtype=torch.uint8), "label": tensor}, **more)


def test_labels_are_scanned_once(spec):
    task = make_task("image-classification", spec)
    task.check_columns(labels(torch.tensor([0, 1, 2])))
    with pytest.raises(DataError) as caught:
        task.check_columns(labels(torch.tensor([0, 3, 9]), origin=["a.csv:2", "a.csv:3", "a.csv:4"]))
    assert "The label 3 is outside the classes; 2 rows" in str(caught.value)
    assert caught.value.where == "a.csv:3"
    with pytest.raises(DataError, match="-1"):
        task.check_columns(labels(torch.tensor([-1])))
    with pytest.raises(ShapeError, match="squeeze"):
        task.check_columns(labels(torch.zeros(3, 1, dtype=torch.int64)))
    with pytest.raises(ShapeError, match="argmax"):
        task.check_columns(labels(torch.zeros(3, 3, dtype=torch.int64)))
    with pytest.raises(DtypeError, match="float32"):
        task.check_columns(labels(torch.zeros(3)))


def test_labels_of_another_shape_are_refused_by_the_spec(spec):
    wide = spec.model_copy(
        update={"columns": {**spec.columns, "label": column_spec("label", torch.zeros(2, 3), classes=("a", "b", "c"))}}
    )
    with pytest.raises(ShapeError, match="3,"):
        make_task("image-classification", wide).check(wide, Wrong(lambda x: x))


def test_data_without_classes_is_refused():
    tensor = torch.zeros(2, dtype=torch.int64)
    for columns, expected in (
        ({}, "no classes"),
        ({"label": column_spec("label", tensor)}, "no classes"),
        ({"label": column_spec("label", tensor, classes=("only",))}, "only the class 'only'"),
    ):
        with pytest.raises(DataError, match=expected):
            make_task("tabular-classification", DataSpec(columns=columns, num_rows={}))


def test_images_and_tables_are_told_apart(data, spec):
    pipeline = make_pipeline(data, "image-classification")
    with pytest.raises(DataError, match=r"task\.name=image-classification"):
        make_task("tabular-classification", spec).check(spec, pipeline.model)
    numbers = table()
    label = torch.zeros(30, dtype=torch.int64)
    raw = DataSpec(
        columns={**numbers.spec.columns, "label": column_spec("label", label, classes=("a", "b"))}, num_rows={}
    )
    from lamina.data.preprocessing import Preprocessing

    prepared = Preprocessing.fit(None, numbers.splits["train"], raw).spec
    with pytest.raises(DataError, match=r"task\.name=tabular-classification"):
        make_task("image-classification", prepared).check(prepared, pipeline.model)


def test_infinite_features_are_refused():
    number = torch.tensor([[1.0, 2.0], [math.inf, 0.0]])
    columns = Columns({"number": number, "label": torch.tensor([0, 1])})
    spec = DataSpec(columns={"label": column_spec("label", columns["label"], classes=("a", "b"))}, num_rows={})
    with pytest.raises(DataError, match="field 0 is inf"):
        make_task("tabular-classification", spec).check_columns(columns)


def test_losses_and_weights_that_do_not_fit_are_refused(spec):
    with pytest.raises(ConfigError, match="mse compares numbers"):
        make_task("image-classification", spec, loss={"name": "mse"})
    with pytest.raises(UnknownNameError, match="cross-entropi"):
        make_task("image-classification", spec, loss={"name": "cross-entropi"})
    with pytest.raises(ConfigError, match="2 class weights for 3 classes"):
        make_task("image-classification", spec, class_weights=(1.0, 1.0))
    with pytest.raises(ConfigError, match="is for two classes; the data has 3"):
        make_task("image-classification", spec, loss={"name": "binary-cross-entropy"})


def test_a_loss_of_your_own_that_broadcasts_is_refused(spec):
    def broadcast(logits, targets):
        return (logits - targets.unsqueeze(1).unsqueeze(2)).square()

    task = ImageClassification(ImageClassification.Config(), spec, loss=broadcast)
    with pytest.raises(ConfigError, match="gives 3 numbers for one row and 12 for two"):
        task.check(spec, Wrong(lambda x: x.flatten(1)[:, :3]))


def test_updates_are_named_train(data):
    pipeline = make_pipeline(data, "image-classification")
    (update,) = pipeline.task.updates(pipeline.model)
    assert isinstance(update, GradientUpdate)
    assert (update.name, update.module) == ("train", pipeline.model)
