"""Series that `predict` and `evaluate` are given -> windows as the model was trained on; fields are found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamina.core.errors import DataError, DtypeError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, SeriesTiming
from lamina.data.config import DataConfig
from lamina.data.readers.arrays import as_array
from lamina.data.readers.series import read_series
from lamina.data.readers.sources import Source, missing_path
from lamina.data.series import SeriesColumns, following_times

__all__ = ["SeriesInputs", "series_like"]


def series_like(source: Source, config: DataConfig, spec: DataSpec) -> Data:
    """A series in files, read as the model's own was, not yet cut into windows; their lengths are the model's.

    Raises:
        DataError: A series of training is missing, or the steps are others.
    """
    past, future = spec.columns["past"], spec.columns["future"]
    timing = past.timing or SeriesTiming()
    lengths = {"past_length": past.shape[0], "horizon": future.shape[0], "season": timing.season}
    filling = {"gaps": timing.gaps} if config.gaps == "stop" else {}
    return read_series(source, config.model_copy(update={**lengths, **filling}), like=past)


class SeriesInputs:
    """Reads the past of series whose next rows are wanted: of a file its last rows, of an array likewise.

    Args:
        spec: The model's data spec before preprocessing.
    """

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.past: ColumnSpec = spec.columns["past"]
        self.timing = self.past.timing or SeriesTiming()
        self.length, self.width = self.past.shape

    @property
    def wanted(self) -> str:
        """The model's input in words."""
        names = ", ".join(field.name for field in self.past.fields[:8])
        return f"at least {self.length} rows of {self.width} series ({names})"

    def read(self, item: Any, *, where: str) -> tuple[Columns, list[str]]:
        """One window per file, whose future follows the file's end; one per row of an array (N, rows, series)."""
        if isinstance(item, str | Path):
            return self._path(Path(item).expanduser())
        array = as_array(item, where=where)
        if array.dtype.kind not in "buif":
            raise DtypeError(
                f"The array holds {array.dtype}.",
                where=where,
                accepts="numbers",
                mend="convert it with .astype('float32')",
            )
        values = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        if values.ndim == 1 and self.width == 1:
            values = values.unsqueeze(1)
        if values.ndim == 2:
            values = values.unsqueeze(0)
        if values.ndim != 3 or values.shape[2] != self.width or values.shape[1] < self.length:
            raise ShapeError(
                f"The array is shaped {array.shape}.",
                where=where,
                accepts=f"{self.wanted}: (rows, {self.width}), or (N, rows, {self.width})",
                mend="put time first and the series second, in the order of training",
            )
        if not bool(values.isfinite().all()):
            raise DataError(
                "The array holds a number that is not finite.",
                where=where,
                accepts="finite numbers",
                mend="fill it, for example with the value before",
            )
        names = [where] if len(values) == 1 else [f"{where} {row}" for row in range(len(values))]
        return Columns({"past": values[:, -self.length :]}), [name.removeprefix("inputs ") for name in names]

    def _path(self, path: Path) -> tuple[Columns, list[str]]:
        if not path.exists():
            raise missing_path(path)
        data = series_like(Source(path), DataConfig(), self.spec)
        stretches = [columns for columns in data.splits.values() if isinstance(columns, SeriesColumns)]
        latest = max(stretches, key=lambda columns: int(columns["time"][-1]))
        if data.faults:
            first = data.faults[0]
            raise DataError(
                f"{first.message[:1].upper()}{first.message[1:].rstrip('.')}"
                + (f" (it is {first.value!r})." if first.value else "."),
                where=f"{first.file}, row {first.row}, column {first.column!r}",
                accepts="a series without faults, as in training",
                mend=f"correct the file; `lamina data {path}` lists all {len(data.faults)} faults",
            )
        if latest.num_rows < self.length:
            raise DataError(
                f"The series has {latest.num_rows} rows; the model reads {self.length} of the past.",
                where=str(path),
                accepts=self.wanted,
                mend="give earlier rows too, or train with a smaller data.past_length",
            )
        times = latest["time"][-self.length :]
        following = following_times(int(times[-1]), self.timing, self.spec.columns["future"].shape[0])
        window = {
            "past": latest["series"][-self.length :],
            "past_time": times,
            "future_time": following,
        }
        return Columns({name: tensor.unsqueeze(0).clone() for name, tensor in window.items()}), [str(path)]
