"""One record to the figures and marks of its row; nothing is averaged over processes here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from harness.clock import MINIMUM_WINDOW_S
from harness.running.record import Record, StageRecord
from harness.spec import Case
from results.rules import time_rules
from results.storage.windows import compile_s, seconds_of, steps_of, training_seconds


class Mark(NamedTuple):
    """What must be known about a figure before it is believed: its metric, the footnote, and the rule behind it."""

    metric: str
    words: str
    rule: str = ""

    @property
    def sentence(self) -> str:
        """The footnote with the rule's id."""
        return f"{self.words} ({self.rule})" if self.rule else self.words


MARKS = {
    "short window": Mark("throughput", "measured over less than 1 s of work"),
    "compile in window": Mark("throughput", "void: something was compiled inside the window", "V34"),
    "other threads": Mark("throughput", "void: it ran on more cores or threads than its case has", "V37"),
    "not synchronised": Mark("throughput", "void: the device still worked when the clock was stopped", "V40"),
    "other steps": Mark("throughput", "void: the window does not hold exactly the steps after warm-up", "V41"),
    "fetched outside": Mark("throughput", "void: batches were fetched before the window opened", "V43"),
    "evaluated inside": Mark("throughput", "void: something was evaluated inside the window", "V43"),
    "clock costs": Mark("throughput", "void: the clock itself takes over 1 % of the shortest step", "V44"),
    "rounded times": Mark("throughput", "void: step times were rounded", "V51"),
    "not steady": Mark(
        "throughput", "first and last third of the window differ by more than 10 %: warm-up too short?", "V41"
    ),
    "best epoch": Mark("accuracy", "weights of the best epoch by validation accuracy were kept", "V46"),
    "best epoch on test": Mark(
        "accuracy", "biased upwards: the best epoch was chosen by the very images that are judged here", "V46"
    ),
    "validation images": Mark("accuracy", "of the validation images; there is no test split"),
    "norm not converged": Mark(
        "accuracy", "batch-norm statistics moved for fewer than 3 / momentum steps and lag behind", "V11"
    ),
    "checkpoint incomplete": Mark("accuracy", "the checkpoint did not fit: some tensors were missing or left over"),
    "native defaults": Mark(
        "accuracy", "each framework's own defaults (--native-defaults); not for comparison with matched runs"
    ),
}
"""Every mark by its code, in the order of the footnotes."""


def measure(record: Record) -> dict[str, Any]:
    """Figures of one process by column name: rates in images/s, times as named, memory in 10^6 bytes, fractions.

    `throughput` is images ÷ seconds over the throughput windows of all stages, one division; it is void (NaN) if one of
    the rules about time speaks, and so is the latency. Training time leaves out compiling, which is `compile_s`.
    `epoch_s` and the latencies are of the last stage: no median is over steps or epochs of unlike stages.
    """
    stages, void = record.stages, bool(time_rules.voided(record))
    epochs = [epoch for stage in stages for epoch in stage.epochs]
    trained = [training_seconds(stage) for stage in stages]
    latency = sorted(steps_of(stages[-1], "latency")) if stages and not void else []
    quality = record.test or record.val
    memory = record.memory
    device = memory.device_peak if memory else None
    return {
        "throughput": math.nan if void else _throughput(stages),
        "window_s": seconds_of(stages, "throughput"),
        "latency_ms": median(latency) / 1e3 if latency else math.nan,
        "latency_p95_ms": _p95(latency) / 1e3,
        "latency_max_ms": latency[-1] / 1e3 if latency else math.nan,
        "first_step_s": seconds_of(stages[:1], "first"),
        "compile_s": sum(map(compile_s, stages)) if stages else math.nan,
        "epoch_s": median(trained[-1]) if trained and trained[-1] else math.nan,
        "train_s": sum(map(sum, trained)) if epochs else math.nan,
        "total_s": record.total_s or math.nan,
        "accuracy": quality.accuracy if quality else math.nan,
        "loss": quality.loss if quality else math.nan,
        "test_images": quality.images if quality else None,
        "val_accuracy": record.val.accuracy if record.val else math.nan,
        "process_memory_mb": memory.process_peak / 1e6 if memory else math.nan,
        "device_memory_mb": device / 1e6 if device is not None else math.nan,
        "peak_memory_mb": (memory.process_peak if device is None else device) / 1e6 if memory else math.nan,
        "epoch_seconds": [seconds for own in trained for seconds in own],
        "epoch_val_accuracy": [epoch.val_accuracy for epoch in epochs],
        "marks": marks(record),
    }


def marks(record: Record) -> list[str]:
    """Codes of what must be known about this record, in the order of MARKS."""
    on_validation = record.test_is_val or (record.test is None and record.val is not None)
    kept_best = any(stage.keep == "best" for stage in record.case.scenario.stages)
    void = time_rules.voided(record)
    holds = {
        "short window": 0 < seconds_of(record.stages, "throughput") < MINIMUM_WINDOW_S,
        "not steady": time_rules.v41_not_steady(record),
        "best epoch": kept_best and not on_validation,
        "best epoch on test": kept_best and on_validation,
        "validation images": on_validation,
        "norm not converged": _norm_lags(record.case, record.stages),
        "checkpoint incomplete": record.load is not None and not record.load.complete,
        "native defaults": record.case.idiom,
    }
    return [code for code in MARKS if holds.get(code) or code in void]


def _throughput(stages: Sequence[StageRecord]) -> float:
    images = sum(w.images for stage in stages for w in stage.windows if w.kind == "throughput")
    seconds = seconds_of(stages, "throughput")
    return images / seconds if seconds > 0 else math.nan


def _norm_lags(case: Case, stages: Sequence[StageRecord]) -> bool:
    """After n steps at momentum m the old statistics still weigh (1 - m)^n, about exp(-n m): 5 % at n = 3 / m."""
    moved = [stage.norm_steps * plan.bn_momentum for stage, plan in zip(stages, case.scenario.stages, strict=False)]
    return 0 < sum(moved) < 3


def _p95(ordered: Sequence[float]) -> float:
    """Nearest rank of sorted values: always one that occurred."""
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else math.nan
