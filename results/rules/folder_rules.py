"""Rules about a folder of results: whether records are missing or cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from harness.rules import Finding, rule
from results.storage.rows import Fault

SENTENCES: dict[Fault, str] = {
    "cut": "cut off while it was written",
    "unreadable": "damaged",
    "foreign": "not written by this program",
    "future": "written by a newer version of this program; upgrade to read it",
}


class FolderCounts(NamedTuple):
    """By run the number of `planned` cases and of those that are `missing`; the runs that `ended`; `unread` lines."""

    planned: Mapping[str, int]
    missing: Mapping[str, int]
    ended: frozenset[str]
    unread: Mapping[Fault, int]


@rule("V50", "folder")
def missing_cases(counts: FolderCounts) -> Iterator[Finding]:
    """A run planned a case and has no record of it."""
    for run, count in counts.missing.items():
        remedy = "" if run in counts.ended else "; --resume runs what is missing"
        yield f"run {run} planned {counts.planned[run]} cases and lacks {count} of them{remedy}"


@rule("V50", "folder")
def unread_lines(counts: FolderCounts) -> Iterator[Finding]:
    """A line of a results file cannot be read."""
    for fault, count in counts.unread.items():
        yield f"{count} line{'s' if count > 1 else ''} not read: {SENTENCES[fault]}"


FOLDER_RULES = (missing_cases, unread_lines)
