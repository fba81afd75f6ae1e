"""Layers are timed alone with a planted clock, and really with the reference backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.ceiling.ceiling import Pass
from harness.ceiling.measure import ROUNDS, TRIES, LayerTimer, LayerWork, measure_ceiling
from harness.clock import TimeSource
from harness.errors import Declined
from harness.running.numerics import PRODUCT_SIDE
from harness.spec import Case, Scenario
from tests.harness.cases import STAGE

MS = 1_000_000
EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "my_backend.py"


class PlantedTime:
    """A clock that only calls move, each by the next of some times; the last time repeats."""

    def __init__(self) -> None:
        self.ns = self.calls = 0

    def source(self) -> TimeSource:
        """Half of the time is CPU time."""
        return TimeSource(now=lambda: self.ns, cpu=lambda: self.ns // 2)

    def call(self, *ns: int) -> Callable[[], None]:
        times = self._endless(ns)

        def work() -> None:
            self.ns += next(times)
            self.calls += 1

        return work

    @staticmethod
    def _endless(ns: tuple[int, ...]) -> Iterator[int]:
        yield from ns
        while True:
            yield ns[-1]


def nothing() -> None: ...


def test_the_first_call_does_not_count_and_the_shortest_block_does() -> None:
    time = PlantedTime()
    slow_at_first = time.call(9_000 * MS, 30 * MS, 50 * MS, 20 * MS, 40 * MS)
    assert LayerTimer(nothing, time.source()).seconds_of_call(slow_at_first) == pytest.approx(0.020)
    assert time.calls == 1 + TRIES


def test_short_calls_are_timed_in_blocks() -> None:
    time = PlantedTime()
    assert LayerTimer(nothing, time.source()).seconds_of_call(time.call(MS // 100)) == pytest.approx(1e-5)
    assert time.calls > TRIES * 500


def test_the_wait_for_the_device_is_part_of_a_block() -> None:
    time = PlantedTime()
    assert LayerTimer(time.call(5 * MS), time.source()).seconds_of_call(time.call(10 * MS)) == pytest.approx(0.015)


def test_each_pass_counts_in_its_fastest_layout_and_round() -> None:
    time = PlantedTime()
    layouts: dict[str, Callable[[], dict[Pass, Callable[[], None]]]] = {
        "one": lambda: {"forward": time.call(40 * MS), "weight gradient": time.call(10 * MS)},
        "other": lambda: {"forward": time.call(20 * MS), "weight gradient": time.call(30 * MS)},
    }
    work = LayerWork("conv", "Conv", "backbone", 0, 1, 0, 64, "alike", layouts)
    timer = LayerTimer(nothing, time.source())
    assert timer.shortest(work, {}) == pytest.approx({"forward": 0.020, "weight gradient": 0.010})
    known: dict[Pass, float] = {"forward": 0.015}
    assert timer.shortest(work, known)["forward"] == 0.015
    assert known == {"forward": 0.015}


def test_the_cores_that_threads_had_are_those_of_the_timed_blocks_alone() -> None:
    time = PlantedTime()
    timer = LayerTimer(nothing, time.source())
    timer.seconds_of_call(time.call(900 * MS, 20 * MS))
    time.ns += 5_000 * MS
    timer.seconds_of_call(time.call(10 * MS))
    assert timer.cpu_over_wall == pytest.approx(0.5)
    busy = LayerTimer(nothing, TimeSource(now=lambda: time.ns, cpu=lambda: 0))
    busy.seconds_of_call(time.call(10 * MS))
    assert busy.cpu_over_wall == 0


def tiny(**fields: str) -> Case:
    nothing_else = Scenario(name="none", explanation="", stages=(STAGE,))
    known = {"backend": "reference", "model": "tiny-cnn", "dataset": "d", "dataset_sha256": "", **fields}
    return Case(scenario=nothing_else, image_size=32, **known)  # type: ignore[arg-type]


def test_the_reference_measures_every_layer_and_equal_layers_once() -> None:
    asked = []

    def now() -> int:
        asked.append(None)
        return len(asked) * 10 * MS

    ceiling = measure_ceiling(tiny(), 8, "m1", [], TimeSource(now=now, cpu=lambda: len(asked) * 5 * MS // 2))
    assert [layer.macs for layer in ceiling.layers if layer.macs] == [55_296, 73_728, 73_728, 64]
    assert [layer.gradient_until for layer in ceiling.layers if layer.macs] == [0, 1, 2, 3]
    assert {seconds for layer in ceiling.layers for seconds in layer.seconds.values()} == {0.01}
    passes = sum(len(layer.seconds) for layer in ceiling.layers)
    assert len(asked) == 2 * TRIES * ROUNDS * passes
    assert ceiling.cpu_over_wall == pytest.approx(0.5)
    assert (ceiling.machine, ceiling.batch_size, ceiling.threads) == ("m1", 8, 1)


def test_a_real_ceiling_is_not_far_below_one_large_product() -> None:
    import numpy as np

    side = np.ones((PRODUCT_SIDE, PRODUCT_SIDE), np.float32)
    large = 2 * PRODUCT_SIDE**3 / LayerTimer(nothing).seconds_of_call(lambda: side @ side)
    peak, _ = measure_ceiling(tiny(), 64, "m1", []).peak
    assert 0.02 < peak / large < 50


def test_a_backend_that_cannot_compute_layers_alone_declines_by_name(tmp_path: Path) -> None:
    with pytest.raises(Declined, match="mean-colour cannot compute the layers of a network one by one"):
        measure_ceiling(tiny(backend="mean-colour", model="mean-colour"), 8, "m1", [str(EXAMPLE)])
