"""From lazy nodes to kernels: what is stored, in which loops, and where in memory.

A value is stored when several others read it, when it would be computed again and again under a broadcast, or when a
reduction or matrix product makes it. Values of the same shape share one loop where their order allows. A carried value
(a weight, an optimizer's state) is updated in place where nobody reads the old one afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lamina.train.native.nodes import (
    Affine,
    Buffer,
    Constant,
    Gathered,
    Iota,
    Lookup,
    Node,
    NotNativeError,
    Pointwise,
    Remap,
    Stored,
    c_type,
    contiguous_strides,
    expand,
    remap,
)

__all__ = ["Builder", "Kernel", "Loop", "Product", "Program", "Reduction", "Scatter", "literal", "write_cast"]


@dataclass(eq=False)
class Loop:
    """One loop nest that stores one or more values of the same shape."""

    shape: tuple[int, ...]
    stores: list[tuple[Stored, Node]]


@dataclass(eq=False)
class Reduction:
    """sum, amax, amin, any or all over some dimensions; `out` is contiguous over the kept ones."""

    out: Buffer
    source: Node
    reduced: tuple[int, ...]
    kind: str


@dataclass(eq=False)
class Product:
    """out (m, n) = a (m, k) b (k, n)."""

    out: Buffer
    a: Stored
    b: Stored


@dataclass(eq=False)
class Scatter:
    """out[place of value's index] = or += value; `axes`: dimension of out -> dimension of value; the rest are looked up."""

    out: Stored
    value: Node
    lookups: tuple[Lookup, ...]
    axes: dict[int, int]
    accumulate: bool


Kernel = Loop | Reduction | Product | Scatter


@dataclass
class Program:
    """What `source.write_program` turns into C++.

    Attributes:
        kernels: In the order in which a step runs them.
        inputs: Buffers given from outside, in the order of the pointer table.
        carried: (input, temporary that holds its new value at the end of the step or None where it is updated in place).
        outputs: Buffers of kind `step`: name -> buffer; each step writes its own place.
        temporaries: Buffers of the arena.
        aliases: Temporary -> the carried input in whose place it is written.
        registers: Temporaries that only their own loop reads: they are not written at all.
    """

    kernels: list[Kernel] = field(default_factory=list)
    inputs: list[Buffer] = field(default_factory=list)
    carried: list[tuple[Buffer, Buffer | None]] = field(default_factory=list)
    outputs: dict[str, Buffer] = field(default_factory=dict)
    temporaries: list[Buffer] = field(default_factory=list)
    aliases: dict[Buffer, Buffer] = field(default_factory=dict)
    registers: set[Buffer] = field(default_factory=set)


def literal(value: Any, dtype: torch.dtype) -> str:
    """A number as a C++ literal of a dtype, exactly."""
    if dtype.is_floating_point:
        number = float(torch.tensor(value, dtype=torch.float64).to(dtype))
        kind = c_type(dtype)
        if math.isnan(number):
            return f"std::numeric_limits<{kind}>::quiet_NaN()"
        if math.isinf(number):
            return f"{'-' if number < 0 else ''}std::numeric_limits<{kind}>::infinity()"
        return f"{number.hex()}{'f' if dtype == torch.float32 else ''}"
    if dtype == torch.bool:
        return "true" if value else "false"
    whole = int(value)
    if dtype == torch.int64:
        return f"INT64_C({whole})" if whole > -(1 << 63) else "INT64_MIN"
    return f"({c_type(dtype)})({whole}LL)"


def write_cast(target: torch.dtype) -> Callable[..., str]:
    """C++ of a conversion."""
    if target == torch.bool:
        return lambda x: f"({x} != 0)"
    kind = c_type(target)
    return lambda x: f"({kind})({x})"


class Builder:
    """Makes nodes and kernels; the rules of `operations.py` call it."""

    def __init__(self) -> None:
        self.program = Program()
        self._written_at: dict[Buffer, int] = {}  # buffer -> index of the last kernel that writes it
        self._costs: dict[Node, int] = {}
        self._count = 0

    # --- values ---

    def add_input(self, shape: Sequence[int], dtype: torch.dtype, *, kind: str) -> Stored:
        """A tensor given from outside, contiguous."""
        c_type(dtype)
        buffer = Buffer(f"in{len(self.program.inputs)}", dtype, math.prod(shape), kind)
        self.program.inputs.append(buffer)
        return Stored(tuple(shape), dtype, buffer, contiguous_strides(shape))

    def cast(self, node: Node, dtype: torch.dtype) -> Node:
        """The node converted to a dtype."""
        if node.dtype == dtype:
            return node
        if isinstance(node, Constant):
            value = (
                float(node.value)
                if dtype.is_floating_point
                else (bool(node.value) if dtype == torch.bool else int(node.value))
            )
            return Constant(node.shape, dtype, value)
        return self._priced(Pointwise(node.shape, dtype, "cast", (node,), write_cast(dtype), 0))

    def pointwise(
        self, name: str, dtype: torch.dtype, arguments: Sequence[Node], write: Callable[..., str], *, cost: int = 1
    ) -> Node:
        """A function of the elements of its arguments, which are broadcast."""
        shape = tuple(torch.broadcast_shapes(*(argument.shape for argument in arguments)))
        return self._priced(Pointwise(shape, dtype, name, tuple(self.spread(a, shape) for a in arguments), write, cost))

    def spread(self, node: Node, shape: Sequence[int]) -> Node:
        """Broadcast; what is worth it is computed once instead of for every repetition."""
        shape = tuple(shape)
        if node.shape != shape and math.prod(shape) > node.numel and self.cost(node) >= 2:
            node = self.store(node)
        return expand(node, shape)

    def cost(self, node: Node) -> int:
        """What computing an element costs, with everything that is not stored."""
        if isinstance(node, Stored | Constant | Iota):
            return 0
        if node not in self._costs:
            self._priced(node)
        return self._costs[node]

    def _priced(self, node: Node) -> Node:
        own = node.cost if isinstance(node, Pointwise) else (2 if isinstance(node, Gathered) else 0)
        self._costs[node] = own + sum(self.cost(source) for source in node.sources())
        return node

    def view(self, node: Node, shape: Sequence[int]) -> Node:
        """The same elements in order, in another shape."""
        shape = tuple(shape)
        if node.shape == shape:
            return node
        if isinstance(node, Constant):
            return Constant(shape, node.dtype, node.value)
        if isinstance(node, Stored) and node.is_contiguous:
            return Stored(shape, node.dtype, node.buffer, contiguous_strides(shape), node.offset)
        matrix = _split_dimensions(node.shape, shape)
        if matrix is not None:
            return remap(node, shape, [0] * len(node.shape), matrix)
        return self.view(self.store(node), shape)

    # --- kernels ---

    def temporary(self, dtype: torch.dtype, numel: int) -> Buffer:
        """A new buffer of the arena."""
        c_type(dtype)
        buffer = Buffer(f"t{self._count}", dtype, numel)
        self._count += 1
        self.program.temporaries.append(buffer)
        return buffer

    def store(self, node: Node, *, into: Buffer | None = None) -> Stored:
        """Compute a node into memory, contiguous."""
        if isinstance(node, Stored) and node.is_contiguous and into is None:
            return node
        buffer = into or self.temporary(node.dtype, node.numel)
        target = Stored(node.shape, node.dtype, buffer, contiguous_strides(node.shape))
        self.store_to(target, node)
        return target

    def store_to(self, target: Stored, node: Node) -> None:
        """Compute a node into a view, in a loop of its own or in an earlier one of the same shape."""
        if target.numel == 0:
            return
        reads = _reads(node, _indices(node.shape))
        position = max((self._written_at.get(buffer, -1) for buffer, _ in reads), default=-1)
        position = max(position, self._written_at.get(target.buffer, -1))
        for at in range(len(self.program.kernels) - 1, max(position, 0) - 1, -1):
            kernel = self.program.kernels[at]
            if isinstance(kernel, Loop) and kernel.shape == node.shape and _may_join(kernel, target, reads):
                kernel.stores.append((target, node))
                self._written_at[target.buffer] = max(at, self._written_at.get(target.buffer, -1))
                return
        self._append(Loop(node.shape, [(target, node)]), target.buffer)

    def _append(self, kernel: Kernel, written: Buffer) -> None:
        self._written_at[written] = len(self.program.kernels)
        self.program.kernels.append(kernel)

    def reduce(self, kind: str, node: Node, dims: Sequence[int], *, keepdim: bool) -> Node:
        """Reduce over dimensions; the result has the node's dtype."""
        rank = len(node.shape)
        reduced = tuple(sorted({d % rank for d in dims})) if rank else ()
        kept = [size for d, size in enumerate(node.shape) if d not in reduced]
        full = [1 if d in reduced else size for d, size in enumerate(node.shape)]
        if not reduced:
            return node
        if math.prod(node.shape) == 0:
            raise NotNativeError("it reduces an empty tensor")
        out = self.temporary(node.dtype, math.prod(kept))
        self._append(Reduction(out, node, reduced, kind), out)
        shape = tuple(full if keepdim else kept)
        return Stored(shape, node.dtype, out, contiguous_strides(shape))

    def product(self, a: Node, b: Node) -> Stored:
        """Matrix product of (m, k) and (k, n)."""
        if not a.dtype.is_floating_point or a.dtype != b.dtype:
            raise NotNativeError("it multiplies matrices of integers")
        left = a if isinstance(a, Stored) else self.store(a)
        right = b if isinstance(b, Stored) else self.store(b)
        out = self.temporary(a.dtype, a.shape[0] * b.shape[1])
        self._append(Product(out, left, right), out)
        shape = (a.shape[0], b.shape[1])
        return Stored(shape, a.dtype, out, contiguous_strides(shape))

    def concatenate(self, pieces: Sequence[Node], dim: int) -> Stored:
        """Pieces one after the other along a dimension."""
        shape = list(pieces[0].shape)
        shape[dim] = sum(piece.shape[dim] for piece in pieces)
        out = self.temporary(pieces[0].dtype, math.prod(shape))
        strides = contiguous_strides(shape)
        start = 0
        for piece in pieces:
            self.store_to(Stored(piece.shape, piece.dtype, out, strides, start * strides[dim]), piece)
            start += piece.shape[dim]
        return Stored(tuple(shape), out.dtype, out, strides)

    def overwrite(self, base: Node, part: Node, starts: Sequence[int], steps: Sequence[int]) -> Stored:
        """A copy of `base` with a strided part replaced."""
        out = self.store(base, into=self.temporary(base.dtype, base.numel))
        offset = sum(start * stride for start, stride in zip(starts, out.strides, strict=True))
        strides = tuple(step * stride for step, stride in zip(steps, out.strides, strict=True))
        self.store_to(Stored(part.shape, part.dtype, out.buffer, strides, offset), part)
        return out

    def scatter(
        self, base: Node, value: Node, lookups: Sequence[Lookup], axes: dict[int, int], *, accumulate: bool
    ) -> Stored:
        """A copy of `base` into which values are written or added at looked-up places."""
        out = self.store(base, into=self.temporary(base.dtype, base.numel))
        self._append(Scatter(out, value, tuple(lookups), axes, accumulate), out.buffer)
        return out

    # --- the end of a step ---

    def finish(self, carried: Sequence[tuple[Stored, Node]], outputs: dict[str, Node]) -> Program:
        """Say what is carried to the next step and what each step gives; plans memory."""
        program = self.program
        results: list[tuple[Buffer, Buffer | None]] = []
        taken: set[Buffer] = set()
        for place, node in carried:
            if isinstance(node, Stored) and node.buffer is place.buffer and node.is_contiguous and node.offset == 0:
                results.append((place.buffer, None))  # unchanged
                continue
            value = self.cast(node, place.dtype)
            usable = (
                isinstance(value, Stored)
                and value.is_contiguous
                and value.offset == 0
                and value.buffer.kind == "temporary"
                and value.buffer.numel == place.numel
                and value.buffer not in taken
            )
            stored = value if usable else self.store(value, into=self.temporary(place.dtype, place.numel))
            assert isinstance(stored, Stored)
            taken.add(stored.buffer)
            results.append((place.buffer, stored.buffer))
        for name, node in outputs.items():
            buffer = Buffer(f"out{len(program.outputs)}", node.dtype, node.numel, "step")
            c_type(node.dtype)
            program.outputs[name] = buffer
            self.store(node, into=buffer)
        for old, new in results:
            if new is not None and _may_replace(program.kernels, old, new):
                program.aliases[new] = old
                program.carried.append((old, None))
            else:
                program.carried.append((old, new))
        program.registers = _only_in_loops(program)
        program.temporaries = [
            buffer
            for buffer in program.temporaries
            if buffer not in program.aliases and buffer not in program.registers
        ]
        return program


# --- reading patterns ------------------------------------------------------------------------------------------------


def _indices(shape: Sequence[int]) -> tuple[Affine, ...]:
    return tuple(Affine.variable(f"i{d}") if size != 1 else Affine() for d, size in enumerate(shape))


def offset_of(node: Stored, index: Sequence[Affine]) -> Affine:
    """Where in the buffer an element lies."""
    total = Affine(node.offset)
    for stride, position in zip(node.strides, index, strict=True):
        total = total + position * stride
    return total


def _reads(node: Node, index: Sequence[Affine]) -> set[tuple[Buffer, Affine | None]]:
    """Buffers that computing an element reads, with the place; None where the place depends on data."""
    found: set[tuple[Buffer, Affine | None]] = set()
    stack: list[tuple[Node, tuple[Affine, ...] | None]] = [(node, tuple(index))]
    seen: set[tuple[int, tuple[Affine, ...] | None]] = set()
    while stack:
        current, at = stack.pop()
        if (id(current), at) in seen:
            continue
        seen.add((id(current), at))
        if isinstance(current, Stored):
            found.add((current.buffer, offset_of(current, at) if at is not None else None))
        elif isinstance(current, Pointwise):
            stack.extend((argument, at) for argument in current.arguments)
        elif isinstance(current, Remap):
            stack.append((current.source, remapped(current, at) if at is not None else None))
        elif isinstance(current, Gathered):
            stack.append((current.source, None))
            stack.extend(
                (lookup.index, tuple(at[a] for a in lookup.axes) if at is not None else None)
                for lookup in current.lookups
            )
    return found


def remapped(node: Remap, index: Sequence[Affine]) -> tuple[Affine, ...]:
    """The index into the source of a Remap."""
    result = []
    for start, row in zip(node.starts, node.matrix, strict=True):
        total = Affine(start)
        for factor, position in zip(row, index, strict=True):
            if factor:
                total = total + position * factor
        result.append(total)
    return tuple(result)


def _may_join(loop: Loop, target: Stored, reads: set[tuple[Buffer, Affine | None]]) -> bool:
    """Whether a store may share a loop: what it reads of the loop's own values, it reads at the place just computed."""
    index = _indices(loop.shape)
    own = {place.buffer: offset_of(place, index) for place, _ in loop.stores}
    if target.buffer in own:
        return False
    return all(buffer not in own or own[buffer] == place for buffer, place in reads)


def kernel_reads(kernel: Kernel) -> set[tuple[Buffer, Affine | None]]:
    """All that a kernel reads."""
    if isinstance(kernel, Loop):
        index = _indices(kernel.shape)
        return set().union(*(_reads(node, index) for _, node in kernel.stores))
    if isinstance(kernel, Reduction):
        return _reads(kernel.source, _indices(kernel.source.shape))
    if isinstance(kernel, Product):
        return {(kernel.a.buffer, None), (kernel.b.buffer, None)}
    index = _indices(kernel.value.shape)
    found = _reads(kernel.value, index)
    for lookup in kernel.lookups:
        found |= _reads(lookup.index, tuple(index[a] for a in lookup.axes))
    return found


def kernel_writes(kernel: Kernel) -> set[Buffer]:
    """The buffers that a kernel writes."""
    if isinstance(kernel, Loop):
        return {place.buffer for place, _ in kernel.stores}
    return {kernel.out.buffer if isinstance(kernel, Scatter) else kernel.out}


def _may_replace(kernels: Sequence[Kernel], place: Buffer, new: Buffer) -> bool:
    """Whether `new` may be written where the carried `place` lies: nobody reads the old value after or beside it."""
    writers = [at for at, kernel in enumerate(kernels) if new in kernel_writes(kernel)]
    if len(writers) != 1:
        return False
    kernel = kernels[writers[0]]
    if any(buffer is place for later in kernels[writers[0] + 1 :] for buffer, _ in kernel_reads(later)):
        return False
    own_reads = [where for buffer, where in kernel_reads(kernel) if buffer is place]
    if not own_reads:
        return True
    if not isinstance(kernel, Loop):
        return False
    (target,) = (stored for stored, _ in kernel.stores if stored.buffer is new)
    return all(where == offset_of(target, _indices(kernel.shape)) for where in own_reads)


def _only_in_loops(program: Program) -> set[Buffer]:
    """Temporaries that nothing but the loop that computes them reads."""
    loops: dict[Buffer, list[int]] = {}
    for at, kernel in enumerate(program.kernels):
        for buffer in kernel_writes(kernel):
            loops.setdefault(buffer, []).append(at)
    found = {
        buffer
        for buffer, places in loops.items()
        if len(places) == 1 and isinstance(program.kernels[places[0]], Loop) and buffer.kind == "temporary"
    }
    found -= set(program.aliases) | {new for _, new in program.carried if new is not None}
    for at, kernel in enumerate(program.kernels):
        for buffer, where in kernel_reads(kernel):
            if buffer in found and (loops[buffer] != [at] or where is None):
                found.discard(buffer)
    return found


def _split_dimensions(old: Sequence[int], new: Sequence[int]) -> list[list[int]] | None:
    """The affine matrix of a reshape in which each old dimension becomes one or more new ones; None if there is none."""
    matrix = [[0] * len(new) for _ in old]
    j = 0
    for i, size in enumerate(old):
        if size == 1:
            continue
        group = []
        product = 1
        while j < len(new) and product < size:
            product *= new[j]
            group.append(j)
            j += 1
        if product != size:
            return None
        stride = 1
        for axis in reversed(group):
            matrix[i][axis] = stride if new[axis] != 1 else 0
            stride *= new[axis]
    return matrix
