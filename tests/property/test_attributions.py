"""Attributions keep what their papers promise, for any small network and input."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lamina.explain.attributions import (
    grad_cam,
    gradient,
    integrated_gradients,
    occlusion,
    scores_of,
    smoothgrad,
)

SEEDS = st.integers(0, 10_000)
AXES = st.integers(1, 3)


def network(seed: int, axes: int, *, smooth: bool = True) -> nn.Module:
    """Convolution, activation (in place where it is a ReLU), convolution, mean over positions, linear; float64."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    torch.manual_seed(seed)
    activation: nn.Module = nn.Tanh() if smooth else nn.ReLU(inplace=True)
    last: nn.Module = nn.Tanh() if smooth else nn.ReLU(inplace=True)
    layers = [conv(2, 3, 3, padding=1), activation, conv(3, 4, 3), last, nn.Flatten(start_dim=2)]
    return nn.Sequential(*layers, Mean(), nn.Linear(4, 3)).double()


class Mean(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.mean(dim=2)


def batch(seed: int, axes: int, *, rows: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 2, *[5] * axes, dtype=torch.float64, generator=generator)
    return inputs, torch.randint(0, 3, (rows,), generator=generator)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, axes=AXES, base=st.floats(-1, 1))
def test_integrated_gradients_sum_to_the_difference_that_they_explain(seed: int, axes: int, base: float) -> None:
    model, (inputs, target) = network(seed, axes), batch(seed, axes)
    found = integrated_gradients(model, inputs, target, baseline=base, steps=256)
    wanted = scores_of(model, inputs, target) - scores_of(model, torch.full_like(inputs, base), target)
    torch.testing.assert_close(found.flatten(start_dim=1).sum(dim=1), wanted, rtol=1e-3, atol=1e-4)


@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_their_error_falls_with_the_square_of_the_steps(seed: int) -> None:
    model, (inputs, target) = network(seed, 2), batch(seed, 2, rows=1)
    wanted = scores_of(model, inputs, target) - scores_of(model, torch.zeros_like(inputs), target)
    gaps = [
        float((integrated_gradients(model, inputs, target, steps=steps).sum() - wanted).abs().max())
        for steps in (16, 128)
    ]
    assert gaps[1] < gaps[0] / 16 + 1e-9


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, axes=AXES)
def test_a_row_gets_the_same_attribution_alone_and_in_a_batch(seed: int, axes: int) -> None:
    model, (inputs, target) = network(seed, axes, smooth=False), batch(seed, axes, rows=3)
    for method in (gradient, integrated_gradients, smoothgrad, occlusion, grad_cam):
        together = method(model, inputs, target)
        alone = torch.cat([method(model, inputs[i : i + 1], target[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-11)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, axes=AXES)
def test_nothing_is_left_behind(seed: int, axes: int) -> None:
    model, (inputs, target) = network(seed, axes, smooth=False), batch(seed, axes)
    model.train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    before, given_inputs = {k: v.clone() for k, v in model.state_dict().items()}, inputs.clone()
    for method in (gradient, integrated_gradients, smoothgrad, occlusion, grad_cam):
        assert not method(model, inputs, target).requires_grad
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(inputs, given_inputs)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS, scale=st.floats(0.5, 3))
def test_attributions_are_linear_in_the_output(seed: int, scale: float) -> None:
    model, (inputs, target) = network(seed, 2), batch(seed, 2)
    for method in (gradient, integrated_gradients, smoothgrad, occlusion, grad_cam):
        once = method(model, inputs, target)
        scaled = method(model, inputs, target, read=lambda outputs: outputs * scale)
        torch.testing.assert_close(scaled, once * scale, rtol=1e-8, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_an_input_that_nothing_hangs_on_gets_nothing(seed: int) -> None:
    """The axiom of sensitivity: what the function does not depend on is attributed zero."""
    model, (inputs, target) = network(seed, 2), batch(seed, 2)
    with torch.no_grad():
        model[0].weight[:, 1] = 0.0
    for method in (gradient, integrated_gradients, smoothgrad):
        assert torch.all(method(model, inputs, target)[:, 1] == 0)
