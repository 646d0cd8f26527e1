"""Baselines and learning curves: the same rows, the same judging, and what cannot be fitted says why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lamina.core.errors import RunError
from lamina.core.run import RunFolder
from lamina.explain import report_sections as sections
from lamina.recipes import baselines
from lamina.recipes.baselines import write_baselines, write_learning_curve
from lamina.recipes.recipe import resolve
from lamina.recipes.session import train_run


class Notes:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)


def trained(path: Path, recipe: str, *words: str, data: str | None = None) -> RunFolder:
    resolved = resolve(recipe, data=data, assignments=["training.epochs=2", "training.tensorboard=false", *words])
    run = RunFolder.create(path, name=recipe, values=resolved.values, origins=resolved.origins)
    train_run(run)
    return run


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_LINEAR_STEPS", 300)


def test_baselines_are_judged_where_the_run_was(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "iris-mlp", "data.test_fraction=0.3")
    notes = Notes()
    document = write_baselines(run, listener=notes)
    assert json.loads((run.path / "baselines.json").read_text(encoding="utf-8")) == document
    evaluation = run.document("evaluation.json")
    assert evaluation is not None
    assert document["split"] == "test"
    assert document["num_samples"] == evaluation["test"]["num_samples"] == 45
    assert [found["name"] for found in document["baselines"]] == ["knn", "linear"]
    assert all(found["metrics"]["accuracy"] > 0.8 for found in document["baselines"])
    assert notes.lines == ["baseline: 5 nearest neighbours", "baseline: Linear model"]
    result = run.result()
    assert result is not None
    shown = sections.comparison("Net", result["metrics"], baselines=document, matrix=None, num_rows=45)
    assert shown is not None
    assert [row["cells"][0] for row in shown["rows"]] == ["Net", "5 nearest neighbours", "Linear model"]


def test_a_regression_is_compared_with_the_mean(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "tabular-regression-mlp", data="diabetes")
    found = {row["name"]: row["metrics"] for row in write_baselines(run)["baselines"]}
    assert set(found) == {"knn", "linear", "mean"}
    assert found["mean"]["r2"] == pytest.approx(0.0, abs=0.1)
    assert found["linear"]["mae"] < found["mean"]["mae"]


def test_a_model_is_not_compared_with_itself(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "iris-mlp", "model={kind: knn, k: 3}", "training.epochs=1")
    document = write_baselines(run)
    assert [found["name"] for found in document["baselines"]] == ["linear"]
    assert document["skipped"] == [{"name": "knn", "reason": "it is the model of the run itself"}]


def test_too_many_rows_to_search_are_skipped_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "_MOST_KNN_VALUES", 100)
    document = write_baselines(trained(tmp_path / "run", "iris-mlp"))
    assert [found["name"] for found in document["baselines"]] == ["linear"]
    assert "480 stored values are too many" in document["skipped"][0]["reason"]


def test_the_learning_curve_ends_at_the_whole_training_split(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "iris-mlp")
    document = write_learning_curve(run)
    assert [point["rows"] for point in document["points"]] == [12, 24, 60, 120]
    result = run.result()
    assert result is not None
    assert document["points"][-1]["value"] == result["metrics"]["valid/accuracy"], "all rows repeat the run itself"
    assert document["split"] == "valid"
    assert document["metric"] == "accuracy"


def test_without_held_out_rows_there_is_nothing_to_compare(tmp_path: Path) -> None:
    run = trained(tmp_path / "run", "iris-mlp", "data.valid_fraction=0")
    with pytest.raises(RunError, match="held no rows out"):
        write_baselines(run)
