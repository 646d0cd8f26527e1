"""Weights from elsewhere from the command line: train, inspect, predict and evaluate."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import shared_data
from lamina.cli.main import main
from lamina.models.factory import create_model
from lamina.models.weights.table import get_table
from torch_files import saved

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A resnet20 with random weights, as the source of the CIFAR-10 files would have written it."""
    table = get_table("akamaster-resnet")
    state = table.invert(create_model("resnet20", seed=0).state_dict())
    state = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    data = saved({"state_dict": state, "best_prec1": 91.5}, legacy=True)
    path = tmp_path_factory.mktemp("weights") / f"resnet20-{hashlib.sha256(data).hexdigest()[:8]}.th"
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of three of the classes, not in the source's order, of another size than it had."""
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for number in range(12):
        kind = ("truck", "bird", "cat")[number % 3]
        (folder / kind).mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    return folder


def document(capsys: pytest.CaptureFixture[str], *words: str | Path, status: int = 0) -> tuple[dict[str, Any], str]:
    assert main([*map(str, words), "--json"]) == status
    told = capsys.readouterr()
    return json.loads(told.out), told.err


def test_evaluate_matches_labels_by_name(file: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, notes = document(capsys, "evaluate", "resnet20", "--data", photos, "--weights", file)
    assert found["num_samples"] == 12
    assert tuple(found["labels"]) == CLASSES
    rows = np.array(found["confusion_matrix"]).sum(axis=1)
    assert dict(zip(CLASSES, rows.tolist(), strict=True)) == {
        name: 4 if name in ("truck", "bird", "cat") else 0 for name in CLASSES
    }
    assert "97 of the file's 97 tensors are taken, by the table akamaster-resnet." in notes
    assert "best_prec1 = 91.5" in notes


def test_predict_prepares_images_as_the_source_did(
    file: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = document(capsys, "predict", "resnet20", photos / "cat", "--weights", file)
    pixels = []
    for path in sorted((photos / "cat").iterdir()):
        box = (4.0, 0.0, 44.0, 40.0)
        fitted = Image.open(path).resize((32, 32), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
        pixels.append(np.asarray(fitted))
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        wanted = create_model("resnet20", weights=file).eval()((images - mean) / std).softmax(1)
    told = {Path(p["input"]).name: list(p["probabilities"].values()) for p in found["predictions"]}
    names = [path.name for path in sorted((photos / "cat").iterdir())]
    torch.testing.assert_close(torch.tensor([told[name] for name in names]), wanted, atol=2e-4, rtol=0)


def test_inspect_shows_the_weights_and_takes_an_input(
    file: Path, photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found, notes = document(capsys, "inspect", "resnet20", "--weights", f"akamaster-resnet:{file}")
    assert found["num_parameters"] == 269_722
    assert "sha256 begins with" in notes
    picture = next((photos / "cat").iterdir())
    document(capsys, "inspect", "resnet20", "layers", "--weights", file, "--input", picture)
    weights = ("--weights", file, "model.kind=resnet20")
    _, notes = document(capsys, "inspect", "recipe:image-cnn", *weights)
    assert "by the table akamaster-resnet" in notes
    refused, _ = document(capsys, "inspect", photos, "--weights", file, status=2)
    assert refused["error"]["what"].endswith("has its own weights.")
    document(capsys, "inspect", "resnet20", "kernels", "--weights", file, "--output", tmp_path / "k.png")
    assert (tmp_path / "k.png").stat().st_size > 1000


def test_training_begins_from_the_weights(
    file: Path, photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = (
        "train",
        "image-cnn",
        "--data",
        photos,
        "--weights",
        file,
        "--run",
        tmp_path / "run",
        "model.kind=resnet20",
        "data.shape=[32,32]",
    )
    values = ("training.epochs=1", "optimizer.lr=1e-9", "training.batch_size=4")
    refused, _ = document(capsys, *words, *values, status=2)
    assert "new_head: true" in refused["error"]["mend"]
    assert not (tmp_path / "run").exists()
    found, notes = document(capsys, *words, *values, "new_head=true", "preprocess=[{name: scale, high: 9}]")
    assert "The head is new: head.weight (3, 64), head.bias (3,)." in notes
    assert "The weights were trained on pixels from -2.12 to 2.64; this recipe makes them 0.00 to 9.00." in notes
    assert found["epochs"] == 1
    from lamina.tasks.bundle import load_bundle

    trained = load_bundle(tmp_path / "run").model.state_dict()
    begun = create_model("resnet20", weights=file).state_dict()
    torch.testing.assert_close(trained["layer2.1.conv1.weight"], begun["layer2.1.conv1.weight"], atol=1e-6, rtol=0)


REFUSED = {
    "a bundle with weights": (
        ["predict", "{photos}", "x.png", "--weights", "{file}"],
        "has its own weights",
        "leave --weights out",
    ),
    "a mistyped model": (
        ["predict", "reznet20", "x.png", "--weights", "{file}"],
        "no model called 'reznet20'",
        "'resnet20'",
    ),
    "a missing file": (
        ["predict", "resnet20", "x.png", "--weights", "none.th"],
        "There is no file none.th",
        "safetensors",
    ),
    "a model of another depth": (
        ["predict", "resnet32", "x.png", "--weights", "{file}"],
        "neither by our own names",
        "weights of resnet20",
    ),
    "no table says the images": (
        ["predict", "mlp", "x.png", "--weights", "{mlp}"],
        "do not say what images",
        "bundle or run",
    ),
    "classes that the source does not know": (
        ["evaluate", "resnet20", "--data", "{other}", "--weights", "{file}"],
        "classes that the model does not know: 'zebra' (1 rows)",
        "rename",
    ),
    "a name of the hub that is none": (
        ["predict", "resnet20", "x.png", "--weights", "hf:resnet"],
        "is no name of the hub",
        "copy the name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(
    name: str, file: Path, photos: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words, what, mend = REFUSED[name]
    from lamina.core.tensorfile import pack_tensors

    (tmp_path / "mlp.safetensors").write_bytes(pack_tensors(create_model("mlp", seed=0).state_dict()))
    for kind in ("cat", "zebra"):
        (tmp_path / "other" / kind).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "other" / kind / "1.png")
    places = {"file": file, "photos": photos, "mlp": tmp_path / "mlp.safetensors", "other": tmp_path / "other"}
    found, _ = document(capsys, *(word.format(**places) for word in words), status=2)
    assert what in found["error"]["what"]
    assert mend in found["error"]["mend"]
    assert found["error"]["where"]


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    listed, _ = document(capsys, "list", "weights")
    assert {"akamaster-resnet", "keras-mobilenet", "torchvision-resnet"} <= {row["name"] for row in listed["weights"]}
    shown, _ = document(capsys, "show", "akamaster-resnet")
    assert tuple(shown["capabilities"]["labels"]) == CLASSES
    assert main(["show", "keras-mobilenet"]) == 0
    told = capsys.readouterr().out
    assert "conv_dw_{n}.depthwise_kernel -> blocks.{n-1}.depthwise.weight" in told
    assert "mobilenet-v1" in told


# The 2,000 images are of CIFAR-10's training part, which the networks were trained on, as lossy JPEG: a calculation in plain
# torch.nn.functional gives the same figure for ResNet-20.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "file", "accuracy"),
    [("resnet20", "resnet20-12fca82f.th", 0.8715), ("resnet56", "resnet56-4bfd9763.th", 0.8985)],
)
def test_the_published_networks_score(
    name: str, file: str, accuracy: float, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shared_data("cifar10_jpg") / "val_2k.tar.gz"
    weights = shared_data("pretrained_cifar10_resnet") / file
    found, _ = document(capsys, "evaluate", name, "--data", data, "--weights", weights)
    assert found["num_samples"] == 2000
    assert found["metrics"]["accuracy"] == pytest.approx(accuracy, abs=0.004)
