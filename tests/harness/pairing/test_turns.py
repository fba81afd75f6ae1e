"""A worker that takes turns: what counts as a turn, and that it waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.datasets.writing import PreparedDataset
from harness.clock import TimeSource
from harness.entry import TAKE_TURNS
from harness.pairing.side_record import SideRecord
from harness.pairing.turn_clock import Stopped, TurnClock
from harness.process.launch import Worker
from harness.spec import Job
from tests.harness.cases import tiny_case
from tests.harness.turning import turn_clock


@contextmanager
def side(job: Job, folder: Path, delay: float = 0.0) -> Iterator[Worker]:
    arguments = {"job": msgspec.to_builtins(job), "stage": 0, "delay": delay}
    with Worker(TAKE_TURNS, arguments, folder=folder, cores=1, timeout_s=60) as worker:
        assert next(worker.events()) == {"ready": 4}
        yield worker


def turn(worker: Worker, seconds: float = 0.0, steps: int = 5) -> None:
    worker.send({"seconds": seconds, "steps": steps})
    assert "turn" in next(worker.events())


def answer(worker: Worker) -> SideRecord:
    worker.send({"stop": True})
    assert list(worker.events()) == []
    return msgspec.json.decode(worker.outcome().require(), type=SideRecord)


@pytest.fixture
def job(tiny_dataset: PreparedDataset) -> Job:
    return Job(case=tiny_case(tiny_dataset), dataset_path=str(tiny_dataset.folder))


def test_a_turn_is_so_many_steps_after_one_that_is_left_out(job: Job, tmp_path: Path) -> None:
    with side(job, tmp_path) as worker:
        turn(worker, steps=5)
        turn(worker, steps=17)
        said = answer(worker)
    assert said.status == "ok"
    assert [one.steps for one in said.turns] == [5, 17]
    assert [len(one.step_us) for one in said.turns] == [5, 17]
    assert [one.images for one in said.turns] == [40, 136]
    assert all(one.compile_events == 0 and one.lead_us > 0 for one in said.turns)
    for one in said.turns:  # an epoch of six steps ended in each of them, and its end is in none of the figures
        assert one.seconds == pytest.approx(sum(one.step_us) / 1e6, rel=0.2)


def test_a_turn_lasts_as_long_as_it_was_given_and_its_sensors_see_nothing_else(job: Job, tmp_path: Path) -> None:
    with side(job, tmp_path) as worker:
        for _ in range(2):
            turn(worker, seconds=0.2)
            time.sleep(0.3)
        said = answer(worker)
    assert all(0.2 <= one.seconds < 1.0 for one in said.turns)
    assert said.sensors is not None
    assert said.sensors.seconds == pytest.approx(sum(one.seconds for one in said.turns), abs=0.05)


def test_a_waiting_worker_sleeps(job: Job, tmp_path: Path) -> None:
    with side(job, tmp_path) as worker:
        turn(worker)
        before = _cpu_s(worker)
        time.sleep(0.5)
        assert _cpu_s(worker) - before < 0.05


def test_an_injected_delay_makes_each_step_longer_by_its_share() -> None:
    took = {delay: _steps_us(delay) for delay in (0.0, 0.05, 0.5)}
    assert took[0.0] == [1000] * 5
    assert took[0.05] == [1050] * 5
    assert took[0.5] == [1500] * 5


def test_a_rest_after_each_step_is_in_none_of_the_figures() -> None:
    source, clock = _one_turn(rest=0.5)
    (turn,) = clock.turns
    assert turn.step_us == (1000,) * 5
    assert turn.seconds == pytest.approx(5e-3, rel=1e-3)
    assert source.now() >= 7 * 1_500_000  # it did pass: after the first step, the one that is left out, and five


def _steps_us(delay: float) -> list[int]:
    return list(_one_turn(delay=delay)[1].turns[0].step_us)


def _one_turn(**shares: float) -> tuple[TimeSource, TurnClock]:
    """A turn of five steps of a millisecond each, on a clock that a step and its waiting alone move on."""
    time_ns = [0]

    def now() -> int:
        time_ns[0] += 1
        return time_ns[0]

    orders = [{"seconds": 0, "steps": 5}, {"stop": True}]
    source = TimeSource(now=now)
    clock = turn_clock(orders, source, steps=12, warmup_steps=0, **shares)
    clock.epoch_begin()
    with pytest.raises(Stopped):
        while True:
            time_ns[0] += 1_000_000
            clock.tick(0.0)
    return source, clock


def test_an_order_to_a_worker_that_is_gone_is_lost_and_its_end_is_told(job: Job, tmp_path: Path) -> None:
    broken = msgspec.structs.replace(job, dataset_path=str(tmp_path / "nowhere"))
    arguments: dict[str, Any] = {"job": msgspec.to_builtins(broken), "stage": 0, "delay": 0.0}
    with Worker(TAKE_TURNS, arguments, folder=tmp_path, cores=1, timeout_s=60) as worker:
        assert list(worker.events()) == []
        worker.send({"stop": True})
        assert worker.outcome().ending == "failed"


def _cpu_s(worker: Worker) -> float:
    times = Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(times[11]) + int(times[12])) / 100
