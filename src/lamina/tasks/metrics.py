"""Metrics: what is recorded while judging, on the device and without reading it back, and what comes of it at the end.

Recording a batch appends a few small tensors per row; everything is computed once in `finish`, on the CPU in float64
(the formulas are in `tasks/formulas.py`). The result therefore depends on the rows and their order alone, never on
where batches began. Memory: about 40 bytes a row, and 4 bytes per class and row up to 256 classes (for ROC-AUC).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core.errors import NonFiniteError, ShapeError
from lamina.data.columns import DataSpec
from lamina.tasks.formulas import ClassificationRecords, RegressionRecords, compute

MAX_SCORED_CLASSES: Final = 256
MAX_GROUPS: Final = 1000
# What a probability of exactly 0 counts as, scikit-learn's choice for float64; a finite log-probability is never changed.
_LOG_ZERO: Final = -36.04365338911715
_CHUNKS: Final = 64


class _Rows:
    """Named per-row tensors, appended batch by batch; joined now and then so that single rows do not cost a tensor each."""

    def __init__(self) -> None:
        self._levels: list[dict[str, list[Tensor]]] = [{}]
        self.count = 0

    def append(self, rows: Mapping[str, Tensor], level: int = 0) -> None:
        if level == len(self._levels):
            self._levels.append({})
        if level == 0:
            self.count += len(next(iter(rows.values())))
        lists = self._levels[level]
        for name, tensor in rows.items():
            lists.setdefault(name, []).append(tensor)
        if len(next(iter(lists.values()))) == _CHUNKS:
            # Each row is copied once per level, so joining costs little and keeps at most 64 pieces a level.
            self._levels[level] = {}
            self.append({name: torch.cat(pieces) for name, pieces in lists.items()}, level + 1)

    def joined(self) -> dict[str, Tensor]:
        """All rows in the order of appending; empty before the first."""
        names = {name: None for lists in self._levels for name in lists}
        return {name: torch.cat([t for lists in self._levels[::-1] for t in lists.get(name, [])]) for name in names}


class Metrics(ABC):
    """Accumulates judged rows. A task makes a fresh one for each split that it judges."""

    def __init__(self, *, group_names: Sequence[str] = (), group_column: str = "group") -> None:
        self._rows = _Rows()
        self._group_names = tuple(group_names)
        self.group_column = group_column

    def name_groups(self, spec: DataSpec) -> None:
        """Take the group column and the names of its values from the spec of the judged data."""
        for name, column in spec.columns.items():
            if column.role == "group":
                self.group_column, self._group_names = name, column.classes or ()
                return

    @property
    def num_samples(self) -> int:
        """Rows recorded so far."""
        return self._rows.count

    def state(self) -> dict[str, Tensor]:
        """What was recorded, for a checkpoint; `load_state` restores it."""
        return self._rows.joined()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Replace what was recorded."""
        self._rows = _Rows()
        if state:
            self._rows.append(state)

    def recorded(self) -> dict[str, Tensor]:
        """What was recorded per row, on the CPU; empty before the first row."""
        return {name: tensor.cpu() for name, tensor in self._rows.joined().items()}

    @abstractmethod
    def finish(self) -> dict[str, float]:
        """All metrics that are defined for the recorded rows, by bare name. Reads the device once.

        Raises:
            ShapeError: Nothing was recorded.
            NonFiniteError: The model gave NaN for a row (for regression also an infinity); names the first.
        """

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What does not fit a number: confusion matrix, tables per class or target, metrics per group; JSON-ready."""

    def _read(self) -> dict[str, Tensor]:
        rows = {name: tensor.cpu() for name, tensor in self._rows.joined().items()}
        if not rows:
            raise ShapeError(
                "There is nothing to judge: no row was recorded.",
                where="Metrics.finish",
                accepts="at least one row",
                mend="judge a split that has rows; `lamina data` lists the splits",
            )
        return rows

    def _refuse_non_finite(self, bad: Tensor) -> None:
        if bool(bad.any()):
            first = int(bad.nonzero()[0, 0])
            raise NonFiniteError(
                f"The model gave numbers that are not finite for {int(bad.sum())} of {len(bad)} rows.",
                where=f"row {first} of the judged split is the first",
                accepts="finite outputs",
                mend="train with a lower optimizer.lr or training.clip_norm=1.0, and look for infinite input values with `lamina data`",
            )

    def _by_group(
        self, rows: Mapping[str, Tensor], family: str, records: ClassificationRecords | RegressionRecords
    ) -> dict[str, Any]:
        """Every metric for each value of the group column (the 1000 with most rows), under the value's name."""
        if "group" not in rows:
            return {}
        values, counts = rows["group"].unique(return_counts=True)
        largest = counts.argsort(descending=True, stable=True)[:MAX_GROUPS].sort().values
        found = {}
        for value, count in zip(values[largest].tolist(), counts[largest].tolist(), strict=True):
            name = self._group_names[value] if 0 <= value < len(self._group_names) else str(value)
            found[name] = {"num_samples": count, **compute(family, records.rows(rows["group"] == value))}
        return {"groups": {self.group_column: found}, "num_groups": len(values)}


class ClassificationMetrics(Metrics):
    """Metrics of decisions for one of C classes.

    Args:
        classes: Class names in index order.
        group_names: Names of the values of the group column.
        group_column: Its name.
    """

    def __init__(self, classes: Sequence[str], *, group_names: Sequence[str] = (), group_column: str = "group") -> None:
        super().__init__(group_names=group_names, group_column=group_column)
        self.classes = tuple(classes)

    def update(
        self, log_probs: Tensor, targets: Tensor, *, predicted: Tensor | None = None, group: Tensor | None = None
    ) -> None:
        """Record a batch; nothing is read back from the device.

        Args:
            log_probs: float (B, C), normalised log-probabilities; kept in float32 (float64 where given so).
            targets: int64 (B,), true classes.
            predicted: int64 (B,), decided classes; default: the most probable, the first of equals.
            group: int64 (B,), value of the group column.

        Raises:
            ShapeError: (B, C) and (B,) do not fit; nothing is broadcast.
        """
        num_classes = len(self.classes)
        for name, tensor, wanted in (
            ("log_probs", log_probs, (len(targets), num_classes)),
            ("targets", targets, (len(log_probs),)),
            ("predicted", predicted, (len(log_probs),)),
            ("group", group, (len(log_probs),)),
        ):
            if tensor is not None and tuple(tensor.shape) != wanted:
                raise _shape_error("ClassificationMetrics", name, tensor, wanted)
        log_probs = log_probs.detach()
        if log_probs.dtype != torch.float64:
            log_probs = log_probs.float()
        column = targets.unsqueeze(1)
        own = log_probs.gather(1, column)
        index = torch.arange(num_classes, device=log_probs.device)
        before = (log_probs > own) | ((log_probs == own) & (index < column))
        rows = {
            "targets": targets,
            "predicted": log_probs.argmax(dim=1) if predicted is None else predicted,
            "log_prob": own.squeeze(1),
            "confidence": log_probs.amax(dim=1).exp(),
            "rank": before.sum(dim=1),
        }
        if num_classes <= MAX_SCORED_CLASSES:
            rows["scores"] = log_probs
        if group is not None:
            rows["group"] = group
        self._rows.append(rows)

    def _records(self) -> tuple[dict[str, Tensor], ClassificationRecords]:
        rows = self._read()
        self._refuse_non_finite(rows["confidence"].isnan() | rows["log_prob"].isnan())
        log_prob = rows["log_prob"].double()
        records = ClassificationRecords(
            num_classes=len(self.classes),
            targets=rows["targets"],
            predicted=rows["predicted"],
            log_prob=torch.where(log_prob.isneginf(), _LOG_ZERO, log_prob),
            confidence=rows["confidence"].double(),
            rank=rows["rank"],
            scores=rows.get("scores"),
        )
        return rows, records

    def finish(self) -> dict[str, float]:
        """accuracy, top5_accuracy, cross_entropy, precision_*, recall_*, f1_*, roc_auc, calibration_error."""
        return compute("classification", self._records()[1])

    def details(self) -> dict[str, Any]:
        """`labels`, `confusion_matrix` (rows true, columns decided), `per_class`, and `groups` where there is a group column."""
        rows, records = self._records()
        table = zip(
            self.classes,
            records.precision().tolist(),
            records.recall().tolist(),
            records.f1().tolist(),
            records.confusion.sum(dim=1).tolist(),
            strict=True,
        )
        return {
            "labels": list(self.classes),
            "confusion_matrix": records.confusion.tolist(),
            "per_class": [
                {"label": label, "precision": precision, "recall": recall, "f1": f1, "support": support}
                for label, precision, recall, f1, support in table
            ],
            **self._by_group(rows, "classification", records),
        }


class RegressionMetrics(Metrics):
    """Metrics of predicted numbers.

    Args:
        targets: Names of the T targets.
        group_names: Names of the values of the group column.
        group_column: Its name.
    """

    def __init__(self, targets: Sequence[str], *, group_names: Sequence[str] = (), group_column: str = "group") -> None:
        super().__init__(group_names=group_names, group_column=group_column)
        self.targets = tuple(targets)

    def update(self, predictions: Tensor, targets: Tensor, *, group: Tensor | None = None) -> None:
        """Record a batch; nothing is read back from the device.

        Args:
            predictions, targets: float (B, T), in the target's units.
            group: int64 (B,), value of the group column.

        Raises:
            ShapeError: Shapes differ ((B,) against (B, 1) too); nothing is broadcast.
        """
        wanted = (len(targets), len(self.targets))
        for name, tensor in (("predictions", predictions), ("targets", targets)):
            if tuple(tensor.shape) != wanted:
                raise _shape_error("RegressionMetrics", name, tensor, wanted)
        rows = {"predictions": predictions.detach(), "targets": targets}
        if group is not None:
            if tuple(group.shape) != wanted[:1]:
                raise _shape_error("RegressionMetrics", "group", group, wanted[:1])
            rows["group"] = group
        self._rows.append(
            {name: t.float() if t.is_floating_point() and t.itemsize < 4 else t for name, t in rows.items()}
        )

    def _records(self) -> tuple[dict[str, Tensor], RegressionRecords]:
        rows = self._read()
        self._refuse_non_finite(~rows["predictions"].isfinite().all(dim=1))
        return rows, RegressionRecords(rows["predictions"].double(), rows["targets"].double())

    def finish(self) -> dict[str, float]:
        """mse, rmse, mae and r2."""
        return compute("regression", self._records()[1])

    def details(self) -> dict[str, Any]:
        """`targets`, `per_target` metrics, and `groups` where there is a group column."""
        rows, records = self._records()
        return {
            "targets": list(self.targets),
            "per_target": [
                {"target": name, **compute("regression", records.target(number))}
                for number, name in enumerate(self.targets)
            ],
            **self._by_group(rows, "regression", records),
        }


def _shape_error(owner: str, name: str, tensor: Tensor, wanted: tuple[int, ...]) -> ShapeError:
    received = tuple(tensor.shape)
    mend = "give one row per sample, and a column per class or target"
    if received == (*wanted, 1):
        mend = f"{name}.squeeze(1) drops the extra axis"
    elif (*received, 1) == wanted:
        mend = f"{name}.unsqueeze(1) adds the missing axis"
    return ShapeError(
        f"{name} is shaped {received}.",
        where=f"{owner}.update, argument `{name}`",
        accepts=f"shape {wanted}",
        mend=mend,
    )
