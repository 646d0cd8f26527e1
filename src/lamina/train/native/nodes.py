"""Lazy values with affine indexing: what a traced graph is lowered to.

A node is a tensor of known shape whose element at an index can be written as a C++ expression. View operations cost
nothing: they are affine maps of indices (`Remap`), and a view of a stored buffer is again one (`Stored`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

__all__ = [
    "Affine",
    "Buffer",
    "Constant",
    "Gathered",
    "Iota",
    "Lookup",
    "Node",
    "NotNativeError",
    "Pointwise",
    "Remap",
    "Stored",
    "c_type",
    "contiguous_strides",
    "expand",
    "remap",
]


class NotNativeError(Exception):
    """The step cannot be made native; the message is a clause that says why. Never reaches a user as an error."""


_C_TYPES = {
    torch.float32: "float",
    torch.float64: "double",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.int16: "int16_t",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
    torch.bool: "bool",
}


def c_type(dtype: torch.dtype) -> str:
    """The C++ type of a dtype.

    Raises:
        NotNativeError: There is none (bfloat16, complex, …).
    """
    if dtype not in _C_TYPES:
        raise NotNativeError(f"it uses {str(dtype).removeprefix('torch.')}")
    return _C_TYPES[dtype]


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Affine:
    """constant + sum of coefficient * variable; variables are names of C++ integers."""

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def variable(name: str) -> Affine:
        """The variable itself."""
        return Affine(0, ((name, 1),))

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.constant + other, self.terms)
        sums = dict(self.terms)
        for name, factor in other.terms:
            sums[name] = sums.get(name, 0) + factor
        terms = tuple(sorted((name, factor) for name, factor in sums.items() if factor))
        return Affine(self.constant + other.constant, terms)

    def __mul__(self, factor: int) -> Affine:
        if factor == 0:
            return Affine()
        return Affine(self.constant * factor, tuple((name, c * factor) for name, c in self.terms))

    def coefficient(self, name: str) -> int:
        """The factor of a variable."""
        return dict(self.terms).get(name, 0)

    def text(self) -> str:
        """As C++."""
        parts = [name if factor == 1 else f"{factor}*{name}" for name, factor in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts)


@dataclass(eq=False)
class Buffer:
    """Memory that a program reads or writes.

    Attributes:
        name: Its C++ variable.
        dtype, numel: What it holds, contiguous.
        kind: `input` (given, read only), `carried` (given, updated from step to step), `step` (a new place each step),
            `temporary`.
    """

    name: str
    dtype: torch.dtype
    numel: int
    kind: str = "temporary"


@dataclass(eq=False)
class Node:
    """A tensor whose elements can be computed at any index."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def sources(self) -> tuple[Node, ...]:
        """The nodes whose elements it is computed from."""
        return ()


@dataclass(eq=False)
class Stored(Node):
    """A strided view of a buffer. `stored_by`: the lazy node it was made from, None for inputs."""

    buffer: Buffer
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie in order without gaps (offset allowed)."""
        expected = contiguous_strides(self.shape)
        return all(size == 1 or a == b for size, a, b in zip(self.shape, self.strides, expected, strict=True))


@dataclass(eq=False)
class Constant(Node):
    """One number everywhere."""

    value: float | int | bool


@dataclass(eq=False)
class Iota(Node):
    """start + step * index along the only dimension."""

    start: int | float
    step: int | float


@dataclass(eq=False)
class Pointwise(Node):
    """A function of the same element of its arguments, which have the node's shape.

    Attributes:
        name: Of the operation, for messages.
        arguments: What it is computed from.
        write: C++ expressions of the arguments' elements -> C++ expression of the node's dtype.
        cost: 0 for conversions, 1 for an addition, 10 and more for divisions and transcendental functions.
    """

    name: str
    arguments: tuple[Node, ...]
    write: Callable[..., str]
    cost: int = 1

    def sources(self) -> tuple[Node, ...]:
        """Its arguments."""
        return self.arguments


@dataclass(eq=False)
class Remap(Node):
    """Element at index i is the source's at an affine function of i: starts + matrix . i."""

    source: Node
    starts: tuple[int, ...]
    matrix: tuple[tuple[int, ...], ...]  # one row per dimension of the source

    def sources(self) -> tuple[Node, ...]:
        """What it looks at."""
        return (self.source,)

    @property
    def repeats(self) -> bool:
        """Whether some element of the source is read more than once."""
        return self.numel > self.source.numel


@dataclass(frozen=True)
class Lookup:
    """One indexed dimension of a gather.

    Attributes:
        dim: Of the source.
        index: int node; which of the gathering node's dimensions index it is in `axes`.
        axes: In order of the index's dimensions.
        trusted: Checked before the program runs (row numbers); other indices are checked at each access.
    """

    dim: int
    index: Node
    axes: tuple[int, ...]
    trusted: bool = False


@dataclass(eq=False)
class Gathered(Node):
    """The source's element where some dimensions are looked up and the others are this node's own.

    Attributes:
        source_axes: Dimension of the source -> this node's dimension, for those that are not looked up.
    """

    source: Node
    lookups: tuple[Lookup, ...]
    source_axes: dict[int, int]

    def sources(self) -> tuple[Node, ...]:
        """What is looked up, and by what."""
        return (self.source, *(lookup.index for lookup in self.lookups))


def remap(source: Node, shape: Sequence[int], starts: Sequence[int], matrix: Sequence[Sequence[int]]) -> Node:
    """An affine view; views of views and of stored buffers are folded."""
    shape = tuple(shape)
    if isinstance(source, Constant):
        return Constant(shape, source.dtype, source.value)
    if isinstance(source, Stored):
        offset = source.offset + sum(s * a for s, a in zip(source.strides, starts, strict=True))
        strides = tuple(
            sum(stride * row[j] for stride, row in zip(source.strides, matrix, strict=True)) for j in range(len(shape))
        )
        return Stored(shape, source.dtype, source.buffer, strides, offset)
    if isinstance(source, Remap):
        inner_starts = tuple(
            start + sum(c * a for c, a in zip(row, starts, strict=True))
            for start, row in zip(source.starts, source.matrix, strict=True)
        )
        inner_matrix = tuple(
            tuple(sum(c * outer[j] for c, outer in zip(row, matrix, strict=True)) for j in range(len(shape)))
            for row in source.matrix
        )
        return remap(source.source, shape, inner_starts, inner_matrix)
    identity = tuple(tuple(int(i == j) for j in range(len(shape))) for i in range(len(source.shape)))
    rows = tuple(tuple(row) for row in matrix)
    if shape == source.shape and not any(starts) and rows == identity:
        return source
    return Remap(shape, source.dtype, source, tuple(starts), rows)


def expand(source: Node, shape: Sequence[int]) -> Node:
    """Broadcast to a shape: dimensions are added in front, those of size 1 are repeated."""
    shape = tuple(shape)
    if source.shape == shape:
        return source
    lead = len(shape) - len(source.shape)
    matrix = [
        [int(j == i + lead and source.shape[i] != 1) for j in range(len(shape))] for i in range(len(source.shape))
    ]
    return remap(source, shape, [0] * len(source.shape), matrix)
