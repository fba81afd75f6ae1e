"""The advice as data, with the figures of its text."""

from __future__ import annotations

from typing import Literal

import msgspec

from benchmarks.advising.advice import Advice, TwinScore
from benchmarks.advising.policy import Ranked


class AdvisedCase(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen case: accuracy on the test images with its 95 % interval and resolution, as fractions."""

    name: str
    network: str
    method: str
    accuracy: float
    low: float
    high: float
    resolution: float
    train_s: float
    seeds: int


class AdviceStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A measured case: mean accuracy on validation images as a fraction, and seconds of training."""

    name: str
    network: str
    method: str
    val_accuracy: float
    train_s: float
    runs: int
    state: Literal["chosen", "worse", "cannot be told from it"]


class AdviceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The answer and its evidence.

    `largest_share` is the accuracy of always answering `largest_class`. `held_out` says whether the test images are
    apart from the validation images. `not_tried` has a reason for each name. `spent` has the parts `probes`, `race` and
    `repeats` in seconds, or in runs with --steps; `preparation_s` is null with --steps. `command` is the full run.
    """

    data: str
    chosen: AdvisedCase | None
    standings: tuple[AdviceStanding, ...]
    twins: tuple[TwinScore, ...]
    not_tried: dict[str, str]
    validation_images: int
    test_images: int
    held_out: bool
    largest_class: str
    largest_share: float
    runs: int
    spent: dict[str, float]
    preparation_s: float | None
    spent_s: float
    limit: str
    command: str


def document(advice: Advice) -> AdviceDocument:
    """Return the advice as a document."""
    images, choice = advice.images, advice.choice
    return AdviceDocument(
        data=images.name,
        chosen=_chosen(advice),
        standings=tuple(_standing(advice, one) for one in choice.standings),
        twins=advice.twins,
        not_tried=choice.not_tried,
        validation_images=images.validation,
        test_images=images.test,
        held_out=images.held_out,
        largest_class=images.largest,
        largest_share=images.share,
        runs=advice.runs,
        spent=choice.spent,
        preparation_s=advice.before_s,
        spent_s=advice.spent_s,
        limit=advice.limit,
        command=advice.command,
    )


def _chosen(advice: Advice) -> AdvisedCase | None:
    leader, score = advice.choice.leader, advice.score
    if leader is None or score is None:
        return None
    return AdvisedCase(
        name=advice.names[leader.contender],
        network=leader.contender.network,
        method=leader.contender.method,
        **score._asdict(),
        train_s=leader.training_s,
        seeds=advice.seeds,
    )


def _standing(advice: Advice, one: Ranked) -> AdviceStanding:
    return AdviceStanding(
        name=advice.names[one.contender],
        network=one.contender.network,
        method=one.contender.method,
        val_accuracy=one.accuracy,
        train_s=one.training_s,
        runs=one.runs,
        state="chosen" if one is advice.choice.leader else "worse" if one.behind else "cannot be told from it",
    )
