"""Files in torch's formats for tests: written by torch itself, or by hand with lies in them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch._utils import _rebuild_tensor_v2


def saved(value: Any, *, legacy: bool = False) -> bytes:
    """The bytes of `torch.save`."""
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    """The members of a zip by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(files: Mapping[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def put(folder: Path, data: bytes, name: str = "w.pth") -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


@dataclass(frozen=True)
class Storage:
    """A storage as a pickle names it."""

    key: str
    num_elements: Any
    view: Any = None


@dataclass(frozen=True)
class View:
    """A tensor as a pickle describes it, true or not."""

    storage: Storage
    offset: Any
    size: tuple[Any, ...]
    stride: tuple[Any, ...]

    def __reduce__(self) -> Any:
        return _rebuild_tensor_v2, (self.storage, self.offset, self.size, self.stride, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, *, with_view: bool) -> None:
        super().__init__(stream, protocol=2)
        self.with_view = with_view

    def persistent_id(self, item: Any) -> Any:
        if not isinstance(item, Storage):
            return None
        found = ("storage", torch.FloatStorage, item.key, "cpu", item.num_elements)
        return (*found, item.view) if self.with_view else found


def _pickled(value: Any, *, with_view: bool = False) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, with_view=with_view).dump(value)
    return stream.getvalue()


def crafted_zip(value: Any, storages: Mapping[str, bytes], **more: bytes) -> bytes:
    """A zip of torch's whose pickle says `value` and whose storages are these."""
    return zipped(
        {
            "a/data.pkl": _pickled(value),
            "a/byteorder": b"little",
            **{f"a/{name}": data for name, data in more.items()},
            **{f"a/data/{key}": data for key, data in storages.items()},
            "a/version": b"3\n",
        }
    )


def crafted_legacy(
    value: Any,
    storages: Mapping[str, bytes],
    *,
    version: int = 1001,
    little_endian: Any = True,
    keys: Any = None,
    counts: Mapping[str, int] | None = None,
) -> bytes:
    """The same in the format before the zip."""
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    pieces = [
        _pickled(0x1950A86A20F9469CFC6C),
        _pickled(version),
        _pickled(system),
        _pickled(value, with_view=True),
        _pickled(sorted(storages) if keys is None else keys),
    ]
    for key, data in sorted(storages.items()):
        count = (counts or {}).get(key, len(data) // 4)
        pieces += [struct.pack("<q", count), data]
    return b"".join(pieces)


def floats(*values: float) -> bytes:
    """Float32 elements."""
    return struct.pack(f"<{len(values)}f", *values)
