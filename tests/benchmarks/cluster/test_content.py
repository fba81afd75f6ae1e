"""Content that travels to a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cluster.content import pack, parcel_of, unpacked
from harness.errors import Refused


def folder_of(home: Path, *files: tuple[str, bytes]) -> Path:
    for name, content in files:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return home


def test_a_folder_arrives_with_its_name_and_bytes_and_is_fetched_once(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "three colours", ("meta.json", b"{}"), ("deep/er/a.npy", bytes(range(256))))
    packed = pack(source)
    parcel, asked = parcel_of(source, packed), list[str]()

    def fetch(sha256: str) -> bytes:
        asked.append(sha256)
        return packed

    for _ in range(2):
        there = unpacked(parcel, fetch, tmp_path / "node")
        assert there.name == "three colours"
        files = {file.relative_to(there).as_posix(): file.read_bytes() for file in there.rglob("*") if file.is_file()}
        assert files == {"meta.json": b"{}", "deep/er/a.npy": bytes(range(256))}
    assert asked == [parcel.sha256]


def test_a_file_arrives_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(b"weights")
    packed = pack(tmp_path / "tiny.safetensors")
    there = unpacked(parcel_of(tmp_path / "tiny.safetensors", packed), lambda _: packed, tmp_path / "node")
    assert (there.name, there.read_bytes()) == ("tiny.safetensors", b"weights")


def test_the_digest_depends_on_names_and_bytes_only(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "1" / "x", ("b", b"1"), ("a", b"2"))
    two = folder_of(tmp_path / "2" / "x", ("a", b"2"), ("b", b"1"))
    other = folder_of(tmp_path / "3" / "x", ("a", b"2"), ("b", b"3"))
    (two / "a").chmod(0o600)
    assert pack(one) == pack(two)
    assert parcel_of(one, pack(one)) == parcel_of(two, pack(two)) != parcel_of(other, pack(other))


def test_content_with_another_digest_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "data", ("a", b"1"))
    parcel = parcel_of(source, pack(source))
    with pytest.raises(Refused, match="another digest"):
        unpacked(parcel, lambda _: b"something else", tmp_path / "node")
    assert unpacked(parcel, lambda _: pack(source), tmp_path / "node").is_dir()
