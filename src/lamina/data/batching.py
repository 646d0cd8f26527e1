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
from lamina.data.ragged import RaggedColumns


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


class BucketFeed(IndexFeed):
    """Rows of like lengths together, so that little is padded; determined by seed and epoch.

    The rows of an epoch are shuffled, cut into pools of so many batches, sorted by length within a pool and cut into batches,
    whose order is shuffled again. The batch that is not full stays the last. Without `shuffle` rows come in order.

    Args:
        lengths: int64 (N,), of each row.
        pool: Batches in a pool: the larger, the less padding and the less chance.

    Source: the bucketing of Sutskever, Vinyals, Le (2014), arXiv:1409.3215, section 3.4; pools as in Khomenko et al. (2016),
    arXiv:1708.05604.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        lengths: Tensor,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        weights: Tensor | None = None,
        pool: int = 50,
    ) -> None:
        super().__init__(
            columns, batch_size=batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last, weights=weights
        )
        self._lengths = lengths
        self._pool = pool

    def _draw(self, epoch: int) -> Tensor:
        order = super()._draw(epoch)
        if not self.shuffle:
            return order
        size = self.batch_size
        whole = len(order) - len(order) % size  # rows of full batches; the others end the epoch
        pools = order[:whole].split(self._pool * size)
        batches = torch.cat([part[self._lengths[part].argsort(stable=True)] for part in pools]).view(-1, size)
        shuffled = batches[draws.permutation(self.seed, "order", epoch, 1, num_rows=len(batches))]
        return torch.cat([shuffled.flatten(), order[whole:]])


class StreamFeed(Feed):
    """Contiguous streams of tokens, for truncated backpropagation through time.

    The tokens are cut into `batch_size` streams of equal length (the rest at the end is left out). Batch b holds columns
    b * length … of every stream, so that row i continues where row i of the batch before ended, and a hidden state can be
    carried over. Gives `tokens` and `targets`, int64 (B, T), `tokens_length`, int64 (B,), `start`, bool (B,): true in an
    epoch's first batch, and `row`.

    Args:
        columns: Has `tokens`, an integer tensor (N,), or ragged: the rows one after another are one text.
        batch_size: Number of streams, B.
        length: Tokens per batch and stream, T; the last batch of an epoch may have fewer.
        drop_last: Leave out that last batch where it has fewer.

    Raises:
        ConfigError: There are too few tokens for that many streams, or `drop_last` leaves nothing.
    """

    def __init__(self, columns: Columns, *, batch_size: int, length: int, drop_last: bool = False) -> None:
        self.columns = columns
        self.batch_size = batch_size
        self.length = length
        ragged = columns.ragged.get("tokens") if isinstance(columns, RaggedColumns) else None
        tokens = columns["tokens"] if ragged is None else ragged.values
        num_tokens = len(tokens)
        self._stream = (num_tokens - 1) // batch_size if batch_size else 0
        if drop_last:
            self._stream -= self._stream % length
        if self._stream < 1:
            raise ConfigError(
                f"{num_tokens} tokens cannot be cut into {batch_size} streams"
                + (f" of at least {length} (training.drop_last)." if drop_last else "."),
                where="training.batch_size",
                accepts=f"1 to {max((num_tokens - 1) // (length if drop_last else 1), 1)}",
                mend="use a smaller training.batch_size or more text",
            )
        used = self._stream * batch_size
        self._inputs = tokens[:used].view(batch_size, self._stream)
        self._targets = tokens[1 : used + 1].view(batch_size, self._stream)

    def __len__(self) -> int:
        return -(-self._stream // self.length)

    def rows(self, epoch: int) -> Tensor:
        """The streams, the same in every epoch."""
        return torch.arange(self.batch_size)

    def batch(self, epoch: int, number: int) -> dict[str, Tensor]:
        """Batch `number`: a stretch of every stream."""
        stretch = slice(number * self.length, min((number + 1) * self.length, self._stream))
        return {
            "tokens": self._inputs[:, stretch].long(),
            "targets": self._targets[:, stretch].long(),
            "tokens_length": torch.full((self.batch_size,), stretch.stop - stretch.start),
            "start": torch.full((self.batch_size,), number == 0),
            "row": torch.arange(self.batch_size),
        }
