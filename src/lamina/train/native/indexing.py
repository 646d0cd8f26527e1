"""Rules of constants, views, concatenation and looking up by index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lamina.train.native.nodes import Constant, Gathered, Iota, Lookup, Node, NotNativeError, Stored, remap
from lamina.train.native.program import literal
from lamina.train.native.rule import Call, operation, rule


@rule("full.default")
def _full(call: Call, size: Sequence[int], value: Any, **_: Any) -> Node:
    if isinstance(value, Node):
        return call.builder.spread(call.builder.cast(value, call.dtype), size)
    return Constant(tuple(size), call.dtype, value)


@rule("full_like.default")
def _full_like(call: Call, x: Node, value: Any, **_: Any) -> Node:
    return Constant(x.shape, call.dtype, value)


@rule("scalar_tensor.default")
def _scalar_tensor(call: Call, value: Any, **_: Any) -> Node:
    return Constant((), call.dtype, value)


@rule("zeros.default", "zeros_like.default", "new_zeros.default")
def _zeros(call: Call, *_: Any, **__: Any) -> Node:
    return Constant(call.shape, call.dtype, 0)


@rule("ones.default", "ones_like.default", "new_ones.default")
def _ones(call: Call, *_: Any, **__: Any) -> Node:
    return Constant(call.shape, call.dtype, 1)


@rule("arange.default", "arange.start", "arange.start_step")
def _arange(call: Call, *bounds: Any, **_: Any) -> Node:
    start, step = (bounds[0] if len(bounds) > 1 else 0), (bounds[2] if len(bounds) > 2 else 1)
    return Iota(call.shape, call.dtype, start, step)


@rule("prims::iota.default")
def _iota(call: Call, length: int, *, start: int, step: int, **_: Any) -> Node:
    return Iota((length,), call.dtype, start, step)


# --- views ---------------------------------------------------------------------------------------------------------------


@rule("view.default", "_unsafe_view.default", "reshape.default")
def _view(call: Call, x: Node, _shape: Sequence[int]) -> Node:
    return call.builder.view(x, call.shape)


@rule("permute.default")
def _permute(_call: Call, x: Node, dims: Sequence[int]) -> Node:
    rank = len(x.shape)
    order = [d % rank for d in dims]
    matrix = [[int(order[j] == i) for j in range(rank)] for i in range(rank)]
    return remap(x, [x.shape[d] for d in order], [0] * rank, matrix)


@rule("transpose.int")
def _transpose(call: Call, x: Node, first: int, second: int) -> Node:
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return _permute(call, x, order)


@rule("t.default")
def _t(call: Call, x: Node) -> Node:
    return x if len(x.shape) < 2 else _permute(call, x, [1, 0])


@rule("expand.default")
def _expand(call: Call, x: Node, _shape: Sequence[int], **__: Any) -> Node:
    return call.builder.spread(x, call.shape)


@rule("unsqueeze.default", "squeeze.dims", "squeeze.dim", "squeeze.default")
def _squeeze(call: Call, x: Node, *_: Any) -> Node:
    return _unit_dimensions(x, call.shape)


def _unit_dimensions(x: Node, shape: tuple[int, ...]) -> Node:
    """The same elements where only dimensions of size 1 come or go."""
    mine = [d for d, size in enumerate(x.shape) if size != 1]
    theirs = [d for d, size in enumerate(shape) if size != 1]
    matrix = [[0] * len(shape) for _ in x.shape]
    for i, j in zip(mine, theirs, strict=True):
        matrix[i][j] = 1
    return remap(x, shape, [0] * len(x.shape), matrix)


@rule("slice.Tensor")
def _slice(call: Call, x: Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Node:
    rank = len(x.shape)
    dim %= rank
    first = range(x.shape[dim])[slice(start, end, step)]
    starts = [first.start if d == dim else 0 for d in range(rank)]
    matrix = [[(step if d == dim else 1) if d == j else 0 for j in range(rank)] for d in range(rank)]
    return remap(x, call.shape, starts, matrix)


@rule("select.int")
def _select(call: Call, x: Node, dim: int, index: int) -> Node:
    rank = len(x.shape)
    dim %= rank
    index %= x.shape[dim]
    kept = [d for d in range(rank) if d != dim]
    starts = [index if d == dim else 0 for d in range(rank)]
    matrix = [[int(kept[j] == d) for j in range(rank - 1)] for d in range(rank)]
    return remap(x, call.shape, starts, matrix)


@rule("unbind.int")
def _unbind(_call: Call, x: Node, dim: int = 0) -> list[Node]:
    rank = len(x.shape)
    dim %= rank
    kept = [d for d in range(rank) if d != dim]
    matrix = [[int(kept[j] == d) for j in range(rank - 1)] for d in range(rank)]
    shape = [x.shape[d] for d in kept]
    return [remap(x, shape, [i if d == dim else 0 for d in range(rank)], matrix) for i in range(x.shape[dim])]


@rule("split_with_sizes.default", "split.Tensor")
def _split(_call: Call, x: Node, sizes: Any, dim: int = 0) -> list[Node]:
    rank = len(x.shape)
    dim %= rank
    whole = x.shape[dim]
    if isinstance(sizes, int):
        sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)]
    matrix = [[int(i == j) for j in range(rank)] for i in range(rank)]
    pieces: list[Node] = []
    begin = 0
    for size in sizes:
        shape = [size if d == dim else n for d, n in enumerate(x.shape)]
        pieces.append(remap(x, shape, [begin if d == dim else 0 for d in range(rank)], matrix))
        begin += size
    return pieces


@rule("flip.default")
def _flip(_call: Call, x: Node, dims: Sequence[int]) -> Node:
    rank = len(x.shape)
    turned = {d % rank for d in dims}
    starts = [x.shape[d] - 1 if d in turned else 0 for d in range(rank)]
    matrix = [[(-1 if i in turned else 1) if i == j else 0 for j in range(rank)] for i in range(rank)]
    return remap(x, x.shape, starts, matrix)


@rule("cat.default")
def _cat(call: Call, tensors: Sequence[Node], dim: int = 0) -> Node:
    pieces = [call.builder.cast(t, call.dtype) for t in tensors if t.shape != (0,)]
    return call.builder.concatenate(pieces, dim % len(call.shape))


@rule("slice_scatter.default")
def _slice_scatter(
    call: Call, x: Node, source: Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Node:
    rank = len(x.shape)
    dim %= rank
    first = range(x.shape[dim])[slice(start, end, step)]
    part = call.builder.cast(source, x.dtype)
    return call.builder.overwrite(
        x, part, [first.start if d == dim else 0 for d in range(rank)], [step if d == dim else 1 for d in range(rank)]
    )


@rule("select_scatter.default")
def _select_scatter(call: Call, x: Node, source: Node, dim: int, index: int) -> Node:
    rank = len(x.shape)
    dim %= rank
    part = call.builder.cast(call.builder.view(source, [1 if d == dim else n for d, n in enumerate(x.shape)]), x.dtype)
    return call.builder.overwrite(x, part, [index % x.shape[dim] if d == dim else 0 for d in range(rank)], [1] * rank)


@rule("constant_pad_nd.default")
def _pad(call: Call, x: Node, pad: Sequence[int], value: float = 0) -> Node:
    rank = len(x.shape)
    starts = [0] * rank
    for position in range(len(pad) // 2):
        before, after = pad[2 * position], pad[2 * position + 1]
        if before < 0 or after < 0:
            raise NotNativeError("it crops by negative padding")
        starts[rank - 1 - position] = before
    return call.builder.overwrite(Constant(call.shape, call.dtype, value), x, starts, [1] * rank)


# --- lookups -------------------------------------------------------------------------------------------------------------


@rule("index_select.default")
def _index_select(call: Call, x: Node, dim: int, index: Node) -> Node:
    rank = len(x.shape)
    dim %= rank
    trusted = isinstance(index, Stored) and index.buffer.kind == "step"
    lookup = Lookup(dim, index, (dim,), trusted)
    return Gathered(call.shape, x.dtype, _readable(call, x), (lookup,), {d: d for d in range(rank) if d != dim})


@rule("embedding.default")
def _embedding(call: Call, table: Node, index: Node, *_: Any) -> Node:
    depth = len(index.shape)
    lookup = Lookup(0, index, tuple(range(depth)))
    return Gathered(call.shape, table.dtype, _readable(call, table), (lookup,), {1: depth})


@rule("gather.default")
def _gather(call: Call, x: Node, dim: int, index: Node, **_: Any) -> Node:
    rank = len(x.shape)
    dim %= rank
    lookup = Lookup(dim, index, tuple(range(rank)))
    return Gathered(call.shape, x.dtype, _readable(call, x), (lookup,), {d: d for d in range(rank) if d != dim})


def _readable(call: Call, x: Node) -> Node:
    """What is read at places that depend on data is stored unless it is trivial."""
    return x if call.builder.cost(x) == 0 else call.builder.store(x)


def _lookups(x: Node, indices: Sequence[Node | None]) -> tuple[list[Lookup], dict[int, int], int]:
    """Advanced indexing: (lookups, source dimension -> result dimension, rank of the indices' common shape)."""
    dims = [d for d, index in enumerate(indices) if index is not None]
    if any(index.dtype not in (torch.int64, torch.int32) for index in indices if index is not None):
        raise NotNativeError("it indexes with a mask")
    if dims != list(range(dims[0], dims[0] + len(dims))):
        raise NotNativeError("it indexes dimensions that are not neighbours")
    shape = torch.broadcast_shapes(*(index.shape for index in indices if index is not None))
    depth, first = len(shape), dims[0]
    lookups = []
    for d in dims:
        index = indices[d]
        assert index is not None
        if index.shape != tuple(shape):
            raise NotNativeError("it broadcasts indices")
        lookups.append(Lookup(d, index, tuple(range(first, first + depth))))
    axes = {d: d if d < first else d - len(dims) + depth for d in range(len(x.shape)) if d not in dims}
    return lookups, axes, depth


@rule("index.Tensor")
def _index(call: Call, x: Node, indices: Sequence[Node | None]) -> Node:
    lookups, axes, _ = _lookups(x, indices)
    return Gathered(call.shape, x.dtype, _readable(call, x), tuple(lookups), axes)


@rule("index_put.default", "_unsafe_index_put.default")
def _index_put(call: Call, x: Node, indices: Sequence[Node | None], values: Node, accumulate: bool = False) -> Node:
    lookups, axes, depth = _lookups(x, indices)
    if not accumulate and any(len(lookup.index.shape) for lookup in lookups):
        raise NotNativeError("it writes at looked-up places, where the order matters")
    rank = depth + len(axes)
    shape = [0] * rank
    for lookup in lookups:
        for axis, size in zip(lookup.axes, lookup.index.shape, strict=True):
            shape[axis] = size
    for d, axis in axes.items():
        shape[axis] = x.shape[d]
    value = call.builder.spread(call.builder.cast(values, x.dtype), shape)
    return call.builder.scatter(x, value, lookups, axes, accumulate=accumulate)


def _one_place_per_row(x: Node, dim: int, index: Node) -> bool:
    return all(index.shape[d] == (1 if d == dim else size) for d, size in enumerate(x.shape))


def _hits(call: Call, x: Node, dim: int, index: Node) -> Node:
    """Whether an element is the one that its row's index names."""
    builder = call.builder
    places = builder.view(
        Iota((x.shape[dim],), torch.int64, 0, 1), [n if d == dim else 1 for d, n in enumerate(x.shape)]
    )
    return builder.pointwise(
        "hits", torch.bool, [places, builder.cast(index, torch.int64)], lambda a, b: f"({a} == {b})"
    )


@rule("scatter.value", "scatter.src", "scatter_add.default")
def _scatter(call: Call, x: Node, dim: int, index: Node, value: Any) -> Node:
    rank = len(x.shape)
    dim %= rank
    builder = call.builder
    adds = call.node.target is operation("scatter_add.default")
    source = value if isinstance(value, Node) else Constant(index.shape, x.dtype, value)
    if _one_place_per_row(x, dim, index) and source.shape == index.shape:
        hits = _hits(call, x, dim, index)
        kind = literal(0, x.dtype)
        if adds:
            nodes = [hits, x, builder.cast(source, x.dtype)]
            return builder.pointwise("scatter_add", x.dtype, nodes, lambda h, a, b: f"{a} + ({h} ? {b} : {kind})")
        return builder.pointwise(
            "scatter", x.dtype, [hits, builder.cast(source, x.dtype), x], lambda h, a, b: f"({h} ? {a} : {b})"
        )
    if source.shape != index.shape:
        raise NotNativeError("it scatters a part of its source")
    lookup = Lookup(dim, index, tuple(range(rank)))
    axes = {d: d for d in range(rank) if d != dim}
    return builder.scatter(x, builder.cast(source, x.dtype), [lookup], axes, accumulate=adds)
