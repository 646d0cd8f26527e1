"""The formulas of the metrics, each registered under the name by which it is reported.

A metric is a function of what was recorded for every judged row, in the rows' order, so that it cannot depend on how
the rows were divided into batches. Counts are integers, sums are taken in float64. A metric that is undefined for the
rows at hand (ROC-AUC where only one class occurs, R² of a constant target) gives None and is left out of the report;
nothing is invented and nothing warns.

Definitions follow scikit-learn's (parity in tests/parity/test_metrics.py): a division by zero in precision, recall or
F1 gives 0; macro and weighted averages go over the classes that occur among the targets or the predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core import registry
from lamina.core.registry import register

CALIBRATION_BINS: Final = 15
TOP_K: Final = 5
_MANNING = "Manning, Raghavan, Schütze (2008), Introduction to Information Retrieval, chapters 8 and 13"


@dataclass(frozen=True)
class ClassificationRecords:
    """What was recorded of judged rows, on the CPU.

    Attributes:
        num_classes: C.
        targets: int64 (N,), true class.
        predicted: int64 (N,), decided class.
        log_prob: float64 (N,), logarithm of the probability that the true class got.
        confidence: float64 (N,), the largest probability of the row.
        rank: int64 (N,), number of classes placed before the true one.
        scores: float (N, C), log-probabilities; None with too many classes to keep them.
    """

    num_classes: int
    targets: Tensor
    predicted: Tensor
    log_prob: Tensor
    confidence: Tensor
    rank: Tensor
    scores: Tensor | None

    def rows(self, chosen: Tensor) -> ClassificationRecords:
        """The records of some rows (boolean mask or indices)."""
        return ClassificationRecords(
            self.num_classes,
            self.targets[chosen],
            self.predicted[chosen],
            self.log_prob[chosen],
            self.confidence[chosen],
            self.rank[chosen],
            self.scores[chosen] if self.scores is not None else None,
        )

    @cached_property
    def confusion(self) -> Tensor:
        """int64 (C, C): rows are true classes, columns decided ones."""
        cells = self.targets * self.num_classes + self.predicted
        counts = torch.bincount(cells, minlength=self.num_classes**2)
        return counts.reshape(self.num_classes, self.num_classes)

    @cached_property
    def support(self) -> Tensor:
        """float64 (C,): rows of each true class."""
        return self.confusion.sum(dim=1).double()

    @cached_property
    def occurring(self) -> Tensor:
        """Bool (C,): classes among the targets or the predictions."""
        return (self.confusion.sum(dim=0) + self.confusion.sum(dim=1)) > 0

    def precision(self) -> Tensor:
        """float64 (C,): of the rows decided for a class, the share that is of it; 0 where there are none."""
        return _ratio(self.confusion.diagonal().double(), self.confusion.sum(dim=0).double())

    def recall(self) -> Tensor:
        """float64 (C,): of the rows of a class, the share decided for it; 0 where there are none."""
        return _ratio(self.confusion.diagonal().double(), self.support)

    def f1(self) -> Tensor:
        """float64 (C,): harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); 0 where undefined."""
        return _ratio(2.0 * self.confusion.diagonal().double(), self.confusion.sum(dim=0).double() + self.support)


@dataclass(frozen=True)
class RegressionRecords:
    """What was recorded of judged rows, on the CPU.

    Attributes:
        predictions, targets: float64 (N, T), in the target's own units.
    """

    predictions: Tensor
    targets: Tensor

    def rows(self, chosen: Tensor) -> RegressionRecords:
        """The records of some rows (boolean mask or indices)."""
        return RegressionRecords(self.predictions[chosen], self.targets[chosen])

    def target(self, number: int) -> RegressionRecords:
        """The records of one of several targets."""
        return RegressionRecords(self.predictions[:, number : number + 1], self.targets[:, number : number + 1])


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    return torch.where(below > 0, above / below.clamp(min=1.0), torch.zeros_like(above))


Formula = Callable[[Any], float | None]
_families: dict[str, dict[str, Formula]] = {"classification": {}, "regression": {}}


def _metric(family: str, name: str, *, better: str, source: str) -> Callable[[Formula], Formula]:
    def decorate(function: Formula) -> Formula:
        _families[family][name] = function
        return register("metric", name, better=better, family=family, source=source)(function)

    return decorate


def compute(family: str, records: ClassificationRecords | RegressionRecords) -> dict[str, float]:
    """All metrics of a family (`classification` or `regression`) that are defined for these rows, by name."""
    found = {name: formula(records) for name, formula in _families[family].items()}
    return {name: float(value) for name, value in found.items() if value is not None}


def better(name: str) -> str:
    """Whether more of this metric is better: `max` or `min`.

    Raises:
        UnknownNameError: There is no such metric.
    """
    return str(registry.describe("metric", name, where="name of a metric").capabilities["better"])


# --- classification ----------------------------------------------------------------------------------------------


@_metric("classification", "accuracy", better="max", source=_MANNING)
def accuracy(records: ClassificationRecords) -> float:
    """Share of rows whose decided class is the true one."""
    return _accuracy(records)


def _accuracy(records: ClassificationRecords) -> float:
    return float((records.predicted == records.targets).double().mean())


@_metric(
    "classification", "top5_accuracy", better="max", source="Russakovsky et al. (2015), arXiv:1409.0575, section 3"
)
def top5_accuracy(records: ClassificationRecords) -> float | None:
    """Share of rows whose true class is among the 5 most probable; only where there are more than 5 classes."""
    if records.num_classes <= TOP_K:
        return None
    return float((records.rank < TOP_K).double().mean())


@_metric(
    "classification",
    "cross_entropy",
    better="min",
    source="Good (1952), Rational Decisions, doi:10.1111/j.2517-6161.1952.tb00104.x",
)
def cross_entropy(records: ClassificationRecords) -> float:
    """Mean of -log(probability of the true class), natural logarithm; a probability of 0 counts as 2**-52."""
    return float(-records.log_prob.mean())


def _macro(values: Tensor, records: ClassificationRecords) -> float:
    return float(values[records.occurring].mean())


def _weighted(values: Tensor, records: ClassificationRecords) -> float:
    return float((values * records.support).sum() / records.support.sum())


@_metric("classification", "precision_macro", better="max", source=_MANNING)
def precision_macro(records: ClassificationRecords) -> float:
    """Precision, unweighted mean over the classes that occur; 0 for a class where it is undefined."""
    return _macro(records.precision(), records)


@_metric("classification", "precision_micro", better="max", source=_MANNING)
def precision_micro(records: ClassificationRecords) -> float:
    """Precision over all decisions together; with one label per row it equals the accuracy."""
    return _accuracy(records)


@_metric("classification", "precision_weighted", better="max", source=_MANNING)
def precision_weighted(records: ClassificationRecords) -> float:
    """Precision, mean over the classes weighted by their rows; 0 for a class where it is undefined."""
    return _weighted(records.precision(), records)


@_metric("classification", "recall_macro", better="max", source=_MANNING)
def recall_macro(records: ClassificationRecords) -> float:
    """Recall, unweighted mean over the classes that occur; 0 for a class where it is undefined."""
    return _macro(records.recall(), records)


@_metric("classification", "recall_micro", better="max", source=_MANNING)
def recall_micro(records: ClassificationRecords) -> float:
    """Recall over all decisions together; with one label per row it equals the accuracy."""
    return _accuracy(records)


@_metric("classification", "recall_weighted", better="max", source=_MANNING)
def recall_weighted(records: ClassificationRecords) -> float:
    """Recall, mean over the classes weighted by their rows; 0 for a class where it is undefined."""
    return _weighted(records.recall(), records)


@_metric("classification", "f1_macro", better="max", source=_MANNING)
def f1_macro(records: ClassificationRecords) -> float:
    """F1, unweighted mean over the classes that occur; 0 for a class where it is undefined."""
    return _macro(records.f1(), records)


@_metric("classification", "f1_micro", better="max", source=_MANNING)
def f1_micro(records: ClassificationRecords) -> float:
    """F1 over all decisions together; with one label per row it equals the accuracy."""
    return _accuracy(records)


@_metric("classification", "f1_weighted", better="max", source=_MANNING)
def f1_weighted(records: ClassificationRecords) -> float:
    """F1, mean over the classes weighted by their rows; 0 for a class where it is undefined."""
    return _weighted(records.f1(), records)


@_metric(
    "classification",
    "roc_auc",
    better="max",
    source="Fawcett (2006), doi:10.1016/j.patrec.2005.10.010; Hand and Till (2001)",
)
def roc_auc(records: ClassificationRecords) -> float | None:
    """Probability that a row of the class scores higher than one of another, ties counting half; exact.

    Two classes: the second is the positive one. More: mean over the classes, one against the rest. Classes without
    rows, or with nothing but, are left out; undefined where none is left, and not computed beyond 256 classes.
    """
    if records.scores is None:
        return None
    # The difference of two log-probabilities ranks as the probability does, but does not saturate near 1.
    columns = (
        [(1, records.scores[:, 1] - records.scores[:, 0])] if records.num_classes == 2 else enumerate(records.scores.T)
    )
    found = [_area(scores, records.targets == index) for index, scores in columns]
    defined = [area for area in found if area is not None]
    return sum(defined) / len(defined) if defined else None


def _area(scores: Tensor, positive: Tensor) -> float | None:
    """Mann-Whitney's U over its maximum, with average ranks for ties; exact in float64 up to 2**26 rows."""
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if num_positive == 0 or num_negative == 0:
        return None
    ordered, order = scores.sort()
    _, counts = ordered.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0).double()
    ranks = (ends - (counts.double() - 1.0) / 2.0).repeat_interleave(counts)  # from 1, ties share their mean
    sum_of_ranks = float(ranks[positive[order]].sum())
    return (sum_of_ranks - num_positive * (num_positive + 1) / 2.0) / (num_positive * num_negative)


@_metric(
    "classification",
    "calibration_error",
    better="min",
    source="Guo, Pleiss, Sun, Weinberger (2017), arXiv:1706.04599, equation 3",
)
def calibration_error(records: ClassificationRecords) -> float:
    """Expected calibration error: mean |accuracy - confidence| over 15 equal bins of the largest probability.

    Bins are open on the left and closed on the right, ((m - 1)/15, m/15], and weighted by their rows.
    """
    edges = torch.linspace(0.0, 1.0, CALIBRATION_BINS + 1, dtype=torch.float64)[1:-1]
    bins = torch.bucketize(records.confidence, edges)
    gap = (records.predicted == records.targets).double() - records.confidence
    sums = torch.zeros(CALIBRATION_BINS, dtype=torch.float64).index_add_(0, bins, gap)
    return float(sums.abs().sum() / len(gap))


# --- regression --------------------------------------------------------------------------------------------------


@_metric(
    "regression",
    "mse",
    better="min",
    source="Hastie, Tibshirani, Friedman (2009), The Elements of Statistical Learning, section 2.4",
)
def mse(records: RegressionRecords) -> float:
    """Mean squared error in the target's units squared, over rows and targets."""
    return _mean_square(records)


def _mean_square(records: RegressionRecords) -> float:
    return float((records.predictions - records.targets).square().mean())


@_metric(
    "regression",
    "rmse",
    better="min",
    source="Hastie, Tibshirani, Friedman (2009), The Elements of Statistical Learning, section 2.4",
)
def rmse(records: RegressionRecords) -> float:
    """Square root of `mse`, in the target's units (with several targets: of the mean over all of them)."""
    return math.sqrt(_mean_square(records))


@_metric("regression", "mae", better="min", source="Willmott and Matsuura (2005), doi:10.3354/cr030079")
def mae(records: RegressionRecords) -> float:
    """Mean absolute error in the target's units, over rows and targets."""
    return float((records.predictions - records.targets).abs().mean())


@_metric("regression", "r2", better="max", source="Draper and Smith (1998), Applied Regression Analysis, section 1.3")
def r2(records: RegressionRecords) -> float | None:
    """1 - residual over total sum of squares; 1 is perfect, 0 as good as the mean of the judged rows, below is worse.

    With several targets the mean over those that vary; undefined where none does, and for fewer than two rows.
    """
    residual = (records.predictions - records.targets).square().sum(dim=0)
    total = (records.targets - records.targets.mean(dim=0)).square().sum(dim=0)
    varies = (records.targets != records.targets[:1]).any(dim=0)
    if not bool(varies.any()):
        return None
    return float((1.0 - residual[varies] / total[varies]).mean())
