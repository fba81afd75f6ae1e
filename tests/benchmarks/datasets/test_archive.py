from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets import archive as archive_module
from benchmarks.datasets.archive import Archive, fetch
from benchmarks.datasets.named import ARCHIVES, prepare
from harness.errors import Declined, Refused


def image(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, 0, 7)).save(stream, format="PNG")
    return stream.getvalue()


def zipped(path: Path, members: dict[str, bytes] | None = None) -> Archive:
    if members is None:
        places = [f"pets/{s}/{c}/{n}.png" for s in ("train", "val") for c in ("cat", "dog") for n in range(3)]
        members = {place: image(shade) for shade, place in enumerate(places)}
        members["__MACOSX/pets/._train"] = b"resource fork"
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return Archive(path.as_uri(), hashlib.sha1(path.read_bytes()).hexdigest())


def test_an_archive_is_fetched_checked_and_unpacked_once(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "pets.zip")
    first = fetch("pets", archive, tmp_path / "cache")
    assert first.folder.name == "pets"
    assert len(list(first.folder.rglob("*.png"))) == 12
    assert f"SHA-1 {archive.sha1}, published" in first.origin
    (tmp_path / "pets.zip").unlink()
    assert fetch("pets", archive, tmp_path / "cache") == first


def test_a_file_of_another_digest_is_refused_with_both(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "pets.zip")._replace(sha1="0" * 40)
    with pytest.raises(Refused, match=r"has the SHA-1 [0-9a-f]{40}, not 0{40} \(published\) and was deleted"):
        fetch("pets", archive, tmp_path / "cache")
    zipped(tmp_path / "cache/downloads/pets.zip")
    with pytest.raises(Refused, match=r"has the SHA-1 [0-9a-f]{40}, not 0{40} \(published\); remove the file"):
        fetch("pets", archive, tmp_path / "cache")


def test_without_a_published_digest_the_first_download_is_recorded_and_later_ones_held_to_it(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "pets.zip")._replace(sha1=None)
    digest = hashlib.sha256((tmp_path / "pets.zip").read_bytes()).hexdigest()
    origin = fetch("pets", archive, tmp_path / "cache").origin
    assert f"SHA-256 {digest}, recorded at the first download" in origin
    assert fetch("pets", archive, tmp_path / "cache").origin == origin
    zipped(tmp_path / "cache/downloads/pets.zip", {"pets/train/cat/0.png": image(1)})
    with pytest.raises(Refused, match=f"not {digest}"):
        fetch("pets", archive, tmp_path / "cache")


def test_without_a_network_it_is_declined_with_the_address_and_the_place(tmp_path: Path) -> None:
    missing = Archive((tmp_path / "none.zip").as_uri())
    place = tmp_path / "cache/downloads/none.zip"
    with pytest.raises(Declined) as declined:
        fetch("pets", missing, tmp_path / "cache")
    assert missing.url in str(declined.value)
    assert str(place) in str(declined.value)
    zipped(place)
    assert fetch("pets", missing, tmp_path / "cache").folder.is_dir()


@pytest.mark.parametrize("name", ["../out.png", "/out.png", "a/../../out.png", "..\\out.png"])
def test_a_member_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    archive = zipped(tmp_path / "bad.zip", {"a/ok.png": b"", name: b"x"})
    with pytest.raises(Refused, match="is a link or a path outside the folder"):
        fetch("bad", archive, tmp_path / "cache")
    assert not list(tmp_path.rglob("ok.png"))
    assert not list(tmp_path.rglob("out.png"))


def test_a_member_that_is_a_link_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")
    with pytest.raises(Refused, match="is a link"):
        fetch("bad", Archive((tmp_path / "bad.zip").as_uri()), tmp_path / "cache")


def test_a_zip_bomb_is_refused_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "EXTRACTED_LIMIT", 1_000_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", bytes(2_000_000))
    assert (tmp_path / "bomb.zip").stat().st_size < 10_000
    with pytest.raises(Refused, match="would unpack to 2000000 bytes in 1 files"):
        fetch("bomb", Archive((tmp_path / "bomb.zip").as_uri()), tmp_path / "cache")


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>log in first</html>")
    with pytest.raises(Refused, match="is not a valid zip file"):
        fetch("page", Archive((tmp_path / "page.zip").as_uri()), tmp_path / "cache")


def test_a_damaged_member_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    zipped(tmp_path / "bad.zip", {"a/x.png": noise})
    content = bytearray((tmp_path / "bad.zip").read_bytes())
    content[2000] ^= 255
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(Refused, match="is not a valid zip file"):
        fetch("bad", Archive((tmp_path / "bad.zip").as_uri()), tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache/downloads").iterdir() if p.is_dir()] == []


def test_a_named_set_is_prepared_from_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHIVES, "pets", zipped(tmp_path / "pets.zip"))
    answer = prepare(data="pets", image_size=28, cache=str(tmp_path / "cache"))
    assert answer.meta.name == "pets"
    assert answer.meta.counts == {"train": 6, "val": 6}
    assert "published" in answer.meta.origin


def test_only_published_digests_are_built_in() -> None:
    assert ARCHIVES["hotdog"].sha1 == "fba480ffa8aa7e0febbb511d181409f899b9baa5"
    assert ARCHIVES["hymenoptera"].sha1 is None
