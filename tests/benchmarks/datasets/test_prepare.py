from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets.named import prepare
from benchmarks.datasets.prepare import prepare_folder
from benchmarks.datasets.writing import PreparedDataset
from harness.data.dataset import content_digest, open_dataset
from harness.data.decode import decode
from harness.errors import Refused

SHARED = Path(os.environ.get("FINETUNE_BENCH_SHARED", Path(__file__).parents[4] / "shared"))
HYMENOPTERA = SHARED / "data" / "hymenoptera_data"


def made(folder: Path, train: int = 6, val: int = 3) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for name in ("ants", "bees"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder


def prepared(folder: Path, cache: Path, **changes: object) -> PreparedDataset:
    settings = {"name": "made", "image_size": 28, "cache": cache} | changes
    return prepare_folder(folder, **settings)  # type: ignore[arg-type]


def test_arrays_hold_the_decoded_files_in_order_and_the_digest_is_theirs(tmp_path: Path) -> None:
    source = made(tmp_path / "data")
    result = prepared(source, tmp_path / "cache")
    assert (result.meta.side, result.meta.image_size, result.meta.counts) == (32, 28, {"train": 12, "val": 6})
    dataset = open_dataset(result.folder, files=str(source))
    for split in dataset.splits.values():
        assert split.files is not None
        for pixels, name, label in zip(split.images, split.files, split.labels, strict=True):
            assert np.array_equal(pixels, decode(name, 32).pixels)
            assert dataset.meta.classes[label] == Path(name).parent.name
    own = {name: (dataset.splits[name].images, dataset.splits[name].labels) for name in ("train", "val")}
    assert result.meta.sha256 == content_digest(("ants", "bees"), own)
    assert result.meta.test_is_val
    assert dataset.splits["test"].files == dataset.splits["val"].files


def test_side_is_8_to_7_of_the_image_size(tmp_path: Path) -> None:
    assert prepared(made(tmp_path / "d"), tmp_path / "c", image_size=224).meta.side == 256


def test_the_cache_is_met_by_equal_content_wherever_it_lies_and_missed_by_any_change(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = prepared(made(tmp_path / "data"), cache)
    written = (first.folder / "train.images.npy").stat().st_mtime_ns
    assert prepared(made(tmp_path / "copy"), cache).folder == first.folder
    assert (first.folder / "train.images.npy").stat().st_mtime_ns == written
    assert prepared(tmp_path / "data", cache, image_size=35).folder != first.folder
    (tmp_path / "data/train/ants/0.png").unlink()
    less = prepared(tmp_path / "data", cache)
    assert less.folder != first.folder
    assert less.meta.sha256 != first.meta.sha256


def test_unreadable_files_are_skipped_counted_and_listed_with_the_reason(tmp_path: Path) -> None:
    source = made(tmp_path / "data")
    (source / "train/ants/0.png").write_bytes(b"")
    (source / "train/bees/1.png").write_bytes(b"not an image")
    (source / "val/bees/1.png").write_bytes((source / "val/bees/1.png").read_bytes()[:500])
    result = prepared(source, tmp_path / "cache")
    assert result.meta.counts == {"train": 10, "val": 5}
    reasons = dict(result.meta.skipped)
    assert reasons["train/ants/0.png"] == "empty file"
    assert reasons["train/bees/1.png"] == "unknown image format"
    assert reasons["val/bees/1.png"].startswith("damaged: ")
    assert "3 files skipped: ants 1 (unreadable), bees 2 (unreadable)" in result.meta.notes
    split = open_dataset(result.folder, files=str(source)).splits["train"]
    assert split.files is not None
    assert len(split.images) == len(split.labels) == len(split.files) == 10
    assert np.array_equal(split.images[0], decode(split.files[0], 32).pixels)


def test_empty_files_in_two_splits_are_not_the_same_image(tmp_path: Path) -> None:
    source = made(tmp_path / "data")
    (source / "train/ants/0.png").write_bytes(b"")
    (source / "val/ants/0.png").write_bytes(b"")
    assert prepared(source, tmp_path / "cache").meta.counts == {"train": 11, "val": 5}


def test_a_class_that_is_mostly_unreadable_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    source = made(tmp_path / "data")
    for number in range(5):
        (source / f"train/ants/{number}.png").write_bytes(b"x" * (number + 1))
    with pytest.raises(Refused, match=r"5 of 9 images of class 'ants' are unreadable, such as 'train/ants/0.png'"):
        prepared(source, tmp_path / "cache")
    assert [p.suffix for p in (tmp_path / "cache/datasets").iterdir()] == [".lock"]


def test_a_split_that_loses_a_whole_class_is_refused(tmp_path: Path) -> None:
    source = made(tmp_path / "data", train=9)
    for number in range(3):
        (source / f"val/ants/{number}.png").write_bytes(b"x" * (number + 1))
    with pytest.raises(Refused, match=r"class 'ants' has no readable image in val; .*unknown image format"):
        prepared(source, tmp_path / "cache")


def test_animated_images_are_noted(tmp_path: Path) -> None:
    source = made(tmp_path / "data")
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    frames[0].save(source / "train/ants/moving.webp", save_all=True, append_images=frames[1:])
    notes = prepared(source, tmp_path / "cache").meta.notes
    assert "1 animated images: only the first frame of each is used" in notes
    assert not any("pages" in note for note in notes)


@pytest.mark.parametrize("mode", ["RGB", "L", "1"])
def test_files_of_several_pages_are_not_called_animated(tmp_path: Path, mode: str) -> None:
    source = made(tmp_path / "data")
    pages = [Image.new("RGB", (32, 32), colour).convert(mode) for colour in ("red", "blue")]
    for name in ("scan.tif", "scan.png"):  # the content decides
        pages[0].save(source / "train/ants" / name, "TIFF", save_all=True, append_images=pages[1:])
    notes = prepared(source, tmp_path / "cache").meta.notes
    assert "2 TIFF files of several pages: only the first page of each is used" in notes
    assert not any("animated" in note for note in notes)


def test_progress_counts_every_file_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepared(made(tmp_path / "data"), tmp_path / "cache", progress=lambda done, of: seen.append((done, of)))
    assert seen == [(n, 18) for n in range(1, 19)]


def test_two_processes_at_once_prepare_once_and_agree(tmp_path: Path) -> None:
    source = made(tmp_path / "data", train=40)
    command = [
        sys.executable,
        "-c",
        "import sys, msgspec; from benchmarks.datasets.named import prepare;"
        "print(msgspec.json.encode(prepare(data=sys.argv[1], image_size=28, cache=sys.argv[2])).decode())",
        str(source),
        str(tmp_path / "cache"),
    ]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert answers[0] == answers[1]
    assert len([p for p in (tmp_path / "cache/datasets").iterdir() if p.is_dir()]) == 1


def test_preparing_streams_and_needs_little_private_memory(tmp_path: Path) -> None:
    source = made(tmp_path / "data", train=120, val=30)
    command = [sys.executable, "-c", _PRIVATE_MEMORY, str(source), str(tmp_path / "cache")]
    grown_mb = float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    images = next((tmp_path / "cache/datasets").glob("*/train.images.npy"))
    assert images.stat().st_size > 180e6
    assert grown_mb < 90


_PRIVATE_MEMORY = """
import re, sys
from pathlib import Path
from benchmarks.datasets.prepare import prepare_folder

seen = []
def look(*_):
    seen.append(int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)

look()
prepare_folder(Path(sys.argv[1]), name="made", image_size=448, cache=sys.argv[2], progress=look)
look()
print(max(seen) - seen[0])
"""


def test_prepare_says_where_the_data_are_and_how_many_images_each_class_has(tmp_path: Path) -> None:
    source = made(tmp_path / "data")
    answer = prepare(data=str(source), image_size=28, cache=str(tmp_path / "cache"))
    assert answer.images == {"train": (6, 6), "val": (3, 3)}
    assert answer.meta.name == "data"
    assert answer.files == str(source)
    assert open_dataset(answer.folder).meta == answer.meta
    with pytest.raises(Refused, match=r"no folder and no dataset hymenoptra \(did you mean hymenoptera\?\); known: "):
        prepare(data="hymenoptra", cache=str(tmp_path / "cache"))


def test_a_full_or_forbidden_cache_is_one_clear_line(tmp_path: Path) -> None:
    source = made(tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refused, match="it is not a folder; set FINETUNE_BENCH_CACHE"):
        prepared(source, tmp_path / "file")
    with pytest.raises(Refused, match=r"the disk is full|cannot be written|it is not a folder"):
        prepared(source, Path("/dev/full"))


@pytest.mark.skipif(not HYMENOPTERA.is_dir(), reason="needs the images of ../shared")
def test_hymenoptera_is_what_the_tutorials_see(tmp_path: Path) -> None:
    result = prepared(HYMENOPTERA, tmp_path / "cache", image_size=56)
    dataset = open_dataset(result.folder)
    assert result.meta.classes == ("ants", "bees")
    assert np.bincount(dataset.splits["train"].labels).tolist() == [123, 121]
    assert np.bincount(dataset.splits["val"].labels).tolist() == [70, 83]
    assert [name for name, _ in result.meta.skipped] == ["train/ants/imageNotFound.gif"]
    assert any(note.startswith("1 file skipped: ants 1 (ending .gif); endings") for note in result.meta.notes)
    assert any(note.startswith("1 .jpeg used") for note in result.meta.notes)
