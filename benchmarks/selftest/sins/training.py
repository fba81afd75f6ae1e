"""Sins in training: freezing, statistics, optimizer, learning rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

import backends.reference.session
from backends.reference.layers import BatchNorm, Variable
from backends.reference.optimizers import Updates
from benchmarks.selftest.simulated_backends import SimulatedSession, second_backend
from benchmarks.selftest.sin import SinPlace, sin
from harness.contract import BUFFERS
from harness.data.feed import Batch
from harness.schedule import factors
from harness.spec import Schedule, Stage


class Chosen(SimulatedSession):
    """A session that misbehaves after all steps (gross), or after one."""

    made = -1
    place: SinPlace
    step_chosen = 0

    def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
        self.made += 1
        loss = super().step(batch, stage, factor)
        if self.place.gross or self.made == self.step_chosen:
            self.misbehave(stage)
        return loss

    def misbehave(self, stage: Stage) -> None:
        """Commit the sin after a step."""


def _nudge(place: SinPlace, variables: list[Variable]) -> None:
    """Gross: all variables by a thousandth. Subtle: one element of one variable, to the next larger float."""
    if place.gross:
        for variable in variables:
            variable.array *= 1.001
        return
    array = place.one_of(variables).array
    index = int(place.draw.integers(array.size))
    array.flat[index] = np.nextafter(array.flat[index], np.float32(np.inf))


@sin("frozen weight moved", "V09")
def frozen_weight(at: SinPlace) -> Iterator[None]:
    """Gross: all frozen weights, in every step. Subtle: one element by its last bit, once."""

    class Moving(Chosen):
        place, step_chosen = at, int(at.draw.integers(36))

        def misbehave(self, stage: Stage) -> None:
            frozen = [v for v in self.network.variables if v.role not in BUFFERS and stage.is_frozen(v.part, v.block)]
            _nudge(at, frozen)

    with second_backend(Moving):
        yield


@sin("frozen batch-norm statistic moved", "V09")
def frozen_statistic(at: SinPlace) -> Iterator[None]:
    """Gross: batch norm stays in training mode, as in torch. Subtle: one element by its last bit, once."""

    class Moving(Chosen):
        place, step_chosen = at, int(at.draw.integers(36))

        def begin(self, stage: Stage) -> list[Variable]:
            trained = super().begin(stage)
            for layer in self.network.layers:
                if isinstance(layer, BatchNorm) and at.gross:
                    layer.batch_statistics = True
            return trained

        def misbehave(self, stage: Stage) -> None:
            still = [v for v in self.network.variables if v.role in BUFFERS and stage.is_frozen(v.part, v.block)]
            if not at.gross:
                _nudge(at, still)

    with second_backend(Moving):
        yield


@sin("unfrozen weight not moved", "V14")
def unmoved(at: SinPlace) -> Iterator[None]:
    """Gross: the whole backbone keeps its values. Subtle: one tensor does."""

    class Holding(Chosen):
        place = at._replace(gross=True)

        def begin(self, stage: Stage) -> list[Variable]:
            trained = super().begin(stage)
            backbone = [variable for variable in trained if variable.part == "backbone"]
            held = backbone if at.gross else [at.one_of(trained)]
            self._held = {variable.name: (variable, variable.array.copy()) for variable in held}
            return trained

        def misbehave(self, stage: Stage) -> None:
            for variable, array in self._held.values():
                variable.array[...] = array

    with second_backend(Holding):
        yield


@sin("learning-rate ratio ignored", "V22", certified=True)
def ignored_ratio(at: SinPlace) -> Iterator[None]:
    """Gross: the backbone trains with the head's rate. Subtle: its rate is wrong by a fiftieth."""

    class Equal(SimulatedSession):
        def begin(self, stage: Stage) -> list[Variable]:
            rate = stage.head_lr if at.gross else stage.backbone_lr * 1.02
            return super().begin(replace(stage, backbone_lr=rate))

    with second_backend(Equal):
        yield


@sin("schedule off by one", "V21", certified=True)
def shifted_schedule(at: SinPlace) -> Iterator[None]:
    """Gross: the schedule starts three steps late. Subtle: one step late."""
    late = 3 if at.gross else 1

    def shifted(schedule: Schedule, epochs: int, steps_per_epoch: int) -> NDArray[np.float64]:
        right = factors(schedule, epochs, steps_per_epoch)
        return np.concatenate([right[:1].repeat(late), right[:-late]])

    class Late(SimulatedSession):
        def train(self, *arguments: Any) -> None:
            with patch.object(backends.reference.session, "factors", shifted):
                super().train(*arguments)

    with second_backend(Late):
        yield


def _with_updates(change: Callable[[SimulatedSession, Stage, Updates | None], None]) -> Any:
    """Change the optimizer of the second backend; `change` gets the optimizer of the stage before."""

    class Changed(SimulatedSession):
        def begin(self, stage: Stage) -> list[Variable]:
            before = self.updates
            trained = super().begin(stage)
            change(self, stage, before)
            return trained

    return second_backend(Changed)


@sin("optimizer state kept across stages", "V17")
def kept_state(at: SinPlace) -> Iterator[None]:
    """Gross: all tensors that both stages train keep their momentum. Subtle: one tensor keeps a thousandth of it."""

    def keep(session: SimulatedSession, stage: Stage, before: Updates | None) -> None:
        now = session.updates
        if before is None or now is None:
            return
        shared = [name for name in now.slots if name in before.slots]
        for name in shared if at.gross else [at.one_of(shared)]:
            for slot, array in before.slots[name].items():
                now.slots[name][slot] = array * np.float32(1.0 if at.gross else 1e-3)

    with _with_updates(keep):
        yield


@sin("decay on frozen tensors", "V15")
def decayed(at: SinPlace) -> Iterator[None]:
    """Gross: the optimizer gets every parameter. Subtle: it gets one frozen tensor beside the trained ones."""

    def give(session: SimulatedSession, stage: Stage, before: Updates | None) -> None:
        parameters = [v for v in session.network.variables if v.role not in BUFFERS]
        frozen = [v for v in parameters if stage.is_frozen(v.part, v.block)]
        given = frozen if at.gross else [at.one_of(frozen)]
        for variable in given:
            variable.gradient = np.zeros_like(variable.array)
        trained = [v for v in parameters if v not in frozen]
        session.updates = Updates(stage, [*given, *trained])

    with _with_updates(give):
        yield
