"""One hundred steps of every schedule against torch.optim.lr_scheduler; Noam against the paper's formula."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from lamina.optim.schedules import create_schedule

STEPS = 100


def _rates(make: Callable[[torch.optim.Optimizer], Any]) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # schedulers in a row step each other with a deprecated argument
        schedule = make(optimizer)
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
    return rates


CASES: dict[str, tuple[dict[str, Any], Callable[[torch.optim.Optimizer], Any]]] = {
    "constant": ({"name": "constant"}, lambda o: theirs.ConstantLR(o, factor=1.0)),
    "warm-up": (
        {"name": "constant", "warmup_steps": 20},
        lambda o: theirs.LinearLR(o, start_factor=1 / 20, total_iters=19),
    ),
    "step": ({"name": "step", "every": 30, "gamma": 0.2}, lambda o: theirs.StepLR(o, 30, gamma=0.2)),
    "milestones": (
        {"name": "step", "milestones": [10, 50, 51], "gamma": 0.5},
        lambda o: theirs.MultiStepLR(o, [10, 50, 51], gamma=0.5),
    ),
    "exponential": ({"name": "exponential", "gamma": 0.97}, lambda o: theirs.ExponentialLR(o, 0.97)),
    "polynomial": (
        {"name": "polynomial", "power": 2.0},
        lambda o: theirs.PolynomialLR(o, total_iters=STEPS, power=2.0),
    ),
    "linear": (
        {"name": "polynomial", "final_factor": 0.25},
        lambda o: theirs.LinearLR(o, start_factor=1.0, end_factor=0.25, total_iters=STEPS),
    ),
    "cosine": ({"name": "cosine"}, lambda o: theirs.CosineAnnealingLR(o, STEPS)),
    "cosine-floor": (
        {"name": "cosine", "final_factor": 0.1},
        lambda o: theirs.CosineAnnealingLR(o, STEPS, eta_min=0.1),
    ),
    "one-cycle": (
        {"name": "one-cycle"},
        lambda o: theirs.OneCycleLR(o, max_lr=1.0, total_steps=STEPS + 1 - 1, cycle_momentum=False),
    ),
    "one-cycle-linear": (
        {"name": "one-cycle", "rise_fraction": 0.45, "div_factor": 10.0, "final_div_factor": 100.0, "anneal": "linear"},
        lambda o: theirs.OneCycleLR(
            o,
            max_lr=1.0,
            total_steps=STEPS,
            pct_start=0.45,
            div_factor=10.0,
            final_div_factor=100.0,
            anneal_strategy="linear",
            cycle_momentum=False,
        ),
    ),
    "warm-up-then-cosine": (
        {"name": "cosine", "warmup_steps": 10},
        lambda o: theirs.SequentialLR(
            o,
            [theirs.LinearLR(o, start_factor=0.1, total_iters=9), theirs.CosineAnnealingLR(o, STEPS - 10)],
            milestones=[10],
        ),
    ),
    "warm-up-times-exponential": (
        {"name": "exponential", "gamma": 0.97, "warmup_fraction": 0.1},
        lambda o: theirs.ChainedScheduler(
            [theirs.LinearLR(o, start_factor=0.1, total_iters=9), theirs.ExponentialLR(o, 0.97)]
        ),
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_factors_equal_torchs(case: str) -> None:
    values, make = CASES[case]
    if case.startswith("one-cycle"):  # torch refuses a step after the last
        make_, rates = make, []
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make_(optimizer)
        for step in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if step < STEPS - 1:
                schedule.step()
    else:
        rates = _rates(make)
    assert create_schedule(values, total_steps=STEPS).factors(0, STEPS) == pytest.approx(rates, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown", "threshold"), [(0, 0, 1e-4), (2, 0, 0.05), (3, 2, 1e-4), (1, 4, 0.0)])
def test_plateau_equals_torchs(mode: Any, patience: int, cooldown: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(patience)
    metrics = (torch.rand(100, generator=generator) + torch.linspace(1, 0.2, 100)).tolist()
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = theirs.ReduceLROnPlateau(
        optimizer,
        mode=mode,
        factor=0.6,
        patience=patience,
        cooldown=cooldown,
        threshold=threshold,
        min_lr=0.01,
        eps=0.0,
    )
    ours = create_schedule(
        {
            "name": "reduce-on-plateau",
            "gamma": 0.6,
            "patience": patience,
            "cooldown": cooldown,
            "threshold": threshold,
            "min_factor": 0.01,
        },
        total_steps=1000,
        mode=mode,
    )
    for metric in metrics:
        schedule.step(metric)
        ours.observe(metric)
        assert ours.factor(0) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert ours.factor(0) < 1.0


def test_noam_equals_the_papers_formula() -> None:
    schedule = create_schedule({"name": "noam", "hidden_size": 512, "warmup_steps": 30}, total_steps=STEPS)
    wanted = [512**-0.5 * min(step**-0.5, step * 30**-1.5) for step in range(1, STEPS + 1)]
    assert schedule.factors(0, STEPS) == pytest.approx(wanted, rel=1e-12)
