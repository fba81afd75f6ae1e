"""One side of a pair, inside its worker: build as a run does, then train in turns for as long as the parent wants."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from msgspec.structs import replace

from harness.clock import REAL_TIME, TimeSource
from harness.data.checkpoint import tensors_digest
from harness.data.feed import Feed, stage_seed
from harness.pairing.side_record import SideRecord
from harness.pairing.turn_clock import Orders, Stopped, TurnClock
from harness.process import machine
from harness.running.opening import open_case
from harness.running.sensors import private_memory
from harness.running.stage import Report
from harness.spec import Job, Schedule, key, version

ENDLESS = 50_000
"""Steps at least that a stage is made long enough for; the parent stops it long before."""


def take_turns(
    job: Job,
    stage: int,
    delay: float,
    started: float,
    report: Report,
    orders: Orders,
    source: TimeSource = REAL_TIME,
) -> SideRecord:
    """Train one stage of a job's case, counted from 0, in turns; returns what was measured once it is stopped.

    `ready` is reported after the first step and warm-up, `turn` after each turn, and before each the parent is waited
    for. Raises as `harness.running.run.run_case` does.
    """
    opened = open_case(job)
    case, session, train = job.case, opened.session, opened.dataset.splits["train"]
    planned = case.scenario.stages[stage]
    steps_per_epoch = max(1, len(train.ids) // planned.batch_size)
    # A schedule would end long before the turns do; its first rate holds.
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
