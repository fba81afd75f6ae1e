"""Files that are written whole or not at all: under another name first, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial"
"""The ending of a file that is being written; what a killed process left behind has it too."""


@contextlib.contextmanager
def written_whole(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """A place for a file or folder that becomes `path` when the block ends, and is removed when the block raises.

    `partial` is that place where only one process writes at a time; otherwise it is a new name beside `path`.
    """
    place = partial or path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}{PARTIAL}")
    remove(place)
    try:
        yield place
        place.replace(path)
    finally:
        remove(place)


def write_whole(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file whole or not at all; `durable` waits until the disk has it."""
    with written_whole(path) as partial, partial.open("xb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Remove a file or a folder with everything in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
