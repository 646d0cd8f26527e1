"""Rules of operations that work element by element."""

from __future__ import annotations

import math
from typing import Any

import torch

from lamina.train.native.nodes import Constant, Node, NotNativeError, c_type
from lamina.train.native.program import literal
from lamina.train.native.rule import Call, rule


def _f(dtype: torch.dtype) -> str:
    return "f" if dtype == torch.float32 else ""


def _unary(name: str, text: str, cost: int = 1) -> None:
    """A function of one number; `{0}` is the operand, `{f}` the suffix of float functions, `{T}` the type."""

    def unary_rule(call: Call, x: Node) -> Node:
        return call.point([x], lambda a: text.format(a, f=_f(call.dtype), T=c_type(call.dtype)), cost=cost)

    rule(f"{name}.default")(unary_rule)


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
):
    _unary(_name, _text, _cost)


@rule("abs.default")
def _abs(call: Call, x: Node) -> Node:
    if call.dtype.is_floating_point:
        return call.point([x], lambda a: f"std::fabs({a})")
    return call.point([x], lambda a: f"({a} < 0 ? -{a} : {a})")


@rule("logical_not.default")
def _logical_not(call: Call, x: Node) -> Node:
    return call.point([x], lambda a: f"!{a}", dtype=torch.bool)


@rule("bitwise_not.default")
def _bitwise_not(call: Call, x: Node) -> Node:
    return call.point([x], lambda a: f"{'!' if call.dtype == torch.bool else '~'}{a}")


@rule("isnan.default")
def _isnan(call: Call, x: Node) -> Node:
    return call.point([x], lambda a: f"({a} != {a})", dtype=torch.bool, inner=x.dtype)


@rule("isinf.default")
def _isinf(call: Call, x: Node) -> Node:
    if not x.dtype.is_floating_point:
        return Constant(x.shape, torch.bool, False)
    return call.point(
        [x], lambda a: f"(std::fabs({a}) == {literal(math.inf, x.dtype)})", dtype=torch.bool, inner=x.dtype
    )


@rule("add.Tensor", "add.Scalar")
def _add(call: Call, a: Any, b: Any, *, alpha: float = 1) -> Node:
    if alpha == 1:
        return call.point([a, b], lambda x, y: f"{x} + {y}")
    return call.point([a, b], lambda x, y: f"{x} + {literal(alpha, call.dtype)} * {y}", cost=2)


@rule("sub.Tensor", "sub.Scalar")
def _sub(call: Call, a: Any, b: Any, *, alpha: float = 1) -> Node:
    if alpha == 1:
        return call.point([a, b], lambda x, y: f"{x} - {y}")
    return call.point([a, b], lambda x, y: f"{x} - {literal(alpha, call.dtype)} * {y}", cost=2)


@rule("rsub.Tensor", "rsub.Scalar")
def _rsub(call: Call, a: Any, b: Any, alpha: float = 1) -> Node:
    return call.point([a, b], lambda x, y: f"{y} - {literal(alpha, call.dtype)} * {x}")


@rule("mul.Tensor", "mul.Scalar")
def _mul(call: Call, a: Any, b: Any) -> Node:
    if call.dtype == torch.bool:
        return call.point([a, b], lambda x, y: f"({x} && {y})")
    return call.point([a, b], lambda x, y: f"{x} * {y}")


@rule("div.Tensor", "div.Scalar")
def _div(call: Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"{x} / {y}", cost=8)


@rule("div.Tensor_mode", "div.Scalar_mode")
def _div_mode(call: Call, a: Any, b: Any, *, rounding_mode: str | None = None) -> Node:
    kind = c_type(call.dtype)
    if rounding_mode == "floor":
        return call.point([a, b], lambda x, y: f"floor_div<{kind}>({x}, {y})", cost=12)
    if rounding_mode is None:
        return _div(call, a, b)
    if call.dtype.is_floating_point:
        return call.point([a, b], lambda x, y: f"std::trunc({x} / {y})", cost=10)
    raise NotNativeError("it divides integers with truncation")


@rule("floor_divide.default")
def _floor_divide(call: Call, a: Any, b: Any) -> Node:
    return _div_mode(call, a, b, rounding_mode="floor")


@rule("remainder.Tensor", "remainder.Scalar")
def _remainder(call: Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"floor_mod<{c_type(call.dtype)}>({x}, {y})", cost=12)


@rule("fmod.Tensor", "fmod.Scalar")
def _fmod(call: Call, a: Any, b: Any) -> Node:
    if call.dtype.is_floating_point:
        return call.point([a, b], lambda x, y: f"std::fmod({x}, {y})", cost=12)
    return call.point([a, b], lambda x, y: f"({y} == 0 ? {y} : {x} % {y})", cost=12)


@rule("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar")
def _pow(call: Call, base: Any, exponent: Any) -> Node:
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


@rule("atan2.default")
def _atan2(call: Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"std::atan2({x}, {y})", cost=40)


@rule("maximum.default", "clamp_min.default", "clamp_min.Tensor")
def _maximum(call: Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"larger<{c_type(call.dtype)}>({x}, {y})")


@rule("minimum.default", "clamp_max.default", "clamp_max.Tensor")
def _minimum(call: Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"smaller<{c_type(call.dtype)}>({x}, {y})")


@rule("clamp.default", "clamp.Tensor", "hardtanh.default")
def _clamp(call: Call, x: Node, low: Any = None, high: Any = None) -> Node:
    result: Node = call.builder.cast(x, call.dtype)
    if low is not None:
        result = _maximum(call, result, low)
    return result if high is None else _minimum(call, result, high)


def _comparison(name: str, sign: str) -> None:
    def comparison_rule(call: Call, a: Any, b: Any) -> Node:
        inner = call.promoted(a, b)
        return call.point([a, b], lambda x, y: f"({x} {sign} {y})", dtype=torch.bool, inner=inner)

    rule(f"{name}.Tensor", f"{name}.Scalar")(comparison_rule)


for _name, _text in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
    _comparison(_name, _text)


def _bitwise(name: str, sign: str, logical: str) -> None:
    def bitwise_rule(call: Call, a: Any, b: Any) -> Node:
        text = logical if call.dtype == torch.bool else sign
        kind = c_type(call.dtype)
        return call.point([a, b], lambda x, y: f"({kind})({x} {text} {y})")

    rule(f"{name}.Tensor", f"{name}.Scalar", f"{name}.Scalar_Tensor")(bitwise_rule)


_bitwise("bitwise_and", "&", "&&")
_bitwise("bitwise_or", "|", "||")
_bitwise("bitwise_xor", "^", "!=")


def _logical(name: str, sign: str) -> None:
    def logical_rule(call: Call, a: Any, b: Any) -> Node:
        return call.point([a, b], lambda x, y: f"({x} {sign} {y})", dtype=torch.bool)

    rule(f"{name}.default")(logical_rule)


_logical("logical_and", "&&")
_logical("logical_or", "||")
_logical("logical_xor", "!=")


@rule(
    "bitwise_left_shift.Tensor",
    "bitwise_left_shift.Tensor_Scalar",
    "__lshift__.Scalar",
    "__lshift__.Tensor",
)
def _left_shift(call: Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"({c_type(call.dtype)})({x} << {y})")


@rule(
    "bitwise_right_shift.Tensor",
    "bitwise_right_shift.Tensor_Scalar",
    "__rshift__.Scalar",
    "__rshift__.Tensor",
)
def _right_shift(call: Call, a: Any, b: Any) -> Node:
    return call.point([a, b], lambda x, y: f"({c_type(call.dtype)})({x} >> {y})")


@rule("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar")
def _where(call: Call, condition: Node, a: Any, b: Any) -> Node:
    nodes = [call.builder.cast(condition, torch.bool), call.operand(a, call.dtype), call.operand(b, call.dtype)]
    return call.builder.pointwise("where", call.dtype, nodes, lambda c, x, y: f"({c} ? {x} : {y})")


@rule("masked_fill.Scalar", "masked_fill.Tensor")
def _masked_fill(call: Call, x: Node, mask: Node, value: Any) -> Node:
    return _where(call, mask, value, x)


@rule("_to_copy.default", "prims::convert_element_type.default")
def _to_copy(call: Call, x: Node, *_: Any, **__: Any) -> Node:
    return call.builder.cast(x, call.dtype)


@rule(
    "clone.default",
    "detach.default",
    "alias.default",
    "lift_fresh_copy.default",
    "contiguous.default",
)
def _same(_call: Call, x: Node, **_: Any) -> Node:
    return x


@rule("copy.default")
def _copy(call: Call, x: Node, source: Node, *_: Any) -> Node:
    return call.builder.spread(call.builder.cast(source, x.dtype), x.shape)
