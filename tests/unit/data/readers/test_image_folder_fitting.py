"""Sizes of photographs: crop, stretch and letterbox, the same in training, evaluation and prediction; folders beyond memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lamina.core.errors import ConfigError, ShapeError
from lamina.data.batching import IndexFeed
from lamina.data.columns import DataSpec
from lamina.data.decoded_ahead import LoadedColumns
from lamina.data.inputs import read_inputs
from lamina.data.loading import load_data, load_like
from lamina.data.readers.fitting import Fitting
from lamina.data.readers.images import decode_image
from lamina.data.readers.sources import Source


def wide() -> np.ndarray:
    """40x120: left dark, middle light, right dark; a red line above."""
    picture = np.full((40, 120, 3), 50, np.uint8)
    picture[:, 40:80] = 200
    picture[:4] = (250, 0, 0)
    return picture


def photos(folder: Path) -> Path:
    for number, picture in enumerate([wide(), wide().transpose(1, 0, 2), wide()[:, :60]]):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(picture)).save(path)
    return folder


def image_of(folder: Path, name: str, **config: Any) -> np.ndarray:
    data = load_data(folder, **config)
    columns = data.splits["all"]
    assert columns.origin is not None
    row = next(row for row, where in enumerate(columns.origin) if where.endswith(name))
    return columns["image"][row].numpy()


def test_crop_is_the_middle(tmp_path: Path) -> None:
    found = image_of(photos(tmp_path), "0.png", shape=(40, 40))
    assert (found == wide()[:, 40:80].transpose(2, 0, 1)).all()


def test_a_part_of_the_crop(tmp_path: Path) -> None:
    """The usual protocol: short side to 8/7 of the wanted size, then the middle."""
    photos(tmp_path)
    picture = Image.fromarray(wide())
    wanted = picture.resize((96, 32), Image.Resampling.BILINEAR).crop((34, 2, 62, 30))
    found = image_of(tmp_path, "0.png", shape=(28, 28), crop_fraction=0.875)
    difference = np.abs(found.astype(int) - np.asarray(wanted).transpose(2, 0, 1))
    # Pillow cuts before it rounds, so an edge may fall a little elsewhere; most pixels are equal.
    assert np.median(difference) == 0
    assert difference.mean() < 3
    whole = image_of(tmp_path, "0.png", shape=(28, 28))
    assert np.abs(found.astype(int) - whole).mean() > 5


def test_stretch_is_pillows_resize(tmp_path: Path) -> None:
    photos(tmp_path)
    for name, kind in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        wanted = np.asarray(Image.fromarray(wide()).resize((30, 20), kind)).transpose(2, 0, 1)
        found = image_of(tmp_path, "0.png", shape=(20, 30), resize="stretch", interpolation=name)
        assert (np.abs(found.astype(int) - wanted) <= 2).all()


@pytest.mark.parametrize(
    ("fill", "colour"), [((128,), (128, 128, 128)), ((10, 20, 30), (10, 20, 30)), ((9, 8, 7, 6), (9, 8, 7))]
)
def test_letterbox_keeps_everything(tmp_path: Path, fill: tuple[int, ...], colour: tuple[int, ...]) -> None:
    found = image_of(photos(tmp_path), "0.png", shape=(60, 60), resize="letterbox", fill=fill)
    inner = np.asarray(Image.fromarray(wide()).resize((60, 20), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert (found[:, 20:40] == inner).all()
    for band in (found[:, :20], found[:, 40:]):
        assert (band == np.array(colour)[:, None, None]).all()
    upright = image_of(tmp_path, "1.png", shape=(60, 60), resize="letterbox", fill=fill)
    assert (upright[:, :, :20] == np.array(colour)[:, None, None]).all()


def test_letterbox_in_grey_and_with_transparency(tmp_path: Path) -> None:
    photos(tmp_path)
    grey = image_of(tmp_path, "0.png", shape=(60, 60, 1), resize="letterbox", fill=(255, 0, 0))
    assert set(grey[0, :20].reshape(-1)) == {76}
    four = image_of(tmp_path, "0.png", shape=(60, 60, 4), resize="letterbox")
    assert (four[:, 0, 0] == (0, 0, 0, 255)).all()
    four = image_of(tmp_path, "0.png", shape=(60, 60, 4), resize="letterbox", fill=(1, 2, 3, 0))
    assert (four[:, 0, 0] == (1, 2, 3, 0)).all()


def test_two_numbers_are_no_colour(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.fill=\[1, 2\] is no colour"):
        load_data(photos(tmp_path), shape=(8, 8), resize="letterbox", fill=(1, 2))
    with pytest.raises(ConfigError, match="256"):
        load_data(tmp_path, shape=(8, 8), resize="letterbox", fill=(256,))


WAYS: dict[str, dict[str, Any]] = {
    "crop": {},
    "a part of it": {"crop_fraction": 0.8},
    "stretch": {"resize": "stretch", "interpolation": "bicubic"},
    "letterbox": {"resize": "letterbox", "fill": (30, 60, 90)},
}


@pytest.mark.parametrize("way", WAYS)
def test_prediction_and_evaluation_fit_as_training_did(tmp_path: Path, way: str) -> None:
    folder = photos(tmp_path / "a")
    data = load_data(folder, shape=(24, 18), **WAYS[way])
    # As it is kept in a bundle: values in, values out.
    spec = DataSpec.from_values(data.spec.values(), where="spec")
    assert spec == data.spec
    columns, names = read_inputs(folder, spec)
    assert names == list(data.splits["all"].origin or ())
    assert torch.equal(columns["image"], data.splits["all"]["image"])
    again = load_like(folder, spec=spec)
    assert again.spec.columns["image"] == spec.columns["image"]
    assert torch.equal(again.splits["all"]["image"], data.splits["all"]["image"])
    array, _ = read_inputs(wide(), spec)
    first = next(row for row, name in enumerate(names) if name.endswith("0.png"))
    assert torch.equal(array["image"][0], columns["image"][first])
    (said,) = [note for note in data.notes if "data.resize choose otherwise" in note]
    assert "24x18" in said


def test_the_default_is_said(tmp_path: Path) -> None:
    notes = " ".join(load_data(photos(tmp_path)).notes)
    assert "Images have 3 different sizes and are fitted to 40x40: scaled to cover it, the middle cut out (bilinear), by default" in notes  # fmt: skip
    assert "letterbox" not in notes
    assert "stretched to 9x9" in " ".join(load_data(tmp_path, shape=(9, 9), resize="stretch").notes)


def test_images_that_were_no_files_are_not_fitted() -> None:
    data = load_data((np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1]))
    assert Fitting.of_spec(data.spec.columns["image"]) is None
    with pytest.raises(ShapeError, match="9x9"):
        read_inputs(Image.new("L", (9, 9)), data.spec)


@pytest.mark.parametrize("how", ["crop", "stretch", "letterbox"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_are_fitted_upright(tmp_path: Path, how: Any, orientation: int) -> None:
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what turns the upright picture into the one stored
    upright = Image.fromarray(wide())
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(turns[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    fitting = Fitting(30, 20, how=how)
    found = decode_image(Source(tmp_path / "x.png").files[0], channels=3, fitting=fitting)
    wanted = np.asarray(fitting.padded(fitting.scaled(upright))).transpose(2, 0, 1)
    assert found.shape == (3, 30, 20)
    # The two passes of scaling come in another order, each rounded to bytes.
    assert (np.abs(found.astype(int) - wanted) <= 1).all()


def test_reduced_decoding_is_near_to_decoding_in_full(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((1200, 900), Image.Resampling.BICUBIC)
    photo.save(tmp_path / "x.jpg", quality=92)
    photo = Image.open(tmp_path / "x.jpg")
    photo.load()
    fitting = Fitting(60, 60)
    found = decode_image(Source(tmp_path / "x.jpg").files[0], channels=3, fitting=fitting)
    wanted = np.asarray(fitting.scaled(photo)).transpose(2, 0, 1)
    difference = np.abs(found.astype(int) - wanted)
    assert 0 < difference.mean() < 1.5
    assert difference.max() <= 12


# --- beyond memory -----------------------------------------------------------------------------------------------------


def many(folder: Path, *, count: int = 90) -> Path:
    generator = np.random.default_rng(1)
    for number in range(count):
        height, width = generator.integers(90, 140, 2)
        picture = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        path = folder / ("train", "val")[number % 5 == 0] / "abc"[number % 3] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).resize((int(width), int(height))).save(path)
    return folder


@pytest.mark.parametrize("way", ["crop", "letterbox"])
def test_a_folder_beyond_the_limit_streams_and_gives_equal_batches(tmp_path: Path, way: str) -> None:
    folder = many(tmp_path)
    whole = load_data(folder, shape=(80, 80), **WAYS[way])
    later = load_data(folder, shape=(80, 80), max_memory_mb=1, **WAYS[way])
    assert not later.splits["train"].in_memory
    assert later.spec == whole.spec
    for split in ("train", "valid"):
        columns = later.splits[split]
        assert isinstance(columns, LoadedColumns)
        feeds = [IndexFeed(data.splits[split], batch_size=7, seed=3, shuffle=True) for data in (whole, later)]
        for epoch in (0, 1):
            for number in range(len(feeds[0])):
                one, other = (feed.batch(epoch, number) for feed in feeds)
                assert one.keys() == other.keys()
                assert all(torch.equal(one[name], other[name]) for name in one)
                # Of a whole epoch at most the batches that were announced are held.
                assert len(columns._ahead) <= 2 * 7


def test_threads_do_not_change_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = many(tmp_path)
    found = []
    for threads in (1, 5):
        monkeypatch.setattr("lamina.data.readers.image_folder.NUM_THREADS", threads)
        monkeypatch.setattr("lamina.data.decoded_ahead.NUM_THREADS", threads)
        data = load_data(folder, shape=(32, 32))
        found.append((data.fingerprint, data.notes))
    assert found[0] == found[1]
