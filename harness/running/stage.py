"""One stage: feed, clock, the backend's own loop, evaluation between epochs, and the audit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.auditing import audit
from harness.clock import REAL_TIME, Clock, NotFinite, TimeSource
from harness.contract import BUFFERS, Session
from harness.data.dataset import Dataset
from harness.data.feed import Feed, stage_seed
from harness.data.kept_features import KeptFeatures
from harness.running.evaluate import Evaluator
from harness.running.features import FeatureKeeping, features_difference
from harness.running.observer import StageObserver
from harness.running.record import Epoch, FeaturesRecord, Quality, StageRecord
from harness.running.sensors import StageMeter, Wall, private_memory
from harness.spec import Case, Stage

Report = Callable[[dict[str, Any]], None]
Orders = Callable[[], dict[str, Any]]
"""Waits for the parent's next order and returns it."""


class _Best(NamedTuple):
    """The best epoch so far by validation accuracy, with its weights and logits."""

    accuracy: float
    epoch: int
    arrays: dict[str, NDArray[Any]]
    logits: dict[str, NDArray[np.float32]]


class StageRun:
    """The training of one stage of a case on a session. `run` is called once."""

    def __init__(
        self,
        session: Session,
        case: Case,
        number: int,
        dataset: Dataset,
        evaluator: Evaluator,
        source: TimeSource = REAL_TIME,
        keeping: FeatureKeeping | None = None,
        on_first_step: Callable[[], None] | None = None,
        meter: StageMeter | None = None,
    ) -> None:
        self._meter = meter
        self._session, self._case, self._evaluator, self._source = session, case, evaluator, source
        self._number, self._stage = number, case.scenario.stages[number]
        self._on_first_step = on_first_step
        self._qualities: list[tuple[Quality | None, Quality]] = []
        self._best: _Best | None = None
        self.private_peak = 0
        self.problems: list[str] = []
        """Sentences about what went wrong without harm to the figures."""
        keeping = keeping or FeatureKeeping(session, case, evaluator.normalisation, now=source.now)
        kept = keeping.for_training(self._stage)
        evaluator.keep(keeping.for_evaluation(self._stage, evaluator.batch_size), kept)
        self.feed = Feed(
            dataset.splits["train"],
            batch_size=self._stage.batch_size,
            epochs=self._stage.epochs,
            seed=stage_seed(case, number),
            image_size=case.image_size,
            normalisation=evaluator.normalisation,
            augmentations=case.augment,
            layout=session.batch_layout,
            input=case.input,
            workers=case.workers,
            kept=kept,
            now=source.now,
        )
        self._observer = StageObserver(session, self._stage, self.feed)

    def run(self, wall: Wall, report: Report) -> StageRecord:
        """Train, audit the stage, and load the weights of the epoch that it keeps."""
        session, stage, feed, observer = self._session, self._stage, self.feed, self._observer
        before = audit.mark(observer.passing(session.state()))
        clock = Clock(
            steps=stage.epochs * feed.steps_per_epoch,
            batch_size=stage.batch_size,
            warmup_steps=self._case.warmup_steps,
            sync=session.sync,
            compile_events=session.compile_events,
            on_epoch_end=lambda epoch: self._after_epoch(epoch, clock, report),
            on_epoch_begin=observer.epoch_begins,
            on_first_step=self._on_first_step,
            now=self._source.now,
            meter=self._meter,
        )
        wall.lap("audit")
        session.train(stage, feed, clock)
        if len(clock.step_ns) != stage.epochs * feed.steps_per_epoch:
            raise RuntimeError(f"the backend made {len(clock.step_ns)} of {stage.epochs * feed.steps_per_epoch} steps")
        self._book(wall, clock)
        observe = getattr(session, "observed", None)
        observed = audit.NOT_LOOKED if observe is None else observe(stage)
        verdict = audit.judge(before, observer.passing(session.state()), stage, session.slots(), observed)
        kept = stage.epochs - 1
        if stage.keep == "best" and self._best is not None:
            kept = self._best.epoch
            session.load(self._best.arrays)
            self._evaluator.weights_moved(self._best.logits)
        difference = features_difference(session, feed, self._evaluator)
        for features in (feed.kept, self._evaluator.kept):
            if features is not None and (problem := features.save()):
                self.problems.append(problem)
        wall.lap("audit")
        return self._record(clock, verdict, kept, difference)

    def _after_epoch(self, epoch: int, clock: Clock, report: Report) -> None:
        self._observer.epoch_ends()
        self._evaluator.weights_moved()
        train = self._evaluator.quality("train") if len(self._evaluator.split("train").ids) else None
        val = self._evaluator.quality("val")
        if not math.isfinite(val.loss + (train.loss if train else 0.0)):
            raise NotFinite(f"loss is not finite after epoch {epoch + 1}; a lower learning rate may help")
        self._qualities.append((train, val))
        self.private_peak = max(self.private_peak, private_memory())
        if self._stage.keep == "best" and (self._best is None or val.accuracy > self._best.accuracy):
            arrays = {tensor.name: tensor.array.copy() for tensor in self._session.state()}
            self._best = _Best(val.accuracy, epoch, arrays, self._evaluator.known)
        report(
            {
                "stage": self._number + 1,
                "stages": len(self._case.scenario.stages),
                "epoch": epoch + 1,
                "epochs": self._stage.epochs,
                "images_per_s": self.feed.steps_per_epoch * self._stage.batch_size / (clock.epoch_ns[-1] / 1e9),
                "val_accuracy": val.accuracy,
            }
        )

    def _book(self, wall: Wall, clock: Clock) -> None:
        first = clock.step_ns[0] - self.feed.first_wait_ns
        trained = sum(clock.epoch_ns)
        wall.split(
            "setup",
            {
                "prepare": self.feed.prepared_ns / 1e9,
                **({"features": self.feed.features_ns / 1e9} if self.feed.kept else {}),
                "wait": self.feed.waited_ns / 1e9,
                "first step": first / 1e9,
                self._session.wall_part: (trained - first - self.feed.waited_ns) / 1e9,
                "evaluation": clock.epoch_end_ns / 1e9,
            },
        )

    def _record(self, clock: Clock, verdict: audit.Audit, kept: int, difference: float | None) -> StageRecord:
        stage, tensors = self._stage, list(self._session.state())
        moving = any(t.role == "norm_mean" and stage.uses_batch_statistics(t.part, t.block) for t in tensors)
        return StageRecord(
            epochs=tuple(
                Epoch(
                    seconds=ns / 1e9,
                    train_loss=train.loss if train else None,
                    train_accuracy=train.accuracy if train else None,
                    val_loss=val.loss,
                    val_accuracy=val.accuracy,
                )
                for ns, (train, val) in zip(clock.epoch_ns, self._qualities, strict=True)
            ),
            step_us=tuple(round(ns / 1000) for ns in clock.step_ns),
            windows=tuple(clock.windows()),
            losses=tuple(clock.losses),
            audit=verdict,
            kept_epoch=kept,
            trainable_parameters=_trainable(tensors, stage),
            norm_steps=len(clock.step_ns) if moving else 0,
            order_sha256=self.feed.delivered.order_sha256,
            labels_sha256=self.feed.delivered.labels_sha256,
            pixels_sha256=self.feed.delivered.pixels_sha256,
            colours=self.feed.delivered.colours,
            samples_seen=self.feed.delivered.samples_seen,
            drained_s=clock.drained_ns / 1e9,
            seen=self._observer.seen(),
            train_sample=len(self._evaluator.split("train").ids),
            features=None if self.feed.kept is None else _features(self.feed.kept),
            features_difference=difference,
            energy=None if self._meter is None else self._meter.used(),
        )


def _features(kept: KeptFeatures) -> FeaturesRecord:
    return FeaturesRecord(
        part=kept.part,
        views=kept.views,
        reused=kept.reused,
        seconds=kept.seconds,
        size_bytes=kept.size_bytes,
        views_of_epoch=tuple(kept.views_of_epoch),
    )


def _trainable(tensors: list[Any], stage: Stage) -> int:
    free = (t for t in tensors if t.role not in BUFFERS and not stage.is_frozen(t.part, t.block))
    return int(sum(np.size(t.array) for t in free))
