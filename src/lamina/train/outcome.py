"""What a finished run leaves: the bundle of the best weights, the judgement in full, the worst mistakes, the result.

`result.json` is written last: where it is, everything else is whole, and the run is finished.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lamina.core.devices import Choice
from lamina.core.files import write_atomic
from lamina.core.strict_json import dump_json
from lamina.data.columns import Data
from lamina.tasks.bundle import Bundle
from lamina.tasks.mistakes import find_mistakes, write_mistakes
from lamina.tasks.pipeline import Evaluation, Pipeline
from lamina.train.judging import Judge

if TYPE_CHECKING:
    from lamina.train.trainer import Trainer


@dataclass
class TrainResult:
    """What training came to.

    Attributes:
        metrics: `split/name` at the best checkpoint.
        evaluations: Split -> metrics with details (confusion matrix, per class, per group).
        epochs, steps: Done in all, over interruptions.
        seconds, samples_per_s: Of this process's training steps alone.
        best_step: The step whose weights the model has now.
        choices: What `auto` chose, and why.
        stopped_early: By patience or a callback.
        bundle: What can be taken away; None for models and tasks that are not registered.
        extras: What was found besides, such as `cross_validation`; JSON-ready.
    """

    metrics: dict[str, float]
    evaluations: dict[str, Evaluation]
    epochs: int
    steps: int
    seconds: float
    samples_per_s: float
    best_step: int
    choices: dict[str, Choice]
    stopped_early: bool = False
    bundle: Bundle | None = None
    extras: dict[str, Any] = field(default_factory=dict)


def judge_finally(
    judge: Judge, pipeline: Pipeline, data: Data, *, in_bf16: bool
) -> tuple[dict[str, float], dict[str, Evaluation]]:
    """Metrics of the best weights by `split/name`, and the evaluations behind them; chooses thresholds where the task does.

    Args:
        in_bf16: Training judged in bf16; what is kept is judged in fp32, as the bundle will be wherever it is judged again.
    """
    metrics = dict(judge.best.metrics)
    evaluations: dict[str, Evaluation] = {}
    if pipeline.task.chooses_thresholds and any(name.startswith("valid/") for name in metrics):
        pipeline.choose_thresholds(data.splits["valid"])
        judge.best_evaluation = None
    for split in ("valid", "test"):
        columns = data.splits.get(split)
        if columns is not None and columns.num_rows:
            known = judge.best_evaluation if split == "valid" and not in_bf16 else None
            evaluations[split] = known or pipeline.evaluate(columns)
            metrics.update({f"{split}/{name}": value for name, value in evaluations[split].metrics.items()})
    pipeline.choose_rejection(evaluations.get("valid"))
    return metrics, evaluations


def make_bundle(trainer: Trainer, pipeline: Pipeline, metrics: dict[str, float]) -> Bundle | None:
    """The bundle of what was trained; None for a model or task of the user's own that is not registered."""
    if not trainer.task.name or not hasattr(trainer.model, "lamina_config"):
        return None
    columns = trainer.data.splits.get("valid") or trainer.data.splits["train"]
    examples = columns.take(torch.arange(min(4, columns.num_rows)))
    precision = {name: choice.value for name, choice in trainer.choices.items()}
    return Bundle.from_pipeline(pipeline, metrics=metrics, examples=examples, precision=precision)


def write_outcome(run: Path, pipeline: Pipeline, result: TrainResult, trainer: Trainer) -> None:
    """Write `bundle/`, `evaluation.json`, the mistakes and, last, `result.json`.

    Raises:
        StorageError: The disk is full; checkpoints stand, and `--resume` finishes the run.
    """
    if result.bundle is not None:
        result.bundle.save(run / "bundle", overwrite=True)
    judged = {
        split: {"num_samples": found.num_samples, "metrics": finite(found.metrics), "details": found.details}
        for split, found in result.evaluations.items()
    }
    write_atomic(run / "evaluation.json", dump_json(judged))
    split = next((name for name in ("test", "valid") if name in result.evaluations), None)
    if split is not None and result.bundle is not None:
        write_mistakes(run, find_mistakes(pipeline, trainer.data.splits[split]), split=split)
    document = {
        "schema": 1,
        "metrics": finite(result.metrics),
        "epochs": result.epochs,
        "steps": result.steps,
        "seconds": result.seconds,
        "samples_per_s": result.samples_per_s,
        "best_step": result.best_step,
        "stopped_early": result.stopped_early,
        "choices": {name: choice.describe() for name, choice in result.choices.items()},
        **trainer.result_extras,
    }
    write_atomic(run / "result.json", dump_json(document))


def finite(metrics: dict[str, float]) -> dict[str, Any]:
    """Metrics for JSON, which has no NaN: what is not finite becomes null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
