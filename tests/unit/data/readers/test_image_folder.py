"""Image folders and archives: arrangement, sizes, modes, and files that are no images."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lamina.core.errors import DataError
from lamina.data.decoded_ahead import LoadedColumns
from lamina.data.loading import load_data
from lamina.data.readers import images as images_module
from lamina.data.readers.base import split_of


def array(seed: int, height: int = 10, width: int = 10, channels: int = 3) -> np.ndarray:
    found = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return found[..., 0] if channels == 1 else found


def encode(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


def fill(folder: Path, names: list[str], **options: Any) -> dict[str, bytes]:
    files = {name: encode(array(place, **options)) for place, name in enumerate(names)}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return files


def shape_of(data: Any) -> dict[str, tuple[int, list[str] | None]]:
    return {
        split: (
            columns.num_rows,
            [data.spec.classes[i] for i in columns["label"].tolist()] if "label" in columns else None,
        )
        for split, columns in data.splits.items()
    }


CASES = {
    "class/file": (["cat/1.png", "dog/2.png"], {"all": (2, ["cat", "dog"])}),
    "split/class/file": (
        ["train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "test/dog/4.png"],
        {"train": (2, ["cat", "dog"]), "valid": (1, ["cat"]), "test": (1, ["dog"])},
    ),
    "wrapped": (["set/cat/1.png", "set/dog/2.png"], {"all": (2, ["cat", "dog"])}),
    "wrapped splits": (["a/train/cat/1.png", "a/train/dog/2.png", "a/dev/cat/3.png"], {"train": (2, ["cat", "dog"]), "valid": (1, ["cat"])}),
    "twice wrapped": (
        ["seg_train/seg_train/sea/1.png", "seg_train/seg_train/ice/2.png", "seg_test/seg_test/sea/3.png"],
        {"train": (2, ["ice", "sea"]), "test": (1, ["sea"])},
    ),
    "named sets": (["training_set/cats/1.png", "training_set/dogs/2.png", "test_set/cats/3.png"], {"train": (2, ["cats", "dogs"]), "test": (1, ["cats"])}),
    "numbers": (["10/1.png", "9/2.png", "2/3.png"], {"all": (3, ["2", "9", "10"])}),
    "test without classes": (["train/a/1.png", "train/b/2.png", "test/3.png"], {"train": (2, ["a", "b"]), "test": (1, None)}),
    "flat": (["1.png", "2.png"], {"all": (2, None)}),
    "one split": (["train/cat/1.png", "train/dog/2.png"], {"train": (2, ["cat", "dog"])}),
    "class like a split": (["test_tube/1.png", "flask/2.png"], {"all": (2, ["flask", "test_tube"])}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("packing", ["folder", "zip", "tar", "tar.gz"])
def test_arrangements(tmp_path: Path, case: str, packing: str) -> None:
    names, expected = CASES[case]
    folder = tmp_path / "pictures"
    files = fill(folder, names)
    path = folder
    if packing == "zip":
        path = tmp_path / "pictures.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    elif packing != "folder":
        path = tmp_path / f"pictures.{packing}"
        with tarfile.open(path, "w:gz" if packing == "tar.gz" else "w") as archive:
            archive.add(folder, "")
    data = load_data(path, reader="image-folder")
    # Natural order puts class 2 before 9 before 10, otherwise names are sorted.
    assert {
        split: (n, sorted(ls, key=data.spec.classes.index) if ls else ls) for split, (n, ls) in shape_of(data).items()
    } == expected
    contents = {file: np.asarray(Image.open(io.BytesIO(content))) for file, content in files.items()}
    for columns in data.splits.values():
        assert columns.origin is not None
        for row, where in enumerate(columns.origin):
            name = next(name for name in files if where.replace(":", "/").endswith(name))
            assert (columns["image"][row].numpy() == contents[name].transpose(2, 0, 1)).all()


def test_one_archive_per_split(tmp_path: Path) -> None:
    for split in ("train_20k", "val_2k"):
        inner = split.split("_")[0]
        files = fill(tmp_path / "x", [f"{inner}/cat/1.png", f"{inner}/dog/2.png"])
        with tarfile.open(tmp_path / f"{split}.tar.gz", "w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(f"set/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    import shutil

    shutil.rmtree(tmp_path / "x")
    data = load_data(tmp_path)
    assert shape_of(data) == {"train": (2, ["cat", "dog"]), "valid": (2, ["cat", "dog"])}
    alone = load_data(tmp_path / "val_2k.tar.gz")
    assert list(alone.splits) == ["valid"]


def test_sniffing_needs_no_reader_name(tmp_path: Path) -> None:
    fill(tmp_path / "d", ["cat/1.png", "dog/2.png"])
    assert load_data(tmp_path / "d").reader == "image-folder"


# --- sizes and modes ---------------------------------------------------------------------------------------------------


def test_different_sizes_are_fitted_and_said(tmp_path: Path) -> None:
    for place, (height, width) in enumerate([(200, 100), (80, 300), (90, 90)]):
        fill(tmp_path / f"c{place % 2}", [f"{place}.png"], height=height, width=width)
    data = load_data(tmp_path)
    assert data.splits["all"]["image"].shape == (3, 3, 64, 64)
    assert any("fitted to 64x64" in note for note in data.notes)
    assert data.spec.columns["image"].resize == "crop"
    assert load_data(tmp_path, shape=(20, 30)).splits["all"]["image"].shape == (3, 3, 20, 30)
    assert load_data(tmp_path, shape=(20, 30, 1)).splits["all"]["image"].shape == (3, 1, 20, 30)
    for place in range(3):
        fill(tmp_path / f"c{place % 2}", [f"{place}.png"], height=20 + place, width=40)
    assert load_data(tmp_path).splits["all"]["image"].shape == (3, 3, 21, 21)


def test_the_middle_is_cut_out(tmp_path: Path) -> None:
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, 40:80] = 200
    wide[:, :40] = 50
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "wide.png").write_bytes(encode(wide))
    (tmp_path / "a" / "tall.png").write_bytes(encode(wide.transpose(1, 0, 2)))
    images = load_data(tmp_path, shape=(20, 20)).splits["all"]["image"]
    # Scaling looks a little beyond the cut, so the outermost pixels feel their neighbours.
    assert int(images[..., 1:-1, 1:-1].min()) == 200 == int(images.max())
    assert int(images.min()) > 150


def test_equal_sizes_are_untouched(tmp_path: Path) -> None:
    files = fill(tmp_path, ["a/1.png", "b/2.png"], height=7, width=9)
    data = load_data(tmp_path)
    first = np.asarray(Image.open(io.BytesIO(files["a/1.png"])))
    assert (data.splits["all"]["image"][0].numpy() == first.transpose(2, 0, 1)).all()
    assert not any("fitted" in note for note in data.notes)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF"])
def test_formats(tmp_path: Path, kind: str) -> None:
    flat = np.full((12, 12, 3), (200, 100, 50), np.uint8)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / f"x.{kind.lower()}").write_bytes(encode(flat, kind))
    (tmp_path / "a" / "no_ending").write_bytes(encode(flat, kind))
    images = load_data(tmp_path).splits["all"]["image"]
    assert images.shape == (2, 3, 12, 12)
    assert (images.float().mean((0, 2, 3)) - torch.tensor([200.0, 100.0, 50.0])).abs().max() < 6


def save_modes(folder: Path) -> None:
    grey = array(3, channels=1)
    folder.mkdir()
    Image.fromarray(grey).save(folder / "l.png")
    Image.fromarray(grey).convert("RGB").save(folder / "rgb.png")
    Image.fromarray(grey).convert("P").save(folder / "p.png")
    Image.fromarray(grey).convert("LA").save(folder / "la.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "deep.png")


def test_grey_by_content_gives_one_channel(tmp_path: Path) -> None:
    save_modes(tmp_path / "a")
    data = load_data(tmp_path)
    images = data.splits["all"]["image"]
    assert images.shape == (5, 1, 10, 10)
    for row in images:
        assert (row[0].numpy() == array(3, channels=1)).all()
    assert any("All images are grey" in note for note in data.notes)
    (tmp_path / "b").mkdir()
    Image.fromarray(array(4)).save(tmp_path / "b" / "colour.png")
    data = load_data(tmp_path)
    assert data.splits["all"]["image"].shape == (6, 3, 10, 10)
    assert any("three equal channels" in note for note in data.notes)


def test_all_stored_grey_gives_one_channel(tmp_path: Path) -> None:
    fill(tmp_path, ["a/1.png", "b/2.png"], channels=1)
    assert load_data(tmp_path).splits["all"]["image"].shape == (2, 1, 10, 10)


def test_transparency_is_laid_on_white_and_said(tmp_path: Path) -> None:
    ink = np.zeros((10, 10, 4), np.uint8)
    ink[:5, :, 3] = 255  # the upper half is black, the lower half is transparent black
    ink[0, 0, 0] = 90
    (tmp_path / "a").mkdir()
    Image.fromarray(ink).save(tmp_path / "a" / "1.png")
    data = load_data(tmp_path)
    image = data.splits["all"]["image"][0]
    assert int(image[:, 1:5].max()) == 0
    assert int(image[:, 5:].min()) == 255
    assert any("white" in note for note in data.notes)
    four = load_data(tmp_path, shape=(10, 10, 4)).splits["all"]["image"]
    assert (four[0].numpy() == ink.transpose(2, 0, 1)).all()


def test_a_cameras_orientation_is_obeyed(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, :10] = (255, 0, 0)
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Image.fromarray(pixels).save(tmp_path / "a" / "x.jpg", exif=exif, quality=95)
    image = load_data(tmp_path).splits["all"]["image"][0]
    assert image.shape == (3, 30, 20)
    assert int(image[0, :8].min()) > 200
    assert int(image[0, 12:].max()) < 60


# --- faults ------------------------------------------------------------------------------------------------------------


def broken(folder: Path, name: str, content: bytes) -> Path:
    fill(folder, ["cat/1.png", "dog/2.png"])
    path = folder / "cat" / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello, I am no image", "no image"),
        (encode(array(0, 200, 200))[:20_000], "damaged"),
        (encode(array(0, 200, 200), "JPEG")[:3000], "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged"),
        (b"\xff\xd8\xff\xe0" + bytes(range(200)), "damaged"),
        (b"GIF89a" + b"\xff" * 50, "damaged"),
    ],
)
def test_bad_images_are_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = broken(tmp_path, "bad.png", content)
    with pytest.raises(DataError, match=says) as caught:
        load_data(tmp_path, shape=(10, 10))
    assert caught.value.where == str(path)
    data = load_data(tmp_path, shape=(10, 10), on_fault="skip")
    assert data.splits["all"].num_rows == 2
    assert [fault.file for fault in data.faults] == [str(path)]


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = broken(tmp_path, "bomb.png", encode(np.zeros((300, 300, 3), np.uint8)))
    monkeypatch.setattr(images_module, "MAX_PIXELS", 50_000)
    with pytest.raises(DataError, match="decompression bombs") as caught:
        load_data(tmp_path)
    assert caught.value.where == str(path)


def test_pillows_own_bomb_limits_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(tmp_path, "bomb.png", encode(np.zeros((300, 300, 3), np.uint8)))
    for limit in (80_000, 20_000):  # a warning for Pillow, then an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match="decompression bombs"):
            load_data(tmp_path)


def test_other_files_are_reported_but_do_not_stop(tmp_path: Path) -> None:
    fill(tmp_path, ["train/cat/1.png", "train/dog/2.png", "extra/3.png"])
    (tmp_path / "train" / "cat" / "labels.txt").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")
    data = load_data(tmp_path)
    assert {Path(fault.file).name for fault in data.faults} == {"labels.txt", "3.png"}
    assert not any(fault.stops for fault in data.faults)
    assert any("'extra'" in note or "extra is left out" in note for note in data.notes)


def test_no_usable_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"x")
    with pytest.raises(DataError, match="no rows that can be used"):
        load_data(tmp_path, reader="image-folder")


# --- larger than memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["folder", "zip"])
def test_large_folders_are_decoded_on_demand(tmp_path: Path, packing: str) -> None:
    names = [f"{'train' if i % 5 else 'val'}/{'ab'[i % 2]}/{i}.png" for i in range(60)]
    fill(tmp_path / "d", names, height=100, width=100)
    path = tmp_path / "d"
    if packing == "zip":
        path = tmp_path / "d.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(tmp_path / "d" / name, name)
    whole = load_data(path)
    later = load_data(path, max_memory_mb=1)
    assert any("decoded while training" in note for note in later.notes)
    columns = later.splits["train"]
    assert isinstance(columns, LoadedColumns)
    assert not columns.in_memory
    assert later.spec == whole.spec
    rows = torch.tensor([40, 3, 17])
    columns.upcoming(rows)
    batch, wanted = columns.batch(rows), whole.splits["train"].batch(rows)
    assert set(batch) == set(wanted)
    assert all(torch.equal(batch[name], wanted[name]) for name in batch)
    with pytest.raises(DataError, match="row by row"):
        columns["image"]


def test_grey_stored_as_colour_is_seen_on_demand_too(tmp_path: Path) -> None:
    for i in range(40):
        grey = np.repeat(array(i, 110, 110, 1)[..., None], 3, axis=2)
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(encode(grey))
    assert load_data(tmp_path, max_memory_mb=1).spec.columns["image"].shape == (1, 110, 110)


# --- names of splits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("sign_mnist_train_part.csv", "train"),
        ("TrainingSet", "train"),
        ("trainset", "train"),
        ("val_2k", "valid"),
        ("val2017", "valid"),
        ("emerging.dev.conll", "valid"),
        ("SICK_trial", "valid"),
        ("t10k-images-idx3-ubyte", "test"),
        ("notmnist-t10k-labels", "test"),
        ("X_test.npy", "test"),
        ("xTest", "test"),
        ("contest.csv", None),
        ("strain.csv", None),
        ("train_test.csv", None),
        ("devices", None),
        ("validity", None),
        ("data", None),
    ],
)
def test_split_names(name: str, split: str | None) -> None:
    assert split_of(name) == split
