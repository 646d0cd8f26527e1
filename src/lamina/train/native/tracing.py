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

_aten = torch.ops.aten

# Besides the core set: operations that would otherwise need a rule of their own.
_MORE_DECOMPOSITIONS = (
    _aten.native_batch_norm,
    _aten._native_batch_norm_legit,
    _aten._native_batch_norm_legit_no_training,
    _aten.native_batch_norm_backward,
    _aten.native_layer_norm,
    _aten.native_layer_norm_backward,
    _aten.native_group_norm,
    _aten.native_group_norm_backward,
    _aten.addmm,
    _aten.addmv,
    _aten.baddbmm,
    _aten.mv,
    _aten.dot,
    _aten._log_softmax,
    _aten._softmax,
    _aten._log_softmax_backward_data,
    _aten._softmax_backward_data,
    _aten.gelu,
    _aten.gelu_backward,
    _aten.elu,
    _aten.elu_backward,
    _aten.leaky_relu,
    _aten.hardtanh,
    _aten.linalg_vector_norm,
    _aten.stack,
    _aten._prelu_kernel,
    _aten._prelu_kernel_backward,
    _aten.nll_loss_forward,
    _aten.nll_loss_backward,
    _aten.huber_loss,
    _aten.huber_loss_backward,
    _aten.mse_loss,
    _aten.mse_loss_backward,
    _aten.smooth_l1_loss,
    _aten.smooth_l1_loss_backward,
    _aten.binary_cross_entropy,
    _aten.binary_cross_entropy_backward,
    _aten.binary_cross_entropy_with_logits,
    _aten.softplus,
    _aten.softplus_backward,
    _aten.lerp,
    _aten.addcmul,
    _aten.addcdiv,
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
        table = {**core_aten_decompositions(), **get_decompositions(_MORE_DECOMPOSITIONS)}
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
    before = compiler._is_compiling_flag
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
