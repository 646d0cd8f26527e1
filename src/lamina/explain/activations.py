"""What the layers of a network give for an input, as they gave it.

Layers may overwrite what the layer before gave them (an activation in place), so each layer's output is kept and a copy
handed on. Gradients flow through the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from lamina.explain.derivations import CONVOLUTIONS, TRANSPOSED
from lamina.tasks.inputs import capability

__all__ = ["Activation", "evaluating", "has_gradients", "last_maps", "penultimate", "record"]

# What may follow a convolution and still be its maps: nothing that joins positions.
_MAPS: Final = (*CONVOLUTIONS, *TRANSPOSED)


@dataclass(frozen=True)
class Activation:
    """The output of one call of one layer.

    Attributes:
        name: Of the submodule; a layer that runs again gets ` (2)`, ` (3)`, … behind it.
        module: The layer.
        value: (B, …), with its graph where gradients are recorded.
    """

    name: str
    module: nn.Module
    value: Tensor

    @property
    def has_positions(self) -> bool:
        """Whether it is maps (B, C, *positions) with more than one position, not a row of numbers."""
        return self.value.ndim >= 3 and self.value[0, 0].numel() > 1


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def record(model: nn.Module, inputs: Tensor) -> tuple[list[Activation], Tensor]:
    """Run a model in evaluation mode and keep the output of each of its leaves, in the order in which they ran.

    Args:
        inputs: What the model is called with, (B, …). Whether gradients are recorded is the caller's choice.

    Returns:
        The activations, and the model's own output.
    """
    kept: list[Activation] = []
    calls: dict[str, int] = {}

    def keep(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(inputs):
                return None
            calls[name] = calls.get(name, 0) + 1
            number = f" ({calls[name]})" if calls[name] > 1 else ""
            kept.append(Activation(f"{name}{number}", module, output))
            return output.clone()  # the next layer may write into what it gets

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in model.named_modules()
        if name and not any(True for _ in module.children())
    ]
    try:
        with evaluating(model):
            output = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return kept, output


def last_maps(activations: list[Activation]) -> Activation | None:
    """The last convolution's maps, behind its norm and activation; None where there is no convolution.

    Everything that directly follows the convolution and keeps the shape counts (norm, activation, dropout), pooling
    does not, whether or not it changes the shape.
    """
    found: Activation | None = None
    follows = False
    for activation in activations:
        if isinstance(activation.module, _MAPS) and activation.has_positions:
            found, follows = activation, True
        elif found is not None and follows:
            pools = "pool" in type(activation.module).__name__.lower()
            follows = activation.value.shape == found.value.shape and not pools
            found = activation if follows else found
    return found


def penultimate(model: nn.Module, inputs: Tensor, **others: Tensor) -> Tensor | None:
    """What stands before the last linear layer, (B, F): the input of `model.head`, or of the last `nn.Linear` that runs.

    None where there is no such layer. Without gradients, in evaluation mode. `others` is what the model takes by name: the mask of
    tokens.
    """
    head = getattr(model, "head", None)
    seen: list[Tensor] = []

    def hook(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], Tensor):
            seen.append(args[0])

    wanted = [head] if isinstance(head, nn.Module) else [m for m in model.modules() if isinstance(m, nn.Linear)]
    handles = [module.register_forward_pre_hook(hook) for module in wanted]
    try:
        with evaluating(model), torch.no_grad():
            model(inputs, **others)
    finally:
        for handle in handles:
            handle.remove()
    return seen[-1].flatten(start_dim=1).clone() if seen else None


def has_gradients(model: nn.Module) -> bool:
    """Whether derivatives of the outputs say something: not for models that compare with stored rows (kNN)."""
    return capability(model, "has_gradients") is not False or any(True for _ in model.parameters())
