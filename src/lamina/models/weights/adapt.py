"""A first layer for another number of channels than it was trained on."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["adapt_channels"]


def adapt_channels(kernel: Tensor, in_channels: int) -> Tensor:
    """The kernels of a first convolution for images of another number of channels.

    One channel gets the sum of the kernels, so that a grey image gives what it gave as three equal channels. More channels
    get the kernels in turn, scaled by old / new, so that equal channels give the same sum again.

    Args:
        kernel: (out, channels, …), float.
        in_channels: Wanted number.

    Returns:
        (out, in_channels, …); the kernel itself where the number is the same.

    Source: Wightman (2019), PyTorch Image Models, `adapt_input_conv`.

    >>> adapt_channels(torch.tensor([[1.0, 2.0, 3.0]])[:, :, None], 1).flatten().tolist()
    [6.0]
    >>> adapt_channels(torch.tensor([[1.0, 2.0, 3.0]])[:, :, None], 4).flatten().tolist()
    [0.75, 1.5, 2.25, 0.75]
    """
    old = kernel.shape[1]
    if in_channels == old:
        return kernel
    if in_channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    return kernel[:, torch.arange(in_channels) % old] * (old / in_channels)
