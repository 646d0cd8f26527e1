"""When many steps are compiled into one native program: a rule from recipe and hardware, never from a clock.

The cost model, with constants from `benchmarks/executors.py` (2 cores, AVX-512; medians):

    eager step of a dense network     about  EAGER_STEP_US + arithmetic
    the same step, native             about  NATIVE_STEP_US + arithmetic on one thread
    tracing, lowering, C++ compiler   about  BUILD_SECONDS, before the first step

Compiling pays from BUILD_SECONDS / (EAGER_STEP_US - NATIVE_STEP_US) steps on, as long as the arithmetic of a step is small
enough for one thread. Without a C++ compiler, or where an operation has no native form, the eager executor runs and the
run records why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from lamina.core.devices import Choice
from lamina.core.errors import ConfigError
from lamina.core.toolchain import compiler_fault, find_compiler
from lamina.train.compiled import CompiledExecutor, refuse
from lamina.train.config import TrainingConfig
from lamina.train.eager import StepTools
from lamina.train.native.nodes import NotNativeError

__all__ = ["BUILD_SECONDS", "EAGER_STEP_US", "LARGEST_STEP", "NATIVE_STEP_US", "choose_executor", "shortest_run"]

EAGER_STEP_US: Final = 370
NATIVE_STEP_US: Final = 20
BUILD_SECONDS: Final = 2.0
LARGEST_STEP: Final = 64_000_000  # multiply-adds of a forward pass: above, torch's own kernels on all cores are as fast

_DENSE = (nn.Linear, nn.Bilinear)


def shortest_run() -> int:
    """Steps from which on compiling pays."""
    return round(BUILD_SECONDS / (EAGER_STEP_US - NATIVE_STEP_US) * 1e6)


def choose_executor(
    config: TrainingConfig,
    tools: StepTools,
    *,
    optimizer: Mapping[str, Mapping[str, Any]],
    num_steps: int,
    freezes: bool = False,
) -> Choice:
    """`compiled` or `eager`, with the reason.

    Args:
        config: `compile` says auto, never or always.
        tools: What the executors run.
        optimizer: Update name -> values of its optimizer section.
        num_steps: Steps of the stage.
        freezes: The stage holds some of the network in evaluation mode, which steps are not traced in.

    Raises:
        ConfigError: `training.compile=always` where it cannot be done.
    """
    if config.compile == "never":
        return Choice("eager", "training.compile=never")
    reason = "the stage freezes some of the network" if freezes else refuse(tools)
    if reason is None and config.compile == "auto":
        reason = _unprofitable(tools, num_steps)
    if reason is None and find_compiler() is None:
        reason = compiler_fault() or "there is no C++ compiler here"
    if reason is None:
        reason = _attempt(tools, optimizer[tools.updates[0].name])
    if reason is None:
        wanted = (
            "training.compile=always"
            if config.compile == "always"
            else f"{num_steps:,} steps of a small dense network pay for it"
        )
        return Choice("compiled", wanted)
    if config.compile == "always":
        raise ConfigError(
            f"These steps cannot be compiled: {reason}.",
            where="key `training.compile`",
            accepts="auto, never; always for one gradient update of a dense network in fp32 on a processor with a C++ compiler",
            mend="training.compile=auto",
        )
    return Choice("eager", reason)


def _unprofitable(tools: StepTools, num_steps: int) -> str | None:
    shortest = shortest_run()
    if num_steps < shortest:
        return f"compiling takes the time of about {shortest:,} steps and there are {num_steps:,}"
    work = tools.feed.batch_size * sum(
        module.weight.numel() for module in tools.model.modules() if isinstance(module, _DENSE)
    )
    if work > LARGEST_STEP:
        return f"a step has {work:,} multiply-adds: large enough for torch's own kernels"
    return None


def _attempt(tools: StepTools, values: Mapping[str, Any]) -> str | None:
    """Build the program; the executor made next finds it ready (toolchain.build remembers the last one)."""
    try:
        CompiledExecutor(tools, optimizer_values=values)
    except NotNativeError as error:
        return str(error)
    return None
