"""Rules about one record: whether the work it stands for is the work that its case declares.

A record with a breach has failed. A rule finds nothing where the record, for example an older one, has no evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from harness.rules import Breach, Finding, ask, rule, switched_off
from harness.running.record import Record, StageRecord
from harness.spec import Stage

BITS = {"fp32": (15.0, 30.0), "bf16": (5.0, 10.5), "fp64": (40.0, 53.0)}
"""Bits of mantissa that products and convolutions may keep in each precision (fp32 keeps 22, TF32 12, bf16 9)."""


@rule("V07", "record")
def other_work(record: Record) -> Iterator[Finding]:
    """A step is not one forward pass, one backward pass and one update."""
    for where, _, said in _stages(record):
        steps = len(said.step_us)
        if said.seen is None:
            continue
        if work := said.seen.work:
            for what in ("forwards", "backwards", "updates"):
                done = getattr(work, what)
                if done is not None and done != steps:
                    yield where, f"{done} {what} in {steps} steps"
        if (counted := said.seen.norm_forwards) and counted != (steps, steps):
            yield where, f"norm layers saw {counted[0]} to {counted[1]} batches in {steps} steps"


@rule("V17", "record")
def kept_state(record: Record) -> Iterator[Finding]:
    """The optimizer starts a stage with the state that it gathered before."""
    for where, _, said in _stages(record):
        if said.seen is not None and said.seen.slots_at_start:
            yield where, f"the optimizer started with state of up to {said.seen.slots_at_start:.2g} in it"


@rule("V29", "record")
def images_not_judged(record: Record) -> Iterator[Finding]:
    """An image of a split was not evaluated, or was evaluated twice."""
    for split, quality in (("test", record.test), ("val", record.val)):
        if quality is not None and split in record.images and quality.images != record.images[split]:
            yield f"{quality.images} of {record.images[split]} {split} images were judged"


@rule("V31", "record")
def samples_not_once(record: Record) -> Iterator[Finding]:
    """A sample came twice in an epoch, or was left out although it fills a batch."""
    for where, stage, said in _stages(record):
        fewest, most = said.samples_seen
        if most > stage.epochs:
            yield where, f"a sample came {most} times in {stage.epochs} epochs"
        whole = "train" in record.images and record.images["train"] % stage.batch_size == 0
        if whole and fewest < stage.epochs:
            yield where, f"a sample came {fewest} times in {stage.epochs} epochs"


@rule("V32", "record")
def other_precision(record: Record) -> Iterator[Finding]:
    """The framework ran in another precision than the case declares, or computes with more or fewer bits than it."""
    wanted, found = record.case.precision, record.effective
    if found is not None and found.precision != wanted:
        yield f"it ran in {found.precision}, not in {wanted}"
    if record.numerics is not None and not record.case.idiom:
        low, high = BITS[wanted]
        for what in ("product", "convolution"):
            bits = getattr(record.numerics, f"{what}_bits")
            if not low <= bits <= high:
                yield f"a {what} kept {bits:.0f} bits of mantissa, which is not {wanted}"


@rule("V45", "record")
def other_batch(record: Record) -> Iterator[Finding]:
    """A step was made on fewer or more samples than the batch of its stage has."""
    for where, stage, said in _stages(record):
        wanted = len(said.step_us) * stage.batch_size
        timed = sum(window.images for window in said.windows)
        if timed != wanted:
            yield where, f"{timed} images were timed in {len(said.step_us)} steps of {stage.batch_size}"
        work = said.seen.work if said.seen else None
        if work is not None and work.samples is not None and work.samples != wanted:
            yield where, f"{work.samples} samples were trained on in {len(said.step_us)} steps of {stage.batch_size}"


@rule("V50", "record")
def without_reason(record: Record) -> Iterator[Finding]:
    """A case was skipped or went wrong, and its record gives no reason."""
    if record.status != "ok" and not record.reason:
        yield f"{record.status} without a reason"


RECORD_RULES = (
    other_work,
    kept_state,
    images_not_judged,
    samples_not_once,
    other_precision,
    other_batch,
    without_reason,
)


def breaches(record: Record) -> list[Breach]:
    """Every breach in a record, those of its audits included, in the order of the rules."""
    audited = [
        breach._replace(where=where)
        for where, _, said in _stages(record)
        for breach in said.audit.found
        if breach.rule not in switched_off()
    ]
    return sorted([*audited, *ask(RECORD_RULES, record)], key=lambda breach: breach.rule)


def judged(record: Record, further: Iterable[Breach] = ()) -> Record:
    """The record, failed if there is a breach or a `further` one. One that was not measured keeps its reason."""
    if record.status != "ok" and record.reason:
        return record
    found = [*breaches(record), *further]
    return replace(record, status="failed", reason="; ".join(map(str, found))) if found else record


def _stages(record: Record) -> Iterator[tuple[str, Stage, StageRecord]]:
    """Each stage with its name, which is empty if it is the only one."""
    plans = record.case.scenario.stages
    for number, (stage, said) in enumerate(zip(plans, record.stages, strict=False), 1):
        yield (f"stage {number}" if len(plans) > 1 else ""), stage, said
