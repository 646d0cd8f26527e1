"""Attributions against closed forms and against computations written out by hand, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lamina.core.errors import ShapeError, UsageError
from lamina.explain.attributions import (
    grad_cam,
    gradient,
    integrated_gradients,
    occlusion,
    scores_of,
    smoothgrad,
)
from lamina.explain.confident_learning import doubt_labels
from lamina.explain.receptive_field import effective_field
from lamina.explain.views import Subject, show_view


@pytest.fixture
def linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(2 * 4 * 5, 3)).double()


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(3, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


TARGET = torch.tensor([2, 0, 1])


def weights(linear: nn.Sequential) -> Tensor:
    return linear[1].weight.detach()[TARGET].view(3, 2, 4, 5)


def test_of_a_linear_model_the_gradient_is_its_weights(linear: nn.Sequential, inputs: Tensor) -> None:
    torch.testing.assert_close(gradient(linear, inputs, TARGET), weights(linear))
    torch.testing.assert_close(smoothgrad(linear, inputs, TARGET, samples=5), weights(linear))


def test_of_a_linear_model_integrated_gradients_are_weights_times_the_way(
    linear: nn.Sequential, inputs: Tensor
) -> None:
    baseline = torch.full_like(inputs[:1], 0.3)
    for steps in (1, 7):
        found = integrated_gradients(linear, inputs, TARGET, baseline=baseline, steps=steps)
        torch.testing.assert_close(found, weights(linear) * (inputs - baseline))


def test_of_a_linear_model_occlusion_is_what_the_covered_pixels_gave(linear: nn.Sequential, inputs: Tensor) -> None:
    found = occlusion(linear, inputs, TARGET, window=1, value=0.5)
    torch.testing.assert_close(found, (weights(linear) * (inputs - 0.5)).sum(dim=1, keepdim=True))


def test_occlusion_averages_over_the_windows_that_cover_a_position(linear: nn.Sequential, inputs: Tensor) -> None:
    gave = (weights(linear) * inputs).sum(dim=1)  # (B, 4, 5)
    total, count = torch.zeros_like(gave), torch.zeros_like(gave)
    for top in (0, 2):
        for left in (0, 2, 3):  # windows of 2 by steps of 2; the last one ends at the border
            area = (slice(None), slice(top, top + 2), slice(left, left + 2))
            total[area] += gave[area].sum(dim=(1, 2), keepdim=True)
            count[area] += 1
    found = occlusion(linear, inputs, TARGET, window=2, stride=2)
    torch.testing.assert_close(found, (total / count).unsqueeze(1))


def test_integrated_gradients_of_a_square_have_a_closed_form() -> None:
    """f(x) = sum w x^2: the integral of 2 w t x^2 over t in [0, 1] is w x^2; midpoints are exact for linear integrands."""

    class Square(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return (values**2 * torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)).sum(dim=1, keepdim=True)

    values = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    found = integrated_gradients(Square(), values, torch.zeros(1, dtype=torch.int64), steps=3)
    torch.testing.assert_close(found, torch.tensor([[0.25, -2.0, 12.0]], dtype=torch.float64))


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_grad_cam_by_hand(axes: int) -> None:
    """Behind a mean over positions and a linear layer, alpha is the weight over the number of positions."""
    torch.manual_seed(axes)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](2, 4, 3)
    pool = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[axes - 1](1)
    model = nn.Sequential(conv, nn.ReLU(inplace=True), pool, nn.Flatten(), nn.Linear(4, 3)).double()
    values = torch.randn(3, 2, *[6] * axes, dtype=torch.float64)
    maps = conv(values).detach().relu()  # (B, 4, 4, …)
    alpha = model[4].weight.detach()[TARGET] / maps[0, 0].numel()  # (B, 4)
    wanted = torch.einsum("bk,bk...->b...", alpha, maps).relu().unsqueeze(1)
    assert wanted.max() > 0
    torch.testing.assert_close(grad_cam(model, values, TARGET, upsample=False), wanted)
    assert grad_cam(model, values, TARGET).shape == (3, 1, *[6] * axes)
    torch.testing.assert_close(grad_cam(model, values, TARGET, layer="1", upsample=False), wanted)


def test_grad_cam_of_a_frozen_network_is_the_same() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2)).double()
    values, target = torch.randn(2, 1, 6, 6, dtype=torch.float64), torch.tensor([1, 0])
    before = grad_cam(model, values, target)
    model.requires_grad_(False)
    assert torch.equal(grad_cam(model, values, target), before)


def test_smoothgrad_is_the_mean_of_gradients_at_noisy_copies() -> None:
    """Of f(x) = sum x^3 / 3 the gradient is x^2, whose mean under noise of deviation s is x^2 + s^2."""

    class Cube(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return (values**3 / 3).sum(dim=1, keepdim=True)

    values = torch.linspace(-1, 1, 400, dtype=torch.float64).view(1, -1)
    found = smoothgrad(Cube(), values, torch.zeros(1, dtype=torch.int64), noise=0.25, samples=400)
    # 160,000 draws: the mean of the squares' excess has a standard error of about 0.25 * sqrt(2 / 160,000) and x's part.
    assert float((found - values**2).mean()) == pytest.approx(0.25, abs=0.01)
    # One element's mean over 400 copies has a standard error of at most 2 * 0.5 / 20 and a little.
    assert float((found - values**2 - 0.25).abs().max()) < 0.3


def test_the_effective_field_of_equal_weights_is_the_kernel_convolved_with_itself() -> None:
    """Two convolutions with one channel and weights 1: the gradient is the triangle (1, 2, 3, 2, 1) along each axis."""
    model = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False), nn.Conv2d(1, 1, 3, bias=False)).double()
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    found = effective_field(model, torch.zeros(1, 1, 9, 9, dtype=torch.float64), "1", num_draws=2)
    line = torch.tensor([0, 0, 1, 2, 3, 2, 1, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(found, torch.outer(line, line))


def test_confident_learning_by_hand() -> None:
    """Thresholds are the means of the own class; of what reaches its threshold the most probable class counts."""
    probs = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.05, 0.95], [0.4, 0.6], [0.85, 0.15]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    found = doubt_labels(probs, labels)
    # Class 0: (0.9 + 0.7 + 0.2) / 3 = 0.6; class 1: (0.95 + 0.6 + 0.15) / 3 = 0.5667.
    torch.testing.assert_close(found.thresholds, torch.tensor([0.6, 1.7 / 3], dtype=torch.float64), atol=1e-6, rtol=0)
    assert found.joint.tolist() == [[2, 1], [1, 2]]
    assert found.rows.tolist() == [5, 2]
    assert found.suggested.tolist() == [0, 1]
    torch.testing.assert_close(found.margin, torch.tensor([-0.7, -0.6], dtype=torch.float64), atol=1e-6, rtol=0)


def test_what_is_refused(linear: nn.Sequential, inputs: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"targets shaped \(2,\) for 3 inputs"):
        gradient(linear, inputs, TARGET[:2])
    with pytest.raises(ShapeError, match="from 0 to 3; there are 3 outputs"):
        gradient(linear, inputs, torch.tensor([0, 1, 3]))
    with pytest.raises(ShapeError, match=r"outputs shaped \(3, 2, 4, 5\)"):
        gradient(nn.Identity(), inputs, TARGET)
    with pytest.raises(UsageError, match="no convolution"):
        grad_cam(linear, inputs, TARGET)
    with pytest.raises(UsageError, match="No layer called 'nowhere'"):
        grad_cam(linear, inputs, TARGET, layer="nowhere")

    class Steps(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return (values.flatten(start_dim=1)[:, :3] > 0).double()

    with pytest.raises(UsageError, match="cannot be differentiated"):
        gradient(Steps(), inputs, TARGET)
    assert scores_of(Steps(), inputs, TARGET).shape == (3,)

    class Cut(nn.Module):
        """Maps whose gradients are cut off behind them."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, dtype=torch.float64)

        def forward(self, values: Tensor) -> Tensor:
            return self.conv(values).detach().mean(dim=(2, 3))

    with pytest.raises(UsageError, match="cannot be differentiated"):
        grad_cam(Cut(), inputs, TARGET)
    for view in ("activation-maximisation", "receptive-field"):
        with pytest.raises(UsageError, match="cannot be differentiated"):
            show_view(view, Subject(Staircase(), inputs=inputs))


class Staircase(nn.Module):
    """Steps before its maps: nothing has a derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, dtype=torch.float64).requires_grad_(False)

    def forward(self, values: Tensor) -> Tensor:
        return self.conv((values.double() > 0).double()).mean(dim=(2, 3))
