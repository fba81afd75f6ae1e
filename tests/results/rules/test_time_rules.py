"""Rules about time: what they void, and that they let honest records pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from harness.running.observer import StageObservations, Work
from harness.running.record import Record, Sensors
from results.rules.time_rules import MARK_RULES, TIME_RULES, voided
from results.tables.figures import MARKS, marks, measure
from tests.results.records import build

COARSE = tuple(100 * (500 + i % 7) for i in range(44))
QUIET = Sensors(cpu_over_wall=0.99, involuntary_switches=0, voluntary_switches=0)


def record(**changes: Any) -> Record:
    made = replace(build(), sensors=QUIET, empty_step_us=0.3)
    stage = made.stages[0]
    timed = tuple(
        replace(window, tail_s=0.0, seconds=sum(steps) / 1e6)
        for window, steps in zip(stage.windows, _split(made), strict=True)
    )
    own = {name: changes.pop(name) for name in list(changes) if hasattr(stage, name)}
    return replace(made, stages=(replace(stage, **{"windows": timed, **own}),), **changes)


def _split(made: Record) -> list[tuple[int, ...]]:
    found, start = [], 0
    for window in made.stages[0].windows:
        found.append(made.stages[0].step_us[start : start + window.steps])
        start += window.steps
    return found


def windows(kind: str, **changes: Any) -> tuple[Any, ...]:
    return tuple(replace(w, **changes) if w.kind == kind else w for w in record().stages[0].windows)


def test_an_honest_record_and_one_without_evidence_are_void_of_nothing() -> None:
    assert voided(record()) == []
    assert voided(build()) == []


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("compile in window", {"windows": windows("latency", compile_events=1)}),
        ("other threads", {"sensors": replace(QUIET, cpu_over_wall=1.06)}),
        ("not synchronised", {"drained_s": 0.05}),
        ("other steps", {"windows": windows("throughput", seconds=record().stages[0].windows[2].seconds + 0.05)}),
        ("other steps", {"windows": windows("throughput", seconds=record().stages[0].windows[2].seconds - 0.05)}),
        ("fetched outside", {"seen": StageObservations(drawn_early=1)}),
        ("evaluated inside", {"seen": StageObservations(work=Work(inferences=1))}),
        ("clock costs", {"empty_step_us": 501.0}),
        ("rounded times", {"step_us": COARSE, "windows": build().stages[0].windows}),
    ],
)  # fmt: skip
def test_what_cannot_be_believed_is_void_and_marked(code: str, changes: dict[str, Any]) -> None:
    made = record(**changes)
    assert voided(made) == [code]
    assert marks(made) == [code]
    assert "(V" in MARKS[code].sentence(ids=True)
    assert math.isnan(measure(made)["throughput"])
    assert math.isnan(measure(made)["latency_ms"])


def test_every_rule_has_a_mark() -> None:
    assert {rule.label for rule in (*TIME_RULES, *MARK_RULES)} <= set(MARKS)


def test_V37_threads_that_a_backend_says_it_has_count_too_and_a_stream_may_have_its_workers() -> None:
    made = record()
    assert made.effective is not None
    assert voided(replace(made, effective=replace(made.effective, threads=2))) == ["other threads"]
    busy = replace(QUIET, cpu_over_wall=2.9)
    streamed = replace(made, case=replace(made.case, input="stream", workers=2), sensors=busy)
    assert voided(streamed) == []
    assert voided(replace(streamed, case=replace(made.case, workers=2))) == ["other threads"]


def test_V37_the_devices_of_a_processor_have_their_threads_each() -> None:
    made = record()
    two = replace(made, case=replace(made.case, devices=2))
    assert voided(replace(two, sensors=replace(QUIET, cpu_over_wall=1.9))) == []
    assert voided(replace(two, sensors=replace(QUIET, cpu_over_wall=2.2))) == ["other threads"]
    assert made.effective is not None
    first = replace(made.effective, settings={"devices": 2, "exchange": "gloo"})
    alone = replace(two, effective=first, sensors=replace(QUIET, cpu_over_wall=1.9))
    assert voided(alone) == ["other threads"]


def test_V40_a_hundredth_of_the_time_or_of_a_second_may_be_left_to_do() -> None:
    assert voided(record(drained_s=0.039)) == []
    assert voided(record(drained_s=0.041)) == ["not synchronised"]


def test_V41_a_wait_at_the_end_of_an_epoch_belongs_to_the_window_and_to_no_step() -> None:
    seconds = record().stages[0].windows[2].seconds
    assert voided(record(windows=windows("throughput", seconds=seconds + 0.05, tail_s=0.05))) == []


def test_V41_a_window_that_holds_a_step_of_the_warm_up_is_void() -> None:
    fewer = replace(record(), case=replace(build().case, warmup_steps=2))
    assert voided(fewer) == ["other steps"]


def test_V51_a_few_equal_steps_are_no_proof_of_rounding() -> None:
    short = build(steps=12, step_us=50_000)
    assert "rounded times" not in voided(short)
    assert "rounded times" in voided(replace(record(), stages=(replace(record().stages[0], step_us=(50_000,) * 44),)))
