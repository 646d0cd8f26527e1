"""One image file -> pixels: decoding that refuses bombs and damage, and the one way in which sizes are fitted.

How a picture of another size is fitted stands in `fitting.py`. Training and prediction share this code. What is decided
for every kind of file:

    orientation     what a camera noted (EXIF) is obeyed: the picture is upright
    transparency    laid on white, unless four channels are wanted
    16 bits         the upper eight count; 65535 becomes 255
    CMYK, palettes  become RGB, colour profiles are not looked at
    animations      the first picture counts
    wrong names     the content decides: a PNG called .jpg is a PNG
    too large       refused by the header, before a pixel is decoded
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lamina.core.errors import DataError
from lamina.data.decoded_ahead import RowLoader
from lamina.data.readers.fitting import Fitting
from lamina.data.readers.sources import SourceFile

FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
ENDINGS: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".jpe", ".jfif")
_FORMAT_OF: Final = {ending: ending[1:].upper() for ending in ENDINGS} | dict.fromkeys(
    (".jpg", ".jpe", ".jfif"), "JPEG"
)
# Photographs that people have and that are not read; leaving them out in silence would lose rows.
OTHER_ENDINGS: Final = {
    ".tif": "TIFF", ".tiff": "TIFF", ".heic": "HEIC", ".heif": "HEIF", ".avif": "AVIF", ".jp2": "JPEG 2000",
    ".jxl": "JPEG XL", ".svg": "SVG", ".psd": "Photoshop", ".tga": "TGA", ".ico": "icon", ".ppm": "PPM", ".pgm": "PGM",
    ".dng": "raw", ".raw": "raw", ".cr2": "raw", ".cr3": "raw", ".nef": "raw", ".arw": "raw", ".orf": "raw",
}  # fmt: skip
# Pillow's own bound on what is surely no bomb; it warns above and refuses twice that, we refuse here.
MAX_PIXELS: Final = 89_478_485
_MAX_FILE_BYTES: Final = 512 << 20
_GREY_MODES: Final = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N")
_DEEP_MODES: Final = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# JPEG decodes at a half, quarter or eighth for little money. As long as this many times the wanted size remains, pixels change
# by 0.6 of 255 steps on average, where saving the photograph once more at quality 90 changes them by 0.4 to 0.7; at 1.0
# it would be 2 and more (benchmarks/decoding.py --draft).
_DRAFT_MARGIN: Final = 2.0
# From here on, taking the colours apart is faster in Pillow than in NumPy.
_SPLIT_PIXELS: Final = 96 * 96


class ImageInfo(NamedTuple):
    """What the header says, after the orientation that a camera noted: size, whether it is grey and has transparency, and oddities.

    Attributes:
        format: `JPEG`, `PNG`, …
        turned: A camera noted another orientation than upright.
        animated: There are further pictures.
        deep: Sixteen bits per channel.
        cmyk: Colours of printing.
    """

    width: int
    height: int
    grey: bool
    transparent: bool
    format: str = ""
    turned: bool = False
    animated: bool = False
    deep: bool = False
    cmyk: bool = False

    def misnamed(self, ending: str) -> bool:
        """Whether the file's ending is that of another format of images."""
        return bool(self.format) and _FORMAT_OF.get(ending, self.format) != self.format


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
    with _opened(file, header_only=True) as image:
        width, height = image.size
        orientation = _orientation(image)
        if orientation >= 5:
            width, height = height, width
        return ImageInfo(
            width,
            height,
            grey=image.mode in _GREY_MODES,
            transparent=_is_transparent(image),
            format=_format(image),
            turned=orientation != 1,
            # A camera's second picture (a preview, the other eye) is no animation.
            animated=image.format != "MPO" and bool(getattr(image, "is_animated", False)),
            deep=image.mode in _DEEP_MODES or _has_deep_colours(image),
            cmyk=image.mode == "CMYK",
        )


def decode_image(file: SourceFile, *, channels: int, fitting: Fitting | None = None) -> NDArray[np.uint8]:
    """The pixels of a file, (C, H, W) uint8.

    Args:
        channels: 1 grey, 3 RGB (transparency laid on white), 4 RGBA.
        fitting: How it is brought to a size; None: as it is.

    Raises:
        DataError: As `image_info`, or the data ends early.
    """
    with _opened(file) as image:
        size, reduced = image.size, 1
        if fitting is not None and _format(image) == "JPEG":
            reduced = _scale_while_decoding(image, fitting)
        return _fitted(image, channels=channels, fitting=fitting, reduced=reduced, size=size)


def fit_image(image: Image.Image, *, channels: int, fitting: Fitting | None = None) -> NDArray[np.uint8]:
    """The pixels of a picture, upright, (C, H, W) uint8, fitted as `decode_image` does."""
    return _fitted(image, channels=channels, fitting=fitting, reduced=1, size=image.size)


def _fitted(
    image: Image.Image, *, channels: int, fitting: Fitting | None, reduced: int, size: tuple[int, int]
) -> NDArray[np.uint8]:
    orientation = _orientation(image)
    plain = _in_channels(image, channels)
    if fitting is not None:
        # Scaling first: there is less to turn then.
        lying = fitting.turned() if orientation >= 5 else fitting
        plain = lying.scaled(plain, reduced=reduced, size=size)
    if orientation != 1:
        plain = plain.transpose(_TURNS[orientation])
    if fitting is not None:
        plain = fitting.padded(plain)
    return _planes(plain)


def _planes(image: Image.Image) -> NDArray[np.uint8]:
    """(C, H, W) of a picture."""
    if image.mode == "L" or image.width * image.height < _SPLIT_PIXELS:
        array = np.asarray(image, dtype=np.uint8)
        return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
    bands = image.split()
    planes = np.empty((len(bands), image.height, image.width), dtype=np.uint8)
    for plane, band in zip(planes, bands, strict=True):
        plane[:] = np.frombuffer(band.tobytes(), dtype=np.uint8).reshape(plane.shape)
    return planes


def _in_channels(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in _DEEP_MODES:
        # Sixteen bits a pixel: 65535 becomes 255.
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    wanted = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    if channels == 4 or (image.mode == wanted and not _is_transparent(image)):
        return image if image.mode == wanted else image.convert(wanted)
    if _is_transparent(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    return image.convert(wanted)


def _scale_while_decoding(image: Image.Image, fitting: Fitting) -> int:
    """Let the JPEG decoder do the first halvings, as far as `_DRAFT_MARGIN` allows; returns 1, 2, 4 or 8."""
    width = image.width
    scale = (fitting.turned() if _orientation(image) >= 5 else fitting).scale(*image.size) * _DRAFT_MARGIN
    if scale <= 0.5:
        image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    return next(fraction for fraction in (1, 2, 4, 8) if -(-width // fraction) <= image.width)


def _format(image: Image.Image) -> str:
    """`MPO` is a JPEG with further pictures behind it, as telephones write them."""
    return "JPEG" if image.format == "MPO" else image.format or ""


def _orientation(image: Image.Image) -> int:
    """What a camera noted, 1 to 8; 1 (upright) without a note, or with a damaged one."""
    if "exif" not in image.info:
        return 1
    try:
        found = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        # Notes are a stranger's bytes, read by code that raises whatever it likes; the picture is good without them.
        return 1
    return found if found in _TURNS else 1


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether a colour PNG stores sixteen bits per channel, of which Pillow keeps the upper eight."""
    return image.format == "PNG" and any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))


@contextlib.contextmanager
def _opened(file: SourceFile, *, header_only: bool = False) -> Iterator[Image.Image]:
    """The opened image; whatever a decoder raises on a hostile file becomes a DataError that names the file."""
    if file.size == 0 and not file.problem:
        raise _fault("The file is empty.", file.where)
    with contextlib.closing(_stream(file, header_only=header_only)) as stream:
        head = stream.read(12)
        stream.seek(0)
        if not looks_like_image(head):
            raise _fault(f"The file is no image; it begins with {head[:4].hex(' ')}.", file.where)
        try:
            with Image.open(stream, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise Image.DecompressionBombError(f"({image.width}x{image.height} pixels)")
                yield image
        except DataError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise _fault(
                f"The image has more than {MAX_PIXELS} pixels{_stated_pixels(error)}, as decompression bombs do.",
                file.where,
                mend="scale the image down, or remove it",
            ) from error
        except Exception as error:
            text = str(error).split("\n", 1)[0].rstrip(".") or type(error).__name__
            raise _fault(f"The image is damaged: {text}.", file.where) from error


def _stated_pixels(error: Warning | Exception) -> str:
    """How many the header states; the rest of Pillow's sentence names a limit of its own, which is not ours."""
    found = re.search(r"\(([\dx]+) pixels\)", str(error))
    return f" ({found[1]} by its header)" if found is not None else ""


def _stream(file: SourceFile, *, header_only: bool) -> BinaryIO:
    """The content, seekable: for the header of a plain file the file itself, else all bytes at once."""
    if file.path is not None and file.opener is None and not file.problem and file.size <= _MAX_FILE_BYTES:
        # What begins as an image does is not compressed; asking for that would open the file once more.
        with contextlib.suppress(OSError):
            stored = file.path.open("rb")
            if header_only:
                head = stored.read(12)
                stored.seek(0)
            else:
                with stored:
                    content = stored.read(file.size)
                head = content[:12]
            if looks_like_image(head):
                return stored if header_only else io.BytesIO(content)
            stored.close()
    return io.BytesIO(file.read(min(_MAX_FILE_BYTES, file.max_bytes)))


def _fault(what: str, where: str, *, mend: str = "replace or remove the file") -> DataError:
    return DataError(
        what,
        where=where,
        accepts=f"a complete image of at most {MAX_PIXELS} pixels: {', '.join(FORMATS)}",
        mend=f"{mend}; in training, data.on_fault=skip leaves such files out",
    )


class ImageRows(RowLoader):
    """Image files as rows, decoded when asked for.

    Args:
        files: One per row.
        channels, fitting: As in `decode_image`.
    """

    def __init__(self, files: Sequence[SourceFile], *, channels: int, fitting: Fitting) -> None:
        self.files = list(files)
        self.channels, self.fitting = channels, fitting
        self.shape = (len(self.files), channels, fitting.height, fitting.width)
        self.dtype = torch.uint8

    def load(self, rows: Sequence[int]) -> Tensor:
        """The decoded rows (B, C, H, W)."""
        out = torch.empty((len(rows), *self.shape[1:]), dtype=torch.uint8)
        pixels = out.numpy()
        for place, row in enumerate(rows):
            pixels[place] = decode_image(self.files[row], channels=self.channels, fitting=self.fitting)
        return out
