"""Rows loaded on demand and ahead."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.batching import IndexFeed
from lamina.data.decoded_ahead import JoinedRows, LoadedColumns, RowLoader


class Counting(RowLoader):
    """Row n is filled with n; remembers what was asked for and by whom."""

    def __init__(self, num_rows: int) -> None:
        self.shape = (num_rows, 1, 2, 2)
        self.dtype = torch.uint8
        self.asked: list[int] = []
        self.threads: set[str] = set()

    def load(self, rows: Sequence[int]) -> Tensor:
        if 99 in rows:
            raise DataError("Row 99 is broken.", where="row 99", accepts="-", mend="-")
        self.asked += rows
        self.threads.add(threading.current_thread().name)
        return torch.tensor(rows, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


def columns_of(num_rows: int = 100, **more: object) -> tuple[LoadedColumns, Counting]:
    loader = Counting(num_rows)
    return LoadedColumns({"label": torch.arange(num_rows)}, loaders={"image": loader}, **more), loader  # type: ignore[arg-type]


def test_batches_are_those_asked_for() -> None:
    columns, loader = columns_of()
    assert list(columns) == ["image", "label"]
    assert columns.num_rows == 100
    rows = torch.tensor([5, 80, 5, 2])
    batch = columns.batch(rows)
    assert batch["image"][:, 0, 0, 0].tolist() == rows.tolist()
    assert batch["label"].tolist() == rows.tolist()
    assert batch["row"] is rows
    assert sorted(loader.asked) == [2, 5, 80]
    assert all(name.startswith("lamina-decode") for name in loader.threads)


def test_announced_rows_are_loaded_once() -> None:
    columns, loader = columns_of()
    columns.upcoming(torch.arange(20))
    columns.upcoming(torch.arange(20, 40))
    for start in (0, 10, 20, 30):  # batches need not be cut as they were announced
        assert columns.batch(torch.arange(start, start + 10))["image"][:, 0, 0, 0].tolist() == list(
            range(start, start + 10)
        )
    assert sorted(loader.asked) == list(range(40))


def test_what_is_never_fetched_is_dropped() -> None:
    columns, _ = columns_of()
    for start in range(0, 80, 8):
        columns.upcoming(torch.arange(start, start + 8))
    assert len(columns._ahead) <= 16


def test_a_feed_announces_the_following_batch() -> None:
    columns, loader = columns_of(40)
    feed = IndexFeed(columns, batch_size=8, seed=3)
    feed.batch(0, 0)
    assert {number for _, number in columns._ahead} == set(feed.rows(0)[8:16].tolist())
    columns, loader = columns_of(40)
    feed = IndexFeed(columns, batch_size=8, seed=3)
    seen = [row for number in range(len(feed)) for row in feed.batch(0, number)["image"][:, 0, 0, 0].tolist()]
    assert seen == feed.rows(0).tolist()
    assert sorted(loader.asked) == list(range(40))


def test_taking_rows_loads_nothing() -> None:
    columns, loader = columns_of(origin=[str(i) for i in range(100)])
    part = columns.take(torch.tensor([50, 60, 70])).take(torch.tensor([2, 0]))
    assert isinstance(part, LoadedColumns)
    assert loader.asked == []
    assert part.batch(torch.tensor([0, 1]))["image"][:, 0, 0, 0].tolist() == [70, 50]
    assert part["label"].tolist() == [70, 50]
    assert part.origin == ["70", "50"]


def test_a_whole_column_is_loaded_only_when_small() -> None:
    columns, _ = columns_of(50)
    assert columns["image"][:, 0, 0, 0].tolist() == list(range(50))
    columns, loader = columns_of(50, max_bytes=100)
    with pytest.raises(DataError) as caught:
        columns["image"]
    assert "data.limit" in caught.value.mend
    assert loader.asked == []


def test_chunks_walk_through_all() -> None:
    columns, loader = columns_of(50)
    assert torch.cat([chunk["image"][:, 0, 0, 0] for chunk in columns.chunks(7)]).tolist() == list(range(50))
    assert sorted(loader.asked) == list(range(50))


def test_errors_arrive_where_the_batch_is_asked_for() -> None:
    columns, _ = columns_of()
    columns.upcoming(torch.arange(90, 100))
    with pytest.raises(DataError, match="Row 99"):
        columns.batch(torch.arange(90, 100))


def test_joined_rows_count_through_their_parts() -> None:
    parts = [torch.full((2, 3), 7), torch.arange(9).view(3, 3)]
    joined = JoinedRows(parts)
    assert joined.shape == (5, 3)
    assert torch.equal(joined.load([4, 0, 2]), torch.cat(parts)[[4, 0, 2]])
    nested = JoinedRows([joined, torch.zeros(1, 3, dtype=torch.int64)])
    assert torch.equal(nested.load([5, 4, 1]), torch.cat([*parts, torch.zeros(1, 3, dtype=torch.int64)])[[5, 4, 1]])
