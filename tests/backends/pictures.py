"""One picture stored in many ways, and what training delivers of it beside what evaluation sees."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import Split
from harness.data.decode import decode
from harness.data.feed import Feed, evaluation_batches

SIDE, SIZE = 72, 64
LEVELS = 16
"""Levels of 255 within which 99 % of the values lie, where a framework decodes and resizes by itself."""
Layout = Literal["nhwc", "nchw"]


def picture(width: int = 131, height: int = 96) -> Image.Image:
    """Another red, green and blue everywhere, so that no turn, inversion or clipping goes unseen."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    planes = [255 * across, 255 * down, 127 + 100 * np.sin(9 * across) * np.cos(7 * down)]
    planes[0][: height // 3, : width // 3] = 230
    return Image.fromarray(np.stack(planes, axis=-1).round().astype(np.uint8))


def _with_alpha() -> Image.Image:
    return Image.merge("RGBA", (*picture().split(), picture().convert("L")))


def _deep() -> Image.Image:
    return Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 256 + 99)


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _saved(make: Callable[[], Image.Image], format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    make().save(stream, format_, **options)
    return stream.getvalue()


def _palette() -> Image.Image:
    return picture().quantize(60)


def _few() -> Image.Image:
    return picture().quantize(11)


def _gray() -> Image.Image:
    return picture().convert("L")


def _both() -> Image.Image:
    return Image.merge("LA", (_gray(), _gray()))


def _inks() -> Image.Image:
    return picture().convert("CMYK")


def _bit() -> Image.Image:
    return picture().convert("1")


def _moving() -> dict[str, Any]:
    return {"save_all": True, "append_images": [picture().rotate(180)]}


def _tagged(tag: int, kind: int, count: int, value: int, tail: bytes = b"", order: Literal["<", ">"] = "<") -> bytes:
    """A JPEG of orientation 6 with one more tag, whose value no standard allows; `tail` begins at byte 38."""
    turned = struct.pack(order + "HHIHH", 0x0112, 3, 1, 6, 0)
    directory = struct.pack(order + "H", 2) + turned + struct.pack(order + "HHII", tag, kind, count, value) + bytes(4)
    header = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    content = b"Exif\0\0" + header + directory + tail
    plain = _saved(picture, "JPEG", quality=92)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + plain[2:]


READ_BY_BOTH: dict[str, bytes] = {
    "plain.jpg": _saved(picture, "JPEG", quality=92),
    "coarse.jpg": _saved(picture, "JPEG", quality=25),
    "progressive.jpg": _saved(picture, "JPEG", progressive=True),
    "gray.jpg": _saved(_gray, "JPEG"),
    "inks.jpg": _saved(_inks, "JPEG", quality=92),
    **{f"turned{n}.jpg": _saved(picture, "JPEG", quality=92, exif=_turned(n)) for n in range(2, 9)},
    "text-that-is-a-fraction.jpg": _tagged(0x0131, 5, 1, 38, struct.pack("<II", 7, 1)),
    "fraction-by-zero.jpg": _tagged(0x011A, 5, 1, 38, struct.pack("<II", 72, 0)),
    "value-outside.jpg": _tagged(0x0131, 5, 1, 9999),
    "endless-text.jpg": _tagged(0x0132, 2, 0x7FFFFFFF, 38),
    "no-type.jpg": _tagged(0x013B, 99, 3, 38),
    "directory-in-itself.jpg": _tagged(0x8769, 4, 1, 8),
    "big-endian.jpg": _tagged(0x0131, 5, 1, 38, struct.pack(">II", 7, 1), ">"),
    "turned-inks.jpg": _saved(_inks, "JPEG", quality=92, exif=_turned(8)),
    "plain.png": _saved(picture, "PNG"),
    "turned.png": _saved(picture, "PNG", exif=_turned(3)),
    "alpha.png": _saved(_with_alpha, "PNG"),
    "gray-alpha.png": _saved(_both, "PNG"),
    "sixteen.png": _saved(_deep, "PNG"),
    "turned-sixteen.png": _saved(_deep, "PNG", exif=_turned(5)),
    "bit.png": _saved(_bit, "PNG"),
    "palette.png": _saved(_palette, "PNG"),
    "four-bits.png": _saved(_few, "PNG", bits=4),
    "transparent-palette.png": _saved(_palette, "PNG", transparency=bytes([0, 90, 255])),
    "one-transparent.png": _saved(_palette, "PNG", transparency=5),
    "moving.png": _saved(picture, "PNG", **_moving()),
    "plain.bmp": _saved(picture, "BMP"),
    "alpha.bmp": _saved(_with_alpha, "BMP"),
    "gif.jpg": _saved(_palette, "GIF"),
    "moving-gif.png": _saved(_palette, "GIF", **_moving()),
    "png.jpg": _saved(picture, "PNG"),
    "jpeg.png": _saved(picture, "JPEG", quality=92),
    "bmp.jpeg": _saved(picture, "BMP"),
}
READ_BY_TORCH: dict[str, bytes] = {
    "plain.webp": _saved(picture, "WEBP", quality=92),
    "webp.jpg": _saved(picture, "WEBP", lossless=True),
    "turned.webp": _saved(picture, "WEBP", lossless=True, exif=_turned(7)),
}
"""TensorFlow reads them from some version on."""
NOT_BY_TENSORFLOW: dict[str, bytes] = {
    "alpha.webp": _saved(_with_alpha, "WEBP", lossless=True),
    "moving.webp": _saved(picture, "WEBP", lossless=True, **_moving()),
    "palette.bmp": _saved(_palette, "BMP"),
    "bit.bmp": _saved(_bit, "BMP"),
    "transparent-gif.png": _saved(_palette, "GIF", transparency=9),
    "plain.tif": _saved(picture, "TIFF"),
    "sixteen.tif": _saved(_deep, "TIFF"),
    "thirty-two.tif": _saved(lambda: _deep().convert("I"), "TIFF"),
    "inks.tif": _saved(_inks, "TIFF", compression="tiff_lzw"),
    "turned.tif": _saved(picture, "TIFF", exif=_turned(6)),
    "sixteen.pgm": _saved(_deep, "PPM"),
    "tiff.jpg": _saved(_gray, "TIFF"),
}


def written(folder: Path, files: dict[str, bytes]) -> Split:
    """The files in a folder as a split whose labels are the positions."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    paths = tuple(str(folder / name) for name in files)
    ids = np.arange(len(files), dtype=np.int64)
    return Split(np.stack([decode(path, SIDE).pixels for path in paths]), ids, ids, paths)


def feed(split: Split, source: Literal["arrays", "stream", "native"], layout: Layout, epochs: int = 1) -> Feed:
    """All samples in one batch, without augmentation."""
    return Feed(
        split,
        batch_size=len(split.labels),
        epochs=epochs,
        seed=3,
        image_size=SIZE,
        normalisation=NORMALISATIONS["imagenet"],
        augmentations=(),
        layout=layout,
        input=source,
    )


def evaluated(split: Split, layout: Layout) -> NDArray[np.float32]:
    """What evaluation sees of each sample."""
    ((images, _),) = evaluation_batches(split, len(split.labels), SIZE, NORMALISATIONS["imagenet"], layout)
    return images


def differences(
    split: Split, batches: Iterator[tuple[Any, Any]], layout: Layout, seen: NDArray[np.float32] | None = None
) -> dict[str, float]:
    """By file name, the levels of 255 within which 99 % of a delivered image's values lie from the evaluated ones."""
    wanted, found = evaluated(split, layout) if seen is None else seen, {}
    for images, labels in batches:
        for image, label in zip(np.asarray(images), np.asarray(labels), strict=True):
            found[Path((split.files or ())[int(label)]).name] = levels(image, wanted[int(label)], layout)
    return found


def levels(image: NDArray[np.float32], other: NDArray[np.float32], layout: Layout) -> float:
    """The 99th percentile of the differences between two normalised images, in levels of 255."""
    std = np.array(NORMALISATIONS["imagenet"].std)[(...,) if layout == "nhwc" else (slice(None), None, None)]
    return float(np.percentile(np.abs((image - other) * std * 255), 99))
