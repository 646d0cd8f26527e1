"""Numbers predicted from the rows of a table.

The target is standardised inside: the model learns (target - mean) / std, with mean and standard deviation of the
training split from the data's spec, so that learning rates and initialisers mean the same whatever the unit. The loss,
and the penalties beside it, therefore see a target of spread 1; it is logged as `standardised_mse` and the like.
Predictions and metrics are in the target's own.

Source: the task `tabular-regression` of the model hubs; Galton (1886), doi:10.2307/2841583.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import DataError, DtypeError, ShapeError
from lamina.core.registry import register
from lamina.data.columns import Columns, DataSpec
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
from lamina.tasks.inputs import capability, model_input, output_width, refuse_infinite, row_name
from lamina.tasks.metrics import Metrics, RegressionMetrics
from lamina.tasks.objective import LossLike, Objective


class RegressionConfig(Config):
    """What is minimised."""

    loss: dict[str, Any] | None = Field(
        None, description="`name` of a loss and its options (the recipe's section `loss`); mse by default."
    )
    penalties: tuple[dict[str, Any], ...] = Field(
        (), description="Penalties on parameters (the recipe's section `penalties`)."
    )
    standardise: bool = Field(
        True, description="Let the model learn the target less its mean, divided by its standard deviation."
    )


@register(
    "task",
    "tabular-regression",
    config=RegressionConfig,
    source="Galton (1886), doi:10.2307/2841583",
    example="lamina train housing-mlp",
    input="features",
)
class TabularRegression(Task):
    """One or several numbers per row of a table.

    Args:
        config: A RegressionConfig.
        spec: The data's spec, raw or preprocessed; its `target` column names the targets and has their mean and std.
        loss: A function of your own, (outputs, targets, weights) -> (sum, weight), of standardised numbers.

    Raises:
        DataError: The data has no target.
    """

    Config = RegressionConfig
    reads_model_input: ClassVar[bool] = True
    config: RegressionConfig
    name: ClassVar[str] = "tabular-regression"

    def __init__(self, config: AnyConfig, spec: DataSpec, *, loss: LossLike | None = None) -> None:
        super().__init__(config, spec)
        column = spec.columns.get("target")
        if column is None or len(column.shape) != 1 or column.shape[0] < 1:
            shape = f"a target of shape {column.shape}" if column is not None else "no target"
            raise DataError(
                f"The data has {shape}.",
                where="column 'target'",
                accepts="at least one number to predict per row, shape (N, T)",
                mend="name the column with data.label=… and set data.target=number; for classes use task.name=tabular-classification",
            )
        width = column.shape[0]
        names = [field.name for field in column.fields] or [f"target {number}" for number in range(width)]
        self.targets = tuple(names[:1] if width == 1 else names)
        self.mean = tuple(column.mean or (0.0,) * width) if self.config.standardise else (0.0,) * width
        std = tuple(column.std or (1.0,) * width) if self.config.standardise else (1.0,) * width
        # A target that never varies is learned as it is.
        self.std = tuple(value if value > 0 and math.isfinite(value) else 1.0 for value in std)
        self.objective = Objective(
            loss or self.config.loss or {"name": "mse"},
            self.config.penalties,
            kind="number",
            prefix="standardised_" if self.config.standardise else "",
        )
        self._means, self._stds = torch.tensor(self.mean), torch.tensor(self.std)

    # --- checks ---

    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse a model whose input or outputs do not fit the data; one pass on meta tensors."""
        width, num_targets = output_width(model, spec, where=self.name), len(self.targets)
        if width != num_targets:
            raise ShapeError(
                f"{type(model).__name__} has {width} outputs; the data has {num_targets} "
                f"target{'s' if num_targets > 1 else ''} ({', '.join(self.targets[:8])}).",
                where=f"{self.name}, model and column 'target'",
                accepts=f"{num_targets} output{'s' if num_targets > 1 else ''}",
                mend=f"set model.num_classes={num_targets}, or leave it out to have it filled in from the data",
            )
        self.objective.check(model, width)

    def check_columns(self, columns: Columns) -> None:
        """Refuse targets that are missing or infinite or of another shape, and infinite features; one scan."""
        target = columns["target"]
        wanted = (columns.num_rows, len(self.targets))
        if tuple(target.shape) != wanted:
            raise ShapeError(
                f"The targets are shaped {tuple(target.shape)}.",
                where="column 'target'",
                accepts=f"shape {wanted}",
                mend="targets.unsqueeze(1) adds the missing axis" if target.ndim == 1 else "give a column per target",
            )
        if not target.is_floating_point():
            raise DtypeError(
                f"The targets are {str(target.dtype).removeprefix('torch.')}.",
                where="column 'target'",
                accepts="floating-point numbers",
                mend="targets.float()",
            )
        bad = ~target.isfinite()
        if bool(bad.any()):
            row, number = bad.nonzero()[0].tolist()
            raise DataError(
                f"The target {self.targets[number]!r} is {float(target[row, number])}; {int(bad.any(dim=1).sum())} rows have such.",
                where=row_name(columns, row),
                accepts="finite numbers",
                mend="leave rows without a target out",
            )
        refuse_infinite(columns)

    # --- what a batch means ---

    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """`prediction` (B, T) in the target's units, and `standardised` (B, T) as the model gave it."""
        standardised = model(model_input(batch))
        if standardised.dtype != torch.float64:
            standardised = standardised.float()
        mean, std = self._scale(standardised)
        return {"prediction": standardised * std + mean, "standardised": standardised}

    def _standardised(self, target: Tensor) -> Tensor:
        mean, std = self._scale(target)
        return (target - mean) / std

    def _scale(self, like: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Mean and standard deviation: numbers for one target, tensors (T,) for several."""
        if len(self.targets) == 1:
            return self.mean[0], self.std[0]
        # Not kept per device: what is made while a step is being traced must not outlive the tracing.
        return self._means.to(like), self._stds.to(like)

    def updates(self, model: nn.Module) -> Sequence[Update]:
        """One update: descend the loss of standardised numbers, or whatever rule a model without gradients learns by."""
        if isinstance(model, DirectLearner):
            return (direct_update(model, lambda batch: (model_input(batch), self._standardised(batch["target"]))),)

        def loss(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
            outputs = self.forward(model, batch, ctx)["standardised"]
            return self.objective(model, outputs, self._standardised(batch["target"]), batch.get("weight")), state

        return (GradientUpdate("train", model, loss),)

    def stages(self, model: nn.Module) -> Sequence[Stage]:
        """One; of a single pass where the model stores what it sees."""
        return (Stage(epochs=1 if capability(model, "single_pass") else None),)

    # --- judging and predicting ---

    def metrics(self) -> Metrics:
        """Regression metrics in the target's units; for each value of the group column too, where there is one."""
        metrics = RegressionMetrics(self.targets)
        metrics.name_groups(self.spec)
        return metrics

    def judge(self, outputs: Outputs, batch: Batch, metrics: Metrics) -> None:
        """Record predictions and targets."""
        assert isinstance(metrics, RegressionMetrics)
        metrics.update(outputs["prediction"], batch["target"], group=batch.get(metrics.group_column))

    @property
    def monitor(self) -> tuple[str, str]:
        """The mean squared error."""
        return ("mse", "min")

    def decode(self, outputs: Outputs) -> list[Prediction]:
        """Per row `value`, in the target's units; with several targets `values`, by name."""
        rows = outputs["prediction"].tolist()
        if len(self.targets) == 1:
            return [{"value": row[0]} for row in rows]
        return [{"values": dict(zip(self.targets, row, strict=True))} for row in rows]
