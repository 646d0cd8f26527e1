"""A reader for zip files that nobody vouches for, and a writer whose files do not depend on the clock.

Every byte of the archive is accounted for before a member is read: one end record at the very end, a central directory
right before it, local headers that say the same as the directory, members that lie one after the other from byte 0
without gap or overlap. Path escapes, duplicate names, links, encryption, data descriptors, ZIP64 and foreign
compression methods are refused, and unpacking stops at the declared size, so that no archive can grow beyond it.

Format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16 (end record).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from lamina.core.errors import BundleError

_END = struct.Struct("<4s4H2LH")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_UTF8_NAME: Final = 0x800
_STORED, _DEFLATED = 0, 8
MAX_DIRECTORY_BYTES: Final = 64 * 1024
MAX_RATIO: Final = 200
CHUNK: Final = 1 << 20
_LINK: Final = 0o120000

Fault = Callable[[str, str], BundleError]


@dataclass(frozen=True)
class Member:
    """A member whose headers agree: where its packed bytes lie and what they unpack to."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    begin: int


def read_directory(file: BinaryIO, *, fault: Fault, max_members: int) -> dict[str, Member]:
    """Check the archive's structure and return its members by name.

    Args:
        file: Open for reading in binary, seekable.
        fault: (what is wrong, what is accepted) -> the error to raise.
        max_members: Refuse archives with more.
    """
    size = file.seek(0, 2)
    if size < _END.size:
        raise fault(f"The file has {size} bytes.", "a zip file")
    file.seek(size - _END.size)
    signature, disk, first_disk, here, total, length, start, comment = _END.unpack(file.read(_END.size))
    if signature != b"PK\x05\x06" or comment:
        raise fault("The file does not end in a zip's end record.", "a zip file without a comment or trailing bytes")
    if disk or first_disk or here != total or 0xFFFF in (here, total) or 0xFFFFFFFF in (length, start):
        raise fault(
            "The archive has several parts or is ZIP64.", "one plain zip file below 4 GiB; larger ones as a folder"
        )
    if not 0 < total <= max_members or length > MAX_DIRECTORY_BYTES:
        raise fault(f"The archive lists {total} members in {length} bytes.", f"1 to {max_members} members")
    if start + length != size - _END.size:
        raise fault(
            f"The directory lies at bytes {start} to {start + length}; it should end at {size - _END.size}.",
            "a directory right before the end record",
        )
    file.seek(start)
    directory = file.read(length)
    entries: list[tuple[int, Member]] = []
    names: set[str] = set()
    position = 0
    for _ in range(total):
        position, offset, member = _central(directory, position, fault)
        if member.name in names:
            raise fault(f"The member {member.name!r} is there twice.", "each file once")
        names.add(member.name)
        entries.append((offset, member))
    if position != length:
        raise fault(
            f"The directory has {length - position} bytes too many.", "a directory that ends with its last member"
        )

    members: dict[str, Member] = {}
    expected = 0
    for offset, entry in sorted(entries, key=lambda pair: pair[0]):
        if offset != expected:
            raise fault(
                f"The member {entry.name!r} begins at byte {offset} where {expected} was due.",
                "members one after the other without gap or overlap",
            )
        begin = _local(file, offset, entry, fault)
        expected = begin + entry.packed
        if expected > start:
            raise fault(f"The member {entry.name!r} runs into the directory.", "members before the directory")
        members[entry.name] = Member(entry.name, entry.method, entry.crc, entry.packed, entry.size, begin)
    if expected != start:
        raise fault(
            f"There are {start - expected} bytes before the directory that belong to no member.", "no hidden bytes"
        )
    return members


def _central(directory: bytes, position: int, fault: Fault) -> tuple[int, int, Member]:
    if position + _CENTRAL.size > len(directory):
        raise fault("The directory ends inside a member's entry.", "a whole directory")
    fields = _CENTRAL.unpack_from(directory, position)
    (
        signature,
        made_by,
        _,
        flags,
        method,
        _,
        _,
        crc,
        packed,
        size,
        name_length,
        extra,
        comment,
        disk,
        _,
        external,
        at,
    ) = fields
    end = position + _CENTRAL.size + name_length + extra + comment
    if signature != b"PK\x01\x02" or end > len(directory):
        raise fault("The directory holds something that is not a member's entry.", "a whole directory")
    raw = directory[position + _CENTRAL.size :][:name_length]
    name = _name(raw, fault)
    if made_by >> 8 == 3 and external >> 16 & 0o170000 == _LINK:
        raise fault(f"The member {name!r} is a symbolic link.", "plain files")
    if flags & ~_UTF8_NAME or disk:
        kind = "encrypted" if flags & 1 else f"packed in a way (flags {flags:#x}) that this format does not use"
        raise fault(f"The member {name!r} is {kind}.", "plain members without encryption or data descriptors")
    if method not in (_STORED, _DEFLATED):
        raise fault(f"The member {name!r} is compressed by method {method}.", "stored or deflated members")
    if method == _STORED and packed != size:
        raise fault(f"The stored member {name!r} has {packed} bytes packed and {size} unpacked.", "equal sizes")
    if size > MAX_RATIO * packed + CHUNK:
        raise fault(f"The member {name!r} grows from {packed} to {size} bytes.", f"a ratio of at most {MAX_RATIO}")
    return end, at, Member(name, method, crc, packed, size, 0)


def _name(raw: bytes, fault: Fault) -> str:
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise fault(f"A member is called {raw!r}.", "plain names") from None
    if not name or "/" in name or "\\" in name or ":" in name or name in (".", "..") or not name.isprintable():
        raise fault(
            f"A member is called {name!r}.", "plain file names without folders: zip the files, not their folder"
        )
    return name


def _local(file: BinaryIO, offset: int, entry: Member, fault: Fault) -> int:
    """Compare the local header with the directory's entry; the position where the packed bytes begin."""
    file.seek(offset)
    raw = file.read(_LOCAL.size)
    if len(raw) < _LOCAL.size:
        raise fault(f"The header of {entry.name!r} is cut off.", "a whole archive")
    signature, _, flags, method, _, _, crc, packed, size, name_length, extra = _LOCAL.unpack(raw)
    begin: int = offset + _LOCAL.size + name_length + extra
    name = file.read(name_length)
    if (
        signature != b"PK\x03\x04"
        or flags & ~_UTF8_NAME
        or (method, crc, packed, size, name) != (entry.method, entry.crc, entry.packed, entry.size, entry.name.encode())
    ):
        raise fault(f"The header of {entry.name!r} says something else than the directory.", "headers that agree")
    return begin


def read_member(file: BinaryIO, member: Member, *, fault: Fault) -> Iterator[bytes]:
    """The unpacked bytes in pieces; never more than the member's declared size, and exactly that many."""
    file.seek(member.begin)
    remaining, produced, crc = member.packed, 0, 0
    unpacker = zlib.decompressobj(-15) if member.method == _DEFLATED else None
    pending = b""
    while remaining or pending:
        if not pending:
            pending = file.read(min(CHUNK, remaining))
            if not pending:
                raise fault(f"The member {member.name!r} is cut off.", "a whole archive")
            remaining -= len(pending)
        if unpacker is None:
            piece, pending = pending, b""
        else:
            try:
                piece = unpacker.decompress(pending, CHUNK)
            except zlib.error as problem:
                raise fault(
                    f"The member {member.name!r} cannot be unpacked: {problem}.", "an undamaged archive"
                ) from None
            pending = unpacker.unconsumed_tail
            if unpacker.eof and (unpacker.unused_data or remaining):
                raise fault(f"The member {member.name!r} has bytes after its end.", "an undamaged archive")
        produced += len(piece)
        if produced > member.size:
            raise fault(
                f"The member {member.name!r} unpacks to more than its {member.size} bytes.", "sizes that are true"
            )
        crc = zlib.crc32(piece, crc)
        yield piece
    if unpacker is not None:
        # What a full output buffer kept back comes out now; the input is used up, so this is bounded.
        piece = unpacker.flush()
        produced += len(piece)
        crc = zlib.crc32(piece, crc)
        if not unpacker.eof:
            raise fault(f"The member {member.name!r} is cut off.", "an undamaged archive")
        yield piece
    if produced != member.size or crc != member.crc:
        raise fault(f"The member {member.name!r} does not match its size or checksum.", "an undamaged archive")


def pack_zip(files: Mapping[str, bytes]) -> bytes:
    """A zip of stored members, the same bytes for the same files at any time of day."""
    pieces: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    day = (1 << 5) | 1  # 1 January 1980, the format's first day
    for name, data in files.items():
        raw = name.encode("ascii")
        crc, size = zlib.crc32(data), len(data)
        local = _LOCAL.pack(b"PK\x03\x04", 20, 0, _STORED, 0, day, crc, size, size, len(raw), 0)
        pieces += [local, raw, data]
        external = 0o100644 << 16
        entry = (
            b"PK\x01\x02",
            3 << 8 | 20,
            20,
            0,
            _STORED,
            0,
            day,
            crc,
            size,
            size,
            len(raw),
            0,
            0,
            0,
            0,
            external,
            offset,
        )
        directory += [_CENTRAL.pack(*entry), raw]
        offset += len(local) + len(raw) + size
    length = sum(map(len, directory))
    end = _END.pack(b"PK\x05\x06", 0, 0, len(files), len(files), length, offset, 0)
    return b"".join(_joined(pieces, directory, end))


def _joined(pieces: Iterable[bytes], directory: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    yield from pieces
    yield from directory
    yield end
