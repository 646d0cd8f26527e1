"""Where a NaN or infinity began: the step, the batch and the layer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lamina.core.errors import NonFiniteError
from lamina.tasks.base import Batch, Context, GradientUpdate, State

_MEND = "lower optimizer.lr, clip gradients (training.clip_norm=1.0), or use training.precision=fp32; look at that batch's rows"


def locate_non_finite(
    model: nn.Module,
    update: GradientUpdate,
    batch: Batch,
    ctx: Context,
    state: State,
    *,
    number: int,
    losses: Mapping[str, Tensor] | None = None,
) -> NonFiniteError:
    """Repeat a forward pass whose loss was not finite and name the first culprit on its way.

    Looks, in this order, at the batch, the parameters and buffers as they were before the pass, and the layers' outputs.
    """
    culprit = _in_batch(batch) or _in_weights(model) or _in_layers(model, update, batch, ctx, state)
    step = int(ctx.step)
    values = ", ".join(f"{name} = {float(value)}" for name, value in (losses or {}).items())
    rows = batch["row"].tolist() if "row" in batch else []
    shown = f", rows {rows[:8]}{'…' if len(rows) > 8 else ''} of the training split" if rows else ""
    return NonFiniteError(
        f"The loss is not finite at step {step}{f' ({values})' if values else ''}: {culprit or 'the loss itself overflows'}.",
        where=f"step {step}, epoch {ctx.epoch}, batch {number}{shown}, update {update.name!r}",
        accepts="finite losses, activations and gradients",
        mend=_MEND,
    )


def refuse_non_finite(losses: Mapping[str, float], *, step: int, epoch: int, batch: int) -> None:
    """Look at a step's losses, for devices whose executor does not look at each step itself.

    Raises:
        NonFiniteError: One of them is NaN or infinite.
    """
    bad = [f"{name} = {value}" for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        raise NonFiniteError(
            f"The loss is not finite at step {step}: {', '.join(bad)}.",
            where=f"step {step}, epoch {epoch}, batch {batch}",
            accepts="finite losses",
            mend="lower optimizer.lr, clip gradients (training.clip_norm=1.0), or use training.precision=fp32",
        )


def _in_batch(batch: Batch) -> str | None:
    for name, value in batch.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            bad = (~torch.isfinite(value)).nonzero()[0].tolist()
            return f"the input {name!r} holds {value[tuple(bad)].item()} in row {bad[0]} of the batch"
    return None


def _in_weights(model: nn.Module) -> str | None:
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return f"the weights {name!r} (layer {name.rpartition('.')[0] or 'the model itself'!r}) became non-finite in an earlier step"
    return None


def _in_layers(model: nn.Module, update: GradientUpdate, batch: Batch, ctx: Context, state: State) -> str | None:
    found: list[str] = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, __: object, output: object) -> None:
            tensors = output if isinstance(output, tuple | list) else [output]
            for tensor in tensors:
                if isinstance(tensor, Tensor) and tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    found.append(f"layer {name!r} ({type(module).__name__}) is the first whose output is not finite")
                    return

        handles.append(module.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    for name, module in model.named_modules():
        if not list(module.children()):
            watch(name, module)
    try:
        with torch.no_grad():
            update.loss(batch, ctx, state)
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for name, value in model.named_buffers():
                value.copy_(buffers[name])
    return found[0] if found else None


def non_finite_weight(model: nn.Module) -> str | None:
    """The name of the first weight or buffer that is not finite, or None; asked before a checkpoint is written."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            return name
    return None
