"""The suggestion of the learning-rate finder, from losses that were made up."""

from __future__ import annotations

import math
import random

import pytest

from lamina.train.learning_rate import _steepest

RATES = [1e-6 * 10 ** (step / 15) for step in range(90)]  # up to 0.86


def losses_of(*, fall_at: float, noise: float, seed: int = 0) -> list[float]:
    """A loss that falls around a rate, smoothed as the finder does; its first values are averages of few."""
    draw, average, smoothed = random.Random(seed), 0.0, []
    for step, rate in enumerate(RATES):
        loss = 0.5 - 0.4 / (1 + (fall_at / rate) ** 1.0) + draw.gauss(0, noise) + (rate > 0.3) * 3
        average = 0.9 * average + 0.1 * loss
        smoothed.append(average / (1 - 0.9 ** (step + 1)))
    return smoothed


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_the_first_steps_is_no_fall(seed: int) -> None:
    found = _steepest(RATES, losses_of(fall_at=1e-3, noise=0.08, seed=seed))
    assert 2e-4 < found < 0.1  # the average lags ten steps behind, which is a factor of five


def test_a_straight_fall_is_found_in_its_middle() -> None:
    losses = [1.0 if place < 40 else 1.0 - 0.1 * (place - 40) if place <= 50 else 0.0 for place in range(60)]
    losses += [5.0] * 30
    assert 42 <= RATES.index(_steepest(RATES, losses)) <= 48


def test_few_steps_and_a_loss_that_only_rises_give_some_rate() -> None:
    assert _steepest([0.1, 0.2, 0.4], [1.0, 0.5, 0.7]) == 0.2
    assert _steepest(RATES, [math.exp(place / 30) for place in range(90)]) in RATES
    assert _steepest([0.1], [1.0]) == 0.1
