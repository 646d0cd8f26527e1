"""Refusing what belongs to no class: a score per row, a threshold from validation rows, and how well both work.

The score of a row is its largest probability after temperature scaling. The threshold is the k-th smallest score of n
validation rows, k = floor(share * (n + 1)): a new row of a known class falls below it with probability at most `share`,
whatever the network, as long as it comes from where the validation rows come from and these chose nothing else (split
conformal prediction; in training they choose the best weights and the temperature too, which loosens it a little). Nothing of
the kind holds for rows of no class: how many of those pass is measured with `lamina evaluate --outsiders`, not promised.

Source: Hendrycks, Gimpel (2017), arXiv:1610.02136 (largest probability); Guo, Pleiss, Sun, Weinberger (2017),
arXiv:1706.04599 (temperature); Liu, Wang, Owens, Li (2020), arXiv:2010.03759 (energy, which lost in benchmarks/outsiders.py
wherever outsiders had stronger input than insiders); Vovk, Gammerman, Shafer (2005), Algorithmic Learning in a Random World (the bound).
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor

from lamina.core.errors import DataError, ShapeError

# Inverse temperatures beyond these say that the rows do not decide: all right, or no better than chance.
_LEAST: Final = 0.05
_MOST: Final = 1.0
_STEPS: Final = 60
# More validation rows change the temperature by less than its own noise.
_MAX_ROWS: Final = 20_000


def fit_temperature(log_probs: Tensor, targets: Tensor) -> float:
    """The temperature T >= 1 under which softmax(log_probs / T) gives the labels the largest likelihood.

    The likelihood is concave in 1/T, so its derivative is halved down to the one place where it is zero. Networks that are
    too sure get T > 1. Below 1 it does not go: where every row is right, the likelihood would grow for ever, and all scores
    would become 1.

    Args:
        log_probs: float (N, C), normalised or not.
        targets: int64 (N,).
    """
    _check_rows(log_probs, targets)
    rows = torch.arange(min(len(targets), _MAX_ROWS)) * len(targets) // min(len(targets), _MAX_ROWS)
    # A floor, because 0 * -inf has no value; e**-80 changes no probability.
    scores = log_probs[rows].double().clamp_min(-80.0)
    own = scores.gather(1, targets[rows].unsqueeze(1)).squeeze(1)
    low, high = _LEAST, _MOST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        expected = ((scores * middle).softmax(dim=1) * scores).sum(dim=1)
        if float((own - expected).mean()) > 0:
            low = middle
        else:
            high = middle
    return 1.0 / high if high < _MOST * (1 - 1e-9) else 1.0


def insider_scores(log_probs: Tensor, *, temperature: float) -> Tensor:
    """How much each row looks like one of a known class, float (N,) in (0, 1]: the largest probability at a temperature.

    Args:
        log_probs: float (N, C), normalised or not.
    """
    return (log_probs / temperature).softmax(dim=1).amax(dim=1)


def choose_insider(scores: Tensor, *, share: float) -> float | None:
    """The threshold below which at most `share` of the known classes' rows fall; None for too few rows to choose it.

    Args:
        scores: float (N,), of validation rows.
        share: Between 0 and 1; at least 1/share - 1 rows are needed.
    """
    place = math.floor(share * (len(scores) + 1) + 1e-9)
    if place < 1:
        return None
    return float(scores.kthvalue(min(place, len(scores))).values)


def separation(insiders: Tensor, outsiders: Tensor) -> float:
    """The area under the ROC curve: how often a random insider scores higher than a random outsider, ties counting half."""
    both = torch.cat([insiders, outsiders]).double()
    _, place, counts = both.unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0).double() - (counts - 1) / 2.0)[place]
    num = len(insiders)
    return float((ranks[:num].sum() - num * (num + 1) / 2) / (num * len(outsiders)))


def judge_rejection(insiders: Tensor, outsiders: Tensor, *, threshold: float) -> dict[str, Any]:
    """How many outsiders pass and how many insiders are refused; JSON-ready.

    Args:
        insiders: float (N,), scores of rows of known classes.
        outsiders: float (M,), scores of rows of no class.

    Raises:
        DataError: One of them is empty.
    """
    if not len(insiders) or not len(outsiders):
        raise DataError(
            f"There are {len(insiders)} rows of known classes and {len(outsiders)} outsiders.",
            where="judging of outsiders",
            accepts="at least one of each",
            mend="give --data with labelled rows and --outsiders with images of no class",
        )
    passed, refused = int((outsiders >= threshold).sum()), int((insiders < threshold).sum())
    return {
        "threshold": threshold,
        "num_outsiders": len(outsiders),
        "outsiders_passed": passed,
        "share_outsiders_passed": passed / len(outsiders),
        "num_insiders": len(insiders),
        "insiders_refused": refused,
        "share_insiders_refused": refused / len(insiders),
        "roc_auc": separation(insiders, outsiders),
    }


def _check_rows(log_probs: Tensor, targets: Tensor) -> None:
    if log_probs.ndim != 2 or targets.shape != log_probs.shape[:1] or len(targets) == 0:
        raise ShapeError(
            f"The log-probabilities are shaped {tuple(log_probs.shape)}, targets {tuple(targets.shape)}.",
            where="choice of a temperature",
            accepts="(N, C) and (N,), at least one row",
            mend="give one row of log-probabilities and one label per sample",
        )
