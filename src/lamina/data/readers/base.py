"""What every reader shares: how sure it is, what a split is called, in which order classes stand, how images become Data."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, Fault, Role, column_spec
from lamina.data.decoded_ahead import LoadedColumns, RowLoader
from lamina.data.splits import ORDER, SPLIT_NAMES

if TYPE_CHECKING:
    from lamina.data.config import DataConfig
    from lamina.data.readers.sources import Source, SourceFile

MAX_FAULTS: Final = 1000
_HINTS: Final = {word: split for word, split in SPLIT_NAMES.items() if split != "all"}


class Guess(NamedTuple):
    """How sure a reader is that a source is its own (0: it is not, 1: it can be nothing else), and why."""

    confidence: float
    reason: str


class Reader(ABC):
    """Reads one format. Registered as kind `reader`; built without arguments.

    Attributes:
        name: Under which it is registered.
        makes: Roles of the columns that it makes: a stated `data.shape` leaves only readers of images to choose from.
    """

    name: str
    makes: tuple[Role, ...] = ()

    @abstractmethod
    def sniff(self, source: Source) -> Guess:
        """How sure the reader is, from content first and endings second; looks at a few KiB, never raises for bad content."""

    @abstractmethod
    def read(self, source: Source, config: DataConfig) -> Data:
        """Read everything.

        Rows that cannot be used are left out and listed in `Data.faults`; `load_data` decides by `data.on_fault`
        whether they stop.

        Raises:
            DataError: What makes the whole unusable.
        """


def split_of(name: str) -> str | None:
    """The split that a file or folder name speaks of: train, valid or test; None when it names none, or several.

    >>> [split_of(n) for n in ("sign_mnist_train_part.csv", "x-dev.tsv", "t10k-images-idx3-ubyte", "contest.csv")]
    ['train', 'valid', 'test', None]
    """
    words = re.findall(r"t10k|[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).casefold())
    trimmed = [word.removesuffix("set") for word in words]
    found = {_HINTS[word] for word in (*words, *trimmed) if word in _HINTS}
    return found.pop() if len(found) == 1 else None


def split_of_file(file: SourceFile, source: Source) -> str:
    """The split of a file from its name, else from the folders on its way, else from the source's name; `all` without a hint."""
    for part in reversed(PurePosixPath(file.name).parts):
        found = split_of(part)
        if found is not None:
            return found
    return split_of_source(source)


def split_of_source(source: Source) -> str:
    """The split that the name of a whole source speaks of; `all` without a hint.

    The name of a folder counts only if it is a split's name and nothing else, because `my_test/` is a likelier name for
    an experiment than for a test split.
    """
    if source.is_folder:
        return _HINTS.get(source.name.casefold(), "all")
    return split_of(source.name) or "all"


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in order: by value when all are whole numbers, by alphabet otherwise.

    >>> order_classes(["10", "9", "2"])
    ('2', '9', '10')
    """
    unique = set(names)
    if all(re.fullmatch(r"-?\d{1,18}", name) for name in unique):
        return tuple(sorted(unique, key=int))
    return tuple(sorted(unique))


class Labels(NamedTuple):
    """Labels of a split: `codes` (N,) int64 index `names`."""

    codes: Tensor
    names: tuple[str, ...]

    @staticmethod
    def of_names(names: Sequence[str]) -> Labels:
        """From one name per row."""
        classes = order_classes(names)
        index = {name: number for number, name in enumerate(classes)}
        return Labels(torch.tensor([index[name] for name in names], dtype=torch.int64), classes)

    def indexed(self, names: Sequence[str]) -> Tensor:
        """The labels as indices of other names, of which these are a subset: int64 (N,)."""
        index = {name: number for number, name in enumerate(names)}
        mapped: Tensor = torch.tensor([index[name] for name in self.names], dtype=torch.int64)[self.codes]
        return mapped

    @staticmethod
    def of_integers(values: NDArray[np.integer]) -> Labels:
        """From whole numbers; gaps are kept: the names are the numbers that occur."""
        unique, codes = np.unique(values, return_inverse=True)
        return Labels(torch.from_numpy(codes.reshape(-1).astype(np.int64)), tuple(str(v) for v in unique.tolist()))


class FaultList:
    """Collects faults, at most MAX_FAULTS of them in full, and counts all."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.num_all = 0

    def add(self, fault: Fault) -> None:
        """Note a fault; beyond the first MAX_FAULTS it is only counted."""
        self.num_all += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(fault)

    def notes(self) -> list[str]:
        """A sentence on the faults that are not listed."""
        hidden = self.num_all - len(self.faults)
        return [f"{hidden} further faults are not listed."] if hidden else []


class RowNames(Sequence[str]):
    """Origins such as `train.csv:17` that are made only when they are asked for.

    Args:
        prefix: File as messages call it.
        numbers: One number per row.
    """

    def __init__(self, prefix: str, numbers: NDArray[np.int64], *, joint: str = ":") -> None:
        self._prefix, self._numbers, self._joint = prefix, numbers, joint

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> RowNames: ...
    def __getitem__(self, index: int | slice) -> str | RowNames:
        if isinstance(index, slice):
            return RowNames(self._prefix, self._numbers[index], joint=self._joint)
        return f"{self._prefix}{self._joint}{self._numbers[index]}"


@dataclass
class ImageSplit:
    """One split as an image reader found it.

    Attributes:
        images: uint8 or float32 (N, C, H, W), or what loads them on demand.
        labels: None where the files have none.
        origin: Where each row came from.
        groups: Further columns of names with the role `group`.
    """

    images: Tensor | RowLoader
    labels: Labels | None
    origin: Sequence[str]
    groups: dict[str, Labels] = field(default_factory=dict)


def image_data(
    splits: Mapping[str, ImageSplit],
    *,
    reader: str,
    source: str,
    faults: FaultList | None = None,
    notes: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    fitting: Mapping[str, Any] | None = None,
    maximum: float | None = None,
    planar: bool = False,
    max_bytes: int = 1 << 30,
) -> Data:
    """Data from image splits: one class list for all, one shape and dtype checked, splits in the usual order.

    Args:
        classes: Names in the order that the files give; default: those that occur, ordered by `order_classes`.
        maximum, planar: As in ColumnSpec.
        fitting: Fields of a ColumnSpec that say how image files were fitted (`Fitting.spec_values`).
        max_bytes: How much of images that are loaded on demand may be asked for at once.

    Raises:
        DataError: There are no rows, the splits' images differ in shape, or rows were all left out.
    """
    faults = faults or FaultList()
    used = {name: splits[name] for name in order_splits(splits) if len(splits[name].images)}
    if not used:
        raise no_rows(source, faults)
    shapes = {name: tuple(split.images.shape[1:]) for name, split in used.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"The splits hold images of different shapes (channels, height, width): {shapes}.",
            where=source,
            accepts="images of one shape in all splits",
            mend="convert one of them, or give one split at a time",
        )
    names = tuple(classes or ()) or order_classes(
        n for s in used.values() if s.labels is not None for n in s.labels.names
    )
    columns: dict[str, Columns] = {}
    specs: dict[str, ColumnSpec] = {}
    for name, split in used.items():
        tensors: dict[str, Tensor] = {}
        if split.labels is not None:
            tensors["label"] = split.labels.indexed(names)
            specs["label"] = column_spec("label", tensors["label"], classes=names)
        for key, groups in split.groups.items():
            values = order_classes(n for s in used.values() if key in s.groups for n in s.groups[key].names)
            tensors[key] = groups.indexed(values)
            specs[key] = column_spec("group", tensors[key], classes=values)
        images = split.images
        specs["image"] = ColumnSpec(
            role="image",
            dtype=str(images.dtype).removeprefix("torch."),
            shape=tuple(images.shape[1:]),
            maximum=maximum,
            planar=planar,
            **(fitting or {}),
        )
        if isinstance(images, Tensor):
            columns[name] = Columns({"image": images, **tensors}, origin=split.origin)
        else:
            columns[name] = LoadedColumns(tensors, loaders={"image": images}, origin=split.origin, max_bytes=max_bytes)
    spec = DataSpec(
        columns={key: specs[key] for key in ("image", *(k for k in specs if k != "image"))},
        num_rows={name: split.num_rows for name, split in columns.items()},
        reader=reader,
    )
    said = [*notes, *faults.notes()]
    said += [f"The {name} split has no labels." for name, split in used.items() if split.labels is None and names]
    return Data(splits=columns, spec=spec, reader=reader, source=source, faults=faults.faults, notes=said)


def no_rows(source: str, faults: FaultList) -> DataError:
    """The error for data of which nothing can be used."""
    first = f" The first of {faults.num_all} faults: {fault_text(faults.faults[0])}" if faults.faults else ""
    return DataError(
        f"There are no rows that can be used.{first}",
        where=faults.faults[0].file if faults.faults else source,
        accepts="at least one row",
        mend="check the file, or whether data.label, data.header and data.shape describe it",
    )


def fault_text(fault: Fault) -> str:
    """One line for a fault: place, then what is wrong."""
    place = [f"row {fault.row}"] if fault.row is not None else []
    place += [f"column {fault.column!r}"] if fault.column is not None else []
    place += [f"value {fault.value!r}"] if fault.value is not None else []
    return f"{', '.join(place)}: {fault.message}" if place else fault.message


def order_splits(names: Iterable[str]) -> list[str]:
    """Split names in the usual order: train, valid, test, then others."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
