"""Signals: series of equal length with a class each, from NPZ and NPY arrays or from CSV with one series per row.

A CSV is taken for signals by itself only where its header says so: a label, then t0, t1, … or value1, value2, … and the
like. Any other table of numbers is read as signals when asked for with data.reader=signal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from lamina.core.errors import DataError, ShapeError, unknown_name
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Labels, Reader, RowNames, split_of_file
from lamina.data.readers.npz import array_names, array_shapes, named_arrays
from lamina.data.readers.positions import PositionSplit, kind_of_names, pairs_of, position_data, positions_from_arrays
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.table_text import Dialect, read_table, understand
from lamina.data.tables import RawTable, is_missing, is_number

ENDINGS: Final = (".csv", ".tsv", ".txt", ".data", "")
LABEL_NAMES: Final = ("label", "class", "target", "y", "labels", "category")
_STEP: Final = re.compile(r"(t|time|timestep|step|sample|s|value|val|v)[ _\-]?(\d+)", re.IGNORECASE)
_LEAST_STEPS: Final = 8


@register(
    "reader",
    "signal",
    summary="Series of equal length: NPZ arrays, or a CSV with label,t0,t1,…",
    source="Made for Lamina",
    example="lamina data signals.npz data.reader=signal",
)
class SignalReader(Reader):
    """Series of equal length with a class each."""

    name = "signal"
    makes = ("series",)

    def sniff(self, source: Source) -> Guess:
        """Sure when arrays are called signals or series, or a header counts steps."""
        names = array_names(source)
        if names:
            kind = kind_of_names(names)
            return Guess(0.99 if kind == "signal" else 0.0, f"the arrays are called {', '.join(names[:4])}")
        for file in _tables(source)[:4]:
            try:
                dialect, _ = understand(file, sniffing=True)
            except DataError as error:
                return Guess(0.0, error.what)
            if _counts_steps(dialect):
                return Guess(0.92, f"{file.name}: the header counts {dialect.width - 1} steps of a series per row")
        return Guess(0.0, "neither arrays nor a table that are called signals")

    def read(self, source: Source, config: DataConfig, *, steps: int | None = None) -> Data:
        """Read arrays, or tables with one series per row; file and folder names tell the splits.

        Args:
            steps: Of a model's signals: a table with as many columns has no label.
        """
        notes = list(source.notes)
        if array_shapes(source):
            pairs = pairs_of(named_arrays(source, config, notes=notes), where=str(source), notes=notes)
            return positions_from_arrays(
                pairs, config, kind="signal", reader=self.name, source=str(source), notes=notes
            )
        files = _tables(source)
        if not files:
            raise DataError(
                "There are neither arrays nor tables of signals.",
                where=str(source),
                accepts="NPZ or NPY arrays (N, steps) or (N, channels, steps), or a CSV with one series per row",
                mend="check the path",
            )
        return self._tables(files, source, config, notes, steps)

    def _tables(
        self, files: Sequence[SourceFile], source: Source, config: DataConfig, notes: list[str], wanted: int | None
    ) -> Data:
        faults = FaultList()
        parts: dict[str, list[PositionSplit]] = {}
        widths: dict[str, int] = {}
        for file in files:
            dialect, rows = understand(file, header=config.header)
            if wanted is not None and dialect.width not in (wanted, wanted + 1):
                raise ShapeError(
                    f"A row has {dialect.width} columns.",
                    where=file.where,
                    accepts=f"{wanted} steps as in training, with or without a label",
                    mend="cut or resample the series as those of training were",
                )
            label, why = None, "as many columns as the model's signals have steps"
            if dialect.width != wanted or config.label is not None:
                label, why = _label(dialect, rows, config, where=file.where)
            steps = [name for name in dialect.names if name != label]
            _refuse_disorder(steps, dialect, where=file.where)
            table = read_table(
                file,
                dialect,
                texts=[label] if label is not None else [],
                kinds=dict.fromkeys(steps, "number"),
                faults=faults,
            )
            widths[file.name] = len(steps)
            notes.append(f"{file.name}: {len(table.lines)} series of {len(steps)} steps; {why}.")
            parts.setdefault(split_of_file(file, source), []).append(_split(table, steps, label, faults))
        if len(set(widths.values())) > 1:
            raise DataError(
                f"The files have series of different lengths: {widths}.",
                where=str(source),
                accepts="series of one length",
                mend="cut or pad them to one length",
            )
        splits = {name: _joined(found) for name, found in parts.items()}
        return position_data(
            splits, kind="signal", reader=self.name, source=str(source), faults=faults, notes=list(dict.fromkeys(notes))
        )


def _tables(source: Source) -> list[SourceFile]:
    return [file for file in source.files if file.ending in ENDINGS and file.size]


def _counts_steps(dialect: Dialect) -> bool:
    """Whether a header is a label and then one word that counts up."""
    if not dialect.has_header:
        return False
    rest = [name for name in dialect.names if name.casefold() not in LABEL_NAMES]
    found = [_STEP.fullmatch(name) for name in rest]
    if len(rest) < _LEAST_STEPS or len(dialect.names) - len(rest) != 1 or not all(found):
        return False
    words = {match.group(1).casefold() for match in found if match is not None}
    numbers = [int(match.group(2)) for match in found if match is not None]
    return len(words) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _label(
    dialect: Dialect, rows: Sequence[Sequence[str]], config: DataConfig, *, where: str
) -> tuple[str | None, str]:
    """The column of the label, None where there is none, and a sentence's part that says why."""
    names = dialect.names
    if config.label is not None:
        return _named(config.label, names, where), f"the label is {config.label!r}, as said (data.label)"
    folded = {name.casefold(): name for name in reversed(names)}
    if dialect.has_header:
        named = next((folded[name] for name in LABEL_NAMES if name in folded), None)
        if named is not None:
            return named, f"the label is the column {named!r}"
        if all(_STEP.fullmatch(name) for name in names):
            return None, "no column is called a label"
    else:
        whole = [_is_whole([row[place] for row in rows if len(row) == len(names)]) for place in (0, -1)]
        if whole[0] != whole[1]:
            place = 0 if whole[0] else len(names) - 1
            return names[place], f"the label is column {place}: it alone of first and last holds whole numbers or texts"
    raise DataError(
        f"No column is called a label; the columns are {', '.join(names[:4])}, … {names[-1]}.",
        where=where,
        accepts=f"a header with {', '.join(LABEL_NAMES[:4])}, or the label's column by number",
        mend="say data.label=0 for the first column, or data.label=-1 for the last",
    )


def _named(wanted: str, names: Sequence[str], where: str) -> str:
    folded = {name.casefold(): name for name in reversed(names)}
    if wanted in names or wanted.casefold() in folded:
        return wanted if wanted in names else folded[wanted.casefold()]
    if re.fullmatch(r"-?\d+", wanted) and -len(names) <= int(wanted) < len(names):
        return names[int(wanted)]
    raise unknown_name("column", wanted, names, where=f"data.label, columns of {where}")


def _is_whole(cells: Sequence[str]) -> bool:
    """Whether cells look like classes: texts or whole numbers."""
    present = [cell for cell in cells if not is_missing(cell)]
    return bool(present) and all(not is_number(cell) or float(cell).is_integer() for cell in present)


def _refuse_disorder(steps: Sequence[str], dialect: Dialect, *, where: str) -> None:
    if not steps:
        raise DataError(
            "No column holds steps of a series.",
            where=where,
            accepts="a label and at least one step",
            mend="check the file",
        )
    found = [_STEP.fullmatch(name) for name in steps]
    if not dialect.has_header or not all(found):
        return
    numbers = [int(match.group(2)) for match in found if match is not None]
    wrong = next((i for i in range(1, len(numbers)) if numbers[i] <= numbers[i - 1]), None)
    if wrong is not None:
        raise DataError(
            f"The step {steps[wrong]!r} stands behind {steps[wrong - 1]!r}.",
            where=f"{where}, header",
            accepts="steps in their order",
            mend="sort the columns",
        )


def _split(table: RawTable, steps: Sequence[str], label: str | None, faults: FaultList) -> PositionSplit:
    """The rows without gaps; each other one is a fault."""
    pieces = []
    for name in steps:
        numbers = table[name].numbers
        assert numbers is not None
        pieces.append(numbers)
    values = np.stack(pieces, axis=1) if len(table.lines) else np.zeros((0, len(steps)))
    keep: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(axis=1))
    for row in np.flatnonzero(~keep).tolist():
        step = int(np.flatnonzero(~np.isfinite(values[row]))[0])
        faults.add(Fault(table.where, "the series has a gap", row=int(table.lines[row]), column=steps[step], value=""))
    names: list[str] = []
    if label is not None:
        column = table[label].as_text()
        assert column.codes is not None
        for row in np.flatnonzero(keep & (column.codes < 0)).tolist():
            keep[row] = False
            faults.add(Fault(table.where, "the label is missing", row=int(table.lines[row]), column=label, value=""))
        names = [column.values[code] for code in column.codes[keep].tolist()]
    lines: NDArray[np.int64] = table.lines[keep]
    tensor = torch.from_numpy(values[keep].astype(np.float32)).unsqueeze(1)
    return PositionSplit(tensor, Labels.of_names(names) if names else None, RowNames(table.where, lines))


def _joined(parts: Sequence[PositionSplit]) -> PositionSplit:
    if len(parts) == 1:
        return parts[0]
    labels = None
    if all(part.labels is not None for part in parts):
        names = [
            part.labels.names[code] for part in parts if part.labels is not None for code in part.labels.codes.tolist()
        ]
        labels = Labels.of_names(names)
    origin = [name for part in parts for name in part.origin]
    return PositionSplit(torch.cat([part.values for part in parts]), labels, origin)
