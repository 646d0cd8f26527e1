"""NPZ and NPY: names, layouts, and files that are not what they say."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamina.core.errors import DataError
from lamina.data.loading import load_data

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 6, 7, 3), dtype=np.uint8)
LABELS = np.arange(10) % 4


def wanted(array: np.ndarray = IMAGES) -> np.ndarray:
    return array.transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("Xtrain", "ytrain", "Xtest", "ytest"),
        ("trainImages", "trainLabels", "valImages", "valLabels"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_names_of_splits(tmp_path: Path, names: tuple[str, ...], compressed: bool) -> None:
    path = tmp_path / "set.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, **dict(zip(names, (IMAGES[:6], LABELS[:6], IMAGES[6:], LABELS[6:]), strict=True)))
    data = load_data(path)
    assert data.reader == "npz"
    assert list(data.splits) == ["train", "valid" if "val" in names[2] else "test"]
    assert (data.splits["train"]["image"].numpy() == wanted()[:6]).all()
    assert data.splits["train"]["label"].tolist() == LABELS[:6].tolist()


@pytest.mark.parametrize("names", [("images", "labels"), ("X", "y"), ("data", "target"), ("arr_0", "arr_1")])
def test_names_without_split(tmp_path: Path, names: tuple[str, str]) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, **{names[0]: IMAGES, names[1]: LABELS[:, None], "extra": np.zeros(3)})
    data = load_data(path)
    assert list(data.splits) == ["all"]
    assert data.splits["all"]["label"].tolist() == LABELS.tolist()
    assert any("(N, 1)" in note for note in data.notes)
    assert any("extra" in note for note in data.notes)


def test_files_of_a_folder(tmp_path: Path) -> None:
    for split, part in (("train", slice(0, 6)), ("test", slice(6, 10))):
        np.save(tmp_path / f"x_{split}.npy", IMAGES[part])
        np.save(tmp_path / f"y_{split}.npy", LABELS[part])
    data = load_data(tmp_path)
    assert {k: v.num_rows for k, v in data.splits.items()} == {"train": 6, "test": 4}
    alone = load_data(tmp_path / "x_test.npy")
    assert list(alone.splits) == ["test"]
    assert "label" in alone.splits["test"]
    assert (alone.splits["test"]["image"].numpy() == wanted()[6:]).all()


def test_an_npz_per_split(tmp_path: Path) -> None:
    np.savez(tmp_path / "train.npz", X=IMAGES[:6], y=LABELS[:6])
    np.savez(tmp_path / "val.npz", X=IMAGES[6:], y=LABELS[6:])
    assert {k: v.num_rows for k, v in load_data(tmp_path).splits.items()} == {"train": 6, "valid": 4}


def test_layouts(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, wanted())
    assert (load_data(path).splits["all"]["image"].numpy() == wanted()).all()
    np.save(path, np.asfortranarray(IMAGES))
    assert (load_data(path).splits["all"]["image"].numpy() == wanted()).all()
    np.save(path, np.zeros((5, 3, 9, 3), np.uint8))
    with pytest.raises(DataError, match="NCHW and as NHWC"):
        load_data(path)
    assert load_data(path, channels_first=True).splits["all"]["image"].shape == (5, 3, 9, 3)
    assert load_data(path, channels_first=False).splits["all"]["image"].shape == (5, 3, 3, 9)
    np.save(path, np.zeros((5, 6, 7, 2), np.uint8))
    with pytest.raises(DataError, match="neither second nor last"):
        load_data(path)
    np.save(path, IMAGES)
    with pytest.raises(DataError, match="would give 6 channels"):
        load_data(path, channels_first=True)
    np.save(path, IMAGES[:, :, :, 0])
    assert load_data(path).splits["all"]["image"].shape == (10, 1, 6, 7)


def test_text_labels_and_named_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.array(["cat", "dog"] * 5))
    data = load_data(tmp_path / "a.npz")
    assert data.spec.classes == ("cat", "dog")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.array([Evil()] * 10, dtype=object))
    np.save(tmp_path / "b.npy", np.array([Evil()], dtype=object))
    for name in ("a.npz", "b.npy"):
        with pytest.raises(DataError, match="objects could run code"):
            load_data(tmp_path / name)
    assert not (tmp_path / "pwned").exists()


def npy(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,)}\n", b"xx"), "promises"),
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3)}\n", b"xx"), "promises"),
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1)}\n", b"xx"), "promises"),
        (npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 3)}\n", b"xx"), "shape"),
        (npy(b"{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (2,)}\n", b"xx"), "objects could run"),
        (npy(b"{'descr': '<M8[s]', 'fortran_order': False, 'shape': (2,)}\n", b"xx"), "objects could run"),
        (npy(b"__import__('os').system('true')\n"), "damaged"),
        (npy(b"(" * 5000), "damaged"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 30) + b"{}", "claims"),
        (b"\x93NUMPY", "magic"),
    ],
)
def test_headers_that_lie(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=says) as caught:
        load_data(path)
    assert str(path) in caught.value.where
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", raw)
    with pytest.raises(DataError, match=says):
        load_data(tmp_path / "x.npz")


def test_compressed_arrays_must_be_as_long_as_they_say(tmp_path: Path) -> None:
    raw = npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5, 6)}\n", bytes(120))
    path = tmp_path / "x.npy.gz"
    path.write_bytes(gzip.compress(raw))
    assert load_data(path).splits["all"].num_rows == 4
    for damaged in (raw[:-1], raw + b"x"):
        path.write_bytes(gzip.compress(damaged))
        with pytest.raises(DataError, match="promises an array"):
            load_data(path)


def test_zip_bombs_and_damage(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.zeros(80 << 20, np.uint8))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", stream.getvalue())
    with pytest.raises(DataError, match="bomb"):
        load_data(tmp_path / "x.npz")
    np.savez(tmp_path / "y.npz", x=IMAGES, y=LABELS)
    raw = bytearray((tmp_path / "y.npz").read_bytes())
    raw[400] ^= 255
    (tmp_path / "y.npz").write_bytes(raw)
    with pytest.raises(DataError, match="damaged"):
        load_data(tmp_path / "y.npz")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"weights": IMAGES, "bias": LABELS}, "No array holds inputs"),
        ({"x": IMAGES, "images": IMAGES}, "both look like inputs"),
        ({"x": IMAGES, "y": LABELS[:9]}, "10 rows of inputs"),
        ({"x": IMAGES, "y": np.eye(4)[LABELS].astype(int)}, "labels are shaped"),
        ({"x": np.where(IMAGES[..., 0] > 250, np.nan, 0.3), "y": LABELS}, "not finite"),
        ({"x": IMAGES.astype(str), "y": LABELS}, "not numbers"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(Exception, match=says) as caught:
        load_data(tmp_path / "a.npz")
    assert hasattr(caught.value, "mend")


def test_large_arrays_are_memory_mapped(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (600, 32, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "x_train.npy", big)
    np.save(tmp_path / "y_train.npy", np.arange(600) % 3)
    data = load_data(tmp_path, max_memory_mb=1)
    assert any("memory-mapped" in note for note in data.notes)
    rows = torch.tensor([599, 0])
    assert (data.splits["train"].batch(rows)["image"].numpy() == wanted(big)[rows]).all()
