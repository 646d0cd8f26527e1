"""Rows that are the same, or nearly: hashes for the exact ones, a pruned exact search for the near ones.

Exact: all inputs of two rows are equal, bit for bit (NaN equals NaN, -0 equals 0); texts without regard to capitals and white space
(`text_inspection.py`).

Near, for images: reduced to 16 by 16 grey values, without mean and contrast, their cosine is at least 0.99, and at up to
64 by 64 at least 0.98. Brightness, contrast, compression and size do not matter; shifts, turns and crops do. Near, for tables: no
number differs by more than a thousandth of its column's standard deviation, and the categories are equal.

The search for near images misses no pair: unit vectors are sorted by their angle to the first principal axis, and two
whose angles differ by more than arccos(0.99) cannot be near; of the rest, 32 leading coordinates and the length of what
remains bound the cosine from above, and only pairs whose bound reaches 0.99 are compared in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from lamina.core import draws
from lamina.data.columns import Columns, Data
from lamina.data.ragged import RaggedColumns
from lamina.data.text_inspection import asked_columns, text_groups

INPUT_ROLES: Final = ("image", "number", "category", "tokens", "text", "series", "volume")
SIDE: Final = 16
FULL_SIDE: Final = 64
COARSE_COSINE: Final = 0.99
FULL_COSINE: Final = 0.98
TABLE_TOLERANCE: Final = 1e-3
# Beyond these the search stops and says so; they bound time and memory.
MAX_NEAR_ROWS: Final = 200_000
MAX_PAIRS: Final = 500_000
_AXES: Final = 32
_BLOCK: Final = 512
_TILE: Final = 4096


@dataclass
class Rows:
    """All rows of the data under one numbering.

    Attributes:
        names: Splits in order.
        starts: First number of each split, and the total.
    """

    names: tuple[str, ...]
    starts: Tensor
    splits: Mapping[str, Columns]

    @staticmethod
    def of(splits: Mapping[str, Columns]) -> Rows:
        """Splits one after another."""
        counts = [columns.num_rows for columns in splits.values()]
        starts = torch.tensor([0, *counts]).cumsum(0)
        return Rows(tuple(splits), starts, splits)

    def split_of(self, rows: Tensor) -> Tensor:
        """Index of the split of each row."""
        return torch.bucketize(rows.contiguous(), self.starts[1:], right=True)

    def place(self, row: int) -> tuple[str, int]:
        """(split, row within it)."""
        split = int(self.split_of(torch.tensor(row)))
        return self.names[split], row - int(self.starts[split])

    def origin(self, row: int) -> str:
        """Where a row came from."""
        name, number = self.place(row)
        origin = self.splits[name].origin
        return origin[number] if origin is not None else f"{name} row {number}"

    def answers(self) -> Tensor | None:
        """Label or target of every row as float64 (N, T), NaN where a split has none; None without any."""
        key = next((k for k in ("label", "target") if any(k in columns for columns in self.splits.values())), None)
        if key is None:
            return None
        known = {
            name: columns[key].double().reshape(columns.num_rows, -1)
            for name, columns in self.splits.items()
            if key in columns
        }
        width = next(iter(known.values())).shape[1]
        return torch.cat(
            [
                known[name] if name in known else torch.full((columns.num_rows, width), math.nan, dtype=torch.float64)
                for name, columns in self.splits.items()
            ]
        )

    def inputs(self, rows: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """The given columns of any rows, in their order."""
        split = self.split_of(rows)
        parts: dict[str, Tensor] = {}
        for number, name in enumerate(self.names):
            inside = torch.nonzero(split == number).flatten()
            if len(inside):
                batch = self.splits[name].batch(rows[inside] - self.starts[number])
                for key in names:
                    if key not in parts:
                        parts[key] = batch[key].new_empty((len(rows), *batch[key].shape[1:]))
                    parts[key][inside] = batch[key]
        return parts


@dataclass
class Found:
    """Duplicates of some data.

    Attributes:
        rows: The numbering.
        members: int64 (M,), rows that equal another row, group by group, ascending within a group.
        group: int64 (M,), number of the group of each.
        pairs: int64 (P, 2), near rows; one row stands for its group of equal ones.
        notes: What was not searched, and why.
    """

    rows: Rows
    members: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    group: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    pairs: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.int64))
    notes: list[str] = field(default_factory=list)

    @property
    def num_groups(self) -> int:
        """Groups of equal rows."""
        return int(self.group[-1]) + 1 if len(self.group) else 0

    def groups(self, wanted: Tensor | None = None) -> list[Tensor]:
        """The rows of all groups, or of those that a mask (num_groups,) chooses."""
        sizes = torch.bincount(self.group, minlength=self.num_groups).tolist()
        parts = list(self.members.split(sizes)) if sizes else []
        return parts if wanted is None else [parts[i] for i in torch.nonzero(wanted).flatten().tolist()]

    def over_groups(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest of a value per member, by group."""
        least = torch.zeros(self.num_groups, dtype=values.dtype).scatter_reduce_(
            0, self.group, values, "amin", include_self=False
        )
        most = torch.zeros(self.num_groups, dtype=values.dtype).scatter_reduce_(
            0, self.group, values, "amax", include_self=False
        )
        return least, most


def input_columns(data: Data) -> list[str]:
    """Columns that a model would look at and that all splits have; empty for a stream of tokens, whose rows are no samples."""
    names = [name for name, spec in data.spec.columns.items() if spec.role in INPUT_ROLES and name != "targets"]
    names = [name for name in names if all(name in columns for columns in data.splits.values())]
    stream = len(names) == 1 and data.spec.columns[names[0]].role == "tokens" and not data.spec.columns[names[0]].shape
    if data.spec.ordered and {"series", "past"} & set(names):  # a time series may well come back to where it was
        return []
    return [] if stream else names


def find_duplicates(data: Data, *, near: bool = True) -> Found:
    """Equal rows, and near ones of images and tables."""
    found = Found(Rows.of(data.splits))
    names = input_columns(data)
    if not names:
        found.notes.append("Duplicates are not looked for: the rows are no samples.")
        return found
    if any(isinstance(columns, RaggedColumns) for columns in data.splits.values()):
        found.members, found.group = text_groups(data, asked_columns(names))
        return found
    found.members, found.group = _exact_groups(found.rows, names)
    if near and ("image" in names or "number" in names):
        unique = torch.ones(int(found.rows.starts[-1]), dtype=torch.bool)
        unique[found.members[1:][found.group[1:] == found.group[:-1]]] = False
        candidates = torch.nonzero(unique).flatten()
        if len(candidates) > MAX_NEAR_ROWS:
            key = draws.stream_key(0, "sample", "near duplicates")
            order = draws.random_bits(key, torch.arange(len(candidates), dtype=torch.int32)).argsort()
            candidates = candidates[order[:MAX_NEAR_ROWS].sort().values]
            found.notes.append(f"Near duplicates are looked for among {MAX_NEAR_ROWS} rows drawn from {len(unique)}.")
        near_of = _near_images if "image" in names else _near_numbers
        found.pairs = near_of(found.rows, candidates, names, found.notes)
    return found


# --- exact -----------------------------------------------------------------------------------------------------------


def row_hashes(tensors: Iterable[Tensor]) -> Tensor:
    """A 64-bit hash per row over some columns, int64 (N,). Equal rows have equal hashes."""
    total: Tensor | None = None
    for number, tensor in enumerate(tensors):
        words = _words(tensor)
        counters = torch.arange(words.shape[1], dtype=torch.int32)
        keys = [draws.random_bits(draws.stream_key(number, "sample", "hash", half), counters).long() for half in (0, 1)]
        odd = (keys[0] << 32) ^ (keys[1] & 0xFFFFFFFF) | 1
        mixed = words * odd  # wraps around, as wanted
        hashed = (mixed ^ (mixed >> 29)).sum(1) * 0x9E3779B97F4A7C1 + number
        total = hashed if total is None else (total ^ (total >> 31)) * 31 + hashed
    assert total is not None
    return total


def _words(tensor: Tensor) -> Tensor:
    """Rows as int64 words (N, W)."""
    flat = tensor.reshape(len(tensor), -1)
    if flat.is_floating_point():
        flat = torch.where(flat.isnan(), torch.full((), math.nan, dtype=flat.dtype), flat + 0.0)
    flat = flat.contiguous()
    raw = flat.view(torch.uint8) if flat.dtype != torch.bool else flat.to(torch.uint8)
    short = -raw.shape[1] % 8
    return functional.pad(raw, (0, short)).view(torch.int64)


def _exact_groups(rows: Rows, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Members and their group numbers; groups in the order of their first rows."""
    pieces = _pieces(rows.splits.values(), names)
    hashes = torch.cat([torch.zeros(0).long(), *(row_hashes(piece[name] for name in names) for piece in pieces)])
    order = hashes.argsort(stable=True)
    ordered = hashes[order]
    starts = torch.ones(len(order), dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    firsts = order[starts]
    number = starts.cumsum(0) - 1
    shared = torch.bincount(number, minlength=len(firsts))[number] > 1
    members, leaders = order[shared], firsts[number[shared]]
    same = torch.ones(len(members), dtype=torch.bool)
    for place in torch.arange(len(members)).split(16384) if len(members) else ():
        first, second = rows.inputs(members[place], names), rows.inputs(leaders[place], names)
        for name in names:
            same[place] &= (_words(first[name]) == _words(second[name])).all(1)
    # Rows that share a hash but differ would be a coincidence of one in 2**64; they are simply not counted.
    members, leaders = members[same], leaders[same]
    size = torch.bincount(leaders, minlength=int(rows.starts[-1]))
    members, leaders = members[size[leaders] > 1], leaders[size[leaders] > 1]
    by_place = members.argsort()
    members, leaders = members[by_place], leaders[by_place]
    by_group = leaders.argsort(stable=True)
    members, leaders = members[by_group], leaders[by_group]
    return members, torch.unique_consecutive(leaders, return_inverse=True)[1]


def _pieces(splits: Iterable[Columns], names: Sequence[str], size: int = 4096) -> Iterator[Mapping[str, Tensor]]:
    for columns in splits:
        if not columns.in_memory:
            yield from columns.chunks(size)
            continue
        for start in range(0, columns.num_rows, size):
            yield {name: columns[name][start : start + size] for name in names}


# --- near ------------------------------------------------------------------------------------------------------------


def image_vectors(images: Tensor, side: int) -> Tensor:
    """Unit vectors (N, <= side * side) of grey images reduced to `side`, without their mean; zeros for flat images."""
    grey = images.to(torch.float32).mean(1, keepdim=True)
    height, width = grey.shape[-2:]
    if max(height, width) > side:
        grey = functional.adaptive_avg_pool2d(grey, (min(side, height), min(side, width)))
    flat = grey.flatten(1)
    return functional.normalize(flat - flat.mean(1, keepdim=True), dim=1)


def _near_images(rows: Rows, candidates: Tensor, names: Sequence[str], notes: list[str]) -> Tensor:
    vectors = torch.cat(
        [image_vectors(rows.inputs(piece, ["image"])["image"], SIDE) for piece in candidates.split(4096)]
    )
    textured = torch.nonzero(vectors.abs().sum(1) > 0).flatten()
    pairs = near_vectors(vectors[textured], least=COARSE_COSINE, notes=notes)
    pairs = candidates[textured[pairs]]
    kept = []
    others = [name for name in names if name != "image"]
    for piece in pairs.split(2048) if len(pairs) else ():
        first, second = (rows.inputs(piece[:, side], names) for side in (0, 1))
        full = [image_vectors(side["image"], FULL_SIDE) for side in (first, second)]
        near = (full[0] * full[1]).sum(1) >= FULL_COSINE
        for name in others:
            near &= (_words(first[name]) == _words(second[name])).all(1)
        kept.append(piece[near])
    return torch.cat(kept) if kept else pairs


def near_vectors(vectors: Tensor, *, least: float, notes: list[str]) -> Tensor:
    """All pairs (i < j) of unit vectors (N, D) with a cosine of at least `least`: int64 (P, 2)."""
    num_rows, width = vectors.shape
    if num_rows < 2:
        return torch.zeros(0, 2, dtype=torch.int64)
    spread = torch.zeros(width, width, dtype=torch.float64)
    for piece in vectors.split(_TILE):
        spread += (piece.T @ piece).double()
    axes = torch.linalg.eigh(spread)[1].flip(1).float()
    num_axes = min(_AXES, width)
    leading = vectors @ axes[:, :num_axes]
    rest = (1.0 - leading.square().sum(1)).clamp(min=0.0).sqrt()
    # Rounding must not lower the bound below the cosine.
    bound = least - 1e-5
    angle = leading[:, 0].clamp(-1.0, 1.0).acos()
    order = angle.argsort()
    angle = angle[order]
    short = torch.cat([leading, rest.unsqueeze(1)], dim=1)[order]
    reach = torch.searchsorted(angle, angle + (math.acos(bound) + 1e-4), right=True)
    found: list[Tensor] = []
    total = 0
    buffer = torch.empty(_BLOCK * _TILE)
    for start in range(0, num_rows, _BLOCK):
        block = short[start : start + _BLOCK]
        stop = int(reach[min(start + _BLOCK, num_rows) - 1])
        for left in range(start, stop, _TILE):
            tile = short[left : min(left + _TILE, stop)]
            bounds = buffer[: len(block) * len(tile)].view(len(block), len(tile))
            torch.mm(block, tile.T, out=bounds)
            hits = torch.nonzero(bounds.amax(1) >= bound).flatten()
            if len(hits) == 0:
                continue
            places = torch.nonzero(bounds[hits] >= bound)
            first, second = hits[places[:, 0]] + start, places[:, 1] + left
            later = second > first
            first, second = order[first[later]], order[second[later]]
            near = torch.cat([(vectors[a] * vectors[b]).sum(1) >= least for a, b in zip(first.split(_TILE), second.split(_TILE), strict=True)]
                             or [torch.zeros(0, dtype=torch.bool)])  # fmt: skip
            pairs = torch.stack([torch.minimum(first, second)[near], torch.maximum(first, second)[near]], dim=1)
            found.append(pairs)
            total += len(pairs)
            if total > MAX_PAIRS:
                notes.append(f"There are more than {MAX_PAIRS} near pairs; the search stopped there.")
                return torch.cat(found)
    return torch.cat(found) if found else torch.zeros(0, 2, dtype=torch.int64)


def _near_numbers(rows: Rows, candidates: Tensor, names: Sequence[str], notes: list[str]) -> Tensor:
    tables = [rows.inputs(piece, names) for piece in candidates.split(65536)]
    number = torch.cat([table["number"] for table in tables]).to(torch.float64)
    missing = number.isnan()
    filled = number.nan_to_num(nan=0.0)
    count = (~missing).sum(0).clamp(min=1)
    mean = filled.sum(0) / count
    std = ((filled - mean).masked_fill(missing, 0.0).square().sum(0) / count).sqrt()
    standard = ((filled - mean) / torch.where(std > 0, std, 1.0)).masked_fill(missing, 0.0)
    # Near rows lie near each other on any line; along a drawn one few others do.
    weights = draws.normal(draws.stream_key(0, "sample", "near rows"), torch.arange(number.shape[1], dtype=torch.int32))
    weights = weights.double() / weights.double().abs().sum()
    place = standard @ weights
    others = [torch.cat([table[name] for table in tables]) for name in names if name != "number"]
    for tensor in others:  # rows of other categories are set apart
        place = place + row_hashes([tensor]).remainder(1 << 20).double() * 64.0
    place = place + row_hashes([missing.to(torch.uint8)]).remainder(1 << 10).double() * 64.0 * (1 << 20)
    order = place.argsort()
    place = place[order]
    reach = torch.searchsorted(place, place + TABLE_TOLERANCE * (1 + 1e-6) + 1e-9 * place.abs(), right=True)
    later = reach - torch.arange(len(place)) - 1  # rows after this one that may be near
    found: list[Tensor] = []
    for step in range(1, int(later.max() if len(later) else 0) + 1):
        first = torch.nonzero(later >= step).flatten()
        if len(first) == 0 or step > 1000:
            break
        a, b = order[first], order[first + step]
        near = ((standard[a] - standard[b]).abs() <= TABLE_TOLERANCE).all(1) & (missing[a] == missing[b]).all(1)
        for tensor in others:
            near &= (_words(tensor[a]) == _words(tensor[b])).all(1)
        found.append(torch.stack([torch.minimum(a, b)[near], torch.maximum(a, b)[near]], dim=1))
        if sum(map(len, found)) > MAX_PAIRS:
            notes.append(f"There are more than {MAX_PAIRS} near pairs; the search stopped there.")
            break
    return candidates[torch.cat(found)] if found else torch.zeros(0, 2, dtype=torch.int64)


# --- leaks -----------------------------------------------------------------------------------------------------------


def find_leaks(data: Data, *, exact_only: bool = True) -> list[dict[str, Any]]:
    """Rows that stand in two splits: `splits`, `rows`, `origins`, `kind` (exact or near), `labels_agree`, `message`.

    With `exact_only` it takes a fraction of a second on 60,000 small images, so that training can warn. Columns that are
    loaded on demand are then not looked at, because all of them would have to be read.
    """
    if len(data.splits) < 2 or (exact_only and not all(columns.in_memory for columns in data.splits.values())):
        return []
    return leaks_of(find_duplicates(data, near=not exact_only))


def leaks_of(found: Found) -> list[dict[str, Any]]:
    """The leaks among found duplicates: of each group of equal rows one per pair of splits, then the near pairs."""
    rows, answers = found.rows, found.rows.answers()
    leaks = []
    if found.num_groups:
        first, last = found.over_groups(rows.split_of(found.members))
        for group in found.groups(first != last):
            split = rows.split_of(group)
            firsts = [int(group[split == s][0]) for s in torch.unique(split).tolist()]
            leaks += [_leak(rows, answers, a, b, "exact") for i, a in enumerate(firsts) for b in firsts[i + 1 :]]
    across = rows.split_of(found.pairs[:, 0]) != rows.split_of(found.pairs[:, 1])
    leaks += [_leak(rows, answers, a, b, "near") for a, b in found.pairs[across].tolist()]
    return leaks


def _leak(rows: Rows, answers: Tensor | None, first: int, second: int, kind: str) -> dict[str, Any]:
    places = [rows.place(first), rows.place(second)]
    origins = [rows.origin(first), rows.origin(second)]
    agree = answers_agree(answers, [first, second])
    verb = "equals" if kind == "exact" else "nearly equals"
    labels = "" if agree else ", with another label"
    return {
        "splits": [split for split, _ in places],
        "rows": [row for _, row in places],
        "origins": origins,
        "kind": kind,
        "labels_agree": agree,
        "message": f"row {places[1][1]} of {places[1][0]} ({origins[1]}) {verb} row {places[0][1]} of {places[0][0]} ({origins[0]}){labels}",
    }


def answers_agree(answers: Tensor | None, rows: Sequence[int]) -> bool:
    """Whether rows have the same label or target; True where that is not known."""
    if answers is None:
        return True
    chosen = answers[list(rows)]
    return bool(((chosen == chosen[0]) | chosen.isnan() | chosen[0].isnan()).all())
