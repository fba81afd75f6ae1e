"""One side of a pair, in its worker: open the case as a run does, then train in turns until the parent stops it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from msgspec.structs import replace

from harness.clock import REAL_TIME, TimeSource
from harness.data.checkpoint import tensors_digest
from harness.data.feed import Feed, stage_seed
from harness.errors import Declined
from harness.pairing.side_record import SideRecord
from harness.pairing.turn_clock import Stopped, TurnClock
from harness.process import machine
from harness.running.opening import open_case
from harness.running.sensors import private_memory
from harness.running.stage import Orders, Report
from harness.spec import Job, Schedule, key, version

ENDLESS = 50_000
"""Minimum number of steps of the prolonged stage; the parent stops it long before."""


def take_turns(
    job: Job,
    stage: int,
    delay: float,
    started: float,
    report: Report,
    orders: Orders,
    rest: float = 0.0,
    source: TimeSource = REAL_TIME,
) -> SideRecord:
    """Train stage number `stage` (from 0) of a job's case in turns, and return its record when it is stopped.

    `delay` and `rest` are shares of a step, as in `TurnClock`. Reports `ready` after the first step and the warm-up,
    and `turn` after each turn; waits for an order before each turn. Raises as `harness.running.run.run_case` does.
    """
    if job.case.features == "kept":
        raise Declined(
            "kept features are computed between epochs, which turns do not time; use `tune`, or `run` with "
            "--features live --features kept"
        )
    opened = open_case(job)
    case, session, train = job.case, opened.session, opened.dataset.splits["train"]
    planned = case.scenario.stages[stage]
    steps_per_epoch = max(1, len(train.ids) // planned.batch_size)
    # A schedule would end long before the turns do, so the learning rate is constant.
    endless = replace(planned, epochs=-(-ENDLESS // steps_per_epoch), schedule=Schedule())
    feed = Feed(
        train,
        batch_size=endless.batch_size,
        epochs=endless.epochs,
        seed=stage_seed(case, stage),
        image_size=case.image_size,
        normalisation=opened.found.normalisation,
        augmentations=case.augment,
        layout=session.batch_layout,
        input=case.input,
        workers=case.workers,
        now=source.now,
    )
    clock = TurnClock(
        stage=endless,
        steps=endless.epochs * feed.steps_per_epoch,
        sync=session.sync,
        compile_events=session.compile_events,
        orders=orders,
        report=report,
        warmup_steps=case.warmup_steps,
        delay=delay,
        rest=rest,
        threads=case.threads if session.effective().device == "cpu" else 0,
        source=source,
    )
    with suppress(Stopped):
        session.train(endless, feed, clock)
    memory = opened.memory(private_memory())
    return SideRecord(
        case=case,
        key=key(case),
        version=version(case),
        status="ok",
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        first_step_s=clock.step_ns[0] / 1e9,
        turns=tuple(clock.turns),
        start_sha256=tensors_digest(opened.start),
        memory=memory,
        sensors=clock.disturbance.read(),
        effective=session.effective(),
        versions=machine.versions(opened.found.backend.PACKAGES),
    )
