"""What of a training an exact resume needs: gathered into a checkpoint's snapshot, and given back from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lamina.core.devices import Choice
from lamina.core.errors import CheckpointError, NonFiniteError
from lamina.optim.schedules import Schedule
from lamina.train.callbacks import Callbacks
from lamina.train.checkpoints import (
    Snapshot,
    clear_leftovers,
    give_weights,
    list_checkpoints,
    pack_optimizer,
    prune,
    read_checkpoint,
    unpack_optimizer,
    write_checkpoint,
)
from lamina.train.eager import StepTools
from lamina.train.journal import Journal, RunningMeans
from lamina.train.judging import Best, Judge
from lamina.train.nonfinite import non_finite_weight
from lamina.train.randomness import pack_generators, unpack_generators

__all__ = ["Checkpointer", "Cursor", "Resumable"]


@dataclass
class Cursor:
    """Where training stands: the next step to take. A checkpoint holds it.

    Attributes:
        stage, epoch, batch, step: From 0; `batch` counts steps within the epoch.
        stage_step, stage_epoch: Since the stage began.
        pending: Steps were taken whose epoch's end (judging, early stopping) is still to come.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0
    step: int = 0
    stage_step: int = 0
    stage_epoch: int = 0
    pending: bool = False


@dataclass(frozen=True)
class Resumable:
    """A training's parts, by reference; together they determine every bit that follows."""

    cursor: Cursor
    tools: StepTools
    judge: Judge
    schedule: Schedule
    means: Mapping[str, RunningMeans]
    journal: Journal
    callbacks: Callbacks
    choices: Mapping[str, Choice]

    def snapshot(self) -> Snapshot:
        """Everything as it is now."""
        tools, judge, average = self.tools, self.judge, self.tools.average
        tensors: dict[str, dict[str, Tensor]] = {"model": tools.model.state_dict(), "optimizer": {}}
        optimizers: dict[str, Any] = {}
        for name, optimizer in tools.optimizers.items():
            packed, optimizers[name] = pack_optimizer(optimizer, name)
            tensors["optimizer"].update(packed)
        tensors["random"], generators = pack_generators()
        if tools.state:
            tensors["state"] = dict(tools.state)
        if average is not None:
            tensors["ema"] = average.averages
        if judge.best_weights is not None and judge.best.step != self.cursor.step:
            tensors["best"] = judge.best_weights
        document = {
            "cursor": asdict(self.cursor),
            "best": asdict(judge.best),
            "choices": {name: choice.describe() for name, choice in self.choices.items()},
            "optimizers": optimizers,
            "schedule": self.schedule.state(),
            "means": {name: means.state() for name, means in self.means.items()},
            "metrics_bytes": self.journal.offset,
            "generators": generators,
            "ema_updates": average.num_updates if average is not None else 0,
            "stop": self.callbacks.stop_wanted,
        }
        return Snapshot(tensors=tensors, document=document)

    def restore(self, snapshot: Snapshot, *, where: str) -> None:
        """Put everything back as it was, except the cursor and the choices, which must be known before the parts are made.

        Args:
            where: The checkpoint, for messages.

        Raises:
            CheckpointError: It is another training's.
        """
        tools, judge = self.tools, self.judge
        tensors, document = snapshot.tensors, snapshot.document
        give_weights(tools.model, tensors["model"], where=where)
        for name, optimizer in tools.optimizers.items():
            unpack_optimizer(optimizer, name, tensors["optimizer"], document["optimizers"][name])
        if tools.average is not None:
            tools.average.load(tensors["ema"], document["ema_updates"])
        tools.state = {name: value.to(tools.device) for name, value in tensors.get("state", {}).items()}
        judge.best = Best(**document["best"])
        self.schedule.load_state(document["schedule"])
        for name, means in self.means.items():
            means.load_state(document["means"][name])
        unpack_generators(tensors["random"], document["generators"])
        self.callbacks.stop_wanted = bool(document["stop"])
        if judge.best.step is not None:
            own = tensors.get("best")
            judge.best_weights = own if own is not None else judge.judged_state()


class Checkpointer:
    """The checkpoints of one run.

    Args:
        run: The run folder; None: there are none.
        keep: Latest checkpoints to keep besides the best.
    """

    def __init__(self, run: Path | None, *, keep: int) -> None:
        self.run = run
        self.keep = keep
        self._written: tuple[int, bool] | None = None

    @property
    def folder(self) -> Path:
        """Holds `step-00001234` folders."""
        assert self.run is not None
        return self.run / "checkpoints"

    def latest(self, *, resume: bool) -> Snapshot | None:
        """The latest checkpoint, verified and read; None where there is none.

        Raises:
            CheckpointError: There is one although nothing is to be resumed, or it is damaged.
        """
        if self.run is None:
            return None
        clear_leftovers(self.run)
        found = list_checkpoints(self.folder)
        if found and not resume:
            raise CheckpointError(
                "This run has checkpoints already.",
                where=str(self.run),
                accepts="a new run folder, or resume=True",
                mend=f"lamina train --resume {self.run}",
            )
        return read_checkpoint(found[-1]) if found else None

    def restore(self, training: Resumable, snapshot: Snapshot) -> None:
        """Put a training where a checkpoint of this run found it."""
        training.restore(snapshot, where=str(self.folder))
        self._mark(training)

    def write(self, training: Resumable) -> Path | None:
        """Write a checkpoint and remove old ones; None where this moment's stands already or nothing is kept.

        Raises:
            NonFiniteError: A weight is not finite; nothing is written.
            StorageError: The disk is full; earlier checkpoints stand.
        """
        cursor = training.cursor
        if self._written == (cursor.step, cursor.pending):
            return None
        bad = non_finite_weight(training.tools.model)
        if bad is not None:
            raise NonFiniteError(
                f"The weights {bad!r} are not finite after step {cursor.step - 1}.",
                where=f"step {cursor.step - 1}, layer {bad.rpartition('.')[0]!r}",
                accepts="finite weights",
                mend="lower optimizer.lr or clip gradients (training.clip_norm=1.0); earlier checkpoints are untouched",
            )
        if self.run is None:
            return None
        path = write_checkpoint(self.folder, cursor.step, training.snapshot())
        self._mark(training)
        prune(self.folder, keep=self.keep, best=training.judge.best.step)
        return path

    def _mark(self, training: Resumable) -> None:
        self._written = (training.cursor.step, training.cursor.pending)
