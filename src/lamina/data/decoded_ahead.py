"""Columns whose images stay in files: rows are read or decoded when a batch asks, and ahead of it in the background.

`LoadedColumns` behaves as `Columns` do. `batch` waits for what is under way and loads what is not; `upcoming`, which a
feed calls with the rows of the following batch, starts threads on them. What is announced and never fetched is
dropped after the next announcement but one, so that memory stays bounded.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property

import torch
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.columns import Columns
from lamina.data.ragged import RaggedColumns

# One per processor that this process may use; the rows do not depend on it.
NUM_THREADS = min(max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2, 2), 16)
# Rows per piece of background work: enough to make the hand-over negligible, few enough to keep all threads busy.
PIECE = 8


class RowLoader(ABC):
    """Rows of one column that are not in memory; `load` may be called from several threads.

    Attributes:
        shape: (N, …) of the whole column.
        dtype: Element type.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def load(self, rows: Sequence[int]) -> Tensor:
        """The rows as a tensor (len(rows), …).

        Raises:
            DataError: A row cannot be read; names its file.
        """


class JoinedRows(RowLoader):
    """Rows of several parts one after another: memory-mapped tensors or other loaders, of one row shape and dtype."""

    def __init__(self, parts: Sequence[Tensor | RowLoader]) -> None:
        self.parts = list(parts)
        self.starts = [0]
        for part in self.parts:
            self.starts.append(self.starts[-1] + len(part))
        self.shape = (self.starts[-1], *self.parts[0].shape[1:])
        self.dtype = self.parts[0].dtype

    def load(self, rows: Sequence[int]) -> Tensor:
        """The rows, gathered part by part."""
        out = torch.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        numbers = torch.tensor(rows, dtype=torch.int64)
        for start, stop, part in zip(self.starts, self.starts[1:], self.parts, strict=False):
            inside = torch.nonzero((numbers >= start) & (numbers < stop)).flatten()
            if len(inside):
                wanted = numbers[inside] - start
                out[inside] = part.load(wanted.tolist()) if isinstance(part, RowLoader) else part[wanted]
        return out


class LoadedColumns(Columns):
    """Columns of which some are loaded on demand.

    Args:
        tensors: Columns in memory (labels).
        loaders: Column name -> loader; all of them and the tensors have the same number of rows.
        origin: As in `Columns`.
        selection: int64 rows of the loaders that these columns hold, in order; None: all.
        max_bytes: `columns[name]` loads a whole column, but not one that is larger than this.
    """

    in_memory = False

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        loaders: Mapping[str, RowLoader],
        origin: Sequence[str] | None = None,
        selection: Tensor | None = None,
        max_bytes: int = 1 << 30,
    ) -> None:
        num_rows = len(next(iter(loaders.values()))) if selection is None else len(selection)
        super().__init__({**tensors, "": torch.empty(num_rows, 0)}, origin=origin)
        self._tensors.pop("")
        self._loaders = dict(loaders)
        self._selection = selection
        self._max_bytes = max_bytes
        self._ahead: dict[tuple[str, int], tuple[Future[Tensor], int]] = {}
        self._announced: deque[list[tuple[str, int]]] = deque()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._loaders:
            return self._tensors[name]
        loader = self._loaders[name]
        num_bytes = self.num_rows * loader.dtype.itemsize * int(torch.Size(loader.shape[1:]).numel())
        if num_bytes > self._max_bytes:
            raise DataError(
                f"The column {name!r} is read from its files row by row; as a whole it would take {num_bytes >> 20} MiB.",
                where=f"column {name!r}",
                accepts=f"work by batches, or at most {self._max_bytes >> 20} MiB at once",
                mend="use data.limit or a smaller data.shape, or raise data.max_memory_mb so that all is held in memory",
            )
        return self.batch(torch.arange(self.num_rows))[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._loaders, *self._tensors))

    def __len__(self) -> int:
        return len(self._tensors) + len(self._loaders)

    def take(self, rows: Tensor) -> LoadedColumns:
        """The chosen rows; nothing is loaded."""
        return LoadedColumns(
            {name: tensor[rows] for name, tensor in self._tensors.items()},
            loaders=self._loaders,
            origin=[self.origin[i] for i in rows.tolist()] if self.origin is not None else None,
            selection=rows.clone() if self._selection is None else self._selection[rows],
            max_bytes=self._max_bytes,
        )

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """The chosen rows of every column, and `row`; loads what was not announced, with several threads."""
        gathered = {name: self._gather(name, loader, rows) for name, loader in self._loaders.items()}
        gathered.update({name: tensor.index_select(0, rows) for name, tensor in self._tensors.items()})
        gathered["row"] = rows
        return gathered

    def upcoming(self, rows: Tensor) -> None:
        """Begin to load these rows in the background."""
        if len(rows) == 0:
            return
        while len(self._announced) > 1:
            for key in self._announced.popleft():
                self._ahead.pop(key, None)
        self._announced.append([key for name in self._loaders for key in self._start(name, self._numbers(rows))])

    def _numbers(self, rows: Tensor) -> list[int]:
        numbers: list[int] = (rows if self._selection is None else self._selection[rows]).tolist()
        return numbers

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="lamina-decode")

    def _start(self, name: str, numbers: Sequence[int]) -> list[tuple[str, int]]:
        """Put rows of a loader that are not under way to work; returns their keys."""
        wanted = [number for number in dict.fromkeys(numbers) if (name, number) not in self._ahead]
        for start in range(0, len(wanted), PIECE):
            piece = wanted[start : start + PIECE]
            future = self._pool.submit(self._loaders[name].load, piece)
            self._ahead.update({(name, number): (future, place) for place, number in enumerate(piece)})
        return [(name, number) for number in wanted]

    def _gather(self, name: str, loader: RowLoader, rows: Tensor) -> Tensor:
        numbers = self._numbers(rows)
        self._start(name, numbers)
        found = {number: self._ahead.pop((name, number)) for number in dict.fromkeys(numbers)}
        out = torch.empty((len(numbers), *loader.shape[1:]), dtype=loader.dtype)
        # Bytes by NumPy: torch would wake its threads for every row, which takes longer than copying it.
        target = out.view(torch.uint8).numpy() if out.ndim > 1 and out.numel() else None
        for place, number in enumerate(numbers):
            future, position = found[number]
            row = future.result()[position]
            if target is None:
                out[place] = row
            else:
                target[place] = row.contiguous().view(torch.uint8).numpy()
        return out

    def rows_of(self, name: str) -> RowLoader:
        """The loader of a column, restricted to the rows that these columns hold."""
        loader = self._loaders[name]
        return loader if self._selection is None else _SelectedRows(loader, self._selection)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the columns that are loaded on demand."""
        return tuple(self._loaders)


class _SelectedRows(RowLoader):
    """Chosen rows of a loader, in the given order."""

    def __init__(self, loader: RowLoader, selection: Tensor) -> None:
        self._loader = loader
        self._selection = selection.tolist()
        self.shape = (len(selection), *loader.shape[1:])
        self.dtype = loader.dtype

    def load(self, rows: Sequence[int]) -> Tensor:
        """The rows under their own numbers."""
        return self._loader.load([self._selection[row] for row in rows])


def join_columns(parts: Sequence[Columns]) -> Columns:
    """The rows of several Columns one after another, with the columns that all of them have; nothing is loaded."""
    if any(isinstance(part, RaggedColumns) for part in parts):
        return RaggedColumns.joined(parts)
    names = [name for name in parts[0] if all(name in part for part in parts)]
    origin = None
    if all(part.origin is not None for part in parts):
        origin = [text for part in parts for text in part.origin or ()]
    on_demand = {name for part in parts if isinstance(part, LoadedColumns) for name in part.loaded}
    tensors = {name: torch.cat([part[name] for part in parts]) for name in names if name not in on_demand}
    if not on_demand:
        return Columns(tensors, origin=origin)
    loaders = {
        name: JoinedRows(
            [
                part.rows_of(name) if isinstance(part, LoadedColumns) and name in part.loaded else part[name]
                for part in parts
            ]
        )
        for name in names
        if name in on_demand
    }
    return LoadedColumns(tensors, loaders=loaders, origin=origin)
