"""Windows over a series, its splits in time order, the calendar, and what prediction is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamina.core.errors import ConfigError, DataError, LaminaError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, SeriesTiming
from lamina.data.config import DataConfig
from lamina.data.inputs import read_inputs
from lamina.data.loading import load_data, load_like
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.data.series import (
    CALENDAR,
    SeriesColumns,
    WindowColumns,
    as_stretches,
    calendar_features,
    following_times,
    month_parts,
    natural_season,
    time_text,
)
from lamina.data.splits import restore_split, split_data
from lamina.data.time_stamps import parse_stamp
from series_case import write_hours


def data_of(path: Path, **fields: Any) -> Data:
    config = DataConfig(**fields)
    return split_data(load_data(path, config=config), config, seed=0)


def windows(data: Data, name: str) -> WindowColumns:
    columns = data.splits[name]
    assert isinstance(columns, WindowColumns)
    return columns


# --- windows -----------------------------------------------------------------------------------------------------------


def test_windows_are_rows_in_time_order(tmp_path: Path) -> None:
    path = write_hours(tmp_path, rows=100, width=2)
    values = load_data(path).splits["all"]["series"]
    data = data_of(path, past_length=6, horizon=3, valid_fraction=0.2, test_fraction=0.1)
    assert list(data.splits) == ["train", "valid", "test"]
    assert {name: len(rows) for name, rows in data.rows.items()} == {"train": 72, "valid": 18, "test": 10}
    train, valid, test = (windows(data, name) for name in data.splits)
    assert (train.num_rows, valid.num_rows, test.num_rows) == (72 - 9 + 1, 18 - 3 + 1, 10 - 3 + 1)
    batch = train.batch(torch.tensor([0, 5]))
    assert torch.equal(batch["past"][1], values[5:11])
    assert torch.equal(batch["future"][1], values[11:14])
    # The first window of validation is forecast from the last rows of training.
    assert torch.equal(valid.batch(torch.tensor([0]))["past"][0], values[66:72])
    assert torch.equal(valid["future"][0], values[72:75])
    assert torch.equal(test["future"][-1], values[97:100])
    assert bool((valid["future_time"] - valid["past_time"][:, -1:] > 0).all())
    assert valid.origin is not None
    assert valid.origin[0] == f"{path}:74"
    taken = valid.take(torch.tensor([3, 1]))
    assert torch.equal(taken["past"], valid["past"][[3, 1]])
    assert data.spec.columns["past"].shape == (6, 2)
    assert data.spec.columns["future"].shape == (3, 2)
    assert data.spec.num_rows == {"train": 64, "valid": 16, "test": 8}


def test_strides_and_defaults(tmp_path: Path) -> None:
    path = write_hours(tmp_path, rows=300)
    assert windows(data_of(path, past_length=6, horizon=3, stride=5), "train").first.tolist()[:3] == [6, 11, 16]
    column = data_of(path).spec.columns
    assert (column["past"].shape, column["future"].shape) == ((72, 1), (24, 1)), "three days before, a day ahead"
    assert column["past"].timing is not None
    assert column["past"].timing.season == 24


def test_windows_become_stretches_again(tmp_path: Path) -> None:
    path = write_hours(tmp_path, rows=60)
    data = data_of(path, past_length=4, horizon=2)
    back = as_stretches(data)
    assert torch.equal(back.splits["valid"]["series"], load_data(path).splits["all"]["series"][48:])
    assert "past" not in back.spec.columns
    again = restore_split(load_data(path, past_length=4, horizon=2), data.rows)
    for name in data.splits:
        assert torch.equal(again.splits[name]["past"], data.splits[name]["past"])
    assert again.spec == data.spec


def test_statistics_are_those_of_training(tmp_path: Path) -> None:
    path = write_hours(tmp_path, rows=200, width=2)
    values = load_data(path).splits["all"]["series"].double().numpy()
    data = data_of(path, past_length=24, horizon=4, boundaries=(100, 150, 200))
    past = data.spec.columns["past"]
    np.testing.assert_allclose(past.mean, values[:100].mean(0))
    np.testing.assert_allclose(past.std, values[:100].std(0))
    assert past.timing is not None
    np.testing.assert_allclose(past.timing.naive_error, np.abs(values[24:100] - values[:76]).mean(0))
    fitted = Preprocessing.fit((), data.splits["train"], data.spec)
    np.testing.assert_allclose(fitted.spec.columns["past"].mean, values[:100].mean(0))  # type: ignore[arg-type]
    batch = fitted(data.splits["valid"].batch(torch.tensor([0])))
    expected = (values[76:104] - values[:100].mean(0)) / values[:100].std(0)
    np.testing.assert_allclose(torch.cat([batch["past"], batch["future"]], 1)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_split_too_short_for_a_window_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The valid split has 10 rows and 40 before it .* needs 5 .* and 12") as caught:
        data_of(write_hours(tmp_path, rows=50), past_length=5, horizon=12)
    assert "data.horizon" in caught.value.mend


# --- splits --------------------------------------------------------------------------------------------------------------


def test_splits_are_stretches_in_time_order(tmp_path: Path) -> None:
    path = write_hours(tmp_path, rows=100)
    dates = data_of(path, boundaries=("2020-01-03", "2020-01-04", "2020-01-05"), past_length=4, horizon=2)
    assert [(int(rows[0]), int(rows[-1]) + 1) for rows in dates.rows.values()] == [(0, 48), (48, 72), (72, 96)]
    assert any("last 4 rows are left out" in note for note in dates.notes)
    limited = data_of(path, limit=30, past_length=4, horizon=2)
    assert limited.rows["train"].tolist() == list(range(50, 80))
    train = windows(limited, "train")
    assert int(train.first[0]) == 54, "nothing reaches back behind data.limit"
    assert any("latest 30 of 80" in note for note in limited.notes)
    whole = data_of(path, valid_fraction=0.0, past_length=4, horizon=2)
    assert list(whole.splits) == ["train"]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"split": "random"}, "would shuffle the rows of a time series"),
        ({"split": "kfold"}, "would shuffle"),
        ({"split": "group", "group": "a"}, "would shuffle"),
        ({"group": "a"}, "data.group=a"),
        ({"boundaries": (50, 40)}, "boundary 40"),
        ({"boundaries": (50, 400)}, "boundary 400"),
        ({"boundaries": ("soon",)}, "'soon' is no row number and no date"),
        ({"boundaries": ("2031-01-01",)}, "lies outside the series"),
    ],
)
def test_shuffled_and_impossible_splits_are_refused(tmp_path: Path, fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match) as caught:
        data_of(write_hours(tmp_path, rows=100), **fields)
    assert caught.value.exit_status == 2
    assert all(
        len(part) > 3 for part in (caught.value.what, caught.value.where, caught.value.accepts, caught.value.mend)
    )


def test_files_per_split_do_not_reach_into_each_other(tmp_path: Path) -> None:
    whole = write_hours(tmp_path, rows=90).read_text().splitlines()
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, rows in (("train", whole[1:61]), ("test", whole[61:])):
        (folder / f"{name}.csv").write_text("\n".join([whole[0], *rows]))
    data = data_of(folder, past_length=6, horizon=2)
    assert windows(data, "test").num_rows == 30 - 8 + 1
    assert windows(data, "valid").num_rows == 12 - 2 + 1, "validation is the end of training, so it may"
    with pytest.raises(ConfigError, match="divide one series"):
        data_of(folder, boundaries=(10, 20))
    given = data_of(folder, split="given", past_length=6, horizon=2)
    assert list(given.splits) == ["train", "test"]


def test_running_text_is_divided_in_order_too() -> None:
    lines = RaggedColumns({}, ragged={"text": Ragged.of_texts([f"line {n}" for n in range(10)])})
    spec = DataSpec(columns={"text": ColumnSpec(role="text", dtype="uint8", shape=(-1,))}, num_rows={}, ordered=True)
    data = split_data(Data({"all": lines}, spec), DataConfig(valid_fraction=0.2, test_fraction=0.1), seed=3)
    assert [rows.tolist() for rows in data.rows.values()] == [[0, 1, 2, 3, 4, 5, 6], [7, 8], [9]]
    with pytest.raises(ConfigError, match="running text"):
        split_data(Data({"all": lines}, spec), DataConfig(split="random"), seed=0)


def test_boundaries_are_for_rows_in_an_order() -> None:
    rows = Columns({"number": torch.rand(8, 1)})
    spec = DataSpec(columns={}, num_rows={})
    with pytest.raises(ConfigError, match="have none"):
        split_data(Data({"all": rows}, spec), DataConfig(boundaries=(4,)), seed=0)


# --- the calendar --------------------------------------------------------------------------------------------------------


def test_the_calendar_is_that_of_the_standard_library() -> None:
    generator = torch.Generator().manual_seed(0)
    seconds = torch.randint(-(2**33), 2**33, (500,), generator=generator)
    year, month, day, rest = month_parts(seconds)
    features = calendar_features(seconds, tuple(CALENDAR), cyclic=False)
    for place, stamp in enumerate(seconds.tolist()):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=stamp)
        assert (int(year[place]), int(month[place]), int(day[place])) == (moment.year, moment.month, moment.day)
        assert int(rest[place]) == moment.hour * 3600 + moment.minute * 60 + moment.second
        true = [
            moment.minute / 59,
            moment.hour / 23,
            moment.weekday() / 6,
            (moment.day - 1) / 30,
            (moment.month - 1) / 11,
            (moment.timetuple().tm_yday - 1) / 365,
        ]
        np.testing.assert_allclose(features[place] + 0.5, true, atol=1e-6)
        assert parse_stamp(moment.strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")) == stamp
        assert parse_stamp(time_text(stamp)) == stamp


def test_cyclic_features_lie_on_circles() -> None:
    midnight = torch.tensor([[0, 23 * 3600]])
    found = calendar_features(midnight, ("hour", "weekday"))
    assert found.shape == (1, 2, 4)
    torch.testing.assert_close(found[..., 0::2].square() + found[..., 1::2].square(), torch.ones(1, 2, 2))
    assert float((found[0, 0, :2] - found[0, 1, :2]).norm()) < 0.3, "23 o'clock is near midnight"
    with pytest.raises(ConfigError, match="'moon'"):
        calendar_features(midnight, ("moon",))


def test_months_that_follow_keep_their_day() -> None:
    last = parse_stamp("2019-12-31")
    assert last is not None
    stamps = following_times(last, SeriesTiming(months=1), 3).tolist()
    assert [time_text(stamp) for stamp in stamps] == ["2020-01-31", "2020-02-29", "2020-03-31"]
    fifth = parse_stamp("2019-11-05 06:00")
    assert fifth is not None
    assert time_text(int(following_times(fifth, SeriesTiming(months=3), 1)[0])) == "2020-02-05 06:00:00"
    thirtieth = parse_stamp("2020-01-30")
    assert thirtieth is not None
    assert [time_text(stamp) for stamp in following_times(thirtieth, SeriesTiming(months=1), 2).tolist()] == [
        "2020-02-29",
        "2020-03-30",
    ]
    assert natural_season(SeriesTiming(months=3)) == 4


def test_the_calendar_stands_behind_the_series(tmp_path: Path) -> None:
    data = data_of(write_hours(tmp_path, rows=80, width=2), past_length=6, horizon=3)
    steps = [{"name": "standardise"}, {"name": "calendar", "fields": ["hour", "weekday"]}]
    fitted = Preprocessing.fit(steps, data.splits["train"], data.spec)
    raw = data.splits["train"].batch(torch.tensor([0, 9]))
    batch = fitted(raw)
    assert batch["past"].shape == (2, 6, 6)
    assert batch["future"].shape == (2, 3, 2)
    torch.testing.assert_close(batch["past"][..., 2:], calendar_features(raw["past_time"], ("hour", "weekday")))
    again = Preprocessing.restore(fitted.describe(), fitted.tensors(), data.spec)
    assert torch.equal(again(raw)["past"], batch["past"])
    assert again.spec == fitted.spec
    with pytest.raises(ShapeError, match="no time stamps"):
        fitted({"past": raw["past"]})


@pytest.mark.parametrize("step", ["flatten", "pca", "zca", "impute", "one-hot"])
def test_steps_that_take_a_window_apart_are_refused(tmp_path: Path, step: str) -> None:
    data = data_of(write_hours(tmp_path, rows=60), past_length=6, horizon=3)
    with pytest.raises(LaminaError) as caught:
        Preprocessing.fit([{"name": step}], data.splits["train"], data.spec)
    assert "preprocess, step" in caught.value.where
    assert "time series" in caught.value.what


def test_scaling_and_order_of_steps(tmp_path: Path) -> None:
    data = data_of(write_hours(tmp_path, rows=60, width=2), past_length=6, horizon=3)
    train = data.splits["train"]
    scaled = Preprocessing.fit([{"name": "scale"}], train, data.spec)
    values = scaled(train.batch(torch.arange(train.num_rows)))["past"]
    assert float(values.min()) == pytest.approx(0.0, abs=1e-6)
    assert float(values.max()) <= 1.0 + 1e-6
    for steps, match in (
        ([{"name": "calendar"}, {"name": "standardise"}], "comes before others"),
        ([{"name": "standardise", "per": "feature"}], "moves along its series"),
    ):
        with pytest.raises(ConfigError, match=match):
            Preprocessing.fit(steps, train, data.spec)


# --- what prediction and judging are given -----------------------------------------------------------------------------


def test_inputs_are_the_last_rows_and_what_follows(tmp_path: Path) -> None:
    path = write_hours(tmp_path, rows=50, width=2)
    spec = data_of(path, past_length=6, horizon=3).spec
    columns, names = read_inputs(path, spec)
    values = load_data(path).splits["all"]["series"]
    assert torch.equal(columns["past"][0], values[-6:])
    assert time_text(int(columns["future_time"][0, 0])) == "2020-01-03 02:00:00"
    assert names == [str(path)]
    arrays, places = read_inputs(values.numpy(), spec)
    assert torch.equal(arrays["past"], columns["past"])
    assert len(places) == 1
    several, _ = read_inputs(torch.stack([values[:10], values[20:30]]), spec)
    assert several["past"].shape == (2, 6, 2)
    both, names = read_inputs([path, path], spec)
    assert (both.num_rows, names) == (2, [str(path)] * 2)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = write_hours(tmp_path, rows=50, width=2)
    spec = data_of(path, past_length=6, horizon=3).spec
    lines = [line.split(",") for line in path.read_text().splitlines()]
    turned = tmp_path / "turned.csv"
    turned.write_text("\n".join(",".join([row[2], row[0], row[1]]) for row in lines))
    assert torch.equal(read_inputs(turned, spec)[0]["past"], read_inputs(path, spec)[0]["past"])
    like = load_like(turned, spec=spec)
    assert torch.equal(like.splits["all"]["past"], load_like(path, spec=spec).splits["all"]["past"])
    assert like.spec.columns["past"].mean == spec.columns["past"].mean, "the statistics stay those of training"
    lacking = tmp_path / "lacking.csv"
    lacking.write_text("\n".join(",".join(row[:2]) for row in lines))
    with pytest.raises(DataError, match="no column 'b'"):
        read_inputs(lacking, spec)


@pytest.mark.parametrize(
    ("rows", "step", "match"),
    [(5, "h", "has 5 rows; the model reads 6"), (50, "d", "are daily; those of training are hourly")],
)
def test_inputs_that_do_not_fit(tmp_path: Path, rows: int, step: str, match: str) -> None:
    spec = data_of(write_hours(tmp_path, rows=50), past_length=6, horizon=3).spec
    other = write_hours(tmp_path, rows=rows, name="other.csv", hours=24 if step == "d" else 1)
    with pytest.raises(DataError, match=match) as caught:
        read_inputs(other, spec)
    assert caught.value.mend


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    spec = data_of(write_hours(tmp_path, rows=50, width=2), past_length=6, horizon=3).spec
    for array in (np.zeros((6, 3)), np.zeros((5, 2)), np.zeros(6)):
        with pytest.raises(ShapeError):
            read_inputs(array, spec)
    with pytest.raises(DataError, match="not finite"):
        read_inputs(np.full((6, 2), np.nan), spec)
    with pytest.raises(LaminaError):
        read_inputs(np.full((6, 2), "x"), spec)
    faulty = write_hours(tmp_path, rows=50, width=2, name="faulty.csv")
    faulty.write_text(faulty.read_text().replace("2020-01-02 05:00:00", "2020-01-02 04:00:00"))
    with pytest.raises(DataError, match="given twice"):
        read_inputs(faulty, spec)


def test_a_stretch_knows_its_rows() -> None:
    stretch = SeriesColumns(torch.arange(20.0).unsqueeze(1), torch.arange(20), start=5, stop=15)
    assert stretch.num_rows == 10
    inner = stretch.take(torch.arange(2, 6))
    assert isinstance(inner, SeriesColumns)
    assert (inner.start, inner.stop, inner.floor) == (7, 11, 0)
    assert inner.alone().floor == 7
    scattered = stretch.take(torch.tensor([3, 1]))
    assert not isinstance(scattered, SeriesColumns)
    assert scattered["series"].flatten().tolist() == [8, 6]
