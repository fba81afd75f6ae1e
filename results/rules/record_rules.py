"""Rules about one record: whether the process did the work that its case declares.

A record with a breach has failed. A rule finds nothing where the record, for example an old one, has no evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from harness.rules import Breach, Finding, ask, rule, switched_off
from harness.running.record import Record, StageRecord
from harness.spec import Stage

BITS = {"fp32": (15.0, 30.0), "tf32": (10.5, 15.0), "bf16": (5.0, 10.5), "fp16": (10.5, 15.0), "fp64": (40.0, 53.0)}
"""Allowed bits of mantissa of products and convolutions, by precision (fp32 has 22, TF32 and fp16 12, bf16 9)."""


@rule("V07", "record")
def other_work(record: Record) -> Iterator[Finding]:
    """A step is not one forward pass, one backward pass and one update."""
    for where, _, done in _stages(record):
        steps = len(done.step_us)
        if done.seen is None:
            continue
        for what in ("forwards", "backwards", "updates") if done.seen.work else ():
            count = getattr(done.seen.work, what)
            if count is not None and count != steps:
                yield where, f"{count} {what} in {steps} steps"
        if (counted := done.seen.norm_forwards) and counted != (steps, steps):
            yield where, f"norm layers processed {counted[0]} to {counted[1]} batches in {steps} steps"


@rule("V17", "record")
def kept_state(record: Record) -> Iterator[Finding]:
    """The optimizer starts a stage with state from an earlier stage."""
    for where, _, done in _stages(record):
        if done.seen is not None and done.seen.slots_at_start:
            yield where, f"the optimizer started with state values up to {done.seen.slots_at_start:.2g}"


FEATURES = {"fp32": 1e-4, "tf32": 1e-2, "bf16": 5e-2, "fp16": 1e-2, "fp64": 1e-10}
"""Largest difference between logits from kept features and from images, relative to the largest logit."""


@rule("V53", "record")
def other_features(record: Record) -> Iterator[Finding]:
    """Kept features are not those that the network computes from the images."""
    for where, _, done in _stages(record):
        difference, limit = done.features_difference, FEATURES[record.case.precision]
        if difference is not None and not difference <= limit:
            yield where, f"their logits differ by {difference:.2g} of the largest logit, more than {limit:g}"


@rule("V29", "record")
def images_not_judged(record: Record) -> Iterator[Finding]:
    """An image of a split was not evaluated, or was evaluated twice."""
    for split, quality in (("test", record.test), ("val", record.val)):
        if quality is not None and split in record.images and quality.images != record.images[split]:
            yield f"{quality.images} of {record.images[split]} {split} images were evaluated"


@rule("V31", "record")
def samples_not_once(record: Record) -> Iterator[Finding]:
    """An epoch used a sample twice, or left a sample out although all samples fill whole batches."""
    for where, stage, done in _stages(record):
        fewest, most = done.samples_seen
        if most > stage.epochs:
            yield where, f"a sample was used {most} times in {stage.epochs} epochs"
        whole = "train" in record.images and record.images["train"] % stage.batch_size == 0
        if whole and fewest < stage.epochs:
            yield where, f"a sample was used {fewest} times in {stage.epochs} epochs"


@rule("V32", "record")
def other_precision(record: Record) -> Iterator[Finding]:
    """The framework used another precision than the declared one, or its results have too many or too few bits."""
    wanted, found = record.case.precision, record.effective
    if found is not None and found.precision != wanted:
        yield f"the framework used {found.precision}, not {wanted}"
    if record.numerics is not None and not record.case.idiom:
        low, high = BITS[wanted]
        for what in ("product", "convolution"):
            bits = getattr(record.numerics, f"{what}_bits")
            if not low <= bits <= high:
                yield f"a {what} has {bits:.0f} bits of mantissa; {wanted} has {low:g} to {high:g}"


@rule("V45", "record")
def other_batch(record: Record) -> Iterator[Finding]:
    """A step used fewer or more samples than the batch size of its stage."""
    for where, stage, done in _stages(record):
        wanted = len(done.step_us) * stage.batch_size
        steps = f"{len(done.step_us)} steps of {stage.batch_size}"
        timed = sum(window.images for window in done.windows)
        if timed != wanted:
            yield where, f"{timed} images were timed in {steps}"
        work = done.seen.work if done.seen else None
        if work is not None and work.samples is not None and work.samples != wanted:
            yield where, f"{work.samples} samples were trained on in {steps}"


@rule("V50", "record")
def without_reason(record: Record) -> Iterator[Finding]:
    """The record of a skipped or failed case gives no reason."""
    if record.status != "ok" and not record.reason:
        yield f"{record.status} without a reason"


RECORD_RULES = (
    other_work, kept_state, other_features, images_not_judged, samples_not_once, other_precision, other_batch,
    without_reason,
)  # fmt: skip


def breaches(record: Record) -> list[Breach]:
    """Return every breach in a record, those of its audits included, in the order of the rules."""
    audited = [
        breach._replace(where=where)
        for where, _, done in _stages(record)
        for breach in done.audit.found
        if breach.rule not in switched_off()
    ]
    return sorted([*audited, *ask(RECORD_RULES, record)], key=lambda breach: breach.rule)


def judged(record: Record, further: Iterable[Breach] = ()) -> Record:
    """Return the record, failed if it has a breach or a `further` one. A record that is not `ok` keeps its reason."""
    if record.status != "ok" and record.reason:
        return record
    found = [*breaches(record), *further]
    return replace(record, status="failed", reason="; ".join(map(str, found))) if found else record


def _stages(record: Record) -> Iterator[tuple[str, Stage, StageRecord]]:
    """Yield each stage with its name, which is empty for a single stage."""
    plans = record.case.scenario.stages
    for number, (stage, done) in enumerate(zip(plans, record.stages, strict=False), 1):
        yield (f"stage {number}" if len(plans) > 1 else ""), stage, done
