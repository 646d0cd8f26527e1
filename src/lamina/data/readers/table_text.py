"""Tables as text -> raw columns: delimiter, header, encoding, numbers and texts; every bad value is named.

What kind a column is (numbers or text) is decided by rule on the first rows, `DECIDING_CELLS` cells of them, and holds
for the rest of the file and for the other files of the same data.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import DataError
from lamina.data.columns import Fault
from lamina.data.readers.base import FaultList
from lamina.data.readers.sources import SourceFile
from lamina.data.tables import RawColumn, RawTable, is_missing, is_number

DECIDING_CELLS: Final = 1 << 21
HEAD_BYTES: Final = 1 << 18
SAMPLE_ROWS: Final = 100
# Up to this share of text in a column of numbers are slips of the pen; up to the second, unless few texts repeat.
SLIPS: Final = 0.05
MIXED: Final = 0.5
FEW: Final = 20
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d*,\d+")
_DECIMAL_POINT: Final = re.compile(r"[+-]?\d*\.\d+")

Kind = Literal["number", "text"]


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        encoding: As Python names it.
        delimiter: One character; a space stands for any white space.
        width: Columns.
        names: The header's, or the columns' numbers.
        has_header: Whether there is a header line.
        skip_lines: Lines before the first row: header, comments, blank lines.
        decimal_comma: Numbers are written as 3,14.
        num_promised: Rows that a header in scikit-learn's style (`150,4,setosa,…`) promises.
        class_names: The classes that such a header names.
        notes: Sentences on what was decided.
    """

    encoding: str
    delimiter: str
    width: int
    names: tuple[str, ...]
    has_header: bool
    skip_lines: int
    decimal_comma: bool = False
    num_promised: int | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# --- understanding the first lines -----------------------------------------------------------------------------------


def understand(
    file: SourceFile, *, header: bool | None = None, sniffing: bool = False
) -> tuple[Dialect, list[list[str]]]:
    """The dialect of a file and its first rows, as texts without the header.

    Args:
        header: Whether there is one; None: seen from the content. A first line is a header when none of its cells is a
            number or missing (one empty cell may be), and either some column holds numbers below it or its cells are
            distinct and do not occur below.
        sniffing: Pass over two columns of one name: this is a table, which reading will refuse in better words.

    Raises:
        DataError: Empty, not text, only one column, or two columns of one name.
    """
    head = file.head(HEAD_BYTES)
    complete = len(head) < HEAD_BYTES
    encoding, notes = _encoding(head, complete=complete)
    text = head.decode(encoding, "ignore").removeprefix("\ufeff")
    if not text.strip():
        raise _unusable("The file is empty.", file.where, "give a file with at least one row")
    if "\0" in text:
        raise _unusable(
            "The file is not text: it holds zero bytes.", file.where, "choose another reader: `lamina list readers`"
        )
    lines = list(io.StringIO(text, newline=""))
    lines = lines if complete or len(lines) < 2 else lines[:-1]
    num_comments = next(
        (i for i, line in enumerate(lines) if line.strip() and not line.startswith(("#", "%"))), len(lines)
    )
    body = lines[num_comments:]
    if not body:
        raise _unusable("The file holds nothing but comments.", file.where, "give a file with at least one row")
    delimiter, rows = _delimiter(body)
    if not rows:
        raise _unusable("The file holds nothing but delimiters.", file.where, "give a file with at least one row")
    width = Counter(len(row) for row in rows[1:] or rows).most_common(1)[0][0]
    while width > 2 and all(len(row) < width or not row[width - 1] for row in rows):
        width -= 1  # delimiters at the end of every line make no columns
    rows = [row if any(row[width:]) else row[:width] for row in rows]
    if width < 2:
        raise _unusable(
            "The file has one column only.",
            file.where,
            "check the delimiter; columns are parted by comma, semicolon, tab, bar or space",
        )
    promised = _counted_header(rows, width)
    has_header = header if header is not None else promised is None and _is_header(rows, width)
    names = tuple(str(number) for number in range(width))
    if has_header:
        names = tuple(cell or f"column {number}" for number, cell in enumerate(_fit(rows[0], width)))
        if not sniffing:
            _refuse_twins(names, file.where)
    elif num_comments and header is None:
        named = _commented_names(lines[:num_comments], delimiter, width)
        names = named or names
    if num_comments:
        notes.append(f"{num_comments} lines of comments before the table are passed over.")
    below = rows[1:] if has_header or promised is not None else rows
    decimal_comma = delimiter != "," and _has_decimal_comma(below)
    if decimal_comma:
        notes.append("Numbers are written with a decimal comma.")
    if promised is not None:
        notes.append(f"The first line counts {promised} rows and names the classes; it is no row.")
    skip = num_comments + (_lines_of_first(body, delimiter) if has_header or promised is not None else 0)
    dialect = Dialect(
        encoding=encoding,
        delimiter=delimiter,
        width=width,
        names=names,
        has_header=has_header or names[0] != "0",
        skip_lines=skip,
        decimal_comma=decimal_comma,
        num_promised=promised,
        class_names=tuple(cell for cell in rows[0][2:] if cell) if promised is not None else (),
        notes=tuple(notes),
    )
    return dialect, [row for row in below if len(row) == width]


def _encoding(head: bytes, *, complete: bool) -> tuple[str, list[str]]:
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if head.startswith(mark):
            return name, []
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if complete or error.start < len(head) - 4:  # else a character cut in two at the end of the head
            return "cp1252", [f"The text is not UTF-8 (byte {error.start}); it is read as Windows-1252."]
    return "utf-8", []


def _delimiter(lines: Sequence[str]) -> tuple[str, list[list[str]]]:
    """The delimiter under which most of the first lines have the same number of cells (more than one), then most numbers."""
    best, best_rows, best_score = ",", list[list[str]](), (-1.0, 0.0, 0)
    for delimiter in (",", ";", "\t", "|", " "):
        rows = list(itertools.islice(_rows(iter(lines), delimiter), SAMPLE_ROWS + 1))
        # The header may differ: row names have none in some files, and scikit-learn's counts rows instead.
        below = rows[1:] or rows
        counts = Counter(len(row) for row in below)
        width, agreeing = max(counts.items(), key=lambda item: (item[0] > 1, item[1]), default=(1, 0))
        share = agreeing / max(len(below), 1) if width > 1 else 0.0
        cells = [cell.replace(",", ".", delimiter != ",") for row in below if len(row) == width for cell in row]
        numbers = sum(map(is_number, cells)) / max(len(cells), 1)
        # White space also parts the words of a sentence, so it needs to fit better than the others.
        score = (round(share - (0.2 if delimiter == " " else 0.0), 2), round(numbers, 1), width)
        if score > best_score:
            best, best_rows, best_score = delimiter, rows, score
    return best, best_rows


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """Rows that are not blank, cells stripped; csv.Error ends them."""
    if delimiter == " ":
        lines = (line.replace("\t", " ").strip() for line in lines)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                yield cells
    except csv.Error:  # while sniffing, what cannot be parsed does not fit
        return


def _is_header(rows: Sequence[Sequence[str]], width: int) -> bool:
    first, below = rows[0], [row for row in rows[1:] if len(row) == width]
    if sum(not cell for cell in first) > 1 or any(cell and (is_number(cell) or is_missing(cell)) for cell in first):
        return False
    if not below:
        return False
    if any(all(is_number(row[c]) or is_missing(row[c]) for row in below) for c in range(width)):
        return True
    same = any(first[c] in {row[c] for row in below} for c in range(min(width, len(first))))
    return len(set(first)) == len(first) and not same


def _counted_header(rows: Sequence[Sequence[str]], width: int) -> int | None:
    """Rows that a first line such as `150,4,setosa,versicolor,virginica` promises; None when it is nothing like it."""
    first = [cell for cell in rows[0] if cell]
    if len(rows) < 2 or len(first) < 3 or not all(re.fullmatch(r"\d+", cell) for cell in first[:2]):
        return None
    names_classes = not any(is_number(cell) for cell in first[2:])
    return int(first[0]) if names_classes and int(first[1]) == width - 1 else None


def _commented_names(lines: Sequence[str], delimiter: str, width: int) -> tuple[str, ...] | None:
    """Names in the last comment before the table, as numpy's `savetxt` writes them."""
    row = next(_rows(iter([lines[-1].lstrip("#% ")]), delimiter), [])
    fits = len(row) == width == len(set(row)) and not any(is_number(cell) or is_missing(cell) for cell in row)
    return tuple(row) if fits else None


def _has_decimal_comma(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell for row in rows for cell in row]
    return any(map(_DECIMAL_COMMA.fullmatch, cells)) and not any(map(_DECIMAL_POINT.fullmatch, cells))


def _fit(row: Sequence[str], width: int) -> list[str]:
    """A header with a name for every column; one that is a cell short lacks that of the row names."""
    cells = ["", *row] if len(row) == width - 1 else list(row)
    return [*cells[:width], *[""] * (width - len(cells))]


def _lines_of_first(lines: Sequence[str], delimiter: str) -> int:
    """Lines up to and including the first row (a quoted cell may hold line ends)."""
    if delimiter == " ":
        return 1 + next(i for i, line in enumerate(lines) if line.strip())
    reader = csv.reader(iter(lines), delimiter=delimiter)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                break
    except csv.Error:  # the reading names the line
        return 1
    return reader.line_num


def _refuse_twins(names: Sequence[str], where: str) -> None:
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in seen:
            raise DataError(
                f"Two columns are called {name!r}: number {seen[name]} and number {number}, counted from 0.",
                where=f"{where}, header",
                accepts="each column name once",
                mend="rename or remove one of them, or use data.header=false if the first line is a row",
            )
        seen[name] = number


# --- reading -----------------------------------------------------------------------------------------------------------


@dataclass
class _Builder:
    """One column while its chunks arrive."""

    kind: Kind
    numbers: list[NDArray[np.float64]] = field(default_factory=list)
    codes: list[NDArray[np.int64]] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)


def read_table(
    file: SourceFile,
    dialect: Dialect,
    *,
    texts: Sequence[str] = (),
    kinds: Mapping[str, Kind] | None = None,
    faults: FaultList,
) -> RawTable:
    """Read a whole file.

    Args:
        texts: Columns kept as text whatever they hold (target, group).
        kinds: Column name -> kind where it is known already, from the first file of the data or from a bundle.
        faults: Takes what is wrong with rows; such rows are left out.

    Raises:
        DataError: The text cannot be decoded or parsed.
    """
    try:
        return _read(file, dialect, texts, kinds or {}, faults)
    except UnicodeDecodeError as error:
        if dialect.encoding != "utf-8":
            raise _unusable(
                f"The text is not {dialect.encoding}: {error.reason}.", file.where, "save the file as UTF-8"
            ) from error
    note = "The text is not UTF-8 everywhere; it is read as Windows-1252."
    return _read(file, replace(dialect, encoding="cp1252", notes=(*dialect.notes, note)), texts, kinds or {}, faults)


def _read(
    file: SourceFile, dialect: Dialect, texts: Sequence[str], kinds: Mapping[str, Kind], faults: FaultList
) -> RawTable:
    width, names = dialect.width, dialect.names
    chunk_rows = max(1, DECIDING_CELLS // width)
    builders: list[_Builder] | None = None
    lines: list[NDArray[np.int64]] = []
    found = FaultList()
    errors = "replace" if dialect.encoding == "cp1252" else "strict"
    with file.open() as binary, io.TextIOWrapper(binary, dialect.encoding, errors, newline="") as stream:
        for numbers, rows in _chunks(stream, dialect, chunk_rows, file.where, found):
            cells = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]
            if builders is None:
                builders = [
                    _Builder("text" if name in texts else kinds.get(name) or _kind(column, dialect))
                    for name, column in zip(names, cells, strict=True)
                ]
            keep = np.ones(len(rows), dtype=bool)
            for name, column, builder in zip(names, cells, builders, strict=True):
                if builder.kind == "number":
                    builder.numbers.append(_numbers(column, dialect, name, numbers, file.where, keep, found))
                else:
                    builder.codes.append(_codes(column, builder.index))
            for builder in builders:
                if builder.kind == "number":
                    builder.numbers[-1] = builder.numbers[-1][keep]
                else:
                    builder.codes[-1] = builder.codes[-1][keep]
            lines.append(numbers[keep])
    for fault in found.faults:
        faults.add(fault)
    faults.num_all += found.num_all - len(found.faults)
    columns = tuple(_finish(name, builder) for name, builder in zip(names, builders or (), strict=bool(builders)))
    all_lines = np.concatenate(lines) if lines else np.zeros(0, dtype=np.int64)
    notes = list(dialect.notes)
    if dialect.num_promised is not None and dialect.num_promised != len(all_lines):
        notes.append(f"The first line promises {dialect.num_promised} rows; there are {len(all_lines)}.")
    return RawTable(file.where, columns, all_lines, dialect.has_header, dialect.class_names, notes)


def _chunks(
    stream: io.TextIOWrapper, dialect: Dialect, chunk_rows: int, where: str, faults: FaultList
) -> Iterator[tuple[NDArray[np.int64], list[list[str]]]]:
    """(line numbers, rows of the right width) in chunks; ragged rows are faults."""
    for _ in range(dialect.skip_lines):
        stream.readline()
    lines: Iterator[str] = iter(stream)
    if dialect.delimiter == " ":
        lines = (line.replace("\t", " ").strip() for line in lines)
    # Strict: otherwise a quote that is never closed makes the rest of the file one cell, in silence.
    reader = csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=True, strict=True)
    width = dialect.width
    numbers: list[int] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if len(row) != width:
                trimmed = [cell for cell in row if cell.strip()]
                if not trimmed:
                    continue
                if len(row) > width and not any(cell.strip() for cell in row[width:]):
                    row = row[:width]
                else:
                    line = dialect.skip_lines + reader.line_num
                    faults.add(_ragged(row, dialect, line, where))
                    continue
            elif row[0] == "" and not any(row):
                continue
            numbers.append(dialect.skip_lines + reader.line_num)
            rows.append(row)
            if len(rows) == chunk_rows:
                yield np.array(numbers, dtype=np.int64), rows
                numbers, rows = [], []
    except csv.Error as error:
        line = dialect.skip_lines + reader.line_num
        raise DataError(
            f"The row that ends in line {line} cannot be parsed: {error}.",
            where=f"{where}, line {line}",
            accepts="cells parted by the delimiter; a cell that begins with a quote ends with one",
            mend="look for a quote that is opened and not closed at or before this line",
        ) from error
    yield np.array(numbers, dtype=np.int64), rows


def _ragged(row: Sequence[str], dialect: Dialect, line: int, where: str) -> Fault:
    return Fault(
        file=where,
        row=line,
        value=dialect.delimiter.join(row)[:80],
        message=f"the row has {len(row)} cells, the table {dialect.width} columns",
    )


def _kind(column: Sequence[str], dialect: Dialect) -> Kind:
    """Numbers or text, by the rule that the module's constants state; a column without values counts as numbers."""
    try:
        if not any(map(math.isnan, map(float, column))):
            return "number"  # the common case, found fast
    except ValueError:
        pass
    present = [cell for cell in map(str.strip, column) if not is_missing(cell)]
    num_texts = sum(not is_number(_with_point(cell, dialect)) for cell in present)
    if num_texts <= SLIPS * len(present):
        return "number"
    distinct = len(set(present))
    if distinct <= FEW and 2 * distinct <= len(present):
        return "text"
    return "number" if num_texts <= MIXED * len(present) else "text"


def _with_point(cell: str, dialect: Dialect) -> str:
    return cell.replace(",", ".") if dialect.decimal_comma else cell


def _numbers(
    column: list[str],
    dialect: Dialect,
    name: str,
    lines: NDArray[np.int64],
    where: str,
    keep: NDArray[np.bool_],
    faults: FaultList,
) -> NDArray[np.float64]:
    """float64 with NaN for missing; what is no finite float32 is a fault, and `keep` becomes False there."""
    if dialect.decimal_comma:
        column = [cell.replace(",", ".") for cell in column]
    try:
        values = np.array(list(map(float, column)), dtype=np.float64)
    except ValueError:
        values = np.array([_number_or_nan(cell) for cell in column], dtype=np.float64)
    suspicious = [i for i in np.flatnonzero(np.isnan(values)).tolist() if not is_missing(column[i].strip())]
    if "_" in "".join(column):
        suspicious += [i for i, cell in enumerate(column) if "_" in cell and i not in set(suspicious)]
    with np.errstate(over="ignore"):
        infinite = np.flatnonzero(np.isinf(values.astype(np.float32))).tolist()
    for i in sorted({*suspicious, *infinite}):
        keep[i] = False
        message = (
            "the value is infinite or too large"
            if i in infinite
            else "the value is not a number, as the rest of the column is"
        )
        faults.add(Fault(file=where, row=int(lines[i]), column=name, value=column[i].strip(), message=message))
    return values


def _number_or_nan(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _codes(column: Sequence[str], index: dict[str, int]) -> NDArray[np.int64]:
    """-1 for missing; new texts get the next number."""
    seen = {
        cell: -1 if is_missing(text) else index.setdefault(text, len(index))
        for cell in dict.fromkeys(column)
        for text in (cell.strip(),)
    }
    return np.array([seen[cell] for cell in column], dtype=np.int64)


def _finish(name: str, builder: _Builder) -> RawColumn:
    if builder.kind == "number":
        return RawColumn(name, numbers=np.concatenate(builder.numbers))
    return RawColumn(name, codes=np.concatenate(builder.codes), values=tuple(builder.index))


def _unusable(what: str, where: str, mend: str) -> DataError:
    return DataError(
        what, where=where, accepts="a table: rows of cells parted by comma, semicolon, tab, bar or space", mend=mend
    )
