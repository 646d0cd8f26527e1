"""Pickles of plain values and NumPy arrays of bytes, read without Python's unpickler.

The CIFAR batches are pickles. `core/pickle_machine.py` executes the opcodes that build plain values; of all names that a
pickle can look up it knows five here, which are never imported or called: they stand for "an array", "its element type"
and "bytes written as text".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import DataError
from lamina.core.pickle_machine import Name, PickleMachine, expect

_ARRAY_MAKERS: Final = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
_ARRAY: Final = ("numpy", "ndarray")
_DTYPE: Final = ("numpy", "dtype")
_ENCODE: Final = ("_codecs", "encode")


@dataclass
class _Dtype:
    text: str


@dataclass
class _Shell:
    """An array between being made and being filled."""

    array: NDArray[np.generic] | None = None


class _Machine(PickleMachine):
    """Knows arrays of plain numbers."""

    known = frozenset({*_ARRAY_MAKERS, _ARRAY, _DTYPE, _ENCODE})

    def refuse(self, what: str, position: int) -> DataError:
        """The error for something in the pickle that is not plain data."""
        return DataError(
            f"The pickle {what} at byte {position}; that is not plain data and is not executed.",
            where=self.where,
            accepts="dicts, lists, tuples, texts, bytes, numbers and NumPy arrays of bytes",
            mend="do not trust this file; take the batches from the original archive",
        )

    def damaged(self, what: str, position: int) -> DataError:
        """The error for a pickle that does not hold together."""
        return DataError(
            f"The pickle is damaged near byte {position}: {what}.",
            where=self.where,
            accepts="a complete pickle of plain data",
            mend="download or copy the file again",
        )

    def old_text(self, text: str | bytes) -> bytes:
        """What Python 2 called a string is bytes."""
        return text.encode("latin-1") if isinstance(text, str) else text

    def make(self, maker: Any, arguments: tuple[Any, ...], position: int) -> Any:
        """What calling one of the known names would give."""
        key = maker.key if isinstance(maker, Name) else None
        if key in _ARRAY_MAKERS and len(arguments) == 3 and arguments[0] == Name(*_ARRAY):
            return _Shell()
        if key == _DTYPE and arguments:
            text = arguments[0].decode("ascii") if isinstance(arguments[0], bytes) else str(arguments[0])
            if text not in ("u1", "|u1", "i1", "i8", "i4", "f4", "f8"):
                raise self.refuse(f"makes an array of {text!r:.40}", position)
            return _Dtype(text)
        if (
            key == _ENCODE
            and len(arguments) == 2
            and isinstance(arguments[0], str)
            and arguments[1] in ("latin1", "latin-1")
        ):
            return arguments[0].encode("latin-1")
        raise self.refuse("calls something with arguments that are not an array's", position)

    def fill(self, target: Any, state: Any, position: int) -> None:
        """Give an array its shape, type and bytes."""
        if isinstance(target, _Dtype):
            order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
            if order in ("<", ">"):
                target.text = order + target.text.lstrip("|<>")
            return
        if not isinstance(target, _Shell) or not isinstance(state, tuple) or len(state) != 5:
            raise self.refuse("sets the state of something that is no array", position)
        _, shape, dtype, fortran, content = state
        sizes = [int(size) for size in expect(shape, tuple)]
        kind = np.dtype(expect(dtype, _Dtype).text)
        if min(sizes, default=0) < 0 or math.prod(sizes) * kind.itemsize != len(expect(content, bytes)):
            raise ValueError(f"an array shaped {tuple(sizes)} has {len(content)} bytes")
        array = np.frombuffer(bytearray(content), dtype=kind)
        target.array = array.reshape(sizes, order="F" if fortran else "C")

    def leaf(self, value: Any) -> Any:
        """Arrays in place of their shells."""
        if isinstance(value, _Shell):
            if value.array is None:
                raise ValueError("an array was never filled")
            return value.array
        if isinstance(value, _Dtype):
            raise ValueError("a name stands where a value belongs")
        return super().leaf(value)


def read_plain_pickle(data: bytes, *, where: str) -> Any:
    """The plain value that a pickle describes; nothing in it is executed or imported.

    Args:
        data: The whole pickle.
        where: The file, for messages.

    Returns:
        Dicts, lists, tuples, str, bytes, numbers, None and NumPy arrays; Python 2 strings are bytes.

    Raises:
        DataError: The pickle is damaged, or uses anything but the opcodes and names that such values need.
    """
    return _Machine(where).run(data)
