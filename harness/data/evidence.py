"""Evidence of what a feed delivered: digests of order, labels and pixels, counts per sample, colours of a batch."""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Split


class FeedEvidence:
    """Evidence about the batches of one stage, collected when they are delivered."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._order, self._labels, self._pixels = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._seen = np.zeros(len(split.labels), dtype=np.int64)
        self._labelled = self._pictured = False
        self.batches = 0
        self.colours: tuple[float, ...] | None = None
        """Mean and standard deviation of each channel of the first batch, as delivered (V26)."""

    def note(self, ids: NDArray[np.int64], labels: NDArray[np.int64]) -> None:
        """Note a delivered batch."""
        self._labelled = True
        self._labels.update(np.ascontiguousarray(labels, np.int64).tobytes())
        self._count(np.searchsorted(self._split.ids, ids), ids)

    def saw(self, positions: NDArray[np.int64]) -> None:
        """Note the samples of the split that a native pipeline delivered (V31)."""
        self._count(positions, self._split.ids[positions])

    def picture(self, images: NDArray[np.float32], layout: Literal["nhwc", "nchw"], *, whole: bool) -> None:
        """Note the colours of the first batch, and with `whole` the digest of every batch."""
        if self.colours is None:
            axes = (0, 1, 2) if layout == "nhwc" else (0, 2, 3)
            wide = images.astype(np.float64)
            self.colours = (*wide.mean(axis=axes).tolist(), *wide.std(axis=axes).tolist())
        if whole:
            self._pictured = True
            last = images if layout == "nhwc" else np.ascontiguousarray(images.transpose(0, 2, 3, 1))
            self._pixels.update(last.data)

    @property
    def order_sha256(self) -> str:
        """Digest of the sequence of sample ids (V24)."""
        return self._order.hexdigest()

    @property
    def labels_sha256(self) -> str | None:
        """Digest of the sequence of labels (V27); None if the harness did not deliver them."""
        return self._labels.hexdigest() if self._labelled else None

    @property
    def pixels_sha256(self) -> str | None:
        """Digest of the batches (V28); None if not all of their pixels were hashed."""
        return self._pixels.hexdigest() if self._pictured else None

    @property
    def samples_seen(self) -> tuple[int, int]:
        """Minimum and maximum number of times that a sample was delivered."""
        return int(self._seen.min()), int(self._seen.max())

    def _count(self, positions: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        self.batches += 1
        np.add.at(self._seen, positions, 1)
        self._order.update(np.ascontiguousarray(ids, np.int64).tobytes())
