"""Data frames (pandas, polars and the like) wherever a path is accepted; neither library is imported."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np

from lamina.core.errors import DataError, DtypeError
from lamina.data.columns import Columns, Data, column_spec
from lamina.data.config import DataConfig
from lamina.data.readers.pixels import compact, image_shape, rows_to_images
from lamina.data.splits import normalise_split_name
from lamina.data.table_roles import columns_from_table
from lamina.data.tables import RawTable, table_from_columns

TARGET: Final = "target"
_PIXEL: Final = re.compile(r"(?:pixels?|px|pix)[ _\-.]*\d+(?:[ _x,\-]\d+)?", re.IGNORECASE)


def is_frame(value: Any) -> bool:
    """Whether something is a data frame: it has named columns that indexing gives."""
    return hasattr(value, "columns") and hasattr(value, "__getitem__") and not isinstance(value, Mapping)


def holds_frames(source: Any) -> bool:
    """Whether a source is a frame, (frame, target), or a mapping of splits to these."""
    if isinstance(source, Mapping):
        return bool(source) and all(holds_frames(value) and not isinstance(value, Mapping) for value in source.values())
    return is_frame(source[0] if isinstance(source, tuple) and source else source)


def data_from_frames(source: Any, config: DataConfig) -> Data:
    """Data of what `holds_frames` recognises, by the rules of tables in files.

    Args:
        source: A frame that has the target among its columns; (frame, target), the target a series or array or None; or
            {"train": …, "test": …} of these.

    Raises:
        DataError: Two splits of one meaning, a target of another length, or what `columns_from_table` refuses.
        DtypeError: Some splits come with a target apart and others without.
    """
    given = dict(source) if isinstance(source, Mapping) else {"all": source}
    apart = {isinstance(value, tuple) for value in given.values()}
    if len(apart) > 1:
        raise DtypeError(
            "Some splits are frames and others are (frame, target).",
            where="data",
            accepts="all splits alike",
            mend="give (frame, target) for each split",
        )
    name = _target_name(given) if apart == {True} else None
    tables: dict[str, RawTable] = {}
    for key, value in given.items():
        split = normalise_split_name(str(key))
        if split in tables:
            raise DataError(
                f"Two splits are understood as {split!r}: {', '.join(map(str, given))}.",
                where="data",
                accepts="each of train, valid and test once",
                mend="rename the key",
            )
        tables[split] = _table(value, name, where=f"frame {split!r}" if len(given) > 1 else "frame")
    labelled = name is None or any(name in table.names for table in tables.values())
    if name is not None and labelled:
        config = config.model_copy(update={"label": name})
    kind = type(next(iter(given.values()))).__name__ if name is None else "(frame, target)"
    data = columns_from_table(tables, config, reader="frame", source=kind, labelled=labelled)
    number = data.spec.columns.get("number")
    named = number is not None and all(_PIXEL.fullmatch(field.name) for field in number.fields)
    return _with_images(data, config) if named or config.shape is not None else data


def _with_images(data: Data, config: DataConfig) -> Data:
    """The features as pixels of images."""
    if "category" in data.spec.columns or "number" not in data.spec.columns:
        raise DataError(
            "The frame has categories, so its columns are not pixels.",
            where="data.shape",
            accepts="columns of numbers beside the label",
            mend="leave data.shape out, or remove the columns that are no pixels",
        )
    shape, said = image_shape(data.spec.columns["number"].shape[0], config, where="frame")
    packed = compact({name: columns["number"].numpy() for name, columns in data.splits.items()}, where="frame")
    splits = {}
    for name, columns in data.splits.items():
        others = {key: tensor for key, tensor in columns.items() if key != "number"}
        image = rows_to_images(packed.tensors[name], shape)
        splits[name] = Columns({"image": image, **others}, origin=columns.origin)
    spec = column_spec("image", next(iter(splits.values()))["image"], maximum=packed.maximum)
    others_spec = {key: column for key, column in data.spec.columns.items() if key != "number"}
    data.spec = data.spec.model_copy(update={"columns": {"image": spec, **others_spec}})
    data.notes += [said, *packed.notes]
    return data.with_splits(splits)


def _table(value: Any, name: str | None, *, where: str) -> RawTable:
    if name is None:
        return table_from_columns(value, where=where)
    frame, target = value
    table = table_from_columns(frame, where=where)
    if target is None:
        return table
    answers = table_from_columns([(name, _one_column(target))], where=f"{where}, target")
    if len(answers.lines) != len(table.lines):
        raise DataError(
            f"The frame has {len(table.lines)} rows, the target {len(answers.lines)}.",
            where=where,
            accepts="one target per row",
            mend="check that both were selected alike",
        )
    return replace(table, columns=(*table.columns, *answers.columns))


def _one_column(target: Any) -> Any:
    array = np.asarray(target)
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    return target if array.ndim == 1 else array


def _target_name(given: Mapping[Any, Any]) -> str:
    """The series' own name where it has one that no feature has."""
    names = {str(column) for frame, _ in given.values() for column in frame.columns}
    own = {getattr(target, "name", None) for _, target in given.values() if target is not None}
    found = own.pop() if len(own) == 1 else None
    name = TARGET if found is None else str(found)
    while name in names:
        name = f"{name} (target)"
    return name
