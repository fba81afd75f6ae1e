"""Learning-rate factors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.schedule import factors
from harness.spec import Schedule

schedules = st.builds(
    Schedule,
    name=st.sampled_from(["constant", "step", "cosine"]),
    every_epochs=st.integers(1, 10),
    factor=st.floats(0.01, 1.0),
    warmup_steps=st.integers(0, 30),
)


@given(schedules, st.integers(1, 12), st.integers(1, 12))
def test_there_is_one_factor_per_step_above_zero_and_at_most_one(
    schedule: Schedule, epochs: int, per_epoch: int
) -> None:
    found = factors(schedule, epochs, per_epoch)
    assert found.dtype == np.float64
    assert found.shape == (epochs * per_epoch,)
    assert (found > 0).all()
    assert (found <= 1).all()


@given(schedules, st.integers(1, 12), st.integers(1, 12))
def test_after_warmup_no_factor_rises(schedule: Schedule, epochs: int, per_epoch: int) -> None:
    found = factors(schedule, epochs, per_epoch)
    warm = min(schedule.warmup_steps, len(found))
    assert (np.diff(found[warm:]) <= 1e-12).all()
    np.testing.assert_allclose(np.diff(found[:warm]), 1 / max(1, warm), rtol=1e-9)


def test_the_step_schedule_drops_on_the_first_step_of_an_epoch_and_not_one_off() -> None:
    found = factors(Schedule(name="step", every_epochs=7, factor=0.1), epochs=15, steps_per_epoch=4)
    assert found[:28].tolist() == [1.0] * 28
    np.testing.assert_allclose(found[28:56], 0.1)
    np.testing.assert_allclose(found[56:], 0.01)


def test_cosine_starts_at_one_passes_a_half_in_the_middle_and_ends_just_above_zero() -> None:
    found = factors(Schedule(name="cosine"), epochs=10, steps_per_epoch=10)
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert found[-1] == pytest.approx(0.5 * (1 + np.cos(np.pi * 0.99)))


def test_a_warmup_longer_than_the_stage_is_a_ramp_over_the_stage() -> None:
    assert factors(Schedule(warmup_steps=100), 1, 4).tolist() == [0.25, 0.5, 0.75, 1.0]
