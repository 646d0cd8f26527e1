"""VGG: 11, 13, 16 and 19 layers of 3x3 convolutions, with and without batch norm.

Paper: Simonyan, Zisserman (2015), "Very Deep Convolutional Networks for Large-Scale Image Recognition", arXiv:1409.1556.
Reported: ImageNet validation at one scale, top-1 / top-5 error in %: 11 layers (A) 29.6 / 10.4, 13 (B) 28.7 / 9.9, 16 (D) 27.0 / 8.8, 19 (E) 27.3 / 9.0; with scale jittering 16: 25.6 / 8.1, 19: 25.5 / 8.0 (table 3).
Differs from the paper: adaptive average pooling to 7x7 before the dense layers (nothing at 224x224), so that any size from 32 works; He initialisation instead of pre-training a shallower network; the -bn variants have batch norm (Ioffe, Szegedy 2015) behind each convolution, which the paper has not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import field_validator
from torch import nn

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.nn.dropout import Dropout
from lamina.nn.initialisers import initialise
from lamina.nn.trunk import Trunk, TrunkModel
from lamina.nn.windows import size_after

_SOURCE = "Simonyan, Zisserman (2015), arXiv:1409.1556"
_SOURCE_BN = f"{_SOURCE}; batch norm: Ioffe, Szegedy (2015), arXiv:1502.03167"
# What tests build: all layers, few channels.
_TINY: dict[str, Any] = {
    "image_size": (32, 32),
    "num_classes": 10,
    "channels": (4, 4, 6, 8, 8),
    "pool_size": 2,
    "hidden_sizes": (12, 12),
}


class VGGConfig(Config):
    """What a VGG network is built for."""

    in_channels: int = Field(3, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field((224, 224), description="Height and width of the images, at least 32.")
    num_classes: int = Field(1000, description="Classes.", ge=1)
    channels: tuple[int, int, int, int, int] = Field(
        (64, 128, 256, 512, 512), description="Channels of the convolutions in each of the five blocks."
    )
    pool_size: int = Field(
        7,
        description="Height and width to which the last maps are averaged. 1, with no hidden_sizes, is the small head for images of 32x32.",
        ge=1,
    )
    hidden_sizes: tuple[int, ...] = Field(
        (4096, 4096), description="Units of the hidden dense layers; none: the head reads the averaged maps."
    )
    dropout: float = Field(0.5, description="Probability of dropping a unit of a hidden dense layer.", ge=0, lt=1)
    initialiser: str = Field("kaiming-normal", description="Name of the initialiser of the weights; biases are zero.")

    @field_validator("channels", "hidden_sizes")
    @classmethod
    def _positive(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if min(sizes, default=1) < 1:
            raise ValueError("each must be at least 1")
        return sizes


class VGG(TrunkModel):
    """Five blocks of 3x3 convolutions, each followed by 2x2 max pooling, then dense layers.

    Names of parameters are torchvision's, but for the last layer: `features.0`, …, `classifier.3`, `head`.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556, table 1.

    Args:
        depths: Convolutions of each block.
        batch_norm: Batch norm between convolution and activation.

    Raises:
        ShapeError: The image is smaller than 32x32.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int],
        batch_norm: bool = False,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        num_classes: int = 1000,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        pool_size: int = 7,
        hidden_sizes: Sequence[int] = (4096, 4096),
        dropout: float = 0.5,
        initialiser: str = "kaiming-normal",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.image_size = image_size
        layers: list[nn.Module] = []
        self._ends: list[int] = []
        made = in_channels
        for out_channels, depth in zip(channels, depths, strict=True):
            for _ in range(depth):
                layers.append(nn.Conv2d(made, out_channels, 3, padding=1))  # (B, out_channels, H, W)
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out_channels))
                layers.append(nn.ReLU(inplace=True))
                made = out_channels
            layers.append(nn.MaxPool2d(2))  # (B, out_channels, H / 2, W / 2)
            self._ends.append(len(layers))
        self.features = Trunk(*layers)  # (B, 3, 224, 224) -> (B, 512, 7, 7)
        size_after(
            ((f"features.{name}", layer) for name, layer in self.features.named_children()), image_size, model="VGG"
        )
        self.avgpool = nn.AdaptiveAvgPool2d(pool_size)
        self.flatten = nn.Flatten()  # (B, 25088)
        width = made * pool_size**2
        dense: list[nn.Module] = []
        for size in hidden_sizes:
            dense += [nn.Linear(width, size), nn.ReLU(inplace=True), Dropout(dropout)]
            width = size
        self.classifier = nn.Sequential(*dense)
        self.head = nn.Linear(width, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the images to `head`; together they hold every parameter once."""
        found: dict[str, tuple[str, ...]] = {}
        for number, (first, end) in enumerate(zip([0, *self._ends], self._ends, strict=False), start=1):
            found[f"block{number}"] = self.prefixes(first, end)
        for number, place in enumerate(range(0, len(list(self.classifier.children())), 3), start=1):
            found[f"dense{number}"] = (f"classifier.{place}.",)
        return {**found, "head": ("head.",)}


_A, _B, _D, _E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


def _build(depths: Sequence[int], fields: dict[str, Any], *, batch_norm: bool = False) -> VGG:
    return VGG(depths=depths, batch_norm=batch_norm, **{**dict(VGGConfig()), **fields})


@register(
    "model",
    "vgg11",
    config=VGGConfig,
    source=_SOURCE,
    example="lamina inspect vgg11",
    input="image",
    tiny=_TINY,
)
def vgg11(**fields: Any) -> VGG:
    """11 layers (configuration A of table 1): 132,863,336 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_A, fields)


@register(
    "model",
    "vgg13",
    config=VGGConfig,
    source=_SOURCE,
    example="lamina inspect vgg13",
    input="image",
    tiny=_TINY,
)
def vgg13(**fields: Any) -> VGG:
    """13 layers (configuration B of table 1): 133,047,848 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_B, fields)


@register(
    "model",
    "vgg16",
    config=VGGConfig,
    source=_SOURCE,
    example="lamina inspect vgg16",
    input="image",
    tiny=_TINY,
)
def vgg16(**fields: Any) -> VGG:
    """16 layers (configuration D of table 1): 138,357,544 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_D, fields)


@register(
    "model",
    "vgg19",
    config=VGGConfig,
    source=_SOURCE,
    example="lamina inspect vgg19",
    input="image",
    tiny=_TINY,
)
def vgg19(**fields: Any) -> VGG:
    """19 layers (configuration E of table 1): 143,667,240 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_E, fields)


@register(
    "model",
    "vgg11-bn",
    config=VGGConfig,
    source=_SOURCE_BN,
    example="lamina inspect vgg11-bn",
    input="image",
    tiny=_TINY,
)
def vgg11_bn(**fields: Any) -> VGG:
    """11 layers (configuration A of table 1) with batch norm: 132,868,840 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_A, fields, batch_norm=True)


@register(
    "model",
    "vgg13-bn",
    config=VGGConfig,
    source=_SOURCE_BN,
    example="lamina inspect vgg13-bn",
    input="image",
    tiny=_TINY,
)
def vgg13_bn(**fields: Any) -> VGG:
    """13 layers (configuration B of table 1) with batch norm: 133,053,736 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_B, fields, batch_norm=True)


@register(
    "model",
    "vgg16-bn",
    config=VGGConfig,
    source=_SOURCE_BN,
    example="lamina inspect vgg16-bn",
    input="image",
    tiny=_TINY,
)
def vgg16_bn(**fields: Any) -> VGG:
    """16 layers (configuration D of table 1) with batch norm: 138,365,992 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_D, fields, batch_norm=True)


@register(
    "model",
    "vgg19-bn",
    config=VGGConfig,
    source=_SOURCE_BN,
    example="lamina inspect vgg19-bn",
    input="image",
    tiny=_TINY,
)
def vgg19_bn(**fields: Any) -> VGG:
    """19 layers (configuration E of table 1) with batch norm: 143,678,248 parameters with 1,000 classes.

    Source: Simonyan, Zisserman (2015), arXiv:1409.1556.
    """
    return _build(_E, fields, batch_norm=True)
