"""NPZ and NPY files: arrays with the usual names (`x_train`, `train_images`, `X`, `labels`, …), never unpickled.

The header of every array is parsed and checked against the bytes that are there before anything is allocated; arrays of
objects are refused. Large uncompressed NPY files are memory-mapped.
"""

from __future__ import annotations

import contextlib
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import DataError
from lamina.core.npyfile import MAGIC, NPYHeader, read_npy_header
from lamina.core.registry import register
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.readers.arrays import arrays_by_split, data_from_arrays, role_of_name
from lamina.data.readers.base import Guess, Reader, split_of
from lamina.data.readers.decompression import FREE_BYTES, MAX_RATIO, read_bounded, too_large
from lamina.data.readers.sources import Source, SourceFile


def read_header(stream: BinaryIO, *, where: str) -> NPYHeader:
    """The header of an NPY stream, which is left at the first element.

    Raises:
        DataError: Not NPY, damaged, or an element type that needs code to be read.
    """
    return read_npy_header(stream, fault=lambda what: _fault(what, where))


def read_npy(stream: BinaryIO, *, size: int | None, max_bytes: int, where: str) -> NDArray[np.generic]:
    """An array from an NPY stream.

    Args:
        size: Bytes of the whole stream where they are known.
        max_bytes: Bound on the array.

    Raises:
        DataError: As `read_header`; or the elements are not as many as the header says, or too many.
    """
    header = read_header(stream, where=where)
    if size is not None and size != header.offset + header.num_bytes:
        raise _wrong_size(header, size - header.offset, where)
    if header.num_bytes > max_bytes:
        raise too_large(where, max_bytes)
    data = read_bounded(stream, header.num_bytes + 1, where=where)
    if len(data) != header.num_bytes:
        raise _wrong_size(header, len(data), where)
    flat: NDArray[np.generic] = np.frombuffer(bytearray(data), dtype=header.dtype)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def read_arrays(file: SourceFile, *, max_bytes: int) -> dict[str, NDArray[np.generic]]:
    """All arrays of an NPZ, or the one of an NPY under the file's name.

    Raises:
        DataError: Damaged, or larger than `max_bytes` together.
    """
    if file.compression == "zip":
        return _read_npz(file, max_bytes)
    name = PurePosixPath(file.plain_name).name.removesuffix(".npy")
    stored = file.compression == ""
    if stored and file.path is not None:
        with file.open() as stream:
            header = read_header(stream, where=file.where)
        if header.num_bytes > max_bytes:
            if file.size != header.offset + header.num_bytes:
                raise _wrong_size(header, file.size - header.offset, file.where)
            order: Literal["F", "C"] = "F" if header.fortran else "C"
            mapped: NDArray[np.generic] = np.memmap(
                file.path, dtype=header.dtype, mode="c", offset=header.offset, shape=header.shape, order=order
            )
            return {name: mapped}
    with file.open() as stream:
        return {name: read_npy(stream, size=file.size if stored else None, max_bytes=max_bytes, where=file.where)}


def _read_npz(file: SourceFile, max_bytes: int) -> dict[str, NDArray[np.generic]]:
    arrays = {}
    with file.open() as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                for info in archive.infolist():
                    where = f"{file.where}:{info.filename}"
                    if not info.filename.endswith(".npy"):
                        raise _fault(f"The member {info.filename!r} is no NPY array.", file.where)
                    if info.file_size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
                        raise _fault(
                            f"{info.compress_size} bytes claim to unpack to {info.file_size}: this looks like a "
                            "decompression bomb.",
                            where,
                        )
                    with archive.open(info) as member:
                        array = read_npy(
                            member,  # type: ignore[arg-type]
                            size=info.file_size,
                            max_bytes=max_bytes,
                            where=where,
                        )
                    max_bytes -= array.nbytes
                    arrays[info.filename.removesuffix(".npy")] = array
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise _fault(
                f"The NPZ file is damaged: {str(error).rstrip('.') or 'it ends early'}.", file.where
            ) from error
    return arrays


def _wrong_size(header: NPYHeader, found: int, where: str) -> DataError:
    return _fault(
        f"The header promises an array shaped {header.shape} of {header.dtype}, {header.num_bytes} bytes; there are {found}.",
        where,
    )


def _fault(what: str, where: str) -> DataError:
    return DataError(
        what,
        where=where,
        accepts="NPZ or NPY with plain arrays of numbers or texts, as long as their headers say",
        mend="write it again with numpy.savez or numpy.save from plain arrays (allow_pickle=False)",
    )


@register(
    "reader",
    "npz",
    summary="NPZ and NPY arrays: x_train, y_train, images, labels, X, y, …",
    example="lamina data mnist.npz",
)
class NPZReader(Reader):
    """NPZ and NPY arrays with the usual names."""

    name = "npz"
    makes = ("image",)

    def sniff(self, source: Source) -> Guess:
        """Sure when files begin with the NPY magic number or are zips of NPY members."""
        for file in source.files[:64]:
            if _is_npz(file):
                return Guess(0.97, f"{file.name} is a zip of NPY arrays")
            if _is_npy(file):
                return Guess(0.97, f"{file.name} begins with the NPY magic number")
        return Guess(0.0, "no file is NPZ or NPY")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read the arrays; their names (and those of the files) tell roles and splits."""
        notes = list(source.notes)
        pairs = arrays_by_split(named_arrays(source, config, notes=notes), where=str(source), notes=notes)
        return data_from_arrays(pairs, config, reader=self.name, source=str(source), notes=notes)


def named_arrays(source: Source, config: DataConfig, *, notes: list[str]) -> dict[str, NDArray[np.generic]]:
    """All arrays of a source by name; a file per split (`train.npz` with X and y) gives its split to names that have none.

    Raises:
        DataError: Damaged, too large, or two arrays of one name.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    budget = config.max_memory_mb << 20
    for file in _chosen(source):
        for name, array in read_arrays(file, max_bytes=budget).items():
            split = split_of(PurePosixPath(file.plain_name).name)
            full = f"{split}_{name}" if split is not None and split_of(name) is None else name
            if full in arrays:
                raise _fault(f"Two arrays are called {full!r}.", file.where)
            arrays[full] = array
            budget -= 0 if isinstance(array, np.memmap) else array.nbytes
    if any(isinstance(array, np.memmap) for array in arrays.values()):
        notes.append("Arrays larger than data.max_memory_mb are memory-mapped.")
    return arrays


def array_names(source: Source) -> list[str]:
    """Names of the arrays of a source, from headers alone; empty where it holds none. Never raises for bad content."""
    return [name for name, _ in _outline(source)]


def array_shapes(source: Source) -> list[tuple[int, ...]]:
    """Shapes of the arrays of a source, from headers alone."""
    return [shape for _, shape in _outline(source)]


def _outline(source: Source) -> list[tuple[str, tuple[int, ...]]]:
    found: list[tuple[str, tuple[int, ...]]] = []
    for file in source.files[:64]:
        with contextlib.suppress(DataError, zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError):
            if _is_npy(file):
                with file.open() as stream:
                    found.append((PurePosixPath(file.plain_name).stem, read_header(stream, where=file.where).shape))
            elif _is_npz(file):
                with file.open() as stream, zipfile.ZipFile(stream) as archive:
                    for info in archive.infolist():
                        with archive.open(info) as member:
                            header = read_header(member, where=file.where)  # type: ignore[arg-type]
                        found.append((info.filename.removesuffix(".npy"), header.shape))
    return found


def _chosen(source: Source) -> list[SourceFile]:
    """The array files; beside a single NPY of inputs, the one of its labels."""
    if source.is_folder or len(source.files) != 1 or not _is_npy(source.files[0]):
        return [file for file in source.files if _is_npz(file) or _is_npy(file)]
    given = source.files[0]
    beside = {file.name: file for file in source.siblings() if file.ending == ".npy"}
    wanted = split_of(given.name)
    partners = [
        file
        for name, file in beside.items()
        if name != given.name and split_of(name) == wanted and role_of_name(file.plain_name.removesuffix(".npy")) == "y"
    ]
    is_input = role_of_name(given.plain_name.removesuffix(".npy")) == "x"
    return [given, *partners[:1]] if is_input and len(partners) == 1 else [given]


def _is_npy(file: SourceFile) -> bool:
    try:
        return file.size > 0 and file.head(6) == MAGIC
    except DataError:
        return False


def _is_npz(file: SourceFile) -> bool:
    try:
        if file.size == 0 or file.compression != "zip":
            return False
        with file.open() as stream, zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (DataError, zipfile.BadZipFile, OSError, NotImplementedError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)
