"""The compiled executor against the eager one in float64: every optimizer, activations, losses and penalties.

Tolerance 1e-9 relative over 50 steps: both compute the same formulas in the same precision; only the order of sums differs.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lamina.tasks.base import Losses
from lamina.train.compiled import CompiledExecutor
from lamina.train.eager import EagerExecutor
from lamina.train.native.toolchain import find_compiler
from unit.train.compiled_case import cross_entropy, everything, make_tools, segment

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")


def compare(values: dict[str, Any], *, steps: int = 50, **options: Any) -> None:
    one = make_tools(values, dtype=torch.float64, **options)
    other = make_tools(values, dtype=torch.float64, **options)
    expected = EagerExecutor(one).run(segment(0, steps))
    losses = CompiledExecutor(other, optimizer_values=values).run(segment(0, steps))
    assert losses is not None
    assert list(losses) == list(expected)
    for name, value in losses.items():
        torch.testing.assert_close(
            value.to(expected[name].dtype), expected[name], rtol=2e-6, atol=1e-6
        )  # logged in float32
    for name, value in everything(one).items():
        mine = everything(other)[name]
        torch.testing.assert_close(mine, value, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    "values",
    [
        {"name": "sgd", "lr": 0.1, "weight_decay": 0.01},
        {"name": "momentum", "lr": 0.05},
        {"name": "momentum", "lr": 0.05, "dampening": 0.3, "weight_decay": 0.01},
        {"name": "nesterov", "lr": 0.05},
        {"name": "adagrad", "lr": 0.05, "lr_decay": 0.01},
        {"name": "rmsprop", "lr": 0.01, "momentum": 0.5},
        {"name": "adam", "lr": 0.01, "amsgrad": True},
        {"name": "adamw", "lr": 0.01, "weight_decay": 0.1, "lr_by_name": {"0.*": 0.002}},
        {"name": "lars", "lr": 0.05},
        {"name": "ftrl", "lr": 0.05, "l1": 0.001, "l2": 0.001},
    ],
    ids=lambda values: values["name"],
)
def test_optimizers(values: dict[str, Any]):
    compare(values)


def _squared(logits: Tensor, batch: dict[str, Tensor]) -> Losses:
    losses = Losses()
    losses.add("half_squared_error", 0.5 * (logits - batch["target"]).square().sum(), len(logits))
    losses.add("l1", logits.abs().sum(), logits.numel(), factor=0.01)
    losses.add("watched", logits.detach().amax(), 1.0, factor=0.0)
    return losses


def _hinge(logits: Tensor, batch: dict[str, Tensor]) -> Losses:
    losses = Losses()
    true = logits.gather(1, batch["label"].unsqueeze(1))
    margins = (logits - true + 1).clamp(min=0)
    losses.add("hinge", margins.sum() - len(logits), len(logits))
    return losses


def _masked(logits: Tensor, batch: dict[str, Tensor]) -> Losses:
    """A weight that is itself a tensor."""
    losses = Losses()
    weights = (batch["target"][:, 0] > 0).to(logits.dtype) + 0.1
    losses.add(
        "cross_entropy",
        (nn.functional.cross_entropy(logits, batch["label"], reduction="none") * weights).sum(),
        weights.sum(),
    )
    return losses


@pytest.mark.parametrize("loss", [cross_entropy, _squared, _hinge, _masked])
def test_losses(loss: Any):
    compare({"name": "momentum", "lr": 0.05}, loss=loss)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.GELU, nn.ELU, nn.PReLU, nn.Softplus, nn.SiLU])
def test_activations(activation: Any):
    values = {"name": "sgd", "lr": 0.05}

    def model_of() -> nn.Module:
        return nn.Sequential(nn.Linear(20, 9), activation(), nn.Linear(9, 4)).double()

    torch.manual_seed(0)
    first = model_of()
    second = model_of()
    second.load_state_dict(first.state_dict())
    one = make_tools(values, dtype=torch.float64, model=first, widths=(20, 9, 4))
    other = make_tools(values, dtype=torch.float64, model=second, widths=(20, 9, 4))
    EagerExecutor(one).run(segment(0, 20))
    assert CompiledExecutor(other, optimizer_values=values).run(segment(0, 20)) is not None
    for name, value in everything(one).items():
        torch.testing.assert_close(everything(other)[name], value, rtol=1e-9, atol=1e-10)


def test_all_at_once():
    compare({"name": "adamw", "lr": 0.01}, norm=True, dropout=0.3, clip_norm=0.5, clip_value=0.1, ema=0.99)
