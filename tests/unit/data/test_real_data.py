"""The real datasets in the formats in which they are found; skipped where they are missing."""

from __future__ import annotations

import csv
import gzip
import hashlib
from pathlib import Path

import numpy as np
import torch

from helpers import shared_data
from lamina.data.inputs import read_inputs
from lamina.data.loading import load_data


def test_mnist() -> None:
    data = load_data(shared_data("mnist"))
    train = data.splits["train"]
    assert train["image"].shape == (60_000, 1, 28, 28)
    content = (
        bytes.fromhex("00000803")
        + b"".join(n.to_bytes(4, "big") for n in (60_000, 28, 28))
        + train["image"].numpy().tobytes()
    )
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == "6bbc9ace898e44ae57da46a324031adb"
    counts = torch.bincount(train["label"])
    assert data.spec.classes == tuple("0123456789")
    assert (int(counts.min()), int(counts.max())) == (5421, 6742)


def test_notmnist() -> None:
    data = load_data(shared_data("notmnist") / "notmnist-t10k-images-idx3-ubyte.gz")
    assert torch.bincount(data.splits["test"]["label"]).tolist() == [1000] * 10


def test_sign_mnist_is_read_as_it_is() -> None:
    path = shared_data("sign_mnist") / "sign_mnist_train_part.csv"
    data = load_data(path)
    assert data.reader == "pixel-csv"
    assert data.spec.classes == tuple(str(i) for i in range(25) if i != 9)
    train = data.splits["train"]
    assert train.num_rows == 297
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][0] == "label"
    wanted = np.array([[int(v) for v in row[1:]] for row in rows[1:]])
    assert (train["image"].flatten(1).numpy() == wanted).all()
    assert [data.spec.classes[i] for i in train["label"].tolist()] == [row[0] for row in rows[1:]]
    counts = torch.bincount(train["label"])
    assert (int(counts.min()), int(counts.max())) == (7, 17)
    columns, names = read_inputs(path, data.spec)
    assert torch.equal(columns["image"], train["image"])
    assert names[0] == f"{path}:2"


def test_sign_digits_compressed_and_plain(tmp_path: Path) -> None:
    path = shared_data("sign_digits") / "sign_digits_train.csv.gz"
    data = load_data(path)
    counts = torch.bincount(data.splits["train"]["label"])
    assert len(data.spec.classes) == 10
    assert (int(counts.min()), int(counts.max()), int(counts.sum())) == (154, 175, 1650)
    plain = tmp_path / "sign_digits_train.csv"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    assert load_data(plain).fingerprint == data.fingerprint


def test_cifar10_in_an_archive_per_split() -> None:
    data = load_data(shared_data("cifar10_jpg") / "val_2k.tar.gz")
    valid = data.splits["valid"]
    assert valid["image"].shape == (2000, 3, 32, 32)
    assert torch.bincount(valid["label"]).tolist() == [200] * 10
    assert data.spec.classes[0] == "airplane"
    # Natural photographs are brighter in red than in blue, on the average of these classes.
    red, green, blue = valid["image"].float().mean((0, 2, 3)).tolist()
    assert 105 < blue < green < red < 135


def test_sports_photographs() -> None:
    folder = shared_data("sports")
    data = load_data(folder, shape=(48, 48))
    assert {name: torch.bincount(c["label"]).tolist() for name, c in data.splits.items()} == {
        "train": [100] * 3,
        "valid": [30] * 3,
    }
    assert data.spec.classes == ("baseball", "cricket", "football")
    later = load_data(folder, shape=(48, 48), max_memory_mb=1)
    rows = torch.tensor([299, 0, 150])
    assert torch.equal(later.splits["train"].batch(rows)["image"], data.splits["train"]["image"][rows])
    first = sorted((folder / "val" / "cricket").iterdir())[0]
    columns, _ = read_inputs(first, data.spec)
    assert columns["image"].shape == (1, 3, 48, 48)
