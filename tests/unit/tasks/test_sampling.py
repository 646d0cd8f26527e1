"""Sampling: what each option leaves, and that draws are a function of seed, sample and place."""

from __future__ import annotations

import math

import pytest
import torch

from lamina.core.errors import ConfigError, NonFiniteError
from lamina.tasks.sampling import choose, sampling_probs

LOGITS = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()


def test_plain_sampling_is_the_softmax() -> None:
    torch.testing.assert_close(sampling_probs(LOGITS), LOGITS.exp().double())


def test_top_k_renormalises_what_is_left() -> None:
    torch.testing.assert_close(
        sampling_probs(LOGITS, top_k=2), torch.tensor([[0.625, 0.375, 0.0, 0.0]], dtype=torch.float64)
    )


@pytest.mark.parametrize(("top_p", "left"), [(0.1, 1), (0.5, 1), (0.51, 2), (0.79, 2), (0.94, 3), (0.96, 4), (1.0, 4)])
def test_the_nucleus_is_the_smallest_set_that_reaches_p(top_p: float, left: int) -> None:
    # A hair below the sums, which float32 logarithms do not hit exactly.
    assert int((sampling_probs(LOGITS, top_p=top_p - 1e-6) > 0).sum()) == left


def test_top_k_comes_before_the_nucleus() -> None:
    """Of the two best, 0.625 and 0.375, the first alone reaches 0.6; of all four it does not."""
    assert int((sampling_probs(LOGITS, top_k=2, top_p=0.6) > 0).sum()) == 1
    assert int((sampling_probs(LOGITS, top_p=0.6) > 0).sum()) == 2


def test_equals_are_told_apart_by_their_number() -> None:
    assert sampling_probs(torch.zeros(1, 4), top_k=1).tolist() == [[1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize("temperature", [0.0, 1e-300])
def test_no_temperature_is_greedy(temperature: float) -> None:
    assert sampling_probs(LOGITS.flip(1), temperature=temperature).tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_excluded_tokens_are_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[0, 0] = -math.inf
    probs = sampling_probs(logits, temperature=100.0).expand(2000, -1)
    drawn = choose(probs, seed=0, samples=torch.arange(2000), place=0)
    assert set(drawn.tolist()) == {1, 2, 3}


def test_draws_have_the_distribution() -> None:
    probs = sampling_probs(LOGITS).expand(20_000, -1)
    drawn = choose(probs, seed=3, samples=torch.arange(20_000), place=5)
    shares = torch.bincount(drawn, minlength=4) / 20_000
    # Five standard deviations of a share: 5 * sqrt(0.25 / 20000).
    assert (shares - LOGITS.exp()[0]).abs().max() < 0.018


def test_a_draw_depends_on_seed_sample_and_place_alone() -> None:
    probs = torch.full((50, 100), 0.01, dtype=torch.float64)
    samples = torch.arange(50)
    whole = choose(probs, seed=1, samples=samples, place=2)
    assert torch.equal(choose(probs[:7], seed=1, samples=samples[:7], place=2), whole[:7])
    assert torch.equal(choose(probs[:3], seed=1, samples=samples[20:23], place=2), whole[20:23])
    for other in (choose(probs, seed=2, samples=samples, place=2), choose(probs, seed=1, samples=samples, place=3)):
        assert (other == whole).float().mean() < 0.2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1.0),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.5),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} got {value}"):
        sampling_probs(LOGITS, **{name: value})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(NonFiniteError):
        sampling_probs(torch.tensor([[0.0, bad]]))


def test_a_row_without_any_token_is_refused() -> None:
    with pytest.raises(NonFiniteError):
        sampling_probs(torch.full((1, 3), -math.inf))
