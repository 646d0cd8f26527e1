"""Judging while training: the validation split after an epoch, the best weights so far, and when patience is spent."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lamina.core import registry
from lamina.core.errors import ConfigError
from lamina.data.columns import Columns, Data
from lamina.data.preprocessing import Preprocessing
from lamina.tasks.base import Task
from lamina.tasks.derived import View
from lamina.tasks.pipeline import Evaluation, evaluate
from lamina.train.checkpoints import give_weights
from lamina.train.config import TrainingConfig
from lamina.train.ema import WeightAverage
from lamina.train.state import Best

__all__ = ["Judge", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """One judgement.

    Attributes:
        value: Of the monitored metric; without a validation split, the training loss.
        metrics: Of the validation split; empty without one.
    """

    value: float
    metrics: dict[str, float]


class Judge:
    """Judges a model during its training and keeps the best weights.

    With a weight average, it is the average that is judged and kept. Without a validation split the latest weights count as
    the best.

    Args:
        model: The model in training.
        task: Its metrics.
        data: Its split `valid`, where there is one.
        preprocessing: Fitted on the training split.
        config: `monitor`, `min_delta` and `patience`.
        device: Where the model is.

    Attributes:
        best: The best judgement so far.
        best_weights: The model's state then; None before the first judgement.
        best_evaluation: That judgement in full, where it was made by this process; a resumed one judges anew, to the same
            numbers.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        data: Data,
        *,
        preprocessing: Preprocessing,
        config: TrainingConfig,
        device: torch.device,
    ) -> None:
        self.model = model
        self.task = task
        self.preprocessing = preprocessing
        self.config = config
        self.device = device
        self.best = Best()
        self.best_weights: dict[str, Tensor] | None = None
        self.best_evaluation: Evaluation | None = None
        self._view = View(model, data.splits, preprocessing)
        self._average: WeightAverage | None = None
        self._autocast = False
        self._channels_last = False

    def begin(self, *, average: WeightAverage | None, autocast: bool, channels_last: bool) -> None:
        """Take note of what is decided when a training begins: the average, the precision and the layout."""
        self._average = average
        self._autocast = autocast
        self._channels_last = channels_last

    def look_at(self, view: View) -> None:
        """Judge this from now on: the network and its rows, or its head and their features."""
        self._view = view

    @property
    def monitor(self) -> tuple[str, str]:
        """(metric, "max" or "min") by which the best weights are chosen."""
        name = self.config.monitor
        if name is None:
            return self.task.monitor
        better = registry.describe("metric", name, where="training.monitor").capabilities["better"]
        return name, str(better)

    @property
    def mode(self) -> str:
        """Whether the judged value should become larger ("max") or smaller ("min")."""
        return self.monitor[1] if self._valid is not None else "min"

    def judge(self, train_losses: Mapping[str, float], *, step: int, epoch: int) -> Verdict:
        """Judge the model as it is after `step` steps, and remember it where it is the best so far.

        Args:
            train_losses: Mean losses of the epoch, kept beside the metrics.

        Raises:
            ConfigError: The validation split gives no such metric as `training.monitor`.
            NonFiniteError: The model gave NaN.
        """
        valid = self._valid
        if valid is not None:
            evaluation = self._evaluate(valid)
            found = evaluation.metrics
            name, better = self.monitor
            if name not in found:
                raise ConfigError(
                    f"The validation split gives no metric {name!r}.",
                    where="training.monitor",
                    accepts=", ".join(sorted(found)),
                    mend=f"set training.monitor to one of them, such as {sorted(found)[0]}",
                )
            verdict = Verdict(found[name], found)
        else:
            evaluation, better = None, "latest"
            verdict = Verdict(train_losses.get("loss", 0.0), {})
        if self._improves(verdict.value, better):
            metrics = {f"valid/{key}": value for key, value in verdict.metrics.items()}
            metrics.update({f"train/{key}": value for key, value in train_losses.items()})
            self.best = Best(step=step, epoch=epoch, value=verdict.value, metrics=metrics)
            self.best_weights = self.judged_state()
            # The head alone was judged on other batches than the whole network will be: equal but for the last bits.
            self.best_evaluation = evaluation if self._view.network is self.model else None
        else:
            self.best.evaluations_since += 1
        return verdict

    @property
    def patience_spent(self) -> bool:
        """Whether the last `training.patience` judgements brought no improvement."""
        return self.config.patience is not None and self.best.evaluations_since >= self.config.patience

    def judged_state(self) -> dict[str, Tensor]:
        """A copy of the model's state as it is judged: with averaged weights where there is an average."""
        with self._judged_weights():
            return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def restore_best(self) -> None:
        """Give the model its best weights; the average has served.

        Raises:
            CheckpointError: They came from a checkpoint and are another model's.
        """
        if self.best_weights is not None:
            give_weights(self.model, self.best_weights, where="the checkpoint's best weights")
            self._average = None

    @property
    def _valid(self) -> Columns | None:
        valid = self._view.splits.get("valid")
        return valid if valid is not None and valid.num_rows else None

    def _evaluate(self, columns: Columns) -> Evaluation:
        with self._judged_weights():
            return evaluate(
                self._view.network,
                self.task,
                self._view.preprocessing,
                columns,
                device=self.device,
                autocast=self._autocast,
                channels_last=self._channels_last,
            )

    @contextlib.contextmanager
    def _judged_weights(self) -> Iterator[None]:
        with self._average.swapped() if self._average is not None else contextlib.nullcontext():
            yield

    def _improves(self, value: float, better: str) -> bool:
        if self.best.value is None or better == "latest" or math.isnan(self.best.value):
            return True
        delta = self.config.min_delta
        return value > self.best.value + delta if better == "max" else value < self.best.value - delta
