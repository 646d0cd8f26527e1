"""What forecasting networks share: the check of their input, the level of a window taken out and put back, causal convolutions.

A window of the past is (B, L, C): rows in time order, then channels. The first channels are those of the series, which are
forecast; behind them may stand others (the calendar), which are only read.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lamina.core.errors import ConfigError, DtypeError, ShapeError
from lamina.nn.dropout import Dropout

__all__ = ["CausalConvolution", "Level", "arranged", "check_channels", "check_past", "put_back", "take_level"]

Level = Literal["none", "last", "window"]


def check_past(model: nn.Module, past: Tensor, *, past_length: int, in_channels: int) -> None:
    """Refuse anything but floating-point windows (B, past_length, in_channels).

    Raises:
        ShapeError: Another number of dimensions, rows or channels.
        DtypeError: Whole numbers.
    """
    wanted = (past_length, in_channels)
    if past.ndim == 3 and tuple(past.shape[1:]) == wanted and past.dtype.is_floating_point:
        return
    name = type(model).__name__
    where = f"{name}.forward, argument `past`"
    accepts = f"float tensor (batch, {past_length}, {in_channels}): rows of the past, channels"
    got = tuple(past.shape)
    if got[1:] == wanted:
        raise DtypeError(
            f"{name} got a past of {str(past.dtype).removeprefix('torch.')}.",
            where=where,
            accepts=accepts,
            mend="past.float() makes floating numbers; scale them as in training",
        )
    if got == wanted:
        mend = "past.unsqueeze(0) makes a batch of one"
    elif got[1:] == wanted[::-1]:
        mend = "past.transpose(1, 2) puts the channels last"
    elif len(got) == 3:
        parts = [f"past_length={got[1]}"] if got[1] != past_length else []
        parts += [f"in_channels={got[2]}"] if got[2] != in_channels else []
        mend = f"build with {' and '.join(parts)}"
    else:
        mend = "bring the windows into this shape, or build the model for theirs with past_length and in_channels"
    raise ShapeError(f"{name} got a past shaped {got}.", where=where, accepts=accepts, mend=mend)


def check_channels(name: str, *, in_channels: int, out_channels: int, alone: bool = False) -> None:
    """Refuse more channels to forecast than there are to read; with `alone` also others than those of the series.

    Raises:
        ConfigError: Says what the model reads.
    """
    if out_channels > in_channels or (alone and out_channels != in_channels):
        others = " It reads the series alone, no calendar." if alone else ""
        raise ConfigError(
            f"{name} would forecast {out_channels} channels from {in_channels}.{others}",
            where="model.in_channels, model.out_channels",
            accepts="the same number" if alone else "out_channels up to in_channels",
            mend="leave the step `calendar` out of preprocess, or choose lstm_forecaster or cnn_forecaster"
            if alone and out_channels < in_channels
            else "leave both out to have them filled in from the data",
        )


def take_level(past: Tensor, level: Level, *, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """The window without its level, and (shift, scale), each (B, 1, channels), that put it back.

    Args:
        level: `last` subtracts each series' last value; `window` its mean over the window, and divides by the standard deviation.
        channels: Of the series; the others stay as they are.

    Source: Zeng et al. (2022), arXiv:2205.13504 (NLinear, `last`); Kim et al. (2022), "Reversible Instance Normalization",
    ICLR (`window`, here without learned scale).
    """
    series, others = past[:, :, :channels], past[:, :, channels:]
    if level == "none":
        return past, series.new_zeros(1, 1, channels), series.new_ones(1, 1, channels)
    if level == "last":
        shift, scale = series[:, -1:], series.new_ones(1, 1, channels)
    else:
        shift = series.mean(dim=1, keepdim=True)
        scale = ((series - shift).square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    centred = (series - shift) / scale
    return torch.cat([centred, others], dim=2) if others.shape[2] else centred, shift, scale


def put_back(forecast: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The forecast (B, H, C) or (B, H, C, Q) at the level of its window: the inverse of `take_level`."""
    if forecast.ndim == 4:
        shift, scale = shift.unsqueeze(3), scale.unsqueeze(3)
    return forecast * scale + shift


def arranged(flat: Tensor, *, horizon: int, channels: int, num_quantiles: int) -> Tensor:
    """What a linear layer gives, (B, H * C * Q) -> (B, H, C), or (B, H, C, Q) of several quantiles."""
    shape = (len(flat), horizon, channels)
    return flat.view(*shape, num_quantiles) if num_quantiles > 1 else flat.view(shape)


class CausalConvolution(nn.Module):
    """Two dilated convolutions that see no later step, with a shortcut: the residual block of temporal convolutional networks.

    Args:
        in_channels, out_channels: Before and after.
        kernel_size: Steps that a kernel sees, `dilation` apart.
        dropout: Of whole elements, behind each convolution.

    Source: Bai, Kolter, Koltun (2018), arXiv:1803.01271, figure 1, without weight normalisation.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, dilation: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.reach = (kernel_size - 1) * dilation
        self.first = nn.Conv1d(in_channels, out_channels, kernel_size, dilation=dilation)
        self.second = nn.Conv1d(out_channels, out_channels, kernel_size, dilation=dilation)
        self.shortcut = nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        self.act = nn.ReLU()
        # One module per place, because a layer that is called twice in a step gives the same mask both times.
        self.first_dropout, self.second_dropout = Dropout(dropout), Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, T) -> (B, out_channels, T); step t depends on steps up to t."""
        y = self.first_dropout(self.act(self.first(nn.functional.pad(x, (self.reach, 0)))))
        y = self.second_dropout(self.act(self.second(nn.functional.pad(y, (self.reach, 0)))))
        return self.act(y + self.shortcut(x))  # type: ignore[no-any-return]
