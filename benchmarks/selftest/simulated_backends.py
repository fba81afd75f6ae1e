"""A plugin with two simulated backends: the reference backend with two names, on simulated machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import DTypeLike, NDArray

from backends import reference
from backends.reference.session import ReferenceSession
from benchmarks.selftest.machine import Pending, SimulatedMachine
from harness.contract import Effective, Model, Probe, Session
from harness.data.feed import Batch
from harness.running.numerics import Numerics
from harness.spec import Case, Stage

PREDICTING_NS = 20_000_000


class SimulatedSession(ReferenceSession):
    """A session of the reference backend with simulated time and real arithmetic."""

    def __init__(
        self, case: Case, model: Model, classes: int, machine: SimulatedMachine, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__(case, model, classes, dtype)
        self.machine = machine

    def step(self, batch: Batch, stage: Stage, factor: float) -> Any:
        """Run one step; its loss is ready when the device has finished."""
        return Pending(super().step(batch, stage, factor), self.machine, self.machine.step())

    def predict(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict after all earlier work of the device."""
        self.machine.wait()
        self.machine.spend(PREDICTING_NS)
        return super().predict(images)

    def sync(self) -> None:
        self.machine.wait()

    def effective(self) -> Effective:
        """Return the settings with one thread, as on the simulated machine."""
        return replace(super().effective(), threads=1)


class SimulatedBackend:
    """A backend with the names of `harness.contract.Backend`; `kind` is the class of its sessions."""

    MODELS: Mapping[str, Model] = reference.MODELS
    PACKAGES, ENGINES, FORMATS = reference.PACKAGES, reference.ENGINES, reference.FORMATS
    import_weights = staticmethod(reference.import_weights)
    export_weights = staticmethod(reference.export_weights)
    decline = staticmethod(reference.decline)

    def __init__(self) -> None:
        self.kind: type[SimulatedSession] = SimulatedSession
        self.machine = SimulatedMachine(0)

    def open_session(self, case: Case, model: Model, classes: int) -> Session:
        """See `harness.contract.Backend`."""
        return self.kind(case, model, classes, self.machine)

    def open_probe(self, session: Session) -> Probe:
        """See `harness.contract.Backend`."""
        return reference.open_probe(session)

    def probe_numerics(self, session: Session) -> Numerics:
        """See `harness.contract.Backend`."""
        return reference.probe_numerics(session)


FIRST, SECOND = "first", "second"
BACKENDS = {FIRST: SimulatedBackend(), SECOND: SimulatedBackend()}


@contextmanager
def second_backend(kind: type[SimulatedSession]) -> Iterator[None]:
    """Let the second backend open sessions of another class."""
    backend = BACKENDS[SECOND]
    before, backend.kind = backend.kind, kind
    try:
        yield
    finally:
        backend.kind = before
