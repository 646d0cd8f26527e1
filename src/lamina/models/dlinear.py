"""DLinear: a series taken apart into trend and remainder, each carried into the future by one linear layer over time.

Paper: Zeng, Chen, Zhang, Xu (2022), "Are Transformers Effective for Time Series Forecasting?", arXiv:2205.13504.
Reported: mean squared error 0.375 and mean absolute error 0.399 on ETTh1 at horizon 96 with 336 rows of the past (table 2). Ours: see docs/time-series.md.
Differs from the paper: nothing but options: several quantiles per step, and the level of the window taken out beforehand (their NLinear).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.nn.initialisers import initialise
from lamina.nn.series import Level, check_channels, check_past, put_back, take_level


class DLinearConfig(Config):
    """How the series is taken apart, and what the model is built for."""

    in_channels: int = Field(7, description="Series that are read.", ge=1)
    out_channels: int = Field(7, description="Series that are forecast: the same.", ge=1)
    past_length: int = Field(336, description="Rows of the past.", ge=1)
    horizon: int = Field(96, description="Rows that are forecast.", ge=1)
    kernel_size: int = Field(25, description="Rows that the moving average is taken over, around each.", ge=1)
    individual: bool = Field(False, description="Linear layers of its own for each series, instead of shared ones.")
    level: Level = Field(
        "none",
        description="What is taken out of each window first and put back at the end: nothing, its last value, or mean and "
        "standard deviation of the window.",
    )
    num_quantiles: int = Field(1, description="Numbers per step and series; 3 for intervals by quantiles.", ge=1)
    initialiser: str = Field("torch", description="Name of the initialiser of the linear layers.")


@register(
    "model",
    "dlinear",
    config=DLinearConfig,
    source="Zeng, Chen, Zhang, Xu (2022), arXiv:2205.13504",
    example="lamina train etth1-dlinear --data ETTh1.csv.gz model.individual=true",
    input="past",
)
class DLinear(nn.Module):
    """Trend by a moving average, the rest as it is, a linear layer over time for each, and their sum.

    Every series goes through the same layers (or through its own), alone: no series sees another.

    Source: Zeng, Chen, Zhang, Xu (2022), arXiv:2205.13504.

    Raises:
        ConfigError: Other channels to read than to forecast.
    """

    def __init__(
        self,
        *,
        in_channels: int = 7,
        out_channels: int = 7,
        past_length: int = 336,
        horizon: int = 96,
        kernel_size: int = 25,
        individual: bool = False,
        level: Level = "none",
        num_quantiles: int = 1,
        initialiser: str = "torch",
    ) -> None:
        super().__init__()
        check_channels("dlinear", in_channels=in_channels, out_channels=out_channels, alone=True)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.past_length, self.horizon = past_length, horizon
        self.kernel_size, self.level, self.num_quantiles = kernel_size, level, num_quantiles
        copies = in_channels if individual else 1
        width = horizon * num_quantiles
        self.seasonal = nn.ModuleList(nn.Linear(past_length, width) for _ in range(copies))
        self.trend = nn.ModuleList(nn.Linear(past_length, width) for _ in range(copies))
        initialise(self, initialiser, generator=torch.default_generator)

    def example_inputs(self) -> Tensor:
        """One window without values (1, past_length, in_channels)."""
        return torch.empty(1, self.past_length, self.in_channels, device="meta")

    def forward(self, past: Tensor) -> Tensor:
        """(B, past_length, in_channels) -> (B, horizon, out_channels), or (B, horizon, out_channels, num_quantiles)."""
        check_past(self, past, past_length=self.past_length, in_channels=self.in_channels)
        window, shift, scale = take_level(past, self.level, channels=self.in_channels)
        trend = self.moving_average(window)  # (B, L, C)
        forecast = self._over_time(self.seasonal, window - trend) + self._over_time(self.trend, trend)  # (B, C, H * Q)
        if self.num_quantiles > 1:
            forecast = forecast.unflatten(2, (self.horizon, self.num_quantiles))  # (B, C, H, Q)
        return put_back(forecast.transpose(1, 2), shift, scale)  # (B, H, C) or (B, H, C, Q)

    def moving_average(self, window: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C): the mean over `kernel_size` rows around each, the ends continued with their own value."""
        half = (self.kernel_size - 1) // 2
        series = window.transpose(1, 2)  # (B, C, L)
        padded = nn.functional.pad(series, (half, self.kernel_size - 1 - half), mode="replicate")
        return nn.functional.avg_pool1d(padded, self.kernel_size, stride=1).transpose(1, 2)

    def features(self, past: Tensor) -> Tensor:
        """Remainder and trend of each series, one after the other, (B, in_channels, 2 * past_length)."""
        check_past(self, past, past_length=self.past_length, in_channels=self.in_channels)
        window, _, _ = take_level(past, self.level, channels=self.in_channels)
        trend = self.moving_average(window)
        return torch.cat([window - trend, trend], dim=1).transpose(1, 2)

    def _over_time(self, layers: nn.ModuleList, part: Tensor) -> Tensor:
        series = part.transpose(1, 2)  # (B, C, L)
        if len(layers) == 1:
            return layers[0](series)  # type: ignore[no-any-return]
        return torch.stack([layer(one) for layer, one in zip(layers, series.unbind(1), strict=True)], dim=1)
