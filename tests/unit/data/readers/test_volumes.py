"""Volumes from arrays and clips from folders of frames: what is recognised, what is asked, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lamina.core.errors import DataError, ShapeError
from lamina.data.config import DataConfig
from lamina.data.loading import load_data
from lamina.data.readers.sources import Source
from lamina.data.readers.volumes import find_clips, read_clips

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 4, 5, 7), dtype=np.uint8)
LABELS = np.arange(6) % 2


def write_clips(
    root: Path,
    lengths: dict[str, int],
    *,
    size: tuple[int, int] = (6, 8),
    colour: bool = False,
    name: str = "frame{:03d}",
) -> Path:
    """Clips by `class/clip`; frame i of a clip has the grey value 10 * i."""
    for clip, length in lengths.items():
        folder = root / clip
        folder.mkdir(parents=True)
        for i in range(length):
            pixels = np.full((*size, 3) if colour else size, 10 * i % 256, dtype=np.uint8)
            if colour:
                pixels[..., 0] = 255
            Image.fromarray(pixels).save(folder / f"{name.format(i + 1)}.png")
    return root


@pytest.mark.parametrize(("shape", "wanted"), [((4, 5, 7), (1, 4, 5, 7)), ((3, 4, 5, 7), (3, 4, 5, 7))])
def test_arrays_that_are_called_volumes(shape: tuple[int, ...], wanted: tuple[int, ...], tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (6, *shape), dtype=np.uint8)
    np.savez(tmp_path / "v.npz", train_volumes=values, train_labels=LABELS)
    data = load_data(tmp_path / "v.npz")
    assert data.reader == "volume"
    found = data.splits["train"]["volume"]
    assert found.shape == (6, *wanted)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy().reshape(values.shape), values)
    assert data.spec.columns["volume"].role == "volume"
    assert data.spec.classes == ("0", "1")


def test_five_dimensions_are_volumes_whatever_they_are_called(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=RNG.normal(size=(6, 5, 5, 7, 3)), y=LABELS)
    data = load_data(tmp_path / "v.npz")
    assert data.reader == "volume"
    assert data.splits["all"]["volume"].shape == (6, 3, 5, 5, 7)
    assert data.splits["all"]["volume"].dtype == torch.float32
    assert any("channels last: only there are 1, 3 or 4" in note for note in data.notes)


def test_four_dimensions_are_images_unless_asked_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=RNG.integers(0, 256, (6, 4, 8, 7), dtype=np.uint8), y=LABELS)
    assert load_data(tmp_path / "v.npz").reader == "npz"
    assert load_data(tmp_path / "v.npz", reader="volume").splits["all"]["volume"].shape == (6, 1, 4, 8, 7)


def test_channels_are_never_guessed(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", x=np.zeros((6, 3, 5, 7, 4)), y=LABELS)
    with pytest.raises(ShapeError) as caught:
        load_data(tmp_path / "v.npz")
    assert "could have their channels second or last" in caught.value.what
    assert load_data(tmp_path / "v.npz", channels_first=True).splits["all"]["volume"].shape == (6, 3, 5, 7, 4)
    assert load_data(tmp_path / "v.npz", channels_first=False).splits["all"]["volume"].shape == (6, 4, 3, 5, 7)


def test_folders_of_numbered_frames_are_clips(tmp_path: Path) -> None:
    clips = {"train/jump/a": 4, "train/jump/b": 4, "train/wave/a": 4, "test/jump/c": 4, "test/wave/d": 4}
    data = load_data(write_clips(tmp_path / "moves", clips))
    assert data.reader == "volume"
    assert {name: split.num_rows for name, split in data.splits.items()} == {"train": 3, "test": 2}
    assert data.spec.classes == ("jump", "wave")
    volume = data.splits["train"]["volume"]
    assert volume.shape == (3, 1, 4, 6, 8)
    assert volume[:, 0, :, 0, 0].tolist() == [[0, 10, 20, 30]] * 3
    assert data.splits["train"]["label"].tolist() == [0, 0, 1]
    assert data.splits["test"].origin == ["test/jump/c", "test/wave/d"]


def test_longer_clips_give_frames_at_even_distances(tmp_path: Path) -> None:
    data = load_data(write_clips(tmp_path, {"a/1": 9, "a/2": 3, "b/3": 5}, colour=True))
    volume = data.splits["all"]["volume"]
    assert volume.shape == (3, 3, 3, 6, 8)
    assert volume[0, 1, :, 0, 0].tolist() == [0, 40, 80]
    assert volume[2, 1, :, 0, 0].tolist() == [0, 20, 40]
    assert any("3 frames or more: of longer ones 3 at even distances" in note for note in data.notes)


def test_a_model_gets_the_frames_and_the_size_that_it_knows(tmp_path: Path) -> None:
    source = Source(write_clips(tmp_path, {"a/1": 9, "b/2": 7}, size=(12, 12)))
    data = read_clips(find_clips(source), source, DataConfig(), notes=[], shape=(3, 5, 6, 6))
    assert data.splits["all"]["volume"].shape == (2, 3, 5, 6, 6)


def test_frames_of_different_sizes_are_fitted(tmp_path: Path) -> None:
    write_clips(tmp_path, {"a/1": 3, "a/2": 3}, size=(10, 20))
    write_clips(tmp_path, {"b/3": 3}, size=(12, 12))
    assert load_data(tmp_path).splits["all"]["volume"].shape == (3, 1, 3, 10, 10)
    assert load_data(tmp_path, shape=(4, 6)).splits["all"]["volume"].shape == (3, 1, 3, 4, 6)
    with pytest.raises(DataError, match="no size of frames"):
        load_data(tmp_path, shape=(4, 6, 3))


def test_folders_of_photographs_are_no_clips(tmp_path: Path) -> None:
    write_clips(tmp_path, {"cats": 4, "dogs": 4})
    assert load_data(tmp_path).reader == "image-folder"
    other = write_clips(tmp_path / "other", {"cats/tabby": 3, "cats/black": 3, "dogs/pug": 3}, name="{:04d}")
    assert load_data(other).reader == "image-folder"
    assert load_data(other, reader="volume").splits["all"]["volume"].shape == (3, 1, 3, 6, 8)


@pytest.mark.parametrize("name", ["{:04d}", "frame{:03d}"])
@pytest.mark.parametrize(
    "folders",
    [
        ["train.tar/set/train/cat", "train.tar/set/train/dog", "val.tar/set/val/cat", "val.tar/set/val/dog"],
        ["set/cat", "set/dog", "set/cow"],
        ["train/cat", "train/dog", "val/cat", "val/dog"],
    ],
)
def test_classes_in_splits_and_wrappings_are_no_clips(name: str, folders: list[str], tmp_path: Path) -> None:
    data = load_data(write_clips(tmp_path, dict.fromkeys(folders, 3), name=name))
    assert data.reader == "image-folder"
    assert set(data.spec.classes) >= {"cat", "dog"}


def test_a_damaged_frame_is_a_fault_of_its_clip(tmp_path: Path) -> None:
    write_clips(tmp_path, {"a/1": 3, "a/2": 3, "b/3": 3})
    bad = tmp_path / "a" / "2" / "frame002.png"
    bad.write_bytes(bad.read_bytes()[:45])
    with pytest.raises(DataError) as caught:
        load_data(tmp_path)
    assert "frame002.png" in caught.value.where
    assert load_data(tmp_path, on_fault="skip").splits["all"].num_rows == 2


def test_too_much_for_memory_is_refused(tmp_path: Path) -> None:
    write_clips(tmp_path, {"a/1": 30, "a/2": 30, "b/3": 30}, size=(120, 120))
    with pytest.raises(DataError, match="MiB"):
        load_data(tmp_path, max_memory_mb=1)
