"""Accepted changes: committed lines that allow a case to get worse in one metric up to a limit, with a reason."""

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
"""Path below the results folder. The file is committed and has one JSON object per line."""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One accepted change. `case` is a label or a pattern of labels, `up_to` a share of the cost or points of accuracy.

    `moment` is the time of the acceptance (UTC, ISO 8601), `revision` its commit if known.
    """

    case: str
    metric: str
    up_to: float
    reason: str
    moment: str
    revision: str = ""


def read_accepted(results_dir: Path, base_results_dir: Path | None = None) -> list[Acceptance]:
    """Read the acceptances of a results folder, oldest first, without those that the base has too.

    The base already contains the change that such a line allowed, so the line must not allow a further one. Raises
    `Refused` for an invalid line.
    """
    spent = set(_lines(base_results_dir)) if base_results_dir else set()
    found = []
    for number, line in enumerate(_lines(results_dir), 1):
        if not line.strip() or line in spent:
            continue
        try:
            found.append(msgspec.json.decode(line, type=Acceptance))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(f"{results_dir / FILE}, line {number}: {error}; correct or remove the line") from error
    return found


def _lines(results_dir: Path) -> list[bytes]:
    path = results_dir / FILE
    return path.read_bytes().splitlines() if path.exists() else []


def add_accepted(results_dir: Path, acceptance: Acceptance) -> Path:
    """Append an acceptance and return the file, which must be committed."""
    path = results_dir / FILE
    make_folder(results_dir, path.parent)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(acceptance) + b"\n")
    return path


def accepted_by(finding: Finding, label: str, acceptances: Sequence[Acceptance]) -> str:
    """Return the reason of the acceptance that covers a finding; empty if none does.

    The limit applies to the estimate, not to its interval, so noise alone does not exceed it.
    """
    for one in reversed(acceptances):
        limit = one.up_to if finding.unit == "points" else math.log1p(one.up_to)
        if fnmatchcase(label, one.case) and one.metric == finding.metric and finding.change <= limit:
            return one.reason
    return ""
