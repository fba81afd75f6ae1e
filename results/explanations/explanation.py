"""An explanation as data, and its file: `explanations/<sixteen hex digits of the content>.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from results.explanations.shares import Shares
from results.storage.folder import read_each, write_by_content

FOLDER = "explanations"


class Factor(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that are switched together: the name, the values in A and in B as text, and the settings themselves.

    `delays` are the injected delays of A and B, as shares of a step. `pythons` are their interpreters, empty for that
    of the command. `samples` are the training images that they evaluate after each epoch, if they differ. `reason`
    says why several settings are one factor.
    """

    name: str
    texts: tuple[str, str]
    settings: tuple[dict[str, Any], dict[str, Any]]
    delays: tuple[float, float] = (0.0, 0.0)
    pythons: tuple[str, str] = ("", "")
    samples: tuple[int, int] = (0, 0)
    reason: str = ""


class SameWork(msgspec.Struct, frozen=True, kw_only=True):
    """Whether it is proved that both sides do the same work: the certificate, if one was needed, or why not."""

    proved: bool
    certificate: str = ""
    reason: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The factors with their shares, and the proof of equal work. `label` names the case, `made` is when it ended.

    `stage` counts from 1, `pairs` are pairs of processes, `seconds` the time to measure them. The speeds are those of
    steps or, with `whole`, of whole runs.
    """

    label: str
    made: str
    stage: int
    factors: tuple[Factor, ...]
    shares: Shares
    same_work: SameWork
    pairs: int
    seconds: float
    whole: bool = False


def write_explanation(results_dir: Path, explanation: Explanation) -> Path:
    """Store an explanation beside earlier ones and return its path. Raises `Unwritable`."""
    return write_by_content(results_dir, results_dir / FOLDER, explanation)


def read_explanations(results_dir: Path) -> tuple[Explanation, ...]:
    """Read the explanations of a results folder, the oldest first. Raises `Refused` for a damaged file."""
    found = read_each(results_dir / FOLDER, Explanation, "an explanation", "delete it")
    return tuple(sorted(found, key=lambda one: one.made))
