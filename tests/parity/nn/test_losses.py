"""Losses and their gradients in float64 against PyTorch, scikit-learn, the formula, and finite differences.

Tolerances: 1e-12 relative where the same sums are taken in another order; 1e-6 for central differences with steps of 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor
from torch.nn import functional

from lamina.nn.losses import create_loss

TIGHT = {"rtol": 1e-12, "atol": 1e-12}
CLASS_WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.25, 3.0], dtype=torch.float64)


def _logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def _labels(num: int, num_classes: int, *more: int) -> Tensor:
    return torch.randint(0, num_classes, (num, *more), generator=torch.Generator().manual_seed(9))


def _compare(ours: Callable[[Tensor], Any], theirs: Callable[[Tensor], Tensor], outputs: Tensor) -> None:
    """Means and gradients with respect to the outputs agree."""
    results = []
    for function in (lambda x: (lambda s, w: s / w)(*ours(x)), theirs):
        x = outputs.clone().requires_grad_()
        value = function(x)
        (grad,) = torch.autograd.grad(value, x)
        results.append((value.detach(), grad))
    torch.testing.assert_close(results[0][0], results[1][0], **TIGHT)
    torch.testing.assert_close(results[0][1], results[1][1], **TIGHT)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(7, 5), (3, 5, 4)])
def test_cross_entropy_equals_torch(shape: tuple[int, ...], weighted: bool, smoothing: float) -> None:
    weights = CLASS_WEIGHTS if weighted else None
    labels = _labels(shape[0], 5, *shape[2:])
    loss = create_loss({"name": "cross-entropy", "label_smoothing": smoothing}, num_classes=5, class_weights=weights)
    _compare(
        lambda x: loss(x, labels),
        lambda x: functional.cross_entropy(x, labels, weight=weights, label_smoothing=smoothing),
        _logits(*shape),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_with_row_weights_has_the_papers_formula(smoothing: float) -> None:
    x, labels = _logits(6, 5), _labels(6, 5)
    rows = torch.tensor([1.0, 0.5, 0.0, 2.0, 1.0, 3.0], dtype=torch.float64)
    loss = create_loss({"name": "cross-entropy", "label_smoothing": smoothing}, class_weights=CLASS_WEIGHTS)
    total, weight = loss(x, labels, weights=rows)
    log_p = x - x.logsumexp(dim=1, keepdim=True)
    own = -log_p[range(6), labels] * CLASS_WEIGHTS[labels]
    every = -(log_p * CLASS_WEIGHTS).sum(dim=1) / 5
    torch.testing.assert_close(total, (rows * ((1 - smoothing) * own + smoothing * every)).sum(), **TIGHT)
    torch.testing.assert_close(weight, (rows * CLASS_WEIGHTS[labels]).sum(), **TIGHT)


def test_cross_entropy_equals_scikit_learn() -> None:
    x, labels = _logits(20, 5), _labels(20, 5)
    rows = torch.rand(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total, weight = create_loss("cross-entropy")(x, labels, weights=rows)
    wanted = sklearn.metrics.log_loss(labels.numpy(), x.softmax(1).numpy(), labels=range(5), sample_weight=rows.numpy())
    assert float(total / weight) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    ("values", "theirs"),
    [
        ("mse", functional.mse_loss),
        ("mae", functional.l1_loss),
        ({"name": "huber", "delta": 0.7}, lambda x, t: functional.huber_loss(x, t, delta=0.7)),
        ("half-squared-error", lambda x, t: 0.5 * (x - t).square().sum() / len(x)),
    ],
)
def test_regression_losses_equal_torch(values: Any, theirs: Callable[[Tensor, Tensor], Tensor]) -> None:
    targets = _logits(8, 3, seed=5)
    loss = create_loss(values)
    _compare(lambda x: loss(x, targets), lambda x: theirs(x, targets), _logits(8, 3))


def test_mse_and_mae_equal_scikit_learn_with_weights() -> None:
    x, t = _logits(9, seed=1), _logits(9, seed=2)
    rows = torch.rand(9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for name, theirs in (("mse", sklearn.metrics.mean_squared_error), ("mae", sklearn.metrics.mean_absolute_error)):
        total, weight = create_loss(name)(x, t, weights=rows)
        assert float(total / weight) == pytest.approx(theirs(t, x, sample_weight=rows.numpy()), rel=1e-12)


def test_binary_cross_entropy_equals_torch() -> None:
    targets = torch.rand(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).round(decimals=1)
    _compare(
        lambda x: create_loss({"name": "binary-cross-entropy", "pos_weight": 2.5})(x, targets),
        lambda x: functional.binary_cross_entropy_with_logits(
            x, targets, pos_weight=torch.full((3,), 2.5, dtype=torch.float64)
        ),
        _logits(6, 3),
    )
    labels = _labels(6, 2)
    loss = create_loss("binary-cross-entropy", class_weights=[0.5, 3.0])
    two_classes = create_loss("cross-entropy", class_weights=[0.5, 3.0])
    x = _logits(6)
    for ours, theirs in zip(
        loss(x, labels), two_classes(torch.stack([torch.zeros(6).double(), x], dim=1), labels), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **TIGHT)


@pytest.mark.parametrize("squared", [False, True])
def test_hinge_equals_torchs_up_to_its_division(squared: bool) -> None:
    labels = _labels(7, 5)
    loss = create_loss({"name": "hinge", "margin": 1.5, "squared": squared})
    _compare(
        lambda x: loss(x, labels),
        lambda x: 5 * functional.multi_margin_loss(x, labels, margin=1.5, p=2 if squared else 1),
        _logits(7, 5),
    )


def test_hinges_equal_scikit_learn() -> None:
    scores, labels = _logits(12), _labels(12, 2)
    total, weight = create_loss("binary-hinge")(scores, labels)
    assert float(total) / weight == pytest.approx(sklearn.metrics.hinge_loss(labels * 2 - 1, scores))


def test_focal_equals_its_formula() -> None:
    labels = _labels(8, 5)

    def theirs(x: Tensor) -> Tensor:
        p = x.softmax(dim=1)[range(8), labels]
        return (-CLASS_WEIGHTS[labels] * (1 - p) ** 1.7 * p.log()).mean()

    loss = create_loss({"name": "focal", "gamma": 1.7, "alpha": CLASS_WEIGHTS.tolist()})
    _compare(lambda x: loss(x, labels), theirs, _logits(8, 5))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softmax", None])
def test_half_squared_error_equals_its_formula(activation: str | None) -> None:
    labels = _labels(8, 5)
    functions = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "softmax": lambda x: x.softmax(1), None: lambda x: x}
    one_hot = torch.eye(5, dtype=torch.float64)[labels]
    loss = create_loss({"name": "half-squared-error", "activation": activation})
    _compare(
        lambda x: loss(x, labels), lambda x: ((functions[activation](x) - one_hot) ** 2).sum() / 2 / 8, _logits(8, 5)
    )


@pytest.mark.parametrize(
    "values",
    [
        "cross-entropy",
        {"name": "cross-entropy", "label_smoothing": 0.1},
        "hinge",
        {"name": "hinge", "squared": True},
        "focal",
        {"name": "half-squared-error", "activation": "sigmoid"},
    ],
)
def test_gradients_by_finite_differences(values: Any) -> None:
    """Independent of autograd and of torch's losses: (L(x + h) - L(x - h)) / 2h, element by element."""
    x, labels = _logits(4, 5), _labels(4, 5)
    loss = create_loss(values)
    probe = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(loss(probe, labels)[0], probe)
    numeric = np.zeros(x.shape)
    for row in range(4):
        for column in range(5):
            values_at = []
            for sign in (1.0, -1.0):
                moved = x.clone()
                moved[row, column] += sign * 1e-6
                values_at.append(loss(moved, labels)[0].item())
            numeric[row, column] = (values_at[0] - values_at[1]) / 2e-6
    torch.testing.assert_close(grad, torch.from_numpy(numeric), rtol=1e-6, atol=1e-7)


def test_hinge_and_softmax_gradients_by_hand() -> None:
    """dL/ds_j = 1 where the margin is missed, minus their number at the label; softmax minus one-hot."""
    x, labels = _logits(6, 5), _labels(6, 5)
    one_hot = torch.eye(5, dtype=torch.float64)[labels]
    probe = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(create_loss("hinge")(probe, labels)[0], probe)
    missed = ((x - x.gather(1, labels.unsqueeze(1)) + 1 > 0).double() * (1 - one_hot)).double()
    torch.testing.assert_close(grad, missed - one_hot * missed.sum(dim=1, keepdim=True))
    (grad,) = torch.autograd.grad(create_loss("cross-entropy")(probe, labels)[0], probe)
    torch.testing.assert_close(grad, x.softmax(dim=1) - one_hot, **TIGHT)
