"""The outcome of `tune` as data, with the figures of its text."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from benchmarks.tuning.race import Standing
from benchmarks.tuning.tune import ProvedAcceleration, Tuned, options


class TuneStanding(msgspec.Struct, frozen=True, kw_only=True):
    """Measured settings: how many times faster they train than the plain ones, with the 95 % interval.

    `dropped` settings can no longer be the fastest. `unproved` is the reason why a necessary certificate is missing.
    """

    name: str
    speed_up: float
    low: float
    high: float
    pairs: int
    dropped: bool
    unproved: str | None


class TuneBest(msgspec.Struct, frozen=True, kw_only=True):
    """The recommended settings, their certificate and its level, and the `run` command with them.

    `pays_from` is the epoch from which kept features save time.
    """

    name: str
    settings: dict[str, Any]
    certificate: str
    level: int
    train_s: float
    pays_from: int | None
    command: str


class TuneDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The fastest settings that are proved equal, or null. `plain_s` is the training time of the plain settings."""

    best: TuneBest | None
    standings: tuple[TuneStanding, ...]
    plain_s: float | None
    not_tried: dict[str, str]


def document(tuned: Tuned, command: str) -> TuneDocument:
    """Return the outcome as a document; `command` is the plain `run`."""
    return TuneDocument(
        best=None if tuned.best is None else _best(tuned.best, tuned, command),
        standings=tuple(_standing(one, tuned.unproved.get(one.name)) for one in tuned.standings),
        plain_s=None if math.isnan(tuned.plain_s) else tuned.plain_s,
        not_tried=tuned.not_tried,
    )


def _best(best: ProvedAcceleration, tuned: Tuned, command: str) -> TuneBest:
    return TuneBest(
        name=best.settings.name,
        settings=best.settings.changes,
        certificate=best.certificate.sha256,
        level=best.certificate.level(best.settings.selected.case.scenario.name),
        train_s=tuned.plain_s / best.standing.speed_up[0],
        pays_from=tuned.pays_from,
        command=f"{command} {options(best.settings)}",
    )


def _standing(one: Standing, unproved: str | None) -> TuneStanding:
    value, low, high = one.speed_up
    return TuneStanding(
        name=one.name, speed_up=value, low=low, high=high, pairs=one.samples, dropped=one.dropped, unproved=unproved
    )
