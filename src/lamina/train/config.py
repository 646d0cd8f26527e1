"""The `training` section of a recipe. Imports no torch."""

from __future__ import annotations

from typing import Literal

from lamina.core.config import Config, Field


class TrainingConfig(Config):
    """How long, in what batches, with what arithmetic, and what is kept."""

    epochs: int = Field(10, description="Passes over the training split.", ge=1)
    steps: int | None = Field(None, description="Stop after this many optimizer steps, whatever the epochs.", ge=1)
    batch_size: int = Field(32, description="Rows per optimizer step; 0 means the full batch, 1 single samples.", ge=0)
    drop_last: bool = Field(False, description="Leave out an epoch's last batch when it is not full.")
    accumulation: int = Field(
        1,
        description="Micro-batches per optimizer step; gradients equal the whole batch's (batch norm excepted).",
        ge=1,
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Arithmetic of the forward pass; auto follows a rule from hardware and network."
    )
    layout: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto", description="Memory layout of images and convolutions."
    )
    compile: Literal["auto", "never", "always"] = Field(
        "auto", description="Run many steps in one native program; auto where the run is long enough to pay for it."
    )
    clip_norm: float | None = Field(
        None, description="Scale gradients so that their joint L2 norm is at most this.", gt=0
    )
    clip_value: float | None = Field(None, description="Clamp each gradient element to plus or minus this.", gt=0)
    ema_decay: float | None = Field(
        None, description="Keep an exponential moving average of the weights and judge with it.", gt=0, lt=1
    )
    patience: int | None = Field(None, description="Stop after this many evaluations without improvement.", ge=1)
    min_delta: float = Field(
        0.0, description="Smallest change of the monitored metric that counts as an improvement.", ge=0
    )
    monitor: str | None = Field(
        None, description="Metric that chooses the best checkpoint, such as accuracy; the task's own by default."
    )
    cross_validate: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Judge a head on a frozen body by cross-validation (data.folds) before the training; auto where a class "
        "has fewer than 50 validation rows.",
    )
    evaluate_every: int = Field(1, description="Epochs between evaluations on the validation split.", ge=1)
    log_every: int = Field(50, description="Steps between logged lines.", ge=1)
    checkpoint_every: int | None = Field(
        None, description="Steps between checkpoints; by default one per evaluation.", ge=1
    )
    keep_checkpoints: int = Field(2, description="Latest checkpoints kept besides the best.", ge=1)
    tensorboard: bool = Field(True, description="Write TensorBoard events.")
