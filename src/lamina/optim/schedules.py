"""Learning-rate schedules: the factor by which a step's learning rate differs from the optimizer's `lr`.

A schedule is a pure function of the step, so that a resumed run needs nothing but its cursor, and a compiled segment
gets the factors of all its steps at once. Only `reduce-on-plateau` remembers anything: what `observe` was told.

Every schedule can begin with a linear warm-up (`warmup_steps` or `warmup_fraction`): step s of W has the factor
(s + 1) / W, so that the first step already moves. What spans the training (polynomial, cosine, one-cycle) then takes
the steps that remain; what counts steps (step, exponential) or events (reduce-on-plateau) is multiplied by the warm-up.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from lamina.core.config import Config, Field
from lamina.core.errors import CheckpointError, ConfigError
from lamina.core.registry import lookup, register

__all__ = ["Schedule", "ScheduleConfig", "create_schedule"]


class ScheduleConfig(Config):
    """What every schedule can be told."""

    warmup_steps: int = Field(0, description="Steps of linear warm-up at the beginning.", ge=0)
    warmup_fraction: float = Field(
        0.0, description="The same as a share of all steps; give one of the two.", ge=0, lt=1
    )


class WarmupConfig(ScheduleConfig):
    """Options of `linear-warmup`."""

    warmup_fraction: float = Field(
        0.1, description="Share of all steps that rise, where `warmup_steps` is not given.", ge=0, lt=1
    )


class SpanConfig(ScheduleConfig):
    """Options of a schedule that goes down to a final factor over the whole training."""

    final_factor: float = Field(0.0, description="Factor at the end.", ge=0, le=1)


class StepConfig(ScheduleConfig):
    """Options of `step`."""

    gamma: float = Field(0.1, description="The factor is multiplied by this at each drop.", gt=0)
    every: int | None = Field(
        None, description="Drop each time this many have passed; by default a third of the training.", ge=1
    )
    milestones: tuple[int, ...] = Field((), description="Drop when these have passed, instead of regularly.")
    unit: Literal["step", "epoch"] = Field("step", description="What `every` and `milestones` count.")


class ExponentialConfig(ScheduleConfig):
    """Options of `exponential`."""

    gamma: float | None = Field(
        None, description="The factor is multiplied by this per unit; by default such that it ends at 0.01.", gt=0
    )
    unit: Literal["step", "epoch"] = Field("step", description="How often the factor is multiplied.")


class PolynomialConfig(SpanConfig):
    """Options of `polynomial`."""

    power: float = Field(1.0, description="1 is a straight line; LARS was published with 2.", gt=0)


class OneCycleConfig(ScheduleConfig):
    """Options of `one-cycle`."""

    rise_fraction: float = Field(0.3, description="Share of the steps in which the rate rises.", gt=0, lt=1)
    div_factor: float = Field(25.0, description="The cycle begins at lr / div_factor.", gt=0)
    final_div_factor: float = Field(1e4, description="It ends at the beginning's rate divided by this.", gt=0)
    anneal: Literal["cos", "linear"] = Field("cos", description="Shape of rise and fall.")


class NoamConfig(Config):
    """Options of `noam`."""

    warmup_steps: int | None = Field(
        None,
        description="Steps of linear rise, after which the rate falls as 1/sqrt(step); 4000 by default, as in the paper.",
        ge=1,
    )
    warmup_fraction: float | None = Field(None, description="The same as a share of all steps.", gt=0, lt=1)
    hidden_size: int | None = Field(
        None,
        description="Given: the factor is the paper's own rate hidden_size**-0.5 * min(s**-0.5, s * warmup**-1.5), so that lr "
        "scales it and is 1 in the paper. Left out: the factor peaks at 1, so that lr is the peak.",
        ge=1,
    )


class PlateauConfig(ScheduleConfig):
    """Options of `reduce-on-plateau`."""

    gamma: float = Field(0.1, description="The factor is multiplied by this when the metric stands still.", gt=0, lt=1)
    patience: int = Field(10, description="Evaluations without improvement that are tolerated.", ge=0)
    threshold: float = Field(1e-4, description="Relative change that counts as an improvement.", ge=0)
    cooldown: int = Field(0, description="Evaluations after a reduction before counting begins again.", ge=0)
    min_factor: float = Field(0.0, description="The factor does not fall below this.", ge=0, le=1)
    mode: Literal["auto", "min", "max"] = Field(
        "auto", description="Whether smaller or larger is better; auto: as the monitored metric."
    )


class Schedule(ABC):
    """The factor of the learning rate at each step of `total_steps`.

    Args:
        config: The schedule's options.
        total_steps: Steps of the training (of the stage, where there are several).
        steps_per_epoch: Needed where a Config counts epochs.
        mode: Whether a smaller or a larger metric is better (`reduce-on-plateau`).

    Attributes:
        spans: The body takes the steps after the warm-up, rather than being multiplied by it.
    """

    spans: ClassVar[bool] = False

    def __init__(
        self,
        config: ScheduleConfig | NoamConfig,
        *,
        total_steps: int,
        steps_per_epoch: int | None = None,
        mode: Literal["min", "max"] = "min",
    ) -> None:
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.mode: Literal["min", "max"] = mode
        self.warmup_steps = 0
        if isinstance(config, ScheduleConfig):
            self.warmup_steps = _warmup(config, total_steps)
        self.body_steps = total_steps - self.warmup_steps if self.spans else total_steps

    def factor(self, step: int) -> float:
        """The factor at a step, from 0; steps past the end keep the last one's."""
        step = min(step, self.total_steps - 1)
        if step < self.warmup_steps:
            warm = (step + 1) / self.warmup_steps
            return warm if self.spans else warm * self.body(step)
        return self.body(step - self.warmup_steps if self.spans else step)

    def factors(self, first: int, num: int) -> list[float]:
        """The factors of `num` steps from `first`."""
        return [self.factor(step) for step in range(first, first + num)]

    @abstractmethod
    def body(self, step: int) -> float:
        """The factor without warm-up; for a schedule that spans, of `body_steps` steps counted from the warm-up's end."""

    def observe(self, metric: float) -> None:
        """Take note of an evaluation's monitored metric; only `reduce-on-plateau` does."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the step, as JSON values."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave.

        Raises:
            CheckpointError: It is another schedule's.
        """
        if set(state) != set(self.state()):
            raise CheckpointError(
                f"The checkpoint's schedule has the state {sorted(state)}, this one {sorted(self.state())}.",
                where="checkpoint, schedule",
                accepts="the schedule that the run was started with",
                mend="resume with the run's own recipe",
            )


def create_schedule(
    values: Mapping[str, Any],
    *,
    total_steps: int,
    steps_per_epoch: int | None = None,
    mode: Literal["min", "max"] = "min",
) -> Schedule:
    """A schedule from the values of a recipe.

    Args:
        values: `name` and the schedule's options.
        total_steps: Steps of the training, >= 1.
        steps_per_epoch: For schedules that count epochs (`unit: epoch`).
        mode: Which way the monitored metric improves (`reduce-on-plateau` with `mode: auto`).

    Example:
        >>> schedule = create_schedule({"name": "cosine", "warmup_steps": 2}, total_steps=6)
        >>> [round(schedule.factor(step), 4) for step in range(6)]
        [0.5, 1.0, 1.0, 0.8536, 0.5, 0.1464]

    Raises:
        UnknownNameError: No schedule has this name.
        ConfigError: An option is unknown or out of bounds.
    """
    options = dict(values)
    name = str(options.pop("name", "constant"))
    entry = lookup("schedule", name, where="schedule.name")
    assert entry.config is not None
    config = entry.config.from_values(options, where="schedule")
    if total_steps < 1:
        raise ConfigError(
            f"A schedule over {total_steps} steps was asked for.",
            where="create_schedule, argument `total_steps`",
            accepts="1 or more",
            mend="give training.epochs or training.steps",
        )
    schedule: Schedule = entry.target(config, total_steps=total_steps, steps_per_epoch=steps_per_epoch, mode=mode)
    return schedule


def _warmup(config: ScheduleConfig, total_steps: int) -> int:
    if config.warmup_steps and config.warmup_fraction and "warmup_fraction" in config.model_fields_set:
        raise _both(config.warmup_steps, config.warmup_fraction)
    steps = config.warmup_steps or round(config.warmup_fraction * total_steps)
    return min(steps, total_steps)


def _both(steps: int, fraction: float) -> ConfigError:
    return ConfigError(
        f"schedule has both warmup_steps={steps} and warmup_fraction={fraction}.",
        where="key `schedule.warmup_fraction`",
        accepts="one of the two",
        mend="leave one out",
    )


def _unit_steps(unit: str, steps_per_epoch: int | None) -> int:
    if unit == "step":
        return 1
    if steps_per_epoch is None:
        raise ConfigError(
            "schedule.unit is epoch, but the length of an epoch is not known here.",
            where="key `schedule.unit`",
            accepts="step, or create_schedule(…, steps_per_epoch=…)",
            mend="give steps_per_epoch, or count in steps",
        )
    return steps_per_epoch


@register("schedule", "constant", config=ScheduleConfig, source="Robbins, Monro (1951), with a fixed step size")
class ConstantSchedule(Schedule):
    """The optimizer's rate throughout, after the warm-up if there is one."""

    def body(self, step: int) -> float:
        """Always 1."""
        del step
        return 1.0


@register("schedule", "linear-warmup", config=WarmupConfig, source="Goyal et al. (2017), arXiv:1706.02677, section 2.2")
class WarmupSchedule(ConstantSchedule):
    """Rise linearly at the beginning (a tenth of the steps by default), then stay. Every schedule can begin like this."""


@register("schedule", "step", config=StepConfig, source="He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4")
class StepSchedule(Schedule):
    """Multiply the rate by gamma at regular intervals or at milestones."""

    def __init__(self, config: StepConfig, **more: Any) -> None:
        super().__init__(config, **more)
        unit = _unit_steps(config.unit, self.steps_per_epoch)
        if config.every is not None and config.milestones:
            raise ConfigError(
                f"schedule has both every={config.every} and milestones={list(config.milestones)}.",
                where="key `schedule.milestones`",
                accepts="one of the two",
                mend="leave one out",
            )
        self.gamma = config.gamma
        self.milestones = tuple(milestone * unit for milestone in config.milestones)
        self.every = config.every * unit if config.every is not None else max(-(-self.total_steps // 3), 1)

    def body(self, step: int) -> float:
        """Gamma to the power of the drops so far."""
        drops = sum(step >= milestone for milestone in self.milestones) if self.milestones else step // self.every
        return float(self.gamma**drops)


@register(
    "schedule", "exponential", config=ExponentialConfig, source="Bottou (2012), Stochastic Gradient Descent Tricks"
)
class ExponentialSchedule(Schedule):
    """Multiply the rate by gamma at every step or epoch."""

    def __init__(self, config: ExponentialConfig, **more: Any) -> None:
        super().__init__(config, **more)
        self.unit = _unit_steps(config.unit, self.steps_per_epoch)
        last = max((self.total_steps - 1) // self.unit, 1)
        self.gamma = config.gamma if config.gamma is not None else 0.01 ** (1.0 / last)

    def body(self, step: int) -> float:
        """Gamma to the power of the steps or epochs so far."""
        return float(self.gamma ** (step // self.unit))


@register("schedule", "polynomial", config=PolynomialConfig, source="You, Gitman, Ginsburg (2017), arXiv:1708.03888")
class PolynomialSchedule(Schedule):
    """Go down to the final factor as (1 - share of the steps done) ** power; a straight line for power 1."""

    spans = True

    def __init__(self, config: PolynomialConfig, **more: Any) -> None:
        super().__init__(config, **more)
        self.power = config.power
        self.final = config.final_factor

    def body(self, step: int) -> float:
        """Between 1 and the final factor."""
        left = 1.0 - step / max(self.body_steps, 1)
        return float(self.final + (1.0 - self.final) * left**self.power)


@register(
    "schedule", "cosine", config=SpanConfig, source="Loshchilov, Hutter (2017), arXiv:1608.03983, without restarts"
)
class CosineSchedule(Schedule):
    """Go down to the final factor along half a cosine."""

    spans = True

    def __init__(self, config: SpanConfig, **more: Any) -> None:
        super().__init__(config, **more)
        self.final = config.final_factor

    def body(self, step: int) -> float:
        """Between 1 and the final factor."""
        share = step / max(self.body_steps, 1)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * share))


@register(
    "schedule",
    "one-cycle",
    config=OneCycleConfig,
    source="Smith, Topin (2018), arXiv:1708.07120",
    fidelity="the momentum is not cycled; two phases as in torch's OneCycleLR, not three",
)
class OneCycleSchedule(Schedule):
    """Rise from lr / div_factor to lr, then fall to nearly nothing, once. Momentum stays as it is."""

    spans = True

    def __init__(self, config: OneCycleConfig, **more: Any) -> None:
        super().__init__(config, **more)
        self.start = 1.0 / config.div_factor
        self.end = self.start / config.final_div_factor
        self.is_cosine = config.anneal == "cos"
        self.peak_step = config.rise_fraction * self.body_steps - 1

    def body(self, step: int) -> float:
        """The cycle's factor; 1 at its peak."""
        if step <= self.peak_step and self.peak_step > 0:
            return self._between(self.start, 1.0, step / self.peak_step)
        peak = max(self.peak_step, 0.0)  # fewer than two rising steps: begin at the peak
        span = self.body_steps - 1 - peak
        return self._between(1.0, self.end, (step - peak) / span if span > 0 else 0.0)

    def _between(self, begin: float, end: float, share: float) -> float:
        if self.is_cosine:
            return end + (begin - end) / 2.0 * (1.0 + math.cos(math.pi * share))
        return begin + (end - begin) * share


@register("schedule", "noam", config=NoamConfig, source="Vaswani et al. (2017), arXiv:1706.03762, section 5.3")
class NoamSchedule(Schedule):
    """Rise linearly for `warmup_steps`, then fall as one over the square root of the step.

    With `hidden_size` the factor is the paper's rate itself and `lr` scales it (1 in the paper); without it the factor
    is 1 at its peak, the last step of the rise, and `lr` is the peak.
    """

    def __init__(self, config: NoamConfig, **more: Any) -> None:
        super().__init__(config, **more)
        self.rise_steps = config.warmup_steps or 4000
        if config.warmup_fraction is not None:
            if config.warmup_steps is not None:
                raise _both(config.warmup_steps, config.warmup_fraction)
            self.rise_steps = max(round(config.warmup_fraction * self.total_steps), 1)
        self.scale = config.hidden_size**-0.5 if config.hidden_size is not None else self.rise_steps**0.5

    def body(self, step: int) -> float:
        """The paper counts steps from 1."""
        count = step + 1
        return float(self.scale * min(count**-0.5, count * self.rise_steps**-1.5))


@register(
    "schedule",
    "reduce-on-plateau",
    config=PlateauConfig,
    source="torch.optim.lr_scheduler.ReduceLROnPlateau (relative threshold)",
)
class PlateauSchedule(Schedule):
    """Multiply the rate by gamma when the monitored metric has not improved for more than `patience` evaluations.

    The only schedule that depends on more than the step: what it has observed is in its `state`.
    """

    def __init__(self, config: PlateauConfig, **more: Any) -> None:
        super().__init__(config, **more)
        self.config = config
        if config.mode != "auto":
            self.mode = config.mode
        self.reduction = 1.0
        self.best: float | None = None
        self.num_bad = 0
        self.num_cooling = 0

    def body(self, step: int) -> float:
        """The present reduction, whatever the step."""
        del step
        return self.reduction

    def observe(self, metric: float) -> None:
        """Count an evaluation; reduce when it was one too many without improvement. NaN is no improvement."""
        if self._improves(metric):
            self.best = metric
            self.num_bad = 0
        else:
            self.num_bad += 1
        if self.num_cooling > 0:
            self.num_cooling -= 1
            self.num_bad = 0
        if self.num_bad > self.config.patience:
            self.reduction = max(self.reduction * self.config.gamma, self.config.min_factor)
            self.num_cooling = self.config.cooldown
            self.num_bad = 0

    def _improves(self, metric: float) -> bool:
        if math.isnan(metric):
            return False
        if self.best is None:
            return True
        margin = abs(self.best) * self.config.threshold  # torch omits the abs and errs for negative metrics
        return metric < self.best - margin if self.mode == "min" else metric > self.best + margin

    def state(self) -> dict[str, Any]:
        """Reduction, best metric and counters."""
        return {
            "reduction": self.reduction,
            "best": self.best,
            "num_bad": self.num_bad,
            "num_cooling": self.num_cooling,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        super().load_state(state)
        self.reduction = float(state["reduction"])
        self.best = None if state["best"] is None else float(state["best"])
        self.num_bad = int(state["num_bad"])
        self.num_cooling = int(state["num_cooling"])
