"""Published archives: fetched once, checked against a digest, and unpacked with care."""

from __future__ import annotations

import hashlib
import shutil
import stat
import urllib.error
import urllib.request
import zipfile
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from benchmarks.datasets.cache import cache_folder, made_once, writable
from harness.errors import Declined, Refused

EXTRACTED_LIMIT = 8 * 2**30
_MEMBER_LIMIT = 500_000
_TIMEOUT_S = 30


class Archive(NamedTuple):
    """A published zip file of an image folder. Without a published `sha1`, the first download's SHA-256 is recorded."""

    url: str
    sha1: str | None = None
    about: str = ""

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[1]


class Fetched(NamedTuple):
    """The unpacked image folder, and one sentence on where it comes from."""

    folder: Path
    origin: str


def fetch(name: str, archive: Archive, cache: str | Path | None = None) -> Fetched:
    """Download an archive unless it lies in the cache, check its digest, and unpack it once.

    Raises `Declined` with the place for the file where it cannot be downloaded, `Refused` for a file of another digest
    or with a member that would be written outside, is a link, or is larger than reasonable.
    """
    downloads = cache_folder(cache) / "downloads"
    file = made_once(downloads / archive.file_name, lambda place: _download(name, archive, downloads, place))
    digest, how = _checked(name, archive, file)
    folder = made_once(downloads / f"{name}-{digest[:16]}", lambda place: _unpack(file, place))
    visible = [p for p in folder.iterdir() if not p.name.startswith(".")]
    only = visible[0] if len(visible) == 1 and visible[0].is_dir() else folder
    return Fetched(only, f"{archive.url} ({how})")


def _download(name: str, archive: Archive, downloads: Path, place: Path) -> None:
    try:
        with urllib.request.urlopen(archive.url, timeout=_TIMEOUT_S) as answer, place.open("wb") as file:
            shutil.copyfileobj(answer, file)
            wanted = answer.headers.get("Content-Length")
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Declined(
            f"dataset {name} cannot be downloaded ({reason}); fetch {archive.url} and put it at "
            f"{downloads / archive.file_name}"
        ) from error
    if wanted is not None and place.stat().st_size != int(wanted):
        raise Declined(
            f"the download of {archive.url} broke off at {place.stat().st_size} of {wanted} bytes; try again"
        )


def _checked(name: str, archive: Archive, file: Path) -> tuple[str, str]:
    with file.open("rb") as stream:
        if archive.sha1 is not None:
            digest, kind, wanted, how = (
                hashlib.file_digest(stream, "sha1").hexdigest(),
                "SHA-1",
                archive.sha1,
                "published",
            )
        else:
            digest, kind = hashlib.file_digest(stream, "sha256").hexdigest(), "SHA-256"
            wanted, day = _recorded(file.with_name(f"{name}.sha256.json"), digest)
            how = f"recorded at the first download, {day}; none is published"
    if digest != wanted:
        raise Refused(f"{file} has the {kind} {digest}, not {wanted} ({how}); remove the file to fetch it again")
    return digest, f"{kind} {digest}, {how}"


def _recorded(record: Path, digest: str) -> tuple[str, str]:
    """The digest of the first download and its day. `clear_cache` leaves it, so that a later download is held to it."""
    with writable(record.parent):
        if not record.exists():
            day = datetime.now(UTC).date().isoformat()
            record.write_bytes(msgspec.json.encode({"sha256": digest, "day": day}))
    first = msgspec.json.decode(record.read_bytes(), type=dict[str, str])
    return first["sha256"], first["day"]


def _unpack(file: Path, place: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if not m.filename.startswith("__MACOSX/")]
            _refuse_members(file, members)
            place.mkdir()
            for member in members:
                archive.extract(member, place)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise Refused(f"{file} is no sound zip file ({error}); remove it to fetch it again") from error


def _refuse_members(file: Path, members: list[zipfile.ZipInfo]) -> None:
    size = sum(member.file_size for member in members)
    if size > EXTRACTED_LIMIT or len(members) > _MEMBER_LIMIT:
        raise Refused(f"{file} would unpack to {size} bytes in {len(members)} files; that is no image set")
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or stat.S_ISLNK(member.external_attr >> 16):
            raise Refused(f"{file} holds {member.filename!r}, which leads outside or is a link; nothing was unpacked")
