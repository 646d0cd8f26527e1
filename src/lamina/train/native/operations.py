"""The ATen operations that can be lowered, one rule each.

A rule gets the builder, the dtype and shape of the result and the arguments as nodes or Python values, and returns a
node. Whatever has no rule makes the step not native; nothing is approximated. Sources: the operations' definitions in
the PyTorch documentation; NaN and infinity behave as there.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lamina.train.native.nodes import (
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
    remap,
)
from lamina.train.native.program import Builder, literal

__all__ = ["lower"]

Rule = Callable[..., Any]
_aten = torch.ops.aten
_prims = torch.ops.prims
RULES: dict[Any, Rule] = {}


def lower(module: fx.GraphModule, builder: Builder, inputs: Sequence[Node], *, constant: Callable[[Tensor], Node]) -> list[Any]:
    """Lower a traced graph.

    Args:
        module: From `tracing.trace`.
        builder: Collects the kernels.
        inputs: A node per placeholder.
        constant: Makes a node of a tensor that the graph holds as an attribute.

    Returns:
        The graph's outputs as nodes, in order.

    Raises:
        NotNativeError: An operation has no rule.
    """
    values: dict[fx.Node, Any] = {}
    given = iter(inputs)
    outputs: list[Any] = []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = constant(getattr(module, str(node.target)))
        elif node.op == "output":
            outputs = [values[item] if isinstance(item, fx.Node) else item for item in node.args[0]]
        else:
            values[node] = _store_if_shared(builder, node, _apply(builder, node, values))
    return outputs


def _apply(builder: Builder, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    rule = RULES.get(node.target)
    if rule is None:
        raise NotNativeError(f"the operation {node.target} has no native form")
    if node.target is operator.getitem:
        return values[node.args[0]][node.args[1]]  # type: ignore[index]
    args = fx.node.map_arg(node.args, lambda item: values[item])
    kwargs = fx.node.map_arg(node.kwargs, lambda item: values[item])
    result = rule(_Call(builder, node), *args, **kwargs)
    expected = node.meta.get("val")
    if expected is None:
        expected = node.meta.get("tensor_meta")
    if isinstance(result, Node) and isinstance(expected, Tensor):
        if tuple(expected.shape) != result.shape:
            raise NotNativeError(f"{node.target} gave {result.shape}, not {tuple(expected.shape)}")
        result = builder.cast(result, expected.dtype)
    return result


class _Call:
    """One node of the graph on its way to a rule."""

    def __init__(self, builder: Builder, node: fx.Node) -> None:
        self.builder = builder
        self.node = node
        value = node.meta.get("val")
        self.dtype = value.dtype if isinstance(value, Tensor) else torch.float32
        self.shape = tuple(value.shape) if isinstance(value, Tensor) else ()

    def operand(self, value: Any, dtype: torch.dtype) -> Node:
        """A node or number, converted."""
        if isinstance(value, Node):
            return self.builder.cast(value, dtype)
        return Constant((), dtype, value)

    def promoted(self, *values: Any) -> torch.dtype:
        """The dtype in which operands meet."""
        metas = []
        for value in values:
            if isinstance(value, Node):
                metas.append(torch.empty(value.shape, dtype=value.dtype, device="meta"))
            else:
                metas.append(value)
        result = metas[0].dtype if isinstance(metas[0], Tensor) else torch.result_type(metas[0], metas[0])
        for first, second in zip(metas, metas[1:], strict=False):
            result = torch.promote_types(result, torch.result_type(first, second)) if len(metas) > 2 else torch.result_type(first, second)
        return result

    def point(self, values: Sequence[Any], write: Callable[..., str], *, dtype: torch.dtype | None = None, inner: torch.dtype | None = None, cost: int = 1) -> Node:
        """A pointwise node; operands are converted to `inner` (default: the result's dtype)."""
        result = dtype or self.dtype
        nodes = [self.operand(value, inner or result) for value in values]
        return self.builder.pointwise(str(self.node.target), result, nodes, write, cost=cost)


# --- what is stored ----------------------------------------------------------------------------------------------------

_VIEWS = {
    _aten.view.default,
    _aten._unsafe_view.default,
    _aten.reshape.default,
    _aten.permute.default,
    _aten.t.default,
    _aten.transpose.int,
    _aten.expand.default,
    _aten.unsqueeze.default,
    _aten.squeeze.dims,
    _aten.squeeze.dim,
    _aten.squeeze.default,
    _aten.slice.Tensor,
    _aten.select.int,
    _aten.detach.default,
    _aten.alias.default,
    _aten.clone.default,
    _aten.lift_fresh_copy.default,
}


def _num_readers(node: fx.Node) -> int:
    total = 0
    for user in node.users:
        total += _num_readers(user) if user.target in _VIEWS else 1
    return total


def _store_if_shared(builder: Builder, node: fx.Node, value: Any) -> Any:
    """Store what several others read, unless it is as cheap as reading it."""
    if not isinstance(value, Pointwise | Gathered | Remap) or node.target in _VIEWS:
        return value
    cost = builder.cost(value)
    if _num_readers(node) > 1 and (cost > 1 or (cost == 1 and value.numel > 1)):
        return builder.store(value)
    return value


# --- pointwise ---------------------------------------------------------------------------------------------------------


def _f(dtype: torch.dtype) -> str:
    return "f" if dtype == torch.float32 else ""


def _unary(name: str, text: str, cost: int = 1) -> None:
    """A function of one number; `{0}` is the operand, `{f}` the suffix of float functions, `{T}` the type."""

    def rule(call: _Call, x: Node) -> Node:
        return call.point([x], lambda a: text.format(a, f=_f(call.dtype), T=c_type(call.dtype)), cost=cost)

    RULES[getattr(_aten, name).default] = rule


for _name, _text, _cost in (
    ("neg", "-{0}", 1),
    ("exp", "exp{f}({0})", 12),
    ("expm1", "expm1{f}({0})", 15),
    ("log", "log{f}({0})", 12),
    ("log1p", "log1p{f}({0})", 15),
    ("log2", "std::log2({0})", 20),
    ("sqrt", "std::sqrt({0})", 10),
    ("rsqrt", "({T})1 / std::sqrt({0})", 12),
    ("reciprocal", "({T})1 / {0}", 8),
    ("sin", "sin{f}({0})", 15),
    ("cos", "cos{f}({0})", 15),
    ("tanh", "tanh{f}({0})", 20),
    ("erf", "erf{f}({0})", 20),
    ("sigmoid", "({T})1 / (({T})1 + exp{f}(-{0}))", 20),
    ("relu", "larger<{T}>({0}, ({T})0)", 1),
    ("floor", "std::floor({0})", 1),
    ("ceil", "std::ceil({0})", 1),
    ("trunc", "std::trunc({0})", 1),
    ("round", "std::nearbyint({0})", 1),
    ("sign", "({T})(({0} > 0) - ({0} < 0))", 2),
    ("bitwise_not", "~{0}", 1),
):
    _unary(_name, _text, _cost)


def _rule(*targets: Any) -> Callable[[Rule], Rule]:
    def add(rule: Rule) -> Rule:
        for target in targets:
            RULES[target] = rule
        return rule

    return add


@_rule(_aten.abs.default)
def _abs(call: _Call, x: Node) -> Node:
    if call.dtype.is_floating_point:
        return call.point([x], lambda a: f"std::fabs({a})")
    return call.point([x], lambda a: f"({a} < 0 ? -{a} : {a})")


@_rule(_aten.logical_not.default)
def _logical_not(call: _Call, x: Node) -> Node:
    return call.point([x], lambda a: f"!{a}", dtype=torch.bool)


@_rule(_aten.isnan.default)
def _isnan(call: _Call, x: Node) -> Node:
    return call.point([x], lambda a: f"({a} != {a})", dtype=torch.bool, inner=x.dtype)


@_rule(_aten.isinf.default)
def _isinf(call: _Call, x: Node) -> Node:
    if not x.dtype.is_floating_point:
        return Constant(x.shape, torch.bool, False)
    return call.point([x], lambda a: f"(std::fabs({a}) == {literal(math.inf, x.dtype)})", dtype=torch.bool, inner=x.dtype)


@_rule(_aten.add.Tensor, _aten.add.Scalar)
def _add(call: _Call, a: Any, b: Any, *, alpha: float = 1) -> Node:
    if alpha == 1:
        return call.point([a, b], lambda x, y: f"{x} + {y}")
    return call.point([a, b], lambda x, y: f"{x} + {literal(alpha, call.dtype)} * {y}", cost=2)


@_rule(_aten.sub.Tensor, _aten.sub.Scalar)
def _sub(call: _Call, a: Any, b: Any, *, alpha: float = 1) -> Node:
    if alpha == 1:
        return call.point([a, b], lambda x, y: f"{x} - {y}")
    return call.point([a, b], lambda x, y: f"{x} - {literal(alpha, call.dtype)} * {y}", cost=2)


@_rule(_aten.rsub.Tensor, _aten.rsub.Scalar)
def _rsub(call: _Call, a: Any, b: Any, alpha: float = 1) -> Node:
    return call.point([a, b], lambda x, y: f"{y} - {literal(alpha, call.dtype)} * {x}")


@_rule(_aten.mul.Tensor, _aten.mul.Scalar)
def _mul(call: _Call, a: Any, b: Any) -> Node:
    if call.dtype == torch.bool:
        return call.point([a, b], lambda x, y: f"({x} && {y})")
    return call.point([a, b], lambda x, y: f"{x} * {y}")


@_rule(_aten.div.Tensor, _aten.div.Scalar)
def _div(call: _Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"{x} / {y}", cost=8)


@_rule(_aten.div.Tensor_mode, _aten.div.Scalar_mode)
def _div_mode(call: _Call, a: Any, b: Any, *, rounding_mode: str | None = None) -> Node:
    kind = c_type(call.dtype)
    if rounding_mode == "floor":
        return call.point([a, b], lambda x, y: f"floor_div<{kind}>({x}, {y})", cost=12)
    if rounding_mode is None:
        return _div(call, a, b)
    if call.dtype.is_floating_point:
        return call.point([a, b], lambda x, y: f"std::trunc({x} / {y})", cost=10)
    raise NotNativeError("it divides integers with truncation")


@_rule(_aten.floor_divide.default)
def _floor_divide(call: _Call, a: Any, b: Any) -> Node:
    return _div_mode(call, a, b, rounding_mode="floor")


@_rule(_aten.remainder.Tensor, _aten.remainder.Scalar)
def _remainder(call: _Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"floor_mod<{c_type(call.dtype)}>({x}, {y})", cost=12)


@_rule(_aten.pow.Tensor_Scalar, _aten.pow.Tensor_Tensor, _aten.pow.Scalar)
def _pow(call: _Call, base: Any, exponent: Any) -> Node:
    kind = c_type(call.dtype)
    known = exponent.value if isinstance(exponent, Constant) else exponent
    if not isinstance(known, Node):
        simple: dict[float, tuple[str, int]] = {
            0: ("({T})1", 0),
            1: ("{0}", 0),
            2: ("{0} * {0}", 1),
            3: ("{0} * {0} * {0}", 2),
            0.5: ("std::sqrt({0})", 10),
            -0.5: ("({T})1 / std::sqrt({0})", 12),
            -1: ("({T})1 / {0}", 8),
        }
        if known in simple and (call.dtype.is_floating_point or known >= 0):
            text, cost = simple[known]
            return call.point([base], lambda x: text.format(x, T=kind), cost=cost)
    if not call.dtype.is_floating_point:
        raise NotNativeError("it raises integers to a power")
    return call.point([base, exponent], lambda x, y: f"({kind})std::pow({x}, {y})", cost=40)


@_rule(_aten.atan2.default)
def _atan2(call: _Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"std::atan2({x}, {y})", cost=40)


@_rule(_aten.maximum.default, _aten.clamp_min.default, _aten.clamp_min.Tensor)
def _maximum(call: _Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"larger<{c_type(call.dtype)}>({x}, {y})")


@_rule(_aten.minimum.default, _aten.clamp_max.default, _aten.clamp_max.Tensor)
def _minimum(call: _Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"smaller<{c_type(call.dtype)}>({x}, {y})")


@_rule(_aten.clamp.default, _aten.clamp.Tensor, _aten.hardtanh.default)
def _clamp(call: _Call, x: Node, low: Any = None, high: Any = None) -> Node:
    result: Node = call.builder.cast(x, call.dtype)
    if low is not None:
        result = _maximum(call, result, low)
    return result if high is None else _minimum(call, result, high)


def _comparison(name: str, sign: str) -> None:
    def rule(call: _Call, a: Any, b: Any) -> Node:
        inner = call.promoted(a, b)
        return call.point([a, b], lambda x, y: f"({x} {sign} {y})", dtype=torch.bool, inner=inner)

    for overload in ("Tensor", "Scalar"):
        RULES[getattr(getattr(_aten, name), overload)] = rule


for _name, _text in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
    _comparison(_name, _text)


def _bitwise(name: str, sign: str, logical: str) -> None:
    def rule(call: _Call, a: Any, b: Any) -> Node:
        text = logical if call.dtype == torch.bool else sign
        kind = c_type(call.dtype)
        return call.point([a, b], lambda x, y: f"({kind})({x} {text} {y})")

    for overload in ("Tensor", "Scalar", "Scalar_Tensor"):
        RULES[getattr(getattr(_aten, name), overload)] = rule


_bitwise("bitwise_and", "&", "&&")
_bitwise("bitwise_or", "|", "||")
_bitwise("bitwise_xor", "^", "!=")


@_rule(_aten.logical_and.default, _aten.logical_or.default, _aten.logical_xor.default)
def _logical(call: _Call, a: Any, b: Any) -> Node:
    sign = {_aten.logical_and.default: "&&", _aten.logical_or.default: "||", _aten.logical_xor.default: "!="}
    text = sign[call.node.target]  # type: ignore[index]
    return call.point([a, b], lambda x, y: f"({x} {text} {y})", dtype=torch.bool)


@_rule(_aten.bitwise_left_shift.Tensor, _aten.bitwise_left_shift.Tensor_Scalar, _aten.__lshift__.Scalar, _aten.__lshift__.Tensor)
def _left_shift(call: _Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"({c_type(call.dtype)})({x} << {y})")


@_rule(_aten.bitwise_right_shift.Tensor, _aten.bitwise_right_shift.Tensor_Scalar, _aten.__rshift__.Scalar, _aten.__rshift__.Tensor)
def _right_shift(call: _Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"({c_type(call.dtype)})({x} >> {y})")


@_rule(_aten.where.self, _aten.where.ScalarOther, _aten.where.ScalarSelf, _aten.where.Scalar)
def _where(call: _Call, condition: Node, a: Any, b: Any) -> Node:
    nodes = [call.builder.cast(condition, torch.bool), call.operand(a, call.dtype), call.operand(b, call.dtype)]
    return call.builder.pointwise("where", call.dtype, nodes, lambda c, x, y: f"({c} ? {x} : {y})")


@_rule(_aten.masked_fill.Scalar, _aten.masked_fill.Tensor)
def _masked_fill(call: _Call, x: Node, mask: Node, value: Any) -> Node:
    return _where(call, mask, value, x)


@_rule(_aten._to_copy.default, _prims.convert_element_type.default)
def _to_copy(call: _Call, x: Node, *_: Any, **__: Any) -> Node:
    return call.builder.cast(x, call.dtype)


@_rule(_aten.clone.default, _aten.detach.default, _aten.alias.default, _aten.lift_fresh_copy.default, _aten.contiguous.default)
def _same(call: _Call, x: Node, **_: Any) -> Node:
    return x


@_rule(_aten.copy.default)
def _copy(call: _Call, x: Node, source: Node, *_: Any) -> Node:
    return call.builder.spread(call.builder.cast(source, x.dtype), x.shape)


# --- constants ----------------------------------------------------------------------------------------------------------


@_rule(_aten.full.default)
def _full(call: _Call, size: Sequence[int], value: Any, **_: Any) -> Node:
    if isinstance(value, Node):
        return call.builder.spread(call.builder.cast(value, call.dtype), size)
    return Constant(tuple(size), call.dtype, value)


@_rule(_aten.full_like.default)
def _full_like(call: _Call, x: Node, value: Any, **_: Any) -> Node:
    return Constant(x.shape, call.dtype, value)


@_rule(_aten.scalar_tensor.default)
def _scalar_tensor(call: _Call, value: Any, **_: Any) -> Node:
    return Constant((), call.dtype, value)


@_rule(_aten.zeros.default, _aten.zeros_like.default, _aten.new_zeros.default)
def _zeros(call: _Call, *_: Any, **__: Any) -> Node:
    return Constant(call.shape, call.dtype, 0)


@_rule(_aten.ones.default, _aten.ones_like.default, _aten.new_ones.default)
def _ones(call: _Call, *_: Any, **__: Any) -> Node:
    return Constant(call.shape, call.dtype, 1)


@_rule(_aten.arange.default, _aten.arange.start, _aten.arange.start_step)
def _arange(call: _Call, *bounds: Any, **_: Any) -> Node:
    start, step = (bounds[0] if len(bounds) > 1 else 0), (bounds[2] if len(bounds) > 2 else 1)
    return Iota(call.shape, call.dtype, start, step)


@_rule(_prims.iota.default)
def _iota(call: _Call, length: int, *, start: int, step: int, **_: Any) -> Node:
    return Iota((length,), call.dtype, start, step)


# --- views ---------------------------------------------------------------------------------------------------------------


@_rule(_aten.view.default, _aten._unsafe_view.default, _aten.reshape.default)
def _view(call: _Call, x: Node, _shape: Sequence[int]) -> Node:
    return call.builder.view(x, call.shape)


@_rule(_aten.permute.default)
def _permute(call: _Call, x: Node, dims: Sequence[int]) -> Node:
    rank = len(x.shape)
    order = [d % rank for d in dims]
    matrix = [[int(order[j] == i) for j in range(rank)] for i in range(rank)]
    return remap(x, [x.shape[d] for d in order], [0] * rank, matrix)


@_rule(_aten.transpose.int)
def _transpose(call: _Call, x: Node, first: int, second: int) -> Node:
    order = list(range(len(x.shape)))
    order[first], order[second] = order[second], order[first]
    return _permute(call, x, order)


@_rule(_aten.t.default)
def _t(call: _Call, x: Node) -> Node:
    return x if len(x.shape) < 2 else _permute(call, x, [1, 0])


@_rule(_aten.expand.default)
def _expand(call: _Call, x: Node, _shape: Sequence[int], **__: Any) -> Node:
    return call.builder.spread(x, call.shape)


@_rule(_aten.unsqueeze.default, _aten.squeeze.dims, _aten.squeeze.dim, _aten.squeeze.default)
def _squeeze(call: _Call, x: Node, *_: Any) -> Node:
    return _unit_dimensions(x, call.shape)


def _unit_dimensions(x: Node, shape: tuple[int, ...]) -> Node:
    """The same elements where only dimensions of size 1 come or go."""
    mine = [d for d, size in enumerate(x.shape) if size != 1]
    theirs = [d for d, size in enumerate(shape) if size != 1]
    matrix = [[0] * len(shape) for _ in x.shape]
    for i, j in zip(mine, theirs, strict=True):
        matrix[i][j] = 1
    return remap(x, shape, [0] * len(x.shape), matrix)


@_rule(_aten.slice.Tensor)
def _slice(call: _Call, x: Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Node:
    rank = len(x.shape)
    dim %= rank
    first = range(x.shape[dim])[slice(start, end, step)]
    starts = [first.start if d == dim else 0 for d in range(rank)]
    matrix = [[(step if d == dim else 1) if d == j else 0 for j in range(rank)] for d in range(rank)]
    return remap(x, call.shape, starts, matrix)


@_rule(_aten.select.int)
def _select(call: _Call, x: Node, dim: int, index: int) -> Node:
    rank = len(x.shape)
    dim %= rank
    index %= x.shape[dim]
    kept = [d for d in range(rank) if d != dim]
    starts = [index if d == dim else 0 for d in range(rank)]
    matrix = [[int(kept[j] == d) for j in range(rank - 1)] for d in range(rank)]
    return remap(x, call.shape, starts, matrix)


@_rule(_aten.unbind.int)
def _unbind(call: _Call, x: Node, dim: int = 0) -> list[Node]:
    rank = len(x.shape)
    dim %= rank
    kept = [d for d in range(rank) if d != dim]
    matrix = [[int(kept[j] == d) for j in range(rank - 1)] for d in range(rank)]
    shape = [x.shape[d] for d in kept]
    return [remap(x, shape, [i if d == dim else 0 for d in range(rank)], matrix) for i in range(x.shape[dim])]


@_rule(_aten.split_with_sizes.default, _aten.split.Tensor)
def _split(call: _Call, x: Node, sizes: Any, dim: int = 0) -> list[Node]:
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


@_rule(_aten.flip.default)
def _flip(call: _Call, x: Node, dims: Sequence[int]) -> Node:
    rank = len(x.shape)
    turned = {d % rank for d in dims}
    starts = [x.shape[d] - 1 if d in turned else 0 for d in range(rank)]
    matrix = [[(-1 if i in turned else 1) if i == j else 0 for j in range(rank)] for i in range(rank)]
    return remap(x, x.shape, starts, matrix)


@_rule(operator.getitem)
def _getitem(call: _Call, items: Any, which: int) -> Any:  # handled in _apply; listed so that it counts as known
    return items[which]


@_rule(_aten.cat.default)
def _cat(call: _Call, tensors: Sequence[Node], dim: int = 0) -> Node:
    pieces = [call.builder.cast(t, call.dtype) for t in tensors if t.shape != (0,)]
    return call.builder.concatenate(pieces, dim % len(call.shape))


@_rule(_aten.slice_scatter.default)
def _slice_scatter(call: _Call, x: Node, source: Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Node:
    rank = len(x.shape)
    dim %= rank
    first = range(x.shape[dim])[slice(start, end, step)]
    part = call.builder.cast(source, x.dtype)
    return call.builder.overwrite(
        x, part, [first.start if d == dim else 0 for d in range(rank)], [step if d == dim else 1 for d in range(rank)]
    )


@_rule(_aten.select_scatter.default)
def _select_scatter(call: _Call, x: Node, source: Node, dim: int, index: int) -> Node:
    rank = len(x.shape)
    dim %= rank
    part = call.builder.cast(call.builder.view(source, [1 if d == dim else n for d, n in enumerate(x.shape)]), x.dtype)
    return call.builder.overwrite(x, part, [index % x.shape[dim] if d == dim else 0 for d in range(rank)], [1] * rank)


@_rule(_aten.constant_pad_nd.default)
def _pad(call: _Call, x: Node, pad: Sequence[int], value: float = 0) -> Node:
    rank = len(x.shape)
    starts = [0] * rank
    for position in range(len(pad) // 2):
        before, after = pad[2 * position], pad[2 * position + 1]
        if before < 0 or after < 0:
            raise NotNativeError("it crops by negative padding")
        starts[rank - 1 - position] = before
    return call.builder.overwrite(Constant(call.shape, call.dtype, value), x, starts, [1] * rank)


# --- lookups -------------------------------------------------------------------------------------------------------------


@_rule(_aten.index_select.default)
def _index_select(call: _Call, x: Node, dim: int, index: Node) -> Node:
    rank = len(x.shape)
    dim %= rank
    trusted = isinstance(index, Stored) and index.buffer.kind == "step"
    lookup = Lookup(dim, index, (dim,), trusted)
    return Gathered(call.shape, x.dtype, _readable(call, x), (lookup,), {d: d for d in range(rank) if d != dim})


@_rule(_aten.embedding.default)
def _embedding(call: _Call, table: Node, index: Node, *_: Any) -> Node:
    depth = len(index.shape)
    lookup = Lookup(0, index, tuple(range(depth)))
    return Gathered(call.shape, table.dtype, _readable(call, table), (lookup,), {1: depth})


@_rule(_aten.gather.default)
def _gather(call: _Call, x: Node, dim: int, index: Node, **_: Any) -> Node:
    rank = len(x.shape)
    dim %= rank
    lookup = Lookup(dim, index, tuple(range(rank)))
    return Gathered(call.shape, x.dtype, _readable(call, x), (lookup,), {d: d for d in range(rank) if d != dim})


def _readable(call: _Call, x: Node) -> Node:
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


@_rule(_aten.index.Tensor)
def _index(call: _Call, x: Node, indices: Sequence[Node | None]) -> Node:
    lookups, axes, _ = _lookups(x, indices)
    return Gathered(call.shape, x.dtype, _readable(call, x), tuple(lookups), axes)


@_rule(_aten.index_put.default, _aten._unsafe_index_put.default)
def _index_put(call: _Call, x: Node, indices: Sequence[Node | None], values: Node, accumulate: bool = False) -> Node:
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


def _hits(call: _Call, x: Node, dim: int, index: Node) -> Node:
    """Whether an element is the one that its row's index names."""
    builder = call.builder
    places = builder.view(Iota((x.shape[dim],), torch.int64, 0, 1), [n if d == dim else 1 for d, n in enumerate(x.shape)])
    return builder.pointwise("hits", torch.bool, [places, builder.cast(index, torch.int64)], lambda a, b: f"({a} == {b})")


@_rule(_aten.scatter.value, _aten.scatter.src, _aten.scatter_add.default)
def _scatter(call: _Call, x: Node, dim: int, index: Node, value: Any) -> Node:
    rank = len(x.shape)
    dim %= rank
    builder = call.builder
    adds = call.node.target is _aten.scatter_add.default
    source = value if isinstance(value, Node) else Constant(index.shape, x.dtype, value)
    if _one_place_per_row(x, dim, index) and source.shape == index.shape:
        hits = _hits(call, x, dim, index)
        kind = literal(0, x.dtype)
        if adds:
            nodes = [hits, x, builder.cast(source, x.dtype)]
            return builder.pointwise("scatter_add", x.dtype, nodes, lambda h, a, b: f"{a} + ({h} ? {b} : {kind})")
        return builder.pointwise("scatter", x.dtype, [hits, builder.cast(source, x.dtype), x], lambda h, a, b: f"({h} ? {a} : {b})")
    if source.shape != index.shape:
        raise NotNativeError("it scatters a part of its source")
    lookup = Lookup(dim, index, tuple(range(rank)))
    axes = {d: d for d in range(rank) if d != dim}
    return builder.scatter(x, builder.cast(source, x.dtype), [lookup], axes, accumulate=adds)


# --- reductions and products ----------------------------------------------------------------------------------------------


def _all_dims(x: Node, dims: Any) -> list[int]:
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return list(range(len(x.shape)))
    return [dims] if isinstance(dims, int) else list(dims)


@_rule(_aten.sum.dim_IntList, _aten.sum.default)
def _sum(call: _Call, x: Node, dims: Any = None, keepdim: bool = False, **_: Any) -> Node:
    return call.builder.reduce("sum", call.builder.cast(x, call.dtype), _all_dims(x, dims), keepdim=keepdim)


@_rule(_aten.mean.dim, _aten.mean.default)
def _mean(call: _Call, x: Node, dims: Any = None, keepdim: bool = False, **_: Any) -> Node:
    chosen = _all_dims(x, dims)
    count = math.prod(x.shape[d] for d in chosen)
    total = call.builder.reduce("sum", call.builder.cast(x, call.dtype), chosen, keepdim=keepdim)
    return call.point([total], lambda a: f"{a} / {literal(count, call.dtype)}", cost=8)


@_rule(_aten.amax.default)
def _amax(call: _Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("max", x, _all_dims(x, dims), keepdim=keepdim)


@_rule(_aten.amin.default)
def _amin(call: _Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("min", x, _all_dims(x, dims), keepdim=keepdim)


@_rule(_aten.max.default)
def _max(call: _Call, x: Node) -> Node:
    return call.builder.reduce("max", x, _all_dims(x, None), keepdim=False)


@_rule(_aten.any.default, _aten.any.dim, _aten.any.dims)
def _any(call: _Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("any", call.builder.cast(x, torch.bool), _all_dims(x, dims), keepdim=keepdim)


@_rule(_aten.all.default, _aten.all.dim, _aten.all.dims)
def _all(call: _Call, x: Node, dims: Any = None, keepdim: bool = False) -> Node:
    return call.builder.reduce("all", call.builder.cast(x, torch.bool), _all_dims(x, dims), keepdim=keepdim)


@_rule(_aten.var.correction)
def _var(call: _Call, x: Node, dims: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Node:
    return _variance(call, x, dims, 1 if correction is None else correction, keepdim)[0]


@_rule(_aten.var_mean.correction)
def _var_mean(call: _Call, x: Node, dims: Any = None, *, correction: float | None = None, keepdim: bool = False) -> list[Node]:
    return list(_variance(call, x, dims, 1 if correction is None else correction, keepdim))


def _variance(call: _Call, x: Node, dims: Any, correction: float, keepdim: bool) -> tuple[Node, Node]:
    """Two passes, as stable as torch's own."""
    builder, chosen = call.builder, _all_dims(x, dims)
    count = math.prod(x.shape[d] for d in chosen)
    source = x if builder.cost(x) == 0 else builder.store(x)
    total = builder.reduce("sum", source, chosen, keepdim=True)
    mean = builder.store(builder.pointwise("mean", x.dtype, [total], lambda a: f"{a} / {literal(count, x.dtype)}", cost=8))
    square = builder.pointwise("square", x.dtype, [source, mean], lambda a, b: f"({a} - {b}) * ({a} - {b})", cost=2)
    sums = builder.reduce("sum", square, chosen, keepdim=True)
    divisor = max(count - correction, 0)
    var = builder.store(builder.pointwise("var", x.dtype, [sums], lambda a: f"{a} / {literal(divisor, x.dtype)}", cost=8))
    if keepdim:
        return var, mean
    shape = tuple(n for d, n in enumerate(x.shape) if d not in {c % len(x.shape) for c in chosen})
    return builder.view(var, shape), builder.view(mean, shape)


@_rule(_aten.mm.default)
def _mm(call: _Call, a: Node, b: Node) -> Node:
    return call.builder.product(a, b)


@_rule(_aten.bmm.default)
def _bmm(call: _Call, a: Node, b: Node) -> Node:
    if a.shape[0] != 1:
        raise NotNativeError("it multiplies batches of matrices")
    product = call.builder.product(_unit_dimensions(a, a.shape[1:]) if 1 not in a.shape[1:] else call.builder.view(a, a.shape[1:]), call.builder.view(b, b.shape[1:]))
    return call.builder.view(product, call.shape)
