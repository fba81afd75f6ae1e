"""Kept features: each view once, in batches of one shape, in a folder that later processes read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.data import kept_features
from harness.data.kept_features import KeptFeatures, features_folder
from harness.errors import Declined, Refused

IMAGES = np.random.default_rng(0).integers(0, 255, (10, 6, 6, 3), dtype=np.uint8)


class Network:
    """Means of the channels; notes the batches."""

    def __init__(self) -> None:
        self.batches: list[NDArray[np.uint8]] = []

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[Any]:
        self.batches.append(images)
        return images.mean(axis=(1, 2), dtype=np.float32)


def kept(network: Network, folder: Path | None = None) -> KeptFeatures:
    return KeptFeatures("backbone", 4, network, folder)


def features_of(kept_features: KeptFeatures, images: NDArray[np.uint8]) -> NDArray[Any]:
    """The features of an epoch's images."""
    (names,) = kept_features.add([images])
    kept_features.count(names)
    return kept_features.named(names)


def test_features_are_those_of_the_images_in_their_order() -> None:
    found = features_of(kept(Network()), IMAGES[[3, 1, 3]])
    assert np.array_equal(found, IMAGES[[3, 1, 3]].mean(axis=(1, 2), dtype=np.float32))


def test_a_view_is_computed_once_and_all_batches_have_one_shape() -> None:
    network = Network()
    features = kept(network)
    features_of(features, IMAGES[:5])
    features_of(features, IMAGES[[4, 0, 7, 7]])
    assert [len(batch) for batch in network.batches] == [4, 4, 4]
    assert np.array_equal(network.batches[1], IMAGES[[4, 4, 4, 4]])
    assert np.array_equal(network.batches[2], IMAGES[[7, 7, 7, 7]])
    assert (features.views, features.reused, features.views_of_epoch) == (6, 0, [5, 1])


def test_new_views_of_several_groups_share_a_batch() -> None:
    network = Network()
    features = kept(network)
    features.add([IMAGES[:1]])
    names = features.add(iter([IMAGES[:3], IMAGES[2:6], IMAGES[[9, 9]]]))
    assert [len(group) for group in names] == [3, 4, 2]
    assert np.array_equal(network.batches[1], IMAGES[[1, 2, 3, 4]])
    assert np.array_equal(network.batches[2], IMAGES[[5, 9, 9, 9]])
    assert len(network.batches) == 3
    assert np.array_equal(features.named(names[1]), IMAGES[2:6].mean(axis=(1, 2), dtype=np.float32))


def test_the_first_batch_may_be_computed_twice_and_counts_once() -> None:
    network, ticks = Network(), iter(range(0, 10_000, 1000))
    features = KeptFeatures("backbone", 4, network, now=lambda: next(ticks), warm_up=True)
    assert np.array_equal(features_of(features, IMAGES[:8]), IMAGES[:8].mean(axis=(1, 2), dtype=np.float32))
    assert len(network.batches) == 3
    assert features.computed_ns == 2000


def test_a_flipped_image_is_another_view() -> None:
    features = kept(Network())
    features_of(features, IMAGES[:2])
    features_of(features, IMAGES[:2, :, ::-1])
    assert features.views == 4


def test_a_later_process_reads_what_an_earlier_one_computed_and_reports_its_time(tmp_path: Path) -> None:
    first = kept(Network(), tmp_path / "a")
    features_of(first, IMAGES[:6])
    first.save()
    network = Network()
    later = kept(network, tmp_path / "a")
    assert np.array_equal(features_of(later, IMAGES[:6]), features_of(first, IMAGES[:6]))
    assert network.batches == []
    assert (later.views, later.reused, later.computed_ns) == (6, 6, 0)
    assert later.seconds == pytest.approx(first.seconds)
    later.save()
    assert len(list((tmp_path / "a").iterdir())) == 1


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    one, other = kept(Network(), tmp_path / "a"), kept(Network(), tmp_path / "a")
    features_of(one, IMAGES[:5])
    features_of(other, IMAGES[3:])
    one.save()
    other.save()
    network = Network()
    features_of(kept(network, tmp_path / "a"), IMAGES)
    assert network.batches == []


def test_a_folder_that_cannot_be_written_is_a_sentence_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    features = kept(Network(), tmp_path / "file" / "a")
    found = features_of(features, IMAGES)
    assert len(found) == len(IMAGES)
    assert features.save().startswith(f"kept features were not written to {tmp_path / 'file' / 'a'}: ")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    first = kept(Network(), tmp_path)
    features_of(first, IMAGES)
    first.save()
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    with pytest.raises(Refused, match=rf"{path.name} does not hold kept features .*; remove it"):
        kept(Network(), tmp_path)


def test_every_fact_has_a_folder_of_its_own(tmp_path: Path) -> None:
    facts = {"weights": "a", "normalisation": (0.5, 0.25), "batch_size": 4}
    others = [{**facts, name: "other"} for name in facts]
    assert len({features_folder(tmp_path, one) for one in (facts, *others)}) == 4
    assert features_folder(tmp_path, facts) == features_folder(tmp_path, dict(reversed(facts.items())))


def test_more_than_the_limit_in_memory_is_declined_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_features, "LIMIT_BYTES", 5 * 3 * 4)
    features = kept(Network())
    features_of(features, IMAGES[:4])
    with pytest.raises(Declined, match="use --features live, fewer epochs or an augmentation with fewer views"):
        features_of(features, IMAGES)


def test_the_folder_that_was_used_longest_ago_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        features = kept(Network(), tmp_path / name)
        features_of(features, IMAGES)
        features.save()
        if name == "a":
            size = sum(file.stat().st_size for file in (tmp_path / name).iterdir())
            monkeypatch.setattr(kept_features, "LIMIT_BYTES", 2.5 * size)
        if name == "b":
            kept(Network(), tmp_path / "a")  # reads it, so that b is the oldest
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["a", "c"]
