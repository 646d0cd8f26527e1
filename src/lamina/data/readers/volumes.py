"""Volumes and clips with a class each: NPZ and NPY arrays, or folders of frames `class/clip/frame001.png`.

Arrays of five dimensions, or that are called volumes or clips, are recognised; four-dimensional ones are images unless
asked for with data.reader=volume. Folders are taken for clips by themselves only where each holds frame1, frame2, …
without a gap: numbered photographs are nothing unusual.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import torch
from torch import Tensor

from lamina.core.errors import DataError, ShapeError
from lamina.core.registry import register
from lamina.data.columns import ColumnSpec, Data, Fault
from lamina.data.config import DataConfig
from lamina.data.readers.base import FaultList, Guess, Labels, Reader, no_rows, split_of, split_of_source
from lamina.data.readers.decompression import too_large
from lamina.data.readers.fitting import Fitting
from lamina.data.readers.images import ENDINGS, decode_image, image_info, quiet_pillow
from lamina.data.readers.npz import array_names, array_shapes, named_arrays
from lamina.data.readers.positions import (
    PositionSplit,
    channels_first,
    kind_of_names,
    pairs_of,
    position_data,
    positions_from_arrays,
)
from lamina.data.readers.signals import SignalReader
from lamina.data.readers.sources import Source, SourceFile, natural_key

_FRAME: Final = re.compile(r"frame[ _\-]?(\d+)", re.IGNORECASE)
# Clips of frames that are larger are fitted to this, and take one of every so many frames, unless data.shape says otherwise.
DEFAULT_SIDE: Final = 64


@dataclass(frozen=True)
class Clip:
    """One folder of frames: its name, class (None without), split and frames in order."""

    name: str
    label: str | None
    split: str
    frames: tuple[SourceFile, ...]


@register(
    "reader",
    "volume",
    summary="Volumes and clips: NPZ arrays, or folders of frames class/clip/frame001.png",
    source="Made for Lamina",
    example="lamina data clips/ data.reader=volume",
)
class VolumeReader(Reader):
    """Volumes and clips with a class each."""

    name = "volume"
    makes = ("volume",)

    def sniff(self, source: Source) -> Guess:
        """Sure when arrays have five dimensions or are called volumes, or folders hold frame1, frame2, …"""
        names, shapes = array_names(source), array_shapes(source)
        if shapes:
            if kind_of_names(names) == "volume":
                return Guess(0.99, f"the arrays are called {', '.join(names[:4])}")
            if any(len(shape) == 5 for shape in shapes):
                return Guess(0.99, "an array has five dimensions")
            return Guess(0.0, "no array has five dimensions or is called volumes")
        clips = find_clips(source)
        if _look_like_clips(clips):
            return Guess(0.97, f"{len(clips)} folders hold frames that are called so and numbered without a gap")
        return Guess(0.0, "neither arrays of volumes nor folders of numbered frames")

    def read(self, source: Source, config: DataConfig) -> Data:
        """Read arrays, or folders of frames."""
        notes = list(source.notes)
        if array_shapes(source):
            pairs = pairs_of(named_arrays(source, config, notes=notes), where=str(source), notes=notes)
            return positions_from_arrays(
                pairs, config, kind="volume", reader=self.name, source=str(source), notes=notes
            )
        clips = find_clips(source)
        if not clips:
            raise DataError(
                "There are neither arrays nor folders of frames.",
                where=str(source),
                accepts="NPZ or NPY arrays (N, depth, height, width) or (N, channels, depth, height, width), or class/clip/frame001.png",
                mend="check the path",
            )
        return read_clips(clips, source, config, notes=notes)


def read_positions(source: Source, config: DataConfig, spec: ColumnSpec) -> Data:
    """Signals or volumes for a model that knows its own: clips get its number of frames and their size, channels are told by its shape.

    Args:
        spec: Of the model's column `signal` or `volume`, before preprocessing.

    Raises:
        DataError: The source cannot be read, or holds something else.
        ShapeError: Signals or volumes of another shape.
    """
    is_signal = spec.role == "series"
    if not is_signal and not array_shapes(source):
        clips = find_clips(source)
        if clips:
            return read_clips(clips, source, config, notes=list(source.notes), shape=spec.shape)
    if config.channels_first is None:
        config = config.model_copy(update={"channels_first": channels_first(array_shapes(source), spec.shape)})
    if is_signal:
        data = SignalReader().read(source, config, steps=spec.shape[1] if spec.shape[0] == 1 else None)
    else:
        data = VolumeReader().read(source, config)
    found = data.spec.columns["signal" if is_signal else "volume"].shape
    if found != spec.shape:
        raise ShapeError(
            f"The {'signals' if is_signal else 'volumes'} are shaped {found}.",
            where=str(source),
            accepts=f"{spec.shape}, as in training (channels first)",
            mend="cut or resample them as those of training were",
        )
    return data


def find_clips(source: Source) -> list[Clip]:
    """The folders that hold images, as clips: the folder above names the class, one above that the split."""
    folders: dict[tuple[str, ...], list[SourceFile]] = defaultdict(list)
    for file in source.files:
        if file.ending in ENDINGS:
            folders[PurePosixPath(file.name).parts[:-1]].append(file)
    depth = _common_depth(list(folders))
    clips = []
    for parts, files in folders.items():
        inner = parts[depth:]
        places = [place for place, part in enumerate(inner[:-1]) if split_of(part) is not None]
        split = split_of(inner[places[-1]]) if places else None
        inner = inner[places[-1] + 1 :] if places else inner
        label = inner[-2] if len(inner) > 1 else None
        frames = tuple(sorted(files, key=lambda file: natural_key(file.name)))
        clips.append(Clip("/".join(parts), label, split or split_of_source(source), frames))
    return sorted(clips, key=lambda clip: natural_key(clip.name))


def _common_depth(folders: Sequence[tuple[str, ...]]) -> int:
    """Folders around everything, which say nothing; two levels (class and clip) are left where they are there."""
    depth = 0
    most = min((len(parts) for parts in folders), default=0) - 2
    while depth < most and len({parts[depth] for parts in folders}) == 1:
        depth += 1
    return depth


def _look_like_clips(clips: Sequence[Clip]) -> bool:
    """Whether all folders have a class above them, of which there are several, and hold frame1, frame2, … without a gap."""
    labels = {clip.label for clip in clips}
    if None in labels or len(labels) < 2 or len(labels) == len(clips):
        return False
    for clip in clips:
        found = [_FRAME.fullmatch(PurePosixPath(frame.name).stem) for frame in clip.frames]
        if len(found) < 2 or not all(found):
            return False
        numbers = sorted(int(match.group(1)) for match in found if match is not None)
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            return False
    return True


def read_clips(
    clips: Sequence[Clip],
    source: Source,
    config: DataConfig,
    *,
    notes: list[str],
    shape: tuple[int, ...] | None = None,
) -> Data:
    """Decode clips into volumes: frames one after another, of one number and size.

    Args:
        shape: (channels, frames, height, width) where a model wants it; default: the shortest clip's number of frames (of longer
            clips frames at even distances are taken), and the frames' size.

    Raises:
        DataError: No clip can be used, or they take more memory than data.max_memory_mb.
    """
    faults = FaultList()
    with quiet_pillow():
        infos = [image_info(clip.frames[0]) for clip in clips]
        sizes = {(info.height, info.width) for info in infos}
        height, width = shape[2:] if shape is not None else _size(sizes, config, notes)
        grey = all(info.grey for info in infos)
        channels = shape[0] if shape is not None else (1 if grey else 3)
        fewest = min(len(clip.frames) for clip in clips)
        num_frames = shape[1] if shape is not None else fewest
        if shape is None and any(len(clip.frames) != fewest for clip in clips):
            notes.append(f"Clips have {fewest} frames or more: of longer ones {fewest} at even distances are taken.")
        if len(clips) * channels * num_frames * height * width > config.max_memory_mb << 20:
            raise too_large(str(source), config.max_memory_mb << 20)
        fitting = Fitting.of_config(config, height=height, width=width)
        if sizes != {(height, width)} and shape is None:
            notes.append(f"Frames are {fitting.describe()}.")
        groups: dict[str, list[tuple[Clip, Tensor]]] = defaultdict(list)
        for clip in clips:
            try:
                groups[clip.split].append((clip, _decoded(clip, num_frames, channels, fitting)))
            except DataError as error:
                faults.add(Fault(file=error.where, message=error.what))
    if not groups:
        raise no_rows(str(source), faults)
    if any(clip.label is not None for clip in clips):
        notes.append("The names of the folders above the clips are the classes.")
    splits = {name: _split(group) for name, group in groups.items()}
    return position_data(
        splits, kind="volume", reader=VolumeReader.name, source=str(source), faults=faults, notes=notes
    )


def _size(sizes: set[tuple[int, int]], config: DataConfig, notes: list[str]) -> tuple[int, int]:
    if config.shape is not None:
        if len(config.shape) != 2 or min(config.shape) < 1:
            raise DataError(
                f"data.shape={list(config.shape)} is no size of frames.",
                where="data.shape",
                accepts="[height, width]",
                mend="write for example data.shape=[32,32]",
            )
        return config.shape[0], config.shape[1]
    if len(sizes) == 1 and max(next(iter(sizes))) <= 2 * DEFAULT_SIDE:
        return next(iter(sizes))
    notes.append(
        f"Frames are {'large' if len(sizes) == 1 else 'of different sizes'}; data.shape=[height,width] chooses another size."
    )
    side = min(DEFAULT_SIDE, min(min(size) for size in sizes))
    return side, side


def _decoded(clip: Clip, num_frames: int, channels: int, fitting: Fitting) -> Tensor:
    """(C, frames, H, W) uint8; frames at even distances, the first and the last among them."""
    places = torch.linspace(0, len(clip.frames) - 1, num_frames).round().long().tolist()
    frames = [torch.from_numpy(decode_image(clip.frames[i], channels=channels, fitting=fitting)) for i in places]
    return torch.stack(frames, dim=1)


def _split(group: Sequence[tuple[Clip, Tensor]]) -> PositionSplit:
    names = [clip.label for clip, _ in group if clip.label is not None]
    labels = Labels.of_names(names) if len(names) == len(group) else None
    return PositionSplit(torch.stack([volume for _, volume in group]), labels, [clip.name for clip, _ in group])
