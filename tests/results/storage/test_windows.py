"""Training time with kept features, and the epoch from which they save time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from harness.running.record import FeaturesRecord, StageRecord
from results.storage.windows import features_seconds, pays_from, training_seconds
from results.tables.figures import marks, measure
from tests.results.records import build


def stage(*views: int) -> StageRecord:
    """Three epochs of 2 s, of which each has as many images as 44 / 3 steps have, here of 16 images."""
    features = FeaturesRecord(
        part="backbone", views=sum(views), reused=0, seconds=6.0, size_bytes=1, views_of_epoch=views
    )
    return replace(build(curve=(0.5, 0.6, 0.7), steps=45).stages[0], features=features)


def test_an_epoch_takes_as_long_as_its_steps_and_the_views_that_it_used_first() -> None:
    live = build(curve=(0.5, 0.6, 0.7), steps=45).stages[0]
    assert features_seconds(stage(20, 10, 0)) == [4.0, 2.0, 0.0]
    assert features_seconds(live) == [0.0, 0.0, 0.0]
    plain = training_seconds(live)
    assert training_seconds(stage(20, 10, 0)) == pytest.approx([plain[0] + 4, plain[1] + 2, plain[2]])


@pytest.mark.parametrize(
    ("views", "epoch"),
    [((240, 0, 0), 2), ((240, 120, 0), 2), ((240, 240, 10), 3), ((240, 240, 240), None), ((200, 240, 240), 1)],
)
def test_kept_features_save_time_from_the_first_epoch_with_a_view_that_was_seen_before(
    views: tuple[int, ...], epoch: int | None
) -> None:
    made = stage(*views)
    assert made.windows[0].images // made.windows[0].steps * len(made.step_us) // 3 == 240
    assert pays_from(made) == epoch


def test_without_kept_features_there_is_no_such_epoch() -> None:
    assert pays_from(build().stages[0]) is None


def test_the_rate_of_steps_from_kept_features_is_marked_and_their_cost_is_a_figure() -> None:
    record = replace(build(curve=(0.5, 0.6, 0.7), steps=45), stages=(stage(20, 10, 0),))
    assert "kept features" in marks(record)
    assert measure(record)["features_s"] == pytest.approx(6.0)
    assert measure(build())["features_s"] == 0
