"""ResNet for ImageNet: 18, 34, 50, 101 and 152 layers.

Paper: He, Zhang, Ren, Sun (2015), "Deep Residual Learning for Image Recognition", arXiv:1512.03385.
Reported: ImageNet validation, ten crops, top-1 / top-5 error in %: 34 layers 24.52 / 7.46, 50: 22.85 / 6.71, 101: 21.75 / 6.05, 152: 21.43 / 5.71 (table 3); 18 layers 27.88 top-1 (table 2).
Differs from the paper: with version=v1.5, the default, the stride of a bottleneck is in its 3x3 convolution (v1 has it where the paper has it); He initialisation of the head too; the rest as printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import field_validator
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_images
from lamina.nn.residual import BasicBlock, Bottleneck, Shortcut, Version

_SOURCE = "He, Zhang, Ren, Sun (2015), arXiv:1512.03385"
# What tests build: every kind of block and shortcut, few channels.
_TINY: dict[str, Any] = {"image_size": (32, 32), "num_classes": 10, "width": 4, "depths": (1, 2, 1, 1)}


class ResNetConfig(Config):
    """What a ResNet is built for, and the choices that the paper compares."""

    in_channels: int = Field(3, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field((224, 224), description="Height and width of the images; any size will do.")
    num_classes: int = Field(1000, description="Classes.", ge=1)
    stem: Literal["imagenet", "cifar"] = Field(
        "imagenet",
        description="What comes first. imagenet: 7x7 with stride 2 and pooling, a quarter of the size is left; cifar: 3x3, all of it, for images of about 32x32.",
    )
    version: Version = Field(
        "v1.5",
        description="Where a bottleneck has its stride: v1 in the first 1x1 (the paper, Keras), v1.5 in the 3x3 (torchvision).",
    )
    shortcut: Shortcut = Field(
        "B",
        description="A: zeros for new channels, no parameters; B: a projection where shapes change; C: projections everywhere.",
    )
    zero_init_last: bool = Field(
        False,
        description="Begin with zero as weight of each block's last norm, so that a block begins as its shortcut.",
    )
    width: int = Field(64, description="Channels of the stem and of the first stage's 3x3 convolutions.", ge=1)
    depths: tuple[int, int, int, int] | None = Field(
        None, description="Blocks of the four stages; by default as the model's name says."
    )
    initialiser: str = Field("kaiming-normal", description="Name of the initialiser of the weights; biases are zero.")

    @field_validator("depths")
    @classmethod
    def _no_empty_stage(cls, depths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if depths is not None and min(depths) < 1:
            raise ValueError("each stage needs at least one block")
        return depths


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, the average over all positions, and one linear layer.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385, table 1.

    Args:
        block: `basic` or `bottleneck`.
        depths: Blocks of each stage; each stage but the first halves height and width and doubles the channels.
        zero_init_last: Goyal et al. (2017), arXiv:1706.02677, section 5.1.

    Raises:
        ShapeError: Height or width is not positive. Any other size works: strides round up.
    """

    def __init__(
        self,
        *,
        block: Literal["basic", "bottleneck"],
        depths: Sequence[int],
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        num_classes: int = 1000,
        stem: Literal["imagenet", "cifar"] = "imagenet",
        version: Version = "v1.5",
        shortcut: Shortcut = "B",
        zero_init_last: bool = False,
        width: int = 64,
        initialiser: str = "kaiming-normal",
    ) -> None:
        super().__init__()
        check_image_size(image_size, where="ResNet, argument `image_size`")
        self.in_channels = in_channels
        self.image_size = image_size
        small = stem == "cifar"
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        kind = BasicBlock if block == "basic" else Bottleneck
        channels = width
        for number, depth in enumerate(depths, start=1):
            blocks: list[nn.Module] = []
            for place in range(depth):
                stride = 2 if number > 1 and place == 0 else 1
                inner = width * 2 ** (number - 1)
                blocks.append(kind(channels, inner, stride=stride, shortcut=shortcut, version=version))
                channels = kind.expansion * inner
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self._stages = tuple(f"layer{number}" for number in range(1, len(depths) + 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(channels, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)
        if zero_init_last:
            zero_last_norms(self)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the images to `head`; together they hold every parameter once."""
        return {"stem": ("conv1.", "bn1."), **{name: (f"{name}.",) for name in self._stages}, "head": ("head.",)}

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """The last stage averaged over all positions (B, 512 or 2048). Shapes in the comments are of resnet50 at 224x224."""
        check_images(self, images, in_channels=self.in_channels, size=self.image_size)
        x = self.relu(self.bn1(self.conv1(images)))  # (B, 3, 224, 224) -> (B, 64, 112, 112)
        x = self.maxpool(x)  # (B, 64, 56, 56)
        for name in self._stages:  # (B, 256, 56, 56), (B, 512, 28, 28), (B, 1024, 14, 14), (B, 2048, 7, 7)
            x = self.get_submodule(name)(x)
        return self.flatten(self.avgpool(x))  # type: ignore[no-any-return]  # (B, 2048)


def zero_last_norms(model: nn.Module) -> None:
    """Set the weight of each block's last norm to zero, so that each block begins as its shortcut."""
    for module in model.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.zeros_(module.last_norm.weight)


def check_image_size(size: tuple[int, int], *, where: str) -> None:
    """Refuse a height or width that is not positive; with padding and rounding up every other one leaves a position."""
    if min(size) < 1:
        raise ShapeError(
            f"Images of {size[0]}x{size[1]} have no pixels.",
            where=where,
            accepts="height and width >= 1",
            mend="give the size of the images",
        )


def _build(block: Literal["basic", "bottleneck"], depths: Sequence[int], fields: dict[str, Any]) -> ResNet:
    values = {**dict(ResNetConfig()), **fields}
    return ResNet(block=block, **{**values, "depths": values["depths"] or depths})


@register(
    "model",
    "resnet18",
    config=ResNetConfig,
    source=_SOURCE,
    example="lamina inspect resnet18",
    input="image",
    tiny=_TINY,
)
def resnet18(**fields: Any) -> ResNet:
    """18 layers of basic blocks: 11,689,512 parameters with 1,000 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385.
    """
    return _build("basic", (2, 2, 2, 2), fields)


@register(
    "model",
    "resnet34",
    config=ResNetConfig,
    source=_SOURCE,
    example="lamina inspect resnet34",
    input="image",
    tiny=_TINY,
)
def resnet34(**fields: Any) -> ResNet:
    """34 layers of basic blocks: 21,797,672 parameters with 1,000 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385.
    """
    return _build("basic", (3, 4, 6, 3), fields)


@register(
    "model",
    "resnet50",
    config=ResNetConfig,
    source=_SOURCE,
    example="lamina inspect resnet50",
    input="image",
    tiny=_TINY,
)
def resnet50(**fields: Any) -> ResNet:
    """50 layers of bottleneck blocks: 25,557,032 parameters with 1,000 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385.
    """
    return _build("bottleneck", (3, 4, 6, 3), fields)


@register(
    "model",
    "resnet101",
    config=ResNetConfig,
    source=_SOURCE,
    example="lamina inspect resnet101",
    input="image",
    tiny=_TINY,
)
def resnet101(**fields: Any) -> ResNet:
    """101 layers of bottleneck blocks: 44,549,160 parameters with 1,000 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385.
    """
    return _build("bottleneck", (3, 4, 23, 3), fields)


@register(
    "model",
    "resnet152",
    config=ResNetConfig,
    source=_SOURCE,
    example="lamina inspect resnet152",
    input="image",
    tiny=_TINY,
)
def resnet152(**fields: Any) -> ResNet:
    """152 layers of bottleneck blocks: 60,192,808 parameters with 1,000 classes.

    Source: He, Zhang, Ren, Sun (2015), arXiv:1512.03385.
    """
    return _build("bottleneck", (3, 8, 36, 3), fields)
