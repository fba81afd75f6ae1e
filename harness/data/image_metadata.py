"""The bytes of an image file without metadata, and its orientation, the only metadata that changes pixels.

Malformed metadata counts as absent. Pixels are decoded from bytes without metadata, so no tag, profile or comment can
make an image unreadable.
"""

from __future__ import annotations

import re
import zlib
from typing import Literal, NamedTuple

_ORIENTATION = 0x0112
_XMP = 700
_INTEGERS = {1: 1, 3: 2, 4: 4, 6: 1, 8: 2, 9: 4}
"""Width in bytes of TIFF's integer types."""
_TIFF_PIXELS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
    *(332, 334, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
}
"""TIFF tags that describe the storage of pixels."""
_PNG_PIXELS = (b"tRNS", b"acTL", b"fcTL", b"fdAT")
_JPEG_METADATA = {*range(0xE1, 0xEE), 0xEF, 0xFE}
"""APP1 to APP13, APP15 and comments. APP0 (JFIF) and APP14 (Adobe) describe the storage of colours."""
_LONGEST_TEXT = 2**20


class Parted(NamedTuple):
    """The bytes of a file with pixels only, and the orientation (1 to 8, as in EXIF) from its metadata."""

    pixels: bytes
    orientation: int


def parted(data: bytes) -> Parted:
    """Remove the metadata of a JPEG, PNG or TIFF file; WebP files keep theirs. Other bytes are returned unchanged."""
    if data.startswith(b"\xff\xd8"):
        found = _jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        found = _png(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        found = _webp(data)
    elif _entries(data):
        found = _tiff(data)
    else:
        found = _Found(data)
    orientation = _orientation(found.exif)
    if orientation is None:
        orientation = _orientation_of_xmp(found.xmp)
    return Parted(found.pixels, orientation if orientation and orientation <= 8 else 1)


class _Found(NamedTuple):
    pixels: bytes
    exif: bytes = b""
    xmp: bytes = b""


def _jpeg(data: bytes) -> _Found:
    kept, exif, xmp, at = [data[:2]], b"", b"", 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] not in (0x00, 0xD9, 0xDA):
        if data[at + 1] == 0xFF:  # any number of fill bytes may precede a marker
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        marker, body = data[at + 1], data[at + 4 : end]
        if marker not in _JPEG_METADATA:
            kept.append(data[at:end])
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body
        at = end
    return _Found(b"".join([*kept, data[at:]]), exif, xmp)


def _png(data: bytes) -> _Found:
    kept, exif, xmp, at = [data[:8]], b"", b"", 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : end - 4]
        if end > len(data):
            break
        if kind[:1].isupper() or kind in _PNG_PIXELS:
            kept.append(data[at:end])
        elif kind == b"eXIf":
            exif = exif or body
        elif kind == b"iTXt" and body.startswith(b"XML:com.adobe.xmp\0"):
            xmp = _png_text(body)
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and body.startswith(b"Raw profile type exif\0"):
            exif = exif or _raw_profile(_png_text(body, deflated=kind == b"zTXt"))
        at = end
    return _Found(b"".join([*kept, data[at:]]), exif, xmp)


def _png_text(body: bytes, *, deflated: bool = False) -> bytes:
    # The text follows the keyword; in iTXt, a compression flag and two language fields come between them.
    rest = body.partition(b"\0")[2]
    if not deflated and rest[:1] != b"\1":
        return rest
    text = rest[1:] if deflated else rest[2:].split(b"\0", 2)[-1]
    try:
        return zlib.decompressobj().decompress(text, _LONGEST_TEXT)
    except zlib.error:
        return b""


def _raw_profile(text: bytes) -> bytes:
    # ImageMagick writes EXIF as lines: name, length, then hexadecimal digits.
    try:
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return b""


def _webp(data: bytes) -> _Found:
    found: dict[bytes, bytes] = {}
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        found.setdefault(data[at : at + 4], data[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    return _Found(data, found.get(b"EXIF", b""), found.get(b"XMP ", b""))


def _tiff(data: bytes) -> _Found:
    # Entries that do not describe pixels get a type that does not exist, so every reader skips them.
    order, changed, xmp = _order(data), bytearray(data), b""
    for at, tag in _entries(data):
        if tag == _XMP:
            length, start = (int.from_bytes(data[at + n : at + n + 4], order) for n in (4, 8))
            xmp = data[start : start + length]
        if tag not in _TIFF_PIXELS:
            changed[at + 2 : at + 4] = b"\0\0"
    return _Found(bytes(changed), data, xmp)


def _orientation(exif: bytes) -> int | None:
    """Return the value of the tag in the first directory, 0 if it is not an integer; None without the tag."""
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = _order(exif)
    for at, tag in _entries(exif):
        if tag == _ORIENTATION:
            width = _INTEGERS.get(int.from_bytes(exif[at + 2 : at + 4], order), 0)
            values = width * int.from_bytes(exif[at + 4 : at + 8], order)
            return int.from_bytes(exif[at + 8 : at + 8 + width], order) if 0 < values <= 4 else 0
    return None


def _orientation_of_xmp(xmp: bytes) -> int | None:
    match = re.search(rb'tiff:Orientation(?:="|>)([0-9])', xmp)
    return int(match[1]) if match else None


def _order(tiff: bytes) -> Literal["little", "big"]:
    return "big" if tiff.startswith(b"MM") else "little"


def _entries(tiff: bytes) -> list[tuple[int, int]]:
    """Return offset and tag of each complete entry of the first directory; nothing if the bytes are not a TIFF."""
    if tiff[:2] not in (b"II", b"MM") or 42 not in tiff[2:4]:
        return []
    order = _order(tiff)
    start = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[start : start + 2], order)
    places = range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12)
    return [(at, int.from_bytes(tiff[at : at + 2], order)) for at in places]
