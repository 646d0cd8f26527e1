"""One image file -> pixels: decoding that refuses bombs and damage, and the one way in which sizes are fitted.

Fitting (`resize="crop"` in a ColumnSpec): the image is scaled, keeping its proportions, until it just covers the wanted
shape, and the middle is cut out. An image of the wanted size is not touched. Training and prediction share this code.
"""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.decoded_ahead import RowLoader
from lamina.data.readers.sources import SourceFile

FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
ENDINGS: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".jpe", ".jfif")
# Pillow's own bound on what is surely no bomb; it warns above and refuses twice that, we refuse here.
MAX_PIXELS: Final = 89_478_485
_MAX_FILE_BYTES: Final = 512 << 20
_GREY_MODES: Final = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N")
_DEEP_MODES: Final = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION: Final = 0x0112


class ImageInfo(NamedTuple):
    """What the header says, after the orientation that a camera noted: width, height, grey, and whether it has transparency."""

    width: int
    height: int
    grey: bool
    transparent: bool


def looks_like_image(head: bytes) -> bool:
    """Whether a file's first 12 bytes are those of a format that is read."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and len(head) == 12 and head[6:10] == b"\0\0\0\0")
    )


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Pillow's warnings about odd files are no news to us; only that of a bomb counts. Around a whole pass, as it is global."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def image_info(file: SourceFile) -> ImageInfo:
    """Size and kind from the header alone.

    Raises:
        DataError: Empty, no image, damaged, or more than MAX_PIXELS.
    """
    with _opened(file) as image:
        width, height = image.size
        if _is_turned(image):
            width, height = height, width
        return ImageInfo(width, height, image.mode in _GREY_MODES, _is_transparent(image))


def decode_image(file: SourceFile, *, channels: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The pixels of a file, (C, H, W) uint8.

    Args:
        channels: 1 grey, 3 RGB (transparency laid on white), 4 RGBA.
        size: (height, width) to fit; None: as it is.

    Raises:
        DataError: As `image_info`, or the data ends early.
    """
    with _opened(file) as image:
        if size is not None and image.format == "JPEG":
            _scale_while_decoding(image, size)
        upright = ImageOps.exif_transpose(image) if _orientation(image) != 1 else image
        return fit_image(upright, channels=channels, size=size)


def fit_image(image: Image.Image, *, channels: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The pixels of a picture, (C, H, W) uint8, fitted to `size` (height, width) as `decode_image` does."""
    plain = _in_channels(image, channels)
    if size is not None and (plain.height, plain.width) != size:
        plain = plain.resize(
            (size[1], size[0]), Image.Resampling.BILINEAR, box=crop_box(plain.size, size), reducing_gap=3.0
        )
    array = np.asarray(plain, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def crop_box(given: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The middle part (left, top, right, bottom) of an image (width, height) that has the proportions of (height, width).

    >>> crop_box((200, 100), (50, 50))
    (50.0, 0.0, 150.0, 100.0)
    """
    width, height = given
    scale = min(width / size[1], height / size[0])
    cut_width, cut_height = size[1] * scale, size[0] * scale
    left, top = (width - cut_width) / 2, (height - cut_height) / 2
    return left, top, min(left + cut_width, float(width)), min(top + cut_height, float(height))


def _in_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in _DEEP_MODES:
        # Sixteen bits a pixel: 65535 becomes 255.
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    if channels == 4:
        return image.convert("RGBA")
    if _is_transparent(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if channels == 1 else "RGB")


def _scale_while_decoding(image: Image.Image, size: tuple[int, int]) -> None:
    """JPEG can be decoded at a half, quarter or eighth: as long as twice the wanted size remains, nothing is lost."""
    height, width = (size[1], size[0]) if _is_turned(image) else size
    scale = max(width / image.width, height / image.height)
    if scale < 0.25:
        image.draft(None, (math.ceil(image.width * scale * 2), math.ceil(image.height * scale * 2)))


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _is_turned(image: Image.Image) -> bool:
    return _orientation(image) in (5, 6, 7, 8)


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


@contextlib.contextmanager
def _opened(file: SourceFile) -> Iterator[Image.Image]:
    """The opened image; whatever a decoder raises on a hostile file becomes a DataError that names the file."""
    if file.size == 0:
        raise _fault("The file is empty.", file.where)
    data = file.read(min(_MAX_FILE_BYTES, file.max_bytes))
    if not looks_like_image(data[:12]):
        raise _fault(f"The file is no image; it begins with {data[:4].hex(' ')}.", file.where)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
            yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _fault(
            f"The image has more than {MAX_PIXELS} pixels, as decompression bombs do: {error}.", file.where
        ) from error
    except Exception as error:
        text = str(error).split("\n", 1)[0].rstrip(".") or type(error).__name__
        raise _fault(f"The image is damaged: {text}.", file.where) from error


def _fault(what: str, where: str) -> DataError:
    return DataError(
        what,
        where=where,
        accepts=f"a complete image: {', '.join(FORMATS)}",
        mend="replace or remove the file, or leave such files out with data.on_fault=skip",
    )


class ImageRows(RowLoader):
    """Image files as rows, decoded when asked for.

    Args:
        files: One per row.
        channels, size: As in `decode_image`.
    """

    def __init__(self, files: Sequence[SourceFile], *, channels: int, size: tuple[int, int]) -> None:
        self.files = list(files)
        self.channels, self.size = channels, size
        self.shape = (len(self.files), channels, *size)
        self.dtype = torch.uint8

    def load(self, rows: Sequence[int]) -> Tensor:
        """The decoded rows (B, C, H, W)."""
        arrays = [decode_image(self.files[row], channels=self.channels, size=self.size) for row in rows]
        return torch.from_numpy(np.stack(arrays))
