"""What models say when something else arrives than they read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lamina.core.errors import DtypeError, ShapeError
from lamina.nn.inputs import check_images, flatten_features


class Net(nn.Module):
    pass


@pytest.mark.parametrize(
    ("shape", "mend"),
    [
        ((128, 28, 28, 3), "images.permute(0, 3, 1, 2) puts channels first"),
        ((128, 28, 28, 1), "images.permute(0, 3, 1, 2) puts channels first; build with in_channels=1"),
        ((8, 1, 28, 28), "build with in_channels=1"),
        ((8, 3, 32, 28), "build with image_size=(32, 28)"),
        ((3, 28, 28), "images.unsqueeze(0) makes a batch of one image"),
        ((8, 3 * 28 * 28), "images.view(-1, 3, 28, 28) makes images of rows of pixels"),
        ((8,), "bring the images into this shape, or build the model for theirs with in_channels and image_size"),
    ],
)
def test_images_of_another_shape(shape: tuple[int, ...], mend: str) -> None:
    with pytest.raises(ShapeError) as caught:
        check_images(Net(), torch.zeros(shape), in_channels=3, size=(28, 28))
    assert caught.value.what == f"Net got images shaped {shape}."
    assert caught.value.where == "Net.forward, argument `images`"
    assert caught.value.accepts == "float tensor (batch, 3, 28, 28)"
    assert caught.value.mend == mend


def test_grey_images_without_a_channel() -> None:
    with pytest.raises(ShapeError, match="adds the channel"):
        check_images(Net(), torch.zeros(5, 28, 28), in_channels=1, size=(28, 28))


def test_pixels_that_are_whole_numbers() -> None:
    with pytest.raises(DtypeError, match="uint8") as caught:
        check_images(Net(), torch.zeros(2, 3, 28, 28, dtype=torch.uint8), in_channels=3, size=(28, 28))
    assert "/ 255" in caught.value.mend
    with pytest.raises(DtypeError, match="int64"):
        flatten_features(Net(), torch.zeros(2, 4, dtype=torch.int64), in_features=4)


def test_what_fits_passes_and_is_flattened() -> None:
    check_images(Net(), torch.zeros(2, 3, 28, 28), in_channels=3, size=(28, 28))
    images = torch.arange(16.0).view(2, 2, 2, 2).contiguous(memory_format=torch.channels_last)
    assert flatten_features(Net(), images, in_features=8).tolist() == torch.arange(16.0).view(2, 8).tolist()


@pytest.mark.parametrize(
    ("shape", "mend"),
    [
        ((784,), "inputs.reshape(1, -1) makes a batch of one row"),
        ((5, 783), "build with in_features=783, or give rows of 784 values"),
        ((5, 3, 28, 28), "build with in_features=2352, or give rows of 784 values"),
        ((5,), "give a batch of rows of 784 values"),
    ],
)
def test_features_of_another_width(shape: tuple[int, ...], mend: str) -> None:
    with pytest.raises(ShapeError) as caught:
        flatten_features(Net(), torch.zeros(shape), in_features=784)
    assert caught.value.mend == mend
    assert str(shape) in caught.value.what
