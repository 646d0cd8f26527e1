"""Pixel CSV: what is understood, and that every fault names file, row, column and value."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamina.core.errors import DataError, UnknownNameError
from lamina.data.columns import Data
from lamina.data.loading import load_data
from lamina.data.readers import pixel_text

SIDE = 8
NUM = SIDE * SIDE


def pixels(rows: int, width: int = NUM, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, (rows, width))


def make(
    path: Path,
    values: np.ndarray,
    *,
    labels: list[Any] | None = None,
    header: str | None = "named",
    place: int = 0,
    delimiter: str = ",",
    end: str = "\n",
    name: str = "label",
) -> Path:
    rows = [[str(v) for v in row] for row in values.tolist()]
    names = [f"pixel{i + 1}" for i in range(values.shape[1])]
    if labels is not None:
        names.insert(place % (len(names) + 1), name)
        for row, label in zip(rows, labels, strict=True):
            row.insert(place % (len(row) + 1), str(label))
    lines = ([names] if header else []) + rows
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes((end.join(delimiter.join(line) for line in lines) + end).encode())
    return path


def read(path: Path, **fields: Any) -> Data:
    return load_data(path, reader="pixel-csv", **fields)


def images(data: Data, split: str = "all") -> np.ndarray:
    return data.splits[split]["image"].flatten(1).numpy()


def labels(data: Data, split: str = "all") -> list[str]:
    return [data.spec.classes[i] for i in data.splits[split]["label"].tolist()]


@pytest.mark.parametrize("header", ["named", None])
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_files(tmp_path: Path, header: str | None, place: int, delimiter: str, end: str) -> None:
    values = pixels(12)
    values[:, 0] = values[:, -1] = 0  # corners are black, as in digits
    given = [str(i % 3) for i in range(12)]
    path = make(tmp_path / "a.csv", values, labels=given, header=header, place=place, delimiter=delimiter, end=end)
    data = load_data(path)
    assert data.reader == "pixel-csv"
    assert data.splits["all"]["image"].shape == (12, 1, SIDE, SIDE)
    assert data.splits["all"]["image"].dtype == torch.uint8
    assert (images(data) == values).all()
    assert labels(data) == given
    assert data.splits["all"].origin[0] == f"{path}:{2 if header else 1}"  # type: ignore[index]
    assert data.spec.columns["image"].shape == (1, SIDE, SIDE)


@pytest.mark.parametrize("first", ["7", "0"])
def test_a_single_class_without_header_still_stands_first(tmp_path: Path, first: str) -> None:
    data = read(make(tmp_path / "a.csv", pixels(12), labels=[first] * 12, header=None))
    assert data.spec.classes == (first,)
    assert (images(data) == pixels(12)).all()


def test_gaps_in_the_labels_are_kept_as_names_in_numeric_order(tmp_path: Path) -> None:
    given = [24, 0, 10, 8, 2, 10]
    data = read(make(tmp_path / "a.csv", pixels(6), labels=given))
    assert data.spec.classes == ("0", "2", "8", "10", "24")
    assert labels(data) == [str(v) for v in given]


def test_names_as_labels(tmp_path: Path) -> None:
    given = ["cat", "dog", "cat", "a bird"]
    for place in (0, 5, -1):
        data = read(make(tmp_path / "a.csv", pixels(4), labels=given, place=place))
        assert data.spec.classes == ("a bird", "cat", "dog")
        assert labels(data) == given


def test_float_labels_are_whole_numbers(tmp_path: Path) -> None:
    data = read(make(tmp_path / "a.csv", pixels(3), labels=["1.0", "10.0", "2.0"]))
    assert data.spec.classes == ("1", "2", "10")


@pytest.mark.parametrize("choice", ["sign", "5", "-60"])
def test_the_label_is_chosen_by_header_or_number(tmp_path: Path, choice: str) -> None:
    values = pixels(5)
    path = make(tmp_path / "a.csv", values, labels=list("abcab"), place=5, name="sign")
    data = read(path, label=choice)
    assert labels(data) == list("abcab")
    assert (images(data) == values).all()


def test_an_unknown_label_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = make(tmp_path / "a.csv", pixels(5), labels=list("abcab"), name="sign")
    with pytest.raises(UnknownNameError) as caught:
        read(path, label="sing")
    assert "'sign'" in caught.value.mend
    assert str(path) in caught.value.where


def test_without_labels_there_is_no_label_column(tmp_path: Path) -> None:
    for header in ("named", None):
        data = read(make(tmp_path / "a.csv", pixels(5), header=header))
        assert set(data.splits["all"]) == {"image"}
        assert data.spec.classes == ()
        assert any("no labels" in note for note in data.notes)


def test_counted_headers(tmp_path: Path) -> None:
    values = pixels(6)
    body = "\n".join(",".join(map(str, [i % 2, *row])) for i, row in enumerate(values.tolist()))
    for head in ("label," + ",".join(str(i) for i in range(NUM)), ",".join(str(i) for i in range(NUM + 1))):
        path = tmp_path / "a.csv"
        path.write_text(f"{head}\n{body}\n")
        data = read(path, label="0" if head[0] == "0" else None)
        assert data.splits["all"].num_rows == 6
        assert (images(data) == values).all()


def test_row_by_column_headers_and_wrong_order(tmp_path: Path) -> None:
    values = pixels(4)
    names = [f"{1 + i // SIDE}x{1 + i % SIDE}" for i in range(NUM)]
    order = sorted(range(NUM), key=lambda i: str(i))  # 0, 1, 10, 11, …: as sorted by a careless exporter
    for pattern in (names, [f"pixel{i}" for i in range(NUM)], [f"pixel_{i // SIDE}_{i % SIDE}" for i in range(NUM)]):
        for places in (list(range(NUM)), order):
            path = tmp_path / "a.csv"
            lines = [",".join(pattern[i] for i in places) + ",class"]
            lines += [",".join(str(row[i]) for i in places) + ",k" for row in values.tolist()]
            path.write_text("\n".join(lines) + "\n")
            data = read(path)
            assert (images(data) == values).all()
            assert any("order of the numbers" in note for note in data.notes) == (places == order)


def test_columns_that_are_neither_are_left_out_and_said(tmp_path: Path) -> None:
    values = pixels(3)
    lines = ["id,label," + ",".join(f"pixel{i}" for i in range(NUM)) + ",Usage"]
    lines += [f"img{n},a," + ",".join(map(str, row)) + ",Training" for n, row in enumerate(values.tolist())]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    data = read(path)
    assert (images(data) == values).all()
    assert any("'id', 'Usage'" in note for note in data.notes)


def test_a_group_column(tmp_path: Path) -> None:
    values = pixels(4)
    lines = ["label,person," + ",".join(f"pixel{i}" for i in range(NUM))]
    lines += [
        f"{n % 2},{who}," + ",".join(map(str, row))
        for n, (who, row) in enumerate(zip("baba", values.tolist(), strict=True))
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    data = read(path, group="person")
    assert data.spec.columns["person"].role == "group"
    assert data.spec.columns["person"].classes == ("a", "b")
    assert data.splits["all"]["person"].tolist() == [1, 0, 1, 0]
    with pytest.raises(UnknownNameError, match="persons"):
        read(path, group="persons")


def test_a_byte_order_mark_blank_lines_quotes_and_spaces(tmp_path: Path) -> None:
    values = pixels(5)
    head = ",".join(["label", *(f"pixel{i}" for i in range(NUM))])
    rows = [",".join(map(str, [7, *row])) for row in values.tolist()]
    rows[1] = ",".join(f'"{v}"' for v in [7, *values[1]])
    rows[2] = ", ".join(map(str, [7, *values[2]]))
    rows[3] = ",".join(["7", *(f"{v}.0" for v in values[3])])
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (head + "\n" + rows[0] + "\n\n" + "\n".join(rows[1:]) + "\n\n").encode())
    data = load_data(path)
    assert (images(data) == values).all()
    assert data.spec.classes == ("7",)
    origin = data.splits["all"].origin
    assert origin is not None
    assert [name.rsplit(":")[-1] for name in origin] == ["2", "4", "5", "6", "7"]


def test_a_byte_order_mark_without_header(tmp_path: Path) -> None:
    values = pixels(3)
    path = make(tmp_path / "a.csv", values, labels=[1, 2, 3], header=None)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    data = read(path)
    assert labels(data) == ["1", "2", "3"]
    assert (images(data) == values).all()


def test_a_last_line_without_end(tmp_path: Path) -> None:
    path = make(tmp_path / "a.csv", pixels(3), labels=[1, 2, 3])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    assert read(path).splits["all"].num_rows == 3


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_text, "BLOCK_BYTES", 700)
    values = pixels(40)
    data = read(make(tmp_path / "a.csv", values, labels=list(range(40))))
    assert (images(data) == values).all()
    assert labels(data) == [str(i) for i in range(40)]


# --- ranges ------------------------------------------------------------------------------------------------------------


def test_shares_that_came_from_bytes_become_bytes(tmp_path: Path) -> None:
    values = pixels(4)
    data = read(make(tmp_path / "a.csv", np.round(values / 255, 6), labels=[1, 2, 1, 2]))
    assert data.splits["all"]["image"].dtype == torch.uint8
    assert (images(data) == values).all()
    assert any("multiples of 1/255" in note for note in data.notes)


def test_other_shares_stay_floats(tmp_path: Path) -> None:
    values = np.random.default_rng(1).random((4, NUM)).round(4)
    data = read(make(tmp_path / "a.csv", values, labels=[1, 2, 1, 2]))
    assert data.splits["all"]["image"].dtype == torch.float32
    np.testing.assert_allclose(images(data), values, atol=1e-6)
    assert data.spec.columns["image"].maximum == 1.0


@pytest.mark.parametrize(("high", "maximum"), [(17, 16.0), (2, 1.0), (256, None)])
def test_the_largest_value_is_kept_where_it_is_unusual(tmp_path: Path, high: int, maximum: float | None) -> None:
    values = pixels(4, high=high)
    values[0, 0] = high - 1
    data = read(make(tmp_path / "a.csv", values, labels=[1, 2, 1, 2]))
    assert (images(data) == values).all()
    assert data.spec.columns["image"].maximum == maximum
    assert any("largest pixel" in note for note in data.notes) == (maximum is not None)


# --- shapes ------------------------------------------------------------------------------------------------------------


def test_stated_shapes(tmp_path: Path) -> None:
    values = pixels(3, 6 * 10)
    path = make(tmp_path / "a.csv", values, labels=[1, 2, 3])
    assert read(path, shape=(6, 10)).splits["all"]["image"].shape == (3, 1, 6, 10)
    assert load_data(path, shape=(6, 10)).reader == "pixel-csv"
    with pytest.raises(DataError) as caught:
        read(path)
    assert "data.shape=[6,10]" in caught.value.mend
    with pytest.raises(DataError, match="has 60") as caught:
        read(path, shape=(8, 8))
    with pytest.raises(DataError, match="no image shape"):
        read(path, shape=(6, 5, 2))


def test_colours_need_a_shape_and_are_interleaved_unless_said(tmp_path: Path) -> None:
    values = pixels(3, 8 * 8 * 3)
    path = make(tmp_path / "a.csv", values, labels=[1, 2, 3])
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert "data.shape=[8,8,3]" in caught.value.mend
    data = read(path, shape=(8, 8, 3))
    assert (data.splits["all"]["image"].numpy() == values.reshape(3, 8, 8, 3).transpose(0, 3, 1, 2)).all()
    assert any("interleaved" in note for note in data.notes)
    data = read(path, shape=(8, 8, 3), channels_first=True)
    assert (data.splits["all"]["image"].numpy() == values.reshape(3, 3, 8, 8)).all()
    assert data.spec.columns["image"].planar


# --- faults ------------------------------------------------------------------------------------------------------------


def with_value(path: Path, row: int, column: int, text: str) -> Path:
    lines = path.read_text().split("\n")
    fields = lines[row - 1].split(",")
    fields[column] = text
    lines[row - 1] = ",".join(fields)
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("256", "above 255"),
        ("999", "above 255"),
        ("-1", "below 0"),
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("abc", "not a number"),
        ("", "missing"),
        ("12.5", "neither"),
        ("1e400", "not finite"),
        ("0x10", "not a number"),
    ],
)
def test_bad_pixels_are_named(tmp_path: Path, text: str, says: str) -> None:
    path = make(tmp_path / "a.csv", pixels(9), labels=list("abcabcabc"))
    with_value(path, 5, 3, text)
    with pytest.raises(DataError, match=says) as caught:
        read(path)
    assert caught.value.where == f"{path}, row 5, column 'pixel3'"
    assert "data.on_fault=skip" in caught.value.mend
    data = read(path, on_fault="skip")
    assert data.splits["all"].num_rows == 8
    (fault,) = data.faults
    assert (fault.file, fault.row, fault.column) == (str(path), 5, "pixel3")
    assert (fault.value == text) or float(fault.value or "nan") == float(text) or text in ("nan", "1e400")


def test_a_fraction_among_bytes_is_a_fault(tmp_path: Path) -> None:
    path = with_value(make(tmp_path / "a.csv", pixels(9), labels=list("abcabcabc")), 7, 10, "0.5")
    with pytest.raises(DataError, match="fraction") as caught:
        read(path)
    assert caught.value.where == f"{path}, row 7, column 'pixel10'"


def test_missing_labels_are_faults(tmp_path: Path) -> None:
    path = with_value(make(tmp_path / "a.csv", pixels(9), labels=list("abcabcabc")), 2, 0, "")
    with pytest.raises(DataError, match="missing") as caught:
        read(path)
    assert caught.value.where == f"{path}, row 2, column 'label'"
    assert read(path, on_fault="skip").splits["all"].num_rows == 8


def test_ragged_rows_are_faults_and_counted(tmp_path: Path) -> None:
    path = make(tmp_path / "a.csv", pixels(9), labels=list("abcabcabc"))
    lines = path.read_text().split("\n")
    lines[3] += ",7"
    lines[6] = lines[6].rsplit(",", 2)[0]
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="2 faults in all") as caught:
        read(path)
    assert caught.value.where == f"{path}, row 4"
    assert "66 columns, not 65" in caught.value.what
    data = read(path, on_fault="skip")
    assert [fault.row for fault in data.faults] == [4, 7]
    assert data.splits["all"].num_rows == 7


def test_many_faults_are_counted_not_all_listed(tmp_path: Path) -> None:
    path = make(tmp_path / "a.csv", np.full((1500, NUM), 300), labels=["x"] * 1500)
    path.write_text(path.read_text() + ",".join(["x"] + ["0"] * NUM) + "\n")
    data = read(path, on_fault="skip")
    assert len(data.faults) == 1000
    assert any("500 further faults" in note for note in data.notes)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n\n  \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"label," + b",".join(b"pixel%d" % i for i in range(64)) + b"\n", "no rows"),
        (b"label,pixel1,pixel1\n1,2,3\n", "called 'pixel1'"),
        (b"\x89PNG\0\0\0", "not text"),
        (b"label\n1\n2\n", "No column holds pixels"),
    ],
)
def test_files_that_are_no_pixels(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read(path)
    assert str(path) in caught.value.where
    assert caught.value.mend


def test_a_huge_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_text, "MAX_LINE_BYTES", 1 << 20)
    path = make(tmp_path / "a.csv", pixels(2), labels=[1, 2])
    with path.open("ab") as file:
        file.write(b"1," * (2 << 20))
    with pytest.raises(DataError, match="Line 4 is longer"):
        read(path)


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = make(tmp_path / "a.csv", pixels(1100, 1024), labels=["x"] * 1100)
    with pytest.raises(DataError) as caught:
        read(path, max_memory_mb=1)
    assert "max_memory_mb" in caught.value.mend


# --- several files -----------------------------------------------------------------------------------------------------


def test_a_folder_with_a_file_per_split(tmp_path: Path) -> None:
    folder = tmp_path / "signs"
    make(folder / "sign_mnist_train.csv", pixels(6), labels=[0, 1, 2, 10, 1, 2])
    make(folder / "sign_mnist_test.csv", pixels(2), labels=[10, 11])
    (folder / "notes.csv").write_text("name,remark\na,b\n")
    data = load_data(folder)
    assert {name: columns.num_rows for name, columns in data.splits.items()} == {"train": 6, "test": 2}
    assert list(data.splits) == ["train", "test"]
    assert data.spec.classes == ("0", "1", "2", "10", "11")
    assert labels(data, "test") == ["10", "11"]
    assert any("notes.csv" in note for note in data.notes)


def test_second_copies_are_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "signs"
    make(folder / "train.csv", pixels(6), labels=list("abcabc"))
    make(folder / "train" / "train.csv", pixels(6), labels=list("abcabc"))
    data = load_data(folder)
    assert data.splits["train"].num_rows == 6
    assert any("same content" in note for note in data.notes)


def test_a_test_file_without_labels(tmp_path: Path) -> None:
    make(tmp_path / "d" / "train.csv", pixels(6), labels=list("abcabc"))
    make(tmp_path / "d" / "test.csv", pixels(3))
    data = load_data(tmp_path / "d")
    assert set(data.splits["test"]) == {"image"}
    assert any("test split has no labels" in note for note in data.notes)


def test_files_of_different_width_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "d" / "train.csv", pixels(6), labels=list("abcabc"))
    make(tmp_path / "d" / "test.csv", pixels(3, 100), labels=list("abc"))
    with pytest.raises(DataError, match="different numbers of pixel columns"):
        load_data(tmp_path / "d")


def test_compressed_files_and_the_split_in_the_name(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.csv", pixels(6), labels=list("abcabc"))
    (tmp_path / "signs_val.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    data = load_data(tmp_path / "signs_val.csv.gz")
    assert list(data.splits) == ["valid"]
    assert data.splits["valid"].num_rows == 6


def test_a_table_is_left_to_others(tmp_path: Path) -> None:
    path = tmp_path / "houses.csv"
    path.write_text("rooms,price\n3,10.5\n4,12.25\n5,9.5\n" * 4)
    assert load_data(path).reader != "pixel-csv"
