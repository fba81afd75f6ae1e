"""The native pipeline of PyTorch: torchvision's transforms and torch's DataLoader."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2

from harness.data.augment import complete
from harness.data.dataset import Split
from harness.data.decode import JpegDecoder, Kind, Unreadable, kind, read
from harness.data.feed import Feed
from harness.errors import Declined, Refused
from harness.spec import Augmentation, Decoder

Transform = Callable[[Any], torch.Tensor]
SAMPLES = 4
"""Number of files of each kind whose pixels are compared before another decoder is used."""


def pipeline(feed: Feed, decoder: Decoder = "pillow", *, pin: bool) -> torch.utils.data.DataLoader[Any]:
    """Return a shuffling loader of (images [n, 3, h, w] float32, labels [n], positions [n]), whole batches only.

    Raises `Declined` if the decoder reads other pixels than Pillow.
    """
    if decoder != "pillow":
        _check_decoder(feed.split, decoder)
    return torch.utils.data.DataLoader(
        _Samples(feed.split, _transform(feed), _JPEG[decoder]),
        batch_size=feed.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=feed.workers,
        persistent_workers=feed.workers > 0,
        pin_memory=pin,
        generator=torch.Generator().manual_seed(feed.seed),
    )


def epoch(loader: torch.utils.data.DataLoader[Any], feed: Feed) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of one epoch; note waiting times and samples in the feed."""
    start = time.perf_counter_ns()
    for images, labels, positions in loader:
        feed.waited_ns += time.perf_counter_ns() - start
        feed.delivered.saw(positions.numpy())
        yield images, labels
        start = time.perf_counter_ns()


class _Samples:
    """The samples of a split: source files, decoded on each access by the harness's reader, or prepared arrays.

    The default loader of torchvision's image folders is not used: it clips 16-bit pixels and ignores the orientation.
    """

    def __init__(self, split: Split, transform: Transform, jpeg: JpegDecoder | None) -> None:
        self._split, self._transform, self._jpeg = split, transform, jpeg
        side = split.images.shape[1]
        self._fit = v2.Compose([v2.Resize(side), v2.CenterCrop(side)])

    def __len__(self) -> int:
        return len(self._split.labels)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, int, int]:
        number = int(self._split.ids[position])
        if self._split.files is None:
            image: Any = Image.fromarray(np.asarray(self._split.images[number]))
        else:
            image = self._fit(_load(self._split.files[number], self._jpeg))
        return self._transform(image), int(self._split.labels[position]), position


def _by_simplejpeg(data: bytes) -> NDArray[np.uint8]:
    import simplejpeg

    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
    return pixels


_JPEG: Mapping[Decoder, JpegDecoder | None] = {"pillow": None, "simplejpeg": _by_simplejpeg}


def _check_decoder(split: Split, decoder: Decoder) -> None:
    """Raise `Declined` if a decoder reads other pixels than Pillow from one of a few files of each kind."""
    if split.files is None:
        raise Declined(f"these images have no files that could be decoded; leave out --decoder {decoder}")
    files: dict[Kind, list[str]] = defaultdict(list)
    for number in split.ids:
        files[kind(split.files[number])].append(split.files[number])
    for alike in files.values():
        for file in alike[:SAMPLES]:
            pixels, found = (np.asarray(_load(file, jpeg), np.int16) for jpeg in (None, _JPEG[decoder]))
            if difference := int(np.abs(found - pixels).max()):
                raise Declined(
                    f"{decoder} reads other pixels than Pillow from {file}, up to {difference} of 255 levels; "
                    "use --decoder pillow"
                )


def _load(file: str, jpeg: JpegDecoder | None) -> Image.Image:
    try:
        return read(file, jpeg).image
    except Unreadable as reason:
        raise Refused(f"{file}: {reason}; the file changed after preparation, run the command again") from reason


def _transform(feed: Feed) -> Transform:
    size, constants = feed.image_size, feed.normalisation
    steps = [v2.ToImage(), *(_step(complete(a), size) for a in feed.augmentations), v2.CenterCrop(size)]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(constants.mean), list(constants.std))]
    composed: Transform = v2.Compose(steps)
    return composed


def _step(augmentation: Augmentation, size: int) -> Any:
    p = augmentation.parameters
    bilinear = v2.InterpolationMode.BILINEAR
    steps: dict[str, Callable[[], Any]] = {
        "random-resized-crop": lambda: v2.RandomResizedCrop(
            size, scale=(p["scale"], 1.0), ratio=(1 / p["ratio"], p["ratio"]), antialias=True
        ),
        "flip": lambda: v2.RandomHorizontalFlip(p["probability"]),
        "rotation": lambda: v2.RandomRotation(p["degrees"], interpolation=bilinear),
        "shear": lambda: v2.RandomAffine(0, shear=p["degrees"], interpolation=bilinear),
        "centre-crop": lambda: v2.CenterCrop(size),
    }
    return steps[augmentation.name]()
