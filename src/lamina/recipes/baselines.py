"""What a network must beat: simple models on the same rows, and the same network on less data.

Both go through the same build, the same Trainer and the same judging as every other model, so that the scores can be
laid side by side. A baseline uses the default preprocessing of its data, not the run's, and no augmentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from lamina.core import draws
from lamina.core.errors import LaminaError, RunError
from lamina.core.files import write_atomic
from lamina.core.run import RunFolder
from lamina.core.strict_json import dump_json
from lamina.data.columns import Data
from lamina.data.splits import stratified_order
from lamina.recipes.build import Job, Machine, build
from lamina.recipes.recipe import Recipe, resolve_layers
from lamina.recipes.session import Listener, Silence, job_of_run
from lamina.tasks.metrics import RegressionMetrics
from lamina.train.outcome import finite
from lamina.train.trainer import TrainResult

__all__ = ["write_baselines", "write_learning_curve"]

# Stored rows times values beyond which searching neighbours takes longer than training a network does.
_MOST_KNN_VALUES: Final = 1_000_000_000
# A linear model is trained for about so many steps, but for at least 12 and at most 200 epochs.
_LINEAR_STEPS: Final = 4_000
_SHARES: Final = (0.1, 0.2, 0.5, 1.0)


def write_baselines(run: RunFolder, *, job: Job | None = None, listener: Listener | None = None) -> dict[str, Any]:
    """Fit k-nearest neighbours and a linear model on a run's training split; judge them where the run was judged.

    A regression is compared with the training mean too, a forecast with the last season repeated and nothing else.

    Args:
        run: Its saved split is used.
        job: The run's, if it is built already.
        listener: Is told what is being fitted.

    Returns:
        What is written to `baselines.json`: `{"split", "num_samples", "baselines": [{"name", "title", "metrics", "seconds"}],
        "skipped": [{"name", "reason"}]}`.

    Raises:
        RunError: The run's data is not there any more, or nothing was held out.
    """
    job = job or job_of_run(run)
    listener = listener or Silence()
    split = _judged(job.data, run)
    is_regression = not {"label", "past"} & set(job.data.spec.columns)
    found: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for name, title, values in _baselines(job.data, is_regression=is_regression):
        reason = _unfit(name, job)
        if not reason:
            listener.note(f"baseline: {title}")
            try:
                result = _train(_like(job.recipe, values, name=f"{name}-baseline"), job.data, job.machine)
            except LaminaError as error:
                reason = error.what
            else:
                metrics = finite(result.evaluations[split].metrics)
                found.append({"name": name, "title": title, "metrics": metrics, "seconds": result.seconds})
        if reason:
            skipped.append({"name": name, "reason": reason})
    if is_regression:
        metrics = finite(_of_the_mean(job.data, split))
        found.append({"name": "mean", "title": "Always the training mean", "metrics": metrics, "seconds": 0.0})
    num_samples = job.data.splits[split].num_rows
    document = {"schema": 1, "split": split, "num_samples": num_samples, "baselines": found, "skipped": skipped}
    write_atomic(run.path / "baselines.json", dump_json(document))
    return document


def write_learning_curve(run: RunFolder, *, listener: Listener | None = None) -> dict[str, Any]:
    """Train the run's recipe on 10, 20, 50 and 100 % of its training rows, judged on the same rows: would more data help?

    Smaller parts are subsets of larger ones, stratified by class. Each training takes about as many steps as on all rows, so
    that a small part is not judged by its small number of steps.

    Returns:
        What is written to `learning_curve.json`: `{"split", "metric", "points": [{"share", "rows", "value"}]}`.

    Raises:
        RunError: The run's data is not there any more, or nothing was held out.
    """
    job = job_of_run(run)
    split = _judged(job.data, run)
    train, numbers = job.data.splits["train"], job.data.rows["train"]
    labels = train["label"] if "label" in job.data.spec.columns else None
    key = draws.stream_key(job.recipe.seed, "split", "learning-curve")
    order = stratified_order(labels, key, num_rows=train.num_rows)
    points: list[dict[str, Any]] = []
    metric = ""
    for share in _SHARES:
        size = max(1, round(share * train.num_rows))
        (listener or Silence()).note(f"learning curve: {size:,} training rows")
        rows = order[:size].sort().values
        part = job.data.with_splits(
            {**job.data.splits, "train": train.take(rows)}, {**job.data.rows, "train": numbers[rows]}
        )
        metrics = _train(_with_steps_of(job.recipe, share), part, job.machine).evaluations[split].metrics
        metric = next((name for name in ("accuracy", "mae") if name in metrics), next(iter(metrics)))
        points.append({"share": share, "rows": size, "value": metrics[metric]})
    document = {"schema": 1, "split": split, "metric": metric, "points": points}
    write_atomic(run.path / "learning_curve.json", dump_json(document))
    return document


def _judged(data: Data, run: RunFolder) -> str:
    split = next((name for name in ("test", "valid") if name in data.splits and data.splits[name].num_rows), None)
    if split is None:
        raise RunError(
            "The run held no rows out, so nothing can be compared.",
            where=str(run.path),
            accepts="a run with a validation or test split",
            mend="train with data.valid_fraction=0.2",
        )
    return split


def _baselines(data: Data, *, is_regression: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, title, values of a recipe)."""
    if "past" in data.spec.columns:
        yield "seasonal_naive", "The last season repeated", {"model": {"kind": "seasonal_naive"}}
        return
    is_image = "image" in data.spec.columns
    k = 3 if is_image else 5
    title = f"Mean of the {k} nearest neighbours" if is_regression else f"{k} nearest neighbours"
    quiet = {"tensorboard": False, "precision": "fp32"}
    yield "knn", title, {"model": {"kind": "knn", "k": k}, "training": {"epochs": 1, "batch_size": 4096, **quiet}}

    num_rows = data.splits["train"].num_rows
    batch_size = 32 if num_rows < 10_000 else 128
    epochs = min(200, max(12, math.ceil(_LINEAR_STEPS / math.ceil(num_rows / batch_size))))
    linear = {
        "model": {"kind": "linear"},
        "optimizer": {"name": "adam", "lr": 1e-3 if is_image and num_rows >= 10_000 else 5e-3 if is_image else 1e-2},
        "schedule": {"name": "cosine"},
        "training": {"epochs": epochs, "batch_size": batch_size, **quiet},
    }
    yield "linear", "Linear regression" if is_regression else "Linear model", linear


def _unfit(name: str, job: Job) -> str:
    """Why a baseline says nothing here; empty where it does."""
    if job.recipe.model.get("kind") == name:
        return "it is the model of the run itself"
    columns = [job.data.spec.columns.get(column) for column in ("image", "number", "category")]
    values = job.data.splits["train"].num_rows * sum(math.prod(c.shape) for c in columns if c is not None)
    if name == "knn" and values > _MOST_KNN_VALUES:
        return f"{values:,} stored values are too many to search; data.limit=… makes them fewer"
    return ""


def _like(recipe: Recipe, values: dict[str, Any], *, name: str) -> Recipe:
    """A recipe with the run's data, task and seed, and everything else as given or by default."""
    # Forecasts are laid side by side on one scale; what else a task is told is about its network.
    told = {key: recipe.task[key] for key in ("name", "scale", "targets") if key in recipe.task}
    base = {"name": name, "seed": recipe.seed, "task": told, "data": recipe.data.values()}
    return resolve_layers([("recipe", {**base, **values})]).recipe()


def _with_steps_of(recipe: Recipe, share: float) -> Recipe:
    """The recipe with more epochs on fewer rows, evaluated as often."""
    training = recipe.training
    longer = {
        "epochs": math.ceil(training.epochs / share),
        "evaluate_every": max(1, round(training.evaluate_every / share)),
    }
    return recipe.model_copy(update={"training": training.model_copy(update=longer)})


def _train(recipe: Recipe, data: Data, machine: Machine) -> TrainResult:
    return build(recipe, data, machine=Machine(machine.device, None, {})).trainer(None).fit()


def _of_the_mean(data: Data, split: str) -> dict[str, float]:
    """The metrics of a prediction that ignores its input."""
    targets = data.splits[split]["target"].double()
    mean = data.splits["train"]["target"].double().mean(dim=0)
    metrics = RegressionMetrics([str(number) for number in range(len(mean))])
    metrics.update(mean.expand(len(targets), -1), targets)
    return metrics.finish()
