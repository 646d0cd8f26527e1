"""`lamina inspect` with views: what is read for them, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lamina as lm
from lamina.cli.main import main
from lamina.models.weights.table import get_table


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


def test_rows_for_a_model_with_weights_from_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = get_table("akamaster-resnet").invert(lm.create_model("resnet20", seed=0).state_dict())
    torch.save({"state_dict": theirs}, tmp_path / "theirs.th")
    draw = np.random.default_rng(0)
    for name in ("cat", "ship"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            pixels = draw.integers(0, 256, (40, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    words = ("resnet20", "mistakes", "--data", str(tmp_path / "photos"))
    found = document(capsys, *words, "--weights", str(tmp_path / "theirs.th"))
    assert found["num_rows"] == 12
    assert {row["true"] for row in found["unsure"]} == {"cat", "ship"}  # type: ignore[attr-defined]
    assert main(["inspect", *words]) == 2
    told = capsys.readouterr().err
    assert "resnet20 has no weights yet" in told
    assert "--weights FILE" in told


def test_a_training_that_leaves_its_augmentation_out_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("extends: digits\naugment: [rotate]\nstages:\n  head: {epochs: 1, augment: false}\n")
    found = document(capsys, str(recipe), "augment")
    assert found["left_out"] == "The training leaves all this out in its only stage, head."
    recipe.write_text(f"{recipe.read_text()}  body: {{epochs: 1}}\n")
    assert document(capsys, str(recipe), "augment")["left_out"] == "The training leaves all this out in head."
    recipe.write_text("extends: digits\naugment: [rotate]\n")
    assert document(capsys, str(recipe), "augment")["left_out"] is None
