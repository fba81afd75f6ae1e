"""One image file to a square of uint8 RGB pixels, or a sentence that says why not.

The content decides what a file is, not its name. Formats that run other programs (EPS) are never tried, and an image
whose header announces more than `PIXEL_LIMIT` is not decoded.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (  # the plugins register themselves; Image.open alone would know some only after a first failure
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
PIXEL_LIMIT = 64_000_000
SMALLEST_SIDE = 8

_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(ZeroDivisionError, NotImplementedError, AssertionError, struct.error, zlib.error, MemoryError),
)
"""What Pillow's decoders raise on damaged files."""


class Unreadable(Exception):
    """The file gives no usable image; the message is the reason."""


class Decoded(NamedTuple):
    """Pixels uint8 [side, side, 3], and whether only the first of several frames was taken."""

    pixels: NDArray[np.uint8]
    animated: bool


def decode(path: str | Path, side: int) -> Decoded:
    """Read an image, turn it as its EXIF says, and resize its middle square to `side`.

    Decoded in full (no JPEG draft mode) and resized once, by Pillow's antialiased bilinear filter: the pixels of
    torchvision's `Resize(side)` and `CenterCrop(side)`. Alpha is dropped, as there. Raises `Unreadable`.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _decode(file, side)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unreadable(_too_large()) from None
    except UnidentifiedImageError:
        empty = path.stat().st_size == 0
        raise Unreadable("the file is empty" if empty else "no known image format") from None
    except _DAMAGE as error:
        raise Unreadable(f"damaged: {str(error) or type(error).__name__}") from error


def _decode(file: IO[bytes], side: int) -> Decoded:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > PIXEL_LIMIT:
            raise Unreadable(_too_large(f"{width}x{height} is "))
        if min(width, height) < SMALLEST_SIDE:
            raise Unreadable(f"{width}x{height} is smaller than {SMALLEST_SIDE} pixels")
        animated = getattr(image, "n_frames", 1) > 1 and image.format != "MPO"
        return Decoded(np.asarray(_middle_square(_rgb(ImageOps.exif_transpose(image)), side)), animated)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if image.mode == "P":  # RGB straight from a palette with several transparent colours warns
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise Unreadable(f"pixels of mode {image.mode} have no defined black and white")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _middle_square(image: Image.Image, side: int) -> Image.Image:
    """Only the pixels that stay are resized, but at the whole-pixel offsets that torchvision's two steps have."""

    def kept(length: int) -> tuple[float, float]:
        resized = int(side * length / min(image.size))
        start = round((resized - side) / 2)
        return start * length / resized, (start + side) * length / resized

    (left, right), (top, bottom) = kept(image.width), kept(image.height)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def _too_large(size: str = "") -> str:
    return f"{size}more than {PIXEL_LIMIT // 10**6} megapixels; not decoded"
