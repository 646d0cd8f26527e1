"""IDX: pairs, types, and headers that lie."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from lamina.core.errors import DataError
from lamina.data.loading import load_data

CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(array: np.ndarray) -> bytes:
    code = next(code for text, code in CODES.items() if np.dtype(text) == array.dtype)
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pictures(rows: int = 7, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, side, side), dtype=np.uint8)


def answers(rows: int = 7) -> np.ndarray:
    return (np.arange(rows) * 3 % 10).astype(np.uint8)


def write_pair(folder: Path, split: str = "train", *, dot: str = "-", packed: bool = False, prefix: str = "") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    pack = gzip.compress if packed else bytes
    end = ".gz" if packed else ""
    (folder / f"{prefix}{split}-labels{dot}idx1-ubyte{end}").write_bytes(pack(idx(answers())))
    path = folder / f"{prefix}{split}-images{dot}idx3-ubyte{end}"
    path.write_bytes(pack(idx(pictures())))
    return path


@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("prefix", ["", "notmnist-"])
def test_pairs_in_a_folder_and_alone(tmp_path: Path, dot: str, packed: bool, prefix: str) -> None:
    path = write_pair(tmp_path / "d", dot=dot, packed=packed, prefix=prefix)
    write_pair(tmp_path / "d", "t10k", dot=dot, packed=packed, prefix=prefix)
    data = load_data(tmp_path / "d")
    assert list(data.splits) == ["train", "test"]
    alone = load_data(path)
    assert list(alone.splits) == ["train"]
    for columns in (data.splits["train"], data.splits["test"], alone.splits["train"]):
        assert (columns["image"][:, 0].numpy() == pictures()).all()
        assert columns["image"].dtype == torch.uint8
        names = [data.spec.classes[i] for i in columns["label"].tolist()]
        assert names == [str(v) for v in answers()]
    assert data.spec.classes == ("0", "2", "3", "5", "6", "8", "9")
    assert data.splits["train"].origin[3] == f"{path}:3"  # type: ignore[index]


def test_images_without_labels(tmp_path: Path) -> None:
    (tmp_path / "some-images-idx3-ubyte").write_bytes(idx(pictures()))
    data = load_data(tmp_path / "some-images-idx3-ubyte")
    assert set(data.splits["all"]) == {"image"}
    assert any("no labels" in note for note in data.notes)


@pytest.mark.parametrize("kind", CODES)
def test_element_types(tmp_path: Path, kind: str) -> None:
    small = (pictures() // 2).astype(kind)
    path = tmp_path / "x-images"
    path.write_bytes(idx(small))
    assert (load_data(path).splits["all"]["image"][:, 0].numpy() == small).all()


def test_colours(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 8, 9, 3), dtype=np.uint8)
    for given in (array, array.transpose(0, 3, 1, 2)):
        path = tmp_path / "x-images-idx4-ubyte"
        path.write_bytes(idx(np.ascontiguousarray(given)))
        data = load_data(path)
        assert (data.splits["all"]["image"].numpy() == array.transpose(0, 3, 1, 2)).all()
    path.write_bytes(idx(np.zeros((4, 3, 8, 3), dtype=np.uint8)))
    with pytest.raises(DataError, match="NCHW and as NHWC") as caught:
        load_data(path)
    assert "data.channels_first" in caught.value.mend
    assert load_data(path, channels_first=False).splits["all"]["image"].shape == (4, 3, 3, 8)


def test_rows_of_pixels(tmp_path: Path) -> None:
    path = tmp_path / "x-images-idx2"
    path.write_bytes(idx(pictures().reshape(7, 64)))
    assert (load_data(path).splits["all"]["image"][:, 0].numpy() == pictures()).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw[:-3], "promises 7 x 8 x 8"),
        (lambda raw: raw + b"x", "promises 7 x 8 x 8"),
        (lambda raw: raw[:10], "cut short"),
        (lambda raw: raw[:4] + struct.pack(">3I", 1 << 31, 1 << 31, 1 << 31) + raw[16:], "promises 2147483648"),
        (lambda raw: raw[:4] + struct.pack(">3I", 60000, 2800, 2800), "promises 60000"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_headers_that_lie(tmp_path: Path, change: object, says: str, packed: bool) -> None:
    raw = change(idx(pictures()))  # type: ignore[operator]
    path = tmp_path / ("x-images.gz" if packed else "x-images")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(DataError) as caught:
        load_data(path, reader="idx")
    assert caught.value.where.startswith(str(path))
    assert says in caught.value.what or (packed and ("promises" in caught.value.what or "larger" in caught.value.what))


@pytest.mark.parametrize(("second", "says"), [(7, "type 0x07"), (8, "0 dimensions")])
def test_magic_numbers_that_are_none(tmp_path: Path, second: int, says: str) -> None:
    from lamina.data.readers.idx import parse_header

    with pytest.raises(DataError, match=says):
        parse_header(bytes([0, 0, second, 0, 0, 0, 0, 0]), where="x")
    with pytest.raises(DataError, match="89 50 4e 47"):
        parse_header(b"\x89PNG", where="x")


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    path = write_pair(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(answers(6)))
    with pytest.raises(DataError, match="7 images but 6 labels"):
        load_data(path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(7, dtype=">f4")))
    with pytest.raises(DataError, match="not whole numbers"):
        load_data(path)
    path.unlink()
    with pytest.raises(DataError, match="no images"):
        load_data(tmp_path)


def test_two_sets_in_a_folder_are_not_mixed(tmp_path: Path) -> None:
    write_pair(tmp_path, prefix="letters-")
    path = write_pair(tmp_path, prefix="digits-")
    with pytest.raises(DataError, match="Two image files belong to the split 'train'"):
        load_data(tmp_path)
    assert load_data(path).splits["train"].num_rows == 7


def test_large_files_are_memory_mapped(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (1500, 32, 32), dtype=np.uint8)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(big))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(answers(1500)))
    data = load_data(tmp_path, max_memory_mb=1)
    assert any("memory-mapped" in note for note in data.notes)
    rows = torch.tensor([1400, 3, 3])
    assert (data.splits["train"].batch(rows)["image"][:, 0].numpy() == big[rows]).all()
    assert data.fingerprint == load_data(tmp_path).fingerprint
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(big)))
    (tmp_path / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="larger than 1 MiB"):
        load_data(tmp_path, max_memory_mb=1)
