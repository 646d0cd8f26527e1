"""Weights for unbalanced classes: for drawing rows, or for the loss."""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.core.errors import DataError


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """A weight per class for the loss: inverse frequency, N / (K * count), K the number of classes that occur.

    The mean over the rows is 1. Classes without rows get 0: nothing can be learned of them. With all classes present this is
    scikit-learn's `class_weight="balanced"`.

    Args:
        labels: int64 (N,), indices below `num_classes`.

    Returns:
        float32 (num_classes,).

    Raises:
        DataError: There are no rows, or an index is out of range.

    Example:
        >>> class_weights(torch.tensor([0, 0, 0, 1]), 2).tolist()
        [0.6666666865348816, 2.0]
    """
    counts = _counts(labels, num_classes).to(torch.float64)
    present = counts > 0
    weights = labels.numel() / (present.sum() * counts.clamp(min=1))
    return torch.where(present, weights, 0.0).to(torch.float32)


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """A weight per row for drawing with replacement: each class that occurs is drawn equally often.

    Args:
        labels: int64 (N,), indices below `num_classes`.

    Returns:
        float64 (N,), summing to 1.

    Raises:
        DataError: There are no rows, or an index is out of range.
    """
    counts = _counts(labels, num_classes)
    weights: Tensor = 1.0 / (counts.to(torch.float64)[labels] * (counts > 0).sum())
    return weights


def _counts(labels: Tensor, num_classes: int) -> Tensor:
    if labels.ndim != 1 or labels.numel() == 0 or int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        found = f"from {int(labels.min())} to {int(labels.max())}" if labels.numel() else "none"
        raise DataError(
            f"The labels, shaped {tuple(labels.shape)}, are {found}; there are {num_classes} classes.",
            where="data.balance",
            accepts=f"one index per row, 0 to {num_classes - 1}",
            mend="use data.balance=none, or look at the labels with `lamina data`",
        )
    return torch.bincount(labels, minlength=num_classes)
