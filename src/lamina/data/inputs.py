"""What `predict` is given -> columns as the model was trained on: pictures, pixel rows, tables, arrays; labels are ignored.

Pictures of other sizes are fitted only where those of training were. Whether an array is NHWC or NCHW is said by
`channels_first`, or follows from the shape that the model wants; it is never guessed. Everything that does not fit is an
error that says what the model wants.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lamina.core.errors import DataError, DtypeError, ShapeError
from lamina.data.columns import Columns, ColumnSpec, Data, DataSpec
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import LoadedColumns, join_columns
from lamina.data.frames import is_frame
from lamina.data.loading import sniff_all, stop_at_faults
from lamina.data.position_inputs import PositionInputs
from lamina.data.readers.arrays import as_array
from lamina.data.readers.fitting import Fitting
from lamina.data.readers.images import (
    ENDINGS,
    FORMATS,
    OTHER_ENDINGS,
    ImageRows,
    decode_image,
    fit_image,
    looks_like_image,
    quiet_pillow,
)
from lamina.data.readers.pixel_csv import PixelCSVReader, understand
from lamina.data.readers.positions import KINDS as POSITION_KINDS
from lamina.data.readers.sources import Source, SourceFile, missing_path
from lamina.data.readers.table_csv import TableReader
from lamina.data.series_inputs import SeriesInputs
from lamina.data.table_matching import columns_like, feature_names
from lamina.data.tables import table_from_columns
from lamina.data.text.inputs import TextInputs

# More pixels than this are decoded while predicting instead of before.
_HELD_BYTES: Final = 512 << 20


def read_inputs(inputs: Any, spec: DataSpec, *, channels_first: bool | None = None) -> tuple[Columns, list[str]]:
    """Inputs of any kind as the columns that a model was trained on, without labels.

    Args:
        inputs: A path, array, tensor, picture, data frame or mapping of columns, or a list of such.
            Paths are picture files, folders and archives of pictures, pixel CSV with or without label, IDX, CIFAR, NPY
            and NPZ for images, tables with the columns of training for tables, what the readers `signal` and `volume` read, a
            CSV with time stamps for a series, whose next rows are forecast, and for text a text itself, a mapping or tuple of
            two for pairs, or a file of texts.
        spec: The model's data spec before preprocessing.
        channels_first: Whether image arrays are NCHW (True) or NHWC (False); needed only where both fit.

    Returns:
        The columns, and a name for each row: path, file and line, or number.

    Raises:
        DataError: A file cannot be read, or holds something else than the model wants.
        ShapeError, DtypeError: An array does not fit.
    """
    if isinstance(inputs, Columns):
        return inputs, _names_of(inputs, "row")
    single = not _is_several(inputs)
    items = [inputs] if single else list(inputs)
    if not items:
        raise DataError(
            "There are no inputs.",
            where="inputs",
            accepts="at least one path or array",
            mend="give files, folders or arrays",
        )
    reader: _ImageInputs | _TableInputs | PositionInputs | TextInputs | SeriesInputs
    kind = next((kind for kind in POSITION_KINDS if kind in spec.columns), None)
    image = spec.column("image")
    if image is not None:
        reader = _ImageInputs(image, channels_first)
    elif "past" in spec.columns:
        reader = SeriesInputs(spec)
    elif "text" in spec.columns:
        reader = TextInputs(spec)
    elif kind is not None:
        reader = PositionInputs(kind, spec.columns[kind], channels_first)
    elif spec.column("number") is not None or spec.column("category") is not None:
        reader = _TableInputs(spec)
    else:
        raise DataError(
            f"Inputs for the columns {', '.join(spec.columns)} are not read from files or arrays.",
            where="inputs",
            accepts="models of images, signals, volumes, tables, time series or text",
            mend="give `Columns` with these columns",
        )
    parts = [reader.read(item, where="inputs" if single else f"input {place}") for place, item in enumerate(items)]
    names = [name for columns, found in parts for name in found]
    return (parts[0][0] if len(parts) == 1 else _joined([columns for columns, _ in parts])), names


def _is_several(inputs: Any) -> bool:
    """Whether a list holds inputs, rather than the numbers of one."""
    if not isinstance(inputs, list | tuple):
        return False
    return all(isinstance(i, str | Path | np.ndarray | Tensor | Image.Image) or is_frame(i) for i in inputs)


def _joined(parts: Sequence[Columns]) -> Columns:
    """All parts one after another; bytes become floats where another part has floats."""
    dtypes = {part[name].dtype for part in parts for name in part if part.in_memory}
    if len(dtypes) > 1 and torch.float32 in dtypes and torch.uint8 in dtypes:
        parts = [Columns({k: v.float() if v.dtype == torch.uint8 else v for k, v in p.items()}) for p in parts]
    return join_columns(parts)


def _names_of(columns: Columns, word: str) -> list[str]:
    if columns.origin is not None:
        return list(columns.origin)
    return [f"{word} {row}" for row in range(columns.num_rows)]


def _existing(path: str | Path) -> Path:
    found = Path(path).expanduser()
    if not found.exists():
        raise missing_path(found)
    return found


# --- images ------------------------------------------------------------------------------------------------------------


class _ImageInputs:
    """Reads inputs of a model of images."""

    def __init__(self, image: ColumnSpec, channels_first: bool | None) -> None:
        self.spec = image
        self.channels, self.height, self.width = image.shape
        self.channels_first = channels_first
        self.fitting = Fitting.of_spec(image)  # None: pictures of another size are refused
        self.in_bytes = image.dtype == "uint8" and image.maximum is None
        # What white in a picture stands for; None where training had a range of its own.
        self.maximum = 255.0 if self.in_bytes else image.maximum

    @property
    def wanted(self) -> str:
        """The model's images in words."""
        return f"images of {self.height}x{self.width} with {self.channels} channel{'s' if self.channels > 1 else ''}"

    def read(self, item: Any, *, where: str) -> tuple[Columns, list[str]]:
        """Columns with `image`, and names."""
        if isinstance(item, str | Path):
            return self._path(_existing(item))
        if isinstance(item, Image.Image):
            self._check_size(item.size, where)
            fitted = fit_image(item, channels=self.channels, fitting=self.fitting)
            return self._of_bytes(torch.from_numpy(fitted.copy()).unsqueeze(0)), [where]
        if is_frame(item):
            item = np.asarray(item.to_numpy())
        array = as_array(item, where=where)
        tensor = self._array(array, where)
        names = [where] if len(tensor) == 1 and array.ndim < 4 else [f"{where} row {row}" for row in range(len(tensor))]
        return Columns({"image": tensor}), [name.removeprefix("inputs ") for name in names]

    def _path(self, path: Path) -> tuple[Columns, list[str]]:
        source = Source(path)
        pictures = [file for file in source.files if file.ending in ENDINGS or _is_picture(file)]
        if pictures:
            for file in source.files:
                _refuse_unread(file)
            return self._pictures(pictures)
        reader, guess = next(
            ((r, g) for r, g in sniff_all(source) if "image" in r.makes and g.confidence > 0.2), (None, None)
        )
        config = DataConfig(shape=self._shape(), channels_first=self.channels_first or (self.spec.planar or None))
        csv = [file for file in source.files if file.ending in (".csv", ".tsv", ".txt", ".data")]
        if isinstance(reader, PixelCSVReader) or (reader is None and csv):
            self._check_pixels(csv[0] if csv else source.files[0], config)
            data = PixelCSVReader().read(source, config)
        elif reader is not None and guess is not None:
            data = reader.read(source, config.model_copy(update={"shape": None}))
        else:
            raise DataError(
                "The file holds no images that can be read.",
                where=str(path),
                accepts=f"{self.wanted}: picture files, folders of them, pixel CSV, IDX, CIFAR, NPY or NPZ",
                mend="check the path; `lamina data PATH` says what is there",
            )
        stop_at_faults(data, config)
        return self._from_data(data)

    def _shape(self) -> tuple[int, ...]:
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)

    def _check_pixels(self, file: SourceFile, config: DataConfig) -> None:
        found = len(understand(file, config).layout.pixels)
        if found != self.channels * self.height * self.width:
            raise DataError(
                f"A row has {found} pixels.",
                where=file.where,
                accepts=f"{self.channels * self.height * self.width} pixels a row: {self.wanted}, with or without a label column",
                mend="convert the images to the size that the model was trained on",
            )

    def _pictures(self, files: Sequence[SourceFile]) -> tuple[Columns, list[str]]:
        names = [file.where for file in files]
        num_bytes = len(files) * self.channels * self.height * self.width
        if num_bytes > _HELD_BYTES and self.fitting is not None and self.in_bytes:
            rows = ImageRows(files, channels=self.channels, fitting=self.fitting)
            return LoadedColumns({}, loaders={"image": rows}, origin=names), names
        with quiet_pillow():
            if self.fitting is not None:
                pixels = ImageRows(files, channels=self.channels, fitting=self.fitting).load(range(len(files)))
            else:
                arrays = [self._of_size(decode_image(file, channels=self.channels), file.where) for file in files]
                pixels = torch.from_numpy(np.stack(arrays))
        return self._of_bytes(pixels), names

    def _of_size(self, pixels: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
        self._check_size((pixels.shape[2], pixels.shape[1]), where)
        return pixels

    def _check_size(self, given: tuple[int, int], where: str) -> None:
        """Refuse a picture (width, height) of another size, if the model was not trained on fitted pictures.

        Raises:
            ShapeError: It has another size.
        """
        if given != (self.width, self.height) and self.fitting is None:
            raise ShapeError(
                f"The picture is {given[1]}x{given[0]} (height x width).",
                where=where,
                accepts=self.wanted,
                mend="resize it as the training images were made; nothing is resized on its own here",
            )

    def _from_data(self, data: Data) -> tuple[Columns, list[str]]:
        found = data.spec.columns["image"]
        if tuple(found.shape) != tuple(self.spec.shape):
            raise ShapeError(
                f"The images are shaped {tuple(found.shape)} (channels, height, width).",
                where=data.source,
                accepts=self.wanted,
                mend="convert the images, or choose another model",
            )
        parts = [_only_image(columns) for columns in data.splits.values()]
        columns = parts[0] if len(parts) == 1 else join_columns(parts)
        names = _names_of(columns, f"{data.source} row")
        if columns.in_memory:
            image = columns["image"]
            if found.dtype == "uint8" and self.spec.dtype != "uint8" and self.maximum == 1.0:
                image = image.float() / 255.0
            elif found.dtype != "uint8" and found.maximum == 1.0 and self.maximum is not None:
                image = image * self.maximum
            self._refuse_beyond(image, 0.0, self.maximum, data.source)
            columns = Columns({"image": image}, origin=columns.origin)
        return columns, names

    def _of_bytes(self, pixels: Tensor) -> Columns:
        """Columns of pictures in bytes, 0 to 255."""
        if self.in_bytes:
            return Columns({"image": pixels})
        if self.maximum is None:
            raise DataError(
                "The model was trained on floating pixels of a range of their own, so a picture's bytes have no meaning for it.",
                where="inputs",
                accepts="floating arrays prepared as in training",
                mend="prepare the images as those of training and give them as an array",
            )
        return Columns({"image": pixels.float() * (self.maximum / 255.0)})

    def _array(self, array: NDArray[np.generic], where: str) -> Tensor:
        """(N, C, H, W) in the model's range; uint8 stands for pictures in bytes."""
        if array.dtype.kind not in "buif":
            raise DtypeError(
                f"The array holds {array.dtype}.",
                where=where,
                accepts="whole or floating numbers",
                mend="convert it with .astype('uint8') or .astype('float32')",
            )
        images = self._nchw(torch.from_numpy(_plain(array)), where)
        if tuple(images.shape[2:]) != (self.height, self.width):
            images = self._fit(images, where)
        return self._in_range(images, where)

    def _in_range(self, images: Tensor, where: str) -> Tensor:
        """The values of an array in the range of training.

        Whole numbers are in that range already, except that a model of 0..1 takes bytes. Floats that do not go beyond 1
        are shares of the largest value, as is the convention for floating images.
        """
        if not images.is_floating_point():
            high = 255.0 if self.maximum == 1.0 and self.spec.dtype != "uint8" else self.maximum
            self._refuse_beyond(images, 0.0, high, where)
            if high == 255.0:
                pixels = images.to(torch.uint8)
                return pixels if self.in_bytes else pixels.float() / 255.0
            return images.float()
        bad = torch.nonzero(~torch.isfinite(images))
        if len(bad):
            raise DataError(
                "The array holds a number that is not finite.",
                where=f"{where}, row {int(bad[0, 0])}",
                accepts="finite pixels",
                mend="remove or replace it, for example with numpy.nan_to_num",
            )
        if self.maximum is not None and float(images.max()) <= 1.0:
            images = images * self.maximum
        self._refuse_beyond(images, 0.0, self.maximum, where)
        return images

    def _refuse_beyond(self, images: Tensor, low: float, high: float | None, where: str) -> None:
        if high is None or not images.numel() or (float(images.min()) >= low and float(images.max()) <= high):
            return
        raise DataError(
            f"The pixels go from {float(images.min()):g} to {float(images.max()):g}.",
            where=where,
            accepts=f"numbers from {low:g} to {high:g}, as in training, or floats from 0 to 1",
            mend="give raw pixels: scaling and centring are done inside, as in training",
        )

    def _nchw(self, tensor: Tensor, where: str) -> Tensor:
        """(N, C, H, W) from any arrangement that fits the model, and only one."""
        shape, chw = tuple(tensor.shape), (self.channels, self.height, self.width)
        hwc = (self.height, self.width, self.channels)
        num_values = math.prod(chw)
        if tensor.ndim <= 2 and shape[-1:] == (num_values,):
            return self._rows(tensor.reshape(-1, num_values), where)
        readings: dict[bool, Tensor] = {}
        if tensor.ndim in (2, 3) and self.channels == 1 and (shape[-2:] == chw[1:] or self._may_fit(shape[-2:])):
            return tensor.reshape(-1, 1, *shape[-2:]) if shape[-3:] != hwc else tensor.permute(2, 0, 1).unsqueeze(0)
        if tensor.ndim in (3, 4):
            batch = tensor if tensor.ndim == 4 else tensor.unsqueeze(0)
            inner = tuple(batch.shape[1:])
            if inner == chw or (inner[0] == self.channels and self._may_fit(inner[1:])):
                readings[True] = batch
            if inner == hwc or (inner[2] == self.channels and self._may_fit(inner[:2])):
                readings[False] = batch.permute(0, 3, 1, 2)
        # An exact fit beats one that would need resizing.
        exact = {first: images for first, images in readings.items() if tuple(images.shape[1:]) == chw}
        readings = exact or readings
        if self.channels_first is not None:
            readings = {first: images for first, images in readings.items() if first == self.channels_first}
        if len(readings) == 2:
            raise ShapeError(
                f"An array shaped {shape} can be read as NCHW and as NHWC.",
                where=where,
                accepts=self.wanted,
                mend="say channels_first=True (NCHW) or channels_first=False (NHWC)",
            )
        if not readings:
            swapped = (
                f"; it is read as {'NCHW' if self.channels_first else 'NHWC'}, as said"
                if self.channels_first is not None
                else ""
            )
            raise ShapeError(
                f"The array is shaped {shape}{swapped}.",
                where=where,
                accepts=f"{self.wanted}: (N, {self.channels}, {self.height}, {self.width}) or "
                f"(N, {self.height}, {self.width}, {self.channels})",
                mend="reshape or resize the images to that",
            )
        return next(iter(readings.values()))

    def _rows(self, rows: Tensor, where: str) -> Tensor:
        if self.channels == 1 or self.channels_first:
            return rows.reshape(-1, self.channels, self.height, self.width)
        if self.channels_first is None:
            raise ShapeError(
                f"Rows of {rows.shape[1]} values with {self.channels} channels can be plane by plane or interleaved.",
                where=where,
                accepts=self.wanted,
                mend="say channels_first=True (plane by plane) or False (interleaved), or give (N, C, H, W)",
            )
        return rows.reshape(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)

    def _may_fit(self, size: tuple[int, ...]) -> bool:
        return self.fitting is not None and min(size) > 4

    def _fit(self, images: Tensor, where: str) -> Tensor:
        """Images in bytes of another size, fitted as picture files are."""
        if images.dtype != torch.uint8:
            raise ShapeError(
                f"The images are {images.shape[2]}x{images.shape[3]} and {images.dtype}; only bytes are resized.",
                where=where,
                accepts=f"{self.wanted}, or uint8 images of any size",
                mend="resize them first, or give uint8 from 0 to 255",
            )
        pictures = (Image.fromarray(np.ascontiguousarray(_pillow(image.numpy()))) for image in images)
        fitted = [fit_image(picture, channels=self.channels, fitting=self.fitting) for picture in pictures]
        return torch.from_numpy(np.stack(fitted))


def _plain(array: NDArray[np.generic]) -> NDArray[np.generic]:
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    return array.astype(np.uint8) if array.dtype.kind == "b" else array.astype(np.int64)


def _pillow(image: NDArray[np.generic]) -> NDArray[np.generic]:
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _is_picture(file: SourceFile) -> bool:
    try:
        return file.size > 0 and looks_like_image(file.head(12))
    except DataError:
        return False


def _refuse_unread(file: SourceFile) -> None:
    """A photograph of a kind that is not read would be missing from the predictions."""
    kind = OTHER_ENDINGS.get(file.ending)
    if kind is not None or file.problem:
        raise DataError(
            f"{kind} images are not read." if kind is not None else file.problem,
            where=file.where,
            accepts=f"pictures: {', '.join(FORMATS)}",
            mend="convert it to PNG or JPEG, or remove it" if kind is not None else "mend or remove it",
        )


def _only_image(columns: Columns) -> Columns:
    if isinstance(columns, LoadedColumns):
        return LoadedColumns({}, loaders={"image": columns.rows_of("image")}, origin=columns.origin)
    return Columns({"image": columns["image"]}, origin=columns.origin)


# --- tables ------------------------------------------------------------------------------------------------------------


class _TableInputs:
    """Reads inputs of a model of tables; features are found by name, as `columns_like` does."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
        self.names = feature_names(spec)

    def read(self, item: Any, *, where: str) -> tuple[Columns, list[str]]:
        """Columns with `number` and `category`, and names."""
        if isinstance(item, str | Path):
            path = _existing(item)
            data = TableReader().read_like(Source(path), DataConfig(), spec=self.spec, answers=False)
        elif is_frame(item) or isinstance(item, Mapping):
            data = columns_like(table_from_columns(item, where=where), self.spec, answers=False, source=where)
        else:
            data = self._array(item, where)
        stop_at_faults(data, DataConfig())
        parts = list(data.splits.values())
        columns = parts[0] if len(parts) == 1 else join_columns(parts)
        return columns, [name.removeprefix("inputs:") for name in _names_of(columns, f"{data.source} row")]

    def _array(self, item: Any, where: str) -> Data:
        array = as_array(item, where=where)
        if array.ndim == 1:
            array = array[None]
        if array.ndim != 2 or array.shape[1] != len(self.names):
            shown = ", ".join(self.names[:8]) + (", …" if len(self.names) > 8 else "")
            raise ShapeError(
                f"The array is shaped {array.shape}.",
                where=where,
                accepts=f"(N, {len(self.names)}): {shown}",
                mend="give the features of training in their order, without the target",
            )
        if self.spec.column("category") is not None:
            raise DtypeError(
                "The model was trained on a table with categories, which an array of numbers does not tell.",
                where=where,
                accepts="a CSV file or a data frame with the columns of training",
                mend="make a data frame with these columns",
            )
        pairs = [(name, cast("Any", array[:, place])) for place, name in enumerate(self.names)]
        return columns_like(table_from_columns(pairs, where=where), self.spec, answers=False, source=where)
