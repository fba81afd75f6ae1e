"""The wall time of a process by part, and its memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path

from harness.clock import REAL_TIME, TimeSource


class Wall:
    """The wall time of a process since `started` (epoch s), split into parts that do not overlap and add up."""

    def __init__(self, started: float, source: TimeSource = REAL_TIME) -> None:
        self._parts: dict[str, float] = {"start": time.time() - started}
        self._now = source.now
        self._last = self._now()

    def lap(self, part: str) -> float:
        """Add the time since the last lap to `part`; return it in seconds."""
        now = self._now()
        seconds, self._last = (now - self._last) / 1e9, now
        self._parts[part] = self._parts.get(part, 0.0) + seconds
        return seconds

    def split(self, remainder: str, known: Mapping[str, float]) -> None:
        """Add the `known` seconds to their parts, and the rest of the time since the last lap to `remainder`."""
        left = self.lap(remainder)
        for part, seconds in known.items():
            self._parts[part] = self._parts.get(part, 0.0) + seconds
        self._parts[remainder] -= sum(known.values())
        if self._parts[remainder] < -1e-3 * max(1.0, left):
            raise RuntimeError(f"parts of the wall time overlap: {known} in {left:.3f} s")

    def parts(self) -> dict[str, float]:
        """Return the seconds by part."""
        return dict(self._parts)


def private_memory() -> int:
    """Return the current anonymous resident memory in bytes, without mapped files; 0 if not on Linux."""
    return _status("RssAnon")


def peak_memory() -> int:
    """Return the peak resident memory of this process in bytes."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def anonymous_peak() -> int | None:
    """Return the peak resident memory in bytes without mapped files; None if not on Linux.

    The resident size of mapped libraries depends on the kernel's page cache: the same torch, installed in two folders,
    had 312 and 547 MB.
    """
    return (_status("VmHWM") - _status("RssFile")) or None


def _status(field: str) -> int:
    file = Path("/proc/self/status")
    if not file.exists():
        return 0
    return next((int(line.split()[1]) * 1024 for line in file.read_text().splitlines() if line.startswith(field)), 0)
