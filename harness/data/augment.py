"""The augmentations of the harness, by name.

The random numbers of a sample depend only on (seed, epoch, sample id, position of the augmentation), through Philox
counters. Pillow resamples bilinearly; pixels from outside the image are black, as in torchvision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import Refused, each_once, unknown
from harness.spec import Augmentation

Augment = Callable[[NDArray[np.uint8], int, int, int, int], NDArray[np.uint8]]
"""(image [side, side, 3], seed, epoch, sample id, image_size) to uint8 [image_size, image_size, 3]; may be a view."""

Uniforms = NDArray[np.float64]
_Step = Callable[[NDArray[np.uint8], Uniforms, int], NDArray[np.uint8]]

_DRAWS = 40
"""Random numbers in [0, 1) reserved for each augmentation of a sample: a random crop makes ten attempts of four."""


def compose(augmentations: tuple[Augmentation, ...]) -> Augment:
    """Return a function that applies the augmentations in order, then the centre crop of `image_size`.

    Raises `Refused` for an unknown name or parameter, or a parameter out of its range.
    """
    steps = [_KINDS[a.name].make(complete(a).parameters) for a in augmentations if _known(a)]
    views = _views(augmentations)
    if all(_KINDS[a.name].draws == 0 for a in augmentations):
        return lambda image, seed, epoch, sample, size: centre_crop(image, size)
    total = _DRAWS * len(steps)

    def apply(image: NDArray[np.uint8], seed: int, epoch: int, sample: int, size: int) -> NDArray[np.uint8]:
        epoch = epoch if views is None else epoch % views
        # The second word of the key is 0 for the order of an epoch (see Feed.order), so the streams never meet.
        raw = np.random.Philox(key=(seed, epoch + 1), counter=(0, 0, 0, sample)).random_raw(total)
        uniforms: Uniforms = np.ldexp(raw >> np.uint64(11), -53)
        for place, step in enumerate(steps):
            image = step(image, uniforms[place * _DRAWS : (place + 1) * _DRAWS], size)
        return centre_crop(image, size)

    return apply


def view_count(augmentations: tuple[Augmentation, ...]) -> float:
    """Return the number of different views of an image over all epochs; infinite for random crops and rotations.

    >>> view_count(()), view_count(parse_augment("flip")), view_count(parse_augment("rotation,views:count=3"))
    (1, 2, 3)
    """
    drawing = [a.name for a in augmentations if _KINDS[a.name].draws]
    different = 1 if not drawing else 2 if drawing == ["flip"] else math.inf
    return min(different, _views(augmentations) or math.inf)


def views_of(augmentations: tuple[Augmentation, ...]) -> Callable[[int, int, int], Hashable]:
    """Return a function of (seed, epoch, sample id) that names the view of a sample without making it.

    With one seed, a sample has the same pixels in all epochs in which it has the same view.

    >>> view = views_of(parse_augment("rotation,views:count=2"))
    >>> [view(0, epoch, 7) for epoch in range(4)]
    [0, 1, 0, 1]
    """
    if count := _views(augmentations):
        return lambda seed, epoch, sample: epoch % count
    if math.isinf(view_count(augmentations)):
        return lambda seed, epoch, sample: epoch
    # At most flipped, so a tiny picture shows it.
    apply, pixels = compose(augmentations), np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    return lambda seed, epoch, sample: apply(pixels, seed, epoch, sample, 2).tobytes()


def _views(augmentations: tuple[Augmentation, ...]) -> int | None:
    return next((int(complete(a).parameters["count"]) for a in augmentations if a.name == "views"), None)


def centre_crop(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the centre of one image [h, w, 3] or a batch [n, h, w, 3], as a view. Raise `Refused` if it is smaller."""
    height, width = images.shape[-3:-1]
    if size > min(height, width):
        raise Refused(f"images of {width}x{height} are smaller than --image-size {size}; prepare the data at that size")
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size, :]


def complete(augmentation: Augmentation) -> Augmentation:
    """Return the same augmentation with the value of every parameter. Raise `Refused` as `compose` does.

    >>> complete(Augmentation(name="flip")).parameters
    {'probability': 0.5}
    """
    _known(augmentation)
    limits = _KINDS[augmentation.name].parameters
    for name, value in augmentation.parameters.items():
        if name not in limits:
            raise Refused(f"augmentation {augmentation.name}: {unknown('parameter', name, limits)}")
        low, high = limits[name].low, limits[name].high
        if not low <= value <= high:
            raise Refused(f"augmentation {augmentation.name}: {name}={value:g} is not between {low:g} and {high:g}")
    values = {name: float(augmentation.parameters.get(name, limit.default)) for name, limit in limits.items()}
    return Augmentation(name=augmentation.name, parameters=values)


def parse_augment(text: str) -> tuple[Augmentation, ...]:
    """Parse `NAME[:PARAMETER=VALUE…][,NAME…]` or `none`; missing parameters get their defaults.

    >>> [a.name for a in parse_augment("random-resized-crop:scale=0.5:ratio=1.5,flip")]
    ['random-resized-crop', 'flip']
    >>> format_augment(parse_augment("random-resized-crop:scale=0.5:ratio=1.5,flip"))
    'random-resized-crop:scale=0.5:ratio=1.5,flip'
    >>> parse_augment("none")
    ()
    """
    if text.strip() in ("", "none"):
        return ()
    return tuple(complete(_parse_one(item)) for item in text.split(","))


def _parse_one(item: str) -> Augmentation:
    name, *pairs = (part.strip() for part in item.split(":"))

    def read(pair: str) -> tuple[str, float]:
        parameter, _, value = pair.partition("=")
        try:
            return parameter.strip(), float(value)
        except ValueError:
            message = f"{pair!r} is not PARAMETER=NUMBER, as in flip:probability=0.5"
            raise Refused(f"augmentation {name}: {message}") from None

    return Augmentation(name=name, parameters=each_once(f"augmentation {name}: a number", map(read, pairs)))


def format_augment(augmentations: Iterable[Augmentation]) -> str:
    """Return the text that `parse_augment` reads, without parameters that have their default.

    >>> format_augment([]), format_augment([Augmentation(name="rotation", parameters={"degrees": 15.0})])
    ('none', 'rotation:degrees=15')
    """
    items = []
    for augmentation in augmentations:
        limits = _KINDS[augmentation.name].parameters if _known(augmentation) else {}
        values = complete(augmentation).parameters
        pairs = [f":{k}={repr(v).removesuffix('.0')}" for k, v in values.items() if v != limits[k].default]
        items.append(augmentation.name + "".join(pairs))
    return ",".join(items) or "none"


def _known(augmentation: Augmentation) -> bool:
    if augmentation.name not in _KINDS:
        raise Refused(unknown("augmentation", augmentation.name, (*_KINDS, "none")))
    return True


def _crop(parameters: dict[str, float]) -> _Step:
    from PIL import Image

    smallest, ratio = parameters["scale"], math.log(parameters["ratio"])

    def random_resized_crop(image: NDArray[np.uint8], uniforms: Uniforms, size: int) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        left, top, w, h = 0, 0, width, height
        for share, aspect, x, y in uniforms.reshape(-1, 4).tolist():
            area = (smallest + (1 - smallest) * share) * height * width
            stretch = math.exp(ratio * (2 * aspect - 1))
            tried_w, tried_h = round(math.sqrt(area * stretch)), round(math.sqrt(area / stretch))
            if 0 < tried_w <= width and 0 < tried_h <= height:
                w, h = tried_w, tried_h
                left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
                break
        box = (left, top, left + w, top + h)
        return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=box))

    return random_resized_crop


def _flip(parameters: dict[str, float]) -> _Step:
    probability = parameters["probability"]
    return lambda image, uniforms, size: image[:, ::-1] if uniforms[0] < probability else image


def _rotation(parameters: dict[str, float]) -> _Step:
    from PIL import Image

    degrees = parameters["degrees"]

    def rotation(image: NDArray[np.uint8], uniforms: Uniforms, size: int) -> NDArray[np.uint8]:
        angle = degrees * (2 * float(uniforms[0]) - 1)
        return np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR, fillcolor=(0, 0, 0)))

    return rotation


def _shear(parameters: dict[str, float]) -> _Step:
    from PIL import Image

    degrees = parameters["degrees"]

    def shear(image: NDArray[np.uint8], uniforms: Uniforms, size: int) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        slope = math.tan(math.radians(degrees * (2 * float(uniforms[0]) - 1)))
        matrix = (1.0, slope, -slope * height / 2, 0.0, 1.0, 0.0)
        picture = Image.fromarray(image).transform(
            (width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=(0, 0, 0)
        )
        return np.asarray(picture)

    return shear


class _Limit(NamedTuple):
    default: float
    low: float
    high: float


class _Kind(NamedTuple):
    make: Callable[[dict[str, float]], _Step]
    parameters: dict[str, _Limit]
    about: str
    draws: int = _DRAWS


_KINDS = {
    "random-resized-crop": _Kind(
        _crop,
        {"scale": _Limit(0.08, 0.001, 1.0), "ratio": _Limit(4 / 3, 1.0, 10.0)},
        "a box of `scale` to 1 of the area, width / height from 1/`ratio` to `ratio`, resized to the image size",
    ),
    "flip": _Kind(_flip, {"probability": _Limit(0.5, 0.0, 1.0)}, "left and right exchanged with this probability"),
    "rotation": _Kind(_rotation, {"degrees": _Limit(10.0, 0.0, 180.0)}, "rotated by up to `degrees` either way"),
    "shear": _Kind(_shear, {"degrees": _Limit(10.0, 0.0, 80.0)}, "sheared sideways by up to `degrees` either way"),
    "centre-crop": _Kind(lambda _: lambda image, uniforms, size: centre_crop(image, size), {}, "the centre", draws=0),
    "views": _Kind(
        lambda _: lambda image, uniforms, size: image,
        {"count": _Limit(4, 1, 1000)},
        "another recipe: only `count` different views of each image, in turn, so that kept features are soon complete",
        draws=0,
    ),
}

AUGMENTATIONS = {name: kind.about for name, kind in _KINDS.items()}
"""Every augmentation with a one-line description."""
