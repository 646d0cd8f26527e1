"""Transfer from the command line: digits 0 to 4 learned first, then 5 to 9 from a few pictures each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

import lamina as lm
from helpers import shared_data
from lamina.cli.main import main
from lamina.core.run import RunFolder
from lamina.models.factory import create_model
from lamina.models.weights.table import get_table
from lamina.tasks.bundle import load_bundle

NETWORK = ["model.kind=cnn", "model.blocks=[{channels: 16, dropout: 0.1}, {channels: 32}]", "model.dense=[{size: 32}]"]
SMALL = [*NETWORK, "data.shape=[8,8]", "training.tensorboard=false", "training.batch_size=16"]
FINETUNE = ["stages.head.epochs=25", "training.epochs=3"]


def pictures(folder: Path, *, digits: range, each: int) -> Path:
    """`class/number.png` from scikit-learn's digits; the classes have names that the other half has not."""
    found = load_digits()
    for digit in digits:
        place = folder / f"digit {digit}"
        place.mkdir(parents=True)
        for number, image in enumerate(found.images[found.target == digit][:each]):
            Image.fromarray((image * 15.9).astype("uint8")).save(place / f"{number}.png")
    return folder


def lamina(*words: str, status: int = 0) -> None:
    assert main([*words, "--quiet"]) == status


def train(*words: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    lamina("train", *words, "--json")
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows the digits 0 to 4, and pictures of the others."""
    folder = tmp_path_factory.mktemp("transfer")
    old = pictures(folder / "old", digits=range(5), each=80)
    pictures(folder / "new", digits=range(5, 10), each=20)
    words = [*SMALL, "training.epochs=20", "optimizer.lr=5e-3", "--run", str(folder / "run")]
    lamina("train", "image-cnn", "--data", str(old), "preprocess=[{name: scale, low: -1.0, high: 1.0}]", *words)
    return folder


def words(folder: Path, name: str) -> list[str]:
    return [
        "--data",
        str(folder / "new"),
        "--weights",
        str(folder / "run"),
        "--run",
        str(folder / name),
        *SMALL,
        "optimizer.lr=0.02",
    ]


def test_a_new_head_on_a_frozen_body(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = train("photos-transfer", *words(learned, "head"), "training.epochs=25", capsys=capsys)
    assert document["metrics"]["valid/accuracy"] > 0.5
    assert document["choices"]["features"]["value"] == "once"
    old, new = (load_bundle(learned / name / "bundle").model.state_dict() for name in ("run", "head"))
    for name, tensor in new.items():
        assert torch.equal(tensor, old[name]) != name.startswith("head."), name
    assert load_bundle(learned / "head" / "bundle").spec.classes == tuple(f"digit {n}" for n in range(5, 10))


def test_small_data_is_cross_validated_in_result_and_report(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = learned / "crossed"
    document = train("photos-transfer", *words(learned, "crossed"), "training.epochs=25", capsys=capsys)
    found = document["cross_validation"]
    assert (found["folds"], found["num_rows"]) == (5, 100)
    assert found["reason"] == "the rarest class has 4 validation rows, fewer than 50"
    accuracy = found["metrics"]["accuracy"]
    assert len(accuracy["folds"]) == 5
    assert accuracy["mean"] == pytest.approx(sum(accuracy["folds"]) / 5)
    assert 0.5 < accuracy["mean"] <= 1
    lamina("report", str(run))
    assert "cross-validation" in (run / "report.html").read_text(encoding="utf-8").lower()
    again = train("photos-transfer", *words(learned, "not-crossed"), "training.cross_validate=never", capsys=capsys)
    assert "cross_validation" not in again


def test_both_stages_and_their_exact_resume(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = train("photos-finetune", *words(learned, "both"), *FINETUNE, capsys=capsys)
    assert document["epochs"] == 28
    assert {"features", "features/finetune"} <= document["choices"].keys()
    values, origins = RunFolder.open(learned / "both").recipe()
    assert values["stages"]["finetune"]["layer_decay"] == 0.8
    assert origins["stages.head.epochs"] == "command line"
    assert origins["stages.finetune.warmup"] == "recipe"
    assert origins["stages.finetune.allow_untrained_head"] == "default"
    capsys.readouterr()
    lamina("verify", str(learned / "both"), "--json")
    verified = json.loads(capsys.readouterr().out)
    assert verified["resume_exact"] is True


def test_unfreezing_first_is_refused_unless_told(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = learned / "all.yaml"
    recipe.write_text("extends: photos-transfer\nstages:\n  - {name: head, trainable: null}\n")
    lamina("train", str(recipe), *words(learned, "refused"), status=2)
    text = capsys.readouterr().err
    for part in ("changes the body while the head is new", "stages.head.allow_untrained_head=true"):
        assert part in text
    assert not (learned / "refused").exists()
    told = ["stages.head.allow_untrained_head=true", "training.epochs=1"]
    lamina("train", str(recipe), *words(learned, "told"), *told)


def test_without_weights_it_says_what_can_be_done(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("photos-transfer", "photos-finetune"):
        lamina("train", name, "--data", str(learned / "new"), "--run", str(learned / "none"), status=2)
        text = " ".join(capsys.readouterr().err.split())
        for part in (
            "no weights to begin from",
            "--weights FILE",
            "mobilenet-v1",
            "resnet18-f37072fd.pth",
            "sports-cnn",
        ):
            assert part in text, part
        assert not (learned / "none").exists()


def test_python_cross_validates_too(learned: Path) -> None:
    run = lm.fit(
        load_bundle(learned / "run" / "bundle").model,
        str(learned / "new"),
        epochs=5,
        seed=0,
        data={"shape": (8, 8)},
        stages={"head": {"trainable": ["head"], "augment": False}},
    )
    assert run.result.extras["cross_validation"]["folds"] >= 2


def test_images_are_prepared_as_the_weights_source_did(learned: Path, tmp_path: Path) -> None:
    table, model = get_table("akamaster-resnet"), create_model("resnet20", num_classes=10, seed=0)
    path = tmp_path / "resnet20.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in table.invert(model.state_dict()).items()}, path)
    words = ["model.kind=resnet20", "data.shape=[32,32,3]", "training.tensorboard=false"]
    words += ["--data", str(learned / "new"), "--weights", str(path), "--run", str(tmp_path / "run")]
    lamina("train", "photos-transfer", *words, "training.epochs=1", "training.cross_validate=never")
    steps = load_bundle(tmp_path / "run" / "bundle").pipeline.preprocessing.describe()["steps"]
    assert [step["name"] for step in steps] == ["scale", "normalise"]
    assert steps[1]["mean"] == [0.485, 0.456, 0.406]
    lamina("verify", str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("stages.finetune.epoch=3", ("'epoch'", "'epochs'")),
        ("stages.finetune.layer_decay=2", ("stages.finetune.layer_decay", "above 1")),
        ("stages.finetune.optimizer.rate=2", ("stages.finetune.optimizer.rate",)),
        ("stages.finetune.schedule={name: cosin}", ("cosine",)),
        ("stages.head.trainable=[hat]", ("stages.head.trainable", "body, head")),
        ("stages=[{trainable: [head]}]", ("Stage 0 has no name",)),
    ],
)
def test_wrong_stages_are_refused(
    word: str, parts: tuple[str, ...], learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lamina("train", "photos-finetune", *words(learned, "wrong"), word, status=2)
    text = capsys.readouterr().err
    for part in parts:
        assert part in text, text


def test_pretrained_features_know_sports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = shared_data("sports")
    weights = shared_data("pretrained_mobilenet") / "mobilenet_v1_1.0_224_imagenet_to_pw12_fp16.npz"
    words = ["--data", str(photos), "--weights", str(weights), "--run", str(tmp_path / "run"), "data.limit=60"]
    document = train("photos-transfer", *words, "training.cross_validate=never", capsys=capsys)
    assert document["metrics"]["valid/accuracy"] >= 0.8  # with 20 photographs per class
    assert re.search(r"mobilenet", (tmp_path / "run" / "recipe.yaml").read_text())
