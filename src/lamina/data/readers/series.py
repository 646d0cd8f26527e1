"""Time series in CSV: a column of time stamps and columns of numbers, one row per stamp."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import ColumnSpec, Data, DataSpec, Fault, FieldSpec, SeriesTiming
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, no_rows, order_splits, split_of_file
from lamina.data.readers.series_steps import fill_gaps, find_step, is_regular, step_faults
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.table_text import Dialect, Kind, read_table, understand
from lamina.data.series import SeriesColumns, WindowLengths, describe_step, time_text
from lamina.data.tables import RawTable, is_missing, is_number, unknown_column
from lamina.data.time_stamps import parse_stamp, parse_stamps

__all__ = ["SeriesReader", "read_series"]

ENDINGS: Final = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat", "")
_TIME_WORDS: Final = frozenset(
    (
        "date",
        "time",
        "datetime",
        "timestamp",
        "ds",
        "month",
        "day",
        "year",
        "week",
        "hour",
        "quarter",
        "period",
        "epoch",
    )
)
# So much of a sample must be time stamps, and rise, for a column to be the time.
_STAMPS: Final = 0.8
# Numbers are time stamps only in a column called so, and only from 1990 on: in seconds or milliseconds.
_EPOCH: Final = re.compile(r"\d{9,10}(\.0*)?|\d{12,13}")
# Fewer rows say nothing against the step of training.
_FEW: Final = 3


@dataclass
class _Part:
    """One file as it was read: rows that can be used, in the order of the file."""

    where: str
    names: tuple[str, ...]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    lines: NDArray[np.int64]
    time_name: str
    notes: list[str]


@register(
    "reader",
    "series",
    summary="Time series in CSV: a column of dates or times, columns of numbers, one row per time stamp",
    example="lamina data ETTh1.csv.gz",
)
class SeriesReader(Reader):
    """Time series: CSV with time stamps at equal steps and numbers; one file, several of one series, or one per split."""

    name = "series"
    makes = ("series",)

    def sniff(self, source: Source) -> Guess:
        """Sure when a column holds rising time stamps at equal steps and the others hold numbers."""
        files = [file for file in source.files if file.ending in ENDINGS and file.size]
        if not files:
            return Guess(0.0, "there is no CSV file")
        try:
            dialect, rows = understand(files[0], sniffing=True)
        except DataError as error:
            return Guess(0.0, f"{files[0].name}: {error.what[:1].lower()}{error.what[1:].rstrip('.')}")
        place = _time_place(dialect, rows)
        if place is None:
            return Guess(0.0, f"{files[0].name}: no column of rising dates or times")
        return _confidence(files[0], dialect, rows, place)

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all files; file and folder names tell the splits, files of one split are parts of one series.

        Raises:
            DataError: No column holds time stamps, no column holds numbers, or a file lacks a column of the first.
        """
        return read_series(source, config)


def read_series(source: Source, config: DataConfig, *, like: ColumnSpec | None = None) -> Data:
    """Read a series, with the columns of a model's own series where `like` names them.

    Args:
        like: `past` or `series` of a bundle's spec: its fields are found by name, its step and statistics are kept.

    Raises:
        DataError: What makes the whole unusable; a column of training is missing.
    """
    files = [file for file in source.files if file.ending in ENDINGS and file.size]
    if not files:
        raise DataError(
            "There is no file that could hold a time series.",
            where=str(source),
            accepts=f"files ending in {', '.join(ending for ending in ENDINGS if ending)}, also compressed",
            mend="give a CSV with a column of dates and columns of numbers",
        )
    faults = FaultList()
    parts: dict[str, list[_Part]] = defaultdict(list)
    wanted = tuple(field.name for field in like.fields) if like is not None else None
    for file in files:
        known_from = "training" if like is not None else files[0].name
        part = _read_file(file, config, faults, wanted=wanted, known_from=known_from)
        wanted = wanted or part.names
        parts[split_of_file(file, source)].append(part)
    notes: list[str] = [note for group in parts.values() for part in group for note in part.notes]
    known = like.timing if like is not None else None
    splits: dict[str, SeriesColumns] = {}
    timing: SeriesTiming | None = None
    for split in order_splits(parts):
        columns, timing = _joined(parts[split], config, faults, notes, step=known or timing)
        splits[split] = columns
    if not any(columns.num_rows for columns in splits.values()):
        raise no_rows(str(source), faults)
    assert timing is not None
    assert wanted is not None
    timing = timing.model_copy(update={"gaps": config.gaps})
    splits = {name: columns for name, columns in splits.items() if columns.num_rows}
    first = next(iter(splits.values()))
    span = f"{time_text(int(first['time'][0]))} to {time_text(int(first['time'][-1]))}"
    notes.insert(0, f"{len(wanted)} series of numbers ({', '.join(wanted[:8])}), {describe_step(timing)}, {span}.")
    if len(splits) > 1:
        notes.append("The splits are files of their own: no window reaches back from one into another.")
    statistics = {"mean": like.mean, "std": like.std} if like is not None else {}
    spec = DataSpec(
        columns={
            "series": ColumnSpec(
                role="series",
                dtype="float32",
                shape=(len(wanted),),
                fields=tuple(FieldSpec(name=name) for name in wanted),
                timing=timing,
                **statistics,
            ),
            "time": ColumnSpec(role="id", dtype="int64"),
        },
        num_rows={name: columns.num_rows for name, columns in splits.items()},
        reader=SeriesReader.name,
        ordered=True,
    )
    return Data(
        splits=dict(splits),
        spec=spec,
        reader=SeriesReader.name,
        source=str(source),
        faults=faults.faults,
        notes=[*notes, *faults.notes()],
    )


# --- one file ------------------------------------------------------------------------------------------------------------


def _read_file(
    file: SourceFile, config: DataConfig, faults: FaultList, *, wanted: Sequence[str] | None, known_from: str
) -> _Part:
    dialect, rows = understand(file, header=config.header)
    place = _chosen_place(dialect, rows, config, file)
    name = dialect.names[place]
    kinds, left_out = _kinds(dialect, rows, place, wanted)
    table = read_table(file, dialect, texts=[name, *left_out], kinds=kinds, faults=faults)
    notes = list(table.notes)
    fields = [column for column in table.columns if column.name not in (name, *left_out)]
    if left_out and wanted is None:
        notes.append(f"{file.name}: left out, because they hold text: {', '.join(left_out)}.")
    if wanted is not None:
        missing = [field for field in wanted if field not in {column.name for column in fields}]
        if missing:
            raise DataError(
                f"There is no column {missing[0]!r} of numbers; there is {', '.join(c.name for c in fields[:12]) or 'none'}.",
                where=f"{file.where}, header",
                accepts=f"the columns of {known_from}: {', '.join(wanted[:12])}",
                mend="rename the column as it is called there, or give files of one series",
            )
        by_name = {column.name: column for column in fields}
        fields = [by_name[field] for field in wanted]
    if not fields:
        raise DataError(
            f"Beside the time stamps {name!r} no column holds numbers.",
            where=file.where,
            accepts="a column of dates or times and at least one of numbers",
            mend="check the delimiter and the decimal mark; `lamina data` says how the file was understood",
        )
    keep, times = _times(table, name, file.where, faults)
    values = np.stack([_numbers(column.numbers) for column in fields], axis=1)
    if config.gaps == "stop":
        for row, number in np.argwhere(np.isnan(values) & keep[:, None]).tolist():
            keep[row] = False
            faults.add(
                Fault(
                    file=file.where,
                    row=int(table.lines[row]),
                    column=fields[number].name,
                    value="",
                    message="the cell is empty; data.gaps=interpolate or previous fills such",
                )
            )
    return _Part(
        file.where, tuple(column.name for column in fields), times[keep], values[keep], table.lines[keep], name, notes
    )


def _numbers(numbers: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert numbers is not None  # the kinds say so
    return numbers


def _kinds(
    dialect: Dialect, rows: Sequence[Sequence[str]], place: int, wanted: Sequence[str] | None
) -> tuple[Mapping[str, Kind], list[str]]:
    """What each column holds, and the columns of text that are no part of the series."""
    kinds: dict[str, Kind] = {}
    left_out: list[str] = []
    for number, name in enumerate(dialect.names):
        if number == place:
            continue
        cells = [row[number].replace(",", ".") if dialect.decimal_comma else row[number] for row in rows]
        present = [cell for cell in cells if not is_missing(cell)]
        numbers = sum(map(is_number, present))
        is_text = name not in wanted if wanted is not None else 2 * numbers < len(present)
        kinds[name] = "text" if is_text else "number"
        if is_text:
            left_out.append(name)
    return kinds, left_out


def _times(table: RawTable, name: str, where: str, faults: FaultList) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """(usable, seconds) of every row; what is no time stamp is a fault."""
    column = next(column for column in table.columns if column.name == name)
    assert column.codes is not None
    seconds, bad = parse_stamps(column.values)
    keep = np.ones(len(column.codes), dtype=bool)
    known = np.append(seconds, 0)
    wrong = np.append(bad, True)[column.codes]  # code -1, a missing stamp, is the appended one
    for row in np.flatnonzero(wrong).tolist():
        keep[row] = False
        code = int(column.codes[row])
        message = "the time stamp is missing" if code < 0 else "this is no date or time that is understood"
        value = "" if code < 0 else column.values[code]
        faults.add(Fault(file=where, row=int(table.lines[row]), column=name, value=value, message=message))
    return keep, known[column.codes]


# --- which column is the time ----------------------------------------------------------------------------------------


def _chosen_place(dialect: Dialect, rows: Sequence[Sequence[str]], config: DataConfig, file: SourceFile) -> int:
    if config.time is not None:
        if config.time in dialect.names:
            return dialect.names.index(config.time)
        if config.time.isdecimal() and int(config.time) < dialect.width:
            return int(config.time)
        raise unknown_column(config.time, dialect.names, where=f"data.time, columns of {file.where}")
    place = _time_place(dialect, rows)
    if place is None:
        place = next((n for n, name in enumerate(dialect.names) if _is_time_word(name)), None)
    if place is None:
        raise DataError(
            f"No column holds time stamps; the columns are {', '.join(dialect.names[:12])}.",
            where=file.where,
            accepts="a column of dates or times, such as 2016-07-01 00:00:00, 1949-01 or seconds since 1970",
            mend="name the column with data.time=…; data.reader=table reads the file as a table",
        )
    return place


def _is_time_word(name: str) -> bool:
    return bool(set(re.findall(r"[a-z]+", name.casefold())) & _TIME_WORDS)


def _time_place(dialect: Dialect, rows: Sequence[Sequence[str]]) -> int | None:
    """The first column whose sample holds rising time stamps; numbers count only under a name that says so."""
    for number, name in enumerate(dialect.names):
        cells = [row[number] for row in rows]
        if not cells:
            continue
        is_named = _is_time_word(name)
        found = [
            stamp for cell in cells if (is_named or not is_number(cell)) and (stamp := parse_stamp(cell)) is not None
        ]
        plain = all(map(is_number, cells))
        if plain and not all(
            _EPOCH.fullmatch(cell) or (is_named and re.fullmatch(r"[12]\d{3}", cell)) for cell in cells
        ):
            continue
        if len(found) < _STAMPS * len(cells):
            continue
        rising = sum(b > a for a, b in itertools.pairwise(found))
        if rising >= _STAMPS * (len(found) - 1):
            return number
    return None


def _confidence(file: SourceFile, dialect: Dialect, rows: Sequence[Sequence[str]], place: int) -> Guess:
    others = [number for number in range(dialect.width) if number != place]
    numeric = 0
    for number in others:
        cells = [row[number].replace(",", ".") if dialect.decimal_comma else row[number] for row in rows]
        present = [cell for cell in cells if not is_missing(cell)]
        numeric += bool(present) and 2 * sum(map(is_number, present)) > len(present)
    what = f"{file.name}: time stamps in {dialect.names[place]!r}, {numeric} columns of numbers"
    if not numeric:
        return Guess(0.05, what)
    stamps = [stamp for row in rows if (stamp := parse_stamp(row[place])) is not None]
    if not is_regular(stamps):
        return Guess(0.4, f"{what}, but at no equal steps")
    return Guess(0.85 if numeric == len(others) else 0.7, what)


# --- the whole series ------------------------------------------------------------------------------------------------


def _joined(
    parts: Sequence[_Part], config: DataConfig, faults: FaultList, notes: list[str], *, step: SeriesTiming | None
) -> tuple[SeriesColumns, SeriesTiming]:
    """One series of the files of a split, in the order of their first stamps; what is not in order is left out."""
    parts = sorted(parts, key=lambda part: int(part.times[0]) if len(part.times) else 0)
    times = np.concatenate([part.times for part in parts])
    values = np.concatenate([part.values for part in parts])
    files = [part.where for part in parts for _ in part.times]
    lines = np.concatenate([part.lines for part in parts])
    found = find_step(times)
    timing = found if step is None or not (step.seconds or step.months) else step
    same = (found.seconds, found.months) == (timing.seconds, timing.months)
    if step is not None and not same and len(times) > _FEW and (found.seconds or found.months):
        raise DataError(
            f"The rows are {describe_step(found)}; those of training are {describe_step(timing)}.",
            where=parts[0].where,
            accepts=f"rows that are {describe_step(timing)}",
            mend="bring them to the step of training by averaging or repeating",
        )
    column = parts[0].time_name
    kept = step_faults(times, timing, files=files, lines=lines, column=column, faults=faults, gaps=config.gaps)
    times, values, lines = times[kept], values[kept], lines[kept]
    files = [files[row] for row in np.flatnonzero(kept).tolist()]
    if config.gaps in ("previous", "interpolate") and len(times):
        before = len(times)
        empty = int(np.isnan(values).any(axis=1).sum())
        times, values, source_rows = fill_gaps(times, values, timing, how=config.gaps, where=parts[0].where)
        files, lines = [files[row] for row in source_rows.tolist()], lines[source_rows]
        if len(times) > before or empty:
            notes.append(
                f"{len(times) - before:,} missing rows were put in and {empty:,} rows with empty cells filled "
                f"(data.gaps={config.gaps})."
            )
    elif config.gaps == "ignore" and len(times):
        usable = ~np.isnan(values).any(axis=1)
        times, values, lines = times[usable], values[usable], lines[usable]
        files = [files[row] for row in np.flatnonzero(usable).tolist()]
    lengths = WindowLengths(config.past_length, config.horizon, config.stride, config.season)
    origin = [f"{file}:{line}" for file, line in zip(files, lines.tolist(), strict=True)]
    series = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    return SeriesColumns(series, torch.from_numpy(times.copy()), lengths=lengths, origin=origin), timing
