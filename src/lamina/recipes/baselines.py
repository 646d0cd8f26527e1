"""What a network must beat: simple models on the same splits, and the same network on less data.

Both go through the same build, the same Trainer and the same judging as every other model, so that the scores can be
laid side by side. A baseline uses the default preprocessing of its data, not the run's, and no augmentation.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from lamina.core import draws
from lamina.core.errors import LaminaError, RunError
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder
from lamina.core.strict_json import dump_json
from lamina.data.columns import Columns, Data
from lamina.data.splits import stratified_order
from lamina.recipes.build import Machine, build, choose_machine, read_data
from lamina.recipes.recipe import Recipe, resolve_layers
from lamina.tasks.metrics import RegressionMetrics
from lamina.train.callbacks import Callback
from lamina.train.trainer import TrainResult

__all__ = ["fit_baselines", "fit_learning_curve"]

# Stored rows times values beyond which searching neighbours takes longer than training does.
_MOST_KNN_VALUES: Final = 1_000_000_000
# A linear model is trained for about so many steps, but for at least 12 and at most 200 epochs.
_LINEAR_STEPS: Final = 4000
_SHARES: Final = (0.1, 0.2, 0.5, 1.0)


def fit_baselines(
    run: str | os.PathLike[str], *, machine: Machine | None = None, callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Fit k-nearest neighbours and a linear model on a run's training split; judge them where the run was judged.

    Writes `baselines.json` into the run folder: `split`, `baselines` (each with `name`, `title`, `metrics`, `seconds`) and
    `skipped` (`name`, `reason`).

    Args:
        run: A run folder with a saved split.
        machine: Where to compute; default: the rules of auto.
        callbacks: Watchers of each training.

    Returns:
        The document.

    Raises:
        RunError: The run has no saved split yet, or its data has changed.
        DataError: The data is not where it was.
    """
    folder, recipe, data = _opened(run)
    machine = machine or choose_machine()
    split = _judged_split(data)
    is_regression = "target" in data.spec.columns and "label" not in data.spec.columns
    found: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for name, make in (("knn", _knn), ("linear", _linear)):
        if recipe.model.get("kind") == name:
            skipped.append({"name": name, "reason": "it is the model of the run itself"})
            continue
        try:
            title, values = make(data, is_regression)
            result = _train(_like(recipe, values, name=f"{name}-baseline"), data, machine, callbacks)
        except LaminaError as error:
            skipped.append({"name": name, "reason": error.what})
            continue
        metrics = result.evaluations[split].metrics
        found.append({"name": name, "title": title, "metrics": metrics, "seconds": result.seconds})
    if is_regression:
        metrics = _of_the_mean(data, split)
        found.append({"name": "mean", "title": "Always the training mean", "metrics": metrics, "seconds": 0.0})
    document = {"schema": 1, "split": split, "baselines": found, "skipped": skipped}
    write_atomic(folder.path / "baselines.json", dump_json(document))
    return document


def fit_learning_curve(
    run: str | os.PathLike[str],
    *,
    shares: Sequence[float] = _SHARES,
    machine: Machine | None = None,
    callbacks: Sequence[Callback] = (),
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train the run's own recipe on parts of its training split, judged on the same rows: would more data help?

    Smaller parts are subsets of larger ones, stratified by class. Each training takes as many steps as on all rows, so that
    a small part is not judged by its small number of steps. Writes `learning_curve.json` into the run folder: `split`,
    `metric`, and `points` (`share`, `rows`, `value`).

    Args:
        run: A run folder with a saved split.
        shares: Parts of the training split, in (0, 1].
        tell: Called with a line before each training.

    Raises:
        RunError, DataError: As `fit_baselines`.
    """
    folder, recipe, data = _opened(run)
    machine = machine or choose_machine()
    split = _judged_split(data)
    train, rows_of = data.splits["train"], data.rows["train"]
    key = draws.stream_key(recipe.seed, "split", "learning-curve")
    order = stratified_order(train.get("label"), key, num_rows=train.num_rows)
    points: list[dict[str, Any]] = []
    metric = ""
    for share in sorted(shares):
        number = max(1, round(share * train.num_rows))
        rows = order[:number].sort().values
        part = data.with_splits({**data.splits, "train": train.take(rows)}, {**data.rows, "train": rows_of[rows]})
        if tell is not None:
            tell(f"learning curve: {number} of {train.num_rows} rows")
        result = _train(_with_steps_of(recipe, share), part, machine, callbacks)
        metrics = result.evaluations[split].metrics
        metric = next((name for name in ("accuracy", "mae") if name in metrics), next(iter(metrics)))
        points.append({"share": share, "rows": number, "value": metrics[metric]})
    document = {"schema": 1, "split": split, "metric": metric, "points": points}
    write_atomic(folder.path / "learning_curve.json", dump_json(document))
    return document


def _opened(run: str | os.PathLike[str]) -> tuple[RunFolder, Recipe, Data]:
    folder = RunFolder.open(run)
    if not folder.split_file.is_file():
        raise RunError(
            "The run has not divided its data yet.",
            where=str(folder.path),
            accepts="a run that has begun to train",
            mend=f"lamina train --resume {folder.path}",
        )
    recipe = Recipe.from_values(folder.recipe()[0])
    if recipe.data.path is None:
        raise RunError(
            "The run was trained on data that was given in Python, not on a path.",
            where=f"{folder.recipe_file}, data.path",
            accepts="a run whose recipe names its data",
            mend="save the data as a file and train on that",
        )
    return folder, recipe, read_data(recipe, run=folder)


def _judged_split(data: Data) -> str:
    found = [name for name in ("test", "valid") if name in data.splits and data.splits[name].num_rows]
    if not found:
        raise RunError(
            "There are no rows to judge on: neither a test nor a validation split.",
            where="the run's split",
            accepts="a run with data.valid_fraction or data.test_fraction above 0",
            mend="train again with data.valid_fraction=0.2",
        )
    return found[0]


def _like(recipe: Recipe, values: dict[str, Any], *, name: str) -> Recipe:
    """A recipe with the run's data, task and seed, and everything else as given or by default."""
    base = {"name": name, "seed": recipe.seed, "task": {"name": recipe.task["name"]}, "data": recipe.data.values()}
    return resolve_layers([("recipe", {**base, **values})]).recipe()


def _with_steps_of(recipe: Recipe, share: float) -> Recipe:
    """The recipe with more epochs on fewer rows, evaluated as often."""
    factor = 1.0 / share
    training = recipe.training.model_copy(
        update={
            "epochs": math.ceil(recipe.training.epochs * factor),
            "evaluate_every": max(1, round(recipe.training.evaluate_every * factor)),
        }
    )
    return recipe.model_copy(update={"training": training})


def _train(recipe: Recipe, data: Data, machine: Machine, callbacks: Sequence[Callback]) -> TrainResult:
    return build(recipe, data, machine=machine).trainer(None, callbacks=callbacks).fit()


def _knn(data: Data, is_regression: bool) -> tuple[str, dict[str, Any]]:
    train = data.splits["train"]
    values = train.num_rows * _row_size(data)
    if values > _MOST_KNN_VALUES:
        raise RunError(
            f"{train.num_rows:,} rows of {_row_size(data):,} values are too many to search.",
            where="baselines",
            accepts=f"at most {_MOST_KNN_VALUES:,} values",
            mend="train on fewer rows with data.limit=…",
        )
    k = 3 if "image" in data.spec.columns else 5
    title = f"Mean of the {k} nearest neighbours" if is_regression else f"{k} nearest neighbours"
    return title, {"model": {"kind": "knn", "k": k}, "training": {"epochs": 1, "batch_size": 4096}}


def _linear(data: Data, is_regression: bool) -> tuple[str, dict[str, Any]]:
    batch_size = 32 if data.splits["train"].num_rows < 10_000 else 128
    steps_per_epoch = math.ceil(data.splits["train"].num_rows / batch_size)
    epochs = min(200, max(12, math.ceil(_LINEAR_STEPS / steps_per_epoch)))
    title = "Linear regression" if is_regression else "Linear model (softmax regression)"
    return title, {
        "model": {"kind": "linear"},
        "optimizer": {"name": "adam", "lr": 1e-3 if "image" in data.spec.columns else 1e-2},
        "schedule": {"name": "cosine"},
        "training": {"epochs": epochs, "batch_size": batch_size, "tensorboard": False, "precision": "fp32"},
    }


def _row_size(data: Data) -> int:
    names = ("image", "number", "category")
    return sum(math.prod(data.spec.columns[name].shape or (1,)) for name in names if name in data.spec.columns)


def _of_the_mean(data: Data, split: str) -> dict[str, float]:
    """The metrics of a prediction that ignores its input."""
    targets: Columns = data.splits[split]
    mean = data.splits["train"]["target"].double().mean(dim=0)
    metrics = RegressionMetrics([str(number) for number in range(len(mean))])
    metrics.update(mean.expand(targets.num_rows, -1), targets["target"].double())
    return metrics.finish()
