"""The steps of a series: at which its time stamps come, where they do not, and how gaps are filled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lamina.core.errors import DataError
from lamina.data.columns import Fault, SeriesTiming
from lamina.data.readers.base import FaultList
from lamina.data.series import describe_step, following_times, month_parts, time_text

__all__ = ["fill_gaps", "find_step", "is_regular", "step_faults"]

_SHORTEST_MONTH: Final = 28 * 86_400
# So much of the stamps must fall on one day of the month for a step to be counted in months, and on one step for it to be the step.
_SAME_DAY: Final = 0.9
_ONE_STEP: Final = 0.5
# A filled series may have so many times the rows of the file, and a thousand more.
_MOST_FILLED: Final = 10


# --- steps ---------------------------------------------------------------------------------------------------------------


def find_step(times: NDArray[np.int64]) -> SeriesTiming:
    """The step of most rows, in months where the stamps keep to one day of the month, else in seconds.

    >>> from lamina.data.time_stamps import parse_stamp
    >>> find_step(np.array([parse_stamp(f"1949-{month:02d}") for month in range(1, 13)])).months
    1
    """
    steps = np.diff(times)
    steps = steps[steps > 0]
    if not len(steps):
        return SeriesTiming()
    if int(steps.min()) >= _SHORTEST_MONTH and _same_day(times):
        months = np.diff(_month_index(times))
        months = months[months > 0]
        if len(months):
            return SeriesTiming(months=int(Counter(months.tolist()).most_common(1)[0][0]))
    return SeriesTiming(seconds=int(Counter(steps.tolist()).most_common(1)[0][0]))


def is_regular(stamps: Sequence[int]) -> bool:
    """Whether at least half of the steps are the same, as in a series and unlike in a list of events."""
    times = np.array(stamps, dtype=np.int64)
    if len(times) < 2:
        return False
    timing = find_step(times)
    steps = np.diff(_month_index(times)) if timing.months else np.diff(times)
    wanted = timing.months or timing.seconds
    return wanted > 0 and float((steps == wanted).mean()) >= _ONE_STEP


def _month_index(times: NDArray[np.int64]) -> NDArray[np.int64]:
    year, month, _, _ = month_parts(torch.from_numpy(times))
    found: NDArray[np.int64] = (year * 12 + month).numpy()
    return found


def _same_day(times: NDArray[np.int64]) -> bool:
    """Whether the stamps keep to one day of the month and one hour, or to the months' last days."""
    stamps = torch.from_numpy(times)
    _, _, day, rest = month_parts(stamps)
    _, _, following, _ = month_parts(stamps + 86_400)
    marks = (
        torch.where(following == 1, torch.zeros_like(day), day) if bool((following == 1).float().mean() > 0.5) else day
    )
    common = Counter(zip(marks.tolist(), rest.tolist(), strict=True)).most_common(1)[0][1]
    return common >= _SAME_DAY * len(times)


def _positions(times: NDArray[np.int64], timing: SeriesTiming) -> NDArray[np.float64]:
    """The place of each stamp on the grid that the first one begins, in steps; not whole where it lies between."""
    if timing.months:
        whole = (_month_index(times) - _month_index(times[:1])) / timing.months
        if _same_day(times) or len(times) < 2:
            return np.asarray(whole, dtype=np.float64)
        return np.asarray((times - times[0]) / (30.436875 * 86_400 * timing.months), dtype=np.float64)
    if not timing.seconds:
        return np.zeros(len(times), dtype=np.float64)
    return np.asarray((times - times[0]) / timing.seconds, dtype=np.float64)


def step_faults(
    times: NDArray[np.int64],
    timing: SeriesTiming,
    *,
    files: Sequence[str],
    lines: NDArray[np.int64],
    column: str,
    faults: FaultList,
    gaps: str,
) -> NDArray[np.bool_]:
    """Which rows can be used; time that goes backwards, twice-given stamps, gaps and stamps between two steps are faults.

    Args:
        column: Name of the time stamps.
        gaps: As `data.gaps`: a gap stops only with `stop`; with `ignore` steps are not looked at.
    """
    keep = np.ones(len(times), dtype=bool)
    if len(times) < 2:
        return keep
    places = _positions(times, timing)
    if bool((np.diff(places) == 1).all()):
        return keep
    step = describe_step(timing)
    last = 0
    seen = {int(times[0]): 0}
    for row in range(1, len(times)):
        stamp, before = int(times[row]), int(times[last])
        message = ""
        if stamp in seen:
            message = (
                f"the time stamp is given twice: row {int(lines[seen[stamp]])} of {files[seen[stamp]]} has it already"
            )
        elif stamp < before:
            message = f"time goes backwards: the row before is of {time_text(before)}"
        elif gaps != "ignore" and places[row] != int(places[row]):
            message = (
                f"the time stamp lies between two steps: the series is {step}, and began at {time_text(int(times[0]))}"
            )
        if message:
            keep[row] = False
            faults.add(Fault(files[row], message, int(lines[row]), column, time_text(stamp)))
            continue
        missing = int(places[row] - places[last]) - 1
        if missing > 0 and gaps == "stop":
            what = (
                f"{missing:,} row{'s are' if missing > 1 else ' is'} missing before it: the series is {step}, and the row before is "
                f"of {time_text(before)}; data.gaps=interpolate or previous fills gaps, ignore passes over them"
            )
            faults.add(Fault(files[row], what, int(lines[row]), column, time_text(stamp)))
        seen[stamp] = row
        last = row
    return keep


# --- filling -----------------------------------------------------------------------------------------------------------


def fill_gaps(
    times: NDArray[np.int64], values: NDArray[np.float64], timing: SeriesTiming, *, how: str, where: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """(times, values, row of the file before each) without gaps and empty cells.

    Args:
        times: Ascending, on the grid.
        how: `previous` repeats the last value; `interpolate` draws a line to the next. Before a column's first value stands that.

    Raises:
        DataError: A column is empty, or most of the rows would be made up.
    """
    places = _positions(times, timing).astype(np.int64)
    count = int(places[-1]) + 1
    if count > _MOST_FILLED * len(times) + 1000:
        raise DataError(
            f"{count:,} rows would be made of {len(times):,}: most stamps of a series that is {describe_step(timing)} are missing.",
            where=where,
            accepts=f"at most {_MOST_FILLED} times the rows of the file",
            mend="use data.gaps=ignore, or look for a wrong year among the stamps",
        )
    grid = np.arange(count)
    filled = np.empty((count, values.shape[1]), dtype=np.float64)
    for number in range(values.shape[1]):
        known = ~np.isnan(values[:, number])
        if not known.any():
            raise DataError(
                f"Column {number} of the numbers is empty.",
                where=where,
                accepts="at least one value in every column",
                mend="remove the column from the file",
            )
        at, given = places[known], values[known, number]
        if how == "interpolate":
            filled[:, number] = np.interp(grid, at, given)
        else:
            filled[:, number] = given[np.maximum(np.searchsorted(at, grid, side="right") - 1, 0)]
    rows = np.searchsorted(places, grid, side="right") - 1
    if timing.months:
        stamps = np.concatenate([times[:1], following_times(int(times[0]), timing, count - 1).numpy()])
    else:
        stamps = times[0] + grid * timing.seconds
    return stamps.astype(np.int64), filled, rows
