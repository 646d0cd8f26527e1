"""Splits of named columns with roles: what readers make, preprocessing fits on and batches are gathered from.

A `Columns` is a table of compact tensors (uint8 for pixels) with equal row counts. A `DataSpec` is what a model and a
task need to know about it, small and serialisable; it travels in the bundle. `Data` holds the splits, the spec, and
where the rows came from.

Canonical columns, by which tasks find their input:
    image     uint8 (N, C, H, W), channels first
    signal    float32 (N, C, T), channels first: series of equal length, role `series`
    volume    uint8 or float32 (N, C, D, H, W), channels first; of a clip D counts its frames
    label     int64 (N,), index into `spec.columns["label"].classes`
    number    float32 (N, F): numeric features of a table, NaN where missing
    category  int64 (N, F'): categorical features, -1 where missing; `classes` of each in `fields`
    target    float32 (N, T): regression targets
    text      uint8, ragged (data/ragged.py): UTF-8; with `words`, words divided by line ends; `text_pair`: the second of a pair
    tokens    int32, ragged: `text` as numbers of a tokenizer
    tags      int64, ragged: one per word, index into `spec.columns["tags"].classes`
    series    float32 (T, C): a time series, one row per time stamp; `time` int64 (T,): seconds since 1970
Other columns keep their own name and a role (`group`, `weight`, `id`, `text`, `tokens`, `series`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import ShapeError

Role = Literal[
    "image",
    "label",
    "number",
    "category",
    "target",
    "group",
    "weight",
    "id",
    "text",
    "tokens",
    "tags",
    "series",
    "volume",
]
# What a model can read of a batch, by the column's name; the first that is there counts.
MODEL_INPUTS: Final = ("image", "signal", "volume", "features", "input_ids", "past")


class FieldSpec(Config):
    """One feature inside a `number`, `category` or `target` column."""

    name: str = Field(description="Header of the column in the file.")
    classes: tuple[str, ...] | None = Field(None, description="Names of the values of a categorical field, in order.")


class SeriesTiming(Config):
    """How the rows of a time series follow each other."""

    seconds: int = Field(0, description="From one row to the next; 0 where the step is counted in months.", ge=0)
    months: int = Field(0, description="From one row to the next; 0 where the step is counted in seconds.", ge=0)
    season: int = Field(1, description="Rows after which the series repeats itself.", ge=1)
    gaps: Literal["stop", "ignore", "previous", "interpolate"] = Field(
        "stop", description="What missing rows and cells did while reading; files for prediction are read alike."
    )
    naive_error: tuple[float, ...] = Field(
        (),
        description="Per field, the mean absolute error of repeating the season before, over the training rows.",
    )


class ColumnSpec(Config):
    """What one column holds."""

    role: Role = Field(description="What a task uses the column for.")
    dtype: str = Field(description="Element type as torch names it, without the `torch.`.")
    shape: tuple[int, ...] = Field((), description="Shape of one row; empty for scalars; -1 where rows differ.")
    classes: tuple[str, ...] | None = Field(None, description="Class names of a label, in index order.")
    fields: tuple[FieldSpec, ...] = Field((), description="Features of a table column, in order.")
    maximum: float | None = Field(
        None, description="Largest value an image's elements can have; None: the largest of its dtype."
    )
    mean: tuple[float, ...] | None = Field(None, description="Mean of a regression target over the training split.")
    std: tuple[float, ...] | None = Field(
        None, description="Standard deviation of a regression target over the training split."
    )
    vocab_size: int | None = Field(None, description="Of tokens, how many different ones there are.", ge=1)
    timing: SeriesTiming | None = Field(None, description="Of a time series, its step and season.")
    words: bool = Field(False, description="Whether a text is a list of words, divided by line ends.")
    planar: bool = Field(
        False, description="Whether rows of pixels in text files hold the channels plane by plane, not interleaved."
    )
    resize: Literal["crop", "stretch", "letterbox"] | None = Field(
        None,
        description="How image files of any size are fitted to `shape` (see data.resize); nothing: another size is an error.",
    )
    crop_fraction: float = Field(1.0, description="With resize=crop, as data.crop_fraction.", gt=0, le=1)
    fill: tuple[int, ...] = Field(
        (0,), description="With resize=letterbox, the colour around the image.", min_length=1, max_length=4
    )
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="How image files are scaled.")


class DataSpec(Config):
    """What a model and a task need to know about data; it is in the bundle."""

    columns: dict[str, ColumnSpec] = Field(description="Column name -> what it holds.")
    num_rows: dict[str, int] = Field(description="Split name -> rows.")
    reader: str = Field("", description="Name of the reader that understood the data.")
    ordered: bool = Field(
        False, description="Whether rows follow each other (a time series, running text), so that splits are stretches."
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the label column; empty when there is none."""
        label = self.columns.get("label")
        return label.classes or () if label is not None else ()

    @property
    def model_input(self) -> ColumnSpec | None:
        """Of preprocessed data, the column that a model reads: `image`, `signal`, `volume`, `features`, `input_ids` or `past`."""
        return next((self.columns[name] for name in MODEL_INPUTS if name in self.columns), None)

    def column(self, role: Role) -> ColumnSpec | None:
        """The column named after its role, or the first of that role."""
        found = self.columns.get(role)
        return found or next((spec for spec in self.columns.values() if spec.role == role), None)


class Columns(Mapping[str, Tensor]):
    """Named tensors with the same number of rows; indexing by name gives a tensor, `take` gives chosen rows.

    Args:
        tensors: Column name -> tensor (N, …). Memory-mapped tensors are fine.
        origin: One text per row or None: where the row came from (`train.csv:17`, `cats/1.jpg`), for messages.

    Attributes:
        in_memory: Tensors by name cost nothing. False in subclasses that load rows on demand (`data/decoded_ahead.py`):
            there `columns["image"]` would load everything, so walk through `chunks()` or ask for a `batch`.

    Raises:
        ShapeError: The row counts differ.
    """

    in_memory = True

    @property
    def raw(self) -> Columns:
        """The columns as they were read; itself but for splits whose texts were made tokens (data/text/encoder.py)."""
        return self

    def __init__(self, tensors: Mapping[str, Tensor], *, origin: Sequence[str] | None = None) -> None:
        self._tensors = dict(tensors)
        counts = {name: len(tensor) for name, tensor in self._tensors.items()}
        if len(set(counts.values())) > 1:
            raise ShapeError(
                f"The columns have different numbers of rows: {counts}.",
                where="Columns",
                accepts="one row per sample in every column",
                mend="cut or extend the shorter columns",
            )
        self.num_rows = next(iter(counts.values()), 0)
        self.origin = origin

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __contains__(self, name: object) -> bool:
        # Mapping's own would fetch the column, which a subclass may have to load.
        return any(name == known for known in self)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def take(self, rows: Tensor) -> Columns:
        """The chosen rows (int64 indices), copied, in the given order."""
        origin = [self.origin[i] for i in rows.tolist()] if self.origin is not None else None
        return Columns({name: tensor[rows] for name, tensor in self._tensors.items()}, origin=origin)

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """The chosen rows of every column, and `row`: their indices, by which random draws are keyed."""
        gathered = {name: tensor.index_select(0, rows) for name, tensor in self._tensors.items()}
        gathered["row"] = rows
        return gathered

    def upcoming(self, rows: Tensor) -> None:
        """Hear which rows will be asked for next; columns that load on demand begin with it in the background."""

    def chunks(self, size: int = 4096) -> Iterator[dict[str, Tensor]]:
        """All rows in order as batches of `size`; how statistics are taken without holding everything in memory."""
        for start in range(0, self.num_rows, size):
            stop = min(start + size, self.num_rows)
            self.upcoming(torch.arange(stop, min(stop + size, self.num_rows)))
            yield self.batch(torch.arange(start, stop))


@dataclass
class Fault:
    """Something in a file that could not be used as it is; the row was left out.

    `stops` is False for what is worth telling but no reason not to train (a text file among images).
    """

    file: str
    message: str
    row: int | None = None
    column: str | None = None
    value: str | None = None
    stops: bool = True

    def describe(self) -> dict[str, Any]:
        """The JSON form in `lamina data`."""
        return {"file": self.file, "row": self.row, "column": self.column, "value": self.value, "message": self.message}


@dataclass
class Data:
    """Splits with their spec and provenance.

    Attributes:
        splits: Split name (`train`, `valid`, `test`, or `all` before splitting) -> columns.
        spec: Kept in step with `splits`.
        reader: Name of the reader.
        source: Path or name that was read.
        faults: What was found and left out.
        notes: Sentences that say how the file was understood.
        rows: Split name -> int64 row numbers in the order of the files, for the run's saved split.
        fingerprint: sha256 over the compact tensors, hexadecimal.
    """

    splits: dict[str, Columns]
    spec: DataSpec
    reader: str = ""
    source: str = ""
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: dict[str, Tensor] = field(default_factory=dict)
    fingerprint: str = ""

    def with_splits(self, splits: Mapping[str, Columns], rows: Mapping[str, Tensor] | None = None) -> Data:
        """The same data divided differently; the spec's row counts follow."""
        counts = {name: columns.num_rows for name, columns in splits.items()}
        spec = self.spec.model_copy(update={"num_rows": counts})
        return Data(
            splits=dict(splits),
            spec=spec,
            reader=self.reader,
            source=self.source,
            faults=self.faults,
            notes=self.notes,
            rows=dict(rows or {}),
            fingerprint=self.fingerprint,
        )


def column_spec(role: Role, tensor: Tensor, **more: Any) -> ColumnSpec:
    """The ColumnSpec of a tensor (N, …): its dtype and row shape, and what else is given."""
    return ColumnSpec(role=role, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape[1:]), **more)


def batch_to(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The batch on a device; no copy when it is there already."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
