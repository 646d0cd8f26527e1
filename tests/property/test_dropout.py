"""Keyed dropout: no division of a batch, no layout and no history changes a row's mask."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.nn.dropout import Dropout, DropoutKeys, SpatialDropout

shapes = st.lists(st.integers(1, 9), min_size=0, max_size=4)


@pytest.mark.parametrize("kind", [Dropout, SpatialDropout])
@given(
    rows=st.integers(1, 12),
    rest=shapes,
    cuts=st.lists(st.integers(1, 11), max_size=3),
    seed=st.integers(-(2**40), 2**40),
    step=st.integers(0, 2**31 - 1),
    p=st.floats(0, 0.99),
)
def test_a_rows_mask_does_not_depend_on_its_batch(
    kind: type[Dropout | SpatialDropout], rows: int, rest: list[int], cuts: list[int], seed: int, step: int, p: float
) -> None:
    if kind is SpatialDropout and not rest:
        rest = [3]
    layer = kind(p)
    keys = DropoutKeys(layer, seed)
    x = torch.ones(rows, *rest)
    keys.refresh(step)
    whole = layer(x)
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    pieces = []
    for begin, end in itertools.pairwise(edges):
        keys.refresh(step + 1)  # what happens in between does not matter
        keys.refresh(step, begin)
        pieces.append(layer(x[begin:end]))
    assert torch.equal(torch.cat(pieces), whole)
    assert set(whole.unique().tolist()) <= {0.0, float(torch.tensor(1.0 / layer.keep_prob))}


@given(p=st.floats(0, 0.9999999))
def test_the_rounded_probability_is_near_and_never_one(p: float) -> None:
    layer = Dropout(p)
    assert 0 < layer.keep_prob <= 1
    assert abs((1 - layer.keep_prob) - p) <= 1 / 65536
