"""Schedules are functions of the step: how a training is cut into segments does not matter."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.optim.schedules import create_schedule

NAMES = ("constant", "linear-warmup", "step", "exponential", "polynomial", "cosine", "one-cycle", "noam")


@pytest.mark.parametrize("name", NAMES)
@given(total=st.integers(1, 300), cut=st.integers(0, 300), warm=st.floats(0.01, 0.9))
def test_segments_join(name: str, total: int, cut: int, warm: float) -> None:
    schedule = create_schedule({"name": name, "warmup_fraction": warm}, total_steps=total)
    cut = min(cut, total)
    whole = schedule.factors(0, total)
    assert schedule.factors(0, cut) + schedule.factors(cut, total - cut) == whole
    assert all(math.isfinite(factor) and 0 <= factor <= 1 + 1e-12 for factor in whole)


@pytest.mark.parametrize("name", ["polynomial", "cosine", "exponential", "step", "constant"])
@given(total=st.integers(2, 300), warm=st.integers(0, 100))
def test_it_rises_while_warming_up_and_then_never(name: str, total: int, warm: int) -> None:
    schedule = create_schedule({"name": name, "warmup_steps": warm} if warm else {"name": name}, total_steps=total)
    factors = schedule.factors(0, total)
    if name in ("polynomial", "cosine", "constant"):
        rise = factors[: min(warm, total)]
        assert all(a < b for a, b in itertools.pairwise(rise))
    fall = factors[warm:]
    assert all(a >= b - 1e-15 for a, b in itertools.pairwise(fall))
