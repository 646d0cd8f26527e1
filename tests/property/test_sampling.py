"""Sampling, for any logits: top-k never leaves the k best, the nucleus is the smallest set, no temperature is greedy."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lamina.tasks.sampling import choose, sampling_probs

ROWS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=12)


def as_logits(row: list[float]) -> Tensor:
    return torch.tensor([row])


@settings(deadline=None)
@given(ROWS, st.integers(1, 15), st.floats(0.05, 5), st.integers(0, 1000))
def test_top_k_never_leaves_the_k_best(row: list[float], top_k: int, temperature: float, seed: int) -> None:
    logits = as_logits(row)
    probs = sampling_probs(logits, temperature=temperature, top_k=top_k)
    drawn = choose(probs.expand(20, -1), seed=seed, samples=torch.arange(20), place=0)
    worst = sorted(row, reverse=True)[min(top_k, len(row)) - 1]
    assert min(row[index] for index in drawn.tolist()) >= worst
    assert int((probs > 0).sum()) <= top_k


@settings(deadline=None)
@given(ROWS, st.floats(0.01, 1))
def test_the_nucleus_is_the_smallest_set_of_the_best(row: list[float], top_p: float) -> None:
    plain = sampling_probs(as_logits(row))[0]
    kept = sampling_probs(as_logits(row), top_p=top_p)[0] > 0
    chosen = plain[kept]
    assert chosen.numel() >= 1
    if bool((~kept & (plain > 0)).any()):
        assert float(chosen.min()) >= float(plain[~kept].max())
        assert float(chosen.sum()) >= top_p - 1e-9
    # Without its least likely member the set would not reach p.
    assert float(chosen.sum() - chosen.min()) < top_p + 1e-9


@settings(deadline=None)
@given(ROWS, st.integers(0, 1000))
def test_no_temperature_is_greedy(row: list[float], seed: int) -> None:
    # At 1e-12 logits that differ by less than 1e-9 may still be mistaken for each other.
    for temperature, close in ((0.0, 0.0), (1e-12, 1e-9)):
        probs = sampling_probs(as_logits(row), temperature=temperature)
        drawn = int(choose(probs, seed=seed, samples=torch.tensor([0]), place=3))
        assert row[drawn] >= max(row) - close


@settings(deadline=None)
@given(ROWS, st.floats(0, 5), st.none() | st.integers(1, 5), st.none() | st.floats(0.01, 1))
def test_what_comes_out_is_a_distribution(
    row: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    probs = sampling_probs(as_logits(row), temperature=temperature, top_k=top_k, top_p=top_p)
    assert bool((probs >= 0).all())
    assert abs(float(probs.sum()) - 1) < 1e-9
