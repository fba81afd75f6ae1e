"""Published archives: downloaded once, checked against a digest, and unpacked safely."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from benchmarks.datasets import downloads
from benchmarks.datasets.cache import cache_folder, made_once
from benchmarks.datasets.downloads import WantedFile
from harness.errors import Refused

EXTRACTED_LIMIT = 8 * 2**30
_MEMBER_LIMIT = 500_000


class Archive(NamedTuple):
    """A published zip file of an image folder. Without a `sha1`, the SHA-256 of the first download is recorded."""

    url: str
    sha1: str | None = None
    about: str = ""

    @property
    def file_name(self) -> str:
        """Its name, the last part of the URL."""
        return self.url.rsplit("/", 1)[1]


class UnpackedArchive(NamedTuple):
    """The unpacked image folder, and its origin as text."""

    folder: Path
    origin: str


def fetch(name: str, archive: Archive, cache: str | Path | None = None) -> UnpackedArchive:
    """Download an archive unless the cache has it, check its digest, and unpack it once.

    Raises `Declined` with the path for the file if it cannot be downloaded, and `Refused` for a file with another
    digest, with a link, with a path outside, or with too much content.
    """
    wanted = WantedFile(
        what=f"dataset {name}",
        url=archive.url,
        file_name=archive.file_name,
        record=f"{name}.sha256.json",
        digest=archive.sha1 or "",
        kind="SHA-1" if archive.sha1 else "SHA-256",
    )
    fetched = downloads.fetch(wanted, cache)
    place = cache_folder(cache) / "downloads" / f"{name}-{fetched.digest[:16]}"
    folder = made_once(place, lambda partial: _unpack(Path(fetched.path), partial))
    downloads.remember(wanted, fetched.digest, cache)
    visible = [p for p in folder.iterdir() if not p.name.startswith(".")]
    only = visible[0] if len(visible) == 1 and visible[0].is_dir() else folder
    return UnpackedArchive(only, f"{archive.url} ({fetched.provenance})")


def _unpack(file: Path, place: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if not m.filename.startswith("__MACOSX/")]
            _refuse_members(file, members)
            place.mkdir()
            for member in members:
                archive.extract(member, place)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Refused(f"{file} is not a valid zip file ({error}); remove it to download it again") from error


def _refuse_members(file: Path, members: list[zipfile.ZipInfo]) -> None:
    size = sum(member.file_size for member in members)
    if size > EXTRACTED_LIMIT or len(members) > _MEMBER_LIMIT:
        raise Refused(f"{file} would unpack to {size} bytes in {len(members)} files, which is too much")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise Refused(f"{file}: {member.filename!r} is a link or a path outside the folder; nothing was unpacked")
