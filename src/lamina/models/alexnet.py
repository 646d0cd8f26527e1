"""AlexNet.

Paper: Krizhevsky, Sutskever, Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 25; the single tower: Krizhevsky (2014), "One weird trick for parallelizing convolutional neural networks", arXiv:1404.5997.
Reported: ImageNet 2010 test set, top-1 / top-5 error in %: 37.5 / 17.0; ImageNet 2012 validation set: 40.7 / 18.2 (one network, 2012, table 1 and 2).
Differs from the paper: alexnet (single tower): adaptive average pooling to 6x6 before the dense layers, so that any size works; He initialisation. alexnet-2012: the two towers are two groups of channels on one device; images of 227x227, which the first layer needs (the paper says 224); Gaussian weights and biases of one as printed.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import field_validator
from torch import nn

from lamina.core.config import Config, Field
from lamina.core.registry import register
from lamina.nn.convolution import create_convolution
from lamina.nn.dropout import Dropout
from lamina.nn.initialisers import initialise
from lamina.nn.norms import create_norm
from lamina.nn.trunk import Trunk, TrunkModel
from lamina.nn.windows import size_after

# What tests build: all layers, few channels.
_TINY: dict[str, Any] = {
    "image_size": (63, 67),
    "num_classes": 10,
    "channels": (8, 12, 12, 8, 8),
    "hidden_size": 16,
}


class AlexNetConfig(Config):
    """What AlexNet is built for, and in what the single tower and the network of 2012 differ."""

    in_channels: int = Field(3, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field((224, 224), description="Height and width of the images, at least 63.")
    num_classes: int = Field(1000, description="Classes.", ge=1)
    channels: tuple[int, int, int, int, int] = Field(
        (64, 192, 384, 256, 256), description="Channels that each of the five convolutions makes."
    )
    groups: int = Field(
        1,
        description="Towers: parts into which the channels of the second, fourth and fifth convolution are divided.",
        ge=1,
    )
    padding: int = Field(2, description="Zeros around the image in the first convolution.", ge=0, le=5)
    norm: str = Field("none", description="Norm behind the first and the second convolution, or none.")
    hidden_size: int = Field(4096, description="Units of each of the two hidden dense layers.", ge=1)
    dropout: float = Field(0.5, description="Probability of dropping an input of a hidden dense layer.", ge=0, lt=1)
    ones: bool = Field(
        False,
        description="Begin with biases of 1 in convolutions 2, 4, 5 and the hidden dense layers, so that units are active.",
    )
    initialiser: str = Field("kaiming-normal", description="Name of the initialiser of the weights; biases are zero.")

    @field_validator("channels")
    @classmethod
    def _positive(cls, channels: tuple[int, ...]) -> tuple[int, ...]:
        if min(channels) < 1:
            raise ValueError("each must be at least 1")
        return channels


class AlexNet2012Config(AlexNetConfig):
    """The network of 2012; every value can be changed, as of an alexnet."""

    image_size: tuple[int, int] = Field((227, 227), description="Height and width of the images, at least 67.")
    channels: tuple[int, int, int, int, int] = Field(
        (96, 256, 384, 384, 256), description="Channels that each of the five convolutions makes."
    )
    groups: int = Field(
        2,
        description="Towers: parts into which the channels of the second, fourth and fifth convolution are divided.",
        ge=1,
    )
    padding: int = Field(0, description="Zeros around the image in the first convolution.", ge=0, le=5)
    norm: str = Field("local-response-norm", description="Norm behind the first and the second convolution, or none.")
    ones: bool = Field(
        True,
        description="Begin with biases of 1 in convolutions 2, 4, 5 and the hidden dense layers, so that units are active.",
    )
    initialiser: str = Field(
        "normal", description="Name of the initialiser of the weights (normal: deviation 0.01, as printed)."
    )


@register(
    "model",
    "alexnet",
    config=AlexNetConfig,
    source="Krizhevsky, Sutskever, Hinton (2012), NIPS 25; single tower: Krizhevsky (2014), arXiv:1404.5997",
    example="lamina inspect alexnet",
    input="image",
    tiny=_TINY,
)
class AlexNet(TrunkModel):
    """Five convolutions and three dense layers: 61,100,840 parameters with 1,000 classes.

    Names of parameters are torchvision's, but for the last layer: `features.0`, …, `classifier.4`, `head`.

    Source: Krizhevsky, Sutskever, Hinton (2012), NIPS 25; Krizhevsky (2014), arXiv:1404.5997.

    Raises:
        ShapeError: The image is too small; says after which layer nothing is left, and which size is enough.
        ConfigError: The channels cannot be divided into the groups.
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        image_size: tuple[int, int] = (224, 224),
        num_classes: int = 1000,
        channels: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256),
        groups: int = 1,
        padding: int = 2,
        norm: str = "none",
        hidden_size: int = 4096,
        dropout: float = 0.5,
        ones: bool = False,
        initialiser: str = "kaiming-normal",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.image_size = image_size
        self.ones = ones
        # Kernel, stride, padding, groups, and whether norm and pooling follow. Sizes are those of alexnet at 224x224.
        plan = (
            (11, 4, padding, 1, True, True),  # (B, 64, 55, 55), pooled (B, 64, 27, 27)
            (5, 1, 2, groups, True, True),  # (B, 192, 27, 27), pooled (B, 192, 13, 13)
            (3, 1, 1, 1, False, False),  # (B, 384, 13, 13); the one layer that sees both towers
            (3, 1, 1, groups, False, False),  # (B, 256, 13, 13)
            (3, 1, 1, groups, False, True),  # (B, 256, 13, 13), pooled (B, 256, 6, 6)
        )
        layers: list[nn.Module] = []
        self._convolutions: list[int] = []
        made = in_channels
        for out_channels, (kernel, stride, pad, parts, normed, pooled) in zip(channels, plan, strict=True):
            self._convolutions.append(len(layers))
            layers.append(
                create_convolution(made, out_channels, kernel_size=kernel, stride=stride, padding=pad, groups=parts)
            )
            layers.append(nn.ReLU(inplace=True))
            if normed and norm != "none":
                layers.append(create_norm(norm, out_channels, dims=2))
            if pooled:
                layers.append(nn.MaxPool2d(3, stride=2))  # overlapping: the windows are larger than their step
            made = out_channels
        self.features = Trunk(*layers)
        size_after(
            ((f"features.{name}", layer) for name, layer in self.features.named_children()), image_size, model="AlexNet"
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            Dropout(dropout),
            nn.Linear(made * 36, hidden_size),
            nn.ReLU(inplace=True),
            Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(hidden_size, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)
        self.after_initialise()

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Stage name -> prefixes of its modules, from the images to `head`; together they hold every parameter once."""
        ends = [*self._convolutions[1:], len(self.features)]
        convolutions = {
            f"conv{number}": self.prefixes(first, end)
            for number, (first, end) in enumerate(zip(self._convolutions, ends, strict=True), start=1)
        }
        return {**convolutions, "dense1": ("classifier.1.",), "dense2": ("classifier.4.",), "head": ("head.",)}

    def after_initialise(self) -> None:
        """Set the biases that the paper begins with; called after weights were drawn."""
        if not self.ones:
            return
        places = [f"features.{self._convolutions[number]}" for number in (1, 3, 4)]
        for name in (*places, "classifier.1", "classifier.4"):
            nn.init.ones_(self.get_submodule(name).bias)  # type: ignore[arg-type]


@register(
    "model",
    "alexnet-2012",
    config=AlexNet2012Config,
    source="Krizhevsky, Sutskever, Hinton (2012), NIPS 25",
    example="lamina inspect alexnet-2012",
    input="image",
    tiny={**_TINY, "image_size": (67, 71)},
)
def alexnet_2012(**fields: Any) -> AlexNet:
    """The network of 2012: two towers, local response normalisation, overlapping pooling; 60,965,224 parameters.

    Source: Krizhevsky, Sutskever, Hinton (2012), NIPS 25.
    """
    return AlexNet(**{**dict(AlexNet2012Config()), **fields})
