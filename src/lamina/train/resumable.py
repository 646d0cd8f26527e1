"""What of a training an exact resume needs: gathered into a checkpoint's snapshot, and given back from one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from lamina.core.devices import Choice
from lamina.core.errors import CheckpointError, NonFiniteError
from lamina.optim.schedules import Schedule
from lamina.train.callbacks import Callbacks
from lamina.train.checkpoints import (
    Snapshot,
    clear_leftovers,
    folder_name,
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
from lamina.train.judging import Judge
from lamina.train.nonfinite import non_finite_weight
from lamina.train.randomness import pack_generators, unpack_generators
from lamina.train.state import Cursor, PackedOptimizer, TrainerState

__all__ = ["Checkpointer", "Resumable"]


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
        optimizers: dict[str, PackedOptimizer] = {}
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
        state = TrainerState(
            cursor=replace(self.cursor),
            best=replace(judge.best),
            choices=dict(self.choices),
            optimizers=optimizers,
            schedule=self.schedule.state(),
            means={name: means.state() for name, means in self.means.items()},
            metrics_bytes=self.journal.offset,
            generators=generators,
            ema_updates=average.num_updates if average is not None else 0,
            stop=self.callbacks.stop_wanted,
        )
        return Snapshot(tensors=tensors, state=state)

    def restore(self, snapshot: Snapshot, *, where: str) -> None:
        """Put everything back as it was, except the cursor and the choices, which must be known before the parts are made.

        Args:
            where: The checkpoint, for messages.

        Raises:
            CheckpointError: It is another training's.
        """
        tools, judge = self.tools, self.judge
        tensors, state = snapshot.tensors, snapshot.state
        give_weights(tools.model, tensors["model"], where=where)
        if set(state.optimizers) != set(tools.optimizers):
            raise _other(
                f"The checkpoint has optimizers for {sorted(state.optimizers)}, this training for {sorted(tools.optimizers)}.",
                where,
            )
        for name, optimizer in tools.optimizers.items():
            unpack_optimizer(optimizer, name, tensors["optimizer"], state.optimizers[name])
        self._restore_average(snapshot, where)
        self._restore_state(tensors.get("state", {}), where)
        try:
            self.schedule.load_state(state.schedule)
        except (TypeError, ValueError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise _other(f"The checkpoint's schedule cannot be restored: {error}.", where) from None
        if set(state.means) != set(self.means):
            raise _other(f"The checkpoint has means for {sorted(state.means)}, not {sorted(self.means)}.", where)
        for name, means in self.means.items():
            means.load_state(state.means[name])
        unpack_generators(tensors["random"], state.generators, where=where)
        self.callbacks.stop_wanted = state.stop
        judge.best = state.best
        if judge.best.step is not None:
            own = tensors.get("best")
            if own is None and judge.best.step != self.cursor.step:
                raise _other(f"The checkpoint lacks the best weights, those of step {judge.best.step}.", where)
            if judge.best.step > self.cursor.step or (own is not None and _shapes(own) != _shapes(tensors["model"])):
                raise _other("The checkpoint's best weights are not this model's.", where)
            judge.best_weights = own if own is not None else judge.judged_state()

    def _restore_average(self, snapshot: Snapshot, where: str) -> None:
        average, saved = self.tools.average, snapshot.tensors.get("ema")
        if (average is None) != (saved is None):
            turned, back = ("on", "null") if saved is None else ("off", "what it was")
            raise CheckpointError(
                f"training.ema_decay was switched {turned} after this run began: its checkpoint holds "
                f"{'no' if saved is None else 'an'} average of the weights.",
                where=where,
                accepts="the training section that the run was started with",
                mend=f"set training.ema_decay back to {back} in recipe.yaml, or begin a new run",
            )
        if average is None or saved is None:
            return
        if _shapes(saved) != _shapes(average.averages):
            raise _other("The checkpoint's average is of other weights than the model's.", where)
        average.load(saved, snapshot.state.ema_updates)

    def _restore_state(self, saved: Mapping[str, Tensor], where: str) -> None:
        """The task's state: its rows may be fewer or more, the rest is as the task begins with."""
        for name, first in self.tools.state.items():
            found = saved.get(name)
            if found is None or found.dtype != first.dtype or found.shape[1:] != first.shape[1:]:
                what = "is missing" if found is None else f"is {found.dtype} {tuple(found.shape)}"
                raise _other(
                    f"The checkpoint's state {name!r} {what}; the task begins with {tuple(first.shape)}.", where
                )
        self.tools.state = {name: value.to(self.tools.device) for name, value in saved.items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _other(what: str, where: str) -> CheckpointError:
    return CheckpointError(
        what,
        where=where,
        accepts="a checkpoint of this run, with the recipe that it was started with",
        mend="undo the change of recipe.yaml; or remove the checkpoint to continue from the one before it",
    )


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

    def check_stage(self, cursor: Cursor, *, num_stages: int) -> None:
        """Refuse a checkpoint of a stage that the training does not have.

        Raises:
            CheckpointError: It is of one.
        """
        if cursor.stage >= num_stages:
            raise self._elsewhere(cursor, f"in stage {cursor.stage}, from 0; there are {num_stages}")

    def check_batch(self, cursor: Cursor, *, steps_per_epoch: int) -> None:
        """Refuse a checkpoint behind the end of its epoch: it was made with other batches than the recipe says now.

        Raises:
            CheckpointError: It stands there.
        """
        if cursor.batch > steps_per_epoch or (cursor.batch == steps_per_epoch and not cursor.pending):
            raise self._elsewhere(cursor, f"behind step {cursor.batch} of an epoch that has {steps_per_epoch}")

    def _elsewhere(self, cursor: Cursor, place: str) -> CheckpointError:
        return CheckpointError(
            f"The checkpoint of step {cursor.step} stands {place}.",
            where=str(self.folder),
            accepts="the data, the stages and the batch size that the run was started with",
            mend="undo the change of recipe.yaml, or begin a new run with it",
        )

    def restore(self, training: Resumable, snapshot: Snapshot) -> None:
        """Put a training where a checkpoint of this run found it."""
        training.restore(snapshot, where=str(self.folder / folder_name(snapshot.state.cursor.step)))
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
                mend="lower optimizer.lr or clip gradients (training.clip_norm=1.0)"
                + ("; earlier checkpoints are untouched" if self.run is not None else ""),
            )
        if self.run is None:
            return None
        path = write_checkpoint(self.folder, cursor.step, training.snapshot())
        self._mark(training)
        prune(self.folder, keep=self.keep, best=training.judge.best.step)
        return path

    def _mark(self, training: Resumable) -> None:
        self._written = (training.cursor.step, training.cursor.pending)
