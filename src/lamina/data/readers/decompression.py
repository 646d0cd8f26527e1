"""Compressed streams that are opened by content, counted while they come, and four-part errors when they are damaged.

No more comes out than a bound in bytes and a ratio to what is stored allow: what exceeds both is a decompression bomb.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from typing import BinaryIO, Final, Protocol, cast

import numpy as np
import zstandard
from numpy.typing import NDArray

from lamina.core.errors import DataError

# Real data rarely shrinks a hundredfold; what exceeds this ratio and this many bytes is a decompression bomb.
MAX_RATIO: Final = 200
FREE_BYTES: Final = 64 << 20
_MAGIC: Final = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
)
# What libraries raise on damaged or hostile files.
DAMAGE: Final = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
    RuntimeError,
)


class StoredFile(Protocol):
    """What the bounds depend on: the file's name in messages, its stored size, and how much may come out of it."""

    @property
    def where(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102
    @property
    def max_bytes(self) -> int: ...  # noqa: D102


def too_large(where: str, max_bytes: int) -> DataError:
    """The error for content that does not fit the memory allowed for data."""
    return DataError(
        f"The content is larger than {max_bytes / 2**20:.0f} MiB.",
        where=where,
        accepts="at most data.max_memory_mb of unpacked data",
        mend="raise data.max_memory_mb, or unpack the file: uncompressed IDX, CIFAR and NPY files are memory-mapped",
    )


def read_bounded(stream: BinaryIO, max_bytes: int, *, where: str) -> bytes:
    """All of a stream; memory grows with what really comes, not with what a header promises.

    Raises:
        DataError: More than `max_bytes` come.
    """
    pieces, total = [], 0
    while piece := stream.read(min(1 << 20, max_bytes - total + 1)):
        total += len(piece)
        if total > max_bytes:
            raise too_large(where, max_bytes)
        pieces.append(piece)
    return b"".join(pieces)


def read_elements(stream: BinaryIO, num_bytes: int, *, file: StoredFile) -> NDArray[np.uint8]:
    """At most `num_bytes` + 1 of a stream, into memory that is allocated once.

    Args:
        num_bytes: What the header promises; the extra byte shows that there is more.
        file: Where the stream comes from; a promise beyond what its stored size can unpack to is refused first.

    Raises:
        DataError: The promise cannot be kept.
    """
    if num_bytes > max(FREE_BYTES, MAX_RATIO * file.size):
        raise DataError(
            f"The header promises {num_bytes} bytes, but the file has {file.size}.",
            where=file.where,
            accepts=f"data that unpacks to at most {MAX_RATIO} times its size",
            mend="download or copy the file again; do not trust where this one came from",
        )
    elements: NDArray[np.uint8] = np.empty(num_bytes + 1, dtype=np.uint8)
    view = elements.data
    count = 0
    while count <= num_bytes and (came := stream.readinto(view[count : count + (1 << 20)])):  # type: ignore[attr-defined]
        count += came
    return elements[:count]


class BoundedStream(io.RawIOBase):
    """A decompressing stream that counts what comes out and reports damage as DataError."""

    def __init__(self, stored: BinaryIO, compression: str, file: StoredFile) -> None:
        self._stored = stored
        self._file = file
        self._compression = compression
        self._limit = min(file.max_bytes, max(FREE_BYTES, MAX_RATIO * file.size))
        self._count = 0
        self._stream = _decompressor(stored, compression)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill the buffer with unpacked bytes; raises DataError for damage and beyond the bounds."""
        view = memoryview(cast("bytearray", buffer))
        try:
            data = self._stream.read(len(view))
        except DAMAGE as error:
            raise DataError(
                f"The {self._compression} data is damaged after {self._count} unpacked bytes: {reason_of(error)}.",
                where=self._file.where,
                accepts=f"a complete {self._compression} file",
                mend="download or copy the file again; compare its size with the original's",
            ) from error
        view[: len(data)] = data
        self._count += len(data)
        if self._count > self._limit:
            if self._count > self._file.max_bytes:
                raise too_large(self._file.where, self._file.max_bytes)
            raise DataError(
                f"{self._file.size} bytes unpack to more than {self._count}: this looks like a decompression bomb.",
                where=self._file.where,
                accepts=f"data that unpacks to at most {MAX_RATIO} times its size",
                mend="unpack the file yourself if you trust it, and give the unpacked one",
            )
        return len(data)

    def close(self) -> None:
        """Close the stored file too."""
        if not self.closed:
            self._stream.close()
            self._stored.close()
        super().close()


def _decompressor(stored: BinaryIO, compression: str) -> BinaryIO:
    if compression == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=stored, mode="rb"))
    if compression == "xz":
        return cast("BinaryIO", lzma.LZMAFile(stored))
    if compression == "bzip2":
        return cast("BinaryIO", bz2.BZ2File(stored))
    reader = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    return cast("BinaryIO", reader.stream_reader(stored, read_across_frames=True))


def is_complete_zstd(stored: BinaryIO) -> bool:
    """Whether every frame has its last block: the library ends silently where a file was cut off.

    Format: RFC 8878, section 3.1.1.
    """
    frames = 0
    while magic := stored.read(4):
        if magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5:  # a frame to be skipped
            if not _skip_bytes(stored, int.from_bytes(stored.read(4), "little")):
                return False
            continue
        descriptor = stored.read(1)
        if magic != b"\x28\xb5\x2f\xfd" or not descriptor:
            return False
        single, size_code = descriptor[0] >> 5 & 1, descriptor[0] >> 6
        size_bytes = (single, 2, 4, 8)[size_code]
        if not _skip_bytes(stored, (1 - single) + (0, 1, 2, 4)[descriptor[0] & 3] + size_bytes):
            return False
        is_last = False
        while not is_last:
            header = int.from_bytes(head, "little") if len(head := stored.read(3)) == 3 else -1
            is_last, kind = bool(header & 1), header >> 1 & 3
            if header < 0 or kind == 3 or not _skip_bytes(stored, 1 if kind == 1 else header >> 3):
                return False
        if descriptor[0] >> 2 & 1 and not _skip_bytes(stored, 4):
            return False
        frames += 1
    return frames > 0


def _skip_bytes(stream: BinaryIO, count: int) -> bool:
    while count and (data := stream.read(min(count, 1 << 20))):
        count -= len(data)
    return count == 0


def incomplete(where: str, compression: str) -> DataError:
    """The error for a stream that ends early."""
    return DataError(
        f"The {compression} data is damaged: it ends early, or something else follows it.",
        where=where,
        accepts=f"a complete {compression} file",
        mend="download or copy the file again; compare its size with the original's",
    )


def compression_of(head: bytes) -> str:
    """`gzip`, `xz`, `zstd`, `bzip2`, `zip` or empty, by a file's first six bytes."""
    return next((name for magic, name in _MAGIC if head.startswith(magic)), "")


def reason_of(error: BaseException) -> str:
    """What a library said, without a full stop."""
    text = str(error).strip().rstrip(".")
    return text or type(error).__name__
