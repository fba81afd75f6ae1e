"""Where a process's time went, and how much memory it took."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path

from harness.clock import REAL_TIME, TimeSource


class Wall:
    """Splits the life of a process into parts that do not overlap and add up, beginning at `started` (epoch s)."""

    def __init__(self, started: float, source: TimeSource = REAL_TIME) -> None:
        self._parts: dict[str, float] = {"start": time.time() - started}
        self._now = source.now
        self._last = self._now()

    def lap(self, part: str) -> float:
        """Book the time since the last lap on `part`; returns it in seconds."""
        now = self._now()
        seconds, self._last = (now - self._last) / 1e9, now
        self._parts[part] = self._parts.get(part, 0.0) + seconds
        return seconds

    def split(self, remainder: str, known: Mapping[str, float]) -> None:
        """Book the time since the last lap on several parts, in seconds, and what is left of it on `remainder`."""
        left = self.lap(remainder)
        for part, seconds in known.items():
            self._parts[part] = self._parts.get(part, 0.0) + seconds
        self._parts[remainder] -= sum(known.values())
        if self._parts[remainder] < -1e-3 * max(1.0, left):
            raise RuntimeError(f"parts of the wall overlap: {known} in {left:.3f} s")

    def parts(self) -> dict[str, float]:
        """Seconds by part."""
        return dict(self._parts)


def private_memory() -> int:
    """Bytes of anonymous resident memory now: what mapped files do not count towards; 0 where Linux is not there."""
    return _status("RssAnon")


def peak_memory() -> int:
    """Peak resident bytes of this process."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def anonymous_peak() -> int | None:
    """Peak resident bytes without those of mapped files; None where Linux is not there.

    How many pages of its libraries a process is charged with depends on how the kernel happens to have cached the
    files: the same torch, installed in two folders, was seen with 312 and 547 MB of them.
    """
    return (_status("VmHWM") - _status("RssFile")) or None


def _status(field: str) -> int:
    file = Path("/proc/self/status")
    if not file.exists():
        return 0
    return next((int(line.split()[1]) * 1024 for line in file.read_text().splitlines() if line.startswith(field)), 0)
