from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from benchmarks.datasets.cache import cache_entries, cache_folder, clear_cache, made_once
from harness.errors import Refused


def filled(cache: Path) -> Path:
    made_once(cache / "datasets" / "d-1", lambda place: (place.mkdir(), (place / "x").write_bytes(bytes(100))))
    made_once(cache / "downloads" / "z.zip", lambda place: place.write_bytes(bytes(50)))
    made_once(cache / "checkpoints" / "c.safetensors", lambda place: place.write_bytes(bytes(10)))
    (cache / "downloads" / "z.sha256.json").write_text("{}")
    return cache


def test_the_cache_is_where_it_is_told_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_BENCH_CACHE", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there"
    assert cache_folder(tmp_path / "here") == tmp_path / "here"
    monkeypatch.delenv("FINETUNE_BENCH_CACHE")
    assert cache_folder().name == "finetune-bench"
    assert not (tmp_path / "there").exists()


def test_entries_name_kind_size_and_last_use(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    entries = {e.name: e for e in cache_entries(cache)}
    assert {name: (e.kind, e.size_bytes) for name, e in entries.items()} == {
        "d-1": ("datasets", 100),
        "z.zip": ("downloads", 50),
        "c.safetensors": ("checkpoints", 10),
    }
    assert (datetime.now(UTC) - entries["d-1"].last_used).total_seconds() < 60
    assert cache_entries(tmp_path / "none") == []


def test_asking_again_renews_the_last_use_and_makes_nothing(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    os.utime(cache / "datasets" / "d-1", (0, 0))
    made_once(cache / "datasets" / "d-1", lambda place: pytest.fail("made again"))
    assert all(e.last_used.year > 2000 for e in cache_entries(cache))


def test_clearing_removes_the_kinds_asked_for_but_no_recorded_digest(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    assert [e.name for e in clear_cache(cache, ["datasets"])] == ["d-1"]
    assert [e.name for e in clear_cache(cache)] == ["z.zip", "c.safetensors"]
    assert cache_entries(cache) == []
    assert (cache / "downloads" / "z.sha256.json").exists()


def test_clearing_leaves_what_is_being_made(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    with FileLock(cache / "datasets" / "d-1.lock"):
        assert "d-1" not in [e.name for e in clear_cache(cache)]
    assert [e.name for e in cache_entries(cache)] == ["d-1"]


def test_what_a_crash_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "datasets" / "d.partial").mkdir(parents=True)
    (tmp_path / "datasets" / "d.partial" / "half").write_text("")
    entry = made_once(tmp_path / "datasets" / "d", lambda place: place.mkdir())
    assert list(entry.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "set FINETUNE_BENCH_CACHE")]
)
def test_a_full_disk_and_a_read_only_folder_are_refused_and_leave_nothing(
    tmp_path: Path, number: int, words: str
) -> None:
    def fails(place: Path) -> None:
        place.mkdir()
        (place / "half").write_text("")
        raise OSError(number, os.strerror(number))

    with pytest.raises(Refused, match=words):
        made_once(tmp_path / "datasets" / "d", fails)
    assert [p.suffix for p in (tmp_path / "datasets").iterdir()] == [".lock"]
