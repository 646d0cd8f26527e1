"""What a path holds: files in a folder, in an archive or alone, opened decompressed and never beyond a bound.

A reader sees a `Source`: named files with their decompressed bytes, whatever they are packed in. Archives are never
unpacked to disk. What arrives is hostile until checked: member names are plain relative paths, links are refused, the
bytes that come out of a compressed file are counted while they come (bombs), and damaged streams are four-part errors.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from lamina.core.errors import DataError, nearest
from lamina.core.files import safe_member_name
from lamina.data.readers.decompression import (
    DAMAGE,
    FREE_BYTES,
    MAX_RATIO,
    BoundedStream,
    compression_of,
    incomplete,
    is_complete_zstd,
    read_bounded,
    reason_of,
    too_large,
)

MAX_MEMBERS: Final = 5_000_000
COMPRESSED_ENDINGS: Final = (".gz", ".xz", ".zst", ".bz2", ".lzma")
# Found beside data and never data: listings of systems, versions and licences.
_IGNORED_NAMES: Final = {"thumbs.db", "desktop.ini", "__macosx"}
_DOCUMENTS: Final = (".md", ".rst", ".html", ".pdf", ".names", ".license")
# Control characters, those that turn the direction of writing, and bytes that are no text.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_COMPRESSED_FILE: Final = re.compile(r"\.(?!tar\.)\w+\.zip$", re.IGNORECASE)


def is_hidden(name: str) -> bool:
    """Whether a name (or a folder on its way) belongs to a system rather than to the data."""
    return any(part.startswith(".") or part.casefold() in _IGNORED_NAMES for part in PurePosixPath(name).parts)


def plain_name(name: str) -> str:
    """The name without the ending of a compression.

    >>> plain_name("train-images-idx3-ubyte.gz")
    'train-images-idx3-ubyte'
    """
    for ending in COMPRESSED_ENDINGS:
        if name.casefold().endswith(ending):
            return name[: -len(ending)]
    return name


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: Relative path inside the source with forward slashes, as it stands there.
        where: What messages call it: `folder/a.csv`, `archive.zip:a.csv`.
        size: Stored bytes; of a compressed file the compressed ones.
        max_bytes: No more than this is ever decompressed.
        path: The file itself when it lies on the disk, not in an archive.
        problem: Why it cannot be opened (a link that leads nowhere), as a sentence; empty where nothing is known to be wrong.
    """

    name: str
    where: str
    size: int
    max_bytes: int
    path: Path | None = None
    problem: str = ""
    opener: Callable[[], BinaryIO] | None = field(default=None, compare=False, repr=False)

    @property
    def plain_name(self) -> str:
        """Name without the ending of a compression."""
        return plain_name(self.name)

    @cached_property  # every reader asks every file
    def ending(self) -> str:
        """The ending in small letters without that of a compression: `.csv`; empty without one."""
        return PurePosixPath(self.plain_name).suffix.casefold()

    @cached_property
    def compression(self) -> str:
        """`gzip`, `xz`, `zstd`, `bzip2`, `zip`, or empty: by the first bytes, not by the name."""
        with self._open_stored() as stored:
            return compression_of(stored.read(6))

    def _open_stored(self) -> BinaryIO:
        if self.problem:
            raise DataError(
                self.problem, where=self.where, accepts="a readable file", mend="mend or remove it, or its link"
            )
        if self.opener is not None:
            return self.opener()
        assert self.path is not None
        try:
            return self.path.open("rb")
        except OSError as error:
            raise unreadable(self.where, error) from error

    def open(self) -> BinaryIO:
        """The decompressed content as a stream that may raise DataError: damaged, or unpacks beyond the bound."""
        stored = self._open_stored()
        if self.compression in ("", "zip"):
            return stored
        if self.compression == "zstd":
            with stored:
                if not is_complete_zstd(stored):
                    raise incomplete(self.where, "zstd")
            stored = self._open_stored()
        return cast("BinaryIO", io.BufferedReader(BoundedStream(stored, self.compression, self), 1 << 16))

    def read(self, max_bytes: int | None = None) -> bytes:
        """The whole decompressed content.

        Raises:
            DataError: Damaged, or more than `max_bytes` (default: the source's bound).
        """
        bound = self.max_bytes if max_bytes is None else max_bytes
        with self.open() as stream:
            return read_bounded(stream, bound, where=self.where)

    def head(self, num_bytes: int) -> bytes:
        """The first bytes of the decompressed content."""
        with self.open() as stream:
            return stream.read(num_bytes)


def unreadable(where: str, error: OSError) -> DataError:
    """The error for a file that the system does not let us read."""
    return DataError(
        f"The file cannot be read: {error.strerror or error}.",
        where=where,
        accepts="a readable file",
        mend="check the path and its permissions",
    )


class Source:
    """The files of a path.

    Args:
        path: File, folder or archive (tar, also compressed, or zip).
        max_bytes: Bound on what is decompressed into memory, over all files of an archive together.

    Attributes:
        name: Last part of the path.
        is_folder: The path is a folder.
        notes: Sentences on what was passed over.

    Raises:
        DataError: There is nothing at the path; the nearest existing names are given.
    """

    def __init__(self, path: str | Path, *, max_bytes: int = 4096 << 20) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.notes: list[str] = []
        if not self.path.exists():
            raise missing_path(self.path)
        self.is_folder = self.path.is_dir()
        self.name = self.path.resolve().name

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def files(self) -> tuple[SourceFile, ...]:
        """All files in the order of their names, numbers by value; hidden ones left out, archives looked into."""
        if not self.is_folder:
            alone = self.file(self.path, self.path.name)
            inside = self._expand(alone)
            return (alone,) if inside is None else inside
        plain: list[SourceFile] = []
        walk = _Walk(self.path)
        hidden: list[str] = []
        for path, name in walk.files:
            if is_hidden(name):
                hidden.append(name)
                continue
            file = self.file(path, name)
            # `x.csv.zip` is a compressed file, not a collection.
            members = self._expand(file) if _COMPRESSED_FILE.search(name) and not file.problem else None
            plain += [file] if members is None else members
        plain += walk.unreadable
        self.notes += [*walk.notes(), *_hidden_note(hidden)]
        packed = [file for file in plain if file.path is not None and "/" not in file.name and looks_packed(file.name)]
        others = [file for file in plain if file not in packed and not _is_document(file)]
        if not packed:
            return tuple(plain)
        if others:
            names = ", ".join(file.name for file in packed[:5])
            self.notes.append(f"Archives beside unpacked files are not looked into: {names}.")
            return tuple(others)
        found: list[SourceFile] = []
        for file in packed:
            unpacked = self._expand(file)
            stem = file.name.split(".")[0]
            found += [file] if unpacked is None else [replace(m, name=f"{stem}/{m.name}") for m in unpacked]
        return tuple(found)

    def file(self, path: str | Path, name: str) -> SourceFile:
        """A file on the disk as a SourceFile called `name`; one that cannot be opened says why in `problem`."""
        size, problem = 0, ""
        try:
            facts = os.stat(path)  # noqa: PTH116 - for many files, making Paths takes longer than asking the system
            size = facts.st_size
            if not stat.S_ISREG(facts.st_mode):
                size, problem = 0, "It is no file but a pipe, socket or device."
        except FileNotFoundError:
            problem = "It is a link that leads nowhere."
        except OSError as error:
            problem = f"It cannot be read: {error.strerror or error}."
        return SourceFile(
            name=name, where=shown(str(path)), size=size, max_bytes=self.max_bytes, path=Path(path), problem=problem
        )

    def siblings(self) -> tuple[SourceFile, ...]:
        """For a single file: the files beside it, itself included; for a folder or archive: its own files."""
        if self.is_folder or len(self.files) != 1 or self.files[0].path != self.path:
            return self.files
        beside = sorted(entry for entry in self.path.parent.iterdir() if entry.is_file() and not is_hidden(entry.name))
        return tuple(self.file(path, path.name) for path in beside)

    def _expand(self, file: SourceFile) -> tuple[SourceFile, ...] | None:
        """The members of an archive; None when the file is not one (NPZ files are zips, but files to us)."""
        if file.compression == "zip":
            return self._zip_members(file)
        head = file.head(512) if file.size else b""
        if head[257:262] != b"ustar" and not (file.plain_name.casefold().endswith((".tar", ".tgz")) and head):
            return None
        return self._tar_members(file)

    def _zip_members(self, file: SourceFile) -> tuple[SourceFile, ...] | None:
        assert file.path is not None
        try:
            with zipfile.ZipFile(file.path) as archive:
                infos = [info for info in archive.infolist() if not info.is_dir()]
        except DAMAGE as error:
            raise _damaged("zip", file.where, error) from error
        if infos and all(info.filename.endswith(".npy") for info in infos):
            return None
        if sum(info.compress_size for info in infos) > file.size:
            raise _damaged("zip", file.where, zipfile.BadZipFile("its members overlap"))
        members = []
        hidden: list[str] = []
        for info in infos:
            # The high half of the attributes holds the unix mode, where the packer wrote one.
            is_link = (info.external_attr >> 16) & 0o170000 not in (0, 0o100000)
            name = safe_member_name(info.filename, is_link=is_link, where=file.where)
            if is_hidden(name):
                hidden.append(name)
                continue
            where = f"{file.where}:{shown(name)}"
            if info.flag_bits & 1:
                raise DataError(
                    "The archive is encrypted.",
                    where=where,
                    accepts="archives without a password",
                    mend="unpack it with its password and give the folder",
                )
            if info.file_size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
                raise DataError(
                    f"{info.compress_size} bytes claim to unpack to {info.file_size}: this looks like a decompression bomb.",
                    where=where,
                    accepts=f"data that unpacks to at most {MAX_RATIO} times its size",
                    mend="unpack the archive yourself if you trust it, and give the folder",
                )
            members.append(
                SourceFile(
                    name=name,
                    where=where,
                    size=info.file_size,
                    max_bytes=self.max_bytes,
                    opener=_zip_opener(file.path, info, where),
                )
            )
        self.notes += _hidden_note(hidden)
        return _checked_members(members, file.where)

    def _tar_members(self, file: SourceFile) -> tuple[SourceFile, ...]:
        members = []
        hidden: list[str] = []
        total = 0
        packed = file.compression != ""
        with file.open() as stream:
            try:
                # A stream ("r|") never seeks: compressed archives are passed through once, their files kept in memory.
                with tarfile.open(fileobj=stream, mode="r|" if packed else "r:") as archive:
                    for info in archive:
                        if info.isdir():
                            continue
                        name = safe_member_name(
                            info.name, is_link=not info.isreg() or info.issparse(), where=file.where
                        )
                        if is_hidden(name):
                            hidden.append(name)
                            continue
                        where = f"{file.where}:{shown(name)}"
                        if packed:
                            total += info.size
                            if total > self.max_bytes:
                                raise too_large(file.where, self.max_bytes)
                            content = cast("BinaryIO", archive.extractfile(info))
                            opener = _memory_opener(read_bounded(content, info.size, where=where))
                        else:
                            assert file.path is not None
                            if info.offset_data + info.size > file.size:
                                raise tarfile.ReadError("unexpected end of data")
                            opener = _slice_opener(file.path, info.offset_data, info.size)
                        members.append(
                            SourceFile(name=name, where=where, size=info.size, max_bytes=self.max_bytes, opener=opener)
                        )
                        if len(members) > MAX_MEMBERS:
                            raise tarfile.ReadError(f"more than {MAX_MEMBERS} members")
            except DataError:
                raise
            except DAMAGE as error:
                raise _damaged("tar", file.where, error) from error
        self.notes += _hidden_note(hidden)
        return _checked_members(members, file.where)


def looks_packed(name: str) -> bool:
    """Whether a name ends like an archive's."""
    folded = name.casefold()
    return folded.endswith((".zip", ".tgz", ".tar")) or plain_name(folded).endswith(".tar")


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which numbers inside names count by value: `2.png` before `10.png`."""
    parts: list[tuple[int, int, str]] = []
    digits, text = "", ""
    for letter in name + "\0":
        if letter.isascii() and letter.isdigit():
            if text:
                parts.append((1, 0, text))
                text = ""
            digits += letter
        else:
            if digits:
                parts.append((0, int(digits) if len(digits) < 19 else 0, digits))
                digits = ""
            text += letter
    return (*parts, (1, 0, text.rstrip("\0")))


def missing_path(path: Path, *, also: Iterable[str] = ()) -> DataError:
    """The error for a path that does not exist, with the nearest names that do.

    Args:
        also: Further names that would have been accepted (embedded datasets).
    """
    folder = path.parent
    missing = path.name
    while not folder.is_dir() and folder != folder.parent:
        missing, folder = folder.name, folder.parent
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        names = []
    near = [*(str(folder / name) for name in nearest(missing, names)), *nearest(str(path), also)]
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return DataError(
        f"There is no file or folder {str(path)!r}.",
        where=f"path {path}",
        accepts=f"an existing path; {folder} holds: {shown or 'nothing'}",
        mend=f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "check the path",
    )


class _Walk:
    """The files below a folder, links to folders followed once, in natural order.

    Attributes:
        unreadable: Folders that the system does not let us look into, each as a file that has a problem.
    """

    def __init__(self, folder: Path) -> None:
        self.unreadable: list[SourceFile] = []
        self._outward: list[str] = []
        self._again: list[str] = []
        self._found: list[tuple[str, str]] = []
        base = os.path.realpath(folder)
        seen: set[str] = set()
        waiting, links = deque([(str(folder), "")]), deque[tuple[str, str]]()
        # Links come last, so that where a folder can be reached in two ways, it is found in its own place.
        while waiting or links:
            path, prefix = (waiting or links).popleft()
            real = os.path.realpath(path)
            if real in seen:
                self._again.append(prefix[:-1])
                continue
            seen.add(real)
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        is_link = entry.is_symlink()
                        if is_link and not os.path.realpath(entry.path).startswith(base + os.sep):
                            self._outward.append(prefix + entry.name)
                        if _is_folder(entry):
                            (links if is_link else waiting).append((entry.path, f"{prefix}{entry.name}/"))
                        else:
                            self._found.append((entry.path, prefix + entry.name))
            except OSError as error:
                self._refused(path, prefix[:-1], error)
            if len(self._found) > MAX_MEMBERS:
                raise DataError(
                    f"The folder holds more than {MAX_MEMBERS} files.",
                    where=str(folder),
                    accepts=f"at most {MAX_MEMBERS} files",
                    mend="check the path; give the folder of the data itself",
                )

    @property
    def files(self) -> list[tuple[str, str]]:
        """(path, relative name) in natural order."""
        return sorted(self._found, key=lambda pair: natural_key(pair[1]))

    def _refused(self, path: str, name: str, error: OSError) -> None:
        if not is_hidden(name) and name != "lost+found":
            problem = f"The folder cannot be looked into: {error.strerror or error}."
            self.unreadable.append(
                SourceFile(name=name, where=shown(path), size=0, max_bytes=0, path=Path(path), problem=problem)
            )

    def notes(self) -> list[str]:
        """Sentences on links."""
        notes = []
        if self._outward:
            notes.append(f"Links that lead out of the folder are followed: {_some(sorted(self._outward))}.")
        if self._again:
            again = _some(sorted(self._again))
            notes.append(f"Folders that are links to one that was read already are left out: {again}.")
        return notes


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def shown(name: str) -> str:
    r"""A name as it can be printed and kept in JSON: control characters and bytes that are no text are written out.

    >>> print(shown("a\nb"), shown("na\u00efve"))
    a\x0ab naïve
    """
    return _UNPRINTABLE.sub(_written_out, name)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a file name that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(map(shown, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _hidden_note(names: Sequence[str]) -> list[str]:
    return [f"Hidden files and those of the system are left out: {_some(names)}."] if names else []


def _is_document(file: SourceFile) -> bool:
    name = PurePosixPath(file.name).name.casefold()
    return name.endswith(_DOCUMENTS) or name.startswith(("readme", "license", "licence", "copying", "makefile"))


def _checked_members(members: list[SourceFile], where: str) -> tuple[SourceFile, ...]:
    names = {member.name for member in members}
    if len(names) < len(members):
        twice = next(m.name for i, m in enumerate(members) if m.name in {other.name for other in members[:i]})
        raise DataError(
            f"The member {twice!r} stands twice.",
            where=where,
            accepts="each name once",
            mend="pack the archive again, with one file of that name",
        )
    return tuple(sorted(members, key=lambda member: natural_key(member.name)))


def _damaged(kind: str, where: str, error: BaseException) -> DataError:
    return DataError(
        f"The {kind} archive is damaged: {reason_of(error)}.",
        where=where,
        accepts=f"a complete {kind} archive",
        mend="download or copy the archive again; compare its size with the original's",
    )


def _memory_opener(content: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(content)


class _ZipMember(io.RawIOBase):
    """A member of a zip, with damage (a wrong checksum, a cut file) as DataError.

    It opens the archive for itself, so that members can be read from several threads and nothing stays open.
    """

    def __init__(self, path: Path, info: zipfile.ZipInfo, where: str) -> None:
        self._where = where
        stored = path.open("rb")
        try:
            stored.seek(info.header_offset)
            header = stored.read(30)
            if len(header) < 30 or header[:4] != b"PK\x03\x04":
                raise zipfile.BadZipFile("a member's header is missing")
            stored.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), os.SEEK_CUR)
            self._stream = zipfile.ZipExtFile(stored, "r", info, close_fileobj=True)
        except DAMAGE as error:
            stored.close()
            raise _damaged("zip", where, error) from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        try:
            data = self._stream.read(len(view))
        except DAMAGE as error:
            raise _damaged("zip", self._where, error) from error
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _zip_opener(path: Path, info: zipfile.ZipInfo, where: str) -> Callable[[], BinaryIO]:
    return lambda: cast("BinaryIO", io.BufferedReader(_ZipMember(path, info, where), 1 << 16))


class _Slice(io.RawIOBase):
    """A stretch of a file, read without moving a shared position."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._file = path.open("rb")
        self._file.seek(start)
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer))
        data = self._file.read(min(len(view), self._left))
        view[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _slice_opener(path: Path, start: int, size: int) -> Callable[[], BinaryIO]:
    return lambda: cast("BinaryIO", io.BufferedReader(_Slice(path, start, size)))
