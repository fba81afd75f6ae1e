"""Files that travel to a node: found by the digest of their content, and fetched once per node."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.datasets.cache import cache_folder, made_once
from harness.errors import Refused


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder of the driver: its name, and the SHA-256 of its packed content."""

    name: str
    sha256: str


def pack(path: Path) -> bytes:
    """Return a file, or a folder with its files, as a tar archive that depends only on names and bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(one for one in (path, *path.rglob("*")) if one.is_file()):
            entry = tarfile.TarInfo((Path(path.name) / file.relative_to(path)).as_posix())
            entry.size = file.stat().st_size
            with file.open("rb") as stream:
                archive.addfile(entry, stream)
    return buffer.getvalue()


def parcel_of(path: Path, packed: bytes) -> Parcel:
    """Return the parcel of a path and its packed content."""
    return Parcel(name=path.name, sha256=hashlib.sha256(packed).hexdigest())


def unpacked(parcel: Parcel, fetch: Callable[[str], bytes], cache: Path | None = None) -> Path:
    """Return the path of a parcel's file or folder on this node; `fetch(sha256)` is called only if the node lacks it.

    Raises `Refused` if the cache cannot be written, its disk is full, or the content has another digest.
    """

    def make(partial: Path) -> None:
        packed = fetch(parcel.sha256)
        if hashlib.sha256(packed).hexdigest() != parcel.sha256:
            raise Refused(f"{parcel.name} arrived with another digest than {parcel.sha256[:12]}; run it again")
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(partial, filter="data")

    return made_once(cache_folder(cache) / "content" / parcel.sha256, make) / parcel.name
