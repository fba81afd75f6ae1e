"""Changes that are wanted: committed lines that say which case may get worse in what, by how much, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from harness.errors import Refused
from results.storage.comparison import Finding
from results.storage.folder import COMMITTED, make_folder

FILE = Path(COMMITTED) / "accepted.jsonl"
"""Below the results folder; committed, one JSON object per line."""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`case` is a label or a pattern of labels. `up_to` is a share of the cost, or points for accuracy. `moment` is
    when it was accepted (UTC, ISO 8601); `revision` the commit that it was accepted at, if it is known."""

    case: str
    metric: str
    up_to: float
    reason: str
    moment: str
    revision: str = ""


def read_accepted(results_dir: Path, base_results_dir: Path | None = None) -> list[Acceptance]:
    """All acceptances of a results folder, oldest first; but for those that a base has too, if one is given: what they
    allowed is part of the base, and must not let the next loss pass.

    Raises `Refused`, with the line, for one that is none.
    """
    spent = set(_lines(base_results_dir)) if base_results_dir else set()
    found = []
    for number, line in enumerate(_lines(results_dir), 1):
        if not line.strip() or line in spent:
            continue
        try:
            found.append(msgspec.json.decode(line, type=Acceptance))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(f"{results_dir / FILE}, line {number}: {error}; mend or remove the line") from error
    return found


def _lines(results_dir: Path) -> list[bytes]:
    path = results_dir / FILE
    return path.read_bytes().splitlines() if path.exists() else []


def add_accepted(results_dir: Path, acceptance: Acceptance) -> Path:
    """Append an acceptance; returns the file, which wants to be committed."""
    path = results_dir / FILE
    make_folder(results_dir, path.parent)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(acceptance) + b"\n")
    return path


def accepted_by(finding: Finding, label: str, acceptances: Sequence[Acceptance]) -> str:
    """The reason for which a finding about a case is wanted; empty if it is not, or is larger than what was accepted.

    The estimate counts, not the interval: noise alone shall not overrun what was accepted.
    """
    for one in reversed(acceptances):
        limit = one.up_to if finding.unit == "points" else math.log1p(one.up_to)
        if fnmatchcase(label, one.case) and one.metric == finding.metric and finding.change <= limit:
            return one.reason
    return ""
