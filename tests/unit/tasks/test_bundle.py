"""Bundles: the same predictions after saving and loading, and a four-part error for whatever is not one."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from lamina.core.bundle import Labels, Part, read_bundle, write_bundle
from lamina.core.errors import BundleError, StorageError
from lamina.core.run import RunFolder
from lamina.models.factory import create_model
from lamina.tasks.bundle import Bundle, bundle_path, load_bundle
from lamina.tasks.pipeline import Pipeline
from unit.tasks.task_case import images, make_pipeline, table, train_a_little


def make_bundle(data, task, **options):
    pipeline = make_pipeline(data, task, **options)
    if options.get("model") == "knn":
        batch = pipeline.preprocessing(dict(data.splits["train"]))
        pipeline.model.store(batch["image"], batch["label"])
    else:
        train_a_little(pipeline, data, steps=20, lr=0.01)
    metrics = {"valid/accuracy": 0.75, "valid/roc_auc": math.nan}
    return Bundle.from_pipeline(
        pipeline, metrics=metrics, examples=data.splits["train"], precision={"training": "fp32"}
    )


CASES = {
    "images": lambda: (images(), "image-classification", {}),
    "convolutions and running statistics": lambda: (images(), "image-classification", {"model": "cnn"}),
    "stored rows": lambda: (images(), "image-classification", {"model": "knn"}),
    "a rule without gradients": lambda: (images(), "image-classification", {"model": "linear"}),
    "numbers and categories": lambda: (table(), "tabular-regression", {}),
    "several targets": lambda: (table(num_targets=2), "tabular-regression", {}),
}


@pytest.mark.parametrize("ending", ["", ".zip"])
@pytest.mark.parametrize("case", CASES)
def test_saved_and_loaded_it_predicts_the_same(tmp_path, case, ending):
    data, task, options = CASES[case]()
    bundle = make_bundle(data, task, **options)
    columns = data.splits["train"]
    path = bundle.save(tmp_path / f"it{ending}")
    loaded = load_bundle(path)
    assert loaded.predict(columns) == bundle.predict(columns)
    assert loaded.evaluate(columns, spec=data.spec).metrics == bundle.evaluate(columns).metrics
    assert loaded.labels == bundle.labels
    assert loaded.metrics == {"valid/accuracy": 0.75}
    assert loaded.verify_golden() == 0.0
    assert loaded.golden_holds()
    assert not loaded.model.training
    again = load_bundle(loaded.save(tmp_path / f"again{ending}"))
    assert again.predict(columns) == bundle.predict(columns)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return make_bundle(images(), "image-classification").save(tmp_path_factory.mktemp("saved") / "b.bundle")


def test_the_folder_is_what_the_product_says(saved):
    assert {entry.name for entry in saved.iterdir()} == {
        "model.safetensors",
        "config.json",
        "preprocessing.json",
        "labels.json",
        "metrics.json",
        "golden.safetensors",
        "README.md",
    }
    config = json.loads((saved / "config.json").read_text())
    assert config["task"]["name"] == "image-classification"
    assert config["model"]["name"] == "mlp"
    assert config["model"]["config"]["hidden_sizes"] == [8]
    assert config["precision"] == {"training": "fp32"}
    assert json.loads((saved / "labels.json").read_text())["classes"] == ["cat", "dog", "owl"]
    readme = (saved / "README.md").read_text()
    assert "mlp, image-classification" in readme
    assert "`cat`, `dog`, `owl`" in readme
    assert "| `valid/accuracy` | 0.75 |" in readme
    assert "6 x 6" in readme


def test_a_bundle_is_a_copy(tmp_path):
    data = images()
    pipeline = make_pipeline(data, "image-classification")
    bundle = Bundle.from_pipeline(pipeline, examples=data.splits["train"])
    before = bundle.predict(data.splits["train"])
    with torch.no_grad():
        for parameter in pipeline.model.parameters():
            parameter.zero_()
    assert bundle.predict(data.splits["train"]) == before
    assert bundle.verify_golden() == 0.0


def test_the_weights_alone_can_be_loaded_from_a_bundle(tmp_path):
    data = table()
    bundle = make_bundle(data, "tabular-regression")
    path = bundle.save(tmp_path / "b")
    assert any(name.startswith("preprocessing.") for name in read_bundle(path).tensors)
    name, values = bundle.model.lamina_config
    model = create_model(name, weights=path, **values)
    assert all(torch.equal(value, bundle.model.state_dict()[key]) for key, value in model.state_dict().items())


def test_loading_draws_no_random_numbers(saved):
    random = torch.random.get_rng_state()
    load_bundle(saved)
    assert torch.equal(torch.random.get_rng_state(), random)


def test_thresholds_and_class_weights_travel(tmp_path):
    data = images(classes=("no", "yes"))
    options = {"threshold": "cost", "false_negative_cost": 1000.0, "class_weights": (1.0, 2.0)}
    pipeline = make_pipeline(data, "image-classification", task_options=options)
    pipeline.choose_thresholds(data.splits["train"])
    path = Bundle.from_pipeline(pipeline).save(tmp_path / "b.zip")
    loaded = load_bundle(path)
    assert loaded.task.thresholds == pipeline.task.thresholds
    assert loaded.task.thresholds.positive is not None
    assert loaded.predict(data.splits["train"]) == pipeline.predict(data.splits["train"])
    assert "Decision thresholds" in loaded.parts.readme


def test_nothing_is_overwritten_unasked(saved):
    bundle = load_bundle(saved)
    with pytest.raises(StorageError, match="already"):
        bundle.save(saved)
    bundle.save(saved, overwrite=True)


def test_a_run_folder_means_its_bundle(tmp_path, saved):
    run = RunFolder.create(tmp_path / "run", name="digits", values={}, origins={})
    with pytest.raises(BundleError, match="no bundle yet") as caught:
        load_bundle(run.path)
    assert "--resume" in caught.value.mend
    shutil.copytree(saved, run.bundle_folder)
    assert bundle_path(run.path) == run.bundle_folder
    assert load_bundle(run.path).labels == ("cat", "dog", "owl")


def test_a_misspelt_path_is_answered_with_the_nearest(saved):
    with pytest.raises(BundleError, match="nothing at this path") as caught:
        load_bundle(saved.with_name("b.bundel"))
    assert "b.bundle" in caught.value.mend
    with pytest.raises(BundleError, match="nothing at this path"):
        load_bundle(saved / "far" / "away")


def test_golden_outputs_that_do_not_hold_are_seen(saved, tmp_path):
    parts = read_bundle(saved)
    parts.golden = {**parts.golden, "output.logits": parts.golden["output.logits"] + 0.5}
    write_bundle(tmp_path / "b", parts)
    loaded = load_bundle(tmp_path / "b")
    assert loaded.verify_golden() == pytest.approx(0.5, abs=1e-6)
    assert not loaded.golden_holds()
    parts.golden = {**parts.golden, "output.logits": torch.full((4, 3), math.nan)}
    write_bundle(tmp_path / "nan", parts)
    assert load_bundle(tmp_path / "nan").verify_golden() == math.inf
    parts.golden = {}
    write_bundle(tmp_path / "none", parts)
    assert load_bundle(tmp_path / "none").verify_golden() == 0.0


# --- what cannot become a bundle -----------------------------------------------------------------------------------


def test_a_module_of_your_own_cannot_be_described():
    pipeline = make_pipeline(images(), "image-classification")
    own = Pipeline(nn.Linear(1, 1), pipeline.task, pipeline.preprocessing)
    with pytest.raises(BundleError, match="does not say how it was built"):
        Bundle.from_pipeline(own)


def test_an_unregistered_task_cannot_be_named():
    pipeline = make_pipeline(images(), "image-classification")

    class Own(type(pipeline.task)):
        name = ""

    own = Own(pipeline.task.config, pipeline.preprocessing.spec)
    with pytest.raises(BundleError, match="not a registered task"):
        Bundle.from_pipeline(Pipeline(pipeline.model, own, pipeline.preprocessing))


def test_weights_that_are_not_finite_are_not_bundled():
    pipeline = make_pipeline(images(), "image-classification")
    with torch.no_grad():
        next(pipeline.model.parameters())[0] = math.nan
    with pytest.raises(BundleError, match="holds NaN"):
        Bundle.from_pipeline(pipeline)


def test_weights_of_another_type_are_not_bundled():
    pipeline = make_pipeline(images(), "image-classification")
    pipeline.model.double()
    with pytest.raises(BundleError, match="is float64"):
        Bundle.from_pipeline(pipeline)


# --- bundles that agree with their checksums, and are wrong --------------------------------------------------------


def config(**changes):
    def change(parts):
        parts.config = parts.config.model_copy(update=changes)

    return change


def model_config(**changes):
    def change(parts):
        old = parts.config.model
        parts.config = parts.config.model_copy(update={"model": Part(name=old.name, config={**old.config, **changes})})

    return change


def task_config(**changes):
    def change(parts):
        old = parts.config.task
        parts.config = parts.config.model_copy(update={"task": Part(name=old.name, config={**old.config, **changes})})

    return change


def spec(column, **changes):
    def change(parts):
        values = json.loads(json.dumps(parts.config.spec))
        values["columns"][column].update(changes)
        parts.config = parts.config.model_copy(update={"spec": values})

    return change


def tensor(name, function):
    def change(parts):
        parts.tensors = {**parts.tensors, name: function(parts.tensors[name])}

    return change


def without(name):
    def change(parts):
        parts.tensors = {key: value for key, value in parts.tensors.items() if key != name}

    return change


def added(**tensors):
    def change(parts):
        parts.tensors = {**parts.tensors, **tensors}

    return change


def attribute(name, value):
    return lambda parts: setattr(parts, name, value)


def golden(name, value):
    def change(parts):
        parts.golden = {**parts.golden, name: value}

    return change


WEIGHT = "head.weight"
FORGED = {
    "an unknown model": (config(model=Part(name="resnet9000", config={})), "resnet9000"),
    "an unknown task": (config(task=Part(name="mind-reading", config={})), "mind-reading"),
    "a module path for a model": (config(model=Part(name="os.system", config={})), "os.system"),
    "an unknown model option": (model_config(on_load="rm -rf"), "on_load"),
    "a model option out of bounds": (model_config(hidden_sizes=[0]), "hidden_sizes"),
    "a model option of another type": (model_config(hidden_sizes="many"), "hidden_sizes"),
    "a model that would fill the memory": (model_config(hidden_sizes=[2**40]), "model.safetensors"),
    "a model of another size": (model_config(hidden_sizes=[9]), "float32"),
    "an unknown task option": (task_config(on_load="rm -rf"), "on_load"),
    "an unknown loss": (task_config(loss={"name": "evil"}), "evil"),
    "an unknown threshold": (config(thresholds={"negative": 0.5}), "negative"),
    "a threshold above one": (config(thresholds={"positive": 2.0}), "positive"),
    "a spec that is none": (config(spec={"rows": 3}), "spec.columns"),
    "a spec without labels": (spec("label", role="id", classes=None), "no classes"),
    "more classes than outputs": (spec("label", classes=["a", "b", "c", "d"]), "labels.json"),
    "an unknown role": (spec("image", role="code"), "role"),
    "an image of another shape": (spec("image", shape=[1, 5, 6]), "b.bundle"),
    "an image of a negative shape": (spec("image", shape=[1, -3, 6]), "b.bundle"),
    "labels in another order": (attribute("labels", Labels(classes=("dog", "cat", "owl"))), "labels.json"),
    "no labels": (attribute("labels", Labels()), "labels.json"),
    "a lost weight": (without(WEIGHT), f"no {WEIGHT}"),
    "a foreign weight": (added(evil=torch.zeros(1)), "evil, which the model does not know"),
    "a weight of another shape": (tensor(WEIGHT, lambda t: t.t().contiguous()), WEIGHT),
    "a weight of another type": (tensor(WEIGHT, lambda t: t.half()), "float16"),
    "a weight of NaN": (tensor(WEIGHT, lambda t: t * math.nan), "NaN or infinity"),
    "an infinite weight": (tensor(WEIGHT, lambda t: t + math.inf), "NaN or infinity"),
    "preprocessing that is none": (attribute("preprocessing", {"steps": 3}), "preprocessing"),
    "an unknown step": (attribute("preprocessing", {"steps": [{"name": "exec"}]}), "exec"),
    "an unknown option of a step": (attribute("preprocessing", {"steps": [{"name": "scale", "code": 1}]}), "code"),
    "a foreign tensor of preprocessing": (added(**{"preprocessing.7.x": torch.zeros(1)}), "preprocessing"),
    "a golden input of no column": (golden("input.evil", torch.zeros(4, 1)), "input.evil"),
    "a golden input of another shape": (golden("input.image", torch.zeros(4, 3, 6, 6)), "input.image"),
    "golden rows that differ": (golden("output.logits", torch.zeros(2, 3)), "golden"),
    "a golden tensor of no kind": (golden("weights", torch.zeros(4, 3)), "weights"),
    "a golden number": (golden("output.logits", torch.tensor(1.0)), "golden"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_bundles_are_refused(saved, tmp_path, name):
    change, expected = FORGED[name]
    parts = read_bundle(saved)
    change(parts)
    path = tmp_path / "b.bundle"
    write_bundle(path, parts)
    with pytest.raises(BundleError) as caught:
        load_bundle(path)
    text = caught.value.render()
    assert expected in text, text
    assert all(part in text for part in ("where", "accepts", "mend"))
    assert str(path) in caught.value.where
    assert caught.value.mend


KNN = {
    "labels outside the classes": (tensor("targets", lambda t: t + 3), "labels from 3"),
    "fewer labels than rows": (tensor("targets", lambda t: t[:-1]), "23 targets"),
    "rows of another width": (tensor("rows", lambda t: t[:, :-1].contiguous()), "rows"),
    "bytes without a scale": (tensor("levels", torch.zeros_like), "levels of 0"),
    "labels of another type": (tensor("targets", lambda t: t.float()), "targets"),
}


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory) -> Path:
    bundle = make_bundle(images(), "image-classification", model="knn")
    return bundle.save(tmp_path_factory.mktemp("knn") / "b.bundle")


@pytest.mark.parametrize("name", KNN)
def test_forged_rows_of_nearest_neighbours_are_refused(neighbours, tmp_path, name):
    change, expected = KNN[name]
    parts = read_bundle(neighbours)
    change(parts)
    write_bundle(tmp_path / "b.bundle", parts)
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path / "b.bundle")
    assert expected in str(caught.value)


def test_a_version_that_knew_more_is_told_so(saved, tmp_path):
    parts = read_bundle(saved)
    config(model=Part(name="resnet9000", config={}))(parts)
    write_bundle(tmp_path / "b", parts)
    with pytest.raises(BundleError) as caught:
        load_bundle(tmp_path / "b")
    assert "install the version of Lamina" in caught.value.mend
