"""`lamina inspect` with views: what is read for them, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lamina as lm
from lamina.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "digits"
    words = ["model.kind=linear", "training.epochs=1", "--quiet"]
    assert main(["train", "digits", "--run", str(folder), *words]) == 0
    return folder


def document(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["inspect", *words, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_an_input_file_is_read_as_predict_reads_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = lm.load_data("digits").splits["all"]["image"][0, 0].numpy()
    file = tmp_path / "zero.png"
    Image.fromarray((pixels.astype(float) * 255 / 16).round().astype(np.uint8)).save(file)
    found = document(capsys, str(run), "saliency", "--input", str(file), "view.method=gradient")
    assert [row["input"] for row in found["inputs"]] == ["zero.png"]  # type: ignore[attr-defined]


def test_a_runs_own_rows_are_its_test_split(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, str(run), "mistakes")
    assert (found["split"], found["num_rows"]) == ("test", 359)
    found = document(capsys, str(run), "mistakes", "--split", "train")
    assert (found["split"], found["out_of_sample"]) == ("train", False)
    assert main(["inspect", str(run), "layers", "--split", "train"]) == 2
    assert "looks at no split" in capsys.readouterr().err


def test_a_bundle_needs_data(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tmp_path / "mine.zip"
    lm.load_bundle(run).save(bundle)
    assert main(["inspect", str(bundle), "mistakes"]) == 2
    assert "--data PATH" in capsys.readouterr().err
    found = document(capsys, str(bundle), "mistakes", "--data", "digits")
    assert (found["split"], found["num_rows"]) == ("all", 1797)
    found = document(capsys, str(bundle), "saliency", "--data", "digits", "view.most=2", "view.method=gradient")
    assert [row["input"] for row in found["inputs"]] == ["row 0", "row 1"]  # type: ignore[attr-defined]


def test_what_is_written_by_the_ending(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["inspect", str(run), "saliency", "view.method=gradient", "--quiet", "--output"]
    for ending in ("png", "html", "json", "npz"):
        assert main([*words, str(tmp_path / f"view.{ending}")]) == 0
    page = (tmp_path / "view.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "data:image/png;base64," in page
    assert "not why" in page
    written = json.loads((tmp_path / "view.json").read_text())
    assert written["schema"] == 1
    arrays = np.load(tmp_path / "view.npz", allow_pickle=False)
    assert arrays["gradient"].shape == arrays["input"].shape == (4, 1, 8, 8)
    assert main([*words, str(tmp_path / "view.gif")]) == 2
    assert ".png or .html or .json or .npz" in capsys.readouterr().err
    assert main(["inspect", str(run), "layers", "--output", str(tmp_path / "layers.png")]) == 2
    assert "draws no picture" in capsys.readouterr().err


def test_the_learning_rate_of_a_recipe_and_of_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("learning-rate", "view.steps=15", "view.lowest=1e-4", "view.highest=1.0")
    for subject, extra in (("digits", ("model.kind=linear",)), (str(run), ())):
        found = document(capsys, subject, *words, *extra)
        assert found["num_steps"] == len(found["rates"]) <= 15  # type: ignore[arg-type]
        assert 1e-4 <= float(found["suggestion"]) <= 1.0  # type: ignore[arg-type]
    assert main(["inspect", "lenet5", "learning-rate"]) == 2
    assert "not a training" in capsys.readouterr().err
    assert main(["inspect", "digits", "learning-rate", "view.lowest=2.0", "view.highest=1.0"]) == 2
    assert "cannot be made" in capsys.readouterr().err
