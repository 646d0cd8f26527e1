"""Tensors in the safetensors format, read from files that nobody vouches for.

The header is checked completely against the file's size before any tensor is looked at: its own length, strict JSON,
known dtypes, shapes whose bytes equal their range, ranges that cover the data once without gap or overlap.

Format: 8 bytes little-endian header length, JSON header {name: {dtype, shape, data_offsets}}, data
(https://github.com/huggingface/safetensors, README, "Format").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import safetensors.torch
import torch
from torch import Tensor

from lamina.core.errors import BundleError, LaminaError
from lamina.core.strict_json import parse_json

MAX_HEADER_BYTES: Final = 16 * 2**20
MAX_DIMENSIONS: Final = 8
MAX_NAME: Final = 512
DTYPES: Final[dict[str, torch.dtype]] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class TensorFacts:
    """What a header says of one tensor: dtype, shape, and its bytes [begin, end) counted from the file's start."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def pack_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file; tensors that share memory are written each in full.

    Raises:
        TypeError: A dtype that the format has but we do not read back (complex, unsigned 16 bits and wider).
    """
    plain: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise TypeError(f"{name} has the dtype {tensor.dtype}, which a bundle does not hold")
        flat = tensor.detach().to("cpu").contiguous()
        # The writer refuses shared storages, and writes a view's whole storage unless it is compact.
        storage = flat.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != flat.numel() * flat.element_size():
            flat = flat.clone()
        storages.add(flat.untyped_storage().data_ptr())
        plain[name] = flat
    return bytes(safetensors.torch.save(plain))


def header_length(
    first: bytes, *, file_size: int, where: str, mend: str, error: type[LaminaError] = BundleError
) -> int:
    """The length of the JSON header that the file's first 8 bytes announce, checked against the file's size."""
    announced = int.from_bytes(first[:8], "little")
    if len(first) < 8 or announced > min(file_size - 8, MAX_HEADER_BYTES) or announced < 2:
        raise error(
            f"The file of {file_size} bytes announces a header of {announced} bytes.",
            where=where,
            accepts=f"a header of 2 to {MAX_HEADER_BYTES} bytes that lies inside the file",
            mend=mend,
        )
    return announced


def check_header(
    header: bytes,
    *,
    file_size: int,
    where: str,
    mend: str,
    error: type[LaminaError] = BundleError,
    notes_allowed: bool = False,
) -> dict[str, TensorFacts]:
    """Check a header against the size of its file, and say what tensors the file holds, in the header's order.

    Args:
        header: The JSON bytes that follow the first 8.
        file_size: Of the whole file.
        where: The file, for messages.
        mend: What the user should do about a fault.
        error: Class of the errors.
        notes_allowed: Whether the header may have `__metadata__`, as other people's files do; it is not used.
    """
    document = parse_json(
        header, where=f"{where}, header", mend=mend, max_bytes=MAX_HEADER_BYTES, max_depth=4, error=error
    )
    if notes_allowed and isinstance(document.get("__metadata__"), dict):
        document = {name: entry for name, entry in document.items() if name != "__metadata__"}
    start = 8 + len(header)
    found = {
        name: _facts(name, entry, start=start, file_size=file_size, where=where, mend=mend, error=error)
        for name, entry in document.items()
    }
    position = start
    for name, facts in sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)):
        if facts.begin != position:
            raise error(
                f"The bytes of tensor {name!r} begin at {facts.begin} where {position} was due.",
                where=where,
                accepts="tensors that lie one after the other without gap or overlap",
                mend=mend,
            )
        position = facts.end
    if position != file_size:
        raise error(
            f"The tensors end at byte {position} of {file_size}.",
            where=where,
            accepts="tensors that fill the file to its end",
            mend=mend,
        )
    return found


def _facts(
    name: str, entry: Any, *, start: int, file_size: int, where: str, mend: str, error: type[LaminaError]
) -> TensorFacts:
    def fault(what: str, accepts: str) -> LaminaError:
        return error(what, where=f"{where}, tensor {name[:80]!r}", accepts=accepts, mend=mend)

    if not 0 < len(name) <= MAX_NAME or not name.isprintable() or name == "__metadata__":
        raise fault(f"The header has an entry called {name[:80]!r}.", f"names of 1 to {MAX_NAME} printable characters")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise fault(f"Its entry is {str(entry)[:80]}.", "dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise fault(f"Its dtype is {str(dtype)[:80]!r}.", ", ".join(DTYPES))
    if not _sizes(shape) or len(shape) > MAX_DIMENSIONS or math.prod(max(size, 1) for size in shape) >= 2**48:
        raise fault(f"Its shape is {str(shape)[:80]}.", f"at most {MAX_DIMENSIONS} whole numbers of a usable size")
    if not _sizes(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= file_size - start:
        raise fault(
            f"Its data_offsets are {str(offsets)[:80]}.", f"begin and end within the {file_size - start} bytes of data"
        )
    num_bytes = math.prod(shape) * DTYPES[dtype].itemsize
    if num_bytes != offsets[1] - offsets[0]:
        raise fault(
            f"Shape {shape} of {dtype} needs {num_bytes} bytes; its range has {offsets[1] - offsets[0]}.",
            "a range as long as the shape says",
        )
    return TensorFacts(DTYPES[dtype], tuple(shape), start + offsets[0], start + offsets[1])


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def unpack_tensors(
    data: bytearray, facts: Mapping[str, TensorFacts], *, where: str, mend: str, error: type[LaminaError] = BundleError
) -> dict[str, Tensor]:
    """The tensors of a file whose header passed `check_header`; they share the memory of `data`.

    Raises:
        LaminaError: Of class `error`: a boolean tensor with a byte that is neither 0 nor 1.
    """
    tensors = {}
    for name, fact in facts.items():
        num_elements = math.prod(fact.shape)
        if num_elements == 0:
            tensors[name] = torch.empty(fact.shape, dtype=fact.dtype)
            continue
        # Read as bytes and copied where the start is not aligned, which only foreign writers produce.
        flat = torch.frombuffer(data, dtype=torch.uint8, count=fact.end - fact.begin, offset=fact.begin)
        if fact.dtype == torch.bool and int(flat.max()) > 1:
            raise error(
                f"The boolean tensor {name!r} holds the byte {int(flat.max())}.",
                where=where,
                accepts="0 and 1",
                mend=mend,
            )
        if flat.data_ptr() % fact.dtype.itemsize:
            flat = flat.clone()
        tensors[name] = flat.view(fact.dtype).view(fact.shape)
    return tensors
