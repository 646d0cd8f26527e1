"""Learning-rate finder: raise the rate step by step and watch where the loss falls fastest.

Source: Smith (2017), "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3. The loss is
smoothed with a bias-corrected moving average; the suggestion is the rate at the steepest descent of the smoothed loss
over log(rate), the sweep ends when the loss exceeds four times its smallest value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lamina.core.errors import ConfigError, NonFiniteError
from lamina.train.eager import Segment
from lamina.train.trainer import Trainer


@dataclass(frozen=True)
class RateSweep:
    """What a sweep saw.

    Attributes:
        rates, losses: One pair per step; losses are smoothed.
        suggestion: The rate where the loss falls fastest.
        diverged_at: The rate at which the loss exploded, or None.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    diverged_at: float | None


def find_learning_rate(
    trainer: Trainer, *, lowest: float = 1e-7, highest: float = 10.0, num_steps: int = 100, smoothing: float = 0.9
) -> RateSweep:
    """Sweep the learning rate over training batches; the model is put back as it was.

    Args:
        trainer: A trainer without a run folder that has not been fitted.
        lowest, highest: First and last rate, > 0.
        num_steps: Steps of the sweep, >= 10.
        smoothing: Decay of the moving average of the loss, in [0, 1).

    Raises:
        ConfigError: The bounds make no sense, or the task learns without gradients.
    """
    if not 0 < lowest < highest or num_steps < 10:
        raise ConfigError(
            f"A sweep from {lowest} to {highest} in {num_steps} steps cannot be made.",
            where="find_learning_rate",
            accepts="0 < lowest < highest, at least 10 steps",
            mend="use the defaults: lowest=1e-7, highest=10, num_steps=100",
        )
    executor, steps_per_epoch, base = trainer.open_for_sweep()
    weights = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
    rates: list[float] = []
    smoothed: list[float] = []
    average, diverged = 0.0, None
    try:
        for step in range(num_steps):
            rate = lowest * (highest / lowest) ** (step / (num_steps - 1))
            segment = Segment(
                epoch=step // steps_per_epoch,
                first_batch=step % steps_per_epoch,
                first_step=step,
                num_steps=1,
                factors=[rate / base],
            )
            try:
                loss = float(executor.run(segment)["loss"][0])
            except NonFiniteError:
                diverged = rate
                break
            average = smoothing * average + (1 - smoothing) * loss
            rates.append(rate)
            smoothed.append(average / (1 - smoothing ** (step + 1)))
            if step > 10 and smoothed[-1] > 4 * min(smoothed):
                diverged = rate
                break
    finally:
        trainer.model.load_state_dict(weights)
    return RateSweep(tuple(rates), tuple(smoothed), _steepest(rates, smoothed), diverged)


def _steepest(rates: list[float], losses: list[float]) -> float:
    """The rate in the middle of the steepest fall, before the smallest loss.

    The fall is the slope of a line through a tenth of the steps, and the first steps do not count: batches differ, and an
    average of few losses jumps more from one to the next than any rate makes it fall.
    """
    lowest = min(range(len(losses)), key=losses.__getitem__)
    half, first = max(1, len(losses) // 20), min(10, len(losses) // 5)
    slopes = {
        i: _slope([math.log(rate) for rate in rates[i - half : i + half + 1]], losses[i - half : i + half + 1])
        for i in range(max(half, first), min(lowest, len(losses) - 1 - half) + 1)
    }
    return rates[min(slopes, key=slopes.__getitem__)] if slopes else rates[lowest]


def _slope(places: list[float], values: list[float]) -> float:
    """Of the line through points with the least squared error."""
    middle, mean = sum(places) / len(places), sum(values) / len(values)
    above = sum((place - middle) * (value - mean) for place, value in zip(places, values, strict=True))
    return above / sum((place - middle) ** 2 for place in places)
