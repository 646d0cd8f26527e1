"""Which column of a table is what: target, features, group, identifier. The rules, each outcome said in `Data.notes`:

- Target: `data.label`, else the column named label, class, target, species, diagnosis, outcome or y, else the last one.
- The target is a class when `data.target=class`; or it is text; or it is whole numbers and either there are two values at
  most, or at most 20 (1,000 where the column is called label, class, species, diagnosis or outcome), each twice on average.
  Otherwise it is a number.
- A text column is a category, unless it has more than 20 values and they hardly repeat (more than half as many values as
  rows), or more than 1,000: then it is left out.
- Whole numbers that all differ, in a column named like an identifier or counting the rows one by one, are no feature.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, Fault, FieldSpec, column_spec
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, RowNames, no_rows, order_classes
from lamina.data.tables import RawColumn, RawTable, unknown_column

CLASS_NAMES: Final = ("label", "class", "species", "diagnosis", "outcome")
TARGET_NAMES: Final = ("label", "class", "target", "species", "diagnosis", "outcome", "y")
MAX_CLASSES: Final = 20
MAX_NAMED_CLASSES: Final = 1000
MAX_CATEGORIES: Final = 1000
CANONICAL: Final = frozenset({"image", "label", "number", "category", "target", "features", "row"})
NO_GROUP: Final = "(missing)"
_IDENTIFIER: Final = re.compile(
    r"(?i:id|index|idx|no\.?|nr\.?|row|row ?names?|rownum|key|serial ?no\.?|unnamed: ?\d+|column 0|.*[_\- ]id|id[_\- ].*)|.*[a-z]Id"
)


def columns_from_table(
    tables: Mapping[str, RawTable] | RawTable,
    config: DataConfig,
    *,
    reader: str = "table",
    source: str = "",
    faults: FaultList | None = None,
    labelled: bool = True,
) -> Data:
    """Data of raw tables, one per split, by the rules that the module's text states.

    Args:
        tables: Split name -> table; the training table decides. A table alone becomes the split `all`.
        config: `label`, `target` and `group`.
        faults: Found so far; rows that cannot be used (no target) are added.
        labelled: Whether there is a target at all; False: every column is a feature.

    Returns:
        Columns `number` float32 (N, F) with NaN for missing, `category` int64 (N, F') with -1 for missing, `label` int64 or
        `target` float32 (N, 1), the group as int64 under its own name, and an identifier as int64.

    Raises:
        DataError: No rows, no features, or splits with different columns.
        UnknownNameError: `label` or `group` name no column.
    """
    given = {"all": tables} if isinstance(tables, RawTable) else dict(tables)
    faults = faults if faults is not None else FaultList()
    notes = list(dict.fromkeys(note for table in given.values() for note in table.notes))
    first = given.get("train") or next(iter(given.values()))
    target, why = choose_target(first, config) if labelled else (None, "")
    group = find_column(first, config.group, "data.group") if config.group is not None else None
    if group is not None and group == target:
        raise DataError(
            f"The column {group!r} is both the target and the group.",
            where=first.where,
            accepts="two columns",
            mend="name another column with data.label=… or data.group=…",
        )
    given = _same_columns(given, first, target, notes)
    kind: Literal["class", "number"] = "class"
    if target is not None:
        kind, kind_why = _target_kind(first[target], config)
        if kind == "class":
            _refuse_prose(first, target)
        given = {name: _with_answers(table, target, kind, faults) for name, table in given.items()}
        notes.append(f"The target is {target!r}, {why}; it is a {kind}, as {kind_why}.")
    given = {name: table for name, table in given.items() if len(table.lines)}
    if not given:
        raise no_rows(source or first.where, faults)
    roles = _Roles.decide(given, skip=[name for name in (target, group) if name is not None], notes=notes)
    builder = _Assembly(given, notes)
    builder.features(roles)
    if target is not None:
        builder.target(target, kind)
    if group is not None:
        builder.group(group)
    for name in roles.identifiers:
        builder.identifier(name)
    return builder.finish(reader=reader, source=source or first.where, faults=faults)


# --- choosing --------------------------------------------------------------------------------------------------------


def choose_target(table: RawTable, config: DataConfig) -> tuple[str, str]:
    """(name of the target's column, how it was found)."""
    if config.label is not None:
        return find_column(table, config.label, "data.label"), "the column chosen with data.label"
    if table.has_header:
        folded = {name.casefold(): name for name in reversed(table.names)}
        for name in TARGET_NAMES:
            if name in folded:
                return folded[name], "the column of that name (data.label=… chooses another)"
    return table.names[-1], "the last column (data.label=… chooses another)"


def find_column(table: RawTable, wanted: str, option: str) -> str:
    """A column by its header, exactly, then without regard to capitals; else by its number from 0 (-1: the last)."""
    if wanted in table.names:
        return wanted
    folded = {name.casefold(): name for name in reversed(table.names)}
    if wanted.casefold() in folded:
        return folded[wanted.casefold()]
    if re.fullmatch(r"-?\d+", wanted) and -len(table.names) <= int(wanted) < len(table.names):
        return table.names[int(wanted)]
    raise unknown_column(wanted, table.names, where=f"{option}, columns of {table.where}")


def _target_kind(column: RawColumn, config: DataConfig) -> tuple[Literal["class", "number"], str]:
    if config.target is not None:
        return config.target, "data.target says"
    numbers, texts = column.as_numbers()
    assert numbers.numbers is not None
    present = numbers.numbers[np.isfinite(numbers.numbers)]
    num_values = len(np.unique(present))
    if texts and (len(texts) > 0.05 * (len(texts) + len(present)) or num_values <= MAX_CLASSES):
        return "class", f"it holds text such as {next(iter(texts.values()))[:40]!r}"
    if (present != np.round(present)).any():
        return "number", "it holds fractions"
    limit = MAX_NAMED_CLASSES if column.name.casefold() in CLASS_NAMES else MAX_CLASSES
    what = f"it holds {num_values} different whole numbers in {len(present)} rows"
    if num_values <= 2 or (num_values <= limit and 2 * num_values <= len(present)):
        return "class", f"{what} (data.target=number reads it as a number)"
    return "number", f"{what} (data.target=class reads it as a class)"


def _refuse_prose(table: RawTable, target: str) -> None:
    """A class that hardly any two rows share is none."""
    column = table[target].as_text()
    assert column.codes is not None
    num_rows, num_classes = int((column.codes >= 0).sum()), len(column.values)
    if num_classes > MAX_CLASSES and 2 * num_classes > num_rows:
        raise DataError(
            f"The target {target!r} would have {num_classes} classes in {num_rows} rows; the first is {column.values[0][:60]!r}.",
            where=f"{table.where}, column {target!r}",
            accepts="classes of two rows or more on average, or a number",
            mend=f"choose the target with data.label=…; the columns are {', '.join(table.names[:12])}",
        )


def _same_columns(
    given: dict[str, RawTable], first: RawTable, target: str | None, notes: list[str]
) -> dict[str, RawTable]:
    """The splits whose columns are the first's; a table without the target cannot be judged and is left out."""
    kept = {}
    for name, table in given.items():
        lacking = [column for column in first.names if column not in table.names]
        if lacking == [target]:
            notes.append(f"{table.where} has no column {target!r}: the {name} split cannot be judged and is left out.")
        elif lacking:
            raise DataError(
                f"The column {lacking[0]!r} of {first.where} is missing.",
                where=table.where,
                accepts=f"the columns {', '.join(first.names[:12])}{', …' if len(first.names) > 12 else ''}",
                mend="make the files alike, or give one of them",
            )
        else:
            extra = [column for column in table.names if column not in first.names]
            if extra:
                notes.append(
                    f"{table.where} has columns that training lacks; they are not used: {', '.join(extra[:6])}."
                )
            kept[name] = table
    return kept


def _with_answers(table: RawTable, target: str, kind: str, faults: FaultList) -> RawTable:
    """The rows that have a usable target; the others are faults."""
    column = table[target]
    keep = ~column.missing
    for row in np.flatnonzero(~keep).tolist():
        faults.add(Fault(table.where, "the target is missing", row=int(table.lines[row]), column=target, value=""))
    if kind == "number":
        for row, text in column.as_numbers()[1].items():
            keep[row] = False
            message = "the target is not a finite number (data.target=class reads it as a class)"
            faults.add(Fault(table.where, message, row=int(table.lines[row]), column=target, value=text))
    return table if keep.all() else table.take(keep)


@dataclass
class _Roles:
    """Which columns are features, in the order of the file."""

    numbers: list[str]
    categories: list[str]
    identifiers: list[str]

    @staticmethod
    def decide(given: Mapping[str, RawTable], *, skip: Sequence[str], notes: list[str]) -> _Roles:
        roles = _Roles([], [], [])
        tables = list(given.values())
        constant: list[str] = []
        for name in tables[0].names:
            if name in skip:
                continue
            columns = [table[name] for table in tables]
            missing = np.concatenate([column.missing for column in columns])
            if missing.all():
                notes.append(f"The column {name!r} has no values; it is not used.")
                continue
            if missing.any():
                notes.append(f"The column {name!r} has {int(missing.sum())} missing values.")
            if all(column.numbers is not None for column in columns):
                if _identifies(columns, name):
                    roles.identifiers.append(name)
                    notes.append(
                        f"The column {name!r} numbers the rows (whole numbers that all differ); it is not used as a feature."
                    )
                    continue
                present = np.concatenate([c.numbers[~c.missing] for c in columns if c.numbers is not None])
                if present.min() == present.max():
                    constant.append(name)
                roles.numbers.append(name)
                continue
            num_values = len({value for column in map(RawColumn.as_text, columns) for value in column.values})
            num_present = int((~missing).sum())
            if num_values > MAX_CATEGORIES or (num_values > MAX_CLASSES and 2 * num_values > num_present):
                notes.append(
                    f"The column {name!r} is text with {num_values} different values in {num_present} rows; it is not used."
                )
                continue
            if num_values == 1:
                constant.append(name)
            roles.categories.append(name)
        if constant:
            notes.append(f"Columns with one value only tell nothing: {', '.join(constant)}.")
        said = [f"{len(roles.numbers)} number{'s' if len(roles.numbers) > 1 else ''}"] if roles.numbers else []
        if roles.categories:
            word = "categories" if len(roles.categories) > 1 else "category"
            said.append(f"{len(roles.categories)} {word} ({', '.join(roles.categories[:6])})")
        if not said:
            raise DataError(
                "No column is left as a feature.",
                where=tables[0].where,
                accepts="at least one column of numbers or categories beside the target",
                mend=f"choose the target with data.label=…; the columns are {', '.join(tables[0].names[:12])}",
            )
        notes.append(f"Features: {' and '.join(said)}.")
        return roles


def _identifies(columns: Sequence[RawColumn], name: str) -> bool:
    """Whether whole numbers that all differ (within each split) identify rows rather than measure something."""
    for column in columns:
        values = column.numbers
        assert values is not None
        if len(values) < 2 or np.isnan(values).any() or (values != np.round(values)).any():
            return False
        if len(np.unique(values)) < len(values) or np.abs(values).max() >= 2**53:
            return False
    if _IDENTIFIER.fullmatch(name):
        return True
    first = columns[0].numbers
    assert first is not None
    return len(first) >= 10 and float(first[0]) in (0.0, 1.0) and bool((np.diff(first) == 1).all())


# --- building --------------------------------------------------------------------------------------------------------


class _Assembly:
    """Builds the tensors of all splits, column by column."""

    def __init__(self, given: Mapping[str, RawTable], notes: list[str]) -> None:
        self.given = given
        self.notes = notes
        self.tensors: dict[str, dict[str, Tensor]] = {name: {} for name in given}
        self.specs: dict[str, ColumnSpec] = {}

    def features(self, roles: _Roles) -> None:
        """`number` and `category`."""
        if roles.numbers:
            for split, table in self.given.items():
                columns = [table[name].numbers for name in roles.numbers]
                stacked = np.stack([column for column in columns if column is not None], axis=1)
                self.tensors[split]["number"] = torch.from_numpy(stacked.astype(np.float32))
            fields = tuple(FieldSpec(name=name) for name in roles.numbers)
            self._describe("number", "number", fields=fields)
        if roles.categories:
            coded = {name: self._coded(name) for name in roles.categories}
            for split in self.given:
                stacked = np.stack([coded[name][0][split] for name in roles.categories], axis=1)
                self.tensors[split]["category"] = torch.from_numpy(stacked)
            fields = tuple(FieldSpec(name=name, classes=coded[name][1]) for name in roles.categories)
            self._describe("category", "category", fields=fields)

    def target(self, name: str, kind: str) -> None:
        """`label` or `target`."""
        if kind == "class":
            codes, classes = self._coded(name)
            for split in self.given:
                self.tensors[split]["label"] = torch.from_numpy(codes[split])
            names = next(iter(self.given.values())).class_names
            if names and set(classes) <= {str(number) for number in range(len(names))}:
                self.notes.append(f"The classes {', '.join(classes)} have the names of the first line.")
                classes = tuple(names[int(text)] for text in classes)
            self._describe("label", "label", classes=classes, fields=(FieldSpec(name=name),))
            return
        for split, table in self.given.items():
            numbers = table[name].as_numbers()[0].numbers
            assert numbers is not None
            self.tensors[split]["target"] = torch.from_numpy(numbers.astype(np.float32)).unsqueeze(1)
        self._describe("target", "target", fields=(FieldSpec(name=name),))

    def group(self, name: str) -> None:
        """The group under its own name; rows without one form a group of their own."""
        codes, classes = self._coded(name)
        if any((values < 0).any() for values in codes.values()):
            codes = {split: np.where(values < 0, len(classes), values) for split, values in codes.items()}
            classes = (*classes, NO_GROUP)
            self.notes.append(f"Rows without a {name!r} form the group {NO_GROUP}.")
        key = "group" if name in CANONICAL else name
        for split in self.given:
            self.tensors[split][key] = torch.from_numpy(codes[split])
        self._describe(key, "group", classes=classes, fields=(FieldSpec(name=name),))
        self.notes.append(f"The column {name!r} groups the rows; it is not used as a feature.")

    def identifier(self, name: str) -> None:
        """An identifier under its own name."""
        key = f"id {name}" if name in CANONICAL else name
        for split, table in self.given.items():
            numbers = table[name].numbers
            assert numbers is not None
            self.tensors[split][key] = torch.from_numpy(numbers.astype(np.int64))
        self._describe(key, "id")

    def finish(self, *, reader: str, source: str, faults: FaultList) -> Data:
        """All splits as Data."""
        splits = {
            name: Columns(self.tensors[name], origin=RowNames(table.where, table.lines))
            for name, table in self.given.items()
        }
        counts = {name: columns.num_rows for name, columns in splits.items()}
        spec = DataSpec(columns=self.specs, num_rows=counts, reader=reader)
        notes = [*self.notes, *faults.notes()]
        return Data(splits=splits, spec=spec, reader=reader, source=source, faults=faults.faults, notes=notes)

    def _describe(self, key: str, role: Any, **more: Any) -> None:
        self.specs[key] = column_spec(role, next(iter(self.tensors.values()))[key], **more)

    def _coded(self, name: str) -> tuple[dict[str, NDArray[np.int64]], tuple[str, ...]]:
        """Codes of each split into one list of classes, those that occur, in order."""
        columns = {split: table[name].as_text() for split, table in self.given.items()}
        plain = {split: plain_texts(column.values) for split, column in columns.items()}
        used: set[str] = set()
        for split, column in columns.items():
            assert column.codes is not None
            used |= {plain[split][code] for code in np.unique(column.codes[column.codes >= 0]).tolist()}
        classes = order_classes(used)
        index = {text: number for number, text in enumerate(classes)}
        codes = {}
        for split, column in columns.items():
            table = np.array([*(index.get(text, -1) for text in plain[split]), -1], dtype=np.int64)
            codes[split] = table[column.codes]
        return codes, classes


def plain_texts(values: Sequence[str]) -> list[str]:
    """`3.0` -> `3` where all are whole numbers, so that files that write them differently agree."""
    if all(re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", text) for text in values):
        return [str(int(float(text))) for text in values]
    return list(values)
