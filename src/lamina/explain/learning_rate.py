"""View `learning-rate`: the loss while the learning rate is raised step by step, and the rate at which it falls fastest.

The sweep itself is the engine's (`train/learning_rate.py`); the subject brings it along, because nothing here may train.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table

from lamina.core.config import Config, Field
from lamina.core.errors import UsageError
from lamina.core.registry import register
from lamina.explain.drawing import draw
from lamina.explain.views import Subject, Sweep, ViewResult, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LearningRateConfig", "learning_rate_view"]


class LearningRateConfig(Config):
    """Options of the view `learning-rate`."""

    lowest: float = Field(1e-6, description="First rate.", gt=0)
    highest: float = Field(10.0, description="Last rate, unless the loss explodes before.", gt=0)
    steps: int = Field(100, description="Steps of training, each with a higher rate.", ge=10, le=100_000)


@register(
    "view",
    "learning-rate",
    config=LearningRateConfig,
    source="Smith (2017), arXiv:1506.01186, section 3.3",
    example="lamina inspect digits learning-rate --output rate.png",
    reads="training",
)
def learning_rate_view(subject: Subject, config: LearningRateConfig) -> ViewResult:
    """The smoothed loss over the learning rate of a recipe or run, and the rate at which it falls fastest.

    `arrays` holds `rates` and `losses`.

    Raises:
        UsageError: The subject is no training: a model or a bundle.
        ConfigError: The bounds make no sense, or the model learns without gradients.
    """
    if subject.sweep is None:
        raise UsageError(
            f"{subject.title} is not a training, so there is no learning rate to try.",
            where="view learning-rate",
            accepts="a recipe (with --data where it has no data of its own) or a run",
            mend="lamina inspect digits learning-rate, or lamina inspect RUN learning-rate",
        )
    sweep = subject.sweep(config.lowest, config.highest, config.steps)
    document = {
        "model": subject.title,
        "shown": "training loss, smoothed, after each step at a higher rate",
        "suggestion": sweep.suggestion,
        "diverged_at": sweep.diverged_at,
        "num_steps": len(sweep.rates),
        "rates": list(sweep.rates),
        "losses": list(sweep.losses),
        "means": "a place to begin: the best rate depends on the schedule, the batch size and how long one trains",
    }
    arrays = {"rates": np.asarray(sweep.rates), "losses": np.asarray(sweep.losses)}
    return ViewResult(document, _table(document), partial(_draw, subject, sweep), arrays)


def _draw(subject: Subject, sweep: Sweep) -> bytes:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(sweep.rates, sweep.losses, color="#0072B2", linewidth=1.5)
        axes.axvline(sweep.suggestion, color="#D55E00", linestyle="--", label=f"falls fastest: {sweep.suggestion:.2g}")
        if sweep.diverged_at is not None:
            axes.axvline(sweep.diverged_at, color="#888888", linestyle=":", label=f"explodes: {sweep.diverged_at:.2g}")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        # What explodes would press the rest flat.
        low, first = min(sweep.losses), sweep.losses[0]
        if max(sweep.losses) > first + (first - low):
            axes.set_ylim(low - 0.1 * (first - low or 1.0), first + (first - low or 1.0))
        axes.set_xlabel("learning rate (log scale)")
        axes.set_ylabel("training loss, smoothed")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)

    return draw(
        paint,
        width=6.0,
        height=3.6,
        title=f"{subject.title}: loss while the learning rate rises",
        note="One step per rate, from the initial weights. A place to begin, not the best rate for every schedule.",
    )


def _table(document: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("falls fastest at", f"{document['suggestion']:.3g}")
    diverged = document["diverged_at"]
    table.add_row("explodes at", "not reached" if diverged is None else f"{diverged:.3g}")
    table.add_row("steps", str(document["num_steps"]))
    return titled(document["shown"], table)
