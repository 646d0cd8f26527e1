"""Weights for unbalanced classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from lamina.core.errors import DataError
from lamina.data.sampling import balanced_weights, class_weights

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 5)


def test_class_weights_are_sklearns_balanced() -> None:
    wanted = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    torch.testing.assert_close(class_weights(LABELS, 3).double(), torch.from_numpy(wanted), rtol=1e-6, atol=0)


def test_the_mean_over_rows_is_one_and_absent_classes_get_nothing() -> None:
    weights = class_weights(LABELS, 5)
    assert weights[3:].tolist() == [0.0, 0.0]
    assert float(weights[LABELS].double().mean()) == pytest.approx(1.0)


def test_rows_are_drawn_so_that_classes_are_equally_frequent() -> None:
    weights = balanced_weights(LABELS, 4)
    assert float(weights.sum()) == pytest.approx(1.0)
    for label in range(3):
        assert float(weights[LABELS.eq(label)].sum()) == pytest.approx(1 / 3)


@pytest.mark.parametrize("labels", [torch.tensor([], dtype=torch.int64), torch.tensor([0, 3]), torch.tensor([-1, 0])])
def test_labels_out_of_range_are_refused(labels: torch.Tensor) -> None:
    for function in (balanced_weights, class_weights):
        with pytest.raises(DataError, match="there are 3 classes"):
            function(labels, 3)
