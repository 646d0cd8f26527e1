"""Signals and volumes from arrays: which axis holds the channels, the compactest element type, and Data with labels.

A signal is a series of equal length, `signal` float32 (N, C, T). A volume is a scan or a clip, `volume` uint8 or float32
(N, C, D, H, W); the depth of a clip counts its frames. Where the channels stand is said by `data.channels_first`, or
follows from the sizes where only one reading makes sense; it is never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError, DtypeError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, Role, column_spec
from lamina.data.config import DataConfig
from lamina.data.readers.arrays import Pair, arrays_by_split, class_labels
from lamina.data.readers.base import FaultList, Labels, RowNames, no_rows, order_classes, order_splits
from lamina.data.readers.pixels import compact

Kind = Literal["signal", "volume"]
KINDS: Final[tuple[Kind, ...]] = ("signal", "volume")
ROLES: Final[Mapping[Kind, Role]] = {"signal": "series", "volume": "volume"}
_WORDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "signal": ("signals", "signal", "series", "waveforms", "waveform"),
    "volume": ("volumes", "volume", "clips", "clip", "videos", "video", "voxels"),
}
# A short axis beside one at least so many times as long holds the channels of a signal.
_LONGER: Final = 4
_MOST_CHANNELS: Final = 64


@dataclass
class PositionSplit:
    """One split as a reader found it: values (N, C, …), labels where there are any, and where each row came from."""

    values: Tensor
    labels: Labels | None
    origin: Sequence[str]


def kind_of_names(names: Iterable[str]) -> Kind | None:
    """Whether arrays of these names are signals or volumes; None where the names speak of neither, or of both.

    >>> kind_of_names(["train_signals", "train_labels"]), kind_of_names(["X", "y"])
    ('signal', None)
    """
    words = {word for name in names for word in re.findall(r"[a-z]+", name.casefold())}
    found = [kind for kind, known in _WORDS.items() if words & set(known)]
    return found[0] if len(found) == 1 else None


def pairs_of(arrays: Mapping[str, NDArray[np.generic]], *, where: str, notes: list[str]) -> dict[str, Pair]:
    """Named arrays sorted into splits with inputs and labels; `signal`, `volume` and the like mean inputs.

    Raises:
        DataError: Two arrays want one place, or there are no inputs.
    """
    pattern = "|".join(word for words in _WORDS.values() for word in words)
    called = {re.sub(rf"(?i)(?<![a-z])({pattern})(?![a-z])", "inputs", name): name for name in arrays}
    if len(called) < len(arrays):
        return arrays_by_split(arrays, where=where, notes=notes)
    plain = {word: arrays[name] for word, name in called.items()}
    told: list[str] = []
    pairs = arrays_by_split(plain, where=where, notes=told)
    notes += [_as_called(note, called) for note in told]
    return pairs


def _as_called(note: str, called: Mapping[str, str]) -> str:
    """A note with the names that stand in the file; only the first word, of the inputs, can be another."""
    word, space, rest = note.partition(" ")
    return f"{called.get(word, word)}{space}{rest}"


def positions_from_arrays(
    pairs: Mapping[str, Pair], config: DataConfig, *, kind: Kind, reader: str, source: str, notes: list[str]
) -> Data:
    """Data with a column `signal` or `volume` from arrays.

    Args:
        pairs: Split -> inputs and labels. Signals (N, T), (N, C, T) or (N, T, C); volumes (N, D, H, W), (N, C, D, H, W) or
            (N, D, H, W, C).

    Raises:
        ShapeError: Other dimensions, different shapes in the splits, or channels that could stand in two places.
        DtypeError: Not numbers.
        DataError: Values that are not finite, labels that are no classes.
    """
    shapes = {pair.inputs.shape[1:] for pair in pairs.values()}
    if len(shapes) > 1:
        raise ShapeError(
            f"The splits have {kind}s of different shapes: { {s: p.inputs.shape for s, p in pairs.items()} }.",
            where=source,
            accepts=f"{kind}s of one shape in all splits",
            mend="cut or resample one of them",
        )
    for split, pair in pairs.items():
        _check(pair, kind, f"{source}, {split} inputs")
    order = _axes(next(iter(pairs.values())).inputs.shape, config, kind=kind, where=source, notes=notes)
    if kind == "signal":
        tensors, maximum = {split: _floats(pair.inputs, source, split) for split, pair in pairs.items()}, None
    else:
        packed = compact({split: pair.inputs for split, pair in pairs.items()}, where=source)
        tensors, maximum = packed.tensors, packed.maximum
        notes += packed.notes
    splits = {}
    for split, pair in pairs.items():
        labels = class_labels(pair.labels, config, notes, f"{source}, {split} labels")
        origin = RowNames(f"{split} row", np.arange(len(pair.inputs)), joint=" ")
        splits[split] = PositionSplit(arranged(tensors[split], order), labels, origin)
    return position_data(splits, kind=kind, reader=reader, source=source, notes=notes, maximum=maximum)


def position_data(
    splits: Mapping[str, PositionSplit],
    *,
    kind: Kind,
    reader: str,
    source: str,
    faults: FaultList | None = None,
    notes: Sequence[str] = (),
    maximum: float | None = None,
) -> Data:
    """Data from splits: one class list for all, splits in the usual order.

    Raises:
        DataError: There are no rows.
    """
    faults = faults or FaultList()
    used = {name: splits[name] for name in order_splits(splits) if len(splits[name].values)}
    if not used:
        raise no_rows(source, faults)
    names = order_classes(n for split in used.values() if split.labels is not None for n in split.labels.names)
    columns: dict[str, Columns] = {}
    specs: dict[str, ColumnSpec] = {}
    for name, split in used.items():
        tensors: dict[str, Tensor] = {kind: split.values}
        specs[kind] = column_spec(ROLES[kind], split.values, maximum=maximum)
        if split.labels is not None:
            tensors["label"] = split.labels.indexed(names)
            specs["label"] = column_spec("label", tensors["label"], classes=names)
        columns[name] = Columns(tensors, origin=split.origin)
    spec = DataSpec(columns=specs, num_rows={name: split.num_rows for name, split in columns.items()}, reader=reader)
    said = [*notes, *faults.notes()]
    said += [f"The {name} split has no labels." for name, split in used.items() if split.labels is None and names]
    return Data(splits=columns, spec=spec, reader=reader, source=source, faults=faults.faults, notes=said)


def arranged(tensor: Tensor, order: Literal["none", "first", "last"]) -> Tensor:
    """(N, …), (N, C, …) or (N, …, C) with the channels second, contiguous."""
    if order == "none":
        return tensor.unsqueeze(1)
    return tensor.movedim(-1, 1).contiguous() if order == "last" else tensor


def channels_first(shapes: Iterable[tuple[int, ...]], wanted: tuple[int, ...]) -> bool | None:
    """Whether arrays (N, …) have their channels second, where a wanted row shape (C, …) tells; None where it does not.

    >>> channels_first([(5, 128, 3), (5,)], (3, 128)), channels_first([(5, 3, 3)], (3, 3))
    (False, None)
    """
    last = (*wanted[1:], wanted[0])
    found = {shape[1:] for shape in shapes if len(shape) == len(wanted) + 1}
    if wanted == last or len(found) != 1:
        return None
    return True if found == {wanted} else False if found == {last} else None


def _check(pair: Pair, kind: Kind, where: str) -> None:
    inputs, labels = pair
    dims = (2, 3) if kind == "signal" else (4, 5)
    shapes = (
        "(N, steps), (N, channels, steps) or (N, steps, channels)"
        if kind == "signal"
        else "(N, depth, height, width), (N, channels, depth, height, width) or (N, depth, height, width, channels)"
    )
    if inputs.dtype.kind not in "buif":
        raise DtypeError(
            f"The {kind}s are {inputs.dtype}, not numbers.",
            where=where,
            accepts="whole or floating numbers",
            mend="convert them with numpy.asarray(…, dtype='float32'); series of different lengths must be cut or padded first",
        )
    if inputs.ndim not in dims or 0 in inputs.shape:
        raise ShapeError(
            f"The {kind}s are shaped {inputs.shape}.",
            where=where,
            accepts=shapes,
            mend="reshape the array" if inputs.size else "check what was selected: there are no values",
        )
    if labels is not None and (labels.ndim == 0 or len(labels) != len(inputs)):
        raise ShapeError(
            f"There are {len(inputs)} {kind}s but labels shaped {labels.shape}.",
            where=where,
            accepts=f"one label per {kind}",
            mend="check that both were selected alike",
        )


def _axes(
    shape: tuple[int, ...], config: DataConfig, *, kind: Kind, where: str, notes: list[str]
) -> Literal["none", "first", "last"]:
    """Where the channels stand in an array (N, …), and a note that says why."""
    inner = shape[1:]
    text = f"(N, {', '.join(map(str, inner))})"
    if len(inner) == (1 if kind == "signal" else 3):
        notes.append(f"Arrays shaped {text} are read as {kind}s with one channel.")
        return "none"
    if config.channels_first is not None:
        place: Literal["first", "last"] = "first" if config.channels_first else "last"
        notes.append(f"Arrays shaped {text} are read with the channels {_place(place)}, as said.")
        return place
    first, last = (_may_be_channels(inner, axis, kind) for axis in (0, -1))
    if first == last:
        raise ShapeError(
            f"Arrays shaped {text} could have their channels second or last."
            if first
            else f"Of arrays shaped {text} neither the second nor the last axis is clearly that of the channels.",
            where=where,
            accepts="(N, channels, steps)" if kind == "signal" else "(N, channels, depth, height, width)",
            mend="say data.channels_first=true (channels second) or data.channels_first=false (last)",
        )
    place = "first" if first else "last"
    why = (
        f"the other axis is at least {_LONGER} times as long"
        if kind == "signal"
        else "only there are 1, 3 or 4 of them"
    )
    notes.append(f"Arrays shaped {text} are read with the channels {_place(place)}: {why}.")
    return place


def _place(place: Literal["first", "last"]) -> str:
    return "second" if place == "first" else "last"


def _may_be_channels(inner: tuple[int, ...], axis: int, kind: Kind) -> bool:
    if kind == "volume":
        return inner[axis] in (1, 3, 4)
    steps = inner[-1 if axis == 0 else 0]
    return inner[axis] <= _MOST_CHANNELS and inner[axis] * _LONGER <= steps


def _floats(array: NDArray[np.generic], source: str, split: str) -> Tensor:
    values = array.astype(np.float32)
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        value = next(v for v in values[row].reshape(-1).tolist() if not math.isfinite(v))
        raise DataError(
            f"{int(bad.sum())} signals hold values that are not finite; the first has {value}.",
            where=f"{source}, {split} row {row}",
            accepts="finite numbers",
            mend="fill gaps first (numpy.interp), or leave these rows out",
        )
    return torch.from_numpy(values)
