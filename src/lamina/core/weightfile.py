"""Other people's weight files: which format it is, and the tensors in it by name. Nothing in a file is run.

Read are safetensors, both formats of `torch.save` (`core/torchfile.py`) and NPZ. A checkpoint's state dict is found inside
it, the prefixes of wrappers are taken off, half precision is widened, and the sha256 that a file's name promises is
compared with the file.
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from lamina.core.errors import WeightsError
from lamina.core.files import sha256_file
from lamina.core.npyfile import MAGIC as NPY_MAGIC
from lamina.core.npyfile import read_npy_header
from lamina.core.tensorfile import check_header, header_length, unpack_tensors
from lamina.core.torchfile import LEGACY_MAGIC, is_torch_zip, read_torch_file

__all__ = ["WeightFile", "check_promised_hash", "read_weight_file"]

Format = Literal["safetensors", "torch", "npz"]

ACCEPTS: Final = "safetensors, a file of torch.save (.pt, .pth, .bin, .th, .tar) or NPZ"
# A member may not claim to unpack to more than this times its packed bytes, beyond the first MiB.
MAX_RATIO: Final = 200
FREE_BYTES: Final = 1 << 20
MAX_ARRAYS: Final = 100_000
# Where training scripts keep the state dict of the model, the first that is there.
_CONTAINERS: Final = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
# What DataParallel, torch.compile and the like put before every name.
_WRAPPERS: Final = ("module.", "_orig_mod.")
_PROMISED: Final = re.compile(r"-([0-9a-f]{8,64})\.(?:th|pth|pt|bin|tar|pth\.tar|safetensors|npz)$")
_DATE: Final = re.compile(r"(?:19|20)\d{6}")
# What the zip library raises for archives that do not hold together.
_ZIP_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
# First bytes of files that people take for weights -> what they are, and what to do.
_OTHERS: Final[tuple[tuple[bytes, str, str], ...]] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer instead of the weights",
        "fetch the file itself with `git lfs pull`",
    ),
    (b"\x89HDF\r\n\x1a\n", "HDF5, as Keras writes it", "save the arrays with numpy.savez, named as Keras names them"),
    (b"<", "a web page", "download the file again, by its direct link"),
    (b"\x1f\x8b", "gzip", "unpack it first"),
    (NPY_MAGIC, "one NPY array without names", "save all arrays by name with numpy.savez"),
    (b"GGUF", "GGUF", "take the model's safetensors file"),
    (b"\x80", "a pickle that torch did not write", "save the state dict with safetensors"),
)


@dataclass(frozen=True)
class WeightFile:
    """What a file holds.

    Attributes:
        path: The file.
        format: `safetensors`, `torch` or `npz`.
        tensors: By name, on the CPU, without wrappers' prefixes; half precision widened to float32.
        notes: Sentences that say what was done.
    """

    path: Path
    format: Format
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def read_weight_file(path: str | Path) -> WeightFile:
    """Read a file of weights.

    Raises:
        WeightsError: There is no such file, it is damaged or of another format, it holds no state dict, it would run code,
            or it is not what the sha256 in its name promises.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(
            f"There is no file {path.name}.", where=str(path), accepts=ACCEPTS, mend="check the path; give one file"
        )
    notes = []
    promised = check_promised_hash(path)
    if promised:
        notes.append(f"sha256 begins with {promised}, as the name says.")
    kind = _format(path)
    if kind == "safetensors":
        tensors = _read_safetensors(path)
    elif kind == "npz":
        tensors = _read_npz(path)
    else:
        tensors, more = _state_dict(read_torch_file(path), str(path))
        notes += more
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
            notes.append(f"The prefix {prefix!r} of every name is left out.")
    half = [name for name, tensor in tensors.items() if tensor.dtype in (torch.float16, torch.bfloat16)]
    if half:
        notes.append(f"{len(half)} of {len(tensors)} tensors are widened from half precision.")
        tensors = {name: tensor.float() if name in set(half) else tensor for name, tensor in tensors.items()}
    return WeightFile(path, kind, tensors, tuple(notes))


def check_promised_hash(path: Path) -> str:
    """The first digits of the sha256 that a name such as `resnet20-12fca82f.th` promises; empty where it promises none.

    Raises:
        WeightsError: The file has another.
    """
    found = _PROMISED.search(path.name)
    if found is None or _DATE.fullmatch(found[1]):
        return ""
    actual = sha256_file(path)
    if not actual.startswith(found[1]):
        raise WeightsError(
            f"The file's sha256 begins with {actual[: len(found[1])]}; its name promises {found[1]}.",
            where=str(path),
            accepts="the file that the name promises",
            mend="download it again; where you changed the file yourself, give it another name",
        )
    return found[1]


def _format(path: Path) -> Format:
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(64)
        file.seek(max(0, min(257, size)))
        is_tar = file.read(5) == b"ustar"
    if first.startswith(LEGACY_MAGIC):
        return "torch"
    if first.startswith(b"PK\x03\x04"):
        if is_torch_zip(path):
            return "torch"
        return "npz"
    announced = int.from_bytes(first[:8], "little")
    if len(first) > 8 and first[8:9] == b"{" and 2 <= announced <= size - 8:
        return "safetensors"
    what, mend = next(
        ((what, mend) for magic, what, mend in _OTHERS if first.startswith(magic)),
        (f"no format of weights: it begins with {first[:8]!r}", "check the path, or download it again"),
    )
    if is_tar:
        what, mend = "a tar archive of torch 0.1", "load and save it with a torch of that time"
    if size == 0:
        what, mend = "empty", "download or copy it again"
    raise WeightsError(f"The file is {what}.", where=str(path), accepts=ACCEPTS, mend=mend)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    mend = "download or copy the file again; where it is a bundle's, save the bundle again"
    with path.open("rb") as file:
        size = path.stat().st_size
        length = header_length(file.read(8), file_size=size, where=str(path), mend=mend, error=WeightsError)
        facts = check_header(
            file.read(length), file_size=size, where=str(path), mend=mend, error=WeightsError, notes_allowed=True
        )
        data = bytearray(size)
        file.seek(0)
        if file.readinto(data) != size:
            raise WeightsError("The file ends early.", where=str(path), accepts=ACCEPTS, mend=mend)
    return unpack_tensors(data, facts, where=str(path), mend=mend, error=WeightsError)


def _read_npz(path: Path) -> dict[str, Tensor]:
    where = str(path)
    tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            other = [info.filename for info in infos if not info.filename.endswith(".npy")]
            if other or not infos or len(infos) > MAX_ARRAYS:
                raise _fault(
                    f"The zip archive holds {', '.join(map(repr, other[:4]))}." if other else "The archive is empty.",
                    where,
                )
            for info in infos:
                name, place = info.filename.removesuffix(".npy"), f"{where}, {info.filename}"
                if info.file_size > max(FREE_BYTES, MAX_RATIO * info.compress_size):
                    raise _fault(
                        f"{info.compress_size} bytes claim to unpack to {info.file_size}: this looks like a decompression bomb.",
                        place,
                    )
                if name in tensors:
                    raise _fault(f"Two arrays are called {name!r}.", where)
                with archive.open(info) as member:
                    tensors[name] = _read_array(member, info.file_size, place)
    except (*_ZIP_FAULTS, OSError) as error:
        if isinstance(error, WeightsError):
            raise
        why = (
            "it was cut off or changed on the way" if isinstance(error, zipfile.BadZipFile) else str(error).rstrip(".")
        )
        raise _fault(
            f"The NPZ file is damaged: {why or 'it ends early'}.", where, mend="download or copy it again"
        ) from error
    return tensors


def _read_array(member: Any, size: int, where: str) -> Tensor:
    header = read_npy_header(member, fault=lambda what: _fault(what, where))
    if header.dtype.kind not in "fiub":
        raise _fault(f"The array holds {header.dtype}.", where)
    if header.offset + header.num_bytes != size:
        raise _fault(
            f"The header promises {header.shape} of {header.dtype}, {header.num_bytes} bytes; there are {size - header.offset}.",
            where,
        )
    data = bytearray(member.read(header.num_bytes))
    if len(data) != header.num_bytes:
        raise _fault(f"The array ends after {len(data)} of {header.num_bytes} bytes.", where)
    flat = np.frombuffer(data, dtype=header.dtype)
    if header.dtype.kind == "b" and data and max(data) > 1:
        raise _fault(f"The array of booleans holds the byte {max(data)}.", where)
    array = flat.reshape(header.shape, order="F" if header.fortran else "C")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    try:
        return torch.from_numpy(np.ascontiguousarray(array).reshape(header.shape))
    except TypeError:
        raise _fault(f"The array holds {header.dtype}.", where) from None


def _state_dict(value: Any, where: str) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by name in what a file of torch holds, and sentences about what else is in it."""
    if _is_state(value):
        return dict(value), []
    inner = value if isinstance(value, Mapping) else {}
    found = [name for name in _CONTAINERS if _is_state(inner.get(name))]
    if found:
        rest = [_shown(name, item) for name, item in inner.items() if name != found[0]]
        return dict(inner[found[0]]), [f"The weights are those under {found[0]!r}.", *_beside(rest)]
    has = f"the keys {', '.join(map(repr, list(inner)[:12]))}" if inner else f"a {type(value).__name__}"
    raise WeightsError(
        f"The file holds no state dict; it holds {has}.",
        where=where,
        accepts=f"tensors by name, or such under one of {', '.join(_CONTAINERS)}",
        mend="save model.state_dict() alone",
    )


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items())
    )


def _beside(rest: list[str]) -> list[str]:
    return [f"Also in the file, and not used: {', '.join(rest[:8])}{' …' if len(rest) > 8 else ''}."] if rest else []


def _shown(name: Any, item: Any) -> str:
    return f"{name} = {item:g}" if isinstance(item, int | float) and not isinstance(item, bool) else str(name)


def _fault(
    what: str, where: str, *, mend: str = "write it again with numpy.savez from plain arrays, or give safetensors"
) -> WeightsError:
    return WeightsError(
        what,
        where=where,
        accepts="an NPZ of plain arrays of numbers by name, as long as their headers say",
        mend=mend,
    )
