"""Pictures are PNG data URIs with the right pixels."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lamina.core.errors import ShapeError
from lamina.explain.pictures import heat_picture, photo, signed_picture


def pixels(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_photo_keeps_its_pixels(channels: int) -> None:
    image = np.arange(channels * 6, dtype=np.uint8).reshape(channels, 2, 3) * 9
    found = pixels(photo(image))
    assert np.array_equal(found if channels > 1 else found[:, :, None], image.transpose(1, 2, 0))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"shaped \(2, 4, 4\)"):
        photo(np.zeros((2, 4, 4), dtype=np.uint8))


def test_signs_have_their_colours() -> None:
    found = pixels(signed_picture(np.array([[-1.0, 0.0, 1.0, np.nan]])))
    blue, white, red, black = found[0].astype(int)
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert white.min() > 240
    assert black.max() == 0


def test_one_scale_for_several_pictures() -> None:
    half = pixels(signed_picture(np.array([[1.0]]), largest=2.0))
    full = pixels(signed_picture(np.array([[1.0]])))
    assert half[0, 0, 1] > full[0, 0, 1]
    assert np.array_equal(pixels(signed_picture(np.array([[5.0]]), largest=1.0)), full)


def test_all_zero_is_white() -> None:
    assert pixels(signed_picture(np.zeros((2, 2)))).min() > 240
    assert pixels(heat_picture(np.zeros((2, 2)))).min() == 255


def test_heat_grows_darker() -> None:
    found = pixels(heat_picture(np.array([[0.0, 0.5, 1.0]])))[0].astype(int).sum(axis=1)
    assert found[0] > found[1] > found[2]
