"""The engine: a plain loop over segments of steps, with events, checkpoints and exact resume.

It knows updates and stages, not tasks, models or recipes. Every task runs through it: a classifier, a GAN with two
updates, a recurrent network whose state is carried from batch to batch, kNN without gradients.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.devices import Choice, choose_layout, choose_precision
from lamina.core.errors import CheckpointError, ConfigError, DataError, InterruptedRunError, LaminaError
from lamina.core.files import storage_errors
from lamina.core.memory import keep_freed_memory, return_freed_memory
from lamina.core.run_lock import run_lock
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Data
from lamina.data.preprocessing import Preprocessing
from lamina.nn.dropout import DropoutKeys
from lamina.optim.create import parse_optimizer
from lamina.tasks.base import DirectUpdate, Stage, Task
from lamina.tasks.derived import FeatureStore, View, choose_features, view_on_features
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.transfer import freeze, set_modes, stage_optimizer
from lamina.train.callbacks import Callback, Callbacks
from lamina.train.checkpoints import Snapshot, give_weights
from lamina.train.compiled import CompiledExecutor
from lamina.train.compiled_rule import choose_executor
from lamina.train.config import TrainingConfig
from lamina.train.eager import EagerExecutor, Segment, StepTools
from lamina.train.ema import WeightAverage
from lamina.train.interruption import Interruption
from lamina.train.journal import Journal, RunningMeans
from lamina.train.judging import Judge
from lamina.train.native.nodes import NotNativeError
from lamina.train.nonfinite import refuse_non_finite
from lamina.train.outcome import TrainResult, judge_finally, make_bundle, write_outcome
from lamina.train.prepare import Prepare
from lamina.train.randomness import seed_generators
from lamina.train.resumable import Checkpointer, Resumable
from lamina.train.stage_setup import num_steps, stage_optimizers, stage_schedule
from lamina.train.state import Best, Cursor

__all__ = ["Best", "Cursor", "TrainResult", "Trainer"]


class Trainer:
    """Trains a model on a task's updates.

    Args:
        model: Any module; it is trained in place and has the best weights when `fit` returns.
        task: What a batch means.
        data: Split data with `train` and perhaps `valid` and `test`.
        preprocessing: Fitted on the training split.
        augmentation: Applied to training batches before preprocessing.
        optimizer: `{"name": …, "lr": …}`; updates and stages may override it.
        schedule: `{"name": …}`.
        config: The training section.
        seed: Keys every draw.
        run_dir: Where metrics, events and checkpoints go; None keeps nothing.
        device: Where to compute.
        feed_options: Passed to the task's training feed (`weights` for balanced sampling).
        callbacks: Watchers.
        stages: In place of the task's own.
        features: Keeps features that are computed once; a new store by default.

    Attributes:
        result_extras: What the result and `result.json` shall hold besides.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        data: Data,
        *,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None = None,
        optimizer: Mapping[str, Any],
        schedule: Mapping[str, Any] | None = None,
        config: TrainingConfig | None = None,
        seed: int = 0,
        run_dir: Path | None = None,
        device: torch.device | None = None,
        feed_options: Mapping[str, Any] | None = None,
        callbacks: Sequence[Callback] = (),
        stages: Sequence[Stage] | None = None,
        features: FeatureStore | None = None,
    ) -> None:
        self.model = model
        self.task = task
        self.data = data
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.optimizer_values = dict(optimizer)
        self.schedule_values = dict(schedule or {"name": "constant"})
        self.config = config or TrainingConfig()
        self.seed = seed
        self.run_dir = run_dir
        self.device = device or torch.device("cpu")
        self.callbacks = Callbacks(callbacks)
        self.cursor = Cursor()
        self.choices: dict[str, Choice] = {}
        self.result_extras: dict[str, Any] = {}
        self._given_stages = None if stages is None else tuple(stages)
        self._features = features or FeatureStore()
        self._feed_options = dict(feed_options or {})
        self._means = {"log": RunningMeans(), "epoch": RunningMeans()}
        self._journal = Journal(run_dir, tensorboard=self.config.tensorboard)
        self._interruption = Interruption()
        self._checkpointer = Checkpointer(run_dir, keep=self.config.keep_checkpoints)
        self._judge = Judge(model, task, data, preprocessing=preprocessing, config=self.config, device=self.device)
        self._dropout: DropoutKeys | None = None
        self._kept_choices: dict[str, Choice] | None = None
        self._seconds = 0.0
        self._rows_done = 0

    # --- what watchers may read ---

    @property
    def best(self) -> Best:
        """The best judgement so far."""
        return self._judge.best

    @property
    def monitor(self) -> tuple[str, str]:
        """(metric, "max" or "min") by which the best weights are chosen."""
        return self._judge.monitor

    @property
    def stage(self) -> Stage:
        """The present stage."""
        return self._stages[self.cursor.stage]

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the present stage's end, counted from the run's begin."""
        return self.cursor.step - self.cursor.stage_step + self._stage_steps

    @property
    def total_epochs(self) -> int:
        """Epochs of the present stage's end, counted from the run's begin."""
        return self.cursor.epoch - self.cursor.stage_epoch + -(-self._stage_steps // self._steps_per_epoch)

    @property
    def rows_per_step(self) -> int:
        """Rows that a full step consumes."""
        return self._feed.batch_size * self._tools.batches_per_step

    def keep_choices(self, choices: Mapping[str, Choice]) -> None:
        """Use these choices (as a checkpoint has them) instead of asking the rules of `auto`."""
        self._kept_choices = dict(choices)

    def open_for_sweep(self) -> tuple[EagerExecutor, int, float]:
        """The eager executor, steps per epoch and base rate, for trying learning rates without training."""
        self._begin(False)
        self._train_mode()
        rates = [float(g["initial_lr"]) for o in self._tools.optimizers.values() for g in o.param_groups]
        if not rates or rates[0] == 0.0:
            raise ConfigError(
                "This task learns without gradients, so there is no learning rate to find.",
                where="find_learning_rate",
                accepts="a task with an optimizer and a learning rate above 0",
                mend="use it on a network, such as mlp",
            )
        return self._eager, self._steps_per_epoch, rates[0]

    # --- the road ---

    def fit(self, *, resume: bool = False, until: int | None = None, until_pending: bool = False) -> TrainResult:
        """Train to the end, restore the best weights and judge them.

        Args:
            resume: Continue from the latest checkpoint of `run_dir`, from the beginning where there is none.
            until: Stop at this step with a checkpoint, as an interruption there would (used by `verify`).
            until_pending: At the end of an epoch: stop before it is judged, not after.

        Raises:
            InterruptedRunError: Ctrl-C, SIGTERM or `until`; where there is a run folder, a checkpoint was written.
            NonFiniteError: A loss or weight became NaN or infinite.
            StorageError: The disk is full; earlier checkpoints stand.
            RunError: Somebody else is training in the run folder.
        """
        with self._locked():
            try:
                result = self._fit(resume, until, until_pending)
                self._journal.close()
                return result
            except BaseException as error:
                if isinstance(error, LaminaError):
                    self.callbacks.on_error(self, error)
                with contextlib.suppress(LaminaError):  # the first error is the one to be told
                    self._journal.close()
                raise
            finally:
                self.callbacks.on_close(self)
                if self._dropout is not None:
                    self._dropout.release()  # the model is the user's again: fresh masks in its own training loop
                if self.device.type == "cpu":
                    return_freed_memory()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if self.run_dir is None:
            yield
            return
        with storage_errors(self.run_dir):
            self.run_dir.mkdir(parents=True, exist_ok=True)
        with run_lock(self.run_dir):
            yield

    def _fit(self, resume: bool, until: int | None, until_pending: bool) -> TrainResult:
        self._begin(resume)
        with self._interruption.awaited():
            for index, stage in enumerate(self._stages):
                if index < self.cursor.stage:
                    continue
                if index > self.cursor.stage:
                    self.cursor.stage, self.cursor.stage_step, self.cursor.stage_epoch = index, 0, 0
                    self._judge.best.evaluations_since = 0  # patience is a stage's
                    if stage.begins_from_best:
                        self._judge.restore_best()
                        self._begin_average()
                    self._enter(stage)
                self._run_stage(until, until_pending)
                if self.callbacks.stop_wanted:
                    break
            return self._finish()

    def _begin(self, resume: bool) -> None:
        seed_generators(self.seed)
        if self.device.type == "cpu":
            keep_freed_memory()
        self._interruption.wanted = False
        self._trainable = {name: parameter.requires_grad for name, parameter in self.model.named_parameters()}
        self._check()
        self.model.to(self.device)
        self.preprocessing.to(self.device)
        snapshot = self._checkpointer.latest(resume=resume)
        self.choices = self._choose(snapshot)
        if self.choices["layout"].value == "channels_last":
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._stages = self._given_stages or tuple(self.task.stages(self.model))
        self._begin_average()
        if snapshot is not None:
            self.cursor = replace(snapshot.state.cursor)
            self._checkpointer.check_stage(self.cursor, num_stages=len(self._stages))
        self._enter(self.stage, weights=snapshot.tensors["model"] if snapshot is not None else None)
        if snapshot is not None:
            self._checkpointer.check_batch(self.cursor, steps_per_epoch=self._steps_per_epoch)
            self._checkpointer.restore(self._resumable, snapshot)
        self._journal.open(offset=snapshot.state.metrics_bytes if snapshot is not None else 0, step=self.cursor.step)
        self.callbacks.on_fit_begin(self)

    def _begin_average(self) -> None:
        self._average = WeightAverage(self.model, decay=self.config.ema_decay) if self.config.ema_decay else None
        self._judge.begin(average=self._average, autocast=self._autocast, channels_last=self._channels_last)

    @property
    def _autocast(self) -> bool:
        return self.choices["precision"].value == "bf16"

    @property
    def _channels_last(self) -> bool:
        return self.choices["layout"].value == "channels_last"

    def _check(self) -> None:
        train = self.data.splits.get("train")
        if train is None or train.num_rows == 0:
            raise DataError(
                f"There is no training split; there are {', '.join(self.data.splits) or 'no splits'}.",
                where=self.data.source or "data",
                accepts="data with a split called train that has rows",
                mend="divide the data with split_data, or name a file or folder `train`",
            )
        self.task.check(self.preprocessing.spec, self.model)
        for columns in self.data.splits.values():
            self.task.check_columns(columns)
        if self.run_dir is not None:
            folder = self._checkpointer.folder
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def _choose(self, snapshot: Snapshot | None) -> dict[str, Choice]:
        if snapshot is not None:
            return dict(snapshot.state.choices)
        if self._kept_choices is not None:
            return dict(self._kept_choices)
        return {
            "precision": choose_precision(self.config.precision, model=self.model, device=self.device),
            "layout": choose_layout(self.config.layout, model=self.model, device=self.device),
        }

    def _enter(self, stage: Stage, *, weights: Mapping[str, Tensor] | None = None) -> None:
        """Make what the stage needs: trainable part, features, feed, optimizers, schedule, executors.

        Args:
            weights: Of a checkpoint; features must be computed with them.
        """
        if stage.prepare is not None:
            stage.prepare(self.model)
        if weights is not None:
            give_weights(self.model, dict(weights), where=str(self._checkpointer.folder))
        freeze(self.model, stage, initially=self._trainable)
        view = self._view_of(stage)
        self._judge.look_at(view)
        self._updates = list(self.task.updates(view.network))
        batches_per_step = max(update.repeats for update in self._updates)
        train = view.splits["train"]
        self._feed = self.task.feed(
            train,
            batch_size=self.config.batch_size,
            seed=self.seed,
            training=True,
            **{"drop_last": self.config.drop_last, **self._feed_options},
        )
        self._steps_per_epoch = len(self._feed) // batches_per_step
        if self._steps_per_epoch == 0:
            raise ConfigError(
                f"An epoch has {len(self._feed)} batches, a step needs {batches_per_step}.",
                where="training.batch_size",
                accepts=f"batches of at most {max(train.num_rows // batches_per_step, 1)} rows",
                mend="use a smaller training.batch_size",
            )
        self._stage_steps = num_steps(stage, self.config, steps_per_epoch=self._steps_per_epoch)
        optimizers, self._optimizer_values = stage_optimizers(stage, self._updates, self.optimizer_values)
        self._schedule = stage_schedule(
            stage,
            self.schedule_values,
            total_steps=self._stage_steps,
            steps_per_epoch=self._steps_per_epoch,
            mode="max" if self._judge.mode == "max" else "min",
        )
        self._dropout = dropout = DropoutKeys(self.model, self.seed)
        self._tools = StepTools(
            model=self.model,
            updates=self._updates,
            optimizers=optimizers,
            feed=self._feed,
            prepare=Prepare(
                preprocessing=view.preprocessing,
                augmentation=self.augmentation if stage.augment else None,
                seed=self.seed,
                channels_last=self._channels_last and view.network is self.model,
            ),
            seed=self.seed,
            device=self.device,
            autocast=self._autocast,
            accumulation=self.config.accumulation,
            clip_norm=self.config.clip_norm,
            clip_value=self.config.clip_value,
            average=self._average,
            stage=stage.name,
            state=self.task.initial_state(self.model, self._feed.batch_size),
            dropout=dropout if len(dropout) else None,
            batches_per_step=batches_per_step,
            lr=self._direct_rate(stage),
        )
        self._eager = EagerExecutor(self._tools, should_stop=lambda: self._interruption.wanted)
        key = self._choice_key("executor")
        if key not in self.choices:
            self.choices[key] = choose_executor(
                self.config,
                self._tools,
                optimizer=self._optimizer_values,
                num_steps=self._stage_steps,
                freezes=stage.trainable is not None and not all(p.requires_grad for p in self.model.parameters()),
            )
        self._compiled = self._compile() if self.choices[key].value == "compiled" else None

    def _choice_key(self, name: str) -> str:
        """The first stage's choices are the run's; each later stage has its own."""
        return name if self.cursor.stage == 0 else f"{name}/{self.stage.name}"

    def _view_of(self, stage: Stage) -> View:
        """The network and its rows, or its head and their features where these can be computed once."""
        whole = View(self.model, self.data.splits, self.preprocessing)
        if stage.trainable is None:
            return whole
        key = self._choice_key("features")
        if key not in self.choices:
            self.choices[key] = choose_features(
                self.model,
                self.task,
                stage,
                self.preprocessing,
                augmented=self.augmentation is not None,
                num_rows=sum(columns.num_rows for columns in self.data.splits.values()),
            )
        if self.choices[key].value != "once":
            return whole
        return view_on_features(
            self._features,
            self.model,
            self.data.splits,
            self.preprocessing,
            autocast=self._autocast,
            channels_last=self._channels_last,
        )

    def _compile(self) -> CompiledExecutor:
        try:
            return CompiledExecutor(self._tools, optimizer_values=self._optimizer_values[self._updates[0].name])
        except NotNativeError as error:
            raise CheckpointError(
                f"The run's steps were compiled; here they cannot be: {error}.",
                where=str(self.run_dir or "training"),
                accepts="a machine with a C++ compiler, as the run began on",
                mend="install g++ or clang++, or begin a new run with training.compile=never",
            ) from None

    # --- the loop ---

    def _run_stage(self, until: int | None, until_pending: bool) -> None:
        cursor = self.cursor
        while True:
            finished = cursor.stage_step >= self._stage_steps
            if cursor.pending and (finished or cursor.batch >= self._steps_per_epoch):
                self._end_epoch()
                if cursor.step == until and not until_pending:
                    self._interrupt()
                continue
            if finished or self.callbacks.stop_wanted or self._judge.patience_spent:
                return
            if cursor.batch == 0:
                self.callbacks.on_epoch_begin(self, cursor.epoch)
            self._train_mode()
            while cursor.batch < self._steps_per_epoch and cursor.stage_step < self._stage_steps:
                self._run_segment(self._segment_length(until))
                # The last step of a stage ends its epoch, also in the middle of the data (training.steps).
                ends = cursor.batch == self._steps_per_epoch or cursor.stage_step == self._stage_steps
                if self._interruption.wanted or (cursor.step == until and (until_pending or not ends)):
                    self._interrupt()

    def _interrupt(self) -> None:
        self._checkpoint()
        self.callbacks.on_interrupt(self)
        what = f"Training was interrupted at step {self.cursor.step}"
        if self.run_dir is None:
            raise InterruptedRunError(
                f"{what}; nothing of it was kept.",
                where="training",
                accepts="a training that is let run to its end",
                mend="begin again; a training with a run folder (run=…) can be resumed",
            )
        raise InterruptedRunError(
            f"{what}; a checkpoint was written.",
            where=str(self.run_dir),
            accepts="to be continued",
            mend=f"lamina train --resume {self.run_dir}",
        )

    def _segment_length(self, until: int | None) -> int:
        """Steps until something is to be done: log, checkpoint, end of epoch or stage, or a short last batch."""
        cursor, config = self.cursor, self.config
        lengths = [
            self._steps_per_epoch - cursor.batch,
            self._stage_steps - cursor.stage_step,
            config.log_every - cursor.step % config.log_every,
        ]
        if config.checkpoint_every is not None:
            lengths.append(config.checkpoint_every - cursor.step % config.checkpoint_every)
        if until is not None and until > cursor.step:
            lengths.append(until - cursor.step)
        if self._compiled is not None:
            full = self._num_full_batches - cursor.batch
            if full > 0:
                lengths.append(full)
        return min(lengths)

    @property
    def _num_full_batches(self) -> int:
        return len(self._feed.rows(self.cursor.epoch)) // self._feed.batch_size

    def _run_segment(self, num_steps: int) -> None:
        cursor = self.cursor
        segment = Segment(
            epoch=cursor.epoch,
            first_batch=cursor.batch * self._tools.batches_per_step,
            first_step=cursor.step,
            num_steps=num_steps,
            factors=self._schedule.factors(cursor.stage_step, num_steps),
        )
        begin = time.perf_counter()
        compiled = self._compiled is not None and cursor.batch + num_steps <= self._num_full_batches
        if compiled and self._compiled is not None:
            logged = self._compiled.run(segment)
            if logged is None:  # a loss was not finite: nothing was changed; the eager executor finds step and layer
                logged = self._eager.run(segment)
        else:
            logged = self._eager.run(segment)
        table = torch.stack(list(logged.values()))
        finite = bool(torch.isfinite(table).all())
        columns = dict(zip(logged, table.tolist(), strict=True))  # the segment's one read from the device
        done = table.shape[1]
        self._seconds += time.perf_counter() - begin
        self._rows_done += done * self.rows_per_step
        if not finite:
            for offset in range(done):
                losses = {name: values[offset] for name, values in columns.items()}
                refuse_non_finite(losses, step=cursor.step + offset, epoch=cursor.epoch, batch=cursor.batch)
        for means in self._means.values():
            means.add(columns)
        last = {name: values[-1] for name, values in columns.items()}
        cursor.batch += done
        cursor.step += done
        cursor.stage_step += done
        cursor.pending = True
        self.callbacks.on_steps(self, done, last)
        if cursor.step % self.config.log_every == 0:
            values = self._means["log"].take()
            values["lr"] = self._rate()
            self._journal.write(step=cursor.step, epoch=cursor.epoch, split="train", values=values)
            self.callbacks.on_logged(self, values)
        every = self.config.checkpoint_every
        if every is not None and cursor.step % every == 0 and cursor.batch < self._steps_per_epoch:
            self._checkpoint()  # at an epoch's end it is written after judging

    def _rate(self) -> float:
        groups = [group for optimizer in self._tools.optimizers.values() for group in optimizer.param_groups]
        factor = self._schedule.factors(max(self.cursor.stage_step - 1, 0), 1)[0]
        return max((float(group["initial_lr"]) * factor for group in groups), default=self._tools.lr * factor)

    def _direct_rate(self, stage: Stage) -> float:
        """The rate of updates without an optimizer that take steps of one (word2vec), else 0."""
        if not any(isinstance(update, DirectUpdate) and update.scheduled for update in self._updates):
            return 0.0
        return float(parse_optimizer(stage_optimizer(self.optimizer_values, stage))[1].lr)

    def _end_epoch(self) -> None:
        cursor = self.cursor
        losses = self._means["epoch"].take()
        cursor.epoch += 1
        cursor.stage_epoch += 1
        cursor.batch = 0
        cursor.pending = False
        self._journal.write(step=cursor.step, epoch=cursor.epoch, split="train_epoch", values=losses)
        last = cursor.stage_step >= self._stage_steps
        judged = last or cursor.stage_epoch % self.config.evaluate_every == 0
        if judged:
            verdict = self._judge.judge(losses, step=cursor.step, epoch=cursor.epoch)
            if verdict.metrics:
                self._journal.write(step=cursor.step, epoch=cursor.epoch, split="valid", values=verdict.metrics)
            self._schedule.observe(verdict.value)
            self.callbacks.on_evaluated(self, "valid" if verdict.metrics else "train", verdict.metrics or losses)
        every = self.config.checkpoint_every
        due = judged if every is None else cursor.step % every == 0
        if last or due or self.best.step == cursor.step:
            self._checkpoint()

    def _train_mode(self) -> None:
        """Training mode for what learns in this stage."""
        set_modes(self.model, self.stage)

    def _checkpoint(self) -> None:
        path = self._checkpointer.write(self._resumable)
        if path is not None:
            self.callbacks.on_checkpoint(self, path)

    @property
    def _resumable(self) -> Resumable:
        return Resumable(
            cursor=self.cursor,
            tools=self._tools,
            judge=self._judge,
            schedule=self._schedule,
            means=self._means,
            journal=self._journal,
            callbacks=self.callbacks,
            choices=self.choices,
        )

    # --- the end ---

    def _finish(self) -> TrainResult:
        self._judge.restore_best()
        self.model.eval()
        pipeline = Pipeline(self.model, self.task, self.preprocessing, self.data.spec)
        metrics, evaluations = judge_finally(self._judge, pipeline, self.data, in_bf16=self._tools.autocast)
        result = TrainResult(
            metrics=metrics,
            evaluations=evaluations,
            epochs=self.cursor.epoch,
            steps=self.cursor.step,
            seconds=self._seconds,
            samples_per_s=self._rows_done / self._seconds if self._seconds else 0.0,
            best_step=self.best.step or self.cursor.step,
            choices=self.choices,
            stopped_early=self._judge.patience_spent or self.callbacks.stop_wanted,
            bundle=make_bundle(self, pipeline, metrics),
            extras=dict(self.result_extras),
        )
        if self.run_dir is not None:
            write_outcome(self.run_dir, pipeline, result, self)
        self.callbacks.on_fit_end(self, result)
        return result
