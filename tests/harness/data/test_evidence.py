"""What a feed handed out, as evidence."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from harness.data.dataset import Split
from harness.data.evidence import FeedEvidence
from harness.data.feed import epoch_order, stage_seed
from harness.spec import Case, Scenario


def split() -> Split:
    return Split(np.zeros((20, 4, 4, 3), np.uint8), np.arange(5) % 3, np.array([0, 4, 8, 12, 16]))


def digest(values: list[int]) -> str:
    return hashlib.sha256(np.array(values, np.int64).tobytes()).hexdigest()


def test_V24_V27_digests_are_of_ids_and_labels_in_the_order_they_came() -> None:
    found = FeedEvidence(split())
    assert found.labels_sha256 is None
    found.note(np.array([8, 0]), np.array([2, 0], np.int32))
    found.note(np.array([16, 4]), np.array([1, 1]))
    assert found.order_sha256 == digest([8, 0, 16, 4])
    assert found.labels_sha256 == digest([2, 0, 1, 1])
    assert found.batches == 2


def test_V31_samples_are_counted_whether_fed_or_seen_natively() -> None:
    found = FeedEvidence(split())
    found.note(np.array([8, 0]), np.array([2, 0]))
    found.saw(np.array([2, 2]))
    assert found.samples_seen == (0, 3)
    assert found.order_sha256 == digest([8, 0, 8, 8])


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_V26_colours_are_those_of_the_first_batch_in_either_layout(layout: str) -> None:
    images = np.random.default_rng(0).standard_normal((6, 4, 4, 3)).astype(np.float32) * np.array([1, 2, 3], np.float32)
    found = FeedEvidence(split())
    given = images if layout == "nhwc" else np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    found.picture(given, layout, whole=False)  # type: ignore[arg-type]
    found.picture(given + 1, layout, whole=False)  # type: ignore[arg-type]
    wide = images.astype(np.float64)
    np.testing.assert_allclose(found.colours, [*wide.mean((0, 1, 2)), *wide.std((0, 1, 2))], rtol=1e-12)


def test_V28_pixels_are_digested_only_where_all_of_them_were_looked_at() -> None:
    one, other = FeedEvidence(split()), FeedEvidence(split())
    images = np.zeros((2, 4, 4, 3), np.float32)
    one.picture(images, "nhwc", whole=False)
    assert one.pixels_sha256 is None
    one.picture(images, "nhwc", whole=True)
    images[1, 2, 2, 2] = np.nextafter(np.float32(0), np.float32(1))
    other.picture(images, "nhwc", whole=True)
    assert None not in (one.pixels_sha256, other.pixels_sha256)
    assert one.pixels_sha256 != other.pixels_sha256


def test_V24_an_order_follows_from_seed_and_epoch_and_leaves_out_what_fills_no_batch() -> None:
    first, again, second = (epoch_order(11, 4, 7, epoch) for epoch in (0, 0, 1))
    assert sorted(set(first.tolist())) == sorted(first.tolist())
    assert len(first) == 8
    assert first.tolist() == again.tolist() != second.tolist()
    case = Case(
        backend="b", model="m", scenario=Scenario(name="s", explanation="", stages=()), dataset="d", dataset_sha256="",
        image_size=8, seed=3,
    )  # fmt: skip
    assert stage_seed(case, 2) == 3002
