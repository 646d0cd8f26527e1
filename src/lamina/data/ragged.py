"""Rows of different lengths: texts, tokens, tags. One tensor of all values and where each row begins.

A `RaggedColumns` is a `Columns` some of whose columns are ragged. A batch of it has such a column padded to the longest row of
the batch, and beside it `<name>_length`, so that nothing downstream needs to know another type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor

from lamina.core.errors import ShapeError
from lamina.data.columns import Columns

__all__ = ["LENGTH", "Ragged", "RaggedColumns", "is_stretch", "texts_of", "with_lengths"]

LENGTH: Final = "_length"  # what a batch calls the true lengths of a ragged column: its name and this


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths.

    Args:
        values: All rows one after another, (total, …).
        offsets: int64 (N + 1,): row i is values[offsets[i] : offsets[i + 1]].

    Raises:
        ShapeError: The offsets do not begin with 0, fall, or do not end with the number of values.

    Example:
        >>> ragged = Ragged.of_rows([[1, 2, 3], [4]])
        >>> ragged.padded(torch.tensor([1, 0]))
        tensor([[4, 0, 0],
                [1, 2, 3]])
    """

    values: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        offsets = self.offsets
        fits = offsets.dtype == torch.int64 and offsets.ndim == 1 and len(offsets) > 0 and int(offsets[0]) == 0
        if not fits or int(offsets[-1]) != len(self.values) or bool((offsets.diff() < 0).any()):
            raise ShapeError(
                f"The offsets ({offsets.dtype} {tuple(offsets.shape)}) do not divide {len(self.values)} values into rows.",
                where="Ragged, argument `offsets`",
                accepts="int64 (rows + 1,), beginning with 0, not falling, ending with the number of values",
                mend="give the running sum of the rows' lengths",
            )

    @classmethod
    def of_lengths(cls, values: Tensor, lengths: Tensor) -> Ragged:
        """From all values and the rows' lengths, int64 (N,)."""
        return cls(values, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.to(torch.int64).cumsum(0)]))

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[int]], *, dtype: torch.dtype = torch.int64) -> Ragged:
        """From rows of integers."""
        lists = [list(row) for row in rows]
        lengths = torch.tensor([len(row) for row in lists], dtype=torch.int64)
        return cls.of_lengths(torch.tensor([value for row in lists for value in row], dtype=dtype), lengths)

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> Ragged:
        """From texts, as UTF-8: uint8 values."""
        encoded = [text.encode("utf-8") for text in texts]
        lengths = torch.tensor([len(text) for text in encoded], dtype=torch.int64)
        joined = bytearray(b"".join(encoded))
        values = torch.frombuffer(joined, dtype=torch.uint8) if joined else torch.empty(0, dtype=torch.uint8)
        return cls.of_lengths(values, lengths)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Values of each row, int64 (N,)."""
        return self.offsets.diff()

    @property
    def nbytes(self) -> int:
        """Memory of values and offsets."""
        return self.values.nbytes + self.offsets.nbytes

    def row(self, number: int) -> Tensor:
        """One row, (length, …), a view."""
        return self.values[int(self.offsets[number]) : int(self.offsets[number + 1])]

    def take(self, rows: Tensor) -> Ragged:
        """The chosen rows (int64) in the given order, copied; a stretch is a view, since it may be larger than memory."""
        if is_stretch(rows):
            bounds = self.offsets[int(rows[0]) : int(rows[-1]) + 2]
            return Ragged(self.values[int(bounds[0]) : int(bounds[-1])], bounds - bounds[0])
        lengths = self.lengths[rows]
        return Ragged.of_lengths(self.values[self._places(rows, lengths)], lengths)

    def padded(self, rows: Tensor | None = None, *, fill: float = 0) -> Tensor:
        """The chosen rows (all by default) as one tensor (B, longest, …), `fill` behind the shorter ones."""
        if rows is None:
            rows = torch.arange(len(self))
        lengths = self.lengths[rows]
        width = int(lengths.max()) if len(rows) else 0
        result = torch.full((len(rows), width, *self.values.shape[1:]), fill, dtype=self.values.dtype)
        inside = torch.arange(width) < lengths.unsqueeze(1)
        result[inside] = self.values[self._places(rows, lengths)]
        return result

    def texts(self, rows: Iterable[int] | None = None) -> list[str]:
        """The chosen rows (all by default) as text; of uint8 values in UTF-8."""
        numbers = range(len(self)) if rows is None else rows
        bounds, data = self.offsets.tolist(), memoryview(cast(Any, self.values.contiguous().numpy()))
        return [str(data[bounds[number] : bounds[number + 1]], "utf-8") for number in numbers]

    def _places(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Indices into `values` of all values of the rows, in order."""
        before = lengths.cumsum(0) - lengths
        shift = torch.repeat_interleave(self.offsets[rows] - before, lengths)
        return torch.arange(len(shift)) + shift


def is_stretch(rows: Tensor) -> bool:
    """Whether row numbers (int64) follow each other without a gap."""
    return len(rows) > 0 and int(rows[-1] - rows[0]) == len(rows) - 1 and bool((rows.diff() == 1).all())


def with_lengths(batch: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Those columns of a batch, with their lengths where they are ragged."""
    return {name: tensor for name, tensor in batch.items() if name in names or name.removesuffix(LENGTH) in names}


def texts_of(values: Tensor, lengths: Tensor) -> list[str]:
    """Texts of a padded batch of UTF-8 bytes: uint8 (B, L) and int64 (B,)."""
    return [
        bytes(row[:length].numpy()).decode("utf-8") for row, length in zip(values.cpu(), lengths.tolist(), strict=True)
    ]


class RaggedColumns(Columns):
    """Columns of which some are ragged.

    Args:
        tensors: Column name -> tensor (N, …), as in `Columns`; may be empty.
        ragged: Column name -> rows.
        origin: Where each row came from.

    Raises:
        ShapeError: The row counts differ, or a name is given twice.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], *, ragged: Mapping[str, Ragged], origin: Sequence[str] | None = None
    ) -> None:
        super().__init__(tensors, origin=origin)
        self.ragged = dict(ragged)
        counts = {name: len(rows) for name, rows in self.ragged.items()}
        if tensors:
            counts |= dict.fromkeys(tensors, self.num_rows)
        if len(set(counts.values())) > 1 or set(tensors) & set(ragged):
            raise ShapeError(
                f"The columns have different numbers of rows, or one is given twice: {counts}.",
                where="RaggedColumns",
                accepts="one row per sample in every column",
                mend="cut or extend the shorter columns",
            )
        self.num_rows = next(iter(counts.values()), 0)

    def __getitem__(self, name: str) -> Tensor:
        """A column; a ragged one padded to its longest row, which takes memory: `ragged[name]` does not."""
        return self.ragged[name].padded() if name in self.ragged else super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from self.ragged

    def __len__(self) -> int:
        return super().__len__() + len(self.ragged)

    def replaced(self, columns: Mapping[str, Tensor | Ragged]) -> RaggedColumns:
        """The same rows with some columns replaced."""
        fixed = {name: column for name, column in columns.items() if isinstance(column, Tensor)}
        ragged = {name: column for name, column in columns.items() if isinstance(column, Ragged)}
        return RaggedColumns({**self.fixed, **fixed}, ragged={**self.ragged, **ragged}, origin=self.origin)

    @property
    def fixed(self) -> dict[str, Tensor]:
        """The columns that are not ragged."""
        return {name: super(RaggedColumns, self).__getitem__(name) for name in super().__iter__()}

    def take(self, rows: Tensor) -> RaggedColumns:
        """The chosen rows (int64 indices), copied, in the given order."""
        origin = self.origin
        if origin is not None and not (is_stretch(rows) and len(rows) == self.num_rows):
            origin = [origin[row] for row in rows.tolist()]
        ragged = {name: column.take(rows) for name, column in self.ragged.items()}
        return RaggedColumns({name: tensor[rows] for name, tensor in self.fixed.items()}, ragged=ragged, origin=origin)

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """The chosen rows of every column; ragged ones padded with zeros, and `<name>_length`, int64 (B,)."""
        gathered = super().batch(rows)
        for name, column in self.ragged.items():
            gathered[name] = column.padded(rows)
            gathered[f"{name}{LENGTH}"] = column.lengths[rows]
        return gathered

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> RaggedColumns:
        """The rows of several one after another, with the columns that all have."""
        pieces = [part for part in parts if isinstance(part, RaggedColumns)]
        if len(pieces) != len(parts):
            raise ShapeError(
                "Rows of one length and rows of many cannot be joined.",
                where="RaggedColumns",
                accepts="parts that are all ragged",
                mend="read all files with one reader",
            )
        origin = None
        if all(part.origin is not None for part in pieces):
            origin = [text for part in pieces for text in part.origin or ()]
        names = [name for name in pieces[0] if all(name in part for part in pieces)]
        ragged = {
            name: Ragged.of_lengths(
                torch.cat([part.ragged[name].values for part in pieces]),
                torch.cat([part.ragged[name].lengths for part in pieces]),
            )
            for name in names
            if name in pieces[0].ragged
        }
        fixed = {name: torch.cat([part[name] for part in pieces]) for name in names if name not in ragged}
        return cls(fixed, ragged=ragged, origin=origin)
