"""A machine that reads pickles without running them.

Unpickling runs whatever code a file names, so it is not done: `pickletools` takes the stream apart into opcodes, and the
machine below executes those that build dicts, lists, tuples, texts, bytes and numbers. Names that a pickle looks up are
compared with a short list and never imported or called; what they would make is up to a subclass, which knows the few
that its files need: arrays for `data/readers/plain_pickle.py`, tensors for `core/torchfile.py`. Everything else is
refused with the opcode and its position.

Format: Python's documentation of `pickletools`; PEP 307, PEP 3154.
"""

from __future__ import annotations

import pickletools
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import IO, Any, ClassVar, Final

from lamina.core.errors import LaminaError

MAX_OPCODES: Final = 4_000_000
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
# What a damaged or hostile stream makes the machine itself stumble over.
_STUMBLES: Final = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
)


class _Mark:
    """Where a sequence of arguments begins on the stack."""


@dataclass(frozen=True)
class Name:
    """A name that the pickle looks up; never the thing itself."""

    module: str
    name: str

    @property
    def key(self) -> tuple[str, str]:
        """Module and name."""
        return self.module, self.name


class PickleMachine(ABC):
    """Executes opcodes that build plain values; a subclass says which names it knows and what they make.

    Args:
        where: The file, for messages.
    """

    known: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    max_depth: ClassVar[int] = 6

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.num_visited = 0

    # --- what a subclass decides ---

    @abstractmethod
    def refuse(self, what: str, position: int) -> LaminaError:
        """The error for something in the pickle that is not plain data."""

    @abstractmethod
    def damaged(self, what: str, position: int) -> LaminaError:
        """The error for a pickle that does not hold together."""

    def make(self, maker: Any, arguments: tuple[Any, ...], position: int) -> Any:
        """What calling one of the known names would give."""
        raise self.refuse("calls something", position)

    def fill(self, target: Any, state: Any, position: int) -> None:
        """What BUILD does: give something that `make` made its state."""
        raise self.refuse("sets the state of something", position)

    def persistent(self, identity: Any, position: int) -> Any:
        """What a persistent id stands for."""
        raise self.refuse("uses the opcode BINPERSID", position)

    def old_text(self, text: str | bytes) -> Any:
        """What Python 2 called a string; `pickletools` gives it as latin-1."""
        return text

    def leaf(self, value: Any) -> Any:
        """A value that is no container, as it is given out; remains of the machine are refused with ValueError."""
        if isinstance(value, Name | _Mark):
            raise ValueError("a name stands where a value belongs")
        return value

    # --- the machine ---

    def run(self, data: bytes | IO[bytes]) -> Any:
        """The value that the pickle describes; of a stream, the bytes up to its end are used and no more."""
        position = 0
        try:
            for count, (opcode, argument, found) in enumerate(pickletools.genops(data)):
                position = found or 0
                if count > MAX_OPCODES:
                    raise self.refuse(f"has more than {MAX_OPCODES} opcodes", position)
                if opcode.name == "STOP":
                    return self.finished(self.stack.pop(), 0)
                self.step(opcode.name, argument, position)
        except LaminaError:
            raise
        except _STUMBLES as error:
            raise self.damaged(str(error)[:120] or type(error).__name__, position) from error
        raise AssertionError("genops ends with STOP or raises")

    def step(self, opcode: str, argument: Any, position: int) -> None:
        """One opcode."""
        stack = self.stack
        if opcode in _PUSHES_ARGUMENT:
            stack.append(argument)
        elif opcode in _OLD_TEXTS:
            stack.append(self.old_text(argument))
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
            expect(stack[-1], list).extend(items)
        elif opcode in ("SETITEM", "SETITEMS"):
            items = [stack.pop(), stack.pop()][::-1] if opcode == "SETITEM" else self.since_mark()
            expect(stack[-1], dict).update(zip(items[::2], items[1::2], strict=True))
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
            stack.append(self.make(stack.pop(), expect(arguments, tuple), position))
        elif opcode == "BUILD":
            state = stack.pop()
            self.fill(stack[-1], state, position)
        elif opcode == "BINPERSID":
            stack.append(self.persistent(stack.pop(), position))
        elif opcode not in _NOTHING:
            raise self.refuse(f"uses the opcode {opcode}", position)

    def since_mark(self) -> list[Any]:
        """Pop down to the last mark."""
        items: list[Any] = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def look_up(self, opcode: str, argument: Any, position: int) -> None:
        """Push a name, if it is one of the known."""
        if opcode == "GLOBAL":
            module, _, name = str(argument).partition(" ")
        else:
            name, module = self.stack.pop(), self.stack.pop()
        if (module, name) not in self.known:
            raise self.refuse(f"looks up {module!s:.60}.{name!s:.60}", position)
        self.stack.append(Name(module, name))

    def finished(self, value: Any, depth: int) -> Any:
        """The value with every leaf as `leaf` gives it out."""
        # A pickle can hold a list in itself, or the same list a thousand times in each of a thousand lists.
        self.num_visited += 1
        if depth > self.max_depth or self.num_visited > MAX_OPCODES:
            raise ValueError("values are nested too deeply")
        if isinstance(value, dict):
            return {self.leaf(key): self.finished(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [self.finished(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            return tuple(self.finished(item, depth + 1) for item in value)
        return self.leaf(value)


def expect(value: Any, kind: type[Any]) -> Any:
    """The value, if it is of this kind; ValueError otherwise."""
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} stands where a {kind.__name__} belongs")
    return value
