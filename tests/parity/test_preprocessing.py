"""Preprocessing against scikit-learn. Outputs are float32, so a few units in the last place of float32 are allowed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from torch import Tensor

from lamina.data.columns import Columns, DataSpec, FieldSpec, column_spec
from lamina.data.preprocessing import Preprocessing

TABLE = load_breast_cancer().data.astype(np.float32)
TRAIN, TEST = TABLE[:400], TABLE[400:]


def features(steps: list[object], train: np.ndarray, test: np.ndarray) -> np.ndarray:
    columns = Columns({"number": torch.from_numpy(train)})
    fields = tuple(FieldSpec(name=str(i)) for i in range(train.shape[1]))
    spec = DataSpec(columns={"number": column_spec("number", columns["number"], fields=fields)}, num_rows={})
    made = Preprocessing.fit(steps, columns, spec)  # type: ignore[arg-type]
    out: Tensor = made({"number": torch.from_numpy(test)})["features"]
    return out.numpy()


@pytest.mark.parametrize(("step", "reference"), [("standardise", StandardScaler()), ("scale", MinMaxScaler())])
def test_scalers(step: str, reference: StandardScaler | MinMaxScaler) -> None:
    wanted = reference.fit(TRAIN.astype(np.float64)).transform(TEST.astype(np.float64))
    np.testing.assert_allclose(features([step], TRAIN, TEST), wanted, rtol=2e-6, atol=2e-6)


def test_standardise_passes_over_missing_values() -> None:
    train = TRAIN.copy()
    train[::3, 2] = np.nan
    wanted = StandardScaler().fit(train.astype(np.float64)).transform(TEST.astype(np.float64))
    np.testing.assert_allclose(features(["standardise", "impute"], train, TEST), wanted, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("strategy", ["mean", "median", "most-frequent"])
def test_imputers(strategy: str) -> None:
    train, test = np.round(TRAIN, 1), TEST.copy()
    train[1::2, 0] = np.nan
    train[5, 4] = np.nan
    test[::2, :5] = np.nan
    reference = SimpleImputer(strategy=strategy.replace("-", "_")).fit(train.astype(np.float64))
    marks = MissingIndicator(features="missing-only", error_on_new=False).fit(train)
    wanted = np.concatenate([reference.transform(test.astype(np.float64)), marks.transform(test)], axis=1)
    got = features([{"name": "impute", "strategy": strategy, "indicator": True}], train, test)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("whiten", [False, True])
def test_pca_up_to_sign(whiten: bool) -> None:
    pixels = load_digits().images.astype(np.float64).reshape(1797, 64) / 16
    wanted = PCA(20, whiten=whiten, svd_solver="full").fit(pixels[:1500]).transform(pixels[1500:])
    images = (pixels * 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    columns = Columns({"image": torch.from_numpy(images[:1500])})
    spec = DataSpec(columns={"image": column_spec("image", columns["image"], maximum=16.0)}, num_rows={})
    made = Preprocessing.fit(["scale", {"name": "pca", "num_components": 20, "whiten": whiten}], columns, spec)
    got = made({"image": torch.from_numpy(images[1500:])})["features"].numpy()
    signs = np.sign((got * wanted).sum(0))
    np.testing.assert_allclose(got * signs, wanted, rtol=1e-4, atol=2e-5)


def test_one_hot() -> None:
    generator = np.random.default_rng(0)
    train, test = generator.integers(0, 4, (50, 3)), generator.integers(0, 6, (40, 3))
    train[train == 2] = 3  # a category that training lacks in the middle
    reference = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(train)
    fields = tuple(FieldSpec(name=f"k{i}", classes=tuple("abcdef")) for i in range(3))
    columns = Columns({"category": torch.from_numpy(train)})
    spec = DataSpec(columns={"category": column_spec("category", columns["category"], fields=fields)}, num_rows={})
    made = Preprocessing.fit(["one-hot"], columns, spec)
    got = made({"category": torch.from_numpy(test)})["features"].numpy()
    np.testing.assert_array_equal(got, reference.transform(test))


def test_zca_against_its_formula() -> None:
    pixels = load_digits().images.astype(np.float64).reshape(1797, 64) / 16
    epsilon = 1e-2
    mean = pixels.mean(0)
    values, vectors = np.linalg.eigh(np.cov(pixels.T))
    wanted = (pixels - mean) @ (vectors / np.sqrt(values + epsilon)) @ vectors.T
    images = torch.from_numpy((pixels * 16).astype(np.uint8).reshape(-1, 1, 8, 8))
    columns = Columns({"image": images})
    spec = DataSpec(columns={"image": column_spec("image", images, maximum=16.0)}, num_rows={})
    made = Preprocessing.fit(["scale", {"name": "zca", "epsilon": epsilon}], columns, spec)
    np.testing.assert_allclose(made({"image": images})["image"].flatten(1).numpy(), wanted, rtol=1e-4, atol=1e-5)
