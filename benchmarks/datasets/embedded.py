"""The embedded source and target tasks: generated images, in integer arithmetic, with the same bytes everywhere.

A class is a shape filled with a texture, in a wide range of hues. Place, size, tilt, contrast, colours, background and
noise come from a hash of (seed, recipe, index), so no image depends on another. There are 48 pairs of a shape and a
texture. The target has eight of them, the source the other forty: the source shows every shape and every texture of the
target, but never its pairs. In the target, each of four shapes, four textures and four hues belongs to two classes.
None of them alone identifies a class; from the hue, which a network learns fastest, at most half can be answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Shape = Literal["disc", "square", "triangle", "ring", "cross", "bar", "crescent", "hourglass"]
Texture = Literal["plain", "striped", "checked", "dotted", "ringed", "patched"]
Split = Literal["train", "val", "test"]
Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Ints = NDArray[np.int32]
Bits = NDArray[np.uint64]

SIZE: Final = 64
HUES: Final = 768
SHAPES: Final[tuple[Shape, ...]] = get_args(Shape)
TEXTURES: Final[tuple[Texture, ...]] = get_args(Texture)


class ClassRecipe(NamedTuple):
    """The common features of the images of one class; `hue` is the centre of a wide range, out of `HUES`."""

    shape: Shape
    texture: Texture
    hue: int

    @property
    def name(self) -> str:
        """Its name, such as `striped-triangle`."""
        return f"{self.texture}-{self.shape}"


TARGET: Final = (
    ClassRecipe("square", "striped", 0),
    ClassRecipe("triangle", "checked", 192),
    ClassRecipe("ring", "patched", 384),
    ClassRecipe("hourglass", "dotted", 576),
    ClassRecipe("triangle", "striped", 384),
    ClassRecipe("ring", "checked", 576),
    ClassRecipe("hourglass", "patched", 0),
    ClassRecipe("square", "dotted", 192),
)
SOURCE: Final = tuple(
    ClassRecipe(shape, texture, (5 * row + 3 * column) % 16 * HUES // 16)
    for row, shape in enumerate(SHAPES)
    for column, texture in enumerate(TEXTURES)
    if (shape, texture) not in {(recipe.shape, recipe.texture) for recipe in TARGET}
)

_SPLIT_STARTS: Final[dict[Split, int]] = {"train": 0, "val": 100_000, "test": 200_000}


def source(seed: int = 0) -> dict[Split, tuple[Images, Labels]]:
    """Return the task to pretrain on: 40 classes, 200 training, 5 validation and 5 test images each."""
    return _task(SOURCE, seed, {"train": 200, "val": 5, "test": 5})


def target(seed: int = 0) -> dict[Split, tuple[Images, Labels]]:
    """Return the task to fine-tune on: 8 classes, 12 training, 10 validation and 70 test images each."""
    return _task(TARGET, seed, {"train": 12, "val": 10, "test": 70})


def _task(recipes: Sequence[ClassRecipe], seed: int, counts: dict[Split, int]) -> dict[Split, tuple[Images, Labels]]:
    return {
        split: (
            np.concatenate([render(recipe, seed, _SPLIT_STARTS[split], count) for recipe in recipes]),
            np.repeat(np.arange(len(recipes), dtype=np.int64), count),
        )
        for split, count in counts.items()
    }


def render(recipe: ClassRecipe, seed: int, first: int, count: int) -> Images:
    """Return the images `first` … `first + count - 1` of a class, uint8 [count, 64, 64, 3]."""
    block = 50  # small enough for the processor's cache
    starts = range(first, first + count, block)
    parts = [_render_block(recipe, seed, start, min(block, first + count - start)) for start in starts]
    return np.concatenate(parts) if parts else np.empty((0, SIZE, SIZE, 3), np.uint8)


def _render_block(recipe: ClassRecipe, seed: int, first: int, count: int) -> Images:
    dice = _Dice(recipe, seed, first, count)
    u, v = _object_coordinates(dice)
    inside = _inside(recipe.shape, u, v)
    bright = _bright(recipe.texture, u, v, dice)

    ground = dice.draw("ground", 116, 140)
    rise = dice.draw("rise", 25, 65)
    fall = dice.draw("fall", 25, 65)
    pattern = np.where(bright, ground + rise, ground - fall)
    level = np.where(inside, pattern, ground + _slope(dice) + _clutter(dice))
    tint = np.where(
        inside[..., None],
        _tint(recipe.hue + dice.draw("hue", -50, 50), dice.draw("tint", 20, 60))[:, None, None],
        _tint(recipe.hue + dice.draw("ground hue", -60, 60), dice.draw("ground tint", 0, 50))[:, None, None],
    )
    return np.clip(level[..., None] + tint + dice.noise(24), 0, 255).astype(np.uint8)


def _object_coordinates(dice: _Dice) -> tuple[Ints, Ints]:
    """Return the pixel coordinates relative to the object: shifted, rotated and scaled to an object radius of 256."""
    x = np.arange(SIZE, dtype=np.int32)[None, None, :] - dice.draw("x", 24, 40)
    y = np.arange(SIZE, dtype=np.int32)[None, :, None] - dice.draw("y", 24, 40)
    radius = dice.draw("radius", 15, 22)
    tilt = dice.draw("tilt", -16, 15) % 64
    sine, cosine = _SINES[tilt], _SINES[(tilt + 16) % 64]
    return (x * cosine + y * sine) // radius, (y * cosine - x * sine) // radius


_QUARTER: Final = (0, 25, 50, 74, 98, 121, 142, 162, 181, 198, 213, 226, 237, 245, 251, 255, 256)
_HALF: Final = _QUARTER + _QUARTER[-2:0:-1]
_SINES: Final = np.array(_HALF + tuple(-sine for sine in _HALF), dtype=np.int32)
"""256 times the sine of each 64th of a full circle."""


def _inside(shape: Shape, u: Ints, v: Ints) -> NDArray[np.bool_]:
    across, along = np.abs(u), np.abs(v)
    far, near = np.maximum(across, along), np.minimum(across, along)
    hit: NDArray[np.bool_]
    match shape:
        case "disc":
            hit = u * u + v * v < 230**2
        case "square":
            hit = far < 205
        case "triangle":
            hit = (v < 170) & (2 * across < v + 256)
        case "ring":
            hit = np.abs(u * u + v * v - 195**2) < 130**2
        case "cross":
            hit = (near < 80) & (far < 250)
        case "bar":
            hit = (across < 110) & (along < 280)
        case "crescent":
            hit = (u * u + v * v < 250**2) & ((u - 110) * (u - 110) + v * v > 190**2)
        case "hourglass":
            hit = (along < 240) & (across < along)
    return hit


def _bright(texture: Texture, u: Ints, v: Ints, dice: _Dice) -> NDArray[np.bool_]:
    half = dice.draw("half period", 42, 60)
    column = (u + dice.draw("phase u", 0, 255)) // half
    row = (v + dice.draw("phase v", 0, 255)) // half
    hit: NDArray[np.bool_]
    match texture:
        case "plain":
            hit = np.broadcast_to(dice.draw("polarity", 0, 1) > 0, u.shape)
        case "striped":
            hit = column & 1 > 0
        case "ringed":
            hit = ((u * u + v * v) // (half * 128) + dice.draw("polarity", 0, 1)) & 1 > 0
        case "checked":
            hit = (column ^ row) & 1 > 0
        case "dotted":
            hit = column & row & 1 > 0
        case "patched":
            hit = dice.patches("patches", column, row) > 0
    return hit


def _slope(dice: _Dice) -> Ints:
    """Return a background that gets lighter or darker in a random direction."""
    place = np.arange(SIZE, dtype=np.int32) - SIZE // 2
    across = dice.draw("slope x", -10, 10) * place[None, None, :]
    return (across + dice.draw("slope y", -10, 10) * place[None, :, None]) // SIZE


def _clutter(dice: _Dice) -> Ints:
    """Return two random chequerboards for the background: cells of 4 and 8 pixels, 16 lighter or darker."""
    place = np.arange(SIZE, dtype=np.int32)
    total = np.zeros((1, SIZE, SIZE), np.int32)
    for layer, cell in enumerate((4, 8)):
        row = (place[None, :, None] + dice.draw(f"cy{layer}", 0, 15)) // cell
        column = (place[None, None, :] + dice.draw(f"cx{layer}", 0, 15)) // cell
        total = total + dice.patches(f"clutter{layer}", row, column) * 32 - 16
    return total


def _tint(hue: Ints, strength: Ints) -> Ints:
    """Return the change of red, green and blue by a hue, [count, 3]; the sum is about 0."""
    turn = hue.reshape(-1, 1) % HUES
    ramps = [np.abs(turn - 384) - 128, 256 - np.abs(turn - 256), 256 - np.abs(turn - 512)]
    pure = np.clip(np.concatenate(ramps, axis=1), 0, 128)
    shifts: Ints = pure - pure.sum(axis=1, keepdims=True, dtype=np.int32) // 3
    return shifts * strength.reshape(-1, 1) // 64


class _Dice:
    """Random numbers that depend only on (seed, recipe, index, purpose)."""

    def __init__(self, recipe: ClassRecipe, seed: int, first: int, count: int) -> None:
        key = _mixed(np.array([seed], np.uint64))
        for number in (SHAPES.index(recipe.shape), TEXTURES.index(recipe.texture), recipe.hue):
            key = _mixed(key ^ np.uint64(number))
        self._keys = _mixed(key ^ np.arange(first, first + count, dtype=np.uint64)).reshape(-1, 1, 1)

    def draw(self, purpose: str, low: int, high: int) -> Ints:
        """Return one number per image from low … high, [count, 1, 1]."""
        return (low + (self._bits(purpose) % np.uint64(high - low + 1)).astype(np.int32)).astype(np.int32)

    def patches(self, purpose: str, column: Ints, row: Ints) -> Ints:
        """Return 0 or 1 per cell of a grid."""
        cell = ((column & 63) * 64 + (row & 63)).astype(np.uint64)
        return (_mixed(self._bits(purpose) + cell) & np.uint64(1)).astype(np.int32)

    def noise(self, reach: int) -> Ints:
        """Return triangular noise from -reach to reach per pixel and channel, [count, 64, 64, 3]."""
        pixel = np.arange(SIZE * SIZE, dtype=np.uint64).reshape(1, SIZE, SIZE)
        bits = _mixed(self._bits("noise") + pixel)
        parts = np.stack([bits >> np.uint64(8 * place) for place in range(6)], axis=-1).astype(np.uint8)
        sums = parts[..., :3].astype(np.int32) + parts[..., 3:]
        return (sums * (2 * reach) // 511 - reach).astype(np.int32)

    def _bits(self, purpose: str) -> Bits:
        word = int.from_bytes(purpose.encode().ljust(16)[:16], "little") % (2**61 - 1)
        return _mixed(self._keys ^ np.uint64(word))


def _mixed(x: Bits) -> Bits:
    """Apply the output step of splitmix64 (Steele, Lea, Flood 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
