"""What the classification tasks share: one of several classes per row.

A model gives logits (B, C), or (B, 1) for two classes: the score of the second. The loss says what they mean: its
`log_probs` turns them into log-probabilities, by which everything is judged and decoded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError, DataError, DtypeError, ShapeError, UsageError
from lamina.data.columns import Columns, DataSpec
from lamina.nn.losses import CallableLoss
from lamina.tasks.base import (
    AnyConfig,
    Batch,
    Context,
    DirectLearner,
    GradientUpdate,
    Losses,
    Outputs,
    Prediction,
    Stage,
    State,
    Task,
    Update,
    direct_update,
)
from lamina.tasks.inputs import capability, model_input, output_width, refuse_infinite, row_name, run_model
from lamina.tasks.metrics import ClassificationMetrics, Metrics
from lamina.tasks.objective import LossLike, Objective
from lamina.tasks.rejection import choose_insider, fit_temperature, insider_scores
from lamina.tasks.thresholds import Thresholds, choose_positive, choose_reject, decide


class ClassificationConfig(Config):
    """What is minimised and how decisions are taken."""

    loss: dict[str, Any] | None = Field(
        None, description="`name` of a loss and its options (the recipe's section `loss`); cross-entropy by default."
    )
    penalties: tuple[dict[str, Any], ...] = Field(
        (), description="Penalties on parameters (the recipe's section `penalties`)."
    )
    class_weights: tuple[float, ...] | None = Field(
        None, description="Weight of each class in the loss, in class order; data.balance=weight fills it in."
    )
    threshold: Literal["most-probable", "accuracy", "balanced_accuracy", "f1", "cost"] = Field(
        "most-probable",
        description="Two classes: what the decision threshold, chosen on the validation split, is best for.",
    )
    false_positive_cost: float = Field(
        1.0, description="With threshold=cost: cost of deciding for the second class wrongly.", ge=0
    )
    false_negative_cost: float = Field(
        1.0, description="With threshold=cost: cost of deciding for the first class wrongly.", ge=0
    )
    reject_accuracy: float | None = Field(
        None,
        description="Leave rows undecided so that the decided rows of the validation split reach this accuracy.",
        gt=0,
        le=1,
    )
    reject_share: float | None = Field(
        0.05,
        description="For `predict --reject`: at most this share of the known classes' rows is refused, by the validation split.",
        gt=0,
        lt=1,
    )


class Classification(Task):
    """One of several classes per row.

    Args:
        config: A ClassificationConfig.
        spec: The data's spec, raw or preprocessed; its `label` column names the classes.
        loss: A function of your own, (logits, targets, weights) -> (sum, weight); it takes the place of config.loss.

    Raises:
        DataError: The data has no labels, or fewer than two classes.
    """

    Config = ClassificationConfig
    reads_model_input: ClassVar[bool] = True
    config: ClassificationConfig

    def __init__(self, config: AnyConfig, spec: DataSpec, *, loss: LossLike | None = None) -> None:
        super().__init__(config, spec)
        self.classes = _classes(spec)
        weights = self.config.class_weights
        if weights is not None and len(weights) != len(self.classes):
            raise ConfigError(
                f"There are {len(weights)} class weights for {len(self.classes)} classes.",
                where="task.class_weights",
                accepts=f"{len(self.classes)} numbers, in the order of {', '.join(self.classes[:12])}",
                mend="leave it out and set data.balance=weight, which counts the classes",
            )
        if self.config.threshold != "most-probable" and len(self.classes) != 2:
            raise ConfigError(
                f"threshold={self.config.threshold} needs two classes; the data has {len(self.classes)}.",
                where="task.threshold",
                accepts="most-probable with more than two classes",
                mend="leave task.threshold out",
            )
        self.objective = Objective(
            loss or self.config.loss or {"name": "cross-entropy"},
            self.config.penalties,
            kind="label",
            num_classes=len(self.classes),
            class_weights=weights,
        )
        self.thresholds = Thresholds()

    # --- checks ---

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse a model whose input or outputs do not fit the data; one pass on meta tensors."""
        label = spec.columns["label"]
        if label.shape != ():
            raise ShapeError(
                f"The labels have {label.shape} values per row.",
                where="column 'label'",
                accepts="one whole number per row, shape (N,)",
                mend="labels.squeeze(1) where that axis is 1; one-hot labels: labels.argmax(1)",
            )
        width = output_width(model, spec, where=self.name)
        num_classes = len(self.classes)
        if width != num_classes and not (width == 1 and num_classes == 2):
            raise ShapeError(
                f"{type(model).__name__} has {width} outputs; the data has {num_classes} classes.",
                where=f"{self.name}, model and column 'label'",
                accepts=f"{num_classes} outputs" + (", or 1 for two classes" if num_classes == 2 else ""),
                mend=f"set model.num_classes={num_classes}, or leave it out to have it filled in from the data",
            )
        self.objective.check(model, width)

    def check_columns(self, columns: Columns) -> None:
        """Refuse labels outside the classes and values that are infinite; one scan."""
        labels = columns["label"]
        if labels.ndim != 1:
            raise ShapeError(
                f"The labels are shaped {tuple(labels.shape)}.",
                where="column 'label'",
                accepts=f"shape ({len(labels)},)",
                mend="labels.squeeze(1) where the last axis is 1; one-hot labels: labels.argmax(1)",
            )
        if labels.dtype != torch.int64:
            raise DtypeError(
                f"The labels are {str(labels.dtype).removeprefix('torch.')}.",
                where="column 'label'",
                accepts="int64 class indices",
                mend="labels.long(), if they are indices from 0",
            )
        outside = (labels < 0) | (labels >= len(self.classes))
        if bool(outside.any()):
            row = int(outside.nonzero()[0, 0])
            raise DataError(
                f"The label {int(labels[row])} is outside the classes; {int(outside.sum())} rows have such labels.",
                where=row_name(columns, row),
                accepts=f"0 to {len(self.classes) - 1}, for {', '.join(map(repr, self.classes[:12]))}",
                mend="name all classes in the spec, or leave the row out",
            )
        refuse_infinite(columns)

    # --- what a batch means ---

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """`logits`, (B, C) or (B, 1), from the preprocessed `image`, `features` or `input_ids`."""
        return {"logits": run_model(model, batch)}

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """One update: descend the loss, or whatever rule a model without gradients learns by."""
        if isinstance(model, DirectLearner):
            return (direct_update(model, lambda batch: (model_input(batch), batch["label"])),)

        def loss(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            logits = self.forward(model, batch, ctx)["logits"]
            losses = self.objective(
                model,
                logits,
                batch["label"],
                batch.get("weight"),
                others=batch.get("label_other"),
                mix=batch.get("mix"),
            )
            return losses, state

        return (GradientUpdate("train", model, loss),)

    def refuse_mixed(self, model: nn.Module) -> str | None:
        """Why rows mixed of two (mixup, CutMix) cannot be learned from, as a clause; None: they can."""
        if isinstance(model, DirectLearner):
            return f"{type(model).__name__} learns by a rule of its own, from rows of one class"
        if isinstance(self.objective.loss, CallableLoss):  # known only by trying it
            labels = torch.zeros(2, dtype=torch.int64)
            try:
                self.objective.loss(torch.zeros(2, len(self.classes)), labels, weights=torch.full((2,), 0.5))
            except ConfigError as error:
                return f"the two labels are mixed by row weights. {error.what[:-1]}"
        return None

    def stages(self, model: nn.Module) -> Sequence[Stage]:
        """One; of a single pass where the model stores what it sees."""
        return (Stage(epochs=1 if capability(model, "single_pass") else None),)

    # --- judging ---

    def metrics(self) -> Metrics:
        """Classification metrics; for each value of the group column too, where there is one."""
        metrics = ClassificationMetrics(self.classes)
        metrics.name_groups(self.spec)
        return metrics

    def judge(self, outputs: Outputs, batch: Batch, metrics: Metrics) -> None:
        """Record log-probabilities, decisions and labels."""
        assert isinstance(metrics, ClassificationMetrics)
        log_probs = self.log_probs(outputs)
        predicted = None if self.thresholds.positive is None else decide(log_probs.exp(), self.thresholds)
        metrics.update(log_probs, batch["label"], predicted=predicted, group=batch.get(metrics.group_column))

    def log_probs(self, outputs: Outputs) -> Tensor:
        """Log-probabilities (B, C), float32 or wider, from the logits."""
        logits = outputs["logits"]
        return self.objective.log_probs(logits if logits.dtype == torch.float64 else logits.float())

    @property
    def monitor(self) -> tuple[str, str]:
        """Cross-entropy where the loss models probabilities, accuracy where it does not (hinge, squared error)."""
        return ("cross_entropy", "min") if self.objective.is_likelihood else ("accuracy", "max")

    # --- decisions ---

    @property
    def chooses_thresholds(self) -> bool:
        """Whether config.threshold or config.reject_accuracy ask for it."""
        return self.config.threshold != "most-probable" or self.config.reject_accuracy is not None

    def choose_thresholds(self, outputs: Outputs, columns: Columns) -> dict[str, float]:
        """Choose what config.threshold and config.reject_accuracy ask for; nothing by default."""
        probs, labels = self.log_probs(outputs).exp(), columns["label"]
        chosen = Thresholds()
        if self.config.threshold != "most-probable":
            positive = choose_positive(
                probs[:, 1],
                labels,
                objective=self.config.threshold,
                false_positive_cost=self.config.false_positive_cost,
                false_negative_cost=self.config.false_negative_cost,
            )
            chosen = Thresholds(positive=positive)
        if self.config.reject_accuracy is not None:
            correct = decide(probs, chosen) == labels
            reject = choose_reject(probs.amax(dim=1), correct, accuracy=self.config.reject_accuracy)
            chosen = Thresholds(positive=chosen.positive, reject=reject)
        self.thresholds = chosen
        return chosen.given()

    def choose_rejection(self, metrics: Metrics) -> dict[str, float]:
        """Choose temperature and threshold of `predict --reject`; nothing where the rows are too few for the share."""
        rows = metrics.recorded()
        if self.config.reject_share is None or not rows:
            return {}
        temperature, scores = 1.0, rows["confidence"]
        if "scores" in rows:  # with very many classes only the largest probability is kept
            temperature = fit_temperature(rows["scores"], rows["targets"])
            scores = insider_scores(rows["scores"], temperature=temperature)
        insider = choose_insider(scores, share=self.config.reject_share)
        if insider is None:
            return {}
        chosen = Thresholds(insider=insider, temperature=temperature)
        self.thresholds = Thresholds.from_values({**self.thresholds.given(), **chosen.given()}, where="thresholds")
        return chosen.given()

    def insider_scores(self, outputs: Outputs) -> tuple[Tensor, float]:
        """The largest probability after temperature scaling, float (B,), and the threshold of `predict --reject`."""
        insider = self.thresholds.insider
        if insider is None:
            share = self.config.reject_share
            wanted = "a share" if share is None else f"at least {math.ceil(1 / share - 1)} validation rows"
            raise UsageError(
                "There is no threshold by which outsiders could be refused.",
                where="thresholds of the bundle",
                accepts="a model that was trained with a validation split and task.reject_share",
                mend=f"train again with {wanted} (task.reject_share=0.05), or leave --reject or --outsiders out",
            )
        return insider_scores(self.log_probs(outputs), temperature=self.thresholds.temperature or 1.0), insider

    def thresholds_from(self, values: Mapping[str, float]) -> None:
        """Use these thresholds, as a bundle keeps them."""
        self.thresholds = Thresholds.from_values(values, where="thresholds")

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """Per row `label`, its `probability`, and the `probabilities` of all classes by name.

        Where `thresholds.reject` leaves a row undecided, `label` is None and `probability` the largest one.
        """
        probs = self.log_probs(outputs).exp()
        decided = decide(probs, self.thresholds)
        own = probs.gather(1, decided.unsqueeze(1)).squeeze(1)
        largest = probs.amax(dim=1)
        reject = self.thresholds.reject or 0.0
        predictions: list[Prediction] = []
        for row, index, probability, top in zip(
            probs.tolist(), decided.tolist(), own.tolist(), largest.tolist(), strict=True
        ):
            rejected = top < reject
            predictions.append(
                {
                    "label": None if rejected else self.classes[index],
                    "probability": top if rejected else probability,
                    "probabilities": dict(zip(self.classes, row, strict=True)),
                }
            )
        return predictions


def _classes(spec: DataSpec) -> tuple[str, ...]:
    classes = spec.classes
    if len(classes) < 2:
        what = f"only the class {classes[0]!r}" if classes else "no classes"
        if classes and any(column.role == "image" for column in spec.columns.values()):
            # Mostly folders of photographs, whose labels are no column that could be named.
            raise DataError(
                f"The data has {what}.",
                where="labels of the images",
                accepts="images of at least two classes",
                mend="lay the images of each class into a folder of its own, PATH/CLASS/FILE; of a table, name the column "
                "of the labels with data.label=…",
            )
        raise DataError(
            f"The data has {what}.",
            where="column 'label'",
            accepts="a label column with at least two classes",
            mend="name the column of the labels with data.label=…; for a number to predict, use task=tabular-regression",
        )
    return classes
