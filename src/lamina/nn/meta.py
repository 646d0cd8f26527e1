"""Running a model on shapes alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["without_values"]


@contextmanager
def without_values(model: nn.Module) -> Iterator[None]:
    """Inside, the model's parameters and buffers are meta tensors, which have shapes and no values; afterwards they are back.

    Tensors that layers share stay shared. (`torch.func.functional_call` does the same, but leaves its own tensors in a
    module that is registered twice, up to torch 2.13.)
    """
    places: list[tuple[dict[str, Tensor | None], str, Tensor]] = []
    stand_ins: dict[int, Tensor] = {}
    for module in model.modules():
        stores: tuple[dict[str, Tensor | None], ...] = (module._parameters, module._buffers)  # type: ignore[assignment]
        for store in stores:
            places += [(store, name, tensor) for name, tensor in store.items() if tensor is not None]
    try:
        for store, name, tensor in places:
            if id(tensor) not in stand_ins:
                empty = torch.empty_like(tensor, device="meta")
                is_parameter = isinstance(tensor, nn.Parameter)
                stand_ins[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
            store[name] = stand_ins[id(tensor)]
        yield
    finally:
        for store, name, tensor in places:
            store[name] = tensor
