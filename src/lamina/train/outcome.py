"""What a finished run leaves: the bundle of the best weights, the judgement in full, the worst mistakes, the result.

`result.json` is written last: where it is, everything else is whole, and the run is finished.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lamina.core.files import write_atomic
from lamina.core.strict_json import dump_json
from lamina.tasks.bundle import Bundle
from lamina.tasks.mistakes import find_mistakes, write_mistakes
from lamina.tasks.pipeline import Pipeline

if TYPE_CHECKING:
    from lamina.train.trainer import Trainer, TrainResult


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
