"""Atomic writes: a file is written under another name and then renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
"""Extension of a file that is being written, also after its process was killed."""


@contextlib.contextmanager
def written_whole(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends, and is removed when the block raises.

    The temporary path is `partial` (if only one process writes at a time) or a new name in the folder of `path`.
    """
    place = partial or path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}{PARTIAL}")
    remove(place)
    try:
        yield place
        place.replace(path)
    finally:
        remove(place)


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file atomically; `durable` waits until it is on the disk."""
    with written_whole(path) as partial, partial.open("xb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
