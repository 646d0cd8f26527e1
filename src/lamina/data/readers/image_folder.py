"""Folders of image files: `split/class/file` or `class/file`, on the disk or inside tar and zip archives.

Any wrapping folder is seen through; one archive may hold all splits, or each its own. Every header is looked at before
anything is decoded, so that the shape is decided once for all splits and said.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import Data, Fault
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import NUM_THREADS, RowLoader
from lamina.data.readers.base import (
    FaultList,
    Guess,
    ImageSplit,
    Labels,
    Reader,
    image_data,
    no_rows,
    split_of,
    split_of_source,
)
from lamina.data.readers.fitting import Fitting
from lamina.data.readers.images import (
    ENDINGS,
    OTHER_ENDINGS,
    ImageInfo,
    ImageRows,
    decode_image,
    image_info,
    looks_like_image,
    quiet_pillow,
)
from lamina.data.readers.pixels import stated_shape
from lamina.data.readers.sources import Source, SourceFile, is_hidden, shown
from lamina.data.splits import SPLIT_NAMES

# Photographs of different sizes are fitted to this unless data.shape says otherwise: what a small network can learn from.
DEFAULT_SIDE: Final = 64
_CHUNK: Final = 64
_WORDS: Final = {word for word, split in SPLIT_NAMES.items() if split != "all"}
T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Found:
    """One image file with what its place says.

    Attributes:
        file: Where its bytes are.
        split: From a folder or archive name; `all` without a hint.
        label: Name of the folder that stands for the class; None outside of such folders.
    """

    file: SourceFile
    split: str
    label: str | None


@dataclass
class Arrangement:
    """The images of a source sorted by their places.

    Attributes:
        images: In the order of their names.
        others: Files that are not read, each as a fault that says why.
        notes: Sentences on folders that were seen through or left out.
        shelves: Folders on the disk in which the folders of the classes lie.
    """

    images: list[Found] = field(default_factory=list)
    others: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shelves: set[Path] = field(default_factory=set)


@register(
    "reader",
    "image-folder",
    summary="Folders of images: split/class/file or class/file, also in archives",
    example="lamina data photos/",
)
class ImageFolderReader(Reader):
    """Folders (or archives) of image files, one folder per class."""

    name = "image-folder"
    makes = ("image",)

    def sniff(self, source: Source) -> Guess:
        """Sure when most files are images in folders; a flat folder of images has no labels."""
        if not source.is_folder and len(source.files) == 1 and source.files[0].path == source.path:
            single = _is_image(source.files[0])
            return Guess(0.4 if single else 0.0, "it is a single image" if single else "it is a single file")
        named = [file for file in source.files if file.ending in ENDINGS]
        share = len(named) / max(len(source.files), 1)
        if not named or not any(_is_image(file) for file in named[:8]):
            return Guess(0.0, "no file is an image")
        in_folders = sum("/" in file.name for file in named) > len(named) / 2
        if in_folders and share > 0.5:
            return Guess(0.95, f"{len(named)} of {len(source.files)} files are images, in folders")
        return Guess(0.6 if share > 0.5 else 0.2, f"{len(named)} of {len(source.files)} files are images")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read all images; bad ones become faults, other files are reported."""
        arranged = arrange(source)
        faults = FaultList()
        for other in arranged.others:
            faults.add(other)
        if not arranged.images:
            raise no_rows(str(source), faults)
        notes = [*source.notes, *arranged.notes]
        if any(found.label is not None for found in arranged.images):
            notes.append("The names of the folders are the classes.")
        with quiet_pillow():
            infos, good = _headers(arranged.images, faults)
            if not good:
                raise no_rows(str(source), faults)
            fitting, channels = _decide(infos, config, notes, where=str(source))
            notes += _oddities(infos, good)
            num_bytes = len(good) * (channels or 3) * fitting.height * fitting.width
            if num_bytes > config.max_memory_mb << 20:
                notes.append(
                    f"{num_bytes >> 20} MiB of pixels exceed data.max_memory_mb; images are decoded while training."
                )
                channels = channels or _channels_of_sample(good, fitting)
                if config.on_fault == "skip":
                    # While training it is too late to leave a row out: what is damaged has to be known before.
                    good = _undamaged(good, channels, fitting, faults)
                splits = {name: _later(group, channels, fitting) for name, group in _by_split(good).items()}
            else:
                decoded = {name: _now(group, channels or 3, fitting, faults) for name, group in _by_split(good).items()}
                if channels is None and all(grey for _, grey in decoded.values()):
                    notes.append("All images are grey, though stored as colours: one channel.")
                    for split, _ in decoded.values():
                        split.images = _first_channel(split.images)
                splits = {name: split for name, (split, _) in decoded.items()}
        notes += _lost_classes(arranged.images, splits) + _empty_folders(arranged.shelves)
        stopping = sum(fault.stops for fault in faults.faults)
        if stopping:
            notes.append(
                f"Files with faults: {stopping}; data.on_fault=skip leaves them out, otherwise they stop training."
            )
        return image_data(
            splits,
            reader=self.name,
            source=str(source),
            faults=faults,
            notes=notes,
            fitting=fitting.spec_values(),
            max_bytes=config.max_memory_mb << 20,
        )


# --- places ------------------------------------------------------------------------------------------------------------


def arrange(source: Source) -> Arrangement:
    """Sort the files of a source into images with split and class, and others."""
    result = Arrangement()
    places: list[tuple[SourceFile, tuple[str, ...]]] = []
    for file in source.files:
        if file.problem and file.ending not in ENDINGS:
            result.others.append(Fault(file=file.where, message=file.problem))
        elif file.ending in ENDINGS or _is_image(file):
            places.append((file, PurePosixPath(file.name).parts[:-1]))
        else:
            result.others.append(_not_read(file))
    if not places:
        return result
    prefix = _common([folders for _, folders in places])
    level = len(prefix)
    names = {folders[level] for _, folders in places if len(folders) > level}
    exact = {name for name in names if name.casefold() in _WORDS}
    if exact or (names and all(split_of(name) for name in names)):
        groups: dict[str, list[tuple[SourceFile, tuple[str, ...]]]] = defaultdict(list)
        for file, folders in places:
            name = folders[level] if len(folders) > level else ""
            split = split_of(name)
            if split is None:
                result.notes.append(f"Beside the split folders, {shown(name or file.name)!r} is left out.")
                result.others.append(_left_out(file, "it lies beside the folders of the splits and is left out"))
            else:
                groups[split].append((file, folders[level + 1 :]))
        for split, group in groups.items():
            depth = len(_common([folders for _, folders in group]))
            _sort_classes(group, depth, split, result)
    else:
        inside = next((found for name in reversed(prefix) if (found := split_of(name))), None)
        split = inside or split_of_source(source)
        _sort_classes(places, level, split, result)
    result.notes = list(dict.fromkeys(result.notes))
    return result


def _common(folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders that all files share, without the last one of the shallowest file: that may be the class."""
    shortest = min(len(parts) for parts in folders)
    shared: list[str] = []
    for names in zip(*(parts[: max(0, shortest - 1)] for parts in folders), strict=True):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return tuple(shared)


def _sort_classes(
    group: Iterable[tuple[SourceFile, tuple[str, ...]]], depth: int, split: str, result: Arrangement
) -> None:
    pairs = list(group)
    labelled = [pair for pair in pairs if len(pair[1]) > depth]
    for file, folders in pairs:
        if len(folders) > depth:
            result.images.append(Found(file, split, shown(folders[depth])))
            if file.path is not None and file.opener is None:
                result.shelves.add(file.path.parents[len(folders) - depth])
            if len(folders) > depth + 1:
                result.notes.append("Folders inside the class folders count as parts of the class.")
        elif labelled:
            result.notes.append(f"Images outside of class folders are left out, such as {shown(file.name)}.")
            result.others.append(_left_out(file, "it lies outside of the class folders and is left out"))
        else:
            result.images.append(Found(file, split, None))


def _left_out(file: SourceFile, why: str) -> Fault:
    return Fault(file=file.where, message=why, stops=False)


def _not_read(file: SourceFile) -> Fault:
    """Photographs of kinds that are not read stop, as rows would be lost; other files are only told."""
    kind = OTHER_ENDINGS.get(file.ending)
    if kind is not None:
        return Fault(file=file.where, message=f"{kind} images are not read; convert it to PNG or JPEG")
    return _left_out(file, "it is no image and is not read")


def _is_image(file: SourceFile) -> bool:
    try:
        return file.size > 0 and looks_like_image(file.head(12))
    except DataError:
        return False


# --- headers -----------------------------------------------------------------------------------------------------------


def _in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`map` with a few threads, in chunks; Pillow lets go of the interpreter while it decodes."""
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    if len(chunks) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return [
            result for part in pool.map(lambda chunk: [function(item) for item in chunk], chunks) for result in part
        ]


def _headers(images: Sequence[Found], faults: FaultList) -> tuple[list[ImageInfo], list[Found]]:
    def look(found: Found) -> ImageInfo | DataError:
        try:
            return image_info(found.file)
        except DataError as error:
            return error

    infos, good = [], []
    for found, info in zip(images, _in_threads(look, images), strict=True):
        if isinstance(info, DataError):
            faults.add(Fault(file=found.file.where, message=info.what))
        else:
            infos.append(info)
            good.append(found)
    return infos, good


def _decide(
    infos: Sequence[ImageInfo], config: DataConfig, notes: list[str], *, where: str
) -> tuple[Fitting, int | None]:
    """How sizes are fitted, and channels; channels is None where decoding must tell whether colours are grey."""
    sizes = Counter((info.height, info.width) for info in infos)
    channels = None
    if config.shape is not None:
        shape = stated_shape(config, where=where)
        height, width = shape.height, shape.width
        channels = shape.channels if len(config.shape) == 3 else None
    elif len(sizes) == 1:
        height, width = next(iter(sizes))
    else:
        middle = sorted(min(info.width, info.height) for info in infos)[len(infos) // 2]
        height = width = min(DEFAULT_SIDE, middle)
    fitting = Fitting.of_config(config, height=height, width=width)
    if set(sizes) != {(height, width)} or fitting.crop_fraction < 1.0:
        given = f"Images have {len(sizes)} different sizes" if len(sizes) > 1 else f"Images of {_size(infos[0])}"
        choice = "data.shape, data.resize" if config.shape is not None else "data.shape=[height,width] and data.resize"
        chosen = "as said" if config.shape is not None else "by default"
        notes.append(f"{given} and are {fitting.describe()}, {chosen}; {choice} choose otherwise.")
    if channels is None and all(info.grey for info in infos):
        channels = 1
    if any(info.transparent for info in infos) and channels != 4:
        notes.append("Transparent images are laid on white; data.shape=[height,width,4] keeps the transparency.")
    if any(info.grey for info in infos) and not all(info.grey for info in infos) and channels is None:
        notes.append("Grey images among coloured ones are read with three equal channels.")
    return fitting, channels


def _size(info: ImageInfo) -> str:
    return f"{info.height}x{info.width}"


def _oddities(infos: Sequence[ImageInfo], images: Sequence[Found]) -> list[str]:
    """Sentences on what is unusual in good files and how it is read, each with the first example."""
    kinds: tuple[tuple[str, Callable[[ImageInfo, Found], bool]], ...] = (
        ("turned upright, as the camera noted (EXIF)", lambda info, found: info.turned),
        ("animated, of which the first picture counts", lambda info, found: info.animated),
        ("of 16 bits per channel, of which the upper 8 count", lambda info, found: info.deep),
        ("CMYK and converted without a colour profile", lambda info, found: info.cmyk),
        (
            "of another format than the name says and read by the content",
            lambda info, found: info.misnamed(found.file.ending),
        ),
    )
    notes = []
    for words, holds in kinds:
        hits = [found for info, found in zip(infos, images, strict=True) if holds(info, found)]
        if hits:
            count = f"{len(hits)} images are" if len(hits) > 1 else "1 image is"
            notes.append(f"{count} {words}, such as {shown(hits[0].file.name)}.")
    return notes


def _lost_classes(images: Sequence[Found], splits: Mapping[str, ImageSplit]) -> list[str]:
    """A sentence on classes all of whose images were left out."""
    kept = {name for split in splits.values() if split.labels is not None for name in split.labels.names}
    lost = sorted({found.label for found in images if found.label is not None} - kept)
    return [f"No image of {', '.join(lost[:12])} can be used; there is no such class."] if lost and kept else []


def _empty_folders(shelves: Iterable[Path]) -> list[str]:
    """A sentence on folders beside those of the classes in which nothing lies: classes that somebody meant to fill."""
    empty = [
        shown(f"{shelf.name}/{folder.name}")
        for shelf in sorted(shelves)
        for folder in sorted(shelf.iterdir())
        if folder.is_dir() and not is_hidden(folder.name) and not any(path.is_file() for path in folder.rglob("*"))
    ]
    if not empty:
        return []
    more = f" and {len(empty) - 12} more" if len(empty) > 12 else ""
    return [f"Empty folders are no classes: {', '.join(empty[:12])}{more}."]


# --- pixels ------------------------------------------------------------------------------------------------------------


def _by_split(images: Iterable[Found]) -> dict[str, list[Found]]:
    groups: dict[str, list[Found]] = defaultdict(list)
    for found in images:
        groups[found.split].append(found)
    return groups


def _now(group: Sequence[Found], channels: int, fitting: Fitting, faults: FaultList) -> tuple[ImageSplit, bool]:
    """All images of a split in memory, and whether all are grey."""

    def decode(found: Found) -> NDArray[np.uint8] | DataError:
        try:
            return decode_image(found.file, channels=channels, fitting=fitting)
        except DataError as error:
            return error

    images = torch.empty((len(group), channels, fitting.height, fitting.width), dtype=torch.uint8)
    rows = images.numpy()  # torch would wake its threads for every picture, which takes longer than copying it
    good: list[Found] = []
    all_grey = channels == 3
    for start in range(0, len(group), _CHUNK * 32):
        part = group[start : start + _CHUNK * 32]
        for found, pixels in zip(part, _in_threads(decode, part), strict=True):
            if isinstance(pixels, DataError):
                faults.add(Fault(file=found.file.where, message=pixels.what))
                continue
            rows[len(good)] = pixels
            all_grey = all_grey and bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
            good.append(found)
    return _split(images[: len(good)], good), all_grey


def _undamaged(group: Sequence[Found], channels: int, fitting: Fitting, faults: FaultList) -> list[Found]:
    """Those images that can be decoded, each of them tried and dropped again."""

    def try_it(found: Found) -> DataError | None:
        try:
            decode_image(found.file, channels=channels, fitting=fitting)
        except DataError as error:
            return error
        return None

    good = []
    for found, error in zip(group, _in_threads(try_it, group), strict=True):
        if error is None:
            good.append(found)
        else:
            faults.add(Fault(file=found.file.where, message=error.what))
    return good


def _later(group: Sequence[Found], channels: int, fitting: Fitting) -> ImageSplit:
    return _split(ImageRows([found.file for found in group], channels=channels, fitting=fitting), group)


def _split(images: Tensor | RowLoader, group: Sequence[Found]) -> ImageSplit:
    names = [found.label for found in group if found.label is not None]
    labels = Labels.of_names(names) if len(names) == len(group) and names else None
    return ImageSplit(images, labels, [found.file.where for found in group])


def _first_channel(images: Tensor | RowLoader) -> Tensor:
    assert isinstance(images, Tensor)
    return images[:, :1].contiguous()


def _channels_of_sample(good: Sequence[Found], fitting: Fitting) -> int:
    """1 when images all over the data are grey though stored as colours, else 3."""
    for found in good[:: max(1, len(good) // 64)]:
        try:
            pixels = decode_image(found.file, channels=3, fitting=fitting)
        except DataError:
            continue
        if (pixels[0] != pixels[1]).any() or (pixels[0] != pixels[2]).any():
            return 3
    return 1
