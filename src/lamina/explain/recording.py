"""One pass through a model, recorded: what ran in which order, what it cost, and how much of the input each element sees.

Hooks tell when a layer runs; every operation beneath is seen by a dispatch mode, so that what a forward pass does outside its layers is
costed and followed too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lamina.explain.derivations import CONVOLUTIONS, TRANSPOSED, how_it_came, numbers
from lamina.nn.arithmetic import ReceptiveField, adaptive_windows
from lamina.nn.recurrent_cells import Cell

__all__ = ["Recorder", "Row", "Shape", "own_buffers", "shapes_of"]

# Operations of aten by what they do to the field of view.
_POOLINGS: Final = (
    "max_pool1d",
    "max_pool1d_with_indices",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
)
_MIXING: Final = (
    "bmm",
    "baddbmm",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_attention_math",
)
_ADAPTIVE: Final = ("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d")
_REDUCTIONS: Final = ("mean", "sum", "amax", "amin", "max", "min")

Shape = list[int]
Fields = tuple[ReceptiveField, ...]


@dataclass
class Row:
    """One call of one module."""

    name: str
    type: str
    module: nn.Module
    is_repeat: bool = False
    input_shape: Shape | list[Shape] | None = None
    output_shape: Shape | list[Shape] | None = None
    num_parameters: int = 0
    num_trainable: int = 0
    num_buffers: int = 0
    flops: int = 0
    activation_bytes: int = 0
    receptive_field: int | list[int] | None = None
    how: str = ""

    @property
    def depth(self) -> int:
        """Layers with weights, as papers count them: products, convolutions, recurrences; no norms, no embeddings."""
        module = self.module
        if not getattr(module, "counts_in_depth", True):  # the projections of residual networks, which papers leave out
            return 0
        if isinstance(module, nn.RNNBase):
            return module.num_layers
        if isinstance(module, (nn.Linear, nn.Bilinear, nn.RNNCellBase, *CONVOLUTIONS, *TRANSPOSED)):
            return 1
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.GroupNorm)) or any(
            True for _ in module.children()
        ):
            return 0
        own = module.named_parameters(recurse=False)
        return int(any(name.startswith("weight") and parameter.ndim >= 2 for name, parameter in own))

    def describe(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "type": self.type,
            "input_shape": self.input_shape,
            "output_shape": self.output_shape,
            "num_parameters": self.num_parameters,
            "num_trainable": self.num_trainable,
            "num_buffers": self.num_buffers,
            "num_total": self.num_parameters + self.num_buffers,
            "flops": self.flops,
            "receptive_field": self.receptive_field,
            "activation_bytes": self.activation_bytes,
            "is_repeat": self.is_repeat,
            "how": self.how,
        }


@dataclass(frozen=True)
class _Seen:
    """What the elements of a tensor see of the input: so much along each axis, or all of it."""

    fields: Fields
    whole: bool = False


class Recorder(TorchDispatchMode):
    """Runs a model once and keeps what every listed module did and what every operation cost and saw."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.rows: list[Row] = []
        self.flops = 0
        self._stack: list[Row] = []
        self._counted: set[int] = set()
        # Looked up before the pass, during which other tensors stand in for the parameters.
        self._parameters = {module: own_parameters(module) for module in model.modules()}
        self._buffers = {module: own_buffers(module) for module in model.modules()}
        self._listed: set[nn.Module] = set()
        self._input_size: tuple[int, ...] = ()
        self._seen: dict[int, tuple[Tensor, _Seen]] = {}  # the tensor is held so that its id stays its own

    def run(self, call: Callable[[], object], inputs: Sequence[Tensor]) -> None:
        """One pass; `inputs` are the tensors that `call` passes to the model."""
        for value in inputs:
            if value.is_floating_point() and value.ndim >= 3:
                self._input_size = tuple(value.shape[2:])
                self._mark(value, _Seen((ReceptiveField(),) * (value.ndim - 2)))
        handles = []
        for name, module in self.model.named_modules():
            if is_listed(module):
                handles.append(module.register_forward_pre_hook(self._enter(name), with_kwargs=True))
                handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            with torch.no_grad(), self:
                call()
        finally:
            for handle in handles:
                handle.remove()
        for name, module in self.model.named_modules():
            if module not in self._listed and (self._parameters[module] or self._buffers[module]):
                self.rows.append(self._fill_counts(Row(name, type(module).__name__, module, how="did not run")))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        packet = func._overloadpacket
        if packet in flop_registry:
            flops = int(flop_registry[packet](*args, **kwargs, out_val=out))
            self.flops += flops
            if self._stack:
                self._stack[-1].flops += flops
        known = [seen for seen in map(self._seen_by, tensors_in((args, kwargs))) if seen is not None]
        if known:
            most = max(known, key=lambda seen: (seen.whole, *(field.size for field in seen.fields)))
            after = _after(packet.__name__, args, kwargs, most)
            for result in tensors_in(out):
                self._mark(result, after)
        return out

    def _seen_by(self, value: Tensor) -> _Seen | None:
        found = self._seen.get(id(value))
        return found[1] if found is not None else None

    def _mark(self, value: Tensor, seen: _Seen) -> None:
        self._seen[id(value)] = (value, seen)

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            row = Row(name, type(module).__name__, module, is_repeat=module in self._listed)
            row.input_shape = shapes_of(list(tensors_in((args, kwargs))))
            self._listed.add(module)
            self.rows.append(self._fill_counts(row))
            self._stack.append(row)

        return enter

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        row = self._stack.pop()
        inputs, outputs = list(tensors_in((args, kwargs))), list(tensors_in(output))
        row.output_shape = shapes_of(outputs)
        row.activation_bytes = sum(value.numel() * value.element_size() for value in outputs)
        if not inputs or not outputs:
            return
        row.how = how_it_came(module, inputs[0].shape, outputs[0].shape)
        seen = self._seen_by(outputs[0])
        if seen is not None and isinstance(module, Cell):
            seen = _Seen(seen.fields, whole=True)  # all that came before
            for value in outputs:
                self._mark(value, seen)
        if seen is not None and isinstance(module, nn.Linear) and inputs[0].ndim == 2:
            seen = _Seen(seen.fields, whole=True)  # behind a flattened image every unit reads all of it
            self._mark(outputs[0], seen)
        if seen is not None:
            sizes = list(self._input_size) if seen.whole else [field.size for field in seen.fields]
            row.receptive_field = sizes[0] if len(set(sizes)) == 1 else sizes

    def _fill_counts(self, row: Row) -> Row:
        fresh = [parameter for parameter in self._parameters[row.module] if id(parameter) not in self._counted]
        self._counted.update(map(id, fresh))
        row.num_parameters = sum(parameter.numel() for parameter in fresh)
        row.num_trainable = sum(parameter.numel() for parameter in fresh if parameter.requires_grad)
        row.num_buffers = 0 if row.is_repeat else sum(buffer.numel() for buffer in self._buffers[row.module])
        return row


def _after(operation: str, args: tuple[Any, ...], kwargs: dict[str, Any], seen: _Seen) -> _Seen:
    """What the results of an operation see."""
    axes = len(seen.fields)
    if operation in ("convolution", "_convolution"):
        weight, stride, dilation, transposed = args[1], args[3], args[5], args[6]
        windows = zip(*(list(values)[-axes:] for values in (weight.shape[2:], stride, dilation)), strict=True)
        step = ReceptiveField.after_transposed if transposed else ReceptiveField.after
        fields = tuple(
            step(field, kernel=k, stride=s, dilation=d) for field, (k, s, d) in zip(seen.fields, windows, strict=True)
        )
        return _Seen(fields, seen.whole)
    if operation in _POOLINGS:
        kernel = numbers(args[1], axes)
        stride = numbers(args[2] if len(args) > 2 and args[2] else args[1], axes)
        spread = args[4] if operation.startswith("max") and len(args) > 4 else 1
        windows = zip(kernel, stride, numbers(spread, axes), strict=True)
        fields = tuple(
            field.after(kernel=k, stride=s, dilation=d) for field, (k, s, d) in zip(seen.fields, windows, strict=True)
        )
        return _Seen(fields, seen.whole)
    if operation in _ADAPTIVE:
        wanted = numbers(args[1], axes)
        if max(wanted) == 1:
            return _Seen(seen.fields, whole=True)
        sizes = zip(seen.fields, args[0].shape[-axes:], wanted, strict=True)
        fields = tuple(
            field.after(kernel=adaptive_windows(n, size=size)[1], stride=Fraction(n, size)) for field, n, size in sizes
        )
        return _Seen(fields, seen.whole)
    if operation in _MIXING:
        return _Seen(seen.fields, whole=True)
    if operation in _REDUCTIONS:  # over positions: all are seen
        dims = args[1] if len(args) > 1 else kwargs.get("dim")
        over = [] if dims is None else [dims] if isinstance(dims, int) else list(dims)
        rank = args[0].ndim
        if rank == axes + 2 and (not over or any(dim % rank >= 2 for dim in over)):
            return _Seen(seen.fields, whole=True)
    return seen


def own_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Parameters of the module itself, not of what it contains."""
    return list(module.parameters(recurse=False))


def own_buffers(module: nn.Module) -> list[Tensor]:
    """Running statistics: floating point and part of the state dict."""
    temporary = module._non_persistent_buffers_set
    named = module.named_buffers(recurse=False)
    return [buffer for name, buffer in named if buffer.is_floating_point() and name not in temporary]


def is_listed(module: nn.Module) -> bool:
    """Leaves, and modules that hold parameters beside others."""
    return not any(True for _ in module.children()) or bool(own_parameters(module) or own_buffers(module))


def tensors_in(value: object) -> Iterator[Tensor]:
    """The tensors in nested sequences and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)


def shapes_of(values: Sequence[Tensor]) -> Shape | list[Shape] | None:
    """The shape of one tensor, or a list of the shapes of several."""
    shapes = [list(value.shape) for value in values]
    return shapes[0] if len(shapes) == 1 else shapes or None
