"""Time series in CSV: how stamps are written, at which steps they come, and every fault by its place."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from helpers import shared_data
from lamina.core.errors import DataError
from lamina.data.config import DataConfig
from lamina.data.inspection import inspect_data
from lamina.data.loading import load_data
from lamina.data.series import describe_step

HOURS = [f"2020-01-{1 + hour // 24:02d} {hour % 24:02d}:00:00" for hour in range(60)]


def write(folder: Path, lines: list[str], name: str = "series.csv", *, end: str = "\n") -> Path:
    path = folder / name
    path.write_bytes((end.join(lines) + end).encode())
    return path


def hourly(folder: Path, changes: dict[int, str | None] | None = None, *, header: str = "date,a,b") -> Path:
    """60 hourly rows of two series; `changes` replaces rows by number, or leaves them out."""
    rows = [f"{stamp},{place},{place / 2}" for place, stamp in enumerate(HOURS)]
    for place, row in (changes or {}).items():
        rows[place] = row if row is not None else ""
    return write(folder, [header, *(row for row in rows if row)])


def series(path: Path, **fields: object) -> torch.Tensor:
    data = load_data(path, **fields)
    assert data.reader == "series", data.notes
    return data.splits["all"]["series"]


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "step"),
    [
        (HOURS, "hourly"),
        ([stamp.replace(" ", "T")[:16] for stamp in HOURS], "hourly"),
        ([f"{stamp}+01:00" for stamp in HOURS], "hourly"),
        ([f"19{49 + month // 12}-{month % 12 + 1:02d}" for month in range(40)], "monthly"),
        ([f"2020/{1 + day // 28}/{1 + day % 28}" for day in range(28)], "daily"),
        ([f"{1990 + quarter // 4} Q{quarter % 4 + 1}" for quarter in range(20)], "quarterly"),
        ([str(1950 + year) for year in range(30)], "yearly"),
        ([str(1_600_000_000 + 900 * place) for place in range(30)], "every 15 minutes"),
        ([str(1_600_000_000_000 + 60_000 * place) for place in range(30)], "every minute"),
        (["2020-01-31", "2020-02-29", "2020-03-31", "2020-04-30", "2020-05-31", "2020-06-30"], "monthly"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value[0]),
)
@pytest.mark.parametrize("quoted", [False, True])
def test_stamps_and_steps(tmp_path: Path, stamps: list[str], step: str, *, quoted: bool) -> None:
    mark = '"' if quoted else ""
    rows = [f"{mark}{stamp}{mark},{place}" for place, stamp in enumerate(stamps)]
    data = load_data(write(tmp_path, [f"{mark}date{mark},{mark}value{mark}", *rows], end="\r\n" if quoted else "\n"))
    assert data.reader == "series", data.notes
    column = data.spec.columns["series"]
    assert column.timing is not None
    assert describe_step(column.timing) == step
    assert [field.name for field in column.fields] == ["value"]
    assert data.splits["all"]["series"].flatten().tolist() == list(range(len(stamps)))
    assert data.splits["all"]["time"].diff().min() > 0
    assert any(step in note for note in data.notes), "the step is said"
    assert data.spec.ordered


def test_offsets_are_brought_to_universal_time(tmp_path: Path) -> None:
    rows = [f"2020-01-01T{hour:02d}:00:00+02:00,{hour}" for hour in range(24)]
    time = load_data(write(tmp_path, ["time,x", *rows])).splits["all"]["time"]
    assert int(time[2]) == 1_577_836_800  # 2020-01-01 00:00 UTC


def test_semicolons_decimal_commas_and_columns_of_text(tmp_path: Path) -> None:
    rows = [f"{stamp};{place},5;calm" for place, stamp in enumerate(HOURS)]
    data = load_data(write(tmp_path, ["Zeit;wert;note", *rows]))
    assert data.reader == "series"
    assert data.splits["all"]["series"][3].tolist() == [3.5]
    assert any("note" in note and "text" in note for note in data.notes)


def test_compressed_and_divided_into_files(tmp_path: Path) -> None:
    rows = [f"{stamp},{place}" for place, stamp in enumerate(HOURS)]
    (tmp_path / "part2.csv.gz").write_bytes(gzip.compress("\n".join(["date,x", *rows[30:]]).encode()))
    write(tmp_path, ["date,x", *rows[:30]], "part3.csv")
    values = series(tmp_path)
    assert values.flatten().tolist() == list(range(60)), "parts are put in the order of their stamps"
    folder = tmp_path / "splits"
    folder.mkdir()
    write(folder, ["date,x", *rows[:40]], "train.csv")
    write(folder, ["date,x", *rows[40:]], "test.csv")
    data = load_data(folder)
    assert {name: columns.num_rows for name, columns in data.splits.items()} == {"train": 40, "test": 20}


def test_ordinary_tables_stay_tables(tmp_path: Path) -> None:
    table = write(tmp_path, ["a,b,target", *(f"{n},{n * 2},{n % 3}" for n in range(30))], "table.csv")
    years = write(tmp_path, ["age,weight,grade", *(f"{20 + n % 7},{n},{n % 2}" for n in range(30))], "ages.csv")
    events = write(
        tmp_path,
        [
            "date,amount,size,kind",
            *(f"2020-{1 + n * 7 % 12:02d}-{1 + n * 5 % 28:02d},{n},{n * n % 7},{n % 2}" for n in range(30)),
        ],
        "events.csv",
    )
    for path in (table, years, events):
        assert load_data(path).reader == "table", path.name


def test_real_series_are_found() -> None:
    data = load_data(shared_data("ett/ETTh1.csv.gz"))
    assert data.reader == "series"
    assert tuple(data.splits["all"]["series"].shape) == (17_420, 7)
    assert [field.name for field in data.spec.columns["series"].fields][-1] == "OT"
    for name, rows in (("airline-passengers", 144), ("monthly-sunspots", 2820)):
        found = load_data(shared_data(f"timeseries/{name}.csv"))
        assert (found.reader, found.splits["all"].num_rows) == ("series", rows)
        assert describe_step(found.spec.columns["series"].timing) == "monthly"  # type: ignore[arg-type]


def test_what_lamina_data_says(tmp_path: Path) -> None:
    document = inspect_data(load_data(hourly(tmp_path)))
    row = document["statistics"]["series"]
    assert (row["step"], row["first"], row["last"]) == ("hourly", "2020-01-01", "2020-01-03 11:00:00")
    assert [field["name"] for field in row["fields"]] == ["a", "b"]
    assert document["duplicates"]["exact"]["rows"] == 0


# --- faults ----------------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[dict[int, str | None], str, int]] = {
    "backwards": ({30: "2020-01-01 03:30:00,1,1"}, "time goes backwards", 32),
    "twice": ({30: f"{HOURS[29]},1,1"}, "given twice: row 31", 32),
    "gap": ({30: None}, "1 row is missing before it", 32),
    "long gap": ({30: None, 31: None}, "2 rows are missing before it", 32),
    "between": ({30: "2020-01-02 06:20:00,1,1"}, "between two steps", 32),
    "no date": ({30: "yesterday,1,1"}, "no date or time", 32),
    "no such day": ({30: "2020-02-30 00:00:00,1,1"}, "no date or time", 32),
    "no stamp": ({30: ",1,1"}, "time stamp is missing", 32),
    "empty cell": ({30: f"{HOURS[30]},1,"}, "cell is empty", 32),
    "no number": ({30: f"{HOURS[30]},1,high"}, "not a number", 32),
    "infinite": ({30: f"{HOURS[30]},1,inf"}, "infinite or too large", 32),
    "too large": ({30: f"{HOURS[30]},1,1e60"}, "infinite or too large", 32),
    "ragged": ({30: f"{HOURS[30]},1"}, "2 cells", 32),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_stop_with_file_row_and_value(tmp_path: Path, name: str) -> None:
    changes, match, row = FAULTS[name]
    path = hourly(tmp_path, changes)
    with pytest.raises(DataError, match=f"(?i){match}") as caught:
        load_data(path, reader="series")
    error = caught.value
    assert f"{path}, row {row}, column " in error.where or name == "ragged"
    assert all(len(part) > 3 for part in (error.what, error.where, error.accepts, error.mend))
    data = load_data(path, reader="series", on_fault="skip")
    assert data.faults
    assert data.faults[0].row == row
    assert data.splits["all"]["time"].diff().min() > 0
    assert bool(data.splits["all"]["series"].isfinite().all())


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (["a,b", *(f"{n},{n}" for n in range(20))], "No column holds time stamps"),
        (["date,note", *(f"{stamp},calm" for stamp in HOURS)], "no column holds numbers"),
        (["date,a", *(f"{stamp},{'x' * n}" for n, stamp in enumerate(HOURS))], "no column holds numbers"),
        (["date,a,a", *(f"{stamp},1,2" for stamp in HOURS)], "Two columns are called 'a'"),
    ],
)
def test_files_that_are_no_series(tmp_path: Path, lines: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load_data(write(tmp_path, lines), reader="series")
    assert caught.value.mend


def test_files_of_other_columns_and_steps(tmp_path: Path) -> None:
    write(tmp_path, ["date,x", *(f"{stamp},1" for stamp in HOURS[:30])], "one.csv")
    write(tmp_path, ["date,y", *(f"{stamp},1" for stamp in HOURS[30:])], "two.csv")
    with pytest.raises(DataError, match="There is no column 'x' of numbers"):
        load_data(tmp_path, reader="series")


# --- gaps ------------------------------------------------------------------------------------------------------------


def test_gaps_are_filled_as_said(tmp_path: Path) -> None:
    path = hourly(tmp_path, {10: None, 11: None, 20: f"{HOURS[20]},,10"})
    line = series(path, gaps="interpolate")
    assert line[:, 0].tolist() == pytest.approx(list(range(60)))
    held = series(path, gaps="previous")[:, 0].tolist()
    assert held == [*range(10), 9, 9, *range(12, 20), 19, *range(21, 60)]
    passed = load_data(path, gaps="ignore")
    assert passed.splits["all"].num_rows == 57
    assert not passed.faults
    notes = load_data(path, gaps="interpolate").notes
    assert any("2 missing rows were put in and 1 rows with empty cells filled" in note for note in notes)


def test_gaps_of_months_are_filled_by_the_calendar(tmp_path: Path) -> None:
    stamps = [f"19{49 + month // 12}-{month % 12 + 1:02d}" for month in range(36)]
    rows = [f"{stamp},{place}" for place, stamp in enumerate(stamps) if place != 14]
    values = series(write(tmp_path, ["month,x", *rows]), gaps="interpolate")
    assert values.flatten().tolist() == pytest.approx(list(range(36)))


def test_a_wrong_year_is_not_filled_with_millions_of_rows(tmp_path: Path) -> None:
    path = hourly(tmp_path, {59: "2220-01-01 00:00:00,1,1"})
    with pytest.raises(DataError, match="rows would be made of 60"):
        load_data(path, reader="series", gaps="previous")


def test_a_column_is_named_as_the_time(tmp_path: Path) -> None:
    rows = [f"{place},{1_600_000_000 + 60 * place}" for place in range(30)]
    path = write(tmp_path, ["x,stamp", *rows])
    assert series(path, reader="series", time="stamp").shape == (30, 1)
    with pytest.raises(Exception, match="stmp"):
        load_data(path, reader="series", time="stmp")
    assert load_data(path, reader="series", time=1, config=DataConfig()).splits["all"].num_rows == 30
