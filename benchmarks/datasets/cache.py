"""The cache on disk: datasets, checkpoints, environments and more. One process makes each entry, atomically."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import FileLock, Timeout

from harness.errors import Refused
from harness.whole_files import PARTIAL, remove, written_whole

ENVIRONMENT = "FINETUNE_BENCH_CACHE"
KINDS = (
    "datasets", "downloads", "checkpoints", "features", "revisions", "environments", "scripts", "content", "base-runs"
)  # fmt: skip
_MARKS = (".lock", PARTIAL, ".sha256.json")


class CacheEntry(NamedTuple):
    """One entry of the cache: its kind, name, path, size, and the time of its last use."""

    kind: str
    name: str
    path: Path
    size_bytes: int
    last_used: datetime


def cache_folder(cache: str | Path | None = None) -> Path:
    """Return the folder given, that of FINETUNE_BENCH_CACHE, or the user's cache folder, without creating it."""
    chosen = cache or os.environ.get(ENVIRONMENT) or platformdirs.user_cache_dir("finetune-bench")
    return Path(chosen).expanduser().absolute()


def made_once(entry: Path, make: Callable[[Path], None]) -> Path:
    """Return the path of the entry; if it does not exist, call `make(temporary path)`, and other processes wait.

    If `make` raises, nothing remains. Raises `Refused` if the cache cannot be written or the disk is full.
    """
    if not entry.exists():
        with writable(entry.parent), FileLock(_beside(entry, ".lock")):
            if not entry.exists():
                with written_whole(entry, _beside(entry, PARTIAL)) as partial:
                    make(partial)
    with contextlib.suppress(PermissionError):
        os.utime(entry)
    return entry


@contextlib.contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Create the folder; raise `Refused` if it cannot be written or its disk is full inside the block."""
    elsewhere = f"set {ENVIRONMENT} to another folder"
    remedies = {
        errno.ENOSPC: "the disk is full; free some space",
        errno.EDQUOT: "the disk quota is used up; free some space",
        **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), f"it cannot be written; {elsewhere}"),
        **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), f"it is not a folder; {elsewhere}"),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in remedies:
            raise
        raise Refused(f"cache folder {folder}: {remedies[error.errno]}") from error


def cache_entries(cache: str | Path | None = None) -> list[CacheEntry]:
    """Return all entries of the cache, by kind and name."""
    entries = []
    for kind in KINDS:
        folder = cache_folder(cache) / kind
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if not path.name.endswith(_MARKS):
                used = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                entries.append(CacheEntry(kind, path.name, path, _size(path), used))
    return entries


def clear_cache(cache: str | Path | None = None, kinds: Collection[str] = KINDS) -> list[CacheEntry]:
    """Remove the entries, except those that another process is making now; return the removed entries.

    The recorded digests of first downloads remain.
    """
    removed = []
    for entry in cache_entries(cache):
        if entry.kind in kinds:
            with contextlib.suppress(Timeout), FileLock(_beside(entry.path, ".lock"), blocking=False):
                remove(entry.path)
                removed.append(entry)
    return removed


def _beside(entry: Path, mark: str) -> Path:
    return entry.with_name(entry.name + mark)


def _size(path: Path) -> int:
    return sum(p.lstat().st_size for p in (path, *path.rglob("*")) if not p.is_dir())
