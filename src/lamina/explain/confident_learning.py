"""Which labels are likely wrong, from probabilities of a model that has not seen the rows.

Source: Northcutt, Jiang, Chuang (2021), "Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv:1911.00068,
section 3: the threshold of a class is the mean probability of that class over the rows labelled with it; a row counts as
class j where its probability of j reaches j's threshold, of several such classes the most probable one. Rows that count as
another class than their label are off the diagonal of the confident joint. Differs from the paper: rows are only ranked (by
their normalised margin), not removed, and the joint is not calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LabelDoubts", "doubt_labels"]


@dataclass(frozen=True)
class LabelDoubts:
    """Rows whose labels are likely wrong, the likeliest first.

    Attributes:
        rows: int64 (K,).
        suggested: The class that each counts as, int64 (K,).
        margin: Probability of the label less the largest other one, (K,), in [-1, 1]; lower is more doubtful.
        joint: Rows labelled i that count as j, int64 (C, C).
        thresholds: (C,); NaN for a class without rows.
    """

    rows: Tensor
    suggested: Tensor
    margin: Tensor
    joint: Tensor
    thresholds: Tensor


def doubt_labels(probs: Tensor, labels: Tensor) -> LabelDoubts:
    """Find labels that a model doubts with confidence.

    Args:
        probs: Probabilities (N, C) of a model that was not trained on these rows; of rows that it was trained on they
            mean little, because it has learned the wrong labels too.
        labels: int64 (N,).
    """
    probs = probs.double()
    num_classes = probs.shape[1]
    own = probs.gather(1, labels.unsqueeze(1)).squeeze(1)
    count = torch.bincount(labels, minlength=num_classes).double()
    total = torch.zeros(num_classes, dtype=torch.float64).scatter_add_(0, labels, own)
    thresholds = total / count  # 0 / 0 is NaN, which nothing reaches
    confident = torch.where(probs >= thresholds, probs, -1.0)
    best, counted = confident.max(dim=1)
    counts = best >= 0
    joint = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    joint.index_put_(
        (labels[counts], counted[counts]), torch.ones(int(counts.sum()), dtype=torch.int64), accumulate=True
    )
    others = probs.scatter(1, labels.unsqueeze(1), -1.0).amax(dim=1)
    margin = own - others
    doubtful = (counts & (counted != labels)).nonzero().squeeze(1)
    rows = doubtful[margin[doubtful].argsort(stable=True)]
    return LabelDoubts(rows, counted[rows], margin[rows], joint, thresholds)
