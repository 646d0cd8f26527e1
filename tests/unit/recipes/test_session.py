"""Training a run folder: who is told what, what fits, who else trains there, what is taken back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamina.core.errors import ConfigError, InterruptedRunError, RunError
from lamina.core.run import RunFolder
from lamina.data.inspection import MAX_LISTED
from lamina.recipes.recipe import resolve
from lamina.recipes.session import train_run
from lamina.train.callbacks import Callback
from lamina.train.trainer import Trainer


class Ear:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def make(folder: Path, recipe: str = "iris-mlp", *words: str, data: str | None = None) -> RunFolder:
    values = resolve(recipe, data=data, assignments=["training.epochs=2", "training.compile=never", *words])
    return RunFolder.create(folder, name="t", values=values.values, origins=values.origins)


class StopAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_steps(self, trainer: Trainer, num_steps: int, losses: Any) -> None:
        if trainer.cursor.step >= self.step:
            trainer._interruption.wanted = True


def test_a_resume_says_where_it_continues(tmp_path: Path) -> None:
    run = make(tmp_path / "run", "iris-mlp", "training.log_every=1", "training.batch_size=30")
    with pytest.raises(InterruptedRunError):
        train_run(run, callbacks=[StopAt(5)])
    ear = Ear()
    train_run(run, resume=True, listener=ear)
    assert "Continuing in epoch 2 of 2, after step 5 of 8." in ear.notes
    fresh = Ear()
    train_run(make(tmp_path / "fresh"), resume=True, listener=fresh)
    assert "There is no checkpoint yet: training starts from the beginning." in fresh.notes


def test_leaks_are_counted_and_the_file_that_lists_them_does(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=(120, 3)).round(3)
    numbers[60:] = numbers[:60]  # every row twice
    numbers[60:90, 0] += 1e-5
    rows = [",".join(map(str, [*row, "ab"[i % 2]])) for i, row in enumerate(numbers)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["x,y,z,kind", *rows]) + "\n")
    run = make(tmp_path / "run", "tabular-mlp", "data.label=kind", data=str(table))
    ear = Ear()
    train_run(run, listener=ear)
    document = run.document("data.json")
    assert document is not None
    counts = document["leak_counts"][0]
    assert counts["exact"] > 0
    assert counts["near"] > 0
    last = ear.warnings[-1]
    assert f"{counts['exact']} of the 24 rows of valid stand in train" in last
    assert f"{counts['near']} have a near duplicate there" in last
    assert str(run.path / "data.json") in last
    assert 3 < len(document["leaks"]) <= MAX_LISTED
    assert "lamina data" not in "".join(ear.warnings)


@pytest.mark.parametrize(
    ("recipe", "data", "says", "fits"),
    [
        ("mnist-mlp", "iris", "mnist-mlp learns from images; iris holds a table", "lamina train iris-mlp --data iris"),
        ("tabular-mlp", "digits", "tabular-mlp learns from a table; digits holds images", "lamina train digits --data"),
    ],
)
def test_a_recipe_of_another_kind_is_refused_by_name(
    tmp_path: Path, recipe: str, data: str, says: str, fits: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        train_run(make(tmp_path / "run", recipe, data=data))
    assert says in caught.value.what
    assert fits in caught.value.mend


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    refused: list[RunError] = []

    class Meddler(Callback):
        def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
            def attempt() -> None:
                try:
                    train_run(run, resume=True)
                except RunError as error:
                    refused.append(error)

            other = threading.Thread(target=attempt)
            other.start()
            other.join()

    expected = train_run(make(tmp_path / "alone")).metrics
    assert train_run(run, callbacks=[Meddler()]).metrics == expected
    assert len(refused) == 2
    assert "A training is under way" in refused[0].what
    assert not (run.path / ".lock").exists()


@pytest.mark.parametrize("text", ["data: 3\n", "data: {path: [1]}\n", "training: []\n", "seed: x\n"])
def test_a_recipe_yaml_that_was_changed_into_nonsense(tmp_path: Path, text: str) -> None:
    run = make(tmp_path / "run")
    run.recipe_file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        train_run(run, resume=True)
    assert "recipe.yaml" in caught.value.where


def test_data_alone_takes_values_of_the_model_too(tmp_path: Path) -> None:
    given = {"data": {"path": "digits"}, "model": {"dense": [{"size": 8}]}, "training": {"epochs": 1}}
    run = RunFolder.create(tmp_path / "run", name="t", values=given, origins={})
    train_run(run)
    values, _ = run.recipe()
    assert values["name"] == "digits"
    assert [layer["size"] for layer in values["model"]["dense"]] == [8]
