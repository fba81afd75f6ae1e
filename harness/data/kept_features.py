"""Outputs of the fixed part of a network, kept by the pixels that they belong to, so that each is computed once.

Fixed means that the output depends on the image alone: no weight and no statistic there moves, and nothing is dropped.
An image without augmentation has one view, with `flip` two, and with random crops one for each epoch.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.errors import Declined, Refused
from harness.spec import Frozen
from harness.whole_files import remove, written_whole

LIMIT_BYTES = 2 * 2**30
"""Largest size of the features in memory, and of the files of all networks in one folder."""
_SHARD = ".npz"


class View(NamedTuple):
    """The features of one image as the network sees it, and the seconds that their computation took."""

    features: NDArray[Any]
    seconds: float


class KeptFeatures:
    """The features of images, for one network, batch size and input scaling.

    `compute` maps uint8 images [batch_size, h, w, 3] to features [batch_size, ...] of the first `part` of the network.
    A last batch is padded, because results may depend on the shape of a batch. With a `folder`, features of earlier
    processes are read from it, and `save` writes new ones to it. Times are those of the process that computed them, so
    a figure does not depend on what an earlier process left in the folder. With `warm_up`, the first batch is computed
    twice, and the first time, in which a framework compiles, is not counted.
    """

    def __init__(
        self,
        part: Frozen,
        batch_size: int,
        compute: Callable[[NDArray[np.uint8]], NDArray[Any]],
        folder: Path | None = None,
        now: Callable[[], int] = time.perf_counter_ns,
        *,
        warm_up: bool = False,
    ) -> None:
        self._cold = warm_up
        self.part, self.batch_size = part, batch_size
        self._compute, self._folder, self._now = compute, folder, now
        self._views = dict(_read(folder)) if folder else {}
        self._fresh: set[bytes] = set()
        self._used: set[bytes] = set()
        self.computed_ns = 0
        """Time that this process computed features, in ns."""
        self.views_of_epoch: list[int] = []
        """Number of views that were used for the first time in each epoch."""

    @property
    def views(self) -> int:
        """Number of different views that were used so far."""
        return len(self._used)

    @property
    def reused(self) -> int:
        """Number of these that another process computed."""
        return len(self._used - self._fresh)

    @property
    def seconds(self) -> float:
        """Time to compute all views so far, also those that another process computed."""
        return sum(self._views[name].seconds for name in self._used)

    @property
    def size_bytes(self) -> int:
        """Size of all views so far."""
        return sum(self._views[name].features.nbytes for name in self._used)

    def add(self, groups: Iterable[NDArray[np.uint8]]) -> list[list[bytes]]:
        """Compute the features of those uint8 images [n, h, w, 3] that are new; return the names of all, by group.

        New images of several groups share a batch, so only the last batch is padded. Raises `Declined` if the features
        need too much memory.
        """
        names: list[list[bytes]] = []
        new: dict[bytes, NDArray[np.uint8]] = {}
        for images in groups:
            names.append([hashlib.sha256(np.ascontiguousarray(image).data).digest() for image in images])
            new |= {name: image for name, image in zip(names[-1], images, strict=True) if name not in self._views}
            while len(new) >= self.batch_size:
                self._fill({name: new.pop(name) for name in list(new)[: self.batch_size]})
        if new:
            self._fill(new)
        return names

    def named(self, names: Sequence[bytes]) -> NDArray[Any]:
        """Return the features [n, ...] of images that were added, by their names."""
        return np.stack([self._views[name].features for name in names])

    def count(self, names: Iterable[bytes]) -> None:
        """Count the views of an epoch among those that were used."""
        new = set(names) - self._used
        self.views_of_epoch.append(len(new))
        self._used |= new

    def save(self) -> str:
        """Write the features that this process computed; return why they cannot be written, or an empty string.

        If the folder becomes too large, the features that were used longest ago are removed.
        """
        if self._folder is None or not self._fresh:
            return ""
        try:
            self._write(self._folder)
        except OSError as error:
            return f"kept features were not written to {self._folder}: {error.strerror or error}"
        return ""

    def _write(self, folder: Path) -> None:
        names = sorted(self._fresh)
        arrays = {
            "names": np.frombuffer(b"".join(names), np.uint8).reshape(len(names), -1),
            "features": np.stack([self._views[name].features for name in names]),
            "seconds": np.array([self._views[name].seconds for name in names]),
        }
        folder.mkdir(parents=True, exist_ok=True)
        content = hashlib.sha256(arrays["names"].tobytes()).hexdigest()[:16]
        with written_whole(folder / f"{content}{_SHARD}") as partial, partial.open("xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        _make_room(folder.parent)

    def _fill(self, new: Mapping[bytes, NDArray[np.uint8]]) -> None:
        images = filled(np.stack(list(new.values())), self.batch_size)
        if self._cold:
            self._compute(images)
            self._cold = False
        start = self._now()
        found = self._compute(images)[: len(new)]
        spent = self._now() - start
        self.computed_ns += spent
        if (needed := found[0].nbytes * (len(self._views) + len(new))) > LIMIT_BYTES:
            raise Declined(
                f"the kept features of {len(self._views) + len(new)} views need {needed >> 20} MB, more than "
                f"{LIMIT_BYTES >> 20}; use --features live, fewer epochs or an augmentation with fewer views, as flip"
            )
        for name, features in zip(new, found, strict=True):
            self._views[name] = View(features.copy(), spent / len(new) / 1e9)
        self._fresh.update(new)


def filled(batch: NDArray[Any], size: int) -> NDArray[Any]:
    """Return a batch of at most `size` with its last entry repeated up to `size`: a session gets one shape only."""
    return np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])


def features_folder(root: str | Path, facts: Mapping[str, Any]) -> Path:
    """Return the folder for features with these facts about how they are computed; each other fact has another one."""
    content = msgspec.json.encode(facts, order="deterministic")
    return Path(root) / hashlib.sha256(content).hexdigest()[:24]


def _read(folder: Path) -> Iterator[tuple[bytes, View]]:
    for path in sorted(folder.glob(f"*{_SHARD}")):
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                names, features, seconds = archive["names"], archive["features"], archive["seconds"]
        except FileNotFoundError:  # another process made room
            continue
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise Refused(f"{path} does not hold kept features (it is damaged, or another file); remove it") from error
        os.utime(folder)
        yield from ((bytes(name), View(*row)) for name, *row in zip(names, features, seconds.tolist(), strict=True))


def _make_room(root: Path) -> None:
    """Remove the folders that were used longest ago until the rest is within the limit; the newest one stays."""
    folders = sorted((folder for folder in root.iterdir() if folder.is_dir()), key=lambda one: one.stat().st_mtime)
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in folders]
    total = sum(sizes)
    for folder, size in zip(folders[:-1], sizes, strict=False):
        if total <= LIMIT_BYTES:
            return
        remove(folder)
        total -= size
