"""Weights in torch's own two file formats, read without running what the files name.

Both hold a pickle that describes tensors, and storages: numbers that tensors are views of. The pickle goes through
`core/pickle_machine.py`, which knows the names that tensors need and imports none of them. Every size is compared with
the bytes that are there before a storage is read, every tensor with its storage, and tensors may not overlap.

Formats: zip since torch 1.6 (`archive/data.pkl`, `archive/data/KEY`, `archive/byteorder`; members are stored, never
compressed); before that a stream of four pickles (magic number, version, machine, object), the list of storage keys, and
for each key its number of elements (8 bytes, little-endian) and the elements. Source: `torch/serialization.py`.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import torch
from torch import Tensor

from lamina.core.errors import WeightsError
from lamina.core.pickle_machine import Name, PickleMachine, expect

__all__ = ["LEGACY_MAGIC", "is_torch_zip", "read_torch_file"]

LEGACY_MAGIC: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
MAX_PICKLE_BYTES: Final = 64 << 20
MAX_DIMENSIONS: Final = 16
MAX_MEMBERS: Final = 200_000
_LEGACY_VERSION: Final = 1001
_DTYPES: Final = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_STORAGES: Final = {(module, name) for module in ("torch", "torch.cuda") for name in _DTYPES}
_ORDERED: Final = ("collections", "OrderedDict")
_PARAMETERS: Final = {("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state")}
_TENSORS: Final = {("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2")}
_SIZE: Final = ("torch", "Size")
_ACCEPTS: Final = "a file that torch wrote, with nothing but tensors, dicts, lists, numbers and texts in it"
_AGAIN: Final = "download or copy the file again"


@dataclass(frozen=True)
class _Storage:
    """Numbers in the file: `num_elements` of `dtype` under `key`, of which this one is a part from `begin` on."""

    key: str
    dtype: torch.dtype
    num_elements: int
    begin: int = 0
    length: int = -1


@dataclass(frozen=True)
class _View:
    """A tensor before its storage is read."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Machine(PickleMachine):
    """Knows tensors and storages, as descriptions."""

    known = frozenset({*_STORAGES, *_PARAMETERS, *_TENSORS, _ORDERED, _SIZE})
    max_depth = 24

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.storages: dict[str, _Storage] = {}

    def refuse(self, what: str, position: int) -> WeightsError:
        """The error for something that is no tensor and no plain value."""
        return WeightsError(
            f"The pickle in the file {what} at byte {position}; that is no plain data and is not executed.",
            where=self.where,
            accepts=_ACCEPTS,
            mend="where you trust the file: load it in torch with weights_only=False, and save its state dict alone with safetensors",
        )

    def damaged(self, what: str, position: int) -> WeightsError:
        """The error for a pickle that does not hold together."""
        return WeightsError(
            f"The pickle in the file is damaged near byte {position}: {what}.",
            where=self.where,
            accepts=_ACCEPTS,
            mend=_AGAIN,
        )

    def make(self, maker: Any, arguments: tuple[Any, ...], position: int) -> Any:
        """OrderedDicts are dicts, parameters are tensors, tensors are views of storages."""
        key = maker.key if isinstance(maker, Name) else None
        if key == _ORDERED and len(arguments) <= 1:
            return dict(map(tuple, arguments[0])) if arguments else {}
        if key == _SIZE and len(arguments) == 1:
            return tuple(arguments[0])
        if key in _PARAMETERS and arguments:
            return expect(arguments[0], _View)
        if key in _TENSORS and len(arguments) >= 4:
            storage, offset, size, stride = arguments[:4]
            view = _View(expect(storage, _Storage), offset, expect(size, tuple), expect(stride, tuple))
            sizes = (view.offset, *view.size, *view.stride)
            if (
                len(view.size) != len(view.stride)
                or len(view.size) > MAX_DIMENSIONS
                or not all(type(n) is int and 0 <= n < 1 << 48 for n in sizes)
                or math.prod(max(n, 1) for n in view.size) >= 1 << 48
            ):
                raise ValueError(f"a tensor has the shape {size!s:.60} and the strides {stride!s:.60}")
            return view
        raise self.refuse("calls something that makes no tensor", position)

    def fill(self, target: Any, state: Any, position: int) -> None:
        """A state dict's `_metadata`, which says nothing about the numbers, is left out."""
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise self.refuse("sets the state of something that is no dict", position)

    def persistent(self, identity: Any, position: int) -> _Storage:
        """`("storage", type, key, device, number of elements[, view])`."""
        word, kind, key, _, num_elements, *view = expect(identity, tuple)
        if (
            word != "storage"
            or not isinstance(kind, Name)
            or kind.key not in _STORAGES
            or not isinstance(key, str)
            or type(num_elements) is not int
            or not 0 <= num_elements < 1 << 48
        ):
            raise self.refuse(f"names the storage {identity!s:.80}", position)
        whole = _Storage(key, _DTYPES[kind.name], num_elements)
        if self.storages.setdefault(key, whole) != whole:
            raise ValueError(f"the storage {key!r:.40} is described in two ways")
        if not view or view[0] is None:
            return whole
        _, begin, length = expect(view[0], tuple)
        if not all(type(n) is int and n >= 0 for n in (begin, length)) or begin + length > num_elements:
            raise ValueError(f"a part of the storage {key!r:.40} lies outside it")
        return _Storage(key, whole.dtype, num_elements, begin, length)

    def leaf(self, value: Any) -> Any:
        """Tensors stay views until the whole stream is read; a storage by itself is no value."""
        if isinstance(value, _Storage):
            raise ValueError("a storage stands where a value belongs")
        return super().leaf(value)


def is_torch_zip(path: Path) -> bool:
    """Whether a zip file is one of torch's; False for one that cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] in ("data.pkl", "constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, struct.error, OSError, NotImplementedError, ValueError):
        return False


def read_torch_file(path: Path) -> Any:
    """The value that a file of `torch.save` holds.

    Returns:
        Dicts, lists, tuples, texts, numbers and None, with tensors on the CPU in the dtype of the file. A tensor that is
        there twice (tied weights) is the same tensor.

    Raises:
        WeightsError: The file is damaged, truncated, of a big-endian machine, a TorchScript program, or names anything but
            tensors and plain values; a tensor reaches beyond its storage or overlaps another; a size is not true.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(len(LEGACY_MAGIC))
            file.seek(0)
            if first == LEGACY_MAGIC:
                value, numbers = _read_legacy(file, size, where=str(path))
            elif first[:4] == b"PK\x03\x04":
                value, numbers = _read_zip(file, size, where=str(path))
            else:
                raise _fault(f"The file begins with {first[:8]!r}, as no file of torch does.", str(path))
    except OSError as error:
        raise _fault(f"The file cannot be read: {error.strerror or error}.", str(path)) from None
    return _with_tensors(value, numbers, where=str(path))


# --- the zip format --------------------------------------------------------------------------------------------------


def _read_zip(file: IO[bytes], size: int, *, where: str) -> tuple[Any, dict[str, Tensor]]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, size, where)
            found = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
            folder = found[0].removesuffix("data.pkl") if len(found) == 1 else None
            if folder is None or f"{folder}constants.pkl" in members or any("/code/" in f"/{n}" for n in members):
                raise _fault(
                    "The archive is a TorchScript program, which only running it would load."
                    if any(name.endswith("constants.pkl") for name in members)
                    else f"The archive has {len(found)} members called data.pkl.",
                    where,
                    mend="save the state dict of the program's module instead",
                )
            order = members.get(f"{folder}byteorder")
            if order is not None and (order.file_size > 16 or archive.read(order) != b"little"):
                raise _big_endian(where)
            pickle = members[f"{folder}data.pkl"]
            if pickle.file_size > MAX_PICKLE_BYTES:
                raise _fault(f"The description of the tensors has {pickle.file_size} bytes.", where)
            machine = _Machine(f"{where}, {pickle.filename}")
            value = machine.run(archive.read(pickle))
            numbers = {}
            for key, storage in machine.storages.items():
                member = members.get(f"{folder}data/{key}")
                wanted = storage.num_elements * storage.dtype.itemsize
                if member is None or member.file_size != wanted:
                    there = "is not there" if member is None else f"has {member.file_size} bytes"
                    raise _fault(f"The storage {key!r} should have {wanted} bytes; it {there}.", where)
                with archive.open(member) as stream:
                    numbers[key] = _numbers(stream, storage, where)
    except (
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        KeyError,
    ) as error:
        if isinstance(error, WeightsError):
            raise
        reason = str(error).strip("'\"").rstrip(".") or "it ends early"
        raise _fault(f"The archive is damaged: {reason}.", where) from error
    return value, numbers


def _members(archive: zipfile.ZipFile, size: int, where: str) -> dict[str, zipfile.ZipInfo]:
    """The members by name, when what the directory says of them can be true."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    members = {info.filename: info for info in infos}
    if len(infos) > MAX_MEMBERS or len(members) != len(infos):
        raise _fault(f"The archive lists {len(infos)} members under {len(members)} names.", where)
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits & 1:
            raise _fault(
                f"The member {info.filename!r:.80} is compressed ({info.compress_size} bytes that claim to become "
                f"{info.file_size}) or encrypted; torch does neither.",
                where,
            )
        if info.header_offset < end:
            raise _fault(f"The member {info.filename!r:.80} overlaps the one before it.", where)
        end = info.header_offset + info.compress_size
    if end > size:
        raise _fault(f"The members need {end} bytes; the file has {size}.", where)
    return members


# --- the format before it --------------------------------------------------------------------------------------------


class _Bounded:
    """A stream that ends after `limit` bytes, so that no length in a pickle can ask for more."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self.file = file
        self.left = limit

    def read(self, num_bytes: int) -> bytes:
        """At most `num_bytes`."""
        data = self.file.read(max(0, min(num_bytes, self.left)))
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        """Up to the end of the line."""
        data = self.file.readline(self.left)
        self.left -= len(data)
        return data

    def tell(self) -> int:
        """Position in the file."""
        return self.file.tell()


def _read_legacy(file: IO[bytes], size: int, *, where: str) -> tuple[Any, dict[str, Tensor]]:
    def pickle() -> tuple[Any, _Machine]:
        machine = _Machine(where)
        stream: Any = _Bounded(file, min(size - file.tell(), MAX_PICKLE_BYTES))
        return machine.run(stream), machine

    file.seek(len(LEGACY_MAGIC))
    version, system = pickle()[0], pickle()[0]
    if version != _LEGACY_VERSION or not isinstance(system, dict):
        raise _fault(f"The file has the version {version!r:.40}; this format has {_LEGACY_VERSION}.", where)
    if system.get("little_endian") is not True:
        raise _big_endian(where)
    value, machine = pickle()
    keys = pickle()[0]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise _fault("The list of storages is no list of names.", where)
    if set(keys) != set(machine.storages):
        odd = sorted(set(keys) ^ set(machine.storages))[:4]
        raise _fault(f"The storages described and those in the file differ: {', '.join(map(repr, odd))}.", where)
    numbers = {}
    for key in keys:
        storage = machine.storages[key]
        raw = file.read(8)
        count = int.from_bytes(raw, "little", signed=True)
        needed, left = storage.num_elements * storage.dtype.itemsize, size - file.tell()
        if len(raw) < 8 or count != storage.num_elements or needed > left:
            raise _fault(
                f"The storage {key!r} should have {storage.num_elements} elements, {needed} bytes; the file says {count} "
                f"and has {left} bytes left.",
                where,
            )
        numbers[key] = _numbers(file, storage, where)
    if file.tell() != size:
        raise _fault(f"There are {size - file.tell()} bytes after the last storage.", where)
    return value, numbers


# --- both ------------------------------------------------------------------------------------------------------------


def _numbers(stream: IO[bytes], storage: _Storage, where: str) -> Tensor:
    """The elements of a storage whose size is known to fit; (num_elements,) of its dtype."""
    wanted = storage.num_elements * storage.dtype.itemsize
    if wanted == 0:
        return torch.empty(0, dtype=storage.dtype)
    data = bytearray(wanted)
    view, done = memoryview(data), 0
    while done < wanted:
        piece = stream.read(min(wanted - done, 1 << 24))
        if not piece:
            raise _fault(f"The storage {storage.key!r} ends after {done} of {wanted} bytes.", where)
        view[done : done + len(piece)] = piece
        done += len(piece)
    if storage.dtype == torch.bool and max(data) > 1:
        raise _fault(f"The storage {storage.key!r} of booleans holds the byte {max(data)}.", where)
    return torch.frombuffer(data, dtype=storage.dtype)


def _with_tensors(value: Any, numbers: Mapping[str, Tensor], *, where: str) -> Any:
    """The value with a tensor in place of each view."""
    groups: dict[str, dict[_View, Tensor]] = {}

    def walk(item: Any) -> Any:
        if isinstance(item, _View):
            made = groups.setdefault(item.storage.key, {})
            if item not in made:
                made[item] = _tensor(item, numbers[item.storage.key], where)
            return made[item]
        if isinstance(item, dict):
            return {key: walk(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [walk(inner) for inner in item]
        return tuple(walk(inner) for inner in item) if isinstance(item, tuple) else item

    found = walk(value)
    for views in groups.values():
        if len(views) > 1:
            _refuse_overlaps(list(views), where)
    return found


def _tensor(view: _View, whole: Tensor, where: str) -> Tensor:
    """A view of a storage, when it lies inside it and does not overlap itself."""
    if math.prod(view.size) == 0:
        return torch.empty(view.size, dtype=whole.dtype)
    length = view.storage.num_elements if view.storage.length < 0 else view.storage.length
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.size, view.stride, strict=True))
    if last >= length:
        raise _fault(f"{_shown(view)} reaches beyond its storage of {length} elements.", where)
    reach = 0  # the furthest element that the inner dimensions touch
    for stride, size in sorted((stride, size) for stride, size in zip(view.stride, view.size, strict=True) if size > 1):
        if stride <= reach:
            raise _fault(f"{_shown(view)} overlaps itself.", where, mend="save tensor.clone() of what was expanded")
        reach += (size - 1) * stride
    return whole.as_strided(view.size, view.stride, view.storage.begin + view.offset)


def _refuse_overlaps(views: list[_View], where: str) -> None:
    """Several views of one storage, as an LSTM's flat weights have, may not share an element."""
    marks = torch.zeros(views[0].storage.num_elements, dtype=torch.bool)
    for view in views:
        if math.prod(view.size) == 0:
            continue
        mine = marks.as_strided(view.size, view.stride, view.storage.begin + view.offset)
        if bool(mine.any()):
            raise _fault(f"{_shown(view)} overlaps another.", where, mend="save tensor.clone() of each")
        mine.fill_(True)


def _shown(view: _View) -> str:
    return f"A tensor shaped {view.size} with the strides {view.stride} from element {view.offset} on"


def _big_endian(where: str) -> WeightsError:
    return _fault(
        "The file was written on a big-endian machine.",
        where,
        mend="load and save it with safetensors on the machine that wrote it",
    )


def _fault(what: str, where: str, *, mend: str = _AGAIN) -> WeightsError:
    return WeightsError(what, where=where, accepts=_ACCEPTS, mend=mend)
