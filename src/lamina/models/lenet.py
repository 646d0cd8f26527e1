"""LeNet-5.

Paper: LeCun, Bottou, Bengio, Haffner (1998), "Gradient-Based Learning Applied to Document Recognition", doi:10.1109/5.726791.
Reported: 0.95 % test error on MNIST without distortions (section III.B).
Differs from the paper: average pooling without trainable scale and squashing, full instead of partial C3 connections, tanh instead of 1.7159 tanh(2x/3), softmax instead of RBF outputs; 61,706 instead of about 60,000 parameters.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.errors import ShapeError
from lamina.core.registry import register
from lamina.nn.activations import create_activation
from lamina.nn.arithmetic import Padding, conv_output_size, smallest_input
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_images


class LeNetConfig(Config):
    """What LeNet-5 is built for."""

    in_channels: int = Field(1, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field((28, 28), description="Height and width of the images.")
    num_classes: int = Field(10, description="Classes.", ge=1)
    padding: int = Field(
        2,
        description="Zeros around the image: 2 makes the paper's 32x32 of MNIST's 28x28; 0 for images that have 32x32.",
        ge=0,
        le=4,
    )
    activation: str = Field("tanh", description="Activation after each layer but the last.")
    pool: Literal["average", "max"] = Field("average", description="How 2x2 neighbours are joined; the paper averages.")
    initialiser: str = Field("lecun-uniform", description="Name of the initialiser of the weights; biases are zero.")


@register(
    "model",
    "lenet5",
    config=LeNetConfig,
    source="LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791",
    example="lamina train mnist-lenet5",
    input="image",
)
class LeNet(nn.Module):
    """Two convolutions with pooling, then three dense layers: the first network that read cheques.

    Source: LeCun, Bottou, Bengio, Haffner (1998), doi:10.1109/5.726791.

    Raises:
        ShapeError: The image is too small; the smallest size is 12 with the default padding.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: tuple[int, int] = (28, 28),
        num_classes: int = 10,
        padding: int = 2,
        activation: str = "tanh",
        pool: Literal["average", "max"] = "average",
        initialiser: str = "lecun-uniform",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.image_size = image_size
        height, width = self._sizes(image_size, padding)
        pooling = nn.AvgPool2d if pool == "average" else nn.MaxPool2d
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=padding)
        self.act1 = create_activation(activation)
        self.pool1 = pooling(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.act2 = create_activation(activation)
        self.pool2 = pooling(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16 * height * width, 120)
        self.act3 = create_activation(activation)
        self.fc2 = nn.Linear(120, 84)
        self.act4 = create_activation(activation)
        self.head = nn.Linear(84, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Activations of F6 (B, 84). Shapes in the comments are those of 28x28 images."""
        check_images(self, images, in_channels=self.in_channels, size=self.image_size)
        x = self.pool1(self.act1(self.conv1(images)))  # (B, 1, 28, 28) -> (B, 6, 14, 14), C1 and S2
        x = self.pool2(self.act2(self.conv2(x)))  # (B, 16, 5, 5), C3 and S4
        x = self.flatten(x)  # (B, 400)
        x = self.act3(self.fc1(x))  # (B, 120), C5
        return self.act4(self.fc2(x))  # type: ignore[no-any-return]  # (B, 84), F6

    @staticmethod
    def _sizes(image_size: tuple[int, int], padding: int) -> tuple[int, int]:
        """Height and width after S4."""
        windows: tuple[tuple[int, int, Padding], ...] = ((5, 1, padding), (2, 2, 0), (5, 1, 0), (2, 2, 0))
        sizes = []
        for n in image_size:
            for kernel, stride, pad in windows:
                n = conv_output_size(n, kernel=kernel, stride=stride, padding=pad).size if n > 0 else 0
            sizes.append(n)
        if min(sizes) < 1:
            least = smallest_input(windows)
            raise ShapeError(
                f"LeNet-5 got image_size={tuple(image_size)}, of which nothing is left after the second pooling.",
                where="LeNet, argument `image_size`",
                accepts=f"height and width >= {least} with padding={padding}",
                mend="use larger images, or the model cnn with fewer blocks",
            )
        return sizes[0], sizes[1]
