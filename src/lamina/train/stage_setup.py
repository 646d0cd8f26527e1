"""What a stage of training makes of the recipe's values: how long it is, its optimizers, its schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from lamina.optim.create import create_optimizer, parse_optimizer
from lamina.optim.schedules import Schedule, create_schedule
from lamina.tasks.base import GradientUpdate, Stage, Update
from lamina.tasks.transfer import layer_rates, stage_optimizer
from lamina.train.config import TrainingConfig

__all__ = ["num_steps", "stage_optimizers", "stage_schedule"]


def num_steps(stage: Stage, config: TrainingConfig, *, steps_per_epoch: int) -> int:
    """How many optimizer steps a stage has."""
    epochs = stage.epochs or config.epochs
    steps = stage.steps or config.steps or epochs * steps_per_epoch
    # A stage that passes over the data once (kNN) must not be drawn out by more steps.
    return steps if stage.epochs is None else min(steps, stage.epochs * steps_per_epoch)


def stage_optimizers(
    stage: Stage, updates: Sequence[Update], values: Mapping[str, Any]
) -> tuple[dict[str, torch.optim.Optimizer], dict[str, dict[str, Any]]]:
    """An optimizer for each update by gradients, and the section that each was made from, both by the update's name."""
    optimizers: dict[str, torch.optim.Optimizer] = {}
    sections: dict[str, dict[str, Any]] = {}
    for update in updates:
        if not isinstance(update, GradientUpdate):
            continue
        section = {**stage_optimizer(values, stage), **(update.optimizer or {})}
        named = update.named_parameters()
        if stage.layer_decay < 1.0:
            lr = parse_optimizer(section)[1].lr
            rates = layer_rates(update.module, [name for name, _ in named], lr=lr, decay=stage.layer_decay)
            section["lr_by_name"] = {**section.get("lr_by_name", {}), **rates}
        sections[update.name] = section
        optimizers[update.name] = create_optimizer(section, named)
        for group in optimizers[update.name].param_groups:
            group.setdefault("initial_lr", group["lr"])
    return optimizers, sections


def stage_schedule(
    stage: Stage, values: Mapping[str, Any], *, total_steps: int, steps_per_epoch: int, mode: Literal["max", "min"]
) -> Schedule:
    """The stage's schedule, with its own warm-up."""
    section = dict(stage.schedule or values)
    if stage.warmup is not None:
        section["warmup_fraction"] = stage.warmup
    return create_schedule(section, total_steps=total_steps, steps_per_epoch=steps_per_epoch, mode=mode)
