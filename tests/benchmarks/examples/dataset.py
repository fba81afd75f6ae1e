"""A plugin that brings a dataset: bright and dark noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def light() -> tuple[tuple[str, ...], dict[str, Split]]:
    """Class names, and per split images uint8 [n, side, side, 3] with labels [n]."""
    return ("dark", "bright"), {split: _made(seed, n) for seed, (split, n) in enumerate([("train", 48), ("val", 12)])}


def _made(seed: int, count: int) -> Split:
    labels = np.arange(count) % 2
    images = np.random.default_rng(seed).integers(0, 128, (count, 32, 32, 3)) + 100 * labels[:, None, None, None]
    return images.astype(np.uint8), labels.astype(np.int64)


DATASETS = {"light": light}
