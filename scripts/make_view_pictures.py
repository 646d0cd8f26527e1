"""Make the pictures of docs/views.md: two small trainings on data that comes along, then every view.

The digits are scikit-learn's, 8 by 8 pixels. The crops are 64 by 64 pixels out of scikit-learn's two photographs: the network
learns to tell the temple from the flower in crops of the left part of each and is judged on crops of the right part. Takes
about two minutes on one core. Pictures are reduced to at most 256 colours, which keeps each below 60 KB.

    python scripts/make_view_pictures.py [NAME …]
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import lamina as lm
from lamina.cli.labelled_rows import labelled_rows
from lamina.cli.main import main as lamina
from lamina.core import draws
from lamina.core.run import RunFolder
from lamina.data.columns import Columns, Data, DataSpec, column_spec
from lamina.explain.subjects import subject_of
from lamina.explain.views import Subject, show_view
from lamina.tasks.bundle import load_bundle

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
SIDE = 64
MOST_BYTES = 60 << 10


def digits(folder: Path) -> Subject:
    """The recipe `digits` for five epochs, and the rows of its test split."""
    run = folder / "digits"
    assert lamina(["train", "digits", "--run", str(run), "--quiet", "training.epochs=5"]) == 0
    bundle = load_bundle(run)
    found = labelled_rows(bundle, RunFolder.open(run), path=None, split="test")
    assert found is not None
    rows, split = found
    return subject_of(bundle, name="digits", inputs=rows["image"][:8], columns=rows, split=split)


def crops(*, left: float, right: float, per_class: int, seed: int) -> Columns:
    """Square crops of both photographs from between two shares of their width."""
    photographs = lm.load_data("photographs").splits["all"]["image"]  # (2, 3, 427, 640)
    height, width = photographs.shape[2:]
    images, labels = [], []
    for label, photograph in enumerate(photographs):
        drawn = draws.uniform(draws.stream_key(seed, "sample", "crops", label), torch.arange(2 * per_class).view(-1, 2))
        for x, y in drawn.tolist():
            start = int(left * width + x * ((right - left) * width - SIDE))
            top = int(y * (height - SIDE))
            images.append(photograph[:, top : top + SIDE, start : start + SIDE])
            labels.append(label)
    order = draws.permutation(seed, "sample", "crops", num_rows=len(labels))
    return Columns({"image": torch.stack(images)[order], "label": torch.tensor(labels)[order]})


def photographs() -> Subject:
    """A small network that tells crops of the temple from crops of the flower."""
    splits = {
        "train": crops(left=0.0, right=0.6, per_class=150, seed=0),
        "valid": crops(left=0.6, right=1.0, per_class=60, seed=1),
    }
    first = splits["train"]
    spec = DataSpec(
        columns={
            "image": column_spec("image", first["image"]),
            "label": column_spec("label", first["label"], classes=("temple", "flower")),
        },
        num_rows={name: columns.num_rows for name, columns in splits.items()},
    )
    blocks: list[dict[str, Any]] = [
        {"channels": 8, "kernel_size": 5},
        {"channels": 16},
        {"channels": 16, "pool": "none"},
    ]
    model = {"kind": "cnn", "blocks": blocks, "dense": []}
    run = lm.fit(model, Data(splits, spec), epochs=8, seed=0, training={"batch_size": 30}, optimizer={"lr": 2e-3})
    print("crops:", {name: round(value, 3) for name, value in run.metrics.items() if "accuracy" in name})
    rows = splits["valid"]
    # Of each photograph the crop with most in it: a crop of sky shows little.
    contrast = rows["image"].float().std(dim=(1, 2, 3))
    best = [int(torch.where(rows["label"] == label, contrast, -1.0).argmax()) for label in (0, 1)]
    return subject_of(run.bundle, name="crops", inputs=rows["image"][best], columns=rows, split="valid")


def templates() -> Subject:
    """A linear model on the digits: its weights are one template per class."""
    run = lm.fit("linear", "digits", epochs=20, seed=0)
    return subject_of(run.bundle, name="digits-linear")


def with_wrong_labels(subject: Subject) -> Subject:
    """The same rows with six labels changed on purpose, to be found."""
    assert subject.columns is not None
    labels = subject.columns["label"].clone()
    labels[10:300:50] = (labels[10:300:50] + 3) % 10
    columns = Columns({**{name: subject.columns[name] for name in subject.columns}, "label": labels})
    return replace(subject, columns=columns)


def save(name: str, png: bytes | None) -> None:
    """Write a picture with as many colours as the limit on its size allows.

    Raises:
        AssertionError: It is too large for the repository.
    """
    assert png is not None, name
    for colours in (256, 128, 64):
        picture = (
            Image.open(io.BytesIO(png))
            .convert("RGB")
            .quantize(colours, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        )
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        if len(buffer.getvalue()) <= MOST_BYTES:
            break
    print(f"{name}: {picture.width}x{picture.height}, {colours} colours, {len(buffer.getvalue()) / 1024:.0f} KiB")
    assert len(buffer.getvalue()) <= MOST_BYTES, name
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.png").write_bytes(buffer.getvalue())


def main(wanted: list[str]) -> None:
    """Make the named pictures, or all."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = digits(Path(folder))
        photos = photographs()
        made: dict[str, tuple[str, Subject, dict[str, Any]]] = {
            "kernels": ("kernels", templates(), {}),
            "features": ("features", photos, {"most_layers": 4, "most": 8}),
            "saliency": ("saliency", photos, {"most": 2}),
            "saliency-digits": ("saliency", numbers, {"most": 3}),
            "activation-maximisation": ("activation-maximisation", numbers, {}),
            "receptive-field": ("receptive-field", photos, {"most": 3}),
            "embedding": ("embedding", numbers, {}),
            "mistakes": ("mistakes", with_wrong_labels(numbers), {"most": 8}),
            "invariance": ("invariance", numbers, {}),
            "robustness": ("robustness", numbers, {}),
        }
        for name, (view, subject, options) in made.items():
            if not wanted or name in wanted:
                save(name, show_view(view, subject, **options).figure)
        if not wanted or "learning-rate" in wanted:
            file = Path(folder) / "rate.png"
            assert lamina(["inspect", "digits", "learning-rate", "--quiet", "--output", str(file)]) == 0
            save("learning-rate", file.read_bytes())


if __name__ == "__main__":
    main(sys.argv[1:])
