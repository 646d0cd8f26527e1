"""What the views that judge rows share: the rows themselves, the pipeline, probabilities, and a keyed choice of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lamina.core import draws
from lamina.core.errors import UsageError
from lamina.data.columns import Columns
from lamina.explain.views import Subject, refusal
from lamina.tasks.classification import Classification
from lamina.tasks.pipeline import Pipeline
from lamina.tasks.thresholds import decide

__all__ = ["Judged", "choose_rows", "judge", "judged_rows"]


@dataclass(frozen=True)
class Judged:
    """Labelled rows with what the model says about them.

    Attributes:
        rows: Their places in the split, int64 (N,).
        probs: (N, C).
        predicted, labels: int64 (N,).
        classes: Class names.
    """

    rows: Tensor
    probs: Tensor
    predicted: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of rows that are judged rightly."""
        return float((self.predicted == self.labels).double().mean())


def judged_rows(subject: Subject, view: str, *, images: bool = False) -> tuple[Pipeline, Columns]:
    """The pipeline and the labelled rows of a subject that classifies.

    Args:
        images: The view changes pictures.

    Raises:
        UsageError: There are no rows, no labels, no classes, or no images where images are needed.
    """
    columns = subject.columns
    if columns is None or subject.task is None or subject.preprocessing is None:
        raise UsageError(
            "This view needs labelled rows to judge.",
            where=f"view {view}",
            accepts="a bundle with --data PATH, or a run, whose own validation or test split is used",
            mend=f"lamina inspect BUNDLE {view} --data PATH; in Python subject_of(bundle, columns=data.splits['valid'])",
        )
    if not isinstance(subject.task, Classification):
        raise refusal(
            view,
            f"The model is a {subject.task.name}; this view is for classifiers.",
            mend="`lamina report RUN` shows the rows with the largest errors",
        )
    if images and "image" not in columns:
        raise refusal(
            view,
            "The rows are not images, so there is nothing to shift, turn or cover.",
            mend="for tables, the view mistakes shows the wrong and unsure rows",
            usable=["layers", "embedding", "mistakes"],
        )
    if "label" not in columns:
        raise UsageError(
            "The rows have no labels.",
            where=f"view {view}",
            accepts="rows with a label column",
            mend="name the column of the labels with data.label=…",
        )
    return Pipeline(subject.model, subject.task, subject.preprocessing), columns


def choose_rows(columns: Columns, most: int, *, seed: int) -> Tensor:
    """At most so many rows, drawn by seed, in their order; int64."""
    if columns.num_rows <= most:
        return torch.arange(columns.num_rows)
    chosen = draws.permutation(seed, "sample", "view", num_rows=columns.num_rows)[:most]
    return chosen.sort().values


def judge(pipeline: Pipeline, batch: dict[str, Tensor], rows: Tensor) -> Judged:
    """What a classifier says about raw rows, (N, …) per column, `label` among them."""
    task: Any = pipeline.task
    columns = Columns({name: tensor for name, tensor in batch.items() if name != "row"})
    probs = task.log_probs(pipeline.outputs(columns)).exp()
    return Judged(rows, probs, decide(probs, task.thresholds), batch["label"], task.classes)


def pixel_maximum(pipeline: Pipeline, images: Tensor) -> float:
    """The brightest value that a pixel can have: of the spec, of the bytes, or the largest there is."""
    column = pipeline.preprocessing.input_spec.column("image")
    if column is not None and column.maximum is not None:
        return column.maximum
    return 255.0 if images.dtype == torch.uint8 else float(images.max()) or 1.0


def as_given(images: Tensor, like: Tensor) -> Tensor:
    """In the element type of the data; whole numbers rounded."""
    return images.to(like.dtype) if like.is_floating_point() else images.round().to(like.dtype)
