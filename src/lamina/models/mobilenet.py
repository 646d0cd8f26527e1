"""MobileNet v1.

Paper: Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam (2017), "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv:1704.04861.
Reported: ImageNet, 1.0 MobileNet-224: 70.6 % accuracy, 569 million multiply-adds, 4.2 million parameters (tables 6 and 7); 0.5 MobileNet-160: 60.2 %, 76 million, 1.32 million (table 9).
Differs from the paper: stride 1 in the last depthwise convolution, where table 1 prints 2 beside a 7x7 output; ReLU6 instead of ReLU, batch norm with eps 0.001 and "same" padding with the odd zero at the end, as in the authors' released weights; the share of the newest batch in the running statistics is 0.1 instead of their 0.01; no dropout before the head (the released code has 0.001); He initialisation.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.nn.convolution import create_convolution
from lamina.nn.dropout import Dropout
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_images

_SOURCE: Final = "Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam (2017), arXiv:1704.04861"
# What tests build: all layers, few channels.
_TINY: Final[dict[str, Any]] = {"image_size": (32, 32), "num_classes": 10, "width_multiplier": 0.25}
# Channels that each block makes, and the stride of its depthwise convolution (table 1).
_BLOCKS: Final = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
_EPS: Final = 1e-3
_MOMENTUM: Final = 0.1


class MobileNetConfig(Config):
    """What MobileNet v1 is built for."""

    in_channels: int = Field(3, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field(
        (224, 224), description="Height and width of the images; any size will do, multiples of 32 come out even."
    )
    num_classes: int = Field(1000, description="Classes.", ge=1)
    width_multiplier: float = Field(
        1.0, description="Factor of all channel numbers, alpha in the paper: 1, 0.75, 0.5 or 0.25 there.", gt=0, le=4
    )
    last_block: int = Field(
        13,
        description="Number of the last block that is built; 12 leaves out the last, which some weight files lack.",
        ge=1,
        le=13,
    )
    dropout: float = Field(0.0, description="Probability of dropping a feature before the head.", ge=0, lt=1)
    initialiser: str = Field("kaiming-normal", description="Name of the initialiser of the weights; biases are zero.")


class SeparableBlock(nn.Module):
    """A depthwise 3x3 convolution, which filters each channel, then a pointwise 1x1 one, which mixes them.

    Together 9 * C + C * D weights instead of the 9 * C * D of a plain convolution.

    Args:
        in_channels: C, channels of what goes in.
        out_channels: D, channels of what comes out.
        stride: Of the depthwise convolution.

    Shapes: (B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride)).

    Source: Howard et al. (2017), arXiv:1704.04861, section 3.1.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = create_convolution(in_channels, in_channels, stride=stride, depthwise=True, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels, eps=_EPS, momentum=_MOMENTUM)
        self.relu1 = nn.ReLU6(inplace=True)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, eps=_EPS, momentum=_MOMENTUM)
        self.relu2 = nn.ReLU6(inplace=True)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, ceil(H / stride), ceil(W / stride))."""
        x = self.relu1(self.bn1(self.depthwise(inputs)))  # (B, C, H / stride, W / stride)
        return self.relu2(self.bn2(self.pointwise(x)))  # type: ignore[no-any-return]


@register(
    "model",
    "mobilenet_v1",
    config=MobileNetConfig,
    summary="Another spelling of mobilenet-v1.",
    source=_SOURCE,
    example="lamina inspect mobilenet_v1",
    input="image",
    tiny=_TINY,
)
@register(
    "model",
    "mobilenet-v1",
    config=MobileNetConfig,
    source=_SOURCE,
    example="lamina inspect mobilenet-v1 model.width_multiplier=0.5",
    input="image",
    tiny=_TINY,
)
class MobileNet(nn.Module):
    """A convolution and thirteen separable blocks, the average over all positions, and one linear layer: 4,231,976 parameters.

    Names of parameters: `conv1`, `bn1`, `blocks.N.depthwise`, `blocks.N.bn1`, `blocks.N.pointwise`, `blocks.N.bn2`, `head`; block
    N + 1 of the paper is `blocks.N`.

    Source: Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto, Adam (2017), arXiv:1704.04861, table 1.

    Raises:
        ShapeError: Height or width is not positive. Any other size works: strides round up.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        num_classes: int = 1000,
        width_multiplier: float = 1.0,
        last_block: int = 13,
        dropout: float = 0.0,
        initialiser: str = "kaiming-normal",
    ) -> None:
        super().__init__()
        if min(image_size) < 1:
            raise ShapeError(
                f"Images of {image_size[0]}x{image_size[1]} have no pixels.",
                where="MobileNet, argument `image_size`",
                accepts="height and width >= 1",
                mend="give the size of the images",
            )
        self.in_channels = in_channels
        self.image_size = image_size
        channels = _scaled(32, width_multiplier)
        self.conv1 = create_convolution(in_channels, channels, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)
        self.relu1 = nn.ReLU6(inplace=True)
        blocks: list[nn.Module] = []
        for made, stride in _BLOCKS[:last_block]:
            blocks.append(SeparableBlock(channels, _scaled(made, width_multiplier), stride=stride))
            channels = _scaled(made, width_multiplier)
        self.blocks = nn.Sequential(*blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()
        self.head = nn.Linear(channels, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the images to `head`; together they hold every parameter once."""
        blocks = {f"block{number + 1}": (f"blocks.{number}.",) for number in range(len(self.blocks))}
        return {"stem": ("conv1.", "bn1."), **blocks, "head": ("head.",)}

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """The last block averaged over all positions (B, 1024). Shapes in the comments are of 224x224 and width 1."""
        check_images(self, images, in_channels=self.in_channels, size=self.image_size)
        x = self.relu1(self.bn1(self.conv1(images)))  # (B, 3, 224, 224) -> (B, 32, 112, 112)
        x = self.blocks(x)  # (B, 1024, 7, 7)
        return self.dropout(self.flatten(self.avgpool(x)))  # type: ignore[no-any-return]  # (B, 1024)


def _scaled(channels: int, width_multiplier: float) -> int:
    """Channels after the width multiplier, rounded down, at least 8."""
    return max(int(channels * width_multiplier), 8)
