"""Rows of pixels as text -> uint8, in bulk: one vectorised pass for whole numbers, slower and more patient ones behind it.

Three passes, each taken for a block of lines only where the one before gave up:

1. all pixel fields are one to three digits: positions of the separators, then digits gathered by numpy (some ten million
   values a second on one core);
2. numbers of any spelling: numpy's C parser;
3. line by line and value by value, to name the row and column of what cannot be read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import DataError
from lamina.data.columns import Fault
from lamina.data.readers.base import FaultList

BLOCK_BYTES: Final = 256 << 10  # the working arrays of a block stay in the cache
MAX_LINE_BYTES: Final = 64 << 20
MISSING: Final = frozenset({"", "nan", "NaN", "NA", "null"})


@dataclass(frozen=True)
class Layout:
    """Which columns of a text file are what.

    Attributes:
        where: The file, for messages.
        delimiter: One byte.
        names: One per column: the header, or the column's number.
        pixels: Columns of the pixels, in the order of the image.
        texts: Columns kept as text (label, group).
        first_line: 1-based number of the first line after the header.
    """

    where: str
    delimiter: bytes
    names: tuple[str, ...]
    pixels: NDArray[np.int64]
    texts: tuple[int, ...]
    first_line: int


@dataclass
class PixelRows:
    """Rows of one file.

    Attributes:
        values: (N, P): uint8, or float32 where some value is not whole.
        texts: One list of N texts per column of `Layout.texts`.
        lines: int64 (N,), 1-based line numbers.
    """

    values: NDArray[np.uint8] | NDArray[np.float32]
    texts: list[list[str]]
    lines: NDArray[np.int64]


def read_blocks(stream: BinaryIO, *, where: str, first_line: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines in blocks, each ending in a newline, with the number of its first line.

    Raises:
        DataError: A line is longer than MAX_LINE_BYTES.
    """
    carry, line = b"", first_line
    while piece := stream.read(BLOCK_BYTES):
        text = carry + piece
        cut = text.rfind(b"\n") + 1
        if cut == 0 and len(text) > MAX_LINE_BYTES:
            raise DataError(
                f"Line {line} is longer than {MAX_LINE_BYTES >> 20} MiB.",
                where=f"{where}, line {line}",
                accepts="one image per line",
                mend="check that the file is a CSV with line ends",
            )
        if cut:
            yield text[:cut], line
            line += text.count(b"\n", 0, cut)
        carry = text[cut:]
    if carry:
        yield carry + b"\n", line


def parse_pixels(stream: BinaryIO, layout: Layout, *, faults: FaultList, max_bytes: int) -> PixelRows:
    """All rows of a file; bad ones are left out and added to `faults`.

    Args:
        stream: After the header.
        max_bytes: Bound on the memory of the values.

    Raises:
        DataError: The values take more than `max_bytes`.
    """
    blocks: list[PixelRows] = []
    num_bytes = 0
    for text, line in read_blocks(stream, where=layout.where, first_line=layout.first_line):
        plain = text.replace(b"\r\n", b"\n") if b"\r" in text else text
        # Quotes around every field (some exporters write them) mean nothing here unless they hide a separator,
        # and then the fields do not come out even.
        block = _digits_only(plain.replace(b'"', b"") if b'"' in plain else plain, line, layout)
        block = _any_numbers(plain, line, layout, faults) if block is None else block
        block = _in_range(block, layout, faults)
        num_bytes += block.values.nbytes
        if num_bytes > max_bytes:
            raise DataError(
                f"The pixels take more than {max_bytes >> 20} MiB.",
                where=layout.where,
                accepts="at most data.max_memory_mb of pixels",
                mend="raise data.max_memory_mb, or keep the images as NPY or IDX, which are memory-mapped",
            )
        blocks.append(block)
    return _join(blocks, layout)


def _digits_only(text: bytes, line: int, layout: Layout) -> PixelRows | None:
    """A block in which every pixel is one to three digits; None when it is not such a block."""
    num_columns = len(layout.names)
    codes = np.frombuffer(text, dtype=np.uint8)
    separators = np.flatnonzero((codes == layout.delimiter[0]) | (codes == ord("\n")))
    if separators.size % num_columns:
        return None
    ends: NDArray[np.int64] = separators.reshape(-1, num_columns)
    if np.count_nonzero(codes == ord("\n")) != len(ends) or not (codes[ends[:, -1]] == ord("\n")).all():
        return None
    starts = np.empty_like(ends)
    starts.reshape(-1)[0] = 0
    starts.reshape(-1)[1:] = ends.reshape(-1)[:-1] + 1
    stops = _chosen(ends, layout.pixels)
    lengths = stops - _chosen(starts, layout.pixels)
    if lengths.max() > 3:
        return None
    # What is no digit wraps around to more than 9; so does the separator before an empty field.
    digit = codes[stops - 1] - np.uint8(48)
    bad = digit.max() > 9
    values = digit.astype(np.uint16)
    for place, weight in ((2, 10), (3, 100)):
        has_digit = lengths >= place
        digit = np.where(has_digit, codes[stops - place] - np.uint8(48), np.uint8(0))
        bad = bad or digit.max() > 9
        values += digit * np.uint16(weight)
    if bad:
        return None
    texts = [
        [
            text[a:b].decode("utf-8", "replace").strip()
            for a, b in zip(starts[:, c].tolist(), ends[:, c].tolist(), strict=True)
        ]
        for c in layout.texts
    ]
    kept = values.astype(np.uint8) if values.max() < 256 else values.astype(np.float32)
    return PixelRows(kept, texts, np.arange(line, line + len(ends), dtype=np.int64))


def _chosen(table: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The chosen columns; without a copy where they stand side by side."""
    first, last = int(columns[0]), int(columns[-1])
    if last - first + 1 == len(columns) and (np.diff(columns) == 1).all():
        return table[:, first : last + 1]
    chosen: NDArray[np.int64] = table[:, columns]
    return chosen


def _any_numbers(text: bytes, line: int, layout: Layout, faults: FaultList) -> PixelRows:
    """A block with numbers of any spelling, blank lines, quotes; rows that cannot be read become faults."""
    rows: list[list[str]] = []
    lines: list[int] = []
    delimiter = layout.delimiter.decode()
    for number, raw in enumerate(text.decode("utf-8", "replace").split("\n"), start=line):
        if not raw.strip():
            continue
        quoted = '"' in raw
        fields = next(csv.reader([raw], delimiter=delimiter), []) if quoted else raw.split(delimiter)
        if len(fields) != len(layout.names):
            faults.add(
                Fault(
                    file=layout.where,
                    row=number,
                    message=f"it has {len(fields)} columns, not {len(layout.names)}",
                    value=raw if len(raw) <= 40 else raw[:37] + "…",
                )
            )
            continue
        rows.append(fields)
        lines.append(number)
    pixels = layout.pixels.tolist()
    try:
        table = np.array([[fields[c] for c in pixels] for fields in rows], dtype=np.float64)
        good = list(range(len(rows)))
    except ValueError:
        parsed, good = [], []
        for place, fields in enumerate(rows):
            try:
                parsed.append(np.array([fields[c] for c in pixels], dtype=np.float64))
                good.append(place)
            except ValueError:
                faults.add(_unreadable(fields, lines[place], layout))
        table = np.stack(parsed) if parsed else np.empty((0, len(pixels)))
    texts = [[rows[place][c].strip() for place in good] for c in layout.texts]
    values = table.reshape(-1, len(pixels)).astype(np.float32)
    return PixelRows(values, texts, np.array([lines[place] for place in good], dtype=np.int64))


def _unreadable(fields: Sequence[str], line: int, layout: Layout) -> Fault:
    """The fault for the first pixel of a row that is no number."""
    for column in layout.pixels.tolist():
        value = fields[column]
        try:
            float(value)
        except ValueError:
            break
    missing = value.strip() in MISSING
    return Fault(
        file=layout.where,
        row=line,
        column=layout.names[column],
        value=value,
        message="the pixel is missing" if missing else "the pixel is not a number",
    )


def _in_range(block: PixelRows, layout: Layout, faults: FaultList) -> PixelRows:
    """Leave out rows with a pixel that is no number from 0 to 255, or with a missing text."""
    keep: NDArray[np.bool_] = np.ones(len(block.lines), dtype=bool)
    if block.values.dtype == np.float32:
        # NaN fails every comparison, so it counts as outside.
        good: NDArray[np.bool_] = (block.values >= 0) & (block.values <= 255)
        good &= (block.values <= 1) | (block.values == np.floor(block.values))
        keep = np.asarray(good.all(axis=1))
        for row in np.flatnonzero(~keep).tolist():
            place = int(np.flatnonzero(~good[row])[0])
            faults.add(
                _outside(float(block.values[row, place]), int(block.lines[row]), int(layout.pixels[place]), layout)
            )
    for column, texts in zip(layout.texts, block.texts, strict=True):
        for row, value in enumerate(texts):
            if value in MISSING and keep[row]:
                keep[row] = False
                faults.add(
                    Fault(
                        file=layout.where,
                        row=int(block.lines[row]),
                        column=layout.names[column],
                        value=value,
                        message="the value is missing",
                    )
                )
    values = block.values
    if values.dtype == np.float32 and (values[keep] == np.floor(values[keep])).all():
        values = np.where(keep[:, None], values, 0).astype(np.uint8)
    if keep.all():
        return PixelRows(values, block.texts, block.lines)
    rows = np.flatnonzero(keep).tolist()
    return PixelRows(values[keep], [[texts[row] for row in rows] for texts in block.texts], block.lines[keep])


def _outside(value: float, line: int, column: int, layout: Layout) -> Fault:
    if value != value or value in (float("inf"), float("-inf")):
        message = "the pixel is not finite"
    elif value < 0:
        message = "the pixel is below 0"
    elif value > 255:
        message = "the pixel is above 255"
    else:
        message = "the pixel is neither a whole number from 0 to 255 nor a number from 0 to 1"
    return Fault(file=layout.where, row=line, column=layout.names[column], value=f"{value:g}", message=message)


def _join(blocks: list[PixelRows], layout: Layout) -> PixelRows:
    if not blocks:
        return PixelRows(np.empty((0, len(layout.pixels)), np.uint8), [[] for _ in layout.texts], np.empty(0, np.int64))
    if len({block.values.dtype for block in blocks}) > 1:
        values: NDArray[np.float32] | NDArray[np.uint8] = np.concatenate(
            [block.values.astype(np.float32, copy=False) for block in blocks]
        )
    else:
        values = np.concatenate([block.values for block in blocks])
    texts = [[text for block in blocks for text in block.texts[place]] for place in range(len(layout.texts))]
    return PixelRows(values, texts, np.concatenate([block.lines for block in blocks]))
