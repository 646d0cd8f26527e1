"""Text files as lines, decoded in a stream; what is no text is a fault with its place in bytes.

A line ends with a line feed, a carriage return before it belongs to the end (in files without line feeds, carriage returns end
lines). Other characters that Python counts as line ends (form feeds, U+2028, …) are part of the text.
"""

from __future__ import annotations

import codecs
import re
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO, Final, overload

import numpy as np
import torch

from lamina.core.errors import DataError
from lamina.data.columns import Fault
from lamina.data.ragged import Ragged
from lamina.data.readers.base import FaultList

if TYPE_CHECKING:
    from lamina.data.readers.sources import Source, SourceFile

HEAD_BYTES: Final = 1 << 16
BLOCK_BYTES: Final = 1 << 20
# A cell as messages show it.
SHOWN: Final = 80
TEXT_ENDINGS: Final = (".txt", ".text", ".tokens", ".tok", ".raw", "")
_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1a]")
_MARKS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DOCUMENTS: Final = ("readme", "license", "licence", "copying", "makefile", "changelog")


# --- looking at the beginning ------------------------------------------------------------------------------------------


def head_lines(file: SourceFile, *, encoding: str | None = None, num_bytes: int = HEAD_BYTES) -> list[str] | None:
    """The first whole lines of a file, without their ends; None when it is no text or cannot be read.

    Bytes that do not decode become U+FFFD here: they may be in another encoding, which only the user can state. A file of which more
    than one character in a hundred (one, of short files) is a control character is no text.
    """
    if not file.size or file.problem:
        return None
    try:
        head = file.head(num_bytes)
    except DataError:
        return None
    chosen, mark = _encoding(head, encoding)
    complete = len(head) < num_bytes
    text = head[mark:].decode(chosen if chosen != "utf-16" else _utf16(head), "replace")
    if len(_CONTROLS.findall(text)) > max(1, len(text) // 100):
        return None
    text = text.replace("\r\n", "\n")
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    if complete:
        return lines if lines[-1] else lines[:-1]
    return lines[:-1] if len(lines) > 1 else lines


def is_document(file: SourceFile) -> bool:
    """Whether a file speaks about the data rather than being of it: a read-me, a licence."""
    name = file.name.rpartition("/")[2].casefold()
    return name.endswith((".md", ".rst", ".html", ".pdf", ".names")) or name.startswith(_DOCUMENTS)


def text_candidates(source: Source, endings: Sequence[str]) -> list[SourceFile]:
    """The files that may hold text of a format: of one of the endings, not documents; a single file whatever it is called."""
    if not source.is_folder and len(source.files) == 1:
        return [file for file in source.files if file.size]
    return [file for file in source.files if file.ending in endings and not is_document(file) and file.size]


def _encoding(head: bytes, stated: str | None) -> tuple[str, int]:
    """The encoding, and the bytes of its mark at the beginning."""
    for mark, name in _MARKS:
        if head.startswith(mark) and stated in (None, name):
            return name, len(mark) if name == "utf-8" else 2
    return stated or "utf-8", 0


def _utf16(head: bytes) -> str:
    return "utf-16-be" if head.startswith(b"\xfe\xff") else "utf-16-le"


# --- lines in a stream -------------------------------------------------------------------------------------------------


def read_lines(file: SourceFile, *, faults: FaultList, encoding: str | None = None) -> Iterator[tuple[int, str | None]]:
    """(line number from 1, line without its end) of a whole file.

    A line that cannot be decoded, or that holds a zero byte, is a fault and comes as None, so that what is around it (a
    sentence, the line of the other language) can be left out too. A file without a byte is one fault and no lines.

    Args:
        encoding: As `data.encoding`; by default what a byte-order mark says, else UTF-8.

    Raises:
        DataError: The file is damaged, or UTF-16 that does not decode.
    """
    number = 0
    for offset, block, codec in _blocks(file, encoding):
        for line in _decoded(block, codec, offset, number, file.where, faults):
            number += 1
            yield number, line
    if number == 0:
        faults.add(Fault(file.where, "the file is empty"))


def _blocks(file: SourceFile, stated: str | None) -> Iterator[tuple[int, bytes, str]]:
    """(offset of its first byte in the file, whole lines, encoding)."""
    with file.open() as stream:
        rest = stream.read(BLOCK_BYTES)
        codec, skip = _encoding(rest, stated)
        if codec == "utf-16":
            yield from _transcoded(stream, rest, file.where)
            return
        rest, offset = rest[skip:], skip
        swap = b"\r" in rest and b"\n" not in rest
        piece = b"-"
        while piece:
            # A line longer than a block is read in pieces that grow with it, so that it is not copied again and again.
            piece = stream.read(max(BLOCK_BYTES, len(rest)))
            rest += piece
            block = rest.replace(b"\r", b"\n") if swap else rest
            cut = block.rfind(b"\n") + 1 if piece else len(block)
            if cut:
                yield offset, block[:cut], codec
                offset, rest = offset + cut, rest[cut:]


def _transcoded(stream: BinaryIO, head: bytes, where: str) -> Iterator[tuple[int, bytes, str]]:
    """UTF-16 as UTF-8; offsets are then those in UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-16")()
    rest, offset, consumed, piece = "", 0, 0, head
    while True:
        try:
            rest += decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            raise DataError(
                f"The text is not UTF-16 from about byte {consumed + error.start} on: {error.reason}.",
                where=where,
                accepts="UTF-8, or UTF-16 with a byte-order mark",
                mend="save the file as UTF-8",
            ) from error
        consumed += len(piece)
        cut = rest.rfind("\n") + 1 if piece else len(rest)
        if cut:
            block = rest[:cut].encode("utf-8", "surrogatepass")
            yield offset, block, "utf-8"
            offset, rest = offset + len(block), rest[cut:]
        if not piece:
            return
        piece = stream.read(BLOCK_BYTES)


def _decoded(block: bytes, codec: str, offset: int, before: int, where: str, faults: FaultList) -> Sequence[str | None]:
    """The lines of a block; as a whole where it is sound, else one by one."""
    try:
        text = block.decode(codec)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return list(_one_by_one(block, codec, offset, before, where, faults))
    lines = text.split("\n")
    if block.endswith(b"\n"):
        lines.pop()
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def _one_by_one(
    block: bytes, codec: str, offset: int, before: int, where: str, faults: FaultList
) -> Iterator[str | None]:
    lines = block.split(b"\n")
    if block.endswith(b"\n"):
        lines.pop()
    for number, line in enumerate(lines, start=before + 1):
        text: str | None = None
        zero = line.find(b"\0")
        if zero >= 0:
            message = f"the line holds a zero byte, at byte {offset + zero} of the file"
            faults.add(Fault(where, message, row=number, value=_around(line, zero)))
        else:
            try:
                text = line.decode(codec).removesuffix("\r")
            except UnicodeDecodeError as error:
                message = f"byte {offset + error.start} of the file is no {codec.upper()} (data.encoding=… names another encoding)"
                faults.add(Fault(where, message, row=number, value=_around(line, error.start)))
        offset += len(line) + 1
        yield text


def _around(line: bytes, place: int) -> str:
    """The bytes at a place as text, those that are none written out."""
    return line[max(0, place - 20) : place + 12].decode("ascii", "backslashreplace").replace("\0", "\\x00")


def shorten(value: object) -> str:
    """A value as messages show it."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


# --- collecting --------------------------------------------------------------------------------------------------------


class TextBuilder:
    """Collects texts as bytes: what is held is the text and eight bytes a row.

    Args:
        max_bytes: Beyond this the text is moved to a temporary file and memory-mapped.
    """

    def __init__(self, max_bytes: int = 4096 << 20) -> None:
        self._buffer = bytearray()
        self._lengths = array("q")
        self._max_bytes = max_bytes
        self._spilled: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    def add(self, text: str) -> None:
        """Append a row.

        Raises:
            UnicodeEncodeError: The text holds half a surrogate pair, which JSON allows and UTF-8 does not.
        """
        encoded = text.encode("utf-8")
        self._buffer += encoded
        self._lengths.append(len(encoded))
        if len(self._buffer) > self._max_bytes:
            self._spill()

    def _spill(self) -> None:
        if self._spilled is None:
            self._spilled = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the mapping
        self._spilled.write(self._buffer)
        self._buffer = bytearray()

    def ragged(self) -> Ragged:
        """The rows; nothing can be added afterwards."""
        lengths = _int64(self._lengths)
        if self._spilled is not None:
            self._spill()
            self._spilled.flush()
            # Copy on write: whoever changes a value changes memory, never the file.
            mapped = np.memmap(self._spilled, dtype=np.uint8, mode="c")
            self._spilled.close()  # the mapping keeps what it needs, and the system removes the file with it
            return Ragged.of_lengths(torch.from_numpy(mapped), lengths)
        values = (
            torch.frombuffer(self._buffer, dtype=torch.uint8) if self._buffer else torch.empty(0, dtype=torch.uint8)
        )
        return Ragged.of_lengths(values, lengths)


def _int64(values: array[int]) -> torch.Tensor:
    return torch.frombuffer(values, dtype=torch.int64).clone() if values else torch.empty(0, dtype=torch.int64)


class CodeBuilder:
    """Collects names as numbers: names are kept once.

    Args:
        index: Name -> number, shared by all splits.
    """

    def __init__(self, index: dict[str, int]) -> None:
        self.index = index
        self._codes = array("q")

    def __len__(self) -> int:
        return len(self._codes)

    def add(self, name: str) -> None:
        """Append one."""
        self._codes.append(self.index.setdefault(name, len(self.index)))

    def codes(self, classes: Sequence[str]) -> torch.Tensor:
        """int64 (N,): indices into `classes`, which hold every name."""
        place = {name: number for number, name in enumerate(classes)}
        renumber = torch.tensor([place.get(name, -1) for name in self.index], dtype=torch.int64)
        values = _int64(self._codes)
        renumbered: torch.Tensor = renumber[values] if len(values) else values
        return renumbered


class Origins(Sequence[str]):
    """Where rows came from (`train.tsv:17`), made only when asked for: file names and a number per row."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._starts: list[int] = []
        self._numbers = array("q")

    def begin(self, where: str) -> None:
        """The rows that follow come from this file."""
        self._files.append(where)
        self._starts.append(len(self._numbers))

    def add(self, number: int) -> None:
        """A row of the file that was begun last; a number below zero: the file is the row."""
        self._numbers.append(number)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = index + len(self) if index < 0 else index
        number = self._numbers[row]
        file = self._files[bisect_right(self._starts, row) - 1]
        return file if number < 0 else f"{file}:{number}"
