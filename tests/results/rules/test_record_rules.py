"""Rules over one record: each speaks of what it is for, and of nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from harness.auditing.audit import Audit
from harness.rules import Breach
from harness.running.numerics import Numerics
from harness.running.observer import StageObservations, Work
from harness.running.record import Record, StageRecord
from results.rules.record_rules import breaches, judged
from tests.results.records import build

STEPS, BATCH = 44, 16
SHORT = "703 samples were trained on in 44 steps of 16"
DONE = Work(forwards=STEPS, backwards=STEPS, updates=STEPS, samples=STEPS * BATCH, inferences=0)
HONEST = StageObservations(work=DONE, norm_forwards=(STEPS, STEPS), slots_at_start=0.0)
EXACT = Numerics(product_bits=21.9, convolution_bits=21.2)


def record(**stage: Any) -> Record:
    """An honest record with all the evidence there can be, one of its stage's fields changed."""
    made = replace(build(), images={"train": 352, "val": 500, "test": 500}, numerics=EXACT)
    return replace(made, stages=(replace(made.stages[0], **{"seen": HONEST, **stage}),))


def audited(rule: str, sentence: str) -> dict[str, Audit]:
    return {"audit": Audit(moved=1, fixed=0, frozen_sha256="", breaches=(sentence,), rules=(rule,))}


def found(made: Record) -> list[str]:
    return [str(breach) for breach in breaches(made)]


def test_an_honest_record_and_one_without_evidence_break_no_rule() -> None:
    assert breaches(record()) == []
    assert breaches(build()) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"seen": replace(HONEST, work=replace(DONE, forwards=45))}, "V07: 45 forwards in 44 steps"),
        ({"seen": replace(HONEST, work=replace(DONE, backwards=43))}, "V07: 43 backwards in 44 steps"),
        ({"seen": replace(HONEST, work=replace(DONE, updates=43))}, "V07: 43 updates in 44 steps"),
        ({"seen": replace(HONEST, norm_forwards=(44, 88))}, "V07: norm layers processed 44 to 88 batches in 44 steps"),
        ({"seen": replace(HONEST, work=replace(DONE, samples=703))}, f"V45: {SHORT}"),
        ({"seen": replace(HONEST, slots_at_start=1e-9)}, "V17: the optimizer started with state values up to 1e-09"),
        ({"samples_seen": (2, 3)}, "V31: a sample was used 3 times in 2 epochs"),
        ({"samples_seen": (1, 2)}, "V31: a sample was used 1 times in 2 epochs"),
        (audited("V09", "a.weight moved although it is frozen"), "V09: a.weight moved although it is frozen"),
        (audited("V13", "bn is random although it is frozen"), "V13: bn is random although it is frozen"),
        (audited("V14", "a did not move although its rate is 1"), "V14: a did not move although its rate is 1"),
        (audited("V15", "a has optimizer state although"), "V15: a has optimizer state although"),
        (audited("V16", "a got a gradient"), "V16: a got a gradient"),
    ],
)  # fmt: skip
def test_a_stage_that_did_other_work_than_declared_is_a_breach(changed: dict[str, Any], sentence: str) -> None:
    assert found(record(**changed)) == [sentence]


def test_a_breach_in_an_audit_from_before_rules_were_stored_is_one_of_V09() -> None:
    old = Audit(moved=1, fixed=0, frozen_sha256="", breaches=("bn is random although it is frozen",))
    assert b'"rules"' not in msgspec.json.encode(old)
    assert found(record(audit=old)) == ["V09: bn is random although it is frozen"]


def test_V31_samples_that_fill_no_batch_may_be_left_out() -> None:
    left_out = replace(record(samples_seen=(1, 2)), images={"train": 355})
    assert breaches(left_out) == []


def test_V29_every_image_of_a_split_is_judged() -> None:
    assert found(replace(record(), images={"test": 501})) == ["V29: 500 of 501 test images were evaluated"]


def test_V32_what_was_read_back_and_what_was_measured_must_be_the_declared_precision() -> None:
    made = record()
    assert made.effective is not None
    said = replace(made, effective=replace(made.effective, precision="bf16"))
    assert found(said) == ["V32: the framework used bf16, not fp32"]
    tf32 = replace(made, numerics=replace(EXACT, convolution_bits=11.7))
    assert found(tf32) == ["V32: a convolution has 12 bits of mantissa; fp32 has 15 to 30"]
    assert breaches(replace(tf32, case=replace(made.case, idiom=True))) == []
    wide = replace(tf32, case=replace(made.case, precision="bf16"), effective=replace(made.effective, precision="bf16"))
    assert [sentence[:32] for sentence in found(wide)] == [
        "V32: a product has 22 bits of ma", "V32: a convolution has 12 bits o"]  # fmt: skip


def test_V45_what_was_timed_is_as_many_images_as_the_stage_declares() -> None:
    made = record()
    windows = tuple(replace(window, images=window.images // 2) for window in made.stages[0].windows)
    assert found(record(windows=windows)) == ["V45: 352 images were timed in 44 steps of 16"]


def test_a_breach_fails_the_record_with_every_sentence() -> None:
    broken = record(**audited("V09", "a moved although b"), samples_seen=(2, 3))
    failed = judged(broken, [Breach("V23", "", "something else")])
    assert failed.status == "failed"
    assert failed.reason == "V09: a moved although b; V31: a sample was used 3 times in 2 epochs; V23: something else"
    assert judged(record()) == record()


def test_V50_nothing_is_skipped_without_a_reason() -> None:
    skipped = replace(build(), status="skipped", reason="")
    assert (judged(skipped).status, judged(skipped).reason) == ("failed", "V50: skipped without a reason")
    known = replace(skipped, reason="no CUDA")
    assert judged(known) == known


def test_sentences_name_the_stage_where_there_are_several() -> None:
    made = record()
    stage = made.case.scenario.stages[0]
    two = replace(made, case=replace(made.case, scenario=replace(made.case.scenario, stages=(stage, stage))))
    second: StageRecord = replace(made.stages[0], samples_seen=(2, 3))
    assert found(replace(two, stages=(made.stages[0], second))) == [
        "V31: stage 2: a sample was used 3 times in 2 epochs"
    ]
