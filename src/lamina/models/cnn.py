"""Convolutional network of configurable blocks, and the network of the sign-language course.

Paper: Fukushima (1980), "Neocognitron", doi:10.1007/BF00344251; LeCun et al. (1989), "Backpropagation Applied to Handwritten Zip Code
Recognition", doi:10.1162/neco.1989.1.4.541. `sign-cnn`: the Keras notebook that courses on the Sign Language MNIST table use.
Reported: sign-cnn: 264,049 values, of which 300 are running statistics, for 24 classes.
Differs from the paper: blocks of convolution, norm, activation, pooling and dropout in any order after the convolution, as used since 2015.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeVar

import torch
from pydantic import field_validator
from torch import Tensor, nn

from lamina.core.config import Config, Field
from lamina.core.registry import lookup, register
from lamina.nn.activations import create_activation
from lamina.nn.convolution import create_convolution
from lamina.nn.dropout import Dropout, SpatialDropout
from lamina.nn.initialisers import initialise
from lamina.nn.inputs import check_images
from lamina.nn.norms import create_norm
from lamina.nn.pooling import create_pooling
from lamina.nn.windows import size_after

Part = Literal["norm", "activation", "pool", "dropout"]
Sizes = tuple[int, int]
_WORDS: Final = {"conv": "convolution", "pool": "pooling"}
ConfigType = TypeVar("ConfigType", bound=Config)


class BlockConfig(Config):
    """One block: a convolution, then the parts named in `order`."""

    channels: int = Field(32, description="Channels that the convolution makes.", ge=1)
    kernel_size: int = Field(3, description="Height and width of the kernel.", ge=1)
    stride: int = Field(1, description="Step of the kernel.", ge=1)
    padding: int | Literal["same", "valid"] = Field(
        "same", description="Zeros around the image; same: as many outputs as inputs (over the stride)."
    )
    norm: str = Field("batch-norm", description="Name of the norm layer, or none.")
    activation: str = Field("relu", description="Name of the activation.")
    pool: Literal["max", "average", "none"] = Field("max", description="How neighbours are joined.")
    pool_size: int = Field(2, description="Height, width and step of the pooling.", ge=1)
    pool_padding: Literal["same", "valid"] = Field(
        "valid",
        description="valid drops what a window does not fill; same pads the end (7 -> 4 by 2), ignored by the pooling.",
    )
    dropout: float = Field(0.0, description="Probability of dropping in training.", ge=0, lt=1)
    dropout_kind: Literal["plain", "spatial"] = Field("plain", description="Drop single values or whole channels.")
    order: tuple[Part, ...] = Field(
        ("norm", "activation", "pool", "dropout"), description="What follows the convolution, each at most once."
    )

    @field_validator("order")
    @classmethod
    def _each_once(cls, order: tuple[Part, ...]) -> tuple[Part, ...]:
        if len(set(order)) < len(order):
            raise ValueError("a part stands in it twice")
        return order


class DenseConfig(Config):
    """One dense layer after the blocks."""

    size: int = Field(128, description="Units.", ge=1)
    norm: str = Field("none", description="Name of the norm between layer and activation, or none.")
    activation: str = Field("relu", description="Name of the activation.")
    dropout: float = Field(0.0, description="Probability of dropping a unit in training.", ge=0, lt=1)


class CNNConfig(Config):
    """Blocks, dense layers, and what they are built for."""

    in_channels: int = Field(1, description="Channels of the images.", ge=1)
    image_size: tuple[int, int] = Field((28, 28), description="Height and width of the images.")
    num_classes: int = Field(10, description="Classes.", ge=1)
    blocks: tuple[BlockConfig, ...] = Field(
        (BlockConfig(channels=32), BlockConfig(channels=64)), description="Convolutional blocks, from the image on."
    )
    dense: tuple[DenseConfig, ...] = Field(
        (DenseConfig(size=128),), description="Dense layers between the blocks and the head."
    )
    initialiser: str = Field("kaiming-uniform", description="Name of the initialiser of the weights; biases are zero.")


# Keras's Conv2D(activation="relu") followed by BatchNormalization and MaxPool2D(padding="same").
_COURSE = {"activation": "relu", "norm": "batch-norm", "pool": "max", "pool_padding": "same"}
_COURSE_BLOCKS = (
    BlockConfig(channels=75, order=("activation", "norm", "pool"), **_COURSE),
    BlockConfig(channels=50, dropout=0.2, order=("activation", "dropout", "norm", "pool"), **_COURSE),
    BlockConfig(channels=25, order=("activation", "norm", "pool"), **_COURSE),
)


class SignCNNConfig(CNNConfig):
    """The sign-language course's network; every value can be changed, as of a cnn."""

    num_classes: int = Field(24, description="Classes: the letters without J and Z, which are movements.", ge=1)
    blocks: tuple[BlockConfig, ...] = Field(_COURSE_BLOCKS, description="Convolutional blocks, from the image on.")
    dense: tuple[DenseConfig, ...] = Field(
        (DenseConfig(size=512, dropout=0.3),), description="Dense layers between the blocks and the head."
    )


@register(
    "model",
    "cnn",
    config=CNNConfig,
    source="LeCun et al. (1989), doi:10.1162/neco.1989.1.4.541",
    example="lamina train --data PATH model.kind=cnn 'model.blocks=[{channels: 16}, {channels: 32, dropout: 0.1}]'",
    input="image",
)
class CNN(nn.Module):
    """Convolutional blocks, then dense layers, then the head.

    Source: LeCun et al. (1989), doi:10.1162/neco.1989.1.4.541.

    Args:
        blocks: BlockConfigs, or mappings with their fields.
        dense: DenseConfigs, or mappings with their fields.

    Raises:
        ShapeError: The image is too small for the blocks; says where it vanishes and which size is enough.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: Sizes = (28, 28),
        num_classes: int = 10,
        blocks: Sequence[BlockConfig | Mapping[str, Any]] = (BlockConfig(channels=32), BlockConfig(channels=64)),
        dense: Sequence[DenseConfig | Mapping[str, Any]] = (DenseConfig(size=128),),
        initialiser: str = "kaiming-uniform",
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.image_size = image_size
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        stated = [_as_config(BlockConfig, given, where=f"blocks.{place}") for place, given in enumerate(blocks)]
        for number, block in enumerate(stated, start=1):
            _add_block(layers, block, number=number, channels=channels)
            channels = block.channels
        size = size_after(
            [(_in_words(name), layer) for name, layer in layers.items()],
            image_size,
            model="CNN",
            mend="use larger images, fewer blocks, or padding: same and pool_padding: same",
        )
        layers["flatten"] = nn.Flatten()
        width = channels * size[0] * size[1]
        for number, given in enumerate(dense, start=1):
            layer = _as_config(DenseConfig, given, where=f"dense.{number - 1}")
            _add_dense(layers, layer, number=number, width=width)
            width = layer.size
        self.body = nn.Sequential(layers)
        self.head = nn.Linear(width, num_classes)
        initialise(self, initialiser, generator=torch.default_generator)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, num_classes), logits."""
        return self.head(self.features(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Activations before the head (B, width of the last dense layer)."""
        check_images(self, images, in_channels=self.in_channels, size=self.image_size)
        return self.body(images)  # type: ignore[no-any-return]


@register(
    "model",
    "sign-cnn",
    config=SignCNNConfig,
    source="the sign-language course's Keras notebook on the Sign Language MNIST table (kaggle.com/datamunge/sign-language-mnist)",
    fidelity="layers, sizes and order as in the notebook, ReLU before batch norm as Keras's Conv2D(activation='relu') puts it; "
    "He initialisation instead of Glorot; batch norm as in torch (eps 1e-5, share of the newest batch 0.1) instead of Keras's (1e-3, 0.01).",
    example="lamina train sign-cnn",
    input="image",
)
def sign_cnn(**fields: Any) -> CNN:
    """The sign-language course's network: three convolutions of 75, 50 and 25 channels, a dense layer of 512, 24 classes.

    ReLU stands directly behind each convolution, as Keras's Conv2D(activation="relu") puts it, and batch norm behind that;
    in the second block dropout stands between them. Convolutions and pooling are padded "same": 28 -> 14 -> 7 -> 4.

    Source: the sign-language course's Keras notebook on the Sign Language MNIST table.
    """
    return CNN(**{**dict(SignCNNConfig()), **fields})


def _as_config(cls: type[ConfigType], given: ConfigType | Mapping[str, Any], *, where: str) -> ConfigType:
    return cls.from_values(given, where=where) if isinstance(given, Mapping) else given


def _add_block(layers: OrderedDict[str, nn.Module], block: BlockConfig, *, number: int, channels: int) -> None:
    """Append the layers of a block."""
    layers[f"conv{number}"] = create_convolution(
        channels, block.channels, kernel_size=block.kernel_size, stride=block.stride, padding=block.padding
    )
    for part in block.order:
        if part == "norm" and block.norm != "none":
            layers[f"norm{number}"] = create_norm(block.norm, block.channels, dims=2)
        elif part == "activation":
            layers[f"activation{number}"] = _activation(block.activation)
        elif part == "pool" and block.pool != "none":
            layers[f"pool{number}"] = create_pooling(
                f"{block.pool}-pool", kernel_size=block.pool_size, padding=block.pool_padding
            )
        elif part == "dropout" and block.dropout > 0:
            dropout = SpatialDropout if block.dropout_kind == "spatial" else Dropout
            layers[f"dropout{number}"] = dropout(block.dropout)


def _add_dense(layers: OrderedDict[str, nn.Module], dense: DenseConfig, *, number: int, width: int) -> None:
    layers[f"dense{number}"] = nn.Linear(width, dense.size)
    if dense.norm != "none":
        layers[f"dense_norm{number}"] = create_norm(dense.norm, dense.size, dims=0)
    layers[f"dense_activation{number}"] = _activation(dense.activation)
    if dense.dropout > 0:
        layers[f"dense_dropout{number}"] = Dropout(dense.dropout)


def _activation(name: str) -> nn.Module:
    """An activation that overwrites its input where it can, which saves memory traffic.

    None of the layers that can stand before it reads its own output again in the backward pass. A hook that keeps the
    output of such a layer must clone it.
    """
    config = lookup("activation", name, where="name of an activation").config
    if config is not None and "inplace" in config.model_fields:
        return create_activation(name, inplace=True)
    return create_activation(name)


def _in_words(name: str) -> str:
    """conv2 -> convolution 2, as messages call it."""
    kind = name.rstrip("0123456789")
    return f"{_WORDS.get(kind, kind)} {name.removeprefix(kind)}"
