"""CIFAR-10 and CIFAR-100 as published: binary batches, python batches, in a folder or in the original archive.

Format: Krizhevsky (2009), "Learning Multiple Layers of Features from Tiny Images", and the data's page: a row is one
label byte (CIFAR-100: coarse, then fine) and 3072 bytes, red, green and blue plane of 32x32. The python batches are
pickles; they are read by `plain_pickle`, which executes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import JoinedRows, RowLoader
from lamina.data.readers.base import Guess, ImageSplit, Labels, Reader, RowNames, image_data
from lamina.data.readers.decompression import too_large
from lamina.data.readers.plain_pickle import read_plain_pickle
from lamina.data.readers.sources import Source, SourceFile

SHAPE: Final = (3, 32, 32)
PIXELS: Final = 3072
_BATCH: Final = re.compile(r"(data_batch_\d+|test_batch|train|test)(\.bin)?")
_META: Final = ("batches.meta", "meta")
_LABEL_KEYS: Final = (b"labels", b"fine_labels")
_NAME_KEYS: Final = (b"label_names", b"fine_label_names")


@dataclass
class Batch:
    """One batch file: images (N, 3, 32, 32) uint8, labels (N,), and the file."""

    images: Tensor
    labels: NDArray[np.int64]
    file: SourceFile


@register(
    "reader",
    "cifar",
    summary="CIFAR-10 and CIFAR-100 in binary and python batches, also in the original archive",
    example="lamina data cifar-10-batches-py/",
)
class CIFARReader(Reader):
    """CIFAR-10 and CIFAR-100 batches."""

    name = "cifar"
    makes = ("image",)

    def sniff(self, source: Source) -> Guess:
        """Sure when files have the batches' names and their rows' length, or are pickles of that name."""
        for file in source.files[:64]:
            match = _BATCH.fullmatch(_base(file))
            if match is None:
                continue
            try:
                head = file.head(4)
            except DataError:
                continue
            if match[2] and _row_bytes(file) is not None:
                return Guess(0.97, f"{file.name} has the name and the row length of a binary CIFAR batch")
            if not match[2] and head[:1] in (b"\x80", b"(", b"}"):
                return Guess(0.96, f"{file.name} has the name of a CIFAR batch and is a pickle")
        return Guess(0.0, "no file has the name and form of a CIFAR batch")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all batches; names of classes come from the meta file, beside a single batch too."""
        max_bytes = config.max_memory_mb << 20
        notes = list(source.notes)
        chosen = [file for file in source.files if _BATCH.fullmatch(_base(file))]
        total = sum(file.size for file in chosen)
        binary = [file for file in chosen if file.ending == ".bin"]
        if binary and len(binary) < len(chosen):
            notes.append("Binary and python batches lie side by side; the binary ones are read.")
            chosen = binary
        classes = _class_names(source.siblings(), notes)
        mapped = bool(binary) and total > max_bytes
        if mapped:
            notes.append("The batches are memory-mapped, as they are larger than data.max_memory_mb.")
        elif total > max_bytes:
            raise too_large(str(source), max_bytes)
        parts: dict[str, list[Batch]] = {}
        for file in chosen:
            batch = _read_binary(file, mapped=mapped) if file.ending == ".bin" else _read_python(file)
            split = "test" if _base(file).startswith("test") else "train"
            parts.setdefault(split, []).append(batch)
        splits = {split: _join(batches, mapped=mapped, classes=classes) for split, batches in parts.items()}
        return image_data(
            splits, reader=self.name, source=str(source), notes=notes, classes=classes, max_bytes=max_bytes
        )


def _base(file: SourceFile) -> str:
    return PurePosixPath(file.plain_name).name


def _row_bytes(file: SourceFile) -> int | None:
    """3073 (CIFAR-10) or 3074 (CIFAR-100); None when the size is a multiple of neither."""
    if file.compression != "":
        return PIXELS + 2 if _base(file) in ("train.bin", "test.bin") else PIXELS + 1
    fits = [size for size in (PIXELS + 1, PIXELS + 2) if file.size and file.size % size == 0]
    if len(fits) == 2:  # both can hold only from 9.4 million rows on
        return PIXELS + 1
    return fits[0] if fits else None


def _read_binary(file: SourceFile, *, mapped: bool) -> Batch:
    row = _row_bytes(file)
    if row is None:
        raise _fault(
            f"The file has {file.size} bytes, which is no number of rows of {PIXELS + 1} or {PIXELS + 2}.", file.where
        )
    if mapped and file.path is not None and file.compression == "":
        flat: NDArray[np.uint8] = np.memmap(file.path, dtype=np.uint8, mode="c")
    else:
        flat = np.frombuffer(bytearray(file.read()), dtype=np.uint8)
    if flat.size % row:
        raise _fault(f"The unpacked file has {flat.size} bytes, which is no number of rows of {row}.", file.where)
    rows = flat.reshape(-1, row)
    images = torch.from_numpy(np.asarray(rows[:, row - PIXELS :])).reshape(-1, *SHAPE)
    labels = np.asarray(rows[:, row - PIXELS - 1]).astype(np.int64)
    _check_labels(labels, 10 if row == PIXELS + 1 else 100, file)
    return Batch(images, labels, file)


def _read_python(file: SourceFile) -> Batch:
    document = read_plain_pickle(file.read(), where=file.where)
    values = _with_bytes_keys(document, file)
    data = values.get(b"data")
    labels = next((values[key] for key in _LABEL_KEYS if key in values), None)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        found = f"{data.dtype} shaped {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise _fault(f"`data` is {found}, not bytes shaped (N, {PIXELS}).", file.where)
    if not isinstance(labels, list) or len(labels) != len(data) or not all(isinstance(v, int) for v in labels):
        raise _fault(f"`labels` is no list of {len(data)} whole numbers.", file.where)
    whole = np.array(labels, dtype=np.int64)
    _check_labels(whole, 100 if b"fine_labels" in values else 10, file)
    return Batch(torch.from_numpy(data).reshape(-1, *SHAPE), whole, file)


def _with_bytes_keys(document: Any, file: SourceFile) -> dict[bytes, Any]:
    if not isinstance(document, dict):
        raise _fault(f"The pickle holds a {type(document).__name__}, not a dict.", file.where)
    return {key.encode() if isinstance(key, str) else bytes(key): value for key, value in document.items()}


def _check_labels(labels: NDArray[np.int64], num_classes: int, file: SourceFile) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(bad):
        raise DataError(
            f"The label {int(labels[bad[0]])} is outside the {num_classes} classes, in {len(bad)} of {len(labels)} rows.",
            where=f"{file.where}, row {int(bad[0])}",
            accepts=f"0 to {num_classes - 1}",
            mend="download or copy the file again; it is no intact CIFAR batch",
        )


def _class_names(files: Sequence[SourceFile], notes: list[str]) -> tuple[str, ...] | None:
    """Class names from `batches.meta.txt`, `fine_label_names.txt`, `batches.meta` or `meta`."""
    for file in files:
        base = _base(file)
        if base in ("batches.meta.txt", "fine_label_names.txt"):
            names = [line.strip() for line in file.read(1 << 16).decode("utf-8", "replace").splitlines()]
            return tuple(name for name in names if name)
        if base in _META and file.head(1)[:1] in (b"\x80", b"(", b"}"):
            values = _with_bytes_keys(read_plain_pickle(file.read(1 << 20), where=file.where), file)
            found: Any = next((values[key] for key in _NAME_KEYS if key in values), [])
            return tuple(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in found)
    notes.append("There is no meta file beside the batches, so classes are called by their numbers.")
    return None


def _join(batches: Sequence[Batch], *, mapped: bool, classes: tuple[str, ...] | None) -> ImageSplit:
    images: Tensor | RowLoader
    if mapped and len(batches) > 1:
        images = JoinedRows([batch.images for batch in batches])
    else:
        images = torch.cat([batch.images for batch in batches]) if len(batches) > 1 else batches[0].images
        images = images if mapped else images.contiguous()
    whole = np.concatenate([batch.labels for batch in batches])
    highest = int(whole.max(initial=0))
    if classes is None or highest >= len(classes):
        classes = tuple(str(number) for number in range(10 if highest < 10 else 100))
    origin = [name for batch in batches for name in RowNames(batch.file.where, np.arange(len(batch.labels)))]
    return ImageSplit(images, Labels(torch.from_numpy(whole), classes), origin)


def _fault(what: str, where: str) -> DataError:
    return DataError(
        what,
        where=where,
        accepts="CIFAR-10 or CIFAR-100 batches, binary or python, as published",
        mend="download or copy the file again, or choose another reader with data.reader=…",
    )
