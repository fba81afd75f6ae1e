from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from benchmarks.datasets.writing import PreparedDataset
from benchmarks.preparing.plan import PlannedCase
from benchmarks.running import together
from benchmarks.running.execute import execute
from harness.process.machine import Machine
from harness.running.record import Record
from results.storage.run_files import open_run
from tests.benchmarks.commanding import records
from tests.benchmarks.running.test_execute import planned
from tests.results.records import MACHINE

PAUSE = 1.0
"""Seconds for which a slow network is built, or compiled."""
SLOW = (
    f"PAUSE = {PAUSE}"
    + """
import time
from backends.reference.layers import ReLU
from backends.reference.network import tiny_cnn
from harness.contract import Model

def slow(dtype):
    time.sleep(PAUSE)
    return tiny_cnn(dtype)

def wrong(dtype):
    raise ValueError("not this way")

def endless(dtype):
    time.sleep(600)

class Compiled(ReLU):
    steps = 0

    def forward(self, x, training):
        self.steps += training
        time.sleep(PAUSE if training and self.steps == 1 else 0)
        return super().forward(x, training)

def compiled(dtype):
    backbone, width = tiny_cnn(dtype)
    return [*backbone[:2], Compiled("features.0.2"), *backbone[3:]], width

MODELS = {"reference": [Model(name=f.__name__, build=f, classifier="classifier.", blocks=3)
                        for f in (slow, wrong, endless, compiled)]}
"""
)

Run = Callable[..., list[Record]]


@pytest.fixture
def run(tiny_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Executes cases of these models, as if the machine had room for two processes."""
    plugin = tmp_path / "slow.py"
    plugin.write_text(SLOW)
    monkeypatch.setattr(together, "usable_cores", lambda: [0, 1])
    monkeypatch.setattr(together, "MEMORY_FREE", 0)
    with open_run(tmp_path / "results", command=["run"], planned=[], machine=MACHINE, environment={}) as writer:

        def executed(
            *models: str, timeout_s: float = 60, on_event: Any = lambda event: None, **case: Any
        ) -> list[Record]:
            plan = [planned(model, tiny_dataset, plugin, **case) for model in models]
            return execute(plan, writer, MACHINE, timeout_s, on_event)

        yield executed


def test_two_cases_are_opened_at_the_same_time_and_their_waiting_is_in_no_figure(run: Run) -> None:
    began = time.monotonic()
    both = run("slow", "slow")
    wall = time.monotonic() - began
    assert [record.status for record in both] == ["ok", "ok"]
    for record in both:
        assert record.wall_s["build"] >= PAUSE
        assert sum(record.wall_s.values()) == pytest.approx(record.total_s)
    assert wall < sum(record.total_s for record in both) - 0.7 * PAUSE, (
        "building the second network took no time of its own"
    )


@pytest.mark.parametrize(
    ("setting", "beside"), [({}, True), ({"input": "stream"}, False), ({"threads": 2}, False)], ids=str
)
def test_two_first_steps_are_made_at_the_same_time_unless_one_would_disturb_the_other(
    run: Run, setting: dict[str, Any], beside: bool
) -> None:
    began = time.monotonic()
    both = run("compiled", "compiled", **setting)
    wall = time.monotonic() - began
    for record in both:
        assert record.status == "ok"
        assert record.wall_s["first step"] >= PAUSE
        assert sum(record.wall_s.values()) == pytest.approx(record.total_s)
        assert sum(epoch.seconds for epoch in record.stages[0].epochs) < 1 + PAUSE, "waiting is no training"
    assert (wall < sum(record.total_s for record in both) - 0.7 * PAUSE) == beside


def test_events_come_case_by_case_and_records_are_stored_in_the_order_of_the_plan(run: Run, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    found = run("tiny-cnn", "slow", "tiny-cnn", on_event=events.append)
    kinds = [next(iter(event)) if "epoch" not in event else "epoch" for event in events]
    assert kinds == 3 * ["begin", "epoch", "epoch", "imported", "end"]
    assert [event["end"].case.model for event in events if "end" in event] == ["tiny-cnn", "slow", "tiny-cnn"]
    assert records(tmp_path / "results") == found


@pytest.mark.parametrize("order", [("wrong", "tiny-cnn"), ("tiny-cnn", "wrong")])
def test_a_case_that_fails_while_it_is_opened_leaves_the_other_one_alone(run: Run, order: tuple[str, str]) -> None:
    found = {record.case.model: record for record in run(*order)}
    assert (found["wrong"].status, found["wrong"].reason) == ("failed", "ValueError: not this way")
    assert found["tiny-cnn"].status == "ok"


def test_a_worker_that_is_killed_while_it_waits_is_a_record_and_the_other_case_is_measured(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers: list[together.Worker] = []
    start = together.Worker.__enter__
    monkeypatch.setattr(together.Worker, "__enter__", lambda self: workers.append(self) or start(self))

    def kill(event: dict[str, Any]) -> None:
        if event.get("epoch") == 1:
            os.kill(workers[1].pid, signal.SIGKILL)

    first, second = run("slow", "tiny-cnn", on_event=kill)
    assert first.status == "ok"
    assert (second.status, second.reason) == ("killed", "killed from outside (SIGKILL)")


def test_the_time_limit_of_a_case_does_not_contain_the_time_it_waits(run: Run) -> None:
    began = time.monotonic()
    hung, right = run("endless", "slow", timeout_s=4)
    assert (hung.status, hung.reason) == ("timeout", "not finished after 4 s")
    assert right.status == "ok"
    assert time.monotonic() - began > 4


def test_an_interrupt_while_cases_are_opened_is_a_record_of_the_first_and_leaves_no_worker(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began: list[Any] = []

    def interrupted(self: Any) -> Iterator[dict[str, Any]]:
        began.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(together.Worker, "events", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("slow", "slow")
    (only,) = records(tmp_path / "results")
    assert (only.status, only.reason) == ("interrupted", "Ctrl-C")
    assert not Path(f"/proc/{began[0].pid}").exists()


@pytest.mark.parametrize(
    ("models", "sizes"),
    [(0, []), (1, [1]), (2, [2]), (3, [1, 2]), (4, [2, 2])],
)
def test_cases_are_grouped_from_the_end(
    tiny_dataset: PreparedDataset, models: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "usable_cores", lambda: [0, 1])
    plan = [planned("tiny-cnn", tiny_dataset, Path("p"), seed=seed) for seed in range(models)]
    found = list(together.groups(plan, MACHINE))
    assert [len(group) for group in found] == sizes
    assert [one for group in found for one in group] == plan


def test_a_skipped_case_a_gpu_or_a_single_core_is_never_shared(
    tiny_dataset: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "usable_cores", lambda: [0, 1])
    one, two = (planned("tiny-cnn", tiny_dataset, Path("p"), seed=seed) for seed in range(2))
    on_gpu: Machine = replace(MACHINE, gpus=("a GPU",))
    skipped = PlannedCase(two.case, None, "no GPU here")
    auto = PlannedCase(replace(two.case, device="auto"), two.job)
    assert list(together.groups([one, skipped], MACHINE)) == [[one], [skipped]]
    assert list(together.groups([one, auto], on_gpu)) == [[one], [auto]]
    assert list(together.groups([one, two], on_gpu)) == [[one, two]]
    monkeypatch.setattr(together, "usable_cores", lambda: [0])
    assert list(together.groups([one, two], MACHINE)) == [[one], [two]]
