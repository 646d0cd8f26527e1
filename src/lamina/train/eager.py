"""The eager executor: a segment of steps, one after the other.

Every update of every task runs through here (the compiled executor takes over whole segments of simple ones). What is
written once: accumulation, normalisation of losses, clipping, precision, non-finite checks, whose batch-norm
statistics move, EMA.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.errors import ShapeError
from lamina.data.batching import Feed
from lamina.nn.dropout import DropoutKeys
from lamina.optim.clipping import clip_by_norm, clip_by_value
from lamina.tasks.base import Batch, Context, DirectUpdate, GradientUpdate, Losses, State, Update
from lamina.train.ema import WeightAverage
from lamina.train.nonfinite import locate_non_finite

Prepare = Callable[[dict[str, Tensor], Context], dict[str, Tensor]]
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Segment:
    """Consecutive steps inside one epoch.

    Attributes:
        epoch: From 0.
        first_batch: Index within the epoch of the first step's first batch.
        first_step: Absolute step of the first.
        rates: Update name -> learning-rate factor per step; its length is the number of steps.
    """

    epoch: int
    first_batch: int
    first_step: int
    num_steps: int
    factors: Sequence[float]


@dataclass
class StepTools:
    """What an executor needs besides the segment; made by the Trainer, shared by the executors."""

    model: nn.Module
    updates: Sequence[Update]
    optimizers: Mapping[str, torch.optim.Optimizer]
    feed: Feed
    prepare: Prepare
    seed: int
    device: torch.device
    autocast: bool = False
    accumulation: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    average: WeightAverage | None = None
    stage: str = "train"
    state: State = field(default_factory=dict)
    dropout: DropoutKeys | None = None
    batches_per_step: int = 1
    lr: float = 0.0  # of updates without an optimizer that take steps of a rate


class EagerExecutor:
    """Runs segments step by step.

    Args:
        tools: Model, updates, optimizers, feed; `tools.state` is carried on.
        should_stop: Asked after every step; True ends the segment early, after a whole step.
    """

    name = "eager"

    def __init__(self, tools: StepTools, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.tools = tools
        self.should_stop = should_stop
        self.dropout = tools.dropout
        self._still = {update.name: _other_batch_norms(tools.model, update.module) for update in tools.updates}
        self._trained = {
            update.name: [p for _, p in update.named_parameters()]
            for update in tools.updates
            if isinstance(update, GradientUpdate)
        }
        several = len(tools.updates) > 1
        everything = {id(p): p for parameters in self._trained.values() for p in parameters}
        self._resting = {
            name: [p for key, p in everything.items() if key not in {id(q) for q in parameters}] if several else []
            for name, parameters in self._trained.items()
        }
        # One device read per step only where reading is free; elsewhere the Trainer reads whole segments.
        self._check_each_step = tools.device.type == "cpu"

    def run(self, segment: Segment) -> dict[str, Tensor]:
        """Run the segment's steps (fewer if asked to stop) and return the logged losses by name, float32 (steps done,).

        Raises:
            NonFiniteError: A loss became NaN or infinite; names step, batch and layer. Nothing was updated by that step.
        """
        tools = self.tools
        logged: list[dict[str, Tensor]] = []
        for offset in range(segment.num_steps):
            step = segment.first_step + offset
            first_batch = segment.first_batch + offset * tools.batches_per_step
            batches: dict[int, dict[str, Tensor]] = {}
            row: dict[str, Tensor] = {}
            for update in tools.updates:
                for repeat in range(update.repeats):
                    ctx = self._context(segment, update, step, repeat, segment.factors[offset])
                    if repeat not in batches:
                        raw = tools.feed.batch(segment.epoch, first_batch + repeat)
                        batches[repeat] = tools.prepare(_to_device(raw, tools.device), ctx)
                    parts = self._perform(update, batches[repeat], ctx, segment.factors[offset], first_batch + repeat)
                prefix = f"{update.name}/" if len(tools.updates) > 1 else ""
                row.update({f"{prefix}{name}": value for name, value in parts.items()})
            if tools.average is not None:
                tools.average.update()
            logged.append(row)
            if self.should_stop():
                break
        return {name: torch.stack([row[name].float() for row in logged]) for name in logged[0]}

    def _context(self, segment: Segment, update: Update, step: int, repeat: int, factor: float) -> Context:
        return Context(
            seed=self.tools.seed,
            step=torch.tensor(step),
            epoch=segment.epoch,
            update=update.name,
            repeat=repeat,
            stage=self.tools.stage,
            training=True,
            device=self.tools.device,
            schedule={"lr": self.tools.lr * factor} if isinstance(update, DirectUpdate) and update.scheduled else {},
        )

    def _perform(
        self, update: Update, batch: dict[str, Tensor], ctx: Context, factor: float, number: int
    ) -> dict[str, Tensor]:
        if isinstance(update, DirectUpdate):
            with torch.no_grad():
                losses, self.tools.state = update.apply(batch, ctx, self.tools.state)
            return losses.means()
        assert isinstance(update, GradientUpdate)
        optimizer = self.tools.optimizers[update.name]
        parameters = self._trained[update.name]
        with _resting(self._resting[update.name]), _still(self._still[update.name]):
            if self.tools.accumulation == 1:
                means, total = self._one_backward(update, batch, ctx)
            else:
                means, total = self._accumulated(update, batch, ctx, parameters)
        if self._check_each_step and not bool(torch.isfinite(total)):
            raise locate_non_finite(self.tools.model, update, batch, ctx, self.tools.state, number=number, losses=means)
        grads = [p.grad for p in parameters if p.grad is not None]
        if self.tools.clip_value is not None:
            clip_by_value(grads, self.tools.clip_value)
        if self.tools.clip_norm is not None:
            means = {**means, "gradient_norm": clip_by_norm(grads, self.tools.clip_norm).detach()}
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        return {"loss": total, **means}

    def _loss(self, update: GradientUpdate, batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
        if self.dropout is not None:
            self.dropout.refresh(dropout_step(ctx), ctx.first_row)
        if self.tools.autocast and not update.double_backward:
            with torch.autocast(self.tools.device.type, dtype=torch.bfloat16):
                return update.loss(batch, ctx, state)
        return update.loss(batch, ctx, state)

    def _one_backward(self, update: GradientUpdate, batch: Batch, ctx: Context) -> tuple[dict[str, Tensor], Tensor]:
        losses, state = self._loss(update, batch, ctx, self.tools.state)
        total = losses.total()
        if total.ndim:
            raise ShapeError(
                f"The loss of update {update.name!r} has shape {tuple(total.shape)}.",
                where=f"loss of the update {update.name!r}",
                accepts="a scalar",
                mend="sum over the batch and give the weight to Losses.add",
            )
        total.backward()
        self.tools.state = _detached(state)
        return {name: value.detach() for name, value in losses.means().items()}, total.detach()

    def _accumulated(
        self, update: GradientUpdate, batch: Batch, ctx: Context, parameters: list[nn.Parameter]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The whole batch's gradient from micro-batches.

        The gradient of sum/weight needs the weight of the whole batch, which is known only at the end. Each part's sum
        is therefore differentiated for itself and divided afterwards; with one part that is one backward pass.
        """
        rows = len(next(iter(batch.values())))
        size = -(-rows // self.tools.accumulation)
        sums: dict[str, Tensor] = {}
        weights: dict[str, Tensor | float] = {}
        factors: dict[str, float] = {}
        gradients: dict[str, list[Tensor | None]] = {}
        states: list[State] = []
        for first in range(0, rows, size):
            micro = {name: value[first : first + size] for name, value in batch.items()}
            carried = {name: value[first : first + size] for name, value in self.tools.state.items()}
            ctx.first_row = first
            losses, state = self._loss(update, micro, ctx, carried)
            states.append(_detached(state))
            active = [n for n, (part, _, factor) in losses.terms.items() if factor != 0.0 and part.requires_grad]
            for name, (part, weight, factor) in losses.terms.items():
                sums[name] = sums[name] + part.detach() if name in sums else part.detach()
                weights[name] = weights[name] + weight if name in weights else weight
                factors[name] = factor
                if name not in active:
                    continue
                found = torch.autograd.grad(part, parameters, allow_unused=True, retain_graph=name != active[-1])
                known = gradients.get(name)
                gradients[name] = (
                    list(found) if known is None else [_plus(a, b) for a, b in zip(known, found, strict=True)]
                )
        ctx.first_row = 0
        for name, summed in gradients.items():
            scale = factors[name] / weights[name]
            for parameter, gradient in zip(parameters, summed, strict=True):
                if gradient is not None:
                    parameter.grad = _plus(parameter.grad, gradient * scale)
        self.tools.state = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        means = {name: total / weights[name] for name, total in sums.items()}
        total = torch.stack([means[name] * factors[name] for name in means if factors[name] != 0.0]).sum()
        return means, total


def dropout_step(ctx: Context) -> Tensor:
    """The step by which dropout masks are keyed."""
    # Repeats and updates within a step draw different masks.
    return ctx.key("dropout") if ctx.repeat or ctx.update not in ("", "train") else ctx.step


def _plus(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _detached(state: State) -> State:
    return {name: value.detach() for name, value in state.items()}


def _to_device(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    if device.type == "cpu":
        return batch
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


def _other_batch_norms(model: nn.Module, trained: nn.Module) -> list[Any]:
    own = {id(module) for module in trained.modules()}
    return [m for m in model.modules() if isinstance(m, _BATCH_NORMS) and id(m) not in own and m.track_running_stats]


@contextlib.contextmanager
def _still(norms: list[Any]) -> Iterator[None]:
    """Batch norms that use the batch's statistics but do not move their running ones."""
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextlib.contextmanager
def _resting(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Parameters of the other updates need no gradients meanwhile."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
