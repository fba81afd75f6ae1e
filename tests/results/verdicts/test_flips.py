"""Which images flipped is told by image, over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from results.verdicts.accuracy_verdict import flips


def side(*right: tuple[bool, ...]) -> list[dict[str, np.ndarray]]:
    """A run per argument, which says of each image whether it was right."""
    labels = np.zeros(len(right[0]), dtype=np.int64)
    return [
        {
            "logits": np.array([[1.0, 0.0] if good else [0.0, 1.0] for good in own]),
            "labels": labels,
            "ids": np.arange(7, 7 + len(own)),
        }
        for own in right
    ]


def test_an_image_flips_if_most_seeds_of_an_arm_changed_their_mind() -> None:
    a = side((True, True, False, True), (True, True, False, True), (False, True, False, True))
    b = side((True, False, True, True), (True, False, True, True), (True, False, False, True))
    found = flips(a, b)
    assert found.lost == (8,)
    assert found.won == (9,)
    assert found.images == 4
    assert found.p == 1.0


def test_many_losses_and_no_win_are_no_accident() -> None:
    found = flips(side((True,) * 20), side((False,) * 10 + (True,) * 10))
    assert len(found.lost) == 10
    assert found.p < 0.01


def test_nothing_flipped_and_other_images() -> None:
    assert flips(side((True, False)), side((True, False))).p == 1.0
    with pytest.raises(ValueError, match="different images"):
        flips(side((True, False)), side((True,)))
