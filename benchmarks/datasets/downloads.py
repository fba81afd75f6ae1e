"""Files from the network: fetched once into the cache, whole or not at all, and held against a digest.

FINETUNE_BENCH_MIRROR, an address such as http://127.0.0.1:8080, takes the place of the scheme and host of every http
address. Where a file is from, what is written about it and its digest do not change by that.
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
    """A file to fetch. `digest` is the publisher's, or its first digits; without one, the first download's counts.

    `what` names it in messages, `file_name` in the cache, and `record` is where a first download's digest is kept.
    """

    what: str
    url: str
    file_name: str
    record: str
    digest: str = ""
    kind: Literal["SHA-1", "SHA-256"] = "SHA-256"


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the cache, its whole digest, and the digest with where it is known from, for people."""

    path: str
    digest: str
    said: str


def fetch(wanted: WantedFile, cache: str | Path | None = None) -> Fetched:
    """Download a file unless it is in the cache, and check its digest.

    Raises `Declined` with address, digest and place where it cannot be downloaded, and `Refused` for another digest: a
    download is not kept then, and a file that was in the cache is named.
    """
    folder = cache_folder(cache) / "downloads"
    file = made_once(folder / wanted.file_name, lambda partial: _download(wanted, folder, partial))
    found = _digest(file, wanted.kind)
    if not (problem := _problem(wanted, folder, found)):
        return Fetched(path=str(file), digest=found, said=f"{wanted.kind} {found}, {_origin(wanted, folder)}")
    raise Refused(f"{file} has the {problem}; remove the file to fetch it again")


def remember(wanted: WantedFile, digest: str, cache: str | Path | None = None) -> None:
    """Hold later downloads of a file without a published digest to this one, once the file proved to be sound.

    `clear_cache` leaves the record.
    """
    record = cache_folder(cache) / "downloads" / wanted.record
    if not wanted.digest and not record.exists():
        with writable(record.parent):
            record.write_bytes(msgspec.json.encode({"sha256": digest, "day": _today()}))


def mirrored(url: str) -> str:
    """The address to ask for a file. Raises `Refused` if FINETUNE_BENCH_MIRROR is not an http address."""
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
                by_mirror = f" from {os.environ[MIRROR]}" if address != wanted.url else ""
                raise Declined(
                    f"{wanted.what} cannot be downloaded{by_mirror} ({cause}); fetch "
                    f"{wanted.url} ({_expected(wanted, folder)}) and put it at {folder / wanted.file_name}"
                ) from error
        else:
            break
    if problem := _problem(wanted, folder, _digest(partial, wanted.kind)):
        raise Refused(
            f"{address} delivered a file with the {problem}, which was not kept; "
            f"put the right file at {folder / wanted.file_name}"
        )


def _transfer(address: str, place: Path) -> None:
    import pooch

    if address.startswith("file:"):  # which pooch does not take
        shutil.copyfile(url2pathname(urlsplit(address).path), place)
        return
    # Some hosts refuse the library's own name; a digest is that of the file as it is, not unpacked on the way.
    headers = {"User-Agent": "finetune-bench", "Accept-Encoding": "identity"}
    pooch.HTTPDownloader(chunk_size=2**20, timeout=_TIMEOUT_S, headers=headers)(address, str(place), None)


def _cause(error: BaseException) -> str:
    """Why a download failed, in the words of the server or the system."""
    from requests import RequestException
    from urllib3.exceptions import IncompleteRead

    if isinstance(error, RequestException) and error.response is not None:
        error.response.close()  # it holds the connection
        return str(error.response.reason)
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, IncompleteRead) and error.expected is not None:
        return f"the download broke off at {error.partial} of {error.partial + error.expected} bytes"
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
