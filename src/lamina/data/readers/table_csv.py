"""Tables of numbers and categories in CSV and its relatives, with or without header, target anywhere, values missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, DataSpec
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Reader, split_of_file
from lamina.data.readers.sources import Source, SourceFile
from lamina.data.readers.table_text import Dialect, Kind, read_table, understand
from lamina.data.table_matching import columns_like, feature_names
from lamina.data.table_roles import choose_target, columns_from_table, find_column
from lamina.data.tables import RawColumn, RawTable, is_missing, is_number

ENDINGS: Final = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat", ".test", ".train", "")
_PROSE: Final = 40


@register(
    "reader",
    "table",
    summary="Tables of numbers and categories: CSV, TSV and the like",
    example="lamina data housing.csv data.target=number",
)
class TableReader(Reader):
    """Tables of numbers and categories in CSV, TSV and the like; one file, or a folder with one per split."""

    name = "table"
    makes = ("number", "category")

    def sniff(self, source: Source) -> Guess:
        """Rather sure when the first rows agree on a delimiter and some column holds numbers."""
        files = _candidates(source)
        best = Guess(0.0, "there is no CSV file")
        for file in files[:4]:
            try:
                dialect, rows = understand(file, sniffing=True)
            except DataError as error:
                guess = Guess(0.0, f"{file.name}: {error.what[:1].lower()}{error.what[1:].rstrip('.')}")
            else:
                guess = _confidence(file, dialect, rows)
            if guess.confidence > best.confidence or file is files[0]:
                best = guess
        return best

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all tables; file and folder names tell the splits, the training table decides what a column is."""
        faults = FaultList()
        tables = _read_all(source, config, faults)
        return columns_from_table(tables, config, reader=self.name, source=str(source), faults=faults)

    def read_like(self, source: Source, config: DataConfig, *, spec: DataSpec, answers: bool) -> Data:
        """Read tables as the data of a bundle were, whatever other columns they have.

        Args:
            config: Its `label` names the target in these tables where that is not its name in training.
            spec: The bundle's spec of the data before preprocessing.
            answers: Take the target too, and demand it (judging); False for prediction.

        Raises:
            DataError: A feature, or the wanted target, is missing.
        """
        faults = FaultList()
        kinds: dict[str, Kind] = {}
        for key, kind in (("number", "number"), ("category", "text"), ("label", "text"), ("target", "text")):
            if key in spec.columns:
                kinds |= {field.name: _KINDS[kind] for field in spec.columns[key].fields}
        if not set(feature_names(spec)) & set(understand(_first(source), header=config.header)[0].names):
            kinds = {}  # found by place: the names tell nothing
        answered = answers and config.label is not None
        texts = [config.label] if answered and config.label is not None else []
        tables = _read_all(source, config, faults, kinds={**kinds, **dict.fromkeys(texts, _KINDS["text"])})
        return columns_like(
            tables,
            spec,
            answers=answers,
            target=config.label if answered else None,
            reader=self.name,
            source=str(source),
            faults=faults,
        )


_KINDS: Final[Mapping[str, Kind]] = {"number": "number", "text": "text"}


def _candidates(source: Source) -> list[SourceFile]:
    return [file for file in source.files if file.ending in ENDINGS and file.size]


def _first(source: Source) -> SourceFile:
    files = _candidates(source)
    if not files:
        raise DataError(
            f"There is no table, only {', '.join(file.name for file in source.files[:3]) or 'nothing'}.",
            where=str(source),
            accepts=f"files ending in {', '.join(ending for ending in ENDINGS if ending)}, also compressed",
            mend="give the rows as text with one of these endings; Lamina's Python functions take arrays",
        )
    return files[0]


def _read_all(
    source: Source, config: DataConfig, faults: FaultList, *, kinds: Mapping[str, Kind] | None = None
) -> dict[str, RawTable]:
    """Split name -> table, the training table first."""
    _first(source)
    parts: dict[str, list[SourceFile]] = defaultdict(list)
    for file in _candidates(source):
        parts[split_of_file(file, source)].append(file)
    order = sorted(parts, key=lambda name: {"train": 0, "all": 1}.get(name, 2))
    names: tuple[str, ...] | None = None
    known: dict[str, Kind] = dict(kinds or {})
    tables: dict[str, RawTable] = {}
    for split in order:
        for file in parts[split]:
            dialect, _ = understand(file, header=config.header)
            texts: list[str] = []
            if kinds is None:
                texts = _kept_as_text(file, dialect, config, known)
                if names is not None and split in tables and dialect.names != names:
                    raise DataError(
                        f"{file.where} has other columns than {tables[split].where}, so they are not one table.",
                        where=str(source),
                        accepts="one file, or files of the same columns, one per split",
                        mend="give one of the files",
                    )
                names = names or dialect.names
            table = read_table(file, dialect, texts=texts, kinds=known, faults=faults)
            table.notes.insert(0, _layout_note(file, dialect, len(table.lines), alone=len(_candidates(source)) == 1))
            if kinds is None:
                known |= {column.name: "number" if column.numbers is not None else "text" for column in table.columns}
            tables[split] = _stacked(tables[split], table) if split in tables else table
    return tables


def _kept_as_text(file: SourceFile, dialect: Dialect, config: DataConfig, known: dict[str, Kind]) -> list[str]:
    """Target and group, whose texts are wanted whatever they look like."""
    if known:
        return [name for name, kind in known.items() if kind == "text"]
    nothing = tuple(RawColumn(name, numbers=np.zeros(0)) for name in dialect.names)
    empty = RawTable(file.where, nothing, np.zeros(0, dtype=np.int64), has_header=dialect.has_header)
    texts = [choose_target(empty, config)[0]]
    if config.group is not None:
        texts.append(find_column(empty, config.group, "data.group"))
    return texts


def _stacked(first: RawTable, second: RawTable) -> RawTable:
    """Two files of one split one below the other."""
    columns = []
    for a, b in zip(first.columns, second.columns, strict=True):
        if a.numbers is not None and b.numbers is not None:
            columns.append(RawColumn(a.name, numbers=np.concatenate([a.numbers, b.numbers])))
            continue
        a, b = a.as_text(), b.as_text()
        assert a.codes is not None
        assert b.codes is not None
        values = list(dict.fromkeys([*a.values, *b.values]))
        index = {text: number for number, text in enumerate(values)}
        renumber = np.array([*(index[text] for text in b.values), -1], dtype=np.int64)
        columns.append(RawColumn(a.name, codes=np.concatenate([a.codes, renumber[b.codes]]), values=tuple(values)))
    where = f"{first.where}+{second.where}"
    lines = np.concatenate([first.lines, second.lines])
    return RawTable(where, tuple(columns), lines, first.has_header, first.class_names, [*first.notes, *second.notes])


def _layout_note(file: SourceFile, dialect: Dialect, num_rows: int, *, alone: bool) -> str:
    names = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "white space"}
    header = "a header" if dialect.has_header else "no header"
    place = "" if alone else f"{file.name}: "
    return f"{place}{num_rows} rows of {dialect.width} columns parted by {names[dialect.delimiter]}, {header}."


def _confidence(file: SourceFile, dialect: Dialect, rows: Sequence[Sequence[str]]) -> Guess:
    if not rows:
        return Guess(0.05, f"{file.name}: a header without rows")
    columns = list(zip(*rows, strict=True))
    numeric = 0
    for column in columns:
        present = [cell.replace(",", ".") if dialect.decimal_comma else cell for cell in column if not is_missing(cell)]
        numeric += bool(present) and sum(map(is_number, present)) > 0.5 * len(present)
    prose = any(sum(map(len, column)) > _PROSE * len(column) for column in columns)
    what = f"{file.name}: {dialect.width} columns, {numeric} of them numbers"
    if numeric == 0:
        return Guess(0.1 if dialect.delimiter != " " else 0.02, what)
    if prose:
        return Guess(0.25, f"{what}, and one of long texts")
    if dialect.delimiter == " " and numeric < dialect.width / 2:
        return Guess(0.1, what)
    return Guess(0.65 if dialect.has_header else 0.6, what)
