"""ResNet for CIFAR-10: 20, 32, 44, 56, 110 and 1,202 layers.

Paper: He, Zhang, Ren, Sun (2015), "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2.
Reported: CIFAR-10 test error in % with flips and padded crops: 20 layers 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43 (6.61 +- 0.16 over five runs), 1202: 7.93 (table 6).
Differs from the paper: the zeros of new channels stand half before and half behind those that are there, where the paper leaves it open; the rest as printed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_images
from lamina.nn.residual import BasicBlock, Shortcut

_SOURCE = "He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2"
_EXAMPLE = "lamina train cifar10-resnet20 --data PATH"
# What tests build: one block a stage, few channels.
_TINY: dict[str, Any] = {"image_size": (8, 8), "width": 4, "blocks_per_stage": 1}


class CIFARResNetConfig(Config):
    """What a ResNet for small images is built for."""

    in_channels: int = Field(3, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field((32, 32), description="Height and width of the images; any size will do.")
    num_classes: int = Field(10, description="Classes.", ge=1)
    shortcut: Shortcut = Field(
        "A",
        description="A: zeros for new channels, no parameters; B: a projection where shapes change; C: projections everywhere.",
    )
    width: int = Field(
        16, description="Channels of the first stage; the others have twice and four times as many.", ge=1
    )
    blocks_per_stage: int | None = Field(
        None, description="n of the paper's 6n + 2 layers; by default as the model's name says.", ge=1
    )
    initialiser: str = Field("kaiming-normal", description="Name of the initialiser of the weights; biases are zero.")


class CIFARResNet(nn.Module):
    """A 3x3 convolution, three stages of basic blocks on 32x32, 16x16 and 8x8 positions, their average, a linear layer.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2.

    Args:
        blocks_per_stage: n of the paper's 6n + 2 layers.

    Raises:
        ShapeError: Height or width is not positive. Any other size works: strides round up.
    """

    def __init__(
        self,
        *,
        blocks_per_stage: int,
        in_channels: int = 3,
        image_size: tuple[int, int] = (32, 32),
        num_classes: int = 10,
        shortcut: Shortcut = "A",
        width: int = 16,
        initialiser: str = "kaiming-normal",
    ) -> None:
        super().__init__()
        if min(image_size) < 1:
            raise ShapeError(
                f"Images of {image_size[0]}x{image_size[1]} have no pixels.",
                where="CIFARResNet, argument `image_size`",
                accepts="height and width >= 1",
                mend="give the size of the images",
            )
        self.in_channels = in_channels
        self.image_size = image_size
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(width, width, blocks_per_stage, stride=1, shortcut=shortcut)
        self.layer2 = _stage(width, 2 * width, blocks_per_stage, stride=2, shortcut=shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks_per_stage, stride=2, shortcut=shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(4 * width, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the images to `head`; together they hold every parameter once."""
        return {
            "stem": ("conv1.", "bn1."),
            "layer1": ("layer1.",),
            "layer2": ("layer2.",),
            "layer3": ("layer3.",),
            "head": ("head.",),
        }

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """The last stage averaged over all positions (B, 4 * width)."""
        check_images(self, images, in_channels=self.in_channels, size=self.image_size)
        x = self.relu(self.bn1(self.conv1(images)))  # (B, 3, 32, 32) -> (B, 16, 32, 32)
        x = self.layer1(x)  # (B, 16, 32, 32)
        x = self.layer2(x)  # (B, 32, 16, 16)
        x = self.layer3(x)  # (B, 64, 8, 8)
        return self.flatten(self.avgpool(x))  # type: ignore[no-any-return]  # (B, 64)


def _stage(in_channels: int, channels: int, num_blocks: int, *, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride=stride, shortcut=shortcut)
    rest = [BasicBlock(channels, channels, shortcut=shortcut) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


def _build(blocks_per_stage: int, fields: dict[str, Any]) -> CIFARResNet:
    values = {**dict(CIFARResNetConfig()), **fields}
    return CIFARResNet(**{**values, "blocks_per_stage": values["blocks_per_stage"] or blocks_per_stage})


@register("model", "resnet20", config=CIFARResNetConfig, source=_SOURCE, example=_EXAMPLE, input="image", tiny=_TINY)
def resnet20(**fields: Any) -> CIFARResNet:
    """20 layers for 32x32 images: 269,722 parameters with 10 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2.
    """
    return _build(3, fields)


@register("model", "resnet32", config=CIFARResNetConfig, source=_SOURCE, example=_EXAMPLE, input="image", tiny=_TINY)
def resnet32(**fields: Any) -> CIFARResNet:
    """32 layers for 32x32 images: 464,154 parameters with 10 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2.
    """
    return _build(5, fields)


@register("model", "resnet44", config=CIFARResNetConfig, source=_SOURCE, example=_EXAMPLE, input="image", tiny=_TINY)
def resnet44(**fields: Any) -> CIFARResNet:
    """44 layers for 32x32 images: 658,586 parameters with 10 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2.
    """
    return _build(7, fields)


@register("model", "resnet56", config=CIFARResNetConfig, source=_SOURCE, example=_EXAMPLE, input="image", tiny=_TINY)
def resnet56(**fields: Any) -> CIFARResNet:
    """56 layers for 32x32 images: 853,018 parameters with 10 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2.
    """
    return _build(9, fields)


@register("model", "resnet110", config=CIFARResNetConfig, source=_SOURCE, example=_EXAMPLE, input="image", tiny=_TINY)
def resnet110(**fields: Any) -> CIFARResNet:
    """110 layers for 32x32 images: 1,727,962 parameters with 10 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2.
    """
    return _build(18, fields)


@register("model", "resnet1202", config=CIFARResNetConfig, source=_SOURCE, example=_EXAMPLE, input="image", tiny=_TINY)
def resnet1202(**fields: Any) -> CIFARResNet:
    """1,202 layers for 32x32 images: 19,421,274 parameters with 10 classes; over-fits, as the paper says.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, section 4.2.
    """
    return _build(200, fields)
