"""Quality from logits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax

from harness.running.evaluate import quality

logits = arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(2, 6)), elements=st.floats(-50, 50, width=32))


@given(logits)
def test_the_loss_is_scipys_log_softmax_in_float64(values: np.ndarray) -> None:
    labels = np.arange(len(values)) % values.shape[1]
    expected = -log_softmax(values.astype(np.float64), axis=1)[np.arange(len(values)), labels].mean()
    found = quality(values, labels)
    assert found.loss == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert found.images == len(values)


@given(logits)
def test_neither_the_order_of_images_nor_a_batchs_size_changes_quality(values: np.ndarray) -> None:
    labels = np.arange(len(values)) % values.shape[1]
    whole, backwards = quality(values, labels), quality(values[::-1], labels[::-1])
    single = [quality(values[i : i + 1], labels[i : i + 1]) for i in range(len(values))]
    assert whole.accuracy == backwards.accuracy == pytest.approx(np.mean([q.accuracy for q in single]))
    assert whole.loss == pytest.approx(backwards.loss) == pytest.approx(np.mean([q.loss for q in single]))


def test_huge_logits_give_a_finite_loss_and_wrong_ones_are_not_clipped() -> None:
    assert quality(np.array([[3e4, -3e4]], np.float32), np.array([0])).loss == 0.0
    assert quality(np.array([[3e4, -3e4]], np.float32), np.array([1])).loss == pytest.approx(6e4)


def test_accuracy_is_the_fraction_of_highest_logits_on_the_label() -> None:
    values = np.eye(4, dtype=np.float32)
    assert quality(values, np.array([0, 1, 2, 0])).accuracy == 0.75
