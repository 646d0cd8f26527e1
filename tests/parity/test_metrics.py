"""Metrics against scikit-learn in float64. Tolerance 1e-12: both sides round a few hundred float64 additions."""

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from lamina.tasks.metrics import ClassificationMetrics, RegressionMetrics

TOLERANCE = 1e-12


def judged(num_rows, num_classes, *, seed, classes_used=None, ties=False):
    """Random log-probabilities, targets and our metrics of them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_rows, num_classes))
    targets = generator.integers(0, classes_used or num_classes, num_rows)
    logits[np.arange(num_rows), targets] += 0.8
    if ties:
        logits = np.round(logits)
    log_probs = torch.from_numpy(logits).log_softmax(dim=1)
    ours = ClassificationMetrics([str(c) for c in range(num_classes)])
    for rows in torch.arange(num_rows).split(37):
        ours.update(log_probs[rows], torch.from_numpy(targets)[rows])
    return log_probs.exp().numpy(), targets, ours


CASES = {
    "binary": (200, 2, {}),
    "binary with ties": (200, 2, {"ties": True}),
    "ten classes": (400, 10, {}),
    "ten classes with ties": (400, 10, {"ties": True}),
    "classes without rows": (150, 8, {"classes_used": 5}),
    "few rows": (3, 4, {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_classification(case, seed):
    num_rows, num_classes, options = CASES[case]
    probs, targets, ours = judged(num_rows, num_classes, seed=seed, **options)
    predicted = probs.argmax(axis=1)
    labels = list(range(num_classes))
    found = ours.finish()
    wanted = {
        "accuracy": reference.accuracy_score(targets, predicted),
        "cross_entropy": reference.log_loss(targets, probs, labels=labels),
    }
    for average in ("macro", "micro", "weighted"):
        options = {"average": average, "zero_division": 0}
        wanted[f"precision_{average}"] = reference.precision_score(targets, predicted, **options)
        wanted[f"recall_{average}"] = reference.recall_score(targets, predicted, **options)
        wanted[f"f1_{average}"] = reference.f1_score(targets, predicted, **options)
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=TOLERANCE), name

    details = ours.details()
    assert details["confusion_matrix"] == reference.confusion_matrix(targets, predicted, labels=labels).tolist()
    table = reference.precision_recall_fscore_support(targets, predicted, labels=labels, zero_division=0)
    for index, row in enumerate(details["per_class"]):
        got = (row["precision"], row["recall"], row["f1"], row["support"])
        assert got == pytest.approx([column[index] for column in table], abs=TOLERANCE)


def area(targets, probs):
    if probs.shape[1] == 2:
        return reference.roc_auc_score(targets, probs[:, 1])
    return reference.roc_auc_score(targets, probs, multi_class="ovr")


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_roc_auc(num_classes):
    probs, targets, ours = judged(300, num_classes, seed=5)
    assert ours.finish()["roc_auc"] == pytest.approx(area(targets, probs), abs=TOLERANCE)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_roc_auc_of_shares_of_votes(num_classes):
    """Many exact ties, and probabilities of 0, as k-nearest neighbours gives them."""
    generator = np.random.default_rng(num_classes)
    targets = generator.integers(0, num_classes, 200)
    leaning = np.eye(num_classes)[targets] + 0.5
    votes = np.stack([generator.multinomial(8, row / row.sum()) for row in leaning])
    ours = ClassificationMetrics([str(c) for c in range(num_classes)])
    ours.update(torch.from_numpy(votes / 8).log(), torch.from_numpy(targets))
    assert ours.finish()["roc_auc"] == pytest.approx(area(targets, votes / 8), abs=TOLERANCE)


def test_roc_auc_with_exact_ties():
    scores = np.array([0.1, 0.5, 0.5, 0.5, 0.9, 0.9, 0.25, 0.25])
    targets = np.array([0, 1, 0, 1, 1, 0, 0, 1])
    ours = ClassificationMetrics(["no", "yes"])
    ours.update(torch.from_numpy(np.stack([1 - scores, scores], axis=1)).log(), torch.from_numpy(targets))
    assert ours.finish()["roc_auc"] == pytest.approx(reference.roc_auc_score(targets, scores), abs=TOLERANCE)


def test_top5():
    probs, targets, ours = judged(300, 9, seed=7)
    wanted = reference.top_k_accuracy_score(targets, probs, k=5, labels=list(range(9)))
    assert ours.finish()["top5_accuracy"] == pytest.approx(wanted, abs=TOLERANCE)


def test_calibration_error_against_the_formula():
    probs, targets, ours = judged(500, 4, seed=3)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == targets
    error = 0.0
    for m in range(1, 16):
        chosen = (confidence > (m - 1) / 15) & (confidence <= m / 15)
        if chosen.any():
            error += chosen.mean() * abs(correct[chosen].mean() - confidence[chosen].mean())
    assert ours.finish()["calibration_error"] == pytest.approx(error, abs=TOLERANCE)


def test_a_probability_of_zero_counts_as_in_scikit_learn():
    probs = np.array([[1.0, 0.0], [0.25, 0.75]])
    ours = ClassificationMetrics(["a", "b"])
    ours.update(torch.from_numpy(probs).log(), torch.tensor([1, 1]))
    assert ours.finish()["cross_entropy"] == pytest.approx(
        reference.log_loss([1, 1], probs, labels=[0, 1]), abs=TOLERANCE
    )


@pytest.mark.parametrize("num_targets", [1, 3])
def test_regression(num_targets):
    generator = np.random.default_rng(num_targets)
    targets = generator.normal(size=(120, num_targets)) * [1.0, 50.0, 0.01][:num_targets]
    predictions = targets + generator.normal(size=targets.shape) * 0.3
    ours = RegressionMetrics([f"t{i}" for i in range(num_targets)])
    for rows in torch.arange(120).split(50):
        ours.update(torch.from_numpy(predictions)[rows], torch.from_numpy(targets)[rows])
    found = ours.finish()
    assert found == pytest.approx(
        {
            "mse": reference.mean_squared_error(targets, predictions),
            "rmse": reference.mean_squared_error(targets, predictions) ** 0.5,
            "mae": reference.mean_absolute_error(targets, predictions),
            "r2": reference.r2_score(targets, predictions),
        },
        rel=TOLERANCE,
    )
    for index, row in enumerate(ours.details()["per_target"]):
        assert row["r2"] == pytest.approx(reference.r2_score(targets[:, index], predictions[:, index]), rel=1e-10)
