"""Rules of reductions and matrix products."""

from __future__ import annotations

import math
from typing import Any

import torch

from lamina.train.native.nodes import Node, NotNativeError
from lamina.train.native.program import literal
from lamina.train.native.rule import Call, rule


def _all_dims(x: Node, dims: Any) -> list[int]:
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return list(range(len(x.shape)))
    return [dims] if isinstance(dims, int) else list(dims)


@rule("sum.dim_IntList", "sum.default")
def _sum(call: Call, x: Node, dims: Any = None, keepdim: bool = False, **_: Any) -> Node:
    return call.builder.reduce("sum", call.builder.cast(x, call.dtype), _all_dims(x, dims), keepdim=keepdim)


@rule("mean.dim", "mean.default")
def _mean(call: Call, x: Node, dims: Any = None, keepdim: bool = False, **_: Any) -> Node:
    chosen = _all_dims(x, dims)
    count = math.prod(x.shape[d] for d in chosen)
    total = call.builder.reduce("sum", call.builder.cast(x, call.dtype), chosen, keepdim=keepdim)
    return call.point([total], lambda a: f"{a} / {literal(count, call.dtype)}", cost=8)


@rule("amax.default")
def _amax(call: Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("max", x, _all_dims(x, dims), keepdim=keepdim)


@rule("amin.default")
def _amin(call: Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("min", x, _all_dims(x, dims), keepdim=keepdim)


@rule("max.default")
def _max(call: Call, x: Node) -> Node:
    return call.builder.reduce("max", x, _all_dims(x, None), keepdim=False)


@rule("any.default", "any.dim", "any.dims")
def _any(call: Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("any", call.builder.cast(x, torch.bool), _all_dims(x, dims), keepdim=keepdim)


@rule("all.default", "all.dim", "all.dims")
def _all(call: Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("all", call.builder.cast(x, torch.bool), _all_dims(x, dims), keepdim=keepdim)


@rule("var.correction")
def _var(call: Call, x: Node, dims: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Node:
    return _variance(call, x, dims, 1 if correction is None else correction, keepdim)[0]


@rule("var_mean.correction")
def _var_mean(
    call: Call, x: Node, dims: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> list[Node]:
    return list(_variance(call, x, dims, 1 if correction is None else correction, keepdim))


@rule("std.correction")
def _std(call: Call, x: Node, dims: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Node:
    return call.point(
        [_var(call, x, dims, correction=correction, keepdim=keepdim)], lambda a: f"std::sqrt({a})", cost=10
    )


def _variance(call: Call, x: Node, dims: Any, correction: float, keepdim: bool) -> tuple[Node, Node]:
    """Two passes, as stable as torch's own."""
    builder, chosen = call.builder, _all_dims(x, dims)
    count = math.prod(x.shape[d] for d in chosen)
    source = x if builder.cost(x) == 0 else builder.store(x)
    total = builder.reduce("sum", source, chosen, keepdim=True)
    mean = builder.store(
        builder.pointwise("mean", x.dtype, [total], lambda a: f"{a} / {literal(count, x.dtype)}", cost=8)
    )
    square = builder.pointwise("square", x.dtype, [source, mean], lambda a, b: f"({a} - {b}) * ({a} - {b})", cost=2)
    sums = builder.reduce("sum", square, chosen, keepdim=True)
    divisor = max(count - correction, 0)
    var = builder.store(
        builder.pointwise("var", x.dtype, [sums], lambda a: f"{a} / {literal(divisor, x.dtype)}", cost=8)
    )
    if keepdim:
        return var, mean
    shape = tuple(n for d, n in enumerate(x.shape) if d not in {c % len(x.shape) for c in chosen})
    return builder.view(var, shape), builder.view(mean, shape)


@rule("mm.default")
def _mm(call: Call, a: Node, b: Node) -> Node:
    return call.builder.product(a, b)


@rule("bmm.default")
def _bmm(call: Call, a: Node, b: Node) -> Node:
    if a.shape[0] != 1:
        raise NotNativeError("it multiplies batches of matrices")
    product = call.builder.product(call.builder.view(a, a.shape[1:]), call.builder.view(b, b.shape[1:]))
    return call.builder.view(product, call.shape)
