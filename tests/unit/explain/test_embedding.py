"""The embedding view: principal components, neighbours, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from lamina.core.errors import UsageError
from lamina.explain.embedding import moved_apart, principal_components, same_class_neighbours
from lamina.explain.views import show_view
from unit.explain.view_case import bar_subject, pixels


def test_principal_components_as_scikit_learn_has_them() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1]
    points, shares = principal_components(rows)
    theirs = PCA(2).fit(rows)
    np.testing.assert_allclose(np.abs(points), np.abs(theirs.transform(rows)), rtol=1e-9)
    np.testing.assert_allclose(shares, theirs.explained_variance_ratio_, rtol=1e-9)


def test_principal_components_of_too_little() -> None:
    points, shares = principal_components(np.ones((4, 1)))
    assert points.shape == (4, 2)
    assert not points.any()
    assert shares.tolist() == [0.0]


def test_neighbours_of_the_same_class_by_hand() -> None:
    points = np.array([[0.0], [0.1], [1.0], [1.05], [5.0]])
    assert same_class_neighbours(points, np.array([0, 0, 1, 0, 1])) == pytest.approx(2 / 5)


def test_features_are_drawn_by_class() -> None:
    shown = show_view("embedding", bar_subject(), most=40)
    document = shown.document
    assert (document["num_rows"], document["split"], document["accuracy"]) == (40, "test", 1.0)
    assert document["same_class_neighbours"] == 1.0
    assert document["explained_variance"][0] > 0.9
    assert document["perplexity"] == 13
    assert shown.arrays["features"].shape == (40, 128)
    assert shown.arrays["tsne"].shape == shown.arrays["pca"].shape == (40, 2)
    first = shown.arrays["pca"][:, 0]
    labels = shown.arrays["label"]
    assert first[labels == 0].max() < first[labels == 1].min() or first[labels == 0].min() > first[labels == 1].max()
    assert pixels(shown.figure).std() > 5


def test_few_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="There are 6 rows"):
        show_view("embedding", bar_subject(6))
    assert "pca" not in show_view("embedding", bar_subject(20), method="tsne").arrays


def test_names_that_would_lie_on_each_other_are_moved_apart() -> None:
    places = np.array([[0.5, 0.5], [0.52, 0.51], [0.5, 0.9], [0.1, 0.5]])
    moved = moved_apart(places, ["baseball", "cricket", "football", "golf"])
    assert np.array_equal(moved[[0, 2, 3]], places[[0, 2, 3]])
    assert moved[1] == pytest.approx([0.52, 0.558])
    many = moved_apart(np.full((6, 2), 0.5), ["one"] * 6)
    assert np.diff(np.sort(many[:, 1])) == pytest.approx(np.full(5, 0.058))
