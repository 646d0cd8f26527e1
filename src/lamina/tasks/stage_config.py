"""The `stages` section of a recipe: training in stretches, each with its own trainable part. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from lamina.core.config import Config, Field

__all__ = ["StageConfig"]


class StageConfig(Config):
    """One stretch of training; its name is its key in the section `stages`, whose order is the order of training.

    Source: Yosinski, Clune, Bengio, Lipson (2014), arXiv:1411.1792 (frozen and fine-tuned layers); Howard, Ruder (2018),
    arXiv:1801.06146 (rates that fall from layer to layer, gradual unfreezing).
    """

    epochs: int | None = Field(
        None, description="Passes over the training split; training.epochs where left open.", ge=1
    )
    steps: int | None = Field(
        None, description="At most this many optimizer steps; training.steps where left open.", ge=1
    )
    trainable: tuple[str, ...] | None = Field(
        None,
        description="What learns: stages of the model by name (head, layer4, …) or patterns of parameter names (head.*); "
        "all of it where left open. The rest is frozen, in evaluation mode.",
    )
    freeze_batch_norm: bool = Field(
        False,
        description="Keep the batch norms' weights and running statistics as they are, also where the rest learns.",
    )
    optimizer: dict[str, Any] = Field(
        {}, description="Changes to the recipe's optimizer section; another `name` replaces the section."
    )
    schedule: dict[str, Any] | None = Field(
        None, description="`name` of a schedule, and its options, in place of the recipe's."
    )
    warmup: float | None = Field(
        None, description="Share of the stage's steps over which the rate rises from nothing.", ge=0, lt=1
    )
    layer_decay: float = Field(
        1.0,
        description="The rate of each stage of the model is this times the rate of the one behind it, counted from the head.",
        gt=0,
        le=1,
    )
    augment: bool = Field(True, description="Whether the recipe's augmentation is applied in this stage.")
    features: Literal["auto", "each-step"] = Field(
        "auto",
        description="auto: where only the head learns and nothing random stands before it, its inputs are computed once.",
    )
    allow_untrained_head: bool = Field(
        False, description="Unfreeze what was learned elsewhere although the new head has not been trained yet."
    )
