"""Records made by hand, from the harness's own types."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.auditing.audit import Audit
from harness.clock import Window
from harness.contract import Effective
from harness.process.machine import Machine
from harness.running.initial_weights import LoadReport
from harness.running.record import Epoch, Memory, Quality, Record, StageRecord
from harness.spec import Case, Scenario, Stage, key, version

MACHINE = Machine(cpu="Testor 1", cores=2, memory_gib=8, gpus=(), architecture="x86_64")


def build(
    *,
    scenario: str = "full",
    accuracy: float = 0.75,
    step_us: int = 50_000,
    steps: int = 44,
    curve: tuple[float, ...] = (0.5, 0.7),
    status: str = "ok",
    reason: str = "",
    compile_events: int = 0,
    stage: dict[str, Any] | None = None,
    norm_steps: int = 100,
    load: LoadReport | None = None,
    test_is_val: bool = False,
    backbone_parameters: int = 1000,
    started: str = "2026-01-02T03:04:05+00:00",
    versions: dict[str, str] | None = None,
    device_peak: int | None = None,
    ran_layout: str | None = None,
    **case: Any,
) -> Record:
    plan = Stage(epochs=len(curve), head_lr=0.01, backbone_lr=0.01, **(stage or {}))
    fields: dict[str, Any] = {"backend": "pytorch", "model": "resnet18", "dataset": "embedded-target",
                              "dataset_sha256": "d" * 64, "image_size": 64, "checkpoint_sha256": "c" * 64}  # fmt: skip
    the_case = Case(scenario=Scenario(name=scenario, explanation="", stages=(plan,)), **{**fields, **case})
    record = Record(
        case=the_case, key=key(the_case), version=version(the_case), status=status, started=started, machine="m1",
        reason=reason or ("" if status == "ok" else "for a test"),
    )  # fmt: skip
    if status == "skipped":
        return record
    done = StageRecord(
        epochs=tuple(Epoch(seconds=2.0, train_loss=1.0, train_accuracy=a, val_loss=1.0, val_accuracy=a) for a in curve),
        step_us=(1_500_000, *[step_us] * 3, *[step_us + 1], *[step_us] * (steps - 6), step_us + 1),
        windows=windows(steps, step_us, compile_events),
        losses=tuple(1.0 for _ in range(steps)),
        audit=Audit(moved=10, fixed=0, frozen_sha256="0" * 64),
        kept_epoch=len(curve) - 1,
        trainable_parameters=1010,
        norm_steps=norm_steps,
        order_sha256="1" * 64,
        pixels_sha256=None,
        samples_seen=(len(curve), len(curve)),
    )
    return msgspec.structs.replace(
        record,
        total_s=12.5,
        wall_s={"import": 2.0, "step": 4.0, "evaluation": 1.0, "other": 5.5},
        stages=(done,),
        test=None if test_is_val else Quality(accuracy=accuracy, loss=0.8, images=500),
        val=Quality(accuracy=accuracy, loss=0.8, images=500),
        test_is_val=test_is_val,
        classes=("a", "b"),
        load=load,
        parameters={"backbone": backbone_parameters, "head": 10},
        memory=Memory(process_peak=812_000_000, private_peak=1, framework=1, device_peak=device_peak),
        effective=Effective(
            device="cpu",
            device_name="Testor 1",
            precision="fp32",
            compile="no",
            threads=1,
            layout=ran_layout or the_case.layout,
        ),
        versions=versions or {"python": "3.11", the_case.backend: "1.0"},
    )


def joined(first: Record, second: Record) -> Record:
    """One record whose scenario has the stage of the first and then that of the second."""
    one, other = first.case.scenario, second.case.scenario
    both = msgspec.structs.replace(one, stages=(*one.stages, *other.stages))
    case = msgspec.structs.replace(first.case, scenario=both)
    return msgspec.structs.replace(
        first, case=case, key=key(case), version=version(case), stages=(*first.stages, *second.stages)
    )


def windows(steps: int, step_us: int, compile_events: int) -> tuple[Window, ...]:
    """First, three of warm-up, throughput, and a quarter of the rest (at most 20) latency, 16 images each."""
    latency = min(20, (steps - 4) // 4)
    counts = {"first": 1, "warmup": 3, "throughput": steps - 4 - latency, "latency": latency}
    return tuple(
        Window(
            kind=kind, steps=count, images=16 * count,
            seconds=1.5 if kind == "first" else count * step_us / 1e6,
            compile_events=compile_events if kind == "throughput" else 0,
        )
        for kind, count in counts.items()
    )  # fmt: skip


def without_training_images(record: Record) -> Record:
    """The record of the same run with `--train-sample 0`."""
    replace = msgspec.structs.replace
    stages = tuple(
        replace(stage, epochs=tuple(replace(e, train_loss=None, train_accuracy=None) for e in stage.epochs))
        for stage in record.stages
    )
    return replace(record, stages=stages)
