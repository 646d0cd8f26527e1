"""Resolving recipes: layers, origins, defaults, and refusals before anything heavy is loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lamina.core.config import read_yaml
from lamina.core.errors import ConfigError, LaminaError, UnknownNameError, UsageError
from lamina.core.registry import describe, names
from lamina.core.run import render_recipe
from lamina.recipes.needs import check_data_path, check_weights_path
from lamina.recipes.recipe import (
    FROM_DATA,
    Recipe,
    check_partial,
    command_line_values,
    known_values,
    resolve,
    resolve_layers,
)


def test_the_command_line_wins_over_the_file_and_the_file_over_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("extends: iris-mlp\noptimizer: {lr: 0.5}\ntraining: {epochs: 7, batch_size: 8}\n")
    resolved = resolve(str(file), assignments=["training.epochs=3", "seed=9"])
    values, origins = resolved.values, resolved.origins
    assert (values["training"]["epochs"], origins["training.epochs"]) == (3, "command line")
    assert (values["training"]["batch_size"], origins["training.batch_size"]) == (8, "file")
    assert (values["optimizer"]["lr"], origins["optimizer.lr"]) == (0.5, "file")
    assert (values["optimizer"]["name"], origins["optimizer.name"]) == ("adam", "recipe")
    assert (values["training"]["steps"], origins["training.steps"]) == (None, "default")
    assert (values["seed"], origins["seed"]) == (9, "command line")
    assert (values["name"], origins["name"]) == ("mine", "file")
    assert (values["data"]["path"], origins["data.path"]) == ("iris", "recipe")


def test_every_leaf_has_an_origin_and_survives_yaml() -> None:
    from lamina.core.config import flatten

    for name in names("recipe"):
        resolved = resolve(name)
        assert set(flatten(resolved.values)) == set(resolved.origins), name
        text = render_recipe(resolved.values, resolved.origins)
        assert Recipe.from_values(read_yaml(text, where="x")) == resolved.recipe(), name


def test_a_resolved_recipe_is_a_recipe(tmp_path: Path) -> None:
    first = resolve("mnist-mlp-sigmoid", assignments=["seed=4"])
    file = tmp_path / "recipe.yaml"
    file.write_text(render_recipe(first.values, first.origins))
    again = resolve(str(file))
    assert again.values == first.values
    assert set(again.origins.values()) == {"file"}


def test_what_the_data_decides_stays_open() -> None:
    for name in names("recipe"):
        assert not FROM_DATA & set(resolve(name).values["model"]), name
    given = resolve("mnist-mlp", assignments=["model.num_classes=24"])
    assert given.values["model"]["num_classes"] == 24


def test_the_factory_fills_no_field_that_recipes_do_not_leave_open() -> None:
    from lamina.core.registry import lookup
    from lamina.data.columns import ColumnSpec, DataSpec
    from lamina.data.loading import load_data
    from lamina.models import factory

    filled: set[str] = set()
    label = ColumnSpec(role="label", dtype="int64", classes=("a", "b"))
    waves = ColumnSpec(role="series", dtype="float32", shape=(2, 64))
    blocks = ColumnSpec(role="volume", dtype="uint8", shape=(1, 16, 16, 16))
    pairs = (("signal", waves), ("volume", blocks))
    made_up = [DataSpec(columns={name: column, "label": label}, num_rows={}) for name, column in pairs]
    windows = {name: ColumnSpec(role="series", dtype="float32", shape=(8, 2)) for name in ("past", "future")}
    made_up.append(DataSpec(columns={**windows, "label": label}, num_rows={}))
    words, letters = (ColumnSpec(role="tokens", dtype="int64", shape=shape, vocab_size=9) for shape in ((-1,), (-1, 4)))
    made_up.append(DataSpec(columns={"input_ids": words, "char_ids": letters, "label": label}, num_rows={}))
    for spec in [*(load_data(source).spec for source in ("digits", "iris", "diabetes")), *made_up]:
        if "number" in spec.columns:
            spec = spec.model_copy(update={"columns": {**spec.columns, "features": spec.columns["number"]}})
        for model in names("model"):
            flags = describe("model", model).capabilities
            fits = flags.get("input") not in ("image", "signal", "volume", "past") or flags["input"] in spec.columns
            if fits and (spec.classes or flags.get("regression")):
                filled |= set(factory._from_spec(lookup("model", model), spec, {}))
    assert filled == FROM_DATA


def test_choosing_another_thing_drops_the_options_of_the_old_one() -> None:
    values = resolve("mnist-mlp", assignments=["model.kind=linear", "optimizer.name=sgd", "optimizer.lr=0.1"]).values
    assert "hidden_sizes" not in values["model"]
    assert "betas" not in values["optimizer"]
    short = resolve("mnist-mlp", assignments=["model=linear", "optimizer=sgd"]).values
    assert (short["model"]["kind"], short["optimizer"]["name"]) == ("linear", "sgd")


def test_recipes_extend_recipes() -> None:
    assert known_values("cifar10-knn")["model"] == {"kind": "knn", "k": 10, "metric": "l1"}
    assert known_values("cifar10-knn")["training"] == known_values("mnist-knn")["training"]
    assert "extends" not in known_values("mnist-svm")


@pytest.mark.parametrize(
    ("words", "what", "where", "mend"),
    [
        (["optimizer.lrr=0.1"], "no key 'lrr'", "command line, key `optimizer.lrr`", "'lr'"),
        (["training.epoch=3"], "no key 'epoch'", "command line, key `training.epoch`", "'epochs'"),
        (["model.hidden=3"], "no key 'hidden'", "command line, key `model.hidden`", "'hidden_sizes'"),
        (["trainig.epochs=3"], "no key 'trainig'", "command line, key `trainig`", "'training'"),
        (["training.epochs=0"], "below 1", "key `training.epochs`", "training.epochs"),
        (["training.epochs=many"], "not a whole number", "key `training.epochs`", "training.epochs"),
        (["optimizer.lr=-1"], "optimizer.lr got -1", "key `optimizer.lr`", "optimizer.lr"),
        (["optimizer.lr=.nan"], "not finite", "key `optimizer.lr`", "optimizer.lr"),
        (["seed=-1"], "below 0", "key `seed`", "seed"),
        (["seed=1.5"], "not a whole number", "key `seed`", "seed"),
        (["model.kind=mpl"], "no model called 'mpl'", "command line, key `model.kind`", "'mlp'"),
        (["optimizer.name=adamm"], "no optimizer called 'adamm'", "key `optimizer.name`", "'adam'"),
        (["schedule=cosin"], "no schedule called 'cosin'", "key `schedule.name`", "'cosine'"),
        (["loss=crossentropy"], "no loss called 'crossentropy'", "key `loss.name`", "'cross-entropy'"),
        (["task.name=image-clasification"], "no task called", "key `task.name`", "'image-classification'"),
        (
            ["loss.label_smoothing=2"],
            "loss.label_smoothing got 2",
            "key `loss.label_smoothing`",
            "loss.label_smoothing",
        ),
        (["augment=[{name: rotat}]"], "no augmentation called 'rotat'", "key `augment.name`", "'rotate'"),
        (["preprocess=[scal]"], "no preprocessing called 'scal'", "key `preprocess.name`", "'scale'"),
        (["augment=5"], "augment got 5", "key `augment`", "augment"),
        (["training=5"], "training got 5", "command line, key `training`", "training.KEY=VALUE"),
        (["data.split=sideways"], "not one of the choices", "key `data.split`", "data.split"),
        (["training.precision=fp64"], "not one of the choices", "key `training.precision`", "training.precision"),
        (["=3"], "not of the form", "command line", "equals sign"),
        (["seed=[1"], "not readable YAML", "command line", "correct"),
        (["seed.a=1"], "seed got", "key `seed`", "seed"),
    ],
)
def test_values_that_are_refused(words: list[str], what: str, where: str, mend: str) -> None:
    with pytest.raises(LaminaError) as caught:
        resolve("mnist-mlp", assignments=words)
    error = caught.value
    assert error.exit_status == 2
    assert what in error.what
    assert where in error.where
    assert mend in error.mend + error.accepts


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("model: {kind: mlp}\n", "The recipe has no task.", "key `task`"),
        ("task: {name: image-classification}\n", "The recipe has no model.", "key `model`"),
        ("extends: mnist-mpl\n", "There is no recipe called 'mnist-mpl'.", "key `extends`"),
        ("extends: [a, b]\n", "extends got ['a', 'b'].", "key `extends`"),
        ("extends: digits\nmodell: {kind: mlp}\n", "There is no key 'modell'.", "key `modell`"),
        ("extends: digits\ntraining: {epochs: x}\n", "training.epochs got 'x'", "key `training.epochs`"),
        ("extends: digits\ntraining:\n  epochs: 1\n  epochs: 2\n", "stands twice", "line 4"),
        ("- a\n- b\n", "not a mapping", ""),
        ("a: [1\n", "not readable YAML", "line 2"),
        ("model: !!python/object/apply:os.system [ls]\n", "not readable YAML", "line 1"),
        ("a: &x 1\nb: *x\n", "aliases are not read", ""),
        ("extends: digits\nname: ../../etc\n", "name got '../../etc'", "key `name`"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, what: str, where: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(LaminaError) as caught:
        resolve(str(file))
    assert what in caught.value.what
    assert where in caught.value.where
    assert str(file) in caught.value.where
    assert caught.value.exit_status == 2


def test_paths_that_are_no_recipe_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no file") as caught:
        resolve(str(tmp_path / "missing.yaml"))
    (tmp_path / "misssing.yaml").write_text("")
    with pytest.raises(ConfigError, match="There is no file") as caught:
        resolve(str(tmp_path / "missing.yaml"))
    assert "misssing.yaml" in caught.value.mend
    with pytest.raises(UsageError, match="is a folder") as usage:
        resolve(str(tmp_path))
    assert "--data" in usage.value.mend
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(UsageError) as usage:
        resolve(str(tmp_path))
    assert "--resume" in usage.value.mend
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="not UTF-8"):
        resolve(str(tmp_path / "binary.yaml"))
    with pytest.raises(UnknownNameError, match="no recipe called 'mnist-mpl'") as unknown:
        resolve("mnist-mpl")
    assert "'mnist-mlp'" in unknown.value.mend


def test_a_value_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--data and data\.path=… are both given"):
        command_line_values(["data.path=a"], data="b")
    with pytest.raises(ConfigError, match="--weights and weights=… are both given"):
        command_line_values(["weights=a"], weights="b")
    assert command_line_values(["data.limit=3"], data="b", weights="w") == {
        "data": {"limit": 3, "path": "b"},
        "weights": "w",
    }


def test_the_data_path_is_named_absolute_or_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text("")
    assert check_data_path(resolve("mnist-mlp", data="train.csv").values) == str(tmp_path / "train.csv")
    assert check_data_path(resolve("digits").values) == "digits"
    with pytest.raises(ConfigError, match="The recipe mnist-mlp needs data of yours") as caught:
        check_data_path(resolve("mnist-mlp").values)
    assert caught.value.mend == "lamina train mnist-mlp --data PATH"
    assert "MNIST" in caught.value.accepts
    with pytest.raises(ConfigError, match=r"There is nothing at trian\.csv") as caught:
        check_data_path(resolve("mnist-mlp", data="trian.csv").values)
    assert "train.csv" in caught.value.mend
    with pytest.raises(ConfigError) as caught:
        check_data_path(resolve("mnist-mlp", data="digit").values)
    assert "digits" in caught.value.mend


def test_the_weights_path_is_absolute_or_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.zip").write_text("")
    assert check_weights_path(resolve("digits").values) is None
    assert check_weights_path(resolve("digits", weights="first.zip").values) == str(tmp_path / "first.zip")
    with pytest.raises(ConfigError, match=r"There is no file frist\.zip") as caught:
        check_weights_path(resolve("digits", weights="frist.zip").values)
    assert "first.zip" in caught.value.mend


def test_a_data_path_in_a_file_counts_from_the_working_folder_then_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "r.yaml"
    file.write_text("extends: iris-mlp\ndata: {path: d.csv}\n")
    (tmp_path / "deep" / "d.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    assert resolve("deep/r.yaml").values["data"]["path"] == "deep/d.csv"
    (tmp_path / "d.csv").write_text("")
    assert resolve("deep/r.yaml").values["data"]["path"] == "d.csv"


def test_values_without_a_recipe_are_checked_too() -> None:
    check_partial({"data": {"path": "x"}, "training": {"epochs": 3}})
    with pytest.raises(ConfigError, match="no key 'epoch'"):
        check_partial({"training": {"epoch": 3}})


def test_origins_other_than_the_command_lines_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_layers([("recipe", known_values("digits")), ("python", {"training": {"epoch": 1}})])
    assert caught.value.where == "python, key `training.epoch`"


def test_resolving_imports_no_torch() -> None:
    script = (
        "import sys, json\n"
        "from lamina.recipes.recipe import resolve\n"
        "[resolve(name) for name in ('digits', 'mnist-svm', 'sign-cnn', 'housing-mlp')]\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules = json.loads(found.stdout)
    assert "torch" not in modules
    assert "numpy" not in modules
