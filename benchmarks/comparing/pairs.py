"""One pair: two fresh processes on the same cores that take turns, or, where both do not fit, follow each other."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from harness.entry import TAKE_TURNS
from harness.pairing.side_record import SideRecord
from harness.process.environment import Place
from harness.process.launch import Event, Outcome, Worker
from harness.spec import Job, key, version
from results.storage.rows import Order, SideName

LEAST_STEPS, QUADS = 5, 3
"""Steps that a turn has at least, and how often the four turns of an order are repeated in a pair."""


class Side(NamedTuple):
    """What one side runs in a pair: a stage, counted from 0, of a job, in a place; each step is longer by `delay`."""

    job: Job
    place: Place
    stage: int
    delay: float = 0.0


def measure_pair(
    sides: tuple[Side, Side], order: Order, turn_s: float, timeout_s: float
) -> tuple[SideRecord, SideRecord]:
    """Both sides' records. A side that failed says so in its status, and the other is then without turns or short."""
    both = dict(zip(("A", "B"), sides, strict=True))
    with tempfile.TemporaryDirectory(prefix="finetune-bench-") as scratch:
        if len(order) == 2:
            alone = {
                name: _take_turns({name: both[name]}, name * 2 * QUADS, Path(scratch), turn_s, timeout_s)
                for name in order
            }
            return alone["A"]["A"], alone["B"]["B"]
        said = _take_turns(both, order * QUADS, Path(scratch), turn_s, timeout_s)
        return said["A"], said["B"]


def _take_turns(
    sides: dict[str, Side], order: str, scratch: Path, turn_s: float, timeout_s: float
) -> dict[str, SideRecord]:
    with ExitStack() as stack:
        # The first to have a turn is the first to start. Each starts on its own cores: neither waits for the other.
        workers: dict[str, Worker] = {}
        taken = 0
        for name in dict.fromkeys(order):
            workers[name] = stack.enter_context(_worker(sides[name], scratch / name, timeout_s, beside=taken))
            taken += sides[name].job.case.threads
        events = {name: worker.events() for name, worker in workers.items()}
        if all(_heard("ready", own) for own in events.values()):
            for worker in workers.values():
                worker.join()
            for name in order:
                workers[name].send({"seconds": turn_s, "steps": LEAST_STEPS})
                if not _heard("turn", events[name]):
                    break
        for worker in workers.values():
            worker.send({"stop": True})
        return {name: _said(sides[name], _outcome(workers[name], events[name])) for name in workers}


def _worker(side: Side, folder: Path, timeout_s: float, beside: int) -> Worker:
    case = side.job.case
    arguments = {"job": side.job, "stage": side.stage, "delay": side.delay}
    return Worker(
        TAKE_TURNS,
        arguments,
        folder=folder,
        cores=case.threads,
        engine=case.engine,
        timeout_s=timeout_s,
        place=side.place,
        beside=beside,
    )


def _heard(what: str, events: Iterator[Event]) -> bool:
    """Wait for an event of that kind; False if the worker ended without."""
    return any(what in event for event in events)


def _outcome(worker: Worker, events: Iterator[Event]) -> Outcome:
    for _ in events:
        continue
    return worker.outcome()


def _said(side: Side, outcome: Outcome) -> SideRecord:
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


def trouble(a: SideRecord, b: SideRecord) -> str:
    """Why a pair has no ratio, naming the side; empty if both sides were measured."""
    bad: Sequence[tuple[SideName, SideRecord]] = (("A", a), ("B", b))
    return "; ".join(f"side {name}: {side.status} – {side.reason}" for name, side in bad if side.status != "ok")
