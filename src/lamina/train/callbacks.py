"""Events of a training run, for whoever wants to watch or to stop it.

A callback overrides the methods it cares for. It sees the Trainer's public state and must not change weights; returning
`Stop` from `on_evaluated` or `on_logged` ends training after the checkpoint that follows.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lamina.core.errors import LaminaError
    from lamina.train.trainer import Trainer, TrainResult


class Stop(Enum):
    """What a callback returns to end training in good order."""

    NOW = "now"


class Callback:
    """Base of all callbacks; every method does nothing."""

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first step, after a checkpoint has been read."""

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Before an epoch's first step (not when a resume enters an epoch in its middle)."""

    def on_steps(self, trainer: Trainer, num_steps: int, losses: Mapping[str, float]) -> None:
        """After each segment; `losses` are the last step's."""

    def on_logged(self, trainer: Trainer, values: Mapping[str, float]) -> Stop | None:
        """After a line of training losses was written."""

    def on_evaluated(self, trainer: Trainer, split: str, values: Mapping[str, float]) -> Stop | None:
        """After a split was judged."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """After a checkpoint got its name."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """After Ctrl-C or SIGTERM, and after the checkpoint."""

    def on_error(self, trainer: Trainer, error: LaminaError) -> None:
        """When training ends with an error, before it is raised."""

    def on_fit_end(self, trainer: Trainer, result: TrainResult) -> None:
        """After the best weights were restored and judged."""

    def on_close(self, trainer: Trainer) -> None:
        """Last of all, however training ended: with a result, an error or a second Ctrl-C."""


def events() -> list[tuple[str, str]]:
    """(event, when it happens), in the order in which a run meets them."""
    return [
        (name, (inspect.getdoc(method) or "").split("\n", 1)[0])
        for name, method in vars(Callback).items()
        if name.startswith("on_")
    ]


class Callbacks(Callback):
    """Several callbacks as one, called in their order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)
        self.stop_wanted = False

    def table(self) -> str:
        """Which callback listens to which event, as text."""
        rows = []
        for name, when in events():
            listeners = [
                type(c).__name__ for c in self.callbacks if getattr(type(c), name) is not getattr(Callback, name)
            ]
            rows.append(f"{name:<16} {', '.join(listeners) or '-':<32} {when}")
        return "\n".join(rows)

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_fit_begin(trainer)

    def on_epoch_begin(self, trainer: Trainer, epoch: int) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_epoch_begin(trainer, epoch)

    def on_steps(self, trainer: Trainer, num_steps: int, losses: Mapping[str, float]) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_steps(trainer, num_steps, losses)

    def on_logged(self, trainer: Trainer, values: Mapping[str, float]) -> Stop | None:
        """Pass on; one Stop is enough."""
        answers = [callback.on_logged(trainer, values) for callback in self.callbacks]
        self.stop_wanted |= Stop.NOW in answers
        return None

    def on_evaluated(self, trainer: Trainer, split: str, values: Mapping[str, float]) -> Stop | None:
        """Pass on; one Stop is enough."""
        answers = [callback.on_evaluated(trainer, split, values) for callback in self.callbacks]
        self.stop_wanted |= Stop.NOW in answers
        return None

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_checkpoint(trainer, path)

    def on_interrupt(self, trainer: Trainer) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_interrupt(trainer)

    def on_error(self, trainer: Trainer, error: LaminaError) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_error(trainer, error)

    def on_fit_end(self, trainer: Trainer, result: TrainResult) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_fit_end(trainer, result)

    def on_close(self, trainer: Trainer) -> None:
        """Pass on."""
        for callback in self.callbacks:
            callback.on_close(trainer)
