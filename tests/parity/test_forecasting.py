"""Forecasters and their metrics beside the formulas of their papers, written out plainly, in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lamina.data.series import naive_error
from lamina.models.factory import create_model
from lamina.nn.series import CausalConvolution, put_back, take_level
from lamina.tasks.forecast_metrics import ForecastMetrics
from lamina.tasks.time_series_forecasting import pinball

Floats = NDArray[np.float64]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- models ------------------------------------------------------------------------------------------------------------


def dlinear_by_hand(past: Floats, weights: list[dict[str, Floats]], kernel: int) -> Floats:
    """Zeng et al. (2022), section 4.2: X_t = AvgPool(Padding(X)), X_s = X - X_t, H = W_s X_s + W_t X_t, series by series."""
    batch, length, channels = past.shape
    half = (kernel - 1) // 2
    horizon = len(weights[0]["trend_bias"])
    forecast = np.zeros((batch, horizon, channels))
    for row in range(batch):
        for channel in range(channels):
            x = past[row, :, channel]
            padded = np.concatenate([[x[0]] * half, x, [x[-1]] * (kernel - 1 - half)])
            trend = np.array([sum(padded[t + k] for k in range(kernel)) / kernel for t in range(length)])
            w = weights[channel if len(weights) > 1 else 0]
            forecast[row, :, channel] = (
                w["seasonal"] @ (x - trend) + w["seasonal_bias"] + w["trend"] @ trend + w["trend_bias"]
            )
    return forecast


@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("kernel", [1, 5, 6, 25])
def test_dlinear(kernel: int, *, individual: bool) -> None:
    size = {"in_channels": 3, "out_channels": 3, "past_length": 12, "horizon": 4}
    model = create_model("dlinear", seed=0, kernel_size=kernel, individual=individual, **size).double()
    weights = [
        {
            "seasonal": one.weight.detach().numpy(),
            "seasonal_bias": one.bias.detach().numpy(),
            "trend": two.weight.detach().numpy(),
            "trend_bias": two.bias.detach().numpy(),
        }
        for one, two in zip(model.seasonal, model.trend, strict=True)  # type: ignore[arg-type]
    ]
    past = rand(2, 12, 3)
    expected = dlinear_by_hand(past.numpy(), weights, kernel)
    np.testing.assert_allclose(model(past).detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    assert len(weights) == (3 if individual else 1)


@pytest.mark.parametrize("level", ["none", "last", "window"])
def test_lstm_forecaster_is_torchs_lstm_with_a_head(level: Any) -> None:
    size = {"in_channels": 4, "out_channels": 3, "past_length": 9, "horizon": 5}
    model: Any = (
        create_model("lstm_forecaster", seed=1, hidden_size=6, num_layers=2, level=level, **size).double().eval()
    )
    reference = nn.LSTM(4, 6, num_layers=2, batch_first=True).double()
    # torch keeps the gates as input, forget, candidate, output.
    order = ("input", "forget", "candidate", "output")
    with torch.no_grad():
        for layer, cell in enumerate(model.lstm.layers):
            for theirs, ours in (("weight_ih", "weight_input"), ("weight_hh", "weight_recurrent"), ("bias_ih", "bias")):
                parts = [cell.gate(getattr(cell, ours), name) for name in order]
                getattr(reference, f"{theirs}_l{layer}").copy_(torch.cat(parts))
            getattr(reference, f"bias_hh_l{layer}").zero_()
    past = rand(2, 9, 4).requires_grad_()
    series = past[:, :, :3]
    shift = {"none": 0.0, "last": series[:, -1:], "window": series.mean(1, keepdim=True)}[level]
    scale: Any = 1.0
    if level == "window":
        scale = (series.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    hidden, _ = reference(torch.cat([(series - shift) / scale, past[:, :, 3:]], dim=2))
    expected = model.head(hidden[:, -1]).view(2, 5, 3) * scale + shift
    torch.testing.assert_close(model(past), expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (torch.autograd.grad(value.square().sum(), past)[0] for value in (model(past), expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_causal_block_by_hand() -> None:
    torch.manual_seed(0)
    block = CausalConvolution(2, 3, kernel_size=3, dilation=2).double().eval()
    x = rand(1, 2, 8)

    def convolve(values: Tensor, layer: nn.Conv1d) -> Tensor:
        steps = []
        for t in range(values.shape[2]):
            total = layer.bias.detach().clone()  # type: ignore[union-attr]
            for k in range(3):
                at = t - (2 - k) * 2
                if at >= 0:
                    total += layer.weight.detach()[:, :, k] @ values[0, :, at]
            steps.append(total.clamp(min=0))
        return torch.stack(steps, dim=1)[None]

    inner = convolve(convolve(x, block.first), block.second)
    shortcut = block.shortcut(x).detach()
    torch.testing.assert_close(block(x).detach(), (inner + shortcut).clamp(min=0), rtol=1e-12, atol=1e-12)


def test_seasonal_naive_repeats_the_last_season() -> None:
    model: Any = create_model("seasonal_naive", in_channels=3, out_channels=2, past_length=7, horizon=8, season=3)
    past = rand(2, 7, 3)
    expected = [past[:, 4 + h % 3, :2] for h in range(8)]
    assert torch.equal(model(past), torch.stack(expected, dim=1))


def test_levels_come_back() -> None:
    past = rand(4, 10, 3, seed=2) * 5 + 100
    for level in ("none", "last", "window"):
        window, shift, scale = take_level(past, level, channels=2)  # type: ignore[arg-type]
        torch.testing.assert_close(put_back(window[:, :, :2], shift, scale), past[:, :, :2])
        assert torch.equal(window[:, :, 2:], past[:, :, 2:]), "the calendar stays"


# --- metrics -------------------------------------------------------------------------------------------------------------


def test_naive_error_and_mase_by_their_definition() -> None:
    """Hyndman, Koehler (2006): q_t = e_t / (1/(n - m) * sum_{i=m+1}^n |Y_i - Y_{i-m}|), MASE = mean |q_t|."""
    training = rand(40, 2, seed=1).numpy()
    for season in (1, 7):
        expected = [
            sum(abs(training[i, c] - training[i - season, c]) for i in range(season, 40)) / (40 - season)
            for c in range(2)
        ]
        np.testing.assert_allclose(naive_error(torch.from_numpy(training), season), expected, rtol=1e-12)
    assert naive_error(torch.from_numpy(training[:5]), 7) == naive_error(torch.from_numpy(training[:5]), 1)
    assert naive_error(torch.zeros(1, 2), 1) == (0.0, 0.0)


@pytest.mark.parametrize("scale", ["original", "standardised"])
def test_metrics_by_their_definitions(scale: Any) -> None:
    rows, steps, series = 11, 5, 3
    truth, forecast = rand(rows, steps, series, seed=3) * 3 + 10, rand(rows, steps, series, seed=4) * 3 + 10
    half = rand(rows, steps, series, seed=5).abs() * 4
    std, denominators = (2.0, 0.5, 3.0), (1.5, 0.7, 2.5)
    metrics = ForecastMetrics(("a", "b", "c"), std=std, naive_error=denominators, scale=scale)
    for part in (slice(0, 4), slice(4, 5), slice(5, 11)):
        metrics.update(
            forecast[part], truth[part], lower=forecast[part] - half[part], upper=forecast[part] + half[part]
        )
    found = metrics.finish()
    error = (forecast - truth).numpy()
    scaled = error / np.array(std)
    own, other = (error, scaled) if scale == "original" else (scaled, error)
    suffix = "standardised" if scale == "original" else "original"
    size = np.abs(truth.numpy()) + np.abs(forecast.numpy())
    expected = {
        "mse": (own**2).mean(),
        "mae": np.abs(own).mean(),
        "rmse": math.sqrt((own**2).mean()),
        f"mse_{suffix}": (other**2).mean(),
        f"mae_{suffix}": np.abs(other).mean(),
        f"rmse_{suffix}": math.sqrt((other**2).mean()),
        "mase": (np.abs(error) / np.array(denominators)).mean(),
        "smape": (200 * np.abs(error) / size).mean(),
        "coverage": (np.abs(error) <= half.numpy()).mean(),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-12), name
    details = metrics.details()
    assert [row["mse"] for row in details["per_step"]] == pytest.approx((own**2).mean((0, 2)).tolist())
    assert [row["mae"] for row in details["per_target"]] == pytest.approx(np.abs(own).mean((0, 1)).tolist())
    assert details["per_target"][1]["mase"] == pytest.approx(np.abs(error[..., 1]).mean() / 0.7)


def test_pinball_by_its_definition_and_its_best_constant() -> None:
    forecast, truth, levels = rand(6, 4, 3), rand(6, 4, seed=9), (0.1, 0.5, 0.9)
    total = 0.0
    for place, level in enumerate(levels):
        for y, q in zip(truth.flatten().tolist(), forecast[..., place].flatten().tolist(), strict=True):
            total += level * (y - q) if y >= q else (1 - level) * (q - y)
    assert float(pinball(forecast, truth, levels)) == pytest.approx(total, rel=1e-12)
    sample = rand(999, seed=6)
    for level in levels:
        losses = [float(pinball(torch.full((999, 1), float(c), dtype=torch.float64), sample, (level,))) for c in sample]
        best = float(sample[int(np.argmin(losses))])
        assert best == pytest.approx(float(sample.quantile(level)), abs=0.02)
