"""Signals and volumes that `predict` is given -> columns as the model was trained on; labels are ignored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamina.core.errors import DataError, DtypeError, ShapeError
from lamina.data.columns import Columns, ColumnSpec
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import join_columns
from lamina.data.loading import stop_at_faults
from lamina.data.readers.arrays import as_array
from lamina.data.readers.positions import Kind, channels_first
from lamina.data.readers.sources import Source, missing_path
from lamina.data.readers.volumes import read_positions


class PositionInputs:
    """Reads inputs of a model of signals or volumes.

    Args:
        kind: Name of the column.
        spec: Of the column in training, before preprocessing.
        channels_first: Whether arrays have their channels second; needed only where both readings fit.
    """

    def __init__(self, kind: Kind, spec: ColumnSpec, channels_first: bool | None) -> None:
        self.kind: Kind = kind
        self.spec = spec
        self.channels_first = channels_first

    @property
    def wanted(self) -> str:
        """The model's inputs in words."""
        channels, *positions = self.spec.shape
        size = "x".join(map(str, positions))
        unit = " steps" if self.kind == "signal" else ""
        return f"{self.kind}s of {size}{unit} with {channels} channel{'s' if channels > 1 else ''}"

    def read(self, item: Any, *, where: str) -> tuple[Columns, list[str]]:
        """Columns with the signals or volumes, and names."""
        if isinstance(item, str | Path):
            return self._path(Path(item).expanduser())
        array = as_array(item, where=where)
        tensor = self._arranged(array, where)
        names = (
            [where.removeprefix("inputs ")] if len(tensor) == 1 else [f"{where} {row}" for row in range(len(tensor))]
        )
        return Columns({self.kind: tensor}), [name.removeprefix("inputs ") for name in names]

    def _path(self, path: Path) -> tuple[Columns, list[str]]:
        if not path.exists():
            raise missing_path(path)
        config = DataConfig(channels_first=self.channels_first)
        data = read_positions(Source(path), config, self.spec)
        stop_at_faults(data, config)
        parts = [Columns({self.kind: columns[self.kind]}, origin=columns.origin) for columns in data.splits.values()]
        columns = parts[0] if len(parts) == 1 else join_columns(parts)
        self._refuse_beyond(columns[self.kind], str(path))
        names = list(columns.origin or [f"{path} row {row}" for row in range(columns.num_rows)])
        return columns, names

    def _arranged(self, array: NDArray[np.generic], where: str) -> torch.Tensor:
        """(N, C, …) of the spec's shape from an array of one or several, with or without a channel axis."""
        if array.dtype.kind not in "buif":
            raise DtypeError(
                f"The array holds {array.dtype}.",
                where=where,
                accepts="whole or floating numbers",
                mend="convert it with .astype('float32')",
            )
        wanted = self.spec.shape
        last = (*wanted[1:], wanted[0])
        rows = array
        if rows.shape in (wanted, last) or (wanted[0] == 1 and rows.shape == wanted[1:]):
            rows = rows[None]
        if wanted[0] == 1 and rows.shape[1:] == wanted[1:]:
            rows = rows[:, None]
        elif rows.shape[1:] in (wanted, last) and wanted != last:
            first = channels_first([rows.shape], wanted)
            if self.channels_first is not None and self.channels_first != first:
                raise self._shape_error(
                    array,
                    where,
                    f"; it is read with the channels {'second' if self.channels_first else 'last'}, as said",
                )
            rows = rows if first else np.moveaxis(rows, -1, 1)
        elif rows.shape[1:] == wanted:  # as many steps as channels
            if self.channels_first is None:
                raise ShapeError(
                    f"An array shaped {array.shape} can be read with the channels second and last.",
                    where=where,
                    accepts=self.wanted,
                    mend="say channels_first=True (second) or channels_first=False (last)",
                )
            rows = rows if self.channels_first else np.moveaxis(rows, -1, 1)
        if rows.shape[1:] != wanted or not len(rows):
            raise self._shape_error(array, where, "")
        values = np.ascontiguousarray(rows)
        if self.spec.dtype == "uint8" and values.dtype == np.uint8:
            return torch.from_numpy(values.copy())
        floats = torch.from_numpy(values.astype(np.float32))
        if not bool(torch.isfinite(floats).all()):
            row = int((~torch.isfinite(floats)).flatten(1).any(1).nonzero()[0, 0])
            raise DataError(
                "The array holds a number that is not finite.",
                where=f"{where}, row {row}",
                accepts="finite numbers",
                mend="remove or replace it, for example with numpy.nan_to_num",
            )
        self._refuse_beyond(floats, where)
        return floats

    def _refuse_beyond(self, values: torch.Tensor, where: str) -> None:
        """Bytes given to a model of 0 to 1, or the reverse, would be judged in silence, and wrongly."""
        bound = 255.0 if self.spec.dtype == "uint8" and self.spec.maximum is None else self.spec.maximum
        if bound is None or self.kind == "signal" or not values.numel():
            return
        low, high = float(values.min()), float(values.max())
        is_shares = bound > 1 and values.is_floating_point() and 0 < high <= 1.0
        if low < 0 or high > bound or is_shares:
            raise DataError(
                f"The values go from {low:g} to {high:g}.",
                where=where,
                accepts=f"numbers from 0 to {bound:g}, as in training",
                mend=f"bring them into the range of training: they were 0 to {bound:g}",
            )

    def _shape_error(self, array: NDArray[np.generic], where: str, said: str) -> ShapeError:
        shape = ", ".join(map(str, self.spec.shape))
        return ShapeError(
            f"The array is shaped {array.shape}{said}.",
            where=where,
            accepts=f"{self.wanted}: (N, {shape})",
            mend="cut, pad or resample as in training, or put the channels second",
        )
