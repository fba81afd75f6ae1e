"""Rules over one record: whether the work it stands for is the work that its case declares.

Each takes a record and says in sentences what is wrong; a record with a breach has failed. What the record has no
evidence for, an older one say, is not held against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from msgspec.structs import replace

from harness.running.record import Record, StageRecord
from harness.spec import Stage

BITS = {"fp32": (15.0, 30.0), "bf16": (5.0, 10.5), "fp64": (40.0, 53.0)}
"""Bits of mantissa that products and convolutions may keep in each precision (fp32 keeps 22, TF32 12, bf16 9)."""
Rule = Callable[[Record], Iterator[str]]


def v07_one_step_is_one_step(record: Record) -> Iterator[str]:
    """One forward, one backward and one update per optimizer step."""
    for where, _, said in _stages(record):
        steps = len(said.step_us)
        if said.seen is None:
            continue
        if work := said.seen.work:
            for what in ("forwards", "backwards", "updates"):
                done = getattr(work, what)
                if done is not None and done != steps:
                    yield f"{where}{done} {what} in {steps} steps"
        if (counted := said.seen.norm_forwards) and counted != (steps, steps):
            yield f"{where}norm layers saw {counted[0]} to {counted[1]} batches in {steps} steps"


def v17_optimizer_starts_anew(record: Record) -> Iterator[str]:
    """No stage starts with optimizer state in which something has gathered."""
    for where, _, said in _stages(record):
        if said.seen is not None and said.seen.slots_at_start:
            yield f"{where}the optimizer started with state of up to {said.seen.slots_at_start:.2g} in it"


def v29_whole_splits(record: Record) -> Iterator[str]:
    """Every image of a split was judged, and none twice."""
    for split, quality in (("test", record.test), ("val", record.val)):
        if quality is not None and split in record.images and quality.images != record.images[split]:
            yield f"{quality.images} of {record.images[split]} {split} images were judged"


def v31_every_sample_once(record: Record) -> Iterator[str]:
    """In an epoch no sample comes twice, and only those are left out that fill no batch."""
    for where, stage, said in _stages(record):
        fewest, most = said.samples_seen
        if most > stage.epochs:
            yield f"{where}a sample came {most} times in {stage.epochs} epochs"
        whole = "train" in record.images and record.images["train"] % stage.batch_size == 0
        if whole and fewest < stage.epochs:
            yield f"{where}a sample came {fewest} times in {stage.epochs} epochs"


def v32_precision_is_as_declared(record: Record) -> Iterator[str]:
    """The precision that was read back is the case's, and results are as exact as it allows, but for an idiom's."""
    wanted, found = record.case.precision, record.effective
    if found is not None and found.precision != wanted:
        yield f"it ran in {found.precision}, not in {wanted}"
    if record.numerics is not None and not record.case.idiom:
        low, high = BITS[wanted]
        for what in ("product", "convolution"):
            bits = getattr(record.numerics, f"{what}_bits")
            if not low <= bits <= high:
                yield f"a {what} kept {bits:.0f} bits of mantissa, which is not {wanted}"


def v45_batch_is_as_declared(record: Record) -> Iterator[str]:
    """Every step was made on as many samples as the stage's batch has."""
    for where, stage, said in _stages(record):
        wanted = len(said.step_us) * stage.batch_size
        timed = sum(window.images for window in said.windows)
        if timed != wanted:
            yield f"{where}{timed} images were timed in {len(said.step_us)} steps of {stage.batch_size}"
        work = said.seen.work if said.seen else None
        if work is not None and work.samples is not None and work.samples != wanted:
            yield f"{where}{work.samples} samples were trained on in {len(said.step_us)} steps of {stage.batch_size}"


AUDITED = {
    "V13": " is random although ",
    "V14": " did not move although ",
    "V15": " has optimizer state although ",
    "V16": " was paid for",
}
"""What the freeze audit's sentences say, by rule; all others are V09's."""


def _audited(rule: str, record: Record) -> Iterator[str]:
    for where, _, said in _stages(record):
        for breach in said.audit.breaches:
            if rule == next((other for other, phrase in AUDITED.items() if phrase in breach), "V09"):
                yield f"{where}{breach}"


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "V07": v07_one_step_is_one_step,
        **{rule: partial(_audited, rule) for rule in ("V09", *AUDITED)},
        "V17": v17_optimizer_starts_anew,
        "V29": v29_whole_splits,
        "V31": v31_every_sample_once,
        "V32": v32_precision_is_as_declared,
        "V45": v45_batch_is_as_declared,
    }
)


def breaches(record: Record) -> list[str]:
    """A sentence for each breach, with the rule's id in front."""
    return [f"{rule}: {sentence}" for rule, speaks in RULES.items() for sentence in speaks(record)]


def judged(record: Record, further: list[str] | None = None) -> Record:
    """The record, failed if there is a breach of a rule, or if `further` ones were found.

    One without figures keeps its status if it has a reason; without, it has failed too (V50).
    """
    if record.status != "ok":
        return record if record.reason else v50_not_without_a_reason(record)
    found = [*breaches(record), *(further or ())]
    return replace(record, status="failed", reason="; ".join(found)) if found else record


def v50_not_without_a_reason(record: Record) -> Record:
    """A case that was skipped, or went wrong, without a reason."""
    return replace(record, status="failed", reason=f"V50: {record.status} without a reason")


def _stages(record: Record) -> Iterator[tuple[str, Stage, StageRecord]]:
    """Each stage with the beginning of a sentence about it."""
    plans = record.case.scenario.stages
    for number, (stage, said) in enumerate(zip(plans, record.stages, strict=False), 1):
        yield (f"stage {number}: " if len(plans) > 1 else ""), stage, said
