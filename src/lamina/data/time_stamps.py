"""Time stamps as text -> seconds since 1970.

Stamps are without a time zone: one with an offset is brought to universal time, one without is taken as it stands. Days come after
months in every form that is read, so that nothing is guessed; `01/02/2020` is no stamp.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["parse_stamp", "parse_stamps"]

_DATE: Final = re.compile(
    r"(\d{4})[-/](\d{1,2})(?:[-/](\d{1,2})(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*(Z|[+-]\d{2}:?\d{2})?)?)?"
)
_QUARTER: Final = re.compile(r"(\d{4})[- ]?[Qq]([1-4])")
_YEAR: Final = re.compile(r"[12]\d{3}")
_SECONDS: Final = re.compile(r"(\d{9,10})(?:\.\d*)?")
_MILLISECONDS: Final = re.compile(r"\d{12,13}")


def parse_stamp(text: str) -> int | None:
    """Seconds since 1970 of one time stamp; None for what is none.

    >>> [parse_stamp(text) for text in ("1970-01-02", "1970-01-01T01:00:00Z", "1970-02", "1970 Q2", "0", "2016-02-30")]
    [86400, 3600, 2678400, 7776000, None, None]
    """
    text = text.strip()
    date = _DATE.fullmatch(text)
    if date is not None:
        year, month, day, hour, minute, second = (int(part) if part else None for part in date.groups()[:6])
        assert year is not None
        assert month is not None
        try:
            moment = datetime(year, month, day or 1, hour or 0, minute or 0, second or 0, tzinfo=UTC)
        except ValueError:
            return None
        return int(moment.timestamp()) - _offset(date.group(7))
    quarter = _QUARTER.fullmatch(text)
    if quarter is not None:
        year, number = int(quarter.group(1)), int(quarter.group(2))
        return int(datetime(year, 3 * number - 2, 1, tzinfo=UTC).timestamp()) if year else None
    if _YEAR.fullmatch(text):
        return int(datetime(int(text), 1, 1, tzinfo=UTC).timestamp())
    if _MILLISECONDS.fullmatch(text):
        return int(text) // 1000
    seconds = _SECONDS.fullmatch(text)
    return int(seconds.group(1)) if seconds is not None else None


def _offset(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def parse_stamps(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(seconds, bad) of many stamps; seconds are 0 where bad."""
    found = [parse_stamp(text) for text in texts]
    bad = np.array([stamp is None for stamp in found], dtype=bool)
    return np.array([stamp or 0 for stamp in found], dtype=np.int64), bad
