"""Splits of rows in an order: stretches that follow each other, never draws.

What is to be foreseen must not be among what is learned from, so a split of a time series or of running text ends where the next
begins. A validation row that stands between two training rows is all but known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from lamina.core.errors import ConfigError, DataError
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.series import time_text
from lamina.data.time_stamps import parse_stamp

__all__ = ["divide_in_order"]

_NAMES: Final = ("train", "valid", "test")


def divide_in_order(
    data: Data, given: Mapping[str, Tensor], trainable: Sequence[str], config: DataConfig, *, notes: list[str]
) -> dict[str, Tensor]:
    """Row numbers of each split.

    Args:
        data: As read, in order.
        given: Split name -> row numbers.
        trainable: Names of the given splits that may be divided.
        config: `split` (auto or given), `boundaries`, the fractions and `limit`.
        notes: Takes sentences on what was left out.

    Raises:
        ConfigError: The split would be shuffled, or the boundaries do not rise or lie outside.
        DataError: There are too few rows, or none to train on.
    """
    _refuse_shuffling(data, config)
    if config.split == "given":
        if "train" not in given:
            raise DataError(
                f"data.split=given, but no training split is given; there is {', '.join(given) or 'nothing'}.",
                where=data.source or "data",
                accepts="a file called train",
                mend="leave data.split out: the end of the rows is then held out",
            )
        chosen = dict(given)
    else:
        chosen = {name: rows for name, rows in given.items() if name not in trainable}
        base = torch.cat([torch.arange(0), *(given[name] for name in trainable)])
        if not len(base):
            raise DataError(
                f"There are no rows to train on; there is only {', '.join(given) or 'nothing'}.",
                where=data.source or "data",
                accepts="a training split, or rows that may be divided",
                mend="give the earlier rows too, as a file without the name of a split or called train",
            )
        if config.boundaries:
            if chosen:
                raise ConfigError(
                    f"data.boundaries divide one series; here {', '.join(chosen)} is given as well.",
                    where="data.boundaries",
                    accepts="data without splits of its own",
                    mend="leave data.boundaries out, or give the one file that holds everything",
                )
            chosen = _at_boundaries(data, base, config, notes)
        else:
            for name, fraction in (("test", config.test_fraction), ("valid", config.valid_fraction)):
                if fraction > 0 and name not in chosen:
                    base, chosen[name] = _cut(base, fraction, name, data)
            chosen = {"train": base, **chosen}
    train = chosen["train"]
    if config.limit is not None and config.limit < len(train):
        chosen["train"] = train[len(train) - config.limit :]
        notes.append(f"Training uses the latest {config.limit:,} of {len(train):,} rows (data.limit).")
    return chosen


def _refuse_shuffling(data: Data, config: DataConfig) -> None:
    what = "a time series" if "series" in data.spec.columns else "running text"
    if config.split in ("random", "kfold", "group"):
        raise ConfigError(
            f"data.split={config.split} would shuffle the rows of {what}: what is to be foreseen would be learned from.",
            where="data.split",
            accepts="auto (the end is held out) or given, for rows in an order",
            mend="leave data.split out; data.valid_fraction, data.test_fraction or data.boundaries say where the splits begin",
        )
    if config.group is not None:
        raise ConfigError(
            f"data.group={config.group} divides rows by a column; those of {what} are divided by their order.",
            where="data.group",
            accepts="nothing, for rows in an order",
            mend="leave data.group out",
        )


def _cut(base: Tensor, fraction: float, name: str, data: Data) -> tuple[Tensor, Tensor]:
    """(rows before, the last share of the rows)."""
    if len(base) < 2:
        raise DataError(
            f"{len(base)} rows are too few for a training and a {name} split.",
            where=data.source or "data",
            accepts="at least 2 rows",
            mend=f"give more rows, or use data.{name}_fraction=0",
        )
    count = min(max(1, round(len(base) * fraction)), len(base) - 1)
    return base[: len(base) - count], base[len(base) - count :]


def _at_boundaries(data: Data, base: Tensor, config: DataConfig, notes: list[str]) -> dict[str, Tensor]:
    ends = [_place(boundary, data, number) for number, boundary in enumerate(config.boundaries)]
    before = 0
    for number, end in enumerate(ends):
        if end <= before or end > len(base):
            raise ConfigError(
                f"The boundary {config.boundaries[number]!r} stands at row {end}; the one before at {before}, and there are "
                f"{len(base):,} rows.",
                where=f"data.boundaries, number {number}",
                accepts=f"rising row numbers up to {len(base)}, or dates of the series",
                mend="say where training, validation and test end, in this order",
            )
        before = end
    if before < len(base):
        notes.append(f"The last {len(base) - before:,} rows are left out: they lie behind data.boundaries.")
    starts = [0, *ends[:-1]]
    return {name: base[start:end] for name, start, end in zip(_NAMES, starts, ends, strict=False)}


def _place(boundary: int | str, data: Data, number: int) -> int:
    """The row at which a split ends: its number, or the first row from a date on."""
    if isinstance(boundary, int):
        return boundary
    stamp = parse_stamp(boundary)
    columns = next(iter(data.splits.values()))
    if stamp is None or "time" not in columns:
        raise ConfigError(
            f"The boundary {boundary!r} is no row number"
            + (" and no date." if stamp is None else ", and the rows have no dates."),
            where=f"data.boundaries, number {number}",
            accepts="whole numbers" + (", or dates such as '2017-07-01'" if "time" in columns else ""),
            mend="count rows from 0",
        )
    times = columns["time"]
    if stamp < int(times[0]) or stamp > int(times[-1]):
        raise ConfigError(
            f"The boundary {boundary!r} lies outside the series.",
            where=f"data.boundaries, number {number}",
            accepts=f"dates from {time_text(int(times[0]))} to {time_text(int(times[-1]))}",
            mend="choose a date within the series",
        )
    return int(torch.searchsorted(times.contiguous(), torch.tensor(stamp)))
