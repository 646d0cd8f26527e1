"""Feeds: which rows make up which batch, by index, without worker processes.

A feed is a pure function of (seed, epoch, batch number), so that a checkpoint needs only the cursor, and the order of
rows does not depend on what was drawn before. Rows in memory are gathered by index, about 1.5 times as fast as a
DataLoader for small rows (benchmarks/).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lamina.core import draws
from lamina.core.errors import ConfigError
from lamina.data.columns import Columns


class Feed(ABC):
    """Batches of a split.

    Attributes:
        columns: The split.
        batch_size: Rows per batch; the last of an epoch may have fewer.
    """

    columns: Columns
    batch_size: int

    @abstractmethod
    def __len__(self) -> int:
        """Batches per epoch."""

    @abstractmethod
    def rows(self, epoch: int) -> Tensor:
        """Row indices of the whole epoch in order, int64 (N,); batch b is rows[b * batch_size : (b + 1) * batch_size]."""

    def batch(self, epoch: int, number: int) -> dict[str, Tensor]:
        """Batch `number` of an epoch: the gathered columns and `row`."""
        rows, start = self.rows(epoch), number * self.batch_size
        stop = start + self.batch_size
        self.columns.upcoming(rows[stop : stop + self.batch_size])
        return self.columns.batch(rows[start:stop])


class IndexFeed(Feed):
    """Independent rows, shuffled by a keyed permutation, or in order.

    Args:
        columns: The split.
        batch_size: 0 means the full batch.
        seed: Of the run.
        shuffle: A new permutation each epoch; False: rows in order.
        drop_last: Leave out a last batch that is not full.
        weights: float (N,), rows drawn with replacement in proportion (balanced sampling); None: each row once.

    Raises:
        ConfigError: The split is empty, or `drop_last` leaves nothing.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        weights: Tensor | None = None,
    ) -> None:
        self.columns = columns
        self.batch_size = batch_size or columns.num_rows
        self.seed = seed
        self.shuffle = shuffle
        self.weights = weights
        self._cached: tuple[int, Tensor] | None = None
        num_rows = columns.num_rows
        self._num_used = num_rows - num_rows % self.batch_size if drop_last and self.batch_size else num_rows
        if self._num_used <= 0:
            raise ConfigError(
                f"No batch of {self.batch_size} can be made from {num_rows} rows.",
                where="training.batch_size",
                accepts=f"1 to {num_rows}" if num_rows else "a split with rows",
                mend="use a smaller training.batch_size" if num_rows else "check the split with `lamina data`",
            )

    def __len__(self) -> int:
        return -(-self._num_used // self.batch_size)

    def rows(self, epoch: int) -> Tensor:
        """Row indices of the whole epoch in order, int64."""
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, self._draw(epoch)[: self._num_used])
        return self._cached[1]

    def _draw(self, epoch: int) -> Tensor:
        num_rows = self.columns.num_rows
        if self.weights is not None:
            generator = draws.generator(self.seed, "order", epoch)
            return torch.multinomial(self.weights.double(), num_rows, replacement=True, generator=generator)
        if self.shuffle:
            return draws.permutation(self.seed, "order", epoch, num_rows=num_rows)
        return torch.arange(num_rows)


class StreamFeed(Feed):
    """Contiguous streams of tokens, for truncated backpropagation through time.

    The tokens are cut into `batch_size` streams of equal length (the rest at the end is left out). Batch b holds columns
    b * length … of every stream, so that row i continues where row i of the batch before ended, and a hidden state can be
    carried over. Gives `tokens` and `targets`, int64 (B, T), `start`, bool (B,): true in an epoch's first batch, and `row`.

    Args:
        columns: Has `tokens`, an integer tensor (N,).
        batch_size: Number of streams, B.
        length: Tokens per batch and stream, T; the last batch of an epoch may have fewer.

    Raises:
        ConfigError: There are too few tokens for that many streams.
    """

    def __init__(self, columns: Columns, *, batch_size: int, length: int) -> None:
        self.columns = columns
        self.batch_size = batch_size
        self.length = length
        num_tokens = columns.num_rows
        self._stream = (num_tokens - 1) // batch_size if batch_size else 0
        if self._stream < 1:
            raise ConfigError(
                f"{num_tokens} tokens cannot be cut into {batch_size} streams.",
                where="training.batch_size",
                accepts=f"1 to {max(num_tokens - 1, 1)}",
                mend="use a smaller training.batch_size or more text",
            )

    def __len__(self) -> int:
        return -(-self._stream // self.length)

    def rows(self, epoch: int) -> Tensor:
        """The streams, the same in every epoch."""
        return torch.arange(self.batch_size)

    def batch(self, epoch: int, number: int) -> dict[str, Tensor]:
        """Batch `number`: a stretch of every stream."""
        tokens = self.columns["tokens"]
        first = number * self.length
        size = min(self.length, self._stream - first)
        places = (torch.arange(self.batch_size) * self._stream + first).unsqueeze(1) + torch.arange(size)
        return {
            "tokens": tokens[places].long(),
            "targets": tokens[places + 1].long(),
            "start": torch.full((self.batch_size,), number == 0),
            "row": torch.arange(self.batch_size),
        }
