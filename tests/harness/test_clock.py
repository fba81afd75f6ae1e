"""The clock, driven by a hand-turned time and a fake asynchronous device."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import LATENCY_STEPS, Clock, Kind, NotFinite, Window, empty_step_us
from harness.errors import Refused

MS = 1_000_000


class Device:
    """A host and a device, each with a time in ns: the host dispatches and goes on, the device works in order."""

    def __init__(self, *, dispatch: int, work: int, synchronisation: int = 0) -> None:
        self.dispatch, self.work, self.synchronisation = dispatch, work, synchronisation
        self.host = self.free_at = 0
        self.syncs = self.compiles = 0

    def now(self) -> int:
        return self.host

    def step(self, work: int | None = None) -> None:
        self.host += self.dispatch
        self.free_at = max(self.free_at, self.host) + (self.work if work is None else work)

    def sync(self) -> None:
        self.syncs += 1
        self.host = max(self.host, self.free_at) + self.synchronisation

    def compiled(self) -> int:
        return self.compiles


def clock_for(
    device: Device,
    steps: int,
    warmup: int = 3,
    on_epoch_end: Callable[[int], None] | None = None,
    on_first_step: Callable[[], None] | None = None,
) -> Clock:
    return Clock(
        steps=steps,
        batch_size=16,
        warmup_steps=warmup,
        sync=device.sync,
        compile_events=device.compiled,
        on_epoch_end=on_epoch_end or (lambda epoch: None),
        on_first_step=on_first_step,
        now=device.now,
    )


def train(clock: Clock, device: Device, epochs: int, per_epoch: int) -> None:
    for _ in range(epochs):
        clock.epoch_begin()
        for _ in range(per_epoch):
            device.step()
            clock.tick(0.5)
        clock.epoch_end()


def windows(clock: Clock) -> dict[str, Window]:
    return {window.kind: window for window in clock.windows()}


def test_v40_the_clock_recovers_the_throughput_of_an_asynchronous_device_within_one_per_cent() -> None:
    device = Device(dispatch=MS // 5, work=10 * MS)
    clock = clock_for(device, steps=200)
    train(clock, device, epochs=4, per_epoch=50)
    found = windows(clock)["throughput"]
    assert found.images / found.seconds == pytest.approx(16 / 0.010, rel=0.01)


@given(
    dispatch=st.integers(1, 20), work=st.integers(1, 20), epochs=st.integers(1, 5), synchronisation=st.integers(0, 5)
)
def test_v40_whichever_of_host_and_device_is_slower_is_what_is_measured(
    dispatch: int, work: int, epochs: int, synchronisation: int
) -> None:
    device = Device(dispatch=dispatch * MS, work=work * MS, synchronisation=synchronisation * MS // 100)
    clock = clock_for(device, steps=epochs * 3000)
    train(clock, device, epochs, per_epoch=3000)
    found = windows(clock)["throughput"]
    assert found.seconds / found.steps == pytest.approx(max(dispatch, work) / 1e3, rel=0.01)


def test_latency_is_synchronised_at_each_step_and_throughput_only_at_its_edges() -> None:
    device = Device(dispatch=2 * MS, work=8 * MS)
    clock = clock_for(device, steps=104)
    clock.epoch_begin()
    counts = []
    for _ in range(104):
        before = device.syncs
        device.step()
        clock.tick(0.5)
        counts.append(device.syncs - before)
    assert counts == [1, 0, 0, 1, *[0] * 79, 1, *[1] * 20]
    assert clock.step_ns[-20:] == [10 * MS] * 20
    assert clock.step_ns[4:83] == [2 * MS] * 79, "between dispatches, not the device's"
    clock.epoch_end()
    assert windows(clock)["latency"].seconds == pytest.approx(0.2)


def test_the_last_step_of_each_epoch_is_waited_for_inside_the_window() -> None:
    device = Device(dispatch=MS, work=9 * MS)
    clock = clock_for(device, steps=12, warmup=0)
    train(clock, device, epochs=3, per_epoch=4)
    found = windows(clock)
    assert sum(w.seconds for w in found.values()) == pytest.approx(sum(clock.epoch_ns) / 1e9)
    assert sum(clock.epoch_ns) >= 12 * 9 * MS


def test_first_step_and_warmup_are_outside_the_throughput_window() -> None:
    device = Device(dispatch=MS, work=0)
    clock = clock_for(device, steps=40, warmup=5)
    clock.epoch_begin()
    for step in range(40):
        device.step(work=900 * MS if step == 0 else 50 * MS if step <= 5 else 4 * MS)
        clock.tick(0.5)
    clock.epoch_end()
    found = windows(clock)
    assert (found["first"].steps, found["warmup"].steps) == (1, 5)
    assert found["first"].seconds == pytest.approx(0.901)
    assert found["throughput"].seconds == pytest.approx(0.001 + found["throughput"].steps * 0.004)


def test_evaluation_between_epochs_is_in_no_window_and_no_step() -> None:
    device = Device(dispatch=MS, work=5 * MS)

    def evaluate(epoch: int) -> None:
        device.step(work=70_000 * MS)
        device.sync()
        device.compiles += 1

    clock = clock_for(device, steps=60, on_epoch_end=evaluate)
    train(clock, device, epochs=3, per_epoch=20)
    quiet = Device(dispatch=MS, work=5 * MS)
    unevaluated = clock_for(quiet, steps=60)
    train(unevaluated, quiet, epochs=3, per_epoch=20)
    assert clock.windows() == unevaluated.windows()
    assert clock.step_ns == unevaluated.step_ns
    assert clock.epoch_ns == unevaluated.epoch_ns
    assert clock.epoch_end_ns == 3 * 70_001 * MS


def test_what_is_done_after_the_first_step_of_the_first_epoch_is_in_no_window_step_or_epoch() -> None:
    device, quiet = Device(dispatch=MS, work=5 * MS), Device(dispatch=MS, work=5 * MS)
    times: list[int] = []

    def wait() -> None:
        times.append(len(clock.step_ns))
        device.host += 9_000 * MS

    clock = clock_for(device, steps=40, on_first_step=wait)
    train(clock, device, epochs=2, per_epoch=20)
    unhindered = clock_for(quiet, steps=40)
    train(unhindered, quiet, epochs=2, per_epoch=20)
    assert times == [1]
    assert (clock.windows(), clock.step_ns, clock.epoch_ns) == (
        unhindered.windows(), unhindered.step_ns, unhindered.epoch_ns
    )  # fmt: skip


def test_what_a_stage_prepares_before_an_epoch_is_in_no_window() -> None:
    device = Device(dispatch=MS, work=5 * MS)
    clock = clock_for(device, steps=40)
    for _ in range(2):
        device.host += 9_000 * MS
        train(clock, device, epochs=1, per_epoch=20)
    assert sum(window.seconds for window in clock.windows()) < 0.5


def test_the_worker_evaluates_once_per_epoch_with_its_number() -> None:
    seen: list[int] = []
    device = Device(dispatch=MS, work=MS)
    train(clock_for(device, steps=12, on_epoch_end=seen.append), device, epochs=3, per_epoch=4)
    assert seen == [0, 1, 2]


@given(st.integers(0, 8), st.integers(1, 6), st.integers(1, 60))
def test_every_step_is_in_exactly_one_window_and_the_windows_fill_the_training_time(
    warmup: int, epochs: int, per_epoch: int
) -> None:
    steps = epochs * per_epoch
    device = Device(dispatch=MS, work=3 * MS, synchronisation=MS // 10)
    if steps <= warmup + 1:
        with pytest.raises(Refused):
            clock_for(device, steps, warmup)
        return
    clock = clock_for(device, steps, warmup)
    train(clock, device, epochs, per_epoch)
    found = windows(clock)
    assert sum(w.steps for w in found.values()) == steps == len(clock.step_ns) == len(clock.losses)
    assert all(w.images == 16 * w.steps for w in found.values())
    assert found["throughput"].steps >= 1
    assert ("latency" in found) == (steps - 1 - warmup >= 4)
    assert found.get("latency", Window(kind="latency", steps=0, images=0, seconds=0, compile_events=0)).steps <= 20
    assert sum(w.seconds for w in found.values()) == pytest.approx(sum(clock.epoch_ns) / 1e9)


def test_a_long_stage_has_twenty_latency_steps_and_a_short_one_a_quarter() -> None:
    device = Device(dispatch=MS, work=MS)
    for steps, latency in ((1000, LATENCY_STEPS), (24, 5), (8, 1)):
        clock = clock_for(device, steps)
        train(clock, device, epochs=1, per_epoch=steps)
        assert windows(clock)["latency"].steps == latency


def test_a_stage_shorter_than_its_warmup_is_refused_with_the_remedy() -> None:
    with pytest.raises(Refused, match=r"a stage of 4 steps .* 3 warm-up steps; use more epochs.*--warmup-steps"):
        clock_for(Device(dispatch=MS, work=MS), steps=4, warmup=3)
    clock_for(Device(dispatch=MS, work=MS), steps=5, warmup=3)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_names_its_step_before_anything_is_evaluated(loss: float) -> None:
    seen: list[int] = []
    device = Device(dispatch=MS, work=MS)
    clock = clock_for(device, steps=20, on_epoch_end=seen.append)
    train(clock, device, epochs=1, per_epoch=10)
    clock.epoch_begin()
    for step in range(10, 20):
        device.step()
        clock.tick(loss if step >= 17 else 0.5)
    with pytest.raises(NotFinite, match="loss is not finite at step 17"):
        clock.epoch_end()
    assert seen == [0]


def test_a_loss_becomes_a_number_only_when_the_epoch_is_over() -> None:
    class OnDevice:
        """A scalar whose value costs a synchronisation."""

        def __float__(self) -> float:
            assert over
            return 0.25

    over = False
    device = Device(dispatch=MS, work=MS)
    clock = clock_for(device, steps=6)
    clock.epoch_begin()
    for _ in range(6):
        device.step()
        clock.tick(OnDevice())
    over = True
    clock.epoch_end()
    assert clock.losses == [0.25] * 6


def test_compile_events_land_in_the_window_they_fell_in() -> None:
    device = Device(dispatch=MS, work=MS)
    clock = clock_for(device, steps=40, warmup=3)
    device.compiles = 7
    clock.epoch_begin()
    for step in range(40):
        device.compiles += {0: 3, 2: 1, 10: 1, 11: 1, 39: 1}.get(step, 0)
        device.step()
        clock.tick(0.5)
    clock.epoch_end()
    events = {window.kind: window.compile_events for window in clock.windows()}
    assert events == {"first": 3, "warmup": 1, "throughput": 2, "latency": 1}


def test_a_tick_may_block_without_losing_time() -> None:
    device = Device(dispatch=MS, work=MS)
    clock = clock_for(device, steps=12, warmup=0)
    clock.epoch_begin()
    for step in range(12):
        device.step()
        if step == 5:
            device.host += 500 * MS
        clock.tick(0.5)
    clock.epoch_end()
    assert clock.step_ns[5] == 501 * MS
    assert sum(window.seconds for window in clock.windows()) == pytest.approx(sum(clock.epoch_ns) / 1e9)


def test_v44_an_empty_tick_costs_less_than_fifty_microseconds() -> None:
    steps = 5000
    clock = Clock(
        steps=steps,
        batch_size=16,
        warmup_steps=3,
        sync=lambda: None,
        compile_events=lambda: 0,
        on_epoch_end=lambda epoch: None,
    )
    clock.epoch_begin()
    blocks = []
    for _ in range(10):
        start = time.perf_counter_ns()
        for _ in range(steps // 10):
            clock.tick(0.5)
        blocks.append((time.perf_counter_ns() - start) / (steps // 10))
    clock.epoch_end()
    assert sorted(blocks)[5] < 50_000


class Late:
    """A loss that is on its way until the device has done what it was given."""

    def __init__(self, device: Device) -> None:
        self._device, self._ready_at = device, device.free_at

    def __float__(self) -> float:
        self._device.host = max(self._device.host, self._ready_at)
        return 0.5


@pytest.mark.parametrize(("left", "drained"), [(0, 0), (15 * MS, 30 * MS)])
def test_v40_what_a_device_has_left_to_do_when_it_says_that_it_is_done_is_measured(left: int, drained: int) -> None:
    device = Device(dispatch=MS, work=10 * MS)

    def sync() -> None:
        device.host = max(device.host, device.free_at - left)

    clock = clock_for(device, steps=40)
    clock._sync = sync
    for _ in range(2):
        clock.epoch_begin()
        for _ in range(20):
            device.step()
            clock.tick(Late(device))
        clock.epoch_end()
    assert clock.drained_ns == drained
    assert clock.losses == [0.5] * 40


def test_v51_steps_and_tails_of_a_window_make_up_its_seconds() -> None:
    device = Device(dispatch=2 * MS, work=7 * MS)
    clock = clock_for(device, steps=60)
    train(clock, device, epochs=3, per_epoch=20)
    start = 0
    for window in clock.windows():
        steps = clock.step_ns[start : start + window.steps]
        start += window.steps
        assert window.tail_s is not None
        assert sum(steps) / 1e9 + window.tail_s == pytest.approx(window.seconds, abs=1e-9)
    assert sum(window.tail_s or 0 for window in clock.windows()) > 0


def test_v44_an_empty_step_costs_next_to_nothing() -> None:
    assert 0 < empty_step_us() < 20


def test_what_comes_before_an_epoch_runs_with_the_window_closed() -> None:
    device, seen = Device(dispatch=MS, work=0), list[int]()

    def begin(epoch: int) -> None:
        seen.append(epoch)
        device.host += 500 * MS

    clock = clock_for(device, steps=20)
    clock._on_epoch_begin = begin
    train(clock, device, epochs=2, per_epoch=10)
    assert seen == [0, 1]
    assert sum(clock.epoch_ns) == 20 * MS


class Watts:
    """A meter of a machine that uses one watt, on the clock of the test."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now, self.seconds, self.epochs, self._epoch = now, dict[str, float](), list[float](), 0.0
        self._began = 0

    def begin(self) -> None:
        self._began = self._now()

    def end(self, kind: Kind) -> None:
        spent = (self._now() - self._began) / 1e9
        self.seconds[kind] = self.seconds.get(kind, 0.0) + spent
        self._epoch += spent
        self._began = self._now()

    def end_epoch(self) -> None:
        self.epochs.append(self._epoch)
        self._epoch = 0.0


def test_a_meter_sees_the_intervals_of_the_windows_and_no_evaluation() -> None:
    at = [0]

    def now() -> int:
        return at[0]

    def pass_(seconds: float) -> None:
        at[0] += round(seconds * 1e9)

    meter = Watts(now)
    clock = Clock(
        steps=20, batch_size=4, warmup_steps=3, sync=lambda: None, compile_events=lambda: 0, now=now, meter=meter,
        on_epoch_end=lambda epoch: pass_(100.0), on_first_step=lambda: pass_(50.0),
    )  # fmt: skip
    for _ in range(2):
        clock.epoch_begin()
        for _ in range(10):
            pass_(1.0)
            clock.tick(0.0)
        clock.epoch_end()
        pass_(7.0)
    assert meter.seconds == {window.kind: window.seconds for window in clock.windows()}
    assert meter.epochs == [10.0, 10.0]
