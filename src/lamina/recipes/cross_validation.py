"""Judging by cross-validation where data is small: the head on features computed once, fold by fold.

Thirty validation photographs of a class say little: at 90 % right, the 95 % interval of one such class is 74 to 97 %. With
the features kept, training a head takes a second, so that every row can be held out once. Mean and spread over the folds go
into the run's result and report, beside the score on the validation split.

Source: Stone (1974), "Cross-Validatory Choice and Assessment of Statistical Predictions", doi:10.1111/j.2517-6161.1974.tb00994.x;
Kohavi (1995), "A Study of Cross-Validation and Bootstrap for Accuracy Estimation and Model Selection", IJCAI 14.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import torch

from lamina.core.devices import choose_layout, choose_precision
from lamina.core.errors import ConfigError
from lamina.data.columns import Data
from lamina.data.config import DataConfig
from lamina.data.decoded_ahead import join_columns
from lamina.data.splits import split_data
from lamina.recipes.build import Job
from lamina.tasks.base import Stage
from lamina.tasks.derived import FeatureHead, as_they_are, choose_features, derived_spec
from lamina.tasks.transfer import HEAD
from lamina.train.trainer import Trainer

__all__ = ["FEW_ROWS", "CrossValidation", "cross_validate", "cross_validate_where_due", "reason_for"]

FEW_ROWS: Final = 50  # validation rows of the rarest class, below which cross-validation is worth its second


@dataclass(frozen=True)
class CrossValidation:
    """What holding out each fold in turn came to.

    Attributes:
        scores: Metric -> its value on each fold, judged by the last weights: nothing was chosen on the fold.
        num_rows: Of all folds together: the training and the validation split.
        reason: Why it was done.
    """

    scores: dict[str, tuple[float, ...]]
    num_rows: int
    reason: str

    @property
    def num_folds(self) -> int:
        """How many there were."""
        return len(next(iter(self.scores.values()), ()))

    def mean(self, metric: str) -> float:
        """Over the folds."""
        return math.fsum(self.scores[metric]) / self.num_folds

    def std(self, metric: str) -> float:
        """Standard deviation over the folds, with n - 1."""
        mean = self.mean(metric)
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.scores[metric]) / max(self.num_folds - 1, 1))

    def describe(self) -> dict[str, Any]:
        """The JSON form in `result.json`."""
        return {
            "what": "a new head on the frozen body",
            "reason": self.reason,
            "folds": self.num_folds,
            "num_rows": self.num_rows,
            "metrics": {
                name: {"mean": self.mean(name), "std": self.std(name), "folds": list(values)}
                for name, values in self.scores.items()
                if all(math.isfinite(value) for value in values)
            },
        }


def reason_for(job: Job) -> str | None:
    """Why a training should be cross-validated (`training.cross_validate`); None where it should not.

    The rule of `auto`: the first stage trains a head on features computed once, and the rarest class has fewer than
    FEW_ROWS validation rows.

    Raises:
        ConfigError: `always`, where the first stage is not of that kind.
    """
    wanted = job.recipe.training.cross_validate
    if wanted == "never":
        return None
    stage = job.stages[0] if job.stages else Stage()
    rows = sum(columns.num_rows for columns in job.data.splits.values())
    choice = choose_features(
        job.model, job.task, stage, job.preprocessing, augmented=job.augmentation is not None, num_rows=rows
    )
    possible = choice.value == "once" and "label" in job.data.splits["train"]
    if wanted == "always":
        if not possible:
            raise ConfigError(
                f"There is nothing to cross-validate: {choice.reason}.",
                where="training.cross_validate",
                accepts="a recipe for classes whose first stage trains a head on a frozen body, such as photos-transfer",
                mend="training.cross_validate=never; data.split=kfold with data.fold=0, 1, … trains on one fold after another",
            )
        return "training.cross_validate=always"
    valid = job.data.splits.get("valid")
    if not possible or valid is None or valid.num_rows == 0:
        return None
    fewest = int(torch.bincount(valid["label"], minlength=len(job.data.spec.classes)).min())
    if fewest >= FEW_ROWS:
        return None
    rows_of = f"{fewest} validation row{'' if fewest == 1 else 's'}"
    return f"the rarest class has {rows_of}, fewer than {FEW_ROWS}"


def cross_validate_where_due(job: Job, trainer: Trainer, tell: Callable[[str], None]) -> None:
    """Cross-validate where `reason_for` says so, and keep what came out with the training's result.

    Args:
        tell: Hears why, before it is done.

    Raises:
        ConfigError: As `reason_for`.
    """
    reason = reason_for(job)
    if reason is not None:
        tell(f"Cross-validation of a head, because {reason}.")
        trainer.result_extras["cross_validation"] = cross_validate(job, reason=reason).describe()


def cross_validate(job: Job, *, reason: str) -> CrossValidation:
    """Train the head of the first stage on all folds but one, for each fold, and judge it on that one.

    Call it before the training: the body must have its initial weights. Every fold begins from the same head, and is
    trained by the same engine for as long as the stage says.

    Args:
        job: Whose first stage `reason_for` accepts; its `features` are filled on the way, for the training to find.
    """
    machine, recipe = job.machine, job.recipe
    precision = choose_precision(recipe.training.precision, model=job.model, device=machine.device)
    layout = choose_layout(recipe.training.layout, model=job.model, device=machine.device)
    job.model.to(machine.device)
    job.preprocessing.to(machine.device)
    if layout.value == "channels_last":
        job.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = [
        job.features.derive(
            job.data.splits[name],
            model=job.model,
            preprocessing=job.preprocessing,
            autocast=precision.value == "bf16",
            channels_last=layout.value == "channels_last",
        )
        for name in ("train", "valid")
        if name in job.data.splits and job.data.splits[name].num_rows
    ]
    pool = join_columns(parts)
    spec = derived_spec(job.preprocessing.spec, pool)
    whole = Data({"all": pool}, spec.model_copy(update={"num_rows": {"all": pool.num_rows}}))
    scores: dict[str, list[float]] = {}
    for fold in range(recipe.data.folds):
        for name, value in _judge_fold(job, whole, fold=fold).items():
            scores.setdefault(name, []).append(value)
    kept = {name: tuple(values) for name, values in scores.items() if len(values) == recipe.data.folds}
    return CrossValidation(kept, pool.num_rows, reason)


def _judge_fold(job: Job, whole: Data, *, fold: int) -> Mapping[str, float]:
    recipe, stage = job.recipe, job.stages[0]
    config = DataConfig(
        split="group" if recipe.data.group else "kfold", group=recipe.data.group, folds=recipe.data.folds, fold=fold
    )
    data = split_data(whole, config, seed=recipe.seed)
    # As a test split: a validation split would choose among the epochs, and the score would flatter.
    data = data.with_splits({"train": data.splits["train"], "test": data.splits["valid"]})
    head = FeatureHead(job.model)
    head.head = copy.deepcopy(head.head)
    trainer = Trainer(
        head,
        type(job.task)(job.task.config, data.spec),
        data,
        preprocessing=as_they_are(data.spec, data.splits["train"]),
        optimizer=recipe.optimizer,
        schedule=recipe.schedule,
        config=recipe.training.model_copy(
            update={"tensorboard": False, "patience": None, "compile": "never", "checkpoint_every": None}
        ),
        seed=recipe.seed,
        device=job.machine.device,
        stages=(replace(stage, trainable=(f"{HEAD}.*",), frozen=(), features_once=False, prepare=None),),
    )
    found = trainer.fit().metrics
    return {name.removeprefix("test/"): value for name, value in found.items() if name.startswith("test/")}
