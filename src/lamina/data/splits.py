"""Splits: which rows train, which choose and which judge.

Every choice is keyed by (seed, "split", what for), so that the same data and seed give the same split on every
machine; a validation split does not depend on `data.limit`, and a smaller limit is a subset of a larger one.
Stratified means: of each class either the number of rows rounded down or the number rounded up.

Rows in an order (`DataSpec.ordered`: a time series, running text) are never drawn: their splits are stretches that follow each
other, and windows over a series are made of them (data/series.py).

Row numbers (`Data.rows`) count the rows of the file or files as they were read, the given splits one after another in
their order; with them `restore_split` makes a run's split again.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lamina.core import draws
from lamina.core.errors import ConfigError, DataError
from lamina.data.columns import Columns, Data
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import join_columns
from lamina.data.ordered import divide_in_order
from lamina.data.series import SeriesColumns, as_stretches, as_windows
from lamina.data.tables import unknown_column

# Usual names of splits in files and folders -> ours.
SPLIT_NAMES: dict[str, str] = {
    **dict.fromkeys(("train", "training", "trn", "learn"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "devel", "development", "trial"), "valid"),
    **dict.fromkeys(("test", "testing", "tst", "t10k", "eval", "evaluation", "heldout"), "test"),
    **dict.fromkeys(("all", "data", "full"), "all"),
}
ORDER = ("train", "valid", "test")


def normalise_split_name(name: str) -> str:
    """The usual name of a split: train, valid, test or all; any other name stays as it is.

    >>> [normalise_split_name(name) for name in ("Training", "dev", "t10k", "extra")]
    ['train', 'valid', 'test', 'extra']
    """
    return SPLIT_NAMES.get(name.strip().casefold(), name)


def split_data(data: Data, config: DataConfig, *, seed: int) -> Data:
    """Divide data into train, valid and perhaps test, as `config` says.

    Args:
        data: As read: given splits, or one called `all`. Unusual names are normalised (`dev` becomes `valid`).
        config: `split`, `valid_fraction`, `test_fraction`, `folds`, `fold`, `group` and `limit`.
        seed: Of the run; keys every draw.

    Returns:
        The data with splits in the order train, valid, test, then any other given ones; `rows` says which rows of the
        file each split holds, `spec` has their counts, and the mean and standard deviation of `target` over the rows
        that train (population form; 1 where the target is constant).

        split=auto: given splits stay; a missing `valid` is drawn from train and, with `test_fraction`, a missing
        `test` before it. split=given: nothing is drawn. split=random: all given rows are pooled and divided anew.
        split=kfold: everything but a given test is pooled, fold number `fold` is the validation split. split=group:
        likewise, whole groups at a time. With `group`, auto and random also keep groups together; kfold refuses it.

        Rows in an order are divided without draws: `boundaries` say where training, validation and test end; without them the
        validation split is the end of the training rows, the test split what follows it. `limit` keeps the latest training rows.

    Raises:
        DataError: A split would be empty, or there are too few rows, classes or groups to divide; a series too short for a window.
        ConfigError: `fold` is not below `folds`, or a group is needed and none is given; rows in an order would be shuffled.
    """
    _check_config(config)
    data = as_stretches(data)
    pool = _Pool.of(data)
    notes = list(data.notes)
    if data.spec.ordered:
        trainable = [name for name in pool.given if name in ("all", "train") and pool.has_answers(name)]
        chosen = divide_in_order(data, pool.given, trainable, config, notes=notes)
        return _assemble(data, pool, chosen, notes)
    if config.boundaries:
        raise ConfigError(
            f"data.boundaries={list(config.boundaries)} divide rows in an order; the rows of {data.source or 'this data'} have none.",
            where="data.boundaries",
            accepts="nothing, for data without an order",
            mend="leave data.boundaries out; data.valid_fraction and data.test_fraction say how much is held out",
        )
    if config.split == "given":
        _require_given(data, pool)
        chosen = dict(pool.given)
    else:
        chosen = _divide(data, pool, config, seed)
    if config.limit is not None and config.limit < len(chosen["train"]):
        train = chosen["train"]
        order = stratified_order(pool.labels(train), draws.stream_key(seed, "split", "limit"), num_rows=len(train))
        chosen["train"] = train[order[: config.limit].sort().values]
        notes.append(
            f"Training uses {config.limit} of {len(train)} rows (data.limit), drawn by seed {seed}, stratified by class."
        )
    return _assemble(data, pool, chosen, notes)


def restore_split(data: Data, rows: Mapping[str, Tensor]) -> Data:
    """The split that a run saved: `rows` as `split_data` gave them, on the same data read again.

    Raises:
        DataError: A row number lies outside the data.
    """
    data = as_stretches(data)
    pool = _Pool.of(data)
    for name, numbers in rows.items():
        worst = int(numbers.max()) if len(numbers) else -1
        if worst >= pool.num_rows or (len(numbers) and int(numbers.min()) < 0):
            raise DataError(
                f"The saved split {name!r} has row {worst}, but the data has {pool.num_rows} rows.",
                where=data.source or "data",
                accepts="the data that the run was trained on, unchanged",
                mend="give the original file",
            )
    return _assemble(data, pool, {name: numbers.to(torch.int64) for name, numbers in rows.items()}, list(data.notes))


# --- choosing rows ---------------------------------------------------------------------------------------------------


def stratified_order(labels: Tensor | None, key: int, *, num_rows: int | None = None) -> Tensor:
    """An order of all rows of which every beginning is stratified: each class has its share, rounded down or up.

    Args:
        labels: int64 (N,); None: a plain keyed permutation of `num_rows`.
        key: From `core.draws.stream_key`.

    Returns:
        int64 (N,), a permutation.

    Source: the windows of Baruah, Cohen, Plaxton, Varvel (1996), "Proportionate Progress", doi:10.1007/BF01940883: the
    j-th row of a class with share w belongs into the places (j-1)/w rounded down to j/w rounded up, and the earliest
    deadline first keeps all windows.
    """
    total = len(labels) if labels is not None else int(num_rows or 0)
    shuffled = _shuffle(torch.arange(total), key)
    if labels is None or total == 0:
        return shuffled
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    counts = torch.unique(labels, return_counts=True)[1]
    if len(counts) == 1:
        return shuffled
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    number = torch.arange(total) - starts  # of the row within its class, from 0
    size = counts.repeat_interleave(counts)
    release = torch.div(number * total, size, rounding_mode="floor")
    deadline = -torch.div(-(number + 1) * total, size, rounding_mode="floor")
    jobs = release.argsort(stable=True).tolist()
    releases, deadlines = release.tolist(), deadline.tolist()
    waiting: list[tuple[int, int]] = []
    order: list[int] = []
    following = 0
    for place in range(total):
        while following < total and releases[jobs[following]] <= place:
            heapq.heappush(waiting, (deadlines[jobs[following]], jobs[following]))
            following += 1
        order.append(heapq.heappop(waiting)[1])
    return by_class[torch.tensor(order)]


def draw_share(labels: Tensor | None, *, num_rows: int, fraction: float, key: int) -> Tensor:
    """A mask (N,) of about fraction * N rows, stratified; no class is taken whole, nor are all rows.

    Of each class (labels count from 0) the share is rounded down or up; a class of one row stays behind.
    """
    wanted = min(max(1, round(num_rows * fraction)), num_rows - 1)
    shuffled = _shuffle(torch.arange(num_rows), key)
    ordered = shuffled if labels is None else shuffled[labels[shuffled].argsort(stable=True)]
    place = torch.arange(num_rows)
    # Every place where the rounded-down line place * wanted / N steps up: N shares of exactly `wanted` in all.
    taken = torch.div((place + 1) * wanted, num_rows, rounding_mode="floor") > torch.div(
        place * wanted, num_rows, rounding_mode="floor"
    )
    if labels is not None:
        sorted_labels = labels[ordered]
        last = torch.ones(num_rows, dtype=torch.bool)
        last[:-1] = sorted_labels[1:] != sorted_labels[:-1]
        size = torch.bincount(labels)
        drawn = torch.bincount(sorted_labels[taken], minlength=len(size))
        taken &= ~(last & (drawn == size)[sorted_labels])
    mask = torch.zeros(num_rows, dtype=torch.bool)
    mask[ordered] = taken
    return mask


def _shuffle(rows: Tensor, key: int) -> Tensor:
    """The rows in an order keyed by `key`."""
    bits = draws.random_bits(key, torch.arange(len(rows), dtype=torch.int32))
    return rows[bits.argsort(stable=True)]


def _folds(labels: Tensor | None, *, num_rows: int, folds: int, key: int) -> Tensor:
    """The fold of each row, int64 (N,): sizes, and the counts of each class, differ by at most one between folds."""
    shuffled = _shuffle(torch.arange(num_rows), key)
    ordered = shuffled if labels is None else shuffled[labels[shuffled].argsort(stable=True)]
    fold = torch.empty(num_rows, dtype=torch.int64)
    fold[ordered] = torch.arange(num_rows) % folds
    return fold


def _group_folds(groups: Tensor, *, folds: int, key: int) -> Tensor:
    """The fold of each row; whole groups, the largest first, each to the fold that has the fewest rows."""
    values, counts = torch.unique(groups, return_counts=True)
    order = _shuffle(torch.arange(len(values)), key)
    order = order[counts[order].argsort(descending=True, stable=True)]
    sizes = [(0, number) for number in range(folds)]
    fold_of = torch.zeros(int(values.max()) + 1, dtype=torch.int64)
    for group in order.tolist():
        size, number = heapq.heappop(sizes)
        fold_of[values[group]] = number
        heapq.heappush(sizes, (size + int(counts[group]), number))
    return fold_of[groups]


def _draw_groups(groups: Tensor, *, fraction: float, key: int) -> Tensor:
    """A mask of whole groups with about fraction * N rows: groups in a keyed order while they bring the count nearer."""
    wanted = max(1.0, fraction * len(groups))
    values, counts = torch.unique(groups, return_counts=True)
    chosen = torch.zeros(int(values.max()) + 1, dtype=torch.bool)
    total, num_chosen = 0, 0
    for group in _shuffle(torch.arange(len(values)), key).tolist():
        size = int(counts[group])
        better = abs(total + size - wanted) < abs(total - wanted)
        if (better or num_chosen == 0) and num_chosen < len(values) - 1:
            chosen[values[group]] = True
            total, num_chosen = total + size, num_chosen + 1
    mask: Tensor = chosen[groups]
    return mask


# --- pools and assembly ----------------------------------------------------------------------------------------------


@dataclass
class _Pool:
    """All rows of the data under one numbering.

    Attributes:
        given: Normalised split name -> row numbers.
        columns: The splits in that order.
        num_rows: Of all.
    """

    given: dict[str, Tensor]
    columns: list[Columns]
    num_rows: int

    @staticmethod
    def of(data: Data) -> _Pool:
        given: dict[str, Tensor] = {}
        start = 0
        for name, columns in data.splits.items():
            ours = normalise_split_name(name)
            if ours in given:
                raise DataError(
                    f"Two splits are both understood as {ours!r}: {', '.join(data.splits)}.",
                    where=data.source or "data",
                    accepts="one training, one validation and one test split",
                    mend="rename or remove one of them",
                )
            given[ours] = torch.arange(start, start + columns.num_rows)
            start += columns.num_rows
        return _Pool(given, list(data.splits.values()), start)

    def has_answers(self, name: str) -> bool:
        """Whether a split has every column that a training split has; a test file may come without labels."""
        wanted = self.columns[list(self.given).index("train")] if "train" in self.given else self.columns[0]
        return set(wanted) <= set(self.columns[list(self.given).index(name)])

    def labels(self, rows: Tensor) -> Tensor | None:
        """Classes of the rows, numbered from 0 without gaps; None without a label column of one class per row."""
        labels = self._of_rows("label", rows)
        if labels is None or labels.ndim != 1 or labels.is_floating_point():
            return None
        numbered: Tensor = torch.unique(labels, return_inverse=True)[1]
        return numbered

    def groups(self, rows: Tensor, config: DataConfig, data: Data) -> Tensor:
        """Group of each row.

        Raises:
            UnknownNameError: There is no such column.
        """
        assert config.group is not None
        groups = self._of_rows(config.group, rows)
        if groups is None:
            raise unknown_column(
                config.group, data.spec.columns, where=f"data.group, columns of {data.source or 'the data'}"
            )
        numbered: Tensor = torch.unique(groups, dim=0, return_inverse=True)[1]
        return numbered

    def _of_rows(self, name: str, rows: Tensor) -> Tensor | None:
        # A test split without labels must not keep the training split from being stratified.
        parts, start = [], 0
        for columns in self.columns:
            stop = start + columns.num_rows
            inside = rows[(rows >= start) & (rows < stop)]
            if len(inside):
                if name not in columns:
                    return None
                parts.append(columns[name][inside - start])
            start = stop
        # `rows` is in ascending order wherever labels are asked for, so the parts are in the order of `rows`.
        return torch.cat(parts) if parts else None

    def take(self, rows: Tensor) -> Columns:
        """The rows as Columns; a split that is wanted whole is not copied."""
        start = 0
        for columns in self.columns:
            inside = (rows >= start) & (rows < start + columns.num_rows)
            if bool(inside.all()) and len(rows):
                whole = len(rows) == columns.num_rows and bool((rows == torch.arange(start, start + len(rows))).all())
                return columns if whole else columns.take(rows - start)
            start += columns.num_rows
        if len(rows) == 0:
            return self.columns[0].take(rows)
        parts = []
        start = 0
        for columns in self.columns:
            inside = (rows >= start) & (rows < start + columns.num_rows)
            if bool(inside.any()):
                parts.append(columns.take(rows[inside] - start))
            start += columns.num_rows
        return join_columns(parts)


def _check_config(config: DataConfig) -> None:
    if config.split in ("kfold", "group") and config.fold >= config.folds:
        raise ConfigError(
            f"data.fold is {config.fold}, but there are {config.folds} folds, counted from 0.",
            where="data.fold",
            accepts=f"0 to {config.folds - 1}",
            mend=f"use data.fold={config.folds - 1} or more data.folds",
        )
    if config.split == "group" and config.group is None:
        raise ConfigError(
            "data.split=group needs to know the groups.",
            where="data.group",
            accepts="the header of a column",
            mend="name the column with data.group=…, or use data.split=kfold",
        )
    if config.split == "kfold" and config.group is not None:
        raise ConfigError(
            f"data.split=kfold would divide the groups of {config.group!r} between splits.",
            where="data.split, data.group",
            accepts="kfold without a group, or group with one",
            mend="use data.split=group, which makes folds of whole groups",
        )


def _require_given(data: Data, pool: _Pool) -> None:
    if "train" not in pool.given:
        raise DataError(
            f"data.split=given, but no training split is given; there is {', '.join(pool.given) or 'nothing'}.",
            where=data.source or "data",
            accepts="a file or folder called train",
            mend="use data.split=auto to draw the splits",
        )


def _divide(data: Data, pool: _Pool, config: DataConfig, seed: int) -> dict[str, Tensor]:
    pooled = {"auto": {"all", "train"}, "random": set(pool.given)}.get(config.split, {"all", "train", "valid"})
    base_names = [name for name in pool.given if name in pooled and pool.has_answers(name)]
    chosen = {name: rows for name, rows in pool.given.items() if name not in base_names}
    base = torch.cat([torch.arange(0), *(pool.given[name] for name in base_names)])
    if len(base) == 0 and pool.num_rows:
        raise DataError(
            f"There are no rows to train on; there is only {', '.join(name for name in pool.given if len(pool.given[name]))}.",
            where=data.source or "data",
            accepts="a training split, or rows that may be divided",
            mend="use data.split=random to divide what there is anew",
        )
    _require_rows(base, 1, data, "training")
    if config.test_fraction > 0 and "test" not in chosen:
        base, chosen["test"] = _carve(base, config.test_fraction, "test", data, pool, config, seed)
    if config.split in ("kfold", "group"):
        _require_rows(base, config.folds, data, f"{config.folds} folds")
        if config.split == "group":
            groups = pool.groups(base, config, data)
            num_groups = int(groups.max()) + 1
            if num_groups < config.folds:
                raise DataError(
                    f"{num_groups} groups of {config.group!r} cannot make {config.folds} folds.",
                    where="data.folds",
                    accepts=f"2 to {num_groups} folds" if num_groups > 1 else "a column with at least two values",
                    mend=f"use data.folds={num_groups}" if num_groups > 1 else "choose another data.group",
                )
            fold = _group_folds(groups, folds=config.folds, key=draws.stream_key(seed, "split", "fold"))
        else:
            key = draws.stream_key(seed, "split", "fold")
            fold = _folds(pool.labels(base), num_rows=len(base), folds=config.folds, key=key)
        chosen["valid"], base = base[fold == config.fold], base[fold != config.fold]
    elif config.valid_fraction > 0 and "valid" not in chosen:
        base, chosen["valid"] = _carve(base, config.valid_fraction, "valid", data, pool, config, seed)
    return {"train": base, **chosen}


def _carve(
    base: Tensor, fraction: float, name: str, data: Data, pool: _Pool, config: DataConfig, seed: int
) -> tuple[Tensor, Tensor]:
    """(rest, share): a share of the rows for the split `name`."""
    _require_rows(base, 2, data, f"a training and a {name} split", option=f"data.{name}_fraction")
    key = draws.stream_key(seed, "split", name)
    if config.group is not None:
        groups = pool.groups(base, config, data)
        if int(groups.max()) == 0:
            raise DataError(
                f"All {len(base)} rows belong to one group of {config.group!r}; no {name} split can be made.",
                where="data.group",
                accepts="a column with at least two values",
                mend=f"choose another data.group, or use data.{name}_fraction=0",
            )
        mask = _draw_groups(groups, fraction=fraction, key=key)
    else:
        mask = draw_share(pool.labels(base), num_rows=len(base), fraction=fraction, key=key)
    if not bool(mask.any()):  # all classes have a single row
        mask[_shuffle(torch.arange(len(base)), key)[0]] = True
    return base[~mask], base[mask]


def _require_rows(base: Tensor, least: int, data: Data, purpose: str, *, option: str = "") -> None:
    if len(base) < least:
        raise DataError(
            f"{len(base)} rows are too few for {purpose}.",
            where=data.source or "data",
            accepts=f"at least {least} rows",
            mend=f"give more rows, or use {option}=0" if option else "give more rows, or fewer folds",
        )


def _assemble(data: Data, pool: _Pool, chosen: dict[str, Tensor], notes: list[str]) -> Data:
    names = [name for name in ORDER if name in chosen] + [name for name in chosen if name not in ORDER]
    for name in names:
        if len(chosen[name]) == 0:
            raise DataError(
                f"The {name} split has no rows.",
                where=data.source or "data",
                accepts="splits with at least one row",
                mend="give it rows, remove it, or use data.split=random",
            )
    splits = {name: pool.take(chosen[name]) for name in names}
    # Windows of training lie wholly in it, whatever else the series holds.
    splits = {n: c.alone() if n == "train" and isinstance(c, SeriesColumns) else c for n, c in splits.items()}
    made = data.with_splits(splits, {name: chosen[name] for name in names})
    made.notes = notes + _class_notes(splits, data.spec.classes)
    made.spec = made.spec.model_copy(update={"columns": _with_target_statistics(made)})
    return as_windows(made)


def _class_notes(splits: Mapping[str, Columns], classes: tuple[str, ...]) -> list[str]:
    """A sentence per split that holds classes which the training split lacks."""
    train = splits.get("train")
    if train is None or "label" not in train or train["label"].ndim != 1 or not classes:
        return []
    seen = torch.bincount(train["label"].clamp(min=0), minlength=len(classes)) > 0
    notes = []
    for name, columns in splits.items():
        if name == "train" or "label" not in columns:
            continue
        present = torch.bincount(columns["label"].clamp(min=0), minlength=len(classes)) > 0
        missing = [classes[i] for i in torch.nonzero(present & ~seen).flatten().tolist() if i < len(classes)]
        if missing:
            shown = ", ".join(missing[:10]) + (f", … ({len(missing)} in all)" if len(missing) > 10 else "")
            notes.append(f"The {name} split has classes that no training row has, so they cannot be learned: {shown}.")
    return notes


def _with_target_statistics(data: Data) -> dict[str, object]:
    columns = dict(data.spec.columns)
    train = data.splits.get("train")
    spec = columns.get("target")
    if train is None or spec is None or "target" not in train:
        return dict(columns)
    target = train["target"].to(torch.float64).flatten(1)
    mean, std = target.mean(0), target.std(0, correction=0)
    scale = [value if math.isfinite(value) and value > 0 else 1.0 for value in std.tolist()]
    columns["target"] = spec.model_copy(update={"mean": tuple(mean.tolist()), "std": tuple(scale)})
    return dict(columns)
