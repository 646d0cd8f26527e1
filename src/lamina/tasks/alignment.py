"""Data read from another file, brought into the order that a model was trained on: everything matches by name.

A file to be judged may list fewer classes than the training data, list them in another order, or have its columns
elsewhere. Its indices then mean something else than the model's. Here labels, categories, features and targets are
matched by their names; what has no counterpart is an error that lists it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

import torch
from torch import Tensor

from lamina.core.errors import DataError, nearest
from lamina.data.columns import Columns, ColumnSpec, DataSpec
from lamina.data.ragged import Ragged, RaggedColumns
from lamina.data.readers.pixels import LARGEST_UNUSUAL


def align_columns(columns: Columns, *, found: DataSpec, wanted: DataSpec, needed: Sequence[str] = ()) -> Columns:
    """Columns as a model's data spec means them.

    Args:
        columns: What was read.
        found: Its spec.
        wanted: The spec of the model's own data.
        needed: Columns that must be there, such as `label`.

    Returns:
        The same rows; `label`, `category`, `number` and `target` in the model's order, everything else as it is.

    Raises:
        DataError: A class, feature, target or column has no counterpart, or pixels have another range.
    """
    for name in needed:
        if name not in columns:
            _refuse(
                f"The data has no column {name!r}; it has {', '.join(columns) or 'none'}.",
                where="the data to be judged",
                accepts=f"the columns of the training data: {', '.join(wanted.columns)}",
                mend="name the column of the labels with data.label=…"
                if name in ("label", "target")
                else "look at what the file holds with `lamina data`",
            )
    changed: dict[str, Tensor | Ragged] = {}
    for name, spec in wanted.columns.items():
        other = found.columns.get(name)
        if name not in columns or other is None:
            continue
        if spec.role in ("image", "volume"):
            _check_size(columns, name, spec, other)
            _check_range(columns, name, spec, other)
        elif spec.role == "label" and other.classes != spec.classes:
            changed[name] = _labels(columns, name, spec.classes or (), other.classes or ())
        elif spec.role == "tags" and other.classes != spec.classes and isinstance(columns, RaggedColumns):
            changed[name] = _tags(columns, name, spec.classes or (), other.classes or ())
        elif spec.role in ("number", "target") and other.fields != spec.fields:
            changed[name] = _numbers(columns[name], spec, other, found)
        elif spec.role == "category" and other.fields != spec.fields:
            changed[name] = _categories(columns[name], spec, other, found)
    if not changed:
        return columns
    if isinstance(columns, RaggedColumns):
        return columns.replaced(changed)
    fixed = {name: tensor for name, tensor in changed.items() if isinstance(tensor, Tensor)}
    return Columns({**{name: columns[name] for name in columns}, **fixed}, origin=columns.origin)


def _labels(columns: Columns, name: str, wanted: Sequence[str], found: Sequence[str]) -> Tensor:
    labels = columns[name]
    mapped: Tensor = _table(wanted, found)[labels]
    _refuse_strangers(columns, name, labels, mapped, torch.arange(len(labels)), wanted=wanted, found=found)
    return mapped


def _tags(columns: RaggedColumns, name: str, wanted: Sequence[str], found: Sequence[str]) -> Ragged:
    tags = columns.ragged[name]
    mapped: Tensor = _table(wanted, found)[tags.values]
    rows = torch.repeat_interleave(torch.arange(len(tags)), tags.lengths)
    _refuse_strangers(columns, name, tags.values, mapped, rows, wanted=wanted, found=found)
    return Ragged(mapped, tags.offsets)


def _refuse_strangers(
    columns: Columns,
    name: str,
    labels: Tensor,
    mapped: Tensor,
    rows: Tensor,
    *,
    wanted: Sequence[str],
    found: Sequence[str],
) -> None:
    """Refuse labels (or tags) that became -1; `rows` says in which row each stands."""
    if bool((mapped < 0).any()):
        counts = torch.bincount(labels[mapped < 0], minlength=len(found))
        strangers = [(found[i], int(n)) for i, n in enumerate(counts.tolist()) if n]
        first = int(rows[(mapped < 0).nonzero()[0, 0]])
        near = nearest(strangers[0][0], wanted)
        shown = ", ".join(f"{label!r} ({n} rows)" for label, n in strangers[:12])
        _refuse(
            f"The data has classes that the model does not know: {shown}{' …' if len(strangers) > 12 else ''}.",
            where=columns.origin[first] if columns.origin is not None else f"column {name!r}, row {first}",
            accepts=", ".join(map(repr, wanted[:24])) + (f" … ({len(wanted)} in all)" if len(wanted) > 24 else ""),
            mend=f"rename {strangers[0][0]!r} to {near[0]!r} in the data"
            if near
            else "rename the classes in the data, or leave those rows out",
        )


def _table(wanted: Sequence[str], found: Sequence[str]) -> Tensor:
    """Index among `found` -> index among `wanted`, -1 where there is none; int64."""
    place = {label: index for index, label in enumerate(wanted)}
    return torch.tensor([place.get(label, -1) for label in found], dtype=torch.int64)


def _places(spec: ColumnSpec, other: ColumnSpec, found: DataSpec) -> list[int]:
    """For each wanted field the place of the field of that name in what was read."""
    place = {field.name: index for index, field in enumerate(other.fields)}
    missing = [field.name for field in spec.fields if field.name not in place]
    if missing:
        elsewhere = {
            field.name: column.role
            for column in found.columns.values()
            for field in column.fields
            if column is not other
        }
        kind = {"number": "numbers", "target": "numbers", "category": "categories"}[spec.role]
        if missing[0] in elsewhere:
            what = f"{missing[0]!r} was read as {elsewhere[missing[0]]}; in training it held {kind}"
        else:
            what = f"The data has no {', '.join(map(repr, missing[:12]))}"
        near = nearest(missing[0], place)
        _refuse(
            f"{what}.",
            where=f"columns of {kind}",
            accepts=", ".join(repr(field.name) for field in spec.fields[:24]),
            mend=f"is {near[0]!r} the same? Then rename it to {missing[0]!r}"
            if near
            else "give a file with the columns of the training data; `lamina data` shows what was read",
        )
    return [place[field.name] for field in spec.fields]


def _numbers(tensor: Tensor, spec: ColumnSpec, other: ColumnSpec, found: DataSpec) -> Tensor:
    return tensor[:, _places(spec, other, found)]


def _categories(tensor: Tensor, spec: ColumnSpec, other: ColumnSpec, found: DataSpec) -> Tensor:
    """Values that the training data did not have become -1, which preprocessing takes as missing."""
    pieces = []
    for field, place in zip(spec.fields, _places(spec, other, found), strict=True):
        codes = tensor[:, place]
        table = torch.cat([_table(field.classes or (), other.fields[place].classes or ()), torch.tensor([-1])])
        pieces.append(table[codes])  # -1 reads the last entry
    return torch.stack(pieces, dim=1)


def _check_size(columns: Columns, name: str, spec: ColumnSpec, other: ColumnSpec) -> None:
    """Images of another size or with other channels would reach the model, whose error speaks of axes."""
    if len(spec.shape) != 3 or len(other.shape) != 3 or spec.shape == other.shape:
        return
    channels, height, width = spec.shape
    found = "x".join(map(str, other.shape[1:]))
    same_size = other.shape[1:] == spec.shape[1:]
    _refuse(
        f"The images are {found} with {_channels(other.shape[0])}; in training they were {height}x{width} with {_channels(channels)}.",
        where=columns.origin[0] if columns.origin is not None and columns.num_rows else f"column {name!r}",
        accepts=f"images of {height}x{width} with {_channels(channels)}",
        mend=f"convert the images to {_channels(channels)}, for example with Pillow's Image.convert"
        if same_size
        else f"resize the images to {height}x{width} first; image files are resized by themselves where those of training were files",
    )


def _channels(number: int) -> str:
    return f"{number} channel{'s' if number > 1 else ''}"


def _check_range(columns: Columns, name: str, spec: ColumnSpec, other: ColumnSpec) -> None:
    """Pixels of 0 to 255 given to a model of 0 to 16 would be judged in silence, and wrongly."""
    limits: Mapping[str, float] = {"uint8": 255.0, "uint16": 65535.0}
    wanted, declared = (one.maximum or limits.get(one.dtype) for one in (spec, other))
    if wanted is None or declared == wanted:
        return
    largest = max(float(chunk[name].max()) for chunk in columns.chunks())
    if largest <= wanted and other.maximum is not None and _may_be_darker(spec, other):
        return
    if largest > wanted or (other.maximum is not None and other.maximum != wanted):
        _refuse(
            f"The images' values go up to {declared if largest <= wanted else largest:g}; in training they went up to {wanted:g}.",
            where=f"column {name!r}",
            accepts=f"values from 0 to {wanted:g}",
            mend=f"scale the images to 0 … {wanted:g} before",
        )


def _may_be_darker(spec: ColumnSpec, other: ColumnSpec) -> bool:
    """Whether the range differs only because few images were read: readers take the largest pixel where it is unusually small.

    Of a range of 0 to 16, a handful of images may well reach 15 only; that they reach no more than a half would be strange.
    """
    if spec.dtype != other.dtype or spec.maximum is None or other.maximum is None or spec.maximum <= 1.0:
        return False
    return spec.maximum <= LARGEST_UNUSUAL and spec.maximum / 2 <= other.maximum <= spec.maximum


def _refuse(what: str, *, where: str, accepts: str, mend: str) -> NoReturn:
    raise DataError(what, where=where, accepts=accepts, mend=mend)
