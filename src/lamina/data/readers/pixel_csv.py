"""Images as rows of a CSV: `label,pixel1,…,pixel784`, as the Sign Language and digit tables of the course sites have them.

With or without header; the label first, last, named or absent; commas, semicolons or tabs; plain or compressed; one file
or a folder with one per split. Bad rows are named by line, column and value.
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import DataError, unknown_name
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import (
    FaultList,
    Guess,
    ImageSplit,
    Labels,
    Reader,
    RowNames,
    image_data,
    split_of_file,
)
from lamina.data.readers.pixel_text import Layout, PixelRows, parse_pixels
from lamina.data.readers.pixels import compact, image_shape, rows_to_images
from lamina.data.readers.sources import Source, SourceFile

ENDINGS: Final = (".csv", ".tsv", ".txt", ".data", ".tra", ".tes", "")
LABEL_NAMES: Final = ("label", "class", "labels", "target", "y", "digit", "category")
# pixel12, px_12, pix-12, p12, 28x3, pixel_2_7, 12
_WITH_WORD: Final = re.compile(r"(?:pixels?|px|pix|p)[ _\-.]*(\d+)(?:[ _x,\-](\d+))?", re.IGNORECASE)
_NUMBERS: Final = re.compile(r"(\d+)(?:[ _x,\-](\d+))?")
_HEAD_BYTES: Final = 1 << 20
_LEAST_PIXELS: Final = 49


@dataclass(frozen=True)
class Understood:
    """What the first lines of a file say.

    Attributes:
        layout: Columns and where the rows begin.
        has_header: The first line names the columns.
        label: Column of the label, None where there is none.
        extra: Names of columns that are neither pixels nor label.
        notes: Sentences on what was decided.
        confidence: That these are pixels at all.
        reason: Why.
    """

    layout: Layout
    has_header: bool
    label: int | None
    extra: tuple[str, ...]
    notes: tuple[str, ...]
    confidence: float
    reason: str


@register(
    "reader",
    "pixel-csv",
    summary="Images as rows of a CSV: label,pixel1,…,pixel784",
    example="lamina data sign_mnist_train.csv",
)
class PixelCSVReader(Reader):
    """Images as rows of a CSV."""

    name = "pixel-csv"
    makes = ("image",)

    def sniff(self, source: Source) -> Guess:
        """Sure when the header names pixels; rather sure when all values look like pixels and make a square."""
        files = _candidates(source)
        if not files:
            return Guess(0.0, "there is no CSV file")
        best = Guess(0.0, "no file has rows of pixels")
        for file in files[:4]:
            try:
                found = understand(file, DataConfig())
            except DataError as error:
                best = max(best, Guess(0.0, error.what))
                continue
            best = max(best, Guess(found.confidence, f"{file.name}: {found.reason}"))
        return best

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all CSV files with pixels; file and folder names tell the splits."""
        files = _candidates(source)
        notes = list(source.notes)
        if not files:
            raise DataError(
                "There is no CSV file.",
                where=str(source),
                accepts=f"files ending in {', '.join(ending for ending in ENDINGS if ending)}, also compressed",
                mend="check the path",
            )
        parts: dict[str, list[tuple[SourceFile, Understood, PixelRows]]] = defaultdict(list)
        faults = FaultList()
        budget = config.max_memory_mb << 20
        chosen, passed_over = _with_pixels(files, config)
        if passed_over:
            notes.append(f"Not read, as they hold no rows of pixels: {', '.join(passed_over[:5])}.")
        for file, understood in _without_copies(chosen, notes):
            rows = _read_file(file, understood, faults, budget)
            budget -= rows.values.nbytes
            parts[split_of_file(file, source)].append((file, understood, rows))
            notes += [f"{file.name}: {note}" if len(files) > 1 else note for note in understood.notes]
        return self._assemble(source, config, parts, faults, list(dict.fromkeys(notes)))

    def _assemble(
        self,
        source: Source,
        config: DataConfig,
        parts: dict[str, list[tuple[SourceFile, Understood, PixelRows]]],
        faults: FaultList,
        notes: list[str],
    ) -> Data:
        first_file, first, _ = next(iter(parts.values()))[0]
        widths = {file.name: len(found.layout.pixels) for group in parts.values() for file, found, _ in group}
        if len(set(widths.values())) > 1:
            raise DataError(
                f"The files have different numbers of pixel columns: {widths}.",
                where=str(source),
                accepts="files with the same columns",
                mend="give one of them, or make them alike",
            )
        shape, said = image_shape(len(first.layout.pixels), config, where=first_file.where)
        values = {name: [_whole_or_fraction(rows) for _, _, rows in group] for name, group in parts.items()}
        if any(high > 1 for group in values.values() for _, high in group):
            parts = {
                name: [(file, found, _without_fractions(rows, found.layout, faults)) for file, found, rows in group]
                for name, group in parts.items()
            }
        joined = {name: _concatenate([rows.values for _, _, rows in group]) for name, group in parts.items()}
        packed = compact(joined, where=str(source))
        splits = {}
        for name, group in parts.items():
            labels = _labels([(found, rows) for _, found, rows in group])
            origin = _origins([(file.where, rows.lines) for file, _, rows in group])
            splits[name] = ImageSplit(rows_to_images(packed.tensors[name], shape), labels, origin)
            if config.group is not None:
                groups = [text for _, found, rows in group for text in rows.texts[_place_of_group(found, config)]]
                splits[name].groups[config.group] = Labels.of_names(groups)
        notes += [said, *packed.notes]
        return image_data(
            splits,
            reader=self.name,
            source=str(source),
            faults=faults,
            notes=notes,
            maximum=packed.maximum,
            planar=shape.planar,
        )


# --- understanding the first lines -----------------------------------------------------------------------------------


def understand(file: SourceFile, config: DataConfig) -> Understood:
    """What the first lines of a CSV say about its columns.

    Raises:
        DataError: Empty, not text, duplicate headers, a label column that does not exist, or no pixel columns.
    """
    head = file.head(_HEAD_BYTES)
    return understand_head(head, config, where=file.where, complete=len(head) < _HEAD_BYTES)


def understand_head(head: bytes, config: DataConfig, *, where: str, complete: bool) -> Understood:
    """As `understand`, from the first bytes; `complete` says whether they are the whole file."""
    text = head.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise _fault("The file is empty.", where, "give a file with at least one row of pixels")
    if b"\0" in text[:4096]:
        raise _fault("The file is not text.", where, "choose another reader with data.reader=…; `lamina list readers`")
    lines = text.replace(b"\r\n", b"\n").split(b"\n")
    lines = lines if complete or len(lines) == 1 else lines[:-1]
    skipped = next(place for place, line in enumerate(lines) if line.strip())
    delimiter = max((b",", b";", b"\t"), key=lines[skipped].count)
    fields = _fields(lines[skipped], delimiter)
    rows = [_fields(line, delimiter) for line in lines[skipped + 1 : skipped + 65] if line.strip()]
    has_header = config.header if config.header is not None else _is_header(fields, rows)
    names = tuple(fields) if has_header else tuple(str(number) for number in range(len(fields)))
    if has_header:
        _refuse_twins(names, where)
    first_line = skipped + (2 if has_header else 1)
    if not has_header:
        rows = [fields, *rows]
    label, label_note = _find_label(names, rows, config, has_header=has_header, where=where)
    group = _find_group(names, config, where=where)
    pixels, by_name, order_note = _find_pixels(names, label, group, has_header=has_header)
    if not len(pixels):
        raise _fault(
            f"No column holds pixels; the columns are {_short(names)}.", where, "check the file, or data.header"
        )
    extra = tuple(names[c] for c in range(len(names)) if c not in set(pixels.tolist()) and c not in (label, group))
    notes = [note for note in (label_note, order_note) if note]
    if extra:
        notes.append(f"Columns that are neither pixels nor label are not used: {_short(extra)}.")
    texts = tuple(column for column in (label, group) if column is not None)
    layout = Layout(where, delimiter, names, pixels, texts, first_line)
    confidence, reason = _confidence(layout, rows, by_name=by_name, has_label=label is not None)
    return Understood(layout, has_header, label, extra, tuple(notes), confidence, reason)


def _fields(line: bytes, delimiter: bytes) -> list[str]:
    # Python's reader refuses a carriage return inside a line, which files of old Macs have.
    text = line.decode("utf-8", "replace").replace("\r", " ")
    fields = (
        next(csv.reader([text], delimiter=delimiter.decode()), []) if '"' in text else text.split(delimiter.decode())
    )
    return [field.strip() for field in fields]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_header(fields: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """A line that names columns: mostly no numbers, or numbers that just count the columns."""
    numbers = [field for field in fields if _is_number(field)]
    if len(numbers) * 2 < len(fields):
        # A missing value is no name: with several empty fields this is a damaged row.
        return sum(not field for field in fields) < 2
    counts = [int(field) for field in fields if re.fullmatch(r"\d{1,9}", field)]
    # `label,0,1,2,…` and `0,1,2,…`, as data frames write them; pixels never count up by one.
    return len(counts) >= max(8, len(fields) - 2) and all(b - a == 1 for a, b in pairwise(counts)) and bool(rows)


def _refuse_twins(names: Sequence[str], where: str) -> None:
    seen: dict[str, int] = {}
    for column, name in enumerate(names):
        if name in seen:
            raise DataError(
                f"Two columns are called {name!r}: number {seen[name]} and number {column}, counted from 0.",
                where=f"{where}, header",
                accepts="each column name once",
                mend="rename or remove one of them, or use data.header=false if the first line is a row",
            )
        seen[name] = column


def _find_label(
    names: Sequence[str], rows: Sequence[Sequence[str]], config: DataConfig, *, has_header: bool, where: str
) -> tuple[int | None, str]:
    """(column of the label or None, sentence)."""
    if config.label is not None:
        if config.label in names:
            return names.index(config.label), ""
        folded = [name.casefold() for name in names]
        if config.label.casefold() in folded:
            return folded.index(config.label.casefold()), ""
        if re.fullmatch(r"-?\d+", config.label) and -len(names) <= int(config.label) < len(names):
            return int(config.label) % len(names), ""
        raise unknown_name("column", config.label, _headers_to_show(names), where=f"data.label, header of {where}")
    if has_header:
        for wanted in LABEL_NAMES:
            for column, name in enumerate(names):
                if name.casefold() == wanted:
                    return column, f"The label is column {name!r}."
        return None, "No column is called label or class, so there are no labels; data.label=… names another."
    if _is_image_size(len(names)) or not _is_image_size(len(names) - 1):
        if not _is_image_size(len(names)) and config.shape is not None and math.prod(config.shape) == len(names) - 1:
            return 0, "There is no header; the label is the first column (data.label=-1 for the last)."
        return None, "There is no header and no column over, so there are no labels."
    whole = [row for row in rows if len(row) == len(names)]
    first, last = {row[0] for row in whole}, {row[-1] for row in whole}
    if len(whole) > 1 and first in ({"0"}, {"255"}) and len(last) > 1 and all(_may_be_label(value) for value in last):
        # An image's corner is often black or white throughout; labels that all are 0 would stand before varied corners.
        return len(names) - 1, "There is no header; the label is the last column, as the first is always the same."
    return 0, f"There is no header; the label is the first column (data.label={len(names) - 1} for the last)."


def _may_be_label(value: str) -> bool:
    return not _is_number(value) or (float(value).is_integer() and float(value) < 100)


def _find_group(names: Sequence[str], config: DataConfig, *, where: str) -> int | None:
    if config.group is None:
        return None
    if config.group not in names:
        raise unknown_name("column", config.group, _headers_to_show(names), where=f"data.group, header of {where}")
    return names.index(config.group)


def _headers_to_show(names: Sequence[str]) -> list[str]:
    """The headers without hundreds of pixels."""
    plain = [name for name in names if not _WITH_WORD.fullmatch(name) and not _NUMBERS.fullmatch(name)]
    return plain or list(names)


def _find_pixels(
    names: Sequence[str], label: int | None, group: int | None, *, has_header: bool
) -> tuple[NDArray[np.int64], bool, str]:
    """(pixel columns in the order of the image, whether the header names them, sentence)."""
    others = [c for c in range(len(names)) if c not in (label, group)]
    if not has_header:
        return np.array(others, dtype=np.int64), False, ""
    for pattern in (_WITH_WORD, _NUMBERS):
        found = [(c, match) for c in others if (match := pattern.fullmatch(names[c])) is not None]
        if len(found) >= max(4, len(others) // 2):
            break
    else:
        return np.array([c for c in others if names[c] and not _is_id(names[c])], dtype=np.int64), False, ""
    keys = [(int(match[1]), int(match[2] or 0)) for _, match in found]
    columns = [c for c, _ in found]
    if keys == sorted(keys):
        return np.array(columns, dtype=np.int64), True, ""
    ordered = [c for _, c in sorted(zip(keys, columns, strict=True))]
    note = "The pixel columns do not stand in the order of their numbers; they are read in the order of the numbers."
    return np.array(ordered, dtype=np.int64), True, note


def _is_id(name: str) -> bool:
    return bool(re.fullmatch(r"(unnamed: ?\d+|.*_?id|index|file_?name|usage)", name, re.IGNORECASE))


def _is_image_size(num_values: int) -> bool:
    return any(
        math.isqrt(num_values // c) ** 2 * c == num_values and num_values // c >= _LEAST_PIXELS for c in (1, 3, 4)
    )


def _confidence(layout: Layout, rows: Sequence[Sequence[str]], *, by_name: bool, has_label: bool) -> tuple[float, str]:
    num_pixels = len(layout.pixels)
    columns = layout.pixels.tolist()
    values = [row[c] for row in rows[:16] if len(row) == len(layout.names) for c in columns]
    byte_like = bool(values) and sum(bool(re.fullmatch(r"\d{1,3}(\.0+)?", value)) for value in values) >= 0.99 * len(
        values
    )
    if by_name and num_pixels >= 16:
        worded = _WITH_WORD.fullmatch(layout.names[columns[0]]) is not None
        if worded:
            return 0.95, f"the header names {num_pixels} pixels"
        if byte_like and num_pixels >= _LEAST_PIXELS:
            return 0.9, f"the header counts {num_pixels} columns, and they hold whole numbers up to 999"
    if byte_like and _is_image_size(num_pixels):
        most = 0.85 if has_label else 0.7
        return most, f"{num_pixels} columns of whole numbers up to 999 make an image"
    if byte_like and num_pixels >= _LEAST_PIXELS:
        return 0.3, f"{num_pixels} columns of whole numbers up to 999, which make no square"
    return 0.0, "the columns do not look like pixels"


def _short(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:6]) + (f", … ({len(names)} in all)" if len(names) > 6 else "")


def _fault(what: str, where: str, mend: str) -> DataError:
    return DataError(what, where=where, accepts="a CSV with a label column and one column per pixel", mend=mend)


# --- reading -----------------------------------------------------------------------------------------------------------


def _candidates(source: Source) -> list[SourceFile]:
    alone = len(source.files) == 1
    return [file for file in source.files if file.ending in ENDINGS and (file.size or alone)]


def _with_pixels(
    files: Sequence[SourceFile], config: DataConfig
) -> tuple[list[tuple[SourceFile, Understood]], list[str]]:
    """The files that hold pixels, and the names of those that do not; a file alone is taken at the user's word."""
    if len(files) == 1:
        return [(files[0], understand(files[0], config))], []
    chosen, passed_over = [], []
    for file in files:
        try:
            found = understand(file, config)
        except DataError:
            found = None
        fits = found is not None and config.shape is not None and len(found.layout.pixels) == math.prod(config.shape)
        if found is not None and (fits or found.confidence >= 0.5):
            chosen.append((file, found))
        else:
            passed_over.append(file.name)
    if not chosen:
        understand(files[0], config)  # says what is wrong with the first
        raise _fault("No file has rows of pixels.", files[0].where, "choose another reader with data.reader=…")
    return chosen, passed_over


def _without_copies(
    chosen: list[tuple[SourceFile, Understood]], notes: list[str]
) -> list[tuple[SourceFile, Understood]]:
    """Files that occur twice (some archives hold a second copy in a folder) are read once."""
    sizes: dict[int, list[tuple[SourceFile, Understood]]] = defaultdict(list)
    for pair in chosen:
        sizes[pair[0].size].append(pair)
    kept = []
    for file, found in chosen:
        twins = sizes[file.size]
        if len(twins) > 1 and any(other is not file and _digest(other) == _digest(file) for other, _ in twins):
            first = next(other for other, _ in twins if _digest(other) == _digest(file))
            if first is not file:
                notes.append(f"{file.name} has the same content as {first.name} and is not read again.")
                continue
        kept.append((file, found))
    return kept


def _digest(file: SourceFile) -> str:
    digest = sha256()
    with file.open() as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _read_file(file: SourceFile, understood: Understood, faults: FaultList, max_bytes: int) -> PixelRows:
    with file.open() as stream:
        for _ in range(understood.layout.first_line - 1):
            _skip_line(stream)
        if understood.layout.first_line == 1 and stream.peek(3)[:3] == b"\xef\xbb\xbf":  # type: ignore[attr-defined]
            stream.read(3)
        return parse_pixels(stream, understood.layout, faults=faults, max_bytes=max_bytes)


def _skip_line(stream: BinaryIO) -> None:
    while line := stream.readline(_HEAD_BYTES):
        if line.endswith(b"\n"):
            return


def _whole_or_fraction(rows: PixelRows) -> tuple[bool, float]:
    return rows.values.dtype == np.uint8, float(rows.values.max()) if rows.values.size else 0.0


def _without_fractions(rows: PixelRows, layout: Layout, faults: FaultList) -> PixelRows:
    """Where pixels go beyond 1, a row with fractions is bad."""
    if rows.values.dtype == np.uint8:
        return rows
    fraction = rows.values != np.floor(rows.values)
    bad = fraction.any(axis=1)
    for row in np.flatnonzero(bad).tolist():
        place = int(np.flatnonzero(fraction[row])[0])
        faults.add(
            Fault(
                file=layout.where,
                row=int(rows.lines[row]),
                column=layout.names[int(layout.pixels[place])],
                value=f"{rows.values[row, place]:g}",
                message="the pixel is a fraction, while other pixels go beyond 1",
            )
        )
    keep = np.flatnonzero(~bad).tolist()
    texts = [[column[row] for row in keep] for column in rows.texts]
    return replace(rows, values=rows.values[~bad].astype(np.uint8), texts=texts, lines=rows.lines[~bad])


def _concatenate(arrays: Sequence[NDArray[np.uint8] | NDArray[np.float32]]) -> NDArray[np.generic]:
    joined: NDArray[np.generic] = arrays[0] if len(arrays) == 1 else np.concatenate(list(arrays))
    return joined


def _labels(group: Sequence[tuple[Understood, PixelRows]]) -> Labels | None:
    if any(found.label is None for found, _ in group):
        return None
    texts = [text for found, rows in group for text in rows.texts[found.layout.texts.index(found.label or 0)]]
    return Labels.of_names(plain_labels(texts))


def plain_labels(texts: Sequence[str]) -> list[str]:
    """Labels such as `3.0` become `3` where all are whole numbers."""
    unique = set(texts)
    if all(re.fullmatch(r"[+-]?\d{1,15}(\.0*)?", text) for text in unique):
        plain = {text: str(int(float(text))) for text in unique}
        return [plain[text] for text in texts]
    return list(texts)


def _place_of_group(found: Understood, config: DataConfig) -> int:
    return found.layout.texts.index(found.layout.names.index(config.group or ""))


def _origins(parts: Sequence[tuple[str, NDArray[np.int64]]]) -> Sequence[str]:
    if len(parts) == 1:
        return RowNames(*parts[0])
    return [name for where, lines in parts for name in RowNames(where, lines)]
