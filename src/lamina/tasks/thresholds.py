"""Decision thresholds, chosen on the validation split and applied wherever a decision is taken.

The most probable class is the right decision where all mistakes cost the same. Where they do not, or where F1 of the
rarer class is what counts, two-class decisions move: the second class is decided when its probability reaches
`positive`. `reject` leaves rows undecided whose largest probability is below it. `insider`, with its `temperature`, is
applied only when asked for (`predict --reject`): see `rejection.py`.

Source: Elkan (2001), "The Foundations of Cost-Sensitive Learning"; Lipton, Elkan, Naryanaswamy (2014), arXiv:1402.1892;
Chow (1970), doi:10.1109/TIT.1970.1054406 (reject).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import DataError, ShapeError

Objective = Literal["accuracy", "balanced_accuracy", "f1", "cost"]


class Thresholds(Config):
    """Where decisions are taken; empty: the most probable class, always."""

    positive: float | None = Field(
        None, description="Two classes: decide for the second from this probability on.", ge=0, le=1
    )
    reject: float | None = Field(
        None, description="Leave a row undecided whose largest probability is below this.", ge=0, le=1
    )
    insider: float | None = Field(
        None, description="Where outsiders are refused: the least score of a row of a known class.", ge=0, le=1
    )
    temperature: float | None = Field(None, description="By which logits are divided for that score.", ge=1, le=1000)

    def given(self) -> dict[str, float]:
        """The thresholds that are set, as a bundle keeps them."""
        return {name: value for name, value in self.values().items() if value is not None}


def decide(probs: Tensor, thresholds: Thresholds) -> Tensor:
    """The decided class per row, int64 (B,), from probabilities (B, C); `reject` does not enter."""
    if thresholds.positive is not None and probs.shape[1] == 2:
        return (probs[:, 1] >= thresholds.positive).long()
    return probs.argmax(dim=1)


def choose_positive(
    probs: Tensor,
    targets: Tensor,
    *,
    objective: Objective,
    false_positive_cost: float = 1.0,
    false_negative_cost: float = 1.0,
) -> float:
    """The threshold on the second class's probability that is best on these rows; every possible one is tried.

    Of equally good ones the nearest to one half, so that nothing moves without a reason. Thresholds lie midway between
    neighbouring probabilities.

    Args:
        probs: float (N,), probability of the second class.
        targets: int64 (N,), 0 or 1.
        objective: What to maximise; `cost` minimises the summed costs of wrong decisions.

    Raises:
        ShapeError: The shapes differ.
        DataError: Only one of the classes occurs.
    """
    _check_rows(probs, targets, name="targets")
    num_positive = int((targets == 1).sum())
    num_negative = len(targets) - num_positive
    if num_positive == 0 or num_negative == 0:
        raise DataError(
            f"All {len(targets)} rows are of one class.",
            where="threshold on the validation split",
            accepts="rows of both classes",
            mend="hold out more rows (data.valid_fraction), or leave task.threshold out",
        )
    # In float32, as decisions are taken: a midpoint in float64 could round back onto a neighbour.
    ordered, order = probs.float().sort(descending=True)
    distinct, counts = ordered.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    hits = (targets[order] == 1).long().cumsum(0)
    # Candidate i decides positive for the i most probable distinct values: 0 for none, len(distinct) for all rows.
    zero = torch.zeros(1, dtype=torch.int64)
    decided = torch.cat([zero, ends]).double()
    true_positive = torch.cat([zero, hits[ends - 1]]).double()
    false_positive = decided - true_positive
    if objective == "f1":
        score = 2.0 * true_positive / (decided + num_positive)
    elif objective == "accuracy":
        score = true_positive + num_negative - false_positive
    elif objective == "balanced_accuracy":
        score = true_positive / num_positive - false_positive / num_negative
    else:
        missed = num_positive - true_positive
        score = -(false_positive_cost * false_positive + false_negative_cost * missed)
    above = torch.cat([torch.ones(1), distinct])
    below = torch.cat([distinct, torch.zeros(1)])
    # Midway; where two neighbours have no number between them, the upper one, which `>=` still tells from the lower.
    middle = (above + below) / 2.0
    threshold = torch.where(middle > below, middle, above)
    threshold[-1] = 0.0  # everything is positive, a probability of 0 too
    if float(distinct[0]) == 1.0:
        score[0] = -torch.inf  # no threshold is above a probability of 1
    best = (score >= score.max() - 1e-9).nonzero().flatten()
    nearest = best[(threshold[best] - 0.5).abs().argmin()]
    # Where one half does as well as the midpoint, it is taken as it is.
    if float(below[nearest]) < 0.5 <= float(above[nearest]):
        return 0.5
    return float(threshold[nearest])


def choose_reject(confidence: Tensor, correct: Tensor, *, accuracy: float) -> float:
    """The smallest confidence from which on the rows that are answered reach an accuracy, on these rows.

    Args:
        confidence: float (N,), largest probability.
        correct: Bool (N,), whether the decision was right.
        accuracy: Wanted share of right decisions among the answered rows.

    Returns:
        0 where all rows together reach it; 1 where no threshold does (nearly everything is then left undecided).
    """
    _check_rows(confidence, correct, name="correct")
    ordered, order = confidence.float().sort(descending=True)
    distinct, counts = ordered.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    reached = correct[order].long().cumsum(0)[ends - 1].double() / ends.double() >= accuracy
    enough = reached.nonzero().flatten()
    if len(enough) == 0:
        return 1.0
    last = int(enough[-1])
    return 0.0 if last == len(distinct) - 1 else min(float(distinct[last]), 1.0)


def _check_rows(first: Tensor, second: Tensor, *, name: str) -> None:
    if first.ndim != 1 or first.shape != second.shape or len(first) == 0:
        raise ShapeError(
            f"The probabilities are shaped {tuple(first.shape)}, {name} {tuple(second.shape)}.",
            where="choice of a threshold",
            accepts="one number per row in both, and at least one row",
            mend="give probabilities (N,) of one class, and one target per row",
        )
