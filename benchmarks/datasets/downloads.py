"""Files from the network: downloaded once into the cache, atomically, and checked against a digest.

FINETUNE_BENCH_MIRROR, an address such as http://127.0.0.1:8080, replaces the scheme and host of every http address.
It changes neither the recorded origin of a file nor its digest.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import msgspec

from benchmarks.datasets.cache import cache_folder, made_once, writable
from harness.errors import Declined, Refused

MIRROR = "FINETUNE_BENCH_MIRROR"
_TIMEOUT_S = 30
_ATTEMPTS = 2


class WantedFile(NamedTuple):
    """A file to download. `digest` is that of the publisher, or its first digits.

    Without it, the digest of the first download is kept in the file `record`. `what` is its name in messages,
    `file_name` its name in the cache.
    """

    what: str
    url: str
    file_name: str
    record: str
    digest: str = ""
    kind: Literal["SHA-1", "SHA-256"] = "SHA-256"


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the cache, its complete digest, and a text about the digest and its origin."""

    path: str
    digest: str
    provenance: str


def fetch(wanted: WantedFile, cache: str | Path | None = None) -> Fetched:
    """Download a file unless it is in the cache, and check its digest.

    Raises `Declined` with address, digest and path if it cannot be downloaded. Raises `Refused` for another digest; a
    new download is then deleted.
    """
    folder = cache_folder(cache) / "downloads"
    file = made_once(folder / wanted.file_name, lambda partial: _download(wanted, folder, partial))
    found = _digest(file, wanted.kind)
    if problem := _problem(wanted, folder, found):
        raise Refused(f"{file} has the {problem}; remove the file to download it again")
    return Fetched(path=str(file), digest=found, provenance=f"{wanted.kind} {found}, {_origin(wanted, folder)}")


def remember(wanted: WantedFile, digest: str, cache: str | Path | None = None) -> None:
    """Record the digest of a valid first download, for later downloads. `clear_cache` does not remove it."""
    record = cache_folder(cache) / "downloads" / wanted.record
    if not wanted.digest and not record.exists():
        with writable(record.parent):
            record.write_bytes(msgspec.json.encode({"sha256": digest, "day": _today()}))


def mirrored(url: str) -> str:
    """Return the address with the mirror. Raises `Refused` if FINETUNE_BENCH_MIRROR is not an http address."""
    mirror = os.environ.get(MIRROR)
    if not mirror or urlsplit(url).scheme not in ("http", "https"):
        return url
    parts = urlsplit(mirror)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Refused(f"{MIRROR}={mirror} is not an address such as http://127.0.0.1:8080; change or unset it")
    return mirror.rstrip("/") + urlsplit(url)._replace(scheme="", netloc="").geturl()


def _download(wanted: WantedFile, folder: Path, partial: Path) -> None:
    from requests import RequestException

    address = mirrored(wanted.url)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _transfer(address, partial)
        except (RequestException, FileNotFoundError) as error:
            cause = _cause(error)
            if attempt == _ATTEMPTS:
                mirror = f" from {os.environ[MIRROR]}" if address != wanted.url else ""
                raise Declined(
                    f"{wanted.what} cannot be downloaded{mirror} ({cause}); download "
                    f"{wanted.url} ({_expected(wanted, folder)}) and put it at {folder / wanted.file_name}"
                ) from error
        else:
            break
    if problem := _problem(wanted, folder, _digest(partial, wanted.kind)):
        raise Refused(
            f"the file from {address} has the {problem} and was deleted; "
            f"put the right file at {folder / wanted.file_name}"
        )


def _transfer(address: str, place: Path) -> None:
    import pooch

    if address.startswith("file:"):  # pooch does not read these
        shutil.copyfile(url2pathname(urlsplit(address).path), place)
        return
    # Some hosts refuse the library's user agent. The digest is that of the file without transfer compression.
    headers = {"User-Agent": "finetune-bench", "Accept-Encoding": "identity"}
    pooch.HTTPDownloader(chunk_size=2**20, timeout=_TIMEOUT_S, headers=headers)(address, str(place), None)


def _cause(error: BaseException) -> str:
    """Return why a download failed, as the server or the system says it."""
    from requests import RequestException
    from urllib3.exceptions import IncompleteRead

    if isinstance(error, RequestException) and error.response is not None:
        error.response.close()  # release the connection
        return str(error.response.reason)
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, IncompleteRead) and error.expected is not None:
        return f"the download stopped at {error.partial} of {error.partial + error.expected} bytes"
    return str(error)


def _digest(file: Path, kind: str) -> str:
    import pooch

    return str(pooch.file_hash(str(file), kind.replace("-", "").lower()))


def _problem(wanted: WantedFile, folder: Path, found: str) -> str:
    expected, _ = _known(wanted, folder)
    if found.startswith(expected):
        return ""
    ending = "" if len(expected) == len(found) else "…"
    return f"{wanted.kind} {found}, not {expected}{ending} ({_origin(wanted, folder)})"


def _expected(wanted: WantedFile, folder: Path) -> str:
    expected, _ = _known(wanted, folder)
    whole = len(expected) == (64 if wanted.kind == "SHA-256" else 40)
    return f"{wanted.kind} {expected}{'' if whole else '…'}" if expected else "no digest is published"


def _origin(wanted: WantedFile, folder: Path) -> str:
    if wanted.digest:
        return "published"
    return f"recorded at the first download, {_known(wanted, folder)[1]}; none is published"


def _known(wanted: WantedFile, folder: Path) -> tuple[str, str]:
    record = folder / wanted.record
    if wanted.digest or not record.exists():
        return wanted.digest, _today()
    first = msgspec.json.decode(record.read_bytes(), type=dict[str, str])
    return first["sha256"], first["day"]


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
