"""Small dense networks, their data and step tools, for tests of the compiled executor."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lamina.data.batching import IndexFeed
from lamina.data.columns import Columns
from lamina.nn.dropout import Dropout, DropoutKeys
from lamina.optim.create import create_optimizer
from lamina.tasks.base import GradientUpdate, Losses
from lamina.train.eager import Segment, StepTools
from lamina.train.ema import WeightAverage


def dense(
    widths: Sequence[int],
    *,
    norm: bool = False,
    dropout: float = 0.0,
    activation: Callable[[], nn.Module] = nn.ReLU,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    layers: list[nn.Module] = []
    for depth, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
        last = depth == len(widths) - 2
        # A bias in front of a norm has a gradient of pure rounding noise, which Adam blows up to full steps.
        layers.append(nn.Linear(fan_in, fan_out, bias=last or not norm))
        if not last:
            layers += [nn.BatchNorm1d(fan_out)] if norm else []
            layers += [activation()]
            layers += [Dropout(dropout)] if dropout else []
    model = nn.Sequential(*layers).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 1 / parameter.shape[1] ** 0.5 if parameter.dim() > 1 else 0.1
            base = 1.0 if norm and name.endswith("weight") and parameter.dim() == 1 else 0.0
            parameter.copy_(base + scale * torch.randn(parameter.shape, generator=generator, dtype=dtype))
    return model.train()


def cross_entropy(logits: Tensor, batch: dict[str, Tensor]) -> Losses:
    losses = Losses()
    total = nn.functional.cross_entropy(logits, batch["label"], reduction="sum")
    losses.add("cross_entropy", total, len(logits))
    return losses


def make_tools(
    optimizer: dict[str, Any],
    *,
    widths: Sequence[int] = (20, 12, 6, 4),
    batch_size: int = 8,
    num_rows: int = 480,
    loss: Callable[[Tensor, dict[str, Tensor]], Losses] = cross_entropy,
    model: nn.Module | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    ema: float | None = None,
    frozen: Sequence[str] = (),
    dtype: torch.dtype = torch.float32,
    **network: Any,
) -> StepTools:
    model = model if model is not None else dense(widths, dtype=dtype, **network)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    generator = torch.Generator().manual_seed(1)
    columns = Columns(
        {
            "image": torch.randint(0, 256, (num_rows, widths[0]), dtype=torch.uint8, generator=generator),
            "label": torch.randint(0, widths[-1], (num_rows,), generator=generator),
            "target": torch.randn(num_rows, widths[-1], generator=generator),
        }
    )

    def prepare(batch: dict[str, Tensor], ctx: Any) -> dict[str, Tensor]:
        return {
            "features": batch["image"].to(dtype) * (1 / 255.0) - 0.5,
            "label": batch["label"],
            "target": batch["target"].to(dtype),
        }

    def update_loss(batch: Any, ctx: Any, state: dict[str, Tensor]) -> tuple[Losses, dict[str, Tensor]]:
        return loss(model(batch["features"]), batch), state

    update = GradientUpdate("train", model, update_loss)
    keys = DropoutKeys(model, 3)
    return StepTools(
        model=model,
        updates=[update],
        optimizers={"train": create_optimizer(optimizer, update.named_parameters())},
        feed=IndexFeed(columns, batch_size=batch_size, seed=5),
        prepare=prepare,
        seed=3,
        device=torch.device("cpu"),
        clip_norm=clip_norm,
        clip_value=clip_value,
        average=WeightAverage(model, decay=ema) if ema else None,
        dropout=keys if len(keys) else None,
    )


def segment(
    first: int, num_steps: int, *, epoch: int = 0, factor: Callable[[int], float] = lambda step: 1 - 0.005 * step
) -> Segment:
    factors = [factor(first + n) for n in range(num_steps)]
    return Segment(epoch=epoch, first_batch=first, first_step=first, num_steps=num_steps, factors=factors)


def everything(tools: StepTools) -> dict[str, Tensor]:
    """All that a segment changes, copied."""
    found = {name: value.detach().clone() for name, value in tools.model.state_dict().items()}
    for update, optimizer in tools.optimizers.items():
        for group in optimizer.param_groups:
            for at, parameter in enumerate(group["params"]):
                for key, value in optimizer.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        found[f"{update}/{len(group['params'])}/{at}/{key}"] = value.clone()
    if tools.average is not None:
        found.update({f"average/{name}": value.clone() for name, value in tools.average.averages.items()})
    found.update({f"state/{name}": value.clone() for name, value in tools.state.items()})
    return found


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert not different, different
