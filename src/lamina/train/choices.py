"""What `auto` means: rules from recipe, network and hardware, never from a timing.

Two runs on one machine therefore choose alike and are bit-identical; the run records each choice and its reason, and a
resumed run keeps it. The figures behind the rules come from `benchmarks/` (see docs/speed.md).
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import nn

from lamina.core.devices import has_bf16
from lamina.core.errors import DeviceError
from lamina.train.config import TrainingConfig

# A convolution narrower than this is bound by calls, not by arithmetic: bf16 and channels-last cost more than they gain
# (LeNet-5 has 6 and 16 channels; the sign network 75, 50, 25).
_WIDE_CHANNELS = 24


class Choice(TypedDict):
    """What was chosen and why."""

    name: str
    reason: str


def _wide_convolutions(model: nn.Module) -> bool:
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
    return max((m.out_channels for m in model.modules() if isinstance(m, kinds)), default=0) >= _WIDE_CHANNELS


def choose_precision(config: TrainingConfig, model: nn.Module, device: torch.device) -> Choice:
    """fp32 or bf16 (autocast: bf16 products, fp32 weights, sums and losses).

    Raises:
        DeviceError: bf16 was asked for and the processor computes it only by emulation.
    """
    fast, fact = has_bf16(device)
    if config.precision == "bf16":
        if not fast:
            raise DeviceError(
                f"training.precision=bf16, but {fact}.",
                where="training.precision",
                accepts="fp32 on this machine",
                mend="use training.precision=auto or fp32",
            )
        return {"name": "bf16", "reason": "asked for"}
    if config.precision == "fp32":
        return {"name": "fp32", "reason": "asked for"}
    if not fast:
        return {"name": "fp32", "reason": fact}
    if _wide_convolutions(model):
        return {"name": "bf16", "reason": f"wide convolutions, and {fact}"}
    return {"name": "fp32", "reason": "no wide convolutions, so products are too small to gain from bf16"}


def choose_layout(config: TrainingConfig, model: nn.Module) -> Choice:
    """Memory layout of 2-dimensional convolutions and their inputs."""
    if config.layout != "auto":
        return {"name": config.layout, "reason": "asked for"}
    if _wide_convolutions(model) and any(isinstance(m, nn.Conv2d) for m in model.modules()):
        return {"name": "channels_last", "reason": "wide 2-dimensional convolutions"}
    return {"name": "contiguous", "reason": "no wide 2-dimensional convolutions"}
