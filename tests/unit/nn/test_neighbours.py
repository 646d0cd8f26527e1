"""Exact search against float64 brute force, and the bounds that the proof of exactness rests on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lamina.core.errors import ShapeError
from lamina.nn import neighbours
from lamina.nn.neighbours import Metric, NeighbourIndex

PRODUCTS = [torch.bfloat16, torch.float32, torch.float64]
METRICS: list[Metric] = ["l2", "l1", "cosine"]


def all_keys(queries: Tensor, rows: Tensor, metric: Metric) -> Tensor:
    """Keys as the module defines them, float64 (Q, N), by the plainest code."""
    q, x = queries.double(), rows.double()
    if metric == "cosine":
        norms = q.norm(dim=1)[:, None] * x.norm(dim=1)[None]
        return 2 - 2 * torch.where(norms > 0, (q @ x.T) / norms, 0.0)
    gaps = q[:, None] - x[None]
    return gaps.abs().sum(2) if metric == "l1" else gaps.square().sum(2)


def brute_force(queries: Tensor, rows: Tensor, metric: Metric, k: int) -> tuple[Tensor, Tensor]:
    keys = all_keys(queries, rows, metric)
    order = keys.argsort(dim=1, stable=True)[:, :k]
    return keys.gather(1, order), order


def assert_exact(queries: Tensor, rows: Tensor, metric: Metric, k: int, **options: object) -> NeighbourIndex:
    index = NeighbourIndex(rows, metric=metric, **options)  # type: ignore[arg-type]
    keys, found = index.search(queries, k=k)
    wanted_keys, wanted = brute_force(queries, rows, metric, k)
    tolerance = 1e-12 * float(wanted_keys.abs().max().clamp(min=1e-300))
    torch.testing.assert_close(keys, wanted_keys, rtol=1e-12, atol=tolerance if metric != "l1" else 0.0)
    if metric == "cosine":  # computed by a product, so equal keys may differ in the last bit
        wrong = found != wanted
        assert float((all_keys(queries, rows, metric).gather(1, found) - wanted_keys)[wrong].abs().sum()) < 1e-12
    else:
        assert torch.equal(found, wanted)
    return index


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("metric", METRICS)
def test_noise(metric: Metric, product: torch.dtype) -> None:
    index = assert_exact(noise(20, 96, seed=1), noise(1500, 96), metric, 5, product=product)
    assert index.statistics.queries == 20
    assert index.statistics.measured < 20 * 1500 / 2, "the shortlist excluded nothing"


@pytest.mark.parametrize("product", PRODUCTS)
def test_clusters_far_from_the_origin(product: torch.dtype) -> None:
    centres = noise(12, 64, seed=3) * 50 + 1000
    rows = centres.repeat(100, 1) + noise(1200, 64) * 0.01
    assert_exact(centres + noise(12, 64, seed=5) * 0.01, rows, "l2", 7, product=product)


@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_go_to_the_lower_number(metric: Metric) -> None:
    rows = torch.randint(0, 2, (900, 1), generator=torch.Generator().manual_seed(0)).float()
    rows[0] = 0.0  # a zero vector, at right angles to everything
    index = assert_exact(rows[:40].clone(), rows, metric, 9, product=torch.bfloat16)
    assert index.statistics.widened > 0, "so many ties cannot be proved from a shortlist"


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18])
def test_extreme_scales(scale: float) -> None:
    assert_exact(noise(6, 40, seed=1) * scale, noise(700, 40) * scale, "l2", 3, product=torch.bfloat16)


def test_rows_that_differ_by_less_than_bf16_and_float32_can_tell() -> None:
    base = noise(1, 200, seed=2) * 3
    rows = base + noise(800, 200) * 1e-5
    index = assert_exact(base + noise(10, 200, seed=4) * 1e-5, rows, "l2", 5, product=torch.bfloat16)
    far = torch.cat([rows, noise(400, 200, seed=9) * 300])  # which now spoil the centre
    widened = assert_exact(base + noise(10, 200, seed=4) * 1e-5, far, "l2", 5, product=torch.bfloat16)
    assert widened.statistics.widened > 0
    assert index.statistics.queries == 10


@pytest.mark.parametrize("metric", METRICS)
def test_bytes_stand_for_their_scaled_values(metric: Metric) -> None:
    codes = torch.randint(0, 256, (900, 30), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    scale = float(torch.tensor(1 / 255, dtype=torch.float64).float())
    rows = codes.float() * scale
    queries = torch.rand(9, 30, generator=torch.Generator().manual_seed(1))
    keys, found = NeighbourIndex(codes, metric=metric, scale=scale).search(queries, k=4)
    plain_keys, plain = NeighbourIndex(rows, metric=metric).search(queries, k=4)
    assert torch.equal(keys, plain_keys)
    assert torch.equal(found, plain)


@pytest.mark.parametrize("k", [1, 3, 250, 300])
def test_few_rows_and_many_neighbours(k: int) -> None:
    assert_exact(noise(5, 8, seed=1), noise(300, 8), "l2", k)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("_ROWS_AT_ONCE", 130), ("_QUERIES_AT_ONCE", 7), ("_PAIR_VALUES", 64), ("_L1_VALUES", 64)):
        monkeypatch.setattr(neighbours, name, size)
    for metric in METRICS:
        assert_exact(noise(17, 12, seed=1), noise(1000, 12), metric, 4)


def test_no_queries() -> None:
    keys, rows = NeighbourIndex(noise(30, 4), metric="l2").search(torch.zeros(0, 4), k=3)
    assert keys.shape == rows.shape == (0, 3)


@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([1e-3, 1.0, 100.0]),
    shift=st.sampled_from([0.0, 3.0, 500.0]),
    metric=st.sampled_from(METRICS),
    product=st.sampled_from(PRODUCTS),
    width=st.sampled_from([1, 3, 50, 400]),
)
def test_no_score_promises_more_than_the_truth(
    seed: int, scale: float, shift: float, metric: Metric, product: torch.dtype, width: int
) -> None:
    rows, queries = noise(64, width, seed=seed) * scale + shift, noise(8, width, seed=seed + 1) * scale + shift
    queries[:4] = rows[:4] + noise(4, width, seed=seed + 2) * scale * 1e-3
    index = NeighbourIndex(rows, metric=metric, product=product)
    codes, slack = index._encode(queries)
    bounds = index._lower_bound(index._scores(codes, 0), slack)
    keys = all_keys(queries, rows, metric)
    assert bool((bounds <= keys + 1e-12).all())
    threshold = index._threshold(keys, slack)
    assert bool((threshold <= index._scores(codes, 0).double() + 1e-300).all()), (
        "a row that qualifies would be passed over"
    )


def test_a_wrong_bound_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same search with the bounds switched off leaves neighbours out: the proof is what makes it exact."""
    monkeypatch.setattr(
        NeighbourIndex,
        "_lower_bound",
        lambda self, scores, slack: torch.where(scores > scores[:, :12].amin(1, keepdim=True), 0.0, torch.inf).double(),
    )
    base = noise(1, 200, seed=2) * 3
    rows = torch.cat([base + noise(800, 200) * 1e-3, noise(400, 200, seed=9) * 30])
    with pytest.raises(AssertionError):
        assert_exact(base + noise(10, 200, seed=4) * 1e-3, rows, "l2", 5, product=torch.bfloat16)


def test_what_does_not_fit_is_refused() -> None:
    index = NeighbourIndex(noise(10, 4), metric="l2")
    with pytest.raises(ShapeError, match="queries are shaped"):
        index.search(torch.zeros(3, 5), k=1)
    with pytest.raises(ShapeError, match="k is 11"):
        index.search(torch.zeros(3, 4), k=11)
    with pytest.raises(ShapeError, match="rows of an index"):
        NeighbourIndex(torch.zeros(3, 4, dtype=torch.float64), metric="l2")


def test_float32_products_that_are_rounded_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    assert neighbours.product_dtype(torch.device("cpu")) == torch.float32
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "medium")
    assert neighbours.product_dtype(torch.device("cpu")) == torch.float64
