"""Model, task and preprocessing together: what judges and predicts, in training, from a run and from a bundle.

Nothing here leaves a trace: modules return to the mode they were in, batch-norm statistics stand still, no generator
is drawn from, no gradient is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.errors import NonFiniteError
from lamina.core.memory import keep_freed_memory
from lamina.data.columns import Columns, DataSpec, batch_to
from lamina.data.inputs import read_inputs
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import with_lengths
from lamina.data.text.encoder import MADE
from lamina.tasks.alignment import align_columns
from lamina.tasks.base import Context, Outputs, Prediction, Task
from lamina.tasks.metrics import Metrics
from lamina.tasks.rejection import judge_rejection


@dataclass
class Evaluation:
    """What judging a split came to.

    Attributes:
        metrics: Bare name -> value, those that are defined for these rows.
        num_samples: Rows judged.
        details: Confusion matrix, tables per class or target, metrics per group; computed when first asked for.
    """

    metrics: dict[str, float]
    num_samples: int
    _recorded: Metrics = field(repr=False)

    @property
    def rows(self) -> Metrics:
        """What was recorded of each row."""
        return self._recorded

    @cached_property
    def details(self) -> dict[str, Any]:
        """What does not fit a number; JSON-ready."""
        return self._recorded.details()


def evaluate(
    model: nn.Module,
    task: Task,
    preprocessing: Preprocessing,
    columns: Columns,
    *,
    batch_size: int = 256,
    device: torch.device | None = None,
    autocast: bool = False,
    channels_last: bool = False,
    spec: DataSpec | None = None,
) -> Evaluation:
    """Judge a model on labelled rows.

    Args:
        model: On `device`; its mode is restored.
        preprocessing: On `device`.
        columns: Raw columns in the model's own order (see `align_columns` for other data).
        batch_size: Rows at a time; metrics do not depend on it beyond the rounding of the model itself.
        device: Default: where the model is.
        autocast: Run the model in bf16 where that is faster; metrics are in float64 anyway.
        channels_last: Memory layout of the images.
        spec: Of `columns`, for the names of groups; default: the task's.

    Raises:
        NonFiniteError: The model gave NaN.
    """
    device = device or model_device(model)
    columns = preprocessing.encode(columns)
    metrics = task.metrics()
    if spec is not None:
        metrics.name_groups(spec)
    feed = task.feed(columns, batch_size=batch_size, seed=0, training=False)
    ctx = Context(device=device)
    with judging(model):
        for number in range(len(feed)):
            raw = feed.batch(0, number)
            batch, outputs = _forward(
                model, task, preprocessing, raw, ctx, autocast=autocast, channels_last=channels_last
            )
            task.judge(outputs, batch, metrics)
            ctx.first_row += len(raw["row"])
    return Evaluation(metrics=metrics.finish(), num_samples=metrics.num_samples, _recorded=metrics)


def model_device(model: nn.Module) -> torch.device:
    """Where a model's tensors are; the CPU for a model without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def _forward(
    model: nn.Module,
    task: Task,
    preprocessing: Preprocessing,
    raw: dict[str, Tensor],
    ctx: Context,
    *,
    autocast: bool,
    channels_last: bool,
) -> tuple[dict[str, Tensor], Outputs]:
    batch = preprocessing(batch_to(raw, ctx.device))
    if channels_last and "image" in batch:
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
    with torch.autocast(ctx.device.type, dtype=torch.bfloat16, enabled=autocast):
        outputs = task.forward(model, batch, ctx)
    return batch, outputs


@contextlib.contextmanager
def judging(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    if model_device(model).type == "cpu":
        keep_freed_memory()
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _refuse_nan(outputs: Outputs, names: Sequence[str]) -> None:
    """A prediction of NaN is no prediction."""
    for name, tensor in outputs.items():
        bad = tensor.isnan().flatten(start_dim=1).any(dim=1) if tensor.ndim > 1 else tensor.isnan()
        if bool(bad.any()):
            raise NonFiniteError(
                f"The model gave NaN ({name}) for {int(bad.sum())} of {len(bad)} inputs.",
                where=names[int(bad.nonzero()[0, 0])],
                accepts="finite outputs",
                mend="look for NaN or infinite values in the input; a model that always gives NaN has to be trained again",
            )


def _refused(prediction: Prediction, score: float, least: float) -> Prediction:
    rejected = score < least
    label = {"label": None} if rejected else {}
    return {**prediction, **label, "rejected": rejected, "score": score}


class Pipeline:
    """A trained model with what it needs: raw columns in, metrics or predictions out.

    Args:
        model: Any module that the task can call.
        task: What a batch means; holds the decision thresholds.
        preprocessing: As fitted in training.
        spec: Of the raw data; default: the preprocessing's own.

    Example:
        >>> from lamina.data.loading import load_data                                     # doctest: +SKIP
        >>> pipeline.predict("photo.png")[0]["label"]                                     # doctest: +SKIP
    """

    def __init__(
        self, model: nn.Module, task: Task, preprocessing: Preprocessing, spec: DataSpec | None = None
    ) -> None:
        self.model = model
        self.task = task
        self.preprocessing = preprocessing
        self.spec = spec or preprocessing.input_spec

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return model_device(self.model)

    def to(self, device: torch.device | str) -> Pipeline:
        """Move model and preprocessing; returns itself."""
        self.model.to(device)
        self.preprocessing.to(device)
        return self

    def evaluate(
        self, columns: Columns, *, spec: DataSpec | None = None, batch_size: int = 256, autocast: bool = False
    ) -> Evaluation:
        """Judge on labelled raw columns.

        Args:
            spec: Of `columns` where they do not come from the training data: classes and features then match by name.
            autocast: Run the model in bf16.

        Raises:
            DataError: Classes or features that the model does not know, values out of range, no labels.
            NonFiniteError: The model gave NaN.
        """
        if spec is not None:
            columns = align_columns(columns, found=spec, wanted=self.spec, needed=self._needed())
        self.task.check_columns(columns)
        return evaluate(
            self.model,
            self.task,
            self.preprocessing.to(self.device),
            columns,
            batch_size=batch_size,
            autocast=autocast,
            spec=spec,
        )

    def _needed(self) -> list[str]:
        names = [name for name in self.task.input_columns() if name in self.spec.columns]
        return [
            *names,
            *(name for name, column in self.spec.columns.items() if column.role in ("label", "target", "tags")),
        ]

    def chunks(self, columns: Columns, *, batch_size: int = 256, autocast: bool = False) -> Iterator[Outputs]:
        """The model's outputs batch by batch, on the CPU; `columns` are raw and need no labels."""
        preprocessing = self.preprocessing.to(self.device)
        columns = preprocessing.encode(columns)
        names = {*self.task.input_columns(), *MADE, "row"}
        ctx = Context(device=self.device)
        for raw in columns.chunks(batch_size):
            given = with_lengths(raw, names)
            # Entered anew for each batch: a generator must not keep the caller in inference mode between two of them.
            with judging(self.model):
                _, outputs = _forward(
                    self.model, self.task, preprocessing, given, ctx, autocast=autocast, channels_last=False
                )
            ctx.first_row += len(raw["row"])
            # Plain copies: what inference mode made could not be used where gradients are wanted.
            yield {name: tensor.cpu().clone() for name, tensor in outputs.items()}

    def outputs(self, columns: Columns, *, batch_size: int = 256, autocast: bool = False) -> Outputs:
        """The model's outputs for all rows, on the CPU: `logits`, or `prediction` for numbers."""
        pieces = list(self.chunks(columns, batch_size=batch_size, autocast=autocast))
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]} if pieces else {}

    def predict(
        self, inputs: Any, *, batch_size: int = 256, channels_first: bool | None = None, reject: bool = False
    ) -> list[Prediction]:
        """Predictions for inputs of any kind.

        Args:
            inputs: Paths of files or folders, arrays, tensors, tables, pictures; see `lamina.data.inputs`.
            channels_first: Whether image arrays are NCHW or NHWC; needed only where both fit.
            reject: Give no label to what looks like none of the known classes: each prediction then says `rejected` and
                `score`, and `label` is None where it was rejected (see `lamina.tasks.rejection`).

        Returns:
            One JSON-ready mapping per row with `input`, its name, and what the task's `decode` says.

        Raises:
            DataError, ShapeError: The inputs are not what the model was trained on.
            UsageError: `reject` is asked of a model that has no threshold for it.
        """
        columns, names = read_inputs(inputs, self.spec, channels_first=channels_first)
        predictions: list[Prediction] = []
        for outputs in self.chunks(columns, batch_size=batch_size):
            _refuse_nan(outputs, names[len(predictions) :])
            found = self.task.complete(self.task.decode(outputs), columns.raw, len(predictions))
            if reject:
                scores, least = self.task.insider_scores(outputs)
                found = [_refused(one, score, least) for one, score in zip(found, scores.tolist(), strict=True)]
            predictions += found
        return [{"input": name, **found} for name, found in zip(names, predictions, strict=True)]

    def judge_outsiders(
        self, columns: Columns, outsiders: Any, *, spec: DataSpec | None = None, batch_size: int = 256
    ) -> dict[str, Any]:
        """How many inputs of no class pass, and how many rows of known classes are refused; JSON-ready.

        Args:
            columns: Raw rows of known classes, and their `spec` where they do not come from the training data.
            outsiders: Inputs of any kind, as `predict` takes them; labels are ignored.

        Raises:
            UsageError: The model has no threshold (see `choose_rejection`).
            DataError: There are no rows on either side.
        """
        if spec is not None:
            columns = align_columns(columns, found=spec, wanted=self.spec)
        strangers, _ = read_inputs(outsiders, self.spec)
        inside, threshold = self._insider_scores(columns, batch_size)
        return judge_rejection(inside, self._insider_scores(strangers, batch_size)[0], threshold=threshold)

    def _insider_scores(self, columns: Columns, batch_size: int) -> tuple[Tensor, float]:
        found = [self.task.insider_scores(outputs) for outputs in self.chunks(columns, batch_size=batch_size)]
        return torch.cat([scores for scores, _ in found]), found[0][1]

    def choose_rejection(self, evaluation: Evaluation | None) -> dict[str, float]:
        """Let the task choose from the judged validation rows what outsiders are refused by; costs no further pass."""
        return self.task.choose_rejection(evaluation.rows) if evaluation is not None else {}

    def choose_thresholds(self, columns: Columns) -> dict[str, float]:
        """Let the task choose its decision thresholds on held-out rows, as its config asks; says which are set."""
        if not self.task.chooses_thresholds:
            return {}
        return self.task.choose_thresholds(self.outputs(columns), columns)
