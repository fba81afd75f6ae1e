"""The cost of stand-ins: two arms in one process that take turns."""

from __future__ import annotations

import time
from itertools import groupby
from typing import Any

import pytest

from backends.reference import MODELS, open_session
from backends.reference.session import ReferenceSession
from benchmarks.datasets.writing import PreparedDataset
from harness.certifying.answers import StandInCost
from harness.certifying.cost import EPOCHS, cost_of_stand_ins
from harness.data.checkpoint import NORMALISATIONS
from harness.data.dataset import open_dataset
from harness.spec import Case
from tests.harness.cases import tiny_case


class Watched(ReferenceSession):
    """Says which arm computes; the one with stand-ins is made slower by `pause_s` a step."""

    def __init__(self, case: Case, computed: list[bool], pause_s: float) -> None:
        super().__init__(case, MODELS[case.model], 3)
        self._computed, self._pause_s = computed, 0.0 if case.idiom else pause_s

    def train(self, stage: Any, feed: Any, clock: Any) -> None:
        tick = clock.tick

        def slower(loss: Any) -> None:
            self._computed.append(self.case.idiom)
            time.sleep(self._pause_s)
            tick(loss)

        clock.tick = slower
        super().train(stage, feed, clock)


def measured(data: PreparedDataset, computed: list[bool], pause_s: float = 0.0) -> StandInCost:
    def ready(case: Case) -> Any:
        return Watched(case, computed, pause_s)

    return cost_of_stand_ins(
        ready, tiny_case(data, warmup_steps=0), open_dataset(data.folder), NORMALISATIONS["imagenet"]
    )


def test_the_arms_take_turns_of_one_epoch_so_that_a_load_meets_both(tiny_dataset: PreparedDataset) -> None:
    computed: list[bool] = []
    cost = measured(tiny_dataset, computed)
    turns = [(idiom, len(list(steps))) for idiom, steps in groupby(computed)]
    assert [idiom for idiom, _ in turns] == [False, True] * (1 + EPOCHS)
    assert len({steps for _, steps in turns}) == 1
    assert cost.epochs == EPOCHS and cost.scenario == "own"


def test_a_stand_in_that_takes_longer_is_seen(tiny_dataset: PreparedDataset) -> None:
    quick, slow = measured(tiny_dataset, []), measured(tiny_dataset, [], pause_s=0.05)
    assert slow.stand_ins_s - slow.own_s == pytest.approx(0.05, abs=0.02)
    assert slow.ratio > 2 * quick.ratio
    assert slow.ratio == pytest.approx(slow.stand_ins_s / slow.own_s, rel=0.5)


@pytest.mark.parametrize("failing", [False, True])
def test_an_arm_that_fails_does_not_keep_the_other_waiting(failing: bool, tiny_dataset: PreparedDataset) -> None:
    def ready(case: Case) -> Any:
        if case.idiom == failing:
            raise MemoryError("of a test")
        return open_session(case, MODELS[case.model], 3)

    with pytest.raises(MemoryError, match="of a test"):
        cost_of_stand_ins(ready, tiny_case(tiny_dataset), open_dataset(tiny_dataset.folder), NORMALISATIONS["imagenet"])
