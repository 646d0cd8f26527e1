"""A function of tensors as a flat graph of functional ATen operations with known shapes.

Autograd runs while tracing, so that the graph holds forward and backward pass; in-place operations become functional
ones; operations that are made of simpler ones are taken apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from lamina.train.native.nodes import NotNativeError

__all__ = ["trace"]

# Besides the core set: operations that would otherwise need a rule of their own. Those that this torch lacks are left out.
_MORE_DECOMPOSITIONS = (
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "native_batch_norm_backward",
    "native_layer_norm",
    "native_layer_norm_backward",
    "native_group_norm",
    "native_group_norm_backward",
    "addmm",
    "addmv",
    "baddbmm",
    "mv",
    "dot",
    "_log_softmax",
    "_softmax",
    "_log_softmax_backward_data",
    "_softmax_backward_data",
    "gelu",
    "gelu_backward",
    "elu",
    "elu_backward",
    "leaky_relu",
    "hardtanh",
    "linalg_vector_norm",
    "stack",
    "_prelu_kernel",
    "_prelu_kernel_backward",
    "nll_loss_forward",
    "nll_loss_backward",
    "huber_loss",
    "huber_loss_backward",
    "mse_loss",
    "mse_loss_backward",
    "smooth_l1_loss",
    "smooth_l1_loss_backward",
    "binary_cross_entropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_with_logits",
    "softplus",
    "softplus_backward",
    "lerp",
    "addcmul",
    "addcdiv",
)


def trace(function: Callable[..., Any], inputs: Sequence[Tensor]) -> fx.GraphModule:
    """Trace `function(*inputs)`, which returns a list of tensors.

    Args:
        function: Must be pure: what it changes in place must be its own. It may call `torch.autograd.grad`.
        inputs: Example inputs; shapes and dtypes are those of every later call.

    Returns:
        A graph of functional operations. Each node's `meta["val"]` has shape and dtype; tensors that `function` closes
        over are attributes.

    Raises:
        NotNativeError: The function reads values back, or changes a tensor that is not its own.
    """
    try:
        packets = [getattr(torch.ops.aten, name, None) for name in _MORE_DECOMPOSITIONS]
        table = {**core_aten_decompositions(), **get_decompositions([p for p in packets if p is not None])}
        # Taken apart here already, because some of the parts write in place (running statistics).
        with _tracing():
            first = make_fx(function, decomposition_table=table, tracing_mode="fake", _allow_non_fake_inputs=True)(
                *inputs
            )
        _refuse_side_effects(first)
        first.graph.eliminate_dead_code()
        first.recompile()
        # The second pass runs plain operations: nothing requires gradients any more.
        with torch.no_grad():
            plain = [tensor.detach() for tensor in inputs]
            functional = torch.func.functionalize(_run_nodes(first), remove="mutations")
            second = make_fx(functional, decomposition_table=table, tracing_mode="fake", _allow_non_fake_inputs=True)(
                *plain
            )
    except NotNativeError:
        raise
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise NotNativeError(f"the step cannot be traced: {_first_line(error)}") from error
    second.graph.eliminate_dead_code()
    return second


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """While open, `torch.compiler.is_compiling()` is true, for modules that have a form for compilers."""
    compiler: Any = torch.compiler
    before = getattr(compiler, "_is_compiling_flag", False)
    compiler._is_compiling_flag = True
    try:
        yield
    finally:
        compiler._is_compiling_flag = before


def _run_nodes(module: fx.GraphModule) -> Callable[..., Any]:
    def run(*inputs: Tensor) -> Any:
        return module(*inputs)

    return run


def _refuse_side_effects(module: fx.GraphModule) -> None:
    """An in-place operation on an input or on a captured tensor would be lost."""
    outside = {node for node in module.graph.nodes if node.op in ("placeholder", "get_attr")}
    for node in module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        if not node.args:
            continue
        changes = schema.is_mutable and schema.arguments and schema.arguments[0].alias_info is not None
        if node.args[0] in outside:
            if changes and schema.arguments[0].alias_info.is_write:
                raise NotNativeError(f"the step changes a tensor of its surroundings in place ({node.target})")
            returns = schema.returns[0].alias_info if schema.returns else None
            if returns is not None:
                outside.add(node)  # a view of an input is as little its own


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]
