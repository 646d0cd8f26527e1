"""Tables read as a bundle's data were: features found by name or place, categories and classes matched by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError, nearest
from lamina.data.columns import Columns, Data, DataSpec, Fault, FieldSpec
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, RowNames
from lamina.data.table_roles import NO_GROUP, choose_target, find_column, plain_texts
from lamina.data.tables import RawColumn, RawTable


def feature_names(spec: DataSpec) -> list[str]:
    """Headers of the features, numbers first, then categories; columns without a header are named by their number."""
    return [f.name for key in ("number", "category") if key in spec.columns for f in spec.columns[key].fields]


def columns_like(
    tables: Mapping[str, RawTable] | RawTable,
    spec: DataSpec,
    *,
    answers: bool,
    target: str | None = None,
    reader: str = "table",
    source: str = "",
    faults: FaultList | None = None,
) -> Data:
    """Data of raw tables with the columns of a spec (of a bundle), for prediction and judging.

    Features are found by name. Where one side has no header they are found by place: when there are as many columns as
    features (and one more for a wanted target, the last or the one named), in their order; else, when the training data had
    no header either, under the numbers that they had. Columns that the spec does not know are passed over.

    Args:
        spec: The data's spec before preprocessing.
        answers: Take the target too, and demand it. False: only features, and the group where there is one.
        target: The target's column in these tables (header or number), where it has another name than in training.
        faults: Found so far. A number that is none, an answer that is missing or a class that the spec lacks are added, and
            the row is left out. A category that the spec lacks becomes missing and is counted in the notes.

    Raises:
        DataError: A feature, or the wanted target, is missing.
    """
    given = {"all": tables} if isinstance(tables, RawTable) else dict(tables)
    faults = faults if faults is not None else FaultList()
    notes = list(dict.fromkeys(note for table in given.values() for note in table.notes))
    splits = {name: _columns(table, spec, answers, target, notes, faults) for name, table in given.items()}
    kept = {key: column for key, column in spec.columns.items() if all(key in columns for columns in splits.values())}
    counts = {name: columns.num_rows for name, columns in splits.items()}
    made = DataSpec(columns=kept, num_rows=counts, reader=reader)
    notes += faults.notes()
    return Data(splits=splits, spec=made, reader=reader, source=source, faults=faults.faults, notes=notes)


def _columns(
    table: RawTable, spec: DataSpec, answers: bool, target: str | None, notes: list[str], faults: FaultList
) -> Columns:
    places, answer = _places(table, spec, answers, target, notes)
    keep = np.ones(len(table.lines), dtype=bool)
    tensors: dict[str, Tensor] = {}
    for key, column in spec.columns.items():
        if column.role == "number":
            numbers = [_numbers(table, places[f.name], keep, faults) for f in column.fields]
            tensors[key] = torch.from_numpy(np.stack(numbers, axis=1).astype(np.float32))
        elif column.role == "category":
            codes = [_known(table, places[f.name], f, notes) for f in column.fields]
            tensors[key] = torch.from_numpy(np.stack(codes, axis=1))
        elif column.role in ("label", "target") and answers:
            if column.role == "target":
                values = _numbers(table, answer, keep, faults, answer=True)
                tensors[key] = torch.from_numpy(values.astype(np.float32)).unsqueeze(1)
            else:
                tensors[key] = torch.from_numpy(_labels(table, answer, column.classes or (), keep, faults))
        elif column.role == "group" and column.fields and column.fields[0].name in table.names:
            classes = column.classes or ()
            found = _codes(table[column.fields[0].name], classes)
            found[found < 0] = classes.index(NO_GROUP) if NO_GROUP in classes else -1
            if (found >= 0).all():
                tensors[key] = torch.from_numpy(found)
    columns = Columns(tensors, origin=RowNames(table.where, table.lines))
    return columns if keep.all() else columns.take(torch.from_numpy(np.flatnonzero(keep)))


def _places(
    table: RawTable, spec: DataSpec, answers: bool, target: str | None, notes: list[str]
) -> tuple[dict[str, int], int]:
    """Column of each feature, and of the target (-1 where it is not wanted)."""
    wanted = feature_names(spec)
    numbered = all(name.isdecimal() for name in wanted)  # the training data had no header
    if table.has_header and not numbered:
        places = _by_name(table, wanted)
        return places, _answer_by_name(table, spec, target) if answers else -1
    columns, answer = list(range(len(table.names))), -1
    if numbered and len(columns) > len(wanted):
        if max(map(int, wanted)) >= len(columns):
            raise _missing(
                table, wanted[-1], wanted, f"give at least {max(map(int, wanted)) + 1} columns, as in training"
            )
        if len(columns) > (width := _known_width(spec, wanted)):
            raise DataError(
                f"The table has {len(columns)} columns; training knew {width}.",
                where=table.where,
                accepts=f"tables of {width} columns with the target, or of {len(wanted)} without, in the order of training",
                mend="choose another file, or cut it to the columns of training; the training data had no header to go by",
            )
        places = {name: int(name) for name in wanted}
        return places, _answer_by_number(table, spec, target) if answers else -1
    if answers and not numbered and len(columns) == len(wanted) + 1:
        answer = table.names.index(find_column(table, target, "data.label")) if target is not None else columns[-1]
        columns.remove(answer)
    if len(columns) != len(wanted):
        raise _missing(
            table, wanted[0], wanted, f"give the file a header, or {len(wanted)} columns in the order of training"
        )
    if answers and answer < 0:
        raise _no_answer(table, spec)
    if "number" in spec.columns and "category" in spec.columns and not numbered:
        raise _missing(
            table, wanted[0], wanted, "give the file a header: numbers and categories cannot be told apart by place"
        )
    notes.append(f"{table.where}: the features are found by their order.")
    order = sorted(wanted, key=int) if numbered else wanted
    return dict(zip(order, columns, strict=True)), answer


def _known_width(spec: DataSpec, wanted: Sequence[str]) -> int:
    """How many columns the headerless training data had, as far as features, target and group tell."""
    others = [f.name for column in spec.columns.values() for f in column.fields]
    return 1 + max(int(name) for name in [*wanted, *others] if name.isdecimal())


def _by_name(table: RawTable, wanted: Sequence[str]) -> dict[str, int]:
    exact = {name: place for place, name in enumerate(table.names)}
    folded = {name.casefold(): place for name, place in exact.items()}
    places = {name: exact.get(name, folded.get(name.casefold(), -1)) for name in wanted}
    lacking = [name for name, place in places.items() if place < 0]
    if lacking:
        near = nearest(lacking[0], table.names)
        mend = f"rename {near[0]!r} to {lacking[0]!r}" if near else "add the column, or choose another file"
        raise _missing(table, lacking[0], wanted, mend)
    return places


def _answer_by_name(table: RawTable, spec: DataSpec, target: str | None) -> int:
    name = target or _target_name(spec)
    if name is None:  # embedded data and arrays have no header for it
        return table.names.index(choose_target(table, DataConfig())[0])
    if target is None and name.casefold() not in map(str.casefold, table.names):
        raise _no_answer(table, spec)
    return table.names.index(find_column(table, name, "data.label"))


def _answer_by_number(table: RawTable, spec: DataSpec, target: str | None) -> int:
    name = target or _target_name(spec) or "-1"
    return table.names.index(find_column(table, name, "data.label"))


def _target_name(spec: DataSpec) -> str | None:
    fields = [f for key in ("label", "target") if key in spec.columns for f in spec.columns[key].fields]
    return fields[0].name if fields else None


def _no_answer(table: RawTable, spec: DataSpec) -> DataError:
    name = _target_name(spec)
    called = f"The target {name!r}" if name is not None else "The target"
    return DataError(
        f"{called} is missing; the columns are {', '.join(table.names[:12])}.",
        where=table.where,
        accepts="labelled data with the target of training",
        mend="add the column, name another with data.label=…, or use `lamina predict`, which needs no target",
    )


def _missing(table: RawTable, name: str, wanted: Sequence[str], mend: str) -> DataError:
    return DataError(
        f"The feature {name!r} is missing; the columns are {', '.join(table.names[:12])}{', …' if len(table.names) > 12 else ''}.",
        where=table.where,
        accepts=f"the features of training: {', '.join(wanted[:12])}{', …' if len(wanted) > 12 else ''}",
        mend=mend,
    )


def _numbers(
    table: RawTable, place: int, keep: NDArray[np.bool_], faults: FaultList, *, answer: bool = False
) -> NDArray[np.float64]:
    column, bad = table.columns[place].as_numbers()
    assert column.numbers is not None
    for row, text in bad.items():
        keep[row] = False
        faults.add(_fault(table, row, column.name, text, "the value is not a finite number, as in training"))
    if answer:
        _refuse_gaps(table, table.columns[place], keep, faults)
    return column.numbers


def _labels(
    table: RawTable, place: int, classes: Sequence[str], keep: NDArray[np.bool_], faults: FaultList
) -> NDArray[np.int64]:
    column = table.columns[place]
    codes = _codes(column, classes)
    if table.class_names and set(table.class_names) <= set(classes) and not (codes >= 0).any():
        named = np.array([*(classes.index(name) for name in table.class_names), -1])
        numbers = column.as_numbers()[0].numbers
        assert numbers is not None
        inside = (numbers >= 0) & (numbers < len(table.class_names))
        codes = named[np.where(inside, numbers, -1).astype(np.int64)]
    _refuse_gaps(table, column, keep, faults)
    texts = column.as_text()
    assert texts.codes is not None
    for row in np.flatnonzero((codes < 0) & ~column.missing).tolist():
        keep[row] = False
        text = texts.values[texts.codes[row]]
        near = nearest(text, classes)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        faults.add(_fault(table, row, column.name, text, f"no class of training is called so{hint}"))
    return codes


def _refuse_gaps(table: RawTable, column: RawColumn, keep: NDArray[np.bool_], faults: FaultList) -> None:
    for row in np.flatnonzero(column.missing).tolist():
        keep[row] = False
        faults.add(_fault(table, row, column.name, "", "the target is missing"))


def _fault(table: RawTable, row: int, column: str, value: str, message: str) -> Fault:
    return Fault(table.where, message, row=int(table.lines[row]), column=column, value=value)


def _known(table: RawTable, place: int, field: FieldSpec, notes: list[str]) -> NDArray[np.int64]:
    column = table.columns[place]
    codes = _codes(column, field.classes or ())
    unknown = (codes < 0) & ~column.missing
    if unknown.any():
        texts = column.as_text()
        assert texts.codes is not None
        examples = ", ".join(repr(texts.values[code]) for code in np.unique(texts.codes[unknown])[:3].tolist())
        notes.append(
            f"{table.where}: {int(unknown.sum())} values of {field.name!r} are no category of training ({examples}); they count as missing."
        )
    return codes


def _codes(column: RawColumn, classes: Sequence[str]) -> NDArray[np.int64]:
    """Index of each value in the classes; -1 for missing and unknown ones."""
    texts = column.as_text()
    assert texts.codes is not None
    index = {name: number for number, name in enumerate(classes)}
    plain = plain_texts(texts.values)
    table = np.array([*(index.get(p, index.get(t, -1)) for p, t in zip(plain, texts.values, strict=True)), -1])
    codes: NDArray[np.int64] = table[texts.codes].astype(np.int64)
    return codes
