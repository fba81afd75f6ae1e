"""The reader of image files: upright 8-bit RGB pixels, or a reason why a file cannot be read.

The content of a file decides its format, not its name. Formats that start other programs (EPS) are not supported. An
image with more than `PIXEL_LIMIT` pixels in its header is not decoded. Invalid metadata is ignored (`image_metadata`).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (  # each import registers a format; Image.open alone loads some formats only after a failure
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from harness.data import image_metadata

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
PIXEL_LIMIT = 64_000_000
SMALLEST_SIDE = 8

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC, _BITS_PER_SAMPLE = 262, 258
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, KeyError, IndexError, AttributeError, OverflowError),
    *(ZeroDivisionError, NotImplementedError, AssertionError, struct.error, zlib.error, MemoryError),
)
"""Exceptions of Pillow's decoders for damaged pixels; they get no metadata, except WebP's, which they do not read."""


JpegDecoder = Callable[[bytes], NDArray[np.uint8]]
"""Decodes the bytes of a JPEG to RGB pixels uint8 [height, width, 3] as stored, not turned. Raises ValueError."""


class Unreadable(Exception):
    """The file gives no usable image; the message is the reason."""


Several = Literal["", "frames", "pages"]
"""The images in one file: frames of an animation, pages of a TIFF; empty for a single image."""


class OpenedImage(NamedTuple):
    """An upright RGB image of the size in the file, and what it is the first of."""

    image: Image.Image
    first_of: Several


class Decoded(NamedTuple):
    """Pixels uint8 [side, side, 3], and what they are the first of."""

    pixels: NDArray[np.uint8]
    first_of: Several


class Kind(NamedTuple):
    """The storage of a file's pixels, in Pillow's terms, and its orientation (1 to 8, as in EXIF)."""

    format: str
    mode: str
    raw_mode: str
    transparent: bool
    first_of: Several
    orientation: int


def decode(path: str | Path, side: int) -> Decoded:
    """Read an image and resize its centre square to `side`.

    The image is decoded in full (no JPEG draft mode) and resized once with Pillow's antialiased bilinear filter. The
    pixels equal those of torchvision's `Resize(side)` and `CenterCrop(side)`. Raises `Unreadable`.
    """
    image, first_of = read(path)
    return Decoded(np.asarray(_centre_square(image, side)), first_of)


def read(path: str | Path, jpeg: JpegDecoder | None = None) -> OpenedImage:
    """Read an image as upright 8-bit RGB. Alpha is dropped, as in torchvision. Raise `Unreadable`.

    `jpeg` decodes colour and grey JPEG files instead of Pillow.
    """
    with _opened(path) as (image, orientation):
        if jpeg and image.format == "JPEG" and image.mode in ("RGB", "L") and isinstance(image.fp, BytesIO):
            colours = Image.fromarray(jpeg(image.fp.getvalue()))
        else:
            image.load()
            colours = _rgb(image)
        upright = colours.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else colours
        return OpenedImage(upright, _first_of(image))


def kind(path: str | Path) -> Kind:
    """Return how an image is stored, from its header. Raise `Unreadable`."""
    with _opened(path) as (image, orientation):
        arguments = image.tile[0][3] if image.tile else ""
        raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        stored = (str(image.format), image.mode, str(raw_mode))
        return Kind(*stored, "transparency" in image.info, _first_of(image), orientation)


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[ImageFile.ImageFile, int]]:
    """Open an image without decoding it, with its orientation; errors become `Unreadable`."""
    try:
        data = Path(path).read_bytes()
        if not data:
            raise Unreadable("empty file")
        pixels, orientation = image_metadata.parted(data)
        with Image.open(BytesIO(pixels), formats=FORMATS) as image:
            width, height = image.size
            if width * height > PIXEL_LIMIT:
                raise Unreadable(_too_large(f"{width}x{height} is "))
            if min(width, height) < SMALLEST_SIDE:
                raise Unreadable(f"{width}x{height} is smaller than {SMALLEST_SIDE} pixels")
            yield image, orientation
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unreadable(_too_large()) from None
    except UnidentifiedImageError:
        raise Unreadable(f"unknown image format{_named_content(data[:512])}") from None
    except _DAMAGE as error:
        raise Unreadable(f"damaged: {str(error) or type(error).__name__}") from error


_FOREIGN = (
    (rb"....ftyp(hei|hev|mif1|msf1)", "HEIC"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp", "a video"),
    (rb"\xff\x0a|\x00{3}\x0cJXL ", "JPEG XL"),
    (rb"\x00{3}\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"version https://git-lfs", "a Git LFS pointer; git lfs pull fetches the file"),
    (rb"\s*(<!doctype html|<html)", "a web page"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?(<!doctype svg[^>]*>\s*)?<svg", "SVG"),
    (rb"%PDF", "PDF"),
    (rb"8BPS", "Photoshop"),
    (rb"PK\x03\x04|\x1f\x8b", "an archive"),
    (rb".{128}DICM", "DICOM"),
    (rb"\x00\x05\x16\x07", "metadata of macOS"),
)


def _named_content(head: bytes) -> str:
    kinds = (name for sign, name in _FOREIGN if re.match(sign, head, re.DOTALL | re.IGNORECASE))
    return next((f": {name}" for name in kinds), "")


def _first_of(image: Image.Image) -> Several:
    try:
        single = getattr(image, "n_frames", 1) == 1
    except _DAMAGE:  # a later frame is damaged; only the first one is used
        single = False
    if single:
        return ""
    return "pages" if image.format == "TIFF" else "frames"


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if image.mode == "P":  # direct conversion to RGB warns if several palette colours are transparent
        return image.convert("RGBA").convert("RGB")
    if image.mode == "La":
        return image.convert("LA").convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise Unreadable(f"pixels of mode {image.mode} have no defined black and white")
    tags = getattr(image, "tag_v2", {})
    twelve_bits = tags.get(_BITS_PER_SAMPLE) == (12,)
    gray = (values >> (4 if twelve_bits else 8)).astype(np.uint8)
    return Image.fromarray(255 - gray if tags.get(_PHOTOMETRIC) == 0 else gray)


def _centre_square(image: Image.Image, side: int) -> Image.Image:
    # Only the visible pixels are resized, at the whole-pixel offsets of torchvision's resize and crop.
    def kept(length: int) -> tuple[float, float]:
        resized = int(side * length / min(image.size))
        start = round((resized - side) / 2)
        return start * length / resized, (start + side) * length / resized

    (left, right), (top, bottom) = kept(image.width), kept(image.height)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def _too_large(size: str = "") -> str:
    return f"{size}more than {PIXEL_LIMIT // 10**6} megapixels; not decoded"
