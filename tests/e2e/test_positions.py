"""Signals and volumes from the user's own files: train, take away, predict, judge; the same at each station."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lamina
from lamina.cli.main import main
from lamina.core.run import RunFolder
from lamina.data.config import DataConfig
from lamina.data.position_generators import SignalsConfig, VolumesConfig, signals, volumes


def document(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Run a command with --json and give its one document."""
    status = main([*words, "--json", "--quiet"])
    told = capsys.readouterr()
    assert status == 0, told.err
    found: dict[str, Any] = json.loads(told.out)
    return found


def signal_csv(folder: Path) -> Path:
    columns = signals(DataConfig(), SignalsConfig(num_rows=120, length=32, noise=0.05)).splits["all"]
    names = np.array(["sine", "square", "saw", "chirp"])[columns["label"].numpy()]
    lines = [",".join(["label", *(f"t{i}" for i in range(32))])]
    for name, row in zip(names, columns["signal"][:, 0].numpy().round(4), strict=True):
        lines.append(",".join([name, *map(str, row)]))
    path = folder / "waves.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def signal_npz(folder: Path) -> Path:
    """Two channels last, under the names that people use."""
    columns = signals(DataConfig(), SignalsConfig(num_rows=120, length=32, noise=0.05)).splits["all"]
    one = columns["signal"].numpy()
    np.savez(folder / "waves.npz", X=np.concatenate([one, 2 * one], axis=1).swapaxes(1, 2), y=columns["label"].numpy())
    return folder / "waves.npz"


def volume_npz(folder: Path) -> Path:
    columns = volumes(DataConfig(), VolumesConfig(num_rows=60, size=8)).splits["all"]
    np.savez(folder / "solids.npz", volumes=columns["volume"].numpy(), labels=columns["label"].numpy())
    return folder / "solids.npz"


def clips(folder: Path) -> Path:
    """A bright bar that moves to the right or downwards."""
    generator = np.random.default_rng(0)
    for number in range(24):
        kind = ("right", "down")[number % 2]
        place = folder / "clips" / kind / f"clip{number:02d}"
        place.mkdir(parents=True)
        for frame in range(4):
            pixels = generator.integers(0, 40, (8, 8), dtype=np.uint8)
            at = 2 * frame
            pixels[(slice(None), slice(at, at + 2)) if kind == "right" else (slice(at, at + 2), slice(None))] += 200
            Image.fromarray(pixels).save(place / f"frame{frame + 1:03d}.png")
    return folder / "clips"


SMALL = ["training.epochs=4", "training.batch_size=8", "training.tensorboard=false"]
VOLUME = [*SMALL, "model.blocks=[{channels: 4}, {channels: 8}]"]


@pytest.mark.parametrize(
    ("make", "recipe", "words", "classes"),
    [
        (signal_csv, "signal-cnn1d", SMALL, ["chirp", "saw", "sine", "square"]),
        (signal_npz, "signal-cnn1d", SMALL, ["0", "1", "2", "3"]),
        (volume_npz, "volume-cnn3d", VOLUME, ["0", "1", "2"]),
        (clips, "volume-cnn3d", VOLUME, ["down", "right"]),
    ],
)
def test_train_predict_evaluate(
    make, recipe: str, words: list[str], classes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(make(tmp_path)), str(tmp_path / "run")
    trained = document(["train", recipe, "--data", data, "--run", run, *words], capsys)
    losses = [line["loss"] for line in RunFolder.open(run).metrics() if line["split"] == "train_epoch"]
    assert losses[-1] < losses[0]
    assert trained["metrics"]["valid/accuracy"] >= 0

    bundle = tmp_path / "taken.zip"
    lamina.load_bundle(run).save(bundle)
    found = [document(["predict", str(place), data], capsys)["predictions"] for place in (run, bundle)]
    assert found[0] == found[1]
    assert sorted(found[0][0]["probabilities"]) == classes
    assert found[0] == json.loads(json.dumps(lamina.load_bundle(bundle).predict(data)))

    judged = document(["evaluate", str(bundle), "--data", data, "--split", "all"], capsys)
    assert judged["num_samples"] == len(found[0])
    assert judged["labels"] == classes
    own = document(["evaluate", run, "--data", data], capsys)
    assert own["own_split"]

    layers = document(["inspect", run], capsys)["layers"]
    assert layers[0]["type"].startswith("Conv1d" if recipe == "signal-cnn1d" else "Conv3d")
    assert document(["data", data], capsys)["reader"] in ("signal", "volume", "npz")
    assert document(["verify", run], capsys)["golden"]


def test_data_alone_chooses_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for make, recipe in ((signal_csv, "signal-cnn1d"), (clips, "volume-cnn3d")):
        words = ["--data", str(make(tmp_path)), "--run", str(tmp_path / recipe), "training.epochs=1"]
        assert document(["train", *words], capsys)["recipe"] == recipe


def test_clips_are_predicted_at_the_length_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    document(["train", "volume-cnn3d", "--data", str(clips(tmp_path)), "--run", run, *VOLUME], capsys)
    longer = tmp_path / "new" / "wave"
    longer.mkdir(parents=True)
    for frame in range(9):
        Image.fromarray(np.full((16, 16), 9 * frame, dtype=np.uint8)).save(longer / f"{frame}.png")
    predictions = document(["predict", run, str(tmp_path / "new")], capsys)["predictions"]
    assert [found["input"] for found in predictions] == ["wave"]


def test_in_python(tmp_path: Path) -> None:
    columns = signals(DataConfig(), SignalsConfig(num_rows=80, length=32)).splits["all"]
    arrays = (columns["signal"][:, 0].numpy(), columns["label"].numpy())
    run = lamina.fit("cnn1d", arrays, task="time-series-classification", epochs=2)
    predictions = run.bundle.predict(arrays[0][:3])
    assert [found["input"] for found in predictions] == ["0", "1", "2"]
    run.bundle.save(tmp_path / "waves.bundle")
    again = lamina.load_bundle(tmp_path / "waves.bundle")
    assert again.predict(arrays[0][:3]) == predictions
    assert "Signals, 32 steps, 1 channel" in (tmp_path / "waves.bundle" / "README.md").read_text(encoding="utf-8")
    assert run.metrics["test/accuracy"] >= 0


def test_an_image_recipe_refuses_signals_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "image-cnn", "--data", str(signal_csv(tmp_path)), "--run", str(tmp_path / "run")]) == 2
    assert "signal-cnn1d" in capsys.readouterr().err
    columns = volumes(DataConfig(), VolumesConfig(num_rows=12, size=8)).splits["all"]
    np.savez(tmp_path / "x.npz", x=columns["volume"][:, 0].numpy(), y=columns["label"].numpy())
    assert main(["train", "signal-cnn1d", "--data", str(tmp_path / "x.npz"), "--run", str(tmp_path / "other")]) == 2
    assert "ShapeError" in capsys.readouterr().err
