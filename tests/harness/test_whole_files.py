"""A file is there whole or not at all, and nothing is left beside it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from harness.whole_files import write_whole, written_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_by_all_of_its_new_content(tmp_path: Path, durable: bool) -> None:
    write_whole(tmp_path / "a.json", b"old", durable=durable)
    write_whole(tmp_path / "a.json", b"new", durable=durable)
    assert (tmp_path / "a.json").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_fails_half_way_leaves_the_earlier_file_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", b"old")
    with pytest.raises(RuntimeError), written_whole(tmp_path / "a.json") as partial:
        partial.write_bytes(b"ne")
        raise RuntimeError
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_takes_its_place_when_it_is_complete(tmp_path: Path) -> None:
    place = tmp_path / "d.partial"
    (place / "of a killed process").mkdir(parents=True)
    with written_whole(tmp_path / "d", place) as partial:
        partial.mkdir()
        (partial / "file").write_text("content")
        assert not (tmp_path / "d").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["d", "file"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    contents = [bytes([65 + number]) * 200_000 for number in range(4)]
    writers = [
        threading.Thread(target=lambda own=content: [write_whole(tmp_path / "a", own) for _ in range(20)])
        for content in contents
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "a").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
