"""From gathered rows to what a network reads: augmentation, preprocessing, memory layout."""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.core import draws
from lamina.data.augmentation import Augmentation
from lamina.data.preprocessing import Preprocessing
from lamina.tasks.base import Context


class Prepare:
    """A pure function of the raw batch and the context; the executors may trace it.

    Args:
        preprocessing: Fitted on the training split.
        augmentation: Applied in training only, keyed by (seed, epoch, row).
        seed: Of the run.
        channels_last: Give images in channels-last memory order.
    """

    def __init__(
        self, *, preprocessing: Preprocessing, augmentation: Augmentation | None, seed: int, channels_last: bool
    ) -> None:
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.seed = seed
        self.channels_last = channels_last

    def __call__(self, batch: dict[str, Tensor], ctx: Context) -> dict[str, Tensor]:
        """Raw batch -> the batch that a task reads."""
        if self.augmentation is not None and ctx.training:
            batch = self.augmentation(batch, draws.stream_key(self.seed, "augment", ctx.epoch))
        batch = self.preprocessing(batch)
        if self.channels_last and batch["image"].ndim == 4:
            batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        return batch
