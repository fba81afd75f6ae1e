"""Malformed metadata costs no image, and the orientation is found wherever a format keeps it."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.data.decode import Kind, decode, kind
from harness.data.image_metadata import parted

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SIGNED = 1, 2, 3, 4, 5, 7, 8
TURNS = {1: 0, 3: 2, 6: -1, 8: 1}


def tiff(*entries: tuple[int, int, int, bytes], order: str = "<", start: int = 8, count: int | None = None) -> bytes:
    """A TIFF structure with one directory of (tag, type, count, four bytes)."""
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + struct.pack(order + "H", len(entries) if count is None else count) + body + bytes(4)


def turned(value: int = 6, kind: int = SHORT, count: int = 1, order: str = "<") -> tuple[int, int, int, bytes]:
    packed = {BYTE: "BBBB", SHORT: "HH", LONG: "I", SIGNED: "hh"}.get(kind, "I")
    return 0x0112, kind, count, struct.pack(order + packed, value, *[0] * (len(packed) - 1))


def picture() -> Image.Image:
    image = Image.new("RGB", (48, 48), (200, 40, 40))
    image.paste((30, 60, 220), (0, 0, 24, 24))
    return image


def encoded(format_: str, image: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (image or picture()).save(stream, format_, **options)
    return stream.getvalue()


def jpeg(*segments: bytes) -> bytes:
    data = encoded("JPEG", quality=95, subsampling=0)
    return data[:2] + b"".join(segments) + data[2:]


def segment(body: bytes, marker: int = 0xE1) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def exif(structure: bytes) -> bytes:
    return segment(b"Exif\0\0" + structure)


def png(*chunks: tuple[bytes, bytes], crc: int | None = None) -> bytes:
    data = encoded("PNG")
    made = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) if crc is None else crc)
        for name, body in chunks
    ]
    return data[:33] + b"".join(made) + data[33:]


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    data = encoded("WEBP", lossless=True, exif=b"Exif\0\0" + tiff())
    kept = data[12 : data.index(b"EXIF")]
    body = kept + b"".join(n + struct.pack("<I", len(b)) + b + bytes(len(b) % 2) for n, b in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def stored(*entries: tuple[int, int, int, bytes], **options: Any) -> bytes:
    """A TIFF file with entries more; its directory moves to the end."""
    data = encoded("TIFF", **options)
    start = struct.unpack("<I", data[4:8])[0]
    count = struct.unpack("<H", data[start : start + 2])[0]
    own = [data[start + 2 + 12 * n : start + 14 + 12 * n] for n in range(count)]
    rows = sorted([*own, *(struct.pack("<HHI", *e[:3]) + e[3] for e in entries)], key=lambda row: row[:2][::-1])
    place = len(data) + len(data) % 2
    return (
        data[:4] + struct.pack("<I", place) + data[8:].ljust(place - 8, b"\0") + struct.pack("<H", len(rows))
        + b"".join(rows) + bytes(4)
    )  # fmt: skip


def orientation_read(folder: Path, data: bytes) -> int:
    """The orientation that the pixels have been turned by; one of TURNS."""
    (folder / "a").write_bytes(data)
    corner = decode(folder / "a", 16).pixels[[0, 0, -1, -1], [0, -1, 0, -1], 2].argmax()
    return {0: 1, 1: 6, 3: 3, 2: 8}[int(corner)]


HERE, FRACTION = struct.pack("<I", 8 + 2 + 2 * 12 + 4), struct.pack("<II", 7, 1)
OUTSIDE = struct.pack("<I", 2**31)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
LONG_TEXT = b"a\0\0" + zlib.compress(bytes(2**22))
RAW = b"\nexif\n" + b"%8d\n" % len(tiff(turned())) + tiff(turned()).hex().encode() + b"\n"

TURNED = {
    "jpeg": jpeg(exif(tiff(turned()))),
    "jpeg, big-endian": jpeg(exif(tiff(turned(order=">"), order=">"))),
    "jpeg, the tag as a byte": jpeg(exif(tiff(turned(kind=BYTE)))),
    "jpeg, the tag as a long": jpeg(exif(tiff(turned(kind=LONG)))),
    "jpeg, XMP only": jpeg(segment(b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "jpeg, broken EXIF beside XMP": jpeg(exif(b"nothing"), segment(b"http://ns.adobe.com/xap/1.0/\0" + XMP)),
    "jpeg, two values": jpeg(exif(tiff((0x0112, SHORT, 2, struct.pack("<HH", 6, 6))))),
    "jpeg, a text tag that is a fraction": jpeg(exif(tiff(turned(), (0x0131, RATIONAL, 1, HERE)) + FRACTION)),
    "jpeg, a copyright that is a fraction": jpeg(exif(tiff(turned(), (0x8298, RATIONAL, 1, HERE)) + FRACTION)),
    "jpeg, a tag that lies outside": jpeg(exif(tiff(turned(), (0x010F, ASCII, 90, OUTSIDE)))),
    "jpeg, a tag of an unknown type": jpeg(exif(tiff(turned(), (0x010F, 99, 3, OUTSIDE)))),
    "jpeg, a tag of four billion values": jpeg(exif(tiff(turned(), (0x011A, RATIONAL, 2**32 - 1, OUTSIDE)))),
    "jpeg, a directory inside itself": jpeg(exif(tiff(turned(), (0x8769, LONG, 1, struct.pack("<I", 8))))),
    "jpeg, a directory inside that lies outside": jpeg(exif(tiff(turned(), (0x8825, LONG, 1, OUTSIDE)))),
    "jpeg, EXIF cut after the tag": jpeg(exif(tiff(turned(), (0x0131, ASCII, 4, b"abc\0"))[:24])),
    "jpeg, more entries announced than there are": jpeg(exif(tiff(turned(), count=500))),
    "jpeg, fill bytes before the marker": jpeg(b"\xff\xff" + exif(tiff(turned()))),
    "png": png((b"eXIf", tiff(turned()))),
    "png, as ImageMagick writes it": png((b"tEXt", b"Raw profile type exif\0" + RAW)),
    "png, that deflated": png((b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW))),
    "png, XMP only": png((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)),
    "png, XMP deflated": png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP))),
    "png, a broken checksum": png((b"eXIf", tiff(turned())), crc=1),
    "png, a text larger than Pillow takes": png((b"eXIf", tiff(turned())), (b"zTXt", LONG_TEXT)),
    "webp": webp((b"EXIF", tiff(turned()))),
    "webp, with JPEG's prefix": webp((b"EXIF", b"Exif\0\0" + tiff(turned()))),
    "webp, XMP only": webp((b"XMP ", XMP)),
    "tiff": stored(turned()),
    "tiff, deflated": stored(turned(), compression="tiff_adobe_deflate"),
    "tiff, a text tag that is a fraction": stored(turned(), (0x0131, RATIONAL, 1, OUTSIDE)),
    "tiff, a directory inside itself": stored(turned(), (0x8769, LONG, 1, struct.pack("<I", 8))),
}  # fmt: skip

PLAIN = {
    "jpeg, value 0": jpeg(exif(tiff(turned(0)))),
    "jpeg, value 9": jpeg(exif(tiff(turned(9)))),
    "jpeg, value 65535": jpeg(exif(tiff(turned(65535)))),
    "jpeg, value -3": jpeg(exif(tiff(turned(-3, SIGNED)))),
    "jpeg, the tag as text": jpeg(exif(tiff((0x0112, ASCII, 2, b"6\0\0\0")))),
    "jpeg, three values": jpeg(exif(tiff((0x0112, SHORT, 3, struct.pack("<HH", 6, 6))))),
    "jpeg, EXIF cut before the tag": jpeg(exif(tiff(turned())[:14])),
    "jpeg, an empty EXIF": jpeg(exif(b"")),
    "jpeg, EXIF of no byte order": jpeg(exif(b"XX" + tiff(turned())[2:])),
    "jpeg, a directory that lies outside": jpeg(exif(tiff(turned(), start=2**31))),
    "jpeg, a broken ICC profile": jpeg(segment(b"ICC_PROFILE\0", 0xE2), segment(b"ICC_PROFILE\0\1\7x", 0xE2)),
    "jpeg, a broken table of several images": jpeg(segment(b"MPF\0II*\0\xff\xff\xff\x7f", 0xE2)),
    "jpeg, a broken Photoshop block": jpeg(segment(b"Photoshop 3.0\x008BIM\x03\xed", 0xED)),
    "png, an ICC profile of an unknown compression": png((b"iCCP", b"name\0\7garbage")),
    "png, an ICC profile that does not inflate": png((b"iCCP", b"name\0\0garbage")),
    "png, XMP that does not inflate": png((b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0garbage")),
    "png, raw EXIF that is not hexadecimal": png((b"tEXt", b"Raw profile type exif\0\nexif\n 9\nxyz\n")),
    "png, EXIF cut": png((b"eXIf", tiff(turned())[:12])),
    "webp, EXIF of nothing": webp((b"EXIF", b"\0\1\2\3"), (b"ICCP", b"garbage")),
    "tiff, value 9": stored(turned(9)),
    "tiff, an ICC profile that lies outside": stored((34675, UNDEFINED, 500, OUTSIDE)),
    "tiff, a resolution that lies outside": stored((0x011A, RATIONAL, 1, OUTSIDE)),
}


@pytest.mark.parametrize("name", TURNED)
def test_an_orientation_is_applied_wherever_it_is_kept_and_whatever_is_broken_beside_it(
    tmp_path: Path, name: str
) -> None:
    assert orientation_read(tmp_path, TURNED[name]) == 6


@pytest.mark.parametrize("name", PLAIN)
def test_metadata_that_cannot_be_read_turns_nothing_and_costs_no_image(tmp_path: Path, name: str) -> None:
    assert orientation_read(tmp_path, PLAIN[name]) == 1


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pixels_are_turned_as_pillow_turns_them(tmp_path: Path, format_: str, value: int) -> None:
    from PIL import ImageOps

    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    own = Image.Exif()
    own[0x0112] = value
    Image.fromarray(noise).save(tmp_path / "a", format_, exif=own)
    with Image.open(tmp_path / "a") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(decode(tmp_path / "a", 40).pixels, wanted)
    assert kind(tmp_path / "a").orientation == value


def test_what_says_how_colours_are_stored_stays(tmp_path: Path) -> None:
    inks = Image.merge("CMYK", [Image.new("L", (32, 32), value) for value in (250, 20, 30, 10)])
    (tmp_path / "a").write_bytes(encoded("JPEG", inks, quality=95, comment=b"removed"))
    assert kind(tmp_path / "a") == Kind("JPEG", "CMYK", "CMYK;I", False, "", 1)
    red, green, blue = decode(tmp_path / "a", 16).pixels[8, 8].astype(int)
    assert red < 20 and abs(green - 226) < 6 and abs(blue - 216) < 6
    assert b"removed" not in parted((tmp_path / "a").read_bytes()).pixels


@given(data=st.binary(max_size=200), head=st.sampled_from([b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"II*\0"]))
def test_any_bytes_have_an_orientation(data: bytes, head: bytes) -> None:
    assert parted(head + data).orientation in range(1, 9)


@given(structure=st.binary(min_size=8, max_size=120), order=st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_any_exif_leaves_the_pixels_as_they_are(structure: bytes, order: bytes) -> None:
    assert parted(jpeg(exif(order + structure))).pixels == parted(jpeg()).pixels
