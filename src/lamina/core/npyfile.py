"""The header of an NPY array: parsed and checked before anything is allocated; arrays of objects are refused.

Format: numpy/lib/format.py, versions 1 to 3.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Final

import numpy as np

from lamina.core.errors import LaminaError

MAGIC: Final = b"\x93NUMPY"
MAX_HEADER: Final = 10_000


@dataclass(frozen=True)
class NPYHeader:
    """Element type, dimensions, memory order and the offset of the first element."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    fortran: bool
    offset: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(stream: IO[bytes], *, fault: Callable[[str], LaminaError]) -> NPYHeader:
    """The header of an NPY stream, which is left at the first element.

    Args:
        fault: What is wrong -> the error to raise: not NPY, damaged, or an element type that needs code to be read.
    """
    start = stream.read(8)
    if len(start) < 8 or start[:6] != MAGIC or start[6] not in (1, 2, 3):
        raise fault("The array does not begin with the NPY magic number.")
    width = 2 if start[6] == 1 else 4
    size = int.from_bytes(stream.read(width), "little")
    if size > MAX_HEADER:
        raise fault(f"The header claims {size} bytes.")
    text = stream.read(size)
    try:
        fields = ast.literal_eval(text.decode("latin-1").strip())
        descr, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    except (ValueError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise fault("The header of the array is damaged.") from None
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=]?([biuf]\d{1,2}|\?|[SU]\d{1,6})", descr):
        raise fault(f"The array holds {descr!r}: reading objects could run code, and other types are no data.")
    if (
        not isinstance(shape, tuple)
        or not all(isinstance(n, int) and 0 <= n < 1 << 48 for n in shape)
        or len(shape) > 8
    ):
        raise fault(f"The header claims the shape {shape!r}.")
    try:
        dtype = np.dtype(descr)
    except TypeError:
        raise fault(f"The element type {descr!r} is unknown.") from None
    return NPYHeader(dtype, shape, bool(fortran), 8 + width + size)
