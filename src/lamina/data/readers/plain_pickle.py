"""Pickles of plain values and NumPy arrays of bytes, read without Python's unpickler.

The CIFAR batches are pickles. Unpickling runs whatever code a file names, so it is not done: `pickletools` takes the
stream apart into opcodes, and the small machine below executes those that build dicts, lists, tuples, texts, bytes and
numbers. Of all names that a pickle can look up it knows five, which are never imported or called: they stand for "an
array", "its element type" and "bytes written as text". Everything else is refused with the opcode and its position.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lamina.core.errors import DataError

MAX_OPCODES: Final = 4_000_000
MAX_DEPTH: Final = 6
_ARRAY_MAKERS: Final = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
_ARRAY: Final = ("numpy", "ndarray")
_DTYPE: Final = ("numpy", "dtype")
_ENCODE: Final = ("_codecs", "encode")
_KNOWN: Final = {*_ARRAY_MAKERS, _ARRAY, _DTYPE, _ENCODE}
_PUSHES_ARGUMENT: Final = {
    "BININT",
    "BININT1",
    "BININT2",
    "INT",
    "LONG",
    "LONG1",
    "LONG4",
    "BINFLOAT",
    "FLOAT",
    "UNICODE",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
}
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_OLD_TEXTS: Final = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_NOTHING: Final = {"PROTO", "FRAME"}


class _Mark:
    """Where a sequence of arguments begins on the stack."""


@dataclass(frozen=True)
class _Name:
    """A name that the pickle looks up; never the thing itself."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass
class _Dtype:
    text: str


@dataclass
class _Shell:
    """An array between being made and being filled."""

    array: NDArray[np.generic] | None = None


class _Machine:
    """Executes opcodes that build plain values."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.num_visited = 0

    def refuse(self, what: str, position: int) -> DataError:
        """The error for something in the pickle that is not plain data."""
        return DataError(
            f"The pickle {what} at byte {position}; that is not plain data and is not executed.",
            where=self.where,
            accepts="dicts, lists, tuples, texts, bytes, numbers and NumPy arrays of bytes",
            mend="do not trust this file; take the batches from the original archive",
        )

    def run(self, data: bytes) -> Any:
        """The value that the pickle describes."""
        position = 0
        try:
            for count, (opcode, argument, found) in enumerate(pickletools.genops(data)):
                position = found or 0
                if count > MAX_OPCODES:
                    raise self.refuse(f"has more than {MAX_OPCODES} opcodes", position)
                if opcode.name == "STOP":
                    return self.finished(self.stack.pop(), 0)
                self.step(opcode.name, argument, position)
        except DataError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise DataError(
                f"The pickle is damaged near byte {position}: {str(error)[:120] or type(error).__name__}.",
                where=self.where,
                accepts="a complete pickle of plain data",
                mend="download or copy the file again",
            ) from error
        raise AssertionError("genops ends with STOP or raises")

    def step(self, opcode: str, argument: Any, position: int) -> None:
        """One opcode."""
        stack = self.stack
        if opcode in _PUSHES_ARGUMENT:
            stack.append(argument)
        elif opcode in _OLD_TEXTS:
            # What Python 2 called a string is bytes; pickletools gives them as latin-1.
            stack.append(argument.encode("latin-1") if isinstance(argument, str) else argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode == "EMPTY_DICT":
            stack.append({})
        elif opcode == "EMPTY_LIST":
            stack.append([])
        elif opcode == "MARK":
            stack.append(_Mark())
        elif opcode in ("TUPLE", "LIST", "DICT"):
            items = self.since_mark()
            made: Any = tuple(items) if opcode == "TUPLE" else items
            stack.append(dict(zip(items[::2], items[1::2], strict=True)) if opcode == "DICT" else made)
        elif opcode in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(opcode[-1])
            items = [stack.pop() for _ in range(size)]
            stack.append(tuple(reversed(items)))
        elif opcode in ("APPEND", "APPENDS"):
            items = [stack.pop()] if opcode == "APPEND" else self.since_mark()
            _expect(stack[-1], list).extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if opcode == "SETITEM" else self.since_mark()
            _expect(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
        elif opcode in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = stack[-1]
        elif opcode == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif opcode in ("GLOBAL", "STACK_GLOBAL"):
            self.look_up(opcode, argument, position)
        elif opcode == "REDUCE":
            arguments = stack.pop()
            stack.append(self.make(stack.pop(), _expect(arguments, tuple), position))
        elif opcode == "BUILD":
            state = stack.pop()
            self.fill(stack[-1], state, position)
        elif opcode not in _NOTHING:
            raise self.refuse(f"uses the opcode {opcode}", position)

    def since_mark(self) -> list[Any]:
        """Pop down to the last mark."""
        items: list[Any] = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def look_up(self, opcode: str, argument: Any, position: int) -> None:
        """Push a name, if it is one of the five."""
        if opcode == "GLOBAL":
            module, _, name = str(argument).partition(" ")
        else:
            name, module = self.stack.pop(), self.stack.pop()
        if (module, name) not in _KNOWN:
            raise self.refuse(f"looks up {module!s:.60}.{name!s:.60}", position)
        self.stack.append(_Name(module, name))

    def make(self, maker: Any, arguments: tuple[Any, ...], position: int) -> Any:
        """What calling one of the known names would give."""
        key = maker.key if isinstance(maker, _Name) else None
        if key in _ARRAY_MAKERS and len(arguments) == 3 and arguments[0] == _Name(*_ARRAY):
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
        sizes = [int(size) for size in _expect(shape, tuple)]
        kind = np.dtype(_expect(dtype, _Dtype).text)
        if min(sizes, default=0) < 0 or math.prod(sizes) * kind.itemsize != len(_expect(content, bytes)):
            raise ValueError(f"an array shaped {tuple(sizes)} has {len(content)} bytes")
        array = np.frombuffer(bytearray(content), dtype=kind)
        target.array = array.reshape(sizes, order="F" if fortran else "C")

    def finished(self, value: Any, depth: int) -> Any:
        """The value with arrays in place of their shells; other remains of the machine are refused."""
        # A pickle can hold a list in itself, or the same list a thousand times in each of a thousand lists.
        self.num_visited += 1
        if depth > MAX_DEPTH or self.num_visited > MAX_OPCODES:
            raise ValueError("values are nested too deeply")
        if isinstance(value, _Shell):
            if value.array is None:
                raise ValueError("an array was never filled")
            return value.array
        if isinstance(value, _Name | _Dtype | _Mark):
            raise ValueError("a name stands where a value belongs")
        if isinstance(value, dict):
            return {key: self.finished(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.finished(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.finished(item, depth + 1) for item in value)
        return value


def _expect(value: Any, kind: type[Any]) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} stands where a {kind.__name__} belongs")
    return value


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
