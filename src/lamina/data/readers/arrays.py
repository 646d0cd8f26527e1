"""The user's own arrays: NumPy arrays, tensors, data frames and torch Datasets, wherever a path is accepted.

What an array is, is told by its dimensions and names and said in the notes: four dimensions are images, three are grey
images, two are a table (or rows of pixels with `data.shape`). Labels are whole numbers or texts; floating targets make a
regression. (N, 1) against (N,) is never broadcast: labels shaped (N, 1) are flattened and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from lamina.core.errors import DataError, DtypeError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec, FieldSpec, column_spec
from lamina.data.config import DataConfig
from lamina.data.readers.base import ImageSplit, Labels, RowNames, image_data, order_splits, split_of
from lamina.data.readers.decompression import too_large
from lamina.data.readers.pixels import channels_are_first, compact, image_shape, rows_to_images

_INPUT_WORDS: Final = frozenset(
    ["x", "image", "images", "img", "imgs", "data", "feature", "features", "input", "inputs", "pixel", "pixels"]
)
_LABEL_WORDS: Final = frozenset(["y", "label", "labels", "target", "targets", "class", "classes"])
_SPLIT_NAMES: Final = ("train", "valid", "test", "all")


class Pair(NamedTuple):
    """Inputs (N, …) and labels (N, …) or None of one split."""

    inputs: NDArray[np.generic]
    labels: NDArray[np.generic] | None


def role_of_name(name: str) -> Literal["x", "y"] | None:
    """Whether an array's name speaks of inputs or of labels.

    >>> [role_of_name(name) for name in ("x_train", "train_labels", "arr_1", "weights")]
    ['x', 'y', 'y', None]
    """
    words = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", _apart(name)).casefold()))
    if words & _LABEL_WORDS or name == "arr_1":
        return "y"
    return "x" if words & _INPUT_WORDS or name == "arr_0" else None


def _apart(name: str) -> str:
    """`xtrain` -> `x_train`."""
    return re.sub(r"^([xyXY])(train|test|val|valid|dev)", r"\1_\2", name)


def arrays_by_split(arrays: Mapping[str, NDArray[np.generic]], *, where: str, notes: list[str]) -> dict[str, Pair]:
    """Sort named arrays into splits with inputs and labels; what has another name is left out and said.

    Raises:
        DataError: Two arrays want one place, or there are no inputs.
    """
    found: dict[str, dict[str, tuple[str, NDArray[np.generic]]]] = {}
    unused = []
    for name, array in arrays.items():
        role = role_of_name(name)
        if role is None and len(arrays) == 1:
            role = "x"
        if role is None:
            unused.append(name)
            continue
        place = found.setdefault(split_of(_apart(name)) or "all", {})
        if role in place:
            raise DataError(
                f"The arrays {place[role][0]!r} and {name!r} both look like {'inputs' if role == 'x' else 'labels'}.",
                where=where,
                accepts="per split one array of inputs (x, images, data) and one of labels (y, labels, target)",
                mend="leave one of them out, or give arrays as {'train': (X, y)}",
            )
        place[role] = (name, array)
    inputs = {split: place for split, place in found.items() if "x" in place}
    if not inputs:
        raise DataError(
            f"No array holds inputs; there are {', '.join(arrays) or 'none'}.",
            where=where,
            accepts="names such as x_train and y_train, train_images and train_labels, X and y, images and labels",
            mend="rename the arrays, or give them as {'train': (X, y)}",
        )
    unused += [place["y"][0] for split, place in found.items() if split not in inputs]
    if unused:
        notes.append(f"Arrays that are not used: {', '.join(unused)}.")
    for place in inputs.values():
        said = f"{place['x'][0]} is read as inputs"
        notes.append(f"{said}, {place['y'][0]} as labels." if "y" in place else f"{said}, without labels.")
    return {s: Pair(place["x"][1], place["y"][1] if "y" in place else None) for s, place in inputs.items()}


def data_from_arrays(
    pairs: Mapping[str, Pair],
    config: DataConfig,
    *,
    reader: str,
    source: str,
    notes: list[str],
    classes: Sequence[str] | None = None,
) -> Data:
    """Data from the arrays of the splits.

    Args:
        classes: Names that whole-number labels index (a Dataset's `classes`); default: the numbers are the names.

    Raises:
        DataError: Row counts that differ, values that cannot be used.
        ShapeError: Dimensions that make no sense, or differ between splits.
        DtypeError: Not numbers.
    """
    for split, pair in pairs.items():
        _check_pair(split, pair, source)
    dims = {pair.inputs.ndim for pair in pairs.values()}
    first = next(iter(pairs.values())).inputs
    if len(dims) > 1 or len({pair.inputs.shape[1:] for pair in pairs.values()}) > 1:
        raise ShapeError(
            f"The splits have inputs of different shapes: { {s: p.inputs.shape for s, p in pairs.items()} }.",
            where=source,
            accepts="inputs of one shape in all splits",
            mend="convert one of them",
        )
    if first.ndim == 2 and config.shape is None:
        return _table(pairs, config, reader=reader, source=source, notes=notes, classes=classes)
    origin = {split: RowNames(f"{split} row", np.arange(len(pair.inputs)), joint=" ") for split, pair in pairs.items()}
    if any(isinstance(pair.inputs, np.memmap) and pair.inputs.dtype == np.uint8 for pair in pairs.values()):
        tensors, maximum = {s: torch.from_numpy(_writable(p.inputs)) for s, p in pairs.items()}, None
    else:
        packed = compact({split: pair.inputs for split, pair in pairs.items()}, where=source)
        tensors, maximum = packed.tensors, packed.maximum
        notes += packed.notes
    images = {split: _as_images(tensor, config, notes, source) for split, tensor in tensors.items()}
    answers = {s: _answers(p.labels, config, notes, f"{source}, {s} labels", classes) for s, p in pairs.items()}
    classes = _known(classes, answers)
    if any(isinstance(answer, Tensor) for answer in answers.values()):
        return _with_targets(images, answers, origin, reader=reader, source=source, notes=notes, maximum=maximum)
    splits = {
        split: ImageSplit(images[split], answer if isinstance(answer, Labels) else None, origin[split])
        for split, answer in answers.items()
    }
    return image_data(splits, reader=reader, source=source, notes=notes, classes=classes, maximum=maximum)


def _known(classes: Sequence[str] | None, answers: Mapping[str, Labels | Tensor | None]) -> Sequence[str] | None:
    """The stated classes, unless the labels are names of their own."""
    used = {name for answer in answers.values() if isinstance(answer, Labels) for name in answer.names}
    return classes if classes is not None and used <= {str(name) for name in classes} else None


def _writable(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.asarray(array) if array.flags.writeable else array.copy()


def _check_pair(split: str, pair: Pair, source: str) -> None:
    inputs, labels = pair
    where = f"{source}, {split} inputs"
    if inputs.dtype.kind not in "buif":
        raise DtypeError(
            f"The inputs are {inputs.dtype}, not numbers.",
            where=where,
            accepts="an array of whole or floating numbers",
            mend="convert it with numpy.asarray(…, dtype='float32'); images of different sizes belong into a folder",
        )
    if inputs.ndim not in (2, 3, 4):
        raise ShapeError(
            f"The inputs are shaped {inputs.shape}.",
            where=where,
            accepts="(N, features), (N, height, width), (N, channels, height, width) or (N, height, width, channels)",
            mend="inputs.reshape(-1, 1) makes a table with one feature" if inputs.ndim == 1 else "reshape the inputs",
        )
    if len(inputs) == 0:
        raise ShapeError(
            f"The inputs are shaped {inputs.shape}: there are no rows.",
            where=where,
            accepts="at least one row",
            mend="check what was selected",
        )
    if labels is not None and (labels.ndim == 0 or len(labels) != len(inputs)):
        raise ShapeError(
            f"There are {len(inputs)} rows of inputs but labels shaped {labels.shape}.",
            where=where,
            accepts="one label per row",
            mend="check that inputs and labels were selected alike",
        )


def _as_images(tensor: Tensor, config: DataConfig, notes: list[str], where: str) -> Tensor:
    if tensor.ndim == 2:
        shape, said = image_shape(tensor.shape[1], config, where=where)
        images = rows_to_images(tensor, shape)
    elif tensor.ndim == 3:
        said = f"Arrays shaped (N, {tensor.shape[1]}, {tensor.shape[2]}) are read as grey images."
        images = tensor.unsqueeze(1)
    else:
        first, said = channels_are_first((len(tensor), *tensor.shape[1:]), config, where=where)
        said = said.replace(f"({len(tensor)},", "(N,")
        images = tensor if first else tensor.permute(0, 3, 1, 2)
        images = images if images.is_contiguous() or tensor.nbytes > (1 << 30) else images.contiguous()
    if said not in notes:
        notes.append(said)
    return images


def _answers(
    labels: NDArray[np.generic] | None,
    config: DataConfig,
    notes: list[str],
    where: str,
    classes: Sequence[str] | None,
) -> Labels | Tensor | None:
    """Labels, or a float32 target (N, T), or None."""
    if labels is None:
        return None
    kind = labels.dtype.kind
    if kind == "O":
        texts = [str(value) for value in labels.reshape(-1).tolist()]
        if any(not isinstance(value, str) for value in labels.reshape(-1).tolist()):
            raise DtypeError(
                "The labels are Python objects of several types.",
                where=where,
                accepts="whole numbers, texts or floating numbers",
                mend="convert them with numpy.asarray(labels, dtype=str) or dtype='int64'",
            )
        labels, kind = np.array(texts, dtype=np.str_).reshape(labels.shape), "U"
    wants_number = config.target == "number" or (config.target is None and kind == "f")
    if wants_number:
        return _targets(labels, where)
    if labels.ndim == 2 and labels.shape[1] == 1:
        note = "Labels shaped (N, 1) are read as (N,)."
        if note not in notes:
            notes.append(note)
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ShapeError(
            f"The labels are shaped {labels.shape}.",
            where=where,
            accepts="one class per row, shaped (N,)",
            mend="labels.argmax(1) turns one-hot rows into classes; data.target=number makes several targets",
        )
    if kind in "SU":
        return Labels.of_names([str(text) for text in labels.astype(np.str_).tolist()])
    if kind == "f":
        floats = labels.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(floats) | (floats != np.floor(floats)))
        if len(bad):
            raise DataError(
                f"The label {floats[bad[0]]} is no whole number.",
                where=f"{where}, row {int(bad[0])}",
                accepts="whole numbers as classes",
                mend="use data.target=number for a regression",
            )
    whole = labels.astype(np.int64)
    if classes is None:
        return Labels.of_integers(whole)
    if whole.min() < 0 or whole.max() >= len(classes):
        row = int(np.flatnonzero((whole < 0) | (whole >= len(classes)))[0])
        raise DataError(
            f"The label {int(whole[row])} is outside the {len(classes)} classes.",
            where=f"{where}, row {row}",
            accepts=f"0 to {len(classes) - 1}",
            mend="correct the label or the list of classes",
        )
    return Labels(torch.from_numpy(whole), tuple(str(name) for name in classes))


def class_labels(labels: NDArray[np.generic] | None, config: DataConfig, notes: list[str], where: str) -> Labels | None:
    """Labels as classes, whatever numbers they are; None without labels.

    Raises:
        ShapeError, DtypeError, DataError: They are no classes.
    """
    found = _answers(labels, config.model_copy(update={"target": "class"}), notes, where, None)
    assert not isinstance(found, Tensor)
    return found


def _targets(labels: NDArray[np.generic], where: str) -> Tensor:
    if labels.dtype.kind not in "buif" or labels.ndim > 2:
        raise ShapeError(
            f"The targets are {labels.dtype} shaped {labels.shape}.",
            where=where,
            accepts="floating numbers shaped (N,) or (N, targets)",
            mend="convert them with numpy.asarray(…, dtype='float32')",
        )
    values = torch.from_numpy(labels.astype(np.float32)).reshape(len(labels), -1)
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        raise DataError(
            f"The target {float(values[row, column])} is not finite.",
            where=f"{where}, row {row}",
            accepts="finite targets",
            mend="remove the rows without a target",
        )
    return values


def _with_targets(
    images: Mapping[str, Tensor],
    answers: Mapping[str, Labels | Tensor | None],
    origin: Mapping[str, Sequence[str]],
    *,
    reader: str,
    source: str,
    notes: list[str],
    maximum: float | None,
) -> Data:
    """Images with numbers to be predicted."""
    plain = {split: ImageSplit(images[split], None, origin[split]) for split in images}
    data = image_data(plain, reader=reader, source=source, notes=notes, maximum=maximum)
    return _add_answers(data, answers, classes=None)


def _add_answers(data: Data, answers: Mapping[str, Labels | Tensor | None], *, classes: Sequence[str] | None) -> Data:
    """The data with a `label` or `target` column in every split that has answers."""
    kinds = {type(answer) for answer in answers.values() if answer is not None}
    if len(kinds) > 1:
        raise DtypeError(
            "Some splits have classes as labels and others floating numbers.",
            where=data.source,
            accepts="labels of one kind in all splits",
            mend="convert them, or say data.target=class or data.target=number",
        )
    named = [answer.names for answer in answers.values() if isinstance(answer, Labels)]
    names = tuple(classes or ()) or Labels.of_names([n for some in named for n in some]).names
    specs: dict[str, ColumnSpec] = dict(data.spec.columns)
    splits: dict[str, Columns] = {}
    for split, columns in data.splits.items():
        answer = answers[split]
        tensors = dict(columns)
        if isinstance(answer, Labels):
            tensors["label"] = answer.indexed(names)
            specs["label"] = column_spec("label", tensors["label"], classes=names)
        elif answer is not None:
            fields = tuple(
                FieldSpec(name=f"target{i}" if answer.shape[1] > 1 else "target") for i in range(answer.shape[1])
            )
            tensors["target"] = answer
            specs["target"] = column_spec("target", answer, fields=fields)
        splits[split] = Columns(tensors, origin=columns.origin)
    data.spec = data.spec.model_copy(update={"columns": specs})
    return data.with_splits(splits)


def _table(
    pairs: Mapping[str, Pair],
    config: DataConfig,
    *,
    reader: str,
    source: str,
    notes: list[str],
    classes: Sequence[str] | None,
) -> Data:
    splits: dict[str, Columns] = {}
    answers: dict[str, Labels | Tensor | None] = {}
    for split in order_splits(pairs):
        inputs, labels = pairs[split]
        number = torch.from_numpy(inputs.astype(np.float32))
        infinite = torch.nonzero(torch.isinf(number))
        if len(infinite):
            row, column = (int(i) for i in infinite[0])
            raise DataError(
                f"The value {float(number[row, column])} is not finite.",
                where=f"{source}, {split} inputs, row {row}, column {column}",
                accepts="finite numbers; NaN stands for a missing value",
                mend="replace or remove it",
            )
        splits[split] = Columns({"number": number}, origin=RowNames(f"{split} row", np.arange(len(number)), joint=" "))
        answers[split] = _answers(labels, config, notes, f"{source}, {split} labels", classes)
    width = next(iter(pairs.values())).inputs.shape[1]
    notes.append(
        f"Arrays shaped (N, {width}) are read as a table; data.shape=[height,width] would make images of them."
    )
    fields = tuple(FieldSpec(name=f"x{i}") for i in range(width))
    spec = DataSpec(
        columns={"number": ColumnSpec(role="number", dtype="float32", shape=(width,), fields=fields)},
        num_rows={split: columns.num_rows for split, columns in splits.items()},
        reader=reader,
    )
    data = Data(splits=splits, spec=spec, reader=reader, source=source, notes=notes)
    return _add_answers(data, answers, classes=_known(classes, answers))


# --- what users hand over ----------------------------------------------------------------------------------------------


def as_array(value: Any, *, where: str) -> NDArray[np.generic]:
    """A copy of an array, tensor or nested list as NumPy (memory-mapped arrays stay mapped).

    Raises:
        DtypeError: It is none, or its rows differ in length.
    """
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        array: NDArray[np.generic] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
        return array
    if isinstance(value, np.memmap):
        return value
    try:
        return np.array(value)
    except ValueError:
        raise DtypeError(
            f"A {type(value).__name__} whose rows differ in length is no array.",
            where=where,
            accepts="arrays, tensors or nested lists with equal rows",
            mend="bring the rows to one length; images of different sizes belong into a folder",
        ) from None


def pairs_from_mapping(
    source: Mapping[str, Any], *, config: DataConfig, notes: list[str]
) -> tuple[dict[str, Pair], Any]:
    """Splits from `{"train": (X, y), "test": (X, y)}`, `{"train": Dataset}`, or named arrays; and class names if any.

    Raises:
        DataError: A key is no split's name, or a value is nothing that can be read.
    """
    if any(isinstance(value, Dataset) or _is_pair(value) for value in source.values()):
        pairs: dict[str, Pair] = {}
        classes = None
        for name, value in source.items():
            split = name if name in _SPLIT_NAMES else split_of(name)
            if split is None or split in pairs:
                raise DataError(
                    f"{name!r} is no split's name." if split is None else f"Two splits are called {split!r}.",
                    where="data, keys of the mapping",
                    accepts="each of train, valid and test once",
                    mend="rename the key",
                )
            if isinstance(value, Dataset):
                pairs[split], found = pair_from_dataset(value, max_bytes=config.max_memory_mb << 20)
                classes = classes or found
            else:
                pairs[split] = pair_from_tuple(value, where=f"data, {name}")
        return pairs, classes
    arrays = {str(name): as_array(value, where=f"data, {name}") for name, value in source.items()}
    return arrays_by_split(arrays, where="data", notes=notes), None


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], int | float)


def pair_from_tuple(value: Sequence[Any], *, where: str) -> Pair:
    """(X, y) as arrays.

    Raises:
        DataError: Not two things.
    """
    if len(value) != 2:
        raise DataError(
            f"A tuple of {len(value)} is not (inputs, labels).",
            where=where,
            accepts="(X, y); y may be None",
            mend="give {'train': (X, y), 'test': (X, y)} for several splits",
        )
    labels = None if value[1] is None else as_array(value[1], where=f"{where}, labels")
    return Pair(as_array(value[0], where=f"{where}, inputs"), labels)


def pair_from_dataset(dataset: Dataset[Any], *, max_bytes: int) -> tuple[Pair, tuple[str, ...] | None]:
    """All items of a torch Dataset as arrays, and its `classes` where it has them.

    Raises:
        DataError: It is empty, its items are no (input, label), or they take more than `max_bytes`.
        ShapeError: Its items differ in shape.
    """
    where = type(dataset).__name__
    classes = getattr(dataset, "classes", None)
    names = tuple(str(name) for name in classes) if isinstance(classes, list | tuple) else None
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) <= 2:
        labels = as_array(dataset.tensors[1], where=where) if len(dataset.tensors) == 2 else None
        return Pair(as_array(dataset.tensors[0], where=where), labels), names
    inputs: list[NDArray[np.generic]] = []
    answers: list[Any] = []
    num_bytes = 0
    for place, item in enumerate(_items(dataset)):
        value, label = _item(item, where=f"{where}, item {place}")
        array = np.asarray(value) if isinstance(value, Image.Image) else as_array(value, where=f"{where}, item {place}")
        if inputs and array.shape != inputs[0].shape:
            raise ShapeError(
                f"The input is shaped {array.shape}, those before {inputs[0].shape}.",
                where=f"{where}, item {place}",
                accepts="inputs of one shape",
                mend="resize in the Dataset's transform, or give the image folder itself, which is resized for you",
            )
        num_bytes += array.nbytes
        if num_bytes > max_bytes:
            raise too_large(where, max_bytes)
        inputs.append(array)
        answers.append(label)
    if not inputs:
        raise DataError("The Dataset is empty.", where=where, accepts="at least one item", mend="check how it was made")
    if all(label is None for label in answers):
        return Pair(np.stack(inputs), None), names
    plain = [label.item() if isinstance(label, Tensor) and label.ndim == 0 else label for label in answers]
    return Pair(np.stack(inputs), as_array([as_plain(label) for label in plain], where=f"{where}, labels")), names


def as_plain(label: Any) -> Any:
    """A label as something that NumPy makes an array of."""
    return label.detach().cpu().numpy() if isinstance(label, Tensor) else label


def _items(dataset: Dataset[Any]) -> Iterable[Any]:
    if isinstance(dataset, IterableDataset):
        return dataset
    return (dataset[i] for i in range(len(dataset)))  # type: ignore[arg-type]


def _item(item: Any, *, where: str) -> tuple[Any, Any]:
    if isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    if isinstance(item, Mapping):
        roles = {role_of_name(str(name)): value for name, value in item.items()}
        if "x" in roles:
            return roles["x"], roles.get("y")
    if isinstance(item, Tensor | np.ndarray | Image.Image):
        return item, None
    raise DataError(
        f"An item is a {type(item).__name__}, not (input, label).",
        where=where,
        accepts="(input, label), an input alone, or a mapping with names such as image and label",
        mend="return (input, label) from the Dataset",
    )
