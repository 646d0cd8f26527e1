"""Word vectors in the formats of the word2vec tool, text and binary, and embeddings begun from them.

Both begin with a line `number_of_words numbers_per_word`. Text: a word and its numbers per line, divided by spaces. Binary: a word, a
space, its numbers as little-endian float32, and mostly a line end. Text without the first line, as GloVe has it, is read too. Words
are UTF-8. Everything is read with bounded buffers, and a file is believed in nothing: what it announces is checked against its
size first and counted while reading.

Source: the tool released with Mikolov et al. (2013), arXiv:1310.4546; GloVe: Pennington, Socher, Manning (2014), doi:10.3115/v1/D14-1162.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError, ShapeError
from lamina.core.files import storage_errors

__all__ = ["NamedVectors", "embedding_matrix", "load_word2vec", "save_word2vec"]

_LONGEST_WORD: Final = 4096  # bytes
_BUFFER: Final = 1 << 20
_MOST_WORDS: Final = 100_000_000
_WIDEST: Final = 100_000
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True)
class NamedVectors:
    """Words with a vector each.

    Args:
        words: Different ones.
        vectors: float32 (V, D).

    Raises:
        ShapeError: There are not as many vectors as words.

    Example:
        >>> NamedVectors(("a", "b"), torch.eye(2))["b"]
        tensor([0., 1.])
    """

    words: tuple[str, ...]
    vectors: Tensor

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            raise ShapeError(
                f"There are {len(self.words):,} words and vectors shaped {tuple(self.vectors.shape)}.",
                where="NamedVectors",
                accepts="float tensor (words, numbers)",
                mend="give a row per word",
            )

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, word: str) -> Tensor:
        return self.vectors[self.words.index(word)]

    def places(self) -> dict[str, int]:
        """Word -> row."""
        return {word: place for place, word in enumerate(self.words)}


def save_word2vec(
    path: str | Path, words: Sequence[str], vectors: Tensor | NDArray[np.floating], *, binary: bool | None = None
) -> None:
    """Write vectors for other tools; what stands at the path is replaced at once, or not at all.

    Args:
        words: Different ones, without white space.
        vectors: Float (V, D), finite; written as float32.
        binary: Default: where the name ends in `.bin`. Text has nine digits, which give back every bit.

    Raises:
        DataError: A word is empty, has white space in it or occurs twice, or a number is not finite.
        ShapeError: There are not as many vectors as words.
        StorageError: The disk is full.
    """
    path = Path(path)
    table = np.asarray(vectors.detach().cpu().float() if isinstance(vectors, Tensor) else vectors, dtype="<f4")
    NamedVectors(tuple(words), torch.from_numpy(table.astype(np.float32, copy=False)))
    _check_words(words, where=str(path))
    if not np.isfinite(table).all():
        row = int((~np.isfinite(table)).any(axis=1).argmax())
        raise DataError(
            f"The vector of {words[row]!r} has a number that is not finite.",
            where=str(path),
            accepts="finite numbers",
            mend="train again with a lower rate",
        )
    as_binary = path.suffix == ".bin" if binary is None else binary
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(f"{len(words)} {table.shape[1]}\n".encode())
                for word, row_ in zip(words, table, strict=True):
                    if as_binary:
                        file.write(word.encode() + b" " + row_.tobytes() + b"\n")
                    else:
                        file.write(f"{word} {' '.join(f'{value:.9g}' for value in row_.tolist())}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def load_word2vec(
    path: str | Path,
    *,
    binary: bool | None = None,
    limit: int | None = None,
    wanted: Iterable[str] | None = None,
    max_bytes: int = 16 << 30,
) -> NamedVectors:
    """Read vectors; `.gz` is unpacked on the way.

    Args:
        binary: Default: seen from the content.
        limit: Read the first so many only; most files have the frequent words first.
        wanted: Keep only these words.
        max_bytes: Most memory that the vectors may take.

    Raises:
        DataError: There is no such file, it is damaged, cut off, or announces what it does not hold; two rows have one word; a number is
            not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            "There is no such file.",
            where=str(path),
            accepts="word vectors in word2vec's text or binary format",
            mend="check the path",
        )
    with storage_errors(path), path.open("rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        size = None if packed else path.stat().st_size
        file = cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw
        try:
            return _Reader(file, path=path, size=size, max_bytes=max_bytes).read(
                binary=binary, limit=limit, wanted=None if wanted is None else frozenset(wanted)
            )
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise _damaged(f"It cannot be unpacked: {error}", path) from None


class _Reader:
    """Reads a file in pieces of bounded size."""

    def __init__(self, file: BinaryIO, *, path: Path, size: int | None, max_bytes: int) -> None:
        self.file, self.path, self.size, self.max_bytes = file, path, size, max_bytes
        self.buffer, self.place = b"", 0

    def read(self, *, binary: bool | None, limit: int | None, wanted: frozenset[str] | None) -> NamedVectors:
        first = self._line(1 << 20)
        cells = first.split()
        if len(cells) == 2 and all(cell.isdigit() and len(cell) <= 12 for cell in cells):
            number, width = int(cells[0]), int(cells[1])
            as_binary = self._looks_binary(width) if binary is None else binary
            self._check_size(number, width, as_binary)
            rows = self._binary_rows(number, width) if as_binary else self._text_rows(number, width)
        elif binary or len(cells) < 2:
            raise _damaged(f"It begins with {first[:40]!r}, not with two numbers", self.path)
        else:
            width = len(cells) - 1
            self.buffer, self.place = first + b"\n" + self.buffer[self.place :], 0
            number, rows = -1, self._text_rows(None, width)
        return self._collect(rows, number, width, limit, wanted)

    def _collect(
        self,
        rows: Iterator[tuple[bytes, NDArray[np.float32]]],
        number: int,
        width: int,
        limit: int | None,
        wanted: frozenset[str] | None,
    ) -> NamedVectors:
        words: dict[str, int] = {}
        parts: list[NDArray[np.float32]] = []
        for row, (raw, vector) in enumerate(rows):
            if limit is not None and row >= limit:
                break
            try:
                word = raw.decode()
            except UnicodeDecodeError as error:
                raise _damaged(
                    f"Row {row + 1} has a word that is not UTF-8 ({raw[:20]!r}, byte {error.start})", self.path
                ) from None
            if wanted is not None and word not in wanted:
                continue
            if word in words:
                raise _damaged(f"Row {row + 1} has the word {word!r}, as row {words[word] + 1} has", self.path)
            if not np.isfinite(vector).all():
                raise _damaged(f"Row {row + 1} ({word!r}) has a number that is not finite", self.path)
            words[word] = row
            parts.append(vector)
            if len(parts) * width * 4 > self.max_bytes:
                raise _too_large(self.path, self.max_bytes)
        if not parts:
            raise _damaged("It has no words" if wanted is None else "It has none of the wanted words", self.path)
        return NamedVectors(tuple(words), torch.from_numpy(np.stack(parts)))

    def _check_size(self, number: int, width: int, as_binary: bool) -> None:
        """Refuse what a file announces that it cannot hold, before anything is taken for it."""
        least = number * ((4 * width + 2) if as_binary else (2 * width + 2)) - 1
        if number < 1 or width < 1 or number > _MOST_WORDS or width > _WIDEST:
            raise _damaged(f"It announces {number:,} words of {width:,} numbers", self.path)
        if self.size is not None and self.size < least:
            raise _damaged(
                f"It announces {number:,} words of {width:,} numbers, which take {least:,} bytes or more, and has {self.size:,}",
                self.path,
            )

    def _looks_binary(self, width: int) -> bool:
        """Whether what follows a first line is binary: no line of `width` numbers."""
        self._fill(min(width * 40 + _LONGEST_WORD, _BUFFER))
        line = self.buffer[self.place :].split(b"\n", 1)[0]
        cells = line.rstrip(b" \r").rsplit(b" ", width)
        try:
            return len(cells) != width + 1 or not all(float(cell) is not None for cell in cells[1:])
        except ValueError:
            return True

    def _binary_rows(self, number: int, width: int) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
        bytes_each = 4 * width
        for row in range(number):
            self._fill(_LONGEST_WORD + 2)
            while self.buffer[self.place : self.place + 1] == b"\n":  # the end of the row before, where there is one
                self.place += 1
            end = self.buffer.find(b" ", self.place, self.place + _LONGEST_WORD)
            if end <= self.place:
                raise _damaged(f"Row {row + 1} of {number:,} has no word", self.path)
            word = self.buffer[self.place : end]
            self.place = end + 1
            self._fill(bytes_each)
            if len(self.buffer) - self.place < bytes_each:
                raise _damaged(f"It ends in row {row + 1} of {number:,}", self.path)
            vector = np.frombuffer(self.buffer, dtype="<f4", count=width, offset=self.place).astype(np.float32)
            self.place += bytes_each
            yield word, vector
        self._refuse_rest(number)

    def _text_rows(self, number: int | None, width: int) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
        longest = _LONGEST_WORD + width * 40
        row = 0
        while number is None or row < number:
            line = self._line(longest)
            if not line and self._at_end():
                if number is None:
                    return
                raise _damaged(f"It ends behind row {row} of {number:,}", self.path)
            cells = line.rstrip(b" \r").rsplit(b" ", width)
            try:
                vector = np.array([float(cell) for cell in cells[1:]], dtype=np.float32)
            except ValueError:
                raise _damaged(f"Row {row + 1} has something that is no number", self.path) from None
            if len(vector) != width or not cells[0]:
                raise _damaged(f"Row {row + 1} has {len(vector)} numbers, not {width}", self.path)
            yield cells[0], vector
            row += 1
        self._refuse_rest(row)

    def _refuse_rest(self, number: int) -> None:
        self._fill(2)
        if self.buffer[self.place :].strip():
            raise _damaged(f"It goes on behind the {number:,} words that it announces", self.path)

    def _line(self, longest: int) -> bytes:
        end = self.buffer.find(b"\n", self.place)
        while end < 0 and len(self.buffer) - self.place <= longest and self._more():
            end = self.buffer.find(b"\n", self.place)
        if end < 0:
            end = len(self.buffer)
        if end - self.place > longest:
            raise _damaged(f"It has a line of more than {longest:,} bytes", self.path)
        line = self.buffer[self.place : end]
        self.place = min(end + 1, len(self.buffer))
        return line

    def _at_end(self) -> bool:
        return self.place >= len(self.buffer) and not self._more()

    def _fill(self, wanted: int) -> None:
        while len(self.buffer) - self.place < wanted and self._more():
            pass

    def _more(self) -> bool:
        piece = self.file.read(_BUFFER)
        self.buffer, self.place = self.buffer[self.place :] + piece, 0
        return bool(piece)


def embedding_matrix(
    vocabulary: Sequence[str],
    vectors: NamedVectors | Mapping[str, Tensor],
    *,
    initial: Tensor,
    lowercase: bool = True,
) -> tuple[Tensor, int]:
    """A matrix to begin an embedding with: rows of known words from the vectors, the others as they are.

    Args:
        vocabulary: Words in the order of their numbers (`tokenizer.vocabulary`).
        vectors: As `load_word2vec` gives them.
        initial: Float (V, D), what unknown words begin with: `model.embedding.weight`. Not changed.
        lowercase: Look a word that is not found up in small letters.

    Returns:
        Float (V, D) like `initial`, and how many words were found.

    Raises:
        ShapeError: Widths differ, or `initial` has not a row per word.

    Example:
        >>> found = NamedVectors(("cat", "dog"), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> embedding_matrix(["<pad>", "Dog"], found, initial=torch.zeros(2, 2))
        (tensor([[0., 0.],
                [3., 4.]]), 1)
    """
    if isinstance(vectors, NamedVectors):
        places, table = vectors.places(), vectors.vectors
    else:
        places = {word: place for place, word in enumerate(vectors)}
        table = torch.stack(list(vectors.values())) if vectors else initial[:0]
    if initial.ndim != 2 or len(initial) != len(vocabulary) or (len(table) and table.shape[1] != initial.shape[1]):
        raise ShapeError(
            f"The embedding is shaped {tuple(initial.shape)}, the vocabulary has {len(vocabulary):,} words, the vectors {table.shape[1]} "
            "numbers.",
            where="embedding_matrix",
            accepts="an embedding (words of the vocabulary, numbers per vector)",
            mend=f"build the model with embedding_size={table.shape[1]}",
        )
    rows, sources = [], []
    for row, word in enumerate(vocabulary):
        place = places.get(word)
        if place is None and lowercase:
            place = places.get(word.lower())
        if place is not None:
            rows.append(row)
            sources.append(place)
    result = initial.detach().clone()
    result[rows] = table[sources].to(result)
    return result, len(rows)


def _check_words(words: Sequence[str], *, where: str) -> None:
    seen: set[str] = set()
    for row, word in enumerate(words):
        what = None
        if not word or word.split() != [word]:
            what = "is empty or has white space in it"
        elif word in seen:
            what = "occurs twice"
        elif len(word.encode()) > _LONGEST_WORD:
            what = f"is longer than {_LONGEST_WORD:,} bytes"
        if what is not None:
            raise DataError(
                f"The word {word[:40]!r} (row {row}) {what}.",
                where=where,
                accepts="different words without white space",
                mend="join phrases with an underscore, and leave special tokens out",
            )
        seen.add(word)


def _damaged(what: str, path: Path) -> DataError:
    return DataError(
        f"{what}.",
        where=str(path),
        accepts="word vectors in word2vec's text or binary format: a line with the number of words and their width, then a row per word",
        mend="fetch the file again, or say binary=True or False where it was taken for the other",
    )


def _too_large(path: Path, most: int) -> DataError:
    return DataError(
        f"The vectors take more than {most / (1 << 30):.3g} GiB.",
        where=str(path),
        accepts="vectors that fit in max_bytes",
        mend="read the first ones with limit=…, or those of a vocabulary with wanted=…",
    )
