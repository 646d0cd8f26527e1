"""Exponential moving average of weights, to judge and to take away.

Source: Polyak, Juditsky (1992), "Acceleration of Stochastic Approximation by Averaging", doi:10.1137/0330046.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class WeightAverage:
    """average <- decay * average + (1 - decay) * weight after every step; buffers are taken as they are.

    Args:
        model: Its floating-point parameters are averaged.
        decay: In (0, 1). The first steps use min(decay, (1 + n) / (10 + n)), so that the start is soon forgotten.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.num_updates = 0
        self._parameters = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
        self.averages = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's present weights."""
        self.num_updates += 1
        weight = 1 - self.decay_at(self.num_updates)
        torch._foreach_lerp_(list(self.averages.values()), [p.detach() for p in self._parameters.values()], weight)

    def decay_at(self, update: int) -> float:
        """The decay of the n-th update, from 1."""
        return min(self.decay, (1 + update) / (10 + update))

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, parameter in self._parameters.items():
            current = parameter.detach().clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(current)

    def load(self, averages: dict[str, Tensor], num_updates: int) -> None:
        """Continue from saved averages."""
        for name, average in self.averages.items():
            average.copy_(averages[name])
        self.num_updates = num_updates
