"""Schedules: formulas, warm-up, units, the end, state, and what is refused."""

from __future__ import annotations

import json
import math

import pytest

from lamina.core import registry
from lamina.core.errors import CheckpointError, ConfigError, UnknownNameError
from lamina.optim.schedules import create_schedule

NAMES = (
    "constant",
    "linear-warmup",
    "step",
    "exponential",
    "polynomial",
    "cosine",
    "one-cycle",
    "noam",
    "reduce-on-plateau",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("total", [1, 2, 3, 10, 1000])
def test_factors_are_pure_finite_and_at_most_one(name: str, total: int) -> None:
    schedule = create_schedule({"name": name}, total_steps=total)
    factors = schedule.factors(0, total)
    assert len(factors) == total
    assert all(isinstance(f, float) and math.isfinite(f) and 0 <= f <= 1 + 1e-12 for f in factors)
    assert factors == [schedule.factor(step) for step in range(total)]
    assert schedule.factors(total // 2, total - total // 2) == factors[total // 2 :]
    assert factors == create_schedule({"name": name}, total_steps=total).factors(0, total)
    assert schedule.factor(total + 5) == factors[-1]
    assert schedule.factors(0, 0) == []


def test_every_registered_schedule_is_tried_here() -> None:
    assert set(registry.names("schedule")) == set(NAMES)
    for entry in registry.entries("schedule"):
        assert entry.summary
        assert entry.source


def test_step() -> None:
    third = create_schedule({"name": "step"}, total_steps=9)
    assert third.factors(0, 9) == pytest.approx([1] * 3 + [0.1] * 3 + [0.01] * 3)
    every = create_schedule({"name": "step", "every": 2, "gamma": 0.5}, total_steps=6)
    assert every.factors(0, 6) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    stones = create_schedule({"name": "step", "milestones": [1, 4], "gamma": 0.5}, total_steps=6)
    assert stones.factors(0, 6) == [1, 0.5, 0.5, 0.5, 0.25, 0.25]
    epochs = create_schedule(
        {"name": "step", "every": 1, "gamma": 0.5, "unit": "epoch"}, total_steps=6, steps_per_epoch=3
    )
    assert epochs.factors(0, 6) == [1, 1, 1, 0.5, 0.5, 0.5]


def test_exponential() -> None:
    assert create_schedule({"name": "exponential", "gamma": 0.5}, total_steps=4).factors(0, 4) == [1, 0.5, 0.25, 0.125]
    assert create_schedule({"name": "exponential"}, total_steps=101).factor(100) == pytest.approx(0.01)
    epochs = create_schedule({"name": "exponential", "gamma": 0.5, "unit": "epoch"}, total_steps=4, steps_per_epoch=2)
    assert epochs.factors(0, 4) == [1, 1, 0.5, 0.5]


def test_polynomial_and_cosine() -> None:
    assert create_schedule({"name": "polynomial"}, total_steps=4).factors(0, 4) == [1, 0.75, 0.5, 0.25]
    squared = create_schedule({"name": "polynomial", "power": 2, "final_factor": 0.2}, total_steps=4)
    assert squared.factors(0, 4) == pytest.approx([1, 0.65, 0.4, 0.25])
    cosine = create_schedule({"name": "cosine", "final_factor": 0.5}, total_steps=4)
    assert cosine.factor(2) == pytest.approx(0.75)


def test_one_cycle() -> None:
    schedule = create_schedule({"name": "one-cycle"}, total_steps=100)
    factors = schedule.factors(0, 100)
    assert factors[0] == pytest.approx(1 / 25)
    assert max(factors) == factors[29] == 1.0
    assert factors[-1] == pytest.approx(1 / 25 / 1e4)


def test_noam_peaks_at_one_or_is_the_papers_rate() -> None:
    peak = create_schedule({"name": "noam", "warmup_steps": 4}, total_steps=16)
    assert peak.factors(0, 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert peak.factor(15) == pytest.approx(0.5)
    paper = create_schedule({"name": "noam", "hidden_size": 512}, total_steps=100_000)
    assert paper.factor(3999) == pytest.approx(512**-0.5 * 4000**-0.5)
    assert paper.factor(0) == pytest.approx(512**-0.5 * 4000**-1.5)
    share = create_schedule({"name": "noam", "warmup_fraction": 0.1}, total_steps=40)
    assert share.factor(3) == 1.0


@pytest.mark.parametrize("name", ["polynomial", "cosine", "one-cycle"])
def test_warm_up_before_a_schedule_that_spans(name: str) -> None:
    schedule = create_schedule({"name": name, "warmup_steps": 5}, total_steps=25)
    assert schedule.factors(0, 5) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert schedule.factors(5, 20) == create_schedule({"name": name}, total_steps=20).factors(0, 20)


@pytest.mark.parametrize("name", ["constant", "step", "exponential", "reduce-on-plateau"])
def test_warm_up_times_a_schedule_that_counts(name: str) -> None:
    schedule = create_schedule({"name": name, "warmup_fraction": 0.2}, total_steps=25)
    plain = create_schedule({"name": name}, total_steps=25).factors(0, 25)
    wanted = [f * min(1.0, (step + 1) / 5) for step, f in enumerate(plain)]
    assert schedule.factors(0, 25) == pytest.approx(wanted)


def test_linear_warm_up() -> None:
    assert create_schedule({"name": "linear-warmup"}, total_steps=20).factors(0, 4) == [0.5, 1.0, 1.0, 1.0]
    assert create_schedule({"name": "linear-warmup", "warmup_steps": 4}, total_steps=20).factors(0, 5) == [
        0.25,
        0.5,
        0.75,
        1,
        1,
    ]
    long = create_schedule({"name": "linear-warmup", "warmup_steps": 40}, total_steps=20)
    assert long.factor(19) == 1.0  # a warm-up longer than the training is cut to it


def test_plateau() -> None:
    schedule = create_schedule(
        {"name": "reduce-on-plateau", "patience": 1, "gamma": 0.5, "cooldown": 1}, total_steps=100
    )
    seen = []
    for metric in (1.0, 0.9, 0.9, 0.9, 0.95, 0.9, 0.9, 0.1, 0.2):
        schedule.observe(metric)
        seen.append(schedule.factor(0))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_plateau_directions_nan_and_negative_metrics() -> None:
    values = {"name": "reduce-on-plateau", "patience": 0, "gamma": 0.5}
    rising = create_schedule(values, total_steps=10, mode="max")
    for metric in (0.5, 0.6, 0.7):
        rising.observe(metric)
    assert rising.factor(0) == 1.0
    own = create_schedule({**values, "mode": "max"}, total_steps=10, mode="min")
    own.observe(0.5)
    own.observe(0.6)
    assert own.factor(0) == 1.0
    falling = create_schedule(values, total_steps=10)
    falling.observe(float("nan"))
    assert falling.factor(0) == 0.5
    negative = create_schedule(values, total_steps=10)
    negative.observe(-1.0)
    negative.observe(-1.0)
    assert negative.factor(0) == 0.5
    floor = create_schedule({**values, "min_factor": 0.3}, total_steps=10)
    for _ in range(5):
        floor.observe(1.0)
    assert floor.factor(0) == 0.3


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_through_json(name: str) -> None:
    values = {"name": name, **({"patience": 0} if name == "reduce-on-plateau" else {})}
    one, two = (create_schedule(values, total_steps=50) for _ in range(2))
    for metric in (3.0, 2.0, 2.0, 2.5):
        one.observe(metric)
    two.load_state(json.loads(json.dumps(one.state())))
    for metric in (2.0, 1.0, 1.0):
        one.observe(metric)
        two.observe(metric)
    assert one.factors(0, 50) == two.factors(0, 50)
    with pytest.raises(CheckpointError, match="state"):
        two.load_state({"strange": 1})


def test_what_is_refused() -> None:
    with pytest.raises(UnknownNameError) as caught:
        create_schedule({"name": "cosin"}, total_steps=10)
    assert "'cosine'" in caught.value.mend
    with pytest.raises(ConfigError, match=r"warmup_fraction=0\.5"):
        create_schedule({"name": "cosine", "warmup_steps": 3, "warmup_fraction": 0.5}, total_steps=10)
    with pytest.raises(ConfigError, match=r"warmup_fraction=0\.5"):
        create_schedule({"name": "noam", "warmup_steps": 3, "warmup_fraction": 0.5}, total_steps=10)
    with pytest.raises(ConfigError, match="every=3"):
        create_schedule({"name": "step", "every": 3, "milestones": [5]}, total_steps=10)
    with pytest.raises(ConfigError, match="length of an epoch"):
        create_schedule({"name": "step", "unit": "epoch"}, total_steps=10)
    with pytest.raises(ConfigError, match="0 steps"):
        create_schedule({"name": "constant"}, total_steps=0)
    with pytest.raises(ConfigError, match=r"schedule\.final_factor"):
        create_schedule({"name": "cosine", "final_factor": 2}, total_steps=10)
    assert create_schedule({}, total_steps=3).factors(0, 3) == [1.0, 1.0, 1.0]
