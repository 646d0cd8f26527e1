"""`load_data`: a path, the name of an embedded dataset, arrays, a data frame or a torch Dataset -> Data.

Which reader understands a path is decided by what the files hold: every registered reader says how sure it is and why.
`data.reader` decides instead. What was understood stands in `Data.notes`.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lamina.core import registry
from lamina.core.errors import ConfigError, DataError, DtypeError, UnknownNameError
from lamina.data import readers
from lamina.data.columns import Columns, Data, DataSpec
from lamina.data.config import DataConfig
from lamina.data.frames import data_from_frames, holds_frames
from lamina.data.ragged import LENGTH, RaggedColumns
from lamina.data.readers.arrays import (
    Pair,
    as_array,
    data_from_arrays,
    pair_from_dataset,
    pair_from_tuple,
    pairs_from_mapping,
)
from lamina.data.readers.base import Guess, Reader
from lamina.data.readers.positions import Kind, positions_from_arrays
from lamina.data.readers.sources import Source, missing_path
from lamina.data.readers.table_csv import TableReader
from lamina.data.readers.text_like import config_like, reader_like, words_like
from lamina.data.readers.volumes import read_positions
from lamina.data.series import as_windows
from lamina.data.series_inputs import series_like

# Two readers whose confidence differs by less than this are both named in the notes.
_CLOSE: Final = 0.1
_LEAST: Final = 0.2
# Readers that say what arrays are, whoever holds them; each is called after the column that it makes.
POSITION_READERS: Final = ("signal", "volume")
# Columns larger than the first are fingerprinted by rows spread over them, of about the second in all.
_WHOLE_BYTES: Final = 1 << 30
_SAMPLE_BYTES: Final = 64 << 20
_HASHED_ROWS: Final = 4096
_HASHED_NUMBERS: Final = 1 << 22


def load_data(source: Any, *, config: DataConfig | None = None, **fields: Any) -> Data:
    """Read data from wherever it is.

    Args:
        source: A path (file, folder, archive), the name of an embedded dataset, `(X, y)`, a mapping of splits to `(X, y)`
            or of names to arrays, a pandas DataFrame, a torch Dataset, or Data (returned as it is).
            A name that is both an embedded dataset and a path means the dataset; `./name` means the path.
        config: The `data` section of a recipe.
        fields: Fields of it to change, such as `label="digit"` or `shape=(28, 28)`.

    Returns:
        Data with the splits as they were found, not yet divided; `notes` say how the source was understood.

    Raises:
        DataError: There is nothing at the path, no reader understands it, or rows cannot be used (unless
            `on_fault="skip"`, which leaves them out and lists them in `Data.faults`).
        ConfigError: A field does not exist or has a wrong value.

    Example:
        >>> load_data("digits").splits["all"]["image"].shape
        torch.Size([1797, 1, 8, 8])
    """
    config = DataConfig(**{**(config.values() if config is not None else {}), **fields})
    if isinstance(source, Data):
        return source
    data = _from_name_or_path(source, config) if isinstance(source, str | Path) else _from_objects(source, config)
    stop_at_faults(data, config)
    image = data.spec.columns.get("image")
    if config.resize != "crop" and (image is None or image.resize is None):
        data.notes.append(
            f"data.resize={config.resize} has no effect: only image files are fitted while reading; the preprocessing step "
            "`resize` scales images of other kinds."
        )
    if not data.fingerprint:
        data.fingerprint = fingerprint(data.splits)
    return data


def load_like(source: Any, *, spec: DataSpec, config: DataConfig | None = None) -> Data:
    """Labelled data to be judged by a model.

    As `load_data`, but a table in files is read by the columns of the model's own data instead of by what its few
    rows look like: what was a number, category or class in training is one here.

    Args:
        spec: The model's data spec before preprocessing. Where it says how photographs were fitted, those of `source` are
            fitted alike.

    Raises:
        DataError: As `load_data`; or a feature or the target of training is missing.
    """
    config = config or DataConfig()
    image = spec.columns.get("image")
    if image is not None and image.resize is not None and isinstance(source, str | Path):
        # Photographs are brought to the size and channels of training, in the same way.
        channels, height, width = image.shape
        fitting = {name: getattr(image, name) for name in ("resize", "crop_fraction", "fill", "interpolation")}
        return load_data(source, config=config, shape=(height, width, channels), **fitting)
    position = next((name for name in POSITION_READERS if name in spec.columns), None)
    if position is not None and config.reader is None:
        config = config.model_copy(update={"reader": position})
    if position is not None and isinstance(source, str | Path) and source not in _embedded_names():
        path = Path(source).expanduser()
        if not path.exists():
            raise missing_path(path, also=_embedded_names())
        data = read_positions(Source(path, max_bytes=config.max_memory_mb << 20), config, spec.columns[position])
        stop_at_faults(data, config)
        data.fingerprint = fingerprint(data.splits)
        return data
    if "past" in spec.columns and isinstance(source, str | Path):
        path = Path(source).expanduser()
        if not path.exists():
            raise missing_path(path, also=_embedded_names())
        data = series_like(Source(path, max_bytes=config.max_memory_mb << 20), config, spec)
        stop_at_faults(data, config)
        data.fingerprint = fingerprint(data.splits)
        return as_windows(data)
    if "text" in spec.columns and isinstance(source, str | Path) and source not in _embedded_names():
        return _texts_like(Path(source).expanduser(), config, spec)
    is_table = "number" in spec.columns or "category" in spec.columns
    if isinstance(source, str | Path) and is_table and source not in _embedded_names() and Path(source).exists():
        opened = Source(Path(source).expanduser(), max_bytes=config.max_memory_mb << 20)
        if isinstance(sniff_all(opened)[0][0], TableReader):
            data = TableReader().read_like(opened, config, spec=spec, answers=True)
            stop_at_faults(data, config)
            data.fingerprint = fingerprint(data.splits)
            return data
    return load_data(source, config=config)


def _texts_like(path: Path, config: DataConfig, spec: DataSpec) -> Data:
    """Texts as those of a model: read by its reader where that understands them, with its kind of answer."""
    if not path.exists():
        raise missing_path(path, also=_embedded_names())
    if config.reader in (None, spec.reader):
        opened = Source(path, max_bytes=config.max_memory_mb << 20)
        config = config.model_copy(update={"reader": reader_like(opened, spec, sniff_all(opened))})
    try:
        data = load_data(path, config=config, **config_like(config, spec))
    except UnknownNameError:
        if config.label is not None:
            raise
        data = load_data(path, config=config)  # other columns than in training; the last holds the tags, as ever
    return words_like(data, spec)


def _from_name_or_path(source: str | Path, config: DataConfig) -> Data:
    embedded = _embedded_names()
    if isinstance(source, str) and source in embedded:
        data = _embedded(source, config)
        data.source = data.source or source
        if Path(source).exists():
            data.notes.append(
                f"There is also a path {source!r}; this is the embedded dataset. ./{source} means the path."
            )
        return data
    path = Path(source).expanduser()
    if not path.exists():
        raise missing_path(path, also=embedded)
    if config.options:
        raise _no_options(config, f"{path} is read from files", "nothing, for data in files")
    return read_path(path, config)


def _embedded(name: str, config: DataConfig) -> Data:
    entry = registry.lookup("dataset", name)
    make = cast("Callable[..., Data]", entry.target)
    if not config.options:
        return make(config)
    if entry.config is None:
        raise _no_options(config, f"{name} is what it is", "nothing, for a dataset that is not generated")
    return make(config, entry.config.from_values(config.options, where="data.options"))


def _no_options(config: DataConfig, why: str, accepts: str) -> ConfigError:
    key = next(iter(config.options))
    return ConfigError(
        f"There is no option {key!r}: {why}.",
        where=f"data.options.{key}",
        accepts=accepts,
        mend=f"leave data.options.{key} out; generators such as spirals and rings have options",
    )


def _embedded_names() -> list[str]:
    if not registry.INDEX_FILE.exists():  # a source tree in which nobody has made the index yet
        for name in ("embedded", "generators", "position_generators"):
            importlib.import_module(f"lamina.data.{name}")
    return registry.names("dataset")


def read_path(path: Path, config: DataConfig) -> Data:
    """Read a path with the reader that is surest of it, or with the one that `data.reader` names."""
    opened = Source(path, max_bytes=config.max_memory_mb << 20)
    if not any(file.size for file in opened.files):
        raise DataError(
            "The file is empty." if not opened.is_folder else "The folder holds no files, or only empty ones.",
            where=str(path),
            accepts="data in one of the formats that `lamina list readers` names",
            mend="check the path, or whether a download was cut off",
        )
    if config.reader is not None:
        entry = registry.lookup("reader", config.reader, where="data.reader")
        reader = cast("Callable[[], Reader]", entry.target)()
        data = reader.read(opened, config)
        data.notes.insert(0, f"Read with {config.reader}, as said (data.reader).")
        return data
    guesses = sniff_all(opened)
    if config.shape is not None:
        guesses = _for_images(guesses)
    best, guess = guesses[0]
    if guess.confidence < _LEAST:
        raise _not_understood(opened, guesses)
    data = best.read(opened, config)
    data.notes.insert(0, f"Read with {best.name}: {guess.reason}.")
    for other, also in guesses[1:]:
        if also.confidence > max(_LEAST, guess.confidence - _CLOSE):
            data.notes.append(f"It could also be read with data.reader={other.name}: {also.reason}.")
    return data


def _for_images(guesses: list[tuple[Reader, Guess]]) -> list[tuple[Reader, Guess]]:
    """A stated image shape rules out what makes no images; a table of numbers is then rows of pixels."""
    images = [pair for pair in guesses if "image" in pair[0].makes or "volume" in pair[0].makes]
    table = next((guess for reader, guess in guesses if "number" in reader.makes), Guess(0.0, ""))
    if images[0][1].confidence < _LEAST < table.confidence:
        rows = Guess(_LEAST, "it holds rows of numbers, and data.shape makes images of them")
        return [(reader, rows) for reader, _ in images if reader.name == "pixel-csv"]
    return images


def sniff_all(source: Source) -> list[tuple[Reader, Guess]]:
    """Every registered reader with its guess, the surest first (by name where equally sure)."""
    for found in pkgutil.iter_modules(readers.__path__, f"{readers.__name__}."):
        importlib.import_module(found.name)  # all of them are asked, so all must be registered, index or not
    known = [
        cast("Callable[[], Reader]", registry.lookup("reader", name).target)() for name in registry.names("reader")
    ]
    guesses = [(reader, reader.sniff(source)) for reader in known]
    return sorted(guesses, key=lambda pair: (-pair[1].confidence, pair[0].name))


def _not_understood(source: Source, guesses: list[tuple[Reader, Guess]]) -> DataError:
    names = ", ".join(file.name for file in source.files[:5]) or "no files"
    reasons = "; ".join(f"{reader.name}: {guess.reason}" for reader, guess in guesses)
    return DataError(
        f"No reader understands what is there: {names}{', …' if len(source.files) > 5 else ''}.",
        where=str(source),
        accepts=reasons,
        mend="choose a reader with data.reader=…; `lamina list readers` says what each one reads",
    )


def _from_objects(source: Any, config: DataConfig) -> Data:
    notes: list[str] = []
    kind = type(source).__name__
    classes: tuple[str, ...] | None = None
    if holds_frames(source):
        return data_from_frames(source, config)
    if isinstance(source, Dataset):
        pair, classes = pair_from_dataset(source, max_bytes=config.max_memory_mb << 20)
        pairs = {"all": pair}
    elif isinstance(source, tuple):
        pairs = {"all": pair_from_tuple(source, where="data")}
    elif isinstance(source, Mapping):
        pairs, classes = pairs_from_mapping(source, config=config, notes=notes)
    elif hasattr(source, "__array__") or isinstance(source, Tensor):
        pairs = {"all": Pair(as_array(source, where="data"), None)}
    else:
        raise DtypeError(
            f"Data cannot be made from a {kind}.",
            where="load_data, argument `source`",
            accepts="a path, the name of an embedded dataset, (X, y), {'train': (X, y)}, named arrays, a DataFrame, a torch Dataset",
            mend="convert it to arrays: (X, y)",
        )
    if config.reader in POSITION_READERS or any(pair.inputs.ndim == 5 for pair in pairs.values()):
        position = "signal" if config.reader == "signal" else "volume"
        return positions_from_arrays(
            pairs, config, kind=cast("Kind", position), reader="arrays", source=kind, notes=notes
        )
    return data_from_arrays(pairs, config, reader="arrays", source=kind, notes=notes, classes=classes)


def stop_at_faults(data: Data, config: DataConfig) -> None:
    """Raise a DataError for the first fault, unless `on_fault` says to leave such rows out."""
    stopping = [fault for fault in data.faults if fault.stops]
    if not stopping or config.on_fault == "skip":
        return
    first = stopping[0]
    place = first.file + (f", row {first.row}" if first.row is not None else "")
    place += f", column {first.column!r}" if first.column is not None else ""
    others = f" There are {len(stopping)} faults in all." if len(stopping) > 1 else ""
    value = f" (it is {first.value!r})" if first.value is not None else ""
    raise DataError(
        f"{first.message[:1].upper()}{first.message[1:].rstrip('.')}{value}.{others}",
        where=place,
        accepts="files without faults, or data.on_fault=skip",
        mend=f"`lamina data {data.source}` lists them all; correct the file, or leave such rows out with data.on_fault=skip",
    )


def fingerprint(splits: Mapping[str, Columns]) -> str:
    """sha256 (hexadecimal) over the splits' names, columns, shapes and values.

    Of a column beyond 1 GiB, or one that is loaded on demand, rows spread evenly stand for all: 64 MiB of them, at most 4,096.
    """
    digest = hashlib.sha256()
    for split in sorted(splits):
        columns = splits[split]
        digest.update(f"{split}:{columns.num_rows}".encode())
        sample: dict[str, Tensor] = {}
        if not columns.in_memory and columns.num_rows:
            one = columns.batch(torch.zeros(1, dtype=torch.int64))
            sample = columns.batch(_spread(columns.num_rows, sum(tensor.nbytes for tensor in one.values())))
        ragged = columns.ragged if isinstance(columns, RaggedColumns) else {}
        for name, rows in sorted(ragged.items()):
            sample |= {name: rows.values, f"{name}{LENGTH}": rows.lengths}
        for name in sorted({*columns, *(f"{name}{LENGTH}" for name in ragged)}):
            tensor = sample[name] if name in sample else columns[name]
            if tensor.nbytes > _WHOLE_BYTES:
                tensor = tensor[_spread(len(tensor), tensor[0].nbytes)]
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            for part in tensor.split(_HASHED_ROWS if tensor.ndim > 1 else _HASHED_NUMBERS):
                digest.update(part.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _spread(num_rows: int, row_bytes: int) -> Tensor:
    """Evenly spread row numbers, int64."""
    count = min(num_rows, 4096, max(16, _SAMPLE_BYTES // max(row_bytes, 1)))
    return torch.arange(count) * num_rows // count
