"""Time series: a stretch of rows in time order, windows of past and future over it, and the calendar.

A series is one row per time stamp. What a model learns from is a window: `past_length` rows that it sees and `horizon` rows
that follow and are to be forecast. Windows are rows of `WindowColumns`, gathered by index from the one series, which is never
copied. The future of every window lies wholly in its split. Its past may reach back into the rows before the split, as the
standard protocol of the forecasting literature has it (Zhou et al. 2021, arXiv:2012.07436): at the moment of forecasting those
rows are known. Nothing reaches back from the training split, so no window of training sees a row of another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, overload

import torch
from torch import Tensor

from lamina.core.errors import ConfigError, DataError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, Data, SeriesTiming

__all__ = [
    "CALENDAR",
    "CalendarField",
    "SeriesColumns",
    "WindowColumns",
    "WindowLengths",
    "as_stretches",
    "as_windows",
    "calendar_features",
    "describe_step",
    "following_times",
    "month_parts",
    "naive_error",
    "natural_season",
    "time_text",
]

DAY: Final = 86_400
WINDOW_NAMES: Final = ("past", "future", "past_time", "future_time")
# Where nobody says how far to forecast and the step has no season of its own.
_HORIZON: Final = 10
# The past that a model sees by default, in horizons.
_PASTS: Final = 3
_NAMED_STEPS: Final = {
    (1, 0): "every second",
    (60, 0): "every minute",
    (3600, 0): "hourly",
    (DAY, 0): "daily",
    (7 * DAY, 0): "weekly",
    (0, 1): "monthly",
    (0, 3): "quarterly",
    (0, 12): "yearly",
}
_UNITS: Final = ((7 * DAY, "weeks"), (DAY, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclass(frozen=True)
class WindowLengths:
    """How windows are cut; None where the data decides.

    Attributes:
        past: Rows that a model sees.
        horizon: Rows that it forecasts.
        stride: Rows from the beginning of one window to that of the next.
        season: Rows after which the series repeats itself, for the seasonal naive forecast; None: natural for the step.
    """

    past: int | None = None
    horizon: int | None = None
    stride: int = 1
    season: int | None = None


class SeriesColumns(Columns):
    """A stretch of a series: rows `start` to `stop` of the whole, which it shares; rows before it can be looked back into.

    Args:
        series: float32 (T, C), the whole series.
        time: int64 (T,), seconds since 1970, ascending.
        start, stop: The rows that are the split's.
        floor: The first row that may be looked back into.
        lengths: How windows are cut.
        origin: Where each row of the whole came from.
    """

    def __init__(
        self,
        series: Tensor,
        time: Tensor,
        *,
        start: int = 0,
        stop: int | None = None,
        floor: int = 0,
        lengths: WindowLengths | None = None,
        origin: Sequence[str] | None = None,
    ) -> None:
        stop = len(series) if stop is None else stop
        own = origin[start:stop] if origin is not None else None
        super().__init__({"series": series[start:stop], "time": time[start:stop]}, origin=own)
        self.whole, self.times, self.names = series, time, origin
        self.start, self.stop, self.floor = start, stop, floor
        self.lengths = lengths or WindowLengths()

    def take(self, rows: Tensor) -> Columns:
        """The chosen rows: a stretch where they follow each other, else a copy of them without any before."""
        count = len(rows)
        if count and bool((rows == torch.arange(int(rows[0]), int(rows[0]) + count)).all()):
            start = self.start + int(rows[0])
            return self.stretch(start, start + count)
        return super().take(rows)

    def stretch(self, start: int, stop: int) -> SeriesColumns:
        """Another stretch of the same series, by row numbers of the whole."""
        return SeriesColumns(
            self.whole, self.times, start=start, stop=stop, floor=self.floor, lengths=self.lengths, origin=self.names
        )

    def alone(self) -> SeriesColumns:
        """The same stretch, from which nothing reaches back."""
        return self.with_lengths(self.lengths, floor=self.start)

    def with_lengths(self, lengths: WindowLengths, *, floor: int | None = None) -> SeriesColumns:
        """The same stretch with other windows."""
        return SeriesColumns(
            self.whole,
            self.times,
            start=self.start,
            stop=self.stop,
            floor=self.floor if floor is None else floor,
            lengths=lengths,
            origin=self.names,
        )


class WindowColumns(Columns):
    """Windows over a stretch: `past` (N, L, C), `future` (N, H, C), `past_time` (N, L), `future_time` (N, H).

    Rows are gathered when a batch asks for them; a column asked for by name is gathered whole.

    Args:
        stretch: Its `lengths` say past and horizon.
        first: int64 (N,), row of the whole series at which each window's future begins; by default every `stride`-th whose
            past and future both fit.
    """

    in_memory = False

    def __init__(self, stretch: SeriesColumns, *, first: Tensor | None = None) -> None:
        past, horizon = stretch.lengths.past, stretch.lengths.horizon
        assert past is not None
        assert horizon is not None
        if first is None:
            earliest = max(stretch.start, stretch.floor + past)
            first = torch.arange(earliest, max(stretch.stop - horizon + 1, earliest), stretch.lengths.stride)
        names = _OriginOf(stretch.names, first) if stretch.names is not None else None
        super().__init__({}, origin=names)
        self.num_rows = len(first)
        self.stretch, self.first = stretch, first
        self.past_length, self.horizon = past, horizon
        self._offsets = torch.arange(-past, horizon)

    def __iter__(self) -> Iterator[str]:
        yield from WINDOW_NAMES

    def __len__(self) -> int:
        return len(WINDOW_NAMES)

    def __getitem__(self, name: str) -> Tensor:
        """A whole column (N, …), gathered; `batch` gives some rows of it."""
        if name not in WINDOW_NAMES:
            raise KeyError(name)
        return self.batch(torch.arange(self.num_rows))[name]

    def take(self, rows: Tensor) -> WindowColumns:
        """The chosen windows, in the given order; nothing is copied but their places."""
        return WindowColumns(self.stretch, first=self.first[rows])

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """The chosen windows, and `row`: their numbers."""
        places = self.first[rows].unsqueeze(1) + self._offsets  # (B, L + H)
        values = self.stretch.whole[places]  # (B, L + H, C)
        times = self.stretch.times[places]
        cut = self.past_length
        return {
            "past": values[:, :cut],
            "future": values[:, cut:],
            "past_time": times[:, :cut],
            "future_time": times[:, cut:],
            "row": rows,
        }


class _OriginOf(Sequence[str]):
    """Names of windows: where the first row of each future came from."""

    def __init__(self, names: Sequence[str], first: Tensor) -> None:
        self._names, self._first = names, first

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return _OriginOf(self._names, self._first[index])
        return self._names[int(self._first[index])]


# --- from stretches to windows and back --------------------------------------------------------------------------------


def as_windows(data: Data) -> Data:
    """Divided data whose splits are stretches, as windows; all other data as it is.

    Past and horizon that nobody gave are chosen: the season is forecast (a day of hours, a year of months; 10 rows where the
    step has no season), from three times as many rows, of which the training split must have some to spare. The spec gets the
    columns of the windows, and of the training rows mean, standard deviation and the error of the seasonal naive forecast,
    per field.

    Raises:
        DataError: A split is too short for a window.
    """
    splits = {name: columns for name, columns in data.splits.items() if isinstance(columns, SeriesColumns)}
    if not splits or len(splits) != len(data.splits):
        return data
    series = data.spec.columns["series"]
    timing = series.timing or SeriesTiming()
    fitted_on = splits.get("train") or next(iter(splits.values()))
    lengths = _resolved(fitted_on.lengths, timing, splits, train=fitted_on)
    season = lengths.season or 1
    made = {name: WindowColumns(columns.with_lengths(lengths)) for name, columns in splits.items()}
    for name, windows in made.items():
        if not windows.num_rows:
            raise _too_short(name, splits[name], lengths, data)
    timing = timing.model_copy(update={"season": season})
    if series.mean is None:  # of other data than that of training, the model's own statistics stay
        values = fitted_on["series"].double()
        std, mean = torch.std_mean(values, dim=0, correction=0)
        usable = [value if math.isfinite(value) and value > 0 else 1.0 for value in std.tolist()]
        timing = timing.model_copy(update={"naive_error": naive_error(values, season)})
        series = series.model_copy(update={"mean": tuple(mean.tolist()), "std": tuple(usable)})
    series = series.model_copy(update={"timing": timing})
    spec = data.spec.model_copy(update={"columns": {**_window_specs(series, lengths), **_others(data)}})
    result = replace(data, spec=spec).with_splits(made, data.rows)
    counts = ", ".join(f"{windows.num_rows:,} of {name}" for name, windows in made.items())
    result.notes = [
        *data.notes,
        f"A window is {lengths.past} rows of the past (data.past_length) and {lengths.horizon} to forecast (data.horizon); "
        f"windows: {counts}. The season is {season} rows (data.season).",
    ]
    return result


def as_stretches(data: Data) -> Data:
    """Data whose splits are windows, as the stretches that they were cut from: the inverse of `as_windows`, all but its note."""
    if not data.splits or not all(isinstance(columns, WindowColumns) for columns in data.splits.values()):
        return data
    splits = {name: columns.stretch for name, columns in data.splits.items() if isinstance(columns, WindowColumns)}
    past = data.spec.columns["past"]
    series = past.model_copy(update={"shape": past.shape[1:]})
    columns = {"series": series, "time": ColumnSpec(role="id", dtype="int64"), **_others(data)}
    return replace(data, spec=data.spec.model_copy(update={"columns": columns})).with_splits(splits, data.rows)


def _others(data: Data) -> dict[str, ColumnSpec]:
    taken = {"series", "time", *WINDOW_NAMES}
    return {name: column for name, column in data.spec.columns.items() if name not in taken}


def _window_specs(series: ColumnSpec, lengths: WindowLengths) -> dict[str, ColumnSpec]:
    width = series.shape[0]
    assert lengths.past is not None
    assert lengths.horizon is not None
    return {
        "past": series.model_copy(update={"shape": (lengths.past, width)}),
        "future": series.model_copy(update={"shape": (lengths.horizon, width)}),
        "past_time": ColumnSpec(role="series", dtype="int64", shape=(lengths.past,)),
        "future_time": ColumnSpec(role="series", dtype="int64", shape=(lengths.horizon,)),
    }


def _resolved(
    lengths: WindowLengths, timing: SeriesTiming, splits: dict[str, SeriesColumns], *, train: SeriesColumns
) -> WindowLengths:
    season = lengths.season or natural_season(timing)
    shortest = min(columns.num_rows for columns in splits.values())
    horizon = lengths.horizon or max(1, min(season if season > 1 else _HORIZON, shortest))
    past = lengths.past or max(1, min(_PASTS * max(horizon, season), (train.num_rows - horizon) // 2))
    return WindowLengths(past, horizon, lengths.stride, season)


def _too_short(name: str, columns: SeriesColumns, lengths: WindowLengths, data: Data) -> DataError:
    before = columns.start - columns.floor
    behind = f" and {before} before it to look back into" if before else ""
    return DataError(
        f"The {name} split has {columns.num_rows} rows{behind}; a window needs {lengths.past} of the past and {lengths.horizon} "
        "to forecast.",
        where=f"{data.source or 'data'}, split {name}",
        accepts=f"at least {lengths.horizon} rows in the split, and with those before it {(lengths.past or 0) + (lengths.horizon or 0)}",
        mend="use a smaller data.past_length or data.horizon, give the split more rows (data.valid_fraction, data.test_fraction, "
        "data.boundaries), or leave it out",
    )


def naive_error(values: Tensor, season: int) -> tuple[float, ...]:
    """Mean absolute error of repeating the value of one season ago, per field, within a series; the denominator of MASE.

    Args:
        values: (T, C).
        season: Rows; where the series is no longer than that, one row.

    Returns:
        C numbers; 0 where nothing ever changes.

    Source: Hyndman, Koehler (2006), "Another look at measures of forecast accuracy", doi:10.1016/j.ijforecast.2006.03.001.
    """
    lag = season if season < len(values) else 1
    if len(values) <= lag:
        return (0.0,) * values.shape[1]
    found: list[float] = (values[lag:] - values[:-lag]).double().abs().mean(0).tolist()
    return tuple(found)


# --- steps and seasons -------------------------------------------------------------------------------------------------


def natural_season(timing: SeriesTiming) -> int:
    """Rows after which a series of this step repeats itself most likely: a day, a week of days, a year of months.

    >>> [natural_season(SeriesTiming(seconds=s)) for s in (900, 3600, 86400, 604800)], natural_season(SeriesTiming(months=1))
    ([96, 24, 7, 52], 12)
    """
    if timing.months:
        return 12 // timing.months if timing.months < 12 and 12 % timing.months == 0 else 1
    step = timing.seconds
    if step == 7 * DAY:
        return 52
    if step == DAY:
        return 7
    return DAY // step if 60 <= step < DAY and DAY % step == 0 else 1


def describe_step(timing: SeriesTiming) -> str:
    """The step in words.

    >>> [describe_step(t) for t in (SeriesTiming(seconds=3600), SeriesTiming(months=1), SeriesTiming(seconds=900))]
    ['hourly', 'monthly', 'every 15 minutes']
    """
    named = _NAMED_STEPS.get((timing.seconds, timing.months))
    if named is not None:
        return named
    if timing.months:
        return f"every {timing.months} months"
    if not timing.seconds:
        return "without a step"
    size, unit = next((size, unit) for size, unit in _UNITS if timing.seconds % size == 0)
    return f"every {timing.seconds // size} {unit}"


def following_times(last: int, timing: SeriesTiming, count: int) -> Tensor:
    """The time stamps that follow, int64 (count,): by seconds, or by months from the same day and hour (at most the month's last).

    >>> [time_text(t) for t in following_times(1_454_198_400, SeriesTiming(months=1), 2).tolist()]  # 2016-01-31
    ['2016-02-29', '2016-03-31']
    """
    steps = torch.arange(1, count + 1)
    if not timing.months:
        return last + steps * timing.seconds
    year, month, day, rest = (int(part) for part in month_parts(torch.tensor([last])))
    index = year * 12 + (month - 1) + steps * timing.months
    years, months = index // 12, index % 12 + 1
    ends = _days_in_month(years, months)
    is_last = day == int(_days_in_month(torch.tensor(year), torch.tensor(month)))
    days = ends if is_last and day >= 28 else torch.minimum(torch.full_like(ends, day), ends)
    return _days_from_civil(years, months, days) * DAY + rest


def time_text(seconds: int) -> str:
    """A time stamp as ISO text; a date where it is midnight.

    >>> time_text(0), time_text(3600)
    ('1970-01-01', '1970-01-01 01:00:00')
    """
    year, month, day, rest = (int(part) for part in month_parts(torch.tensor([seconds])))
    text = f"{year:04d}-{month:02d}-{day:02d}"
    return text if not rest else f"{text} {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


# --- the calendar, in whole numbers, so that it can be traced ------------------------------------------------------------


def month_parts(time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Year, month (1 to 12), day (1 to 31) and seconds of the day of int64 seconds since 1970, each shaped like `time`.

    Source: Hinnant (2013), "chrono-Compatible Low-Level Date Algorithms": civil_from_days.
    """
    days = torch.div(time, DAY, rounding_mode="floor")
    rest = time - days * DAY
    shifted = days + 719_468
    era = torch.div(shifted, 146_097, rounding_mode="floor")
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted_month + 2) // 5 + 1
    month = torch.where(shifted_month < 10, shifted_month + 3, shifted_month - 9)
    year = year_of_era + era * 400 + (month <= 2).to(time.dtype)
    return year, month, day, rest


def _days_from_civil(year: Tensor, month: Tensor, day: Tensor) -> Tensor:
    year = year - (month <= 2).to(year.dtype)
    era = torch.div(year, 400, rounding_mode="floor")
    of_era = year - era * 400
    of_year = (153 * torch.where(month > 2, month - 3, month + 9) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _days_in_month(year: Tensor, month: Tensor) -> Tensor:
    one = torch.ones_like(month)
    following = torch.where(month == 12, one, month + 1)
    return _days_from_civil(year + (month == 12).to(year.dtype), following, one) - _days_from_civil(year, month, one)


CalendarField = Literal["minute", "hour", "weekday", "day", "month", "yearday"]
# Field -> its period.
CALENDAR: Final[dict[str, float]] = {
    "minute": 60.0,
    "hour": 24.0,
    "weekday": 7.0,
    "day": 31.0,
    "month": 12.0,
    "yearday": 366.0,
}


def calendar_features(time: Tensor, fields: Sequence[str], *, cyclic: bool = True) -> Tensor:
    """What a clock and a calendar show at time stamps.

    Args:
        time: int64 (…,), seconds since 1970.
        fields: Some of `minute`, `hour`, `weekday` (Monday is 0), `day` (of the month), `month`, `yearday`.
        cyclic: Sine and cosine of the place within the period, so that midnight is near 23 o'clock; False: the place from
            -0.5 (first) to 0.5 (last).

    Returns:
        float32 (…, 2 * fields), each sine before its cosine; (…, fields) where it is not cyclic.

    Raises:
        ConfigError: A field is unknown.

    Source: Zhou et al. (2021), arXiv:2012.07436, for the places in [-0.5, 0.5].
    """
    unknown = [name for name in fields if name not in CALENDAR]
    if unknown:
        raise ConfigError(
            f"There is no calendar field {unknown[0]!r}.",
            where="calendar features, argument `fields`",
            accepts=", ".join(CALENDAR),
            mend="choose among them",
        )
    year, month, day, rest = month_parts(time)
    one = torch.ones_like(month)
    values = {
        "minute": rest // 60 % 60,
        "hour": rest // 3600,
        "weekday": (torch.div(time, DAY, rounding_mode="floor") + 3) % 7,  # the first of January 1970 was a Thursday
        "day": day - 1,
        "month": month - 1,
        "yearday": _days_from_civil(year, month, day) - _days_from_civil(year, one, one),
    }
    columns: list[Tensor] = []
    for name in fields:
        place, period = values[name].to(torch.float32), CALENDAR[name]
        if cyclic:
            angle = place * (2 * math.pi / period)
            columns += [angle.sin(), angle.cos()]
        else:
            columns.append(place / (period - 1) - 0.5)
    if not columns:
        raise ShapeError(
            "No calendar field is asked for.",
            where="calendar features, argument `fields`",
            accepts=f"at least one of {', '.join(CALENDAR)}",
            mend="leave the step `calendar` out, or name a field",
        )
    return torch.stack(columns, dim=-1)
