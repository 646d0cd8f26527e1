"""Inputs for prediction: everything that fits is read as in training, everything else says what would."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lamina.core.errors import DataError, DtypeError, LaminaError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, DataSpec, column_spec
from lamina.data.decoded_ahead import LoadedColumns
from lamina.data.inputs import read_inputs
from lamina.data.loading import load_data

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (5, 8, 9, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (5, 8, 8), dtype=np.uint8)
DIGITS = RANDOM.integers(0, 17, (5, 8, 8), dtype=np.uint8)
NCHW = COLOUR.transpose(0, 3, 1, 2)


def images_of(*shape: int, dtype: str = "uint8", **more: Any) -> DataSpec:
    return DataSpec(columns={"image": ColumnSpec(role="image", dtype=dtype, shape=shape, **more)}, num_rows={})


COLOURED = images_of(3, 8, 9)
PLAIN = images_of(1, 8, 8)
SIXTEEN = images_of(1, 8, 8, maximum=16.0)
SHARES = images_of(1, 8, 8, dtype="float32", maximum=1.0)
FITTED = images_of(3, 8, 8, resize="crop")


def pixels(inputs: Any, spec: DataSpec, **more: Any) -> np.ndarray:
    columns, names = read_inputs(inputs, spec, **more)
    assert len(names) == columns.num_rows
    assert set(columns) == {"image"}
    return columns["image"].numpy()


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


# --- arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_batches_either_way(wrap: Any) -> None:
    for given in (COLOUR, NCHW):
        found = pixels(wrap(given), COLOURED)
        assert found.dtype == np.uint8
        assert (found == NCHW).all()


def test_single_images() -> None:
    for given in (COLOUR[0], NCHW[0], Image.fromarray(COLOUR[0])):
        columns, names = read_inputs(given, COLOURED)
        assert (columns["image"].numpy() == NCHW[:1]).all()
        assert names == ["inputs"]
    for given in (GREY[0], GREY[0][None], GREY[0][..., None], GREY[0].reshape(-1)):
        assert (pixels(given, PLAIN) == GREY[:1, None]).all()


def test_grey_batches() -> None:
    for given in (GREY, GREY[:, None], GREY[..., None], GREY.reshape(5, -1)):
        assert (pixels(given, PLAIN) == GREY[:, None]).all()


def test_lists_of_inputs() -> None:
    columns, names = read_inputs([COLOUR[0], NCHW[1:3], Image.fromarray(COLOUR[3])], COLOURED)
    assert (columns["image"].numpy() == NCHW[:4]).all()
    assert names == ["input 0", "input 1 row 0", "input 1 row 1", "input 3"[:-1] + "2"]


def test_layouts_that_both_fit_must_be_said() -> None:
    spec = images_of(3, 3, 3)
    given = RANDOM.integers(0, 256, (2, 3, 3, 3), dtype=np.uint8)
    with pytest.raises(ShapeError, match="NCHW and as NHWC") as caught:
        read_inputs(given, spec)
    assert "channels_first=True" in caught.value.mend
    assert (pixels(given, spec, channels_first=True) == given).all()
    assert (pixels(given, spec, channels_first=False) == given.transpose(0, 3, 1, 2)).all()
    with pytest.raises(ShapeError, match="as said"):
        read_inputs(COLOUR, COLOURED, channels_first=True)


def test_rows_of_colours_must_be_said() -> None:
    rows = NCHW.reshape(5, -1)
    with pytest.raises(ShapeError, match="plane by plane or interleaved"):
        read_inputs(rows, COLOURED)
    assert (pixels(rows, COLOURED, channels_first=True) == NCHW).all()
    assert (pixels(COLOUR.reshape(5, -1), COLOURED, channels_first=False) == NCHW).all()


def test_values_arrive_in_the_range_of_training() -> None:
    assert (pixels(GREY.astype(np.int32), PLAIN) == GREY[:, None]).all()
    np.testing.assert_allclose(pixels(GREY / 255, PLAIN), GREY[:, None], atol=1e-3)
    np.testing.assert_allclose(pixels(GREY.astype(np.float64), PLAIN), GREY[:, None])
    np.testing.assert_allclose(pixels(DIGITS, SIXTEEN), DIGITS[:, None])
    np.testing.assert_allclose(pixels(DIGITS.astype(float), SIXTEEN), DIGITS[:, None])
    np.testing.assert_allclose(pixels(DIGITS / 16, SIXTEEN), DIGITS[:, None], atol=1e-5)
    np.testing.assert_allclose(pixels(GREY, SHARES), GREY[:, None] / 255, atol=1e-6)
    np.testing.assert_allclose(pixels(GREY / 255, SHARES), GREY[:, None] / 255, atol=1e-6)
    own = images_of(1, 8, 8, dtype="float32")
    np.testing.assert_allclose(pixels(GREY / 100 - 1, own), GREY[:, None] / 100 - 1, atol=1e-6)


def test_a_picture_is_scaled_to_the_range_of_training() -> None:
    np.testing.assert_allclose(pixels(Image.fromarray(GREY[0]), SIXTEEN), GREY[:1, None] * (16 / 255), atol=1e-4)
    np.testing.assert_allclose(pixels(Image.fromarray(GREY[0]), SHARES), GREY[:1, None] / 255, atol=1e-6)
    with pytest.raises(DataError, match="range of their own"):
        read_inputs(Image.fromarray(GREY[0]), images_of(1, 8, 8, dtype="float32"))


def test_other_sizes_are_fitted_only_where_training_did() -> None:
    big = RANDOM.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    for given in (big, big.transpose(0, 3, 1, 2), [Image.fromarray(image) for image in big]):
        assert pixels(given, FITTED).shape == (2, 3, 8, 8)
    np.testing.assert_array_equal(pixels(big, FITTED)[0], pixels(Image.fromarray(big[0]), FITTED)[0])
    with pytest.raises(ShapeError, match="shaped"):
        read_inputs(big, COLOURED)
    with pytest.raises(ShapeError, match="20x30"):
        read_inputs(Image.fromarray(big[0]), COLOURED)
    with pytest.raises(ShapeError, match="only bytes are resized"):
        read_inputs(big / 255, FITTED)


@pytest.mark.parametrize(
    ("inputs", "spec", "error", "says"),
    [
        (GREY.astype(np.int32) - 9, PLAIN, DataError, "go from"),
        (GREY.astype(np.int32) + 9, PLAIN, DataError, "go from"),
        (GREY, SIXTEEN, DataError, "0 to 16"),
        (GREY.astype(float) - 128, PLAIN, DataError, "scaling and centring are done inside"),
        (np.where(GREY > 200, np.nan, 1.0), PLAIN, DataError, "not finite"),
        (GREY.astype(str), PLAIN, DtypeError, "numbers"),
        (GREY, COLOURED, ShapeError, "(N, 3, 8, 9)"),
        (COLOUR, PLAIN, ShapeError, "(N, 1, 8, 8)"),
        (GREY.reshape(5, -1)[:, 1:], PLAIN, ShapeError, "8x8"),
        ([], PLAIN, DataError, "no inputs"),
        ("nowhere.png", PLAIN, DataError, "no file or folder"),
        (GREY, DataSpec(columns={"text": ColumnSpec(role="text", dtype="int64")}, num_rows={}), DataError, "text"),
    ],
)
def test_what_does_not_fit(inputs: Any, spec: DataSpec, error: type[LaminaError], says: str) -> None:
    with pytest.raises(error) as caught:
        read_inputs(inputs, spec)
    assert says in str(caught.value)
    assert caught.value.mend


# --- files -------------------------------------------------------------------------------------------------------------


def test_picture_files_folders_and_archives(tmp_path: Path) -> None:
    paths = [save(tmp_path / "p" / "sub" / f"{i}.png", COLOUR[i]) for i in (2, 1, 0)]
    columns, names = read_inputs([str(path) for path in paths], COLOURED)
    assert (columns["image"].numpy() == NCHW[[2, 1, 0]]).all()
    assert names == [str(path) for path in paths]
    columns, names = read_inputs(tmp_path / "p", COLOURED)
    assert (columns["image"].numpy() == NCHW[:3]).all()
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in paths:
            archive.write(path, path.name)
    columns, names = read_inputs(tmp_path / "p.zip", COLOURED)
    assert (columns["image"].numpy() == NCHW[:3]).all()
    assert names[0] == f"{tmp_path / 'p.zip'}:0.png"


def test_pictures_are_fitted_as_in_training(tmp_path: Path) -> None:
    for i in range(6):
        save(tmp_path / "train" / "ab"[i % 2] / f"{i}.jpg", RANDOM.integers(0, 256, (40 + i, 60, 3), dtype=np.uint8))
    data = load_data(tmp_path, shape=(16, 16))
    columns, names = read_inputs(tmp_path / "train", data.spec)
    assert torch.equal(columns["image"], data.splits["train"]["image"])
    assert names == list(data.splits["train"].origin or ())
    grey = load_data(tmp_path, shape=(16, 16, 1))
    assert torch.equal(read_inputs(tmp_path / "train", grey.spec)[0]["image"], grey.splits["train"]["image"])


def test_many_pictures_are_decoded_while_predicting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamina.data.inputs._HELD_BYTES", 100)
    for i in range(3):
        save(tmp_path / f"{i}.png", COLOUR[i])
    columns, names = read_inputs(tmp_path, FITTED)
    assert isinstance(columns, LoadedColumns)
    assert len(names) == 3
    assert torch.cat([chunk["image"] for chunk in columns.chunks(2)]).shape == (3, 3, 8, 8)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("header", [True, False])
def test_pixel_csv_with_and_without_label(tmp_path: Path, labelled: bool, header: bool) -> None:
    rows = [[*(["7"] if labelled else []), *map(str, image.reshape(-1))] for image in GREY]
    names = [*(["label"] if labelled else []), *(f"pixel{i}" for i in range(64))]
    path = tmp_path / "new.csv"
    path.write_text("\n".join(",".join(row) for row in ([names] if header else []) + rows))
    columns, found = read_inputs(path, PLAIN)
    assert (columns["image"].numpy() == GREY[:, None]).all()
    assert found[0] == f"{path}:{2 if header else 1}"
    with pytest.raises(DataError, match="64 pixels") as caught:
        read_inputs(path, images_of(1, 28, 28))
    assert "784 pixels a row" in caught.value.accepts


def test_pixel_csv_of_colours_follows_training(tmp_path: Path) -> None:
    names = ",".join(["label", *(f"pixel{i}" for i in range(216))])
    for planar, given in ((True, NCHW), (False, COLOUR)):
        path = tmp_path / "a.csv"
        path.write_text("\n".join([names, *(",".join(["1", *map(str, image.reshape(-1))]) for image in given)]))
        data = load_data(path, shape=(8, 9, 3), channels_first=planar or None)
        assert (pixels(path, data.spec) == NCHW).all()


def test_array_files_and_their_ranges(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", COLOUR)
    assert (pixels(tmp_path / "a.npy", COLOURED) == NCHW).all()
    np.savez(tmp_path / "a.npz", x_test=GREY, y_test=np.zeros(5, int))
    assert (pixels(tmp_path / "a.npz", PLAIN) == GREY[:, None]).all()
    np.save(tmp_path / "b.npy", GREY / 600)
    np.testing.assert_allclose(pixels(tmp_path / "b.npy", PLAIN), GREY[:, None] * (255 / 600), rtol=1e-5)
    np.testing.assert_allclose(pixels(tmp_path / "a.npz", SHARES), GREY[:, None] / 255, atol=1e-6)
    with pytest.raises(ShapeError, match=r"\(1, 8, 8\)"):
        read_inputs(tmp_path / "a.npz", COLOURED)
    with pytest.raises(DataError, match="go from"):
        read_inputs(tmp_path / "a.npz", SIXTEEN)


def test_bad_rows_and_pictures_always_stop(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text(",".join(f"pixel{i}" for i in range(64)) + "\n" + ",".join(["300"] + ["0"] * 63))
    with pytest.raises(DataError):
        read_inputs(path, PLAIN)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    with pytest.raises(DataError, match="damaged") as caught:
        read_inputs(tmp_path / "x.png", PLAIN)
    assert caught.value.where == str(tmp_path / "x.png")


def test_files_that_hold_no_images(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(range(100)))
    with pytest.raises(DataError, match="no images") as caught:
        read_inputs(tmp_path / "x.bin", PLAIN)
    assert "8x8" in caught.value.accepts


def test_columns_pass_through() -> None:
    columns = Columns({"image": torch.zeros(2, 1, 8, 8)})
    assert read_inputs(columns, PLAIN) == (columns, ["row 0", "row 1"])


# --- tables ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "t.csv"
    path.write_text(
        "size,colour,weight,kind\n"
        + "\n".join(f"{i},{'red' if i % 2 else 'blue'},{i / 2},{'ab'[i % 2]}" for i in range(8))
    )
    return path


def test_tables_by_file_frame_and_mapping(table: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    spec = load_data(table, label="kind").spec
    other = tmp_path / "new.csv"
    other.write_text("weight,size,colour\n1.5,3,red\n2,4,blue\n")
    columns, names = read_inputs(other, spec)
    assert set(columns) == {"number", "category"}
    for given in (pandas.read_csv(other), {"weight": [1.5, 2], "size": [3, 4], "colour": ["red", "blue"]}):
        again, _ = read_inputs(given, spec)
        assert all(torch.equal(columns[name], again[name]) for name in columns)
    assert names[0].endswith(":2")
    with pytest.raises(DtypeError, match="categories"):
        read_inputs(np.zeros((2, 3)), spec)
    other.write_text("weight,colour\n1.5,red\n")
    with pytest.raises(DataError, match="'size' is missing"):
        read_inputs(other, spec)


def test_tables_by_array() -> None:
    spec = load_data("iris").spec
    rows = load_data("iris").splits["all"]["number"][:3]
    for given in (rows, rows.numpy(), rows.tolist()):
        assert torch.equal(read_inputs(given, spec)[0]["number"], rows)
    assert torch.equal(read_inputs(rows[0], spec)[0]["number"], rows[:1])
    assert torch.equal(read_inputs([5.1, 3.5, 1.4, 0.2], spec)[0]["number"], rows[:1])
    with pytest.raises(ShapeError, match=r"\(3, 3\)") as caught:
        read_inputs(rows[:, :3], spec)
    assert "sepal" in caught.value.accepts
    assert column_spec("number", rows).shape == (4,)


def test_a_frame_of_pixels() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(GREY.reshape(5, -1), columns=[f"pixel{i}" for i in range(64)])
    assert (pixels(frame, PLAIN) == GREY[:, None]).all()


def test_streams_are_not_inputs() -> None:
    with pytest.raises(LaminaError):
        read_inputs(io.BytesIO(b"x"), PLAIN)
