"""Networks that forecast a series in one step: recurrent, convolutional, and the season before repeated.

Paper: Hochreiter, Schmidhuber (1997), "Long Short-Term Memory", doi:10.1162/neco.1997.9.8.1735; Bai, Kolter, Koltun (2018), "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling", arXiv:1803.01271; Hyndman, Athanasopoulos (2021), "Forecasting: Principles and Practice", section 5.2 (seasonal naive).
Reported: nothing that is measured here; all horizons come out at once (the direct strategy), from what the last row of the past holds.
Differs from the paper: the level of each window may be taken out beforehand and put back; convolutions without weight normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ConfigError
from lamina.core.registry import register
from lamina.nn.dropout import Dropout
from lamina.nn.initialisers import initialise
from lamina.nn.recurrent import Recurrent
from lamina.nn.series import CausalConvolution, Level, arranged, check_channels, check_past, put_back, take_level

_LEVEL = (
    "What is taken out of each window first and put back at the end: nothing, its last value, or mean and standard deviation of "
    "the window."
)


class _WindowConfig(Config):
    """What a forecaster is built for."""

    in_channels: int = Field(7, description="Channels that are read: the series, then the calendar.", ge=1)
    out_channels: int = Field(7, description="Series that are forecast: the first channels.", ge=1)
    past_length: int = Field(96, description="Rows of the past.", ge=1)
    horizon: int = Field(96, description="Rows that are forecast.", ge=1)


class LSTMForecasterConfig(_WindowConfig):
    """Layers of an LSTM, and what it is built for."""

    hidden_size: int = Field(64, description="Numbers remembered, in each layer.", ge=1)
    num_layers: int = Field(1, description="Layers, each reading what the one below gives.", ge=1)
    dropout: float = Field(0.0, description="Dropped between layers and before the head.", ge=0, lt=1)
    forget_bias: float = Field(1.0, description="What the bias of the forget gate begins with.")
    level: Level = Field("last", description=_LEVEL)
    num_quantiles: int = Field(1, description="Numbers per step and series; 3 for intervals by quantiles.", ge=1)
    initialiser: str = Field("xavier-uniform", description="Name of the initialiser of the head.")


@register(
    "model",
    "lstm_forecaster",
    config=LSTMForecasterConfig,
    source="Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735",
    example="lamina train etth1-lstm --data ETTh1.csv.gz model.hidden_size=128",
    input="past",
)
class LSTMForecaster(nn.Module):
    """An LSTM reads the past; from what it remembers at the end a linear layer says the whole future.

    Source: Hochreiter, Schmidhuber (1997), doi:10.1162/neco.1997.9.8.1735.

    Raises:
        ConfigError: More channels to forecast than to read.
    """

    def __init__(
        self,
        *,
        in_channels: int = 7,
        out_channels: int = 7,
        past_length: int = 96,
        horizon: int = 96,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.0,
        forget_bias: float = 1.0,
        level: Level = "last",
        num_quantiles: int = 1,
        initialiser: str = "xavier-uniform",
    ) -> None:
        super().__init__()
        check_channels("lstm_forecaster", in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.past_length, self.horizon = past_length, horizon
        self.level, self.num_quantiles = level, num_quantiles
        self.lstm = Recurrent(
            "lstm",
            input_size=in_channels,
            hidden_size=hidden_size,
            num_layers=num_layers,
            dropout=dropout,
            forget_bias=forget_bias,
        )
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(hidden_size, horizon * out_channels * num_quantiles)
        initialise(self, initialiser, generator=torch.default_generator)

    def example_inputs(self) -> Tensor:
        """One window without values (1, past_length, in_channels)."""
        return torch.empty(1, self.past_length, self.in_channels, device="meta")

    def forward(self, past: Tensor) -> Tensor:
        """(B, past_length, in_channels) -> (B, horizon, out_channels), or (B, horizon, out_channels, num_quantiles)."""
        features, shift, scale = self._read(past)  # (B, hidden_size)
        forecast = arranged(
            self.head(features), horizon=self.horizon, channels=self.out_channels, num_quantiles=self.num_quantiles
        )
        return put_back(forecast, shift, scale)

    def features(self, past: Tensor) -> Tensor:
        """What is remembered after the last row of the past (B, hidden_size)."""
        return self._read(past)[0]

    def _read(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        check_past(self, past, past_length=self.past_length, in_channels=self.in_channels)
        window, shift, scale = take_level(past, self.level, channels=self.out_channels)
        hidden, _ = self.lstm(window)  # (B, L, hidden_size)
        return self.dropout(hidden[:, -1]), shift, scale


class CNNForecasterConfig(_WindowConfig):
    """Blocks of causal convolutions, and what they are built for."""

    channels: int = Field(32, description="Channels of every block.", ge=1)
    kernel_size: int = Field(3, description="Steps that a kernel sees.", ge=2, le=64)
    num_blocks: int = Field(
        0,
        description="Blocks, each with twice the dilation of the one before; 0: so many that the last step sees the whole past.",
        ge=0,
        le=16,
    )
    dropout: float = Field(0.1, description="Dropped behind each convolution.", ge=0, lt=1)
    level: Level = Field("last", description=_LEVEL)
    num_quantiles: int = Field(1, description="Numbers per step and series; 3 for intervals by quantiles.", ge=1)
    # Wider ones add up over the residual blocks: with kaiming-uniform forecasts begin ten times too large.
    initialiser: str = Field("torch", description="Name of the initialiser of the weights and biases.")


@register(
    "model",
    "cnn_forecaster",
    config=CNNForecasterConfig,
    source="Bai, Kolter, Koltun (2018), arXiv:1803.01271; van den Oord et al. (2016), arXiv:1609.03499",
    example="lamina train etth1-cnn --data ETTh1.csv.gz model.kernel_size=5",
    input="past",
)
class CNNForecaster(nn.Module):
    """Dilated causal convolutions over the past; from the last step a linear layer says the whole future.

    Source: Bai, Kolter, Koltun (2018), arXiv:1803.01271; van den Oord et al. (2016), arXiv:1609.03499.

    Raises:
        ConfigError: More channels to forecast than to read.
    """

    def __init__(
        self,
        *,
        in_channels: int = 7,
        out_channels: int = 7,
        past_length: int = 96,
        horizon: int = 96,
        channels: int = 32,
        kernel_size: int = 3,
        num_blocks: int = 0,
        dropout: float = 0.1,
        level: Level = "last",
        num_quantiles: int = 1,
        initialiser: str = "torch",
    ) -> None:
        super().__init__()
        check_channels("cnn_forecaster", in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.past_length, self.horizon = past_length, horizon
        self.level, self.num_quantiles = level, num_quantiles
        count = num_blocks or blocks_to_see(past_length, kernel_size=kernel_size)
        self.blocks = nn.Sequential(
            *(
                CausalConvolution(
                    channels if block else in_channels,
                    channels,
                    kernel_size=kernel_size,
                    dilation=2**block,
                    dropout=dropout,
                )
                for block in range(count)
            )
        )
        self.head = nn.Linear(channels, horizon * out_channels * num_quantiles)
        initialise(self, initialiser, generator=torch.default_generator)

    @property
    def receptive_field(self) -> int:
        """Rows of the past that the last step sees."""
        return 1 + sum(2 * block.reach for block in self.blocks if isinstance(block, CausalConvolution))

    def example_inputs(self) -> Tensor:
        """One window without values (1, past_length, in_channels)."""
        return torch.empty(1, self.past_length, self.in_channels, device="meta")

    def forward(self, past: Tensor) -> Tensor:
        """(B, past_length, in_channels) -> (B, horizon, out_channels), or (B, horizon, out_channels, num_quantiles)."""
        features, shift, scale = self._read(past)  # (B, channels)
        forecast = arranged(
            self.head(features), horizon=self.horizon, channels=self.out_channels, num_quantiles=self.num_quantiles
        )
        return put_back(forecast, shift, scale)

    def features(self, past: Tensor) -> Tensor:
        """What the last step of the past holds behind the blocks (B, channels)."""
        return self._read(past)[0]

    def _read(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        check_past(self, past, past_length=self.past_length, in_channels=self.in_channels)
        window, shift, scale = take_level(past, self.level, channels=self.out_channels)
        steps = self.blocks(window.transpose(1, 2))  # (B, channels, L)
        return steps[:, :, -1], shift, scale


def blocks_to_see(past_length: int, *, kernel_size: int) -> int:
    """The least number of blocks, of dilation 1, 2, 4, …, with two convolutions each, whose last step sees so many rows.

    >>> blocks_to_see(96, kernel_size=3)  # 1 + 2 * 2 * (1 + 2 + 4 + 8 + 16) = 125
    5
    """
    count, seen = 1, 1 + 2 * (kernel_size - 1)
    while seen < past_length:
        seen += 2 * (kernel_size - 1) * 2**count
        count += 1
    return count


class SeasonalNaiveConfig(_WindowConfig):
    """The season, and what the forecast is made for."""

    season: int = Field(24, description="Rows after which the series repeats itself; 1 repeats the last value.", ge=1)


@register(
    "model",
    "seasonal_naive",
    config=SeasonalNaiveConfig,
    source="Hyndman, Athanasopoulos (2021), Forecasting: Principles and Practice, section 5.2",
    example="lamina train etth1-dlinear --data ETTh1.csv.gz model.kind=seasonal_naive",
    input="past",
    has_gradients=False,
    single_pass=True,
)
class SeasonalNaive(nn.Module):
    """The last season over and over: what every forecaster must beat. Learns nothing but how many windows it was shown.

    Source: Hyndman, Athanasopoulos (2021), Forecasting: Principles and Practice, section 5.2.

    Raises:
        ConfigError: The past is shorter than a season.
    """

    num_windows: Tensor

    def __init__(
        self,
        *,
        in_channels: int = 7,
        out_channels: int = 7,
        past_length: int = 96,
        horizon: int = 96,
        season: int = 24,
    ) -> None:
        super().__init__()
        check_channels("seasonal_naive", in_channels=in_channels, out_channels=out_channels)
        if season > past_length:
            raise ConfigError(
                f"A season of {season} rows cannot be repeated from {past_length} rows of the past.",
                where="model.season, data.past_length",
                accepts=f"a past of at least {season} rows, or a season of at most {past_length}",
                mend=f"data.past_length={season}",
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.past_length, self.horizon, self.season = past_length, horizon, season
        self.register_buffer("num_windows", torch.zeros((), dtype=torch.int64))

    def example_inputs(self) -> Tensor:
        """One window without values (1, past_length, in_channels)."""
        return torch.empty(1, self.past_length, self.in_channels, device="meta")

    def learn(self, inputs: Tensor, targets: Tensor) -> Mapping[str, tuple[Tensor, Tensor | float]]:
        """Count the windows (B, past_length, in_channels); there is nothing to learn from them."""
        self.num_windows += len(inputs)
        return {"windows": (self.num_windows.to(torch.float32), 1.0)}

    def forward(self, past: Tensor) -> Tensor:
        """(B, past_length, in_channels) -> (B, horizon, out_channels)."""
        check_past(self, past, past_length=self.past_length, in_channels=self.in_channels)
        last = self.features(past)  # (B, season, out_channels)
        places = torch.arange(self.horizon, device=past.device) % self.season
        return last[:, places]

    def features(self, past: Tensor) -> Tensor:
        """The last season of the past (B, season, out_channels)."""
        return past[:, self.past_length - self.season :, : self.out_channels]
