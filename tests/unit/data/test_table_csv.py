"""Tables in CSV: delimiters, headers, targets, missing values, categories, and every fault by its place."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import shared_data
from lamina.core.errors import DataError, UnknownNameError
from lamina.data.columns import Columns, Data
from lamina.data.config import DataConfig
from lamina.data.embedded import iris
from lamina.data.loading import load_data, load_like
from lamina.data.readers import table_text
from lamina.data.readers.sources import Source
from lamina.data.readers.table_csv import TableReader


def read(path: Path, text: str | bytes | None = None, **config: Any) -> Data:
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return TableReader().read(Source(path), DataConfig(**config))


def all_rows(data: Data) -> Columns:
    return data.splits["all"]


def field_names(data: Data, column: str = "number") -> list[str]:
    return [field.name for field in data.spec.columns[column].fields]


SMALL = "width,height,kind\n1.5,2,cat\n2.5,3,dog\n3.5,4,cat\n4.5,5,dog\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def test_a_header_a_text_target_in_the_last_column(table: Path) -> None:
    data = read(table, SMALL)
    assert all_rows(data)["number"].tolist() == [[1.5, 2], [2.5, 3], [3.5, 4], [4.5, 5]]
    assert all_rows(data)["label"].tolist() == [0, 1, 0, 1]
    assert data.spec.classes == ("cat", "dog")
    assert field_names(data) == ["width", "height"]
    assert data.spec.columns["label"].fields[0].name == "kind"
    assert all_rows(data).origin is not None
    assert all_rows(data).origin[2] == f"{table}:4"
    assert any("'kind', the last column" in note and "it holds text such as 'cat'" in note for note in data.notes)
    assert not data.faults


@pytest.mark.parametrize(
    ("change", "delimiter"),
    [
        (lambda s: s.replace(",", ";"), "semicolon"),
        (lambda s: s.replace(",", "\t"), "tab"),
        (lambda s: s.replace(",", "|"), "bar"),
        (lambda s: "\n".join("   " + "   ".join(line.split(",")) + " " for line in s.splitlines()), "white space"),
        (lambda s: s.replace("\n", "\r\n"), "comma"),
        (lambda s: s.replace("\n", "\r"), "comma"),
        (lambda s: s.replace(",", " , "), "comma"),
        (lambda s: "\ufeff" + s, "comma"),
        (lambda s: s.encode("utf-16"), "comma"),
        (lambda s: "# a comment\n\n" + s, "comma"),
        (lambda s: s.replace("\n", "\n\n"), "comma"),
        (lambda s: s.replace("\n", ",,\n"), "comma"),
        (lambda s: s.replace("cat", '"cat"').replace("1.5", '"1.5"'), "comma"),
        (lambda s: s.rstrip("\n"), "comma"),
    ],
)
def test_the_same_table_written_otherwise(table: Path, change: Any, delimiter: str) -> None:
    data = read(table, change(SMALL), label="kind")
    assert all_rows(data)["number"].tolist() == [[1.5, 2], [2.5, 3], [3.5, 4], [4.5, 5]]
    assert data.spec.classes == ("cat", "dog")
    assert any("4 rows of 3 columns" in note and delimiter in note for note in data.notes)


def test_decimal_commas(table: Path) -> None:
    data = read(table, "a;b;c\n1,5;2;x\n2,25;3;y\n")
    assert all_rows(data)["number"].tolist() == [[1.5, 2.0], [2.25, 3.0]]
    assert any("decimal comma" in note for note in data.notes)


def test_compressed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(SMALL.encode()))
    assert all_rows(read(path)).num_rows == 4


def test_text_that_is_not_utf8(table: Path) -> None:
    data = read(table, SMALL.replace("dog", "chi\u00ean").encode("cp1252"))
    assert data.spec.classes == ("cat", "chi\u00ean")
    assert any("Windows-1252" in note for note in data.notes)
    late = (SMALL + "1,2,cat\n" * 40000).encode() + "1,2,chi\u00ean\n".encode("cp1252")
    assert "chi\u00ean" in read(table, late).spec.classes


@pytest.mark.parametrize("header", [None, False])
def test_without_a_header_columns_are_numbered(table: Path, header: bool | None) -> None:
    data = read(table, SMALL.split("\n", 1)[1], header=header)
    assert field_names(data) == ["0", "1"]
    assert all_rows(data).num_rows == 4


def test_a_header_of_numbers_needs_to_be_stated(table: Path) -> None:
    text = "2019,2020,2021\n1,2,3.5\n4,5,6.5\n"
    assert all_rows(read(table, text)).num_rows == 3
    data = read(table, text, header=True)
    assert all_rows(data).num_rows == 2
    assert field_names(data) == ["2019", "2020"]


def test_a_table_of_texts_has_a_header_when_its_words_do_not_occur_below(table: Path) -> None:
    data = read(table, "colour,size,taste\nred,big,good\nred,small,bad\nblue,big,good\n")
    assert field_names(data, "category") == ["colour", "size"]
    data = read(table, "red,big,good\nred,small,bad\nblue,big,good\n")
    assert all_rows(data).num_rows == 3


def test_names_in_a_comment_and_row_names(table: Path) -> None:
    assert field_names(read(table, "# a b c\n1.5 2 3.5\n2.5 3 4.5\n")) == ["a", "b"]
    data = read(table, ",a,b,y\n" + "".join(f"{i},{i / 2},{i % 3},{i % 2}\n" for i in range(12)))
    assert field_names(data) == ["a", "b"]
    assert data.spec.columns["column 0"].role == "id"
    data = read(table, "a b y\n" + "".join(f"r{i} {i / 2} {i % 3} {i % 2}\n" for i in range(30)))
    assert field_names(data) == ["a", "b"], "a header one cell short lacks the name of the row names"


def test_scikit_learns_counting_header(table: Path) -> None:
    data = read(table, "4,2,setosa,virginica\n1.5,2,0\n2.5,3,1\n3.5,4,0\n4.5,5,1\n")
    assert data.spec.classes == ("setosa", "virginica")
    assert all_rows(data)["label"].tolist() == [0, 1, 0, 1]
    data = read(table, "5,2,setosa,virginica\n1.5,2,0\n2.5,3,1\n3.5,4,0\n4.5,5,1\n")
    assert any("promises 5 rows; there are 4" in note for note in data.notes)


@pytest.mark.parametrize(
    ("label", "wanted"), [("kind", "kind"), ("KIND", "kind"), ("0", "width"), ("-2", "height"), ("height", "height")]
)
def test_the_target_is_chosen(table: Path, label: str, wanted: str) -> None:
    data = read(table, SMALL, label=label)
    key = "label" if "label" in data.spec.columns else "target"
    assert data.spec.columns[key].fields[0].name == wanted


def test_the_target_is_found_by_its_usual_names(table: Path) -> None:
    data = read(table, "species,y,a\nx,1,1.5\nx,2,2.5\nz,3,3.5\nz,4,4.5\n")
    assert data.spec.columns["label"].fields[0].name == "species"
    assert field_names(data) == ["y", "a"]


def test_an_unknown_target_or_group_is_refused_with_the_nearest_name(table: Path) -> None:
    with pytest.raises(UnknownNameError, match="no column called 'hight'") as error:
        read(table, SMALL, label="hight")
    assert "'height'" in error.value.mend
    with pytest.raises(UnknownNameError, match="no column called 'person'"):
        read(table, SMALL, group="person")
    with pytest.raises(DataError, match="both the target and the group"):
        read(table, SMALL, group="kind")


@pytest.mark.parametrize(
    ("values", "name", "target", "kind"),
    [
        ("0 1 1 0", "t", None, "class"),
        ("0 1", "t", None, "class"),
        ("0.0 1.0 1.0 0.0", "t", None, "class"),
        ("1 2 3 1 2 3", "t", None, "class"),
        ("1 2 3 4", "t", None, "number"),  # each value once: more like a measurement
        ("1 2 3 4", "label", None, "number"),
        ("1 2 3 4", "t", "class", "class"),
        ("0 1 1 0", "t", "number", "number"),
        ("0.5 1 1 0.5", "t", None, "number"),
        (" ".join(str(i % 21) for i in range(84)), "t", None, "number"),  # 21 values
        (" ".join(str(i % 20) for i in range(80)), "t", None, "class"),  # 20 values
        (" ".join(str(i % 26) for i in range(84)), "label", None, "class"),  # the name says it
        ("a 1 2 a 1 2", "t", None, "class"),
        ("1 -1 ? 1", "t", None, "class"),
    ],
)
def test_class_or_number(table: Path, values: str, name: str, target: str | None, kind: str) -> None:
    rows = "".join(f"{i * 0.5 + 0.25},{value}\n" for i, value in enumerate(values.split()))
    data = read(table, f"a,{name}\n{rows}", target=target)
    assert ("label" in data.spec.columns) == (kind == "class")
    assert any(f"it is a {kind}, as " in note for note in data.notes)


def test_classes_are_ordered_by_value_and_written_as_whole_numbers(table: Path) -> None:
    data = read(table, "a,label\n1.5,10.0\n2.5,9.0\n3.5,10.0\n4.5,9.0\n")
    assert data.spec.classes == ("9", "10")


def test_missing_values_stay_missing(table: Path) -> None:
    tokens = ["", "NA", "nan", "NaN", "?", "null", "-", "N/A"]
    text = "a,c,label\n" + "".join(f"{t},{t},x\n1.5,red,y\n" for t in tokens)
    data = read(table, text)
    assert all_rows(data)["number"].isnan().flatten().tolist() == [True, False] * len(tokens)
    assert all_rows(data)["category"].flatten().tolist() == [-1, 0] * len(tokens)
    assert any("'a' has 8 missing values" in note for note in data.notes)
    assert not data.faults


def test_a_missing_target_is_a_fault(table: Path) -> None:
    data = read(table, "a,b\n1.5,x\n2.5,\n3.5,y\n")
    assert all_rows(data)["number"].flatten().tolist() == [1.5, 3.5]
    assert [(f.row, f.column, f.message) for f in data.faults] == [(3, "b", "the target is missing")]
    assert data.faults[0].file == str(table)


def rows_with(value: str, *, num: int = 30) -> str:
    lines = [f"{i}.5,{i},{'xy'[i % 2]}" for i in range(num)]
    lines[16] = f"{value},16,x"
    return "\n".join(["a,b,kind", *lines, ""])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("abc", "not a number"),
        ("1_000", "not a number"),
        ("12,5,7", "5 cells"),
        ("inf", "infinite"),
        ("-Infinity", "infinite"),
        ("1e39", "infinite or too large"),
        ("0x10", "not a number"),
    ],
)
def test_faults_name_row_column_and_value(table: Path, value: str, message: str) -> None:
    data = read(table, rows_with(value))
    assert len(data.faults) == 1
    fault = data.faults[0]
    assert message in fault.message
    assert fault.row == 18
    assert fault.file == str(table)
    if "cells" not in message:
        assert (fault.column, fault.value) == ("a", value)
    assert all_rows(data).num_rows == 29
    assert all_rows(data).origin is not None
    assert all_rows(data).origin[16] == f"{table}:19"


def test_a_short_row_is_a_fault(table: Path) -> None:
    data = read(table, SMALL + "1,2\n")
    assert data.faults[0].row == 6
    assert "2 cells, the table 3 columns" in data.faults[0].message


def test_text_in_many_cells_makes_a_category(table: Path) -> None:
    text = "doors,size,kind\n" + "".join(f"{['2', '3', '4', '5more'][i % 4]},{i}.5,{'xy'[i % 2]}\n" for i in range(40))
    data = read(table, text)
    assert data.spec.columns["category"].fields[0].classes == ("2", "3", "4", "5more")
    assert not data.faults


def test_a_slip_among_few_numbers_is_a_fault_and_no_category(table: Path) -> None:
    lines = [f"{1 + i % 5},{i}.5,{'xy'[i % 2]}" for i in range(60)]
    lines[30] = "3 stars,30.5,x"
    data = read(table, "\n".join(["rating,size,kind", *lines]))
    assert [(fault.row, fault.column, fault.value) for fault in data.faults] == [(32, "rating", "3 stars")]
    assert field_names(data) == ["rating", "size"]


def test_the_decision_of_the_first_rows_holds(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_text, "DECIDING_CELLS", 30)
    data = read(table, rows_with("abc"))
    assert data.faults[0].value == "abc"
    assert data.faults[0].row == 18
    assert all_rows(data)["number"][:, 1].tolist() == [float(i) for i in range(30) if i != 16]
    data = read(table, rows_with("1.5").replace("x\n", "x\n", 1) + "1.5,3,z\n")
    assert data.spec.classes == ("x", "y", "z")


def test_columns_that_tell_nothing(table: Path) -> None:
    lines = [f"{i * 7 % 30},{i},5,,name {i},{i}.5,{'xy'[i % 2]}" for i in range(30)]
    data = read(table, "\n".join(["PassengerId,b,five,empty,name,v,kind", *lines]))
    assert field_names(data) == ["five", "v"]
    assert data.spec.columns["PassengerId"].role == "id"
    assert all_rows(data)["PassengerId"].tolist() == [i * 7 % 30 for i in range(30)]
    notes = "\n".join(data.notes)
    assert "'PassengerId' numbers the rows" in notes
    assert "'b' numbers the rows" in notes, "counts from 0 by one"
    assert "one value only tell nothing: five" in notes
    assert "'empty' has no values" in notes
    assert "'name' is text with 30 different values" in notes


def test_a_group_is_kept_beside_the_features(table: Path) -> None:
    text = "person,a,kind\n" + "".join(f"{['ann', 'bob', ''][i % 3]},{i}.5,{'xy'[i % 2]}\n" for i in range(12))
    data = read(table, text, group="person")
    assert data.spec.columns["person"].role == "group"
    assert data.spec.columns["person"].classes == ("ann", "bob", "(missing)")
    assert all_rows(data)["person"].tolist() == [0, 1, 2] * 4
    assert field_names(data) == ["a"]
    assert "group" in read(table, text.replace("person", "number"), group="number").spec.columns


def test_train_and_test_files_share_their_classes(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,c,kind\n1.5,red,x\n2.5,red,z\n3.5,blue,x\n1.5,blue,z\n")
    (tmp_path / "test.csv").write_text("a,c,kind\n1,green,y\n2,red,x\n")
    data = read(tmp_path)
    assert data.spec.classes == ("x", "y", "z")
    assert data.splits["test"]["label"].tolist() == [1, 0]
    assert data.spec.columns["category"].fields[0].classes == ("blue", "green", "red")
    assert data.splits["test"]["category"].flatten().tolist() == [1, 2]
    assert data.spec.num_rows == {"train": 4, "test": 2}


def test_a_test_file_without_the_target_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(SMALL)
    (tmp_path / "test.csv").write_text("width,height\n1,2\n3,4\n")
    data = read(tmp_path)
    assert set(data.splits) == {"train"}
    assert any("cannot be judged" in note for note in data.notes)


def test_parts_of_one_split_are_joined(tmp_path: Path) -> None:
    (tmp_path / "train_1.csv").write_text(SMALL)
    (tmp_path / "train_2.csv").write_text(SMALL.replace("dog", "ape"))
    data = read(tmp_path)
    assert data.spec.num_rows == {"train": 8}
    assert data.spec.classes == ("ape", "cat", "dog")
    assert data.splits["train"]["label"].tolist() == [1, 2, 1, 2, 1, 0, 1, 0]


def test_files_of_different_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(SMALL)
    (tmp_path / "b.csv").write_text("x,y\n1,2\n3,4\n")
    with pytest.raises(DataError, match="other columns"):
        read(tmp_path)
    (tmp_path / "b.csv").unlink()
    (tmp_path / "a.csv").rename(tmp_path / "train.csv")
    (tmp_path / "test.csv").write_text("width,depth,kind\n1,2,cat\n3,4,dog\n")
    with pytest.raises(DataError, match=r"'height' of .*train\.csv is missing"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "There is no table"),
        ("\n\n", "The file is empty"),
        ("# only\n# comments\n", "nothing but comments"),
        ("a\n1\n2\n", "one column only"),
        (b"a,b\n1,\x00\n", "zero bytes"),
        ("a,b,a\n1,2,3\n4,5,6\n", "Two columns are called 'a': number 0 and number 2"),
        ("a,b\n,x\n,y\n", "No column is left as a feature"),
        ("a,kind\n1.5,\n2.5,\n", "no rows that can be used"),
        ("a,kind\n" + "".join(f"{i}.5,name {i}\n" for i in range(30)), "would have 30 classes in 30 rows"),
        ("a,b\n" + '1,"x\n' + "1,2\n" * 50000, "cannot be parsed"),
    ],
)
def test_what_is_no_table_is_refused(table: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read(table, text)
    assert "table" in error.value.where
    assert error.value.mend


def test_sniffing_knows_tables_from_other_files(tmp_path: Path) -> None:
    def guess(text: str, name: str = "t.csv") -> float:
        (tmp_path / name).write_text(text)
        return TableReader().sniff(Source(tmp_path / name)).confidence

    assert guess(SMALL) > 0.6
    assert guess("once upon a time there was a king\nwho had a daughter\n", "t.txt") < 0.2
    assert guess("the DT B-NP\ndog NN I-NP\nbarks VBZ B-VP\n", "t.txt") < 0.2
    assert (
        guess("label\ttext\n" + "1\tWhat a long sentence about a film that nobody ever wanted to see\n" * 3, "t.tsv")
        < 0.3
    )
    assert guess("") == 0
    assert guess('a,b\n1,"x\n') < 0.7
    assert guess("a,b,a\n1,2,3\n") > 0.6, "reading it says what is wrong"
    (tmp_path / "empty").mkdir()
    assert TableReader().sniff(Source(tmp_path / "empty")).confidence == 0


def test_tables_read_like_a_bundles_data(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    spec = read(train, "a,c,b,kind\n1.5,red,1,x\n2.5,blue,2,y\n3.5,red,,x\n1,blue,4,y\n").spec
    other = tmp_path / "other.csv"

    def like(text: str, *, answers: bool) -> Data:
        other.write_text(text)
        return TableReader().read_like(Source(other), DataConfig(), spec=spec, answers=answers)

    data = like("kind,extra,b,C,a\nx,9,5,green,7\ny,9,?,red,8\n", answers=True)
    assert data.splits["all"]["number"][:, 0].tolist() == [7, 8]
    assert data.splits["all"]["number"][1, 1].isnan()
    assert data.splits["all"]["category"].flatten().tolist() == [-1, 1]
    assert data.splits["all"]["label"].tolist() == [0, 1]
    assert any("1 values of 'c' are no category of training ('green')" in note for note in data.notes)
    assert set(like("b,c,a\n5,green,7\n", answers=False).splits["all"]) == {"number", "category"}
    with pytest.raises(DataError, match="feature 'b' is missing"):
        like("a,c\n1,red\n", answers=False)
    with pytest.raises(DataError, match="target 'kind' is missing"):
        like("a,b,c\n1,2,red\n", answers=True)
    data = like("a,b,c,kind\n1,2,red,z\n1,2,red,y\noops,2,red,y\n", answers=True)
    assert [(f.row, f.column, f.value) for f in data.faults] == [(4, "a", "oops"), (2, "kind", "z")]
    assert data.splits["all"]["label"].tolist() == [1]
    with pytest.raises(DataError, match="header"):
        like("1,red,2\n3,red,4\n", answers=False)


def test_tables_without_a_header_are_matched_by_place(tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    spec = read(train, "x,1.5,2\ny,2.5,3\nx,3.5,5\ny,4.5,4\n", label="0").spec
    other = tmp_path / "other.csv"
    for text in ("7.5,8\n8.5,9\n", "x,7.5,8\ny,8.5,9\n", "p,q\n7.5,8\n8.5,9\n"):
        other.write_text(text)
        data = TableReader().read_like(Source(other), DataConfig(), spec=spec, answers=False)
        assert data.splits["all"]["number"].tolist() == [[7.5, 8], [8.5, 9]], text
    other.write_text("x,7.5,8\ny,8.5,9\n")
    data = TableReader().read_like(Source(other), DataConfig(), spec=spec, answers=True)
    assert data.splits["all"]["label"].tolist() == [0, 1]
    other.write_text("7.5,8\n8.5,9\n")
    with pytest.raises(DataError, match="target '0' is missing"):
        TableReader().read_like(Source(other), DataConfig(), spec=spec, answers=True)


@pytest.mark.parametrize(
    ("name", "rows", "features", "classes"),
    [("iris.csv", 150, 4, 3), ("pima-indians-diabetes.csv", 768, 8, 2), ("housing.csv", 506, 13, 0)],
)
def test_real_tables(name: str, rows: int, features: int, classes: int) -> None:
    data = read(shared_data("tabular") / name)
    assert not data.faults
    assert all_rows(data)["number"].shape == (rows, features)
    assert len(data.spec.classes) == classes
    assert ("target" in data.spec.columns) == (classes == 0)


def test_a_real_table_in_its_original_layout(tmp_path: Path) -> None:
    commas = (shared_data("tabular") / "housing.csv").read_text()
    spaces = "\n".join(" " + "  ".join(line.split(",")) for line in commas.splitlines())
    first, second = read(tmp_path / "a.csv", commas), read(tmp_path / "b.data", spaces)
    assert torch.equal(all_rows(first)["number"], all_rows(second)["number"])
    assert torch.equal(all_rows(first)["target"], all_rows(second)["target"])


@pytest.mark.parametrize(
    ("name", "rows", "features"), [("iris", 150, 4), ("wine_data", 178, 13), ("breast_cancer", 569, 30)]
)
def test_scikit_learns_own_files(name: str, rows: int, features: int) -> None:
    import sklearn.datasets

    data = read(Path(sklearn.datasets.__file__).parent / "data" / f"{name}.csv")
    assert all_rows(data)["number"].shape == (rows, features)
    assert not data.faults


def test_a_labelled_table_is_judged_by_the_columns_of_training(tmp_path: Path) -> None:
    """Few rows look otherwise than many: here a class would be a number, and a category a number too."""
    train, other = tmp_path / "train.csv", tmp_path / "other.csv"
    rows = "".join(f"{i}.5,{['2', '3', '4', 'more'][i % 4]},{i % 6}\n" for i in range(60))
    train.write_text(f"a,doors,quality\n{rows}")
    spec = load_data(train).spec
    assert spec.classes == tuple("012345")
    other.write_text("a,doors,quality\n1,2,5\n2,3,4\n3,4,3\n")
    assert "target" in load_data(other).spec.columns
    data = load_like(other, spec=spec)
    assert data.splits["all"]["label"].tolist() == [5, 4, 3]
    assert data.splits["all"]["category"].flatten().tolist() == [0, 1, 2]
    assert data.fingerprint
    other.write_text("a,doors,grade\n1,2,5\n2,3,4\n")
    assert load_like(other, spec=spec, config=DataConfig(label="grade")).splits["all"]["label"].tolist() == [5, 4]
    with pytest.raises(DataError, match="target 'quality' is missing"):
        load_like(other, spec=spec)
    other.write_text("a,doors,quality\n1,2,9\n")
    with pytest.raises(DataError, match="No class of training is called so"):
        load_like(other, spec=spec)
    assert load_like("iris", spec=spec).reader == "embedded"


def test_a_table_without_header_for_a_model_of_named_columns(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    spec = iris(DataConfig()).spec
    other.write_text("5.1,3.5,1.4,0.2,setosa\n6.1,3.5,4.4,1.2,virginica\n")
    data = load_like(other, spec=spec)
    assert data.splits["all"]["label"].tolist() == [0, 2]
    assert data.splits["all"]["number"][1].tolist() == pytest.approx([6.1, 3.5, 4.4, 1.2])
    other.write_text("setosa,5.1,3.5,1.4,0.2\nvirginica,6.1,3.5,4.4,1.2\n")
    assert load_like(other, spec=spec, config=DataConfig(label="0")).splits["all"]["label"].tolist() == [0, 2]
    other.write_text("5.1,3.5,1.4,0.2\n")
    with pytest.raises(DataError, match="The target is missing"):
        load_like(other, spec=spec)
    other.write_text("5.1,3.5\n1,2\n")
    with pytest.raises(DataError, match=r"'sepal length \(cm\)' is missing"):
        load_like(other, spec=spec)
