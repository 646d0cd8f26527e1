"""What is looked into, made from what people have: a bundle, a pipeline, or any module with tensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lamina.core.errors import UsageError
from lamina.core.registry import lookup
from lamina.data.columns import Columns, ColumnSpec, DataSpec, Role, column_spec
from lamina.data.inputs import read_inputs
from lamina.data.preprocessing import Preprocessing
from lamina.explain.views import Subject
from lamina.tasks.base import Task
from lamina.tasks.bundle import Bundle
from lamina.tasks.inputs import model_input, model_inputs
from lamina.tasks.pipeline import Pipeline, model_device

__all__ = ["give_inputs", "subject_of"]

_MOST_INPUTS: Final = 64
# Axes of a batch -> column, its role, and the task of classifying such rows.
_KINDS: Final[dict[int, tuple[str, Role, str]]] = {
    2: ("number", "number", "tabular-classification"),
    3: ("signal", "series", "time-series-classification"),
    4: ("image", "image", "image-classification"),
    5: ("volume", "volume", "volume-classification"),
}


def subject_of(
    thing: nn.Module | Pipeline | Bundle,
    *,
    name: str = "",
    inputs: Any = None,
    labels: Tensor | None = None,
    classes: Sequence[str] = (),
    columns: Columns | None = None,
    split: str = "",
) -> Subject:
    """A subject for `show_view`.

    Args:
        thing: A bundle or pipeline, or any module of your own that maps (B, …) to logits (B, classes).
        name: For titles.
        inputs: What is looked at. Of a bundle or pipeline: paths, arrays, pictures, as `predict` takes them; a bundle's
            golden examples by default. Of a module: a float tensor (B, …), as it reads it.
        labels: Of a module: int64 (B,), one per input; with them, views that judge work as well.
        classes: Of a module: names of its outputs.
        columns: Of a bundle or pipeline: raw labelled rows, such as `data.splits["valid"]`.
        split: What the rows are called.

    Raises:
        UsageError: Labels without inputs, or of another number.
        DataError, ShapeError: The inputs are not what the model was trained on.

    Example:
        >>> from torch import nn
        >>> from lamina.explain.views import show_view
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        >>> subject = subject_of(model, inputs=torch.zeros(2, 1, 8, 8))
        >>> show_view("saliency", subject, method="gradient").arrays["gradient"].shape
        (2, 1, 8, 8)
    """
    if isinstance(thing, nn.Module):
        return _of_module(thing, name=name, inputs=inputs, labels=labels, classes=classes, split=split)
    pipeline = thing.pipeline if isinstance(thing, Bundle) else thing
    subject = Subject(
        pipeline.model,
        name=name,
        spec=pipeline.preprocessing.spec,
        preprocessing=pipeline.preprocessing,
        task=pipeline.task,
        columns=columns,
        split=split,
    )
    if inputs is not None:
        read, names = read_inputs(inputs, pipeline.spec)
        give_inputs(subject, read, names)
    elif isinstance(thing, Bundle):
        golden = {key.removeprefix("input."): t for key, t in thing.parts.golden.items() if key.startswith("input.")}
        if golden:
            rows = len(next(iter(golden.values())))
            give_inputs(subject, Columns(golden), [f"golden example {row}" for row in range(rows)])
            subject.own_examples = True
    return subject


def give_inputs(subject: Subject, columns: Columns, names: Sequence[str]) -> None:
    """Let a subject look at raw rows, the first 64 of them, preprocessed as in training."""
    assert subject.preprocessing is not None
    raw = columns.batch(torch.arange(min(columns.num_rows, _MOST_INPUTS)))
    device = model_device(subject.model)
    batch = subject.preprocessing.to(device)({key: tensor.to(device) for key, tensor in raw.items()})
    subject.inputs = model_inputs(subject.model, batch) or model_input(batch)
    subject.own_examples = False
    subject.raw = next((raw[column] for column in ("image", "signal", "volume") if column in raw), None)
    subject.input_names = [Path(name).name if "/" in name else name for name in names[:_MOST_INPUTS]]


def _of_module(
    model: nn.Module, *, name: str, inputs: Any, labels: Tensor | None, classes: Sequence[str], split: str
) -> Subject:
    if inputs is not None and not isinstance(inputs, Tensor):
        raise UsageError(
            f"The inputs of a module of your own are a {type(inputs).__name__}.",
            where="subject_of, argument `inputs`",
            accepts="a float tensor (batch, …), as the module reads it",
            mend="torch.as_tensor(array) makes a tensor; a bundle takes files and arrays as well",
        )
    if labels is None:
        spec = None
        if classes:
            spec = DataSpec(
                columns={"label": ColumnSpec(role="label", dtype="int64", classes=tuple(classes))}, num_rows={}
            )
        return Subject(model, name=name, inputs=inputs, spec=spec)
    if inputs is None or labels.shape != (len(inputs),) or labels.dtype != torch.int64:
        got = "nothing" if inputs is None else f"inputs shaped {tuple(inputs.shape)}"
        raise UsageError(
            f"Labels of {str(labels.dtype).removeprefix('torch.')} shaped {tuple(labels.shape)} came with {got}.",
            where="subject_of, argument `labels`",
            accepts="int64 (B,), one label per input",
            mend="give inputs and labels of the same number of rows",
        )
    if inputs.ndim not in _KINDS:
        raise UsageError(
            f"The inputs are shaped {tuple(inputs.shape)}.",
            where="subject_of, argument `inputs`",
            accepts="(B, F), or (B, C, …) with one to three axes of positions",
            mend="inputs.unsqueeze(1) adds the channel of grey images",
        )
    column, role, task_name = _KINDS[inputs.ndim]
    known = tuple(classes) or tuple(str(number) for number in range(max(int(labels.max()) + 1, 2)))
    rows = Columns({column: inputs, "label": labels})
    spec = DataSpec(
        columns={
            column: column_spec(role, inputs),
            "label": column_spec("label", labels, classes=known),
        },
        num_rows={split or "all": rows.num_rows},
    )
    preprocessing = Preprocessing.fit([{"name": "none"}], rows, spec)
    entry = lookup("task", task_name)
    assert entry.config is not None
    task = entry.target(entry.config(), preprocessing.spec)
    assert isinstance(task, Task)
    subject = Subject(
        model, name=name, spec=preprocessing.spec, preprocessing=preprocessing, task=task, columns=rows, split=split
    )
    subject.inputs = inputs[:_MOST_INPUTS]
    return subject
