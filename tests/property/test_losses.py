"""Losses are sums with weights: dividing or ordering a batch differently changes neither, nor the gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lamina.nn.losses import create_loss

LABEL = ("cross-entropy", "hinge", "focal", "half-squared-error")
BINARY = ("binary-cross-entropy", "binary-hinge")
NUMBER = ("mse", "mae", "huber")


def _sample(name: str, num: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(num, 4, generator=generator, dtype=torch.float64) * 3
    weights = torch.rand(num, generator=generator, dtype=torch.float64) + 0.1
    if name in LABEL:
        return outputs, torch.randint(0, 4, (num,), generator=generator), weights
    if name in BINARY:
        return outputs[:, 0], torch.randint(0, 2, (num,), generator=generator), weights
    return outputs, torch.randn(num, 4, generator=generator, dtype=torch.float64), weights


@pytest.mark.parametrize("name", [*LABEL, *BINARY, *NUMBER])
@given(num=st.integers(2, 12), cut=st.integers(1, 11), seed=st.integers(0, 10_000), weighted=st.booleans())
def test_micro_batches_add_up(name: str, num: int, cut: int, seed: int, weighted: bool) -> None:
    cut = min(cut, num - 1)
    outputs, targets, weights = _sample(name, num, seed)
    loss = create_loss(
        name, class_weights=[1.0, 2.0, 0.5, 1.5][: 2 if name in BINARY else 4] if name not in NUMBER else None
    )

    def mean(pieces: list[slice]) -> tuple[Tensor, Tensor]:
        probe = outputs.clone().requires_grad_()
        parts = [loss(probe[rows], targets[rows], weights=weights[rows] if weighted else None) for rows in pieces]
        total = torch.stack([part for part, _ in parts]).sum()
        weight = sum(float(count) for _, count in parts)
        (grad,) = torch.autograd.grad(total / weight, probe)
        return (total / weight).detach(), grad

    for whole, divided in zip(mean([slice(0, num)]), mean([slice(0, cut), slice(cut, num)]), strict=True):
        torch.testing.assert_close(divided, whole, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", [*LABEL, *BINARY, *NUMBER])
@given(num=st.integers(1, 9), seed=st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter_and_losses_are_not_negative(name: str, num: int, seed: int) -> None:
    outputs, targets, weights = _sample(name, num, seed)
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    loss = create_loss(name)
    total, weight = loss(outputs, targets, weights=weights)
    other, same = loss(outputs[order], targets[order], weights=weights[order])
    torch.testing.assert_close(total, other, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(weight, same)
    assert total.item() >= -1e-12


@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50))
def test_adding_a_constant_to_all_scores_changes_nothing(seed: int, shift: float) -> None:
    outputs, labels, _ = _sample("hinge", 5, seed)
    for name in ("cross-entropy", "hinge", "focal"):
        loss = create_loss(name)
        torch.testing.assert_close(loss(outputs + shift, labels)[0], loss(outputs, labels)[0], rtol=1e-9, atol=1e-10)


@given(num=st.integers(2, 6), extra=st.integers(1, 4), name=st.sampled_from([*BINARY, *NUMBER]))
def test_no_two_different_shapes_are_ever_broadcast(num: int, extra: int, name: str) -> None:
    shapes = [(num,), (num, 1), (1, num), (num, extra), (num, extra, 1), (1,), ()]
    loss = create_loss(name)
    for one in shapes:
        for two in shapes:
            outputs, targets = torch.zeros(one), torch.zeros(two)
            if one == two:
                loss(outputs, targets)
            else:
                with pytest.raises(ValueError, match="shaped"):
                    loss(outputs, targets)
