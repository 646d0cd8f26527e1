"""A time series of the user's own: train, judge, forecast, look, replay; the same at each station."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lamina
from helpers import shared_data
from lamina.cli.main import main
from lamina.core import registry
from lamina.core.errors import InterruptedRunError, UsageError
from lamina.core.run import RunFolder
from lamina.data.loading import load_data
from lamina.explain.subjects import subject_of
from lamina.explain.views import show_view
from lamina.recipes.build import build, choose_machine, read_data
from lamina.recipes.recipe import resolve
from lamina.recipes.session import job_of_run
from series_case import write_hours

SMALL = ["data.past_length=24", "data.horizon=6", "training.tensorboard=false"]


def document(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run a command with --json and give its one document."""
    status = main([*words, "--json", "--quiet"])
    told = capsys.readouterr()
    assert status == 0, told.err
    found: dict[str, Any] = json.loads(told.out)
    return found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hours(tmp_path_factory.mktemp("series"), rows=400, width=2, noise=0.5)


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What data alone chooses."""
    folder = tmp_path_factory.mktemp("runs") / "hours"
    assert main(["train", "--data", str(file), "--run", str(folder), "--quiet", *SMALL, "training.epochs=40"]) == 0
    return folder


def test_data_alone_chooses_a_recipe_that_beats_the_last_season(run: Path) -> None:
    folder = RunFolder.open(run)
    values, _ = folder.recipe()
    assert values["name"] == "series-dlinear"
    result = folder.result()
    assert result is not None
    assert result["metrics"]["test/mase"] < 0.9
    assert 0.6 < result["metrics"]["test/coverage"] <= 1.0


def test_judged_again_it_says_the_same(run: Path, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = RunFolder.open(run).result()
    assert result is not None
    for words in ([], ["--data", str(file)]):
        found = document(["evaluate", str(run), *words], capsys)
        assert found["own_split"]
        assert found["split"] == "test"
        for name, value in found["metrics"].items():
            assert value == pytest.approx(result["metrics"][f"test/{name}"], rel=1e-6), name
    assert [row["target"] for row in found["details"]["per_target"]] == ["a", "b"]


def test_another_file_is_judged_whole_with_the_scale_of_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_hours(tmp_path, rows=100, width=2, noise=0.4)
    found = document(["evaluate", str(run), "--data", str(other)], capsys)
    assert (found["split"], found["num_samples"], found["own_split"]) == ("all", 100 - 30 + 1, False)
    assert found["metrics"]["mase"] < 1.0


def test_the_rows_after_the_file_are_forecast(
    run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = document(["predict", str(run), str(file)], capsys)["predictions"]
    assert found["times"][0] == "2020-01-17 16:00:00"
    assert list(found["forecast"]) == ["a", "b"]
    assert len(found["forecast"]["a"]) == 6
    assert main(["predict", str(run), str(file), "--output", str(tmp_path / "next.csv"), "--quiet"]) == 0
    rows = list(csv.DictReader((tmp_path / "next.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["time"] for row in rows] == found["times"]
    assert [float(row["a"]) for row in rows] == pytest.approx(found["forecast"]["a"])
    assert all(float(row["b.lower"]) <= float(row["b"]) <= float(row["b.upper"]) for row in rows)
    assert main(["predict", str(run), str(file), "--quiet"]) == 0
    assert "a.lower" in capsys.readouterr().out
    # The same from Python, from the bundle, and from the values alone.
    values = load_data(file).splits["all"]["series"]
    (bare,) = lamina.load_bundle(run / "bundle").predict(values)
    assert bare["forecast"] == found["forecast"]


def test_resume_is_exact_and_replays(file: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert document(["verify", str(run)], capsys)["resume_exact"]
    words = [
        *SMALL,
        "model.kind=lstm_forecaster",
        "model.hidden_size=6",
        "model.dropout=0.2",
        "training.epochs=2",
        "training.checkpoint_every=7",
    ]

    def trained(folder: Path, *, until: int | None) -> dict[str, torch.Tensor]:
        recipe = resolve("series-dlinear", data=str(file), assignments=words).recipe()
        for resume, stop in ((False, until), *([(True, None)] if until else [])):
            job = build(recipe, read_data(recipe), machine=choose_machine("cpu", 1))
            if stop is None:
                job.trainer(folder).fit(resume=resume)
            else:
                with pytest.raises(InterruptedRunError):
                    job.trainer(folder).fit(until=stop)
        return dict(job.model.state_dict())

    whole, cut = trained(tmp_path / "whole", until=None), trained(tmp_path / "cut", until=11)
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_the_view_shows_forecasts(run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "forecast.png"
    words = ["inspect", str(run), "forecast", "view.target=b", "view.windows=3"]
    shown = document([*words, "--output", str(picture)], capsys)
    assert (shown["series"], shown["split"], len(shown["windows"])) == ("b", "test", 3)
    assert len(shown["mae_by_step"]) == 6
    assert np.asarray(Image.open(picture).convert("RGB")).std() > 5
    bundle = lamina.load_bundle(run)
    job = job_of_run(RunFolder.open(run))
    columns = job.data.splits["test"]
    result = show_view("forecast", subject_of(bundle, columns=columns, split="test"), target="b", windows=3)
    outputs = bundle.pipeline.outputs(columns)
    rows = result.arrays["row"].tolist()
    assert rows == [0, round((columns.num_rows - 1) / 2), columns.num_rows - 1]
    np.testing.assert_allclose(result.arrays["forecast"], outputs["forecast"][rows, :, 1], rtol=1e-5)
    np.testing.assert_array_equal(result.arrays["truth"], columns["future"][rows, :, 1])
    errors = (outputs["forecast"] - columns["future"]).abs()[:, :, 1].double().mean(0)
    np.testing.assert_allclose(result.arrays["step_mae"], errors, rtol=1e-5)
    naive = (columns["past"][:, :6, 1] - columns["future"][:, :, 1]).abs().double().mean(0)
    np.testing.assert_allclose(result.arrays["step_naive_mae"], naive, rtol=1e-6)
    with pytest.raises(UsageError, match="labelled rows"):
        show_view("forecast", subject_of(bundle))
    with pytest.raises(Exception, match="'c'"):
        show_view("forecast", subject_of(bundle, columns=columns), target="c")


def test_lamina_data_and_report(run: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(["data", str(file)], capsys)
    assert found["reader"] == "series"
    assert found["statistics"]["series"]["step"] == "hourly"
    assert any("hourly" in note for note in found["notes"])
    page = tmp_path / "report.html"
    assert main(["report", str(run), "--output", str(page), "--baselines", "--quiet"]) == 0
    (baseline,) = json.loads((run / "baselines.json").read_text())["baselines"]
    assert baseline["name"] == "seasonal_naive"
    result = RunFolder.open(run).result()
    assert result is not None
    assert baseline["metrics"]["mae"] > result["metrics"]["test/mae"]
    assert "MAE" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("recipe", ["etth1-dlinear", "etth1-lstm", "etth1-cnn", "airline-lstm", "series-dlinear"])
def test_each_recipe_in_miniature(recipe: str, file: Path) -> None:
    words = [*SMALL, "data.boundaries=[200,300,400]", "training.epochs=1", "training.batch_size=32"]
    if "lstm" in recipe:
        words.append("model.hidden_size=4")
    resolved = resolve(recipe, data=str(file), assignments=words).recipe()
    result = build(resolved, read_data(resolved), machine=choose_machine("cpu", 1)).trainer(None).fit()
    assert np.isfinite(result.metrics["test/mse"])
    assert result.bundle is not None
    assert registry.describe("recipe", recipe).source


def test_a_season_repeated_goes_the_same_way(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "train",
        "series-dlinear",
        "--data",
        str(file),
        "--run",
        str(tmp_path / "naive"),
        *SMALL,
        "model.kind=seasonal_naive",
    ]
    found = document(words, capsys)
    assert found["metrics"]["test/mase"] == pytest.approx(1.0, abs=0.2)
    (forecast,) = document(["predict", str(tmp_path / "naive"), str(file)], capsys)["predictions"]
    values = load_data(file).splits["all"]["series"]
    np.testing.assert_allclose(forecast["forecast"]["a"], values[-24:-18, 0], rtol=1e-4)


def test_python_fits_a_series(file: Path) -> None:
    data = {"past_length": 24, "horizon": 6}
    done = lamina.fit("dlinear", str(file), epochs=2, data=data, optimizer={"name": "adam", "lr": 0.01})
    assert done.recipe["task"]["name"] == "time-series-forecasting"
    assert done.metrics["test/mae"] > 0
    assert len(done.bundle.predict(str(file))[0]["forecast"]["a"]) == 6


def test_other_recipes_and_shuffled_splits_are_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["mnist-mlp", "--data", str(file)], "series-dlinear"),
        (["series-dlinear", "--data", str(file), "data.split=random"], "shuffle"),
        (["series-dlinear", "--data", "digits"], "time series"),
    ):
        status = main(["train", *words, "--run", str(tmp_path / "refused"), "--quiet"])
        told = capsys.readouterr().err
        assert status == 2
        assert said in told, told
        assert all(f"  {part} " in told for part in ("where", "accepts", "mend"))


def test_the_standard_protocol_on_real_readings() -> None:
    recipe = resolve("etth1-dlinear", data=str(shared_data("ett/ETTh1.csv.gz"))).recipe()
    data = read_data(recipe)
    assert data.spec.num_rows == {"train": 8209, "valid": 2785, "test": 2785}
    assert data.spec.columns["past"].shape == (336, 7)
