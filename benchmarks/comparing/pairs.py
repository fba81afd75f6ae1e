"""Measure one pair: two fresh processes take turns on the same cores, or run one after the other."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from harness.entry import TAKE_TURNS
from harness.pairing.side_record import SideRecord
from harness.process.environment import Place
from harness.process.launch import Event, Outcome, Worker
from harness.spec import Job, key, version
from results.storage.rows import Order

LEAST_STEPS, ROUNDS = 5, 3
"""The smallest number of steps in a turn, and the number of repeats of an order of four turns in a pair."""


class Side(NamedTuple):
    """One side of a pair: a stage (counted from 0) of a job, in a place.

    `delay` makes each step longer by this share; `rest` is the share of a step that passes after it, untimed.
    """

    job: Job
    place: Place
    stage: int
    delay: float = 0.0
    rest: float = 0.0


def measure_pair(
    sides: tuple[Side, Side], order: Order, turn_s: float, timeout_s: float
) -> tuple[SideRecord, SideRecord]:
    """Return the records of both sides. If a side fails, its status says so, and the other has few or no turns."""
    both = dict(zip(("A", "B"), sides, strict=True))
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch:
        records: dict[str, SideRecord] = {}
        if len(order) == 2:
            for name in order:
                records |= _take_turns({name: both[name]}, name * 2 * ROUNDS, Path(scratch), turn_s, timeout_s)
        else:
            records = _take_turns(both, order * ROUNDS, Path(scratch), turn_s, timeout_s)
        return records["A"], records["B"]


def _take_turns(
    sides: dict[str, Side], order: str, scratch: Path, turn_s: float, timeout_s: float
) -> dict[str, SideRecord]:
    with ExitStack() as stack:
        # The side with the first turn starts first. Each starts on its own cores, without waiting for the other.
        workers: dict[str, Worker] = {}
        taken = 0
        for name in dict.fromkeys(order):
            workers[name] = stack.enter_context(_worker(sides[name], scratch / name, timeout_s, beside=taken))
            taken += sides[name].job.case.cores
        events = {name: worker.events() for name, worker in workers.items()}
        if all(_wait_for("ready", events[name]) for name in workers):
            for worker in workers.values():
                worker.join()
            for name in order:
                workers[name].send({"seconds": turn_s, "steps": LEAST_STEPS})
                if not _wait_for("turn", events[name]):
                    break
        for worker in workers.values():
            worker.send({"stop": True})
        for remaining in events.values():
            deque(remaining, maxlen=0)
        return {name: _record(sides[name], worker.outcome()) for name, worker in workers.items()}


def _worker(side: Side, folder: Path, timeout_s: float, beside: int) -> Worker:
    case = side.job.case
    arguments = {"job": side.job, "stage": side.stage, "delay": side.delay}
    if side.rest:  # older revisions do not know this argument
        arguments["rest"] = side.rest
    facts: dict[str, Any] = {"cores": case.cores, "engine": case.engine, "place": side.place, "beside": beside}
    return Worker(TAKE_TURNS, arguments, folder=folder, timeout_s=timeout_s, **facts)


def _wait_for(kind: str, events: Iterator[Event]) -> bool:
    """Wait for an event of a kind; return False if the worker ends without one."""
    return any(kind in event for event in events)


def _record(side: Side, outcome: Outcome) -> SideRecord:
    if outcome.ending == "ok":
        record = msgspec.json.decode(outcome.value, type=SideRecord)
        return msgspec.structs.replace(record, total_s=outcome.seconds)
    case = side.job.case
    return SideRecord(
        case=case,
        key=key(case),
        version=version(case),
        status="failed" if outcome.ending == "refused" else outcome.ending,
        reason=outcome.reason,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        total_s=outcome.seconds,
    )


def failure_of(a: SideRecord, b: SideRecord) -> str:
    """Return why a pair has no ratio, with the side; empty if both sides were measured."""
    both = ("A", a), ("B", b)
    return "; ".join(f"side {name}: {side.status} – {side.reason}" for name, side in both if side.status != "ok")
