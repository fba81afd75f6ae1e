from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from harness.data.dataset import DatasetMeta, content_digest, open_dataset
from harness.entry import RUN_CASE
from harness.process.launch import launch
from harness.running.record import Record
from harness.spec import Case, Job, Scenario, Stage

LIMIT_MB = 300


def written(folder: Path, counts: dict[str, int], side: int, *, sparse: bool = False, **facts: object) -> Path:
    folder.mkdir()
    for split, count in counts.items():
        path = folder / f"{split}.images.npy"
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            if sparse:
                file.truncate(file.tell() + count * side * side * 3)
            else:
                file.write(np.arange(count, dtype=np.uint8).repeat(side * side * 3).tobytes())
        np.save(folder / f"{split}.labels.npy", np.arange(count, dtype=np.int64) % 2)
    meta = DatasetMeta(
        name="made", sha256="0" * 64, image_size=side * 7 // 8, side=side, classes=("a", "b"), counts=counts, **facts
    )  # type: ignore[arg-type]
    (folder / "meta.json").write_bytes(msgspec.json.encode(meta))
    return folder


def test_a_limit_spreads_evenly_and_keeps_ids(tmp_path: Path) -> None:
    dataset = open_dataset(written(tmp_path / "d", {"train": 101, "val": 3}, 8), limit=5)
    train = dataset.splits["train"]
    assert train.ids.tolist() == [0, 25, 50, 75, 100]
    assert train.labels.tolist() == [0, 1, 0, 1, 0]
    assert train.images[train.ids][:, 0, 0, 0].tolist() == train.ids.tolist()
    assert len(dataset.splits["val"].ids) == 3


def test_val_stands_in_for_test_only_where_the_meta_says_so(tmp_path: Path) -> None:
    stands = open_dataset(written(tmp_path / "a", {"train": 4, "val": 2}, 8, test_is_val=True))
    assert stands.splits["test"].labels.tolist() == stands.splits["val"].labels.tolist()
    assert "test" not in open_dataset(written(tmp_path / "b", {"train": 4, "val": 2}, 8)).splits


def test_digest_sees_classes_labels_pixels_and_splits() -> None:
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])
    first = content_digest(("a", "b"), {"train": (images, labels)})
    assert content_digest(("a", "b"), {"train": (images.copy(), labels.astype(np.int32))}) == first
    changed = images.copy()
    changed[1, 3, 3, 2] = 1
    others = {
        content_digest(("b", "a"), {"train": (images, labels)}),
        content_digest(("a", "b"), {"train": (images, labels[::-1])}),
        content_digest(("a", "b"), {"train": (changed, labels)}),
        content_digest(("a", "b"), {"val": (images, labels)}),
    }
    assert len(others | {first}) == 5


def test_digest_does_not_depend_on_the_chunks_it_is_taken_in() -> None:
    images = np.random.default_rng(0).integers(0, 256, (600, 2, 2, 3), dtype=np.uint8)
    labels = np.zeros(600, np.int64)
    mapped = images[::-1][::-1]
    assert content_digest(("a", "b"), {"train": (images, labels)}) == content_digest(
        ("a", "b"), {"train": (mapped, labels)}
    )


def test_a_case_of_200_images_out_of_20_000_grows_its_worker_by_less_than_300_mb(tmp_path: Path) -> None:
    folder = written(tmp_path / "big", {"train": 20_000, "val": 2_000}, 256, sparse=True, test_is_val=True)
    stage = Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, batch_size=16)
    scenario = Scenario(name="own", explanation="", stages=(stage,), start="random")
    case = Case(backend="reference", model="tiny-cnn", scenario=scenario, dataset="made", dataset_sha256="",
                image_size=224, limit=200)  # fmt: skip
    job = msgspec.to_builtins(Job(case=case, dataset_path=str(folder)))
    outcome = launch(RUN_CASE, {"job": job}, folder=tmp_path / "worker", cores=1)
    memory = msgspec.json.decode(outcome.require(), type=Record).memory
    assert memory is not None
    assert 0 < memory.private_peak - memory.framework < LIMIT_MB * 2**20


@pytest.mark.parametrize("mode", ["arrays", "stream"])
def test_feeding_200_images_out_of_20_000_needs_little_private_memory(tmp_path: Path, mode: str) -> None:
    folder = written(tmp_path / "big", {"train": 20_000, "val": 2_000}, 256, sparse=True)
    answer = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder), mode], capture_output=True, text=True, check=True, timeout=120
    )
    grown_mb = float(answer.stdout)
    assert 0 < grown_mb < LIMIT_MB


_PROGRAM = """
import re, sys
from pathlib import Path
from harness.data.augment import parse_augment
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import open_dataset
from harness.data.feed import Feed, evaluation_batches

def private_mb():
    return int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

before, most = private_mb(), 0.0
dataset = open_dataset(sys.argv[1], limit=200)
normal = NORMALISATIONS["imagenet"]
feed = Feed(dataset.splits["train"], batch_size=16, epochs=2, seed=0, image_size=224, normalisation=normal,
            augmentations=parse_augment("random-resized-crop,flip"), layout="nchw", input=sys.argv[2])
for epoch in range(2):
    for batch in feed.epoch(epoch):
        most = max(most, private_mb())
    for batch in evaluation_batches(dataset.splits["val"], 16, 224, normal, "nchw"):
        most = max(most, private_mb())
print(most - before)
"""
