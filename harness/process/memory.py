"""Memory that the process frees: returned to the system, or kept for the next step."""

from __future__ import annotations

import ctypes
import platform

from harness.errors import Declined

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, from its `malloc.h`."""


def cannot_keep_memory() -> str | None:
    """Return why freed memory cannot be kept on this system, or None."""
    if platform.libc_ver()[0] != "glibc":
        return "only the allocator of glibc (Linux) can be told to keep freed memory; leave out --keep-memory"
    return None


def keep_freed_memory() -> None:
    """Keep all memory that this process frees from now on, until its end. Raises `Declined` if that is refused.

    Without it, glibc takes a large array from the system and returns it when it is freed, so every step pays for new
    pages (https://man7.org/linux/man-pages/man3/mallopt.3.html). No number changes. A worker that is not measured keeps
    memory from its start, with its child processes, by variables of its environment (`environment.UNMEASURED`).
    """
    mallopt = ctypes.CDLL(None).mallopt
    # Never a mapping of its own for a large array, and never a trimmed heap.
    if not (mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, -1)):
        raise Declined("the allocator of this system refuses to keep freed memory; leave out --keep-memory")
