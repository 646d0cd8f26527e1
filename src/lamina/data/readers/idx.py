"""IDX files, as MNIST and its family come: `train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, plain or compressed.

Format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", section "File formats": two zero bytes, the
element type, the number of dimensions, the dimensions as big-endian 32-bit numbers, the elements big-endian.
The header's promise is checked against the size of the file before anything is allocated.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.readers.base import Guess, ImageSplit, Labels, Reader, RowNames, image_data, split_of_file
from lamina.data.readers.decompression import read_elements, too_large
from lamina.data.readers.pixels import channels_are_first, compact, image_shape, rows_to_images
from lamina.data.readers.sources import Source, SourceFile

_TYPES: Final = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_KIND_WORDS: Final = re.compile(r"(images?|labels?|idx\d|ubyte|ubytes)", re.IGNORECASE)


@dataclass(frozen=True)
class IDXHeader:
    """Element type, dimensions and the offset of the first element."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_header(head: bytes, *, where: str) -> IDXHeader:
    """The header from the first bytes of a file.

    Raises:
        DataError: Not IDX, an unknown element type, or cut short.
    """
    if len(head) < 4 or head[:2] != b"\0\0":
        raise _fault(f"The file begins with {head[:4].hex(' ') or 'nothing'}, not with an IDX magic number.", where)
    code, num_dims = head[2], head[3]
    if code not in _TYPES:
        raise _fault(f"The IDX element type 0x{code:02x} is unknown.", where)
    if not 1 <= num_dims <= 4:
        raise _fault(f"The IDX header says {num_dims} dimensions.", where)
    offset = 4 + 4 * num_dims
    if len(head) < offset:
        raise _fault(f"The IDX header is cut short after {len(head)} bytes.", where)
    shape = tuple(int.from_bytes(head[4 + 4 * i : 8 + 4 * i], "big") for i in range(num_dims))
    return IDXHeader(np.dtype(_TYPES[code]), shape, offset)


def read_array(file: SourceFile, *, max_bytes: int) -> NDArray[np.generic]:
    """The elements of an IDX file; a large uncompressed file of bytes on the disk is memory-mapped.

    Raises:
        DataError: The file's size is not what its header promises, or it does not fit `max_bytes`.
    """
    with file.open() as stream:
        header = parse_header(stream.read(20), where=file.where)
    on_disk = file.path is not None and file.compression == ""
    if file.compression == "" and file.size != header.offset + header.num_bytes:
        raise _wrong_size(header, file.size - header.offset, file.where)
    if header.num_bytes > max_bytes:
        if on_disk and header.dtype == np.uint8 and file.path is not None:
            # Copy on write: the tensor counts as writable, the file is never written.
            return np.memmap(file.path, dtype=np.uint8, mode="c", offset=header.offset, shape=header.shape)
        raise too_large(file.where, max_bytes)
    with file.open() as stream:
        stream.read(header.offset)
        elements = read_elements(stream, header.num_bytes, file=file)
    if len(elements) != header.num_bytes:
        more = "more than " if len(elements) > header.num_bytes else ""
        raise _wrong_size(header, min(len(elements), header.num_bytes), file.where, more=more)
    return elements.view(header.dtype).reshape(header.shape)


def _wrong_size(header: IDXHeader, found: int, where: str, *, more: str = "") -> DataError:
    return _fault(
        f"The header promises {' x '.join(map(str, header.shape))} elements of {header.dtype.itemsize} bytes, "
        f"{header.num_bytes} bytes in all; the file has {more}{found}.",
        where,
    )


def _fault(what: str, where: str) -> DataError:
    return DataError(
        what,
        where=where,
        accepts="an IDX file (00 00, type, dimensions, sizes, elements) that is as long as its header says",
        mend="download or copy the file again, or choose another reader with data.reader=…",
    )


@register(
    "reader", "idx", summary="IDX files as MNIST has them, images and labels in pairs", example="lamina data mnist/"
)
class IDXReader(Reader):
    """IDX files: pairs of images and labels, splits from their names."""

    name = "idx"
    makes = ("image",)

    def sniff(self, source: Source) -> Guess:
        """Sure when the files begin with an IDX magic number."""
        found = [file.name for file in source.files[:64] if _is_idx(file)]
        if not found:
            return Guess(0.0, "no file begins with an IDX magic number")
        return Guess(0.98, f"{found[0]} begins with an IDX magic number")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all pairs; of an image file alone, the labels beside it are found by its name."""
        files = [file for file in source.siblings() if file.size and _is_idx(file)]
        if not files:
            raise _fault("No file begins with an IDX magic number.", str(source))
        arrays = {file.name: file for file in files}
        notes = list(source.notes)
        images, labels = _sort(arrays)
        given = source.files[0].name if len(source.files) == 1 else None
        if given is not None:
            key = _pair_key(given)
            images = {k: f for k, f in images.items() if k == key}
        if not images:
            raise _fault("There are labels but no images.", str(source))
        splits: dict[str, ImageSplit] = {}
        found: dict[str, NDArray[np.generic]] = {}
        budget = config.max_memory_mb << 20
        names: dict[str, str] = {}
        for key, file in images.items():
            split = split_of_file(file, source)
            if split in found:
                raise DataError(
                    f"Two image files belong to the split {split!r}: {names[split]} and {file.name}.",
                    where=str(source),
                    accepts="one pair of images and labels per split",
                    mend="give the image file that you want; its labels are found by its name",
                )
            array = read_array(file, max_bytes=budget)
            budget -= 0 if isinstance(array, np.memmap) else array.nbytes
            found[split], names[split] = array, file.name
            label = _read_labels(labels.get(key), file, len(array), notes)
            splits[split] = ImageSplit(torch.empty(0), label, RowNames(file.where, np.arange(len(array))))
        left = sorted(set(labels) - set(images)) if given is None else []
        if left:
            notes.append(f"Labels without images are not used: {', '.join(labels[key].name for key in left)}.")
        maximum = _fill(splits, found, config, notes, str(source))
        return image_data(splits, reader=self.name, source=str(source), notes=notes, maximum=maximum)


def _is_idx(file: SourceFile) -> bool:
    try:
        head = file.head(4)
    except DataError:
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 4


def _sort(files: dict[str, SourceFile]) -> tuple[dict[str, SourceFile], dict[str, SourceFile]]:
    """(pair key -> images, pair key -> labels)."""
    images: dict[str, SourceFile] = {}
    labels: dict[str, SourceFile] = {}
    for name, file in files.items():
        (labels if file.head(4)[3] == 1 else images)[_pair_key(name)] = file
    return images, labels


def _pair_key(name: str) -> str:
    """What images and labels of a pair have in common: the name without `images`, `labels`, `idx3-ubyte` and endings."""
    base = re.sub(r"\.(gz|xz|zst|bz2)$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9/]+", "-", _KIND_WORDS.sub("", base).casefold()).strip("-")


def _read_labels(file: SourceFile | None, images: SourceFile, num_rows: int, notes: list[str]) -> Labels | None:
    if file is None:
        notes.append(f"{images.name} has no labels beside it.")
        return None
    array = read_array(file, max_bytes=1 << 30)
    if array.dtype.kind not in "ui":
        raise _fault(f"The labels are {array.dtype}, not whole numbers.", file.where)
    if len(array) != num_rows:
        raise DataError(
            f"There are {num_rows} images but {len(array)} labels.",
            where=f"{images.where} and {file.where}",
            accepts="one label per image",
            mend="put the pair together that belongs together",
        )
    return Labels.of_integers(array.astype(np.int64))


def _fill(
    splits: dict[str, ImageSplit],
    arrays: dict[str, NDArray[np.generic]],
    config: DataConfig,
    notes: list[str],
    where: str,
) -> float | None:
    """Give the splits their images (N, C, H, W); returns the largest value where it is unusual."""
    if any(isinstance(array, np.memmap) for array in arrays.values()):
        notes.append("The images are memory-mapped, as they are larger than data.max_memory_mb.")
        tensors, maximum = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}, None
    else:
        packed = compact(arrays, where=where)
        tensors, maximum = packed.tensors, packed.maximum
        notes += packed.notes
    for name, tensor in tensors.items():
        splits[name].images = _as_images(tensor, config, notes, where)
    return maximum


def _as_images(tensor: Tensor, config: DataConfig, notes: list[str], where: str) -> Tensor:
    if tensor.ndim == 3:
        return tensor.unsqueeze(1)
    if tensor.ndim == 2:
        shape, said = image_shape(tensor.shape[1], config, where=where)
        if said not in notes:
            notes.append(said)
        return rows_to_images(tensor, shape)
    first, said = channels_are_first((-1, *tensor.shape[1:]), config, where=where)
    said = said.replace("-1", "N")
    if said not in notes:
        notes.append(said)
    return tensor if first else tensor.permute(0, 3, 1, 2)
