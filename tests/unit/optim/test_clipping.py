"""Clipping: in place and pure, against torch.nn.utils, and what happens to NaN."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lamina.optim.clipping import (
    all_finite,
    clip_by_norm,
    clip_by_value,
    clipped_by_norm,
    clipped_by_value,
    global_norm,
)


def _grads(scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64) * scale for shape in ((4, 3), (5,), (), (2, 2, 2))
    ]


def _parameters(grads: list[Tensor]) -> list[torch.nn.Parameter]:
    parameters = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = grad.clone()
    return parameters


@pytest.mark.parametrize("max_norm", [0.1, 1.0, 100.0])
def test_norm_equals_torch(max_norm: float) -> None:
    grads, parameters = _grads(), _parameters(_grads())
    wanted = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    pure, pure_norm = clipped_by_norm(grads, max_norm)
    untouched = [grad.clone() for grad in grads]
    assert all(torch.equal(a, b) for a, b in zip(grads, untouched, strict=True))
    norm = clip_by_norm(grads, max_norm)
    for value in (norm, pure_norm, global_norm(untouched)):
        torch.testing.assert_close(value, wanted, rtol=1e-14, atol=0)
    for ours, also, parameter in zip(grads, pure, parameters, strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-13, atol=0)
        torch.testing.assert_close(also, parameter.grad, rtol=1e-13, atol=0)
    assert float(global_norm(grads)) <= max_norm * (1 + 1e-9)


@pytest.mark.parametrize("max_value", [0.1, 0.5, 100.0])
def test_value_equals_torch(max_value: float) -> None:
    grads, parameters = _grads(), _parameters(_grads())
    torch.nn.utils.clip_grad_value_(parameters, max_value)
    pure = clipped_by_value(grads, max_value)
    clip_by_value(grads, max_value)
    for ours, also, parameter in zip(grads, pure, parameters, strict=True):
        assert torch.equal(ours, parameter.grad)
        assert torch.equal(also, parameter.grad)


def test_small_gradients_are_left_alone() -> None:
    grads = _grads(1e-4)
    before = [grad.clone() for grad in grads]
    clip_by_norm(grads, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(grads, before, strict=True))
    zero = [torch.zeros(3)]
    assert float(clip_by_norm(zero, 1.0)) == 0.0
    assert not zero[0].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_stays_visible(bad: float) -> None:
    grads = [torch.tensor([1.0, bad]), torch.tensor([2.0])]
    assert not bool(all_finite(grads))
    pure, norm = clipped_by_norm(grads, 1.0)
    assert not bool(torch.isfinite(norm))
    assert not bool(all_finite(pure))
    assert not bool(torch.isfinite(clip_by_norm(grads, 1.0)))
    assert not bool(all_finite(grads))
    if bad != bad:
        grads = [torch.tensor([1.0, bad])]
        clip_by_value(grads, 0.5)
        assert bool(grads[0].isnan().any())


def test_nothing_to_clip() -> None:
    assert float(clip_by_norm([], 1.0)) == 0.0
    assert float(global_norm([])) == 0.0
    clip_by_value([], 1.0)
    assert bool(all_finite([]))
    assert clipped_by_norm([], 1.0)[0] == []


def test_pure_forms_have_gradients_and_types() -> None:
    grads = [torch.randn(3, requires_grad=True), torch.randn(2, dtype=torch.bfloat16)]
    pure, _ = clipped_by_norm(grads, 0.1)
    assert [g.dtype for g in pure] == [torch.float32, torch.bfloat16]
    pure[0].sum().backward()
    assert grads[0].grad is not None
