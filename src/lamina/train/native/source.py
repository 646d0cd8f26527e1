"""A program as C++: one function per kernel, and one that runs the steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
)
from lamina.train.native.program import (
    Kernel,
    Loop,
    Product,
    Program,
    Reduction,
    Scatter,
    kernel_reads,
    kernel_writes,
    literal,
    offset_of,
    remapped,
)

__all__ = ["arena_bytes", "write_program"]

PRELUDE = Path(__file__).with_name("prelude.hpp")
_ALIGN = 64
_TILE = 32  # columns that a reduction over rows keeps in registers
_SHORT = 4  # fewer columns than this are not worth a row of accumulators
_PREFETCH_BYTES = 4096  # of each row of the next batch


def arena_bytes(program: Program) -> tuple[dict[Buffer, int], dict[Buffer, int], int]:
    """Offsets of the temporaries, offsets of the copies of the carried values, and the arena's size in bytes."""
    at = 0
    places: dict[Buffer, int] = {}
    copies: dict[Buffer, int] = {}
    for group, table in ((program.temporaries, places), ([place for place, _ in program.carried], copies)):
        for buffer in group:
            table[buffer] = at
            at += -(-buffer.numel * buffer.dtype.itemsize // _ALIGN) * _ALIGN
    return places, copies, at


class _Body:
    """Statements that compute elements at an index; equal ones once."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[tuple[object, ...], str] = {}
        self.lines: list[str] = []
        self.places: list[Affine] = []  # all places read, for merging loops
        self.opaque: set[str] = set()  # loop variables used as numbers
        self.checks = False
        self._count = 0

    def _name(self, kind: str, text: str) -> str:
        name = f"v{self._count}"
        self._count += 1
        self.lines.append(f"const {kind} {name} = {text};")
        return name

    def computed(self, place: Stored, index: Sequence[Affine], name: str) -> None:
        """An element that was just computed and need not be read."""
        self._known[("load", place.buffer, offset_of(place, index))] = name

    def value(self, node: Node, index: tuple[Affine, ...]) -> str:
        """A C++ name or literal for the node's element."""
        if isinstance(node, Constant):
            return literal(node.value, node.dtype)
        if isinstance(node, Remap):
            return self.value(node.source, remapped(node, index))
        if isinstance(node, Stored):
            offset = offset_of(node, index)
            key: tuple[object, ...] = ("load", node.buffer, offset)
            if key not in self._known:
                self.places.append(offset)
                self._known[key] = self._name(
                    c_type(node.dtype), f"{_variable(self._program, node.buffer)}[{offset.text()}]"
                )
            return self._known[key]
        key = (node, index)
        if key not in self._known:
            self._known[key] = self._compute(node, index)
        return self._known[key]

    def _compute(self, node: Node, index: tuple[Affine, ...]) -> str:
        kind = c_type(node.dtype)
        if isinstance(node, Iota):
            self.opaque.update(name for name, _ in index[0].terms)
            start, step = literal(node.start, node.dtype), literal(node.step, node.dtype)
            return self._name(kind, f"{start} + {step} * ({kind})({index[0].text()})")
        if isinstance(node, Gathered):
            return self.value(node.source, self.looked_up(node.lookups, node.source_axes, index, node.source.shape))
        if isinstance(node, Pointwise):
            arguments = [self.value(argument, index) for argument in node.arguments]
            return self._name(kind, node.write(*arguments))
        raise AssertionError(type(node))

    def looked_up(
        self, lookups: Sequence[Lookup], axes: dict[int, int], index: Sequence[Affine], shape: Sequence[int]
    ) -> tuple[Affine, ...]:
        """The index into a source of the given shape."""
        result: list[Affine] = [Affine()] * len(shape)
        for d, axis in axes.items():
            result[d] = index[axis]
        for lookup in lookups:
            at = self.value(lookup.index, tuple(index[a] for a in lookup.axes))
            if not lookup.trusted:
                self.checks = True
                key = ("checked", at, shape[lookup.dim])
                if key not in self._known:
                    self._known[key] = self._name("int64_t", f"checked({at}, {shape[lookup.dim]}, fault)")
                at = self._known[key]
            if at.startswith("v"):
                result[lookup.dim] = Affine.variable(at)
            else:
                result[lookup.dim] = Affine.variable(self._name("int64_t", at))
        return tuple(result)


def _variable(program: Program, buffer: Buffer) -> str:
    return program.aliases.get(buffer, buffer).name


def _merged_index(
    shape: Sequence[int], groups: Sequence[Sequence[int]]
) -> tuple[tuple[Affine, ...], list[tuple[str, int]]]:
    """Index over merged dimensions, and the loops (variable, size) from the outside in."""
    index = [Affine()] * len(shape)
    loops = []
    for group in groups:
        real = [d for d in group if shape[d] != 1]
        if not real:
            continue
        index[real[-1]] = Affine.variable(f"i{real[-1]}")
        loops.append((f"i{real[-1]}", math.prod(shape[d] for d in real)))
    return tuple(index), loops


def _squeezed(shape: Sequence[int], dims: Sequence[int]) -> list[int]:
    return [d for d in dims if shape[d] != 1]


class _Writer:
    def __init__(self, program: Program) -> None:
        self.program = program

    # --- kernels ---

    def kernel(self, kernel: Kernel) -> tuple[list[str], bool]:
        """The statements of a kernel, and whether it may report a fault."""
        if isinstance(kernel, Loop):
            return self._loop(kernel)
        if isinstance(kernel, Reduction):
            return self._reduction(kernel)
        if isinstance(kernel, Product):
            return self._product(kernel), False
        return self._scatter(kernel)

    def _full_index(self, shape: Sequence[int]) -> tuple[Affine, ...]:
        return tuple(Affine.variable(f"i{d}") if n != 1 else Affine() for d, n in enumerate(shape))

    def _dry(self, stores: Sequence[tuple[Stored | None, Node]], shape: Sequence[int]) -> _Body:
        body = _Body(self.program)
        index = self._full_index(shape)
        for place, node in stores:
            name = body.value(node, index)
            if place is not None:
                body.places.append(offset_of(place, index))
                body.computed(place, index, name)
        return body

    def _groups(self, shape: Sequence[int], dims: Sequence[int], body: _Body) -> list[list[int]]:
        """Merge neighbouring dimensions among `dims` (those of size 1 left out)."""
        real = _squeezed(shape, dims)
        groups: list[list[int]] = []
        for d in real:
            if groups:
                before = groups[-1][-1]
                near = not any(shape[between] != 1 for between in range(before + 1, d))
                fits = all(p.coefficient(f"i{before}") == p.coefficient(f"i{d}") * shape[d] for p in body.places)
                if near and fits and f"i{before}" not in body.opaque and f"i{d}" not in body.opaque:
                    groups[-1].append(d)
                    continue
            groups.append([d])
        return groups

    def _loop(self, kernel: Loop) -> tuple[list[str], bool]:
        shape = kernel.shape
        dry = self._dry(kernel.stores, shape)
        index, loops = _merged_index(shape, self._groups(shape, range(len(shape)), dry))
        body = _Body(self.program)
        writes = []
        for place, node in kernel.stores:
            name = body.value(node, index)
            if not name.startswith("v"):
                name = body._name(c_type(node.dtype), name)
            body.computed(place, index, name)
            if place.buffer not in self.program.registers:
                writes.append(f"{_variable(self.program, place.buffer)}[{offset_of(place, index).text()}] = {name};")
        return _nest(loops, [*body.lines, *writes], simd=not body.checks), body.checks

    def _reduction(self, kernel: Reduction) -> tuple[list[str], bool]:
        shape = kernel.source.shape
        kept_dims = [d for d in range(len(shape)) if d not in kernel.reduced]
        dry = self._dry([(None, kernel.source)], shape)
        kept = [[d] for d in _squeezed(shape, kept_dims)]
        reduced = self._groups(shape, kernel.reduced, dry)
        index_kept, kept_loops = _merged_index(shape, kept)
        index_reduced, reduced_loops = _merged_index(shape, reduced)
        index = tuple(a if a.terms else b for a, b in zip(index_kept, index_reduced, strict=True))
        body = _Body(self.program)
        element = body.value(kernel.source, index)
        place = Affine()
        stride = 1
        for name, size in reversed(kept_loops):
            place = place + Affine.variable(name) * stride
            stride *= size
        parts = _Folded(kernel, body, element, f"{_variable(self.program, kernel.out)}[{place.text()}]")
        last = max(_squeezed(shape, range(len(shape))), default=0)
        if kept_loops and kept_loops[-1][0] == f"i{last}" and kept_loops[-1][1] >= _SHORT:
            return parts.by_columns(kept_loops, reduced_loops), body.checks
        return parts.by_rows(kept_loops, reduced_loops), body.checks

    def _product(self, kernel: Product) -> list[str]:
        a, b = kernel.a, kernel.b
        (m, k), n = a.shape, b.shape[1]
        kind = c_type(a.dtype)
        left = f"{_variable(self.program, a.buffer)} + {a.offset}"
        right = f"{_variable(self.program, b.buffer)} + {b.offset}"
        out = _variable(self.program, kernel.out)
        rsa, csa = a.strides
        rsb, csb = b.strides
        if csb == 1 or n == 1:
            return [f"product_rows<{kind}, {m}, {n}, {k}, {rsa}, {csa}, {rsb}>({left}, {right}, {out});"]
        if rsb == 1 and csa == 1:
            return [f"product_dots<{kind}, {m}, {n}, {k}, {rsa}, {csb}>({left}, {right}, {out});"]
        return [f"product_any<{kind}, {m}, {n}, {k}, {rsa}, {csa}, {rsb}, {csb}>({left}, {right}, {out});"]

    def _scatter(self, kernel: Scatter) -> tuple[list[str], bool]:
        shape = kernel.value.shape
        index = self._full_index(shape)
        body = _Body(self.program)
        value = body.value(kernel.value, index)
        place = offset_of(kernel.out, body.looked_up(kernel.lookups, kernel.axes, index, kernel.out.shape))
        sign = "+=" if kernel.accumulate else "="
        write = f"{_variable(self.program, kernel.out.buffer)}[{place.text()}] {sign} {value};"
        loops = [(f"i{d}", n) for d, n in enumerate(shape) if n != 1]
        return _nest(loops, [*body.lines, write], simd=False), body.checks


Loops = Sequence[tuple[str, int]]


@dataclass
class _Folded:
    """The loops of a reduction."""

    kernel: Reduction
    body: _Body
    element: str
    out: str

    def by_rows(self, kept: Loops, reduced: Loops) -> list[str]:
        """One accumulator; vectors run along the reduced elements."""
        dtype, kind = self.kernel.source.dtype, self.kernel.kind
        start, fold, clause = _folding(kind, dtype)
        pragma = [] if self.body.checks else [f"#pragma omp simd reduction({clause}:acc) reduction(|:bad)"]
        inner = _nest(reduced, [*self.body.lines, *fold("acc", self.element, "bad")], pragma=pragma)
        done = f"{self.out} = {_finished(kind, dtype, 'acc', 'bad')};"
        return _nest(kept, [f"{c_type(dtype)} acc = {start};", "int bad = 0;", *inner, done], simd=False)

    def by_columns(self, kept: Loops, reduced: Loops) -> list[str]:
        """A row of accumulators; vectors run along the kept elements."""
        dtype, kind = self.kernel.source.dtype, self.kernel.kind
        start, fold, _ = _folding(kind, dtype)
        variable, size = kept[-1]
        lines: list[str] = []
        base = 0
        while base < size:
            width = min(size - base, _TILE)
            tiles = (size - base) // _TILE if width == _TILE else 1
            column = f"const int64_t {variable} = {f'b + {base}' if tiles > 1 else base} + c;"
            take_in = [column, *self.body.lines, *fold("acc[c]", self.element, "bad[c]")]
            hand_out = [column, f"{self.out} = {_finished(kind, dtype, 'acc[c]', 'bad[c]')};"]
            tile = [
                f"{c_type(dtype)} acc[{width}];",
                f"int bad[{width}];",
                f"for (int c = 0; c < {width}; ++c) {{ acc[c] = {start}; bad[c] = 0; }}",
                *_nest(reduced, _nest([("c", width)], take_in, simd=not self.body.checks, kind="int"), simd=False),
                *_nest([("c", width)], hand_out, kind="int"),
            ]
            head = f"for (int64_t b = 0; b < {tiles * width}; b += {width}) {{" if tiles > 1 else "{"
            lines += [head, *_indent(tile), "}"]
            base += tiles * width
        return _nest(kept[:-1], lines, simd=False)


def _folding(kind: str, dtype: torch.dtype) -> tuple[str, Callable[[str, str, str], list[str]], str]:
    """Start of the accumulator, the statements that take in an element, and the clause of the simd pragma."""
    if kind == "sum":
        return literal(0, dtype), lambda acc, x, _bad: [f"{acc} += {x};"], "+"
    if kind in ("max", "min"):
        infinite = literal(-math.inf if kind == "max" else math.inf, dtype) if dtype.is_floating_point else ""
        sign = ">" if kind == "max" else "<"

        def fold(acc: str, x: str, bad: str) -> list[str]:
            # NaN is kept apart, so that the comparison vectorises.
            return [f"{acc} = {x} {sign} {acc} ? {x} : {acc};", f"{bad} |= {x} != {x};"]

        return infinite or literal(_limit(dtype, kind), dtype), fold, kind
    if kind in ("any", "all"):
        sign = "||" if kind == "any" else "&&"
        return literal(kind == "all", torch.bool), lambda acc, x, _bad: [f"{acc} = {acc} {sign} {x};"], sign
    raise NotNativeError(f"it reduces by {kind}")


def _limit(dtype: torch.dtype, kind: str) -> int:
    if dtype == torch.bool:
        return int(kind == "min")
    info = torch.iinfo(dtype)
    return info.min if kind == "max" else info.max


def _finished(kind: str, dtype: torch.dtype, acc: str, bad: str) -> str:
    if kind in ("max", "min") and dtype.is_floating_point:
        return f"{bad} ? {literal(math.nan, dtype)} : {acc}"
    return acc


def _indent(lines: Sequence[str]) -> list[str]:
    return [line if line.startswith("#") else f"    {line}" for line in lines]


def _nest(
    loops: Sequence[tuple[str, int]],
    body: Sequence[str],
    *,
    simd: bool = True,
    pragma: Sequence[str] | None = None,
    kind: str = "int64_t",
) -> list[str]:
    """Loops around statements; the innermost is declared free of dependencies unless told otherwise."""
    lines = list(body)
    if not loops:
        return ["{", *_indent(lines), "}"]
    for depth, (name, size) in enumerate(reversed(loops)):
        head: list[str] = []
        if depth == 0:
            head = list(pragma) if pragma is not None else (["#pragma omp simd"] if simd else [])
        lines = [*head, f"for ({kind} {name} = 0; {name} < {size}; ++{name}) {{", *_indent(lines), "}"]
    return lines


def write_program(program: Program, *, loss: str, prefetch: Buffer | None = None) -> str:
    """The C++ source.

    The function `lamina_run(tensors, arena, num_steps, fault)` runs steps until the loss is not finite or an index is out
    of bounds; it then puts the carried values back and returns the step; otherwise it returns num_steps.

    Args:
        program: What to write.
        loss: The output that must stay finite.
        prefetch: The buffer of row numbers, by which the next batch is fetched ahead.
    """
    writer = _Writer(program)
    places, copies, _ = arena_bytes(program)
    functions: list[str] = []
    calls: list[str] = []
    for number, kernel in enumerate(program.kernels):
        lines, checks = writer.kernel(kernel)
        written = {program.aliases.get(buffer, buffer) for buffer in kernel_writes(kernel)}
        used = {program.aliases.get(buffer, buffer) for buffer, _ in kernel_reads(kernel)} | written
        ordered = sorted(used - program.registers, key=lambda buffer: buffer.name)
        parameters = [f"{'' if b in written else 'const '}{c_type(b.dtype)}* __restrict {b.name}" for b in ordered]
        names = [buffer.name for buffer in ordered]
        if checks:
            parameters.append("int64_t& fault")
            names.append("fault")
        functions += [f"static void kernel{number}({', '.join(parameters)}) {{", *_indent(lines), "}", ""]
        calls.append(f"kernel{number}({', '.join(names)});")
    main = _main(program, loss, places, copies, calls, _prefetch(program, prefetch))
    return "\n".join([PRELUDE.read_text(encoding="utf-8"), *functions, *main, ""])


def _main(
    program: Program,
    loss: str,
    places: dict[Buffer, int],
    copies: dict[Buffer, int],
    calls: list[str],
    ahead: list[str],
) -> list[str]:
    lines = []
    stepping: list[str] = []
    table = [*program.inputs, *program.outputs.values()]
    for position, buffer in enumerate(table):
        kind = c_type(buffer.dtype)
        if buffer.kind == "step":
            lines.append(f"{kind}* const {buffer.name}_all = static_cast<{kind}*>(tensors[{position}]);")
            stepping.append(f"{kind}* const {buffer.name} = {buffer.name}_all + step * {buffer.numel};")
        else:
            lines.append(f"{kind}* const {buffer.name} = static_cast<{kind}*>(tensors[{position}]);")
    for buffer, at in places.items():
        lines.append(
            f"{c_type(buffer.dtype)}* const {buffer.name} = reinterpret_cast<{c_type(buffer.dtype)}*>(arena + {at});"
        )
    save, restore = [], []
    for buffer, at in copies.items():
        size = buffer.numel * buffer.dtype.itemsize
        save.append(f"std::memcpy(arena + {at}, {buffer.name}, {size});")
        restore.append(f"std::memcpy({buffer.name}, arena + {at}, {size});")
    carry = [
        f"std::memcpy({place.name}, {new.name}, {place.numel * place.dtype.itemsize});"
        for place, new in program.carried
        if new is not None
    ]
    value = program.outputs[loss].name
    return [
        'extern "C" int64_t lamina_run(void** tensors, unsigned char* arena, int64_t num_steps, int64_t* faults) {',
        *_indent(lines),
        *_indent(save),
        "    int64_t fault = 0;",
        "    for (int64_t step = 0; step < num_steps; ++step) {",
        *_indent(_indent(stepping)),
        *_indent(_indent(ahead)),
        *_indent(_indent(calls)),
        *_indent(_indent(carry)),
        f"        if (fault || !std::isfinite({value}[0])) {{",
        *_indent(_indent(_indent(restore))),
        "            *faults = fault;",
        "            return step;",
        "        }",
        "    }",
        "    *faults = 0;",
        "    return num_steps;",
        "}",
    ]


def _prefetch(program: Program, rows: Buffer | None) -> list[str]:
    """Fetch the rows of the next batch ahead: they lie anywhere in memory."""
    if rows is None:
        return []
    sources: dict[Buffer, int] = {}
    stack: list[Node] = []
    for kernel in program.kernels:
        if isinstance(kernel, Loop):
            stack.extend(node for _, node in kernel.stores)
        elif isinstance(kernel, Reduction):
            stack.append(kernel.source)
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        stack.extend(node.sources())
        if isinstance(node, Gathered) and isinstance(node.source, Stored):
            (first, *more) = node.lookups
            if not more and first.trusted and first.dim == 0 and node.source.offset == 0:
                sources[node.source.buffer] = node.source.strides[0] * node.source.dtype.itemsize
    lines = []
    for buffer, stride in sources.items():
        reach = min(stride, _PREFETCH_BYTES)
        lines += [
            f"if (step + 1 < num_steps) for (int64_t r = 0; r < {rows.numel}; ++r) {{",
            f"    const char* next = reinterpret_cast<const char*>({buffer.name}) + {rows.name}[{rows.numel} + r] * {stride};",
            f"    for (int64_t at = 0; at < {reach}; at += 64) __builtin_prefetch(next + at);",
            "}",
        ]
    return lines
