"""A traced graph as kernels: each operation by its rule, and what several others read is stored."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx

from lamina.train.native import indexing, pointwise, reductions
from lamina.train.native.nodes import Gathered, Node, NotNativeError, Pointwise, Remap
from lamina.train.native.program import Builder
from lamina.train.native.rule import RULES, Call, operation

__all__ = ["lower"]

_RULE_MODULES = (indexing, pointwise, reductions)  # importing them declares the rules


def lower(
    module: fx.GraphModule, builder: Builder, inputs: Sequence[Node], *, constant: Callable[[Tensor], Node]
) -> list[Any]:
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
    if node.target is operator.getitem:
        return values[node.args[0]][node.args[1]]  # type: ignore[index]
    rule = RULES.get(node.target)
    if rule is None:
        raise NotNativeError(f"the operation {node.target} has no native form")
    args = fx.node.map_arg(node.args, lambda item: values[item])
    kwargs = fx.node.map_arg(node.kwargs, lambda item: values[item])
    result = rule(Call(builder, node), *args, **kwargs)
    expected = node.meta.get("val")
    if expected is None:
        expected = node.meta.get("tensor_meta")
    if isinstance(result, Node) and isinstance(expected, Tensor):
        if tuple(expected.shape) != result.shape:
            raise NotNativeError(f"{node.target} gave {result.shape}, not {tuple(expected.shape)}")
        result = builder.cast(result, expected.dtype)
    return result


_VIEWS = {
    operation(name)
    for name in (
        "view.default",
        "_unsafe_view.default",
        "reshape.default",
        "permute.default",
        "t.default",
        "transpose.int",
        "expand.default",
        "unsqueeze.default",
        "squeeze.dims",
        "squeeze.dim",
        "squeeze.default",
        "slice.Tensor",
        "select.int",
        "detach.default",
        "alias.default",
        "clone.default",
        "lift_fresh_copy.default",
    )
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
    if _num_readers(node) > 1 and builder.cost(value) > 0:
        return builder.store(value)
    return value
