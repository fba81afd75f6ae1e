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

from harness.decode import Unreadable, decode


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
    assert not decoded.animated


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_gray_images_become_three_equal_channels(tmp_path: Path, mode: str) -> None:
    pixels = decode(saved(tmp_path, "a.png", picture(mode)), 16).pixels
    assert (pixels[..., :1] == pixels).all()


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(64, axis=0)
    pixels = decode(saved(tmp_path, "a.png", Image.fromarray(ramp)), 64).pixels
    assert np.array_equal(pixels[0, :, 0], ramp[0] >> 8)


def test_a_palette_with_several_transparent_colours_is_taken_without_a_warning(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", picture("P"), transparency=bytes([0, 128, 255]))
    assert decode(path, 16).pixels.shape == (16, 16, 3)


@pytest.mark.parametrize(("name", "format_"), [("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.png", "PNG")])
def test_of_an_animated_image_the_first_frame_is_taken_and_said_so(tmp_path: Path, name: str, format_: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if format_ == "WEBP" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    decoded = decode(tmp_path / name, 16)
    assert decoded.animated
    assert decoded.pixels[8, 8].tolist() == [255, 0, 0]


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
        (b"", "the file is empty"),
        (b"<html>not found</html>", "no known image format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no known image format"),
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
    with pytest.raises(Unreadable, match=r"damaged|no known image format"):
        decode(path, 16)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
