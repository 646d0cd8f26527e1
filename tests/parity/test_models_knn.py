"""knn against scikit-learn's brute force, on embedded data and on structured and uniform noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors

from lamina.models.knn import KNN

METRICS = {"l1": "manhattan", "l2": "euclidean", "cosine": "cosine"}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 40])
def test_neighbours(metric: str, k: int) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(800, 4)) @ rng.normal(size=(4, 120)) + 0.1 * rng.normal(size=(800, 120))).astype(
        np.float32
    )
    model = KNN(in_features=120, num_classes=2, metric=metric)  # type: ignore[arg-type]
    model.store(torch.from_numpy(rows[:700]), torch.zeros(700, dtype=torch.int64))
    distances, found = model.neighbours(torch.from_numpy(rows[700:]), k=k)
    judge = NearestNeighbors(n_neighbors=k, metric=METRICS[metric], algorithm="brute").fit(
        rows[:700].astype(np.float64)
    )
    expected_distances, expected = judge.kneighbors(rows[700:].astype(np.float64))
    # scikit-learn expands the square of Euclidean distances: about 1e-15 * |x|**2 / distance is lost.
    np.testing.assert_allclose(distances.numpy(), expected_distances, rtol=1e-9, atol=1e-9)
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("k", [1, 3, 7])
def test_classes_of_digits(weights: str, k: int) -> None:
    inputs, labels = load_digits(return_X_y=True)
    # A little noise parts equal distances and votes, which scikit-learn decides otherwise (lowest class) than we do (nearest).
    inputs = (inputs / 16 + 1e-3 * np.random.default_rng(0).normal(size=inputs.shape)).astype(np.float32)
    model = KNN(in_features=64, k=k, votes=weights)  # type: ignore[arg-type]
    model.store(torch.from_numpy(inputs[:1200]), torch.from_numpy(labels[:1200]))
    judge = KNeighborsClassifier(k, weights=weights, algorithm="brute").fit(
        inputs[:1200].astype(np.float64), labels[:1200]
    )
    shares = judge.predict_proba(inputs[1200:].astype(np.float64))
    logits = model(torch.from_numpy(inputs[1200:]))
    found = ((logits.double().softmax(1) - 0.001) / 0.99).numpy()
    tied = (np.isclose(shares, shares.max(1, keepdims=True))).sum(1) > 1
    assert tied.mean() < 0.05
    np.testing.assert_allclose(found[~tied], shares[~tied], atol=2e-6)
    assert np.array_equal(logits.argmax(1).numpy()[~tied], shares.argmax(1)[~tied])


def test_classes_of_iris_with_its_equal_rows() -> None:
    inputs, labels = load_iris(return_X_y=True)
    inputs = inputs.astype(np.float32)
    model = KNN(in_features=4, num_classes=3, k=5, metric="l1")
    model.store(torch.from_numpy(inputs[::2]), torch.from_numpy(labels[::2]))
    judge = KNeighborsClassifier(5, metric="manhattan", algorithm="brute").fit(
        inputs[::2].astype(np.float64), labels[::2]
    )
    agree = (
        model(torch.from_numpy(inputs[1::2])).argmax(1).numpy() == judge.predict(inputs[1::2].astype(np.float64))
    ).mean()
    assert agree > 0.97, "only ties may be decided otherwise"


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_regression(weights: str) -> None:
    inputs, targets = load_diabetes(return_X_y=True)
    inputs, targets = inputs.astype(np.float32), targets.astype(np.float32)[:, None]
    model = KNN(in_features=10, num_classes=1, k=5, votes=weights, regression=True)  # type: ignore[arg-type]
    model.store(torch.from_numpy(inputs[:300]), torch.from_numpy(targets[:300]))
    judge = KNeighborsRegressor(5, weights=weights, algorithm="brute").fit(
        inputs[:300].astype(np.float64), targets[:300]
    )
    expected = judge.predict(inputs[300:].astype(np.float64))
    np.testing.assert_allclose(model(torch.from_numpy(inputs[300:])).numpy(), expected, rtol=1e-5)
