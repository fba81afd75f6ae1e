from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from harness.data.decode import Unreadable, decode


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    image = Image.new("RGB", size, (200, 40, 40))
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 2, size[1] // 2), fill=(30, 60, 220))
    return image.convert(mode)


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def announced_png(width: int, height: int) -> bytes:
    """The beginning of a PNG: its header announces a size, and no pixels follow."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return start + struct.pack(">I", 100) + b"IDAT"


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("a.png", "RGB", {}),
        ("a.jpg", "RGB", {"quality": 95, "subsampling": 0}),
        ("a.jpeg", "CMYK", {"quality": 95, "subsampling": 0}),
        ("a.png", "P", {}),
        ("a.png", "RGBA", {}),
        ("a.bmp", "RGB", {}),
        ("a.webp", "RGB", {"lossless": True}),
        ("a.tif", "CMYK", {}),
        ("a.gif", "P", {}),
        ("a.ppm", "RGB", {}),
    ],
)
def test_colour_images_of_every_mode_keep_their_colours(tmp_path: Path, name: str, mode: str, options: dict) -> None:
    decoded = decode(saved(tmp_path, name, picture(mode), **options), 16)
    assert decoded.pixels.shape == (16, 16, 3)
    assert decoded.pixels.dtype == np.uint8
    assert np.abs(decoded.pixels[-1, -1].astype(int) - (200, 40, 40)).max() < 12
    assert np.abs(decoded.pixels[0, 0].astype(int) - (30, 60, 220)).max() < 12
    assert decoded.first_of == ""


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_gray_images_become_three_equal_channels(tmp_path: Path, mode: str) -> None:
    pixels = decode(saved(tmp_path, "a.png", picture(mode)), 16).pixels
    assert (pixels[..., :1] == pixels).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(64, axis=0)
    pixels = decode(saved(tmp_path, "a.png", Image.fromarray(ramp)), 64).pixels
    assert np.array_equal(pixels[0, :, 0], ramp[0] >> 8)


def tiff(tags: dict[int, int | tuple[int, ...]], pixels: bytes) -> bytes:
    """A little-endian, uncompressed TIFF of 16x16 pixels with those tags."""
    facts = {256: 16, 257: 16, 259: 1, 273: 0, 277: 1, 278: 16, 279: len(pixels), **tags}
    rows, extra, place = b"", b"", 8 + 2 + 12 * len(facts) + 4
    for tag, value in sorted(facts.items()):
        values = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"<{len(values)}H", *values)
        if tag == 273:
            packed = struct.pack("<I", place + 8)
        elif len(packed) > 4:
            extra, packed = packed.ljust(8, b"\0"), struct.pack("<I", place)
        rows += struct.pack("<HHI", tag, 4 if tag == 273 else 3, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(facts)) + rows + bytes(4) + extra.ljust(8, b"\0") + pixels


ONE_BIT = {258: 1, 262: 1}
GRAYS = {
    "16 bits": ({258: 16, 262: 1}, struct.pack("<H", 0xC0FF) * 256, 192),
    "16 bits, white is zero": ({258: 16, 262: 0}, struct.pack("<H", 0xC0FF) * 256, 63),
    "12 bits": ({258: 12, 262: 1}, b"\xc0\xfc\x0f" * 128, 192),
    "8 bits, white is zero": ({258: 8, 262: 0}, b"\xc0" * 256, 63),
    "4 bits": ({258: 4, 262: 1}, b"\xcc" * 128, 204),
    "1 bit": (ONE_BIT, b"\xff" * 32, 255),
    "1 bit, white is zero": (ONE_BIT | {262: 0}, b"\xff" * 32, 0),
    "32 bits that hold 16": ({258: 32, 262: 1}, struct.pack("<I", 0xC0FF) * 256, 192),
    "premultiplied alpha": ({258: (8, 8), 262: 1, 277: 2, 338: 1}, b"\x60\x80" * 256, 192),
    "three times 16 bits": ({258: (16, 16, 16), 262: 2, 277: 3}, struct.pack("<3H", *[0xC0FF] * 3) * 256, 192),
}


@pytest.mark.parametrize("name", GRAYS)
def test_any_number_of_bits_is_scaled_to_eight(tmp_path: Path, name: str) -> None:
    tags, pixels, gray = GRAYS[name]
    (tmp_path / "a.tif").write_bytes(tiff(tags, pixels))
    decoded = decode(tmp_path / "a.tif", 16).pixels
    assert np.abs(decoded.astype(int) - gray).max() <= 1


def test_a_damaged_frame_after_the_first_costs_no_image(tmp_path: Path) -> None:
    frames = [Image.effect_noise((64, 64), spread) for spread in (30, 60, 90)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    whole = (tmp_path / "a.gif").read_bytes()
    wanted = decode(tmp_path / "a.gif", 16).pixels
    (tmp_path / "a.gif").write_bytes(whole[: len(whole) * 2 // 3])
    assert np.array_equal(decode(tmp_path / "a.gif", 16).pixels, wanted)


def test_a_palette_with_several_transparent_colours_is_taken_without_a_warning(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", picture("P"), transparency=bytes([0, 128, 255]))
    assert decode(path, 16).pixels.shape == (16, 16, 3)


@pytest.mark.parametrize(("name", "format_"), [("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.png", "PNG")])
def test_of_an_animated_image_the_first_frame_is_taken_and_said_so(tmp_path: Path, name: str, format_: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if format_ == "WEBP" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    decoded = decode(tmp_path / name, 16)
    assert decoded.first_of == "frames"
    assert decoded.pixels[8, 8].tolist() == [255, 0, 0]


def test_of_several_pages_the_first_is_taken_also_if_a_later_one_is_damaged(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green")]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(whole[:-40])
    for name in ("a.tif", "b.tif"):
        decoded = decode(tmp_path / name, 16)
        assert (decoded.first_of, decoded.pixels[8, 8].tolist()) == ("pages", [255, 0, 0])


def test_content_decides_not_the_ending(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", format="PNG")
    assert decode(tmp_path / "a.jpg", 16).pixels.shape == (16, 16, 3)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    square = picture(size=(40, 40))
    plain = decode(saved(tmp_path, "a.png", square), 16).pixels
    turned = decode(saved(tmp_path, "b.png", square, exif=exif), 16).pixels
    assert np.array_equal(turned, np.rot90(plain, -1))


@pytest.mark.parametrize("size", [(160, 120), (167, 120), (120, 163), (120, 120), (50, 41), (333, 9)])
def test_pixels_are_those_of_resizing_the_shorter_side_and_cropping_the_centre(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    width, height = (int(60 * length / min(size)) for length in size)
    left, top = round((width - 60) / 2), round((height - 60) / 2)
    usual = noise.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 60, top + 60))
    pixels = decode(saved(tmp_path, "a.png", noise), 60).pixels
    assert np.abs(pixels.astype(int) - np.asarray(usual)).max() <= 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>not found</html>", "unknown image format: a web page"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "unknown image format: SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "unknown image format: HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1avif", "unknown image format: AVIF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "unknown image format: a video"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "unknown image format: JPEG XL"),
        (b"version https://git-lfs.github.com/spec/v1\n", "unknown image format: a Git LFS pointer"),
        (b"\0" * 128 + b"DICM", "unknown image format: DICOM"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "unknown image format"),
        (announced_png(20_000, 20_000), "megapixels; not decoded"),
        (announced_png(9_500, 9_500), "megapixels; not decoded"),
        (announced_png(8_001, 8_000), "8001x8000 is more than 64 megapixels; not decoded"),
        (announced_png(1, 1), "1x1 is smaller than 8 pixels"),
        (announced_png(100, 100), "damaged"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Unreadable, match=reason):
        decode(tmp_path / "a.png", 16)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif", "gif"])
def test_truncated_files_say_so(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, f"a.{ending}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(Unreadable, match=r"damaged|unknown image format"):
        decode(path, 16)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_give_pixels_or_a_reason(tmp_path: Path, format_: str, flips: list[tuple[float, int]]) -> None:
    stream = io.BytesIO()
    picture("P" if format_ == "GIF" else "RGB", (24, 24)).save(stream, format=format_)
    damaged = bytearray(stream.getvalue())
    for place, value in flips:
        damaged[int(place * len(damaged))] = value
    (tmp_path / "a").write_bytes(damaged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            assert decode(tmp_path / "a", 16).pixels.shape == (16, 16, 3)
        except Unreadable as reason:
            assert str(reason)
