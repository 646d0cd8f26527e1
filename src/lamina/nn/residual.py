"""Residual blocks: a few convolutions whose output is added to what went in.

Source: He, Zhang, Ren, Sun (2015), "Deep Residual Learning for Image Recognition", arXiv:1512.03385, sections 3.2, 3.3 and 4.1.

The three shortcuts of section 4.1 (table 3), where `x` goes in and the block's convolutions give `F(x)`:

    A  where shapes change every second pixel is taken and the new channels are zero; elsewhere x itself. No parameters.
    B  where shapes change a projection (1x1 convolution and batch norm); elsewhere x itself.
    C  a projection in every block.

Names of parameters are torchvision's: `conv1, bn1, conv2, bn2[, conv3, bn3], downsample.0, downsample.1`.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from lamina.core.errors import ConfigError

__all__ = ["BasicBlock", "Bottleneck", "Projection", "Shortcut", "Version", "ZeroPadShortcut", "create_shortcut"]

Shortcut = Literal["A", "B", "C"]
Version = Literal["v1", "v1.5"]


class Projection(nn.Conv2d):
    """The 1x1 convolution of a shortcut. Papers leave it out when they count layers: 152 is 1 + 3 * (3 + 8 + 36 + 3) + 1.

    Args:
        in_channels: Channels of what goes into the block.
        out_channels: Channels of what comes out.
        stride: As of the block.

    Source: He et al. (2015), arXiv:1512.03385, equation 2.
    """

    counts_in_depth: ClassVar[bool] = False

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 1, stride=stride, bias=False)


class ZeroPadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and channels of zeros on both sides of those that are there.

    The paper does not say where the zeros go. Half of them before and half behind (the odd one behind) is what the
    weights of this kind that are passed around were trained with.

    Args:
        in_channels: Channels of what goes in.
        out_channels: Channels of what comes out, not fewer.
        stride: Pixels taken: 0, stride, 2 * stride, …

    Raises:
        ConfigError: Fewer channels come out than go in.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Source: He et al. (2015), arXiv:1512.03385, section 3.3, option (A).
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        missing = out_channels - in_channels
        if missing < 0:
            raise ConfigError(
                f"A shortcut of option A cannot make {out_channels} channels of {in_channels}.",
                where="ZeroPadShortcut, argument `out_channels`",
                accepts=f">= {in_channels}: zeros are added, nothing is dropped",
                mend="shortcut='B' projects to any number of channels",
            )
        self.stride = stride
        self.before = missing // 2
        self.after = missing - self.before

    def extra_repr(self) -> str:
        """Sizes, for printing."""
        return f"stride={self.stride}, before={self.before}, after={self.after}"

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, before + C + after, ceil(H / stride), ceil(W / stride))."""
        kept = inputs[:, :, :: self.stride, :: self.stride]
        return nn.functional.pad(kept, (0, 0, 0, 0, self.before, self.after))


def create_shortcut(in_channels: int, out_channels: int, *, stride: int, option: Shortcut) -> nn.Module | None:
    """What stands on a block's shortcut; None where x itself is added."""
    changes = stride != 1 or in_channels != out_channels
    if option == "C" or (option == "B" and changes):
        return nn.Sequential(Projection(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels))
    return ZeroPadShortcut(in_channels, out_channels, stride=stride) if changes else None


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, of which the first has the stride.

    Args:
        in_channels: Channels of what goes in.
        channels: Channels of both convolutions, and of what comes out.
        stride: 2 halves height and width.
        shortcut: Option A, B or C.
        version: Without meaning here: the stride is in a 3x3 in both.

    Shapes: (B, in_channels, H, W) -> (B, channels, ceil(H / stride), ceil(W / stride)).

    Source: He et al. (2015), arXiv:1512.03385, figure 5 left.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        shortcut: Shortcut = "B",
        version: Version = "v1.5",
    ) -> None:
        super().__init__()
        del version
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = create_shortcut(in_channels, channels, stride=stride, option=shortcut)
        self.relu2 = nn.ReLU(inplace=True)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm before the addition; with its weight at zero the block begins as its shortcut."""
        return self.bn2

    def forward(self, inputs: Tensor) -> Tensor:
        """relu(F(x) + shortcut(x))."""
        x = self.relu1(self.bn1(self.conv1(inputs)))  # (B, channels, H / stride, W / stride)
        x = self.bn2(self.conv2(x))
        x = x + (inputs if self.downsample is None else self.downsample(inputs))
        return self.relu2(x)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A 1x1 convolution to fewer channels, a 3x3, and a 1x1 to four times as many.

    Args:
        in_channels: Channels of what goes in.
        channels: Channels of the first two convolutions; four times as many come out.
        stride: 2 halves height and width.
        shortcut: Option A, B or C.
        version: `v1`: the stride is in the first 1x1, as in the paper; `v1.5`: in the 3x3, as in torchvision, which loses no pixel.

    Shapes: (B, in_channels, H, W) -> (B, 4 * channels, ceil(H / stride), ceil(W / stride)).

    Source: He et al. (2015), arXiv:1512.03385, figure 5 right; v1.5: Goyal et al. (2017), arXiv:1706.02677, section 5.1.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        shortcut: Shortcut = "B",
        version: Version = "v1.5",
    ) -> None:
        super().__init__()
        first, second = (stride, 1) if version == "v1" else (1, stride)
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = create_shortcut(in_channels, out_channels, stride=stride, option=shortcut)
        self.relu3 = nn.ReLU(inplace=True)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm before the addition; with its weight at zero the block begins as its shortcut."""
        return self.bn3

    def forward(self, inputs: Tensor) -> Tensor:
        """relu(F(x) + shortcut(x))."""
        x = self.relu1(self.bn1(self.conv1(inputs)))  # (B, channels, …)
        x = self.relu2(self.bn2(self.conv2(x)))  # (B, channels, H / stride, W / stride)
        x = self.bn3(self.conv3(x))  # (B, 4 * channels, H / stride, W / stride)
        x = x + (inputs if self.downsample is None else self.downsample(inputs))
        return self.relu3(x)  # type: ignore[no-any-return]
