"""Rows of cells from TSV, CSV and JSONL: the delimiter and whether quotes quote are decided by evidence; a lone quote stays alone.

Two conventions are common. Spreadsheets put quotes around cells that hold the delimiter, a line end or a quote, and double the
quotes inside. Corpora in TSV write the text as it is, quotes included. Which one a file follows is decided on its beginning:

- Quotes quote where every cell that holds one is a well-formed quoted cell (it begins and ends with one, those inside are doubled),
  or where only then the lines have one number of cells.
- Otherwise a quote is a character like others.

In a file that quotes, a row whose quote is never closed is a fault of that row alone: reading goes on with the next line.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from lamina.core.errors import DataError
from lamina.data.columns import Fault
from lamina.data.readers.base import FaultList
from lamina.data.readers.text_roles import is_known_name, is_language
from lamina.data.readers.text_source import head_lines, read_lines, shorten
from lamina.data.tables import is_number

if TYPE_CHECKING:
    from lamina.data.readers.sources import SourceFile

HEAD_BYTES: Final = 1 << 18
SAMPLE_ROWS: Final = 1000
# A quoted cell that goes over more lines than this is taken for one that is never closed.
MAX_LINES: Final = 200
DELIMITERS: Final = ("\t", ",", ";", "|")
DELIMITER_NAMES: Final = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
_AGREEING: Final = 0.9
# Where lines also agree without quoting, so few rows may have quotes that do not fit.
_FEW: Final = 0.02
# Cells are separated in the least suspicious of ways; one of many columns is a table of numbers.
MAX_COLUMNS: Final = 64
Row = tuple[int, list[str]]


@dataclass(frozen=True)
class TextLayout:
    """How a table of texts is written.

    Attributes:
        form: Cells in lines, one JSON object per line, or one JSON list of objects.
        delimiter: Between cells.
        quoted: Whether quotes quote.
        names: The header's, the objects' keys, or the columns' numbers.
        has_header: Whether the first line is a header.
        sample: The first rows.
        quote_note: Sentence on quotes; empty where there are none.
    """

    form: Literal["cells", "jsonl", "json"]
    delimiter: str
    quoted: bool
    names: tuple[str, ...]
    has_header: bool
    sample: tuple[tuple[str, ...], ...]
    quote_note: str = ""

    @property
    def width(self) -> int:
        """Columns."""
        return len(self.names)

    @property
    def what(self) -> str:
        """A part of a sentence."""
        if self.form != "cells":
            return "one JSON object per line" if self.form == "jsonl" else "a JSON list of objects"
        cells = f"{self.width} columns parted by {DELIMITER_NAMES[self.delimiter]}" if self.width > 1 else "one column"
        return f"{cells}, {'a header' if self.has_header else 'no header'}"


def understand_rows(file: SourceFile, *, header: bool | None = None, encoding: str | None = None) -> TextLayout | None:
    """The layout of a file, from its first 256 KiB; None when it holds no rows of cells."""
    lines = head_lines(file, encoding=encoding, num_bytes=HEAD_BYTES)
    if not lines:
        return None
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("{"):
        return _objects_by_line(lines)
    if first.startswith("[") and file.ending in (".json", ""):
        return _list_of_objects(file)
    return _cells(lines, header, file.ending)


# --- JSON --------------------------------------------------------------------------------------------------------------


def _objects_by_line(lines: Sequence[str]) -> TextLayout | None:
    found: list[dict[str, Any]] = []
    present = [line for line in lines if line.strip()][:SAMPLE_ROWS]
    for line in present:
        value = parse_json(line)
        if isinstance(value, dict) and value:
            found.append(value)
    if not found or len(found) < 0.5 * len(present):
        return None
    return _of_objects(found, "jsonl")


def _list_of_objects(file: SourceFile) -> TextLayout | None:
    try:
        values = json.loads(file.read())
    except (ValueError, RecursionError, DataError):
        return None
    found = [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    return _of_objects(found[:SAMPLE_ROWS], "json") if found and len(found) >= 0.5 * len(values) else None


def _of_objects(objects: Sequence[Mapping[str, Any]], form: Literal["jsonl", "json"]) -> TextLayout:
    names = tuple(dict.fromkeys(key for value in objects for key in value))[:MAX_COLUMNS]
    sample = tuple(tuple(_as_cell(value.get(name)) for name in names) for value in objects)
    return TextLayout(form, "", False, names, True, sample)


def parse_json(text: str) -> Any:
    """A JSON value; None for what is none (or is null)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _as_cell(value: Any) -> str:
    """A plain value as text, others as nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return ""


def read_objects(
    file: SourceFile,
    layout: TextLayout,
    *,
    wanted: Mapping[str, bool],
    faults: FaultList,
    encoding: str | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, key -> cell) of a file of JSON objects; lines that are no objects or lack a wanted key are faults.

    Args:
        wanted: Keys that are used -> whether the value must be a text (a label may be a number or true).
    """
    for number, value in _values(file, layout, faults, encoding):
        if not isinstance(value, dict):
            kind = "null" if value is None else type(value).__name__
            faults.add(Fault(file.where, f"the value is no object but {kind}", row=number, value=shorten(value)))
            continue
        cells: dict[str, str] = {}
        for key, must_be_text in wanted.items():
            found = value.get(key)
            if key not in value:
                nearest = ", ".join(list(value)[:6])
                faults.add(
                    Fault(file.where, f"the key is missing; there is {nearest or 'none'}", row=number, column=key)
                )
                break
            if found is not None and not isinstance(found, str if must_be_text else str | int | float | bool):
                message = "the value is no text" if must_be_text else "the value is neither text nor number"
                faults.add(Fault(file.where, message, row=number, column=key, value=shorten(found)))
                break
            cells[key] = _as_cell(found)
        else:
            yield number, cells


def _values(file: SourceFile, layout: TextLayout, faults: FaultList, encoding: str | None) -> Iterator[tuple[int, Any]]:
    if layout.form == "json":
        yield from enumerate(json.loads(file.read()))
        return
    for number, line in read_lines(file, faults=faults, encoding=encoding):
        if line is None or not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            message = f"the line is no JSON: {error.msg} at character {error.pos + 1}"
            faults.add(Fault(file.where, message, row=number, value=shorten(line)))
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:80]
            faults.add(Fault(file.where, f"the line is no JSON: {reason}", row=number, value=shorten(line)))


# --- cells: understanding ----------------------------------------------------------------------------------------------


def _cells(lines: Sequence[str], header: bool | None, ending: str) -> TextLayout | None:
    present = [line for line in lines if line.strip()][: SAMPLE_ROWS + 1]
    if not present:
        return None
    best: tuple[float, str, bool, list[list[str]]] | None = None
    for delimiter in DELIMITERS:
        quoted, share, rows = _quoting(present, delimiter)
        if rows and share >= _AGREEING and 2 <= _width(rows) <= MAX_COLUMNS:
            # Commas stand in prose too; a header that names columns decides.
            score = share + sum(map(is_known_name, rows[0])) - 0.01 * DELIMITERS.index(delimiter)
            if best is None or score > best[0]:
                best = (score, delimiter, quoted, rows)
    if best is None:
        alone = present[0].strip().strip('"')
        if ending not in (".csv", ".tsv") or not is_known_name(alone):
            return None
        quoted, _, rows = _quoting(present, ",")
        rows = [[",".join(row)] for row in rows]
        return TextLayout("cells", "\t", quoted, (alone,), True, tuple(map(tuple, rows[1:])))
    _, delimiter, quoted, rows = best
    width = _width(rows)
    has_header = header if header is not None else _is_header(rows, width)
    names = tuple(str(number) for number in range(width))
    if has_header:
        cells = [*rows[0], *[""] * width][:width]
        names = tuple(cell.strip() or f"column {number}" for number, cell in enumerate(cells))
        if len(set(names)) < width:
            names = tuple(name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names))
    sample = tuple(tuple(row) for row in rows[1 if has_header else 0 :] if len(row) == width)
    if not sample:
        return None
    return TextLayout("cells", delimiter, quoted, names, has_header, sample, _quote_note(present, quoted))


def _quote_note(lines: Sequence[str], quoted: bool) -> str:
    if not any('"' in line for line in lines):
        return ""
    if quoted:
        return "Quotes go around cells and are no part of them: every cell that holds one begins and ends with one."
    return "Quotes are part of the text: not every cell that holds one begins and ends with one."


def _width(rows: Sequence[Sequence[str]]) -> int:
    return Counter(len(row) for row in rows[1:] or rows).most_common(1)[0][0]


def _quoting(lines: Sequence[str], delimiter: str) -> tuple[bool, float, list[list[str]]]:
    """(whether quotes quote, share of rows of one width, the rows)."""
    plain = [line.split(delimiter) for line in lines]
    share = _agreement(plain)
    cells = [cell for row in plain for cell in row if '"' in cell]
    if not cells:
        return False, share, plain
    plain_fits = share >= 0.99 and len(plain[0]) == _width(plain)
    if delimiter == "\t" and plain_fits and not all(map(is_well_quoted, cells)):
        return False, share, plain
    found = FaultList()
    quoted = [row for _, row in split_rows(enumerate(lines, start=1), delimiter, quoted=True, where="", faults=found)]
    allowed = _FEW if plain_fits else 0.5
    if quoted and found.num_all <= allowed * len(quoted) and len(quoted[0]) == _width(quoted):
        quoted_share = _agreement(quoted)
        if quoted_share >= min(share, _AGREEING):
            return True, quoted_share, quoted
    return False, share, plain


def _agreement(rows: Sequence[Sequence[str]]) -> float:
    if not rows:
        return 0.0
    below = rows[1:] or rows
    width = _width(rows)
    return sum(len(row) == width for row in below) / len(below)


def is_well_quoted(cell: str) -> bool:
    """Whether a cell begins and ends with a quote and has those inside doubled.

    >>> is_well_quoted('"He said ""no"".", x'), is_well_quoted('"He said ""no""."')
    (False, True)
    """
    cell = cell.strip(" ")
    return len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in cell[1:-1].replace('""', "")


def _is_header(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether a first row names columns: usual names, or short cells of which none is a number or stands below."""
    first, below = rows[0], [row for row in rows[1:] if len(row) == width]
    if len(first) != width or not below:
        return False
    cells = [cell.strip() for cell in first]
    named = [cell for cell in cells if cell]
    if any(len(cell) > 40 or is_number(cell) for cell in named) or len(set(named)) < len(named) or not named:
        return False
    if any(map(is_known_name, cells)) or sum(map(is_language, cells)) > 1:
        return True
    seen = [{row[number].strip() for row in below} for number in range(width)]
    return all(re.fullmatch(r"[\w #./-]+", cell) for cell in cells) and not any(
        cell in values or len(cell.split()) > 3 for cell, values in zip(cells, seen, strict=True)
    ) and any(all(is_number(value) for value in values) for values in seen)  # fmt: skip


# --- cells: reading ----------------------------------------------------------------------------------------------------


def read_rows(file: SourceFile, layout: TextLayout, *, faults: FaultList, encoding: str | None = None) -> Iterator[Row]:
    """(line, cells) of every row of the right width, without the header; the others are faults."""
    lines = ((number, line) for number, line in read_lines(file, faults=faults, encoding=encoding) if line is not None)
    waiting_for_header = layout.has_header
    width = layout.width
    rows = split_rows(lines, layout.delimiter, quoted=layout.quoted, where=file.where, faults=faults)
    for number, row in rows if width > 1 else _one_cell(rows):
        if waiting_for_header:
            waiting_for_header = False
            continue
        if len(row) != width:
            if len(row) > width and not any(cell.strip() for cell in row[width:]):
                row = row[:width]
            else:
                cells = f"{len(row)} cell{'s' if len(row) != 1 else ''}"
                message = f"the row has {cells}, the table {width} columns"
                faults.add(Fault(file.where, message, row=number, value=shorten(layout.delimiter.join(row))))
                continue
        yield number, row


def _one_cell(rows: Iterable[Row]) -> Iterator[Row]:
    return ((number, ["\t".join(row)]) for number, row in rows)


def split_rows(
    lines: Iterable[tuple[int, str]], delimiter: str, *, quoted: bool, where: str, faults: FaultList
) -> Iterator[Row]:
    """(line of its beginning, cells) of every row that is not blank; quotes that do not close are faults of one line each."""
    if not quoted:
        for number, line in lines:
            if line and not line.isspace():
                yield number, line.split(delimiter)
        return
    source = iter(lines)
    again: list[tuple[int, str]] = []  # lines that were looked at in vain for a closing quote, last first
    while True:
        following = again.pop() if again else next(source, None)
        if following is None:
            return
        number, line = following
        if '"' not in line:
            if line and not line.isspace():
                yield number, line.split(delimiter)
            continue
        row, problem = _parsed(line, delimiter)
        if row is None and not problem:  # the cell goes on in the next line
            looked: list[tuple[int, str]] = []
            pieces = [line]
            while row is None and not problem and len(looked) < MAX_LINES:
                following = again.pop() if again else next(source, None)
                if following is None:
                    break
                looked.append(following)
                if '"' in following[1]:
                    row, problem = _parsed("\n".join([*pieces, following[1]]), delimiter)
                pieces.append(following[1])
            if row is None:
                again += reversed(looked)
                problem = "the quote is never closed"
        if row is None:
            faults.add(Fault(where, problem, row=number, value=shorten(line)))
        elif any(cell and not cell.isspace() for cell in row):
            yield number, row


def _parsed(text: str, delimiter: str) -> tuple[list[str] | None, str]:
    """(cells, "") of a row; (None, "") where a quote is still open; (None, problem) where it cannot become a row."""
    # The library's limit on a cell is one for all of the process: raised for a long text, and put back.
    limit = csv.field_size_limit()
    if len(text) > limit:
        csv.field_size_limit(len(text))
    try:
        return next(csv.reader(_kept(text), delimiter=delimiter, strict=True)), ""
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return None, ""
        return None, f"the quotes do not fit: {error}"
    finally:
        csv.field_size_limit(limit)


def _kept(text: str) -> Iterator[str]:
    r"""The lines of a row with their ends; Python's own splitting would also cut at U+2028 and the like."""
    lines = text.split("\n")
    for line in lines[:-1]:
        yield f"{line}\n"
    yield lines[-1]
