"""`lamina.fit` and building from values."""

import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import lamina
from lamina.core.errors import (
    BundleError,
    ConfigError,
    DataError,
    DtypeError,
    InterruptedRunError,
    LaminaError,
    RunError,
    ShapeError,
    WeightsError,
)
from lamina.core.run import RunFolder
from lamina.core.tensorfile import pack_tensors
from lamina.recipes.build import build, read_data, saved_split
from lamina.recipes.recipe import resolve
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer

FAST = {"training": {"batch_size": 256}}


def test_the_example_of_the_product_page(tmp_path: Path) -> None:
    data = lamina.load_data("digits")
    model = lamina.create_model("lenet5", num_classes=10)  # of 28x28; the digits are 8x8 and are resized
    run = lamina.fit(model, data, task="image-classification", epochs=1, seed=0, **FAST)
    assert 0 < run.metrics["test/accuracy"] <= 1
    assert 0 < run.metrics["valid/accuracy"] <= 1
    images = data.splits["all"]["image"][:3]
    run.bundle.save(tmp_path / "digits.bundle")
    assert lamina.load_bundle(tmp_path / "digits.bundle").predict(images) == run.bundle.predict(images)
    assert run.path is None


def test_names_arrays_and_modules() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(60, 3)).astype(np.float32)
    found = lamina.fit("mlp", (features, (features[:, 0] > 0).astype(int)), epochs=2)
    assert found.recipe["task"]["name"] == "tabular-classification"
    numbers = lamina.fit({"kind": "mlp", "hidden_sizes": [4]}, (features, features[:, 1]), epochs=2)
    assert numbers.recipe["task"]["name"] == "tabular-regression"
    assert "test/mae" in numbers.metrics
    own = lamina.fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "digits", epochs=1, **FAST)
    assert own.recipe["model"] == {"kind": "Sequential"}
    with pytest.raises(BundleError, match="not registered"):
        _ = own.bundle


def test_equal_seeds_give_equal_runs() -> None:
    first, second, other = (lamina.fit("mlp", "iris", epochs=2, seed=seed).metrics["train/loss"] for seed in (1, 1, 2))
    assert first == second != other


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    lamina.fit("linear", "iris", epochs=1, threads=before + 1)
    assert torch.get_num_threads() == before


def test_a_run_folder_is_kept_on_request(tmp_path: Path) -> None:
    run = lamina.fit("linear", "iris", epochs=1, run=tmp_path / "run", optimizer={"name": "sgd", "lr": 0.1})
    assert run.path == tmp_path / "run"
    folder = RunFolder.open(tmp_path / "run")
    assert folder.is_finished
    values, origins = folder.recipe()
    assert (values["optimizer"]["name"], origins["optimizer.name"]) == ("sgd", "python")
    assert folder.environment()["data_fingerprint"]


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="no key 'optimiser'"):
        lamina.fit("mlp", "iris", optimiser={"name": "sgd"})
    with pytest.raises(DtypeError, match="The model is a int"):
        lamina.fit(3, "iris")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="epochs is given twice"):
        lamina.fit("mlp", "iris", training={"epochs": 3})
    with pytest.raises(ShapeError, match="7 outputs; the data has 3 classes"):
        lamina.fit({"kind": "mlp", "num_classes": 7}, "iris", epochs=1)
    with pytest.raises(DataError):
        lamina.fit("mlp", "no-such-file.csv")


def test_building_twice_gives_equal_weights_and_splits() -> None:
    recipe = resolve("digits", assignments=["seed=5"]).recipe()
    first, second = (build(recipe, read_data(recipe)) for _ in range(2))
    for (name, one), other in zip(first.model.state_dict().items(), second.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    for split in ("train", "valid", "test"):
        assert torch.equal(first.data.rows[split], second.data.rows[split])


def test_a_saved_split_is_used_and_changed_data_refused(tmp_path: Path) -> None:
    resolved = resolve("iris-mlp")
    run = RunFolder.create(tmp_path / "run", name="iris-mlp", values=resolved.values, origins=resolved.origins)
    data = read_data(resolved.recipe(), run=run)
    saved = saved_split(run)
    assert saved is not None
    assert set(saved) == {"train", "valid"}
    other_seed = resolve("iris-mlp", assignments=["seed=9"]).recipe()
    assert torch.equal(read_data(other_seed, run=run).rows["valid"], data.rows["valid"])
    run.write_environment({"data_fingerprint": "another"})
    with pytest.raises(RunError, match="has changed since the run began"):
        read_data(resolved.recipe(), run=run)
    run.split_file.write_bytes(b"damaged")
    with pytest.raises(RunError, match="cannot be read"):
        read_data(resolved.recipe(), run=run)


def test_balance_reaches_feed_and_loss() -> None:
    labels = np.array([0] * 50 + [1] * 10)
    features = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    data = lamina.load_data((features, labels))
    base = ["data.valid_fraction=0.0"]
    sampled = resolve("tabular-mlp", assignments=[*base, "data.balance=sample"]).recipe()
    weights = build(sampled, read_data(sampled, source=data)).feed_options["weights"]
    assert weights[labels == 1].sum() == pytest.approx(weights[labels == 0].sum())
    weighed = resolve("tabular-mlp", assignments=[*base, "data.balance=weight"]).recipe()
    task = build(weighed, read_data(weighed, source=data)).task
    assert task.config.class_weights == pytest.approx((0.6, 3.0))  # type: ignore[attr-defined]
    numbers = resolve("tabular-regression-mlp", assignments=["data.balance=sample"]).recipe()
    with pytest.raises(ConfigError, match="needs class labels"):
        build(numbers, read_data(numbers, source="diabetes"))


def test_weights_from_elsewhere(tmp_path: Path) -> None:
    run = lamina.fit({"kind": "mlp", "hidden_sizes": [16]}, "iris", epochs=1)
    run.bundle.save(tmp_path / "b")
    recipe = resolve("iris-mlp", weights=str(tmp_path / "b")).recipe()
    model = build(recipe, read_data(recipe)).model
    assert torch.equal(model.state_dict()["head.weight"], run.bundle.model.state_dict()["head.weight"])
    run.bundle.save(tmp_path / "b.zip")
    zipped = resolve("iris-mlp", weights=str(tmp_path / "b.zip")).recipe()
    assert torch.equal(
        build(zipped, read_data(zipped)).model.state_dict()["head.weight"], model.state_dict()["head.weight"]
    )
    other = resolve("iris-mlp", weights=str(tmp_path / "b"), assignments=["model.hidden_sizes=[8]"]).recipe()
    with pytest.raises(WeightsError, match="shapes differ"):
        build(other, read_data(other))


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"rows.train": torch.zeros(3)}, "float32"),
        ({"rows.train": torch.zeros(3, 2, dtype=torch.int64)}, r"\(3, 2\), not as row numbers"),
        ({"rows.valid": torch.zeros(3, dtype=torch.int64)}, "no training rows"),
        ({}, "only nothing"),
    ],
)
def test_a_saved_split_that_is_none(tmp_path: Path, tensors: dict[str, torch.Tensor], why: str) -> None:
    run = RunFolder.create(tmp_path / "run", name="t", values={"seed": 0}, origins={})
    run.split_file.write_bytes(pack_tensors(tensors))
    with pytest.raises(RunError, match=why) as caught:
        saved_split(run)
    assert "split.safetensors" in caught.value.where


class Wrong(nn.Module):
    """Gives one number too few."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.error is not None and self.training:
            raise self.error
        return self.layer(x)


@pytest.mark.parametrize("error", [None, TypeError("of the user's own")])
def test_a_refused_fit_leaves_no_folder(tmp_path: Path, error: Exception | None) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("new", "mine"):
        with pytest.raises((LaminaError, TypeError)):
            lamina.fit(Wrong(error), "iris", epochs=1, run=tmp_path / name)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_interrupted_fit_without_a_folder_speaks_of_no_checkpoint() -> None:
    class Stop(Callback):
        def on_steps(self, trainer: Trainer, num_steps: int, losses: object) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(InterruptedRunError) as caught:
        lamina.fit("linear", "iris", epochs=2, callbacks=[Stop()])
    assert "checkpoint" not in str(caught.value)
    assert "nothing of it was kept" in caught.value.what
    assert "run=" in caught.value.mend
