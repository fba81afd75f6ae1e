"""Figures and marks of one record. Nothing here averages over processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from statistics import median
from typing import Any, NamedTuple

from harness.clock import MINIMUM_WINDOW_S
from harness.rules import Rule, ask
from harness.running.record import Record, StageRecord
from results.rules import time_rules
from results.storage import energy
from results.storage.windows import compile_s, features_seconds, seconds_of, steps_of, training_seconds


class Mark(NamedTuple):
    """A note about a figure: its metric, the footnote, and the rule behind it."""

    metric: str
    words: str
    rule: str = ""

    def sentence(self, *, ids: bool) -> str:
        """Return the footnote, with or without the id of the rule."""
        return f"{self.words} ({self.rule})" if ids and self.rule else self.words


def _mark(rule: Rule[[Record]], metric: str, prefix: str = "") -> Mark:
    words = rule.sentence.removesuffix(".")
    return Mark(metric, prefix + words[0].lower() + words[1:], rule.id)


MARKS = {
    "short window": Mark("throughput", "measured over less than 1 s"),
    **{rule.label: _mark(rule, "throughput", "void: ") for rule in time_rules.TIME_RULES},
    "not steady": _mark(time_rules.not_steady, "throughput"),
    "kept features": Mark("throughput", "steps from kept features compute only the part that is trained"),
    "best epoch": _mark(time_rules.best_epoch, "accuracy"),
    "best epoch on test": _mark(time_rules.best_epoch_on_test, "accuracy"),
    "validation images": Mark("accuracy", "measured on the validation images, because there is no test split"),
    "norm not converged": _mark(time_rules.norm_lags, "accuracy"),
    "checkpoint incomplete": Mark("accuracy", "the checkpoint did not match the model: tensors were missing or unused"),
    "native defaults": Mark("accuracy", "native defaults (--native-defaults); not comparable with matched runs"),
}
"""Every mark by its code, in the order of the footnotes."""
_VOIDING = frozenset(rule.label for rule in time_rules.TIME_RULES)


def measure(record: Record) -> dict[str, Any]:
    """Return the figures of one process by column name: images/s, times in the named unit, 10^6 bytes, fractions.

    `throughput` is images ÷ seconds over the throughput windows of all stages. It and the latencies are NaN after a
    breach of a time rule. Training time excludes compilation, which is `compile_s`. `epoch_s` and the latencies are of
    the last stage, since a median over different stages has no meaning.
    """
    stages, marked = record.stages, marks(record)
    void = not _VOIDING.isdisjoint(marked)
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
        "compile_s": math.fsum(map(compile_s, stages)) if stages else math.nan,
        "epoch_s": median(trained[-1]) if trained and trained[-1] else math.nan,
        "train_s": math.fsum(chain.from_iterable(trained)) if epochs else math.nan,
        "features_s": math.fsum(chain.from_iterable(map(features_seconds, stages))) if epochs else math.nan,
        "total_s": record.total_s or math.nan,
        "accuracy": quality.accuracy if quality else math.nan,
        "loss": quality.loss if quality else math.nan,
        "test_images": quality.images if quality else None,
        "val_accuracy": record.val.accuracy if record.val else math.nan,
        "process_memory_mb": memory.process_peak / 1e6 if memory else math.nan,
        "device_memory_mb": device / 1e6 if device is not None else math.nan,
        "peak_memory_mb": (memory.process_peak if device is None else device) / 1e6 if memory else math.nan,
        "epoch_seconds": [seconds for stage in trained for seconds in stage],
        "epoch_val_accuracy": [epoch.val_accuracy for epoch in epochs],
        **_energy(record),
        "marks": marked,
    }


def _energy(record: Record) -> dict[str, Any]:
    image, epochs = energy.image_joules(record), energy.epoch_joules(record)
    return {
        "joules_per_image": image.value if image else math.nan,
        "joules_per_image_error": image.error if image else math.nan,
        "train_joules": math.fsum(epochs) if image else math.nan,
        "epoch_joules": epochs if image else [],
        "energy_source": energy.source(record),
    }


def marks(record: Record) -> list[str]:
    """Return the codes of the marks of a record, in the order of MARKS."""
    holds = {
        "short window": 0 < seconds_of(record.stages, "throughput") < MINIMUM_WINDOW_S,
        "kept features": any(stage.features for stage in record.stages),
        "validation images": time_rules.on_validation(record),
        "checkpoint incomplete": record.load is not None and not record.load.complete,
        "native defaults": record.case.native,
    }
    marked = [breach.text for breach in ask((*time_rules.TIME_RULES, *time_rules.MARK_RULES), record)]
    found = {*marked, *(code for code, true in holds.items() if true)}
    return [code for code in MARKS if code in found]


def _throughput(stages: Sequence[StageRecord]) -> float:
    images = sum(w.images for stage in stages for w in stage.windows if w.kind == "throughput")
    seconds = seconds_of(stages, "throughput")
    return images / seconds if seconds > 0 else math.nan


def _p95(ordered: Sequence[float]) -> float:
    """Return the nearest-rank percentile of sorted values."""
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else math.nan
