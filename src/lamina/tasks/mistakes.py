"""The rows that a trained model got most wrong, kept in the run folder so that a report can show them without the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core.files import write_atomic
from lamina.core.strict_json import dump_json
from lamina.core.tensorfile import pack_tensors
from lamina.data.columns import Columns, ColumnSpec
from lamina.tasks.classification import Classification
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.thresholds import decide

__all__ = ["Mistakes", "find_mistakes", "write_mistakes"]

# Larger pictures are made smaller: a report shows them at the size of a stamp.
_MAX_SIDE: Final = 128


@dataclass(frozen=True)
class Mistakes:
    """Rows that were judged wrongly, the worst first.

    Attributes:
        items: Per row `row` (in the split), `origin`, `true`, `predicted`, and `probability` of what was predicted
            (classification) or `error` (regression).
        images: uint8 (N, C, H, W), at most 128 pixels high or wide; None where the rows are no images.
    """

    items: list[dict[str, Any]]
    images: Tensor | None


def find_mistakes(pipeline: Pipeline, columns: Columns, *, most: int = 36) -> Mistakes:
    """Judge every row and keep the worst mistakes.

    A classifier's worst mistakes are the wrong decisions that it was most sure of; a regression's are the largest errors,
    measured in standard deviations of each target. Ties go to the row that comes first.

    Args:
        columns: Raw labelled rows.
        most: How many are kept.
    """
    if not isinstance(pipeline.task, Classification) and "target" not in columns:
        return Mistakes([], None)  # Tasks of another kind: rows are sequences, of which none is plainly wrong
    if "past" in columns:  # a window of a series is neither right nor wrong; the view `forecast` shows some
        return Mistakes([], None)
    outputs = pipeline.outputs(columns)
    if not outputs:
        return Mistakes([], None)
    items = (
        _classification(pipeline.task, outputs, columns, most)
        if isinstance(pipeline.task, Classification)
        else _regression(outputs, columns, most)
    )
    for item in items:
        item["origin"] = columns.origin[item["row"]] if columns.origin is not None else None
    rows = torch.tensor([item["row"] for item in items], dtype=torch.int64)
    spec = pipeline.spec.columns.get("image")
    images = (
        _pictures(columns.batch(rows)["image"], spec) if spec is not None and "image" in columns and items else None
    )
    return Mistakes(items, images)


def _classification(
    task: Classification, outputs: dict[str, Tensor], columns: Columns, most: int
) -> list[dict[str, Any]]:
    probs = task.log_probs(outputs).exp()
    labels = columns["label"]
    predicted = decide(probs, task.thresholds)
    sureness = probs.gather(1, predicted.unsqueeze(1)).squeeze(1)
    wrong = (predicted != labels).nonzero().squeeze(1)
    worst = wrong[sureness[wrong].argsort(descending=True, stable=True)][:most]
    return [
        {
            "row": row,
            "true": task.classes[int(labels[row])],
            "predicted": task.classes[int(predicted[row])],
            "probability": float(sureness[row]),
        }
        for row in worst.tolist()
    ]


def _regression(outputs: dict[str, Tensor], columns: Columns, most: int) -> list[dict[str, Any]]:
    predicted = outputs["prediction"].double()
    targets = columns["target"].double()
    spread = targets.std(dim=0, correction=0)
    errors = ((predicted - targets).abs() / torch.where(spread > 0, spread, 1.0)).amax(dim=1)
    worst = errors.argsort(descending=True, stable=True)[:most]
    return [
        {
            "row": row,
            "true": targets[row].tolist() if targets.shape[1] > 1 else float(targets[row, 0]),
            "predicted": predicted[row].tolist() if targets.shape[1] > 1 else float(predicted[row, 0]),
            "error": float(errors[row]),
        }
        for row in worst.tolist()
    ]


def _pictures(images: Tensor, spec: ColumnSpec) -> Tensor | None:
    """Pixels as bytes from 0 to 255, whatever their range is in the data."""
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
        return None
    seen = 255.0 if images.dtype == torch.uint8 else float(images.amax())
    largest = spec.maximum or seen or 1.0
    values = (images.float() * (255.0 / largest)).clamp(0, 255)
    side = max(values.shape[2:])
    if side > _MAX_SIDE:
        values = torch.nn.functional.interpolate(values, scale_factor=_MAX_SIDE / side, mode="area")
    return values.round().to(torch.uint8)


def write_mistakes(folder: Path, mistakes: Mistakes, *, split: str) -> None:
    """Write `examples.json` and, for images, `examples.safetensors` into a run folder, each whole or not at all."""
    if mistakes.images is not None:
        write_atomic(folder / "examples.safetensors", pack_tensors({"image": mistakes.images}))
    write_atomic(folder / "examples.json", dump_json({"split": split, "examples": mistakes.items}))
