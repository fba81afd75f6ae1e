"""Measure the ceiling of a case's network, in a worker with the threads of a measured case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, runtime_checkable

from harness.ceiling.ceiling import Ceiling, LayerTimes, Pass
from harness.clock import REAL_TIME, TimeSource
from harness.errors import Declined
from harness.process import machine
from harness.running.opening import find_model_for
from harness.spec import Case, Part

CLASSES = ("class 0", "class 1")
"""The classes of the head; their number changes the arithmetic of a network by less than a thousandth."""
BLOCK_NS = 5_000_000
"""Shortest timed block of calls."""
TRIES, ROUNDS = 4, 3
"""Timed blocks of each pass in a round over all layers, and rounds; the shortest block of all rounds counts, since
another program can only make a block longer."""


class LayerWork(NamedTuple):
    """One layer of a network, with functions that compute its passes alone, on random numbers of its shapes.

    `alike` is equal for layers whose passes are the same work. `layouts` returns the passes by memory layout; the
    arrays of a layout exist while its passes do. The other fields are those of `LayerTimes`.
    """

    name: str
    kind: str
    part: Part
    block: int
    macs: int
    gradient_until: int
    tensor_bytes: int
    alike: str
    layouts: Mapping[str, Callable[[], Mapping[Pass, Callable[[], object]]]]


@runtime_checkable
class Layered(Protocol):
    """A session that can compute each layer of its network alone."""

    def layer_work(self, batch_size: int) -> Iterator[LayerWork]:
        """Yield the layers in the order of computation, as the case computes them (precision, threads, device).

        Raises `Declined` for a network with arithmetic outside convolutions and matrix products.
        """


def measure_ceiling(
    case: Case, batch_size: int, machine_key: str, plugins: list[str], source: TimeSource = REAL_TIME
) -> Ceiling:
    """Measure every pass of every layer. Raises `Declined` if the backend cannot compute its layers alone."""
    found = find_model_for(case, plugins, CLASSES)
    session = found.open(case)
    if not isinstance(session, Layered):
        raise Declined(f"{case.backend_name} cannot compute the layers of a network one by one, so it has no ceiling")
    known: dict[str, dict[Pass, float]] = {}
    timer = LayerTimer(session.sync, source)
    for _ in range(ROUNDS):
        layers = list[LayerWork]()
        timed = set[str]()
        for work in session.layer_work(batch_size):
            if work.alike not in timed:
                timed.add(work.alike)
                known[work.alike] = timer.shortest(work, known.get(work.alike, {}))
            layers.append(work._replace(layouts={}))
    effective = session.effective()
    return Ceiling(
        machine=machine_key,
        backend=case.backend_name,
        model=case.model,
        image_size=case.image_size,
        head=case.head,
        device=effective.device,
        device_name=effective.device_name,
        precision=case.precision,
        threads=case.threads,
        idiom=case.idiom,
        batch_size=batch_size,
        layers=tuple(_times(work, known[work.alike]) for work in layers),
        cpu_over_wall=timer.cpu_over_wall,
        versions=machine.versions(found.backend.PACKAGES),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _times(work: LayerWork, seconds: dict[Pass, float]) -> LayerTimes:
    fields = {name: value for name, value in work._asdict().items() if name in LayerTimes.__struct_fields__}
    return LayerTimes(**fields, seconds=seconds)


class LayerTimer:
    """Times passes in blocks of calls.

    `cpu_over_wall` is that of the timed blocks alone: between them, one thread draws the random numbers of a layer.
    """

    def __init__(self, sync: Callable[[], None], source: TimeSource = REAL_TIME) -> None:
        self._sync, self._source = sync, source
        self._wall_ns = self._cpu_ns = 0

    @property
    def cpu_over_wall(self) -> float:
        """CPU seconds per second of the timed blocks."""
        return self._cpu_ns / self._wall_ns

    def shortest(self, work: LayerWork, known: Mapping[Pass, float]) -> dict[Pass, float]:
        """Return the seconds of one call of each pass in its fastest layout, or the `known` ones if they are less."""
        found = dict(known)
        for passes in work.layouts.values():
            for name, call in passes().items():
                seconds = self.seconds_of_call(call)
                found[name] = min(seconds, found.get(name, seconds))
        return found

    def seconds_of_call(self, call: Callable[[], object]) -> float:
        """Return the seconds of a call in the shortest of several blocks of calls; the first call is not timed."""
        call()
        calls = 1
        while (spent := self._block(call, calls)) < BLOCK_NS:
            calls *= 2
        return min(spent, *(self._block(call, calls) for _ in range(TRIES - 1))) / calls / 1e9

    def _block(self, call: Callable[[], object], calls: int) -> int:
        self._sync()
        cpu, started = self._source.cpu(), self._source.now()
        for _ in range(calls):
            call()
        self._sync()
        spent = self._source.now() - started
        self._wall_ns += spent
        self._cpu_ns += self._source.cpu() - cpu
        return spent
