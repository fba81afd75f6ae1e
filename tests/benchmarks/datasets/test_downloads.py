"""The one downloader, against a publisher on the loopback interface."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.datasets.cache import ENVIRONMENT, clear_cache
from benchmarks.datasets.downloads import MIRROR, WantedFile, fetch, mirrored, remember
from harness.errors import Declined, Refused
from tests.benchmarks.publisher import Publisher, publisher, sha256

URL = "https://weights.example/v1/net-1.bin"
CONTENT = b"weights" * 1000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Publisher]:
    """A publisher of one file, in place of every other, and a cache of the test's own."""
    with publisher() as found:
        monkeypatch.setenv(MIRROR, found.address)
        monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
        found.files["/v1/net-1.bin"] = CONTENT
        yield found


def wanted(**fields: Any) -> WantedFile:
    return WantedFile(**{"what": "the net", "url": URL, "file_name": "net.bin", "record": "net.sha256.json", **fields})


@pytest.mark.parametrize("digits", [8, 64])
def test_a_file_is_fetched_once_from_the_mirror_and_held_against_the_digits_published(
    server: Publisher, digits: int
) -> None:
    first = fetch(wanted(digest=sha256(CONTENT)[:digits]))
    assert Path(first.path).read_bytes() == CONTENT
    assert first.provenance == f"SHA-256 {sha256(CONTENT)}, published"
    assert fetch(wanted(digest=sha256(CONTENT)[:digits])) == first
    assert server.asked == ["/v1/net-1.bin"]


def test_a_sha1_is_checked_too(server: Publisher) -> None:
    sha1 = hashlib.sha1(CONTENT).hexdigest()
    assert fetch(wanted(digest=sha1, kind="SHA-1")).digest == sha1


@pytest.mark.parametrize("digest", ["0" * 8, "0" * 64])
def test_a_download_of_another_digest_is_refused_with_both_and_not_kept(
    server: Publisher, tmp_path: Path, digest: str
) -> None:
    said = rf"has the SHA-256 {sha256(CONTENT)}, not {digest}…? \(published\) and was deleted; put the right"
    with pytest.raises(Refused, match=said):
        fetch(wanted(digest=digest))
    assert [path.name for path in (tmp_path / "cache/downloads").iterdir()] in ([], ["net.bin.lock"])


def test_a_file_of_another_digest_that_was_put_there_is_named_and_left(server: Publisher, tmp_path: Path) -> None:
    place = tmp_path / "cache/downloads/net.bin"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"something else")
    with pytest.raises(Refused, match=rf"{place} has the SHA-256 .*, not 00000000… \(published\); remove the file"):
        fetch(wanted(digest="0" * 8))
    assert place.read_bytes() == b"something else"
    assert server.asked == []


def test_a_broken_download_is_tried_once_more(server: Publisher) -> None:
    server.cut = 1
    assert Path(fetch(wanted()).path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_download_that_stays_broken_is_declined_and_not_kept(server: Publisher, tmp_path: Path) -> None:
    server.cut = 10
    half = len(CONTENT) // 2
    with pytest.raises(Declined, match=rf"the net cannot be downloaded .*stopped at {half} of {2 * half} bytes"):
        fetch(wanted())
    assert len(server.asked) == 2
    assert not (tmp_path / "cache/downloads/net.bin").exists()


@pytest.mark.parametrize(("digest", "said"), [("ab" * 4, "SHA-256 abababab…"), ("", "no digest is published")])
def test_a_file_that_cannot_be_had_is_declined_with_address_digest_and_place(
    server: Publisher, tmp_path: Path, digest: str, said: str
) -> None:
    server.files.clear()
    with pytest.raises(Declined) as declined:
        fetch(wanted(digest=digest))
    assert str(declined.value) == (
        f"the net cannot be downloaded from {server.address} (Not Found); download {URL} ({said}) "
        f"and put it at {tmp_path}/cache/downloads/net.bin"
    )


def test_without_a_published_digest_later_downloads_are_held_to_the_one_that_proved_sound(server: Publisher) -> None:
    first = fetch(wanted())
    remember(wanted(), first.digest)
    clear_cache()
    assert fetch(wanted()).provenance == first.provenance
    server.files["/v1/net-1.bin"] = b"another"
    clear_cache()
    with pytest.raises(
        Refused, match=rf"not {first.digest} \(recorded at the first download, \d+-\d+-\d+; none is pub"
    ):
        fetch(wanted())


def test_a_download_that_never_proved_sound_binds_nothing(server: Publisher) -> None:
    server.files["/v1/net-1.bin"] = b"<html>log in first</html>"
    Path(fetch(wanted()).path).unlink()
    server.files["/v1/net-1.bin"] = CONTENT
    assert fetch(wanted()).digest == sha256(CONTENT)


@pytest.mark.parametrize(
    ("mirror", "url", "address"),
    [
        (None, URL, URL),
        ("", URL, URL),
        ("http://localhost:8080", URL, "http://localhost:8080/v1/net-1.bin"),
        ("https://mirror.example/weights/", "HTTP://a.example/x.pth?download=1", "https://mirror.example/weights/x.pth?download=1"),
        ("http://localhost:8080", "file:///tmp/x.pth", "file:///tmp/x.pth"),
    ],
)  # fmt: skip
def test_a_mirror_takes_the_place_of_scheme_and_host(
    monkeypatch: pytest.MonkeyPatch, mirror: str | None, url: str, address: str
) -> None:
    monkeypatch.delenv(MIRROR, raising=False)
    if mirror is not None:
        monkeypatch.setenv(MIRROR, mirror)
    assert mirrored(url) == address


@pytest.mark.parametrize("mirror", ["localhost", "ftp://localhost", "http://", "/srv/mirror"])
def test_a_mirror_that_is_no_http_address_is_refused(monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv(MIRROR, mirror)
    with pytest.raises(Refused, match=f"{MIRROR}={mirror} is not an address such as http"):
        mirrored(URL)


def test_a_host_that_does_not_answer_is_declined_in_the_words_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with publisher() as closed:
        monkeypatch.setenv(MIRROR, closed.address)
    with pytest.raises(Declined, match=rf"the net cannot be downloaded from {closed.address} \(\[Errno \d+\] Conn"):
        fetch(wanted(), tmp_path)
    assert not (tmp_path / "downloads/net.bin").exists()


def test_the_libraries_of_a_download_are_imported_only_for_one() -> None:
    code = "import sys, benchmarks.datasets.downloads; assert not {'pooch', 'requests', 'urllib3'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3], timeout=60)
