"""Source files decoded by TensorFlow, and a check that their pixels equal those of the evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from harness.data.dataset import Split
from harness.data.decode import Kind, Unreadable, kind
from harness.errors import Declined, Refused

SAMPLES = 4
"""Number of images of each kind that are compared with the prepared ones."""
TOLERANCE = 16
"""Maximum difference, in levels of 255, of 99 % of the values. TensorFlow's JPEG decoder and resizing differ from
Pillow's by 3 levels at most; a wrong orientation, palette, inversion or bit depth gives a difference of 60 or more."""


class Sources(NamedTuple):
    """The source file of each sample of a split, and its orientation as in EXIF."""

    paths: list[str]
    orientations: list[int]


def sources(split: Split) -> Sources | None:
    """Return the source files of a split, or None if it has none.

    Raises `Declined` if TensorFlow cannot read an image or reads other pixels than `harness.data.decode`, and `Refused`
    for a file that changed after it was prepared.
    """
    if split.files is None:
        return None
    paths = [split.files[number] for number in split.ids]
    kinds: dict[Kind, list[int]] = defaultdict(list)
    for position, path in enumerate(paths):
        try:
            kinds[kind(path)].append(position)
        except Unreadable as reason:
            raise Refused(f"{path}: {reason}; the file changed after preparation, run the command again") from reason
    odd = {found: at for found, at in kinds.items() if not _alike(split, found, at)}
    if odd:
        positions = sorted(position for at in odd.values() for position in at)
        stored = sorted({f"{found.format} of mode {found.mode}" for found in odd})
        raise Declined(
            f"TensorFlow reads other pixels than the evaluation from {len(positions)} of {len(paths)} training images "
            f"({', '.join(stored)}), such as {names(paths[p] for p in positions[:3])}; "
            "use --input stream, or convert them to RGB PNG"
        )
    orientation = {position: found.orientation for found, at in kinds.items() for position in at}
    return Sources(paths, [orientation[position] for position in range(len(paths))])


def _alike(split: Split, found: Kind, positions: list[int]) -> bool:
    chosen = {positions[round(place)] for place in np.linspace(0, len(positions) - 1, SAMPLES)}
    numbers = [int(split.ids[position]) for position in sorted(chosen)]
    files = split.files or ()
    return all(_difference(files[n], np.asarray(split.images[n]), found.orientation) <= TOLERANCE for n in numbers)


def _difference(path: str, prepared: NDArray[np.uint8], orientation: int) -> float:
    # The maximum difference of 99 % of the values, in levels of 255; infinite if TensorFlow cannot read the file.
    try:
        read = decoded(path, orientation, len(prepared)).numpy()
    except tf.errors.InvalidArgumentError:
        return float("inf")
    return float(np.percentile(np.abs(read.astype(int) - prepared), 99))


def unreadable(found: Sources, side: int) -> list[str]:
    """Decode each file alone and return the files that TensorFlow cannot decode."""
    tried = zip(found.paths, found.orientations, strict=True)
    blank = np.zeros((side, side, 3), np.uint8)
    return [path for path, orientation in tried if _difference(path, blank, orientation) == float("inf")]


def names(paths: Iterable[str]) -> str:
    """Return folder and name of each file, quoted."""
    return ", ".join(repr("/".join(Path(path).parts[-2:])) for path in paths)


def decoded(path: Any, orientation: Any, side: int, *, turning: bool = True) -> Any:
    """Decode the upright centre square of an image, uint8 [side, side, 3], at the offsets of `harness.data.decode`.

    Without `turning` every orientation must be 1, and the graph has no operations for others.
    """
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    lengths = tf.shape(image)[:2]
    image = tf.image.resize(image, lengths * side // tf.reduce_min(lengths), antialias=True)
    if turning:
        image = _upright(image, orientation)
    start = tf.cast(tf.round(tf.cast(tf.shape(image)[:2] - side, tf.float32) / 2), tf.int32)
    image = tf.slice(image, (start[0], start[1], 0), (side, side, 3))
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)


def _upright(image: Any, orientation: Any) -> Any:
    def mirrored() -> Any:
        return tf.transpose(image, (1, 0, 2))

    turns = [
        lambda: image,
        lambda: tf.reverse(image, (1,)),
        lambda: tf.reverse(image, (0, 1)),
        lambda: tf.reverse(image, (0,)),
        mirrored,
        lambda: tf.reverse(mirrored(), (1,)),
        lambda: tf.reverse(mirrored(), (0, 1)),
        lambda: tf.reverse(mirrored(), (0,)),
    ]
    return tf.switch_case(tf.convert_to_tensor(orientation) - 1, turns)
