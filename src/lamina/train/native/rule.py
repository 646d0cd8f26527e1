"""What a rule is: how one ATen operation becomes nodes.

A rule gets the call and the operation's arguments as nodes or Python values, and returns a node. Whatever has no rule
makes the step not native; nothing is approximated. Source: the operations' definitions in the PyTorch documentation;
NaN and infinity behave as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

from lamina.train.native.nodes import Constant, Node
from lamina.train.native.program import Builder

__all__ = ["RULES", "Call", "Rule", "operation", "rule"]

Rule = Callable[..., Any]
RULES: dict[Any, Rule] = {}
F = TypeVar("F", bound=Callable[..., Any])


def operation(name: str) -> Any:
    """The operation `name.overload` of ATen (or `prims::name.overload`); None where this torch has none of that name."""
    space, _, rest = name.rpartition("::")
    packet, overload = rest.split(".")
    found = getattr(getattr(torch.ops, space or "aten"), packet, None)
    return getattr(found, overload, None)


def rule(*names: str) -> Callable[[F], F]:
    """Declare the rule of one or more operations, by name and overload."""

    def add(function: F) -> F:
        RULES.update({found: function for found in map(operation, names) if found is not None})
        return function

    return add


class Call:
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

    def promoted(self, a: Any, b: Any) -> torch.dtype:
        """The dtype in which two operands meet."""
        first, second = (
            torch.empty(value.shape, dtype=value.dtype, device="meta") if isinstance(value, Node) else value
            for value in (a, b)
        )
        return torch.result_type(first, second)

    def point(
        self,
        values: Sequence[Any],
        write: Callable[..., str],
        *,
        dtype: torch.dtype | None = None,
        inner: torch.dtype | None = None,
        cost: int = 1,
    ) -> Node:
        """A pointwise node; operands are converted to `inner` (default: the result's dtype)."""
        result = dtype or self.dtype
        nodes = [self.operand(value, inner or result) for value in values]
        return self.builder.pointwise(str(self.node.target), result, nodes, write, cost=cost)
