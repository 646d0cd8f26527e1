"""Raw columns: a table before it is known which column is what; from files (`readers/table_text.py`) or from memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from numbers import Real
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import DataError, UnknownNameError, unknown_name

# Stripped and without capitals; `none` is a category more often than a gap.
MISSING: Final = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "?", "-"})


def is_missing(cell: str) -> bool:
    """Whether a stripped cell means that there is no value.

    >>> [is_missing(cell) for cell in ("", "NaN", "?", "0", "none")]
    [True, True, True, False, False]
    """
    return cell.casefold() in MISSING


def is_number(cell: str) -> bool:
    """Whether a cell is a finite or infinite number; not a missing value, not Python's `1_000`."""
    try:
        return not math.isnan(float(cell)) and "_" not in cell
    except ValueError:
        return False


def unknown_column(name: str, known: Iterable[str], *, where: str) -> UnknownNameError:
    """The error for a column that does not exist, with the nearest names."""
    error = unknown_name("column", name, known, where=where)
    mend = (
        error.mend
        if error.mend.startswith("did you mean")
        else "give a header as it stands in the file, or a number from 0"
    )
    return UnknownNameError(error.what, where=where, accepts=error.accepts, mend=mend)


@dataclass
class RawColumn:
    """A column before its role is known: numbers, or texts as codes.

    Attributes:
        numbers: float64 (N,), NaN for missing.
        codes: int64 (N,), -1 for missing, else index into `values`.
        values: Distinct texts.
    """

    name: str
    numbers: NDArray[np.float64] | None = None
    codes: NDArray[np.int64] | None = None
    values: tuple[str, ...] = ()

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value."""
        if self.numbers is not None:
            return np.isnan(self.numbers)
        assert self.codes is not None
        return self.codes < 0

    def as_text(self) -> RawColumn:
        """Whole numbers become `3`, others as Python writes them."""
        if self.numbers is None:
            return self
        unique, inverse = np.unique(self.numbers, return_inverse=True)  # NaN last, once
        codes = inverse.reshape(-1).astype(np.int64)
        codes[np.isnan(self.numbers)] = -1
        values = tuple(str(int(v)) if float(v).is_integer() else repr(float(v)) for v in unique if not np.isnan(v))
        return RawColumn(self.name, codes=codes, values=values)

    def as_numbers(self) -> tuple[RawColumn, dict[int, str]]:
        """Numbers, and what is none by row."""
        if self.numbers is not None:
            return self, {}
        assert self.codes is not None
        parsed = np.array([*(float(text) if is_number(text) else math.nan for text in self.values), math.nan])
        numbers = parsed[self.codes]
        bad = np.flatnonzero((self.codes >= 0) & ~np.isfinite(numbers)).tolist()
        return RawColumn(self.name, numbers=numbers), {row: self.values[self.codes[row]] for row in bad}

    def take(self, rows: NDArray[np.bool_]) -> RawColumn:
        """The chosen rows."""
        numbers = self.numbers[rows] if self.numbers is not None else None
        return RawColumn(self.name, numbers, self.codes[rows] if self.codes is not None else None, self.values)


@dataclass
class RawTable:
    """The columns of one file or frame.

    Attributes:
        where: What messages call it.
        columns: All of one length.
        lines: int64 (N,), line (or index) of each row.
        has_header: Whether the names come from the data; otherwise they are the columns' numbers.
        class_names: Names of the classes 0, 1, … where the file gives them apart from the rows.
        notes: Sentences on how the file was understood.
    """

    where: str
    columns: tuple[RawColumn, ...]
    lines: NDArray[np.int64]
    has_header: bool = True
    class_names: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [column.name for column in self.columns]

    def __getitem__(self, name: str) -> RawColumn:
        return self.columns[self.names.index(name)]

    def take(self, rows: NDArray[np.bool_]) -> RawTable:
        """The chosen rows."""
        columns = tuple(column.take(rows) for column in self.columns)
        return replace(self, columns=columns, lines=self.lines[rows])


def table_from_columns(columns: Iterable[tuple[str, Any]] | Any, *, where: str = "table") -> RawTable:
    """A RawTable of arrays in memory.

    Args:
        columns: (name, one-dimensional array or sequence) pairs, or a data frame (anything with `columns` and `[name]`).
            Numbers, booleans and texts are understood; None and NaN are missing.

    Raises:
        DataError: Two columns of one name, columns of different lengths, or elements that are neither numbers nor text.
    """
    frame: Any = columns
    if hasattr(columns, "columns") and not isinstance(columns, Mapping):
        keys = list(frame.columns)
        names = [str(key) for key in keys]
        pairs = [(str(key), frame[key]) for key in keys] if _distinct(names) else []
    else:
        pairs = [(str(name), values) for name, values in (frame.items() if isinstance(frame, Mapping) else frame)]
        names = [name for name, _ in pairs]
    if not _distinct(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise DataError(
            f"Two columns are called {twice!r}.",
            where=where,
            accepts="each column name once",
            mend="rename or remove one of them",
        )
    raw = tuple(_raw_column(name, values, where) for name, values in pairs)
    lengths = {column.name: len(column.missing) for column in raw}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"The columns have different lengths: {lengths}.",
            where=where,
            accepts="columns of one length",
            mend="cut or extend the shorter columns",
        )
    num_rows = next(iter(lengths.values()), 0)
    return RawTable(where, raw, np.arange(num_rows, dtype=np.int64))


def _distinct(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _raw_column(name: str, values: Any, where: str) -> RawColumn:
    array = np.asarray(values)
    if array.ndim != 1:
        raise DataError(
            f"The column is shaped {array.shape}.",
            where=f"{where}, column {name!r}",
            accepts="one value per row",
            mend="give each of its columns a name of its own",
        )
    if array.dtype.kind in "iuf":
        return RawColumn(name, numbers=_finite(array.astype(np.float64), name, where))
    elements = array.astype(str).tolist() if array.dtype.kind == "M" else array.tolist()
    gaps = [_is_gap(element) for element in elements]
    present = [element for element, gap in zip(elements, gaps, strict=True) if not gap]
    if present and all(isinstance(e, Real | Decimal) and not isinstance(e, bool) for e in present):
        numbers = [math.nan if gap else float(element) for element, gap in zip(elements, gaps, strict=True)]
        return RawColumn(name, numbers=_finite(np.array(numbers), name, where))
    index: dict[str, int] = {}
    codes = np.full(len(elements), -1, dtype=np.int64)
    for row, (element, gap) in enumerate(zip(elements, gaps, strict=True)):
        if gap:
            continue
        if not isinstance(element, str | bool | Real):
            raise DataError(
                f"The element {str(element)[:80]!r} is a {type(element).__name__}.",
                where=f"{where}, row {row}, column {name!r}",
                accepts="numbers and texts",
                mend="turn the column into numbers or texts, or remove it",
            )
        codes[row] = index.setdefault(str(element).strip(), len(index))
    return RawColumn(name, codes=codes, values=tuple(index))


def _is_gap(element: Any) -> bool:
    # pandas marks gaps with objects of its own, which cannot be compared; the type's name is known without importing it.
    if element is None or type(element).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(element, str):
        return is_missing(element.strip()) or element == "NaT"
    return isinstance(element, float) and math.isnan(element)


def _finite(numbers: NDArray[np.float64], name: str, where: str) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        bad = np.flatnonzero(np.isinf(numbers.astype(np.float32)))
    if len(bad):
        raise DataError(
            f"The value {numbers[bad[0]]} is infinite or too large for float32; {len(bad)} values are.",
            where=f"{where}, row {bad[0]}, column {name!r}",
            accepts="finite numbers; NaN where there is none",
            mend="remove these rows, or replace the values by NaN",
        )
    return numbers
